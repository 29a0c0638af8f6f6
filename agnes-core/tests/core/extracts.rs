//! Opening extracts that anybody wrote, and writing our own.

use std::path::Path;

use agnes_core::extract::{Extract, ExtractWriter, QueryMode, RemoteTable, WriteMode};
use agnes_core::{
    AttachAlias, ColumnName, ExtensionName, ExternalName, Kind, TableName, Timestamp,
};

use crate::support::{Place, foreign_at, table};

fn name(text: &str) -> TableName {
    TableName::parse(text).unwrap()
}

fn names(extract: &Extract) -> Vec<&str> {
    extract.tables().iter().map(|t| t.name().as_str()).collect()
}

fn skips(extract: &Extract) -> String {
    let all: Vec<&str> = extract.skipped().iter().map(|s| s.error.message()).collect();
    all.join("\n")
}

#[test]
fn a_plain_extract_opens() {
    let place = Place::new();
    let folder = place.foreign("crm", &table("orders", "SELECT 1 AS id"));
    let extract = Extract::open(&folder).unwrap();
    assert_eq!(names(&extract), ["orders"]);
    let orders = &extract.tables()[0];
    assert_eq!(orders.description(), Some("about orders"));
    assert_eq!(orders.query_mode(), QueryMode::Local);
    assert_eq!(orders.extracted_at().unwrap().to_string(), "2026-01-02T03:04:05Z");
    assert_eq!(orders.files(), [Path::new("data/orders.parquet")]);
}

#[test]
fn columns_are_found_by_name_whatever_their_order_type_and_number() {
    let place = Place::new();
    let folder = place.extract("odd");
    foreign_at(
        &folder,
        "DROP TABLE _meta;
         CREATE TABLE _META (extra INTEGER[], Query_Mode VARCHAR, rows INTEGER, TABLE_NAME VARCHAR,
           size_bytes UTINYINT);
         COPY (SELECT 1 AS a) TO '$D/data/t.parquet';
         CREATE VIEW t AS FROM '$D/data/t.parquet';
         INSERT INTO _META VALUES ([1], NULL, -5, 'T', 7);",
    );
    let extract = Extract::open(&folder).unwrap();
    assert_eq!(names(&extract), ["T"]);
    assert_eq!((extract.tables()[0].rows(), extract.tables()[0].size_bytes()), (0, 7));
}

#[test]
fn a_folder_that_is_no_extract_is_named_with_the_cure() {
    let place = Place::new();
    let good = place.foreign("good", &table("t", "SELECT 1 AS a"));
    let bytes = std::fs::read(good.join("extract.duckdb")).unwrap();
    let broken = |folder: &str, content: &[u8]| {
        place.write(&format!("data/extracts/{folder}/extract.duckdb"), content);
        Extract::open(&place.extract(folder)).unwrap_err()
    };
    let mut newer = bytes.clone();
    newer[12..20].copy_from_slice(&4242u64.to_le_bytes());
    let mut scribbled = bytes.clone();
    scribbled[8192..].fill(0xab);
    for (folder, content, says) in [
        ("empty", &b""[..], "is empty"),
        ("garbage", b"this is no database at all", "is no DuckDB database"),
        ("newer", &newer, "4242"),
        ("cut", &bytes[..6000], "is cut off"),
        ("half", &bytes[..bytes.len() / 2], "can't be opened"),
        ("scribbled", &scribbled, "let the connector write it again"),
    ] {
        let error = broken(folder, content);
        assert_eq!(error.kind(), Kind::Contract, "{folder}: {error}");
        assert!(error.message().contains(says), "{folder}: {error}");
        assert!(error.message().contains(folder), "{folder}: {error}");
    }
    assert_eq!(Extract::open(&place.path("nowhere")).unwrap_err().kind(), Kind::NotFound);
    std::fs::create_dir_all(place.path("data/extracts/hollow")).unwrap();
    let error = Extract::open(&place.extract("hollow")).unwrap_err();
    assert!(error.message().contains("has no `extract.duckdb`"), "{error}");
}

#[test]
fn an_enormous_file_is_not_opened() {
    let place = Place::new();
    let good = place.foreign("big", &table("t", "SELECT 1 AS a"));
    let file = std::fs::OpenOptions::new().write(true).open(good.join("extract.duckdb")).unwrap();
    file.set_len(20 << 30).unwrap();
    let error = Extract::open(&good).unwrap_err();
    assert_eq!(error.kind(), Kind::Contract);
    assert!(error.message().contains("data belongs into parquet"), "{error}");
}

#[test]
fn bytes_that_were_flipped_never_end_the_process() {
    let place = Place::new();
    let good = place.foreign("good", &table("t", "SELECT range AS a FROM range(10)"));
    let bytes = std::fs::read(good.join("extract.duckdb")).unwrap();
    // The headers and what follows them: that is where a reader believes what it is told.
    for at in (0..bytes.len()).step_by(997) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0xff;
        place.write("data/extracts/flipped/extract.duckdb", &flipped);
        let _ = Extract::open(&place.extract("flipped"));
    }
}

#[test]
fn an_extract_that_is_being_written_is_unavailable() {
    let place = Place::new();
    let folder = place.foreign("busy", &table("t", "SELECT 1 AS a"));
    let file = folder.join("extract.duckdb");
    // Another process: DuckDB's locks don't show within one.
    let python = std::process::Command::new("python3")
        .args(["-c", "import fcntl,sys,time; f=open(sys.argv[1],'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print('locked', flush=True); time.sleep(60)"])
        .arg(&file)
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut python = python.unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(python.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    let error = Extract::open(&folder).unwrap_err();
    python.kill().unwrap();
    python.wait().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.message().contains("being written"), "{error}");
    Extract::open(&folder).unwrap();
}

#[test]
fn hostile_and_duplicate_names_are_left_out_by_name() {
    let place = Place::new();
    let mut statements = table("good", "SELECT 1 AS a");
    for bad in ["a b", "a\"b", "a''; DROP TABLE _meta; --", "../../etc", "", "1x", "ａ", "x\ny"] {
        statements.push_str(&format!("INSERT INTO _meta (table_name) VALUES ('{bad}');"));
    }
    statements.push_str(&format!("INSERT INTO _meta (table_name) VALUES ('{}');", "x".repeat(65)));
    statements.push_str("INSERT INTO _meta (table_name) VALUES (NULL), ('GOOD'), ('absent');");
    statements.push_str("INSERT INTO _meta (table_name, query_mode) VALUES ('odd', 'sideways');");
    let folder = place.foreign("crm", &statements);
    let extract = Extract::open(&folder).unwrap();
    assert_eq!(names(&extract), ["good"]);
    assert_eq!(extract.skipped().len(), 13, "{}", skips(&extract));
    let all = skips(&extract);
    for says in ["more than once", "no view or table of that name", "sideways", "64 characters"] {
        assert!(all.contains(says), "{says}: {all}");
    }
    assert!(extract.skipped().iter().all(|s| s.source == "crm"));
}

#[test]
fn a_missing_or_broken_parquet_file_leaves_out_its_table_alone() {
    let place = Place::new();
    let statements = ["good", "gone", "cut", "lying"]
        .map(|t| table(t, "SELECT range AS a FROM range(100)"))
        .join("");
    let folder = place.foreign("crm", &statements);
    std::fs::remove_file(folder.join("data/gone.parquet")).unwrap();
    let cut = std::fs::read(folder.join("data/cut.parquet")).unwrap();
    std::fs::write(folder.join("data/cut.parquet"), &cut[..cut.len() - 20]).unwrap();
    let mut lying = std::fs::read(folder.join("data/lying.parquet")).unwrap();
    let at = lying.len() - 8;
    lying[at..at + 4].copy_from_slice(&1_000_000u32.to_le_bytes());
    std::fs::write(folder.join("data/lying.parquet"), &lying).unwrap();
    let extract = Extract::open(&folder).unwrap();
    assert_eq!(names(&extract), ["good"]);
    let all = skips(&extract);
    for says in [
        "`data/gone.parquet` is missing",
        "`data/cut.parquet` is cut off",
        "`data/lying.parquet` has a footer that lies",
    ] {
        assert!(all.contains(says), "{says}: {all}");
    }
}

#[test]
fn links_are_not_followed() {
    let place = Place::new();
    let secret = place.path("secret.parquet");
    duckdb::Connection::open_in_memory()
        .unwrap()
        .execute_batch(&format!("COPY (SELECT 'secret' AS s) TO '{}'", secret.display()))
        .unwrap();
    let folder = place.foreign("evil", &table("t", "SELECT 1 AS a"));
    std::fs::remove_file(folder.join("data/t.parquet")).unwrap();
    std::os::unix::fs::symlink(&secret, folder.join("data/t.parquet")).unwrap();
    let extract = Extract::open(&folder).unwrap();
    assert!(extract.tables().is_empty());
    assert!(skips(&extract).contains("links don't count"), "{}", skips(&extract));
    // The folder of the data, and the database itself, as links.
    let other = place.foreign("other", &table("t", "SELECT 1 AS a"));
    std::fs::rename(other.join("data"), place.path("moved")).unwrap();
    std::os::unix::fs::symlink(place.path("moved"), other.join("data")).unwrap();
    assert!(Extract::open(&other).map_or(true, |e| e.tables().is_empty()));
    std::fs::create_dir_all(place.extract("linked")).unwrap();
    std::os::unix::fs::symlink(
        folder.join("extract.duckdb"),
        place.extract("linked").join("extract.duckdb"),
    )
    .unwrap();
    let error = Extract::open(&place.extract("linked")).unwrap_err();
    assert!(error.message().contains("links are not followed"), "{error}");
}

#[test]
fn a_view_that_reads_elsewhere_is_left_out() {
    let place = Place::new();
    let secret = place.path("secret.parquet");
    duckdb::Connection::open_in_memory()
        .unwrap()
        .execute_batch(&format!("COPY (SELECT 'secret' AS s) TO '{}'", secret.display()))
        .unwrap();
    let secret_csv = place.write("secret.csv", "a\n1\n");
    let mut statements = table("good", "SELECT 1 AS a");
    for (view, query) in [
        ("v1", format!("SELECT * FROM read_parquet('{}')", secret.display())),
        ("v2", format!("FROM '{}'", secret.display())),
        ("v3", format!("SELECT * FROM good, '{}'", secret.display())),
        ("v4", format!("SELECT (SELECT max(s) FROM '{}') AS s FROM good", secret.display())),
        ("v5", format!("SELECT * FROM read_csv('{}')", secret_csv.display())),
        ("v6", "SELECT * FROM duckdb_settings()".to_string()),
        ("v7", "SELECT * FROM glob('/etc/*')".to_string()),
        ("v8", format!("WITH x AS (FROM '{}') FROM x", secret.display())),
        (
            "v9",
            format!(
                "SELECT * FROM read_parquet(['$D/data/good.parquet', '{}'], union_by_name = true)",
                secret.display()
            ),
        ),
        ("v10", "SELECT * FROM duckdb_tables".to_string()),
        ("v13", "SELECT * FROM read_parquet('$D/data/good.parquet', filename = true)".to_string()),
        ("v11", format!("SELECT content FROM read_text('{}')", secret_csv.display())),
        ("v12", format!("SELECT * FROM read_parquet(getvariable('x') || '{}')", secret.display())),
    ] {
        statements.push_str(&format!(
            "SET VARIABLE x = ''; CREATE VIEW {view} AS {query}; INSERT INTO _meta (table_name) VALUES ('{view}');"
        ));
    }
    let folder = place.foreign("evil", &statements);
    let extract = Extract::open(&folder).unwrap();
    assert_eq!(names(&extract), ["good"]);
    assert_eq!(extract.skipped().len(), 13, "{}", skips(&extract));
}

#[test]
fn what_a_writer_wrote_is_read_back() {
    let place = Place::new();
    let folder = place.extract("crm");
    let mut writer = ExtractWriter::begin(&folder, WriteMode::Replace, Timestamp::EPOCH).unwrap();
    writer.table_from_sql(&name("orders"), "SELECT range AS id FROM range(10)").unwrap();
    writer.describe(&name("orders"), "all of them");
    for shard in ["2026-01", "2026-02"] {
        let file = place.path("shard.parquet");
        duckdb::Connection::open_in_memory()
            .unwrap()
            .execute_batch(&format!("COPY (SELECT '{shard}' AS month) TO '{}'", file.display()))
            .unwrap();
        let shard = ExternalName::parse(shard).unwrap();
        writer.shard_from_parquet(&name("events"), &shard, &file).unwrap();
    }
    let report = writer.finish().unwrap();
    assert_eq!(report.written, [name("events"), name("orders")]);
    let extract = Extract::open(&folder).unwrap();
    assert_eq!(names(&extract), ["events", "orders"]);
    assert_eq!(extract.tables()[0].files().len(), 2);
    assert_eq!(extract.tables()[1].rows(), 10);
    assert!(extract.skipped().is_empty());
    // Any client reads it, from any working directory.
    let connection = duckdb::Connection::open_in_memory().unwrap();
    connection
        .execute_batch(&format!(
            "ATTACH '{}' AS e (READ_ONLY)",
            folder.join("extract.duckdb").display()
        ))
        .unwrap();
    let n: i64 =
        connection.query_row("SELECT count(*) FROM e.orders, e.events", [], |r| r.get(0)).unwrap();
    assert_eq!(n, 20);
}

#[test]
fn a_partial_sync_keeps_the_rest_even_of_a_foreign_extract() {
    let place = Place::new();
    let folder = place.foreign(
        "crm",
        &(table("a", "SELECT 1 AS x")
            + "CREATE TABLE b AS SELECT 2 AS x; INSERT INTO _meta (table_name) VALUES ('b');
               CREATE VIEW c AS SELECT x + 1 AS x FROM a; INSERT INTO _meta (table_name) VALUES ('c');"),
    );
    std::fs::create_dir(folder.join("raw")).unwrap();
    std::fs::write(folder.join("raw/1.json"), "{}").unwrap();
    let mut writer = ExtractWriter::begin(&folder, WriteMode::Partial, Timestamp::EPOCH).unwrap();
    writer.table_from_sql(&name("d"), "SELECT 4 AS x").unwrap();
    let report = writer.finish().unwrap();
    assert_eq!(report.kept, [name("a"), name("b"), name("c")]);
    let extract = Extract::open(&folder).unwrap();
    assert_eq!(names(&extract), ["a", "b", "c", "d"], "{}", skips(&extract));
    assert_eq!(extract.tables()[0].description(), Some("about a"));
    // What a connector keeps beside its extract stays.
    assert_eq!(std::fs::read_to_string(folder.join("raw/1.json")).unwrap(), "{}");
}

#[test]
fn a_connector_hears_what_became_of_each_table() {
    let place = Place::new();
    let folder = place.extract("crm");
    let told = |mode, write: &dyn Fn(&mut ExtractWriter)| {
        let mut writer = ExtractWriter::begin(&folder, mode, Timestamp::from_micros(0)).unwrap();
        write(&mut writer);
        let report = writer.finish_for_connector().unwrap();
        let tables = report.tables.iter();
        tables.map(|t| format!("{} {:?} {}", t.table, t.status, t.rows)).collect::<Vec<_>>()
    };
    let table = |writer: &mut ExtractWriter, table: &str, rows: u32| {
        writer.table_from_sql(&name(table), &format!("SELECT * FROM range({rows})")).unwrap();
    };
    let first = |writer: &mut ExtractWriter| {
        table(writer, "a", 1);
        table(writer, "b", 2);
    };
    assert_eq!(told(WriteMode::Partial, &first), ["a Created 1", "b Created 2"]);
    // What isn't written stays, and nothing became of it.
    let second = |writer: &mut ExtractWriter| {
        table(writer, "b", 3);
        table(writer, "c", 4);
        writer.remove(&name("a"));
    };
    let became = ["b Replaced 3", "c Created 4", "a Removed 0"];
    assert_eq!(told(WriteMode::Partial, &second), became);
    assert_eq!(told(WriteMode::Partial, &|_| ()), [""; 0]);
    let third = |writer: &mut ExtractWriter| table(writer, "c", 5);
    assert_eq!(told(WriteMode::Replace, &third), ["c Replaced 5", "b Removed 0"]);
    assert_eq!(names(&Extract::open(&folder).unwrap()), ["c"]);
}

#[test]
fn a_writer_that_is_dropped_changes_nothing() {
    let place = Place::new();
    let folder = place.foreign("crm", &table("a", "SELECT 1 AS x"));
    let before = crate::support::snapshot(&folder);
    let mut writer = ExtractWriter::begin(&folder, WriteMode::Replace, Timestamp::EPOCH).unwrap();
    writer.table_from_sql(&name("b"), "SELECT 1 AS x").unwrap();
    let busy = ExtractWriter::begin(&folder, WriteMode::Replace, Timestamp::EPOCH).unwrap_err();
    assert_eq!(busy.kind(), Kind::Unavailable);
    drop(writer);
    assert_eq!(crate::support::snapshot(&folder), before);
    let left: Vec<_> = std::fs::read_dir(folder.parent().unwrap())
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn the_same_table_twice_is_a_conflict() {
    let place = Place::new();
    let folder = place.extract("crm");
    let mut writer = ExtractWriter::begin(&folder, WriteMode::Replace, Timestamp::EPOCH).unwrap();
    writer.table_from_sql(&name("b"), "SELECT 1 AS x").unwrap();
    let error = writer.table_from_sql(&name("B"), "SELECT 1 AS x").unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    let error = writer.table_from_sql(&name("c"), "SELECT nonsense").unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
}

#[test]
fn code_of_an_extract_is_not_run_when_it_is_read() {
    let place = Place::new();
    let secret = place.write("secret.csv", "word,n\ntopsecret,1\n");
    let secret = secret.display();
    let recursive = format!(
        "WITH RECURSIVE \"{secret}\" AS (SELECT * FROM \"{secret}\" UNION ALL \
         SELECT * FROM \"{secret}\" WHERE false) FROM \"{secret}\""
    );
    let folder = place.foreign(
        "s",
        &format!(
            "{}CREATE VIEW r1 WITH (defer_binding = true) AS {recursive};
             CREATE VIEW r2 WITH (defer_binding = true) AS {recursive};
             CREATE VIEW r3 WITH (defer_binding = true) AS SELECT 1 AS x;
             CREATE VIEW fine AS WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n
               WHERE i < 3) SELECT i FROM n;
             CREATE TABLE gen (a INT, b VARCHAR AS (current_setting('allowed_paths')::VARCHAR));
             INSERT INTO _meta (table_name, query_mode) VALUES
               ('r1', 'remote'), ('r2', 'local'), ('r3', 'remote'), ('gen', 'local'),
               ('fine', 'local');",
            table("t", "SELECT 1 AS v")
        ),
    );
    let extract = Extract::open(&folder).unwrap();
    assert_eq!(names(&extract), ["fine", "t"], "{}", skips(&extract));
    // The same in `_meta` itself.
    let other = place.extract("other");
    std::fs::create_dir_all(&other).unwrap();
    let database = other.join("extract.duckdb");
    duckdb::Connection::open_in_memory()
        .unwrap()
        .execute_batch(&format!(
            "ATTACH '{}' AS e; CREATE TABLE e._meta (table_name VARCHAR, \
             description VARCHAR AS (current_setting('allowed_paths')::VARCHAR)); DETACH e",
            database.display()
        ))
        .unwrap();
    let error = Extract::open(&other).unwrap_err();
    assert!(error.message().contains("generated column"), "{error}");
    // A log that is a link would be followed.
    std::os::unix::fs::symlink("/etc/passwd", folder.join("extract.duckdb.wal")).unwrap();
    let error = Extract::open(&folder).unwrap_err();
    assert!(error.message().contains("no regular file"), "{error}");
}

#[test]
fn a_remote_table_is_described_without_the_remote_system() {
    let place = Place::new();
    let folder = place.extract("kbc");
    let mut writer = ExtractWriter::begin(&folder, WriteMode::Replace, Timestamp::EPOCH).unwrap();
    let alias = AttachAlias::parse("kbc").unwrap();
    let column = |text: &str| ColumnName::parse(text).unwrap();
    let remote = RemoteTable {
        alias: alias.clone(),
        path: vec![column("in.c-crm"), column("orders")],
        columns: vec![(column("id"), "BIGINT".into()), (column("Größe"), "DECIMAL(10, 2)".into())],
        rows: 12,
        size_bytes: 34,
    };
    assert_eq!(
        writer.remote_table(&name("orders"), remote.clone()).unwrap_err().kind(),
        Kind::Invalid
    );
    writer.remote_attach(agnes_core::extract::RemoteAttach {
        alias,
        extension: ExtensionName::parse("keboola").unwrap(),
        url: "https://connection.keboola.com".into(),
        token_env: None,
    });
    let hostile = RemoteTable {
        columns: vec![(column("id"), "INT); DROP TABLE x; --".into())],
        ..remote.clone()
    };
    assert_eq!(writer.remote_table(&name("hostile"), hostile).unwrap_err().kind(), Kind::Invalid);
    writer.remote_table(&name("orders"), remote).unwrap();
    writer.finish().unwrap();
    let extract = Extract::open(&folder).unwrap();
    assert_eq!(names(&extract), ["orders"], "{}", skips(&extract));
    assert_eq!(extract.tables()[0].query_mode(), QueryMode::Remote);
    assert_eq!(extract.tables()[0].rows(), 12);
    assert_eq!(extract.attaches()[0].alias.as_str(), "kbc");
    // A sync of another table keeps it as it is: bound, as older clients need it.
    let mut writer = ExtractWriter::begin(&folder, WriteMode::Partial, Timestamp::EPOCH).unwrap();
    writer.table_from_sql(&name("local"), "SELECT 1 AS a").unwrap();
    writer.finish().unwrap();
    assert_eq!(names(&Extract::open(&folder).unwrap()), ["local", "orders"]);
    let connection = duckdb::Connection::open_in_memory().unwrap();
    let file = folder.join("extract.duckdb");
    connection.execute_batch(&format!("ATTACH '{}' AS e (READ_ONLY)", file.display())).unwrap();
    let bound: Option<i64> = connection
        .query_row(
            "SELECT column_count FROM duckdb_views() WHERE view_name = 'orders'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(bound, Some(2));
}

#[test]
fn a_table_of_very_many_shards_is_published() {
    let place = Place::new();
    let folder = place.foreign(
        "many",
        "COPY (SELECT 1 AS a) TO '$D/one.parquet'; INSERT INTO _meta (table_name) VALUES ('t');",
    );
    let mut paths = Vec::new();
    std::fs::create_dir_all(folder.join("data/t")).unwrap();
    for i in 0..1500 {
        let path = folder.join(format!("data/t/shard-{i:05}-with-a-rather-long-name.parquet"));
        std::fs::copy(folder.join("one.parquet"), &path).unwrap();
        paths.push(format!("'{}'", path.display()));
    }
    foreign_at(
        &folder,
        &format!(
            "CREATE VIEW t AS SELECT * FROM read_parquet([{}], union_by_name = CAST('t' AS BOOLEAN));
             INSERT INTO _meta (table_name) VALUES ('t');",
            paths.join(", ")
        ),
    );
    let extract = Extract::open(&folder).unwrap();
    assert_eq!(extract.tables()[0].files().len(), 1500, "{}", skips(&extract));
}

#[test]
fn the_contract_s_own_tables_are_not_published() {
    let place = Place::new();
    let folder = place.foreign(
        "s",
        &(table("t", "SELECT 1 AS a")
            + "CREATE TABLE _remote_attach (url VARCHAR);
               INSERT INTO _meta (table_name) VALUES ('_meta'), ('_REMOTE_ATTACH');"),
    );
    assert_eq!(names(&Extract::open(&folder).unwrap()), ["t"]);
}

#[test]
fn a_time_with_zone_is_the_same_moment_everywhere() {
    let place = Place::new();
    let folder = place.foreign(
        "s",
        "DROP TABLE _meta; CREATE TABLE _meta (table_name VARCHAR, extracted_at TIMESTAMPTZ);
         CREATE TABLE t AS SELECT 1 AS a;
         INSERT INTO _meta VALUES ('t', TIMESTAMPTZ '2026-01-02 12:00:00+02')",
    );
    let extract = Extract::open(&folder).unwrap();
    assert_eq!(extract.tables()[0].extracted_at().unwrap().to_string(), "2026-01-02T10:00:00Z");
}
