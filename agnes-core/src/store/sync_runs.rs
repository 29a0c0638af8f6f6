//! The runs of connectors, as rows, and what they say of the tables.

use std::collections::BTreeMap;

use super::access::{rows, timestamp};
use super::{Store, touch};
use crate::connector::TableStatus;
use crate::sync::{RunStatus, SourceReport};
use crate::{Result, SourceName, Timestamp};

impl Store {
    /// When each source last brought something over.
    pub(crate) fn last_runs(&self) -> Result<BTreeMap<SourceName, Timestamp>> {
        let found = self.read(|c| {
            rows(
                c,
                "sync_runs",
                "SELECT any_value(source_name), epoch_us(max(started_at)) FROM sync_runs \
                 WHERE status <> 'failed' GROUP BY lower(source_name)",
                |row| {
                    let (source, at): (String, i64) = (row.get(0)?, row.get(1)?);
                    Ok(SourceName::parse(source).map(|source| (source, Timestamp::from_micros(at))))
                },
            )
        })?;
        Ok(found.into_iter().collect())
    }

    /// Notes how a run went. Of a table that failed only that is noted: what was good stays.
    pub(crate) fn record_run(&self, run: &SourceReport, published: bool) -> Result<()> {
        let duration = i32::try_from(run.duration_ms).unwrap_or(i32::MAX);
        let error = run.error.as_ref().map(|error| error.message().to_string());
        self.transaction("note a sync", |c| {
            let id = format!("{}-{}", run.started_at.as_micros(), run.source);
            c.execute(
                "INSERT OR REPLACE INTO sync_runs VALUES (?, ?, ?, ?, ?, ?)",
                duckdb::params![
                    id,
                    run.source.as_str(),
                    timestamp(run.started_at),
                    duration,
                    run.status.as_str(),
                    error
                ],
            )?;
            c.execute(
                "DELETE FROM sync_runs WHERE lower(source_name) = lower($1) AND started_at < \
                 (SELECT started_at FROM sync_runs WHERE lower(source_name) = lower($1) \
                  ORDER BY started_at DESC LIMIT 1 OFFSET 999)",
                [run.source.as_str()],
            )?;
            if published {
                // What its source doesn't have any more isn't asked for again and again.
                let done = run.tables.iter().filter(|table| {
                    table.status.is_up_to_date() || table.status == TableStatus::Gone
                });
                touch(c, done.map(|table| table.table.as_str()))?;
                c.execute(
                    "UPDATE sync_state SET last_sync = greatest(last_sync, ?), status = 'ok', \
                     error = NULL WHERE lower(source_name) = lower(?) \
                     AND lower(table_id) IN (SELECT name FROM temp.touched)",
                    duckdb::params![timestamp(run.started_at), run.source.as_str()],
                )?;
            }
            for table in run.tables.iter().filter(|table| table.status == TableStatus::Failed) {
                let error = table.error.as_ref().map(|error| error.message().to_string());
                let name = table.table.as_str();
                let known = c.execute(
                    "UPDATE sync_state SET status = 'error', error = ? \
                     WHERE lower(table_id) = lower(?) AND lower(source_name) = lower(?)",
                    duckdb::params![error, name, run.source.as_str()],
                )?;
                if known == 0 {
                    c.execute(
                        "INSERT INTO sync_state (table_id, source_name, status, error) \
                         VALUES (?, ?, 'error', ?) ON CONFLICT DO NOTHING",
                        duckdb::params![name, run.source.as_str(), error],
                    )?;
                }
                c.execute(
                    "INSERT OR REPLACE INTO sync_history VALUES (?, ?, ?, 0, ?, 'error', ?)",
                    duckdb::params![
                        format!("{id}-{}", name.to_ascii_lowercase()),
                        name,
                        timestamp(run.started_at),
                        duration,
                        error
                    ],
                )?;
            }
            Ok(())
        })
    }

    /// The runs of one source, the last first.
    ///
    /// # Errors
    /// `Internal` when they can't be read.
    pub fn sync_runs(&self, source: &SourceName, limit: u32) -> Result<Vec<SyncRun>> {
        let fail = |e| crate::engine::error("read the sync runs", e);
        self.read(|c| {
            let mut statement = c
                .prepare_cached(
                    "SELECT epoch_us(started_at), duration_ms, status, error FROM sync_runs \
                     WHERE lower(source_name) = lower(?) ORDER BY started_at DESC LIMIT ?",
                )
                .map_err(fail)?;
            let rows = statement.query_map(duckdb::params![source.as_str(), limit], |row| {
                Ok(SyncRun {
                    started_at: Timestamp::from_micros(row.get(0)?),
                    duration_ms: row.get::<_, i32>(1)?.unsigned_abs().into(),
                    status: match row.get::<_, String>(2)?.as_str() {
                        "ok" => RunStatus::Ok,
                        "partial" => RunStatus::Partial,
                        _ => RunStatus::Failed,
                    },
                    error: row.get(3)?,
                })
            });
            rows.and_then(Iterator::collect).map_err(fail)
        })
    }
}

/// One run of a source's connector.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SyncRun {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// How it went.
    pub status: RunStatus,
    /// What went wrong with the whole of it.
    pub error: Option<String>,
}
