//! Bodies and parameters; what can't be understood is told with its place.

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::error::Failure;
use super::memory::TooMuch;
use super::serve::TooSlow;

/// A JSON body.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state).await.map_err(unread)?;
        parse(&bytes).map(Body)
    }
}

fn unread(rejection: BytesRejection) -> Failure {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "the request's body is too large")
        }
        status => given_up(&rejection)
            .unwrap_or_else(|| Failure::new(status, "the request's body can't be read")),
    }
}

/// Why the server has read no more of a body, where it was the server that ended it.
pub(crate) fn given_up(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| {
        let too_slow =
            |too_slow: &TooSlow| Failure::new(StatusCode::REQUEST_TIMEOUT, too_slow.to_string());
        let too_slow = error.downcast_ref().map(too_slow);
        too_slow.or_else(|| error.downcast_ref::<TooMuch>().map(|too_much| (*too_much).into()))
    })
}

/// A value from the text of a body.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    // Serde takes a list for the fields of a struct, too.
    if !bytes.is_empty() && bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Failure::unprocessable(&["body"], "it takes an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let place: Vec<&str> = std::iter::once("body")
            .chain(path.split('.').filter(|part| !part.is_empty() && *part != "?"))
            .collect();
        Failure::unprocessable(&place, &error.inner().to_string())
    })?;
    json.end().map_err(|error| Failure::unprocessable(&["body"], &error.to_string()))?;
    Ok(value)
}

/// Fields of a browser's form, or of an address.
fn fields<T: DeserializeOwned>(text: &[u8], place: &str) -> Result<T, Failure> {
    let pairs = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(text));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let path = error.path().to_string();
        let place: Vec<&str> =
            std::iter::once(place).chain(Some(path.as_str()).filter(|p| *p != ".")).collect();
        Failure::unprocessable(&place, &error.inner().to_string())
    })
}

/// Whether a browser's form sends a request, by what it says of its body.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// A body in JSON, or of a browser's form, whose sender sees pages.
#[derive(Debug)]
pub(crate) enum Sent<T> {
    Json(T),
    Form(T),
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let is_form = is_form(request.headers());
        let bytes = Bytes::from_request(request, state).await.map_err(unread)?;
        // curl calls everything a form.
        let is_form = is_form && !bytes.trim_ascii_start().starts_with(b"{");
        match is_form {
            true => fields(&bytes, "body").map(Sent::Form),
            false => parse(&bytes).map(Sent::Json),
        }
    }
}

impl<T> Sent<T> {
    /// What was sent, and whether a form sent it.
    pub(crate) fn into_parts(self) -> (T, bool) {
        match self {
            Sent::Json(value) => (value, false),
            Sent::Form(value) => (value, true),
        }
    }
}

/// What a browser's form holds; the same in JSON will do.
#[derive(Debug)]
pub(crate) struct Form<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Form<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let (value, _) = Sent::from_request(request, state).await?.into_parts();
        Ok(Form(value))
    }
}

/// The parameters of an address.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let text = parts.uri.query().unwrap_or_default();
        fields(text.as_bytes(), "query").map(Query)
    }
}

/// A whole number in JSON, which may be written as `5.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole(pub(crate) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(d)?;
        let whole = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e18);
        let whole = number.as_i64().or(whole.map(|n| n as i64));
        whole.map(Whole).ok_or_else(|| serde::de::Error::custom("it takes a whole number"))
    }
}

/// A part of a path, whatever it holds. Malformed escapes are as if there were no such thing.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        let axum::extract::Path(value) = path
            .map_err(|_| Failure::new(StatusCode::NOT_FOUND, "there is nothing at this address"))?;
        Ok(Path(value))
    }
}
