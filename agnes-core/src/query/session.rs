//! A session: a read-only SQL connection over the tables of one generation.
//!
//! An in-memory instance that may read exactly the generation's files and nothing else. A
//! view is made when a statement first names its table; the guard has looked at the
//! statement before. Tables in remote systems get an instance of their own for each
//! statement, because a scanner extension reads whatever it is told to.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use duckdb::Connection;
use duckdb::core::{LogicalTypeHandle, LogicalTypeId};
use serde_json::Value;

use super::guard::{Judge, Tree};
use crate::extract::with_deadline;
use crate::layout::Layout;
use crate::orchestrator::{
    AttachPolicy, Data, Generation, Held, Secrets, View, check_intact, resolve_attach,
};
use crate::{Error, Key, Kind, Limits, Result, ViewName, engine, sql};

/// Receives the rows of a statement as they come.
pub trait RowSink {
    /// The columns, once, before any rows.
    ///
    /// # Errors
    /// Whatever ends the statement.
    fn columns(&mut self, schema: &SchemaRef) -> Result<()>;

    /// Some rows. `Break` ends the statement.
    ///
    /// # Errors
    /// Whatever ends the statement.
    fn rows(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>>;
}

/// The whole result of a statement in memory.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The columns.
    pub schema: Option<SchemaRef>,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

impl Rows {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl RowSink for Rows {
    fn columns(&mut self, schema: &SchemaRef) -> Result<()> {
        self.schema = Some(schema.clone());
        Ok(())
    }

    fn rows(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>> {
        self.batches.push(batch);
        Ok(ControlFlow::Continue(()))
    }
}

/// What one statement may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementLimits {
    /// Wall-clock time.
    pub time: Duration,
}

impl Default for StatementLimits {
    /// Five minutes.
    fn default() -> Self {
        StatementLimits { time: Duration::from_secs(300) }
    }
}

/// A read-only SQL connection over the tables of one generation.
///
/// It sees the generation that was current when it was opened, whatever is rebuilt
/// meanwhile.
pub struct Session {
    layout: Layout,
    limits: Limits,
    held: Held,
    policy: AttachPolicy,
    local: Mutex<Local>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("generation", &self.held.generation.number)
            .finish_non_exhaustive()
    }
}

/// The instance for local tables, with the views that it has so far.
struct Local {
    connection: Connection,
    made: BTreeSet<ViewName>,
}

/// What a statement names.
struct Names<'a> {
    generation: &'a Generation,
    views: BTreeSet<ViewName>,
    everything: bool,
}

impl Judge for Names<'_> {
    fn table(&mut self, name: &[String], node: &mut Value) -> Result<()> {
        if node.get("at_clause").is_some_and(|at| !at.is_null()) {
            return Err(Error::new(Kind::Invalid, "tables have no earlier versions here"));
        }
        let table = match name {
            [one] => one,
            [schema, one] if schema.eq_ignore_ascii_case("main") => one,
            [schema, one]
                if schema.eq_ignore_ascii_case("information_schema")
                    && ["tables", "columns", "schemata"]
                        .iter()
                        .any(|t| one.eq_ignore_ascii_case(t)) =>
            {
                self.everything = true;
                return Ok(());
            }
            _ => return Err(self.unknown(&name.join("."))),
        };
        let known = ViewName::parse(table.clone())
            .ok()
            .filter(|view| self.generation.views.contains_key(view));
        match known {
            Some(view) => {
                self.views.insert(view);
                Ok(())
            }
            None => Err(self.unknown(table)),
        }
    }

    fn table_function(&mut self, name: &str, _: &mut Value) -> Result<()> {
        Err(Error::new(
            Kind::Denied,
            format!(
                "the table function `{}` is not allowed: a query reads published tables, not files",
                crate::name::shown(name)
            ),
        ))
    }

    fn listing(&mut self) -> Result<()> {
        self.everything = true;
        Ok(())
    }
}

impl Names<'_> {
    fn unknown(&self, name: &str) -> Error {
        let shown = crate::name::shown(name);
        let near = self
            .generation
            .views
            .keys()
            .map(|view| {
                (distance(&name.to_ascii_lowercase(), &view.as_str().to_ascii_lowercase()), view)
            })
            .min_by_key(|(distance, _)| *distance)
            .filter(|(distance, _)| *distance <= 1 + name.len() / 4);
        let cure = match near {
            Some((_, view)) => format!("did you mean `{view}`?"),
            None => "`agnes status` lists what there is".to_string(),
        };
        Error::new(Kind::NotFound, format!("there is no table `{shown}`; {cure}"))
            .with(Key::Table, shown)
    }
}

/// How many letters have to change to make one word of the other, up to a small number.
fn distance(a: &str, b: &str) -> usize {
    const FAR: usize = 99;
    if a.len().abs_diff(b.len()) > 4 || a.len() > 64 {
        return FAR;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let value = (*cell + 1).min(left + 1).min(diagonal + usize::from(x != y));
            diagonal = std::mem::replace(cell, value);
            left = value;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(FAR)
}

impl Session {
    /// Opens a session over everything in the current generation.
    pub(crate) fn open(layout: &Layout, limits: &Limits, policy: &AttachPolicy) -> Result<Session> {
        let held = Held::current(layout)?.unwrap_or_else(|| Held::nothing(layout));
        let local = open_instance(layout, limits, held.generation.views.values())?;
        Ok(Session {
            layout: layout.clone(),
            limits: limits.clone(),
            held,
            policy: policy.clone(),
            local: Mutex::new(Local { connection: local, made: BTreeSet::new() }),
        })
    }

    /// The generation that the session sees.
    pub fn generation(&self) -> &Generation {
        &self.held.generation
    }

    /// Runs one query and collects its rows.
    ///
    /// # Errors
    /// As [`Session::stream`].
    pub fn query(&self, text: &str) -> Result<Rows> {
        let mut rows = Rows::default();
        self.stream(text, &crate::NoSecrets, &StatementLimits::default(), &mut rows)?;
        Ok(rows)
    }

    /// Runs one query and hands its rows to `sink` as they come.
    ///
    /// `secrets` are asked only for tables in remote systems.
    ///
    /// # Errors
    /// `Invalid` for SQL that is wrong, `Denied` for what is no query, `NotFound` for an
    /// unknown table, `Limit` when a limit is passed, `Unavailable` when a file was changed
    /// behind Agnes' back or a remote system can't be reached.
    pub fn stream(
        &self,
        text: &str,
        secrets: &dyn Secrets,
        limits: &StatementLimits,
        sink: &mut dyn RowSink,
    ) -> Result<()> {
        // Where the data lies is nothing that a query should tell.
        let home = format!("{}/", self.layout.root().display());
        self.run_guarded(text, secrets, limits, sink).map_err(|error| error.without_home(&home))
    }

    fn run_guarded(
        &self,
        text: &str,
        secrets: &dyn Secrets,
        limits: &StatementLimits,
        sink: &mut dyn RowSink,
    ) -> Result<()> {
        let generation = &self.held.generation;
        let mut local = self.local.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut names = Names { generation, views: BTreeSet::new(), everything: false };
        Tree::parse(&local.connection, text)?.judge(&mut names)?;
        let named = |name: &ViewName| generation.views.get(name);
        let is_remote =
            |name: &ViewName| named(name).is_some_and(|v| matches!(v.data, Data::Remote { .. }));
        if names.views.iter().any(is_remote) {
            let connection = self.remote_instance(&names.views, secrets)?;
            make_views(&self.layout, generation, &connection, names.views.iter(), false)?;
            return run(&connection, text, limits, sink);
        }
        let missing: Vec<ViewName> =
            names.views.iter().filter(|n| !local.made.contains(*n)).cloned().collect();
        make_views(&self.layout, generation, &local.connection, missing.iter(), false)?;
        local.made.extend(missing);
        if names.everything {
            let rest: Vec<ViewName> =
                generation.views.keys().filter(|n| !local.made.contains(*n)).cloned().collect();
            make_views(&self.layout, generation, &local.connection, rest.iter(), true)?;
            local.made.extend(rest);
        }
        let intact = || {
            let views = names.views.iter().filter_map(|n| Some((n, named(n)?)));
            views.into_iter().try_for_each(|(name, view)| check_intact(&self.layout, name, view))
        };
        intact()?;
        let ran = run(&local.connection, text, limits, sink);
        // A file that was rewritten in place meanwhile has given rows of two contents.
        intact()?;
        ran
    }

    /// An instance in which the remote systems of some views are attached.
    fn remote_instance(
        &self,
        names: &BTreeSet<ViewName>,
        secrets: &dyn Secrets,
    ) -> Result<Connection> {
        let generation = &self.held.generation;
        let views = || names.iter().filter_map(|n| generation.views.get(n));
        let connection = engine::in_memory(&self.limits)?;
        let mut attached = BTreeSet::new();
        for view in views() {
            let Data::Remote { aliases, .. } = &view.data else { continue };
            let Some(record) = generation.sources.get(&view.source) else { continue };
            for row in record.attaches.iter().filter(|row| aliases.contains(&row.alias)) {
                // Asked for each source, also where another has attached the same system.
                let attach = resolve_attach(&self.policy, secrets, &view.source, row)?;
                if attached.insert(attach.alias().clone()) {
                    attach.run(&connection, false)?;
                }
            }
        }
        lock(&self.layout, &connection, views())?;
        Ok(connection)
    }
}

fn open_instance<'v>(
    layout: &Layout,
    limits: &Limits,
    views: impl Iterator<Item = &'v Arc<View>>,
) -> Result<Connection> {
    let connection = engine::in_memory(limits)?;
    lock(layout, &connection, views)?;
    Ok(connection)
}

/// Leaves an instance the files of these views, and nothing else.
fn lock<'v>(
    layout: &Layout,
    connection: &Connection,
    views: impl Iterator<Item = &'v Arc<View>>,
) -> Result<()> {
    let files: Vec<_> = views.flat_map(|view| Generation::paths(layout, view)).collect();
    engine::run(connection, "lock the session", &sql::lock(&files)?)
}

fn make_views<'n>(
    layout: &Layout,
    generation: &Generation,
    connection: &Connection,
    names: impl Iterator<Item = &'n ViewName>,
    deferred: bool,
) -> Result<()> {
    let fail = |e| engine::error("make a view", e);
    connection.execute_batch("BEGIN").map_err(fail)?;
    let make = || -> Result<()> {
        for name in names {
            let Some(view) = generation.views.get(name) else { continue };
            let body = match &view.data {
                Data::Files { by_name, .. } => {
                    sql::select_parquet(&Generation::paths(layout, view), *by_name)?
                }
                Data::Remote { query, .. } => sql::guarded(query.clone()),
            };
            let statement = if deferred {
                sql::create_deferred_view(name, &body)
            } else {
                sql::create_view(name, &body)
            };
            engine::run(connection, "open a table", &statement).map_err(|e| match check_intact(
                layout, name, view,
            ) {
                Err(changed) => changed,
                Ok(()) => e.with(Key::View, name),
            })?;
        }
        Ok(())
    };
    match make() {
        Ok(()) => connection.execute_batch("COMMIT").map_err(fail),
        Err(error) => {
            let _ = connection.execute_batch("ROLLBACK");
            Err(error)
        }
    }
}

fn run(
    connection: &Connection,
    text: &str,
    limits: &StatementLimits,
    sink: &mut dyn RowSink,
) -> Result<()> {
    let fail = |e| engine::error("run the query", e);
    with_deadline(connection, limits.time, || {
        let mut statement = connection.prepare(text).map_err(fail)?;
        let bent = (0..statement.column_count())
            .find_map(|at| Some((at, bent_by_arrow(&statement.column_logical_type(at))?)));
        let stream = statement.stream_arrow([]).map_err(fail)?;
        let schema = stream.get_schema();
        if let Some((at, kind)) = bent {
            let name = schema.fields().get(at).map_or("", |field| field.name());
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "the column `{}` holds {kind}, which Arrow has no type for; cast it to \
                     VARCHAR",
                    crate::name::shown(name)
                ),
            )
            .with(Key::Column, name));
        }
        sink.columns(&schema)?;
        for batch in stream {
            if sink.rows(batch.map_err(fail)?)?.is_break() {
                break;
            }
        }
        Ok(())
    })
}

/// A type whose values DuckDB hands to Arrow as something else: a large UHUGEINT as a negative
/// number, a BIT as the bytes that store it, a TIMETZ without its zone.
fn bent_by_arrow(kind: &LogicalTypeHandle) -> Option<&'static str> {
    match kind.id() {
        LogicalTypeId::UHugeint => Some("UHUGEINT"),
        LogicalTypeId::Bit => Some("BIT"),
        LogicalTypeId::TimeTZ => Some("TIME WITH TIME ZONE"),
        LogicalTypeId::Bignum => Some("BIGNUM"),
        _ => (0..kind.num_children()).find_map(|at| bent_by_arrow(&kind.child(at))),
    }
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn near_words_are_near() {
        assert_eq!(distance("orders", "orders"), 0);
        assert_eq!(distance("order", "orders"), 1);
        assert_eq!(distance("odrers", "orders"), 2);
        assert!(distance("a", "completely") > 5);
    }
}
