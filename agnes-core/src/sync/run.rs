//! One source brought over: the connector runs, and what it left is looked at.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::plan::extractor;
use super::program::{Ended, Program};
use super::{Asked, Runs, SourcePlan, keep};
use crate::connector::{Connector, ConnectorReport, Job, TableOutcome, TableStatus};
use crate::disk::{FileLock, Fingerprint};
use crate::error::of_a_panic;
use crate::extract::{Content, Extract, Table};
use crate::orchestrator::{Progress, View};
use crate::{Agnes, Error, Key, Kind, Result, SourceName, TableId, TableName, Timestamp};

/// How bringing one source over went.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SourceReport {
    /// The source.
    pub source: SourceName,
    /// In one word.
    pub status: RunStatus,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// What became of each table that it was about.
    pub tables: Vec<TableOutcome>,
    /// Tables that the connector lost though it wasn't asked for them; they were brought back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub brought_back: Vec<TableName>,
    /// Parts of the source that are no tables, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// Tables that were not registered before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registered: Vec<TableId>,
    /// Why some are not registered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unregistered: Vec<Arc<Error>>,
    /// What went wrong with the whole of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Arc<Error>>,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// All tables are what their source has.
    Ok,
    /// Some are.
    Partial,
    /// None is.
    Failed,
}

impl RunStatus {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            RunStatus::Ok => "ok",
            RunStatus::Partial => "partial",
            RunStatus::Failed => "failed",
        }
    }
}

/// Brings one source over. Whatever goes wrong is in the report.
pub(super) fn run(agnes: &Agnes, plan: &SourcePlan, progress: &dyn Progress) -> SourceReport {
    let started_at = agnes.now();
    let mut report = SourceReport {
        source: plan.source.clone(),
        status: RunStatus::Ok,
        started_at,
        duration_ms: 0,
        tables: Vec::new(),
        brought_back: Vec::new(),
        ignored: Vec::new(),
        registered: Vec::new(),
        unregistered: Vec::new(),
        error: None,
    };
    if let Err(error) = bring_over(agnes, plan, progress, &mut report) {
        report.error = Some(Arc::new(error.with(Key::Source, &plan.source)));
    }
    let done = report.tables.iter().filter(|table| table.status != TableStatus::Failed).count();
    report.status = match (&report.error, done) {
        (None, done) if done == report.tables.len() => RunStatus::Ok,
        (_, 0) => RunStatus::Failed,
        _ => RunStatus::Partial,
    };
    report.duration_ms =
        u64::try_from(agnes.now().since(started_at).as_millis()).unwrap_or(u64::MAX);
    report
}

fn bring_over(
    agnes: &Agnes,
    plan: &SourcePlan,
    progress: &dyn Progress,
    report: &mut SourceReport,
) -> Result<()> {
    let source = &plan.source;
    let extracts = agnes.layout().extracts();
    agnes.components().disk.create_folder(&extracts)?;
    let _one_at_a_time = FileLock::take(
        &extracts.join(format!(".{source}.sync")),
        &format!("another sync of `{source}`"),
        Duration::from_millis(100),
    )?;
    let held = agnes.held()?;
    let published: BTreeMap<&str, &View> = held
        .generation
        .views
        .values()
        .filter(|view| view.source == *source)
        .map(|view| (view.table.as_str(), &**view))
        .collect();
    let tables = match &plan.asked {
        Asked::Tables { tables } => Some(tables.as_slice()),
        Asked::All | Asked::Nothing { .. } => None,
    };
    let connector = connector(agnes, plan);
    let outcome = connector.and_then(|connector| match connector {
        What::Object(connector) => with_object(agnes, plan, &*connector, tables, progress),
        What::Program(command) => with_program(agnes, plan, command, tables),
    });
    let (mut came, failure) = match outcome {
        Ok(came) => came,
        Err(error) => (ConnectorReport::default(), Some(error)),
    };
    // What is missing now, though nobody asked for it, or though asking for it failed.
    let there: Vec<String> = match Extract::open(&agnes.layout().extract(source)) {
        Ok(extract) => {
            extract.tables.iter().map(|t| t.name().as_str().to_ascii_lowercase()).collect()
        }
        Err(_) => Vec::new(),
    };
    let may_go = |table: &str| {
        let asked = tables
            .is_none_or(|tables| tables.iter().any(|t| t.as_str().eq_ignore_ascii_case(table)));
        let failed = came.failed().any(|t| t.table.as_str().eq_ignore_ascii_case(table));
        asked && !failed && failure.is_none()
    };
    let lost: Vec<&View> = published
        .iter()
        .filter(|(name, _)| !there.contains(&name.to_ascii_lowercase()) && !may_go(name))
        .map(|(_, view)| *view)
        .collect();
    keep::bring_back(agnes, source, &lost, &held.generation, report.started_at)?;
    report.brought_back = lost.iter().map(|view| view.table.clone()).collect();
    let ingested = agnes.register_ingested(source, std::mem::take(&mut came));
    report.tables = ingested.extract.tables;
    report.ignored = ingested.extract.ignored;
    report.registered = ingested.registered;
    report.unregistered = ingested.unregistered;
    failure.map_or(Ok(()), Err)
}

/// What runs.
enum What {
    Object(Box<dyn Connector>),
    Program(Vec<PathBuf>),
}

fn connector(agnes: &Agnes, plan: &SourcePlan) -> Result<What> {
    let settings = &agnes.settings().sync;
    let name = match &plan.settings.runs {
        Runs::Program(command) => {
            let mut command: Vec<PathBuf> = command.iter().map(PathBuf::from).collect();
            // A bare name is looked for on the PATH, as everywhere.
            if let Some(program) = command.first_mut()
                && program.components().count() > 1
            {
                *program = settings.base_dir.join(&program);
            }
            return Ok(What::Program(command));
        }
        Runs::Connector(name) => name,
    };
    let known = &agnes.components().connectors;
    if !plan.dropped_in
        && let Some(connector) = known.get(name)
    {
        return connector.open(&plan.settings.config, &settings.base_dir).map(What::Object);
    }
    let folder =
        settings.connectors_dir.as_ref().filter(|_| SourceName::parse(name.as_str()).is_ok());
    let program = folder.and_then(|folder| extractor(&folder.join(name)));
    let Some(program) = program else {
        let near = crate::name::nearest(name, known.names());
        let cure = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                "put an `extractor.py` into the folder of connectors, or name a `command`".into()
            }
        };
        return Err(Error::new(
            Kind::NotFound,
            format!("there is no connector `{}`; {cure}", crate::name::shown(name)),
        ));
    };
    let is_python = program.extension().is_some_and(|extension| extension == "py");
    Ok(What::Program(match is_python {
        true => vec![settings.python.clone(), program],
        false => vec![program],
    }))
}

/// What came of a connector: what became of its tables, and what befell the whole.
type Came = (ConnectorReport, Option<Error>);

fn with_object(
    agnes: &Agnes,
    plan: &SourcePlan,
    connector: &dyn Connector,
    tables: Option<&[TableName]>,
    progress: &dyn Progress,
) -> Result<Came> {
    let folder = agnes.layout().extract(&plan.source);
    let job = Job { folder: &folder, tables, declared: &plan.declared, now: agnes.now(), progress };
    match catch_unwind(AssertUnwindSafe(|| connector.extract(&job))) {
        Ok(report) => Ok((report?, None)),
        Err(panic) => Err(Error::internal(format!(
            "the connector `{}` panicked: {}",
            plan.runs,
            of_a_panic(&*panic)
        ))),
    }
}

fn with_program(
    agnes: &Agnes,
    plan: &SourcePlan,
    command: Vec<PathBuf>,
    tables: Option<&[TableName]>,
) -> Result<Came> {
    let settings = &agnes.settings().sync;
    let general = if plan.dropped_in { settings.drop_in_timeout } else { settings.timeout };
    let folder = agnes.layout().extract(&plan.source);
    let input = json!({
        "source": plan.source,
        "output": folder,
        "tables": tables,
        "declared": plan.declared,
        "config": plan.settings.config,
        "data_dir": agnes.layout().root(),
    });
    let program = Program {
        command,
        input: input.to_string().into_bytes(),
        data_dir: agnes.layout().root().to_path_buf(),
        time: plan.settings.timeout.unwrap_or(general),
    };
    let before = Extract::open(&folder).ok();
    let ended = program.run()?;
    let after = Extract::open(&folder);
    let failure = match (ended, &after) {
        (Ended::Well, Ok(_)) => None,
        (Ended::Well, Err(error)) => {
            return Err(Error::new(
                Kind::Contract,
                format!(
                    "the connector `{}` says that all went well, but left no extract that can be \
                     read: {}",
                    plan.runs,
                    error.message()
                ),
            ));
        }
        (Ended::InPart(what) | Ended::Badly(what), _) => Some(Error::new(
            Kind::Unavailable,
            format!("the connector `{}` of `{}`: {what}", plan.runs, plan.source),
        )),
    };
    let mut report = ConnectorReport::default();
    let Ok(after) = after else { return Ok((report, failure)) };
    for table in &after.tables {
        let old = before.as_ref().and_then(|before| {
            let old = before.tables.iter().find(|old| old.name() == table.name())?;
            Some(is_same(before, old, &after, table))
        });
        let asked = tables.is_none_or(|tables| tables.contains(table.name()));
        let (status, error) = match (old, &failure) {
            (None, _) => (TableStatus::Created, None),
            (Some(false), _) => (TableStatus::Replaced, None),
            (Some(true), None) => (TableStatus::Unchanged, None),
            // Nobody knows whether it failed or had nothing new: it is asked for again.
            (Some(true), Some(failure)) => {
                let error =
                    Error::new(failure.kind(), failure.message()).with(Key::Table, table.name());
                (TableStatus::Failed, Some(Arc::new(error)))
            }
        };
        if asked || status != TableStatus::Unchanged {
            let (table, rows) = (table.name().clone(), table.rows());
            report.tables.push(TableOutcome { table, from: None, rows, status, error });
        }
    }
    for table in tables.unwrap_or_default() {
        if !after.tables.iter().any(|there| there.name() == table) {
            let told = failure.as_ref().map_or_else(
                || format!("the connector `{}` wrote no table `{table}`", plan.runs),
                |failure| failure.message().to_string(),
            );
            let error = Error::new(Kind::Contract, told).with(Key::Table, table);
            report.tables.push(TableOutcome {
                table: table.clone(),
                from: None,
                rows: 0,
                status: TableStatus::Failed,
                error: Some(Arc::new(error)),
            });
        }
    }
    if tables.is_none() && failure.is_none() {
        for old in before.iter().flat_map(|before| &before.tables) {
            if !after.tables.iter().any(|there| there.name() == old.name()) {
                let (table, status) = (old.name().clone(), TableStatus::Removed);
                report.tables.push(TableOutcome {
                    table,
                    from: None,
                    rows: 0,
                    status,
                    error: None,
                });
            }
        }
    }
    Ok((report, failure))
}

/// Whether a table is what it was: what is said of it, and its files.
fn is_same(before: &Extract, old: &Table, after: &Extract, new: &Table) -> bool {
    let files = |extract: &Extract, table: &Table| -> Vec<Option<Fingerprint>> {
        table.files().iter().map(|file| extract.files.get(file).copied()).collect()
    };
    let is_export = |table: &Table| matches!(table.content, Content::Export(_));
    old.rows() == new.rows()
        && old.extracted_at() == new.extracted_at()
        && old.content == new.content
        && files(before, old) == files(after, new)
        && (!is_export(new) || new.extracted_at().is_some())
}
