//! `agnes config`: what is configured, and what is wrong with it.

use agnes_core::config::{Config, Level, Problem};
use agnes_core::{Error, Kind, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use super::environment::Environment;
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
    /// Connectors are looked for and given their configuration, and not run. Keys that nobody
    /// reads and variables that are unset are warnings.
    Check,
    /// Show what is configured, secrets hidden, variables by name
    Show,
}

impl ConfigCommand {
    pub(super) fn run(self, environment: Environment, output: &Output) -> Result<Done> {
        let config = environment.config();
        if !config.file().exists() {
            output.note(format_args!("there is no `{}`", config.file().display()));
        }
        match self.command {
            Command::Check => check(&problems(&config, environment), self.json.json, output),
            Command::Show => {
                let shown = config.shown();
                self.json.one(output, &shown, || yaml(&shown).unwrap_or_default())?;
                config.understood()?;
                Ok(Done::Whole)
            }
        }
    }
}

/// What is wrong with the files, or else with what they ask for.
fn problems(config: &Config, environment: Environment) -> Vec<Problem> {
    let mut problems = config.problems().to_vec();
    if config.understood().is_err() {
        return problems;
    }
    let serves = super::server_settings::check(config, &environment).err();
    let faults = environment.settings(config).and_then(|settings| {
        let connectors = environment.components().connectors;
        settings.sync.faults(&connectors)
    });
    let error = |path: String, message: String| Problem { level: Level::Error, path, message };
    let faults = match faults {
        Ok(faults) => faults
            .into_iter()
            .map(|(source, fault)| {
                let path = format!("sources.{source}");
                let message = format!("`{path}`: {}", fault.message());
                error(path, message)
            })
            .collect(),
        Err(fault) => vec![error(String::new(), fault.message().to_string())],
    };
    // The worst come first.
    problems.splice(0..0, faults);
    let serves = serves.map(|fault| error(String::new(), fault.message().to_string()));
    problems.splice(0..0, serves);
    problems
}

fn check(problems: &[Problem], json: bool, output: &Output) -> Result<Done> {
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
