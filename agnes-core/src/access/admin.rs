//! What admins do: users here, [groups](super::groups), [grants](super::grants),
//! [the registry](super::tables) and [metrics](super::metrics) beside it.

use super::audit::AuditEvent;
use super::decision::{Question, Standing};
use super::facts::{Facts, GOOGLE_SYNC, UserFacts};
use super::{
    Access, Email, Group, GroupId, MemberSource, Membership, Origin, Planned, Principal, User,
    UserId,
};
use crate::{Error, Key, Kind, Result, Timestamp};

/// Leave to change who may see what. Made by [`Access::admin`].
///
/// Whatever it is asked to change is refused as `Denied` once whoever it was made for is no admin
/// any more, and fails as `Unavailable` when it can't be written. Reading goes on: make a new one
/// for each request.
#[derive(Debug, Clone)]
pub struct Admin<'a> {
    access: &'a Access,
    principal: Principal,
}

/// Who does something, as it is noted.
pub(super) struct By {
    pub(super) user: Option<UserId>,
    pub(super) name: String,
}

/// A user with what is known about her.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Overview {
    /// The user.
    #[serde(flatten)]
    pub user: User,
    /// Whether she may do everything.
    pub is_admin: bool,
    /// The same for clients that know roles: `admin` or `user`.
    pub role: &'static str,
    /// Whether Google Workspace manages her: she can't be removed or given a password here.
    pub is_sso_user: bool,
    /// The groups that she is in.
    pub groups: Vec<InGroup>,
}

/// A group that somebody is in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct InGroup {
    /// The group.
    #[serde(flatten)]
    pub group: Group,
    /// Where the group comes from.
    pub origin: Origin,
    /// Why she is in it.
    pub source: MemberSource,
}

pub(super) fn missing(what: &str, name: impl std::fmt::Display, list: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no {what} `{name}`; `agnes {list}` shows all"))
}

pub(super) fn no_user(id: &UserId) -> Error {
    missing("user", id, "user list")
}

pub(super) fn no_such_user(email: &Email) -> Error {
    missing("user", email, "user list")
}

pub(super) fn no_group(id: &GroupId) -> Error {
    missing("group", id, "group list")
}

pub(super) fn conflict(message: String) -> Error {
    Error::new(Kind::Conflict, message)
}

/// Whether Google Workspace says what groups she is in.
pub(super) fn is_sso(facts: &Facts, user: &UserFacts) -> bool {
    user.memberships.iter().any(|member| {
        let made_by = facts.group(&member.group).and_then(|g| g.group.created_by.as_deref());
        member.source == MemberSource::GoogleSync || made_by == Some(GOOGLE_SYNC)
    })
}

pub(super) fn keeps_an_admin(facts: &Facts, user: &UserFacts, what: &str) -> Result<()> {
    if user.is_person() && facts.is_admin(user) && facts.active_admins() <= 1 {
        return Err(conflict(format!(
            "can't {what} `{}`: nobody else is an active admin; make somebody else one first",
            user.user.email
        ))
        .with(Key::Reason, "last_admin"));
    }
    Ok(())
}

pub(super) fn not_sso(facts: &Facts, user: &UserFacts, what: &str) -> Result<()> {
    match is_sso(facts, user) {
        true => Err(conflict(format!(
            "can't {what} `{}`: Google Workspace manages this user",
            user.user.email
        ))
        .with(Key::Reason, "sso_managed")),
        false => Ok(()),
    }
}

/// A new user.
pub(super) fn new_user(email: Email, name: Option<String>, now: Timestamp) -> User {
    User {
        id: UserId::fresh(),
        email,
        name,
        active: true,
        has_password: false,
        created_at: now,
        updated_at: now,
        deactivated_at: None,
        deactivated_by: None,
    }
}

impl<'a> Admin<'a> {
    pub(super) fn of(access: &'a Access, principal: &Principal) -> Result<Self> {
        let admin = Admin { access, principal: principal.clone() };
        admin.by(&access.facts()).map(|_| admin)
    }

    pub(super) fn access(&self) -> &Access {
        self.access
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Who this is, while she is still an admin.
    pub(super) fn by(&self, facts: &Facts) -> Result<By> {
        let now = || self.access.now();
        let question = Question { policy: self.access.policy, now: &now };
        match question.standing(facts, &self.principal) {
            Standing::Everything(_) => {
                let user = self.principal.user_id().and_then(|id| facts.user(id));
                let name = user.map_or_else(|| "operator".into(), |u| u.user.email.to_string());
                Ok(By { user: user.map(|u| u.user.id.clone()), name })
            }
            Standing::User(_) | Standing::Nothing(_) => {
                Err(Error::new(Kind::Denied, "admin access required"))
            }
        }
    }

    pub(super) fn write<T>(
        &self,
        plan: impl FnOnce(&Facts, &By, Timestamp) -> Result<Planned<T>>,
    ) -> Result<T> {
        self.access.write(|facts, now| {
            let by = self.by(facts)?;
            let mut planned = plan(facts, &by, now)?;
            for event in &mut planned.events {
                event.user = by.user.as_ref().map(ToString::to_string);
            }
            Ok(planned)
        })
    }

    /// The facts, for reading.
    pub(super) fn facts(&self) -> std::sync::Arc<Facts> {
        self.access.facts()
    }

    // Users.

    /// Every user, by address.
    pub fn users(&self) -> Vec<Overview> {
        let facts = self.facts();
        let mut users: Vec<Overview> =
            facts.users.values().map(|user| overview(&facts, user)).collect();
        users.sort_by(|a, b| a.user.email.cmp(&b.user.email));
        users
    }

    /// One user.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn user(&self, id: &UserId) -> Result<Overview> {
        let facts = self.facts();
        facts.user(id).map(|user| overview(&facts, user)).ok_or_else(|| no_user(id))
    }

    /// The user with this address.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn user_by_email(&self, email: &Email) -> Result<Overview> {
        let facts = self.facts();
        let user = facts.user_by_email(email).map(|user| overview(&facts, user));
        user.ok_or_else(|| no_such_user(email))
    }

    /// The last events of the audit log, the newest first.
    ///
    /// # Errors
    /// `Internal` when it can't be read; `Unavailable` when what waits can't be written.
    pub fn audit(&self, limit: u32) -> Result<Vec<AuditEvent>> {
        self.access.books.flush()?;
        self.access.store.told(limit)
    }
}

/// An event about a user or a group.
pub(super) fn event(at: Timestamp, action: &str, about: &impl About) -> AuditEvent {
    AuditEvent::new(at, action, about.resource())
}

/// What an event may be about, as the log spells it.
pub(super) trait About {
    fn resource(&self) -> String;
}

impl About for UserId {
    fn resource(&self) -> String {
        format!("user:{self}")
    }
}

impl About for GroupId {
    fn resource(&self) -> String {
        format!("group:{self}")
    }
}

pub(super) fn overview(facts: &Facts, user: &UserFacts) -> Overview {
    let group = |member: &Membership| {
        let group = facts.group(&member.group)?.group.clone();
        Some(InGroup { origin: group.origin(), group, source: member.source })
    };
    let mut groups: Vec<InGroup> = user.memberships.iter().filter_map(group).collect();
    groups.sort_by(|a, b| a.group.name.cmp(&b.group.name));
    Overview {
        user: user.user.clone(),
        is_admin: facts.is_admin(user),
        role: super::role::told(facts.is_admin(user)),
        is_sso_user: is_sso(facts, user),
        groups,
    }
}
