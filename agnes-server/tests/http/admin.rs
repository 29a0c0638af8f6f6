//! What admins declare, describe and configure; what users want.

use std::sync::Arc;

use agnes_core::config::Files;
use agnes_server::{Configuration, ServerSettings};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::house::{Answer, House};

/// An admin who asks.
struct Root<'a> {
    house: &'a House,
    token: String,
}

impl Root<'_> {
    fn new(house: &House) -> Root<'_> {
        Root { house, token: house.session("root") }
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.house.ask(method, path).token(&self.token).json(body).send().await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body).await
    }

    async fn get(&self, path: &str) -> Value {
        self.house.get(path).token(&self.token).send().await.json()
    }
}

fn form(name: &str, text: &str) -> String {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n{text}\r\n\
         --b--\r\n"
    )
}

#[tokio::test]
async fn tables_are_declared_changed_and_taken_out() {
    let house = House::new();
    let root = Root::new(&house);
    let register = |body: Value| {
        let root = &root;
        async move { root.post("/api/admin/register-table", &body).await }
    };
    let made = register(json!({
        "name": "Plans", "source_type": "local", "sync_schedule": "every 1h", "primary_key": "id",
        "description": "what is to come", "where_filters": [{"column": "a"}],
    }))
    .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.detail());
    assert_eq!(made.json(), json!({"id": "plans", "name": "Plans", "status": "registered"}));
    let row = |tables: &Value, id: &str| {
        let rows = tables["tables"].as_array().unwrap();
        rows.iter().find(|row| row["id"] == id).cloned().unwrap_or_default()
    };
    let plans = row(&root.get("/api/admin/registry").await, "plans");
    assert_eq!((&plans["primary_key"], &plans["source"]), (&json!(["id"]), &json!("local")));
    assert_eq!(plans["sync_schedule"], "every 1h");
    // One that is published is its source's.
    for (body, status) in [
        (json!({"name": "plans"}), 409),
        (json!({"name": "PLANS", "source_type": "local"}), 409),
        (json!({"name": " "}), 422),
        (json!({}), 422),
        (json!({"name": 5}), 422),
        (json!({"name": "a-b"}), 422),
        (json!({"name": "x", "sync_schedule": "sometimes"}), 422),
        (json!({"name": "x", "query_mode": "nowhere"}), 422),
        (json!({"name": "x", "source_query": "SELECT 1"}), 422),
        (json!({"name": "x", "query_mode": "materialized"}), 422),
        (json!({"name": "x", "sync_strategy": "partitioned"}), 422),
        (json!({"name": "x", "sync_strategy": "incremental", "where_filters": [{}]}), 422),
        (json!({"name": "x", "source_type": "keboola"}), 422),
        (json!({"name": "x", "source_type": "bigquery", "bucket": "a", "source_table": "b*"}), 422),
        (json!({"name": "x\n"}), 422),
    ] {
        let precheck = root.post("/api/admin/register-table/precheck", &body).await;
        assert_eq!(precheck.status.as_u16(), status, "precheck {body}: {}", precheck.detail());
        let answer = register(body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.detail());
        if status == 422 {
            assert!(answer.json()["detail"].is_array(), "{body}");
        }
    }
    let checked = root.post("/api/admin/register-table/precheck", &json!({"name": "later"})).await;
    assert_eq!((checked.status, &checked.json()["ok"]), (StatusCode::OK, &json!(true)));
    assert_eq!(row(&root.get("/api/admin/registry").await, "later"), Value::Null);

    let change = |id: &str, body: Value| {
        let (root, path) = (&root, format!("/api/admin/registry/{id}"));
        async move { root.send(Method::PUT, &path, &body).await }
    };
    let changed = change("plans", json!({"description": null, "folder": "later"})).await;
    assert_eq!(changed.json(), json!({"id": "plans", "updated": ["description", "folder"]}));
    let plans = row(&root.get("/api/admin/registry").await, "plans");
    assert_eq!(
        (&plans["description"], &plans["folder"], &plans["sync_schedule"]),
        (&Value::Null, &json!("later"), &json!("every 1h"))
    );
    for (id, body, status) in [
        ("nothing", json!({}), 404),
        ("no-such", json!({}), 404),
        ("plans", json!({"name": "orders"}), 409),
        // What there is doesn't go with it.
        ("plans", json!({"query_mode": "remote"}), 422),
        ("plans", json!({"name": ""}), 422),
    ] {
        let answer = change(id, body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{id} {body}: {}", answer.detail());
    }
    let own = root.post("/api/admin/tables/p2", &json!({"name": "plans_two"})).await;
    assert_eq!((own.status, &own.json()["id"]), (StatusCode::CREATED, &json!("p2")));
    let removed = root.send(Method::DELETE, "/api/admin/registry/p2", &json!({})).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    // Whoever is no admin registers nothing.
    let eve = house.session("eve");
    let tried = house.post("/api/admin/register-table").token(&eve).json(&json!({"name": "x"}));
    assert_eq!(tried.send().await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_table_that_was_taken_out_comes_back_when_it_is_registered() {
    let house = House::new();
    let root = Root::new(&house);
    let removed = root.send(Method::DELETE, "/api/admin/registry/orders", &json!({})).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    let query = json!({"sql": "SELECT count(*) FROM orders"});
    assert_eq!(root.post("/api/query", &query).await.status, StatusCode::BAD_REQUEST);
    let back = json!({"name": "orders", "source": "orders"});
    let back = root.post("/api/admin/register-table", &back).await;
    assert_eq!(back.status, StatusCode::CREATED, "{}", back.detail());
    for _ in 0..500 {
        if root.post("/api/query", &query).await.status == StatusCode::OK {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it isn't published");
}

#[tokio::test]
async fn a_remote_table_is_published_while_its_admin_waits() {
    let settings = ServerSettings {
        data_source: "bigquery".to_string(),
        rate_limits: false,
        ..ServerSettings::default()
    };
    let house = House::with(settings);
    let root = Root::new(&house);
    let body =
        json!({"name": "far", "source_type": "bigquery", "bucket": "a", "source_table": "b"});
    let made = root.post("/api/admin/register-table", &body).await;
    // No connector has brought it, so that there is nothing yet that could be queried.
    assert_eq!((made.status, &made.json()["status"]), (StatusCode::ACCEPTED, &json!("accepted")));
    let remote = json!({"sql": "FROM far"});
    let told = root.post("/api/query", &remote).await;
    assert_eq!(told.status, StatusCode::BAD_REQUEST);
    assert!(told.detail().contains("isn't published"), "{}", told.detail());
    let later = json!({"name": "later", "source_type": "bigquery", "query_mode": "materialized",
        "source_query": "SELECT 1"});
    assert_eq!(root.post("/api/admin/register-table", &later).await.status, StatusCode::CREATED);
    let told = root.post("/api/query", &json!({"sql": "FROM later"})).await;
    assert!(told.detail().contains("next sync"), "{}", told.detail());
    for path in ["/api/v2/scan", "/api/v2/scan/estimate"] {
        let scan = root.post(path, &json!({"table_id": "far"})).await;
        assert_eq!(scan.status, StatusCode::NOT_FOUND, "{}", scan.detail());
    }
    let tables = root.get("/api/admin/registry").await;
    let rows = tables["tables"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["id"] == "far" && row["query_mode"] == "remote"));
    let precheck = json!({"name": "far2", "source_type": "bigquery"});
    let precheck = root.post("/api/admin/register-table/precheck", &precheck).await;
    assert_eq!(precheck.status, StatusCode::NOT_IMPLEMENTED);
    let discovered = house.get("/api/admin/discover-tables").token(&root.token).send().await;
    assert_eq!(discovered.status, StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn what_takes_a_system_that_isn_t_there_says_so() {
    let house = House::new();
    let root = Root::new(&house);
    let none = root.get("/api/admin/discover-tables").await;
    assert_eq!((&none["count"], &none["source"]), (&json!(0), &json!("local")));
    for (path, status) in [
        ("/api/admin/discover-and-register", 400),
        ("/api/admin/bigquery/test-connection", 501),
        ("/api/admin/metadata/orders/push", 501),
    ] {
        let answer = root.post(path, &json!({})).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert!(!answer.detail().is_empty());
    }
    let hybrid = json!({"sql": "FROM orders, far", "register_bq": {"far": "SELECT 1"}});
    let answer = root.post("/api/query/hybrid", &hybrid).await;
    assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
    // Without any remote rows it is a query.
    let plain = json!({"sql": "SELECT count(*) AS n FROM orders"});
    let answer = root.post("/api/query/hybrid", &plain).await.json();
    assert_eq!((&answer["rows"], &answer["bq_stats"]["alias_count"]), (&json!([[3]]), &json!(0)));
}

#[tokio::test]
async fn columns_are_described_for_those_who_may_see_them() {
    let house = House::new();
    let root = Root::new(&house);
    let notes = json!({"columns": [
        {"column_name": "total", "basetype": "NUMERIC", "description": "with tax"},
        {"column_name": "id"},
    ]});
    let saved = root.post("/api/admin/metadata/orders", &notes).await;
    assert_eq!(saved.json(), json!({"table_id": "orders", "updated": 2}), "{}", saved.detail());
    let more = json!({"columns": [{"column_name": "TOTAL", "description": "without tax"}]});
    root.post("/api/admin/metadata/orders", &more).await;
    let path = "/api/admin/metadata/orders";
    let shown = house.get(path).token(&house.session("ada")).send().await.json();
    let columns = shown["columns"].as_array().unwrap();
    assert_eq!(columns.len(), 2, "{shown}");
    assert!(columns.iter().any(|c| c["description"] == "without tax" && c["source"] == "manual"));
    // What she may not see, she may not read about; and she describes nothing.
    let hidden = house.get(path).token(&house.session("eve")).send().await;
    assert_eq!(hidden.status, StatusCode::FORBIDDEN);
    let described = house.post(path).token(&house.session("ada")).json(&more).send().await;
    assert_eq!(described.status, StatusCode::FORBIDDEN);
    let wrong = json!({"columns": [{"column_name": ""}]});
    assert_eq!(root.post(path, &wrong).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(root.post("/api/admin/metadata/nothing", &more).await.status, StatusCode::NOT_FOUND);
    // The schema tells it, too.
    let schema =
        house.get("/api/v2/schema/orders").token(&house.session("ada")).send().await.json();
    let columns = schema["columns"].as_array().unwrap();
    let total = columns.iter().find(|column| column["name"] == "total").unwrap();
    assert_eq!(total["description"], "without tax");
}

#[tokio::test]
async fn users_choose_among_what_they_may_see() {
    let house = House::new();
    let ada = house.session("ada");
    let send = |method: Method, path: &'static str, body: Value| {
        house.ask(method, path).token(&ada).json(&body).send()
    };
    let choices = json!({"datasets": {"orders": true, "salaries": true, "nothing": false}});
    let updated = send(Method::POST, "/api/sync/settings", choices).await.json();
    let refused = json!({"error": "no permission"});
    assert_eq!(
        updated["updated"],
        json!({
            "orders": {"enabled": true}, "salaries": refused, "nothing": refused,
        })
    );
    let get = |path: &'static str| {
        let ask = house.get(path).token(&ada);
        async move { ask.send().await.json() }
    };
    let settings = get("/api/sync/settings").await;
    assert_eq!(settings["enabled_datasets"], json!(["orders"]));
    assert_eq!(settings["settings"][0]["table_mode"], "all");
    let explicit = json!({"table_mode": "explicit", "tables": {"orders": false, "salaries": true}});
    let done = send(Method::POST, "/api/sync/table-subscriptions", explicit).await.json();
    assert_eq!(done, json!({"table_mode": "explicit", "updated": 1, "refused": ["salaries"]}));
    let kept = get("/api/sync/table-subscriptions").await;
    assert_eq!(
        (&kept["table_mode"], &kept["subscriptions"][0]["enabled"]),
        (&json!("explicit"), &json!(false))
    );
    assert_eq!(kept["subscriptions"].as_array().unwrap().len(), 1);
    let wrong = json!({"table_mode": "some"});
    let wrong = send(Method::POST, "/api/sync/table-subscriptions", wrong).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let put = |dataset: &str| {
        send(Method::PUT, "/api/settings/dataset", json!({"dataset": dataset, "enabled": true}))
    };
    assert_eq!(put("orders").await.json(), json!({"dataset": "orders", "enabled": true}));
    for hidden in ["salaries", "nothing", "no table"] {
        assert_eq!(put(hidden).await.status, StatusCode::FORBIDDEN, "{hidden}");
    }
    let all = get("/api/settings").await;
    assert_eq!(all["sync_settings"][0]["enabled"], true);
    assert_eq!(all["permissions"], json!([]));
    // What she may see no more isn't told either.
    let root = Root::new(&house);
    let grants = root.get("/api/admin/grants").await;
    let id = grants[0]["id"].as_str().unwrap().to_string();
    let gone = root.send(Method::DELETE, &format!("/api/admin/grants/{id}"), &json!({})).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(get("/api/settings").await["sync_settings"], json!([]));
}

#[tokio::test]
async fn the_configuration_is_shown_without_secrets_and_changed_with_care() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::in_folder(folder.path(), folder.path().join("state"));
    std::fs::write(
        &files.instance,
        "instance: {name: Sales}\nemail: {smtp_host: a, smtp_password: hunter2}\n",
    )
    .unwrap();
    let configuration = Configuration {
        files: files.clone(),
        variables: Arc::new(|_| None),
        fits: Arc::new(|_| Ok(())),
    };
    let settings = ServerSettings {
        rate_limits: false,
        configuration: Some(configuration),
        ..ServerSettings::default()
    };
    let house = House::with(settings);
    let root = Root::new(&house);
    let path = "/api/admin/server-config";
    let shown = root.get(path).await;
    assert!(!shown.to_string().contains("hunter2"));
    assert_eq!(shown["sections"]["email"]["smtp_password"], "***");
    let change = |sections: Value, confirm: bool| {
        let body = json!({"sections": sections, "confirm_danger": confirm});
        let root = &root;
        async move { root.post(path, &body).await }
    };
    let done =
        change(json!({"instance": {"name": "More"}, "email": {"smtp_password": "***"}}), false);
    let done = done.await;
    assert_eq!(
        done.json(),
        json!({"status": "ok", "updated": ["instance.name"], "restart_required": true})
    );
    for (sections, confirm, status) in [
        (json!({"server": {"port": 1}}), false, 400),
        (json!({"server": {"port": 1}}), true, 200),
        (json!({"server": {"port": "x"}}), true, 400),
        (json!({"sources": {"a": {"command": ["sh"]}}}), true, 400),
        (json!({"attach": []}), true, 400),
        (json!({"nothing": {}}), true, 400),
    ] {
        let answer = change(sections.clone(), confirm).await;
        assert_eq!(answer.status.as_u16(), status, "{sections}: {}", answer.detail());
    }
    let configured = json!({"data_source": "local", "instance_name": "Most"});
    let configured = root.post("/api/admin/configure", &configured).await;
    assert_eq!(configured.json()["connection"], "not_needed");
    assert_eq!(root.get(path).await["sections"]["instance"]["name"], "Most");
    for (body, status) in [
        (json!({"data_source": "keboola", "keboola_url": "https://127.0.0.1/"}), 400),
        (json!({"data_source": "keboola", "keboola_url": "http://example.com/"}), 400),
        (json!({"data_source": "keboola", "keboola_url": "https://localhost/"}), 400),
        (json!({"data_source": "keboola", "keboola_url": "https://[::ffff:10.0.0.1]/"}), 400),
        (json!({"data_source": "bigquery"}), 501),
        (json!({"data_source": "other"}), 422),
        (json!({}), 422),
    ] {
        let answer = root.post("/api/admin/configure", &body).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.detail());
    }
    std::fs::write(files.state_dir.join("instance.yaml"), "a: [").unwrap();
    let lost = change(json!({"theme": {"color": "red"}}), false).await;
    assert_eq!(lost.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(lost.detail().contains("mend or remove it"), "{}", lost.detail());
    // A service that has none says so.
    let house = House::new();
    assert_eq!(
        Root::new(&house).post(path, &json!({"sections": {}})).await.status,
        StatusCode::CONFLICT
    );
}

#[tokio::test]
async fn a_file_becomes_a_table() {
    let house = House::new();
    let root = Root::new(&house);
    let upload =
        |name: &str, text: &str| house.upload("/api/upload/tables", &root.token, form(name, text));
    let made = upload("../Q3 plans.csv", "id,what\n1,more\n2,less\n").await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.detail());
    assert_eq!((&made.json()["table"], &made.json()["rows"]), (&json!("q3_plans"), &json!(2)));
    let count = json!({"sql": "SELECT count(*) FROM q3_plans"});
    assert_eq!(root.post("/api/query", &count).await.json()["rows"], json!([[2]]));
    // Another one stands beside it; the same name is replaced.
    assert_eq!(upload("other.csv", "id\n1\n").await.status, StatusCode::OK);
    assert_eq!(upload("Q3 plans.csv", "id,what\n1,more\n").await.status, StatusCode::OK);
    assert_eq!(root.post("/api/query", &count).await.json()["rows"], json!([[1]]));
    for (name, text, status) in [
        ("q3_plans.csv", "id,what\n1,more\n2\n3,a,b,c\n", 400),
        ("picture.png", "x", 400),
        ("nothing.parquet", "PAR1 and no more", 400),
        ("empty.csv", "", 400),
        // Orders are another source's.
        ("orders.csv", "id\n1\n", 409),
    ] {
        let answer = upload(name, text).await;
        assert_eq!(answer.status.as_u16(), status, "{name}: {}", answer.detail());
        let told = answer.detail();
        assert!(!told.contains("inbox") && !told.contains("/tmp"), "{told}");
    }
    assert_eq!(root.post("/api/query", &count).await.json()["rows"], json!([[1]]));
    let orders = json!({"sql": "SELECT count(*) FROM orders"});
    assert_eq!(root.post("/api/query", &orders).await.json()["rows"], json!([[3]]));
    let ada = house.session("ada");
    let hers = house.upload("/api/upload/tables", &ada, form("x.csv", "id\n1\n")).await;
    assert_eq!(hers.status, StatusCode::FORBIDDEN);
    // The name is the one that the connector gives, whatever dots there are.
    house.publish("plans_next", "id\n1\n2\n");
    let dotted = upload("plans.next.csv", "id\n1\n").await;
    assert_eq!(dotted.status, StatusCode::CONFLICT, "{}", dotted.detail());
    assert!(!house.path("data/extracts/files/data/plans_next.parquet").exists());
    // What was refused isn't published later, either.
    let removed = root.send(Method::DELETE, "/api/admin/registry/orders", &json!({})).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    assert_eq!(upload("another.csv", "id\n1\n").await.status, StatusCode::OK);
    assert_eq!(root.post("/api/query", &orders).await.status, StatusCode::BAD_REQUEST);
    let inbox = std::fs::read_dir(house.path("data/inbox")).unwrap().count();
    assert_eq!(inbox, 0, "what was uploaded isn't left about");
}

#[tokio::test]
async fn metrics_come_from_a_file_and_under_their_older_address() {
    let house = House::new();
    let root = Root::new(&house);
    let import = |text: &str| {
        house.upload("/api/admin/metrics/import", &root.token, form("metrics.yml", text))
    };
    let text =
        "- {name: revenue, category: sales, table: orders, sql: SELECT sum(total) FROM orders}\n";
    let done = import(text).await;
    assert_eq!(done.json(), json!({"status": "imported", "count": 1}), "{}", done.detail());
    for wrong in ["", "[]", "- {name: x}", "a: [", "\u{0}"] {
        assert_eq!(import(wrong).await.status, StatusCode::BAD_REQUEST, "{wrong:?}");
    }
    let old = house.get("/api/catalog/metrics/sales/revenue.yml").token(&root.token).send().await;
    assert_eq!(old.status, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(old.header("location"), "/api/metrics/sales/revenue");
    assert_eq!(root.get(old.header("location")).await["name"], "revenue");
    let odd = house.get("/api/catalog/metrics/%2F%2Fevil/x").token(&root.token).send().await;
    assert!(odd.header("location").starts_with("/api/metrics/"), "{}", odd.header("location"));
}

#[tokio::test]
async fn the_warm_up_is_run_and_watched() {
    let house = House::new();
    let root = Root::new(&house);
    assert_eq!(root.get("/api/admin/cache-warmup/status").await["status"], "idle");
    let begun = root.post("/api/admin/cache-warmup/run", &json!({})).await;
    assert_eq!(begun.status, StatusCode::OK);
    let watched = house.get("/api/admin/cache-warmup/stream").token(&root.token).send().await;
    assert_eq!(watched.header("content-type"), "text/event-stream");
    let events = String::from_utf8(watched.body.to_vec()).unwrap();
    assert!(events.starts_with("data: {\"status\":"), "{events}");
    for _ in 0..200 {
        let now = root.get("/api/admin/cache-warmup/status").await;
        if now["status"] == "done" {
            assert_eq!(now["last"]["total"], 0);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never ends");
}

#[tokio::test]
async fn jira_is_heard_when_it_signs() {
    use agnes_core::Secret;
    let house = House::new();
    let health = house.get("/webhooks/jira/health").send().await.json();
    assert_eq!(health["status"], "not_configured");
    for path in ["/webhooks/jira", "/api/jira/webhook"] {
        let answer = house.post(path).text("{}").send().await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
    let settings = ServerSettings {
        jira_webhook_secret: Some(Secret::new("Jefe")),
        rate_limits: false,
        ..ServerSettings::default()
    };
    let house = House::with(settings);
    let signed = |body: &'static str, signature: &'static str| {
        let ask = house.post("/webhooks/jira").header("x-hub-signature-256", signature);
        ask.text(body).send()
    };
    let unsigned = house.post("/webhooks/jira").text("{}").send().await;
    assert_eq!(unsigned.status, StatusCode::UNAUTHORIZED);
    let right = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let no_json = signed("what do ya want for nothing?", right).await;
    assert_eq!(no_json.status, StatusCode::BAD_REQUEST);
}
