//! Profiles: what is in a table, column by column.
//!
//! A [`Profile`] tells of each column how full it is, how many different values it has and what
//! they look like, and what somebody should know before she uses it. It is made of the table's
//! files: two scans, of a sample where there are many rows, and kept until the table's content
//! changes.
//!
//! ```
//! use agnes_core::access::{Principal, Resource};
//! # use agnes_core::connectors::files::{FilesConnector, FilesOptions};
//! # use agnes_core::{Agnes, NoProgress, SourceName};
//! # let dir = tempfile::tempdir().unwrap();
//! # let csv = dir.path().join("orders.csv");
//! # std::fs::write(&csv, "id,status,total\n1,paid,9.5\n2,paid,20\n3,,0.5\n").unwrap();
//! # let agnes = Agnes::open(dir.path().join("data"))?;
//! # let files = FilesConnector::new(vec![csv], FilesOptions::default());
//! # agnes.ingest(&SourceName::parse("shop")?, &files, &NoProgress)?;
//! # agnes.rebuild(None, &NoProgress)?;
//! let decision = agnes.access()?.decide(&Principal::Operator, &Resource::parse("table:orders")?);
//! let profile = agnes.profile(&decision.permit()?)?;
//! assert_eq!(profile.row_count, 3);
//! let total = &profile.columns[2];
//! assert_eq!(total.numeric_stats.as_ref().unwrap().mean, Some(10.0));
//! assert_eq!(profile.columns[1].null_count, 1);
//! # Ok::<(), agnes_core::Error>(())
//! ```
//!
//! Invariants:
//! - what can't be computed of one column is absent, and nothing else is;
//! - percentages of nothing are 0; numbers are rounded to two places; there is no NaN;
//! - a profile shows values of the table: who may not see the table sees no profile.

mod column;
mod measure;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use column::{
    Alert, AlertKind, BooleanStats, Category, ColumnProfile, DateStats, Histogram, NumericStats,
    StringStats, TopValue,
};

use crate::access::{Permitted, Principal, Resource};
use crate::manifest::Published;
use crate::orchestrator::Progress;
use crate::registry::SyncStrategy;
use crate::{Agnes, Error, Result, Timestamp, ViewName};

/// How profiles are made: the section `profiler` of a configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProfileSettings {
    /// The most rows that are looked at; of more a sample is.
    pub sample_size: u64,
    /// The most different values of a column whose values are listed.
    pub max_categorical_distinct: u64,
    /// Values that are listed.
    pub top_values_limit: usize,
    /// Parts of a histogram of numbers.
    pub histogram_bins: usize,
    /// Rows that are shown.
    pub sample_rows_limit: usize,
    /// Values that are shown of a column.
    pub sample_values_limit: usize,
    /// Above so many percent of missing values somebody should know, and act.
    pub alert_high_missing_pct: f64,
    /// Above so many percent of missing values somebody should know.
    pub alert_missing_pct: f64,
    /// Above so many percent of one value.
    pub alert_imbalance_pct: f64,
    /// Above so many different texts.
    pub alert_high_cardinality: u64,
    /// The engine's buffers, bytes.
    pub memory_bytes: u64,
    /// Worker threads.
    pub threads: u32,
}

impl Default for ProfileSettings {
    /// 500,000 rows, 50 values, 10 of them listed, 15 parts, 5 rows and values; alerts from 30, 5
    /// and 60 %, 50 texts and half of zeros on; 4 GiB, 2 threads.
    fn default() -> Self {
        ProfileSettings {
            sample_size: 500_000,
            max_categorical_distinct: 50,
            top_values_limit: 10,
            histogram_bins: 15,
            sample_rows_limit: 5,
            sample_values_limit: 5,
            alert_high_missing_pct: 30.0,
            alert_missing_pct: 5.0,
            alert_imbalance_pct: 60.0,
            alert_high_cardinality: 50,
            memory_bytes: 4 << 30,
            threads: 2,
        }
    }
}

/// What is in a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The table: its id when it is registered, its name otherwise.
    pub table_id: String,
    /// What it is.
    pub description: Option<String>,
    /// The columns that tell its rows apart.
    pub primary_key: Vec<String>,
    /// How it is brought over.
    pub sync_strategy: SyncStrategy,
    /// Its rows, all of them.
    pub row_count: u64,
    /// Its columns.
    pub column_count: usize,
    /// The size of its files, MiB.
    pub file_size_mb: f64,
    /// How full its columns are on average, percent.
    pub avg_completeness: f64,
    /// Values that are missing, of the rows that were looked at.
    pub missing_cells: u64,
    /// The same in percent of all of them.
    pub missing_cells_pct: f64,
    /// Rows with the key of another one; absent where no key is declared.
    pub duplicate_rows: Option<u64>,
    /// The number of columns of each category.
    pub variable_types: BTreeMap<Category, usize>,
    /// The times that its first column of dates or moments covers.
    pub date_range: Option<DateRange>,
    /// What somebody should know, of all columns.
    pub alerts: Vec<Alert>,
    /// Whether the figures are those of a sample; `row_count` is of the whole.
    pub sampled: bool,
    /// When its data was last read from its source.
    pub last_sync: Option<Timestamp>,
    /// Tables that a metric uses together with it.
    #[serde(default)]
    pub related_tables: Vec<String>,
    /// Metrics that use it.
    #[serde(default)]
    pub used_by_metrics: Vec<UsedBy>,
    /// Its columns, in order.
    pub columns: Vec<ColumnProfile>,
    /// Some rows: a text for each column, or null.
    pub sample_rows: Vec<BTreeMap<String, Option<String>>>,
    /// When it was made.
    pub profiled_at: Timestamp,
}

/// The times that a column covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DateRange {
    /// The first.
    pub earliest: Option<String>,
    /// The last.
    pub latest: Option<String>,
    /// Days between them.
    pub span_days: Option<i64>,
}

/// A metric that uses a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedBy {
    /// Its name.
    pub name: String,
    /// Its file, as an export writes it.
    pub file: String,
}

/// What refreshing profiles did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ProfileReport {
    /// Tables that were profiled.
    pub profiled: Vec<ViewName>,
    /// Tables that couldn't be, with the reason.
    pub failed: Vec<(ViewName, Arc<Error>)>,
}

impl Published {
    /// The table under which it is kept.
    fn id(&self) -> String {
        match &self.table {
            Some(table) => table.id.to_string(),
            None => self.name.to_string(),
        }
    }

    /// Stands for everything that a profile is made of.
    fn hash(&self, settings: &ProfileSettings) -> String {
        /// Changes with what profiles say.
        const FORM: u32 = 1;
        let key = self.table.as_ref().map(|table| &table.declaration.primary_key);
        let columns: Vec<(&str, &str)> =
            self.view.columns.iter().map(|c| (&*c.name, &*c.kind)).collect();
        let made_of = format!("{FORM}|{}|{settings:?}|{key:?}|{columns:?}", self.view.blake3());
        blake3::hash(made_of.as_bytes()).to_hex().to_string()
    }
}

impl Agnes {
    /// The profile of a table, for whoever a decision has allowed to read it: the one that is
    /// kept, or a new one where the table has changed since.
    ///
    /// # Errors
    /// `Denied` when she may not any more; `NotFound` when its source publishes no such table;
    /// `Invalid` for a table whose rows are in a remote system; `Limit` when the engine needs more
    /// memory than it may have.
    pub fn profile(&self, table: &Permitted<'_, Resource>) -> Result<Profile> {
        let subject = self.published(table)?;
        let mut profile = self.kept_or_made(&subject)?;
        self.relate(&mut profile, &subject, table.principal())?;
        Ok(profile)
    }

    /// Profiles the tables that have changed since they were last: all that are published, or
    /// these.
    ///
    /// Tables in remote systems have no profile, nor those for which `profile_after_sync` is off.
    ///
    /// # Errors
    /// `Denied` for anybody but admins; as [`Agnes::store`]. What befalls one table is in the
    /// report.
    pub fn refresh_profiles(
        &self,
        principal: &Principal,
        only: Option<&[ViewName]>,
        progress: &dyn Progress,
    ) -> Result<ProfileReport> {
        let mut subjects = Vec::new();
        {
            let access = self.access()?;
            access.admin(principal)?;
            let held = self.held()?;
            for (name, view) in &held.generation.views {
                let table = access.resolve(name.as_str());
                let table = table.filter(|t| t.name == *name && t.source == view.source);
                let wanted = only.is_none_or(|only| only.contains(name))
                    && table.as_ref().is_none_or(|table| table.declaration.profile_after_sync.0);
                if wanted && !view.files().is_empty() {
                    subjects.push(Published { name: name.clone(), view: view.clone(), table });
                }
            }
        }
        let hashes = self.store()?.profile_hashes()?;
        let settings = &self.settings().profiler;
        let is_old =
            |subject: &Published| hashes.get(&subject.id()) != Some(&subject.hash(settings));
        subjects.retain(is_old);
        progress.start("profile", subjects.len() as u64);
        // Many large tables take a while, in which others may have the system database.
        self.let_go();
        let made = subjects.into_iter().map(|subject| {
            let profile = measure::profile(self, &subject);
            progress.step(1);
            (subject, profile)
        });
        let made: Vec<_> = made.collect();
        let mut report = ProfileReport::default();
        let store = self.store()?;
        for (subject, profile) in made {
            let kept = profile.and_then(|profile| {
                store.put_profile(&subject.id(), &subject.hash(settings), &profile)
            });
            match kept {
                Ok(()) => report.profiled.push(subject.name),
                Err(error) => report.failed.push((subject.name, Arc::new(error))),
            }
        }
        Ok(report)
    }

    fn kept_or_made(&self, subject: &Published) -> Result<Profile> {
        let hash = subject.hash(&self.settings().profiler);
        if let Some(profile) = self.store()?.profile(&subject.id(), &hash)? {
            return Ok(profile);
        }
        self.let_go();
        let profile = measure::profile(self, subject)?;
        self.store()?.put_profile(&subject.id(), &hash, &profile)?;
        Ok(profile)
    }

    /// Adds what isn't in the table: what is said of it now, and the metrics that use it.
    fn relate(
        &self,
        profile: &mut Profile,
        subject: &Published,
        principal: &Principal,
    ) -> Result<()> {
        let declared = subject.table.as_ref().map(|table| &table.declaration);
        let described = declared.and_then(|declared| declared.description.clone());
        profile.description = described.or_else(|| subject.view.description.clone());
        profile.sync_strategy = declared.map(|d| d.sync_strategy).unwrap_or_default();
        let states = self.store()?.sync_states()?;
        let state = states.iter().find(|s| s.table_id.eq_ignore_ascii_case(subject.name.as_str()));
        profile.last_sync = state.and_then(|state| state.last_sync);
        let name = subject.name.as_str();
        let id = subject.id();
        let is_it =
            |table: &str| table.eq_ignore_ascii_case(name) || table.eq_ignore_ascii_case(&id);
        let mut related = std::collections::BTreeSet::new();
        for metric in self.metrics(principal)? {
            if metric.declared_tables().any(is_it) {
                related.extend(metric.declared_tables().filter(|t| !is_it(t)).map(str::to_string));
                let file = metric.file().display().to_string();
                profile.used_by_metrics.push(UsedBy { name: metric.name, file });
            }
        }
        profile.related_tables = related.into_iter().collect();
        Ok(())
    }
}
