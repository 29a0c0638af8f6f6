//! Names that mean harm, through the whole of it: extracts, a rebuild, sessions, files.

use std::collections::BTreeSet;

use duckdb::Connection;
use proptest::prelude::*;

use crate::support::{Place, ingest, left_out, outside, query, query_in, rebuild, snapshot};

const KEYWORDS: [&str; 12] = [
    "select", "TABLE", "order", "from", "where", "all", "user", "default", "null", "view",
    "primary", "Lateral",
];

/// What somebody might try: quotes, ends of lines, NUL, paths, look-alikes, lengths, keywords.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(&KEYWORDS).prop_map(str::to_string),
        "[a-zA-Z_][a-zA-Z0-9_]{0,63}",
        (60usize..=66).prop_map(|length| "n".repeat(length)),
        "[a-z\"'`; \n\r\t\0.\\\\/*?-]{1,12}",
        "\\PC{1,12}",
        proptest::sample::select(
            &[
                "t\n",
                "t\0",
                "\u{43e}rders",
                "ta\u{200b}ble",
                "\u{202e}elbat",
                "\u{212a}elvin",
                "..",
                "../escape",
                "/tmp/escape",
                "a/b",
                "a\\b",
                "x' || (SELECT 1) || '",
                "x\"; CREATE TABLE escape (a INT); --",
                "x'); ATTACH '/tmp/escape.duckdb'; --",
                "_meta",
                "_remote_attach",
                "duckdb_views",
                "PG_class",
                "information_schema",
                "extract",
                "server",
                "memory",
                "main",
            ][..]
        )
        .prop_map(str::to_string),
    ]
}

fn is_strict(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= 64
}

fn is_published(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let taken = ["duckdb_", "pg_", "sqlite_", "pragma_"].iter().any(|p| lower.starts_with(p))
        || ["information_schema", "_meta", "_remote_attach"].contains(&lower.as_str());
    is_strict(name) && !taken
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An extract that publishes every name: as a view, or as a table of its own.
fn write(place: &Place, names: &[String], physical: bool) {
    let folder = place.foreign("s", "COPY (SELECT 7 AS v) TO '$D/data/file.parquet'");
    let connection = Connection::open_in_memory().unwrap();
    let database = folder.join("extract.duckdb");
    connection.execute_batch(&format!("ATTACH '{}' AS e; USE e", database.display())).unwrap();
    let view = format!("SELECT * FROM read_parquet('{}/data/file.parquet')", folder.display());
    for name in names {
        connection.execute("INSERT INTO _meta (table_name) VALUES (?)", [name]).unwrap();
        // NUL can't stand in SQL, and the contract's own tables have columns of their own.
        let own = ["_meta", "_remote_attach"].iter().any(|own| name.eq_ignore_ascii_case(own));
        if !name.contains('\0') && !own {
            let name = quoted(name);
            let statement = match physical {
                true => format!("CREATE TABLE {name} AS {view}"),
                false => format!("CREATE VIEW {name} AS {view}"),
            };
            connection.execute_batch(&statement).unwrap();
        }
    }
}

fn is_harmless(text: &str) -> bool {
    let unseen = |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}');
    !text.chars().any(|c| c.is_control() || unseen(c))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Exactly the names that the contract allows are published, each under its spelling and
    /// with its rows; every other is reported; and no file lies where it shouldn't.
    #[test]
    fn tables(names in proptest::collection::vec(hostile(), 1..12), physical in any::<bool>()) {
        let place = Place::new();
        let mut seen = BTreeSet::new();
        let names: Vec<String> =
            names.into_iter().filter(|n| seen.insert(n.to_lowercase())).collect();
        write(&place, &names, physical);
        let agnes = place.agnes();
        let report = rebuild(&agnes);
        let mut expected: Vec<&str> =
            names.iter().map(String::as_str).filter(|n| is_published(n)).collect();
        expected.sort_by_key(|n| n.to_ascii_lowercase());
        let published: Vec<&str> = report.created.iter().map(|n| n.as_str()).collect();
        prop_assert_eq!(&published, &expected, "{}", left_out(&report));
        prop_assert_eq!(report.skipped.len(), names.len() - expected.len());
        for skipped in &report.skipped {
            prop_assert!(is_harmless(skipped.error.message()), "{:?}", skipped.error.message());
        }
        for line in agnes.plan_rebuild(None).unwrap().to_string().lines() {
            prop_assert!(is_harmless(line), "{:?}", line);
        }
        let session = agnes.session().unwrap();
        for name in &expected {
            let sql = format!("SELECT v::VARCHAR FROM {}", quoted(name));
            prop_assert_eq!(query_in(&session, &sql), "7");
            prop_assert_eq!(outside(&agnes, &sql), "7");
        }
        let count = outside(
            &agnes,
            "SELECT count(*)::VARCHAR FROM duckdb_views() WHERE database_name = 's' AND NOT internal",
        );
        prop_assert_eq!(count, expected.len().to_string());
        // Nothing beside the data folder, and below it only what Agnes writes.
        let top: Vec<_> = std::fs::read_dir(place.path("")).unwrap().flatten().collect();
        prop_assert_eq!(top.len(), 1);
        for path in snapshot(&place.data()).keys() {
            let relative = path.strip_prefix(place.data()).unwrap().to_str().unwrap();
            let fine = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
            prop_assert!(relative.chars().all(fine) && !relative.contains(".."), "{}", relative);
            prop_assert!(
                ["extracts/s/", "analytics/", "state/"].iter().any(|p| relative.starts_with(p)),
                "{}", relative
            );
        }
    }

    /// Whatever files and columns are called, the files connector takes them in under a name
    /// that is safe, and the columns keep theirs.
    #[test]
    fn files(
        // A backslash beside a `*` is refused, see `sql`.
        stems in proptest::collection::vec("[^/\\\\\0]{1,30}", 1..5),
        columns in proptest::collection::btree_set("[^\0,\n\r\"]{1,20}", 1..5),
    ) {
        // A header that could be taken for data, or that DuckDB would rename to tell two
        // columns apart, is another matter than a hostile one.
        let mut seen = BTreeSet::new();
        let columns: Vec<String> = columns
            .into_iter()
            .map(|c| format!("c{c}z"))
            .filter(|c| seen.insert(c.to_lowercase()))
            .collect();
        let place = Place::new();
        let inbox = place.path("in");
        std::fs::create_dir_all(&inbox).unwrap();
        let quoted: Vec<String> = columns.iter().map(|c| quoted(c)).collect();
        let values: Vec<&str> = columns.iter().map(|_| "1").collect();
        let content =
            format!("{}\n{}\n{}\n", quoted.join(","), values.join(","), values.join(","));
        let mut tables = BTreeSet::new();
        for stem in &stems {
            // As the connector names them; two files for one name are a conflict, tested
            // elsewhere.
            let table: String = stem
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
                .collect();
            if stem.starts_with('.') || !tables.insert(table) {
                continue;
            }
            std::fs::write(inbox.join(format!("x{stem}.csv")), &content).unwrap();
        }
        prop_assume!(!tables.is_empty());
        let agnes = place.agnes();
        ingest(&agnes, "s", &[&inbox]);
        let report = rebuild(&agnes);
        prop_assert!(report.is_complete(), "{}", left_out(&report));
        prop_assert_eq!(report.created.len(), tables.len());
        for view in agnes.generation().unwrap().unwrap().views.values() {
            let names: Vec<&str> = view.columns.iter().map(|c| c.name.as_str()).collect();
            prop_assert_eq!(&names, &columns);
        }
        for name in &report.created {
            let sql = format!("SELECT count({}) FROM {}", quoted[0], name);
            prop_assert_eq!(query(&agnes, &sql), "2");
        }
    }
}
