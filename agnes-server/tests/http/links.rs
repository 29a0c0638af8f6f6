//! Links that come by mail, and the pages behind them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use agnes_core::access::{Email, Principal};
use agnes_server::{MailSecurity, MailSettings, Provider, ServerSettings};
use axum::http::StatusCode;
use serde_json::json;

use crate::house::{Answer, House, PASSWORD, address, cookie};

/// Takes every letter, and gives it on.
struct Sink {
    port: u16,
    letters: Receiver<String>,
}

fn converse(stream: TcpStream, letters: &Sender<String>) -> std::io::Result<()> {
    let mut answers = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    answers.write_all(b"220 sink\r\n")?;
    let mut letter: Option<String> = None;
    while let Some(line) = lines.next().transpose()? {
        let answer = match &mut letter {
            Some(text) if line == "." => {
                let _ = letters.send(std::mem::take(text));
                letter = None;
                "250 taken"
            }
            Some(text) => {
                text.push_str(&line);
                text.push('\n');
                continue;
            }
            None if line.starts_with("DATA") => {
                letter = Some(String::new());
                "354 go on"
            }
            None => "250 fine",
        };
        answers.write_all(format!("{answer}\r\n").as_bytes())?;
    }
    Ok(())
}

impl Sink {
    fn new() -> Sink {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, letters) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = converse(stream, &sender);
            }
        });
        Sink { port, letters }
    }

    fn settings(&self) -> ServerSettings {
        let mail = MailSettings {
            host: "127.0.0.1".into(),
            port: Some(self.port),
            security: MailSecurity::None,
            credentials: None,
            from: "agnes@example.com".into(),
            from_name: Some("Agnes".into()),
        };
        ServerSettings {
            rate_limits: false,
            mail: Some(mail),
            public_url: "https://data.example.com".into(),
            ..ServerSettings::default()
        }
    }

    async fn letter(&self) -> String {
        for _ in 0..500 {
            if let Ok(letter) = self.letters.try_recv() {
                return unfolded(&letter);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no letter came");
    }

    /// The address on this server to which the next letter leads.
    async fn link(&self) -> String {
        let letter = self.letter().await;
        let start = "https://data.example.com";
        let link = letter.split_whitespace().find_map(|word| word.strip_prefix(start));
        link.filter(|link| link.starts_with('/')).unwrap_or_else(|| panic!("{letter}")).to_string()
    }
}

/// A letter's text, whose long lines were folded.
fn unfolded(letter: &str) -> String {
    let text = letter.replace("=\n", "");
    text.replace("=3D", "=")
}

fn form(fields: &[(&str, &str)]) -> String {
    url_form(fields)
}

fn url_form(fields: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    form.finish()
}

async fn post_form(house: &House, path: &str, fields: &[(&str, &str)]) -> Answer {
    let ask = house.post(path).header("content-type", "application/x-www-form-urlencoded");
    ask.header("accept", "text/html").text(&form(fields)).send().await
}

/// What a link holds.
fn parameter(link: &str, name: &str) -> String {
    let url = url::Url::parse(&format!("http://x{link}")).unwrap();
    url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

#[tokio::test]
async fn a_link_signs_in_once_and_whoever_only_looks_takes_nothing() {
    let sink = Sink::new();
    let house = House::with(sink.settings());
    let asked =
        house.post("/auth/email/send-link").json(&json!({"email": "Ada@example.com"})).send().await;
    assert_eq!(asked.json()["status"], "sent");
    assert!(asked.json().get("dev_link").is_none());
    let link = sink.link().await;
    assert!(link.starts_with("/auth/email/verify?"), "{link}");
    // Scanners of mail look at it, as often as they like.
    for _ in 0..3 {
        let page = house.get(&link).send().await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.headers.get("set-cookie").is_none());
        assert!(page.header("content-security-policy").contains("default-src 'none'"));
        assert_eq!(page.header("cache-control"), "no-store");
    }
    let (email, token) = (parameter(&link, "email"), parameter(&link, "token"));
    let taken = json!({"email": email, "token": token});
    let others = json!({"email": address("eve"), "token": token});
    let others = house.post("/auth/email/verify").json(&others).send().await;
    assert_eq!(others.status, StatusCode::UNAUTHORIZED);
    let signed_in = house.post("/auth/email/verify").json(&taken).send().await;
    assert_eq!(signed_in.json()["email"], "ada@example.com", "{}", signed_in.detail());
    let again = house.post("/auth/email/verify").json(&taken).send().await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
    assert_eq!(again.detail(), others.detail());
}

#[tokio::test]
async fn of_many_who_bring_a_link_at_once_one_gets_in() {
    let sink = Sink::new();
    let house = House::with(sink.settings());
    house.post("/auth/email/send-link").json(&json!({"email": address("ada")})).send().await;
    let link = sink.link().await;
    let taken = json!({"email": parameter(&link, "email"), "token": parameter(&link, "token")});
    let tries = (0..8).map(|_| house.post("/auth/email/verify").json(&taken).send());
    let answers = futures_util::future::join_all(tries).await;
    let in_ = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    assert_eq!(in_, 1);
}

#[tokio::test]
async fn nobody_learns_who_has_an_account() {
    let sink = Sink::new();
    let house = House::with(sink.settings());
    let access = house.app_access();
    let eve = access.user_by_email(&Email::parse(address("eve")).unwrap()).unwrap();
    access.admin(&Principal::Operator).unwrap().set_active(&eve.id, false).unwrap();
    for path in ["/auth/email/send-link", "/auth/password/reset", "/auth/password/setup/request"] {
        let mut told = Vec::new();
        for email in ["ada@example.com", "nobody@example.com", "eve@example.com", "none", ""] {
            let answer = post_form(&house, path, &[("email", email)]).await;
            told.push((answer.status, answer.body));
        }
        told.dedup();
        assert_eq!(told.len(), 1, "{path}: {told:?}");
        assert_eq!(told[0].0, StatusCode::OK);
    }
    // Ada has a password, so that nobody sends her another first one.
    let (one, other) = (sink.letter().await, sink.letter().await);
    for letter in [&one, &other] {
        assert!(letter.contains("\nTo: ada@example.com\n"), "{letter}");
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(sink.letters.try_recv().is_err());
}

#[tokio::test]
async fn an_invitation_becomes_a_password_and_a_session() {
    let sink = Sink::new();
    let house = House::with(sink.settings());
    let root = house.session("root");
    let new = json!({"email": "new@example.com", "name": "New", "send_invite": true});
    let invited = house.post("/api/users").token(&root).json(&new).send().await;
    assert_eq!(invited.status, StatusCode::CREATED, "{}", invited.detail());
    assert_eq!(invited.json()["invite_email_sent"], true);
    let link = sink.link().await;
    assert_eq!(invited.json()["invite_url"], format!("https://data.example.com{link}"));
    let page = house.get(&link).send().await;
    let shown = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(shown.contains("action=\"/auth/password/setup/confirm\""), "{shown}");
    let token = parameter(&link, "token");
    let confirm = |password: &'static str| {
        let fields = vec![("email", "new@example.com"), ("token", &*token), ("password", password)];
        let house = &house;
        async move { post_form(house, "/auth/password/setup/confirm", &fields).await }
    };
    let short = confirm("short").await;
    assert_eq!(short.status, StatusCode::BAD_REQUEST);
    assert!(String::from_utf8_lossy(&short.body).contains("at least 8 characters"));
    let set = confirm(PASSWORD).await;
    assert_eq!((set.status, set.header("location")), (StatusCode::FOUND, "/dashboard"));
    let home = house.get("/dashboard").header("cookie", &cookie(&set)).send().await;
    assert!(String::from_utf8_lossy(&home.body).contains("new@example.com"));
    assert_eq!(confirm(PASSWORD).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_link_to_sign_in_sets_no_password_and_a_new_password_ends_sessions() {
    let sink = Sink::new();
    let house = House::with(sink.settings());
    let before = house.session("ada");
    post_form(&house, "/auth/email/send-link", &[("email", "ada@example.com")]).await;
    let sign_in = sink.link().await;
    let fields = |link: &str| {
        [
            ("email", address("ada")),
            ("token", parameter(link, "token")),
            ("password", "n".repeat(9)),
        ]
    };
    for path in ["/auth/password/reset/confirm", "/auth/password/setup/confirm"] {
        let fields = fields(&sign_in);
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(post_form(&house, path, &fields).await.status, StatusCode::UNAUTHORIZED);
    }
    let root = house.session("root");
    let ada = house.app_access().user_by_email(&Email::parse(address("ada")).unwrap()).unwrap();
    let reset = house.post(&format!("/api/users/{}/reset-password", ada.id)).token(&root);
    let reset = reset.send().await;
    assert_eq!(reset.json()["email_sent"], true, "{}", reset.detail());
    let link = sink.link().await;
    assert_eq!(reset.json()["reset_url"], format!("https://data.example.com{link}"));
    let fields = fields(&link);
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    let set = post_form(&house, "/auth/password/reset/confirm", &fields).await;
    assert_eq!((set.status, set.header("location")), (StatusCode::FOUND, "/login?done=password"));
    let me = house.get("/auth/me").token(&before).send().await;
    assert_eq!(me.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_browser_signs_in_and_goes_on_here_alone() {
    let house = House::new();
    let wanted = house.get("/dashboard?tab=1").header("accept", "text/html").send().await;
    assert_eq!(wanted.status, StatusCode::FOUND);
    assert_eq!(wanted.header("location"), "/login?next=%2Fdashboard%3Ftab%3D1");
    // A program hears what it always hears.
    assert_eq!(house.get("/dashboard").send().await.status, StatusCode::UNAUTHORIZED);
    let api = house.get("/api/sync/manifest").header("accept", "text/html").send().await;
    assert_eq!(api.status, StatusCode::UNAUTHORIZED);
    let page = house.get(wanted.header("location")).send().await;
    let shown = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(shown.contains(r#"name="next" value="/dashboard?tab=1""#), "{shown}");
    let email = address("ada");
    for (next, to) in [
        ("/dashboard?tab=1", "/dashboard?tab=1"),
        ("https://evil.example", "/dashboard"),
        ("//evil.example", "/dashboard"),
        ("/\\evil.example", "/dashboard"),
        ("/\t/evil.example", "/dashboard"),
        ("", "/dashboard"),
    ] {
        let fields = [("email", &*email), ("password", PASSWORD), ("next", next)];
        let sent = post_form(&house, "/auth/password/login/web", &fields).await;
        assert_eq!((sent.status, sent.header("location")), (StatusCode::FOUND, to), "{next:?}");
        let home = house.get("/dashboard").header("cookie", &cookie(&sent)).send().await;
        let shown = String::from_utf8(home.body.to_vec()).unwrap();
        assert!(shown.contains("<code>orders</code>") && !shown.contains("salaries"), "{shown}");
    }
    let fields = [("email", &*email), ("password", "wrong"), ("next", "/catalog")];
    let sent = post_form(&house, "/auth/password/login/web", &fields).await;
    assert_eq!(sent.header("location"), "/login?error=invalid&next=%2Fcatalog");
    assert!(sent.headers.get("set-cookie").is_none());
    let out = post_form(&house, "/auth/logout", &[]).await;
    assert_eq!((out.status, out.header("location")), (StatusCode::FOUND, "/login"));
    assert!(out.header("set-cookie").contains("Max-Age=0"));
}

#[tokio::test]
async fn what_somebody_writes_into_a_link_is_shown_as_text() {
    let house = House::new();
    let bad = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for path in [
        "/login?done=",
        "/login?error=",
        "/login?next=/",
        "/auth/password/reset?email=",
        "/auth/password/reset?token=x&email=",
        "/auth/email/verify?token=x&next=x&email=",
    ] {
        let page = house.get(&format!("{path}{bad}")).send().await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(!String::from_utf8_lossy(&page.body).contains("<script"), "{path}");
    }
}

#[tokio::test]
async fn without_a_mail_server_the_admin_has_the_link() {
    let house = House::new();
    let root = house.session("root");
    let new = json!({"email": "new@example.com", "send_invite": true});
    let invited = house.post("/api/users").token(&root).json(&new).send().await;
    assert_eq!(invited.json()["invite_email_sent"], false);
    assert!(invited.json()["invite_url"].as_str().unwrap().contains("/auth/password/setup?"));
    let asked = house.post("/auth/email/send-link").json(&json!({"email": address("ada")}));
    assert_eq!(asked.send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn ways_to_sign_in_that_aren_t_chosen_aren_t_there() {
    let settings = ServerSettings { rate_limits: false, ..ServerSettings::default() };
    let house =
        House::with(ServerSettings { providers: vec![Provider::Email], ..settings.clone() });
    let credentials = json!({"email": address("ada"), "password": PASSWORD});
    for path in ["/auth/token", "/auth/password/login", "/auth/password/setup"] {
        let answer = house.post(path).json(&credentials).send().await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    let shown = house.get("/login").send().await;
    assert!(!String::from_utf8_lossy(&shown.body).contains("password"));
    let new = json!({"email": "new@example.com", "send_invite": true});
    let root = house.session("root");
    let invited = house.post("/api/users").token(&root).json(&new).send().await;
    assert_eq!(invited.status, StatusCode::CONFLICT);
    assert!(
        house.get("/api/users").token(&root).send().await.json().as_array().unwrap().len() == 3,
        "nobody was added whom nobody can invite"
    );
}

#[tokio::test]
async fn on_a_developer_s_machine_the_link_comes_back() {
    let settings = ServerSettings {
        rate_limits: false,
        dev_user: Some(Email::parse("root@example.com").unwrap()),
        public_url: "http://127.0.0.1:8000".into(),
        ..ServerSettings::default()
    };
    let house = House::with(settings);
    let asked = house.post("/auth/email/send-link").header("host", "127.0.0.1:8000");
    let asked = asked.json(&json!({"email": address("ada")}));
    let link = asked.send().await.json()["dev_link"].as_str().unwrap().to_string();
    assert!(link.starts_with("http://127.0.0.1:8000/auth/email/verify?"), "{link}");
}

#[tokio::test]
async fn nobody_fills_another_s_mailbox() {
    let sink = Sink::new();
    let house = House::with(ServerSettings { rate_limits: true, ..sink.settings() });
    // Each from an address of its own.
    for at in 0..8 {
        let proxied = format!("198.51.100.{at}");
        let ask = house.post("/auth/email/send-link").header("x-forwarded-for", &proxied);
        ask.json(&json!({"email": address("ada")})).send().await;
    }
    for _ in 0..3 {
        sink.letter().await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(sink.letters.try_recv().is_err());
}
