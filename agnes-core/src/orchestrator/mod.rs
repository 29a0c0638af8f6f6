//! The orchestrator: from many extracts to one analytics database.
//!
//! A rebuild is plan, then apply, then report. `scan` looks at every extract, `plan`
//! decides without touching anything, `apply` pins files, writes `server.duckdb` and
//! commits one [`Generation`]. It costs what changed: a source whose files are the ones that
//! the last generation saw isn't opened.
//!
//! Invariants:
//! - one rebuild at a time, over threads and processes;
//! - readers see the old generation or the new one; a crash at any moment leaves one of the
//!   two, and the next rebuild clears up;
//! - one bad source or table never takes others with it; it is in the report, with its cure.

mod apply;
mod attach;
mod checks;
mod generation;
mod merge;
mod pin;
mod plan;
mod scan;
mod server_db;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use attach::{AttachPolicy, AttachRule};
pub use generation::{Column, Generation, Pin, View};
pub use plan::{Collision, RebuildPlan, SourceState};

pub(crate) use apply::{check_intact, open};
pub(crate) use attach::{Attach, resolve as resolve_attach};
pub(crate) use generation::{Data, Held};
pub(crate) use plan::{Names, Ownership, Withdrawn};

use server_db::{Draft, Drafts};

use crate::disk::{Disk, FileLock, Fingerprint};
use crate::engine::Limits;
use crate::extract::{Skipped, contract};
use crate::layout::Layout;
use crate::store::Store;
use crate::worker::Pool;
use crate::{AttachAlias, Error, Key, Kind, Result, Secrets, SourceName, Timestamp, ViewName};

/// Hears how far long work is. Called from several threads.
pub trait Progress: Sync {
    /// A step of the work begins, with so many parts.
    fn start(&self, what: &str, total: u64);
    /// So many parts more are done.
    fn step(&self, parts: u64);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn start(&self, _: &str, _: u64) {}
    fn step(&self, _: u64) {}
}

/// What a rebuild works with.
pub(crate) struct Context<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) disk: &'a Disk,
    pub(crate) limits: &'a Limits,
    pub(crate) policy: &'a AttachPolicy,
    pub(crate) secrets: &'a dyn Secrets,
    pub(crate) now: Timestamp,
    /// How long a generation that nobody holds is kept for outside readers.
    pub(crate) grace: Duration,
    /// How long to wait for another rebuild to end.
    pub(crate) patience: Duration,
    /// The processes in which what strangers have written is read; this one when absent.
    pub(crate) pool: Option<&'a Arc<Pool>>,
}

/// What a rebuild did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RebuildReport {
    /// The generation that is current now.
    pub generation: u64,
    /// Whether this rebuild published it.
    pub published: bool,
    /// The views of each source that has any.
    pub sources: BTreeMap<SourceName, Vec<ViewName>>,
    /// Views that were not there before.
    pub created: Vec<ViewName>,
    /// Views whose rows or columns may have changed.
    pub replaced: Vec<ViewName>,
    /// The number of views that stayed as they were.
    pub unchanged: usize,
    /// Views that went.
    pub dropped: Vec<ViewName>,
    /// Tables whose name belongs to another source.
    pub collisions: Vec<Collision>,
    /// What was left out, and why.
    pub skipped: Vec<Skipped>,
    /// Remote systems that were attached to read the columns of new views.
    pub attached: Vec<AttachAlias>,
}

impl RebuildReport {
    /// Whether everything that the extracts publish is there.
    pub fn is_complete(&self) -> bool {
        self.skipped.is_empty() && self.collisions.is_empty()
    }
}

/// Shows what a rebuild would do, without doing it. Where there is no store yet, every name is
/// free or belongs to who published it.
pub(crate) fn dry_run(
    context: &Context<'_>,
    store: Option<&Store>,
    only: Option<&SourceName>,
) -> Result<RebuildPlan> {
    let previous = last_generation(context.layout)?;
    let scan = scan::scan(context.layout, &previous, only, context.now, context.pool)?;
    let names = match store {
        Some(store) => caught_up(store, &previous, context.now)?,
        None => {
            let owners = previous.views.iter().map(|(n, v)| (n.clone(), v.source.clone()));
            Names { owners: owners.collect(), ..Names::default() }
        }
    };
    prepare(context, &names, &previous, scan, only)
}

/// Who owns which name, and which are withdrawn. The generation is the truth; a crash may have
/// come before the store heard of it.
fn caught_up(store: &Store, previous: &Generation, now: Timestamp) -> Result<Names> {
    store.catch_up(previous, now)?;
    Ok(Names { owners: store.ownership()?, withdrawn: store.withdrawn()? })
}

/// Rebuilds: all sources, or one while the others are carried over.
///
/// # Errors
/// `Unavailable` while another rebuild runs, when ownership can't be read or the disk can't
/// be written. The old generation stays.
pub(crate) fn rebuild(
    context: &Context<'_>,
    open_store: impl FnOnce() -> Result<Arc<Store>> + Send,
    only: Option<&SourceName>,
    progress: &dyn Progress,
) -> Result<RebuildReport> {
    let layout = context.layout;
    context.disk.create_folder(&layout.analytics())?;
    let _lock = FileLock::take(&layout.rebuild_lock(), "another rebuild", context.patience)?;
    let crashed = layout.applying().exists();
    if crashed {
        clear_up(context)?;
    }
    let begin = || context.disk.write(&layout.applying(), b"");
    let report = std::thread::scope(|scope| {
        // Opening a copy of the analytics database takes longest, so that it begins as soon as
        // there is a sign that it will be needed.
        let copy = || scope.spawn(|| Draft::copy(context));
        let early = !crashed && scan::has_stirred(layout);
        if early {
            begin()?;
        }
        let mut drafts = Drafts::new(context, early.then(copy));
        let work = || {
            let previous = last_generation(layout)?;
            if !crashed && let Some(report) = nothing_to_do(context, &previous, only)? {
                return Ok(report);
            }
            if !early {
                begin()?;
            }
            let current = is_current(layout, &previous);
            match (current, drafts.is_begun()) {
                (true, false) => drafts = Drafts::new(context, Some(copy())),
                (false, true) => drafts.discard()?,
                _ => {}
            }
            // Only now: another process that rebuilds holds it until it is done.
            let store = scope.spawn(open_store);
            let scan = scan::scan(layout, &previous, only, context.now, context.pool)?;
            let store = join(store)?;
            let before = Before { generation: &previous, current, crashed };
            publish(&mut drafts, &store, &before, scan, only, progress)
        };
        let report = work();
        let discarded = drafts.discard();
        report.and_then(|report| discarded.map(|()| report))
    });
    match &report {
        Ok(_) => context.disk.remove(&layout.applying())?,
        // If clearing up fails as well, the next rebuild does it.
        Err(_) => drop(clear_up(context).and_then(|()| context.disk.remove(&layout.applying()))),
    }
    report
}

/// What a rebuild found when it began.
struct Before<'a> {
    generation: &'a Generation,
    /// Whether what outside readers see is that generation.
    current: bool,
    /// Whether the last rebuild was killed.
    crashed: bool,
}

/// Plans and applies, again while files keep changing.
fn publish(
    drafts: &mut Drafts<'_>,
    store: &Store,
    before: &Before<'_>,
    scan: scan::Scan,
    only: Option<&SourceName>,
    progress: &dyn Progress,
) -> Result<RebuildReport> {
    let context = drafts.context;
    let Before { generation: previous, current, crashed } = *before;
    let mut scan = Some(scan);
    // A file that changes while it is pinned is scanned again, not mixed.
    for _ in 0..5 {
        let scanned = match scan.take() {
            Some(scan) => scan,
            None => scan::scan(context.layout, previous, only, context.now, context.pool)?,
        };
        let plan =
            prepare(context, &caught_up(store, previous, context.now)?, previous, scanned, only)?;
        let collisions = plan.collisions.clone();
        let (claimed, released) = (plan.claimed.clone(), plan.released.clone());
        let nothing = plan.is_empty() && current && !crashed;
        if nothing && same_records(&plan, previous) {
            return Ok(report(previous, previous, collisions, plan.skipped, Vec::new()));
        }
        match apply::apply(plan, previous, current, drafts, progress)? {
            apply::Outcome::Moved => continue,
            apply::Outcome::Nothing(skipped) => {
                store.set_ownership(&claimed, &released, context.now)?;
                return Ok(report(previous, previous, collisions, skipped, Vec::new()));
            }
            apply::Outcome::Published(applied) => {
                let apply::Applied { generation, skipped, attached, spent } = *applied;
                let layout = context.layout;
                return std::thread::scope(|scope| {
                    // Taking an instance down takes as long as the rest.
                    scope.spawn(move || drop(spent));
                    store.set_ownership(&claimed, &released, context.now)?;
                    store.record_generation(previous, &generation, context.now)?;
                    let _ = std::fs::write(layout.heard(), generation.number.to_string());
                    generation::collect(layout, &generation, context.now, context.grace, crashed)?;
                    Ok(report(previous, &generation, collisions, skipped, attached))
                });
            }
        }
    }
    Err(Error::new(
        Kind::Unavailable,
        "files of an extract kept changing while they were read; let the connector finish and \
         run the rebuild again",
    ))
}

/// The result of a thread, or its panic.
fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The report of a rebuild that finds every file as it was. It decides nothing, so that it
/// needs neither ownership nor the system database.
fn nothing_to_do(
    context: &Context<'_>,
    previous: &Generation,
    only: Option<&SourceName>,
) -> Result<Option<RebuildReport>> {
    let layout = context.layout;
    let heard = std::fs::read_to_string(layout.heard()).ok().and_then(|n| n.parse().ok());
    let known = only.is_none_or(|only| previous.sources.contains_key(only));
    if heard != Some(previous.number)
        || !known
        || !layout.system_db().exists()
        || !is_current(layout, previous)
    {
        return Ok(None);
    }
    let Some(scan) = scan::unchanged(layout, previous, only, context.now)? else {
        return Ok(None);
    };
    let plan = plan::plan(previous, &scan, &Names::default(), context.policy);
    if !plan.is_empty() {
        return Ok(None);
    }
    Ok(Some(report(previous, previous, plan.collisions, plan.skipped, Vec::new())))
}

/// The current generation, without the views whose pins are gone: those are made again. Before
/// the first rebuild one that holds nothing.
fn last_generation(layout: &Layout) -> Result<Generation> {
    let Some(mut last) = Generation::load(layout)? else {
        return Ok(Generation::empty(layout.analytics()));
    };
    // Listing a folder costs a tenth of asking for each of its files.
    let mut folders: HashMap<SourceName, HashSet<OsString>> = HashMap::new();
    let list = |source: &SourceName| -> HashSet<OsString> {
        let entries = std::fs::read_dir(layout.pins().join(source.as_str())).into_iter().flatten();
        entries.flatten().map(|entry| entry.file_name()).collect()
    };
    let mut is_there = |view: &View| {
        let names = folders.entry(view.source.clone()).or_insert_with(|| list(&view.source));
        let name = |pin: &Pin| Path::new(&pin.path).file_name().map(OsStr::to_os_string);
        view.pins().all(|pin| name(pin).is_some_and(|name| names.contains(&name)))
    };
    let count = last.views.len();
    let sources = &mut last.sources;
    last.views.retain(|_, view| {
        let kept = is_there(view);
        if !kept && let Some(record) = sources.get_mut(&view.source) {
            record.digest.clear();
        }
        kept
    });
    if last.views.len() < count {
        // Its views name files that aren't there.
        last.server_db = None;
    }
    Ok(last)
}

/// What to do about the last generation.
fn prepare(
    context: &Context<'_>,
    names: &Names,
    previous: &Generation,
    mut scan: scan::Scan,
    only: Option<&SourceName>,
) -> Result<RebuildPlan> {
    let layout = context.layout;
    if !scan.exists {
        // Not one folder of extracts: more likely a wrong path than the wish to drop all.
        let error = contract(format!(
            "there is no `{}`; run `agnes ingest` first, or check the data folder",
            layout.extracts().display()
        ));
        scan.skipped.push(Skipped { source: String::new(), table: None, error: Arc::new(error) });
        let mut plan = plan::plan(previous, &as_before(previous, scan), names, context.policy);
        plan.released.clear();
        return Ok(plan);
    }
    if let Some(only) = only
        && !scan.sources.iter().any(|s| s.source == *only)
    {
        let known = previous.sources.contains_key(only);
        if !known {
            return Err(Error::new(
                Kind::NotFound,
                format!(
                    "there is no source `{only}`: `{}` has no extract of that name",
                    layout.extracts().display()
                ),
            )
            .with(Key::Source, only));
        }
    }
    Ok(plan::plan(previous, &scan, names, context.policy))
}

/// A scan that finds every source as it was.
fn as_before(previous: &Generation, scan: scan::Scan) -> scan::Scan {
    let unchanged = |source: &SourceName| scan::SourceScan {
        source: source.clone(),
        found: scan::Found::NotAsked,
    };
    scan::Scan { sources: previous.sources.keys().map(unchanged).collect(), ..scan }
}

fn same_records(plan: &RebuildPlan, previous: &Generation) -> bool {
    plan.records == previous.sources && previous.number > 0
}

/// Whether what outside readers see is this generation, under today's path.
fn is_current(layout: &Layout, generation: &Generation) -> bool {
    generation.root == layout.analytics()
        && generation.server_db.is_some()
        && Fingerprint::of_path(&layout.server_db()) == generation.server_db
}

/// Removes what a killed rebuild left half-written.
fn clear_up(context: &Context<'_>) -> Result<()> {
    let layout = context.layout;
    for file in [layout.server_db(), layout.generation()] {
        crate::engine::remove_database(context.disk, &crate::disk::aside(&file))?;
    }
    if let Some(current) = Generation::load(layout)? {
        generation::collect(layout, &current, context.now, context.grace, true)?;
    }
    Ok(())
}

fn report(
    before: &Generation,
    after: &Generation,
    collisions: Vec<Collision>,
    skipped: Vec<Skipped>,
    attached: Vec<AttachAlias>,
) -> RebuildReport {
    let mut report = RebuildReport {
        generation: after.number,
        published: after.number != before.number,
        sources: BTreeMap::new(),
        created: Vec::new(),
        replaced: Vec::new(),
        unchanged: 0,
        dropped: before.views.keys().filter(|n| !after.views.contains_key(n)).cloned().collect(),
        collisions,
        skipped,
        attached,
    };
    for (name, view) in &after.views {
        match report.sources.get_mut(&view.source) {
            Some(names) => names.push(name.clone()),
            None => drop(report.sources.insert(view.source.clone(), vec![name.clone()])),
        }
        match before.views.get(name) {
            None => report.created.push(name.clone()),
            Some(old) if Arc::ptr_eq(old, view) || old.has_same_rows(view) => report.unchanged += 1,
            Some(_) => report.replaced.push(name.clone()),
        }
    }
    report
}
