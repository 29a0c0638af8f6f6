//! Whether an extract, or the connector that writes it, obeys the contract.
//!
//! [`check_extract`] looks at one folder, as `agnes check` does. [`check_connector`] runs a
//! connector as an orchestrator would and looks at what it leaves; a connector's author
//! calls it from her tests:
//!
//! ```
//! use agnes_core::conformance::check_connector;
//! use agnes_core::connectors::files::{FilesConnector, FilesOptions};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let csv = dir.path().join("orders.csv");
//! # std::fs::write(&csv, "id,total\n1,9.5\n").unwrap();
//! let connector = FilesConnector::new(vec![csv], FilesOptions::default());
//! let findings = check_connector(&connector)?;
//! assert!(findings.is_empty(), "{findings:#?}");
//! # Ok::<(), agnes_core::Error>(())
//! ```

use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::connector::{Connector, Job};
use crate::extract::{Content, Extract, QueryMode, parquet};
use crate::layout::EXTRACT_DB;
use crate::{Error, Kind, NoProgress, Result, TableName, Timestamp, ViewName};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It works, but not as well as it could.
    Advice,
    /// Something is left out or wrong.
    Fault,
}

/// Something that an extract or a connector gets wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The table, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// What it is and how to mend it.
    pub message: String,
}

impl Finding {
    fn fault(table: Option<&str>, message: impl Into<String>) -> Self {
        Finding { level: Level::Fault, table: table.map(Into::into), message: message.into() }
    }

    fn advice(table: Option<&str>, message: impl Into<String>) -> Self {
        Finding { level: Level::Advice, table: table.map(Into::into), message: message.into() }
    }
}

/// What a check of an extract found.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ExtractCheck {
    /// The source that the folder names.
    pub source: String,
    /// The tables that can be published.
    pub tables: Vec<String>,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
}

impl ExtractCheck {
    /// Whether nothing is wrong; advice doesn't count.
    pub fn passes(&self) -> bool {
        self.findings.iter().all(|f| f.level == Level::Advice)
    }
}

/// Looks at the extract in `folder` with the eyes of a rebuild.
///
/// # Errors
/// `Contract` when the folder can't be used at all, `NotFound` when there is none,
/// `Unavailable` while a connector writes it.
pub fn check_extract(folder: &Path) -> Result<ExtractCheck> {
    let extract = Extract::open(folder)?;
    let mut findings: Vec<Finding> = extract
        .skipped()
        .iter()
        .map(|s| Finding::fault(s.table.as_deref(), s.error.message()))
        .collect();
    check_database(&extract, &mut findings);
    for table in extract.tables() {
        check_table(&extract, table, &mut findings);
    }
    findings.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.table.cmp(&b.table)));
    Ok(ExtractCheck {
        source: extract.source().to_string(),
        tables: extract
            .tables()
            .iter()
            .filter(|table| ViewName::of(table.name()).is_ok())
            .map(|table| table.name().to_string())
            .collect(),
        findings,
    })
}

fn check_database(extract: &Extract, findings: &mut Vec<Finding>) {
    let mut version = [0u8; 8];
    let file = std::fs::File::open(extract.folder().join(EXTRACT_DB));
    let read = file.is_ok_and(|f| f.read_exact_at(&mut version, 12).is_ok());
    if read && u64::from_le_bytes(version) > 64 {
        findings.push(Finding::advice(
            None,
            "older DuckDB clients can't open `extract.duckdb`; attach it with (STORAGE_VERSION \
             'v1.0.0') when you create it",
        ));
    }
    if extract.folder().join(format!("{EXTRACT_DB}.wal")).exists() {
        findings.push(Finding::advice(
            None,
            "there is an `extract.duckdb.wal`: run CHECKPOINT and close the database before you \
             move it into place",
        ));
    }
    if extract.tables().is_empty() {
        findings.push(Finding::fault(None, "it publishes no table"));
    }
}

fn check_table(extract: &Extract, table: &crate::extract::Table, findings: &mut Vec<Finding>) {
    let name = Some(table.name().as_str());
    if let Err(error) = ViewName::of(table.name()) {
        findings.push(Finding::fault(name, error.message()));
    }
    if table.extracted_at().is_none() {
        findings.push(Finding::advice(
            name,
            "`_meta.extracted_at` is empty: nobody can tell how old the data is",
        ));
    }
    let local = table.query_mode() != QueryMode::Remote;
    match &table.content {
        Content::Remote { .. } => {}
        Content::Export(_) => findings.push(Finding::advice(
            name,
            "it is no plain SELECT * over parquet files, so that each rebuild after a change \
             exports it; write parquet files to save that",
        )),
        Content::Files { files, .. } if local => {
            let facts = |file| {
                let file = std::fs::File::open(extract.folder().join(file)).ok()?;
                parquet::check(&file).ok()
            };
            let facts: Vec<_> = files.iter().filter_map(facts).collect();
            let rows: u64 = facts.iter().map(|f| f.rows).sum();
            let size: u64 = facts.iter().map(|f| f.size).sum();
            if rows != table.rows() {
                findings.push(Finding::advice(
                    name,
                    format!("`_meta.rows` says {}, the files hold {rows}", table.rows()),
                ));
            }
            if size != table.size_bytes() {
                findings.push(Finding::advice(
                    name,
                    format!(
                        "`_meta.size_bytes` says {}, the files have {size}",
                        table.size_bytes()
                    ),
                ));
            }
        }
        Content::Files { .. } => {}
    }
}

/// Runs a connector as an orchestrator would, in a folder of its own, and reports what it
/// gets wrong: an extract that breaks the contract, a second run that changes what did not
/// change, a run for one table that loses the others.
///
/// # Errors
/// Whatever the connector says when it can't run at all.
pub fn check_connector(connector: &dyn Connector) -> Result<Vec<Finding>> {
    let dir = tempfile::tempdir()
        .map_err(|e| Error::new(Kind::Unavailable, "can't make a temporary folder").because(e))?;
    let folder = dir.path().join("extracts").join("conformance");
    std::fs::create_dir_all(dir.path().join("extracts"))
        .map_err(|e| Error::io("make the folder", dir.path(), e))?;
    let job =
        |tables, now| Job { folder: &folder, tables, declared: &[], now, progress: &NoProgress };
    let mut findings = Vec::new();

    connector.extract(&job(None, Timestamp::from_micros(1_000_000)))?;
    let first = check_extract(&folder)?;
    findings.extend(first.findings.iter().filter(|f| f.level == Level::Fault).cloned());
    let content = |extract: &Extract| -> Vec<(TableName, u64, Vec<String>)> {
        let hash = |file: &std::path::PathBuf| {
            std::fs::read(folder.join(file))
                .map(|bytes| blake3::hash(&bytes).to_string())
                .unwrap_or_default()
        };
        let table = |t: &crate::extract::Table| {
            (t.name().clone(), t.rows(), t.files().iter().map(hash).collect())
        };
        extract.tables().iter().map(table).collect()
    };
    let before = content(&Extract::open(&folder)?);

    connector.extract(&job(None, Timestamp::from_micros(2_000_000)))?;
    let after = content(&Extract::open(&folder)?);
    if before != after {
        findings.push(Finding::fault(
            None,
            "a second run over an unchanged source wrote something else: make its output \
             depend on the source alone",
        ));
    }

    if let [(one, ..), _, ..] = after.as_slice() {
        let due = [one.clone()];
        connector.extract(&job(Some(&due), Timestamp::from_micros(3_000_000)))?;
        let kept = content(&Extract::open(&folder)?);
        for (name, ..) in &after {
            if !kept.iter().any(|(k, ..)| k == name) {
                findings.push(Finding::fault(
                    Some(name.as_str()),
                    format!("a run for `{one}` alone lost it: keep the tables that are not due"),
                ));
            }
        }
    }
    let leftovers = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    for entry in leftovers {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".tmp") || name.ends_with(".wal") {
            findings.push(Finding::fault(None, format!("it leaves `{name}` behind")));
        }
    }
    Ok(findings)
}
