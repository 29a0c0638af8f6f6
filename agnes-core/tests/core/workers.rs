//! Statements that run in worker processes: what their callers see, and what survives.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use agnes_core::query::{Parameter, QueryLimits, QueryOptions};
use agnes_core::{Kind, Rows, Session, Wall, WorkerProgram, WorkerSettings};

use rustix::process::{Pid, Signal, kill_process};

use crate::sessions::Shop;
use crate::support::{Place, query_error, query_in};

/// This crate's own worker, told whose it is.
// Where the engine of a development build lies.
#[allow(clippy::disallowed_methods)]
pub fn settings(place: &Place) -> WorkerSettings {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_agnes-worker"));
    let arguments = vec![place.data().display().to_string()];
    let loader = std::env::var_os("LD_LIBRARY_PATH").map(|value| ("LD_LIBRARY_PATH".into(), value));
    let environment = loader.into_iter().collect();
    WorkerSettings::new(WorkerProgram { path, arguments, environment })
}

fn shop(place: &Place) -> Shop {
    Shop::open_with(place, QueryLimits::default(), Some(settings(place)))
}

#[test]
fn a_worker_shows_what_a_session_shows() {
    let place = Place::new();
    let shop = shop(&place);
    let session = shop.session();
    assert_eq!(query_in(&session, "SELECT count(*), sum(amount) FROM orders"), "5|15.00");
    assert_eq!(query_in(&session, "SHOW TABLES"), "customers\norders");
    assert_eq!(query_error(&session, "FROM salaries").kind(), Kind::Denied);
    let options = QueryOptions {
        parameters: vec![Parameter::Float(f64::NAN), Parameter::Text("c1".into())],
        ..QueryOptions::default()
    };
    let rows =
        session.query("SELECT isnan($1), count(*) FROM orders WHERE customer = $2", &options);
    assert_eq!(rows.unwrap().read_all().unwrap().len(), 1);
    assert_eq!(shop.agnes.worker_walls().unwrap().unwrap().len(), Wall::ALL.len());
    let counts = shop.agnes.workers().unwrap();
    assert!(counts.started >= 2 && counts.ended == 0, "{counts:?}");
}

/// Statements that no guard refuses and no interrupt reaches soon, or that end the process.
const HANGS: &str = "SELECT count(*) FROM range(100000000) a, range(100000) b";

#[test]
fn a_statement_that_takes_too_long_costs_nobody_anything() {
    let place = Place::new();
    let shop = shop(&place);
    let session = shop.session();
    let options =
        QueryOptions { time: Some(Duration::from_millis(300)), ..QueryOptions::default() };
    let begun = Instant::now();
    let error = session.query(HANGS, &options).and_then(Rows::read_all).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(query_in(&session, "SELECT count(*) FROM orders"), "5");
}

#[test]
fn a_worker_that_is_killed_is_replaced_at_once() {
    let place = Place::new();
    let shop = shop(&place);
    let session: Session = shop.session();
    assert_eq!(query_in(&session, "SELECT count(*) FROM orders"), "5");
    for pid in workers_of(&place) {
        kill_process(pid, Signal::KILL).unwrap();
    }
    assert_eq!(query_in(&session, "SELECT count(*) FROM orders"), "5");
    // Nor is a text that has to be parsed first.
    for pid in workers_of(&place) {
        kill_process(pid, Signal::KILL).unwrap();
    }
    assert_eq!(query_in(&session, "SELECT count(*) + 1 FROM orders"), "6");
}

/// The processes that are workers of this place.
fn workers_of(place: &Place) -> Vec<Pid> {
    let told = place.data().display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_one = |pid: &i32| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.trim_end_matches('\0').ends_with(&told)
    };
    pids.filter(is_one).filter_map(Pid::from_raw).collect()
}
