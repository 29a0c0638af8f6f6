//! A server elsewhere: what is asked of it over HTTP, and what it answers.

use std::time::Duration;

use agnes_core::{Error, Kind, Result, Secret};
use serde_json::Value;
use ureq::http::Request;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};
use url::{Host, Url};

/// A server that is asked over HTTP.
pub(in crate::cli) struct Server {
    agent: Agent,
    pub(super) url: Url,
    token: Option<Secret>,
}

pub(super) fn invalid(what: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, what)
}

/// Whether an address is this machine's own.
fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// What an error's `code` means here.
fn kind(code: &str, status: u16) -> Kind {
    let kinds =
        [Kind::Invalid, Kind::Denied, Kind::NotFound, Kind::Conflict, Kind::Contract, Kind::Limit];
    let known = kinds.into_iter().find(|kind| kind.as_str() == code);
    known.unwrap_or(match status {
        401 | 403 => Kind::Denied,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        413 | 429 => Kind::Limit,
        400..=499 | 501 => Kind::Invalid,
        _ => Kind::Unavailable,
    })
}

/// A text of an answer's field, or of several below each other.
pub(super) fn text(value: &Value, path: &str) -> String {
    match value.pointer(path) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

pub(super) fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_default()
}

impl Server {
    /// The server at an address.
    ///
    /// # Errors
    /// `Invalid` for an address that is none, and for one to which a token would go unprotected.
    pub(in crate::cli) fn new(url: &str, token: Option<Secret>) -> Result<Server> {
        let url = Url::parse(url.trim_end_matches('/'))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
            .ok_or_else(|| {
                let shown = url.escape_debug();
                invalid(format!(
                    "--server is an address like `https://data.example.com`, not `{shown}`"
                ))
            })?;
        if url.scheme() == "http" && token.is_some() && !is_here(&url) {
            return Err(invalid(format!(
                "a token isn't sent to `{url}` without TLS; name it with https://"
            )));
        }
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_global(Some(Duration::from_secs(600)))
            // What a token may be sent to was named.
            .max_redirects(0)
            // A proxy would read what goes without TLS, or answer in this machine's place.
            .proxy(if url.scheme() == "https" { ureq::Proxy::try_from_env() } else { None })
            .http_status_as_error(false)
            .user_agent(concat!("agnes/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Server { agent, url, token })
    }

    /// Asks, and takes the answer as it is.
    pub(super) fn send(
        &self,
        method: &str,
        path: &[&str],
        query: &[(&str, &str)],
        accept: &str,
        body: Option<&Value>,
    ) -> Result<Body> {
        let mut url = self.url.clone();
        url.path_segments_mut().map_err(|()| invalid("the address takes no path"))?.extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = Request::builder().method(method).uri(url.as_str());
        request = request.header("accept", accept);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        let unfit = |_| invalid("AGNES_TOKEN can't be a token");
        let answer = match body {
            None => self.agent.run(request.body(()).map_err(unfit)?),
            Some(body) => {
                let request = request.header("content-type", "application/json");
                self.agent.run(request.body(body.to_string()).map_err(unfit)?)
            }
        };
        let away = |e: ureq::Error| {
            Error::new(Kind::Unavailable, format!("`{}` can't be asked: {e}", self.url))
        };
        let answer = answer.map_err(away)?;
        let status = answer.status();
        let mut body = answer.into_body();
        if status.is_success() {
            return Ok(body);
        }
        let told = body.read_to_string().unwrap_or_default();
        let told: Value = serde_json::from_str(&told).unwrap_or_default();
        let detail = match told.get("detail") {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => format!("`{}` answered {status}", self.url),
            Some(other) => other.to_string(),
        };
        let detail = match (status.as_u16(), &self.token) {
            (401, None) => format!("{detail}; AGNES_TOKEN takes a token of yours"),
            (401, Some(_)) => format!("{detail} (the one of AGNES_TOKEN)"),
            _ => detail,
        };
        Err(Error::new(kind(&text(&told, "/code"), status.as_u16()), detail))
    }

    /// Asks for JSON; nothing for an answer without a body.
    pub(super) fn ask(&self, method: &str, path: &[&str], body: Option<&Value>) -> Result<Value> {
        self.ask_with(method, path, &[], body)
    }

    pub(super) fn ask_with(
        &self,
        method: &str,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value> {
        let mut answer = self.send(method, path, query, "application/json", body)?;
        let text = answer.with_config().limit(256 << 20).read_to_string().map_err(|e| {
            Error::new(Kind::Unavailable, format!("the answer of `{}` broke off: {e}", self.url))
        })?;
        match text.trim().is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_str(&text).map_err(|_| {
                Error::new(
                    Kind::Unavailable,
                    format!("`{}` doesn't answer as Agnes does", self.url),
                )
            }),
        }
    }

    pub(super) fn get(&self, path: &[&str]) -> Result<Value> {
        self.ask("GET", path, None)
    }

    /// The one of a list whose field says this.
    pub(super) fn named(
        &self,
        list: &[&str],
        field: &str,
        wanted: &str,
        what: &str,
    ) -> Result<Value> {
        let all = self.get(list)?;
        let mut found =
            items(&all).iter().filter(|item| text(item, field).eq_ignore_ascii_case(wanted));
        found.next().cloned().ok_or_else(|| {
            Error::new(Kind::NotFound, format!("there is no {what} `{}`", wanted.escape_debug()))
        })
    }

    pub(super) fn user(&self, email: &str) -> Result<Value> {
        self.named(&["api", "users"], "/email", email, "user")
    }

    pub(super) fn group(&self, name: &str) -> Result<Value> {
        self.named(&["api", "admin", "groups"], "/name", name, "group")
    }
}

/// The elements of a list, whatever field it is in.
pub(super) fn items(value: &Value) -> &[Value] {
    let list = match value {
        Value::Array(list) => Some(list),
        Value::Object(map) => map.values().find_map(Value::as_array),
        _ => None,
    };
    list.map_or(&[], Vec::as_slice)
}
