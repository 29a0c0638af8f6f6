//! The one connection to the system database.
//!
//! It is made again after a write of which nobody knows what the disk took of it, and after the engine
//! has given the file up, as it does when a checkpoint fails: it would refuse everything from then on.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use duckdb::Connection;

use crate::{Error, Kind, Result, engine};

type Open = Box<dyn Fn() -> Result<Connection> + Send + Sync>;

pub(super) struct Line {
    /// Opens the file.
    open: Open,
    state: Mutex<State>,
    /// How often it was made.
    made: AtomicU64,
}

struct State {
    connection: Connection,
    /// Whether what it holds may differ from the file.
    doubtful: bool,
}

/// The connection, for one piece of work.
pub(super) struct Held<'a>(MutexGuard<'a, State>);

impl Deref for Held<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0.connection
    }
}

impl Held<'_> {
    /// Notes how a write went: after one of which nobody knows, the connection isn't used again.
    pub(super) fn judge<T>(&mut self, done: &Result<T>) {
        let failed = |error: &Error| {
            error.kind() == Kind::Internal || error.message().contains("Failed to commit")
        };
        self.0.doubtful |= done.as_ref().is_err_and(failed);
    }
}

impl Line {
    /// # Errors
    /// Those of `open`.
    pub(super) fn new(open: Open) -> Result<Line> {
        let state = Mutex::new(State { connection: open()?, doubtful: false });
        Ok(Line { open, state, made: AtomicU64::new(0) })
    }

    /// The connection, when nobody else works with it.
    ///
    /// # Errors
    /// `Unavailable` when it has to be made again and can't.
    pub(super) fn hold(&self) -> Result<Held<'_>> {
        // A panic while it was held has rolled its transaction back.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.doubtful {
            self.make_again(&mut state, || Ok(()))?;
        }
        Ok(Held(state))
    }

    /// Closes the file, has something done to it, and opens it again; also after that has failed.
    ///
    /// # Errors
    /// Those of `meanwhile`; `Unavailable` when the file can't be opened.
    pub(super) fn closed<T>(&self, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut state = self.hold()?.0;
        // Its log goes with what is in it.
        let flushed = state.connection.execute_batch("CHECKPOINT");
        flushed.map_err(|e| engine::error("close the system database", e))?;
        self.make_again(&mut state, meanwhile)
    }

    fn make_again<T>(&self, state: &mut State, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
        state.doubtful = true;
        // The engine lets go of the file with its last connection.
        state.connection =
            engine::in_memory(&engine::Limits { memory_bytes: 64 << 20, threads: 1 })?;
        let done = meanwhile();
        state.connection = (self.open)()?;
        state.doubtful = false;
        self.made.fetch_add(1, Ordering::SeqCst);
        done
    }

    /// Counts up whenever it is made again: what was read before may not be what is there.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }
}
