//! `agnes registry`: which tables are declared, so that they can be granted.

use agnes_core::access::NewTable;
use agnes_core::extract::QueryMode;
use agnes_core::registry::{
    Adoption, Declaration, Granularity, OnByDefault, RegisteredTable, SyncStrategy,
};
use agnes_core::{Agnes, ColumnName, Error, Kind, Result, Schedule, SourceName, TableId, ViewName};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{Done, Output, count};
use super::people::OPERATOR;

pub(super) const HELP: &str = "\
Declare tables, so that they can be granted.

A table that is published but not registered is visible to admins only. `ingest` registers its \
own tables; `adopt` registers what other sources publish. A grant names a table's id and \
follows its data: when another source takes over a name, old grants don't reach it.";

#[derive(Debug, Args)]
pub(super) struct Registry {
    #[command(subcommand)]
    pub(super) command: Command,
    #[command(flatten)]
    pub(super) json: super::Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the registered tables
    List,
    /// Register what is published: by one source, or by all
    ///
    /// A name that is registered as another source's table is taken over only where its new
    /// source is named: old grants then reach the new rows.
    Adopt {
        /// The source
        #[arg(value_parser = super::source_name)]
        source: Option<SourceName>,
    },
    /// Register one table, published already or not yet
    Register {
        /// The name under which it is published
        #[arg(value_parser = view_name)]
        name: ViewName,
        /// What grants will name; the name in lower case when absent
        #[arg(long, value_parser = table_id)]
        id: Option<TableId>,
        #[command(flatten)]
        declared: Box<Declared>,
    },
    /// Change what is declared of a table; what isn't given stays
    Update {
        /// Its id or name
        table: String,
        /// The name under which its source publishes it, where that has changed
        #[arg(long, value_parser = view_name)]
        name: Option<ViewName>,
        #[command(flatten)]
        declared: Box<Declared>,
    },
    /// Take a table out, with its grants and all that is known of it
    ///
    /// Its source doesn't publish it again until it is registered.
    Unregister {
        /// Its id or name
        table: String,
    },
}

/// What is declared of a table. An empty text takes a value away.
#[derive(Debug, Args)]
pub(super) struct Declared {
    /// The source that it is a table of; the one that publishes the name when absent
    #[arg(long, value_parser = super::source_name)]
    source: Option<SourceName>,
    /// What kind of system that is: keboola, bigquery, jira, local, …
    #[arg(long)]
    source_type: Option<String>,
    /// The bucket or dataset there
    #[arg(long)]
    bucket: Option<String>,
    /// What it is called there
    #[arg(long)]
    source_table: Option<String>,
    /// The query that makes a materialized table
    #[arg(long, value_name = "SQL")]
    source_query: Option<String>,
    /// Where its rows are queried: local, remote, materialized
    #[arg(long, value_name = "MODE", value_parser = word::<QueryMode>)]
    query_mode: Option<QueryMode>,
    /// How it is brought over: full_refresh, incremental, partitioned
    #[arg(long, value_name = "STRATEGY", value_parser = word::<SyncStrategy>)]
    sync_strategy: Option<SyncStrategy>,
    /// When, as in `every 1h` or `daily 07:00`; see `agnes schedule --help`
    #[arg(long, value_name = "SCHEDULE")]
    sync_schedule: Option<String>,
    /// The columns that tell its rows apart, separated by commas
    #[arg(long, value_name = "COLUMNS")]
    primary_key: Option<String>,
    /// What it is
    #[arg(long)]
    description: Option<String>,
    /// A folder that clients show it in
    #[arg(long)]
    folder: Option<String>,
    /// Days that an incremental sync looks back
    #[arg(long, value_name = "DAYS")]
    incremental_window_days: Option<u32>,
    /// Days of history that are kept
    #[arg(long, value_name = "DAYS")]
    max_history_days: Option<u32>,
    /// The column by which an incremental sync tells what is new
    #[arg(long, value_name = "COLUMN")]
    incremental_column: Option<String>,
    /// Filters that the source applies, as a JSON list
    #[arg(long, value_name = "JSON")]
    where_filters: Option<String>,
    /// The column by which it is partitioned
    #[arg(long, value_name = "COLUMN")]
    partition_by: Option<String>,
    /// How wide a part is: day, month, year
    #[arg(long, value_name = "WIDTH", value_parser = word::<Granularity>)]
    partition_granularity: Option<Granularity>,
    /// Days for each piece of the first load
    #[arg(long, value_name = "DAYS")]
    initial_load_chunk_days: Option<u32>,
    /// Whether the policy grants_and_legacy shows it to everybody
    #[arg(long, value_name = "WHETHER")]
    public: Option<bool>,
    /// Whether a sync that changed it makes a profile of it
    #[arg(long, value_name = "WHETHER")]
    profile_after_sync: Option<bool>,
}

fn view_name(text: &str) -> Result<ViewName, String> {
    ViewName::parse(text).map_err(|e| e.message().to_string())
}

fn table_id(text: &str) -> Result<TableId, String> {
    TableId::parse(text).map_err(|e| e.message().to_string())
}

/// One of a few words.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(json!(text)).map_err(|e| e.to_string())
}

/// An optional text: empty takes it away, absent leaves it.
fn set<T>(
    slot: &mut Option<T>,
    text: Option<String>,
    parse: impl FnOnce(String) -> Result<T>,
) -> Result<()> {
    match text {
        None => {}
        Some(text) if text.is_empty() => *slot = None,
        Some(text) => *slot = Some(parse(text)?),
    }
    Ok(())
}

impl Declared {
    /// What was given, as the API has it. An empty text takes a value away.
    pub(super) fn fields(self) -> Result<serde_json::Map<String, Value>> {
        let text = |text: Option<String>| {
            text.map(|text| if text.is_empty() { Value::Null } else { text.into() })
        };
        let columns = self.primary_key.map(|columns| {
            let columns = columns.split(',').map(str::trim).filter(|column| !column.is_empty());
            columns.map(Value::from).collect::<Value>()
        });
        let filters = self.where_filters.map(|filters| filters_of(&filters)).transpose()?;
        let fields = [
            ("source", self.source.map(|source| json!(source))),
            ("source_type", text(self.source_type)),
            ("bucket", text(self.bucket)),
            ("source_table", text(self.source_table)),
            ("source_query", text(self.source_query)),
            ("query_mode", self.query_mode.map(|mode| json!(mode))),
            ("sync_strategy", self.sync_strategy.map(|strategy| json!(strategy))),
            ("sync_schedule", text(self.sync_schedule)),
            ("primary_key", columns),
            ("description", text(self.description)),
            ("folder", text(self.folder)),
            ("incremental_window_days", self.incremental_window_days.map(Value::from)),
            ("max_history_days", self.max_history_days.map(Value::from)),
            ("incremental_column", text(self.incremental_column)),
            ("where_filters", filters.map(Value::from)),
            ("partition_by", text(self.partition_by)),
            ("partition_granularity", self.partition_granularity.map(|width| json!(width))),
            ("initial_load_chunk_days", self.initial_load_chunk_days.map(Value::from)),
            ("is_public", self.public.map(Value::from)),
            ("profile_after_sync", self.profile_after_sync.map(Value::from)),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
        Ok(given.collect())
    }

    /// Puts what was given into a declaration.
    fn over(self, d: &mut Declaration) -> Result<()> {
        set(&mut d.source_type, self.source_type, Ok)?;
        set(&mut d.bucket, self.bucket, Ok)?;
        set(&mut d.source_table, self.source_table, Ok)?;
        set(&mut d.source_query, self.source_query, Ok)?;
        set(&mut d.sync_schedule, self.sync_schedule, Schedule::parse)?;
        set(&mut d.description, self.description, Ok)?;
        set(&mut d.folder, self.folder, Ok)?;
        set(&mut d.incremental_column, self.incremental_column, ColumnName::parse)?;
        set(&mut d.partition_by, self.partition_by, ColumnName::parse)?;
        d.query_mode = self.query_mode.or(d.query_mode);
        d.sync_strategy = self.sync_strategy.unwrap_or(d.sync_strategy);
        d.partition_granularity = self.partition_granularity.or(d.partition_granularity);
        d.incremental_window_days = self.incremental_window_days.or(d.incremental_window_days);
        d.max_history_days = self.max_history_days.or(d.max_history_days);
        d.initial_load_chunk_days = self.initial_load_chunk_days.or(d.initial_load_chunk_days);
        d.is_public = self.public.unwrap_or(d.is_public);
        d.profile_after_sync = self.profile_after_sync.map_or(d.profile_after_sync, OnByDefault);
        if let Some(columns) = self.primary_key {
            let columns = columns.split(',').map(str::trim).filter(|column| !column.is_empty());
            d.primary_key = columns.map(ColumnName::parse).collect::<Result<_>>()?;
        }
        if let Some(filters) = self.where_filters {
            d.where_filters = filters_of(&filters)?;
        }
        Ok(())
    }
}

fn filters_of(text: &str) -> Result<Vec<Value>> {
    serde_json::from_str(text)
        .map_err(|e| Error::new(Kind::Invalid, format!("--where-filters is no JSON list: {e}")))
}

impl Registry {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let json = self.json;
        let access = agnes.access()?;
        let admin = access.admin(OPERATOR)?;
        match self.command {
            Command::List => json.list(output, &admin.tables(), list),
            Command::Adopt { source } => {
                let adoption = agnes.adopt(OPERATOR, source.as_ref())?;
                json.one(output, &adoption, || adopted(&adoption))?;
                for left in &adoption.left {
                    output.note(format_args!("left out: {}", left.error.message()));
                }
                Ok(Done::whole_if(adoption.left.is_empty()))
            }
            Command::Register { name, id, declared } => {
                let source = match declared.source.clone() {
                    Some(source) => source,
                    None => agnes.source_for(&name, declared.source_type.as_deref())?,
                };
                let mut declaration = Declaration::default();
                declared.over(&mut declaration)?;
                let table = admin.register(NewTable { id, name, source, declaration })?;
                json.one(output, &table, || {
                    format!("{}: registered as `{}`, of {}", table.name, table.id, table.source)
                })
            }
            Command::Update { table, name, declared } => {
                let table = admin.table_named(&table)?;
                let table = admin.update_table(&table.id, |table| {
                    let before = table.clone();
                    table.name = name.unwrap_or_else(|| table.name.clone());
                    table.source = declared.source.clone().unwrap_or_else(|| table.source.clone());
                    declared.over(&mut table.declaration)?;
                    match *table == before {
                        true => Err(Error::new(
                            Kind::Invalid,
                            "nothing changes: say what is to be different, as in --description",
                        )),
                        false => Ok(()),
                    }
                })?;
                json.one(output, &table, || format!("{}: changed", table.name))?;
                if let Some(but) = agnes.why_unpublished(&table)? {
                    output.note(format_args!("nobody sees it now: {but}"));
                }
                Ok(Done::Whole)
            }
            Command::Unregister { table } => {
                let table = admin.table_named(&table)?;
                let (table, report) = agnes.unregister(OPERATOR, &table.id, &output.progress())?;
                let told = json!({"table": table, "rebuild": report});
                json.one(output, &told, || match &report {
                    Some(_) => format!("{}: out of the registry and not published", table.name),
                    None => format!("{}: out of the registry", table.name),
                })?;
                Ok(Done::whole_if(report.is_none_or(|report| report.is_complete())))
            }
        }
    }
}

fn list(tables: &[RegisteredTable], output: &Output) -> Result<()> {
    let rows = tables.iter().map(|table| {
        [
            table.id.to_string(),
            table.name.to_string(),
            table.source.to_string(),
            table.declaration.bucket.clone().unwrap_or_default(),
            table.declaration.description.clone().unwrap_or_default(),
        ]
    });
    output.table(["id", "table", "source", "bucket", "description"], &[], rows)
}

fn adopted(adoption: &Adoption) -> String {
    let mut text = format!("registered: {}", count(adoption.registered.len(), "table"));
    for table in &adoption.registered {
        text.push_str(&format!("\n  {} of {}", table.name, table.source));
    }
    for taken in &adoption.taken_over {
        let groups: Vec<&str> = taken.groups.iter().map(|g| g.as_str()).collect();
        let who = match groups.as_slice() {
            [] => "no group was granted it".to_string(),
            groups => format!("granted to {}", groups.join(", ")),
        };
        text.push_str(&format!(
            "\n  {} is {}'s now, no more {}'s: {who}",
            taken.table.name, taken.table.source, taken.from
        ));
    }
    text
}
