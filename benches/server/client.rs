//! Who asks: one caller with a connection, and wrk with many.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use agnes_benches::running::{ADMIN, Running};

/// Somebody with a connection and a token.
pub struct Client {
    agent: ureq::Agent,
    url: String,
    pub token: String,
}

impl Client {
    /// Signs in.
    pub fn new(server: &Running, email: &str, password: &str) -> Client {
        let agent = ureq::Agent::new_with_defaults();
        let body = json!({"email": email, "password": password});
        let answer: Value = agent
            .post(format!("{}/auth/token", server.url))
            .send_json(body)
            .and_then(|mut answer| answer.body_mut().read_json())
            .expect("she signs in");
        let token = answer["access_token"].as_str().expect("a token").to_string();
        Client { agent, url: server.url.clone(), token }
    }

    /// Ada, who may see all tables.
    pub fn ada(server: &Running) -> Client {
        let admin = Client::new(server, ADMIN.0, ADMIN.1);
        let password = "a long enough password";
        let body = json!({"password": password});
        admin.post("/api/users/ada/set-password", &body);
        Client::new(server, "ada@example.com", password)
    }

    /// Another user who may see all tables.
    pub fn beside(&self, server: &Running, at: usize) -> Client {
        let admin = Client::new(server, ADMIN.0, ADMIN.1);
        let (email, password) = (format!("user{at}@example.com"), "a long enough password");
        let made = admin.post("/api/users", &json!({"email": email}));
        let made: Value = serde_json::from_slice(&made).expect("it is JSON");
        let id = made["id"].as_str().expect("an id");
        admin.post(&format!("/api/users/{id}/set-password"), &json!({"password": password}));
        admin.post("/api/admin/groups/all/members", &json!({"email": email}));
        Client::new(server, &email, password)
    }

    /// The same caller with a personal token.
    pub fn with_token(self) -> Client {
        let made = self.post("/auth/tokens", &json!({"name": "bench"}));
        let made: Value = serde_json::from_slice(&made).expect("it is JSON");
        Client { token: made["token"].as_str().expect("a token").to_string(), ..self }
    }

    /// The same caller with a connection of her own.
    pub fn again(&self) -> Client {
        let agent = ureq::Agent::new_with_defaults();
        Client { agent, url: self.url.clone(), token: self.token.clone() }
    }

    pub fn delete(&self, path: &str) {
        let request = self.agent.delete(format!("{}{path}", self.url));
        let answer = request.header("Authorization", self.authorization()).call();
        answer.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.token)
    }

    pub fn post(&self, path: &str, body: &Value) -> Vec<u8> {
        self.post_for(path, body, "application/json")
    }

    pub fn post_for(&self, path: &str, body: &Value, accept: &str) -> Vec<u8> {
        self.agent
            .post(format!("{}{path}", self.url))
            .header("Authorization", self.authorization())
            .header("Accept", accept)
            .send_json(body)
            .and_then(|mut answer| answer.body_mut().with_config().limit(1 << 30).read_to_vec())
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// A header of what an address gives.
    pub fn header(&self, path: &str, name: &str) -> String {
        let request = self.agent.get(format!("{}{path}", self.url));
        let answer = request.header("Authorization", self.authorization()).call();
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_else(|| panic!("{path} has no {name}")).to_string()
    }

    /// What an address gives, with its entity tag; nothing where the caller has that.
    pub fn get(&self, path: &str, had: Option<&str>) -> (Vec<u8>, String) {
        let mut request = self
            .agent
            .get(format!("{}{path}", self.url))
            .header("Authorization", self.authorization());
        if let Some(had) = had {
            request = request.header("If-None-Match", had);
        }
        let mut answer = request.call().unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(answer.status() == 304, had.is_some(), "{path}");
        let tag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok());
        let tag = tag.unwrap_or_default().to_string();
        let body = answer.body_mut().with_config().limit(1 << 30).read_to_vec();
        (body.expect("it comes"), tag)
    }
}

/// What wrk says.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub requests: u64,
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
}

/// A time as wrk writes it.
fn time(text: &str) -> Duration {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let number: f64 = text[..at].parse().unwrap_or_else(|_| panic!("{text} is no time"));
    let unit = match &text[at..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        other => panic!("{other} is no unit"),
    };
    Duration::from_secs_f64(number * unit)
}

/// Asks as fast as the answers come. None where there is no wrk.
///
/// # Panics
/// When an answer is none of 200 to 399.
pub fn wrk(url: &str, client: Option<&Client>, connections: u32, seconds: u32) -> Option<Load> {
    let mut command = Command::new("wrk");
    command.args(["-t1", "--latency", "--timeout", "10s"]);
    command.args([format!("-c{connections}"), format!("-d{seconds}s")]);
    if let Some(client) = client {
        command.args(["-H".to_string(), format!("Authorization: {}", client.authorization())]);
    }
    let done = command.arg(url).stderr(Stdio::inherit()).output().ok()?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(!text.contains("Non-2xx"), "{text}");
    let word = |before: &str| {
        // Before the distribution stand other percentages.
        let (_, told) = text.split_once("Latency Distribution").unwrap_or_else(|| panic!("{text}"));
        let (_, rest) = told.split_once(before).unwrap_or_else(|| panic!("{text}"));
        rest.split_whitespace().next().expect("a word").to_string()
    };
    let requests = text.lines().find(|line| line.contains(" requests in ")).expect("a line");
    Some(Load {
        requests: requests
            .split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number"),
        per_second: word("Requests/sec:").parse().expect("a number"),
        p50: time(&word("50%")),
        p99: time(&word("99%")),
    })
}

/// Downloads an address by so many clients at once, and says how long that took.
pub fn curl(url: &str, client: Option<&Client>, clients: usize) -> Duration {
    let begun = Instant::now();
    let running: Vec<_> = (0..clients)
        .map(|_| {
            let mut command = Command::new("curl");
            command.args(["-sSf", "-o", "/dev/null", url]);
            if let Some(client) = client {
                let header = format!("Authorization: {}", client.authorization());
                command.args(["-H".to_string(), header]);
            }
            command.spawn().expect("curl starts")
        })
        .collect();
    for mut running in running {
        assert!(running.wait().expect("it ends").success(), "{url}");
    }
    begun.elapsed()
}
