//! How fresh what is known of a table is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Cached;
use crate::Timestamp;

/// How fresh the cached figures of a table are.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Freshness {
    /// In one word.
    pub state: FreshnessState,
    /// The time since they were right; none where there are none. Whole seconds as JSON.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Option<Duration>,
    /// What went wrong since.
    pub last_error: Option<RefreshError>,
}

/// The word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FreshnessState {
    /// Nobody has asked yet.
    NeverFetched,
    /// It never succeeded.
    Error,
    /// Young enough. Whether something failed since doesn't matter.
    Fresh,
    /// Too old.
    Stale,
    /// The table isn't remote: its figures are those of its files.
    NotApplicable,
}

impl FreshnessState {
    /// As clients know it.
    pub fn as_str(self) -> &'static str {
        match self {
            FreshnessState::NeverFetched => "never_fetched",
            FreshnessState::Error => "error",
            FreshnessState::Fresh => "fresh",
            FreshnessState::Stale => "stale",
            FreshnessState::NotApplicable => "not_applicable",
        }
    }
}

impl fmt::Display for FreshnessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn seconds<S: serde::Serializer>(age: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&age.map(|age| age.as_secs()), s)
}

/// What went wrong when the figures were last to be refreshed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RefreshError {
    /// When.
    pub at: Timestamp,
    /// What: at most 512 characters.
    pub message: Arc<str>,
}

impl Freshness {
    /// How fresh a row is at a moment. It is fresh up to and including `threshold`.
    pub(crate) fn of(row: Option<&Cached>, now: Timestamp, threshold: Duration) -> Freshness {
        let last_error = row.and_then(|row| row.error.clone());
        let Some(refreshed_at) = row.and_then(|row| row.refreshed_at) else {
            let state = match last_error {
                Some(_) => FreshnessState::Error,
                None => FreshnessState::NeverFetched,
            };
            return Freshness { state, age: None, last_error };
        };
        let state = match refreshed_at.after(threshold) >= now {
            true => FreshnessState::Fresh,
            false => FreshnessState::Stale,
        };
        Freshness { state, age: Some(now.since(refreshed_at)), last_error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{MetadataSettings, TableMetadata};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn row(refreshed_at: Option<&str>, error: Option<&str>) -> Cached {
        Cached {
            source: String::new(),
            bucket: String::new(),
            source_table: String::new(),
            metadata: TableMetadata::default(),
            refreshed_at: refreshed_at.map(at),
            error: error.map(|time| RefreshError { at: at(time), message: "no".into() }),
        }
    }

    #[test]
    fn each_state_at_just_before_and_just_after_its_threshold() {
        use FreshnessState::{Error, Fresh, NeverFetched, Stale};
        let now = at("2026-11-20T12:00:00Z");
        let threshold = MetadataSettings::default().threshold();
        assert_eq!(threshold, Duration::from_secs(28_800));
        for (row, state) in [
            (None, NeverFetched),
            (Some(row(None, None)), NeverFetched),
            (Some(row(None, Some("2026-11-20T11:00:00Z"))), Error),
            (Some(row(Some("2026-11-20T12:00:00Z"), None)), Fresh),
            (Some(row(Some("2026-11-20T04:00:00.000001Z"), None)), Fresh),
            (Some(row(Some("2026-11-20T04:00:00Z"), None)), Fresh),
            (Some(row(Some("2026-11-20T03:59:59.999999Z"), None)), Stale),
            // An error that came later changes neither.
            (Some(row(Some("2026-11-20T04:00:00Z"), Some("2026-11-20T11:00:00Z"))), Fresh),
            (Some(row(Some("2026-11-20T03:59:59Z"), Some("2026-11-20T11:00:00Z"))), Stale),
            // A clock that was ahead.
            (Some(row(Some("2026-11-20T13:00:00Z"), None)), Fresh),
        ] {
            let freshness = Freshness::of(row.as_ref(), now, threshold);
            assert_eq!(freshness.state, state, "{row:?}");
            let error = row.as_ref().and_then(|row| row.error.clone());
            assert_eq!(freshness.last_error, error);
        }
        let age = |time| Freshness::of(Some(&row(Some(time), None)), now, threshold).age;
        assert_eq!(age("2026-11-20T11:00:00Z"), Some(Duration::from_secs(3600)));
        assert_eq!(age("2026-11-20T13:00:00Z"), Some(Duration::ZERO));
        // An interval without an end.
        let old = row(Some("1970-01-01T00:00:00Z"), None);
        assert_eq!(Freshness::of(Some(&old), now, Duration::MAX).state, Fresh);
    }

    #[test]
    fn settings_of_the_environment() {
        let seconds =
            |text| MetadataSettings::default().with_texts(text, None, None).interval.as_secs();
        for default in [None, Some(""), Some("0"), Some("-5"), Some("4h"), Some("1.5"), Some(" ")] {
            assert_eq!(seconds(default), 14_400, "{default:?}");
            let many = MetadataSettings::default().with_texts(None, default, default);
            assert_eq!(
                (many.concurrency.get(), many.warmup_concurrency.get()),
                (4, 4),
                "{default:?}"
            );
        }
        assert_eq!(seconds(Some("900")), 900);
        assert_eq!(seconds(Some(" 1 ")), 1);
        let many = MetadataSettings::default().with_texts(None, Some("1"), Some("16"));
        assert_eq!((many.concurrency.get(), many.warmup_concurrency.get()), (1, 16));
    }
}
