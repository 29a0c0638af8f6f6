//! Rows of another system beside published tables, in a session of one caller's own.
//!
//! `cargo run --example hybrid` from the top of the checkout. The other system is a second DuckDB
//! here; a `RemoteEngine` over BigQuery or PostgreSQL looks the same.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agnes_core::access::{Principal, Resource};
use agnes_core::arrow::util::pretty::pretty_format_batches;
use agnes_core::connectors::files::{FilesConnector, FilesOptions};
use agnes_core::query::{RemoteEngine, RemoteEngines, RemoteRows, Stop};
use agnes_core::{
    Agnes, Components, Error, ExternalName, Kind, NoProgress, QueryOptions, Result, Settings,
    SourceName, ViewName,
};

/// A DuckDB file as the remote system.
struct Warehouse {
    file: PathBuf,
}

fn failed(error: duckdb::Error) -> Error {
    Error::new(Kind::Unavailable, error.to_string())
}

impl RemoteEngine for Warehouse {
    // DuckDB can't tell beforehand; BigQuery's dry run does.
    fn scan_bytes(&self, _: &str, _: &Stop) -> Result<Option<u64>> {
        Ok(None)
    }

    fn run(&self, sql: &str, stop: &Stop, rows: &mut RemoteRows) -> Result<()> {
        let connection = duckdb::Connection::open(&self.file).map_err(failed)?;
        let handle = connection.interrupt_handle();
        stop.then(move || handle.interrupt());
        let mut statement = connection.prepare(sql).map_err(failed)?;
        let stream = statement.stream_arrow([]).map_err(failed)?;
        rows.columns(stream.get_schema())?;
        for batch in stream {
            rows.rows(batch.map_err(failed)?)?;
        }
        Ok(())
    }
}

/// Joins the fares of a warehouse with the airports that are published here.
fn run(data_dir: &Path, files: &Path) -> Result<String> {
    std::fs::create_dir_all(data_dir)
        .map_err(|e| Error::new(Kind::Unavailable, "the folder can't be made").because(e))?;
    let file = data_dir.join("warehouse.duckdb");
    let fares = "CREATE OR REPLACE TABLE fares AS SELECT * FROM (VALUES
                 ('SEA', 120), ('SEA', 180), ('ORD', 90), ('XXX', 1)) fares(airport, price)";
    duckdb::Connection::open(&file).and_then(|c| c.execute_batch(fares)).map_err(failed)?;

    let name = ExternalName::parse("warehouse")?;
    let remote_engines = RemoteEngines::default().with(&name, Arc::new(Warehouse { file }));
    let components = Components { remote_engines, ..Components::default() };
    let agnes = Agnes::open_with(data_dir.join("data"), Settings::default(), components)?;
    let connector = FilesConnector::new(vec![files.into()], FilesOptions::default());
    agnes.ingest(&SourceName::parse("aviation")?, &connector, &NoProgress)?;
    agnes.rebuild(None, &NoProgress)?;

    let who = Principal::Operator;
    let engine = agnes.access()?.decide(&who, &Resource::parse("remote_engine:warehouse")?);
    let mut session = agnes.hybrid_session(&who)?;
    let fares = "SELECT airport, avg(price) AS fare FROM fares GROUP BY airport";
    session.register(&engine.permit()?, &ViewName::parse("fares")?, fares)?;
    let rows = session.query(
        "SELECT city, fare FROM airports JOIN fares ON iata = airport ORDER BY city",
        &QueryOptions::default(),
    )?;
    let table = pretty_format_batches(&rows.read_all()?.batches)
        .map_err(|e| Error::new(Kind::Internal, "the rows can't be shown").because(e))?;
    Ok(table.to_string())
}

fn main() -> Result<()> {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/aviation");
    println!("{}", run(Path::new("agnes-demo/hybrid"), &files)?);
    Ok(())
}

#[test]
fn it_joins() {
    let dir = tempfile::tempdir().unwrap();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/aviation");
    let table = run(dir.path(), &files).unwrap();
    assert!(table.contains("Seattle | 150.0"), "{table}");
    assert_eq!(table.lines().count(), 6, "{table}");
}
