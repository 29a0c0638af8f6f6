//! Signing in and out.

use agnes_core::access::Email;
use agnes_server::ServerSettings;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::house::{Answer, House, PASSWORD, address, cookie};

async fn token(house: &House, email: &str, password: &str) -> Answer {
    house.post("/auth/token").json(&json!({"email": email, "password": password})).send().await
}

#[tokio::test]
async fn a_password_gives_a_session_and_everything_else_one_answer() {
    let house = House::new();
    let ada = token(&house, "Ada@Example.com", PASSWORD).await;
    let told = ada.json();
    assert_eq!(
        (&told["token_type"], &told["email"], &told["role"]),
        (&json!("bearer"), &json!("ada@example.com"), &json!("user"))
    );
    assert_eq!(ada.header("cache-control"), "no-store");
    let me = house.get("/auth/me").token(told["access_token"].as_str().unwrap()).send().await;
    assert_eq!(
        (me.json()["email"].as_str(), &me.json()["is_admin"]),
        (Some("ada@example.com"), &json!(false))
    );
    assert_eq!(token(&house, "root@example.com", PASSWORD).await.json()["role"], "admin");
    let mut wrong = Vec::new();
    for (email, password) in [
        ("ada@example.com", "wrong"),
        ("nobody@example.com", PASSWORD),
        ("no address", PASSWORD),
        ("", ""),
    ] {
        let answer = token(&house, email, password).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{email}");
        wrong.push(answer.detail());
    }
    wrong.dedup();
    assert_eq!(wrong, ["Invalid email or password"]);
}

#[tokio::test]
async fn the_first_admin_closes_the_door_behind_her() {
    let house = House::empty(ServerSettings { rate_limits: false, ..ServerSettings::default() });
    let bootstrap = |body: Value| house.post("/auth/bootstrap").json(&body).send();
    let short = bootstrap(json!({"email": "a@b.c", "password": "short"})).await;
    assert_eq!(short.status, StatusCode::BAD_REQUEST);
    // Without a password it closes as well.
    let first = bootstrap(json!({"email": "first@example.com", "name": "First"})).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.detail());
    assert_eq!(first.json()["role"], "admin");
    let second = bootstrap(json!({"email": "second@example.com", "password": PASSWORD})).await;
    assert_eq!(second.status, StatusCode::FORBIDDEN);
    let again = bootstrap(json!({"email": "first@example.com", "password": PASSWORD})).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn nobody_takes_over_an_account_by_being_the_first_to_ask() {
    let house = House::empty(ServerSettings { rate_limits: false, ..ServerSettings::default() });
    let access = house.app_access();
    let admin = access.admin(&agnes_core::access::Principal::Operator).unwrap();
    let ada = admin.add_user(Email::parse(address("ada")).unwrap(), None).unwrap();
    let taken = json!({"email": address("ada"), "password": PASSWORD});
    let taken = house.post("/auth/bootstrap").json(&taken).send().await;
    assert_eq!(taken.status, StatusCode::FORBIDDEN, "{}", taken.detail());
    assert!(!admin.user(&ada.id).unwrap().is_admin);
    assert_eq!(token(&house, &address("ada"), PASSWORD).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_cookie_is_no_key_for_other_sites_pages() {
    let house = House::new();
    let credentials = json!({"email": address("ada"), "password": PASSWORD});
    let signed_in = house.post("/auth/password/login").json(&credentials).send().await;
    let set = signed_in.header("set-cookie").to_string();
    for part in ["access_token=", "HttpOnly", "SameSite=Lax", "Max-Age=86400", "Path=/"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Secure"), "{set}");
    let cookie = cookie(&signed_in);
    assert_eq!(house.get("/auth/me").header("cookie", &cookie).send().await.status, StatusCode::OK);
    let query = json!({"sql": "FROM orders"});
    for (headers, status) in [
        (vec![], 200),
        (vec![("sec-fetch-site", "same-origin")], 200),
        (vec![("sec-fetch-site", "none")], 200),
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![("sec-fetch-site", "same-site")], 403),
        (vec![("origin", "https://data.example.com"), ("host", "data.example.com")], 200),
        (vec![("origin", "https://evil.example"), ("host", "data.example.com")], 403),
        (vec![("origin", "null"), ("host", "data.example.com")], 403),
    ] {
        let mut ask = house.post("/api/query").header("cookie", &cookie);
        for (name, value) in &headers {
            ask = ask.header(name, value);
        }
        let answer = ask.json(&query).send().await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}");
    }
    // Nor may they sign her in as somebody else.
    let login = house.post("/auth/password/login").header("sec-fetch-site", "cross-site");
    assert_eq!(login.json(&credentials).send().await.status, StatusCode::FORBIDDEN);
    let app = "https://app.example.com";
    let open = House::with(ServerSettings {
        cors_origins: vec![app.to_string()],
        ..ServerSettings::default()
    });
    let listed = open.post("/auth/token").header("sec-fetch-site", "cross-site");
    let listed = listed.header("origin", app).json(&credentials).send().await;
    assert_eq!(
        (listed.status, listed.header("access-control-allow-origin")),
        (StatusCode::OK, app)
    );
    // A token is one wherever it comes from.
    let cross = house.post("/api/query").token(&house.session("ada"));
    let cross = cross.header("sec-fetch-site", "cross-site").json(&query).send().await;
    assert_eq!(cross.status, StatusCode::OK);
    let out = house.post("/auth/logout").header("cookie", &cookie).send().await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert!(out.header("set-cookie").contains("Max-Age=0"), "{}", out.header("set-cookie"));
    let secure = House::with(ServerSettings { secure_cookies: true, ..ServerSettings::default() });
    let signed_in = secure.post("/auth/password/login").json(&credentials).send().await;
    assert!(signed_in.header("set-cookie").contains("Secure"));
}

#[tokio::test]
async fn the_developers_mode_answers_no_page_of_another_name() {
    let dev_user = Some(Email::parse(address("root")).unwrap());
    let house = House::with(ServerSettings { dev_user, ..ServerSettings::default() });
    for (host, status) in [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("rebound.example.com:8000", 401),
        ("localhost.example.com", 401),
        ("", 401),
    ] {
        let me = house.get("/auth/me").header("host", host).send().await;
        assert_eq!(me.status.as_u16(), status, "{host}");
    }
    // Not the routes that take no user, either: a link would come back.
    let rebound = house.post("/auth/email/send-link").header("host", "rebound.example.com");
    let rebound = rebound.json(&json!({"email": address("root")})).send().await;
    assert_eq!(rebound.status, StatusCode::UNAUTHORIZED);
    let cross = house.post("/api/query").header("host", "localhost");
    let cross = cross.header("sec-fetch-site", "cross-site").json(&json!({"sql": "SELECT 1"}));
    assert_eq!(cross.send().await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn attempts_are_counted_by_address() {
    let trusted = vec!["127.0.0.1/32".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
    let house =
        House::with(ServerSettings { trusted_proxies: trusted, ..ServerSettings::default() });
    let ask = |from: &str| {
        house
            .post("/auth/bootstrap")
            .header("x-forwarded-for", from)
            .json(&json!({"email": "x@example.com"}))
            .send()
    };
    for _ in 0..3 {
        assert_eq!(ask("203.0.113.5").await.status, StatusCode::FORBIDDEN);
    }
    let over = ask("203.0.113.5").await;
    assert_eq!((over.status.as_u16(), over.header("retry-after")), (429, "60"));
    // What a client says before its first honest proxy counts for nothing.
    assert_eq!(ask("198.51.100.9, 203.0.113.5, 10.0.0.7").await.status.as_u16(), 429);
    assert_eq!(ask("203.0.113.6").await.status, StatusCode::FORBIDDEN);
    let wary = House::with(ServerSettings::default());
    for at in 0..4 {
        let ask = wary
            .post("/auth/bootstrap")
            .header("x-forwarded-for", &format!("203.0.113.{at}"))
            .json(&json!({"email": "x@example.com"}));
        let status = ask.send().await.status.as_u16();
        assert_eq!(status, if at < 3 { 403 } else { 429 });
    }
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let house = House::new();
    let (ada, eve, root) = (house.session("ada"), house.session("eve"), house.session("root"));
    let make = |body: Value| house.post("/auth/tokens").token(&ada).json(&body).send();
    let made = make(json!({"name": "laptop"})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.detail());
    let made = made.json();
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert_eq!(made["prefix"].as_str().unwrap(), &id.replace('-', "")[..8]);
    assert!(made["expires_at"].is_string());
    assert!(
        make(json!({"name": "for ever", "expires_in_days": null})).await.json()["expires_at"]
            .is_null()
    );
    for wrong in [
        json!({"name": ""}),
        json!({}),
        json!({"name": "x", "expires_in_days": 0}),
        json!({"name": "x", "expires_in_days": 3651}),
        json!({"name": "x", "ttl_seconds": 315_360_001_i64}),
    ] {
        assert_eq!(make(wrong.clone()).await.status.as_u16(), 422, "{wrong}");
    }
    assert_eq!(house.get("/auth/me").token(token).send().await.json()["email"], "ada@example.com");
    let list = house.get("/auth/tokens").token(token).send().await.json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert!(list[0].get("token").is_none());
    let path = format!("/auth/tokens/{id}");
    assert_eq!(house.get(&path).token(&ada).send().await.json()["name"], "laptop");
    assert_eq!(house.get(&path).token(&eve).send().await.status, StatusCode::NOT_FOUND);
    let delete = |path: &str, token: &str| house.ask(Method::DELETE, path).token(token).send();
    assert_eq!(delete(&path, &eve).await.status, StatusCode::NOT_FOUND);
    assert_eq!(delete("/auth/tokens/nothing", &ada).await.status, StatusCode::NOT_FOUND);
    let all = house.get("/auth/admin/tokens").token(&root).send().await.json();
    assert_eq!(all[0]["user_email"], "ada@example.com");
    assert_eq!(
        delete(&format!("/auth/admin/tokens/{id}"), &root).await.status,
        StatusCode::NO_CONTENT
    );
    let ended = house.get("/auth/me").token(token).send().await;
    assert_eq!(
        (ended.status, ended.detail()),
        (StatusCode::UNAUTHORIZED, "the token was revoked".into())
    );
}
