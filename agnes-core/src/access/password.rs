//! Passwords, and links that stand in for one once.

use std::sync::OnceLock;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use serde_json::json;

use super::audit::AuditEvent;
use super::change::Change;
use super::facts::Facts;
use super::jwt::sha256;
use super::{Access, Admin, Email, Planned, User, UserId};
use crate::Secret;
use crate::{Error, Key, Kind, Result};

/// The fewest characters of a password.
pub const PASSWORD_MIN: usize = 8;
/// The most bytes of a password: what is hashed costs.
pub const PASSWORD_MAX: usize = 1024;

/// What a link is for. One for one purpose is worth nothing for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkPurpose {
    /// Setting a first password; 7 days.
    Setup,
    /// Setting another password; 24 hours.
    Reset,
    /// Signing in; 1 hour.
    SignIn,
}

impl LinkPurpose {
    /// How long a link for it holds.
    pub fn lifetime(self) -> Duration {
        let hours = match self {
            LinkPurpose::Setup => 7 * 24,
            LinkPurpose::Reset => 24,
            LinkPurpose::SignIn => 1,
        };
        Duration::from_secs(hours * 3600)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            LinkPurpose::Setup => "setup",
            LinkPurpose::Reset => "reset",
            LinkPurpose::SignIn => "sign_in",
        }
    }
}

/// The parameters of existing installations, whose hashes stay good: Argon2id, 64 MiB, 3 passes,
/// 4 lanes, 32 bytes.
fn hasher() -> Result<Argon2<'static>> {
    let params = Params::new(64 * 1024, 3, 4, Some(32))
        .map_err(|e| Error::internal(format!("the parameters of Argon2 are wrong: {e}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &str) -> Result<String> {
    let hash = hasher()?
        .hash_password(password.as_bytes())
        .map_err(|e| Error::internal(format!("a password can't be hashed: {e}")))?;
    Ok(hash.to_string())
}

/// The hash of a password that may be set.
pub(super) fn hashed(password: &Secret) -> Result<String> {
    hash(checked(password)?)
}

/// Whether a password is the one of a hash, whose parameters count.
///
/// One that is too long is none, and takes as long as any other.
fn is_right(password: &str, hash: &str) -> bool {
    let looked_at = password.as_bytes().get(..PASSWORD_MAX).unwrap_or(password.as_bytes());
    let verify = |hash: &str| {
        let parsed = PasswordHash::new(hash).ok()?;
        hasher().ok()?.verify_password(looked_at, &parsed).ok()
    };
    verify(hash).is_some() && password.len() <= PASSWORD_MAX
}

/// Takes the time that a real one would, for whoever has none.
fn pretend(password: &str) {
    static HASH: OnceLock<Option<String>> = OnceLock::new();
    if let Some(hash) = HASH.get_or_init(|| hash("nobody's password").ok()) {
        let _ = is_right(password, hash);
    }
}

/// The one answer to whoever can't sign in, whatever the reason.
fn wrong() -> Error {
    Error::new(Kind::Denied, "wrong e-mail address or password").with(Key::Reason, "wrong_password")
}

/// The one answer to whoever brings a link that is worth nothing, whatever the reason.
pub fn invalid_link() -> Error {
    Error::new(Kind::Denied, "the link is invalid or has expired; ask for a new one")
        .with(Key::Reason, "invalid_or_expired")
}

/// A password that may be set.
fn checked(password: &Secret) -> Result<&str> {
    let password = password.expose();
    if password.chars().count() < PASSWORD_MIN {
        return Err(Error::new(
            Kind::Invalid,
            format!("a password has at least {PASSWORD_MIN} characters"),
        ));
    }
    if password.len() > PASSWORD_MAX {
        return Err(Error::new(
            Kind::Invalid,
            format!("a password has at most {PASSWORD_MAX} bytes"),
        ));
    }
    Ok(password)
}

impl Access {
    /// Checks an address and a password.
    ///
    /// It takes as long for an address that nobody has.
    ///
    /// # Errors
    /// `Denied`, the same for every reason; the audit log has the reason.
    pub fn sign_in(&self, email: &Email, password: &Secret) -> Result<User> {
        let facts = self.facts();
        let user = facts.user_by_email(email).map(|facts| facts.user.clone());
        let hash = match &user {
            Some(user) => self.store.password_hash(&user.id)?,
            None => None,
        };
        let right = match &hash {
            Some(hash) => is_right(password.expose(), hash),
            None => {
                pretend(password.expose());
                false
            }
        };
        let failed = |user: Option<&UserId>, why: &str| {
            let told = json!({"email": email});
            let event = AuditEvent::new(self.now(), "login_failed", "auth".to_string());
            self.tell(event.by(user).with(told).ended(why));
            wrong()
        };
        match user {
            Some(user) if right && user.active => Ok(user),
            Some(user) if right => Err(failed(Some(&user.id), "deactivated")),
            user => Err(failed(user.as_ref().map(|u| &u.id), "invalid_password")),
        }
    }

    /// Sets a user's password, which ends her sessions.
    fn set_password_of(
        &self,
        id: &UserId,
        password: &Secret,
        action: &str,
        may: impl FnOnce(&Facts) -> Result<Option<UserId>>,
    ) -> Result<()> {
        // Hashing takes a tenth of a second, in which others go on.
        let hash = hashed(password)?;
        self.write(|facts, now| {
            let by = may(facts)?;
            let user = facts
                .user(id)
                .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no user `{id}`")))?;
            let version = user.session_version + 1;
            Ok(Planned {
                changes: vec![Change::SetPassword {
                    user: id.clone(),
                    hash: Some(hash),
                    session_version: version,
                }],
                events: vec![AuditEvent::new(now, action, format!("user:{id}")).by(by.as_ref())],
                value: (),
            })
        })
    }

    /// Makes a link's token for a user. An earlier one for the same purpose is worth nothing any
    /// more. It is told once and not remembered, only its hash is.
    ///
    /// # Errors
    /// `NotFound`; `Denied` when she is deactivated; `Conflict` for a link that sets the password
    /// of a user whom Google Workspace manages, or the first one of a user who has one.
    pub fn issue_link(&self, id: &UserId, purpose: LinkPurpose) -> Result<Secret> {
        let facts = self.facts();
        let user = facts
            .user(id)
            .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no user `{id}`")))?;
        if !user.user.active {
            return Err(Error::new(Kind::Denied, "the user is deactivated"));
        }
        match purpose {
            LinkPurpose::SignIn => {}
            LinkPurpose::Setup if user.user.has_password => {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("`{}` has a password; a reset link changes it", user.user.email),
                ));
            }
            LinkPurpose::Setup | LinkPurpose::Reset => {
                super::admin::not_sso(&facts, user, "set the password of")?;
            }
        }
        let token = random_token()?;
        let now = self.now();
        let end = now.after(purpose.lifetime());
        self.store.put_link(id, purpose.as_str(), &sha256(token.expose()), now, end)?;
        Ok(token)
    }

    /// Takes a link's token, which is worth nothing afterwards. Of several who bring it at the
    /// same time one succeeds.
    ///
    /// # Errors
    /// `Denied`, the same for every reason.
    pub fn take_link(&self, email: &Email, token: &Secret, purpose: LinkPurpose) -> Result<User> {
        let facts = self.facts();
        let user = facts.user_by_email(email).map(|facts| facts.user.clone());
        // Asked for unknown addresses too, so that both take as long.
        let id = user.as_ref().map_or("", |user| user.id.as_str());
        let hash = sha256(token.expose());
        let taken = self.store.take_link(id, purpose.as_str(), &hash, self.now())?;
        user.filter(|user| taken && user.active).ok_or_else(invalid_link)
    }

    /// Sets a password with a link for that, and takes the link.
    ///
    /// # Errors
    /// `Invalid` for a password that is too short, when the link stays good; `Denied` as
    /// [`Access::take_link`]; `Conflict` for a user whom Google Workspace manages by now.
    pub fn set_password_by_link(
        &self,
        email: &Email,
        token: &Secret,
        purpose: LinkPurpose,
        password: &Secret,
    ) -> Result<User> {
        checked(password)?;
        if purpose == LinkPurpose::SignIn {
            return Err(invalid_link());
        }
        let user = self.take_link(email, token, purpose)?;
        let action = match purpose {
            LinkPurpose::Reset => "user.reset_password",
            LinkPurpose::Setup | LinkPurpose::SignIn => "user.set_password",
        };
        self.set_password_of(&user.id, password, action, |facts| {
            let there = facts.user(&user.id).ok_or_else(invalid_link)?;
            super::admin::not_sso(facts, there, "set the password of")?;
            Ok(Some(user.id.clone()))
        })?;
        Ok(user)
    }
}

impl Admin<'_> {
    /// Sets a user's password, which ends her sessions.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for one that is too short; `Conflict` for a user whom Google
    /// Workspace manages.
    pub fn set_password(&self, id: &UserId, password: &Secret) -> Result<()> {
        self.access().set_password_of(id, password, "user.set_password", |facts| {
            let by = self.by(facts)?;
            if let Some(user) = facts.user(id) {
                super::admin::not_sso(facts, user, "set the password of")?;
            }
            Ok(by.user)
        })
    }
}

/// 32 random bytes, as they stand in an address.
fn random_token() -> Result<Secret> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(Kind::Unavailable, format!("no random bytes can be had: {e}")))?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}
