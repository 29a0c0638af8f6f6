//! What business numbers mean.

use agnes_core::metric::Metric;
use agnes_core::{Error, Kind, Result};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::http::answer::Personal;
use crate::http::app::App;
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Body, Path, Query};

/// Metrics.
#[derive(Serialize, ToSchema)]
pub(super) struct Metrics {
    #[schema(value_type = Vec<Object>)]
    metrics: Vec<Metric>,
    count: usize,
}

/// Which metrics.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Of {
    /// Those of this category.
    category: Option<String>,
}

/// List the metrics whose tables the caller may see
#[utoipa::path(
    get, path = "/api/metrics", tag = "metrics", params(Of), responses((status = 200, body = Metrics))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(Of { category }): Query<Of>,
) -> Answer<Response> {
    let mut metrics = app.work(move |app| app.agnes.metrics(&caller.principal)).await?;
    metrics.retain(|metric| category.as_ref().is_none_or(|category| *category == metric.category));
    let count = metrics.len();
    Ok(Personal(Metrics { metrics, count }).into_response())
}

/// Show a metric
#[utoipa::path(
    get, path = "/api/metrics/{category}/{name}", tag = "metrics",
    params(("category" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Object), (status = 404, description = "No such metric"))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path((category, name)): Path<(String, String)>,
) -> Answer<Response> {
    let id = format!("{category}/{name}");
    let metric = app.work(move |app| app.agnes.metric(&caller.principal, &id)).await?;
    Ok(Personal(metric).into_response())
}

/// A metric to be defined; the other keys of a definition go with it.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewMetric {
    /// `<category>/<name>`.
    id: String,
    name: String,
    display_name: String,
    category: String,
    sql: String,
    #[serde(flatten)]
    #[schema(ignore)]
    others: Map<String, Value>,
}

impl NewMetric {
    fn metric(self) -> Answer<Metric> {
        let NewMetric { id, name, display_name, category, sql, mut others } = self;
        if id != format!("{category}/{name}") {
            let wrong = Error::new(Kind::Invalid, "the `id` is `<category>/<name>`");
            return Err(wrong.into());
        }
        if let Some(Value::Object(variants)) = others.remove("sql_variants") {
            others.extend(variants.into_iter().map(|(key, sql)| (format!("sql_{key}"), sql)));
        }
        let keys =
            [("name", name), ("display_name", display_name), ("category", category), ("sql", sql)];
        others.extend(keys.map(|(key, text)| (key.to_string(), text.into())));
        // JSON is YAML.
        let text = Value::Object(others).to_string();
        let none = || Error::new(Kind::Invalid, "nothing is defined");
        Ok(Metric::parse_yaml(&text, None)?.pop().ok_or_else(none)?)
    }
}

/// Define a metric, in the place of one that has its id
#[utoipa::path(
    post, path = "/api/admin/metrics", tag = "metrics", request_body = NewMetric,
    responses(
        (status = 201, body = Object), (status = 400, description = "It can't be"),
        (status = 422, description = "Something is missing"),
    )
)]
pub(super) async fn put(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewMetric>,
) -> Answer<Response> {
    let metric = new.metric()?;
    let defined = app.work(move |app| {
        app.agnes.put_metrics(&caller.principal, std::slice::from_ref(&metric))?;
        app.agnes.metric(&caller.principal, &metric.id)
    });
    Ok((StatusCode::CREATED, Json(defined.await?)).into_response())
}

/// A definition that was taken away.
#[derive(Serialize, ToSchema)]
pub(super) struct RemovedMetric {
    /// `deleted`.
    status: &'static str,
    id: String,
}

/// Take a definition away
#[utoipa::path(
    delete, path = "/api/admin/metrics/{category}/{name}", tag = "metrics",
    params(("category" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = RemovedMetric), (status = 404, description = "No such metric"))
)]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path((category, name)): Path<(String, String)>,
) -> Result<Json<RemovedMetric>, Failure> {
    let id = format!("{category}/{name}");
    let gone = id.clone();
    app.work(move |app| app.agnes.remove_metric(&caller.principal, &gone)).await?;
    Ok(Json(RemovedMetric { status: "deleted", id }))
}
