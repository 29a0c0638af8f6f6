//! Reading one file into one table.

use std::fs::File;
use std::io::{BufReader, Read, Seek};

use arrow::array::{Array, RecordBatchReader, StringArray};
use duckdb::Connection;

use super::inputs::{Format, Input};
use super::{FilesOptions, Mistakes};
use crate::extract::ExtractWriter;
use crate::sql::{self, Reader, Sql};
use crate::{ColumnName, Error, Key, Kind, Result, engine};

/// The longest line of a CSV file and the largest object of a JSON file, bytes. DuckDB's
/// buffers for CSV grow with it, so that it is asked for only when a line needs it.
const LINE_MAX: usize = 64 << 20;
/// The rows from which types are sniffed.
const SAMPLE_ROWS: i64 = 20_480;

/// Reads a file into the table that it becomes.
pub(super) fn read(
    input: &Input,
    options: &FilesOptions,
    connection: &Connection,
    writer: &mut ExtractWriter,
) -> Result<()> {
    let empty = input.fingerprint()?.size == 0;
    if empty {
        return Err(Error::new(
            Kind::Invalid,
            format!("`{}` is empty: there is nothing to read columns from", input.path.display()),
        ));
    }
    match input.format {
        Format::Csv | Format::Tsv => {
            read_text(input, options, connection, writer, &mut Csv::new(input, options)?)
        }
        Format::Json | Format::JsonLines => {
            read_text(input, options, connection, writer, &mut Json { input, whole: false })
        }
        Format::Parquet => writer.table_from_parquet(&input.table, &input.path).map_err(|e| {
            let message = e.message().replace("the file for", "the parquet file for");
            Error::new(e.kind(), format!("`{}`: {message}", input.path.display())).because(e)
        }),
        Format::Arrow => read_arrow(input, writer),
    }
}

/// A text format whose types are sniffed.
trait Sniffed {
    /// How the file is read, these columns as text.
    fn reader(&self, text_columns: &[ColumnName]) -> Result<Reader>;

    /// Columns that look like numbers and would lose something as such.
    fn codes(&mut self, _: &Connection) -> Result<Vec<ColumnName>> {
        Ok(Vec::new())
    }

    /// Whether whole numbers of 128 bits come out of it.
    fn has_wide_numbers(&self) -> bool {
        false
    }

    /// Makes room for what the last try showed to be larger than usual; `false` when there
    /// is no more.
    fn enlarge(&mut self, _: &str) -> bool {
        false
    }

    /// Reads the next try more leniently than the last; `false` when it can't.
    fn relax(&mut self, message: &str, text_columns: &mut Vec<ColumnName>) -> bool;
}

struct Csv<'a> {
    input: &'a Input,
    encoding: Option<String>,
    all_text: bool,
    long_lines: bool,
}

impl<'a> Csv<'a> {
    fn new(input: &'a Input, options: &FilesOptions) -> Result<Self> {
        let encoding = match &options.encoding {
            Some(encoding) => Some(encoding.clone()),
            None => byte_order_mark(input)?.map(String::from),
        };
        Ok(Csv { input, encoding, all_text: false, long_lines: false })
    }
}

impl Csv<'_> {
    /// The columns of numbers in whose sample a value is a code: postal codes, numbers of
    /// accounts, identifiers.
    fn codes_of_sample(
        &self,
        connection: &Connection,
    ) -> Result<std::result::Result<Vec<ColumnName>, duckdb::Error>> {
        let reader = self.reader(&[])?;
        let columns = match engine::columns(connection, &reader.select()) {
            Ok(columns) => columns,
            Err(error) => return Ok(Err(error)),
        };
        let numbers: Vec<usize> = columns
            .iter()
            .enumerate()
            .filter(|(_, (_, kind))| matches!(kind.as_str(), "BIGINT" | "HUGEINT" | "DOUBLE"))
            .map(|(at, _)| at)
            .collect();
        if numbers.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        // As text the first line may not be taken for a header, so that columns are told by
        // their place.
        let text = sql::first(&reader.with("all_varchar", true).select(), SAMPLE_ROWS);
        let read = || -> std::result::Result<Vec<usize>, duckdb::Error> {
            let mut statement = connection.prepare(text.as_str())?;
            let mut left = numbers;
            let mut codes = Vec::new();
            for batch in statement.query_arrow([])? {
                left.retain(|at| {
                    let values = batch.columns().get(*at);
                    let values = values.and_then(|v| v.as_any().downcast_ref::<StringArray>());
                    let found = values.is_some_and(|v| v.iter().flatten().any(is_code));
                    if found {
                        codes.push(*at);
                    }
                    !found
                });
            }
            Ok(codes)
        };
        let name = |at: usize| ColumnName::parse(columns.get(at)?.0.clone()).ok();
        Ok(read().map(|codes| codes.into_iter().filter_map(name).collect()))
    }
}

/// Whether digits are more than a number: leading zeros, or more of them than a number of
/// 64 bits keeps.
fn is_code(value: &str) -> bool {
    value.len() > 1
        && value.bytes().all(|b| b.is_ascii_digit())
        && (value.starts_with('0') || value.parse::<i64>().is_err())
}

/// The encoding that the first bytes of a file announce, where it is not UTF-8.
fn byte_order_mark(input: &Input) -> Result<Option<&'static str>> {
    let mut head = [0u8; 2];
    let mut file = File::open(&input.path).map_err(|e| Error::io("open", &input.path, e))?;
    let read = file.read(&mut head).map_err(|e| Error::io("read", &input.path, e))?;
    Ok((read == 2 && matches!(head, [0xff, 0xfe] | [0xfe, 0xff])).then_some("utf-16"))
}

impl Sniffed for Csv<'_> {
    fn reader(&self, text_columns: &[ColumnName]) -> Result<Reader> {
        let mut reader = Reader::new("read_csv", &self.input.path)?
            .with("sample_size", SAMPLE_ROWS)
            .with_text_columns("types", text_columns);
        if self.input.format == Format::Tsv {
            reader = reader.with_text("delim", "\t");
        }
        if let Some(encoding) = &self.encoding {
            reader = reader.with_text("encoding", encoding);
        }
        if self.long_lines {
            reader = reader.with("max_line_size", LINE_MAX).with("buffer_size", 2 * LINE_MAX);
        }
        if self.all_text {
            reader = reader.with("all_varchar", true);
        }
        Ok(reader)
    }

    fn codes(&mut self, connection: &Connection) -> Result<Vec<ColumnName>> {
        loop {
            match self.codes_of_sample(connection)? {
                Ok(codes) => return Ok(codes),
                Err(error) if self.enlarge(&engine::full_message(&error)) => {}
                // Reading the whole will say it, and where.
                Err(_) => return Ok(Vec::new()),
            }
        }
    }

    fn enlarge(&mut self, message: &str) -> bool {
        let enlarged = message.contains("Maximum line size") && !self.long_lines;
        self.long_lines |= enlarged;
        enlarged
    }

    fn relax(&mut self, message: &str, text_columns: &mut Vec<ColumnName>) -> bool {
        let column = between(message, "Error when converting column \"", "\".")
            .and_then(|name| ColumnName::parse(name).ok())
            .filter(|name| !text_columns.contains(name));
        match column {
            Some(column) => text_columns.push(column),
            None if !self.all_text && message.contains("Error when converting column") => {
                text_columns.clear();
                self.all_text = true;
            }
            None => return false,
        }
        true
    }
}

struct Json<'a> {
    input: &'a Input,
    /// Look at every row before deciding on types.
    whole: bool,
}

impl Sniffed for Json<'_> {
    fn has_wide_numbers(&self) -> bool {
        true
    }

    fn reader(&self, _: &[ColumnName]) -> Result<Reader> {
        let lines = self.input.format == Format::JsonLines;
        let sample = if self.whole { -1 } else { SAMPLE_ROWS };
        Ok(Reader::new("read_json", &self.input.path)?
            .with("sample_size", sample)
            .with("maximum_object_size", LINE_MAX)
            .with_text("format", if lines { "newline_delimited" } else { "auto" }))
    }

    fn relax(&mut self, message: &str, _: &mut Vec<ColumnName>) -> bool {
        let mistake = message.contains("JSON transform error") || message.contains("transform");
        let relaxed = mistake && !self.whole;
        self.whole |= relaxed;
        relaxed
    }
}

fn read_text(
    input: &Input,
    options: &FilesOptions,
    connection: &Connection,
    writer: &mut ExtractWriter,
    format: &mut dyn Sniffed,
) -> Result<()> {
    let mut text_columns = format.codes(connection)?;
    // How whole numbers beyond 64 bits are kept, from the narrowest to the widest.
    let mut wide = ["BIGINT", "DECIMAL(38, 0)", "VARCHAR"].into_iter().peekable();
    loop {
        let reader = format.reader(&text_columns)?;
        // Looking at the columns reads the sample once more; only JSON has wide numbers.
        let columns = if format.has_wide_numbers() {
            engine::columns(connection, &reader.select())
                .map_err(|e| failure(input, options, &engine::full_message(&e)))?
        } else {
            Vec::new()
        };
        let query = narrowed(&reader, &columns, wide.peek().copied().unwrap_or("VARCHAR"))?;
        let Err((error, message)) = writer.table_from_query(&input.table, connection, &query)
        else {
            return Ok(());
        };
        if message.is_empty() {
            return Err(error);
        }
        let has_wide = columns.iter().any(|(_, kind)| is_wide(kind));
        if has_wide && message.contains("out of range") || message.contains("Could not cast value")
        {
            wide.next();
            if wide.peek().is_some() {
                continue;
            }
        }
        if format.enlarge(&message) {
            continue;
        }
        let lenient = options.mistakes == Mistakes::Text;
        if lenient && format.relax(&message, &mut text_columns) {
            continue;
        }
        if error.kind() == Kind::Unavailable || error.kind() == Kind::Limit {
            return Err(error);
        }
        return Err(failure(input, options, &message));
    }
}

fn is_wide(kind: &str) -> bool {
    matches!(kind, "HUGEINT" | "UHUGEINT")
}

/// Parquet has no whole numbers of 128 bits: DuckDB would write them as floating point.
fn narrowed(reader: &Reader, columns: &[(String, String)], wide: &'static str) -> Result<Sql> {
    let casts = columns
        .iter()
        .filter(|(_, kind)| is_wide(kind))
        .map(|(name, _)| Ok((ColumnName::parse(name.clone())?, wide)))
        .collect::<Result<Vec<_>>>()?;
    Ok(reader.select_casting(&casts))
}

/// The text between two marks.
fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found)
}

/// The number right after a mark.
fn number_after(text: &str, mark: &str) -> Option<u64> {
    let (_, rest) = text.split_once(mark)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// What the engine's message means to somebody who looks at the file.
fn failure(input: &Input, options: &FilesOptions, message: &str) -> Error {
    let file = input.path.display();
    let line = ["CSV Error on Line: ", " in line ", "in record/value "]
        .iter()
        .find_map(|mark| number_after(message, mark));
    let place = match line {
        Some(line) => format!("`{file}`, line {line}"),
        None => format!("`{file}`"),
    };
    let column = between(message, "Error when converting column \"", "\".");
    let first = message.lines().next().unwrap_or("").trim();
    // The file and the line are named before; the kind of the engine's error says nothing.
    let first = first.split_once("Error: ").map_or(first, |(_, rest)| rest);
    let first = match first.split_once(" in line ").and_then(|(_, rest)| rest.split_once(": ")) {
        Some((_, rest)) => rest,
        None => first,
    };
    let text = if message.contains("not valid UTF-8") || message.contains("Invalid unicode") {
        format!(
            "{place}: it is no UTF-8 text; say how it is encoded, as in `--encoding latin-1`, or \
             save it as UTF-8"
        )
    } else if let Some(column) = column {
        let value = between(message, "Could not convert string \"", "\" to");
        let kind = between(message, "\" to '", "'").or_else(|| between(message, "\" to \"", "\""));
        let what = match (value, kind) {
            (Some(value), Some(kind)) => {
                format!("`{}` is no {kind}", crate::name::shown(value))
            }
            _ => "a value is of another type".to_string(),
        };
        format!(
            "{place}: {what}, which the column `{}` held before; mend the line, or read such \
             columns as text with `--mistakes text`",
            crate::name::shown(column)
        )
    } else if message.contains("transform") && options.mistakes == Mistakes::Fail {
        format!("{place}: {first}; mend it, or read such columns as text with `--mistakes text`")
    } else {
        format!("{place}: {first}")
    };
    let mut error = Error::new(Kind::Invalid, text).with(Key::Path, file);
    if let Some(column) = column {
        error = error.with(Key::Column, column);
    }
    error
}

/// Reads an Arrow IPC file, or a stream that was saved as one.
fn read_arrow(input: &Input, writer: &mut ExtractWriter) -> Result<()> {
    let broken = |e: arrow::error::ArrowError| {
        Error::new(Kind::Invalid, format!("`{}` is no sound Arrow file: {e}", input.path.display()))
    };
    let mut file = File::open(&input.path).map_err(|e| Error::io("open", &input.path, e))?;
    let mut magic = [0u8; 6];
    let read = file.read(&mut magic).map_err(|e| Error::io("read", &input.path, e))?;
    file.rewind().map_err(|e| Error::io("read", &input.path, e))?;
    let file = BufReader::new(file);
    let is_file = read == 6 && &magic == b"ARROW1";
    let open = move || -> Result<Box<dyn RecordBatchReader>, arrow::error::ArrowError> {
        if is_file {
            Ok(Box::new(arrow::ipc::reader::FileReader::try_new(file, None)?))
        } else {
            Ok(Box::new(arrow::ipc::reader::StreamReader::try_new(file, None)?))
        }
    };
    // The bytes are anybody's, and the reader asserts here and there.
    let guarded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let batches = open().map_err(broken)?;
        let mut table = writer.table(&input.table, batches.schema())?;
        for batch in batches {
            table.write(&batch.map_err(broken)?)?;
        }
        table.finish()
    }));
    guarded.unwrap_or_else(|_| {
        Err(Error::new(Kind::Invalid, format!("`{}` is no sound Arrow file", input.path.display())))
    })
}
