//! Hybrid queries, with a second DuckDB in the part of the remote system.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use agnes_core::access::{Email, GroupName, Principal, Resource};
use agnes_core::arrow::datatypes::{DataType, Field, Schema};
use agnes_core::query::{
    HybridLimits, HybridSession, QueryOptions, Registered, RemoteEngine, RemoteEngines, RemoteRows,
    Stop,
};
use agnes_core::{Agnes, Components, Error, ExternalName, Key, Kind, Result, Settings, ViewName};

use crate::support::{Place, query_error, rebuild, shown, table};

const ADMIN: &Principal = &Principal::Operator;

/// Another DuckDB. It runs whatever it is told to: it has credentials that its callers haven't.
struct Elsewhere {
    file: PathBuf,
    ran: Arc<AtomicUsize>,
}

impl RemoteEngine for Elsewhere {
    fn scan_bytes(&self, sql: &str, _: &Stop) -> Result<Option<u64>> {
        match sql {
            sql if sql.contains("expensive") => Ok(Some(1 << 40)),
            sql if sql.contains("nobody knows") => Ok(None),
            sql if sql.contains("forbidden") => Err(Error::new(Kind::Denied, "no rights there")),
            _ => Ok(Some(1000)),
        }
    }

    fn run(&self, sql: &str, stop: &Stop, rows: &mut RemoteRows) -> Result<()> {
        self.ran.fetch_add(1, Ordering::SeqCst);
        match sql {
            sql if sql.contains("panics") => panic!("the driver fell over"),
            sql if sql.contains("hangs") => {
                let (end, ended) = std::sync::mpsc::channel();
                stop.then(move || end.send(()).unwrap_or(()));
                ended.recv().unwrap();
                assert!(stop.is_stopped());
                return Ok(());
            }
            sql if sql.contains("says nothing") => return Ok(()),
            sql if sql.contains("columns twice") => {
                let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true)]));
                rows.columns(schema.clone())?;
                return rows.columns(schema);
            }
            _ => {}
        }
        let failed = |e: duckdb::Error| Error::new(Kind::Unavailable, e.to_string());
        let connection = duckdb::Connection::open(&self.file).map_err(failed)?;
        let handle = connection.interrupt_handle();
        stop.then(move || handle.interrupt());
        let mut statement = connection.prepare(sql).map_err(failed)?;
        let stream = statement.stream_arrow([]).map_err(failed)?;
        rows.columns(stream.get_schema())?;
        for batch in stream {
            rows.rows(batch.map_err(failed)?)?;
        }
        Ok(())
    }
}

struct House {
    place: Place,
    agnes: Agnes,
    ran: Arc<AtomicUsize>,
}

impl House {
    fn new(hybrid: HybridLimits) -> House {
        let place = Place::new();
        place.foreign(
            "crm",
            &(table("customers", "SELECT i AS id, 'c' || i AS name FROM range(3) t(i)")
                + &table("salaries", "SELECT 31337 AS salary")),
        );
        let (file, ran) = (place.path("remote.duckdb"), Arc::new(AtomicUsize::new(0)));
        duckdb::Connection::open(&file)
            .unwrap()
            .execute_batch(
                "CREATE TABLE orders AS SELECT i AS id, i % 3 AS customer, i * 1.5::DOUBLE AS total, \
                 DATE '2026-01-01' + (i % 30)::INTEGER AS day, ['a', 'b'] AS tags, \
                 {'x': i} AS record, (i / 3)::DECIMAL(9, 2) AS price FROM range(10000) t(i)",
            )
            .unwrap();
        let engine = Elsewhere { file, ran: ran.clone() };
        let name = ExternalName::parse("warehouse").unwrap();
        let components = Components {
            remote_engines: RemoteEngines::default().with(&name, Arc::new(engine)),
            ..Components::default()
        };
        let settings = Settings { hybrid, ..place.settings() };
        let agnes = Agnes::open_with(place.data(), settings, components).unwrap();
        rebuild(&agnes);
        agnes.adopt(ADMIN, None).unwrap();
        House { place, agnes, ran }
    }

    /// A user who may see the customers.
    fn ada(&self) -> (Principal, agnes_core::access::GroupId) {
        let access = self.agnes.access().unwrap();
        let admin = access.admin(ADMIN).unwrap();
        let ada = admin.add_user(Email::parse("ada@example.com").unwrap(), None).unwrap();
        let group = admin.add_group(GroupName::parse("sales").unwrap(), None).unwrap();
        admin.add_member(&group.id, &ada.id).unwrap();
        admin.grant(&group.id, Resource::parse("table:customers").unwrap()).unwrap();
        (Principal::user(ada.id), group.id)
    }

    fn register(
        &self,
        session: &mut HybridSession<'_>,
        who: &Principal,
        alias: &str,
        sql: &str,
    ) -> Result<Registered> {
        let decision =
            self.agnes.access()?.decide(who, &Resource::parse("remote_engine:warehouse")?);
        session.register(&decision.permit()?, &ViewName::parse(alias)?, sql)
    }
}

fn rows(session: &HybridSession<'_>, sql: &str) -> String {
    let rows = session.query(sql, &QueryOptions::default());
    shown(&rows.and_then(|rows| rows.read_all()).unwrap_or_else(|e| panic!("{sql}: {e:?}")))
}

fn refusal(session: &HybridSession<'_>, sql: &str) -> Error {
    let rows = session.query(sql, &QueryOptions::default());
    rows.and_then(|rows| rows.read_all()).unwrap_err()
}

/// The folders of the sessions that are open.
fn folders(house: &House) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(house.place.data().join("analytics/hybrid")).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

#[test]
fn remote_rows_are_joined_with_tables_several_at_once() {
    let house = House::new(HybridLimits::default());
    let mut session = house.agnes.hybrid_session(ADMIN).unwrap();
    let sql = "SELECT customer, sum(total) AS total FROM orders GROUP BY customer";
    let registered = house.register(&mut session, ADMIN, "sales", sql).unwrap();
    assert_eq!((registered.rows, registered.columns.join(",")), (3, "customer,total".to_string()));
    let told = serde_json::to_value(&registered).unwrap();
    assert_eq!(
        (&told["engine"], &told["scan_bytes"]),
        (&"remote_engine:warehouse".into(), &1000.into())
    );
    house
        .register(&mut session, ADMIN, "days", "SELECT day, count(*) AS n FROM orders GROUP BY day")
        .unwrap();
    assert_eq!(
        rows(&session, "SELECT name, total FROM customers JOIN sales ON id = customer ORDER BY id"),
        "c0|25002499.5\nc1|24992500.5\nc2|24997500.0"
    );
    assert_eq!(rows(&session, "SELECT count(*), sum(n) FROM days"), "30|10000");
    assert_eq!(rows(&session, "SHOW TABLES"), "customers\ndays\nsalaries\nsales");
    // Every type comes as it is, and the alias may be given to something else.
    let all =
        house.register(&mut session, ADMIN, "sales", "SELECT * FROM orders WHERE id = 7").unwrap();
    assert_eq!(all.columns.len(), 7);
    let many =
        house.register(&mut session, ADMIN, "many", "SELECT i FROM range(131072) t(i)").unwrap();
    assert_eq!(
        (many.bytes, serde_json::to_value(&many).unwrap()["memory_mb"].as_f64()),
        (1 << 20, Some(1.0))
    );
    assert_eq!(
        rows(&session, "SELECT total, day, tags[2], record.x, price FROM sales"),
        "10.5|2026-01-08|b|7|2.33"
    );
    assert_eq!(session.registered().len(), 3);
    // Nothing of it is anybody else's.
    let other = house.agnes.session().unwrap();
    assert_eq!(query_error(&other, "FROM sales").kind(), Kind::NotFound);
    let second = house.agnes.hybrid_session(ADMIN).unwrap();
    assert_eq!(refusal(&second, "FROM days").kind(), Kind::NotFound);
    // The walls are those of all sessions.
    let file = folders(&house).remove(0).join("1.parquet");
    for sql in [
        format!("FROM '{}'", file.display()),
        format!("FROM read_parquet('{}')", file.display()),
        "COPY (SELECT 1) TO '/tmp/x.csv'".to_string(),
        "CREATE TABLE t AS SELECT 1".to_string(),
    ] {
        assert!(
            matches!(refusal(&session, &sql).kind(), Kind::Denied | Kind::NotFound | Kind::Invalid),
            "{sql}"
        );
    }
    // With the session its rows go.
    drop((session, second));
    assert!(folders(&house).is_empty());
}

#[test]
fn every_limit_is_enforced_and_leaves_what_there_was() {
    let limits = HybridLimits {
        max_rows: 5000,
        max_bytes: 300_000,
        max_result_rows: 10,
        max_scan_bytes: Some(1 << 30),
        time: Duration::from_millis(1500),
    };
    let house = House::new(limits);
    let mut session = house.agnes.hybrid_session(ADMIN).unwrap();
    house.register(&mut session, ADMIN, "few", "SELECT id FROM orders WHERE id < 5000").unwrap();
    let before = house.ran.load(Ordering::SeqCst);
    for (sql, reason, kind) in [
        ("SELECT id FROM orders WHERE id <= 5000", "row_limit", Kind::Limit),
        ("SELECT i FROM range(1000000000000) t(i)", "row_limit", Kind::Limit),
        ("SELECT repeat('x', 300) AS t FROM orders LIMIT 1000", "memory_limit", Kind::Limit),
        ("SELECT 'expensive' FROM orders", "scan_limit", Kind::Limit),
        ("SELECT 'hangs'", "timeout", Kind::Limit),
        ("SELECT count(*) FROM range(100000000000) t(i)", "timeout", Kind::Limit),
        ("SELECT 'forbidden'", "remote_error", Kind::Denied),
        ("SELECT 'panics'", "remote_error", Kind::Internal),
        ("SELECT 'says nothing'", "remote_error", Kind::Internal),
        ("SELECT 'columns twice'", "remote_error", Kind::Internal),
        ("SELECT nothing FROM orders", "remote_error", Kind::Unavailable),
        ("SELECT 1 AS a, 2 AS A", "remote_error", Kind::Invalid),
        ("DROP TABLE orders", "query_error", Kind::Invalid),
        ("SELECT 1; SELECT 2", "query_error", Kind::Invalid),
        (
            "WITH x AS (DELETE FROM orders RETURNING id) SELECT * FROM x",
            "query_error",
            Kind::Invalid,
        ),
    ] {
        let begun = Instant::now();
        let error = house.register(&mut session, ADMIN, "few", sql).unwrap_err();
        assert_eq!(
            (error.context(Key::Reason), error.kind()),
            (Some(reason), kind),
            "{sql}: {error:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(30), "{sql}");
        // What was registered before is still there, within the limits of a result.
        let read = session
            .query("SELECT id FROM few", &QueryOptions::default())
            .unwrap()
            .read_all()
            .unwrap();
        assert_eq!((read.len(), read.truncated), (10, true), "{sql}");
    }
    let rows = house
        .register(&mut session, ADMIN, "few", "SELECT id FROM orders WHERE id <= 5000")
        .unwrap_err();
    assert_eq!(rows.context(Key::Max), Some("5000"));
    assert!(rows.context(Key::Count).unwrap().parse::<u64>().unwrap() > 5000);
    assert!(house.ran.load(Ordering::SeqCst) > before);
    // What is registered besides counts: 8 bytes a row.
    for at in 0..6 {
        house
            .register(
                &mut session,
                ADMIN,
                &format!("more{at}"),
                "SELECT id FROM orders WHERE id < 5000",
            )
            .unwrap();
    }
    let error = house
        .register(&mut session, ADMIN, "last", "SELECT id FROM orders WHERE id < 5000")
        .unwrap_err();
    assert_eq!(error.context(Key::Reason), Some("memory_limit"));
    // In the place of what it replaces there is room.
    house
        .register(&mut session, ADMIN, "more0", "SELECT id + 1 AS id FROM orders WHERE id < 5000")
        .unwrap();
    // Only what is registered has a file, beside the one that says that it is in use.
    let files = std::fs::read_dir(&folders(&house)[0]).unwrap().count();
    assert_eq!(files, 1 + 1 + 6);
}

#[test]
fn who_may_run_remote_statements() {
    let house = House::new(HybridLimits::default());
    let (ada, group) = house.ada();
    let mut hers = house.agnes.hybrid_session(&ada).unwrap();
    // Without a grant there is no permit, for an engine that is there and for one that isn't.
    let error = house.register(&mut hers, &ada, "x", "SELECT 1 AS a").unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(house.ran.load(Ordering::SeqCst), 0);
    // Somebody else's permit, and one for something else, open nothing.
    let access = house.agnes.access().unwrap();
    let engine = Resource::parse("remote_engine:warehouse").unwrap();
    let admins = access.decide(ADMIN, &engine);
    let x = ViewName::parse("x").unwrap();
    assert_eq!(
        hers.register(&admins.permit().unwrap(), &x, "SELECT 1 AS a").unwrap_err().kind(),
        Kind::Denied
    );
    let tables = access.decide(&ada, &Resource::parse("table:customers").unwrap());
    assert_eq!(
        hers.register(&tables.permit().unwrap(), &x, "SELECT 1 AS a").unwrap_err().kind(),
        Kind::Denied
    );
    let admin = access.admin(ADMIN).unwrap();
    assert!(admin.grant(&group, Resource::parse("remote_engine:nowhere").unwrap()).is_err());
    let grant = admin.grant(&group, engine.clone()).unwrap();
    house
        .register(
            &mut hers,
            &ada,
            "turnover",
            "SELECT customer, count(*) AS n FROM orders GROUP BY ALL",
        )
        .unwrap();
    assert_eq!(rows(&hers, "SELECT count(*) FROM customers JOIN turnover ON id = customer"), "3");
    // It gives her no table that she may not see; what is hidden and what isn't there are one.
    let hidden = error_of(&hers, "FROM salaries");
    assert_eq!(hidden.replace("salaries", "salariex"), error_of(&hers, "FROM salariex"));
    assert_eq!(rows(&hers, "SHOW TABLES"), "customers\nturnover");
    // What bears the name of a visible table is refused; of a hidden one it says nothing.
    let taken = house.register(&mut hers, &ada, "Customers", "SELECT 1 AS a").unwrap_err();
    assert_eq!(taken.kind(), Kind::Conflict);
    house.register(&mut hers, &ada, "salaries", "SELECT 1 AS mine").unwrap();
    assert_eq!(rows(&hers, "FROM salaries"), "1");
    for reserved in [
        "main",
        "Memory",
        "system",
        "temp",
        "information_schema",
        "duckdb_tables",
        "pg_class",
        "a b",
        "",
        "x;y",
    ] {
        let error = house.register(&mut hers, &ada, reserved, "SELECT 1 AS a").unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{reserved}");
    }
    // A permit that was kept opens nothing that was taken away, nor does what it brought.
    let kept = access.decide(&ada, &engine);
    admin.revoke(&grant.id).unwrap();
    let denied = hers.register(&kept.permit().unwrap(), &x, "SELECT 1 AS a").unwrap_err();
    assert_eq!(denied.kind(), Kind::Denied);
    assert_eq!(refusal(&hers, "FROM turnover").kind(), Kind::Denied);
    assert_eq!(house.agnes.hybrid_session(&Principal::Nobody).unwrap_err().kind(), Kind::Denied);
    // Nor does a session whose table was taken away.
    let again = admin.grant(&group, engine).unwrap();
    assert_eq!(rows(&hers, "SELECT count(*) FROM turnover"), "3");
    let grants = admin.grants();
    let table = grants.iter().find(|g| g.grant.resource.id() == "customers").unwrap();
    admin.revoke(&table.grant.id).unwrap();
    assert_eq!(refusal(&hers, "SELECT 1").kind(), Kind::Denied);
    admin.revoke(&again.id).unwrap();
}

fn error_of(session: &HybridSession<'_>, sql: &str) -> String {
    refusal(session, sql).message().to_string()
}

#[test]
fn a_permit_for_an_engine_opens_no_table_of_that_name() {
    let house = House::new(HybridLimits::default());
    let (ada, group) = house.ada();
    let access = house.agnes.access().unwrap();
    let admin = access.admin(ADMIN).unwrap();
    let engine = Resource::parse("remote_engine:warehouse").unwrap();
    admin.grant(&group, engine.clone()).unwrap();
    drop(access);
    house.place.foreign("evil", &table("warehouse", "SELECT 'secret' AS word"));
    rebuild(&house.agnes);
    let access = house.agnes.access().unwrap();
    for who in [ADMIN, &ada] {
        let decision = access.decide(who, &engine);
        let permit = decision.permit().unwrap();
        assert_eq!(house.agnes.profile(&permit).unwrap_err().kind(), Kind::NotFound);
        assert_eq!(house.agnes.data_file(&permit, None).unwrap_err().kind(), Kind::NotFound);
    }
    // What nobody has registered is an admin's.
    let unregistered = access.decide(ADMIN, &Resource::parse("table:warehouse").unwrap());
    assert_eq!(house.agnes.profile(&unregistered.permit().unwrap()).unwrap().row_count, 1);
}

#[test]
fn what_a_killed_session_left_is_cleared_away() {
    let house = House::new(HybridLimits::default());
    let left = house.place.data().join("analytics/hybrid/0123456789abcdef");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("in-use"), "").unwrap();
    std::fs::write(left.join("1.parquet"), "rows of somebody").unwrap();
    let mut session = house.agnes.hybrid_session(ADMIN).unwrap();
    assert!(!left.exists());
    // One that is in use stays.
    let other = house.agnes.hybrid_session(ADMIN).unwrap();
    house.register(&mut session, ADMIN, "x", "SELECT 1 AS a").unwrap();
    assert_eq!(rows(&session, "FROM x"), "1");
    assert!(other.registered().is_empty());
    assert!(ViewName::parse("x").is_ok());
}
