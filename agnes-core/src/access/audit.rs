//! What was done, by whom, to what: told to the audit log, which only grows.
//!
//! What an admin changes is told in the transaction that changes it. Everything else (a failed
//! sign-in, a token's first use from a new address) waits in memory for at most
//! [`TELL_EVERY`] and is then written together: a crash of the process loses no more than that.
//! Telling never fails and never blocks what it tells about; where the disk is full it is tried
//! again, and what doesn't fit into memory meanwhile is counted and the count is told.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::TokenId;
use crate::store::Store;
use crate::{Result, Timestamp};

/// How long what was done may wait in memory before it is written.
pub const TELL_EVERY: Duration = Duration::from_secs(1);
/// The most events that wait.
const WAITING_MAX: usize = 100_000;

/// Something that was done.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct AuditEvent {
    /// When.
    pub at: Timestamp,
    /// The id of the user who did it; absent for the operator and for nobody.
    pub user: Option<String>,
    /// What, as in `user_group.created`.
    pub action: String,
    /// To what, as in `group:6f6e4c2e`.
    pub resource: Option<String>,
    /// The details, with secrets masked.
    pub params: Option<Value>,
    /// How it ended, where that isn't plain.
    pub result: Option<String>,
    /// How long it took, ms.
    pub duration_ms: Option<u32>,
}

impl AuditEvent {
    /// An event without details.
    pub fn new(at: Timestamp, action: &str, resource: impl Into<Option<String>>) -> Self {
        AuditEvent {
            at,
            user: None,
            action: action.to_string(),
            resource: resource.into(),
            params: None,
            result: None,
            duration_ms: None,
        }
    }

    /// The same with details. Secrets among them are masked by the names of their keys.
    #[must_use]
    pub fn with(mut self, params: Value) -> Self {
        self.params = Some(masked(params));
        self
    }

    /// The same by this user.
    #[must_use]
    pub fn by(mut self, user: Option<&super::UserId>) -> Self {
        self.user = user.map(ToString::to_string);
        self
    }

    /// The same with how it ended.
    #[must_use]
    pub fn ended(mut self, result: &str) -> Self {
        self.result = Some(result.to_string());
        self
    }
}

/// The same without the values of keys that look like secrets.
fn masked(value: Value) -> Value {
    const SECRET: [&str; 4] = ["secret", "token", "password", "api_key"];
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| {
                    let lower = key.to_ascii_lowercase();
                    let secret = SECRET.iter().any(|word| lower.contains(word));
                    let value = match value {
                        Value::Null | Value::Bool(_) => value,
                        _ if secret => json!("***"),
                        value => masked(value),
                    };
                    (key, value)
                })
                .collect::<Map<_, _>>(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(masked).collect()),
        value => value,
    }
}

/// When and from where a token was last used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) at: Timestamp,
    pub(crate) ip: Option<String>,
}

/// What waits to be written.
#[derive(Default)]
struct Waiting {
    events: Vec<AuditEvent>,
    uses: HashMap<TokenId, Use>,
    /// The last use of each token that was used and may still hold, written or not.
    last: HashMap<TokenId, Use>,
    lost: usize,
    closing: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.uses.is_empty() && self.lost == 0
    }

    fn push(&mut self, events: impl IntoIterator<Item = AuditEvent>) {
        for event in events {
            match self.events.len() < WAITING_MAX {
                true => self.events.push(event),
                false => self.lost += 1,
            }
        }
    }
}

struct Shared {
    store: Arc<Store>,
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// One writer at a time, so that what was put back stays in order.
    writing: Mutex<()>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits. What can't be written waits on.
    fn flush(&self) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut events, uses, lost) = {
            let mut waiting = self.waiting();
            if waiting.is_empty() {
                return Ok(());
            }
            let waiting = &mut *waiting;
            (std::mem::take(&mut waiting.events), std::mem::take(&mut waiting.uses), waiting.lost)
        };
        if lost > 0 {
            let at = events.last().map_or(Timestamp::EPOCH, |event| event.at);
            events.push(AuditEvent::new(at, "audit.lost", None).with(json!({"events": lost})));
        }
        let written = self.store.tell(&events, &uses);
        let mut waiting = self.waiting();
        match written {
            Ok(()) => waiting.lost -= lost.min(waiting.lost),
            Err(_) => {
                if lost > 0 {
                    events.pop();
                }
                let later = std::mem::replace(&mut waiting.events, events);
                waiting.push(later);
                for (token, used) in uses {
                    waiting.uses.entry(token).or_insert(used);
                }
            }
        }
        written
    }
}

/// What was done and isn't written yet, with the thread that writes it.
pub(crate) struct Books {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Books {
    pub(crate) fn new(store: Arc<Store>) -> Books {
        let waiting = Mutex::new(Waiting::default());
        let shared = Shared { store, waiting, changed: Condvar::new(), writing: Mutex::new(()) };
        Books { shared: Arc::new(shared), thread: Mutex::new(None) }
    }

    /// Notes that something was done.
    pub(crate) fn tell(&self, events: impl IntoIterator<Item = AuditEvent>) {
        let mut waiting = self.shared.waiting();
        let first = waiting.is_empty();
        waiting.push(events);
        drop(waiting);
        if first {
            self.wake();
        }
    }

    /// Notes that a token was used.
    pub(crate) fn used(&self, token: TokenId, used: Use) {
        let mut waiting = self.shared.waiting();
        // Whoever writes is awake while something waits.
        let first = waiting.is_empty();
        waiting.last.insert(token.clone(), used.clone());
        waiting.uses.insert(token, used);
        drop(waiting);
        if first {
            self.wake();
        }
    }

    /// The last use of a token that this process has seen.
    pub(crate) fn last_use(&self, token: &TokenId) -> Option<Use> {
        self.shared.waiting().last.get(token).cloned()
    }

    /// Forgets when tokens were last used that hold no more.
    pub(crate) fn forget_uses(&self, holds: impl Fn(&TokenId) -> bool) {
        self.shared.waiting().last.retain(|token, _| holds(token));
    }

    /// Writes what waits, now.
    pub(crate) fn flush(&self) -> Result<()> {
        self.shared.flush()
    }

    /// Makes sure that somebody writes what waits. Where no thread can be had it is written
    /// with the next flush.
    fn wake(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = self.shared.clone();
            let spawned =
                std::thread::Builder::new().name("agnes-books".into()).spawn(move || keep(&shared));
            *thread = spawned.ok();
        }
        self.shared.changed.notify_all();
    }
}

/// Writes what waits, once in a while, until the books are closed.
fn keep(shared: &Shared) {
    loop {
        let waiting = shared.waiting();
        let waiting = shared
            .changed
            .wait_while(waiting, |w| w.is_empty() && !w.closing)
            .unwrap_or_else(PoisonError::into_inner);
        // What comes meanwhile is written along.
        let (waiting, _) = shared
            .changed
            .wait_timeout_while(waiting, TELL_EVERY, |w| !w.closing)
            .unwrap_or_else(PoisonError::into_inner);
        let closing = waiting.closing;
        drop(waiting);
        let _ = shared.flush();
        if closing {
            return;
        }
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        self.shared.waiting().closing = true;
        self.shared.changed.notify_all();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        match thread {
            Some(thread) => drop(thread.join()),
            None => drop(self.shared.flush()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Agnes;
    use crate::access::{Email, NewToken, Principal, User};

    #[test]
    fn a_use_is_kept_as_long_as_its_token() {
        let dir = tempfile::tempdir().unwrap();
        let agnes = Agnes::open(dir.path()).unwrap();
        let access = agnes.access().unwrap();
        let admin = access.admin(&Principal::Operator).unwrap();
        let known = || access.books.shared.waiting().last.len();
        let [ada, bob] = ["ada@example.com", "bob@example.com"]
            .map(|email| admin.add_user(Email::parse(email).unwrap(), None).unwrap());
        let used = |of: &User| {
            let (token, secret) = admin.create_token(&of.id, NewToken::named("ci")).unwrap();
            access.authenticate(secret.expose(), Some("192.0.2.1")).unwrap();
            token.id
        };
        let (first, second, _bobs) = (used(&ada), used(&ada), used(&bob));
        assert_eq!(known(), 3);
        admin.revoke_token(&first).unwrap();
        admin.remove_user(&bob.id).unwrap();
        assert_eq!(known(), 1);
        assert!(access.books.last_use(&second).is_some());
        // What was noted of it is in the list all the same.
        let listed = admin.tokens().unwrap();
        assert!(listed.iter().all(|token| token.last_used_at.is_some()) && listed.len() == 2);
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let event = AuditEvent::new(Timestamp::EPOCH, "x", None).with(json!({
            "name": "ci", "API_KEY": "k", "nested": [{"smtp_password": "p", "port": 25}],
            "has_password": true, "token_hash": "h"
        }));
        assert_eq!(
            event.params.unwrap(),
            json!({
                "name": "ci", "API_KEY": "***", "nested": [{"smtp_password": "***", "port": 25}],
                "has_password": true, "token_hash": "***"
            })
        );
    }
}
