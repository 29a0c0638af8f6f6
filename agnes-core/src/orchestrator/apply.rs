//! Carrying out a plan: pin files, build `server.duckdb`, commit, bring the rest up to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use duckdb::Connection;

use super::attach::{self, Attach};
use super::generation::{Column, Data, Generation, Pin, SkippedRecord, View};
use super::pin::{self, Failure, Target};
use super::plan::{Make, RebuildPlan, ViewPlan, restate};
use super::{Context, Progress};
use crate::disk::{self, Fingerprint};
use crate::extract::{self, Content, Skipped};
use crate::sql::{self, Sql};
use crate::{AttachAlias, Error, Kind, Result, SourceName, ViewName, engine};

/// What came of a plan.
pub(crate) enum Outcome {
    /// A new generation is current.
    Published(Box<Applied>),
    /// Nothing differed in the end.
    Nothing(Vec<Skipped>),
    /// A file changed meanwhile: scan again.
    Moved,
}

pub(crate) struct Applied {
    pub(crate) generation: Generation,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) attached: Vec<AttachAlias>,
}

/// Carries out a plan. On an error the old generation stays current.
pub(crate) fn apply(
    plan: RebuildPlan,
    previous: &Generation,
    context: &Context<'_>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let layout = context.layout;
    let disk = context.disk;
    disk.create_folder(&layout.pins())?;
    disk.write(&layout.applying(), b"")?;

    let RebuildPlan { views: planned, records, skipped, .. } = plan;
    let mut new = Generation::empty(layout.analytics());
    new.number = previous.number + 1;
    new.created_at = context.now;
    new.sources = records;

    // Local views, in parallel: what takes time is reading files.
    let mut views: BTreeMap<ViewName, Arc<View>> = BTreeMap::new();
    let mut work: Vec<(ViewName, Box<Make>)> = Vec::new();
    for (name, planned) in planned {
        match planned {
            ViewPlan::Carry(view) | ViewPlan::Restate(view) => {
                views.insert(name, view);
            }
            ViewPlan::Make(make) => work.push((name, make)),
        }
    }
    for (_, make) in &work {
        disk.create_folder(&layout.pins().join(make.source.as_str()))?;
    }
    let known = Known::of(previous);
    let total = work.len();
    progress.start("pinning files", total as u64);
    let outcomes = in_parallel(&work, |(_, make)| {
        let outcome = make_data(make, &known, context);
        progress.step(1);
        outcome
    });
    let mut out = Left { skipped, records: &mut new.sources };
    let mut written: Vec<PathBuf> = Vec::new();
    let mut made: Vec<(ViewName, Box<Make>)> = Vec::new();
    for ((name, make), outcome) in work.into_iter().zip(outcomes) {
        match outcome {
            Ok(data) => {
                if let Data::Files { files, .. } = &data {
                    written.extend(files.iter().map(|p| layout.analytics().join(&p.path)));
                }
                views.insert(name.clone(), Arc::new(view_of(&make, data)));
                made.push((name, make));
            }
            Err(Failure::Table(error)) => out.leave_out(&make, error, false),
            Err(Failure::Moved) => return Ok(Outcome::Moved),
            Err(Failure::Disk(error)) => return Err(error),
        }
    }
    if !written.is_empty() {
        let folders = fs::read_dir(layout.pins()).into_iter().flatten().flatten();
        written.extend(folders.map(|f| f.path()));
        written.push(layout.pins());
        disk.flush_many(&layout.pins(), &written)?;
    }

    // The columns are known once the views are bound.
    let current_db = Fingerprint::of_path(&layout.server_db());
    let moved = previous.root != layout.analytics();
    let db_is_current = current_db.is_some() && current_db == previous.server_db && !moved;
    let mut builder = ServerDb::new(context, previous, db_is_current);
    let written = builder.build(&mut views, &mut made, &mut out, progress)?;
    let (skipped, attached) = (out.skipped, written.attached);

    // Views that came out as they were need no new generation; but what was learnt about
    // the files is kept, so that they aren't read again.
    let same = db_is_current
        && views.len() == previous.views.len()
        && views
            .iter()
            .zip(&previous.views)
            .all(|((a, x), (b, y))| a == b && (Arc::ptr_eq(x, y) || x.publishes_as(y)));
    if same {
        new.number = previous.number;
        new.created_at = previous.created_at;
        new.server_db = previous.server_db;
        new.views = views;
        new.restate(layout, disk)?;
        disk.remove(&layout.applying())?;
        return Ok(Outcome::Nothing(skipped));
    }
    new.views = views;
    new.server_db = match &written.file {
        Some(file) => Fingerprint::of_path(file),
        None => current_db,
    };
    new.commit(layout, disk)?;
    if let Some(file) = written.file {
        // The old one is a copy of what is no more; its log must not meet the new one.
        disk.remove(&disk::with_suffix(&layout.server_db(), ".wal"))?;
        disk.rename(&file, &layout.server_db())?;
    }
    disk.remove(&layout.applying())?;
    Ok(Outcome::Published(Box::new(Applied { generation: new, skipped, attached })))
}

/// What is left out on the way, and remembered of each source.
struct Left<'a> {
    skipped: Vec<Skipped>,
    records: &'a mut BTreeMap<SourceName, super::generation::SourceRecord>,
}

impl Left<'_> {
    /// Leaves a table out. What may be well again next time makes its source be read again.
    fn leave_out(&mut self, make: &Make, error: Error, passing: bool) {
        let name = make.table.name().as_str();
        if let Some(record) = self.records.get_mut(&make.source) {
            if passing {
                record.digest.clear();
            } else {
                record.skipped.push(SkippedRecord {
                    table: Some(name.to_string()),
                    kind: error.kind(),
                    message: error.message().to_string(),
                });
            }
        }
        self.skipped.push(extract::skipped(&make.source, name, error));
    }
}

fn view_of(make: &Make, data: Data) -> View {
    let pins: &[Pin] = match &data {
        Data::Files { files, .. } => files,
        Data::Remote { .. } => &[],
    };
    let mut view = View {
        source: make.source.clone(),
        table: make.table.name().clone(),
        description: None,
        rows: pins.iter().map(|p| p.rows).sum(),
        size_bytes: pins.iter().map(|p| p.pinned.size).sum(),
        extracted_at: None,
        query_mode: make.table.query_mode(),
        columns: Vec::new(),
        origin: make.origin.clone(),
        data,
    };
    restate(&mut view, &make.table);
    view
}

/// The pins of the previous generation, by what they were made from: an unchanged shard of
/// a changed table is not read again.
struct Known<'a>(HashMap<(&'a str, &'a str, Fingerprint), &'a Pin>);

impl<'a> Known<'a> {
    fn of(previous: &'a Generation) -> Self {
        let shards = previous.views.values().filter(|v| v.files().len() > 1);
        let pins = shards.flat_map(|v| v.files().iter().map(move |p| (v, p)));
        Known(pins.map(|(v, p)| ((v.source.as_str(), p.name.as_str(), p.origin), p)).collect())
    }
}

/// Pins or exports what a view reads.
fn make_data(make: &Make, known: &Known<'_>, context: &Context<'_>) -> Result<Data, Failure> {
    let target = Target {
        layout: context.layout,
        disk: context.disk,
        source: &make.source,
        table: make.table.name(),
    };
    match &make.table.content {
        Content::Files { by_name, .. } => {
            let folder =
                extract::open_folder(&make.source, &make.folder).map_err(|_| Failure::Moved)?;
            let now_ns = context.now.as_micros().saturating_mul(1000);
            let mut files = Vec::with_capacity(make.files.len());
            for (index, (path, expected)) in make.files.iter().enumerate() {
                let name = path.to_string_lossy();
                let key = (make.source.as_str(), name.as_ref(), *expected);
                match known.0.get(&key).filter(|_| !expected.is_racy(now_ns)) {
                    Some(pin) => files.push((*pin).clone()),
                    None => files.push(target.pin(&folder, path, *expected, index)?),
                }
            }
            Ok(Data::Files { files, by_name: *by_name })
        }
        Content::Export(query) => {
            let out = target.export_path();
            let _ = fs::remove_file(&out);
            let exported = extract::export(query, &make.folder, &out, context.limits, context.disk);
            // A half-written export, or one of files that changed meanwhile, is worth nothing.
            let unchanged = extract::open_folder(&make.source, &make.folder)
                .and_then(|folder| extract::list_files(&make.source, &folder))
                .is_ok_and(|now| make.files.iter().all(|(p, f)| now.get(p) == Some(f)));
            if !unchanged {
                let _ = fs::remove_file(&out);
                return Err(Failure::Moved);
            }
            if let Err(error) = exported {
                let _ = fs::remove_file(&out);
                return Err(match error.kind() {
                    Kind::Unavailable => Failure::Disk(error),
                    _ => Failure::Table(extract::contract(format!(
                        "the table `{}` of `{}` is left out: it can't be exported: {}",
                        make.table.name(),
                        make.source,
                        error.message()
                    ))),
                });
            }
            Ok(Data::Files { files: vec![target.pin_export()?], by_name: false })
        }
        Content::Remote { query, aliases } => {
            Ok(Data::Remote { query: query.as_str().to_string(), aliases: aliases.clone() })
        }
    }
}

/// Runs `work` over all items on as many threads as there are cores.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if threads == 1 || items.len() < 2 {
        return items.iter().map(work).collect();
    }
    // Neighbours write into one folder, on which threads would wait for each other: each
    // thread takes a run of them at a time.
    let run = (items.len() / (threads * 4)).clamp(1, 64);
    let next = AtomicUsize::new(0);
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = Vec::new();
                    loop {
                        let start = next.fetch_add(run, Ordering::Relaxed);
                        if start >= items.len() {
                            return done;
                        }
                        for (at, item) in items.iter().enumerate().skip(start).take(run) {
                            done.push((at, work(item)));
                        }
                    }
                })
            })
            .collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, Vec<(usize, R)>>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().flat_map(join).collect()
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Builds the database for outside readers: changes a copy of the last one where that is
/// less work, otherwise writes a new one.
struct ServerDb<'a> {
    context: &'a Context<'a>,
    previous: &'a Generation,
    current: bool,
}

struct Written {
    /// The finished file beside its place; none when the one in place will do.
    file: Option<PathBuf>,
    attached: Vec<AttachAlias>,
}

/// A view that DuckDB refuses, found while the database is written.
struct Refused {
    name: ViewName,
    error: Error,
    passing: bool,
}

impl<'a> ServerDb<'a> {
    fn new(context: &'a Context<'a>, previous: &'a Generation, current: bool) -> Self {
        ServerDb { context, previous, current }
    }

    fn build(
        &mut self,
        views: &mut BTreeMap<ViewName, Arc<View>>,
        made: &mut Vec<(ViewName, Box<Make>)>,
        out: &mut Left<'_>,
        progress: &dyn Progress,
    ) -> Result<Written> {
        loop {
            match self.write(views, made, progress)? {
                Ok(written) => return Ok(written),
                Err(refused) => {
                    // A statement that failed has ended the transaction, so that the file
                    // is begun again without the view.
                    views.remove(&refused.name);
                    if let Some(at) = made.iter().position(|(name, _)| *name == refused.name) {
                        let (_, make) = made.remove(at);
                        out.leave_out(&make, refused.error, refused.passing);
                    } else {
                        return Err(refused.error);
                    }
                }
            }
        }
    }

    /// The view's body in `server.duckdb`, with the paths of today.
    fn body(&self, view: &View) -> Result<Sql> {
        match &view.data {
            Data::Files { by_name, .. } => {
                sql::select_parquet(&Generation::paths(self.context.layout, view), *by_name)
            }
            Data::Remote { query, .. } => Ok(sql::guarded(query.clone())),
        }
    }

    /// Whether two views have the same definition in `server.duckdb`.
    fn same_body(a: &View, b: &View) -> bool {
        match (&a.data, &b.data) {
            (Data::Files { files: a, by_name: x }, Data::Files { files: b, by_name: y }) => {
                x == y && a.iter().map(|p| &p.path).eq(b.iter().map(|p| &p.path))
            }
            (a, b) => a == b,
        }
    }

    fn write(
        &self,
        views: &mut BTreeMap<ViewName, Arc<View>>,
        made: &[(ViewName, Box<Make>)],
        progress: &dyn Progress,
    ) -> Result<Result<Written, Refused>> {
        let context = self.context;
        let previous = &self.previous.views;
        let is_same = |name: &ViewName, view: &Arc<View>| {
            previous.get_key_value(name).is_some_and(|(old_name, old)| {
                old_name.as_str() == name.as_str()
                    && (Arc::ptr_eq(old, view) || Self::same_body(old, view))
            })
        };
        // What came out as it was keeps its columns.
        for (name, view) in views.iter_mut() {
            if view.columns.is_empty()
                && is_same(name, view)
                && let Some(old) = previous.get(name)
            {
                Arc::make_mut(view).columns = old.columns.clone();
            }
        }
        let mut change: Vec<ViewName> = Vec::new();
        for (name, view) in views.iter() {
            if !self.current || !is_same(name, view) {
                change.push(name.clone());
            }
        }
        let gone: Vec<&ViewName> = previous.keys().filter(|n| !views.contains_key(n)).collect();
        if self.current && change.is_empty() && gone.is_empty() {
            return Ok(Ok(Written { file: None, attached: Vec::new() }));
        }
        let from_copy = self.current && (change.len() + gone.len()) * 2 < views.len();
        if !from_copy {
            change = views.keys().cloned().collect();
        }

        let file = disk::aside(&context.layout.server_db());
        let disk = context.disk;
        engine::remove_database(disk, &file)?;
        disk.engine_writes(&file)?;
        if from_copy {
            let copy = || -> std::io::Result<()> {
                fs::copy(context.layout.server_db(), &file)?;
                fs::set_permissions(&file, fs::Permissions::from_mode(0o644))
            };
            copy().map_err(|e| Error::io("copy `server.duckdb` to", &file, e))?;
        }
        let connection = engine::in_memory(context.limits)?;
        let attached = match self.attach(&connection, views, made, &change)? {
            Ok(attached) => attached,
            Err(refused) => return Ok(Err(refused)),
        };
        engine::run(
            &connection,
            "write the analytics database",
            &sql::attach_to_write(&file, "server")?,
        )?;
        let fail = |e| engine::error("write the analytics database", e);
        connection.execute_batch("BEGIN").map_err(fail)?;
        for name in gone.iter().copied().chain(&change).filter(|_| from_copy) {
            connection.execute_batch(sql::drop_server_view(name).as_str()).map_err(fail)?;
        }
        // A remote system that is away now may be there when the view is read. Such views
        // come last: listing the columns would bind them.
        let is_bound = |name: &ViewName| {
            let remote = views.get(name).is_some_and(|v| matches!(v.data, Data::Remote { .. }));
            !remote || made.iter().any(|(m, _)| m == name)
        };
        let (bound, deferred): (Vec<ViewName>, Vec<ViewName>) =
            change.into_iter().partition(|name| is_bound(name));
        progress.start("writing views", bound.len() as u64);
        for name in &bound {
            let Some(view) = views.get(name) else { continue };
            let statement = sql::create_server_view(name, &self.body(view)?, false);
            if let Err(error) = connection.execute_batch(statement.as_str()) {
                return Ok(Err(Refused {
                    name: name.clone(),
                    error: self.refusal(view, &error),
                    passing: matches!(view.data, Data::Remote { .. }),
                }));
            }
            progress.step(1);
        }
        read_columns(&connection, views, &bound).map_err(fail)?;
        for name in &deferred {
            let Some(view) = views.get(name) else { continue };
            let statement = sql::create_server_view(name, &self.body(view)?, true);
            connection.execute_batch(statement.as_str()).map_err(fail)?;
        }
        connection.execute_batch("COMMIT").map_err(fail)?;
        engine::run(&connection, "write the analytics database", &sql::close_written("server"))?;
        drop(connection);
        let log = disk::with_suffix(&file, ".wal");
        if log.symlink_metadata().is_ok() {
            return Err(Error::internal("the analytics database kept a log when it was closed"));
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444))
            .map_err(|e| Error::io("write", &file, e))?;
        disk.flush(&file)?;
        Ok(Ok(Written { file: Some(file), attached }))
    }

    fn refusal(&self, view: &View, error: &duckdb::Error) -> Error {
        let root = self.context.layout.root().to_string_lossy().into_owned();
        let text = engine::message(error).replace(&root, "…");
        extract::contract(format!(
            "the table `{}` of `{}` is left out: DuckDB can't read it: {text}",
            view.table, view.source
        ))
    }

    /// Attaches the systems that views to be made anew read from.
    fn attach(
        &self,
        connection: &Connection,
        views: &BTreeMap<ViewName, Arc<View>>,
        made: &[(ViewName, Box<Make>)],
        change: &[ViewName],
    ) -> Result<Result<Vec<AttachAlias>, Refused>> {
        let mut attached: Vec<AttachAlias> = Vec::new();
        let remote = made.iter().filter(|(name, make)| {
            change.contains(name)
                && views.contains_key(name)
                && matches!(make.table.content, Content::Remote { .. })
        });
        for (name, make) in remote {
            for row in &make.attaches {
                // Asked for each source, also where another has attached the same system.
                let there = attached.contains(&row.alias);
                let done =
                    attach::resolve(self.context.policy, self.context.secrets, &make.source, row)
                        .and_then(
                            |attach: Attach| {
                                if there { Ok(()) } else { attach.run(connection, true) }
                            },
                        );
                if let Err(error) = done {
                    let error = Error::new(
                        error.kind(),
                        format!(
                            "the table `{}` of `{}` is left out: {}",
                            make.table.name(),
                            make.source,
                            error.message()
                        ),
                    );
                    return Ok(Err(Refused { name: name.clone(), error, passing: true }));
                }
                if !there {
                    attached.push(row.alias.clone());
                }
            }
        }
        Ok(Ok(attached))
    }
}

/// Reads the columns of the views that were made.
fn read_columns(
    connection: &Connection,
    views: &mut BTreeMap<ViewName, Arc<View>>,
    made: &[ViewName],
) -> Result<(), duckdb::Error> {
    /// Above this, one look at all columns is less work than many at a few.
    const FEW: usize = 50;
    let unknown: Vec<&ViewName> =
        made.iter().filter(|n| views.get(n).is_some_and(|v| v.columns.is_empty())).collect();
    if unknown.len() <= FEW {
        for name in unknown {
            let columns = engine::columns(connection, &sql::select_server_view(name))?;
            if let Some(view) = views.get_mut(name) {
                Arc::make_mut(view).columns =
                    columns.into_iter().map(|(name, kind)| Column { name, kind }).collect();
            }
        }
        return Ok(());
    }
    let mut statement = connection.prepare(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() \
         WHERE database_name = 'server' AND schema_name = 'main' ORDER BY table_oid, column_index",
    )?;
    let mut rows = statement.query([])?;
    let unknown: HashSet<&ViewName> = unknown.into_iter().collect();
    while let Some(row) = rows.next()? {
        let Ok(name) = ViewName::parse(row.get::<_, String>(0)?) else { continue };
        if unknown.contains(&name)
            && let Some(view) = views.get_mut(&name)
        {
            let column = Column { name: row.get(1)?, kind: row.get(2)? };
            Arc::make_mut(view).columns.push(column);
        }
    }
    Ok(())
}

/// Checks that the files of a view are still what the generation says.
pub(crate) fn check_intact(
    layout: &crate::layout::Layout,
    name: &ViewName,
    view: &View,
) -> Result<()> {
    for (path, pin) in Generation::paths(layout, view).iter().zip(view.files()) {
        if !matches!(pin::is_intact(path, pin), Ok(true)) {
            return Err(gone(name, view, path));
        }
    }
    Ok(())
}

fn gone(name: &ViewName, view: &View, path: &Path) -> Error {
    Error::new(
        Kind::Unavailable,
        format!(
            "a file of `{name}` was changed or removed behind Agnes' back; run `agnes rebuild`"
        ),
    )
    .with(crate::Key::View, name)
    .with(crate::Key::Source, &view.source)
    .with(crate::Key::Path, path.display())
}
