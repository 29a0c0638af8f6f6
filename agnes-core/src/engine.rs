//! DuckDB instances, all opened here, and what their errors become.
//!
//! Every instance is in memory: DuckDB keeps a cache of instances by path and would hand
//! back a file's old content after it was replaced. Files are attached instead.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use duckdb::{Config, Connection};

use crate::{Error, Key, Kind, Result, sql};

pub(crate) mod direct;

/// What one instance may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The engine's buffers, bytes. A single value may pass it.
    pub memory_bytes: u64,
    /// Worker threads.
    pub threads: u32,
}

impl Default for Limits {
    /// 2 GiB and as many threads as there are cores.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Limits { memory_bytes: 2 << 30, threads: u32::try_from(cores).unwrap_or(2) }
    }
}

impl Limits {
    fn as_settings(&self) -> (String, String) {
        let memory = format!("{}B", self.memory_bytes.max(64 << 20));
        (memory, self.threads.max(1).to_string())
    }
}

/// The instance that was opened before anybody knew its limits.
static PREPARED: Mutex<Option<direct::Connection>> = Mutex::new(None);

fn prepared() -> MutexGuard<'static, Option<direct::Connection>> {
    PREPARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens an instance without a thread of its own, which the next caller of [`for_statements`] gets.
///
/// # Errors
/// `Internal` when it doesn't open.
#[cfg(target_os = "linux")]
pub(crate) fn prepare() -> Result<()> {
    *prepared() = Some(opened_direct(&settings("64MiB", "1", "0"))?);
    Ok(())
}

/// Closes what was prepared and not yet used.
#[cfg(target_os = "linux")]
pub(crate) fn unprepare() {
    drop(prepared().take());
}

/// A new, empty instance that fetches and loads nothing by itself and writes no
/// temporary files.
pub(crate) fn in_memory(limits: &Limits) -> Result<Connection> {
    let (memory, threads) = limits.as_settings();
    let open = || {
        let mut config = Config::default();
        for (name, value) in settings(&memory, &threads, ASYNC_THREADS) {
            config = config.with(name, value)?;
        }
        Connection::open_in_memory_with_flags(config)
    };
    open().map_err(|e| error("open the engine", e))
}

/// As [`in_memory`], for the statements of sessions.
pub(crate) fn for_statements(limits: &Limits) -> Result<direct::Connection> {
    let (memory, threads) = limits.as_settings();
    match prepared().take() {
        Some(ready) => ready
            .execute_batch(sql::limits(&memory, &threads, ASYNC_THREADS).as_str())
            .map(|()| ready)
            .map_err(|e| error("open the engine", e)),
        None => opened_direct(&settings(&memory, &threads, ASYNC_THREADS)),
    }
}

fn opened_direct(settings: &[(&str, &str)]) -> Result<direct::Connection> {
    direct::Connection::open(settings).map_err(|e| error("open the engine", e))
}

/// DuckDB 2.0 otherwise starts eight more threads for each instance.
const ASYNC_THREADS: &str = "1";

fn settings<'s>(
    memory: &'s str,
    threads: &'s str,
    async_threads: &'s str,
) -> [(&'s str, &'s str); 9] {
    [
        ("memory_limit", memory),
        ("threads", threads),
        ("async_threads", async_threads),
        ("autoinstall_known_extensions", "false"),
        ("autoload_known_extensions", "false"),
        ("allow_persistent_secrets", "false"),
        ("allow_unredacted_secrets", "false"),
        // Its default, `.tmp` in the working directory, would be readable and writable.
        ("temp_directory", ""),
        // In files of DuckDB 1.0's form, rows that were replaced in a table with a key would stay for
        // good; so they go with the next checkpoint, of tables with fewer rows than this.
        ("vacuum_rebuild_indexes", "10000000"),
    ]
}

/// A connection of either kind, as far as what is put together by [`crate::sql`] runs in both.
pub(crate) trait Runs {
    /// Runs statements that give nothing.
    fn batch(&self, sql: &str) -> std::result::Result<(), Failure>;

    /// Runs one that takes a text.
    fn with(&self, sql: &str, text: &str) -> std::result::Result<(), Failure>;
}

impl Runs for Connection {
    fn batch(&self, sql: &str) -> std::result::Result<(), Failure> {
        Ok(self.execute_batch(sql)?)
    }

    fn with(&self, sql: &str, text: &str) -> std::result::Result<(), Failure> {
        self.execute(sql, [text])?;
        Ok(())
    }
}

impl Runs for direct::Connection {
    fn batch(&self, sql: &str) -> std::result::Result<(), Failure> {
        self.execute_batch(sql)
    }

    fn with(&self, sql: &str, text: &str) -> std::result::Result<(), Failure> {
        self.execute(sql, &[text.to_string().into()])
    }
}

/// What is linked, for people who wonder why a function is missing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EngineInfo {
    /// DuckDB's version, as in `v2.0.0`.
    pub version: String,
    /// Whether time zones and `current_date` work.
    pub icu: bool,
}

/// Looks at the linked DuckDB. Where ICU is not linked in, it is loaded from the
/// extension folder if it lies there.
///
/// # Errors
/// `Internal` when the engine doesn't open.
pub fn engine_info() -> Result<EngineInfo> {
    let connection = in_memory(&Limits::default())?;
    let version = connection.version().map_err(|e| error("ask for the version", e))?;
    let has_icu = || connection.query_row("SELECT current_date", [], |_| Ok(())).is_ok();
    let icu = has_icu() || (connection.execute_batch("LOAD icu").is_ok() && has_icu());
    Ok(EngineInfo { version, icu })
}

/// The sentence to show once where ICU is missing, or nothing.
pub fn missing_icu(info: &EngineInfo) -> Option<&'static str> {
    (!info.icu).then_some(
        "this build links a DuckDB without ICU: current_date, time zones and date_trunc on \
         TIMESTAMPTZ won't work; link the official libduckdb (or run `make duckdb`), or put \
         icu.duckdb_extension into DuckDB's extension folder",
    )
}

/// The longest message of the engine that is passed on, in bytes.
const MESSAGE_MAX: usize = 4000;

/// What DuckDB's errors become. The message is the engine's own first paragraph.
pub(crate) fn error(operation: &str, error: impl Into<Failure>) -> Error {
    let mut text = error.into().first_paragraph();
    // It may quote a value of any length.
    if let Some(end) = (0..=MESSAGE_MAX).rev().find(|at| text.is_char_boundary(*at))
        && text.len() > MESSAGE_MAX
    {
        text.truncate(end);
        text.push('…');
    }
    let kind = if text.starts_with("INTERRUPT") {
        Kind::Cancelled
    } else if text.starts_with("Out of Memory") {
        Kind::Limit
    } else if text.starts_with("INTERNAL") || text.starts_with("FATAL") {
        Kind::Internal
    } else if is_lock_conflict(&text)
        || text.starts_with("Resource In Use")
        || text.contains("No space left on device")
        // A file that couldn't be written; it is there again once it is opened again.
        || text.contains("has been invalidated")
    {
        Kind::Unavailable
    } else if text.starts_with("Catalog Error") {
        Kind::NotFound
    } else if text.starts_with("IO Error") {
        Kind::Unavailable
    } else {
        Kind::Invalid
    };
    Error::new(kind, text).with(Key::Operation, operation)
}

/// The engine's message without the copy of the statement that follows it.
pub(crate) fn message(error: &duckdb::Error) -> String {
    Failure(full_message(error)).first_paragraph()
}

/// What the engine says when it fails.
#[derive(Debug, Clone)]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    /// The message without the copy of the statement that follows it.
    pub(crate) fn first_paragraph(&self) -> String {
        self.0.split("\n\n").next().unwrap_or("").trim().to_string()
    }

    /// Whether a batch would have more text in a column than Arrow's offsets reach.
    pub(crate) fn is_of_long_texts(&self) -> bool {
        self.0.contains("maximum total string size")
    }
}

impl From<duckdb::Error> for Failure {
    fn from(error: duckdb::Error) -> Failure {
        Failure(full_message(&error))
    }
}

/// The whole of the engine's message, for readers that look for a line number in it.
pub(crate) fn full_message(error: &duckdb::Error) -> String {
    let text = match error {
        duckdb::Error::DuckDBFailure(_, Some(text)) => text.clone(),
        other => other.to_string(),
    };
    // Some come as JSON.
    let told = |text: &str| -> Option<String> {
        let json: serde_json::Value = serde_json::from_str(text).ok()?;
        let part = |key: &str| json.get(key)?.as_str();
        Some(format!("{} Error: {}", part("exception_type")?, part("exception_message")?))
    };
    match text.starts_with('{') {
        true => told(&text).unwrap_or(text),
        false => text,
    }
}

pub(crate) fn is_lock_conflict(text: &str) -> bool {
    text.contains("Could not set lock on file") || text.contains("Conflicting lock is held")
}

/// Whether the engine says of a file that it is no database, or that it was cut off or changed; not
/// that it can't have it just now.
pub(crate) fn is_broken(text: &str) -> bool {
    const BROKEN: [&str; 6] = [
        "is not a valid duckdb database file",
        "corrupt database file",
        "could not read enough bytes from file",
        "trying to read a database file with",
        "corrupt wal",
        "failed to read wal of version",
    ];
    let text = text.to_ascii_lowercase();
    BROKEN.iter().any(|broken| text.contains(broken))
}

/// The process that holds a lock, where the engine's message names it.
pub(crate) fn lock_holder(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("(PID ")?;
    rest.split(')').next()?.trim().parse().ok()
}

/// The versions of DuckDB files that the linked engine reads: 64 to 68 and, since 2.0, 999.
fn readable(version: u64) -> bool {
    (64..=68).contains(&version) || version == 999
}

/// Checks the first bytes of what should be a DuckDB file, before the engine opens it.
///
/// # Errors
/// What is wrong, as the end of a sentence that starts with the file's name.
pub(crate) fn check_header(head: &[u8], size: u64) -> std::result::Result<(), String> {
    /// Three header blocks of 4 KiB.
    const SMALLEST: u64 = 3 * 4096;
    if size == 0 {
        return Err("is empty".into());
    }
    let magic = head.get(8..12);
    if magic != Some(b"DUCK") {
        return Err("is no DuckDB database".into());
    }
    let version = head
        .get(12..20)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_le_bytes)
        .unwrap_or(0);
    if !readable(version) {
        return Err(format!(
            "has DuckDB's storage version {version}, which this build can't read; \
             write it with STORAGE_VERSION 'v1.0.0'"
        ));
    }
    if size < SMALLEST {
        return Err(format!("is cut off: it has only {size} bytes"));
    }
    Ok(())
}

/// Runs statements that were put together by [`crate::sql`].
pub(crate) fn run(connection: &impl Runs, operation: &str, sql: &crate::sql::Sql) -> Result<()> {
    connection.batch(sql.as_str()).map_err(|e| error(operation, e))
}

/// Name and type of each column that a query gives.
pub(crate) fn columns(
    connection: &Connection,
    body: &crate::sql::Sql,
) -> Result<Vec<(String, String)>, duckdb::Error> {
    let mut statement = connection.prepare(crate::sql::describe(body).as_str())?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Removes a database file and its log, as left behind by a killed writer.
pub(crate) fn remove_database(disk: &crate::disk::Disk, file: &Path) -> Result<()> {
    disk.remove(file)?;
    disk.remove(&crate::disk::with_suffix(file, ".wal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linked_duckdb_has_icu() {
        let info = engine_info().unwrap();
        assert!(info.icu, "{}", missing_icu(&info).unwrap_or_default());
        assert_eq!(info.version, "v2.0.0");
        let connection = in_memory(&Limits::default()).unwrap();
        for sql in [
            "SELECT current_date",
            "SELECT now() - INTERVAL 1 DAY",
            "SELECT date_trunc('day', TIMESTAMPTZ '2026-01-01 00:00:00+02')",
            "SELECT TIMESTAMP '2026-01-01' AT TIME ZONE 'Europe/Prague'",
        ] {
            connection.execute_batch(sql).unwrap();
        }
    }

    #[test]
    fn an_instance_starts_few_threads_and_leaves_no_temporary_folder() {
        let connection = in_memory(&Limits { memory_bytes: 1 << 30, threads: 1 }).unwrap();
        let setting = |name: &str| -> String {
            connection
                .query_row("SELECT current_setting(?)::VARCHAR", [name], |row| row.get(0))
                .unwrap()
        };
        assert_eq!(setting("threads"), "1");
        assert_eq!(setting("async_threads"), "1");
        assert_eq!(setting("temp_directory"), "");
        assert_eq!(setting("autoload_known_extensions"), "false");
    }

    #[test]
    fn headers_are_read_before_the_engine_is() {
        let mut head = vec![0u8; 20];
        assert!(check_header(&head, 0).unwrap_err().contains("empty"));
        assert!(check_header(&head, 4096).unwrap_err().contains("no DuckDB database"));
        head[8..12].copy_from_slice(b"DUCK");
        head[12..20].copy_from_slice(&1234u64.to_le_bytes());
        assert!(check_header(&head, 40960).unwrap_err().contains("1234"));
        head[12..20].copy_from_slice(&64u64.to_le_bytes());
        assert!(check_header(&head, 100).unwrap_err().contains("cut off"));
        check_header(&head, 12288).unwrap();
    }
}
