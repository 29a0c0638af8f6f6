//! Numbers that are read as they are written, or not at all.
//!
//! DuckDB's own conversion rounds `1.5` to a whole number and takes `0x10` for one. To convert
//! back and compare costs more than the conversion, hence a function of our own in the engine.

use duckdb::Connection;
use duckdb::core::{DataChunkHandle, LogicalTypeId};
use duckdb::ffi::duckdb_string_t;
use duckdb::types::DuckString;
use duckdb::vscalar::{ScalarFunctionSignature, VScalar};
use duckdb::vtab::arrow::WritableVector;

use crate::sql::STRICT_INTEGER;
use crate::{Result, engine};

/// Makes [`STRICT_INTEGER`] known to an engine.
pub(super) fn register(connection: &Connection) -> Result<()> {
    connection
        .register_scalar_function::<StrictInteger>(STRICT_INTEGER)
        .map_err(|e| engine::error("open the engine", e))
}

/// Text to BIGINT; an error where the number would be written otherwise.
struct StrictInteger;

impl VScalar for StrictInteger {
    type State = ();

    fn invoke(
        _: &(),
        input: &mut DataChunkHandle,
        output: &mut dyn WritableVector,
    ) -> std::result::Result<(), Box<dyn std::error::Error>> {
        let rows = input.len();
        let texts = input.flat_vector(0);
        let mut numbers = output.flat_vector();
        // SAFETY: DuckDB gives as many texts as the chunk has rows and room for as many numbers,
        // of the types that `signatures` names; they are two vectors, and neither is kept.
        let (slots, results) = unsafe {
            (texts.as_slice_with_len::<duckdb_string_t>(rows), numbers.as_mut_slice_with_len(rows))
        };
        let mut nulls = Vec::new();
        for (row, (slot, result)) in slots.iter().zip(results).enumerate() {
            // What stands in the slot of a NULL is nothing.
            if texts.row_is_null(row as u64) {
                nulls.push(row);
                continue;
            }
            let mut slot = *slot;
            *result = parse(DuckString::new(&mut slot).as_bytes()).ok_or("no BIGINT")?;
        }
        nulls.into_iter().for_each(|row| numbers.set_null(row));
        Ok(())
    }

    fn signatures() -> Vec<ScalarFunctionSignature> {
        let (text, number) = (LogicalTypeId::Varchar.into(), LogicalTypeId::Bigint.into());
        vec![ScalarFunctionSignature::exact(vec![text], number)]
    }
}

/// The number that these bytes write, if it is written in just this way.
pub(super) fn parse(text: &[u8]) -> Option<i64> {
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
        let digit = i64::from(byte.wrapping_sub(b'0'));
        // Below zero there is room for one more.
        (digit < 10).then(|| number.checked_mul(10)?.checked_add(sign * digit)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exactly_what_is_written_back_the_same_is_a_number(text in "[-+]?[0-9]{0,20}[.eEx_ ]?[0-9]{0,2}") {
            let expected = text.parse::<i64>().ok().filter(|n| n.to_string() == text);
            prop_assert_eq!(parse(text.as_bytes()), expected);
        }

        #[test]
        fn every_number_is_read(number: i64) {
            prop_assert_eq!(parse(number.to_string().as_bytes()), Some(number));
        }
    }

    #[test]
    fn the_engine_knows_it() {
        let connection = Connection::open_in_memory().unwrap();
        register(&connection).unwrap();
        // Two tables are read by one engine.
        register(&connection).unwrap();
        let all = |texts: &str| -> std::result::Result<(i64, i64), duckdb::Error> {
            let sql =
                format!("SELECT sum({STRICT_INTEGER}(t)), count({STRICT_INTEGER}(t)) FROM {texts}");
            connection.query_row(&sql, [], |row| Ok((row.get::<_, i128>(0)? as i64, row.get(1)?)))
        };
        let many = "(SELECT CASE WHEN range % 3 > 0 THEN range::VARCHAR END AS t FROM range(9000))";
        assert_eq!(all(many).unwrap(), (27_000_000, 6_000));
        assert!(all("(VALUES ('1'), ('1.5')) v(t)").unwrap_err().to_string().contains("no BIGINT"));
    }
}
