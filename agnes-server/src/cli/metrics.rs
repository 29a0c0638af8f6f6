//! `agnes metrics`: what business numbers mean.

use std::path::PathBuf;

use agnes_core::access::{Email, Principal};
use agnes_core::metric::{Metric, MetricCheck};
use agnes_core::{Agnes, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Done, Output, count};
use super::people::OPERATOR;
use super::query::RowsAs;

pub(super) const HELP: &str = "\
Say what business numbers mean.

A metric is a definition with the SQL that computes it, so that everybody computes the same. They \
are imported from YAML, a file for each in a folder for each category; docs/metrics of Agnes has a \
starter pack. A user sees the metrics whose tables she may see.";

#[derive(Debug, Args)]
pub(super) struct Metrics {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Args)]
pub(super) struct As {
    /// Ask as this user: she sees the metrics whose tables she was granted
    #[arg(long = "as", value_name = "EMAIL", value_parser = super::people::email)]
    user: Option<Email>,
}

impl As {
    fn principal(&self, agnes: &Agnes) -> Result<Principal> {
        match &self.user {
            None => Ok(Principal::Operator),
            Some(email) => agnes.access()?.principal_of(email),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the metrics
    List {
        /// Those of this category
        #[arg(long)]
        category: Option<String>,
        #[command(flatten)]
        who: As,
        #[command(flatten)]
        json: super::Json,
    },
    /// Show one definition, as YAML
    Show {
        /// Its id, CATEGORY/NAME
        id: String,
        #[command(flatten)]
        who: As,
        #[command(flatten)]
        json: super::Json,
    },
    /// Take over the definitions in a file, or in a folder of CATEGORY/NAME.yml
    Import {
        /// The file or folder
        path: PathBuf,
        #[command(flatten)]
        json: super::Json,
    },
    /// Write every definition into a folder, as import reads them
    Export {
        /// The folder
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        #[command(flatten)]
        json: super::Json,
    },
    /// Say which metrics don't fit the tables that are published; the exit code is 9 then
    Validate {
        #[command(flatten)]
        json: super::Json,
    },
    /// Take a definition away
    Remove {
        /// Its id, CATEGORY/NAME
        id: String,
        #[command(flatten)]
        json: super::Json,
    },
    /// Compute a metric
    Run {
        /// Its id, CATEGORY/NAME
        id: String,
        /// One of its other forms, as in `by_month`
        #[arg(long, value_name = "VARIANT")]
        variant: Option<String>,
        #[command(flatten)]
        rows: RowsAs,
        #[command(flatten)]
        who: As,
    },
}

impl Metrics {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        match self.command {
            Command::List { category, who, json } => {
                let mut metrics = agnes.metrics(&who.principal(agnes)?)?;
                let wanted = |metric: &Metric| {
                    category.as_ref().is_none_or(|c| metric.category.eq_ignore_ascii_case(c))
                };
                metrics.retain(wanted);
                json.list(output, &metrics, list)
            }
            Command::Show { id, who, json } => {
                let metric = agnes.metric(&who.principal(agnes)?, &id)?;
                let yaml = metric.to_yaml()?;
                json.one(output, &metric, || yaml.trim_end().to_string())
            }
            Command::Import { path, json } => {
                let report = agnes.import_metrics(OPERATOR, &output.path(&path))?;
                json.one(output, &report, || {
                    let mut text = format!("imported: {}", count(report.imported.len(), "metric"));
                    report.imported.iter().for_each(|id| text.push_str(&format!("\n  {id}")));
                    text
                })?;
                for (file, key) in &report.ignored {
                    output.note(format_args!("{}: nobody reads the key `{key}`", file.display()));
                }
                for (file, error) in &report.failed {
                    output.note(format_args!("left out: {}: {}", file.display(), error.message()));
                }
                Ok(Done::whole_if(report.failed.is_empty()))
            }
            Command::Export { dir, json } => {
                let files = agnes.export_metrics(OPERATOR, &output.path(&dir))?;
                json.one(output, &json!({"files": files}), || {
                    format!("exported: {}", count(files.len(), "metric"))
                })
            }
            Command::Validate { json } => {
                let checks = agnes.check_metrics(OPERATOR)?;
                json.list(output, &checks, validated)?;
                Ok(Done::whole_if(checks.iter().all(|check| check.problems.is_empty())))
            }
            Command::Remove { id, json } => {
                agnes.remove_metric(OPERATOR, &id)?;
                json.one(output, &json!({"removed": id}), || format!("{id}: removed"))
            }
            Command::Run { id, variant, rows, who } => {
                let who = who.principal(agnes)?;
                let metric = agnes.metric(&who, &id)?;
                let sql = metric.query(variant.as_deref())?;
                rows.run(&agnes.session_for(&who)?, sql, output)
            }
        }
    }
}

fn list(metrics: &[Metric], output: &Output) -> Result<()> {
    if metrics.is_empty() {
        output.line("no metric is defined")?;
        output.note("`agnes metrics import FOLDER` takes over definitions in YAML");
        return Ok(());
    }
    let rows = metrics.iter().map(|metric| {
        [
            metric.id.clone(),
            metric.display_name.clone(),
            metric.unit.clone().unwrap_or_default(),
            metric.sql_variants.keys().cloned().collect::<Vec<_>>().join(", "),
        ]
    });
    output.table(["id", "metric", "unit", "variants"], &[], rows)
}

fn validated(checks: &[MetricCheck], output: &Output) -> Result<()> {
    for check in checks {
        if check.problems.is_empty() {
            output.line(format_args!("{}: fits", check.id))?;
        }
        for problem in &check.problems {
            output.line(format_args!("{}: {problem}", check.id))?;
        }
    }
    Ok(())
}
