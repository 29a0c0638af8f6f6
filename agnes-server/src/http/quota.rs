//! How much each user may scan.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agnes_core::Timestamp;
use agnes_core::access::UserId;
use serde::Serialize;

use super::settings::ScanSettings;

/// What was too much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Exceeded {
    error: &'static str,
    /// `concurrent_scans` or `daily_bytes`.
    kind: &'static str,
    current: u64,
    limit: u64,
    pub(crate) retry_after_seconds: u64,
}

impl Exceeded {
    fn new(kind: &'static str, current: u64, limit: u64, retry_after_seconds: u64) -> Exceeded {
        Exceeded { error: "quota_exceeded", kind, current, limit, retry_after_seconds }
    }

    /// All of a user's places for statements are taken.
    pub(crate) fn of_statements(most: u64) -> Exceeded {
        Exceeded::new("concurrent_scans", most, most, 1)
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Used {
    running: u64,
    /// The day that the bytes are of, since 1970, in UTC.
    day: i64,
    bytes: u64,
}

/// What each user has used. It is forgotten when the server ends.
#[derive(Debug)]
pub(crate) struct Quotas {
    used: Arc<Mutex<HashMap<UserId, Used>>>,
    max_concurrent: u64,
    max_daily_bytes: u64,
}

/// A scan that counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    used: Arc<Mutex<HashMap<UserId, Used>>>,
    user: UserId,
}

const DAY: i64 = 24 * 3600 * 1_000_000;

fn lock(used: &Mutex<HashMap<UserId, Used>>) -> MutexGuard<'_, HashMap<UserId, Used>> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Quotas {
    pub(crate) fn new(settings: &ScanSettings) -> Quotas {
        Quotas {
            used: Arc::default(),
            max_concurrent: settings.max_concurrent,
            max_daily_bytes: settings.max_daily_bytes,
        }
    }

    /// Counts a scan of a user.
    ///
    /// # Errors
    /// What is too much.
    pub(crate) fn begin(&self, user: &UserId, now: Timestamp) -> Result<Turn, Exceeded> {
        let mut all = lock(&self.used);
        let used = all.entry(user.clone()).or_default();
        let day = now.as_micros().div_euclid(DAY);
        if used.day != day {
            *used = Used { day, bytes: 0, ..*used };
        }
        if used.running >= self.max_concurrent {
            return Err(Exceeded::new("concurrent_scans", used.running, self.max_concurrent, 1));
        }
        if used.bytes >= self.max_daily_bytes {
            let left = (DAY - now.as_micros().rem_euclid(DAY)) / 1_000_000 + 1;
            let left = left.unsigned_abs();
            return Err(Exceeded::new("daily_bytes", used.bytes, self.max_daily_bytes, left));
        }
        used.running += 1;
        Ok(Turn { used: self.used.clone(), user: user.clone() })
    }
}

impl Turn {
    /// Counts bytes that were sent.
    pub(crate) fn count(&self, bytes: u64) {
        if let Some(used) = lock(&self.used).get_mut(&self.user) {
            used.bytes = used.bytes.saturating_add(bytes);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(used) = lock(&self.used).get_mut(&self.user) {
            used.running = used.running.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_so_much_a_day() {
        let settings =
            ScanSettings { max_concurrent: 2, max_daily_bytes: 100, ..ScanSettings::default() };
        let quotas = Quotas::new(&settings);
        let [ada, eve] = ["ada", "eve"].map(|id| UserId::parse(id).unwrap());
        let now = Timestamp::parse("2026-01-31T23:59:30Z").unwrap();
        let (first, _second) = (quotas.begin(&ada, now).unwrap(), quotas.begin(&ada, now).unwrap());
        assert_eq!(quotas.begin(&ada, now).unwrap_err().kind, "concurrent_scans");
        assert!(quotas.begin(&eve, now).is_ok());
        first.count(100);
        drop(first);
        let over = quotas.begin(&ada, now).unwrap_err();
        assert_eq!((over.kind, over.current, over.retry_after_seconds), ("daily_bytes", 100, 31));
        assert!(quotas.begin(&ada, Timestamp::parse("2026-02-01T00:00:00Z").unwrap()).is_ok());
    }
}
