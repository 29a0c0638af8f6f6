//! The figures of `benches/README.md` about access and queries: `make bench BENCH=access`.
//!
//! Measured inside one process: what a program that embeds the library waits for. What is
//! compared with plain DuckDB runs in turn with it.
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use agnes_benches::{fill, house, line, median, place, sections, shown, table_name, timed};
use agnes_core::access::{Principal, Resource, UserId, Visibility};
use agnes_core::query::QueryOptions;
use agnes_core::{Agnes, NoProgress, Session, TableId};
use duckdb::Connection;

/// As the command has it; the engine's parser takes and gives back a lot of memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    sections(&[
        ("access-decide", decisions),
        ("access-session", || {
            opened(2, 500, "≤ 60 ms");
            opened(20, 500, "≤ 400 ms");
        }),
        ("access-query", queries),
    ]);
}

/// 10,000 tables, 1,000 groups with 10 grants each, and a user in 100 of them.
fn decisions() {
    let home = place("decisions");
    fill(
        &home,
        "INSERT INTO users (id, email, active, created_at, updated_at)
           SELECT 'user-' || i, 'user' || i || '@example.com', true, now()::TIMESTAMP, now()::TIMESTAMP FROM range(1000) t(i);
         INSERT INTO user_groups SELECT 'group-' || i, 'group ' || i, NULL, false, now()::TIMESTAMP, NULL FROM range(1000) t(i);
         INSERT INTO user_group_members SELECT 'user-' || u, 'group-' || ((u + g * 7) % 1000), 'admin', now()::TIMESTAMP, NULL FROM range(1000) a(u), range(100) b(g);
         INSERT INTO users (id, email, active, created_at, updated_at) VALUES ('everywhere', 'everywhere@example.com', true, now()::TIMESTAMP, now()::TIMESTAMP);
         INSERT INTO user_group_members SELECT 'everywhere', 'group-' || i, 'admin', now()::TIMESTAMP, NULL FROM range(1000) t(i);
         INSERT INTO table_registry (id, name, source_name, sync_strategy, is_public, registered_at)
           SELECT 'table_' || i, 'table_' || i, 'shop', 'full_refresh', false, now()::TIMESTAMP FROM range(10000) t(i);
         INSERT INTO resource_grants SELECT 'grant-' || i, 'group-' || (i // 10), 'table', 'table_' || i, now()::TIMESTAMP, NULL FROM range(10000) t(i);",
    );
    let agnes = Agnes::open(&home).expect("the folder opens");
    let access = agnes.access().expect("the access opens");
    let user = Principal::user(UserId::parse("user-7").expect("an id"));
    let everywhere = Principal::user(UserId::parse("everywhere").expect("an id"));
    let resources: Vec<Resource> = (0..1000)
        .map(|i| {
            Resource::table(TableId::parse(format!("table_{}", i * 7 % 10_000)).expect("an id"))
        })
        .collect();
    let mut at = 0;
    let one = timed(200, 1000, || {
        at = (at + 1) % resources.len();
        black_box(access.decide(&user, &resources[at]).is_allowed());
    });
    line("decide: 10,000 tables, 1,000 groups, a user in 100", shown(one), "≤ 200 ns");
    let all = timed(100, 10, || {
        if let Visibility::Only(tables) = access.visibility(&everywhere) {
            assert_eq!(tables.iter().count(), 10_000);
        }
    });
    line(
        "visibility of 10,000 tables by 1,000 groups, each table looked at",
        shown(all),
        "≤ 300 µs",
    );
    let operator = Principal::Operator;
    let admin = access.admin(&operator).expect("the operator is one");
    let owner = UserId::parse("user-7").expect("an id");
    let new = agnes_core::access::NewToken::named("bench");
    let (_, token) = admin.create_token(&owner, new).expect("a token is made");
    let checked = timed(100, 100, || {
        black_box(access.authenticate(token.expose(), Some("192.0.2.1")).is_ok());
    });
    line("authenticate a personal token, its use noted", shown(checked), "-");
    let group = admin.groups()[5].group.id.clone();
    let resource = Resource::parse("table:table_9999").expect("a resource");
    let (mut granted, mut revoked) = (Vec::new(), Vec::new());
    for _ in 0..30 {
        let begun = Instant::now();
        let grant = admin.grant(&group, resource.clone()).expect("it is granted");
        granted.push(begun.elapsed());
        let begun = Instant::now();
        admin.revoke(&grant.id).expect("it is revoked");
        revoked.push(begun.elapsed());
    }
    let both = format!("{} and {}", shown(median(granted)), shown(median(revoked)));
    line("grant and revoke, durable, 10,000 grants present", both, "≤ 10 ms");
}

fn count(session: &Session, sql: &str) -> usize {
    let options = QueryOptions { max_rows: None, max_bytes: None, ..QueryOptions::default() };
    let rows = session.query(sql, &options).expect("it runs");
    rows.map(|batch| batch.expect("rows come").num_rows()).sum()
}

/// The first session of a program, up to its first rows.
fn opened(sources: usize, tables: usize, limit: &str) {
    let home = house(&format!("access-{sources}x{tables}"), sources, tables);
    let ada = Principal::user(UserId::parse("ada").expect("an id"));
    let sql = format!("SELECT count(*) FROM {}", table_name(0, 0));
    let mut times = Vec::new();
    for _ in 0..7 {
        let agnes = Agnes::open(&home).expect("the folder opens");
        agnes.access().expect("the access opens");
        let begun = Instant::now();
        let session = agnes.session_for(&ada).expect("a session opens");
        assert_eq!(count(&session, &sql), 1);
        times.push(begun.elapsed());
    }
    let agnes = Agnes::open(&home).expect("the folder opens");
    let manifest = || agnes.manifest(&ada).expect("a manifest is made").tables.len();
    assert_eq!(manifest(), sources * tables);
    let made = timed(20, 1, || {
        black_box(manifest());
    });
    line(&format!("manifest of {} tables", sources * tables), shown(made), "≤ 10 ms for 10,000");
    let what = format!("open a session with {} visible tables, first query", sources * tables);
    line(&what, shown(median(times)), limit);
    let session = agnes.session_for(&ada).expect("a session opens");
    let listed = |sql: &str| {
        let begun = Instant::now();
        assert!(count(&session, sql) >= sources * tables);
        shown(begun.elapsed())
    };
    let (first, again) = (listed("SHOW TABLES"), listed("FROM information_schema.columns"));
    let what = format!("the first list of {} tables, then their columns", sources * tables);
    line(&what, format!("{first} and {again}"), "-");
}

/// Statements in a session, beside the same ones in plain DuckDB.
fn queries() {
    let home = place("queries");
    let csv = home.join("big.csv");
    let plain = Connection::open_in_memory().expect("DuckDB opens");
    plain
        .execute_batch(&format!(
            "COPY (SELECT i AS id, i % 100 AS kind, i * 1.5 AS amount, 'name ' || i AS name, DATE '2026-01-01' + (i % 365)::INTEGER AS day, i % 2 = 0 AS flag, i * i AS square, 'text ' || i % 10 AS text FROM range(100000) t(i)) TO '{}' (FORMAT csv)",
            csv.display()
        ))
        .expect("the rows are written");
    let agnes = Agnes::open(home.join("data")).expect("the folder opens");
    let files = agnes_core::connectors::files::FilesConnector::new(vec![csv], Default::default());
    agnes.ingest(&"shop".parse().expect("a name"), &files, &NoProgress).expect("it is read");
    agnes.rebuild(None, &NoProgress).expect("it is published");
    let session = agnes.session().expect("a session opens");
    let pins = home.join("data/analytics/pins/shop");
    let pin =
        std::fs::read_dir(pins).expect("there are pins").next().expect("one").expect("a file");
    plain
        .execute_batch(&format!(
            "SET threads = 2; CREATE VIEW big AS SELECT * FROM read_parquet('{}')",
            pin.path().display()
        ))
        .expect("the view is made");
    let in_duckdb = |sql: &str| -> usize {
        let mut statement = plain.prepare(sql).expect("it is prepared");
        statement.stream_arrow([]).expect("it runs").map(|b| b.expect("rows").num_rows()).sum()
    };
    let paired = |sql: &str, times: usize| {
        assert_eq!(count(&session, sql), in_duckdb(sql));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..times {
            let begun = Instant::now();
            black_box(count(&session, sql));
            ours.push(begun.elapsed());
            let begun = Instant::now();
            black_box(in_duckdb(sql));
            theirs.push(begun.elapsed());
        }
        (median(ours), median(theirs))
    };
    let compared = |(ours, theirs): (Duration, Duration)| {
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        format!("{} against {}: {ratio:.2}x", shown(ours), shown(theirs))
    };
    let small = paired("SELECT kind, sum(amount) FROM big WHERE id < 1000 GROUP BY kind", 300);
    line("a statement seen before, against plain DuckDB", compared(small), "≤ 1.3x, or + 0.3 ms");
    let tiny = paired("SELECT count(*) FROM big", 300);
    line("a tiny one", compared(tiny), "≤ 1.3x, or + 0.3 ms");
    let large = paired("SELECT * FROM big", 60);
    line("100,000 rows of 8 columns as Arrow", compared(large), "≤ 1.2x");
    // A statement of 1 KB, new each time, beside the same one again.
    let (mut new, mut again) = (Vec::new(), Vec::new());
    for i in 0..200 {
        let sql = STATEMENT.replace("$N", &i.to_string());
        assert!((900..1100).contains(&sql.len()), "{}", sql.len());
        let begun = Instant::now();
        black_box(count(&session, &sql));
        new.push(begun.elapsed());
        let begun = Instant::now();
        black_box(count(&session, &sql));
        again.push(begun.elapsed());
    }
    let guard = median(new).saturating_sub(median(again));
    line("the guard on a new statement of 1 KB", shown(guard), "≤ 1 ms");
    // The guard alone: what it refuses doesn't run.
    let mut refused = Vec::new();
    for i in 0..1000 {
        let sql = STATEMENT.replace("$N", &i.to_string()).replace("FROM ranked", "FROM ranked, no");
        let begun = Instant::now();
        assert!(black_box(session.query(&sql, &QueryOptions::default())).is_err());
        refused.push(begun.elapsed());
    }
    line("the same, of one that it refuses", shown(median(refused)), "-");
}

/// What an analyst writes, in about 1,000 bytes.
const STATEMENT: &str = "WITH monthly AS (
    SELECT date_trunc('month', o.day) AS month, o.text, o.kind, sum(o.amount) AS revenue, count(DISTINCT o.name) AS customers
    FROM big o JOIN big c ON c.id = o.id
    WHERE o.day >= DATE '2026-01-01' AND o.text IN ('text 1', 'text 2', 'text 3') AND c.kind <> $N AND o.id < 100
    GROUP BY ALL
), ranked AS (
    SELECT *, revenue / customers AS revenue_per_customer, row_number() OVER (PARTITION BY month ORDER BY revenue DESC) AS place,
      lag(revenue) OVER (PARTITION BY text, kind ORDER BY month) AS revenue_before
    FROM monthly
)
SELECT month, text, kind, round(revenue, 2) AS revenue, customers, round(revenue_per_customer, 2) AS per_customer,
  round(100 * (revenue - revenue_before) / nullif(revenue_before, 0), 1) AS growth_percent,
  CASE WHEN revenue > 1000 THEN 'large' WHEN revenue > 100 THEN 'medium' ELSE 'small' END AS size
FROM ranked WHERE place <= 10 ORDER BY month, place LIMIT 100";
