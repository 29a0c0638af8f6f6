//! A connector that is a program: a child process in a group of its own, with a time limit.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::config::without_secrets;
use crate::disk::FileLock;
use crate::{Error, Kind, Result};

/// A program to run.
pub(super) struct Program {
    pub(super) command: Vec<PathBuf>,
    /// What it gets on its standard input.
    pub(super) input: Vec<u8>,
    pub(super) data_dir: PathBuf,
    /// Where it works.
    pub(super) folder: PathBuf,
    pub(super) time: Duration,
    /// What mustn't be told of what it prints.
    pub(super) secrets: Vec<String>,
    /// Held until the last of what it started has ended, whatever becomes of this process.
    pub(super) lock: Arc<FileLock>,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With 0.
    Well,
    /// With 2: some of its tables are done.
    InPart(String),
    /// Any other way.
    Badly(String),
}

/// What Agnes itself keeps secret, and no connector needs.
const WITHHELD: [&str; 7] = [
    "JWT_SECRET_KEY",
    "WEBAPP_SECRET_KEY",
    "SESSION_SECRET",
    "SCHEDULER_API_TOKEN",
    "DESKTOP_JWT_SECRET",
    "AGNES_TOKEN",
    "STATE_DIR",
];
/// How long a program that is told to end may take to do so.
const GRACE: Duration = Duration::from_secs(5);
/// How much of what it prints is kept, bytes: the end of it.
const KEPT: usize = 16 << 10;
/// How much of that an error tells, characters.
const TOLD: usize = 1500;

impl Program {
    /// Runs it to its end, or to its limit; whatever it started ends with it.
    pub(super) fn run(self) -> Result<Ended> {
        let [program, arguments @ ..] = self.command.as_slice() else {
            return Err(Error::new(Kind::Invalid, "a connector's command is empty"));
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("DATA_DIR", &self.data_dir)
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        for name in WITHHELD {
            command.env_remove(name);
        }
        end_with_parent(&mut command, self.lock.clone());
        let mut child = command.spawn().map_err(|e| {
            let kind = match e.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
                    Kind::Invalid
                }
                _ => Kind::Unavailable,
            };
            Error::new(kind, format!("can't start `{}`: {e}", program.display()))
        })?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that doesn't read must hold up nobody.
            let input = self.input;
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        let out = child.stdout.take().map(Tail::of);
        let err = child.stderr.take().map(Tail::of);
        let status = wait(&mut child, self.time);
        // Those that it started and left behind hold its pipes; then nobody does.
        let said = [err, out].map(|tail| tail.map(Tail::end).unwrap_or_default());
        let said = said.iter().find(|text| !text.trim().is_empty()).map_or("", |text| text.trim());
        let said = without_secrets(said, &self.secrets);
        let because = |what: String| match said.as_str() {
            "" => what,
            said => format!("{what}: {}", last(said)),
        };
        Ok(match status? {
            None => Ended::Badly(because(format!(
                "it took longer than {} s and was ended",
                self.time.as_secs_f64()
            ))),
            Some(status) => match (status.code(), status.signal()) {
                (Some(0), _) => Ended::Well,
                (Some(2), _) => Ended::InPart(because("some of its tables failed".to_string())),
                (Some(1), _) => Ended::Badly(because("it failed".to_string())),
                (Some(code), _) => Ended::Badly(because(format!("it ended with exit code {code}"))),
                (None, signal) => Ended::Badly(because(format!(
                    "it was killed by signal {}",
                    signal.unwrap_or_default()
                ))),
            },
        })
    }
}

/// The end of a text, from the beginning of a line where that fits.
fn last(text: &str) -> String {
    let count = text.chars().count();
    let end: String = text.chars().skip(count.saturating_sub(TOLD)).collect();
    match end.split_once('\n') {
        Some((_, lines)) if count > TOLD => format!("… {lines}"),
        _ => end,
    }
}

/// Has the child end when this process does, however that ends, and hold a lock until it and what
/// it started have ended.
#[allow(unsafe_code)]
fn end_with_parent(command: &mut Command, lock: Arc<FileLock>) {
    let tell = move || {
        rustix::io::fcntl_setfd(lock.as_fd(), rustix::io::FdFlags::empty())?;
        // It has a process group of its own, which Ctrl-C doesn't reach.
        #[cfg(target_os = "linux")]
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        Ok(())
    };
    // SAFETY: between fork and exec this makes two system calls and touches no memory.
    unsafe { command.pre_exec(tell) };
}

/// The process groups of the programs that run.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Ends every program that a sync of this process runs, with all that it has started: for a process
/// that is told to end.
pub fn end_programs() {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    for group in running.iter() {
        let _ = rustix::process::kill_process_group(*group, Signal::KILL);
    }
}

/// A program that runs, for as long as this lives.
struct Noted(Pid);

impl Noted {
    fn of(group: Pid) -> Noted {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(group);
        Noted(group)
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|group| *group != self.0);
    }
}

/// Waits for the end of a child, or ends it; none when it had to. Its group ends with it.
fn wait(child: &mut Child, time: Duration) -> Result<Option<ExitStatus>> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let id = id.ok_or_else(|| Error::internal("a process without a number"))?;
    let noted = Noted::of(id);
    let (tell, ended) = mpsc::channel();
    let waiting = move || {
        // It stays a zombie until the group is ended, so that its number can't be another's.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let wait = || rustix::process::waitid(WaitId::Pid(id), options);
        while matches!(wait(), Err(rustix::io::Errno::INTR)) {}
        let _ = tell.send(());
    };
    std::thread::Builder::new().name("agnes-connector".into()).spawn(waiting).map_err(|e| {
        let _ = rustix::process::kill_process_group(id, Signal::KILL);
        let _ = child.wait();
        Error::new(Kind::Unavailable, format!("no thread can be had: {e}; try again"))
    })?;
    let in_time = ended.recv_timeout(time).is_ok();
    if !in_time {
        let _ = rustix::process::kill_process_group(id, Signal::TERM);
        let _ = ended.recv_timeout(GRACE);
    }
    let _ = rustix::process::kill_process_group(id, Signal::KILL);
    drop(noted);
    let status = child.wait().map_err(|e| {
        Error::new(Kind::Unavailable, format!("can't hear how a connector ended: {e}"))
    })?;
    Ok(in_time.then_some(status))
}

/// The end of what a program prints.
struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    closed: mpsc::Receiver<()>,
}

impl Tail {
    fn of(mut pipe: impl Read + Send + 'static) -> Tail {
        let kept: Arc<Mutex<VecDeque<u8>>> = Arc::default();
        let (close, closed) = mpsc::channel();
        let keep = kept.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                let mut kept = keep.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(buffer.iter().take(n));
                let over = kept.len().saturating_sub(KEPT);
                kept.drain(..over);
            }
            let _ = close.send(());
        });
        Tail { kept, closed }
    }

    /// What was kept. Whoever left the group may hold the pipe for ever, and isn't waited for.
    fn end(self) -> String {
        let _ = self.closed.recv_timeout(Duration::from_secs(1));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }
}
