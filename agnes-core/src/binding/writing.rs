//! Extracts that code of another language writes.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::Origin;
use crate::connector::{Connector, ConnectorReport, Job};
use crate::extract::{WriteMode, WriteReport};
use crate::registry::RegisteredTable;
use crate::{Clock, Error, ExtractWriter, Kind, Result, SystemClock, TableName, Timestamp};

/// What becomes of who writes while somebody else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// She waits.
    Wait,
    /// She is refused: rows may come from code that writes itself, and would wait for itself.
    Refuse,
}

/// An extract that is being written, until it is finished or given up.
///
/// ```
/// use agnes_core::TableName;
/// use agnes_core::binding::{Busy, Writing};
///
/// # let dir = tempfile::tempdir().unwrap();
/// let writing = Writing::begin(&dir.path().join("shop"), "replace", Busy::Wait)?;
/// writing.with(|writer| writer.table_from_sql(&TableName::parse("orders")?, "SELECT 1 AS id"))?;
/// assert_eq!(writing.finish()?.written.len(), 1);
/// assert!(writing.finish().unwrap_err().message().contains("is finished"));
/// # Ok::<(), agnes_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Writing {
    writer: Mutex<Option<ExtractWriter>>,
    busy: Busy,
    origin: Origin,
}

impl Drop for Writing {
    fn drop(&mut self) {
        // What was written so far is that of the process that goes on with it.
        if !self.origin.is_here() {
            let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(writer.take());
        }
    }
}

fn finished() -> Error {
    Error::new(Kind::Invalid, "the extract is finished, or was given up; begin another writer")
}

fn at_work() -> Error {
    Error::new(Kind::Invalid, "the writer is at work on a table: write one after the other")
}

impl Writing {
    /// Goes on with a writer.
    pub(super) fn of(writer: ExtractWriter, busy: Busy) -> Writing {
        Writing { writer: Mutex::new(Some(writer)), busy, origin: Origin::here() }
    }

    /// Begins the extract in a folder whose last part is the source's name; `mode` as [`WriteMode::of`] reads it.
    ///
    /// # Errors
    /// As that, and as [`ExtractWriter::begin`].
    pub fn begin(folder: &Path, mode: &str, busy: Busy) -> Result<Writing> {
        let writer = ExtractWriter::begin(folder, WriteMode::of(mode)?, SystemClock.now())?;
        Ok(Writing::of(writer, busy))
    }

    fn locked(&self, busy: Busy) -> Result<MutexGuard<'_, Option<ExtractWriter>>> {
        self.origin.check("the writer")?;
        match (self.writer.try_lock(), busy) {
            (Ok(writer), _) => Ok(writer),
            (Err(TryLockError::Poisoned(writer)), _) => Ok(writer.into_inner()),
            (Err(TryLockError::WouldBlock), Busy::Refuse) => Err(at_work()),
            (Err(TryLockError::WouldBlock), Busy::Wait) => {
                Ok(self.writer.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }

    /// Writes with it.
    ///
    /// # Errors
    /// `Invalid` when it was finished or given up, or was begun before this process was forked off; as [`Busy`]; and
    /// whatever `work` says.
    pub fn with<T>(&self, work: impl FnOnce(&mut ExtractWriter) -> Result<T>) -> Result<T> {
        work(self.locked(self.busy)?.as_mut().ok_or_else(finished)?)
    }

    /// The writer, out of everybody's hands; none where it was finished or given up.
    fn take(&self, busy: Busy) -> Result<Option<ExtractWriter>> {
        Ok(self.locked(busy)?.take())
    }

    /// Checks, flushes and publishes what was written.
    ///
    /// # Errors
    /// As [`Writing::with`], and as [`ExtractWriter::finish`].
    pub fn finish(&self) -> Result<WriteReport> {
        self.take(self.busy)?.ok_or_else(finished)?.finish()
    }

    /// Gives it up: the extract stays as it was.
    ///
    /// # Errors
    /// As [`Writing::with`].
    pub fn abandon(&self) -> Result<()> {
        self.take(self.busy).map(drop)
    }

    /// Whether it can still be written with.
    ///
    /// # Errors
    /// `Invalid` as [`Writing::with`], but for one that was finished or given up.
    pub fn is_open(&self) -> Result<bool> {
        Ok(self.locked(self.busy)?.is_some())
    }

    /// What it is, for people: its source, or what became of it.
    pub fn shown(&self) -> String {
        let Ok(writer) = self.locked(Busy::Refuse) else { return "at work".to_string() };
        writer.as_ref().map_or_else(|| "finished".to_string(), |of| of.source().to_string())
    }
}

/// What code of another language is asked to bring over.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The source.
    pub source: String,
    /// The tables that are due; none for all.
    pub tables: Option<Vec<String>>,
    /// What is declared about the source's tables.
    pub declared: &'a [RegisteredTable],
    /// The present moment.
    pub now: Timestamp,
    /// Takes the tables. It is finished when the code has ended; tables that it doesn't write stay.
    pub writing: Arc<Writing>,
}

/// Has code of another language do what a connector is asked to.
///
/// # Errors
/// Whatever it says: the extract stays as it was then. As [`ExtractWriter::begin`] and [`ExtractWriter::finish`].
pub fn extract_by(
    job: &Job<'_>,
    busy: Busy,
    run: impl FnOnce(Asked<'_>) -> Result<()>,
) -> Result<ConnectorReport> {
    let writer = ExtractWriter::begin(job.folder, WriteMode::Partial, job.now)?;
    let writing = Arc::new(Writing::of(writer, busy));
    let source = job.folder.file_name().map(|name| name.display().to_string());
    let done = run(Asked {
        source: source.unwrap_or_default(),
        tables: job.tables.map(|tables| tables.iter().map(ToString::to_string).collect()),
        declared: job.declared,
        now: job.now,
        writing: writing.clone(),
    });
    // Nobody goes on with it, whatever the code has kept: a thread of its own has written its table by then.
    let writer = writing.take(Busy::Wait);
    done?;
    // Without one it was finished, or given up, by the code itself.
    writer?.map_or_else(|| Ok(ConnectorReport::default()), ExtractWriter::finish_for_connector)
}

/// Tables that a program hands over, as a connector: they are taken once.
pub struct HandedOver<R, W> {
    tables: Mutex<Vec<(TableName, R)>>,
    write: W,
}

impl<R, W> std::fmt::Debug for HandedOver<R, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandedOver").finish_non_exhaustive()
    }
}

impl<R, W: Fn(&mut ExtractWriter, &TableName, R) -> Result<()>> HandedOver<R, W> {
    /// These tables, by name, each of which `write` writes.
    ///
    /// # Errors
    /// `Invalid` for a name that can't be one.
    pub fn of(tables: impl IntoIterator<Item = (String, R)>, write: W) -> Result<Self> {
        let named = |(name, rows)| Ok((TableName::parse(name)?, rows));
        let tables = tables.into_iter().map(named).collect::<Result<_>>()?;
        Ok(HandedOver { tables: Mutex::new(tables), write })
    }
}

impl<R: Send, W: Fn(&mut ExtractWriter, &TableName, R) -> Result<()> + Send + Sync> Connector
    for HandedOver<R, W>
{
    fn extract(&self, job: &Job<'_>) -> Result<ConnectorReport> {
        let mut writer = ExtractWriter::begin(job.folder, WriteMode::Partial, job.now)?;
        let tables =
            std::mem::take(&mut *self.tables.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, rows) in tables {
            (self.write)(&mut writer, &name, rows)?;
        }
        writer.finish_for_connector()
    }
}
