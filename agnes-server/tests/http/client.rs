//! What the reference's own command sends, request by request and in its order.

use agnes_core::arrow::ipc::reader::StreamReader;
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use crate::house::{Answer, House, PASSWORD};

/// What a client sends with everything: it takes packed answers.
async fn get(house: &House, path: &str, token: &str) -> Answer {
    house.get(path).token(token).header("accept-encoding", "identity").send().await
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn an_analyst_sets_up_her_machine_and_works() {
    let house = House::new();
    // auth login
    let login = json!({"email": "ada@example.com", "password": PASSWORD});
    let session = house.post("/auth/token").json(&login).send().await.json();
    assert_eq!(keys(&session), ["access_token", "email", "role", "token_type", "user_id"]);
    let session = session["access_token"].as_str().unwrap().to_string();
    // auth token create, list
    let create = json!({"name": "laptop", "expires_in_days": 90});
    let made = house.post("/auth/tokens").token(&session).json(&create).send().await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(keys(&made.json()), ["created_at", "expires_at", "id", "name", "prefix", "token"]);
    let token = made.json()["token"].as_str().unwrap().to_string();
    let list = get(&house, "/auth/tokens", &token).await.json();
    for key in ["id", "name", "prefix", "created_at", "expires_at", "last_used_at", "revoked_at"] {
        assert!(list[0].get(key).is_some(), "{key}");
    }
    // It reads the address out of the token, without the key.
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((&claims["email"], claims["exp"].is_number()), (&json!("ada@example.com"), true));
    // auth import-token
    let tables = get(&house, "/api/catalog/tables", &token).await;
    assert_eq!(tables.status, StatusCode::OK);
    assert_eq!(
        keys(&tables.json()["tables"][0]),
        ["description", "id", "name", "query_mode", "source_type", "sync_strategy"]
    );
    assert_eq!(
        get(&house, "/api/catalog/tables", "no token").await.status,
        StatusCode::UNAUTHORIZED
    );
    // init
    let welcome =
        get(&house, "/api/welcome?server_url=https%3A%2F%2Fdata.example.com", &token).await;
    let content = welcome.json()["content"].as_str().unwrap().to_string();
    assert!(content.contains("AI Data Analyst") && content.contains("https://data.example.com"));
    assert!(content.contains("`orders`") && !content.contains("salaries"), "{content}");
    // pull
    let manifest = get(&house, "/api/sync/manifest", &token).await.json();
    assert_eq!(keys(&manifest), ["assets", "server_time", "tables"]);
    for (name, entry) in manifest["tables"].as_object().unwrap() {
        for key in ["hash", "updated", "size_bytes", "rows", "query_mode", "source_type"] {
            assert!(entry.get(key).is_some(), "{key}");
        }
        let path = format!("/api/data/{name}/download");
        let head = house.ask(Method::HEAD, &path).token(&token).send().await;
        assert_eq!((head.status, head.header("accept-ranges")), (StatusCode::OK, "bytes"));
        let size: usize = head.header("content-length").parse().unwrap();
        let probe = house.get(&path).token(&token).header("range", "bytes=0-0").send().await;
        assert_eq!(probe.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(probe.header("content-range"), format!("bytes 0-0/{size}"));
        // Four ranges side by side.
        let mut whole = Vec::new();
        for part in 0..4 {
            let (from, to) = (size * part / 4, size * (part + 1) / 4 - 1);
            let range = format!("bytes={from}-{to}");
            let part = house.get(&path).token(&token).header("range", &range);
            let part = part.header("accept-encoding", "gzip, deflate").send().await;
            assert_eq!(
                (part.status, part.header("content-encoding")),
                (StatusCode::PARTIAL_CONTENT, "")
            );
            whole.extend_from_slice(&part.body);
        }
        let hash: String = Md5::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(entry["hash"], hash);
    }
    let bundle = get(&house, "/api/memory/bundle", &token).await.json();
    assert_eq!(
        bundle,
        json!({"mandatory": [], "approved": [], "token_estimate": 0, "token_budget": 6000})
    );
    // catalog
    let catalog = get(&house, "/api/v2/catalog?refresh=0", &token).await.json();
    assert_eq!(
        keys(&catalog["tables"][0]),
        [
            "clustered_by",
            "description",
            "entity_type",
            "fetch_via",
            "id",
            "metadata_freshness",
            "name",
            "partition_by",
            "query_mode",
            "rough_size_hint",
            "rows",
            "size_bytes",
            "source_type",
            "sql_flavor",
            "where_examples"
        ]
    );
    assert_eq!(
        get(&house, "/api/metrics", &token).await.json(),
        json!({"metrics": [], "count": 0})
    );
    // query --remote
    let ask = |sql: &str| {
        let body = json!({"sql": sql, "limit": 1000});
        house.post("/api/query").token(&token).json(&body).send()
    };
    assert_eq!(
        keys(&ask("SELECT * FROM orders").await.json()),
        ["columns", "row_count", "rows", "truncated"]
    );
    assert_eq!(ask("SELECT * FROM salaries").await.status, StatusCode::FORBIDDEN);
    assert_eq!(ask("SELECT 1; SELECT 2").await.status, StatusCode::BAD_REQUEST);
    // schema, describe
    let schema = get(&house, "/api/v2/schema/orders", &token).await.json();
    assert_eq!(
        keys(&schema),
        [
            "clustered_by",
            "columns",
            "partition_by",
            "source_type",
            "sql_flavor",
            "table_id",
            "where_dialect_hints"
        ]
    );
    let sample = get(&house, "/api/v2/sample/orders?n=5", &token).await.json();
    assert_eq!(
        (keys(&sample), sample["rows"].as_array().unwrap().len()),
        (vec!["rows", "source", "table_id"], 3)
    );
    // snapshot
    let scan = json!({"table_id": "orders", "select": ["id"], "where": "total > 1", "limit": 10, "order_by": ["id desc"]});
    let estimate =
        house.post("/api/v2/scan/estimate").token(&token).json(&scan).send().await.json();
    assert_eq!(
        estimate,
        json!({"table_id": "orders", "estimated_scan_bytes": 0, "estimated_result_rows": null,
               "estimated_result_bytes": null, "bq_cost_estimate_usd": 0.0})
    );
    let rows = house.post("/api/v2/scan").token(&token).json(&scan).send().await;
    assert_eq!(rows.header("content-type"), "application/vnd.apache.arrow.stream");
    let reader = StreamReader::try_new(rows.body.as_ref(), None).unwrap();
    assert_eq!(reader.schema().fields().len(), 1);
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
    for (path, change, status, kind) in [
        ("where", json!("id IN (SELECT 1)"), 400, "nested_select"),
        ("where", json!("id = 1 LIMIT 1"), 400, "disallowed_node"),
        ("where", json!("nothing1 = 1"), 400, "unknown_column"),
        ("table_id", json!("salaries"), 403, ""),
        ("table_id", json!("nothing1"), 403, ""),
        ("limit", json!(0), 422, ""),
        ("limit", json!(10_000_001), 400, ""),
        ("order_by", json!(["id; DROP"]), 400, ""),
        ("select", json!(["a b"]), 400, ""),
    ] {
        let mut wrong = scan.clone();
        wrong[path] = change;
        for route in ["/api/v2/scan", "/api/v2/scan/estimate"] {
            let answer = house.post(route).token(&token).json(&wrong).send().await;
            assert_eq!(answer.status.as_u16(), status, "{wrong}: {}", answer.detail());
            if !kind.is_empty() {
                let detail = &answer.json()["detail"];
                assert_eq!(
                    (&detail["error"], &detail["kind"]),
                    (&json!("validator_rejected"), &json!(kind))
                );
            }
        }
    }
    // push
    let notes = json!({"content": "remember"});
    let kept = house.post("/api/upload/local-md").token(&token).json(&notes).send().await;
    assert_eq!(kept.json(), json!({"status": "ok", "user": "ada@example.com", "size": 8}));
    // diagnose
    let health = house.get("/api/health").send().await.json();
    assert_eq!(keys(&health), ["current", "db_schema", "expected", "status"]);
    assert_eq!(health["status"], "ok");
    let detailed = get(&house, "/api/health/detailed", &token).await.json();
    for key in [
        "status",
        "version",
        "channel",
        "image_tag",
        "commit_sha",
        "schema_version",
        "deployed_at",
        "timestamp",
    ] {
        assert!(detailed.get(key).is_some(), "{key}");
    }
    for (name, service) in detailed["services"].as_object().unwrap() {
        assert!(service["status"].is_string(), "{name}");
    }
    // admin list-tables
    let refused = get(&house, "/api/admin/registry", &token).await;
    assert_eq!(
        (refused.status, refused.detail()),
        (StatusCode::FORBIDDEN, "Admin access required".into())
    );
    let registry = get(&house, "/api/admin/registry", &house.session("root")).await.json();
    assert_eq!((&registry["count"], &registry["tables"][0]["id"]), (&json!(2), &json!("orders")));
    let latest = house.get("/cli/latest").send().await.json();
    assert_eq!(latest, json!({"version": null, "wheel_filename": null, "download_url_path": null}));
}

#[tokio::test]
async fn files_are_uploaded_and_never_where_they_say() {
    let house = House::new();
    let ada = house.token("ada");
    let form = |name: &str, content: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n{content}\r\n--b--\r\n"
        )
    };
    for (name, kept) in [("a.jsonl", "a.jsonl"), ("../../../etc/passwd", "passwd")] {
        let answer = house.upload("/api/upload/sessions", &ada, form(name, "text")).await;
        assert_eq!(answer.json(), json!({"status": "ok", "filename": kept, "size": 4}), "{name}");
    }
    let hidden = house.upload("/api/upload/artifacts", &ada, form(".bashrc", "text")).await;
    assert!(hidden.json()["filename"].as_str().unwrap().starts_with("upload-"));
    let none = house.upload("/api/upload/artifacts", &ada, "--b--\r\n".to_string()).await;
    assert_eq!(none.status.as_u16(), 422);
    let large = house.upload("/api/upload/artifacts", &ada, form("x", &"x".repeat(52 << 20))).await;
    assert_eq!(large.status.as_u16(), 413);
    let notes = json!({"content": "x".repeat(3 << 20)});
    let kept = house.post("/api/upload/local-md").token(&ada).json(&notes).send().await;
    assert_eq!(kept.json()["size"], 3 << 20);
    let query = json!({"sql": "x".repeat(3 << 20)});
    let refused = house.post("/api/query").token(&ada).json(&query).send().await;
    assert_eq!(refused.status.as_u16(), 413);
}

#[tokio::test]
async fn metrics_are_defined_and_seen_by_who_may() {
    let house = House::new();
    let (root, ada, eve) = (house.session("root"), house.token("ada"), house.token("eve"));
    let revenue = json!({
        "id": "sales/revenue", "name": "revenue", "display_name": "Revenue", "category": "sales",
        "sql": "SELECT sum(total) AS revenue FROM orders", "unit": "EUR", "tables": ["orders"],
        "sql_variants": {"by_id": "SELECT id, total FROM orders"},
    });
    let defined = house.post("/api/admin/metrics").token(&root).json(&revenue).send().await;
    assert_eq!(defined.status, StatusCode::CREATED, "{}", defined.detail());
    assert_eq!(defined.json()["sql_variants"]["by_id"], "SELECT id, total FROM orders");
    let one = get(&house, "/api/metrics/sales/revenue", &ada).await.json();
    assert_eq!((&one["unit"], &one["type"]), (&json!("EUR"), &json!("sum")));
    assert_eq!(get(&house, "/api/metrics?category=sales", &ada).await.json()["count"], 1);
    assert_eq!(get(&house, "/api/metrics?category=other", &ada).await.json()["count"], 0);
    // Who may not see its table sees no metric.
    assert_eq!(get(&house, "/api/metrics", &eve).await.json()["count"], 0);
    assert_eq!(get(&house, "/api/metrics/sales/revenue", &eve).await.status, StatusCode::NOT_FOUND);
    for wrong in [
        json!({"id": "x/y"}),
        json!({"id": "other/revenue", "name": "revenue", "display_name": "R", "category": "sales", "sql": "x"}),
    ] {
        let answer = house.post("/api/admin/metrics").token(&root).json(&wrong).send().await;
        let status = answer.status.as_u16();
        assert!([400, 422].contains(&status), "{wrong}: {status}");
    }
    let gone =
        house.ask(Method::DELETE, "/api/admin/metrics/sales/revenue").token(&root).send().await;
    assert_eq!(gone.json(), json!({"status": "deleted", "id": "sales/revenue"}));
    assert_eq!(get(&house, "/api/metrics", &ada).await.json()["count"], 0);
}
