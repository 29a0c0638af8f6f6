//! Sessions and their statements, as programs ask for them in words.

use std::ops::Deref;
use std::sync::Arc;

use crate::access::{Email, Principal};
use crate::catalog::CatalogEntry;
use crate::manifest::Manifest;
use crate::metric::Metric;
use crate::profile::Profile;
use crate::query::{Order, QueryOptions, Reader, Scan, Stop};
use crate::{Agnes, ColumnName, Result, Secret, Session, ViewName};

/// Whose session it is to be.
#[derive(Debug, Clone)]
pub enum Whose {
    /// The operator's, who may see everything.
    Operator,
    /// That of the user with this address.
    User(String),
    /// That of the owner of this token.
    Token(Secret),
}

/// A session, and the folder that it is of.
///
/// ```
/// use std::sync::Arc;
///
/// use agnes_core::Agnes;
/// use agnes_core::binding::{OpenSession, Statement, Whose};
/// use agnes_core::query::{QueryOptions, Stop};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let agnes = Agnes::open(dir.path())?;
/// # agnes.rebuild(None, &agnes_core::NoProgress)?;
/// let session = OpenSession::of(Arc::new(agnes), Whose::Operator)?;
/// let statement = Statement::Query("SELECT 42 AS answer".to_string());
/// let reader = session.begin(statement, QueryOptions::default(), Stop::default())?;
/// assert_eq!(reader.schema().field(0).name(), "answer");
/// # Ok::<(), agnes_core::Error>(())
/// ```
#[derive(Debug)]
pub struct OpenSession {
    session: Arc<Session>,
    agnes: Arc<Agnes>,
}

impl Deref for OpenSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

/// What a statement is to give.
#[derive(Debug, Clone)]
pub enum Statement {
    /// The rows of a query.
    Query(String),
    /// Rows of a table, as [`Scan`].
    Scan {
        /// The table.
        table: String,
        /// Columns; all where none are named.
        select: Vec<String>,
        /// A condition.
        predicate: Option<String>,
        /// Columns, each as [`Order::parse`] reads it.
        order_by: Vec<String>,
        /// How many rows at most.
        limit: Option<u64>,
    },
    /// What a metric says.
    Metric {
        /// Its id.
        id: String,
        /// Its variant; the metric itself where none is named.
        variant: Option<String>,
    },
}

impl OpenSession {
    /// Opens it.
    ///
    /// # Errors
    /// `Invalid` for what is no address, `NotFound` for a user who isn't there, `Denied` for a token that doesn't
    /// hold; otherwise as [`Agnes::session_for`].
    pub fn of(agnes: Arc<Agnes>, whose: Whose) -> Result<OpenSession> {
        let principal = match whose {
            Whose::Operator => Principal::Operator,
            Whose::User(email) => agnes.access()?.principal_of(&Email::parse(email)?)?,
            Whose::Token(token) => agnes.access()?.authenticate(token.expose(), None)?,
        };
        let session = Arc::new(agnes.session_for(&principal)?);
        Ok(OpenSession { session, agnes })
    }

    /// Begins a statement, which `stop` ends.
    ///
    /// # Errors
    /// `Invalid` for names that can't be any; otherwise as [`Session::query`], [`Session::scan`] and
    /// [`Agnes::metric`].
    pub fn begin(&self, statement: Statement, options: QueryOptions, stop: Stop) -> Result<Reader> {
        let session = self.session.clone();
        let query = match statement {
            Statement::Query(text) => text,
            Statement::Metric { id, variant } => {
                let metric = self.agnes.metric(self.principal(), &id)?;
                metric.query(variant.as_deref())?.to_string()
            }
            Statement::Scan { table, select, predicate, order_by, limit } => {
                let table = ViewName::parse(table)?;
                let select = select.into_iter().map(ColumnName::parse).collect::<Result<_>>()?;
                let order_by = order_by.iter().map(|text| Order::parse(text));
                let order_by = order_by.collect::<Result<_>>()?;
                let scan = Scan { select, predicate, order_by, limit };
                let run = move |of: &Session, with: &QueryOptions| of.scan(&table, &scan, with);
                return Reader::begin(session, options, stop, run);
            }
        };
        Reader::begin(session, options, stop, move |session, options| {
            session.query(&query, options)
        })
    }

    /// As [`Agnes::catalog`].
    ///
    /// # Errors
    /// As that.
    pub fn catalog(&self) -> Result<Vec<CatalogEntry>> {
        self.agnes.catalog(self.principal())
    }

    /// As [`Agnes::manifest`].
    ///
    /// # Errors
    /// As that.
    pub fn manifest(&self) -> Result<Manifest> {
        self.agnes.manifest(self.principal())
    }

    /// As [`Agnes::profile`], of a table that is named by its id or name.
    ///
    /// # Errors
    /// `Denied` for a table that its user may not see, and for one that isn't there; otherwise as that.
    pub fn profile(&self, table: &str) -> Result<Profile> {
        let decision = self.agnes.access()?.decide_named(self.principal(), table)?;
        self.agnes.profile(&decision.permit()?)
    }

    /// As [`Agnes::metrics`].
    ///
    /// # Errors
    /// As that.
    pub fn metrics(&self) -> Result<Vec<Metric>> {
        self.agnes.metrics(self.principal())
    }
}
