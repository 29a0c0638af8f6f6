//! The figures of `benches/README.md`: `make bench`.
//!
//! Each figure is the median of several runs of a whole process. What is compared runs in
//! turn, so that a noisy machine disturbs both sides alike. `make bench BENCH=ingest` runs
//! the sections whose name contains the word.
#![allow(missing_docs)]

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use agnes_benches::{
    Run, agnes, line, median, place, run, sections, table_name, write_extracts, write_table,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, from, to] = arguments.as_slice()
        && mode == "copy"
    {
        return copy_with_duckdb(from, to);
    }
    sections(&[
        ("rebuild-10x100", || rebuilds(10, 100, 7, ["≤ 0.9 CPU-s", "≤ 40 ms", "-"])),
        ("rebuild-20x500", || {
            rebuilds(20, 500, 3, ["≤ 9 CPU-s, ≤ 400 MB", "≤ 250 ms", "≤ 400 ms"])
        }),
        ("open", open_views),
        ("ingest", ingest),
    ]);
}

fn rebuild(home: &Path) -> Run {
    run(&agnes(), &[OsStr::new("--data-dir"), home.as_os_str(), OsStr::new("rebuild")])
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

/// The median run, by CPU time and by wall clock, and the largest peak.
fn shown(runs: &[Run]) -> String {
    let cpu = median(runs.iter().map(|r| r.cpu).collect());
    let wall = median(runs.iter().map(|r| r.wall).collect());
    let peak = runs.iter().map(|r| r.peak).max().unwrap_or(0);
    format!("{:.2} CPU-s, {} wall, {} MB peak", cpu.as_secs_f64(), ms(wall), peak / 1_000_000)
}

fn rebuilds(sources: usize, tables: usize, times: usize, limits: [&str; 3]) {
    let home = place(&format!("{sources}x{tables}"));
    write_extracts(&home, sources, tables);
    // Files of the last 20 ms are read again whatever they look like: not what is measured.
    std::thread::sleep(Duration::from_millis(100));
    // Moved away, not removed: ext4 makes whoever creates files look for a free inode past
    // every one that was freed in the last seconds, which a rebuild has no part in.
    let full: Vec<Run> = (0..times)
        .map(|run| {
            for folder in ["analytics", "state"] {
                let _ = std::fs::rename(home.join(folder), home.join(format!("{folder}.{run}")));
            }
            rebuild(&home)
        })
        .collect();
    line(&format!("full rebuild of {sources} x {tables} tables"), shown(&full), limits[0]);
    let nothing: Vec<Run> = (0..11).map(|_| rebuild(&home)).collect();
    line(
        &format!("rebuild with nothing changed, {sources} x {tables}"),
        shown(&nothing),
        limits[1],
    );
    let connection = duckdb::Connection::open_in_memory().expect("the engine opens");
    let folder = home.join("extracts/source_00").display().to_string();
    let one: Vec<Run> = (0..7)
        .map(|salt| {
            write_table(&connection, &folder, 0, 3, salt);
            std::thread::sleep(Duration::from_millis(100));
            rebuild(&home)
        })
        .collect();
    line(&format!("one table changed of {sources} x {tables}"), shown(&one), limits[2]);
}

/// Opening `server.duckdb` with 10,000 views beside a database of the same views that
/// DuckDB alone wrote.
fn open_views() {
    let home = place("open");
    write_extracts(&home, 20, 500);
    rebuild(&home);
    let ours = home.join("analytics/server.duckdb");
    let theirs = home.join("plain.duckdb");
    let connection = duckdb::Connection::open_in_memory().expect("the engine opens");
    connection
        .execute_batch(&format!(
            "ATTACH '{}' AS p (STORAGE_VERSION 'v1.0.0'); BEGIN",
            theirs.display()
        ))
        .expect("a database can be made");
    for source in 0..20 {
        for table in 0..500 {
            let name = table_name(source, table);
            let file = home.join(format!("extracts/source_{source:02}/data/{name}.parquet"));
            connection
                .execute_batch(&format!(
                    "CREATE VIEW p.{name} AS SELECT * FROM read_parquet('{}')",
                    file.display()
                ))
                .expect("a view can be made");
        }
    }
    connection.execute_batch("COMMIT; CHECKPOINT p; DETACH p").expect("the database closes");
    let open = |file: &Path| {
        let start = Instant::now();
        let connection = duckdb::Connection::open_in_memory().expect("the engine opens");
        connection
            .execute_batch(&format!("ATTACH '{}' AS d (READ_ONLY)", file.display()))
            .expect("the database opens");
        let n: i64 = connection
            .query_row("SELECT count(id) FROM d.table_07_123", [], |row| row.get(0))
            .expect("the view answers");
        assert_eq!(n, 100);
        start.elapsed()
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..21 {
        a.push(open(&ours));
        b.push(open(&theirs));
    }
    let (a, b) = (median(a), median(b));
    line(
        "open 10,000 views and query one, against a database that DuckDB wrote",
        format!("{} against {}: {:.2}x", ms(a), ms(b), a.as_secs_f64() / b.as_secs_f64()),
        "≤ 1.2x",
    );
}

/// What `agnes ingest` is measured against: DuckDB's own COPY, same settings.
fn copy_with_duckdb(from: &str, to: &str) {
    let connection = duckdb::Connection::open_in_memory().expect("the engine opens");
    connection
        .execute_batch(&format!(
            "SET memory_limit = '2GiB';
             COPY (SELECT * FROM read_csv('{from}')) TO '{to}'
               (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)"
        ))
        .expect("the file can be copied");
}

/// Waits until the disk holds what was written: a flush of the one side would otherwise wait
/// for what the other side has left unwritten.
fn settle() {
    // SAFETY: takes and gives nothing.
    unsafe { libc::sync() };
}

fn ingest() {
    let home = place("ingest");
    let csv = home.join("orders.csv");
    let connection = duckdb::Connection::open_in_memory().expect("the engine opens");
    connection
        .execute_batch(&format!(
            "COPY (SELECT range AS id, 'customer ' || (range % 9973) AS customer,
               round((range * 7919 % 100000) / 100, 2) AS amount,
               DATE '2020-01-01' + (range % 2000)::INT AS day,
               ['open', 'paid', 'sent', 'returned'][1 + range % 4] AS status
             FROM range(3000000)) TO '{}' (HEADER)",
            csv.display()
        ))
        .expect("a file can be written");
    let me = std::env::current_exe().expect("a running program has a path");
    let parquet = home.join("plain.parquet");
    let data = home.join("data");
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let arguments = [
        OsStr::new("--data-dir"),
        data.as_os_str(),
        OsStr::new("ingest"),
        OsStr::new("shop"),
        csv.as_os_str(),
    ];
    // Each runs after itself as often as after the other.
    for turn in 0..32 {
        let _ = std::fs::remove_dir_all(&data);
        let _ = std::fs::remove_file(&parquet);
        settle();
        if matches!(turn % 4, 0 | 3) {
            ours.push(run(&agnes(), &arguments));
        } else {
            theirs.push(run(&me, &[OsStr::new("copy"), csv.as_os_str(), parquet.as_os_str()]));
        }
    }
    let wall = |runs: &[Run]| median(runs.iter().map(|r| r.wall).collect());
    let (a, b) = (wall(&ours), wall(&theirs));
    line(
        "ingest of a CSV of 3 million rows, against DuckDB's COPY",
        format!("{} against {}: {:.2}x the speed", ms(a), ms(b), b.as_secs_f64() / a.as_secs_f64()),
        "≥ 0.9x",
    );
}
