//! When a table is brought over.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Kind, Result};

/// When: `every 15m`, `every 2h`, or at times of a day in UTC, `daily 07:00` and
/// `daily 07:00,13:00`.
///
/// Invariants: lower case, one blank, no seconds, days, weeks or zones, a number of at most six
/// digits, every time a valid one. It keeps its spelling.
///
/// ```
/// use agnes_core::Schedule;
/// assert_eq!(Schedule::parse("daily 07:00,13:00")?.as_str(), "daily 07:00,13:00");
/// assert!(Schedule::parse("daily 25:00").is_err());
/// # Ok::<(), agnes_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Schedule(String);

impl Schedule {
    /// Takes a text for one.
    ///
    /// # Errors
    /// `Invalid` for any other text.
    pub fn parse(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        match says_when(&text) {
            true => Ok(Schedule(text)),
            false => Err(Error::new(
                Kind::Invalid,
                format!(
                    "a schedule is `every 15m`, `every 2h`, `daily 07:00` or `daily 07:00,13:00` \
                     (UTC), not `{}`",
                    crate::name::shown(&text)
                ),
            )),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Schedule::parse(text)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn says_when(text: &str) -> bool {
    let digits = |text: &str, many: std::ops::RangeInclusive<usize>| {
        many.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if let Some(every) = text.strip_prefix("every ") {
        let number = every.strip_suffix(['m', 'h']);
        return number.is_some_and(|number| digits(number, 1..=6));
    }
    let is_time = |time: &str| {
        let part = |text: &str, end: u8| {
            digits(text, 2..=2) && text.parse::<u8>().is_ok_and(|number| number < end)
        };
        time.split_once(':').is_some_and(|(hour, minute)| part(hour, 24) && part(minute, 60))
    };
    text.strip_prefix("daily ").is_some_and(|times| times.split(',').all(is_time))
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn schedules() {
        for good in ["every 0m", "every 15m", "every 2h", "daily 07:00", "daily 00:00,23:59"] {
            assert!(Schedule::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "bogus",
            "every 15",
            "every m",
            "every  5m",
            "Every 5m",
            "every 5m ",
            "every -5m",
            "every 9999999m",
            "daily",
            "daily ",
            "daily 25:00",
            "daily 07:60",
            "daily 7:00",
            "daily 07:00, 13:00",
            "daily 07:00,",
            "daily 07:00:00",
            "0 7 * * *",
        ] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }
}
