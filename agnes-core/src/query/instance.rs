//! An instance of the engine that may read exactly some files, and the statements that run in it.
//!
//! It knows nothing of principals, of generations and of the guard: what it is told to run was judged
//! before, and who hears of the rows is its [`Sink`]'s affair.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::columns::{self, Columns};
use super::limits::QueryLimits;
use super::rows::Parameter;
use super::threads::stand_back;
use super::tree::Parser;
use crate::access::Interrupt;
use crate::engine::Failure;
use crate::engine::direct::{Connection, Statement, VECTOR};
use crate::orchestrator::Attach;
use crate::sql::Sql;
use crate::{Error, Key, Kind, Result, ViewName, engine, sql};

/// A statement that was judged, with what it needs.
pub(crate) struct Job {
    pub(crate) place: Place,
    /// The tables that it reads, as far as the instance lacks them, and what they select.
    pub(crate) views: Vec<(ViewName, Sql)>,
    pub(crate) statement: Sql,
    pub(crate) parameters: Vec<Parameter>,
    /// The most rows of a batch.
    pub(crate) batch_rows: u32,
}

/// Where a statement runs.
pub(crate) enum Place {
    /// In the instance that is shared by all who see the same.
    Shared,
    /// In one of its own with these systems attached, which may read these files: a scanner
    /// extension reads whatever it is told to.
    Remote { attaches: Vec<Attach>, files: Vec<PathBuf> },
    /// Where there is nothing but the names of tables and columns, made by these statements where
    /// the instance lacks them.
    Catalog(Option<Vec<Sql>>),
}

/// Hears of a statement.
pub(crate) trait Sink {
    /// It is about to run, and can be interrupted from now on.
    ///
    /// # Errors
    /// When it isn't wanted any more.
    fn begins(&mut self, interrupt: Interrupt) -> Result<()>;

    /// It has ended, and its connection may serve another one.
    fn has_ended(&mut self);

    /// Whether a statement may run that was made of the one that was judged; parsed by this one, where
    /// there is one.
    ///
    /// # Errors
    /// When it may not.
    fn may_run(&mut self, made: &Sql, parser: Option<&dyn Parser>) -> Result<()>;

    /// Takes its columns; false when nobody wants the rows.
    fn columns(&mut self, columns: &SchemaRef) -> bool;

    /// Takes some rows; false when nobody wants more.
    fn rows(&mut self, rows: RecordBatch) -> bool;
}

/// When an instance gets its bounds on what some functions cost, which take as long as the engine
/// takes to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// At once.
    AtOnce,
    /// When a statement first names one of these functions, or what calls them: for a worker, of which
    /// more is expected than of them.
    WhenNamed,
}

/// An instance of the engine, and whether it has its bounds.
struct Bounded {
    connection: Connection,
    is_bounded: bool,
}

impl Bounded {
    fn open(limits: &QueryLimits, bounds: Bounds) -> Result<Bounded> {
        let engine = engine::Limits { memory_bytes: limits.memory_bytes, threads: limits.threads };
        let connection = engine::for_statements(&engine)?;
        // A build without ICU has no zones.
        let _ = connection.execute_batch(sql::UTC);
        let mut opened = Bounded { connection, is_bounded: false };
        if bounds == Bounds::AtOnce {
            opened.bound()?;
        }
        Ok(opened)
    }

    fn bound(&mut self) -> Result<()> {
        engine::run(&self.connection, "open a session", &sql::bounds())?;
        self.is_bounded = true;
        Ok(())
    }

    /// Sets the bounds where a statement may call what they bound.
    fn bound_for(&mut self, job: &Job) -> Result<()> {
        let texts = || job.views.iter().map(|(_, body)| body).chain([&job.statement]);
        match self.is_bounded || !texts().any(sql::may_need_bounds) {
            true => Ok(()),
            false => self.bound(),
        }
    }
}

/// An instance, with the views that it has so far.
pub(crate) struct Instance {
    limits: QueryLimits,
    bounds: Bounds,
    local: Mutex<Local>,
    /// Connections that nobody uses just now.
    idle: Mutex<Vec<Connection>>,
    /// An instance with an empty table in place of each visible one.
    catalog: Mutex<Option<Catalog>>,
}

/// An instance that knows nothing but names.
struct Catalog {
    engine: Bounded,
    /// Whether the tables are in it.
    is_made: bool,
}

struct Local {
    engine: Bounded,
    made: BTreeSet<ViewName>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn opening(failure: Failure) -> Error {
    engine::error("open a session", failure)
}

impl Instance {
    /// One that may read these files.
    pub(crate) fn open(
        files: &[PathBuf],
        limits: &QueryLimits,
        bounds: Bounds,
    ) -> Result<Instance> {
        // The engine's threads stand back as far as the one that starts them.
        let open = || {
            stand_back(limits.nice);
            Bounded::open(limits, bounds)
        };
        let engine = match limits.nice {
            0 => open(),
            _ => std::thread::scope(|scope| scope.spawn(open).join()).unwrap_or_else(|_| {
                Err(Error::new(Kind::Internal, "the thread that opens the engine panicked"))
            }),
        }?;
        engine::run(&engine.connection, "lock the session", &sql::lock(files)?)?;
        Ok(Instance {
            limits: limits.clone(),
            bounds,
            local: Mutex::new(Local { engine, made: BTreeSet::new() }),
            idle: Mutex::default(),
            catalog: Mutex::default(),
        })
    }

    /// One that lists tables and columns, and reads none. It starts no thread later on.
    pub(crate) fn of_lists(limits: &QueryLimits, bounds: Bounds) -> Result<Instance> {
        let instance = Instance::open(&[], limits, bounds)?;
        let engine = Bounded::open(limits, bounds)?;
        *lock(&instance.catalog) = Some(Catalog { engine, is_made: false });
        Ok(instance)
    }

    /// Runs a statement. Gives what can be given back once everybody has heard of its end.
    ///
    /// # Errors
    /// Whatever the engine says of it; what the sink says.
    pub(crate) fn run(&self, job: &Job, sink: &mut dyn Sink) -> Result<Option<Used>> {
        let connection = match &job.place {
            Place::Shared => {
                lock(&self.local).engine.bound_for(job)?;
                self.shared(&job.views)?
            }
            Place::Remote { attaches, files } => {
                remote(&self.limits, self.bounds, attaches, files, job)?
            }
            Place::Catalog(tables) => self.catalog(tables.as_deref(), job)?,
        };
        begin(&connection, job, sink)?;
        Ok(matches!(job.place, Place::Shared).then_some(Used(connection)))
    }

    /// Ends a statement's transaction and takes its connection back.
    pub(crate) fn give_back(&self, Used(connection): Used) {
        if run(&connection, sql::ROLLBACK).is_err() {
            return;
        }
        let mut idle = lock(&self.idle);
        if idle.len() < self.limits.running_each {
            idle.push(connection);
        }
    }

    /// A connection in which these views can be read, besides those that were made before.
    pub(crate) fn shared(&self, views: &[(ViewName, Sql)]) -> Result<Connection> {
        let mut local = lock(&self.local);
        let missing: Vec<_> = views.iter().filter(|(name, _)| !local.made.contains(name)).collect();
        if !missing.is_empty() {
            make_views(&local.engine.connection, missing.iter().map(|(name, body)| (name, body)))?;
            local.made.extend(missing.into_iter().map(|(name, _)| name.clone()));
        }
        if let Some(idle) = lock(&self.idle).pop() {
            return Ok(idle);
        }
        local.engine.connection.try_clone().map_err(opening)
    }

    /// A connection to an instance that answers what there is, with which columns, and knows no path.
    fn catalog(&self, tables: Option<&[Sql]>, job: &Job) -> Result<Connection> {
        let mut catalog = lock(&self.catalog);
        let catalog = match &mut *catalog {
            Some(catalog) => catalog,
            none => {
                let engine = Bounded::open(&self.limits, self.bounds)?;
                none.insert(Catalog { engine, is_made: false })
            }
        };
        catalog.engine.bound_for(job)?;
        match (catalog.is_made, tables) {
            (true, _) => {}
            (false, Some(tables)) => {
                let connection = &catalog.engine.connection;
                engine::run(connection, "list the tables", &sql::in_one_transaction(tables))?;
                engine::run(connection, "lock the session", &sql::lock::<&str>(&[])?)?;
                catalog.is_made = true;
            }
            (false, None) => return Err(Error::internal("there is no list of tables")),
        }
        catalog.engine.connection.try_clone().map_err(opening)
    }
}

/// What has some views already.
pub(crate) trait Has {
    /// Those of some views that it hasn't got yet.
    fn lacks(&self, names: &BTreeSet<ViewName>) -> Vec<ViewName>;

    /// Whether it hasn't got the names of tables and columns yet.
    fn lacks_catalog(&self) -> bool;
}

impl Has for Instance {
    fn lacks(&self, names: &BTreeSet<ViewName>) -> Vec<ViewName> {
        names.difference(&lock(&self.local).made).cloned().collect()
    }

    fn lacks_catalog(&self) -> bool {
        !lock(&self.catalog).as_ref().is_some_and(|catalog| catalog.is_made)
    }
}

/// An instance of its own with these systems attached.
fn remote(
    limits: &QueryLimits,
    bounds: Bounds,
    attaches: &[Attach],
    files: &[PathBuf],
    job: &Job,
) -> Result<Connection> {
    let mut engine = Bounded::open(limits, bounds)?;
    engine.bound_for(job)?;
    let connection = engine.connection;
    for attach in attaches {
        attach.run(&connection, false)?;
    }
    engine::run(&connection, "lock the session", &sql::lock(files)?)?;
    make_views(&connection, job.views.iter().map(|(name, body)| (name, body)))?;
    Ok(connection)
}

/// Runs a statement over remote systems, in an instance that goes with it.
///
/// # Errors
/// As [`Instance::run`].
pub(crate) fn run_remote(
    limits: &QueryLimits,
    bounds: Bounds,
    job: &Job,
    sink: &mut dyn Sink,
) -> Result<()> {
    let Place::Remote { attaches, files } = &job.place else {
        return Err(Error::internal("a statement over no remote system"));
    };
    begin(&remote(limits, bounds, attaches, files, job)?, job, sink)
}

fn begin(connection: &Connection, job: &Job, sink: &mut dyn Sink) -> Result<()> {
    // What ended before could not be interrupted.
    let begun = sink.begins(connection.interrupt());
    let done = begun.and_then(|()| in_transaction(connection, job, sink));
    sink.has_ended();
    done
}

/// The connection of a statement, in its transaction.
pub(crate) struct Used(Connection);

fn make_views<'v>(
    connection: &Connection,
    views: impl Iterator<Item = (&'v ViewName, &'v Sql)>,
) -> Result<()> {
    let fail = |e| engine::error("make a view", e);
    connection.execute_batch("BEGIN").map_err(fail)?;
    let mut views = views;
    let made = views.try_for_each(|(name, body)| {
        engine::run(connection, "open a table", &sql::create_view(name, body))
            .map_err(|error| error.with(Key::View, name))
    });
    match made {
        Ok(()) => connection.execute_batch("COMMIT").map_err(fail),
        Err(error) => {
            let _ = connection.execute_batch("ROLLBACK");
            Err(error)
        }
    }
}

/// Begins or ends a transaction.
fn run(connection: &Connection, sql: &'static str) -> Result<()> {
    connection.execute_batch(sql).map_err(|e| engine::error("run the query", e))
}

/// Runs a statement where the catalog and attached databases can't be written.
fn in_transaction(connection: &Connection, job: &Job, sink: &mut dyn Sink) -> Result<()> {
    run(connection, sql::BEGIN_READ_ONLY)?;
    let fail = |e| engine::error("run the query", e);
    let values: Vec<_> = job.parameters.iter().map(duckdb::types::Value::from).collect();
    let text = job.statement.as_str();
    let mut statement = connection.statement(text).map_err(fail)?;
    let wanted = statement.parameters();
    if wanted != values.len() {
        return Err(Error::new(
            Kind::Invalid,
            format!("the statement takes {wanted} parameters, {} were given", values.len()),
        ));
    }
    columns::can_be_read(statement.columns())?;
    let lacking = Columns::of(statement.columns());
    if let Some(columns) = lacking.as_ref().filter(|columns| columns.are_bent()) {
        statement = derived(connection, &columns.as_text(text, statement.columns())?, sink)?;
    }
    let mut rows = statement.rows(&values, job.batch_rows).map_err(fail)?;
    let schema = rows.schema().clone();
    let schema = lacking.map_or_else(|| schema.clone(), |columns| columns.told(&schema));
    if !sink.columns(&schema) {
        return Ok(());
    }
    let mut may_begin_again = job.batch_rows > VECTOR;
    while let Some(batch) = rows.next() {
        match batch {
            Ok(batch) => {
                let batch = batch.with_schema(schema.clone());
                let batch = batch.map_err(|e| Error::internal("rows don't fit").because(e))?;
                if !sink.rows(batch) {
                    return Ok(());
                }
            }
            Err(failure) if may_begin_again && failure.is_of_long_texts() => {
                drop(rows);
                // What has failed has ended its transaction.
                run(connection, sql::ROLLBACK)?;
                run(connection, sql::BEGIN_READ_ONLY)?;
                rows = statement.rows(&values, VECTOR).map_err(fail)?;
            }
            Err(failure) => return Err(fail(failure)),
        }
        may_begin_again = false;
    }
    Ok(())
}

/// Looks at a statement that was made of the one that was judged. It has to be judged, too: that a
/// part of a text stays what it was is believed of no text.
fn derived<'c>(
    connection: &'c Connection,
    made: &Sql,
    sink: &mut dyn Sink,
) -> Result<Statement<'c>> {
    sink.may_run(made, None)?;
    connection.statement(made.as_str()).map_err(|e| engine::error("run the query", e))
}
