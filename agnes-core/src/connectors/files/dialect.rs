//! What separates the values and the rows of a CSV file, as DuckDB sniffs it.

use duckdb::Connection;

use crate::sql::Reader;

/// What stands between values and between rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Dialect {
    pub(super) delimiter: String,
    pub(super) quote: Option<String>,
    pub(super) escape: Option<String>,
    pub(super) new_line: String,
    /// Lines before the header.
    pub(super) skip: i64,
    pub(super) header: bool,
    pub(super) date_format: Option<String>,
    pub(super) timestamp_format: Option<String>,
}

impl Dialect {
    /// Sniffs dialect and columns; of each column its name and its type.
    pub(super) fn sniff(
        connection: &Connection,
        reader: &Reader,
    ) -> Result<(Dialect, Vec<(String, String)>), duckdb::Error> {
        let mut dialect = Dialect::default();
        let mut columns = Vec::new();
        let mut statement = connection.prepare(reader.sniff().as_str())?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let some = |text: String| (text != "(empty)").then_some(text);
            dialect = Dialect {
                delimiter: some(row.get(0)?).unwrap_or_else(|| ",".into()),
                quote: some(row.get(1)?),
                escape: some(row.get(2)?),
                new_line: row.get(3)?,
                skip: row.get(4)?,
                header: row.get(5)?,
                date_format: row.get(6)?,
                timestamp_format: row.get(7)?,
            };
            columns.push((row.get(8)?, row.get(9)?));
        }
        Ok((dialect, columns))
    }

    /// A reader that takes the file to be in this dialect, and sniffs nothing.
    pub(super) fn of(&self, reader: Reader) -> Reader {
        let mut reader = reader
            .with("auto_detect", false)
            .with_text("delim", &self.delimiter)
            .with_text("quote", self.quote.as_deref().unwrap_or(""))
            .with_text("escape", self.escape.as_deref().unwrap_or(""))
            .with_text("new_line", &self.new_line)
            .with("skip", self.skip)
            .with("header", self.header);
        if let Some(format) = &self.date_format {
            reader = reader.with_text("dateformat", format);
        }
        if let Some(format) = &self.timestamp_format {
            reader = reader.with_text("timestampformat", format);
        }
        reader
    }
}
