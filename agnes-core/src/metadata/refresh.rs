//! Asking the providers: one table, or all of them.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::attached::AttachedCatalog;
use super::cache::{Cache, Found};
use super::{Address, Freshness, FreshnessState, MetadataProvider, TableMetadata};
use crate::access::{Access, Principal};
use crate::error::of_a_panic;
use crate::extract::QueryMode;
use crate::orchestrator::{Generation, Held};
use crate::registry::RegisteredTable;
use crate::{Agnes, AttachAlias, Error, Key, Kind, Result, SourceName, TableId, Timestamp};

/// Which tables a refresh asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All that have a provider.
    All,
    /// Those that aren't fresh, as a server does at its start; as many at once as
    /// `warmup_concurrency` says.
    NotFresh,
}

/// A refresh of all tables that is under way, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    run_id: String,
    started_at: Timestamp,
}

/// What came of asking for a refresh of all tables.
#[derive(Debug, Clone)]
pub enum Refresh {
    /// It is done.
    Done(RefreshReport),
    /// Nothing was done, because one is under way: there is nothing left to do.
    AlreadyRunning(AlreadyRunning),
}

impl serde::Serialize for Refresh {
    /// As its report, or as what is under way with `already_running`.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Told<'a> {
            #[serde(flatten)]
            running: &'a AlreadyRunning,
            already_running: bool,
        }
        match self {
            Refresh::Done(report) => report.serialize(serializer),
            Refresh::AlreadyRunning(running) => {
                Told { running, already_running: true }.serialize(serializer)
            }
        }
    }
}

/// The refresh that is under way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AlreadyRunning {
    /// Which: eight lower-case hex digits.
    pub run_id: String,
    /// When it began.
    #[serde(serialize_with = "iso")]
    pub started_at: Timestamp,
}

/// What a refresh of all tables did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RefreshReport {
    /// Which it was: eight lower-case hex digits.
    pub run_id: String,
    /// When it began.
    #[serde(serialize_with = "iso")]
    pub started_at: Timestamp,
    /// The tables that were asked about: `succeeded + no_data + failed`.
    pub total: usize,
    /// Those of which something is known now.
    pub succeeded: usize,
    /// Those that their system doesn't know.
    pub no_data: usize,
    /// Those whose provider failed.
    pub failed: usize,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// What became of those that didn't succeed.
    #[serde(skip)]
    pub unsuccessful: Vec<Outcome>,
}

fn iso<S: serde::Serializer>(at: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&super::Iso(*at), s)
}

/// What became of one table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// Its provider told.
    Ok {
        /// The table.
        table_id: TableId,
        /// Rows.
        rows: Option<u64>,
        /// Bytes.
        size_bytes: Option<u64>,
        /// What it is.
        entity_type: Option<String>,
    },
    /// Its system doesn't know it.
    NoData {
        /// The table.
        table_id: TableId,
    },
    /// Its provider failed, or couldn't be asked.
    Error {
        /// The table.
        table_id: TableId,
        /// Why.
        error: String,
    },
}

impl Outcome {
    /// The table.
    pub fn table_id(&self) -> &TableId {
        match self {
            Outcome::Ok { table_id, .. }
            | Outcome::NoData { table_id }
            | Outcome::Error { table_id, .. } => table_id,
        }
    }
}

/// A table that is to be asked about, and whom to ask.
#[derive(Clone)]
struct Asked {
    table: RegisteredTable,
    provider: Arc<dyn MetadataProvider>,
}

/// The error of a table whose bucket or name is none, so that nobody is asked.
pub const INVALID_ADDRESS: &str = "invalid identifier";

/// The longest error that is kept, characters.
const ERROR_MAX: usize = 512;

/// What a provider says, or why it says nothing.
type Said = std::result::Result<Option<TableMetadata>, String>;

/// Asks one provider after the other on a thread of its own, so that one that hangs is given up.
struct Asker {
    ask: mpsc::Sender<(Arc<dyn MetadataProvider>, Address)>,
    said: mpsc::Receiver<Said>,
}

impl Asker {
    fn start() -> Result<Asker> {
        let (ask, asked) = mpsc::channel::<(Arc<dyn MetadataProvider>, Address)>();
        let (say, said) = mpsc::channel();
        let work = move || {
            while let Ok((provider, address)) = asked.recv() {
                let answer = catch_unwind(AssertUnwindSafe(|| provider.metadata(&address)));
                let answer: Said = match answer {
                    Ok(answer) => {
                        answer.map_err(|error| format!("{}: {}", error.kind(), error.message()))
                    }
                    Err(panic) => Err(format!("Panic: {}", of_a_panic(&*panic))),
                };
                if say.send(answer).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("agnes-metadata".into()).spawn(work);
        thread.map(|_| Asker { ask, said }).map_err(|e| {
            Error::new(Kind::Unavailable, format!("no thread can be had: {e}; try again"))
        })
    }

    /// Asks about one table. Whatever goes wrong is an outcome; a provider that doesn't answer in
    /// time is left to itself.
    fn ask(asker: &mut Option<Asker>, one: &Asked, time: Duration) -> Said {
        let Some(address) = Address::of(&one.table) else { return Err(INVALID_ADDRESS.into()) };
        let ready = match asker.take() {
            Some(ready) => ready,
            None => Asker::start().map_err(|e| format!("{}: {}", e.kind(), e.message()))?,
        };
        let sent = ready.ask.send((one.provider.clone(), address));
        match sent.map_err(drop).and_then(|()| ready.said.recv_timeout(time).map_err(drop)) {
            Ok(said) => {
                *asker = Some(ready);
                said
            }
            Err(()) => Err(format!("Unavailable: no answer within {} s", time.as_secs_f64())),
        }
    }
}

/// What an answer means for a table.
fn told_of(one: &Asked, said: Said, at: Timestamp) -> (Outcome, Found) {
    let table_id = one.table.id.clone();
    let (outcome, result) = match said.map(|metadata| metadata.and_then(TableMetadata::checked)) {
        Ok(Some(metadata)) => {
            let TableMetadata { rows, size_bytes, .. } = metadata;
            let entity_type = metadata.entity_type.clone();
            (Outcome::Ok { table_id, rows, size_bytes, entity_type }, Ok(metadata))
        }
        Ok(None) => (Outcome::NoData { table_id }, Err("provider returned no data".to_string())),
        Err(error) => {
            let kept = match error.as_str() {
                INVALID_ADDRESS => "invalid bucket/source_table identifier".to_string(),
                error => error.to_string(),
            };
            (Outcome::Error { table_id, error }, Err(kept))
        }
    };
    let result = result.map_err(|kept| kept.chars().take(ERROR_MAX).collect::<String>().into());
    (outcome, Found { table: one.table.clone(), at, result })
}

/// The right to be the one refresh of all that runs.
struct Turn<'c> {
    cache: &'c Cache,
    run: Run,
}

impl<'c> Turn<'c> {
    /// Looks and takes it in one step.
    fn take(cache: &'c Cache, now: Timestamp) -> Result<Turn<'c>, AlreadyRunning> {
        let mut running = cache.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Run { run_id, started_at }) = running.clone() {
            return Err(AlreadyRunning { run_id, started_at });
        }
        let run_id = uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect();
        let run = Run { run_id, started_at: now };
        *running = Some(run.clone());
        Ok(Turn { cache, run })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.cache.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// How long what was found out waits for more before it is written.
const WRITE_EVERY: Duration = Duration::from_millis(500);

impl Agnes {
    /// Asks about every remote table whose source has a provider, or about those that aren't
    /// fresh, some at a time. One at a time runs in a process.
    ///
    /// A table that fails keeps its last good figures, and stops no other.
    ///
    /// # Errors
    /// `Denied` for anybody but admins; `Unavailable` when what was found can't be written.
    pub fn refresh_metadata(&self, principal: &Principal, which: Which) -> Result<Refresh> {
        let access = self.access()?;
        access.admin(principal)?;
        let cache = self.metadata_cache()?;
        let turn = match Turn::take(&cache, self.now()) {
            Ok(turn) => turn,
            Err(running) => return Ok(Refresh::AlreadyRunning(running)),
        };
        let asked = self.asked_about(&access, &cache, which)?;
        let outcomes = self.ask_all(&access, &cache, which, &asked)?;
        let mut report = RefreshReport {
            run_id: turn.run.run_id.clone(),
            started_at: turn.run.started_at,
            total: asked.len(),
            succeeded: 0,
            no_data: 0,
            failed: 0,
            duration_ms: 0,
            unsuccessful: Vec::new(),
        };
        for outcome in outcomes {
            match outcome {
                Outcome::Ok { .. } => report.succeeded += 1,
                Outcome::NoData { .. } => report.no_data += 1,
                Outcome::Error { .. } => report.failed += 1,
            }
            if !matches!(outcome, Outcome::Ok { .. }) {
                report.unsuccessful.push(outcome);
            }
        }
        report.unsuccessful.sort_by(|a, b| a.table_id().cmp(b.table_id()));
        let took = self.now().since(report.started_at).as_millis();
        report.duration_ms = u64::try_from(took).unwrap_or(u64::MAX);
        Ok(Refresh::Done(report))
    }

    /// The refresh of all tables that is under way in this process, if one is.
    ///
    /// # Errors
    /// As [`Agnes::store`].
    pub fn metadata_run(&self) -> Result<Option<AlreadyRunning>> {
        let cache = self.metadata_cache()?;
        let running = cache.running.lock().unwrap_or_else(PoisonError::into_inner);
        let run = running.clone();
        Ok(run.map(|Run { run_id, started_at }| AlreadyRunning { run_id, started_at }))
    }

    /// Asks about one table, whatever else runs.
    ///
    /// # Errors
    /// `Denied` for anybody but admins; `NotFound` when no table of that id is registered;
    /// `Invalid` when it isn't remote or nobody can be asked about it; `Unavailable` when what
    /// was found can't be written. What the provider says is the outcome, also when it fails.
    pub fn refresh_table_metadata(&self, principal: &Principal, id: &TableId) -> Result<Outcome> {
        let access = self.access()?;
        let table = access.admin(principal)?.table(id)?;
        if table.query_mode() != QueryMode::Remote {
            return Err(Error::new(
                Kind::Invalid,
                format!("`{id}` isn't remote: what is known of it is what its files say"),
            )
            .with(Key::Table, id));
        }
        let mut providers = Providers::new(self)?;
        let provider = providers.of(&table)?.ok_or_else(|| {
            Error::new(
                Kind::Invalid,
                format!(
                    "nobody can be asked about `{id}`: its source `{}` has no metadata provider \
                     and attaches no remote system for it",
                    table.source
                ),
            )
            .with(Key::Table, id)
        })?;
        let asked = Asked { table, provider };
        let said = Asker::ask(&mut None, &asked, self.settings().metadata.timeout);
        let (outcome, found) = told_of(&asked, said, self.now());
        self.metadata_cache()?.keep(vec![found], |id| access.registered(id))?;
        Ok(outcome)
    }

    /// The tables to ask about, in the order of their ids.
    fn asked_about(&self, access: &Access, cache: &Cache, which: Which) -> Result<Vec<Asked>> {
        let (now, threshold) = (self.now(), self.settings().metadata.threshold());
        let mut tables = Vec::new();
        {
            let rows = cache.rows();
            access.each_visible(&Principal::Operator, |table| {
                let fresh = || {
                    let row = rows.get(&table.id).filter(|row| row.is_of(table));
                    let state = Freshness::of(row.map(|row| &**row), now, threshold).state;
                    state == FreshnessState::Fresh
                };
                if table.query_mode() == QueryMode::Remote && (which == Which::All || !fresh()) {
                    tables.push(table.clone());
                }
            });
        }
        tables.sort_by(|a, b| a.id.cmp(&b.id));
        let mut providers = Providers::new(self)?;
        let mut asked = Vec::with_capacity(tables.len());
        for table in tables {
            if let Some(provider) = providers.of(&table)? {
                asked.push(Asked { table, provider });
            }
        }
        Ok(asked)
    }

    /// Asks about each, some at a time, and keeps what is found as it comes.
    fn ask_all(
        &self,
        access: &Access,
        cache: &Cache,
        which: Which,
        asked: &[Asked],
    ) -> Result<Vec<Outcome>> {
        let settings = &self.settings().metadata;
        let many: NonZeroUsize = match which {
            Which::All => settings.concurrency,
            Which::NotFresh => settings.warmup_concurrency,
        };
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..many.get().min(asked.len()) {
                let (tell, next, stop) = (tell.clone(), &next, &stop);
                scope.spawn(move || {
                    let mut asker = None;
                    while let Some(one) = asked.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let said = Asker::ask(&mut asker, one, settings.timeout);
                        if tell.send(told_of(one, said, self.now())).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(tell);
            let keep = |found: Vec<Found>| {
                let kept = cache.keep(found, |id| access.registered(id));
                // Nothing more can be kept, so that nothing more is asked.
                kept.inspect_err(|_| stop.store(true, Ordering::Relaxed))
            };
            let (mut outcomes, mut found) = (Vec::with_capacity(asked.len()), Vec::new());
            let mut written = Instant::now();
            loop {
                match told.recv_timeout(WRITE_EVERY.saturating_sub(written.elapsed())) {
                    Ok((outcome, one)) => {
                        outcomes.push(outcome);
                        found.push(one);
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        keep(std::mem::take(&mut found))?;
                        written = Instant::now();
                    }
                    Err(mpsc::RecvTimeoutError::Disconnected) => {
                        keep(found)?;
                        return Ok(outcomes);
                    }
                }
            }
        })
    }
}

/// Whom to ask about which table, for one refresh.
struct Providers<'a> {
    agnes: &'a Agnes,
    held: Arc<Held>,
    attached: HashMap<(SourceName, AttachAlias), Arc<dyn MetadataProvider>>,
}

impl<'a> Providers<'a> {
    fn new(agnes: &'a Agnes) -> Result<Self> {
        Ok(Providers { agnes, held: agnes.held()?, attached: HashMap::new() })
    }

    /// The one that was given for the table, or the catalog that its source attaches.
    fn of(&mut self, table: &RegisteredTable) -> Result<Option<Arc<dyn MetadataProvider>>> {
        if let Some(provider) = self.agnes.components().metadata_providers.of(table) {
            return Ok(Some(provider));
        }
        let Some(alias) = attached_for(&self.held.generation, table) else { return Ok(None) };
        let of = (table.source.clone(), alias);
        if let Some(provider) = self.attached.get(&of) {
            return Ok(Some(provider.clone()));
        }
        let Some(row) = self.held.generation.attach(&of.0, &of.1) else { return Ok(None) };
        let catalog = AttachedCatalog::new(self.agnes, &of.0, row.clone());
        let provider: Arc<dyn MetadataProvider> = Arc::new(catalog);
        self.attached.insert(of, provider.clone());
        Ok(Some(provider))
    }
}

/// The remote system that a published table is read from.
fn attached_for(generation: &Generation, table: &RegisteredTable) -> Option<AttachAlias> {
    let view = generation.views.get(&table.name).filter(|view| view.source == table.source)?;
    view.aliases().first().cloned()
}
