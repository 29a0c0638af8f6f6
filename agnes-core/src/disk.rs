//! The file operations that publish: every step between "written aside" and "in place".
//!
//! They stand in one type so that a test can make any of them fail, and so that each is
//! done in the one order that survives a crash: write aside, flush, rename, flush the
//! folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags};

use crate::{Error, Kind, Result};

/// One step of publishing, as a fault that a test injects sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Making a folder.
    CreateFolder,
    /// Writing a whole file aside.
    Write,
    /// DuckDB writing a file aside.
    EngineWrite,
    /// Flushing a file or a folder to the disk.
    Flush,
    /// Giving a file a second name.
    Link,
    /// Copying a file's content.
    Copy,
    /// Moving into place.
    Rename,
    /// Swapping two folders.
    Exchange,
}

type Fault = dyn Fn(Step, &Path) -> io::Result<()> + Send + Sync;

/// The file operations that publish; real, or failing where a test says so.
#[derive(Clone, Default)]
pub struct Disk {
    fault: Option<Arc<Fault>>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("faulty", &self.fault.is_some()).finish()
    }
}

impl Disk {
    /// The real disk.
    pub fn real() -> Self {
        Disk::default()
    }

    /// A disk on which a step fails whenever `fault` returns an error for it.
    pub fn faulty(fault: impl Fn(Step, &Path) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Disk { fault: Some(Arc::new(fault)) }
    }

    fn step(&self, step: Step, path: &Path) -> io::Result<()> {
        match &self.fault {
            None => Ok(()),
            Some(fault) => fault(step, path),
        }
    }

    /// Makes a folder and those above it.
    pub(crate) fn create_folder(&self, path: &Path) -> Result<()> {
        self.step(Step::CreateFolder, path)
            .and_then(|()| fs::create_dir_all(path))
            .map_err(|e| Error::io("make the folder", path, e))
    }

    /// Makes a folder and those above it. Where it wasn't there it is its owner's alone.
    pub(crate) fn create_private_folder(&self, path: &Path) -> Result<()> {
        let is_new = !path.exists();
        self.create_folder(path)?;
        match is_new {
            true => private(path, 0o700),
            false => Ok(()),
        }
    }

    /// Says that DuckDB is about to write this file.
    pub(crate) fn engine_writes(&self, path: &Path) -> Result<()> {
        self.step(Step::EngineWrite, path).map_err(|e| Error::io("write", path, e))
    }

    /// Writes a whole new file and flushes it.
    pub(crate) fn write(&self, path: &Path, content: &[u8]) -> Result<()> {
        let write = || {
            self.step(Step::Write, path)?;
            let mut file = File::create(path)?;
            file.write_all(content)?;
            self.step(Step::Flush, path)?;
            file.sync_all()
        };
        write().map_err(|e| Error::io("write", path, e))
    }

    /// Goes on writing a file that was begun with [`Disk::write`], and flushes it.
    pub(crate) fn append(&self, path: &Path, content: &[u8]) -> Result<()> {
        let append = || {
            self.step(Step::Write, path)?;
            let mut file = fs::OpenOptions::new().append(true).open(path)?;
            file.write_all(content)?;
            self.step(Step::Flush, path)?;
            file.sync_all()
        };
        append().map_err(|e| Error::io("write", path, e))
    }

    /// Writes a small file that nobody will change, in one go; it isn't flushed yet. The rest
    /// of a crash that stands in its place is replaced.
    pub(crate) fn write_new(&self, path: &Path, content: &[u8]) -> io::Result<Fingerprint> {
        self.step(Step::Copy, path)?;
        let create = || fs::OpenOptions::new().write(true).create_new(true).mode(0o444).open(path);
        let mut file = match create() {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(path)?;
                create()?
            }
            other => other?,
        };
        file.write_all(content)?;
        Fingerprint::of(&file)
    }

    /// Flushes a file's content, or a folder's entries.
    pub(crate) fn flush(&self, path: &Path) -> Result<()> {
        self.step(Step::Flush, path)
            .and_then(|()| File::open(path)?.sync_all())
            .map_err(|e| Error::io("flush", path, e))
    }

    /// Flushes whatever was written below `folder`: with one call where many files were.
    pub(crate) fn flush_many(&self, folder: &Path, files: &[PathBuf]) -> Result<()> {
        const FEW: usize = 16;
        if files.len() <= FEW {
            return files.iter().try_for_each(|f| self.flush(f));
        }
        let sync = || {
            self.step(Step::Flush, folder)?;
            #[cfg(target_os = "linux")]
            rustix::fs::syncfs(File::open(folder)?.as_fd())?;
            #[cfg(not(target_os = "linux"))]
            files.iter().try_for_each(|f| File::open(f)?.sync_all())?;
            Ok(())
        };
        sync().map_err(|e| Error::io("flush the files below", folder, e))
    }

    /// Moves a flushed file or folder into place and makes that durable.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.step(Step::Rename, to)
            .and_then(|()| fs::rename(from, to))
            .map_err(|e| Error::io("move into place", to, e))?;
        self.flush(folder_of(to))
    }

    /// Moves a flushed file of its owner's into place, as [`Disk::rename`] does; from another file
    /// system as a copy, which is whole before it is moved.
    pub(crate) fn bring(&self, from: &Path, to: &Path) -> Result<()> {
        let renamed = self.step(Step::Rename, to).and_then(|()| fs::rename(from, to));
        match renamed {
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
                let aside = to.with_file_name(format!(".{}", uuid::Uuid::new_v4().simple()));
                let brought = self
                    .copy_private(from, &aside)
                    .map_err(|e| Error::io("copy to", &aside, e))
                    .and_then(|()| self.rename(&aside, to));
                brought.inspect_err(|_| {
                    let _ = fs::remove_file(&aside);
                })
            }
            renamed => {
                renamed.map_err(|e| Error::io("move into place", to, e))?;
                self.flush(folder_of(to))
            }
        }
    }

    /// Copies a file to a new one of the owner's, and flushes that.
    fn copy_private(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Copy, to)?;
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        io::copy(&mut File::open(from)?, &mut out)?;
        self.step(Step::Flush, to)?;
        out.sync_all()
    }

    /// Gives `from` the second name `to`.
    pub(crate) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Link, to)?;
        fs::hard_link(from, to)
    }

    /// Gives an open file the second name `to`, so that it is surely that file.
    pub(crate) fn link_open(&self, file: &File, from: &Path, to: &Path) -> io::Result<()> {
        self.link(from, to)?;
        let (a, b) = (file.metadata()?, fs::symlink_metadata(to)?);
        if (a.dev(), a.ino()) == (b.dev(), b.ino()) {
            return Ok(());
        }
        fs::remove_file(to)?;
        Err(io::Error::from(io::ErrorKind::Interrupted))
    }

    /// Copies an open file to the new file `to`, sharing its blocks where the file system
    /// can, and hands each piece of what was copied to `seen`.
    pub(crate) fn copy_open(
        &self,
        file: &mut File,
        to: &Path,
        mut seen: impl FnMut(&[u8]),
    ) -> io::Result<u64> {
        self.step(Step::Copy, to)?;
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(to)?;
        #[cfg(target_os = "linux")]
        let shared = rustix::fs::ioctl_ficlone(&out, &*file).is_ok();
        #[cfg(not(target_os = "linux"))]
        let shared = false;
        // Where the blocks are shared, what is hashed must be the copy: the original may
        // change from here on.
        let mut clone = if shared { Some(File::open(to)?) } else { None };
        let mut buffer = vec![0u8; 1 << 18];
        let mut total = 0u64;
        loop {
            let read = match &mut clone {
                Some(clone) => clone.read(&mut buffer)?,
                None => file.read(&mut buffer)?,
            };
            let Some(piece) = buffer.get(..read).filter(|p| !p.is_empty()) else { break };
            seen(piece);
            if !shared {
                out.write_all(piece)?;
            }
            total += read as u64;
        }
        out.set_permissions(fs::Permissions::from_mode(0o444))?;
        Ok(total)
    }

    /// Swaps two folders in one step. `false` where the file system can't.
    pub(crate) fn exchange(&self, a: &Path, b: &Path) -> Result<bool> {
        self.step(Step::Exchange, b).map_err(|e| Error::io("move into place", b, e))?;
        match rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(
                rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP,
            ) => Ok(false),
            Err(e) => Err(Error::io("move into place", b, e.into())),
        }
    }

    /// Removes a file if it is there.
    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
            _ => Ok(()),
        }
    }
}

/// Leaves a file or folder to its owner.
pub(crate) fn private(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|e| Error::io("keep others out of", path, e))
}

/// The folder that a file is in: this one, for a name alone.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}

/// The name under which a file is written before it is moved to `path`.
pub(crate) fn aside(path: &Path) -> PathBuf {
    with_suffix(path, ".tmp")
}

/// `path` with `suffix` after its file name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(OsStr::new(suffix));
    PathBuf::from(name)
}

/// An open folder below which files are opened without following any link, and without
/// ever leaving it.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: rustix::fd::OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder; the last part of the path may not be a link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(
            path,
            OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY,
            Mode::empty(),
        )?;
        Ok(Folder { fd, path: path.to_path_buf() })
    }

    /// Where the folder was when it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file at `relative`, no part of which may be a link or lead out.
    pub(crate) fn open_file(&self, relative: &Path) -> io::Result<File> {
        // NONBLOCK: a pipe with a name must be refused, not waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = rustix::fs::openat2(
            &self.fd,
            relative,
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        );
        let fd = match opened {
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
                self.open_step_by_step(relative, flags)?
            }
            other => other?,
        };
        let file = File::from(fd);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(file)
    }

    /// What `openat2` does, for kernels and sandboxes without it.
    fn open_step_by_step(&self, relative: &Path, flags: OFlags) -> io::Result<rustix::fd::OwnedFd> {
        use std::path::Component;
        let mut at = rustix::io::dup(&self.fd)?;
        let mut parts = relative.components().peekable();
        while let Some(part) = parts.next() {
            let Component::Normal(name) = part else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "leads out of the folder"));
            };
            let flags = if parts.peek().is_some() {
                OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY
            } else {
                flags
            };
            at = rustix::fs::openat(&at, name, flags, Mode::empty())?;
        }
        Ok(at)
    }

    /// The regular files below `relative`, sorted by path, to a depth of `depth` folders.
    /// Links, hidden entries and what is no file are left out.
    pub(crate) fn list(
        &self,
        relative: &Path,
        depth: usize,
    ) -> io::Result<Vec<(PathBuf, Fingerprint)>> {
        let mut found = Vec::new();
        self.list_into(relative, depth, &mut found)?;
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    fn list_into(
        &self,
        relative: &Path,
        depth: usize,
        found: &mut Vec<(PathBuf, Fingerprint)>,
    ) -> io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let fd = self.open_step_by_step(
            relative,
            OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY,
        );
        let fd = match fd {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in rustix::fs::Dir::read_from(&fd)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name.as_bytes().starts_with(b".") {
                continue;
            }
            let stat = match rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(rustix::io::Errno::NOENT) => continue,
                other => other?,
            };
            let path = relative.join(name);
            match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
                rustix::fs::FileType::RegularFile => {
                    found.push((path, Fingerprint::of_stat(&stat)))
                }
                rustix::fs::FileType::Directory if depth > 0 => {
                    self.list_into(&path, depth - 1, found)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What tells whether a file is still the one that was read: size, time of change, inode.
///
/// The time of the last status change is left out on purpose: giving a file a second
/// name moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(from = "(u64, i64, u64)", into = "(u64, i64, u64)")]
pub struct Fingerprint {
    /// Bytes.
    pub size: u64,
    /// Time of the last change of content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// The file's number in its file system.
    pub inode: u64,
}

impl From<(u64, i64, u64)> for Fingerprint {
    fn from((size, mtime_ns, inode): (u64, i64, u64)) -> Self {
        Fingerprint { size, mtime_ns, inode }
    }
}

impl From<Fingerprint> for (u64, i64, u64) {
    fn from(file: Fingerprint) -> Self {
        (file.size, file.mtime_ns, file.inode)
    }
}

impl Fingerprint {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::of_metadata(&file.metadata()?))
    }

    /// The file at a path, if there is a regular one.
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        let meta = fs::symlink_metadata(path).ok()?;
        meta.is_file().then(|| Self::of_metadata(&meta))
    }

    pub(crate) fn of_metadata(meta: &fs::Metadata) -> Self {
        Fingerprint {
            size: meta.len(),
            mtime_ns: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
            inode: meta.ino(),
        }
    }

    // The widths of these fields differ between platforms.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    fn of_stat(stat: &rustix::fs::Stat) -> Self {
        Fingerprint {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: (stat.st_mtime as i64)
                .saturating_mul(1_000_000_000)
                .saturating_add(stat.st_mtime_nsec as i64),
            inode: stat.st_ino as u64,
        }
    }

    /// Whether a change right after this fingerprint was taken could go unnoticed,
    /// because the clock of the file system had not ticked on at `now_ns`.
    pub(crate) fn is_racy(&self, now_ns: i64) -> bool {
        // File systems that keep whole seconds show it by what they store.
        let tick = if self.mtime_ns % 1_000_000_000 == 0 { 2_000_000_000 } else { 20_000_000 };
        self.mtime_ns.saturating_add(tick) >= now_ns
    }
}

/// A lock on a file that ends with the process at the latest.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

impl AsFd for FileLock {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self._file.as_fd()
    }
}

impl FileLock {
    /// Takes the lock, waiting for at most `patience`.
    ///
    /// # Errors
    /// `Unavailable` when somebody else still holds it.
    pub(crate) fn take(path: &Path, what: &str, patience: std::time::Duration) -> Result<Self> {
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(|e| Error::io("open the lock file", path, e))?;
        let pause = std::time::Duration::from_millis(10);
        let mut waited = std::time::Duration::ZERO;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(FileLock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::io("lock", path, e.into())),
            }
            if waited >= patience {
                return Err(Error::new(
                    Kind::Unavailable,
                    format!(
                        "{what} is running elsewhere and holds `{}`; try again later",
                        path.display()
                    ),
                ));
            }
            std::thread::sleep(pause);
            waited += pause;
        }
    }

    /// Marks an existing file as in use by a reader.
    pub(crate) fn share(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        rustix::fs::flock(&file, FlockOperation::LockShared)?;
        Ok(FileLock { _file: file })
    }

    /// Takes an existing file's lock if nobody uses it now.
    pub(crate) fn claim(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(FileLock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_ways_out_are_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        fs::write(dir.path().join("in/own"), "o").unwrap();
        std::os::unix::fs::symlink("../secret", dir.path().join("in/link")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("in/up")).unwrap();
        let folder = Folder::open(&dir.path().join("in")).unwrap();
        assert!(folder.open_file(Path::new("own")).is_ok());
        for bad in ["link", "../secret", "up/secret", "/etc/passwd", "."] {
            assert!(folder.open_file(Path::new(bad)).is_err(), "{bad}");
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
            if bad != "." {
                assert!(folder.open_step_by_step(Path::new(bad), flags).is_err(), "{bad}");
            }
        }
        let listed = folder.list(Path::new(""), 2).unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
    }

    #[test]
    fn a_name_alone_is_one_of_this_folder() {
        for (path, folder) in [("x", "."), ("a/x", "a"), ("./x", "."), ("/x", "/"), ("/", "/")] {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder), "{path}");
        }
    }

    #[test]
    fn another_file_system_gets_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let steps = std::sync::Mutex::new(Vec::new());
        let disk = Disk::faulty(move |step, _| {
            let mut steps = steps.lock().unwrap();
            steps.push(step);
            match steps.as_slice() {
                [Step::Rename] => Err(io::Error::from(io::ErrorKind::CrossesDevices)),
                _ => Ok(()),
            }
        });
        fs::write(&from, "hers").unwrap();
        disk.bring(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "hers");
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_second_taker_gets_unavailable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::take(&path, "a rebuild", std::time::Duration::ZERO).unwrap();
        let error = FileLock::take(&path, "a rebuild", std::time::Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        drop(held);
        FileLock::take(&path, "a rebuild", std::time::Duration::ZERO).unwrap();
    }

    #[test]
    fn a_fresh_file_may_change_unseen() {
        let fresh = Fingerprint { size: 1, mtime_ns: 1_000_000_001, inode: 1 };
        assert!(fresh.is_racy(1_010_000_000));
        assert!(!fresh.is_racy(1_100_000_000));
        let coarse = Fingerprint { mtime_ns: 1_000_000_000, ..fresh };
        assert!(coarse.is_racy(2_500_000_000));
    }
}
