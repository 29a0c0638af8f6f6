//! How large and how fresh remote tables are.

use agnes_core::TableId;
use agnes_core::metadata::{AlreadyRunning, Refresh, Which};
use agnes_core::{Error, Kind};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use crate::http::answer::Personal;
use crate::http::app::App;
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::Query;

/// Say how fresh what is known of each remote table is
///
/// Of the tables that the caller may see, by id.
#[utoipa::path(
    get, path = "/api/v2/metadata-cache/status", tag = "metadata",
    responses((status = 200, body = Object))
)]
pub(super) async fn status(State(app): State<App>, caller: Caller) -> Answer<Response> {
    let status = app.work(move |app| app.agnes.metadata_status(&caller.principal)).await?;
    Ok(Personal(status).into_response())
}

/// Which table.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct One {
    /// The id of a registered table.
    table: String,
}

/// Ask about one remote table
///
/// 200 also when its system fails or doesn't know it; `status` says which.
#[utoipa::path(
    post, path = "/api/v2/metadata-cache/refresh", tag = "metadata", params(One),
    responses(
        (status = 200, body = Object), (status = 400, description = "It isn't remote"),
        (status = 404, description = "No such table"), (status = 422, description = "Which one?"),
    )
)]
pub(super) async fn refresh(
    State(app): State<App>,
    caller: Caller,
    Query(One { table }): Query<One>,
) -> Answer<Response> {
    let none = || Error::new(Kind::NotFound, "no table of that id is registered");
    let id = TableId::parse(&table).map_err(|_| none())?;
    let refreshed = app
        .work_in(&app.jobs, move |app| app.agnes.refresh_table_metadata(&caller.principal, &id))
        .await?;
    Ok(Json(refreshed).into_response())
}

/// Ask about all remote tables
#[utoipa::path(
    post, path = "/api/admin/run-bq-metadata-refresh", tag = "metadata",
    responses((status = 200, body = Object), (status = 409, description = "It is under way"))
)]
pub(super) async fn refresh_all(State(app): State<App>, caller: Caller) -> Answer<Response> {
    let refreshed = app
        .work_in(&app.jobs, move |app| app.agnes.refresh_metadata(&caller.principal, Which::All))
        .await?;
    match refreshed {
        Refresh::Done(report) => Ok(Json(report).into_response()),
        Refresh::AlreadyRunning(running) => Err(under_way(&running)),
    }
}

pub(super) fn under_way(running: &AlreadyRunning) -> Failure {
    let mut detail = json!(running);
    if let Some(detail) = detail.as_object_mut() {
        detail.insert("reason".into(), "already_running".into());
        detail.insert("hint".into(), "it asks about the same tables; wait for it".into());
    }
    Failure::new(StatusCode::CONFLICT, detail)
}
