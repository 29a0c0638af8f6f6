//! `agnes query`: SQL in, rows out.

use std::io::{self, IsTerminal, Read};
use std::ops::ControlFlow;
use std::sync::Arc;

use agnes_core::arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use agnes_core::arrow::csv::WriterBuilder as CsvBuilder;
use agnes_core::arrow::datatypes::{DataType, SchemaRef};
use agnes_core::arrow::error::ArrowError;
use agnes_core::arrow::ipc::writer::StreamWriter;
use agnes_core::arrow::json::writer::{JsonArray, LineDelimited, WriterBuilder as JsonBuilder};
use agnes_core::arrow::util::display::{ArrayFormatter, FormatOptions};
use agnes_core::query::{RowSink, StatementLimits};
use agnes_core::{Agnes, Error, Kind, Result};
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, ContentArrangement, Table};
use parquet::arrow::ArrowWriter;

use super::output::{Done, Output, grouped};

pub(super) const HELP: &str = "\
Run SQL over everything that is published.

One query, in DuckDB's SQL: SELECT, WITH, FROM, DESCRIBE, SHOW TABLES, SUMMARIZE. It sees the \
published tables and nothing else. With `-` as the SQL it is read from standard input. Rows go \
to standard output; with more rows than --limit the rest is left out and a note says so.";

#[derive(Debug, Args)]
pub(super) struct Query {
    /// The query, or `-` to read it from standard input
    // It may begin with a comment.
    #[arg(allow_hyphen_values = true)]
    sql: String,
    /// How the rows are written
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The most rows; 0 for all
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// One array of objects
    Json,
    /// One object a line
    Jsonl,
    /// RFC 4180, with a header
    Csv,
    /// An Arrow IPC stream
    Arrow,
    /// A parquet file
    Parquet,
}

impl Query {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let sql = if self.sql == "-" {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map_err(|e| {
                Error::new(Kind::Invalid, format!("can't read the query from standard input: {e}"))
            })?;
            text
        } else {
            self.sql
        };
        if matches!(self.format, Format::Arrow | Format::Parquet) && io::stdout().is_terminal() {
            return Err(Error::new(
                Kind::Invalid,
                "this format is no text: send it into a file, as in `> rows.parquet`",
            ));
        }
        run(agnes, &sql, self.format, self.limit, output)
    }
}

/// Runs one query and writes its rows.
pub(super) fn run(
    agnes: &Agnes,
    sql: &str,
    format: Format,
    limit: u64,
    output: &Output,
) -> Result<Done> {
    let session = agnes.session()?;
    let mut sink = Sink { format, limit, rows: 0, truncated: false, writer: None, output };
    session.stream(sql, agnes.secrets(), &StatementLimits::default(), &mut sink)?;
    sink.finish()?;
    if sink.truncated {
        output.note(format_args!("(truncated at {} rows; --limit 0 gives all)", grouped(limit)));
    }
    Ok(Done::Whole)
}

/// Counts rows up to the limit and hands them to a writer.
struct Sink<'a> {
    format: Format,
    limit: u64,
    rows: u64,
    truncated: bool,
    writer: Option<Writer<'a>>,
    output: &'a Output,
}

/// Writes to stdout through the one place that may.
struct Stdout<'a>(&'a Output);

impl io::Write for Stdout<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.data(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Buffered<'a> = io::BufWriter<Stdout<'a>>;

enum Writer<'a> {
    Table { schema: SchemaRef, batches: Vec<RecordBatch> },
    Json(agnes_core::arrow::json::Writer<Buffered<'a>, JsonArray>),
    Jsonl(agnes_core::arrow::json::Writer<Buffered<'a>, LineDelimited>),
    Csv(Box<agnes_core::arrow::csv::Writer<Buffered<'a>>>),
    Arrow(Box<StreamWriter<Buffered<'a>>>),
    Parquet(Box<ArrowWriter<Buffered<'a>>>),
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(
        Kind::Invalid,
        format!("the rows can't be written in this format: {error}; try another --format"),
    )
    .because(error)
}

impl RowSink for Sink<'_> {
    fn columns(&mut self, schema: &SchemaRef) -> Result<()> {
        let out = || io::BufWriter::with_capacity(1 << 16, Stdout(self.output));
        let json = || JsonBuilder::new().with_explicit_nulls(true);
        let writer = match self.format {
            Format::Table => Writer::Table { schema: schema.clone(), batches: Vec::new() },
            Format::Json => Writer::Json(json().build(out())),
            Format::Jsonl => Writer::Jsonl(json().build(out())),
            Format::Csv => Writer::Csv(Box::new(CsvBuilder::new().with_header(true).build(out()))),
            Format::Arrow => {
                Writer::Arrow(Box::new(StreamWriter::try_new(out(), schema).map_err(failed)?))
            }
            // The writer would panic.
            Format::Parquet if schema.fields().iter().any(|f| has_union(f.data_type())) => {
                return Err(Error::new(
                    Kind::Invalid,
                    "the rows can't be written in this format: parquet has no UNION; try another \
                     --format",
                ));
            }
            Format::Parquet => Writer::Parquet(Box::new(
                ArrowWriter::try_new(out(), schema.clone(), None).map_err(failed)?,
            )),
        };
        self.writer = Some(writer);
        if let Some(Writer::Csv(csv)) = &mut self.writer {
            // The header also of no rows.
            let none = RecordBatch::new_empty(schema.clone());
            let none = as_text(&none, DataType::is_nested).map_err(failed)?;
            csv.write(&none).map_err(failed)?;
        }
        Ok(())
    }

    fn rows(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>> {
        let left = self.limit.saturating_sub(self.rows);
        let keep = match self.limit {
            0 => batch.num_rows(),
            _ => batch.num_rows().min(usize::try_from(left).unwrap_or(usize::MAX)),
        };
        self.truncated |= keep < batch.num_rows();
        let batch = batch.slice(0, keep);
        self.rows += keep as u64;
        match &mut self.writer {
            None => {}
            Some(Writer::Table { batches, .. }) => batches.push(batch),
            Some(Writer::Json(json)) => {
                json.write(&as_text(&batch, DataType::is_temporal).map_err(failed)?)
                    .map_err(failed)?;
            }
            Some(Writer::Jsonl(json)) => {
                json.write(&as_text(&batch, DataType::is_temporal).map_err(failed)?)
                    .map_err(failed)?;
            }
            Some(Writer::Csv(csv)) => {
                csv.write(&as_text(&batch, DataType::is_nested).map_err(failed)?)
                    .map_err(failed)?;
            }
            Some(Writer::Arrow(arrow)) => arrow.write(&batch).map_err(failed)?,
            Some(Writer::Parquet(parquet)) => parquet.write(&batch).map_err(failed)?,
        }
        let enough = self.truncated || self.output.is_closed();
        Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

impl Sink<'_> {
    fn finish(&mut self) -> Result<()> {
        match self.writer.take() {
            None => Ok(()),
            Some(Writer::Table { schema, batches }) => {
                let text = table(&schema, &batches, self.output.width()).map_err(failed)?;
                self.output.data(text.as_bytes())?;
                let rows = if self.rows == 1 { "row" } else { "rows" };
                self.output.note(format_args!("{} {rows}", grouped(self.rows)));
                Ok(())
            }
            Some(Writer::Json(mut json)) => {
                json.finish().map_err(failed)?;
                flush(json.into_inner())?;
                self.output.data(b"\n")
            }
            Some(Writer::Jsonl(mut json)) => {
                json.finish().map_err(failed)?;
                flush(json.into_inner())
            }
            Some(Writer::Csv(csv)) => flush(csv.into_inner()),
            Some(Writer::Arrow(arrow)) => {
                let mut arrow = arrow;
                arrow.finish().map_err(failed)?;
                flush(arrow.into_inner().map_err(failed)?)
            }
            Some(Writer::Parquet(parquet)) => flush(parquet.into_inner().map_err(failed)?),
        }
    }
}

/// Whether a union is in a type.
fn has_union(kind: &DataType) -> bool {
    match kind {
        DataType::Union(..) => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => has_union(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_union(f.data_type())),
        _ => false,
    }
}

/// The same rows with some columns as text: CSV has no form for nested values, and JSON's
/// writer puts the message for a date that it can't write in the date's place.
fn as_text(
    batch: &RecordBatch,
    wanted: impl Fn(&DataType) -> bool,
) -> Result<RecordBatch, ArrowError> {
    if !batch.schema().fields().iter().any(|f| wanted(f.data_type())) {
        return Ok(batch.clone());
    }
    let options = FormatOptions::default();
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !wanted(field.data_type()) {
            columns.push((field.name().clone(), column.clone(), true));
            continue;
        }
        let values = ArrayFormatter::try_new(column.as_ref(), &options)?;
        let text: Vec<Option<String>> = (0..column.len())
            .map(|row| column.is_valid(row).then(|| values.value(row).try_to_string()).transpose())
            .collect::<Result<_, _>>()?;
        columns.push((field.name().clone(), Arc::new(StringArray::from(text)) as ArrayRef, true));
    }
    RecordBatch::try_from_iter_with_nullable(columns)
}

fn flush(mut out: Buffered<'_>) -> Result<()> {
    io::Write::flush(&mut out).map_err(failed)
}

/// Rows for people: a table, or where that is too wide one block for each row.
fn table(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    width: Option<u16>,
) -> Result<String, ArrowError> {
    let options = FormatOptions::default().with_null("NULL");
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for batch in batches {
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|c| c.value(row).try_to_string());
            rows.push(values.map(|v| v.map(printable)).collect::<Result<_, _>>()?);
        }
    }
    if width.is_some_and(|w| names.len() * 6 > usize::from(w)) {
        let longest = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
        let mut out = String::new();
        for (at, row) in rows.iter().enumerate() {
            out.push_str(&format!("-- row {}\n", at + 1));
            for (name, value) in names.iter().zip(row) {
                out.push_str(&format!("{name:longest$}  {value}\n"));
            }
        }
        return Ok(out);
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(names.iter().map(|n| printable((*n).to_string())));
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.add_row(names.iter().map(|n| "-".repeat(n.chars().count())));
    for row in rows {
        table.add_row(row);
    }
    for (at, field) in schema.fields().iter().enumerate() {
        if is_number(field.data_type())
            && let Some(column) = table.column_mut(at)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_string()).collect();
    Ok(lines.join("\n") + "\n")
}

/// Text that can't move a terminal's cursor.
fn printable(text: String) -> String {
    if !text.chars().any(char::is_control) {
        return text;
    }
    let escape = |c: char| -> String {
        if c.is_control() { c.escape_default().to_string() } else { c.to_string() }
    };
    text.chars().map(escape).collect()
}

fn is_number(kind: &DataType) -> bool {
    kind.is_numeric()
}
