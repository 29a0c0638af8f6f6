//! The files connector: a folder, or some files, become one source.
//!
//! CSV, TSV, JSON, JSON lines, Parquet and Arrow IPC, the text formats also as `.gz` and
//! `.zst`. Each file becomes a table named after it. Delimiter, header and types of text
//! files are sniffed by DuckDB; a value further down that doesn't fit, or a row of another
//! length, is an error naming file and line, or makes its column text and its row filled up,
//! as the caller chooses. Packed files are checked to be whole. A file whose content is what
//! it was at the last run is not read again.
//!
//! A column of a CSV file stays text where its type would lose something of one of the first
//! 20,480 values: digits with leading zeros or more of them than 64 bits hold (postal codes,
//! numbers of accounts), dates like 01/02/2026 where no value shows which part is the month,
//! years of two digits, `no` for false. Moments without a time zone beside others with one are
//! taken as UTC. Quotes are `"`.

mod csv;
mod dialect;
mod inputs;
mod json;
mod mistake;
mod read;
mod records;
mod sample;
mod strict;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize as _;

use inputs::{Input, Inputs};

use crate::connector::{Connector, ConnectorReport, Job, TableOutcome, TableStatus};
use crate::disk::Disk;
use crate::extract::{ExtractWriter, WriteMode};
use crate::{Error, Key, Kind, Limits, Result, TableName};

/// What to do about a value that doesn't fit the type that the rows before it showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mistakes {
    /// The file fails, with an error that names the line.
    #[default]
    Fail,
    /// The column is read as text.
    Text,
}

/// How a text file writes its characters as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub enum Encoding {
    /// UTF-8.
    #[serde(rename = "utf-8")]
    Utf8,
    /// UTF-16, the least significant byte first.
    #[serde(rename = "utf-16")]
    Utf16,
    /// ISO 8859-1: one byte for each character.
    #[serde(rename = "latin-1")]
    Latin1,
}

impl Encoding {
    /// The encoding as DuckDB and the command name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Utf8 => "utf-8",
            Encoding::Utf16 => "utf-16",
            Encoding::Latin1 => "latin-1",
        }
    }
}

/// How files are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesOptions {
    /// What to do about values that don't fit.
    pub mistakes: Mistakes,
    /// Take out the tables whose files were not given.
    pub prune: bool,
    /// The encoding of CSV and TSV files. What a byte order mark says when absent, or UTF-8.
    pub encoding: Option<Encoding>,
    /// What separates the values of CSV files. Sniffed when absent; `.tsv` files have tabs.
    pub delimiter: Option<char>,
    /// Whether the first row of CSV and TSV files names the columns. Sniffed when absent:
    /// DuckDB takes it for names where its types differ from those of the rows below.
    pub header: Option<bool>,
}

impl FilesOptions {
    /// A delimiter that a value may hold would divide it.
    fn check(&self) -> Result<()> {
        match self.delimiter {
            Some(c) if c.is_alphanumeric() || matches!(c, '"' | '\'' | '\n' | '\r' | '\0') => {
                Err(Error::new(
                    Kind::Invalid,
                    format!(
                        "`{}` can't separate values; choose a sign like `;`",
                        c.escape_default()
                    ),
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Makes one source of a folder or of some files.
#[derive(Debug, Clone)]
pub struct FilesConnector {
    paths: Vec<PathBuf>,
    options: FilesOptions,
    limits: Limits,
    disk: Disk,
}

impl FilesConnector {
    /// The table that a file would become, by its name; none for one that isn't read.
    pub(crate) fn table_of(file_name: &str) -> Option<TableName> {
        inputs::table_of(file_name)
    }

    /// A connector over these files and the files in these folders.
    pub fn new(paths: Vec<PathBuf>, options: FilesOptions) -> Self {
        FilesConnector { paths, options, limits: Limits::default(), disk: Disk::real() }
    }

    /// A connector of a source's configuration: `paths` (required), `mistakes` (`fail` or
    /// `text`), `prune`, `encoding` (`utf-8`, `utf-16`, `latin-1`), `delimiter`, `header`.
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn from_config(config: &serde_json::Value, base_dir: &Path) -> Result<Self> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Config {
            paths: Vec<PathBuf>,
            #[serde(default)]
            mistakes: Mistakes,
            #[serde(default)]
            prune: bool,
            encoding: Option<Encoding>,
            delimiter: Option<char>,
            header: Option<bool>,
        }
        let config = Config::deserialize(config).map_err(|e| {
            Error::new(Kind::Invalid, format!("the configuration of the files connector: {e}"))
        })?;
        let paths = config.paths.iter().map(|path| base_dir.join(path)).collect();
        let Config { mistakes, prune, encoding, delimiter, header, .. } = config;
        let options = FilesOptions { mistakes, prune, encoding, delimiter, header };
        Ok(FilesConnector::new(paths, options))
    }

    /// The same with other limits for the engine that reads the files.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

impl Connector for FilesConnector {
    /// # Errors
    /// `NotFound` for a path that isn't there; `Conflict` when two files would be one
    /// table; `Invalid` when there is nothing to read.
    fn extract(&self, job: &Job<'_>) -> Result<ConnectorReport> {
        self.options.check()?;
        let Inputs { files, ignored } = Inputs::find(&self.paths)?;
        let mut writer =
            ExtractWriter::begin_on(job.folder, WriteMode::Partial, job.now, self.disk.clone())?
                .with_limits(self.limits.clone());
        let mut report = ConnectorReport { tables: Vec::new(), ignored };
        if let Some(error) = writer.lost() {
            report.ignored.push(format!(
                "the extract as it stood, which is written anew: {}",
                error.message()
            ));
        }
        let due = |input: &Input| job.tables.is_none_or(|due| due.contains(&input.table));
        let wanted: Vec<&Input> = files.iter().filter(|input| due(input)).collect();
        job.progress.start("reading files", wanted.len() as u64);
        for input in wanted {
            let outcome = self.one(input, &mut writer);
            report.tables.push(outcome);
            job.progress.step(1);
        }
        if job.tables.is_none() {
            self.gone(&files, &mut writer, &mut report);
        }
        if report.changed() {
            writer.finish()?;
        }
        Ok(report)
    }
}

impl FilesConnector {
    /// Brings one table up to its file.
    fn one(&self, input: &Input, writer: &mut ExtractWriter) -> TableOutcome {
        let existed = writer.rows(&input.table).is_some();
        let mut outcome = TableOutcome {
            table: input.table.clone(),
            from: Some(input.path.display().to_string()),
            rows: 0,
            status: TableStatus::Failed,
            error: None,
        };
        match self.read_if_changed(input, writer) {
            Ok(true) if existed => outcome.status = TableStatus::Replaced,
            Ok(true) => outcome.status = TableStatus::Created,
            Ok(false) => outcome.status = TableStatus::Unchanged,
            Err(error) => {
                let error =
                    error.with(Key::Table, &input.table).with(Key::Path, input.path.display());
                outcome.error = Some(Arc::new(error));
            }
        }
        outcome.rows = writer.rows(&input.table).unwrap_or(0);
        outcome
    }

    /// Says whether the table was written.
    fn read_if_changed(&self, input: &Input, writer: &mut ExtractWriter) -> Result<bool> {
        let before = input.fingerprint()?;
        let noted = writer.noted_input(&input.table).map(String::from);
        // A file that was never read is hashed while it is read.
        let note = match noted {
            Some(noted) => {
                let note = self.note(input)?;
                if note == noted {
                    return Ok(false);
                }
                self.read(input, writer)?;
                note
            }
            None => std::thread::scope(|scope| {
                let hash = scope.spawn(|| self.note(input));
                self.read(input, writer)?;
                hash.join().unwrap_or_else(|_| Err(Error::internal("hashing a file failed")))
            })?,
        };
        if input.fingerprint()? != before {
            return Err(Error::new(
                Kind::Unavailable,
                format!("`{}` changed while it was read; run it again", input.path.display()),
            ));
        }
        writer.note_input(&input.table, &note);
        Ok(true)
    }

    fn read(&self, input: &Input, writer: &mut ExtractWriter) -> Result<()> {
        let connection = writer.engine()?;
        strict::register(&connection)?;
        // Without ICU there are no time zones to choose from.
        let _ = connection.execute_batch("SET TimeZone = 'UTC'");
        read::read(input, &self.options, &connection, writer)
    }

    /// What decides about a table's rows: the file's content and how it is read.
    fn note(&self, input: &Input) -> Result<String> {
        /// Goes up when the same file would be read into something else.
        const READER: u32 = 3;
        let mut hasher = blake3::Hasher::new();
        std::fs::File::open(&input.path)
            .and_then(|file| hasher.update_reader(file).map(drop))
            .map_err(|e| Error::io("read", &input.path, e))?;
        let mistakes = match self.options.mistakes {
            Mistakes::Fail => "fail",
            Mistakes::Text => "text",
        };
        let FilesOptions { encoding, delimiter, header, .. } = &self.options;
        let mut note = format!("{}/{READER}/{mistakes}", hasher.finalize().to_hex());
        for (name, value) in [
            ("encoding", encoding.map(|encoding| encoding.as_str().to_string())),
            ("delimiter", delimiter.map(String::from)),
            ("header", header.map(|header| header.to_string())),
        ] {
            if let Some(value) = value {
                note.push_str(&format!("/{name}={value}"));
            }
        }
        Ok(note)
    }

    /// Reports the tables whose file was not given, or takes them out.
    fn gone(&self, files: &[Input], writer: &mut ExtractWriter, report: &mut ConnectorReport) {
        let gone: Vec<TableName> = writer
            .kept()
            .filter(|name| !files.iter().any(|input| input.table == **name))
            .cloned()
            .collect();
        for table in gone {
            let rows = writer.rows(&table).unwrap_or(0);
            let status = if self.options.prune {
                writer.remove(&table);
                TableStatus::Removed
            } else {
                TableStatus::Gone
            };
            report.tables.push(TableOutcome { table, from: None, rows, status, error: None });
        }
    }
}
