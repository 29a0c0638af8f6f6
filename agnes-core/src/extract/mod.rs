//! Extracts: the folders in which connectors leave data, and the contract that they obey.
//!
//! An extract is a folder with an `extract.duckdb` (what there is: `_meta`, maybe
//! `_remote_attach`, one view or table for each published name) beside `data/` (parquet
//! files). Anybody may write one, in any language; `docs/contract.md` has the rules.
//!
//! That makes opening one an encounter with untrusted input. An extract is code, not data:
//! its views hold SQL. So [`Extract::open`] never runs a foreign view. It reads the view's
//! text through the guard and tells what it is: exactly a few of the extract's own files,
//! a query over them that can be exported, a table in a remote system, or something that
//! reads elsewhere, which is skipped by name.
//!
//! Invariants:
//! - only regular files beneath the extract's folder count, opened without following links;
//! - a fault of one table is a [`Skipped`] that names it and the cure; a fault of the whole
//!   is an `Err`; nothing in between is half used;
//! - what is published is written aside and moved into place ([`ExtractWriter`]).

mod export;
mod meta;
pub(crate) mod parquet;
mod reader;
mod view;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use meta::{QueryMode, RemoteAttach};
pub(crate) use reader::{Opened, Reader, StoredColumns};
use reader::{database_files, scan_once};
pub use write::{
    Codec, ExtractWriter, ParquetOptions, RemoteTable, TableWriter, WriteMode, WriteReport,
};

use crate::disk::{Fingerprint, Folder};
use crate::layout::{DATA, EXTRACT_DB};
use crate::sql::Sql;
use crate::{AttachAlias, Error, Key, Kind, Result, SourceName, TableName, Timestamp};

pub(crate) use export::export;
pub(crate) use meta::MetaRow;

/// The largest `extract.duckdb` that is opened, bytes. Data belongs into parquet files.
pub const DATABASE_MAX_BYTES: u64 = 16 << 30;
/// The most rows that are read from `_meta`.
pub const TABLES_MAX: usize = 100_000;
/// How deep the folders below `data/` may be nested.
const DATA_DEPTH: usize = 8;

/// An extract that was looked at: what it publishes and what is wrong with it.
#[derive(Debug, Clone)]
pub struct Extract {
    pub(crate) source: SourceName,
    pub(crate) folder: PathBuf,
    pub(crate) tables: Vec<Table>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) attaches: Vec<RemoteAttach>,
    /// `extract.duckdb` and every file below `data/`, as they were when it was read.
    pub(crate) files: BTreeMap<PathBuf, Fingerprint>,
}

/// A table that an extract publishes.
#[derive(Debug, Clone)]
pub struct Table {
    pub(crate) meta: MetaRow,
    pub(crate) content: Content,
}

/// Something that was left out, and why.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Skipped {
    /// The source that it belongs to.
    pub source: String,
    /// The table, as the extract spells it; absent when it is the whole source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// What is wrong and what helps.
    pub error: Arc<Error>,
}

/// Where a table's rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Exactly these parquet files, relative to the extract's folder.
    Files {
        /// Sorted as the view names them.
        files: Vec<PathBuf>,
        /// Whether columns are matched by name over all files.
        by_name: bool,
    },
    /// A query over the extract's own files and tables, to be exported by a rebuild.
    Export(Export),
    /// A table in a remote system.
    Remote {
        /// The view's query, over the extract's own aliases alone.
        query: Sql,
        /// The aliases that it reads from.
        aliases: Vec<AttachAlias>,
    },
}

/// A query whose rows are written into a parquet file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Export {
    /// The queries of the views that it stands on, each after those that it needs itself.
    pub(crate) views: Vec<(TableName, Sql)>,
    /// The query itself.
    pub(crate) query: Sql,
    /// The parquet files that it reads, relative to the extract's folder.
    pub(crate) files: Vec<PathBuf>,
    /// Whether it reads tables of `extract.duckdb` itself.
    pub(crate) tables: bool,
}

impl Table {
    /// Its name, as `_meta` spells it.
    pub fn name(&self) -> &TableName {
        &self.meta.name
    }

    /// What `_meta` says about it.
    pub fn description(&self) -> Option<&str> {
        self.meta.description.as_deref()
    }

    /// The number of rows that `_meta` claims.
    pub fn rows(&self) -> u64 {
        self.meta.rows
    }

    /// The number of bytes that `_meta` claims.
    pub fn size_bytes(&self) -> u64 {
        self.meta.size_bytes
    }

    /// When the connector read it from its source.
    pub fn extracted_at(&self) -> Option<Timestamp> {
        self.meta.extracted_at
    }

    /// Whether its rows are here or in a remote system.
    pub fn query_mode(&self) -> QueryMode {
        self.meta.query_mode
    }

    /// The parquet files that hold its rows, relative to the extract's folder.
    pub fn files(&self) -> &[PathBuf] {
        match &self.content {
            Content::Files { files, .. } => files,
            Content::Export(export) => &export.files,
            Content::Remote { .. } => &[],
        }
    }
}

impl Extract {
    /// Looks at the extract in `folder` and at every parquet file that its tables use.
    ///
    /// The source is named after the folder.
    ///
    /// # Errors
    /// `Contract` when the folder is no extract or its `extract.duckdb` is broken;
    /// `Unavailable` when a connector is writing it right now.
    pub fn open(folder: &Path) -> Result<Extract> {
        let absolute =
            std::path::absolute(folder).map_err(|e| Error::io("use the folder", folder, e))?;
        // `.` and a trailing `/` have no name of their own.
        let absolute = absolute.canonicalize().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::new(
                Kind::NotFound,
                format!("there is no folder `{}`; check the path", folder.display()),
            )
            .with(Key::Path, folder.display()),
            _ => Error::io("open the folder", folder, e),
        })?;
        let name = absolute.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let source = SourceName::parse(name).map_err(|e| {
            contract(format!("the extract's folder names its source, but {}", e.message()))
        })?;
        let reader = Reader::over([absolute.as_path()], None)?;
        let mut extract = Extract::scan(&source, &absolute, &reader)?;
        extract.check_files()?;
        Ok(extract)
    }

    /// Looks at what the extract publishes; its parquet files are only listed.
    pub(crate) fn scan(source: &SourceName, folder: &Path, reader: &Reader) -> Result<Extract> {
        let mut tries = 3;
        loop {
            match scan_once(source, folder, reader)? {
                Some(extract) => return Ok(extract),
                None if tries > 1 => tries -= 1,
                None => {
                    return Err(Error::new(
                        Kind::Unavailable,
                        format!(
                            "the extract of `{source}` was replaced while it was read; try again"
                        ),
                    )
                    .with(Key::Source, source));
                }
            }
        }
    }

    /// Checks each parquet file; a table with a broken one moves to the skipped.
    fn check_files(&mut self) -> Result<()> {
        let folder = Folder::open(&self.folder)
            .map_err(|e| Error::io("open the folder", &self.folder, e))?;
        let mut broken: BTreeMap<&Path, String> = BTreeMap::new();
        for file in self.tables.iter().flat_map(Table::files) {
            let checked = folder
                .open_file(file)
                .map_err(|e| format!("can't be opened: {e}"))
                .and_then(|f| parquet::check(&f));
            if let Err(fault) = checked {
                broken.insert(file, fault);
            }
        }
        let mut kept = Vec::new();
        for table in &self.tables {
            match table.files().iter().find_map(|f| Some((f, broken.get(f.as_path())?))) {
                None => kept.push(table.clone()),
                Some((file, fault)) => {
                    let error = bad_file(&self.source, table.name().as_str(), file, fault);
                    self.skipped.push(skipped(&self.source, table.name().as_str(), error));
                }
            }
        }
        self.tables = kept;
        Ok(())
    }

    /// The source that the extract belongs to.
    pub fn source(&self) -> &SourceName {
        &self.source
    }

    /// The folder that was read.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The tables that can be published, sorted by name.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// What `_meta` names but can't be published, with the reason for each.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The rows of `_remote_attach` whose names are valid.
    pub fn attaches(&self) -> &[RemoteAttach] {
        &self.attaches
    }
}

/// Refuses the names of the contract's own tables, in which an extract tells of its others.
pub(crate) fn check_table_name(name: &TableName) -> Result<()> {
    if !["_meta", "_remote_attach"].iter().any(|own| name.as_str().eq_ignore_ascii_case(own)) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Invalid,
        format!("no table can be called `{name}`, where an extract tells of its tables; rename it"),
    )
    .with(Key::Table, name))
}

pub(crate) fn contract(message: impl Into<String>) -> Error {
    Error::new(Kind::Contract, message)
}

pub(crate) fn skipped(source: &SourceName, table: &str, error: Error) -> Skipped {
    let table = crate::name::shown(table).into_owned();
    Skipped {
        source: source.to_string(),
        error: Arc::new(error.with(Key::Source, source).with(Key::Table, &table)),
        table: Some(table),
    }
}

/// A parquet file that can't be used, as an error of its table.
pub(crate) fn bad_file(source: &SourceName, table: &str, file: &Path, fault: &str) -> Error {
    contract(format!(
        "the table `{table}` of `{source}` is left out: its file `{}` {fault}; \
         let the connector write it again",
        file.display()
    ))
    .with(Key::Path, file.display())
}

/// The files of an extract as they are now, or why it is none.
pub(crate) fn list_files(
    source: &SourceName,
    folder: &Folder,
) -> Result<BTreeMap<PathBuf, Fingerprint>> {
    let database = Path::new(EXTRACT_DB);
    let file = folder.open_file(database).map_err(|e| {
        let what = match e.kind() {
            std::io::ErrorKind::NotFound => format!("has no `{EXTRACT_DB}`"),
            _ if is_link(&e) || e.kind() == std::io::ErrorKind::InvalidInput => format!(
                "has a `{EXTRACT_DB}` that is no regular file; links are not followed, so put \
                 the file itself there"
            ),
            _ => format!("has a `{EXTRACT_DB}` that can't be opened: {e}"),
        };
        contract(format!("the folder of `{source}` {what}"))
            .with(Key::Source, source)
            .with(Key::Path, folder.path().join(database).display())
    })?;
    let path = folder.path();
    let listed = folder.list(Path::new(DATA), DATA_DEPTH);
    let mut files: BTreeMap<PathBuf, Fingerprint> = listed
        .map_err(|e| match is_link(&e) || e.kind() == std::io::ErrorKind::NotADirectory {
            true => contract(format!(
                "the `{DATA}` of `{source}` is no folder; links are not followed, so move or \
                 mount the folder itself there"
            )),
            false => Error::io("list the files of", path, e),
        })
        .map_err(|e| e.with(Key::Source, source))?
        .into_iter()
        .collect();
    // A log that a killed writer left is part of the database.
    let log = crate::disk::with_suffix(database, ".wal");
    let log_file = match folder.open_file(&log) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        // The engine would follow a link, and wait for a pipe.
        Err(_) => {
            return Err(contract(format!(
                "the folder of `{source}` has a `{}` that is no regular file; remove it",
                log.display()
            ))
            .with(Key::Source, source));
        }
        Ok(file) => Some(file),
    };
    for (name, file) in [(database, Some(file)), (log.as_path(), log_file)] {
        let Some(file) = file else { continue };
        let fingerprint = Fingerprint::of(&file).map_err(|e| Error::io("look at", path, e))?;
        files.insert(name.to_path_buf(), fingerprint);
    }
    Ok(files)
}

/// Whether opening failed because of a link on the way.
fn is_link(error: &std::io::Error) -> bool {
    [rustix::io::Errno::LOOP, rustix::io::Errno::MLINK]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Opens the folder of a source.
pub(crate) fn open_folder(source: &SourceName, path: &Path) -> Result<Folder> {
    Folder::open(path).map_err(|e| {
        let error = match e.kind() {
            _ if is_link(&e) || e.kind() == std::io::ErrorKind::NotADirectory => contract(format!(
                "`{}` is no folder; links are not followed, so move or mount the folder \
                     itself there",
                path.display()
            )),
            _ => Error::io("open the folder", path, e),
        };
        error.with(Key::Source, source).with(Key::Path, path.display())
    })
}
