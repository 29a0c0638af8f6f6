//! Whether metrics fit the tables that exist.

use super::Metric;
use crate::access::Principal;
use crate::orchestrator::Generation;
use crate::{Agnes, QueryOptions, Result, Session, ViewName};

/// What is wrong with a metric.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MetricCheck {
    /// The metric.
    pub id: String,
    /// What is wrong; nothing where all fits.
    pub problems: Vec<String>,
}

impl Agnes {
    /// Looks whether metrics fit what is published: their tables and columns are there, and the
    /// engine understands their queries. Nothing is computed.
    ///
    /// # Errors
    /// As [`Agnes::metrics`].
    pub fn check_metrics(&self, principal: &Principal) -> Result<Vec<MetricCheck>> {
        let metrics = self.metrics(principal)?;
        let session = self.session_for(principal)?;
        let tables = session.tables();
        let held = self.held()?;
        let check = |metric: &Metric| MetricCheck {
            id: metric.id.clone(),
            problems: problems(metric, &session, &tables, &held.generation),
        };
        Ok(metrics.iter().map(check).collect())
    }
}

fn problems(
    metric: &Metric,
    session: &Session,
    tables: &[ViewName],
    generation: &Generation,
) -> Vec<String> {
    let mut problems = Vec::new();
    for table in metric.declared_tables() {
        if !tables.iter().any(|there| there.as_str().eq_ignore_ascii_case(table)) {
            let near = crate::name::nearest(table, tables.iter().map(ViewName::as_str));
            let cure = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            problems.push(format!("there is no table `{}`{cure}", crate::name::shown(table)));
        }
    }
    if let Some(view) = metric
        .table_name
        .as_ref()
        .and_then(|name| ViewName::parse(name.as_str()).ok())
        .and_then(|name| generation.views.get(&name))
    {
        let columns = metric.time_column.iter().chain(&metric.dimensions);
        for column in columns.filter(|column| is_plain(column)) {
            if !view.columns.iter().any(|there| there.name.eq_ignore_ascii_case(column)) {
                let near = crate::name::nearest(column, view.columns.iter().map(|c| &*c.name));
                let cure = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                let shown = crate::name::shown(column);
                problems.push(format!("its table has no column `{shown}`{cure}"));
            }
        }
    }
    let queries = std::iter::once(("sql".to_string(), &metric.sql))
        .chain(metric.sql_variants.iter().map(|(variant, sql)| (format!("sql_{variant}"), sql)));
    for (key, sql) in queries {
        if sql.trim().is_empty() {
            problems.push(format!("it has no `{key}`"));
            continue;
        }
        let explained = session
            .query(&format!("EXPLAIN {sql}"), &QueryOptions::default())
            .and_then(|rows| rows.read_all());
        if let Err(error) = explained {
            problems.push(format!("`{key}`: {}", error.message()));
        }
    }
    problems
}

/// Whether a dimension is a column's name and no expression.
fn is_plain(dimension: &str) -> bool {
    let mut chars = dimension.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && chars.all(|c| c.is_alphanumeric() || c == '_')
}
