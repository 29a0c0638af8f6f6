//! Each wall alone: the attacks of `tests/cases/query-attacks.json` on the guard without what
//! stands behind it, and on the session's instance without the guard.

use crate::engine::Failure;
use crate::engine::direct::Connection;

use super::checked::check;
use super::guard;
use super::house::{House, SECRET};
use super::shown::Home;

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

/// An instance with both views, without a guard before it.
fn unguarded(house: &House) -> Connection {
    let shown = house.shown.again().unwrap();
    let names = shown.views().keys().cloned();
    let views: crate::Result<Vec<_>> = names.filter_map(|name| shown.select(name)).collect();
    match shown.home() {
        Home::Here(instance) => instance.shared(&views.unwrap()).unwrap(),
        Home::Workers(_) => panic!("it runs elsewhere"),
    }
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
    let connection = unguarded(&house);
    let mut faults = Vec::new();
    for case in cases().iter().filter(|case| !case.sql.is_empty()) {
        let text = house.filled(&case.sql);
        let verdict = guard::explained(&text)
            .and_then(|query| check(&house.shown, &connection, query.unwrap_or(&text), &[]));
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
    let mut connection = unguarded(&house);
    let mut faults = Vec::new();
    for case in cases() {
        let resources = case.class == "resource" || case.expect == "limit";
        if case.sql.is_empty() || resources || DEADLY.contains(&case.name.as_str()) {
            continue;
        }
        let rows = |sql: &str| -> Result<String, Failure> {
            let batches: Result<Vec<_>, _> = connection.statement(sql)?.rows(&[], 2048)?.collect();
            Ok(format!("{:?}", batches?))
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
            connection = unguarded(&house);
        }
    }
    assert!(house.agnes.generation().unwrap().is_some());
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}
