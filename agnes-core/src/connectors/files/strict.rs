//! Values that are read as they are written, or not at all.
//!
//! DuckDB's own conversion rounds `1.5` to a whole number, takes `0x10` for one and keeps of a
//! time the date. To convert back and compare costs more than the conversion, hence functions
//! of our own in the engine.

use std::error::Error as StdError;
use std::marker::PhantomData;

use chrono::{Datelike, NaiveDate};
use duckdb::Connection;
use duckdb::core::{DataChunkHandle, LogicalTypeId};
use duckdb::ffi::duckdb_string_t;
use duckdb::types::DuckString;
use duckdb::vscalar::{ScalarFunctionSignature, VScalar};
use duckdb::vtab::arrow::WritableVector;

use crate::sql::{STRICT_DATE, STRICT_INTEGER, STRICT_SHAPE};
use crate::{Result, engine};

/// Makes [`STRICT_INTEGER`], [`STRICT_DATE`] and [`STRICT_SHAPE`] known to an engine.
pub(super) fn register(connection: &Connection) -> Result<()> {
    connection
        .register_scalar_function::<Reading<StrictInteger>>(STRICT_INTEGER)
        .and_then(|()| connection.register_scalar_function::<Reading<StrictDate>>(STRICT_DATE))
        .and_then(|()| connection.register_scalar_function::<HasShape>(STRICT_SHAPE))
        .map_err(|e| engine::error("open the engine", e))
}

/// A way of reading text that refuses what it would bend.
///
/// # Safety
/// Values of the type `KIND` are stored as `Value`.
unsafe trait Strict {
    type Value;
    const KIND: LogicalTypeId;
    /// What is said of another text.
    const REFUSAL: &'static str;

    fn parse(text: &[u8]) -> Option<Self::Value>;
}

/// Whole numbers; nothing where the number would be written otherwise.
struct StrictInteger;

// SAFETY: a BIGINT is stored as an i64.
unsafe impl Strict for StrictInteger {
    type Value = i64;
    const KIND: LogicalTypeId = LogicalTypeId::Bigint;
    const REFUSAL: &'static str = "no BIGINT";

    fn parse(text: &[u8]) -> Option<i64> {
        integer(text)
    }
}

/// Dates; nothing but `2026-01-31`.
struct StrictDate;

// SAFETY: a DATE is stored as an i32.
unsafe impl Strict for StrictDate {
    type Value = i32;
    const KIND: LogicalTypeId = LogicalTypeId::Date;
    const REFUSAL: &'static str = "no DATE";

    fn parse(text: &[u8]) -> Option<i32> {
        date(text)
    }
}

/// The function that reads text so.
struct Reading<S>(PhantomData<S>);

impl<S: Strict> VScalar for Reading<S> {
    type State = ();

    fn invoke(
        _: &(),
        input: &mut DataChunkHandle,
        output: &mut dyn WritableVector,
    ) -> Result<(), Box<dyn StdError>> {
        // SAFETY: the one argument is VARCHAR, and `Strict` vouches for the result.
        unsafe { convert(input, output, |text| S::parse(text).ok_or(S::REFUSAL)) }
    }

    fn signatures() -> Vec<ScalarFunctionSignature> {
        let (text, value) = (LogicalTypeId::Varchar.into(), S::KIND.into());
        vec![ScalarFunctionSignature::exact(vec![text], value)]
    }
}

/// Text and some shapes, each on a line and the same for all rows, to BOOLEAN: whether the text
/// has one of them.
struct HasShape;

impl VScalar for HasShape {
    type State = ();

    fn invoke(
        _: &(),
        input: &mut DataChunkHandle,
        output: &mut dyn WritableVector,
    ) -> Result<(), Box<dyn StdError>> {
        let shapes = input.flat_vector(1);
        // SAFETY: the second argument is VARCHAR, with as many rows as the first.
        let slots = unsafe { shapes.as_slice_with_len::<duckdb_string_t>(input.len()) };
        let wanted = match slots.first() {
            Some(slot) if !shapes.row_is_null(0) => {
                DuckString::new(&mut { *slot }).as_bytes().to_vec()
            }
            _ => Vec::new(),
        };
        // SAFETY: `signatures` says BOOLEAN, which is stored as a bool.
        unsafe {
            convert(input, output, |text| {
                let shape = shape(&String::from_utf8_lossy(text));
                Ok(wanted.split(|byte| *byte == b'\n').any(|wanted| wanted == shape.as_bytes()))
            })
        }
    }

    fn signatures() -> Vec<ScalarFunctionSignature> {
        let text = || LogicalTypeId::Varchar.into();
        vec![ScalarFunctionSignature::exact(vec![text(), text()], LogicalTypeId::Boolean.into())]
    }
}

/// Converts each text of a chunk.
///
/// # Safety
/// The function takes VARCHAR, and what it gives is stored as `T`.
unsafe fn convert<T>(
    input: &mut DataChunkHandle,
    output: &mut dyn WritableVector,
    parse: impl Fn(&[u8]) -> Result<T, &'static str>,
) -> Result<(), Box<dyn StdError>> {
    let rows = input.len();
    let texts = input.flat_vector(0);
    let mut values = output.flat_vector();
    // SAFETY: DuckDB gives as many texts as the chunk has rows and room for as many values, of
    // the types that the caller vouches for; they are two vectors, and neither slice is kept.
    let (slots, results) = unsafe {
        let slots = texts.as_slice_with_len::<duckdb_string_t>(rows);
        (slots, values.as_mut_slice_with_len::<T>(rows))
    };
    let mut nulls = Vec::new();
    for (row, (slot, result)) in slots.iter().zip(results).enumerate() {
        // What stands in the slot of a NULL is nothing.
        let mut slot = *slot;
        let text = match texts.row_is_null(row as u64) {
            true => &[],
            false => DuckString::new(&mut slot).as_bytes(),
        };
        match text {
            [] => nulls.push(row),
            text => *result = parse(text)?,
        }
    }
    nulls.into_iter().for_each(|row| values.set_null(row));
    Ok(())
}

/// The shape of a moment as it is written: one or two digits are `0`, four are `Y`, AM and PM are
/// `P`, parts of a second up to a microsecond are left out, all else stands for itself.
pub(super) fn shape(value: &str) -> String {
    let mut shape = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(first) = rest.chars().next() {
        let same = |c: &char| match first {
            '0'..='9' => c.is_ascii_digit(),
            _ if first.is_ascii_alphabetic() => c.is_ascii_alphabetic(),
            _ => false,
        };
        let length = rest.chars().take_while(same).map(char::len_utf8).sum::<usize>();
        let (run, after) = rest.split_at(length.max(first.len_utf8()));
        rest = after;
        match run.len() {
            1..=6 if first.is_ascii_digit() && shape.contains(':') && shape.ends_with('.') => {
                shape.pop();
            }
            1 | 2 if first.is_ascii_digit() => shape.push('0'),
            4 if first.is_ascii_digit() => shape.push('Y'),
            2 if run.eq_ignore_ascii_case("am") || run.eq_ignore_ascii_case("pm") => {
                shape.push('P')
            }
            _ => shape.push_str(run),
        }
    }
    shape
}

/// The number that these bytes write, if it is written in the usual way.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let (digits, sign) = match text.trim_ascii() {
        [b'-', digits @ ..] => (digits, -1),
        [b'+', digits @ ..] => (digits, 1),
        digits => (digits, 1),
    };
    match digits {
        [b'0'] => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    digits.iter().try_fold(0i64, |number, byte| {
        // Below zero there is room for one more.
        number.checked_mul(10)?.checked_add(sign * digit(*byte)?)
    })
}

/// The days since 1970 of a date that is written like `2026-01-31`.
pub(super) fn date(text: &[u8]) -> Option<i32> {
    const EPOCH: i32 = 719_163;
    let [a, b, c, d, b'-', e, f, b'-', g, h] = *text else { return None };
    let number =
        |bytes: &[u8]| bytes.iter().try_fold(0, |number, byte| Some(number * 10 + digit(*byte)?));
    let part = |bytes: &[u8]| u32::try_from(number(bytes)?).ok();
    let year = i32::try_from(number(&[a, b, c, d])?).ok()?;
    let day = NaiveDate::from_ymd_opt(year, part(&[e, f])?, part(&[g, h])?)?;
    Some(day.num_days_from_ce() - EPOCH)
}

fn digit(byte: u8) -> Option<i64> {
    byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Shaped, Written};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_is_what_loses_nothing(
            text in "[-+]?[0-9]{0,20}[.eEx_ ]?[0-9]{0,2}",
        ) {
            let plain = text.trim().trim_start_matches(['+', '-']);
            let usual = plain == "0" || !plain.starts_with('0');
            let expected = text.trim().parse::<i64>().ok().filter(|_| usual);
            prop_assert_eq!(integer(text.as_bytes()), expected);
        }

        #[test]
        fn every_number_is_read(number: i64) {
            prop_assert_eq!(integer(number.to_string().as_bytes()), Some(number));
        }

        #[test]
        fn nothing_else_is_a_date(text in "[0-9]{1,5}[-/ .][0-9]{1,2}[-/][0-9]{1,3}[ T]?[0-9:]{0,5}") {
            let form = |(at, byte): (usize, u8)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() };
            let usual = text.len() == 10 && text.bytes().enumerate().all(form);
            prop_assert!(usual || date(text.as_bytes()).is_none());
        }
    }

    proptest! {
        // Each case opens an engine.
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn dates_are_read_as_duckdb_reads_them(year in 0..10_000u32, month in 0..14u32, day in 0..33u32) {
            let text = format!("{year:04}-{month:02}-{day:02}");
            let connection = Connection::open_in_memory().unwrap();
            let sql = format!("SELECT TRY_CAST('{text}' AS DATE) - DATE '1970-01-01'");
            let expected: Option<i64> = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
            prop_assert_eq!(date(text.as_bytes()).map(i64::from), expected, "{}", text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// The sample, the conversion and the search for a mistake agree on what is usual.
        #[test]
        fn one_rule_holds_everywhere(
            value in "[ +-]?[0-9]{1,6}|[0-9]{2,4}[-/ ][0-9]{1,2}[-/][0-9]{1,4}([ T][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]{1,9})?)?(Z|[+]02| UTC)?)?",
        ) {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("t.csv");
            std::fs::write(&file, format!("v\n\"{value}\"\n")).unwrap();
            let connection = Connection::open_in_memory().unwrap();
            register(&connection).unwrap();
            let column = crate::ColumnName::parse("v").unwrap();
            let reader = crate::sql::Reader::new("read_csv", &file).unwrap().with("all_varchar", true).with("header", true);
            let shaped = |kind, text| Written::Shaped(Shaped { kind, shapes: vec![shape(text)], format: None });
            for (written, usual) in [
                (Written::Integer, integer(value.as_bytes()).is_some()),
                (Written::Date, date(value.as_bytes()).is_some()),
                (shaped("TIMESTAMP", "2026-01-02 03:04:05"), shape(&value) == "Y-0-0 0:0:0"),
                (shaped("DATE", "2026/01/02"), shape(&value) == "Y/0/0"),
            ] {
                let converts = reader.select_strictly(&[(&column, written.clone())]);
                let converted = connection
                    .query_row(&format!("SELECT count(v) FROM ({})", converts.as_str()), [], |row| row.get::<_, i64>(0));
                let find = reader.select_first_unlike(&column, &written, &[]);
                let found = connection.query_row(find.as_str(), [], |_| Ok(()));
                prop_assert_eq!(converted.is_ok(), found.is_err(), "{:?} {}", written, value);
                prop_assert!(usual || converted.is_err(), "{:?} {}", written, value);
            }
        }
    }

    #[test]
    fn moments_that_are_written_alike_have_one_shape() {
        for (a, b) in [
            ("1/31/2026", "12/1/2026"),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456Z"),
            ("01/02/2026 3:04:05 AM", "11/12/2026 12:04:05 pm"),
            ("10:00:00+02", "9:00:00+11"),
        ] {
            assert_eq!(shape(a), shape(b));
        }
        for (a, b) in [
            ("02.01.2026", "02.01.26"),
            ("10:00:00", "10:00:00+02"),
            ("10:00:00", "10:00:00.1234567"),
            ("2026-01-02", "infinity"),
            ("10:00:00", "2026-01-02 10:00:00"),
            ("2026-01-02 03:04:05 UTC", "2026-01-02 03:04:05+02"),
        ] {
            assert_ne!(shape(a), shape(b));
        }
    }

    #[test]
    fn the_engine_knows_them() {
        let connection = Connection::open_in_memory().unwrap();
        register(&connection).unwrap();
        // Two tables are read by one engine.
        register(&connection).unwrap();
        let ask = |sql: &str| -> std::result::Result<(i64, i64), duckdb::Error> {
            connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        let numbers = "SELECT sum(agnes_integer(t))::BIGINT, count(agnes_integer(t)) FROM
            (SELECT CASE WHEN range % 3 > 0 THEN range::VARCHAR END AS t FROM range(9000))";
        assert_eq!(ask(numbers).unwrap(), (27_000_000, 6_000));
        let days = "SELECT count(*) FILTER (agnes_date(t) = d), count(agnes_date(t)) FROM
            (SELECT DATE '1900-01-01' + range::INT AS d,
               CASE WHEN range % 3 > 0 THEN d::VARCHAR END AS t FROM range(90000))";
        assert_eq!(ask(days).unwrap(), (60_000, 60_000));
        for (function, value) in [("agnes_integer", "1.5"), ("agnes_date", "2026-01-02 10:00")] {
            let error = ask(&format!("SELECT {function}('{value}'), 1")).unwrap_err();
            assert!(error.to_string().contains("Error: no "), "{error}");
        }
    }
}
