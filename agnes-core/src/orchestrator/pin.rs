//! Pinning: giving a generation a parquet file that nobody will change.
//!
//! A file that nobody may write to (no write bit in its mode) is linked: it shares its bytes
//! with the extract's. Any other file is copied, sharing blocks where the file system can,
//! because a connector may write into it in place and a link would show that to everybody.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use md5::{Digest, Md5};

use super::checks::{Checks, Trouble};
use super::generation::Pin;
use crate::disk::{Disk, Fingerprint, Folder};
use crate::extract::{bad_file, contract, parquet};
use crate::layout::Layout;
use crate::{Error, Kind, Result, SourceName, TableName, sql};

/// Why a file was not pinned.
pub(crate) enum Failure {
    /// The file is at fault: its table is left out.
    Table(Error),
    /// The file couldn't be looked at: its table is left out, and tried again the next time.
    Passing(Error),
    /// It was replaced or rewritten since it was scanned: scan again.
    Moved,
    /// We can't write: the rebuild ends, the old generation stays.
    Disk(Error),
}

/// Both hashes of a file's bytes.
struct Hashes {
    md5: Md5,
    blake3: blake3::Hasher,
}

impl Hashes {
    fn new() -> Self {
        Hashes { md5: Md5::new(), blake3: blake3::Hasher::new() }
    }

    fn update(&mut self, piece: &[u8]) {
        self.md5.update(piece);
        self.blake3.update(piece);
    }

    fn finish(self) -> (String, String) {
        let md5: String = self.md5.finalize().iter().map(|b| format!("{b:02x}")).collect();
        (md5, self.blake3.finalize().to_hex().to_string())
    }
}

/// Hashes an open file from its start.
pub(crate) fn hash(file: &mut File) -> io::Result<(String, String)> {
    let mut hashes = Hashes::new();
    io::Seek::rewind(file)?;
    let mut buffer = vec![0u8; 1 << 18];
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            Some(piece) if !piece.is_empty() => hashes.update(piece),
            _ => return Ok(hashes.finish()),
        }
    }
}

/// What a pin is made for.
pub(crate) struct Target<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) disk: &'a Disk,
    pub(crate) source: &'a SourceName,
    pub(crate) table: &'a TableName,
    pub(super) checks: &'a Checks<'a>,
}

impl Target<'_> {
    fn folder(&self) -> PathBuf {
        self.layout.pins().join(self.source.as_str())
    }

    /// A name of its own for a file that is being written.
    fn aside(&self, index: usize) -> PathBuf {
        self.folder().join(format!(".{}.{index}.tmp", self.table))
    }

    /// Pins the extract's file `name`, which was scanned as `expected`.
    pub(crate) fn pin(
        &self,
        extract: &Folder,
        name: &Path,
        expected: Fingerprint,
        index: usize,
    ) -> Result<Pin, Failure> {
        let table = |e: io::Error| {
            let error =
                bad_file(self.source, self.table.as_str(), name, &format!("can't be read: {e}"));
            Failure::Table(error)
        };
        let mut file = match extract.open_file(name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Failure::Moved),
            other => other.map_err(table)?,
        };
        let meta = file.metadata().map_err(table)?;
        if Fingerprint::of_metadata(&meta) != expected {
            return Err(Failure::Moved);
        }
        let read_only = meta.permissions().mode() & 0o222 == 0;
        if !read_only && expected.size <= parquet::SMALL {
            return self.pin_small(&mut file, name, expected);
        }
        let aside = self.aside(index);
        let disk = |e: io::Error| Failure::Disk(Error::io("pin a file as", &aside, e));
        match fs::remove_file(&aside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(disk(e)),
            _ => {}
        }
        let linked = read_only
            && match self.disk.link_open(&file, &extract.path().join(name), &aside) {
                Ok(()) => true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(Failure::Moved),
                // Another file system, too many links, a policy: a copy does as well.
                Err(e) if is_no_link(&e) => false,
                Err(e) => return Err(disk(e)),
            };
        let (md5, blake3) = if linked {
            hash(&mut file).map_err(table)?
        } else {
            // What is no parquet file isn't worth a copy, which may fill the disk.
            if let Err(fault) = self.checks.before_a_copy(&file) {
                return Err(match Fingerprint::of(&file).map_err(table)? == expected {
                    true => {
                        Failure::Table(bad_file(self.source, self.table.as_str(), name, &fault))
                    }
                    false => Failure::Moved,
                });
            }
            let mut hashes = Hashes::new();
            self.disk.copy_open(&mut file, &aside, |piece| hashes.update(piece)).map_err(disk)?;
            hashes.finish()
        };
        // Written into while it was read.
        if Fingerprint::of(&file).map_err(table)? != expected {
            let _ = fs::remove_file(&aside);
            return Err(Failure::Moved);
        }
        self.keep(&aside, name, expected, md5, blake3)
    }

    /// Pins a copy of a small file: read, hashed and checked in memory, it is written once,
    /// under the name of its content.
    fn pin_small(
        &self,
        file: &mut File,
        name: &Path,
        expected: Fingerprint,
    ) -> Result<Pin, Failure> {
        let bad =
            |fault: &str| Failure::Table(bad_file(self.source, self.table.as_str(), name, fault));
        let mut bytes = Vec::with_capacity(usize::try_from(expected.size).unwrap_or(0) + 1);
        let read = file.take(parquet::SMALL + 1).read_to_end(&mut bytes);
        read.map_err(|e| bad(&format!("can't be read: {e}")))?;
        let after = Fingerprint::of(file).map_err(|e| bad(&format!("can't be read: {e}")))?;
        if after != expected || bytes.len() as u64 != expected.size {
            return Err(Failure::Moved);
        }
        let mut hashes = Hashes::new();
        hashes.update(&bytes);
        let (md5, blake3) = hashes.finish();
        let bytes = bytes::Bytes::from(bytes);
        let known = self.checks.bytes(&bytes).map_err(|fault| bad(&fault))?;
        let file_name = self.file_name(&blake3);
        let place = self.folder().join(&file_name);
        // The same content is there already, and maybe being read.
        let there = File::open(&place).ok().filter(|_| fs::read(&place).is_ok_and(|b| b == bytes));
        let is_new = there.is_none();
        let written = match there {
            Some(file) => Fingerprint::of(&file),
            None => self.disk.write_new(&place, &bytes),
        };
        let pinned = written.map_err(|e| Failure::Disk(Error::io("pin a file as", &place, e)))?;
        let looked = known.map_or_else(|| self.checks.look(self.source, &place), Ok);
        let facts = looked.map_err(|trouble| {
            if is_new {
                let _ = fs::remove_file(&place);
            }
            self.failure(trouble, |fault| bad_file(self.source, self.table.as_str(), name, fault))
        })?;
        Ok(self.made(file_name, name, facts.rows, (md5, blake3), pinned, expected))
    }

    /// Pins a file that the rebuild itself wrote at [`Target::export_path`].
    pub(crate) fn pin_export(&self) -> Result<Pin, Failure> {
        let path = self.export_path();
        let disk = |e: io::Error| Failure::Disk(Error::io("read", &path, e));
        let mut file = File::open(&path).map_err(disk)?;
        file.set_permissions(fs::Permissions::from_mode(0o444)).map_err(disk)?;
        let (md5, blake3) = hash(&mut file).map_err(disk)?;
        let origin = Fingerprint::of(&file).map_err(disk)?;
        let name = PathBuf::from(format!("{}.parquet", self.table));
        self.keep(&path, &name, origin, md5, blake3)
    }

    /// Has the engine open what the table is to be, before it is opened in this process.
    pub(super) fn open(&self, files: &[Pin], by_name: bool) -> Result<(), Failure> {
        let analytics = self.layout.analytics();
        let paths: Vec<_> = files.iter().map(|pin| pin.path_in(&analytics)).collect();
        let select = sql::select_parquet(&paths, by_name).map_err(Failure::Disk)?;
        self.checks.open(self.source, &select).map_err(|trouble| {
            self.failure(trouble, |fault| {
                let (table, source) = (self.table, self.source);
                contract(format!("the table `{table}` of `{source}` is left out: it {fault}"))
            })
        })
    }

    /// What becomes of the table of a file that can't be looked at.
    fn failure(&self, trouble: Trouble, faulty: impl Fn(&str) -> Error) -> Failure {
        match trouble {
            Trouble::Fault(fault) => Failure::Table(faulty(&fault)),
            Trouble::Passing(why) => Failure::Passing(Error::new(
                Kind::Unavailable,
                format!(
                    "the table `{}` of `{}` is left out: {why}; run it again",
                    self.table, self.source
                ),
            )),
            Trouble::Nothing(error) => Failure::Disk(error),
        }
    }

    /// Where the rebuild writes an export.
    pub(crate) fn export_path(&self) -> PathBuf {
        self.aside(usize::MAX)
    }

    /// Checks what was written aside and gives it the name of its content.
    fn keep(
        &self,
        aside: &Path,
        name: &Path,
        origin: Fingerprint,
        md5: String,
        blake3: String,
    ) -> Result<Pin, Failure> {
        let disk = |e: io::Error| Failure::Disk(Error::io("pin a file as", aside, e));
        let file = File::open(aside).map_err(disk)?;
        let facts = self.checks.look(self.source, aside).map_err(|trouble| {
            let _ = fs::remove_file(aside);
            self.failure(trouble, |fault| bad_file(self.source, self.table.as_str(), name, fault))
        })?;
        let file_name = self.file_name(&blake3);
        let pinned = Fingerprint::of(&file).map_err(disk)?;
        fs::rename(aside, self.folder().join(&file_name)).map_err(disk)?;
        Ok(self.made(file_name, name, facts.rows, (md5, blake3), pinned, origin))
    }

    /// A pin is named after its content, so that equal content is one file.
    fn file_name(&self, blake3: &str) -> String {
        format!("{}.{}.parquet", self.table, blake3.get(..32).unwrap_or(blake3))
    }

    fn made(
        &self,
        file_name: String,
        name: &Path,
        rows: u64,
        (md5, blake3): (String, String),
        pinned: Fingerprint,
        origin: Fingerprint,
    ) -> Pin {
        Pin {
            path: format!("pins/{}/{file_name}", self.source),
            name: name.to_string_lossy().into_owned(),
            rows,
            md5,
            blake3,
            pinned,
            origin,
        }
    }
}

fn is_no_link(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::XDEV, Errno::MLINK, Errno::PERM, Errno::NOTSUP, Errno::ACCESS, Errno::NOSYS]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Whether a pinned file is still what the generation says, whatever folder it was moved to.
pub(crate) fn is_intact(path: &Path, pin: &Pin) -> io::Result<bool> {
    Ok(open_intact(path, pin)?.is_some())
}

/// The files of a data folder that was moved to another disk or restored from a copy: by path, what
/// each was when it was read, and the BLAKE3 of what was read. Each is read once and not by every
/// statement.
static READ: Mutex<BTreeMap<PathBuf, (Fingerprint, String)>> = Mutex::new(BTreeMap::new());

/// The pinned file at its beginning, if it is still what the generation says.
pub(crate) fn open_intact(path: &Path, pin: &Pin) -> io::Result<Option<File>> {
    let mut file = File::open(path)?;
    let now = Fingerprint::of(&file)?;
    if now == pin.pinned {
        return Ok(Some(file));
    }
    if now.size != pin.pinned.size {
        return Ok(None);
    }
    let read = || READ.lock().unwrap_or_else(PoisonError::into_inner);
    let known = read().get(path).filter(|(then, _)| *then == now).map(|(_, blake3)| blake3.clone());
    let blake3 = match known {
        Some(blake3) => blake3,
        None => {
            let mut hasher = blake3::Hasher::new();
            let blake3 = hasher.update_reader(&file)?.finalize().to_hex().to_string();
            // What was written to meanwhile is read again.
            if Fingerprint::of(&file)? == now {
                read().insert(path.to_path_buf(), (now, blake3.clone()));
            }
            file.rewind()?;
            blake3
        }
    };
    Ok((blake3 == pin.blake3).then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_folder_that_was_moved_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        fs::write(&path, "rows").unwrap();
        let mut file = File::open(&path).unwrap();
        let (md5, blake3) = hash(&mut file).unwrap();
        let pinned = Fingerprint::of(&file).unwrap();
        let pin = Pin {
            path: "t.parquet".into(),
            name: "t.parquet".into(),
            rows: 1,
            md5,
            blake3,
            pinned: Fingerprint { inode: pinned.inode + 1, ..pinned },
            origin: pinned,
        };
        let is_intact = || is_intact(&path, &pin).unwrap();
        let write = |content: &str, later: u64| {
            fs::write(&path, content).unwrap();
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(later);
            File::open(&path).unwrap().set_modified(at).unwrap();
        };
        write("rows", 1);
        assert!(is_intact());
        let mut content = String::new();
        open_intact(&path, &pin).unwrap().unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(content, "rows");
        // As any pinned file, it is believed by its size, its time and its number.
        write("ROWS", 1);
        assert!(is_intact(), "it was read again");
        write("ROWS", 2);
        assert!(!is_intact());
        write("rows", 3);
        assert!(is_intact());
        write("more rows", 3);
        assert!(!is_intact());
    }
}
