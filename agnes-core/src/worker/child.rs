//! A worker's own side: an instance of the engine behind walls, for whoever has started it.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use duckdb::Connection;

use super::wire::{self, Line, Tag};
use super::{Open, Purpose, Ready, Run, Wall, Where, control, foreign};
use crate::access::Interrupt;
use crate::engine::{self, direct};
use crate::query::tree::Parser;
use crate::query::{Bounds, Instance, Job, Parameter, Place, QueryLimits, Sink, run_remote};
use crate::sql::Sql;
use crate::{Error, Kind, Result};

/// The stack on which statements run: the engine goes down into a nested type level by level.
const STACK: usize = 32 << 20;
/// From how many bytes on rows are sent in parts.
const PART: usize = 16 << 20;

/// Serves whoever has started this process as a worker, until she has had enough.
///
/// A program that an embedder names as her worker calls this first and does nothing else. Started by
/// anybody else it says so and fails.
pub fn serve_as_worker() -> ExitCode {
    let Some((line, control)) = lines() else {
        use std::io::Write as _;
        let said =
            "this is what Agnes starts by itself to run a statement; there is nothing to see\n";
        let _ = std::io::stderr().write_all(said.as_bytes());
        return ExitCode::from(Kind::Invalid.exit_code());
    };
    // Whoever has started it ends it, and takes it along.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    // A file that may not grow is an error for whoever writes it.
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGXFSZ] {
        // SAFETY: nothing is handled, it is only not heard.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // With the allocator's large ones each worker has twice the memory.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let Ok(mut line) = Line::new(line) else { return FAILED };
    #[cfg(target_os = "linux")]
    prepare();
    let open = match line.hear() {
        Ok((Tag::Open, content)) => wire::read::<Open>(&content),
        _ => return FAILED,
    };
    // Before there is a second thread: those that are there stay outside.
    let raised = open.and_then(|open| Ok((super::walls::raise(&open)?, open)));
    let statement = Arc::<Statement>::default();
    let watched = statement.clone();
    let watch = move || control::watch(&control, |number| watched.interrupt(number));
    let serve = move || match raised.and_then(|(walls, open)| Ok((walls, opened(&open)?))) {
        Ok((walls, engine)) => serve(&mut line, walls, &engine, &statement),
        Err(error) => drop(line.tell(Tag::Failed, &wire::Fault::from(&error))),
    };
    let thread = |name: &str| std::thread::Builder::new().name(name.to_string()).stack_size(STACK);
    let watching = thread("agnes-control").spawn(watch);
    match watching.and_then(|_| thread("agnes-worker").spawn(serve)).map(|serving| serving.join()) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        // A panic was heard of by nobody: whoever waits hears that the worker has ended.
        _ => FAILED,
    }
}

const FAILED: ExitCode = ExitCode::FAILURE;

/// Opens the engine before anybody says what for: most of the time in which whoever needs a worker would
/// wait. There is nothing of a stranger's yet that could do something with it outside of the walls.
#[cfg(target_os = "linux")]
fn prepare() {
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    // A version of the engine that starts threads all the same has to be opened behind the walls.
    if engine::prepare().is_err() || threads() != 1 {
        engine::unprepare();
    }
    forget_code();
}

/// Lets go of the code that was needed to open the engine and won't be again: it stays in the system's
/// memory, where it is shared, and is found there page by page.
#[cfg(target_os = "linux")]
fn forget_code() {
    for line in std::fs::read_to_string("/proc/self/maps").unwrap_or_default().lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some("r-xp")) = (words.next(), words.next()) else { continue };
        let ends = range.split_once('-').and_then(|(begin, end)| {
            let of = |text| usize::from_str_radix(text, 16).ok();
            Some((of(begin)?, of(end)?))
        });
        let is_of_a_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
        if let (Some((begin, end)), true) = (ends, is_of_a_file) {
            let begin_at = std::ptr::without_provenance_mut(begin);
            // SAFETY: code that nobody has written to is read from its file again.
            unsafe { libc::madvise(begin_at, end - begin, libc::MADV_DONTNEED) };
        }
    }
}

/// What it was opened for.
enum Engine {
    /// Statements over tables, or lists of them.
    Tables { instance: Box<Instance>, parser: direct::Connection },
    /// Statements over remote systems.
    Remote { limits: QueryLimits, parser: direct::Connection },
    /// What Agnes asks of files that strangers have written.
    Foreign(Connection),
}

impl Engine {
    fn parser(&self) -> &dyn Parser {
        match self {
            Engine::Tables { parser, .. } | Engine::Remote { parser, .. } => parser,
            Engine::Foreign(connection) => connection,
        }
    }
}

fn opened(open: &Open) -> Result<Engine> {
    let limits = &open.limits;
    let tables = |instance: Instance| -> Result<Engine> {
        let parser = instance.shared(&[])?;
        Ok(Engine::Tables { instance: Box::new(instance), parser })
    };
    let engine = match &open.purpose {
        Purpose::Tables { files } => tables(Instance::open(files, limits, Bounds::WhenNamed)?)?,
        Purpose::Lists => tables(Instance::of_lists(limits, Bounds::WhenNamed)?)?,
        Purpose::Remote { .. } => {
            let parsing = engine::Limits { memory_bytes: 256 << 20, threads: 1 };
            Engine::Remote { limits: limits.clone(), parser: engine::for_statements(&parsing)? }
        }
        Purpose::Foreign { reads, writes } => {
            // It has no use for what was opened before anybody knew what for.
            #[cfg(target_os = "linux")]
            engine::unprepare();
            let QueryLimits { memory_bytes, threads, .. } = *limits;
            let files = reads.iter().chain(writes).cloned();
            Engine::Foreign(foreign::opened(&engine::Limits { memory_bytes, threads }, files)?)
        }
    };
    if !open.purpose.is_remote() {
        super::walls::no_more_threads();
    }
    Ok(engine)
}

/// The sockets that a worker is started with, in place of its input and output.
fn lines() -> Option<(OwnedFd, OwnedFd)> {
    let socket = |fd: std::os::fd::BorrowedFd<'_>| {
        rustix::net::sockopt::socket_type(fd).ok()?;
        fd.try_clone_to_owned().ok()
    };
    let lines = (socket(std::io::stdin().as_fd())?, socket(std::io::stdout().as_fd())?);
    close_others([lines.0.as_raw_fd(), lines.1.as_raw_fd()]);
    // What anybody prints goes nowhere.
    let nowhere = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").ok()?;
    rustix::stdio::dup2_stdin(&nowhere).ok()?;
    rustix::stdio::dup2_stdout(&nowhere).ok()?;
    Some(lines)
}

/// Closes what was left open by whoever has started this process, but for two.
fn close_others(keep: [i32; 2]) {
    #[cfg(target_os = "linux")]
    {
        let keep = keep.map(|fd| u32::try_from(fd).unwrap_or(u32::MAX));
        let (first, second) = (keep[0].min(keep[1]), keep[0].max(keep[1]));
        for (from, to) in [(3, first), (first + 1, second), (second + 1, u32::MAX)] {
            if from < to {
                // SAFETY: nobody in this process has opened any of them yet.
                unsafe { libc::syscall(libc::SYS_close_range, from, to - 1, 0) };
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = keep;
}

/// The statement that runs, by its number, and the way to end it.
#[derive(Default)]
struct Statement(Mutex<Option<(u64, Interrupt)>>);

impl Statement {
    fn set(&self, running: Option<(u64, Interrupt)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }

    fn interrupt(&self, number: u64) {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, interrupt)) = running.as_ref().filter(|(running, _)| *running == number) {
            interrupt();
        }
    }
}

/// Serves a line to its end.
fn serve(line: &mut Line, walls: Vec<Wall>, engine: &Engine, statement: &Statement) {
    if line.tell(Tag::Ready, &Ready { version: wire::VERSION, walls }).is_err() {
        return;
    }
    while let Ok((tag, content)) = line.hear() {
        let said = match (tag, engine) {
            (Tag::Parse | Tag::Write, _) => answer(line, engine.parser(), tag, &content),
            (Tag::Run, Engine::Tables { .. } | Engine::Remote { .. }) => {
                run(line, engine, &content, statement)
            }
            (Tag::Execute | Tag::Texts | Tag::Look, Engine::Foreign(connection)) => {
                ask(line, connection, tag, &content)
            }
            // Who says anything else isn't who she was.
            _ => return,
        };
        if said.is_err() {
            return;
        }
    }
}

/// Does what Agnes itself wants of a stranger's file.
fn ask(line: &mut Line, connection: &Connection, tag: Tag, content: &[u8]) -> std::io::Result<()> {
    let text = std::str::from_utf8(content).map_err(|_| wire::garbled());
    let fail = |e| engine::error("read an extract", e);
    let told = match (tag, text) {
        (_, Err(error)) => Err(error),
        (Tag::Execute, Ok(text)) => connection.execute_batch(text).map_err(fail).map(|()| None),
        (Tag::Look, Ok(path)) => foreign::looked_at(path.as_ref()).and_then(|facts| told(&facts)),
        (_, Ok(text)) => {
            foreign::texts_of(connection, text).map_err(fail).and_then(|texts| told(&texts))
        }
    };
    match told {
        Ok(None) => line.say(Tag::Done, &[]),
        Ok(Some(told)) => match line.say(Tag::Text, &told) {
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                let most = wire::FRAME_MAX >> 20;
                let error = Error::new(Kind::Limit, format!("it has more than {most} MiB of text"));
                line.tell(Tag::Failed, &wire::Fault::from(&error))
            }
            said => said,
        },
        Err(error) => line.tell(Tag::Failed, &wire::Fault::from(&error)),
    }
}

/// What is told as JSON.
fn told(what: &impl serde::Serialize) -> Result<Option<Vec<u8>>> {
    serde_json::to_vec(what).map(Some).map_err(|e| wire::garbled().because(e))
}

/// Answers what the engine's parser is asked.
fn answer(line: &mut Line, parser: &dyn Parser, tag: Tag, content: &[u8]) -> std::io::Result<()> {
    let text = std::str::from_utf8(content).map_err(|_| wire::garbled());
    let text = text.and_then(|text| match tag {
        Tag::Parse => parser.tree_of(text),
        _ => parser.text_of(text),
    });
    match text {
        Ok(text) => line.say(Tag::Text, text.as_bytes()),
        Err(error) => line.tell(Tag::Failed, &wire::Fault::from(&error)),
    }
}

fn run(
    line: &mut Line,
    engine: &Engine,
    content: &[u8],
    statement: &Statement,
) -> std::io::Result<()> {
    let parser = engine.parser();
    let done = wire::read(content).and_then(|run: Run| {
        let number = run.number;
        let job = Job::from(run);
        let mut speaking = Speaking { line, parser, statement, number, rows: None, broken: None };
        let done = match engine {
            Engine::Tables { instance, .. } => {
                instance.run(&job, &mut speaking).map(|used| used.map(|used| (instance, used)))
            }
            Engine::Remote { limits, .. } => {
                run_remote(limits, Bounds::WhenNamed, &job, &mut speaking).map(|()| None)
            }
            Engine::Foreign(_) => Err(wire::garbled()),
        };
        match speaking.broken {
            Some(broken) => Err(broken),
            None => done,
        }
    });
    match done {
        Ok(used) => {
            line.say(Tag::Done, &[])?;
            if let Some((instance, used)) = used {
                instance.give_back(used);
            }
            Ok(())
        }
        Err(error) => line.tell(Tag::Failed, &wire::Fault::from(&error)),
    }
}

/// Says what a statement gives.
struct Speaking<'w> {
    line: &'w mut Line,
    parser: &'w dyn Parser,
    statement: &'w Statement,
    number: u64,
    rows: Option<StreamWriter<Vec<u8>>>,
    /// Why its rows can't be sent.
    broken: Option<Error>,
}

impl Speaking<'_> {
    fn send(&mut self, tag: Tag) -> Result<()> {
        let Some(rows) = &mut self.rows else { return Err(wire::garbled()) };
        let sent = self.line.say(tag, rows.get_ref());
        rows.get_mut().clear();
        sent.map_err(|e| match e.kind() {
            std::io::ErrorKind::FileTooLarge => Error::new(
                Kind::Limit,
                format!("a row of the result is larger than {} MiB", wire::FRAME_MAX >> 20),
            ),
            _ => Error::new(Kind::Cancelled, "nobody reads the rows any more"),
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let count = batch.num_rows();
        let columns = batch.columns().iter().map(|column| column.to_data());
        let bytes: usize = columns.filter_map(|data| data.get_slice_memory_size().ok()).sum();
        if bytes > PART && count > 1 {
            let half = count / 2;
            self.write(&batch.slice(0, half))?;
            return self.write(&batch.slice(half, count - half));
        }
        let Some(rows) = &mut self.rows else { return Err(wire::garbled()) };
        rows.write(batch).map_err(|e| Error::internal("rows can't be written").because(e))?;
        self.send(Tag::Rows)
    }

    /// Whether what was said was heard.
    fn said(&mut self, said: Result<()>) -> bool {
        self.broken = said.err();
        self.broken.is_none()
    }
}

impl Sink for Speaking<'_> {
    fn begins(&mut self, interrupt: Interrupt) -> Result<()> {
        self.statement.set(Some((self.number, interrupt)));
        Ok(())
    }

    fn has_ended(&mut self) {
        self.statement.set(None);
    }

    fn may_run(&mut self, made: &Sql, _: Option<&dyn Parser>) -> Result<()> {
        let gone = |e| Error::new(Kind::Cancelled, "nobody answers any more").because(e);
        self.line.say(Tag::May, made.as_str().as_bytes()).map_err(gone)?;
        loop {
            let (tag, content) = self.line.hear().map_err(gone)?;
            match tag {
                Tag::Yes => return Ok(()),
                Tag::Failed => return Err(wire::read::<wire::Fault>(&content)?.into()),
                Tag::Parse | Tag::Write => {
                    answer(self.line, self.parser, tag, &content).map_err(gone)?;
                }
                _ => return Err(wire::garbled()),
            }
        }
    }

    fn columns(&mut self, columns: &SchemaRef) -> bool {
        let rows = StreamWriter::try_new(Vec::new(), columns);
        let rows = rows.map_err(|e| Error::internal("columns can't be written").because(e));
        let said = rows.and_then(|rows| {
            self.rows = Some(rows);
            self.send(Tag::Columns)
        });
        self.said(said)
    }

    fn rows(&mut self, rows: RecordBatch) -> bool {
        let said = self.write(&rows);
        self.said(said)
    }
}

impl From<Run> for Job {
    fn from(run: Run) -> Job {
        let Run { views, place, statement, parameters, batch_rows, .. } = run;
        let place = match place {
            Where::Shared => Place::Shared,
            Where::Catalog(tables) => Place::Catalog(tables),
            Where::Remote { attaches, files } => Place::Remote { attaches, files },
        };
        let parameters = parameters.into_iter().map(Parameter::from).collect();
        Job { place, views, statement, parameters, batch_rows }
    }
}
