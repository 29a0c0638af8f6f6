//! A worker that a statement has taken over: it asks the kernel itself, whatever it likes.

use std::ffi::CString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::OnceLock;

use libc::{c_int, c_long};
use serde_json::json;

use crate::agnes::Worker;

/// What it was told: the files and folders to try, who has started it, and a port that listens.
static TOLD: OnceLock<Told> = OnceLock::new();

struct Told {
    granted: CString,
    secret: CString,
    folder: CString,
    parent: c_int,
    port: u16,
}

/// Prepares a process to be captured once it serves as a worker.
pub fn prepare(arguments: &[String]) {
    if arguments.is_empty() {
        return;
    }
    let text = |at: usize| CString::new(arguments[at].as_str()).unwrap();
    let told = Told {
        granted: text(0),
        secret: text(1),
        folder: text(2),
        parent: arguments[3].parse().unwrap(),
        port: arguments[4].parse().unwrap(),
    };
    assert!(TOLD.set(told).is_ok());
    // SAFETY: the handler is a function for as long as the process is there.
    let before = unsafe { libc::signal(libc::SIGUSR1, attack as *const () as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Tells how something went: 0, or why the kernel refused it.
fn tell(what: &str, done: c_long) {
    let errno = if done < 0 { errno() } else { 0 };
    told_line(format_args!("{what} {errno}"));
}

/// Puts a line on the stack first: nobody knows where the signal has come.
fn told_line(line: std::fmt::Arguments<'_>) {
    let mut text = [0; 200];
    let mut left = &mut text[..];
    let _ = writeln!(left, "{line}");
    let length = 200 - left.len();
    let _ = std::io::stderr().write_all(&text[..length]);
}

/// A call of the kernel.
macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {
        // SAFETY: what is given is what the call takes, or nothing that it could take.
        unsafe { libc::syscall($number $(, $argument)*) }
    };
}

extern "C" fn attack(_: c_int) {
    let Some(told) = TOLD.get() else { return };
    let (granted, secret) = (told.granted.as_ptr(), told.secret.as_ptr());
    let at = libc::AT_FDCWD;
    let open =
        |path: *const libc::c_char, flags: c_int| call!(libc::SYS_openat, at, path, flags, 0o600);
    tell("read what is granted", open(granted, libc::O_RDONLY));
    tell("read a secret", open(secret, libc::O_RDONLY));
    for path in [c"/etc/passwd", c"/proc/self/environ", c"/proc/self/maps", c"/proc/self/mem"] {
        tell("read the machine", open(path.as_ptr(), libc::O_RDONLY));
    }
    tell("list a folder", open(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY));
    tell("write what is granted", open(granted, libc::O_WRONLY));
    let file = open(granted, libc::O_WRONLY);
    // More than nine tenths of what is free, and less than any file may have.
    tell("fill the disk", call!(libc::SYS_pwrite64, file, c"x".as_ptr(), 1, 1_i64 << 43));
    call!(libc::SYS_close, file);
    tell("write a secret", open(secret, libc::O_WRONLY));
    tell("make a file", open(c"/tmp/agnes-jail-made".as_ptr(), libc::O_WRONLY | libc::O_CREAT));
    tell("make a nameless file", open(told.folder.as_ptr(), libc::O_WRONLY | libc::O_TMPFILE));
    tell("reach a device", open(c"/dev/null".as_ptr(), libc::O_WRONLY));
    // Sockets.
    for protocol in [libc::NETLINK_USERSOCK, libc::NETLINK_NETFILTER, libc::NETLINK_AUDIT] {
        let socket = call!(libc::SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, protocol);
        tell("speak to the kernel", socket);
    }
    for family in [libc::AF_UNIX, libc::AF_PACKET, libc::AF_ALG, libc::AF_VSOCK] {
        tell("open a socket", call!(libc::SYS_socket, family, libc::SOCK_STREAM, 0));
    }
    let socket = call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0);
    tell("open a socket to the network", socket);
    if socket >= 0 {
        let length = size_of::<libc::sockaddr_in>();
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        tell("bind a port", call!(libc::SYS_bind, socket, &raw const address, length));
        address.sin_port = told.port.to_be();
        address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
        tell("connect", call!(libc::SYS_connect, socket, &raw const address, length));
        let (set, owner) = (0x8901, told.parent);
        tell("send signals by a socket", call!(libc::SYS_ioctl, socket, set, &raw const owner));
    }
    // Other processes.
    let parent = told.parent;
    tell("signal another process", call!(libc::SYS_kill, parent, 0));
    tell("signal all processes", call!(libc::SYS_kill, -1, 0));
    tell("signal a thread", call!(libc::SYS_tgkill, parent, parent, 0));
    tell("send signals by a file", call!(libc::SYS_fcntl, 0, libc::F_SETOWN, parent));
    tell("put another process back", call!(libc::SYS_setpriority, libc::PRIO_PROCESS, parent, 19));
    tell("put a user back", call!(libc::SYS_setpriority, libc::PRIO_USER, 0, 19));
    tell("bound another process", {
        let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        call!(libc::SYS_prlimit64, parent, libc::RLIMIT_NOFILE, &raw const limit, 0)
    });
    tell("lift its own bounds", {
        let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        call!(libc::SYS_prlimit64, 0, libc::RLIMIT_AS, &raw const limit, 0)
    });
    // An address whose lower half is nothing.
    let low = call!(
        libc::SYS_mmap,
        0x1_0000_0000_usize,
        4096,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
        -1,
        0
    );
    if low > 0 {
        // SAFETY: it was made for this.
        unsafe {
            *(low as *mut libc::rlimit) = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 }
        };
        let bound = call!(libc::SYS_prlimit64, parent, libc::RLIMIT_CORE, low, 0);
        tell("bound another process from afar", bound);
    }
    let thread = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        // It has no stack of its own: whoever started it waits until it has ended.
        | libc::CLONE_VFORK;
    let another = call!(libc::SYS_clone, thread, 0, 0, 0, 0);
    if another == 0 {
        call!(libc::SYS_exit, 0);
    }
    tell("start a thread", another);
    tell("be looked into", call!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1));
    let forked = call!(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
    if forked == 0 {
        call!(libc::SYS_exit_group, 0);
    }
    tell("fork", forked);
    tell("take memory", {
        let (access, kind) =
            (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        call!(libc::SYS_mmap, 0, 1_usize << 40, access, kind, -1, 0)
    });
    // Every other call that there is, with what none of them takes.
    for number in (0..600).filter(|number| !is_needed(*number)) {
        if call!(number, -1, -1, -1, -1, -1, -1) != -1 || errno() != libc::EPERM {
            // (what a machine hasn't got isn't there either)
            let is_absent = errno() == libc::ENOSYS && number == libc::SYS_clone3;
            if !is_absent {
                told_line(format_args!("call {number} 0"));
            }
        }
    }
    let _ = std::io::stderr().write_all(b"end\n");
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Calls that a worker needs, each with some arguments at least; what they may reach is tried above.
fn is_needed(number: c_long) -> bool {
    const NEEDED: &[c_long] = &[
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
        libc::SYS_openat,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_readlinkat,
        libc::SYS_getcwd,
        libc::SYS_getdents64,
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_membarrier,
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
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
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
        libc::SYS_clone,
        libc::SYS_kill,
        libc::SYS_tgkill,
        libc::SYS_prlimit64,
        libc::SYS_prctl,
        libc::SYS_seccomp,
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
    NEEDED.contains(&number)
}

/// Lets a worker be captured, and hears what it could do.
fn escapes(worker: &mut Worker) -> Vec<String> {
    let pid = i32::try_from(worker.child.id()).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::USR1,
    )
    .unwrap();
    let said = BufReader::new(worker.child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said: Vec<String> = said.take_while(|line| line != "end").collect();
    assert!(said.len() > 20, "it didn't get to the end: {said:?}");
    if std::env::args().any(|argument| argument == "--nocapture") {
        said.iter().for_each(|line| println!("  {line}"));
    }
    let done = |line: &String| line.ends_with(" 0");
    said.into_iter().filter(done).map(|line| line.trim_end_matches(" 0").to_string()).collect()
}

/// A folder with a secret, a file that is granted, and what a worker is told of them.
fn house(listener: &TcpListener) -> (tempfile::TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    std::fs::write(path("granted"), "granted").unwrap();
    std::fs::write(path("secret"), "secret").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let told = vec![
        path("granted"),
        path("secret"),
        dir.path().to_str().unwrap().to_string(),
        std::process::id().to_string(),
        port,
    ];
    (dir, told)
}

fn tried(purpose: impl Fn(&Path) -> serde_json::Value) -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (dir, told) = house(&listener);
    let mut worker = Worker::start(&purpose(dir.path()), &told);
    // Where the kernel lacks a wall there is nothing to try.
    if !(worker.has("files") && worker.has("system_calls")) {
        println!("  this kernel has only {:?}", worker.walls);
        return Vec::new();
    }
    escapes(&mut worker)
}

pub fn a_captured_worker_is_bounded() {
    let worker = Worker::start(&json!("Lists"), &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", worker.child.id())).unwrap();
    let of = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().to_string()
    };
    for (name, most) in
        [("Max core file size", "0"), ("Max file size", "0"), ("Max processes", "0")]
    {
        assert_eq!(of(name), most, "{name}");
    }
    let bytes: u64 = of("Max address space").parse().unwrap();
    assert!(bytes < 64 << 30, "{bytes}");
}

pub fn a_captured_worker_gets_nowhere() {
    let escapes = tried(|dir| json!({"Tables": {"files": [dir.join("granted")]}}));
    assert_eq!(escapes, ["read what is granted"]);
}

pub fn a_remote_worker_gets_to_the_network_alone() {
    let escapes = tried(|dir| json!({"Remote": {"files": [dir.join("granted")]}}));
    // It needs more of them; those that reach something are tried by name.
    let calls = |escape: &&String| !escape.starts_with("call ");
    let escapes: Vec<&String> = escapes.iter().filter(calls).collect();
    let reached = ["read what is granted", "open a socket to the network", "connect"];
    assert_eq!(escapes, [&reached[..], &["start a thread"]].concat());
}

pub fn a_worker_for_foreign_files_writes_one() {
    let purpose = |dir: &Path| json!({"Foreign": {"reads": [], "writes": dir.join("granted")}});
    let escapes = tried(purpose);
    // It needs more of them; those that reach something are tried by name.
    let calls = |escape: &&String| !escape.starts_with("call ");
    let escapes: Vec<&String> = escapes.iter().filter(calls).collect();
    assert_eq!(escapes, ["read what is granted", "write what is granted"]);
}
