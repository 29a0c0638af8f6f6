//! `agnes check`: what an extract gets wrong.

use std::path::PathBuf;

use agnes_core::conformance::{Level, check_extract};
use agnes_core::{Error, Kind, Result};
use clap::Args;

use super::output::{Done, Output, count};

pub(super) const HELP: &str = "\
Say what an extract gets wrong.

Looks at a folder with an extract.duckdb as a rebuild would, and names each table that would \
be left out, with the reason and the cure. Views that a rebuild would export are told by their \
text, not run. The rules are in docs/contract.md.";

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The folder with the extract.duckdb
    folder: PathBuf,
    #[command(flatten)]
    json: super::Json,
}

impl Check {
    pub(super) fn run(self, output: &Output) -> Result<Done> {
        let check = check_extract(&self.folder)?;
        if self.json.json {
            output.json(&check)?;
        } else {
            for finding in &check.findings {
                let level = match finding.level {
                    Level::Fault => "fault ",
                    Level::Advice => "advice",
                };
                let table = finding.table.as_deref().unwrap_or("-");
                output.line(format_args!("{level}  {table}  {}", finding.message))?;
            }
            output.line(format_args!(
                "{}: {} can be published",
                check.source,
                count(check.tables.len(), "table")
            ))?;
        }
        if check.passes() {
            return Ok(Done::Whole);
        }
        let faults = check.findings.iter().filter(|f| f.level == Level::Fault).count();
        let verb = if faults == 1 { "breaks" } else { "break" };
        Err(Error::new(Kind::Contract, format!("{} {verb} the contract", count(faults, "thing"))))
    }
}
