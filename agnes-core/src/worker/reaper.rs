//! Ends workers whose time is over, and those that take too much memory together, and lets others go
//! before those that have worked for long: on one thread for all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::life::{Life, Why};
use crate::{Error, Kind, Result};

/// How often their memory and CPU time are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The CPU time after which a statement stands back behind those that take less.
const LONG: Duration = Duration::from_millis(500);

/// Takes what is to be ended later. Cheap to clone; its thread ends with the last of them.
#[derive(Clone)]
pub(super) struct Reaper(Sender<Told>);

enum Told {
    Due(Due),
    /// There is one more.
    Born(Weak<Life>),
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
    /// One that lets all workers together have so much memory, bytes, and has somebody tidy up after
    /// those that have ended.
    pub(super) fn start(memory_bytes: u64, tidy: impl Fn() + Send + 'static) -> Result<Reaper> {
        let (give, take) = mpsc::channel::<Told>();
        let work = move || {
            let mut waiting = BinaryHeap::<Reverse<Due>>::new();
            let mut lives = Vec::<Weak<Life>>::new();
            let mut looked = Instant::now();
            loop {
                let due = waiting.peek().map(|Reverse(due)| due.at);
                let look = (!lives.is_empty()).then(|| looked + LOOK);
                let heard = match due.into_iter().chain(look).min() {
                    None => take.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(at) => take.recv_timeout(at.saturating_duration_since(Instant::now())),
                };
                match heard {
                    Ok(Told::Due(due)) => waiting.push(Reverse(due)),
                    Ok(Told::Born(life)) => lives.push(life),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                let now = Instant::now();
                while let Some(Reverse(due)) = waiting.peek()
                    && due.at <= now
                {
                    if let Some(life) = due.life.upgrade() {
                        life.end(due.number, Why::Time);
                    }
                    waiting.pop();
                }
                if now >= looked + LOOK {
                    looked = now;
                    make_room(&mut lives, memory_bytes);
                    lives.iter().filter_map(Weak::upgrade).for_each(|life| slow_down(&life));
                    tidy();
                }
            }
        };
        let thread = std::thread::Builder::new().name("agnes-reaper".into()).spawn(work);
        thread.map(|_| Reaper(give)).map_err(|e| {
            Error::new(Kind::Unavailable, format!("no thread can be had: {e}; try again"))
        })
    }

    /// Looks at a worker's memory from now on.
    pub(super) fn watch(&self, life: &Arc<Life>) {
        // The thread is there as long as this is.
        let _ = self.0.send(Told::Born(Arc::downgrade(life)));
    }

    /// Ends a worker after so long, if it still does the same.
    pub(super) fn end_at(&self, after: Duration, life: &Arc<Life>, number: u64) {
        let at = Instant::now() + after;
        let _ = self.0.send(Told::Due(Due { at, life: Arc::downgrade(life), number }));
    }
}

/// Lets others go before a worker that has computed for long, and ends one that has for too long.
fn slow_down(life: &Life) {
    match life.is_at_work() {
        true if life.is_spent() => life.end_now(Why::Time),
        true if life.cpu() > LONG => life.stand_back(),
        // What it was asked has ended long ago.
        false if life.rests() && life.cpu() > life.cpu_asked() + LONG => life.end_now(Why::Over),
        _ => {}
    }
}

/// Ends workers while all together have more than they may: first those that have nothing to do, then
/// the largest, one at a time.
fn make_room(lives: &mut Vec<Weak<Life>>, most: u64) {
    lives.retain(|life| life.strong_count() > 0);
    let there = lives.iter().filter_map(Weak::upgrade);
    let mut there: Vec<_> = there.map(|life| (life.memory_bytes().unwrap_or(0), life)).collect();
    let mut all: u64 = there.iter().map(|(bytes, _)| bytes).sum();
    there.sort_by_key(|(bytes, life)| Reverse((life.rests(), *bytes)));
    for (bytes, life) in there {
        if all <= most {
            return;
        }
        let rests = life.rests();
        life.end_now(Why::Memory);
        all -= bytes;
        // What it gives back has to be seen first.
        if !rests {
            return;
        }
    }
}
