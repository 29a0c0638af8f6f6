//! `agnes profile`: what is in a table.

use agnes_core::access::{Email, Principal};
use agnes_core::profile::{Category, ColumnProfile, Histogram, Profile, TopValue};
use agnes_core::{Agnes, Result};
use clap::Args;

use super::output::{Done, Output, grouped};

pub(super) const HELP: &str = "\
Show what is in a table, column by column.

How full each column is, how many different values it has, their range and how they are spread, \
and what somebody should know before she uses it. Of more than 500,000 rows a sample is looked at. \
A profile is kept until the table's content changes.";

#[derive(Debug, Args)]
pub(super) struct ProfileCommand {
    /// The table's id or name
    pub(super) table: String,
    /// Ask as this user: she sees profiles of the tables that she was granted
    #[arg(long = "as", value_name = "EMAIL", value_parser = super::people::email)]
    as_user: Option<Email>,
    #[command(flatten)]
    pub(super) json: super::Json,
}

impl ProfileCommand {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let decision = {
            let access = agnes.access()?;
            let who = match &self.as_user {
                None => Principal::Operator,
                Some(email) => access.principal_of(email)?,
            };
            access.decide_named(&who, &self.table)?
        };
        let profile = agnes.profile(&decision.permit()?)?;
        match self.json.json {
            true => output.json(&profile)?,
            false => show(&profile, output)?,
        }
        Ok(Done::Whole)
    }
}

pub(super) fn show(profile: &Profile, output: &Output) -> Result<()> {
    let of = if profile.sampled { ", of a sample" } else { "" };
    output.line(format_args!(
        "{}: {} rows, {} columns, {} MiB, {} % full{of}",
        profile.table_id,
        grouped(profile.row_count),
        profile.column_count,
        profile.file_size_mb,
        profile.avg_completeness
    ))?;
    if let Some(description) = &profile.description {
        output.text(format_args!("  {description}"))?;
    }
    if let Some(duplicates) = profile.duplicate_rows {
        output.text(format_args!(
            "  key: {}, {} rows with the key of another one",
            profile.primary_key.join(", "),
            grouped(duplicates)
        ))?;
    }
    if !profile.used_by_metrics.is_empty() {
        let metrics: Vec<&str> = profile.used_by_metrics.iter().map(|m| &*m.name).collect();
        output.text(format_args!("  used by the metrics {}", metrics.join(", ")))?;
    }
    output.line("")?;
    let row = |column: &ColumnProfile| {
        [
            column.name.clone(),
            column.kind.clone(),
            format!("{} %", column.completeness_pct),
            column.unique_count.map_or_else(|| "-".to_string(), grouped),
            range(column),
            spread(column),
        ]
    };
    let header = ["column", "type", "filled", "different", "from … to", "spread"];
    output.table(header, &[2, 3], profile.columns.iter().map(row))?;
    for column in &profile.columns {
        let top = column.string_stats.as_ref().map_or(&[][..], |stats| &stats.top_values);
        if top.len() > 1 {
            output.line("")?;
            output.text(&column.name)?;
            let rows = top.iter().map(|top| {
                [bar(top.pct), format!("{} %", top.pct), grouped(top.count), first(&top.value)]
            });
            output.table(["", "", "", ""], &[1, 2], rows)?;
        }
    }
    if !profile.alerts.is_empty() {
        output.line("")?;
    }
    for alert in &profile.alerts {
        output.text(format_args!("! {}: {}", alert.column, alert.message))?;
    }
    Ok(())
}

/// The beginning of a value, in one line.
fn first(text: &str) -> String {
    const MOST: usize = 40;
    let line = text.lines().next().unwrap_or_default();
    match line.chars().count() > MOST || line.len() < text.len() {
        true => line.chars().take(MOST).chain(['…']).collect(),
        false => line.to_string(),
    }
}

fn range(column: &ColumnProfile) -> String {
    let between = |from: Option<String>, to: Option<String>| match (from, to) {
        (Some(from), Some(to)) if from == to => from,
        (Some(from), Some(to)) => format!("{from} … {to}"),
        _ => "-".to_string(),
    };
    if let Some(stats) = &column.numeric_stats {
        let text = |number: &Option<_>| number.as_ref().map(serde_json::Number::to_string);
        return between(text(&stats.min), text(&stats.max));
    }
    if let Some(stats) = &column.date_stats {
        return between(stats.earliest.clone(), stats.latest.clone());
    }
    if let Some(stats) = &column.boolean_stats {
        return format!("{} % true", stats.true_pct);
    }
    match &column.string_stats {
        Some(stats) => {
            let text = |n: Option<u64>| n.map(|n| n.to_string());
            match between(text(stats.min_length), text(stats.max_length)) {
                dash if dash == "-" => dash,
                lengths => format!("{lengths} characters"),
            }
        }
        None => "-".to_string(),
    }
}

fn spread(column: &ColumnProfile) -> String {
    let chart = |histogram: &Histogram| bars(&histogram.counts);
    match column.type_category {
        Category::Numeric => column.numeric_stats.as_ref().map(|stats| chart(&stats.histogram)),
        Category::Date | Category::Timestamp => {
            column.date_stats.as_ref().map(|stats| chart(&stats.histogram))
        }
        Category::Boolean => column.boolean_stats.as_ref().map(|stats| bar(stats.true_pct)),
        Category::String => column.string_stats.as_ref().map(|stats| {
            let counts: Vec<u64> =
                stats.top_values.iter().map(|TopValue { count, .. }| *count).collect();
            bars(&counts)
        }),
    }
    .unwrap_or_default()
}

/// A bar for each count, as high as it is; several counts in one where there are many.
fn bars(counts: &[u64]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const MOST: usize = 24;
    let wide = counts.len().div_ceil(MOST).max(1);
    let counts: Vec<u64> = counts.chunks(wide).map(|chunk| chunk.iter().sum()).collect();
    let highest = counts.iter().copied().max().unwrap_or(0).max(1);
    let bar = |count: &u64| match count {
        0 => ' ',
        count => {
            let height = (u128::from(*count) * 8).div_ceil(u128::from(highest));
            HEIGHTS.get(usize::try_from(height).unwrap_or(8) - 1).copied().unwrap_or('█')
        }
    };
    counts.iter().map(bar).collect()
}

/// A bar as long as so many percent.
fn bar(percent: f64) -> String {
    const PARTS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
    const LENGTH: f64 = 20.0;
    let eighths = (percent / 100.0 * LENGTH * 8.0).round().clamp(0.0, LENGTH * 8.0) as usize;
    let rest = (eighths % 8).checked_sub(1).and_then(|at| PARTS.get(at));
    "█".repeat(eighths / 8).chars().chain(rest.copied()).collect()
}
