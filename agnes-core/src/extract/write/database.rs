//! Writing `extract.duckdb`: what is told of the tables, and a view for each.

use std::path::Path;

use duckdb::Connection;

use super::{Body, Entry, ExtractWriter};
use crate::extract::{QueryMode, contract};
use crate::layout::EXTRACT_DB;
use crate::{Key, Result, TableName, Timestamp, engine, sql};

const TABLES: &str = "CREATE TABLE extract.main._meta (table_name VARCHAR NOT NULL, \
     description VARCHAR, rows BIGINT, size_bytes BIGINT, extracted_at TIMESTAMP, \
     query_mode VARCHAR, input_hash VARCHAR)";
const ATTACHES: &str = "CREATE TABLE extract.main._remote_attach (alias VARCHAR, \
     extension VARCHAR, url VARCHAR, token_env VARCHAR)";

impl ExtractWriter {
    /// Writes the new folder's `extract.duckdb`, whose views name the files where they will be.
    pub(super) fn write_database(&self, connection: &Connection) -> Result<()> {
        let file = self.aside.join(EXTRACT_DB);
        engine::remove_database(&self.disk, &file)?;
        self.disk.engine_writes(&file)?;
        engine::run(connection, "write the extract", &sql::attach_to_write(&file, sql::EXTRACT)?)?;
        // One transaction writes to one database: what stands in for remote ones comes first.
        for entry in self.entries.values() {
            let Body::Remote { stand_in, .. } = &entry.body else { continue };
            for statement in stand_in {
                engine::run(connection, "write the extract", statement)?;
            }
        }
        let write = || -> Result<()> {
            let fail = |e| engine::error("write the extract", e);
            connection.execute_batch(TABLES).map_err(fail)?;
            let mut meta = connection
                .prepare(
                    "INSERT INTO extract.main._meta VALUES \
                     (?, ?, ?, ?, make_timestamp(?::BIGINT), ?, ?)",
                )
                .map_err(fail)?;
            for (name, entry) in &self.entries {
                let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
                let mode = match entry.query_mode {
                    QueryMode::Local => "local",
                    QueryMode::Remote => "remote",
                    QueryMode::Materialized => "materialized",
                };
                meta.execute(duckdb::params![
                    name.as_str(),
                    entry.description,
                    count(entry.rows),
                    count(entry.size_bytes),
                    entry.extracted_at.map(Timestamp::as_micros),
                    mode,
                    entry.input_hash,
                ])
                .map_err(fail)?;
            }
            if !self.attaches.is_empty() {
                connection.execute_batch(ATTACHES).map_err(fail)?;
                for row in &self.attaches {
                    connection
                        .execute(
                            "INSERT INTO extract.main._remote_attach VALUES (?, ?, ?, ?)",
                            duckdb::params![
                                row.alias.as_str(),
                                row.extension.as_str(),
                                row.url,
                                row.token_env.as_ref().map_or("", |t| t.as_str()),
                            ],
                        )
                        .map_err(fail)?;
                }
            }
            self.entries
                .iter()
                .try_for_each(|(name, entry)| self.write_view(connection, name, entry))
        };
        connection.execute_batch("BEGIN").map_err(|e| engine::error("write the extract", e))?;
        write()?;
        connection.execute_batch("COMMIT").map_err(|e| engine::error("write the extract", e))?;
        engine::run(connection, "write the extract", &sql::close_written(sql::EXTRACT))
    }

    /// A view that is bound, as DuckDB before 1.5 needs it, though what it reads isn't in place.
    fn write_view(&self, connection: &Connection, name: &TableName, entry: &Entry) -> Result<()> {
        let fail = |e: duckdb::Error| {
            contract(format!("DuckDB can't read the table `{name}`: {}", engine::message(&e)))
                .with(Key::Source, &self.source)
                .with(Key::Table, name)
        };
        let (query, deferred) = match &entry.body {
            Body::Files { files, by_name } => {
                let in_folder =
                    |folder: &Path| files.iter().map(|f| folder.join(f)).collect::<Vec<_>>();
                let stand_in = sql::stand_in_for_files(&in_folder(&self.aside), *by_name)?;
                connection.execute_batch(stand_in.as_str()).map_err(fail)?;
                (sql::select_parquet(&in_folder(&self.folder), *by_name)?, false)
            }
            Body::Remote { query, stand_in } => (query.clone(), stand_in.is_empty()),
        };
        let view = sql::create_extract_view(name, &query, deferred);
        connection.execute_batch(view.as_str()).map_err(fail)
    }
}
