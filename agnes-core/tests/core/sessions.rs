//! Sessions: what a principal sees with SQL, its limits, and how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agnes_core::access::{Access, Principal, UserId};
use agnes_core::query::{AllRows, Parameter, QueryLimits, QueryOptions, Reader, Stop, TYPE_KEY};
use agnes_core::value::{Columns, Value, Written};
use agnes_core::{Agnes, Components, Kind, NoProgress, Session, Settings, Timestamp};

use crate::access::{email, group, resource, user};
use crate::support::{Place, query_error, query_in, rebuild, run, shown, source, table};

const OPERATOR: &Principal = &Principal::Operator;

const ORDERS: &str = "SELECT i::INTEGER AS id, 'c' || i % 3 AS customer, \
    (i * 1.5)::DECIMAL(10, 2) AS amount, DATE '2026-01-01' + i::INTEGER AS day, \
    i::BIGINT AS last_update FROM range(5) t(i)";

/// Three tables, of which Ada may see `orders` and `customers`.
pub struct Shop {
    pub agnes: Agnes,
    pub ada: Principal,
    pub id: UserId,
}

impl Shop {
    pub fn open(place: &Place, query: QueryLimits) -> Shop {
        Shop::with(place, Settings { query, ..place.settings() })
    }

    pub fn with(place: &Place, settings: Settings) -> Shop {
        let sql = table("orders", ORDERS)
            + &table("customers", "SELECT i AS id, 'c' || i AS name FROM range(3) t(i)")
            + &table("salaries", "SELECT 1 AS id, 'secret' AS name, 100 AS salary");
        place.foreign("hr", &sql);
        let agnes = Agnes::open_with(place.data(), settings, Components::default()).unwrap();
        rebuild(&agnes);
        agnes.adopt(OPERATOR, None).unwrap();
        let access = agnes.access().unwrap();
        let admin = access.admin(OPERATOR).unwrap();
        let (sales, ada) = (group(&admin, "sales"), user(&admin, "ada@example.com"));
        admin.add_member(&sales.id, &ada.id).unwrap();
        for granted in ["table:orders", "table:customers"] {
            admin.grant(&sales.id, resource(granted)).unwrap();
        }
        Shop { agnes, ada: Principal::user(ada.id.clone()), id: ada.id }
    }

    pub fn session(&self) -> Session {
        self.agnes.session_for(&self.ada).unwrap()
    }

    pub fn access(&self) -> std::sync::Arc<Access> {
        self.agnes.access().unwrap()
    }

    fn revoke(&self, what: &str) {
        let access = self.access();
        let admin = access.admin(OPERATOR).unwrap();
        let grants = admin.grants();
        let grant = grants.iter().find(|g| g.grant.resource == resource(what)).unwrap();
        admin.revoke(&grant.grant.id).unwrap();
    }
}

fn shop(place: &Place) -> Shop {
    Shop::open(place, QueryLimits::default())
}

#[test]
fn a_session_shows_what_was_granted_and_nothing_else() {
    let place = Place::new();
    let shop = shop(&place);
    let session = shop.session();
    assert_eq!(query_in(&session, "SELECT count(*), sum(amount) FROM orders"), "5|15.00");
    assert_eq!(query_in(&session, "SHOW TABLES"), "customers\norders");
    let tables: Vec<String> = session.tables().iter().map(ToString::to_string).collect();
    assert_eq!(tables, ["customers", "orders"]);
    // What is hidden and what doesn't exist are one answer, and nothing hidden is suggested.
    let answer = |table: &str| {
        let error = query_error(&session, &format!("FROM {table}"));
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        error.message().replace(table, "…")
    };
    assert_eq!(answer("salaries"), answer("payrolls"));
    assert_eq!(answer("SALARIES"), answer("PAYROLLS"));
    assert!(answer("salarie").contains("you may see"), "{}", answer("salarie"));
    assert!(!answer("salarie").contains("did you mean"), "{}", answer("salarie"));
    assert!(answer("ordres").contains("did you mean `orders`"), "{}", answer("ordres"));
    // An admin sees all, and hears the difference.
    let all = shop.agnes.session().unwrap();
    assert_eq!(query_in(&all, "FROM salaries"), "1|secret|100");
    assert_eq!(query_error(&all, "FROM payroll").kind(), Kind::NotFound);
}

#[test]
fn lists_of_tables_and_columns_are_filtered_and_name_no_path() {
    let place = Place::new();
    let shop = shop(&place);
    let session = shop.session();
    assert_eq!(
        query_in(
            &session,
            "SELECT table_schema, table_name FROM information_schema.tables ORDER BY ALL"
        ),
        "main|customers\nmain|orders"
    );
    assert_eq!(
        query_in(
            &session,
            "SELECT column_name, data_type FROM information_schema.columns \
             WHERE table_name = 'orders' ORDER BY ordinal_position"
        ),
        "id|INTEGER\ncustomer|VARCHAR\namount|DECIMAL(10,2)\nday|DATE\nlast_update|BIGINT"
    );
    for sql in
        ["SHOW ALL TABLES", "FROM information_schema.tables", "DESCRIBE", "FROM (SHOW TABLES)"]
    {
        let rows = query_in(&session, sql);
        assert!(rows.contains("orders") && !rows.contains("salaries"), "{sql}: {rows}");
        assert!(!rows.contains(place.data().to_str().unwrap()), "{sql}: {rows}");
    }
    let described = query_in(&session, "DESCRIBE orders");
    assert!(described.starts_with("id|INTEGER|YES"), "{described}");
    assert!(query_in(&session, "SUMMARIZE orders").contains("amount|DECIMAL(10,2)|0.00|6.00"));
    let mixed = "FROM orders, information_schema.tables";
    assert_eq!(query_error(&session, mixed).kind(), Kind::Invalid);
    // Listed before anything was read, and not twice.
    assert_eq!(query_in(&shop.session(), "SELECT count(*) FROM (SHOW TABLES)"), "2");
}

#[test]
fn peoples_sql_works() {
    let place = Place::new();
    let shop = shop(&place);
    let session = shop.session();
    for (sql, rows) in [
        ("SELECT last_update FROM orders WHERE id = 1;", "1"),
        ("-- which?\nSELECT max(id) /* the last */ FROM orders -- really", "4"),
        ("FROM orders SELECT id ORDER BY id LIMIT 1", "0"),
        ("SELECT * EXCLUDE (customer, amount, day, last_update) FROM orders WHERE id < 1", "0"),
        ("SELECT * REPLACE (id + 1 AS id) FROM customers ORDER BY 1 LIMIT 1", "1|c0"),
        (
            "WITH o AS (FROM orders) SELECT count(*) FROM o JOIN customers c ON o.customer = c.name",
            "5",
        ),
        (
            "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 4) SELECT sum(i) FROM r",
            "10",
        ),
        ("SELECT id FROM orders QUALIFY row_number() OVER (ORDER BY amount DESC) = 1", "4"),
        (
            "PIVOT orders ON customer IN ('c0', 'c1') USING sum(amount) GROUP BY id ORDER BY id LIMIT 2",
            "0|0.00|NULL\n1|NULL|1.50",
        ),
        (
            "SELECT name, value FROM (UNPIVOT customers ON id INTO NAME k VALUE value) ORDER BY ALL LIMIT 1",
            "c0|0",
        ),
        (
            "SELECT o.id FROM orders o ASOF JOIN customers c ON o.id >= c.id ORDER BY o.id DESC LIMIT 1",
            "4",
        ),
        (
            "SELECT x FROM customers c, LATERAL (SELECT c.id * 10 AS x) ORDER BY x DESC LIMIT 1",
            "20",
        ),
        ("SELECT list_transform([1, 2], lambda x: x + 1)", "[2, 3]"),
        ("SELECT list_filter([1, 2, 3], lambda x: x > 1)::VARCHAR", "[2, 3]"),
        ("SELECT count(*) >= 0 FROM orders USING SAMPLE 50%", "true"),
        ("SELECT 'DROP TABLE orders; update !' AS \"select\"", "DROP TABLE orders; update !"),
        ("SELECT {'a': 1, 'b': [1, 2]}", "{a: 1, b: [1, 2]}"),
        ("VALUES (1), (2)", "1\n2"),
        // As the lists of tables call them.
        ("SELECT max(\"o\".\"id\") FROM \"memory\".\"main\".\"orders\" o", "4"),
        // Whatever the zone of the machine is.
        ("SELECT TIMESTAMPTZ '2026-07-01 23:30:00+00'::DATE", "2026-07-01"),
        ("SELECT strftime(TIMESTAMPTZ '2026-07-01 12:00:00+02', '%H %Z')", "10 UTC"),
        ("SELECT count(*) FROM range(10)", "10"),
        ("SELECT unnest([1, 2])", "1\n2"),
        ("TABLE customers LIMIT 1", "0|c0"),
        ("SELECT sum(amount) FILTER (customer = 'c1') FROM orders", "7.50"),
        (
            "SELECT date_trunc('month', day)::VARCHAR FROM orders GROUP BY ALL",
            "2026-01-01 00:00:00",
        ),
        (
            "SELECT * FROM orders o POSITIONAL JOIN customers c WHERE o.id = 0",
            "0|c0|0.00|2026-01-01|0|0|c0",
        ),
    ] {
        assert_eq!(query_in(&session, sql), rows, "{sql}");
    }
    let plan = query_in(&session, "EXPLAIN SELECT sum(amount) FROM orders");
    assert!(plan.contains("READ_PARQUET"), "{plan}");
    assert!(!plan.contains("pins"), "{plan}");
    for sql in ["EXPLAIN ANALYZE FROM orders", "EXPLAIN (FORMAT json) FROM orders"] {
        assert_eq!(query_error(&session, sql).kind(), Kind::Denied);
    }
    assert_eq!(query_error(&session, "EXPLAIN FROM salaries").kind(), Kind::Denied);
    assert_eq!(query_error(&session, "EXPLAIN EXPLAIN FROM orders").kind(), Kind::Denied);
}

/// The engine would find the values by statements that the guard doesn't see.
#[test]
fn a_pivot_finds_its_columns_by_itself() {
    let place = Place::new();
    let shop = shop(&place);
    let session = shop.session();
    let plain = duckdb::Connection::open_in_memory().unwrap();
    plain.execute_batch(&format!("CREATE TABLE orders AS {ORDERS}")).unwrap();
    for sql in [
        "PIVOT orders ON customer USING sum(amount) GROUP BY day ORDER BY day",
        "pivot orders on id, customer using max(amount) as m, count(*) group by day order by day desc",
        "PIVOT orders ON customer IN ('c2', 'c0'), id % 2 USING count(*) ORDER BY ALL",
        "PIVOT (SELECT day, customer AS k FROM orders) ON k || ' of ' || year(day)",
        "SELECT c1 FROM (PIVOT orders ON customer USING count(*) GROUP BY id) ORDER BY id -- all",
        "WITH o(n, k) AS (SELECT id, customer FROM orders) PIVOT o ON k /* each */ USING sum(n)",
        "FROM (PIVOT (PIVOT orders ON customer USING count(*) GROUP BY id) ON c0 USING max(c1)) ORDER BY ALL",
        // A value is text, and NULL is none.
        "PIVOT (SELECT nullif(id, 0) AS k, 'it''s' AS t FROM orders WHERE id < 2) ON t, k",
        "PIVOT orders ON amount, day USING first(id) GROUP BY last_update ORDER BY ALL",
    ] {
        let rows = run(&session, sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let mut statement = plain.prepare(sql).unwrap();
        let expected = statement.query_arrow([]).unwrap();
        assert_eq!(rows.schema, expected.get_schema(), "{sql}");
        let expected = AllRows { batches: expected.collect(), ..rows.clone() };
        assert_eq!(shown(&rows), shown(&expected), "{sql}");
    }
    let plan = query_in(&session, "EXPLAIN PIVOT orders ON id");
    assert!(plan.contains("READ_PARQUET"), "{plan}");
    assert!(query_in(&session, "DESCRIBE PIVOT orders ON customer").contains("c2|BIGINT"));
    assert!(query_in(&session, "SUMMARIZE PIVOT orders ON customer").contains("c2|BIGINT"));
    // The engine itself doesn't see what a WITH defined before.
    let sql = "WITH o AS (FROM orders WHERE id < 3), p AS (PIVOT o ON id USING max(amount) \
               GROUP BY customer) SELECT \"2\" FROM p ORDER BY customer;";
    assert_eq!(query_in(&session, sql), "NULL\nNULL\n3.00");
    for (sql, kind, says) in [
        ("PIVOT salaries ON name USING sum(salary)", Kind::Denied, "no table `salaries`"),
        (
            "PIVOT orders ON customer USING (SELECT max(salary) FROM salaries)",
            Kind::Denied,
            "salaries",
        ),
        ("PIVOT orders ON (SELECT max(name) FROM salaries)", Kind::Denied, "salaries"),
        ("PIVOT orders ON getenv('HOME')", Kind::Invalid, "getenv"),
        ("PIVOT read_text('/etc/passwd') ON content", Kind::Denied, "read_text"),
        ("PIVOT (FROM range(2000) t(i)) ON i USING sum(i)", Kind::Limit, "1000 columns"),
        ("PIVOT (FROM orders WHERE false) ON id", Kind::Invalid, "no values"),
        ("PIVOT orders ON nothing_of_it", Kind::Invalid, "nothing_of_it"),
        ("PIVOT (SELECT 'a' || chr(0) AS k) ON k", Kind::Invalid, "NUL"),
        (
            &format!("FROM {}", ["(PIVOT orders ON id)"; 11].join(", ")),
            Kind::Limit,
            "more than 10 PIVOTs",
        ),
        // Each level would be looked at as often as there are levels.
        (&"(pivot t on k".repeat(5000), Kind::Limit, "nests"),
        (&format!("PIVOT orders ON id{}", ", id".repeat(5000)), Kind::Limit, "columns"),
        (
            &format!("PIVOT orders ON repeat('x', 40000 + id){}", ", id".repeat(9)),
            Kind::Limit,
            "columns",
        ),
    ] {
        let error = query_error(&session, sql);
        assert_eq!(error.kind(), kind, "{sql}: {error}");
        assert!(error.message().contains(says), "{sql}: {error}");
    }
}

#[test]
fn batches_have_the_rows_that_were_wanted_and_fewer_where_these_are_long() {
    let place = Place::new();
    let random = "md5((i * 7919)::VARCHAR) || md5((i * 104729)::VARCHAR)";
    let long = format!(
        "SELECT i, list_aggregate([{random}] || [{random}], 'string_agg', '') AS text FROM range(40_000) t(i)"
    );
    let sql = table("short", "SELECT i, i % 7 AS k FROM range(100_000) t(i)")
        + &table("long", &long)
        + &table("orders", ORDERS);
    place.foreign("hr", &sql);
    let agnes = place.agnes();
    rebuild(&agnes);
    let session = agnes.session().unwrap();
    let most = |table: &str, batch_rows| {
        let options = QueryOptions { batch_rows, ..QueryOptions::default() };
        let rows = session.query(&format!("FROM {table}"), &options).unwrap().read_all().unwrap();
        rows.batches.iter().map(|batch| batch.num_rows()).max().unwrap()
    };
    let expected = |rows: usize| if crate::IN_WORKERS { rows.min(2048) } else { rows };
    assert_eq!(most("short", 2048), 2048);
    assert_eq!(most("orders", 1), 1);
    assert_eq!(most("short", 50_000), expected(50_000));
    let fewer = most("long", 40_000);
    assert!((2048..20_000).contains(&fewer), "{fewer}");
}

/// More text than a batch can hold comes in smaller ones.
#[test]
#[ignore = "it takes 5 GB of memory"]
fn long_texts_come_in_smaller_batches() {
    let place = Place::new();
    let long = "SELECT repeat('x', 200_000 + i::INTEGER % 7) AS text FROM range(16_384) t(i)";
    // Its file is small.
    let sql = table("long", long).replace("FORMAT parquet", "FORMAT parquet, COMPRESSION zstd");
    assert!(sql.contains("zstd"));
    place.foreign("hr", &sql);
    let agnes = place.agnes();
    rebuild(&agnes);
    let session = agnes.session().unwrap();
    let options = QueryOptions { batch_rows: 65_536, max_bytes: None, ..QueryOptions::default() };
    let rows = session.query("FROM long", &options).unwrap();
    let batches: Vec<_> = rows.map(|batch| batch.unwrap().num_rows()).collect();
    assert_eq!(batches.iter().sum::<usize>(), 16_384);
    assert!(batches.iter().all(|rows| *rows <= 2048), "{batches:?}");
}

#[test]
fn parameters_are_bound() {
    let place = Place::new();
    let shop = shop(&place);
    let session = shop.session();
    let query = |sql: &str, parameters: Vec<Parameter>| {
        session.query(sql, &QueryOptions { parameters, ..QueryOptions::default() })
    };
    let all = vec![
        Parameter::Text("' OR 1 = 1 --".into()),
        Parameter::Integer(i64::MIN),
        Parameter::Float(0.5),
        Parameter::Bool(true),
        Parameter::Null,
        Parameter::Bytes(vec![0, 255]),
    ];
    let rows = query("SELECT ?, ?, ?, ?, ?, ?", all).unwrap().read_all().unwrap();
    assert_eq!(shown(&rows), "' OR 1 = 1 --|-9223372036854775808|0.5|true|NULL|00ff");
    let rows = query("SELECT count(*) FROM orders WHERE id > $1", vec![Parameter::Integer(2)]);
    assert_eq!(shown(&rows.unwrap().read_all().unwrap()), "2");
    // Where something has to be known beforehand, the value that is bound will do.
    let text = |text: &str| Parameter::Text(text.into());
    for (sql, parameters, expected) in [
        ("SELECT count(*) FROM customers WHERE regexp_matches(name, ?)", vec![text("c[01]")], "2"),
        ("SELECT '{\"k\": 7}'::JSON ->> $1", vec![text("$.k")], "7"),
        ("SELECT strftime(DATE '2026-01-02', ?)", vec![text("%Y")], "2026"),
        ("SELECT quantile_disc(id, ?) FROM orders", vec![Parameter::Float(0.5)], "2"),
        ("SELECT max(id, ?)::VARCHAR FROM orders", vec![Parameter::Integer(2)], "[4, 3]"),
        (
            "SELECT count(*) FROM customers WHERE id < ? AND name LIKE 'c%' AND regexp_matches(name, ?)",
            vec![Parameter::Float(1e40), text("c")],
            "3",
        ),
    ] {
        for _ in 0..2 {
            let rows = query(sql, parameters.clone()).unwrap().read_all().unwrap();
            assert_eq!(shown(&rows), expected, "{sql}");
        }
    }
    // What is known of one value says nothing of another.
    let sql = "SELECT regexp_matches(name, ?) FROM customers";
    assert!(query(sql, vec![text("c")]).is_ok());
    assert_eq!(query(sql, vec![text(&"c".repeat(1001))]).unwrap_err().kind(), Kind::Denied);
    assert_eq!(query(sql, vec![Parameter::Bytes(vec![1])]).unwrap_err().kind(), Kind::Denied);
    assert_eq!(query("SELECT ?", Vec::new()).unwrap_err().kind(), Kind::Invalid);
    let many = vec![Parameter::Null, Parameter::Null];
    assert_eq!(query("SELECT ?", many).unwrap_err().kind(), Kind::Invalid);
}

/// Arrow has no type for these; DuckDB would hand them over as something else.
#[test]
fn a_value_that_arrow_would_bend_comes_as_text_and_says_so() {
    let place = Place::new();
    let session = shop(&place).session();
    let sql = "SELECT id, '340282366920938463463374607431768211455'::UHUGEINT AS u, '0101'::BIT AS \"b;\"\"\", \
               '10:00:00+02'::TIMETZ AS u \
               FROM orders WHERE id = ? ORDER BY u; -- ;";
    let options =
        QueryOptions { parameters: vec![Parameter::Integer(3)], ..QueryOptions::default() };
    let rows = session.query(sql, &options).unwrap().read_all().unwrap();
    assert_eq!(shown(&rows), "3|340282366920938463463374607431768211455|0101|10:00:00+02");
    let fields = rows.schema.fields().iter();
    let told: Vec<_> = fields
        .map(|f| (f.name().as_str(), f.metadata().get(TYPE_KEY).map(String::as_str)))
        .collect();
    assert_eq!(told.first(), Some(&("id", None)));
    assert_eq!(told.get(2), Some(&("b;\"", Some("BIT"))));
    assert_eq!(told.get(3), Some(&("u", Some("TIME WITH TIME ZONE"))));
    let sorted = "SELECT id::BIT::VARCHAR AS t, id::BIT AS b FROM orders ORDER BY id DESC LIMIT 2";
    let rows = query_in(&session, sorted);
    let lines: Vec<(&str, &str)> = rows.lines().filter_map(|line| line.split_once('|')).collect();
    assert!(lines.len() == 2 && lines.iter().all(|(text, bits)| text == bits), "{rows}");
    // Inside of others they are refused by name.
    for value in ["[{'a': '10:00:00+02'::TIMETZ}]", "MAP {1: '1'::BIT}"] {
        let error = query_error(&session, &format!("SELECT id, {value} AS odd FROM orders"));
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert!(error.message().contains("`odd`"), "{error}");
        assert!(error.message().contains("VARCHAR"), "{error}");
        query_in(&session, &format!("SELECT ({value})::VARCHAR FROM orders"));
    }
    // Text as it is says what it is the text of.
    let sql = "SELECT uuid() AS u, '{}'::JSON AS j, 'x' AS t";
    let rows = run(&session, sql).unwrap();
    let told: Vec<_> = rows.schema.fields().iter().map(|f| f.metadata().get(TYPE_KEY)).collect();
    assert_eq!(
        told.iter().map(|t| t.map(|t| t.as_str())).collect::<Vec<_>>(),
        [Some("UUID"), Some("JSON"), None]
    );
    let huge = "SELECT 170141183460469231731687303715884105727::HUGEINT";
    assert_eq!(query_in(&session, huge), i128::MAX.to_string());
}

#[test]
fn results_are_bounded_and_say_so() {
    let place = Place::new();
    let shop = shop(&place);
    let session = shop.session();
    let count = |sql: &str, max_rows: Option<u64>, max_bytes: Option<u64>| {
        let options = QueryOptions { max_rows, max_bytes, ..QueryOptions::default() };
        let rows = session.query(sql, &options).unwrap().read_all().unwrap();
        (rows.len(), rows.truncated)
    };
    let thousand = "FROM range(10_000)";
    assert_eq!(count(thousand, Some(10_000), None), (10_000, false));
    assert_eq!(count(thousand, Some(9_999), None), (9_999, true));
    assert_eq!(count(thousand, Some(0), None), (0, true));
    assert_eq!(count("FROM range(0)", Some(0), None), (0, false));
    assert_eq!(count(thousand, None, None), (10_000, false));
    let (rows, truncated) = count(thousand, None, Some(40_000));
    assert!(truncated && (2_000..=5_000).contains(&rows), "{rows}");
    let default = QueryOptions::default();
    let rows = session.query("FROM range(200_000)", &default).unwrap().read_all().unwrap();
    assert_eq!((rows.len(), rows.truncated), (100_000, true));
    // The session goes on.
    assert_eq!(query_in(&session, "SELECT 1"), "1");
}

/// Rows without end.
const ROWS: &str = "FROM range(1000000000000)";
/// No row for a long time.
const ENDLESS: &str = "SELECT count(*) FROM range(1000000000000)";

/// A value may be as long as a statement can make it.
#[test]
fn an_error_quotes_no_more_than_can_be_read() {
    let place = Place::new();
    let session = shop(&place).session();
    let sql =
        "SELECT (x::INT[])::VARCHAR FROM (SELECT string_agg('ä', '') AS x FROM range(100000))";
    let error = query_error(&session, sql);
    assert!(
        error.message().len() < 5000 && error.message().ends_with('…'),
        "{}",
        error.message().len()
    );
}

#[test]
fn a_statement_has_so_much_memory() {
    let place = Place::new();
    let limits = QueryLimits { memory_bytes: 64 << 20, ..QueryLimits::default() };
    let session = Shop::open(&place, limits).session();
    let sql = "SELECT * FROM (SELECT i, i::VARCHAR || 'x' AS t FROM range(10000000) r(i)) ORDER BY t DESC, i";
    let error = query_error(&session, sql);
    assert_eq!(error.kind(), Kind::Limit, "{error}");
    assert!(error.message().contains("limit of 64 MiB"), "{error}");
    assert_eq!(query_in(&session, "SELECT count(*) FROM orders"), "5");
}

#[test]
fn a_statement_has_so_much_time() {
    let place = Place::new();
    // Where statements run in workers it takes one until it has begun.
    let time = Duration::from_millis(if crate::IN_WORKERS { 2500 } else { 200 });
    let shop = Shop::open(&place, QueryLimits { time, ..QueryLimits::default() });
    let session = shop.session();
    let error = query_error(&session, ENDLESS);
    assert_eq!(error.kind(), Kind::Limit, "{error}");
    assert!(error.message().contains(&format!("{} s", time.as_secs_f64())), "{error}");
    assert_eq!(query_in(&session, "SELECT 1"), "1");
    // A caller who takes her time over the rows isn't the statement's fault.
    let mut rows = session.query("FROM range(100_000)", &QueryOptions::default()).unwrap();
    let first = rows.next().unwrap().unwrap().num_rows();
    std::thread::sleep(time * 2);
    let rest: usize = rows.map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(first + rest, 100_000);
}

/// Not as the end of the rows.
#[test]
fn an_error_after_many_rows_is_told() {
    let place = Place::new();
    let shop = shop(&place);
    let late =
        "SELECT CASE range WHEN 500000 THEN error('too late') ELSE range END FROM range(1000000)";
    let options = QueryOptions { max_rows: None, ..QueryOptions::default() };
    let session = shop.session();
    let rows: Vec<_> = session.query(late, &options).unwrap().collect();
    assert!(rows.last().unwrap().as_ref().unwrap_err().message().contains("too late"));
}

#[test]
fn a_statement_can_be_cancelled_or_dropped() {
    let place = Place::new();
    let shop = shop(&place);
    let session = shop.session();
    let options = QueryOptions { max_rows: None, max_bytes: None, ..QueryOptions::default() };
    let mut rows = session.query(ROWS, &options).unwrap();
    rows.next().unwrap().unwrap();
    rows.cancel().cancel();
    let error = rows.find_map(Result::err).unwrap();
    assert_eq!(error.kind(), Kind::Cancelled);
    // Dropping is enough, and what runs on the connection afterwards isn't hit.
    for _ in 0..50 {
        drop(session.query(ROWS, &QueryOptions::default()).unwrap());
        assert_eq!(query_in(&session, "SELECT count(*) FROM orders"), "5");
    }
}

#[test]
fn a_statement_whose_caller_goes_away_ends_before_it_has_rows() {
    let place = Place::new();
    let agnes = place.agnes();
    let session = agnes.session().unwrap();
    let stop = Stop::default();
    let options = QueryOptions { stop: Some(stop.clone()), ..QueryOptions::default() };
    // Nothing comes of it before all is counted.
    let sql = "SELECT count(*) FROM range(100000000000) a(i) WHERE i % 7 = 3";
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| session.query(sql, &options).and_then(|rows| rows.read_all()));
        stop.stop();
        assert_eq!(asked.join().unwrap().unwrap_err().kind(), Kind::Cancelled);
    });
}

#[test]
fn whoever_has_to_be_asked_is_asked_where_rows_are_waited_for() {
    let place = Place::new();
    let session = place.agnes().session().unwrap();
    let sql = "SELECT count(*) FROM range(100000000000) a(i) WHERE i % 7 = 3";
    let (asked, here) = (Arc::new(AtomicUsize::new(0)), std::thread::current().id());
    let counted = asked.clone();
    let stop = Stop::asking(move || {
        assert_eq!(std::thread::current().id(), here);
        counted.fetch_add(1, Ordering::SeqCst) > 2
    });
    let heard = Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    stop.then(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let options = QueryOptions { stop: Some(stop.clone()), ..QueryOptions::default() };
    let error = session.query(sql, &options).and_then(|rows| rows.read_all()).unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
    // It doesn't take it back, and isn't asked again.
    let times = asked.load(Ordering::SeqCst);
    assert!(stop.is_stopped() && times == asked.load(Ordering::SeqCst) && times > 2);
    assert_eq!(heard.load(Ordering::SeqCst), 1);
}

#[test]
fn rows_that_were_looked_at_are_read_all_the_same() {
    let place = Place::new();
    let session = Arc::new(place.agnes().session().unwrap());
    let runs = Arc::new(AtomicUsize::new(0));
    let begin = |sql: &'static str, options: QueryOptions| {
        let (runs, stop) = (runs.clone(), Stop::default());
        runs.store(0, Ordering::SeqCst);
        let run = move |session: &Session, options: &QueryOptions| {
            runs.fetch_add(1, Ordering::SeqCst);
            session.query(sql, options)
        };
        Reader::begin(session.clone(), options, stop, run).unwrap()
    };
    let stop = Stop::default;
    // What was looked at to its end is kept.
    let few = begin("SELECT * FROM range(3)", QueryOptions::default());
    assert_eq!(few.truncated(), None);
    let (first, are_more) = few.first(2, stop()).unwrap();
    assert_eq!((first.num_rows(), are_more, few.truncated()), (2, true, Some(false)));
    assert_eq!(few.read_all(stop()).unwrap().len(), 3);
    assert_eq!(few.stream(stop()).unwrap().map(|b| b.unwrap().num_rows()).sum::<usize>(), 3);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    let none = begin("SELECT 1 WHERE false", QueryOptions::default());
    let (first, are_more) = none.first(2, stop()).unwrap();
    assert_eq!((first.num_rows(), are_more), (0, false));
    // Of many the rest is let go of, and the statement runs again for whoever wants it.
    let many = begin("SELECT * FROM range(100000)", QueryOptions::default());
    let (first, are_more) = many.first(20, stop()).unwrap();
    assert_eq!((first.num_rows(), are_more, many.truncated()), (20, true, None));
    for _ in 0..2 {
        assert_eq!(many.read_all(stop()).unwrap().len(), 100_000);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    let cut = begin(
        "SELECT * FROM range(10)",
        QueryOptions { max_rows: Some(4), ..QueryOptions::default() },
    );
    assert_eq!(cut.stream(stop()).unwrap().count(), 1);
    assert_eq!(cut.truncated(), Some(true));
    // Looked at again and again, endless ones keep no turn.
    for _ in 0..8 {
        begin("SELECT * FROM range(100000000000)", QueryOptions::default())
            .first(1, stop())
            .unwrap();
    }
    // Once somebody has ended it, somebody else may read it.
    let end = Stop::default();
    let run = |session: &Session, options: &QueryOptions| {
        session.query("SELECT * FROM range(1000000)", options)
    };
    let options = QueryOptions { max_rows: None, ..QueryOptions::default() };
    let ended = Reader::begin(session.clone(), options, end.clone(), run).unwrap();
    end.stop();
    assert_eq!(ended.read_all(stop()).unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(ended.read_all(stop()).unwrap().len(), 1_000_000);
}

#[test]
fn values_are_plain() {
    let place = Place::new();
    let session = place.agnes().session().unwrap();
    let sql = "SELECT true, -1::TINYINT, 18446744073709551615::UBIGINT, \
        170141183460469231731687303715884105727::HUGEINT, 1.5::FLOAT, 3.25::DECIMAL(5, 2), \
        'é', '\\xAA'::BLOB, DATE '2026-02-03', TIME '04:05:06.789', \
        TIMESTAMP '2026-02-03 04:05:06.789', TIMESTAMPTZ '2026-02-03 04:05:06+02', [1, NULL], \
        {'a': ['x']}, MAP {1: 'one'}, NULL, 'b'::ENUM('a', 'b'), 'infinity'::TIMESTAMPTZ";
    let mut rows = session.query(sql, &QueryOptions::default()).unwrap();
    let batch = rows.next().unwrap().unwrap();
    let row = Columns::of(&batch).unwrap().row(0).unwrap();
    let written = |what, text: &str| Value::Written(what, text.to_string());
    let text = |text: &str| Value::Text(text.to_string());
    let expected = [
        Value::Bool(true),
        Value::Integer(-1),
        Value::Long(u64::MAX.into()),
        Value::Long(i128::MAX),
        Value::Float(1.5),
        written(Written::Decimal, "3.25"),
        text("é"),
        Value::Bytes(vec![0xAA]),
        written(Written::Date, "2026-02-03"),
        written(Written::TimeOfDay, "04:05:06.789"),
        written(Written::LocalTime, "2026-02-03T04:05:06.789"),
        Value::Time(Timestamp::parse("2026-02-03T02:05:06Z").unwrap()),
        Value::List(vec![Value::Integer(1), Value::Null]),
        Value::Map(vec![("a".to_string(), Value::List(vec![text("x")]))]),
        Value::Map(vec![("1".to_string(), text("one"))]),
        Value::Null,
        text("b"),
    ];
    assert_eq!(row[..17], expected);
    assert!(matches!(&row[17], Value::Text(_)), "{:?}", row[17]);
}

#[test]
fn so_many_statements_of_one_principal_run_at_once() {
    let place = Place::new();
    let shop = shop(&place);
    let session = shop.session();
    let begin = || session.query(ROWS, &QueryOptions::default());
    let running: Vec<_> = (0..4).map(|_| begin().unwrap()).collect();
    assert_eq!(begin().unwrap_err().kind(), Kind::Limit);
    // Another session of hers is no way around; somebody else goes on.
    assert_eq!(query_error(&shop.session(), "SELECT 1").kind(), Kind::Limit);
    assert_eq!(query_in(&shop.agnes.session().unwrap(), "SELECT 1"), "1");
    drop(running);
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = run(&session, "SELECT 1") {
        assert!(std::time::Instant::now() < end, "{error}");
    }
}

#[test]
fn a_revocation_ends_sessions_and_what_runs_in_them() {
    let place = Place::new();
    let shop = shop(&place);
    let session = shop.session();
    assert_eq!(query_in(&session, "SELECT count(*) FROM orders"), "5");
    std::thread::scope(|scope| {
        let (started, begun) = std::sync::mpsc::channel();
        let session = &session;
        let running = scope.spawn(move || {
            let endless = "SELECT o.id FROM range(1000000000000) a, orders o";
            let options =
                QueryOptions { max_rows: None, max_bytes: None, ..QueryOptions::default() };
            let mut rows = session.query(endless, &options).unwrap();
            rows.next().unwrap().unwrap();
            started.send(()).unwrap();
            rows.find_map(Result::err)
        });
        begun.recv().unwrap();
        shop.revoke("table:orders");
        let error = running.join().unwrap().unwrap();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
    });
    assert_eq!(query_error(&session, "SELECT count(*) FROM customers").kind(), Kind::Denied);
    // A new one shows what is left.
    let session = shop.session();
    assert_eq!(query_in(&session, "SHOW TABLES"), "customers");
    assert_eq!(query_error(&session, "FROM orders").kind(), Kind::Denied);
    // Losing nothing ends nothing.
    let access = shop.access();
    let admin = access.admin(OPERATOR).unwrap();
    let other = group(&admin, "other");
    admin.add_member(&other.id, &shop.id).unwrap();
    admin.grant(&other.id, resource("table:salaries")).unwrap();
    assert_eq!(query_in(&session, "SELECT count(*) FROM customers"), "3");
    admin.remove_member(&other.id, &shop.id).unwrap();
    assert_eq!(query_in(&session, "SELECT count(*) FROM customers"), "3");
    // A deactivated user has no session, open or new.
    admin.set_active(&shop.id, false).unwrap();
    assert_eq!(query_error(&session, "SELECT 1").kind(), Kind::Denied);
    assert_eq!(shop.agnes.session_for(&shop.ada).unwrap_err().kind(), Kind::Denied);
    admin.set_active(&shop.id, true).unwrap();
    assert_eq!(query_in(&shop.session(), "SELECT count(*) FROM customers"), "3");
}

#[test]
fn an_admin_who_is_demoted_sees_less_at_once() {
    let place = Place::new();
    let shop = shop(&place);
    let access = shop.access();
    let admin = access.admin(OPERATOR).unwrap();
    let root = admin.break_glass(email("root@example.com")).unwrap();
    let bob = admin.break_glass(email("bob@example.com")).unwrap();
    let session = shop.agnes.session_for(&Principal::user(bob.id.clone())).unwrap();
    assert_eq!(query_in(&session, "SELECT count(*) FROM salaries"), "1");
    let admins = admin.user(&root.id).unwrap().groups[0].group.id.clone();
    admin.remove_member(&admins, &bob.id).unwrap();
    assert_eq!(query_error(&session, "SELECT count(*) FROM salaries").kind(), Kind::Denied);
    let session = shop.agnes.session_for(&Principal::user(bob.id)).unwrap();
    assert_eq!(query_in(&session, "SELECT count(*) FROM (SHOW TABLES)"), "0");
}

/// The grant is for the data that was granted, not for whatever bears its name.
#[test]
fn a_table_of_another_source_is_not_shown_for_an_old_grant() {
    let place = Place::new();
    let shop = shop(&place);
    std::fs::remove_dir_all(place.extract("hr")).unwrap();
    place.foreign("evil", &table("orders", "SELECT 'not hers' AS secret"));
    rebuild(&shop.agnes);
    rebuild(&shop.agnes);
    let session = shop.session();
    assert_eq!(query_error(&session, "FROM orders").kind(), Kind::Denied);
    assert_eq!(query_in(&shop.agnes.session().unwrap(), "FROM orders"), "not hers");
    shop.agnes.adopt(OPERATOR, Some(&source("evil"))).unwrap();
    assert_eq!(query_in(&shop.session(), "FROM orders"), "not hers");
    // What the table meant before is gone from the sessions that showed it.
    assert_eq!(query_error(&session, "SELECT 1").kind(), Kind::Denied);
}

#[test]
fn a_table_that_is_not_registered_is_for_admins() {
    let place = Place::new();
    let shop = shop(&place);
    place.foreign("new", &table("plans", "SELECT 1 AS a"));
    rebuild(&shop.agnes);
    assert_eq!(query_error(&shop.session(), "FROM plans").kind(), Kind::Denied);
    assert_eq!(query_in(&shop.agnes.session().unwrap(), "FROM plans"), "1");
}

#[test]
fn a_session_keeps_its_generation_and_new_ones_see_the_next() {
    let place = Place::new();
    let shop = shop(&place);
    let old = shop.session();
    assert_eq!(query_in(&old, "SELECT count(*) FROM customers"), "3");
    place.foreign(
        "hr",
        &(table("customers", "SELECT 7 AS id") + &table("orders", "SELECT 1 AS id")),
    );
    rebuild(&shop.agnes);
    assert_eq!(query_in(&old, "SELECT count(*) FROM customers"), "3");
    assert_eq!(query_in(&old, "SELECT count(*) FROM orders"), "5");
    let new = shop.session();
    assert!(new.generation() > old.generation());
    assert_eq!(query_in(&new, "FROM customers"), "7");
    let _ = NoProgress;
}

/// Those who see the same share an instance; nothing that one does reaches the other.
#[test]
fn sessions_that_show_the_same_are_apart() {
    let place = Place::new();
    let shop = shop(&place);
    let access = shop.access();
    let admin = access.admin(OPERATOR).unwrap();
    let bob = user(&admin, "bob@example.com");
    let sales =
        admin.groups().into_iter().find(|g| g.group.name.as_str() == "sales").unwrap().group;
    admin.add_member(&sales.id, &bob.id).unwrap();
    let (hers, his) =
        (shop.session(), shop.agnes.session_for(&Principal::user(bob.id.clone())).unwrap());
    let mut rows = hers.query(ROWS, &QueryOptions::default()).unwrap();
    rows.next().unwrap().unwrap();
    assert_eq!(query_in(&his, "SELECT count(*) FROM orders"), "5");
    // Ending his ends nothing of hers.
    admin.set_active(&bob.id, false).unwrap();
    assert_eq!(query_error(&his, "SELECT 1").kind(), Kind::Denied);
    rows.next().unwrap().unwrap();
}

#[test]
fn a_manifest_lists_what_she_may_see() {
    let place = Place::new();
    let shop = shop(&place);
    let names = |who: &Principal| -> Vec<String> {
        let manifest = shop.agnes.manifest(who).unwrap();
        manifest.tables.keys().map(ToString::to_string).collect()
    };
    assert_eq!(names(&shop.ada), ["customers", "orders"]);
    assert_eq!(names(OPERATOR), ["customers", "orders", "salaries"]);
    let manifest = shop.agnes.manifest(&shop.ada).unwrap();
    let orders = manifest.tables.values().nth(1).unwrap();
    assert_eq!((orders.rows, orders.hash.len(), orders.hash_blake3.len()), (5, 32, 64));
    assert_eq!(orders.source_type, "local");
    assert_eq!(orders.updated.unwrap().to_string(), "2026-01-02T03:04:05Z");
    let json = serde_json::to_value(&manifest).unwrap();
    let entry = &json["tables"]["orders"];
    for key in ["hash", "updated", "size_bytes", "rows", "query_mode", "source_type"] {
        assert!(!entry[key].is_null(), "{key}: {entry}");
    }
    shop.revoke("table:orders");
    assert_eq!(names(&shop.ada), ["customers"]);
    assert_eq!(shop.agnes.manifest(&Principal::Nobody).unwrap_err().kind(), Kind::Denied);
}

/// Reading takes what only a decision gives, and one that was kept opens nothing any more.
#[test]
fn a_download_is_for_whoever_may() {
    use std::io::Read as _;
    let place = Place::new();
    let shop = shop(&place);
    let access = shop.access();
    let decide = |what: &str| access.decide(&shop.ada, &resource(what));
    let kept = decide("table:orders");
    let permitted = kept.permit().unwrap();
    let data = shop.agnes.data_file(&permitted, None).unwrap();
    let mut bytes = Vec::new();
    (&data.file).read_to_end(&mut bytes).unwrap();
    let manifest = shop.agnes.manifest(&shop.ada).unwrap();
    let entry = manifest.tables.get(&data.name).unwrap();
    assert_eq!((&entry.hash, &entry.hash_blake3), (&data.hash, &data.hash_blake3));
    assert_eq!(entry.size_bytes, bytes.len() as u64);
    assert_eq!(blake3::hash(&bytes).to_hex().to_string(), data.hash_blake3);
    // A file that was restored from a copy is the same one, from its beginning; another is none.
    let pins = std::fs::read_dir(place.data().join("analytics/pins/hr")).unwrap();
    let is_its = |path: &std::path::PathBuf| {
        path.file_name().unwrap().to_str().unwrap().starts_with("orders.")
    };
    let pin = pins.map(|file| file.unwrap().path()).find(is_its).unwrap();
    std::fs::remove_file(&pin).unwrap();
    std::fs::write(&pin, &bytes).unwrap();
    let again = shop.agnes.data_file(&permitted, None).unwrap();
    let mut restored = Vec::new();
    (&again.file).read_to_end(&mut restored).unwrap();
    assert_eq!(restored, bytes);
    std::fs::write(&pin, vec![0; bytes.len()]).unwrap();
    let error = shop.agnes.data_file(&permitted, None).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    std::fs::write(&pin, &bytes).unwrap();
    let no_part = shop.agnes.data_file(&permitted, Some("../orders.parquet")).unwrap_err();
    assert_eq!(no_part.kind(), Kind::NotFound);
    // Hidden and missing are one answer.
    let answer = |what: &str| {
        let error = decide(what).permit().map(drop).unwrap_err();
        error.message().replace(what.trim_start_matches("table:"), "…")
    };
    assert_eq!(answer("table:salaries"), answer("table:payroll"));
    // An admin reads also what nobody has registered.
    let all = access.decide(OPERATOR, &resource("table:salaries"));
    assert!(shop.agnes.data_file(&all.permit().unwrap(), None).is_ok());
    let nothing = access.decide(OPERATOR, &resource("table:payroll"));
    let error = shop.agnes.data_file(&nothing.permit().unwrap(), None).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    shop.revoke("table:orders");
    assert_eq!(shop.agnes.data_file(&permitted, None).unwrap_err().kind(), Kind::Denied);
}

/// A table in several files is offered as its parts, and as one file for clients that know no
/// parts.
#[test]
fn a_table_in_several_files_is_offered_whole_and_in_parts() {
    let shards = |b: &str| {
        format!(
            "COPY (SELECT 1 AS id, 'a' AS name) TO '$D/data/a.parquet' (FORMAT parquet);
             COPY ({b}) TO '$D/data/b.parquet' (FORMAT parquet);
             CREATE VIEW issues AS SELECT * FROM read_parquet(['$D/data/a.parquet', '$D/data/b.parquet'], union_by_name = true);
             INSERT INTO _meta VALUES ('issues', NULL, 0, 0, NULL, 'local');"
        )
    };
    // Of one schema, and of two, which are matched by name.
    for (b, rows) in [
        ("SELECT 2 AS id, 'b' AS name UNION ALL SELECT 3, 'c'", "1|a\n2|b\n3|c"),
        (
            "SELECT 'b' AS name, 2::BIGINT AS id, true AS more UNION ALL SELECT 'c', 3, false",
            "1|a|NULL\n2|b|true\n3|c|false",
        ),
    ] {
        let place = Place::new();
        place.foreign("jira", &shards(b));
        let agnes = place.agnes_later();
        rebuild(&agnes);
        let manifest = agnes.manifest(OPERATOR).unwrap();
        let issues = manifest.tables.values().next().unwrap();
        assert_eq!((issues.hash.len(), issues.rows, issues.parts.len()), (32, 3, 2));
        assert!(issues.parts.iter().all(|part| part.hash.len() == 32));
        // Nobody has registered it.
        assert_eq!((issues.id.clone(), issues.source_type.as_str()), (None, "jira"));
        let generation = agnes.generation().unwrap().unwrap();
        let whole = generation.views.values().next().unwrap().whole().unwrap().clone();
        let file = place.data().join("analytics/pins/jira");
        let file = std::fs::read_dir(file).unwrap().map(|f| f.unwrap().path()).find(|path| {
            use md5::Digest;
            let md5: String = md5::Md5::digest(std::fs::read(path).unwrap())
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            md5 == issues.hash
        });
        let file = file.expect("the merged file is there");
        assert_eq!(file.metadata().unwrap().len(), issues.size_bytes);
        assert_eq!(whole.size_bytes(), issues.size_bytes);
        let connection = duckdb::Connection::open_in_memory().unwrap();
        let ours = query_in(&agnes.session().unwrap(), "FROM issues ORDER BY id");
        assert_eq!(ours, rows);
        let merged: String = connection
            .query_row(
                &format!(
                    "SELECT string_agg(id || name, ' ' ORDER BY id) FROM '{}'",
                    file.display()
                ),
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(merged, "1a 2b 3c");
        // Nothing changed, nothing made anew; and what is merged isn't cleared away.
        rebuild(&agnes);
        assert_eq!(agnes.manifest(OPERATOR).unwrap().tables, manifest.tables);
        assert!(file.exists());
        // One part changes, and with it the whole.
        place.foreign("jira", &shards("SELECT 9 AS id, 'z' AS name"));
        rebuild(&agnes);
        let after = agnes.manifest(OPERATOR).unwrap();
        let after = after.tables.values().next().unwrap();
        assert_ne!(after.hash, issues.hash);
        assert_eq!(after.parts[0].hash, issues.parts[0].hash);
    }
}

/// Functions that make much out of little are bounded, whether their arguments are written out,
/// computed or come from a column; what people do with them works.
#[test]
fn what_one_argument_multiplies_is_bounded() {
    let place = Place::new();
    let shop = shop(&place);
    let session = shop.session();
    for call in [
        "repeat('x', {n} * 1000000)",
        "repeat([1], {n} * 1000000)",
        "'x'.repeat({n} * 1000000)",
        "lpad('x', {n} * 1000000, 'y')",
        "rpad('x', {n} * 1000000, 'y')",
        "list_resize([1], {n} * 1000000)",
        "array_resize([1], {n} * 1000000, 7)",
        "bitstring('1', {n} * 1000000)",
        "range({n} * 1000000)",
        "range(0, {n} * 1000000)",
        "range(0, {n} * 1000000, 2)",
        "range(0, -{n} * 1000000, -2)",
        "generate_series(TIMESTAMP '2026-01-01', TIMESTAMP '2026-01-01' + to_days({n} * 20000), INTERVAL 1 DAY)",
        "replace(repeat('a', {n} * 10000), 'a', repeat('b', {n} * 10000))",
        "levenshtein(repeat('a', {n} * 20000), repeat('b', {n} * 20000))",
        "editdist3(repeat('a', {n} * 20000), repeat('b', {n} * 20000))",
        "damerau_levenshtein(repeat('a', {n} * 20000), repeat('b', {n} * 20000))",
        "jaro_similarity(repeat('a', {n} * 20000), 'b')",
        "jaro_winkler_similarity(repeat('a', {n} * 20000), 'b')",
        "string_split(repeat('a', {n} * 40000), '')",
        "split_part(repeat('a', {n} * 40000), '', 3)",
    ] {
        // Constants, which the engine computes before it runs, and columns.
        for n in ["1::INTEGER", "customers.id::INTEGER"] {
            let call = call.replace("{n}", n);
            let sql = format!("SELECT ({call})::VARCHAR FROM customers WHERE id = 1");
            let error = query_error(&session, &sql);
            assert_eq!(error.kind(), Kind::Limit, "{sql}: {error}");
            let said = error.message();
            assert!(said.contains(" than ") && !said.contains("Conversion"), "{sql}: {error}");
        }
    }
    for (sql, rows) in [
        (
            "SELECT repeat('ab', 3), repeat([1], 2), lpad('7', 3, '0'), rpad('7', 3, '.')",
            "ababab|[1, 1]|007|7..",
        ),
        (
            "SELECT range(3), range(1, 3), range(0, 5, 2), range(3, 0, -1), range(1, 2, 0)",
            "[0, 1, 2]|[1, 2]|[0, 2, 4]|[3, 2, 1]|[]",
        ),
        (
            "SELECT len(generate_series(DATE '2000-01-01', DATE '2026-12-31', INTERVAL 1 DAY))",
            "9862",
        ),
        (
            "SELECT levenshtein('ab', 'ac'), damerau_levenshtein('ab', 'ba'), jaro_similarity('a', 'a')",
            "1|1|1.0",
        ),
        (
            "SELECT string_split('a,b', ','), split_part('a-b', '-', 2), replace('aXb', 'X', '--')",
            "[a, b]|b|a--b",
        ),
        (
            "SELECT replace(customer, 'c', 'k') AS k, count(*) FROM orders GROUP BY k ORDER BY k LIMIT 1",
            "k0|2",
        ),
        (
            "SELECT id FROM orders QUALIFY row_number() OVER (PARTITION BY replace(customer, 'c', '') ORDER BY id) = 2 ORDER BY 1",
            "3\n4",
        ),
        ("SELECT string_agg(name, repeat('-', 2) ORDER BY name) FROM customers", "c0--c1--c2"),
        ("SELECT count(*) FROM range(1000000)", "1000000"),
        (
            "SELECT NULL::VARCHAR.repeat(3), repeat(NULL, 3), list_resize([1], 2)",
            "NULL|NULL|[1, NULL]",
        ),
    ] {
        assert_eq!(query_in(&session, sql), rows, "{sql}");
    }
}
