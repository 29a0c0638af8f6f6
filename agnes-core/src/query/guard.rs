//! The guard: what a statement reads, told from the engine's own parse tree.
//!
//! DuckDB parses the text (`json_serialize_sql`); the guard walks the tree with
//! allow-lists and hands every table and table function to a [`Judge`]. What it does not
//! know, it refuses: a node kind that a later DuckDB adds is refused until somebody has
//! looked at it. A statement type proves nothing, since a CTE of a SELECT may write.
//!
//! Two judges use it: the one of a foreign view in [`crate::extract`], which also replaces
//! what it reads by the files that Agnes knows, and the one of a session.

use std::collections::HashSet;

use duckdb::Connection;
use serde_json::Value;

use crate::{Error, Kind, Result, engine};

/// The longest statement, in bytes.
pub(crate) const TEXT_MAX: usize = 64 * 1024;
/// The deepest nesting of parentheses, brackets and braces in a statement's text.
const NESTING_MAX: usize = 200;
/// The most joins of a statement, and the most parts of a column's name: ordering 400 joins or
/// finding a field 10,000 levels down takes the engine minutes in which nothing interrupts it.
const JOINS_MAX: usize = 100;
const PARTS_MAX: usize = 100;
/// The deepest tree that is walked.
const DEPTH_MAX: usize = 500;

/// Query nodes, table references and modifiers. What is not here is refused, among it
/// `INSERT_QUERY_NODE`, `COPY_QUERY_NODE` and their like, which write.
const NODES: &[&str] = &[
    "SELECT_NODE",
    "SET_OPERATION_NODE",
    "RECURSIVE_CTE_NODE",
    "CTE_NODE",
    "BASE_TABLE",
    "SUBQUERY",
    "JOIN",
    "TABLE_FUNCTION",
    "EXPRESSION_LIST",
    "EMPTY",
    "PIVOT",
    "SHOW_REF",
    "ORDER_MODIFIER",
    "LIMIT_MODIFIER",
    "LIMIT_PERCENT_MODIFIER",
    "DISTINCT_MODIFIER",
    // The direction of an ORDER BY item.
    "ASCENDING",
    "DESCENDING",
    "ORDER_DEFAULT",
];

/// Classes of expressions.
const EXPRESSIONS: &[&str] = &[
    "AGGREGATE",
    "BETWEEN",
    "CASE",
    "CAST",
    "COLLATE",
    "COLUMN_REF",
    "COMPARISON",
    "CONJUNCTION",
    "CONSTANT",
    "DEFAULT",
    "FUNCTION",
    "LAMBDA",
    "LAMBDA_REF",
    "OPERATOR",
    "PARAMETER",
    "POSITIONAL_REFERENCE",
    "STAR",
    "SUBQUERY",
    "TYPE",
    "WINDOW",
];

/// Functions that tell about the process instead of the data.
const REFUSED_FUNCTIONS: &[&str] = &[
    "getenv",
    "current_setting",
    "getvariable",
    "write_log",
    // They end the process on deep values, or show the paths of views.
    "json_contains",
    "json_serialize_plan",
    "pg_get_viewdef",
    "variant_group_array",
];

/// A cast of deeply nested JSON to this type ends the process (DuckDB 2.0.0).
const REFUSED_TYPES: &[&str] = &["variant"];

/// Table functions that read nothing but their arguments.
const TABLE_FUNCTIONS: &[&str] =
    &["range", "generate_series", "unnest", "repeat", "json_each", "json_tree"];

/// The lists of tables and columns that people's tools ask for.
pub(crate) const INFORMATION_SCHEMA: &[&str] = &[
    "character_sets",
    "columns",
    "constraint_column_usage",
    "key_column_usage",
    "referential_constraints",
    "schemata",
    "table_constraints",
    "tables",
];

/// The query that an EXPLAIN explains, or nothing when it is something else. The engine's parse
/// tree has no EXPLAIN; the query in it is checked like any other.
///
/// # Errors
/// `Denied` for other forms of EXPLAIN: ANALYZE names the files that are read.
pub(crate) fn explained(text: &str) -> Result<Option<&str>> {
    let Some(rest) = after_word(text, "explain") else { return Ok(None) };
    if after_word(rest, "analyze").is_some() || after_blank(rest).starts_with('(') {
        return Err(Error::new(
            Kind::Denied,
            "EXPLAIN takes a query and nothing else here; ANALYZE and options are not allowed",
        ));
    }
    Ok(Some(rest))
}

/// What follows a word at the start of a text, whatever its case.
fn after_word<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let text = after_blank(text);
    let (first, rest) = text.split_at_checked(word.len())?;
    let ends =
        !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii());
    (first.eq_ignore_ascii_case(word) && ends).then_some(rest)
}

/// A text without the blanks and comments at its start.
fn after_blank(text: &str) -> &str {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
        let comment = if rest.starts_with("--") {
            rest.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(inside) = rest.strip_prefix("/*") {
            inside.split_once("*/").map_or("", |(_, after)| after)
        } else {
            return rest;
        };
        rest = comment;
    }
}

/// Decides about what a statement reads, and may replace it.
pub(crate) trait Judge {
    /// A table, by the parts of its name; never one that a CTE defines.
    fn table(&mut self, name: &[String], node: &mut Value) -> Result<()>;

    /// A table function that reads more than its arguments.
    fn table_function(&mut self, name: &str, node: &mut Value) -> Result<()>;

    /// `SHOW TABLES` and its like, which list what there is.
    fn listing(&mut self) -> Result<()> {
        Err(refused("a list of what the database holds"))
    }
}

fn refused(what: &str) -> Error {
    Error::new(Kind::Denied, format!("the statement uses {what}, which is not allowed"))
}

fn limit(what: String) -> Error {
    Error::new(Kind::Limit, format!("the statement {what}; ask for less at once"))
}

/// The engine's parse tree of exactly one SELECT.
#[derive(Debug, Clone)]
pub(crate) struct Tree(Value);

impl Tree {
    /// Parses one statement.
    ///
    /// # Errors
    /// `Invalid` for a syntax error, no or several statements; `Denied` for a statement
    /// that is no query; `Limit` for one that is too long or nested too deeply.
    pub(crate) fn parse(connection: &Connection, text: &str) -> Result<Tree> {
        let trees = Tree::parse_many(connection, std::slice::from_ref(&text), TEXT_MAX)?;
        trees.into_iter().next().unwrap_or_else(|| Err(Error::internal("no tree came back")))
    }

    /// Parses many texts of at most `longest` bytes, each on its own.
    pub(crate) fn parse_many(
        connection: &Connection,
        texts: &[&str],
        longest: usize,
    ) -> Result<Vec<Result<Tree>>> {
        let mut trees = Vec::with_capacity(texts.len());
        let mut statement = connection
            .prepare_cached("SELECT json_serialize_sql(?::VARCHAR)::VARCHAR")
            .map_err(|e| engine::error("parse a statement", e))?;
        for text in texts {
            trees.push(fits(text, longest).and_then(|()| {
                let json: String = statement
                    .query_row([text], |row| row.get(0))
                    .map_err(|e| engine::error("parse a statement", e))?;
                Tree::from_json(&json, text)
            }));
        }
        Ok(trees)
    }

    fn from_json(json: &str, text: &str) -> Result<Tree> {
        // The tree of a statement within the limits above is deeper than serde's default of
        // 128 levels, and never as deep as this thread's stack.
        let mut reader = serde_json::Deserializer::from_str(json);
        reader.disable_recursion_limit();
        let tree: Value = serde::Deserialize::deserialize(&mut reader)
            .map_err(|e| Error::internal("the engine's parse tree is no JSON").because(e))?;
        if tree.get("error").and_then(Value::as_bool) != Some(false) {
            let message = tree.get("error_message").and_then(Value::as_str).unwrap_or("");
            return Err(match tree.get("error_type").and_then(Value::as_str) {
                Some("not implemented") if message.contains("parameters") => {
                    Error::new(Kind::Invalid, message.trim())
                }
                // The engine asks the table for them first, by statements of its own.
                Some("not implemented") if text.to_ascii_lowercase().contains("pivot") => {
                    Error::new(
                        Kind::Denied,
                        "a PIVOT has to name the values that become columns, as in `PIVOT t ON k \
                         IN ('a', 'b') USING sum(x)`",
                    )
                }
                Some("not implemented") => Error::new(
                    Kind::Denied,
                    "only queries run here: SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE \
                     or EXPLAIN",
                ),
                _ => Error::new(
                    Kind::Invalid,
                    format!("the SQL can't be parsed: {}", message.trim()),
                ),
            });
        }
        match tree.get("statements").and_then(Value::as_array).map(Vec::len) {
            Some(1) => Ok(Tree(tree)),
            Some(0) | None => Err(Error::new(Kind::Invalid, "there is no statement to run")),
            Some(many) => Err(Error::new(
                Kind::Invalid,
                format!("these are {many} statements; send one at a time"),
            )),
        }
    }

    /// Walks the whole tree; every table goes to the judge, which may replace it.
    ///
    /// # Errors
    /// `Denied` for anything that is on no allow-list; whatever the judge says.
    pub(crate) fn judge(&mut self, judge: &mut dyn Judge) -> Result<()> {
        let mut walk = Walk { judge, ctes: Vec::new(), depth: 0, joins: 0 };
        walk.value(&mut self.0)
    }

    /// The table reference of a statement that is nothing but `SELECT * FROM` it.
    pub(crate) fn plain_source(&self) -> Option<&Value> {
        let node = self.0.pointer("/statements/0/node")?;
        let empty = |key: &str| match node.get(key) {
            None | Some(Value::Null) => true,
            Some(Value::Array(a)) => a.is_empty(),
            Some(_) => false,
        };
        let plain_node = node.get("type")?.as_str()? == "SELECT_NODE"
            && node.pointer("/cte_map/map")?.as_array()?.is_empty()
            && node.get("aggregate_handling")?.as_str()? == "STANDARD_HANDLING"
            && [
                "modifiers",
                "where_clause",
                "group_expressions",
                "group_sets",
                "having",
                "sample",
                "qualify",
            ]
            .iter()
            .all(|key| empty(key));
        let [star] = node.get("select_list")?.as_array()?.as_slice() else { return None };
        let star_is_plain = star.get("class")?.as_str()? == "STAR"
            && star.get("columns")?.as_bool() == Some(false)
            && star.get("expr")?.is_null()
            && ["exclude_list", "replace_list", "qualified_exclude_list", "rename_list"]
                .iter()
                .all(|key| star.get(key).and_then(Value::as_array).is_some_and(Vec::is_empty));
        let from = node.get("from_table")?;
        let from_is_plain = from.get("sample").is_none_or(Value::is_null)
            && from.get("at_clause").is_none_or(Value::is_null)
            && from.get("column_name_alias").and_then(Value::as_array).is_none_or(Vec::is_empty)
            && from
                .get("with_ordinality")
                .and_then(Value::as_str)
                .is_none_or(|w| w == "WITHOUT_ORDINALITY");
        (plain_node && star_is_plain && from_is_plain).then_some(from)
    }

    /// The statement as SQL text again, with what the judge replaced.
    pub(crate) fn to_sql(&self, connection: &Connection) -> Result<String> {
        connection
            .query_row("SELECT json_deserialize_sql(?::JSON)", [self.0.to_string()], |row| {
                row.get(0)
            })
            .map_err(|e| engine::error("write a statement", e))
    }
}

/// The parts of a table reference's name.
pub(crate) fn name_parts(node: &Value) -> Vec<String> {
    let path = node.pointer("/qualified_name/path").and_then(Value::as_array);
    path.map(|p| p.iter().filter_map(Value::as_str).map(str::to_string).collect())
        .unwrap_or_default()
}

/// The name of a table function reference.
pub(crate) fn function_name(node: &Value) -> Option<&str> {
    node.pointer("/function/function_name").and_then(Value::as_str)
}

/// Length and nesting, before the engine's parser sees the text: it is slow on deep nesting.
fn fits(text: &str, longest: usize) -> Result<()> {
    if text.len() > longest {
        return Err(Error::new(
            Kind::Limit,
            format!("the statement has {} bytes; at most {longest} are allowed", text.len()),
        ));
    }
    if text.contains('\0') {
        return Err(Error::new(Kind::Invalid, "the statement holds a NUL character"));
    }
    let mut depth = 0usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return Err(Error::new(
                Kind::Limit,
                format!("the statement nests more than {NESTING_MAX} levels deep"),
            ));
        }
    }
    Ok(())
}

struct Walk<'a> {
    judge: &'a mut dyn Judge,
    /// Names that a WITH has defined, innermost last; lower case.
    ctes: Vec<HashSet<String>>,
    depth: usize,
    joins: usize,
}

impl Walk<'_> {
    fn value(&mut self, value: &mut Value) -> Result<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::new(Kind::Limit, "the statement nests too deeply"));
        }
        match value {
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.value(item))?,
            Value::Object(_) => self.object(value)?,
            _ => {}
        }
        self.depth -= 1;
        Ok(())
    }

    fn object(&mut self, value: &mut Value) -> Result<()> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_string);
        if let Some(class) = text("class") {
            return self.expression(&class, value);
        }
        let Some(kind) = text("type") else { return self.children(value) };
        if !NODES.contains(&kind.as_str()) {
            return Err(refused(&format!("`{}`", crate::name::shown(&kind))));
        }
        match kind.as_str() {
            "JOIN" => {
                self.joins += 1;
                if self.joins > JOINS_MAX {
                    return Err(limit(format!("has more than {JOINS_MAX} joins")));
                }
                self.children(value)
            }
            "BASE_TABLE" => self.base_table(value),
            "TABLE_FUNCTION" => self.table_function(value),
            "SHOW_REF" => {
                if value.get("query").is_none_or(Value::is_null) {
                    self.listing(value)?;
                }
                self.children(value)
            }
            _ => self.node_with_ctes(value),
        }
    }

    /// `SHOW TABLES`, and `SHOW x`, which shows a setting where no table is called `x`.
    fn listing(&mut self, value: &mut Value) -> Result<()> {
        const LISTS: [&str; 4] =
            ["\"tables\"", "__show_tables_expanded", "\"databases\"", "\"schemas\""];
        self.judge.listing()?;
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("").to_string();
        let name = text("table_name");
        match text("show_type").as_str() {
            "SHOW_SPECIAL" if LISTS.contains(&name.as_str()) => Ok(()),
            "SHOW" => self.judge.table(&[name], value),
            _ => Err(refused("this form of SHOW")),
        }
    }

    /// A node whose WITH, if it has one, defines names for the rest of it.
    fn node_with_ctes(&mut self, value: &mut Value) -> Result<()> {
        let Some(map) = value.get_mut("cte_map").and_then(|m| m.get_mut("map")).map(Value::take)
        else {
            return self.children(value);
        };
        let Value::Array(mut entries) = map else { return Err(refused("an unknown form of WITH")) };
        self.ctes.push(HashSet::new());
        for entry in &mut entries {
            let name = entry.get("key").and_then(Value::as_str).unwrap_or("").to_ascii_lowercase();
            let Some(body) = entry.get_mut("value") else {
                return Err(refused("an unknown form of WITH"));
            };
            let kind = body.pointer("/query_node/type").and_then(Value::as_str);
            // Only a recursive one sees itself, and only in its second part; anywhere else the
            // name means what it meant before.
            if kind == Some("RECURSIVE_CTE_NODE") {
                let Some(first) = body.pointer_mut("/query_node/left") else {
                    return Err(refused("an unknown form of WITH"));
                };
                let mut first = first.take();
                self.value(&mut first)?;
                self.define(&name);
                self.value(body)?;
                if let Some(slot) = body.pointer_mut("/query_node/left") {
                    *slot = first;
                }
            } else {
                self.value(body)?;
            }
            self.define(&name);
        }
        let done = self.children(value);
        self.ctes.pop();
        if let Some(slot) = value.get_mut("cte_map").and_then(|m| m.get_mut("map")) {
            *slot = Value::Array(entries);
        }
        done
    }

    fn define(&mut self, name: &str) {
        if let Some(scope) = self.ctes.last_mut() {
            scope.insert(name.to_string());
        }
    }

    fn base_table(&mut self, value: &mut Value) -> Result<()> {
        let name = name_parts(value);
        if let [only] = name.as_slice() {
            let folded = only.to_ascii_lowercase();
            if self.ctes.iter().any(|scope| scope.contains(&folded)) {
                return self.children(value);
            }
        }
        if name.is_empty() {
            return Err(refused("a table without a name"));
        }
        self.children(value)?;
        self.judge.table(&name, value)
    }

    fn table_function(&mut self, value: &mut Value) -> Result<()> {
        let qualified = value
            .pointer("/function/qualified_name/path")
            .and_then(Value::as_array)
            .is_some_and(|path| path.len() > 1);
        let name = function_name(value).unwrap_or("").to_ascii_lowercase();
        if qualified {
            return Err(refused(&format!("the function `{name}` by a qualified name")));
        }
        // The arguments are expressions; the function itself is judged by name.
        if let Some(arguments) = value.pointer_mut("/function/arguments") {
            self.value(arguments)?;
        }
        if TABLE_FUNCTIONS.contains(&name.as_str()) {
            return Ok(());
        }
        self.judge.table_function(&name, value)
    }

    fn expression(&mut self, class: &str, value: &mut Value) -> Result<()> {
        if !EXPRESSIONS.contains(&class) {
            return Err(refused(&format!("`{}`", crate::name::shown(class))));
        }
        if class == "FUNCTION" || class == "WINDOW" {
            let name = value.get("function_name").and_then(Value::as_str).unwrap_or("");
            if REFUSED_FUNCTIONS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(refused(&format!("the function `{}`", crate::name::shown(name))));
            }
        }
        if class == "COLUMN_REF" {
            let parts = value.get("column_names").and_then(Value::as_array).map_or(0, Vec::len);
            if parts > PARTS_MAX {
                return Err(limit(format!("names a column by more than {PARTS_MAX} parts")));
            }
        }
        if class == "TYPE" {
            let name = value.get("type_name").and_then(Value::as_str).unwrap_or("");
            if REFUSED_TYPES.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(refused(&format!("the type `{}`", crate::name::shown(name))));
            }
        }
        self.children(value)
    }

    fn children(&mut self, value: &mut Value) -> Result<()> {
        match value {
            Value::Object(map) => map.values_mut().try_for_each(|child| self.value(child)),
            Value::Array(items) => items.iter_mut().try_for_each(|child| self.value(child)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen {
        tables: Vec<String>,
        functions: Vec<String>,
    }

    impl Judge for Seen {
        fn table(&mut self, name: &[String], _: &mut Value) -> Result<()> {
            self.tables.push(name.join("."));
            Ok(())
        }
        fn table_function(&mut self, name: &str, _: &mut Value) -> Result<()> {
            self.functions.push(name.to_string());
            Ok(())
        }
    }

    fn read(text: &str) -> Result<Seen> {
        let connection = engine::in_memory(&engine::Limits::default()).unwrap();
        let mut seen = Seen::default();
        Tree::parse(&connection, text)?.judge(&mut seen)?;
        Ok(seen)
    }

    #[test]
    fn every_table_is_seen_wherever_it_hides() {
        for (text, tables) in [
            ("SELECT * FROM a", vec!["a"]),
            ("SELECT (SELECT max(x) FROM b) FROM a", vec!["b", "a"]),
            ("SELECT * FROM a WHERE EXISTS (FROM s.c)", vec!["a", "s.c"]),
            ("WITH s AS (FROM s) FROM s", vec!["s"]),
            ("WITH s AS (FROM x), t AS (FROM s) FROM t, u", vec!["x", "u"]),
            ("WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i FROM r, a) FROM r", vec!["a"]),
            ("FROM (WITH s AS (SELECT 1) FROM s) JOIN s USING (a)", vec!["s"]),
            ("WITH s AS (SELECT 1) FROM main.s", vec!["main.s"]),
            ("FROM a UNION ALL FROM b EXCEPT FROM c", vec!["a", "b", "c"]),
            ("DESCRIBE a", vec!["a"]),
            ("SUMMARIZE a", vec!["a"]),
            ("SELECT list_transform(l, lambda x: (SELECT max(i) FROM b)) FROM a", vec!["b", "a"]),
            ("FROM a ORDER BY (SELECT 1 FROM b) LIMIT (SELECT 2 FROM c)", vec!["b", "c", "a"]),
            ("FROM a, LATERAL (SELECT * FROM b WHERE b.i = a.i)", vec!["a", "b"]),
            ("FROM '/etc/passwd'", vec!["/etc/passwd"]),
        ] {
            let mut seen = read(text).unwrap().tables;
            let mut tables: Vec<String> = tables.into_iter().map(String::from).collect();
            seen.sort();
            tables.sort();
            assert_eq!(seen, tables, "{text}");
        }
    }

    #[test]
    fn what_writes_or_leaves_the_database_is_refused() {
        for text in [
            "WITH x AS (COPY (SELECT 1) TO '/tmp/x') FROM x",
            "WITH x AS (INSERT INTO t VALUES (1) RETURNING 1) FROM x",
            "INSERT INTO t VALUES (1)",
            "COPY t TO 'x'",
            "ATTACH 'x'",
            "PRAGMA database_list",
            "SET threads = 1",
            "SELECT getenv('HOME')",
            "SELECT current_setting('allowed_paths')",
            "SELECT '[]'::JSON::VARIANT",
            "SELECT CAST('[]' AS VARIANT)",
            "SHOW TABLES",
            "SHOW VARIABLES",
        ] {
            let error = read(text).err().unwrap_or_else(|| panic!("{text} passed"));
            assert_eq!(error.kind(), Kind::Denied, "{text}: {error}");
        }
        assert_eq!(read("SELECT * FROM read_csv('x')").unwrap().functions, ["read_csv"]);
        assert_eq!(read("FROM query('SELECT 1')").unwrap().functions, ["query"]);
    }

    /// It would show a setting, such as the files that may be read.
    #[test]
    fn show_of_a_name_reads_a_table_of_that_name() {
        struct Listing(Vec<String>);
        impl Judge for Listing {
            fn table(&mut self, name: &[String], _: &mut Value) -> Result<()> {
                self.0.push(name.join("."));
                Ok(())
            }
            fn table_function(&mut self, _: &str, _: &mut Value) -> Result<()> {
                Ok(())
            }
            fn listing(&mut self) -> Result<()> {
                Ok(())
            }
        }
        let connection = engine::in_memory(&engine::Limits::default()).unwrap();
        for (text, tables) in [
            ("SHOW allowed_paths", vec!["allowed_paths"]),
            ("FROM (SHOW secret_directory)", vec!["secret_directory"]),
            ("SHOW TABLES", vec![]),
            ("SHOW ALL TABLES", vec![]),
            ("DESCRIBE", vec![]),
        ] {
            let mut seen = Listing(Vec::new());
            Tree::parse(&connection, text).unwrap().judge(&mut seen).unwrap();
            assert_eq!(seen.0, tables, "{text}");
        }
    }

    /// The second part of a recursive WITH sees its name, the first reads what stood there.
    #[test]
    fn a_recursive_with_hides_nothing_from_its_first_part() {
        let text = "WITH RECURSIVE r AS (FROM r UNION ALL FROM r) FROM r";
        assert_eq!(read(text).unwrap().tables, ["r"]);
    }

    #[test]
    fn one_statement_of_bounded_size() {
        for (text, kind) in [
            ("", Kind::Invalid),
            ("SELECT 1; SELECT 2", Kind::Invalid),
            ("SELEC 1", Kind::Invalid),
            ("SELECT '\0'", Kind::Invalid),
        ] {
            assert_eq!(read(text).err().map(|e| e.kind()), Some(kind), "{text}");
        }
        let deep = format!("SELECT {}1{}", "(".repeat(201), ")".repeat(201));
        let joined = format!("SELECT 1 FROM t{}", ", t".repeat(101));
        let fields = format!("SELECT x{} FROM t", ".a".repeat(101));
        for text in [deep, joined, fields] {
            assert_eq!(read(&text).err().map(|e| e.kind()), Some(Kind::Limit), "{text}");
        }
        assert!(read(&format!("SELECT 1 FROM t{}", ", t".repeat(100))).is_ok());
        let long = format!("SELECT '{}'", "x".repeat(TEXT_MAX));
        assert_eq!(read(&long).err().map(|e| e.kind()), Some(Kind::Limit));
    }

    #[test]
    fn only_a_bare_select_star_is_plain() {
        let connection = engine::in_memory(&engine::Limits::default()).unwrap();
        let plain = |text: &str| Tree::parse(&connection, text).unwrap().plain_source().is_some();
        assert!(plain("SELECT * FROM read_parquet('a.parquet')"));
        assert!(plain("FROM 'a.parquet'"));
        for text in [
            "SELECT * EXCLUDE (a) FROM t",
            "SELECT * REPLACE (1 AS a) FROM t",
            "SELECT * RENAME (a AS b) FROM t",
            "SELECT a FROM t",
            "SELECT *, 1 FROM t",
            "SELECT DISTINCT * FROM t",
            "SELECT * FROM t WHERE a",
            "SELECT * FROM t LIMIT 1",
            "SELECT * FROM t ORDER BY 1",
            "SELECT * FROM t USING SAMPLE 10%",
            "SELECT * FROM t TABLESAMPLE 10%",
            "SELECT * FROM t AS x(a, b)",
            "SELECT * FROM t QUALIFY true",
            "SELECT COLUMNS('a') FROM t",
            "WITH t AS (SELECT 1) SELECT * FROM t",
            "SELECT * FROM t UNION ALL SELECT * FROM t",
        ] {
            assert!(!plain(text), "{text}");
        }
    }
}
