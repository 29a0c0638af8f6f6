//! A connector of one's own, complete: it implements `Connector`, writes its extract through
//! `ExtractWriter`, and proves with the conformance checks that it obeys the contract.
//!
//! Its source is the calendar: a table of days and one of months. A real connector would ask
//! a system over the network in `rows_of`; everything around that stays the same.
//!
//! `cargo run --example custom_connector` from the top of the checkout.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;

use agnes_core::arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use agnes_core::arrow::datatypes::{DataType, Field, Schema};
use agnes_core::connector::{Connector, ConnectorReport, Job, TableOutcome, TableStatus};
use agnes_core::extract::{ExtractWriter, WriteMode};
use agnes_core::{Agnes, Error, Kind, NoProgress, QueryOptions, Result, SourceName, TableName};

/// Days and months of one year.
struct Calendar {
    year: i32,
}

const MONTHS: [(&str, i32); 12] = [
    ("January", 31),
    ("February", 28),
    ("March", 31),
    ("April", 30),
    ("May", 31),
    ("June", 30),
    ("July", 31),
    ("August", 31),
    ("September", 30),
    ("October", 31),
    ("November", 30),
    ("December", 31),
];

impl Calendar {
    fn days_in(&self, month: usize) -> i32 {
        let leap = (self.year % 4 == 0 && self.year % 100 != 0) || self.year % 400 == 0;
        let days = MONTHS.get(month).map_or(0, |(_, days)| *days);
        days + i32::from(leap && month == 1)
    }

    /// The rows of a table, as one Arrow batch. This is where a system would be asked.
    fn rows_of(&self, table: &str) -> Result<RecordBatch> {
        let (names, numbers): (Vec<String>, Vec<i32>) = match table {
            "months" => (0..12)
                .map(|m| (MONTHS.get(m).map_or("", |(name, _)| *name).to_string(), self.days_in(m)))
                .unzip(),
            _ => (0..12)
                .flat_map(|m| (1..=self.days_in(m)).map(move |day| (m, day)))
                .map(|(m, day)| (format!("{:04}-{:02}-{day:02}", self.year, m + 1), day))
                .unzip(),
        };
        let (name, number) =
            if table == "months" { ("month", "days") } else { ("day", "of_month") };
        let schema = Schema::new(vec![
            Field::new(name, DataType::Utf8, false),
            Field::new(number, DataType::Int32, false),
        ]);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(names)), Arc::new(Int32Array::from(numbers))];
        RecordBatch::try_new(Arc::new(schema), columns)
            .map_err(|e| Error::new(Kind::Internal, "the columns don't fit together").because(e))
    }
}

impl Connector for Calendar {
    fn extract(&self, job: &Job<'_>) -> Result<ConnectorReport> {
        // Partial: tables that are not due stay as they are.
        let mut writer = ExtractWriter::begin(job.folder, WriteMode::Partial, job.now)?;
        let mut report = ConnectorReport::default();
        for name in ["days", "months"] {
            let table = TableName::parse(name)?;
            if job.tables.is_some_and(|due| !due.contains(&table)) {
                continue;
            }
            // What the rows depend on. Where it is what it was, there is nothing to do.
            let input = format!("calendar of {}", self.year);
            let status = match writer.noted_input(&table) {
                Some(noted) if noted == input => TableStatus::Unchanged,
                Some(_) => TableStatus::Replaced,
                None => TableStatus::Created,
            };
            if status != TableStatus::Unchanged {
                let batch = self.rows_of(name)?;
                let mut rows = writer.table(&table, batch.schema())?;
                rows.write(&batch)?;
                rows.finish()?;
                writer.describe(&table, &format!("the {name} of {}", self.year));
                writer.note_input(&table, &input);
            }
            let rows = writer.rows(&table).unwrap_or(0);
            report.tables.push(TableOutcome { table, from: None, rows, status, error: None });
        }
        // Nothing is seen of the new extract before this returns.
        if report.changed() {
            writer.finish()?;
        }
        Ok(report)
    }
}

fn run(data_dir: &Path) -> Result<usize> {
    let agnes = Agnes::open(data_dir)?;
    let source = SourceName::parse("calendar")?;
    agnes.ingest(&source, &Calendar { year: 2028 }, &NoProgress)?;
    agnes.rebuild(None, &NoProgress)?;
    let february = "SELECT * FROM days WHERE day LIKE '2028-02-%'";
    Ok(agnes.session()?.query(february, &QueryOptions::default())?.read_all()?.len())
}

fn main() -> Result<()> {
    println!("February 2028 has {} days", run(Path::new("agnes-demo/calendar"))?);
    Ok(())
}

#[test]
fn it_publishes_its_tables() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path()).unwrap(), 29);
}

#[test]
fn it_obeys_the_contract() {
    let findings = agnes_core::conformance::check_connector(&Calendar { year: 2027 }).unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
}
