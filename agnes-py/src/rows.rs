//! `agnes.Rows`: the rows of a statement, for whichever package somebody likes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use agnes_core::Kind;
use agnes_core::query::{AllRows, Reader, Stop};
use agnes_core::value::{Columns, type_name};
use arrow::array::RecordBatchReader;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList, PyTuple};

use crate::arrow::{of_arrow, schema, stream};
use crate::convert::object;
use crate::error::{Raised, Result};
use agnes_core::binding::{Along, Handle, Mine};

/// How many rows a notebook shows.
const SHOWN: usize = 20;
/// How often somebody who waits for rows looks whether a signal has come.
const LOOK: Duration = Duration::from_millis(50);

/// Has statements end by Ctrl-C: signals are heard by Python code alone, which nobody runs while the core
/// works.
#[derive(Clone, Default)]
struct Signals(Arc<Mutex<Option<PyErr>>>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Signals {
    /// Ends a statement once a signal is heard by this thread. Others don't look: they may be waited for by
    /// whoever holds the interpreter.
    fn stop(&self) -> Stop {
        let (heard, caller) = (self.0.clone(), thread::current().id());
        let looked = Mutex::new(Instant::now());
        Stop::asking(move || is_heard(&heard, caller, &mut locked(&looked)))
    }

    /// What is to be raised: what a signal's handler raised, where one has ended it.
    fn raised(&self, error: agnes_core::Error) -> Raised {
        let heard = (error.kind() == Kind::Cancelled).then(|| locked(&self.0).take()).flatten();
        heard.map_or_else(|| error.into(), Raised::from)
    }
}

fn is_heard(heard: &Mutex<Option<PyErr>>, caller: ThreadId, looked: &mut Instant) -> bool {
    if thread::current().id() != caller || looked.elapsed() < LOOK {
        return false;
    }
    *looked = Instant::now();
    // SAFETY: whoever reads rows for another package may have let go of the interpreter behind PyO3's back, so
    // that `Python::attach` would believe that it has it; the interpreter itself knows.
    let raised = unsafe {
        let state = pyo3::ffi::PyGILState_Ensure();
        let raised =
            (pyo3::ffi::PyErr_CheckSignals() != 0).then(|| PyErr::fetch(Python::assume_attached()));
        pyo3::ffi::PyGILState_Release(state);
        raised
    };
    let is_heard = raised.is_some();
    if is_heard {
        *locked(heard) = raised;
    }
    is_heard
}

/// What signals have raised while another package read rows.
static RAISED: Mutex<Vec<PyErr>> = Mutex::new(Vec::new());

/// Has the interpreter raise something as soon as it runs Python code again: whatever the package that reads
/// makes of its rows' end.
fn raise_later(raised: PyErr) {
    extern "C" fn raise(_: *mut std::ffi::c_void) -> std::ffi::c_int {
        // SAFETY: the interpreter calls it while it holds itself.
        let py = unsafe { Python::assume_attached() };
        match locked(&RAISED).pop() {
            Some(raised) => {
                raised.restore(py);
                -1
            }
            None => 0,
        }
    }
    locked(&RAISED).push(raised);
    // SAFETY: may be called by any thread, at any time.
    unsafe { pyo3::ffi::Py_AddPendingCall(Some(raise), std::ptr::null_mut()) };
}

/// The rows of a statement.
///
/// The statement has begun, and its rows come as they are read. Any package that knows the Arrow PyCapsule
/// interface reads them without a copy: `polars.DataFrame(rows)`, `pyarrow.table(rows)`,
/// `pandas.DataFrame.from_arrow(rows)`, `duckdb.from_arrow(rows)`. Whoever reads them a second time has the
/// statement run again, in the same session and over the same tables.
#[pyclass(frozen, module = "agnes", weakref)]
pub(crate) struct Rows {
    reader: Handle<Reader>,
    schema: SchemaRef,
    signals: Signals,
}

impl Rows {
    /// Begins a statement.
    pub(crate) fn begin(
        py: Python<'_>,
        along: [&Along; 2],
        begin: impl FnOnce(Stop) -> agnes_core::Result<Reader> + Send,
    ) -> Result<Rows> {
        let signals = Signals::default();
        let reader = py.detach(|| begin(signals.stop()));
        let reader = reader.map_err(|error| signals.raised(error))?;
        let schema = reader.schema().clone();
        let reader = Handle::new("the session of these rows", reader);
        along.iter().for_each(|along| along.add(&reader));
        Ok(Rows { reader, schema, signals })
    }

    /// Reads some.
    fn read<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Reader, Stop) -> agnes_core::Result<T> + Send,
    ) -> Result<T> {
        let reader = self.reader.get()?;
        let read = py.detach(|| work(&reader, self.signals.stop()));
        read.map_err(|error| self.signals.raised(error))
    }

    fn all(&self, py: Python<'_>) -> Result<Read> {
        Ok(Read(self.read(py, Reader::read_all)?))
    }

    fn first(&self, py: Python<'_>) -> Result<(RecordBatch, bool)> {
        self.read(py, |reader, stop| reader.first(SHOWN, stop))
    }

    fn tuples<'py>(py: Python<'py>, batches: &[RecordBatch]) -> Result<Bound<'py, PyList>> {
        let rows = PyList::empty(py);
        for batch in batches {
            // Others have a turn, and signals are heard.
            py.detach(|| ());
            py.check_signals()?;
            let columns = Columns::of(batch)?;
            for row in 0..batch.num_rows() {
                let values = columns.row(row)?;
                let values = values.iter().map(|value| object(py, value));
                rows.append(PyTuple::new(py, values.collect::<PyResult<Vec<_>>>()?)?)?;
            }
        }
        Ok(rows)
    }
}

/// Rows on their way to another package. A signal that ends them is the interpreter's to raise, whatever
/// that package makes of it.
struct Coming {
    rows: Mine<Box<dyn RecordBatchReader + Send>>,
    signals: Signals,
}

impl Iterator for Coming {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.rows.next();
        if matches!(next, Some(Err(_)))
            && let Some(raised) = locked(&self.signals.0).take()
        {
            raise_later(raised);
        }
        next
    }
}

impl RecordBatchReader for Coming {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}

#[pymethods]
impl Rows {
    /// The names of the columns.
    #[getter]
    fn columns(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The types of the columns, in their order.
    #[getter]
    fn types(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| type_name(field)).collect()
    }

    /// Whether rows were left out because of `max_rows` or `max_bytes`; `None` until they were read.
    #[getter]
    fn truncated(&self) -> Result<Option<bool>> {
        Ok(self.reader.get()?.truncated())
    }

    /// For packages that read Arrow: the rows, as they come.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> Result<Bound<'py, PyCapsule>> {
        // Only a wish, which whoever has it can fulfil as well.
        drop(requested_schema);
        let rows = Mine::new(self.read(py, Reader::stream)?);
        Ok(stream(py, Box::new(Coming { rows, signals: self.signals.clone() }))?)
    }

    /// For packages that read Arrow: the columns.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyCapsule>> {
        schema(py, &self.schema)
    }

    /// All rows as a `pyarrow.Table`.
    fn to_arrow<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        Ok(py.import("pyarrow")?.call_method1("table", (self.all(py)?,))?)
    }

    /// All rows as a `polars.DataFrame`.
    fn to_polars<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        Ok(py.import("polars")?.call_method1("DataFrame", (self.all(py)?,))?)
    }

    /// All rows as a `pandas.DataFrame`.
    fn to_pandas<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        Ok(self.to_arrow(py)?.call_method0("to_pandas")?)
    }

    /// All rows as a list of tuples. No package is needed for it.
    ///
    /// Times with a time zone are `datetime`s in UTC, a DECIMAL is a `Decimal` (one of 38 digits and none after
    /// the point an `int`, as HUGEINT is), a STRUCT and a MAP are dicts. What Python has no type for, as an
    /// INTERVAL, the year 10000 or a billionth of a second, is a text.
    fn fetchall<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyList>> {
        Rows::tuples(py, &self.all(py)?.0.batches)
    }

    /// The first row as a tuple, or `None`: always the first, however often it is asked for.
    fn fetchone<'py>(&self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>> {
        let (batch, _) = self.first(py)?;
        let rows = Rows::tuples(py, &[batch.slice(0, batch.num_rows().min(1))])?;
        Ok(rows.get_item(0).ok())
    }

    fn __repr__(&self) -> String {
        let columns = self.columns().into_iter().zip(self.types());
        let columns: Vec<_> = columns.map(|(name, kind)| format!("{name} {kind}")).collect();
        format!("<agnes.Rows {}>", columns.join(", "))
    }

    fn __str__(&self, py: Python<'_>) -> Result<String> {
        let (batch, are_more) = self.first(py)?;
        let table = pretty_format_batches(&[batch]).map_err(of_arrow)?;
        Ok(format!("{table}{}", if are_more { "\n… more rows" } else { "" }))
    }

    fn _repr_html_<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        let (batch, are_more) = self.first(py)?;
        let columns = Columns::of(&batch)?;
        let rows: Vec<_> = (0..batch.num_rows()).map(|row| columns.texts(row)).collect();
        let shown = (self.columns(), self.types(), rows, are_more);
        Ok(py.import("agnes._html")?.call_method1("table", shown)?)
    }
}

/// Rows that were read, on their way to another package.
#[pyclass(frozen, module = "agnes")]
struct Read(Arc<AllRows>);

#[pymethods]
impl Read {
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> Result<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        Ok(stream(py, self.0.stream())?)
    }
}
