//! Values that are read as they are written, or not at all.
//!
//! DuckDB's own conversion rounds `1.5` to a whole number, takes `0x10` for one and keeps of a
//! time the date. To convert back and compare costs more than the conversion, hence functions
//! of our own in the engine.

use std::error::Error as StdError;

use chrono::{Datelike, NaiveDate};
use duckdb::Connection;
use duckdb::core::{DataChunkHandle, LogicalTypeId};
use duckdb::ffi::duckdb_string_t;
use duckdb::types::DuckString;
use duckdb::vscalar::{ScalarFunctionSignature, VScalar};
use duckdb::vtab::arrow::WritableVector;

use crate::sql::{STRICT_DATE, STRICT_INTEGER};
use crate::{Result, engine};

/// Makes [`STRICT_INTEGER`] and [`STRICT_DATE`] known to an engine.
pub(super) fn register(connection: &Connection) -> Result<()> {
    connection
        .register_scalar_function::<StrictInteger>(STRICT_INTEGER)
        .and_then(|()| connection.register_scalar_function::<StrictDate>(STRICT_DATE))
        .map_err(|e| engine::error("open the engine", e))
}

/// Text to BIGINT; an error where the number would be written otherwise.
struct StrictInteger;

/// Text to DATE; an error for anything but `2026-01-31`.
struct StrictDate;

impl VScalar for StrictInteger {
    type State = ();

    fn invoke(
        _: &(),
        input: &mut DataChunkHandle,
        output: &mut dyn WritableVector,
    ) -> Result<(), Box<dyn StdError>> {
        // SAFETY: `signatures` says BIGINT, which is an i64.
        unsafe { convert(input, output, |text| integer(text).ok_or("no BIGINT")) }
    }

    fn signatures() -> Vec<ScalarFunctionSignature> {
        from_text(LogicalTypeId::Bigint)
    }
}

impl VScalar for StrictDate {
    type State = ();

    fn invoke(
        _: &(),
        input: &mut DataChunkHandle,
        output: &mut dyn WritableVector,
    ) -> Result<(), Box<dyn StdError>> {
        // SAFETY: `signatures` says DATE, which is an i32.
        unsafe { convert(input, output, |text| date(text).ok_or("no DATE")) }
    }

    fn signatures() -> Vec<ScalarFunctionSignature> {
        from_text(LogicalTypeId::Date)
    }
}

fn from_text(to: LogicalTypeId) -> Vec<ScalarFunctionSignature> {
    vec![ScalarFunctionSignature::exact(vec![LogicalTypeId::Varchar.into()], to.into())]
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
        if texts.row_is_null(row as u64) {
            nulls.push(row);
            continue;
        }
        let mut slot = *slot;
        *result = parse(DuckString::new(&mut slot).as_bytes())?;
    }
    nulls.into_iter().for_each(|row| values.set_null(row));
    Ok(())
}

/// The number that these bytes write, if it is written in just this way.
fn integer(text: &[u8]) -> Option<i64> {
    let (digits, sign) = match text {
        [b'-', digits @ ..] => (digits, -1),
        digits => (digits, 1),
    };
    match digits {
        [b'0'] if sign == 1 => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    digits.iter().try_fold(0i64, |number, byte| {
        // Below zero there is room for one more.
        number.checked_mul(10)?.checked_add(sign * digit(*byte)?)
    })
}

/// The days since 1970 of a date that is written like `2026-01-31`.
fn date(text: &[u8]) -> Option<i32> {
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
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exactly_what_is_written_back_the_same_is_a_number(
            text in "[-+]?[0-9]{0,20}[.eEx_ ]?[0-9]{0,2}",
        ) {
            let expected = text.parse::<i64>().ok().filter(|n| n.to_string() == text);
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
