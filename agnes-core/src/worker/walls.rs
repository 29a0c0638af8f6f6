//! The walls around a worker. It raises them itself, before it has a second thread and has heard of
//! any statement; none can be taken down again.

use serde::{Deserialize, Serialize};

use super::Open;
use crate::{Error, Kind, Result};

/// Something that keeps a worker in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wall {
    /// It reads the files that its statements may see, and writes none. Landlock, Linux 5.13.
    Files,
    /// It binds and connects no TCP port. Landlock, Linux 6.7.
    Network,
    /// It reaches no process outside by a signal or an abstract socket. Landlock, Linux 6.12.
    Processes,
    /// It opens no socket, starts no process and looks into none. seccomp, Linux 4.14.
    SystemCalls,
    /// Its address space is bounded, and it writes no file.
    Limits,
}

impl Wall {
    /// All of them.
    pub const ALL: [Wall; 5] =
        [Wall::Files, Wall::Network, Wall::Processes, Wall::SystemCalls, Wall::Limits];

    /// Those without which a worker isn't kept in: the others are second ones before the same thing.
    pub const NEEDED: [Wall; 3] = [Wall::Files, Wall::SystemCalls, Wall::Limits];

    /// What it stands before, for people.
    pub fn name(self) -> &'static str {
        match self {
            Wall::Files => "files",
            Wall::Network => "network",
            Wall::Processes => "processes",
            Wall::SystemCalls => "system calls",
            Wall::Limits => "limits",
        }
    }

    /// What offers it, for people.
    pub fn needs(self) -> &'static str {
        match self {
            Wall::Files => "Landlock for files (Linux 5.13)",
            Wall::Network => "Landlock for the network (Linux 6.7)",
            Wall::Processes => "Landlock for signals and abstract sockets (Linux 6.12)",
            Wall::SystemCalls => "seccomp filters (Linux 4.14)",
            Wall::Limits => "limits of a process",
        }
    }
}

/// Raises the walls that there are. Says which stand.
///
/// # Errors
/// `Unavailable` when one is missing that is needed, by its name.
pub(super) fn raise(open: &Open) -> Result<Vec<Wall>> {
    let walls = system::raise(open)?;
    let missing: Vec<_> =
        open.needs.iter().filter(|wall| !walls.contains(wall)).map(|wall| wall.needs()).collect();
    match missing.is_empty() {
        true => Ok(walls),
        false => Err(Error::new(
            Kind::Unavailable,
            format!(
                "this system doesn't offer {}, without which a worker isn't kept in; update it, \
                 or go on without by `query.workers.without_walls` in instance.yaml \
                 (`WorkerSettings::without_walls` of a program)",
                missing.join(", ")
            ),
        )),
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{Open, Wall};
    use crate::Result;

    /// There are none that are worth the name.
    pub(super) fn raise(_: &Open) -> Result<Vec<Wall>> {
        Ok(Vec::new())
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::path::{Path, PathBuf};

    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd,
        Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError,
        RulesetStatus, Scope,
    };
    use rustix::process::{Resource, Rlimit};
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule,
    };

    use super::{Open, Wall};
    use crate::{Error, Kind, Result};

    pub(super) fn raise(open: &Open) -> Result<Vec<Wall>> {
        let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        if threads != 1 {
            return Err(Error::internal(
                "a worker has threads already, which no wall would hold; call \
                 `agnes_core::serve_as_worker` before anything else",
            ));
        }
        limits(open).map_err(|e| {
            Error::new(Kind::Unavailable, format!("a worker can't limit itself: {e}"))
        })?;
        let mut walls = vec![Wall::Limits];
        let layers = [
            (Wall::Network, enforced(network())),
            (Wall::Processes, enforced(processes())),
            (Wall::Files, enforced(files(&open.files))),
            (Wall::SystemCalls, system_calls().is_some()),
        ];
        walls.extend(layers.into_iter().filter(|(_, stands)| *stands).map(|(wall, _)| wall));
        Ok(walls)
    }

    fn limits(open: &Open) -> rustix::io::Result<()> {
        let bound = |resource, most: u64| {
            rustix::process::setrlimit(
                resource,
                Rlimit { current: Some(most), maximum: Some(most) },
            )
        };
        bound(Resource::Core, 0)?;
        bound(Resource::Fsize, 0)?;
        // Beside what the engine counts: code, stacks, what the allocator keeps, values in one vector.
        let now = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: u64 = now.split(' ').next().and_then(|pages| pages.parse().ok()).unwrap_or(0);
        let there = pages * rustix::param::page_size() as u64;
        bound(Resource::As, there + 2 * open.limits.memory_bytes + (2 << 30))
    }

    /// Whether a set of rules holds from now on.
    fn enforced(rules: std::result::Result<RulesetCreated, RulesetError>) -> bool {
        let status = rules.and_then(RulesetCreated::restrict_self);
        status.is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced)
    }

    fn required() -> Ruleset {
        Ruleset::default().set_compatibility(CompatLevel::HardRequirement)
    }

    /// What the engine asks of the machine as it opens; where that is there and can't be read, it
    /// gives up. Limits of the process and the number of cores, nothing of anybody else's.
    const MACHINE: [&str; 3] =
        ["/proc/self/cgroup", "/sys/fs/cgroup", "/sys/devices/system/cpu/online"];

    fn files(files: &[PathBuf]) -> std::result::Result<RulesetCreated, RulesetError> {
        let rules = required().handle_access(AccessFs::from_all(ABI::V1))?;
        let rules = rules.set_compatibility(CompatLevel::BestEffort);
        let rules = rules.handle_access(AccessFs::from_all(ABI::V7))?.create()?;
        // A file that is gone can't be read; the statement that wants it says so.
        let all = files.iter().map(PathBuf::as_path).chain(MACHINE.iter().map(Path::new));
        let there = all.filter_map(|file| PathFd::new(file).ok());
        rules.add_rules(
            there.map(|file| Ok::<_, RulesetError>(PathBeneath::new(file, AccessFs::ReadFile))),
        )
    }

    fn network() -> std::result::Result<RulesetCreated, RulesetError> {
        required().handle_access(AccessNet::from_all(ABI::V4))?.create()
    }

    fn processes() -> std::result::Result<RulesetCreated, RulesetError> {
        required().scope(Scope::from_all(ABI::V6))?.create()
    }

    /// What the engine, the allocator and the threads of a worker ask of the kernel.
    const CALLS: &[libc::c_long] = &[
        // Its two sockets, and files that are open.
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_pread64,
        libc::SYS_preadv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_lseek,
        libc::SYS_fcntl,
        libc::SYS_fadvise64,
        // Files, of which Landlock says which.
        libc::SYS_openat,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_readlinkat,
        libc::SYS_getcwd,
        libc::SYS_getdents64,
        // Memory.
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_membarrier,
        // Threads.
        libc::SYS_futex,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_getpriority,
        libc::SYS_setpriority,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_restart_syscall,
        // Signals to itself: see below.
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        // Time and what the machine is.
        libc::SYS_clock_gettime,
        libc::SYS_clock_getres,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_gettimeofday,
        libc::SYS_getrandom,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
        libc::SYS_getrusage,
        libc::SYS_sysinfo,
        libc::SYS_uname,
        libc::SYS_getcpu,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_stat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_lstat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_access,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_readlink,
    ];

    /// Leaves the process the calls that it needs; all others fail as not permitted. None where the
    /// kernel has no filters.
    fn system_calls() -> Option<()> {
        let is = |argument, value: u64| {
            let length = SeccompCmpArgLen::Dword;
            SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value).ok()
        };
        let has = |argument, bits: u64| {
            let (length, mask) = (SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits));
            SeccompCondition::new(argument, length, mask, bits).ok()
        };
        let rule = |condition| SeccompRule::new(vec![condition]).ok();
        let me = u64::from(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs());
        let mut rules: std::collections::BTreeMap<_, _> =
            CALLS.iter().map(|call| (*call, Vec::new())).collect();
        // Threads, not processes.
        rules.insert(libc::SYS_clone, vec![rule(has(0, libc::CLONE_THREAD as u64)?)?]);
        // (refused by a filter of its own)
        rules.insert(libc::SYS_clone3, Vec::new());
        rules.insert(libc::SYS_kill, vec![rule(is(0, me)?)?]);
        rules.insert(libc::SYS_tgkill, vec![rule(is(0, me)?)?]);
        // Its limits are to be read, not set.
        rules.insert(libc::SYS_prlimit64, vec![rule(is(2, 0)?)?]);
        let names = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];
        let names = names.into_iter().map(|name| rule(is(0, u64::from(name.unsigned_abs()))?));
        rules.insert(libc::SYS_prctl, names.collect::<Option<_>>()?);
        let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let architecture = std::env::consts::ARCH.try_into().ok()?;
        let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture).ok()?;
        let filter: BpfProgram = filter.try_into().ok()?;
        // What it makes stands where no filter sees it; told that it isn't there, libraries take `clone`.
        let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        let calls = [(libc::SYS_clone3, Vec::new())].into_iter().collect();
        let clone3 = SeccompFilter::new(calls, SeccompAction::Allow, absent, architecture).ok()?;
        let clone3: BpfProgram = clone3.try_into().ok()?;
        // The other one leaves no call to apply another.
        seccompiler::apply_filter(&clone3).ok()?;
        seccompiler::apply_filter(&filter).ok()
    }
}
