//! Clocks that jump.

use axum::http::StatusCode;
use serde_json::json;

use super::house::House;

const DAY: i64 = 24 * 3600;

/// Whatever somebody may ask for.
const PATHS: [&str; 10] = [
    "/api/health",
    "/api/health/detailed?include=schema",
    "/api/catalog/tables",
    "/api/v2/catalog",
    "/api/sync/manifest",
    "/api/data/orders/check-access",
    "/api/data/orders/download",
    "/api/v2/schema/orders",
    "/auth/me",
    "/auth/tokens",
];

#[tokio::test]
async fn whatever_a_clock_does_everything_is_answered() {
    let house = House::new();
    for jump in [DAY, 10 * 365 * DAY, -10 * 365 * DAY, -2 * DAY, -40 * 365 * DAY, 80 * 365 * DAY] {
        house.clock.jump(jump);
        let session = house.session("ada");
        for path in PATHS {
            let answer = house.get(path).token(&session).send().await;
            assert_eq!(answer.status.as_u16() / 100, 2, "{path} after {jump} s");
        }
        let query = house.post("/api/query").token(&session);
        let query = query.json(&json!({"sql": "FROM orders"})).send().await;
        assert_eq!(query.json()["row_count"], 3);
        let scan = house.post("/api/v2/scan").token(&session);
        let scan = scan.json(&json!({"table_id": "orders"})).send().await;
        assert_eq!(scan.status, StatusCode::OK);
        let root = house.session("root");
        let metrics = house.get("/metrics").token(&root).send().await;
        assert_eq!(metrics.status, StatusCode::OK);
        let name = format!("after {jump}");
        let group = house.post("/api/admin/groups").token(&root).json(&json!({"name": name}));
        assert_eq!(group.send().await.status, StatusCode::CREATED);
    }
}

#[tokio::test]
async fn a_session_is_over_by_the_clock_of_now() {
    let house = House::new();
    let session = house.session("ada");
    let status = async || house.get("/auth/me").token(&session).send().await.status;
    house.clock.jump(23 * 3600);
    assert_eq!(status().await, StatusCode::OK);
    house.clock.jump(2 * 3600);
    assert_eq!(status().await, StatusCode::UNAUTHORIZED);
}
