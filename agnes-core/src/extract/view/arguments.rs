//! What a view hands to `read_parquet`, in its parse tree: read, and written anew.

use serde_json::{Value, json};

pub(super) fn looks_like_a_file(name: &str) -> bool {
    name.contains('/') || name.to_ascii_lowercase().ends_with(".parquet")
}

pub(super) fn is_parquet_reader(function: Option<&str>) -> bool {
    function.is_some_and(|f| {
        f.eq_ignore_ascii_case("read_parquet") || f.eq_ignore_ascii_case("parquet_scan")
    })
}

/// What a view hands to `read_parquet`.
pub(super) struct ReaderArguments {
    pub(super) paths: Vec<String>,
    /// Options by lower-case name; the value where it is `true` or `false`.
    pub(super) options: Vec<(String, Option<bool>)>,
}

impl ReaderArguments {
    /// Whether columns are matched by name, if no option changes more than that.
    pub(super) fn harmless_by_name(&self) -> Option<bool> {
        let mut by_name = false;
        for (name, value) in &self.options {
            match (name.as_str(), value) {
                ("union_by_name", Some(value)) => by_name = *value,
                ("hive_partitioning" | "filename" | "file_row_number", Some(false)) => {}
                _ => return None,
            }
        }
        Some(by_name)
    }
}

/// The arguments of a reader, if all of them are constants.
pub(super) fn reader_arguments(node: &Value) -> Option<ReaderArguments> {
    let mut found = ReaderArguments { paths: Vec::new(), options: Vec::new() };
    for (index, argument) in node.pointer("/function/arguments")?.as_array()?.iter().enumerate() {
        let expression = argument.get("expression")?;
        let name = argument.get("name").and_then(Value::as_str).unwrap_or("");
        if index == 0 && name.is_empty() {
            found.paths = constant_paths(expression)?;
        } else if !name.is_empty() {
            found.options.push((name.to_ascii_lowercase(), constant_bool(expression)));
        } else {
            // `option = value` is parsed as a comparison.
            if expression.get("type")?.as_str()? != "COMPARE_EQUAL" {
                return None;
            }
            let option = expression.pointer("/left/column_names/0")?.as_str()?;
            let value = constant_bool(expression.get("right")?);
            found.options.push((option.to_ascii_lowercase(), value));
        }
    }
    Some(found)
}

pub(super) fn constant_text(expression: &Value) -> Option<String> {
    let literal = expression.get("literal")?;
    (literal.get("kind")?.as_str()? == "STRING")
        .then(|| literal.get("text")?.as_str())?
        .map(String::from)
}

/// A truth value; DuckDB 1.x stores it as `CAST('t' AS BOOLEAN)`.
pub(super) fn constant_bool(expression: &Value) -> Option<bool> {
    if expression.get("class").and_then(Value::as_str) == Some("CAST") {
        let to = expression.pointer("/type_expr/type_name").and_then(Value::as_str)?;
        return match expression.pointer("/child/literal/text")?.as_str()? {
            "t" | "true" if to.eq_ignore_ascii_case("boolean") => Some(true),
            "f" | "false" if to.eq_ignore_ascii_case("boolean") => Some(false),
            _ => None,
        };
    }
    // The text 'false' means something else: `filename = 'false'` names a column.
    if expression.pointer("/literal/kind").and_then(Value::as_str) == Some("STRING") {
        return None;
    }
    match expression.pointer("/literal/text")?.as_str()?.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

pub(super) fn constant_paths(expression: &Value) -> Option<Vec<String>> {
    if let Some(path) = constant_text(expression) {
        return Some(vec![path]);
    }
    let function = expression.get("function_name")?.as_str()?;
    if function != "list_value" {
        return None;
    }
    expression
        .get("arguments")?
        .as_array()?
        .iter()
        .map(|argument| constant_text(argument.get("expression")?))
        .collect()
}

/// The parse tree of `['a', 'b']`.
pub(super) fn list_of(paths: &[String]) -> Value {
    let constant = |text: &String| {
        json!({"name": "", "expression": {
            "class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "",
            "literal": {"kind": "STRING", "text": text}
        }})
    };
    json!({
        "class": "FUNCTION", "type": "FUNCTION", "alias": "", "function_name": "list_value",
        "schema": "", "catalog": "", "filter": null,
        "order_bys": {"type": "ORDER_MODIFIER", "orders": []},
        "distinct": false, "is_operator": false, "export_state": false,
        "arguments": paths.iter().map(constant).collect::<Vec<_>>(),
        "qualified_name": {"path": ["list_value"]}
    })
}

/// `(SELECT * FROM function)` in the place of a table reference, under its name or `otherwise`.
///
/// A query of its own gives the columns of the files and no more. Of the reader itself one could
/// also ask for `filename`, by many ways of naming a column, and publish paths of this machine.
pub(super) fn rows_of(function: &Value, reference: &Value, otherwise: &str) -> Value {
    let kept = |key: &str, absent: Value| reference.get(key).cloned().unwrap_or(absent);
    let alias = match reference.get("alias").and_then(Value::as_str) {
        Some(alias) if !alias.is_empty() => alias,
        _ => otherwise,
    };
    json!({
        "type": "SUBQUERY", "alias": alias, "sample": kept("sample", Value::Null),
        "column_name_alias": kept("column_name_alias", json!([])),
        "subquery": {"named_param_map": [], "node": {
            "type": "SELECT_NODE", "modifiers": [], "cte_map": {"map": []},
            "select_list": [{"class": "STAR", "type": "STAR", "alias": ""}],
            "from_table": {
                "type": "TABLE_FUNCTION", "alias": "", "sample": null, "function": function,
                "column_name_alias": [], "with_ordinality": "WITHOUT_ORDINALITY"
            },
            "where_clause": null, "group_expressions": [], "group_sets": [], "having": null,
            "aggregate_handling": "STANDARD_HANDLING", "sample": null, "qualify": null
        }}
    })
}
