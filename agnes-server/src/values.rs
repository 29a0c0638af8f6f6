//! Values as text: as Arrow writes them, with the times that it has no text for.

use agnes_core::arrow::array::{Array, AsArray};
use agnes_core::arrow::datatypes::{
    DataType, Date32Type, Field, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use agnes_core::arrow::error::ArrowError;
use agnes_core::arrow::util::display::{
    ArrayFormatter, ArrayFormatterFactory, DisplayIndex, FormatError, FormatOptions, FormatResult,
};

/// How the values of an array are written, also those within others. NULL is `NULL`.
pub(crate) fn formatter(array: &dyn Array) -> Result<ArrayFormatter<'_>, ArrowError> {
    match Times.create_array_formatter(array, &OPTIONS, None)? {
        Some(formatter) => Ok(formatter),
        None => ArrayFormatter::try_new(array, &OPTIONS),
    }
}

static OPTIONS: FormatOptions<'static> =
    FormatOptions::new().with_null("NULL").with_formatter_factory(Some(&Times));

/// DuckDB has `infinity`, `24:00:00` and years up to 5,877,641; Arrow's text ends at 262,142.
#[derive(Debug)]
struct Times;

impl ArrayFormatterFactory for Times {
    fn create_array_formatter<'f>(
        &self,
        array: &'f dyn Array,
        options: &FormatOptions<'f>,
        _: Option<&'f Field>,
    ) -> Result<Option<ArrayFormatter<'f>>, ArrowError> {
        match array.data_type() {
            DataType::Date32 | DataType::Timestamp(..) | DataType::Time64(_) => {
                let usual = ArrayFormatter::try_new(array, options)?;
                Ok(Some(ArrayFormatter::new(Box::new(Far { array, usual }), options.safe())))
            }
            _ => Ok(None),
        }
    }
}

struct Far<'a> {
    array: &'a dyn Array,
    usual: ArrayFormatter<'a>,
}

impl DisplayIndex for Far<'_> {
    fn write(&self, at: usize, f: &mut dyn std::fmt::Write) -> FormatResult {
        match self.array.is_valid(at).then(|| far(self.array, at)).flatten() {
            Some(text) => f.write_str(&text).map_err(FormatError::Format),
            None => self.usual.value(at).write(f).map_err(FormatError::Arrow),
        }
    }
}

const DAY: i64 = 86_400;

/// What Arrow has no text for.
fn far(array: &dyn Array, at: usize) -> Option<String> {
    let (value, most, in_a_second) = match array.data_type() {
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(at);
            return infinite(i64::from(days), i64::from(i32::MAX)).or_else(|| date(days.into()));
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            let micros = array.as_primitive::<Time64MicrosecondType>().value(at);
            return (micros == DAY * 1_000_000).then(|| "24:00:00".to_string());
        }
        DataType::Time64(_) => {
            let nanos = array.as_primitive::<Time64NanosecondType>().value(at);
            return (nanos == DAY * 1_000_000_000).then(|| "24:00:00".to_string());
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            (array.as_primitive::<TimestampSecondType>().value(at), i64::MAX, 1)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            (array.as_primitive::<TimestampMillisecondType>().value(at), i64::MAX, 1_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            (array.as_primitive::<TimestampMicrosecondType>().value(at), i64::MAX, 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            (array.as_primitive::<TimestampNanosecondType>().value(at), i64::MAX, 1_000_000_000)
        }
        _ => return None,
    };
    infinite(value, most).or_else(|| {
        let seconds = value.div_euclid(in_a_second);
        let date = date(seconds.div_euclid(DAY))?;
        let (second, rest) = (seconds.rem_euclid(DAY), value.rem_euclid(in_a_second));
        let micros = rest * (1_000_000 / in_a_second.min(1_000_000));
        let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        Some(format!("{date}T{hour:02}:{minute:02}:{second:02}{fraction}"))
    })
}

fn infinite(value: i64, most: i64) -> Option<String> {
    match value {
        value if value == most => Some("infinity".to_string()),
        value if value == -most => Some("-infinity".to_string()),
        _ => None,
    }
}

/// A day since 1970 that Arrow has no text for, in the Gregorian calendar as far as it goes; years
/// before the first as DuckDB writes them.
fn date(days: i64) -> Option<String> {
    const NEAR: std::ops::RangeInclusive<i64> = -95_000_000..=95_000_000;
    if NEAR.contains(&days) {
        return None;
    }
    // Years begin in March, so that a leap day is the last of its year; 400 years repeat.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    Some(match year > 0 {
        true => format!("{year:04}-{month:02}-{day:02}"),
        false => format!("{:04}-{month:02}-{day:02} (BC)", 1 - year),
    })
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn far_days_are_those_of_duckdb() {
        // `SELECT DATE '5877642-06-25 (BC)' - DATE '1970-01-01'` and its like.
        for (days, text) in [
            (95_026_601, "262143-12-31"),
            (2_147_483_646, "5881580-07-10"),
            (-2_147_483_646, "5877642-06-25 (BC)"),
            (-96_465_658, "262145-01-01 (BC)"),
        ] {
            assert_eq!(date(days).as_deref(), Some(text), "{days}");
        }
        assert_eq!(date(0), None);
    }
}
