//! Arguments whose cost the guard bounds before a statement runs.

use serde_json::Value;

use super::functions::{self, Check, Verdict};
use super::types;
use crate::{Error, Kind, Result};

/// The longest path into JSON, and the deepest structure that JSON is turned into.
const PATH_MAX: usize = 200;
const STRUCTURE_MAX: usize = 10_000;
const STRUCTURE_DEPTH_MAX: usize = 50;
/// The longest text that `format` and `printf` fill in, and the widest field in it.
const FORMAT_MAX: usize = 1000;
const WIDTH_MAX: u64 = 9999;

/// The arguments of a call. One that is written as a method, `x.f(y)`, has its first before
/// the name.
pub(super) struct Call<'v> {
    pub(super) name: &'v str,
    pub(super) arguments: Vec<&'v Value>,
    pub(super) is_method: bool,
}

impl<'v> Call<'v> {
    /// An argument by its place; none where there isn't one.
    fn at(&self, at: usize) -> Option<&'v Value> {
        self.arguments.get(at.checked_sub(usize::from(self.is_method))?).copied()
    }

    /// An argument that has to be written out is none that stands before the name.
    fn is_before(&self, at: usize) -> bool {
        self.is_method && at == 0
    }

    fn refused(&self, why: impl std::fmt::Display) -> Error {
        let name = crate::name::shown(self.name);
        Error::new(Kind::Denied, format!("the function `{name}` is not allowed so: {why}"))
    }

    /// A text that is written out.
    fn text(&self, at: usize, what: &str, most: usize) -> Result<Option<&'v str>> {
        if self.is_before(at) {
            return Err(self.refused(format_args!("{what} has to be written out")));
        }
        let Some(argument) = self.at(at) else { return Ok(None) };
        match literal(argument) {
            Some(("STRING", text)) if text.len() <= most => Ok(Some(text)),
            Some(("STRING", _)) => {
                Err(self.refused(format_args!("{what} has at most {most} bytes")))
            }
            Some(("NULL_LITERAL", _)) => Ok(None),
            _ => {
                Err(self
                    .refused(format_args!("{what} has to be written out or bound as a parameter")))
            }
        }
    }

    fn number(&self, at: usize, most: i64) -> Result<()> {
        let Some(argument) = self.at(at) else { return Ok(()) };
        match literal(argument) {
            Some(("INTEGER", text)) if text.parse::<i64>().is_ok_and(|n| n <= most) => Ok(()),
            Some(("NULL_LITERAL", _)) => Ok(()),
            _ => Err(self.refused(format_args!(
                "its number has to be written out or bound, and be at most {most}"
            ))),
        }
    }

    fn numbers(&self, at: usize, most: usize) -> Result<()> {
        let Some(argument) = self.at(at) else { return Ok(()) };
        let wrong = || {
            self.refused(format_args!(
                "what it looks for has to be written out: a number, or at most {most} in a list"
            ))
        };
        match values(argument) {
            Some(values) if values.len() <= most => {
                match values.iter().all(|value| literal(value).is_some()) {
                    true => Ok(()),
                    false => Err(wrong()),
                }
            }
            Some(_) => Err(wrong()),
            None => literal(argument).map(drop).ok_or_else(wrong),
        }
    }

    fn path(&self, at: usize) -> Result<()> {
        let Some(argument) = self.at(at) else { return Ok(()) };
        let paths = values(argument).unwrap_or_else(|| vec![argument]);
        paths.into_iter().try_for_each(|path| json_path(path).map_err(|why| self.refused(why)))
    }

    fn structure(&self, at: usize) -> Result<()> {
        let Some(text) = self.text(at, "the structure", STRUCTURE_MAX)? else { return Ok(()) };
        let structure: Value = serde_json::from_str(text)
            .map_err(|_| self.refused("the structure is no JSON, or nested too deeply"))?;
        structure_fault(&structure, 0).map_or(Ok(()), |fault| Err(self.refused(fault)))
    }

    fn format(&self) -> Result<()> {
        let text = self.text(0, "what it fills in", FORMAT_MAX)?;
        match text.and_then(format_fault) {
            None => Ok(()),
            Some(fault) => Err(self.refused(fault)),
        }
    }

    fn aggregate(&self, at: usize) -> Result<()> {
        let Some(name) = self.text(at, "the name of the aggregate", 64)? else { return Ok(()) };
        match functions::may_aggregate(&name.to_ascii_lowercase()) {
            true => Ok(()),
            false => Err(self.refused(format_args!(
                "`{}` is no aggregate that it may call",
                crate::name::shown(name)
            ))),
        }
    }

    /// `x || x` over forty items is a text of a terabyte.
    fn reduce(&self) -> Result<()> {
        let lambda = self.arguments.iter().find(|argument| class(argument) == "LAMBDA");
        let Some(lambda) = lambda else { return Ok(()) };
        let first = lambda
            .pointer("/lhs/arguments/0/expression/column_names/0")
            .or_else(|| lambda.pointer("/lhs/column_names/0"))
            .and_then(Value::as_str);
        let body = lambda.get("expr");
        match first.zip(body) {
            Some((name, body)) if grows(body, name) => Err(self
                .refused("what it has put together so far may stand only once in what comes next")),
            _ => Ok(()),
        }
    }
}

/// What is wrong with how JSON is to become a nested type. The engine looks the names in it up
/// as it does those of a cast, so that they are on the same list.
fn structure_fault(structure: &Value, depth: usize) -> Option<String> {
    let too_deep = || Some(format!("the structure is more than {STRUCTURE_DEPTH_MAX} levels deep"));
    if depth > STRUCTURE_DEPTH_MAX {
        return too_deep();
    }
    let mut name = match structure {
        Value::Object(fields) => {
            return fields.values().find_map(|field| structure_fault(field, depth + 1));
        }
        Value::Array(items) => {
            return items.iter().find_map(|item| structure_fault(item, depth + 1));
        }
        Value::String(name) => name.trim(),
        _ => return Some("the structure names types as texts".to_string()),
    };
    let digits = |text: &str| text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut depth = depth;
    while let Some((item, size)) = name.strip_suffix(']').and_then(|name| name.rsplit_once('[')) {
        depth += 1;
        if !digits(size) {
            return Some("an array in the structure has at most 9,999 values".to_string());
        }
        name = item.trim_end();
    }
    if depth > STRUCTURE_DEPTH_MAX {
        return too_deep();
    }
    let shown = crate::name::shown(name).into_owned();
    let (name, width) = match name.strip_suffix(')').and_then(|name| name.split_once('(')) {
        Some((name, width)) => (name.trim_end(), width),
        None => (name, ""),
    };
    let is_nested = NESTED.iter().any(|nested| name.eq_ignore_ascii_case(nested));
    let is_plain = width.split(',').all(|part| digits(part.trim()));
    match types::cast(&name.to_ascii_lowercase()) {
        Verdict::Allowed(_) if is_plain && !is_nested => None,
        _ => Some(format!("the structure names the type `{shown}`, which is not allowed there")),
    }
}

/// Types of types, which a structure writes as JSON.
const NESTED: &[&str] = &["array", "enum", "list", "map", "row", "struct", "union"];

fn class(value: &Value) -> &str {
    value.get("class").and_then(Value::as_str).unwrap_or("")
}

/// The kind and text of a value that is written out.
fn literal(value: &Value) -> Option<(&str, &str)> {
    // `INTERVAL '1 month'` and `'x'::VARCHAR` are casts of one.
    if class(value) == "CAST" {
        return value.get("child").and_then(literal);
    }
    if class(value) != "CONSTANT" {
        return None;
    }
    let literal = value.get("literal")?;
    Some((literal.get("kind")?.as_str()?, literal.get("text")?.as_str()?))
}

/// The values of a list that is written out.
fn values(value: &Value) -> Option<Vec<&Value>> {
    let is_list = match class(value) {
        "OPERATOR" => value.get("type").and_then(Value::as_str) == Some("ARRAY_CONSTRUCTOR"),
        "FUNCTION" => {
            let name = value.get("function_name").and_then(Value::as_str).unwrap_or("");
            name.eq_ignore_ascii_case("list_value")
        }
        _ => false,
    };
    let children = value.get("children").or_else(|| value.get("arguments"))?.as_array()?;
    is_list.then(|| children.iter().map(|c| c.get("expression").unwrap_or(c)).collect())
}

/// What is wrong with a path into JSON.
pub(super) fn json_path(path: &Value) -> Result<(), &'static str> {
    match literal(path) {
        Some(("INTEGER" | "NULL_LITERAL", _)) => Ok(()),
        Some(("STRING", text)) if text.len() > PATH_MAX => {
            Err("a path into JSON has at most 200 bytes")
        }
        // Each looks at all that is below what the one before has found.
        Some(("STRING", text)) if text.matches("..").count() > 1 => {
            Err("a path into JSON has at most one `..`")
        }
        Some(("STRING", _)) => Ok(()),
        _ => Err("a path into JSON has to be written out or bound as a parameter"),
    }
}

/// What would make a field very wide, or its width unknown: `{:>20000}`, `{:{}}`, `%20000d`, `%*d`.
fn format_fault(text: &str) -> Option<&'static str> {
    let digits = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let mut widths = digits.map(|digits| digits.parse::<u64>().unwrap_or(u64::MAX));
    if widths.any(|width| width > WIDTH_MAX) {
        return Some("a field is at most 9,999 wide");
    }
    let unknown = "the width of a field has to be written out";
    let mut characters = text.chars().peekable();
    let mut inside = false;
    while let Some(c) = characters.next() {
        match c {
            '{' if inside => return Some(unknown),
            // Two stand for one.
            '{' => inside = characters.next_if_eq(&'{').is_none(),
            '}' => inside = false,
            '%' => {
                while characters.next_if(|c| "-+ #.0123456789".contains(*c)).is_some() {}
                if characters.peek() == Some(&'*') {
                    return Some(unknown);
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether a name stands more than once in something that puts texts or lists together.
fn grows(value: &Value, name: &str) -> bool {
    const TOGETHER: &[&str] = &[
        "||",
        "array_cat",
        "array_concat",
        "concat",
        "concat_ws",
        "format",
        "list_cat",
        "list_concat",
        "list_resize",
        "array_resize",
        "list_value",
        "printf",
        "repeat",
        "replace",
    ];
    let together = matches!(class(value), "FUNCTION")
        && value
            .get("function_name")
            .and_then(Value::as_str)
            .is_some_and(|f| TOGETHER.contains(&f.to_ascii_lowercase().as_str()));
    let is_list = value.get("type").and_then(Value::as_str) == Some("ARRAY_CONSTRUCTOR");
    if (together || is_list) && count(value, name) > 1 {
        return true;
    }
    // Another lambda may have it under another name.
    let arguments = value.get("arguments").and_then(Value::as_array);
    let of_lambda =
        |argument: &Value| class(argument.get("expression").unwrap_or(argument)) == "LAMBDA";
    if arguments.is_some_and(|a| a.iter().any(of_lambda)) && count(value, name) > 0 {
        return true;
    }
    children(value).any(|child| grows(child, name))
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// How often a column of this name is named.
fn count(value: &Value, name: &str) -> usize {
    let here = value.get("column_names").and_then(Value::as_array).and_then(|n| n.first());
    let here = here.and_then(Value::as_str).is_some_and(|n| n.eq_ignore_ascii_case(name));
    usize::from(here) + children(value).map(|child| count(child, name)).sum::<usize>()
}

/// Checks the arguments of a call.
pub(super) fn check(call: &Call<'_>, checks: &[Check]) -> Result<()> {
    checks.iter().try_for_each(|check| match *check {
        Check::Text { at, most } => call.text(at, "its text", most).map(drop),
        Check::AnyText { most } => {
            let texts = call.arguments.iter().filter_map(|argument| literal(argument));
            let mut texts = texts.filter(|(kind, _)| *kind == "STRING");
            match texts.next() {
                Some((_, text)) if text.len() <= most => Ok(()),
                _ => Err(call.refused(format_args!(
                    "its text has to be written out, with at most {most} bytes"
                ))),
            }
        }
        Check::JsonPath { at } => call.path(at),
        Check::Structure { at } => call.structure(at),
        Check::Format => call.format(),
        Check::Number { at, most } => call.number(at, most),
        Check::Numbers { at, most } => call.numbers(at, most),
        Check::Aggregate { at } => call.aggregate(at),
        Check::Reduce => call.reduce(),
    })
}

#[cfg(test)]
mod tests {
    use super::format_fault;

    #[test]
    fn widths_are_written_out_and_small() {
        for text in [
            "{}",
            "{0} and {1}",
            "{:>10}",
            "{{}}",
            "{{{}}}",
            "{:.2f} %",
            "%d",
            "%-10s%%",
            "5 * %d",
            "100%",
        ] {
            assert_eq!(format_fault(text), None, "{text}");
        }
        for text in [
            "{:>20000}",
            "{:{}}",
            "{:>{}}",
            "{0:{1}}",
            "%*d",
            "%-*d",
            "%.*f",
            "%99999999999999999999d",
            "{:.20000f}",
        ] {
            assert!(format_fault(text).is_some(), "{text}");
        }
    }
}
