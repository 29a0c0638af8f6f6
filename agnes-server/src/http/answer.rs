//! Answers about one caller: nobody else may keep them, and she asks each time.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum_extra::headers::{ETag, HeaderMapExt, IfNoneMatch};
use serde::Serialize;

/// Marks an answer as the caller's own.
pub(crate) fn personal(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.append(header::VARY, HeaderValue::from_static("authorization, cookie"));
}

/// JSON for one caller.
#[derive(Debug)]
pub(crate) struct Personal<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Personal<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.0).into_response();
        personal(response.headers_mut());
        response
    }
}

/// The same, or 304 for a caller who has it. `content` is what the answer tells apart from the
/// moment that it was made in.
pub(crate) fn unless_known(
    headers: &HeaderMap,
    content: &impl Serialize,
    answer: impl Serialize,
) -> Response {
    let bytes = serde_json::to_vec(content).unwrap_or_default();
    let hash = blake3::hash(&bytes).to_hex();
    let tag: Option<ETag> = format!("\"{}\"", &hash.as_str()[..32]).parse().ok();
    let had = headers.typed_get::<IfNoneMatch>();
    let is_known = tag.as_ref().zip(had).is_some_and(|(tag, had)| !had.precondition_passes(tag));
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Json(answer).into_response(),
    };
    personal(response.headers_mut());
    if let Some(tag) = tag {
        response.headers_mut().typed_insert(tag);
    }
    response
}
