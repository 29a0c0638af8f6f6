//! The registry of tables, as rows.

use duckdb::{Connection, params};

use super::Store;
use super::access::{rows, timestamp};
use crate::access::change::Change;
use crate::extract::QueryMode;
use crate::orchestrator::Withdrawn;
use crate::registry::{Declaration, Granularity, OnByDefault, RegisteredTable, SyncStrategy};
use crate::{ColumnName, Error, Kind, Result, Schedule, SourceName, TableId, Timestamp, ViewName};

/// The text of a value that is one of a few words.
fn word<T: serde::Serialize>(value: &T) -> Option<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Some(word),
        _ => None,
    }
}

fn from_word<T: serde::de::DeserializeOwned>(word: &str) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(word.to_string()))
        .map_err(|_| Error::new(Kind::Internal, format!("`{word}` is not a known word")))
}

fn days(days: Option<u32>) -> Option<i32> {
    days.map(|days| i32::try_from(days).unwrap_or(i32::MAX))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Every row of the registry.
pub(super) fn tables(connection: &Connection) -> Result<Vec<Change>> {
    type Texts = [Option<String>; 14];
    rows(
        connection,
        "table_registry",
        "SELECT id, name, source_name, source_type, bucket, source_table, source_query, \
         query_mode, sync_strategy, sync_schedule, primary_key, description, folder, \
         registered_by, incremental_column, where_filters, partition_by, partition_granularity, \
         incremental_window_days, max_history_days, initial_load_chunk_days, is_public, \
         epoch_us(registered_at), profile_after_sync FROM table_registry ORDER BY registered_at, id",
        |row| {
            let names: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
            let mut texts = Texts::default();
            for (at, text) in texts.iter_mut().enumerate() {
                *text = row.get(3 + at)?;
            }
            let granularity: Option<String> = row.get(17)?;
            let days: [Option<i32>; 3] = [row.get(18)?, row.get(19)?, row.get(20)?];
            let is_public = row.get(21)?;
            let registered_at = Timestamp::from_micros(row.get(22)?);
            let profile_after_sync = OnByDefault(row.get::<_, Option<bool>>(23)?.unwrap_or(true));
            Ok((|| {
                let [id, name, source] = names;
                let [
                    source_type,
                    bucket,
                    source_table,
                    source_query,
                    query_mode,
                    sync_strategy,
                    sync_schedule,
                    primary_key,
                    description,
                    folder,
                    registered_by,
                    incremental_column,
                    where_filters,
                    partition_by,
                ] = texts;
                let [window, history, chunk] = days.map(|d| d.map(i32::unsigned_abs));
                let column = |name: Option<String>| name.map(ColumnName::parse).transpose();
                let list = |text: Option<String>| text.unwrap_or_else(|| "[]".into());
                let no_json = |_| Error::new(Kind::Internal, "a list is no JSON");
                let declaration = Declaration {
                    source_type,
                    bucket,
                    source_table,
                    source_query,
                    query_mode: query_mode.as_deref().map(from_word::<QueryMode>).transpose()?,
                    sync_strategy: sync_strategy
                        .as_deref()
                        .map(from_word::<SyncStrategy>)
                        .transpose()?
                        .unwrap_or_default(),
                    // One that nobody understands any more is none: the table stays due.
                    sync_schedule: sync_schedule.and_then(|text| Schedule::parse(text).ok()),
                    primary_key: serde_json::from_str(&list(primary_key)).map_err(no_json)?,
                    description,
                    folder,
                    incremental_window_days: window,
                    max_history_days: history,
                    incremental_column: column(incremental_column)?,
                    where_filters: serde_json::from_str(&list(where_filters)).map_err(no_json)?,
                    partition_by: column(partition_by)?,
                    partition_granularity: granularity
                        .as_deref()
                        .map(from_word::<Granularity>)
                        .transpose()?,
                    initial_load_chunk_days: chunk,
                    is_public,
                    profile_after_sync,
                };
                Ok(Change::PutTable(Box::new(RegisteredTable {
                    id: TableId::parse(id)?,
                    name: ViewName::parse(name)?,
                    source: SourceName::parse(source)?,
                    declaration,
                    registered_by,
                    registered_at,
                })))
            })())
        },
    )
}

pub(super) fn put(c: &Connection, table: &RegisteredTable) -> duckdb::Result<()> {
    let d = &table.declaration;
    c.prepare_cached(
        "INSERT OR REPLACE INTO table_registry (id, name, source_name, source_type, bucket, \
         source_table, source_query, query_mode, sync_strategy, sync_schedule, primary_key, \
         description, folder, incremental_window_days, max_history_days, incremental_column, \
         where_filters, partition_by, partition_granularity, initial_load_chunk_days, is_public, \
         registered_by, registered_at, profile_after_sync) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        table.id.as_str(),
        table.name.as_str(),
        table.source.as_str(),
        d.source_type,
        d.bucket,
        d.source_table,
        d.source_query,
        d.query_mode.as_ref().and_then(word),
        word(&d.sync_strategy),
        d.sync_schedule.as_ref().map(Schedule::as_str),
        json(&d.primary_key),
        d.description,
        d.folder,
        days(d.incremental_window_days),
        days(d.max_history_days),
        d.incremental_column.as_ref().map(ColumnName::as_str),
        json(&d.where_filters),
        d.partition_by.as_ref().map(ColumnName::as_str),
        d.partition_granularity.as_ref().and_then(word),
        days(d.initial_load_chunk_days),
        d.is_public,
        table.registered_by,
        timestamp(table.registered_at),
        d.profile_after_sync.0
    ])?;
    // What was withdrawn is declared again.
    c.prepare_cached(
        "DELETE FROM withdrawn_tables WHERE lower(source_name) = lower(?) AND lower(table_name) = \
         lower(?)",
    )?
    .execute(params![table.source.as_str(), table.name.as_str()])?;
    Ok(())
}

/// Removes a row and all that is known of the table, and notes that its source is not to publish
/// it any more.
pub(super) fn remove(c: &Connection, table: &RegisteredTable, at: Timestamp) -> duckdb::Result<()> {
    let id: &[&dyn duckdb::ToSql] = params![table.id.as_str()];
    let removals = [
        (
            "DELETE FROM resource_grants WHERE lower(resource_type) = 'table' AND \
             lower(resource_id) = lower(?)",
            id,
        ),
        ("DELETE FROM dataset_permissions WHERE lower(dataset) = lower(?)", id),
        ("DELETE FROM access_requests WHERE lower(table_id) = lower(?)", id),
        ("DELETE FROM table_registry WHERE lower(id) = lower(?)", id),
    ];
    for (sql, with) in removals {
        c.prepare_cached(sql)?.execute(with)?;
    }
    super::metadata::remove(c, &table.id)?;
    super::profiles::remove(c, table.id.as_str())?;
    super::subscriptions::remove_table(c, &table.id)?;
    super::columns::remove(c, &table.id)?;
    // Another source may publish a table of that name.
    c.prepare_cached(
        "DELETE FROM sync_history WHERE lower(table_id) = lower($1) AND NOT EXISTS (FROM sync_state \
         WHERE lower(table_id) = lower($1) AND lower(source_name) <> lower($2))",
    )?
    .execute(params![table.name.as_str(), table.source.as_str()])?;
    c.prepare_cached(
        "DELETE FROM sync_state WHERE lower(table_id) = lower(?) AND lower(source_name) = lower(?)",
    )?
    .execute(params![table.name.as_str(), table.source.as_str()])?;
    c.prepare_cached(
        "INSERT INTO withdrawn_tables (source_name, table_name, withdrawn_at) VALUES (?, ?, ?)",
    )?
    .execute(params![table.source.as_str(), table.name.as_str(), timestamp(at)])
    .map(drop)
}

impl Store {
    /// The tables that their sources are not to publish.
    pub(crate) fn withdrawn(&self) -> Result<Withdrawn> {
        let found = self.read(|c| {
            rows(
                c,
                "withdrawn_tables",
                "SELECT source_name, table_name FROM withdrawn_tables",
                |row| {
                    let (source, table): (String, String) = (row.get(0)?, row.get(1)?);
                    Ok(SourceName::parse(source).and_then(|s| Ok((s, ViewName::parse(table)?))))
                },
            )
        })?;
        Ok(found.into_iter().collect())
    }
}
