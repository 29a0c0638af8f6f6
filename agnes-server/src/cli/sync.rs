//! `agnes sync`: bring sources over and publish them.

use agnes_core::config::{Config, Level, Problem};
use agnes_core::sync::{RunStatus, SourceReport, SyncReport, Which};
use agnes_core::{Agnes, Error, Kind, Result, SourceName};
use clap::Args;

use super::output::{Done, Output};
use super::{ingest, rebuild};

pub(super) const HELP: &str = "\
Bring sources over, and publish what they hold now.

The sources are those below `sources` in instance.yaml, each with a connector, a schedule and a \
configuration, and the connectors in CONNECTORS_DIR. Without arguments those run that are due, \
and of them the tables that are; sources that are named run whenever. A connector that fails \
stops no other, and what it had brought before stays published; the exit code is 9 then.";

#[derive(Debug, Args)]
pub(super) struct Sync {
    /// These sources, whether they are due or not
    #[arg(value_name = "SOURCE", value_parser = super::source_name)]
    pub(super) sources: Vec<SourceName>,
    /// All sources, whether they are due or not
    #[arg(long, conflicts_with = "sources")]
    pub(super) all: bool,
    /// Show what would be brought over, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) json: super::Json,
}

impl Sync {
    pub(super) fn run(self, agnes: &Agnes, config: &Config, output: &Output) -> Result<Done> {
        for problem in config.problems() {
            if problem.path.starts_with("sources") || problem.path.starts_with("sync") {
                output.note(problem);
            }
        }
        let is_wrong = |problem: &Problem| {
            problem.level == Level::Error && problem.path.starts_with("sources")
        };
        let wrong = config.problems().iter().any(is_wrong);
        if !config.file().exists() {
            output.note(format_args!("there is no `{}`", config.file().display()));
        }
        let which = Which::of(self.sources, self.all)?;
        if self.dry_run {
            let plan = agnes.plan_sync(&which)?;
            match self.json.json {
                true => output.json(&plan)?,
                false if plan.sources.is_empty() => nothing(output)?,
                false => output.data(plan.to_string().as_bytes())?,
            }
            return Ok(Done::whole_if(!wrong));
        }
        if output.is_own() {
            end_programs_when_told()?;
        }
        let report = agnes.sync(&which, &output.progress())?;
        match self.json.json {
            true => output.json(&report)?,
            false => show(&report, output)?,
        }
        Ok(Done::whole_if(report.is_complete() && !wrong))
    }
}

/// Has the connectors that run end with this process when somebody ends it.
fn end_programs_when_told() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]);
    let mut signals = signals
        .map_err(|e| Error::new(Kind::Unavailable, format!("signals can't be listened to: {e}")))?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            agnes_core::sync::end_programs();
            // As the shell tells it.
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

fn nothing(output: &Output) -> Result<()> {
    output.line("no source is configured")?;
    output.note("say below `sources` in instance.yaml which connector brings what");
    Ok(())
}

fn show(report: &SyncReport, output: &Output) -> Result<()> {
    if report.sources.is_empty() && report.not_due.is_empty() {
        return nothing(output);
    }
    for source in &report.sources {
        show_source(source, output)?;
    }
    if !report.not_due.is_empty() {
        let names: Vec<&str> = report.not_due.iter().map(SourceName::as_str).collect();
        output.line(format_args!("not due: {}", names.join(", ")))?;
    }
    if let Some(error) = &report.rebuild_error {
        output.note(format_args!("not published: {}", error.message()));
    }
    if let Some(report) = &report.rebuild {
        rebuild::show(report, output)?;
    }
    if let Some(error) = &report.note_error {
        output.note(format_args!("how it went couldn't be noted: {}", error.message()));
    }
    for (table, error) in &report.profiles.failed {
        output.note(format_args!("no profile of `{table}`: {}", error.message()));
    }
    Ok(())
}

fn show_source(source: &SourceReport, output: &Output) -> Result<()> {
    let how = match source.status {
        RunStatus::Ok => "brought over",
        RunStatus::Partial => "brought over in part",
        RunStatus::Failed => "failed",
    };
    output.line(format_args!("{}: {how}", source.source))?;
    // What befell a table because of the whole is told once.
    let whole = source.error.as_ref().map(|error| error.message());
    let mut tables = source.tables.clone();
    for table in &mut tables {
        table.error = table.error.take().filter(|error| Some(error.message()) != whole);
    }
    let report = agnes_core::connector::ConnectorReport { tables, ignored: source.ignored.clone() };
    ingest::show(&source.source, &report, output)?;
    if let Some(error) = whole {
        output.note(format_args!("failed: {error}"));
    }
    if !source.brought_back.is_empty() {
        let names: Vec<&str> = source.brought_back.iter().map(|table| table.as_str()).collect();
        output.note(format_args!(
            "kept, though the connector left them out of its extract: {}",
            names.join(", ")
        ));
    }
    for error in &source.unregistered {
        output.note(error.message());
    }
    Ok(())
}
