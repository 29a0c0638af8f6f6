//! The metadata cache, as rows.

use duckdb::Connection;
use std::sync::Arc;

use super::access::{optional, rows};
use super::{Store, touch};
use crate::metadata::{Cached, RefreshError, TableMetadata};
use crate::{Result, TableId, Timestamp};

/// A list that is no JSON is none that anybody knows.
fn list(text: Option<String>) -> Option<Vec<String>> {
    text.and_then(|text| serde_json::from_str(&text).ok())
}

fn json(list: Option<&Vec<String>>) -> Option<String> {
    list.and_then(|list| serde_json::to_string(list).ok())
}

fn number(n: Option<u64>) -> Option<i64> {
    n.map(|n| i64::try_from(n).unwrap_or(i64::MAX))
}

impl Store {
    /// Every row of the metadata cache.
    pub(crate) fn cached_metadata(&self) -> Result<Vec<(TableId, Cached)>> {
        self.read(cached)
    }

    /// Writes rows of the metadata cache, all of them or none.
    pub(crate) fn put_cached_metadata(&self, changed: &[(TableId, Arc<Cached>)]) -> Result<()> {
        if changed.is_empty() {
            return Ok(());
        }
        self.transaction("write the metadata cache", |c| {
            touch(c, changed.iter().map(|(id, _)| id.as_str()))?;
            c.execute_batch(
                "DELETE FROM bq_metadata_cache WHERE lower(table_id) IN (SELECT name FROM temp.touched)",
            )?;
            let mut rows = c.appender("bq_metadata_cache")?;
            for (id, cached) in changed {
                let known = &cached.metadata;
                rows.append_row(duckdb::params![
                    id.as_str(),
                    cached.source,
                    cached.bucket,
                    cached.source_table,
                    number(known.rows),
                    number(known.size_bytes),
                    known.partition_by,
                    json(known.clustered_by.as_ref()),
                    known.entity_type,
                    json(known.known_columns.as_ref()),
                    optional(cached.refreshed_at),
                    optional(cached.error.as_ref().map(|error| error.at)),
                    cached.error.as_ref().map(|error| error.message.to_string()),
                ])?;
            }
            rows.flush()
        })
    }

    /// Removes a row of the metadata cache.
    pub(crate) fn remove_cached_metadata(&self, id: &TableId) -> Result<()> {
        self.transaction("write the metadata cache", |c| remove(c, id))
    }
}

fn cached(c: &Connection) -> Result<Vec<(TableId, Cached)>> {
    rows(
        c,
        "bq_metadata_cache",
        "SELECT table_id, source_name, bucket, source_table, rows, size_bytes, partition_by, \
         clustered_by, entity_type, known_columns, epoch_us(refreshed_at), epoch_us(error_at), \
         error_msg FROM bq_metadata_cache",
        |row| {
            let id: String = row.get(0)?;
            let moment = |at: usize| -> duckdb::Result<Option<Timestamp>> {
                Ok(row.get::<_, Option<i64>>(at)?.map(Timestamp::from_micros))
            };
            let count = |at: usize| -> duckdb::Result<Option<u64>> {
                Ok(row.get::<_, Option<i64>>(at)?.and_then(|n| n.try_into().ok()))
            };
            let error: Option<String> = row.get(12)?;
            let error = moment(11)?
                .map(|at| RefreshError { at, message: error.unwrap_or_default().into() });
            let cached = Cached {
                source: row.get(1)?,
                bucket: row.get(2)?,
                source_table: row.get(3)?,
                metadata: TableMetadata {
                    rows: count(4)?,
                    size_bytes: count(5)?,
                    partition_by: row.get(6)?,
                    clustered_by: list(row.get(7)?),
                    entity_type: row.get(8)?,
                    known_columns: list(row.get(9)?),
                },
                refreshed_at: moment(10)?,
                error,
            };
            Ok(TableId::parse(id).map(|id| (id, cached)))
        },
    )
}

pub(super) fn remove(c: &Connection, id: &TableId) -> duckdb::Result<()> {
    c.prepare_cached("DELETE FROM bq_metadata_cache WHERE lower(table_id) = lower(?)")?
        .execute([id.as_str()])
        .map(drop)
}
