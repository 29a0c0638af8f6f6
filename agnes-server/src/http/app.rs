//! What all handlers share.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

use agnes_core::access::Access;
use agnes_core::metadata::RefreshReport;
use agnes_core::{Agnes, Result};
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::answer::Tags;
use super::limits::RateLimits;
use super::mail::Mailer;
use super::memory::Memory;
use super::metrics::Meters;
use super::pool::{Pool, Threads};
use super::pulse::Pulse;
use super::quota::Quotas;
use super::serve::Connections;
use super::settings::ServerSettings;

/// A server's state: the data folder, held, and what handlers need beside it. Cheap to clone.
///
/// It holds the system database for as long as it lives, so that no other process may have it.
#[derive(Clone)]
pub struct App(Arc<Inner>);

pub struct Inner {
    pub(crate) agnes: Arc<Agnes>,
    pub(crate) access: Arc<Access>,
    pub(crate) settings: ServerSettings,
    /// The path below which the server is mounted, without a slash at its end.
    base: String,
    /// The threads for what takes long.
    pub(crate) long: Threads,
    /// Where the core says what it knows.
    pub(crate) pool: Pool,
    /// Where statements wait for their turn.
    pub(crate) queries: Pool,
    /// Where rows are made of statements that have their turn: they never wait for one.
    pub(crate) rows: Pool,
    /// Where files are opened, and read where they aren't in memory.
    pub(crate) files: Arc<Pool>,
    /// Where what may take minutes is done: rebuilds, questions to remote systems.
    pub(crate) jobs: Pool,
    /// Where profiles are made, each with memory and threads of its own.
    pub(crate) profiles: Pool,
    pub(crate) connections: Connections,
    /// Hashing a password takes 64 MiB.
    pub(crate) hashing: Pool,
    pub(crate) memory: Memory,
    pub(crate) meters: Meters,
    pub(crate) pulse: Pulse,
    pub(crate) tags: Tags,
    pub(crate) limits: RateLimits,
    pub(crate) quotas: Quotas,
    pub(crate) mailer: Option<Mailer>,
    /// Letters that may be on their way at once.
    pub(crate) letters: Arc<Semaphore>,
    /// What the last warm-up came to.
    pub(crate) warmed: Mutex<Option<RefreshReport>>,
    /// The description of the API, once somebody has asked for it.
    pub(crate) description: OnceLock<Bytes>,
    /// Whether a sync runs that somebody asked for here.
    pub(crate) syncing: AtomicBool,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// The path of an address.
fn base(public_url: &str) -> String {
    let url = url::Url::parse(public_url).ok();
    url.map(|url| url.path().trim_end_matches('/').to_string()).unwrap_or_default()
}

impl Inner {
    /// Whether a link that somebody asks for reaches her.
    pub(crate) fn mails(&self) -> bool {
        self.mailer.is_some() || self.settings.dev_user.is_some()
    }

    /// The address of one of this server's pages, for a browser that is on one.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl App {
    /// The state of a server over a data folder.
    ///
    /// # Errors
    /// As [`Agnes::access`]: `Unavailable` when another process holds the system database;
    /// `Invalid` for a mail server's settings that can't be meant.
    pub fn new(agnes: Arc<Agnes>, settings: ServerSettings) -> Result<App> {
        let access = agnes.access()?;
        let running = agnes.settings().query.running;
        let long = Threads::default();
        let pool = |threads| Pool::new(threads, long.clone());
        Ok(App(Arc::new(Inner {
            access,
            base: base(&settings.public_url),
            pool: Pool::new(settings.threads, Threads::default()),
            queries: pool(running * 2),
            rows: pool(running),
            files: Arc::new(pool(settings.download_threads)),
            jobs: pool(8),
            profiles: pool(2),
            connections: Connections::new(settings.connections.clone()),
            hashing: pool(2),
            long: long.clone(),
            memory: Memory::default(),
            meters: Meters::new(),
            tags: Tags::default(),
            pulse: Pulse::new(agnes.store()?.schema_version()?),
            limits: RateLimits::new(settings.rate_limits),
            quotas: Quotas::new(&settings.scans),
            mailer: settings.mail.as_ref().map(Mailer::new).transpose()?,
            letters: Arc::new(Semaphore::new(32)),
            warmed: Mutex::new(None),
            description: OnceLock::new(),
            syncing: AtomicBool::new(false),
            settings,
            agnes,
        })))
    }

    /// Runs what reads or writes, and is quick.
    ///
    /// # Errors
    /// Those of `work`; `Unavailable` while the server is busy.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.work_in(&self.pool, work).await
    }

    /// The same in a pool for what takes longer.
    ///
    /// # Errors
    /// As [`App::work`].
    pub(crate) async fn work_in<T: Send + 'static>(
        &self,
        pool: &Pool,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let app = self.clone();
        pool.run(move || work(&app)).await
    }
}
