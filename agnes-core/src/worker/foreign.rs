//! What Agnes itself asks of files that strangers have written, of which one may crash the engine: in
//! this process, or in a worker, which is all that such a file then costs.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use duckdb::Connection;
use duckdb::types::ValueRef;

use super::Purpose;
use super::pool::{Pool, Taken};
use super::process::Fate;
use super::wire::{self, Tag};
use crate::extract::parquet::{self, Facts};
use crate::query::QueryLimits;
use crate::query::tree::Parser;
use crate::sql::Sql;
use crate::{Error, Key, Kind, Result, engine, sql};

/// A row, as texts.
pub(crate) type Texts = Vec<Option<String>>;

/// An engine that reads some files, and perhaps writes one.
pub(crate) struct Foreign {
    home: Home,
    /// How long what takes long may take; in a worker all its answers together, so that nobody waits
    /// for thousands that each come just in time.
    time: Duration,
    /// How long its worker has been waited for.
    waited: Cell<Duration>,
    /// What has ended its worker.
    fate: Cell<Option<Fate>>,
}

enum Home {
    Here(Box<Connection>),
    Worker(Box<RefCell<Taken>>),
}

impl Foreign {
    /// An engine that reads these files, and whatever comes into these folders, and writes this file,
    /// which is there and empty: in a worker where there are workers.
    ///
    /// # Errors
    /// When it doesn't open.
    pub(crate) fn open(
        pool: Option<&Arc<Pool>>,
        limits: &engine::Limits,
        time: Duration,
        reads: Vec<PathBuf>,
        writes: Option<PathBuf>,
    ) -> Result<Foreign> {
        let home = match pool {
            None => Home::Here(Box::new(opened(limits, reads.into_iter().chain(writes))?)),
            Some(pool) => {
                let engine::Limits { memory_bytes, threads } = *limits;
                let limits = QueryLimits { memory_bytes, threads, time, ..QueryLimits::default() };
                let passing = |error: Error| match error.kind() {
                    // Of memory that others have.
                    Kind::Limit => Error::new(Kind::Unavailable, error.message()),
                    _ => error,
                };
                Home::Worker(Box::new(RefCell::new(
                    pool.start(&limits, Purpose::Foreign { reads, writes }).map_err(passing)?,
                )))
            }
        };
        Ok(Foreign { home, time, waited: Cell::default(), fate: Cell::default() })
    }

    /// What has ended its worker, if anything has: then it answers nothing any more.
    pub(crate) fn fate(&self) -> Option<Fate> {
        self.fate.get()
    }

    /// Runs statements that give no rows.
    ///
    /// # Errors
    /// As the engine's; `Limit` when it takes too long, or ends its worker.
    pub(crate) fn execute(&self, operation: &str, sql: &Sql) -> Result<()> {
        match &self.home {
            Home::Here(connection) => engine::run(&**connection, operation, sql),
            Home::Worker(_) => match self.ask(operation, Tag::Execute, sql.as_str())? {
                (Tag::Done, _) => Ok(()),
                _ => Err(wire::garbled()),
            },
        }
    }

    /// The same of one that may take as long as it may.
    ///
    /// # Errors
    /// As [`Foreign::execute`].
    pub(crate) fn execute_long(&self, operation: &str, sql: &Sql) -> Result<()> {
        match &self.home {
            Home::Here(connection) => {
                with_deadline(connection, self.time, || engine::run(&**connection, operation, sql))
            }
            Home::Worker(_) => self.execute(operation, sql),
        }
    }

    /// The rows of a query whose columns are texts, numbers of 64 bits and flags.
    ///
    /// # Errors
    /// As [`Foreign::execute`].
    pub(crate) fn texts(&self, operation: &str, query: &str) -> Result<Vec<Texts>> {
        match &self.home {
            Home::Here(connection) => {
                texts_of(connection, query).map_err(|e| engine::error(operation, e))
            }
            Home::Worker(_) => match self.ask(operation, Tag::Texts, query)? {
                (Tag::Text, texts) => wire::read(&texts),
                _ => Err(wire::garbled()),
            },
        }
    }

    /// What the parquet file at a path holds.
    ///
    /// # Errors
    /// `Contract` when it isn't sound, saying what is wrong; as [`Foreign::execute`].
    pub(crate) fn look(&self, path: &Path) -> Result<Facts> {
        match &self.home {
            Home::Here(_) => looked_at(path),
            Home::Worker(_) => {
                let path = path.to_str().ok_or_else(|| {
                    Error::new(Kind::Invalid, "the data folder is no UTF-8 text; rename it")
                })?;
                match self.ask("look at a file", Tag::Look, path)? {
                    (Tag::Text, facts) => wire::read(&facts),
                    _ => Err(wire::garbled()),
                }
            }
        }
    }

    /// Whether it has answered for so long that whoever asks for more should take another one.
    pub(crate) fn is_spent(&self) -> bool {
        self.waited.get() > self.time / 2
    }

    fn ask(
        &self,
        operation: &str,
        tag: Tag,
        content: &str,
    ) -> Result<(Tag, arrow::buffer::Buffer)> {
        let Home::Worker(taken) = &self.home else { return Err(wire::garbled()) };
        if self.fate.get().is_some() {
            return Err(Error::new(Kind::Unavailable, "its worker has ended; try again"));
        }
        let mut taken = taken.borrow_mut();
        let worker = taken.worker()?;
        let begun = Instant::now();
        let left = self.time.saturating_sub(self.waited.get());
        let heard = worker.ask_for(left, tag, content.as_bytes());
        self.waited.set(self.waited.get() + begun.elapsed());
        self.fate.set(worker.fate());
        heard.map_err(|error| error.with(Key::Operation, operation))
    }

    fn parsed(&self, tag: Tag, text: &str) -> Result<String> {
        match self.ask("parse", tag, text)? {
            (Tag::Text, text) => String::from_utf8(text.to_vec()).map_err(|_| wire::garbled()),
            _ => Err(wire::garbled()),
        }
    }
}

impl Parser for Foreign {
    fn tree_of(&self, text: &str) -> Result<String> {
        match &self.home {
            Home::Here(connection) => connection.tree_of(text),
            Home::Worker(_) => self.parsed(Tag::Parse, text),
        }
    }

    fn text_of(&self, tree: &str) -> Result<String> {
        match &self.home {
            Home::Here(connection) => connection.text_of(tree),
            Home::Worker(_) => self.parsed(Tag::Write, tree),
        }
    }
}

/// What the parquet file at a path holds.
pub(super) fn looked_at(path: &Path) -> Result<Facts> {
    let file = std::fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
    parquet::check(&file).map_err(|fault| Error::new(Kind::Contract, fault))
}

/// An engine that can open these files, and those in these folders, and nothing else.
pub(super) fn opened(
    limits: &engine::Limits,
    reads: impl Iterator<Item = PathBuf>,
) -> Result<Connection> {
    let connection = engine::in_memory(limits)?;
    // A time with zone is read as UTC, whatever zone this machine is in. Without ICU there are none.
    let _ = connection.execute_batch(sql::UTC);
    engine::run(&connection, "open the engine", &sql::single_arrows())?;
    // What was read of a file is read once.
    connection
        .execute_batch(sql::NO_FILE_CACHE)
        .map_err(|e| engine::error("open the engine", e))?;
    // A link that lies where a file should leads nowhere.
    let is_folder = |path: &PathBuf| path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = reads.partition(is_folder);
    engine::run(&connection, "lock the session", &sql::lock_to(&files, &folders)?)?;
    Ok(connection)
}

/// The rows of a query, as texts.
pub(super) fn texts_of(connection: &Connection, query: &str) -> duckdb::Result<Vec<Texts>> {
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    let mut texts = Vec::new();
    while let Some(row) = rows.next()? {
        let count = row.as_ref().column_count();
        texts.push((0..count).map(|at| text_of(row, at)).collect::<duckdb::Result<_>>()?);
    }
    Ok(texts)
}

fn text_of(row: &duckdb::Row<'_>, at: usize) -> duckdb::Result<Option<String>> {
    Ok(match row.get_ref(at)? {
        // What is no text is an error here, and a panic as a `Value`.
        ValueRef::Text(_) => Some(row.get(at)?),
        ValueRef::Boolean(flag) => Some(flag.to_string()),
        ValueRef::BigInt(number) => Some(number.to_string()),
        ValueRef::Double(number) => Some(number.to_string()),
        // Whoever asks casts all others.
        _ => None,
    })
}

/// Runs `work` and interrupts the connection when it takes longer than `patience`.
///
/// # Errors
/// `Limit` naming the time limit; whatever `work` returns.
fn with_deadline<T>(
    connection: &Connection,
    patience: Duration,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let interrupt = connection.interrupt_handle();
    let (done, wait) = mpsc::channel::<()>();
    let (result, late) = std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let late = wait.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
            if late {
                interrupt.interrupt();
            }
            late
        });
        let result = work();
        drop(done);
        (result, watch.join().unwrap_or(false))
    });
    match result {
        Err(error) if late && error.kind() == Kind::Cancelled => Err(Error::new(
            Kind::Limit,
            format!(
                "the query ran longer than the limit of {} s and was ended",
                patience.as_secs()
            ),
        )),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_query_is_ended_by_the_limit() {
        let time = Duration::from_millis(50);
        let foreign = Foreign::open(None, &engine::Limits::default(), time, Vec::new(), None);
        let endless = "SELECT count(*) FROM range(10000000000) a, range(1000) b";
        let error =
            foreign.unwrap().execute_long("run", &sql::guarded(endless.into())).unwrap_err();
        assert_eq!(error.kind(), Kind::Limit, "{error}");
    }
}
