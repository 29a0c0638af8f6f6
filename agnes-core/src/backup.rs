//! Backups: what no sync and no rebuild brings back, in one file, taken and given back while
//! everything goes on.
//!
//! A backup is a zstd-compressed tar archive. First comes `backup.json`, which lists every other file
//! with its size and BLAKE3 hash; then the state folder (the system database, the signing key, the
//! configuration's overlay) below `state/`, and what users have uploaded. Extracts and what is
//! published aren't in it: a sync brings them.
//!
//! It holds hashes of passwords, and the key that signs tokens, unless that comes from outside: keep
//! it as you keep those. It is readable by its owner alone.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! use agnes_core::Agnes;
//! use agnes_core::access::{Email, Principal};
//!
//! let agnes = Agnes::open(dir.path().join("data"))?;
//! let admin = agnes.access()?;
//! let ada = admin.admin(&Principal::Operator)?.add_user(Email::parse("ada@example.com")?, None)?;
//! let file = dir.path().join("monday.tar.zst");
//! agnes.back_up(&file)?;
//!
//! admin.admin(&Principal::Operator)?.remove_user(&ada.id)?;
//! agnes.restore(&file)?;
//! assert!(admin.user(&ada.id).is_some());
//! # Ok::<(), agnes_core::Error>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::{private, with_suffix};
use crate::store::{SCHEMA_VERSION, Store};
use crate::{Agnes, Error, Key, Kind, Result, Timestamp};

/// The form of a backup that this version writes and reads.
const FORMAT: u32 = 1;
/// The entry that says what the others are.
const LIST: &str = "backup.json";
/// The folder of the state folder's files in a backup.
const STATE: &str = "state";
/// The system database in a backup.
const DATABASE: &str = "state/system.duckdb";
/// How the files are called in which restores leave what was there before, in the state folder.
const BEFORE: &str = "before-restore-";
/// What users have uploaded, below the data folder.
const UPLOADS: [&str; 3] = ["user_sessions", "user_artifacts", "user_local_md"];
/// How deep folders are looked into.
const DEPTH: usize = 4;
/// The most bytes of the list.
const LIST_MAX: u64 = 64 << 20;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    format: u32,
    /// The version of Agnes that wrote it.
    pub version: String,
    /// The schema of the system database.
    pub schema: u32,
    /// When it was taken.
    pub created_at: Timestamp,
    /// Its files, by their path in it.
    pub files: BTreeMap<EntryName, BackedUp>,
}

/// A file in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of its bytes, 64 lower-case hex digits.
    pub blake3: String,
}

impl Backup {
    /// Bytes of all its files.
    pub fn size_bytes(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// What was given back.
    pub backup: Backup,
    /// A backup of what was there before; none where there was nothing.
    pub before: Option<PathBuf>,
}

/// A folder for a while, for its owner alone.
struct Aside(PathBuf);

impl Aside {
    fn new(folder: &Path) -> Result<Aside> {
        let path = folder.join(format!(".backup-{}", uuid::Uuid::new_v4().simple()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|e| Error::io("make the folder", &path, e))?;
        Ok(Aside(path))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a file of the state folder is in a backup: what belongs to a process isn't.
fn belongs(name: &str) -> bool {
    let is_of_a_process = name.starts_with("system.duckdb")
        || name.ends_with(".lock")
        || name.ends_with(".tmp")
        || name.starts_with(".backup-");
    !is_of_a_process
        && !name.starts_with(BEFORE)
        && !["agnes.sock", "heard-generation"].contains(&name)
}

/// The files below a folder, by their path in a backup. Links are left out.
fn files_in(folder: &Path, name: &str, depth: usize, found: &mut BTreeMap<EntryName, PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let Some(part) = entry.file_name().to_str().map(str::to_string) else { continue };
        let name = format!("{name}/{part}");
        if kind.is_file() {
            // What bears no such name belongs to a process.
            if let Ok(name) = EntryName::parse(name)
                && name.as_str() != DATABASE
            {
                found.insert(name, entry.path());
            }
        } else if kind.is_dir() && depth > 1 {
            files_in(&entry.path(), &name, depth - 1, found);
        }
    }
}

/// The path of a file in a backup, as in `state/system.duckdb`.
///
/// **Invariants**: it is relative, and written in one way alone: no empty part, no `.` and no `..`, so
/// that it stays below whatever it is joined to. It lies in the state folder, or below one of the
/// folders of uploads, at most four folders deep; nothing of a process (a socket, a lock) bears it.
///
/// ```
/// use agnes_core::backup::EntryName;
///
/// assert!(EntryName::parse("state/instance.yaml").is_ok());
/// assert!(EntryName::parse("state//etc/passwd").is_err());
/// assert!(EntryName::parse("state/../../passwd").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct EntryName(String);

impl EntryName {
    /// # Errors
    /// `Invalid` when no backup holds a file of that name.
    pub fn parse(text: impl Into<String>) -> Result<EntryName> {
        let text = text.into();
        let mut parts = text.split('/');
        let (first, rest) = (parts.next().unwrap_or_default(), parts.collect::<Vec<&str>>());
        let is_plain = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains('\0');
        let belongs = match (first, rest.as_slice()) {
            (STATE, [name]) => text == DATABASE || belongs(name),
            (STATE, _) => false,
            (folder, rest) => UPLOADS.contains(&folder) && (1..=DEPTH).contains(&rest.len()),
        };
        match belongs && rest.iter().all(is_plain) {
            true => Ok(EntryName(text)),
            false => {
                let shown = crate::name::shown(&text);
                Err(Error::new(Kind::Invalid, format!("no backup holds a file `{shown}`")))
            }
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EntryName {
    type Error = Error;

    fn try_from(text: String) -> Result<EntryName> {
        EntryName::parse(text)
    }
}

impl std::fmt::Display for EntryName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn hash(path: &Path) -> Result<BackedUp> {
    let mut hasher = blake3::Hasher::new();
    let failed = |e| Error::io("read", path, e);
    let mut file = File::open(path).map_err(failed)?;
    let size = io::copy(&mut file, &mut hasher).map_err(failed)?;
    Ok(BackedUp { size, blake3: hasher.finalize().to_hex().to_string() })
}

impl Agnes {
    /// Where a file of a backup belongs.
    fn place_of(&self, name: &EntryName) -> PathBuf {
        match name.as_str().split_once('/') {
            Some((STATE, rest)) => self.layout().state().join(rest),
            _ => self.layout().root().join(name.as_str()),
        }
    }

    /// What a backup would hold now, but for the system database.
    fn worth_keeping(&self) -> BTreeMap<EntryName, PathBuf> {
        let mut found = BTreeMap::new();
        files_in(self.layout().state(), STATE, 1, &mut found);
        for folder in UPLOADS {
            files_in(&self.layout().root().join(folder), folder, DEPTH, &mut found);
        }
        found
    }

    /// Writes a backup to a file, in the place of one that is there. It holds everything that was
    /// acknowledged before the call; writes go on meanwhile.
    ///
    /// # Errors
    /// As [`Agnes::store`]; `Unavailable` when a file can't be read or written, in which case a file
    /// that was there is still what it was.
    pub fn back_up(&self, to: &Path) -> Result<Backup> {
        self.access()?.flush()?;
        let store = self.store()?;
        let folder = Aside::new(self.layout().state())?;
        let database = folder.0.join("system.duckdb");
        store.copy_to(&database)?;
        let mut files = self.worth_keeping();
        files.insert(EntryName::parse(DATABASE)?, database);
        // Small files may change between two looks: what is hashed is what is written.
        let mut contents = Vec::with_capacity(files.len());
        for (at, (name, path)) in files.into_iter().enumerate() {
            let still = match name.as_str() == DATABASE {
                true => path,
                false => {
                    let still = folder.0.join(at.to_string());
                    match std::fs::copy(&path, &still) {
                        // Somebody has taken it away meanwhile.
                        Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                        copied => copied.map_err(|e| Error::io("read", &path, e))?,
                    };
                    still
                }
            };
            contents.push((name, hash(&still)?, still));
        }
        let backup = Backup {
            format: FORMAT,
            version: crate::VERSION.to_string(),
            schema: store.schema_version()?,
            created_at: self.now(),
            files: contents.iter().map(|(name, file, _)| (name.clone(), file.clone())).collect(),
        };
        // Nobody else's, whatever lies beside it.
        let unique = format!(".{}.tmp", uuid::Uuid::new_v4().simple());
        let temporary = with_suffix(to, &unique);
        let written = write(&backup, &contents, &temporary)
            .map_err(|e| Error::io("write the backup", to, e))
            .and_then(|()| self.components().disk.flush(&temporary))
            .and_then(|()| self.components().disk.rename(&temporary, to));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written.map(|()| backup)
    }

    /// Looks at a backup without doing anything: what is in it, checked by the hashes.
    ///
    /// # Errors
    /// As [`Agnes::restore`].
    pub fn inspect(&self, from: &Path) -> Result<Backup> {
        self.components().disk.create_folder(self.layout().state())?;
        let folder = Aside::new(self.layout().state())?;
        let backup = read(from, &folder.0)?;
        check(&folder.0.join(DATABASE), &backup, from)?;
        Ok(backup)
    }

    /// Gives back what a backup holds, also while others use this handle: users, groups, grants and
    /// tokens are those of the backup when this returns, and every session ends. What was there
    /// before is kept beside it as a backup, `before-restore-….tar.zst` in the state folder. The
    /// configuration's overlay holds from the next start on.
    ///
    /// # Errors
    /// `NotFound` when there is no such file; `Invalid` when it is no backup, was cut off or changed,
    /// or comes from a newer version: nothing was changed then. As [`Agnes::back_up`].
    pub fn restore(&self, from: &Path) -> Result<Restored> {
        let disk = &self.components().disk;
        disk.create_folder(self.layout().state())?;
        private(self.layout().state(), 0o700)?;
        let folder = Aside::new(self.layout().state())?;
        let backup = read(from, &folder.0)?;
        check(&folder.0.join(DATABASE), &backup, from)?;
        let before = self.what_was_before()?;
        let wanted: BTreeSet<&EntryName> = backup.files.keys().collect();
        let gone: Vec<PathBuf> = self
            .worth_keeping()
            .into_iter()
            .filter(|(name, _)| !wanted.contains(name))
            .map(|(_, path)| path)
            .collect();
        let access = self.access()?;
        access.replaced(|| {
            self.store()?.replace(|| {
                for path in &gone {
                    disk.remove(path)?;
                }
                for name in backup.files.keys() {
                    let place = self.place_of(name);
                    if let Some(parent) = place.parent() {
                        disk.create_folder(parent)?;
                    }
                    disk.rename(&folder.0.join(name.as_str()), &place)?;
                }
                Ok(())
            })
        })?;
        self.forget_metadata();
        self.forget_heard()?;
        Ok(Restored { backup, before })
    }

    /// Keeps what is there: as a backup, or, where the system database can't be opened, that file.
    fn what_was_before(&self) -> Result<Option<PathBuf>> {
        if !self.layout().system_db().exists() {
            return Ok(None);
        }
        // One for each restore: a second one must not take away what the first has kept.
        let moment = self.now().to_string().replace([':', '-'], "");
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let mark = mark.get(..8).unwrap_or_default();
        let before = self.layout().state().join(format!("{BEFORE}{moment}-{mark}.tar.zst"));
        match self.access() {
            Ok(_) => self.back_up(&before).map(|_| Some(before)),
            Err(error) => match Store::set_aside(self.layout(), &self.components().disk)? {
                Some(aside) => Ok(Some(aside)),
                // It is somebody's who has it open.
                None => Err(error),
            },
        }
    }
}

/// Writes an archive.
fn write(
    backup: &Backup,
    contents: &[(EntryName, BackedUp, PathBuf)],
    to: &Path,
) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let packed = zstd::stream::write::Encoder::new(BufWriter::new(file), 3)?;
    let mut archive = tar::Builder::new(packed);
    let header = |size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(backup.created_at.as_micros() / 1_000_000).unwrap_or(0));
        header
    };
    let list = serde_json::to_vec_pretty(backup)?;
    archive.append_data(&mut header(list.len() as u64), LIST, &*list)?;
    for (name, file, path) in contents {
        archive.append_data(
            &mut header(file.size),
            name.as_str(),
            File::open(path)?.take(file.size),
        )?;
    }
    archive.into_inner()?.finish()?.flush()
}

/// Unpacks an archive into a folder, and checks that it is whole.
fn read(from: &Path, into: &Path) -> Result<Backup> {
    let no_backup = |what: &str| {
        Error::new(Kind::Invalid, format!("`{}` {what}", from.display()))
            .with(Key::Path, from.display())
    };
    let broken = |e: io::Error| no_backup("is no backup, or was cut off").because(e);
    let file = File::open(from).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            Error::new(Kind::NotFound, format!("there is no backup `{}`", from.display()))
        }
        _ => Error::io("read the backup", from, e),
    })?;
    let packed = zstd::stream::read::Decoder::new(file).map_err(broken)?;
    let mut archive = tar::Archive::new(packed);
    let mut entries = archive.entries().map_err(broken)?;
    let mut first = entries
        .next()
        .ok_or_else(|| no_backup("is no backup: there is nothing in it"))?
        .map_err(broken)?;
    if first.path_bytes().as_ref() != LIST.as_bytes() || first.size() > LIST_MAX {
        return Err(no_backup("is no backup: it doesn't say what is in it"));
    }
    let mut text = Vec::new();
    first.read_to_end(&mut text).map_err(broken)?;
    let backup: Backup = serde_json::from_slice(&text)
        .map_err(|e| no_backup(&format!("has a list that can't be understood: {e}")).because(e))?;
    if backup.format > FORMAT || backup.schema > SCHEMA_VERSION {
        let by = &backup.version;
        return Err(no_backup(&format!("was written by a newer version, {by}; use that")));
    }
    if !backup.files.keys().any(|name| name.as_str() == DATABASE) {
        return Err(no_backup("lists no system database"));
    }
    let mut missing: BTreeMap<&str, &BackedUp> =
        backup.files.iter().map(|(name, file)| (name.as_str(), file)).collect();
    for entry in entries {
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let is_file = entry.header().entry_type().is_file();
        let listed =
            missing.remove(name.as_str()).filter(|listed| is_file && listed.size == entry.size());
        let listed = listed.ok_or_else(|| no_backup("holds what it doesn't list"))?;
        let path = into.join(&name);
        let parent = path.parent().unwrap_or(into);
        std::fs::create_dir_all(parent).map_err(|e| Error::io("make the folder", parent, e))?;
        let unwritten = |e| Error::io("unpack the backup to", &path, e);
        let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = open.map_err(unwritten)?;
        let mut piece = vec![0; 256 << 10];
        loop {
            let length = entry.read(&mut piece).map_err(broken)?;
            let Some(piece) = piece.get(..length).filter(|piece| !piece.is_empty()) else { break };
            file.write_all(piece).map_err(unwritten)?;
        }
        file.sync_all().map_err(unwritten)?;
        if hash(&path)? != *listed {
            return Err(no_backup(&format!("was changed: `{name}` isn't what it was")));
        }
    }
    match missing.keys().next() {
        Some(name) => Err(no_backup(&format!("was cut off: `{name}` is missing"))),
        None => Ok(backup),
    }
}

/// Checks that a backup's system database is one, and of the schema that it says.
fn check(database: &Path, backup: &Backup, from: &Path) -> Result<()> {
    let wrong = |what: String| {
        Error::new(Kind::Invalid, format!("`{}` {what}", from.display()))
            .with(Key::Path, from.display())
    };
    let found = Store::schema_of(database)
        .map_err(|e| wrong("holds no system database".into()).because(e))?;
    match found == backup.schema {
        true => Ok(()),
        false => Err(wrong(format!("says schema {}, and holds {found}", backup.schema))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_puts_nothing_where_it_does_not_belong() {
        for name in [
            "state/system.duckdb",
            "state/.jwt_secret",
            "state/instance.yaml",
            "user_sessions/u/a.jsonl",
        ] {
            assert!(EntryName::parse(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "state",
            "state/",
            "/etc/passwd",
            "state//etc/passwd",
            "state/./x",
            "state/../x",
            "../state/x",
            "state/sub/x",
            "./state/x",
            "user_sessions//etc/passwd",
            "user_sessions/../x",
            "user_sessions/u/",
            "state/agnes.sock",
            "state/system.duckdb.wal",
            "state/system.duckdb.lock",
            "state/before-restore-1.tar.zst",
            "extracts/x",
            "user_sessions",
            "analytics/generation.json",
            "state/a\0b",
            "user_sessions/a/b/c/d/e/f",
        ] {
            assert!(EntryName::parse(name).is_err(), "{name}");
        }
    }
}
