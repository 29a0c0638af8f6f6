//! The one connection to the system database.
//!
//! It is made again after a write of which nobody knows what the disk took of it, and after the engine
//! has given the file up, as it does when a checkpoint fails: it would refuse everything from then on.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

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
    /// Notes how something went: after a write of which nobody knows, and once the engine has given
    /// the file up, the connection isn't used again.
    pub(super) fn judge<T>(&mut self, done: &Result<T>) {
        // As the engine words it: a row that is wrong stays wrong however often the file is opened.
        const BEGINS: [&str; 3] = ["INTERNAL", "FATAL", "TransactionContext"];
        const SAYS: [&str; 3] =
            ["Failed to commit", "has been invalidated", "autocheckpoint failed"];
        let failed = |error: &Error| {
            let said = error.message();
            error.kind() == Kind::Unavailable
                || BEGINS.iter().any(|begin| said.starts_with(begin))
                || SAYS.iter().any(|part| said.contains(part))
        };
        self.0.doubtful |= done.as_ref().is_err_and(failed);
    }

    /// Has the connection made again before anybody uses it.
    pub(super) fn doubt(&mut self) {
        self.0.doubtful = true;
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
        let mut state = match self.state.lock() {
            Ok(state) => state,
            Err(poisoned) => {
                // Whoever panicked has left her transaction open.
                self.state.clear_poison();
                let mut state = poisoned.into_inner();
                state.doubtful = true;
                state
            }
        };
        if state.doubtful {
            self.make_again(&mut state, || Ok(()))?;
        }
        Ok(Held(state))
    }

    /// Closes the file, has something done to it, and opens it again; also after that has failed.
    ///
    /// # Errors
    /// Those of `meanwhile`; `Unavailable` when the file can't be opened.
    pub(super) fn closed<T>(
        &self,
        mut held: Held<'_>,
        meanwhile: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.make_again(&mut held.0, meanwhile)
    }

    fn make_again<T>(&self, state: &mut State, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
        state.doubtful = true;
        // The engine lets go of the file with its last connection.
        state.connection =
            engine::in_memory(&engine::Limits { memory_bytes: 64 << 20, threads: 1 })?;
        // From here on another file may lie there, also where it can't be opened yet.
        self.made.fetch_add(1, Ordering::SeqCst);
        let done = meanwhile();
        state.connection = (self.open)()?;
        state.doubtful = false;
        done
    }

    /// Counts up whenever it is made again: what was read before may not be what is there.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }
}
