//! The tables that an admin declared.

use std::collections::HashMap;

use agnes_core::registry::RegisteredTable;
use agnes_core::{Error, Kind, TableId};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::door::Caller;
use crate::http::error::Answer;
use crate::http::extract::Path;

/// The registry.
#[derive(Serialize, ToSchema)]
pub(super) struct Registry {
    tables: Vec<Row>,
    count: usize,
}

/// A registered table, with what is declared of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Row {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    table: RegisteredTable,
    /// What went wrong when it was last brought over.
    last_sync_error: Option<String>,
}

/// List the registered tables, by name
#[utoipa::path(
    get, path = "/api/admin/registry", tag = "registry", responses((status = 200, body = Registry))
)]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Answer<Json<Registry>> {
    let tables = app.work(move |app| {
        let states = app.agnes.store()?.sync_states()?;
        let mut errors: HashMap<(String, String), Option<String>> = states
            .into_iter()
            .map(|s| ((s.source.to_lowercase(), s.table_id.to_lowercase()), s.error))
            .collect();
        let tables = app.access.admin(&caller.principal)?.tables().into_iter().map(|table| {
            let key = |name: &str| (table.source.as_str().to_lowercase(), name.to_lowercase());
            let by_name = errors.remove(&key(table.name.as_str())).flatten();
            let error = by_name.or_else(|| errors.remove(&key(table.id.as_str())).flatten());
            Row { table, last_sync_error: error }
        });
        Ok(tables.collect::<Vec<_>>())
    });
    let tables = tables.await?;
    let count = tables.len();
    Ok(Json(Registry { tables, count }))
}

/// Take a table out of the registry, with its grants and all that is known of it
///
/// Its source doesn't publish it any more, until it is registered again.
#[utoipa::path(
    delete, path = "/api/admin/registry/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 204, description = "Done"), (status = 404, description = "No such table"))
)]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let none = || Error::new(Kind::NotFound, "no table of that id is registered");
    let id = TableId::parse(&id).map_err(|_| none())?;
    app.work(move |app| {
        app.agnes.unregister(&caller.principal, &id, &agnes_core::NoProgress).map(drop)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
