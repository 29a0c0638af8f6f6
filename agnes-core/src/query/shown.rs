//! What a session shows: the views of a visibility in one generation, in an instance of the
//! engine that may read exactly their files.
//!
//! An instance is shared by everybody who sees the same, so nothing that somebody brings along
//! lives in it. A view is made when a statement first names its table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use duckdb::Connection;

use super::checked::{Checked, Runs};
use super::instance::{Bounds, Has, Instance, Job, Place};
use super::limits::QueryLimits;
use super::rows::Parameter;
use crate::Key as ErrorKey;
use crate::access::Visibility;
use crate::disk::Fingerprint;
use crate::engine::direct::VECTOR;
use crate::layout::Layout;
use crate::orchestrator::{
    AttachPolicy, Data, Generation, Held, View, check_intact, resolve_attach,
};
use crate::sql::Sql;
use crate::worker::{Pool, Purpose, Rank, Taken, Worker};
use crate::{Error, Kind, Result, Secrets, ViewName, engine, sql};

/// The most statements whose verdicts are remembered, and the most bytes of their texts.
const VERDICTS_MAX: usize = 1000;
const VERDICT_BYTES_MAX: usize = 2 << 20;
/// The bytes of a table's files of which rows come in one batch. In memory they take a few times as much.
const BATCH_BYTES: u64 = 1 << 20;
/// The bytes of a row in a file, where no file says how many.
const EACH_UNKNOWN: u64 = 64;
/// The most parsers that are kept ready.
const PARSERS_MAX: usize = 4;

/// The views of a visibility in one generation.
pub(super) struct Shown {
    layout: Layout,
    held: Arc<Held>,
    key: Key,
    /// Whether a statement has spoiled the instance: the engine then refuses everything.
    spoiled: AtomicBool,
    /// None for all views of the generation.
    only: Option<BTreeMap<ViewName, Arc<View>>>,
    /// Whether everything that is published is among them.
    all: bool,
    /// What is published of them, where there is more.
    published: Option<BTreeMap<ViewName, Arc<View>>>,
    limits: QueryLimits,
    home: Home,
    verdicts: Mutex<Verdicts>,
}

/// Where statements run.
pub(super) enum Home {
    /// In this process.
    Here(Box<Instance>),
    /// In workers.
    Workers(Keys),
}

/// The workers of those who see the same, which end when nobody sees it any more: those that read the
/// tables, and those that know nothing but their names and columns.
pub(super) struct Keys {
    pool: Arc<Pool>,
    rows: u64,
    lists: u64,
}

impl Keys {
    fn new(pool: &Arc<Pool>) -> Keys {
        Keys { rows: pool.key(), lists: pool.key(), pool: pool.clone() }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.pool.forget(self.rows);
        self.pool.forget(self.lists);
    }
}

/// What the guard said of statements, by their text.
#[derive(Default)]
struct Verdicts {
    known: HashMap<Box<str>, Arc<Checked>>,
    bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shown {
    fn open(
        layout: &Layout,
        held: Arc<Held>,
        key: Key,
        only: Option<BTreeMap<ViewName, Arc<View>>>,
        limits: &QueryLimits,
        pool: Option<&Arc<Pool>>,
    ) -> Result<Shown> {
        let views = only.as_ref().unwrap_or(&held.generation.views);
        let home = match pool {
            None => {
                let files = files(layout, views.values());
                Home::Here(Box::new(Instance::open(&files, limits, Bounds::AtOnce)?))
            }
            Some(pool) => Home::Workers(Keys::new(pool)),
        };
        Ok(Shown {
            layout: layout.clone(),
            held,
            key,
            spoiled: AtomicBool::new(false),
            all: only.is_none(),
            only,
            published: None,
            limits: limits.clone(),
            home,
            verdicts: Mutex::default(),
        })
    }

    /// The same in an instance of its own.
    pub(super) fn again(&self) -> Result<Shown> {
        let (held, only) = (self.held.clone(), self.only.clone());
        let shown =
            Shown::open(&self.layout, held, self.key.clone(), only, &self.limits, self.pool())?;
        Ok(Shown { all: self.all, published: self.published.clone(), ..shown })
    }

    /// The same with some views more, in an instance of its own. What was added before is gone.
    pub(super) fn with(&self, more: BTreeMap<ViewName, Arc<View>>) -> Result<Shown> {
        let mut views = self.published.clone().unwrap_or_else(|| self.views().clone());
        let published = Some(views.clone());
        views.extend(more);
        let (held, key) = (self.held.clone(), self.key.clone());
        let shown = Shown::open(&self.layout, held, key, Some(views), &self.limits, self.pool())?;
        Ok(Shown { all: self.all, published, ..shown })
    }

    pub(super) fn generation(&self) -> &Generation {
        &self.held.generation
    }

    /// The views, by name.
    pub(super) fn views(&self) -> &BTreeMap<ViewName, Arc<View>> {
        self.only.as_ref().unwrap_or(&self.held.generation.views)
    }

    /// Whether everything that is published is shown.
    pub(super) fn is_all(&self) -> bool {
        self.all
    }

    /// What the guard said of a text, or says now.
    pub(super) fn verdict(
        &self,
        text: &str,
        judge: impl FnOnce() -> Result<Checked>,
    ) -> Result<Arc<Checked>> {
        if let Some(known) = lock(&self.verdicts).known.get(text) {
            return Ok(known.clone());
        }
        let statement = Arc::new(judge()?);
        if !statement.of_the_text() {
            return Ok(statement);
        }
        let mut verdicts = lock(&self.verdicts);
        let full = verdicts.known.len() >= VERDICTS_MAX;
        if full || verdicts.bytes + text.len() > VERDICT_BYTES_MAX {
            *verdicts = Verdicts::default();
        }
        if verdicts.known.insert(text.into(), statement.clone()).is_none() {
            verdicts.bytes += text.len();
        }
        Ok(statement)
    }

    /// Where its statements run.
    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    fn pool(&self) -> Option<&Arc<Pool>> {
        match &self.home {
            Home::Here(_) => None,
            Home::Workers(keys) => Some(&keys.pool),
        }
    }

    /// A worker that shows this, or the names of its tables and columns alone.
    fn worker(&self, keys: &Keys, runs: Runs, rank: Rank) -> Result<Taken> {
        let (key, purpose): (_, &dyn Fn() -> Purpose) = match runs {
            Runs::Catalog => (keys.lists, &|| Purpose::Lists),
            Runs::Shared | Runs::Remote => (keys.rows, &|| {
                let files = files(&self.layout, self.views().values());
                Purpose::Tables { files }
            }),
        };
        match rank {
            Rank::Usual => keys.pool.take(key, &self.limits, purpose),
            // One that goes last serves nobody afterwards; those that are ready are for others.
            Rank::Last => keys.pool.take_once(&self.limits, purpose(), rank),
        }
    }

    /// Does something in the worker that is kept, or in one that is kept from now on. Where that one was
    /// killed while it had nothing to do, which is nobody's fault, in another.
    pub(super) fn in_a_worker<T>(
        &self,
        keys: &Keys,
        kept: &mut Option<Taken>,
        (runs, rank): (Runs, Rank),
        mut work: impl FnMut(&mut Worker) -> Result<T>,
    ) -> Result<T> {
        let mut taken = match kept.take() {
            Some(taken) => taken,
            None => self.worker(keys, runs, rank)?,
        };
        let mut done = work(taken.worker()?);
        if done.is_err() && taken.worker()?.is_lost() {
            // Given back first: there may be no more than one.
            drop(taken);
            taken = self.worker(keys, runs, rank)?;
            done = work(taken.worker()?);
        }
        *kept = Some(taken);
        done
    }

    /// A worker that nobody else had or gets.
    pub(super) fn worker_once(&self, keys: &Keys, purpose: Purpose, rank: Rank) -> Result<Taken> {
        keys.pool.take_once(&self.limits, purpose, rank)
    }

    /// What the instance is told to run of a statement that was judged.
    pub(super) fn job(
        &self,
        checked: &Checked,
        statement: Sql,
        parameters: Vec<Parameter>,
        batch_rows: u32,
        (policy, secrets): (&AttachPolicy, &dyn Secrets),
        has: &dyn Has,
    ) -> Result<Job> {
        let names = checked.names();
        let (place, lacking) = match checked.runs() {
            Runs::Shared => (Place::Shared, has.lacks(names)),
            Runs::Remote => (self.remote(names, policy, secrets)?, names.iter().cloned().collect()),
            Runs::Catalog => {
                let tables = has.lacks_catalog().then(|| self.stand_ins());
                (Place::Catalog(tables.transpose()?), Vec::new())
            }
        };
        let views: Result<_> = lacking.into_iter().filter_map(|name| self.select(name)).collect();
        let batch_rows = self.batch_rows(names, batch_rows);
        Ok(Job { place, views: views?, statement, parameters, batch_rows })
    }

    /// How many rows come in one batch, where somebody wants no more than so many. How long they are their tables'
    /// files say.
    fn batch_rows(&self, names: &BTreeSet<ViewName>, most: u32) -> u32 {
        let views = names.iter().filter_map(|name| self.views().get(name));
        let each = views.filter(|view| view.rows > 0).map(|view| view.size_bytes / view.rows).max();
        let fit = BATCH_BYTES / each.unwrap_or(EACH_UNKNOWN).max(1);
        most.min(u32::try_from(fit).unwrap_or(u32::MAX).max(VECTOR))
    }

    /// A view by its name, and what it selects.
    pub(super) fn select(&self, name: ViewName) -> Option<Result<(ViewName, Sql)>> {
        let view = self.views().get(&name)?;
        let query = match &view.data {
            Data::Files { by_name, .. } => {
                sql::select_parquet(&Generation::paths(&self.layout, view), *by_name)
            }
            Data::Remote { query, .. } => Ok(sql::guarded(query.clone())),
        };
        Some(query.map(|query| (name, query)))
    }

    /// An empty table in place of each visible one.
    fn stand_ins(&self) -> Result<Vec<Sql>> {
        let tables = self.views().iter().map(|(name, view)| {
            let column = |c: &crate::orchestrator::Column| {
                Ok((crate::ColumnName::parse(c.name.clone())?, sql::ColumnType::parse(&c.kind)?))
            };
            let columns = view.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
            Ok(sql::create_table(name, &columns))
        });
        tables.collect()
    }

    /// The remote systems of some views, and the files of the others.
    fn remote(
        &self,
        names: &BTreeSet<ViewName>,
        policy: &AttachPolicy,
        secrets: &dyn Secrets,
    ) -> Result<Place> {
        let views = || names.iter().filter_map(|n| self.views().get(n));
        let (mut attaches, mut attached) = (Vec::new(), BTreeSet::new());
        for view in views() {
            let Data::Remote { aliases, .. } = &view.data else { continue };
            let Some(record) = self.generation().sources.get(&view.source) else { continue };
            for row in record.attaches.iter().filter(|row| aliases.contains(&row.alias)) {
                // Asked for each source, also where another has attached the same system.
                let attach = resolve_attach(policy, secrets, &view.source, row)?;
                if attached.insert(attach.alias().clone()) {
                    attaches.push(attach);
                }
            }
        }
        Ok(Place::Remote { attaches, files: files(&self.layout, views()) })
    }

    pub(super) fn is_remote(&self, name: &ViewName) -> bool {
        self.views().get(name).is_some_and(|view| matches!(view.data, Data::Remote { .. }))
    }

    /// Checks that the files of these views are still what the generation says.
    pub(super) fn intact(&self, names: &BTreeSet<ViewName>) -> Result<()> {
        let views = names.iter().filter_map(|name| Some((name, self.views().get(name)?)));
        views.into_iter().try_for_each(|(name, view)| check_intact(&self.layout, name, view))
    }

    /// What a caller hears of an error: not where the data folder lies, nor the engine's own
    /// account of how it failed, which names the files of the machine.
    pub(super) fn told(&self, error: Error) -> Error {
        if error.kind() == Kind::Internal {
            // A worker is replaced by itself.
            self.spoiled.store(matches!(self.home, Home::Here(_)), Ordering::SeqCst);
            return Error::new(
                Kind::Internal,
                "the engine failed on this statement; nothing was lost, but it can't be run",
            );
        }
        let error = error.without_home(&format!("{}/", self.layout.root().display()));
        // Its cures are settings, which a session can't change.
        if error.message().starts_with("Out of Memory") {
            let most = self.limits.memory_bytes >> 20;
            return Error::new(
                Kind::Limit,
                format!(
                    "the query needs more memory than its limit of {most} MiB; read fewer rows or \
                     columns at once, or sort and group less"
                ),
            );
        }
        let error = match of_a_file(error.message()) {
            Some(said) => Error::new(error.kind(), said),
            None => error,
        };
        over_a_limit(error).without(ErrorKey::Path)
    }

    fn is_spoiled(&self) -> bool {
        self.spoiled.load(Ordering::SeqCst)
    }
}

/// What the engine says of a file, without the file.
fn of_a_file(said: &str) -> Option<String> {
    let mut said = said.to_string();
    let mut found = false;
    while let Some(start) = said.find("\"analytics/pins/") {
        let rest = said.get(start + 1..)?;
        let end = start + 1 + rest.find('"')?;
        said.replace_range(start..=end, "of the table");
        found = true;
    }
    found.then_some(said)
}

/// What a bound of the instance says, which comes as a value that couldn't be cast.
fn over_a_limit(error: Error) -> Error {
    let said = error.message().split_once(sql::OVER_A_LIMIT).map(|(_, said)| said);
    let said = said.and_then(|said| said.split(['\'', '"']).next());
    match said {
        Some(said) => Error::new(Kind::Limit, said.to_string()),
        None => error,
    }
}

/// The files of some views.
fn files<'v>(layout: &Layout, views: impl Iterator<Item = &'v Arc<View>>) -> Vec<PathBuf> {
    views.flat_map(|view| Generation::paths(layout, view)).collect()
}

/// What is visible of a generation, to find an instance that shows the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    All,
    /// Which of the generation's views, in their order.
    Only(Vec<u32>),
}

/// The instances that are kept ready, and the generation that they show.
#[derive(Default)]
pub(crate) struct Shelf {
    state: Mutex<Kept>,
    /// Held by whoever loads a generation.
    loading: Mutex<()>,
    /// Connections to an instance that parses and holds nothing. With one thread it does so in
    /// half the time.
    parsers: Mutex<Vec<Connection>>,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("shown", &lock(&self.state).shown.len()).finish()
    }
}

#[derive(Default)]
struct Kept {
    /// The current generation, with the fingerprint of the file that says so.
    current: Option<(Option<Fingerprint>, Arc<Held>)>,
    shown: HashMap<Key, (u64, Arc<Shown>)>,
    uses: u64,
}

impl Shelf {
    /// Parses with a connection that nobody else uses meanwhile.
    pub(super) fn parse<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = lock(&self.parsers).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => engine::in_memory(&engine::Limits { memory_bytes: 256 << 20, threads: 1 })?,
        };
        let done = work(&connection);
        // One that failed may be spoiled.
        if done.as_ref().is_err_and(|error| error.kind() == Kind::Internal) {
            return done;
        }
        let mut parsers = lock(&self.parsers);
        if parsers.len() < PARSERS_MAX {
            parsers.push(connection);
        }
        done
    }

    /// Opens the first parser, which takes as long as an instance.
    fn warm_up(&self) {
        if lock(&self.parsers).is_empty() {
            // Whoever parses first says what is wrong.
            let _ = self.parse(|_| Ok(()));
        }
    }

    /// What is visible of the current generation.
    pub(super) fn show(
        &self,
        layout: &Layout,
        visibility: &Visibility,
        limits: &QueryLimits,
        pool: Option<&Arc<Pool>>,
    ) -> Result<Arc<Shown>> {
        let held = self.current(layout)?;
        let (key, only) = match visibility {
            Visibility::All => (Key::All, None),
            Visibility::Only(tables) => {
                let generation = &held.generation.views;
                // A grant reaches the table of its source, not whatever bears the name.
                let visible = tables.iter().filter_map(|table| {
                    let view = generation.get(&table.name)?;
                    (view.source == table.source).then(|| (table.name.clone(), view.clone()))
                });
                let only: BTreeMap<ViewName, Arc<View>> = visible.collect();
                let places = generation.keys().enumerate();
                let places = places.filter(|(_, name)| only.contains_key(*name));
                let places = places.map(|(at, _)| u32::try_from(at).unwrap_or(u32::MAX));
                (Key::Only(places.collect()), Some(only))
            }
        };
        {
            let mut kept = lock(&self.state);
            kept.uses += 1;
            let now = kept.uses;
            let number = held.generation.number;
            if let Some((used, shown)) = kept.shown.get_mut(&key)
                && shown.generation().number == number
                && !shown.is_spoiled()
            {
                *used = now;
                return Ok(shown.clone());
            }
        }
        let shown = std::thread::scope(|scope| {
            if pool.is_none() {
                scope.spawn(|| self.warm_up());
            }
            Shown::open(layout, held, key, only, limits, pool)
        });
        let shown = Arc::new(shown?);
        self.keep(&shown, limits);
        Ok(shown)
    }

    /// What shows the same as one that may have been spoiled.
    pub(super) fn sound(&self, shown: &Arc<Shown>) -> Result<Arc<Shown>> {
        if !shown.is_spoiled() {
            return Ok(shown.clone());
        }
        if let Some((_, kept)) = lock(&self.state).shown.get(&shown.key)
            && kept.generation().number == shown.generation().number
            && !kept.is_spoiled()
        {
            return Ok(kept.clone());
        }
        let fresh = Arc::new(shown.again()?);
        self.keep(&fresh, &shown.limits);
        Ok(fresh)
    }

    fn keep(&self, shown: &Arc<Shown>, limits: &QueryLimits) {
        let mut gone = Vec::new();
        let mut kept = lock(&self.state);
        let current = kept.current.as_ref().map(|(_, held)| held.generation.number);
        if current != Some(shown.generation().number) {
            // Only those who hold it need what shows an older one.
            return;
        }
        let now = kept.uses;
        gone.extend(kept.shown.insert(shown.key.clone(), (now, shown.clone())));
        while kept.shown.len() > limits.kept.max(1) {
            let oldest = kept.shown.iter().min_by_key(|(_, (used, _))| *used);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { break };
            gone.extend(kept.shown.remove(&key));
        }
        // Closed once nobody waits behind this lock.
        drop(kept);
    }

    /// The current generation; what shows an older one is let go of. While somebody loads a new one
    /// the others go on with the one before.
    pub(crate) fn current(&self, layout: &Layout) -> Result<Arc<Held>> {
        let file = Fingerprint::of_path(&layout.generation());
        let before = match &lock(&self.state).current {
            Some((known, held)) if *known == file => return Ok(held.clone()),
            before => before.as_ref().map(|(_, held)| held.clone()),
        };
        let loading = match (self.loading.try_lock(), before) {
            (Err(TryLockError::WouldBlock), Some(before)) => return Ok(before),
            (Ok(loading), _) => loading,
            (Err(_), _) => lock(&self.loading),
        };
        self.load(layout, loading)
    }

    /// Loads what was just published, for whoever asks from now on.
    pub(crate) fn renew(&self, layout: &Layout) -> Result<()> {
        self.load(layout, lock(&self.loading)).map(drop)
    }

    fn load(&self, layout: &Layout, _loading: MutexGuard<'_, ()>) -> Result<Arc<Held>> {
        let file = Fingerprint::of_path(&layout.generation());
        if let Some((known, held)) = &lock(&self.state).current
            && *known == file
        {
            return Ok(held.clone());
        }
        let held = Arc::new(Held::current(layout)?.unwrap_or_else(|| Held::nothing(layout)));
        let mut kept = lock(&self.state);
        let shown = std::mem::take(&mut kept.shown);
        let before = kept.current.replace((file, held.clone()));
        drop(kept);
        // Instances take a while to close.
        drop((shown, before));
        Ok(held)
    }
}
