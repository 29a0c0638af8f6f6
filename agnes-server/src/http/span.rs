//! A span for each request, part of the trace that a caller or a proxy has begun (W3C Trace Context).

use axum::extract::Request;
use tracing::Span;

/// The span of a request.
#[cfg(feature = "otel")]
pub(crate) fn of(request: &Request, id: &str, route: Option<&str>) -> Span {
    use opentelemetry::propagation::TextMapPropagator as _;
    use opentelemetry_http::HeaderExtractor;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing::field::Empty;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    let method = request.method().as_str();
    // A path holds names of tables, and a route doesn't.
    let route = route.unwrap_or_default();
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        request_id = id,
    );
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(request.headers()));
    let _ = span.set_parent(parent);
    span
}

/// No span where nobody collects any.
#[cfg(not(feature = "otel"))]
pub(crate) fn of(_: &Request, _: &str, _: Option<&str>) -> Span {
    Span::none()
}
