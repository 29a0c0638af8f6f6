//! The statements that ask a foreign extract what is in it, and the one that writes a view into an
//! extract of our own.

use std::path::Path;

use super::{Sql, ident, path, quoted};
use crate::{Result, TableName};

/// The catalog under which a foreign extract is attached while it is read.
pub(crate) const EXTRACT: &str = "extract";

/// Names and texts of its tables.
pub(crate) const EXTRACT_TABLES: &str = "SELECT table_name, sql FROM duckdb_tables() \
     WHERE database_name = 'extract' AND schema_name = 'main'";

/// Names and texts of its views.
pub(crate) const EXTRACT_VIEWS: &str = "SELECT view_name, sql FROM duckdb_views() \
     WHERE database_name = 'extract' AND schema_name = 'main' AND NOT internal";

/// Table, name and type of the columns that it knows, in order.
pub(crate) const EXTRACT_COLUMNS: &str = "SELECT table_name, column_name, data_type \
     FROM duckdb_columns() WHERE database_name = 'extract' AND schema_name = 'main' \
     AND column_name IS NOT NULL AND data_type IS NOT NULL ORDER BY table_oid, column_index";

pub(crate) fn attach_extract(file: &Path) -> Result<Sql> {
    Ok(Sql(format!("ATTACH {} AS {} (READ_ONLY)", path(file)?, quoted(EXTRACT))))
}

/// Lets go of the attached extract.
pub(crate) fn detach_extract() -> Sql {
    Sql(format!("DETACH {}", quoted(EXTRACT)))
}

/// The text of one of its tables, under the name that the contract has for it.
pub(crate) fn extract_table_text(table: &'static str) -> Sql {
    Sql(format!(
        "SELECT sql FROM duckdb_tables() WHERE database_name = 'extract' \
         AND schema_name = 'main' AND lower(table_name) = '{table}'"
    ))
}

/// A table of it that the contract names.
pub(crate) fn from_extract(table: &'static str) -> Sql {
    Sql(format!("FROM {}.main.{table}", quoted(EXTRACT)))
}

/// `SELECT *` from a table of it.
pub(crate) fn select_extract_table(table: &TableName) -> Sql {
    Sql(format!("SELECT * FROM {}.main.{}", quoted(EXTRACT), ident(table)))
}

/// A view in the extract that a writer makes. A deferred one is bound when it is first
/// read, so that what it reads needn't be there yet; DuckDB before 1.5 can't read those.
pub(crate) fn create_extract_view(table: &TableName, body: &Sql, deferred: bool) -> Sql {
    let deferred = if deferred { " WITH (defer_binding = true)" } else { "" };
    Sql(format!("CREATE VIEW {}.main.{}{deferred} AS {}", quoted(EXTRACT), ident(table), body.0))
}

/// The first rows of `_meta`: name, description, rows, bytes, microseconds since 1970, mode and hash.
/// What it has no column for is empty.
pub(crate) fn extract_meta(has: &dyn Fn(&str) -> bool, most: usize) -> Sql {
    const COLUMNS: &[(&str, &str)] = &[
        ("table_name", "table_name::VARCHAR"),
        ("description", "left(description::VARCHAR, 10000)"),
        ("rows", "TRY_CAST(rows AS BIGINT)"),
        ("size_bytes", "TRY_CAST(size_bytes AS BIGINT)"),
        ("extracted_at", "epoch_us(TRY_CAST(extracted_at AS TIMESTAMP))"),
        ("query_mode", "left(query_mode::VARCHAR, 100)"),
        ("input_hash", "left(input_hash::VARCHAR, 1000)"),
    ];
    present(COLUMNS, has, "_meta", most)
}

/// The first rows of `_remote_attach`: alias, extension, url and token. What it has no column for is
/// empty.
pub(crate) fn extract_attaches(has: &dyn Fn(&str) -> bool, most: usize) -> Sql {
    const COLUMNS: &[(&str, &str)] = &[
        ("alias", "left(alias::VARCHAR, 1000)"),
        ("extension", "left(extension::VARCHAR, 1000)"),
        ("url", "left(url::VARCHAR, 10000)"),
        ("token_env", "left(token_env::VARCHAR, 1000)"),
    ];
    present(COLUMNS, has, "_remote_attach", most)
}

fn present(
    columns: &[(&'static str, &'static str)],
    has: &dyn Fn(&str) -> bool,
    table: &'static str,
    most: usize,
) -> Sql {
    let read = |(name, read): &(&'static str, &'static str)| match has(name) {
        true => *read,
        // Of a column without a type the `duckdb` crate makes a panic.
        false => "NULL::VARCHAR",
    };
    let columns: Vec<&str> = columns.iter().map(read).collect();
    Sql(format!("SELECT {} FROM {}.main.{table} LIMIT {most}", columns.join(", "), quoted(EXTRACT)))
}
