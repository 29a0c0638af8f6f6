//! What a server counts, as Prometheus reads it (OpenMetrics text).

use std::borrow::Cow;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use agnes_core::access::Principal;
use agnes_core::{Error, Kind, Result, Timestamp, VERSION};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::app::Inner;
use super::process::Process;

/// How the text is called.
pub(crate) const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The upper bounds of the times that are told apart, seconds.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What is counted of requests. Routes are patterns: there are as many as the API has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: Cow<'static, str>,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: Cow<'static, str>,
    route: String,
    status: u16,
}

/// What is counted as it happens; the rest is looked up when somebody asks.
#[derive(Clone)]
pub(crate) struct Meters {
    requests: Family<Answered, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
}

impl Meters {
    pub(crate) fn new() -> Meters {
        let histogram: fn() -> Histogram = || Histogram::new(BOUNDS);
        Meters { requests: Family::default(), seconds: Family::new_with_constructor(histogram) }
    }

    /// Counts a request whose answer begins.
    pub(crate) fn count(&self, method: &str, route: Option<&str>, status: u16, took: Duration) {
        // What anybody may make up is one.
        let method = match method {
            "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => method,
            _ => "other",
        };
        let route = route.unwrap_or("other");
        let label = Answered { method: method.to_string().into(), route: route.into(), status };
        self.requests.get_or_create(&label).inc();
        let label = Route { method: label.method, route: label.route };
        self.seconds.get_or_create(&label).observe(took.as_secs_f64());
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InPool {
    pool: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

/// A registry that takes values as they are now.
struct Now(Registry);

impl Now {
    fn put(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.0.register(name, help, metric);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        let gauge: Gauge<u64, AtomicU64> = Gauge::default();
        gauge.set(value);
        self.put(name, help, gauge);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        self.put(name, help, counter);
    }

    /// One gauge for each of some states.
    fn gauges<L>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (L, u64)>)
    where
        L: EncodeLabelSet + Clone + std::hash::Hash + Eq + std::fmt::Debug + Send + Sync + 'static,
    {
        let family: Family<L, Gauge<u64, AtomicU64>> = Family::default();
        for (label, value) in values {
            family.get_or_create(&label).set(value);
        }
        self.put(name, help, family);
    }
}

/// Everything that is known now.
pub(crate) fn text(app: &Inner) -> Result<String> {
    let mut now = Now(Registry::default());
    let version = vec![("version", VERSION)];
    now.put("agnes_build", "The version that runs", Info::new(version));
    requests(app, &mut now);
    work(app, &mut now);
    // What can't be had is left out: the rest is most needed then.
    let readable = data(app, &mut now).inspect_err(|error| {
        tracing::warn!(error = error.message(), "metrics lack what is published");
    });
    now.gauge(
        "agnes_published_readable",
        "Whether what is published can be read: 1 or 0",
        u64::from(readable.is_ok()),
    );
    process(&mut now);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &now.0)
        .map_err(|e| Error::new(Kind::Internal, "metrics can't be written").because(e))?;
    Ok(text)
}

fn requests(app: &Inner, now: &mut Now) {
    let Meters { requests, seconds } = app.meters.clone();
    now.put("agnes_http_requests", "Requests that were answered", requests);
    now.0.register_with_unit(
        "agnes_http_request_duration",
        "Time from a request's head to the beginning of its answer",
        Unit::Seconds,
        seconds,
    );
    let counts = app.connections.counts();
    now.gauge("agnes_http_connections", "Connections that are open", counts.open as u64);
    now.gauge("agnes_http_requests_active", "Requests at work", counts.at_work as u64);
    now.counter("agnes_http_connections_accepted", "Connections that were made", counts.accepted);
    now.counter(
        "agnes_http_connections_refused",
        "Connections for which there was no room",
        counts.refused,
    );
    now.counter(
        "agnes_http_connections_ended",
        "Connections that were ended: too slow, too long idle, or to make room",
        counts.ended,
    );
    now.counter("agnes_http_sent_bytes", "Bytes of answers that were handed over", counts.sent);
}

fn work(app: &Inner, now: &mut Now) {
    let pools = [
        ("quick", &app.pool),
        ("queries", &app.queries),
        ("rows", &app.rows),
        ("downloads", &*app.files),
        ("jobs", &app.jobs),
        ("profiles", &app.profiles),
        ("hashing", &app.hashing),
    ];
    let each = |count: fn(&super::pool::Pool) -> usize| {
        pools.map(|(name, pool)| (InPool { pool: name }, count(pool) as u64))
    };
    now.gauges("agnes_pool_running", "Work that runs, by pool", each(|pool| pool.running()));
    now.gauges(
        "agnes_pool_waiting",
        "Work that waits for a thread, by pool",
        each(|pool| pool.waiting()),
    );
    let statements = app.agnes.statements();
    let states = [("running", statements.running), ("waiting", statements.waiting)];
    let states = states.map(|(state, count)| (InState { state }, count as u64));
    now.gauges("agnes_statements", "SQL statements, by state", states);
    if let Some(workers) = app.agnes.workers() {
        let states = [("busy", workers.busy), ("idle", workers.idle)];
        let states = states.map(|(state, count)| (InState { state }, count as u64));
        now.gauges("agnes_workers", "Processes in which statements run, by state", states);
        now.counter("agnes_workers_started", "Workers that were started", workers.started);
        now.counter(
            "agnes_workers_ended",
            "Workers that a statement has ended, or that were ended with it",
            workers.ended,
        );
    }
}

fn data(app: &Inner, now: &mut Now) -> Result<()> {
    if let Some(published) = app.agnes.publication()? {
        let seconds = |at: Timestamp| u64::try_from(at.as_micros() / 1_000_000).unwrap_or(0);
        now.gauge("agnes_published_tables", "Tables that are published", published.tables as u64);
        now.gauge(
            "agnes_published_timestamp_seconds",
            "When the tables were published last, seconds since 1970",
            seconds(published.at),
        );
        if let Some(oldest) = published.oldest_data {
            now.gauge(
                "agnes_oldest_data_timestamp_seconds",
                "When the oldest data was read from its source, seconds since 1970",
                seconds(oldest),
            );
        }
    }
    let mut remote = [("fresh", 0), ("stale", 0), ("error", 0), ("never_fetched", 0)];
    let metadata = app.agnes.metadata_status(&Principal::Operator)?;
    for table in &metadata.tables {
        let state = table.freshness.state.as_str();
        if let Some((_, count)) = remote.iter_mut().find(|(name, _)| *name == state) {
            *count += 1;
        }
    }
    let remote = remote.map(|(state, count)| (InState { state }, count));
    now.gauges(
        "agnes_remote_tables",
        "Remote tables, by how fresh what is known of them is",
        remote,
    );
    now.gauge("agnes_users", "Users who are active", app.access.people() as u64);
    if let Some(disk) = app.agnes.layout().disk_space() {
        now.gauge("agnes_disk_free_bytes", "Free on the data folder's disk", disk.free_bytes);
        now.gauge("agnes_disk_size_bytes", "Size of the data folder's disk", disk.size_bytes);
    }
    Ok(())
}

/// Under the names that every exporter has for them.
fn process(now: &mut Now) {
    let Some(process) = Process::look() else { return };
    let cpu: Counter<f64, AtomicU64> = Counter::default();
    cpu.inc_by(process.cpu.as_secs_f64());
    now.put("process_cpu_seconds", "CPU time", cpu);
    now.gauge("process_resident_memory_bytes", "Memory", process.memory_bytes);
    now.gauge("process_threads", "Threads", process.threads);
    now.gauge("process_open_fds", "Open file descriptors", process.descriptors);
    now.gauge("process_max_fds", "File descriptors that may be open", process.most_descriptors);
}
