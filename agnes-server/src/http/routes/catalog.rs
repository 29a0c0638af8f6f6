//! The tables that a caller may see, as older clients list them, and what is in them.

use agnes_core::access::Principal;
use agnes_core::catalog::CatalogEntry;
use agnes_core::profile::Profile;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::named::with_table_in;
use super::wire::word;
use crate::http::answer::{Made, Personal, unless_had};
use crate::http::app::{App, Inner};
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::Path;

/// The tables that a caller may see.
#[derive(Serialize, ToSchema)]
pub(super) struct CatalogTables {
    tables: Vec<CatalogTable>,
    count: usize,
}

/// A table.
#[derive(Serialize, ToSchema)]
struct CatalogTable {
    id: String,
    /// The name under which it is queried and downloaded.
    name: String,
    description: Option<String>,
    /// `keboola`, `bigquery`, `jira`, `local`, …
    source_type: String,
    /// `full_refresh`, `incremental` or `partitioned`.
    sync_strategy: String,
    /// `local`, `remote` or `materialized`.
    query_mode: String,
}

/// List the tables that the caller may see
#[utoipa::path(
    get, path = "/api/catalog/tables", tag = "catalog",
    responses((status = 200, body = CatalogTables), (status = 304, description = "The caller has it"))
)]
pub(super) async fn tables(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
) -> Answer<Response> {
    let make = |app: &Inner, principal: &Principal| {
        let table = |entry: CatalogEntry| CatalogTable {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            description: entry.description,
            source_type: entry.source_type,
            sync_strategy: word(&entry.sync_strategy),
            query_mode: word(&entry.query_mode),
        };
        let tables: Vec<CatalogTable> =
            app.agnes.catalog(principal)?.into_iter().map(table).collect();
        Made::of(&CatalogTables { count: tables.len(), tables })
    };
    Ok(unless_had(&app, caller.principal, headers, "catalog", |_| Ok(Vec::new()), make).await?)
}

/// Show what is in a table, column by column
///
/// It is made when nobody has since the table changed.
#[utoipa::path(
    get, path = "/api/catalog/profile/{table}", tag = "catalog", params(("table" = String, Path)),
    responses((status = 200, body = Object), (status = 404, description = "It has none"))
)]
pub(super) async fn profile(
    State(app): State<App>,
    caller: Caller,
    Path(table): Path<String>,
) -> Answer<Response> {
    let profile = made(&app, caller, table).await?;
    Ok(Personal(profile).into_response())
}

/// The profile of a table, made anew where it has changed.
async fn made(app: &App, caller: Caller, table: String) -> Answer<Profile> {
    with_table_in(app, &app.profiles, caller, table, |app, _, permit| app.agnes.profile(permit))
        .await
}

/// What a refresh of a profile comes to.
#[derive(Serialize, ToSchema)]
pub(super) struct RefreshedProfile {
    /// `ok`.
    status: &'static str,
    table: String,
    /// The number of its columns.
    columns: usize,
}

/// Make a table's profile anew, if the table has changed
#[utoipa::path(
    post, path = "/api/catalog/profile/{table}/refresh", tag = "catalog",
    params(("table" = String, Path)),
    responses((status = 200, body = RefreshedProfile), (status = 404, description = "It has none"))
)]
pub(super) async fn refresh(
    State(app): State<App>,
    caller: Caller,
    Path(table): Path<String>,
) -> Answer<Personal<RefreshedProfile>> {
    let profile = made(&app, caller, table.clone()).await?;
    Ok(Personal(RefreshedProfile { status: "ok", table, columns: profile.column_count }))
}

/// Go to a metric, under its older address
#[utoipa::path(
    get, path = "/api/catalog/metrics/{category}/{name}", tag = "metrics",
    params(("category" = String, Path), ("name" = String, Path)),
    responses((status = 301, description = "Where it is, without `.yml` or `.yaml`"))
)]
pub(super) async fn metric(Path((category, name)): Path<(String, String)>) -> Answer<Response> {
    let name = name.strip_suffix(".yml").or(name.strip_suffix(".yaml")).unwrap_or(&name);
    let nowhere = || Failure::new(StatusCode::NOT_FOUND, "there is no such metric");
    let mut to = url::Url::parse("http://x/api/metrics").map_err(|_| nowhere())?;
    to.path_segments_mut().map_err(|()| nowhere())?.extend([category.as_str(), name]);
    let to = HeaderValue::from_str(to.path()).map_err(|_| nowhere())?;
    Ok((StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)]).into_response())
}
