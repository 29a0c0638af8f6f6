//! A generation: one complete, immutable analytics database, as a file that says which
//! parquet files its views read.
//!
//! `analytics/generation.json` is the commit point of a rebuild. It is replaced in one
//! step, and everything else follows from it: sessions read it, `server.duckdb` and the
//! system database's sync state are brought up to it. The parquet files lie below
//! `analytics/pins/`; nobody writes to them, and they go when no generation that may be in
//! use names them.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Disk, FileLock, Fingerprint};
use crate::extract::{QueryMode, RemoteAttach};
use crate::layout::Layout;
use crate::sql::ColumnType;
use crate::{
    AttachAlias, ColumnName, Error, Key, Kind, Result, SourceName, TableName, Timestamp, ViewName,
    sql,
};

/// The form of `generation.json` that this version writes and reads.
const FORMAT: u32 = 1;

/// One complete, immutable analytics database.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub struct Generation {
    format: u32,
    /// Counts up with each rebuild that changed something.
    pub number: u64,
    /// When it was published.
    pub created_at: Timestamp,
    /// The `analytics` folder as it was called then: `server.duckdb` names it.
    pub(crate) root: PathBuf,
    /// `server.duckdb` as it was published.
    pub(crate) server_db: Option<Fingerprint>,
    pub(crate) sources: BTreeMap<SourceName, SourceRecord>,
    /// The views, by name; shared with the generation before where they are the same.
    pub views: BTreeMap<ViewName, Arc<View>>,
}

/// What is remembered of a source, to tell whether it changed.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct SourceRecord {
    /// Stands for every file of the extract; empty when it must be read again.
    pub(crate) digest: String,
    pub(crate) attaches: Vec<RemoteAttach>,
    pub(crate) skipped: Vec<SkippedRecord>,
    /// Tables whose name another source owns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) refused: Vec<ViewName>,
}

/// A table that was left out, to be reported again while nothing changes.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct SkippedRecord {
    pub(crate) table: Option<String>,
    pub(crate) kind: Kind,
    pub(crate) message: String,
}

/// A view of the analytics database: one table of one source.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct View {
    /// The source that owns the name.
    pub source: SourceName,
    /// The table, as its extract spells it.
    pub table: TableName,
    /// What the extract says about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Rows: counted for a local table, claimed by the extract for a remote one.
    pub rows: u64,
    /// Bytes of its parquet files; claimed by the extract for a remote table.
    pub size_bytes: u64,
    /// When the connector read it from its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extracted_at: Option<Timestamp>,
    /// Where its rows are.
    pub query_mode: QueryMode,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Stands for what it was made from.
    pub(crate) origin: String,
    pub(crate) data: Data,
}

/// A column of a view.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Column {
    /// Its name, in any characters.
    pub name: String,
    /// Its DuckDB type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Where a view's rows are.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Data {
    Files {
        files: Vec<Pin>,
        by_name: bool,
        /// The same rows in one file, where there are several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        merged: Option<Box<Pin>>,
    },
    Remote {
        query: String,
        aliases: Vec<AttachAlias>,
    },
}

/// A parquet file that a generation holds on to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pin {
    /// Relative to the `analytics` folder.
    pub(crate) path: String,
    /// What the extract calls it, relative to the extract's folder.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// MD5 of the bytes, lower-case hex, for clients that verify it.
    pub md5: String,
    /// BLAKE3 of the bytes, lower-case hex.
    pub blake3: String,
    /// The pinned file.
    pub(crate) pinned: Fingerprint,
    /// The extract's file, when it was pinned.
    pub(crate) origin: Fingerprint,
}

impl Pin {
    /// Where it lies.
    pub(crate) fn path_in(&self, analytics: &Path) -> PathBuf {
        analytics.join(&self.path)
    }

    /// Bytes.
    pub fn size_bytes(&self) -> u64 {
        self.pinned.size
    }
}

impl View {
    /// One parquet file that nothing publishes.
    pub(crate) fn of_file(
        source: SourceName,
        table: TableName,
        file: &Path,
        rows: u64,
        columns: Vec<(String, String)>,
    ) -> Result<View> {
        let unreadable =
            || Error::new(Kind::Unavailable, format!("can't read `{}`", file.display()));
        let now = Fingerprint::of_path(file).ok_or_else(unreadable)?;
        let pin = Pin {
            path: file.to_str().ok_or_else(unreadable)?.to_string(),
            name: String::new(),
            rows,
            md5: String::new(),
            blake3: String::new(),
            pinned: now,
            origin: now,
        };
        Ok(View {
            source,
            table,
            description: None,
            rows,
            size_bytes: now.size,
            extracted_at: None,
            query_mode: QueryMode::Local,
            columns: columns.into_iter().map(|(name, kind)| Column { name, kind }).collect(),
            origin: String::new(),
            data: Data::Files { files: vec![pin], by_name: false, merged: None },
        })
    }

    /// The parquet files that hold the rows; none for a remote table.
    pub fn files(&self) -> &[Pin] {
        match &self.data {
            Data::Files { files, .. } => files,
            Data::Remote { .. } => &[],
        }
    }

    /// Whether columns are matched by name over its files.
    pub(crate) fn by_name(&self) -> bool {
        matches!(self.data, Data::Files { by_name: true, .. })
    }

    /// The one file with all rows: the table's own, or what its several were merged to. None for
    /// a remote table, and where they don't fit together.
    pub fn whole(&self) -> Option<&Pin> {
        match &self.data {
            Data::Files { files, merged, .. } => match files.as_slice() {
                [one] => Some(one),
                _ => merged.as_deref(),
            },
            Data::Remote { .. } => None,
        }
    }

    /// The remote systems that its rows are read from; none for a table in files.
    pub(crate) fn aliases(&self) -> &[AttachAlias] {
        match &self.data {
            Data::Files { .. } => &[],
            Data::Remote { aliases, .. } => aliases,
        }
    }

    /// The query over remote systems that gives its rows; none for a table in files.
    pub(crate) fn remote_sql(&self) -> Option<&str> {
        match &self.data {
            Data::Files { .. } => None,
            Data::Remote { query, .. } => Some(query),
        }
    }

    /// The system that a remote table is read from, and where in it, when its view is plain.
    pub(crate) fn remote_query(&self) -> Option<(&AttachAlias, Option<Vec<ColumnName>>)> {
        let alias = self.aliases().first()?;
        let path = sql::remote_path(self.remote_sql()?).filter(|path| path.len() > 1);
        let names = |path: Vec<String>| path.into_iter().skip(1).map(ColumnName::parse).collect();
        Some((alias, path.map(names).and_then(Result::ok)))
    }

    /// Its columns, with types that may stand in a statement.
    pub(crate) fn typed_columns(&self) -> Result<Vec<(ColumnName, ColumnType)>> {
        let typed = |column: &Column| {
            Ok((ColumnName::parse(&*column.name)?, ColumnType::parse(&column.kind)?))
        };
        self.columns.iter().map(typed).collect()
    }

    /// Schema and name of the remote table whose rows it shows as they are; none for any other
    /// view.
    pub(crate) fn remote_table(&self) -> Option<(String, String)> {
        let Data::Remote { query, .. } = &self.data else { return None };
        match sql::remote_path(query)?.as_slice() {
            [_, table] => Some(("main".to_string(), table.clone())),
            [_, schema, table] => Some((schema.clone(), table.clone())),
            _ => None,
        }
    }

    /// Every file that the generation holds on to for it.
    pub(crate) fn pins(&self) -> impl Iterator<Item = &Pin> {
        let merged = match &self.data {
            Data::Files { merged, .. } => merged.as_deref(),
            Data::Remote { .. } => None,
        };
        self.files().iter().chain(merged)
    }

    /// Whether two views are the same to everybody who reads them.
    pub(crate) fn publishes_as(&self, other: &View) -> bool {
        self.has_same_rows(other)
            && self.table.as_str() == other.table.as_str()
            && self.description == other.description
            && self.extracted_at == other.extracted_at
            && self.query_mode == other.query_mode
            && (self.rows, self.size_bytes) == (other.rows, other.size_bytes)
    }

    /// Whether two views read the same: the same source, files and columns.
    pub(crate) fn has_same_rows(&self, other: &View) -> bool {
        let same_data = match (&self.data, &other.data) {
            (
                Data::Files { files: a, by_name: x, .. },
                Data::Files { files: b, by_name: y, .. },
            ) => x == y && a.iter().map(|p| &p.path).eq(b.iter().map(|p| &p.path)),
            (a, b) => a == b && self.origin == other.origin,
        };
        same_data && self.source == other.source && self.columns == other.columns
    }

    /// MD5 of the table's one file, its own or the merged one; empty where there is none, as
    /// existing clients expect it.
    pub fn md5(&self) -> &str {
        self.whole().map_or("", |whole| &whole.md5)
    }

    /// BLAKE3 over the table's content: the file's own, or one over those of the shards.
    pub fn blake3(&self) -> String {
        match self.files() {
            [] => String::new(),
            [one] => one.blake3.clone(),
            many => {
                let mut hasher = blake3::Hasher::new();
                for pin in many {
                    hasher.update(pin.blake3.as_bytes());
                }
                hasher.finalize().to_hex().to_string()
            }
        }
    }
}

impl Generation {
    /// The first one, which holds nothing.
    pub(crate) fn empty(root: PathBuf) -> Self {
        Generation {
            format: FORMAT,
            number: 0,
            created_at: Timestamp::from_micros(0),
            root,
            server_db: None,
            sources: BTreeMap::new(),
            views: BTreeMap::new(),
        }
    }

    /// The current generation, if a rebuild ever published one.
    ///
    /// # Errors
    /// `Unavailable` when the file can't be read; `Internal` when it is broken, which no
    /// crash of ours explains.
    pub(crate) fn load(layout: &Layout) -> Result<Option<Generation>> {
        let path = layout.generation();
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| Error::io("read", &path, e))?,
        };
        Generation::from_bytes(&path, &bytes).map(Some)
    }

    fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Generation> {
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
        }
        let broken = |e: serde_json::Error| {
            Error::new(
                Kind::Internal,
                format!(
                    "`{}` can't be understood ({e}); move it away and run a rebuild, which writes it anew",
                    path.display()
                ),
            )
            .with(Key::Path, path.display())
        };
        let generation = match serde_json::from_slice::<Generation>(bytes) {
            Ok(generation) if generation.format == FORMAT => return Ok(generation),
            other => other,
        };
        // Another form may be why it can't be understood.
        let form = serde_json::from_slice::<Format>(bytes).map_err(broken)?.format;
        if form != FORMAT {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "`{}` has the form {form}, this version of Agnes reads {FORMAT}; use the \
                     version that wrote it, or a newer one",
                    path.display(),
                ),
            )
            .with(Key::Path, path.display()));
        }
        generation.map_err(broken)
    }

    /// Writes the views, nearly all of the file, which are known before the rest is.
    pub(crate) fn begin_commit(&self, layout: &Layout, disk: &Disk) -> Result<()> {
        disk.create_folder(&layout.generations())?;
        disk.write(&self.kept(layout), &self.views_as_json()?)
    }

    /// Makes this the current generation, in one step, after [`Generation::begin_commit`].
    pub(crate) fn commit(&self, layout: &Layout, disk: &Disk) -> Result<()> {
        let kept = self.kept(layout);
        disk.append(&kept, &self.rest_as_json()?)?;
        disk.flush(&layout.generations())?;
        let aside = crate::disk::aside(&layout.generation());
        disk.remove(&aside)?;
        disk.link(&kept, &aside)
            .or_else(|_| fs::copy(&kept, &aside).map(drop))
            .map_err(|e| Error::io("write", &aside, e))?;
        disk.rename(&aside, &layout.generation())
    }

    /// The file by which sessions hold on to it.
    fn kept(&self, layout: &Layout) -> PathBuf {
        layout.generations().join(format!("{}.json", self.number))
    }

    /// Replaces what is remembered beside the views; for readers nothing changes.
    pub(crate) fn restate(&self, layout: &Layout, disk: &Disk) -> Result<()> {
        let mut bytes = self.views_as_json()?;
        bytes.append(&mut self.rest_as_json()?);
        let aside = crate::disk::aside(&layout.generation());
        disk.write(&aside, &bytes)?;
        disk.rename(&aside, &layout.generation())
    }

    /// The first part of the file: `{"views":{…},`.
    fn views_as_json(&self) -> Result<Vec<u8>> {
        let mut bytes = br#"{"views":"#.to_vec();
        serde_json::to_writer(&mut bytes, &self.views).map_err(no_json)?;
        bytes.push(b',');
        Ok(bytes)
    }

    /// The second part: everything else, and the closing brace.
    fn rest_as_json(&self) -> Result<Vec<u8>> {
        #[derive(serde::Serialize)]
        struct Rest<'a> {
            format: u32,
            number: u64,
            created_at: Timestamp,
            root: &'a Path,
            server_db: Option<Fingerprint>,
            sources: &'a BTreeMap<SourceName, SourceRecord>,
        }
        let Generation { format, number, created_at, root, server_db, sources, views: _ } = self;
        let rest = Rest {
            format: *format,
            number: *number,
            created_at: *created_at,
            root,
            server_db: *server_db,
            sources,
        };
        let mut bytes = serde_json::to_vec(&rest).map_err(no_json)?;
        // Its opening brace is the one before the views.
        bytes.remove(0);
        Ok(bytes)
    }

    /// How a source attaches a remote system.
    pub(crate) fn attach(&self, source: &SourceName, alias: &AttachAlias) -> Option<&RemoteAttach> {
        self.sources.get(source)?.attaches.iter().find(|row| row.alias == *alias)
    }

    /// The absolute paths of a view's files, wherever the data folder lies now.
    pub(crate) fn paths(layout: &Layout, view: &View) -> Vec<PathBuf> {
        view.files().iter().map(|pin| layout.analytics().join(&pin.path)).collect()
    }
}

fn no_json(error: serde_json::Error) -> Error {
    Error::internal("a generation can't be written as JSON").because(error)
}

/// A generation that is in use: its files stay while this lives.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) generation: Generation,
    _lock: Option<FileLock>,
}

impl Held {
    /// A generation that holds nothing, before the first rebuild.
    pub(crate) fn nothing(layout: &Layout) -> Held {
        Held { generation: Generation::empty(layout.analytics()), _lock: None }
    }

    /// Holds on to the current generation.
    pub(crate) fn current(layout: &Layout) -> Result<Option<Held>> {
        // The current one may be superseded and cleared away between reading and locking.
        for _ in 0..100 {
            let Some(generation) = Generation::load(layout)? else { return Ok(None) };
            let path = layout.generations().join(format!("{}.json", generation.number));
            match FileLock::share(&path) {
                Ok(lock) if path.exists() => {
                    return Ok(Some(Held { generation, _lock: Some(lock) }));
                }
                Ok(_) => {}
                // Somebody else's copy of the folder, or a read-only one, where nothing is
                // cleared away behind our back.
                Err(e)
                    if e.kind() == io::ErrorKind::NotFound
                        && Generation::load(layout)?
                            .is_some_and(|g| g.number == generation.number) =>
                {
                    return Ok(Some(Held { generation, _lock: None }));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("hold", &path, e)),
            }
        }
        Err(Error::new(Kind::Unavailable, "the current generation keeps changing; try again"))
    }
}

/// Clears away generations that nobody uses any more, and the files that only they named.
///
/// `now` and `grace` decide about those that nobody holds: outside readers of an old
/// `server.duckdb` can't be seen. `sweep` looks at every file, as after a crash. The caller
/// holds the rebuild lock.
pub(crate) fn collect(
    layout: &Layout,
    current: &Generation,
    now: Timestamp,
    grace: Duration,
    sweep: bool,
) -> Result<()> {
    let folder = layout.generations();
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|e| Error::io("clear away", &folder, e))?,
    };
    let mut kept: Vec<PathBuf> = Vec::new();
    let mut gone = 0usize;
    for entry in entries.flatten() {
        let path = entry.path();
        let number = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<u64>().ok());
        let Some(number) = number else { continue };
        if number == current.number {
            continue;
        }
        // Written, never committed: a crash came between.
        let uncommitted = number > current.number;
        let written = Fingerprint::of_path(&path).map_or(0, |file| file.mtime_ns / 1000);
        let age = now.as_micros().saturating_sub(written);
        let old = u128::try_from(age).unwrap_or(0) >= grace.as_micros();
        if uncommitted || (old && matches!(FileLock::claim(&path), Ok(Some(_)))) {
            let _ = fs::remove_file(&path);
            gone += 1;
        } else {
            kept.push(path);
        }
    }
    if gone == 0 && !sweep {
        return Ok(());
    }
    let kept: Vec<Generation> = kept
        .iter()
        .filter_map(|path| Generation::from_bytes(path, &fs::read(path).ok()?).ok())
        .collect();
    let named: HashSet<&str> = kept
        .iter()
        .chain([current])
        .flat_map(|g| g.views.values())
        .flat_map(|view| view.pins())
        .map(|pin| pin.path.as_str())
        .collect();
    let pins = layout.pins();
    for source in fs::read_dir(&pins).into_iter().flatten().flatten() {
        let source_name = source.file_name();
        for file in fs::read_dir(source.path()).into_iter().flatten().flatten() {
            let relative = format!(
                "pins/{}/{}",
                source_name.to_string_lossy(),
                file.file_name().to_string_lossy()
            );
            if !named.contains(relative.as_str()) {
                let _ = fs::remove_file(file.path());
            }
        }
        // Only an empty one goes.
        let _ = fs::remove_dir(source.path());
    }
    Ok(())
}
