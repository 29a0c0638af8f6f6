//! The sync state of each table: rows, bytes, hash, when, and how it went.

use std::sync::Arc;

use duckdb::Connection;
use duckdb::types::{TimeUnit, Value};

use super::{Store, touch};
use crate::clock::Timestamp;
use crate::orchestrator::{Generation, View};
use crate::{Result, ViewName, engine};

/// What is known about the last sync of a table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SyncState {
    /// The table, by the name under which it is published.
    pub table_id: String,
    /// The source that publishes it.
    pub source: String,
    /// When its data was last read from its source.
    pub last_sync: Option<Timestamp>,
    /// Rows.
    pub rows: u64,
    /// Bytes of its parquet files.
    pub file_size_bytes: u64,
    /// Columns.
    pub columns: u32,
    /// MD5 of its parquet file, lower-case hex; empty for shards and remote tables.
    pub hash: String,
    /// BLAKE3 of its content, lower-case hex; empty for remote tables.
    pub hash_blake3: String,
    /// `ok` or `error`.
    pub status: String,
    /// The last error.
    pub error: Option<String>,
}

/// One sync in the history of a table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SyncEvent {
    /// When.
    pub synced_at: Timestamp,
    /// Rows after it.
    pub rows: u64,
    /// `ok` or `error`.
    pub status: String,
    /// The error, if it failed.
    pub error: Option<String>,
}

fn timestamp(at: Timestamp) -> Value {
    Value::Timestamp(TimeUnit::Microsecond, at.as_micros())
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Store {
    /// The sync state of every table, by name.
    ///
    /// # Errors
    /// `Internal` when it can't be read.
    pub fn sync_states(&self) -> Result<Vec<SyncState>> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT table_id, source_name, epoch_us(last_sync), rows, file_size_bytes, \
                 columns, hash, hash_blake3, status, error FROM sync_state ORDER BY lower(table_id)",
            )
            .and_then(|mut statement| {
                statement
                    .query_map([], |row| {
                        Ok(SyncState {
                            table_id: row.get(0)?,
                            source: row.get(1)?,
                            last_sync: row.get::<_, Option<i64>>(2)?.map(Timestamp::from_micros),
                            rows: row.get::<_, i64>(3)?.unsigned_abs(),
                            file_size_bytes: row.get::<_, i64>(4)?.unsigned_abs(),
                            columns: row.get::<_, i32>(5)?.unsigned_abs(),
                            hash: row.get(6)?,
                            hash_blake3: row.get(7)?,
                            status: row.get(8)?,
                            error: row.get(9)?,
                        })
                    })?
                    .collect()
            })
            .map_err(|e| engine::error("read the sync state", e))
        })
    }

    /// The syncs of one table, the last first.
    ///
    /// # Errors
    /// `Internal` when it can't be read.
    pub fn sync_history(&self, table: &ViewName, limit: u32) -> Result<Vec<SyncEvent>> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT epoch_us(synced_at), rows, status, error FROM sync_history \
                 WHERE lower(table_id) = lower(?) ORDER BY synced_at DESC, id DESC LIMIT ?",
            )
            .and_then(|mut statement| {
                statement
                    .query_map(duckdb::params![table.as_str(), limit], |row| {
                        Ok(SyncEvent {
                            synced_at: Timestamp::from_micros(row.get(0)?),
                            rows: row.get::<_, i64>(1)?.unsigned_abs(),
                            status: row.get(2)?,
                            error: row.get(3)?,
                        })
                    })?
                    .collect()
            })
            .map_err(|e| engine::error("read the sync history", e))
        })
    }

    /// Writes what a new generation changed: one transaction, unchanged tables untouched.
    pub(crate) fn record_generation(
        &self,
        before: &Generation,
        after: &Generation,
        now: Timestamp,
    ) -> Result<()> {
        let changed: Vec<(&ViewName, &View)> = after
            .views
            .iter()
            .filter(|(name, view)| {
                before
                    .views
                    .get(name)
                    .is_none_or(|old| !Arc::ptr_eq(old, view) && state_of(old) != state_of(view))
            })
            .map(|(name, view)| (name, &**view))
            .collect();
        let gone: Vec<&ViewName> =
            before.views.keys().filter(|name| !after.views.contains_key(name)).collect();
        self.write(after, &changed, &gone, now)
    }

    /// Brings the sync state up to a generation that it has not heard of, as after a crash
    /// between publishing and writing it down.
    pub(crate) fn catch_up(&self, current: &Generation, now: Timestamp) -> Result<()> {
        let known: i64 = self.read(|c| {
            c.query_row("SELECT coalesce(max(number), 0) FROM applied_generation", [], |r| r.get(0))
                .map_err(|e| engine::error("read the sync state", e))
        })?;
        if known == count(current.number) {
            return Ok(());
        }
        let states = self.sync_states()?;
        let gone: Vec<ViewName> = states
            .iter()
            .filter_map(|s| ViewName::parse(s.table_id.clone()).ok())
            .filter(|name| !current.views.contains_key(name))
            .collect();
        let gone: Vec<&ViewName> = gone.iter().collect();
        let by_name: std::collections::BTreeMap<String, &SyncState> =
            states.iter().map(|s| (s.table_id.to_ascii_lowercase(), s)).collect();
        let changed: Vec<(&ViewName, &View)> = current
            .views
            .iter()
            .filter(|(name, view)| {
                by_name.get(&name.as_str().to_ascii_lowercase()).is_none_or(|s| {
                    s.hash_blake3 != view.blake3()
                        // A sync that found nothing new comes later.
                        || s.last_sync < view.extracted_at
                        || s.rows != view.rows
                        || !s.source.eq_ignore_ascii_case(view.source.as_str())
                })
            })
            .map(|(name, view)| (name, &**view))
            .collect();
        let owners = self.ownership()?;
        let claimed: crate::orchestrator::Ownership = current
            .views
            .iter()
            .filter(|(name, _)| !owners.contains_key(name))
            .map(|(name, view)| (name.clone(), view.source.clone()))
            .collect();
        self.set_ownership(&claimed, &crate::orchestrator::Ownership::new(), now)?;
        self.write(current, &changed, &gone, now)
    }

    fn write(
        &self,
        generation: &Generation,
        changed: &[(&ViewName, &View)],
        gone: &[&ViewName],
        now: Timestamp,
    ) -> Result<()> {
        self.transaction("write the sync state", |c| {
            let names = changed.iter().map(|(name, _)| *name).chain(gone.iter().copied());
            touch(c, names.map(ViewName::as_str))?;
            c.execute_batch(
                "DELETE FROM sync_state WHERE lower(table_id) IN (SELECT name FROM temp.touched)",
            )?;
            append_states(c, changed, now)?;
            append_history(c, generation.number, changed, now)?;
            c.execute_batch("DELETE FROM applied_generation")?;
            c.execute("INSERT INTO applied_generation VALUES (?)", [count(generation.number)])?;
            Ok(())
        })
    }
}

/// What the sync state says of a view, to tell whether it must be written.
fn state_of(view: &View) -> (u64, u64, usize, String, Option<Timestamp>, &str) {
    let hash = view.blake3();
    (view.rows, view.size_bytes, view.columns.len(), hash, view.extracted_at, view.source.as_str())
}

/// Writes a sync state that another system database had, where this one has none.
pub(super) fn put_if_new(c: &Connection, state: &SyncState) -> duckdb::Result<()> {
    c.prepare_cached(
        "INSERT INTO sync_state (table_id, source_name, last_sync, rows, file_size_bytes, columns, \
         hash, status, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )?
    .execute(duckdb::params![
        state.table_id,
        state.source,
        state.last_sync.map_or(Value::Null, timestamp),
        count(state.rows),
        count(state.file_size_bytes),
        i32::try_from(state.columns).unwrap_or(i32::MAX),
        state.hash,
        state.status,
        state.error
    ])
    .map(drop)
}

fn append_states(
    connection: &Connection,
    changed: &[(&ViewName, &View)],
    now: Timestamp,
) -> Result<(), duckdb::Error> {
    let mut rows = connection.appender("sync_state")?;
    for (name, view) in changed {
        rows.append_row(duckdb::params![
            name.as_str(),
            view.source.as_str(),
            timestamp(view.extracted_at.unwrap_or(now)),
            count(view.rows),
            count(view.size_bytes),
            0i64,
            i32::try_from(view.columns.len()).unwrap_or(i32::MAX),
            view.md5(),
            view.blake3(),
            "ok",
            duckdb::types::Null,
        ])?;
    }
    rows.flush()
}

fn append_history(
    connection: &Connection,
    generation: u64,
    changed: &[(&ViewName, &View)],
    now: Timestamp,
) -> Result<(), duckdb::Error> {
    let mut rows = connection.appender("sync_history")?;
    for (name, view) in changed {
        rows.append_row(duckdb::params![
            format!("{}-{generation}-{}", now.as_micros(), name.as_str().to_ascii_lowercase()),
            name.as_str(),
            timestamp(now),
            count(view.rows),
            0i32,
            "ok",
            duckdb::types::Null,
        ])?;
    }
    rows.flush()
}
