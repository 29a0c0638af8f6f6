//! A file as an answer: conditions and ranges as RFC 9110 has them.

mod content;

use std::fs::File;
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use super::answer::personal;
use super::error::{Answer, Failure};
use super::memory::ReadAsTaken;
use super::pool::Pool;
use super::serve::Direct;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum_extra::headers::{
    ContentRange, ETag, HeaderMapExt, IfMatch, IfModifiedSince, IfNoneMatch, IfRange,
    IfUnmodifiedSince, LastModified, Range,
};
use content::Content;

/// A file that is sent.
pub(crate) struct Served<'a> {
    pub(crate) file: File,
    /// Bytes.
    pub(crate) size: u64,
    /// The hash of its content.
    pub(crate) tag: &'a str,
    pub(crate) modified: Option<SystemTime>,
    pub(crate) content_type: &'static str,
    /// What a browser calls it.
    pub(crate) name: &'a str,
    /// Where it is read when it isn't in memory.
    pub(crate) pool: &'a Arc<Pool>,
    /// Where the line takes it as it is.
    pub(crate) direct: Option<Direct>,
}

/// What the conditions of a request come to, in the order of RFC 9110, 13.2.2.
enum Condition {
    /// It is to be sent.
    Send,
    /// The caller has it.
    NotModified,
    /// The caller has something else.
    Failed,
}

fn condition(headers: &HeaderMap, tag: &ETag, modified: Option<SystemTime>) -> Condition {
    match (headers.typed_get::<IfMatch>(), headers.typed_get::<IfUnmodifiedSince>(), modified) {
        (Some(wanted), ..) if !wanted.precondition_passes(tag) => return Condition::Failed,
        (None, Some(since), Some(modified)) if !since.precondition_passes(modified) => {
            return Condition::Failed;
        }
        _ => {}
    }
    match (headers.typed_get::<IfNoneMatch>(), headers.typed_get::<IfModifiedSince>(), modified) {
        (Some(had), ..) if !had.precondition_passes(tag) => Condition::NotModified,
        (None, Some(since), Some(modified)) if !since.is_modified(modified) => {
            Condition::NotModified
        }
        _ => Condition::Send,
    }
}

/// The bytes that are asked for.
enum Wanted {
    All,
    /// The first and the last.
    Part(u64, u64),
    Nothing,
}

/// One range is sent as such; of several the whole is sent, as a server may.
fn wanted(headers: &HeaderMap, size: u64, tag: &ETag, modified: Option<SystemTime>) -> Wanted {
    let Some(range) = headers.typed_get::<Range>() else { return Wanted::All };
    let modified = modified.map(LastModified::from);
    let of_another = |had: IfRange| had.is_modified(Some(tag), modified.as_ref());
    if headers.typed_get::<IfRange>().is_some_and(of_another) {
        return Wanted::All;
    }
    let mut ranges = range.satisfiable_ranges(size);
    let (first, more) = (ranges.next(), ranges.next().is_some());
    let Some((from, to)) = first else { return Wanted::Nothing };
    let from = match from {
        Bound::Included(from) => from,
        Bound::Excluded(from) => from.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match to {
        Bound::Included(to) => to.min(size.saturating_sub(1)),
        Bound::Excluded(to) => to.saturating_sub(1).min(size.saturating_sub(1)),
        Bound::Unbounded => size.saturating_sub(1),
    };
    match () {
        () if more => Wanted::All,
        () if from >= size || to < from => Wanted::Nothing,
        () => Wanted::Part(from, to),
    }
}

/// Sends a file, or as much of it as is asked for.
pub(crate) fn serve(served: Served<'_>, method: &Method, headers: &HeaderMap) -> Answer<Response> {
    let Served { file, size, tag, modified, content_type, name, pool, direct } = served;
    let content = |at, length| Content::new(file, at, length, pool, direct);
    let tag: ETag = format!("\"{tag}\"")
        .parse()
        .map_err(|_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the file has no tag"))?;
    let mut response = match condition(headers, &tag, modified) {
        Condition::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        Condition::Failed => {
            return Err(Failure::new(
                StatusCode::PRECONDITION_FAILED,
                "the file isn't the one that the request names",
            ));
        }
        // Ranges are of GET alone.
        Condition::Send if method == Method::HEAD => sent(content(0, size)),
        Condition::Send => match wanted(headers, size, &tag, modified) {
            Wanted::Nothing => {
                let range = HeaderValue::from_str(&format!("bytes */{size}"));
                let failure = Failure::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    format!("the file has {size} bytes"),
                );
                return Err(match range {
                    Ok(range) => failure.with(header::CONTENT_RANGE, range),
                    Err(_) => failure,
                });
            }
            Wanted::All => sent(content(0, size)),
            Wanted::Part(from, to) => {
                let mut part = sent(content(from, to - from + 1));
                *part.status_mut() = StatusCode::PARTIAL_CONTENT;
                if let Ok(range) = ContentRange::bytes(from..=to, size) {
                    part.headers_mut().typed_insert(range);
                }
                part
            }
        },
    };
    let told = response.headers_mut();
    personal(told);
    told.typed_insert(tag);
    told.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    told.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(modified) = modified {
        told.typed_insert(LastModified::from(modified));
    }
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        told.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

fn sent(content: Content) -> Response {
    let length = content.left();
    let mut response = Body::new(content).into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response.extensions_mut().insert(ReadAsTaken);
    response
}
