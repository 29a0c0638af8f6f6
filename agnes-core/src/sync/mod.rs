//! Sync runs: connectors brought up to their sources, when it is time.
//!
//! A [`SourceSettings`] says which connector brings a source over, when, and with what
//! configuration. [`Agnes::sync`] runs those that are due, several at a time, and then rebuilds
//! once. A connector is a Rust object ([`ConnectorType`]) or any program: it gets
//! `{"source", "output", "tables", "declared", "config", "data_dir"}` as JSON on its standard
//! input and says by its exit code how it went: 0 all, 1 nothing, 2 some of it.
//!
//! ```
//! use agnes_core::sync::{Runs, SourceSettings, Which};
//! use agnes_core::{Agnes, Components, NoProgress, Settings, SourceName};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # std::fs::write(dir.path().join("orders.csv"), "id,total\n1,9.5\n").unwrap();
//! let mut settings = Settings::default();
//! settings.sync.sources.insert(
//!     SourceName::parse("shop")?,
//!     SourceSettings {
//!         config: serde_json::json!({"paths": [dir.path().join("orders.csv")]}),
//!         ..SourceSettings::new(Runs::Connector("files".into()))
//!     },
//! );
//! let agnes = Agnes::open_with(dir.path().join("data"), settings, Components::default())?;
//! let report = agnes.sync(&Which::Due, &NoProgress)?;
//! assert!(report.is_complete());
//! assert_eq!(report.sources[0].tables[0].table.as_str(), "orders");
//! # Ok::<(), agnes_core::Error>(())
//! ```
//!
//! Invariants:
//! - one failing connector or table takes no other with it;
//! - a table that wasn't due, or failed, is never lost, whatever the connector wrote;
//! - of one source one run at a time, over threads and processes.

mod keep;
mod opened;
mod outcome;
mod plan;
mod program;
mod run;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

pub(crate) use plan::sources;
pub use plan::{Asked, SourcePlan, SyncPlan};
pub use program::end_programs;
pub use run::{RunStatus, SourceReport};

use crate::connector::{Connector, ConnectorReport};
use crate::connectors::files::FilesConnector;
use crate::orchestrator::{Progress, RebuildReport};
use crate::profile::ProfileReport;
use crate::{Agnes, Error, Key, Kind, Result, Schedule, SourceName, TableId};

/// Which connectors there are, and when they run.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncSettings {
    /// The sources.
    pub sources: BTreeMap<SourceName, SourceSettings>,
    /// A folder with a folder for each connector that nobody configures: whatever holds an
    /// `extractor.py`, or a program `extractor`, is a source of its folder's name.
    pub connectors_dir: Option<PathBuf>,
    /// What relative paths in configurations are relative to.
    pub base_dir: PathBuf,
    /// The most time that a program may take.
    pub timeout: Duration,
    /// The same for those that nobody configures.
    pub drop_in_timeout: Duration,
    /// Connectors that run at the same time.
    pub concurrency: NonZeroUsize,
    /// What runs an `extractor.py`.
    pub python: PathBuf,
}

impl Default for SyncSettings {
    /// No source; an hour for a program, ten minutes for one that nobody configures; two at a
    /// time; `python3`.
    fn default() -> Self {
        SyncSettings {
            sources: BTreeMap::new(),
            connectors_dir: None,
            base_dir: PathBuf::new(),
            timeout: Duration::from_secs(3600),
            drop_in_timeout: Duration::from_secs(600),
            concurrency: NonZeroUsize::MIN.saturating_add(1),
            python: PathBuf::from("python3"),
        }
    }
}

/// How one source is brought over.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSettings {
    /// What brings it over.
    pub runs: Runs,
    /// When. A table's own schedule goes before it; without either a table is always due.
    pub schedule: Option<Schedule>,
    /// The most time that a program may take; the general limit when absent.
    pub timeout: Option<Duration>,
    /// What the connector is told; its own form.
    pub config: Value,
}

impl SourceSettings {
    /// A source without schedule and configuration.
    pub fn new(runs: Runs) -> Self {
        SourceSettings { runs, schedule: None, timeout: None, config: Value::Null }
    }
}

/// What brings a source over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runs {
    /// A connector by name: one of [`Connectors`], or else one in the folder of connectors.
    Connector(String),
    /// A program with its arguments.
    Program(Vec<String>),
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Runs::Connector(name) => f.write_str(name),
            // Its arguments may hold what a variable gave.
            Runs::Program(command) => f.write_str(command.first().map_or("", String::as_str)),
        }
    }
}

/// Makes connectors of one type, each of its configuration.
///
/// Any function `Fn(&Value, &Path) -> Result<Box<dyn Connector>>` is one.
pub trait ConnectorType: Send + Sync {
    /// Makes a connector of this configuration. Relative paths in it are relative to `base_dir`.
    ///
    /// # Errors
    /// `Invalid` for a configuration that is wrong, saying what is.
    fn open(&self, config: &Value, base_dir: &Path) -> Result<Box<dyn Connector>>;
}

impl<F: Fn(&Value, &Path) -> Result<Box<dyn Connector>> + Send + Sync> ConnectorType for F {
    fn open(&self, config: &Value, base_dir: &Path) -> Result<Box<dyn Connector>> {
        self(config, base_dir)
    }
}

/// The types of connectors that there are, by name.
#[derive(Clone)]
pub struct Connectors(BTreeMap<String, Arc<dyn ConnectorType>>);

impl Default for Connectors {
    /// The files connector, as `files`.
    fn default() -> Self {
        let files = |config: &Value, base_dir: &Path| -> Result<Box<dyn Connector>> {
            Ok(Box::new(FilesConnector::from_config(config, base_dir)?))
        };
        Connectors(BTreeMap::new()).with("files", Arc::new(files))
    }
}

impl Connectors {
    /// With one more, or another one of that name.
    #[must_use]
    pub fn with(mut self, name: &str, connector: Arc<dyn ConnectorType>) -> Self {
        self.0.insert(name.to_string(), connector);
        self
    }

    fn get(&self, name: &str) -> Option<&Arc<dyn ConnectorType>> {
        self.0.get(name)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Which sources a sync brings over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those with something that is due, and of them the tables that are.
    Due,
    /// All of them, all their tables.
    All,
    /// These, all their tables.
    Named(Vec<SourceName>),
    /// These registered tables, whether they are due or not.
    Tables(Vec<TableId>),
}

impl Which {
    /// As a program says it: names, or all, or neither for those that are due.
    ///
    /// # Errors
    /// `Invalid` for names and all.
    pub fn of(names: Vec<SourceName>, all: bool) -> Result<Which> {
        match (names.is_empty(), all) {
            (true, true) => Ok(Which::All),
            (true, false) => Ok(Which::Due),
            (false, false) => Ok(Which::Named(names)),
            (false, true) => {
                Err(Error::new(Kind::Invalid, "name sources or ask for all of them, not both"))
            }
        }
    }
}

/// What a sync did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SyncReport {
    /// The sources that were brought over, by name.
    pub sources: Vec<SourceReport>,
    /// Sources of which nothing was due.
    pub not_due: Vec<SourceName>,
    /// What was published; none where nothing ran.
    pub rebuild: Option<RebuildReport>,
    /// Why nothing could be published. What was published before stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuild_error: Option<Arc<Error>>,
    /// The tables whose profiles were made anew, because they changed.
    pub profiles: ProfileReport,
    /// Why it couldn't be noted how it went; what ran is due again then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note_error: Option<Arc<Error>>,
}

impl SyncReport {
    /// Whether everything that was due is published now.
    pub fn is_complete(&self) -> bool {
        self.sources.iter().all(|source| source.status == RunStatus::Ok)
            && self.rebuild_error.is_none()
            && self.note_error.is_none()
            && self.rebuild.as_ref().is_none_or(RebuildReport::is_complete)
    }
}

impl Agnes {
    /// Says what a sync would bring over, without doing it.
    ///
    /// # Errors
    /// `NotFound` for a source that nobody configured, and for a table that isn't registered or is
    /// of such a source; as [`Agnes::store`].
    pub fn plan_sync(&self, which: &Which) -> Result<SyncPlan> {
        let sources = sources(&self.settings().sync)?;
        let access = self.access()?;
        let named = match which {
            Which::Due | Which::All => Vec::new(),
            Which::Named(names) => names.clone(),
            Which::Tables(ids) => {
                let source = |id| match access.registered(id) {
                    Some(table) => Ok(table.source),
                    None => Err(crate::access::unregistered(id)),
                };
                ids.iter().map(source).collect::<Result<_>>()?
            }
        };
        if let Some(name) = named.iter().find(|name| !sources.contains_key(*name)) {
            return Err(no_source(name, sources.keys()));
        }
        let mut tables: BTreeMap<SourceName, Vec<_>> = BTreeMap::new();
        access.each_visible(&crate::access::Principal::Operator, |table| {
            if sources.contains_key(&table.source) {
                tables.entry(table.source.clone()).or_default().push(table.clone());
            }
        });
        let store = self.store()?;
        let known = plan::Known { tables, states: store.sync_states()?, runs: store.last_runs()? };
        Ok(plan::plan(sources, &known, which, self.now()))
    }

    /// Brings sources over, publishes what they hold now, and notes how it went.
    ///
    /// What befalls a connector or a table is in the report.
    ///
    /// # Errors
    /// As [`Agnes::plan_sync`].
    pub fn sync(&self, which: &Which, progress: &dyn Progress) -> Result<SyncReport> {
        let SyncPlan { sources } = self.plan_sync(which)?;
        let (todo, not_due): (Vec<_>, Vec<_>) =
            sources.into_iter().partition(|source| !matches!(source.asked, Asked::Nothing { .. }));
        let mut report = SyncReport {
            sources: Vec::with_capacity(todo.len()),
            not_due: not_due.into_iter().map(|source| source.source).collect(),
            rebuild: None,
            rebuild_error: None,
            profiles: ProfileReport::default(),
            note_error: None,
        };
        if todo.is_empty() {
            return Ok(report);
        }
        progress.start("sync", todo.len() as u64);
        // Connectors may take hours.
        self.let_go();
        report.sources = self.run_all(&todo, progress);
        for source in &mut report.sources {
            let (tables, ignored) = (source.tables.clone(), Vec::new());
            let ingested =
                self.register_ingested(&source.source, ConnectorReport { tables, ignored });
            source.registered = ingested.registered;
            source.unregistered = ingested.unregistered;
        }
        match self.rebuild(None, progress) {
            Ok(rebuilt) => report.rebuild = Some(rebuilt),
            Err(error) => report.rebuild_error = Some(Arc::new(error)),
        }
        // Nothing counts as synced that nobody can see.
        let published = report.rebuild.is_some();
        // What ran has run: a full disk mustn't cost the report of it.
        for source in &report.sources {
            let noted = self.store().and_then(|store| store.record_run(source, published));
            if let Err(error) = noted {
                report.note_error = Some(Arc::new(error));
            }
        }
        if let Some(rebuilt) = &report.rebuild {
            let changed = [rebuilt.created.as_slice(), rebuilt.replaced.as_slice()].concat();
            let operator = &crate::access::Principal::Operator;
            match self.refresh_profiles(operator, Some(&changed), progress) {
                Ok(profiles) => report.profiles = profiles,
                Err(error) => report.note_error = Some(Arc::new(error)),
            }
        }
        Ok(report)
    }

    /// Runs the connectors, some at a time.
    fn run_all(&self, todo: &[SourcePlan], progress: &dyn Progress) -> Vec<SourceReport> {
        let next = std::sync::atomic::AtomicUsize::new(0);
        let reports = Mutex::new(Vec::with_capacity(todo.len()));
        let work = || {
            let take = || next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            while let Some(source) = todo.get(take()) {
                let report = run::run(self, source, progress);
                progress.step(1);
                reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.settings().sync.concurrency.get().min(todo.len()) {
                scope.spawn(work);
            }
            work();
        });
        let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
        reports.sort_by(|a, b| a.source.cmp(&b.source));
        reports
    }
}

fn no_source<'s>(name: &SourceName, all: impl Iterator<Item = &'s SourceName>) -> Error {
    let near = crate::name::nearest(name.as_str(), all.map(SourceName::as_str));
    let cure = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "say how it is brought over below `sources` in instance.yaml".to_string(),
    };
    Error::new(Kind::NotFound, format!("no source `{name}` is configured; {cure}"))
        .with(Key::Source, name)
}
