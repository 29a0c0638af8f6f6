//! `agnes schedule`: what a schedule says.

use agnes_core::clock::Clock;
use agnes_core::{Result, SystemClock, Timestamp, schedule};
use clap::{Args, Subcommand};

use super::output::{Done, Output};

pub(super) const HELP: &str = "\
Say what a schedule means.

A schedule is `every 15m`, `every 2h`, `daily 07:00,13:00` or `cron 30 6 * * MON-FRI`. The last \
two are in UTC, or in the time zone whose name follows, as in `daily 07:00 Europe/Prague`. A \
time of `daily` that was missed is made up until midnight, one of `cron` whenever it is.";

#[derive(Debug, Args)]
pub(super) struct Schedule {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether a schedule is valid, whether a sync is due by it, and when the next one is
    ///
    /// The exit code is 2 for what is no schedule.
    Next {
        /// The schedule
        schedule: String,
        /// When the last sync was, as in 2026-11-20T12:00:00Z; none when absent
        #[arg(long, value_name = "TIME")]
        last: Option<String>,
        /// The moment to look at; the present one when absent
        #[arg(long, value_name = "TIME", value_parser = time)]
        now: Option<Timestamp>,
        #[command(flatten)]
        json: super::Json,
    },
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "a time is written as in 2026-11-20T12:00:00Z".to_string())
}

impl Schedule {
    pub(super) fn run(self, output: &Output) -> Result<Done> {
        let Command::Next { schedule, last, now, json } = self.command;
        let now = now.unwrap_or_else(|| SystemClock.now());
        let verdict = schedule::verdict(Some(&schedule), last.as_deref(), now);
        let yes = |is: bool| if is { "yes" } else { "no" };
        json.one(output, &verdict, || {
            let next = verdict.next.map_or_else(|| "-".to_string(), |next| next.to_string());
            format!("valid  {}\ndue    {}\nnext   {next}", yes(verdict.valid), yes(verdict.due))
        })?;
        if let Some(fault) = &verdict.fault {
            let what = if verdict.valid { "warning" } else { "error" };
            output.note(format_args!("{what}: {fault}"));
        }
        Ok(if verdict.valid { Done::Whole } else { Done::Wrong })
    }
}
