//! The figure of `benches/README.md` about profiles: `make bench BENCH=profile`. Whole processes, as
//! somebody at a terminal waits for them.
#![allow(missing_docs)]

use std::ffi::OsStr;
use std::path::Path;

use agnes_benches::{agnes, line, median, place, run, sections, shown};

fn main() {
    sections(&[("profile", measure)]);
}

fn measure() {
    let home = place("profile");
    let parquet = home.join("big.parquet");
    duckdb::Connection::open_in_memory()
        .expect("DuckDB opens")
        .execute_batch(&format!(
            "COPY (SELECT i AS id, (hash(i) % 1000000)::INTEGER AS i1, (hash(i + 1) % 100)::INTEGER AS i2,
               (hash(i + 2) % 10)::SMALLINT AS i3, (hash(i + 14) % 7)::TINYINT AS i4,
               (hash(i + 3) % 100000) / 100.0::DOUBLE AS d1, hash(i + 15) / 1e19::DOUBLE AS d2,
               CASE WHEN i % 7 = 0 THEN NULL ELSE (hash(i + 5) % 5000)::DOUBLE END AS d3,
               ((hash(i + 4) % 1000000) / 100)::DECIMAL(12, 2) AS d4,
               'user_' || (hash(i + 6) % 50000) AS s1, md5(i::VARCHAR) AS s2,
               ['a', 'b', 'c', 'd'][(hash(i + 7) % 4 + 1)::INT] AS s3, 'city ' || (hash(i + 8) % 300) AS s4,
               CASE WHEN i % 3 = 0 THEN NULL ELSE 'x' || (hash(i + 9) % 20) END AS s5,
               md5((i * 7)::VARCHAR) || '-0000' AS s6, DATE '2020-01-01' + (hash(i + 10) % 2000)::INTEGER AS t1,
               TIMESTAMP '2024-01-01' + to_seconds((hash(i + 11) % 30000000)::BIGINT) AS t2,
               DATE '2015-01-01' + (i // 1000)::INTEGER AS t3, hash(i + 12) % 2 = 0 AS b1, hash(i + 13) % 10 = 0 AS b2
             FROM range(1000000) t(i)) TO '{}' (FORMAT parquet, COMPRESSION zstd)",
            parquet.display()
        ))
        .expect("a file can be written");
    let data = home.join("data");
    let call = |arguments: &[&str]| {
        let mut all: Vec<&OsStr> = vec![OsStr::new("-d"), data.as_os_str()];
        all.extend(arguments.iter().map(OsStr::new));
        run(&agnes(), &all)
    };
    call(&["ingest", "shop", parquet.to_str().expect("a plain path")]);
    call(&["rebuild"]);
    let (mut walls, mut cpus, mut peak) = (Vec::new(), Vec::new(), 0);
    for _ in 0..7 {
        forget(&data);
        let took = call(&["profile", "big", "--json"]);
        walls.push(took.wall);
        cpus.push(took.cpu);
        peak = peak.max(took.peak);
    }
    line(
        "profile 1 million rows of 20 columns, 2 threads",
        format!(
            "{}, {} of CPU, {} MB peak",
            shown(median(walls)),
            shown(median(cpus)),
            peak / 1_000_000
        ),
        "≤ 1.6 s, ≤ 300 MB",
    );
    let again: Vec<_> = (0..7).map(|_| call(&["profile", "big", "--json"]).wall).collect();
    line("the same when nothing has changed", shown(median(again)), "-");
}

/// Makes the next one a new one.
fn forget(data: &Path) {
    let file = data.join("state/system.duckdb");
    duckdb::Connection::open_in_memory()
        .and_then(|connection| {
            connection.execute_batch(&format!(
                "ATTACH '{}' AS state; DELETE FROM state.table_profiles",
                file.display()
            ))
        })
        .expect("the profile is forgotten");
}
