//! What is due: a function of what is configured, what is known and the present moment.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use super::{Runs, SourceSettings, SyncSettings, Which};
use crate::registry::RegisteredTable;
use crate::store::SyncState;
use crate::{Error, Result, Schedule, SourceName, TableName, Timestamp};

/// What a sync would bring over.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SyncPlan {
    /// The sources, by name.
    pub sources: Vec<SourcePlan>,
}

/// What would be done about one source.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SourcePlan {
    /// The source.
    pub source: SourceName,
    /// What brings it over.
    #[serde(serialize_with = "shown")]
    pub runs: Runs,
    /// What of it.
    #[serde(flatten)]
    pub asked: Asked,
    /// What is declared about its tables.
    #[serde(skip)]
    pub(super) declared: Vec<RegisteredTable>,
    #[serde(skip)]
    pub(super) settings: SourceSettings,
    /// Whether nobody configured it.
    #[serde(skip)]
    pub(super) dropped_in: bool,
}

fn shown<S: serde::Serializer>(runs: &Runs, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(runs)
}

/// What a connector is asked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "asked", rename_all = "snake_case")]
pub enum Asked {
    /// Everything that its source has.
    All,
    /// Some of its tables: the others are not due.
    Tables {
        /// Those that are.
        tables: Vec<TableName>,
    },
    /// Nothing: it isn't due.
    Nothing {
        /// When it will be.
        next: Option<Timestamp>,
    },
}

impl Asked {
    /// These of so many.
    fn these(tables: Vec<TableName>, all: usize) -> Asked {
        if tables.len() == all { Asked::All } else { Asked::Tables { tables } }
    }
}

impl fmt::Display for SyncPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for SourcePlan { source, runs, asked, .. } in &self.sources {
            match asked {
                Asked::All => writeln!(f, "{source} ({runs}): all tables"),
                Asked::Tables { tables } => {
                    let names: Vec<&str> = tables.iter().map(TableName::as_str).collect();
                    writeln!(f, "{source} ({runs}): {}", names.join(", "))
                }
                Asked::Nothing { next: Some(next) } => {
                    writeln!(f, "{source} ({runs}): not due before {next}")
                }
                Asked::Nothing { next: None } => writeln!(f, "{source} ({runs}): not due"),
            }?;
        }
        Ok(())
    }
}

/// A source and whether nobody configured it.
pub(crate) type Configured = BTreeMap<SourceName, (SourceSettings, bool)>;

/// Every source: those that are configured, and the connectors that somebody dropped in.
pub(crate) fn sources(settings: &SyncSettings) -> Result<Configured> {
    let configured = settings.sources.iter();
    let mut sources: Configured =
        configured.map(|(name, source)| (name.clone(), (source.clone(), false))).collect();
    let Some(folder) = &settings.connectors_dir else { return Ok(sources) };
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(sources),
        other => other.map_err(|e| Error::io("list the connectors in", folder, e))?,
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("list the connectors in", folder, e))?;
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| SourceName::parse(name).ok()) else {
            continue;
        };
        // One that a configured source names is that source's.
        let named =
            |(source, _): &(SourceSettings, bool)| source.runs == Runs::Connector(name.to_string());
        if extractor(&entry.path()).is_some()
            && !sources.contains_key(&name)
            && !sources.values().any(named)
        {
            let runs = Runs::Connector(name.to_string());
            sources.insert(name, (SourceSettings::new(runs), true));
        }
    }
    Ok(sources)
}

/// The program in a connector's folder.
pub(super) fn extractor(folder: &Path) -> Option<PathBuf> {
    let files = ["extractor.py", "extractor"].map(|name| folder.join(name));
    files.into_iter().find(|file| file.is_file())
}

/// What is known of the sources and their tables.
pub(super) struct Known {
    pub(super) tables: BTreeMap<SourceName, Vec<RegisteredTable>>,
    pub(super) states: Vec<SyncState>,
    /// The last run of each source that brought something over.
    pub(super) runs: BTreeMap<SourceName, Timestamp>,
}

impl Known {
    fn declared(&self, source: &SourceName) -> &[RegisteredTable] {
        self.tables.get(source).map_or(&[], Vec::as_slice)
    }
}

/// What is to be brought over now.
pub(super) fn plan(sources: Configured, known: &Known, which: &Which, now: Timestamp) -> SyncPlan {
    let last: HashMap<(String, String), Option<Timestamp>> = known
        .states
        .iter()
        .map(|s| ((s.source.to_ascii_lowercase(), s.table_id.to_ascii_lowercase()), s.last_sync))
        .collect();
    let wanted = |source: &SourceName| match which {
        Which::Due | Which::All => true,
        Which::Named(names) => names.contains(source),
        Which::Tables(ids) => known.declared(source).iter().any(|table| ids.contains(&table.id)),
    };
    let sources = sources.into_iter().filter(|(source, _)| wanted(source));
    let plan = sources.map(|(source, (settings, dropped_in))| {
        let declared = known.declared(&source).to_vec();
        let asked = match which {
            Which::All | Which::Named(_) => Asked::All,
            Which::Tables(ids) => {
                let named = declared.iter().filter(|table| ids.contains(&table.id));
                let named = named.map(|table| TableName::parse(table.name.as_str()));
                Asked::these(named.flatten().collect(), declared.len())
            }
            Which::Due => {
                let synced = |table: &RegisteredTable| {
                    let key = |name: &str| {
                        (source.as_str().to_ascii_lowercase(), name.to_ascii_lowercase())
                    };
                    let by_name = last.get(&key(table.name.as_str()));
                    by_name.or_else(|| last.get(&key(table.id.as_str()))).copied().flatten()
                };
                let run = known.runs.get(&source).copied();
                due(&declared, settings.schedule.as_ref(), synced, run, now)
            }
        };
        SourcePlan { source, runs: settings.runs.clone(), asked, declared, settings, dropped_in }
    });
    SyncPlan { sources: plan.collect() }
}

/// What is due of one source. A table's own schedule goes before its source's; without either it
/// is always due. A source whose tables nobody knows yet is due by its own schedule.
fn due(
    tables: &[RegisteredTable],
    schedule: Option<&Schedule>,
    synced: impl Fn(&RegisteredTable) -> Option<Timestamp>,
    run: Option<Timestamp>,
    now: Timestamp,
) -> Asked {
    if tables.is_empty() {
        return match schedule {
            Some(schedule) if !schedule.is_due(run, now) => {
                Asked::Nothing { next: schedule.next_due(run, now) }
            }
            _ => Asked::All,
        };
    }
    let (mut due, mut next) = (Vec::new(), None);
    for table in tables {
        let last = synced(table);
        match table.declaration.sync_schedule.as_ref().or(schedule) {
            Some(schedule) if !schedule.is_due(last, now) => {
                let then = schedule.next_due(last, now);
                next = [next, then].into_iter().flatten().min();
            }
            _ => due.extend(TableName::parse(table.name.as_str())),
        }
    }
    match due.is_empty() {
        true => Asked::Nothing { next },
        false => Asked::these(due, tables.len()),
    }
}
