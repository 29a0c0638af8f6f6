//! What decisions rest on: users, groups, memberships, grants and registered tables, as one
//! immutable value in memory.
//!
//! A write makes a new value out of the old one and the [`Change`]s that were written to the
//! store; whoever holds the old one goes on reading that. What didn't change is shared.
//!
//! Users, groups and tables have a small number each, which is never given to another one, so
//! that "is she in one of these groups" is a look at a few bits.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use super::audit::Use;
use super::change::Change;
use super::resource::Resource;
use super::{Email, GrantId, GroupId, GroupName, TokenId, UserId};
use crate::registry::RegisteredTable;
use crate::{TableId, Timestamp, ViewName};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct User {
    /// Her id.
    pub id: UserId,
    /// Her address.
    pub email: Email,
    /// What she is called.
    pub name: Option<String>,
    /// Whether she may sign in and see anything.
    pub active: bool,
    /// Whether she can sign in with a password.
    pub has_password: bool,
    /// When she was added.
    pub created_at: Timestamp,
    /// When something about her last changed.
    pub updated_at: Timestamp,
    /// When she was deactivated, if she is.
    pub deactivated_at: Option<Timestamp>,
    /// Who did that.
    pub deactivated_by: Option<String>,
}

/// A set of users.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Its name.
    pub name: GroupName,
    /// What it is for.
    pub description: Option<String>,
    /// Whether it is one of the two that are always there.
    pub is_system: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: Option<String>,
}

/// Where a group comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It is always there.
    System,
    /// Google Workspace says who is in it; nobody changes it here.
    GoogleSync,
    /// Somebody made it.
    Custom,
}

/// Who made the groups that Google Workspace manages.
pub(crate) const GOOGLE_SYNC: &str = "system:google-sync";

impl Group {
    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        match self.created_by.as_deref() {
            Some(GOOGLE_SYNC) => Origin::GoogleSync,
            _ if self.is_system => Origin::System,
            _ => Origin::Custom,
        }
    }
}

/// Why somebody is in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberSource {
    /// An admin put her there.
    Admin,
    /// Google Workspace says so; refreshed when she signs in.
    GoogleSync,
    /// The installation's settings say so.
    SystemSeed,
    /// Somebody with access to the data folder put her there.
    CliBreakGlass,
}

impl MemberSource {
    /// As it is stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            MemberSource::Admin => "admin",
            MemberSource::GoogleSync => "google_sync",
            MemberSource::SystemSeed => "system_seed",
            MemberSource::CliBreakGlass => "cli_break_glass",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all = [
            MemberSource::Admin,
            MemberSource::GoogleSync,
            MemberSource::SystemSeed,
            MemberSource::CliBreakGlass,
        ];
        all.into_iter().find(|source| source.as_str() == text)
    }
}

/// That a user is in a group.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Membership {
    /// The user.
    #[serde(rename = "user_id")]
    pub user: UserId,
    /// The group.
    #[serde(rename = "group_id")]
    pub group: GroupId,
    /// Why.
    pub source: MemberSource,
    /// Since when.
    pub added_at: Timestamp,
    /// Who put her there.
    pub added_by: Option<String>,
}

/// That a group may read a resource.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// Who may.
    #[serde(rename = "group_id")]
    pub group: GroupId,
    /// What.
    pub resource: Resource,
    /// Since when.
    pub assigned_at: Timestamp,
    /// Who gave it.
    pub assigned_by: Option<String>,
}

/// That a user may read a table, or all tables of a bucket, where the policy looks at that.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Permission {
    /// The user.
    #[serde(rename = "user_id")]
    pub user: UserId,
    /// A table's id, or `<bucket>.*`.
    pub dataset: String,
    /// `read`, or `none`, which allows nothing and forbids nothing.
    pub access: String,
}

/// What decisions must know of a personal access token that may still hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenFacts {
    pub(crate) user: UserId,
    pub(crate) expires_at: Option<Timestamp>,
    /// SHA-256 of the whole token, lower-case hex.
    pub(crate) hash: String,
    /// As it was when the facts were read.
    pub(crate) last_use: Option<Use>,
}

/// Why a token holds no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Revoked,
    Expired,
}

/// How long a token is kept in mind after its end: a clock that was ahead may be set right.
const EXPIRED_KEPT: Duration = Duration::from_secs(24 * 3600);

/// A number for a token that holds no more, in a tenth of the memory. Two of one number are told
/// the same reason why they don't.
fn short(id: &TokenId) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(id)
}

/// A set of small numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn contains(&self, number: u32) -> bool {
        let word = self.0.get(number as usize / 64).copied().unwrap_or(0);
        word & (1 << (number % 64)) != 0
    }

    pub(crate) fn insert(&mut self, number: u32) {
        let at = number as usize / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        if let Some(word) = self.0.get_mut(at) {
            *word |= 1 << (number % 64);
        }
    }

    pub(crate) fn remove(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                u32::try_from(at).ok().map(|at| at * 64 + bit)
            })
        })
    }
}

/// Values by key and by a number of their own; shared until changed.
#[derive(Debug)]
pub(crate) struct Numbered<K, V> {
    values: Arc<Vec<Option<Arc<V>>>>,
    numbers: Arc<HashMap<K, u32>>,
}

impl<K, V> Clone for Numbered<K, V> {
    fn clone(&self) -> Self {
        Numbered { values: self.values.clone(), numbers: self.numbers.clone() }
    }
}

impl<K, V> Default for Numbered<K, V> {
    fn default() -> Self {
        Numbered { values: Arc::default(), numbers: Arc::default() }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Numbered<K, V> {
    pub(crate) fn number<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
    {
        self.numbers.get(key).copied()
    }

    pub(crate) fn at(&self, number: u32) -> Option<&Arc<V>> {
        self.values.get(number as usize)?.as_ref()
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.at(self.number(key)?)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.values.iter().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// A place for changes to a value that is there.
    fn get_mut(&mut self, number: u32) -> Option<&mut V> {
        Arc::make_mut(&mut self.values).get_mut(number as usize)?.as_mut().map(Arc::make_mut)
    }

    fn push(&mut self, key: K, value: V) -> u32 {
        let number = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        Arc::make_mut(&mut self.values).push(Some(Arc::new(value)));
        Arc::make_mut(&mut self.numbers).insert(key, number);
        number
    }

    /// Its number is not given to another one.
    fn remove(&mut self, key: &K) -> Option<(u32, Arc<V>)> {
        let number = Arc::make_mut(&mut self.numbers).remove(key)?;
        let value = Arc::make_mut(&mut self.values).get_mut(number as usize)?.take()?;
        Some((number, value))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct UserFacts {
    pub(crate) user: User,
    pub(crate) memberships: Vec<Membership>,
    /// The numbers of her groups.
    pub(crate) groups: Bits,
    pub(crate) permissions: Vec<Permission>,
    /// Counts up with whatever ends her sessions.
    pub(crate) session_version: u32,
    /// Her tokens that hold no more, by [`short`].
    ended_tokens: Arc<HashMap<u64, Ended>>,
}

impl UserFacts {
    /// Why one of her tokens holds no more; none where she never had it.
    pub(crate) fn ended(&self, token: &TokenId) -> Option<Ended> {
        self.ended_tokens.get(&short(token)).copied()
    }

    /// Whether somebody active stands behind it: the scheduler is a program.
    pub(crate) fn is_person(&self) -> bool {
        self.user.active && self.user.email.as_str() != super::SCHEDULER_EMAIL
    }
}

#[derive(Debug, Clone)]
pub(crate) struct GroupFacts {
    pub(crate) group: Group,
    /// The numbers of its members.
    pub(crate) members: Vec<u32>,
    /// The numbers of the tables that it was granted.
    pub(crate) tables: Vec<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct TableFacts {
    pub(crate) table: RegisteredTable,
    pub(crate) grants: Vec<GrantTo>,
}

/// A grant, as its resource sees it.
#[derive(Debug, Clone)]
pub(crate) struct GrantTo {
    pub(crate) id: GrantId,
    pub(crate) group: u32,
}

/// What decisions rest on, at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) users: Numbered<UserId, UserFacts>,
    pub(crate) emails: Arc<HashMap<Email, UserId>>,
    pub(crate) groups: Numbered<GroupId, GroupFacts>,
    pub(crate) group_names: Arc<HashMap<GroupName, GroupId>>,
    pub(crate) tables: Numbered<TableId, TableFacts>,
    pub(crate) table_names: Arc<HashMap<ViewName, TableId>>,
    /// Grants of what is no table.
    pub(crate) others: Arc<HashMap<Resource, Vec<GrantTo>>>,
    pub(crate) grants: Arc<HashMap<GrantId, Grant>>,
    /// The tokens that may still hold. Every other one is in the store alone.
    pub(crate) tokens: Arc<HashMap<TokenId, TokenFacts>>,
    /// The number of the group whose members may do everything. Without it nobody may.
    pub(crate) admin: Option<u32>,
}

impl Facts {
    pub(crate) fn user(&self, id: &UserId) -> Option<&UserFacts> {
        self.users.get(id).map(|user| &**user)
    }

    pub(crate) fn user_by_email(&self, email: &Email) -> Option<&UserFacts> {
        self.user(self.emails.get(email)?)
    }

    pub(crate) fn group(&self, id: &GroupId) -> Option<&GroupFacts> {
        self.groups.get(id).map(|group| &**group)
    }

    pub(crate) fn group_by_name(&self, name: &GroupName) -> Option<&GroupFacts> {
        self.group(self.group_names.get(name)?)
    }

    pub(crate) fn table(&self, id: &TableId) -> Option<&TableFacts> {
        self.tables.get(id).map(|table| &**table)
    }

    pub(crate) fn table_by_name(&self, name: &ViewName) -> Option<&TableFacts> {
        self.table(self.table_names.get(name)?)
    }

    pub(crate) fn is_admin(&self, user: &UserFacts) -> bool {
        self.admin.is_some_and(|admin| user.groups.contains(admin))
    }

    /// The active people who may do everything; the scheduler is none.
    pub(crate) fn active_admins(&self) -> usize {
        let admin = self.admin.and_then(|admin| self.groups.at(admin));
        let members = admin.map_or(&[][..], |group| &group.members);
        members.iter().filter(|user| self.users.at(**user).is_some_and(|u| u.is_person())).count()
    }

    /// The grants of a resource.
    pub(crate) fn grants_of(&self, resource: &Resource) -> &[GrantTo] {
        match resource.as_table() {
            Some(id) => self.table(id).map_or(&[], |table| &table.grants),
            None => self.others.get(resource).map_or(&[], Vec::as_slice),
        }
    }

    /// Takes a change in that has been written.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::PutUser(user) => self.put_user(user),
            Change::SetPassword { user, hash, session_version } => {
                let number = self.users.number(user);
                if let Some(facts) = number.and_then(|n| self.users.get_mut(n)) {
                    facts.user.has_password = hash.is_some();
                    facts.session_version = *session_version;
                }
            }
            Change::EndSessions { user, session_version } => {
                let number = self.users.number(user);
                if let Some(facts) = number.and_then(|n| self.users.get_mut(n)) {
                    facts.session_version = *session_version;
                }
            }
            Change::RemoveUser(id) => self.remove_user(id),
            Change::PutGroup(group) => self.put_group(group),
            Change::RemoveGroup(id) => self.remove_group(id),
            Change::PutMember(member) => self.put_member(member),
            Change::RemoveMember { user, group } => self.remove_member(user, group),
            Change::PutGrant(grant) => self.put_grant(grant),
            Change::RemoveGrant(id) => self.remove_grant(id),
            Change::PutPermission(permission) => {
                self.remove_permission(&permission.user, &permission.dataset);
                let number = self.users.number(&permission.user);
                if let Some(user) = number.and_then(|n| self.users.get_mut(n)) {
                    user.permissions.push(permission.clone());
                }
            }
            Change::RemovePermission { user, dataset } => self.remove_permission(user, dataset),
            // Nothing is decided by it.
            Change::PutRequest(_)
            | Change::PutSyncState(_)
            | Change::PutMetric(_)
            | Change::RemoveMetric(_) => {}
            Change::PutTable(table) => self.put_table(table),
            Change::RemoveTable { table, .. } => self.remove_table(&table.id),
            Change::PutToken { token, .. } if token.revoked_at.is_some() => {
                self.note_end(&token.user, &token.id, Ended::Revoked);
            }
            Change::PutToken { token, hash } => {
                let used = |at| Use { at, ip: token.last_used_ip.clone() };
                let facts = TokenFacts {
                    user: token.user.clone(),
                    expires_at: token.expires_at,
                    hash: hash.clone(),
                    last_use: token.last_used_at.map(used),
                };
                Arc::make_mut(&mut self.tokens).insert(token.id.clone(), facts);
            }
            Change::RevokeToken { id, user, .. } => {
                Arc::make_mut(&mut self.tokens).remove(id);
                self.note_end(user, id, Ended::Revoked);
            }
        }
    }

    fn note_end(&mut self, user: &UserId, token: &TokenId, why: Ended) {
        if let Some(user) = self.users.number(user).and_then(|n| self.users.get_mut(n)) {
            Arc::make_mut(&mut user.ended_tokens).insert(short(token), why);
        }
    }

    /// Keeps no more than a number of tokens whose time is over.
    pub(crate) fn forget_expired(&mut self, now: Timestamp) {
        let is_over =
            |token: &TokenFacts| token.expires_at.is_some_and(|end| now.since(end) > EXPIRED_KEPT);
        if !self.tokens.values().any(is_over) {
            return;
        }
        let tokens = Arc::make_mut(&mut self.tokens);
        let over: Vec<(TokenId, TokenFacts)> =
            tokens.extract_if(|_, token| is_over(token)).collect();
        for (id, token) in over {
            self.note_end(&token.user, &id, Ended::Expired);
        }
    }

    fn put_user(&mut self, user: &User) {
        let number = self.users.number(&user.id);
        let emails = Arc::make_mut(&mut self.emails);
        match number.and_then(|n| self.users.get_mut(n)) {
            Some(facts) => {
                emails.remove(&facts.user.email);
                facts.user = user.clone();
            }
            None => {
                let facts = UserFacts {
                    user: user.clone(),
                    memberships: Vec::new(),
                    groups: Bits::default(),
                    permissions: Vec::new(),
                    session_version: 0,
                    ended_tokens: Arc::default(),
                };
                self.users.push(user.id.clone(), facts);
            }
        }
        emails.insert(user.email.clone(), user.id.clone());
    }

    fn remove_user(&mut self, id: &UserId) {
        let Some((number, facts)) = self.users.remove(id) else { return };
        Arc::make_mut(&mut self.emails).remove(&facts.user.email);
        for group in facts.groups.iter() {
            if let Some(group) = self.groups.get_mut(group) {
                group.members.retain(|member| *member != number);
            }
        }
        Arc::make_mut(&mut self.tokens).retain(|_, token| token.user != *id);
    }

    fn put_group(&mut self, group: &Group) {
        let number = self.groups.number(&group.id);
        let names = Arc::make_mut(&mut self.group_names);
        let number = match number.and_then(|n| Some((n, self.groups.get_mut(n)?))) {
            Some((number, facts)) => {
                names.remove(&facts.group.name);
                facts.group = group.clone();
                number
            }
            None => {
                let facts =
                    GroupFacts { group: group.clone(), members: Vec::new(), tables: Vec::new() };
                self.groups.push(group.id.clone(), facts)
            }
        };
        names.insert(group.name.clone(), group.id.clone());
        if group.is_system && group.name == GroupName::admin() {
            self.admin = Some(number);
        }
    }

    fn remove_group(&mut self, id: &GroupId) {
        let Some((number, facts)) = self.groups.remove(id) else { return };
        Arc::make_mut(&mut self.group_names).remove(&facts.group.name);
        for user in &facts.members {
            if let Some(user) = self.users.get_mut(*user) {
                user.groups.remove(number);
                user.memberships.retain(|m| m.group != *id);
            }
        }
        for table in &facts.tables {
            if let Some(table) = self.tables.get_mut(*table) {
                table.grants.retain(|grant| grant.group != number);
            }
        }
        Arc::make_mut(&mut self.others).retain(|_, grants| {
            grants.retain(|grant| grant.group != number);
            !grants.is_empty()
        });
        Arc::make_mut(&mut self.grants).retain(|_, grant| grant.group != *id);
        if self.admin == Some(number) {
            self.admin = None;
        }
    }

    fn put_member(&mut self, member: &Membership) {
        let numbers = self.users.number(&member.user).zip(self.groups.number(&member.group));
        let Some((user, group)) = numbers else { return };
        let Some(facts) = self.users.get_mut(user) else { return };
        facts.memberships.retain(|m| m.group != member.group);
        facts.memberships.push(member.clone());
        if facts.groups.contains(group) {
            return;
        }
        facts.groups.insert(group);
        if let Some(facts) = self.groups.get_mut(group) {
            facts.members.push(user);
        }
    }

    fn remove_member(&mut self, user: &UserId, group: &GroupId) {
        let numbers = self.users.number(user).zip(self.groups.number(group));
        let Some((user, number)) = numbers else { return };
        if let Some(facts) = self.users.get_mut(user) {
            facts.memberships.retain(|m| m.group != *group);
            facts.groups.remove(number);
        }
        if let Some(facts) = self.groups.get_mut(number) {
            facts.members.retain(|member| *member != user);
        }
    }

    fn put_grant(&mut self, grant: &Grant) {
        let Some(group) = self.groups.number(&grant.group) else { return };
        let to = GrantTo { id: grant.id.clone(), group };
        match grant.resource.as_table() {
            Some(id) => {
                let Some(number) = self.tables.number(id) else { return };
                if let Some(table) = self.tables.get_mut(number) {
                    table.grants.push(to);
                }
                if let Some(facts) = self.groups.get_mut(group) {
                    facts.tables.push(number);
                }
            }
            None => {
                let others = Arc::make_mut(&mut self.others);
                others.entry(grant.resource.clone()).or_default().push(to);
            }
        }
        Arc::make_mut(&mut self.grants).insert(grant.id.clone(), grant.clone());
    }

    fn remove_grant(&mut self, id: &GrantId) {
        let Some(grant) = Arc::make_mut(&mut self.grants).remove(id) else { return };
        match grant.resource.as_table() {
            Some(table) => {
                let Some(number) = self.tables.number(table) else { return };
                if let Some(table) = self.tables.get_mut(number) {
                    table.grants.retain(|grant| grant.id != *id);
                }
                let group = self.groups.number(&grant.group);
                if let Some(facts) = group.and_then(|n| self.groups.get_mut(n)) {
                    facts.tables.retain(|table| *table != number);
                }
            }
            None => {
                let others = Arc::make_mut(&mut self.others);
                if let Some(grants) = others.get_mut(&grant.resource) {
                    grants.retain(|grant| grant.id != *id);
                    if grants.is_empty() {
                        others.remove(&grant.resource);
                    }
                }
            }
        }
    }

    fn remove_permission(&mut self, user: &UserId, dataset: &str) {
        if let Some(user) = self.users.number(user).and_then(|n| self.users.get_mut(n)) {
            user.permissions.retain(|p| p.dataset != dataset);
        }
    }

    fn put_table(&mut self, table: &RegisteredTable) {
        let number = self.tables.number(&table.id);
        let names = Arc::make_mut(&mut self.table_names);
        match number.and_then(|n| self.tables.get_mut(n)) {
            Some(facts) => {
                names.remove(&facts.table.name);
                facts.table = table.clone();
            }
            None => {
                let facts = TableFacts { table: table.clone(), grants: Vec::new() };
                self.tables.push(table.id.clone(), facts);
            }
        }
        names.insert(table.name.clone(), table.id.clone());
    }

    fn remove_table(&mut self, id: &TableId) {
        let Some((number, facts)) = self.tables.remove(id) else { return };
        Arc::make_mut(&mut self.table_names).remove(&facts.table.name);
        let grants = Arc::make_mut(&mut self.grants);
        for grant in &facts.grants {
            grants.remove(&grant.id);
            if let Some(group) = self.groups.get_mut(grant.group) {
                group.tables.retain(|table| *table != number);
            }
        }
        let is_its = |p: &Permission| p.dataset.to_lowercase() == id.as_str().to_lowercase();
        let users = self.users.values().filter(|user| user.permissions.iter().any(is_its));
        let users: Vec<UserId> = users.map(|user| user.user.id.clone()).collect();
        for user in users {
            let number = self.users.number(&user);
            if let Some(user) = number.and_then(|n| self.users.get_mut(n)) {
                user.permissions.retain(|p| !is_its(p));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::PersonalToken;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn with_ada() -> (Facts, UserId) {
        let id = UserId::fresh();
        let user = User {
            id: id.clone(),
            email: Email::parse("ada@example.com").unwrap(),
            name: None,
            active: true,
            has_password: false,
            created_at: NOW,
            updated_at: NOW,
            deactivated_at: None,
            deactivated_by: None,
        };
        let mut facts = Facts::default();
        facts.apply(&Change::PutUser(user));
        (facts, id)
    }

    fn put_token(facts: &mut Facts, user: &UserId, expires_at: Option<Timestamp>) -> TokenId {
        let id = TokenId::fresh();
        let token = PersonalToken {
            id: id.clone(),
            user: user.clone(),
            name: "ci".into(),
            prefix: String::new(),
            scope: "general".into(),
            created_at: NOW,
            expires_at,
            last_used_at: None,
            last_used_ip: None,
            revoked_at: None,
        };
        facts.apply(&Change::PutToken { token: Box::new(token), hash: String::new() });
        id
    }

    #[test]
    fn a_token_that_holds_no_more_is_a_number() {
        let (mut facts, ada) = with_ada();
        let days = |days: u64| NOW.after(Duration::from_secs(days * 24 * 3600));
        let revoked = put_token(&mut facts, &ada, None);
        let short_lived = put_token(&mut facts, &ada, Some(days(1)));
        let holds = put_token(&mut facts, &ada, Some(days(90)));
        facts.apply(&Change::RevokeToken { id: revoked.clone(), user: ada.clone(), at: NOW });
        // A clock that is ahead for a while ends nothing for good.
        facts.forget_expired(days(2));
        assert_eq!(facts.tokens.len(), 2);
        facts.forget_expired(days(3));
        assert_eq!(facts.tokens.keys().collect::<Vec<_>>(), [&holds]);
        let user = facts.user(&ada).unwrap();
        assert_eq!(user.ended(&revoked), Some(Ended::Revoked));
        assert_eq!(user.ended(&short_lived), Some(Ended::Expired));
        assert_eq!(user.ended(&holds), None);
        facts.apply(&Change::RemoveUser(ada));
        assert!(facts.tokens.is_empty());
    }

    #[test]
    fn a_group_that_goes_leaves_nothing_of_its_grants() {
        let mut facts = Facts::default();
        let group = Group {
            id: GroupId::fresh(),
            name: GroupName::parse("sales").unwrap(),
            description: None,
            is_system: false,
            created_at: NOW,
            created_by: None,
        };
        facts.apply(&Change::PutGroup(group.clone()));
        facts.apply(&Change::PutGrant(Grant {
            id: GrantId::fresh(),
            group: group.id.clone(),
            resource: Resource::parse("remote_engine:bigquery").unwrap(),
            assigned_at: NOW,
            assigned_by: None,
        }));
        assert_eq!(facts.others.len(), 1);
        facts.apply(&Change::RemoveGroup(group.id));
        assert!(facts.others.is_empty() && facts.grants.is_empty());
    }
}
