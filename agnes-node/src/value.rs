//! Values on their way: what the core reports becomes objects and arrays, times become `Date`s; what JavaScript
//! code says becomes what the core's own types read.

use std::ptr;

use agnes_core::query::Parameter;
use agnes_core::value::{Columns, Numbers, Value};
use agnes_core::{Error, Kind, Timestamp};
use arrow::record_batch::RecordBatch;
use napi::bindgen_prelude::{
    BigInt, BigInt64Array, Buffer, Float64Array, FromNapiValue, ToNapiValue, TypeName, Uint8Array,
};
use napi::{JsDate, PropertyAttributes, Status, ValueType, check_status, sys, type_of};

use crate::call::raised;

/// The largest whole number up to which a JavaScript number knows each.
const SAFE: i64 = (1 << 53) - 1;

/// What the core reports, as JavaScript sees it: objects and arrays.
pub(crate) struct Told(pub(crate) Value);

impl ToNapiValue for Told {
    unsafe fn to_napi_value(env: sys::napi_env, told: Self) -> napi::Result<sys::napi_value> {
        made(env, told.0)
    }
}

/// Rows, column by column: numbers in one piece, and arrays of other values. `rows.js` makes rows of them, since a
/// call from here for each property of each row takes several times as long.
pub(crate) struct Batch(pub(crate) RecordBatch);

impl ToNapiValue for Batch {
    unsafe fn to_napi_value(env: sys::napi_env, batch: Self) -> napi::Result<sys::napi_value> {
        let columns = Columns::of(&batch.0).map_err(raised)?;
        let column = |at| match columns.numbers(at) {
            Some(Numbers::Floats(numbers)) => js(env, Float64Array::from(numbers.to_vec())),
            Some(Numbers::Longs(numbers)) => js(env, BigInt64Array::from(numbers.to_vec())),
            None => {
                let values = columns.values(at).map(|value| made(env, value.map_err(raised)?));
                array(env, batch.0.num_rows(), values)
            }
        };
        array(env, columns.count(), (0..columns.count()).map(column))
    }
}

/// Something that JavaScript has a value for.
fn js<T: ToNapiValue>(env: sys::napi_env, value: T) -> napi::Result<sys::napi_value> {
    // SAFETY: whoever makes values does so on the thread of this environment, within a call from there.
    unsafe { T::to_napi_value(env, value) }
}

fn array(
    env: sys::napi_env,
    length: usize,
    items: impl Iterator<Item = napi::Result<sys::napi_value>>,
) -> napi::Result<sys::napi_value> {
    let mut array = ptr::null_mut();
    // SAFETY: as in `js`; so are those below.
    check_status!(unsafe { sys::napi_create_array_with_length(env, length, &mut array) })?;
    for (at, item) in items.enumerate() {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        check_status!(unsafe { sys::napi_set_element(env, array, at, item?) })?;
    }
    Ok(array)
}

/// An object of these entries.
fn object(
    env: sys::napi_env,
    entries: impl Iterator<Item = (String, Value)>,
) -> napi::Result<sys::napi_value> {
    let mut object = ptr::null_mut();
    check_status!(unsafe { sys::napi_create_object(env, &mut object) })?;
    for (name, value) in entries {
        let (key, value) = (js(env, name.as_str())?, made(env, value)?);
        if name == "__proto__" {
            // To set it would make the value what the object inherits from.
            define(env, object, key, value)?;
        } else {
            check_status!(unsafe { sys::napi_set_property(env, object, key, value) })?;
        }
    }
    Ok(object)
}

/// Gives an object a property of its own, whatever it inherits.
fn define(
    env: sys::napi_env,
    object: sys::napi_value,
    name: sys::napi_value,
    value: sys::napi_value,
) -> napi::Result<()> {
    let property = sys::napi_property_descriptor {
        utf8name: ptr::null(),
        name,
        method: None,
        getter: None,
        setter: None,
        value,
        attributes: PropertyAttributes::default().bits(),
        data: ptr::null_mut(),
    };
    check_status!(unsafe { sys::napi_define_properties(env, object, 1, &property) })
}

fn made(env: sys::napi_env, value: Value) -> napi::Result<sys::napi_value> {
    match value {
        Value::Null => js(env, napi::bindgen_prelude::Null),
        Value::Bool(flag) => js(env, flag),
        Value::Integer(number) if (-SAFE..=SAFE).contains(&number) => js(env, number),
        Value::Integer(number) => js(env, i128::from(number)),
        Value::Long(number) => match i64::try_from(number) {
            Ok(number) => js(env, napi::bindgen_prelude::i64n(number)),
            Err(_) => js(env, number),
        },
        Value::Float(number) => js(env, number),
        Value::Text(text) | Value::Written(_, text) => js(env, text),
        Value::Bytes(bytes) => js(env, Buffer::from(bytes)),
        Value::Time(at) => date(env, at),
        Value::List(items) => {
            array(env, items.len(), items.into_iter().map(|item| made(env, item)))
        }
        Value::Map(entries) => object(env, entries.into_iter()),
    }
}

/// A moment, to the millisecond before it: `Date` knows no more.
fn date(env: sys::napi_env, at: Timestamp) -> napi::Result<sys::napi_value> {
    let mut date = ptr::null_mut();
    let millis = at.as_micros().div_euclid(1000);
    check_status!(unsafe { sys::napi_create_date(env, millis as f64, &mut date) })?;
    Ok(date)
}

/// A moment that JavaScript code gives: a `Date`, or a text.
pub(crate) struct Moment(pub(crate) String);

impl TypeName for Moment {
    fn type_name() -> &'static str {
        "Date"
    }

    fn value_type() -> ValueType {
        ValueType::Object
    }
}

impl FromNapiValue for Moment {
    unsafe fn from_napi_value(env: sys::napi_env, given: sys::napi_value) -> napi::Result<Self> {
        match type_of!(env, given)? {
            // SAFETY: the value is of the call that converts it.
            ValueType::String => Ok(Moment(unsafe { String::from_napi_value(env, given)? })),
            _ => Ok(Moment(moment(env, given)?.to_string())),
        }
    }
}

/// A number that counts something.
pub(crate) fn count(given: f64) -> agnes_core::Result<u64> {
    if given >= 0.0 && given.fract() == 0.0 && given <= SAFE as f64 {
        return Ok(given as u64);
    }
    Err(Error::new(Kind::Invalid, format!("{given} is no whole number from 0 on")))
}

/// The time of a `Date`.
fn moment(env: sys::napi_env, given: sys::napi_value) -> napi::Result<Timestamp> {
    // SAFETY: the value is of the call that converts it.
    let millis = unsafe { JsDate::from_napi_value(env, given)? }.value_of()?;
    if millis.is_finite() {
        Ok(Timestamp::from_micros(millis as i64 * 1000))
    } else {
        Err(napi::Error::new(Status::InvalidArg, "an invalid Date is no time"))
    }
}

/// A parameter of a statement.
pub struct Given(pub(crate) Parameter);

impl TypeName for Given {
    fn type_name() -> &'static str {
        "Parameter"
    }

    fn value_type() -> ValueType {
        ValueType::Unknown
    }
}

impl FromNapiValue for Given {
    unsafe fn from_napi_value(env: sys::napi_env, given: sys::napi_value) -> napi::Result<Self> {
        // SAFETY: the value is of the call that converts it, and of the type that was asked for.
        unsafe {
            let of = |is: unsafe fn(_, _, *mut bool) -> _| {
                let mut answer = false;
                is(env, given, &mut answer);
                answer
            };
            Ok(Given(match type_of!(env, given)? {
                ValueType::Null | ValueType::Undefined => Parameter::Null,
                ValueType::Boolean => Parameter::Bool(bool::from_napi_value(env, given)?),
                ValueType::Number => {
                    let number = f64::from_napi_value(env, given)?;
                    let is_whole = number.fract() == 0.0 && number.abs() <= SAFE as f64;
                    // The engine makes of it what it is compared with.
                    match is_whole && !(number == 0.0 && number.is_sign_negative()) {
                        true => Parameter::Integer(number as i64),
                        false => Parameter::Float(number),
                    }
                }
                ValueType::BigInt => {
                    let (number, lossless) = BigInt::from_napi_value(env, given)?.get_i64();
                    if !lossless {
                        let message =
                            "a BigInt of more than 64 bits is no parameter: pass a string";
                        return Err(napi::Error::new(Status::InvalidArg, message));
                    }
                    Parameter::Integer(number)
                }
                ValueType::String => Parameter::Text(String::from_napi_value(env, given)?),
                ValueType::Object if of(sys::napi_is_date) => {
                    Parameter::Timestamp(moment(env, given)?)
                }
                ValueType::Object if of(sys::napi_is_typedarray) => {
                    Parameter::Bytes(Uint8Array::from_napi_value(env, given)?.to_vec())
                }
                _ => {
                    let message = "this is no parameter: pass null, a boolean, number, bigint, string, \
                                   Uint8Array or Date";
                    return Err(napi::Error::new(Status::InvalidArg, message));
                }
            }))
        }
    }
}
