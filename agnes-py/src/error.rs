//! Errors, as Python raises them: a class for each kind, below `agnes.AgnesError` (`errors.py`).

use agnes_core::binding::Fault;
use agnes_core::{Error, Kind};
use pyo3::exceptions::{PyBaseException, PyException};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// What goes wrong between Python and the core: an error of the core's, or an exception.
pub(crate) enum Raised {
    Core(Error),
    Python(PyErr),
}

pub(crate) type Result<T, E = Raised> = std::result::Result<T, E>;

impl From<Error> for Raised {
    fn from(error: Error) -> Self {
        Raised::Core(error)
    }
}

impl From<PyErr> for Raised {
    fn from(error: PyErr) -> Self {
        Raised::Python(error)
    }
}

impl From<Raised> for PyErr {
    fn from(raised: Raised) -> Self {
        match raised {
            Raised::Python(error) => error,
            Raised::Core(error) => Python::attach(|py| {
                raise(py, &error).unwrap_or_else(|broken_package| broken_package)
            }),
        }
    }
}

fn class(kind: Kind) -> String {
    format!("{kind}Error")
}

/// The exception of an error. An exception that Python code had raised is its cause; one of Agnes' own, and what
/// ends a program, as `KeyboardInterrupt`, come out as they are.
fn raise(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let mut causes =
        std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let raised = causes.find_map(|cause| cause.downcast_ref::<PyErr>());
    if let Some(raised) = raised
        && (is_ours(raised.value(py))? || !raised.is_instance_of::<PyException>(py))
    {
        return Ok(raised.clone_ref(py));
    }
    let context = PyDict::new(py);
    for (key, value) in error.contexts() {
        context.set_item(key.as_str(), value)?;
    }
    let class = py.import("agnes.errors")?.getattr(class(error.kind()))?;
    let error = PyErr::from_value(class.call1((error.message(), context))?);
    error.set_cause(py, raised.map(|cause| cause.clone_ref(py)));
    Ok(error)
}

/// An exception of Python code that the core has called, as an error of the core's. One of Agnes' own
/// keeps its kind; any other is the fault of that code.
pub(crate) fn of_exception(py: Python<'_>, raised: PyErr) -> Error {
    let value = raised.value(py);
    let is_ours = || is_ours(value).unwrap_or(false);
    let error = match kind(value).filter(|_| is_ours()) {
        Some(code) => {
            let context = value.getattr("context").and_then(|context| context.extract());
            let context = context.unwrap_or_default();
            Fault { code, message: value.to_string(), context }.into()
        }
        None => {
            let name = value.get_type().name().map_or_else(|_| String::new(), |n| n.to_string());
            Error::new(Kind::Contract, format!("the Python code raised `{name}`: {value}"))
        }
    };
    error.because(raised)
}

fn is_ours(value: &Bound<'_, PyBaseException>) -> PyResult<bool> {
    value.is_instance(&value.py().import("agnes.errors")?.getattr("AgnesError")?)
}

/// What kind of error an exception says that it is.
fn kind(raised: &Bound<'_, PyBaseException>) -> Option<Kind> {
    let code = raised.getattr("code").and_then(|code| code.extract::<String>()).ok()?;
    serde_json::from_value(code.into()).ok()
}
