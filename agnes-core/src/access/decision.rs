//! Who may see what, and why.

use std::sync::Arc;

use serde::ser::SerializeStruct;

use super::facts::{Bits, Facts, GrantTo, Numbered, TableFacts, UserFacts};
use super::{Access, Email, GrantId, GroupId, GroupName, Principal, Resource, UserId, Via};
use crate::registry::RegisteredTable;
use crate::{Error, Key, Kind, Result, TableId, Timestamp};

/// What decides about tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TablePolicy {
    /// Admins and grants alone.
    #[default]
    Grants,
    /// Besides, what older installations look at: tables marked as public, permissions of
    /// single users, and permissions for all tables of a bucket.
    GrantsAndLegacy,
}

/// Why a decision came out as it did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Reason {
    /// The operator may do everything.
    Operator,
    /// She is in the group `Admin`.
    Admin,
    /// A group that she is in was granted it.
    Granted {
        /// The group.
        group: GroupName,
        /// The grant.
        grant: GrantId,
    },
    /// The table is marked as public, and the policy looks at that.
    Public,
    /// She has a permission of her own, and the policy looks at that.
    Permission {
        /// A table's id, or `<bucket>.*`.
        dataset: String,
    },
    /// Nobody signed in.
    Nobody,
    /// There is no such user (any more).
    UnknownUser,
    /// She was deactivated.
    Deactivated,
    /// Her token was revoked, has expired or is unknown.
    TokenEnded,
    /// None of her groups was granted it.
    NotGranted,
}

impl Reason {
    /// Whether it is a reason to allow.
    pub fn allows(&self) -> bool {
        match self {
            Reason::Operator
            | Reason::Admin
            | Reason::Granted { .. }
            | Reason::Public
            | Reason::Permission { .. } => true,
            Reason::Nobody
            | Reason::UnknownUser
            | Reason::Deactivated
            | Reason::TokenEnded
            | Reason::NotGranted => false,
        }
    }
}

/// In a sentence's second half: `she may, because …`.
impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Operator => f.write_str("the operator may do everything"),
            Reason::Admin => f.write_str("a member of the group `Admin` may do everything"),
            Reason::Granted { group, grant } => {
                write!(f, "the group `{group}` was granted it (grant {grant})")
            }
            Reason::Public => f.write_str("the table is public"),
            Reason::Permission { dataset } => write!(f, "of her own permission for `{dataset}`"),
            Reason::Nobody => f.write_str("nobody signed in"),
            Reason::UnknownUser => f.write_str("there is no such user"),
            Reason::Deactivated => f.write_str("the user is deactivated"),
            Reason::TokenEnded => f.write_str("the token was revoked or has expired"),
            Reason::NotGranted => f.write_str("none of the user's groups was granted it"),
        }
    }
}

/// Whether a principal may see a resource, and why.
///
/// It holds for the moment in which it was made. Programs read it as JSON, `allowed` first:
///
/// ```
/// use agnes_core::Agnes;
/// use agnes_core::access::{Principal, Resource};
///
/// # let dir = tempfile::tempdir().unwrap();
/// let agnes = Agnes::open(dir.path())?;
/// let orders = Resource::parse("table:orders")?;
/// let decision = agnes.access()?.decide(&Principal::Nobody, &orders);
/// assert_eq!(
///     serde_json::to_string(&decision).unwrap(),
///     r#"{"allowed":false,"resource":"table:orders","reasons":[{"because":"nobody"}]}"#
/// );
/// # Ok::<(), agnes_core::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a decision that nobody looks at protects nothing"]
pub struct Decision {
    principal: Principal,
    resource: Resource,
    reason: Reason,
    policy: TablePolicy,
    facts: Arc<Facts>,
}

impl Decision {
    /// Whether she may.
    pub fn is_allowed(&self) -> bool {
        self.reason.allows()
    }

    /// The first reason that was found.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Every reason to allow it, or the one not to.
    pub fn reasons(&self) -> Vec<Reason> {
        if !self.reason.allows() {
            return vec![self.reason.clone()];
        }
        let mut reasons = Vec::new();
        let facts = &*self.facts;
        match self.principal.user_id().and_then(|id| facts.user(id)) {
            None => reasons.push(self.reason.clone()),
            Some(user) => {
                reasons.extend(facts.is_admin(user).then_some(Reason::Admin));
                let grants = facts.grants_of(&self.resource);
                reasons.extend(grants.iter().filter_map(|grant| granted(facts, user, grant)));
                if self.policy == TablePolicy::GrantsAndLegacy
                    && let Some(id) = self.resource.as_table()
                {
                    reasons.extend(legacy(facts.table(id), user, id));
                }
            }
        }
        reasons
    }

    /// What was asked about.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Leave to read it, as for [`Agnes::data_file`](crate::Agnes::data_file). It lives no longer
    /// than the decision.
    ///
    /// # Errors
    /// `Denied` when she may not; the same for what isn't there.
    pub fn permit(&self) -> Result<Permitted<'_, Resource>> {
        match self.reason.allows() {
            true => Ok(Permitted { what: self.resource.clone(), decision: self }),
            false => Err(match self.reason {
                Reason::NotGranted if self.resource.as_table().is_some() => {
                    hidden(self.resource.id())
                }
                _ => Error::new(Kind::Denied, format!("access denied: {}", self.reason)),
            }
            .with(Key::Table, self.resource.id())),
        }
    }
}

impl serde::Serialize for Decision {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let mut decision = to.serialize_struct("Decision", 3)?;
        decision.serialize_field("allowed", &self.is_allowed())?;
        decision.serialize_field("resource", &self.resource)?;
        decision.serialize_field("reasons", &self.reasons())?;
        decision.end()
    }
}

/// The one answer for a table without a grant and for one that doesn't exist.
pub(crate) fn hidden(table: &str) -> Error {
    let shown = crate::name::shown(table);
    Error::new(
        Kind::Denied,
        format!("there is no table `{shown}` among those that you may see; ask an admin for it"),
    )
    .with(Key::Table, shown)
}

/// Something that a decision has allowed. Only a decision makes one, and it ends with it.
///
/// What takes it asks again, so that one that somebody has kept opens nothing that was taken away
/// meanwhile.
#[derive(Debug)]
pub struct Permitted<'d, T> {
    what: T,
    decision: &'d Decision,
}

impl<T> Permitted<'_, T> {
    /// What is allowed.
    pub fn what(&self) -> &T {
        &self.what
    }

    /// To whom.
    pub(crate) fn principal(&self) -> &Principal {
        &self.decision.principal
    }

    /// Whether it still is.
    pub(crate) fn still(&self, access: &Access) -> Result<()> {
        let decision = access.decide(&self.decision.principal, &self.decision.resource);
        decision.permit().map(drop)
    }
}

/// The tables that a principal may see.
#[derive(Debug, Clone)]
pub enum Visibility {
    /// All of them, registered or not.
    All,
    /// These, and no others.
    Only(TableSet),
}

/// A set of registered tables.
#[derive(Clone)]
pub struct TableSet {
    tables: Numbered<TableId, TableFacts>,
    visible: Bits,
}

impl TableSet {
    /// Whether a table is among them.
    pub fn contains(&self, id: &TableId) -> bool {
        self.tables.number(id).is_some_and(|number| self.visible.contains(number))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.visible.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether everything in one set is in another, and means the same table.
    pub(crate) fn within(part: &TableSet, whole: &TableSet) -> bool {
        part.visible.iter().all(|number| {
            let (a, b) = (part.tables.at(number), whole.tables.at(number));
            let same = a.zip(b).is_some_and(|(a, b)| {
                Arc::ptr_eq(a, b)
                    || (a.table.name == b.table.name && a.table.source == b.table.source)
            });
            same && whole.visible.contains(number)
        })
    }

    /// The tables, in the order in which they were registered.
    pub fn iter(&self) -> impl Iterator<Item = &RegisteredTable> {
        self.visible.iter().filter_map(|number| Some(&self.tables.at(number)?.table))
    }
}

impl std::fmt::Debug for TableSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter().map(|table| &table.id)).finish()
    }
}

/// What a user may see beyond tables, with the groups through which she may.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EffectiveAccess {
    /// Whether she may do everything.
    pub is_admin: bool,
    /// What her groups were granted.
    pub items: Vec<EffectiveItem>,
}

/// A resource with the groups through which somebody may see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EffectiveItem {
    /// The resource.
    pub resource: Resource,
    /// The groups, by name.
    pub via_groups: Vec<ViaGroup>,
}

/// A group through which somebody may see something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct ViaGroup {
    /// Its name.
    #[serde(rename = "group_name")]
    pub name: GroupName,
    /// Its id.
    #[serde(rename = "group_id")]
    pub id: GroupId,
}

/// Somebody who may see a resource, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MaySee {
    /// The user.
    #[serde(rename = "user_id")]
    pub user: UserId,
    /// Her address.
    pub email: Email,
    /// Every reason.
    pub reasons: Vec<Reason>,
}

/// What is asked of the facts, with what they don't hold.
pub(crate) struct Question<'a> {
    pub(crate) policy: TablePolicy,
    pub(crate) now: &'a dyn Fn() -> Timestamp,
}

impl Question<'_> {
    pub(crate) fn decide(
        &self,
        facts: Arc<Facts>,
        principal: &Principal,
        resource: &Resource,
    ) -> Decision {
        let reason = self.reason(&facts, principal, resource);
        Decision {
            principal: principal.clone(),
            resource: resource.clone(),
            reason,
            policy: self.policy,
            facts,
        }
    }

    fn reason(&self, facts: &Facts, principal: &Principal, resource: &Resource) -> Reason {
        let user = match self.standing(facts, principal) {
            Standing::Everything(reason) | Standing::Nothing(reason) => return reason,
            Standing::User(user) => user,
        };
        let table = resource.as_table().map(|id| (id, facts.table(id)));
        let grants = match table {
            Some((_, table)) => table.map_or(&[][..], |table| &table.grants),
            None => facts.grants_of(resource),
        };
        if let Some(reason) = grants.iter().find_map(|grant| granted(facts, user, grant)) {
            return reason;
        }
        if self.policy == TablePolicy::GrantsAndLegacy
            && let Some((id, table)) = table
            && let Some(reason) = legacy(table, user, id).next()
        {
            return reason;
        }
        Reason::NotGranted
    }

    /// What a principal is, before any resource is looked at.
    pub(crate) fn standing<'f>(&self, facts: &'f Facts, principal: &Principal) -> Standing<'f> {
        let (id, via) = match principal {
            Principal::Nobody => return Standing::Nothing(Reason::Nobody),
            Principal::Operator => return Standing::Everything(Reason::Operator),
            Principal::User { id, via } => (id, via),
        };
        let Some(user) = facts.user(id) else {
            return Standing::Nothing(Reason::UnknownUser);
        };
        if !user.user.active {
            return Standing::Nothing(Reason::Deactivated);
        }
        if let Via::Token(token) = via {
            let valid = facts.tokens.get(token).is_some_and(|token| {
                token.user == *id && token.expires_at.is_none_or(|end| end > (self.now)())
            });
            if !valid {
                return Standing::Nothing(Reason::TokenEnded);
            }
        }
        match facts.is_admin(user) {
            true => Standing::Everything(Reason::Admin),
            false => Standing::User(user),
        }
    }

    pub(crate) fn visibility(&self, facts: &Facts, principal: &Principal) -> Visibility {
        let mut visible = Bits::default();
        match self.standing(facts, principal) {
            Standing::Everything(_) => return Visibility::All,
            Standing::Nothing(_) => {}
            Standing::User(user) => {
                for group in user.groups.iter().filter_map(|number| facts.groups.at(number)) {
                    group.tables.iter().for_each(|table| visible.insert(*table));
                }
                if self.policy == TablePolicy::GrantsAndLegacy {
                    for table in facts.tables.values() {
                        let id = &table.table.id;
                        if legacy(Some(table), user, id).next().is_some()
                            && let Some(number) = facts.tables.number(id)
                        {
                            visible.insert(number);
                        }
                    }
                }
            }
        }
        Visibility::Only(TableSet { tables: facts.tables.clone(), visible })
    }
}

/// What a principal is.
pub(crate) enum Standing<'f> {
    /// Somebody who may do everything.
    Everything(Reason),
    /// Somebody who may do nothing.
    Nothing(Reason),
    /// A user who may do what she was granted.
    User(&'f UserFacts),
}

fn granted(facts: &Facts, user: &UserFacts, grant: &GrantTo) -> Option<Reason> {
    if !user.groups.contains(grant.group) {
        return None;
    }
    let group = facts.groups.at(grant.group)?;
    Some(Reason::Granted { group: group.group.name.clone(), grant: grant.id.clone() })
}

/// What older installations look at, in their order. A permission that says `none` allows
/// nothing, and forbids nothing either.
fn legacy<'a>(
    table: Option<&'a TableFacts>,
    user: &'a UserFacts,
    id: &'a TableId,
) -> impl Iterator<Item = Reason> + 'a {
    let table = table.map(|facts| &facts.table);
    let public = table.is_some_and(|table| table.declaration.is_public).then_some(Reason::Public);
    let bucket = table.and_then(|table| table.declaration.bucket.as_deref());
    let covers = move |dataset: &str| {
        dataset.eq_ignore_ascii_case(id.as_str())
            || bucket.is_some_and(|bucket| dataset.strip_suffix(".*") == Some(bucket))
    };
    let permissions =
        user.permissions.iter().filter(move |p| p.access != "none" && covers(&p.dataset));
    public.into_iter().chain(permissions.map(|p| Reason::Permission { dataset: p.dataset.clone() }))
}
