//! Tables in remote systems, with a second DuckDB database in the part of the remote system.

use std::collections::BTreeMap;
use std::sync::Arc;

use agnes_core::orchestrator::AttachRule;
use agnes_core::{
    Agnes, AttachPolicy, Components, ExtensionName, Kind, Secret, Settings, TokenEnv,
};

use crate::support::{Place, Sealed, left_out, query, query_error, rebuild, source, table};

fn remote_database(place: &Place) -> String {
    let file = place.path("remote.duckdb");
    duckdb::Connection::open_in_memory()
        .unwrap()
        .execute_batch(&format!(
            "ATTACH '{0}' AS r; CREATE SCHEMA r.sales; CREATE TABLE r.sales.orders AS SELECT 7 AS id;
             CREATE TABLE r.main.hidden AS SELECT 'secret' AS s; DETACH r",
            file.display()
        ))
        .unwrap();
    file.display().to_string()
}

fn allow(place: &Place, url: &str) -> Agnes {
    let rule = AttachRule {
        source: Some(source("wh")),
        extension: ExtensionName::parse("duckdb").unwrap(),
        url_prefix: Some(url.to_string()),
        token_envs: Vec::new(),
        community: false,
    };
    let settings = Settings { attach_policy: AttachPolicy::new(vec![rule]), ..place.settings() };
    Agnes::open_with(place.data(), settings, Components::default()).unwrap()
}

/// The statements that publish `view` over a remote database under the alias `far`.
fn remote(view: &str, query: &str, url: &str, extension: &str, token: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS _remote_attach (alias VARCHAR, extension VARCHAR, url VARCHAR, token_env VARCHAR);
         INSERT INTO _remote_attach VALUES ('far', '{extension}', '{url}', '{token}');
         CREATE VIEW {view} WITH (defer_binding = true) AS {query};
         INSERT INTO _meta (table_name, query_mode, rows) VALUES ('{view}', 'remote', 5);"
    )
}

#[test]
fn a_remote_table_is_queried_where_it_lies() {
    let place = Place::new();
    let url = remote_database(&place);
    let statements = remote("orders", "SELECT * FROM far.sales.orders", &url, "duckdb", "")
        + &table("local", "SELECT 7 AS id, 'Ada' AS name");
    place.foreign("wh", &statements);
    let agnes = allow(&place, &url);
    let report = rebuild(&agnes);
    assert!(report.is_complete(), "{}", left_out(&report));
    assert_eq!(report.attached.len(), 1);
    assert_eq!(query(&agnes, "FROM orders"), "7");
    assert_eq!(query(&agnes, "SELECT name FROM orders JOIN local USING (id)"), "Ada");
    // What the view doesn't show stays out of reach.
    let session = agnes.session().unwrap();
    for sql in ["FROM far.main.hidden", "FROM hidden", "SELECT * FROM far.sales.orders"] {
        assert_eq!(query_error(&session, sql).kind(), Kind::NotFound, "{sql}");
    }
    // An outside reader who attaches the remote system under its alias can use the view.
    let connection = duckdb::Connection::open_in_memory().unwrap();
    connection
        .execute_batch(&format!(
            "ATTACH '{}' AS s (READ_ONLY); ATTACH '{url}' AS far (READ_ONLY); USE s",
            agnes.layout().server_db().display()
        ))
        .unwrap();
    let id: i32 = connection.query_row("FROM orders", [], |row| row.get(0)).unwrap();
    assert_eq!(id, 7);
    let id: i32 = connection.query_row("SELECT id FROM local", [], |row| row.get(0)).unwrap();
    assert_eq!(id, 7);
}

#[test]
fn what_the_policy_doesn_t_name_is_not_attached() {
    let place = Place::new();
    let url = remote_database(&place);
    let good = remote("orders", "SELECT * FROM far.sales.orders", &url, "duckdb", "");
    for (why, statements) in [
        ("extension", good.replace("'duckdb'", "'sqlite'")),
        ("address", good.replace(&url, "/somewhere/else.duckdb")),
        ("token", good.replace(", '');", ", 'JWT_SECRET_KEY');")),
    ] {
        place.foreign("wh", &(statements + &table("fine", "SELECT 1 AS v")));
        let agnes = allow(&place, &url);
        let report = rebuild(&agnes);
        assert!(left_out(&report).contains(why), "{why}: {}", left_out(&report));
        assert!(left_out(&report).contains("`orders` of `wh`"), "{why}: {}", left_out(&report));
        assert_eq!(query(&agnes, "FROM fine"), "1");
    }
    // Another source, the same address.
    place.foreign("other", &remote("more", "SELECT * FROM far.sales.orders", &url, "duckdb", ""));
    let report = rebuild(&allow(&place, &url));
    assert!(left_out(&report).contains("`other` may not attach"), "{}", left_out(&report));
}

#[test]
fn a_remote_view_reads_from_its_own_alias_alone() {
    let place = Place::new();
    let url = remote_database(&place);
    let other = place.path("other.duckdb");
    duckdb::Connection::open_in_memory()
        .unwrap()
        .execute_batch(&format!(
            "ATTACH '{}' AS o; CREATE TABLE o.main.t AS SELECT 1 AS a",
            other.display()
        ))
        .unwrap();
    let statements = remote("bad1", "SELECT * FROM elsewhere.main.t", &url, "duckdb", "")
        + "CREATE VIEW bad2 WITH (defer_binding = true) AS SELECT * FROM read_parquet('/etc/passwd');
           CREATE VIEW bad3 WITH (defer_binding = true) AS SELECT * FROM postgres_scan('host=x', 'public', 't');
           CREATE VIEW bad4 WITH (defer_binding = true) AS SELECT * FROM far.sales.orders, '/etc/passwd';
           INSERT INTO _meta (table_name, query_mode) VALUES ('bad2', 'remote'), ('bad3', 'remote'), ('bad4', 'remote');";
    place.foreign("wh", &statements);
    let report = rebuild(&allow(&place, &url));
    assert_eq!(report.skipped.len(), 4, "{}", left_out(&report));
    assert!(report.sources.is_empty());
}

#[test]
fn an_alias_belongs_to_one_system() {
    let place = Place::new();
    let url = remote_database(&place);
    place.foreign("wh", &remote("orders", "SELECT * FROM far.sales.orders", &url, "duckdb", ""));
    let agnes = allow(&place, &url);
    rebuild(&agnes);
    place.foreign(
        "a",
        &remote("mine", "SELECT * FROM far.sales.orders", "/else.duckdb", "duckdb", ""),
    );
    let report = rebuild(&agnes);
    assert!(left_out(&report).contains("belongs to `wh`"), "{}", left_out(&report));
    assert_eq!(query(&agnes, "FROM orders"), "7");
}

#[test]
fn a_remote_system_that_is_away_takes_nothing_else_along() {
    let place = Place::new();
    let url = remote_database(&place);
    place.foreign(
        "wh",
        &(remote("orders", "SELECT * FROM far.sales.orders", &url, "duckdb", "")
            + &table("local", "SELECT 1 AS v")),
    );
    let agnes = allow(&place, &url);
    std::fs::rename(&url, place.path("away")).unwrap();
    let report = rebuild(&agnes);
    assert!(left_out(&report).contains("can't attach `far`"), "{}", left_out(&report));
    assert!(!left_out(&report).contains(&url), "the address is not shown: {}", left_out(&report));
    assert_eq!(query(&agnes, "FROM local"), "1");
    // It comes back, and so does the table, though no file of the extract has changed.
    std::fs::rename(place.path("away"), &url).unwrap();
    assert!(rebuild(&agnes).is_complete());
    assert_eq!(query(&agnes, "FROM orders"), "7");
    // Away again: the view stays, the query says what is wrong.
    std::fs::rename(&url, place.path("away")).unwrap();
    assert!(rebuild(&agnes).is_complete());
    let error = query_error(&agnes.session().unwrap(), "FROM orders");
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
}

/// A token that can't be had is none that isn't set: what somebody has to do is something else.
#[test]
fn a_vault_that_fails_is_heard() {
    let place = Place::new();
    let url = remote_database(&place);
    let statements =
        remote("orders", "SELECT * FROM far.sales.orders", &url, "duckdb", "FAR_TOKEN")
            + &table("local", "SELECT 1 AS id");
    place.foreign("wh", &statements);
    let open = |secrets: Arc<dyn agnes_core::Secrets>| {
        let rule = AttachRule {
            source: Some(source("wh")),
            extension: ExtensionName::parse("duckdb").unwrap(),
            url_prefix: Some(url.clone()),
            token_envs: vec![TokenEnv::parse("FAR_TOKEN").unwrap()],
            community: false,
        };
        let attach_policy = AttachPolicy::new(vec![rule]);
        let settings = Settings { attach_policy, ..place.settings() };
        let components = Components { secrets, ..Components::default() };
        Agnes::open_with(place.data(), settings, components).unwrap()
    };
    for (secrets, why) in [
        (Arc::new(Sealed("FAR")) as Arc<dyn agnes_core::Secrets>, "`FAR_TOKEN` can't be had"),
        (Arc::new(agnes_core::NoSecrets), "`FAR_TOKEN` is unset or empty"),
    ] {
        let agnes = open(secrets);
        let report = rebuild(&agnes);
        let told = left_out(&report);
        assert!(told.contains(why) && !told.contains("sealed"), "{told}");
        assert_eq!(query(&agnes, "FROM local"), "1");
    }
}

#[test]
fn hostile_rows_stay_rows() {
    let place = Place::new();
    let mut statements = table("fine", "SELECT 1 AS v");
    statements.push_str(
        "CREATE TABLE _remote_attach (alias VARCHAR, extension VARCHAR, url VARCHAR, token_env VARCHAR);
         INSERT INTO _remote_attach VALUES
           ('a; DROP TABLE x', 'duckdb', 'x', ''),
           ('a', '../evil', 'x', ''),
           ('b', 'duckdb', '''); ATTACH ''/etc/passwd'' AS p; --', ''),
           ('c', 'duckdb', 'x', 'lower_case'),
           (NULL, NULL, NULL, NULL);",
    );
    place.foreign("wh", &statements);
    let secrets = BTreeMap::from([("JWT_SECRET_KEY".to_string(), Secret::new("hunter2"))]);
    let components = Components { secrets: Arc::new(secrets), ..Components::default() };
    let agnes = Agnes::open_with(place.data(), place.settings(), components).unwrap();
    let report = rebuild(&agnes);
    assert_eq!(report.skipped.len(), 4, "{}", left_out(&report));
    assert_eq!(query(&agnes, "FROM fine"), "1");
}

#[test]
fn a_refused_alias_serves_nobody_else_s_system() {
    let place = Place::new();
    let url = remote_database(&place);
    place.foreign("wh", &remote("orders", "SELECT * FROM far.sales.orders", &url, "duckdb", ""));
    // The same alias for another system, and a view that reads through it.
    place.foreign("zz", &remote("stolen", "SELECT * FROM far.main.hidden", "/else", "duckdb", ""));
    let rule = |name: &str| AttachRule {
        source: Some(source(name)),
        extension: ExtensionName::parse("duckdb").unwrap(),
        url_prefix: None,
        token_envs: Vec::new(),
        community: false,
    };
    let both = AttachPolicy::new(vec![rule("wh"), rule("zz")]);
    let settings = Settings { attach_policy: both, ..place.settings() };
    let agnes = Agnes::open_with(place.data(), settings, Components::default()).unwrap();
    let report = rebuild(&agnes);
    assert!(left_out(&report).contains("`stolen` of `zz` is left out"), "{}", left_out(&report));
    let session = agnes.session().unwrap();
    assert_eq!(query_error(&session, "FROM stolen").kind(), Kind::NotFound);
    drop((agnes, session));
    // The same system, which the policy allows to `wh` alone.
    place.foreign("zz", &remote("stolen", "SELECT * FROM far.main.hidden", &url, "duckdb", ""));
    let settings =
        Settings { attach_policy: AttachPolicy::new(vec![rule("wh")]), ..place.settings() };
    let agnes = Agnes::open_with(place.data(), settings, Components::default()).unwrap();
    let report = rebuild(&agnes);
    assert!(left_out(&report).contains("`zz` may not attach"), "{}", left_out(&report));
    assert_eq!(
        query_error(&agnes.session().unwrap(), "FROM orders, stolen").kind(),
        Kind::NotFound
    );
}

#[test]
fn what_the_operator_forbids_goes_though_nothing_else_changed() {
    let place = Place::new();
    let url = remote_database(&place);
    place.foreign("wh", &remote("orders", "SELECT * FROM far.sales.orders", &url, "duckdb", ""));
    rebuild(&allow(&place, &url));
    let agnes = Agnes::open_with(place.data(), place.settings(), Components::default()).unwrap();
    let report = rebuild(&agnes);
    assert_eq!(report.dropped.len(), 1, "{report:?}");
    assert_eq!(query_error(&agnes.session().unwrap(), "FROM orders").kind(), Kind::NotFound);
    drop(agnes);
    // Allowed again, it comes back; and that needs no rebuild of anything else.
    for _ in 0..2 {
        let agnes = allow(&place, &url);
        assert!(rebuild(&agnes).is_complete());
        assert_eq!(query(&agnes, "FROM orders"), "7");
    }
}
