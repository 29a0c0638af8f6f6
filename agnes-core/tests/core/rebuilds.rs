//! Rebuilding: what is published, what is carried over, what is left out.

use agnes_core::extract::{ExtractWriter, WriteMode};
use agnes_core::{Agnes, Kind, NoProgress, TableName, Timestamp, ViewName};

use crate::support::{
    Place, foreign_at, left_out, outside, query, query_error, rebuild, snapshot, source, table,
};

#[test]
fn two_sources_become_one_database() {
    let place = Place::new();
    place.foreign("crm", &table("orders", "SELECT 1 AS id, 10 AS customer"));
    place.foreign("erp", &table("customers", "SELECT 10 AS id, 'Ada' AS name"));
    let agnes = place.agnes();
    let report = rebuild(&agnes);
    assert!(report.is_complete() && report.published, "{report:?}");
    assert_eq!(report.created.len(), 2);
    let sql = "SELECT name FROM orders JOIN customers ON customer = customers.id";
    assert_eq!(query(&agnes, sql), "Ada");
    assert_eq!(outside(&agnes, sql), "Ada");
    let states = agnes.store().unwrap().sync_states().unwrap();
    assert_eq!(states.len(), 2);
    assert_eq!(states[1].table_id, "orders");
    assert_eq!((states[1].rows, states[1].columns), (1, 2));
    assert_eq!(states[1].last_sync.unwrap().to_string(), "2026-01-02T03:04:05Z");
    let bytes = std::fs::read(place.extract("crm").join("data/orders.parquet")).unwrap();
    let md5: String =
        <md5::Md5 as md5::Digest>::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(states[1].hash, md5);
    assert_eq!(states[1].hash_blake3, blake3::hash(&bytes).to_hex().to_string());
}

#[test]
fn a_second_rebuild_writes_nothing() {
    let place = Place::new();
    place.foreign("crm", &table("orders", "SELECT 1 AS id"));
    let agnes = place.agnes_later();
    rebuild(&agnes);
    let before = snapshot(&agnes.layout().analytics());
    let report = rebuild(&agnes);
    assert!(!report.published && report.unchanged == 1, "{report:?}");
    assert_eq!(snapshot(&agnes.layout().analytics()), before);
    assert_eq!(
        agnes.store().unwrap().sync_history(&ViewName::parse("orders").unwrap(), 10).unwrap().len(),
        1
    );
    assert!(agnes.plan_rebuild(None).unwrap().is_empty());
}

#[test]
fn a_change_of_the_same_size_in_the_same_moment_is_seen() {
    let place = Place::new();
    let folder = place.foreign("crm", &table("t", "SELECT 'aaaa' AS v"));
    let file = folder.join("data/t.parquet");
    let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
    let micros = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    // The rebuild looks one millisecond after the file was written, within the tick of a
    // file system's clock.
    let clock = agnes_core::FixedClock(Timestamp::from_micros(micros + 1000));
    let components =
        agnes_core::Components { clock: std::sync::Arc::new(clock), ..Default::default() };
    let agnes = Agnes::open_with(place.data(), place.settings(), components).unwrap();
    rebuild(&agnes);
    assert_eq!(query(&agnes, "FROM t"), "aaaa");
    let mut bytes = std::fs::read(&file).unwrap();
    for at in 0..bytes.len() - 4 {
        if &bytes[at..at + 4] == b"aaaa" {
            bytes[at..at + 4].copy_from_slice(b"bbbb");
        }
    }
    std::fs::write(&file, &bytes).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    rebuild(&agnes);
    assert_eq!(query(&agnes, "FROM t"), "bbbb");
}

#[test]
fn tables_appear_change_and_vanish() {
    let place = Place::new();
    let (a, b) = (table("a", "SELECT 1 AS x"), table("b", "SELECT 2 AS x"));
    place.foreign("s", &(a.clone() + &b));
    let agnes = place.agnes();
    rebuild(&agnes);
    // b vanishes, c appears, a changes its columns and their types.
    place.foreign("s", &(table("a", "SELECT 'one' AS y, 2.5 AS z") + &table("c", "SELECT 3 AS x")));
    let report = rebuild(&agnes);
    assert_eq!(report.dropped, [ViewName::parse("b").unwrap()]);
    assert_eq!(report.created, [ViewName::parse("c").unwrap()]);
    assert_eq!(report.replaced, [ViewName::parse("a").unwrap()]);
    assert_eq!(query(&agnes, "SELECT y, z FROM a"), "one|2.5");
    assert_eq!(outside(&agnes, "SELECT y FROM a"), "one");
    let session = agnes.session().unwrap();
    assert_eq!(query_error(&session, "FROM b").kind(), Kind::NotFound);
    let columns =
        &agnes.generation().unwrap().unwrap().views[&ViewName::parse("a").unwrap()].columns;
    assert_eq!((columns[1].name.as_str(), columns[1].kind.as_str()), ("z", "DECIMAL(2,1)"));
    let states = agnes.store().unwrap().sync_states().unwrap();
    let ids: Vec<&str> = states.iter().map(|s| s.table_id.as_str()).collect();
    assert_eq!(ids, ["a", "c"]);
}

#[test]
fn a_session_keeps_its_generation() {
    let place = Place::new();
    place.foreign("s", &table("t", "SELECT 'old' AS v"));
    let agnes = place.agnes();
    rebuild(&agnes);
    let session = agnes.session().unwrap();
    place.foreign("s", &table("t", "SELECT 'new' AS v"));
    rebuild(&agnes);
    assert_eq!(crate::support::query_in(&session, "FROM t"), "old");
    assert_eq!(query(&agnes, "FROM t"), "new");
}

#[test]
fn a_file_rewritten_in_place_changes_nothing_before_the_next_rebuild() {
    let place = Place::new();
    let folder = place.foreign("s", &table("t", "SELECT 'old' AS v"));
    let agnes = place.agnes();
    rebuild(&agnes);
    let session = agnes.session().unwrap();
    let new = place.path("new.parquet");
    duckdb::Connection::open_in_memory()
        .unwrap()
        .execute_batch(&format!("COPY (SELECT 'new' AS v) TO '{}'", new.display()))
        .unwrap();
    // Into the same inode, as connectors that don't rename do.
    std::fs::write(folder.join("data/t.parquet"), std::fs::read(&new).unwrap()).unwrap();
    assert_eq!(crate::support::query_in(&session, "FROM t"), "old");
    assert_eq!(outside(&agnes, "FROM t"), "old");
    rebuild(&agnes);
    assert_eq!(query(&agnes, "FROM t"), "new");
    assert_eq!(outside(&agnes, "FROM t"), "new");
}

#[test]
fn physical_tables_and_views_that_compute_are_exported() {
    let place = Place::new();
    place.foreign(
        "s",
        &(table("people", "SELECT 'Ada' AS name, 'secret' AS salary")
            + "CREATE VIEW public_people AS SELECT * EXCLUDE (salary) FROM people;
               CREATE VIEW twice AS SELECT * FROM public_people UNION ALL FROM main.public_people;
               CREATE TABLE physical AS SELECT 42 AS answer;
               CREATE VIEW answers AS SELECT answer + 1 AS a FROM physical;
               INSERT INTO _meta (table_name) VALUES ('public_people'), ('twice'), ('physical'), ('answers');"),
    );
    let agnes = place.agnes();
    let report = rebuild(&agnes);
    assert!(report.is_complete(), "{}", left_out(&report));
    assert_eq!(query(&agnes, "FROM public_people"), "Ada");
    assert_eq!(query(&agnes, "SELECT count(*) FROM twice"), "2");
    assert_eq!(query(&agnes, "FROM physical"), "42");
    assert_eq!(outside(&agnes, "SELECT a::VARCHAR FROM answers"), "43");
    // The file that was exported holds what the view shows and nothing more.
    let generation = agnes.generation().unwrap().unwrap();
    let view = &generation.views[&ViewName::parse("public_people").unwrap()];
    assert_eq!(view.columns.len(), 1);
    assert_eq!(view.rows, 1);
}

#[test]
fn no_view_publishes_paths_of_this_machine() {
    let place = Place::new();
    place.foreign(
        "s",
        &(table("plain", "SELECT 1 AS v")
            + &table("files", "SELECT 'photo.jpg' AS filename, 3 AS v")
            + "CREATE VIEW leak AS SELECT v, filename FROM read_parquet('$D/data/plain.parquet');
               CREATE VIEW leak2 AS SELECT upper(t.\"FileName\") AS f FROM '$D/data/plain.parquet' t;
               CREATE VIEW leak3 AS SELECT *, 1 AS a FROM
                 read_parquet('$D/data/plain.parquet', filename = 'false');
               CREATE VIEW leak4 WITH (defer_binding = true) AS SELECT struct_pack(filename) AS s FROM '$D/data/plain.parquet';
               CREATE VIEW leak5 WITH (defer_binding = true) AS FROM '$D/data/plain.parquet'
                 LEFT JOIN (SELECT 'x' AS filename) USING (filename);
               CREATE VIEW leak6 WITH (defer_binding = true) AS SELECT COLUMNS('file.*') FROM '$D/data/plain.parquet';
               CREATE VIEW leak7 WITH (defer_binding = true) AS SELECT t FROM '$D/data/plain.parquet' AS t;
               CREATE VIEW leak8 WITH (defer_binding = true) AS PIVOT '$D/data/plain.parquet' ON v IN (1) USING first(filename);
               CREATE VIEW leak9 WITH (defer_binding = true) AS SELECT * FROM read_parquet('$D/data/plain.parquet',
                 schema = MAP {0: {name: 'v', type: 'INTEGER', default_value: NULL},
                   -7: {name: 'p', type: 'VARCHAR', default_value: NULL}});
               CREATE VIEW leak10 WITH (defer_binding = true) AS SELECT v FROM '$D/data/plain.parquet' ORDER BY filename;
               CREATE VIEW leak11 WITH (defer_binding = true) AS SELECT file_row_number, v FROM '$D/data/plain.parquet';
               CREATE VIEW names AS SELECT filename FROM files WHERE v = 3;
               CREATE VIEW named AS SELECT plain.v, read_parquet.v AS w, [1, 2].list_transform(lambda x: x + 1) AS l
                 FROM '$D/data/plain.parquet', read_parquet('$D/data/plain.parquet');
               INSERT INTO _meta (table_name) VALUES ('leak'), ('leak2'), ('leak3'), ('leak4'),
                 ('leak5'), ('leak6'), ('leak7'), ('leak8'), ('leak9'), ('leak10'), ('leak11'), ('names'), ('named');"),
    );
    let agnes = place.agnes();
    let report = rebuild(&agnes);
    let left: Vec<&str> = report.skipped.iter().filter_map(|s| s.table.as_deref()).collect();
    for leak in
        ["leak", "leak2", "leak3", "leak4", "leak5", "leak6", "leak8", "leak9", "leak10", "leak11"]
    {
        assert!(left.contains(&leak), "{leak} is not in {left:?}");
    }
    assert_eq!(query(&agnes, "FROM names"), "photo.jpg");
    assert_eq!(query(&agnes, "FROM named"), "1|1|[2, 3]");
    let home = place.data().canonicalize().unwrap();
    for name in agnes.generation().unwrap().unwrap().views.keys() {
        let rows = query(&agnes, &format!("FROM {name}"));
        assert!(!rows.contains(home.to_str().unwrap()), "{name}: {rows}");
    }
}

#[test]
fn a_name_belongs_to_the_source_that_had_it_first() {
    let place = Place::new();
    place.foreign("b", &table("shared", "SELECT 'b' AS v"));
    let agnes = place.agnes();
    rebuild(&agnes);
    place.foreign("a", &table("SHARED", "SELECT 'a' AS v"));
    let report = rebuild(&agnes);
    assert_eq!(report.collisions.len(), 1);
    assert_eq!(report.collisions[0].owner, source("b"));
    assert_eq!(query(&agnes, "FROM shared"), "b");
    // And again, while nothing changes.
    assert_eq!(rebuild(&agnes).collisions.len(), 1);
    // The owner stops publishing it: the other gets it in the same rebuild.
    place.foreign("b", &table("other", "SELECT 1 AS v"));
    let report = rebuild(&agnes);
    assert!(report.collisions.is_empty());
    assert_eq!(query(&agnes, "FROM shared"), "a");
}

#[test]
fn an_unreadable_source_loses_no_name() {
    let place = Place::new();
    place.foreign("b", &table("shared", "SELECT 'b' AS v"));
    let agnes = place.agnes();
    rebuild(&agnes);
    place.foreign("a", &(table("shared", "SELECT 'a' AS v") + &table("fine", "SELECT 1 AS v")));
    place.write("data/extracts/b/extract.duckdb", "broken");
    let report = rebuild(&agnes);
    assert!(left_out(&report).contains("no DuckDB database"), "{}", left_out(&report));
    assert_eq!(report.collisions.len(), 1, "a passing fault gives no name away");
    assert_eq!(query(&agnes, "FROM fine"), "1");
    let session = agnes.session().unwrap();
    assert_eq!(query_error(&session, "FROM shared").kind(), Kind::NotFound);
    place.foreign("b", &table("shared", "SELECT 'b' AS v"));
    rebuild(&agnes);
    assert_eq!(query(&agnes, "FROM shared"), "b");
}

#[test]
fn names_with_a_meaning_for_the_engine_are_refused() {
    let place = Place::new();
    place.foreign("s", &(table("pg_orders", "SELECT 1 AS v") + &table("fine", "SELECT 1 AS v")));
    let agnes = place.agnes();
    let report = rebuild(&agnes);
    assert!(left_out(&report).contains("DuckDB gives a meaning"), "{}", left_out(&report));
    assert_eq!(query(&agnes, "FROM fine"), "1");
}

#[test]
fn folders_that_are_no_sources_are_left_alone() {
    let place = Place::new();
    place.foreign("good", &table("t", "SELECT 1 AS v"));
    place.foreign("with-dash", &table("u", "SELECT 1 AS v"));
    place.write("data/extracts/file", "x");
    std::fs::create_dir_all(place.path("data/extracts/no_extract")).unwrap();
    let agnes = place.agnes();
    let report = rebuild(&agnes);
    assert_eq!(report.skipped.len(), 1, "{}", left_out(&report));
    assert!(left_out(&report).contains("`with-dash` is left out"), "{}", left_out(&report));
    assert_eq!(report.sources.len(), 1);
}

#[test]
fn without_extracts_the_published_stays() {
    let place = Place::new();
    let empty = place.agnes();
    assert!(rebuild(&empty).sources.is_empty());
    place.foreign("s", &table("t", "SELECT 1 AS v"));
    rebuild(&empty);
    std::fs::rename(place.path("data/extracts"), place.path("data/elsewhere")).unwrap();
    let report = rebuild(&empty);
    assert!(left_out(&report).contains("there is no"), "{}", left_out(&report));
    assert_eq!(query(&empty, "FROM t"), "1");
}

#[test]
fn one_source_alone_gives_the_same_as_all() {
    let place = Place::new();
    place.foreign("a", &table("t", "SELECT 1 AS v"));
    place.foreign("b", &table("u", "SELECT 1 AS v"));
    let agnes = place.agnes();
    rebuild(&agnes);
    place.foreign("a", &table("t", "SELECT 2 AS v"));
    place.foreign("b", &table("u", "SELECT 2 AS v"));
    agnes.rebuild(Some(&source("a")), &NoProgress).unwrap();
    assert_eq!(query(&agnes, "FROM t"), "2");
    assert_eq!(query(&agnes, "FROM u"), "1");
    agnes.rebuild(Some(&source("b")), &NoProgress).unwrap();
    assert_eq!(query(&agnes, "FROM u"), "2");
    let error = agnes.rebuild(Some(&source("nobody")), &NoProgress).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let left = std::fs::read_dir(agnes.layout().analytics()).unwrap().flatten();
    let mut left: Vec<_> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["generation.json", "generations", "pins", "rebuild.lock", "server.duckdb"]);
}

#[test]
fn a_data_folder_that_was_moved_works_at_once() {
    let place = Place::new();
    place.foreign("s", &table("t", "SELECT 1 AS v"));
    rebuild(&place.agnes());
    std::fs::rename(place.data(), place.path("moved")).unwrap();
    let agnes = Agnes::open(place.path("moved")).unwrap();
    assert_eq!(query(&agnes, "FROM t"), "1");
    let report = rebuild(&agnes);
    assert!(report.is_complete(), "{}", left_out(&report));
    assert_eq!(outside(&agnes, "SELECT v::VARCHAR FROM t"), "1");
}

#[test]
fn a_data_folder_that_was_copied_works_at_once() {
    let place = Place::new();
    place.foreign("s", &table("t", "SELECT 1 AS v"));
    rebuild(&place.agnes());
    let status = std::process::Command::new("cp")
        .arg("-r")
        .arg(place.data())
        .arg(place.path("copy"))
        .status();
    assert!(status.unwrap().success());
    let agnes = Agnes::open(place.path("copy")).unwrap();
    assert_eq!(query(&agnes, "FROM t"), "1");
    rebuild(&agnes);
    std::fs::remove_dir_all(place.data()).unwrap();
    assert_eq!(outside(&agnes, "SELECT v::VARCHAR FROM t"), "1");
}

#[test]
fn a_folder_that_looks_like_a_partition_is_no_column() {
    let place = Place::new();
    let data = place.path("region=eu/data");
    foreign_at(&data.join("extracts/s"), &table("t", "SELECT 1 AS v"));
    let agnes = Agnes::open(&data).unwrap();
    rebuild(&agnes);
    assert_eq!(query(&agnes, "FROM t"), "1");
    let columns = "SELECT string_agg(column_name, ',') FROM (DESCRIBE t)";
    assert_eq!(outside(&agnes, columns), "v");
}

#[test]
fn a_changed_pin_is_never_read() {
    let place = Place::new();
    place.foreign("s", &table("t", "SELECT 1 AS v"));
    let agnes = place.agnes();
    rebuild(&agnes);
    let pins = agnes.layout().pins().join("s");
    let pin = std::fs::read_dir(&pins).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&pin).unwrap();
    bytes[10] ^= 1;
    std::fs::remove_file(&pin).unwrap();
    std::fs::write(&pin, bytes).unwrap();
    let error = query_error(&agnes.session().unwrap(), "FROM t");
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
}

#[test]
fn a_pin_that_was_removed_is_made_again() {
    let place = Place::new();
    place.foreign("s", &(table("t", "SELECT 1 AS v") + &table("u", "SELECT 2 AS v")));
    let agnes = place.agnes_later();
    rebuild(&agnes);
    let pins = agnes.layout().pins().join("s");
    let all = std::fs::read_dir(&pins).unwrap().map(|pin| pin.unwrap().path());
    let lost = all.filter(|pin| pin.file_name().unwrap().to_str().unwrap().starts_with("t."));
    lost.for_each(|pin| std::fs::remove_file(pin).unwrap());
    std::fs::remove_file(agnes.layout().server_db()).unwrap();
    assert!(rebuild(&agnes).is_complete());
    assert_eq!(query(&agnes, "SELECT t.v, u.v FROM t, u"), "1|2");
    assert_eq!(outside(&agnes, "SELECT v::VARCHAR FROM t"), "1");
}

#[test]
fn tables_that_duckdb_refuses_cost_no_other() {
    let place = Place::new();
    // A sound parquet file, but for a note that the engine tries to understand.
    let bad = |name: &str| {
        format!(
            "COPY (SELECT 1 AS x) TO '$D/data/{name}.parquet'
               (FORMAT parquet, KV_METADATA {{geo: '{{\"version\":\"9\"}}'}});
             CREATE VIEW {name} WITH (defer_binding = true) AS
               SELECT * FROM read_parquet('$D/data/{name}.parquet');
             INSERT INTO _meta (table_name) VALUES ('{name}');"
        )
    };
    let all = [table("a", "SELECT 1 AS v"), bad("b"), bad("c"), table("d", "SELECT 2 AS v")];
    place.foreign("s", &all.concat());
    let agnes = place.agnes_later();
    let report = rebuild(&agnes);
    assert_eq!(report.skipped.len(), 2, "{}", left_out(&report));
    assert!(left_out(&report).contains("`b` of `s` is left out: it can't be read by DuckDB"));
    assert!(left_out(&report).contains("`c` of `s` is left out: it can't be read by DuckDB"));
    assert_eq!(query(&agnes, "SELECT a.v, d.v FROM a, d"), "1|2");
    assert_eq!(outside(&agnes, "SELECT format('{}', d.v) FROM d"), "2");
    // Reported again while nothing changes.
    assert_eq!(rebuild(&agnes).skipped.len(), 2);
}

/// A copy of it would fill the disk.
#[test]
fn a_huge_file_that_is_no_parquet_is_not_copied() {
    let place = Place::new();
    let folder = place
        .foreign("s", &format!("{}{}", table("t", "SELECT 1 AS x"), table("u", "SELECT 1 AS x")));
    let file = std::fs::OpenOptions::new().write(true).open(folder.join("data/t.parquet")).unwrap();
    // Sparse: more than any disk of a test holds.
    file.set_len(8 << 40).unwrap();
    let agnes = place.agnes();
    let report = rebuild(&agnes);
    assert_eq!(report.skipped.len(), 1, "{report:?}");
    assert_eq!(query(&agnes, "FROM u"), "1");
}

#[test]
fn a_plan_without_a_store_makes_none() {
    let place = Place::new();
    place.foreign("s", &table("t", "SELECT 1 AS x"));
    let agnes = place.agnes();
    agnes.plan_rebuild(None).unwrap();
    assert!(!agnes.layout().system_db().exists());
    rebuild(&agnes);
    // Where it was lost, the names belong to who published them.
    std::fs::remove_dir_all(place.data().join("state")).unwrap();
    place.foreign("a", &table("t", "SELECT 2 AS x"));
    assert!(!place.agnes().plan_rebuild(None).unwrap().is_complete());
}

/// The folders in which the data lies are nobody's columns.
#[test]
fn a_partition_above_the_extract_is_no_column_of_an_export() {
    let place = Place::new();
    let agnes = Agnes::open(place.path("tenant=acme")).unwrap();
    let folder = place.path("tenant=acme/extracts/s");
    std::fs::create_dir_all(folder.join("data/year=2024")).unwrap();
    crate::support::foreign_at(
        &folder,
        &(table("t", "SELECT 1 AS x")
            + "COPY (SELECT 2 AS x) TO '$D/data/year=2024/u.parquet' (FORMAT parquet);
               CREATE VIEW e AS SELECT t.* FROM '$D/data/t.parquet' WHERE x = 1;
               CREATE VIEW f AS SELECT * FROM read_parquet('$D/data/t.parquet', hive_partitioning = true) WHERE x = 1;
               CREATE VIEW g AS SELECT * FROM '$D/data/year=2024/u.parquet' WHERE x = 2;
               INSERT INTO _meta (table_name) VALUES ('e'), ('f'), ('g');"),
    );
    let report = rebuild(&agnes);
    assert_eq!(query(&agnes, "FROM e UNION ALL BY NAME FROM f"), "1\n1");
    assert!(left_out(&report).contains("`g`"), "{}", left_out(&report));
}

#[test]
fn pins_that_are_gone_are_made_again() {
    let place = Place::new();
    place.foreign("s", &(table("t", "SELECT 1 AS v") + &table("u", "SELECT 2 AS v")));
    let agnes = place.agnes_later();
    rebuild(&agnes);
    std::fs::remove_dir_all(agnes.layout().pins()).unwrap();
    let error = query_error(&agnes.session().unwrap(), "FROM t");
    assert!(error.message().contains("run `agnes rebuild`"), "{error}");
    assert!(rebuild(&agnes).is_complete());
    assert_eq!(query(&agnes, "SELECT t.v, u.v FROM t, u"), "1|2");
    assert_eq!(outside(&agnes, "SELECT v::VARCHAR FROM u"), "2");
    assert!(!rebuild(&agnes).published);
}

/// Its letters sort before the owner's.
#[test]
fn a_twin_in_other_letters_takes_nothing_away() {
    let place = Place::new();
    place.foreign("shop", &table("orders", "SELECT 1 AS v"));
    let agnes = place.agnes();
    rebuild(&agnes);
    place.foreign("Shop", &table("a", "SELECT 2 AS v"));
    let report = rebuild(&agnes);
    assert_eq!(query(&agnes, "FROM orders"), "1");
    assert!(left_out(&report).contains("case of their letters"), "{}", left_out(&report));
}

/// Neither a setting nor a failure tells where the data lies.
#[test]
fn a_query_learns_no_path() {
    let place = Place::new();
    place.foreign("s", &table("t", "SELECT range AS x FROM range(1000)"));
    let agnes = place.agnes();
    rebuild(&agnes);
    let home = place.data().canonicalize().unwrap();
    let session = agnes.session().unwrap();
    let pins = crate::support::snapshot(&agnes.layout().pins());
    pins.keys().for_each(|pin| std::fs::remove_file(pin).unwrap());
    for sql in ["SHOW allowed_paths", "FROM (SHOW secret_directory)", "FROM t", "SELECT t.y FROM t"]
    {
        let error = crate::support::query_error(&session, sql);
        assert!(!format!("{error:?}").contains(home.to_str().unwrap()), "{sql}: {error:?}");
    }
}

#[test]
fn statements_that_are_no_queries_are_denied() {
    let place = Place::new();
    let csv = place.write("x.csv", "a\n1\n");
    place.foreign("s", &table("t", "SELECT 1 AS v"));
    let agnes = place.agnes();
    rebuild(&agnes);
    let session = agnes.session().unwrap();
    for sql in [
        format!("COPY t TO '{}'", place.path("out.csv").display()),
        format!("SELECT * FROM read_csv('{}')", csv.display()),
        format!("WITH x AS (COPY t TO '{}') FROM x", place.path("out.csv").display()),
        "CREATE TABLE x (a INT)".into(),
        "DROP VIEW t".into(),
        "SET threads = 4".into(),
        "SELECT * FROM duckdb_views()".into(),
        "CALL pragma_version()".into(),
        "SELECT json_contains(x, x) FROM (SELECT repeat('[', 200000) AS x)".into(),
        "SELECT json_serialize_plan('SELECT current_setting(''allowed_paths'')')".into(),
        "SELECT pg_get_viewdef(1)".into(),
    ] {
        assert_eq!(query_error(&session, &sql).kind(), Kind::Denied, "{sql}");
    }
    let error = query_error(&session, &format!("FROM '{}'", csv.display()));
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(!place.path("out.csv").exists());
    let error = query_error(&session, "FROM tt");
    assert!(error.message().contains("did you mean `t`"), "{error}");
    for (sql, rows) in [("SHOW TABLES", "t"), ("SELECT column_name FROM (DESCRIBE t)", "v")] {
        assert_eq!(crate::support::query_in(&session, sql), rows);
    }
}

#[test]
fn shards_are_one_table_and_only_new_ones_are_read() {
    let place = Place::new();
    let write = |shards: &[&str]| {
        let folder = place.extract("s");
        let mut writer =
            ExtractWriter::begin(&folder, WriteMode::Replace, Timestamp::EPOCH).unwrap();
        for shard in shards {
            let file = place.path("shard.parquet");
            duckdb::Connection::open_in_memory()
                .unwrap()
                .execute_batch(&format!(
                    "COPY (SELECT '{shard}' AS m, 1 AS \"only {shard}\") TO '{}'",
                    file.display()
                ))
                .unwrap();
            let shard = agnes_core::ExternalName::parse(*shard).unwrap();
            writer.shard_from_parquet(&TableName::parse("t").unwrap(), &shard, &file).unwrap();
        }
        writer.finish().unwrap();
    };
    let agnes = place.agnes();
    write(&["a", "b"]);
    rebuild(&agnes);
    assert_eq!(query(&agnes, "SELECT string_agg(m, ',' ORDER BY m) FROM t"), "a,b");
    write(&["a", "b", "c"]);
    rebuild(&agnes);
    assert_eq!(
        query(&agnes, "SELECT string_agg(m, ',' ORDER BY m), count(\"only c\") FROM t"),
        "a,b,c|1"
    );
    let view = agnes.generation().unwrap().unwrap().views[&ViewName::parse("t").unwrap()].clone();
    assert_eq!((view.files().len(), view.md5().len()), (3, 32));
    assert_eq!(view.whole().unwrap().rows, 3);
}

#[test]
fn rebuilds_of_one_folder_wait_for_each_other() {
    let place = Place::new();
    place.foreign("s", &table("t", "SELECT 1 AS v"));
    let agnes = place.agnes();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| rebuild(&agnes));
        }
    });
    assert_eq!(query(&agnes, "FROM t"), "1");
}

#[test]
fn an_old_generation_goes_when_nobody_holds_it() {
    let place = Place::new();
    place.foreign("s", &table("t", "SELECT 'v1' AS v"));
    let settings = agnes_core::Settings { grace: std::time::Duration::ZERO, ..Default::default() };
    let agnes =
        Agnes::open_with(place.data(), settings, agnes_core::Components::default()).unwrap();
    rebuild(&agnes);
    let held = agnes.session().unwrap();
    for version in ["v2", "v3", "v4"] {
        foreign_at(&place.extract("s"), &table("t", &format!("SELECT '{version}' AS v")));
        rebuild(&agnes);
    }
    assert_eq!(crate::support::query_in(&held, "FROM t"), "v1");
    let pins = || std::fs::read_dir(agnes.layout().pins().join("s")).unwrap().count();
    // A handle holds what it has published, until it publishes something else.
    assert_eq!(pins(), 3, "what is current, what was before, and what is held");
    drop(held);
    foreign_at(&place.extract("s"), &table("t", "SELECT 'v5' AS v"));
    rebuild(&agnes);
    assert_eq!(pins(), 2);
}
