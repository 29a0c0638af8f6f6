//! The registry, what is known of remote tables, profiles, metrics, syncs.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::{Map, Value};

use crate::convert::{Told, json};
use crate::db::Agnes;
use crate::error::Result;

/// What keyword arguments say about a table.
pub(crate) fn fields(given: Option<&Bound<'_, PyDict>>) -> Result<Map<String, Value>> {
    match given.map(|given| json(given)).transpose()? {
        Some(Value::Object(fields)) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

#[pymethods]
impl Agnes {
    /// Every registered table, by name: a dict each.
    fn registered_tables(&self, py: Python<'_>) -> Told {
        self.told(py, |agnes| agnes.registered_tables())
    }

    /// Registers a table, which may be published already or not yet, so that it can be granted.
    ///
    /// What is declared about it: `description`, `source_type`, `bucket`, `source_table`, `query_mode`,
    /// `sync_schedule`, `sync_strategy`, `primary_key` and the other fields of the registry.
    #[pyo3(signature = (name, source, *, id=None, **declared))]
    fn register(
        &self,
        py: Python<'_>,
        name: &str,
        source: &str,
        id: Option<&str>,
        declared: Option<&Bound<'_, PyDict>>,
    ) -> Told {
        let mut fields = fields(declared)?;
        fields.insert("id".into(), id.into());
        self.told(py, |agnes| agnes.register(name, source, fields))
    }

    /// Changes what is declared about a registered table, named by its id or name; what isn't given stays.
    #[pyo3(signature = (table, **declared))]
    fn update_table(
        &self,
        py: Python<'_>,
        table: &str,
        declared: Option<&Bound<'_, PyDict>>,
    ) -> Told {
        let fields = fields(declared)?;
        self.told(py, |agnes| agnes.update_table(table, fields))
    }

    /// Takes a table out of the registry, with its grants, and out of what is published.
    fn unregister(&self, py: Python<'_>, table: &str) -> Told {
        self.told(py, |agnes| agnes.unregister(table))
    }

    /// Registers what is published and isn't registered yet: of one source, or of all.
    #[pyo3(signature = (source=None))]
    fn adopt(&self, py: Python<'_>, source: Option<&str>) -> Told {
        self.told(py, |agnes| agnes.adopt(source))
    }

    /// Which sources a sync would bring over now, and which of their tables.
    #[pyo3(signature = (*sources, all=false))]
    fn plan_sync(&self, py: Python<'_>, sources: Vec<String>, all: bool) -> Told {
        self.told(py, |agnes| agnes.plan_sync(sources, all))
    }

    /// Brings sources over with their connectors, and publishes what they hold: those that are named, all, or
    /// those that are due.
    #[pyo3(signature = (*sources, all=false, progress=None))]
    fn sync(
        &self,
        py: Python<'_>,
        sources: Vec<String>,
        all: bool,
        progress: Option<Py<PyAny>>,
    ) -> Told {
        self.told_with(py, progress, |agnes, progress| agnes.sync(sources, all, progress))
    }

    /// How large and how fresh every remote table is, as far as anybody knows. Nobody is asked.
    fn metadata_status(&self, py: Python<'_>) -> Told {
        self.told(py, |agnes| agnes.metadata_status())
    }

    /// Asks the providers: about one remote table, or about all (`stale=True`: about those that aren't fresh).
    ///
    /// Of all one refresh at a time runs: where one does already, its `run_id` and `started_at` are given
    /// with `already_running`.
    #[pyo3(signature = (table=None, *, stale=false))]
    fn refresh_metadata(&self, py: Python<'_>, table: Option<&str>, stale: bool) -> Told {
        self.told(py, |agnes| agnes.refresh_metadata(table, stale))
    }

    /// Profiles the tables that have changed since they were last: these, or all that are published.
    #[pyo3(signature = (*tables, progress=None))]
    fn refresh_profiles(
        &self,
        py: Python<'_>,
        tables: Vec<String>,
        progress: Option<Py<PyAny>>,
    ) -> Told {
        self.told_with(py, progress, |agnes, progress| agnes.refresh_profiles(tables, progress))
    }

    /// Every metric, by id.
    fn metrics(&self, py: Python<'_>) -> Told {
        self.told(py, |agnes| agnes.metrics())
    }

    /// Takes metrics in from a text of YAML, and gives their ids.
    #[pyo3(signature = (yaml, *, category=None))]
    fn put_metrics(
        &self,
        py: Python<'_>,
        yaml: &str,
        category: Option<&str>,
    ) -> Result<Vec<String>> {
        self.run(py, |agnes| agnes.put_metrics(yaml, category))
    }

    /// Takes metrics in from a file of YAML, or from a folder of them.
    fn import_metrics(&self, py: Python<'_>, path: PathBuf) -> Told {
        self.told(py, |agnes| agnes.import_metrics(&path))
    }

    /// Writes every metric to a folder, and gives the files.
    fn export_metrics(&self, py: Python<'_>, folder: PathBuf) -> Told {
        self.told(py, |agnes| agnes.export_metrics(&folder))
    }

    /// Removes a metric.
    fn remove_metric(&self, py: Python<'_>, id: &str) -> Result<()> {
        self.run(py, |agnes| agnes.remove_metric(id))
    }

    /// Holds every metric against the tables that are published.
    fn check_metrics(&self, py: Python<'_>) -> Told {
        self.told(py, |agnes| agnes.check_metrics())
    }
}
