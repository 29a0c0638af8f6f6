//! Ends workers whose time is over, and those that take too much memory together, and lets others go
//! before those that have worked for long: on one thread for all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::life::{Life, Why};
use crate::{Error, Kind, Result};

/// How often their memory and CPU time are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The CPU time after which a statement stands back behind those that take less.
const LONG: Duration = Duration::from_millis(500);

/// Takes what is to be ended later. Cheap to clone; its thread ends with the last of them.
#[derive(Clone)]
pub(super) struct Reaper(Arc<Speaker>);

struct Speaker(Arc<Told>);

impl Drop for Speaker {
    fn drop(&mut self) {
        self.0.state().is_over = true;
        self.0.changed.notify_one();
    }
}

/// What its thread is told: no word of it wakes it up, unless it would be too late otherwise, for every
/// statement has one.
#[derive(Default)]
struct Told {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    due: BinaryHeap<Reverse<Due>>,
    /// Those that came since the last look.
    born: Vec<Weak<Life>>,
    /// When the thread looks next; none while it has no reason to.
    wakes: Option<Instant>,
    is_over: bool,
}

impl Told {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is due or `look` has come. Gives what is due, and who has come; nothing
    /// once it is over.
    fn wait(&self, look: Option<Instant>) -> Option<(Vec<Due>, Vec<Weak<Life>>)> {
        let mut state = self.state();
        loop {
            if state.is_over {
                return None;
            }
            let now = Instant::now();
            let next = state.due.peek().map(|Reverse(due)| due.at);
            let next = next.into_iter().chain(look).min();
            if next.is_some_and(|at| at <= now) || !state.born.is_empty() {
                let mut due = Vec::new();
                while state.due.peek().is_some_and(|Reverse(first)| first.at <= now) {
                    due.extend(state.due.pop().map(|Reverse(first)| first));
                }
                return Some((due, std::mem::take(&mut state.born)));
            }
            state.wakes = next;
            state = match next {
                Some(at) => {
                    let waited =
                        self.changed.wait_timeout(state, at.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// The most memory of workers, bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// Of all together.
    pub(super) all: u64,
    /// Of one that has nothing to do.
    pub(super) idle: u64,
}

struct Due {
    at: Instant,
    life: Weak<Life>,
    number: u64,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Reaper {
    /// One that lets workers have so much memory, and has somebody tidy up after those that have ended.
    pub(super) fn start(memory: Memory, tidy: impl Fn() + Send + 'static) -> Result<Reaper> {
        let told = Arc::<Told>::default();
        let hears = told.clone();
        let work = move || {
            let mut lives = Vec::<Weak<Life>>::new();
            let mut looked = Instant::now();
            loop {
                let look = (!lives.is_empty()).then(|| looked + LOOK);
                let Some((due, mut born)) = hears.wait(look) else { return };
                for due in due {
                    if let Some(life) = due.life.upgrade() {
                        life.end(due.number, Why::Time);
                    }
                }
                lives.append(&mut born);
                if looked.elapsed() >= LOOK {
                    looked = Instant::now();
                    make_room(&mut lives, memory);
                    lives.iter().filter_map(Weak::upgrade).for_each(|life| slow_down(&life));
                    tidy();
                }
            }
        };
        let thread = std::thread::Builder::new().name("agnes-reaper".into()).spawn(work);
        thread.map(|_| Reaper(Arc::new(Speaker(told)))).map_err(|e| {
            Error::new(Kind::Unavailable, format!("no thread can be had: {e}; try again"))
        })
    }

    /// Looks at a worker's memory from now on.
    pub(super) fn watch(&self, life: &Arc<Life>) {
        self.0.0.state().born.push(Arc::downgrade(life));
        self.0.0.changed.notify_one();
    }

    /// Ends a worker after so long, if it still does the same.
    pub(super) fn end_at(&self, after: Duration, life: &Arc<Life>, number: u64) {
        let at = Instant::now() + after;
        let mut state = self.0.0.state();
        state.due.push(Reverse(Due { at, life: Arc::downgrade(life), number }));
        if state.wakes.is_none_or(|wakes| at < wakes) {
            drop(state);
            self.0.0.changed.notify_one();
        }
    }
}

/// Lets others go before a worker that has computed for long, and ends one that has for too long.
fn slow_down(life: &Life) {
    match life.work() {
        Some(number) if life.is_spent() => life.end(number, Why::Time),
        Some(_) if life.cpu() > LONG => life.stand_back(),
        // What it was asked has ended long ago.
        None if life.rests() && life.cpu() > life.cpu_asked() + LONG => {
            life.end_resting(Why::Over);
        }
        _ => {}
    }
}

/// Ends workers that keep much while they have nothing to do, and others while all together have more than
/// they may: first those that have nothing to do, then the largest, one at a time.
fn make_room(lives: &mut Vec<Weak<Life>>, most: Memory) {
    lives.retain(|life| life.strong_count() > 0);
    let there = lives.iter().filter_map(Weak::upgrade);
    let mut there: Vec<_> = there.map(|life| (life.memory_bytes().unwrap_or(0), life)).collect();
    there.retain(|(bytes, life)| *bytes <= most.idle || !life.end_resting(Why::Over));
    let mut all: u64 = there.iter().map(|(bytes, _)| bytes).sum();
    there.sort_by_key(|(bytes, life)| Reverse((life.rests(), *bytes)));
    for (bytes, life) in there {
        if all <= most.all {
            return;
        }
        all -= bytes;
        if !life.end_resting(Why::Memory) {
            life.end_now(Why::Memory);
            // What it gives back has to be seen first.
            return;
        }
    }
}
