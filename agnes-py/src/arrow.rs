//! Rows between Python packages and the core, by the Arrow PyCapsule interface: no copies, and no package
//! is needed for it.

use std::ffi::CStr;

use agnes_core::{Error, Kind};
use arrow::array::{RecordBatchReader, StructArray};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use arrow::record_batch::{RecordBatch, RecordBatchIterator};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyCapsuleMethods, PyTuple};

use crate::error::Result;

const STREAM: &CStr = c"arrow_array_stream";
const SCHEMA: &CStr = c"arrow_schema";
const ARRAY: &CStr = c"arrow_array";

/// Batches on their way to Python or from there.
pub(crate) type Batches = Box<dyn RecordBatchReader + Send>;

/// Hands batches to whoever asked for `__arrow_c_stream__`.
pub(crate) fn stream(py: Python<'_>, batches: Batches) -> PyResult<Bound<'_, PyCapsule>> {
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(batches), STREAM)
}

/// Hands columns to whoever asked for `__arrow_c_schema__`.
pub(crate) fn schema<'py>(py: Python<'py>, schema: &Schema) -> Result<Bound<'py, PyCapsule>> {
    let schema = FFI_ArrowSchema::try_from(schema).map_err(of_arrow)?;
    Ok(PyCapsule::new_with_value(py, schema, SCHEMA)?)
}

/// The rows of anything that exports them: a table of pyarrow, polars, pandas or duckdb, rows of Agnes.
pub(crate) fn batches(given: &Bound<'_, PyAny>) -> Result<Batches> {
    if given.hasattr("__arrow_c_stream__")? {
        let capsule = given.call_method0("__arrow_c_stream__")?;
        let stream = taken::<FFI_ArrowArrayStream>(&capsule, STREAM)?;
        return Ok(Box::new(RecordBatchStreamReader::try_new(stream).map_err(of_arrow)?));
    }
    if given.hasattr("__arrow_c_array__")? {
        let capsules = given.call_method0("__arrow_c_array__")?.cast_into::<PyTuple>();
        let capsules = capsules.map_err(PyErr::from)?;
        let schema = taken::<FFI_ArrowSchema>(&capsules.get_item(0)?, SCHEMA)?;
        let array = taken::<FFI_ArrowArray>(&capsules.get_item(1)?, ARRAY)?;
        // SAFETY: both come from one call of an exporter, which keeps to Arrow's C interface.
        let array = unsafe { from_ffi(array, &schema) }.map_err(of_arrow)?;
        if !matches!(array.data_type(), DataType::Struct(_)) || array.null_count() > 0 {
            return Err(
                Error::new(Kind::Invalid, "an array is no table: give it a column's name").into()
            );
        }
        let batch = RecordBatch::from(StructArray::from(array));
        return Ok(Box::new(RecordBatchIterator::new([Ok(batch.clone())], batch.schema())));
    }
    let name = given.get_type().name()?;
    Err(Error::new(
        Kind::Invalid,
        format!(
            "a `{name}` has no rows to give: pass a table of pyarrow, polars, pandas (2.2 or later) or \
             duckdb, or anything else that has `__arrow_c_stream__`"
        ),
    )
    .into())
}

/// What a struct of Arrow's C interface is once it has been taken out of its capsule.
trait Empty {
    fn empty() -> Self;
}

macro_rules! empty {
    ($($type:ty),*) => {
        $(impl Empty for $type {
            fn empty() -> Self {
                <$type>::empty()
            }
        })*
    };
}
empty! { FFI_ArrowArrayStream, FFI_ArrowSchema, FFI_ArrowArray }

/// Takes what a capsule holds, and leaves it empty, as its destructor expects of whoever used it.
fn taken<T: Empty>(capsule: &Bound<'_, PyAny>, name: &CStr) -> Result<T> {
    let capsule = capsule.cast::<PyCapsule>().map_err(PyErr::from)?;
    let pointer = capsule.pointer_checked(Some(name))?.cast::<T>();
    // SAFETY: a capsule of this name holds such a struct, whose place this thread has for itself while it
    // is attached to the interpreter.
    Ok(unsafe { pointer.replace(T::empty()) })
}

/// What Arrow says of rows that Python gave.
pub(crate) fn of_arrow(error: ArrowError) -> Error {
    let message = format!("the rows can't be read: {error}");
    Error::new(Kind::Invalid, message).because(error)
}
