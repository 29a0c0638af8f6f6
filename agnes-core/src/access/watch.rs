//! Sessions that are open, so that a change of access reaches them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::decision::{TableSet, Visibility};
use super::{Access, Principal};
use crate::{Error, Key, Kind, Result};

/// Ends one running statement. Called once, from any thread.
pub(crate) type Interrupt = Arc<dyn Fn() + Send + Sync>;

/// What a session was opened with, and whether it still holds.
pub(crate) struct Watch {
    principal: Principal,
    visible: Visibility,
    ended: AtomicBool,
    running: Mutex<Vec<(u64, Interrupt)>>,
}

impl Watch {
    /// For a session that nothing takes anything from.
    pub(crate) fn operator() -> Arc<Watch> {
        Arc::new(Watch::of(Principal::Operator, Visibility::All))
    }

    fn of(principal: Principal, visible: Visibility) -> Watch {
        Watch { principal, visible, ended: AtomicBool::new(false), running: Mutex::new(Vec::new()) }
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(crate) fn visible(&self) -> &Visibility {
        &self.visible
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// What a session that ended answers.
    pub(crate) fn check(&self) -> Result<()> {
        match self.has_ended() {
            false => Ok(()),
            true => Err(ended()),
        }
    }

    /// Notes a statement that runs, until the answer is dropped.
    pub(crate) fn run(self: &Arc<Self>, number: u64, interrupt: Interrupt) -> Result<Running> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.push((number, interrupt));
        drop(running);
        let note = Running { watch: self.clone(), number };
        // Ended between the first check and now: nobody would interrupt it.
        self.check().map(|()| note)
    }

    /// Ends the session and what runs in it.
    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().for_each(|(_, interrupt)| interrupt());
    }
}

/// The answer of a session from which something was taken.
pub(crate) fn ended() -> Error {
    Error::new(Kind::Denied, "your access has changed and this session has ended; open a new one")
        .with(Key::Reason, "session_ended")
}

/// A statement that runs.
pub(crate) struct Running {
    watch: Arc<Watch>,
    number: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.watch.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|(number, _)| *number != self.number);
    }
}

/// Whether what was visible still is, and means the same tables.
fn lost(before: &Visibility, after: &Visibility) -> bool {
    match (before, after) {
        (_, Visibility::All) => false,
        (Visibility::All, Visibility::Only(_)) => true,
        (Visibility::Only(before), Visibility::Only(after)) => !TableSet::within(before, after),
    }
}

impl Access {
    /// What a principal may see now, under watch from now on.
    pub(crate) fn watch(&self, principal: &Principal) -> Arc<Watch> {
        // Whoever takes something away looks through the watches after the facts have changed:
        // either it finds this one, or this one has seen the new facts.
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = Arc::new(Watch::of(principal.clone(), self.visibility(principal)));
        watches.retain(|watch| watch.strong_count() > 0);
        watches.push(Arc::downgrade(&watch));
        watch
    }

    /// Ends every session, whatever may be seen in it.
    pub(super) fn end_every_session(&self) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.drain(..).filter_map(|watch| watch.upgrade()).for_each(|watch| watch.end());
    }

    /// Ends the sessions of those who lost something. The facts have changed before.
    pub(super) fn end_sessions(&self) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            let over = lost(&watch.visible, &self.visibility(&watch.principal));
            if over {
                watch.end();
            }
            !over
        });
    }
}
