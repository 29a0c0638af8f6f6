//! What is known of remote tables: providers that tell, fail, hang and vanish.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use agnes_core::access::{Email, GroupName, NewTable, Principal, Resource};
use agnes_core::extract::QueryMode;
use agnes_core::metadata::{
    Address, FreshnessState, MetadataProvider, MetadataProviders, MetadataSettings, Outcome,
    Refresh, RefreshReport, TableMetadata, Which,
};
use agnes_core::orchestrator::AttachRule;
use agnes_core::registry::Declaration;
use agnes_core::{
    Agnes, AttachPolicy, Components, Error, ExtensionName, Kind, NoProgress, Result, Settings,
    TableId, ViewName,
};

use crate::support::{Hands, Place, rebuild, source};

const ADMIN: &Principal = &Principal::Operator;
const HOUR: i64 = 3600;

type Answer = Arc<dyn Fn() -> Result<Option<TableMetadata>> + Send + Sync>;

/// Answers by table; whom it doesn't know it has nothing to say about.
#[derive(Default)]
struct Fake {
    answers: Mutex<BTreeMap<String, Answer>>,
    asked: Mutex<Vec<Address>>,
}

impl Fake {
    fn says(
        &self,
        id: &str,
        answer: impl Fn() -> Result<Option<TableMetadata>> + Send + Sync + 'static,
    ) {
        self.answers.lock().unwrap().insert(id.to_string(), Arc::new(answer));
    }
}

impl MetadataProvider for Fake {
    fn metadata(&self, table: &Address) -> Result<Option<TableMetadata>> {
        self.asked.lock().unwrap().push(table.clone());
        let answer = self.answers.lock().unwrap().get(table.id.as_str()).cloned();
        answer.map_or(Ok(None), |answer| answer())
    }
}

fn rows(rows: u64) -> Result<Option<TableMetadata>> {
    Ok(Some(TableMetadata {
        rows: Some(rows),
        size_bytes: Some(rows * 10),
        partition_by: Some("day".into()),
        clustered_by: Some(vec!["customer".into(), "shop".into()]),
        entity_type: Some("BASE TABLE".into()),
        known_columns: Some(vec!["id".into(), "day".into()]),
    }))
}

struct House {
    place: Place,
    clock: Arc<Hands>,
    fake: Arc<Fake>,
    agnes: Agnes,
}

impl House {
    fn new() -> House {
        House::with(MetadataSettings::default())
    }

    fn with(metadata: MetadataSettings) -> House {
        let (place, clock, fake) =
            (Place::new(), Arc::new(Hands::default()), Arc::new(Fake::default()));
        let agnes = open(&place, &clock, fake.clone(), metadata);
        House { place, clock, fake, agnes }
    }

    /// The same after a restart.
    fn again(self) -> House {
        let House { place, clock, fake, agnes } = self;
        drop(agnes);
        let agnes = open(&place, &clock, fake.clone(), MetadataSettings::default());
        House { place, clock, fake, agnes }
    }

    fn register(&self, name: &str) -> TableId {
        self.register_as(name, |_| {})
    }

    fn register_as(&self, name: &str, change: impl FnOnce(&mut NewTable)) -> TableId {
        let mut table = NewTable {
            id: None,
            name: ViewName::parse(name).unwrap(),
            source: source("wh"),
            declaration: Declaration {
                source_type: Some("warehouse".into()),
                bucket: Some("sales".into()),
                query_mode: Some(QueryMode::Remote),
                ..Declaration::default()
            },
        };
        change(&mut table);
        self.agnes.access().unwrap().admin(ADMIN).unwrap().register(table).unwrap().id
    }

    fn refresh(&self) -> RefreshReport {
        match self.agnes.refresh_metadata(ADMIN, Which::All).unwrap() {
            Refresh::Done(report) => report,
            Refresh::AlreadyRunning(running) => panic!("{running:?}"),
        }
    }

    /// The status of one table as clients read it.
    fn status(&self, id: &str) -> serde_json::Value {
        let status = self.agnes.metadata_status(ADMIN).unwrap();
        let tables = serde_json::to_value(&status).unwrap()["tables"].take();
        let tables = tables.as_array().unwrap().clone();
        tables.into_iter().find(|table| table["table_id"] == id).unwrap()
    }

    fn state(&self, id: &str) -> FreshnessState {
        let status = self.agnes.metadata_status(ADMIN).unwrap();
        status.tables.iter().find(|t| t.table_id.as_str() == id).unwrap().freshness.state
    }
}

fn open(place: &Place, clock: &Arc<Hands>, fake: Arc<Fake>, metadata: MetadataSettings) -> Agnes {
    let components = Components {
        clock: clock.clone(),
        metadata_providers: MetadataProviders::default().of_type("Warehouse", fake),
        ..Components::default()
    };
    let settings = Settings { metadata, ..Settings::default() };
    Agnes::open_with(place.data(), settings, components).unwrap()
}

#[test]
fn what_a_provider_says_is_kept_and_told_as_clients_know_it() {
    let house = House::new();
    house.register("orders");
    house.register_as("customers", |table| {
        table.declaration.source_table = Some("Cust.omers-1".into())
    });
    house.register_as("local_one", |table| table.declaration.query_mode = Some(QueryMode::Local));
    house.register_as("elsewhere", |table| table.declaration.source_type = Some("other".into()));
    house.fake.says("orders", || rows(7));
    house.clock.on(-1);
    let report = house.refresh();
    house.clock.on(1);
    let counts = (report.total, report.succeeded, report.no_data, report.failed);
    assert_eq!(counts, (2, 1, 1, 0));
    assert!(
        report.run_id.len() == 8 && report.run_id.chars().all(|c| "0123456789abcdef".contains(c))
    );
    let asked = house.fake.asked.lock().unwrap().clone();
    let mut asked: Vec<(&str, &str)> =
        asked.iter().map(|a| (a.bucket.as_str(), a.source_table.as_str())).collect();
    asked.sort_unstable();
    assert_eq!(asked, [("sales", "Cust.omers-1"), ("sales", "orders")]);
    let house = house.again();
    let status = house.agnes.metadata_status(ADMIN).unwrap();
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_json_snapshot!("metadata_status", status);
        insta::assert_json_snapshot!("metadata_report", RefreshReport { run_id: "0a1b2c3d".into(), ..report });
    });
}

#[test]
fn an_error_keeps_the_last_good_figures_and_a_success_forgets_the_error() {
    let house = House::new();
    let id = house.register("orders");
    assert_eq!(house.state("orders"), FreshnessState::NeverFetched);
    house.fake.says("orders", || Err(Error::new(Kind::Unavailable, "é".repeat(600))));
    let outcome = house.agnes.refresh_table_metadata(ADMIN, &id).unwrap();
    assert!(
        matches!(&outcome, Outcome::Error { error, .. } if error.starts_with("Unavailable: é"))
    );
    assert_eq!(house.state("orders"), FreshnessState::Error);
    let message = house.status("orders")["error_msg"].as_str().unwrap().to_string();
    assert_eq!(message.chars().count(), 512);
    assert!(message.starts_with("Unavailable: é"));

    house.fake.says("orders", || rows(7));
    house.agnes.refresh_table_metadata(ADMIN, &id).unwrap();
    let good = house.status("orders");
    assert_eq!((good["rows"].as_u64(), good["error_msg"].is_null()), (Some(7), true));

    house.clock.on(2 * HOUR);
    house.fake.says("orders", || panic!("the provider fell over"));
    let report = house.refresh();
    assert_eq!((report.total, report.failed), (1, 1));
    let house = house.again();
    let after = house.status("orders");
    assert_eq!(after["error_msg"], "Panic: the provider fell over");
    assert_eq!(after["freshness"], "fresh");
    assert_eq!(after["age_seconds"], 2 * HOUR);
    for kept in [
        "rows",
        "size_bytes",
        "partition_by",
        "clustered_by",
        "entity_type",
        "known_columns",
        "refreshed_at",
    ] {
        assert_eq!(after[kept], good[kept], "{kept}");
    }
    // Nothing to say keeps them, too.
    house.fake.says("orders", || Ok(None));
    let outcome = house.agnes.refresh_table_metadata(ADMIN, &id).unwrap();
    assert_eq!(
        serde_json::to_value(&outcome).unwrap(),
        serde_json::json!({"status": "no_data", "table_id": "orders"})
    );
    assert_eq!(house.status("orders")["error_msg"], "provider returned no data");
    assert_eq!(house.status("orders")["rows"], 7);
    // At the threshold, and just after it.
    house.clock.on(6 * HOUR);
    assert_eq!(house.state("orders"), FreshnessState::Fresh);
    house.clock.on(1);
    assert_eq!(house.state("orders"), FreshnessState::Stale);
    house.fake.says("orders", || rows(8));
    assert_eq!(house.refresh().succeeded, 1);
    assert_eq!(house.state("orders"), FreshnessState::Fresh);
    assert!(house.status("orders")["error_at"].is_null());
}

#[test]
fn views_have_no_figures_and_lists_that_are_empty_stay_so() {
    let house = House::new();
    let id = house.register("orders");
    for kind in ["VIEW", "MATERIALIZED VIEW"] {
        house.fake.says("orders", move || {
            Ok(Some(TableMetadata {
                rows: Some(0),
                size_bytes: Some(0),
                clustered_by: Some(Vec::new()),
                entity_type: Some(kind.into()),
                ..TableMetadata::default()
            }))
        });
        house.agnes.refresh_table_metadata(ADMIN, &id).unwrap();
        let status = house.agnes.metadata_status(ADMIN).unwrap();
        let known = &status.tables[0].cached().unwrap().metadata;
        assert_eq!((known.rows, known.size_bytes), (None, None));
    }
    let house = house.again();
    let status = house.agnes.metadata_status(ADMIN).unwrap();
    let known = &status.tables[0].cached().unwrap().metadata;
    assert_eq!((&known.clustered_by, &known.known_columns), (&Some(Vec::new()), &None));
    // What says nothing at all is no answer.
    house.fake.says("orders", || Ok(Some(TableMetadata::default())));
    let outcome = house.agnes.refresh_table_metadata(ADMIN, &id).unwrap();
    assert!(matches!(outcome, Outcome::NoData { .. }));
}

#[test]
fn what_is_no_identifier_never_reaches_a_provider() {
    let house = House::new();
    house.register_as("no_bucket", |table| table.declaration.bucket = None);
    house.register_as("bad_name", |table| table.declaration.source_table = Some("a`; DROP".into()));
    let report = house.refresh();
    assert_eq!((report.total, report.failed), (2, 2));
    assert!(house.fake.asked.lock().unwrap().is_empty());
    for outcome in report.unsuccessful {
        assert!(matches!(outcome, Outcome::Error { error, .. } if error == "invalid identifier"));
    }
    for id in ["no_bucket", "bad_name"] {
        assert_eq!(house.status(id)["error_msg"], "invalid bucket/source_table identifier");
    }
}

#[test]
fn one_refresh_of_all_at_a_time_and_so_many_tables_at_once() {
    let concurrency = 3.try_into().unwrap();
    let house = House::with(MetadataSettings { concurrency, ..MetadataSettings::default() });
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // Three meet here and wait for the fourth, which isn't theirs.
    let (met, go) = (Arc::new(Barrier::new(4)), Arc::new(Barrier::new(4)));
    let first = Arc::new(AtomicUsize::new(0));
    for at in 0..9 {
        let name = format!("t{at}");
        house.register(&name);
        let (now, most, met, go, first) =
            (now.clone(), most.clone(), met.clone(), go.clone(), first.clone());
        house.fake.says(&name, move || {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            if first.fetch_add(1, Ordering::SeqCst) < 3 {
                met.wait();
                go.wait();
            }
            now.fetch_sub(1, Ordering::SeqCst);
            rows(1)
        });
    }
    std::thread::scope(|scope| {
        let run = scope.spawn(|| house.refresh());
        met.wait();
        let asked = house.fake.asked.lock().unwrap().len();
        for which in [Which::All, Which::NotFresh] {
            match house.agnes.refresh_metadata(ADMIN, which).unwrap() {
                Refresh::AlreadyRunning(running) => {
                    let told = serde_json::to_value(&running).unwrap();
                    assert_eq!(told["started_at"], "2027-01-15T08:00:00+00:00");
                    assert_eq!(running.run_id.len(), 8);
                }
                Refresh::Done(report) => panic!("{report:?}"),
            }
        }
        assert_eq!(house.fake.asked.lock().unwrap().len(), asked);
        go.wait();
        assert_eq!(run.join().unwrap().succeeded, 9);
    });
    assert_eq!(most.load(Ordering::SeqCst), 3);
    // It is over: the next one runs, and one for what isn't fresh has nothing to do.
    let warm = house.agnes.refresh_metadata(ADMIN, Which::NotFresh).unwrap();
    assert!(matches!(warm, Refresh::Done(report) if report.total == 0));
    assert_eq!(house.refresh().total, 9);
}

#[test]
fn a_provider_that_hangs_is_given_up_and_the_others_go_on() {
    let timeout = Duration::from_millis(200);
    let house = House::with(MetadataSettings { timeout, ..MetadataSettings::default() });
    let ids = ["a", "b", "c", "d", "e", "f"].map(|name| house.register(name));
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    for id in &ids {
        let held = held.clone();
        let hangs = ["b", "d"].contains(&id.as_str());
        house.fake.says(id.as_str(), move || {
            if hangs {
                let _ = held.lock().unwrap().recv();
            }
            rows(1)
        });
    }
    let report = house.refresh();
    assert_eq!((report.total, report.succeeded, report.failed), (6, 4, 2), "{report:?}");
    assert_eq!(house.status("d")["error_msg"], "Unavailable: no answer within 0.2 s");
    let outcome = house.agnes.refresh_table_metadata(ADMIN, &ids[1]).unwrap();
    assert!(matches!(outcome, Outcome::Error { .. }));
    // Nothing is held up by those that still hang.
    assert_eq!(house.refresh().total, 6);
    drop(hold);
}

#[test]
fn who_may_not_see_a_table_hears_nothing_of_it() {
    let house = House::new();
    for name in ["orders", "salaries"] {
        house.register(name);
        house.fake.says(name, || rows(1));
    }
    house.refresh();
    let access = house.agnes.access().unwrap();
    let admin = access.admin(ADMIN).unwrap();
    let ada = admin.add_user(Email::parse("ada@example.com").unwrap(), None).unwrap();
    let group = admin.add_group(GroupName::parse("sales").unwrap(), None).unwrap();
    admin.add_member(&group.id, &ada.id).unwrap();
    admin.grant(&group.id, Resource::parse("table:orders").unwrap()).unwrap();
    let ada = Principal::user(ada.id);
    let status = house.agnes.metadata_status(&ada).unwrap();
    assert_eq!(status.tables.len(), 1);
    assert!(!serde_json::to_string(&status).unwrap().contains("salaries"));
    assert_eq!(house.agnes.metadata_status(&Principal::Nobody).unwrap_err().kind(), Kind::Denied);
    let id = TableId::parse("orders").unwrap();
    assert_eq!(house.agnes.refresh_table_metadata(&ada, &id).unwrap_err().kind(), Kind::Denied);
    assert_eq!(house.agnes.refresh_metadata(&ada, Which::All).unwrap_err().kind(), Kind::Denied);
    let unknown = TableId::parse("unknown").unwrap();
    let error = house.agnes.refresh_table_metadata(ADMIN, &unknown).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let local = house.register_as("here", |table| table.declaration.query_mode = None);
    let error = house.agnes.refresh_table_metadata(ADMIN, &local).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
}

#[test]
fn what_is_cached_goes_with_its_table_and_is_no_other_table_s() {
    let house = House::new();
    let id = house.register("orders");
    house.fake.says("orders", || rows(7));
    house.refresh();
    house.agnes.unregister(ADMIN, &id, &NoProgress).unwrap();
    assert!(house.agnes.metadata_status(ADMIN).unwrap().tables.is_empty());
    house.register("orders");
    assert_eq!(house.state("orders"), FreshnessState::NeverFetched);
    let house = house.again();
    assert_eq!(house.state("orders"), FreshnessState::NeverFetched);
    house.refresh();
    // Another source, another bucket, another table: what was known was of the old one.
    let access = house.agnes.access().unwrap();
    for change in ["source", "bucket", "table"] {
        assert_eq!(house.state("orders"), FreshnessState::Fresh);
        let update = |table: &mut agnes_core::access::TableUpdate| {
            match change {
                "source" => table.source = source("other"),
                "bucket" => table.declaration.bucket = Some("archive".into()),
                _ => table.declaration.source_table = Some("old_orders".into()),
            }
            Ok(())
        };
        access.admin(ADMIN).unwrap().update_table(&id, update).unwrap();
        assert_eq!(house.state("orders"), FreshnessState::NeverFetched, "{change}");
        house.refresh();
    }
    drop(access);
    // One that goes while it is asked about leaves nothing behind.
    let agnes = Arc::new(house.agnes);
    let (unregister, gone) = (Arc::downgrade(&agnes), id.clone());
    house.fake.says("orders", move || {
        unregister.upgrade().unwrap().unregister(ADMIN, &gone, &NoProgress).unwrap();
        rows(8)
    });
    assert!(matches!(agnes.refresh_table_metadata(ADMIN, &id).unwrap(), Outcome::Ok { .. }));
    let agnes = Arc::into_inner(agnes).unwrap();
    let house = House { agnes, ..house }.again();
    house.register("orders");
    assert_eq!(house.state("orders"), FreshnessState::NeverFetched);
}

#[test]
fn an_attached_database_tells_what_it_holds() {
    let place = Place::new();
    let file = place.path("remote.duckdb");
    duckdb::Connection::open_in_memory()
        .unwrap()
        .execute_batch(&format!(
            "ATTACH '{}' AS r; CREATE SCHEMA r.sales;
             CREATE TABLE r.sales.\"Orders\" AS SELECT i AS id, i % 10 AS shop FROM range(300000) t(i);
             CHECKPOINT r;
             DELETE FROM r.sales.\"Orders\" WHERE id < 10;
             CREATE VIEW r.sales.big AS SELECT id FROM r.sales.\"Orders\"; DETACH r",
            file.display()
        ))
        .unwrap();
    place.foreign(
        "wh",
        &format!(
            "CREATE TABLE _remote_attach (alias VARCHAR, extension VARCHAR, url VARCHAR, token_env VARCHAR);
             INSERT INTO _remote_attach VALUES ('far', 'duckdb', '{}', '');
             CREATE VIEW orders WITH (defer_binding = true) AS SELECT * FROM far.sales.\"Orders\";
             CREATE VIEW big WITH (defer_binding = true) AS SELECT * FROM far.sales.big;
             CREATE VIEW gone WITH (defer_binding = true) AS SELECT id FROM far.sales.big;
             INSERT INTO _meta (table_name, query_mode) VALUES ('orders', 'remote'), ('big', 'remote'), ('gone', 'remote');",
            file.display()
        ),
    );
    let open = |allowed: bool| {
        let rule = AttachRule {
            source: None,
            extension: ExtensionName::parse("duckdb").unwrap(),
            url_prefix: None,
            token_envs: Vec::new(),
            community: false,
        };
        let rules = if allowed { vec![rule] } else { Vec::new() };
        let settings = Settings { attach_policy: AttachPolicy::new(rules), ..Settings::default() };
        Agnes::open_with(place.data(), settings, Components::default()).unwrap()
    };
    let agnes = open(true);
    rebuild(&agnes);
    agnes.adopt(ADMIN, None).unwrap();
    // What a view reads is known where it is plain; elsewhere somebody has to say it.
    let access = agnes.access().unwrap();
    access
        .admin(ADMIN)
        .unwrap()
        .update_table(&TableId::parse("gone").unwrap(), |table| {
            table.declaration.bucket = Some("sales".into());
            Ok(())
        })
        .unwrap();
    let Refresh::Done(report) = agnes.refresh_metadata(ADMIN, Which::All).unwrap() else {
        panic!()
    };
    assert_eq!((report.total, report.succeeded, report.no_data), (3, 2, 1), "{report:?}");
    let status = agnes.metadata_status(ADMIN).unwrap();
    let known = |at: usize| status.tables[at].cached().unwrap().metadata.clone();
    let (big, orders) = (known(0), known(2));
    assert_eq!((orders.rows, orders.entity_type.as_deref()), (Some(299_990), Some("BASE TABLE")));
    assert_eq!(orders.known_columns, Some(vec!["id".to_string(), "shop".to_string()]));
    // Whole blocks of 256 KiB.
    let bytes = orders.size_bytes.unwrap();
    assert!(bytes >= 262_144 && bytes % 262_144 == 0 && bytes < 8 << 20, "{bytes}");
    assert_eq!((big.rows, big.size_bytes, big.entity_type.as_deref()), (None, None, Some("VIEW")));
    assert_eq!(big.known_columns, Some(vec!["id".to_string()]));
    // What may not be attached any more is an error of each table; what was known stays.
    drop((access, agnes));
    let agnes = open(false);
    let Refresh::Done(report) = agnes.refresh_metadata(ADMIN, Which::All).unwrap() else {
        panic!()
    };
    assert_eq!((report.total, report.failed), (3, 3));
    let status = agnes.metadata_status(ADMIN).unwrap();
    let orders = &status.tables[2];
    assert_eq!(orders.cached().unwrap().metadata.rows, Some(299_990));
    let error = orders.freshness.last_error.as_ref().unwrap();
    assert!(error.message.contains("may not attach"), "{error:?}");
    assert!(orders.freshness.age.unwrap() < Duration::from_secs(600));
}
