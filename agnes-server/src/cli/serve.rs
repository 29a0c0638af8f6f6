//! `agnes serve`: the same over HTTP.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agnes_core::access::Email;
use agnes_core::config::{Config, ServerConfig};
use agnes_core::{Agnes, Error, Kind, Result, Secret};
use clap::Args;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

use super::beside;
use super::environment::Environment;
use super::output::{Done, Output};
use crate::http::{App, Release, SendFile, ServerSettings, router};

pub(super) const HELP: &str = "\
Serve what is published over HTTP, to whoever may see it.

A flag goes before a variable, a variable before the configuration (`server` in instance.yaml). \
The first line on standard error names the address. SIGTERM and Ctrl-C end it, once what runs has \
ended or ten seconds are over.

Variables: JWT_SECRET_KEY signs tokens (made once and kept in the state folder when unset); \
SEED_ADMIN_EMAIL and SEED_ADMIN_PASSWORD make sure that there is an admin; SCHEDULER_API_TOKEN is \
the scheduler's secret (32 characters at least); DOMAIN says that the server is reached over HTTPS; \
CORS_ORIGINS and AGNES_TRUSTED_PROXIES are lists with commas; AGNES_AUTH_RATELIMIT_ENABLED=0 counts \
no attempts to sign in; LOCAL_DEV_MODE=1 makes every request that of LOCAL_DEV_USER_EMAIL, on this \
machine alone; AGNES_LOG says what is logged, as in `debug` or `agnes_server=warn`.";

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where it listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", env = "AGNES_LISTEN")]
    listen: Option<SocketAddr>,
    /// The configuration, in the place of instance.yaml in CONFIG_DIR
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How long what runs may take once the server was told to end.
const GRACE: Duration = Duration::from_secs(10);

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
        let settings = settings(&config.server, &environment, listen.ip())?;
        serve(agnes, settings, listen, environment, output, |_, _| Ok(()))
    }
}

/// Serves until it is told to end. `ready` is called once it listens, with where others reach it.
pub(super) fn serve(
    agnes: Agnes,
    settings: ServerSettings,
    listen: SocketAddr,
    environment: Environment,
    output: &Output,
    ready: impl FnOnce(&Agnes, &str) -> Result<()>,
) -> Result<Done> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("agnes-http")
        .build()
        .map_err(|e| Error::new(Kind::Unavailable, format!("no threads can be had: {e}")))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.map_err(|e| {
            let kind = match e.kind() {
                std::io::ErrorKind::AddrInUse => Kind::Conflict,
                _ => Kind::Unavailable,
            };
            Error::new(kind, format!("can't listen on {listen}: {e}"))
        })?;
        let address = listener
            .local_addr()
            .map_err(|e| Error::new(Kind::Unavailable, format!("can't listen: {e}")))?;
        let agnes = Arc::new(agnes);
        let settings = match settings.public_url.is_empty() {
            true => ServerSettings { public_url: format!("http://{address}"), ..settings },
            false => settings,
        };
        let shown = told(&settings, &agnes);
        let app = App::new(agnes.clone(), settings)?;
        seed(&app, &environment)?;
        let state = agnes.layout().state().to_path_buf();
        let held = agnes.clone();
        let work = move |arguments: Vec<OsString>, output: &Output| {
            super::run_beside(arguments, &held, &environment, output)
        };
        let _listening = beside::listen(&state, work)?;
        output.note(format_args!("listening on http://{address}"));
        shown.iter().for_each(|line| output.note(line));
        ready(&agnes, &app.settings.public_url)?;
        let _log = log();
        let service = router(app.clone()).into_make_service_with_connect_info::<SocketAddr>();
        let (told, mut ending) = tokio::sync::watch::channel(false);
        let end = async move {
            ended().await;
            let _ = told.send(true);
        };
        let serving = axum::serve(listener, service).with_graceful_shutdown(end);
        let late = async {
            let _ = ending.wait_for(|ending| *ending).await;
            tokio::time::sleep(GRACE).await;
        };
        let done = tokio::select! {
            served = std::future::IntoFuture::into_future(serving) => served.map_err(|e| {
                Error::new(Kind::Unavailable, format!("the server can't go on: {e}"))
            }),
            () = late => Ok(()),
        };
        // Nothing of the audit log waits for a thread that won't run any more.
        app.access.flush()?;
        done
    })?;
    // Whoever is still at work is left.
    runtime.shutdown_timeout(Duration::from_millis(100));
    agnes_core::sync::end_programs();
    Ok(Done::Whole)
}

/// Waits until somebody wants the server to end.
async fn ended() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// Where it listens: the flag or its variable, or what is configured.
fn listen(given: Option<SocketAddr>, config: &ServerConfig) -> Result<SocketAddr> {
    if let Some(given) = given {
        return Ok(given);
    }
    let host = config.host.as_deref().unwrap_or("127.0.0.1");
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    let host: IpAddr = host.parse().map_err(|_| {
        Error::new(
            Kind::Invalid,
            format!("`server.host` is an address, as in `0.0.0.0`, not `{}`", host.escape_debug()),
        )
    })?;
    Ok(SocketAddr::new(host, config.port.unwrap_or(8000)))
}

fn settings(
    config: &ServerConfig,
    environment: &Environment,
    address: IpAddr,
) -> Result<ServerSettings> {
    let list = |name: &str, configured: &Option<Vec<String>>| match environment.get(name) {
        Some(text) => text.split(',').map(|one| one.trim().to_string()).collect(),
        None => configured.clone().unwrap_or_default(),
    };
    let proxies: Vec<String> = list("AGNES_TRUSTED_PROXIES", &config.trusted_proxies);
    let usual = ServerSettings::default();
    Ok(ServerSettings {
        threads: config.threads.unwrap_or(usual.threads),
        max_rows: config.max_query_rows.unwrap_or(usual.max_rows),
        secure_cookies: environment.get("DOMAIN").is_some(),
        trusted_proxies: proxies.iter().map(|text| network(text)).collect::<Result<_>>()?,
        rate_limits: environment.get("AGNES_AUTH_RATELIMIT_ENABLED").as_deref() != Some("0"),
        dev_user: dev_user(environment, address)?,
        public_url: match environment.get("DOMAIN") {
            Some(domain) => format!("https://{domain}"),
            None => String::new(),
        },
        cors_origins: list("CORS_ORIGINS", &config.cors_origins),
        send_file: send_file(config.send_file.as_deref())?,
        release: Release {
            channel: environment.get("AGNES_CHANNEL"),
            image_tag: environment.get("AGNES_IMAGE_TAG"),
            commit_sha: environment.get("AGNES_COMMIT_SHA"),
            deployed_at: environment.get("AGNES_DEPLOYED_AT"),
        },
        ..usual
    })
}

/// An address, or a network.
fn network(text: &str) -> Result<IpNet> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map_err(|_| {
        Error::new(
            Kind::Invalid,
            format!(
                "a trusted proxy is an address or a network, as in `10.0.0.0/8`, not `{}`",
                text.escape_debug()
            ),
        )
    })
}

fn send_file(text: Option<&str>) -> Result<SendFile> {
    match text {
        None | Some("own") => Ok(SendFile::Own),
        Some("accel") => Ok(SendFile::Accel),
        Some("sendfile") => Ok(SendFile::Sendfile),
        Some(other) => Err(Error::new(
            Kind::Invalid,
            format!(
                "`server.send_file` is `own`, `accel` or `sendfile`, not `{}`",
                other.escape_debug()
            ),
        )),
    }
}

/// The user that every request is, where only this machine's can come.
fn dev_user(environment: &Environment, address: IpAddr) -> Result<Option<Email>> {
    if environment.get("LOCAL_DEV_MODE").as_deref() != Some("1") {
        return Ok(None);
    }
    if !address.is_loopback() {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "LOCAL_DEV_MODE lets everybody in, so that it takes a loopback address; {address} \
                 is none"
            ),
        ));
    }
    let email = environment.get("LOCAL_DEV_USER_EMAIL");
    Email::parse(email.as_deref().unwrap_or("dev@localhost")).map(Some)
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

/// The settings, as they are, without secrets.
fn told(settings: &ServerSettings, agnes: &Agnes) -> Vec<String> {
    let proxies: Vec<String> = settings.trusted_proxies.iter().map(ToString::to_string).collect();
    let or_none = |texts: &[String]| match texts {
        [] => "none".to_string(),
        texts => texts.join(", "),
    };
    let mut lines = vec![
        format!("  data folder      {}", agnes.layout().root().display()),
        format!("  threads          {}", settings.threads),
        format!("  rows of a query  {} at most", settings.max_rows),
        format!("  trusted proxies  {}", or_none(&proxies)),
        format!("  other origins    {}", or_none(&settings.cors_origins)),
        format!(
            "  cookies          {}",
            if settings.secure_cookies { "HTTPS only" } else { "also over HTTP" }
        ),
    ];
    if !settings.rate_limits {
        lines.push("warning: attempts to sign in aren't counted".to_string());
    }
    if let Some(user) = &settings.dev_user {
        lines.push(format!("warning: every request is {user}'s (LOCAL_DEV_MODE)"));
    }
    lines
}

/// Writes the log to standard error, by a thread of its own: where nobody reads it lines are lost,
/// and no request waits. What waits is written when the guard goes.
fn log() -> WorkerGuard {
    let filter = EnvFilter::try_from_env("AGNES_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // A service that has a log of its own keeps it.
    let _ = log.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init();
    guard
}
