//! A session: a read-only SQL connection over what one principal may see.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::AsArray;
use arrow::datatypes::DataType;

use super::checked::{Runs, check};
use super::guard;
use super::limits::{Gate, QueryLimits};
use super::pivot;
use super::rows::{Cancel, Ended, QueryOptions, Rows, Time};
use super::shown::{Home, Shelf, Shown};
use super::threads::Threads;
use super::tree::{self, Parser};
use super::work::{Books, Interrupting, Work, number};
use crate::Secrets;
use crate::access::{Access, Principal, Watch, hidden};
use crate::layout::Layout;
use crate::orchestrator::{AttachPolicy, View};
use crate::worker::{Pool, Rank, Taken};
use crate::{Error, Kind, Result, ViewName, sql};

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
            let judge = || {
                self.parse(&shown, &mut None, Rank::Usual, |parser| {
                    check(&shown, parser, query, &[])
                })
            };
            names.extend(shown.verdict(query, judge)?.names().iter().cloned());
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
        self.parse(&*self.sound()?, &mut None, Rank::Usual, work)
    }

    /// Does something with what parses: in a worker, which is kept, or in this process.
    fn parse<T>(
        &self,
        shown: &Shown,
        kept: &mut Option<Taken>,
        rank: Rank,
        work: impl Fn(&dyn Parser) -> Result<T>,
    ) -> Result<T> {
        match shown.home() {
            Home::Here(_) => self.shelf.parse(|connection| work(connection)),
            Home::Workers(keys) => shown.in_a_worker(keys, kept, (Runs::Shared, rank), |worker| {
                worker.parse(self.limits.time, &work)
            }),
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
                let options =
                    QueryOptions { stop: options.stop.clone(), ..QueryOptions::default() };
                let mut rows = self.begin(shown, &query, &options, time)?;
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
        let turn = self.gate.enter(self.watch.principal(), options.stop.as_ref())?;
        let (query, explained) = match guard::explained(text)? {
            Some(query) => (query, true),
            None => (text, false),
        };
        let (mut worker, rank) = (None, turn.rank());
        let given = &options.parameters;
        let judge =
            || self.parse(shown, &mut worker, rank, |parser| check(shown, parser, query, given));
        let books = Books { access: self.access.clone(), watch: self.watch.clone() };
        let checked = shown.verdict(query, judge);
        let checked = checked.inspect_err(|error| books.note(error, query))?;
        // One that reads tables has no use for a list of them.
        let worker = worker.filter(|_| checked.runs() == Runs::Shared);
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
            batch_rows: options.batch_rows,
            shelf: self.shelf.clone(),
            policy: self.policy.clone(),
            secrets: self.secrets.clone(),
            books,
            interrupt: interrupt.clone(),
            limits: self.limits.clone(),
            turn,
            rank,
            running,
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
