//! What Jira tells by itself. Who signs with the secret is heard; what is to be done about it comes
//! with the connector.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use serde_json::Value;
use sha2::Sha256;
use utoipa::ToSchema;

use crate::http::app::{App, Inner};
use crate::http::error::{Answer, Failure};

/// Whether webhooks can be taken.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookHealth {
    /// `ok`, or `not_configured` without a secret.
    status: &'static str,
}

/// Say whether Jira's webhooks can be taken
#[utoipa::path(
    get, path = "/webhooks/jira/health", tag = "webhooks", responses((status = 200, body = WebhookHealth))
)]
pub(super) async fn health(State(app): State<App>) -> Json<WebhookHealth> {
    let is_there = app.settings.jira_webhook_secret.is_some();
    Json(WebhookHealth { status: if is_there { "ok" } else { "not_configured" } })
}

/// Take what Jira tells of an issue
#[utoipa::path(
    post, path = "/webhooks/jira", tag = "webhooks", request_body = Object,
    responses(
        (status = 400, description = "Nothing is told, or not as JSON"),
        (status = 401, description = "The signature is wrong"),
        (status = 413, description = "It is larger than what a request may be"),
        (status = 503, description = "Jira isn't configured"),
    )
)]
pub(super) async fn take(
    State(app): State<App>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<StatusCode> {
    told(&app, &headers, &body)
}

fn told(app: &Inner, headers: &HeaderMap, body: &[u8]) -> Answer<StatusCode> {
    let unavailable = |what: &str| Failure::new(StatusCode::SERVICE_UNAVAILABLE, what);
    let secret = app.settings.jira_webhook_secret.as_ref();
    let secret = secret.ok_or_else(|| unavailable("JIRA_WEBHOOK_SECRET is unset"))?;
    if !is_signed(secret.expose().as_bytes(), headers, body) {
        return Err(Failure::unauthenticated("the signature is wrong"));
    }
    let invalid = |what: &str| Failure::new(StatusCode::BAD_REQUEST, what);
    let event: Value = serde_json::from_slice(body).map_err(|_| invalid("it is no JSON"))?;
    let key = match event.pointer("/issue/key") {
        None => return Err(invalid("it tells of no issue")),
        Some(key) => key.as_str().unwrap_or_default(),
    };
    let is_key = |key: &str| {
        key.split_once('-').is_some_and(|(project, number)| {
            project.starts_with(|c: char| c.is_ascii_uppercase())
                && project.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
                && !number.is_empty()
                && number.chars().all(|c| c.is_ascii_digit())
        })
    };
    match is_key(key) {
        false => Err(invalid("the issue's key isn't like `ABC-123`")),
        // The event isn't taken: Jira sends it again.
        true => Err(unavailable("nothing here can ask Jira about the issue yet")),
    }
}

/// Whether a body was signed with the secret: HMAC-SHA256, in hex, in one of two headers.
fn is_signed(secret: &[u8], headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(given) = text("x-hub-signature-256").or_else(|| text("x-hub-signature")) else {
        return false;
    };
    let given = given.strip_prefix("sha256=").unwrap_or(given);
    let digits = given.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            let is_hex = pair.bytes().all(|b| b.is_ascii_hexdigit());
            is_hex.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        })
        .collect();
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
    mac.update(body);
    // In constant time.
    bytes.is_some_and(|bytes| mac.verify_slice(&bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second example of RFC 4231.
    #[test]
    fn a_signature_of_the_book_is_known_in_each_form() {
        let right = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let headers = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            headers
        };
        let body = b"what do ya want for nothing?";
        for headers in [
            headers("x-hub-signature-256", right),
            headers("x-hub-signature", &format!("sha256={right}")),
            headers("x-hub-signature-256", &right.to_uppercase()),
        ] {
            assert!(is_signed(b"Jefe", &headers, body));
            assert!(!is_signed(b"jefe", &headers, body));
            assert!(!is_signed(b"Jefe", &headers, b"something else"));
        }
        let long = format!("{right}00");
        for wrong in ["", "sha256=", &right[1..], &long, "zz", "sha1=x", "+b"] {
            assert!(!is_signed(b"Jefe", &headers("x-hub-signature-256", wrong), body), "{wrong}");
        }
        assert!(!is_signed(b"Jefe", &HeaderMap::new(), body));
    }
}
