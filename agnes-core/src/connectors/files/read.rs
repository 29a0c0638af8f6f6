//! Reading one file into one table.

use std::fs::File;
use std::io::{self, BufReader};

use duckdb::Connection;

use super::FilesOptions;
use super::csv::Csv;
use super::inputs::{Format, Input};
use super::json::Json;
use super::mistake::failure;
use crate::extract::ExtractWriter;
use crate::sql::Sql;
use crate::{Error, Key, Kind, Result};

/// The longest line of a CSV file and the largest object of a JSON file, bytes. DuckDB's
/// buffers for CSV grow with it, so that it is asked for only when a line needs it.
pub(super) const LINE_MAX: usize = 64 << 20;
/// The rows from which types are sniffed.
pub(super) const SAMPLE_ROWS: i64 = 20_480;

/// Reads a file into the table that it becomes.
pub(super) fn read(
    input: &Input,
    options: &FilesOptions,
    connection: &Connection,
    writer: &mut ExtractWriter,
) -> Result<()> {
    if input.fingerprint()?.size == 0 {
        return Err(Error::new(
            Kind::Invalid,
            format!("`{}` is empty: there is nothing to read columns from", input.path.display()),
        ));
    }
    check_packed(input)?;
    match input.format {
        Format::Csv | Format::Tsv => {
            let scratch = writer.scratch(&input.table);
            let csv = Csv::sniff(input, options, connection, &scratch)?;
            read_text(input, options, connection, writer, csv)
        }
        Format::Json | Format::JsonLines => {
            let json = Json::sniff(input, options, connection)?;
            read_text(input, options, connection, writer, json)
        }
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
    if !input.is_packed() {
        return Ok(());
    }
    let unpacked = input.open().and_then(|mut file| io::copy(&mut file, &mut io::sink()));
    unpacked.map(drop).map_err(|e| {
        let file = input.path.display();
        Error::new(Kind::Invalid, format!("`{file}` is damaged or cut off ({e}); get it again"))
            .with(Key::Path, file)
            .because(e)
    })
}

/// A text format, whose columns and types its values tell.
pub(super) trait Sniffed {
    /// The query that reads the file as it is understood so far.
    ///
    /// # Errors
    /// `Invalid` for a path that can't be read.
    fn query(&self) -> Result<Sql>;

    /// Understands the file otherwise after its query failed with this message of the engine;
    /// `false` when there is no other way.
    ///
    /// # Errors
    /// `Invalid` naming a value, where mistakes are errors.
    fn again(&mut self, message: &str) -> Result<bool>;
}

fn read_text(
    input: &Input,
    options: &FilesOptions,
    connection: &Connection,
    writer: &mut ExtractWriter,
    mut format: impl Sniffed,
) -> Result<()> {
    loop {
        let tried = writer.table_from_query(&input.table, connection, &format.query()?);
        let Err((error, message)) = tried else { return Ok(()) };
        if message.is_empty() || matches!(error.kind(), Kind::Unavailable | Kind::Limit) {
            return Err(error);
        }
        if !format.again(&message)? {
            return Err(failure(input, options, &message));
        }
    }
}

/// Reads an Arrow IPC file, or a stream that was saved as one.
fn read_arrow(input: &Input, writer: &mut ExtractWriter) -> Result<()> {
    let file = File::open(&input.path).map_err(|e| Error::io("open", &input.path, e))?;
    writer.table_from_ipc(&input.table, None, BufReader::new(file)).map_err(|e| {
        let message = e.message().replace("the rows", &format!("`{}`", input.path.display()));
        Error::new(e.kind(), message).because(e)
    })
}
