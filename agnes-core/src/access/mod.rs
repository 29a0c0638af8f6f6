//! Access: who may see which table, and why.
//!
//! People are [`User`]s, sets of them are [`Group`]s, and a [`Grant`] says that a group may read
//! a [`Resource`]. The members of the group `Admin` may do everything. Nothing else decides,
//! unless the policy [`TablePolicy::GrantsAndLegacy`] is chosen.
//!
//! ```
//! use agnes_core::access::{Email, GroupName, Principal, Resource};
//! use agnes_core::{Agnes, ViewName};
//! # use agnes_core::{NoProgress, SourceName};
//! # use agnes_core::connectors::files::{FilesConnector, FilesOptions};
//! # let dir = tempfile::tempdir().unwrap();
//! # let csv = dir.path().join("orders.csv");
//! # std::fs::write(&csv, "id,total\n1,9.5\n2,20\n").unwrap();
//! # let agnes = Agnes::open(dir.path().join("data"))?;
//! # let files = FilesConnector::new(vec![csv], FilesOptions::default());
//! # agnes.ingest(&SourceName::parse("shop")?, &files, &NoProgress)?;
//! # agnes.rebuild(None, &NoProgress)?;
//! let access = agnes.access()?;
//! let admin = access.admin(&Principal::Operator)?;
//! let ada = admin.add_user(Email::parse("ada@example.com")?, None)?;
//! let sales = admin.add_group(GroupName::parse("sales")?, None)?;
//! admin.add_member(&sales.id, &ada.id)?;
//! let orders = Resource::parse("table:orders")?;
//! admin.grant(&sales.id, orders.clone())?;
//!
//! let ada = Principal::user(ada.id);
//! assert!(access.decide(&ada, &orders).is_allowed());
//! assert!(!access.decide(&ada, &Resource::parse("table:salaries")?).is_allowed());
//! # Ok::<(), agnes_core::Error>(())
//! ```
//!
//! Invariants:
//! - decisions rest on one immutable value in memory; no request reads the database;
//! - a change is in force from the moment that the call which makes it returns: it is written
//!   durably, the value is replaced, and the sessions of whoever lost something are ended, all
//!   before anybody else may change something;
//! - what can't be read denies: without the group `Admin` nobody is an admin.

mod admin;
pub(crate) mod audit;
mod bootstrap;
pub(crate) mod change;
mod decision;
mod explain;
pub(crate) mod facts;
mod grants;
mod groups;
mod id;
mod import;
pub(crate) mod jwt;
mod metrics;
mod name;
mod password;
mod principal;
mod request;
mod resource;
mod role;
mod tables;
mod token;
mod users;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

pub use admin::{Admin, InGroup, Overview};
pub use audit::{AuditEvent, TELL_EVERY};
pub use decision::{
    Decision, EffectiveAccess, EffectiveItem, MaySee, Permitted, Reason, TablePolicy, TableSet,
    ViaGroup, Visibility,
};
pub use explain::{About, Explanation, WhoCan};
pub use facts::{Grant, Group, MemberSource, Membership, Origin, Permission, User};
pub use grants::GrantOverview;
pub use groups::{GroupOverview, Member};
pub use id::{GrantId, GroupId, ID_MAX, RequestId, TokenId, UserId};
pub use import::{ImportOptions, ImportReport, LeftOut};
pub use name::{EMAIL_MAX, Email, GROUP_NAME_MAX, GroupName};
pub use password::{LinkPurpose, PASSWORD_MAX, PASSWORD_MIN, invalid_link};
pub use principal::{Principal, Via};
pub use request::{AccessRequest, RequestStatus};
pub use resource::{Block, Item, RESOURCE_ID_MAX, Resource, ResourceKind, ResourceType};
pub use role::Role;
pub use tables::{NewTable, TableUpdate};
pub use token::{
    BOOTSTRAP_SCOPE, NewToken, PersonalToken, SCHEDULER_EMAIL, SCHEDULER_SECRET_MIN,
    SESSION_LIFETIME, SIGNING_KEY_MIN,
};

pub use users::UserUpdate;

pub(crate) use decision::hidden;
pub(crate) use tables::unregistered;
pub(crate) use watch::{Interrupt, Running, Watch, ended};

use audit::Books;
use change::Change;
use decision::Question;
use facts::Facts;

use crate::agnes::Components;
use crate::clock::Clock;
use crate::registry::RegisteredTable;
use crate::store::Store;
use crate::{Result, TableId, Timestamp, ViewName};
use crate::{Secret, Secrets};

/// The signing key that nobody gave, in the state folder.
pub(crate) const KEY_FILE: &str = ".jwt_secret";
/// How far a restore counts up whatever ends sessions: whoever was removed since the backup had
/// sessions of versions that nobody remembers.
const LEAP: u32 = 1000;

/// Who may see what, over one system database.
///
/// Shared between threads. Reading takes no longer than a few hundred nanoseconds and waits for
/// nobody; writing is done by one at a time, through [`Access::admin`].
pub struct Access {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    policy: TablePolicy,
    kinds: Vec<Arc<dyn ResourceKind>>,
    secrets: Arc<dyn Secrets>,
    /// Where the signing key lies that nobody gave.
    key_file: PathBuf,
    key: RwLock<Option<Arc<jwt::Key>>>,
    making_key: Mutex<()>,
    facts: RwLock<Arc<Facts>>,
    /// Which opening of the system database they were read from.
    opened: AtomicU64,
    /// Held by whoever changes something.
    writing: Mutex<()>,
    books: Books,
    /// The sessions that are open.
    watches: Mutex<Vec<Weak<Watch>>>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let facts = self.facts();
        f.debug_struct("Access")
            .field("users", &facts.users.len())
            .field("groups", &facts.groups.len())
            .field("tables", &facts.tables.len())
            .finish_non_exhaustive()
    }
}

impl Access {
    /// Reads the facts and makes sure that the two groups which are always there are.
    pub(crate) fn open(
        store: Arc<Store>,
        state: &Path,
        policy: TablePolicy,
        components: &Components,
    ) -> Result<Access> {
        let opened = store.opened();
        let mut facts = store.facts()?;
        facts.forget_expired(components.clock.now());
        let mut kinds = components.resource_kinds.clone();
        kinds.extend(components.remote_engines.kind());
        let access = Access {
            books: Books::new(store.clone()),
            store,
            clock: components.clock.clone(),
            policy,
            kinds,
            secrets: components.secrets.clone(),
            key_file: state.join(KEY_FILE),
            key: RwLock::default(),
            making_key: Mutex::new(()),
            facts: RwLock::new(Arc::new(facts)),
            opened: AtomicU64::new(opened),
            writing: Mutex::new(()),
            watches: Mutex::new(Vec::new()),
        };
        access.ensure_system_groups()?;
        Ok(access)
    }

    fn ensure_system_groups(&self) -> Result<()> {
        self.write(|facts, now| {
            let mut changes = Vec::new();
            for name in [GroupName::admin(), GroupName::everyone()] {
                let there = facts.group_by_name(&name).map(|facts| &facts.group);
                if there.is_some_and(|group| group.is_system) {
                    continue;
                }
                // One of that name which somebody made becomes the system's.
                let group = match there {
                    Some(group) => Group { is_system: true, ..group.clone() },
                    None => Group {
                        id: GroupId::fresh(),
                        name,
                        description: None,
                        is_system: true,
                        created_at: now,
                        created_by: None,
                    },
                };
                changes.push(Change::PutGroup(group));
            }
            Ok(Planned { changes, events: Vec::new(), value: () })
        })
    }

    /// Which facts decisions rest on now.
    pub(crate) fn moment(&self) -> Moment {
        Moment(Arc::downgrade(&self.facts()))
    }

    /// The facts of this moment.
    fn facts(&self) -> Arc<Facts> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The key that signs tokens: the secret `JWT_SECRET_KEY`, or one that is made once and kept
    /// beside the system database.
    fn key(&self) -> Result<Arc<jwt::Key>> {
        let known = || self.key.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(key) = known() {
            return Ok(key);
        }
        // Whoever comes second finds what the first has made.
        let _making = self.making_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known() {
            return Ok(key);
        }
        let key = Arc::new(token::signing_key(&*self.secrets, &self.key_file)?);
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        Ok(key)
    }

    /// Whether the key that signs tokens was given and is shorter than [`SIGNING_KEY_MIN`], so
    /// that it might be guessed. One that can't be had is none.
    pub fn has_weak_key(&self) -> bool {
        let name = crate::TokenEnv::parse("JWT_SECRET_KEY").ok();
        let secret = name.and_then(|name| self.secrets.get(&name).ok().flatten());
        secret.is_some_and(|secret| secret.expose().len() < SIGNING_KEY_MIN)
    }

    /// The scheduler's secret, if there is one that is long enough.
    fn scheduler_secret(&self) -> Result<Option<Secret>> {
        let name = crate::TokenEnv::parse("SCHEDULER_API_TOKEN")?;
        let secret = crate::secret::had(&*self.secrets, &name)?;
        Ok(secret.filter(|secret| secret.expose().len() >= SCHEDULER_SECRET_MIN))
    }

    /// Leave to change things, for those who may.
    ///
    /// # Errors
    /// `Denied` for anybody but the operator and the members of `Admin`.
    pub fn admin(&self, principal: &Principal) -> Result<Admin<'_>> {
        Admin::of(self, principal)
    }

    /// Whether a principal may see a resource, and why.
    ///
    /// A table that isn't registered may be seen by admins only.
    pub fn decide(&self, principal: &Principal, resource: &Resource) -> Decision {
        let now = || self.now();
        Question { policy: self.policy, now: &now }.decide(self.facts(), principal, resource)
    }

    /// The tables that a principal may see.
    #[must_use]
    pub fn visibility(&self, principal: &Principal) -> Visibility {
        let now = || self.now();
        Question { policy: self.policy, now: &now }.visibility(&self.facts(), principal)
    }

    /// Whether a principal may do anything at all: she is known, active, and her token holds.
    ///
    /// # Errors
    /// `Denied`, with the reason.
    pub fn stands(&self, principal: &Principal) -> Result<()> {
        let now = || self.now();
        let question = Question { policy: self.policy, now: &now };
        match question.standing(&self.facts(), principal) {
            decision::Standing::Nothing(reason) => {
                Err(crate::Error::new(crate::Kind::Denied, format!("access denied: {reason}")))
            }
            decision::Standing::Everything(_) | decision::Standing::User(_) => Ok(()),
        }
    }

    /// What a principal's groups were granted, of any type.
    #[must_use]
    pub fn effective_access(&self, principal: &Principal) -> EffectiveAccess {
        use decision::Standing;
        let now = || self.now();
        let facts = self.facts();
        let question = Question { policy: self.policy, now: &now };
        let user = match question.standing(&facts, principal) {
            Standing::Everything(_) => {
                return EffectiveAccess { is_admin: true, items: Vec::new() };
            }
            Standing::Nothing(_) => None,
            Standing::User(user) => Some(user),
        };
        let mut items: std::collections::BTreeMap<Resource, Vec<ViaGroup>> = Default::default();
        for grant in facts.grants.values() {
            let number = facts.groups.number(&grant.group);
            let hers = user.zip(number).is_some_and(|(user, group)| user.groups.contains(group));
            if hers && let Some(group) = facts.group(&grant.group) {
                let Group { id, name, .. } = group.group.clone();
                items.entry(grant.resource.clone()).or_default().push(ViaGroup { name, id });
            }
        }
        let items = items.into_iter().map(|(resource, mut via_groups)| {
            via_groups.sort();
            EffectiveItem { resource, via_groups }
        });
        EffectiveAccess { is_admin: false, items: items.collect() }
    }

    /// The registered table that a text names: an id first, a name second.
    ///
    /// The only way from text to a registered table. It says nothing about who may know.
    pub fn resolve(&self, text: &str) -> Option<RegisteredTable> {
        let facts = self.facts();
        let by_id = TableId::parse(text).ok().and_then(|id| facts.table(&id).cloned());
        let found = by_id.or_else(|| {
            let name = ViewName::parse(text).ok()?;
            facts.table_by_name(&name).cloned()
        });
        found.map(|facts| facts.table)
    }

    /// Shows every registered table that a principal may see.
    pub(crate) fn each_visible(
        &self,
        principal: &Principal,
        mut visit: impl FnMut(&RegisteredTable),
    ) {
        match self.visibility(principal) {
            Visibility::All => self.facts().tables.values().for_each(|facts| visit(&facts.table)),
            Visibility::Only(tables) => tables.iter().for_each(visit),
        }
    }

    /// The registered table of an id.
    pub(crate) fn registered(&self, id: &TableId) -> Option<RegisteredTable> {
        self.facts().table(id).map(|facts| facts.table.clone())
    }

    /// The user of an id.
    pub fn user(&self, id: &UserId) -> Option<User> {
        self.facts().user(id).map(|facts| facts.user.clone())
    }

    /// A user with her groups.
    pub fn overview(&self, id: &UserId) -> Option<Overview> {
        let facts = self.facts();
        facts.user(id).map(|user| admin::overview(&facts, user))
    }

    /// The personal permissions of a user, of older installations.
    pub fn permissions_of(&self, id: &UserId) -> Vec<Permission> {
        self.facts().user(id).map(|facts| facts.permissions.clone()).unwrap_or_default()
    }

    /// How many people may sign in.
    pub fn people(&self) -> usize {
        self.facts().users.values().filter(|user| user.is_person()).count()
    }

    /// The decision about the table that a text names: by its id or its name, whether it is there or not.
    ///
    /// # Errors
    /// `Invalid` for what can't be a table's id or name.
    pub fn decide_named(&self, principal: &Principal, text: &str) -> Result<Decision> {
        let id = match self.resolve(text) {
            Some(table) => table.id,
            None => TableId::parse(text)?,
        };
        Ok(self.decide(principal, &Resource::table(id)))
    }

    /// The principal that a user with this address is, for a program that answers for who she is.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn principal_of(&self, email: &Email) -> Result<Principal> {
        match self.facts().user_by_email(email) {
            Some(facts) => Ok(Principal::user(facts.user.id.clone())),
            None => Err(admin::no_such_user(email)),
        }
    }

    /// The user with this address.
    pub fn user_by_email(&self, email: &Email) -> Option<User> {
        self.facts().user_by_email(email).map(|facts| facts.user.clone())
    }

    /// The types of resources that can be granted.
    pub fn resource_kinds(&self) -> &[Arc<dyn ResourceKind>] {
        &self.kinds
    }

    /// Notes something for the audit log. It never fails and never waits.
    pub fn tell(&self, event: AuditEvent) {
        self.books.tell([event]);
    }

    /// For a process that is about to end: writes what of the audit log waits to be written, and
    /// leaves the system database as the next start reads it soonest.
    ///
    /// # Errors
    /// `Unavailable` when the audit log can't be written; it waits on.
    pub fn flush(&self) -> Result<()> {
        self.books.flush()?;
        // Where that fails nothing is lost: the next start does it again.
        let _ = self.store.checkpoint();
        Ok(())
    }

    /// Has the system database replaced while nobody writes, and believes what it says from then on.
    /// Every session ends, also those that had ended before and that it would let in again.
    pub(crate) fn replaced(&self, replace: impl FnOnce() -> Result<()>) -> Result<()> {
        self.books.flush()?;
        {
            let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let opened = self.store.opened();
            let done = {
                // Whoever reads the key meanwhile would go on with the old one.
                let _making = self.making_key.lock().unwrap_or_else(PoisonError::into_inner);
                let done = replace();
                self.key.write().unwrap_or_else(PoisonError::into_inner).take();
                done
            };
            if self.store.opened() == opened {
                // Not even begun.
                return done;
            }
            // Also where not everything went well: what is there now is what counts.
            let ended = self.read_again(|before, facts| {
                let changes: Vec<Change> =
                    facts.users.values().map(|user| left_behind(before, user)).collect();
                changes.iter().for_each(|change| facts.apply(change));
                self.store.apply(&changes, &[], self.now()).map(|_| ())
            })?;
            self.end_every_session();
            done?;
            ended?;
        }
        self.ensure_system_groups()?;
        let event = AuditEvent::new(self.now(), "backup.restored", None);
        self.books.tell([event]);
        self.books.flush()
    }

    /// Believes the system database again where it was opened again, for whoever holds `writing`.
    fn catch_up(&self) -> Result<()> {
        // Opened now, so that what is compared is what is written to.
        self.store.settle()?;
        match self.store.opened() == self.opened.load(Ordering::SeqCst) {
            true => Ok(()),
            false => self.read_again(|_, _| ()),
        }
    }

    /// Believes what the system database says now, after what somebody does about it, for whoever
    /// holds `writing`.
    fn read_again<T>(&self, and: impl FnOnce(&Facts, &mut Facts) -> T) -> Result<T> {
        let opened = self.store.opened();
        let mut facts = self.store.facts()?;
        facts.forget_expired(self.now());
        let done = and(&self.facts(), &mut facts);
        self.opened.store(opened, Ordering::SeqCst);
        self.believe(facts);
        self.end_sessions();
        Ok(done)
    }

    /// Has decisions rest on these facts.
    fn believe(&self, facts: Facts) {
        let facts = Arc::new(facts);
        let before = std::mem::replace(
            &mut *self.facts.write().unwrap_or_else(PoisonError::into_inner),
            facts.clone(),
        );
        if !Arc::ptr_eq(&before.tokens, &facts.tokens) {
            self.books.forget_uses(|token| facts.tokens.contains_key(token));
        }
    }

    /// Changes something: what is planned on the facts of now is written, then believed.
    fn write<T>(&self, plan: impl FnOnce(&Facts, Timestamp) -> Result<Planned<T>>) -> Result<T> {
        let _writing: MutexGuard<'_, ()> =
            self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.catch_up()?;
        let before = self.facts();
        let now = self.now();
        let Planned { changes, events, value } = plan(&before, now)?;
        if !changes.is_empty() {
            let untold = match self.store.apply(&changes, &events, now) {
                Ok(untold) => untold,
                Err(error) => {
                    // What the disk took of it, if anything, decides from here on.
                    let _ = self.catch_up();
                    return Err(error);
                }
            };
            self.books.tell(untold.iter().cloned());
            let mut after = Facts::clone(&before);
            changes.iter().for_each(|change| after.apply(change));
            if !Arc::ptr_eq(&before.tokens, &after.tokens) {
                after.forget_expired(now);
            }
            self.believe(after);
            if changes.iter().any(Change::takes_away) {
                self.end_sessions();
            }
        }
        Ok(value)
    }
}

/// What lets nobody in again by a session of a user, whichever it was.
fn left_behind(before: &Facts, user: &facts::UserFacts) -> Change {
    let id = &user.user.id;
    let was = before.user(id).map_or(0, |user| user.session_version);
    let session_version = user.session_version.max(was).saturating_add(LEAP);
    Change::EndSessions { user: id.clone(), session_version }
}

/// The facts of one moment, without holding on to them: two are equal when nothing was changed
/// between.
#[derive(Debug, Clone)]
pub(crate) struct Moment(Weak<Facts>);

impl PartialEq for Moment {
    fn eq(&self, other: &Moment) -> bool {
        // Its place isn't given to anything else while this lives.
        Weak::ptr_eq(&self.0, &other.0)
    }
}

/// What a write will do.
struct Planned<T> {
    changes: Vec<Change>,
    events: Vec<AuditEvent>,
    value: T,
}

impl<T> Planned<T> {
    fn nothing(value: T) -> Self {
        Planned { changes: Vec::new(), events: Vec::new(), value }
    }
}
