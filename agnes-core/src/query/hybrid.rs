//! Hybrid queries: rows of remote systems beside the tables that are published here.
//!
//! A [`HybridSession`] belongs to one caller. She registers the rows of a remote statement under
//! an alias, several of them if she likes, and joins them with the tables that she may see. The
//! rows lie in parquet files of the session's own, which go with it; the statements that read
//! them stand behind the same walls as all others.
//!
//! A remote statement runs under the credentials of the service, so that it may read what its
//! caller may not. It therefore takes a permit of its own, `remote_engine:<name>`: admins have it,
//! others by a grant.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use arrow::array::Array as _;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;

use super::limits::Turn;
use super::remote::{Came, REMOTE_ENGINE, RemoteEngine, RemoteRows, Stop};
use super::{QueryOptions, Rows, Session};
use crate::access::{Access, Permitted, Principal, Resource};
use crate::disk::FileLock;
use crate::orchestrator::View;
use crate::{Agnes, Error, Key, Kind, Result, SourceName, TableName, ViewName, engine, sql};

/// What the rows of remote statements may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HybridLimits {
    /// The most rows of one remote statement.
    pub max_rows: u64,
    /// The most bytes of all remote rows of a session, as Arrow holds them.
    pub max_bytes: u64,
    /// The most rows of a result.
    pub max_result_rows: u64,
    /// The most bytes that a remote statement may read, where its system can tell before; none is
    /// no limit.
    pub max_scan_bytes: Option<u64>,
    /// The time that a remote statement may take, and that a caller waits for a result's rows.
    pub time: Duration,
}

impl Default for HybridLimits {
    /// 500,000 rows, 2 GiB, 100,000 rows of a result, 100 GiB to read, 300 s.
    fn default() -> Self {
        HybridLimits {
            max_rows: 500_000,
            max_bytes: 2 << 30,
            max_result_rows: 100_000,
            max_scan_bytes: Some(100 << 30),
            time: Duration::from_secs(300),
        }
    }
}

/// What was registered under an alias.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Registered {
    /// The alias.
    pub alias: ViewName,
    /// The engine that the rows came from: `remote_engine:<name>`.
    pub engine: Resource,
    /// Its columns.
    pub columns: Vec<String>,
    /// Its rows.
    pub rows: u64,
    /// Their size, as Arrow holds them, bytes; written out as `memory_mb`, MiB to two places.
    #[serde(rename = "memory_mb", serialize_with = "mebibytes")]
    pub bytes: u64,
    /// What the statement read there, where its system could tell before, bytes.
    pub scan_bytes: Option<u64>,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
}

fn mebibytes<S: serde::Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    let mebibytes = *bytes as f64 / f64::from(1 << 20);
    serializer.serialize_f64((mebibytes * 100.0).round() / 100.0)
}

/// A session over what a principal may see, and over what she has registered. Nobody shares it.
#[derive(Debug)]
pub struct HybridSession<'a> {
    agnes: &'a Agnes,
    access: Arc<Access>,
    principal: Principal,
    limits: HybridLimits,
    registered: BTreeMap<ViewName, Held>,
    session: Session,
    folder: Folder,
    files: u64,
}

/// Rows that are registered.
#[derive(Debug)]
struct Held {
    told: Registered,
    view: Arc<View>,
    _rows: RowsFile,
}

/// A file of rows, which goes with whoever holds it: it would take room that nobody counts.
#[derive(Debug)]
struct RowsFile(PathBuf);

impl Drop for RowsFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A folder that goes with its session.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    _lock: FileLock,
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// The file that a session holds while it uses its folder.
const IN_USE: &str = "in-use";

impl Folder {
    /// Makes one that nobody else reads, and clears away those of sessions that were killed.
    fn make(agnes: &Agnes) -> Result<Folder> {
        use std::os::unix::fs::DirBuilderExt as _;
        let home = agnes.layout().analytics().join("hybrid");
        agnes.components().disk.create_folder(&home)?;
        // Nobody clears away what somebody else is about to use.
        let patience = Duration::from_secs(5);
        let _making = FileLock::take(&home.join(".lock"), "another session", patience)?;
        for entry in std::fs::read_dir(&home).into_iter().flatten().flatten() {
            let left = FileLock::claim(&entry.path().join(IN_USE));
            if matches!(left, Ok(Some(_))) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let path = home.join(uuid::Uuid::new_v4().simple().to_string());
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| Error::io("make the folder", &path, e))?;
        let lock = FileLock::take(&path.join(IN_USE), "another session", Duration::ZERO)?;
        Ok(Folder { path, _lock: lock })
    }
}

/// An error of the kinds that clients tell apart: `row_limit`, `memory_limit`, `scan_limit`,
/// `remote_error`, `query_error`, `timeout`.
fn of(reason: &str, kind: Kind, message: String) -> Error {
    Error::new(kind, message).with(Key::Reason, reason)
}

impl Agnes {
    /// Whether there is a remote engine of this name.
    pub fn has_remote_engine(&self, name: &str) -> bool {
        self.components().remote_engines.get(name).is_some()
    }

    /// Opens a session in which a principal may join remote rows with the tables that she may see.
    ///
    /// # Errors
    /// As [`Agnes::session_for`]; `Unavailable` when the disk can't be written.
    pub fn hybrid_session(&self, principal: &Principal) -> Result<HybridSession<'_>> {
        Ok(HybridSession {
            agnes: self,
            access: self.access()?,
            principal: principal.clone(),
            limits: self.settings().hybrid.clone(),
            session: self.session_for(principal)?.alone(BTreeMap::new())?,
            folder: Folder::make(self)?,
            registered: BTreeMap::new(),
            files: 0,
        })
    }
}

impl HybridSession<'_> {
    /// Runs a statement in a remote system and registers its rows under an alias. What was
    /// registered under it before is gone; whoever still reads it gets an error at its end.
    ///
    /// # Errors
    /// `Denied` when the permit is somebody else's, or was taken back; `Invalid` for an alias that
    /// is a keyword of the catalog, for a statement that is no query, and for rows that can't be
    /// held; `Conflict` for the name of a visible table; `Limit` when there are too many rows or
    /// bytes, or the statement would read too much; `Unavailable` when the remote system fails;
    /// `Limit` with the reason `timeout` when it takes too long. The context
    /// [`Reason`](Key::Reason) tells which.
    pub fn register(
        &mut self,
        engine: &Permitted<'_, Resource>,
        alias: &ViewName,
        statement: &str,
    ) -> Result<Registered> {
        self.may_use(engine)?;
        let name = engine.what().id();
        let there = self.agnes.components().remote_engines.get(name).cloned();
        let there = there.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("there is no remote engine `{name}`"))
        })?;
        self.is_free(alias)?;
        is_query(statement)?;
        let begun = Instant::now();
        // It counts among her statements, also while the remote system hangs.
        let turn = Arc::new(self.agnes.gate().enter(&self.principal, None)?);
        let scan_bytes = self.scan(&there, statement, begun, &turn)?;
        self.files += 1;
        let file = RowsFile(self.folder.path.join(format!("{}.parquet", self.files)));
        let others = self.registered.values().filter(|held| held.told.alias != *alias);
        let others = others.map(|held| held.told.bytes).sum();
        let mut fetch = Fetch { limits: &self.limits, begun, alias, others, bytes: 0, rows: 0 };
        fetch.run(&there, statement, &file.0, turn)?;
        let (rows, bytes) = (fetch.rows, fetch.bytes);
        let view = Arc::new(self.view(alias, &file.0, rows)?);
        let told = Registered {
            alias: alias.clone(),
            engine: engine.what().clone(),
            columns: view.columns.iter().map(|column| column.name.clone()).collect(),
            rows,
            bytes,
            scan_bytes,
            duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        let before = self.registered.iter().map(|(name, held)| (name.clone(), held.view.clone()));
        let views = before.chain([(alias.clone(), view.clone())]).collect();
        self.session = self.session.alone(views)?;
        self.registered.insert(alias.clone(), Held { told: told.clone(), view, _rows: file });
        Ok(told)
    }

    /// What is registered, by alias.
    pub fn registered(&self) -> Vec<Registered> {
        self.registered.values().map(|held| held.told.clone()).collect()
    }

    /// Runs one query over the visible tables and the aliases. Rows beyond the limits of the
    /// session are left out, and [`Rows::truncated`] says so.
    ///
    /// # Errors
    /// As [`Session::query`]; `Denied` once leave to use an engine of an alias was taken back.
    pub fn query(&self, statement: &str, options: &QueryOptions) -> Result<Rows> {
        for held in self.registered.values() {
            self.access.decide(&self.principal, &held.told.engine).permit()?;
        }
        let most = self.limits.max_result_rows;
        let options = QueryOptions {
            max_rows: Some(options.max_rows.unwrap_or(most).min(most)),
            time: Some(options.time.unwrap_or(self.limits.time).min(self.limits.time)),
            ..options.clone()
        };
        self.session.query(statement, &options).map_err(|error| match error.kind() {
            Kind::Invalid | Kind::NotFound => error.with(Key::Reason, "query_error"),
            _ => error,
        })
    }

    /// Whether a permit is for an engine, this session's and still holds.
    fn may_use(&self, engine: &Permitted<'_, Resource>) -> Result<()> {
        engine.still(&self.access)?;
        let kind = engine.what().kind();
        if kind.as_str() != REMOTE_ENGINE || *engine.principal() != self.principal {
            return Err(Error::new(
                Kind::Denied,
                "this permit is for something else, or for somebody else's session",
            ));
        }
        Ok(())
    }

    /// Whether nothing visible has the name of an alias, nor the engine a meaning for it.
    fn is_free(&self, alias: &ViewName) -> Result<()> {
        const RESERVED: [&str; 5] = ["information_schema", "main", "memory", "system", "temp"];
        if RESERVED.iter().any(|reserved| alias.as_str().eq_ignore_ascii_case(reserved)) {
            return Err(Error::new(
                Kind::Invalid,
                format!("`{alias}` can't be an alias: the engine gives it a meaning of its own"),
            ));
        }
        if self.session.tables().contains(alias) && !self.registered.contains_key(alias) {
            return Err(Error::new(
                Kind::Conflict,
                format!("there is a table `{alias}` already; choose another alias"),
            )
            .with(Key::Table, alias));
        }
        Ok(())
    }

    /// What the statement would read, where the system can tell; not too much.
    fn scan(
        &self,
        engine: &Arc<dyn RemoteEngine>,
        statement: &str,
        begun: Instant,
        turn: &Arc<Turn>,
    ) -> Result<Option<u64>> {
        let (text, there) = (statement.to_string(), engine.clone());
        let stop = Stop::default();
        let (tell, told) = mpsc::sync_channel(1);
        let (ask, turn) = (stop.clone(), turn.clone());
        on_a_thread(move || {
            let _turn = turn;
            let answer = guarded(|| there.scan_bytes(&text, &ask));
            let _ = tell.send(answer);
        })?;
        let left = self.limits.time.saturating_sub(begun.elapsed());
        let bytes = told.recv_timeout(left).unwrap_or_else(|_| {
            stop.stop();
            Err(too_long(&self.limits))
        })?;
        match (bytes, self.limits.max_scan_bytes) {
            (Some(bytes), Some(most)) if bytes > most => Err(of(
                "scan_limit",
                Kind::Limit,
                format!(
                    "the statement would read {bytes} bytes in the remote system, the most is \
                     {most}; read fewer columns, or fewer partitions"
                ),
            )
            .with(Key::Count, bytes)
            .with(Key::Max, most)),
            (bytes, _) => Ok(bytes),
        }
    }

    /// What was fetched as a view of one file.
    fn view(&self, alias: &ViewName, file: &std::path::Path, rows: u64) -> Result<View> {
        let connection = engine::in_memory(&engine::Limits { memory_bytes: 64 << 20, threads: 1 })?;
        let body = sql::select_parquet(&[file], false)?;
        let columns = engine::columns(&connection, &body)
            .map_err(|e| engine::error("read the columns of an alias", e))?;
        let source = SourceName::parse("hybrid")?;
        View::of_file(source, TableName::parse(alias.as_str())?, file, rows, columns)
    }
}

/// Whether a statement is one query and nothing else, as far as its text tells. The remote system
/// has a dialect of its own, so that words count also where it would take them for something else.
fn is_query(statement: &str) -> Result<()> {
    const WORDS: [&str; 8] =
        ["drop", "delete", "insert", "update", "alter", "create", "truncate", "merge"];
    let text = statement.trim().to_ascii_lowercase();
    let first: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
    let refused = |what: &str| {
        of(
            "query_error",
            Kind::Invalid,
            format!("the remote statement {what}; it may be one query alone"),
        )
    };
    if !["select", "with"].contains(&first.as_str()) {
        return Err(refused("doesn't begin with SELECT or WITH"));
    }
    if text.contains(';') {
        return Err(refused("has a `;`"));
    }
    let parts: Vec<&str> = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    let word = WORDS.iter().find(|word| {
        let mut at = 0;
        parts.iter().any(|part| {
            at += part.len();
            let next = text.get(at..).and_then(|rest| rest.chars().next());
            at += next.map_or(0, char::len_utf8);
            part == *word && next.is_some_and(char::is_whitespace)
        })
    });
    match word {
        None => Ok(()),
        Some(word) => Err(refused(&format!("has the word `{word}`"))),
    }
}

fn too_long(limits: &HybridLimits) -> Error {
    let seconds = limits.time.as_secs_f64();
    of("timeout", Kind::Limit, format!("the remote statement took longer than {seconds} s"))
}

/// Runs what may hang on a thread that nobody waits for.
fn on_a_thread(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name("agnes-remote".into()).spawn(work);
    thread
        .map(drop)
        .map_err(|e| Error::new(Kind::Unavailable, format!("no thread can be had: {e}; try again")))
}

/// What an engine answers; its panic is an error as well.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let remote = |error: Error| match error.kind() {
        Kind::Cancelled => error,
        kind => of("remote_error", kind, format!("the remote system: {}", error.message())),
    };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(remote),
        Err(_) => Err(of("remote_error", Kind::Internal, "the remote engine panicked".to_string())),
    }
}

/// Rows on their way into a file.
struct Fetch<'a> {
    limits: &'a HybridLimits,
    begun: Instant,
    alias: &'a ViewName,
    /// The bytes of what is registered besides.
    others: u64,
    /// The bytes that have come, as Arrow holds them.
    bytes: u64,
    rows: u64,
}

impl Fetch<'_> {
    fn run(
        &mut self,
        engine: &Arc<dyn RemoteEngine>,
        statement: &str,
        file: &std::path::Path,
        turn: Arc<Turn>,
    ) -> Result<()> {
        let stop = Stop::default();
        // Two batches ahead, so that the remote system works while the rows are written.
        let (came, rows) = mpsc::sync_channel(2);
        let (there, text, told) = (engine.clone(), statement.to_string(), stop.clone());
        on_a_thread(move || {
            let _turn = turn;
            let mut sink = RemoteRows { came: came.clone() };
            let done = guarded(|| there.run(&text, &told, &mut sink));
            let _ = came.send(Came::End(done));
        })?;
        let done = self.take(&rows, file);
        if done.is_err() {
            stop.stop();
        }
        done
    }

    fn take(&mut self, rows: &Receiver<Came>, file: &std::path::Path) -> Result<()> {
        let schema = match self.next(rows)? {
            Came::Columns(schema) => schema,
            Came::End(Err(error)) => return Err(error),
            Came::End(Ok(())) | Came::Rows(_) => return Err(no_columns()),
        };
        let mut writer = self.writer(&schema, file)?;
        let unfit = |e: parquet::errors::ParquetError| match e {
            parquet::errors::ParquetError::External(e) if e.is::<std::io::Error>() => {
                Error::new(Kind::Unavailable, format!("the rows can't be written: {e}"))
            }
            e => of("remote_error", Kind::Invalid, format!("the rows can't be held: {e}")),
        };
        loop {
            match self.next(rows)? {
                Came::Rows(batch) => {
                    self.count(&batch)?;
                    writer.write(&batch).map_err(unfit)?;
                }
                Came::End(done) => {
                    done?;
                    return writer.close().map(drop).map_err(unfit);
                }
                Came::Columns(_) => return Err(no_columns()),
            }
        }
    }

    fn writer(&self, schema: &SchemaRef, file: &std::path::Path) -> Result<ArrowWriter<File>> {
        let mut names: Vec<String> =
            schema.fields().iter().map(|field| field.name().to_ascii_lowercase()).collect();
        names.sort();
        if let Some([twice, _]) = names.windows(2).find(|pair| pair.first() == pair.last()) {
            return Err(of(
                "remote_error",
                Kind::Invalid,
                format!(
                    "two columns of `{}` are called `{twice}`; give one of them another name",
                    self.alias
                ),
            ));
        }
        let out = File::create_new(file).map_err(|e| Error::io("write", file, e))?;
        ArrowWriter::try_new(out, schema.clone(), None).map_err(|e| {
            of(
                "remote_error",
                Kind::Invalid,
                format!("the columns of `{}` can't be held: {e}", self.alias),
            )
        })
    }

    /// What comes next, within the time.
    fn next(&self, rows: &Receiver<Came>) -> Result<Came> {
        let left = self.limits.time.saturating_sub(self.begun.elapsed());
        match rows.recv_timeout(left) {
            Ok(came) if !left.is_zero() => Ok(came),
            Ok(_) | Err(RecvTimeoutError::Timeout) => Err(too_long(self.limits)),
            Err(RecvTimeoutError::Disconnected) => Err(no_columns()),
        }
    }

    fn count(&mut self, batch: &RecordBatch) -> Result<()> {
        let bytes = batch.columns().iter().map(|column| {
            let data = column.to_data();
            // A part of a larger batch counts as the part that it is.
            data.get_slice_memory_size().unwrap_or_else(|_| data.get_array_memory_size())
        });
        self.bytes += u64::try_from(bytes.sum::<usize>()).unwrap_or(u64::MAX);
        self.rows += batch.num_rows() as u64;
        let (alias, limits) = (self.alias, self.limits);
        if self.rows > limits.max_rows {
            return Err(of(
                "row_limit",
                Kind::Limit,
                format!(
                    "`{alias}` has more than {} rows; filter or group them there",
                    limits.max_rows
                ),
            )
            .with(Key::Count, self.rows)
            .with(Key::Max, limits.max_rows));
        }
        let bytes = self.others.saturating_add(self.bytes);
        if bytes > limits.max_bytes {
            return Err(of(
                "memory_limit",
                Kind::Limit,
                format!(
                    "the rows of `{alias}` and what is registered besides take more than {} MiB; \
                     read fewer columns",
                    limits.max_bytes >> 20
                ),
            )
            .with(Key::Count, bytes)
            .with(Key::Max, limits.max_bytes));
        }
        Ok(())
    }
}

fn no_columns() -> Error {
    of(
        "remote_error",
        Kind::Internal,
        "the remote engine told no columns, or told them twice".to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::is_query;

    #[test]
    fn what_is_no_query() {
        for good in [
            "SELECT 1",
            "  with x as (select 1) select * from x",
            "select last_update, created, updates from t",
            "select update_time, (update), 'dropped' from t",
        ] {
            assert!(is_query(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "selection from t",
            "explain select 1",
            "DROP TABLE t",
            "select 1; select 2",
            "select 1;",
            "with x as (delete from t) select 1",
            "select * from t where a = 'Drop it'",
            "select 1 union all\nINSERT\tinto t",
            "with x as (merge into t) select 1",
        ] {
            assert!(is_query(bad).is_err(), "{bad}");
        }
    }
}
