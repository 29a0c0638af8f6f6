//! Tokens that show who somebody is: of sessions, personal ones, the scheduler's secret.

use std::time::Duration;

use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq;

use super::audit::{AuditEvent, Use};
use super::change::Change;
use super::facts::{Ended, Facts, TokenFacts, UserFacts};
use super::jwt::{self, sha256};
use super::{Access, Admin, Email, Planned, Principal, TokenId, User, UserId, Via};
use crate::Secret;
use crate::{Error, Key, Kind, Result, Timestamp};

/// How long somebody who signed in stays so.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The scope of a token for setting up an analyst's machine, which ends within an hour.
pub const BOOTSTRAP_SCOPE: &str = "bootstrap-analyst";
/// The address of the user that the scheduler is.
pub const SCHEDULER_EMAIL: &str = "scheduler@system.local";
/// The fewest characters of the scheduler's secret; a shorter one is as none.
pub const SCHEDULER_SECRET_MIN: usize = 32;
/// The fewest characters that the signing key should have.
pub const SIGNING_KEY_MIN: usize = 32;

/// Claims that nobody else may set.
const RESERVED: [&str; 9] =
    ["sub", "email", "typ", "iat", "exp", "jti", "scope", "nbf", SESSION_VERSION];
/// Counts up with whatever ends a user's sessions.
const SESSION_VERSION: &str = "sv";

/// A personal access token, as it is remembered. The token itself isn't.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PersonalToken {
    /// Its id, the `jti` of its JWT.
    pub id: TokenId,
    /// Whose it is.
    #[serde(rename = "user_id")]
    pub user: UserId,
    /// What she calls it.
    pub name: String,
    /// The first 8 hex digits of its id.
    pub prefix: String,
    /// What it is for: `general`, or `bootstrap-analyst`.
    pub scope: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; never when absent.
    pub expires_at: Option<Timestamp>,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
    /// From which address.
    pub last_used_ip: Option<String>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

/// A personal access token to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// What its owner calls it: 1 to 256 bytes.
    pub name: String,
    /// How long it holds; none for ever. 1 s to ten years.
    pub lifetime: Option<Duration>,
    /// What it is for. With [`BOOTSTRAP_SCOPE`] it ends within an hour.
    pub scope: String,
}

impl NewToken {
    /// A token for everything, for 90 days.
    pub fn named(name: impl Into<String>) -> Self {
        let lifetime = Some(Duration::from_secs(90 * 24 * 3600));
        NewToken { name: name.into(), lifetime, scope: "general".into() }
    }
}

/// Why a token shows nobody.
fn refused(reason: &str, message: &str) -> Error {
    Error::new(Kind::Denied, message).with(Key::Reason, reason)
}

fn text<'c>(claims: &'c Map<String, Value>, key: &str) -> Option<&'c str> {
    claims.get(key)?.as_str()
}

fn seconds(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(1_000_000)
}

impl Access {
    /// The token of somebody who has just signed in. It holds for [`SESSION_LIFETIME`], until
    /// her password changes, she is deactivated or a backup is restored.
    ///
    /// `extra` claims are carried along; those that mean something here can't be set.
    ///
    /// # Errors
    /// `NotFound`; `Denied` when she is deactivated; as [`Access::authenticate`] for the key.
    pub fn session_token(&self, id: &UserId, extra: Map<String, Value>) -> Result<Secret> {
        let facts = self.facts();
        let user = facts
            .user(id)
            .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no user `{id}`")))?;
        if !user.user.active {
            return Err(refused("deactivated", "the user is deactivated"));
        }
        let now = self.now();
        let mut claims = extra;
        claims.retain(|key, _| !RESERVED.contains(&key.as_str()));
        let ours = json!({
            "sub": id, "email": user.user.email, "typ": "session", "iat": seconds(now),
            "exp": seconds(now.after(SESSION_LIFETIME)), "jti": uuid::Uuid::new_v4().to_string(),
            SESSION_VERSION: user.session_version,
        });
        claims.extend(object(ours));
        Ok(self.key()?.sign(&claims))
    }

    /// Who brings a token: the one of a session, a personal one, or the scheduler's secret.
    ///
    /// `from` is the address that it comes from, noted for personal tokens.
    ///
    /// # Errors
    /// `Denied` with the reason under [`Key::Reason`]: `invalid`, `user_not_found`,
    /// `deactivated`, and for personal tokens `unknown`, `revoked`, `expired`, `mismatch`.
    /// `Unavailable` when the signing key can't be read, or the scheduler's secret, which a token that is nobody's
    /// may be.
    pub fn authenticate(&self, token: &str, from: Option<&str>) -> Result<Principal> {
        let secret = self.scheduler_secret();
        if let Ok(Some(secret)) = &secret
            && let Some(scheduler) = self.scheduler(secret, token)?
        {
            return Ok(scheduler);
        }
        match (self.bearer(token, from), secret) {
            (Err(error), Err(unknown)) if error.context(Key::Reason) == Some("invalid") => {
                Err(unknown)
            }
            (who, _) => who,
        }
    }

    /// Who brings the token of a session, or a personal one.
    fn bearer(&self, token: &str, from: Option<&str>) -> Result<Principal> {
        let invalid = || refused("invalid", "the token is invalid or has expired");
        let claims = self.key()?.verify(token).ok_or_else(invalid)?;
        let id =
            text(&claims, "sub").and_then(|sub| UserId::parse(sub).ok()).ok_or_else(invalid)?;
        let now = self.now();
        if let Some(end) = claims.get("exp")
            && end.as_f64().is_none_or(|end| seconds(now) as f64 >= end)
        {
            return Err(invalid());
        }
        let facts = self.facts();
        let user = facts
            .user(&id)
            .ok_or_else(|| refused("user_not_found", "the token's user isn't there any more"))?;
        if !user.user.active {
            return Err(refused("deactivated", "the user is deactivated"));
        }
        match text(&claims, "typ") {
            Some("pat") => {
                let id = text(&claims, "jti").and_then(|jti| TokenId::parse(jti).ok());
                let id = id.ok_or_else(invalid)?;
                let known = facts.tokens.get(&id).filter(|known| known.user == user.user.id);
                check_personal(user, &id, known, token, now)?;
                self.note_use(&id, known, &user.user, from, now);
                Ok(Principal::User { id: user.user.id.clone(), via: Via::Token(id) })
            }
            // A session without an end is none.
            Some("session") if claims.contains_key("exp") => {
                let version = claims.get(SESSION_VERSION).and_then(Value::as_u64).unwrap_or(0);
                if version != u64::from(user.session_version) {
                    return Err(invalid());
                }
                Ok(Principal::user(user.user.id.clone()))
            }
            _ => Err(invalid()),
        }
    }

    /// Notes that a personal token was used, and tells when it comes from another place than
    /// the last time.
    fn note_use(
        &self,
        id: &TokenId,
        known: Option<&TokenFacts>,
        user: &User,
        from: Option<&str>,
        now: Timestamp,
    ) {
        let before =
            self.books.last_use(id).or_else(|| known.and_then(|known| known.last_use.clone()));
        let ip = from.map(str::to_string);
        if let Some(before) = before
            && ip.is_some()
            && before.ip != ip
        {
            let event = AuditEvent::new(now, "token.first_use_new_ip", format!("token:{id}"));
            let told = json!({"ip": ip, "before": before.ip});
            self.books.tell([event.by(Some(&user.id)).with(told)]);
        }
        self.books.used(id.clone(), Use { at: now, ip });
    }

    /// The scheduler, if this is its secret.
    fn scheduler(&self, secret: &Secret, token: &str) -> Result<Option<Principal>> {
        // Of one length, so that nothing is learned from how long it takes.
        let (a, b) = (sha256(token), sha256(secret.expose()));
        if !bool::from(a.as_bytes().ct_eq(b.as_bytes())) {
            return Ok(None);
        }
        let email = Email::parse(SCHEDULER_EMAIL)?;
        let id = match self.facts().user_by_email(&email) {
            Some(there) if !there.user.active => {
                return Err(refused("deactivated", "the scheduler's user is deactivated"));
            }
            Some(there) => there.user.id.clone(),
            None => self.seed_admin(&email, Some("Scheduler"), None)?.id,
        };
        Ok(Some(Principal::User { id, via: Via::Scheduler }))
    }

    /// Makes a personal token for somebody who has signed in. The token is told once.
    ///
    /// # Errors
    /// `Denied` for whoever came with a token or the scheduler's secret; `Invalid` for a name or
    /// a lifetime out of bounds.
    pub fn create_token(
        &self,
        principal: &Principal,
        new: NewToken,
    ) -> Result<(PersonalToken, Secret)> {
        self.stands(principal)?;
        match principal {
            Principal::User { id, via: Via::Session } => {
                self.create_token_of(id, new, |_| Ok(Some(id.clone())))
            }
            _ => Err(Error::new(
                Kind::Denied,
                "a token can't make tokens; sign in with a password or a link",
            )),
        }
    }

    fn create_token_of(
        &self,
        id: &UserId,
        new: NewToken,
        may: impl FnOnce(&Facts) -> Result<Option<UserId>>,
    ) -> Result<(PersonalToken, Secret)> {
        const TEN_YEARS: u64 = 315_360_000;
        let NewToken { name, lifetime, scope } = new;
        let name = super::name::worded(&name, "token's name")?;
        let scope = super::name::worded(&scope, "scope")?;
        let lifetime = match (scope.as_str(), lifetime) {
            (BOOTSTRAP_SCOPE, lifetime) => {
                let hour = Duration::from_secs(3600);
                Some(lifetime.map_or(hour, |lifetime| lifetime.min(hour)))
            }
            (_, lifetime) => lifetime,
        };
        if lifetime.is_some_and(|l| l.as_secs() < 1 || l.as_secs() > TEN_YEARS) {
            return Err(Error::new(Kind::Invalid, "a token holds for 1 second to 3,650 days"));
        }
        let key = self.key()?;
        self.write(|facts, now| {
            let by = may(facts)?;
            let user = facts
                .user(id)
                .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no user `{id}`")))?;
            if !user.user.active {
                return Err(refused("deactivated", "the user is deactivated"));
            }
            let token_id = TokenId::fresh();
            let expires_at = lifetime.map(|lifetime| now.after(lifetime));
            let mut claims = object(json!({
                "sub": id, "email": user.user.email, "typ": "pat", "iat": seconds(now),
                "jti": token_id, "scope": scope,
            }));
            if let Some(end) = expires_at {
                claims.insert("exp".into(), seconds(end).into());
            }
            let secret = key.sign(&claims);
            let digits = token_id.as_str().chars().filter(|c| *c != '-').take(8);
            let token = PersonalToken {
                prefix: digits.collect(),
                id: token_id,
                user: id.clone(),
                name,
                scope,
                created_at: now,
                expires_at,
                last_used_at: None,
                last_used_ip: None,
                revoked_at: None,
            };
            let event = AuditEvent::new(now, "token.create", format!("token:{}", token.id));
            let told = json!({"user_id": id, "name": token.name, "expires_at": expires_at});
            Ok(Planned {
                changes: vec![Change::PutToken {
                    token: Box::new(token.clone()),
                    hash: sha256(secret.expose()),
                }],
                events: vec![event.by(by.as_ref()).with(told)],
                value: (token, secret),
            })
        })
    }

    /// A user's personal tokens, the newest first.
    ///
    /// # Errors
    /// `Denied` for whoever is no user; `Internal` when they can't be read.
    pub fn tokens(&self, principal: &Principal) -> Result<Vec<PersonalToken>> {
        self.stands(principal)?;
        let Some(id) = principal.user_id() else { return Ok(Vec::new()) };
        Ok(self.all_tokens()?.into_iter().filter(|token| token.user == *id).collect())
    }

    /// Revokes one of a user's own tokens. From then on it is worth nothing.
    ///
    /// # Errors
    /// `NotFound`, for the tokens of others as well.
    pub fn revoke_token(&self, principal: &Principal, id: &TokenId) -> Result<()> {
        self.stands(principal)?;
        self.revoke_token_of(id, "token.revoke", |_, owner| {
            let me = principal.user_id().filter(|me| *me == owner);
            me.cloned().map(Some).ok_or_else(|| no_token(id))
        })
    }

    fn revoke_token_of(
        &self,
        id: &TokenId,
        action: &str,
        may: impl FnOnce(&Facts, &UserId) -> Result<Option<UserId>>,
    ) -> Result<()> {
        self.write(|facts, now| {
            let (owner, is_revoked) = match facts.tokens.get(id) {
                Some(token) => (token.user.clone(), false),
                None => self.store.token(id)?.ok_or_else(|| no_token(id))?,
            };
            let by = may(facts, &owner)?;
            if is_revoked {
                return Ok(Planned::nothing(()));
            }
            let event = AuditEvent::new(now, action, format!("token:{id}")).by(by.as_ref());
            Ok(Planned {
                changes: vec![Change::RevokeToken { id: id.clone(), user: owner, at: now }],
                events: vec![event],
                value: (),
            })
        })
    }

    fn all_tokens(&self) -> Result<Vec<PersonalToken>> {
        self.books.flush()?;
        self.store.personal_tokens()
    }
}

impl Admin<'_> {
    /// Every personal token, the newest first.
    ///
    /// # Errors
    /// `Internal` when they can't be read.
    pub fn tokens(&self) -> Result<Vec<PersonalToken>> {
        self.access().all_tokens()
    }

    /// Makes a personal token for a user; told once.
    ///
    /// # Errors
    /// `Denied` for anybody but the operator: an admin would be that user afterwards. `NotFound`;
    /// `Invalid` for a name or a lifetime out of bounds.
    pub fn create_token(&self, user: &UserId, new: NewToken) -> Result<(PersonalToken, Secret)> {
        if *self.principal() != Principal::Operator {
            return Err(Error::new(Kind::Denied, "people make their own tokens"));
        }
        self.access().create_token_of(user, new, |_| Ok(None))
    }

    /// Revokes anybody's token.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn revoke_token(&self, id: &TokenId) -> Result<()> {
        self.access().revoke_token_of(id, "token.admin_revoke", |facts, _| Ok(self.by(facts)?.user))
    }
}

/// Whether a personal token of a user holds, and is the one that was given out.
fn check_personal(
    user: &UserFacts,
    id: &TokenId,
    known: Option<&TokenFacts>,
    token: &str,
    now: Timestamp,
) -> Result<()> {
    let expired = || refused("expired", "the token has expired");
    let known = known.ok_or_else(|| match user.ended(id) {
        Some(Ended::Revoked) => refused("revoked", "the token was revoked"),
        Some(Ended::Expired) => expired(),
        None => refused("unknown", &format!("the token `{id}` is unknown")),
    })?;
    if known.expires_at.is_some_and(|end| end <= now) {
        return Err(expired());
    }
    let hash = sha256(token);
    match bool::from(hash.as_bytes().ct_eq(known.hash.as_bytes())) {
        true => Ok(()),
        false => Err(refused("mismatch", "the token isn't the one that was given out")),
    }
}

fn no_token(id: &TokenId) -> Error {
    Error::new(Kind::NotFound, format!("there is no token `{id}`"))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Where the key that signs comes from.
pub(crate) fn signing_key(
    secrets: &dyn crate::Secrets,
    file: &std::path::Path,
) -> Result<jwt::Key> {
    let unusable = || Error::internal("the signing key can't be used");
    let name = crate::TokenEnv::parse("JWT_SECRET_KEY")?;
    if let Some(secret) = crate::secret::had(secrets, &name)? {
        return jwt::Key::new(secret.expose().as_bytes()).ok_or_else(unusable);
    }
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => make_key(file)?,
        Err(e) => return Err(Error::io("read the signing key", file, e)),
    };
    let text = text.trim();
    if text.len() < SIGNING_KEY_MIN {
        return Err(Error::new(
            Kind::Unavailable,
            format!(
                "`{}` holds no key: it has fewer than {SIGNING_KEY_MIN} characters; remove it, \
                 and every token ends",
                file.display()
            ),
        )
        .with(Key::Path, file.display()));
    }
    jwt::Key::new(text.as_bytes()).ok_or_else(unusable)
}

/// Makes a key of 64 hex digits that only its owner may read. Of two who do so at the same time
/// both get the first one's.
fn make_key(file: &std::path::Path) -> Result<String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(Kind::Unavailable, format!("no random bytes can be had: {e}")))?;
    let fail = |e| Error::io("write the signing key", file, e);
    let aside = file.with_extension(uuid::Uuid::new_v4().simple().to_string());
    let mut open = std::fs::OpenOptions::new();
    let mut out = open.write(true).create_new(true).mode(0o600).open(&aside).map_err(fail)?;
    out.write_all(jwt::hex(&bytes).as_bytes()).and_then(|()| out.sync_all()).map_err(fail)?;
    // Only the first link succeeds.
    let linked = std::fs::hard_link(&aside, file);
    let _ = std::fs::remove_file(&aside);
    match linked {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(fail(e)),
        _ => {
            let folder = file.parent().unwrap_or(file);
            std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)?;
            std::fs::read_to_string(file).map_err(fail)
        }
    }
}
