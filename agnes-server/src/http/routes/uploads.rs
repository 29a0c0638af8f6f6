//! What users upload.

use agnes_core::metric::Metric;
use agnes_core::upload::{UPLOAD_MAX, Uploaded};
use agnes_core::{Error, Key, Kind};
use axum::Json;
use axum::extract::{Multipart, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::app::{App, Inner};
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Body, given_up};

/// The most bytes of a request with an upload: what is around it needs room, too.
pub(super) const BODY_MAX: usize = UPLOAD_MAX + (1 << 20);

/// A file that was kept.
#[derive(Serialize, ToSchema)]
pub(super) struct KeptFile {
    /// `ok`.
    status: &'static str,
    /// What it is called here.
    filename: String,
    /// Bytes.
    size: usize,
}

/// A file as a part of a form.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the form; nothing is read into it")]
pub(super) struct UploadForm {
    /// The file.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
}

fn too_large(error: Error) -> Failure {
    let is_too_large = error.context(Key::Reason) == Some("too_large");
    let failure = Failure::from(error);
    if is_too_large { failure.status(StatusCode::PAYLOAD_TOO_LARGE) } else { failure }
}

/// The file of a form, with its name.
async fn file_of(
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Answer<(String, bytes::Bytes)> {
    let mut form =
        form.map_err(|rejection| Failure::unprocessable(&["body"], &rejection.body_text()))?;
    let unread = |e: axum::extract::multipart::MultipartError| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("an upload has at most {UPLOAD_MAX} bytes"),
        ),
        _ => given_up(&e).unwrap_or_else(|| {
            Failure::new(StatusCode::BAD_REQUEST, format!("the form can't be read: {e}"))
        }),
    };
    while let Some(part) = form.next_field().await.map_err(unread)? {
        if part.name() == Some("file") {
            let name = part.file_name().unwrap_or_default().to_string();
            return Ok((name, part.bytes().await.map_err(unread)?));
        }
    }
    Err(Failure::unprocessable(&["body", "file"], "there is no file in the form"))
}

async fn keep(
    app: &App,
    caller: Caller,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
    what: for<'n> fn(&'n str) -> Uploaded<'n>,
) -> Answer<Json<KeptFile>> {
    let (name, content) = file_of(form).await?;
    let kept = app.work(move |app| app.agnes.keep_upload(&caller.user, what(&name), &content));
    let kept = kept.await.map_err(too_large)?;
    Ok(Json(KeptFile { status: "ok", filename: kept.filename, size: kept.size }))
}

/// A table that was made of a file.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeTable {
    /// `ok`.
    status: &'static str,
    table: String,
    rows: u64,
    /// Bytes of the file.
    size: usize,
}

/// Make a table of a file, and publish it
///
/// CSV, TSV, JSON, Parquet or Arrow, by the ending of its name. It is a table of the source `files`,
/// in the place of the one of that name there.
#[utoipa::path(
    post, path = "/api/upload/tables", tag = "uploads",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = MadeTable), (status = 400, description = "The file can't be read"),
        (status = 409, description = "Another source has a table of that name"),
        (status = 413, description = "It is larger than 50 MiB"),
        (status = 422, description = "There is no file"),
    )
)]
pub(super) async fn table(
    State(app): State<App>,
    caller: Caller,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Answer<Json<MadeTable>> {
    let (name, content) = file_of(form).await?;
    let make = move |app: &Inner| app.agnes.upload_table(&caller.principal, &name, &content);
    let made = app.work_in(&app.jobs, make);
    let made = made.await.map_err(too_large)?;
    let table = made.table.to_string();
    Ok(Json(MadeTable { status: "ok", table, rows: made.rows, size: made.size }))
}

/// Take the definitions of metrics from a YAML file
///
/// All of them, in the place of those with their ids, or none.
#[utoipa::path(
    post, path = "/api/admin/metrics/import", tag = "metrics",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = ImportedMetrics),
        (status = 400, description = "Nothing is in it, or something that can't be"),
        (status = 413, description = "It is larger than 50 MiB"),
        (status = 422, description = "There is no file"),
    )
)]
pub(super) async fn metrics(
    State(app): State<App>,
    caller: Caller,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Answer<Json<ImportedMetrics>> {
    let (_, content) = file_of(form).await?;
    let imported = app.work(move |app| {
        let invalid = |what: &str| Error::new(Kind::Invalid, what);
        let text = std::str::from_utf8(&content).map_err(|_| invalid("the file isn't UTF-8"))?;
        let metrics = Metric::parse_yaml(text, None)?;
        if metrics.is_empty() {
            return Err(invalid("the file defines no metric"));
        }
        app.agnes.put_metrics(&caller.principal, &metrics)?;
        Ok(metrics.len())
    });
    Ok(Json(ImportedMetrics { status: "imported", count: imported.await? }))
}

/// Metrics that were imported.
#[derive(Serialize, ToSchema)]
pub(super) struct ImportedMetrics {
    /// `imported`.
    status: &'static str,
    count: usize,
}

/// Keep the transcript of a session
#[utoipa::path(
    post, path = "/api/upload/sessions", tag = "uploads",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = KeptFile), (status = 400, description = "The form can't be read"),
        (status = 413, description = "It is larger than 50 MiB"),
        (status = 422, description = "There is no file"),
    )
)]
pub(super) async fn session(
    State(app): State<App>,
    caller: Caller,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Answer<Json<KeptFile>> {
    keep(&app, caller, form, |name| Uploaded::Session(name)).await
}

/// Keep something that somebody has made
#[utoipa::path(
    post, path = "/api/upload/artifacts", tag = "uploads",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = KeptFile), (status = 400, description = "The form can't be read"),
        (status = 413, description = "It is larger than 50 MiB"),
        (status = 422, description = "There is no file"),
    )
)]
pub(super) async fn artifact(
    State(app): State<App>,
    caller: Caller,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Answer<Json<KeptFile>> {
    keep(&app, caller, form, |name| Uploaded::Artifact(name)).await
}

/// A user's notes for her agent.
#[derive(Deserialize, ToSchema)]
pub(super) struct Notes {
    /// Markdown.
    content: String,
}

/// Notes that were kept.
#[derive(Serialize, ToSchema)]
pub(super) struct KeptNotes {
    /// `ok`.
    status: &'static str,
    /// Whose they are.
    user: String,
    /// Bytes.
    size: usize,
}

/// Keep a user's notes, of which she has one file
#[utoipa::path(
    post, path = "/api/upload/local-md", tag = "uploads", request_body = Notes,
    responses(
        (status = 200, body = KeptNotes), (status = 413, description = "They are larger than 50 MiB"),
        (status = 422, description = "There are none"),
    )
)]
pub(super) async fn notes(
    State(app): State<App>,
    caller: Caller,
    Body(Notes { content }): Body<Notes>,
) -> Answer<Json<KeptNotes>> {
    let user = caller.user.email.clone();
    let of = caller.user;
    let kept = app.work(move |app| app.agnes.keep_upload(&of, Uploaded::Notes, content.as_bytes()));
    let kept = kept.await.map_err(|error| match error.kind() {
        Kind::Limit => too_large(error),
        _ => error.into(),
    })?;
    Ok(Json(KeptNotes { status: "ok", user: user.to_string(), size: kept.size }))
}
