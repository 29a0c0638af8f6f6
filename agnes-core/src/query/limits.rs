//! What a statement, a principal and the process may take.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::remote::Stop;
use super::rows::{TICK, cancelled};
use crate::access::Principal;
use crate::worker::Rank;
use crate::{Error, Key, Kind, Result};

/// What queries may take: each statement, each principal, and all together.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct QueryLimits {
    /// The time that a caller waits for a statement's rows. Time in which the caller does
    /// something else doesn't count.
    pub time: Duration,
    /// The engine's buffers, bytes: of each worker, or in this process for all statements over the same
    /// tables in one generation.
    pub memory_bytes: u64,
    /// Worker threads of a statement.
    pub threads: u32,
    /// Statements of one principal that run at the same time.
    pub running_each: usize,
    /// Statements that run at the same time, in the whole process. Together they use no more
    /// memory than this times `memory_bytes`.
    pub running: usize,
    /// How long a statement waits for its turn while others run.
    pub patience: Duration,
    /// Sessions that are kept ready, one for each set of visible tables.
    pub kept: usize,
    /// How far the threads of statements stand back behind others of the machine: 0 to 19, as in
    /// `nice`. Linux alone knows it of threads.
    pub nice: u8,
}

impl Default for QueryLimits {
    /// 60 s, 1 GiB and 2 threads; 4 statements for each principal, 16 in all, 10 s of waiting,
    /// 32 sessions; standing back behind nobody.
    fn default() -> Self {
        QueryLimits {
            time: Duration::from_secs(60),
            memory_bytes: 1 << 30,
            threads: 2,
            running_each: 4,
            running: 16,
            patience: Duration::from_secs(10),
            kept: 32,
            nice: 0,
        }
    }
}

/// How long a principal who has as many statements as she may waits for one of them to end.
const ENDING: Duration = Duration::from_millis(250);

/// How many statements there are at one moment, in the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statements {
    /// Those that run.
    pub running: usize,
    /// Those that wait for their turn.
    pub waiting: usize,
}

/// Lets statements in, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    moved: Condvar,
    limits: QueryLimits,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    each: HashMap<Principal, Hers>,
    queue: VecDeque<u64>,
    next: u64,
    /// What the long statements of a principal have computed lately.
    spent: HashMap<Principal, Spent>,
}

/// CPU time, of which half is forgotten in each [`FORGET`].
#[derive(Debug, Clone, Copy)]
struct Spent {
    seconds: f64,
    at: Instant,
}

/// How long it takes to forget half of what somebody has spent.
const FORGET: Duration = Duration::from_secs(10);
/// The CPU time lately spent, seconds, from which on somebody's statements stand back from their start.
const MUCH: f64 = 4.0;
/// What takes less doesn't count: whoever asks for much that is small isn't in anybody's way.
const SMALL: Duration = Duration::from_millis(500);

impl Spent {
    /// What is left of it.
    fn now(self) -> f64 {
        let halves = self.at.elapsed().as_secs_f64() / FORGET.as_secs_f64();
        self.seconds * 0.5_f64.powf(halves)
    }
}

/// The statements of one principal.
#[derive(Debug, Default, Clone, Copy)]
struct Hers {
    /// Those that run or wait for their turn.
    begun: usize,
    /// Those that wait until she may have one more.
    early: usize,
}

impl Gate {
    pub(crate) fn new(limits: QueryLimits) -> Arc<Gate> {
        Arc::new(Gate { state: Mutex::default(), moved: Condvar::new(), limits })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The statements that run, and those that wait for their turn.
    pub(crate) fn counts(&self) -> Statements {
        let state = self.state();
        Statements { running: state.running, waiting: state.queue.len() }
    }

    /// Waits until the statement may run, or isn't wanted any more.
    ///
    /// # Errors
    /// `Limit` when the principal has as many running as she may; `Unavailable` when its turn
    /// doesn't come in time; `Cancelled` when `stop` says so.
    pub(crate) fn enter(
        self: &Arc<Self>,
        principal: &Principal,
        stop: Option<&Stop>,
    ) -> Result<Turn> {
        // One who uses several tokens is one.
        let who = match principal.user_id() {
            Some(id) => Principal::user(id.clone()),
            None => principal.clone(),
        };
        let most = self.limits.running_each;
        let mut state = self.state();
        // One whose reader has had enough ends a moment later than she hears of it. Whoever asks for
        // many more than she may have hears so at once: each that waits has a thread.
        let soon = Instant::now() + self.limits.patience.min(ENDING);
        let of_her = |state: &State| state.each.get(&who).copied().unwrap_or_default();
        if of_her(&state).begun >= most && of_her(&state).early < most {
            state.each.entry(who.clone()).or_default().early += 1;
            loop {
                let left = soon.saturating_duration_since(Instant::now());
                if of_her(&state).begun < most || left.is_zero() {
                    break;
                }
                let waited = self.moved.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            state.each.entry(who.clone()).or_default().early -= 1;
        }
        let mine = state.each.entry(who.clone()).or_default();
        if mine.begun >= most {
            return Err(Error::new(
                Kind::Limit,
                format!("{most} of your statements are running, the most at a time; let one end"),
            )
            .with(Key::Reason, "concurrent_statements")
            .with(Key::Max, most));
        }
        mine.begun += 1;
        // From here on the turn gives back what it took.
        let mut turn = Turn { gate: self.clone(), who, running: false };
        let ticket = state.next;
        state.next += 1;
        state.queue.push_back(ticket);
        let end = Instant::now() + self.limits.patience;
        let mut is_stopped = false;
        loop {
            if state.queue.front() == Some(&ticket) && state.running < self.limits.running {
                state.queue.pop_front();
                state.running += 1;
                turn.running = true;
                drop(state);
                // The next one in the queue may have a free place, too.
                self.moved.notify_all();
                return Ok(turn);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || is_stopped {
                state.queue.retain(|other| *other != ticket);
                let running = state.running;
                drop(state);
                self.moved.notify_all();
                drop(turn);
                return Err(match is_stopped {
                    true => cancelled(),
                    false => Error::new(
                        Kind::Unavailable,
                        format!("{running} statements are running, as many as may; try again"),
                    ),
                });
            }
            let left = if stop.is_some() { left.min(TICK) } else { left };
            state = self.moved.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            if let Some(stop) = stop {
                // Whoever asks may wait for somebody who waits for this.
                drop(state);
                is_stopped = stop.is_stopped();
                state = self.state();
            }
        }
    }
}

/// Leave to run one statement; given back when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    gate: Arc<Gate>,
    who: Principal,
    running: bool,
}

impl Turn {
    /// Others go first where whoever has it has computed much lately.
    pub(crate) fn rank(&self) -> Rank {
        match self.gate.state().spent.get(&self.who).is_some_and(|spent| spent.now() > MUCH) {
            true => Rank::Last,
            false => Rank::Usual,
        }
    }

    /// Notes what was computed.
    pub(crate) fn spend(&self, cpu: Duration) {
        if cpu < SMALL {
            return;
        }
        let mut state = self.gate.state();
        let before = state.spent.get(&self.who).map_or(0.0, |spent| spent.now());
        let spent = Spent { seconds: before + cpu.as_secs_f64(), at: Instant::now() };
        state.spent.insert(self.who.clone(), spent);
        if state.spent.len() > SPENDERS_MAX {
            state.spent.retain(|_, spent| spent.now() > MUCH / 10.0);
        }
    }
}

/// Of how many it is known at least what they have spent.
const SPENDERS_MAX: usize = 1000;

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.running -= usize::from(self.running);
        if let Some(mine) = state.each.get_mut(&self.who) {
            mine.begun -= 1;
            if mine.begun == 0 && mine.early == 0 {
                state.each.remove(&self.who);
            }
        }
        drop(state);
        self.gate.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::UserId;

    fn user(name: &str) -> Principal {
        Principal::user(UserId::parse(name).unwrap())
    }

    fn gate(running: usize, patience: Duration) -> Arc<Gate> {
        Gate::new(QueryLimits { running, patience, running_each: 2, ..QueryLimits::default() })
    }

    #[test]
    fn who_has_gone_away_leaves_the_queue() {
        let gate = gate(1, Duration::from_secs(3600));
        let first = gate.enter(&user("ada"), None).unwrap();
        let stop = Stop::default();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| gate.enter(&user("bob"), Some(&stop)).map(drop));
            while gate.counts().waiting == 0 {
                std::thread::yield_now();
            }
            stop.stop();
            assert_eq!(second.join().unwrap().unwrap_err().kind(), Kind::Cancelled);
        });
        assert_eq!(gate.counts().waiting, 0);
        drop(first);
        drop(gate.enter(&user("bob"), Some(&Stop::default())).unwrap());
    }

    #[test]
    fn each_principal_has_a_share() {
        let gate = gate(10, Duration::ZERO);
        let ada =
            (gate.enter(&user("ada"), None).unwrap(), gate.enter(&user("ada"), None).unwrap());
        assert_eq!(gate.enter(&user("ada"), None).unwrap_err().kind(), Kind::Limit);
        let _bob = gate.enter(&user("bob"), None).unwrap();
        drop(ada.0);
        assert!(gate.enter(&user("ada"), None).is_ok());
    }

    #[test]
    fn whoever_asks_again_at_once_waits_for_what_is_ending() {
        let gate = gate(10, Duration::from_secs(60));
        let first = gate.enter(&user("ada"), None).unwrap();
        let _second = gate.enter(&user("ada"), None).unwrap();
        std::thread::scope(|scope| {
            let third = scope.spawn(|| gate.enter(&user("ada"), None).map(drop));
            while gate.state().each[&user("ada")].early == 0 {
                std::thread::yield_now();
            }
            // Others aren't held up meanwhile.
            drop(gate.enter(&user("bob"), None).unwrap());
            drop(first);
            assert!(third.join().unwrap().is_ok());
        });
    }

    #[test]
    fn whoever_asks_for_many_more_hears_so_at_once() {
        let gate = gate(10, Duration::from_secs(60));
        let first = gate.enter(&user("ada"), None).unwrap();
        let _second = gate.enter(&user("ada"), None).unwrap();
        std::thread::scope(|scope| {
            let early = [(); 2].map(|()| scope.spawn(|| gate.enter(&user("ada"), None).map(drop)));
            while gate.state().each[&user("ada")].early < early.len() {
                std::thread::yield_now();
            }
            // It would wait as long as the others otherwise, who wait for this thread.
            assert_eq!(gate.enter(&user("ada"), None).unwrap_err().kind(), Kind::Limit);
            drop(first);
        });
    }

    #[test]
    fn whoever_finds_no_place_hears_so_and_leaves_nothing_behind() {
        let gate = gate(1, Duration::ZERO);
        let first = gate.enter(&user("ada"), None).unwrap();
        assert_eq!(gate.enter(&user("bob"), None).unwrap_err().kind(), Kind::Unavailable);
        drop(first);
        drop(gate.enter(&user("bob"), None).unwrap());
        let state = gate.state();
        assert_eq!((state.running, state.each.len(), state.queue.len()), (0, 0, 0));
    }

    #[test]
    fn whoever_computes_much_goes_last_for_a_while() {
        let gate = gate(10, Duration::ZERO);
        let (ada, bob) =
            (gate.enter(&user("ada"), None).unwrap(), gate.enter(&user("bob"), None).unwrap());
        (0..100).for_each(|_| ada.spend(Duration::from_millis(100)));
        ada.spend(Duration::from_secs(3));
        assert_eq!(ada.rank(), Rank::Usual);
        ada.spend(Duration::from_millis(1500));
        assert_eq!((ada.rank(), bob.rank()), (Rank::Last, Rank::Usual));
        let long_ago = Instant::now().checked_sub(FORGET).unwrap();
        gate.state().spent.get_mut(&user("ada")).unwrap().at = long_ago;
        assert_eq!(ada.rank(), Rank::Usual);
    }

    #[test]
    fn turns_come_in_order() {
        let gate = gate(1, Duration::from_secs(60));
        let first = gate.enter(&user("first"), None).unwrap();
        assert_eq!(gate.counts(), Statements { running: 1, waiting: 0 });
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for at in 0..4 {
                let (gate, order) = (&gate, &order);
                scope.spawn(move || {
                    // Each comes once the one before stands in the queue.
                    while gate.state().queue.len() != at {
                        std::thread::yield_now();
                    }
                    let turn = gate.enter(&user(&format!("{at}")), None).unwrap();
                    order.lock().unwrap().push(at);
                    drop(turn);
                });
            }
            while gate.state().queue.len() != 4 {
                std::thread::yield_now();
            }
            drop(first);
        });
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
    }
}
