//! Metric definitions, as rows.

use std::collections::BTreeMap;

use duckdb::{Connection, params};

use super::access::timestamp;
use crate::Timestamp;

/// A metric as another system database has it: texts by column, lists as JSON.
#[derive(Debug, Clone)]
pub(crate) struct MetricRow(pub(crate) BTreeMap<&'static str, String>);

pub(super) fn put(c: &Connection, row: &MetricRow, now: Timestamp) -> duckdb::Result<()> {
    let text = |key: &str| row.0.get(key);
    c.prepare_cached(
        "INSERT OR REPLACE INTO metric_definitions (id, name, display_name, category, description, \
         type, unit, grain, table_name, tables, expression, time_column, dimensions, filters, \
         synonyms, notes, sql, sql_variants, validation, source, created_at, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        text("id"),
        text("name"),
        text("display_name"),
        text("category"),
        text("description"),
        text("type"),
        text("unit"),
        text("grain"),
        text("table_name"),
        text("tables"),
        text("expression"),
        text("time_column"),
        text("dimensions"),
        text("filters"),
        text("synonyms"),
        text("notes"),
        text("sql"),
        text("sql_variants"),
        text("validation"),
        text("source"),
        timestamp(now),
        timestamp(now)
    ])
    .map(drop)
}
