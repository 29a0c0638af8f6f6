//! From files to one tree: YAML, the overlay, variables.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use super::{Files, Level, Problem};

/// The name of the file, and of the overlay.
pub const INSTANCE: &str = "instance.yaml";
/// The file with variables that stand in for those that the environment doesn't set.
pub const ENV_OVERLAY: &str = ".env_overlay";

/// File and overlay together.
pub(super) fn merged(files: &Files, problems: &mut Vec<Problem>) -> Value {
    let mut value = match parsed(&files.instance) {
        Ok(value) => value,
        Err(message) => {
            problems.push(Problem { level: Level::Error, path: String::new(), message });
            Value::Object(Map::new())
        }
    };
    match parsed(&files.state_dir.join(INSTANCE)) {
        Ok(overlay) => merge(&mut value, overlay),
        Err(fault) => {
            let message = format!("{fault}; it is ignored, and with it what it made stricter");
            problems.push(Problem { level: Level::Warning, path: String::new(), message });
        }
    }
    value
}

/// The mapping in a file; an empty one where there is no file.
pub(super) fn parsed(path: &Path) -> Result<Value, String> {
    let shown = path.display();
    let text = match crate::yaml::text(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Value::Object(Map::new())),
        Err(e) => return Err(format!("`{shown}` can't be read: {e}")),
        Ok(text) => text,
    };
    let value = crate::yaml::parse(&text).map_err(|fault| format!("`{shown}` {fault}"))?;
    match value {
        Value::Null => Ok(Value::Object(Map::new())),
        Value::Object(_) => Ok(value),
        _ => Err(format!("`{shown}` is no mapping of keys to values")),
    }
}

/// Puts one tree over another: mappings key by key, everything else as a whole.
pub(super) fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                match under.get_mut(&key) {
                    Some(there) => merge(there, value),
                    None => drop(under.insert(key, value)),
                }
            }
        }
        (under, over) => *under = over,
    }
}

/// The same tree with the value of a variable wherever a text says `${NAME}`. What comes of it is
/// always a text, and isn't looked at again.
pub(super) fn with_variables(
    value: &Value,
    variables: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<Problem>,
) -> Value {
    Filling { variables, problems }.filled(value, "")
}

struct Filling<'a> {
    variables: &'a dyn Fn(&str) -> Option<String>,
    problems: &'a mut Vec<Problem>,
}

impl Filling<'_> {
    fn filled(&mut self, value: &Value, path: &str) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text, path)),
            Value::Array(items) => {
                let item = |(at, item)| self.filled(item, &format!("{path}[{at}]"));
                Value::Array(items.iter().enumerate().map(item).collect())
            }
            Value::Object(map) => {
                let entry = |(key, value): (&String, &Value)| {
                    let dot = if path.is_empty() { "" } else { "." };
                    (key.clone(), self.filled(value, &format!("{path}{dot}{key}")))
                };
                Value::Object(map.iter().map(entry).collect())
            }
            other => other.clone(),
        }
    }

    fn text(&mut self, text: &str, path: &str) -> String {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            match after.split_once('}') {
                Some((name, after)) if !name.is_empty() => {
                    match (self.variables)(name) {
                        Some(value) => out.push_str(&value),
                        None => self.problems.push(Problem {
                            level: Level::Warning,
                            path: path.to_string(),
                            message: format!(
                                "the variable `{}` of `{path}` is unset, so that it is empty",
                                crate::name::shown(name)
                            ),
                        }),
                    }
                    rest = after;
                }
                _ => {
                    out.push_str("${");
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        out
    }
}

/// The variables of an `.env_overlay`: lines `NAME=value`. Blank lines and those that begin with
/// `#` say nothing.
pub fn env_overlay(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
        let value = value.trim();
        let quoted = ['"', '\'']
            .into_iter()
            .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
        Some((name.trim().to_string(), quoted.unwrap_or(value).to_string()))
    };
    text.lines().filter_map(line).filter(|(name, _)| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mappings_are_merged_and_everything_else_is_replaced() {
        let mut value = json!({"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}, "f": 1});
        merge(&mut value, json!({"a": {"c": [3]}, "d": null, "f": {"g": 2}, "h": 4}));
        assert_eq!(value, json!({"a": {"b": 1, "c": [3]}, "d": null, "f": {"g": 2}, "h": 4}));
    }

    #[test]
    fn variables_are_filled_in_everywhere_and_once() {
        let variables = |name: &str| match name {
            "A" => Some("a".to_string()),
            "TWICE" => Some("${A}".to_string()),
            "EMPTY" => Some(String::new()),
            "a b" => Some("odd".to_string()),
            _ => None,
        };
        let mut problems = Vec::new();
        let value = json!({
            "${A}": "key", "x": ["${A}", {"y": "1${A}2${A}"}], "twice": "${TWICE}", "n": 5,
            "odd": "${a b}", "plain": "$A ${} ${A $ } {A}", "empty": "[${EMPTY}]", "unset": "<${NO}>",
            "deep": [[{"k": "${NO}"}]],
        });
        assert_eq!(
            with_variables(&value, &variables, &mut problems),
            json!({
                "${A}": "key", "x": ["a", {"y": "1a2a"}], "twice": "${A}", "n": 5,
                "odd": "odd", "plain": "$A ${}  {A}", "empty": "[]", "unset": "<>", "deep": [[{"k": ""}]],
            })
        );
        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["deep[0][0].k", "plain", "unset"]);
        assert!(problems[2].message.contains("`NO` of `unset`"), "{:?}", problems[2]);
    }

    #[test]
    fn an_overlay_of_the_environment() {
        let text = "# a comment\nA=1\n B = two words \nexport C=\"quo=ted\"\n\nD='x'\nE=\n=none\nF\n#G=1\nA=2\n";
        let variables: Vec<(String, String)> = env_overlay(text).into_iter().collect();
        let expected = [("A", "2"), ("B", "two words"), ("C", "quo=ted"), ("D", "x"), ("E", "")];
        let expected: Vec<(String, String)> =
            expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(variables, expected);
    }
}
