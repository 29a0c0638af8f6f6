//! The figures of `benches/README.md` about the server: `make bench BENCH=server`.
//!
//! A server of its own is started for each section and asked by wrk, by curl and by a client with one
//! connection, on the same cores; nginx serves the same file in turn with it. `server-soak` runs for
//! ten minutes, or as many seconds as a second argument says, and only by its name.
#![allow(missing_docs)]

mod client;
mod soak;

use std::path::Path;
use std::time::{Duration, Instant};

use agnes_benches::running::{Running, nginx, serve};
use agnes_benches::{head, house, line, median, place, publish, sections, shown, table_name};
use agnes_core::extract::WriteMode;
use agnes_core::{ExtractWriter, TableName};
use client::{Client, Load, curl, wrk};
use serde_json::json;

fn main() {
    let words = sections(&[
        ("server-small", small),
        ("server-download", downloads),
        ("server-query", queries),
        ("server-catalog", catalogs),
        ("server-start", starts),
        ("server-mixed", mixed),
    ]);
    if words.iter().any(|name| name == "server-soak") {
        head();
        let seconds = words.iter().find_map(|word| word.parse().ok());
        soak::soak(seconds.unwrap_or(600));
    }
}

fn load(what: &str, load: Option<Load>, limit: &str) {
    match load {
        Some(load) => line(
            what,
            format!(
                "{:.0} requests/s, p50 {}, p99 {}",
                load.per_second,
                shown(load.p50),
                shown(load.p99)
            ),
            limit,
        ),
        None => line(what, "wrk isn't there".into(), limit),
    }
}

/// What a proxy asks for each of its requests.
fn small() {
    let home = house("server-small", 10, 100);
    let server = serve(&home, "");
    let url = format!("{}/api/data/{}/check-access", server.url, table_name(3, 14));
    let session = Client::ada(&server);
    let reach = "≥ 25,000 requests/s, p99 ≤ 10 ms";
    wrk(&url, Some(&session), 64, 2);
    load(
        "check-access with a session's token, 64 connections",
        wrk(&url, Some(&session), 64, 10),
        reach,
    );
    let token = session.with_token();
    load("the same with a personal token", wrk(&url, Some(&token), 64, 10), reach);
    let long = wrk(&url, Some(&token), 64, 40);
    let many = long.map_or(0, |long| long.requests);
    let after = wrk(&url, Some(&token), 64, 10);
    load(&format!("the same after {:.1} million more", many as f64 / 1e6), after, reach);
    let health = wrk(&format!("{}/api/health", server.url), None, 64, 5);
    load("health, 64 connections", health, "-");
    if let Some(nginx) = nginx(&home, &home) {
        let answer = wrk(&format!("{}/ok", nginx.url), None, 64, 5);
        load("nginx with an answer of two bytes, 64 connections", answer, "-");
    }
    line("memory after that", format!("{} MB", server.memory() / 1_000_000), "-");
}

/// A source with a large table and one of 100,000 rows.
fn large(home: &Path, bytes: u64) {
    let folder = home.join("extracts/big");
    std::fs::create_dir_all(&folder).expect("folders can be made");
    let now = agnes_core::Agnes::open(home).expect("the folder opens").now();
    let mut writer = ExtractWriter::begin(&folder, WriteMode::Replace, now).expect("it begins");
    let name = |name| TableName::parse(name).expect("a name");
    // Values that can't be packed: eight bytes each.
    let rows = bytes / 32;
    writer
        .table_from_sql(
            &name("big"),
            &format!("SELECT hash(range) AS a, hash(range + 1) AS b, hash(-range) AS c, hash(range * 7) AS d FROM range({rows})"),
        )
        .expect("it is written");
    writer
        .table_from_sql(
            &name("rows"),
            "SELECT range AS id, 'customer ' || (range % 5000) AS customer, range * 1.5 AS amount,
               DATE '2026-01-01' + (range % 365)::INT AS day, range % 7 = 0 AS flag,
               random() AS score, TIMESTAMP '2026-01-01' + INTERVAL (range) SECOND AS at,
               'note ' || hash(range) AS note FROM range(100000)",
        )
        .expect("it is written");
    writer.finish().expect("it is written");
    publish(home);
}

/// How fast it goes, and what of the server's CPU a gigabyte costs.
fn rate(
    server: &Running,
    bytes: u64,
    clients: usize,
    once: impl Fn(usize) -> Duration,
) -> (f64, f64) {
    let gigabytes = bytes as f64 * clients as f64 / 1e9;
    let before = server.cpu();
    let took = once(clients);
    (gigabytes / took.as_secs_f64(), (server.cpu() - before).as_secs_f64() / gigabytes)
}

fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn downloads() {
    let home = place("server-download");
    large(&home, 1_000_000_000);
    let server = serve(&home, "");
    let ada = Client::ada(&server);
    // As a proxy hears where the file lies.
    let file = home.join(ada.header("/api/data/big/check-access", "x-agnes-file"));
    let bytes = file.metadata().expect("the file is there").len();
    let url = format!("{}/api/data/big/download", server.url);
    let nginx = nginx(&home, file.parent().expect("a file has a folder"));
    let beside = nginx.as_ref().map(|nginx| {
        (
            nginx,
            format!("{}/{}", nginx.url, file.file_name().and_then(|n| n.to_str()).expect("a name")),
        )
    });
    for clients in [1, 4] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for turn in 0..7 {
            let mine = || rate(&server, bytes, clients, |n| curl(&url, Some(&ada), n));
            let other = || {
                beside
                    .as_ref()
                    .map(|(nginx, url)| rate(nginx, bytes, clients, |n| curl(url, None, n)))
            };
            match turn % 2 {
                0 => (ours.push(mine()), theirs.push(other())),
                _ => (theirs.push(other()), ours.push(mine())),
            };
        }
        let (ours, theirs) = (ours.split_off(1), theirs.split_off(1));
        let of = |runs: &[(f64, f64)]| {
            (middle(runs.iter().map(|r| r.0).collect()), middle(runs.iter().map(|r| r.1).collect()))
        };
        let (speed, cpu) = of(&ours);
        let mut told = format!("{speed:.2} GB/s, {cpu:.2} CPU-s/GB");
        let theirs: Vec<_> = theirs.into_iter().flatten().collect();
        if !theirs.is_empty() {
            let (their_speed, their_cpu) = of(&theirs);
            told += &format!(
                "; nginx {their_speed:.2} GB/s, {their_cpu:.2}: {:.2}x its speed, {:.2}x its CPU",
                speed / their_speed,
                cpu / their_cpu
            );
        }
        line(&format!("download of 1 GB, {clients} at once"), told, "≥ 0.8x, ≤ 2.5x");
    }
}

/// The median time of a call.
fn call(times: usize, mut work: impl FnMut()) -> Duration {
    (0..times.div_ceil(10)).for_each(|_| work());
    let one = |_| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    median((0..times).map(one).collect())
}

fn queries() {
    let home = place("server-query");
    agnes_benches::write_extracts(&home, 1, 10);
    large(&home, 1_000_000);
    let server = serve(&home, ", max_query_rows: 200000");
    let ada = Client::ada(&server);
    let table = table_name(0, 3);
    let sql = format!("SELECT count(*), max(amount) FROM {table} WHERE id < 50");
    let small = json!({"sql": sql});
    // How much of it is the engine's.
    let engine = duckdb::Connection::open_in_memory().expect("the engine opens");
    let file = home.join(format!("extracts/source_00/data/{table}.parquet"));
    let view = format!("CREATE VIEW {table} AS FROM read_parquet('{}')", file.display());
    engine.execute_batch(&view).expect("a view can be made");
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        ours.push(call(100, || drop(ada.post("/api/query", &small))));
        alone.push(call(100, || {
            engine.query_row(&sql, [], |row| row.get::<_, i64>(0)).expect("it runs");
        }));
    }
    let (ours, alone) = (median(ours), median(alone));
    let told = format!(
        "{}; in DuckDB alone {}: {:.2}x",
        shown(ours),
        shown(alone),
        ours.as_secs_f64() / alone.as_secs_f64()
    );
    line("a small query over HTTP", told, "≤ 2.5 ms");
    let all = json!({"sql": "FROM rows", "limit": 100_000});
    let arrow = "application/vnd.apache.arrow.stream";
    let took = call(20, || drop(ada.post_for("/api/query", &all, arrow)));
    line("100,000 rows of 8 columns as Arrow", shown(took), "≤ 60 ms");
    let took = call(20, || drop(ada.post("/api/query", &all)));
    line("the same as JSON", shown(took), "≤ 200 ms");
}

fn catalogs() {
    for (sources, tables, limit) in [(10, 100, "≤ 6 ms"), (20, 500, "≤ 60 ms")] {
        let home = house(&format!("server-{sources}x{tables}"), sources, tables);
        let server = serve(&home, "");
        let ada = Client::ada(&server);
        for (what, path) in [
            ("catalog", "/api/catalog/tables"),
            ("v2 catalog", "/api/v2/catalog"),
            ("manifest", "/api/sync/manifest"),
        ] {
            let took = call(50, || drop(ada.get(path, None)));
            let (body, tag) = ada.get(path, None);
            let again = call(50, || drop(ada.get(path, Some(&tag))));
            line(
                &format!("{what} of {} tables, {} KB; 304", sources * tables, body.len() / 1000),
                format!("{}; {}", shown(took), shown(again)),
                &format!("{limit}; ≤ 1 ms"),
            );
        }
    }
}

fn starts() {
    let home = house("server-start", 10, 100);
    drop(serve(&home, ""));
    let mut times = Vec::new();
    let mut memory = 0;
    for _ in 0..7 {
        let server = serve(&home, "");
        times.push(server.start);
        std::thread::sleep(Duration::from_millis(500));
        memory = memory.max(server.memory());
    }
    line("start to the first healthy answer, 1,000 tables", shown(median(times)), "≤ 300 ms");
    line("memory when idle", format!("{} MB", memory / 1_000_000), "≤ 90 MB");
}

/// Small requests beside 20 downloads and 20 queries that run all the time.
fn mixed() {
    let home = place("server-mixed");
    agnes_benches::write_extracts(&home, 10, 100);
    large(&home, 1_000_000_000);
    let server = serve(&home, "");
    let ada = Client::ada(&server);
    // One user has four statements at a time.
    let users: Vec<Client> = (0..5).map(|at| ada.beside(&server, at)).collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (url, stopped) = (&server.url, &stop);
    let going = || !stopped.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            let header = format!("Authorization: {}", ada.authorization());
            scope.spawn(move || {
                while going() {
                    let mut curl = std::process::Command::new("curl")
                        .args(["-sf", "-o", "/dev/null", "-H", &header])
                        .arg(format!("{url}/api/data/big/download"))
                        .spawn()
                        .expect("curl starts");
                    while going() && matches!(curl.try_wait(), Ok(None)) {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    let _ = curl.kill();
                    let _ = curl.wait();
                }
            });
        }
        for at in 0..20 {
            let authorization = users[at % 5].authorization();
            scope.spawn(move || {
                while going() {
                    let sql =
                        format!("SELECT sum(a % {}), count(DISTINCT b % 100000) FROM big", at + 2);
                    let _ = ureq::post(format!("{url}/api/query"))
                        .header("Authorization", &authorization)
                        .send_json(json!({"sql": sql}));
                }
            });
        }
        std::thread::sleep(Duration::from_secs(3));
        for (what, path) in [
            ("health", "/api/health".to_string()),
            ("check-access", format!("/api/data/{}/check-access", table_name(3, 14))),
            ("catalog of 1,002 tables", "/api/catalog/tables".to_string()),
        ] {
            let asked = wrk(&format!("{url}{path}"), Some(&ada), 2, 15);
            load(&format!("{what} beside 20 downloads and 20 queries"), asked, "p99 < 20 ms");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
