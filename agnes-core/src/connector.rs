//! Connectors: code that turns a source into an extract.
//!
//! A connector in Rust implements [`Connector`]; a program in any language writes a folder
//! that obeys the contract. Either way the next rebuild picks up what it wrote.

use std::path::Path;
use std::sync::Arc;

use crate::orchestrator::Progress;
use crate::registry::RegisteredTable;
use crate::{Error, Result, TableName, Timestamp};

/// Turns one source into an extract.
pub trait Connector {
    /// Brings the extract in `job.folder` up to the source.
    ///
    /// # Errors
    /// Only when nothing could be done; what befell single tables is in the report. Either
    /// way a table that could not be read keeps what it had.
    fn extract(&self, job: &Job<'_>) -> Result<ConnectorReport>;
}

/// What a connector is asked to do.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The folder of the extract; its last part is the source's name.
    pub folder: &'a Path,
    /// The tables that are due; all when absent.
    pub tables: Option<&'a [TableName]>,
    /// What is declared about the source's tables; empty where nobody declared any.
    pub declared: &'a [RegisteredTable],
    /// The present moment.
    pub now: Timestamp,
    /// Hears how far it is.
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("folder", &self.folder)
            .field("tables", &self.tables)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// What a connector did.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct ConnectorReport {
    /// What became of each table, in the order of the work.
    pub tables: Vec<TableOutcome>,
    /// Parts of the source that are no tables, with the reason.
    pub ignored: Vec<String>,
}

/// What became of one table.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TableOutcome {
    /// The table.
    pub table: TableName,
    /// What it was read from, as the source calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Rows that it has now.
    pub rows: u64,
    /// What was done.
    pub status: TableStatus,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Arc<Error>>,
}

/// What a connector did with one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableStatus {
    /// It is new.
    Created,
    /// It was written anew.
    Replaced,
    /// Its input is what it was.
    Unchanged,
    /// The source doesn't have it any more; it stays until somebody says otherwise.
    Gone,
    /// It was taken out.
    Removed,
    /// It could not be read; what was there before stays.
    Failed,
}

impl TableStatus {
    /// Whether the table is what its source has now.
    pub fn is_up_to_date(self) -> bool {
        match self {
            TableStatus::Created | TableStatus::Replaced | TableStatus::Unchanged => true,
            TableStatus::Gone | TableStatus::Removed | TableStatus::Failed => false,
        }
    }
}

impl ConnectorReport {
    /// The tables that could not be read.
    pub fn failed(&self) -> impl Iterator<Item = &TableOutcome> {
        self.tables.iter().filter(|t| t.status == TableStatus::Failed)
    }

    /// Whether anything of the extract changed.
    pub fn changed(&self) -> bool {
        self.tables.iter().any(|t| {
            matches!(t.status, TableStatus::Created | TableStatus::Replaced | TableStatus::Removed)
        })
    }
}
