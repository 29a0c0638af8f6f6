//! What agents and analysts discover: the catalog with its hints, columns, a few rows.

use agnes_core::access::Principal;
use agnes_core::catalog::CatalogEntry;
use agnes_core::extract::QueryMode;
use agnes_core::query::Stop;
use agnes_core::{Error, Kind, QueryOptions};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::named::{published, with_table, with_table_in};
use super::wire::word;
use crate::http::answer::{Made, Personal, unless_had};
use crate::http::app::{App, Inner};
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Path, Query};
use crate::json;

/// The catalog.
#[derive(Serialize, ToSchema)]
pub(super) struct DiscoveredTables {
    tables: Vec<DiscoveredTable>,
    #[schema(format = DateTime)]
    server_time: String,
}

/// What is known of a table.
#[derive(Serialize, ToSchema)]
struct DiscoveredTable {
    id: String,
    name: String,
    description: Option<String>,
    source_type: String,
    /// `local`, `remote` or `materialized`.
    query_mode: String,
    /// The dialect of predicates on it: `duckdb` or `bigquery`.
    sql_flavor: &'static str,
    /// Predicates that work on it.
    where_examples: Vec<String>,
    /// How a client gets its rows.
    fetch_via: String,
    /// `small` (≤ 100 MiB), `medium` (≤ 1 GiB), `large` (≤ 10 GiB), `very_large`; null when nobody
    /// knows.
    rough_size_hint: Option<&'static str>,
    /// Rows of a remote table, where it is known.
    rows: Option<u64>,
    /// Bytes of a remote table, where it is known.
    size_bytes: Option<u64>,
    partition_by: Option<String>,
    clustered_by: Vec<String>,
    /// What a remote table is: `BASE TABLE`, `VIEW`, …
    entity_type: Option<String>,
    /// How fresh what is known of a remote table is; `not_applicable` for others.
    metadata_freshness: String,
}

fn flavor(entry: &CatalogEntry) -> &'static str {
    let is_big_query = entry.source_type.eq_ignore_ascii_case("bigquery");
    match entry.query_mode {
        QueryMode::Remote if is_big_query => "bigquery",
        _ => "duckdb",
    }
}

fn rough(bytes: u64) -> &'static str {
    const MIB: u64 = 1 << 20;
    match bytes {
        0..=104_857_600 => "small",
        bytes if bytes <= 1024 * MIB => "medium",
        bytes if bytes <= 10 * 1024 * MIB => "large",
        _ => "very_large",
    }
}

/// Predicates on columns that are known to be there.
fn examples(entry: &CatalogEntry) -> Vec<String> {
    let known = entry.remote.known_columns.as_deref().unwrap_or_default();
    let partition = entry
        .remote
        .partition_by
        .as_deref()
        .filter(|by| known.iter().any(|column| column.eq_ignore_ascii_case(by)));
    match (flavor(entry), partition) {
        ("bigquery", Some(by)) => vec![
            format!("{by} >= DATE_SUB(CURRENT_DATE(), INTERVAL 7 DAY)"),
            format!("{by} BETWEEN DATE '2026-01-01' AND DATE '2026-01-31'"),
        ],
        (_, Some(by)) => vec![format!("{by} >= current_date - INTERVAL 7 DAY")],
        (_, None) => Vec::new(),
    }
}

impl DiscoveredTable {
    fn of(entry: CatalogEntry) -> DiscoveredTable {
        let is_remote = entry.query_mode == QueryMode::Remote;
        let freshness = match &entry.freshness {
            Some(freshness) if is_remote => freshness.state.as_str(),
            _ => "not_applicable",
        };
        let fetch_via = match is_remote {
            true => format!("agnes snapshot create {} --select … --where …", entry.id),
            false => "agnes pull".to_string(),
        };
        DiscoveredTable {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            sql_flavor: flavor(&entry),
            where_examples: examples(&entry),
            fetch_via,
            rough_size_hint: entry.size_bytes.map(rough),
            rows: entry.rows.filter(|_| is_remote),
            size_bytes: entry.size_bytes.filter(|_| is_remote),
            query_mode: word(&entry.query_mode),
            metadata_freshness: freshness.to_string(),
            description: entry.description,
            source_type: entry.source_type,
            partition_by: entry.remote.partition_by,
            clustered_by: entry.remote.clustered_by.unwrap_or_default(),
            entity_type: entry.remote.entity_type,
        }
    }
}

/// List the tables that the caller may see, with what is known of them
#[utoipa::path(
    get, path = "/api/v2/catalog", tag = "discovery",
    responses((status = 200, body = DiscoveredTables), (status = 304, description = "The caller has it"))
)]
pub(super) async fn catalog(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
) -> Answer<Response> {
    let make = |app: &Inner, principal: &Principal| {
        let entries = app.agnes.catalog(principal)?;
        let tables: Vec<DiscoveredTable> = entries.into_iter().map(DiscoveredTable::of).collect();
        let answer = DiscoveredTables { tables, server_time: app.agnes.now().to_string() };
        Made::at_a_moment(&answer.tables, &answer)
    };
    Ok(unless_had(&app, caller.principal, headers, "v2 catalog", |_| Ok(Vec::new()), make).await?)
}

/// The columns of a table.
#[derive(Serialize, ToSchema)]
pub(super) struct TableColumns {
    table_id: String,
    source_type: String,
    /// `duckdb` or `bigquery`.
    sql_flavor: &'static str,
    columns: Vec<ColumnJson>,
    partition_by: Option<String>,
    clustered_by: Vec<String>,
    /// How values are written in predicates.
    #[schema(value_type = Object)]
    where_dialect_hints: Map<String, Value>,
}

#[derive(Serialize, ToSchema)]
struct ColumnJson {
    name: String,
    /// Its DuckDB type; empty where only its name is known.
    r#type: String,
    nullable: bool,
    description: Option<String>,
}

/// How a dialect writes what predicates need.
fn hints(flavor: &str) -> Map<String, Value> {
    let hints = match flavor {
        "bigquery" => json!({
            "date": "DATE '2026-01-31'",
            "timestamp": "TIMESTAMP '2026-01-31 12:00:00+00'",
            "last_days": "DATE_SUB(CURRENT_DATE(), INTERVAL 7 DAY)",
            "pattern": "REGEXP_CONTAINS(name, r'^a')",
            "cast": "SAFE_CAST(value AS INT64)",
        }),
        _ => json!({
            "date": "DATE '2026-01-31'",
            "timestamp": "TIMESTAMP '2026-01-31 12:00:00'",
            "last_days": "current_date - INTERVAL 7 DAY",
            "pattern": "regexp_matches(name, '^a')",
            "cast": "TRY_CAST(value AS BIGINT)",
        }),
    };
    match hints {
        Value::Object(hints) => hints,
        _ => Map::new(),
    }
}

/// Show the columns of a table
#[utoipa::path(
    get, path = "/api/v2/schema/{table}", tag = "discovery", params(("table" = String, Path)),
    responses(
        (status = 200, body = TableColumns), (status = 304, description = "The caller has it"),
        (status = 404, description = "No such table"),
    )
)]
pub(super) async fn schema(
    State(app): State<App>,
    caller: Caller,
    Path(table): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let found = with_table(&app, caller, table, |app, _, permit| {
        Ok((app.agnes.catalog_entry(permit)?, app.agnes.column_notes(permit)?))
    });
    let (entry, notes) = found.await?;
    let column = |name: String, kind: String| {
        let note = notes.iter().find(|note| note.column.eq_ignore_ascii_case(&name));
        let description = note.and_then(|note| note.description.clone());
        ColumnJson { name, r#type: kind, nullable: true, description }
    };
    let mut columns: Vec<ColumnJson> =
        entry.columns.iter().map(|c| column(c.name.clone(), c.kind.clone())).collect();
    if columns.is_empty() {
        let known = entry.remote.known_columns.clone().unwrap_or_default();
        columns = known.into_iter().map(|name| column(name, String::new())).collect();
    }
    let answer = TableColumns {
        table_id: entry.id.to_string(),
        sql_flavor: flavor(&entry),
        where_dialect_hints: hints(flavor(&entry)),
        columns,
        source_type: entry.source_type,
        partition_by: entry.remote.partition_by,
        clustered_by: entry.remote.clustered_by.unwrap_or_default(),
    };
    Ok(Made::of(&answer)?.unless_had(&headers))
}

/// How many rows.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HowMany {
    /// How many rows.
    #[serde(default = "five")]
    #[param(minimum = 1, maximum = 100, default = 5)]
    n: i64,
}

fn five() -> i64 {
    5
}

/// Some rows of a table.
#[derive(Serialize, ToSchema)]
pub(super) struct TableSample {
    table_id: String,
    #[schema(value_type = Vec<Object>)]
    rows: Box<RawValue>,
    /// What kind of system they come from.
    source: String,
}

/// Show some rows of a table
#[utoipa::path(
    get, path = "/api/v2/sample/{table}", tag = "discovery",
    params(("table" = String, Path), HowMany),
    responses(
        (status = 200, body = TableSample), (status = 404, description = "No such table"),
        (status = 422, description = "Too many rows, or too few"),
    )
)]
pub(super) async fn sample(
    State(app): State<App>,
    caller: Caller,
    Path(table): Path<String>,
    Query(HowMany { n }): Query<HowMany>,
) -> Answer<Response> {
    let rows = u64::try_from(n).ok().filter(|n| (1..=100).contains(n)).ok_or_else(|| {
        Failure::unprocessable(&["query", "n"], "it takes a number from 1 to 100")
    })?;
    let stop = Stop::default();
    let _waits = crate::http::arrow::Waits(stop.clone());
    let sampled = with_table_in(&app, &app.queries, caller, table, move |app, caller, permit| {
        let entry = published(app, permit)?;
        let options =
            QueryOptions { max_rows: Some(rows), stop: Some(stop), ..QueryOptions::default() };
        let session = app.agnes.session_for(&caller.principal)?;
        let read = session.read(&entry.name, &options)?.read_all()?;
        if json::longest_objects(&read.batches) > json::MOST {
            let most = json::MOST >> 20;
            let said = format!("its rows may have more than {most} MiB as JSON; ask for fewer");
            return Err(Error::new(Kind::Limit, said));
        }
        let rows = json::objects(&read.batches)
            .map_err(|e| Error::new(Kind::Internal, "rows are no JSON").because(e))?;
        Ok(TableSample { table_id: entry.id.to_string(), rows, source: entry.source_type })
    });
    let sampled = sampled.await;
    Ok(match sampled {
        Ok(sample) => (StatusCode::OK, Personal(sample)).into_response(),
        Err(failure) => failure.into_response(),
    })
}
