//! Metric definitions, as rows.

use std::collections::BTreeMap;

use duckdb::{Connection, params};

use super::Store;
use super::access::{rows, timestamp};
use crate::metric::Metric;
use crate::{Result, Timestamp};

/// A metric as another system database has it: texts by column, lists as JSON.
#[derive(Debug, Clone)]
pub(crate) struct MetricRow(pub(crate) BTreeMap<&'static str, String>);

pub(super) fn put(c: &Connection, row: &MetricRow, now: Timestamp) -> duckdb::Result<()> {
    let text = |key: &str| row.0.get(key);
    c.prepare_cached(
        "INSERT OR REPLACE INTO metric_definitions (id, name, display_name, category, description, \
         type, unit, grain, table_name, tables, expression, time_column, dimensions, filters, \
         synonyms, notes, sql, sql_variants, validation, source, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
         $19, $20, coalesce((SELECT min(created_at) FROM metric_definitions \
         WHERE lower(id) = lower($1)), $21), $21)",
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
        timestamp(now)
    ])?;
    // Ids are the same in any case.
    c.prepare_cached("DELETE FROM metric_definitions WHERE lower(id) = lower($1) AND id <> $1")?
        .execute([text("id")])
        .map(drop)
}

pub(super) fn remove(c: &Connection, id: &str) -> duckdb::Result<()> {
    c.prepare_cached("DELETE FROM metric_definitions WHERE id = ?")?.execute([id]).map(drop)
}

impl From<&Metric> for MetricRow {
    fn from(metric: &Metric) -> Self {
        let list = |list: &Vec<String>| match list.is_empty() {
            true => None,
            false => serde_json::to_string(list).ok(),
        };
        let variants = &metric.sql_variants;
        let texts = [
            ("id", Some(metric.id.clone())),
            ("name", Some(metric.name.clone())),
            ("display_name", Some(metric.display_name.clone())),
            ("category", Some(metric.category.clone())),
            ("description", metric.description.clone()),
            ("type", Some(metric.kind.clone())),
            ("unit", metric.unit.clone()),
            ("grain", Some(metric.grain.clone())),
            ("table_name", metric.table_name.clone()),
            ("tables", list(&metric.tables)),
            ("expression", metric.expression.clone()),
            ("time_column", metric.time_column.clone()),
            ("dimensions", list(&metric.dimensions)),
            ("filters", list(&metric.filters)),
            ("synonyms", list(&metric.synonyms)),
            ("notes", list(&metric.notes)),
            ("sql", Some(metric.sql.clone())),
            (
                "sql_variants",
                (!variants.is_empty()).then(|| serde_json::to_string(variants).ok()).flatten(),
            ),
            ("validation", metric.validation.as_ref().map(ToString::to_string)),
            ("source", metric.source.clone()),
        ];
        MetricRow(texts.into_iter().filter_map(|(key, text)| Some((key, text?))).collect())
    }
}

impl Store {
    /// Every metric, by id.
    pub(crate) fn metrics(&self) -> Result<Vec<Metric>> {
        self.read(metrics)
    }
}

fn metrics(c: &Connection) -> Result<Vec<Metric>> {
    rows(
        c,
        "metric_definitions",
        "SELECT id, name, category, display_name, description, type, unit, grain, table_name, \
         expression, time_column, sql, source, tables, dimensions, filters, synonyms, notes, \
         sql_variants, validation FROM metric_definitions ORDER BY lower(id)",
        |row| {
            let needed = |at: usize| row.get::<_, String>(at);
            let text = |at: usize| row.get::<_, Option<String>>(at);
            // A list of another installation that is none is one that nobody knows.
            let json = |at: usize| -> duckdb::Result<Option<serde_json::Value>> {
                Ok(text(at)?.and_then(|text| serde_json::from_str(&text).ok()))
            };
            let list = |at: usize| -> duckdb::Result<Vec<String>> {
                let texts = json(at)?.and_then(|value| serde_json::from_value(value).ok());
                Ok(texts.unwrap_or_default())
            };
            let variants = json(18)?.and_then(|value| serde_json::from_value(value).ok());
            let (display_name, kind, grain) = (needed(3)?, text(5)?, text(7)?);
            Ok(Ok(Metric {
                id: needed(0)?,
                name: needed(1)?,
                category: needed(2)?,
                display_name,
                description: text(4)?,
                kind: kind.unwrap_or_else(|| "sum".into()),
                unit: text(6)?,
                grain: grain.unwrap_or_else(|| "monthly".into()),
                table_name: text(8)?,
                tables: list(13)?,
                expression: text(9)?,
                time_column: text(10)?,
                dimensions: list(14)?,
                filters: list(15)?,
                synonyms: list(16)?,
                notes: list(17)?,
                sql: needed(11)?,
                sql_variants: variants.unwrap_or_default(),
                validation: json(19)?,
                source: text(12)?,
            }))
        },
    )
}
