//! The smallest whole program: files in, SQL out.
//!
//! `cargo run --example quickstart` from the top of the checkout.
#![allow(clippy::print_stdout)]

use std::path::Path;

use agnes_core::arrow::util::pretty::pretty_format_batches;
use agnes_core::connectors::files::{FilesConnector, FilesOptions};
use agnes_core::{Agnes, Error, Kind, NoProgress, QueryOptions, Result, SourceName};

/// Publishes the aviation files below `files` and answers one question.
fn run(data_dir: &Path, files: &Path) -> Result<String> {
    let agnes = Agnes::open(data_dir)?;

    let aviation = SourceName::parse("aviation")?;
    let connector = FilesConnector::new(vec![files.into()], FilesOptions::default());
    agnes.ingest(&aviation, &connector, &NoProgress)?;
    agnes.rebuild(None, &NoProgress)?;

    let rows = agnes.session()?.query(
        "SELECT origin, count(*) AS flights, round(avg(delay), 1) AS delay_min
         FROM flights GROUP BY origin ORDER BY flights DESC, origin LIMIT 3",
        &QueryOptions::default(),
    )?;
    let table = pretty_format_batches(&rows.read_all()?.batches)
        .map_err(|e| Error::new(Kind::Internal, "the rows can't be shown").because(e))?;
    Ok(table.to_string())
}

fn main() -> Result<()> {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/aviation");
    println!("{}", run(Path::new("agnes-demo/quickstart"), &files)?);
    Ok(())
}

#[test]
fn it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/aviation");
    let table = run(dir.path(), &files).unwrap();
    assert!(table.contains("flights"), "{table}");
    assert_eq!(table.lines().count(), 7, "{table}");
}
