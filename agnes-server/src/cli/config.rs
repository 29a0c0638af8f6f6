//! `agnes config`: what is configured, and what is wrong with it.

use agnes_core::config::{Config, Level};
use agnes_core::{Error, Kind, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Done, Output, count};

pub(super) const HELP: &str = "\
Say what is configured, and what is wrong with it.

The configuration is `instance.yaml` in CONFIG_DIR (`./config` when unset), under an overlay of \
the same name in STATE_DIR (`state` in the data folder when unset). `${NAME}` in a value stands \
for a variable, of the environment or of `.env_overlay` in STATE_DIR.";

#[derive(Debug, Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    json: super::Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is wrong; the exit code is 2 when something is
    ///
    /// Keys that nobody reads and variables that are unset are warnings.
    Check,
    /// Show what is configured, secrets hidden, variables by name
    Show,
}

impl ConfigCommand {
    pub(super) fn run(self, config: &Config, output: &Output) -> Result<Done> {
        if !config.file().exists() {
            output.note(format_args!("there is no `{}`", config.file().display()));
        }
        match self.command {
            Command::Check => check(config, self.json.json, output),
            Command::Show => {
                let shown = config.shown();
                self.json.one(output, &shown, || yaml(&shown).unwrap_or_default())?;
                config.understood()?;
                Ok(Done::Whole)
            }
        }
    }
}

fn check(config: &Config, json: bool, output: &Output) -> Result<Done> {
    let problems = config.problems();
    let errors = problems.iter().filter(|problem| problem.level != Level::Warning).count();
    if json {
        output.json(&json!({"ok": errors == 0, "problems": problems}))?;
    } else {
        for problem in problems {
            output.note(problem);
        }
        let warnings = problems.len() - errors;
        output.line(format_args!("{}, {}", count(errors, "error"), count(warnings, "warning")))?;
    }
    Ok(if errors == 0 { Done::Whole } else { Done::Wrong })
}

/// YAML without the end of its last line.
pub(super) fn yaml(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_saphyr::to_string(value);
    let text = text.map_err(|e| Error::new(Kind::Internal, "this can't be YAML").because(e))?;
    Ok(text.trim_end().to_string())
}
