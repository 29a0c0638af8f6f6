//! `agnes status`: what is published.

use agnes_core::{Agnes, EngineInfo, Generation, Result, engine_info, missing_icu};
use clap::Args;

use super::output::{Done, Output, bytes, count, grouped};

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) json: super::Json,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    data_dir: String,
    engine: &'a EngineInfo,
    generation: u64,
    published_at: Option<agnes_core::Timestamp>,
    tables: Vec<Row<'a>>,
}

#[derive(serde::Serialize)]
struct Row<'a> {
    name: &'a str,
    source: &'a str,
    query_mode: agnes_core::extract::QueryMode,
    rows: u64,
    size_bytes: u64,
    columns: usize,
    extracted_at: Option<agnes_core::Timestamp>,
    md5: &'a str,
    description: Option<&'a str>,
}

fn rows(generation: &Generation) -> Vec<Row<'_>> {
    generation
        .views
        .iter()
        .map(|(name, view)| Row {
            name: name.as_str(),
            source: view.source.as_str(),
            query_mode: view.query_mode,
            rows: view.rows,
            size_bytes: view.size_bytes,
            columns: view.columns.len(),
            extracted_at: view.extracted_at,
            md5: view.md5(),
            description: view.description.as_deref(),
        })
        .collect()
}

impl Status {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let engine = engine_info()?;
        let generation = agnes.generation()?;
        let report = Report {
            data_dir: agnes.layout().root().display().to_string(),
            engine: &engine,
            generation: generation.as_ref().map_or(0, |g| g.number),
            published_at: generation.as_ref().map(|g| g.created_at),
            tables: generation.as_ref().map(rows).unwrap_or_default(),
        };
        if self.json.json {
            output.json(&report)?;
        } else {
            show(&report, output)?;
        }
        if let Some(warning) = missing_icu(&engine) {
            output.note(format_args!("warning: {warning}"));
        }
        Ok(Done::Whole)
    }
}

fn show(report: &Report<'_>, output: &Output) -> Result<()> {
    let Some(at) = report.published_at else {
        output.line(format_args!("{}: nothing is published yet", report.data_dir))?;
        output.note("run `agnes ingest` and `agnes rebuild`, or `agnes demo` to see how it goes");
        return Ok(());
    };
    output.line(format_args!(
        "{}: generation {} of {at}, {}",
        report.data_dir,
        report.generation,
        count(report.tables.len(), "table")
    ))?;
    if report.tables.is_empty() {
        return Ok(());
    }
    let lines = report.tables.iter().map(|row| {
        [
            row.name.to_string(),
            row.source.to_string(),
            grouped(row.rows),
            bytes(row.size_bytes),
            grouped(row.columns as u64),
            row.extracted_at.map_or_else(|| "-".to_string(), |t| t.to_string()),
        ]
    });
    let header = ["table", "source", "rows", "size", "columns", "extracted at"];
    output.table(header, &[2, 3, 4], lines)
}
