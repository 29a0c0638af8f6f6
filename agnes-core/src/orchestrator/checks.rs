//! Looking at pinned files, which strangers have written, before anything else is done with them: in this
//! process, or in workers, which are all that a corrupt one takes along.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::pin::Failure;
use crate::extract::parquet::{self, Facts};
use crate::layout::Layout;
use crate::worker::{Fate, Foreign, Pool};
use crate::{Error, Kind, Result, SourceName, engine, sql};

/// What looking may take.
const LIMITS: engine::Limits = engine::Limits { memory_bytes: 1 << 30, threads: 1 };
/// How long all answers of one worker may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most workers that wait for another file of their source: as many as threads may ask.
const WAITING_MAX: usize = 4;
/// What is said of a file that takes its worker along.
const ENDS: &str = "ends what reads it";

/// What looks at pinned files.
pub(super) struct Checks<'a> {
    pool: Option<&'a Arc<Pool>>,
    layout: &'a Layout,
    /// Read files without the engine, in memory-safe code: no file takes one over, so that they serve all
    /// sources.
    looking: Mutex<Vec<Foreign>>,
    /// Have the engine open files of one source each: whatever takes one over says nothing of another.
    opening: Mutex<Vec<(SourceName, Foreign)>>,
}

/// What came of it.
pub(super) enum Trouble {
    /// What is wrong with the file.
    File(String),
    /// It can't be looked at just now.
    Passing(Error),
}

impl Trouble {
    /// What becomes of its table, with what is wrong with the file.
    pub(super) fn failure(self, bad: impl FnOnce(&str) -> Failure) -> Failure {
        match self {
            Trouble::File(fault) => bad(&fault),
            Trouble::Passing(error) => Failure::Disk(error),
        }
    }
}

impl<'a> Checks<'a> {
    pub(super) fn new(layout: &'a Layout, pool: Option<&'a Arc<Pool>>) -> Checks<'a> {
        let (looking, opening) = (Mutex::default(), Mutex::default());
        Checks { pool, layout, looking, opening }
    }

    /// Looks at a file before it is copied.
    pub(super) fn before_a_copy(&self, file: &File) -> Result<(), parquet::Fault> {
        match self.pool {
            None => parquet::check_footer(file),
            Some(_) => parquet::check_outside(file),
        }
    }

    /// Looks at the bytes of a whole file. Nothing comes of it where there are workers, which have them from
    /// a pinned file.
    pub(super) fn bytes(&self, bytes: &bytes::Bytes) -> Result<Option<Facts>, parquet::Fault> {
        match self.pool {
            None => parquet::check_bytes(bytes.clone()).map(Some),
            Some(_) => Ok(None),
        }
    }

    /// Looks at a pinned file.
    pub(super) fn look(&self, path: &Path) -> Result<Facts, Trouble> {
        let Some(pool) = self.pool else {
            let file =
                File::open(path).map_err(|e| Trouble::Passing(Error::io("open", path, e)))?;
            return parquet::check(&file).map_err(Trouble::File);
        };
        let idle = lock(&self.looking).pop();
        let worker = idle.map_or_else(|| open(pool, &self.layout.pins()), Ok);
        let worker = worker.map_err(Trouble::Passing)?;
        let looked = worker.look(path).map_err(|error| trouble(&worker, error));
        if worker.fate().is_none() && !worker.is_spent() {
            lock(&self.looking).push(worker);
        }
        looked
    }

    /// Has the engine open a pinned file of a source, where that can be done in a worker.
    pub(super) fn open(&self, source: &SourceName, path: &Path) -> Result<(), Trouble> {
        let Some(pool) = self.pool else { return Ok(()) };
        let worker = match self.idle_of(source) {
            Some(worker) => worker,
            None => {
                let folder = self.layout.pins().join(source.as_str());
                open(pool, &folder).map_err(Trouble::Passing)?
            }
        };
        let select = sql::select_parquet(&[path], false).map_err(Trouble::Passing)?;
        let opened =
            worker.execute("open a file", &sql::describe(&select)).map_err(|error| {
                match (worker.fate(), error.kind()) {
                    (Some(_), _) => trouble(&worker, error),
                    (None, Kind::Internal) => Trouble::File(ENDS.to_string()),
                    (None, _) => {
                        let root = self.layout.root().to_string_lossy();
                        let said = error.message().replace(&*root, "…");
                        Trouble::File(format!("is one that DuckDB can't read: {said}"))
                    }
                }
            });
        if worker.fate().is_none() && opened.is_ok() && !worker.is_spent() {
            lock(&self.opening).push((source.clone(), worker));
        }
        opened
    }
}

impl Checks<'_> {
    /// A worker that has opened files of this source.
    fn idle_of(&self, source: &SourceName) -> Option<Foreign> {
        let mut opening = lock(&self.opening);
        if let Some(at) = opening.iter().position(|(of, _)| of == source) {
            return Some(opening.swap_remove(at).1);
        }
        // Tables come source by source: the oldest is of one that is done.
        let done = (opening.len() >= WAITING_MAX).then(|| opening.remove(0));
        drop(opening);
        drop(done);
        None
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(pool: &Arc<Pool>, folder: &Path) -> Result<Foreign> {
    Foreign::open(Some(pool), &LIMITS, PATIENCE, vec![folder.to_path_buf()], None)
}

/// What a worker's error says of the file that it looked at.
fn trouble(worker: &Foreign, error: Error) -> Trouble {
    match (worker.fate(), error.kind()) {
        (Some(Fate::Crashed), _) => Trouble::File(ENDS.to_string()),
        (Some(Fate::Time), _) => {
            Trouble::File(format!("takes longer than {} s to look at", PATIENCE.as_secs()))
        }
        // It had more than all others.
        (Some(Fate::Memory), _) => Trouble::File("takes too much memory to look at".to_string()),
        (None, Kind::Contract) => Trouble::File(error.message().to_string()),
        (Some(Fate::Killed) | None, _) => Trouble::Passing(Error::new(
            Kind::Unavailable,
            format!("a pinned file couldn't be looked at: {}; run it again", error.message()),
        )),
    }
}
