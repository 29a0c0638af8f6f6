//! One source brought over: the connector runs, and what it left is looked at.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::opened::Opened;
use super::outcome::{self, Ran};
use super::program::Program;
use super::{Asked, SourcePlan, keep};
use crate::connector::{Connector, Job, TableOutcome, TableStatus};
use crate::disk::FileLock;
use crate::error::of_a_panic;
use crate::extract::Extract;
use crate::orchestrator::{Progress, View};
use crate::{Agnes, Error, Key, Result, SourceName, TableId, TableName, Timestamp};

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
    /// Tables that the connector lost without its source having lost them: they are again what
    /// was published before.
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
    // A connector may be anybody's code.
    let work = AssertUnwindSafe(|| bring_over(agnes, plan, progress, &mut report));
    let done = catch_unwind(work).unwrap_or_else(|panic| {
        let told = of_a_panic(&*panic);
        Err(Error::internal(format!("the connector `{}` panicked: {told}", plan.runs)))
    });
    if let Err(error) = done {
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
    let one_at_a_time = Arc::new(FileLock::take(
        &extracts.join(format!(".{source}.sync")),
        &format!("another sync of `{source}`, or what its connector has started,"),
        Duration::from_millis(100),
    )?);
    let held = agnes.held()?;
    let published: BTreeMap<TableName, &View> = held
        .generation
        .views
        .values()
        .filter(|view| view.source == *source)
        .map(|view| (view.table.clone(), &**view))
        .collect();
    let tables = match &plan.asked {
        Asked::Tables { tables } => Some(tables.as_slice()),
        Asked::All | Asked::Nothing { .. } => None,
    };
    let folder = agnes.layout().extract(source);
    let before = Extract::open(&folder).ok();
    let connectors = &agnes.components().connectors;
    let opened = agnes.settings().sync.opened(connectors, &plan.settings, plan.dropped_in);
    let ran = opened.and_then(|opened| match opened {
        Opened::Object(connector) => with_object(agnes, plan, &*connector, tables, progress),
        Opened::Program(command) => {
            with_program(agnes, plan, command, tables, one_at_a_time.clone())
        }
    });
    let order = outcome::Order { runs: &plan.runs, tables, published: &published };
    let outcome::Left { report: left, failure, lost } = order.look(before.as_ref(), &folder, ran);
    let lost: Vec<&View> = lost.iter().filter_map(|name| published.get(name).copied()).collect();
    let (brought_back, faults) =
        keep::bring_back(agnes, source, &lost, &held.generation, report.started_at);
    report.brought_back = brought_back;
    report.tables = left.tables;
    report.ignored = left.ignored;
    match failure.into_iter().chain(faults).next() {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

fn with_object(
    agnes: &Agnes,
    plan: &SourcePlan,
    connector: &dyn Connector,
    tables: Option<&[TableName]>,
    progress: &dyn Progress,
) -> Result<Ran> {
    let folder = agnes.layout().extract(&plan.source);
    let job = Job { folder: &folder, tables, declared: &plan.declared, now: agnes.now(), progress };
    connector.extract(&job).map(Ran::Told)
}

fn with_program(
    agnes: &Agnes,
    plan: &SourcePlan,
    command: Vec<PathBuf>,
    tables: Option<&[TableName]>,
    lock: Arc<FileLock>,
) -> Result<Ran> {
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
        folder: match settings.base_dir.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => settings.base_dir.clone(),
        },
        time: plan.settings.timeout.unwrap_or(general),
        secrets: crate::config::secrets(&plan.settings.config),
        lock,
    };
    program.run().map(Ran::Ended)
}
