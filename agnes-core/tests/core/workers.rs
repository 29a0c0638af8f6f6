//! Statements that run in worker processes: what their callers see, and what survives.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use agnes_core::access::{Principal, Resource};
use agnes_core::arrow::compute;
use agnes_core::query::{AllRows, Parameter, QueryLimits, QueryOptions};
use agnes_core::{
    Agnes, Components, Key, Kind, NoProgress, Progress, Rows, Session, Settings, Wall,
    WorkerSettings,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::sessions::Shop;
use crate::support::{Place, left_out, query_error, query_in, rebuild, table};

fn shop(place: &Place) -> Shop {
    shop_with(place, QueryLimits::default(), place.workers())
}

fn shop_with(place: &Place, query: QueryLimits, workers: WorkerSettings) -> Shop {
    Shop::with(place, Settings { query, workers: Some(workers), ..Settings::default() })
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

#[test]
fn rows_of_every_shape_come_through() {
    let place = Place::new();
    let shop = shop(&place);
    let there = shop.session();
    let here = Agnes::open(place.data()).unwrap();
    let here = here.session().unwrap();
    let options = QueryOptions { max_rows: None, max_bytes: None, ..QueryOptions::default() };
    for sql in [
        "SELECT NULL AS n FROM range(100000)",
        "SELECT NULL AS n, i FROM range(5000) t(i)",
        "SELECT i FROM range(3) t(i) WHERE false",
        "SELECT ('a' || i % 3)::ENUM('a0', 'a1', 'a2') AS e FROM range(10000) t(i)",
        "SELECT [i, NULL] AS l, {'a': i, 'b': [{'c': 's' || i}]} AS s, MAP {'k': i} AS m FROM range(9000) t(i)",
        "SELECT i::HUGEINT, i::UHUGEINT, '101'::BIT, TIMETZ '12:00:00+02', uuid() IS NULL FROM range(10) t(i)",
        "SELECT INTERVAL (i) DAY, i::DECIMAL(38, 3), union_value(a := i), i::VARCHAR::BLOB FROM range(10) t(i)",
        "SELECT string_agg(repeat('x', 40000), '') AS large FROM range(1000)",
        "PIVOT (SELECT i % 3 AS k, i FROM range(9) t(i)) ON k USING sum(i)",
        "EXPLAIN SELECT count(*) FROM orders",
    ] {
        let all = |session: &Session| {
            let rows = session.query(sql, &options).and_then(Rows::read_all);
            rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
        };
        let (ours, theirs) = (all(&there), all(&here));
        assert_eq!(ours.schema, theirs.schema, "{sql}");
        if sql.starts_with("EXPLAIN") {
            continue;
        }
        let whole = |all: &AllRows| compute::concat_batches(&all.schema, &all.batches).unwrap();
        assert_eq!(whole(&ours), whole(&theirs), "{sql}");
    }
    let error = query_error(&there, "SELECT string_agg(repeat('x', 50000), '') FROM range(1500)");
    assert!(error.message().contains("larger than 64 MiB"), "{error}");
    assert_eq!(shop.agnes.workers().unwrap().ended, 0);
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
    // What is meant for whoever has started it ends no worker.
    let there = workers_of(&place);
    for (pid, signal) in there.iter().flat_map(|pid| [(*pid, Signal::INT), (*pid, Signal::TERM)]) {
        kill_process(pid, signal).unwrap();
    }
    assert_eq!(query_in(&session, "SELECT count(*) FROM orders"), "5");
    assert_eq!(workers_of(&place), there);
    // Nor is a text that has to be parsed first.
    for pid in workers_of(&place) {
        kill_process(pid, Signal::KILL).unwrap();
    }
    assert_eq!(query_in(&session, "SELECT count(*) + 1 FROM orders"), "6");
}

#[test]
fn a_statement_that_ends_its_worker_is_told_to_its_caller_and_to_the_log() {
    let place = Place::new();
    let shop = shop(&place);
    let session = shop.session();
    std::thread::scope(|scope| {
        let honest = shop.agnes.session().unwrap();
        assert_eq!(query_in(&honest, "SELECT count(*) FROM salaries"), "1");
        let before = workers_of(&place);
        assert_eq!(query_in(&session, "SELECT count(*) FROM orders"), "5");
        let hers = waited(|| workers_of(&place).into_iter().find(|pid| !before.contains(pid)));
        waited(|| (shop.agnes.workers().unwrap().busy == 0).then_some(()));
        let ended = scope.spawn(|| query_error(&session, HANGS));
        waited(|| (shop.agnes.workers().unwrap().busy == 1).then_some(()));
        // A tenth of a second: it computes.
        let begun = ticks_of(hers);
        waited(|| (ticks_of(hers) > begun + 10).then_some(()));
        kill_process(hers, Signal::ABORT).unwrap();
        let error = ended.join().unwrap();
        assert_eq!(error.kind(), Kind::Limit, "{error}");
        assert!(error.message().starts_with("the query ended its worker"), "{error}");
        assert_eq!(error.context(Key::Reason), Some("worker_ended"));
        assert_eq!(query_in(&honest, "SELECT count(*) FROM salaries"), "1");
    });
    assert_eq!(shop.agnes.workers().unwrap().ended, 1);
    let access = shop.access();
    let told = access.admin(&Principal::Operator).unwrap().audit(100).unwrap();
    let told = told.iter().find(|event| event.action == "query.worker_ended").unwrap();
    assert_eq!(told.user.as_deref(), Some(shop.id.as_str()));
    assert_eq!(told.params.as_ref().unwrap()["sql"], HANGS);
    assert!(told.result.as_ref().unwrap().contains("gave up"), "{told:?}");
}

#[test]
fn there_are_no_more_workers_than_there_may_be() {
    let place = Place::new();
    let limits = QueryLimits { patience: Duration::from_millis(200), ..QueryLimits::default() };
    let shop = shop_with(&place, limits, WorkerSettings { most: 1, ..place.workers() });
    let session = shop.session();
    // One that lists tables takes the place of one that reads them.
    assert_eq!(query_in(&session, "SELECT count(*) FROM orders"), "5");
    assert_eq!(query_in(&session, "SHOW TABLES"), "customers\norders");
    assert_eq!(workers_of(&place).len(), 1);
    // It is given back once its caller has heard all.
    waited(|| (shop.agnes.workers().unwrap().busy == 0).then_some(()));
    let options = QueryOptions { time: Some(Duration::from_secs(1)), ..QueryOptions::default() };
    std::thread::scope(|scope| {
        let long = scope.spawn(|| session.query(HANGS, &options).and_then(Rows::read_all));
        waited(|| (shop.agnes.workers().unwrap().busy == 1).then_some(()));
        let error = query_error(&session, "SELECT 1");
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        long.join().unwrap().unwrap_err();
    });
    waited(|| (shop.agnes.workers().unwrap().busy == 0).then_some(()));
    assert_eq!(query_in(&session, "SELECT count(*) FROM orders"), "5");
}

#[test]
fn one_that_ends_while_it_waits_leaves_nothing() {
    let place = Place::new();
    let idle = Duration::from_millis(100);
    let shop =
        shop_with(&place, QueryLimits::default(), WorkerSettings { idle, ..place.workers() });
    let session = shop.session();
    for ends in [Signal::KILL, Signal::CONT] {
        assert_eq!(query_in(&session, "SELECT count(*) FROM orders"), "5");
        let there = workers_of(&place);
        there.iter().for_each(|pid| kill_process(*pid, ends).unwrap());
        waited(|| (shop.agnes.workers().unwrap().idle == 0).then_some(()));
        // Nor does one stay as a process that has ended and that nobody has asked for.
        let is_listed = |pid: &Pid| Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists();
        waited(|| (!there.iter().any(is_listed)).then_some(()));
    }
}

#[test]
fn workers_have_only_so_much_memory_together() {
    let place = Place::new();
    let _shop = shop(&place);
    // A rebuild's have no more than others.
    let workers = WorkerSettings { memory_bytes: 1 << 20, ..place.workers() };
    let settings = Settings { workers: Some(workers), ..Settings::default() };
    let agnes = Agnes::open_with(place.data(), settings, Components::default()).unwrap();
    let error = query_error(&agnes.session().unwrap(), HANGS);
    assert_eq!(error.kind(), Kind::Limit, "{error}");
    assert!(error.message().contains("more memory than they may have"), "{error}");
}

/// One byte of a table's rows was changed, with the checksum of its block: DuckDB 2.0.0 ends as it reads
/// them. A later version may not; then this needs another file.
const CRASHING: &[u8] = include_bytes!("../../../tests/cases/crashing-extract.duckdb.zst");

#[test]
fn an_extract_that_crashes_the_engine_is_left_out_and_takes_nothing_along() {
    let place = Place::new();
    place.foreign("shop", &table("orders", "SELECT 1 AS id"));
    let crashing = zstd::decode_all(CRASHING).unwrap();
    place.write("data/extracts/evil/extract.duckdb", crashing);
    let settings = Settings { workers: Some(place.workers()), ..Settings::default() };
    let agnes = Agnes::open_with(place.data(), settings, Components::default()).unwrap();
    let report = agnes.rebuild(None, &NoProgress).unwrap();
    let said: Vec<&str> = report.skipped.iter().map(|skipped| skipped.error.message()).collect();
    assert!(said.iter().any(|said| said.contains("the engine crashed")), "{said:?}");
    assert_eq!(query_in(&agnes.session().unwrap(), "SELECT count(*) FROM orders"), "1");
    assert!(agnes.workers().unwrap().ended > 0);
}

/// Has the engine crash in the workers that look at files, as long as it is to.
struct Crashing<'p> {
    place: &'p Place,
    times: AtomicUsize,
}

impl Progress for Crashing<'_> {
    fn start(&self, _: &str, _: u64) {}

    fn step(&self, _: u64) {
        let left = |times: usize| times.checked_sub(1);
        if self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_err() {
            return;
        }
        // One that waits to become a worker has one thread.
        let threads =
            |pid: &Pid| std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        for pid in workers_of(self.place).iter().filter(|pid| threads(pid) > 1) {
            let _ = kill_process(*pid, Signal::ABORT);
        }
    }
}

#[test]
fn whoever_looks_at_files_and_crashes_is_replaced() {
    let place = Place::new();
    let tables: Vec<String> =
        (0..60).map(|i| table(&format!("t{i}"), &format!("SELECT {i} AS id"))).collect();
    place.foreign("shop", &tables.join(";"));
    let settings = Settings { workers: Some(place.workers()), ..Settings::default() };
    let agnes = Agnes::open_with(place.data(), settings, Components::default()).unwrap();
    let crashing = Crashing { place: &place, times: AtomicUsize::new(20) };
    match agnes.rebuild(None, &crashing) {
        // The file that a new one looks at just then may be left out, and after some all others.
        Ok(report) => {
            let said = left_out(&report);
            let is_known = |said: &str| {
                said.contains("ends what reads it") || said.contains("others of its source")
            };
            assert!(said.lines().all(is_known), "{said}");
        }
        Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "{error}"),
    }
    assert!(agnes.workers().unwrap().ended > 0);
    assert_eq!(left_out(&rebuild(&agnes)), "");
    assert_eq!(query_in(&agnes.session().unwrap(), "SHOW TABLES").lines().count(), 60);
}

#[test]
fn a_file_that_is_none_is_told_alike_by_whoever_looks_at_it() {
    let said = [false, true].map(|in_workers| {
        let place = Place::new();
        let tables = ["small", "large", "good"].map(|name| table(name, "SELECT 1 AS id"));
        let folder = place.foreign("shop", &tables.join(";"));
        // What lies in between the ends is no footer.
        for (name, size) in [("small", 1000), ("large", 3 << 20)] {
            let footer = u32::try_from(size).unwrap().to_le_bytes();
            let bytes = [&b"PAR1"[..], &vec![7; size], &footer, b"PAR1"].concat();
            std::fs::write(folder.join(format!("data/{name}.parquet")), bytes).unwrap();
        }
        let workers = in_workers.then(|| place.workers());
        let settings = Settings { workers, ..Settings::default() };
        let agnes = Agnes::open_with(place.data(), settings, Components::default()).unwrap();
        let report = rebuild(&agnes);
        assert_eq!(query_in(&agnes.session().unwrap(), "SHOW TABLES"), "good");
        // Nothing of them stays.
        let pins = std::fs::read_dir(place.data().join("analytics/pins/shop")).unwrap();
        let names = pins.map(|pin| pin.unwrap().file_name().into_string().unwrap());
        let names: Vec<String> = names.filter(|name| !name.starts_with("good.")).collect();
        assert!(names.is_empty(), "{names:?}");
        left_out(&report)
    });
    assert_eq!(said[0].matches("has a broken footer: it doesn't begin").count(), 2, "{said:?}");
    assert_eq!(said[0], said[1]);
}

#[test]
fn a_table_that_the_engine_refuses_is_refused_in_a_worker() {
    let place = Place::new();
    // A sound parquet file, but for a note that the engine tries to understand.
    let bad = "COPY (SELECT 1 AS x) TO '$D/data/b.parquet'
           (FORMAT parquet, KV_METADATA {geo: '{\"version\":\"9\"}'});
         CREATE VIEW b WITH (defer_binding = true) AS FROM read_parquet('$D/data/b.parquet');
         INSERT INTO _meta (table_name) VALUES ('b');";
    place.foreign("s", &[bad, &table("a", "SELECT 1 AS v")].concat());
    let settings = Settings { workers: Some(place.workers()), ..Settings::default() };
    let agnes = Agnes::open_with(place.data(), settings, Components::default()).unwrap();
    let said = left_out(&rebuild(&agnes));
    assert!(said.contains("`b` of `s` is left out: it can't be read by DuckDB: "), "{said}");
    assert!(!said.contains(place.data().to_str().unwrap()), "{said}");
    assert_eq!(query_in(&agnes.session().unwrap(), "FROM a"), "1");
}

#[test]
fn a_profile_whose_worker_is_ended_isn_t_half_a_profile() {
    let place = Place::new();
    place.foreign(
        "shop",
        &table("orders", "SELECT i, hash(i)::VARCHAR AS h FROM range(2000000) t(i)"),
    );
    rebuild(&place.agnes());
    let workers = WorkerSettings { memory_bytes: 1 << 20, ..place.workers() };
    let settings = Settings { workers: Some(workers), ..Settings::default() };
    let agnes = Agnes::open_with(place.data(), settings, Components::default()).unwrap();
    agnes.adopt(&Principal::Operator, None).unwrap();
    let access = agnes.access().unwrap();
    let orders = access.decide(&Principal::Operator, &Resource::parse("table:orders").unwrap());
    let error = agnes.profile(&orders.permit().unwrap()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
}

#[test]
fn a_rebuild_whose_workers_are_killed_loses_nothing() {
    let place = Place::new();
    let shop = shop(&place);
    let before = shop.agnes.generation().unwrap().unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    let is_over = || over.load(std::sync::atomic::Ordering::SeqCst);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over() {
                for pid in workers_of(&place) {
                    let _ = kill_process(pid, Signal::KILL);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        for round in 0..5 {
            place.foreign("hr", &table("orders", &format!("SELECT {round} AS id")));
            match shop.agnes.rebuild(None, &NoProgress) {
                Ok(report) => assert!(report.skipped.iter().all(is_passing), "{report:?}"),
                Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "{error}"),
            }
        }
        over.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    let generation = shop.agnes.generation().unwrap().unwrap();
    assert!(generation.number >= before.number);
    assert!(generation.views.keys().any(|name| name.as_str() == "orders"));
    rebuild(&shop.agnes);
    assert_eq!(query_in(&shop.session(), "FROM orders"), "4");
}

/// Whether the next rebuild finds out more.
fn is_passing(skipped: &agnes_core::extract::Skipped) -> bool {
    skipped.error.kind() == Kind::Unavailable
}

/// What something comes to, soon.
fn waited<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Some(found) => return found,
            None if begun.elapsed() > Duration::from_secs(20) => panic!("it never came to that"),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The CPU time of a process, hundredths of a second.
fn ticks_of(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    let behind = stat.rsplit(") ").next().unwrap();
    behind.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// The processes that are workers of this place. One that waits to be told what it is for has one thread.
fn workers_of(place: &Place) -> Vec<Pid> {
    let told = place.data().display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_one = |pid: &i32| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        command.trim_end_matches('\0').ends_with(&told) && threads > 1
    };
    pids.filter(is_one).filter_map(Pid::from_raw).collect()
}
