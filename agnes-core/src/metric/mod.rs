//! Metrics: what a business number means, as SQL that everybody uses.
//!
//! ```
//! use agnes_core::Agnes;
//! use agnes_core::access::Principal;
//! use agnes_core::metric::Metric;
//!
//! # let dir = tempfile::tempdir().unwrap();
//! let agnes = Agnes::open(dir.path())?;
//! let text = "
//! name: revenue
//! category: sales
//! unit: EUR
//! table: orders
//! sql: SELECT sum(total) AS revenue FROM orders
//! sql_by_month: SELECT date_trunc('month', day) AS month, sum(total) AS revenue FROM orders GROUP BY 1
//! ";
//! let metrics = Metric::parse_yaml(text, None)?;
//! agnes.put_metrics(&Principal::Operator, &metrics)?;
//! let revenue = agnes.metric(&Principal::Operator, "sales/revenue")?;
//! assert_eq!(revenue.sql_variants["by_month"], metrics[0].sql_variants["by_month"]);
//! assert_eq!(Metric::parse_yaml(&revenue.to_yaml()?, None)?, metrics);
//! # Ok::<(), agnes_core::Error>(())
//! ```
//!
//! Invariants:
//! - an export is read back as what was exported;
//! - who may not see every table of a metric sees no metric: its SQL names them.

mod validate;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

pub use validate::MetricCheck;

use crate::access::{Principal, Visibility};
use crate::query::Session;
use crate::{Agnes, Error, Kind, Result, ViewName, sql};

/// What a business number means.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Metric {
    /// `<category>/<name>`.
    pub id: String,
    /// Its name in its category, and of its file.
    pub name: String,
    /// The category.
    pub category: String,
    /// What people call it.
    pub display_name: String,
    /// What it is.
    pub description: Option<String>,
    /// How values are put together: `sum`, `avg`, `ratio`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is counted in.
    pub unit: Option<String>,
    /// What one value is for: `monthly`, `daily`, …
    pub grain: String,
    /// The table that it is mainly about.
    pub table_name: Option<String>,
    /// Every table that it uses.
    pub tables: Vec<String>,
    /// What is computed of a row or a group of them.
    pub expression: Option<String>,
    /// The column that says when.
    pub time_column: Option<String>,
    /// The columns by which it may be broken down.
    pub dimensions: Vec<String>,
    /// The conditions that it holds under.
    pub filters: Vec<String>,
    /// What else people call it.
    pub synonyms: Vec<String>,
    /// What somebody should know.
    pub notes: Vec<String>,
    /// The query that computes it.
    pub sql: String,
    /// Other forms of it, as `by_month`.
    pub sql_variants: BTreeMap<String, String>,
    /// What results must look like; its own form.
    pub validation: Option<Value>,
    /// Where the definition comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// What importing metrics did.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct MetricImport {
    /// The metrics that are there now, by id.
    pub imported: Vec<String>,
    /// Files, or definitions in them, that weren't taken, with the reason.
    pub failed: Vec<(PathBuf, Arc<Error>)>,
    /// Keys that nobody reads.
    pub ignored: Vec<(PathBuf, String)>,
}

impl Metric {
    /// The query: the main one, or one of its variants.
    ///
    /// # Errors
    /// `NotFound`, naming the variants that there are.
    pub fn query(&self, variant: Option<&str>) -> Result<&str> {
        let Some(variant) = variant else {
            return match self.sql.trim() {
                "" => Err(Error::new(
                    Kind::NotFound,
                    format!("the metric `{}` has no `sql`", self.id),
                )),
                sql => Ok(sql),
            };
        };
        let wanted = variant.strip_prefix("sql_").unwrap_or(variant);
        let found = [wanted.to_string(), format!("by_{wanted}")];
        let found = found.iter().find_map(|name| self.sql_variants.get(name));
        found.map(String::as_str).ok_or_else(|| {
            let names: Vec<&str> = self.sql_variants.keys().map(String::as_str).collect();
            let there = match names.as_slice() {
                [] => "it has none".to_string(),
                names => format!("it has {}", names.join(", ")),
            };
            let shown = crate::name::shown(variant);
            Error::new(
                Kind::NotFound,
                format!("the metric `{}` has no variant `{shown}`; {there}", self.id),
            )
        })
    }

    /// Every name of a table that it declares.
    pub(crate) fn declared_tables(&self) -> impl Iterator<Item = &str> {
        self.table_name.iter().chain(&self.tables).map(String::as_str)
    }

    /// Every query that it has.
    fn queries(&self) -> impl Iterator<Item = &str> {
        let all = std::iter::once(&self.sql).chain(self.sql_variants.values());
        all.map(String::as_str).filter(|sql| !sql.trim().is_empty())
    }

    /// Where an export writes it.
    pub fn file(&self) -> PathBuf {
        Path::new(&self.category).join(format!("{}.yml", self.name))
    }
}

fn unknown(id: &str) -> Error {
    let shown = crate::name::shown(id);
    Error::new(
        Kind::NotFound,
        format!(
            "there is no metric `{shown}` among those that you may see; `agnes metrics list` shows them"
        ),
    )
}

impl Agnes {
    /// The metrics that a principal may see, by id: those whose tables she may see, all of them.
    ///
    /// # Errors
    /// `Denied` when she may do nothing at all; as [`Agnes::session_for`].
    pub fn metrics(&self, principal: &Principal) -> Result<Vec<Metric>> {
        let access = self.access()?;
        access.stands(principal)?;
        let mut metrics = self.store()?.metrics()?;
        if matches!(access.visibility(principal), Visibility::Only(_)) && !metrics.is_empty() {
            let session = self.session_for(principal)?;
            let tables = session.tables();
            metrics.retain(|metric| is_visible(metric, &session, &tables));
        }
        Ok(metrics)
    }

    /// One metric by its id, `<category>/<name>`.
    ///
    /// # Errors
    /// `NotFound` for one that isn't there, and for one that the principal may not see; as
    /// [`Agnes::metrics`].
    pub fn metric(&self, principal: &Principal, id: &str) -> Result<Metric> {
        let mut metrics = self.metrics(principal)?.into_iter();
        metrics.find(|metric| metric.id.eq_ignore_ascii_case(id)).ok_or_else(|| unknown(id))
    }

    /// Defines metrics, in the place of those with the same ids; all of them or none.
    ///
    /// # Errors
    /// `Denied` for anybody but admins.
    pub fn put_metrics(&self, principal: &Principal, metrics: &[Metric]) -> Result<()> {
        self.access()?.admin(principal)?.put_metrics(metrics)
    }

    /// Takes a definition away.
    ///
    /// # Errors
    /// `Denied` for anybody but admins; `NotFound`.
    pub fn remove_metric(&self, principal: &Principal, id: &str) -> Result<()> {
        let metric = self.metric(principal, id)?;
        self.access()?.admin(principal)?.remove_metric(&metric.id)
    }

    /// Takes over the definitions in a file, or in a folder of one folder for each category
    /// (`*/*.yml`). What can't be read stops nothing else.
    ///
    /// # Errors
    /// `Denied` for anybody but admins; `NotFound` when there is no such file or folder.
    pub fn import_metrics(&self, principal: &Principal, path: &Path) -> Result<MetricImport> {
        let access = self.access()?;
        let admin = access.admin(principal)?;
        let (mut report, mut metrics) = (MetricImport::default(), Vec::<Metric>::new());
        for file in yaml::files(path)? {
            let read = match yaml::read(&file) {
                Ok(read) => read,
                Err(error) => {
                    report.failed.push((file, Arc::new(error)));
                    continue;
                }
            };
            for definition in read {
                match definition {
                    Ok((metric, ignored)) => {
                        let ignored = ignored.into_iter().map(|key| (file.clone(), key));
                        report.ignored.extend(ignored);
                        if metrics.iter().any(|other| other.id.eq_ignore_ascii_case(&metric.id)) {
                            let error = Error::new(
                                Kind::Conflict,
                                format!("the metric `{}` is defined twice", metric.id),
                            );
                            report.failed.push((file.clone(), Arc::new(error)));
                        } else {
                            metrics.push(metric);
                        }
                    }
                    Err(error) => report.failed.push((file.clone(), Arc::new(error))),
                }
            }
        }
        admin.put_metrics(&metrics)?;
        report.imported = metrics.into_iter().map(|metric| metric.id).collect();
        Ok(report)
    }

    /// Writes every metric that a principal may see into a folder, as
    /// [`Agnes::import_metrics`] reads them. What else lies there stays.
    ///
    /// # Errors
    /// As [`Agnes::metrics`]; `Unavailable` when a file can't be written.
    pub fn export_metrics(&self, principal: &Principal, dir: &Path) -> Result<Vec<PathBuf>> {
        let metrics = self.metrics(principal)?;
        let disk = &self.components().disk;
        let mut written = Vec::with_capacity(metrics.len());
        // Another installation may have called them anything.
        for name in metrics.iter().flat_map(|metric| [&metric.name, &metric.category]) {
            yaml::check_name(name)?;
        }
        for metric in metrics {
            let file = dir.join(metric.file());
            disk.create_folder(file.parent().unwrap_or(dir))?;
            let aside = crate::disk::aside(&file);
            disk.write(&aside, metric.to_yaml()?.as_bytes())?;
            disk.rename(&aside, &file)?;
            written.push(file);
        }
        Ok(written)
    }
}

/// Whether every table that a metric declares, and every one that its queries read, is visible.
fn is_visible(metric: &Metric, session: &Session, tables: &[ViewName]) -> bool {
    let visible = |name: &str| tables.iter().any(|table| table.as_str().eq_ignore_ascii_case(name));
    metric.declared_tables().all(visible)
        && metric.queries().all(|query| session.reads(query).is_ok())
        && metric.expression.iter().chain(&metric.filters).chain(&metric.dimensions).all(|part| {
            // A subquery in it would name its tables.
            !part.to_ascii_lowercase().contains("from")
                || session.reads(sql::select_expression(part).as_str()).is_ok()
        })
}
