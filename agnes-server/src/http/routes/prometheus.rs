//! What the server counts, for Prometheus.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::http::app::App;
use crate::http::error::Answer;
use crate::http::metrics;

/// Show what the server counts, as Prometheus reads it
///
/// The same without a token on the address `server.metrics_listen`, where there is one.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((
        status = 200, description = "OpenMetrics text",
        content_type = "application/openmetrics-text", body = String,
    ))
)]
pub(crate) async fn show(State(app): State<App>) -> Answer<Response> {
    let text = app.work(metrics::text).await?;
    let mut response = text.into_response();
    let kind = HeaderValue::from_static(metrics::TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
