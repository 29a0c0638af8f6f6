//! Traces for an OpenTelemetry collector.

use std::pin::Pin;

use agnes_core::{Error, Kind, Result};
use bytes::Bytes;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

use super::environment::Environment;

/// What it is called where nobody says (OTEL_SERVICE_NAME).
const NAME: &str = "agnes";

/// Sends what waits when it goes.
pub(super) struct Exporting(SdkTracerProvider);

impl Drop for Exporting {
    fn drop(&mut self) {
        // A collector that doesn't answer holds nobody up for long.
        let _ = self.0.shutdown_with_timeout(std::time::Duration::from_secs(2));
    }
}

/// Exports spans as the variables of OpenTelemetry say; none where they name no collector.
///
/// # Errors
/// `Invalid` when they can't be meant.
pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(
    environment: &Environment,
) -> Result<Option<(OpenTelemetryLayer<S, opentelemetry_sdk::trace::SdkTracer>, Exporting)>> {
    let named = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    if named.iter().all(|name| environment.get(name).is_none()) {
        return Ok(None);
    }
    let exporter = SpanExporter::builder().with_http().with_http_client(Client::new()).build();
    let exporter = exporter.map_err(|e| {
        let what = format!("OTEL_EXPORTER_OTLP_ENDPOINT names no collector: {e}");
        Error::new(Kind::Invalid, what)
    })?;
    let mut resource = Resource::builder();
    if environment.get("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(NAME);
    }
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer(NAME));
    Ok(Some((layer, Exporting(provider))))
}

/// The HTTP client of the commands. It blocks, on the exporter's own thread.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new() -> Client {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(std::time::Duration::from_secs(10)))
            .http_status_as_error(false);
        Client(config.build().into())
    }

    fn send(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, HttpError> {
        let response = self.0.run(request.map(|bytes| bytes.to_vec()))?;
        let (parts, mut body) = response.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}

impl HttpClient for Client {
    fn send_bytes<'s, 'a>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = std::result::Result<Response<Bytes>, HttpError>> + Send + 'a>>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(std::future::ready(self.send(request)))
    }
}
