//! Time, as an argument.
//!
//! The core never asks the system for the time; whoever opens [`Agnes`](crate::Agnes)
//! hands in a [`Clock`]. A test hands in one that stands still.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

/// A moment in UTC, to the microsecond, as DuckDB's `TIMESTAMP` holds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01 00:00:00 UTC.
    pub const EPOCH: Timestamp = Timestamp(0);

    /// The name of the newtype that serde is told.
    pub const SERDE_NAME: &'static str = "agnes_core::Timestamp";

    /// The moment this many microseconds after 1970-01-01 00:00:00 UTC.
    pub fn from_micros(micros: i64) -> Self {
        Timestamp(micros)
    }

    /// Microseconds since 1970-01-01 00:00:00 UTC.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// The moment so much later.
    pub fn after(self, time: std::time::Duration) -> Self {
        Timestamp(self.0.saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The time since an earlier moment; none since a later one.
    pub fn since(self, earlier: Timestamp) -> std::time::Duration {
        let micros = self.0.saturating_sub(earlier.0);
        std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// Reads the form that `Display` writes, any other RFC 3339 time, and ISO 8601 times and days
    /// without an offset, which are in UTC.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Some(Timestamp(time.timestamp_micros()));
        }
        let forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M"];
        let time = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
        let day = || text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0);
        Some(Timestamp(time.or_else(day)?.and_utc().timestamp_micros()))
    }
}

/// RFC 3339 in UTC with whole seconds, as in `2026-10-01T06:00:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::Secs, true)),
            None => f.write_str("out of range"),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

/// RFC 3339 in UTC with microseconds, so that reading it back loses nothing. It is a newtype of the name
/// [`Timestamp::SERDE_NAME`], so that a language with a type of its own for times can give that.
impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match DateTime::<Utc>::from_timestamp_micros(self.0) {
            Some(time) => {
                let text = time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
                s.serialize_newtype_struct(Timestamp::SERDE_NAME, &text)
            }
            None => s.serialize_none(),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        Timestamp::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

/// Says what time it is.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    // The one place that may ask the system.
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// A clock that stands still, for tests.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_survives_json() {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "\"2023-11-14T22:13:20.123456Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
        assert_eq!(time.to_string(), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn a_time_without_an_offset_is_in_utc() {
        let noon = Timestamp::parse("2026-11-21T12:00:00Z");
        for text in [
            "2026-11-21T12:00:00",
            "2026-11-21 12:00:00.000",
            "2026-11-21T12:00",
            "2026-11-21T13:00:00+01:00",
            "2026-11-21 13:00:00.000000+01:00",
        ] {
            assert_eq!(Timestamp::parse(text), noon, "{text}");
        }
        assert_eq!(Timestamp::parse("2026-11-21"), Timestamp::parse("2026-11-21T00:00:00Z"));
        for text in ["", "noon", "2026-11-21T25:00:00", "2026-13-01", "1763726400"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
