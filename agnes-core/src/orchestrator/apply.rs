//! Carrying out a plan: pin files, build `server.duckdb`, commit, bring the rest up to it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::checks::Checks;
use super::generation::{Data, Generation, Pin, SkippedRecord, SourceRecord, View};
use super::merge;
use super::pin::{self, Failure, Target};
use super::plan::{Make, RebuildPlan, ViewPlan, restate};
use super::server_db::{self, Drafts};
use super::{Context, Progress};
use crate::disk::{self, Fingerprint};
use crate::extract::{self, Content, Skipped};
use crate::{AttachAlias, Error, Kind, Result, SourceName, TableName, ViewName};

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
    /// The engine that wrote it, which is done.
    pub(crate) spent: Option<duckdb::Connection>,
}

/// Carries out a plan. On an error the old generation stays current. `current` says whether
/// what outside readers see is the generation before.
pub(crate) fn apply(
    plan: RebuildPlan,
    previous: &Generation,
    current: bool,
    drafts: &mut Drafts<'_>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let context = drafts.context;
    let layout = context.layout;
    let disk = context.disk;
    disk.create_folder(&layout.pins())?;

    let RebuildPlan { views: planned, records, skipped, .. } = plan;
    let mut new = Generation::empty(layout.analytics());
    new.number = previous.number + 1;
    new.created_at = context.now;
    new.sources = records;

    // Local views, in parallel: what takes time is reading files.
    let mut kept: Vec<(ViewName, Arc<View>)> = Vec::with_capacity(planned.len());
    let mut work: Vec<(ViewName, Box<Make>)> = Vec::new();
    for (name, planned) in planned {
        match planned {
            ViewPlan::Carry(view) | ViewPlan::Restate(view) => kept.push((name, view)),
            ViewPlan::Make(make) => work.push((name, make)),
        }
    }
    // In order: a map is made of them at once.
    let mut views: BTreeMap<ViewName, Arc<View>> = kept.into_iter().collect();
    for (_, make) in &work {
        disk.create_folder(&layout.pins().join(make.source.as_str()))?;
    }
    // Source by source, as they are looked at.
    work.sort_by(|(_, a), (_, b)| a.source.cmp(&b.source));
    let (known, checks) = (Known::of(previous), Checks::new(layout, context.pool));
    let total = work.len();
    progress.start("pinning files", total as u64);
    let outcomes = in_parallel(&work, |(_, make)| {
        let outcome = make_data(make, &known, context, &checks);
        progress.step(1);
        outcome
    });
    let mut out = Left { skipped, records: &mut new.sources };
    let mut written: Vec<PathBuf> = Vec::new();
    let mut made: BTreeMap<ViewName, Box<Make>> = BTreeMap::new();
    for ((name, make), outcome) in work.into_iter().zip(outcomes) {
        match outcome {
            Ok(data) => {
                let view = view_of(&make, data);
                if matches!(view.data, Data::Files { .. }) {
                    written.extend(view.pins().map(|p| layout.analytics().join(&p.path)));
                    written.push(layout.pins().join(make.source.as_str()));
                }
                views.insert(name.clone(), Arc::new(view));
                made.insert(name, make);
            }
            Err(Failure::Table(error)) => {
                out.leave_out(&make.source, make.table.name(), error, false);
            }
            Err(Failure::Passing(error)) => {
                out.leave_out(&make.source, make.table.name(), error, true);
            }
            Err(Failure::Moved) => return Ok(Outcome::Moved),
            Err(Failure::Disk(error)) => return Err(error),
        }
    }
    if !written.is_empty() {
        written.push(layout.pins());
        written.sort();
        written.dedup();
        disk.flush_many(&layout.pins(), &written)?;
    }

    // The columns are known once the views are bound.
    let server_db::Written { draft, attached, refused } =
        server_db::write(drafts, previous, current, &mut views, &made, progress)?;
    for server_db::Refused { source, table, error, passing } in refused {
        out.leave_out(&source, &table, error, passing);
    }
    let skipped = out.skipped;

    // Views that came out as they were need no new generation; but what was learnt about
    // the files is kept, so that they aren't read again.
    let same = current
        && views.len() == previous.views.len()
        && views
            .iter()
            .zip(&previous.views)
            .all(|((a, x), (b, y))| a == b && (Arc::ptr_eq(x, y) || x.publishes_as(y)));
    new.views = views;
    if same {
        new.number = previous.number;
        new.created_at = previous.created_at;
        new.server_db = previous.server_db;
        new.restate(layout, disk)?;
        return Ok(Outcome::Nothing(skipped));
    }
    // The engine takes as long to finish the one file as we take for the other.
    let spent = std::thread::scope(|scope| {
        let closing = scope.spawn(|| draft.map(|draft| draft.close(disk)).transpose());
        let begun = new.begin_commit(layout, disk);
        let closed = super::join(closing)?;
        begun?;
        new.server_db = match &closed {
            Some(closed) => Fingerprint::of_path(&closed.file),
            None => previous.server_db,
        };
        new.commit(layout, disk)?;
        let Some(server_db::Closed { file, connection }) = closed else { return Ok(None) };
        // The old one is a copy of what is no more; its log must not meet the new one.
        disk.remove(&disk::with_suffix(&layout.server_db(), ".wal"))?;
        disk.rename(&file, &layout.server_db())?;
        Ok::<_, Error>(Some(connection))
    })?;
    Ok(Outcome::Published(Box::new(Applied { generation: new, skipped, attached, spent })))
}

/// What is left out on the way, and remembered of each source.
struct Left<'a> {
    skipped: Vec<Skipped>,
    records: &'a mut BTreeMap<SourceName, SourceRecord>,
}

impl Left<'_> {
    /// Leaves a table out. What may be well again next time makes its source be read again.
    fn leave_out(&mut self, source: &SourceName, table: &TableName, error: Error, passing: bool) {
        if let Some(record) = self.records.get_mut(source) {
            if passing {
                record.digest.clear();
            } else {
                record.skipped.push(SkippedRecord {
                    table: Some(table.to_string()),
                    kind: error.kind(),
                    message: error.message().to_string(),
                });
            }
        }
        self.skipped.push(extract::skipped(source, table.as_str(), error));
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
struct Known<'a> {
    files: HashMap<(&'a str, &'a str, Fingerprint), &'a Pin>,
    /// What several files were merged to, by their paths in order.
    merged: HashMap<Vec<&'a str>, &'a Pin>,
}

impl<'a> Known<'a> {
    fn of(previous: &'a Generation) -> Self {
        let shards = || previous.views.values().filter(|v| v.files().len() > 1);
        let pins = shards().flat_map(|v| v.files().iter().map(move |p| (v, p)));
        let merged = shards().filter_map(|v| {
            Some((v.files().iter().map(|p| p.path.as_str()).collect(), v.whole()?))
        });
        Known {
            files: pins.map(|(v, p)| ((v.source.as_str(), p.name.as_str(), p.origin), p)).collect(),
            merged: merged.collect(),
        }
    }
}

/// Pins or exports what a view reads.
fn make_data(
    make: &Make,
    known: &Known<'_>,
    context: &Context<'_>,
    checks: &Checks<'_>,
) -> Result<Data, Failure> {
    let target = Target {
        layout: context.layout,
        disk: context.disk,
        source: &make.source,
        table: make.table.name(),
        checks,
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
                match known.files.get(&key).filter(|_| !expected.is_racy(now_ns)) {
                    Some(pin) => files.push((*pin).clone()),
                    None => files.push(target.pin(&folder, path, *expected, index)?),
                }
            }
            target.open(&files, *by_name)?;
            let paths: Vec<&str> = files.iter().map(|pin| pin.path.as_str()).collect();
            let merged = match (files.len(), known.merged.get(&paths)) {
                (0 | 1, _) => None,
                (_, Some(pin)) => Some((*pin).clone()),
                (_, None) => merge::merge(&target, &files, *by_name, context)?,
            };
            Ok(Data::Files { files, by_name: *by_name, merged: merged.map(Box::new) })
        }
        Content::Export(query) => {
            let out = target.export_path();
            let _ = fs::remove_file(&out);
            let exported = extract::export(
                query,
                &make.folder,
                &out,
                context.limits,
                context.disk,
                context.pool,
            );
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
            let files = vec![target.pin_export()?];
            target.open(&files, false)?;
            Ok(Data::Files { files, by_name: false, merged: None })
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

/// Opens a pinned file that is still what the generation says.
pub(crate) fn open(
    layout: &crate::layout::Layout,
    name: &ViewName,
    view: &View,
    pin: &Pin,
) -> Result<std::fs::File> {
    let path = layout.analytics().join(&pin.path);
    let file = pin::open_intact(&path, pin).ok().flatten();
    file.ok_or_else(|| gone(name, view, &path))
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
