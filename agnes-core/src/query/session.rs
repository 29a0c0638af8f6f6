//! A session: a read-only SQL connection over what one principal may see.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};

use super::guard::{self, Judge};
use super::instance::{Has, Job, Place, Sink, Used};
use super::limits::{Gate, QueryLimits, Turn};
use super::pivot;
use super::rows::{Cancel, Ended, Message, Parameter, QueryOptions, Rows, Time};
use super::shown::{Home, Shelf, Shown};
use super::threads::{Threads, Told};
use super::tree::{self, Parser, Tree};
use crate::Secrets;
use crate::access::{Access, AuditEvent, Interrupt, Principal, Running, Watch, hidden};
use crate::layout::Layout;
use crate::orchestrator::{Attach, AttachPolicy, View};
use crate::worker::{ENDED, Pool, Purpose, Taken, Worker};
use crate::{Error, Key, Kind, Result, ViewName, sql};

/// A read-only SQL connection over the tables that one principal may see, in one generation.
///
/// It sees the generation that was current when it was opened, whatever is rebuilt meanwhile.
/// It ends when one of its tables is taken from its principal: what runs is interrupted, and
/// every later statement is `Denied`. It can be shared between threads.
pub struct Session {
    shown: Mutex<Arc<Shown>>,
    shelf: Arc<Shelf>,
    watch: Arc<Watch>,
    /// Asked before each statement whether the principal still stands, and told what it has done;
    /// none for an operator where nobody else has it open.
    access: Option<Arc<Access>>,
    gate: Arc<Gate>,
    threads: Arc<Threads>,
    limits: QueryLimits,
    policy: AttachPolicy,
    secrets: Arc<dyn Secrets>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("principal", self.watch.principal())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

/// What the guard found out about a text.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    /// The tables that it reads.
    names: BTreeSet<ViewName>,
    runs: Runs,
    /// Whether it holds for these values of the parameters alone.
    of_values: bool,
}

impl Checked {
    /// The tables that it reads.
    pub(super) fn names(&self) -> &BTreeSet<ViewName> {
        &self.names
    }

    pub(super) fn runs(&self) -> Runs {
        self.runs
    }

    /// Whether it holds whatever the values of the parameters are.
    pub(super) fn of_the_text(&self) -> bool {
        !self.of_values
    }
}

#[cfg(fuzzing)]
impl Checked {
    /// Whether it lists tables or columns.
    pub(super) fn lists(&self) -> bool {
        self.runs == Runs::Catalog
    }
}

/// Where a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// In the instance that is shared by all who see the same.
    Shared,
    /// In one of its own, because it reads from remote systems.
    Remote,
    /// Where there is nothing but the names of tables and columns.
    Catalog,
}

/// What sessions need besides what they show.
pub(crate) struct Means<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) shelf: &'a Arc<Shelf>,
    pub(crate) gate: &'a Arc<Gate>,
    pub(crate) threads: &'a Arc<Threads>,
    pub(crate) pool: Option<&'a Arc<Pool>>,
    pub(crate) limits: &'a QueryLimits,
    pub(crate) policy: &'a AttachPolicy,
    pub(crate) secrets: &'a Arc<dyn Secrets>,
}

/// Collects what a statement names.
struct Names<'a> {
    shown: &'a Shown,
    views: BTreeSet<ViewName>,
    catalog: bool,
}

const SYSTEM_SCHEMAS: &[&str] = &["information_schema", "pg_catalog"];

fn no_system_table(name: &str) -> Error {
    Error::new(
        Kind::Denied,
        format!(
            "`{}` is not here: `SHOW TABLES`, `DESCRIBE t`, information_schema.tables and \
             information_schema.columns say what there is",
            crate::name::shown(name)
        ),
    )
}

impl Judge for Names<'_> {
    fn table(&mut self, name: &[String], node: &mut Value) -> Result<()> {
        if node.get("at_clause").is_some_and(|at| !at.is_null()) {
            return Err(Error::new(Kind::Denied, "tables have no earlier versions here"));
        }
        // As the lists of tables call them.
        let name = match name {
            [catalog, rest @ ..] if !rest.is_empty() && catalog.eq_ignore_ascii_case("memory") => {
                rest
            }
            name => name,
        };
        let table = match name {
            [one] => one,
            [schema, one] if schema.eq_ignore_ascii_case("main") => one,
            [schema, one]
                if schema.eq_ignore_ascii_case("information_schema")
                    && guard::INFORMATION_SCHEMA.iter().any(|t| one.eq_ignore_ascii_case(t)) =>
            {
                self.catalog = true;
                return Ok(());
            }
            // The engine's own, of which there is none to be had from an admin.
            [schema, _] if SYSTEM_SCHEMAS.iter().any(|of| schema.eq_ignore_ascii_case(of)) => {
                return Err(no_system_table(&name.join(".")));
            }
            _ => return Err(self.unknown(&name.join("."))),
        };
        let known = ViewName::parse(table.clone()).ok();
        match known.filter(|view| self.shown.views().contains_key(view)) {
            Some(view) => {
                self.views.insert(view);
                Ok(())
            }
            None if table.eq_ignore_ascii_case("sqlite_master") => Err(no_system_table(table)),
            None => Err(self.unknown(table)),
        }
    }

    fn table_function(&mut self, name: &str, _: &mut Value) -> Result<()> {
        if ["duckdb_", "pragma_"].iter().any(|start| name.starts_with(start)) {
            return Err(no_system_table(name));
        }
        Err(Error::new(
            Kind::Denied,
            format!(
                "the table function `{}` is not allowed: a query reads published tables, not files",
                crate::name::shown(name)
            ),
        ))
    }

    fn show(&mut self, name: &str) -> Result<()> {
        self.table(&[name.to_string()], &mut Value::Null)
    }

    fn listing(&mut self) -> Result<()> {
        self.catalog = true;
        Ok(())
    }
}

impl Names<'_> {
    /// The answer for a name that isn't visible. It is made of visible names alone, so that what
    /// is hidden and what doesn't exist give the same.
    fn unknown(&self, name: &str) -> Error {
        let shown = crate::name::shown(name);
        let near = crate::name::nearest(name, self.shown.views().keys().map(ViewName::as_str));
        let error = match self.shown.is_all() {
            true => Error::new(Kind::NotFound, format!("there is no table `{shown}`")),
            false => hidden(name),
        };
        let cure = match (near, self.shown.is_all()) {
            (Some(view), _) => format!("did you mean `{view}`?"),
            (None, true) => "`agnes status` lists what there is".to_string(),
            (None, false) => return error,
        };
        Error::new(error.kind(), format!("{}; {cure}", error.message())).with(Key::Table, shown)
    }
}

impl Session {
    /// Opens a session over what a watch has seen.
    pub(crate) fn open(
        means: &Means<'_>,
        watch: Arc<Watch>,
        access: Option<Arc<Access>>,
    ) -> Result<Session> {
        let shown = means.shelf.show(means.layout, watch.visible(), means.limits, means.pool)?;
        Ok(Session {
            shown: Mutex::new(shown),
            shelf: means.shelf.clone(),
            watch,
            access,
            gate: means.gate.clone(),
            threads: means.threads.clone(),
            limits: means.limits.clone(),
            policy: means.policy.clone(),
            secrets: means.secrets.clone(),
        })
    }

    /// The same session in an instance of its own, with some views more.
    pub(super) fn alone(&self, more: BTreeMap<ViewName, Arc<View>>) -> Result<Session> {
        Ok(Session {
            shown: Mutex::new(Arc::new(self.held().with(more)?)),
            // Nobody else may come upon what is its own.
            shelf: Arc::default(),
            watch: self.watch.clone(),
            access: self.access.clone(),
            gate: self.gate.clone(),
            threads: self.threads.clone(),
            limits: self.limits.clone(),
            policy: self.policy.clone(),
            secrets: self.secrets.clone(),
        })
    }

    /// The number of the generation that the session sees.
    pub fn generation(&self) -> u64 {
        self.held().generation().number
    }

    /// Who it was opened for.
    pub fn principal(&self) -> &Principal {
        self.watch.principal()
    }

    /// The tables that it shows, by name.
    pub fn tables(&self) -> Vec<ViewName> {
        self.held().views().keys().cloned().collect()
    }

    fn held(&self) -> Arc<Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it shows, in an instance that nobody has spoiled.
    fn sound(&self) -> Result<Arc<Shown>> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = self.shelf.sound(&shown)?;
        Ok(shown.clone())
    }

    /// The tables that a statement would read, where it may run. Nothing runs, and values of
    /// bound parameters are unknown.
    ///
    /// # Errors
    /// As [`Session::query`], as far as the guard finds them.
    pub fn reads(&self, text: &str) -> Result<Vec<ViewName>> {
        self.watch.check()?;
        let shown = self.sound()?;
        let mut names = BTreeSet::new();
        let mut judge = |text: &str| -> Result<()> {
            let query = guard::explained(text)?.unwrap_or(text);
            let judge =
                || self.parse(&shown, &mut None, |parser| check(&shown, parser, query, &[]));
            names.extend(shown.verdict(query, judge)?.names.iter().cloned());
            Ok(())
        };
        let mut all = || -> Result<()> {
            let mut text = Cow::Borrowed(text);
            // Whatever values a PIVOT will find, it reads the same tables.
            let mut left = pivot::PIVOTS_MAX;
            while let Some(open) = pivot::Open::find(&text).filter(|_| left > 0) {
                left -= 1;
                let queries: Vec<String> = open.queries().collect();
                queries.iter().try_for_each(|query| judge(query))?;
                text = Cow::Owned(open.filled(&vec![vec!["x".to_string()]; queries.len()]));
            }
            judge(&text)
        };
        all().map_err(|error| shown.told(error))?;
        Ok(names.into_iter().collect())
    }

    /// Runs one query.
    ///
    /// Where this returns, the statement has begun; its rows come with what is returned.
    ///
    /// # Errors
    /// `Invalid` for SQL that is wrong; `Denied` for what is no query, for a table that the
    /// principal may not see or that doesn't exist (`NotFound` where she may see all), and once
    /// the session has ended; `Limit` when a limit is passed; `Unavailable` when too much runs,
    /// when a file was changed behind Agnes' back or a remote system can't be reached.
    pub fn query(&self, text: &str, options: &QueryOptions) -> Result<Rows> {
        let shown = self.sound()?;
        let run = || -> Result<Rows> {
            let time = Time::begins(options.time.unwrap_or(self.limits.time));
            let text = self.pivoted(&shown, text, options, time)?;
            self.begin(&shown, &text, options, time)
        };
        run().map_err(|error| shown.told(error))
    }

    /// Reads a table, as far as the options let it.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub fn read(&self, table: &ViewName, options: &QueryOptions) -> Result<Rows> {
        self.query(sql::from(table).as_str(), options)
    }

    /// The names of the columns of a table that it shows.
    pub(super) fn columns_of(&self, table: &ViewName) -> Result<Vec<String>> {
        let shown = self.sound()?;
        let view = shown.views().get(table).ok_or_else(|| shown.told(hidden(table.as_str())));
        Ok(view?.columns.iter().map(|column| column.name.clone()).collect())
    }

    /// Does something with what parses.
    pub(super) fn with_parser<T>(&self, work: impl Fn(&dyn Parser) -> Result<T>) -> Result<T> {
        self.parse(&*self.sound()?, &mut None, work)
    }

    /// Does something with what parses: in a worker, which is kept, or in this process.
    fn parse<T>(
        &self,
        shown: &Shown,
        kept: &mut Option<Taken>,
        work: impl Fn(&dyn Parser) -> Result<T>,
    ) -> Result<T> {
        if kept.is_none() {
            *kept = shown.worker(Runs::Shared)?;
        }
        let Some(taken) = kept else { return self.shelf.parse(|connection| work(connection)) };
        let done = taken.worker()?.parse(self.limits.time, &work);
        // One that was killed while it had nothing to do was ended by no statement.
        if done.is_ok() || !taken.worker()?.is_lost() {
            return done;
        }
        // Given back first: there may be no more than one.
        *kept = None;
        *kept = shown.worker(Runs::Shared)?;
        match kept {
            Some(taken) => taken.worker()?.parse(self.limits.time, &work),
            None => done,
        }
    }

    /// The statement with the values that its PIVOTs find, all within one time limit.
    fn pivoted<'a>(
        &self,
        shown: &Arc<Shown>,
        text: &'a str,
        options: &QueryOptions,
        time: Time,
    ) -> Result<Cow<'a, str>> {
        let mut text = Cow::Borrowed(text);
        // Parameters would have to be counted again for each query.
        if !options.parameters.is_empty() || !pivot::may_be_in(&text) {
            return Ok(text);
        }
        tree::fits(&text, tree::TEXT_MAX)?;
        let mut filled = 0;
        while let Some(open) = pivot::Open::find(&text) {
            filled += 1;
            if filled > pivot::PIVOTS_MAX {
                return Err(Error::new(
                    Kind::Limit,
                    format!(
                        "more than {} PIVOTs ask for their values; name them with `IN ('a', 'b')`",
                        pivot::PIVOTS_MAX
                    ),
                ));
            }
            let (mut found, mut room) = (Vec::new(), tree::TEXT_MAX / 2);
            for (at, query) in open.queries().enumerate() {
                let mut rows = self.begin(shown, &query, &QueryOptions::default(), time)?;
                found.push(values(&mut rows, open.expression(at), &mut room)?);
            }
            let with_values = open.filled(&found);
            tree::fits(&with_values, tree::TEXT_MAX)?;
            text = Cow::Owned(with_values);
        }
        Ok(text)
    }

    fn begin(
        &self,
        shown: &Arc<Shown>,
        text: &str,
        options: &QueryOptions,
        time: Time,
    ) -> Result<Rows> {
        self.watch.check()?;
        if let Some(access) = &self.access {
            access.stands(self.watch.principal())?;
        }
        let turn = self.gate.enter(self.watch.principal())?;
        let (query, explained) = match guard::explained(text)? {
            Some(query) => (query, true),
            None => (text, false),
        };
        let mut worker = None;
        let given = &options.parameters;
        let judge = || self.parse(shown, &mut worker, |parser| check(shown, parser, query, given));
        let books = Books { access: self.access.clone(), watch: self.watch.clone() };
        let checked = shown.verdict(query, judge);
        let checked = checked.inspect_err(|error| books.note(error, query))?;
        // One that reads tables has no use for a list of them.
        let worker = worker.filter(|_| checked.runs == Runs::Shared);
        let statement = match explained {
            true => sql::explain(query),
            false => sql::guarded(query.to_string()),
        };
        let interrupt = Interrupting::default();
        let running = self.watch.run(number(), interrupt.of_now())?;
        let work = Work {
            shown: shown.clone(),
            checked,
            statement,
            parameters: options.parameters.clone(),
            shelf: self.shelf.clone(),
            policy: self.policy.clone(),
            secrets: self.secrets.clone(),
            books,
            interrupt: interrupt.clone(),
            limits: self.limits.clone(),
            turn,
            _running: running,
        };
        // Two batches ahead, so that the engine works while the caller does.
        let (messages, received) = mpsc::sync_channel(2);
        let ended = Ended::default();
        let end = ended.clone();
        self.threads.run(Box::new(move || work.run(worker, messages, end)))?;
        let cancel = Cancel::new(interrupt.of_now());
        Rows::begin(received, ended, cancel, self.watch.clone(), options, time)
    }
}

/// The values that become columns of a PIVOT, as long as there is room for them in its text.
fn values(rows: &mut Rows, expression: &str, room: &mut usize) -> Result<Vec<String>> {
    let mut values = Vec::new();
    for batch in rows {
        let texts = arrow::compute::cast(batch?.column(0), &DataType::Utf8)
            .map_err(|e| Error::internal("values of a PIVOT are no text").because(e))?;
        values.extend(texts.as_string::<i32>().iter().flatten().map(str::to_string));
    }
    let expression = crate::name::shown(expression);
    if values.iter().any(|value| value.contains('\0')) {
        return Err(Error::new(
            Kind::Invalid,
            format!("the PIVOT on `{expression}` finds a value with a NUL character"),
        ));
    }
    let bytes: usize = values.iter().map(|value| value.len() + 4).sum();
    let left = room.checked_sub(bytes);
    let Some(left) = left.filter(|_| values.len() <= pivot::VALUES_MAX) else {
        return Err(Error::new(
            Kind::Limit,
            format!(
                "the PIVOT on `{expression}` would have more than {} columns, or very long names; \
                 say which ones: `{expression} IN ('a', 'b')`",
                pivot::VALUES_MAX
            ),
        ));
    };
    *room = left;
    match values.is_empty() {
        true => Err(Error::new(
            Kind::Invalid,
            format!("the PIVOT on `{expression}` finds no values to make columns of"),
        )),
        false => Ok(values),
    }
}

/// Asks the guard about a text. It looks at the values of the parameters only where something has
/// to be known that isn't written out, such as a pattern.
pub(super) fn check(
    shown: &Shown,
    parser: &dyn Parser,
    text: &str,
    parameters: &[Parameter],
) -> Result<Checked> {
    let mut tree = Tree::parse(parser, text)?;
    let filled = (!parameters.is_empty()).then(|| tree.clone());
    match (judged(shown, &mut tree), filled) {
        (Err(error), Some(mut filled)) if error.kind() == Kind::Denied => {
            filled.fill(parameters)?;
            Ok(Checked { of_values: true, ..judged(shown, &mut filled)? })
        }
        (judged, _) => judged,
    }
}

fn judged(shown: &Shown, tree: &mut Tree) -> Result<Checked> {
    let mut names = Names { shown, views: BTreeSet::new(), catalog: false };
    tree.judge(&mut names)?;
    let Names { views, catalog, .. } = names;
    let runs = match (catalog, views.iter().any(|name| shown.is_remote(name))) {
        (false, false) => Runs::Shared,
        (false, true) => Runs::Remote,
        (true, _) if views.is_empty() => Runs::Catalog,
        (true, _) => {
            return Err(Error::new(
                Kind::Invalid,
                "a list of tables or columns can't be joined with rows of a table; ask for one \
                 after the other",
            ));
        }
    };
    Ok(Checked { names: views, runs, of_values: false })
}

/// A number for each statement, to tell them apart.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The way to interrupt a statement: nothing before it has a connection and after it has ended,
/// when the connection may serve another one.
#[derive(Clone, Default)]
struct Interrupting(Arc<Mutex<Interrupted>>);

#[derive(Default)]
struct Interrupted {
    way: Option<Interrupt>,
    /// Whether nobody wants it any more: also one that hasn't begun yet.
    is_over: bool,
}

impl Interrupting {
    fn lock(&self) -> MutexGuard<'_, Interrupted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it can be interrupted so; false when it was already.
    fn begins(&self, way: Interrupt) -> bool {
        let mut slot = self.lock();
        slot.way = Some(way);
        !slot.is_over
    }

    fn has_ended(&self) {
        self.lock().way = None;
    }

    fn of_now(&self) -> Interrupt {
        let this = self.clone();
        Arc::new(move || {
            let mut slot = this.lock();
            slot.is_over = true;
            if let Some(interrupt) = &slot.way {
                interrupt();
            }
        })
    }
}

/// The most characters of a statement in the audit log.
const TOLD_MAX: usize = 10_000;

/// Where what a statement has done is told, beside its caller.
struct Books {
    access: Option<Arc<Access>>,
    watch: Arc<Watch>,
}

impl Books {
    /// Notes a statement that has ended its worker.
    fn note(&self, error: &Error, statement: &str) {
        let Some(access) = &self.access else { return };
        if error.context(Key::Reason) != Some(ENDED) {
            return;
        }
        let text: String = statement.chars().take(TOLD_MAX).collect();
        let event = AuditEvent::new(access.now(), "query.worker_ended", None);
        let event = event.by(self.watch.principal().user_id());
        access.tell(event.with(json!({"sql": text})).ended(error.message()));
    }
}

/// A statement that the guard has accepted, on its own thread.
struct Work {
    shown: Arc<Shown>,
    checked: Arc<Checked>,
    statement: sql::Sql,
    parameters: Vec<Parameter>,
    shelf: Arc<Shelf>,
    policy: AttachPolicy,
    secrets: Arc<dyn Secrets>,
    books: Books,
    interrupt: Interrupting,
    limits: QueryLimits,
    turn: Turn,
    _running: Running,
}

/// What may serve another statement once everybody has heard of the end of this one.
enum Again {
    /// Its connection.
    Here(Used),
    /// Its worker.
    Worker(Taken),
    Nothing,
}

impl Work {
    fn run(self, worker: Option<Taken>, messages: SyncSender<Message>, ended: Ended) -> Told {
        let done = self.work(worker, &messages).map_err(|error| self.shown.told(error));
        if let Err(error) = &done {
            self.books.note(error, self.statement.as_str());
        }
        // Whoever hears of the end may begin the next one at once.
        let Work { turn, _running, shown, .. } = self;
        drop((turn, _running));
        let (done, again) = match done {
            Ok(again) => (Ok(()), again),
            Err(error) => (Err(error), Again::Nothing),
        };
        Box::new(move || {
            ended.set(done);
            drop(messages);
            // Nobody waits for this.
            match (again, shown.home()) {
                (Again::Here(used), Home::Here(instance)) => instance.give_back(used),
                (Again::Worker(taken), _) => drop(taken),
                _ => {}
            }
        })
    }

    fn work(&self, worker: Option<Taken>, messages: &SyncSender<Message>) -> Result<Again> {
        let (shown, names) = (&self.shown, self.checked.names());
        shown.intact(names)?;
        let done = self.anywhere(worker, &mut Hearing { work: self, messages });
        let again = done.map_err(|error| match error.context(Key::View) {
            // A view that can't be made may be one of a file that was changed.
            Some(_) => shown.intact(names).err().unwrap_or(error),
            None => error,
        })?;
        // A file that was rewritten in place meanwhile has given rows of two contents.
        shown.intact(names)?;
        Ok(again)
    }

    fn anywhere(&self, worker: Option<Taken>, sink: &mut Hearing<'_>) -> Result<Again> {
        let job = |has: &dyn Has| {
            let (statement, parameters) = (self.statement.clone(), self.parameters.clone());
            let remote = (&self.policy, &*self.secrets);
            self.shown.job(&self.checked, statement, parameters, remote, has)
        };
        // Whoever waits for a remote system that doesn't answer is let go by her time limit.
        match (self.shown.home(), self.checked.runs) {
            (Home::Here(instance), _) => {
                let used = instance.run(&job(&**instance)?, sink)?;
                Ok(used.map_or(Again::Nothing, Again::Here))
            }
            (Home::Workers(_), Runs::Remote) => {
                drop(worker);
                self.remotely(job(&Nothing)?, sink)?;
                Ok(Again::Nothing)
            }
            (Home::Workers(_), runs) => {
                let taken = match worker {
                    Some(taken) => Some(taken),
                    None => self.shown.worker(runs)?,
                };
                let mut taken = taken.ok_or_else(|| Error::internal("there is no worker"))?;
                let mut run = |taken: &mut Taken| {
                    let worker = taken.worker()?;
                    let job = job(worker)?;
                    self.run_in(worker, job, sink)
                };
                let mut done = run(&mut taken);
                // One that was killed while it had nothing to do was ended by no statement.
                if done.is_err() && taken.worker()?.is_lost() {
                    drop(taken);
                    let another = self.shown.worker(runs)?;
                    taken = another.ok_or_else(|| Error::internal("there is no worker"))?;
                    done = run(&mut taken);
                }
                done.map(|()| Again::Worker(taken))
            }
        }
    }
}

impl Work {
    /// Runs a statement over remote systems in a worker of its own, which ends with it.
    fn remotely(&self, job: Job, sink: &mut Hearing<'_>) -> Result<()> {
        let Place::Remote { attaches, files } = &job.place else {
            return Err(Error::internal("a statement over no remote system"));
        };
        let attached = attaches.iter().flat_map(Attach::files);
        let files = files.iter().cloned().chain(attached).collect();
        // Whoever has parsed it before may have been taken over by another statement, and what follows
        // gives away tokens; whoever parses now has no way to anywhere, and ends.
        let text = self.statement.as_str();
        let text = guard::explained(text)?.unwrap_or(text);
        let taken = self.shown.worker_once(Purpose::Lists)?;
        let mut parser = taken.ok_or_else(|| Error::internal("there is no worker"))?;
        parser.worker()?.parse(self.limits.time, |parser| self.is_as_judged(parser, text))?;
        drop(parser);
        let taken = self.shown.worker_once(Purpose::Remote { files })?;
        let mut taken = taken.ok_or_else(|| Error::internal("there is no worker"))?;
        self.run_in(taken.worker()?, job, sink)
    }

    /// Runs it in a worker, behind those of others where hers have computed much.
    fn run_in(&self, worker: &mut Worker, job: Job, sink: &mut Hearing<'_>) -> Result<()> {
        if self.turn.has_spent_much() {
            worker.stand_back();
        }
        let done = worker.run(job, sink);
        self.turn.spend(worker.cpu());
        done
    }

    /// Holds that a text reads what was judged.
    fn is_as_judged(&self, parser: &dyn Parser, text: &str) -> Result<()> {
        let again = check(&self.shown, parser, text, &self.parameters)?;
        match again.names == self.checked.names && again.runs == self.checked.runs {
            true => Ok(()),
            false => Err(Error::internal("a statement reads something else than what was judged")),
        }
    }
}

/// What has no view yet.
struct Nothing;

impl Has for Nothing {
    fn lacks(&self, names: &BTreeSet<ViewName>) -> Vec<ViewName> {
        names.iter().cloned().collect()
    }

    fn lacks_catalog(&self) -> bool {
        true
    }
}

/// Passes on what a statement gives.
struct Hearing<'w> {
    work: &'w Work,
    messages: &'w SyncSender<Message>,
}

impl Sink for Hearing<'_> {
    fn begins(&mut self, interrupt: Interrupt) -> Result<()> {
        let is_wanted = self.work.interrupt.begins(interrupt);
        self.work.books.watch.check()?;
        match is_wanted {
            true => Ok(()),
            false => Err(Error::new(Kind::Cancelled, "nobody waits for the query any more")),
        }
    }

    fn has_ended(&mut self) {
        self.work.interrupt.has_ended();
    }

    fn may_run(&mut self, made: &sql::Sql, parser: Option<&dyn Parser>) -> Result<()> {
        let judge = |parser: &dyn Parser| self.work.is_as_judged(parser, made.as_str());
        match parser {
            Some(parser) => judge(parser),
            None => self.work.shelf.parse(|connection| judge(connection)),
        }
    }

    fn columns(&mut self, columns: &SchemaRef) -> bool {
        self.messages.send(Message::Columns(columns.clone())).is_ok()
    }

    fn rows(&mut self, rows: RecordBatch) -> bool {
        self.messages.send(Message::Rows(rows)).is_ok()
    }
}
