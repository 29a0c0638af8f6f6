//! The walls around a worker. It raises them itself, before it has a second thread and has heard of
//! any statement; none can be taken down again.

use serde::{Deserialize, Serialize};

use super::Open;
use crate::{Error, Kind, Result};

/// Something that keeps a worker in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wall {
    /// It reads the files that it is told to, and writes none but the one that it is told to.
    /// Landlock, Linux 5.13.
    Files,
    /// It binds no TCP port, and connects to none where it has no remote system. Landlock, Linux 6.7.
    Network,
    /// It reaches no process outside by a signal or an abstract socket. Landlock, Linux 6.12.
    Processes,
    /// It opens no socket, or none but to the network where it has a remote system; it starts no
    /// process and looks into none. seccomp, Linux 4.14.
    SystemCalls,
    /// Its address space and its CPU time are bounded; it starts no thread more than it needs and
    /// leaves no core.
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

/// Has this process start no thread any more, once it has those that it needs.
pub(super) fn no_more_threads() {
    // Counted are all of the user's; 0 keeps this process from more, and no other.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nproc, none);
    // Root isn't bounded by that.
    #[cfg(target_os = "linux")]
    system::no_clone();
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
    use crate::worker::Purpose;
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
        without_capabilities();
        let mut walls = vec![Wall::Limits];
        let purpose = &open.purpose;
        let layers = [
            (Wall::Network, enforced(network(purpose))),
            (Wall::Processes, enforced(processes())),
            (Wall::Files, enforced(files(purpose))),
            (Wall::SystemCalls, system_calls(purpose).is_some()),
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
        bound(Resource::Fsize, open.purpose.writes().map_or(0, room))?;
        // Beside what the engine counts: code, stacks, what the allocator keeps, values in one vector.
        let now = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: u64 = now.split(' ').next().and_then(|pages| pages.parse().ok()).unwrap_or(0);
        let there = pages * rustix::param::page_size() as u64;
        bound(Resource::As, there + 2 * open.limits.memory_bytes + (2 << 30))
    }

    /// The most that a file may grow to, bytes: nine tenths of what is free on its disk, so that nobody's
    /// rows take the last of it.
    fn room(file: &Path) -> u64 {
        // Some don't say how large they are.
        let disk = rustix::fs::statvfs(file).ok().filter(|disk| disk.f_blocks > 0);
        let free = disk.map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let most = rustix::process::getrlimit(Resource::Fsize).maximum.unwrap_or(u64::MAX);
        (free / 10 * 9).min(most)
    }

    /// Gives away what root may beyond the files that are another user's.
    fn without_capabilities() {
        use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
        let kept = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        let Ok(has) = rustix::thread::capabilities(None) else { return };
        let sets = CapabilitySets {
            effective: has.effective & kept,
            permitted: has.permitted & kept,
            inheritable: CapabilitySet::empty(),
        };
        let _ = set_capabilities(None, sets);
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

    /// What reaching another machine asks of this one: how names become addresses, whose certificates
    /// are believed, and the libraries of the loader, which extensions need.
    const NETWORK: [&str; 14] = [
        "/etc/resolv.conf",
        "/etc/hosts",
        "/etc/host.conf",
        "/etc/nsswitch.conf",
        "/etc/gai.conf",
        "/etc/services",
        "/etc/ssl",
        "/etc/pki/tls",
        "/etc/ca-certificates",
        "/usr/share/ca-certificates",
        "/etc/ld.so.cache",
        "/lib",
        "/lib64",
        "/usr/lib",
    ];

    /// Where the engine looks for its extensions.
    // As the engine does; whoever starts a worker says what is in it.
    #[allow(clippy::disallowed_methods)]
    fn extensions() -> Option<PathBuf> {
        Some(PathBuf::from(std::env::var_os("HOME")?).join(".duckdb/extensions"))
    }

    fn files(purpose: &Purpose) -> std::result::Result<RulesetCreated, RulesetError> {
        let rules = required().handle_access(AccessFs::from_all(ABI::V1))?;
        let rules = rules.set_compatibility(CompatLevel::BestEffort);
        let rules = rules.handle_access(AccessFs::from_all(ABI::V7))?.create()?;
        // A file that is gone can't be read; the statement that wants it says so.
        let rule = |path: &Path, access| {
            let file = PathFd::new(path).ok()?;
            Some(Ok::<_, RulesetError>(PathBeneath::new(file, access)))
        };
        let files = purpose.reads().iter().map(PathBuf::as_path).chain(MACHINE.map(Path::new));
        let rules =
            rules.add_rules(files.filter_map(|file| rule(file, AccessFs::ReadFile.into())))?;
        let written = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
        let rules = rules.add_rules(purpose.writes().and_then(|file| rule(file, written)))?;
        if !purpose.is_remote() {
            return Ok(rules);
        }
        let places = NETWORK.map(PathBuf::from).into_iter().chain(extensions());
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        rules.add_rules(places.filter_map(|place| rule(&place, read)))
    }

    fn network(purpose: &Purpose) -> std::result::Result<RulesetCreated, RulesetError> {
        let kept = match purpose.is_remote() {
            true => AccessNet::BindTcp.into(),
            false => AccessNet::from_all(ABI::V4),
        };
        required().handle_access(kept)?.create()
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

    /// What is done to open files by `fcntl`: their flags, and locks on them.
    const FILES: [libc::c_int; 8] = [
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_GETLK,
        libc::F_SETLK,
        libc::F_SETLKW,
    ];

    /// What writing a file asks besides.
    const WRITING: &[libc::c_long] =
        &[libc::SYS_pwrite64, libc::SYS_ftruncate, libc::SYS_fsync, libc::SYS_fdatasync];

    /// What speaking to another machine asks besides, but for the sockets themselves.
    const SPEAKING: &[libc::c_long] = &[
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        libc::SYS_getsockopt,
        libc::SYS_setsockopt,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_recvmmsg,
        libc::SYS_shutdown,
        libc::SYS_ppoll,
        libc::SYS_pselect6,
        libc::SYS_epoll_create1,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        libc::SYS_eventfd2,
        libc::SYS_pipe2,
        libc::SYS_timerfd_create,
        libc::SYS_timerfd_settime,
        libc::SYS_dup,
        libc::SYS_statfs,
        libc::SYS_fstatfs,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait,
    ];
    /// The families of its sockets.
    const FAMILIES: [libc::c_int; 2] = [libc::AF_INET, libc::AF_INET6];

    /// Refuses every thread of this process another one.
    pub(super) fn no_clone() {
        let refused = SeccompAction::Errno(libc::EAGAIN.unsigned_abs());
        let calls = [(libc::SYS_clone, Vec::new())].into_iter().collect();
        let filter = std::env::consts::ARCH.try_into().ok().and_then(|architecture| {
            SeccompFilter::new(calls, SeccompAction::Allow, refused, architecture).ok()
        });
        let filter: Option<BpfProgram> = filter.and_then(|filter| filter.try_into().ok());
        if let Some(filter) = filter {
            let _ = seccompiler::apply_filter_all_threads(&filter);
        }
    }

    /// Leaves the process the calls that it needs; all others fail as not permitted. None where the
    /// kernel has no filters.
    fn system_calls(purpose: &Purpose) -> Option<()> {
        let is = |argument, value: u64| {
            let length = SeccompCmpArgLen::Dword;
            SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value).ok()
        };
        let has = |argument, bits: u64| {
            let (length, mask) = (SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits));
            SeccompCondition::new(argument, length, mask, bits).ok()
        };
        let rule = |condition| SeccompRule::new(vec![condition]).ok();
        let word = |number: libc::c_int| u64::from(number.unsigned_abs());
        let any_of = |argument, values: &[u64]| -> Option<Vec<SeccompRule>> {
            values.iter().map(|value| rule(is(argument, *value)?)).collect()
        };
        let me = u64::from(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs());
        let mut rules: std::collections::BTreeMap<_, _> =
            CALLS.iter().map(|call| (*call, Vec::new())).collect();
        // Threads, not processes.
        rules.insert(libc::SYS_clone, vec![rule(has(0, libc::CLONE_THREAD as u64)?)?]);
        // (refused by a filter of its own)
        rules.insert(libc::SYS_clone3, Vec::new());
        rules.insert(libc::SYS_kill, vec![rule(is(0, me)?)?]);
        rules.insert(libc::SYS_tgkill, vec![rule(is(0, me)?)?]);
        // Its limits are to be read, not set, but for the number of its threads. What is set is read
        // from an address, of which all 64 bits count.
        let unset = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0).ok()?;
        let threads = vec![is(0, 0)?, is(1, u64::from(libc::RLIMIT_NPROC))?];
        let threads = SeccompRule::new(threads).ok()?;
        rules.insert(libc::SYS_prlimit64, vec![rule(unset)?, threads]);
        // It may take more away from itself.
        rules.insert(libc::SYS_seccomp, vec![rule(is(0, 1)?)?]);
        if purpose.writes().is_some() {
            rules.extend(WRITING.iter().map(|call| (*call, Vec::new())));
        }
        if purpose.is_remote() {
            rules.extend(SPEAKING.iter().map(|call| (*call, Vec::new())));
            let mut sockets = any_of(0, &FAMILIES.map(word))?;
            // Which addresses this machine has, and nothing else of the kernel's.
            let netlink = vec![is(0, word(libc::AF_NETLINK))?, is(2, 0)?];
            sockets.push(SeccompRule::new(netlink).ok()?);
            rules.insert(libc::SYS_socket, sockets);
            rules.insert(
                libc::SYS_ioctl,
                any_of(1, &[libc::FIONBIO, libc::FIONREAD, libc::FIOCLEX])?,
            );
        }
        // It stands back itself, and puts nobody else back.
        let own = SeccompRule::new(vec![is(0, 0)?, is(1, 0)?]).ok()?;
        rules.insert(libc::SYS_setpriority, vec![own]);
        // (the last stands before each filter that it adds, and is in force anyway)
        let names =
            [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, libc::PR_SET_NO_NEW_PRIVS]
                .map(word);
        rules.insert(libc::SYS_prctl, any_of(0, &names)?);
        // Not such as has the kernel send signals to another process.
        rules.insert(libc::SYS_fcntl, any_of(1, &FILES.map(word))?);
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
