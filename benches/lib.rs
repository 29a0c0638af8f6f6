//! Whole processes, timed: wall clock, CPU and peak memory of each child.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agnes_core::access::Principal;
use agnes_core::{Agnes, NoProgress};

pub mod running;

/// What one run of a process took.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// From start to end.
    pub wall: Duration,
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// The most memory that it held, bytes.
    pub peak: u64,
}

/// Runs a command to its end and says what it took.
///
/// # Panics
/// When the command can't be started or fails.
// `wait4` below waits for it, and says what it took.
#[allow(clippy::zombie_processes)]
pub fn run(program: &Path, arguments: &[&OsStr]) -> Run {
    let start = Instant::now();
    let child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let mut status = 0;
    // SAFETY: both pointers are to live values of this frame, and zero is a valid rusage.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage);
        usage
    };
    assert_eq!(status, 0, "{} {arguments:?} failed", program.display());
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    Run {
        wall: start.elapsed(),
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        // Kilobytes on Linux.
        peak: usage.ru_maxrss as u64 * 1024,
    }
}

/// The middle one of some durations.
pub fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

/// The `agnes` beside this bench.
///
/// # Panics
/// When it wasn't built: `make bench` does that.
pub fn agnes() -> PathBuf {
    let me = std::env::current_exe().expect("a running program has a path");
    let built = me.ancestors().nth(2).expect("a bench lies in deps/").join("agnes");
    assert!(built.exists(), "{} is not there; run `make bench`", built.display());
    built
}

/// Extracts as a connector in another language writes them: parquet files with a write bit
/// and views with absolute paths.
///
/// # Panics
/// When the disk is full.
pub fn write_extracts(home: &Path, sources: usize, tables: usize) {
    let connection = duckdb::Connection::open_in_memory().expect("the engine opens");
    for source in 0..sources {
        let folder = home.join(format!("extracts/source_{source:02}"));
        std::fs::create_dir_all(folder.join("data")).expect("folders can be made");
        let folder = folder.display();
        connection
            .execute_batch(&format!(
                "ATTACH '{folder}/extract.duckdb' AS e (STORAGE_VERSION 'v1.0.0');
                 CREATE TABLE e._meta (table_name VARCHAR, description VARCHAR, rows BIGINT,
                   size_bytes BIGINT, extracted_at TIMESTAMP, query_mode VARCHAR)"
            ))
            .expect("an extract can be made");
        for table in 0..tables {
            write_table(&connection, &folder.to_string(), source, table, 0);
        }
        connection.execute_batch("BEGIN").expect("a transaction starts");
        for table in 0..tables {
            let name = table_name(source, table);
            connection
                .execute_batch(&format!(
                    "CREATE VIEW e.{name} AS SELECT * FROM read_parquet('{folder}/data/{name}.parquet');
                     INSERT INTO e._meta VALUES ('{name}', 'a table', 100, 0, now()::TIMESTAMP, 'local')"
                ))
                .expect("a view can be made");
        }
        connection.execute_batch("COMMIT; CHECKPOINT e; DETACH e").expect("the extract closes");
    }
}

/// The name of one of the tables.
pub fn table_name(source: usize, table: usize) -> String {
    format!("table_{source:02}_{table:03}")
}

/// One parquet file of 100 rows and five columns.
///
/// # Panics
/// When the disk is full.
pub fn write_table(
    connection: &duckdb::Connection,
    folder: &str,
    source: usize,
    table: usize,
    salt: usize,
) {
    let name = table_name(source, table);
    connection
        .execute_batch(&format!(
            "COPY (SELECT range AS id, 'row ' || (range * {table}) AS name, range * 1.5 AS amount,
               DATE '2026-01-01' + range::INT AS day, range % 7 = {salt} AS flag FROM range(100))
             TO '{folder}/data/{name}.parquet' (FORMAT parquet)"
        ))
        .expect("a file can be written");
}

/// Runs the sections of a bench whose name holds one of the words on the command line, or all. Says
/// what else is on it.
///
/// # Panics
/// When a section does.
pub fn sections(all: &[(&str, fn())]) -> Vec<String> {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let is_wanted =
        |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let wanted: Vec<_> = all.iter().filter(|(name, _)| is_wanted(name)).collect();
    if !wanted.is_empty() {
        head();
    }
    wanted.iter().for_each(|(_, section)| section());
    words
}

/// The head of the table of figures.
pub fn head() {
    println!("| what | median | limit |\n|---|---|---|");
}

/// A line of the table of figures.
pub fn line(what: &str, shown: String, limit: &str) {
    println!("| {what} | {shown} | {limit} |");
}

/// An empty folder for a bench's data.
///
/// # Panics
/// When the disk is full.
pub fn place(name: &str) -> PathBuf {
    let place = agnes().parent().expect("a file has a folder").join("bench-data").join(name);
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place).expect("folders can be made");
    place
}

/// A duration as it stands in the table.
pub fn shown(time: Duration) -> String {
    match time.as_nanos() {
        0..10_000 => format!("{} ns", time.as_nanos()),
        10_000..10_000_000 => format!("{:.0} µs", time.as_nanos() as f64 / 1e3),
        _ => format!("{:.1} ms", time.as_secs_f64() * 1e3),
    }
}

/// The median time of one of `batch` calls, over `times` batches.
pub fn timed(times: usize, batch: u32, mut work: impl FnMut()) -> Duration {
    let mut all = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = Instant::now();
        (0..batch).for_each(|_| work());
        all.push(begun.elapsed() / batch);
    }
    median(all)
}

/// A data folder whose tables are all granted to one user, `ada`.
///
/// # Panics
/// When it can't be made.
pub fn house(name: &str, sources: usize, tables: usize) -> PathBuf {
    let home = place(name);
    write_extracts(&home, sources, tables);
    publish(&home);
    home
}

/// Publishes what lies in a data folder, and grants all of it to one user, `ada`.
///
/// # Panics
/// When it can't be published.
pub fn publish(home: &Path) {
    let agnes = Agnes::open(home).expect("the folder opens");
    agnes.rebuild(None, &NoProgress).expect("it is published");
    agnes.adopt(&Principal::Operator, None).expect("it is registered");
    drop(agnes);
    fill(
        home,
        "INSERT INTO users (id, email, active, created_at, updated_at) VALUES ('ada', 'ada@example.com', true, now()::TIMESTAMP, now()::TIMESTAMP);
         INSERT INTO user_groups VALUES ('all', 'all', NULL, false, now()::TIMESTAMP, NULL);
         INSERT INTO user_group_members VALUES ('ada', 'all', 'admin', now()::TIMESTAMP, NULL);
         INSERT INTO resource_grants SELECT 'grant-' || id, 'all', 'table', id, now()::TIMESTAMP, NULL FROM table_registry;",
    );
}

/// Rows for the system database, written before anybody has it open.
///
/// # Panics
/// When they can't be written.
pub fn fill(home: &Path, sql: &str) {
    drop(Agnes::open(home).and_then(|agnes| agnes.access().map(drop)));
    let connection = duckdb::Connection::open_in_memory().expect("DuckDB opens");
    let file = home.join("state/system.duckdb");
    connection
        .execute_batch(&format!("ATTACH '{}' AS state; USE state; {sql}", file.display()))
        .expect("the rows are written");
}
