//! How workers begin: as processes that wait to be told what they are for. One thread starts all of them,
//! and lasts as long as the pool, since the kernel ends a worker when the thread goes that has started it,
//! whatever the worker does. It has one ready before anybody needs it: to load the program and open the
//! engine takes most of the time in which somebody would wait.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender, SyncSender};
use std::time::Duration;

use super::life::Life;
use super::process::WorkerProgram;
use crate::{Error, Kind, Result};

/// A process that waits for its first word. It ends when this is dropped.
pub(super) struct Process {
    pub(super) line: UnixStream,
    pub(super) life: Life,
}

impl Process {
    /// Starts one, perhaps with what those need that reach remote systems.
    ///
    /// # Errors
    /// `Unavailable` when it doesn't start, naming the program.
    fn start(program: &WorkerProgram, is_remote: bool) -> Result<Process> {
        let failed = |e: std::io::Error| program.failed(&format!("doesn't start: {e}"));
        let (line, its_line) = UnixStream::pair().map_err(failed)?;
        let (control, its_control) = UnixStream::pair().map_err(failed)?;
        control.set_nonblocking(true).map_err(failed)?;
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).env_clear().envs(program.environment.iter().cloned());
        if is_remote {
            command.envs(program.remote_environment.iter().cloned());
        }
        command.current_dir("/");
        // What ends whoever has started it is for her to pass on: she ends what runs in order.
        command.process_group(0);
        command.stdin(OwnedFd::from(its_line)).stdout(OwnedFd::from(its_control));
        let child = command.stderr(Stdio::null()).spawn().map_err(failed)?;
        Ok(Process { line, life: Life::new(child, control) })
    }
}

impl WorkerProgram {
    pub(super) fn failed(&self, what: &str) -> Error {
        Error::new(Kind::Unavailable, format!("the worker `{}` {what}", self.path.display()))
    }
}

/// How long the one before has for itself until the next is started.
const REST: Duration = Duration::from_millis(100);
/// How often the one that waits is looked at: somebody may have killed it.
const LOOK: Duration = Duration::from_secs(5);
/// How long a process may take to start.
const TO_START: Duration = Duration::from_secs(20);

/// Starts processes. Its thread ends with it.
pub(super) struct Starter(Sender<Wanted>);

struct Wanted {
    is_remote: bool,
    answer: SyncSender<Result<Process>>,
}

impl Starter {
    pub(super) fn new(program: &WorkerProgram) -> Result<Starter> {
        let (give, take) = mpsc::channel::<Wanted>();
        let program = program.clone();
        let work = move || {
            // Whoever wants one hears why there is none.
            let mut ready = Process::start(&program, false).ok();
            let mut wait = LOOK;
            loop {
                let Wanted { is_remote, answer } = match take.recv_timeout(wait) {
                    Ok(wanted) => wanted,
                    Err(RecvTimeoutError::Timeout) => {
                        let there = ready.filter(|process| process.life.is_there());
                        ready = there.or_else(|| Process::start(&program, false).ok());
                        wait = LOOK;
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                let found = if is_remote { None } else { ready.take() };
                let found = found.filter(|process| process.life.is_there());
                let process = found.map_or_else(|| Process::start(&program, is_remote), Ok);
                // Nobody to hear it: it ends.
                let _ = answer.send(process);
                wait = REST;
            }
        };
        let thread = std::thread::Builder::new().name("agnes-starter".into()).spawn(work);
        thread.map(|_| Starter(give)).map_err(|e| {
            Error::new(Kind::Unavailable, format!("no thread can be had: {e}; try again"))
        })
    }

    /// A process, perhaps with what those need that reach remote systems.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub(super) fn process(&self, is_remote: bool) -> Result<Process> {
        let (answer, heard) = mpsc::sync_channel(1);
        let late = || {
            let seconds = TO_START.as_secs();
            Error::new(
                Kind::Unavailable,
                format!("no worker was started in {seconds} s; try again"),
            )
        };
        self.0.send(Wanted { is_remote, answer }).map_err(|_| late())?;
        // In a process that was forked off there is nobody who hears.
        heard.recv_timeout(TO_START).map_err(|_| late())?
    }
}
