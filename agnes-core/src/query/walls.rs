//! Each wall alone: the attacks of `tests/cases/query-attacks.json` on the guard without what
//! stands behind it, and on the session's instance without the guard.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use duckdb::Connection;

use super::guard;
use super::limits::QueryLimits;
use super::session::check;
use super::shown::{Shelf, Shown};
use crate::access::{Email, GroupName, Principal, Resource};
use crate::extract::WriteMode;
use crate::{Agnes, ExtractWriter, NoProgress, TableName, ViewName};

const SECRET: &str = "the-secret-of-the-house";

/// What the engine alone doesn't keep whole: the granted file itself, which is read-only on disk
/// for everybody but root.
const OVERWRITES: &[&str] = &[
    "copy-in-cte-over-granted",
    "copy-in-unused-cte-over-granted",
    "json-execute-serialized-copy-over-granted",
    "deleter-callback-writes-over-granted",
    "copy-over-the-granted-file",
    "copy-append-to-the-granted-file",
];

/// What ends the process without a guard.
const DEADLY: &[&str] = &[
    "variant-cast-by-a-value-of-that-type",
    "variant-by-replace-type",
    "deep-json-transform-structure",
];

#[derive(serde::Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    class: String,
    expect: String,
    #[serde(default)]
    sql: String,
    engine: Option<bool>,
}

/// A data folder with three tables, of which two are shown.
struct House {
    dir: tempfile::TempDir,
    agnes: Agnes,
    shown: Arc<Shown>,
}

impl House {
    fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        let agnes = Agnes::open(dir.path().join("data")).unwrap();
        let folder = dir.path().join("data/extracts/hr");
        let mut writer = ExtractWriter::begin(&folder, WriteMode::Replace, agnes.now()).unwrap();
        for (name, sql) in [
            (
                "orders",
                "SELECT i::INTEGER AS id, 'c' || (i % 3) AS customer, \
                 (i * 1.5)::DECIMAL(10, 2) AS amount, DATE '2026-01-01' + i::INTEGER AS day, \
                 ['a', 'b'] AS tags, '{\"k\": 1}' AS info FROM range(6) t(i)",
            ),
            ("customers", "SELECT 1 AS id, 'c1' AS name, 'CZ' AS country"),
            ("salaries", "SELECT 1 AS id, 'Eve' AS name, 31337 AS salary"),
        ] {
            writer.table_from_sql(&TableName::parse(name).unwrap(), sql).unwrap();
        }
        writer.finish().unwrap();
        agnes.rebuild(None, &NoProgress).unwrap();
        agnes.adopt(&Principal::Operator, None).unwrap();
        std::fs::write(dir.path().join("secret.txt"), SECRET).unwrap();
        let access = agnes.access().unwrap();
        let admin = access.admin(&Principal::Operator).unwrap();
        let ada = admin.add_user(Email::parse("ada@example.com").unwrap(), None).unwrap();
        let group = admin.add_group(GroupName::parse("sales").unwrap(), None).unwrap();
        admin.add_member(&group.id, &ada.id).unwrap();
        for table in ["table:orders", "table:customers"] {
            admin.grant(&group.id, Resource::parse(table).unwrap()).unwrap();
        }
        let visibility = access.visibility(&Principal::user(ada.id));
        let shown = show(&agnes, &visibility);
        House { dir, agnes, shown }
    }

    fn pin(&self, table: &str) -> PathBuf {
        let folder = self.dir.path().join("data/analytics/pins/hr");
        let start = format!("{table}.");
        let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.find(|f| f.file_name().unwrap().to_str().unwrap().starts_with(&start)).unwrap()
    }

    fn filled(&self, text: &str) -> String {
        let path = |path: PathBuf| path.to_str().unwrap().to_string();
        let hidden = self.pin("salaries");
        let name = hidden.file_stem().unwrap().to_str().unwrap().to_string();
        text.replace("$GRANTED", &path(self.pin("orders")))
            .replace("$HIDDEN", &path(hidden))
            .replace("$SECRET", &path(self.dir.path().join("secret.txt")))
            .replace("$OUT", &path(self.dir.path().join("out")))
            .replace("$DIR", &path(self.dir.path().join("data")))
            .replace("$NAME", &name)
    }

    /// An instance with both views, without a guard before it.
    fn unguarded(&self) -> Connection {
        let names: BTreeSet<ViewName> = self.shown.views().keys().cloned().collect();
        self.shown.again().unwrap().connection(&names).unwrap()
    }
}

fn show(agnes: &Agnes, visibility: &crate::access::Visibility) -> Arc<Shown> {
    let limits = QueryLimits { memory_bytes: 256 << 20, ..QueryLimits::default() };
    Shelf::default().show(agnes.layout(), visibility, &limits).unwrap()
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../tests/cases/query-attacks.json");
    serde_json::from_str::<Cases>(text).unwrap().cases
}

/// Everything that an attack wants is refused before the engine sees it, but for what the engine
/// makes harmless anyway.
#[test]
fn the_guard_alone() {
    let house = House::new();
    let connection = house.unguarded();
    let mut faults = Vec::new();
    for case in cases().iter().filter(|case| !case.sql.is_empty()) {
        let text = house.filled(&case.sql);
        let verdict = guard::explained(&text)
            .and_then(|query| check(&house.shown, &connection, query.unwrap_or(&text)));
        let fault = match (case.expect.as_str(), &verdict) {
            ("runs", Err(error)) => Some(format!("refused: {error}")),
            ("refused" | "hidden", Ok(_)) if case.engine != Some(true) => Some("passed".into()),
            _ => None,
        };
        faults.extend(fault.map(|f| format!("{} / {}: {f}\n    {text}", case.class, case.name)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Without the guard nothing is read that isn't shown, and nothing written but the listed.
#[test]
fn the_instance_alone() {
    let house = House::new();
    let granted = std::fs::read(house.pin("orders")).unwrap();
    let mut connection = house.unguarded();
    let mut faults = Vec::new();
    for case in cases() {
        let resources = case.class == "resource" || case.expect == "limit";
        if case.sql.is_empty() || resources || DEADLY.contains(&case.name.as_str()) {
            continue;
        }
        let rows = |sql: &str| -> duckdb::Result<String> {
            let mut statement = connection.prepare(sql)?;
            let batches: Vec<_> = statement.query_arrow([])?.collect();
            Ok(format!("{batches:?}"))
        };
        let shown = rows(&house.filled(&case.sql)).unwrap_or_default();
        for secret in [SECRET, "31337", "Eve"] {
            if shown.contains(secret) {
                faults.push(format!("{}: shows {secret}", case.name));
            }
        }
        let files = std::fs::read_dir(house.dir.path()).unwrap().flatten();
        for file in files.filter(|f| f.file_name().to_str().unwrap().starts_with("out")) {
            faults.push(format!("{}: wrote {:?}", case.name, file.file_name()));
            std::fs::remove_file(file.path()).unwrap();
        }
        let pin = house.pin("orders");
        if std::fs::read(&pin).unwrap() != granted {
            if !OVERWRITES.contains(&case.name.as_str()) {
                faults.push(format!("{}: overwrote the granted file", case.name));
            }
            std::fs::remove_file(&pin).unwrap();
            std::fs::write(&pin, &granted).unwrap();
        }
        // What the engine lets through may have left something behind.
        if case.engine == Some(false) {
            connection = house.unguarded();
        }
    }
    assert!(house.agnes.generation().unwrap().is_some());
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}
