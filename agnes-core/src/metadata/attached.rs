//! The catalog of a remote system that a source attaches, through whatever extension speaks to it.
//!
//! It is read once for each refresh. Rows are counted only where counting reads no rows (in a
//! DuckDB database); elsewhere they are what the system estimates.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use duckdb::Connection;

use super::{Address, MetadataProvider, TableMetadata};
use crate::extract::RemoteAttach;
use crate::orchestrator::resolve_attach;
use crate::{Agnes, AttachAlias, ColumnName, Error, Result, SourceName, engine, sql};

pub(super) struct AttachedCatalog {
    alias: AttachAlias,
    attach: Result<crate::orchestrator::Attach>,
    limits: engine::Limits,
    /// Read when the first table is asked about.
    catalog: OnceLock<Result<Catalog>>,
}

/// What an attached system says of all its tables.
struct Catalog {
    connection: Mutex<Connection>,
    is_duckdb: bool,
    /// By schema and name in lower case.
    tables: HashMap<(String, String), Entry>,
}

#[derive(Default)]
struct Entry {
    /// As the system spells it.
    path: [String; 2],
    is_view: bool,
    estimated_rows: Option<u64>,
    definition: String,
    columns: Vec<String>,
}

/// The same error again: one attach fails for every table.
fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.message())
}

impl AttachedCatalog {
    pub(super) fn new(agnes: &Agnes, source: &SourceName, row: RemoteAttach) -> Self {
        let alias = row.alias.clone();
        let policy = &agnes.settings().attach_policy;
        let attach = resolve_attach(policy, &*agnes.components().secrets, source, &row);
        let limits = engine::Limits { memory_bytes: 256 << 20, threads: 1 };
        AttachedCatalog { alias, attach, limits, catalog: OnceLock::new() }
    }

    fn read(&self) -> Result<Catalog> {
        let connection = engine::in_memory(&self.limits)?;
        let attach = self.attach.as_ref().map_err(again)?;
        attach.run(&connection, false)?;
        let failed = |e| engine::error("read a remote catalog", e);
        let mut tables: HashMap<(String, String), Entry> = HashMap::new();
        let lists = [(sql::CATALOG_TABLES, false), (sql::CATALOG_VIEWS, true)];
        for (list, is_view) in lists {
            let mut statement = connection.prepare(list).map_err(failed)?;
            let mut rows = statement.query([self.alias.as_str()]).map_err(failed)?;
            while let Some(row) = rows.next().map_err(failed)? {
                let read = || -> duckdb::Result<Entry> {
                    Ok(Entry {
                        path: [row.get(0)?, row.get(1)?],
                        is_view,
                        estimated_rows: row
                            .get::<_, Option<i64>>(2)?
                            .and_then(|n| n.try_into().ok()),
                        definition: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
                        columns: Vec::new(),
                    })
                };
                let entry = read().map_err(failed)?;
                tables.insert(key(&entry.path[0], &entry.path[1]), entry);
            }
        }
        let mut statement = connection.prepare(sql::CATALOG_COLUMNS).map_err(failed)?;
        let mut rows = statement.query([self.alias.as_str()]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let read = || Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?));
            let (schema, table, column) = read().map_err(failed)?;
            if let Some(entry) = tables.get_mut(&key(&schema, &table)) {
                entry.columns.push(column);
            }
        }
        drop(rows);
        drop(statement);
        let kind: String = connection
            .query_row(sql::CATALOG_TYPE, [self.alias.as_str()], |row| row.get(0))
            .map_err(failed)?;
        Ok(Catalog { connection: Mutex::new(connection), is_duckdb: kind == "duckdb", tables })
    }
}

fn key(schema: &str, table: &str) -> (String, String) {
    (schema.to_lowercase(), table.to_lowercase())
}

impl MetadataProvider for AttachedCatalog {
    fn metadata(&self, table: &Address) -> Result<Option<TableMetadata>> {
        let catalog = self.catalog.get_or_init(|| self.read()).as_ref().map_err(again)?;
        let Some(entry) =
            catalog.tables.get(&key(table.bucket.as_str(), table.source_table.as_str()))
        else {
            return Ok(None);
        };
        let (rows, size_bytes) = match catalog.is_duckdb && !entry.is_view {
            true => catalog.measured(&self.alias, entry)?,
            false => (entry.estimated_rows, None),
        };
        let clause = |words: &str| clause(&entry.definition, words);
        Ok(Some(TableMetadata {
            rows,
            size_bytes,
            partition_by: clause("PARTITIONED BY").map(str::to_string),
            clustered_by: clause("SORTED BY").map(parts),
            entity_type: Some(if entry.is_view { "VIEW" } else { "BASE TABLE" }.to_string()),
            known_columns: Some(entry.columns.clone()),
        }))
    }
}

impl Catalog {
    /// Rows and bytes of a table in a DuckDB database, of which it knows both.
    fn measured(&self, alias: &AttachAlias, entry: &Entry) -> Result<(Option<u64>, Option<u64>)> {
        let path = entry.path.iter().map(ColumnName::parse).collect::<Result<Vec<_>>>()?;
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).try_clone();
        let failed = |e| engine::error("measure a remote table", e);
        let connection = connection.map_err(failed)?;
        let one = |sql: sql::Sql| -> Result<Option<u64>> {
            let number: i64 =
                connection.query_row(sql.as_str(), [], |row| row.get(0)).map_err(failed)?;
            Ok(u64::try_from(number).ok())
        };
        Ok((one(sql::count_remote(alias, &path))?, one(sql::remote_bytes(alias, &path))?))
    }
}

/// What stands in parentheses after these words, outside of quotes.
fn clause<'d>(definition: &'d str, words: &str) -> Option<&'d str> {
    let mut quote = None;
    let (mut depth, mut from) = (0usize, None);
    for (at, c) in definition.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(') => {
                depth += 1;
                let before = definition.get(..at)?.trim_end();
                let is_here = before.len() >= words.len()
                    && before.get(before.len() - words.len()..)?.eq_ignore_ascii_case(words);
                if depth == 1 && is_here {
                    from = Some(at + 1);
                }
            }
            (None, ')') => {
                depth = depth.saturating_sub(1);
                if depth == 0
                    && let Some(from) = from
                {
                    return definition.get(from..at).map(str::trim);
                }
            }
            (None, _) => {}
        }
    }
    None
}

/// The parts between commas, outside of parentheses and quotes; names without their quotes.
fn parts(list: &str) -> Vec<String> {
    let (mut quoted, mut depth) = (false, 0usize);
    let apart = |c: char| {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && !quoted && depth == 0
    };
    let plain = |part: &str| {
        let part = part.trim();
        let inside = part.strip_prefix('"').and_then(|part| part.strip_suffix('"'));
        inside.map_or_else(|| part.to_string(), |inside| inside.replace("\"\"", "\""))
    };
    list.split(apart).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_definition_says_of_partitions() {
        let definition = "CREATE TABLE \"PARTITIONED BY (x)\"(a INTEGER DEFAULT(('(')), d DATE) \
                          PARTITIONED BY (year(d), \"b,c\") SORTED BY (a, \"q\"\"(\" DESC);";
        assert_eq!(clause(definition, "PARTITIONED BY"), Some("year(d), \"b,c\""));
        let sorted = clause(definition, "SORTED BY").map(parts);
        assert_eq!(sorted, Some(vec!["a".to_string(), "\"q\"\"(\" DESC".to_string()]));
        assert_eq!(parts("\"b,c\", f(a, b), d"), ["b,c", "f(a, b)", "d"]);
        for without in
            ["", "CREATE TABLE t(a INTEGER);", "CREATE TABLE t(\"SORTED BY\" INTEGER(3));"]
        {
            assert_eq!(clause(without, "PARTITIONED BY"), None, "{without}");
            assert_eq!(clause(without, "SORTED BY"), None, "{without}");
        }
    }
}
