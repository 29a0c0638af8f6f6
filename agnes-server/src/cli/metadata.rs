//! `agnes metadata`: how large and how fresh remote tables are.

use agnes_core::metadata::{INVALID_ADDRESS, MetadataStatus, Outcome, Refresh, TableStatus, Which};
use agnes_core::{Agnes, Error, Kind, Result};
use clap::{Args, Subcommand};

use super::output::{Done, Output, bytes, count, duration, grouped};
use super::people::OPERATOR;

pub(super) const HELP: &str = "\
Show how large and how fresh remote tables are.

Remote systems aren't asked each time that somebody looks: what they said last is kept, with its \
age. `refresh` asks them, through what their sources attach. A table is fresh for twice \
SCHEDULER_BQ_METADATA_REFRESH_INTERVAL seconds (4 hours when unset); \
AGNES_BQ_METADATA_REFRESH_CONCURRENCY tables are asked about at once (4 when unset).";

#[derive(Debug, Args)]
pub(super) struct Metadata {
    #[command(subcommand)]
    pub(super) command: Command,
    #[command(flatten)]
    pub(super) json: super::Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what is known of each remote table, and how old it is
    Status,
    /// Ask the remote systems: about one table, or about all
    Refresh {
        /// Its id or name; all when absent
        table: Option<String>,
    },
}

impl Metadata {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let json = self.json;
        match self.command {
            Command::Status => {
                let status = agnes.metadata_status(OPERATOR)?;
                match json.json {
                    true => output.json(&status)?,
                    false => show(&status, output)?,
                }
                Ok(Done::Whole)
            }
            Command::Refresh { table: Some(table) } => {
                let table = agnes.access()?.admin(OPERATOR)?.table_named(&table)?;
                let outcome = agnes.refresh_table_metadata(OPERATOR, &table.id)?;
                json.one(output, &outcome, || told(&outcome))?;
                Ok(Done::whole_if(matches!(outcome, Outcome::Ok { .. })))
            }
            Command::Refresh { table: None } => {
                let report = match agnes.refresh_metadata(OPERATOR, Which::All)? {
                    Refresh::Done(report) => report,
                    // Another process would hold the system database.
                    Refresh::AlreadyRunning(running) => {
                        return Err(Error::new(
                            Kind::Conflict,
                            format!("the refresh {} is running already", running.run_id),
                        ));
                    }
                };
                json.one(output, &report, || {
                    format!(
                        "refreshed {} of {} in {} ms",
                        grouped(report.succeeded as u64),
                        count(report.total, "remote table"),
                        grouped(report.duration_ms)
                    )
                })?;
                for outcome in &report.unsuccessful {
                    output.note(format_args!("not refreshed: {}", told(outcome)));
                }
                Ok(Done::whole_if(report.unsuccessful.is_empty()))
            }
        }
    }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok { table_id, rows, size_bytes, entity_type } => format!(
            "{table_id}: {}, {} rows, {}",
            entity_type.as_deref().unwrap_or("of unknown type"),
            rows.map_or_else(|| "unknown".to_string(), grouped),
            size_bytes.map_or_else(|| "size unknown".to_string(), bytes)
        ),
        Outcome::NoData { table_id } => format!("{table_id}: its system doesn't know it"),
        Outcome::Error { table_id, error } if error == INVALID_ADDRESS => format!(
            "{table_id}: {error}: `agnes registry update {table_id} --bucket … --source-table …` \
             says where it is"
        ),
        Outcome::Error { table_id, error } => format!("{table_id}: {error}"),
    }
}

fn show(status: &MetadataStatus, output: &Output) -> Result<()> {
    if status.tables.is_empty() {
        output.line("no remote table is registered")?;
        output.note("`agnes registry adopt` registers what is published");
        return Ok(());
    }
    let row = |table: &TableStatus| {
        let known = table.cached().map(|cached| &cached.metadata);
        let number = |n: Option<u64>, shown: fn(u64) -> String| n.map_or_else(|| "-".into(), shown);
        let columns = known.and_then(|k| k.known_columns.as_ref()).map(|c| c.len() as u64);
        [
            table.table_id.to_string(),
            table.freshness.state.to_string(),
            table.freshness.age.map_or_else(|| "-".to_string(), duration),
            number(known.and_then(|k| k.rows), grouped),
            number(known.and_then(|k| k.size_bytes), bytes),
            number(columns, grouped),
            known.and_then(|k| k.entity_type.clone()).unwrap_or_else(|| "-".to_string()),
        ]
    };
    let header = ["table", "freshness", "age", "rows", "size", "columns", "type"];
    output.table(header, &[2, 3, 4, 5], status.tables.iter().map(row))?;
    for table in &status.tables {
        if let Some(error) = &table.freshness.last_error {
            output.note(format_args!("{}: {} at {}", table.table_id, error.message, error.at));
        }
    }
    Ok(())
}
