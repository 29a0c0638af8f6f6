//! `agnes ingest`: files become the extract of a source.

use std::path::PathBuf;

use agnes_core::connector::{ConnectorReport, TableStatus};
use agnes_core::connectors::files::{Encoding, FilesConnector, FilesOptions, Mistakes};
use agnes_core::{Agnes, Result, SourceName};
use clap::{Args, ValueEnum};

use super::output::{Done, Output, count, grouped};

pub(super) const HELP: &str = "\
Turn files into the extract of a source.

Reads CSV, TSV, JSON, JSON lines, Parquet and Arrow IPC; the text formats also as .gz and \
.zst. Each file becomes a table named after it. A folder stands for the files in it. Types \
are sniffed; digits that are more than a number, as in 01234, stay text. A file whose content \
is what it was is not read again, and a table whose file is gone stays until --prune. Run \
`agnes rebuild` to publish.";

#[derive(Debug, Args)]
pub(super) struct Ingest {
    /// The name of the source
    #[arg(value_parser = super::source_name)]
    source: SourceName,
    /// Files and folders
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// What to do about a value that doesn't fit the type of the rows before it
    #[arg(long, value_enum, default_value_t = MistakesArgument::Fail)]
    mistakes: MistakesArgument,
    /// The encoding of CSV and TSV files; UTF-8 when absent, or what a byte order mark says
    #[arg(long, value_enum, value_name = "NAME")]
    encoding: Option<EncodingArgument>,
    /// What separates the values of CSV files, as in ';' or '\t'; sniffed when absent
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    delimiter: Option<char>,
    /// Whether the first row of CSV and TSV files names the columns; sniffed when absent
    #[arg(long, value_enum, value_name = "WHETHER")]
    header: Option<HeaderArgument>,
    /// Take out tables whose files were not given
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    json: super::Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MistakesArgument {
    /// The file fails, naming the line
    Fail,
    /// The column becomes text
    Text,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EncodingArgument {
    #[value(name = "utf-8", alias = "utf8")]
    Utf8,
    #[value(name = "utf-16", alias = "utf16")]
    Utf16,
    #[value(name = "latin-1", alias = "latin1", alias = "iso-8859-1")]
    Latin1,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum HeaderArgument {
    /// It names them
    Yes,
    /// It is a row like the others
    No,
}

/// One character, a tab also as `\t`.
fn delimiter(text: &str) -> Result<char, String> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some('\\'), Some('t')) if text.len() == 2 => Ok('\t'),
        (Some(only), None) => Ok(only),
        _ => Err("it takes one character".into()),
    }
}

impl Ingest {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let options = FilesOptions {
            mistakes: match self.mistakes {
                MistakesArgument::Fail => Mistakes::Fail,
                MistakesArgument::Text => Mistakes::Text,
            },
            prune: self.prune,
            encoding: self.encoding.map(|encoding| match encoding {
                EncodingArgument::Utf8 => Encoding::Utf8,
                EncodingArgument::Utf16 => Encoding::Utf16,
                EncodingArgument::Latin1 => Encoding::Latin1,
            }),
            delimiter: self.delimiter,
            header: self.header.map(|header| matches!(header, HeaderArgument::Yes)),
        };
        let paths = self.paths.iter().map(|path| output.path(path)).collect();
        let files = FilesConnector::new(paths, options);
        let report = agnes.ingest(&self.source, &files, &output.progress())?;
        if self.json.json {
            output.json(&report)?;
        } else {
            show(&self.source, &report.extract, output)?;
            for error in &report.unregistered {
                output.note(error.message());
            }
            if report.extract.changed() {
                output.note("run `agnes rebuild` to publish");
            }
        }
        let report = report.extract;
        // Where nothing at all could be read, that is the answer.
        let mut failed = report.failed();
        let given = report.tables.iter().filter(|table| table.from.is_some()).count();
        match (failed.next(), given) {
            (Some(only), 1) => {
                let kind = only.error.as_ref().map_or(agnes_core::Kind::Invalid, |e| e.kind());
                Err(agnes_core::Error::new(kind, format!("`{}` was not read", only.table)))
            }
            (failure, _) => Ok(Done::whole_if(failure.is_none())),
        }
    }
}

/// One line for each table that is worth one, and one for all others.
pub(super) fn show(source: &SourceName, report: &ConnectorReport, output: &Output) -> Result<()> {
    let mut unchanged = 0;
    let mut kept = Vec::new();
    for table in &report.tables {
        let what = match table.status {
            TableStatus::Unchanged => {
                unchanged += 1;
                continue;
            }
            TableStatus::Gone => {
                kept.push(table.table.as_str());
                continue;
            }
            TableStatus::Failed => continue,
            TableStatus::Created => "new",
            TableStatus::Replaced => "changed",
            TableStatus::Removed => "taken out",
        };
        let rows = count(usize::try_from(table.rows).unwrap_or(usize::MAX), "row");
        output.line(format_args!("  {source}.{}  {rows}, {what}", table.table))?;
    }
    if !kept.is_empty() {
        /// More names than anybody reads.
        const MOST: usize = 10;
        let more = if kept.len() > MOST { ", …" } else { "" };
        let names = kept.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
        output.line(format_args!(
            "  {source}: {} kept whose files were not given (--prune takes them out): {names}{more}",
            count(kept.len(), "table")
        ))?;
    }
    if unchanged > 0 {
        output.line(format_args!("  {source}: {} unchanged", grouped(unchanged)))?;
    }
    for ignored in &report.ignored {
        output.note(format_args!("not read: {ignored}"));
    }
    for table in report.failed() {
        if let Some(error) = &table.error {
            output.note(format_args!("failed: {}", error.message()));
        }
    }
    Ok(())
}
