//! `agnes serve`: the same over HTTP.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agnes_core::access::{Email, SCHEDULER_SECRET_MIN, SIGNING_KEY_MIN};
use agnes_core::config::Config;
use agnes_core::doctor::{Finding, Health};
use agnes_core::{Agnes, Error, Kind, Result, Secret, Settings, WorkerProgram};
use clap::Args;
use tokio::net::TcpListener;

use super::beside;
use super::environment::Environment;
use super::log;
use super::output::{Done, Output, count};
use super::server_settings::{self, listen, log_format, told};
use crate::http::{self, App, ServerSettings};

pub(super) const HELP: &str = "\
Serve what is published over HTTP, to whoever may see it.

A flag goes before a variable, a variable before the configuration (`server` in instance.yaml). \
The first line on standard error names the address. SIGTERM and Ctrl-C end it, once what runs has \
ended or `server.shutdown_seconds` (30) are over; a second time ends it at once.

Variables: JWT_SECRET_KEY signs tokens (made once and kept in the state folder when unset); \
SEED_ADMIN_EMAIL and SEED_ADMIN_PASSWORD make sure that there is an admin; SCHEDULER_API_TOKEN is \
the scheduler's secret (32 characters at least); DOMAIN says that the server is reached over HTTPS; \
CORS_ORIGINS and AGNES_TRUSTED_PROXIES are lists with commas; AGNES_AUTH_RATELIMIT_ENABLED=0 counts \
no attempts to sign in; AGNES_SKIP_CACHE_WARMUP=1 asks nothing about remote tables at the start; \
SMTP_HOST, SMTP_PORT, SMTP_TLS (starttls, tls or none), SMTP_USER, \
SMTP_PASSWORD and SMTP_FROM say who carries mail; AGNES_HOME_ROUTE is where a browser goes that has \
signed in; LOCAL_DEV_MODE=1 makes every request that of LOCAL_DEV_USER_EMAIL, on this \
machine alone; AGNES_LOG says what is logged, as in `debug` or `agnes_server=warn`, AGNES_LOG_FORMAT \
in which form (text or json); AGNES_METRICS_LISTEN shows metrics without a token on an address of \
its own.";

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where it listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", env = "AGNES_LISTEN", value_parser = address)]
    listen: Option<SocketAddr>,
    /// The configuration, in the place of instance.yaml in CONFIG_DIR
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How far statements stand back behind everything else that a server does.
const NICE: u8 = 10;

/// The variables that decide how remote systems are reached: where extensions lie, which proxy leads
/// there, whose certificates are believed.
const REMOTE: &[&str] = &[
    "HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The settings of a server: its statements stand back, and run in processes of their own.
pub(super) fn settings(
    mut settings: Settings,
    config: &Config,
    environment: &Environment,
) -> Result<Settings> {
    if config.query.nice.is_none() {
        settings.query.nice = NICE;
    }
    let mut program = WorkerProgram::this([super::WORKER])?;
    let given = |names: &[&str]| {
        let set = names.iter().filter_map(|name| Some((*name, environment.get(name)?)));
        set.map(|(name, value)| (name.into(), value.into())).collect()
    };
    // Where the loader finds the engine of a development build.
    program.environment = given(&["LD_LIBRARY_PATH"]);
    program.remote_environment = given(REMOTE);
    settings.workers = config.workers(program);
    Ok(settings)
}

/// What keeps statements in, for whoever starts it.
///
/// # Errors
/// `Unavailable` when nothing does.
fn workers(found: Vec<Finding>) -> Result<Vec<String>> {
    let line = |Finding { about, health, seen, cure }: Finding| match (health, cure) {
        (Health::Problem, _) => Err(Error::new(Kind::Unavailable, seen)),
        (_, Some(cure)) => Ok(format!("warning: {seen}; {cure}")),
        (_, None) => Ok(format!("  {about:16} {seen}")),
    };
    found.into_iter().map(line).collect()
}

/// An address with a port; `localhost` is this machine's.
pub(super) fn address(text: &str) -> std::result::Result<SocketAddr, String> {
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    named
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| "it is an address with a port, as in 127.0.0.1:8000 or [::]:8000".to_string())
}

impl Serve {
    /// The configuration that it is to have.
    pub(super) fn configuration(&self, environment: &Environment) -> Config {
        match &self.config {
            Some(file) => environment.config_in(file),
            None => environment.config(),
        }
    }

    pub(super) fn run(
        self,
        agnes: Agnes,
        config: &Config,
        environment: Environment,
        output: &Output,
    ) -> Result<Done> {
        if let Some(file) = self.config.as_ref().filter(|file| !file.exists()) {
            return Err(Error::new(
                Kind::NotFound,
                format!("there is no configuration `{}`", file.display()),
            ));
        }
        let listen = listen(self.listen, &config.server)?;
        let settings = server_settings::settings(config, &environment, listen.ip())?;
        let format = log_format(config, &environment)?;
        serve(agnes, settings, listen, format, environment, output, |_, _| Ok(()))
    }
}

/// Serves until it is told to end. `ready` is called once it listens, with where others reach it.
pub(super) fn serve(
    agnes: Agnes,
    settings: ServerSettings,
    listen: SocketAddr,
    format: log::LogFormat,
    environment: Environment,
    output: &Output,
    ready: impl FnOnce(&Agnes, &str) -> Result<()>,
) -> Result<Done> {
    http::take_small_pages();
    let filter = log::filter(environment.get("AGNES_LOG").as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Sockets are looked at after so many pieces of work: one may be a quarter of a megabyte of
        // somebody's download, behind which nobody's small request should stand for long.
        .event_interval(8)
        .global_queue_interval(8)
        .thread_name("agnes-http")
        .on_thread_start(http::run_soon)
        .build()
        .map_err(|e| Error::new(Kind::Unavailable, format!("no threads can be had: {e}")))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.map_err(|e| {
            let kind = match e.kind() {
                std::io::ErrorKind::AddrInUse => Kind::Conflict,
                _ => Kind::Unavailable,
            };
            let cure = match kind {
                Kind::Conflict => "; another --listen helps, and port 0 takes a free one",
                _ => "",
            };
            Error::new(kind, format!("can't listen on {listen}: {e}{cure}"))
        })?;
        http::raise_descriptors();
        let address = listener
            .local_addr()
            .map_err(|e| Error::new(Kind::Unavailable, format!("can't listen: {e}")))?;
        let agnes = Arc::new(agnes);
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let settings = match settings.public_url.is_empty() {
            true => ServerSettings { public_url: format!("{scheme}://{address}"), ..settings },
            false => settings,
        };
        let mut shown = told(&settings, &agnes);
        let trying = agnes.clone();
        let trying = std::thread::spawn(move || trying.examine_workers());
        let app = App::new(agnes.clone(), settings)?;
        let found = trying.join();
        let found = found.map_err(|_| Error::new(Kind::Internal, "no worker can be tried"))?;
        shown.extend(workers(found)?);
        seed(&app, &environment)?;
        let state = agnes.layout().state().to_path_buf();
        let held = agnes.clone();
        let environment_told = environment.clone();
        let skips_warm_up = environment.get("AGNES_SKIP_CACHE_WARMUP").as_deref() == Some("1");
        let work = move |arguments: Vec<OsString>, output: &Output| {
            super::run_beside(arguments, &held, &environment, output)
        };
        let _listening = beside::listen(&state, work)?;
        let (told_to_end, told_again) = ended()?;
        output.note(format_args!("listening on {scheme}://{address}"));
        shown.iter().for_each(|line| output.note(line));
        ready(&agnes, &app.settings.public_url)?;
        warnings(&app, &environment_told).iter().for_each(|line| output.note(line));
        let _telling = log::begin(format, filter, &environment_told)?;
        if !skips_warm_up {
            app.warm_up()?;
        }
        let left = tokio::select! {
            left = http::serve(listener, app.clone(), told_to_end) => left?,
            () = told_again => app.connections.counts().at_work,
        };
        if left > 0 {
            output.note(format_args!("warning: cut off: {}", count(left, "request")));
        }
        // Nothing of the audit log waits for a thread that won't run any more.
        app.access.flush()
    })?;
    // Whoever is still at work is left.
    runtime.shutdown_timeout(Duration::from_millis(100));
    agnes_core::sync::end_programs();
    Ok(Done::Whole)
}

/// Waits until somebody wants the server to end, and until she says so again. From the moment of the
/// call on it is noticed.
fn ended() -> Result<(impl Future<Output = ()>, impl Future<Output = ()>)> {
    use tokio::signal::unix::{SignalKind, signal};
    let unheard = |e| Error::new(Kind::Unavailable, format!("signals can't be listened to: {e}"));
    let mut terminated = signal(SignalKind::terminate()).map_err(unheard)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(unheard)?;
    let (told, heard) = tokio::sync::mpsc::channel::<()>(1);
    let (told_again, heard_again) = tokio::sync::mpsc::channel::<()>(1);
    tokio::spawn(async move {
        for told in [told, told_again] {
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
            let _ = told.send(()).await;
        }
        std::future::pending::<()>().await;
    });
    let wait = |mut heard: tokio::sync::mpsc::Receiver<()>| async move {
        heard.recv().await;
    };
    Ok((wait(heard), wait(heard_again)))
}

/// What somebody should know who has just started it.
fn warnings(app: &App, environment: &Environment) -> Vec<String> {
    let mut lines = Vec::new();
    if app.access.is_new() {
        lines.push(
            "warning: there is no admin, and whoever calls /auth/bootstrap first becomes one; \
             `agnes user add EMAIL --admin` or SEED_ADMIN_EMAIL makes one"
                .to_string(),
        );
    }
    if app.access.has_weak_key() {
        lines.push(format!(
            "warning: JWT_SECRET_KEY has fewer than {SIGNING_KEY_MIN} characters and may be guessed"
        ));
    }
    let scheduler = environment.get("SCHEDULER_API_TOKEN");
    if scheduler.is_some_and(|secret| secret.len() < SCHEDULER_SECRET_MIN) {
        lines.push(format!(
            "warning: SCHEDULER_API_TOKEN has fewer than {SCHEDULER_SECRET_MIN} characters, so \
             that nobody may use it"
        ));
    }
    lines
}

/// The admins that the settings ask for.
fn seed(app: &App, environment: &Environment) -> Result<()> {
    if let Some(email) = environment.get("SEED_ADMIN_EMAIL") {
        let password = environment.get("SEED_ADMIN_PASSWORD").map(Secret::new);
        let email = Email::parse(&email)?;
        app.access.seed_admin(&email, Some("Admin"), password.as_ref())?;
    }
    if let Some(email) = &app.settings.dev_user {
        app.access.seed_admin(email, Some("Developer"), None)?;
    }
    Ok(())
}
