//! What the core calls that is written in Python: connectors, providers of metadata, secrets, progress.

use std::path::Path;

use agnes_core::binding::{Busy, extract_by};
use agnes_core::connector::{Connector, ConnectorReport, Job as CoreJob};
use agnes_core::metadata::{Address, MetadataProvider, TableMetadata};
use agnes_core::sync::ConnectorType;
use agnes_core::{Error, Kind};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDateTime, PyMapping};
use serde_json::Value;

use crate::convert::{datetime, json, read, told};
use crate::error::{Raised, of_exception};
use crate::extract::ExtractWriter;

/// Calls Python code, and tells what it raises as an error of the core's.
fn call<T>(work: impl FnOnce(Python<'_>) -> crate::error::Result<T>) -> agnes_core::Result<T> {
    Python::attach(|py| {
        work(py).map_err(|raised| match raised {
            Raised::Core(error) => error,
            Raised::Python(error) => of_exception(py, error),
        })
    })
}

/// A class, or any function, that makes a connector of its configuration.
pub(crate) struct PyConnectorType(pub(crate) Py<PyAny>);

impl ConnectorType for PyConnectorType {
    fn open(&self, config: &Value, _: &Path) -> agnes_core::Result<Box<dyn Connector>> {
        call(|py| {
            let connector = self.0.bind(py).call1((told(py, config)?,))?;
            Ok(Box::new(PyConnector(connector.unbind())) as Box<dyn Connector>)
        })
    }
}

/// An object with a method `extract(job)`.
pub(crate) struct PyConnector(pub(crate) Py<PyAny>);

impl Connector for PyConnector {
    fn extract(&self, job: &CoreJob<'_>) -> agnes_core::Result<ConnectorReport> {
        extract_by(job, Busy::Refuse, |asked| {
            call(|py| {
                let job = Job {
                    source: asked.source,
                    tables: asked.tables,
                    declared: told(py, &asked.declared)?,
                    now: datetime(py, asked.now)?.unbind(),
                    writer: Py::new(py, ExtractWriter::of(asked.writing))?,
                };
                self.0.bind(py).call_method1("extract", (Py::new(py, job)?,))?;
                Ok(())
            })
        })
    }
}

/// What a connector is asked to do.
///
/// It writes what its source has now to `writer`, which is finished when `extract` returns. Tables that it
/// doesn't write stay as they are.
#[pyclass(frozen, get_all, module = "agnes")]
pub(crate) struct Job {
    /// The source that it is to bring over.
    source: String,
    /// The tables that are due; `None` for all.
    tables: Option<Vec<String>>,
    /// What is declared about the source's tables: a dict for each.
    declared: Py<PyAny>,
    /// The present moment.
    now: Py<PyDateTime>,
    /// Takes the tables.
    writer: Py<ExtractWriter>,
}

#[pymethods]
impl Job {
    fn __repr__(&self) -> String {
        format!("<agnes.Job of {}>", self.source)
    }
}

/// An object with a method `metadata(table)`, or a function.
pub(crate) struct PyProvider(pub(crate) Py<PyAny>);

impl MetadataProvider for PyProvider {
    fn metadata(&self, table: &Address) -> agnes_core::Result<Option<TableMetadata>> {
        call(|py| {
            let provider = self.0.bind(py);
            let table = told(py, table)?;
            let said = match provider.hasattr("metadata")? {
                true => provider.call_method1("metadata", (table,))?,
                false => provider.call1((table,))?,
            };
            match said.is_none() {
                true => Ok(None),
                false => read("the metadata of a table", json(&said)?).map(Some),
            }
        })
    }
}

/// A variable of a mapping, as `os.environ` is; none where it isn't there.
pub(crate) fn variable(mapping: &Py<PyMapping>, name: &str) -> agnes_core::Result<Option<String>> {
    call(|py| match mapping.bind(py).get_item(name) {
        Ok(value) => match value.extract() {
            Ok(value) => Ok(Some(value)),
            Err(_) => {
                let message = format!("the variable `{name}` is no string");
                Err(Error::new(Kind::Invalid, message).into())
            }
        },
        Err(raised) if raised.is_instance_of::<PyKeyError>(py) => Ok(None),
        Err(raised) => Err(raised.into()),
    })
}
