//! What clients bring over, and what is brought over here.

use std::sync::atomic::Ordering;

use agnes_core::access::Principal;
use agnes_core::sync::Which;
use agnes_core::{Error, Kind, NoProgress, Result};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::answer::{Made, Personal, unless_had};
use crate::http::app::{App, Inner};
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::parse;

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
    let assets = |app: &Inner| {
        serde_json::to_vec(&app.agnes.assets())
            .map_err(|e| Error::new(Kind::Internal, "assets are no JSON").because(e))
    };
    let make = |app: &Inner, principal: &Principal| {
        let manifest = app.agnes.manifest(principal)?;
        Made::at_a_moment(&(&manifest.tables, &manifest.assets), &manifest)
    };
    Ok(unless_had(&app, caller.principal, headers, "manifest", assets, make).await?)
}

/// Whether a sync runs.
#[derive(Serialize, ToSchema)]
pub(super) struct SyncStatus {
    locked: bool,
}

/// Say whether a sync runs
#[utoipa::path(
    get, path = "/api/sync/status", tag = "sync", responses((status = 200, body = SyncStatus))
)]
pub(super) async fn status(State(app): State<App>) -> Personal<SyncStatus> {
    Personal(SyncStatus { locked: app.syncing.load(Ordering::SeqCst) })
}

/// Which tables.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedTables {
    /// By id or name.
    tables: Option<Vec<String>>,
}

/// The tables that are asked for; those that are due where there is no body.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes the body, which is read by hand")]
pub(super) enum SyncRequest {
    /// These, by id or name.
    Listed(Vec<String>),
    /// The same in an object.
    Named(WantedTables),
}

/// A sync that has begun.
#[derive(Serialize, ToSchema)]
pub(super) struct Triggered {
    /// `triggered`.
    status: &'static str,
    /// The tables that were asked for, or `all`.
    tables: serde_json::Value,
    message: &'static str,
}

/// The tables that a body names: a list of them, or an object with one; none for all that is due.
fn wanted(body: &[u8]) -> Answer<Option<Vec<String>>> {
    let body = body.trim_ascii();
    match body.first() {
        None => Ok(None),
        Some(b'{') => Ok(parse::<WantedTables>(body)?.tables),
        Some(_) => serde_json::from_slice(body).map_err(|_| {
            Failure::unprocessable(&["body"], "it takes a list of tables, or nothing")
        }),
    }
}

/// What is running while this is held.
struct Running(App);

impl Running {
    fn begin(app: &App) -> Option<Running> {
        let is_free = !app.syncing.swap(true, Ordering::SeqCst);
        is_free.then(|| Running(app.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.syncing.store(false, Ordering::SeqCst);
    }
}

/// Bring over what is due, or these tables whether they are due or not
///
/// It goes on when this has returned; the registry and the log say how it went.
#[utoipa::path(
    post, path = "/api/sync/trigger", tag = "sync", request_body = Option<SyncRequest>,
    responses(
        (status = 200, body = Triggered), (status = 404, description = "No such table, or nothing brings it"),
        (status = 409, description = "A sync runs"),
        (status = 422, description = "The request can't be understood"),
    )
)]
pub(super) async fn trigger(
    State(app): State<App>,
    caller: Caller,
    body: bytes::Bytes,
) -> Answer<Json<Triggered>> {
    let tables = wanted(&body)?;
    let Some(running) = Running::begin(&app) else {
        return Err(Failure::new(StatusCode::CONFLICT, "sync_already_in_progress"));
    };
    let named = tables.clone();
    let which = app.work(move |app| {
        let admin = app.access.admin(&caller.principal)?;
        let which = match named {
            None => Which::Due,
            Some(names) => {
                let tables = names.iter().map(|name| admin.table_named(name));
                Which::Tables(tables.map(|table| Ok(table?.id)).collect::<Result<_>>()?)
            }
        };
        // What can't be planned isn't begun.
        app.agnes.plan_sync(&which)?;
        Ok(which)
    });
    let which = which.await?;
    let work = move || match running.0.agnes.sync(&which, &NoProgress) {
        Ok(report) if report.is_complete() => tracing::info!("a sync has ended"),
        Ok(report) => tracing::warn!(?report, "a sync has left something out"),
        Err(error) => tracing::error!(?error, "a sync failed"),
    };
    // It may take hours, in which no thread of the pool waits for it.
    std::thread::Builder::new().name("agnes-sync".into()).spawn(work).map_err(|e| {
        Error::new(Kind::Unavailable, format!("no thread can be had: {e}; try again"))
    })?;
    let message = "the sync has begun; it goes on by itself";
    let tables = tables.map_or_else(|| "all".into(), |tables| tables.into());
    Ok(Json(Triggered { status: "triggered", tables, message }))
}
