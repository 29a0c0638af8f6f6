//! `agnes rebuild`: publish what the extracts hold.

use agnes_core::{Agnes, RebuildReport, Result, SourceName};
use clap::Args;

use super::output::{Done, Output, count, grouped};

pub(super) const HELP: &str = "\
Publish what the extracts hold now.

Looks at every extract, pins the files that changed and replaces the analytics database in \
one step: readers see the old one or the new one. What is left out is listed with its reason, \
and the exit code is 9.";

#[derive(Debug, Args)]
pub(super) struct Rebuild {
    /// Look at this source alone; the others stay as they are
    #[arg(long, value_name = "NAME", value_parser = super::source_name)]
    source: Option<SourceName>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    json: super::Json,
}

impl Rebuild {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        if self.dry_run {
            let plan = agnes.plan_rebuild(self.source.as_ref())?;
            if self.json.json {
                output.json(&plan)?;
            } else {
                output.data(plan.to_string().as_bytes())?;
            }
            return Ok(Done::whole_if(plan.is_complete()));
        }
        let report = agnes.rebuild(self.source.as_ref(), &output.progress())?;
        if self.json.json {
            output.json(&report)?;
        } else {
            show(&report, output)?;
        }
        Ok(Done::whole_if(report.is_complete()))
    }
}

/// What changed, in a few lines.
pub(super) fn show(report: &RebuildReport, output: &Output) -> Result<()> {
    let views: usize = report.sources.values().map(Vec::len).sum();
    let from = count(report.sources.len(), "source");
    let verb = if report.published { "published" } else { "nothing changed:" };
    output.line(format_args!(
        "{verb} generation {}: {} of {from}",
        report.generation,
        count(views, "table")
    ))?;
    for (what, names) in
        [("new", &report.created), ("changed", &report.replaced), ("gone", &report.dropped)]
    {
        /// More names than anybody reads.
        const MOST: usize = 20;
        if names.is_empty() {
            continue;
        }
        let shown: Vec<&str> = names.iter().take(MOST).map(|n| n.as_str()).collect();
        let more = match names.len().saturating_sub(MOST) {
            0 => String::new(),
            more => format!(" and {} more", grouped(more as u64)),
        };
        output.line(format_args!("  {what}: {}{more}", shown.join(", ")))?;
    }
    if report.published && report.unchanged > 0 {
        output.line(format_args!("  unchanged: {}", grouped(report.unchanged as u64)))?;
    }
    for collision in &report.collisions {
        output.note(format_args!(
            "left out: `{}` of `{}`: the name belongs to `{}`; rename one of the two",
            collision.view, collision.refused, collision.owner
        ));
    }
    for skipped in &report.skipped {
        output.note(format_args!("left out: {}", skipped.error.message()));
    }
    Ok(())
}
