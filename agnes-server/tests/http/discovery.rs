//! What a caller discovers.

use axum::http::StatusCode;
use serde_json::json;

use crate::house::House;

#[tokio::test]
async fn a_caller_discovers_what_she_may_see_and_nothing_else() {
    let house = House::new();
    let (root, ada, eve) = (house.session("root"), house.token("ada"), house.session("eve"));
    for path in ["/api/catalog/tables", "/api/v2/catalog?refresh=0"] {
        let tables = async |token: &str| {
            let answer = house.get(path).token(token).send().await.json();
            let tables = answer["tables"].as_array().unwrap().iter();
            tables.map(|table| table["id"].as_str().unwrap().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(tables(&root).await, ["orders", "salaries"]);
        assert_eq!(tables(&ada).await, ["orders"]);
        assert_eq!(tables(&eve).await, Vec::<String>::new());
    }
    for path in ["/api/v2/schema", "/api/v2/sample", "/api/catalog/profile"] {
        let ask = |table: &str| house.get(&format!("{path}/{table}")).token(&ada);
        assert_eq!(ask("orders").send().await.status, StatusCode::OK, "{path}");
        let (hidden, absent) = (ask("salaries").send().await, ask("nothing1").send().await);
        assert_eq!(hidden.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(hidden.detail().replace("salaries", "nothing1"), absent.detail(), "{path}");
        let none = house.get(&format!("{path}/nothing1")).token(&root).send().await;
        assert_eq!(none.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn columns_and_rows_of_a_table() {
    let house = House::new();
    let ada = house.token("ada");
    let schema = house.get("/api/v2/schema/orders").token(&ada).send().await;
    let told = schema.json();
    assert_eq!((&told["sql_flavor"], &told["source_type"]), (&json!("duckdb"), &json!("local")));
    assert_eq!(
        told["columns"][1],
        json!({"name": "total", "type": "DOUBLE", "nullable": true, "description": null})
    );
    let known = house.get("/api/v2/schema/orders").token(&ada);
    let known = known.header("if-none-match", schema.header("etag")).send().await;
    assert_eq!(known.status, StatusCode::NOT_MODIFIED);
    let sample = house.get("/api/v2/sample/orders?n=2").token(&ada).send().await.json();
    assert_eq!(sample["rows"], json!([{"id": 1, "total": 9.5}, {"id": 2, "total": 20.0}]));
    let odd = "a,b\nnan,1\ninf,2\n";
    house.publish("odd", odd);
    let root = house.session("root");
    let sample = house.get("/api/v2/sample/odd").token(&root).send().await.json();
    assert_eq!(sample["rows"][0]["b"], 1, "{sample}");
    // A grant that is taken back takes what was cached with it.
    let access = house.app_access();
    let admin = access.admin(&agnes_core::access::Principal::Operator).unwrap();
    admin.revoke(&admin.grants()[0].grant.id).unwrap();
    let gone = house.get("/api/v2/schema/orders").token(&ada);
    let gone = gone.header("if-none-match", schema.header("etag")).send().await;
    assert_eq!(gone.status, StatusCode::FORBIDDEN);
}
