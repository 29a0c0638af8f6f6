//! What reports say, and what stands in rows, as plain values: for bindings, which make objects of their
//! language of them.
//!
//! Every report is `serde::Serialize`. JSON would do, but has no type for times.
//!
//! ```
//! use agnes_core::value::Value;
//! use agnes_core::{Timestamp, schedule};
//!
//! let now = Timestamp::parse("2026-11-20T12:00:00Z").unwrap();
//! let Value::Map(verdict) = Value::of(&schedule::verdict(Some("every 1h"), None, now))? else {
//!     panic!("a report is a map");
//! };
//! assert_eq!(verdict[2], ("next".to_string(), Value::Time(now)));
//! # Ok::<(), agnes_core::Error>(())
//! ```

mod row;

use serde::ser::{self, Serialize};

pub use row::{Columns, Numbers, type_name};

use crate::{Error, Kind, Result, Timestamp};

/// A plain value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number: of a report, or of a column of 32 bits at most.
    Integer(i64),
    /// One of a column of 64 bits or more; of a report, one that is larger than any of 64 bits with a sign.
    /// Languages that have two types for whole numbers have the same one for all rows of a column so.
    Long(i128),
    /// A number with a point.
    Float(f64),
    /// A text.
    Text(String),
    /// Some bytes.
    Bytes(Vec<u8>),
    /// A moment.
    Time(Timestamp),
    /// What is written as text: exactly, and as ISO 8601 has it.
    Written(Written, String),
    /// Values, one after the other.
    List(Vec<Value>),
    /// Values under names, in their order.
    Map(Vec<(String, Value)>),
}

/// What a text stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// A number with so many digits, as in `3.25`.
    Decimal,
    /// A day, as in `2026-02-03`.
    Date,
    /// A time of day, as in `04:05:06.789`.
    TimeOfDay,
    /// A day and a time of day in no zone, as in `2026-02-03T04:05:06.789`.
    LocalTime,
}

impl Value {
    /// The value of something that serialises.
    ///
    /// # Errors
    /// `Internal` for a map whose keys are no texts.
    pub fn of(what: &impl Serialize) -> Result<Value> {
        what.serialize(Plain)
            .map_err(|Fault(message)| Error::new(Kind::Internal, format!("no value: {message}")))
    }
}

/// A whole number.
fn whole(number: i128) -> Value {
    i64::try_from(number).map_or(Value::Long(number), Value::Integer)
}

struct Plain;

/// Why something has no value.
#[derive(Debug)]
struct Fault(String);

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

impl ser::Error for Fault {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Fault(message.to_string())
    }
}

type Made<T = Value> = std::result::Result<T, Fault>;

/// Values that are of one kind each.
macro_rules! plain {
    ($($name:ident($type:ty) -> $make:expr;)*) => {
        $(fn $name(self, value: $type) -> Made {
            Ok($make(value))
        })*
    };
}

impl ser::Serializer for Plain {
    type Ok = Value;
    type Error = Fault;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Entries;

    plain! {
        serialize_bool(bool) -> Value::Bool;
        serialize_i8(i8) -> |value| Value::Integer(i64::from(value));
        serialize_i16(i16) -> |value| Value::Integer(i64::from(value));
        serialize_i32(i32) -> |value| Value::Integer(i64::from(value));
        serialize_i64(i64) -> Value::Integer;
        serialize_u8(u8) -> |value| Value::Integer(i64::from(value));
        serialize_u16(u16) -> |value| Value::Integer(i64::from(value));
        serialize_u32(u32) -> |value| Value::Integer(i64::from(value));
        serialize_u64(u64) -> |value| whole(i128::from(value));
        serialize_f32(f32) -> |value| Value::Float(f64::from(value));
        serialize_f64(f64) -> Value::Float;
        serialize_char(char) -> |value: char| Value::Text(value.into());
        serialize_str(&str) -> |value: &str| Value::Text(value.into());
        serialize_bytes(&[u8]) -> |value: &[u8]| Value::Bytes(value.into());
        serialize_unit_struct(&'static str) -> |_| Value::Null;
    }

    fn serialize_none(self) -> Made {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Made {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Made {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Made {
        Ok(Value::Text(name.into()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Made {
        let value = value.serialize(self)?;
        match &value {
            Value::Text(text) if name == Timestamp::SERDE_NAME => {
                Ok(Timestamp::parse(text).map_or(value, Value::Time))
            }
            _ => Ok(value),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Made {
        Ok(under(Some(name), value.serialize(self)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Made<Items> {
        Ok(Items::default())
    }

    fn serialize_tuple(self, _: usize) -> Made<Items> {
        Ok(Items::default())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Made<Items> {
        Ok(Items::default())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Made<Items> {
        Ok(Items { name: Some(name), ..Items::default() })
    }

    fn serialize_map(self, _: Option<usize>) -> Made<Entries> {
        Ok(Entries::default())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Made<Entries> {
        Ok(Entries::default())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Made<Entries> {
        Ok(Entries { name: Some(name), ..Entries::default() })
    }
}

/// A value, under the name of its variant where it has one.
fn under(name: Option<&str>, value: Value) -> Value {
    match name {
        Some(name) => Value::Map(vec![(name.to_string(), value)]),
        None => value,
    }
}

/// A list on its way.
#[derive(Default)]
struct Items {
    items: Vec<Value>,
    name: Option<&'static str>,
}

/// A map on its way.
#[derive(Default)]
struct Entries {
    entries: Vec<(String, Value)>,
    key: String,
    name: Option<&'static str>,
}

/// What serde calls each kind of list.
macro_rules! list {
    ($($kind:ident: $add:ident),*) => {
        $(impl ser::$kind for Items {
            type Ok = Value;
            type Error = Fault;

            fn $add<T: Serialize + ?Sized>(&mut self, value: &T) -> Made<()> {
                self.items.push(value.serialize(Plain)?);
                Ok(())
            }

            fn end(self) -> Made {
                Ok(under(self.name, Value::List(self.items)))
            }
        })*
    };
}
list! {
    SerializeSeq: serialize_element, SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field
}

/// And each kind of struct.
macro_rules! map {
    ($($kind:ident),*) => {
        $(impl ser::$kind for Entries {
            type Ok = Value;
            type Error = Fault;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Made<()> {
                self.entries.push((key.to_string(), value.serialize(Plain)?));
                Ok(())
            }

            fn end(self) -> Made {
                Ok(under(self.name, Value::Map(self.entries)))
            }
        })*
    };
}
map! { SerializeStruct, SerializeStructVariant }

impl ser::SerializeMap for Entries {
    type Ok = Value;
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Made<()> {
        match key.serialize(Plain)? {
            Value::Text(key) => self.key = key,
            key => return Err(Fault(format!("the key {key:?} is no text"))),
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Made<()> {
        self.entries.push((std::mem::take(&mut self.key), value.serialize(Plain)?));
        Ok(())
    }

    fn end(self) -> Made {
        Ok(under(self.name, Value::Map(self.entries)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What JSON makes of a value, but for times.
    fn json(value: &Value) -> serde_json::Value {
        match value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Integer(number) => (*number).into(),
            Value::Long(number) => u64::try_from(*number).unwrap().into(),
            Value::Written(_, text) => text.as_str().into(),
            Value::Float(number) => (*number).into(),
            Value::Text(text) => text.as_str().into(),
            Value::Bytes(bytes) => bytes.clone().into(),
            Value::Time(at) => serde_json::to_value(at).unwrap(),
            Value::List(items) => items.iter().map(json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|(key, value)| (key.clone(), json(value))).collect()
            }
        }
    }

    #[test]
    fn every_form_is_what_json_makes_of_it() {
        #[derive(serde::Serialize)]
        enum Choice {
            Unit,
            One(u8),
            Two(i8, f32),
            Named { a: char },
        }
        #[derive(serde::Serialize)]
        struct Unit;
        #[derive(serde::Serialize)]
        struct All {
            choices: Vec<Choice>,
            nothing: Option<bool>,
            something: Option<bool>,
            pair: (u64, i64),
            unit: Unit,
            #[serde(flatten)]
            more: BTreeMap<String, f64>,
        }
        let choices =
            vec![Choice::Unit, Choice::One(1), Choice::Two(-1, 0.5), Choice::Named { a: 'é' }];
        let all = All {
            choices,
            nothing: None,
            something: Some(true),
            pair: (u64::MAX, i64::MIN),
            unit: Unit,
            more: BTreeMap::from([("more".to_string(), 1.5)]),
        };
        let value = Value::of(&all).unwrap();
        assert_eq!(json(&value), serde_json::to_value(&all).unwrap());
    }

    #[test]
    fn times_are_times_and_texts_that_look_like_times_are_texts() {
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        assert_eq!(Value::of(&Some(at)).unwrap(), Value::Time(at));
        let text = at.to_string();
        assert_eq!(Value::of(&text).unwrap(), Value::Text(text));
        // What no calendar holds.
        assert_eq!(Value::of(&Timestamp::from_micros(i64::MAX)).unwrap(), Value::Null);
    }

    #[test]
    fn keys_are_texts() {
        assert_eq!(Value::of(&BTreeMap::from([(1, 2)])).unwrap_err().kind(), Kind::Internal);
    }
}
