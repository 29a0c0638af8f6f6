//! `agnes.ExtractWriter`: extracts written from Python, of anything that gives Arrow rows.

use std::path::PathBuf;
use std::sync::Arc;

use agnes_core::binding::{Busy, Writing};
use agnes_core::extract::{RemoteAttach, RemoteTable};
use agnes_core::{ExternalName, ExtractWriter as CoreWriter, TableName};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrow::batches;
use crate::convert::{Told, told};
use crate::error::Result;

/// Writes the extract of a source: the folder that a rebuild reads.
///
/// Nothing is seen of it before `finish`, which the end of a `with` block calls; a block that ends with an
/// exception leaves the extract as it was. With `mode="partial"` the tables that aren't written stay.
#[pyclass(frozen, module = "agnes", weakref)]
pub(crate) struct ExtractWriter {
    writing: Arc<Writing>,
}

impl ExtractWriter {
    pub(crate) fn of(writing: impl Into<Arc<Writing>>) -> Self {
        ExtractWriter { writing: writing.into() }
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut CoreWriter) -> agnes_core::Result<T> + Send,
    ) -> Result<T> {
        Ok(py.detach(|| self.writing.with(work))?)
    }
}

#[pymethods]
impl ExtractWriter {
    /// Begins the extract in a folder whose last part is the source's name.
    #[new]
    #[pyo3(signature = (folder, *, mode="replace"))]
    fn new(py: Python<'_>, folder: PathBuf, mode: &str) -> Result<Self> {
        Ok(ExtractWriter::of(py.detach(|| Writing::begin(&folder, mode, Busy::Refuse))?))
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
        told(py, &py.detach(|| self.writing.finish())?)
    }

    /// Gives it up: the extract stays as it was.
    fn abandon(&self, py: Python<'_>) -> Result<()> {
        Ok(py.detach(|| self.writing.abandon())?)
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
        if self.writing.is_open()? {
            self.finish(py)?;
        }
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<agnes.ExtractWriter {}>", self.writing.shown())
    }
}
