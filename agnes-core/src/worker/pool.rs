//! The workers that are ready, each for those who see the same.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::process::{KILLED, Worker, WorkerProgram};
use super::reaper::{Memory, Reaper};
use super::starter::Starter;
use super::{Open, Purpose, Rank, Wall};
use crate::query::QueryLimits;
use crate::{Error, Key, Kind, Result};

/// Which workers there are, and how long they stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSettings {
    /// What is started.
    pub program: WorkerProgram,
    /// The most that there are at the same time, at work and ready.
    pub most: usize,
    /// The most memory that they have together, bytes: beyond it the largest is ended.
    pub memory_bytes: u64,
    /// How long one that has nothing to do stays.
    pub idle: Duration,
    /// After how many statements one is replaced.
    pub statements: u64,
    /// The most memory of one that has nothing to do, bytes; one that keeps more is replaced.
    pub idle_memory_bytes: u64,
    /// Whether to go on where the system lacks some of the [walls that are needed](Wall::NEEDED).
    /// Systems that have none, which is all but Linux, are always gone on with.
    pub without_walls: bool,
}

impl WorkerSettings {
    /// 32 workers in three quarters of the machine's memory; replaced after a minute of idleness, 1,000
    /// statements, or when one keeps 256 MiB; only behind the walls that are needed.
    pub fn new(program: WorkerProgram) -> WorkerSettings {
        WorkerSettings {
            program,
            most: 32,
            memory_bytes: machine_memory().map_or(u64::MAX, |bytes| bytes / 4 * 3),
            idle: Duration::from_secs(60),
            statements: 1000,
            idle_memory_bytes: 256 << 20,
            without_walls: false,
        }
    }
}

/// How many workers there are, and have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct WorkerCounts {
    /// Those that run something.
    pub busy: usize,
    /// Those that are ready.
    pub idle: usize,
    /// All that were started.
    pub started: u64,
    /// Those that a statement has ended.
    pub ended: u64,
}

/// All workers. They end with it.
pub(crate) struct Pool {
    settings: WorkerSettings,
    reaper: Reaper,
    starter: Starter,
    state: Arc<Mutex<State>>,
    /// Somebody has given one back.
    given_back: Condvar,
}

/// The memory that this process may have, bytes, where the system says so.
fn machine_memory() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = told.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
    let group = group.trim().parse().unwrap_or(u64::MAX);
    Some((kib << 10).min(group))
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets go of those that have ended while they had nothing to do: until then a process that has ended is
/// still listed, and its sockets are open. Nobody is waited for.
fn tidy(state: &Mutex<State>) {
    let mut state = locked(state);
    let (stay, gone) =
        std::mem::take(&mut state.idle).into_iter().partition(|(_, worker)| worker.is_there());
    state.idle = stay;
    drop(state);
    drop::<Vec<_>>(gone);
}

#[derive(Default)]
struct State {
    /// The one that was used last is last.
    idle: Vec<(u64, Worker)>,
    /// Those at work on somebody's statement, of which there may be so many.
    turns: usize,
    /// Those at work for Agnes itself, which take nobody's turn.
    own: usize,
    started: u64,
    ended: u64,
    next: u64,
}

impl State {
    fn busy(&self) -> usize {
        self.turns + self.own
    }

    /// Those that are at work for the same.
    fn at_work(&mut self, on: Work) -> &mut usize {
        match on {
            Work::Statement => &mut self.turns,
            Work::Own => &mut self.own,
        }
    }
}

/// For whom a worker is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Statement,
    Own,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(settings: WorkerSettings) -> Result<Arc<Pool>> {
        let state = Arc::<Mutex<State>>::default();
        let kept = Arc::downgrade(&state);
        let tidy = move || kept.upgrade().iter().for_each(|state| tidy(state));
        let memory = Memory { all: settings.memory_bytes, idle: settings.idle_memory_bytes };
        let reaper = Reaper::start(memory, tidy)?;
        let starter = Starter::new(&settings.program)?;
        Ok(Arc::new(Pool { settings, reaper, starter, state, given_back: Condvar::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    pub(crate) fn counts(&self) -> WorkerCounts {
        let state = self.state();
        let State { started, ended, .. } = *state;
        WorkerCounts { busy: state.busy(), idle: state.idle.len(), started, ended }
    }

    /// The walls that stand around a worker here.
    ///
    /// # Errors
    /// As [`Pool::start`].
    pub(crate) fn walls(self: &Arc<Self>, limits: &QueryLimits) -> Result<Vec<Wall>> {
        Ok(self.start(limits, Purpose::Lists)?.worker()?.walls().to_vec())
    }

    /// A key for those who see the same.
    pub(crate) fn key(&self) -> u64 {
        let mut state = self.state();
        state.next += 1;
        state.next
    }

    /// A worker of a key: one that is ready, or a new one for this purpose. Waits while as many are at
    /// work as there may be.
    ///
    /// # Errors
    /// As [`Pool::start`]; `Unavailable` when all stay at work.
    pub(crate) fn take(
        self: &Arc<Self>,
        key: u64,
        limits: &QueryLimits,
        purpose: impl FnOnce() -> Purpose,
    ) -> Result<Taken> {
        let mut gone = Vec::new();
        let mut state = self.turn(limits.patience)?;
        let ready = loop {
            let found = state.idle.iter().rposition(|(of, _)| *of == key);
            let Some((_, worker)) = found.map(|at| state.idle.remove(at)) else { break None };
            match worker.wakes() {
                true => break Some(worker),
                false => gone.push(worker),
            }
        };
        let mut taken = self.taken(&mut state, Some(key), Work::Statement);
        taken.worker = ready;
        if taken.worker.is_none() {
            self.make_room(&mut state, &mut gone);
        }
        drop(state);
        drop(gone);
        if taken.worker.is_none() {
            taken.worker = Some(self.started(limits, purpose(), Rank::Usual)?);
        }
        Ok(taken)
    }

    /// A worker for one statement, after which it ends. Waits as [`Pool::take`].
    ///
    /// # Errors
    /// As [`Pool::take`].
    pub(crate) fn take_once(
        self: &Arc<Self>,
        limits: &QueryLimits,
        purpose: Purpose,
        rank: Rank,
    ) -> Result<Taken> {
        self.start_in(self.turn(limits.patience)?, Work::Statement, limits, purpose, rank)
    }

    /// A worker of its own, for Agnes itself. It waits for nobody.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub(crate) fn start(self: &Arc<Self>, limits: &QueryLimits, purpose: Purpose) -> Result<Taken> {
        self.start_in(self.state(), Work::Own, limits, purpose, Rank::Usual)
    }

    fn start_in(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        work: Work,
        limits: &QueryLimits,
        purpose: Purpose,
        rank: Rank,
    ) -> Result<Taken> {
        let mut gone = Vec::new();
        let mut taken = self.taken(&mut state, None, work);
        self.make_room(&mut state, &mut gone);
        drop(state);
        drop(gone);
        taken.worker = Some(self.started(limits, purpose, rank)?);
        Ok(taken)
    }

    /// Counts one more at work; what this gives counts it off again.
    fn taken(self: &Arc<Self>, state: &mut State, key: Option<u64>, work: Work) -> Taken {
        *state.at_work(work) += 1;
        Taken { pool: Some(self.clone()), key, work, worker: None }
    }

    /// Waits until fewer are at work than there may be.
    fn turn(&self, patience: Duration) -> Result<MutexGuard<'_, State>> {
        let most = self.settings.most.max(1);
        let is_full = |state: &mut State| state.turns >= most;
        let waited = self.given_back.wait_timeout_while(self.state(), patience, is_full);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        match waited.timed_out() {
            false => Ok(state),
            true => Err(Error::new(
                Kind::Unavailable,
                format!("all {most} workers are busy; try again, or let there be more"),
            )),
        }
    }

    /// Takes those that have nothing to do away where one more would be too many.
    fn make_room(&self, state: &mut State, gone: &mut Vec<Worker>) {
        state.started += 1;
        while state.idle.len() + state.busy() > self.settings.most.max(1) && !state.idle.is_empty()
        {
            gone.push(state.idle.remove(0).1);
        }
    }

    fn started(&self, limits: &QueryLimits, purpose: Purpose, rank: Rank) -> Result<Worker> {
        let needs = match self.settings.without_walls || !cfg!(target_os = "linux") {
            true => Vec::new(),
            false => Wall::NEEDED.to_vec(),
        };
        let open = Open { purpose, limits: limits.clone(), needs };
        let (program, is_remote) = (&self.settings.program, open.purpose.is_remote());
        let start =
            || Worker::open(self.starter.process(is_remote)?, program, &open, &self.reaper, rank);
        match start() {
            // Whoever kills workers means what they do, which was nothing yet.
            Err(error) if error.context(Key::Reason) == Some(KILLED) => start(),
            started => started,
        }
    }

    /// Ends the workers of a key.
    pub(crate) fn forget(&self, key: u64) {
        let mut state = self.state();
        let (gone, stay) =
            std::mem::take(&mut state.idle).into_iter().partition(|(of, _)| *of == key);
        state.idle = stay;
        drop(state);
        drop::<Vec<_>>(gone);
    }

    /// Takes back what somebody has used, if anything has come of it. Gives what is to be ended, which
    /// takes a moment.
    fn give_back(&self, key: Option<u64>, work: Work, worker: Option<Worker>) -> Option<Worker> {
        let settings = &self.settings;
        let worker = worker.map(|worker| {
            let stays = key.is_some()
                && worker.is_as_good_as_new()
                && worker.served() < settings.statements
                && worker.rest(settings.idle);
            (worker, stays)
        });
        let mut state = self.state();
        *state.at_work(work) -= 1;
        let gone = match worker {
            Some((worker, stays)) => match key.filter(|_| stays) {
                Some(key) => {
                    state.idle.push((key, worker));
                    None
                }
                None => {
                    state.ended += u64::from(!worker.is_sound());
                    Some(worker)
                }
            },
            None => None,
        };
        drop(state);
        self.given_back.notify_one();
        gone
    }
}

/// A worker that somebody uses.
#[derive(Debug)]
pub(crate) struct Taken {
    /// None once it was given back.
    pool: Option<Arc<Pool>>,
    /// Whom it may serve next; nobody when absent.
    key: Option<u64>,
    work: Work,
    worker: Option<Worker>,
}

impl Taken {
    /// The worker.
    ///
    /// # Errors
    /// Never, as long as this is there.
    pub(crate) fn worker(&mut self) -> Result<&mut Worker> {
        self.worker.as_mut().ok_or_else(|| Error::internal("there is no worker"))
    }

    /// Gives it back for the next statement. What comes of this takes a moment to drop.
    pub(crate) fn give_back(mut self) -> impl Sized {
        self.back()
    }

    fn back(&mut self) -> Option<Worker> {
        let pool = self.pool.take()?;
        pool.give_back(self.key, self.work, self.worker.take())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        drop(self.back());
    }
}
