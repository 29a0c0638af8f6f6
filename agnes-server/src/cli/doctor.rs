//! `agnes doctor`: what is wrong with an installation.

use std::path::PathBuf;

use agnes_core::config::{Config, Level};
use agnes_core::doctor::{Finding, Health};
use agnes_core::{Agnes, Result};
use clap::Args;
use serde_json::json;

use super::environment::Environment;
use super::output::{Done, Output, count};
use super::{beside, server_settings};

pub(super) const HELP: &str = "\
Say what is wrong with an installation, and what helps.

Looks at the engine, the configuration, the data folder, the disk, the system database, what is \
published, the workers in which a server's statements run, and the limits of this process, and \
changes nothing. Beside a running server it says \
that there is one. The exit code is 0 when nothing is wrong, warnings aside.";

#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    json: super::Json,
}

impl Doctor {
    pub(super) fn run(
        self,
        data_dir: PathBuf,
        environment: Environment,
        output: &Output,
    ) -> Result<Done> {
        let config = environment.config();
        let mut found = vec![configuration(&config, &environment)];
        found.extend(limits(&config));
        found.push(server(&data_dir));
        // What is wrong with the configuration was said.
        let settings = environment.settings(&config).unwrap_or_default();
        let settings = super::serve::settings(settings, &config, &environment)?;
        let agnes = Agnes::open_with(data_dir, settings, environment.components())?;
        found.extend(agnes.examine());
        let of = |health| found.iter().filter(|finding| finding.health == health).count();
        let (problems, warnings) = (of(Health::Problem), of(Health::Warning));
        if self.json.json {
            output.json(&json!({"ok": problems == 0, "findings": found}))?;
        } else {
            for Finding { about, health, seen, cure } in &found {
                let mark = match health {
                    Health::Ok => "ok     ",
                    Health::Warning => "warning",
                    Health::Problem => "problem",
                };
                output.line(format_args!("{mark}  {about}: {seen}"))?;
                if let Some(cure) = cure {
                    output.line(format_args!("         {cure}"))?;
                }
            }
            output.line(format_args!(
                "{}, {}",
                count(problems, "problem"),
                count(warnings, "warning")
            ))?;
        }
        Ok(Done::whole_if(problems == 0))
    }
}

fn configuration(config: &Config, environment: &Environment) -> Finding {
    let about = "configuration";
    let file = config.file().display().to_string();
    let cure = "`agnes config check` says all of it";
    if !config.file().exists() {
        let seen = format!("there is no {file}; everything is as by default");
        return Finding::ok(about, seen);
    }
    let first = config.problems().iter().find(|problem| problem.level != Level::Warning);
    if let Some(first) = first {
        return Finding::problem(about, first.to_string(), cure);
    }
    match server_settings::check(config, environment) {
        Err(error) => Finding::problem(about, error.message(), cure),
        Ok(()) => match config.problems().first() {
            Some(first) => Finding::warning(about, first.to_string(), cure),
            None => Finding::ok(about, file),
        },
    }
}

/// Whether this process may have as many files open as the server may have connections.
fn limits(config: &Config) -> Option<Finding> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum?;
    let usual = crate::http::ConnectionSettings::default().most;
    let most = config.server.max_connections.unwrap_or(usual) as u64;
    let about = "file descriptors";
    // A download takes two, and the engine some for each table that it reads.
    Some(match limit < most.saturating_mul(2) {
        true => Finding::warning(
            about,
            format!("{limit} at most, and the server takes up to {most} connections"),
            "raise the hard limit (`LimitNOFILE` of systemd), or lower `server.max_connections`",
        ),
        false => Finding::ok(about, format!("{limit} at most")),
    })
}

fn server(data_dir: &std::path::Path) -> Finding {
    match beside::is_there(&Environment::state_of(data_dir)) {
        true => Finding::ok("server", "one runs on this data folder"),
        false => Finding::ok("server", "none runs on this data folder"),
    }
}
