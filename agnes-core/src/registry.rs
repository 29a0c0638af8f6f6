//! The registry: the tables that an admin declared.
//!
//! A row binds a table of a source to an id. Grants name that id, so that a grant follows the
//! data and not the name: when another source takes over a name, old grants don't reach it until
//! an admin adopts it. A table that is published but not registered is visible to admins only.
//!
//! Invariants:
//! - ids and names share one namespace, unique without case;
//! - a row is valid by itself: [`RegisteredTable::check`] has passed.

use std::sync::Arc;

use crate::access::{Admin, GroupName, NewTable, Principal, TableUpdate};
use crate::connector::ConnectorReport;
use crate::extract::QueryMode;
use crate::orchestrator::{Progress, RebuildReport, View};
use crate::{
    Agnes, ColumnName, Error, ExternalName, Key, Kind, Result, Schedule, SourceName, TableId,
    Timestamp, ViewName,
};

/// The most days that something of a table may look back: longer than anybody has data.
pub const DAYS_MAX: u32 = 100_000;

/// How a table's rows are brought over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncStrategy {
    /// All of them each time.
    #[default]
    FullRefresh,
    /// Those of the last days, merged by key.
    Incremental,
    /// In parts by time.
    Partitioned,
}

/// How wide a part of a partitioned table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// A day.
    Day,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// What is declared about a table, beside its id and name.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Declaration {
    /// What kind of system it comes from: `keboola`, `bigquery`, `jira`, `local`, …
    pub source_type: Option<String>,
    /// The bucket or dataset there.
    pub bucket: Option<String>,
    /// What it is called there.
    pub source_table: Option<String>,
    /// The query that makes a materialized table.
    pub source_query: Option<String>,
    /// Where its rows are queried.
    pub query_mode: Option<QueryMode>,
    /// How its rows are brought over.
    pub sync_strategy: SyncStrategy,
    /// When.
    pub sync_schedule: Option<Schedule>,
    /// The columns that tell its rows apart.
    pub primary_key: Vec<ColumnName>,
    /// What it is.
    pub description: Option<String>,
    /// A folder that clients show it in.
    pub folder: Option<String>,
    /// Days that an incremental sync looks back.
    pub incremental_window_days: Option<u32>,
    /// Days of history that are kept.
    pub max_history_days: Option<u32>,
    /// The column by which an incremental sync tells what is new.
    pub incremental_column: Option<ColumnName>,
    /// Filters that the source applies, as JSON.
    pub where_filters: Vec<serde_json::Value>,
    /// The column by which it is partitioned.
    pub partition_by: Option<ColumnName>,
    /// How wide a part is.
    pub partition_granularity: Option<Granularity>,
    /// Days for each piece of the first load.
    pub initial_load_chunk_days: Option<u32>,
    /// Whether the policy `grants_and_legacy` shows it to everybody.
    pub is_public: bool,
    /// Whether a sync that changed it makes a profile of it.
    pub profile_after_sync: OnByDefault,
}

impl Declaration {
    /// The same with some fields changed, as a program says them in JSON.
    ///
    /// # Errors
    /// `Invalid` for a field that there isn't, or a value that it can't have.
    pub fn changed(&self, fields: serde_json::Map<String, serde_json::Value>) -> Result<Self> {
        let fail = |e: serde_json::Error| {
            Error::new(Kind::Invalid, format!("what is declared about the table: {e}"))
        };
        let mut all = serde_json::to_value(self).map_err(fail)?;
        if let Some(all) = all.as_object_mut() {
            all.extend(fields);
        }
        serde_json::from_value(all).map_err(fail)
    }
}

/// A choice that is made unless somebody makes the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct OnByDefault(pub bool);

impl Default for OnByDefault {
    fn default() -> Self {
        OnByDefault(true)
    }
}

/// A table that an admin declared.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RegisteredTable {
    /// What grants name. It stays.
    pub id: TableId,
    /// The name under which it is published and queried.
    pub name: ViewName,
    /// The source that it is a table of.
    pub source: SourceName,
    /// What is declared about it.
    #[serde(flatten)]
    pub declaration: Declaration,
    /// Who declared it.
    pub registered_by: Option<String>,
    /// When.
    pub registered_at: Timestamp,
}

impl RegisteredTable {
    /// Where its rows are queried; in parquet files here unless declared otherwise.
    pub fn query_mode(&self) -> QueryMode {
        self.declaration.query_mode.unwrap_or(QueryMode::Local)
    }

    /// Whether what is declared fits together.
    ///
    /// # Errors
    /// `Invalid`, naming the first thing that doesn't.
    pub fn check(&self) -> Result<()> {
        let fault = self.declaration.fault();
        fault.map_or(Ok(()), |fault| {
            Err(Error::new(
                Kind::Invalid,
                format!("the table `{}` can't be registered: {fault}", self.name),
            )
            .with(Key::Table, &self.name))
        })
    }
}

impl Declaration {
    /// What doesn't fit together, or nothing.
    fn fault(&self) -> Option<String> {
        let mode = self.query_mode.unwrap_or(QueryMode::Local);
        let kind = self.source_type.as_deref().unwrap_or("local");
        let big_query = kind.eq_ignore_ascii_case("bigquery");
        let filters = !self.where_filters.is_empty();
        let fault = match (mode, &self.source_query) {
            (QueryMode::Local | QueryMode::Remote, Some(_)) => {
                "`source_query` goes with the query mode `materialized` alone"
            }
            (QueryMode::Materialized, None)
                if big_query && (self.bucket.is_none() || self.source_table.is_none()) =>
            {
                "a materialized table needs a `source_query`, or `bucket` and `source_table`"
            }
            (QueryMode::Materialized, None)
                if !big_query && !kind.eq_ignore_ascii_case("keboola") =>
            {
                "a materialized table needs a `source_query`"
            }
            _ => match self.sync_strategy {
                SyncStrategy::Partitioned if self.partition_by.is_none() => {
                    "the strategy `partitioned` needs `partition_by`"
                }
                SyncStrategy::Partitioned if mode == QueryMode::Remote => {
                    "a remote table has no partitions to sync"
                }
                SyncStrategy::Partitioned if filters => {
                    "`where_filters` don't go with the strategy `partitioned`"
                }
                SyncStrategy::Incremental if filters => {
                    "`where_filters` don't go with the strategy `incremental`"
                }
                _ if filters && mode == QueryMode::Remote => {
                    "`where_filters` don't go with a remote table"
                }
                _ => return self.text_fault(big_query),
            },
        };
        Some(fault.to_string())
    }

    fn text_fault(&self, big_query: bool) -> Option<String> {
        let days = [
            ("incremental_window_days", self.incremental_window_days),
            ("max_history_days", self.max_history_days),
            ("initial_load_chunk_days", self.initial_load_chunk_days),
        ];
        if let Some((what, _)) = days.iter().find(|(_, days)| days.is_some_and(|d| d > DAYS_MAX)) {
            return Some(format!("`{what}` is at most {DAYS_MAX} days"));
        }
        let texts = [
            ("source_type", &self.source_type),
            ("bucket", &self.bucket),
            ("source_table", &self.source_table),
        ];
        for (what, text) in texts {
            let Some(text) = text else { continue };
            if text.trim().is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
                return Some(format!(
                    "`{what}` has 1 to 1,024 bytes and no control characters, not `{}`",
                    crate::name::shown(text)
                ));
            }
            if big_query && crate::ExternalName::parse(text.clone()).is_err() {
                return Some(format!(
                    "`{what}` of BigQuery has letters, digits, `_`, `.` and `-` alone, not `{}`",
                    crate::name::shown(text)
                ));
            }
        }
        None
    }
}

/// What adopting did.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Adoption {
    /// Tables that were not registered before.
    pub registered: Vec<RegisteredTable>,
    /// Tables whose name belonged to another source: their grants reach this source's rows now.
    pub taken_over: Vec<TakenOver>,
    /// Tables that stay as they are, with the reason.
    pub left: Vec<Left>,
}

/// A registered table that is another source's now.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TakenOver {
    /// The table as it is registered now.
    pub table: RegisteredTable,
    /// The source that it was a table of.
    pub from: SourceName,
    /// The groups whose grants reach it.
    pub groups: Vec<GroupName>,
}

/// A published table that wasn't registered.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Left {
    /// Its name.
    pub name: ViewName,
    /// The source that publishes it.
    pub source: SourceName,
    /// Why.
    pub error: Arc<Error>,
}

/// What an ingest did: to the extract, and to the registry.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct IngestReport {
    /// What became of each table.
    #[serde(flatten)]
    pub extract: ConnectorReport,
    /// Tables that were not registered before.
    pub registered: Vec<TableId>,
    /// Why some are not registered: until they are, only admins see them, and nobody sees those
    /// that somebody has unregistered.
    pub unregistered: Vec<Arc<Error>>,
}

/// A table that somebody publishes or is about to.
struct Candidate {
    name: ViewName,
    source: SourceName,
    declaration: Declaration,
}

/// What to do about a candidate.
enum Step {
    Register(Box<NewTable>),
    TakeOver(TableId, SourceName),
    Nothing,
}

/// The registered table stands for another source's data.
fn another_source(table: &RegisteredTable, candidate: &Candidate) -> Error {
    Error::new(
        Kind::Conflict,
        format!(
            "`{}` of `{source}` is not registered: the name is registered as a table of `{}`, \
             whose grants don't reach it; `agnes registry adopt {source}` gives them to it",
            candidate.name,
            table.source,
            source = candidate.source
        ),
    )
    .with(Key::Table, &candidate.name)
    .with(Key::Source, &candidate.source)
}

/// Nobody brings back what somebody has taken out but somebody.
fn was_unregistered(source: &SourceName, name: &ViewName) -> Error {
    Error::new(
        Kind::Conflict,
        format!(
            "`{name}` of `{source}` is not registered and not published, because it was taken out; \
             `agnes registry register {name} --source {source}` brings it back"
        ),
    )
    .with(Key::Table, name)
    .with(Key::Source, source)
}

fn step(admin: &Admin<'_>, candidate: &Candidate, take_over: bool) -> Result<Step> {
    match admin.table_by_name(&candidate.name) {
        Some(table) if table.source == candidate.source => Ok(Step::Nothing),
        Some(table) if take_over => Ok(Step::TakeOver(table.id, table.source)),
        Some(table) => Err(another_source(&table, candidate)),
        None => Ok(Step::Register(Box::new(NewTable {
            id: None,
            name: candidate.name.clone(),
            source: candidate.source.clone(),
            declaration: candidate.declaration.clone(),
        }))),
    }
}

/// Where a remote table is, when its view says so in names that any system takes.
fn remote_table(view: &View) -> Option<(String, String)> {
    let is_name = |name: &String| ExternalName::parse(name.as_str()).is_ok();
    view.remote_table().filter(|(schema, table)| is_name(schema) && is_name(table))
}

/// The kind of system that a source is, told by its name where that is one of the usual.
pub(crate) fn source_type(source: &SourceName) -> String {
    const KNOWN: [&str; 3] = ["keboola", "bigquery", "jira"];
    let known = KNOWN.iter().find(|known| source.as_str().eq_ignore_ascii_case(known));
    known.map_or("local", |known| known).to_string()
}

impl Agnes {
    /// The source of a table that nobody has named it for: the one that publishes the name, or the
    /// kind of system as its name.
    ///
    /// # Errors
    /// `Invalid` when nothing tells; `Unavailable` when the generation can't be read.
    pub fn source_for(&self, name: &ViewName, source_type: Option<&str>) -> Result<SourceName> {
        let generation = self.generation()?;
        if let Some(view) = generation.as_ref().and_then(|g| g.views.get(name)) {
            return Ok(view.source.clone());
        }
        match source_type {
            Some(text) => SourceName::parse(text),
            None => Err(Error::new(
                Kind::Invalid,
                format!("nothing publishes `{name}` yet: say whose table it is, by its `source`"),
            )),
        }
    }

    /// Whether somebody has configured a source, or it has an extract.
    ///
    /// # Errors
    /// As [`Agnes::plan_sync`].
    pub fn has_source(&self, source: &SourceName) -> Result<bool> {
        Ok(self.layout().extract(source).exists()
            || crate::sync::sources(&self.settings().sync)?.contains_key(source))
    }

    /// Registers what is published: by one source, or by all.
    ///
    /// A name that is registered as another source's table is taken over only where `only` names
    /// its new source: the old grants reach the new rows from then on.
    ///
    /// # Errors
    /// `Denied` for anybody but admins; `NotFound` when the source publishes nothing.
    pub fn adopt(&self, principal: &Principal, only: Option<&SourceName>) -> Result<Adoption> {
        let access = self.access()?;
        let admin = access.admin(principal)?;
        let generation = self.generation()?;
        let views = generation.iter().flat_map(|g| &g.views);
        let candidates: Vec<Candidate> = views
            .filter(|(_, view)| only.is_none_or(|only| view.source == *only))
            .map(|(name, view)| Candidate {
                name: name.clone(),
                source: view.source.clone(),
                declaration: Declaration {
                    source_type: Some(source_type(&view.source)),
                    bucket: remote_table(view).map(|(schema, _)| schema),
                    source_table: remote_table(view).map(|(_, table)| table),
                    // A materialized table's query is its source's affair.
                    query_mode: Some(view.query_mode).filter(|m| *m != QueryMode::Materialized),
                    description: view.description.clone(),
                    ..Declaration::default()
                },
            })
            .collect();
        if let Some(only) = only
            && candidates.is_empty()
            && !self.store()?.withdrawn()?.iter().any(|(source, _)| source == only)
        {
            return Err(Error::new(
                Kind::NotFound,
                format!("the source `{only}` publishes nothing; `agnes rebuild` says why"),
            )
            .with(Key::Source, only));
        }
        let mut adoption = Adoption::default();
        if let Some(only) = only {
            // Who asks for all of a source's tables hears of those that it doesn't publish.
            for (source, name) in self.store()?.withdrawn()? {
                if source == *only {
                    let error = Arc::new(was_unregistered(&source, &name));
                    adoption.left.push(Left { name, source, error });
                }
            }
        }
        let (mut new, mut taken, mut from) = (Vec::new(), Vec::new(), Vec::new());
        for candidate in candidates {
            match step(&admin, &candidate, only.is_some()) {
                Ok(Step::Nothing) => {}
                Ok(Step::Register(table)) => new.push(*table),
                Ok(Step::TakeOver(id, source)) => {
                    // What was declared of the old source's table says nothing of this one.
                    taken.push((id, move |table: &mut TableUpdate| {
                        table.source = candidate.source;
                        table.declaration = candidate.declaration;
                        Ok(())
                    }));
                    from.push(source);
                }
                Err(error) => adoption.left.push(Left {
                    name: candidate.name,
                    source: candidate.source,
                    error: Arc::new(error),
                }),
            }
        }
        let (registered, left) = register_each(&admin, new)?;
        adoption.registered = registered;
        adoption.left.extend(left);
        for (table, from) in admin.update_tables(taken)?.into_iter().zip(from) {
            let groups = admin.groups_granted(&table.id);
            adoption.taken_over.push(TakenOver { table, from, groups });
        }
        Ok(adoption)
    }

    /// Takes a table out of the registry, with its grants and all that is known of it, and out
    /// of what is published. Its source doesn't publish it again until it is registered.
    ///
    /// # Errors
    /// `Denied` for anybody but admins; `NotFound`; as [`Agnes::rebuild`], when the table is out
    /// of the registry (and with it out of everybody's sight) but still published.
    pub fn unregister(
        &self,
        principal: &Principal,
        id: &TableId,
        progress: &dyn Progress,
    ) -> Result<(RegisteredTable, Option<RebuildReport>)> {
        let access = self.access()?;
        let admin = access.admin(principal)?;
        // A rebuild that finds all files as they were doesn't ask the system database otherwise;
        // also the one after a crash in between.
        self.forget_heard()?;
        let table = admin.unregister(id)?;
        self.metadata_cache()?.forget(&table.id)?;
        let generation = self.generation()?;
        let view = generation.as_ref().and_then(|g| g.views.get(&table.name));
        if view.is_none_or(|view| view.source != table.source) {
            return Ok((table, None));
        }
        let report = self.rebuild(Some(&table.source), progress)?;
        Ok((table, Some(report)))
    }

    /// Registers the tables that a source's extract holds now.
    pub(crate) fn register_ingested(
        &self,
        source: &SourceName,
        extract: ConnectorReport,
    ) -> IngestReport {
        let mut report = IngestReport { extract, ..IngestReport::default() };
        let access = match self.access() {
            Ok(access) => access,
            Err(error) => {
                report.unregistered.push(Arc::new(error));
                return report;
            }
        };
        let register = || -> Result<(Vec<RegisteredTable>, Vec<Error>)> {
            let admin = access.admin(&Principal::Operator)?;
            let withdrawn = self.store()?.withdrawn()?;
            let (mut new, mut faults) = (Vec::new(), Vec::new());
            for outcome in &report.extract.tables {
                let is_there = outcome.status.is_up_to_date();
                // A name that can't be published is told by the rebuild.
                let Some(name) = ViewName::of(&outcome.table).ok().filter(|_| is_there) else {
                    continue;
                };
                if withdrawn.contains(&(source.clone(), name.clone())) {
                    faults.push(was_unregistered(source, &name));
                    continue;
                }
                let declaration = Declaration {
                    source_type: Some(source_type(source)),
                    ..Declaration::default()
                };
                let candidate = Candidate { name, source: source.clone(), declaration };
                match step(&admin, &candidate, false) {
                    Ok(Step::Register(table)) => new.push(*table),
                    Ok(_) => {}
                    Err(error) => faults.push(error),
                }
            }
            let (registered, left) = register_each(&admin, new)?;
            let left = left.into_iter().filter_map(|left| Arc::into_inner(left.error));
            faults.extend(left);
            Ok((registered, faults))
        };
        match register() {
            Ok((registered, faults)) => {
                report.registered = registered.into_iter().map(|table| table.id).collect();
                report.unregistered.extend(faults.into_iter().map(Arc::new));
            }
            Err(error) => report.unregistered.push(Arc::new(error)),
        }
        report
    }
}

/// Whether what is wrong is wrong with one table.
fn is_of_one(error: &Error) -> bool {
    matches!(error.kind(), Kind::Conflict | Kind::Invalid)
}

/// Registers all tables that can be; a clash leaves out one.
fn register_each(
    admin: &Admin<'_>,
    tables: Vec<NewTable>,
) -> Result<(Vec<RegisteredTable>, Vec<Left>)> {
    if tables.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    match admin.register_all(tables.clone()) {
        Ok(registered) => return Ok((registered, Vec::new())),
        Err(error) if !is_of_one(&error) => return Err(error),
        Err(_) => {}
    }
    let (mut registered, mut left) = (Vec::new(), Vec::new());
    for table in tables {
        let (name, source) = (table.name.clone(), table.source.clone());
        match admin.register(table) {
            Ok(table) => registered.push(table),
            Err(error) if is_of_one(&error) => {
                left.push(Left { name, source, error: Arc::new(error) });
            }
            Err(error) => return Err(error),
        }
    }
    Ok((registered, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(change: impl FnOnce(&mut Declaration)) -> Option<String> {
        let mut declaration = Declaration::default();
        change(&mut declaration);
        declaration.fault()
    }

    #[test]
    fn a_program_changes_some_fields() {
        let changed = |before: &Declaration, fields: serde_json::Value| {
            before.changed(fields.as_object().unwrap().clone())
        };
        let before = Declaration::default();
        let fields = serde_json::json!({"primary_key": ["id"], "sync_schedule": "daily 05:00"});
        let first = changed(&before, fields).unwrap();
        assert_eq!(first.sync_schedule.as_ref().unwrap().as_str(), "daily 05:00");
        let then = changed(&first, serde_json::json!({"query_mode": "remote"})).unwrap();
        assert_eq!((then.query_mode, then.primary_key.len()), (Some(QueryMode::Remote), 1));
        assert_eq!(changed(&then, serde_json::json!({"query_mode": null})).unwrap(), first);
        for wrong in ["{\"colour\": 1}", "{\"sync_schedule\": \"hourly\"}"] {
            let wrong = changed(&before, serde_json::from_str(wrong).unwrap()).unwrap_err();
            assert_eq!(wrong.kind(), Kind::Invalid, "{wrong}");
        }
    }

    #[test]
    fn what_fits_together() {
        let query = || Some("SELECT 1".to_string());
        let text = |t: &str| Some(t.to_string());
        let column = || ColumnName::parse("day").ok();
        let filters = || vec![serde_json::json!({"column": "a"})];
        assert_eq!(fault(|_| {}), None);
        assert!(fault(|d| d.source_query = query()).is_some());
        assert!(
            fault(|d| (d.source_query, d.query_mode) = (query(), Some(QueryMode::Remote)))
                .is_some()
        );
        let materialized = |d: &mut Declaration| d.query_mode = Some(QueryMode::Materialized);
        assert!(fault(materialized).is_some());
        assert_eq!(
            fault(|d| {
                materialized(d);
                d.source_query = query();
            }),
            None
        );
        assert_eq!(
            fault(|d| {
                materialized(d);
                d.source_type = text("keboola");
            }),
            None
        );
        let big = |d: &mut Declaration| {
            materialized(d);
            d.source_type = text("bigquery");
            d.bucket = text("shop");
        };
        assert!(fault(big).is_some());
        assert_eq!(
            fault(|d| {
                big(d);
                d.source_table = text("orders");
            }),
            None
        );
        assert!(
            fault(|d| {
                big(d);
                d.source_table = text("orders*");
            })
            .is_some()
        );
        let partitioned = |d: &mut Declaration| d.sync_strategy = SyncStrategy::Partitioned;
        assert!(fault(partitioned).is_some());
        let by_day = |d: &mut Declaration| {
            partitioned(d);
            d.partition_by = column();
        };
        assert_eq!(fault(by_day), None);
        assert!(
            fault(|d| {
                by_day(d);
                d.query_mode = Some(QueryMode::Remote);
            })
            .is_some()
        );
        assert!(
            fault(|d| {
                by_day(d);
                d.where_filters = filters();
            })
            .is_some()
        );
        for strategy in [SyncStrategy::Incremental, SyncStrategy::Partitioned] {
            assert!(
                fault(|d| (d.sync_strategy, d.where_filters, d.partition_by) =
                    (strategy, filters(), column()))
                .is_some()
            );
        }
        assert_eq!(fault(|d| d.where_filters = filters()), None);
        assert!(
            fault(|d| (d.where_filters, d.query_mode) = (filters(), Some(QueryMode::Remote)))
                .is_some()
        );
        assert!(fault(|d| d.bucket = text("a\nb")).is_some());
        assert_eq!(fault(|d| d.max_history_days = Some(DAYS_MAX)), None);
        assert!(fault(|d| d.max_history_days = Some(DAYS_MAX + 1)).is_some());
    }
}
