//! What the source of an installation has, of which tables may be registered.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use crate::http::app::App;
use crate::http::error::{Answer, Failure};
use crate::http::extract::Query;

/// Which part of a source.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Within {
    /// A dataset of BigQuery.
    #[expect(dead_code, reason = "no connector that asks for it is there yet")]
    dataset: Option<String>,
}

/// List what the source of this installation has
#[utoipa::path(
    get, path = "/api/admin/discover-tables", tag = "registry", params(Within),
    responses(
        (status = 200, body = Object), (status = 501, description = "Nothing here can ask the source"),
    )
)]
pub(super) async fn list(State(app): State<App>, Query(_): Query<Within>) -> Answer<Json<Value>> {
    match &*app.settings.data_source.to_ascii_lowercase() {
        "keboola" => Err(super::not_there("Keboola")),
        "bigquery" => Err(super::not_there("BigQuery")),
        source => Ok(Json(json!({
            "tables": [], "count": 0, "source": source,
            "error": format!("`{source}` can't be asked for its tables"),
        }))),
    }
}

/// Whether to do it.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DryRun {
    /// Say what would be registered, and register nothing.
    #[expect(dead_code, reason = "no connector that asks for it is there yet")]
    dry_run: Option<bool>,
}

/// Register what the source of this installation has, where that is Keboola
#[utoipa::path(
    post, path = "/api/admin/discover-and-register", tag = "registry", params(DryRun),
    responses(
        (status = 400, description = "The source is another one"),
        (status = 501, description = "Nothing here can ask Keboola"),
    )
)]
pub(super) async fn register(
    State(app): State<App>,
    Query(_): Query<DryRun>,
) -> Answer<StatusCode> {
    match app.settings.data_source.eq_ignore_ascii_case("keboola") {
        true => Err(super::not_there("Keboola")),
        false => Err(Failure::new(
            StatusCode::BAD_REQUEST,
            format!(
                "the source here is `{}`, not Keboola; `agnes registry adopt` registers what is \
                 published",
                app.settings.data_source
            ),
        )),
    }
}
