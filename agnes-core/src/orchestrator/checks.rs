//! Looking at pinned files, which strangers have written, before anything else is done with them: in this
//! process, or in workers, which are all that a corrupt one takes along.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::extract::parquet::{self, Facts};
use crate::layout::Layout;
use crate::sql::{self, Sql};
use crate::worker::{Fate, Foreign, Pool};
use crate::{Error, Kind, Result, SourceName, engine};

/// What looking may take.
const LIMITS: engine::Limits = engine::Limits { memory_bytes: 1 << 30, threads: 1 };
/// How long all answers of one worker may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is said of a file that takes along whoever reads it.
const ENDS: &str = "ends what reads it";
/// The most files of one source that may end what reads them: each may take all the time that there is.
const ENDED_MAX: usize = 5;

/// What looks at pinned files.
pub(super) struct Checks<'a> {
    pool: Option<&'a Arc<Pool>>,
    layout: &'a Layout,
    /// Workers that wait for more, by the folder that they may read; whoever was asked last is last. Those
    /// of all pins read files without the engine, in memory-safe code: no file takes one over, so that they
    /// serve all sources. Those of a source have the engine open its tables: whatever takes one over says
    /// nothing of another source.
    waiting: Mutex<Vec<(PathBuf, Foreign)>>,
    /// How many workers have ended over files of a source.
    ended: Mutex<BTreeMap<SourceName, usize>>,
}

/// What came of it.
pub(super) enum Trouble {
    /// What is wrong with it.
    Fault(String),
    /// What it is that kept it from being looked at, which may not happen again.
    Passing(String),
    /// Nothing can be looked at just now.
    Nothing(Error),
}

impl<'a> Checks<'a> {
    pub(super) fn new(layout: &'a Layout, pool: Option<&'a Arc<Pool>>) -> Checks<'a> {
        Checks { pool, layout, waiting: Mutex::default(), ended: Mutex::default() }
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
    pub(super) fn look(&self, source: &SourceName, path: &Path) -> Result<Facts, Trouble> {
        let Some(pool) = self.pool else {
            let file = File::open(path);
            let file = file.map_err(|e| Trouble::Nothing(Error::io("open", path, e)))?;
            return parquet::check(&file).map_err(Trouble::Fault);
        };
        self.ask(pool, source, self.layout.pins(), |worker| {
            worker.look(path).map_err(|error| match error.kind() {
                Kind::Contract => Trouble::Fault(error.message().to_string()),
                _ => Trouble::Nothing(error),
            })
        })
    }

    /// Has the engine open what a table of a source is to be, where that can be done in a worker.
    pub(super) fn open(&self, source: &SourceName, select: &Sql) -> Result<(), Trouble> {
        let Some(pool) = self.pool else { return Ok(()) };
        let folder = self.layout.pins().join(source.as_str());
        self.ask(pool, source, folder, |worker| {
            let opened = worker.execute("open a table", &sql::describe(select));
            opened.map_err(|error| match error.kind() {
                Kind::Internal => Trouble::Fault(ENDS.to_string()),
                _ => {
                    let root = self.layout.root().to_string_lossy();
                    let said = error.message().replace(&*root, "…");
                    Trouble::Fault(format!("can't be read by DuckDB: {said}"))
                }
            })
        })
    }

    /// Asks a worker that may read a folder, and a new one where one that was asked before doesn't answer: a file is blamed for
    /// nothing that others have left.
    fn ask<T>(
        &self,
        pool: &Arc<Pool>,
        source: &SourceName,
        folder: PathBuf,
        ask: impl Fn(&Foreign) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        if lock(&self.ended).get(source).is_some_and(|ended| *ended >= ENDED_MAX) {
            let why = "others of its source have ended what reads them";
            return Err(Trouble::Passing(why.to_string()));
        }
        let open = || Foreign::open(Some(pool), &LIMITS, PATIENCE, vec![folder.clone()], None);
        let mut waiting = self.waiting_for(&folder);
        loop {
            let is_new = waiting.is_none();
            let worker = waiting.take().map_or_else(open, Ok).map_err(Trouble::Nothing)?;
            let asked = ask(&worker);
            let Some(fate) = worker.fate() else {
                if !worker.is_spent() && !matches!(asked, Err(Trouble::Nothing(_))) {
                    lock(&self.waiting).push((folder, worker));
                }
                return asked;
            };
            if !is_new {
                continue;
            }
            *lock(&self.ended).entry(source.clone()).or_default() += 1;
            return Err(match fate {
                Fate::Crashed => Trouble::Fault(ENDS.to_string()),
                Fate::Time => {
                    let seconds = PATIENCE.as_secs();
                    Trouble::Passing(format!("it took longer than {seconds} s to look at it"))
                }
                Fate::Memory => {
                    Trouble::Passing("it took too much memory to look at it".to_string())
                }
                Fate::Killed => Trouble::Passing("whoever looked at it was killed".to_string()),
            });
        }
    }

    /// A worker that waits and may read this folder.
    fn waiting_for(&self, folder: &Path) -> Option<Foreign> {
        // Each thread asks two in turn.
        let most = 2 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut waiting = lock(&self.waiting);
        if let Some(at) = waiting.iter().rposition(|(of, _)| of == folder) {
            return Some(waiting.remove(at).1);
        }
        // Tables come source by source: the oldest is of one that is done.
        let done = (waiting.len() >= most).then(|| waiting.remove(0));
        drop(waiting);
        drop(done);
        None
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
