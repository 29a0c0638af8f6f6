//! What admins do about users.

use serde_json::json;

use super::admin::{
    By, Overview, conflict, event, keeps_an_admin, new_user, no_user, not_sso, overview,
};
use super::change::Change;
use super::facts::{Facts, UserFacts};
use super::groups;
use super::{Admin, Email, GroupName, Planned, User, UserId};
use crate::{Result, Timestamp};

/// What is to be different of a user; what isn't said stays.
#[derive(Debug, Clone, Default)]
pub struct UserUpdate {
    /// What she is called; `Some(None)` takes the name away.
    pub name: Option<Option<String>>,
    /// Whether she may sign in.
    pub active: Option<bool>,
    /// Whether she is in the group of admins.
    pub is_admin: Option<bool>,
}

/// What a user's removal or deactivation must not do.
fn may_leave(facts: &Facts, by: &By, user: &UserFacts, what: &str) -> Result<()> {
    if by.user.as_ref() == Some(&user.user.id) {
        return Err(conflict(format!("you can't {what} yourself; ask another admin")));
    }
    keeps_an_admin(facts, user, what)
}

fn checked(name: Option<String>) -> Result<Option<String>> {
    name.map(|name| super::name::worded(&name, "name")).transpose()
}

fn add(facts: &Facts, email: Email, name: Option<String>, now: Timestamp) -> Result<Planned<User>> {
    if let Some(there) = facts.user_by_email(&email) {
        return Err(conflict(format!("there is a user `{}` already", there.user.email)));
    }
    let user = new_user(email, name, now);
    Ok(Planned {
        changes: vec![Change::PutUser(user.clone())],
        events: vec![event(now, "user.create", &user.id).with(json!({"email": user.email}))],
        value: user,
    })
}

fn rename(
    facts: &Facts,
    id: &UserId,
    name: Option<String>,
    now: Timestamp,
) -> Result<Planned<User>> {
    let there = &facts.user(id).ok_or_else(|| no_user(id))?.user;
    let user = User { name, updated_at: now, ..there.clone() };
    Ok(Planned {
        changes: vec![Change::PutUser(user.clone())],
        events: vec![event(now, "user.update", id).with(json!({"name": user.name}))],
        value: user,
    })
}

fn set_active(
    facts: &Facts,
    by: &By,
    id: &UserId,
    active: bool,
    now: Timestamp,
) -> Result<Planned<User>> {
    let there = facts.user(id).ok_or_else(|| no_user(id))?;
    if there.user.active == active {
        return Ok(Planned::nothing(there.user.clone()));
    }
    if !active {
        may_leave(facts, by, there, "deactivate")?;
    }
    let user = User {
        active,
        updated_at: now,
        deactivated_at: (!active).then_some(now),
        deactivated_by: (!active).then(|| by.name.clone()),
        ..there.user.clone()
    };
    let mut changes = vec![Change::PutUser(user.clone())];
    if !active {
        let session_version = there.session_version + 1;
        changes.push(Change::EndSessions { user: id.clone(), session_version });
    }
    Ok(Planned {
        changes,
        events: vec![event(now, "user.update", id).with(json!({"active": active}))],
        value: user,
    })
}

impl Admin<'_> {
    /// Adds a user. She is in no group.
    ///
    /// # Errors
    /// `Conflict` when somebody has this address, in whatever case; `Invalid` for a name with
    /// control characters or more than 256 bytes.
    pub fn add_user(&self, email: Email, name: Option<String>) -> Result<User> {
        let name = checked(name)?;
        self.write(|facts, _, now| add(facts, email, name, now))
    }

    /// Adds a user who may do everything.
    ///
    /// # Errors
    /// As [`Admin::add_user`].
    pub fn add_admin(&self, email: Email, name: Option<String>) -> Result<User> {
        let name = checked(name)?;
        self.write(|facts, by, now| {
            let mut steps = Steps::over(facts);
            let user = steps.take(add(facts, email, name, now)?);
            let admins = groups::admins(&steps.facts)?;
            let join = groups::join(&steps.facts, by, &admins, &user.id, now)?;
            steps.take(join);
            Ok(steps.planned(user))
        })
    }

    /// Changes what a user is called.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn rename_user(&self, id: &UserId, name: Option<String>) -> Result<User> {
        let name = checked(name)?;
        self.write(|facts, _, now| rename(facts, id, name, now))
    }

    /// Lets a user sign in again, or not any more. Her grants stay; while she is deactivated
    /// she may see nothing, and her sessions and links don't come back with her.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for the last active admin and for oneself.
    pub fn set_active(&self, id: &UserId, active: bool) -> Result<User> {
        self.write(|facts, by, now| set_active(facts, by, id, active, now))
    }

    /// Changes several things of a user, all of them or none.
    ///
    /// # Errors
    /// As [`Admin::rename_user`], [`Admin::set_active`], [`Admin::add_member`] and
    /// [`Admin::remove_member`].
    pub fn update_user(&self, id: &UserId, update: UserUpdate) -> Result<Overview> {
        let UserUpdate { name, active, is_admin } = update;
        let name = name.map(checked).transpose()?;
        self.write(|facts, by, now| {
            let mut steps = Steps::over(facts);
            let of = |facts: &Facts| facts.user(id).cloned().ok_or_else(|| no_user(id));
            of(facts)?;
            if let Some(name) = name {
                let planned = rename(&steps.facts, id, name, now)?;
                steps.take(planned);
            }
            if let Some(active) = active {
                let planned = set_active(&steps.facts, by, id, active, now)?;
                steps.take(planned);
            }
            let admins = groups::admins(&steps.facts)?;
            match (is_admin, steps.facts.is_admin(&of(&steps.facts)?)) {
                (Some(true), false) => {
                    let planned = groups::join(&steps.facts, by, &admins, id, now)?;
                    steps.take(planned);
                }
                (Some(false), true) => {
                    let operator = *self.principal() == super::Principal::Operator;
                    let planned = groups::leave(&steps.facts, operator, &admins, id, now)?;
                    steps.take(planned);
                }
                _ => {}
            }
            let user = overview(&steps.facts, &of(&steps.facts)?);
            Ok(steps.planned(user))
        })
    }

    /// Removes a user with her memberships, tokens and requests, and the group of her own.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for the last active admin, for oneself, and for a user whom
    /// Google Workspace manages.
    pub fn remove_user(&self, id: &UserId) -> Result<()> {
        self.write(|facts, by, now| {
            let there = facts.user(id).ok_or_else(|| no_user(id))?;
            may_leave(facts, by, there, "remove")?;
            not_sso(facts, there, "remove")?;
            let told = json!({"email": there.user.email});
            let mut planned = Planned::nothing(());
            planned.changes.push(Change::RemoveUser(id.clone()));
            planned.events.push(event(now, "user.delete", id).with(told));
            // Whoever has the address next isn't she.
            let own = GroupName::of_user(&there.user.email);
            if let Some(own) = own.ok().and_then(|name| facts.group_by_name(&name)) {
                let told = json!({"name": own.group.name});
                planned.changes.push(Change::RemoveGroup(own.group.id.clone()));
                planned.events.push(event(now, "user_group.deleted", &own.group.id).with(told));
            }
            Ok(planned)
        })
    }
}

/// Several plans, each of which knows what those before it will have done.
struct Steps {
    facts: Facts,
    planned: Planned<()>,
}

impl Steps {
    fn over(facts: &Facts) -> Steps {
        Steps { facts: facts.clone(), planned: Planned::nothing(()) }
    }

    fn take<T>(&mut self, planned: Planned<T>) -> T {
        planned.changes.iter().for_each(|change| self.facts.apply(change));
        self.planned.changes.extend(planned.changes);
        self.planned.events.extend(planned.events);
        planned.value
    }

    fn planned<T>(self, value: T) -> Planned<T> {
        Planned { changes: self.planned.changes, events: self.planned.events, value }
    }
}
