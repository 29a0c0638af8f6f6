//! Passwords, links, tokens, the scheduler's secret: showing who one is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use agnes_core::access::{Access, Email, LinkPurpose, NewToken, Principal, TokenId, User, Via};
use agnes_core::{Agnes, Clock, Components, Key, Kind, Secret, Settings, Timestamp};

use crate::access::{email, user};
use crate::support::{Place, Sealed};

const OPERATOR: &Principal = &Principal::Operator;
const PASSWORD: &str = "correct horse";

/// A clock that tests set.
#[derive(Clone)]
struct Hands(Arc<AtomicI64>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

impl Hands {
    fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

struct House {
    agnes: Agnes,
    clock: Hands,
    ada: User,
}

fn house(place: &Place, secrets: &[(&str, &str)]) -> House {
    let clock = Hands(Arc::new(AtomicI64::new(1_800_000_000_000_000)));
    let secrets: BTreeMap<String, Secret> =
        secrets.iter().map(|(name, value)| (name.to_string(), Secret::new(*value))).collect();
    let components = Components {
        clock: Arc::new(clock.clone()),
        secrets: Arc::new(secrets),
        ..Components::default()
    };
    let agnes = Agnes::open_with(place.data(), Settings::default(), components).unwrap();
    let ada = {
        let access = agnes.access().unwrap();
        let admin = access.admin(OPERATOR).unwrap();
        user(&admin, "ada@example.com")
    };
    House { agnes, clock, ada }
}

impl House {
    fn access(&self) -> Arc<Access> {
        self.agnes.access().unwrap()
    }

    fn session(&self) -> Secret {
        self.access().session_token(&self.ada.id, Default::default()).unwrap()
    }

    /// Why a token shows nobody.
    fn reason(&self, token: &str) -> String {
        let error = self.access().authenticate(token, None).unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        error.context(Key::Reason).unwrap().to_string()
    }
}

/// The claims of a token, as a client reads them without the key.
fn claims(token: &Secret) -> serde_json::Value {
    let part = token.expose().split('.').nth(1).unwrap();
    let mut bytes = Vec::new();
    let digit = |c: u8| {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            .iter()
            .position(|d| *d == c)
            .unwrap() as u32
    };
    for group in part.as_bytes().chunks(4) {
        let bits =
            group.iter().fold(0u32, |bits, c| bits << 6 | digit(*c)) << (6 * (4 - group.len()));
        bytes.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn a_session_holds_for_a_day() {
    let place = Place::new();
    let house = house(&place, &[]);
    let token = house.session();
    let principal = house.access().authenticate(token.expose(), None).unwrap();
    assert_eq!(principal, Principal::user(house.ada.id.clone()));
    let claims = claims(&token);
    assert_eq!(claims["typ"], "session");
    assert_eq!(claims["email"], "ada@example.com");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 86_400);
    house.clock.forward(86_399);
    assert!(house.access().authenticate(token.expose(), None).is_ok());
    house.clock.forward(1);
    assert_eq!(house.reason(token.expose()), "invalid");
    assert_eq!(house.reason("garbage"), "invalid");
    assert_eq!(house.reason(""), "invalid");
}

#[test]
fn extra_claims_override_nothing() {
    let place = Place::new();
    let house = house(&place, &[]);
    let mut extra = serde_json::Map::new();
    for (key, value) in
        [("sub", "root"), ("typ", "pat"), ("exp", "9999999999"), ("sv", "7"), ("theme", "dark")]
    {
        extra.insert(key.into(), value.into());
    }
    let token = house.access().session_token(&house.ada.id, extra).unwrap();
    let claims = claims(&token);
    assert_eq!(claims["sub"], house.ada.id.as_str());
    assert_eq!(claims["typ"], "session");
    assert!(claims["exp"].is_i64());
    assert_eq!(claims["theme"], "dark");
}

/// The key is made once, only its owner may read it, and a secret goes before it.
#[test]
fn the_key_stays_and_is_nobody_elses() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let first = house(&place, &[]);
    let token = first.session();
    let ada = first.ada.clone();
    drop(first);
    let file = place.data().join("state/.jwt_secret");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit()), "{text}");
    let clock = Hands(Arc::new(AtomicI64::new(1_800_000_000_000_000)));
    let open = |secrets: BTreeMap<String, Secret>| {
        let components = Components {
            clock: Arc::new(clock.clone()),
            secrets: Arc::new(secrets),
            ..Components::default()
        };
        Agnes::open_with(place.data(), Settings::default(), components).unwrap()
    };
    let agnes = open(BTreeMap::new());
    let who = agnes.access().unwrap().authenticate(token.expose(), None).unwrap();
    assert_eq!(who, Principal::user(ada.id));
    drop(agnes);
    let key = "another key of at least thirty-two characters";
    let agnes = open([("JWT_SECRET_KEY".to_string(), Secret::new(key))].into_iter().collect());
    assert!(agnes.access().unwrap().authenticate(token.expose(), None).is_err());
    drop(agnes);
    for text in ["", "short"] {
        std::fs::write(&file, text).unwrap();
        let agnes = open(BTreeMap::new());
        let error = agnes.access().unwrap().authenticate(token.expose(), None).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    }
    let weak = open([("JWT_SECRET_KEY".to_string(), Secret::new("x"))].into_iter().collect());
    assert!(weak.access().unwrap().has_weak_key());
}

/// A folder whose vault doesn't answer for the variables whose names begin so.
fn sealed(place: &Place, names: &'static str) -> Agnes {
    let components = Components { secrets: Arc::new(Sealed(names)), ..Components::default() };
    Agnes::open_with(place.data(), Settings::default(), components).unwrap()
}

/// While the key that was given can't be had, none is made in its place: what it has signed would end.
#[test]
fn a_vault_that_fails_makes_no_key() {
    let place = Place::new();
    let access = sealed(&place, "JWT").access().unwrap();
    let ada = access.admin(OPERATOR).unwrap().add_user(email("ada@example.com"), None).unwrap();
    for error in [
        access.session_token(&ada.id, Default::default()).unwrap_err(),
        access.authenticate("a.b.c", None).unwrap_err(),
    ] {
        assert_eq!(error.message(), "the variable `JWT_SECRET_KEY` can't be had; try again");
        assert_eq!(error.kind(), Kind::Unavailable);
        let cause = std::error::Error::source(&error).unwrap();
        assert_eq!(cause.to_string(), "the vault is sealed");
    }
    assert!(!access.has_weak_key());
    assert!(!place.data().join("state/.jwt_secret").exists());
}

/// Nobody is told that she is nobody while the scheduler's secret can't be had; all others come in.
#[test]
fn a_vault_that_fails_keeps_the_scheduler_waiting_alone() {
    let place = Place::new();
    let access = sealed(&place, "SCHED").access().unwrap();
    let admin = access.admin(OPERATOR).unwrap();
    let ada = admin.add_user(email("ada@example.com"), None).unwrap();
    let token = access.session_token(&ada.id, Default::default()).unwrap();
    assert_eq!(access.authenticate(token.expose(), None).unwrap(), Principal::user(ada.id.clone()));
    let error = access.authenticate("the scheduler's secret, perhaps", None).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    admin.set_active(&ada.id, false).unwrap();
    let error = access.authenticate(token.expose(), None).unwrap_err();
    assert_eq!(error.context(Key::Reason), Some("deactivated"), "{error}");
}

/// Whoever needs it first makes it; what others sign at that moment holds after a restart, too.
#[test]
fn many_who_need_the_key_first_get_the_same() {
    let place = Place::new();
    let tokens: Vec<Secret> = {
        let house = house(&place, &[]);
        let start = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            let sign = || {
                start.wait();
                house.session()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(sign)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    for token in tokens {
        assert!(access.authenticate(token.expose(), None).is_ok());
    }
    let files = std::fs::read_dir(place.data().join("state")).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names.iter().filter(|n| n.to_string_lossy().starts_with(".jwt")).count(), 1);
}

#[test]
fn passwords_sign_in_and_tell_nothing() {
    let place = Place::new();
    let house = house(&place, &[]);
    let access = house.access();
    let admin = access.admin(OPERATOR).unwrap();
    let short = admin.set_password(&house.ada.id, &Secret::new("1234567")).unwrap_err();
    assert_eq!(short.kind(), Kind::Invalid);
    let before = house.session();
    let sign_in =
        |address: &str, password: &str| access.sign_in(&email(address), &Secret::new(password));
    // Nobody signs in with a password that was never set.
    let none = sign_in("ada@example.com", "").unwrap_err();
    admin.set_password(&house.ada.id, &Secret::new(PASSWORD)).unwrap();
    assert!(admin.user(&house.ada.id).unwrap().user.has_password);
    assert_eq!(sign_in("ADA@example.com", PASSWORD).unwrap().id, house.ada.id);
    // A new password ends the sessions of before.
    assert_eq!(house.reason(before.expose()), "invalid");
    assert!(access.authenticate(house.session().expose(), None).is_ok());
    let wrong = sign_in("ada@example.com", "wrong horse").unwrap_err();
    let unknown = sign_in("eve@example.com", PASSWORD).unwrap_err();
    admin.set_active(&house.ada.id, false).unwrap();
    let inactive = sign_in("ada@example.com", PASSWORD).unwrap_err();
    for error in [&none, &unknown, &inactive] {
        assert_eq!((error.kind(), error.message()), (Kind::Denied, wrong.message()));
    }
    let told = admin.audit(100).unwrap();
    let failed: Vec<_> = told.iter().filter(|e| e.action == "login_failed").collect();
    let results: Vec<&str> = failed.iter().rev().map(|e| e.result.as_deref().unwrap()).collect();
    assert_eq!(
        results,
        ["invalid_password", "invalid_password", "invalid_password", "deactivated"]
    );
    assert!(!format!("{told:?}").contains("horse"), "{told:?}");
}

/// A hash that the reference's library (argon2-cffi) wrote for this password.
#[test]
fn a_hash_of_an_existing_installation_is_good() {
    let hash = "$argon2id$v=19$m=65536,t=3,p=4$gn5T9d5LWY4Mx8o8dNMl0A$sZVRbyRigsKHIM7lkcpoVn2cdQUWK5ib4D+xEZrbgEo";
    let place = Place::new();
    {
        let house = house(&place, &[]);
        let access = house.access();
        access
            .admin(OPERATOR)
            .unwrap()
            .set_password(&house.ada.id, &Secret::new(PASSWORD))
            .unwrap();
    }
    let connection = duckdb::Connection::open_in_memory().unwrap();
    let file = place.data().join("state/system.duckdb");
    connection.execute_batch(&format!("ATTACH '{}' AS s", file.display())).unwrap();
    let shape: String = connection
        .query_row("SELECT password_hash FROM s.users WHERE password_hash IS NOT NULL", [], |r| {
            r.get(0)
        })
        .unwrap();
    assert!(shape.starts_with("$argon2id$v=19$m=65536,t=3,p=4$"), "{shape}");
    connection.execute("UPDATE s.users SET password_hash = ?", [hash]).unwrap();
    connection.execute_batch("DETACH s").unwrap();
    let agnes = place.agnes();
    let access = agnes.access().unwrap();
    assert!(access.sign_in(&email("ada@example.com"), &Secret::new("hello")).is_ok());
    assert!(access.sign_in(&email("ada@example.com"), &Secret::new(PASSWORD)).is_err());
}

#[test]
fn a_link_is_for_one_purpose_and_one_time() {
    let place = Place::new();
    let house = house(&place, &[]);
    let access = house.access();
    let admin = access.admin(OPERATOR).unwrap();
    let address = email("ada@example.com");
    let issue = |purpose| access.issue_link(&house.ada.id, purpose).unwrap();
    let take = |token: &Secret, purpose| access.take_link(&address, token, purpose);
    let token = issue(LinkPurpose::SignIn);
    assert_eq!(token.expose().len(), 43);
    assert_eq!(take(&token, LinkPurpose::Reset).unwrap_err().kind(), Kind::Denied);
    assert!(access.take_link(&email("eve@example.com"), &token, LinkPurpose::SignIn).is_err());
    assert_eq!(take(&token, LinkPurpose::SignIn).unwrap().id, house.ada.id);
    assert_eq!(take(&token, LinkPurpose::SignIn).unwrap_err().kind(), Kind::Denied);
    // A link for signing in sets no password.
    let token = issue(LinkPurpose::SignIn);
    let set = |token: &Secret, purpose, password: &str| {
        access.set_password_by_link(&address, token, purpose, &Secret::new(password))
    };
    for purpose in [LinkPurpose::Reset, LinkPurpose::Setup, LinkPurpose::SignIn] {
        assert!(set(&token, purpose, PASSWORD).is_err());
    }
    for (purpose, hours) in
        [(LinkPurpose::SignIn, 1), (LinkPurpose::Reset, 24), (LinkPurpose::Setup, 7 * 24)]
    {
        let (early, late) = (issue(purpose), hours * 3600);
        house.clock.forward(late - 1);
        assert!(take(&early, purpose).is_ok(), "{purpose:?}");
        let token = issue(purpose);
        house.clock.forward(late);
        assert!(take(&token, purpose).is_err(), "{purpose:?}");
    }
    // The last one counts.
    let (old, new) = (issue(LinkPurpose::Reset), issue(LinkPurpose::Reset));
    assert!(set(&old, LinkPurpose::Reset, PASSWORD).is_err());
    // A password that won't do doesn't cost the link.
    assert_eq!(set(&new, LinkPurpose::Reset, "short").unwrap_err().kind(), Kind::Invalid);
    assert!(set(&new, LinkPurpose::Reset, PASSWORD).is_ok());
    assert!(access.sign_in(&address, &Secret::new(PASSWORD)).is_ok());
    // A first password is set once, and by a link of before not even after another was set.
    assert_eq!(
        access.issue_link(&house.ada.id, LinkPurpose::Setup).unwrap_err().kind(),
        Kind::Conflict
    );
    let stolen = issue(LinkPurpose::Reset);
    admin.set_password(&house.ada.id, &Secret::new(PASSWORD)).unwrap();
    assert!(set(&stolen, LinkPurpose::Reset, "another password").is_err());
    // Somebody who was deactivated meanwhile.
    let (token, session) = (issue(LinkPurpose::SignIn), house.session());
    admin.set_active(&house.ada.id, false).unwrap();
    assert!(take(&token, LinkPurpose::SignIn).is_err());
    // What she had doesn't come back with her.
    admin.set_active(&house.ada.id, true).unwrap();
    assert!(take(&token, LinkPurpose::SignIn).is_err());
    assert!(access.authenticate(session.expose(), None).is_err());
    assert!(access.authenticate(house.session().expose(), None).is_ok());
    admin.set_active(&house.ada.id, false).unwrap();
    assert_eq!(
        access.issue_link(&house.ada.id, LinkPurpose::SignIn).unwrap_err().kind(),
        Kind::Denied
    );
}

/// Exactly one of many who bring the same link at the same moment gets in.
#[test]
fn of_two_who_bring_a_link_one_gets_in() {
    let place = Place::new();
    let house = house(&place, &[]);
    let access = house.access();
    for _ in 0..10 {
        let token = access.issue_link(&house.ada.id, LinkPurpose::SignIn).unwrap();
        let start = std::sync::Barrier::new(8);
        let won: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        let address = email("ada@example.com");
                        usize::from(access.take_link(&address, &token, LinkPurpose::SignIn).is_ok())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
    }
}

#[test]
fn a_personal_token_shows_its_owner_until_it_ends() {
    let place = Place::new();
    let house = house(&place, &[]);
    let access = house.access();
    let admin = access.admin(OPERATOR).unwrap();
    let ada = Principal::user(house.ada.id.clone());
    let (token, secret) = access.create_token(&ada, NewToken::named("ci")).unwrap();
    assert_eq!(token.prefix, token.id.as_str()[..8]);
    let claims = claims(&secret);
    assert_eq!(claims["typ"], "pat");
    assert_eq!(claims["jti"], token.id.as_str());
    assert_eq!(claims["scope"], "general");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 90 * 86_400);
    let principal = access.authenticate(secret.expose(), Some("192.0.2.1")).unwrap();
    assert_eq!(
        principal,
        Principal::User { id: house.ada.id.clone(), via: Via::Token(token.id.clone()) }
    );
    // A token makes no tokens, nor does the scheduler.
    let refused = access.create_token(&principal, NewToken::named("more")).unwrap_err();
    assert_eq!(refused.kind(), Kind::Denied);
    // Where it was used from is noted, and told when that changes.
    access.authenticate(secret.expose(), Some("192.0.2.1")).unwrap();
    access.authenticate(secret.expose(), Some("198.51.100.7")).unwrap();
    let hers = access.tokens(&ada).unwrap();
    assert_eq!(hers[0].last_used_ip.as_deref(), Some("198.51.100.7"));
    assert!(hers[0].last_used_at.is_some());
    let told = admin.audit(100).unwrap();
    assert_eq!(told.iter().filter(|e| e.action == "token.first_use_new_ip").count(), 1);
    // A stranger's token is none of hers.
    let bob = Principal::user(user(&admin, "bob@example.com").id);
    assert_eq!(access.revoke_token(&bob, &token.id).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(access.tokens(&bob).unwrap().len(), 0);
    access.revoke_token(&ada, &token.id).unwrap();
    assert_eq!(house.reason(secret.expose()), "revoked");
    // It stays in the list, and twice is as good as once; a stranger's it still isn't.
    access.revoke_token(&ada, &token.id).unwrap();
    assert_eq!(access.revoke_token(&bob, &token.id).unwrap_err().kind(), Kind::NotFound);
    assert!(access.tokens(&ada).unwrap()[0].revoked_at.is_some());
    let told = admin.audit(100).unwrap();
    assert_eq!(told.iter().filter(|e| e.action == "token.revoke").count(), 1);
    // What was authenticated before it was revoked stands no more either.
    assert!(house.agnes.session_for(&principal).is_err());
    let (short, secret) = access
        .create_token(
            &ada,
            NewToken { lifetime: Some(Duration::from_secs(5)), ..NewToken::named("s") },
        )
        .unwrap();
    let principal = access.authenticate(secret.expose(), None).unwrap();
    let session = house.agnes.session_for(&principal).unwrap();
    house.clock.forward(5);
    assert_eq!(house.reason(secret.expose()), "invalid");
    assert_eq!(crate::support::query_error(&session, "SELECT 1").kind(), Kind::Denied);
    assert!(short.expires_at.is_some());
}

#[test]
fn tokens_have_bounds() {
    let place = Place::new();
    let house = house(&place, &[]);
    let access = house.access();
    let ada = Principal::user(house.ada.id.clone());
    let lasting = |seconds: Option<u64>, scope: &str| {
        let lifetime = seconds.map(Duration::from_secs);
        access.create_token(&ada, NewToken { name: "t".into(), lifetime, scope: scope.into() })
    };
    assert!(lasting(None, "general").unwrap().0.expires_at.is_none());
    assert!(lasting(Some(1), "general").is_ok());
    assert!(lasting(Some(315_360_000), "general").is_ok());
    for seconds in [0, 315_360_001] {
        assert_eq!(lasting(Some(seconds), "general").unwrap_err().kind(), Kind::Invalid);
    }
    assert!(access.create_token(&ada, NewToken::named(" ")).is_err());
    let hour = Timestamp::from_micros(1_800_000_000_000_000).after(Duration::from_secs(3600));
    for asked in [None, Some(86_400)] {
        let (token, _) = lasting(asked, "bootstrap-analyst").unwrap();
        assert_eq!(token.expires_at, Some(hour));
    }
    // One that lasts for ever has no end in its claims.
    let (_, secret) = lasting(None, "general").unwrap();
    assert!(claims(&secret).get("exp").is_none());
}

/// Everything that a token says is signed, and what is signed must be what was given out.
#[test]
fn a_token_that_was_not_given_out_is_worth_nothing() {
    const KEY: &str = "0123456789abcdef0123456789abcdef";
    let place = Place::new();
    let house = house(&place, &[("JWT_SECRET_KEY", KEY)]);
    let access = house.access();
    let ada = Principal::user(house.ada.id.clone());
    let (token, secret) = access.create_token(&ada, NewToken::named("ci")).unwrap();
    // The hash in the database is another one.
    drop(access);
    drop(house);
    let connection = duckdb::Connection::open_in_memory().unwrap();
    let file = place.data().join("state/system.duckdb");
    let change = |sql: &str| {
        connection
            .execute_batch(&format!("ATTACH '{}' AS s; {sql}; DETACH s", file.display()))
            .unwrap();
    };
    change("UPDATE s.personal_access_tokens SET token_hash = repeat('0', 64)");
    let clock = Hands(Arc::new(AtomicI64::new(1_800_000_000_000_000)));
    let open = || {
        let secrets: BTreeMap<String, Secret> =
            [("JWT_SECRET_KEY".to_string(), Secret::new(KEY))].into_iter().collect();
        let components = Components {
            clock: Arc::new(clock.clone()),
            secrets: Arc::new(secrets),
            ..Components::default()
        };
        Agnes::open_with(place.data(), Settings::default(), components).unwrap()
    };
    let reason = || {
        let agnes = open();
        let error = agnes.access().unwrap().authenticate(secret.expose(), None).unwrap_err();
        error.context(Key::Reason).unwrap().to_string()
    };
    assert_eq!(reason(), "mismatch");
    change("UPDATE s.personal_access_tokens SET revoked_at = TIMESTAMP '2026-01-01'");
    assert_eq!(reason(), "revoked");
    change(
        "UPDATE s.personal_access_tokens SET revoked_at = NULL, \
         expires_at = TIMESTAMP '2000-01-01'",
    );
    assert_eq!(reason(), "expired");
    change("DELETE FROM s.personal_access_tokens");
    assert_eq!(reason(), "unknown");
    change("UPDATE s.users SET active = false");
    assert_eq!(reason(), "deactivated");
    change("DELETE FROM s.users");
    assert_eq!(reason(), "user_not_found");
    assert!(TokenId::parse(token.id.as_str()).is_ok());
}

#[test]
fn the_scheduler_has_a_secret_of_its_own() {
    const SECRET: &str = "a secret of at least thirty-two characters";
    let place = Place::new();
    let with_secret = house(&place, &[("SCHEDULER_API_TOKEN", SECRET)]);
    let access = with_secret.access();
    let principal = access.authenticate(SECRET, None).unwrap();
    assert!(matches!(&principal, Principal::User { via: Via::Scheduler, .. }));
    assert!(access.admin(&principal).is_ok());
    assert_eq!(access.authenticate(SECRET, None).unwrap(), principal);
    let refused = access.create_token(&principal, NewToken::named("more")).unwrap_err();
    assert_eq!(refused.kind(), Kind::Denied);
    assert_eq!(with_secret.reason(&SECRET[1..]), "invalid");
    let scheduler = access.user_by_email(&email("scheduler@system.local")).unwrap();
    assert!(!scheduler.has_password);
    // It is nobody who could let others in again.
    let admin = access.admin(OPERATOR).unwrap();
    let root = admin.break_glass(email("root@example.com")).unwrap();
    for last in [admin.set_active(&root.id, false).map(drop), admin.remove_user(&root.id)] {
        assert_eq!(last.unwrap_err().kind(), Kind::Conflict);
    }
    // Deactivated, it shows nobody.
    admin.set_active(&scheduler.id, false).unwrap();
    assert_eq!(with_secret.reason(SECRET), "deactivated");
    let place = Place::new();
    let short = house(&place, &[("SCHEDULER_API_TOKEN", "short")]);
    assert_eq!(short.reason("short"), "invalid");
}

#[test]
fn an_admin_whom_the_settings_name() {
    let place = Place::new();
    let house = house(&place, &[]);
    let access = house.access();
    let root = email("root@example.com");
    let seed =
        |password: &str| access.seed_admin(&root, Some("Admin"), Some(&Secret::new(password)));
    let user = seed(PASSWORD).unwrap();
    assert!(access.admin(&Principal::user(user.id.clone())).is_ok());
    assert!(access.sign_in(&root, &Secret::new(PASSWORD)).is_ok());
    // A password that she has stays.
    assert_eq!(seed("another password").unwrap().id, user.id);
    assert!(access.sign_in(&root, &Secret::new(PASSWORD)).is_ok());
    let admin = access.admin(OPERATOR).unwrap();
    let overview = admin.user(&user.id).unwrap();
    assert_eq!(overview.groups[0].source.as_str(), "system_seed");
    let _: &Email = &root;
}
