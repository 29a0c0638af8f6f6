//! How a server is set up.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agnes_core::access::Email;
use agnes_core::config::{Config, Files};
use agnes_core::{Result, Secret};
use ipnet::IpNet;

use super::serve::{ConnectionSettings, TlsFiles};

/// How a server is set up. Settings of the core are the handle's own.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Threads on which the core works, where it is asked for no more than what it knows.
    pub threads: usize,
    /// Threads on which files are opened and read that aren't in memory.
    pub download_threads: usize,
    /// The most rows of a query's answer.
    pub max_rows: u64,
    /// The most bytes of a request's body, where a route has no limit of its own.
    pub max_body: usize,
    /// Whether cookies are sent over HTTPS only.
    pub secure_cookies: bool,
    /// Proxies that say where a request comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether attempts to sign in are counted.
    pub rate_limits: bool,
    /// How people may sign in; the routes of other ways aren't there.
    pub providers: Vec<Provider>,
    /// Who carries the server's mail. Without one, links are told to admins alone.
    pub mail: Option<MailSettings>,
    /// Where a browser goes that has signed in: a path on this host. This server's `/dashboard`
    /// when absent.
    pub home_route: Option<String>,
    /// The user that every request is, on a developer's machine.
    pub dev_user: Option<Email>,
    /// Where others reach the server, without a slash at its end, as links name it:
    /// `https://data.example.com`, or with the path below which another service mounts it.
    pub public_url: String,
    /// The pages of other origins that may call the server with their own token.
    pub cors_origins: Vec<String>,
    /// How a proxy in front sends files in the server's place.
    pub send_file: SendFile,
    /// How old a table's data may be before the health report calls it stale.
    pub stale_after: Duration,
    /// What scans may take.
    pub scans: ScanSettings,
    /// The kind of the one source of an older installation.
    pub data_source: String,
    /// The configuration that admins may change; without one they can't.
    pub configuration: Option<Configuration>,
    /// What Jira signs its webhooks with.
    pub jira_webhook_secret: Option<Secret>,
    /// What whoever deployed the server says of it.
    pub release: Release,
    /// What connections may take, where [`serve`](crate::serve) serves.
    pub connections: ConnectionSettings,
    /// Where [`serve`](crate::serve) shows its metrics to whoever can reach that address; to admins
    /// alone, on its own address, without.
    pub metrics_listen: Option<SocketAddr>,
    /// The certificate with which [`serve`](crate::serve) serves; plain HTTP without one.
    pub tls: Option<TlsFiles>,
}

/// The configuration that a server was started with.
#[derive(Clone)]
pub struct Configuration {
    /// Where it lies.
    pub files: Files,
    /// What variables stand for in it.
    pub variables: Variables,
    /// Whether the server could start with another one in its place.
    pub fits: Fits,
}

/// Says what is wrong with a configuration.
pub type Fits = Arc<dyn Fn(&Config) -> Result<()> + Send + Sync>;

/// Gives the values of variables.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

impl std::fmt::Debug for Configuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Configuration").field("files", &self.files).finish_non_exhaustive()
    }
}

/// A way to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// With a password.
    Password,
    /// With a link that comes by mail.
    Email,
}

impl Provider {
    /// All of them.
    pub const ALL: [Provider; 2] = [Provider::Password, Provider::Email];
}

/// Who carries the server's mail.
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// The mail server.
    pub host: String,
    /// Its port; the usual one of the way when absent.
    pub port: Option<u16>,
    /// How the way there is kept from others.
    pub security: MailSecurity,
    /// Who the server is there, and how it shows that.
    pub credentials: Option<(String, Secret)>,
    /// The address that the mail comes from, as in `agnes@example.com`.
    pub from: String,
    /// What it is called.
    pub from_name: Option<String>,
}

/// How the way to a mail server is kept from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MailSecurity {
    /// The connection goes over to TLS before anything is said. Port 587.
    #[default]
    StartTls,
    /// TLS from the first byte on. Port 465.
    Tls,
    /// Not at all. Port 25.
    None,
}

/// What a scan, and each user's scans together, may take.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanSettings {
    /// The most rows that a scan may ask for.
    pub max_limit: u64,
    /// The most bytes of a scan's rows, as Arrow holds them; the rest is left out.
    pub max_result_bytes: u64,
    /// Scans of one user at the same time.
    pub max_concurrent: u64,
    /// Bytes of one user's scans in a day (UTC).
    pub max_daily_bytes: u64,
}

impl Default for ScanSettings {
    /// 10,000,000 rows, 2 GiB, 5 at a time, 50 GiB a day.
    fn default() -> Self {
        ScanSettings {
            max_limit: 10_000_000,
            max_result_bytes: 2 << 30,
            max_concurrent: 5,
            max_daily_bytes: 50 << 30,
        }
    }
}

/// What whoever deployed a server says of it. Told to anybody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Release {
    /// The channel that it was released in.
    pub channel: Option<String>,
    /// The container image.
    pub image_tag: Option<String>,
    /// The commit that it was built from.
    pub commit_sha: Option<String>,
    /// When it was deployed.
    pub deployed_at: Option<String>,
}

/// Who sends the bytes of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SendFile {
    /// This server.
    #[default]
    Own,
    /// nginx, told by `X-Accel-Redirect`.
    Accel,
    /// Apache and others, told by `X-Sendfile`.
    Sendfile,
}

impl Default for ServerSettings {
    /// 32 threads, 16 for downloads, 10,000 rows, 2 MiB; nobody is trusted.
    fn default() -> Self {
        ServerSettings {
            threads: 32,
            download_threads: 16,
            max_rows: 10_000,
            max_body: 2 << 20,
            secure_cookies: false,
            trusted_proxies: Vec::new(),
            rate_limits: true,
            providers: Provider::ALL.to_vec(),
            mail: None,
            home_route: None,
            dev_user: None,
            public_url: String::new(),
            cors_origins: Vec::new(),
            send_file: SendFile::Own,
            stale_after: Duration::from_secs(24 * 3600),
            scans: ScanSettings::default(),
            data_source: "local".to_string(),
            configuration: None,
            jira_webhook_secret: None,
            release: Release::default(),
            connections: ConnectionSettings::default(),
            metrics_listen: None,
            tls: None,
        }
    }
}

impl ServerSettings {
    /// Whether a request's immediate peer may say for whom it asks.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_proxies.iter().any(|net| net.contains(&peer))
    }
}
