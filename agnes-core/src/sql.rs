//! The one place that turns names and paths into SQL text.
//!
//! Values are bound wherever DuckDB binds them; what it can't bind (identifiers, the
//! path of an ATTACH, a view's body, options of COPY) is quoted here. Nothing else in the
//! crate formats SQL.

mod extract;
pub(crate) mod profile;
mod reader;
mod remote;

use std::fmt::Write as _;
use std::path::Path;

pub(crate) use extract::{
    EXTRACT, EXTRACT_COLUMNS, EXTRACT_TABLES, EXTRACT_VIEWS, attach_extract, create_extract_view,
    detach_extract, extract_attaches, extract_meta, extract_table_text, from_extract,
    select_extract_table,
};
pub(crate) use reader::{
    Cast, Losing, Reader, STRICT_DATE, STRICT_INTEGER, STRICT_SHAPE, Shaped, Written,
};
pub(crate) use remote::{
    AttachStatements, CATALOG_COLUMNS, CATALOG_TABLES, CATALOG_TYPE, CATALOG_VIEWS, attach_remote,
    count_remote, remote_bytes, remote_path, select_remote,
};

use crate::extract::{Codec, ParquetOptions};
use crate::store::old::As;
use crate::{AttachAlias, ColumnName, Error, ExtensionName, Kind, Result, TableName, ViewName};

/// A piece of SQL that was put together from checked parts.
///
/// On its way to a worker it is its text: what comes off that line there was put together here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Sql(String);

impl Sql {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name that may be quoted as an identifier.
pub(crate) trait Identifier {
    fn text(&self) -> &str;
}

macro_rules! identifiers {
    ($($name:ty),+) => { $( impl Identifier for $name {
        fn text(&self) -> &str { self.as_str() }
    } )+ };
}
identifiers!(TableName, ViewName, AttachAlias, ExtensionName, ColumnName);

pub(crate) fn ident(name: &impl Identifier) -> String {
    quoted(name.text())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A string literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A path as a string literal.
///
/// # Errors
/// `Invalid` for a path that is no UTF-8 or holds NUL: DuckDB can't open it.
pub(crate) fn path(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) if !text.contains('\0') => Ok(literal(text)),
        _ => Err(Error::new(
            Kind::Invalid,
            format!(
                "the path `{}` is no UTF-8 text, which DuckDB needs; rename it",
                path.display()
            ),
        )
        .with(crate::Key::Path, path.display())),
    }
}

/// A path as the argument of a reader function, which would take `*`, `?`, `[` for patterns.
fn reader_path(file: &Path) -> Result<String> {
    let text = path(file)?;
    if !text.contains(['*', '?', '[']) {
        return Ok(text);
    }
    // DuckDB takes a backslash in a pattern for a separator of folders, on every system.
    if text.contains('\\') {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "the path `{}` has a backslash beside a `*`, `?` or `[`, which DuckDB can't \
                 read; rename it",
                crate::name::shown(&file.to_string_lossy())
            ),
        )
        .with(crate::Key::Path, file.display()));
    }
    // A class of one character stands for that character.
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '*' | '?' | '[' => write!(out, "[{c}]").unwrap_or_default(),
            _ => out.push(c),
        }
    }
    Ok(out)
}

/// `SELECT * FROM` exactly these parquet files; `by_name` matches columns by name over all.
pub(crate) fn select_parquet<P: AsRef<Path>>(files: &[P], by_name: bool) -> Result<Sql> {
    let paths = files.iter().map(|f| reader_path(f.as_ref())).collect::<Result<Vec<_>>>()?;
    let mut arguments = match paths.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    if by_name && files.len() > 1 {
        arguments.push_str(", union_by_name = true");
    }
    // A folder on the way that is called `key=value` would become a column. What isn't needed
    // isn't written: whoever opens 10,000 views reads each option 10,000 times.
    if paths.iter().any(|path| path.contains('=')) {
        arguments.push_str(", hive_partitioning = false");
    }
    Ok(Sql(format!("SELECT * FROM read_parquet({arguments})")))
}

/// Lets `read_parquet` stand for these files until it is called again, whatever its arguments
/// say: a view over files that aren't in place yet is bound to the columns of these.
pub(crate) fn stand_in_for_files<P: AsRef<Path>>(files: &[P], by_name: bool) -> Result<Sql> {
    let Sql(select) = select_parquet(files, by_name)?;
    // The same function by its other name, which the macro doesn't hide. Within the macro the
    // options would be its parameters, hence the view.
    let select = select.replacen("read_parquet(", "parquet_scan(", 1);
    Ok(Sql(format!(
        "CREATE OR REPLACE TEMP VIEW \"agnes stand-in\" AS {select}; \
         CREATE OR REPLACE TEMP MACRO read_parquet(files, union_by_name := false, \
         hive_partitioning := false) AS TABLE FROM \"agnes stand-in\""
    )))
}

/// SQL text that the guard has put together from a tree that it knows through and through.
pub(crate) fn guarded(text: String) -> Sql {
    Sql(text)
}

pub(crate) fn create_view(view: &impl Identifier, body: &Sql) -> Sql {
    Sql(format!("CREATE VIEW {} AS {}", ident(view), body.0))
}

/// A view in the database that a rebuild writes. A deferred one is bound when it is
/// first read, as for a remote system that can't be reached now.
pub(crate) fn create_server_view(view: &ViewName, body: &Sql, deferred: bool) -> Sql {
    let deferred = if deferred { " WITH (defer_binding = true)" } else { "" };
    Sql(format!("CREATE VIEW server.main.{}{deferred} AS {}", ident(view), body.0))
}

pub(crate) fn select_server_view(view: &ViewName) -> Sql {
    Sql(format!("FROM server.main.{}", ident(view)))
}

pub(crate) fn drop_server_view(view: &ViewName) -> Sql {
    Sql(format!("DROP VIEW IF EXISTS server.main.{}", ident(view)))
}

/// An empty stand-in for a remote table, under which a view over it can be bound: the
/// statements that make it, in order.
pub(crate) fn stand_in(
    alias: &AttachAlias,
    path: &[ColumnName],
    columns: &[(ColumnName, ColumnType)],
) -> Vec<Sql> {
    let catalog = ident(alias);
    let mut statements = vec![Sql(format!("ATTACH IF NOT EXISTS ':memory:' AS {catalog}"))];
    let table = match path {
        [schema, table] => {
            let schema = format!("{catalog}.{}", ident(schema));
            statements.push(Sql(format!("CREATE SCHEMA IF NOT EXISTS {schema}")));
            format!("{schema}.{}", ident(table))
        }
        parts => {
            let parts: Vec<String> = parts.iter().map(ident).collect();
            format!("{catalog}.{}", parts.join("."))
        }
    };
    let columns: Vec<String> =
        columns.iter().map(|(name, kind)| format!("{} {}", ident(name), kind.0)).collect();
    statements.push(Sql(format!("CREATE TABLE IF NOT EXISTS {table} ({})", columns.join(", "))));
    statements
}

/// A DuckDB type as it is written, checked to be nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnType(String);

impl ColumnType {
    /// Takes letters, digits, spaces, the punctuation of nested types, and names in quotes.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || " _(),[]".contains(c);
        // Every second part stands between quotes; a doubled one closes and opens again.
        let parts: Vec<&str> = text.split('"').collect();
        let safe = parts.len() % 2 == 1
            && parts.iter().step_by(2).all(|part| part.chars().all(plain))
            && !text.contains('\0');
        if !text.is_empty() && text.len() <= 64 * 1024 && safe {
            return Ok(ColumnType(text.to_string()));
        }
        Err(Error::new(Kind::Invalid, format!("`{}` is no column type", crate::name::shown(text))))
    }
}

/// An empty table.
pub(crate) fn create_table(name: &ViewName, columns: &[(ColumnName, ColumnType)]) -> Sql {
    let columns: Vec<String> =
        columns.iter().map(|(name, kind)| format!("{} {}", ident(name), kind.0)).collect();
    Sql(format!("CREATE TABLE {} ({})", ident(name), columns.join(", ")))
}

/// All of these, or none.
pub(crate) fn in_one_transaction(statements: &[Sql]) -> Sql {
    let mut text = String::from("BEGIN;");
    for statement in statements {
        text.push_str(&statement.0);
        text.push(';');
    }
    text.push_str("COMMIT");
    Sql(text)
}

/// What stands before a message of the bounds.
pub(crate) const OVER_A_LIMIT: &str = "over a limit: ";

/// A transaction that writes nothing, and its end.
pub(crate) const BEGIN_READ_ONLY: &str = "BEGIN TRANSACTION READ ONLY";
pub(crate) const ROLLBACK: &str = "ROLLBACK";

/// Bounds on what some functions of the engine cost, for an instance in which strangers' statements
/// run.
pub(crate) fn bounds() -> Sql {
    Sql(BOUNDS.to_string())
}

const BOUNDS: &str = include_str!("query/bounds.sql");

/// The engine's own macros that call what is bounded.
const CALL_BOUNDED: [&str; 4] =
    ["split_part", "generate_subscripts", "json_group_structure", "histogram"];

/// Whether a statement may call what [`bounds`] bounds: whether the name of it stands anywhere in its
/// text, or anything that could hide one.
pub(crate) fn may_need_bounds(sql: &Sql) -> bool {
    let text = sql.0.to_ascii_lowercase();
    text.contains('\\') || bounded().chain(CALL_BOUNDED).any(|name| text.contains(name))
}

/// The functions that [`bounds`] bounds.
fn bounded() -> impl Iterator<Item = &'static str> {
    let made = BOUNDS.lines().filter_map(|line| line.strip_prefix("CREATE MACRO "));
    made.filter_map(|rest| rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next())
}

/// An expression by itself, for the guard to see what it reads.
pub(crate) fn select_expression(expression: &str) -> Sql {
    Sql(format!("SELECT ({expression}\n)"))
}

/// What a PIVOT of a source by an expression has for columns, as the engine names and orders them.
/// All three are parts of a statement, of which the guard has still to see the whole.
pub(crate) fn pivot_values(with: &str, on: &str, source: &str, most: usize) -> Sql {
    Sql(format!(
        "{with}SELECT v FROM (SELECT DISTINCT CAST(({on}\n) AS VARCHAR) AS v FROM {source}\n) \
         WHERE v IS NOT NULL ORDER BY v LIMIT {most}"
    ))
}

/// What a PIVOT is on, with the values that become its columns.
pub(crate) fn pivot_in(on: &str, values: &[String]) -> Sql {
    let values: Vec<String> = values.iter().map(|value| literal(value)).collect();
    Sql(format!("({on}) IN ({})", values.join(", ")))
}

/// A query with some of its columns as text; each comes with its name and whether it is one.
/// The query is text that the guard has accepted, and has to accept again as a part of this.
pub(crate) fn with_texts(query: &str, columns: &[(&str, bool)]) -> Sql {
    let column = |(at, (name, as_text)): (usize, &(&str, bool))| match as_text {
        true => format!("CAST(c{at} AS VARCHAR) AS {}", quoted(name)),
        false => format!("c{at} AS {}", quoted(name)),
    };
    let selected: Vec<String> = columns.iter().enumerate().map(column).collect();
    let names: Vec<String> = (0..columns.len()).map(|at| format!("c{at}")).collect();
    Sql(format!("SELECT {} FROM ({query}\n) AS t({})", selected.join(", "), names.join(", ")))
}

/// What an instance may take, as its own settings have it.
pub(crate) fn limits(memory: &str, threads: &str, async_threads: &str) -> Sql {
    Sql(format!(
        "SET memory_limit = {}; SET threads = {}; SET async_threads = {}",
        literal(memory),
        literal(threads),
        literal(async_threads)
    ))
}

/// The engine's parse tree of a text, as JSON, and the text of such a tree.
pub(crate) const TREE_OF: &str = "SELECT json_serialize_sql(?::VARCHAR)::VARCHAR";
pub(crate) const TEXT_OF: &str = "SELECT json_deserialize_sql(?::JSON)";

/// Times are what they are in UTC, on whatever machine.
pub(crate) const UTC: &str = "SET GLOBAL TimeZone = 'UTC'";

/// Files are read once, so that keeping what was read would only cost memory.
pub(crate) const NO_FILE_CACHE: &str = "SET GLOBAL enable_external_file_cache = false";

/// A column by which rows are sorted.
pub(crate) struct Sorted<'a> {
    pub(crate) column: &'a ColumnName,
    pub(crate) descending: bool,
}

/// Some columns of a table, with a condition that everything meets where there is to be one.
pub(crate) fn scan(
    table: &ViewName,
    columns: &[ColumnName],
    has_condition: bool,
    order: &[Sorted<'_>],
    limit: Option<u64>,
) -> Sql {
    let columns = match columns {
        [] => "*".to_string(),
        columns => columns.iter().map(ident).collect::<Vec<_>>().join(", "),
    };
    let mut text = format!("SELECT {columns} FROM {}", ident(table));
    if has_condition {
        text.push_str(" WHERE true");
    }
    for (at, Sorted { column, descending }) in order.iter().enumerate() {
        text.push_str(if at == 0 { " ORDER BY " } else { ", " });
        text.push_str(&ident(*column));
        text.push_str(if *descending { " DESC" } else { " ASC" });
    }
    if let Some(limit) = limit {
        text.push_str(&format!(" LIMIT {limit}"));
    }
    Sql(text)
}

/// The names of the aggregate functions.
pub(crate) const AGGREGATES: &str = "SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE function_type = 'aggregate'";

/// All rows of a table, as a session names it.
pub(crate) fn from(table: &ViewName) -> Sql {
    Sql(format!("FROM {}", ident(table)))
}

/// What the engine would do about a statement that the guard has accepted.
pub(crate) fn explain(statement: &str) -> Sql {
    Sql(format!("EXPLAIN {statement}"))
}

/// Columns of a table of the attached file as text, moments as microseconds since 1970.
pub(crate) fn select_as_text(table: &'static str, columns: &[(&'static str, As)]) -> Sql {
    let columns: Vec<String> = columns
        .iter()
        .map(|(column, read)| match read {
            As::Text => format!("{}::VARCHAR", quoted(column)),
            // What is there and no moment isn't absent: it may say when something ends.
            As::Moment => {
                let column = quoted(column);
                format!(
                    "coalesce(epoch_us(TRY_CAST({column} AS TIMESTAMP))::VARCHAR, \
                     '?' || {column}::VARCHAR)"
                )
            }
            As::List => format!("to_json({})::VARCHAR", quoted(column)),
        })
        .collect();
    Sql(format!("SELECT {} FROM {}.main.{table}", columns.join(", "), quoted(EXTRACT)))
}

/// Attaches a system database that is only looked at.
pub(crate) fn attach_state_to_read(file: &Path) -> Result<Sql> {
    Ok(Sql(format!("ATTACH {} AS state (READ_ONLY); USE state.main", path(file)?)))
}

/// Attaches a new file, or one to be changed, in the form that DuckDB 1.0 and later read.
pub(crate) fn attach_to_write(file: &Path, alias: &'static str) -> Result<Sql> {
    Ok(Sql(format!("ATTACH {} AS {} (STORAGE_VERSION 'v1.0.0')", path(file)?, quoted(alias))))
}

/// Folds the log into the file and lets go of it.
pub(crate) fn close_written(alias: &'static str) -> Sql {
    let alias = quoted(alias);
    Sql(format!("CHECKPOINT {alias}; DETACH {alias}"))
}

/// Leaves a session only these files, and nothing else of the world outside.
pub(crate) fn lock<P: AsRef<Path>>(files: &[P]) -> Result<Sql> {
    lock_to(files, &[])
}

/// Leaves a session only these files and what lies in these folders.
pub(crate) fn lock_to<P: AsRef<Path>>(files: &[P], folders: &[P]) -> Result<Sql> {
    let folders = match folders {
        [] => String::new(),
        folders => format!("SET allowed_directories = {}; ", path_list(folders)?),
    };
    Ok(Sql(format!(
        "SET allowed_paths = {}; {folders}SET enable_external_access = false; \
         SET lock_configuration = true",
        path_list(files)?
    )))
}

/// A list of paths. One long text is parsed in half the time of thousands of short ones.
fn path_list<P: AsRef<Path>>(paths: &[P]) -> Result<String> {
    let paths = paths.iter().map(|f| path(f.as_ref())).collect::<Result<Vec<_>>>()?;
    Ok(match paths.iter().any(|path| path.contains('\n')) {
        false if !paths.is_empty() => {
            let inside =
                |path: &String| Some(path.strip_prefix('\'')?.strip_suffix('\'')?.to_string());
            let inside: Vec<String> = paths.iter().filter_map(inside).collect();
            format!("system.main.string_split('{}', chr(10))", inside.join("\n"))
        }
        _ => format!("[{}]", paths.join(", ")),
    })
}

/// Lets views be read whose lambdas were stored as arrows: so DuckDB writes down `lambda x: …`, which
/// it doesn't take any more by itself.
pub(crate) fn single_arrows() -> Sql {
    Sql("SET lambda_syntax = 'ENABLE_SINGLE_ARROW'".to_string())
}

/// Writes a query's rows into a parquet file.
pub(crate) fn copy_to_parquet(body: &Sql, file: &Path, options: &ParquetOptions) -> Result<Sql> {
    let codec = match options.codec {
        Codec::Zstd => "zstd",
        Codec::Snappy => "snappy",
        Codec::Uncompressed => "uncompressed",
    };
    Ok(Sql(format!(
        "COPY ({}) TO {} (FORMAT parquet, COMPRESSION {codec}, ROW_GROUP_SIZE {}, USE_TMP_FILE false)",
        body.0,
        path(file)?,
        options.row_group_rows
    )))
}

/// The first rows of a query, in its order where it has one.
pub(crate) fn first(body: &Sql, rows: i64) -> Sql {
    Sql(format!("SELECT * FROM ({}) LIMIT {rows}", body.0))
}

/// A statement about a query's columns: `DESCRIBE` gives name and type of each.
pub(crate) fn describe(body: &Sql) -> Sql {
    Sql(format!("SELECT column_name, column_type FROM (DESCRIBE {})", body.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whatever_calls_what_is_bounded_is_known() {
        let names: Vec<&str> = bounded().collect();
        assert!(names.len() == BOUNDS.matches("CREATE MACRO").count() && names.contains(&"range"));
        for text in ["SELECT RePeat('a', 3)", "FROM \"range\"(3)", "SELECT U&'\\0041'"] {
            assert!(may_need_bounds(&Sql(text.into())), "{text}");
        }
        assert!(!may_need_bounds(&Sql("SELECT count(*), sum(amount) FROM orders".into())));
        // Of the engine's own macros, which a later version may have more of.
        let connection = duckdb::Connection::open_in_memory().unwrap();
        let macros = "SELECT DISTINCT function_name, lower(macro_definition) FROM duckdb_functions() \
                      WHERE macro_definition IS NOT NULL";
        let mut macros = connection.prepare(macros).unwrap();
        let macros = macros.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let macros: Vec<(String, String)> = macros.map(Result::unwrap).collect();
        assert!(macros.len() > 50, "{}", macros.len());
        for (name, definition) in macros {
            let words = definition.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let mut words = words.into_iter();
            let calls = words.any(|word| {
                names.contains(&word) || CALL_BOUNDED.iter().any(|name| word.contains(name))
            });
            assert!(!calls || may_need_bounds(&Sql(name.clone())), "{name}: {definition}");
        }
    }

    proptest! {
        /// Whatever a column is called, DuckDB reads back the same name and nothing more.
        #[test]
        fn a_column_name_never_leaves_its_quotes(text in "[^\0]{1,40}") {
            let column = ColumnName::parse(text.clone()).unwrap();
            let connection = duckdb::Connection::open_in_memory().unwrap();
            let sql = format!("SELECT 1 AS {}", ident(&column));
            let statement = connection.prepare(&sql);
            let mut statement = statement.unwrap();
            statement.raw_execute().unwrap();
            let schema = statement.schema();
            prop_assert_eq!(schema.field(0).name().as_str(), text.as_str());
        }

        #[test]
        fn a_text_never_leaves_its_quotes(text in "[^\0]{0,40}") {
            let connection = duckdb::Connection::open_in_memory().unwrap();
            let back: String = connection
                .query_row(&format!("SELECT {}", literal(&text)), [], |r| r.get(0))
                .unwrap();
            prop_assert_eq!(back, text);
        }
    }

    #[test]
    fn a_path_with_pattern_characters_is_read_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a[1]*?.parquet");
        let connection = duckdb::Connection::open_in_memory().unwrap();
        let body = Sql("SELECT 42 AS x".into());
        let options = ParquetOptions::default();
        connection
            .execute_batch(copy_to_parquet(&body, &file, &options).unwrap().as_str())
            .unwrap();
        let select = select_parquet(&[&file], false).unwrap();
        let x: i32 = connection.query_row(select.as_str(), [], |r| r.get(0)).unwrap();
        assert_eq!(x, 42);
        let error = select_parquet(&[Path::new("/tmp/a\\*.parquet")], false).unwrap_err();
        assert!(error.message().contains("rename it"), "{error}");
    }

    #[test]
    fn identifiers_compare_as_duckdb_compares_them() {
        let connection = duckdb::Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE \"Orders\" (a INT, \"É\" INT)").unwrap();
        let same =
            |a: &str, b: &str| ColumnName::parse(a).unwrap() == ColumnName::parse(b).unwrap();
        for (a, b) in [("Orders", "oRDERS"), ("orders", "order")] {
            let found = connection.prepare(&format!("SELECT a FROM {}", quoted(b))).is_ok();
            assert_eq!(found, same(a, b), "{a} {b}");
        }
        // Beyond ASCII a different case is a different name, for the engine and for us.
        let found = connection.prepare("SELECT \"é\" FROM Orders").is_ok();
        assert_eq!(found, same("É", "é"));
    }
}
