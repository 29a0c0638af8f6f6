//! Metrics: files in and out, what fits, and who sees which.

use std::path::Path;

use agnes_core::access::{Email, GroupName, Principal, Resource};
use agnes_core::metric::Metric;
use agnes_core::{Agnes, Kind, Result};

use crate::support::{Place, ingest, query_in, rebuild};

const ADMIN: &Principal = &Principal::Operator;
const PACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics");
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data");

fn demo(place: &Place) -> Agnes {
    let agnes = place.agnes();
    for source in ["aviation", "weather", "wildlife"] {
        ingest(&agnes, source, &[&Path::new(DATA).join(source)]);
    }
    rebuild(&agnes);
    agnes
}

fn ids(agnes: &Agnes, who: &Principal) -> Vec<String> {
    agnes.metrics(who).unwrap().into_iter().map(|metric| metric.id).collect()
}

#[test]
fn the_starter_pack_fits_the_demo_and_every_form_of_it_runs() {
    let place = Place::new();
    let agnes = demo(&place);
    let report = agnes.import_metrics(ADMIN, Path::new(PACK)).unwrap();
    assert!(report.failed.is_empty() && report.ignored.is_empty(), "{report:?}");
    assert_eq!(report.imported.len(), 5);
    for check in agnes.check_metrics(ADMIN).unwrap() {
        assert!(check.problems.is_empty(), "{check:?}");
    }
    let session = agnes.session().unwrap();
    for metric in agnes.metrics(ADMIN).unwrap() {
        let variants = metric.sql_variants.keys().map(|name| Some(name.as_str()));
        for variant in variants.chain([None]) {
            let rows = query_in(&session, metric.query(variant).unwrap());
            assert!(!rows.is_empty() && rows != "NULL", "{} {variant:?}", metric.id);
        }
    }
}

#[test]
fn an_export_is_imported_as_what_it_was() {
    let (place, other) = (Place::new(), Place::new());
    let agnes = demo(&place);
    agnes.import_metrics(ADMIN, Path::new(PACK)).unwrap();
    let files = agnes.export_metrics(ADMIN, &place.path("out")).unwrap();
    assert_eq!(files.len(), 5);
    assert!(place.path("out/aviation/late_share.yml").is_file());
    let again = other.agnes();
    assert!(again.import_metrics(ADMIN, &place.path("out")).unwrap().failed.is_empty());
    assert_eq!(again.metrics(ADMIN).unwrap(), agnes.metrics(ADMIN).unwrap());
    // Twice is as once, and a definition that changed takes the place of the old one.
    agnes.import_metrics(ADMIN, &place.path("out")).unwrap();
    let file = place.path("out/weather/wet_days.yml");
    let text = std::fs::read_to_string(&file).unwrap().replace("Wet days", "Rainy days");
    std::fs::write(&file, text).unwrap();
    agnes.import_metrics(ADMIN, &file).unwrap();
    assert_eq!(agnes.metric(ADMIN, "weather/wet_days").unwrap().display_name, "Rainy days");
    assert_eq!(agnes.metrics(ADMIN).unwrap().len(), 5);
    agnes.remove_metric(ADMIN, "weather/wet_days").unwrap();
    assert_eq!(agnes.metric(ADMIN, "weather/wet_days").unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn one_bad_definition_stops_no_other() {
    let place = Place::new();
    let agnes = place.agnes();
    place.write("m/sales/good.yml", "name: good\nsql: SELECT 1\nowner: ada\n");
    place.write(
        "m/sales/list.yaml",
        "- {name: one, sql: SELECT 1}\n- {sql: SELECT 2}\n- {name: good, sql: x}\n",
    );
    place.write("m/sales/broken.yml", "name: [\n");
    place.write("m/sales/bytes.yml", [0xff, 0xfe, 0x00]);
    place.write("m/sales/notes.txt", "no metric");
    place.write("m/outside.yml", "name: outside\ncategory: x\n");
    let report = agnes.import_metrics(ADMIN, &place.path("m")).unwrap();
    assert_eq!(report.imported, ["sales/good", "sales/one"]);
    let failed: Vec<String> = report
        .failed
        .iter()
        .map(|(file, error)| {
            format!("{}: {}", file.file_name().unwrap().display(), error.message())
        })
        .collect();
    assert_eq!(failed.len(), 4, "{failed:?}");
    for (file, told) in [
        ("broken", "no YAML"),
        ("bytes", "read"),
        ("list", "needs a `name`"),
        ("list", "defined twice"),
    ] {
        assert!(failed.iter().any(|f| f.starts_with(file) && f.contains(told)), "{failed:?}");
    }
    assert_eq!(report.ignored[0].1, "owner");
    for missing in ["nowhere", "m/sales"] {
        let error = agnes.import_metrics(ADMIN, &place.path(missing)).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{missing}");
    }
    assert_eq!(
        agnes.import_metrics(&Principal::Nobody, &place.path("m")).unwrap_err().kind(),
        Kind::Denied
    );
}

#[test]
fn what_doesn_t_fit_is_told() {
    let place = Place::new();
    let agnes = demo(&place);
    let text = "
- {name: fits, category: c, table: flights, sql: 'SELECT count(*) FROM flights', dimensions: ['month(date)']}
- {name: table, category: c, table: fligts, tables: [airports, nowhere], sql: SELECT 1}
- {name: column, category: c, table: flights, time_column: dat, dimensions: [origin, carrier], sql: SELECT 1}
- {name: sql, category: c, sql: 'SELECT nothing FROM flights', sql_by_month: 'SELEC', sql_by_evil: 'COPY flights TO ''/tmp/x'''}
- {name: empty, category: c}
";
    agnes.put_metrics(ADMIN, &Metric::parse_yaml(text, None).unwrap()).unwrap();
    let checks = agnes.check_metrics(ADMIN).unwrap();
    let problems =
        |id: &str| checks.iter().find(|check| check.id == id).unwrap().problems.join("\n");
    assert_eq!(problems("c/fits"), "");
    assert!(problems("c/table").contains("no table `fligts`; did you mean `flights`?"));
    assert!(problems("c/table").contains("no table `nowhere`"));
    assert!(problems("c/column").contains("no column `dat`; did you mean `date`?"));
    assert!(problems("c/column").contains("no column `carrier`"));
    let sql = problems("c/sql");
    assert!(
        sql.contains("`sql`: ")
            && sql.contains("`sql_by_month`: ")
            && sql.contains("`sql_by_evil`: "),
        "{sql}"
    );
    assert_eq!(problems("c/empty"), "it has no `sql`");
    let metric = agnes.metric(ADMIN, "c/sql").unwrap();
    let error = metric.query(Some("week")).unwrap_err();
    assert!(error.message().contains("it has by_evil, by_month"), "{error}");
    assert_eq!(metric.query(Some("month")).unwrap(), "SELEC");
    assert_eq!(metric.query(Some("sql_by_month")).unwrap(), "SELEC");
}

#[test]
fn who_may_not_see_all_tables_of_a_metric_sees_no_metric() -> Result<()> {
    let place = Place::new();
    let agnes = demo(&place);
    agnes.import_metrics(ADMIN, Path::new(PACK))?;
    // Nothing declares the table that its SQL reads.
    let sneaky =
        "{name: sneaky, category: c, sql: SELECT 1, sql_by_x: SELECT count(*) FROM bird_strikes}";
    agnes.put_metrics(ADMIN, &Metric::parse_yaml(sneaky, None)?)?;
    let access = agnes.access()?;
    let admin = access.admin(ADMIN)?;
    let ada = admin.add_user(Email::parse("ada@example.com")?, None)?;
    let group = admin.add_group(GroupName::parse("sales")?, None)?;
    admin.add_member(&group.id, &ada.id)?;
    let ada = Principal::user(ada.id);
    assert!(ids(&agnes, &ada).is_empty());
    admin.grant(&group.id, Resource::parse("table:flights")?)?;
    assert_eq!(ids(&agnes, &ada), ["aviation/late_share"]);
    admin.grant(&group.id, Resource::parse("table:airports")?)?;
    let grant = admin.grant(&group.id, Resource::parse("table:bird_strikes")?)?;
    assert_eq!(ids(&agnes, &ada).len(), 5);
    admin.revoke(&grant.id)?;
    assert_eq!(ids(&agnes, &ada), ["aviation/average_delay", "aviation/late_share"]);
    let pivot = "{name: pivot, category: c, sql: PIVOT flights ON origin USING count(*)}";
    agnes.put_metrics(ADMIN, &Metric::parse_yaml(pivot, None)?)?;
    assert!(ids(&agnes, &ada).contains(&"c/pivot".to_string()));
    let pivot =
        "{name: Pivot, category: C, sql: PIVOT bird_strikes ON \"Wildlife Size\" USING count(*)}";
    agnes.put_metrics(ADMIN, &Metric::parse_yaml(pivot, None)?)?;
    // It takes the place of the one whose id differs in case alone.
    assert_eq!(
        agnes.metrics(ADMIN)?.iter().filter(|m| m.id.eq_ignore_ascii_case("c/pivot")).count(),
        1
    );
    assert!(!ids(&agnes, &ada).iter().any(|id| id.eq_ignore_ascii_case("c/pivot")));
    agnes.remove_metric(ADMIN, "c/pivot")?;
    // What she may not see and what there isn't are one answer.
    let hidden = agnes.metric(&ada, "c/sneaky").unwrap_err();
    let unknown = agnes.metric(&ada, "c/sneakx").unwrap_err();
    assert_eq!(hidden.message().replace("sneaky", "sneakx"), unknown.message());
    assert_eq!(agnes.put_metrics(&ada, &[]).unwrap_err().kind(), Kind::Denied);
    assert_eq!(agnes.remove_metric(&ada, "aviation/late_share").unwrap_err().kind(), Kind::Denied);
    assert_eq!(agnes.metrics(&Principal::Nobody).unwrap_err().kind(), Kind::Denied);
    Ok(())
}
