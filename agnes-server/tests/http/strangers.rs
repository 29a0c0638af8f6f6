//! What strangers and curious users try. The first admin, links and their pages, redirects, forged
//! addresses and other sites' pages have their places in `auth` and `links`, addresses that lead
//! inside in `admin`.

use std::os::unix::fs::PermissionsExt as _;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::house::{House, PASSWORD, address};

#[tokio::test]
async fn only_what_has_to_be_answers_nobody() {
    let house = House::new();
    for path in ["/api/sync/status", "/docs", "/api/welcome", "/api/v2/metadata-cache/status"] {
        assert_eq!(house.get(path).send().await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    // What anybody hears names no table, user or path.
    for path in ["/api/health", "/api/version", "/cli/latest", "/login", "/api/openapi.json"] {
        let told = house.get(path).send().await;
        assert_eq!(told.status, StatusCode::OK, "{path}");
        let told = String::from_utf8(told.body.to_vec()).unwrap();
        for secret in ["salaries", "root@", house.path("data").to_str().unwrap()] {
            assert!(!told.contains(secret), "{path}: {secret}");
        }
    }
}

#[tokio::test]
async fn a_name_ends_where_it_ends() {
    let house = House::new();
    let root = house.session("root");
    for (path, body) in [
        ("/api/users", json!({"email": "mallory@example.com\n"})),
        ("/api/users", json!({"email": "mallory@example.com\r\nBcc: eve@example.com"})),
        ("/api/admin/groups", json!({"name": "sales\n"})),
        ("/api/admin/register-table", json!({"name": "orders2\n"})),
        ("/api/admin/tables/orders2%0A", json!({"name": "orders2"})),
        ("/api/v2/scan", json!({"table_id": "orders", "select": ["total\n"]})),
        ("/api/v2/scan", json!({"table_id": "orders", "order_by": ["total\n"]})),
    ] {
        let answer = house.post(path).token(&root).json(&body).send().await;
        assert!([400, 422].contains(&answer.status.as_u16()), "{path} {body}: {}", answer.status);
    }
    for path in [
        "/api/data/orders%0A/download",
        "/api/v2/schema/orders%0A",
        "/api/data/orders%00/check-access",
    ] {
        let answer = house.get(path).token(&root).send().await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn nothing_about_a_hidden_table_is_told_anywhere() {
    let house = House::new();
    let root = house.session("root");
    let metric = json!({
        "id": "pay/total", "name": "total", "display_name": "Pay", "category": "pay",
        "sql": "SELECT sum(salary) FROM salaries", "tables": ["salaries"],
    });
    house.post("/api/admin/metrics").token(&root).json(&metric).send().await;
    let far = json!({"name": "payroll_far", "query_mode": "remote", "source": "salaries"});
    house.post("/api/admin/register-table").token(&root).json(&far).send().await;
    let notes = json!({"columns": [{"column_name": "salary", "description": "what they earn"}]});
    house.post("/api/admin/metadata/salaries").token(&root).json(&notes).send().await;
    let ada = house.session("ada");
    for path in [
        "/api/catalog/tables",
        "/api/v2/catalog",
        "/api/sync/manifest",
        "/api/v2/metadata-cache/status",
        "/api/metrics",
        "/api/metrics/pay/total",
        "/api/welcome",
        "/api/me/effective-access",
        "/api/settings",
        "/api/sync/settings",
        "/api/sync/table-subscriptions",
        "/api/health/detailed?include=schema",
        "/dashboard",
        "/api/catalog/profile/salaries",
        "/api/v2/schema/salaries",
        "/api/v2/sample/salaries",
        "/api/admin/metadata/salaries",
        "/api/data/salaries/download",
    ] {
        let told = house.get(path).token(&ada).send().await;
        let told = String::from_utf8(told.body.to_vec()).unwrap();
        for hidden in ["salary", "earn", "payroll", "31337"] {
            assert!(!told.contains(hidden), "{path} tells {hidden}: {told}");
        }
    }
    let body = json!({"table_id": "salaries"});
    let nothing = json!({"table_id": "nothing"});
    for path in ["/api/v2/scan", "/api/v2/scan/estimate"] {
        let hidden = house.post(path).token(&ada).json(&body).send().await;
        let absent = house.post(path).token(&ada).json(&nothing).send().await;
        assert_eq!(hidden.status, absent.status, "{path}");
    }
}

#[tokio::test]
async fn a_public_mark_shows_nobody_anything() {
    let house = House::new();
    let root = house.session("root");
    let made = json!({"name": "plans", "source": "salaries"});
    house.post("/api/admin/register-table").token(&root).json(&made).send().await;
    let row = |tables: &Value, id: &str| {
        let rows = tables["tables"].as_array().unwrap();
        rows.iter().find(|row| row["id"] == id).cloned().unwrap()
    };
    let tables = house.get("/api/admin/registry").token(&root).send().await.json();
    assert_eq!(row(&tables, "plans")["is_public"], false);
    let public = json!({"is_public": true});
    let ask = house.ask(Method::PUT, "/api/admin/registry/salaries").token(&root);
    assert_eq!(ask.json(&public).send().await.status, StatusCode::OK);
    let eve = house.session("eve");
    assert_eq!(house.get("/api/catalog/tables").token(&eve).send().await.json()["count"], 0);
    let download = house.get("/api/data/salaries/download").token(&eve).send().await;
    assert_eq!(download.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn secrets_at_rest_are_the_owner_s() {
    let house = House::new();
    let ada = house.session("ada");
    house.get("/auth/me").token(&ada).send().await;
    let notes = json!({"content": "mine"});
    house.post("/api/upload/local-md").token(&ada).json(&notes).send().await;
    let state = house.path("data/state");
    for file in ["system.duckdb", "system.duckdb.wal"] {
        if let Ok(file) = std::fs::metadata(state.join(file)) {
            assert_eq!(file.permissions().mode() & 0o077, 0);
        }
    }
    assert!(state.join("system.duckdb").exists());
    let notes = std::fs::metadata(house.path("data/user_local_md")).unwrap();
    assert_eq!(notes.permissions().mode() & 0o077, 0);
    // No hash of a password, no token of a link, no token of a user is in any answer.
    let root = house.session("root");
    for path in ["/api/users", "/auth/admin/tokens", "/auth/me"] {
        let told = house.get(path).token(&root).send().await;
        let told = String::from_utf8(told.body.to_vec()).unwrap();
        for secret in ["argon2", "hash", PASSWORD, "eyJ"] {
            assert!(!told.contains(secret), "{path} tells {secret}");
        }
    }
}

#[tokio::test]
async fn nothing_that_runs_what_it_is_sent_is_there() {
    let house = House::new();
    let root = house.session("root");
    for path in [
        "/api/scripts/run",
        "/api/scripts/deploy",
        "/api/telegram/verify",
        "/api/admin/run-session-collector",
    ] {
        let answer = house.post(path).token(&root).json(&json!({"source": "1", "code": "1"}));
        assert_eq!(answer.send().await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_deactivated_user_and_a_new_password_end_everything() {
    let house = House::new();
    let root = house.session("root");
    let users = house.get("/api/users").token(&root).send().await.json();
    let id = |name: &str| {
        let users = users.as_array().unwrap();
        let user = users.iter().find(|user| user["email"] == address(name)).unwrap();
        user["id"].as_str().unwrap().to_string()
    };
    let (session, token) = (house.session("ada"), house.token("ada"));
    let path = format!("/api/users/{}/set-password", id("ada"));
    let set = house.post(&path).token(&root).json(&json!({"password": "another one"}));
    assert_eq!(set.send().await.status, StatusCode::NO_CONTENT);
    let query = json!({"sql": "FROM orders"});
    let ask = |token: &str| house.post("/api/query").token(token).json(&query).send();
    assert_eq!(ask(&session).await.status, StatusCode::UNAUTHORIZED);
    // A token was given out for itself.
    assert_eq!(ask(&token).await.status, StatusCode::OK);
    let session = house.session("ada");
    let path = format!("/api/users/{}/deactivate", id("ada"));
    assert_eq!(house.post(&path).token(&root).send().await.status, StatusCode::OK);
    assert_eq!(ask(&token).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&session).await.status, StatusCode::UNAUTHORIZED);
}
