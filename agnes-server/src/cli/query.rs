//! `agnes query`: SQL in, rows out.

use agnes_core::access::Email;
use agnes_core::{Agnes, Error, Kind, QueryOptions, Result, Session};
use clap::Args;

use super::format::{Format, Writer};
use super::output::{Done, Output, grouped};

pub(super) const HELP: &str = "\
Run SQL over everything that is published.

One query, in DuckDB's SQL: SELECT, WITH, FROM, DESCRIBE, SHOW TABLES, SUMMARIZE. It sees the \
published tables and nothing else, with --as those that a user may see. With `-` as the SQL it is read from standard input. Rows go \
to standard output; with more rows than --limit the rest is left out and a note says so.";

#[derive(Debug, Args)]
pub(super) struct Query {
    /// The query, or `-` to read it from standard input
    // It may begin with a comment.
    #[arg(allow_hyphen_values = true)]
    pub(super) sql: String,
    /// Ask as this user: she sees what she was granted, and nothing else
    #[arg(long = "as", value_name = "EMAIL", value_parser = super::people::email)]
    pub(super) as_user: Option<Email>,
    #[command(flatten)]
    pub(super) rows: RowsAs,
}

/// How rows are written, and how many.
#[derive(Debug, Args)]
pub(super) struct RowsAs {
    /// How the rows are written
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// As `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// The most rows; 0 for all
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(super) limit: u64,
}

impl RowsAs {
    /// How the rows are to be written.
    pub(super) fn format(&self, output: &Output) -> Result<Format> {
        let format = if self.json { Format::Json } else { self.format };
        if matches!(format, Format::Arrow | Format::Parquet) && output.is_terminal() {
            return Err(Error::new(
                Kind::Invalid,
                "this format is no text: send it into a file, as in `> rows.parquet`",
            ));
        }
        Ok(format)
    }

    /// Runs one query and writes its rows.
    pub(super) fn run(&self, session: &Session, sql: &str, output: &Output) -> Result<Done> {
        run(session, sql, self.format(output)?, self.limit, output)
    }
}

impl Query {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let sql = if self.sql == "-" { output.input()? } else { self.sql };
        let session = match &self.as_user {
            None => agnes.session()?,
            Some(email) => agnes.session_for(&agnes.access()?.principal_of(email)?)?,
        };
        self.rows.run(&session, &sql, output)
    }
}

/// Runs one query and writes its rows.
pub(super) fn run(
    session: &Session,
    sql: &str,
    format: Format,
    limit: u64,
    output: &Output,
) -> Result<Done> {
    let options = QueryOptions {
        max_rows: (limit > 0).then_some(limit),
        max_bytes: None,
        stop: output.stop(),
        ..QueryOptions::default()
    };
    let mut rows = session.query(sql, &options)?;
    let mut writer = Writer::new(format, rows.schema(), output)?;
    for batch in &mut rows {
        writer.write(batch?)?;
        if output.is_closed() {
            break;
        }
    }
    writer.finish()?;
    if rows.truncated() {
        output.note(format_args!("(truncated at {} rows; --limit 0 gives all)", grouped(limit)));
    }
    Ok(Done::Whole)
}
