//! `Session`: SQL over what one principal may see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agnes_core::binding::{Along, Handle, OpenSession, Statement, Whose};
use agnes_core::query::{Parameter, QueryOptions as Options};
use agnes_core::{Agnes as Core, Error, Kind};
use napi::bindgen_prelude::{Env, External};
use napi_derive::napi;
use serde::Serialize;

use crate::call::{Promised, promise, raised, told};
use crate::rows::{Ends, Rows};
use crate::value::{Given, count};

/// SQL over the tables that one user may see, as they were published when it was opened.
///
/// Whatever is rebuilt meanwhile, its statements see the same rows: open another one for what is new. It ends
/// when one of its tables is taken from its user; every later statement is `Denied`.
#[napi]
#[derive(Clone)]
pub struct Session {
    open: Handle<OpenSession>,
    /// What came of it, and everything of its folder.
    mine: Arc<Along>,
    all: Arc<Along>,
    /// Whether it, or its folder, is closed: its statements end then.
    ended: [Arc<AtomicBool>; 2],
}

/// What a session comes of.
pub(crate) struct Folder {
    pub(crate) agnes: agnes_core::Result<Arc<Core>>,
    pub(crate) along: Arc<Along>,
    pub(crate) ended: Arc<AtomicBool>,
}

impl Folder {
    /// Opens a session.
    pub(crate) fn session(self, whose: Whose) -> agnes_core::Result<Session> {
        let open = Handle::new("the session", OpenSession::of(self.agnes?, whose)?);
        self.along.add(&open);
        let ended = [Arc::default(), self.ended];
        Ok(Session { open, mine: Arc::default(), all: self.along, ended })
    }
}

/// Whether somebody has ended a statement, which may have no rows yet.
pub(crate) type Stopper = Arc<AtomicBool>;

/// Makes what ends a statement. For `index.js`.
#[napi(skip_typescript)]
pub fn stopper() -> External<Stopper> {
    External::new(Stopper::default())
}

/// Ends a statement.
#[napi(skip_typescript)]
pub fn stop(stopper: &External<Stopper>) {
    stopper.store(true, Ordering::SeqCst);
}

/// What ends it, where anything does.
pub(crate) fn copied(stopper: Option<&External<Stopper>>) -> Stopper {
    stopper.map(|stopper| Stopper::clone(stopper)).unwrap_or_default()
}

/// What a statement may take.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct QueryOptions {
    /// How many rows at most; `truncated` says whether there were more.
    pub max_rows: Option<f64>,
    /// How many bytes of rows at most, as Arrow has them.
    pub max_bytes: Option<f64>,
    /// How long it may take, in milliseconds: 60,000 where nothing else is configured.
    pub timeout_ms: Option<f64>,
}

/// Which rows of a table, and which of its columns.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct ScanOptions {
    /// Columns; all where none are named.
    pub select: Option<Vec<String>>,
    /// A condition, as in `amount > 10`.
    pub r#where: Option<String>,
    /// Columns, each perhaps with ` desc` after it.
    pub order_by: Option<Vec<String>>,
    /// How many rows at most.
    pub limit: Option<f64>,
}

/// Which variant of a metric.
#[napi(object, object_to_js = false)]
pub struct MetricOptions {
    /// Its name; the metric itself where none is named.
    pub variant: Option<String>,
}

/// A time in milliseconds, as JavaScript has it.
pub(crate) fn millis(given: f64) -> agnes_core::Result<Duration> {
    Duration::try_from_secs_f64(given / 1000.0)
        .map_err(|_| Error::new(Kind::Invalid, format!("{given} is no time in milliseconds")))
}

impl QueryOptions {
    fn of(self, parameters: Vec<Parameter>) -> agnes_core::Result<Options> {
        Ok(Options {
            parameters,
            max_rows: self.max_rows.map(count).transpose()?,
            max_bytes: self.max_bytes.map(count).transpose()?,
            time: self.timeout_ms.map(millis).transpose()?,
            ..Options::default()
        })
    }
}

/// A statement, and what it may take.
type Asked = agnes_core::Result<(Statement, Options)>;

/// The statement of a text.
pub(crate) fn query(
    query: String,
    parameters: Option<Vec<Given>>,
    options: Option<QueryOptions>,
) -> Asked {
    let parameters = parameters.unwrap_or_default().into_iter().map(|Given(value)| value);
    let options = options.unwrap_or_default().of(parameters.collect())?;
    Ok((Statement::Query(query), options))
}

impl Session {
    /// Begins a statement.
    pub(crate) fn rows(&self, stopper: Stopper, asked: Asked) -> agnes_core::Result<Rows> {
        let [mine, all] = self.ended.clone();
        let ends = Ends::of([stopper, mine, all]);
        let (statement, options) = asked?;
        let reader = self.open.get()?.begin(statement, options, ends.stop())?;
        Ok(Rows::of(reader, ends, [self.mine.clone(), self.all.clone()]))
    }

    fn begin(&self, env: Env, stopper: Option<&External<Stopper>>, asked: Asked) -> Promised {
        let (this, stopper) = (self.clone(), copied(stopper));
        promise(env, move || this.rows(stopper, asked), |rows| rows)
    }

    fn told<T: Serialize>(
        &self,
        env: Env,
        work: impl FnOnce(&OpenSession) -> agnes_core::Result<T> + Send + 'static,
    ) -> Promised {
        let open = self.open.get();
        told(env, move || work(&*open?))
    }
}

#[napi]
impl Session {
    /// Runs a query, and gives its rows as they come.
    ///
    /// Parameters are bound to `?` or `$1`, `$2`, … and never become a part of the text. A statement that takes
    /// longer than its time ends with `Limit`, and so does one that needs more memory than it may have. A
    /// `signal` ends it, too, with `Cancelled`.
    #[napi(
        ts_args_type = "query: string, parameters?: Parameter[] | null, options?: QueryOptions | null",
        ts_return_type = "Promise<Rows>"
    )]
    pub fn sql(
        &self,
        env: Env,
        query: String,
        parameters: Option<Vec<Given>>,
        options: Option<QueryOptions>,
        stopper: Option<&External<Stopper>>,
    ) -> Promised {
        self.begin(env, stopper, self::query(query, parameters, options))
    }

    /// Reads a table: some columns, the rows for which a condition holds, in an order.
    #[napi(
        ts_args_type = "table: string, options?: ScanOptions | null",
        ts_return_type = "Promise<Rows>"
    )]
    pub fn scan(
        &self,
        env: Env,
        table: String,
        options: Option<ScanOptions>,
        stopper: Option<&External<Stopper>>,
    ) -> Promised {
        let ScanOptions { select, r#where, order_by, limit } = options.unwrap_or_default();
        let scan = |limit| Statement::Scan {
            table,
            select: select.unwrap_or_default(),
            predicate: r#where,
            order_by: order_by.unwrap_or_default(),
            limit,
        };
        let scan = limit.map(count).transpose().map(scan);
        self.begin(env, stopper, scan.map(|scan| (scan, Options::default())))
    }

    /// Computes a metric, or one of its variants.
    #[napi(
        ts_args_type = "metric: string, options?: MetricOptions | null",
        ts_return_type = "Promise<Rows>"
    )]
    pub fn metric(
        &self,
        env: Env,
        metric: String,
        options: Option<MetricOptions>,
        stopper: Option<&External<Stopper>>,
    ) -> Promised {
        let variant = options.and_then(|options| options.variant);
        let metric = Statement::Metric { id: metric, variant };
        self.begin(env, stopper, Ok((metric, Options::default())))
    }

    /// The names of the tables that it shows.
    #[napi(ts_return_type = "Promise<string[]>")]
    pub fn tables(&self, env: Env) -> Promised {
        self.told(env, |open| Ok(open.tables()))
    }

    /// The tables that a query would read. It doesn't run.
    #[napi(ts_return_type = "Promise<string[]>")]
    pub fn reads(&self, env: Env, query: String) -> Promised {
        self.told(env, move |open| open.reads(&query))
    }

    /// The number of the generation that it sees.
    #[napi(getter)]
    pub fn generation(&self) -> napi::Result<f64> {
        Ok(self.open.get().map_err(raised)?.generation() as f64)
    }

    /// What its user may discover: an object for each table.
    #[napi(ts_return_type = "Promise<CatalogEntry[]>")]
    pub fn catalog(&self, env: Env) -> Promised {
        self.told(env, |open| open.catalog())
    }

    /// What its user may download, with hashes.
    #[napi(ts_return_type = "Promise<Manifest>")]
    pub fn manifest(&self, env: Env) -> Promised {
        self.told(env, |open| open.manifest())
    }

    /// What is in a table, column by column: how full, how many different values, ranges and more.
    #[napi(ts_return_type = "Promise<Profile>")]
    pub fn profile(&self, env: Env, table: String) -> Promised {
        self.told(env, move |open| open.profile(&table))
    }

    /// The metrics whose tables its user may see.
    #[napi(ts_return_type = "Promise<Metric[]>")]
    pub fn metrics(&self, env: Env) -> Promised {
        self.told(env, |open| open.metrics())
    }

    /// Lets go of it, and ends what it runs.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close(&self, env: Env) -> Promised {
        let [mine, _] = &self.ended;
        mine.store(true, Ordering::SeqCst);
        let (rows, open) = (self.mine.clone(), self.open.clone());
        let close = move || {
            rows.close();
            open.close();
            Ok(())
        };
        promise(env, close, |()| ())
    }

    /// What it is, for people.
    #[napi(js_name = "toString")]
    pub fn shown(&self) -> String {
        match self.open.get() {
            Ok(open) => {
                let tables = open.tables().len();
                format!("Session {{ generation {}, {tables} tables }}", open.generation())
            }
            Err(_) => "Session { closed }".to_string(),
        }
    }
}
