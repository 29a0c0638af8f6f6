//! The guard: what a statement reads, told from the engine's own parse tree.
//!
//! DuckDB parses the text (`json_serialize_sql`); the guard walks the tree with
//! allow-lists and hands every table and table function to a [`Judge`]. What it does not
//! know, it refuses: a node kind that a later DuckDB adds is refused until somebody has
//! looked at it. A statement type proves nothing, since a CTE of a SELECT may write.
//!
//! Two judges use it: the one of a foreign view in [`crate::extract`], which also replaces
//! what it reads by the files that Agnes knows, and the one of a session.

use std::collections::HashMap;

use serde_json::Value;

use super::arguments::{self, Call};
use super::functions::{self, Verdict};
use super::tokens::tokens;
use super::tree::{Tree, function_name, name_parts};
use super::types;
use crate::{Error, Kind, Result};

/// The most joins of a statement, and the most parts of a column's name: ordering 400 joins or
/// finding a field 10,000 levels down takes the engine minutes in which nothing interrupts it.
const JOINS_MAX: usize = 100;
const PARTS_MAX: usize = 100;
/// The most tables of a statement, each WITH counted as often as it is read: the engine writes it
/// out where it is read, and `a AS (FROM b, b), b AS (FROM c, c), …` doubles with each.
const TABLES_MAX: usize = 2000;
/// The most parts of an UNION and its like.
const SETS_MAX: usize = 500;
/// The most nodes of a column of a SELECT list, each name of an earlier one counted with all of
/// its nodes: the engine writes those out, too.
const ALIAS_MAX: usize = 20_000;
/// The deepest nesting of lambdas: each goes through a list for each value of a list.
const LAMBDAS_MAX: usize = 2;
/// The deepest tree that is walked: at most 200 levels of parentheses, of at most seven nodes each.
const DEPTH_MAX: usize = 1500;

/// Names of catalogs and schemas of the engine: a function that is called by one of them isn't
/// the one that the session has put there.
const SCHEMAS: &[&str] = &["main", "system", "memory", "temp", "pg_catalog", "information_schema"];

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
    let mut tokens = tokens(text);
    let Some(explain) = tokens.next().filter(|first| first.is("explain")) else { return Ok(None) };
    if tokens.next().is_some_and(|next| next.is_one_of(&["analyze", "("])) {
        return Err(Error::new(
            Kind::Denied,
            "EXPLAIN takes a query and nothing else here; ANALYZE and options are not allowed",
        ));
    }
    Ok(text.get(explain.end()..))
}

/// Decides about what a statement reads, and may replace it.
pub(crate) trait Judge {
    /// A table, by the parts of its name; never one that a CTE defines.
    fn table(&mut self, name: &[String], node: &mut Value) -> Result<()>;

    /// A table function that reads more than its arguments.
    fn table_function(&mut self, name: &str, node: &mut Value) -> Result<()>;

    /// Whether `x -> x + 1` is a lambda, as the engine stores those of views; otherwise it takes
    /// something out of JSON.
    fn has_arrow_lambdas(&self) -> bool {
        false
    }

    /// `SHOW x`, which describes a table, and shows a setting where there is none.
    fn show(&mut self, name: &str) -> Result<()> {
        Err(refused(&format!("SHOW {}", crate::name::shown(name))))
    }

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

impl Tree {
    /// Walks the whole tree; every table goes to the judge, which may replace it.
    ///
    /// # Errors
    /// `Denied` for anything that is on no allow-list; whatever the judge says.
    pub(crate) fn judge(&mut self, judge: &mut (dyn Judge + Send)) -> Result<()> {
        self.walk(|value| {
            let mut walk = Walk {
                judge,
                ctes: Vec::new(),
                depth: 0,
                joins: 0,
                sets: 0,
                tables: 0,
                lambdas: 0,
            };
            walk.value(value)
        })
    }
}

/// What a WITH has defined.
#[derive(Clone, Copy)]
struct Cte {
    /// The number of tables that it stands for.
    tables: usize,
    /// Whether this is its own second part, in which `recurring.name` is what it has found so far.
    is_recurring: bool,
}

struct Walk<'a> {
    judge: &'a mut (dyn Judge + Send),
    /// Names that a WITH has defined, innermost last, in lower case.
    ctes: Vec<HashMap<String, Cte>>,
    depth: usize,
    joins: usize,
    sets: usize,
    tables: usize,
    lambdas: usize,
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
            "SET_OPERATION_NODE" => {
                let parts = value.get("children").and_then(Value::as_array).map_or(2, Vec::len);
                self.sets += parts.saturating_sub(1).max(1);
                if self.sets > SETS_MAX {
                    return Err(limit(format!("puts more than {SETS_MAX} queries together")));
                }
                self.node_with_ctes(value)
            }
            "SELECT_NODE" => {
                aliases_fit(value)?;
                self.node_with_ctes(value)
            }
            "PIVOT" => {
                pivot(value)?;
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
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("").to_string();
        let name = text("table_name");
        match text("show_type").as_str() {
            "SHOW_SPECIAL" if LISTS.contains(&name.as_str()) => self.judge.listing(),
            "SHOW" => self.judge.show(&name),
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
        self.ctes.push(HashMap::new());
        for entry in &mut entries {
            let before = std::mem::take(&mut self.tables);
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
                self.define(&name, Cte { tables: 1, is_recurring: true });
                self.value(body)?;
                if let Some(slot) = body.pointer_mut("/query_node/left") {
                    *slot = first;
                }
            } else {
                self.value(body)?;
            }
            let stands_for = std::mem::replace(&mut self.tables, before);
            self.define(&name, Cte { tables: stands_for, is_recurring: false });
        }
        let done = self.children(value);
        self.ctes.pop();
        if let Some(slot) = value.get_mut("cte_map").and_then(|m| m.get_mut("map")) {
            *slot = Value::Array(entries);
        }
        done
    }

    fn define(&mut self, name: &str, cte: Cte) {
        if let Some(scope) = self.ctes.last_mut() {
            scope.insert(name.to_string(), cte);
        }
    }

    /// Counts tables that the engine has to plan.
    fn count_tables(&mut self, tables: usize) -> Result<()> {
        self.tables = self.tables.saturating_add(tables);
        match self.tables > TABLES_MAX {
            true => Err(limit(format!("reads more than {TABLES_MAX} tables, WITHs written out"))),
            false => Ok(()),
        }
    }

    fn base_table(&mut self, value: &mut Value) -> Result<()> {
        let name = name_parts(value);
        let cte = |of: &str| {
            let folded = of.to_ascii_lowercase();
            self.ctes.iter().rev().find_map(|scope| scope.get(&folded)).copied()
        };
        let known = match name.as_slice() {
            [only] => cte(only),
            [schema, of] if schema.eq_ignore_ascii_case("recurring") => {
                cte(of).filter(|cte| cte.is_recurring)
            }
            _ => None,
        };
        if let Some(cte) = known {
            self.count_tables(cte.tables.max(1))?;
            return self.children(value);
        }
        if name.is_empty() {
            return Err(refused("a table without a name"));
        }
        self.count_tables(1)?;
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
        // The function itself is judged by name, and whatever else there is as anywhere.
        for (key, child) in value.as_object_mut().into_iter().flatten() {
            match key.as_str() {
                "function" => self.children(child)?,
                _ => self.value(child)?,
            }
        }
        match functions::table_function(&name) {
            Verdict::Allowed(checks) => {
                let arguments = value.get("function").map(arguments_of).unwrap_or_default();
                arguments::check(&Call { name: &name, arguments, is_method: false }, checks)
            }
            Verdict::Refused | Verdict::Unknown => self.judge.table_function(&name, value),
        }
    }

    fn expression(&mut self, class: &str, value: &mut Value) -> Result<()> {
        if !EXPRESSIONS.contains(&class) {
            return Err(refused(&format!("`{}`", crate::name::shown(class))));
        }
        match class {
            "FUNCTION" | "WINDOW" | "AGGREGATE" => function(value)?,
            "COLUMN_REF" => {
                let parts = value.get("column_names").and_then(Value::as_array).map_or(0, Vec::len);
                if parts > PARTS_MAX {
                    return Err(limit(format!("names a column by more than {PARTS_MAX} parts")));
                }
            }
            "TYPE" => cast(value)?,
            "CONSTANT" => constant(value)?,
            "COLLATE" => collation(value)?,
            "LAMBDA" => return self.lambda(value),
            _ => {}
        }
        self.children(value)
    }

    /// A lambda, or what looks like one: `a -> '$.b'` takes something out of JSON.
    fn lambda(&mut self, value: &mut Value) -> Result<()> {
        let is_arrow = value.get("syntax_type").and_then(Value::as_str) != Some("LAMBDA_KEYWORD");
        let path = value.get("expr").unwrap_or(&Value::Null);
        let is_path = path.get("class").and_then(Value::as_str) == Some("CONSTANT");
        if is_arrow && (is_path || !self.judge.has_arrow_lambdas()) {
            arguments::json_path(path).map_err(|why| {
                Error::new(
                    Kind::Denied,
                    format!(
                        "`->` takes something out of JSON, and {why}; a lambda is written \
                             `lambda x: x + 1`"
                    ),
                )
            })?;
            return self.children(value);
        }
        self.lambdas += 1;
        if self.lambdas > LAMBDAS_MAX {
            return Err(limit(format!("has lambdas in lambdas more than {LAMBDAS_MAX} deep")));
        }
        self.children(value)?;
        self.lambdas -= 1;
        Ok(())
    }

    fn children(&mut self, value: &mut Value) -> Result<()> {
        match value {
            Value::Object(map) => map.values_mut().try_for_each(|child| self.value(child)),
            Value::Array(items) => items.iter_mut().try_for_each(|child| self.value(child)),
            _ => Ok(()),
        }
    }
}

/// The parts of a function's name.
pub(super) fn path_of(value: &Value) -> Vec<&str> {
    if let Some(path) = value.pointer("/qualified_name/path").and_then(Value::as_array) {
        return path.iter().filter_map(Value::as_str).collect();
    }
    let part = |key: &str| value.get(key).and_then(Value::as_str).filter(|part| !part.is_empty());
    ["catalog", "schema", "function_name", "type_name"].into_iter().filter_map(part).collect()
}

pub(super) fn arguments_of(value: &Value) -> Vec<&Value> {
    let list = value.get("arguments").or_else(|| value.get("children")).and_then(Value::as_array);
    let list = list.into_iter().flatten();
    list.map(|argument| argument.get("expression").unwrap_or(argument)).collect()
}

/// Judges a function by its name, and its arguments where there is something to check.
fn function(value: &Value) -> Result<()> {
    let spelled = value.get("function_name").and_then(Value::as_str).unwrap_or("");
    let name = spelled.to_ascii_lowercase();
    let not_allowed = || refused(&format!("the function `{}`", crate::name::shown(spelled)));
    let is_method = match path_of(value).as_slice() {
        [] | [_] => false,
        // `x.f(y)`, where `x` is a column.
        [first, _] if !SCHEMAS.iter().any(|schema| first.eq_ignore_ascii_case(schema)) => true,
        _ => {
            return Err(refused(&format!(
                "the function `{}` by a qualified name",
                crate::name::shown(spelled)
            )));
        }
    };
    if value.get("export_state").and_then(Value::as_bool) == Some(true) {
        return Err(refused("EXPORT_STATE"));
    }
    match functions::function(&name) {
        Verdict::Allowed([]) => Ok(()),
        Verdict::Allowed(checks) => {
            let arguments = arguments_of(value);
            arguments::check(&Call { name: &name, arguments, is_method }, checks)
        }
        Verdict::Refused => Err(not_allowed()),
        Verdict::Unknown => {
            let cure = functions::near(&name)
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            Err(Error::new(
                Kind::Invalid,
                format!("there is no function `{}` here{cure}", crate::name::shown(spelled)),
            ))
        }
    }
}

fn cast(value: &Value) -> Result<()> {
    let spelled = value.get("type_name").and_then(Value::as_str).unwrap_or("");
    let shown = crate::name::shown(spelled);
    if path_of(value).len() > 1 {
        return Err(refused(&format!("the type `{shown}` by a qualified name")));
    }
    match types::cast(&spelled.to_ascii_lowercase()) {
        Verdict::Allowed(_) => Ok(()),
        Verdict::Refused => Err(refused(&format!("the type `{shown}`"))),
        Verdict::Unknown => {
            Err(Error::new(Kind::Denied, format!("there is no type `{shown}` here")))
        }
    }
}

/// A collation, or a few one after the other: those of the engine, or the name of a language.
fn collation(value: &Value) -> Result<()> {
    const OWN: &[&str] = &["binary", "c", "posix", "nocase", "noaccent", "nfc"];
    const MOST: usize = 4;
    let text = value.get("collation").and_then(Value::as_str).unwrap_or("").to_ascii_lowercase();
    let is_language = |part: &str| {
        let mut words = part.split('_');
        let letters = |word: &str| word.bytes().all(|b| b.is_ascii_lowercase());
        words.next().is_some_and(|word| (2..=3).contains(&word.len()) && letters(word))
            && words.all(|word| (2..=4).contains(&word.len()) && letters(word))
    };
    let parts: Vec<&str> = text.split('.').collect();
    let known = parts.len() <= MOST && parts.iter().all(|p| OWN.contains(p) || is_language(p));
    match known {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Denied,
            format!("there is no collation `{}` here", crate::name::shown(&text)),
        )),
    }
}

/// A PIVOT by a type's name would tell which types there are.
fn pivot(value: &Value) -> Result<()> {
    let pivots = value.get("pivots").and_then(Value::as_array).into_iter().flatten();
    let by_type = |pivot: &Value| {
        pivot.get("pivot_enum").and_then(Value::as_str).is_some_and(|name| !name.is_empty())
    };
    match pivots.into_iter().any(by_type) {
        true => Err(refused("a PIVOT by the name of a type")),
        false => Ok(()),
    }
}

/// A whole number that 128 bits don't hold is of a type with which the engine ends itself.
fn constant(value: &Value) -> Result<()> {
    let part = |key: &str| value.pointer(key).and_then(Value::as_str).unwrap_or("");
    let text = part("/literal/text");
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let fits = || text.parse::<i128>().is_ok() || text.parse::<u128>().is_ok();
    match part("/literal/kind") != "STRING" && is_whole && !fits() {
        true => Err(limit("holds a whole number of more than 128 bits".into())),
        false => Ok(()),
    }
}

/// Whether the columns of a SELECT list stay small when the names of earlier ones in them are
/// written out.
fn aliases_fit(select: &Value) -> Result<()> {
    let list = select.get("select_list").and_then(Value::as_array);
    let mut sizes: HashMap<String, usize> = HashMap::new();
    for column in list.into_iter().flatten() {
        let size = size(column, &sizes);
        if size > ALIAS_MAX {
            return Err(limit(format!(
                "has a column of more than {ALIAS_MAX} parts, the names of others written out"
            )));
        }
        let alias = column.get("alias").and_then(Value::as_str).unwrap_or("");
        if !alias.is_empty() {
            sizes.insert(alias.to_ascii_lowercase(), size);
        }
    }
    Ok(())
}

fn size(value: &Value, sizes: &HashMap<String, usize>) -> usize {
    let named = match value.get("column_names").and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::String(name)]) => sizes.get(&name.to_ascii_lowercase()).copied(),
        _ => None,
    };
    let here = named.unwrap_or(usize::from(value.get("class").is_some()));
    let add = |sum: usize, child: &Value| sum.saturating_add(size(child, sizes));
    match value {
        Value::Array(items) => items.iter().fold(here, add),
        Value::Object(map) => map.values().fold(here, add),
        _ => here,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::TEXT_MAX;
    use super::*;
    use crate::engine;

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
            fn show(&mut self, name: &str) -> Result<()> {
                self.0.push(name.to_string());
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

    /// Anywhere else it is a schema of that name.
    #[test]
    fn recurring_is_what_a_recursive_with_has_found() {
        let text = "WITH RECURSIVE r(k, v) USING KEY (k) AS (SELECT 1, 0 UNION SELECT k, v + 1 FROM \
                    recurring.r WHERE v < 3) FROM r";
        assert!(read(text).unwrap().tables.is_empty());
        let text = "WITH s AS (SELECT 1) FROM recurring.s";
        assert_eq!(read(text).unwrap().tables, ["recurring.s"]);
        let text = "WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i FROM r) FROM recurring.r";
        assert_eq!(read(text).unwrap().tables, ["recurring.r"]);
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
        let united = format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(501));
        for text in [deep, joined, fields, united] {
            assert_eq!(read(&text).err().map(|e| e.kind()), Some(Kind::Limit), "{text}");
        }
        assert!(read(&format!("SELECT 1 FROM t{}", ", t".repeat(100))).is_ok());
        let long = format!("SELECT '{}'", "x".repeat(TEXT_MAX));
        assert_eq!(read(&long).err().map(|e| e.kind()), Some(Kind::Limit));
    }
}
