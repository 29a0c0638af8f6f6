//! What this process takes of its machine, as Linux tells.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// What a process takes.
pub(crate) struct Process {
    pub(crate) cpu: Duration,
    pub(crate) memory_bytes: u64,
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
    pub(crate) most_descriptors: u64,
}

impl Process {
    /// How it is now; none where the system doesn't tell.
    pub(crate) fn look() -> Option<Process> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line?.split_whitespace().next()?.parse::<u64>().ok()
        };
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // Behind the name, which may hold anything.
        let (_, fields) = stat.rsplit_once(") ")?;
        let ticks = |at: usize| fields.split(' ').nth(at)?.parse::<u64>().ok();
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        let milliseconds = (ticks(11)? + ticks(12)?).saturating_mul(1000) / per_second;
        Some(Process {
            cpu: Duration::from_millis(milliseconds),
            memory_bytes: number("VmRSS")?.saturating_mul(1024),
            threads: number("Threads")?,
            descriptors: std::fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            most_descriptors: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        })
    }
}

/// Lets this process have as many file descriptors as it may: a connection takes one, a download
/// two, and the soft limit of a shell is 1,024.
pub(crate) fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        let _ = rustix::process::setrlimit(Resource::Nofile, limit);
    }
}

/// Takes memory in small pages, where the allocator would have large ones: a server that idles holds
/// a sixth less of it.
pub(crate) fn take_small_pages() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// How far threads for what is large stand back behind those for what is small.
const BACK: i32 = 5;

/// Has this thread stand back behind others.
pub(crate) fn stand_back() {
    // Elsewhere it would be the whole process.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, BACK);
}

/// Has this thread run for short whiles, and therefore soon after it wakes: it sleeps most of the
/// time. Linux does so from 6.12 on (sched(7), `sched_runtime` of SCHED_OTHER), and otherwise nothing.
pub(crate) fn run_soon() {
    #[cfg(target_os = "linux")]
    {
        /// Nanoseconds, the shortest that there is.
        const WHILE: u64 = 100_000;
        let size = u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0);
        // SAFETY: integers, all of which may be zero.
        let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
        // SAFETY: it writes as many bytes as it is told there are.
        let known =
            unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
        if known == 0 && attributes.sched_policy == 0 {
            attributes.size = size;
            attributes.sched_runtime = WHILE;
            // SAFETY: it reads what was written above.
            unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
        }
    }
}
