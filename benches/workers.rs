//! The figures of `benches/README.md` about workers: `make bench BENCH=workers`.
//!
//! Everything that is compared runs in turn, in this process and in workers of the release binary.
#![allow(missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agnes_benches::running::{ADMIN, serve};
use agnes_benches::{agnes, fill, line, median, place, sections, shown};
use agnes_core::access::{Principal, UserId};
use agnes_core::connectors::files::FilesConnector;
use agnes_core::query::{QueryLimits, QueryOptions};
use agnes_core::{
    Agnes, Components, Kind, NoProgress, Session, Settings, WorkerProgram, WorkerSettings,
};
use serde_json::{Value, json};

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    sections(&[("workers-speed", speed), ("workers-storm", storm)]);
}

/// A folder with a table of 100 rows and one of a million, which many users may see.
fn folder(name: &str) -> std::path::PathBuf {
    let home = place(name);
    let connection = duckdb::Connection::open_in_memory().expect("DuckDB opens");
    for (table, rows) in [("small", 100), ("large", 1_000_000), ("other", 100)] {
        let csv = home.join(format!("{table}.csv"));
        connection
            .execute_batch(&format!(
                "COPY (SELECT i AS id, i % 100 AS kind, i * 1.5 AS amount, 'name ' || i AS name, \
                 DATE '2026-01-01' + (i % 365)::INTEGER AS day, i % 2 = 0 AS flag, i * i AS square, \
                 'text ' || i % 10 AS text FROM range({rows}) t(i)) TO '{}' (FORMAT csv)",
                csv.display()
            ))
            .expect("the rows are written");
    }
    let data = home.join("data");
    let agnes = Agnes::open(&data).expect("the folder opens");
    let files = ["small", "large", "other"].map(|table| home.join(format!("{table}.csv")));
    let files = FilesConnector::new(files.to_vec(), Default::default());
    agnes.ingest(&"shop".parse().expect("a name"), &files, &NoProgress).expect("it is read");
    agnes.rebuild(None, &NoProgress).expect("it is published");
    agnes.adopt(&Principal::Operator, None).expect("it is registered");
    drop(agnes);
    fill(
        &data,
        "INSERT INTO users (id, email, active, created_at, updated_at) SELECT 'user-' || i, 'user' || i || '@example.com', true, now()::TIMESTAMP, now()::TIMESTAMP FROM range(21) t(i);
         INSERT INTO user_groups VALUES ('honest', 'honest', NULL, false, now()::TIMESTAMP, NULL), ('mallory', 'mallory', NULL, false, now()::TIMESTAMP, NULL);
         INSERT INTO user_group_members SELECT 'user-' || i, CASE i WHEN 20 THEN 'mallory' ELSE 'honest' END, 'admin', now()::TIMESTAMP, NULL FROM range(21) t(i);
         INSERT INTO resource_grants SELECT 'grant-' || id, CASE name WHEN 'other' THEN 'mallory' ELSE 'honest' END, 'table', id, now()::TIMESTAMP, NULL FROM table_registry;",
    );
    data
}

fn workers() -> WorkerSettings {
    WorkerSettings::new(WorkerProgram {
        path: agnes(),
        arguments: vec!["worker".to_string()],
        environment: Vec::new(),
        remote_environment: Vec::new(),
    })
}

fn open(data: &Path, workers: Option<WorkerSettings>, query: QueryLimits) -> Agnes {
    let settings = Settings { workers, query, ..Settings::default() };
    Agnes::open_with(data, settings, Components::default()).expect("the folder opens")
}

fn count(session: &Session, sql: &str) -> usize {
    let options = QueryOptions { max_rows: None, max_bytes: None, ..QueryOptions::default() };
    let rows = session.query(sql, &options).expect("it runs");
    rows.map(|batch| batch.expect("rows").num_rows()).sum()
}

fn speed() {
    let data = folder("workers-speed");
    let here = open(&data, None, QueryLimits::default());
    let there = open(&data, Some(workers()), QueryLimits::default());
    let (here, there_session) =
        (here.session().expect("a session"), there.session().expect("a session"));
    let paired = |sql: &str, rounds: usize, each: usize| {
        assert_eq!(count(&here, sql), count(&there_session, sql));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            for (session, times) in [(&there_session, &mut ours), (&here, &mut theirs)] {
                for _ in 0..each {
                    let begun = Instant::now();
                    black_box(count(session, sql));
                    times.push(begun.elapsed());
                }
            }
        }
        (median(ours), median(theirs))
    };
    for (what, sql) in [("`SELECT 1`", "SELECT 1"), ("a small query", SMALL)] {
        // One by one, each finds the caches cold and what the other still does after its end: nobody's
        // statements come like that, but it is the most that a worker can cost.
        for (how, rounds, each) in [("20 by 20", 50, 20), ("one by one", 1000, 1)] {
            let (ours, theirs) = paired(sql, rounds, each);
            let more = ours.saturating_sub(theirs);
            let told = format!("{} against {}: + {}", shown(ours), shown(theirs), shown(more));
            let what = format!("{what} through a warm worker, against this process, in turn {how}");
            line(&what, told, "≤ + 0.5 ms");
        }
    }
    line("the memory (PSS) of a server's only warm worker", of_a_worker(), "≤ 30 MB");
    let (ours, theirs) = paired("FROM large", 15, 1);
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    let told = format!("{} against {}: {ratio:.2}x the speed", shown(ours), shown(theirs));
    line("1 million rows of 8 columns as Arrow through a worker", told, "≥ 0.7x");
    let mut times = Vec::new();
    for _ in 0..15 {
        let agnes = open(&data, Some(workers()), QueryLimits::default());
        // A server is there for a while before somebody asks it.
        std::thread::sleep(Duration::from_millis(500));
        let begun = Instant::now();
        let session = agnes.session().expect("a session opens");
        assert_eq!(count(&session, "SELECT count(*) FROM small"), 1);
        times.push(begun.elapsed());
    }
    line("a cold worker, to the first row of a statement", shown(median(times)), "≤ 60 ms");
}

/// What a worker of a server has after some statements. The program's own pages are shared with it.
fn of_a_worker() -> String {
    let server = serve(&folder("workers-server"), "");
    let (email, password) = ADMIN;
    let signed_in: Value = ureq::post(format!("{}/auth/token", server.url))
        .send_json(json!({"email": email, "password": password}))
        .and_then(|mut answer| answer.body_mut().read_json())
        .expect("she signs in");
    let token = format!("Bearer {}", signed_in["access_token"].as_str().expect("a token"));
    for _ in 0..10 {
        ureq::post(format!("{}/api/query", server.url))
            .header("authorization", &token)
            .send_json(json!({"sql": SMALL}))
            .expect("it runs");
    }
    // One more process waits to become a worker.
    let all = children(server.pid()).into_iter().filter_map(memory);
    format!("{:.1} MB", all.max().expect("a worker") as f64 / 1e6)
}

/// What a process has of the machine's memory for itself, and its share of what is shared, bytes.
fn memory(pid: u32) -> Option<u64> {
    let told = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let pss = told.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = pss.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The workers of this process.
fn pids() -> Vec<u32> {
    children(std::process::id())
}

fn children(of: u32) -> Vec<u32> {
    let me = of.to_string();
    let entries = std::fs::read_dir("/proc").expect("there is /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_mine = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let behind = stat.rsplit(") ").next().unwrap_or("");
        behind.split(' ').nth(1) == Some(me.as_str()) && !behind.starts_with('Z')
    };
    pids.filter(is_mine).collect()
}

const SMALL: &str = "SELECT count(*), max(amount) FROM small WHERE kind < 50";
/// What hangs, as far as its time lets it.
const HANGS: &str = "SELECT count(*) FROM range(100000000) a, range(100000) b";
const HONEST: &str = "SELECT kind, sum(amount) FROM small WHERE id < 50 GROUP BY kind";

/// How long somebody thinks between two statements.
const THINK: Duration = Duration::from_millis(500);

/// Twenty users, beside one who has 200 statements at once that hang, and whose workers crash.
fn storm() {
    let data = folder("workers-storm");
    let query = QueryLimits { time: Duration::from_secs(5), ..QueryLimits::default() };
    let agnes = open(&data, Some(workers()), query);
    let session = |user: usize| {
        let id = UserId::parse(format!("user-{user}")).expect("an id");
        agnes.session_for(&Principal::user(id)).expect("a session opens")
    };
    let (quiet, _) = honest(&session, Duration::from_secs(30));
    let descriptors = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let old = pids();
    let before = (old.len(), descriptors());
    let (over, refused, crashed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let is_over = || over.load(Ordering::SeqCst);
    let (beside, answers) = std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                let mallory = session(20);
                while !is_over() {
                    let rows = mallory.query(HANGS, &QueryOptions::default());
                    let error = rows.and_then(|rows| rows.read_all()).expect_err("it never ends");
                    assert!(matches!(error.kind(), Kind::Limit | Kind::Unavailable), "{error}");
                    refused.fetch_add(1, Ordering::Relaxed);
                    // What a client takes at least to ask again.
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
        }
        scope.spawn(|| {
            while !is_over() {
                std::thread::sleep(Duration::from_millis(200));
                // Hers are the ones that work without a pause; those that were there before aren't.
                let hers = pids().into_iter().filter(|pid| !old.contains(pid) && works(*pid));
                for pid in hers {
                    // SAFETY: a signal to a child of this process.
                    unsafe { libc::kill(pid.cast_signed(), libc::SIGABRT) };
                    crashed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let measured = honest(&session, Duration::from_secs(30));
        over.store(true, Ordering::SeqCst);
        measured
    });
    let told = format!(
        "p50 {}, p99 {} against {}: {:.2}x; {answers} answers, {} statements refused or ended, {} workers crashed",
        shown(beside[beside.len() / 2]),
        shown(p99(&beside)),
        shown(p99(&quiet)),
        p99(&beside).as_secs_f64() / p99(&quiet).as_secs_f64(),
        refused.into_inner(),
        crashed.into_inner(),
    );
    line("20 users beside 200 statements that hang, and crashes", told, "p99 ≤ 2x");
    while agnes.workers().is_some_and(|counts| counts.busy > 0) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let most = workers().most;
    let after = (pids().len(), descriptors());
    line("processes and descriptors before and after", format!("{before:?}, {after:?}"), "-");
    assert!(after.0 <= most && after.1 <= before.1 + 2 * most, "{before:?} {after:?}");
}

/// Whether a process has worked for most of the time that it is there.
fn works(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind = stat.rsplit(") ").next().unwrap_or("");
    let numbers: Vec<u64> = behind.split(' ').map(|word| word.parse().unwrap_or(0)).collect();
    let up = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let up: f64 = up.split(' ').next().and_then(|up| up.parse().ok()).unwrap_or(0.0);
    let (Some(user), Some(system), Some(begun)) =
        (numbers.get(11), numbers.get(12), numbers.get(19))
    else {
        return false;
    };
    let age = up * 100.0 - *begun as f64;
    age > 100.0 && (user + system) as f64 > age * 0.2
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

/// Twenty users who ask something small, again and again: how long it takes, in order. All answers are
/// right.
fn honest(session: &(impl Fn(usize) -> Session + Sync), time: Duration) -> (Vec<Duration>, usize) {
    // The first ones start workers.
    let ready = std::sync::Barrier::new(20);
    let mut all: Vec<Duration> = std::thread::scope(|scope| {
        let users = (0..20).map(|user| {
            let ready = &ready;
            scope.spawn(move || {
                let session = session(user);
                assert_eq!(count(&session, HONEST), 50);
                ready.wait();
                let until = Instant::now() + time;
                let mut times = Vec::new();
                while Instant::now() < until {
                    let begun = Instant::now();
                    assert_eq!(count(&session, HONEST), 50);
                    times.push(begun.elapsed());
                    // People think. Without that they would be in each other's way, and how long
                    // they wait would say little about anybody else.
                    std::thread::sleep(THINK);
                }
                times
            })
        });
        let users: Vec<_> = users.collect();
        users.into_iter().flat_map(|user| user.join().expect("every answer is right")).collect()
    });
    all.sort_unstable();
    let answers = all.len();
    (all, answers)
}
