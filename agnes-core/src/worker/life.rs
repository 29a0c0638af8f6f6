//! The process of a worker: whether it is there, what it does, and what it takes.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What it does, beside the number of what it was asked: it waits for more.
const RESTING: u64 = 1 << 63;
/// It opens its instance.
pub(super) const OPENING: u64 = u64::MAX;
/// It was ended from here.
const ENDED_HERE: u64 = u64::MAX - 1;
/// Somebody has it, and it does nothing.
const NOTHING: u64 = 0;
/// How long one that says nothing more may take to be gone.
const TO_GO: Duration = Duration::from_millis(50);
/// How long nobody looks whether it is gone, at most.
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// The process, and the statement that runs in it. Whoever has the worker and whoever watches over it
/// agree on what it does by one number, so that nobody ends it for what it doesn't do any more.
pub(super) struct Life {
    child: Mutex<Child>,
    control: UnixStream,
    /// The number of what it was asked and does, or one of those above.
    does: AtomicU64,
    /// Why it was ended from here.
    ended: OnceLock<Why>,
    /// Its CPU time when it was asked last, and when it was looked at last, microseconds.
    cpu_at_begin: AtomicU64,
    cpu_seen: AtomicU64,
    /// What it took for what it was asked last, microseconds.
    cpu_asked: AtomicU64,
    /// The CPU time that a statement may take, seconds.
    cpu_seconds: u64,
    /// Whether it stands back behind all others for good.
    stands_back: AtomicBool,
}

/// Why a worker is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Its time was over.
    Time,
    /// All together had too much memory, and it the most.
    Memory,
    /// It was found dead, or isn't wanted any more.
    Over,
}

impl Life {
    /// Of a process that is to open its instance.
    pub(super) fn new(child: Child, control: UnixStream) -> Life {
        Life {
            child: Mutex::new(child),
            control,
            does: AtomicU64::new(OPENING),
            ended: OnceLock::new(),
            cpu_at_begin: AtomicU64::new(0),
            cpu_seen: AtomicU64::new(0),
            cpu_asked: AtomicU64::new(0),
            cpu_seconds: 0,
            stands_back: AtomicBool::new(false),
        }
    }

    /// What it is asked may take so many seconds of CPU time.
    pub(super) fn may_compute(&mut self, seconds: u64) {
        self.cpu_seconds = seconds;
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn does(&self) -> u64 {
        self.does.load(Ordering::SeqCst)
    }

    /// Goes on from one thing to another; false when it was ended before it could.
    fn turns(&self, from: u64, to: u64) -> bool {
        self.does.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// It has opened its instance; false when it was ended before.
    pub(super) fn has_opened(&self) -> bool {
        self.turns(OPENING, NOTHING)
    }

    /// It is asked something, and may compute for so long; false when it was ended before.
    pub(super) fn begins(&self, number: u64) -> bool {
        let used = self.look();
        self.cpu_at_begin.store(used, Ordering::Relaxed);
        self.bound_cpu(used / 1_000_000 + self.cpu_seconds);
        self.turns(NOTHING, number)
    }

    /// It has done what it was asked; false when it was ended before.
    pub(super) fn has_done(&self, number: u64) -> bool {
        self.turns(number, NOTHING)
    }

    /// It waits for more; gives the number by which it is known to.
    pub(super) fn rests_after(&self, number: u64) -> Option<u64> {
        let cpu = u64::try_from(self.cpu().as_micros()).unwrap_or(u64::MAX);
        self.cpu_asked.store(cpu, Ordering::Relaxed);
        let resting = RESTING | number;
        self.turns(NOTHING, resting).then_some(resting)
    }

    /// From now on nobody ends it for having nothing to do; false where it isn't there any more.
    pub(super) fn wakes(&self, number: u64) -> bool {
        self.turns(RESTING | number, NOTHING) && self.is_there()
    }

    /// Whether the process hasn't ended.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// Whether it does this still.
    pub(super) fn is_at(&self, number: u64) -> bool {
        self.does() == number
    }

    /// The number of what it is at work on.
    pub(super) fn work(&self) -> Option<u64> {
        Some(self.does()).filter(|does| *does != NOTHING && does & RESTING == 0)
    }

    /// Whether it waits for more.
    pub(super) fn rests(&self) -> bool {
        let does = self.does();
        does & RESTING != 0 && does < ENDED_HERE
    }

    /// Ends the process if it still does this. Whoever has it waits for its end.
    pub(super) fn end(&self, number: u64, why: Why) {
        if self.turns(number, ENDED_HERE) {
            self.signal(why);
        }
    }

    /// Ends the process if it waits for more; false where it doesn't.
    pub(super) fn end_resting(&self, why: Why) -> bool {
        let does = self.does();
        let ends = does & RESTING != 0 && does < ENDED_HERE && self.turns(does, ENDED_HERE);
        if ends {
            self.signal(why);
        }
        ends
    }

    /// Ends the process, whatever it does.
    pub(super) fn end_now(&self, why: Why) {
        // What waits for the next statement must not be taken for one.
        self.does.store(ENDED_HERE, Ordering::SeqCst);
        self.signal(why);
    }

    /// Why it was ended from here, if it was.
    pub(super) fn ended(&self) -> Option<Why> {
        self.ended.get().copied()
    }

    /// Asks it to end a statement.
    pub(super) fn interrupt(&self, number: u64) {
        // One that doesn't listen is killed a moment later.
        let _ = (&self.control).write(&number.to_le_bytes());
    }

    /// Has the process end. The first reason is the one.
    fn signal(&self, why: Why) {
        let _ = self.ended.set(why);
        let _ = self.child().kill();
    }

    /// Ends the process, and waits until it is gone: it would stay as a zombie.
    pub(super) fn kill(&self, why: Why) {
        self.signal(why);
        self.wait(Duration::MAX);
    }

    /// Waits until the process is gone, for so long; how it has ended, where that is known. Who looks at it
    /// meanwhile, the reaper among them, doesn't wait for one that takes long to go.
    fn wait(&self, most: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        let mut pause = Duration::from_micros(100);
        loop {
            let gone = self.child().try_wait();
            if !matches!(gone, Ok(None)) || begun.elapsed() > most {
                return gone.ok().flatten();
            }
            // Nothing tells of a child's end but its signal, which is the embedder's.
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// How a process has ended that says nothing any more, if it does soon: what has ended it is to be
    /// known before it is killed.
    pub(super) fn exit(&self) -> Option<ExitStatus> {
        self.wait(TO_GO)
    }

    /// Whether somebody else has killed a process that says nothing any more.
    pub(super) fn was_killed(&self) -> bool {
        self.exit().is_some_and(|status| status.signal() == Some(libc::SIGKILL))
    }

    /// The memory that it has for itself, bytes, where the system says so.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        let said = std::fs::read_to_string(format!("/proc/{}/status", self.child().id())).ok()?;
        let of = |name: &str| -> Option<u64> {
            let line = said.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        // What is of files is the program's own, and shared.
        let kib = of("RssAnon:")? + of("RssShmem:")? + of("VmSwap:").unwrap_or(0);
        Some(kib << 10)
    }

    /// Looks at its CPU time, microseconds.
    fn look(&self) -> u64 {
        if let Some(cpu) = cpu_of(self.child().id()) {
            let micros = u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX);
            self.cpu_seen.store(micros, Ordering::Relaxed);
        }
        self.cpu_seen.load(Ordering::Relaxed)
    }

    /// The CPU time of what it was asked last, as far as anybody has seen.
    pub(super) fn cpu(&self) -> Duration {
        let seen = self.look();
        Duration::from_micros(seen.saturating_sub(self.cpu_at_begin.load(Ordering::Relaxed)))
    }

    /// The CPU time that what it was asked last has taken, once it rests.
    pub(super) fn cpu_asked(&self) -> Duration {
        Duration::from_micros(self.cpu_asked.load(Ordering::Relaxed))
    }

    /// Whether it has computed for longer than it may.
    pub(super) fn is_spent(&self) -> bool {
        self.cpu() > Duration::from_secs(self.cpu_seconds)
    }

    /// Bounds the CPU time of all that it does, in seconds: a wall for the case that nobody watches it.
    fn bound_cpu(&self, seconds: u64) {
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{Pid, Resource, Rlimit, prlimit};
            let pid = Pid::from_raw(self.child().id().cast_signed());
            // The hard limit stays: nobody could raise it for the next statement.
            let limit = Rlimit { current: Some(seconds), maximum: None };
            let _ = prlimit(pid, Resource::Cpu, limit);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = seconds;
    }

    /// Lets everybody else go first, for good: there is no way back without rights.
    pub(super) fn stand_back(&self) {
        if self.stands_back.swap(true, Ordering::SeqCst) {
            return;
        }
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child().id()));
        for task in tasks.into_iter().flatten().flatten() {
            let id = task.file_name().to_str().and_then(|id| id.parse().ok());
            if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::setpriority_process(Some(id), 19);
            }
        }
    }

    /// Whether it lets everybody else go first.
    pub(super) fn stands_back(&self) -> bool {
        self.stands_back.load(Ordering::SeqCst)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.kill(Why::Over);
    }
}

/// The CPU time of a process, where the system says so.
fn cpu_of(pid: u32) -> Option<Duration> {
    #[cfg(target_os = "linux")]
    {
        let mut clock = 0;
        let mut used = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both write into what they are given, and take any number of a process.
        let is_known = unsafe {
            libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) == 0
                && libc::clock_gettime(clock, &raw mut used) == 0
        };
        let nanos = u32::try_from(used.tv_nsec).unwrap_or(0);
        is_known.then(|| Duration::new(used.tv_sec.unsigned_abs(), nanos))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        None
    }
}
