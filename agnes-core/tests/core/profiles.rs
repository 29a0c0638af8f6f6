//! Profiles: figures that can be checked by hand, odd columns, samples, and what is kept.

use agnes_core::access::{Email, GroupName, Principal, Resource};
use agnes_core::metric::Metric;
use agnes_core::profile::{Category, ColumnProfile, Profile, ProfileSettings};
use agnes_core::registry::OnByDefault;
use agnes_core::{
    Agnes, ColumnName, Components, Kind, NoProgress, Result, Settings, TableId, ViewName,
};

use crate::support::{Place, rebuild, table};

const ADMIN: &Principal = &Principal::Operator;

fn try_profile(agnes: &Agnes, who: &Principal, table: &str) -> Result<Profile> {
    let access = agnes.access()?;
    let decision = access.decide(who, &Resource::parse(&format!("table:{table}"))?);
    agnes.profile(&decision.permit()?)
}

fn profile(agnes: &Agnes, table: &str) -> Profile {
    try_profile(agnes, ADMIN, table).unwrap()
}

fn column<'p>(profile: &'p Profile, name: &str) -> &'p ColumnProfile {
    profile.columns.iter().find(|column| column.name == name).unwrap()
}

fn alerts(column: &ColumnProfile) -> Vec<String> {
    let word = |alert: &agnes_core::profile::Alert| {
        serde_json::to_value(alert.kind).unwrap().as_str().unwrap().to_string()
    };
    column.alerts.iter().map(word).collect()
}

fn with(place: &Place, profiler: ProfileSettings) -> Agnes {
    let settings = Settings { profiler, ..place.settings() };
    Agnes::open_with(place.data(), settings, Components::default()).unwrap()
}

const SHOP: &str = "SELECT i::INTEGER AS id, i % 4 AS few, (i - 10) * 1.5 AS amount, \
    CASE WHEN i % 2 = 0 THEN 'paid' WHEN i = 1 THEN NULL ELSE 'open' END AS status, \
    DATE '2026-01-15' + (i * 10)::INTEGER AS day, TIMESTAMP '2026-01-01 12:00:00' + to_hours(i) AS at, \
    i < 5 AS early, 'c' AS same, CASE WHEN i < 12 THEN 0 ELSE i END AS zeros, \
    CASE WHEN i < 10 THEN NULL ELSE i END AS gaps, [i, i + 1] AS list, {'a': i % 2} AS record \
    FROM range(20) t(i)";

#[test]
fn every_figure_of_a_small_table() {
    let place = Place::new();
    place.foreign("shop", &table("orders", SHOP));
    let agnes = place.agnes_later();
    rebuild(&agnes);
    agnes.adopt(ADMIN, None).unwrap();
    let access = agnes.access().unwrap();
    let id = TableId::parse("orders").unwrap();
    access
        .admin(ADMIN)
        .unwrap()
        .update_table(&id, |table| {
            table.declaration.primary_key =
                vec![ColumnName::parse("few")?, ColumnName::parse("status")?];
            Ok(())
        })
        .unwrap();
    let text = "{name: revenue, category: sales, table: orders, tables: [customers], sql: SELECT sum(amount) FROM orders}";
    agnes.put_metrics(ADMIN, &Metric::parse_yaml(text, None).unwrap()).unwrap();
    let mut profile = profile(&agnes, "orders");
    // It depends on the version of the engine.
    assert!(profile.file_size_mb < 0.1);
    profile.file_size_mb = 0.01;
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_json_snapshot!("profile", profile);
    });
}

#[test]
fn an_empty_table_and_one_of_nothing_but_null() {
    let place = Place::new();
    let tables = table(
        "empty",
        "SELECT 1 AS n, 'x' AS t, DATE '2026-01-01' AS d, true AS b, [1] AS l WHERE false",
    ) + &table(
        "nulls",
        "SELECT NULL::INTEGER AS n, NULL::VARCHAR AS t, NULL::DATE AS d, NULL::BOOLEAN AS b FROM range(3)",
    );
    place.foreign("shop", &tables);
    let agnes = place.agnes();
    rebuild(&agnes);
    let empty = profile(&agnes, "empty");
    assert_eq!((empty.row_count, empty.missing_cells_pct, empty.avg_completeness), (0, 0.0, 0.0));
    assert!(empty.alerts.is_empty() && empty.sample_rows.is_empty(), "{empty:?}");
    let nulls = profile(&agnes, "nulls");
    assert_eq!((nulls.missing_cells, nulls.missing_cells_pct), (12, 100.0));
    for column in empty.columns.iter().chain(&nulls.columns) {
        assert_eq!((column.unique_count, column.unique_pct), (Some(0), Some(0.0)), "{column:?}");
        assert!(column.sample_values.is_empty());
    }
    let numbers = column(&nulls, "n").numeric_stats.as_ref().unwrap();
    assert_eq!((&numbers.min, numbers.mean, numbers.zeros_pct), (&None, None, 0.0));
    assert_eq!(alerts(column(&nulls, "t")), ["high_missing"]);
}

#[test]
fn numbers_that_are_none_and_very_large_ones() {
    let place = Place::new();
    let odd = "SELECT * FROM (VALUES ('nan'::DOUBLE, 1e308::DOUBLE, 170141183460469231731687303715884105727::HUGEINT, \
               'infinity'::DATE, '-infinity'::TIMESTAMP, 18446744073709551615::UBIGINT, 1::DECIMAL(38, 10)), \
               ('infinity', -1e308, -170141183460469231731687303715884105727, DATE '2026-05-05', TIMESTAMP '2026-01-01', 0, -0.5), \
               ('-infinity', 1e308, 0, DATE '0044-03-15 (BC)', NULL, 1, NULL)) \
               t(f, g, h, d, ts, u, dec)";
    place.foreign("shop", &table("odd", odd));
    let agnes = place.agnes();
    rebuild(&agnes);
    let profile = profile(&agnes, "odd");
    let text = serde_json::to_string(&profile).unwrap();
    let back: Profile = serde_json::from_str(&text).unwrap();
    assert_eq!(back, profile);
    let numbers = |name: &str| column(&profile, name).numeric_stats.clone().unwrap();
    assert_eq!((numbers("f").min, numbers("f").mean), (None, None));
    assert_eq!(column(&profile, "f").null_count, 0);
    assert_eq!(numbers("g").max.unwrap().as_f64(), Some(1e308));
    assert_eq!(numbers("g").histogram.counts.iter().sum::<u64>(), 3);
    assert_eq!(numbers("u").max.unwrap().as_u64(), Some(u64::MAX));
    assert_eq!((numbers("dec").min.unwrap().as_f64(), numbers("dec").negative), (Some(-0.5), 1));
    assert_eq!(numbers("h").histogram.counts.iter().sum::<u64>(), 3);
    let days = column(&profile, "d").date_stats.clone().unwrap();
    assert_eq!(days.latest.as_deref(), Some("2026-05-05"));
    assert_eq!(days.histogram.counts.iter().sum::<u64>(), 2);
}

#[test]
fn columns_of_any_name_and_any_type() {
    let place = Place::new();
    let odd = "SELECT 1 AS \"a \"\"b\"\"\", 2 AS \"select\", 'x' AS \"file_index\", 3 AS \"n finite\", 1.5::DOUBLE AS n, \
               'a'::BLOB AS b, INTERVAL 1 DAY AS i, TIME '12:00:00' AS t, uuid() AS u, MAP {'k': 1} AS m, \
               '{\"a\": 1}'::JSON AS j, 'x'::ENUM('x', 'y') AS e, [[1], NULL] AS l FROM range(3)";
    place.foreign("shop", &table("odd", odd));
    let agnes = place.agnes();
    rebuild(&agnes);
    let profile = profile(&agnes, "odd");
    assert_eq!(profile.column_count, 13);
    assert_eq!(column(&profile, "a \"b\"").numeric_stats.as_ref().unwrap().mean, Some(1.0));
    assert_eq!(column(&profile, "n").numeric_stats.as_ref().unwrap().mean, Some(1.5));
    for name in ["b", "i", "t", "u", "m", "j", "e", "l"] {
        let column = column(&profile, name);
        assert_eq!(column.type_category, Category::String, "{name}");
        assert_eq!(column.completeness_pct, 100.0, "{name}");
        assert!(column.unique_count.is_some() && !column.sample_values.is_empty(), "{column:?}");
    }
    // More rows than are looked at, and a column of the name by which they are told apart.
    let few = ProfileSettings { sample_size: 2, ..ProfileSettings::default() };
    drop(agnes);
    let sampled = self::profile(&with(&place, few), "odd");
    assert!(sampled.sampled);
    assert_eq!((sampled.row_count, column(&sampled, "n").unique_count), (3, Some(1)));
}

#[test]
fn a_sample_is_exactly_as_large_as_it_should_be_over_all_shards() {
    let place = Place::new();
    let shards: Vec<String> = (0..7)
        .map(|at| format!("COPY (SELECT i AS id, {at} AS shard, i % 5 AS m FROM range({}, {}) t(i)) TO '$D/data/s{at}.parquet' (FORMAT parquet, ROW_GROUP_SIZE 2048);", at * 10_000, at * 10_000 + 10_000 - at))
        .collect();
    let files: Vec<String> = (0..7).map(|at| format!("'$D/data/s{at}.parquet'")).collect();
    place.foreign(
        "shop",
        &format!(
            "{} CREATE VIEW big AS SELECT * FROM read_parquet([{}], union_by_name = true);
             INSERT INTO _meta (table_name, query_mode) VALUES ('big', 'local');",
            shards.concat(),
            files.join(", ")
        ),
    );
    let few = ProfileSettings { sample_size: 7000, ..ProfileSettings::default() };
    let agnes = with(&place, few);
    rebuild(&agnes);
    let profile = profile(&agnes, "big");
    assert_eq!((profile.row_count, profile.sampled), (70_000 - 21, true));
    // Of ids that are all different as many as were looked at.
    assert_eq!(column(&profile, "id").unique_count, Some(7000));
    assert_eq!(alerts(column(&profile, "id")), ["unique"]);
    // From every shard about a tenth, spread over all of it.
    let shard = column(&profile, "shard").numeric_stats.clone().unwrap();
    assert_eq!(shard.histogram.counts.iter().sum::<u64>(), 7000);
    let counts: Vec<u64> = shard.histogram.counts.into_iter().filter(|count| *count > 0).collect();
    assert!(
        counts.len() == 7 && counts.iter().all(|count| count.abs_diff(1000) < 20),
        "{counts:?}"
    );
    let id = column(&profile, "id").numeric_stats.clone().unwrap();
    assert!((id.median.unwrap() - 35_000.0).abs() < 200.0 && id.p5.unwrap() < 3700.0, "{id:?}");
    let m = column(&profile, "m").numeric_stats.clone().unwrap();
    assert!((m.mean.unwrap() - 2.0).abs() < 0.05, "{m:?}");
}

#[test]
fn a_profile_is_kept_until_the_table_changes() {
    let place = Place::new();
    let tables = table("orders", "SELECT 1 AS id") + &table("quiet", "SELECT 1 AS id");
    place.foreign("shop", &tables);
    let agnes = place.agnes();
    rebuild(&agnes);
    agnes.adopt(ADMIN, None).unwrap();
    let quiet = TableId::parse("quiet").unwrap();
    let turn_off = |table: &mut agnes_core::access::TableUpdate| {
        table.declaration.profile_after_sync = OnByDefault(false);
        Ok(())
    };
    agnes.access().unwrap().admin(ADMIN).unwrap().update_table(&quiet, turn_off).unwrap();
    let names = |names: Vec<ViewName>| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let report = agnes.refresh_profiles(ADMIN, None, &NoProgress).unwrap();
    assert_eq!(names(report.profiled), ["orders"]);
    assert!(agnes.refresh_profiles(ADMIN, None, &NoProgress).unwrap().profiled.is_empty());
    let first = profile(&agnes, "orders");
    assert_eq!(profile(&agnes, "orders").profiled_at, first.profiled_at);
    // Whoever asks for it gets it all the same.
    assert_eq!(profile(&agnes, "quiet").row_count, 1);
    drop(agnes);
    place.foreign(
        "shop",
        &(table("orders", "SELECT * FROM range(2) t(id)") + &table("quiet", "SELECT 1 AS id")),
    );
    let agnes = place.agnes();
    rebuild(&agnes);
    let report = agnes.refresh_profiles(ADMIN, None, &NoProgress).unwrap();
    assert_eq!(names(report.profiled), ["orders"]);
    assert_eq!(profile(&agnes, "orders").row_count, 2);
    let nobody = Principal::Nobody;
    assert_eq!(
        agnes.refresh_profiles(&nobody, None, &NoProgress).unwrap_err().kind(),
        Kind::Denied
    );
    // It goes with its table.
    agnes.unregister(ADMIN, &TableId::parse("orders").unwrap(), &NoProgress).unwrap();
    assert_eq!(try_profile(&agnes, ADMIN, "orders").unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn a_profile_shows_values_and_is_for_who_may_see_them() {
    let place = Place::new();
    place.foreign(
        "hr",
        &(table("salaries", "SELECT 31337 AS salary") + &table("people", "SELECT 'Ada' AS name")),
    );
    let agnes = place.agnes();
    rebuild(&agnes);
    agnes.adopt(ADMIN, None).unwrap();
    let text = "{name: payroll, category: hr, table: people, tables: [salaries], sql: SELECT 1}";
    agnes.put_metrics(ADMIN, &Metric::parse_yaml(text, None).unwrap()).unwrap();
    let access = agnes.access().unwrap();
    let admin = access.admin(ADMIN).unwrap();
    let ada = admin.add_user(Email::parse("ada@example.com").unwrap(), None).unwrap();
    let group = admin.add_group(GroupName::parse("all").unwrap(), None).unwrap();
    admin.add_member(&group.id, &ada.id).unwrap();
    let grant = admin.grant(&group.id, Resource::parse("table:people").unwrap()).unwrap();
    let ada = Principal::user(ada.id);
    assert_eq!(profile(&agnes, "people").related_tables, ["salaries"]);
    let hers = try_profile(&agnes, &ada, "people").unwrap();
    assert!(!serde_json::to_string(&hers).unwrap().contains("salaries"), "{hers:?}");
    let hidden = try_profile(&agnes, &ada, "salaries").unwrap_err();
    let unknown = try_profile(&agnes, &ada, "salariex").unwrap_err();
    assert_eq!(hidden.message().replace("salaries", "salariex"), unknown.message());
    // A decision that somebody kept opens nothing that was taken away.
    let decision = access.decide(&ada, &Resource::parse("table:people").unwrap());
    admin.revoke(&grant.id).unwrap();
    assert_eq!(agnes.profile(&decision.permit().unwrap()).unwrap_err().kind(), Kind::Denied);
}
