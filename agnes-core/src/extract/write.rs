//! Writing a whole extract, so that a reader sees the old one or the new one.
//!
//! A writer fills a folder beside the extract, checks and flushes it, and swaps the two
//! folders in one step. A killed writer leaves a folder that the next one clears away.

mod database;
mod publish;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use duckdb::Connection;

pub use table::TableWriter;

use super::{
    Content, Extract, MetaRow, QueryMode, Reader, RemoteAttach, StoredColumns, Table, contract,
    parquet as check,
};
use crate::connector::{ConnectorReport, TableOutcome, TableStatus};
use crate::disk::{Disk, FileLock};
use crate::layout::{DATA, EXTRACT_DB};
use crate::orchestrator::View;
use crate::sql::{self, ColumnType, Sql};
use crate::{
    AttachAlias, ColumnName, Error, ExternalName, Key, Kind, Result, SourceName, TableName,
    Timestamp, engine,
};

/// How parquet files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Small files, fast to read; the default.
    Zstd,
    /// Larger files, a little faster to write.
    Snappy,
    /// No compression.
    Uncompressed,
}

/// How parquet files are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetOptions {
    /// The compression.
    pub codec: Codec,
    /// Rows of a row group.
    pub row_group_rows: usize,
}

impl Default for ParquetOptions {
    /// zstd, 122,880 rows: DuckDB's own row group.
    fn default() -> Self {
        ParquetOptions { codec: Codec::Zstd, row_group_rows: 122_880 }
    }
}

/// What happens to the tables that a writer doesn't touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// They go: the extract holds what was written, nothing else.
    Replace,
    /// They stay as they are: a sync of some tables.
    Partial,
}

impl WriteMode {
    /// The mode of a word: `replace` or `partial`.
    ///
    /// # Errors
    /// `Invalid` for any other.
    pub fn of(word: &str) -> Result<Self> {
        match word {
            "replace" => Ok(WriteMode::Replace),
            "partial" => Ok(WriteMode::Partial),
            _ => Err(Error::new(
                Kind::Invalid,
                format!("`mode` is `replace` or `partial`, not `{}`", word.escape_debug()),
            )),
        }
    }
}

/// What a writer did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct WriteReport {
    /// Tables that were written.
    pub written: Vec<TableName>,
    /// Tables that were kept from before.
    pub kept: Vec<TableName>,
    /// Tables that are no more.
    pub removed: Vec<TableName>,
}

/// A table in a remote system.
#[derive(Debug, Clone)]
pub struct RemoteTable {
    /// The alias under which `_remote_attach` attaches the system.
    pub alias: AttachAlias,
    /// Schema and table, as the system names them.
    pub path: Vec<ColumnName>,
    /// Names and DuckDB types of its columns, where the connector knows them. Without them
    /// DuckDB clients before 1.5 can't use the view.
    pub columns: Vec<(ColumnName, String)>,
    /// Rows, where the system tells.
    pub rows: u64,
    /// Bytes, where the system tells.
    pub size_bytes: u64,
}

impl RemoteTable {
    /// Of texts that are checked here; how large it is isn't known.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn of(
        alias: String,
        path: Vec<String>,
        columns: Vec<(String, String)>,
    ) -> Result<RemoteTable> {
        let column = |(name, kind)| Ok((ColumnName::parse(name)?, kind));
        Ok(RemoteTable {
            alias: AttachAlias::parse(alias)?,
            path: path.into_iter().map(ColumnName::parse).collect::<Result<_>>()?,
            columns: columns.into_iter().map(column).collect::<Result<_>>()?,
            rows: 0,
            size_bytes: 0,
        })
    }
}

/// A table as it will stand in the new extract.
#[derive(Debug)]
struct Entry {
    description: Option<String>,
    rows: u64,
    size_bytes: u64,
    extracted_at: Option<Timestamp>,
    query_mode: QueryMode,
    input_hash: Option<String>,
    body: Body,
    kept: bool,
}

#[derive(Debug)]
enum Body {
    /// Files relative to the folder.
    Files {
        files: Vec<PathBuf>,
        by_name: bool,
    },
    Remote {
        query: Sql,
        stand_in: Vec<Sql>,
    },
}

/// Writes one extract. Nothing is seen of it before [`ExtractWriter::finish`] returns.
///
/// One writer at a time for each source: a second one gets `Unavailable`.
///
/// ```
/// use agnes_core::extract::{Extract, ExtractWriter, WriteMode};
/// use agnes_core::{TableName, Timestamp};
///
/// # let dir = tempfile::tempdir().unwrap();
/// let folder = dir.path().join("extracts/crm");
/// let mut writer = ExtractWriter::begin(&folder, WriteMode::Replace, Timestamp::from_micros(0))?;
/// let orders = TableName::parse("orders")?;
/// writer.table_from_sql(&orders, "SELECT range AS id, range * 1.5 AS total FROM range(10)")?;
/// writer.describe(&orders, "one row for each order");
/// writer.finish()?;
///
/// let extract = Extract::open(&folder)?;
/// assert_eq!(extract.tables()[0].rows(), 10);
/// # Ok::<(), agnes_core::Error>(())
/// ```
#[derive(Debug)]
pub struct ExtractWriter {
    source: SourceName,
    folder: PathBuf,
    aside: PathBuf,
    now: Timestamp,
    disk: Disk,
    limits: engine::Limits,
    engine: Option<Connection>,
    options: ParquetOptions,
    entries: BTreeMap<TableName, Entry>,
    /// Kept tables that are being written anew: they come back if that fails.
    replaced: BTreeMap<TableName, Entry>,
    attaches: Vec<RemoteAttach>,
    removed: Vec<TableName>,
    lost: Option<Error>,
    finished: bool,
    _lock: FileLock,
}

impl ExtractWriter {
    /// Starts the extract in `folder`, whose last part names the source.
    ///
    /// `now` is what `_meta.extracted_at` will say of the tables that are written.
    ///
    /// # Errors
    /// `Invalid` for a folder whose name is no source name; `Unavailable` while another
    /// writer works on the same source, or when the disk can't be written.
    pub fn begin(folder: &Path, mode: WriteMode, now: Timestamp) -> Result<Self> {
        ExtractWriter::begin_on(folder, mode, now, Disk::real())
    }

    /// The same on a disk that may fail, for tests.
    ///
    /// # Errors
    /// As [`ExtractWriter::begin`].
    pub fn begin_on(folder: &Path, mode: WriteMode, now: Timestamp, disk: Disk) -> Result<Self> {
        let folder =
            std::path::absolute(folder).map_err(|e| Error::io("use the folder", folder, e))?;
        let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let source = SourceName::parse(name)?;
        let home = folder
            .parent()
            .ok_or_else(|| Error::new(Kind::Invalid, "an extract needs a folder to stand in"))?;
        disk.create_folder(home)?;
        let lock = FileLock::take(
            &home.join(format!(".{source}.lock")),
            &format!("another writer of the source `{source}`"),
            Duration::from_millis(100),
        )
        .map_err(|e| e.with(Key::Source, &source))?;
        publish::clear_leftovers(home, &source, &folder)?;
        let aside = home.join(format!(".{source}.new"));
        disk.create_folder(&aside.join(DATA))?;
        let mut writer = ExtractWriter {
            source,
            folder,
            aside,
            now,
            disk,
            limits: engine::Limits::default(),
            engine: None,
            options: ParquetOptions::default(),
            entries: BTreeMap::new(),
            replaced: BTreeMap::new(),
            attaches: Vec::new(),
            removed: Vec::new(),
            lost: None,
            finished: false,
            _lock: lock,
        };
        if mode == WriteMode::Partial {
            writer.keep_all()?;
        } else if let Some((_, before)) = writer.before()? {
            writer.removed = before.tables.iter().map(|t| t.meta.name.clone()).collect();
        }
        Ok(writer)
    }

    /// How the parquet files of the tables from now on are written.
    #[must_use]
    pub fn with_options(mut self, options: ParquetOptions) -> Self {
        self.options = options;
        self
    }

    /// What the engine that writes may use.
    #[must_use]
    pub fn with_limits(mut self, limits: engine::Limits) -> Self {
        self.limits = limits;
        self.engine = None;
        self
    }

    /// The engine that writes, opened at the first call: an instance takes about 20 ms.
    pub(crate) fn engine(&mut self) -> Result<Connection> {
        let engine = match &self.engine {
            Some(engine) => engine,
            None => self.engine.insert(engine::in_memory(&self.limits)?),
        };
        engine.try_clone().map_err(|e| engine::error("open the engine", e))
    }

    /// A place for a file that is gone when the extract is finished, on the same disk.
    pub(crate) fn scratch(&self, name: &TableName) -> PathBuf {
        self.aside.join(format!(".{name}.scratch"))
    }

    /// Why the extract as it stood can't be read, so that none of its tables was kept.
    pub fn lost(&self) -> Option<&Error> {
        self.lost.as_ref()
    }

    /// The source that is written.
    pub fn source(&self) -> &SourceName {
        &self.source
    }

    /// The extract as it stands now, if there is a usable one.
    fn before(&mut self) -> Result<Option<(Reader, Extract)>> {
        if !self.folder.join(EXTRACT_DB).exists() {
            return Ok(None);
        }
        let reader = Reader::over([self.folder.as_path()], None)?;
        match Extract::scan(&self.source, &self.folder, &reader) {
            Ok(extract) => Ok(Some((reader, extract))),
            // What can't be read can't be kept; writing it anew is the cure.
            Err(error) if error.kind() == Kind::Contract => {
                self.lost = Some(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes over every table of the extract as it stands.
    fn keep_all(&mut self) -> Result<()> {
        let Some((reader, before)) = self.before()? else { return Ok(()) };
        self.attaches = before.attaches.clone();
        let is_remote = |table: &Table| matches!(table.content, Content::Remote { .. });
        let columns = match before.tables.iter().any(is_remote) {
            true => reader.stored_columns(&self.folder)?,
            false => StoredColumns::new(),
        };
        for table in before.tables {
            let MetaRow {
                name,
                description,
                rows,
                size_bytes,
                extracted_at,
                query_mode,
                input_hash,
            } = table.meta;
            let body = match table.content {
                Content::Files { files, by_name } => {
                    for file in &files {
                        self.take_over(&self.folder.join(file), &self.aside.join(file))?;
                    }
                    Body::Files { files, by_name }
                }
                Content::Export(export) => {
                    let file = table_file(&name);
                    let out = self.aside.join(&file);
                    super::export(&export, &self.folder, &out, &self.limits, &self.disk, None)?;
                    Body::Files { files: vec![file], by_name: false }
                }
                Content::Remote { query, .. } => {
                    // As it was bound, so it is bound again: its system may be away now.
                    let columns = columns.get(&name);
                    let stand_in =
                        columns.and_then(|columns| reader.stand_in(&self.folder, &query, columns));
                    Body::Remote { query, stand_in: stand_in.unwrap_or_default() }
                }
            };
            let entry = Entry {
                description,
                rows,
                size_bytes,
                extracted_at,
                query_mode,
                input_hash,
                body,
                kept: true,
            };
            self.entries.insert(name, entry);
        }
        Ok(())
    }

    /// Gives a file that isn't rewritten its place in the new folder.
    fn take_over(&self, from: &Path, to: &Path) -> Result<()> {
        if let Some(folder) = to.parent() {
            self.disk.create_folder(folder)?;
        }
        let meta = fs::symlink_metadata(from).map_err(|e| Error::io("look at", from, e))?;
        let read_only = meta.permissions().mode() & 0o222 == 0;
        if read_only && self.disk.link(from, to).is_ok() {
            return Ok(());
        }
        self.copy(from, to)
    }

    /// Copies somebody else's file into the new folder. A link would let its owner change
    /// the extract.
    fn copy_in(&self, from: &Path, to: &Path) -> Result<()> {
        self.copy(from, &self.aside.join(to))
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let mut file = File::open(from).map_err(|e| Error::io("open", from, e))?;
        let copied = self.disk.copy_open(&mut file, to, |_| {});
        copied.map(drop).map_err(|e| Error::io("copy", from, e))
    }

    /// Takes back a table as it was published, with what was said of it then.
    pub(crate) fn restore(&mut self, view: &View, files: &[&Path]) -> Result<()> {
        let name = &view.table;
        match files {
            [] => {
                let Some((alias, path)) = view.remote_query() else { return Ok(()) };
                self.claim(name)?;
                let stand_in = match path {
                    Some(path) => sql::stand_in(alias, &path, &view.typed_columns()?),
                    None => Vec::new(),
                };
                let query = sql::guarded(view.remote_sql().unwrap_or_default().to_string());
                let entry = self.entry(Body::Remote { query, stand_in });
                self.entries.insert(name.clone(), entry);
            }
            [one] => {
                let file = self.new_file(name, None)?;
                self.take_over(one, &self.aside.join(&file))?;
                self.add_file(name, file)?;
            }
            many => {
                for (at, one) in many.iter().enumerate() {
                    // In the order in which they were read.
                    let shard = ExternalName::parse(format!("part-{at:05}"))?;
                    let file = self.new_file(name, Some(&shard))?;
                    self.take_over(one, &self.aside.join(&file))?;
                    self.add_file(name, file)?;
                }
            }
        }
        if let Some(entry) = self.entries.get_mut(name) {
            entry.description.clone_from(&view.description);
            entry.extracted_at = view.extracted_at;
            entry.query_mode = view.query_mode;
            entry.rows = view.rows;
        }
        Ok(())
    }

    /// Starts a table that is written in Arrow record batches.
    ///
    /// # Errors
    /// `Conflict` when the table was already written; `Invalid` for a schema that parquet
    /// can't hold.
    pub fn table(&mut self, name: &TableName, schema: SchemaRef) -> Result<TableWriter<'_>> {
        let file = self.new_file(name, None)?;
        TableWriter::open(self, name.clone(), file, schema)
    }

    /// Starts one shard of a table; shards are read together, in the order of their names,
    /// columns matched by name.
    ///
    /// # Errors
    /// As [`ExtractWriter::table`].
    pub fn shard(
        &mut self,
        name: &TableName,
        shard: &ExternalName,
        schema: SchemaRef,
    ) -> Result<TableWriter<'_>> {
        let file = self.new_file(name, Some(shard))?;
        TableWriter::open(self, name.clone(), file, schema)
    }

    /// Writes a table from the rows of a query. It runs in an instance of its own, with
    /// access to whatever this process may read: the query is the connector's code.
    ///
    /// # Errors
    /// `Invalid` for a query that fails; `Conflict` when the table was already written.
    pub fn table_from_sql(&mut self, name: &TableName, query: &str) -> Result<()> {
        let connection = engine::in_memory(&self.limits)?;
        self.table_from_query(name, &connection, &sql::guarded(query.to_string()))
            .map_err(|(e, _)| e)
    }

    /// The same on a connection of the caller's. A failing query also gives back the
    /// engine's whole message.
    pub(crate) fn table_from_query(
        &mut self,
        name: &TableName,
        connection: &Connection,
        query: &Sql,
    ) -> Result<(), (Error, String)> {
        let plain = |e: Error| (e, String::new());
        let file = self.new_file(name, None).map_err(plain)?;
        let out = self.aside.join(&file);
        self.disk.engine_writes(&out).map_err(plain)?;
        let copy = sql::copy_to_parquet(query, &out, &self.options).map_err(plain)?;
        if let Err(error) = connection.execute_batch(copy.as_str()) {
            let _ = fs::remove_file(&out);
            let text = engine::full_message(&error);
            return Err((engine::error("write a table", error).with(Key::Table, name), text));
        }
        self.add_file(name, file).map_err(plain)
    }

    /// Takes a copy of a parquet file as a table.
    ///
    /// # Errors
    /// `Contract` for a file that is no sound parquet; `Conflict` when the table was already
    /// written.
    pub fn table_from_parquet(&mut self, name: &TableName, file: &Path) -> Result<()> {
        let to = self.new_file(name, None)?;
        self.copy_in(file, &to)?;
        self.add_file(name, to)
    }

    /// Takes a copy of a parquet file as one shard of a table.
    ///
    /// # Errors
    /// As [`ExtractWriter::table_from_parquet`].
    pub fn shard_from_parquet(
        &mut self,
        name: &TableName,
        shard: &ExternalName,
        file: &Path,
    ) -> Result<()> {
        let to = self.new_file(name, Some(shard))?;
        self.copy_in(file, &to)?;
        self.add_file(name, to)
    }

    /// Says how to attach the system in which remote tables lie.
    pub fn remote_attach(&mut self, row: RemoteAttach) {
        self.attaches.retain(|a| a.alias != row.alias);
        self.attaches.push(row);
    }

    /// Publishes a table whose rows stay in a remote system.
    ///
    /// # Errors
    /// `Invalid` when no [`ExtractWriter::remote_attach`] came before for its alias, or for
    /// a type that is none; `Conflict` when the table was already written.
    pub fn remote_table(&mut self, name: &TableName, table: RemoteTable) -> Result<()> {
        if !self.attaches.iter().any(|a| a.alias == table.alias) {
            return Err(Error::new(
                Kind::Invalid,
                format!("`{name}` reads from `{}`, which no remote_attach names", table.alias),
            )
            .with(Key::Table, name));
        }
        self.claim(name)?;
        let columns = table
            .columns
            .iter()
            .map(|(column, kind)| Ok((column.clone(), ColumnType::parse(kind)?)))
            .collect::<Result<Vec<_>>>()?;
        let stand_in = if columns.is_empty() {
            Vec::new()
        } else {
            sql::stand_in(&table.alias, &table.path, &columns)
        };
        let body = Body::Remote { query: sql::select_remote(&table.alias, &table.path), stand_in };
        let entry = Entry {
            rows: table.rows,
            size_bytes: table.size_bytes,
            query_mode: QueryMode::Remote,
            ..self.entry(body)
        };
        self.entries.insert(name.clone(), entry);
        Ok(())
    }

    /// What `_meta` says about a table that was written.
    pub fn describe(&mut self, name: &TableName, description: &str) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.description = Some(description.to_string());
        }
    }

    /// What the connector wants to find again at its next run, to tell whether the table's
    /// input changed: a hash, an ETag, a cursor.
    pub fn note_input(&mut self, name: &TableName, input_hash: &str) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.input_hash = Some(input_hash.to_string());
        }
    }

    /// What was noted of the input of a table that is kept.
    pub fn noted_input(&self, name: &TableName) -> Option<&str> {
        self.entries.get(name)?.input_hash.as_deref()
    }

    /// The tables that are kept so far.
    pub fn kept(&self) -> impl Iterator<Item = &TableName> {
        self.entries.iter().filter(|(_, entry)| entry.kept).map(|(name, _)| name)
    }

    /// Rows of a table that was written or is kept.
    pub fn rows(&self, name: &TableName) -> Option<u64> {
        Some(self.entries.get(name).or_else(|| self.replaced.get(name))?.rows)
    }

    /// Takes a table out of the extract.
    pub fn remove(&mut self, name: &TableName) {
        let replaced = self.replaced.remove(name).is_some();
        let entry = self.entries.remove(name);
        if replaced || entry.is_some() {
            self.removed.push(name.clone());
        }
        if let Some(Entry { body: Body::Files { files, .. }, .. }) = entry {
            for file in files {
                let _ = fs::remove_file(self.aside.join(file));
            }
        }
    }

    fn entry(&self, body: Body) -> Entry {
        Entry {
            description: None,
            rows: 0,
            size_bytes: 0,
            extracted_at: Some(self.now),
            query_mode: QueryMode::Local,
            input_hash: None,
            body,
            kept: false,
        }
    }

    /// Makes way for a table: one that was kept is laid aside, one that was written is not.
    fn claim(&mut self, name: &TableName) -> Result<()> {
        super::check_table_name(name)?;
        match self.entries.get(name) {
            Some(entry) if !entry.kept => Err(Error::new(
                Kind::Conflict,
                format!("the table `{name}` is written twice; give one of the two another name"),
            )
            .with(Key::Table, name)),
            Some(entry) => {
                self.move_files(entry, &self.aside, &self.aside.join(REPLACED))?;
                if let Some((name, entry)) = self.entries.remove_entry(name) {
                    self.replaced.insert(name, entry);
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes back the tables whose new content could not be written.
    fn take_back(&mut self) -> Result<()> {
        for (name, entry) in std::mem::take(&mut self.replaced) {
            if !self.entries.contains_key(&name) {
                self.move_files(&entry, &self.aside.join(REPLACED), &self.aside)?;
                self.entries.insert(name, entry);
            }
        }
        match fs::remove_dir_all(self.aside.join(REPLACED)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("clear away", &self.aside.join(REPLACED), e))
            }
            _ => Ok(()),
        }
    }

    fn move_files(&self, entry: &Entry, from: &Path, to: &Path) -> Result<()> {
        let Body::Files { files, .. } = &entry.body else { return Ok(()) };
        for file in files {
            if let Some(folder) = to.join(file).parent() {
                self.disk.create_folder(folder)?;
            }
            fs::rename(from.join(file), to.join(file))
                .map_err(|e| Error::io("move", &from.join(file), e))?;
        }
        Ok(())
    }

    /// The place of a new file, relative to the folder.
    fn new_file(&mut self, name: &TableName, shard: Option<&ExternalName>) -> Result<PathBuf> {
        let Some(shard) = shard else {
            self.claim(name)?;
            return Ok(table_file(name));
        };
        let file = Path::new(DATA).join(name.as_str()).join(format!("{shard}.parquet"));
        let sharded = match self.entries.get(name) {
            Some(Entry { kept: false, body: Body::Files { files, .. }, .. }) => {
                files.iter().all(|f| f.components().count() == 3) && !files.contains(&file)
            }
            Some(Entry { kept: false, .. }) => false,
            _ => {
                self.claim(name)?;
                true
            }
        };
        if !sharded {
            return Err(Error::new(
                Kind::Conflict,
                format!(
                    "the shard `{shard}` of `{name}` is written twice, or beside a whole table"
                ),
            )
            .with(Key::Table, name));
        }
        self.disk.create_folder(&self.aside.join(DATA).join(name.as_str()))?;
        Ok(file)
    }

    /// Checks a file that was written aside and makes it part of a table.
    fn add_file(&mut self, name: &TableName, file: PathBuf) -> Result<()> {
        let path = self.aside.join(&file);
        let open = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
        let facts = check::check(&open).map_err(|fault| {
            contract(format!("the file for `{name}` {fault}"))
                .with(Key::Source, &self.source)
                .with(Key::Table, name)
                .with(Key::Path, path.display())
        })?;
        let _ = open.set_permissions(fs::Permissions::from_mode(0o444));
        let shard = file.components().count() == 3;
        let fresh = self.entry(Body::Files { files: Vec::new(), by_name: shard });
        let entry = self.entries.entry(name.clone()).or_insert(fresh);
        entry.rows += facts.rows;
        entry.size_bytes += facts.size;
        if let Body::Files { files, .. } = &mut entry.body {
            files.push(file);
            files.sort();
        }
        Ok(())
    }

    /// Checks, flushes and publishes what was written.
    ///
    /// # Errors
    /// `Contract` for a table that DuckDB can't read back; `Unavailable` when the disk can't
    /// be written. Either way the extract is what it was.
    pub fn finish(mut self) -> Result<WriteReport> {
        self.take_back()?;
        let connection = self.engine()?;
        self.write_database(&connection)?;
        self.flush()?;
        self.publish()?;
        self.finished = true;
        publish::clear_away(&self.aside, &self.folder)?;
        let written = |kept: bool| {
            let named = self.entries.iter().filter(|(_, e)| e.kept == kept);
            named.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        let (written, kept) = (written(false), written(true));
        self.removed.retain(|name| !self.entries.contains_key(name));
        Ok(WriteReport { written, kept, removed: std::mem::take(&mut self.removed) })
    }

    /// The same for a connector that writes its tables with this: says what became of each.
    ///
    /// # Errors
    /// As [`ExtractWriter::finish`].
    pub fn finish_for_connector(self) -> Result<ConnectorReport> {
        let there: BTreeSet<TableName> =
            self.replaced.keys().chain(&self.removed).cloned().collect();
        let rows = |(name, entry): (&TableName, &Entry)| (name.clone(), entry.rows);
        let rows: BTreeMap<TableName, u64> = self.entries.iter().map(rows).collect();
        let WriteReport { written, removed, .. } = self.finish()?;
        let outcome = |table: TableName, status| {
            let rows = rows.get(&table).copied().unwrap_or(0);
            TableOutcome { table, from: None, rows, status, error: None }
        };
        let written = written.into_iter().map(|table| match there.contains(&table) {
            true => outcome(table, TableStatus::Replaced),
            false => outcome(table, TableStatus::Created),
        });
        let removed = removed.into_iter().map(|table| outcome(table, TableStatus::Removed));
        Ok(ConnectorReport { tables: written.chain(removed).collect(), ignored: Vec::new() })
    }
}

impl Drop for ExtractWriter {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_dir_all(&self.aside);
        }
    }
}

/// The file of a table that isn't sharded, relative to the extract's folder.
fn table_file(name: &TableName) -> PathBuf {
    Path::new(DATA).join(format!("{name}.parquet"))
}

/// Where kept tables lie that are being written anew.
const REPLACED: &str = ".replaced";
