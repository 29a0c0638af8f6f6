//! Some rows and columns of a table, by a predicate.

use agnes_core::query::{Order, Scan, Stop};
use agnes_core::{ColumnName, Error, Key, Kind, QueryOptions, Result};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::named::{published, with_table_in};
use super::query::refused;
use crate::http::answer::Personal;
use crate::http::app::App;
use crate::http::arrow::{self, Waits};
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Body, Whole};
use crate::http::quota::Exceeded;

/// What is wanted of a table.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ScanRequest {
    /// The id of the table, or its name.
    table_id: String,
    /// These columns; all when there are none.
    select: Option<Vec<String>>,
    /// The condition of the rows: one that is about the table's own columns and nothing else.
    r#where: Option<String>,
    /// The most rows.
    #[schema(value_type = Option<i64>, minimum = 1)]
    limit: Option<Whole>,
    /// `<column>`, `<column> ASC` or `<column> DESC`.
    order_by: Option<Vec<String>>,
}

impl ScanRequest {
    fn scan(&self, app: &App) -> Answer<Scan> {
        let plain = |name: &String| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let begins = name.chars().next().is_some_and(|c| !c.is_ascii_digit());
            match begins && name.len() <= 64 && name.chars().all(is_plain) {
                true => ColumnName::parse(name.as_str()),
                false => Err(Error::new(
                    Kind::Invalid,
                    format!("`{}` can't be a column's name here", name.escape_debug()),
                )),
            }
        };
        let most = app.settings.scans.max_limit;
        let limit = match self.limit.map(|limit| limit.0) {
            None => None,
            Some(limit) if limit < 1 => {
                return Err(Failure::unprocessable(&["body", "limit"], "it takes at least 1"));
            }
            Some(limit) if limit.unsigned_abs() > most => {
                return Err(Failure::new(
                    StatusCode::BAD_REQUEST,
                    format!("the limit is {most} at most, not {limit}"),
                ));
            }
            Some(limit) => Some(limit.unsigned_abs()),
        };
        let select = self.select.iter().flatten().map(plain).collect::<Result<_>>()?;
        let orders = self.order_by.iter().flatten().map(|order| Order::parse(order));
        Ok(Scan {
            select,
            predicate: self.r#where.clone().filter(|text| !text.trim().is_empty()),
            order_by: orders.collect::<Result<_>>()?,
            limit,
        })
    }
}

/// Why a scan can't be.
fn rejected(error: Error) -> Failure {
    let kind = error.context(Key::Reason).map(str::to_string);
    let column = error.context(Key::Column).map(str::to_string);
    let message = error.message().to_string();
    match kind.as_deref() {
        Some("concurrent_statements") => {
            let most = error.context(Key::Max).and_then(|most| most.parse().ok());
            Exceeded::of_statements(most.unwrap_or_default()).into()
        }
        Some("session_ended" | "timeout") | None => refused(error),
        Some(kind) => Failure::new(
            StatusCode::BAD_REQUEST,
            json!({
                "error": "validator_rejected", "kind": kind,
                "details": {"message": message, "column": column},
            }),
        ),
    }
}

/// What a scan would cost.
#[derive(Serialize, ToSchema)]
pub(super) struct Estimate {
    table_id: String,
    /// Bytes that a remote system would read; 0 where the rows are here.
    estimated_scan_bytes: u64,
    estimated_result_rows: Option<u64>,
    estimated_result_bytes: Option<u64>,
    /// What that would cost there, US dollars.
    bq_cost_estimate_usd: f64,
}

/// Say what a scan would cost
#[utoipa::path(
    post, path = "/api/v2/scan/estimate", tag = "discovery", request_body = ScanRequest,
    responses(
        (status = 200, body = Estimate), (status = 400, description = "It can't be"),
        (status = 404, description = "No such table"),
        (status = 422, description = "The request can't be understood"),
    )
)]
pub(super) async fn estimate(
    State(app): State<App>,
    caller: Caller,
    Body(ask): Body<ScanRequest>,
) -> Answer<Response> {
    let scan = ask.scan(&app)?;
    let estimated =
        with_table_in(&app, &app.queries, caller, ask.table_id, move |app, caller, permit| {
            let entry = published(app, permit)?;
            let session = app.agnes.session_for(&caller.principal)?;
            let statement = session.scan_statement(&entry.name, &scan);
            Ok(statement.map(|_| entry.id.to_string()))
        });
    let table_id = estimated.await?.map_err(rejected)?;
    let answer = Estimate {
        table_id,
        estimated_scan_bytes: 0,
        estimated_result_rows: None,
        estimated_result_bytes: None,
        bq_cost_estimate_usd: 0.0,
    };
    Ok(Personal(answer).into_response())
}

/// Read some rows and columns of a table, as an Arrow IPC stream
///
/// A result that is larger than the server allows is cut off; `X-Agnes-Truncated` says whether it
/// was: a header of results up to a mebibyte, a trailer of larger ones.
#[utoipa::path(
    post, path = "/api/v2/scan", tag = "discovery", request_body = ScanRequest,
    responses(
        (status = 200, description = "The rows", content_type = "application/vnd.apache.arrow.stream", body = Vec<u8>),
        (status = 400, description = "It can't be: `kind` says why a predicate was refused"),
        (status = 404, description = "No such table"),
        (status = 422, description = "The request can't be understood"),
        (status = 429, description = "Too many at once, or too much today"),
    )
)]
pub(super) async fn scan(
    State(app): State<App>,
    caller: Caller,
    Body(ask): Body<ScanRequest>,
) -> Answer<Response> {
    let scan = ask.scan(&app)?;
    let turn = app.quotas.begin(&caller.user.id, app.agnes.now())?;
    let waits = Waits(Stop::default());
    let options = QueryOptions {
        max_rows: Some(scan.limit.unwrap_or(app.settings.scans.max_limit)),
        max_bytes: Some(app.settings.scans.max_result_bytes),
        stop: Some(waits.0.clone()),
        ..QueryOptions::default()
    };
    let begun =
        with_table_in(&app, &app.queries, caller, ask.table_id, move |app, caller, permit| {
            let entry = published(app, permit)?;
            let session = app.agnes.session_for(&caller.principal)?;
            Ok(session.scan(&entry.name, &scan, &options))
        });
    let rows = begun.await?.map_err(rejected)?;
    let count = Box::new(move |bytes: usize| turn.count(bytes as u64));
    arrow::stream(app, rows, waits, Some(count)).await.map_err(rejected)
}

impl From<Exceeded> for Failure {
    fn from(exceeded: Exceeded) -> Failure {
        let seconds = exceeded.retry_after_seconds;
        let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, json!(exceeded));
        match HeaderValue::from_str(&seconds.to_string()) {
            Ok(seconds) => failure.with(header::RETRY_AFTER, seconds),
            Err(_) => failure,
        }
    }
}
