//! The system database: what Agnes must remember that no extract holds.
//!
//! DuckDB in `state/system.duckdb`, one read-write connection for each process. Everything
//! goes through the typed methods of [`Store`]; the rest of the crate knows no SQL of it.
//!
//! DuckDB lets one process write and then no other even read. A second process waits for a
//! few seconds and then hears who holds it.

mod access;
mod audit;
mod columns;
mod line;
mod metadata;
mod metrics;
pub(crate) mod old;
mod ownership;
mod profiles;
mod registry;
mod schema;
mod subscriptions;
mod sync_runs;
mod sync_state;

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use duckdb::Connection;
use line::{Held, Line};

pub(crate) use metrics::MetricRow;
pub use schema::SCHEMA_VERSION;
pub use sync_runs::SyncRun;
pub use sync_state::{SyncEvent, SyncState};

use crate::clock::Timestamp;
use crate::disk::{Disk, FileLock, private, with_suffix};
use crate::layout::Layout;
use crate::{Error, Key, Kind, Result, engine, sql};

/// The log beside the file is folded in when it is longer. Reading it at the start takes half a
/// millisecond for each write, of which this is about a thousand; folding it in takes 80 ms however
/// many rows there are.
const LOG_MAX: &str = "SET checkpoint_threshold = '1MB'";

/// The system database, open.
pub struct Store {
    line: Line,
    /// Held by whoever copies or replaces the file. What is read through once stays open as long as
    /// it is the file: whatever descriptor of it this process closes, the engine's lock goes along,
    /// and another process might write to it.
    copying: Mutex<Option<File>>,
    path: PathBuf,
    /// DuckDB's own lock doesn't show within one process.
    _lock: FileLock,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the system database, creates it or brings it to this version's schema.
    ///
    /// # Errors
    /// `Unavailable` when another process holds it longer than `patience`; `Invalid` when a
    /// newer version of Agnes wrote it.
    pub(crate) fn open(
        layout: &Layout,
        disk: &Disk,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Store> {
        disk.create_private_folder(layout.state())?;
        let path = layout.system_db();
        let lock_file = with_suffix(&path, ".lock");
        // Where it can't be written at all, nobody else is to blame.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&lock_file)
            .map_err(|e| Error::io("open the lock file", &lock_file, e))?;
        let lock = FileLock::take(&lock_file, "another user of the system database", patience)
            .map_err(|error| held_by(read_holder(&lock_file), &path).because(error))?;
        // For the message above; a stale number is never looked at.
        let _ = std::fs::write(&lock_file, std::process::id().to_string());
        let (file, disk) = (path.clone(), disk.clone());
        let open = move || {
            let connection = attach(&file, patience)?;
            // It holds hashes of passwords and tokens.
            private(&file, 0o600)?;
            schema::migrate(connection, &file, &disk, now, patience)
        };
        let line = Line::new(Box::new(open))?;
        Ok(Store { line, copying: Mutex::default(), path, _lock: lock })
    }

    /// The connection, for one piece of work at a time.
    fn lock(&self) -> Result<Held<'_>> {
        self.line.hold()
    }

    /// Copies the file as it is now to a new one. Writes go on meanwhile: they go into the log beside
    /// the file, which is left alone until the copy is made.
    ///
    /// # Errors
    /// `Unavailable` when it can't be copied.
    pub(crate) fn copy_to(&self, to: &Path) -> Result<()> {
        let mut copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        let fail = |e| engine::error("copy the system database", e);
        let opened = {
            let mut held = self.lock()?;
            let flushed =
                held.execute_batch("CHECKPOINT; SET checkpoint_threshold = '1TB'").map_err(fail);
            held.judge(&flushed);
            flushed.map_err(|e| self.in_words(e))?;
            self.opened()
        };
        let copied = self.copy_through(&mut copying, to);
        let again = self.lock().and_then(|mut held| {
            let reset = held.execute_batch(LOG_MAX).map_err(fail);
            held.judge(&reset);
            reset.map(|()| self.opened())
        });
        copied.map_err(|e| Error::io("copy the system database to", to, e))?;
        match again.map_err(|e| self.in_words(e))? == opened {
            true => Ok(()),
            // Opening it may have folded its log in while it was copied.
            false => Err(Error::new(
                Kind::Unavailable,
                "the system database was opened again while it was copied; try again",
            )),
        }
    }

    fn copy_through(&self, kept: &mut Option<File>, to: &Path) -> io::Result<()> {
        let from = match kept {
            Some(file) => file,
            None => kept.insert(File::open(&self.path)?),
        };
        from.rewind()?;
        let mut out =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        io::copy(from, &mut out).map(drop)
    }

    /// Closes the file, has another one put in its place, and opens that.
    ///
    /// # Errors
    /// Those of `put`; as [`Store::open`].
    pub(crate) fn replace(&self, put: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = self.lock()?;
        // Its log goes with what is in it.
        let flushed = held
            .execute_batch("CHECKPOINT")
            .map_err(|e| engine::error("close the system database", e));
        held.judge(&flushed);
        flushed.map_err(|e| self.in_words(e))?;
        self.line.closed(held, || {
            *copying = None;
            put()
        })
    }

    /// Whether a path leads to this file. Whoever opened it by that would take the lock off it in
    /// closing it again.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let place = |path: &Path| path.metadata().ok().map(|is| (is.dev(), is.ino()));
        place(path).is_some_and(|there| place(&self.path) == Some(there))
    }

    /// Moves a system database aside that can't be used, and its log, to a name with this end; none
    /// when somebody has it, and when it is whole and of a schema that this version knows.
    pub(crate) fn set_aside(layout: &Layout, disk: &Disk, mark: &str) -> Result<Option<PathBuf>> {
        let path = layout.system_db();
        let lock = with_suffix(&path, ".lock");
        let what = "another user of the system database";
        let Ok(_lock) = FileLock::take(&lock, what, Duration::ZERO) else { return Ok(None) };
        let is_lost = match Store::schema_of(&path) {
            Ok(schema) => schema > SCHEMA_VERSION,
            // Whatever else keeps it from being opened may be over soon.
            Err(error) => error.kind() == Kind::Invalid,
        };
        if !is_lost {
            return Ok(None);
        }
        let aside = with_suffix(&path, &format!(".aside-{mark}"));
        let log = with_suffix(&path, ".wal");
        if log.exists() {
            disk.rename(&log, &with_suffix(&aside, ".wal"))?;
        }
        disk.rename(&path, &aside)?;
        Ok(Some(aside))
    }

    /// The schema of a data folder's system database, which is only looked at, and not even that
    /// while somebody has it open, in this process or another one.
    ///
    /// # Errors
    /// As [`Store::schema_of`].
    pub(crate) fn schema_in(layout: &Layout) -> Result<u32> {
        let path = layout.system_db();
        let lock = with_suffix(&path, ".lock");
        let _lock = match FileLock::claim(&lock) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return Err(in_use()),
            // Nobody has opened it here.
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(Error::io("lock", &lock, e)),
        };
        Store::schema_of(&path)
    }

    /// The schema of another system database, which is only looked at.
    ///
    /// # Errors
    /// `Invalid` when it is none, or a broken one; `Unavailable` when another process has it open,
    /// with `in_use` under [`Key::Reason`], and when it can't be read just now; `Limit` when there
    /// is too little memory.
    pub fn schema_of(path: &Path) -> Result<u32> {
        let connection =
            engine::in_memory(&engine::Limits { memory_bytes: 256 << 20, threads: 1 })?;
        let read = || {
            engine::run(&connection, "open the backup", &sql::attach_state_to_read(path)?)?;
            schema::version(&connection)?.ok_or_else(|| Error::internal("it has no schema"))
        };
        read().map_err(|why: Error| {
            if engine::is_lock_conflict(why.message()) {
                return in_use().because(why);
            }
            let is_broken = engine::is_broken(why.message());
            match why.kind() {
                // What the system can't do just now says nothing of the file.
                Kind::Unavailable | Kind::Limit | Kind::Cancelled if !is_broken => why,
                _ => Error::new(Kind::Invalid, "this is no system database").because(why),
            }
        })
    }

    /// Folds the log beside the file in, so that opening it is quick. Where that fails the log still
    /// holds everything.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        self.read(|c| {
            c.execute_batch("CHECKPOINT").map_err(|e| engine::error("fold the log in", e))
        })
    }

    /// Opens the file again where nobody knows what the disk took of the last write.
    ///
    /// # Errors
    /// `Unavailable` when it can't be opened.
    pub(crate) fn settle(&self) -> Result<()> {
        self.lock().map(drop)
    }

    /// Counts up whenever the file was opened again: what was read before may not be what is there.
    pub(crate) fn opened(&self) -> u64 {
        self.line.made()
    }

    /// Runs `work` in one transaction.
    fn transaction<T>(
        &self,
        operation: &str,
        work: impl FnOnce(&Connection) -> Result<T, duckdb::Error>,
    ) -> Result<T> {
        let mut held = self.lock()?;
        let done = transaction(&held, operation, work);
        held.judge(&done);
        let done = done.map(|(value, is_held)| {
            if !is_held {
                held.doubt();
            }
            value
        });
        drop(held);
        self.keep_private();
        done.map_err(|error| self.in_words(error))
    }

    /// Reads something.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut held = self.lock()?;
        let done = read(&held);
        held.judge(&done);
        drop(held);
        done.map_err(|error| self.in_words(error))
    }

    /// An error without where the file lies; of a disk that is full, in our own words.
    fn in_words(&self, error: Error) -> Error {
        /// As the system calls it: a disk that is full, a quota that is, a file that may not grow.
        const FULL: [&str; 3] =
            ["No space left on device", "Disk quota exceeded", "File too large"];
        let path = self.path.display().to_string();
        if FULL.iter().any(|full| error.message().contains(full)) {
            let what = "the disk of the state folder takes no more; nothing was changed, and the \
                        same will do once there is room";
            return Error::new(Kind::Unavailable, what).with(Key::Path, path);
        }
        match self.path.parent() {
            Some(folder) => error.without_home(&format!("{}/", folder.display())),
            None => error,
        }
    }

    /// The log beside the file holds what the file holds. The engine makes it for everybody to
    /// read, in a folder that may be anybody's.
    fn keep_private(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        let log = with_suffix(&self.path, ".wal");
        if std::fs::metadata(&log).is_ok_and(|is| is.permissions().mode() & 0o077 != 0) {
            // What was written is written, whether this succeeds or not.
            let _ = private(&log, 0o600);
        }
    }

    /// The schema's version, for `agnes status`.
    ///
    /// # Errors
    /// `Internal` when it can't be read.
    pub fn schema_version(&self) -> Result<u32> {
        self.read(schema::version).map(|v| v.unwrap_or(0))
    }
}

/// Puts names in lower case into `temp.touched`, for statements about many rows: an appender takes a
/// hundredth of the time that statements with parameters do.
fn touch<'n>(
    connection: &Connection,
    names: impl Iterator<Item = &'n str>,
) -> Result<(), duckdb::Error> {
    connection.execute_batch("CREATE OR REPLACE TEMP TABLE touched (name VARCHAR)")?;
    let mut touched = connection.appender_to_catalog_and_db("touched", "temp", "main")?;
    for name in names {
        touched.append_row([name.to_ascii_lowercase()])?;
    }
    touched.flush()
}

/// Runs `work` in one transaction of `connection`: all of it, or nothing. Also says whether the engine
/// has the file still: it gives it up where it has written the transaction to the log, and then fails
/// to fold that in.
fn transaction<T>(
    connection: &Connection,
    operation: &str,
    work: impl FnOnce(&Connection) -> Result<T, duckdb::Error>,
) -> Result<(T, bool)> {
    let fail = |e| engine::error(operation, e);
    connection.execute_batch("BEGIN").map_err(fail)?;
    match work(connection) {
        Ok(value) => match connection.execute_batch("COMMIT").map_err(fail) {
            Ok(()) => Ok((value, true)),
            Err(e) if e.message().contains("succeeded and is durable") => Ok((value, false)),
            Err(e) => Err(e),
        },
        Err(error) => {
            let _ = connection.execute_batch("ROLLBACK");
            Err(fail(error))
        }
    }
}

fn read_holder(lock_file: &Path) -> Option<u32> {
    std::fs::read_to_string(lock_file).ok()?.trim().parse().ok()
}

fn in_use() -> Error {
    Error::new(Kind::Unavailable, "another process has it open").with(Key::Reason, "in_use")
}

fn held_by(process: Option<u32>, path: &Path) -> Error {
    let holder = match process {
        Some(id) if id == std::process::id() => "another part of this process".to_string(),
        Some(id) => format!("process {id}"),
        None => "another process".to_string(),
    };
    Error::new(
        Kind::Unavailable,
        format!(
            "{holder} holds the system database `{}`; let it finish, or stop it, and try again",
            path.display()
        ),
    )
    .with(Key::Path, path.display())
}

/// Opens the file in an instance of its own, waiting for another process to let go of it.
fn attach(path: &Path, patience: Duration) -> Result<Connection> {
    let pause = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    loop {
        let connection = engine::in_memory(&engine::Limits { memory_bytes: 1 << 30, threads: 1 })?;
        let statement = sql::attach_to_write(path, "state")?;
        let error = match connection.execute_batch(statement.as_str()) {
            Ok(()) => {
                connection
                    .execute_batch(&format!("USE state.main; {LOG_MAX}"))
                    .map_err(|e| engine::error("open the system database", e))?;
                return Ok(connection);
            }
            Err(error) => engine::message(&error),
        };
        if !engine::is_lock_conflict(&error) {
            let cure = match engine::is_broken(&error) {
                true => "; restore a backup, or the copy beside it",
                false => "",
            };
            let shown = path.display();
            return Err(Error::new(
                Kind::Unavailable,
                format!("the system database `{shown}` can't be opened: {error}{cure}"),
            )
            .with(Key::Path, shown));
        }
        if waited >= patience {
            return Err(held_by(engine::lock_holder(&error), path));
        }
        std::thread::sleep(pause);
        waited += pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Agnes;
    use crate::access::{Email, Principal, User};

    fn add(agnes: &Agnes, name: &str) -> Result<User> {
        let access = agnes.access()?;
        let email = Email::parse(format!("{name}@example.com"))?;
        access.admin(&Principal::Operator)?.add_user(email, None)
    }

    /// A system database whose file can't grow any more, while the log beside it can: as on a disk
    /// that is nearly full.
    #[cfg(target_os = "linux")]
    fn nearly_full(dir: &Path, rows: u32) -> (Agnes, File) {
        use std::io::Write as _;
        use std::os::fd::AsRawFd as _;

        use rustix::fs::{MemfdFlags, SealFlags};

        let agnes = Agnes::open(dir).unwrap();
        add(&agnes, "ada").unwrap();
        let path = agnes.layout().system_db();
        drop(agnes);
        let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::memfd_create("system", flags).unwrap());
        file.write_all(&std::fs::read(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let memory = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::os::unix::fs::symlink(memory, &path).unwrap();
        let agnes = Agnes::open(dir).unwrap();
        // More than the blocks have room for that are free.
        let fill = format!(
            "SET checkpoint_threshold = '1TB';
             INSERT INTO audit_log (id, timestamp, action)
             SELECT uuid()::VARCHAR, now()::TIMESTAMP, 'x' FROM range({rows})"
        );
        agnes.store().unwrap().lock().unwrap().execute_batch(&fill).unwrap();
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW).unwrap();
        (agnes, file)
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_the_engine_has_given_up_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let (agnes, _file) = nearly_full(dir.path(), 8000);
        let store = agnes.store().unwrap();
        for at in 0..2 {
            let error = store.copy_to(&dir.path().join("copy")).unwrap_err();
            assert_eq!(error.kind(), Kind::Unavailable, "{error}");
            // Reading goes on, and so does writing, which the log takes.
            assert_eq!(store.facts().unwrap().users.len(), 1 + at);
            add(&agnes, &format!("user{at}")).unwrap();
        }
        assert!(store.replace(|| panic!("it isn't closed")).is_err());
        add(&agnes, "bob").unwrap();
        // Where nobody has noted it the first who reads finds out, for those who come after her.
        store.lock().unwrap().execute_batch("CHECKPOINT").unwrap_err();
        assert_eq!(store.facts().unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(store.facts().unwrap().users.len(), 4);
        drop((store, agnes));
        let agnes = Agnes::open(dir.path()).unwrap();
        assert_eq!(agnes.store().unwrap().facts().unwrap().users.len(), 4);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn where_a_long_log_can_not_be_folded_in_nothing_is_written_and_everything_read() {
        let dir = tempfile::tempdir().unwrap();
        let (agnes, _file) = nearly_full(dir.path(), 50_000);
        let store = agnes.store().unwrap();
        store.lock().unwrap().execute_batch(LOG_MAX).unwrap();
        for at in 0..2 {
            let error = add(&agnes, "bob").unwrap_err();
            assert_eq!(error.kind(), Kind::Unavailable, "{at}: {error}");
            assert_eq!(store.facts().unwrap().users.len(), 1, "{at}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_disk_has_taken_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let (agnes, _file) = nearly_full(dir.path(), 8000);
        let store = agnes.store().unwrap();
        store.lock().unwrap().execute_batch("SET checkpoint_threshold = '1KB'").unwrap();
        let opened = store.opened();
        // It is in the log when folding that in fails.
        let bob = add(&agnes, "bob").unwrap();
        assert!(agnes.access().unwrap().user(&bob.id).is_some());
        add(&agnes, "cyd").unwrap();
        assert_eq!(store.opened(), opened + 1, "the engine has given the file up");
        assert_eq!(store.facts().unwrap().users.len(), 3);
    }

    #[test]
    fn the_log_is_never_long_and_is_folded_in_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let agnes = Agnes::open(dir.path()).unwrap();
        let store = agnes.store().unwrap();
        let path = with_suffix(&agnes.layout().system_db(), ".wal");
        let log = || std::fs::metadata(&path).map_or(0, |is| is.len());
        let much = "INSERT INTO audit_log (id, timestamp, action)
                    SELECT uuid()::VARCHAR, now()::TIMESTAMP, repeat('x', 1000) FROM range(600)";
        for at in 0..6 {
            store.lock().unwrap().execute_batch(much).unwrap();
            // It is looked at before the next write.
            assert!(log() < 2_000_000, "{} bytes after {at}", log());
            if at == 2 {
                store.copy_to(&dir.path().join("copy")).unwrap();
            }
        }
        add(&agnes, "ada").unwrap();
        assert!(log() > 0);
        agnes.access().unwrap().flush().unwrap();
        assert_eq!(log(), 0);
    }

    #[test]
    fn a_write_is_planned_on_what_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let agnes = Agnes::open(dir.path()).unwrap();
        add(&agnes, "ada").unwrap();
        let store = agnes.store().unwrap();
        let mut held = store.lock().unwrap();
        let put = "INSERT INTO users (id, email, active, created_at, updated_at) VALUES
                   ('b', 'bob@example.com', true, now()::TIMESTAMP, now()::TIMESTAMP)";
        held.execute_batch(put).unwrap();
        held.doubt();
        drop(held);
        assert_eq!(add(&agnes, "bob").unwrap_err().kind(), Kind::Conflict);
    }

    #[test]
    fn a_panic_leaves_no_transaction_open() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None).unwrap();
        let store = Store::open(&layout, &Disk::real(), Timestamp::EPOCH, Duration::ZERO).unwrap();
        let panics = || store.transaction("panic", |_| -> Result<(), duckdb::Error> { panic!() });
        let panicked = std::thread::scope(|scope| scope.spawn(panics).join());
        assert!(panicked.is_err());
        for _ in 0..2 {
            store.transaction("go on", |_| Ok(())).unwrap();
        }
    }

    #[test]
    fn what_is_no_database_is_told_from_what_can_not_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let agnes = Agnes::open(dir.path().join("data")).unwrap();
        let whole = dir.path().join("whole");
        agnes.store().unwrap().copy_to(&whole).unwrap();
        assert_eq!(Store::schema_of(&whole).unwrap(), SCHEMA_VERSION);
        let whole = std::fs::read(whole).unwrap();
        let path = dir.path().join("x.duckdb");
        let kind = || Store::schema_of(&path).unwrap_err().kind();
        for broken in [&b""[..], &b"garbage"[..], &[0; 50_000][..], &whole[..10_000]] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(kind(), Kind::Invalid, "{} bytes", broken.len());
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(kind(), Kind::Unavailable, "nothing there");
        std::fs::create_dir(&path).unwrap();
        assert_eq!(kind(), Kind::Unavailable, "a folder");
    }

    #[test]
    fn only_what_can_not_be_used_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None).unwrap();
        let path = layout.system_db();
        let set_aside = || Store::set_aside(&layout, &Disk::real(), "then").unwrap();
        drop(Store::open(&layout, &Disk::real(), Timestamp::EPOCH, Duration::ZERO).unwrap());
        assert_eq!(set_aside(), None, "it is whole");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(set_aside(), None, "it can't be read, as where no more files can be opened");
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "garbage").unwrap();
        let aside = set_aside().unwrap();
        assert!(aside.to_string_lossy().ends_with(".aside-then"));
        assert!(!path.exists() && aside.exists());
    }

    #[test]
    fn what_is_open_is_not_even_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let agnes = Agnes::open(dir.path()).unwrap();
        add(&agnes, "ada").unwrap();
        let error = Store::schema_in(agnes.layout()).unwrap_err();
        assert_eq!(error.context(Key::Reason), Some("in_use"));
        drop(agnes);
        let layout = Layout::new(dir.path(), None).unwrap();
        assert_eq!(Store::schema_in(&layout).unwrap(), SCHEMA_VERSION);
    }
}
