//! `agnes.Agnes`: a data folder, open. What it does about data is here; about people in `people.rs`, about
//! the registry, metadata and metrics in `tables.rs`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agnes_core::binding::{
    Along, Busy, GivenConfig, HandedOver, Handle, Opened, Opening, Operator, ToldProgress, Whose,
    files,
};
use agnes_core::connector::Connector;
use agnes_core::{
    Agnes as CoreAgnes, ExtractWriter, NoProgress, Progress, Secret, SourceName, WorkerProgram,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyTuple};
use serde::Serialize;

use crate::arrow::batches;
use crate::connector::{PyConnector, PyConnectorType, PyProvider, variable};
use crate::convert::{Told, json, told};
use crate::error::Result;
use crate::extract::ExtractWriter as Writer;
use crate::rows::Rows;
use crate::session::Session;
use crate::tables::fields;

/// A data folder, open: extracts come in, one analytics database comes out, SQL runs on it.
///
/// Made by `agnes.open`. It may be used by several threads; close it, or use it as a context manager, for
/// other processes to have the folder. Whoever holds it is the operator, who may do everything: `as_user`
/// gives what somebody else may see.
#[pyclass(frozen, module = "agnes", weakref)]
pub(crate) struct Agnes {
    open: Handle<CoreAgnes>,
    along: Arc<Along>,
    path: PathBuf,
}

impl Agnes {
    /// Does something with the core.
    pub(crate) fn run<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Operator<'_>) -> agnes_core::Result<T> + Send,
    ) -> Result<T> {
        let agnes = self.open.get()?;
        Ok(py.detach(|| work(&Operator::of(&agnes)))?)
    }

    /// Does something with the core, and tells what came of it.
    pub(crate) fn told<T: Serialize + Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Operator<'_>) -> agnes_core::Result<T> + Send,
    ) -> Told {
        told(py, &self.run(py, work)?)
    }

    fn session_of(&self, py: Python<'_>, whose: Whose) -> Result<Session> {
        Session::open(py, self.open.get()?, &self.along, whose)
    }

    /// The same for what takes long, and may tell how far it is.
    pub(crate) fn told_with<T: Serialize + Send>(
        &self,
        py: Python<'_>,
        progress: Option<Py<PyAny>>,
        work: impl FnOnce(&Operator<'_>, &dyn Progress) -> agnes_core::Result<T> + Send,
    ) -> Told {
        let Some(function) = progress else {
            return self.told(py, |agnes| work(agnes, &NoProgress));
        };
        let progress = ToldProgress::new(|what: &str, done: u64, total: u64| {
            Python::attach(|py| function.call1(py, (what, done, total)).map(drop))
        });
        let done = self.told(py, |agnes| work(agnes, &progress));
        progress.end()?;
        done
    }
}

/// Opens a data folder, which need not exist yet.
///
/// `config` is the path of an `instance.yaml`, or what would stand in one, as a dict. `secrets` is a mapping
/// of the variables that the configuration and the sources' tokens are taken from: `os.environ`, or what a
/// vault gave; nothing else of the environment is read. `connectors` are classes of connectors by the name
/// that `sources.<name>.connector` says; each is called with its configuration and has a method
/// `extract(job)`. `metadata_providers` know how large the remote tables of a source are: by its name, each a
/// function of a table or an object with a method `metadata(table)`. With `isolated` statements run in
/// worker processes that the kernel keeps in; a path names the program that is started for them.
#[pyfunction]
#[pyo3(signature = (path, *, config=None, secrets=None, connectors=None, metadata_providers=None, isolated=None))]
pub(crate) fn open(
    py: Python<'_>,
    path: PathBuf,
    config: Option<Bound<'_, PyAny>>,
    secrets: Option<Bound<'_, PyMapping>>,
    connectors: Option<BTreeMap<String, Py<PyAny>>>,
    metadata_providers: Option<BTreeMap<String, Py<PyAny>>>,
    isolated: Option<Bound<'_, PyAny>>,
) -> Result<Agnes> {
    let secrets = secrets.map(Bound::unbind);
    let mut opening = Opening {
        variables: secrets.map(|of| Arc::new(move |name: &str| variable(&of, name)) as _),
        config: config.map(|given| configured(&given)).transpose()?,
        workers: isolated.map_or(Ok(None), |given| program(&given))?,
        ..Opening::default()
    };
    for (name, class) in connectors.unwrap_or_default() {
        opening.connectors.push((name, Arc::new(PyConnectorType(class))));
    }
    for (name, provider) in metadata_providers.unwrap_or_default() {
        opening.metadata_providers.push((name, Arc::new(PyProvider(provider))));
    }
    let Opened { agnes, problems } = py.detach(|| opening.open(&path))?;
    for problem in problems {
        py.import("warnings")?.call_method1("warn", (problem,))?;
    }
    let path = agnes.layout().root().to_path_buf();
    Ok(Agnes { open: Handle::new("the data folder", agnes), along: Arc::default(), path })
}

/// A configuration: a dict, or the path of a file.
fn configured(given: &Bound<'_, PyAny>) -> Result<GivenConfig> {
    Ok(match given.is_instance_of::<PyDict>() {
        true => GivenConfig::Fields(json(given)?),
        false => GivenConfig::File(given.extract()?),
    })
}

/// What is started as a worker.
fn program(isolated: &Bound<'_, PyAny>) -> Result<Option<WorkerProgram>> {
    let told = isolated.py().import("agnes._worker")?.call_method1("program", (isolated,))?;
    let Some((path, arguments, environment)) = told.extract::<Option<Program>>()? else {
        return Ok(None);
    };
    let remote_environment = Vec::new();
    Ok(Some(WorkerProgram { path, arguments, environment, remote_environment }))
}

/// A program, its arguments and its environment.
type Program = (PathBuf, Vec<String>, Vec<(OsString, OsString)>);

#[pymethods]
impl Agnes {
    /// The data folder, absolute.
    #[getter]
    fn path(&self) -> &Path {
        &self.path
    }

    /// Closes it, with the sessions and rows that came of it. Other processes may have the folder then.
    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            self.along.close();
            self.open.close();
        });
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, py: Python<'_>, _raised: Bound<'_, PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        let closed = if self.open.get().is_err() { " closed" } else { "" };
        format!("<agnes.Agnes {}{closed}>", self.path.display())
    }

    /// Brings a source in: files (a path, or a list of paths of files and folders), tables (a dict of names
    /// and anything that has `__arrow_c_stream__`), or an object with a method `extract(job)`.
    ///
    /// Files may be CSV, TSV, JSON, Parquet and Arrow; `options` are those of the files connector:
    /// `mistakes` (`"fail"` or `"text"`), `prune`, `encoding`, `delimiter`, `header`. A rebuild publishes what
    /// came in. Gives what became of each table.
    #[pyo3(signature = (source, data, *, progress=None, **options))]
    fn ingest(
        &self,
        py: Python<'_>,
        source: &str,
        data: &Bound<'_, PyAny>,
        progress: Option<Py<PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> Told {
        let source = SourceName::parse(source)?;
        let tables = data.cast::<PyMapping>().ok();
        let extracts = tables.is_none() && data.hasattr("extract")?;
        let paths = (tables.is_none() && !extracts).then(|| json(data)).transpose()?;
        let connector: Box<dyn Connector + Send + Sync> =
            match (files(paths, fields(options)?)?, tables) {
                (Some(files), _) => Box::new(files),
                (None, Some(tables)) => {
                    let tables = tables.items()?.into_iter().map(|item| {
                        let (name, rows): (String, Bound<'_, PyAny>) = item.extract()?;
                        Ok((name, batches(&rows)?))
                    });
                    let write = |writer: &mut ExtractWriter, name: &_, rows| {
                        writer.table_from_batches(name, None, rows)
                    };
                    Box::new(HandedOver::of(tables.collect::<Result<Vec<_>>>()?, write)?)
                }
                (None, None) => Box::new(PyConnector(data.clone().unbind())),
            };
        self.told_with(py, progress, |agnes, progress| {
            agnes.ingest(&source, connector.as_ref(), progress)
        })
    }

    /// Begins to write the extract of a source; see `ExtractWriter`.
    #[pyo3(signature = (source, *, mode="replace"))]
    fn extract_writer(&self, py: Python<'_>, source: &str, mode: &str) -> Result<Writer> {
        Ok(Writer::of(self.run(py, |agnes| agnes.extract_writer(source, mode, Busy::Refuse))?))
    }

    /// Looks at the extract of a source with the eyes of a rebuild: what it holds, and what is wrong.
    fn check(&self, py: Python<'_>, source: &str) -> Told {
        self.told(py, |agnes| agnes.check(source))
    }

    /// Shows what a rebuild would do, without doing it.
    #[pyo3(signature = (source=None))]
    fn plan_rebuild(&self, py: Python<'_>, source: Option<&str>) -> Told {
        self.told(py, |agnes| agnes.plan_rebuild(source))
    }

    /// Publishes what the extracts hold now: all of them, or one while the others stay as they were.
    ///
    /// `progress(what, done, total)` hears how far it is.
    #[pyo3(signature = (source=None, *, progress=None))]
    fn rebuild(&self, py: Python<'_>, source: Option<&str>, progress: Option<Py<PyAny>>) -> Told {
        self.told_with(py, progress, |agnes, progress| agnes.rebuild(source, progress))
    }

    /// What is published now in a few figures, or `None`.
    fn publication(&self, py: Python<'_>) -> Told {
        self.told(py, |agnes| agnes.publication())
    }

    /// A session over everything that is published, as the operator sees it.
    fn session(&self, py: Python<'_>) -> Result<Session> {
        self.session_of(py, Whose::Operator)
    }

    /// A session over what a user may see.
    fn as_user(&self, py: Python<'_>, email: String) -> Result<Session> {
        self.session_of(py, Whose::User(email))
    }

    /// A session over what the owner of a token may see: a personal one, or that of a session.
    fn as_token(&self, py: Python<'_>, token: String) -> Result<Session> {
        self.session_of(py, Whose::Token(Secret::new(token)))
    }

    /// Runs a query over everything that is published now; see `Session.sql`.
    #[pyo3(signature = (query, parameters=None, *, max_rows=None, max_bytes=None, timeout=None))]
    fn sql(
        &self,
        py: Python<'_>,
        query: String,
        parameters: Option<Vec<Bound<'_, PyAny>>>,
        max_rows: Option<u64>,
        max_bytes: Option<u64>,
        timeout: Option<f64>,
    ) -> Result<Rows> {
        self.session(py)?.sql(py, query, parameters, max_rows, max_bytes, timeout)
    }

    /// How many workers there are and have been, and which walls the kernel has raised around one; `None`
    /// where statements run in this process.
    fn workers(&self, py: Python<'_>) -> Told {
        self.told(py, |agnes| agnes.describe_workers())
    }

    /// What is wrong with the data folder, and what helps.
    fn examine(&self, py: Python<'_>) -> Told {
        self.told(py, |agnes| Ok(agnes.examine()))
    }

    /// Writes what no sync brings back to one file.
    fn back_up(&self, py: Python<'_>, path: PathBuf) -> Told {
        self.told(py, |agnes| agnes.back_up(&path))
    }

    /// Gives back what a backup holds.
    fn restore(&self, py: Python<'_>, path: PathBuf) -> Told {
        self.told(py, |agnes| agnes.restore(&path))
    }
}
