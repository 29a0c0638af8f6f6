//! How long rows can get as JSON, told before they are written: few bytes of Arrow can be many of text,
//! as the names of a STRUCT's fields come with each of its values.

use agnes_core::arrow::array::{Array, AsArray, OffsetSizeTrait};
use agnes_core::arrow::datatypes::{DataType, FieldRef};

/// The most bytes of a character in a name: `\u0000`.
const CHARACTER: usize = 6;
/// What stands in place of a value, or of a longer one's first bytes.
const NULL: usize = 4;
/// A value of up to four bytes, or brackets or quotes, with a comma and a space.
const AROUND: usize = NULL + 2;

/// The most bytes that the values of an array take, one after the other.
pub(super) fn longest(array: &dyn Array) -> usize {
    let count = array.len();
    let of_each = |bytes: usize| bytes.saturating_mul(count);
    let inside = match array.data_type() {
        DataType::Null => 0,
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            escaped(texts.value_offsets(), texts.value_data())
        }
        DataType::LargeUtf8 => {
            let texts = array.as_string::<i64>();
            escaped(texts.value_offsets(), texts.value_data())
        }
        DataType::Binary => hex(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => hex(array.as_binary::<i64>().value_offsets()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            items(list.value_offsets(), list.values())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            items(list.value_offsets(), list.values())
        }
        DataType::FixedSizeList(..) => longest(array.as_fixed_size_list().values()),
        DataType::Map(..) => {
            let map = array.as_map();
            items(map.value_offsets(), map.entries())
        }
        DataType::Struct(fields) => {
            let values = array.as_struct().columns().iter().map(|column| longest(column));
            values.fold(of_each(fields.iter().map(name).sum()), usize::saturating_add)
        }
        DataType::Union(fields, _) => {
            let union = array.as_union();
            let values = fields.iter().map(|(id, _)| longest(union.child(id)));
            let names = of_each(fields.iter().map(|(_, field)| name(field)).sum());
            values.fold(names, usize::saturating_add)
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let values = dictionary.values();
            let keys = if values.is_empty() { Vec::new() } else { dictionary.normalized_keys() };
            let each = keys.into_iter().map(|at| longest(&values.slice(at, 1)));
            each.fold(0, usize::saturating_add)
        }
        kind if kind.is_primitive() || *kind == DataType::Boolean => {
            of_each(width(kind).saturating_sub(NULL))
        }
        // The engine gives no others.
        _ => array.get_array_memory_size().saturating_mul(CHARACTER),
    };
    of_each(AROUND).saturating_add(inside)
}

/// The most bytes of a value that has no others in it, with its quotes.
fn width(kind: &DataType) -> usize {
    match kind {
        DataType::Boolean => "false".len(),
        DataType::Int8 | DataType::UInt8 => "-128".len(),
        DataType::Int16 | DataType::UInt16 => "-32768".len(),
        DataType::Int32 | DataType::UInt32 => "-2147483648".len(),
        DataType::Int64 | DataType::UInt64 => "-9223372036854775808".len(),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            "-2.2250738585072014e-308".len()
        }
        // With a sign, a point, a nought before it, and quotes.
        DataType::Decimal32(digits, _)
        | DataType::Decimal64(digits, _)
        | DataType::Decimal128(digits, _)
        | DataType::Decimal256(digits, _) => usize::from(*digits) + 5,
        DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) => 32,
        DataType::Timestamp(..) => 64,
        // An interval in words.
        _ => 128,
    }
}

/// The name of a field before its value.
pub(super) fn name(field: &FieldRef) -> usize {
    field.name().len().saturating_mul(CHARACTER).saturating_add(AROUND)
}

fn escaped<O: OffsetSizeTrait>(offsets: &[O], bytes: &[u8]) -> usize {
    let (begin, end) = ends(offsets);
    let each = bytes.get(begin..end).unwrap_or_default().iter().map(|byte| match byte {
        0..0x20 => CHARACTER,
        b'"' | b'\\' => 2,
        _ => 1,
    });
    each.sum()
}

fn hex<O: OffsetSizeTrait>(offsets: &[O]) -> usize {
    let (begin, end) = ends(offsets);
    end.saturating_sub(begin).saturating_mul(2)
}

fn items<O: OffsetSizeTrait>(offsets: &[O], values: &dyn Array) -> usize {
    let (begin, end) = ends(offsets);
    longest(&values.slice(begin, end.saturating_sub(begin)))
}

fn ends<O: OffsetSizeTrait>(offsets: &[O]) -> (usize, usize) {
    let at = |offset: Option<&O>| offset.map_or(0, |offset| offset.as_usize());
    (at(offsets.first()), at(offsets.last()))
}
