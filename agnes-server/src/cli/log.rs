//! The log of a server: lines on standard error, for people or for programs.

use std::io::IsTerminal as _;

use agnes_core::{Error, Kind, Result};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
#[cfg(feature = "otel")]
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::environment::Environment;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object of JSON each, for whatever collects them.
    Json,
}

impl LogFormat {
    /// # Errors
    /// `Invalid` when it is neither.
    pub(super) fn parse(text: Option<&str>) -> Result<LogFormat> {
        match text {
            None | Some("text") => Ok(LogFormat::Text),
            Some("json") => Ok(LogFormat::Json),
            Some(other) => Err(Error::new(
                Kind::Invalid,
                format!("`server.log_format` is `text` or `json`, not `{}`", other.escape_debug()),
            )),
        }
    }
}

/// What is logged, as AGNES_LOG says; `info` when unset.
///
/// # Errors
/// `Invalid` when that can't be understood.
pub(super) fn filter(wanted: Option<&str>) -> Result<EnvFilter> {
    EnvFilter::try_new(wanted.unwrap_or("info")).map_err(|e| {
        let what = "AGNES_LOG says what is logged, as in `debug` or `agnes_server=warn`";
        Error::new(Kind::Invalid, format!("{what}: {e}"))
    })
}

/// The log, and what else is told of what happens. What waits is written when it goes.
pub(super) struct Telling {
    _log: WorkerGuard,
    #[cfg(feature = "otel")]
    _exporting: Option<super::otel::Exporting>,
}

/// Writes the log to standard error, by a thread of its own: where nobody reads it lines are lost,
/// and no request waits. Traces go to the collector that the environment names.
///
/// # Errors
/// `Invalid` when the collector can't be meant.
pub(super) fn begin(
    format: LogFormat,
    filter: EnvFilter,
    environment: &Environment,
) -> Result<Telling> {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_target(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.with_ansi(false).json().flatten_event(true).boxed(),
    };
    let log = tracing_subscriber::registry().with(lines.with_filter(filter));
    #[cfg(feature = "otel")]
    let (log, exporting) = {
        let (layer, exporting) = super::otel::layer(environment)?.unzip();
        (log.with(layer.with_filter(LevelFilter::INFO)), exporting)
    };
    #[cfg(not(feature = "otel"))]
    let _ = environment;
    // A service that has a log of its own keeps it.
    let _ = log.try_init();
    Ok(Telling {
        _log: guard,
        #[cfg(feature = "otel")]
        _exporting: exporting,
    })
}
