//! Threads on which statements run, kept for the next one: starting a thread takes longer than
//! many a statement.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{Error, Kind, Result};

/// A piece of work. What it gives back is done once the thread is ready for more, so that whoever
/// hears of the end and asks for more at once finds it; it must not wait for anybody.
type Job = Box<dyn FnOnce() -> Told + Send>;
pub(super) type Told = Box<dyn FnOnce()>;

/// How long a thread waits for work before it goes.
const IDLE: Duration = Duration::from_secs(30);
/// The stack of a thread, of which only what is used takes memory: the engine goes down into a
/// nested type level by level.
const STACK: usize = 32 << 20;
/// The most threads that wait for work.
const IDLE_MAX: usize = 16;

/// Has this thread stand back behind others, and with it those that it starts.
pub(super) fn stand_back(nice: u8) {
    // Elsewhere it would be the whole process.
    #[cfg(target_os = "linux")]
    if nice > 0 {
        let _ = rustix::process::setpriority_process(None, i32::from(nice.min(19)));
    }
}

/// The threads that wait for work.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    /// How far they stand back.
    nice: u8,
    idle: Mutex<Vec<(u64, SyncSender<Job>)>>,
    next: AtomicU64,
}

impl Threads {
    pub(crate) fn new(nice: u8) -> Threads {
        Threads { nice, ..Threads::default() }
    }

    /// Runs a job on a thread that has nothing to do, or on a new one.
    pub(super) fn run(self: &Arc<Self>, job: Job) -> Result<()> {
        let mut job = job;
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some((_, thread)) = idle else { return self.start(job) };
            match thread.send(job) {
                Ok(()) => return Ok(()),
                // It has just gone.
                Err(mpsc::SendError(back)) => job = back,
            }
        }
    }

    fn start(self: &Arc<Self>, job: Job) -> Result<()> {
        let (give, jobs) = mpsc::sync_channel::<Job>(1);
        let threads = self.clone();
        let me = (self.next.fetch_add(1, Ordering::Relaxed), give);
        let work = move || {
            stand_back(threads.nice);
            let told = job();
            threads.wait_for(&me, &jobs, told);
        };
        let thread = std::thread::Builder::new().name("agnes-query".into()).stack_size(STACK);
        thread.spawn(work).map(drop).map_err(|e| {
            Error::new(Kind::Unavailable, format!("no thread can be had: {e}; try again"))
        })
    }

    /// Takes jobs until none comes for a while.
    fn wait_for(&self, me: &(u64, SyncSender<Job>), jobs: &Receiver<Job>, told: Told) {
        let mut told = told;
        loop {
            let stays = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                let stays = idle.len() < IDLE_MAX;
                if stays {
                    idle.push(me.clone());
                }
                stays
            };
            told();
            if !stays {
                return;
            }
            told = match jobs.recv_timeout(IDLE) {
                Ok(job) => job(),
                Err(_) => {
                    // Whoever took it from the list meanwhile has sent or will send a job.
                    let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                    let before = idle.len();
                    idle.retain(|(number, _)| *number != me.0);
                    if idle.len() < before {
                        return;
                    }
                    drop(idle);
                    match jobs.recv() {
                        Ok(job) => job(),
                        Err(_) => return,
                    }
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_used_again_and_none_waits_for_another() {
        let threads = Arc::new(Threads::default());
        let (told, hear) = mpsc::channel();
        for _ in 0..20 {
            let told = told.clone();
            let job = move || -> Told { Box::new(move || told.send(()).unwrap()) };
            threads.run(Box::new(job)).unwrap();
            // Whoever hears that it is done finds it ready for more.
            hear.recv().unwrap();
        }
        assert_eq!(threads.next.load(Ordering::Relaxed), 1);
        // Jobs that wait for each other run at the same time.
        let barrier = Arc::new(std::sync::Barrier::new(5));
        for _ in 0..4 {
            let barrier = barrier.clone();
            let wait = move || -> Told {
                barrier.wait();
                Box::new(|| {})
            };
            threads.run(Box::new(wait)).unwrap();
        }
        barrier.wait();
    }
}
