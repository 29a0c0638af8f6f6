//! What the topics share: a data folder, foreign extracts, rows as text.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use agnes_core::arrow::util::display::{ArrayFormatter, FormatOptions};
use agnes_core::connectors::files::{FilesConnector, FilesOptions};
use agnes_core::query::AllRows;
use agnes_core::{
    Agnes, Clock, Components, Error, FixedClock, NoProgress, QueryOptions, RebuildReport, Result,
    Session, Settings, SourceName, Timestamp, WorkerProgram, WorkerSettings,
};
use duckdb::Connection;

/// A clock that somebody moves.
#[derive(Default)]
pub struct Hands(AtomicI64);

impl Hands {
    pub fn on(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000 + self.0.load(Ordering::SeqCst))
    }
}

/// A data folder that goes with the test.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub fn agnes(&self) -> Agnes {
        Agnes::open_with(self.data(), self.settings(), Components::default()).unwrap()
    }

    /// The usual settings, with statements running where they do in these tests.
    pub fn settings(&self) -> Settings {
        let workers = crate::IN_WORKERS.then(|| self.workers());
        Settings { workers, ..Settings::default() }
    }

    /// This crate's own worker, told whose it is.
    // Where the engine of a development build lies.
    #[allow(clippy::disallowed_methods)]
    pub fn workers(&self) -> WorkerSettings {
        let loader = std::env::var_os("LD_LIBRARY_PATH");
        let loader = loader.map(|path| ("LD_LIBRARY_PATH".into(), path));
        WorkerSettings::new(WorkerProgram {
            path: PathBuf::from(env!("CARGO_BIN_EXE_agnes-worker")),
            arguments: vec![self.data().display().to_string()],
            environment: loader.into_iter().collect(),
            remote_environment: Vec::new(),
        })
    }

    /// The same years later, so that no file is so fresh that a change of it could go
    /// unnoticed: what is unchanged isn't read again.
    pub fn agnes_later(&self) -> Agnes {
        let clock = FixedClock(Timestamp::from_micros(4_000_000_000_000_000));
        let components = Components { clock: Arc::new(clock), ..Components::default() };
        Agnes::open_with(self.data(), self.settings(), components).unwrap()
    }

    pub fn extract(&self, source: &str) -> PathBuf {
        self.data().join("extracts").join(source)
    }

    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// An extract as some other program writes it: `statements` run in `extract.duckdb`, with
    /// `$D` standing for the folder of the extract.
    pub fn foreign(&self, source: &str, statements: &str) -> PathBuf {
        let folder = self.extract(source);
        foreign_at(&folder, statements);
        folder
    }
}

pub fn foreign_at(folder: &Path, statements: &str) {
    std::fs::create_dir_all(folder.join("data")).unwrap();
    let file = folder.join("extract.duckdb");
    let _ = std::fs::remove_file(&file);
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(&format!(
            "ATTACH '{}' AS extract (STORAGE_VERSION 'v1.0.0'); USE extract;
             CREATE TABLE _meta (table_name VARCHAR, description VARCHAR, rows BIGINT,
               size_bytes BIGINT, extracted_at TIMESTAMP, query_mode VARCHAR);",
            file.display()
        ))
        .unwrap();
    let statements = statements.replace("$D", folder.to_str().unwrap());
    connection.execute_batch(&statements).unwrap_or_else(|e| panic!("{statements}\n{e}"));
    connection.execute_batch("CHECKPOINT extract; USE memory; DETACH extract").unwrap();
}

/// A parquet file, a view over it and its `_meta` row: the plainest table there is.
pub fn table(name: &str, query: &str) -> String {
    format!(
        "COPY ({query}) TO '$D/data/{name}.parquet' (FORMAT parquet);
         CREATE VIEW {name} AS SELECT * FROM read_parquet('$D/data/{name}.parquet');
         INSERT INTO _meta VALUES ('{name}', 'about {name}', 0, 0, TIMESTAMP '2026-01-02 03:04:05', 'local');"
    )
}

pub fn source(name: &str) -> SourceName {
    SourceName::parse(name).unwrap()
}

pub fn rebuild(agnes: &Agnes) -> RebuildReport {
    agnes.rebuild(None, &NoProgress).unwrap()
}

pub fn ingest(agnes: &Agnes, name: &str, paths: &[&Path]) {
    let paths = paths.iter().map(|p| p.to_path_buf()).collect();
    let files = FilesConnector::new(paths, FilesOptions::default());
    let report = agnes.ingest(&source(name), &files, &NoProgress).unwrap();
    assert_eq!(report.extract.failed().count(), 0, "{report:?}");
}

/// Rows as lines of values with `|` between them.
pub fn shown(rows: &AllRows) -> String {
    let mut out = String::new();
    let options = FormatOptions::default().with_null("NULL");
    for batch in &rows.batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let values: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            writeln!(out, "{}", values.join("|")).unwrap();
        }
    }
    out.trim_end().to_string()
}

/// All rows of a query.
pub fn run(session: &Session, sql: &str) -> Result<AllRows> {
    session.query(sql, &QueryOptions::default())?.read_all()
}

pub fn query(agnes: &Agnes, sql: &str) -> String {
    query_in(&agnes.session().unwrap(), sql)
}

pub fn query_in(session: &Session, sql: &str) -> String {
    shown(&run(session, sql).unwrap_or_else(|e| panic!("{sql}: {e:?}")))
}

pub fn query_error(session: &Session, sql: &str) -> Error {
    match run(session, sql) {
        Ok(rows) => panic!("{sql} gave {}", shown(&rows)),
        Err(error) => error,
    }
}

/// One value from `server.duckdb`, as an outside reader gets it.
pub fn outside(agnes: &Agnes, sql: &str) -> String {
    let connection = Connection::open_in_memory().unwrap();
    let file = agnes.layout().server_db();
    connection
        .execute_batch(&format!("ATTACH '{}' AS s (READ_ONLY); USE s", file.display()))
        .unwrap();
    connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap()
}

/// The messages of what a rebuild left out.
pub fn left_out(report: &RebuildReport) -> String {
    let messages: Vec<&str> = report.skipped.iter().map(|s| s.error.message()).collect();
    messages.join("\n")
}

/// Every file below a folder with its bytes, to tell whether anything changed.
pub fn snapshot(
    folder: &Path,
) -> std::collections::BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = std::collections::BTreeMap::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                let modified = path.metadata().unwrap().modified().unwrap();
                found.insert(path.clone(), (std::fs::read(&path).unwrap(), modified));
            }
        }
    }
    found
}

/// A vault that doesn't answer, for the variables whose names begin so.
pub struct Sealed(pub &'static str);

impl agnes_core::Secrets for Sealed {
    fn get(&self, name: &agnes_core::TokenEnv) -> agnes_core::Result<Option<agnes_core::Secret>> {
        match name.as_str().starts_with(self.0) {
            true => Err(agnes_core::Error::new(agnes_core::Kind::Contract, "the vault is sealed")),
            false => Ok(None),
        }
    }
}
