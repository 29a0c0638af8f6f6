//! The tables that an admin declared.

use std::collections::HashMap;

use std::time::Duration;

use agnes_core::access::{NewTable, TableUpdate};
use agnes_core::extract::QueryMode;
use agnes_core::registry::{Declaration, Granularity, OnByDefault, RegisteredTable, SyncStrategy};
use agnes_core::{
    ColumnName, Error, Kind, NoProgress, Result, Schedule, SourceName, TableId, ViewName,
};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::wire::sent;
use crate::http::app::{App, Inner};
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

/// What is declared of a table. What isn't sent stays as it is, or as it usually is; null takes a
/// value away.
#[derive(Deserialize, ToSchema)]
pub(super) struct Declared {
    /// The name under which it is published.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
    name: Option<ViewName>,
    /// The source that it is a table of: the one that publishes the name, or else the kind of
    /// system, where it isn't sent.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
    source: Option<SourceName>,
    /// `keboola`, `bigquery`, `jira`, `local`, …
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    source_type: Option<Option<String>>,
    /// The bucket or dataset there.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    bucket: Option<Option<String>>,
    /// What it is called there.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    source_table: Option<Option<String>>,
    /// The query that makes a materialized table.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    source_query: Option<Option<String>>,
    /// `local`, `remote` or `materialized`.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>, pattern = "^(local|remote|materialized)$")]
    query_mode: Option<Option<QueryMode>>,
    /// When, as in `every 1h` or `daily 07:00`.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    sync_schedule: Option<Option<Schedule>>,
    /// `full_refresh`, `incremental` or `partitioned`.
    #[schema(value_type = Option<String>, pattern = "^(full_refresh|incremental|partitioned)$")]
    sync_strategy: Option<SyncStrategy>,
    /// The columns that tell its rows apart: a list, or one.
    #[serde(default, deserialize_with = "columns")]
    #[schema(value_type = Option<Columns>)]
    primary_key: Option<Vec<ColumnName>>,
    /// What it is.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    /// A folder that clients show it in.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    folder: Option<Option<String>>,
    /// Whether a sync that changed it makes a profile of it.
    profile_after_sync: Option<bool>,
    /// Days that an incremental sync looks back.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 100_000)]
    incremental_window_days: Option<Option<u32>>,
    /// Days of history that are kept.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 100_000)]
    max_history_days: Option<Option<u32>>,
    /// The column by which an incremental sync tells what is new.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    incremental_column: Option<Option<ColumnName>>,
    /// Filters that the source applies.
    #[schema(value_type = Option<Vec<Object>>)]
    where_filters: Option<Vec<Map<String, Value>>>,
    /// The column by which it is partitioned.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    partition_by: Option<Option<ColumnName>>,
    /// `day`, `month` or `year`.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>, pattern = "^(day|month|year)$")]
    partition_granularity: Option<Option<Granularity>>,
    /// Days for each piece of the first load.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 100_000)]
    initial_load_chunk_days: Option<Option<u32>>,
    /// Whether the policy `grants_and_legacy` shows it to everybody.
    is_public: Option<bool>,
}

/// The same with a name, which a table to be registered has.
struct ToRegister;

impl PartialSchema for ToRegister {
    fn schema() -> RefOr<Schema> {
        let mut schema = Declared::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.required.push("name".to_string());
            if let Some(RefOr::T(Schema::Object(name))) = object.properties.get_mut("name") {
                name.schema_type = SchemaType::Type(Type::String);
            }
        }
        schema
    }
}

impl ToSchema for ToRegister {}

/// Columns in a list, or one by itself.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Columns {
    /// One.
    One(String),
    /// A list.
    Several(Vec<String>),
}

fn columns<'de, D: Deserializer<'de>>(
    d: D,
) -> std::result::Result<Option<Vec<ColumnName>>, D::Error> {
    let texts = match Option::deserialize(d)? {
        None => Vec::new(),
        Some(Columns::One(column)) => vec![column],
        Some(Columns::Several(columns)) => columns,
    };
    let columns: Result<Vec<ColumnName>> = texts.iter().map(ColumnName::parse).collect();
    columns.map(Some).map_err(|error| D::Error::custom(error.message()))
}

impl Declared {
    /// Puts what was sent over a table. The names of what was.
    fn over(self, table: &mut TableUpdate) -> Vec<&'static str> {
        let mut updated = Vec::new();
        fn put<T>(
            slot: &mut T,
            value: Option<T>,
            name: &'static str,
            updated: &mut Vec<&'static str>,
        ) {
            if let Some(value) = value {
                *slot = value;
                updated.push(name);
            }
        }
        let d = &mut table.declaration;
        put(&mut table.name, self.name, "name", &mut updated);
        put(&mut table.source, self.source, "source", &mut updated);
        macro_rules! put_each {
            ($($field:ident),* $(,)?) => {
                $(put(&mut d.$field, self.$field, stringify!($field), &mut updated);)*
            };
        }
        put_each!(
            source_type,
            bucket,
            source_table,
            source_query,
            query_mode,
            sync_schedule,
            sync_strategy,
            primary_key,
            description,
            folder,
            incremental_window_days,
            max_history_days,
            incremental_column,
            partition_by,
            partition_granularity,
            initial_load_chunk_days,
            is_public,
        );
        let filters = self.where_filters.map(|f| f.into_iter().map(Value::Object).collect());
        put(&mut d.where_filters, filters, "where_filters", &mut updated);
        let profile = self.profile_after_sync.map(OnByDefault);
        put(&mut d.profile_after_sync, profile, "profile_after_sync", &mut updated);
        // BigQuery has tables that are queried there, or made here of a query.
        if is_big_query(d) && d.query_mode.is_none_or(|mode| mode == QueryMode::Local) {
            d.query_mode = Some(QueryMode::Remote);
        }
        if d.sync_strategy == SyncStrategy::Partitioned {
            d.partition_granularity.get_or_insert(Granularity::Month);
        }
        updated
    }

    /// A table to be registered.
    fn new_table(self, app: &Inner, id: Option<TableId>) -> Answer<NewTable> {
        let missing = || Failure::unprocessable(&["body", "name"], "a table has a name");
        let name = self.name.clone().ok_or_else(missing)?;
        let source_type = self.source_type.clone().flatten();
        let source = match self.source.clone() {
            Some(source) => source,
            None => app.agnes.source_for(&name, Some(source_type.as_deref().unwrap_or("local")))?,
        };
        if let Some(kind) = &source_type
            && ["keboola", "bigquery", "jira"].contains(&&*kind.to_ascii_lowercase())
            && !app.settings.data_source.eq_ignore_ascii_case(kind)
            && !app.agnes.has_source(&source)?
        {
            let told = format!(
                "`{kind}` isn't configured here: say how it is reached below `sources` in \
                 instance.yaml"
            );
            return Err(Failure::unprocessable(&["body", "source_type"], &told));
        }
        let declaration = Declaration::default();
        let mut table = TableUpdate { name, source, declaration };
        self.over(&mut table);
        let TableUpdate { name, source, declaration } = table;
        Ok(NewTable { id, name, source, declaration })
    }
}

fn is_big_query(declaration: &Declaration) -> bool {
    declaration.source_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("bigquery"))
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
    let published = publish(app, table.source);
    let (status, word) = match tokio::time::timeout(PATIENCE, published).await {
        Err(_) => (StatusCode::ACCEPTED, "accepted"),
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

/// Publishes what a source holds, in the background: it goes on when nobody waits.
fn publish(app: &App, source: SourceName) -> tokio::task::JoinHandle<Result<()>> {
    let app = app.clone();
    tokio::spawn(async move {
        let done = app.work(move |app| match app.agnes.layout().extract(&source).exists() {
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

/// Which part of a source.
#[derive(Deserialize, utoipa::IntoParams)]
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
pub(super) async fn discover(
    State(app): State<App>,
    crate::http::extract::Query(_): crate::http::extract::Query<Within>,
) -> Answer<Json<Value>> {
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
#[derive(Deserialize, utoipa::IntoParams)]
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
pub(super) async fn discover_and_register(
    State(app): State<App>,
    crate::http::extract::Query(_): crate::http::extract::Query<DryRun>,
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
