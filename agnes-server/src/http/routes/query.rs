//! SQL.

use std::collections::BTreeMap;

use agnes_core::access::{Principal, Resource};
use agnes_core::arrow::array::RecordBatch;
use agnes_core::arrow::error::ArrowError;
use agnes_core::query::Stop;
use agnes_core::{Error, Key, Kind, QueryOptions, Result, Rows, ViewName};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::named::unpublished;
use crate::http::answer::personal;
use crate::http::app::{App, Inner};
use crate::http::arrow::{self, TYPE, Waits};
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Body, Whole};
use crate::json as encoded;

/// A query.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct QueryRequest {
    /// One statement that reads: SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN.
    sql: String,
    /// The most rows.
    #[serde(default = "thousand")]
    #[schema(value_type = i64, minimum = 1, maximum = 10_000, default = 1000)]
    limit: Whole,
}

fn thousand() -> Whole {
    Whole(1000)
}

/// The rows of a query.
#[derive(Serialize, ToSchema)]
pub(super) struct QueryAnswer {
    /// The names of the columns.
    columns: Vec<String>,
    /// The rows, each as a list of values. Numbers that are none, moments, decimals and bytes are
    /// texts.
    #[schema(value_type = Vec<Vec<Object>>)]
    rows: Vec<Vec<serde_json::Value>>,
    /// How many they are.
    row_count: u64,
    /// Whether there are more.
    truncated: bool,
}

/// Run one query over the tables that the caller may see
///
/// With `Accept: application/vnd.apache.arrow.stream` the rows come as an Arrow IPC stream, as fast
/// as they are read.
#[utoipa::path(
    post, path = "/api/query", tag = "query", request_body = QueryRequest,
    responses(
        (status = 200, description = "The rows", content(
            (QueryAnswer = "application/json"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"),
        )),
        (status = 400, description = "It can't run"),
        (status = 422, description = "The request can't be understood"),
    )
)]
pub(super) async fn query(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Body(ask): Body<QueryRequest>,
) -> Answer<Response> {
    let most = app.settings.max_rows;
    let limit = u64::try_from(ask.limit.0).ok().filter(|limit| (1..=most).contains(limit));
    let limit = limit.ok_or_else(|| {
        Failure::unprocessable(&["body", "limit"], &format!("it takes a number from 1 to {most}"))
    })?;
    let waits = Waits(Stop::default());
    let options = QueryOptions {
        max_rows: Some(limit),
        stop: Some(waits.0.clone()),
        ..QueryOptions::default()
    };
    let principal = caller.principal;
    let begin = move |app: &Inner| {
        let session = app.agnes.session_for(&principal)?;
        session.query(&ask.sql, &options).map_err(|error| hinted(app, &principal, error))
    };
    if wants_arrow(&headers) {
        let begun = app.work_in(&app.queries, begin).await.map_err(refused)?;
        return arrow::stream(app, begun, waits, None).await.map_err(refused);
    }
    let whole = app.work_in(&app.queries, move |app| json_body(begin(app)?));
    let body = whole.await.map_err(refused)?;
    drop(waits);
    let mut response =
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body)
            .into_response();
    personal(response.headers_mut());
    Ok(response)
}

/// A query over tables and over rows that BigQuery gives.
#[derive(Deserialize, ToSchema)]
pub(super) struct HybridRequest {
    /// One statement that reads.
    sql: String,
    /// What to ask BigQuery, by the alias under which `sql` names its rows.
    #[serde(default)]
    register_bq: BTreeMap<String, String>,
}

/// The rows of a query.
#[derive(Serialize, ToSchema)]
pub(super) struct HybridAnswer {
    columns: Vec<String>,
    #[schema(value_type = Vec<Vec<Object>>)]
    rows: Vec<Vec<serde_json::Value>>,
    row_count: u64,
    truncated: bool,
    bq_stats: Registrations,
}

/// What BigQuery was asked.
#[derive(Serialize, ToSchema)]
struct Registrations {
    registered_aliases: Vec<String>,
    alias_count: usize,
}

/// The name of the remote engine that older clients mean.
const BIG_QUERY: &str = "bigquery";

/// Run one query over the tables and over rows that BigQuery gives
#[utoipa::path(
    post, path = "/api/query/hybrid", tag = "query", request_body = HybridRequest,
    responses(
        (status = 200, body = HybridAnswer), (status = 400, description = "It can't run"),
        (status = 422, description = "The request can't be understood"),
        (status = 501, description = "Nothing here can ask BigQuery"),
    )
)]
pub(super) async fn hybrid(
    State(app): State<App>,
    caller: Caller,
    Body(HybridRequest { sql, register_bq }): Body<HybridRequest>,
) -> Answer<Response> {
    if !register_bq.is_empty() && !app.agnes.has_remote_engine(BIG_QUERY) {
        return Err(super::not_there("BigQuery"));
    }
    let waits = Waits(Stop::default());
    let stop = waits.0.clone();
    let most = app.settings.max_rows;
    let body = app.work_in(&app.queries, move |app| {
        let engine = Resource::parse(&format!("remote_engine:{BIG_QUERY}"))?;
        let decision = app.access.decide(&caller.principal, &engine);
        let mut session = app.agnes.hybrid_session(&caller.principal)?;
        for (alias, statement) in &register_bq {
            session.register(&decision.permit()?, &ViewName::parse(alias)?, statement)?;
        }
        let options =
            QueryOptions { max_rows: Some(most), stop: Some(stop), ..QueryOptions::default() };
        let rows = session.query(&sql, &options)?;
        let aliases: Vec<&String> = register_bq.keys().collect();
        let stats = json!({"registered_aliases": aliases, "alias_count": aliases.len()});
        let mut body = json_body(rows)?;
        // The last brace of the rows.
        body.pop();
        body.extend_from_slice(format!(",\"bq_stats\":{stats}}}").as_bytes());
        Ok(body)
    });
    let body = body.await.map_err(refused)?;
    drop(waits);
    let mut response =
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body)
            .into_response();
    personal(response.headers_mut());
    Ok(response)
}

/// Whether a client would rather have Arrow.
fn wants_arrow(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter();
    let mut types = accept.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    types.any(|one| one.split(';').next().is_some_and(|kind| kind.trim() == TYPE))
}

/// All rows as JSON, as far as there is room for them.
fn json_body(mut rows: Rows) -> Result<Vec<u8>> {
    let unfit = |e: ArrowError| Error::new(Kind::Internal, "rows are no JSON").because(e);
    let fields = rows.schema().fields().iter();
    let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
    let columns = serde_json::to_string(&names)
        .map_err(|e| Error::new(Kind::Internal, "names are no JSON").because(e))?;
    let mut out = format!("{{\"columns\":{columns},\"rows\":[").into_bytes();
    let (mut count, mut is_full) = (0, false);
    for batch in &mut rows {
        let batch: RecordBatch = batch?;
        let end = out.len();
        if count > 0 {
            out.push(b',');
        }
        let fit = encoded::rows(&batch, &mut out, encoded::MOST).map_err(unfit)?;
        if fit == 0 {
            out.truncate(end);
        }
        count += fit;
        is_full = fit < batch.num_rows();
        if is_full {
            break;
        }
    }
    if is_full && count == 0 {
        return Err(Error::new(
            Kind::Limit,
            format!(
                "a row may have more than {} MiB as JSON; select less of it, or ask for Arrow",
                encoded::MOST >> 20
            ),
        ));
    }
    let is_truncated = is_full || rows.truncated();
    let end = format!("],\"row_count\":{count},\"truncated\":{is_truncated}}}");
    out.extend_from_slice(end.as_bytes());
    Ok(out)
}

/// The same error, or why a table that the caller may see has no rows.
fn hinted(app: &Inner, principal: &Principal, error: Error) -> Error {
    let named = error.context(Key::Table).and_then(|name| app.access.resolve(name));
    let Some(table) = named else { return error };
    let decision = app.access.decide(principal, &Resource::table(table.id));
    let entry = decision.permit().and_then(|permit| app.agnes.catalog_entry(&permit));
    match entry {
        Ok(entry) if !entry.is_published => Error::new(Kind::NotFound, unpublished(&entry)),
        _ => error,
    }
}

/// Why a statement didn't run: 403 for tables and people, 400 for what the text says.
pub(super) fn refused(error: Error) -> Failure {
    let about_a_table = error.context(Key::Table).is_some();
    let about_her = matches!(error.context(Key::Reason), Some("session_ended"));
    let kind = error.kind();
    let failure = Failure::from(error);
    match kind {
        Kind::Denied if !about_a_table && !about_her => failure.status(StatusCode::BAD_REQUEST),
        Kind::NotFound => failure.status(StatusCode::BAD_REQUEST),
        _ => failure,
    }
}
