//! `agnes.Session`: SQL over what one principal may see.

use std::sync::Arc;
use std::time::Duration;

use agnes_core::binding::{Along, Handle, OpenSession, Statement, Whose};
use agnes_core::query::{Parameter, QueryOptions};
use agnes_core::{Agnes, Error, Kind};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDate, PyDateTime, PyFloat, PyInt, PyString};
use serde::Serialize;

use crate::convert::{Told, timestamp, told};
use crate::error::Result;
use crate::rows::Rows;

/// SQL over the tables that one user may see, as they were published when it was opened.
///
/// Whatever is rebuilt meanwhile, its statements see the same rows: open another one for what is new. It
/// ends when one of its tables is taken from its user; every later statement is `DeniedError`.
#[pyclass(frozen, module = "agnes", weakref)]
pub(crate) struct Session {
    open: Handle<OpenSession>,
    /// Its rows, and everything of its folder.
    rows: Along,
    along: Arc<Along>,
}

impl Session {
    pub(crate) fn open(
        py: Python<'_>,
        agnes: Arc<Agnes>,
        along: &Arc<Along>,
        whose: Whose,
    ) -> Result<Session> {
        let open = Handle::new("the session", py.detach(|| OpenSession::of(agnes, whose))?);
        along.add(&open);
        Ok(Session { open, rows: Along::default(), along: along.clone() })
    }

    fn told<T: Serialize + Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&OpenSession) -> agnes_core::Result<T> + Send,
    ) -> Told {
        let open = self.open.get()?;
        told(py, &py.detach(|| work(&open))?)
    }

    fn begin(&self, py: Python<'_>, statement: Statement, options: QueryOptions) -> Result<Rows> {
        let along = [&self.rows, &*self.along];
        Rows::begin(py, along, |stop| self.open.get()?.begin(statement, options, stop))
    }
}

/// What a statement may take, as keyword arguments say it.
pub(crate) fn options(
    parameters: Option<Vec<Bound<'_, PyAny>>>,
    max_rows: Option<u64>,
    max_bytes: Option<u64>,
    timeout: Option<f64>,
) -> Result<QueryOptions> {
    let parameters = parameters.unwrap_or_default();
    Ok(QueryOptions {
        parameters: parameters.iter().map(parameter).collect::<Result<_>>()?,
        max_rows,
        max_bytes,
        time: timeout.map(seconds).transpose()?,
        ..QueryOptions::default()
    })
}

/// A time, as Python says it.
pub(crate) fn seconds(given: f64) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(given)
        .map_err(|_| Error::new(Kind::Invalid, format!("{given} is no time in seconds")))?)
}

/// A value that no parameter can hold.
fn ungiven(raised: PyErr) -> Error {
    Error::new(Kind::Invalid, format!("this is no parameter: {raised}")).because(raised)
}

fn parameter(given: &Bound<'_, PyAny>) -> Result<Parameter> {
    if given.is_none() {
        return Ok(Parameter::Null);
    }
    Ok(if let Ok(flag) = given.cast::<PyBool>() {
        Parameter::Bool(flag.is_true())
    } else if given.is_instance_of::<PyInt>() {
        Parameter::Integer(given.extract().map_err(ungiven)?)
    } else if given.is_instance_of::<PyFloat>() {
        Parameter::Float(given.extract()?)
    } else if given.is_instance_of::<PyString>() {
        Parameter::Text(given.extract().map_err(ungiven)?)
    } else if let Ok(bytes) = given.cast::<PyBytes>() {
        Parameter::Bytes(bytes.as_bytes().to_vec())
    } else if given.is_instance_of::<PyDateTime>() {
        Parameter::Timestamp(timestamp(given)?)
    } else if given.is_instance_of::<PyDate>() {
        // The engine makes of it what it is compared with.
        Parameter::Text(given.str()?.extract()?)
    } else {
        let name = given.get_type().name()?;
        let message = format!(
            "a `{name}` is no parameter: pass None, a bool, int, float, str, bytes, date or datetime"
        );
        return Err(Error::new(Kind::Invalid, message).into());
    })
}

#[pymethods]
impl Session {
    /// Runs a query, and gives its rows as they come.
    ///
    /// Parameters are bound to `?` or `$1`, `$2`, … and never become a part of the text. A statement that
    /// takes longer than `timeout` seconds (60 where nothing else is configured) ends with `LimitError`,
    /// and so does one that needs more memory than it may have. Ctrl-C ends it, too.
    #[pyo3(signature = (query, parameters=None, *, max_rows=None, max_bytes=None, timeout=None))]
    pub(crate) fn sql(
        &self,
        py: Python<'_>,
        query: String,
        parameters: Option<Vec<Bound<'_, PyAny>>>,
        max_rows: Option<u64>,
        max_bytes: Option<u64>,
        timeout: Option<f64>,
    ) -> Result<Rows> {
        let options = options(parameters, max_rows, max_bytes, timeout)?;
        self.begin(py, Statement::Query(query), options)
    }

    /// Reads a table: some columns, the rows for which a condition holds, in an order.
    ///
    /// `order_by` names columns, each perhaps with ` desc` after it.
    #[pyo3(signature = (table, *, select=None, r#where=None, order_by=None, limit=None))]
    fn scan(
        &self,
        py: Python<'_>,
        table: String,
        select: Option<Vec<String>>,
        r#where: Option<String>,
        order_by: Option<Vec<String>>,
        limit: Option<u64>,
    ) -> Result<Rows> {
        let (select, order_by) = (select.unwrap_or_default(), order_by.unwrap_or_default());
        let scan = Statement::Scan { table, select, predicate: r#where, order_by, limit };
        self.begin(py, scan, QueryOptions::default())
    }

    /// The names of the tables that it shows.
    fn tables(&self, py: Python<'_>) -> Told {
        self.told(py, |open| Ok(open.tables()))
    }

    /// The tables that a query would read. It doesn't run.
    fn reads(&self, py: Python<'_>, query: &str) -> Told {
        self.told(py, |open| open.reads(query))
    }

    /// The number of the generation that it sees.
    #[getter]
    fn generation(&self) -> Result<u64> {
        Ok(self.open.get()?.generation())
    }

    /// What its user may discover: a dict for each table.
    fn catalog(&self, py: Python<'_>) -> Told {
        self.told(py, |open| open.catalog())
    }

    /// What its user may download, with hashes.
    fn manifest(&self, py: Python<'_>) -> Told {
        self.told(py, |open| open.manifest())
    }

    /// What is in a table, column by column: how full, how many different values, ranges and more.
    fn profile(&self, py: Python<'_>, table: &str) -> Told {
        self.told(py, |open| open.profile(table))
    }

    /// The metrics whose tables its user may see.
    fn metrics(&self, py: Python<'_>) -> Told {
        self.told(py, |open| open.metrics())
    }

    /// Computes a metric, or one of its variants.
    #[pyo3(signature = (metric, *, variant=None))]
    fn metric(&self, py: Python<'_>, metric: String, variant: Option<String>) -> Result<Rows> {
        let metric = Statement::Metric { id: metric, variant };
        self.begin(py, metric, QueryOptions::default())
    }

    /// Lets go of it, and ends what it runs.
    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            self.rows.close();
            self.open.close();
        });
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, py: Python<'_>, _raised: Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        match self.open.get() {
            Ok(open) => {
                let (generation, tables) = (open.generation(), open.tables().len());
                format!("<agnes.Session generation {generation}, {tables} tables>")
            }
            Err(_) => "<agnes.Session closed>".to_string(),
        }
    }
}
