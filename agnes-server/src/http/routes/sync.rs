//! What clients bring over.

use agnes_core::manifest::Manifest;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use crate::http::answer::unless_known;
use crate::http::app::App;
use crate::http::door::Caller;
use crate::http::error::Answer;

/// List the tables that the caller may download, with hashes
///
/// The key of a table is its name in `/api/data/{table}/download`; `hash` is the MD5 of what comes.
#[utoipa::path(
    get, path = "/api/sync/manifest", tag = "sync",
    responses((status = 200, body = Object), (status = 304, description = "The caller has it"))
)]
pub(super) async fn manifest(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
) -> Answer<Response> {
    let manifest: Manifest = app.work(move |app| app.agnes.manifest(&caller.principal)).await?;
    Ok(unless_known(&headers, &(&manifest.tables, &manifest.assets), &manifest))
}
