//! A worker as whoever started it sees it: asked one thing after the other, and ended when it doesn't
//! end by itself.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::buffer::Buffer;

use super::life::{Life, OPENING, Why};
use super::reaper::Reaper;
use super::rows::{Decoder, Nonsense};
use super::starter::Process;
use super::wire::{self, Fault, Line, Tag};
use super::{Open, Rank, Ready, Run, Wall};
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
    /// Tells a process what it is for, and waits until its instance is open.
    ///
    /// # Errors
    /// `Unavailable` when it isn't one, naming the program; what it says of its instance.
    pub(super) fn open(
        process: Process,
        program: &WorkerProgram,
        open: &Open,
        reaper: &Reaper,
        rank: Rank,
    ) -> Result<Worker> {
        let failed = |what: String| program.failed(&what);
        let Process { line, mut life } = process;
        // Its time on each of its threads, and as much again for those that nobody counts.
        life.may_compute((open.limits.time.as_secs() + 2) * (u64::from(open.limits.threads) + 2));
        if rank == Rank::Last {
            life.stand_back();
        }
        let life = Arc::new(life);
        reaper.watch(&life);
        reaper.end_at(TO_OPEN, &life, OPENING);
        let line = Line::new(line.into());
        let mut line = line.map_err(|e| failed(format!("doesn't start: {e}")))?;
        let heard = line.tell(Tag::Open, open).and_then(|()| line.hear());
        let ready: Ready = match heard.and_then(|heard| {
            let is_there = life.has_opened();
            is_there.then_some(heard).ok_or_else(|| std::io::ErrorKind::TimedOut.into())
        }) {
            Ok((Tag::Ready, content)) => wire::read(&content)?,
            Ok((Tag::Failed, content)) => return Err(wire::read::<Fault>(&content)?.into()),
            _ => {
                return Err(match life.ended() {
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
        self.is_sound && !self.life.stands_back()
    }

    /// Whether it was killed by somebody else before it had said anything of a statement.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// What has ended it, if anything has.
    pub(super) fn fate(&self) -> Option<Fate> {
        self.fate
    }

    /// Whether its process hasn't ended.
    pub(super) fn is_there(&self) -> bool {
        self.life.is_there()
    }

    /// Takes it from where it waits; false when it isn't there any more, or was told to stand back while
    /// its statement ended.
    pub(super) fn wakes(&self) -> bool {
        self.life.wakes(self.served) && !self.life.stands_back()
    }

    /// Lets it wait for more, for so long; false where it is still at work on something.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let resting = self.life.rests_after(self.served);
        if let Some(resting) = resting {
            self.reaper.end_at(time, &self.life, resting);
        }
        resting.is_some()
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
        self.served += 1;
        self.has_answered = false;
        self.asked_at = Instant::now();
        self.is_sound &= self.life.begins(self.served);
        self.served
    }

    /// The CPU time of what it was asked last, as far as anybody has seen.
    pub(crate) fn cpu(&self) -> Duration {
        self.life.cpu()
    }

    fn end(&mut self, number: u64) {
        self.is_sound &= self.life.has_done(number);
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
        // What isn't there any more nobody ends from here.
        let ended = self.life.ended();
        let exit = self.life.exit();
        self.life.kill(Why::Over);
        let signal = exit.map_or(Some(libc::SIGKILL), |status| status.signal());
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
            if let Some(life) = life.upgrade().filter(|life| life.is_at(number)) {
                life.interrupt(number);
                reaper.end_at(GRACE, &life, number);
            }
        }))?;
        let made: Vec<ViewName> = job.views.iter().map(|(name, _)| name.clone()).collect();
        let is_catalog = matches!(job.place, Place::Catalog(_));
        let run = Run::of(number, job);
        let said = self.line.tell(Tag::Run, &run);
        said.map_err(|_| self.gone())?;
        let mut decoder = Decoder::default();
        let (mut is_wanted, mut is_told) = (true, false);
        loop {
            // Whoever goes on although nobody listens is ended soon.
            if !is_wanted && !std::mem::replace(&mut is_told, true) {
                self.life.interrupt(number);
                self.reaper.end_at(GRACE, &self.life, number);
            }
            let (tag, content) = self.hear()?;
            match tag {
                Tag::Done if is_wanted => {
                    self.pass_on(decoder.ends(sink))?;
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
                    is_wanted &= self.pass_on(decoder.columns(content, sink))?;
                }
                Tag::Rows if !is_wanted => {}
                Tag::Rows => is_wanted = self.pass_on(decoder.rows(content, sink))?,
                _ => return Err(self.unsound()),
            }
        }
        self.made.extend(made);
        self.has_catalog |= is_catalog;
        Ok(())
    }

    /// What came of rows: whether somebody wants more.
    fn pass_on(&mut self, passed: std::result::Result<bool, Nonsense>) -> Result<bool> {
        passed.map_err(|Nonsense| self.unsound())
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
/// The reason of an error that tells of a worker that somebody else has ended before it could do
/// anything.
pub(super) const KILLED: &str = "worker_killed";
/// The reason of an error that tells of a worker's end.
pub(crate) const ENDED: &str = "worker_ended";
