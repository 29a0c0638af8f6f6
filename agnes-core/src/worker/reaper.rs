//! Ends workers whose time is over, on one thread for all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::process::Life;
use crate::{Error, Kind, Result};

/// Takes what is to be ended later. Cheap to clone; its thread ends with the last of them.
#[derive(Clone)]
pub(super) struct Reaper(Sender<Due>);

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
    pub(super) fn start() -> Result<Reaper> {
        let (give, take) = mpsc::channel::<Due>();
        let work = move || {
            let mut waiting = BinaryHeap::<Reverse<Due>>::new();
            loop {
                let next = waiting.peek().map(|Reverse(due)| due.at);
                let heard = match next {
                    None => take.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(at) => take.recv_timeout(at.saturating_duration_since(Instant::now())),
                };
                match heard {
                    Ok(due) => waiting.push(Reverse(due)),
                    Err(RecvTimeoutError::Timeout) => {
                        if let Some(Reverse(due)) = waiting.pop()
                            && let Some(life) = due.life.upgrade()
                        {
                            life.end(due.number);
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("agnes-reaper".into()).spawn(work);
        thread.map(|_| Reaper(give)).map_err(|e| {
            Error::new(Kind::Unavailable, format!("no thread can be had: {e}; try again"))
        })
    }

    /// Ends a worker after so long, if it still does the same.
    pub(super) fn end_at(&self, after: Duration, life: &Arc<Life>, number: u64) {
        let at = Instant::now() + after;
        // The thread is there as long as this is.
        let _ = self.0.send(Due { at, life: Arc::downgrade(life), number });
    }
}
