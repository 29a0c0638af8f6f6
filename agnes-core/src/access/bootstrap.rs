//! How the first admin comes in: by the settings, by the first call, or by whoever holds the folder.

use serde_json::json;

use super::admin::{Admin, event, new_user};
use super::audit::AuditEvent;
use super::change::Change;
use super::facts::{Facts, UserFacts};
use super::{Access, Email, MemberSource, Membership, Planned, Principal, User};
use crate::{Error, Key, Kind, Result, Secret, Timestamp};

/// What makes a user an admin who isn't in the group yet.
fn join(
    facts: &Facts,
    user: &User,
    there: Option<&UserFacts>,
    source: MemberSource,
    by: Option<&str>,
    now: Timestamp,
) -> Result<Option<Change>> {
    let group = super::groups::admins(facts)?;
    let is_in = there.is_some_and(|u| u.memberships.iter().any(|m| m.group == group));
    Ok((!is_in).then(|| {
        Change::PutMember(Membership {
            user: user.id.clone(),
            group,
            source,
            added_at: now,
            added_by: by.map(str::to_string),
        })
    }))
}

impl Access {
    /// Whether nobody is an admin yet, so that [`Access::bootstrap`] makes one.
    pub fn is_new(&self) -> bool {
        self.facts().active_admins() == 0
    }

    /// Makes the first admin. It is over as soon as there is an active one, whatever they sign in
    /// with.
    ///
    /// # Errors
    /// `Denied` when there is one, and for an address that somebody has: nobody takes over an
    /// account by asking first. `Invalid` for a password that is too short.
    pub fn bootstrap(
        &self,
        email: &Email,
        name: Option<&str>,
        password: Option<&Secret>,
    ) -> Result<User> {
        let over = || {
            Error::new(
                Kind::Denied,
                "there is an admin already; ask her, or use `agnes break-glass`",
            )
            .with(Key::Reason, "bootstrap_closed")
        };
        if !self.is_new() {
            return Err(over());
        }
        // Hashing takes a tenth of a second, in which others go on.
        let hash = password.map(super::password::hashed).transpose()?;
        self.write(|facts, now| {
            if facts.active_admins() > 0 {
                return Err(over());
            }
            if facts.user_by_email(email).is_some() {
                return Err(Error::new(
                    Kind::Denied,
                    "somebody has this address; `agnes break-glass` makes her an admin, where the \
                     data folder is",
                )
                .with(Key::Reason, "bootstrap_taken"));
            }
            let mut user = new_user(email.clone(), name.map(str::to_string), now);
            let mut changes = vec![Change::PutUser(user.clone())];
            changes.extend(join(facts, &user, None, MemberSource::SystemSeed, None, now)?);
            if let Some(hash) = hash {
                changes.push(Change::SetPassword {
                    user: user.id.clone(),
                    hash: Some(hash),
                    session_version: 1,
                });
                user.has_password = true;
            }
            let told = json!({"email": user.email});
            let events = vec![event(now, "user.bootstrap", &user.id).with(told)];
            Ok(Planned { changes, events, value: user })
        })
    }

    /// Makes sure that a user is there and an admin, as the installation's settings say. A
    /// password is set only where she has none.
    ///
    /// # Errors
    /// `Invalid` for a password that is too short.
    pub fn seed_admin(
        &self,
        email: &Email,
        name: Option<&str>,
        password: Option<&Secret>,
    ) -> Result<User> {
        let user = self.write(|facts, now| {
            let there = facts.user_by_email(email);
            let user = match there {
                Some(there) => there.user.clone(),
                None => new_user(email.clone(), name.map(str::to_string), now),
            };
            let mut changes = Vec::new();
            if there.is_none() {
                changes.push(Change::PutUser(user.clone()));
            }
            changes.extend(join(facts, &user, there, MemberSource::SystemSeed, None, now)?);
            let event = AuditEvent::new(now, "user.create", format!("user:{}", user.id));
            let told = json!({"email": email, "source": MemberSource::SystemSeed});
            let events = if changes.is_empty() { Vec::new() } else { vec![event.with(told)] };
            Ok(Planned { changes, events, value: user })
        })?;
        if let Some(password) = password
            && !user.has_password
        {
            self.admin(&Principal::Operator)?.set_password(&user.id, password)?;
        }
        Ok(user)
    }
}

impl Admin<'_> {
    /// Makes somebody an admin, whoever she is: the way back in when no admin is left.
    ///
    /// Adds the user when there is none of that address, and activates her. The membership's
    /// source is `cli_break_glass`.
    ///
    /// # Errors
    /// `Denied` for anybody but the operator.
    pub fn break_glass(&self, email: Email) -> Result<User> {
        if *self.principal() != Principal::Operator {
            return Err(Error::new(
                Kind::Denied,
                "only who has the data folder at hand may break the glass",
            ));
        }
        self.write(|facts, by, now| {
            let there = facts.user_by_email(&email);
            let user = match there {
                Some(there) => active(&there.user, now),
                None => new_user(email, None, now),
            };
            let mut changes = vec![Change::PutUser(user.clone())];
            let source = MemberSource::CliBreakGlass;
            changes.extend(join(facts, &user, there, source, Some(&by.name), now)?);
            let told = json!({"email": user.email});
            Ok(Planned {
                changes,
                events: vec![event(now, "user.break_glass", &user.id).with(told)],
                value: user,
            })
        })
    }
}

/// The same user, let in again where she wasn't.
fn active(user: &User, now: Timestamp) -> User {
    User {
        active: true,
        deactivated_at: None,
        deactivated_by: None,
        updated_at: now,
        ..user.clone()
    }
}
