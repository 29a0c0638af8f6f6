//! The engine's parse tree of a statement: read from its text, and written as text again.

use duckdb::Connection;
use serde_json::Value;

use super::rows::Parameter;
use crate::engine::direct;
use crate::{Error, Kind, Result, engine, sql};

/// The longest statement, in bytes.
pub(crate) const TEXT_MAX: usize = 64 * 1024;
/// The deepest nesting of parentheses, brackets and braces in a statement's text.
const NESTING_MAX: usize = 200;
/// The stack on which a deep tree is walked.
const STACK: usize = 32 << 20;
/// The nesting up to which a thread's own stack will do.
const SHALLOW: usize = 40;

/// The deepest tree, as JSON: the engine stops at 1,000 expressions in each other, of up to two levels
/// each (`a[1][1]…`), and the guard at 100 tables that are joined.
const DEPTH_MAX: usize = 4_000;
/// The most objects and bytes of a tree for each byte of its text: up to 2 and 300 were seen, of lists
/// in each other and of tables with commas between them.
const OBJECTS_EACH: usize = 4;
const BYTES_EACH: usize = 512;
/// Those of the shortest text.
const OBJECTS_LEAST: usize = 1_000;
const BYTES_LEAST: usize = 64 << 10;
/// The deepest one for which a thread's own stack will do.
const FLAT: usize = 300;

/// Where a SELECT has its condition.
const CONDITION: &str = "/statements/0/node/where_clause";

/// The engine, as far as it turns texts into parse trees and back. What it does runs nothing.
pub(crate) trait Parser {
    /// The parse tree of a text, or what is wrong with it, as the engine's JSON.
    ///
    /// # Errors
    /// When the engine fails.
    fn tree_of(&self, text: &str) -> Result<String>;

    /// The text of a parse tree.
    ///
    /// # Errors
    /// When it is none.
    fn text_of(&self, tree: &str) -> Result<String>;
}

impl Parser for Connection {
    fn tree_of(&self, text: &str) -> Result<String> {
        self.prepare_cached(sql::TREE_OF)
            .and_then(|mut statement| statement.query_row([text], |row| row.get(0)))
            .map_err(|e| engine::error("parse a statement", e))
    }

    fn text_of(&self, tree: &str) -> Result<String> {
        self.query_row(sql::TEXT_OF, [tree], |row| row.get(0))
            .map_err(|e| engine::error("write a statement", e))
    }
}

impl Parser for direct::Connection {
    fn tree_of(&self, text: &str) -> Result<String> {
        self.text(sql::TREE_OF, text).map_err(|e| engine::error("parse a statement", e))
    }

    fn text_of(&self, tree: &str) -> Result<String> {
        self.text(sql::TEXT_OF, tree).map_err(|e| engine::error("write a statement", e))
    }
}

/// The engine's parse tree of exactly one SELECT.
#[derive(Debug)]
pub(crate) struct Tree {
    value: Value,
    nesting: usize,
}

/// Runs `work` where there is room for a deep tree.
fn with_stack<T: Send>(nesting: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if nesting <= SHALLOW {
        return work();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work).map_err(|e| {
            Error::new(Kind::Unavailable, format!("no thread can be had: {e}; try again"))
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// How deep a JSON text is nested, and how many objects are in it.
fn shape_of(json: &str) -> (usize, usize) {
    let (mut depth, mut deepest, mut objects) = (0_usize, 0, 0);
    let (mut is_text, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        match (is_text, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => is_text = !is_text,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
                objects += usize::from(byte == b'{');
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    (deepest, objects)
}

impl Clone for Tree {
    fn clone(&self) -> Tree {
        let Tree { value, nesting } = self;
        let cloned = with_stack(*nesting, || Ok(value.clone()));
        // Where no thread can be had nothing is judged.
        Tree { value: cloned.unwrap_or_default(), nesting: *nesting }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let value = std::mem::take(&mut self.value);
        if self.nesting > SHALLOW {
            let mut kept = Some(value);
            let dropped = with_stack(self.nesting, || {
                drop(kept.take());
                Ok(())
            });
            if dropped.is_err() {
                // No thread can be had: better some memory than this thread's stack.
                std::mem::forget(kept.take());
            }
        }
    }
}

impl Tree {
    /// Parses one statement.
    ///
    /// # Errors
    /// `Invalid` for a syntax error, no or several statements; `Denied` for a statement
    /// that is no query; `Limit` for one that is too long or nested too deeply.
    pub(crate) fn parse(parser: &dyn Parser, text: &str) -> Result<Tree> {
        Tree::parse_long(parser, text, TEXT_MAX)
    }

    /// Parses one statement of at most `longest` bytes.
    ///
    /// # Errors
    /// As [`Tree::parse`].
    pub(crate) fn parse_long(parser: &dyn Parser, text: &str, longest: usize) -> Result<Tree> {
        let nesting = fits(text, longest)?;
        let json = parser.tree_of(text)?;
        let (depth, objects) = shape_of(&json);
        if depth > DEPTH_MAX {
            return Err(Error::new(Kind::Limit, "the statement is nested too deeply; split it up"));
        }
        // A worker that was taken over tells any tree; a CUBE doubles one with each column.
        if objects > OBJECTS_EACH * text.len() + OBJECTS_LEAST
            || json.len() > BYTES_EACH * text.len() + BYTES_LEAST
        {
            return Err(Error::new(
                Kind::Limit,
                "the statement's parse tree is too large; a CUBE has twice the groups with each \
                 column, so name fewer",
            ));
        }
        let nesting = if depth > FLAT { nesting.max(SHALLOW + 1) } else { nesting };
        let value = with_stack(nesting, || Tree::from_json(&json, text))?;
        Ok(Tree { value, nesting })
    }

    fn from_json(json: &str, text: &str) -> Result<Value> {
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
                Some("not implemented") if super::pivot::may_begin(text) => Error::new(
                    Kind::Denied,
                    "a PIVOT has to name the values that become columns here, as in `PIVOT t ON \
                         k IN ('a', 'b') USING sum(x)`",
                ),
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
            Some(1) => Ok(tree),
            Some(0) | None => Err(Error::new(Kind::Invalid, "there is no statement to run")),
            Some(many) => Err(Error::new(
                Kind::Invalid,
                format!("these are {many} statements; send one at a time"),
            )),
        }
    }

    /// Does something with the whole tree, where there is room for its depth.
    pub(super) fn walk(
        &mut self,
        work: impl FnOnce(&mut Value) -> Result<()> + Send,
    ) -> Result<()> {
        let Tree { value, nesting } = self;
        with_stack(*nesting, || work(value))
    }

    /// Puts the values of parameters where their places are, as if they were written out. For
    /// judging alone: what runs has them bound.
    pub(crate) fn fill(&mut self, parameters: &[Parameter]) -> Result<()> {
        self.walk(|value| {
            fill(value, parameters);
            Ok(())
        })
    }

    /// The table reference of a statement that is nothing but `SELECT * FROM` it.
    pub(crate) fn plain_source(&self) -> Option<&Value> {
        let node = self.value.pointer("/statements/0/node")?;
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

    /// Whether the statement is another one but for its condition.
    pub(super) fn is_but_for_its_condition(&self, other: &Tree) -> Result<bool> {
        let without = |tree: &Tree| {
            let mut value = tree.value.clone();
            if let Some(condition) = value.pointer_mut(CONDITION) {
                *condition = Value::Null;
            }
            value
        };
        with_stack(self.nesting.max(other.nesting), || Ok(without(self) == without(other)))
    }

    /// Puts a condition into the place of the statement's.
    pub(super) fn set_condition(&mut self, condition: Value) -> Result<()> {
        let place = self.value.pointer_mut(CONDITION);
        *place.ok_or_else(|| Error::internal("the statement has no condition"))? = condition;
        // It may be of any depth.
        self.nesting = self.nesting.max(SHALLOW + 1);
        Ok(())
    }

    /// The statement as SQL text again, with what the judge replaced.
    pub(crate) fn to_sql(&self, parser: &dyn Parser) -> Result<String> {
        let text = with_stack(self.nesting, || Ok(self.value.to_string()))?;
        parser.text_of(&text)
    }
}

fn fill(value: &mut Value, parameters: &[Parameter]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, parameters)),
        Value::Object(map) => {
            if map.get("class").and_then(Value::as_str) == Some("PARAMETER") {
                let number =
                    map.get("identifier").and_then(Value::as_str).and_then(|i| i.parse().ok());
                let at = number.and_then(|number: usize| number.checked_sub(1));
                if let Some(literal) = at.and_then(|at| parameters.get(at)).and_then(literal_of) {
                    *value = serde_json::json!({ "class": "CONSTANT", "literal": literal });
                }
                return;
            }
            map.values_mut().for_each(|child| fill(child, parameters));
        }
        _ => {}
    }
}

/// A value as the engine's parse tree has those that are written out. No check asks for another.
fn literal_of(parameter: &Parameter) -> Option<Value> {
    let (kind, text) = match parameter {
        Parameter::Null => ("NULL_LITERAL", String::new()),
        Parameter::Integer(value) => ("INTEGER", value.to_string()),
        Parameter::Float(value) => ("NUMERIC", format!("{value:e}")),
        Parameter::Text(value) => ("STRING", value.clone()),
        Parameter::Bool(_) | Parameter::Bytes(_) | Parameter::Timestamp(_) => return None,
    };
    Some(serde_json::json!({ "kind": kind, "text": text }))
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
pub(crate) fn fits(text: &str, longest: usize) -> Result<usize> {
    if text.len() > longest {
        return Err(Error::new(
            Kind::Limit,
            format!("the statement has {} bytes; at most {longest} are allowed", text.len()),
        ));
    }
    if text.contains('\0') {
        return Err(Error::new(Kind::Invalid, "the statement holds a NUL character"));
    }
    let deepest = nesting(text.bytes());
    // What stands in quotes doesn't nest. Where a quote may be something else everything counts.
    let unclear = text.contains(['\\', '$']) || text.contains("--") || text.contains("/*");
    let counts = match unclear {
        true => deepest,
        false => {
            let mut quote = None;
            nesting(text.bytes().filter(|byte| {
                match quote {
                    None if b"'\"".contains(byte) => quote = Some(*byte),
                    Some(open) if open == *byte => quote = None,
                    _ => {}
                }
                quote.is_none()
            }))
        }
    };
    if counts > NESTING_MAX {
        return Err(Error::new(
            Kind::Limit,
            format!("the statement nests more than {NESTING_MAX} levels deep"),
        ));
    }
    // Other ways to nest, such as CASE and NOT, need no parentheses.
    let words = text.split(|c: char| !c.is_ascii_alphabetic());
    let nesting = ["case", "not", "select", "from", "explain"];
    let words = words.filter(|word| nesting.iter().any(|n| word.eq_ignore_ascii_case(n))).count();
    let signs = text.bytes().filter(|b| b"-+~!".contains(b)).count();
    Ok(deepest.max(words).max(signs))
}

/// How deep brackets nest.
fn nesting(bytes: impl Iterator<Item = u8>) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in bytes {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says that every text has this tree.
    struct Liar(String);

    impl Parser for Liar {
        fn tree_of(&self, _: &str) -> Result<String> {
            Ok(self.0.clone())
        }

        fn text_of(&self, _: &str) -> Result<String> {
            Ok("SELECT 1".to_string())
        }
    }

    #[test]
    fn a_tree_that_is_wider_than_any_costs_nobody_memory() {
        let wide = |part: &str| format!("{{\"error\": false, \"statements\": [[{part}1]]}}");
        for lie in [wide(&"{\"\":0},".repeat(100_000)), wide(&"[],".repeat(1_000_000))] {
            let error = Tree::parse(&Liar(lie), "SELECT 1").unwrap_err();
            assert_eq!(error.kind(), Kind::Limit, "{error}");
        }
    }

    #[test]
    fn a_tree_that_is_deeper_than_any_harms_nobody() {
        for levels in [100, 299, 1000, 3900, 20_000, 1_000_000] {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                let (open, close) = (open.repeat(levels), close.repeat(levels));
                let lie = format!(
                    "{{\"error\": false, \"a\": \"[[\\\"[\", \"statements\": [{open}1{close}]}}"
                );
                // Whatever comes of it, this process is there to hear it.
                let text = format!("SELECT {}", "1,".repeat(1000));
                let parsed = Tree::parse(&Liar(lie), &text);
                assert_eq!(parsed.is_err(), levels > DEPTH_MAX, "{levels}");
                if let Ok(tree) = &parsed {
                    assert!(tree.clone().to_sql(&Liar(String::new())).is_ok());
                }
            }
        }
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
