//! The tables that an admin declared.

use std::collections::HashMap;
use std::time::Duration;

use agnes_core::access::NewTable;
use agnes_core::extract::QueryMode;
use agnes_core::registry::{Declaration, RegisteredTable};
use agnes_core::{Error, Kind, NoProgress, Result, SourceName, TableId};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::declared::{Declared, ToRegister, is_big_query};
use crate::http::app::App;
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Body, Path};

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
        let generation = app.agnes.generation()?;
        let views = generation.as_ref().map(|generation| &generation.views);
        let tables = app.access.admin(&caller.principal)?.tables().into_iter().map(|mut table| {
            // Where nobody has declared it, its source says.
            let view = views.and_then(|views| views.get(&table.name));
            let published = view.filter(|view| view.source == table.source);
            let mode = published.map_or_else(|| table.query_mode(), |view| view.query_mode);
            table.declaration.query_mode.get_or_insert(mode);
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

/// What is declared and doesn't fit together.
fn unfit(error: Error) -> Failure {
    match error.kind() {
        Kind::Invalid => Failure::unprocessable(&["body"], error.message()),
        _ => error.into(),
    }
}

/// A table that was registered.
#[derive(Serialize, ToSchema)]
pub(super) struct Registered {
    /// What grants name.
    id: String,
    /// The name under which it is published.
    name: String,
    /// `registered`; for a remote table `ok` once it is published, `accepted` while that goes on.
    status: &'static str,
    /// The name under which it is queried, for tables of BigQuery.
    #[serde(skip_serializing_if = "Option::is_none")]
    view_name: Option<String>,
    /// What comes next.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    /// Why it isn't published.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
}

/// How long a caller waits until her remote table is published.
const PATIENCE: Duration = Duration::from_secs(5);

async fn register_as(
    app: &App,
    caller: Caller,
    declared: Declared,
    id: Option<TableId>,
) -> Answer<Response> {
    let registered = app.work(move |app| {
        let register = || -> Answer<RegisteredTable> {
            let table = declared.new_table(app, id)?;
            app.access.admin(&caller.principal)?.register(table).map_err(unfit)
        };
        Ok(register())
    });
    let table = registered.await??;
    let mut answer = Registered {
        id: table.id.to_string(),
        name: table.name.to_string(),
        status: "registered",
        view_name: None,
        message: None,
        errors: Vec::new(),
    };
    if !is_big_query(&table.declaration) {
        // What was taken out before is published again.
        publish(app, table.source);
        return Ok((StatusCode::CREATED, Json(answer)).into_response());
    }
    answer.view_name = Some(table.name.to_string());
    if table.query_mode() == QueryMode::Materialized {
        answer.message = Some("its rows come with the next sync that is due");
        return Ok((StatusCode::CREATED, Json(answer)).into_response());
    }
    let published = publish(app, table.source.clone());
    let (status, word) = match tokio::time::timeout(PATIENCE, published).await {
        Err(_) => (StatusCode::ACCEPTED, "accepted"),
        Ok(Ok(Ok(()))) if !is_published(app, &table).await? => {
            answer.message = Some("its source publishes it once its connector has run");
            (StatusCode::ACCEPTED, "accepted")
        }
        Ok(Ok(Ok(()))) => (StatusCode::OK, "ok"),
        Ok(failed) => {
            answer.errors.push(match failed {
                Ok(Err(error)) => error.message().to_string(),
                _ => "the rebuild panicked".to_string(),
            });
            (StatusCode::INTERNAL_SERVER_ERROR, "rebuild_failed")
        }
    };
    answer.status = word;
    Ok((status, Json(answer)).into_response())
}

/// Whether a table's source publishes it.
async fn is_published(app: &App, table: &RegisteredTable) -> Answer<bool> {
    let (name, source) = (table.name.clone(), table.source.clone());
    let published = app.work(move |app| {
        let generation = app.agnes.generation()?;
        let view = generation.as_ref().and_then(|generation| generation.views.get(&name));
        Ok(view.is_some_and(|view| view.source == source))
    });
    Ok(published.await?)
}

/// Publishes what a source holds, in the background: it goes on when nobody waits.
fn publish(app: &App, source: SourceName) -> tokio::task::JoinHandle<Result<()>> {
    let app = app.clone();
    tokio::spawn(async move {
        let done =
            app.work_in(&app.jobs, move |app| match app.agnes.layout().extract(&source).exists() {
                true => app.agnes.rebuild(Some(&source), &NoProgress).map(drop),
                false => Ok(()),
            });
        done.await.inspect_err(|error| tracing::warn!(?error, "a rebuild failed"))
    })
}

/// Register a table, published already or not yet
///
/// Nobody but admins sees it until its id is granted.
#[utoipa::path(
    post, path = "/api/admin/register-table", tag = "registry", request_body = ToRegister,
    responses(
        (status = 201, body = Registered),
        (status = 200, body = Registered, description = "A remote table, which is published now"),
        (status = 202, body = Registered, description = "A remote table, which is being published"),
        (status = 409, description = "A table has that id or name"),
        (status = 422, description = "It doesn't fit together, or its source isn't configured"),
        (status = 500, body = Registered, description = "It is registered, but couldn't be published"),
    )
)]
pub(super) async fn register(
    State(app): State<App>,
    caller: Caller,
    Body(declared): Body<Declared>,
) -> Answer<Response> {
    register_as(&app, caller, declared, None).await
}

/// Register a table under an id of one's own
#[utoipa::path(
    post, path = "/api/admin/tables/{id}", tag = "registry", params(("id" = String, Path)),
    request_body = ToRegister,
    responses(
        (status = 201, body = Registered),
        (status = 200, body = Registered, description = "A remote table, which is published now"),
        (status = 202, body = Registered, description = "A remote table, which is being published"),
        (status = 409, description = "A table has that id or name"),
        (status = 422, description = "It doesn't fit together, or its source isn't configured"),
        (status = 500, body = Registered, description = "It is registered, but couldn't be published"),
    )
)]
pub(super) async fn register_with_id(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(declared): Body<Declared>,
) -> Answer<Response> {
    let id = TableId::parse(&id)
        .map_err(|error| Failure::unprocessable(&["path", "id"], error.message()))?;
    register_as(&app, caller, declared, Some(id)).await
}

/// What registering a table would come to.
#[derive(Serialize, ToSchema)]
pub(super) struct Precheck {
    ok: bool,
    table: Prechecked,
    /// What wasn't looked at.
    note: &'static str,
}

#[derive(Serialize, ToSchema)]
struct Prechecked {
    name: String,
    source_type: Option<String>,
    bucket: Option<String>,
    source_table: Option<String>,
}

/// Say whether a table could be registered, without doing it
#[utoipa::path(
    post, path = "/api/admin/register-table/precheck", tag = "registry", request_body = ToRegister,
    responses(
        (status = 200, body = Precheck), (status = 409, description = "A table has that id or name"),
        (status = 422, description = "It doesn't fit together, or its source isn't configured"),
        (status = 501, description = "Nothing here can ask BigQuery whether it has the table"),
    )
)]
pub(super) async fn precheck(
    State(app): State<App>,
    caller: Caller,
    Body(declared): Body<Declared>,
) -> Answer<Json<Precheck>> {
    let checked = app.work(move |app| {
        let check = || -> Answer<NewTable> {
            let table = declared.new_table(app, None)?;
            app.access.admin(&caller.principal)?.check_table(&table).map_err(unfit)?;
            Ok(table)
        };
        Ok(check())
    });
    let NewTable { name, declaration, .. } = checked.await??;
    if is_big_query(&declaration) && declaration.query_mode == Some(QueryMode::Remote) {
        return Err(super::not_there("BigQuery"));
    }
    let Declaration { source_type, bucket, source_table, .. } = declaration;
    let note = "what is declared fits together; its source wasn't asked";
    let table = Prechecked { name: name.to_string(), source_type, bucket, source_table };
    Ok(Json(Precheck { ok: true, table, note }))
}

/// A table whose declaration was changed.
#[derive(Serialize, ToSchema)]
pub(super) struct UpdatedTable {
    id: String,
    /// What was sent.
    updated: Vec<&'static str>,
}

/// Change what is declared of a table; what isn't sent stays
#[utoipa::path(
    put, path = "/api/admin/registry/{id}", tag = "registry", params(("id" = String, Path)),
    request_body = Declared,
    responses(
        (status = 200, body = UpdatedTable), (status = 404, description = "No such table"),
        (status = 409, description = "A table has that name"),
        (status = 422, description = "It doesn't fit together"),
    )
)]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(declared): Body<Declared>,
) -> Answer<Json<UpdatedTable>> {
    let none = || Error::new(Kind::NotFound, "no table of that id is registered");
    let id = TableId::parse(&id).map_err(|_| none())?;
    let changed = app.work(move |app| {
        let mut updated = Vec::new();
        let table = app.access.admin(&caller.principal)?.update_table(&id, |table| {
            updated = declared.over(table);
            Ok(())
        });
        Ok(table.map(|table| (table, updated)))
    });
    let (table, updated) = changed.await?.map_err(unfit)?;
    if is_big_query(&table.declaration) {
        publish(&app, table.source);
    }
    Ok(Json(UpdatedTable { id: table.id.to_string(), updated }))
}
