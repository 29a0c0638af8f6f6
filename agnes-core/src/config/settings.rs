//! The sections that this library reads, and the settings that they become.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Config;
use super::read::{
    bytes, flag, list, memory, nice, number, percent, port, positive, shown, text, word,
};
use crate::access::TablePolicy;
use crate::orchestrator::AttachPolicy;
use crate::sync::{Runs, SourceSettings};
use crate::worker::{WorkerProgram, WorkerSettings};
use crate::{Result, Schedule, Secret, Settings};

/// `instance`: what the installation is called.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceConfig {
    /// Its name. Required.
    #[serde(deserialize_with = "text")]
    pub name: Option<String>,
    /// Where a browser goes that has signed in, as in `/dashboard`.
    #[serde(deserialize_with = "text")]
    pub home_route: Option<String>,
}

/// `server`: where it serves.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerConfig {
    /// The address that it listens on. Required.
    #[serde(deserialize_with = "text")]
    pub host: Option<String>,
    /// The port that it listens on; 8000 when absent, and a free one for 0.
    #[serde(deserialize_with = "port")]
    pub port: Option<u16>,
    /// The name under which others reach it. Required.
    #[serde(deserialize_with = "text")]
    pub hostname: Option<String>,
    /// Threads on which requests read and write.
    #[serde(deserialize_with = "positive")]
    pub threads: Option<usize>,
    /// The most rows of a query's answer.
    #[serde(deserialize_with = "positive")]
    pub max_query_rows: Option<u64>,
    /// Proxies that say where a request comes from: addresses, or networks as in `10.0.0.0/8`.
    #[serde(deserialize_with = "list")]
    pub trusted_proxies: Option<Vec<String>>,
    /// The pages of other origins that may call it.
    #[serde(deserialize_with = "list")]
    pub cors_origins: Option<Vec<String>>,
    /// Who sends the bytes of a download: `own`, `accel` (nginx) or `sendfile` (Apache).
    #[serde(deserialize_with = "text")]
    pub send_file: Option<String>,
    /// Threads on which downloads are read that aren't in memory.
    #[serde(deserialize_with = "positive")]
    pub download_threads: Option<usize>,
    /// Connections at the same time.
    #[serde(deserialize_with = "positive")]
    pub max_connections: Option<usize>,
    /// The most bytes of a request's body, where a route has no limit of its own.
    #[serde(deserialize_with = "positive")]
    pub max_body_bytes: Option<usize>,
    /// How long the head of a request may take.
    #[serde(deserialize_with = "positive")]
    pub head_seconds: Option<u64>,
    /// How long a request's body may take before each second has to bring 16 KiB.
    #[serde(deserialize_with = "positive")]
    pub body_seconds: Option<u64>,
    /// How long a connection may ask nothing.
    #[serde(deserialize_with = "positive")]
    pub idle_seconds: Option<u64>,
    /// How long a client may take nothing of what it asked for.
    #[serde(deserialize_with = "positive")]
    pub stall_seconds: Option<u64>,
    /// How long what runs may take once it was told to end.
    #[serde(deserialize_with = "positive")]
    pub shutdown_seconds: Option<u64>,
    /// The certificate with which it serves HTTPS: a PEM file with the whole chain.
    #[serde(deserialize_with = "text")]
    pub tls_certificate: Option<String>,
    /// The certificate's private key, a PEM file.
    #[serde(deserialize_with = "text")]
    pub tls_key: Option<String>,
    /// Where it shows its metrics to whoever can reach that address.
    #[serde(deserialize_with = "text")]
    pub metrics_listen: Option<String>,
    /// How lines of the log look: `text` or `json`.
    #[serde(deserialize_with = "text")]
    pub log_format: Option<String>,
}

/// `auth`: who may sign in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// The domain of those who sign in with Google, or several with commas. Required.
    #[serde(deserialize_with = "text")]
    pub allowed_domain: Option<String>,
    /// What signs web sessions.
    pub webapp_secret_key: Option<Secret>,
    /// How they may: `password`, `email`; all of them when absent.
    #[serde(deserialize_with = "list")]
    pub providers: Option<Vec<String>>,
}

/// `email`: who carries the server's mail.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EmailConfig {
    /// The mail server; without one nothing is mailed.
    #[serde(deserialize_with = "text")]
    pub smtp_host: Option<String>,
    /// Its port; the usual one of the way when absent.
    #[serde(deserialize_with = "port")]
    pub smtp_port: Option<u16>,
    /// How the way there is kept from others: `starttls`, `tls` or `none`; `starttls` when absent.
    #[serde(deserialize_with = "text")]
    pub smtp_tls: Option<String>,
    /// Who the server is to the mail server.
    #[serde(deserialize_with = "text")]
    pub smtp_user: Option<String>,
    /// How it shows that.
    pub smtp_password: Option<Secret>,
    /// The address that the mail comes from.
    #[serde(deserialize_with = "text")]
    pub from_address: Option<String>,
    /// What it is called.
    #[serde(deserialize_with = "text")]
    pub from_name: Option<String>,
}

/// `api`: what requests may take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiConfig {
    /// What scans may take.
    pub scan: ScanConfig,
}

/// `api.scan`: what scans may take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ScanConfig {
    /// The most rows that a scan may ask for.
    #[serde(deserialize_with = "positive")]
    pub max_limit: Option<u64>,
    /// The most bytes of a scan's rows.
    #[serde(deserialize_with = "bytes")]
    pub max_result_bytes: Option<u64>,
    /// Scans of one user at the same time.
    #[serde(deserialize_with = "positive")]
    pub max_concurrent_per_user: Option<u64>,
    /// Bytes of one user's scans in a day (UTC).
    #[serde(deserialize_with = "bytes")]
    pub max_daily_bytes_per_user: Option<u64>,
}

/// `data_source`: the one source of an older installation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DataSourceConfig {
    /// `keboola`, `bigquery`, `local`, …
    #[serde(rename = "type", deserialize_with = "text")]
    pub kind: Option<String>,
    /// What its connector is told.
    pub keboola: Value,
    /// What its connector is told.
    pub bigquery: Value,
}

/// `access`: what decides who may see a table.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AccessConfig {
    /// `grants`, or `grants_and_legacy` as older installations have it.
    #[serde(deserialize_with = "word")]
    pub table_policy: Option<TablePolicy>,
}

/// `query`: what queries may take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueryConfig {
    /// The time that a caller waits for a statement's rows, seconds.
    #[serde(deserialize_with = "positive")]
    pub time_seconds: Option<u64>,
    /// The engine's buffers, MiB.
    #[serde(deserialize_with = "memory")]
    pub memory_mb: Option<u64>,
    /// Worker threads of a statement.
    #[serde(deserialize_with = "positive")]
    pub threads: Option<u32>,
    /// Statements of one principal at the same time.
    #[serde(deserialize_with = "positive")]
    pub running_each: Option<usize>,
    /// Statements at the same time in all.
    #[serde(deserialize_with = "positive")]
    pub running: Option<usize>,
    /// How long a statement waits for its turn, seconds.
    #[serde(deserialize_with = "number")]
    pub patience_seconds: Option<u64>,
    /// Sessions that are kept ready.
    #[serde(deserialize_with = "number")]
    pub kept_sessions: Option<usize>,
    /// How far statements stand back behind other work of the machine, 0 to 19; 10 beside a server
    /// when absent.
    #[serde(deserialize_with = "nice")]
    pub nice: Option<u8>,
    /// The processes in which a server's statements run.
    pub workers: WorkersConfig,
}

/// `query.workers`: the processes in which a server's statements run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkersConfig {
    /// Whether they do; when absent they do.
    #[serde(deserialize_with = "flag")]
    pub enabled: Option<bool>,
    /// The most at the same time, at work and ready.
    #[serde(deserialize_with = "positive")]
    pub most: Option<usize>,
    /// The most memory that they have together, MiB; three quarters of the machine's when absent.
    #[serde(deserialize_with = "memory")]
    pub memory_mb: Option<u64>,
    /// How long one that has nothing to do stays, seconds.
    #[serde(deserialize_with = "number")]
    pub idle_seconds: Option<u64>,
    /// After how many statements one is replaced.
    #[serde(deserialize_with = "positive")]
    pub statements: Option<u64>,
    /// The most memory of one that has nothing to do, MiB.
    #[serde(deserialize_with = "positive")]
    pub idle_memory_mb: Option<u64>,
    /// Whether statements run although the system can't keep a worker in.
    #[serde(deserialize_with = "flag")]
    pub without_walls: Option<bool>,
}

/// `rebuild`: what a rebuild and an ingest may take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RebuildConfig {
    /// The engine's buffers, MiB.
    #[serde(deserialize_with = "memory")]
    pub memory_mb: Option<u64>,
    /// Worker threads.
    #[serde(deserialize_with = "positive")]
    pub threads: Option<u32>,
    /// How long an old generation is kept for outside readers, seconds.
    #[serde(deserialize_with = "number")]
    pub grace_seconds: Option<u64>,
}

/// `metadata`: how old what is known of remote tables may be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MetadataConfig {
    /// The time from one refresh to the next, seconds.
    #[serde(deserialize_with = "number")]
    pub refresh_interval_seconds: Option<u64>,
    /// Tables that are asked about at once.
    #[serde(deserialize_with = "positive")]
    pub concurrency: Option<usize>,
    /// The same at a server's start.
    #[serde(deserialize_with = "positive")]
    pub warmup_concurrency: Option<usize>,
    /// How long a provider may take for one table, seconds.
    #[serde(deserialize_with = "positive")]
    pub timeout_seconds: Option<u64>,
}

/// `profiler`: how profiles are made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProfilerConfig {
    /// The most rows that are looked at.
    #[serde(deserialize_with = "positive")]
    pub sample_size: Option<u64>,
    /// The most different values of a column whose values are listed.
    #[serde(deserialize_with = "number")]
    pub max_categorical_distinct: Option<u64>,
    /// Values that are listed.
    #[serde(deserialize_with = "shown")]
    pub top_values_limit: Option<usize>,
    /// Parts of a histogram of numbers.
    #[serde(deserialize_with = "shown")]
    pub histogram_bins: Option<usize>,
    /// Rows that are shown.
    #[serde(deserialize_with = "shown")]
    pub sample_rows_limit: Option<usize>,
    /// Values that are shown of a column.
    #[serde(deserialize_with = "shown")]
    pub sample_values_limit: Option<usize>,
    /// Percent of missing values above which somebody should act.
    #[serde(deserialize_with = "percent")]
    pub alert_high_missing_pct: Option<f64>,
    /// Percent of missing values above which somebody should know.
    #[serde(deserialize_with = "percent")]
    pub alert_missing_pct: Option<f64>,
    /// Percent of one value above which somebody should know.
    #[serde(deserialize_with = "percent")]
    pub alert_imbalance_pct: Option<f64>,
    /// Different texts above which somebody should know.
    #[serde(deserialize_with = "number")]
    pub alert_high_cardinality: Option<u64>,
    /// The engine's buffers, MiB.
    #[serde(deserialize_with = "memory")]
    pub memory_mb: Option<u64>,
    /// Worker threads.
    #[serde(deserialize_with = "positive")]
    pub threads: Option<u32>,
}

/// `remote_query`: what the rows of remote statements may take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RemoteQueryConfig {
    /// The most rows of one remote statement.
    #[serde(deserialize_with = "positive")]
    pub max_bq_registration_rows: Option<u64>,
    /// The most that the remote rows of a session take, MiB.
    #[serde(deserialize_with = "positive")]
    pub max_memory_mb: Option<u64>,
    /// The most rows of a result.
    #[serde(deserialize_with = "positive")]
    pub max_result_rows: Option<u64>,
    /// The most that a remote statement may read, MiB; 0 is no limit.
    #[serde(deserialize_with = "number")]
    pub max_scan_mb: Option<u64>,
    /// The time that a remote statement may take, seconds.
    #[serde(deserialize_with = "positive")]
    pub timeout_seconds: Option<u64>,
}

/// `sync`: how connectors run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncConfig {
    /// The folder of connectors that nobody has to configure.
    #[serde(deserialize_with = "text")]
    pub connectors_dir: Option<String>,
    /// The most time that a program may take, seconds.
    #[serde(deserialize_with = "positive")]
    pub timeout_seconds: Option<u64>,
    /// The same for those that nobody configures.
    #[serde(deserialize_with = "positive")]
    pub drop_in_timeout_seconds: Option<u64>,
    /// Connectors that run at the same time.
    #[serde(deserialize_with = "positive")]
    pub concurrency: Option<usize>,
    /// What runs an `extractor.py`.
    #[serde(deserialize_with = "text")]
    pub python: Option<String>,
}

/// `sources.<name>`: how one source is brought over.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceConfig {
    /// The connector, by name; the source's own name when neither this nor `command` is given.
    #[serde(deserialize_with = "text")]
    pub connector: Option<String>,
    /// A program with its arguments in the place of a connector: a list, or one text without any.
    #[serde(deserialize_with = "list")]
    pub command: Option<Vec<String>>,
    /// When.
    #[serde(deserialize_with = "word")]
    pub schedule: Option<Schedule>,
    /// The most time that a program may take, seconds.
    #[serde(deserialize_with = "positive")]
    pub timeout_seconds: Option<u64>,
    /// What the connector is told.
    pub config: Value,
}

impl SourceConfig {
    /// What brings it over.
    fn runs(&self, name: &str) -> Runs {
        match (&self.command, &self.connector) {
            (Some(command), _) => Runs::Program(command.clone()),
            (None, Some(connector)) => Runs::Connector(connector.clone()),
            (None, None) => Runs::Connector(name.to_string()),
        }
    }
}

/// Puts what is configured into the place of a default.
fn set<T>(slot: &mut T, configured: Option<T>) {
    if let Some(value) = configured {
        *slot = value;
    }
}

impl Config {
    /// The workers of a server whose statements run in this program; none where the configuration
    /// says so.
    pub fn workers(&self, program: WorkerProgram) -> Option<WorkerSettings> {
        let of = &self.query.workers;
        if of.enabled == Some(false) {
            return None;
        }
        let mut workers = WorkerSettings::new(program);
        set(&mut workers.most, of.most);
        set(&mut workers.memory_bytes, of.memory_mb.map(|n| n.saturating_mul(1 << 20)));
        set(&mut workers.idle, of.idle_seconds.map(Duration::from_secs));
        set(&mut workers.statements, of.statements);
        set(&mut workers.idle_memory_bytes, of.idle_memory_mb.map(|n| n.saturating_mul(1 << 20)));
        set(&mut workers.without_walls, of.without_walls);
        Some(workers)
    }

    /// The settings of a program that embeds the library: what is configured, and the defaults.
    ///
    /// # Errors
    /// `Invalid` when something wasn't understood, as [`Config::understood`].
    pub fn settings(&self) -> Result<Settings> {
        self.understood()?;
        let seconds = |n: Option<u64>| n.map(Duration::from_secs);
        let megabytes = |n: Option<u64>| n.map(|n| n.saturating_mul(1 << 20));
        let state_dir = Some(self.files.state_dir.clone());
        let mut settings = Settings { state_dir, ..Settings::default() };
        set(&mut settings.table_policy, self.access.table_policy);
        set(&mut settings.attach_policy, self.attach.clone().map(AttachPolicy::new));
        set(&mut settings.grace, seconds(self.rebuild.grace_seconds));
        set(&mut settings.limits.memory_bytes, megabytes(self.rebuild.memory_mb));
        set(&mut settings.limits.threads, self.rebuild.threads);
        let (query, of) = (&mut settings.query, &self.query);
        set(&mut query.time, seconds(of.time_seconds));
        set(&mut query.memory_bytes, megabytes(of.memory_mb));
        set(&mut query.threads, of.threads);
        set(&mut query.running_each, of.running_each);
        set(&mut query.running, of.running);
        set(&mut query.patience, seconds(of.patience_seconds));
        set(&mut query.kept, of.kept_sessions);
        set(&mut query.nice, of.nice);
        let (metadata, of) = (&mut settings.metadata, &self.metadata);
        let interval = seconds(of.refresh_interval_seconds.filter(|seconds| *seconds > 0));
        set(&mut metadata.interval, interval);
        set(&mut metadata.concurrency, of.concurrency.and_then(NonZeroUsize::new));
        let at_start = of.warmup_concurrency.and_then(NonZeroUsize::new);
        set(&mut metadata.warmup_concurrency, at_start);
        set(&mut metadata.timeout, seconds(of.timeout_seconds));
        let (profiler, of) = (&mut settings.profiler, &self.profiler);
        set(&mut profiler.sample_size, of.sample_size);
        set(&mut profiler.max_categorical_distinct, of.max_categorical_distinct);
        set(&mut profiler.top_values_limit, of.top_values_limit);
        set(&mut profiler.histogram_bins, of.histogram_bins);
        set(&mut profiler.sample_rows_limit, of.sample_rows_limit);
        set(&mut profiler.sample_values_limit, of.sample_values_limit);
        set(&mut profiler.alert_high_missing_pct, of.alert_high_missing_pct);
        set(&mut profiler.alert_missing_pct, of.alert_missing_pct);
        set(&mut profiler.alert_imbalance_pct, of.alert_imbalance_pct);
        set(&mut profiler.alert_high_cardinality, of.alert_high_cardinality);
        set(&mut profiler.memory_bytes, megabytes(of.memory_mb));
        set(&mut profiler.threads, of.threads);
        let (hybrid, of) = (&mut settings.hybrid, &self.remote_query);
        set(&mut hybrid.max_rows, of.max_bq_registration_rows);
        set(&mut hybrid.max_bytes, megabytes(of.max_memory_mb));
        set(&mut hybrid.max_result_rows, of.max_result_rows);
        set(&mut hybrid.time, seconds(of.timeout_seconds));
        if let Some(most) = megabytes(of.max_scan_mb) {
            hybrid.max_scan_bytes = (most > 0).then_some(most);
        }
        let (sync, of) = (&mut settings.sync, &self.sync);
        sync.base_dir = self.files.folder().to_path_buf();
        let connectors_dir = of.connectors_dir.as_ref();
        sync.connectors_dir = connectors_dir.map(|dir| self.files.folder().join(dir));
        set(&mut sync.timeout, seconds(of.timeout_seconds));
        set(&mut sync.drop_in_timeout, seconds(of.drop_in_timeout_seconds));
        set(&mut sync.concurrency, of.concurrency.and_then(NonZeroUsize::new));
        set(&mut sync.python, of.python.as_ref().map(PathBuf::from));
        let source = |(name, source): &(crate::SourceName, SourceConfig)| {
            let settings = SourceSettings {
                runs: source.runs(name.as_str()),
                schedule: source.schedule.clone(),
                timeout: seconds(source.timeout_seconds),
                config: source.config.clone(),
            };
            (name.clone(), settings)
        };
        sync.sources = self.sources.iter().map(source).collect::<BTreeMap<_, _>>();
        Ok(settings)
    }
}
