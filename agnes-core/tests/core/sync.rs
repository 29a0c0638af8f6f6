//! Sync runs: what is due, programs that end in every way, tables that connectors lose.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agnes_core::access::Principal;
use agnes_core::connector::{Connector, ConnectorReport, Job, TableStatus};
use agnes_core::extract::WriteMode;
use agnes_core::sync::{
    Connectors, RunStatus, Runs, SourceReport, SourceSettings, SyncReport, Which,
};
use agnes_core::{
    Agnes, Components, ExtractWriter, Kind, NoProgress, Result, Schedule, Settings, TableName,
    Timestamp,
};
use serde_json::{Value, json};

use crate::support::{Hands, Place, foreign_at, query, source, table};

const HOUR: i64 = 3600;

/// A data folder with sources that the test sets up.
struct House {
    place: Place,
    clock: Arc<Hands>,
    settings: Settings,
    connectors: Connectors,
}

impl House {
    fn new() -> House {
        let place = Place::new();
        let mut settings = Settings::default();
        settings.sync.base_dir = place.path("");
        House { place, clock: Arc::default(), settings, connectors: Connectors::default() }
    }

    fn source(&mut self, name: &str, runs: Runs, change: impl FnOnce(&mut SourceSettings)) {
        let mut settings = SourceSettings::new(runs);
        change(&mut settings);
        self.settings.sync.sources.insert(source(name), settings);
    }

    /// A source whose connector is a shell script, told where to write as `$out`.
    fn script(&mut self, name: &str, script: &str) {
        self.script_with(name, script, |_| {});
    }

    fn script_with(&mut self, name: &str, script: &str, change: impl FnOnce(&mut SourceSettings)) {
        let path = self.program(&format!("{name}.sh"), script);
        self.source(name, Runs::Program(vec![path.display().to_string()]), change);
    }

    fn program(&self, name: &str, script: &str) -> PathBuf {
        let head = "#!/bin/sh\norders=$(cat)\n\
                    out=$(printf %s \"$orders\" | sed 's/.*\"output\":\"\\([^\"]*\\)\".*/\\1/')\n";
        let path = self.place.write(name, format!("{head}{script}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// An extract that a script may copy into place.
    fn prepared(&self, name: &str, source: &str, tables: &[(&str, &str)]) -> String {
        let statements: String = tables.iter().map(|(name, query)| table(name, query)).collect();
        // Its views name the folder in which it will lie.
        let place = self.place.extract(source);
        let aside = self.place.path(name);
        foreign_at(&place, &statements);
        let _ = std::fs::create_dir_all(aside.parent().unwrap());
        std::fs::rename(&place, &aside).unwrap();
        format!("mkdir -p $out && rm -rf $out/* && cp -r {}/. $out/", aside.display())
    }

    fn agnes(&self) -> Agnes {
        let components = Components {
            clock: self.clock.clone(),
            connectors: self.connectors.clone(),
            ..Components::default()
        };
        Agnes::open_with(self.place.data(), self.settings.clone(), components).unwrap()
    }

    fn sync(&self, which: Which) -> SyncReport {
        self.agnes().sync(&which, &NoProgress).unwrap()
    }
}

fn of<'r>(report: &'r SyncReport, name: &str) -> &'r SourceReport {
    report.sources.iter().find(|s| s.source.as_str() == name).unwrap()
}

fn statuses(report: &SourceReport) -> Vec<(&str, TableStatus)> {
    report.tables.iter().map(|t| (t.table.as_str(), t.status)).collect()
}

fn names(names: &[&str]) -> Which {
    Which::Named(names.iter().map(|name| source(name)).collect())
}

fn set_schedule(agnes: &Agnes, table: &str, schedule: &str) {
    let access = agnes.access().unwrap();
    let admin = access.admin(&Principal::Operator).unwrap();
    let id = admin.table_named(table).unwrap().id;
    admin
        .update_table(&id, |table| {
            table.declaration.sync_schedule = Some(Schedule::parse(schedule)?);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_source_is_brought_over_when_it_is_due_and_published() {
    let mut house = House::new();
    house.place.write("in/orders.csv", "id,total\n1,9.5\n");
    house.source("shop", Runs::Connector("files".into()), |source| {
        source.schedule = Some(Schedule::parse("every 1h").unwrap());
        source.config = json!({"paths": ["in"]});
    });
    let report = house.sync(Which::Due);
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(statuses(of(&report, "shop")), [("orders", TableStatus::Created)]);
    assert_eq!(of(&report, "shop").registered.len(), 1);
    assert_eq!(query(&house.agnes(), "FROM orders"), "1|9.5");
    // Not due, though nothing else has happened.
    house.clock.on(HOUR - 1);
    let plan = house.agnes().plan_sync(&Which::Due).unwrap();
    assert_eq!(plan.to_string(), "shop (files): not due before 2027-01-15T09:00:00Z\n");
    let report = house.sync(Which::Due);
    assert!(report.sources.is_empty() && report.rebuild.is_none());
    assert_eq!(report.not_due, [source("shop")]);
    // Whoever names it doesn't wait; what is unchanged counts as synced.
    let report = house.sync(names(&["shop"]));
    assert_eq!(statuses(of(&report, "shop")), [("orders", TableStatus::Unchanged)]);
    house.clock.on(HOUR - 1);
    assert!(house.sync(Which::Due).sources.is_empty());
    house.clock.on(1);
    house.place.write("in/orders.csv", "id,total\n1,9.5\n2,20\n");
    let report = house.sync(Which::Due);
    assert_eq!(statuses(of(&report, "shop")), [("orders", TableStatus::Replaced)]);
    assert_eq!(query(&house.agnes(), "SELECT sum(total) FROM orders"), "29.5");
    let runs = house.agnes().store().unwrap().sync_runs(&source("shop"), 10).unwrap();
    assert_eq!(runs.len(), 3);
    assert!(runs.iter().all(|run| run.status == RunStatus::Ok && run.error.is_none()));
    // A name that nobody configured is told with the one that was meant.
    let error = house.agnes().sync(&names(&["shopp"]), &NoProgress).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.message().contains("did you mean `shop`?"), "{error}");
}

#[test]
fn a_program_gets_its_orders_as_json_and_only_what_is_due() {
    let mut house = House::new();
    let first =
        house.prepared("one", "crm", &[("orders", "SELECT 1 AS v"), ("people", "SELECT 1 AS v")]);
    house.script_with(
        "crm",
        &format!("printf %s \"$orders\" > {}; {first}", house.place.path("got.json").display()),
        |source| {
            source.config = json!({"password": "hunter2", "list": [1, 2]});
        },
    );
    let report = house.sync(Which::Due);
    assert!(report.is_complete(), "{report:?}");
    let got = || -> Value {
        serde_json::from_slice(&std::fs::read(house.place.path("got.json")).unwrap()).unwrap()
    };
    let orders = got();
    assert_eq!(orders["source"], "crm");
    assert_eq!(orders["tables"], Value::Null);
    assert_eq!(orders["config"], json!({"password": "hunter2", "list": [1, 2]}));
    assert_eq!(
        Path::new(orders["output"].as_str().unwrap()),
        house.agnes().layout().extract(&source("crm"))
    );
    assert_eq!(Path::new(orders["data_dir"].as_str().unwrap()), house.agnes().layout().root());
    assert_eq!(orders["declared"], json!([]));

    // One table is due, the other isn't; the program writes what it was asked for and nothing else.
    set_schedule(&house.agnes(), "people", "daily 03:00");
    let second = house.prepared("two", "crm", &[("orders", "SELECT 2 AS v")]);
    house.script(
        "crm",
        &format!("printf %s \"$orders\" > {}; {second}", house.place.path("got.json").display()),
    );
    house.clock.on(HOUR);
    let plan = house.agnes().plan_sync(&Which::Due).unwrap();
    assert!(plan.to_string().ends_with("): orders\n"), "{plan}");
    let report = house.sync(Which::Due);
    let orders: Value =
        serde_json::from_slice(&std::fs::read(house.place.path("got.json")).unwrap()).unwrap();
    assert_eq!(orders["tables"], json!(["orders"]));
    let declared: Vec<&str> = orders["declared"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].as_str().unwrap())
        .collect();
    assert_eq!(declared, ["orders", "people"]);
    let crm = of(&report, "crm");
    assert_eq!(crm.status, RunStatus::Ok);
    assert_eq!(crm.brought_back, [TableName::parse("people").unwrap()]);
    assert_eq!(query(&house.agnes(), "SELECT o.v, p.v FROM orders o, people p"), "2|1");
    // It is in the extract again, with what was said of it.
    let extract = agnes_core::Extract::open(&house.place.extract("crm")).unwrap();
    let people = extract.tables().iter().find(|t| t.name().as_str() == "people").unwrap();
    assert_eq!(people.description(), Some("about people"));
    assert_eq!(people.extracted_at(), Timestamp::parse("2026-01-02T03:04:05Z"));
    // Of everything, what is missing is no more.
    let report = house.sync(Which::All);
    assert_eq!(statuses(of(&report, "crm")).len(), 2);
    assert!(house.agnes().generation().unwrap().unwrap().views.len() == 1);
}

#[test]
fn shards_and_remote_tables_come_back_as_they_were() {
    let mut house = House::new();
    let remote = house.place.path("remote.duckdb");
    duckdb::Connection::open_in_memory()
        .unwrap()
        .execute_batch(&format!(
            "ATTACH '{}' AS r; CREATE TABLE r.t AS SELECT 7 AS id; DETACH r",
            remote.display()
        ))
        .unwrap();
    house.settings.attach_policy = agnes_core::AttachPolicy::with_lists(Some("duckdb"), None);
    let shards = format!(
        "COPY (SELECT 1 AS a) TO '$D/data/s1.parquet' (FORMAT parquet);
         COPY (SELECT 'x' AS b, 2 AS a) TO '$D/data/s2.parquet' (FORMAT parquet);
         CREATE VIEW sharded AS SELECT * FROM read_parquet(['$D/data/s1.parquet', '$D/data/s2.parquet'], union_by_name = true);
         INSERT INTO _meta (table_name, query_mode, description) VALUES ('sharded', 'local', 'in parts');
         CREATE TABLE _remote_attach (alias VARCHAR, extension VARCHAR, url VARCHAR, token_env VARCHAR);
         INSERT INTO _remote_attach VALUES ('far', 'duckdb', '{}', '');
         CREATE VIEW distant WITH (defer_binding = true) AS SELECT * FROM far.main.t;
         INSERT INTO _meta (table_name, query_mode) VALUES ('distant', 'remote');
         CREATE TABLE inside AS SELECT 5 AS n;
         INSERT INTO _meta (table_name, query_mode) VALUES ('inside', 'local');",
        remote.display()
    );
    house.place.foreign("wh", &(shards + &table("plain", "SELECT 1 AS v")));
    let agnes = house.agnes();
    agnes.rebuild(None, &NoProgress).unwrap();
    agnes.adopt(&Principal::Operator, None).unwrap();
    for name in ["sharded", "distant", "inside"] {
        set_schedule(&agnes, name, "every 999h");
    }
    drop(agnes);
    let all = "SELECT (SELECT string_agg(coalesce(b, '-') || a, ' ' ORDER BY a) FROM sharded), \
               (SELECT id FROM distant), (SELECT n FROM inside), (SELECT v FROM plain)";
    assert_eq!(query(&house.agnes(), all), "-1 x2|7|5|1");
    // From now on nothing but the plain table is due, and the program writes nothing else.
    let lossy = house.prepared("two", "wh", &[("plain", "SELECT 2 AS v")]);
    house.script("wh", &lossy);
    let report = house.sync(Which::Due);
    let wh = of(&report, "wh");
    assert_eq!(wh.status, RunStatus::Ok, "{wh:?}");
    let mut back: Vec<&str> = wh.brought_back.iter().map(|t| t.as_str()).collect();
    back.sort_unstable();
    assert_eq!(back, ["distant", "inside", "sharded"]);
    assert_eq!(query(&house.agnes(), all), "-1 x2|7|5|2");
}

#[test]
fn tables_are_brought_over_by_name_and_no_others() {
    let mut house = House::new();
    let first =
        house.prepared("one", "crm", &[("people", "SELECT 1 AS v"), ("orders", "SELECT 1 AS v")]);
    let got = house.place.path("got.json").display().to_string();
    let keep = |then: &str| format!("printf %s \"$orders\" > {got}; {then}");
    house.script("crm", &keep(&first));
    house.script("erp", &house.prepared("erp", "erp", &[("stock", "SELECT 1 AS v")]));
    assert!(house.sync(Which::All).is_complete());
    for name in ["people", "orders"] {
        set_schedule(&house.agnes(), name, "daily 03:00");
    }
    let second = house.prepared("two", "crm", &[("orders", "SELECT 2 AS v")]);
    house.script("crm", &keep(&second));
    let table = |name: &str| agnes_core::TableId::parse(name).unwrap();
    let report = house.sync(Which::Tables(vec![table("orders")]));
    assert!(report.is_complete(), "{report:?}");
    let synced: Vec<&str> = report.sources.iter().map(|s| s.source.as_str()).collect();
    assert_eq!(synced, ["crm"]);
    let orders: Value = serde_json::from_slice(&std::fs::read(&got).unwrap()).unwrap();
    assert_eq!(orders["tables"], json!(["orders"]));
    assert_eq!(
        query(&house.agnes(), "SELECT v FROM orders UNION ALL SELECT v FROM people"),
        "2\n1"
    );
    // All of a source's are all of it; a table that nobody knows, or nobody brings, is named.
    let all = Which::Tables(vec![table("orders"), table("people")]);
    let plan = house.agnes().plan_sync(&all).unwrap();
    assert!(plan.to_string().ends_with("): all tables\n"), "{plan}");
    let unknown = house.agnes().plan_sync(&Which::Tables(vec![table("nothing")])).unwrap_err();
    assert_eq!(unknown.kind(), agnes_core::Kind::NotFound);
    house.place.write("in/plain.csv", "id\n1\n");
    crate::support::ingest(&house.agnes(), "by_hand", &[&house.place.path("in/plain.csv")]);
    let by_hand = house.agnes().plan_sync(&Which::Tables(vec![table("plain")])).unwrap_err();
    assert!(by_hand.message().contains("`by_hand`"), "{by_hand}");
}

#[test]
fn programs_that_fail_leave_what_there_was_and_others_alone() {
    let mut house = House::new();
    let good = house.prepared("good", "good", &[("fine", "SELECT 1 AS v")]);
    house.script("good", &good);
    let bad =
        house.prepared("bad", "bad", &[("kept", "SELECT 1 AS v"), ("other", "SELECT 1 AS v")]);
    house.script("bad", &bad);
    assert!(house.sync(Which::All).is_complete());
    let half = house.prepared("half", "bad", &[("other", "SELECT 2 AS v")]);
    let broken = "mkdir -p $out; rm -f $out/extract.duckdb; echo rubbish > $out/extract.duckdb";
    for (script, status, told) in [
        (
            "echo 'no such host' >&2; exit 1".to_string(),
            RunStatus::Failed,
            "it failed: no such host",
        ),
        ("exit 1".to_string(), RunStatus::Failed, "it failed"),
        ("exit 77".to_string(), RunStatus::Failed, "exit code 77"),
        ("kill -9 $$".to_string(), RunStatus::Failed, "killed by signal 9"),
        (format!("{broken}; exit 0"), RunStatus::Failed, "left no extract that can be read"),
        (format!("{broken}; exit 1"), RunStatus::Failed, "it failed"),
        ("rm -rf $out; exit 1".to_string(), RunStatus::Failed, "it failed"),
        (
            format!("{half}; echo 'kept: gone' >&2; exit 2"),
            RunStatus::Partial,
            "some of its tables failed: kept: gone",
        ),
        (
            "head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; echo >&2; echo the end >&2; exit 1"
                .to_string(),
            RunStatus::Failed,
            "… the end",
        ),
    ] {
        house.clock.on(1);
        house.script("bad", &script);
        let report = house.sync(Which::All);
        let (bad, good) = (of(&report, "bad"), of(&report, "good"));
        assert_eq!((bad.status, good.status), (status, RunStatus::Ok), "{script}: {bad:?}");
        let error = bad.error.as_ref().unwrap();
        assert!(
            error.message().contains(told) && error.message().len() < 3000,
            "{script}: {error}"
        );
        assert!(!report.is_complete());
        let seen = query(&house.agnes(), "SELECT fine.v, kept.v FROM fine, kept");
        assert_eq!(seen, "1|1", "{script}");
    }
    // What failed is noted beside what was good, and a success forgets it.
    let agnes = house.agnes();
    let state = |agnes: &Agnes| {
        let states = agnes.store().unwrap().sync_states().unwrap();
        states.into_iter().find(|s| s.table_id == "kept").unwrap()
    };
    let failed = state(&agnes);
    assert_eq!((failed.status.as_str(), failed.rows), ("error", 1));
    assert!(failed.error.unwrap().contains("the end"));
    let history = agnes
        .store()
        .unwrap()
        .sync_history(&agnes_core::ViewName::parse("kept").unwrap(), 100)
        .unwrap();
    assert!(history.iter().filter(|event| event.status == "error").count() > 1);
    drop(agnes);
    house.script("bad", &bad);
    house.clock.on(1);
    assert!(house.sync(Which::All).is_complete());
    let good = state(&house.agnes());
    assert_eq!((good.status.as_str(), good.error), ("ok", None));
}

#[test]
fn a_file_that_can_t_be_read_takes_no_published_table_away() {
    let mut house = House::new();
    let good =
        house.prepared("good", "crm", &[("orders", "SELECT 1 AS v"), ("people", "SELECT 1 AS v")]);
    house.script("crm", &good);
    assert!(house.sync(Which::All).is_complete());
    // It says that all went well, and one file is cut off.
    let newer =
        house.prepared("newer", "crm", &[("orders", "SELECT 2 AS v"), ("people", "SELECT 2 AS v")]);
    house.script("crm", &format!("{newer}; echo rubbish > $out/data/people.parquet"));
    let report = house.sync(Which::All);
    let crm = of(&report, "crm");
    assert_eq!(crm.status, RunStatus::Partial, "{crm:?}");
    let status = |name: &str| crm.tables.iter().find(|t| t.table.as_str() == name).unwrap().status;
    assert_eq!((status("orders"), status("people")), (TableStatus::Replaced, TableStatus::Failed));
    assert_eq!(query(&house.agnes(), "SELECT o.v, p.v FROM orders o, people p"), "2|1");
    // One that fails after it has emptied a table gets the table back.
    let empty = house.prepared(
        "empty",
        "crm",
        &[("orders", "SELECT 3 AS v WHERE false"), ("people", "SELECT 3 AS v WHERE false")],
    );
    house.script("crm", &format!("{empty}; exit 1"));
    let report = house.sync(Which::All);
    assert_eq!(of(&report, "crm").status, RunStatus::Failed, "{report:?}");
    assert_eq!(query(&house.agnes(), "SELECT o.v, p.v FROM orders o, people p"), "2|1");
    // With nothing to do there need be nothing.
    house.script("idle", "exit 0");
    assert_eq!(of(&house.sync(names(&["idle"])), "idle").status, RunStatus::Ok);
}

#[test]
fn what_a_source_has_no_more_isn_t_asked_for_at_every_turn() {
    let mut house = House::new();
    house.place.write("in/orders.csv", "id\n1\n");
    house.place.write("in/people.csv", "id\n1\n");
    house.source("shop", Runs::Connector("files".into()), |source| {
        source.schedule = Some(Schedule::parse("every 1h").unwrap());
        source.config = json!({"paths": ["in"]});
    });
    assert!(house.sync(Which::Due).is_complete());
    std::fs::remove_file(house.place.path("in/people.csv")).unwrap();
    house.clock.on(HOUR);
    let report = house.sync(Which::Due);
    assert!(statuses(of(&report, "shop")).contains(&("people", TableStatus::Gone)));
    house.clock.on(60);
    assert!(house.sync(Which::Due).sources.is_empty());
}

#[test]
fn a_program_that_takes_too_long_is_ended_with_all_that_it_started() {
    let mut house = House::new();
    let pids = house.place.path("pids");
    // It starts a child, neither listens to a request to end, and nobody reads the input.
    let script = format!(
        "trap '' TERM; (trap '' TERM; echo $$ >> {0}; sleep 1000) & sleep 1000 & echo $! >> {0}; echo waiting; wait",
        pids.display()
    );
    let path = house.place.write("slow.sh", format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    house.source("slow", Runs::Program(vec!["./slow.sh".into()]), |source| {
        source.timeout = Some(Duration::from_millis(300));
        source.config = json!({"large": "x".repeat(1 << 20)});
    });
    let begun = std::time::Instant::now();
    let report = house.sync(Which::Due);
    let slow = of(&report, "slow");
    assert_eq!(slow.status, RunStatus::Failed);
    let error = slow.error.as_ref().unwrap();
    assert!(error.message().contains("took longer than 0.3 s and was ended: waiting"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60));
    for pid in std::fs::read_to_string(pids).unwrap().lines() {
        let alive = Path::new("/proc").join(pid).join("stat");
        let state = std::fs::read_to_string(alive).unwrap_or_default();
        // A zombie waits for the system to take it away.
        assert!(state.is_empty() || state.contains(") Z "), "{pid}: {state}");
    }
}

#[test]
fn what_a_program_leaves_running_ends_with_it() {
    let mut house = House::new();
    let pid = house.place.path("pid");
    let good = house.prepared("one", "crm", &[("orders", "SELECT 1 AS v")]);
    house.script("crm", &format!("{good}; sleep 1000 & echo $! > {}", pid.display()));
    assert!(house.sync(Which::Due).is_complete());
    let pid = std::fs::read_to_string(pid).unwrap();
    let state = std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
    assert!(state.is_err() || state.unwrap().contains(") Z "));
}

#[test]
fn a_connector_that_isn_t_there_is_named_with_its_cure() {
    let mut house = House::new();
    let plain = house.place.write("plain.txt", "no program");
    house.source("a", Runs::Connector("fils".into()), |_| {});
    house.source("b", Runs::Program(vec!["/nowhere/at/all".into()]), |_| {});
    house.source("c", Runs::Program(vec![plain.display().to_string()]), |_| {});
    house.source("d", Runs::Program(Vec::new()), |_| {});
    house.source("e", Runs::Connector("files".into()), |source| {
        source.config = json!({"path": "in"})
    });
    house.source("f", Runs::Connector("../../escape".into()), |_| {});
    let report = house.sync(Which::Due);
    for (name, told) in [
        ("a", "did you mean `files`?"),
        ("b", "can't start `/nowhere/at/all`"),
        ("c", "can't start"),
        ("d", "command is empty"),
        ("e", "unknown field `path`"),
        ("f", "there is no connector"),
    ] {
        let source = of(&report, name);
        assert_eq!(source.status, RunStatus::Failed);
        let error = source.error.as_ref().unwrap();
        assert!(error.message().contains(told), "{name}: {error}");
    }
    let runs = house.agnes().store().unwrap().sync_runs(&source("b"), 10).unwrap();
    assert!(runs[0].error.as_ref().unwrap().contains("/nowhere/at/all"));
}

#[test]
fn connectors_that_somebody_dropped_in_run_with_the_others() {
    let mut house = House::new();
    let dir = house.place.path("connectors");
    house.settings.sync.connectors_dir = Some(dir.clone());
    assert!(house.sync(Which::Due).sources.is_empty());
    let copy = house.prepared("one", "dropped", &[("orders", "SELECT 1 AS v")]);
    house.program("connectors/dropped/extractor", &copy);
    // As the reference runs them: Python, told by DATA_DIR alone, with no secret of ours.
    let python = "import json, os, shutil, sys\n\
                  orders = json.load(sys.stdin)\n\
                  assert orders['config'] is None and orders['source'] == 'snake'\n\
                  assert 'JWT_SECRET_KEY' not in os.environ\n\
                  out = os.path.join(os.environ['DATA_DIR'], 'extracts', 'snake')\n\
                  assert out == orders['output'], (out, orders)\n\
                  shutil.copytree(PREPARED, out, dirs_exist_ok=True)\n";
    house.prepared("two", "snake", &[("snakes", "SELECT 2 AS v")]);
    let prepared = format!("{:?}", house.place.path("two"));
    house.place.write("connectors/snake/extractor.py", python.replace("PREPARED", &prepared));
    house.place.write("connectors/bad name/extractor.py", "1/0");
    house.place.write("connectors/no_connector/notes.txt", "nothing");
    // One that a configured source names is that source's.
    let named = house.prepared("three", "erp", &[("bills", "SELECT 3 AS v")]);
    house.program("connectors/sap/extractor", &named);
    house.source("erp", Runs::Connector("sap".into()), |_| {});
    let report = house.sync(Which::Due);
    let ran: Vec<&str> = report.sources.iter().map(|s| s.source.as_str()).collect();
    assert_eq!(ran, ["dropped", "erp", "snake"]);
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(
        query(&house.agnes(), "SELECT o.v, s.v, b.v FROM orders o, snakes s, bills b"),
        "1|2|3"
    );
}

/// A connector in Rust that does as the test says.
struct Scripted(fn(&Job<'_>) -> Result<ConnectorReport>);

impl Connector for Scripted {
    fn extract(&self, job: &Job<'_>) -> Result<ConnectorReport> {
        (self.0)(job)
    }
}

fn with(house: &mut House, name: &str, act: fn(&Job<'_>) -> Result<ConnectorReport>) {
    let make =
        move |_: &Value, _: &Path| -> Result<Box<dyn Connector>> { Ok(Box::new(Scripted(act))) };
    house.connectors = house.connectors.clone().with(name, Arc::new(make));
    house.source(name, Runs::Connector(name.into()), |_| {});
}

#[test]
fn a_connector_object_that_panics_or_loses_tables_harms_nobody() {
    let mut house = House::new();
    with(&mut house, "crm", |job| {
        let mut writer = ExtractWriter::begin(job.folder, WriteMode::Replace, job.now)?;
        for name in ["orders", "people"] {
            writer.table_from_sql(&TableName::parse(name)?, "SELECT 1 AS v")?;
        }
        writer.finish()?;
        Ok(ConnectorReport::default())
    });
    with(&mut house, "wild", |_| panic!("out of its mind"));
    let report = house.sync(Which::Due);
    assert_eq!(of(&report, "wild").status, RunStatus::Failed);
    assert!(of(&report, "wild").error.as_ref().unwrap().message().contains("out of its mind"));
    assert_eq!(query(&house.agnes(), "SELECT o.v, p.v FROM orders o, people p"), "1|1");
    // It fails after it has thrown away everything.
    with(&mut house, "crm", |job| {
        std::fs::remove_dir_all(job.folder).unwrap();
        Err(agnes_core::Error::new(Kind::Unavailable, "the line is dead"))
    });
    let report = house.sync(names(&["crm"]));
    assert_eq!(of(&report, "crm").brought_back.len(), 2);
    assert_eq!(query(&house.agnes(), "SELECT o.v, p.v FROM orders o, people p"), "1|1");
}

#[test]
fn a_connector_object_is_taken_at_its_word_as_far_as_its_extract_goes() {
    let mut house = House::new();
    with(&mut house, "crm", |job| {
        let mut writer = ExtractWriter::begin(job.folder, WriteMode::Replace, job.now)?;
        writer.table_from_sql(&TableName::parse("orders")?, "SELECT 1 AS v")?;
        writer.finish()?;
        Ok(ConnectorReport::default())
    });
    assert!(house.sync(Which::Due).is_complete());
    with(&mut house, "crm", |job| {
        let _ = std::fs::remove_file(job.folder.join("extract.duckdb"));
        std::fs::write(job.folder.join("extract.duckdb"), "rubbish").unwrap();
        Ok(ConnectorReport::default())
    });
    let report = house.sync(Which::Due);
    assert_eq!(of(&report, "crm").status, RunStatus::Failed);
    assert_eq!(query(&house.agnes(), "FROM orders"), "1");
    // One whose configuration makes it panic stops no other.
    let panics = |_: &Value, _: &Path| -> Result<Box<dyn Connector>> { panic!("no such key") };
    house.connectors = house.connectors.clone().with("panics", Arc::new(panics));
    house.source("another", Runs::Connector("panics".into()), |_| {});
    house.place.write("in/people.csv", "id\n1\n");
    house.source("shop", Runs::Connector("files".into()), |source| {
        source.config = json!({"paths": ["in"]})
    });
    let report = house.sync(Which::Due);
    assert!(of(&report, "another").error.as_ref().unwrap().message().contains("no such key"));
    assert_eq!(of(&report, "shop").status, RunStatus::Ok);
    assert_eq!(query(&house.agnes(), "FROM people"), "1");
}

#[test]
fn what_ran_is_reported_though_it_can_t_be_noted() {
    let mut house = House::new();
    with(&mut house, "crm", |job| {
        let mut writer = ExtractWriter::begin(job.folder, WriteMode::Replace, job.now)?;
        writer.table_from_sql(&TableName::parse("orders")?, "SELECT 1 AS v")?;
        writer.finish()?;
        // The system database can't be opened from here on, as on a disk that fails.
        let system = job.folder.join("../../state/system.duckdb");
        std::fs::write(system, "no database").unwrap();
        Ok(ConnectorReport::default())
    });
    let report = house.sync(Which::Due);
    assert_eq!(report.sources.len(), 1);
    assert!(report.note_error.is_some());
    assert!(!report.is_complete());
}

#[test]
fn what_a_program_is_told_as_arguments_is_never_shown() {
    let mut house = House::new();
    let says = "echo refused: hunter2 at https://me:hunter3@crm.example >&2; exit 1";
    let command = ["/bin/sh", "-c", says, "--token", "hunter2"].map(String::from);
    house.source("crm", Runs::Program(command.to_vec()), |source| {
        source.config = json!({"token": "hunter2"})
    });
    let plan = house.agnes().plan_sync(&Which::Due).unwrap();
    let report = house.sync(Which::Due);
    let told = format!("{plan} {} {report:?}", serde_json::to_string(&plan).unwrap())
        + &serde_json::to_string(&report).unwrap();
    assert!(!told.contains("hunter"), "{told}");
    let runs = house.agnes().store().unwrap().sync_runs(&source("crm"), 1).unwrap();
    assert_eq!(
        runs[0].error.as_deref(),
        Some("the connector `/bin/sh`: it failed: refused: … at https://…@crm.example")
    );
}

#[test]
fn one_run_of_a_source_at_a_time() {
    let mut house = House::new();
    let (begun, go) = (house.place.path("begun"), house.place.path("go"));
    let good = house.prepared("one", "crm", &[("orders", "SELECT 1 AS v")]);
    house.script(
        "crm",
        &format!(
            "touch {}; while [ ! -e {} ]; do sleep 0.02; done; {good}",
            begun.display(),
            go.display()
        ),
    );
    let agnes = house.agnes();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| agnes.sync(&Which::Due, &NoProgress).unwrap());
        while !begun.exists() {
            std::thread::yield_now();
        }
        let second = agnes.sync(&names(&["crm"]), &NoProgress).unwrap();
        let error = of(&second, "crm").error.clone().unwrap();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.message().contains("another sync of `crm`"), "{error}");
        std::fs::write(&go, "").unwrap();
        assert!(first.join().unwrap().is_complete());
    });
    assert_eq!(query(&agnes, "FROM orders"), "1");
}
