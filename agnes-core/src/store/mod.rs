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

/// The system database, open.
pub struct Store {
    line: Line,
    /// Held by whoever copies or replaces the file.
    copying: Mutex<()>,
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
        let is_new = !layout.state().exists();
        disk.create_folder(layout.state())?;
        if is_new {
            private(layout.state(), 0o700)?;
        }
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

    /// Copies the file as it is now. Writes go on meanwhile: they go into the log beside the file,
    /// which is left alone until the copy is made.
    ///
    /// # Errors
    /// `Unavailable` when it can't be copied.
    pub(crate) fn copy_to(&self, to: &Path) -> Result<()> {
        let _copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        let fail = |e| engine::error("copy the system database", e);
        self.lock()?
            .execute_batch("CHECKPOINT; SET checkpoint_threshold = '1TB'")
            .map_err(|e| self.in_words(fail(e)))?;
        let opened = self.opened();
        let copied = std::fs::copy(&self.path, to);
        let again = self
            .lock()
            .and_then(|held| held.execute_batch("RESET checkpoint_threshold").map_err(fail));
        copied.map_err(|e| Error::io("copy the system database to", to, e))?;
        private(to, 0o600)?;
        again?;
        match self.opened() == opened {
            true => Ok(()),
            // Opening it may have folded its log in while it was copied.
            false => Err(Error::new(
                Kind::Unavailable,
                "the system database was opened again while it was copied; try again",
            )),
        }
    }

    /// Closes the file, has another one put in its place, and opens that.
    ///
    /// # Errors
    /// Those of `put`; as [`Store::open`].
    pub(crate) fn replace(&self, put: impl FnOnce() -> Result<()>) -> Result<()> {
        let _copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        self.line.closed(put)
    }

    /// Moves a system database aside that can't be opened, and its log; none when somebody has it.
    pub(crate) fn set_aside(layout: &Layout, disk: &Disk) -> Result<Option<PathBuf>> {
        let path = layout.system_db();
        let lock = with_suffix(&path, ".lock");
        let what = "another user of the system database";
        let Ok(_lock) = FileLock::take(&lock, what, Duration::ZERO) else { return Ok(None) };
        let aside = with_suffix(&path, ".broken");
        let log = with_suffix(&path, ".wal");
        if log.exists() {
            disk.rename(&log, &with_suffix(&aside, ".wal"))?;
        }
        disk.rename(&path, &aside)?;
        Ok(Some(aside))
    }

    /// The schema of another system database, which is only looked at.
    ///
    /// # Errors
    /// `Invalid` when it is none; `Unavailable` when another process has it open.
    pub fn schema_of(path: &Path) -> Result<u32> {
        let none = |why: Error| match engine::is_lock_conflict(why.message()) {
            true => Error::new(Kind::Unavailable, "another process has it open").because(why),
            false => Error::new(Kind::Invalid, "this is no system database").because(why),
        };
        let read = || {
            let limits = engine::Limits { memory_bytes: 256 << 20, threads: 1 };
            let connection = engine::in_memory(&limits)?;
            engine::run(&connection, "open the backup", &sql::attach_state_to_read(path)?)?;
            schema::version(&connection)?.ok_or_else(|| Error::internal("it has no schema"))
        };
        read().map_err(none)
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
        drop(held);
        self.keep_private();
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
        schema::version(&*self.lock()?).map(|v| v.unwrap_or(0))
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

/// Runs `work` in one transaction of `connection`: all of it, or nothing.
fn transaction<T>(
    connection: &Connection,
    operation: &str,
    work: impl FnOnce(&Connection) -> Result<T, duckdb::Error>,
) -> Result<T> {
    let fail = |e| engine::error(operation, e);
    connection.execute_batch("BEGIN").map_err(fail)?;
    match work(connection) {
        Ok(value) => {
            connection.execute_batch("COMMIT").map_err(fail)?;
            Ok(value)
        }
        Err(error) => {
            let _ = connection.execute_batch("ROLLBACK");
            Err(fail(error))
        }
    }
}

fn read_holder(lock_file: &Path) -> Option<u32> {
    std::fs::read_to_string(lock_file).ok()?.trim().parse().ok()
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
                    .execute_batch("USE state.main")
                    .map_err(|e| engine::error("open the system database", e))?;
                return Ok(connection);
            }
            Err(error) => engine::message(&error),
        };
        if !engine::is_lock_conflict(&error) {
            return Err(Error::new(
                Kind::Unavailable,
                format!(
                    "the system database `{}` can't be opened: {error}; restore a backup, or the \
                     copy beside it",
                    path.display()
                ),
            )
            .with(Key::Path, path.display()));
        }
        if waited >= patience {
            return Err(held_by(engine::lock_holder(&error), path));
        }
        std::thread::sleep(pause);
        waited += pause;
    }
}
