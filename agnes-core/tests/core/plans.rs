//! Plans as people and programs read them. Run with `INSTA_UPDATE=always` to accept.

use agnes_core::RebuildPlan;

use crate::support::{Place, foreign_at, rebuild, source, table};

/// The plan as it is printed and as JSON, without the path of this test's folder.
fn assert_plan(place: &Place, name: &str, plan: &RebuildPlan) {
    let root = place.path("").canonicalize().unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(root.to_str().unwrap(), "[HOME]");
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    let json = serde_json::to_string_pretty(plan).unwrap();
    settings.bind(|| insta::assert_snapshot!(name, format!("{plan}\n{json}")));
}

#[test]
fn the_first_rebuild() {
    let place = Place::new();
    place.foreign(
        "crm",
        &(table("orders", "SELECT 1 AS id")
            + "COPY (SELECT 1 AS m) TO '$D/data/one.parquet';
               COPY (SELECT 2 AS m) TO '$D/data/two.parquet';
               CREATE VIEW months AS SELECT * FROM read_parquet(['$D/data/one.parquet', '$D/data/two.parquet']);
               CREATE VIEW large AS SELECT id FROM orders WHERE id > 100;
               CREATE VIEW pg_orders AS SELECT * FROM read_parquet('$D/data/one.parquet');
               CREATE TABLE inside AS SELECT 3 AS x;
               INSERT INTO _meta (table_name) VALUES
                 ('months'), ('large'), ('inside'), ('nowhere'), ('no name'), ('pg_orders');"),
    );
    place.foreign("erp", &table("orders", "SELECT 2 AS id"));
    place.write("data/extracts/bad/extract.duckdb", "no database at all");
    assert_plan(&place, "first", &place.agnes().plan_rebuild(None).unwrap());
}

#[test]
fn what_changed() {
    let place = Place::new();
    place.foreign("crm", &(table("orders", "SELECT 1 AS id") + &table("people", "SELECT 1 AS id")));
    place.foreign("erp", &(table("items", "SELECT 1 AS id") + &table("stock", "SELECT 1 AS id")));
    place.foreign("gone", &table("old", "SELECT 1 AS id"));
    let agnes = place.agnes_later();
    rebuild(&agnes);
    assert_plan(&place, "nothing_changed", &agnes.plan_rebuild(None).unwrap());
    std::fs::remove_dir_all(place.extract("gone")).unwrap();
    foreign_at(
        &place.extract("erp"),
        &(table("items", "SELECT 2 AS id") + &table("ORDERS", "SELECT 1 AS id")),
    );
    assert_plan(&place, "changed", &agnes.plan_rebuild(None).unwrap());
    assert_plan(&place, "changed_one_source", &agnes.plan_rebuild(Some(&source("erp"))).unwrap());
    // Printing a plan is all that it does.
    assert!(!agnes.plan_rebuild(None).unwrap().is_empty());
    assert_eq!(agnes.generation().unwrap().unwrap().number, 1);
}
