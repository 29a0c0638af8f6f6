//! What is wrong with a file, for somebody who looks at the file.

use super::inputs::Input;
use super::{FilesOptions, Mistakes};
use crate::name::shown;
use crate::{ColumnName, Error, Key, Kind};

/// A value that isn't what the rows before it showed: its line, and the value with the type
/// that it isn't, where they are known.
pub(super) fn mistake(
    input: &Input,
    line: Option<i64>,
    value: Option<(&str, &str)>,
    column: &ColumnName,
) -> Error {
    misfit(input, line, value, column.as_str()).with(Key::Column, column)
}

fn misfit(input: &Input, line: Option<i64>, value: Option<(&str, &str)>, column: &str) -> Error {
    let what = match value {
        Some((value, kind)) => format!("`{}` is no {kind}", shown(value)),
        None => "a value is of another type".to_string(),
    };
    at(
        input,
        line,
        &format!(
            "{what}, which the column `{}` held before; mend the line, or read such columns as \
             text with `--mistakes text`",
            shown(column)
        ),
    )
}

fn uneven(input: &Input, line: Option<i64>, has: &str, columns: usize) -> Error {
    at(
        input,
        line,
        &format!(
            "it has {has} values than the {columns} columns of the rows before it; mend the \
             line, say what separates values with `--delimiter`, or have shorter rows filled up \
             with `--mistakes text`"
        ),
    )
}

/// Lines that would be passed over and look like rows.
pub(super) fn skipped_rows(input: &Input, skipped: i64) -> Error {
    at(
        input,
        Some(skipped + 1),
        "the lines before it look like rows, with another number of values; mend whichever is \
         wrong, or take out the lines before it if they are a title",
    )
}

/// What is wrong at a line of a file, or with all of it.
pub(super) fn at(input: &Input, line: Option<i64>, what: &str) -> Error {
    let file = input.path.display();
    let text = match line {
        Some(line) => format!("`{file}`, line {line}: {what}"),
        None => format!("`{file}`: {what}"),
    };
    Error::new(Kind::Invalid, text).with(Key::Path, file)
}

/// What the engine's message means.
pub(super) fn failure(input: &Input, options: &FilesOptions, message: &str) -> Error {
    let line = ["CSV Error on Line: ", " in line ", "in record/value "]
        .iter()
        .find_map(|mark| number_after(message, mark));
    let lenient = options.mistakes == Mistakes::Text;
    if message.contains("not valid UTF-8") || message.contains("Invalid unicode") {
        let cure = "it is no UTF-8 text; say how it is encoded, as in `--encoding latin-1`, or \
                    save it as UTF-8";
        return at(input, line, cure);
    }
    if let Some(column) = between(message, "Error when converting column \"", "\".") {
        let value = between(message, "Could not convert string \"", "\" to");
        let kind = between(message, "\" to '", "'").or_else(|| between(message, "\" to \"", "\""));
        let error = misfit(input, line, value.zip(kind), column);
        return error.with(Key::Column, column);
    }
    let expected = number_after(message, "Expected Number of Columns: ");
    if let (Some(expected), Some(found)) = (expected, number_after(message, " Found: ")) {
        let has = if found > expected { "more" } else { "fewer" };
        return uneven(input, line, has, usize::try_from(expected).unwrap_or(0));
    }
    if message.contains("unterminated quote") {
        return at(input, line, "a quote is opened and not closed; double it, or close it");
    }
    if message.contains("reached an invalid state") {
        let cure = "a line ends in another way than the others (a lone carriage return?); end all \
                    lines alike, or put the value in quotes";
        return at(input, line, cure);
    }
    if message.contains("Error when sniffing file") {
        let cure = "its rows can't be told apart; say what separates values with `--delimiter`, \
                    or how the file is encoded with `--encoding`";
        return at(input, None, cure);
    }
    let first = message.lines().next().unwrap_or("").trim();
    // The file and the line are named before; the kind of the engine's error says nothing.
    let first = first.split_once("Error: ").map_or(first, |(_, rest)| rest);
    let first = match first.split_once(" in line ").and_then(|(_, rest)| rest.split_once(": ")) {
        Some((_, rest)) => rest,
        None => first,
    };
    if message.contains("transform") && !lenient {
        let cure = "mend it, or read such columns as text with `--mistakes text`";
        return at(input, line, &format!("{first}; {cure}"));
    }
    at(input, line, first)
}

/// The text between two marks.
pub(super) fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found)
}

/// The number right after a mark.
fn number_after(text: &str, mark: &str) -> Option<i64> {
    let (_, rest) = text.split_once(mark)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}
