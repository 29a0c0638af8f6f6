//! A governed data layer to embed.
//!
//! Connectors turn each data source into a self-describing *extract*: an `extract.duckdb`
//! beside parquet files. A rebuild joins all extracts into one *generation*: an immutable
//! analytics database of views. SQL runs on it in locked *sessions*.
//!
//! ```text
//! source ──connector──▶ extract ──rebuild──▶ generation ──session──▶ Arrow rows
//! ```
//!
//! From a CSV file to a query:
//!
//! ```
//! use agnes_core::connectors::files::{FilesConnector, FilesOptions};
//! use agnes_core::{Agnes, NoProgress, QueryOptions, SourceName};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let csv = dir.path().join("orders.csv");
//! # std::fs::write(&csv, "id,total\n1,9.5\n2,20\n").unwrap();
//! let agnes = Agnes::open(dir.path().join("data"))?;
//! let shop = SourceName::parse("shop")?;
//! let files = FilesConnector::new(vec![csv], FilesOptions::default());
//! agnes.ingest(&shop, &files, &NoProgress)?;
//! agnes.rebuild(None, &NoProgress)?;
//!
//! let session = agnes.session()?;
//! let rows = session.query("SELECT sum(total) AS revenue FROM orders", &QueryOptions::default())?;
//! assert_eq!(rows.read_all()?.len(), 1);
//! # Ok::<(), agnes_core::Error>(())
//! ```
//!
//! The crate is synchronous. It reads neither the environment nor the clock by itself: time
//! and secrets come in as [`Components`], choices as [`Settings`]. Its errors are one type,
//! [`Error`], with a [`Kind`] that says what the caller can do.

pub mod access;
pub mod backup;
pub mod binding;
pub mod catalog;
pub mod clock;
pub mod column_note;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod connector;
pub mod connectors;
pub mod disk;
pub mod doctor;
pub mod error;
pub mod extract;
pub mod manifest;
pub mod metadata;
pub mod metric;
pub mod orchestrator;
pub mod outbound;
pub mod profile;
pub mod query;
pub mod registry;
pub mod schedule;
pub mod store;
pub mod subscription;
pub mod sync;
pub mod upload;
pub mod value;

mod agnes;
mod engine;
mod layout;
mod name;
mod secret;
mod sql;
mod worker;
mod yaml;

pub use agnes::{Agnes, Components, Settings, WorkersReport};
pub use clock::{Clock, FixedClock, SystemClock, Timestamp};
pub use connector::Connector;
pub use disk::Disk;
pub use engine::{EngineInfo, Limits, engine_info, missing_icu};
pub use error::{Error, Key, Kind, Result};
pub use extract::{Extract, ExtractWriter};
pub use layout::{DiskSpace, Layout};
pub use name::{
    AttachAlias, ColumnName, EXTERNAL_MAX, ExtensionName, ExternalName, STRICT_MAX, SourceName,
    TableId, TableName, TokenEnv, ViewName, check_name,
};
pub use orchestrator::{
    AttachPolicy, Generation, NoProgress, Progress, RebuildPlan, RebuildReport,
};
pub use query::{QueryOptions, Rows, Session};
pub use schedule::Schedule;
pub use secret::{NoSecrets, Secret, Secrets};
pub use worker::{Wall, WorkerCounts, WorkerProgram, WorkerSettings, serve_as_worker};

/// The version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Arrow, in the version that rows come in.
pub use arrow;

/// The documents whose snippets are run as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/contract.md")]
    mod contract {}
    #[doc = include_str!("../../docs/access.md")]
    mod access {}
    #[doc = include_str!("../../docs/operations.md")]
    mod operations {}
}
