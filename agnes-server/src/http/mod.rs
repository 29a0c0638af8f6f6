//! Agnes over HTTP: routes over the core, each behind a guard.

mod answer;
mod api;
mod app;
mod arrow;
mod carried;
mod door;
mod error;
mod extract;
mod files;
mod limits;
mod mail;
mod memory;
mod metrics;
mod page;
mod pool;
mod process;
mod pulse;
mod quota;
mod request_id;
mod routes;
mod serve;
mod settings;
mod span;

pub use app::App;
pub use door::Guard;
pub(crate) use page::safe as safe_path;
pub(crate) use process::{raise_descriptors, run_soon, take_small_pages};
pub use serve::{ConnectionSettings, TlsFiles};
pub use settings::{
    Configuration, Fits, MailSecurity, MailSettings, Provider, Release, ScanSettings, SendFile,
    ServerSettings, Variables,
};

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::cors::CorsLayer;

use error::Failure;

/// What every answer tells a browser, where a page doesn't say more: docs/server.md has the reasons.
const IN_A_BROWSER: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
/// For a year, where the server is reached over HTTPS.
const HTTPS_ALONE: &str = "max-age=31536000";

fn safe_in_a_browser(mut response: Response, has_tls: bool) -> Response {
    let https = has_tls.then_some((header::STRICT_TRANSPORT_SECURITY, HTTPS_ALONE));
    for (name, value) in IN_A_BROWSER.into_iter().chain(https) {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// All routes of a server, for a service of its own or as a part of another one.
///
/// Where the service tells from where a connection comes
/// (`into_make_service_with_connect_info::<SocketAddr>()`), attempts to sign in are counted by
/// address; otherwise they count as one caller's.
pub fn router(app: App) -> Router {
    let (routes, _, _) = routes::all(&app).into_parts();
    let routes = routes
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "this address takes other methods")
        });
    let has_tls = app.settings.secure_cookies;
    let origins: Vec<HeaderValue> =
        app.settings.cors_origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    // A list that has everybody in it is no list, and the layer panics over it.
    let origins: Vec<HeaderValue> = origins.into_iter().filter(|origin| origin != "*").collect();
    let cors = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::RANGE,
            header::IF_NONE_MATCH,
            header::IF_RANGE,
        ])
        .expose_headers([
            header::ETAG,
            header::CONTENT_RANGE,
            header::CONTENT_DISPOSITION,
            header::RETRY_AFTER,
            request_id::HEADER,
        ]);
    // Parquet is packed already, and a range of what is packed is none of the file.
    let packable = DefaultPredicate::new()
        .and(NotForContentType::new("application/octet-stream"))
        .and(NotForContentType::new("application/vnd.apache.arrow.stream"));
    routes
        .layer(axum::extract::DefaultBodyLimit::max(app.settings.max_body))
        .layer(CompressionLayer::new().compress_when(packable))
        .layer(cors)
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong in the server")
                .into_response()
        }))
        .layer(axum::middleware::from_fn_with_state(app.clone(), page::for_people))
        .layer(axum::middleware::map_response(move |response| {
            std::future::ready(safe_in_a_browser(response, has_tls))
        }))
        .layer(axum::middleware::from_fn_with_state(app.clone(), request_id::name))
        .with_state(app)
}

/// Serves all routes until `end`, then what is at work, for as long as the settings say. Says how
/// many requests were still at work when that was over.
///
/// # Errors
/// `Invalid` for a certificate that can't be used; `Unavailable` when the address of the metrics is
/// taken.
pub async fn serve(
    listener: tokio::net::TcpListener,
    app: App,
    end: impl Future<Output = ()>,
) -> agnes_core::Result<usize> {
    let tls = app.settings.tls.clone().map(serve::Tls::new).transpose()?;
    let following = tls.clone().map(|tls| tokio::spawn(tls.follow()));
    let large = serve::Large::new().map_err(|e| {
        let what = format!("no threads can be had: {e}");
        agnes_core::Error::new(agnes_core::Kind::Unavailable, what)
    })?;
    let lane = large.handle().unwrap_or_else(tokio::runtime::Handle::current);
    let operators = match app.settings.metrics_listen {
        None => None,
        Some(address) => {
            let listener = tokio::net::TcpListener::bind(address).await.map_err(|e| {
                let what = format!("can't listen for metrics on {address}: {e}");
                agnes_core::Error::new(agnes_core::Kind::Unavailable, what)
            })?;
            let connections = serve::Connections::new(ConnectionSettings::default());
            let routes = routes::of_operators(&app);
            let never = std::future::pending();
            let lane = lane.clone();
            Some(tokio::spawn(serve::serve(listener, None, routes, connections, lane, never)))
        }
    };
    let connections = app.connections.clone();
    app.long.set(Some(lane.clone()));
    let left = serve::serve(listener, tls, router(app.clone()), connections, lane, end).await;
    app.long.set(None);
    following.into_iter().for_each(|task| task.abort());
    operators.into_iter().for_each(|task| task.abort());
    Ok(left)
}

/// Whether a server could be made of settings, without making it.
pub(crate) fn check(settings: &ServerSettings) -> agnes_core::Result<()> {
    settings.mail.as_ref().map_or(Ok(()), |mail| mail::Mailer::new(mail).map(drop))?;
    settings.tls.as_ref().map_or(Ok(()), serve::check)
}

/// The description of the API, and every route with its guard.
pub fn described(app: &App) -> (utoipa::openapi::OpenApi, Vec<(String, String, Guard)>) {
    let (_, api, guards) = routes::all(app).into_parts();
    let guards = guards.into_iter().map(|((path, method), guard)| (method, path, guard));
    (api, guards.collect())
}
