//! `agnes.ExtractWriter`: extracts written from Python, of anything that gives Arrow rows.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use agnes_core::extract::{RemoteAttach, RemoteTable, WriteMode};
use agnes_core::{
    Clock, Error, ExternalName, ExtractWriter as CoreWriter, Kind, SystemClock, TableName,
};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrow::batches;
use crate::convert::{Told, told};
use crate::error::Result;
use agnes_core::binding::Origin;

/// Writes the extract of a source: the folder that a rebuild reads.
///
/// Nothing is seen of it before `finish`, which the end of a `with` block calls; a block that ends with an
/// exception leaves the extract as it was. With `mode="partial"` the tables that aren't written stay.
#[pyclass(frozen, module = "agnes", weakref)]
pub(crate) struct ExtractWriter {
    writer: Mutex<Option<CoreWriter>>,
    origin: Origin,
}

impl Drop for ExtractWriter {
    fn drop(&mut self) {
        // What it has written so far is that of the process that goes on with it.
        if !self.origin.is_here() {
            let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(writer.take());
        }
    }
}

impl ExtractWriter {
    pub(crate) fn of(writer: CoreWriter) -> Self {
        ExtractWriter { writer: Mutex::new(Some(writer)), origin: Origin::here() }
    }

    /// The writer, while nobody else writes with it: rows may come from Python code that would wait for
    /// itself.
    fn locked(&self) -> agnes_core::Result<MutexGuard<'_, Option<CoreWriter>>> {
        self.origin.check("the writer")?;
        match self.writer.try_lock() {
            Ok(writer) => Ok(writer),
            Err(TryLockError::Poisoned(writer)) => Ok(writer.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                Kind::Invalid,
                "the writer is at work on a table: write one after the other",
            )),
        }
    }

    /// The writer, out of Python's hands; none where Python code has finished it.
    pub(crate) fn take(&self) -> agnes_core::Result<Option<CoreWriter>> {
        Ok(self.locked()?.take())
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut CoreWriter) -> agnes_core::Result<T> + Send,
    ) -> Result<T> {
        Ok(py.detach(|| work(self.locked()?.as_mut().ok_or_else(finished)?))?)
    }
}

fn finished() -> Error {
    Error::new(Kind::Invalid, "the extract is finished, or was given up; begin another writer")
}

#[pymethods]
impl ExtractWriter {
    /// Begins the extract in a folder whose last part is the source's name.
    #[new]
    #[pyo3(signature = (folder, *, mode="replace"))]
    fn new(py: Python<'_>, folder: PathBuf, mode: &str) -> Result<Self> {
        let mode = WriteMode::of(mode)?;
        let writer = py.detach(|| CoreWriter::begin(&folder, mode, SystemClock.now()))?;
        Ok(ExtractWriter::of(writer))
    }

    /// Writes a table from whatever has `__arrow_c_stream__`, batch by batch.
    #[pyo3(signature = (name, data, *, description=None))]
    fn table(
        &self,
        py: Python<'_>,
        name: &str,
        data: &Bound<'_, PyAny>,
        description: Option<&str>,
    ) -> Result<()> {
        let (name, batches) = (TableName::parse(name)?, batches(data)?);
        self.with(py, |writer| {
            writer.table_from_batches(&name, None, batches)?;
            description.iter().for_each(|text| writer.describe(&name, text));
            Ok(())
        })
    }

    /// Writes one shard of a table. Shards are read together, in the order of their names, columns matched
    /// by name.
    fn shard(
        &self,
        py: Python<'_>,
        name: &str,
        shard: &str,
        data: &Bound<'_, PyAny>,
    ) -> Result<()> {
        let (name, shard) = (TableName::parse(name)?, ExternalName::parse(shard)?);
        let batches = batches(data)?;
        self.with(py, |writer| writer.table_from_batches(&name, Some(&shard), batches))
    }

    /// Takes a copy of a parquet file as a table.
    fn table_from_parquet(&self, py: Python<'_>, name: &str, file: PathBuf) -> Result<()> {
        let name = TableName::parse(name)?;
        self.with(py, |writer| writer.table_from_parquet(&name, &file))
    }

    /// Writes a table from the rows of a query that DuckDB runs with the rights of this process: it may
    /// read any file.
    fn table_from_sql(&self, py: Python<'_>, name: &str, query: &str) -> Result<()> {
        let name = TableName::parse(name)?;
        self.with(py, |writer| writer.table_from_sql(&name, query))
    }

    /// Says what a table is that was written.
    fn describe(&self, py: Python<'_>, name: &str, description: &str) -> Result<()> {
        let name = TableName::parse(name)?;
        self.with(py, |writer| {
            writer.describe(&name, description);
            Ok(())
        })
    }

    /// Takes a table out of the extract.
    fn remove(&self, py: Python<'_>, name: &str) -> Result<()> {
        let name = TableName::parse(name)?;
        self.with(py, |writer| {
            writer.remove(&name);
            Ok(())
        })
    }

    /// Says how to attach the system in which remote tables lie. The token stands in the variable that
    /// `token_env` names, on the machine that attaches it.
    #[pyo3(signature = (alias, *, extension, url, token_env=None))]
    fn remote_attach(
        &self,
        py: Python<'_>,
        alias: String,
        extension: String,
        url: String,
        token_env: Option<String>,
    ) -> Result<()> {
        let row = RemoteAttach::of(alias, extension, url, token_env)?;
        self.with(py, |writer| {
            writer.remote_attach(row);
            Ok(())
        })
    }

    /// Publishes a table whose rows stay in a remote system: `path` leads to it there, as in
    /// `["public", "orders"]`, `columns` are pairs of a name and a type of DuckDB.
    #[pyo3(signature = (name, *, alias, path, columns=Vec::new(), rows=0, size_bytes=0))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn remote_table(
        &self,
        py: Python<'_>,
        name: &str,
        alias: String,
        path: Vec<String>,
        columns: Vec<(String, String)>,
        rows: u64,
        size_bytes: u64,
    ) -> Result<()> {
        let name = TableName::parse(name)?;
        let table = RemoteTable { rows, size_bytes, ..RemoteTable::of(alias, path, columns)? };
        self.with(py, |writer| writer.remote_table(&name, table))
    }

    /// Checks, flushes and publishes what was written: a dict with `written`, `kept` and `removed`.
    fn finish(&self, py: Python<'_>) -> Told {
        let writer = self.take()?.ok_or_else(finished)?;
        told(py, &py.detach(|| writer.finish())?)
    }

    /// Gives it up: the extract stays as it was.
    fn abandon(&self, py: Python<'_>) -> Result<()> {
        let writer = self.take()?;
        py.detach(|| drop(writer));
        Ok(())
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    #[pyo3(signature = (kind, *_raised))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Bound<'_, PyAny>,
        _raised: Bound<'_, PyTuple>,
    ) -> Result<()> {
        if !kind.is_none() {
            return self.abandon(py);
        }
        let is_there = self.locked()?.is_some();
        if is_there {
            self.finish(py)?;
        }
        Ok(())
    }

    fn __repr__(&self) -> String {
        let Ok(writer) = self.locked() else { return "<agnes.ExtractWriter at work>".to_string() };
        let source = writer.as_ref().map(|writer| writer.source().to_string());
        match source {
            Some(source) => format!("<agnes.ExtractWriter of {source}>"),
            None => "<agnes.ExtractWriter finished>".to_string(),
        }
    }
}
