//! Reading an extract's database, which anybody may have written: in this process, or in workers, which
//! are all that a corrupt one takes along.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{
    DATABASE_MAX_BYTES, Extract, RemoteAttach, Skipped, Table, contract, list_files, meta,
    open_folder, skipped, view,
};
use crate::disk::Fingerprint;
use crate::layout::{DATA, EXTRACT_DB};
use crate::query::tree::{self, Tree};
use crate::sql::{self, ColumnType, Sql};
use crate::worker::{Fate, Foreign, Pool};
use crate::{AttachAlias, ColumnName, Error, Key, Kind, Result, SourceName, TableName, engine};

/// What opens extracts' databases, one at a time, and nothing else.
pub(crate) enum Reader {
    /// In this process.
    Here(Foreign),
    /// Each in workers of its own: whatever takes one over says nothing of another source.
    Workers(Arc<Pool>),
}

/// What an extract's database and the texts in it may take.
const LIMITS: engine::Limits = engine::Limits { memory_bytes: 1 << 30, threads: 1 };
/// How long all answers of one worker about an extract may take: a hundred thousand views, the most
/// that one has, are parsed in a minute.
const PATIENCE: Duration = Duration::from_secs(120);

impl Reader {
    /// A reader for the extracts in these folders, in workers where there are workers.
    pub(crate) fn over<'p>(
        folders: impl IntoIterator<Item = &'p Path>,
        pool: Option<&Arc<Pool>>,
    ) -> Result<Reader> {
        if let Some(pool) = pool {
            return Ok(Reader::Workers(pool.clone()));
        }
        let files = folders.into_iter().flat_map(database_files).collect();
        Ok(Reader::Here(Foreign::open(None, &LIMITS, PATIENCE, files, None)?))
    }

    fn open(&self, folder: &Path) -> Result<Opened<'_>> {
        match self {
            Reader::Here(engine) => Ok(Opened::Here(engine)),
            Reader::Workers(pool) => {
                let files = database_files(folder).to_vec();
                let engine = Foreign::open(Some(pool), &LIMITS, PATIENCE, files, None)?;
                let (parser, writer) = (OnceCell::new(), OnceCell::new());
                Ok(Opened::Worker { engine, parser, writer, pool })
            }
        }
    }
}

/// The files of an extract's database: a log beside it is part of it.
pub(super) fn database_files(folder: &Path) -> [PathBuf; 2] {
    let database = folder.join(EXTRACT_DB);
    [crate::disk::with_suffix(&database, ".wal"), database]
}

/// What has opened the database of one extract.
pub(crate) enum Opened<'r> {
    Here(&'r Foreign),
    Worker {
        engine: Foreign,
        /// Made when the first view has to be parsed.
        parser: OnceCell<Foreign>,
        /// Made when the text of a view is written that runs outside of a worker.
        writer: OnceCell<Foreign>,
        pool: &'r Arc<Pool>,
    },
}

impl Opened<'_> {
    /// Reads the database.
    pub(crate) fn engine(&self) -> &Foreign {
        match self {
            Opened::Here(engine) => engine,
            Opened::Worker { engine, .. } => engine,
        }
    }

    /// Turns texts into trees and back. It has never seen the file: what a rebuild believes of a
    /// view's text is told by nobody whom the file may have taken over.
    pub(crate) fn parser(&self) -> Result<&Foreign> {
        match self {
            Opened::Here(engine) => Ok(engine),
            Opened::Worker { parser, pool, .. } => made(parser, pool),
        }
    }

    /// Turns trees that were judged into texts. It has never seen a text of the extract, which could
    /// have taken it over: what it writes is bound in this process.
    pub(super) fn writer(&self) -> Result<&Foreign> {
        match self {
            Opened::Here(engine) => Ok(engine),
            Opened::Worker { writer, pool, .. } => made(writer, pool),
        }
    }

    /// What has ended a worker, if anything has.
    fn fate(&self) -> Option<Fate> {
        match self {
            Opened::Here(_) => None,
            Opened::Worker { engine, parser, writer, .. } => {
                let others = [parser.get(), writer.get()].into_iter().flatten();
                std::iter::once(engine).chain(others).find_map(Foreign::fate)
            }
        }
    }
}

/// One that reaches no file.
fn made<'w>(worker: &'w OnceCell<Foreign>, pool: &Arc<Pool>) -> Result<&'w Foreign> {
    if let Some(made) = worker.get() {
        return Ok(made);
    }
    let made = Foreign::open(Some(pool), &LIMITS, PATIENCE, Vec::new(), None)?;
    Ok(worker.get_or_init(|| made))
}

impl Reader {
    /// Names and types of the columns of each view that was bound when it was made.
    pub(crate) fn stored_columns(&self, folder: &Path) -> Result<StoredColumns> {
        let opened = self.open(folder)?;
        let engine = opened.engine();
        engine.execute("open the extract", &sql::attach_extract(&folder.join(EXTRACT_DB))?)?;
        let _attached = Attached(engine);
        let rows = engine.texts("list the columns of the extract", sql::EXTRACT_COLUMNS)?;
        let mut columns = StoredColumns::new();
        for row in rows {
            let [Some(table), Some(name), Some(kind)] = meta::cells(row) else { continue };
            if let Ok(table) = TableName::parse(table) {
                columns.entry(table).or_default().push((name, kind));
            }
        }
        Ok(columns)
    }

    /// What stands in for the remote table of a view that is nothing but `SELECT *` from it.
    pub(crate) fn stand_in(
        &self,
        folder: &Path,
        query: &Sql,
        columns: &[(String, String)],
    ) -> Option<Vec<Sql>> {
        let opened = self.open(folder).ok()?;
        let tree = Tree::parse_long(opened.parser().ok()?, query.as_str(), view::VIEW_MAX).ok()?;
        let name = tree::name_parts(tree.plain_source()?);
        let (alias, path) = name.split_first()?;
        let path = path.iter().map(|part| ColumnName::parse(part.clone()).ok());
        let columns = columns.iter().map(|(name, kind)| {
            Some((ColumnName::parse(name.clone()).ok()?, ColumnType::parse(kind).ok()?))
        });
        let alias = AttachAlias::parse(alias.clone()).ok()?;
        let (path, columns): (Vec<_>, Vec<_>) =
            (path.collect::<Option<_>>()?, columns.collect::<Option<_>>()?);
        Some(sql::stand_in(&alias, &path, &columns))
    }
}

/// Names and types of columns, by table.
pub(crate) type StoredColumns = BTreeMap<TableName, Vec<(String, String)>>;

/// Attached while an extract is read.
struct Attached<'r>(&'r Foreign);

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        // A next extract under the same name fails to attach, and says so.
        let _ = self.0.execute("close the extract", &sql::detach_extract());
    }
}

/// One reading; nothing when the extract was replaced meanwhile.
pub(super) fn scan_once(
    source: &SourceName,
    path: &Path,
    reader: &Reader,
) -> Result<Option<Extract>> {
    let folder = open_folder(source, path)?;
    let files = list_files(source, &folder)?;
    let database = path.join(EXTRACT_DB);
    let broken = |what: String| {
        contract(format!("`{EXTRACT_DB}` of `{source}` {what}; let the connector write it again"))
            .with(Key::Source, source)
            .with(Key::Path, database.display())
    };
    let size = files.get(Path::new(EXTRACT_DB)).map_or(0, |f| f.size);
    let file = match folder.open_file(Path::new(EXTRACT_DB)) {
        Ok(file) => file,
        // It was there when the files were listed.
        Err(_) => return Ok(None),
    };
    let mut head = [0u8; 64];
    let read = std::os::unix::fs::FileExt::read_at(&file, &mut head, 0).unwrap_or(0);
    engine::check_header(head.get(..read).unwrap_or(&[]), size).map_err(&broken)?;
    if size > DATABASE_MAX_BYTES {
        return Err(broken(format!(
            "has {size} bytes, more than the {DATABASE_MAX_BYTES} that are opened; \
             data belongs into parquet files below `{DATA}/`"
        )));
    }
    drop(file);

    let opened = reader.open(path)?;
    let read = read_database(&opened, source, path, &files, &broken);
    // Whatever was read of it: what an ended worker didn't tell is missing.
    let (tables, attaches, left_out) = match opened.fate() {
        None => read?,
        Some(Fate::Crashed) => return Err(broken("ends the engine that reads it".to_string())),
        Some(Fate::Time | Fate::Memory | Fate::Killed) => {
            let why = read.err().map_or(String::new(), |error| format!(": {}", error.message()));
            return Err(Error::new(
                Kind::Unavailable,
                format!("the extract of `{source}` couldn't be read to its end{why}; try again"),
            )
            .with(Key::Source, source));
        }
    };

    // The same files as before, under the same path: what was read belongs together.
    let again = match open_folder(source, path).and_then(|folder| list_files(source, &folder)) {
        Ok(files) => files,
        Err(_) => return Ok(None),
    };
    Ok((again == files).then(|| Extract {
        source: source.clone(),
        folder: path.to_path_buf(),
        tables,
        skipped: left_out,
        attaches,
        files,
    }))
}

/// What a database says: its tables, the systems that it attaches, and what is left out of it.
type Said = (Vec<Table>, Vec<RemoteAttach>, Vec<Skipped>);

/// Reads the database of an extract.
fn read_database(
    opened: &Opened<'_>,
    source: &SourceName,
    path: &Path,
    files: &BTreeMap<PathBuf, Fingerprint>,
    broken: &dyn Fn(String) -> Error,
) -> Result<Said> {
    let engine = opened.engine();
    let attach = sql::attach_extract(&path.join(EXTRACT_DB))?;
    if let Err(error) = engine.execute("open the extract", &attach) {
        let text = error.message();
        if engine::is_lock_conflict(text) {
            let holder =
                engine::lock_holder(text).map_or(String::new(), |pid| format!(" (process {pid})"));
            return Err(Error::new(
                Kind::Unavailable,
                format!("the extract of `{source}` is being written{holder}; try again when that has ended"),
            )
            .with(Key::Source, source));
        }
        return Err(broken(format!("can't be opened: {text}")));
    }
    let _attached = Attached(engine);
    let unreadable = |e: Error| match e.kind() {
        Kind::Unavailable => e,
        _ => broken(format!("can't be read: {}", e.message())),
    };

    let meta = meta::read(engine, source)?;
    let objects = view::Objects::read(opened, path, source, files).map_err(unreadable)?;
    let meta::Meta { rows, attaches, skipped: mut left_out } = meta;
    let mut tables = Vec::with_capacity(rows.len());
    for row in rows {
        match objects.content(opened, &row, &attaches) {
            Ok(content) => tables.push(Table { meta: row, content }),
            Err(error) => left_out.push(skipped(source, row.name.as_str(), error)),
        }
    }
    tables.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
    Ok((tables, attaches, left_out))
}
