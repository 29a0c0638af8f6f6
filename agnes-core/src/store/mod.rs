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
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use duckdb::Connection;

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
    connection: Mutex<Connection>,
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
        let connection = attach(&path, patience)?;
        // It holds hashes of passwords and tokens.
        private(&path, 0o600)?;
        let connection = schema::migrate(connection, &path, disk, now, patience)?;
        Ok(Store { connection: Mutex::new(connection), path, _lock: lock })
    }

    /// The connection, for one piece of work at a time.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while it was held has rolled its transaction back.
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Runs `work` in one transaction.
    fn transaction<T>(
        &self,
        operation: &str,
        work: impl FnOnce(&Connection) -> Result<T, duckdb::Error>,
    ) -> Result<T> {
        let done = transaction(&self.lock(), operation, work);
        self.keep_private();
        done
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
        schema::version(&self.lock()).map(|v| v.unwrap_or(0))
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
