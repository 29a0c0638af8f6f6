//! JSON for what it has no form for: numbers that are none, keys that are no text, times.

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

/// Writes the rows of a batch, each as an array of its values, with commas between them.
pub(crate) fn rows(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let options = EncoderOptions::default().with_encoder_factory(Arc::new(Encoders::Exact));
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let mut columns = columns
        .map(|(field, column)| make_encoder(field, column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()?;
    for row in 0..batch.num_rows() {
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
    Ok(())
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
