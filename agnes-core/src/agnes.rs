//! The handle through which a program uses Agnes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::access::{Access, Principal, ResourceKind, TablePolicy, Watch};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::connector::{Connector, Job};
use crate::disk::Disk;
use crate::engine::Limits;
use crate::layout::Layout;
use crate::metadata::{self, MetadataProviders, MetadataSettings};
use crate::orchestrator::{
    self, AttachPolicy, Context, Generation, Held, Progress, RebuildPlan, RebuildReport,
};
use crate::profile::ProfileSettings;
use crate::query::{
    Gate, HybridLimits, Means, QueryLimits, RemoteEngines, Session, Shelf, Statements, Threads,
};
use crate::registry::IngestReport;
use crate::store::Store;
use crate::sync::{Connectors, SyncSettings};
use crate::worker::{Pool, Wall, WorkerCounts, WorkerSettings};
use crate::{NoSecrets, Result, Secrets, SourceName};

/// How Agnes works: plain data, the same for every call.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the system database lies, when not in `state/` below the data folder.
    pub state_dir: Option<PathBuf>,
    /// What the engine may use while it ingests and rebuilds.
    pub limits: Limits,
    /// What queries may take.
    pub query: QueryLimits,
    /// Which remote systems may be attached.
    pub attach_policy: AttachPolicy,
    /// How long a superseded generation is kept for outside readers.
    pub grace: Duration,
    /// How long to wait while another process holds the system database.
    pub store_patience: Duration,
    /// How long to wait while another rebuild runs.
    pub rebuild_patience: Duration,
    /// What decides who may see a table.
    pub table_policy: TablePolicy,
    /// How old what is known of remote tables may be.
    pub metadata: MetadataSettings,
    /// Which connectors there are, and when they run.
    pub sync: SyncSettings,
    /// How profiles are made.
    pub profiler: ProfileSettings,
    /// What the rows of remote statements may take.
    pub hybrid: HybridLimits,
    /// The processes in which statements run; in this one when absent.
    pub workers: Option<WorkerSettings>,
}

impl Default for Settings {
    /// One hour of grace, 5 s for the system database, ten minutes for another rebuild.
    fn default() -> Self {
        Settings {
            state_dir: None,
            limits: Limits::default(),
            query: QueryLimits::default(),
            attach_policy: AttachPolicy::default(),
            grace: Duration::from_secs(3600),
            store_patience: Duration::from_secs(5),
            rebuild_patience: Duration::from_secs(600),
            table_policy: TablePolicy::default(),
            metadata: MetadataSettings::default(),
            sync: SyncSettings::default(),
            profiler: ProfileSettings::default(),
            hybrid: HybridLimits::default(),
            workers: None,
        }
    }
}

/// What Agnes gets from outside: time, secrets, a disk.
#[derive(Clone)]
pub struct Components {
    /// Says what time it is.
    pub clock: Arc<dyn Clock>,
    /// Gives the values of token variables.
    pub secrets: Arc<dyn Secrets>,
    /// Does the file operations that publish.
    pub disk: Disk,
    /// Types of resources that can be granted besides tables.
    pub resource_kinds: Vec<Arc<dyn ResourceKind>>,
    /// Knows how large the tables of remote systems are.
    pub metadata_providers: MetadataProviders,
    /// The types of connectors that sources may name.
    pub connectors: Connectors,
    /// The remote systems in which callers may run statements of their own.
    pub remote_engines: RemoteEngines,
}

impl std::fmt::Debug for Components {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Components").finish_non_exhaustive()
    }
}

impl Default for Components {
    /// The system's clock, no secrets, the real disk.
    fn default() -> Self {
        Components {
            clock: Arc::new(SystemClock),
            secrets: Arc::new(NoSecrets),
            disk: Disk::real(),
            resource_kinds: Vec::new(),
            metadata_providers: MetadataProviders::default(),
            connectors: Connectors::default(),
            remote_engines: RemoteEngines::default(),
        }
    }
}

/// What is published at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Publication {
    /// The generation's number.
    pub number: u64,
    /// The tables.
    pub tables: usize,
    /// When they were published.
    pub at: Timestamp,
    /// When the oldest data was read from its source, where any extract says.
    pub oldest_data: Option<Timestamp>,
}

/// A data folder, open: extracts come in, one analytics database comes out, SQL runs on it.
///
/// Cheap to open: nothing is read or created before it is needed. It can be shared between
/// threads.
#[derive(Debug)]
pub struct Agnes {
    layout: Layout,
    settings: Settings,
    components: Components,
    store: Mutex<Option<Arc<Store>>>,
    access: Mutex<Option<Arc<Access>>>,
    metadata: Mutex<Option<Arc<metadata::Cache>>>,
    shelf: Arc<Shelf>,
    gate: Arc<Gate>,
    threads: Arc<Threads>,
    pool: Option<Arc<Pool>>,
}

/// Workers, and what keeps them in.
#[derive(Debug, Clone, serde::Serialize)]
pub struct WorkersReport {
    /// How many there are and have been.
    #[serde(flatten)]
    pub counts: WorkerCounts,
    /// Which walls stand around one.
    pub walls: Vec<Wall>,
}

impl Agnes {
    /// Opens the data folder with default settings, the system's clock and no secrets. The
    /// folder need not exist yet.
    ///
    /// # Errors
    /// `Unavailable` when the path can't be made absolute.
    pub fn open(data_dir: impl AsRef<Path>) -> Result<Agnes> {
        Agnes::open_with(data_dir, Settings::default(), Components::default())
    }

    /// Opens the data folder.
    ///
    /// # Errors
    /// As [`Agnes::open`].
    pub fn open_with(
        data_dir: impl AsRef<Path>,
        settings: Settings,
        components: Components,
    ) -> Result<Agnes> {
        let layout = Layout::new(data_dir.as_ref(), settings.state_dir.as_deref())?;
        let nice = settings.query.nice;
        let pool = settings.workers.clone().map(Pool::new);
        Ok(Agnes {
            gate: Gate::new(settings.query.clone()),
            layout,
            settings,
            components,
            store: Mutex::new(None),
            access: Mutex::new(None),
            metadata: Mutex::new(None),
            shelf: Arc::default(),
            threads: Arc::new(Threads::new(nice)),
            pool: pool.transpose()?,
        })
    }

    /// Where things lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The present moment, as this handle's clock says.
    pub fn now(&self) -> Timestamp {
        self.components.clock.now()
    }

    /// The system database, opened at the first call.
    ///
    /// # Errors
    /// `Unavailable` when another process holds it; `Invalid` when a newer version wrote it.
    pub fn store(&self) -> Result<Arc<Store>> {
        let mut slot = self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(store) = &*slot {
            return Ok(store.clone());
        }
        let store = Arc::new(Store::open(
            &self.layout,
            &self.components.disk,
            self.now(),
            self.settings.store_patience,
        )?);
        *slot = Some(store.clone());
        Ok(store)
    }

    /// Who may see what. The system database stays open, and with it closed to other processes.
    ///
    /// # Errors
    /// As [`Agnes::store`]; `Internal` when what decisions rest on can't be read.
    pub fn access(&self) -> Result<Arc<Access>> {
        let mut slot = self.access.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(access) = &*slot {
            return Ok(access.clone());
        }
        let access = Arc::new(Access::open(
            self.store()?,
            self.layout.state(),
            self.settings.table_policy,
            &self.components,
        )?);
        *slot = Some(access.clone());
        Ok(access)
    }

    /// What is known of remote tables, read at the first call.
    pub(crate) fn metadata_cache(&self) -> Result<Arc<metadata::Cache>> {
        let mut slot = self.metadata.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(cache) = &*slot {
            return Ok(cache.clone());
        }
        let cache = Arc::new(metadata::Cache::open(self.store()?)?);
        *slot = Some(cache.clone());
        Ok(cache)
    }

    /// Lets go of the system database while something takes long that doesn't need it, so that
    /// other processes may have it; the next call that needs it opens it again. Whoever holds on
    /// to an [`Access`] or a session keeps it.
    pub(crate) fn let_go(&self) {
        use std::sync::PoisonError;
        // In the order in which opening takes them.
        let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        let mut metadata = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        access.take_if(|access| Arc::strong_count(access) == 1);
        metadata.take_if(|metadata| Arc::strong_count(metadata) == 1);
        if access.is_none() && metadata.is_none() {
            store.take_if(|store| Arc::strong_count(store) == 1);
        }
    }

    /// Reads what is known of remote tables again, when somebody next asks.
    pub(crate) fn forget_metadata(&self) {
        self.metadata.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    }

    /// Lets statements in, in their order.
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// How many statements run and wait now.
    pub fn statements(&self) -> Statements {
        self.gate.counts()
    }

    /// Where statements of strangers run, and their files are read; none where that is this process.
    pub(crate) fn pool(&self) -> Option<&Arc<Pool>> {
        self.pool.as_ref()
    }

    /// How many workers there are and have been; none where statements run in this process.
    pub fn workers(&self) -> Option<WorkerCounts> {
        self.pool.as_ref().map(|pool| pool.counts())
    }

    /// Starts a worker and says which walls stand around it; none where statements run in this
    /// process.
    ///
    /// # Errors
    /// `Unavailable` when none can be started, or one is missing that is needed.
    pub fn worker_walls(&self) -> Result<Option<Vec<Wall>>> {
        self.pool.as_ref().map(|pool| pool.walls(&self.settings.query)).transpose()
    }

    /// Both in one report; none where statements run in this process.
    ///
    /// # Errors
    /// As [`Agnes::worker_walls`].
    pub fn describe_workers(&self) -> Result<Option<WorkersReport>> {
        let walls = self.worker_walls()?;
        Ok(self.workers().zip(walls).map(|(counts, walls)| WorkersReport { counts, walls }))
    }

    /// What it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn components(&self) -> &Components {
        &self.components
    }

    /// Runs a connector, which brings the extract of `source` up to its source, and registers
    /// the tables that are new. A rebuild afterwards publishes them.
    ///
    /// # Errors
    /// Whatever the connector says when nothing could be done. Tables that can't be registered
    /// are in the report.
    pub fn ingest(
        &self,
        source: &SourceName,
        connector: &dyn Connector,
        progress: &dyn Progress,
    ) -> Result<IngestReport> {
        let folder = self.layout.extract(source);
        let job = Job { folder: &folder, tables: None, declared: &[], now: self.now(), progress };
        let report = connector.extract(&job)?;
        Ok(self.register_ingested(source, report))
    }

    /// Shows what a rebuild would do, without doing it.
    ///
    /// # Errors
    /// `NotFound` when `only` names no source; `Unavailable` when ownership can't be read.
    pub fn plan_rebuild(&self, only: Option<&SourceName>) -> Result<RebuildPlan> {
        let there = self.layout.system_db().exists();
        let store = there.then(|| self.store()).transpose()?;
        orchestrator::dry_run(&self.context(), store.as_deref(), only)
    }

    /// Publishes what the extracts hold now: all of them, or one while the others stay as
    /// they were.
    ///
    /// # Errors
    /// `NotFound` when `only` names no source; `Unavailable` while another rebuild runs or
    /// when the disk can't be written. What was published before stays.
    pub fn rebuild(
        &self,
        only: Option<&SourceName>,
        progress: &dyn Progress,
    ) -> Result<RebuildReport> {
        let report = orchestrator::rebuild(&self.context(), || self.store(), only, progress)?;
        if report.published {
            // It is published: whoever asks next hears what is wrong with reading it.
            let _ = self.shelf.renew(&self.layout);
        }
        Ok(report)
    }

    /// Makes the next rebuild ask the system database, though no file may have changed.
    pub(crate) fn forget_heard(&self) -> Result<()> {
        self.components.disk.remove(&self.layout.heard())
    }

    /// The current generation: what is published, with columns, rows and hashes.
    ///
    /// # Errors
    /// `Unavailable` when it can't be read.
    pub fn generation(&self) -> Result<Option<Generation>> {
        Generation::load(&self.layout)
    }

    /// What is published now, in a few figures. Cheap: the generation is kept in memory.
    ///
    /// # Errors
    /// As [`Agnes::generation`].
    pub fn publication(&self) -> Result<Option<Publication>> {
        if !self.layout.generation().exists() {
            return Ok(None);
        }
        let held = self.held()?;
        let generation = &held.generation;
        Ok(Some(Publication {
            number: generation.number,
            tables: generation.views.len(),
            at: generation.created_at,
            oldest_data: generation.views.values().filter_map(|view| view.extracted_at).min(),
        }))
    }

    /// Opens a session over everything that is published, as the operator sees it.
    ///
    /// # Errors
    /// `Unavailable` when the generation can't be read.
    pub fn session(&self) -> Result<Session> {
        let access = self.access.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Session::open(&self.means(), Watch::operator(), access)
    }

    /// Opens a session over what a principal may see.
    ///
    /// # Errors
    /// As [`Agnes::session`] and [`Agnes::access`]; `Denied` when she may do nothing at all:
    /// nobody, a user who is unknown or deactivated, a token that has ended.
    pub fn session_for(&self, principal: &Principal) -> Result<Session> {
        if *principal == Principal::Operator {
            return self.session();
        }
        let access = self.access()?;
        access.stands(principal)?;
        let watch = access.watch(principal);
        Session::open(&self.means(), watch, Some(access))
    }

    /// The current generation, held on to.
    pub(crate) fn held(&self) -> Result<Arc<Held>> {
        self.shelf.current(&self.layout)
    }

    fn means(&self) -> Means<'_> {
        Means {
            layout: &self.layout,
            shelf: &self.shelf,
            gate: &self.gate,
            threads: &self.threads,
            pool: self.pool.as_ref(),
            limits: &self.settings.query,
            policy: &self.settings.attach_policy,
            secrets: &self.components.secrets,
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            layout: &self.layout,
            disk: &self.components.disk,
            limits: &self.settings.limits,
            policy: &self.settings.attach_policy,
            secrets: &*self.components.secrets,
            now: self.now(),
            grace: self.settings.grace,
            patience: self.settings.rebuild_patience,
            pool: self.pool.as_ref(),
        }
    }
}
