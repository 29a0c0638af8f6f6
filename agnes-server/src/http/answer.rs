//! Answers about one caller: nobody else may keep them, and she asks each time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use agnes_core::access::Principal;
use agnes_core::catalog::Standing;
use agnes_core::{Error, Kind, Result};
use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum_extra::headers::{ETag, HeaderMapExt, IfNoneMatch};
use serde::Serialize;

use super::app::{App, Inner};

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

/// An answer that is made, as JSON.
#[derive(Debug)]
pub(crate) struct Made {
    /// What the answer tells, apart from the moment that it was made in.
    content: Vec<u8>,
    /// The whole of it, where that is more.
    answer: Option<Vec<u8>>,
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|e| Error::new(Kind::Internal, "an answer is no JSON").because(e))
}

impl Made {
    pub(crate) fn of(answer: &impl Serialize) -> Result<Made> {
        Ok(Made { content: json(answer)?, answer: None })
    }

    pub(crate) fn at_a_moment(content: &impl Serialize, answer: &impl Serialize) -> Result<Made> {
        Ok(Made { content: json(content)?, answer: Some(json(answer)?) })
    }

    fn tag(&self) -> Option<ETag> {
        let hash = blake3::hash(&self.content).to_hex();
        format!("\"{}\"", hash.get(..32)?).parse().ok()
    }

    /// The answer, or 304 for a caller who has it.
    pub(crate) fn unless_had(self, headers: &HeaderMap) -> Response {
        let tag = self.tag();
        if let Some(tag) = &tag
            && has(headers, tag)
        {
            return not_modified(tag);
        }
        let kind = HeaderValue::from_static("application/json");
        let body = self.answer.unwrap_or(self.content);
        let mut response = ([(header::CONTENT_TYPE, kind)], body).into_response();
        personal(response.headers_mut());
        if let Some(tag) = tag {
            response.headers_mut().typed_insert(tag);
        }
        response
    }
}

fn has(headers: &HeaderMap, tag: &ETag) -> bool {
    headers.typed_get::<IfNoneMatch>().is_some_and(|had| !had.precondition_passes(tag))
}

fn not_modified(tag: &ETag) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    personal(response.headers_mut());
    response.headers_mut().typed_insert(tag.clone());
    response
}

/// What an answer was made of.
#[derive(Debug, Clone, PartialEq)]
struct From {
    standing: Standing,
    beside: Vec<u8>,
}

/// An answer's name, and who asks for it.
type Asked = (&'static str, Principal);

/// The tags of answers, with what they were made of: who has one that is still right hears so without
/// its being made again.
#[derive(Debug, Default)]
pub(crate) struct Tags(Mutex<HashMap<Asked, (From, ETag)>>);

/// The most answers whose tags are kept.
const TAGS_MAX: usize = 10_000;

impl Tags {
    fn known(&self, of: &Asked, from: &From) -> Option<ETag> {
        let tags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tags.get(of).filter(|(was, _)| was == from).map(|(_, tag)| tag.clone())
    }

    fn keep(&self, of: Asked, from: From, tag: ETag) {
        let mut tags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tags.len() >= TAGS_MAX {
            tags.clear();
        }
        tags.insert(of, (from, tag));
    }
}

/// Makes an answer from what a principal may see, unless the caller has it. `beside` is what it tells
/// that isn't in the catalog.
///
/// # Errors
/// As [`agnes_core::Agnes::standing`], and those of `make`.
pub(crate) async fn unless_had(
    app: &App,
    principal: Principal,
    headers: HeaderMap,
    name: &'static str,
    beside: impl FnOnce(&Inner) -> Result<Vec<u8>> + Send + 'static,
    make: impl FnOnce(&Inner, &Principal) -> Result<Made> + Send + 'static,
) -> Result<Response> {
    let answer = move |app: &Inner| {
        let from = From { standing: app.agnes.standing(&principal)?, beside: beside(app)? };
        let of = (name, principal);
        if let Some(tag) = app.tags.known(&of, &from)
            && has(&headers, &tag)
        {
            return Ok(not_modified(&tag));
        }
        let made = make(app, &of.1)?;
        if let Some(tag) = made.tag() {
            app.tags.keep(of, from, tag);
        }
        Ok(made.unless_had(&headers))
    };
    app.work(answer).await
}
