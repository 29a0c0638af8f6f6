//! Reading one file into one table.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

use arrow::array::{Array, RecordBatchReader, StringArray};
use duckdb::Connection;

use super::inputs::{Format, Input};
use super::{FilesOptions, Mistakes};
use crate::extract::ExtractWriter;
use crate::sql::{self, Cast, ColumnType, Reader, Sql, Written};
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
    check_packed(input)?;
    match input.format {
        Format::Csv | Format::Tsv => {
            read_text(input, options, connection, writer, &mut Csv::new(input, options)?)
        }
        Format::Json | Format::JsonLines => read_text(
            input,
            options,
            connection,
            writer,
            &mut Json { input, whole: false, wide: 0 },
        ),
        Format::Parquet => writer.table_from_parquet(&input.table, &input.path).map_err(|e| {
            let message = e.message().replace("the file for", "the parquet file for");
            Error::new(e.kind(), format!("`{}`: {message}", input.path.display())).because(e)
        }),
        Format::Arrow => read_arrow(input, writer),
    }
}

/// Unpacks a packed file once for nothing: DuckDB takes one that is cut off for the whole, and
/// doesn't compare checksums.
fn check_packed(input: &Input) -> Result<()> {
    let ending = input.path.extension().map(|e| e.to_ascii_lowercase());
    let open = || File::open(&input.path).map(BufReader::new);
    let unpacked = match ending.as_ref().and_then(|e| e.to_str()) {
        Some("gz") => open().and_then(|file| {
            io::copy(&mut flate2::bufread::MultiGzDecoder::new(file), &mut io::sink())
        }),
        Some("zst") => open()
            .and_then(zstd::stream::read::Decoder::with_buffer)
            .and_then(|mut unpacked| io::copy(&mut unpacked, &mut io::sink())),
        _ => return Ok(()),
    };
    unpacked.map(drop).map_err(|e| {
        let file = input.path.display();
        Error::new(Kind::Invalid, format!("`{file}` is damaged or cut off ({e}); get it again"))
            .with(Key::Path, file)
            .because(e)
    })
}

/// How much of a CSV file is read at once for the sample, bytes: twice DuckDB's longest line
/// instead of sixteen times.
const SAMPLE_BUFFER: usize = 4 << 20;

/// A text format whose types are sniffed.
trait Sniffed {
    /// Looks at the file before it is read; gives back the columns that are read as text.
    ///
    /// # Errors
    /// `Invalid` for a mistake that reading would pass over in silence.
    fn look(&mut self, connection: &Connection, options: &FilesOptions) -> Result<Vec<ColumnName>>;

    /// The query that reads the file.
    fn query(&self, connection: &Connection, text_columns: &[ColumnName]) -> Result<Sql>;

    /// What to read otherwise after a value was found that doesn't fit, though DuckDB would
    /// bend it; `false` when there is nothing.
    ///
    /// # Errors
    /// `Invalid` naming the value, where mistakes are errors.
    fn find_bent(
        &mut self,
        _: &Connection,
        _: &FilesOptions,
        _: &mut Vec<ColumnName>,
    ) -> Result<bool> {
        Ok(false)
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
    /// Lines end in more than one way.
    loose: bool,
    /// Columns whose sampled values are all written in the one usual way: a value further down
    /// that isn't is a mistake, though DuckDB would round `1.5` or take the date of a time.
    strict: Vec<(ColumnName, Written)>,
}

impl<'a> Csv<'a> {
    fn new(input: &'a Input, options: &FilesOptions) -> Result<Self> {
        let encoding = match &options.encoding {
            Some(encoding) => Some(encoding.clone()),
            None => byte_order_mark(input)?.map(String::from),
        };
        Ok(Csv {
            input,
            encoding,
            all_text: false,
            long_lines: false,
            loose: false,
            strict: Vec::new(),
        })
    }
}

impl Csv<'_> {
    /// How the file is read, these columns as text.
    fn reader(&self, text_columns: &[ColumnName]) -> Result<Reader> {
        self.reader_that_sniffs(SAMPLE_ROWS, text_columns)
    }

    fn reader_that_sniffs(&self, rows: i64, text_columns: &[ColumnName]) -> Result<Reader> {
        let mut reader = Reader::new("read_csv", &self.input.path)?
            .with("sample_size", rows)
            // A row that begins with `#` is a row.
            .with_text("comment", "")
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
        if self.loose {
            reader = reader.with("strict_mode", false);
        }
        if self.all_text {
            reader = reader.with("all_varchar", true);
        }
        Ok(reader)
    }

    fn strict_but(&self, text_columns: &[ColumnName]) -> Vec<(ColumnName, Written)> {
        let all = self.strict.iter().filter(|(column, _)| !text_columns.contains(column));
        all.filter(|_| !self.all_text).cloned().collect()
    }

    /// Finds the columns of numbers in whose sample a value is a code (postal codes, numbers of
    /// accounts, identifiers), and those whose values are all written in the usual way.
    fn look_at_sample(
        &mut self,
        connection: &Connection,
    ) -> Result<std::result::Result<Vec<ColumnName>, duckdb::Error>> {
        // What is decided here holds for every value of the sample, so that a tenth of it tells
        // the types.
        let reader = self.reader_that_sniffs(SAMPLE_ROWS / 10, &[])?;
        let columns = match engine::columns(connection, &reader.select()) {
            Ok(columns) => columns,
            Err(error) => return Ok(Err(error)),
        };
        let mut looks: Vec<Look> = columns
            .iter()
            .enumerate()
            .filter_map(|(at, (_, kind))| {
                let usual = match kind.as_str() {
                    "BIGINT" => Some(Written::Integer),
                    "DATE" => Some(Written::Date),
                    "HUGEINT" | "DOUBLE" => None,
                    _ => return None,
                };
                Some(Look { at, usual, code: false })
            })
            .collect();
        if looks.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        // As text the first line may not be taken for a header, so that columns are told by
        // their place, and the first value may be a name.
        let mut reader = reader.with("all_varchar", true);
        if !self.long_lines {
            reader = reader.with("buffer_size", SAMPLE_BUFFER);
        }
        let text = sql::first(&reader.select(), SAMPLE_ROWS);
        let mut read = || -> std::result::Result<(), duckdb::Error> {
            let mut statement = connection.prepare(text.as_str())?;
            for (batch, rows) in statement.query_arrow([])?.enumerate() {
                if rows.num_columns() != columns.len() {
                    // Read otherwise than before: nothing is known of any column.
                    looks.clear();
                    return Ok(());
                }
                for look in &mut looks {
                    let values = rows.columns().get(look.at);
                    let values = values.and_then(|v| v.as_any().downcast_ref::<StringArray>());
                    for (row, value) in values.into_iter().flatten().enumerate() {
                        if let Some(value) = value {
                            look.see(value, batch == 0 && row == 0);
                        }
                    }
                }
            }
            Ok(())
        };
        if let Err(error) = read() {
            return Ok(Err(error));
        }
        let name = |look: &Look| ColumnName::parse(columns.get(look.at)?.0.clone()).ok();
        let strict = looks.iter().filter(|look| !look.code);
        self.strict = strict.filter_map(|look| Some((name(look)?, look.usual?))).collect();
        Ok(Ok(looks.iter().filter(|look| look.code).filter_map(name).collect()))
    }
}

/// What the sample shows of a column.
struct Look {
    at: usize,
    /// The usual way in which all values so far are written, if there is one.
    usual: Option<Written>,
    /// Whether one is more than a number.
    code: bool,
}

impl Look {
    fn see(&mut self, value: &str, first: bool) {
        let number = !matches!(self.usual, Some(Written::Date));
        self.code |= number && is_code(value);
        if !first && self.usual.is_some_and(|usual| !usual.is(value)) {
            self.usual = None;
        }
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
    if read == 2 && head == [0xfe, 0xff] {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "`{}` is UTF-16 text, the most significant byte first, which can't be read; save \
                 it as UTF-8",
                input.path.display()
            ),
        ));
    }
    Ok((read == 2 && head == [0xff, 0xfe]).then_some("utf-16"))
}

impl Sniffed for Csv<'_> {
    fn look(&mut self, connection: &Connection, _: &FilesOptions) -> Result<Vec<ColumnName>> {
        loop {
            match self.look_at_sample(connection)? {
                Ok(codes) => return Ok(codes),
                Err(error) if self.enlarge(&engine::full_message(&error)) => {}
                // Reading the whole will say it, and where.
                Err(_) => return Ok(Vec::new()),
            }
        }
    }

    fn query(&self, _: &Connection, text_columns: &[ColumnName]) -> Result<Sql> {
        let strict = self.strict_but(text_columns);
        let text = text_columns.iter().map(|column| (column, "VARCHAR"));
        let types = text.chain(strict.iter().map(|(column, how)| (column, how.read_as())));
        let reader = self.reader_that_sniffs(SAMPLE_ROWS, &[])?.with_columns_as("types", types);
        Ok(reader.select_strictly(&strict))
    }

    fn find_bent(
        &mut self,
        connection: &Connection,
        options: &FilesOptions,
        text_columns: &mut Vec<ColumnName>,
    ) -> Result<bool> {
        let strict = self.strict_but(text_columns);
        for (column, written) in &strict {
            let text = self.reader(std::slice::from_ref(column))?.with("parallel", false);
            let find = text.select_first_unlike(column, *written);
            // What can't be read at all is found by reading the whole.
            let found = connection.query_row(find.as_str(), [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            });
            let Ok((row, value)) = found else { continue };
            if options.mistakes == Mistakes::Text {
                text_columns.push(column.clone());
                return Ok(true);
            }
            let names = engine::columns(connection, &self.reader(&[])?.select());
            let has_header = names.is_ok_and(|names| {
                names.iter().enumerate().any(|(at, (name, _))| *name != format!("column{at}"))
            });
            let line = row + i64::from(has_header);
            return Err(mistake(self.input, line, &value, written.kind(), column));
        }
        // Something else is wrong: it is found by reading as DuckDB does.
        let more = !strict.is_empty();
        self.strict.clear();
        Ok(more)
    }

    fn enlarge(&mut self, message: &str) -> bool {
        let enlarged = message.contains("Maximum line size") && !self.long_lines;
        self.long_lines |= enlarged;
        let loosened = !self.loose
            && (message.contains("Error when sniffing file")
                || message.contains("reached an invalid state"));
        self.loose |= loosened;
        enlarged || loosened
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
    /// Decide on types by every row, not by the sample.
    whole: bool,
    /// How whole numbers are kept that DuckDB reads with 128 bits, as it does where some are
    /// negative and some are not: an index into [`WIDE`].
    wide: usize,
}

/// From the narrowest to the widest.
const WIDE: [&str; 3] = ["BIGINT", "DECIMAL(38, 0)", "VARCHAR"];

fn is_wide(kind: &str) -> bool {
    matches!(kind, "HUGEINT" | "UHUGEINT")
}

impl Json<'_> {
    fn reader(&self, whole: bool) -> Result<Reader> {
        let lines = self.input.format == Format::JsonLines;
        Ok(Reader::new("read_json", &self.input.path)?
            .with("sample_size", if whole { -1 } else { SAMPLE_ROWS })
            .with("maximum_object_size", LINE_MAX)
            .with_text("format", if lines { "newline_delimited" } else { "auto" }))
    }
}

impl Sniffed for Json<'_> {
    /// Every row is looked at: a column that is null in the whole sample would lose all later
    /// values, and one of whole numbers the fractions. A column that was a number, say, and
    /// turns out to hold text as well, is a mistake.
    fn look(&mut self, connection: &Connection, options: &FilesOptions) -> Result<Vec<ColumnName>> {
        let columns =
            |whole| -> Result<_> { Ok(engine::columns(connection, &self.reader(whole)?.select())) };
        // Reading will say what is wrong.
        let (Ok(sampled), Ok(all)) = (columns(false)?, columns(true)?) else {
            return Ok(Vec::new());
        };
        let is_text = |kind: &str| matches!(kind, "VARCHAR" | "JSON");
        let mistaken = all.iter().filter(|(_, kind)| is_text(kind)).find_map(|(name, _)| {
            let (_, before) = sampled.iter().find(|(sampled, _)| sampled == name)?;
            (!is_text(before) && !before.contains(NULL)).then_some((name, before))
        });
        self.whole = true;
        let Some((name, before)) = mistaken.filter(|_| options.mistakes == Mistakes::Fail) else {
            return Ok(Vec::new());
        };
        let column = ColumnName::parse(name.clone())?;
        let found = ColumnType::parse(before).ok().and_then(|kind| {
            let find = self.reader(true).ok()?.select_first_no(&column, &kind);
            let row = connection.query_row(find.as_str(), [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            });
            row.ok()
        });
        let (row, value) = found.unwrap_or((0, String::new()));
        // A text without its quotes.
        let value = serde_json::from_str::<String>(&value).unwrap_or(value);
        Err(mistake(self.input, row, &value, before, &column))
    }

    /// Tries the next wider type for whole numbers of 128 bits.
    fn find_bent(
        &mut self,
        connection: &Connection,
        _: &FilesOptions,
        _: &mut Vec<ColumnName>,
    ) -> Result<bool> {
        let columns = engine::columns(connection, &self.reader(self.whole)?.select());
        let has_wide = columns.is_ok_and(|c| c.iter().any(|(_, kind)| is_wide(kind)));
        let more = has_wide && self.wide + 1 < WIDE.len();
        self.wide += usize::from(more);
        Ok(more)
    }

    /// Parquet has no whole numbers of 128 bits, which DuckDB would write as floating point,
    /// and no columns without a type, which it writes in a way that it can't filter. Values of
    /// several types in one column are text.
    fn query(&self, connection: &Connection, _: &[ColumnName]) -> Result<Sql> {
        let reader = self.reader(self.whole)?;
        let Ok(columns) = engine::columns(connection, &reader.select()) else {
            return Ok(reader.select());
        };
        let mut casts = Vec::new();
        for (name, kind) in columns {
            let to = |kind: &str| ColumnType::parse(kind).map(Cast::To);
            let cast = match kind.as_str() {
                kind if is_wide(kind) => to(WIDE.get(self.wide).unwrap_or(&"VARCHAR")),
                "JSON" => Ok(Cast::JsonText),
                kind if kind.contains(NULL) => to(&kind.replace(NULL, "VARCHAR")),
                _ => continue,
            };
            if let (Ok(name), Ok(cast)) = (ColumnName::parse(name), cast) {
                casts.push((name, cast));
            }
        }
        Ok(reader.select_casting(&casts))
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
    let mut text_columns = format.look(connection, options)?;
    loop {
        let query = format.query(connection, &text_columns)?;
        let Err((error, message)) = writer.table_from_query(&input.table, connection, &query)
        else {
            return Ok(());
        };
        if message.is_empty() {
            return Err(error);
        }
        if format.enlarge(&message) || format.find_bent(connection, options, &mut text_columns)? {
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

/// A column in which no row has a value.
const NULL: &str = "\"NULL\"";

/// A value that isn't what the rows before it showed.
fn mistake(input: &Input, line: i64, value: &str, kind: &str, column: &ColumnName) -> Error {
    let file = input.path.display();
    let place = if line > 0 { format!("`{file}`, line {line}") } else { format!("`{file}`") };
    let what = match line {
        0 => "a value is of another type".to_string(),
        _ => format!("`{}` is no {kind}", crate::name::shown(value)),
    };
    let text = format!(
        "{place}: {what}, which the column `{}` held before; mend the line, or read such columns \
         as text with `--mistakes text`",
        crate::name::shown(column.as_str())
    );
    Error::new(Kind::Invalid, text).with(Key::Path, file).with(Key::Column, column)
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
