//! Reading CSV and TSV: the dialect and the types are sniffed once, from a sample. After that
//! every value is read as what its column is, or the file fails.

use std::path::{Path, PathBuf};

use arrow::array::{Array, StringArray};
use duckdb::Connection;

use super::dialect::Dialect;
use super::inputs::{Format, Input};
use super::mistake::{between, failure, mistake, skipped_rows};
use super::read::{LINE_MAX, SAMPLE_ROWS, Sniffed};
use super::sample::{Look, Verdict};
use super::{Encoding, FilesOptions, Mistakes};
use crate::sql::{self, Reader, Sql, Written};
use crate::{ColumnName, Result, engine};

/// How much of the file is read at once, bytes: twice the longest line. DuckDB's own choice,
/// sixteen times, is slower, since each buffer is new memory.
const BUFFER: usize = 4 << 20;

/// The rows that are sniffed first.
const FEW_ROWS: i64 = SAMPLE_ROWS / 10;

/// A file and how it is understood so far.
pub(super) struct Csv<'a> {
    input: &'a Input,
    /// What is read: the file, or a copy with one end of line.
    path: PathBuf,
    scratch: &'a Path,
    options: &'a FilesOptions,
    connection: &'a Connection,
    encoding: Option<Encoding>,
    allowed: Allowances,
    dialect: Dialect,
    columns: Vec<Column>,
}

/// What a file needs beyond what DuckDB's reader takes by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Allowances {
    /// Lines of more than 2 MB.
    long_lines: bool,
    /// Lines that end in more than one way: they are read from a copy with one end.
    mixed_ends: bool,
    /// Quotes within values that a backslash stands before: where they can't be doubled.
    backslash: bool,
    /// Rows of several lengths. They are told by name, or filled up, as the caller chose.
    uneven: bool,
}

/// A column and the type as which it is read.
#[derive(Debug, Clone)]
struct Column {
    name: ColumnName,
    kind: String,
    /// The one way in which all sampled values are written: a value further down that isn't is
    /// a mistake, though DuckDB would round `1.5` or take the date of a time.
    written: Option<Written>,
}

const TEXT: &str = "VARCHAR";

impl Column {
    fn make_text(&mut self) {
        self.kind = TEXT.into();
        self.written = None;
    }

    /// The type as which the reader gives the values, which the query then checks.
    fn read_as(&self) -> &str {
        if self.written.is_some() { TEXT } else { &self.kind }
    }
}

/// Whether the types are those that the whole sample would have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    Certain,
    Doubtful,
}

/// Something done with the file, or the engine's whole message.
type Attempt<T> = Result<std::result::Result<T, String>>;

impl<'a> Csv<'a> {
    /// Looks at the start of a file. A copy of it, where one is needed, is written to `scratch`.
    ///
    /// # Errors
    /// `Invalid` for a file that can't be divided into rows and columns.
    pub(super) fn sniff(
        input: &'a Input,
        options: &'a FilesOptions,
        connection: &'a Connection,
        scratch: &'a Path,
    ) -> Result<Self> {
        let encoding = options.encoding.or(input.byte_order_mark()?);
        if encoding == Some(Encoding::Utf16) {
            input.check_utf16()?;
        }
        let mut csv = Csv {
            input,
            path: input.path.clone(),
            scratch,
            options,
            connection,
            encoding,
            allowed: Allowances::default(),
            dialect: Dialect::default(),
            columns: Vec::new(),
        };
        csv.understand()?;
        Ok(csv)
    }

    fn understand(&mut self) -> Result<()> {
        loop {
            let Err(message) = self.look_at_start()? else { return Ok(()) };
            if !self.allow_for(&message)? {
                return Err(failure(self.input, self.options, &message));
            }
        }
    }

    fn look_at_start(&mut self) -> Attempt<()> {
        // Sniffing tries each type on each value. A few rows tell the types, nearly always; all
        // of the sample is looked at then, and sniffed where that leaves a doubt.
        match self.look_by(FEW_ROWS)? {
            Ok(Certainty::Certain) => Ok(Ok(())),
            _ => Ok(self.look_by(SAMPLE_ROWS)?.map(drop)),
        }
    }

    /// The same by the types that so many rows show.
    fn look_by(&mut self, rows: i64) -> Attempt<Certainty> {
        let delimiter = match self.input.format {
            Format::Tsv => Some('\t'),
            _ => self.options.delimiter,
        };
        (self.dialect, self.columns) = match self.sniff_with(rows, delimiter)? {
            Ok(sniffed) => sniffed,
            Err(message) => return Ok(Err(message)),
        };
        if delimiter.is_none()
            && self.columns.len() == 1
            && let Some(divided) = self.divided(rows)?
        {
            (self.dialect, self.columns) = divided;
        }
        if self.skips_rows()? {
            return match self.options.mistakes {
                Mistakes::Text if !self.allowed.uneven => {
                    self.allowed.uneven = true;
                    self.look_by(rows)
                }
                _ => Err(skipped_rows(self.input, self.dialect.skip)),
            };
        }
        self.look_at_sample(rows)
    }

    /// Dialect and columns as DuckDB sniffs them.
    fn sniff_with(&self, rows: i64, delimiter: Option<char>) -> Attempt<(Dialect, Vec<Column>)> {
        let mut reader = self
            .reader("sniff_csv")?
            .with("sample_size", rows)
            // An apostrophe is one.
            .with_text("quote", "\"");
        if !self.allowed.backslash {
            reader = reader.with_text("escape", "\"");
        }
        if let Some(delimiter) = delimiter {
            reader = reader.with_text("delim", delimiter.encode_utf8(&mut [0; 4]));
        }
        if let Some(header) = self.options.header {
            reader = reader.with("header", header);
        }
        if self.allowed.uneven {
            reader = reader.with("null_padding", true);
        }
        let (mut dialect, mut columns) = match Dialect::sniff(self.connection, &reader) {
            Ok(sniffed) => sniffed,
            Err(error) => return Ok(Err(engine::full_message(&error))),
        };
        // A sample without quotes, or with none inside a value, says nothing about the rest.
        if dialect.quote.is_none() {
            dialect.quote = Some("\"".into());
        }
        if dialect.escape.is_none() {
            dialect.escape.clone_from(&dialect.quote);
        }
        // The header says how many columns there are, not the longest row.
        if self.allowed.uneven && self.options.mistakes == Mistakes::Fail && dialect.header {
            let named =
                |(at, (name, _)): (usize, &(String, String))| *name != format!("column{at}");
            let last = columns.iter().enumerate().rposition(named);
            columns.truncate(last.map_or(columns.len(), |last| last + 1));
        }
        let column =
            |(name, kind)| Ok(Column { name: ColumnName::parse(name)?, kind, written: None });
        let columns = columns.into_iter().map(column).collect::<Result<_>>()?;
        Ok(Ok((dialect, columns)))
    }

    /// Rows of several lengths make one column of a whole file. Divided by what its first line
    /// shows, it can be told which row is longer or shorter.
    fn divided(&mut self, rows: i64) -> Result<Option<(Dialect, Vec<Column>)>> {
        let lines = self.input.first_lines(self.dialect.skip + 1)?;
        let Some(first) = lines.last() else { return Ok(None) };
        let count = |delimiter: char| first.iter().filter(|b| **b == delimiter as u8).count();
        let usual = [',', ';', '\t', '|'].into_iter().max_by_key(|delimiter| count(*delimiter));
        let Some(delimiter) = usual.filter(|delimiter| count(*delimiter) > 0) else {
            return Ok(None);
        };
        let before = self.allowed;
        self.allowed.uneven = true;
        let divided = self.sniff_with(rows, Some(delimiter))?.ok();
        let divided = divided.filter(|(_, columns)| columns.len() > 1);
        if divided.is_none() {
            self.allowed = before;
        }
        Ok(match (divided, self.options.mistakes) {
            (None, Mistakes::Fail) => self.as_its_header_says(first, delimiter),
            (divided, _) => divided,
        })
    }

    /// Columns of text by the names in the first line, so that reading tells what is wrong
    /// further down: a quote that isn't closed, for one.
    fn as_its_header_says(&self, first: &[u8], delimiter: char) -> Option<(Dialect, Vec<Column>)> {
        let mut columns: Vec<Column> = Vec::new();
        for name in first.trim_ascii().split(|byte| *byte == delimiter as u8) {
            let name = ColumnName::parse(std::str::from_utf8(name).ok()?).ok()?;
            if name.as_str().contains('"') || columns.iter().any(|column| column.name == name) {
                return None;
            }
            columns.push(Column { name, kind: TEXT.into(), written: None });
        }
        let dialect = Dialect {
            delimiter: delimiter.into(),
            quote: Some("\"".into()),
            escape: Some("\"".into()),
            header: true,
            ..self.dialect.clone()
        };
        Some((dialect, columns))
    }

    /// Whether DuckDB passes over lines that may be rows. A title is told by the blank line
    /// after it.
    fn skips_rows(&self) -> Result<bool> {
        let skipped = self.input.first_lines(self.dialect.skip)?;
        let delimiter = self.dialect.delimiter.as_bytes();
        let is_row = |line: &Vec<u8>| line.windows(delimiter.len()).any(|part| part == delimiter);
        let title = skipped.last().is_none_or(|line| line.trim_ascii().is_empty())
            && self.options.header != Some(false)
            && !skipped.iter().any(is_row);
        Ok(self.dialect.skip > 0 && !title)
    }

    /// The first value of a column that isn't written in the given way, and its line, counted
    /// from 1. Nothing as well where the file can't be read to there.
    fn find_unlike(&self, column: &ColumnName, written: &Written) -> Result<Option<(i64, String)>> {
        let columns = self.all_text();
        let names: Vec<&ColumnName> = columns.iter().map(|(name, _)| *name).collect();
        // In the order of the file.
        let reader = self.reader_of(&columns)?.with("parallel", false);
        let query = reader.select_first_unlike(column, written, &names);
        let found = self.connection.query_row(query.as_str(), [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
        });
        let Ok((row, breaks, value)) = found else { return Ok(None) };
        let rows = i64::from(self.dialect.header) + row;
        // The engine passes over blank lines, but for those of a single column. Where values
        // hold breaks, blank lines can't be told from theirs.
        let blank = match breaks == 0 && columns.len() > 1 {
            true => self.input.blank_lines_among(self.dialect.skip, rows).unwrap_or(0),
            false => 0,
        };
        Ok(Some((self.dialect.skip + rows + breaks + blank, value)))
    }

    /// Decides on the columns whose sampled values are not all that their type says, which the
    /// first so many of them showed.
    fn look_at_sample(&mut self, rows: i64) -> Attempt<Certainty> {
        let format = |kind: &str| match kind {
            "DATE" => self.dialect.date_format.as_deref(),
            _ => self.dialect.timestamp_format.as_deref(),
        };
        let looks = self.columns.iter().map(|column| Look::at(&column.kind, format(&column.kind)));
        let mut looks: Vec<Look> = looks.collect();
        let reader = self.reader_of(&self.all_text())?;
        let query = sql::first(&reader.select(), SAMPLE_ROWS);
        let mut read = || -> std::result::Result<(), duckdb::Error> {
            let mut statement = self.connection.prepare(query.as_str())?;
            let mut left = usize::try_from(rows).unwrap_or(usize::MAX);
            for batch in statement.query_arrow([])? {
                for (look, values) in looks.iter_mut().zip(batch.columns()) {
                    let Some(values) = values.as_any().downcast_ref::<StringArray>() else {
                        return Err(duckdb::Error::InvalidQuery);
                    };
                    for (row, value) in values.iter().enumerate() {
                        if let Some(value) = value {
                            look.see(value, row < left);
                        }
                    }
                }
                left = left.saturating_sub(batch.num_rows());
            }
            Ok(())
        };
        if let Err(error) = read() {
            return Ok(Err(engine::full_message(&error)));
        }
        let certainty = match looks.iter().any(Look::doubts) {
            true => Certainty::Doubtful,
            false => Certainty::Certain,
        };
        let decided: Vec<String> =
            looks.iter().filter_map(|look| look.decided_format().map(String::from)).collect();
        for (column, look) in self.columns.iter_mut().zip(looks) {
            match look.verdict(&decided) {
                Verdict::Text => column.make_text(),
                Verdict::Written(written) => column.written = Some(written),
                Verdict::AsSniffed => {}
            }
        }
        Ok(Ok(certainty))
    }

    fn all_text(&self) -> Vec<(&ColumnName, &str)> {
        self.columns.iter().map(|column| (&column.name, TEXT)).collect()
    }

    /// What holds for the file however its columns are read.
    fn reader(&self, function: &'static str) -> Result<Reader> {
        // A row that begins with `#` is a row.
        let mut reader = Reader::new(function, &self.path)?.with_text("comment", "");
        if let Some(encoding) = self.encoding {
            reader = reader.with_text("encoding", encoding.as_str());
        }
        reader = match self.allowed.long_lines {
            true => reader.with("max_line_size", LINE_MAX).with("buffer_size", 2 * LINE_MAX),
            false => reader.with("buffer_size", BUFFER),
        };
        Ok(reader)
    }

    /// The file in its dialect, with these columns of these types; rows of several lengths filled
    /// up where the caller wants that.
    fn reader_of(&self, columns: &[(&ColumnName, &str)]) -> Result<Reader> {
        let reader = self.dialect.of(self.reader("read_csv")?).with_columns(columns);
        Ok(match self.allowed.uneven && self.options.mistakes == Mistakes::Text {
            true => reader.with("null_padding", true),
            false => reader,
        })
    }

    /// Reads the file otherwise from now on where the message shows what it needs.
    fn allow_for(&mut self, message: &str) -> Result<bool> {
        let before = self.allowed;
        let undivided = message.contains("Error when sniffing file");
        let uneven = message.contains("Expected Number of Columns: ");
        if message.contains("Maximum line size") {
            self.allowed.long_lines = true;
        }
        if (undivided || message.contains("reached an invalid state"))
            && !before.mixed_ends
            && self.encoding != Some(Encoding::Utf16)
            && self.input.copy_with_one_end(self.scratch)?
        {
            self.allowed.mixed_ends = true;
            self.path = self.scratch.to_path_buf();
        } else if !before.backslash && (undivided || message.contains("unterminated quote")) {
            self.allowed.backslash = true;
        } else if undivided || (uneven && self.options.mistakes == Mistakes::Text) {
            self.allowed.uneven = true;
        }
        Ok(self.allowed != before)
    }

    /// Finds the first value that isn't written as those of its column's sample are.
    fn find_bent(&mut self) -> Result<bool> {
        for at in 0..self.columns.len() {
            let Some(Column { name, written: Some(written), .. }) = self.columns.get(at) else {
                continue;
            };
            let Some((line, value)) = self.find_unlike(name, written)? else { continue };
            if self.options.mistakes == Mistakes::Fail {
                return Err(mistake(self.input, Some(line), Some((&value, written.kind())), name));
            }
            if let Some(column) = self.columns.get_mut(at) {
                column.make_text();
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Reads the column as text in which the message says that a value doesn't fit; all of
    /// them where it can't be told which.
    fn relax(&mut self, message: &str) -> bool {
        const MARK: &str = "Error when converting column \"";
        if self.options.mistakes == Mistakes::Fail || !message.contains(MARK) {
            return false;
        }
        let name = between(message, MARK, "\".");
        let is_meant = |column: &&mut Column| Some(column.name.as_str()) == name;
        let mut typed = self.columns.iter_mut().filter(|column| column.kind != TEXT).peekable();
        let any = typed.peek().is_some();
        match typed.find(is_meant) {
            Some(column) => column.make_text(),
            None => self.columns.iter_mut().for_each(Column::make_text),
        }
        any
    }
}

impl Drop for Csv<'_> {
    fn drop(&mut self) {
        if self.allowed.mixed_ends {
            let _ = std::fs::remove_file(self.scratch);
        }
    }
}

impl Sniffed for Csv<'_> {
    fn query(&self) -> Result<Sql> {
        let types: Vec<(&ColumnName, &str)> =
            self.columns.iter().map(|column| (&column.name, column.read_as())).collect();
        let strict: Vec<(&ColumnName, Written)> =
            self.columns.iter().filter_map(|c| Some((&c.name, c.written.clone()?))).collect();
        Ok(self.reader_of(&types)?.select_strictly(&strict))
    }

    fn again(&mut self, message: &str) -> Result<bool> {
        if self.allow_for(message)? {
            self.understand()?;
            return Ok(true);
        }
        Ok(self.find_bent()? || self.relax(message))
    }
}
