//! Backups: what no sync and no rebuild brings back, in one file, taken and given back while
//! everything goes on.
//!
//! A backup is a zstd-compressed tar archive. First comes `backup.json`, which lists every other file
//! with its size and BLAKE3 hash; then the system database, the signing key and the configuration's
//! overlay below `state/`, and what users have uploaded. Extracts and what is published aren't in it: a
//! sync brings them. What lies among the uploads and can't be in a backup (links, folders that are too
//! deep, names that are no UTF-8) is named in the list.
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

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::access::KEY_FILE;
use crate::config::{ENV_OVERLAY, INSTANCE};
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
/// The other files of the state folder that are in a backup. What else lies there belongs to a process,
/// or is a backup itself.
const OF_STATE: [&str; 3] = [KEY_FILE, ENV_OVERLAY, INSTANCE];
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
    /// What was there and can't be in a backup, by the path that it would have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
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
    /// A backup of what was there before, or the system database that couldn't be used; none where
    /// there was nothing.
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

/// What a look for files has found.
#[derive(Default)]
struct Found {
    /// By their path in a backup.
    files: BTreeMap<EntryName, PathBuf>,
    /// What can't be in one.
    skipped: Vec<String>,
}

impl Found {
    /// Takes a file, if it is there.
    fn take(&mut self, name: String, path: PathBuf) -> Result<()> {
        match path.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("look at", &path, e)),
            Ok(is) if is.is_file() => match EntryName::parse(name.as_str()) {
                Ok(name) => drop(self.files.insert(name, path)),
                Err(_) => self.skipped.push(name),
            },
            Ok(_) => self.skipped.push(name),
        }
        Ok(())
    }

    /// Takes the files below a folder.
    fn take_all(&mut self, folder: &Path, name: &str, depth: usize) -> Result<()> {
        let failed = |e| Error::io("look into", folder, e);
        let entries = match std::fs::read_dir(folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let kind = match entry.file_type() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                kind => kind.map_err(failed)?,
            };
            let (part, path) = (entry.file_name(), entry.path());
            if kind.is_file() && part.as_encoded_bytes().starts_with(b".") {
                // Half of an upload, which will have another name.
                continue;
            }
            let name = format!("{name}/{}", part.to_string_lossy());
            if kind.is_dir() && depth > 1 {
                self.take_all(&path, &name, depth - 1)?;
            } else if part.to_str().is_none() {
                self.skipped.push(name);
            } else {
                self.take(name, path)?;
            }
        }
        Ok(())
    }
}

/// The path of a file in a backup, as in `state/system.duckdb`.
///
/// **Invariants**: it is relative, and written in one way alone: no empty part, no `.` and no `..`, so
/// that it stays below whatever it is joined to. It is one of four files of the state folder, or lies
/// below one of the folders of uploads, at most four folders deep, where no part of it is hidden: that
/// is how uploads begin.
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
            (STATE, [name]) => text == DATABASE || OF_STATE.contains(name),
            (STATE, _) => false,
            (folder, rest) => {
                UPLOADS.contains(&folder)
                    && (1..=DEPTH).contains(&rest.len())
                    && !rest.iter().any(|part| part.starts_with('.'))
            }
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

    fn is_of_state(&self) -> bool {
        self.0.split_once('/').is_some_and(|(folder, _)| folder == STATE)
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
    fn worth_keeping(&self) -> Result<Found> {
        let mut found = Found::default();
        for name in OF_STATE {
            found.take(format!("{STATE}/{name}"), self.layout().state().join(name))?;
        }
        for folder in UPLOADS {
            found.take_all(&self.layout().root().join(folder), folder, DEPTH)?;
        }
        found.skipped.sort();
        Ok(found)
    }

    /// Writes a backup to a file, in the place of one that is there. It holds everything that was
    /// acknowledged before the call; writes go on meanwhile. What can't be in a backup is named in it.
    ///
    /// # Errors
    /// As [`Agnes::store`]; `Unavailable` when a file or a folder can't be read or written, in which
    /// case a file that was there is still what it was.
    pub fn back_up(&self, to: &Path) -> Result<Backup> {
        self.access()?.flush()?;
        let store = self.store()?;
        let folder = Aside::new(self.layout().state())?;
        let database = folder.0.join("system.duckdb");
        store.copy_to(&database)?;
        let Found { mut files, skipped } = self.worth_keeping()?;
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
            skipped,
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
        self.components().disk.create_private_folder(self.layout().state())?;
        let folder = Aside::new(self.layout().state())?;
        let backup = read(from, &|name| folder.0.join(name.as_str()))?;
        check(&folder.0.join(DATABASE), &backup, from)?;
        Ok(backup)
    }

    /// Gives back what a backup holds, also while others use this handle: users, groups, grants and
    /// tokens are those of the backup when this returns, also tokens that were revoked since, and
    /// every session ends. What was there before is kept beside it as a backup,
    /// `before-restore-….tar.zst` in the state folder; what that doesn't hold stays where it is. The
    /// configuration's overlay holds from the next start on.
    ///
    /// # Errors
    /// `NotFound` when there is no such file; `Invalid` when it is no backup, was cut off or changed,
    /// or comes from a newer version; `Conflict` when a folder stands where it has a file, or a file
    /// where it has a folder: nothing was changed then. As [`Agnes::back_up`]; where something was
    /// changed, the message names the backup of what was there.
    pub fn restore(&self, from: &Path) -> Result<Restored> {
        let disk = &self.components().disk;
        disk.create_folder(self.layout().root())?;
        disk.create_folder(self.layout().state())?;
        private(self.layout().state(), 0o700)?;
        // Each part on the disk that it belongs to, where it only has to be renamed.
        let of_state = Aside::new(self.layout().state())?;
        let of_uploads = Aside::new(self.layout().root())?;
        let unpacked = |name: &EntryName| match name.is_of_state() {
            true => of_state.0.join(name.as_str()),
            false => of_uploads.0.join(name.as_str()),
        };
        let backup = read(from, &unpacked)?;
        check(&of_state.0.join(DATABASE), &backup, from)?;
        self.check_places(&backup)?;
        let mut before = self.set_aside_if_lost()?;
        let is_there = self.layout().system_db().exists();
        let done = self.access()?.replaced(|| {
            let mut gone = Vec::new();
            if is_there {
                let path =
                    self.layout().state().join(format!("before-restore-{}.tar.zst", self.mark()));
                let kept = self.back_up(&path)?;
                before = Some(path);
                // Nothing that came later, and nothing that isn't kept.
                gone.extend(kept.files.into_keys().filter(|name| !backup.files.contains_key(name)));
            }
            self.put_in_place(&backup, &unpacked, &gone)
        });
        self.forget_metadata();
        let done = done.and_then(|()| self.forget_heard());
        done.map_err(|error| match &before {
            Some(path) => naming(error, path),
            None => error,
        })?;
        Ok(Restored { backup, before })
    }

    /// The end of names of which every restore has its own: none must take away what another has kept.
    fn mark(&self) -> String {
        let moment = self.now().to_string().replace([':', '-'], "");
        let unique = uuid::Uuid::new_v4().simple().to_string();
        format!("{moment}-{}", unique.get(..8).unwrap_or_default())
    }

    /// Checks that every file of a backup can come to its place.
    fn check_places(&self, backup: &Backup) -> Result<()> {
        for name in backup.files.keys() {
            let place = self.place_of(name);
            let in_the_way = |path: &Path, what: &str| {
                let shown = path.display();
                let message = format!(
                    "`{shown}` is {what}, and the backup has `{name}`; move it away, and restore again"
                );
                Err(Error::new(Kind::Conflict, message).with(Key::Path, path.display()))
            };
            if place.symlink_metadata().is_ok_and(|is| is.is_dir()) {
                return in_the_way(&place, "a folder");
            }
            let root = self.layout().root();
            let mut folders = place.ancestors().skip(1).take_while(|folder| *folder != root);
            if let Some(file) =
                folders.find(|path| path.symlink_metadata().is_ok() && !path.is_dir())
            {
                return in_the_way(file, "no folder");
            }
        }
        Ok(())
    }

    /// Moves a system database away that can't be used; none where it can, and where there is none.
    fn set_aside_if_lost(&self) -> Result<Option<PathBuf>> {
        if !self.layout().system_db().exists() {
            return Ok(None);
        }
        let Err(error) = self.access() else { return Ok(None) };
        match Store::set_aside(self.layout(), &self.components().disk, &self.mark())? {
            Some(aside) => Ok(Some(aside)),
            // It is somebody's who has it open, or may be opened again later.
            None => Err(error),
        }
    }

    /// Puts what was unpacked in its place: the system database once everything else is there that may
    /// fail. What is to go goes last.
    fn put_in_place(
        &self,
        backup: &Backup,
        unpacked: &dyn Fn(&EntryName) -> PathBuf,
        gone: &[EntryName],
    ) -> Result<()> {
        let disk = &self.components().disk;
        let bring = |name: &EntryName| disk.bring(&unpacked(name), &self.place_of(name));
        for name in backup.files.keys().filter(|name| !name.is_of_state()) {
            if let Some(folder) = self.place_of(name).parent() {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(folder)
                    .map_err(|e| Error::io("make the folder", folder, e))?;
            }
            bring(name)?;
        }
        self.store()?.replace(|| {
            backup.files.keys().filter(|name| name.is_of_state()).try_for_each(bring)
        })?;
        gone.iter().try_for_each(|name| disk.remove(&self.place_of(name)))
    }
}

/// The same error with where that is which was there before.
fn naming(error: Error, before: &Path) -> Error {
    let message =
        format!("{}; what was there before is in `{}`", error.message(), before.display());
    let named = Error::new(error.kind(), message);
    error.contexts().fold(named, |named, (key, value)| named.with(key, value)).because(error)
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

/// Unpacks an archive, each file to its place, and checks that it is whole.
fn read(from: &Path, place_of: &dyn Fn(&EntryName) -> PathBuf) -> Result<Backup> {
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
    let mut missing: BTreeMap<&str, (&EntryName, &BackedUp)> =
        backup.files.iter().map(|(name, file)| (name.as_str(), (name, file))).collect();
    for entry in entries {
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let is_file = entry.header().entry_type().is_file();
        let size = entry.size();
        let listed =
            missing.remove(name.as_str()).filter(|(_, listed)| is_file && listed.size == size);
        let (place, listed) = listed.ok_or_else(|| no_backup("holds what it doesn't list"))?;
        let path = place_of(place);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| Error::io("make the folder", parent, e))?;
        }
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
    let found = Store::schema_of(database).map_err(|e| match e.kind() {
        Kind::Invalid => wrong("holds no system database".into()).because(e),
        _ => e,
    })?;
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
            "state/.env_overlay",
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
            "state/monday.tar.zst",
            "state/system.duckdb.pre-migrate",
            "user_sessions/u/.5b0f",
            "user_sessions/.u/a.jsonl",
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
