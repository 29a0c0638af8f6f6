//! Rows of Arrow as plain values.

use std::fmt::Write as _;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{Value, Written};
use crate::query::TYPE_KEY;
use crate::{Error, Kind, Result, Timestamp};

/// The name of a column's type as the engine writes it, where it has one: `BIGINT`, `DECIMAL(10,2)`, `UUID`.
pub fn type_name(column: &Field) -> String {
    if let Some(kind) = column.metadata().get(TYPE_KEY) {
        return kind.clone();
    }
    match column.data_type() {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INTEGER".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt8 => "UTINYINT".into(),
        DataType::UInt16 => "USMALLINT".into(),
        DataType::UInt32 => "UINTEGER".into(),
        DataType::UInt64 => "UBIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BLOB".into(),
        DataType::Decimal128(38, 0) => "HUGEINT".into(),
        DataType::Decimal128(digits, after) => format!("DECIMAL({digits},{after})"),
        DataType::Date32 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".into(),
        DataType::Timestamp(TimeUnit::Second, None) => "TIMESTAMP_S".into(),
        DataType::Timestamp(TimeUnit::Millisecond, None) => "TIMESTAMP_MS".into(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "TIMESTAMP".into(),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => "TIMESTAMP_NS".into(),
        DataType::Interval(_) => "INTERVAL".into(),
        DataType::Dictionary(..) => "ENUM".into(),
        DataType::List(of) | DataType::LargeList(of) => format!("{}[]", type_name(of)),
        DataType::FixedSizeList(of, length) => format!("{}[{length}]", type_name(of)),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|of| format!("{} {}", of.name(), type_name(of)));
            format!("STRUCT({})", fields.collect::<Vec<_>>().join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(of) => {
                format!("MAP({})", of.iter().map(|of| type_name(of)).collect::<Vec<_>>().join(", "))
            }
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

/// The columns of some rows, which tell their values one by one.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use agnes_core::value::{Columns, Value};
/// use agnes_core::{Agnes, QueryOptions};
///
/// let agnes = Agnes::open(dir.path())?;
/// let mut rows = agnes.session()?.query("SELECT 42, 'é'", &QueryOptions::default())?;
/// let batch = rows.next().unwrap()?;
/// let row = Columns::of(&batch)?.row(0)?;
/// assert_eq!(row, [Value::Integer(42), Value::Text("é".into())]);
/// # Ok::<(), agnes_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Columns<'a>(Vec<Column<'a>>);

impl<'a> Columns<'a> {
    /// The columns of a batch.
    ///
    /// # Errors
    /// `Internal` for a type that can't be told.
    pub fn of(batch: &'a RecordBatch) -> Result<Self> {
        let columns = batch.columns().iter().map(|column| Column::of(column));
        Ok(Columns(columns.collect::<Result<_>>()?))
    }

    /// The values of a row, which is there.
    ///
    /// # Errors
    /// `Internal` where one can't be told.
    pub fn row(&self, row: usize) -> Result<Vec<Value>> {
        self.0.iter().map(|column| column.value(row)).collect()
    }

    /// How many columns there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The values of a column, which is there, row by row.
    pub fn values(&self, column: usize) -> impl Iterator<Item = Result<Value>> {
        let column = self.0.get(column);
        column.into_iter().flat_map(|of| (0..of.array.len()).map(|row| of.value(row)))
    }

    /// The values of a column at once, where they are plain numbers and none is missing.
    pub fn numbers(&self, column: usize) -> Option<Numbers> {
        let array = self.0.get(column)?.array;
        if array.null_count() > 0 {
            return None;
        }
        match array.data_type() {
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::Float16
            | DataType::Float32
            | DataType::Float64 => {
                let numbers = arrow::compute::cast(array, &DataType::Float64).ok()?;
                Some(Numbers::Floats(numbers.as_primitive::<Float64Type>().values().clone()))
            }
            DataType::Int64 => {
                Some(Numbers::Longs(array.as_primitive::<Int64Type>().values().clone()))
            }
            _ => None,
        }
    }

    /// The values of a row as a person reads them.
    pub fn texts(&self, row: usize) -> Vec<String> {
        self.0.iter().map(|column| column.shown(row)).collect()
    }
}

/// The values of a column of numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// Of at most 32 bits, or with a fraction: [`Value::Integer`] and [`Value::Float`].
    Floats(ScalarBuffer<f64>),
    /// Of 64 bits: [`Value::Long`].
    Longs(ScalarBuffer<i64>),
}

/// One column, or what it is made of.
struct Column<'a> {
    array: &'a dyn Array,
    text: ArrayFormatter<'a>,
    within: Vec<(&'a str, Column<'a>)>,
    /// Of a dictionary, where the values of its rows stand.
    keys: Vec<usize>,
}

impl std::fmt::Debug for Column<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Column").field("type", self.array.data_type()).finish_non_exhaustive()
    }
}

fn untold(error: arrow::error::ArrowError) -> Error {
    Error::new(Kind::Internal, "a value of the rows can't be told").because(error)
}

impl<'a> Column<'a> {
    fn of(array: &'a dyn Array) -> Result<Self> {
        const OPTIONS: FormatOptions<'_> =
            FormatOptions::new().with_null("NULL").with_display_error(false);
        let text = ArrayFormatter::try_new(array, &OPTIONS).map_err(untold)?;
        let within: Vec<(&'a str, &'a dyn Array)> = match array.data_type() {
            DataType::List(_) => vec![("", array.as_list::<i32>().values())],
            DataType::LargeList(_) => vec![("", array.as_list::<i64>().values())],
            DataType::FixedSizeList(..) => vec![("", array.as_fixed_size_list().values())],
            DataType::Dictionary(..) => vec![("", array.as_any_dictionary().values().as_ref())],
            DataType::Map(..) => {
                let map = array.as_map();
                vec![("key", map.keys() as _), ("value", map.values() as _)]
            }
            DataType::Struct(fields) => {
                let names = fields.iter().map(|field| field.name().as_str());
                names.zip(array.as_struct().columns().iter().map(|c| c as _)).collect()
            }
            _ => Vec::new(),
        };
        let within = within.into_iter().map(|(name, array)| Ok((name, Column::of(array)?)));
        let within = within.collect::<Result<Vec<_>>>()?;
        let keys = match array.data_type() {
            // Of no values there are no keys either.
            DataType::Dictionary(..) if array.null_count() < array.len() => {
                array.as_any_dictionary().normalized_keys()
            }
            _ => Vec::new(),
        };
        Ok(Column { array, text, within, keys })
    }

    fn value(&self, row: usize) -> Result<Value> {
        let array = self.array;
        if array.is_null(row) {
            return Ok(Value::Null);
        }
        macro_rules! primitive {
            ($type:ty) => {
                array.as_primitive::<$type>().value(row)
            };
        }
        macro_rules! integer {
            ($type:ty) => {
                Value::Integer(i64::from(primitive!($type)))
            };
        }
        let written = |what| match self.usual(row) {
            Some(text) => Value::Written(what, text),
            None => Value::Text(self.shown(row)),
        };
        Ok(match array.data_type() {
            DataType::Null => Value::Null,
            DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
            DataType::Int8 => integer!(Int8Type),
            DataType::Int16 => integer!(Int16Type),
            DataType::Int32 => integer!(Int32Type),
            DataType::Int64 => Value::Long(i128::from(primitive!(Int64Type))),
            DataType::UInt8 => integer!(UInt8Type),
            DataType::UInt16 => integer!(UInt16Type),
            DataType::UInt32 => integer!(UInt32Type),
            DataType::UInt64 => Value::Long(i128::from(primitive!(UInt64Type))),
            // HUGEINT.
            DataType::Decimal128(38, 0) => Value::Long(primitive!(Decimal128Type)),
            DataType::Float16 => Value::Float(f64::from(f32::from(primitive!(Float16Type)))),
            DataType::Float32 => Value::Float(f64::from(primitive!(Float32Type))),
            DataType::Float64 => Value::Float(primitive!(Float64Type)),
            DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row).into()),
            DataType::LargeUtf8 => Value::Text(array.as_string::<i64>().value(row).into()),
            DataType::Utf8View => Value::Text(array.as_string_view().value(row).into()),
            DataType::Binary => Value::Bytes(array.as_binary::<i32>().value(row).into()),
            DataType::LargeBinary => Value::Bytes(array.as_binary::<i64>().value(row).into()),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                let at = Timestamp::from_micros(primitive!(TimestampMicrosecondType));
                // What no calendar holds, `infinity` among it, is a text.
                match serde_json::to_value(at) {
                    Ok(serde_json::Value::String(_)) => Value::Time(at),
                    _ => Value::Text(self.shown(row)),
                }
            }
            DataType::Timestamp(_, None) => written(Written::LocalTime),
            DataType::Date32 | DataType::Date64 => written(Written::Date),
            DataType::Time32(_) | DataType::Time64(_) => written(Written::TimeOfDay),
            DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => written(Written::Decimal),
            DataType::List(_) => self.list(span(array.as_list::<i32>().value_offsets(), row))?,
            DataType::LargeList(_) => {
                self.list(span(array.as_list::<i64>().value_offsets(), row))?
            }
            DataType::FixedSizeList(_, length) => {
                let length = usize::try_from(*length).unwrap_or(0);
                self.list((row * length, (row + 1) * length))?
            }
            DataType::Dictionary(..) => {
                let at = self.keys.get(row).copied().unwrap_or(0);
                self.within.first().map_or(Ok(Value::Null), |(_, values)| values.value(at))?
            }
            DataType::Struct(_) => {
                let fields = self.within.iter();
                let fields = fields.map(|(name, of)| Ok((name.to_string(), of.value(row)?)));
                Value::Map(fields.collect::<Result<_>>()?)
            }
            DataType::Map(..) => self.map(span(array.as_map().value_offsets(), row))?,
            _ => Value::Text(self.shown(row)),
        })
    }

    /// The value as text, where a calendar or a clock has it.
    fn usual(&self, row: usize) -> Option<String> {
        let mut text = String::new();
        write!(text, "{}", self.text.value(row)).ok().map(|()| text)
    }

    /// The value as text: as the engine writes what no calendar has, and otherwise its number.
    fn shown(&self, row: usize) -> String {
        self.usual(row).unwrap_or_else(|| {
            let number = arrow::compute::cast(&self.array.slice(row, 1), &DataType::Int64);
            let number = number.map_or(0, |number| number.as_primitive::<Int64Type>().value(0));
            let most = match self.array.data_type() {
                // No clock shows the end of a day.
                DataType::Time64(_) | DataType::Time32(_) => return "24:00:00".to_string(),
                DataType::Date32 => i64::from(i32::MAX),
                _ => i64::MAX,
            };
            match number {
                _ if number == most => "infinity".to_string(),
                _ if number == -most => "-infinity".to_string(),
                _ => number.to_string(),
            }
        })
    }

    fn list(&self, (from, to): (usize, usize)) -> Result<Value> {
        let Some((_, values)) = self.within.first() else { return Ok(Value::Null) };
        Ok(Value::List((from..to).map(|at| values.value(at)).collect::<Result<_>>()?))
    }

    /// Values under their keys; a key that is no text stands as one.
    fn map(&self, (from, to): (usize, usize)) -> Result<Value> {
        let [(_, keys), (_, values)] = self.within.as_slice() else { return Ok(Value::Null) };
        let entry = |at| Ok((keys.shown(at), values.value(at)?));
        Ok(Value::Map((from..to).map(entry).collect::<Result<_>>()?))
    }
}

fn span<O: Copy + TryInto<usize>>(offsets: &[O], row: usize) -> (usize, usize) {
    let at = |row: usize| offsets.get(row).and_then(|at| (*at).try_into().ok()).unwrap_or(0);
    (at(row), at(row + 1))
}
