//! A statement at work: it runs on a thread of its own, here or in a worker, and tells its caller what it
//! gives.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use serde_json::json;

use super::checked::{Checked, Runs, check};
use super::guard;
use super::instance::{Has, Job, Place, Sink, Used};
use super::limits::{QueryLimits, Turn};
use super::rows::{Ended, Message, Parameter};
use super::shown::{Home, Keys, Shelf, Shown};
use super::threads::Told;
use super::tree::Parser;
use crate::access::{Access, AuditEvent, Interrupt, Running, Watch};
use crate::orchestrator::{Attach, AttachPolicy};
use crate::worker::{ENDED, Purpose, Rank, Taken, Worker};
use crate::{Error, Key, Kind, Result, Secrets, ViewName, sql};

/// A number for each statement, to tell them apart.
pub(super) fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The way to interrupt a statement: nothing before it has a connection and after it has ended,
/// when the connection may serve another one.
#[derive(Clone, Default)]
pub(super) struct Interrupting(Arc<Mutex<Interrupted>>);

#[derive(Default)]
struct Interrupted {
    way: Option<Interrupt>,
    /// Whether nobody wants it any more: also one that hasn't begun yet.
    is_over: bool,
}

impl Interrupting {
    fn lock(&self) -> MutexGuard<'_, Interrupted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it can be interrupted so; false when it was already.
    fn begins(&self, way: Interrupt) -> bool {
        let mut slot = self.lock();
        slot.way = Some(way);
        !slot.is_over
    }

    fn has_ended(&self) {
        self.lock().way = None;
    }

    pub(super) fn of_now(&self) -> Interrupt {
        let this = self.clone();
        Arc::new(move || {
            let mut slot = this.lock();
            slot.is_over = true;
            if let Some(interrupt) = &slot.way {
                interrupt();
            }
        })
    }
}

/// The most characters of a statement in the audit log.
const TOLD_MAX: usize = 10_000;

/// Where what a statement has done is told, beside its caller.
pub(super) struct Books {
    pub(super) access: Option<Arc<Access>>,
    pub(super) watch: Arc<Watch>,
}

impl Books {
    /// Notes a statement that has ended its worker.
    pub(super) fn note(&self, error: &Error, statement: &str) {
        let Some(access) = &self.access else { return };
        if error.context(Key::Reason) != Some(ENDED) {
            return;
        }
        let text: String = statement.chars().take(TOLD_MAX).collect();
        let event = AuditEvent::new(access.now(), "query.worker_ended", None);
        let event = event.by(self.watch.principal().user_id());
        access.tell(event.with(json!({"sql": text})).ended(error.message()));
    }
}

/// A statement that the guard has accepted, on its own thread.
pub(super) struct Work {
    pub(super) shown: Arc<Shown>,
    pub(super) checked: Arc<Checked>,
    pub(super) statement: sql::Sql,
    pub(super) parameters: Vec<Parameter>,
    pub(super) batch_rows: u32,
    pub(super) shelf: Arc<Shelf>,
    pub(super) policy: AttachPolicy,
    pub(super) secrets: Arc<dyn Secrets>,
    pub(super) books: Books,
    pub(super) interrupt: Interrupting,
    pub(super) limits: QueryLimits,
    pub(super) turn: Turn,
    pub(super) rank: Rank,
    pub(super) running: Running,
}

/// What may serve another statement once everybody has heard of the end of this one.
enum Again {
    /// Its connection.
    Here(Used),
    /// Its worker.
    Worker(Taken),
    Nothing,
}

impl Work {
    pub(super) fn run(
        self,
        worker: Option<Taken>,
        messages: SyncSender<Message>,
        ended: Ended,
    ) -> Told {
        let done = self.work(worker, &messages).map_err(|error| self.shown.told(error));
        if let Err(error) = &done {
            self.books.note(error, self.statement.as_str());
        }
        // Whoever hears of the end may begin the next one at once.
        let Work { turn, running, shown, .. } = self;
        drop((turn, running));
        let (done, again) = match done {
            Ok(again) => (Ok(()), again),
            Err(error) => (Err(error), Again::Nothing),
        };
        Box::new(move || {
            // Whoever hears of the end finds the worker ready.
            let (used, gone) = match again {
                Again::Here(used) => (Some(used), None),
                Again::Worker(taken) => (None, Some(taken.give_back())),
                Again::Nothing => (None, None),
            };
            ended.set(done);
            drop(messages);
            // Nobody waits for this.
            drop(gone);
            if let (Some(used), Home::Here(instance)) = (used, shown.home()) {
                instance.give_back(used);
            }
        })
    }

    fn work(&self, worker: Option<Taken>, messages: &SyncSender<Message>) -> Result<Again> {
        let (shown, names) = (&self.shown, self.checked.names());
        shown.intact(names)?;
        let done = self.anywhere(worker, &mut Hearing { work: self, messages });
        let again = done.map_err(|error| match error.context(Key::View) {
            // A view that can't be made may be one of a file that was changed.
            Some(_) => shown.intact(names).err().unwrap_or(error),
            None => error,
        })?;
        // A file that was rewritten in place meanwhile has given rows of two contents.
        shown.intact(names)?;
        Ok(again)
    }

    fn anywhere(&self, mut worker: Option<Taken>, sink: &mut Hearing<'_>) -> Result<Again> {
        let job = |has: &dyn Has| {
            let (statement, parameters) = (self.statement.clone(), self.parameters.clone());
            let remote = (&self.policy, &*self.secrets);
            self.shown.job(&self.checked, statement, parameters, self.batch_rows, remote, has)
        };
        // Whoever waits for a remote system that doesn't answer is let go by her time limit.
        match (self.shown.home(), self.checked.runs()) {
            (Home::Here(instance), _) => {
                let used = instance.run(&job(&**instance)?, sink)?;
                Ok(used.map_or(Again::Nothing, Again::Here))
            }
            (Home::Workers(keys), Runs::Remote) => {
                drop(worker);
                self.remotely(keys, job(&Nothing)?, sink)?;
                Ok(Again::Nothing)
            }
            (Home::Workers(keys), runs) => {
                self.shown.in_a_worker(keys, &mut worker, (runs, self.rank), |worker| {
                    let job = job(worker)?;
                    self.run_in(worker, job, sink)
                })?;
                Ok(worker.map_or(Again::Nothing, Again::Worker))
            }
        }
    }

    /// Runs a statement over remote systems in a worker of its own, which ends with it.
    fn remotely(&self, keys: &Keys, job: Job, sink: &mut Hearing<'_>) -> Result<()> {
        let Place::Remote { attaches, files } = &job.place else {
            return Err(Error::internal("a statement over no remote system"));
        };
        let attached = attaches.iter().flat_map(Attach::files);
        let files = files.iter().cloned().chain(attached).collect();
        // Whoever has parsed it before may have been taken over by another statement, and what follows
        // gives away tokens; whoever parses now has no way to anywhere, and ends.
        let text = self.statement.as_str();
        let text = guard::explained(text)?.unwrap_or(text);
        let mut parser = self.shown.worker_once(keys, Purpose::Lists, self.rank)?;
        parser.worker()?.parse(self.limits.time, |parser| self.is_as_judged(parser, text))?;
        drop(parser);
        let mut taken = self.shown.worker_once(keys, Purpose::Remote { files }, self.rank)?;
        self.run_in(taken.worker()?, job, sink)
    }

    /// Runs it in a worker, and notes what it has computed.
    fn run_in(&self, worker: &mut Worker, job: Job, sink: &mut Hearing<'_>) -> Result<()> {
        let done = worker.run(job, sink);
        self.turn.spend(worker.cpu());
        done
    }

    /// Holds that a text reads what was judged.
    fn is_as_judged(&self, parser: &dyn Parser, text: &str) -> Result<()> {
        let again = check(&self.shown, parser, text, &self.parameters)?;
        match again.names() == self.checked.names() && again.runs() == self.checked.runs() {
            true => Ok(()),
            false => Err(Error::internal("a statement reads something else than what was judged")),
        }
    }
}

/// What has no view yet.
struct Nothing;

impl Has for Nothing {
    fn lacks(&self, names: &BTreeSet<ViewName>) -> Vec<ViewName> {
        names.iter().cloned().collect()
    }

    fn lacks_catalog(&self) -> bool {
        true
    }
}

/// Passes on what a statement gives.
struct Hearing<'w> {
    work: &'w Work,
    messages: &'w SyncSender<Message>,
}

impl Sink for Hearing<'_> {
    fn begins(&mut self, interrupt: Interrupt) -> Result<()> {
        let is_wanted = self.work.interrupt.begins(interrupt);
        self.work.books.watch.check()?;
        match is_wanted {
            true => Ok(()),
            false => Err(Error::new(Kind::Cancelled, "nobody waits for the query any more")),
        }
    }

    fn has_ended(&mut self) {
        self.work.interrupt.has_ended();
    }

    fn may_run(&mut self, made: &sql::Sql, parser: Option<&dyn Parser>) -> Result<()> {
        let judge = |parser: &dyn Parser| self.work.is_as_judged(parser, made.as_str());
        match parser {
            Some(parser) => judge(parser),
            None => self.work.shelf.parse(|connection| judge(connection)),
        }
    }

    fn columns(&mut self, columns: &SchemaRef) -> bool {
        self.messages.send(Message::Columns(columns.clone())).is_ok()
    }

    fn rows(&mut self, rows: RecordBatch) -> bool {
        self.messages.send(Message::Rows(rows)).is_ok()
    }
}
