//! When a table or a source is brought over.
//!
//! A [`Schedule`] is text that was checked. [`Schedule::is_due`] and [`Schedule::next_due`] are
//! functions of the last sync and the present moment, nothing else: whoever runs schedules asks
//! again and again, and remembers nothing but when the last sync succeeded. [`verdict`] answers the
//! same for texts that nobody has checked.
//!
//! | form | when |
//! |---|---|
//! | `every 15m`, `every 2h` | so long after the last sync; `every 0m` always |
//! | `daily 07:00`, `daily 07:00,13:00` | once after each of these times of a day |
//! | `cron 30 6 * * MON-FRI` | once after each moment that the expression matches |
//!
//! Times are in UTC, or in the zone of the IANA database whose name follows, as in `daily 07:00
//! Europe/Prague`. A time that a zone leaves out comes when its clocks have moved forward; of a
//! time that comes twice the first one counts.
//!
//! A time of `daily` that was missed is made up until the end of its day and not later, as clients
//! know it; one of `cron` is made up whenever it is.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use crate::{Error, Kind, Result, Timestamp};

/// When: `every 15m`, `daily 07:00,13:00`, `cron 30 6 * * MON-FRI`; the last two with an optional
/// time zone.
///
/// Invariants: at most 256 bytes; `every` and `daily` in lower case with one blank and no seconds;
/// a number of at most six digits; every time a valid one; a cron expression of five fields that
/// comes to pass. It keeps its spelling, by which two of them are the same.
///
/// ```
/// use agnes_core::{Schedule, Timestamp};
/// let schedule = Schedule::parse("daily 07:00,13:00 Europe/Prague")?;
/// let at = |text| Timestamp::parse(text).unwrap();
/// let last = Some(at("2026-11-20T06:30:00Z"));
/// assert!(!schedule.is_due(last, at("2026-11-20T11:59:59Z")));
/// assert!(schedule.is_due(last, at("2026-11-20T12:00:00Z")));
/// assert!(Schedule::parse("daily 25:00").is_err());
/// # Ok::<(), agnes_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Schedule {
    text: String,
    form: Form,
}

#[derive(Clone)]
enum Form {
    /// So many minutes after the last one.
    Every(u32),
    Daily {
        times: Vec<NaiveTime>,
        zone: Tz,
    },
    Cron {
        cron: Box<Cron>,
        zone: Tz,
    },
}

/// The longest text, bytes.
const TEXT_MAX: usize = 256;

impl Schedule {
    /// Takes a text for one.
    ///
    /// # Errors
    /// `Invalid` for any other text, saying which part is wrong.
    pub fn parse(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let form = match text.len() {
            0..=TEXT_MAX => form(&text),
            _ => Err(format!("it is longer than {TEXT_MAX} bytes")),
        };
        match form {
            Ok(form) => Ok(Schedule { text, form }),
            Err(fault) => Err(Error::new(
                Kind::Invalid,
                format!(
                    "`{}` is no schedule: {fault}; write `every 15m`, `every 2h`, `daily \
                     07:00,13:00` or `cron 30 6 * * MON-FRI`",
                    crate::name::shown(&text)
                ),
            )),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a sync is due: at once where there was none yet.
    pub fn is_due(&self, last: Option<Timestamp>, now: Timestamp) -> bool {
        let Some(last) = last else { return true };
        match &self.form {
            Form::Every(minutes) => now >= later(last, *minutes),
            // Today's times, and no other day's.
            Form::Daily { times, zone } => in_zone(now, *zone).is_some_and(|here| {
                let today = here.date_naive();
                let mut moments =
                    times.iter().filter_map(|time| moment(today.and_time(*time), *zone));
                moments.any(|at| last < at && at <= now)
            }),
            Form::Cron { cron, zone } => {
                occurrence(cron, *zone, last, false).is_some_and(|at| at <= now)
            }
        }
    }

    /// The first moment from now on at which a sync is due; none where that is farther away than
    /// the calendar goes.
    pub fn next_due(&self, last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        if self.is_due(last, now) {
            return Some(now);
        }
        let last = last?;
        match &self.form {
            Form::Every(minutes) => Some(later(last, *minutes)),
            Form::Daily { times, zone } => {
                let from = in_zone(now.max(last), *zone)?.date_naive();
                let days = (0..=2).filter_map(|days| from.checked_add_days(Days::new(days)));
                let moments = |day: NaiveDate| {
                    times.iter().filter_map(move |time| moment(day.and_time(*time), *zone))
                };
                days.flat_map(moments).filter(|at| *at > last && *at >= now).min()
            }
            Form::Cron { cron, zone } => match last < now {
                true => occurrence(cron, *zone, now, true),
                false => occurrence(cron, *zone, last, false),
            },
        }
    }
}

/// What a text says that nobody has checked, as older clients ask it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Whether it is a schedule.
    pub valid: bool,
    /// Whether a sync is due.
    pub due: bool,
    /// The first moment from now on at which one is.
    pub next: Option<Timestamp>,
    /// What is wrong with the schedule, or with the time of the last sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Whether a text is a schedule, and whether a sync is due by it.
///
/// What is no schedule is never due. A last sync whose time can't be read counts as none; one
/// without an offset is in UTC.
///
/// ```
/// use agnes_core::{Timestamp, schedule};
/// let now = Timestamp::parse("2026-11-20T12:00:00Z").unwrap();
/// let verdict = schedule::verdict(Some("every 1h"), Some("2026-11-20T11:30:00"), now);
/// assert!(verdict.valid && !verdict.due);
/// assert_eq!(verdict.next, Timestamp::parse("2026-11-20T12:30:00Z"));
/// assert!(!schedule::verdict(Some("hourly"), None, now).valid);
/// ```
pub fn verdict(schedule: Option<&str>, last: Option<&str>, now: Timestamp) -> Verdict {
    let schedule = match Schedule::parse(schedule.unwrap_or_default()) {
        Ok(schedule) => schedule,
        Err(error) => {
            let fault = Some(error.message().to_string());
            return Verdict { valid: false, due: false, next: None, fault };
        }
    };
    let given = last.filter(|text| !text.is_empty());
    let last = given.and_then(Timestamp::parse);
    let fault = given.filter(|_| last.is_none()).map(|text| {
        format!("`{}` is no time, so that nothing counts as synced", crate::name::shown(text))
    });
    Verdict {
        valid: true,
        due: schedule.is_due(last, now),
        next: schedule.next_due(last, now),
        fault,
    }
}

fn form(text: &str) -> std::result::Result<Form, String> {
    let digits = |text: &str, many: std::ops::RangeInclusive<usize>| {
        many.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if let Some(every) = text.strip_prefix("every ") {
        let number = every.strip_suffix(['m', 'h']).filter(|number| digits(number, 1..=6));
        let number = number.and_then(|number| number.parse::<u32>().ok()).ok_or_else(|| {
            "after `every` comes a number of one to six digits with `m` or `h`".to_string()
        })?;
        return Ok(Form::Every(if every.ends_with('h') { number * 60 } else { number }));
    }
    if let Some(daily) = text.strip_prefix("daily ") {
        let (times, zone) = match daily.split_once(' ') {
            Some((times, name)) => (times, zone(name)?),
            None => (daily, Tz::UTC),
        };
        let time = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let part = |text: &str| digits(text, 2..=2).then(|| text.parse().ok()).flatten();
            NaiveTime::from_hms_opt(part(hour)?, part(minute)?, 0)
        };
        let times: Option<Vec<NaiveTime>> = times.split(',').map(time).collect();
        let times = times.ok_or("after `daily` come times as in `07:00`, with commas alone")?;
        return Ok(Form::Daily { times, zone });
    }
    if let Some(expression) = text.strip_prefix("cron ") {
        let fields: Vec<&str> = expression.split(' ').collect();
        let (fields, zone) = match fields.as_slice() {
            [fields @ .., name] if fields.len() == 5 => (fields, zone(name)?),
            fields => (fields, Tz::UTC),
        };
        if fields.len() != 5 || fields.iter().any(|field| field.is_empty()) {
            return Err(
                "after `cron` come five fields with one blank between them: minute, hour, \
                        day of month, month, day of week"
                    .to_string(),
            );
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
        let cron = parser.build().parse(&fields.join(" ")).map_err(|error| {
            let told = error.to_string();
            crate::name::shown(told.trim_end_matches('.')).to_string()
        })?;
        let form = Form::Cron { cron: Box::new(cron), zone };
        return match &form {
            Form::Cron { cron, zone }
                if occurrence(cron, *zone, Timestamp::EPOCH, true).is_none() =>
            {
                Err("such a moment never comes".to_string())
            }
            _ => Ok(form),
        };
    }
    Err("it begins with `every `, `daily ` or `cron `".to_string())
}

fn zone(name: &str) -> std::result::Result<Tz, String> {
    name.parse().map_err(|_| {
        let near = crate::name::nearest(name, chrono_tz::TZ_VARIANTS.iter().map(|tz| tz.name()));
        let cure = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
        format!("`{}` is no time zone{cure}", crate::name::shown(name))
    })
}

fn later(at: Timestamp, minutes: u32) -> Timestamp {
    at.after(std::time::Duration::from_secs(u64::from(minutes) * 60))
}

fn in_zone(at: Timestamp, zone: Tz) -> Option<DateTime<Tz>> {
    Some(DateTime::<Utc>::from_timestamp_micros(at.as_micros())?.with_timezone(&zone))
}

/// The moment at which the clocks of a zone show this, or would show it if they hadn't moved
/// forward over it. None for a day that a zone has left out.
fn moment(local: NaiveDateTime, zone: Tz) -> Option<Timestamp> {
    let minutes = (0..24 * 60).filter_map(|on| local.checked_add_signed(TimeDelta::minutes(on)));
    let of_that_day = minutes.take_while(|time| time.date() == local.date());
    let at = of_that_day.filter_map(|time| zone.from_local_datetime(&time).earliest()).next()?;
    Some(Timestamp::from_micros(at.timestamp_micros()))
}

fn occurrence(cron: &Cron, zone: Tz, from: Timestamp, inclusive: bool) -> Option<Timestamp> {
    let at = cron.find_next_occurrence(&in_zone(from, zone)?, inclusive).ok()?;
    Some(Timestamp::from_micros(at.timestamp_micros()))
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Schedule::parse(text)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({})", self.text)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Schedule {}

impl std::hash::Hash for Schedule {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl serde::Serialize for Schedule {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for Schedule {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        Schedule::parse(text).map_err(|error| serde::de::Error::custom(error.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whenever it says that a sync is due next, one is due then and not a moment before.
    #[test]
    fn the_next_moment_is_the_first_at_which_it_is_due() {
        let schedules = [
            "every 0m",
            "every 7m",
            "every 999999h",
            "daily 00:00,23:59",
            "daily 02:30 Europe/Prague",
            "daily 00:30,12:00 Pacific/Apia",
            "daily 01:30 America/New_York",
            "cron */20 * * * *",
            "cron 30 2 * * * Europe/Prague",
            "cron 0 0 29 2 *",
            "cron 0 9 * * MON#1 Australia/Lord_Howe",
        ];
        let hour = 3_600_000_000;
        // Around the days when clocks move, the day that Samoa left out, and far away.
        for around in [
            "2026-03-29T00:00:00Z",
            "2026-10-25T00:00:00Z",
            "2011-12-30T10:00:00Z",
            "2024-02-29T00:00:00Z",
        ] {
            let around = Timestamp::parse(around).unwrap().as_micros();
            for schedule in schedules {
                let schedule = Schedule::parse(schedule).unwrap();
                for step in -60..60 {
                    let now = Timestamp::from_micros(around + step * hour / 2);
                    for ago in [0, 1, 30, 90, 60 * 24, 60 * 50] {
                        let last = Some(Timestamp::from_micros(now.as_micros() - ago * hour / 60));
                        let next = schedule.next_due(last, now).unwrap();
                        assert!(
                            next >= now && schedule.is_due(last, next),
                            "{schedule:?} {last:?} {now:?} {next:?}"
                        );
                        if next > now {
                            let before = Timestamp::from_micros(next.as_micros() - 1);
                            assert!(
                                !schedule.is_due(last, before),
                                "{schedule:?} {last:?} {before:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn times_beyond_the_calendar_are_no_panic() {
        for schedule in ["every 999999h", "daily 07:00 Asia/Tokyo", "cron 0 0 1 1 *"] {
            let schedule = Schedule::parse(schedule).unwrap();
            for at in [i64::MIN, i64::MIN / 2, 0, i64::MAX / 2, i64::MAX] {
                for now in [i64::MIN, 0, 1_700_000_000_000_000, i64::MAX] {
                    let (last, now) =
                        (Some(Timestamp::from_micros(at)), Timestamp::from_micros(now));
                    schedule.is_due(last, now);
                    schedule.next_due(last, now);
                }
            }
        }
    }

    #[test]
    fn a_fault_is_told_with_its_part() {
        for (text, part) in [
            ("hourly", "begins with"),
            ("every 5 m", "six digits"),
            ("daily 7:00", "07:00"),
            ("daily 07:00 Europe/Pragu", "Europe/Prague"),
            ("cron * * * *", "five fields"),
            ("cron 0 0 30 2 *", "never comes"),
            ("cron 61 * * * *", "cron"),
        ] {
            let error = Schedule::parse(text).unwrap_err();
            assert!(error.message().contains(part), "{error}");
        }
    }
}
