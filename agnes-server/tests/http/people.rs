//! Users, groups and grants.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::house::{Answer, House, PASSWORD, address};

/// Somebody who may do everything.
struct Admin<'a> {
    house: &'a House,
    token: String,
}

impl Admin<'_> {
    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let ask = self.house.ask(method, path).token(&self.token);
        match body {
            Some(body) => ask.json(&body).send().await,
            None => ask.send().await,
        }
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.send(Method::GET, path, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.detail());
        answer.json()
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> StatusCode {
        self.send(Method::DELETE, path, None).await.status
    }

    /// The id of a user by her address.
    async fn id(&self, name: &str) -> String {
        let users = self.get("/api/users").await;
        let found = users.as_array().unwrap().iter().find(|user| user["email"] == address(name));
        found.unwrap()["id"].as_str().unwrap().to_string()
    }
}

#[tokio::test]
async fn users_come_change_and_go() {
    let house = House::new();
    let admin = Admin { house: &house, token: house.session("root") };
    let made = admin.post("/api/users", json!({"email": "Bob@Example.com", "name": "Bob"})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.detail());
    let bob = made.json();
    assert_eq!(
        (&bob["email"], &bob["role"], &bob["groups"]),
        (&json!("Bob@Example.com"), &json!("user"), &json!([]))
    );
    assert!(bob.get("invite_url").is_none() && bob.get("password_hash").is_none(), "{bob}");
    let path = format!("/api/users/{}", bob["id"].as_str().unwrap());
    let twice = admin.post("/api/users", json!({"email": "bob@example.com"})).await;
    assert_eq!(twice.status, StatusCode::CONFLICT);
    assert_eq!(
        admin.post("/api/users", json!({"email": "nobody"})).await.status,
        StatusCode::BAD_REQUEST
    );
    // What isn't sent stays, and null takes away.
    let renamed = admin.patch(&path, json!({"active": true})).await.json();
    assert_eq!(renamed["name"], "Bob");
    assert!(admin.patch(&path, json!({"name": null})).await.json()["name"].is_null());
    // As older clients say it.
    assert_eq!(admin.patch(&path, json!({"role": "admin"})).await.json()["is_admin"], true);
    assert_eq!(admin.patch(&path, json!({"role": "analyst"})).await.json()["is_admin"], false);
    assert_eq!(admin.patch(&path, json!({"role": "king"})).await.status, StatusCode::BAD_REQUEST);
    // A password that is set lets her in; deactivated she is out at once.
    let set = admin.post(&format!("{path}/set-password"), json!({"password": PASSWORD})).await;
    assert_eq!(set.status, StatusCode::NO_CONTENT);
    let short = admin.post(&format!("{path}/set-password"), json!({"password": "short"})).await;
    assert_eq!(short.status, StatusCode::BAD_REQUEST);
    let credentials = json!({"email": "bob@example.com", "password": PASSWORD});
    let token = house.post("/auth/token").json(&credentials).send().await.json();
    let token = token["access_token"].as_str().unwrap();
    assert_eq!(house.get("/auth/me").token(token).send().await.status, StatusCode::OK);
    assert_eq!(admin.post(&format!("{path}/deactivate"), json!({})).await.json()["active"], false);
    assert_eq!(house.get("/auth/me").token(token).send().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(admin.post(&format!("{path}/activate"), json!({})).await.json()["active"], true);
    // A link to set another password.
    let reset = admin.post(&format!("{path}/reset-password"), json!({})).await.json();
    assert!(
        reset["reset_url"].as_str().unwrap().contains("/auth/password/reset?email="),
        "{reset}"
    );
    assert_eq!(reset["email_sent"], false);
    let invited = json!({"email": "carol@example.com", "send_invite": true});
    let invited = admin.post("/api/users", invited).await.json();
    assert!(
        invited["invite_url"]
            .as_str()
            .unwrap()
            .contains("/auth/password/setup?email=carol%40example.com&token=")
    );
    assert_eq!(admin.delete(&path).await, StatusCode::NO_CONTENT);
    assert_eq!(admin.delete(&path).await, StatusCode::NOT_FOUND);
    // Herself, and the last admin.
    let own = format!("/api/users/{}", admin.id("root").await);
    assert_eq!(admin.delete(&own).await, StatusCode::CONFLICT);
    assert_eq!(admin.patch(&own, json!({"active": false})).await.status, StatusCode::CONFLICT);
    assert_eq!(admin.patch(&own, json!({"role": "viewer"})).await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_user_is_changed_all_of_it_or_not_at_all() {
    let house = House::new();
    let admin = Admin { house: &house, token: house.session("root") };
    let root = format!("/api/users/{}", admin.id("root").await);
    // She can't deactivate herself, and is called what she was called.
    let answer = admin.patch(&root, json!({"name": "Other", "active": false})).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(admin.get(&root).await["name"], Value::Null);
    let eve = format!("/api/users/{}", admin.id("eve").await);
    let answer = admin.patch(&eve, json!({"name": "Eve", "role": "admin"})).await;
    assert_eq!((&answer.json()["name"], &answer.json()["is_admin"]), (&json!("Eve"), &json!(true)));
    let answer = admin.patch(&eve, json!({"active": false, "role": "viewer"})).await;
    assert_eq!(
        (&answer.json()["active"], &answer.json()["is_admin"]),
        (&json!(false), &json!(false))
    );
    let answer = admin.patch(&root, json!({"name": "Other", "role": "viewer"})).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "the last admin stays one");
    let added = json!({"email": "new@example.com", "role": "admin"});
    assert_eq!(admin.post("/api/users", added).await.json()["is_admin"], true);
    let wrong = json!({"email": "other@example.com", "role": "king"});
    assert_eq!(admin.post("/api/users", wrong).await.status, StatusCode::BAD_REQUEST);
    assert!(!admin.get("/api/users").await.to_string().contains("other@example.com"));
}

#[tokio::test]
async fn a_grant_opens_a_table_and_taking_it_back_closes_it() {
    let house = House::new();
    let admin = Admin { house: &house, token: house.session("root") };
    let eve = house.token("eve");
    let ask = |table: &str| house.get(&format!("/api/v2/schema/{table}")).token(&eve).send();
    assert_eq!(ask("salaries").await.status, StatusCode::FORBIDDEN);
    let group =
        admin.post("/api/admin/groups", json!({"name": "hr", "description": "People"})).await;
    assert_eq!(group.status, StatusCode::CREATED);
    let group = group.json()["id"].as_str().unwrap().to_string();
    let path = format!("/api/admin/groups/{group}");
    assert_eq!(
        admin.post("/api/admin/groups", json!({"name": "HR"})).await.status,
        StatusCode::CONFLICT
    );
    assert_eq!(
        admin.post("/api/admin/groups", json!({"name": " "})).await.status,
        StatusCode::BAD_REQUEST
    );
    let member = json!({"email": address("eve")});
    assert_eq!(
        admin.post(&format!("{path}/members"), member.clone()).await.status,
        StatusCode::CREATED
    );
    assert_eq!(admin.post(&format!("{path}/members"), member).await.status, StatusCode::CONFLICT);
    let nobody = json!({"email": "nobody@example.com"});
    assert_eq!(admin.post(&format!("{path}/members"), nobody).await.status, StatusCode::NOT_FOUND);
    let grant = json!({"group_id": group, "resource_type": "table", "resource_id": "salaries"});
    let made = admin.post("/api/admin/grants", grant.clone()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.detail());
    assert_eq!(admin.post("/api/admin/grants", grant).await.status, StatusCode::CONFLICT);
    for (kind, id, status) in [("king", "x", 400), ("table", "nothing1", 404), ("table", " ", 400)]
    {
        let wrong = json!({"group_id": group, "resource_type": kind, "resource_id": id});
        assert_eq!(
            admin.post("/api/admin/grants", wrong).await.status.as_u16(),
            status,
            "{kind}:{id}"
        );
    }
    assert_eq!(ask("salaries").await.status, StatusCode::OK);
    let mine = house.get("/api/me/effective-access").token(&eve).send().await.json();
    assert_eq!(mine["items"][0]["resource_id"], "salaries");
    assert_eq!(mine["items"][0]["via_groups"][0], json!({"group_id": group, "group_name": "hr"}));
    let id = admin.id("eve").await;
    assert_eq!(admin.get(&format!("/api/admin/users/{id}/effective-access")).await, mine);
    let memberships = admin.get(&format!("/api/admin/users/{id}/memberships")).await;
    assert_eq!(memberships[0]["group_name"], "hr");
    let of_group = admin.get(&format!("/api/admin/grants?group_id={group}")).await;
    assert_eq!(of_group.as_array().unwrap().len(), 1);
    assert_eq!(admin.get("/api/admin/grants?resource_type=other").await, json!([]));
    let overview = admin.get("/api/admin/access-overview").await;
    assert_eq!(overview["resources"][0]["blocks"][0]["name"], "(no bucket)");
    assert_eq!(admin.get("/api/admin/resource-types").await[0]["key"], "table");
    // What is taken back is gone when the answer comes.
    let grant = made.json()["id"].as_str().unwrap().to_string();
    assert_eq!(admin.delete(&format!("/api/admin/grants/{grant}")).await, StatusCode::NO_CONTENT);
    assert_eq!(ask("salaries").await.status, StatusCode::FORBIDDEN);
    assert_eq!(admin.delete(&format!("/api/admin/grants/{grant}")).await, StatusCode::NOT_FOUND);
    assert_eq!(admin.delete(&format!("{path}/members/{id}")).await, StatusCode::NO_CONTENT);
    assert_eq!(admin.delete(&format!("{path}/members/{id}")).await, StatusCode::NOT_FOUND);
    let memberships = format!("/api/admin/users/{id}/memberships");
    let joined = admin.post(&memberships, json!({"group_id": group}));
    assert_eq!(joined.await.status, StatusCode::CREATED);
    assert_eq!(
        admin.delete(&format!("/api/admin/users/{id}/memberships/{group}")).await,
        StatusCode::NO_CONTENT
    );
    let renamed = admin.patch(&path, json!({"name": "people"})).await.json();
    assert_eq!((&renamed["name"], &renamed["description"]), (&json!("people"), &json!("People")));
    assert_eq!(admin.delete(&path).await, StatusCode::NO_CONTENT);
    assert_eq!(admin.delete(&path).await, StatusCode::NOT_FOUND);
    // The two that are always there.
    let groups = admin.get("/api/admin/groups").await;
    let system = groups.as_array().unwrap().iter().find(|group| group["name"] == "Admin").unwrap();
    let path = format!("/api/admin/groups/{}", system["id"].as_str().unwrap());
    assert_eq!(admin.delete(&path).await, StatusCode::CONFLICT);
    assert_eq!(admin.patch(&path, json!({"name": "x"})).await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn access_is_asked_for_and_given() {
    let house = House::new();
    let admin = Admin { house: &house, token: house.session("root") };
    let eve = house.token("eve");
    let ask = |table: &str| {
        let body = json!({"table_id": table, "reason": "the board wants it"});
        house.post("/api/access-requests").token(&eve).json(&body).send()
    };
    let asked = ask("salaries").await;
    assert_eq!((asked.status, &asked.json()["status"]), (StatusCode::CREATED, &json!("pending")));
    assert_eq!(ask("salaries").await.status, StatusCode::CONFLICT);
    // She can't tell by the answer whether there is such a table.
    let absent = ask("nothing1").await;
    assert_eq!(absent.status, StatusCode::CREATED);
    let mine = house.get("/api/access-requests/my").token(&eve).send().await.json();
    assert_eq!(mine["count"], 2);
    let pending = admin.get("/api/access-requests/pending").await;
    assert_eq!(
        (&pending["requests"][0]["user_email"], &pending["count"]),
        (&json!("eve@example.com"), &json!(2))
    );
    let path = |answer: &Answer, verb: &str| {
        format!("/api/access-requests/{}/{verb}", answer.json()["id"].as_str().unwrap())
    };
    // Older clients send nothing.
    let approved = admin.send(Method::POST, &path(&asked, "approve"), None).await;
    assert_eq!((approved.status, &approved.json()["status"]), (StatusCode::OK, &json!("approved")));
    assert_eq!(
        admin.send(Method::POST, &path(&asked, "approve"), None).await.status,
        StatusCode::NOT_FOUND
    );
    let denied = admin.send(Method::POST, &path(&absent, "deny"), None).await;
    assert_eq!(denied.json()["status"], "denied");
    let seen = house.get("/api/v2/schema/salaries").token(&eve).send().await;
    assert_eq!(seen.status, StatusCode::OK);
}

#[tokio::test]
async fn permissions_of_older_installations() {
    let house = House::new();
    let admin = Admin { house: &house, token: house.session("root") };
    let id = admin.id("eve").await;
    let permission = json!({"user_id": id, "dataset": "orders"});
    let given = admin.post("/api/permissions", permission.clone()).await;
    assert_eq!((given.status, &given.json()["access"]), (StatusCode::CREATED, &json!("read")));
    assert_eq!(
        admin.get(&format!("/api/permissions/{id}")).await,
        admin.get("/api/permissions").await
    );
    // The policy `grants` looks at none of them.
    let eve = house.token("eve");
    assert_eq!(
        house.get("/api/v2/schema/orders").token(&eve).send().await.status,
        StatusCode::FORBIDDEN
    );
    let revoke = || admin.send(Method::DELETE, "/api/permissions", Some(permission.clone()));
    assert_eq!(revoke().await.json(), json!({"revoked": true}));
    assert_eq!(revoke().await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_sync_is_triggered_and_runs_by_itself() {
    let house = House::new();
    let admin = Admin { house: &house, token: house.session("root") };
    for (body, told) in [("", json!("all")), ("null", json!("all")), ("{}", json!("all"))] {
        let answer = house.post("/api/sync/trigger").token(&admin.token).text(body).send().await;
        let json = answer.json();
        assert_eq!((answer.status, &json["tables"]), (StatusCode::OK, &told), "{body}");
        while admin.get("/api/sync/status").await["locked"] == true {
            tokio::task::yield_now().await;
        }
    }
    for (body, status) in [
        ("[1]", 422),
        ("\"orders\"", 422),
        ("{\"tables\": \"orders\"}", 422),
        ("[\"nothing1\"]", 404),
        // Nobody configured its source.
        ("[\"orders\"]", 404),
    ] {
        let answer = house.post("/api/sync/trigger").token(&admin.token).text(body).send().await;
        assert_eq!(answer.status.as_u16(), status, "{body}");
        assert_eq!(admin.get("/api/sync/status").await["locked"], false, "{body}");
    }
}
