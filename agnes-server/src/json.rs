//! JSON for what it has no form for: numbers that are none, keys that are no text, times.

mod longest;

use std::io::Write;
use std::sync::Arc;

use agnes_core::arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use agnes_core::arrow::datatypes::{
    ArrowPrimitiveType, DataType, FieldRef, Float32Type, Float64Type,
};
use agnes_core::arrow::error::ArrowError;
use agnes_core::arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, JsonArray, NullableEncoder, WriterBuilder,
    make_encoder,
};
use agnes_core::arrow::util::display::ArrayFormatter;

use serde_json::value::RawValue;

use crate::values;
use longest::longest;

/// The most bytes of rows in one answer: half of what a user may have the server hold.
pub(crate) const MOST: usize = 128 << 20;

/// Writes NaN and the infinities as text, as the JSON form of Protocol Buffers does, and the keys
/// of a MAP, times and the values of a UNION as text, too. Arrow writes null or a message, or fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoders {
    /// Numbers that are none are texts, so that they can be told apart.
    Texts,
    /// Numbers with places are texts, too: most readers of JSON would round them.
    Exact,
    /// Numbers that are none are null.
    Nulls,
}

impl EncoderFactory for Encoders {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Float32 => Box::new(Floats(array.as_primitive::<Float32Type>(), *self)),
            DataType::Float64 => Box::new(Floats(array.as_primitive::<Float64Type>(), *self)),
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else { return Ok(None) };
                let [_, values] = fields.as_ref() else { return Ok(None) };
                let map = array.as_map();
                Box::new(Maps {
                    offsets: map.value_offsets(),
                    keys: values::formatter(map.keys())?,
                    values: make_encoder(values, map.values(), options)?,
                })
            }
            DataType::Decimal32(_, places)
            | DataType::Decimal64(_, places)
            | DataType::Decimal128(_, places)
            | DataType::Decimal256(_, places)
                if *self == Encoders::Exact && *places > 0 =>
            {
                Box::new(Texts(values::formatter(array)?))
            }
            DataType::Union(..) => Box::new(Texts(values::formatter(array)?)),
            kind if kind.is_temporal() => Box::new(Texts(values::formatter(array)?)),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct Texts<'a>(ArrayFormatter<'a>);

impl Encoder for Texts<'_> {
    fn encode(&mut self, at: usize, out: &mut Vec<u8>) {
        put(&self.0.value(at).to_string(), out);
    }
}

struct Floats<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>, Encoders);

impl<T: ArrowPrimitiveType<Native: Into<f64> + serde::Serialize>> Encoder for Floats<'_, T> {
    fn encode(&mut self, at: usize, out: &mut Vec<u8>) {
        let value = self.0.value(at);
        let text = match value.into() {
            number if self.1 == Encoders::Nulls && !number.is_finite() => "null",
            number if number.is_nan() => "\"NaN\"",
            f64::INFINITY => "\"Infinity\"",
            f64::NEG_INFINITY => "\"-Infinity\"",
            _ => return put(&value, out),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

struct Maps<'a> {
    offsets: &'a [i32],
    keys: ArrayFormatter<'a>,
    values: NullableEncoder<'a>,
}

impl Encoder for Maps<'_> {
    fn encode(&mut self, at: usize, out: &mut Vec<u8>) {
        let end = |at: usize| self.offsets.get(at).and_then(|end| usize::try_from(*end).ok());
        let entries = end(at).unwrap_or(0)..end(at + 1).unwrap_or(0);
        out.push(b'{');
        let begin = entries.start;
        for entry in entries {
            if entry > begin {
                out.push(b',');
            }
            put(&self.keys.value(entry).to_string(), out);
            out.push(b':');
            match self.values.is_null(entry) {
                true => out.extend_from_slice(b"null"),
                false => self.values.encode(entry, out),
            }
        }
        out.push(b'}');
    }
}

fn put(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    // Neither a number nor a text can fail, nor a vector that is written to.
    let _ = serde_json::to_writer(out.by_ref(), value);
}

/// Writes the rows of a batch, each as an array of its values, with commas between them, as long as
/// there are no more bytes than `most`. Gives how many rows these are.
pub(crate) fn rows(
    batch: &RecordBatch,
    out: &mut Vec<u8>,
    most: usize,
) -> Result<usize, ArrowError> {
    let all: usize = longest_rows(batch, 0, batch.num_rows());
    let fit = |out: &Vec<u8>, bytes: usize| out.len().saturating_add(bytes) <= most;
    let all_fit = fit(out, all);
    let options = EncoderOptions::default().with_encoder_factory(Arc::new(Encoders::Exact));
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let mut columns = columns
        .map(|(field, column)| make_encoder(field, column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()?;
    for row in 0..batch.num_rows() {
        if !all_fit && !fit(out, longest_rows(batch, row, 1)) {
            return Ok(row);
        }
        if row > 0 {
            out.push(b',');
        }
        out.push(b'[');
        for (at, column) in columns.iter_mut().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            match column.is_null(row) {
                true => out.extend_from_slice(b"null"),
                false => column.encode(row, out),
            }
        }
        out.push(b']');
    }
    Ok(batch.num_rows())
}

/// The most bytes that some rows of a batch take, each as an array.
fn longest_rows(batch: &RecordBatch, begin: usize, count: usize) -> usize {
    let columns = batch.columns().iter().map(|column| longest(&column.slice(begin, count)));
    columns.fold(count.saturating_mul(3), usize::saturating_add)
}

/// The most bytes that the rows of some batches take, each as an object.
pub(crate) fn longest_objects(batches: &[RecordBatch]) -> usize {
    let of = |batch: &RecordBatch| {
        let names: usize = batch.schema_ref().fields().iter().map(longest::name).sum();
        let names = names.saturating_mul(batch.num_rows());
        longest_rows(batch, 0, batch.num_rows()).saturating_add(names)
    };
    batches.iter().map(of).fold(0, usize::saturating_add)
}

/// The rows of some batches, each as an object. Numbers that are none are null.
pub(crate) fn objects(batches: &[RecordBatch]) -> Result<Box<RawValue>, ArrowError> {
    let builder = WriterBuilder::new()
        .with_explicit_nulls(true)
        .with_encoder_factory(Arc::new(Encoders::Nulls));
    let mut writer = builder.build::<_, JsonArray>(Vec::new());
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()?;
    // As text, so that the columns keep their order.
    let text = String::from_utf8(writer.into_inner()).unwrap_or_default();
    let text = if text.is_empty() { "[]".to_string() } else { text };
    RawValue::from_string(text).map_err(|e| ArrowError::ExternalError(Box::new(e)))
}

#[cfg(test)]
mod tests {
    use agnes_core::Agnes;
    use agnes_core::query::QueryOptions;

    use super::*;

    #[test]
    fn nothing_gets_longer_than_it_was_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let session = Agnes::open(dir.path()).unwrap().session().unwrap();
        for of in [
            "NULL",
            "true",
            "-9223372036854775808 + i",
            "(-128)::TINYINT",
            "255::UTINYINT",
            "(-32768)::SMALLINT",
            "(-2147483648)::INTEGER",
            "18446744073709551615::UBIGINT",
            "-2.2250738585072014e-308::DOUBLE",
            "(-1.1754944e-38)::FLOAT",
            "(-0.000001)::DECIMAL(7, 6)",
            "(-0.5)::DECIMAL(1, 1)",
            "[-0.99::DECIMAL(2, 2), NULL]",
            "[false, NULL, true]",
            "TIMESTAMPTZ '290308-12-22 (BC) 00:00:00+00'",
            "TIMESTAMP_NS '1677-09-22 00:00:00.123456789'",
            "TIMETZ '23:59:59.999999-15:59:59'",
            "(-170141183460469231731687303715884105727)::HUGEINT",
            "-1.7976931348623157e308::DOUBLE",
            "'nan'::FLOAT",
            "repeat(chr(1), i)",
            "'ž\"' || i",
            "'\\x00'::BLOB",
            "'101'::BIT",
            "(-99999999999999999999999999999999.999999)::DECIMAL(38, 6)",
            "'290308-12-22 (BC)'::DATE",
            "'290308-12-22 (BC) 00:00:00'::TIMESTAMP",
            "now()",
            "TIME '23:59:59.999999'",
            "INTERVAL '-1000 years -11 months -1000 days -23:59:59.999999'",
            "gen_random_uuid()",
            "CASE WHEN i % 3 > 0 THEN [i, NULL] END",
            "[[], NULL, ['a\"'], [chr(1)]]",
            "[i, i, i]::INTEGER[3]",
            "{'a \"long\" name': i, 'another': {'deep': [{'name': chr(2)}]}}",
            "MAP {'a \"key\"': i, chr(1): NULL}",
            "MAP {DATE '2026-01-01': [1], DATE '2026-01-02': []}",
            "CASE WHEN i > 5 THEN union_value(number := i)::UNION(number BIGINT, \"a text\" VARCHAR) END",
            "['x', 'y\"', chr(1) || 'long']::ENUM('x', 'y\"', '\u{1}long')[]",
            "CASE WHEN i > 5 THEN 'y\"'::ENUM('x', 'y\"') END",
            "union_value(list := [NULL, NULL, NULL, i::VARCHAR, NULL])",
            "MAP {[NULL, NULL, NULL, NULL, NULL, NULL]: '\\'}",
            "{'b': '\\x00\"'::BLOB, 't': 'plain text'}",
        ] {
            let text = format!("SELECT {of} AS v FROM range(20) t(i) OFFSET 3");
            let read = session.query(&text, &QueryOptions::default()).unwrap().read_all();
            for batch in read.unwrap().batches {
                let mut out = Vec::new();
                for at in 0..batch.num_rows() {
                    out.clear();
                    rows(&batch.slice(at, 1), &mut out, usize::MAX).unwrap();
                    let told = longest_rows(&batch, at, 1);
                    assert!(out.len() <= told, "{of}: {} of {told}", out.len());
                    assert_eq!(
                        rows(&batch.slice(at, 1), &mut Vec::new(), out.len() - 1).unwrap(),
                        0
                    );
                }
                out.clear();
                rows(&batch, &mut out, usize::MAX).unwrap();
                let told = longest_rows(&batch, 0, batch.num_rows());
                assert!(out.len() <= told, "{of}: {} of {told}", out.len());
                let text = objects(std::slice::from_ref(&batch)).unwrap();
                let told = longest_objects(&[batch]);
                assert!(text.get().len() <= told + 2, "{of}: {} of {told}", text.get().len());
            }
        }
    }
}
