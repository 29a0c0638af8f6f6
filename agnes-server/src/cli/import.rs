//! `agnes import`: take over the system database of another installation.

use std::path::PathBuf;

use agnes_core::access::ImportOptions;
use agnes_core::{Agnes, Result};
use clap::Args;

use super::output::{Done, Output};
use super::people::OPERATOR;

pub(super) const HELP: &str = "\
Take over the system.duckdb of an existing installation, of whatever version.

Users, groups, members, grants, tokens, permissions, access requests, registered tables, sync \
state and metrics come over, all at once or not at all. Nothing is guessed: what doesn't fit is \
left out and listed, and the exit code is 9. Tokens go on working when JWT_SECRET_KEY is the same \
as there. Stop the other installation first.";

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The file, as in /data/state/system.duckdb
    file: PathBuf,
    /// Keep the mark that a table is public, which old versions set on every table
    #[arg(long)]
    keep_public: bool,
    #[command(flatten)]
    json: super::Json,
}

impl Import {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let access = agnes.access()?;
        let options = ImportOptions { keep_public: self.keep_public };
        let report = access.admin(OPERATOR)?.import(&output.path(&self.file), options)?;
        self.json.one(output, &report, || {
            let version = report.version.map_or_else(|| "?".into(), |v| v.to_string());
            let counts: Vec<String> =
                report.imported.iter().map(|(kind, n)| format!("\n  {kind}: {n}")).collect();
            format!("taken over from version {version}{}", counts.concat())
        })?;
        if !self.json.json {
            for left in &report.left_out {
                output
                    .note(format_args!("left out: {} `{}`: {}", left.kind, left.name, left.reason));
            }
        }
        Ok(Done::whole_if(report.left_out.is_empty()))
    }
}
