//! A name for each request, in its answer and in the log, which has a line for each; and its count.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use tracing::Instrument as _;

use super::app::App;
use super::span;

pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request that this task works on; empty outside of one.
pub(crate) fn current() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// An id that a proxy gave, where it can stand in a log line.
fn given(request: &Request) -> Option<String> {
    let id = request.headers().get(HEADER)?.to_str().ok()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (!id.is_empty() && id.len() <= 64 && id.chars().all(is_plain)).then(|| id.to_string())
}

/// Names the request, and has the answer say so.
pub(crate) async fn name(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = given(&request).unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
    let header = HeaderValue::from_str(&id);
    // Not the parameters: a link's hold its secret.
    let (method, path) = (request.method().clone(), request.uri().path().to_string());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let span = span::of(&request, &id, route.as_ref().map(MatchedPath::as_str));
    let begun = Instant::now();
    let answer = CURRENT.scope(id.clone(), next.run(request));
    let mut response = answer.instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    let (took, status) = (begun.elapsed(), response.status().as_u16());
    app.meters.count(method.as_str(), route.as_ref().map(MatchedPath::as_str), status, took);
    tracing::info!(
        request_id = id,
        %method,
        path,
        status,
        ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    );
    if let Ok(header) = header {
        response.headers_mut().insert(HEADER, header);
    }
    response
}
