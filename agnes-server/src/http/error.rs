//! What a client hears when something went wrong: `{"detail", "code", "request_id"}`.

use agnes_core::{Error, Key, Kind};
use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::request_id;

/// The result of a handler.
pub(crate) type Answer<T> = Result<T, Failure>;

/// An error on its way to a client.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    /// A text, or an object for errors that clients tell apart.
    detail: Value,
    code: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    /// An error with a status of its own.
    pub(crate) fn new(status: StatusCode, detail: impl Into<Value>) -> Failure {
        let code = match status {
            StatusCode::UNAUTHORIZED => "Unauthenticated",
            StatusCode::FORBIDDEN => Kind::Denied.as_str(),
            StatusCode::NOT_FOUND => Kind::NotFound.as_str(),
            StatusCode::CONFLICT => Kind::Conflict.as_str(),
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Kind::Limit.as_str(),
            StatusCode::SERVICE_UNAVAILABLE => Kind::Unavailable.as_str(),
            StatusCode::NOT_IMPLEMENTED => "NotImplemented",
            status if status.is_server_error() => Kind::Internal.as_str(),
            _ => Kind::Invalid.as_str(),
        };
        Failure { status, detail: detail.into(), code, headers: Vec::new() }
    }

    /// Nobody knows who asks.
    pub(crate) fn unauthenticated(detail: &str) -> Failure {
        let challenge = HeaderValue::from_static("Bearer realm=\"agnes\"");
        Failure::new(StatusCode::UNAUTHORIZED, detail).with(header::WWW_AUTHENTICATE, challenge)
    }

    /// What a request says can't be understood: `detail` is a list of places and reasons.
    pub(crate) fn unprocessable(place: &[&str], message: &str) -> Failure {
        let fault = json!({"loc": place, "msg": message, "type": "value_error"});
        Failure::new(StatusCode::UNPROCESSABLE_ENTITY, json!([fault]))
    }

    /// Whether it has this status.
    pub(crate) fn is(&self, status: StatusCode) -> bool {
        self.status == status
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Failure {
        self.headers.push((name, value));
        self
    }

    /// The same error with another status, where the wire has one of its own.
    pub(crate) fn status(mut self, status: StatusCode) -> Failure {
        self.status = status;
        self
    }
}

/// The status of a kind, where a route has none of its own.
fn status(error: &Error) -> StatusCode {
    match error.kind() {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Contract => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        // Asking for less helps, unless it is a matter of time.
        Kind::Limit if is_quota(error) => StatusCode::TOO_MANY_REQUESTS,
        Kind::Limit => StatusCode::BAD_REQUEST,
        // Nobody hears it; the log should tell it from a fault.
        Kind::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Whether the same call may do later.
fn is_quota(error: &Error) -> bool {
    error.context(Key::Reason) == Some("concurrent_statements")
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = status(&error);
        // A bug may say anything, and says it to the operator alone.
        let detail: Value = match status {
            StatusCode::INTERNAL_SERVER_ERROR => {
                tracing::error!(request_id = request_id::current(), ?error, "internal error");
                "something went wrong in the server; its log says what, under this request's id"
                    .into()
            }
            _ => error.message().into(),
        };
        let detail = match error.context(Key::Reason) {
            Some(reason @ "google_managed_readonly") => {
                json!({"code": reason, "message": error.message()})
            }
            _ => detail,
        };
        let failure = Failure { status, detail, code: error.kind().as_str(), headers: Vec::new() };
        match error.kind() {
            Kind::Limit if is_quota(&error) => {
                failure.with(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            Kind::Unavailable => {
                let path = error.context(Key::Path);
                tracing::warn!(request_id = request_id::current(), ?error, path, "unavailable");
                failure.with(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            _ => failure,
        }
    }
}

/// What an answer says to a person, where she sees no JSON.
#[derive(Debug, Clone)]
pub(crate) struct Told(pub(crate) String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let told = match &self.detail {
            Value::String(text) => text.clone(),
            _ => "The server doesn't understand what was sent.".to_string(),
        };
        let body = json!({
            "detail": self.detail, "code": self.code, "request_id": request_id::current(),
        });
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().extend(self.headers);
        response.extensions_mut().insert(Told(told));
        // An answer about one moment and one caller.
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
