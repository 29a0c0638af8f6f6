//! Scans of one table, by a predicate that is a text.

use agnes_core::query::{Order, QueryOptions, Scan};
use agnes_core::{ColumnName, Error, Key, Kind, Session, ViewName};

use crate::support::{Place, rebuild, shown, table};

fn place() -> Place {
    let place = Place::new();
    place.foreign(
        "shop",
        &(table(
            "orders",
            "SELECT i AS id, 'p' || i % 3 AS product, i * 1.5::DOUBLE AS total, \
             DATE '2026-01-01' + i::INTEGER AS day, {'city': 'c' || i} AS place FROM range(10) t(i)",
        ) + &table("salaries", "SELECT 31337 AS salary")),
    );
    place
}

fn scan(session: &Session, predicate: &str) -> Result<String, Error> {
    let scan = Scan {
        select: vec![ColumnName::parse("id").unwrap()],
        predicate: Some(predicate.to_string()),
        order_by: vec![Order::parse("id").unwrap()],
        limit: None,
    };
    let orders = ViewName::parse("orders").unwrap();
    let rows = session.scan(&orders, &scan, &QueryOptions::default())?.read_all()?;
    Ok(shown(&rows).replace('\n', " "))
}

#[test]
fn conditions_on_a_table_s_own_columns() {
    let place = place();
    let agnes = place.agnes();
    rebuild(&agnes);
    let session = agnes.session().unwrap();
    for (predicate, ids) in [
        ("id < 3", "0 1 2"),
        ("ID < 3 -- a comment", "0 1 2"),
        ("id /* one */ = 1", "1"),
        ("orders.id IN (1, 2)", "1 2"),
        ("\"id\" BETWEEN 2 AND 3", "2 3"),
        ("product = 'p1' AND total > 5", "4 7"),
        ("product LIKE '%1' OR id = 0", "0 1 4 7"),
        ("day >= DATE '2026-01-01' + INTERVAL 8 DAY", "8 9"),
        ("date_trunc('month', day) = DATE '2026-01-01' AND id < 1", "0"),
        ("place.city = 'c3'", "3"),
        ("CASE WHEN id > 7 THEN true ELSE false END", "8 9"),
        ("TRY_CAST(product AS INTEGER) IS NULL AND NOT (id > 0)", "0"),
        ("upper(product) = 'P0' AND length(product) = 2 AND coalesce(total, 0) < 1", "0"),
        ("product = 'it''s; DROP TABLE x -- '", ""),
        ("false", ""),
    ] {
        assert_eq!(scan(&session, predicate).unwrap_or_else(|e| panic!("{predicate}: {e:?}")), ids);
    }
}

#[test]
fn everything_else_is_refused_and_says_as_what() {
    let place = place();
    let agnes = place.agnes();
    rebuild(&agnes);
    let session = agnes.session().unwrap();
    for (predicate, kind) in [
        ("", "parse_error"),
        ("id <", "parse_error"),
        ("id = 1) OR (1 = 1", "parse_error"),
        ("id IN (SELECT 1)", "nested_select"),
        ("EXISTS (SELECT * FROM salaries)", "nested_select"),
        ("id = (SELECT max(salary) FROM salaries)", "nested_select"),
        ("id = 1; SELECT 2", "multi_statement"),
        ("id = 1; DROP TABLE orders", "multi_statement"),
        ("DROP TABLE orders", "ddl_or_dml"),
        ("delete from orders", "ddl_or_dml"),
        ("salaries.salary > 1", "cross_table_reference"),
        ("main.orders.id > 1", "cross_table_reference"),
        ("nothing1 = 1", "unknown_column"),
        ("orders.nothing1 = 1", "unknown_column"),
        ("count(*) > 1", "unknown_function"),
        ("sum(id) > 1", "unknown_function"),
        ("getenv('HOME') = 'x'", "unknown_function"),
        ("main.upper(product) = 'x'", "unknown_function"),
        ("nothing1(id) = 1", "unknown_function"),
        ("regexp_matches(product, product)", "unknown_function"),
        // What it would drop is refused.
        ("id = 1 LIMIT 1", "disallowed_node"),
        ("id = 1 ORDER BY id", "disallowed_node"),
        ("id = 1 GROUP BY id", "disallowed_node"),
        ("id = 1 GROUP BY ALL HAVING true", "disallowed_node"),
        ("id = 1 QUALIFY true", "disallowed_node"),
        ("id = 1 UNION SELECT 2", "disallowed_node"),
        ("true EXCEPT SELECT 1", "disallowed_node"),
        ("true USING SAMPLE 1", "disallowed_node"),
        ("row_number() OVER () = 1", "disallowed_node"),
        ("id = ?", "disallowed_node"),
        ("id = $1", "disallowed_node"),
        ("list_filter([1], x -> x > id) IS NOT NULL", "disallowed_node"),
        ("COLUMNS('id') = 1", "disallowed_node"),
    ] {
        let error = scan(&session, predicate).expect_err(predicate);
        assert_eq!(
            (error.kind(), error.context(Key::Reason)),
            (Kind::Invalid, Some(kind)),
            "{predicate}: {error:?}"
        );
    }
    let orders = ViewName::parse("orders").unwrap();
    let unknown = Scan { select: vec![ColumnName::parse("totl").unwrap()], ..Scan::default() };
    let error = session.scan(&orders, &unknown, &QueryOptions::default()).unwrap_err();
    assert!(error.message().contains("did you mean `total`?"), "{error}");
    for order in ["", "id down", "id desc id", "id; x", "lower(id)", "\"id\""] {
        assert_eq!(Order::parse(order).unwrap_err().kind(), Kind::Invalid, "{order}");
    }
    assert!(Order::parse(" id  DeSc ").unwrap().descending);
}

#[test]
fn rows_are_sorted_and_cut() {
    let place = place();
    let agnes = place.agnes();
    rebuild(&agnes);
    let session = agnes.session().unwrap();
    let wanted = Scan {
        select: ["total", "id"].map(|name| ColumnName::parse(name).unwrap()).to_vec(),
        predicate: Some("id % 2 = 0".into()),
        order_by: vec![Order::parse("product desc").unwrap(), Order::parse("ID").unwrap()],
        limit: Some(3),
    };
    let orders = ViewName::parse("orders").unwrap();
    let rows = session.scan(&orders, &wanted, &QueryOptions::default()).unwrap();
    assert_eq!(shown(&rows.read_all().unwrap()), "3.0|2\n12.0|8\n6.0|4");
    let all = session.scan(&orders, &Scan::default(), &QueryOptions::default()).unwrap();
    assert_eq!(all.read_all().unwrap().len(), 10);
}
