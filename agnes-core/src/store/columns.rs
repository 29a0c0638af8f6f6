//! What somebody says of columns, as rows.

use duckdb::{Connection, params};

use super::Store;
use super::access::timestamp;
use crate::column_note::ColumnNote;
use crate::{Result, TableId, Timestamp, engine};

impl Store {
    /// What is said of a table's columns, by column.
    pub(crate) fn column_notes(&self, table: &TableId) -> Result<Vec<ColumnNote>> {
        let fail = |e| engine::error("read what is said of columns", e);
        self.read(|c| {
            let mut statement = c
                .prepare_cached(
                    "SELECT column_name, basetype, description, confidence, source, updated_at \
                     FROM column_metadata WHERE lower(table_id) = lower(?) ORDER BY column_name",
                )
                .map_err(fail)?;
            let rows = statement.query_map([table.as_str()], |row| {
                Ok(ColumnNote {
                    column: row.get(0)?,
                    basetype: row.get(1)?,
                    description: row.get(2)?,
                    confidence: row.get(3)?,
                    source: row.get(4)?,
                    updated_at: Timestamp::from_micros(row.get(5)?),
                })
            });
            rows.and_then(Iterator::collect).map_err(fail)
        })
    }

    /// Keeps what is said of columns, in the place of what was said of the same ones.
    pub(crate) fn put_column_notes(&self, table: &TableId, notes: &[ColumnNote]) -> Result<()> {
        self.transaction("keep what is said of columns", |c| {
            for note in notes {
                c.prepare_cached(
                    "DELETE FROM column_metadata WHERE lower(table_id) = lower(?) AND \
                     lower(column_name) = lower(?)",
                )?
                .execute(params![table.as_str(), note.column])?;
                c.prepare_cached("INSERT INTO column_metadata VALUES (?, ?, ?, ?, ?, ?, ?)")?
                    .execute(params![
                        table.as_str(),
                        note.column,
                        note.basetype,
                        note.description,
                        note.confidence,
                        note.source,
                        timestamp(note.updated_at)
                    ])?;
            }
            Ok(())
        })
    }
}

pub(super) fn remove(c: &Connection, table: &TableId) -> duckdb::Result<()> {
    c.prepare_cached("DELETE FROM column_metadata WHERE lower(table_id) = lower(?)")?
        .execute([table.as_str()])
        .map(drop)
}
