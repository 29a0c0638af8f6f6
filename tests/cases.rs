//! What every door must answer alike: the cases of `cases/*.json`, through the Rust library.
//! Each other language has a runner of its own.

mod oracle;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod names {
    use agnes_core::{
        AttachAlias, ExtensionName, ExternalName, SourceName, TableName, TokenEnv, ViewName,
    };

    #[derive(serde::Deserialize)]
    struct NameCase {
        text: String,
        strict: bool,
        view: bool,
        external: bool,
        env: bool,
    }

    #[test]
    fn every_kind_of_name() {
        let cases: Vec<NameCase> = serde_json::from_str(include_str!("cases/names.json")).unwrap();
        assert!(cases.len() > 50);
        for case in cases {
            let text = case.text.as_str();
            for (kind, expected, parsed) in [
                ("source", case.strict, SourceName::parse(text).err()),
                ("table", case.strict, TableName::parse(text).err()),
                ("alias", case.strict, AttachAlias::parse(text).err()),
                ("extension", case.strict, ExtensionName::parse(text).err()),
                ("view", case.view, ViewName::parse(text).err()),
                ("external", case.external, ExternalName::parse(text).err()),
                ("env", case.env, TokenEnv::parse(text).err()),
            ] {
                assert_eq!(parsed.is_none(), expected, "{text:?} as {kind}: {parsed:?}");
                // What refuses it can be shown on a terminal.
                if let Some(error) = parsed {
                    assert!(!error.message().chars().any(char::is_control), "{error}");
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod schedules {
    use agnes_core::{Timestamp, schedule};

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        schedule: Option<String>,
        last: Option<String>,
        now: Timestamp,
        valid: bool,
        due: bool,
        next: Option<Timestamp>,
    }

    #[test]
    fn every_form() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("cases/schedules.json")).unwrap();
        assert!(cases.len() > 90);
        for Case { name, schedule, last, now, valid, due, next } in cases {
            let verdict = schedule::verdict(schedule.as_deref(), last.as_deref(), now);
            let told = (verdict.valid, verdict.due, verdict.next);
            assert_eq!(told, (valid, due, next), "{name}: {verdict:?}");
            assert_eq!(verdict.fault.is_some(), !valid || name.contains("can't be read"), "{name}");
        }
    }
}

/// The same names and schedules, as an admin sends them to a server.
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod over_http {
    use std::sync::Arc;

    use agnes_core::Agnes;
    use agnes_core::access::Email;
    use agnes_server::{App, ServerSettings, router};
    use axum::Router;
    use axum::body::Body;
    use axum::http::Request;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    struct Server {
        router: Router,
        token: String,
        _folder: tempfile::TempDir,
    }

    impl Server {
        fn new() -> Server {
            let folder = tempfile::tempdir().unwrap();
            let agnes = Arc::new(Agnes::open(folder.path()).unwrap());
            let access = agnes.access().unwrap();
            let root = Email::parse("root@example.com").unwrap();
            let root = access.seed_admin(&root, None, None).unwrap();
            let token = access.session_token(&root.id, serde_json::Map::new()).unwrap();
            let app = App::new(agnes, ServerSettings::default()).unwrap();
            let token = token.expose().to_string();
            Server { router: router(app), token, _folder: folder }
        }

        /// Whether a table could be declared so.
        async fn takes(&self, declared: Value) -> bool {
            let request = Request::post("/api/admin/register-table/precheck")
                .header("authorization", format!("Bearer {}", self.token))
                .header("content-type", "application/json")
                .body(Body::from(declared.to_string()))
                .unwrap();
            let status = self.router.clone().oneshot(request).await.unwrap().status().as_u16();
            assert!([200, 422].contains(&status), "{declared}: {status}");
            status == 200
        }
    }

    #[tokio::test]
    async fn every_kind_of_name() {
        let server = Server::new();
        let cases: Vec<Value> = serde_json::from_str(include_str!("cases/names.json")).unwrap();
        for case in cases {
            let text = &case["text"];
            let view = server.takes(json!({"name": text, "source": "shop"})).await;
            assert_eq!(view, case["view"], "{text} as a table");
            let source = server.takes(json!({"name": "orders", "source": text})).await;
            assert_eq!(source, case["strict"], "{text} as a source");
        }
    }

    #[tokio::test]
    async fn every_form_of_a_schedule() {
        let server = Server::new();
        let cases: Vec<Value> = serde_json::from_str(include_str!("cases/schedules.json")).unwrap();
        for case in cases.iter().filter(|case| case["schedule"].is_string()) {
            let schedule = &case["schedule"];
            let declared = json!({"name": "orders", "source": "shop", "sync_schedule": schedule});
            assert_eq!(server.takes(declared).await, case["valid"], "{}", case["name"]);
        }
    }
}

/// Statements that try to see more than they may, and statements that only look so.
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod query_attacks {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use agnes_core::access::{Email, GroupName, Principal, Resource};
    use agnes_core::extract::WriteMode;
    use agnes_core::query::{AllRows, QueryLimits, QueryOptions};
    use agnes_core::{
        Agnes, Components, Error, ExtractWriter, Kind, NoProgress, Result, Session, Settings,
        TableName,
    };
    use agnes_server::{App, ServerSettings, router};
    use axum::Router;
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt as _;

    const SECRET: &str = "the-secret-of-the-house";

    #[derive(serde::Deserialize)]
    struct Cases {
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        class: String,
        expect: Expect,
        sql: Option<String>,
        #[serde(default)]
        parts: Vec<Part>,
    }

    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Part {
        Once(String),
        Often(String, usize),
    }

    #[derive(serde::Deserialize, Clone, Copy, Debug, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Expect {
        Refused,
        Hidden,
        Limit,
        Runs,
    }

    impl Case {
        fn text(&self, house: &House) -> String {
            let parts: String = self
                .parts
                .iter()
                .map(|part| match part {
                    Part::Once(text) => text.clone(),
                    Part::Often(text, times) => text.repeat(*times),
                })
                .collect();
            house.filled(self.sql.as_ref().unwrap_or(&parts))
        }
    }

    /// A data folder with three tables, of which the session shows two.
    struct House {
        dir: tempfile::TempDir,
        agnes: Arc<Agnes>,
        ada: Principal,
    }

    impl House {
        fn new() -> House {
            let dir = tempfile::tempdir().unwrap();
            let data = dir.path().join("data");
            let query = QueryLimits {
                time: Duration::from_secs(2),
                memory_bytes: 256 << 20,
                ..QueryLimits::default()
            };
            let settings = Settings { query, ..Settings::default() };
            let agnes = Agnes::open_with(&data, settings, Components::default()).unwrap();
            let folder = data.join("extracts/hr");
            let mut writer =
                ExtractWriter::begin(&folder, WriteMode::Replace, agnes.now()).unwrap();
            for (name, sql) in [
                (
                    "orders",
                    "SELECT i::INTEGER AS id, 'c' || (i % 3) AS customer, \
                     (i * 1.5)::DECIMAL(10, 2) AS amount, DATE '2026-01-01' + i::INTEGER AS day, \
                     ['a', 'b'] AS tags, '{\"k\": 1}' AS info FROM range(6) t(i)",
                ),
                (
                    "customers",
                    "SELECT i::INTEGER AS id, 'c' || i AS name, 'CZ' AS country FROM range(3) t(i)",
                ),
                ("salaries", "SELECT 1 AS id, 'Eve' AS name, 31337 AS salary"),
            ] {
                writer.table_from_sql(&TableName::parse(name).unwrap(), sql).unwrap();
            }
            writer.finish().unwrap();
            agnes.rebuild(None, &NoProgress).unwrap();
            std::fs::write(dir.path().join("secret.txt"), SECRET).unwrap();
            agnes.adopt(&Principal::Operator, None).unwrap();
            let ada = {
                let access = agnes.access().unwrap();
                let admin = access.admin(&Principal::Operator).unwrap();
                let ada = admin.add_user(Email::parse("ada@example.com").unwrap(), None).unwrap();
                let group = admin.add_group(GroupName::parse("sales").unwrap(), None).unwrap();
                admin.add_member(&group.id, &ada.id).unwrap();
                for table in ["table:orders", "table:customers"] {
                    admin.grant(&group.id, Resource::parse(table).unwrap()).unwrap();
                }
                Principal::user(ada.id)
            };
            House { dir, agnes: Arc::new(agnes), ada }
        }

        fn pin(&self, table: &str) -> PathBuf {
            let folder = self.dir.path().join("data/analytics/pins/hr");
            let start = format!("{table}.");
            let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            files.find(|f| f.file_name().unwrap().to_str().unwrap().starts_with(&start)).unwrap()
        }

        fn filled(&self, text: &str) -> String {
            let hidden = self.pin("salaries");
            let name = hidden.file_stem().unwrap().to_str().unwrap().to_string();
            let path = |path: PathBuf| path.to_str().unwrap().to_string();
            text.replace("$GRANTED", &path(self.pin("orders")))
                .replace("$HIDDEN", &path(hidden.clone()))
                .replace("$SECRET", &path(self.dir.path().join("secret.txt")))
                .replace("$OUT", &path(self.dir.path().join("out")))
                .replace("$DIR", &path(self.dir.path().join("data")))
                .replace("$NAME", &name)
        }

        fn session(&self) -> Session {
            self.agnes.session_for(&self.ada).unwrap()
        }

        /// Nothing was written, and what was there is as it was.
        fn is_untouched(&self, before: &[u8]) -> bool {
            let outs = std::fs::read_dir(self.dir.path()).unwrap();
            let no_out =
                outs.flatten().all(|e| !e.file_name().to_str().unwrap().starts_with("out"));
            no_out && std::fs::read(self.pin("orders")).unwrap() == before
        }
    }

    fn run(session: &Session, sql: &str) -> Result<AllRows> {
        session.query(sql, &QueryOptions::default())?.read_all()
    }

    /// What is wrong with what a session did, if anything.
    fn fault(
        case: &Case,
        done: &Result<AllRows>,
        twin: Option<&Error>,
        house: &House,
    ) -> Option<String> {
        if let Ok(rows) = done {
            let shown = format!("{:?}", rows.batches);
            for secret in [SECRET, "31337", "Eve", house.dir.path().to_str().unwrap()] {
                if shown.contains(secret) {
                    return Some(format!("it shows {secret}"));
                }
            }
        }
        if let Err(error) = done
            && error.message().contains(house.dir.path().to_str().unwrap())
            && !case.text(house).contains(house.dir.path().to_str().unwrap())
        {
            return Some(format!("its error names a path: {error}"));
        }
        match (case.expect, done) {
            (Expect::Runs, Ok(_)) => None,
            (Expect::Runs, Err(error)) => {
                Some(format!("it should run: {:?} {error}", error.kind()))
            }
            (Expect::Limit, Ok(_)) => None,
            (Expect::Limit, Err(error)) => {
                (error.kind() == Kind::Internal).then(|| format!("not a limit: {error}"))
            }
            (_, Ok(_)) => Some("it ran".to_string()),
            (Expect::Refused, Err(error)) => {
                let refused = matches!(error.kind(), Kind::Denied | Kind::Invalid | Kind::Limit);
                (!refused).then(|| format!("{:?} {error}", error.kind()))
            }
            (Expect::Hidden, Err(error)) if error.kind() != Kind::Denied => {
                Some(format!("{:?} {error}", error.kind()))
            }
            (Expect::Hidden, Err(error)) => {
                let plain = |text: &str| {
                    let text = text.to_lowercase();
                    text.replace("salaries", "…").replace("payrolls", "…")
                };
                let twin = twin.map(|twin| (twin.kind(), plain(twin.message())));
                let differs = twin != Some((error.kind(), plain(error.message())));
                differs.then(|| format!("{error}, but for a table that isn't there {twin:?}"))
            }
        }
    }

    /// The same statement about a table that doesn't exist.
    fn twin(text: &str) -> String {
        let mut twin = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.to_ascii_lowercase().find("salaries") {
            twin.push_str(&rest[..at]);
            let word = &rest[at..at + 8];
            let other: String = word
                .chars()
                .zip("payrolls".chars())
                .map(|(a, b)| if a.is_uppercase() { b.to_ascii_uppercase() } else { b })
                .collect();
            twin.push_str(&other);
            rest = &rest[at + 8..];
        }
        twin + rest
    }

    #[test]
    fn no_statement_sees_more_than_its_session() {
        let cases: Cases = serde_json::from_str(include_str!("cases/query-attacks.json")).unwrap();
        assert!(cases.cases.len() >= 200);
        let house = House::new();
        let granted = std::fs::read(house.pin("orders")).unwrap();
        let session = house.session();
        let mut faults = Vec::new();
        for case in &cases.cases {
            let text = case.text(&house);
            let begun = Instant::now();
            let done = run(&session, &text);
            let other = matches!(case.expect, Expect::Hidden).then(|| run(&session, &twin(&text)));
            let other = other.and_then(Result::err);
            let mut found = fault(case, &done, other.as_ref(), &house);
            if !house.is_untouched(&granted) {
                found = Some("it wrote".to_string());
            }
            if begun.elapsed() > Duration::from_secs(8) {
                found.get_or_insert(format!("it took {:?}", begun.elapsed()));
            }
            if let Some(found) = found {
                faults.push(format!("{} / {}: {found}\n    {:.200}", case.class, case.name, text));
            }
        }
        assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    }

    /// What a server answers: the status, and the body without the request's id.
    async fn ask(router: &Router, token: &str, sql: &str) -> (u16, String) {
        let body = serde_json::json!({"sql": sql}).to_string();
        let request = Request::post("/api/query")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(body))
            .unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let mut body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        body.as_object_mut().unwrap().remove("request_id");
        (status, body.to_string())
    }

    #[tokio::test]
    async fn no_statement_sees_more_over_http() {
        let cases: Cases = serde_json::from_str(include_str!("cases/query-attacks.json")).unwrap();
        let house = House::new();
        let granted = std::fs::read(house.pin("orders")).unwrap();
        let app = App::new(house.agnes.clone(), ServerSettings::default()).unwrap();
        let access = house.agnes.access().unwrap();
        let ada = house.ada.user_id().unwrap();
        let token = access.session_token(ada, serde_json::Map::new()).unwrap();
        let (router, token) = (router(app), token.expose());
        let home = house.dir.path().to_str().unwrap();
        let mut faults = Vec::new();
        for case in &cases.cases {
            let text = case.text(&house);
            let (status, body) = ask(&router, token, &text).await;
            let told = match case.expect {
                Expect::Runs => status == 200,
                Expect::Limit => matches!(status, 200 | 400 | 413 | 429),
                Expect::Refused => matches!(status, 400 | 403),
                Expect::Hidden => {
                    let plain = |text: &str| {
                        text.to_lowercase().replace("salaries", "…").replace("payrolls", "…")
                    };
                    let twin = ask(&router, token, &twin(&text)).await;
                    let refused = matches!(status, 400 | 403);
                    refused && (twin.0, plain(&twin.1)) == (status, plain(&body))
                }
            };
            // What she wrote herself may come back.
            let leaks = [SECRET, "31337", "Eve", home];
            let leak = leaks.iter().find(|leak| body.contains(**leak) && !text.contains(**leak));
            if !told || leak.is_some() || !house.is_untouched(&granted) {
                faults.push(format!("{} / {}: {status} {body:.200}", case.class, case.name));
            }
        }
        assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    }
}
