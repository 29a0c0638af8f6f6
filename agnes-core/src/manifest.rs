//! The manifest: a principal's list of tables with content hashes, by which a client tells what
//! it has to download.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::access::{Permitted, Principal, Resource, Visibility};
use crate::extract::QueryMode;
use crate::orchestrator::{self, Pin, View};
use crate::registry::{RegisteredTable, source_type};
use crate::{Agnes, Error, Key, Kind, Result, TableId, Timestamp, ViewName};

/// What a principal may see, with hashes.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Manifest {
    /// The tables, by the name under which they are published.
    pub tables: BTreeMap<ViewName, ManifestEntry>,
    /// Hashes of what older installations have beside: `docs`, `profiles`.
    pub assets: BTreeMap<String, Asset>,
    /// When it was made.
    pub server_time: Timestamp,
}

/// One table of a manifest.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ManifestEntry {
    /// MD5 of the table's one file, 32 lower-case hex digits: its own, or what its several were
    /// merged to. Empty for a table whose rows stay in a remote system, and for one whose files
    /// don't fit together.
    pub hash: String,
    /// When its data was last read from its source.
    pub updated: Option<Timestamp>,
    /// Bytes of that file; what its source claims for a remote table.
    pub size_bytes: u64,
    /// Rows; what its source claims for a remote table.
    pub rows: u64,
    /// Where its rows are queried.
    pub query_mode: QueryMode,
    /// What kind of system it comes from: what is declared, or what its source's name says.
    pub source_type: String,
    /// Its id in the registry, if it is registered.
    pub id: Option<TableId>,
    /// BLAKE3 of the same file, 64 lower-case hex digits; empty where there is none.
    pub hash_blake3: String,
    /// The files of a table that has several, for a client that brings only what changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// One of the files of a table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Part {
    /// What the extract calls it.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub size_bytes: u64,
    /// MD5 of its bytes, lower-case hex.
    pub hash: String,
    /// BLAKE3 of its bytes, lower-case hex.
    pub hash_blake3: String,
}

/// Something else to download.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Asset {
    /// Changes with its content.
    pub hash: String,
}

/// Folders below each other that are looked through for documents.
const DOCS_DEPTH: u32 = 8;
/// The most bytes of a file of profiles.
const PROFILES_MAX: u64 = 64 << 20;

/// The second in which the newest file below a folder was written.
fn newest(folder: &Path, depth: u32) -> Option<u64> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let seconds = |entry: std::fs::DirEntry| match entry.file_type().ok()? {
        kind if kind.is_dir() && depth > 0 => newest(&entry.path(), depth - 1),
        kind if kind.is_file() => {
            let modified = entry.metadata().ok()?.modified().ok()?;
            Some(modified.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
        }
        _ => None,
    };
    entries.filter_map(seconds).max()
}

impl Agnes {
    /// The tables that a principal may see now, with hashes.
    ///
    /// Made of the current generation and the access of this moment; nothing is read but what
    /// is in memory, once a generation was looked at.
    ///
    /// # Errors
    /// `Denied` when she may do nothing at all; `Unavailable` when the generation or the system
    /// database can't be read.
    pub fn manifest(&self, principal: &Principal) -> Result<Manifest> {
        let access = self.access()?;
        access.stands(principal)?;
        let held = self.held()?;
        let views = &held.generation.views;
        let tables = match access.visibility(principal) {
            Visibility::All => {
                // An admin also sees what nobody has registered.
                let entry = |(name, view): (&ViewName, &Arc<View>)| {
                    let table = access.resolve(name.as_str());
                    let table = table.filter(|t| t.name == *name && t.source == view.source);
                    (name.clone(), entry(view, table.as_ref()))
                };
                views.iter().map(entry).collect()
            }
            Visibility::Only(tables) => tables
                .iter()
                .filter_map(|table| {
                    let (name, view) = views.get_key_value(&table.name)?;
                    let is_its = view.source == table.source;
                    is_its.then(|| (name.clone(), entry(view, Some(table))))
                })
                .collect(),
        };
        Ok(Manifest { tables, assets: self.assets(), server_time: self.now() })
    }

    /// What older installations have beside their tables: documents, told apart by the second in
    /// which the newest was written, and a file of profiles, by its content. What can't be read
    /// isn't there.
    pub fn assets(&self) -> BTreeMap<String, Asset> {
        use md5::{Digest as _, Md5};
        let root = self.layout().root();
        let newest = newest(&root.join("docs"), DOCS_DEPTH).map(|seconds| seconds.to_string());
        let profiles = root.join("src_data/metadata/profiles.json");
        let size = profiles.metadata().map_or(0, |file| file.len());
        let text = (size > 0 && size <= PROFILES_MAX).then(|| std::fs::read(profiles).ok());
        let profiles = text.flatten().map(|text| {
            Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        });
        let assets = [("docs", newest), ("profiles", profiles)].into_iter();
        assets.filter_map(|(name, hash)| Some((name.to_string(), Asset { hash: hash? }))).collect()
    }
}

/// A parquet file with a table's rows, open: it stays readable whatever is rebuilt meanwhile.
#[derive(Debug)]
pub struct DataFile {
    /// The file, at its beginning.
    pub file: File,
    /// Where it lies, for another program that is to read it. It stays there until a rebuild and
    /// the time that old generations are kept are over.
    pub path: PathBuf,
    /// The table's name.
    pub name: ViewName,
    /// Bytes.
    pub size_bytes: u64,
    /// MD5 of its bytes, 32 lower-case hex digits, as the manifest has it.
    pub hash: String,
    /// BLAKE3 of its bytes, 64 lower-case hex digits.
    pub hash_blake3: String,
}

/// What is published under the name of a permitted table.
pub(crate) struct Published {
    pub(crate) name: ViewName,
    pub(crate) view: Arc<View>,
    /// What is declared about it; none for what only admins see.
    pub(crate) table: Option<RegisteredTable>,
}

impl Agnes {
    /// What a table that a decision has allowed shows now.
    pub(crate) fn published(&self, table: &Permitted<'_, Resource>) -> Result<Published> {
        let access = self.access()?;
        table.still(&access)?;
        let id = table.what().id();
        let none = || {
            let shown = crate::name::shown(id);
            Error::new(Kind::NotFound, format!("no data of `{shown}` is published"))
                .with(Key::Table, shown)
        };
        // A permit for anything else that has an id opens no table.
        let registered = access.registered(table.what().as_table().ok_or_else(none)?);
        let sees_all = matches!(access.visibility(table.principal()), Visibility::All);
        let name = match &registered {
            Some(table) => table.name.clone(),
            // What nobody has registered is an admin's to read.
            None if sees_all => ViewName::parse(id).map_err(|_| none())?,
            None => return Err(none()),
        };
        let held = self.held()?;
        let (name, view) = held.generation.views.get_key_value(&name).ok_or_else(none)?;
        match registered.as_ref().is_some_and(|table| table.source != view.source) {
            true => Err(none()),
            false => Ok(Published { name: name.clone(), view: view.clone(), table: registered }),
        }
    }

    /// Where a table's one file lies, for whoever a decision has allowed to read it, with the MD5
    /// of what is in it: what [`DataFile`] tells, without opening it.
    ///
    /// # Errors
    /// As [`Agnes::data_file`], as far as no file is looked at.
    pub fn data_path(&self, table: &Permitted<'_, Resource>) -> Result<(PathBuf, String)> {
        let published = self.published(table)?;
        let pin = published.whole()?;
        Ok((pin.path_in(&self.layout().analytics()), pin.md5.clone()))
    }

    /// Opens a table's data for whoever a decision has allowed to read it: the one file of the
    /// manifest, or one of its `parts` by name.
    ///
    /// ```no_run
    /// # use agnes_core::access::{Principal, Resource};
    /// # fn download(agnes: &agnes_core::Agnes, who: &Principal) -> agnes_core::Result<()> {
    /// let decision = agnes.access()?.decide(who, &Resource::parse("table:orders")?);
    /// let data = agnes.data_file(&decision.permit()?, None)?;
    /// std::io::copy(&mut &data.file, &mut std::io::stdout()).ok();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Denied` when she may not any more; `NotFound` when its source publishes no such table or
    /// part, or the rows are in a remote system; `Unavailable` when the file was changed behind
    /// Agnes' back.
    pub fn data_file(
        &self,
        table: &Permitted<'_, Resource>,
        part: Option<&str>,
    ) -> Result<DataFile> {
        let published = self.published(table)?;
        let (name, view) = (&published.name, &published.view);
        let pin = match part {
            None => published.whole()?,
            Some(part) => view.files().iter().find(|pin| pin.name == part).ok_or_else(|| {
                published.missing(format!("`{name}` has no part `{}`", crate::name::shown(part)))
            })?,
        };
        Ok(DataFile {
            file: orchestrator::open(self.layout(), name, view, pin)?,
            path: pin.path_in(&self.layout().analytics()),
            name: name.clone(),
            size_bytes: pin.size_bytes(),
            hash: pin.md5.clone(),
            hash_blake3: pin.blake3.clone(),
        })
    }
}

impl Published {
    /// The one file with all rows.
    fn whole(&self) -> Result<&Pin> {
        self.view.whole().ok_or_else(|| {
            self.missing(format!(
                "`{}` has no file of its own: its rows are in a remote system, or its parts don't \
                 fit together; query it, or bring its parts",
                self.name
            ))
        })
    }

    fn missing(&self, what: String) -> Error {
        Error::new(Kind::NotFound, what).with(Key::Table, &self.name)
    }
}

fn entry(view: &View, table: Option<&RegisteredTable>) -> ManifestEntry {
    let declared = table.and_then(|table| table.declaration.source_type.clone());
    let parts = match view.files() {
        [] | [_] => Vec::new(),
        many => many
            .iter()
            .map(|pin| Part {
                name: pin.name.clone(),
                rows: pin.rows,
                size_bytes: pin.size_bytes(),
                hash: pin.md5.clone(),
                hash_blake3: pin.blake3.clone(),
            })
            .collect(),
    };
    ManifestEntry {
        hash: view.md5().to_string(),
        updated: view.extracted_at,
        size_bytes: view.whole().map_or(view.size_bytes, Pin::size_bytes),
        rows: view.rows,
        query_mode: view.query_mode,
        source_type: declared.unwrap_or_else(|| source_type(&view.source)),
        id: table.map(|table| table.id.clone()),
        hash_blake3: view.whole().map_or_else(String::new, |whole| whole.blake3.clone()),
        parts,
    }
}
