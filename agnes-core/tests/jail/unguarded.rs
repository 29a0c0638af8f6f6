//! The statements of `tests/cases/query-attacks.json`, run in a worker with no guard before it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agnes_core::arrow::ipc::reader::StreamReader;
use agnes_core::connectors::files::{FilesConnector, FilesOptions};
use agnes_core::{Agnes, NoProgress, SourceName};
use serde_json::{Value, json};

use crate::agnes::Worker;

const SECRET: &str = "the-secret-of-the-house";
/// What no answer may hold: of the file, and of the table that isn't shown.
const SECRETS: [&str; 3] = [SECRET, "31337", "Eve"];

/// A folder with a secret beside the files of three tables, two of which a worker may read.
struct House {
    dir: tempfile::TempDir,
    shown: Vec<(String, PathBuf)>,
    hidden: PathBuf,
}

impl House {
    fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret.txt"), SECRET).unwrap();
        let agnes = Agnes::open(dir.path().join("data")).unwrap();
        for (name, content) in [
            ("orders", "id,customer,amount,day,tags,info\n1,c1,1.5,2026-01-01,\"[a, b]\",{}\n"),
            ("customers", "id,name,country\n1,c1,CZ\n"),
            ("salaries", "id,name,salary\n1,Eve,31337\n"),
        ] {
            let file = dir.path().join(format!("{name}.csv"));
            std::fs::write(&file, content).unwrap();
            let files = FilesConnector::new(vec![file.clone()], FilesOptions::default());
            agnes.ingest(&SourceName::parse(name).unwrap(), &files, &NoProgress).unwrap();
            std::fs::remove_file(file).unwrap();
        }
        agnes.rebuild(None, &NoProgress).unwrap();
        let pin = |name: &str| {
            let folder = dir.path().join("data/analytics/pins").join(name);
            std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
        };
        let shown = ["orders", "customers"].map(|name| (name.to_string(), pin(name)));
        House { shown: shown.into(), hidden: pin("salaries"), dir }
    }

    fn start(&self) -> Worker {
        let files: Vec<&PathBuf> = self.shown.iter().map(|(_, file)| file).collect();
        Worker::start(&json!({"Tables": {"files": files}}), &[])
    }

    fn views(&self) -> Value {
        let select = |file: &Path| format!("SELECT * FROM read_parquet('{}')", file.display());
        self.shown.iter().map(|(name, file)| json!([name, select(file)])).collect()
    }

    fn filled(&self, text: &str) -> String {
        let path = |path: PathBuf| path.to_str().unwrap().to_string();
        let name = self.hidden.file_stem().unwrap().to_str().unwrap();
        text.replace("$GRANTED", &path(self.shown[0].1.clone()))
            .replace("$HIDDEN", &path(self.hidden.clone()))
            .replace("$SECRET", &path(self.dir.path().join("secret.txt")))
            .replace("$OUT", &path(self.dir.path().join("out")))
            .replace("$DIR", &path(self.dir.path().join("data")))
            .replace("$NAME", name)
    }

    /// Every file below the folder, with its size and when it was changed.
    fn files(&self) -> Vec<(PathBuf, u64, SystemTime)> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let is = path.metadata().unwrap();
                match is.is_dir() {
                    true => folders.push(path),
                    false => found.push((path, is.len(), is.modified().unwrap())),
                }
            }
        }
        found.sort();
        found
    }
}

pub fn no_statement_gets_out_without_a_guard() {
    let text = include_str!("../../../tests/cases/query-attacks.json");
    let cases: Value = serde_json::from_str(text).unwrap();
    let house = House::new();
    let (before, views) = (house.files(), house.views());
    let mut worker = house.start();
    let (mut faults, mut ran, mut ended) = (Vec::new(), 0, 0);
    for (number, case) in (1..).zip(cases["cases"].as_array().unwrap()) {
        let Some(text) = case["sql"].as_str() else { continue };
        let name = case["name"].as_str().unwrap();
        let done = worker.run(number, &views, &house.filled(text));
        let shown = match &done {
            Some(Ok(rows)) => {
                ran += 1;
                let batches = StreamReader::try_new(rows.as_slice(), None).unwrap();
                format!("{:?}", batches.collect::<Result<Vec<_>, _>>().unwrap())
            }
            Some(Err(said)) => said.clone(),
            None => String::new(),
        };
        for secret in SECRETS {
            // What stands in the text itself is no secret.
            if shown.contains(secret) && !text.contains(secret) {
                faults.push(format!("{name} shows {secret}: {shown:.300}"));
            }
        }
        if is_parent(worker.child.id()) {
            faults.push(format!("{name} started a process"));
        }
        // What was changed would be a fault of the next ones, too.
        if house.files() != before {
            panic!("{name} has changed a file");
        }
        let spoiled = matches!(&done, Some(Err(said)) if said.contains("\"internal\""));
        if done.is_none() || spoiled {
            ended += 1;
            worker = house.start();
        }
    }
    println!("  {ran} ran, {ended} had to be ended or ended their worker");
    assert!(ran > 100, "only {ran} ran: nothing was tried");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Whether a process has children.
fn is_parent(pid: u32) -> bool {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.is_ok_and(|children| !children.trim().is_empty())
}
