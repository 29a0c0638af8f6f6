//! The description of the API, for programs and for people.

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::Server;
use utoipa_swagger_ui::Config;

use crate::http::answer::personal;
use crate::http::app::App;
use crate::http::error::{Answer, Failure};
use crate::http::extract::Path;
use crate::http::page::moved;

/// The page fetches nothing from elsewhere, and tells nobody what it shows.
static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from("../api/openapi.json").validator_url("none").deep_linking(true);
    Arc::new(config.display_request_duration(true).default_models_expand_depth(0))
});
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Describe the API as OpenAPI 3.1
#[utoipa::path(
    get, path = "/api/openapi.json", tag = "server", responses((status = 200, body = Object))
)]
pub(super) async fn described(State(app): State<App>) -> Response {
    let make = || {
        let (mut api, _) = super::super::described(&app);
        if !app.at("").is_empty() {
            api.servers = Some(vec![Server::new(app.at(""))]);
        }
        serde_json::to_vec(&api).unwrap_or_default().into()
    };
    let described = app.description.get_or_init(make).clone();
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], described).into_response()
}

/// Go to the page on which the API is tried out
#[utoipa::path(
    get, path = "/docs", tag = "pages", responses((status = 302, description = "To the page"))
)]
pub(super) async fn page(State(app): State<App>) -> Response {
    moved(&app.at("/docs/index.html"))
}

/// A file of the page on which the API is tried out
#[utoipa::path(
    get, path = "/docs/{file}", tag = "pages", params(("file" = String, Path)),
    responses(
        (status = 200, description = "It", content(
            (String = "text/html"), (String = "text/css"), (String = "text/javascript"),
            (Vec<u8> = "image/png")
        )),
        (status = 404, description = "There is no such file"),
    )
)]
pub(super) async fn file(Path(file): Path<String>) -> Answer<Response> {
    let none = || Failure::new(StatusCode::NOT_FOUND, "there is nothing at this address");
    let found = utoipa_swagger_ui::serve(&file, CONFIG.clone()).map_err(|_| none())?;
    let found = found.ok_or_else(none)?;
    let mut response = found.bytes.into_owned().into_response();
    let headers = response.headers_mut();
    personal(headers);
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    if let Ok(kind) = HeaderValue::from_str(&found.content_type) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    Ok(response)
}
