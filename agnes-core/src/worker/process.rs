//! A worker as whoever started it sees it: asked one thing after the other, and ended when it doesn't
//! end by itself.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_message;

use super::reaper::Reaper;
use super::wire::{self, Fault, Line, Tag};
use super::{Open, Ready, Run, Wall};
use crate::query::tree::Parser;
use crate::query::{Has, Job, Place, Sink};
use crate::{Error, Key, Kind, Result, ViewName};

/// How long a statement that was interrupted may go on before its worker is killed.
const GRACE: Duration = Duration::from_millis(250);
/// How long a worker may take to open its instance.
const TO_OPEN: Duration = Duration::from_secs(20);

/// What is started as a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerProgram {
    /// A program that calls [`serve_as_worker`](super::serve_as_worker) before anything else, and
    /// nothing after it.
    pub path: PathBuf,
    /// What it is told.
    pub arguments: Vec<String>,
    /// All of its environment: nothing, or where the loader finds an engine that isn't in the program.
    pub environment: Vec<(OsString, OsString)>,
    /// What those get besides that reach remote systems: where extensions lie (`HOME`), which proxy
    /// leads there.
    pub remote_environment: Vec<(OsString, OsString)>,
}

impl WorkerProgram {
    /// The program that runs, whatever has become of its file meanwhile.
    ///
    /// # Errors
    /// `Unavailable` when the system doesn't say which one it is.
    pub fn this(arguments: impl IntoIterator<Item = impl Into<String>>) -> Result<WorkerProgram> {
        let path = match cfg!(target_os = "linux") {
            // An update puts another file in its place, which may speak another version.
            true => PathBuf::from("/proc/self/exe"),
            false => std::env::current_exe().map_err(|e| {
                Error::new(Kind::Unavailable, "this program's own file can't be told").because(e)
            })?,
        };
        let arguments = arguments.into_iter().map(Into::into).collect();
        let (environment, remote_environment) = (Vec::new(), Vec::new());
        Ok(WorkerProgram { path, arguments, environment, remote_environment })
    }
}

/// Beside the number of statements that were run: it waits for the next.
const RESTING: u64 = 1 << 63;
/// It opens its instance.
const OPENING: u64 = u64::MAX;
/// It was ended from here.
const ENDED_HERE: u64 = u64::MAX - 1;

/// The process, and the statement that runs in it.
pub(super) struct Life {
    child: Mutex<Child>,
    control: UnixStream,
    /// The number of the statement that runs; 0 is none.
    running: AtomicU64,
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
    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this statement still runs.
    fn runs(&self, number: u64) -> bool {
        self.running.load(Ordering::SeqCst) == number
    }

    /// Goes on from one thing to another; false when it was ended before it could.
    fn turns(&self, from: u64, to: u64) -> bool {
        self.running.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Ends the process if it still does this. Whoever has it waits for its end.
    pub(super) fn end(&self, number: u64, why: Why) {
        if self.turns(number, ENDED_HERE) {
            self.signal(why);
        }
    }

    /// Ends the process, whatever it does.
    pub(super) fn end_now(&self, why: Why) {
        // What waits for the next statement must not be taken for one.
        self.running.store(ENDED_HERE, Ordering::SeqCst);
        self.signal(why);
    }

    /// Whether it is at work on something.
    pub(super) fn is_at_work(&self) -> bool {
        let running = self.running.load(Ordering::SeqCst);
        running != 0 && running & RESTING == 0
    }

    /// Whether it has nothing to do.
    pub(super) fn rests(&self) -> bool {
        let running = self.running.load(Ordering::SeqCst);
        running & RESTING != 0 && running < ENDED_HERE
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

    /// Asks it to end a statement.
    fn interrupt(&self, number: u64) {
        // One that doesn't listen is killed a moment later.
        let _ = (&self.control).write(&number.to_le_bytes());
    }

    /// Looks at its CPU time.
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

    /// Lets everybody else go first. There is no way back without rights.
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

    /// How the process has ended, if it does within a time.
    fn has_gone(&self, time: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + time;
        loop {
            let gone = self.child().try_wait().ok().flatten();
            if gone.is_some() || Instant::now() > until {
                return gone;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether somebody else has killed the process, which says nothing any more.
    fn was_killed(&self) -> bool {
        self.has_gone(TO_GO).is_some_and(|status| status.signal() == Some(libc::SIGKILL))
    }

    /// Has the process end. The first reason is the one.
    fn signal(&self, why: Why) {
        let _ = self.ended.set(why);
        let _ = self.child().kill();
    }

    /// Ends the process.
    fn kill(&self, why: Why) {
        self.signal(why);
        let mut child = self.child();
        // Otherwise it would stay as a zombie.
        let _ = child.wait();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.kill(Why::Over);
    }
}

/// A worker that has nothing to do.
pub(crate) struct Worker {
    line: Line,
    life: Arc<Life>,
    reaper: Reaper,
    /// The walls that stand.
    walls: Vec<Wall>,
    /// The views that it has made.
    made: BTreeSet<ViewName>,
    has_catalog: bool,
    /// Statements that it has run.
    served: u64,
    is_sound: bool,
    /// Whether it has said anything of what it was asked last.
    has_answered: bool,
    /// When it was asked.
    asked_at: Instant,
    /// Whether it was killed by somebody else before it had, so that another may be asked.
    is_lost: bool,
    /// What has become of it.
    fate: Option<Fate>,
}

/// What has ended a worker at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// What it was asked.
    Crashed,
    /// It took too long.
    Time,
    /// All together had too much memory, and it the most.
    Memory,
    /// Somebody else.
    Killed,
}

/// The signals with which a program ends that has gone wrong.
const CRASHES: [i32; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGSYS];
/// How soon it is found that a worker was gone before it was asked.
const AT_ONCE: Duration = Duration::from_millis(50);
/// How long one that says nothing more may take to be gone.
const TO_GO: Duration = Duration::from_millis(50);

impl Drop for Worker {
    fn drop(&mut self) {
        // Whoever looks at it just now would keep it for a while.
        self.life.kill(Why::Over);
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("served", &self.served).finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts one, and waits until its instance is open.
    ///
    /// # Errors
    /// `Unavailable` when it doesn't start, naming the program; what it says of its instance.
    pub(super) fn start(program: &WorkerProgram, open: &Open, reaper: &Reaper) -> Result<Worker> {
        let failed = |what: String| {
            Error::new(Kind::Unavailable, format!("the worker `{}` {what}", program.path.display()))
        };
        let io = |e: std::io::Error| failed(format!("doesn't start: {e}"));
        let (line, its_line) = UnixStream::pair().map_err(io)?;
        let (control, its_control) = UnixStream::pair().map_err(io)?;
        control.set_nonblocking(true).map_err(io)?;
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).env_clear().envs(program.environment.iter().cloned());
        if open.purpose.is_remote() {
            command.envs(program.remote_environment.iter().cloned());
        }
        command.current_dir("/");
        // What ends whoever has started it is for her to pass on: she ends what runs in order.
        command.process_group(0);
        command.stdin(OwnedFd::from(its_line)).stdout(OwnedFd::from(its_control));
        let child = command.stderr(Stdio::null()).spawn().map_err(io)?;
        // From here on both of its ends are its own.
        drop(command);
        let life = Arc::new(Life {
            child: Mutex::new(child),
            control,
            running: AtomicU64::new(OPENING),
            ended: OnceLock::new(),
            cpu_at_begin: AtomicU64::new(0),
            cpu_seen: AtomicU64::new(0),
            cpu_asked: AtomicU64::new(0),
            // Its time on each of its threads, and as much again for those that nobody counts.
            cpu_seconds: (open.limits.time.as_secs() + 2) * (u64::from(open.limits.threads) + 2),
            stands_back: AtomicBool::new(false),
        });
        reaper.watch(&life);
        reaper.end_at(TO_OPEN, &life, OPENING);
        let mut line = Line::new(line.into()).map_err(io)?;
        let heard = line.tell(Tag::Open, open).and_then(|()| line.hear());
        let ready: Ready = match heard.and_then(|heard| {
            let is_there = life.turns(OPENING, 0);
            is_there.then_some(heard).ok_or_else(|| std::io::ErrorKind::TimedOut.into())
        }) {
            Ok((Tag::Ready, content)) => wire::read(&content)?,
            Ok((Tag::Failed, content)) => return Err(wire::read::<Fault>(&content)?.into()),
            _ => {
                return Err(match life.ended.get() {
                    Some(Why::Memory) => Error::new(Kind::Limit, TOO_MUCH).with(Key::Reason, ENDED),
                    Some(Why::Time) => failed(format!("isn't ready after {} s", TO_OPEN.as_secs())),
                    _ if life.was_killed() => {
                        failed("was killed as it began".to_string()).with(Key::Reason, KILLED)
                    }
                    _ => failed(
                        "doesn't act as one: it has to call `agnes_core::serve_as_worker` before \
                         anything else"
                            .to_string(),
                    ),
                });
            }
        };
        if ready.version != wire::VERSION {
            let (theirs, ours) = (ready.version, wire::VERSION);
            return Err(failed(format!("speaks version {theirs}, not {ours}; update it")));
        }
        Ok(Worker {
            line,
            life,
            reaper: reaper.clone(),
            walls: ready.walls,
            made: BTreeSet::new(),
            has_catalog: false,
            served: 0,
            is_sound: true,
            has_answered: false,
            asked_at: Instant::now(),
            is_lost: false,
            fate: None,
        })
    }

    /// The walls that stand around it.
    pub(crate) fn walls(&self) -> &[Wall] {
        &self.walls
    }

    /// Whether it is as it was.
    pub(super) fn is_sound(&self) -> bool {
        self.is_sound
    }

    /// Whether it can serve somebody else.
    pub(super) fn is_as_good_as_new(&self) -> bool {
        self.is_sound && !self.life.stands_back.load(Ordering::SeqCst)
    }

    /// Whether it was killed by somebody else before it had said anything of a statement.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// What has ended it, if anything has.
    pub(super) fn fate(&self) -> Option<Fate> {
        self.fate
    }

    /// Whether it is still there.
    pub(super) fn is_alive(&self) -> bool {
        // From here on nobody ends it for having nothing to do.
        self.life.turns(RESTING | self.served, 0)
            && matches!(self.life.child().try_wait(), Ok(None))
    }

    /// Lets it wait for more, for so long; false where it is still at work on something.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let number = RESTING | self.served;
        let cpu = u64::try_from(self.life.cpu().as_micros()).unwrap_or(u64::MAX);
        self.life.cpu_asked.store(cpu, Ordering::Relaxed);
        let rests = self.life.turns(0, number);
        if rests {
            self.reaper.end_at(time, &self.life, number);
        }
        rests
    }

    /// The memory that it has for itself, bytes, where the system says so.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        self.life.memory_bytes()
    }

    /// How many statements it has run.
    pub(super) fn served(&self) -> u64 {
        self.served
    }

    /// Lets it parse, for so long altogether.
    pub(crate) fn parse<T>(
        &mut self,
        time: Duration,
        work: impl FnOnce(&dyn Parser) -> Result<T>,
    ) -> Result<T> {
        let number = self.begin();
        self.reaper.end_at(time, &self.life, number);
        let asking = Asking(RefCell::new(self));
        let done = work(&asking);
        self.end(number);
        done
    }

    fn begin(&mut self) -> u64 {
        self.let_compute();
        self.served += 1;
        self.has_answered = false;
        self.asked_at = Instant::now();
        self.is_sound &= self.life.turns(0, self.served);
        self.served
    }

    /// Bounds the CPU time of what it is asked next: a wall for the case that nobody watches it.
    fn let_compute(&self) {
        let used = self.life.look();
        self.life.cpu_at_begin.store(used, Ordering::Relaxed);
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{Pid, Resource, Rlimit, prlimit};
            let pid = Pid::from_raw(self.life.child().id().cast_signed());
            // The hard limit stays: nobody could raise it for the next statement.
            let most = used / 1_000_000 + self.life.cpu_seconds;
            let limit = Rlimit { current: Some(most), maximum: None };
            let _ = prlimit(pid, Resource::Cpu, limit);
        }
    }

    /// The CPU time of what it was asked last, as far as anybody has seen.
    pub(crate) fn cpu(&self) -> Duration {
        self.life.cpu()
    }

    /// Lets everybody else go first. It serves nobody else afterwards.
    pub(crate) fn stand_back(&self) {
        self.life.stand_back();
    }

    fn end(&mut self, number: u64) {
        self.is_sound &= self.life.turns(number, 0);
    }

    /// Asks for something, and hears the answer.
    fn ask(&mut self, tag: Tag, content: &[u8]) -> Result<(Tag, Buffer)> {
        let said = self.line.say(tag, content);
        said.map_err(|_| self.gone())?;
        self.hear()
    }

    fn hear(&mut self) -> Result<(Tag, Buffer)> {
        match self.line.hear() {
            Ok((Tag::Failed, content)) => {
                let error = Error::from(wire::read::<Fault>(&content)?);
                // The engine refuses everything from then on.
                self.is_sound &= error.kind() != Kind::Internal;
                Err(error)
            }
            Ok(heard) => {
                self.has_answered = true;
                Ok(heard)
            }
            // It is still there, and not itself.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(self.unsound()),
            Err(_) => Err(self.gone()),
        }
    }

    /// What is to be said of a worker that isn't there any more.
    fn gone(&mut self) -> Error {
        self.is_sound = false;
        let ended = self.life.ended.get().copied();
        let _ = self.life.ended.set(Why::Over);
        // It may take a moment to be gone; what has ended it is to be known.
        self.life.has_gone(TO_GO);
        let mut child = self.life.child();
        let _ = child.kill();
        let signal = child.wait().ok().and_then(|status| status.signal());
        drop(child);
        let fate = match (ended, signal) {
            (Some(Why::Memory), _) => Fate::Memory,
            (Some(Why::Time), _) | (_, Some(libc::SIGXCPU)) => Fate::Time,
            (_, None) => Fate::Crashed,
            (_, Some(signal)) if CRASHES.contains(&signal) => Fate::Crashed,
            _ => Fate::Killed,
        };
        self.fate = Some(fate);
        // One that was killed while it had nothing to do is found so at once.
        let at_once = self.asked_at.elapsed() < AT_ONCE;
        self.is_lost = fate == Fate::Killed && ended.is_none() && !self.has_answered && at_once;
        let by_a_limit = match ended {
            Some(Why::Time) => Some("the query didn't end in time, and its worker was ended"),
            Some(Why::Memory) => Some(TOO_MUCH),
            Some(Why::Over) | None => None,
        };
        if let Some(said) = by_a_limit {
            return Error::new(Kind::Limit, said).with(Key::Reason, ENDED);
        }
        let how = match signal {
            Some(libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE) => {
                "the engine crashed"
            }
            Some(libc::SIGABRT) => "the engine gave up",
            Some(libc::SIGXCPU) => "it took more CPU time than it may",
            Some(libc::SIGKILL) => "it was killed, for instance because memory ran out",
            _ => "nobody knows why",
        };
        Error::new(Kind::Limit, format!("the query ended its worker: {how}; nothing else was lost"))
            .with(Key::Reason, ENDED)
    }

    /// Asks for something that is answered at once, within a time.
    pub(super) fn ask_for(
        &mut self,
        time: Duration,
        tag: Tag,
        content: &[u8],
    ) -> Result<(Tag, Buffer)> {
        let number = self.begin();
        self.reaper.end_at(time, &self.life, number);
        let heard = self.ask(tag, content);
        self.end(number);
        heard
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// As the engine's; `Limit` with the reason `worker_ended` when it has ended the worker.
    pub(crate) fn run(&mut self, job: Job, sink: &mut dyn Sink) -> Result<()> {
        let number = self.begin();
        let done = self.stream(number, job, sink);
        self.end(number);
        sink.has_ended();
        done
    }

    fn stream(&mut self, number: u64, job: Job, sink: &mut dyn Sink) -> Result<()> {
        let (life, reaper) = (Arc::downgrade(&self.life), self.reaper.clone());
        sink.begins(Arc::new(move || {
            if let Some(life) = life.upgrade().filter(|life| life.runs(number)) {
                life.interrupt(number);
                reaper.end_at(GRACE, &life, number);
            }
        }))?;
        let made: Vec<ViewName> = job.views.iter().map(|(name, _)| name.clone()).collect();
        let is_catalog = matches!(job.place, Place::Catalog(_));
        let run = Run::of(number, job);
        let said = self.line.tell(Tag::Run, &run);
        said.map_err(|_| self.gone())?;
        let mut decoder = Decoder { stream: StreamDecoder::new(), silent: 0 };
        let mut is_told = false;
        let (mut has_columns, mut is_wanted) = (false, true);
        loop {
            // Whoever goes on although nobody listens is ended soon.
            if !is_wanted && !std::mem::replace(&mut is_told, true) {
                self.life.interrupt(number);
                self.reaper.end_at(GRACE, &self.life, number);
            }
            let (tag, content) = self.hear()?;
            match tag {
                Tag::Done if is_wanted => {
                    self.decode(&mut decoder, Buffer::from(END), sink)?;
                    break;
                }
                Tag::Done => break,
                Tag::May => {
                    let judged = match std::str::from_utf8(&content) {
                        Ok(made) => {
                            let asking = Asking(RefCell::new(&mut *self));
                            sink.may_run(&crate::sql::guarded(made.to_string()), Some(&asking))
                        }
                        Err(_) => Err(wire::garbled()),
                    };
                    let said = match judged {
                        Ok(()) => self.line.say(Tag::Yes, &[]),
                        Err(error) => self.line.tell(Tag::Failed, &Fault::from(&error)),
                    };
                    said.map_err(|_| self.gone())?;
                }
                Tag::Columns => {
                    let columns = try_schema_from_ipc_buffer(&content);
                    let columns = columns.map_err(|_| self.unsound())?;
                    let is_usual = columns.fields().iter().all(|f| is_usual(f.data_type()));
                    if has_columns || !is_usual {
                        return Err(self.unsound());
                    }
                    has_columns = true;
                    is_wanted &= sink.columns(&columns.into());
                    is_wanted &= self.decode(&mut decoder, content, sink)?;
                }
                Tag::Rows if !is_wanted => {}
                Tag::Rows => is_wanted = self.decode(&mut decoder, content, sink)?,
                _ => return Err(self.unsound()),
            }
        }
        self.made.extend(made);
        self.has_catalog |= is_catalog;
        Ok(())
    }

    /// Passes on rows as the worker says that they are, looked through before anybody uses them. False
    /// when nobody wants more.
    fn decode(
        &mut self,
        decoder: &mut Decoder,
        content: Buffer,
        sink: &mut dyn Sink,
    ) -> Result<bool> {
        if !are_plain(&content) {
            return Err(self.unsound());
        }
        let mut content = content;
        // Dictionaries are kept until their rows come, and have to have some.
        decoder.silent += 1;
        if decoder.silent > SILENT_MAX {
            return Err(self.unsound());
        }
        // What has no bytes of its own, as NULLs, comes out with what follows it.
        while !content.is_empty() {
            // What doesn't fit together is an error there, or a panic.
            let decoding = std::panic::AssertUnwindSafe(|| decoder.stream.decode(&mut content));
            let decoded = std::panic::catch_unwind(decoding);
            match decoded.unwrap_or(Err(ArrowError::IpcError(String::new()))) {
                Ok(Some(rows)) => {
                    decoder.silent = 0;
                    if !sink.rows(rows) {
                        return Ok(false);
                    }
                }
                Ok(None) => {}
                Err(_) => return Err(self.unsound()),
            }
        }
        Ok(true)
    }

    /// It isn't itself any more.
    pub(super) fn unsound(&mut self) -> Error {
        self.is_sound = false;
        wire::garbled()
    }
}

impl Has for Worker {
    fn lacks(&self, names: &BTreeSet<ViewName>) -> Vec<ViewName> {
        names.difference(&self.made).cloned().collect()
    }

    fn lacks_catalog(&self) -> bool {
        !self.has_catalog
    }
}

/// Reads rows.
struct Decoder {
    stream: StreamDecoder,
    /// The frames since some came out.
    silent: u32,
}

/// The most frames out of which no rows come: the columns, and what has no bytes of its own.
const SILENT_MAX: u32 = 3;

/// How a stream of Arrow's ends.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// The most rows of one message: the engine gives them in vectors of 2,048.
const ROWS_MAX: i64 = 1 << 20;

/// Whether a type is one that the engine gives: others can stand for far more than they take.
fn is_usual(kind: &DataType) -> bool {
    let all = |mut fields: std::slice::Iter<'_, FieldRef>| fields.all(|f| is_usual(f.data_type()));
    match kind {
        DataType::Utf8View
        | DataType::BinaryView
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::RunEndEncoded(..) => false,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => is_usual(field.data_type()),
        DataType::Struct(fields) => all(fields.iter()),
        DataType::Union(fields, _) => fields.iter().all(|(_, field)| is_usual(field.data_type())),
        DataType::Dictionary(key, value) => is_usual(key) && is_usual(value),
        _ => true,
    }
}

/// Whether these messages hold their rows as they are: what is packed may say that it is of any size.
fn are_plain(content: &[u8]) -> bool {
    let mut rest = content;
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [marker @ .., a, b, c, d] = *head;
        // Without it the reader takes the length from there, and reads another message.
        if marker != [0xff; 4] {
            return false;
        }
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length == 0 {
            return after.is_empty();
        }
        let Some((message, after)) = after.split_at_checked(length) else { return false };
        let Ok(message) = root_as_message(message) else { return false };
        let dictionary = message.header_as_dictionary_batch();
        let batch = message.header_as_record_batch();
        let batch = batch.or_else(|| dictionary?.data());
        let is_packed = batch.is_some_and(|batch| batch.compression().is_some());
        let is_long = batch.is_some_and(|batch| batch.length() > ROWS_MAX);
        if is_packed || is_long || dictionary.is_some_and(|dictionary| dictionary.isDelta()) {
            return false;
        }
        let body = usize::try_from(message.bodyLength()).unwrap_or(usize::MAX);
        let Some(after) = after.get(body..) else { return false };
        rest = after;
    }
    rest.is_empty()
}

/// A worker's parser.
struct Asking<'w>(RefCell<&'w mut Worker>);

impl Asking<'_> {
    fn text(&self, tag: Tag, content: &str) -> Result<String> {
        let mut worker = self.0.borrow_mut();
        match worker.ask(tag, content.as_bytes())? {
            (Tag::Text, text) => String::from_utf8(text.to_vec()).map_err(|_| worker.unsound()),
            _ => Err(worker.unsound()),
        }
    }
}

impl Parser for Asking<'_> {
    fn tree_of(&self, text: &str) -> Result<String> {
        self.text(Tag::Parse, text)
    }

    fn text_of(&self, tree: &str) -> Result<String> {
        self.text(Tag::Write, tree)
    }
}

/// What is said to whoever had the most memory of all.
const TOO_MUCH: &str = "all queries together needed more memory than they may have, this one the \
                        most, and its worker was ended; read fewer rows or columns at once";
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

/// The reason of an error that tells of a worker that somebody else has ended before it could do
/// anything.
pub(super) const KILLED: &str = "worker_killed";
/// The reason of an error that tells of a worker's end.
pub(crate) const ENDED: &str = "worker_ended";
