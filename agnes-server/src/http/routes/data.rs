//! The files of tables.

use std::path::Path as FilePath;

use agnes_core::{Error, Kind, Result};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::named::decide;
use crate::http::answer::personal;
use crate::http::app::{App, Inner};
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::Path;
use crate::http::files::{self, Served};
use crate::http::serve::Direct;
use crate::http::settings::SendFile;

/// Names the file that a program in front may send, below the data folder.
const FILE: HeaderName = HeaderName::from_static("x-agnes-file");
/// Tells nginx which file to send, below [`INSIDE`].
const ACCEL: HeaderName = HeaderName::from_static("x-accel-redirect");
/// Tells Apache and its like which file to send.
const SENDFILE: HeaderName = HeaderName::from_static("x-sendfile");
/// Where nginx has the data folder, for its own use alone.
const INSIDE: &str = "/_agnes_files/";

/// A path below the data folder, as a URL's path; none for what lies elsewhere.
fn below(app: &Inner, path: &FilePath) -> Option<String> {
    let relative = path.strip_prefix(app.agnes.layout().root()).ok()?.to_str()?;
    let mut url = url::Url::parse("file:///").ok()?;
    url.path_segments_mut().ok()?.clear().extend(relative.split('/'));
    Some(url.path().trim_start_matches('/').to_string())
}

/// Say whether the caller may download a table
///
/// For a proxy that sends files itself: `X-Agnes-File` names the file, below the data folder and
/// in the form of a URL's path, and `ETag` what is in it. Of a table without a file of its own both
/// are absent.
#[utoipa::path(
    get, path = "/api/data/{table}/check-access", tag = "data",
    params(("table" = String, Path, description = "The name under which it is published, or its id")),
    responses((status = 204, description = "She may"), (status = 404, description = "No such table"))
)]
pub(super) async fn check_access(
    State(app): State<App>,
    caller: Caller,
    Path(table): Path<String>,
) -> Answer<Response> {
    // All of it is in memory: nobody waits for a thread.
    let decision = decide(&app, &caller.principal, &table)?;
    let permit = decision.permit()?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    personal(response.headers_mut());
    if let Ok((path, hash)) = app.agnes.data_path(&permit)
        && let Some(file) = below(&app, &path)
        && let Ok(file) = HeaderValue::from_str(&file)
        && let Ok(tag) = HeaderValue::from_str(&format!("\"{hash}\""))
    {
        response.headers_mut().insert(FILE, file);
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// Download a table as one Parquet file
///
/// Ranges and conditions are as in RFC 9110; the entity tag is the MD5 that the manifest has. A
/// rebuild during a download changes nothing of it.
#[utoipa::path(
    get, path = "/api/data/{table}/download", tag = "data",
    params(("table" = String, Path, description = "The name under which it is published, or its id")),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 206, description = "A range of it", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 304, description = "It is what the caller has"),
        (status = 404, description = "No such table"),
        (status = 412, description = "It isn't what the caller has"),
        (status = 416, description = "It has no such range"),
    )
)]
pub(super) async fn download(
    State(app): State<App>,
    caller: Caller,
    Path(table): Path<String>,
    direct: Option<Extension<Direct>>,
    method: Method,
    headers: HeaderMap,
) -> Answer<Response> {
    let decision = decide(&app, &caller.principal, &table)?;
    let open = move |app: &Inner| -> Result<_> {
        let data = app.agnes.data_file(&decision.permit()?, None)?;
        let modified = data.file.metadata().and_then(|file| file.modified()).ok();
        Ok((data, modified))
    };
    let (data, modified) =
        app.work_in(&app.files, open).await.map_err(|error| absent(error, &table))?;
    let name = format!("{}.parquet", data.name);
    let path = data.path.clone();
    let mut response = files::serve(
        Served {
            file: data.file,
            size: data.size_bytes,
            tag: &data.hash,
            modified,
            content_type: "application/octet-stream",
            name: &name,
            pool: &app.files,
            direct: direct.map(|Extension(direct)| direct),
        },
        &method,
        &headers,
    )?;
    // Whoever sends in our place tells ranges by itself. Conditions were told here; those that it
    // would tell again, without knowing the tag, it isn't asked to.
    let told_again = [header::IF_MATCH, header::IF_UNMODIFIED_SINCE, header::IF_RANGE];
    let is_told_once = !told_again.iter().any(|name| headers.contains_key(name));
    if response.status().is_success() && is_told_once {
        let sent = match app.settings.send_file {
            SendFile::Own => None,
            SendFile::Accel => below(&app, &path).map(|file| (ACCEL, format!("{INSIDE}{file}"))),
            SendFile::Sendfile => Some((SENDFILE, path.display().to_string())),
        };
        if let Some((name, value)) = sent
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            *response.status_mut() = StatusCode::OK;
            *response.body_mut() = axum::body::Body::empty();
            for own in [header::CONTENT_LENGTH, header::CONTENT_RANGE] {
                response.headers_mut().remove(own);
            }
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// What has no file is not found, whoever asks.
fn absent(error: Error, table: &str) -> Failure {
    match error.kind() {
        Kind::NotFound => {
            Failure::new(StatusCode::NOT_FOUND, format!("`{table}` has no data to download"))
        }
        _ => error.into(),
    }
}
