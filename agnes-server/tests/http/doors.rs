//! Who comes in where.

use agnes_server::{Guard, described};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::house::{House, SCHEDULER};

/// A path with something in the place of its parameters.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "orders" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[test]
fn every_route_and_its_guard() {
    let house = House::new();
    let (_, routes) = described(&house.app);
    let lines: Vec<String> =
        routes.iter().map(|(method, path, guard)| format!("{guard:?} {method} {path}")).collect();
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lines.sort_unstable();
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("routes", lines.join("\n"));
    });
}

#[tokio::test]
async fn a_guard_stands_before_every_route() {
    let house = House::new();
    let (api, routes) = described(&house.app);
    let api = serde_json::to_value(&api).unwrap();
    let (ada, ada_s_token) = (house.session("ada"), house.token("ada"));
    for (method, path, guard) in routes {
        // What OpenAPI says of it is what happens.
        let operation = &api["paths"][&path][method.to_lowercase()];
        assert_eq!(operation["security"].is_array(), guard != Guard::Public, "{method} {path}");
        let ask = || house.ask(method.parse::<Method>().unwrap(), &filled(&path));
        let nobody = ask().send().await.status;
        match guard {
            Guard::Public => assert_ne!(nobody, StatusCode::UNAUTHORIZED, "{method} {path}"),
            _ => {
                assert_eq!(nobody, StatusCode::UNAUTHORIZED, "{method} {path}");
                let wrong = ask().token("eyJhbGciOiJub25lIn0.e30.").send().await;
                assert_eq!(wrong.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            }
        }
        match guard {
            Guard::Admin => {
                for token in [&ada, &ada_s_token] {
                    let status = ask().token(token).send().await.status;
                    assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
                }
            }
            Guard::Session => {
                for token in [ada_s_token.as_str(), SCHEDULER] {
                    let status = ask().token(token).send().await.status;
                    assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
                }
            }
            Guard::User | Guard::Public => {}
        }
    }
}

#[tokio::test]
async fn errors_have_one_form() {
    let house = House::new();
    let ada = house.session("ada");
    for (answer, status, code) in [
        (house.get("/nowhere").send().await, 404, "NotFound"),
        (house.get("/api/query").token(&ada).send().await, 405, "Invalid"),
        (house.get("/api/sync/manifest").send().await, 401, "Unauthenticated"),
        (house.get("/api/data/salaries/download").token(&ada).send().await, 403, "Denied"),
        (house.get("/api/v2/sample/orders?n=0").token(&ada).send().await, 422, "Invalid"),
        (house.get("/api/v2/sample/orders?n=x").token(&ada).send().await, 422, "Invalid"),
        (house.post("/api/query").token(&ada).send().await, 422, "Invalid"),
        (house.post("/api/query").token(&ada).json(&json!([1])).send().await, 422, "Invalid"),
    ] {
        let body = answer.json();
        assert_eq!((answer.status.as_u16(), &body["code"]), (status, &code.into()), "{body}");
        assert_eq!(body["request_id"], answer.header("x-request-id"), "{body}");
        assert_eq!(body["detail"].is_array(), status == 422, "{body}");
        assert_eq!(answer.header("cache-control"), "no-store", "{body}");
    }
    let kept = house.get("/api/health").header("x-request-id", "from-the-proxy.1").send().await;
    assert_eq!(kept.header("x-request-id"), "from-the-proxy.1");
    let odd = house.get("/api/health").header("x-request-id", "a b\"").send().await;
    assert_eq!(odd.header("x-request-id").len(), 32);
}

#[tokio::test]
async fn the_description_is_the_one_that_is_committed() {
    let house = House::new();
    let api: Value = house.get("/api/openapi.json").send().await.json();
    let now = serde_json::to_string_pretty(&api).unwrap() + "\n";
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    #[allow(clippy::disallowed_methods)]
    // As for snapshots: read the difference before it is committed.
    let update = std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always");
    if update {
        std::fs::write(file, &now).unwrap();
    }
    let committed = std::fs::read_to_string(file).unwrap();
    assert!(now == committed, "docs/openapi.json is another one; INSTA_UPDATE=always writes it");
}

#[tokio::test]
async fn every_operation_has_a_name_of_its_own() {
    let house = House::new();
    let api = house.get("/api/openapi.json").send().await.json();
    let mut names = std::collections::BTreeSet::new();
    let mut operations = 0;
    for item in api["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let name = operation["operationId"].as_str().unwrap().to_string();
            assert!(names.insert(name.clone()), "two are called {name}");
            operations += 1;
        }
    }
    assert!(operations > 100);
}

#[tokio::test]
async fn the_page_of_the_api_needs_a_user_and_no_network() {
    let house = House::new();
    for path in ["/docs", "/docs/index.html", "/docs/swagger-ui-bundle.js"] {
        assert_eq!(house.get(path).send().await.status, StatusCode::UNAUTHORIZED, "{path}");
        let browser = house.get(path).header("accept", "text/html").send().await;
        assert_eq!(browser.status, StatusCode::FOUND, "{path}");
        assert!(browser.header("location").starts_with("/login?next=%2Fdocs"), "{path}");
    }
    let ada = house.session("ada");
    let page = house.get("/docs").token(&ada).send().await;
    assert_eq!(page.header("location"), "/docs/index.html");
    let index = house.get("/docs/index.html").token(&ada).send().await;
    let html = String::from_utf8(index.body.to_vec()).unwrap();
    assert!(!html.contains("//"), "{html}");
    let files: Vec<&str> = html.split(['"']).filter(|text| text.starts_with("./")).collect();
    assert!(files.len() >= 4, "{html}");
    for file in files {
        let path = format!("/docs/{}", &file[2..]);
        let file = house.get(&path).token(&ada).send().await;
        assert_eq!(file.status, StatusCode::OK, "{path}");
        assert!(file.header("content-security-policy").starts_with("default-src 'self';"));
    }
    let settings = house.get("/docs/swagger-initializer.js").token(&ada).send().await;
    let settings = String::from_utf8(settings.body.to_vec()).unwrap();
    assert!(settings.contains("\"../api/openapi.json\""), "{settings}");
    assert!(settings.contains("\"validatorUrl\": \"none\""), "{settings}");
    for file in ["..", "../Cargo.toml", "%2e%2e%2fCargo.toml", "nothing"] {
        let answer = house.get(&format!("/docs/{file}")).token(&ada).send().await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{file}");
    }
}
