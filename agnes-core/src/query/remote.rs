//! Engines elsewhere: what runs a statement in another system, and streams its rows back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::access::{Block, Item, ResourceKind};
use crate::name::ResourceType;
use crate::{Error, ExternalName, Kind, Result};

/// The type of resource that leave to use a remote engine is: `remote_engine:<name>`.
pub const REMOTE_ENGINE: &str = "remote_engine";

/// Runs statements in another system, under the credentials of the service.
///
/// It is called on a thread of its own, which may outlive its caller's patience: it should look
/// at its [`Stop`] now and then, or have it end what runs there.
pub trait RemoteEngine: Send + Sync {
    /// The bytes that a statement would read, without running it; none where the system can't
    /// tell.
    ///
    /// # Errors
    /// Any; the statement isn't run then.
    fn scan_bytes(&self, sql: &str, stop: &Stop) -> Result<Option<u64>>;

    /// Runs a statement: tells its columns, then its rows, as they come.
    ///
    /// # Errors
    /// Any. What [`RemoteRows`] answers is to be passed on.
    fn run(&self, sql: &str, stop: &Stop, rows: &mut RemoteRows) -> Result<()>;
}

/// Whether somebody still waits for a statement, in this system or in another.
///
/// Clones are one and the same.
#[derive(Clone, Default)]
pub struct Stop(Arc<Stopping>);

impl PartialEq for Stop {
    fn eq(&self, other: &Stop) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[derive(Default)]
struct Stopping {
    stopped: AtomicBool,
    then: Mutex<Vec<Box<dyn Fn() + Send>>>,
    /// Says that nobody does any more, when it is asked.
    asks: Option<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl Stop {
    /// One that also asks, each time that somebody looks: whoever waits for rows does so several times a
    /// second, on her own thread. For a caller whose wish to end something is heard on that thread alone,
    /// as of a signal in Python.
    pub fn asking(is_stopped: impl Fn() -> bool + Send + Sync + 'static) -> Stop {
        Stop(Arc::new(Stopping { asks: Some(Box::new(is_stopped)), ..Stopping::default() }))
    }

    /// Whether nobody does any more.
    pub fn is_stopped(&self) -> bool {
        if self.0.stopped.load(Ordering::SeqCst) {
            return true;
        }
        let is_stopped = self.0.asks.as_ref().is_some_and(|asks| asks());
        if is_stopped {
            self.stop();
        }
        is_stopped
    }

    /// Has this done once nobody does: from another thread, or at once.
    pub fn then(&self, end: impl Fn() + Send + 'static) {
        let mut then = self.0.then.lock().unwrap_or_else(PoisonError::into_inner);
        match self.0.stopped.load(Ordering::SeqCst) {
            true => end(),
            false => then.push(Box::new(end)),
        }
    }

    /// Says that nobody does any more.
    pub fn stop(&self) {
        let mut then = self.0.then.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.stopped.store(true, Ordering::SeqCst);
        then.drain(..).for_each(|end| end());
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.0.stopped).finish()
    }
}

/// What comes from a remote engine.
pub(super) enum Came {
    Columns(SchemaRef),
    Rows(RecordBatch),
    End(Result<()>),
}

/// Takes the rows of a remote statement. It waits while whoever reads is behind.
#[derive(Debug)]
pub struct RemoteRows {
    pub(super) came: SyncSender<Came>,
}

impl RemoteRows {
    /// Tells the columns, once, before any row.
    ///
    /// # Errors
    /// `Cancelled` when nobody waits any more.
    pub fn columns(&mut self, schema: SchemaRef) -> Result<()> {
        self.send(Came::Columns(schema))
    }

    /// Gives some rows.
    ///
    /// # Errors
    /// `Cancelled` when nobody waits any more, as when a limit was reached.
    pub fn rows(&mut self, batch: RecordBatch) -> Result<()> {
        self.send(Came::Rows(batch))
    }

    fn send(&mut self, what: Came) -> Result<()> {
        let gone = |_| Error::new(Kind::Cancelled, "nobody waits for the rows any more");
        self.came.send(what).map_err(gone)
    }
}

/// The remote engines that there are, by name.
#[derive(Clone, Default)]
pub struct RemoteEngines(BTreeMap<String, Arc<dyn RemoteEngine>>);

impl RemoteEngines {
    /// With one more, or another one of that name.
    #[must_use]
    pub fn with(mut self, name: &ExternalName, engine: Arc<dyn RemoteEngine>) -> Self {
        self.0.insert(name.to_string(), engine);
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<dyn RemoteEngine>> {
        self.0.get(name)
    }

    /// The type of resource under which they are granted; none where there are none.
    pub(crate) fn kind(&self) -> Option<Arc<dyn ResourceKind>> {
        let names: Vec<String> = self.0.keys().cloned().collect();
        let key = ResourceType::parse(REMOTE_ENGINE).ok()?;
        (!names.is_empty()).then(|| Arc::new(EngineKind { key, names }) as Arc<dyn ResourceKind>)
    }
}

impl fmt::Debug for RemoteEngines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Leave to use a remote engine, as a type of resource.
struct EngineKind {
    key: ResourceType,
    names: Vec<String>,
}

impl ResourceKind for EngineKind {
    fn key(&self) -> ResourceType {
        self.key.clone()
    }

    fn display_name(&self) -> &str {
        "Remote engine"
    }

    fn description(&self) -> &str {
        "Run any query in a remote system, under the credentials of the service"
    }

    fn id_format(&self) -> &str {
        "<name>"
    }

    fn blocks(&self) -> Result<Vec<Block>> {
        let item = |name: &String| Item {
            resource_id: name.clone(),
            name: name.clone(),
            description: None,
        };
        let items = self.names.iter().map(item).collect();
        Ok(vec![Block { name: "Remote engines".to_string(), items }])
    }

    fn check(&self, id: &str) -> Result<()> {
        match self.names.iter().any(|name| name == id) {
            true => Ok(()),
            false => Err(Error::new(
                Kind::NotFound,
                format!("there is no remote engine `{}`", crate::name::shown(id)),
            )),
        }
    }
}
