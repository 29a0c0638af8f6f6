//! The one place that turns names and paths into SQL text.
//!
//! Values are bound wherever DuckDB binds them; what it can't bind (identifiers, the
//! path of an ATTACH, a view's body, options of COPY) is quoted here. Nothing else in the
//! crate formats SQL.

pub(crate) mod profile;

use std::borrow::Borrow;
use std::fmt::Write as _;
use std::path::Path;

use crate::extract::{Codec, ParquetOptions};
use crate::store::old::As;
use crate::{
    AttachAlias, ColumnName, Error, ExtensionName, Kind, Result, TableName, TokenEnv, ViewName,
};

/// A piece of SQL that was put together from checked parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sql(String);

impl Sql {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The catalog under which a foreign extract is attached while it is read.
pub(crate) const EXTRACT: &str = "extract";

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

/// `SELECT *` from a table of the attached extract.
pub(crate) fn select_extract_table(table: &TableName) -> Sql {
    Sql(format!("SELECT * FROM {}.main.{}", quoted(EXTRACT), ident(table)))
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

/// A view in the extract that a writer makes. A deferred one is bound when it is first
/// read, so that what it reads needn't be there yet; DuckDB before 1.5 can't read those.
pub(crate) fn create_extract_view(table: &TableName, body: &Sql, deferred: bool) -> Sql {
    let deferred = if deferred { " WITH (defer_binding = true)" } else { "" };
    Sql(format!("CREATE VIEW {}.main.{}{deferred} AS {}", quoted(EXTRACT), ident(table), body.0))
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
    Sql(include_str!("query/bounds.sql").to_string())
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

/// A query without its rows, for the names of its columns: those of `SELECT * FROM (query)` differ
/// where two are the same. What [`with_texts`] says of the text holds here, too.
pub(crate) fn without_rows(query: &str) -> Sql {
    Sql(format!("({query}\n) LIMIT 0"))
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

/// Times are what they are in UTC, on whatever machine.
pub(crate) const UTC: &str = "SET GLOBAL TimeZone = 'UTC'";

/// Files are read once, so that keeping what was read would only cost memory.
pub(crate) const NO_FILE_CACHE: &str = "SET GLOBAL enable_external_file_cache = false";

/// What the engine would do about a statement that the guard has accepted.
pub(crate) fn explain(statement: &str) -> Sql {
    Sql(format!("EXPLAIN {statement}"))
}

/// A view over a remote table: `SELECT * FROM alias."schema"."table"`.
pub(crate) fn select_remote(alias: &AttachAlias, path: &[crate::ColumnName]) -> Sql {
    Sql(format!("SELECT * FROM {}", remote_table(alias, path)))
}

/// The names in a query that is [`select_remote`], however they are written; none for any other.
pub(crate) fn remote_path(query: &str) -> Option<Vec<String>> {
    const FROM: &str = "SELECT * FROM ";
    let mut rest = query
        .trim()
        .get(..FROM.len())
        .filter(|s| s.eq_ignore_ascii_case(FROM))
        .and(query.trim().get(FROM.len()..))?;
    let mut path = Vec::new();
    loop {
        let mut name = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut at = quoted;
            loop {
                let (part, after) = at.split_once('"')?;
                name.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => {
                        name.push('"');
                        at = more;
                    }
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
        } else {
            let end =
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let (bare, after) = rest.split_at_checked(end)?;
            name.push_str(bare);
            rest = after;
        }
        if name.is_empty() {
            return None;
        }
        path.push(name);
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None => return rest.is_empty().then_some(path),
        }
    }
}

/// Schema, name, estimated rows and definition of each table of an attached system.
pub(crate) const CATALOG_TABLES: &str = "SELECT schema_name, table_name, estimated_size, sql \
     FROM duckdb_tables() WHERE lower(database_name) = lower(?)";
/// The same of its views, of whose rows nothing is known.
pub(crate) const CATALOG_VIEWS: &str = "SELECT schema_name, view_name, NULL::BIGINT, sql \
     FROM duckdb_views() WHERE lower(database_name) = lower(?)";
/// Schema, table and name of each of its columns, in order.
pub(crate) const CATALOG_COLUMNS: &str = "SELECT schema_name, table_name, column_name \
     FROM duckdb_columns() WHERE lower(database_name) = lower(?) ORDER BY column_index";
/// What kind of system it is.
pub(crate) const CATALOG_TYPE: &str =
    "SELECT type FROM duckdb_databases() WHERE lower(database_name) = lower(?)";

fn remote_table(alias: &AttachAlias, path: &[ColumnName]) -> String {
    let parts = path.iter().map(ident);
    std::iter::once(ident(alias)).chain(parts).collect::<Vec<_>>().join(".")
}

/// The rows of a table in an attached DuckDB database, which it knows without reading them.
pub(crate) fn count_remote(alias: &AttachAlias, path: &[ColumnName]) -> Sql {
    Sql(format!("SELECT count(*) FROM {}", remote_table(alias, path)))
}

/// The bytes of the blocks that hold a table in an attached DuckDB database.
pub(crate) fn remote_bytes(alias: &AttachAlias, path: &[ColumnName]) -> Sql {
    let table = literal(&remote_table(alias, path));
    let alias = literal(alias.as_str());
    Sql(format!(
        "SELECT (SELECT count(DISTINCT block) FROM (SELECT unnest(list_append(additional_block_ids, \
         block_id)) AS block FROM pragma_storage_info({table}) WHERE persistent) WHERE block >= 0) \
         * (SELECT block_size FROM pragma_database_size() WHERE lower(database_name) = lower({alias}))"
    ))
}

/// A table of the attached extract that the contract names.
pub(crate) fn from_extract(table: &'static str) -> Sql {
    Sql(format!("FROM {}.main.{table}", quoted(EXTRACT)))
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

/// Lets go of the attached extract.
pub(crate) fn detach_extract() -> Sql {
    Sql(format!("DETACH {}", quoted(EXTRACT)))
}

pub(crate) fn attach_extract(file: &Path) -> Result<Sql> {
    Ok(Sql(format!("ATTACH {} AS {} (READ_ONLY)", path(file)?, quoted(EXTRACT))))
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
    let paths = files.iter().map(|f| path(f.as_ref())).collect::<Result<Vec<_>>>()?;
    // One long text is parsed in half the time of thousands of short ones.
    let list = match paths.iter().any(|path| path.contains('\n')) {
        false if !paths.is_empty() => {
            let inside =
                |path: &String| Some(path.strip_prefix('\'')?.strip_suffix('\'')?.to_string());
            let inside: Vec<String> = paths.iter().filter_map(inside).collect();
            format!("system.main.string_split('{}', chr(10))", inside.join("\n"))
        }
        _ => format!("[{}]", paths.join(", ")),
    };
    Ok(Sql(format!(
        "SET allowed_paths = {list}; SET enable_external_access = false; \
         SET lock_configuration = true"
    )))
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

/// How a text file is read, as the arguments of DuckDB's reader function.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reader {
    function: &'static str,
    arguments: String,
}

impl Reader {
    /// `read_csv`, `read_json` and their like on one file.
    pub(crate) fn new(function: &'static str, file: &Path) -> Result<Self> {
        Ok(Reader { function, arguments: reader_path(file)? })
    }

    /// Adds an option with a number or a bare word as its value.
    pub(crate) fn with(mut self, option: &'static str, value: impl std::fmt::Display) -> Self {
        write!(self.arguments, ", {option} = {value}").unwrap_or_default();
        self
    }

    /// Adds an option with text as its value.
    pub(crate) fn with_text(self, option: &'static str, value: &str) -> Self {
        let value = literal(value);
        self.with(option, value)
    }

    /// Says which columns there are, and their types.
    pub(crate) fn with_columns(self, columns: &[(&ColumnName, &str)]) -> Self {
        let column = |(name, kind): &(&ColumnName, &str)| {
            format!("{}: {}", literal(name.as_str()), literal(kind))
        };
        let columns: Vec<String> = columns.iter().map(column).collect();
        self.with("columns", format_args!("{{{}}}", columns.join(", ")))
    }

    /// What `sniff_csv` tells, in a row for each column: delimiter, quote, escape and end of
    /// line, the number of lines before the header, whether there is one, the formats of dates
    /// and timestamps, the column's name and its type.
    pub(crate) fn sniff(&self) -> Sql {
        Sql(format!(
            "SELECT Delimiter, Quote, Escape, NewLineDelimiter, SkipRows::BIGINT, HasHeader, \
             DateFormat, TimestampFormat, c.name, c.type \
             FROM (SELECT *, unnest(Columns) AS c FROM {}({}))",
            self.function, self.arguments
        ))
    }

    /// Every row and column.
    pub(crate) fn select(&self) -> Sql {
        Sql(format!("SELECT * FROM {}({})", self.function, self.arguments))
    }

    /// Every row and column, some columns in another type.
    pub(crate) fn select_casting(&self, casts: &[(ColumnName, Cast)]) -> Sql {
        self.select_replacing(casts, |column, cast| match cast {
            Cast::To(kind) => format!("{column}::{}", kind.0),
            Cast::JsonText => format!("{column} ->> '$'"),
        })
    }

    /// Every row and column, some of them text that is checked and converted: a value that isn't
    /// written in the given way is an error.
    pub(crate) fn select_strictly(&self, columns: &[(&ColumnName, Written)]) -> Sql {
        self.select_replacing(columns, |column, written| match written {
            Written::Integer => format!("{STRICT_INTEGER}({column})"),
            Written::Date => format!("{STRICT_DATE}({column})"),
            Written::Shaped(shaped) => format!(
                "CASE WHEN coalesce({column}, '') = '' THEN NULL \
                 WHEN {STRICT_SHAPE}({column}, {}) THEN {} ELSE error('no {}') END",
                literal(&shaped.shapes.join("\n")),
                shaped.convert(column),
                shaped.kind
            ),
        })
    }

    fn select_replacing<C: Borrow<ColumnName>, T>(
        &self,
        columns: &[(C, T)],
        expression: impl Fn(&str, &T) -> String,
    ) -> Sql {
        if columns.is_empty() {
            return self.select();
        }
        let replaced: Vec<String> = columns
            .iter()
            .map(|(column, how)| {
                let column = ident(column.borrow());
                format!("{} AS {column}", expression(&column, how))
            })
            .collect();
        Sql(format!(
            "SELECT * REPLACE ({}) FROM {}({})",
            replaced.join(", "),
            self.function,
            self.arguments
        ))
    }

    /// The first row whose value in a column of text isn't written in the given way, as
    /// [`Reader::select_first`] gives it.
    pub(crate) fn select_first_unlike(
        &self,
        column: &ColumnName,
        written: &Written,
        all: &[&ColumnName],
    ) -> Sql {
        let unlike = match written {
            Written::Integer => format!("TRY({STRICT_INTEGER}(value)) IS NULL"),
            Written::Date => format!("TRY({STRICT_DATE}(value)) IS NULL"),
            Written::Shaped(shaped) => format!(
                "NOT {STRICT_SHAPE}(value, {}) OR TRY({}) IS NULL",
                literal(&shaped.shapes.join("\n")),
                shaped.convert("value")
            ),
        };
        self.select_first(column, all, &format!("value <> '' AND ({unlike})"))
    }

    /// The first row whose value in a column isn't of a type.
    pub(crate) fn select_first_no(&self, column: &ColumnName, kind: &ColumnType) -> Sql {
        let condition = format!("value IS NOT NULL AND TRY_CAST(value AS {}) IS NULL", kind.0);
        self.select_first(column, &[], &condition)
    }

    /// Of rows that are JSON values in a column `json`: how many there are, how many are objects,
    /// and the first that is none, counted from 1.
    pub(crate) fn count_objects(&self) -> Sql {
        Sql(format!(
            "SELECT count(*), count(*) FILTER (object), min(row) FILTER (NOT object) FROM \
             (SELECT row_number() OVER () AS row, json_type(json) IS NOT DISTINCT FROM 'OBJECT' \
             AS object FROM {}({}))",
            self.function, self.arguments
        ))
    }

    /// How many values of a column of text lose something in this way.
    pub(crate) fn count_bent(&self, column: &ColumnName, losing: Losing) -> Sql {
        let column = ident(column);
        let lost = match losing {
            Losing::Digits => format!(
                "regexp_full_match({column}, '[-]?[0-9]{{16,}}') AND (strlen({column}) > 38 \
                 OR TRY_CAST({column} AS HUGEINT)::DOUBLE::HUGEINT \
                 IS DISTINCT FROM TRY_CAST({column} AS HUGEINT))"
            ),
            Losing::Moments => format!(
                "NOT regexp_matches({column}, '^[0-9]') \
                 OR regexp_matches({column}, '[.][0-9]{{7,}}')"
            ),
        };
        Sql(format!("SELECT count(*) FROM {}({}) WHERE {lost}", self.function, self.arguments))
    }

    /// Number of the first row with a value like that, counted from 1, the number of line
    /// breaks within values of the rows before it, and the value. `all` are the columns in
    /// which breaks may stand.
    fn select_first(&self, column: &ColumnName, all: &[&ColumnName], condition: &str) -> Sql {
        let breaks = match all {
            [] => "0".to_string(),
            all => {
                let all: Vec<String> = all.iter().map(|column| ident(*column)).collect();
                format!(
                    "len(concat_ws('', {0})) - len(replace(concat_ws('', {0}), chr(10), ''))",
                    all.join(", ")
                )
            }
        };
        Sql(format!(
            "SELECT row, (breaks - own)::BIGINT, value FROM (SELECT row, own, value, \
             sum(own) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS breaks \
             FROM (SELECT row_number() OVER () AS row, {breaks} AS own, {}::VARCHAR AS value \
             FROM {}({}))) WHERE {condition} ORDER BY row LIMIT 1",
            ident(column),
            self.function,
            self.arguments
        ))
    }
}

/// What becomes of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cast {
    /// Another type.
    To(ColumnType),
    /// The text of JSON values: a string without its quotes.
    JsonText,
}

/// What a type may lose of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Losing {
    /// Floating point keeps 15 digits of a whole number.
    Digits,
    /// Moments keep six digits of a second, and take `infinity` and `epoch` for dates.
    Moments,
}

/// The functions that the files connector gives its engine: text to BIGINT and to DATE, or an
/// error, and whether a text has a shape.
pub(crate) const STRICT_INTEGER: &str = "agnes_integer";
pub(crate) const STRICT_DATE: &str = "agnes_date";
pub(crate) const STRICT_SHAPE: &str = "agnes_has_shape";

/// A usual way in which values stand in text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    /// Digits without leading zeros that 64 bits hold, a sign before them and spaces around
    /// them where there are any.
    Integer,
    /// `2026-01-31`.
    Date,
    /// Some other way of writing moments, the same for all.
    Shaped(Shaped),
}

/// Moments of a few shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shaped {
    /// The type: DATE, TIME, TIMESTAMP or TIMESTAMP WITH TIME ZONE.
    pub(crate) kind: &'static str,
    /// As the files connector writes shapes.
    pub(crate) shapes: Vec<String>,
    /// As `strptime` takes it; the engine's own way of reading when absent.
    pub(crate) format: Option<String>,
}

impl Shaped {
    fn convert(&self, text: &str) -> String {
        match &self.format {
            Some(format) => format!("strptime({text}, {})::{}", literal(format), self.kind),
            None => format!("{text}::{}", self.kind),
        }
    }
}

impl Written {
    /// The type that such values have.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Written::Integer => "BIGINT",
            Written::Date => "DATE",
            Written::Shaped(shaped) => shaped.kind,
        }
    }
}

/// What attaching a remote system takes, in the order in which it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttachStatements {
    /// Fetches the extension; at a rebuild only, and only where the policy says so.
    pub(crate) install: Option<Sql>,
    /// Loads the extension, unless it is built in.
    pub(crate) load: Option<Sql>,
    /// Makes the token known to the engine. Its one `?` is the token.
    pub(crate) secret: Option<Sql>,
    /// Attaches; names the secret, never the token.
    pub(crate) attach: Sql,
}

/// How the extensions that Agnes knows take a token and an address.
///
/// The token goes into a secret of the session, never into the text of an ATTACH, which
/// `duckdb_databases()` and error messages would show.
pub(crate) fn attach_remote(
    alias: &AttachAlias,
    extension: &ExtensionName,
    url: &str,
    token: Option<&TokenEnv>,
    community: bool,
) -> AttachStatements {
    let kind = extension.as_str().to_ascii_lowercase();
    let name = ident(extension);
    let built_in = kind == "duckdb";
    let (secret_type, parameter) = match (kind.as_str(), token.map(TokenEnv::as_str)) {
        // The variable that Google's own libraries read holds a path.
        ("bigquery", Some("GOOGLE_APPLICATION_CREDENTIALS")) => {
            (kind.as_str(), "SERVICE_ACCOUNT_PATH")
        }
        ("bigquery", _) => (kind.as_str(), "ACCESS_TOKEN"),
        ("postgres" | "mysql", _) => (kind.as_str(), "PASSWORD"),
        ("duckdb", _) => ("http", "BEARER_TOKEN"),
        _ => (kind.as_str(), "TOKEN"),
    };
    let prefix = if kind == "bigquery" { "bq_secret_" } else { "agnes_" };
    let secret_name = quoted(&format!("{prefix}{}", alias.as_str().to_ascii_lowercase()));
    // Keboola takes the address from the secret; BigQuery and HTTP find theirs by scope.
    let url_in_secret = kind == "keboola" && token.is_some();
    let named = token.is_some() && !matches!(kind.as_str(), "bigquery" | "duckdb");
    let secret = token.map(|_| {
        let url = if url_in_secret { format!(", URL {}", literal(url)) } else { String::new() };
        Sql(format!(
            "CREATE OR REPLACE TEMPORARY SECRET {secret_name} (TYPE {secret_type}, {parameter} ?{url})"
        ))
    });
    let by_secret = if named { format!(", SECRET {secret_name}") } else { String::new() };
    AttachStatements {
        install: (!built_in && community).then(|| Sql(format!("INSTALL {name} FROM community"))),
        load: (!built_in).then(|| Sql(format!("LOAD {name}"))),
        secret,
        attach: Sql(format!(
            "ATTACH {} AS {} (TYPE {name}{by_secret}, READ_ONLY)",
            if url_in_secret { "''".to_string() } else { literal(url) },
            ident(alias)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn what_remote_rows_run() {
        let mut shown = String::new();
        for (alias, extension, url, token, community) in [
            ("kbc", "keboola", "https://connection.keboola.com", Some("KBC_TOKEN"), true),
            ("bq", "bigquery", "project=my-project-1", Some("BQ_TOKEN"), true),
            ("bq", "bigquery", "project=p", Some("GOOGLE_APPLICATION_CREDENTIALS"), true),
            ("bq", "bigquery", "project=my-project-1", None, true),
            (
                "pg",
                "postgres",
                "host=db.example dbname=shop user=reader",
                Some("PG_PASSWORD"),
                false,
            ),
            ("lite", "sqlite", "/srv/it's here.db", None, false),
            ("other", "duckdb", "/srv/other.duckdb", None, false),
        ] {
            let token = token.map(|t| TokenEnv::parse(t).unwrap());
            let statements = attach_remote(
                &AttachAlias::parse(alias).unwrap(),
                &ExtensionName::parse(extension).unwrap(),
                url,
                token.as_ref(),
                community,
            );
            let all =
                [statements.install, statements.load, statements.secret, Some(statements.attach)];
            for sql in all.into_iter().flatten() {
                shown.push_str(sql.as_str());
                shown.push_str(";\n");
            }
            shown.push('\n');
        }
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn a_remote_path_is_read_as_it_is_written() {
        let alias = AttachAlias::parse("far").unwrap();
        for names in [vec!["orders"], vec!["sales", "Or\"ders.x"], vec!["a b", "c"]] {
            let path: Vec<ColumnName> =
                names.iter().map(|n| ColumnName::parse(*n).unwrap()).collect();
            let read = remote_path(select_remote(&alias, &path).as_str()).unwrap();
            assert_eq!(read, [&["far"], names.as_slice()].concat());
        }
        assert_eq!(remote_path("select * from far.sales.orders").unwrap().len(), 3);
        for other in [
            "SELECT id FROM far.sales.orders",
            "SELECT * FROM far.sales.orders WHERE true",
            "SELECT * FROM far.sales.orders, x",
            "SELECT * FROM far.",
            "SELECT * FROM \"far",
            "SELECT * FROM ",
            "",
        ] {
            assert_eq!(remote_path(other), None, "{other}");
        }
    }
}
