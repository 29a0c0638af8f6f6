//! What is cached: in memory for everybody who reads, in the system database for the next start.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::provider::texts;
use super::refresh::Run;
use super::{RefreshError, TableMetadata};
use crate::registry::RegisteredTable;
use crate::store::Store;
use crate::{Result, TableId, Timestamp};

/// The last good figures of a table, and what went wrong since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// The table that they are of: a name may become another source's.
    pub(crate) source: String,
    pub(crate) bucket: String,
    pub(crate) source_table: String,
    /// The figures; all absent where none were ever got.
    pub metadata: TableMetadata,
    /// When they were right.
    pub refreshed_at: Option<Timestamp>,
    /// What went wrong since.
    pub error: Option<RefreshError>,
}

impl Cached {
    /// A row of which nothing is known yet.
    fn nothing(table: &RegisteredTable) -> Cached {
        let (bucket, source_table) = texts(table);
        Cached {
            source: table.source.to_string(),
            bucket: bucket.to_string(),
            source_table: source_table.to_string(),
            metadata: TableMetadata::default(),
            refreshed_at: None,
            error: None,
        }
    }

    /// Whether it is of this table, and not of another one that had its id.
    pub(super) fn is_of(&self, table: &RegisteredTable) -> bool {
        let (bucket, source_table) = texts(table);
        self.source.eq_ignore_ascii_case(table.source.as_str())
            && self.bucket == bucket
            && self.source_table == source_table
    }
}

/// What was found out about one table.
pub(super) struct Found {
    pub(super) table: RegisteredTable,
    pub(super) at: Timestamp,
    /// The figures, or what went wrong.
    pub(super) result: std::result::Result<TableMetadata, Arc<str>>,
}

/// Every row, and whether a refresh of all runs.
#[derive(Debug)]
pub(crate) struct Cache {
    store: Arc<Store>,
    rows: Mutex<Rows>,
    /// Held by whoever changes them, while they are written.
    writing: Mutex<()>,
    pub(super) running: Mutex<Option<Run>>,
}

/// What is known, by table.
#[derive(Debug, Default)]
pub(super) struct Rows {
    by_table: HashMap<TableId, Arc<Cached>>,
    /// Counts up with each change.
    revision: u64,
}

impl Rows {
    pub(super) fn get(&self, id: &TableId) -> Option<&Arc<Cached>> {
        self.by_table.get(id)
    }

    fn change(&mut self, work: impl FnOnce(&mut HashMap<TableId, Arc<Cached>>)) {
        work(&mut self.by_table);
        self.revision += 1;
    }
}

/// What is known at one moment, without what that is: as long as it is the same, so is that, and so
/// is how fresh it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Revision {
    changes: u64,
    /// Between two changes more and more of them grow too old.
    old: usize,
}

impl Cache {
    /// Reads what was cached by the last process.
    pub(crate) fn open(store: Arc<Store>) -> Result<Cache> {
        let rows = store.cached_metadata()?;
        let by_table = rows.into_iter().map(|(id, row)| (id, Arc::new(row))).collect();
        let rows = Mutex::new(Rows { by_table, revision: 0 });
        Ok(Cache { store, rows, writing: Mutex::default(), running: Mutex::new(None) })
    }

    /// The rows, for as long as this is held: nobody waits for anything meanwhile.
    pub(super) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which state the rows are in, where what is older than `threshold` is old.
    pub(crate) fn revision(&self, now: Timestamp, threshold: Duration) -> Revision {
        let rows = self.rows();
        let old = rows.by_table.values();
        let old = old.filter(|row| row.refreshed_at.is_some_and(|at| at.after(threshold) < now));
        Revision { changes: rows.revision, old: old.count() }
    }

    /// Keeps what was found: in one transaction, then in memory. Of a table that isn't
    /// registered any more, or elsewhere now, nothing is kept.
    pub(super) fn keep(
        &self,
        found: Vec<Found>,
        registered: impl Fn(&TableId) -> Option<RegisteredTable>,
    ) -> Result<()> {
        let _writing = self.writing();
        let mut changed: Vec<(TableId, Arc<Cached>)> = Vec::with_capacity(found.len());
        for Found { table, at, result } in found {
            let before = self.rows().get(&table.id).filter(|row| row.is_of(&table)).cloned();
            let mut row = before.map_or_else(|| Cached::nothing(&table), |row| Cached::clone(&row));
            if !registered(&table.id).is_some_and(|now| row.is_of(&now)) {
                continue;
            }
            // Another one, of this table alone, may have asked later and been told sooner.
            let later = [row.refreshed_at, row.error.as_ref().map(|error| error.at)];
            if later.into_iter().flatten().any(|known| known > at) {
                continue;
            }
            match result {
                Ok(metadata) => {
                    row.metadata = metadata;
                    row.refreshed_at = Some(at);
                    row.error = None;
                }
                // The last good figures stay.
                Err(message) => row.error = Some(RefreshError { at, message }),
            }
            changed.push((table.id, Arc::new(row)));
        }
        self.store.put_cached_metadata(&changed)?;
        self.rows().change(|rows| rows.extend(changed));
        Ok(())
    }

    /// Forgets a table that is out of the registry. Its row went with the registry's; a refresh
    /// that ran meanwhile may have written it again.
    pub(crate) fn forget(&self, id: &TableId) -> Result<()> {
        let _writing = self.writing();
        self.store.remove_cached_metadata(id)?;
        self.rows().change(|rows| drop(rows.remove(id)));
        Ok(())
    }
}
