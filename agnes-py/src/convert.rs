//! Values on their way: what the core reports becomes dicts and lists, times become `datetime`s; what
//! Python code says becomes JSON, which the core's own types read.

use agnes_core::value::{Value, Written};
use agnes_core::{Error, Kind, Timestamp};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDateTime, PyDict, PyFloat, PyInt, PyList, PyMapping, PySequence, PyString,
    PyTzInfo,
};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::error::{Raised, Result};

/// What the core reports, as Python sees it: dicts and lists.
pub(crate) type Told = Result<Py<PyAny>>;

/// What the core reports.
pub(crate) fn told(py: Python<'_>, what: &impl Serialize) -> Told {
    Ok(object(py, &Value::of(what)?)?.unbind())
}

/// The object of a value.
pub(crate) fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Null => Ok(py.None().into_bound(py)),
        Value::Bool(flag) => flag.into_bound_py_any(py),
        Value::Integer(number) => number.into_bound_py_any(py),
        Value::Long(number) => match i64::try_from(*number) {
            Ok(number) => number.into_bound_py_any(py),
            Err(_) => number.into_bound_py_any(py),
        },
        Value::Float(number) => number.into_bound_py_any(py),
        Value::Text(text) => text.into_bound_py_any(py),
        Value::Bytes(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
        Value::Time(at) => match datetime(py, *at) {
            Ok(at) => Ok(at.into_any()),
            // Years that Python doesn't count.
            Err(_) => at.to_string().into_bound_py_any(py),
        },
        Value::Written(what, text) => written(py, *what, text),
        Value::List(items) => {
            let list = PyList::empty(py);
            items.iter().try_for_each(|item| list.append(object(py, item)?))?;
            Ok(list.into_any())
        }
        Value::Map(entries) => {
            let dict = PyDict::new(py);
            entries.iter().try_for_each(|(key, value)| dict.set_item(key, object(py, value)?))?;
            Ok(dict.into_any())
        }
    }
}

/// What a text stands for; the text itself where Python's class can't hold it, as the year 10000.
fn written<'py>(py: Python<'py>, what: Written, text: &str) -> PyResult<Bound<'py, PyAny>> {
    // What is finer than Python's clock isn't cut.
    let digits = text.rsplit_once('.').map_or(0, |(_, fraction)| fraction.len());
    if digits > 6 && what != Written::Decimal {
        return text.into_bound_py_any(py);
    }
    let datetime = |class| py.import("datetime")?.getattr(class)?.getattr("fromisoformat");
    let make = match what {
        Written::Decimal => py.import("decimal")?.getattr("Decimal"),
        Written::Date => datetime("date"),
        Written::TimeOfDay => datetime("time"),
        Written::LocalTime => datetime("datetime"),
    }?;
    make.call1((text,)).or_else(|_| text.into_bound_py_any(py))
}

/// A moment, in UTC.
pub(crate) fn datetime(py: Python<'_>, at: Timestamp) -> PyResult<Bound<'_, PyDateTime>> {
    let utc = PyTzInfo::utc(py)?;
    let seconds = at.as_micros().div_euclid(1_000_000);
    let whole = PyDateTime::from_timestamp(py, seconds as f64, Some(&utc.to_owned()))?;
    let micros = PyDict::new(py);
    micros.set_item("microsecond", at.as_micros().rem_euclid(1_000_000))?;
    Ok(whole.call_method("replace", (), Some(&micros))?.cast_into::<PyDateTime>()?)
}

/// A moment that Python code gives: a `datetime` with a time zone, or a text.
pub(crate) fn moment(given: &Bound<'_, PyAny>) -> Result<Timestamp> {
    if given.is_instance_of::<PyDateTime>() && given.getattr("tzinfo")?.is_none() {
        return Err(Error::new(
            Kind::Invalid,
            "the datetime has no time zone; `datetime.now(timezone.utc)` has one",
        )
        .into());
    }
    timestamp(given)
}

/// A moment, or a TIMESTAMP without a time zone, which is taken as it is.
pub(crate) fn timestamp(given: &Bound<'_, PyAny>) -> Result<Timestamp> {
    let text = match given.cast::<PyDateTime>() {
        Ok(at) => at.call_method0("isoformat")?.extract::<String>()?,
        Err(_) => given.extract::<String>()?,
    };
    Timestamp::parse(&text)
        .ok_or_else(|| Error::new(Kind::Invalid, format!("`{text}` is no time")).into())
}

/// What Python code says, as JSON: dicts, lists, texts, numbers, paths and times.
pub(crate) fn json(given: &Bound<'_, PyAny>) -> Result<Json> {
    nested(given, 0)
}

/// How deep what Python code says may nest: what holds itself has no end.
const DEPTH_MAX: usize = 100;

fn nested(given: &Bound<'_, PyAny>, depth: usize) -> Result<Json> {
    if depth > DEPTH_MAX {
        let message = format!("what is given nests more than {DEPTH_MAX} levels deep");
        return Err(Error::new(Kind::Invalid, message).into());
    }
    if given.is_none() {
        return Ok(Json::Null);
    }
    if let Ok(flag) = given.cast::<PyBool>() {
        return Ok(flag.is_true().into());
    }
    if given.is_instance_of::<PyInt>() {
        let number = given.extract::<i64>().map(Json::from);
        return Ok(number.or_else(|_| given.extract::<u64>().map(Json::from))?);
    }
    if given.is_instance_of::<PyFloat>() {
        let number = given.extract::<f64>()?;
        return match number.is_finite() {
            true => Ok(Json::from(number)),
            false => Err(Error::new(Kind::Invalid, format!("{number} can't be given here")).into()),
        };
    }
    if let Ok(text) = given.cast::<PyString>() {
        return Ok(Json::from(text.to_str()?));
    }
    if given.is_instance_of::<PyDateTime>() {
        let at = moment(given)?;
        return Ok(serde_json::to_value(at).unwrap_or(Json::Null));
    }
    if let Ok(mapping) = given.cast::<PyMapping>() {
        let mut object = Map::new();
        for item in mapping.items()?.iter() {
            let (key, value): (String, Bound<'_, PyAny>) = item.extract()?;
            object.insert(key, nested(&value, depth + 1)?);
        }
        return Ok(Json::Object(object));
    }
    if given.hasattr("__fspath__")? {
        return Ok(Json::from(given.call_method0("__fspath__")?.extract::<String>()?));
    }
    if let Ok(items) = given.cast::<PySequence>()
        && !given.is_instance_of::<PyBytes>()
    {
        let items = items.try_iter()?.map(|item| nested(&item?, depth + 1));
        return Ok(Json::Array(items.collect::<Result<_>>()?));
    }
    let name = given.get_type().name()?;
    Err(Error::new(Kind::Invalid, format!("a `{name}` can't be given here")).into())
}

/// Reads what Python code says as one of the core's types.
pub(crate) fn read<T: serde::de::DeserializeOwned>(what: &str, given: Json) -> Result<T> {
    serde_json::from_value(given)
        .map_err(|e| Raised::from(Error::new(Kind::Invalid, format!("{what}: {e}"))))
}
