//! Scans: some rows and columns of one table, by a predicate that is a text.
//!
//! The predicate is parsed by the engine and walked by this file, which lets through conditions on
//! the table's own columns and nothing else. What was let through is written as SQL again, without
//! comments, into a statement that the guard judges like any other: two walls, of which each holds
//! alone.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde_json::Value;

use super::functions::{self, Verdict};
use super::tree::{Parser, Tree};
use super::{QueryOptions, Rows, Session, arguments};
use crate::sql::{self, Sorted};
use crate::{ColumnName, Error, Key, Kind, Result, ViewName, engine};

/// What of a table is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    /// These columns; all when there are none.
    pub select: Vec<ColumnName>,
    /// The condition of the rows, as it stands after WHERE.
    pub predicate: Option<String>,
    /// By which columns the rows are sorted, in order.
    pub order_by: Vec<Order>,
    /// The most rows.
    pub limit: Option<u64>,
}

/// A column by which rows are sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The column.
    pub column: ColumnName,
    /// Whether the largest come first.
    pub descending: bool,
}

impl Order {
    /// Reads `<column>`, `<column> ASC` or `<column> DESC`.
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn parse(text: &str) -> Result<Order> {
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let (column, direction, rest) = (words.next(), words.next(), words.next());
        let descending = match direction {
            None => Some(false),
            Some(word) if word.eq_ignore_ascii_case("asc") => Some(false),
            Some(word) if word.eq_ignore_ascii_case("desc") => Some(true),
            Some(_) => None,
        };
        let is_plain = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match (column.filter(is_plain), descending, rest) {
            (Some(column), Some(descending), None) => {
                Ok(Order { column: ColumnName::parse(column)?, descending })
            }
            _ => Err(Error::new(
                Kind::Invalid,
                format!(
                    "`{}` is no order: write a column's name, and ASC or DESC behind it",
                    crate::name::shown(text)
                ),
            )),
        }
    }
}

/// The error of a predicate: its kind, in the word that clients know, is the context
/// [`Reason`](Key::Reason).
fn rejected(kind: &str, message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message).with(Key::Reason, kind)
}

impl Session {
    /// Reads what is wanted of a table.
    ///
    /// # Errors
    /// `Invalid` for a column that the table doesn't have, and for a predicate that is more than a
    /// condition on its columns: the context [`Reason`](Key::Reason) is `parse_error`,
    /// `nested_select`, `multi_statement`, `ddl_or_dml`, `cross_table_reference`,
    /// `unknown_function`, `unknown_column` or `disallowed_node` then. As [`Session::query`].
    pub fn scan(&self, table: &ViewName, scan: &Scan, options: &QueryOptions) -> Result<Rows> {
        let statement = self.scan_statement(table, scan)?;
        self.query(&statement, options)
    }

    /// The statement of a scan, where it may run.
    ///
    /// # Errors
    /// As [`Session::scan`], as far as nothing runs.
    pub fn scan_statement(&self, table: &ViewName, scan: &Scan) -> Result<String> {
        let columns = self.columns_of(table)?;
        let known = |column: &ColumnName| {
            let has = columns.iter().any(|name| name.eq_ignore_ascii_case(column.as_str()));
            has.then_some(()).ok_or_else(|| unknown_column(table, column.as_str(), &columns))
        };
        scan.select.iter().try_for_each(known)?;
        scan.order_by.iter().try_for_each(|order| known(&order.column))?;
        let order = scan
            .order_by
            .iter()
            .map(|order| Sorted { column: &order.column, descending: order.descending });
        let order: Vec<Sorted<'_>> = order.collect();
        let has_predicate = scan.predicate.is_some();
        let template = sql::scan(table, &scan.select, has_predicate, &order, scan.limit);
        let Some(predicate) = &scan.predicate else { return Ok(template.as_str().to_string()) };
        self.with_parser(|parser| {
            let condition = condition(parser, predicate, table, &columns)?;
            let mut tree = Tree::parse(parser, template.as_str())?;
            tree.set_condition(condition)?;
            tree.to_sql(parser)
        })
    }
}

fn unknown_column(table: &ViewName, column: &str, columns: &[String]) -> Error {
    let shown = crate::name::shown(column);
    let near = crate::name::nearest(column, columns.iter().map(String::as_str));
    let cure = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it has {}", columns.join(", ")),
    };
    rejected("unknown_column", format!("`{table}` has no column `{shown}`; {cure}"))
        .with(Key::Column, shown)
}

/// The condition of a text, as the engine has parsed it.
fn condition(
    parser: &dyn Parser,
    text: &str,
    table: &ViewName,
    columns: &[String],
) -> Result<Value> {
    const STATEMENTS: [&str; 12] = [
        "alter", "attach", "copy", "create", "delete", "drop", "insert", "merge", "pragma", "set",
        "truncate", "update",
    ];
    let first = text.split(|c: char| !c.is_ascii_alphabetic()).find(|word| !word.is_empty());
    let begins_with = |word: &&str| text.trim_start().starts_with(word);
    if let Some(word) = first.filter(begins_with)
        && STATEMENTS.iter().any(|statement| word.eq_ignore_ascii_case(statement))
        && !columns.iter().any(|column| column.eq_ignore_ascii_case(word))
    {
        return Err(rejected("ddl_or_dml", format!("a predicate is no statement: `{word}`")));
    }
    // The end of the line ends a comment, too.
    let parsed = Tree::parse(parser, &format!("SELECT 1 WHERE {text}\n"));
    let mut parsed = parsed.map_err(|error| {
        // What doesn't read comes with a statement of its own.
        let several = error.kind() == Kind::Denied && text.contains(';')
            || error.message().starts_with("these are");
        match error.kind() {
            Kind::Invalid | Kind::Denied if several => {
                rejected("multi_statement", "a predicate is one condition; there is a `;` in it")
            }
            Kind::Invalid | Kind::Denied => rejected(
                "parse_error",
                format!("the predicate can't be parsed: {}", error.message()),
            ),
            _ => error,
        }
    })?;
    let plain = Tree::parse(parser, "SELECT 1 WHERE true")?;
    // Whatever else the statement is, the text has made it.
    if !parsed.is_but_for_its_condition(&plain)? {
        return Err(rejected(
            "disallowed_node",
            "a predicate is one condition; GROUP BY, ORDER BY, LIMIT, UNION and their like have \
             no place in it",
        ));
    }
    let aggregates = aggregates()?;
    let mut condition = Value::Null;
    parsed.walk(|statement| {
        let found = statement.pointer_mut("/statements/0/node/where_clause");
        condition = found.map(Value::take).unwrap_or_default();
        Walk { table, columns, aggregates }.expression(&condition)
    })?;
    Ok(condition)
}

/// The names of the aggregate functions of the linked engine, which have no place in a condition.
fn aggregates() -> Result<&'static BTreeSet<String>> {
    static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();
    if let Some(names) = NAMES.get() {
        return Ok(names);
    }
    let connection = engine::in_memory(&engine::Limits::default())?;
    let fail = |e| engine::error("list the aggregate functions", e);
    let mut statement = connection.prepare(sql::AGGREGATES).map_err(fail)?;
    let names = statement.query_map([], |row| row.get(0)).map_err(fail)?;
    let names = names.collect::<Result<BTreeSet<String>, _>>().map_err(fail)?;
    Ok(NAMES.get_or_init(|| names))
}

struct Walk<'a> {
    table: &'a ViewName,
    columns: &'a [String],
    aggregates: &'a BTreeSet<String>,
}

impl Walk<'_> {
    fn expression(&self, value: &Value) -> Result<()> {
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.expression(item)),
            Value::Object(map) => {
                match map.get("class").and_then(Value::as_str) {
                    Some(class) => self.class(class, value)?,
                    // A part of an expression, such as the branches of a CASE; a query is none.
                    None if map.contains_key("node") || map.contains_key("statements") => {
                        return Err(nested());
                    }
                    None => {}
                }
                map.values().try_for_each(|child| self.expression(child))
            }
            _ => Ok(()),
        }
    }

    fn class(&self, class: &str, value: &Value) -> Result<()> {
        match class {
            "BETWEEN" | "CASE" | "CAST" | "COLLATE" | "COMPARISON" | "CONJUNCTION" | "CONSTANT"
            | "OPERATOR" | "TYPE" => Ok(()),
            "COLUMN_REF" => self.column(value),
            "FUNCTION" => self.function(value),
            "SUBQUERY" => Err(nested()),
            other => Err(rejected(
                "disallowed_node",
                format!("a predicate has no place for this: {}", other.to_ascii_lowercase()),
            )),
        }
    }

    fn column(&self, value: &Value) -> Result<()> {
        let names = value.get("column_names").and_then(Value::as_array);
        let names: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
        let has = |name: &str| self.columns.iter().any(|c| c.eq_ignore_ascii_case(name));
        match names.as_slice() {
            // A field of a column that is a record begins with the column.
            [first, ..] if has(first) => Ok(()),
            [of, first, ..] if of.eq_ignore_ascii_case(self.table.as_str()) && has(first) => Ok(()),
            [one] => Err(unknown_column(self.table, one, self.columns)),
            [of, name, ..] if of.eq_ignore_ascii_case(self.table.as_str()) => {
                Err(unknown_column(self.table, name, self.columns))
            }
            many => Err(rejected(
                "cross_table_reference",
                format!(
                    "a predicate is about the columns of `{}` alone, not `{}`",
                    self.table,
                    crate::name::shown(&many.join("."))
                ),
            )),
        }
    }

    fn function(&self, value: &Value) -> Result<()> {
        let spelled = value.get("function_name").and_then(Value::as_str).unwrap_or_default();
        let name = spelled.to_ascii_lowercase();
        let shown = crate::name::shown(spelled);
        if self.aggregates.contains(&name) {
            return Err(rejected(
                "unknown_function",
                format!("`{shown}` puts rows together, which a predicate can't"),
            ));
        }
        let parts = super::guard::path_of(value);
        let verdict = match parts.as_slice() {
            [] | [_] => functions::function(&name),
            _ => Verdict::Unknown,
        };
        match verdict {
            Verdict::Allowed([]) => Ok(()),
            Verdict::Allowed(checks) => {
                let arguments = super::guard::arguments_of(value);
                let call = arguments::Call { name: &name, arguments, is_method: false };
                arguments::check(&call, checks)
                    .map_err(|error| rejected("unknown_function", error.message()))
            }
            Verdict::Refused | Verdict::Unknown => Err(rejected(
                "unknown_function",
                format!("there is no function `{shown}` for predicates"),
            )),
        }
    }
}

fn nested() -> Error {
    rejected("nested_select", "a predicate has no query in it")
}
