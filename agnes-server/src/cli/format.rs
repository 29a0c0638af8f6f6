//! How the rows of a query are written.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use agnes_core::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use agnes_core::arrow::compute::cast;
use agnes_core::arrow::csv::WriterBuilder as CsvBuilder;
use agnes_core::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};
use agnes_core::arrow::error::ArrowError;
use agnes_core::arrow::ipc::writer::StreamWriter;
use agnes_core::arrow::json::writer::{JsonArray, LineDelimited, WriterBuilder as JsonBuilder};
use agnes_core::{Error, Kind, Result};
use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use parquet::arrow::ArrowWriter;

use super::output::{Output, grouped};
use crate::json::Encoders;
use crate::values;

/// How rows are written.
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

/// Writes the rows of a query in one format.
pub(super) struct Writer<'a> {
    output: &'a Output,
    rows: u64,
    form: Form<'a>,
}

enum Form<'a> {
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

impl<'a> Writer<'a> {
    /// Begins with the columns.
    pub(super) fn new(format: Format, schema: &SchemaRef, output: &'a Output) -> Result<Self> {
        let out = || io::BufWriter::with_capacity(1 << 16, Stdout(output));
        let json = || {
            JsonBuilder::new()
                .with_explicit_nulls(true)
                .with_encoder_factory(Arc::new(Encoders::Texts))
        };
        let form = match format {
            Format::Table => Form::Table { schema: schema.clone(), batches: Vec::new() },
            Format::Json => Form::Json(json().build(out())),
            Format::Jsonl => Form::Jsonl(json().build(out())),
            Format::Csv => {
                let mut csv = CsvBuilder::new().with_header(true).build(out());
                // The header also of no rows.
                let none = RecordBatch::new_empty(schema.clone());
                let none = as_text(&none, has_no_csv).map_err(failed)?;
                csv.write(&none).map_err(failed)?;
                Form::Csv(Box::new(csv))
            }
            Format::Arrow => {
                Form::Arrow(Box::new(StreamWriter::try_new(out(), schema).map_err(failed)?))
            }
            // The writer would panic.
            Format::Parquet if schema.fields().iter().any(|f| has_union(f.data_type())) => {
                return Err(Error::new(
                    Kind::Invalid,
                    "the rows can't be written in this format: parquet has no UNION; try another \
                     --format",
                ));
            }
            Format::Parquet => {
                let none = RecordBatch::new_empty(schema.clone());
                let schema = for_parquet(&none)?.schema();
                let parquet = ArrowWriter::try_new(out(), schema, None).map_err(failed)?;
                Form::Parquet(Box::new(parquet))
            }
        };
        Ok(Writer { output, rows: 0, form })
    }

    /// Goes on with some rows.
    pub(super) fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        match &mut self.form {
            Form::Table { batches, .. } => {
                batches.push(batch);
                Ok(())
            }
            Form::Json(json) => json.write(&named_apart(&batch)?).map_err(failed),
            Form::Jsonl(json) => json.write(&named_apart(&batch)?).map_err(failed),
            Form::Csv(csv) => {
                csv.write(&as_text(&batch, has_no_csv).map_err(failed)?).map_err(failed)
            }
            Form::Arrow(arrow) => arrow.write(&batch).map_err(failed),
            Form::Parquet(parquet) => parquet.write(&for_parquet(&batch)?).map_err(failed),
        }
    }

    /// Ends what was written.
    pub(super) fn finish(self) -> Result<()> {
        match self.form {
            Form::Table { schema, batches } => {
                let text = table(&schema, &batches, self.output.width()).map_err(failed)?;
                self.output.data(text.as_bytes())?;
                let rows = if self.rows == 1 { "row" } else { "rows" };
                self.output.note(format_args!("{} {rows}", grouped(self.rows)));
                Ok(())
            }
            Form::Json(mut json) => {
                json.finish().map_err(failed)?;
                flush(json.into_inner())?;
                self.output.data(b"\n")
            }
            Form::Jsonl(mut json) => {
                json.finish().map_err(failed)?;
                flush(json.into_inner())
            }
            Form::Csv(csv) => flush(csv.into_inner()),
            Form::Arrow(mut arrow) => {
                arrow.finish().map_err(failed)?;
                flush(arrow.into_inner().map_err(failed)?)
            }
            Form::Parquet(parquet) => flush(parquet.into_inner().map_err(failed)?),
        }
    }
}

/// Rows as parquet has them: intervals as text, and whole seconds as thousandths, which it would
/// else write as plain numbers.
fn for_parquet(batch: &RecordBatch) -> Result<RecordBatch> {
    let is_interval = |kind: &DataType| matches!(kind, DataType::Interval(_));
    let batch = named_apart(&as_text(batch, is_interval).map_err(failed)?)?;
    let column = |(field, column): (&FieldRef, &ArrayRef)| {
        let kind = in_thousandths(field.data_type());
        let column = match kind == *field.data_type() {
            true => column.clone(),
            false => cast(column, &kind).map_err(failed)?,
        };
        Ok((Arc::new(field.as_ref().clone().with_data_type(kind)), column))
    };
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(column);
    let (fields, columns) = columns.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    with_fields(&batch, fields, columns)
}

/// A type with every timestamp of whole seconds in it as one of thousandths.
fn in_thousandths(kind: &DataType) -> DataType {
    let field = |field: &FieldRef| {
        Arc::new(field.as_ref().clone().with_data_type(in_thousandths(field.data_type())))
    };
    match kind {
        DataType::Timestamp(TimeUnit::Second, zone) => {
            DataType::Timestamp(TimeUnit::Millisecond, zone.clone())
        }
        DataType::List(item) => DataType::List(field(item)),
        DataType::LargeList(item) => DataType::LargeList(field(item)),
        DataType::FixedSizeList(item, many) => DataType::FixedSizeList(field(item), *many),
        DataType::Map(entry, sorted) => DataType::Map(field(entry), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        kind => kind.clone(),
    }
}

/// Rows whose columns have names of their own: a reader of objects keeps one of each name. As in
/// DuckDB, the second `id` is `id_1`.
fn named_apart(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = batch.schema();
    let mut names: HashSet<String> = HashSet::new();
    let mut is_apart = true;
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let own = field.name();
        let name = std::iter::once(own.clone())
            .chain((1..).map(|number| format!("{own}_{number}")))
            .find(|name| !names.contains(name))
            .unwrap_or_default();
        is_apart &= name == *own;
        names.insert(name.clone());
        fields.push(Arc::new(field.as_ref().clone().with_name(name)));
    }
    match is_apart {
        true => Ok(batch.clone()),
        false => with_fields(batch, fields, batch.columns().to_vec()),
    }
}

fn with_fields(
    batch: &RecordBatch,
    fields: Vec<FieldRef>,
    columns: Vec<ArrayRef>,
) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(failed)
}

/// What CSV's writer has no form for.
fn has_no_csv(kind: &DataType) -> bool {
    kind.is_nested() || kind.is_temporal()
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

/// The same rows with some columns as text.
fn as_text(
    batch: &RecordBatch,
    wanted: impl Fn(&DataType) -> bool,
) -> Result<RecordBatch, ArrowError> {
    if !batch.schema().fields().iter().any(|f| wanted(f.data_type())) {
        return Ok(batch.clone());
    }
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !wanted(field.data_type()) {
            columns.push((field.name().clone(), column.clone(), true));
            continue;
        }
        let values = values::formatter(column.as_ref())?;
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
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for batch in batches {
        let columns = batch
            .columns()
            .iter()
            .map(|column| values::formatter(column.as_ref()))
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
