//! A data folder for what is tried against the walls.

#![allow(clippy::unwrap_used)]
// The walls' tests use all of it, the fuzz target the tables alone.
#![cfg_attr(fuzzing, allow(dead_code))]

use std::path::PathBuf;
use std::sync::Arc;

use super::limits::QueryLimits;
use super::shown::{Shelf, Shown};
use crate::access::{Email, GroupName, Principal, Resource};
use crate::extract::WriteMode;
use crate::{Agnes, ExtractWriter, NoProgress, TableName};

pub(super) const SECRET: &str = "the-secret-of-the-house";

/// A data folder with three tables, of which two are shown.
pub(super) struct House {
    pub(super) dir: tempfile::TempDir,
    pub(super) agnes: Agnes,
    pub(super) shown: Arc<Shown>,
}

impl House {
    pub(super) fn new() -> House {
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

    pub(super) fn pin(&self, table: &str) -> PathBuf {
        let folder = self.dir.path().join("data/analytics/pins/hr");
        let start = format!("{table}.");
        let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.find(|f| f.file_name().unwrap().to_str().unwrap().starts_with(&start)).unwrap()
    }

    pub(super) fn filled(&self, text: &str) -> String {
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
}

fn show(agnes: &Agnes, visibility: &crate::access::Visibility) -> Arc<Shown> {
    let limits = QueryLimits { memory_bytes: 256 << 20, ..QueryLimits::default() };
    Shelf::default().show(agnes.layout(), visibility, &limits, None).unwrap()
}
