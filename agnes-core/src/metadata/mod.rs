//! The metadata cache: how large every remote table is, what columns it has, and how fresh that
//! knowledge is.
//!
//! A catalog must not ask a remote system each time that somebody looks at it. So a
//! [`MetadataProvider`] is asked now and then ([`Agnes::refresh_metadata`]), what it says is
//! kept, and everybody else reads that ([`Agnes::metadata_status`]). The price: a figure may be
//! one interval old, which its [`Freshness`] tells.
//!
//! ```
//! use std::sync::Arc;
//!
//! use agnes_core::access::Principal;
//! use agnes_core::metadata::{Address, MetadataProvider, MetadataProviders, TableMetadata, Which};
//! use agnes_core::{Agnes, Components, Result, Settings};
//!
//! /// Asks a warehouse for the size of a table.
//! struct Warehouse;
//!
//! impl MetadataProvider for Warehouse {
//!     fn metadata(&self, table: &Address) -> Result<Option<TableMetadata>> {
//!         assert_eq!(table.bucket.as_str(), "sales");
//!         Ok(Some(TableMetadata { rows: Some(1_000_000), ..TableMetadata::default() }))
//!     }
//! }
//!
//! # use agnes_core::access::NewTable;
//! # use agnes_core::extract::QueryMode;
//! # use agnes_core::registry::Declaration;
//! # use agnes_core::{SourceName, ViewName};
//! # let dir = tempfile::tempdir().unwrap();
//! let metadata_providers = MetadataProviders::default().of_type("warehouse", Arc::new(Warehouse));
//! let components = Components { metadata_providers, ..Components::default() };
//! let agnes = Agnes::open_with(dir.path(), Settings::default(), components)?;
//! # agnes.access()?.admin(&Principal::Operator)?.register(NewTable {
//! #     id: None,
//! #     name: ViewName::parse("orders")?,
//! #     source: SourceName::parse("wh")?,
//! #     declaration: Declaration {
//! #         source_type: Some("warehouse".into()),
//! #         bucket: Some("sales".into()),
//! #         query_mode: Some(QueryMode::Remote),
//! #         ..Declaration::default()
//! #     },
//! # })?;
//! agnes.refresh_metadata(&Principal::Operator, Which::All)?;
//! let status = agnes.metadata_status(&Principal::Operator)?;
//! assert_eq!(status.tables[0].cached().unwrap().metadata.rows, Some(1_000_000));
//! # Ok::<(), agnes_core::Error>(())
//! ```
//!
//! Invariants:
//! - an error never takes away what was known: the last good figures and their age stay;
//! - one refresh of all at a time in a process, and the one at a server's start is one of them;
//! - what is cached is of one table of one source: of another one under the same name nothing is
//!   known yet, and with a table its row goes.

mod attached;
mod cache;
mod freshness;
mod provider;
mod refresh;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

pub use cache::Cached;
pub use freshness::{Freshness, FreshnessState, RefreshError};
pub use provider::{Address, MetadataProvider, MetadataProviders, TableMetadata};
pub use refresh::{AlreadyRunning, INVALID_ADDRESS, Outcome, Refresh, RefreshReport, Which};

pub(crate) use cache::{Cache, Revision};

use crate::access::Principal;
use crate::extract::QueryMode;
use crate::{Agnes, Result, TableId, Timestamp};

/// How old what is cached may be, and how much is asked at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataSettings {
    /// The time from one refresh to the next. A table counts as fresh for twice as long, so that
    /// one refresh that fails makes nothing look stale.
    pub interval: Duration,
    /// Tables that a refresh asks about at once.
    pub concurrency: NonZeroUsize,
    /// The same for the refresh at a server's start.
    pub warmup_concurrency: NonZeroUsize,
    /// How long a provider may take for one table. One that doesn't answer is given up, and the
    /// others go on.
    pub timeout: Duration,
}

impl Default for MetadataSettings {
    /// Four hours, four tables at once, two minutes for a table.
    fn default() -> Self {
        const FOUR: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);
        let interval = Duration::from_secs(4 * 3600);
        let timeout = Duration::from_secs(120);
        MetadataSettings { interval, concurrency: FOUR, warmup_concurrency: FOUR, timeout }
    }
}

impl MetadataSettings {
    /// With the values of `SCHEDULER_BQ_METADATA_REFRESH_INTERVAL` (seconds),
    /// `AGNES_BQ_METADATA_REFRESH_CONCURRENCY` and `AGNES_WARMUP_CONCURRENCY`. Where one is
    /// absent, no whole number or not above 0, what is there stays.
    #[must_use]
    pub fn with_texts(
        self,
        interval: Option<&str>,
        concurrency: Option<&str>,
        warmup_concurrency: Option<&str>,
    ) -> Self {
        let many = |text: Option<&str>| text.and_then(|text| text.trim().parse().ok());
        let seconds = interval.and_then(|text| text.trim().parse().ok());
        let interval = seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
        MetadataSettings {
            interval: interval.unwrap_or(self.interval),
            concurrency: many(concurrency).unwrap_or(self.concurrency),
            warmup_concurrency: many(warmup_concurrency).unwrap_or(self.warmup_concurrency),
            timeout: self.timeout,
        }
    }

    /// How long a table counts as fresh.
    pub fn threshold(&self) -> Duration {
        self.interval.saturating_mul(2)
    }
}

/// What is known of the remote tables that somebody may see.
#[derive(Debug, Clone)]
pub struct MetadataStatus {
    /// The time from one refresh to the next.
    pub interval: Duration,
    /// How long a table counts as fresh.
    pub threshold: Duration,
    /// The moment that ages are told of.
    pub server_time: Timestamp,
    /// The tables, by id.
    pub tables: Vec<TableStatus>,
}

/// What is known of one remote table.
#[derive(Debug, Clone)]
pub struct TableStatus {
    /// Its id.
    pub table_id: TableId,
    /// How fresh it is.
    pub freshness: Freshness,
    cached: Option<Arc<Cached>>,
}

impl TableStatus {
    /// The last good figures, and what went wrong since; none where nobody has asked yet.
    pub fn cached(&self) -> Option<&Cached> {
        self.cached.as_deref()
    }
}

/// A moment as clients of the reference read it: with the offset `+00:00`.
struct Iso(Timestamp);

impl Serialize for Iso {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match chrono::DateTime::<chrono::Utc>::from_timestamp_micros(self.0.as_micros()) {
            Some(at) => {
                let text = at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, false);
                s.serialize_newtype_struct(Timestamp::SERDE_NAME, &text)
            }
            None => s.serialize_none(),
        }
    }
}

/// The form that clients read: `scheduler_interval_seconds`, `fresh_threshold_seconds`,
/// `server_time`, `tables`.
impl Serialize for MetadataStatus {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut out = s.serialize_struct("MetadataStatus", 4)?;
        out.serialize_field("scheduler_interval_seconds", &self.interval.as_secs())?;
        out.serialize_field("fresh_threshold_seconds", &self.threshold.as_secs())?;
        out.serialize_field("server_time", &Iso(self.server_time))?;
        out.serialize_field("tables", &self.tables)?;
        out.end()
    }
}

/// One flat object; lists that nobody knows are empty.
impl Serialize for TableStatus {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let cached = self.cached();
        let known = cached.map(|cached| &cached.metadata);
        let error = self.freshness.last_error.as_ref();
        let mut out = s.serialize_struct("TableStatus", 12)?;
        out.serialize_field("table_id", &self.table_id)?;
        out.serialize_field("refreshed_at", &cached.and_then(|c| c.refreshed_at).map(Iso))?;
        out.serialize_field("rows", &known.and_then(|k| k.rows))?;
        out.serialize_field("size_bytes", &known.and_then(|k| k.size_bytes))?;
        out.serialize_field("partition_by", &known.and_then(|k| k.partition_by.as_ref()))?;
        out.serialize_field("clustered_by", list(known.and_then(|k| k.clustered_by.as_ref())))?;
        out.serialize_field("entity_type", &known.and_then(|k| k.entity_type.as_ref()))?;
        out.serialize_field("known_columns", list(known.and_then(|k| k.known_columns.as_ref())))?;
        out.serialize_field("error_at", &error.map(|e| Iso(e.at)))?;
        out.serialize_field("error_msg", &error.map(|e| &*e.message))?;
        out.serialize_field("freshness", &self.freshness.state)?;
        out.serialize_field("age_seconds", &self.freshness.age.map(|age| age.as_secs()))?;
        out.end()
    }
}

fn list(list: Option<&Vec<String>>) -> &[String] {
    list.map_or(&[], Vec::as_slice)
}

impl Agnes {
    /// What is known of the remote tables that a principal may see, by id. No remote system is
    /// asked.
    ///
    /// # Errors
    /// `Denied` when she may do nothing at all; as [`Agnes::store`].
    pub fn metadata_status(&self, principal: &Principal) -> Result<MetadataStatus> {
        let access = self.access()?;
        access.stands(principal)?;
        let settings = &self.settings().metadata;
        let (now, threshold) = (self.now(), settings.threshold());
        let cache = self.metadata_cache()?;
        let rows = cache.rows();
        let mut tables = Vec::new();
        access.each_visible(principal, |table| {
            if table.query_mode() == QueryMode::Remote {
                let cached = rows.get(&table.id).filter(|row| row.is_of(table)).cloned();
                let freshness = Freshness::of(cached.as_deref(), now, threshold);
                tables.push(TableStatus { table_id: table.id.clone(), freshness, cached });
            }
        });
        drop(rows);
        tables.sort_by(|a, b| a.table_id.cmp(&b.table_id));
        Ok(MetadataStatus { interval: settings.interval, threshold, server_time: now, tables })
    }
}
