//! What the command of analysts asks for besides data.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::answer::Personal;
use crate::http::app::App;
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Path, Query};

/// Which version of the command there is to download.
#[derive(Serialize, ToSchema)]
pub(super) struct Latest {
    version: Option<String>,
    wheel_filename: Option<String>,
    download_url_path: Option<String>,
}

/// Say which version of the command there is to download: none
#[utoipa::path(get, path = "/cli/latest", tag = "client", responses((status = 200, body = Latest)))]
pub(super) async fn latest() -> Json<Latest> {
    Json(Latest { version: None, wheel_filename: None, download_url_path: None })
}

/// How the caller reaches the server.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Reached {
    server_url: Option<String>,
}

/// A text for an analyst's workspace.
#[derive(Serialize, ToSchema)]
pub(super) struct Welcome {
    /// Markdown.
    content: String,
}

/// Clients know their own file by these words.
const TITLE: &str = "AI Data Analyst";

/// Give the text with which an analyst's workspace begins
#[utoipa::path(
    get, path = "/api/welcome", tag = "client", params(Reached),
    responses((status = 200, body = Welcome))
)]
pub(super) async fn welcome(
    State(app): State<App>,
    caller: Caller,
    Query(Reached { server_url }): Query<Reached>,
) -> Answer<Response> {
    let principal = caller.principal;
    let tables = app.work(move |app| app.agnes.catalog(&principal)).await?;
    // What a client says of itself is a text in its own file, on one line.
    let server = server_url.unwrap_or_else(|| app.settings.public_url.clone());
    let server: String = server.chars().filter(|c| !c.is_control()).take(200).collect();
    let mut content = format!(
        "# {TITLE}\n\nThis workspace holds data that {server} governs for {}.\n\n\
         - `agnes pull` brings the tables below into this folder; query them with SQL in DuckDB.\n\
         - `agnes query --remote \"SELECT …\"` asks the server, which also knows remote tables.\n\
         - `agnes catalog` lists the tables, `agnes schema TABLE` their columns.\n\n\
         ## Tables\n\n",
        caller.user.email
    );
    for table in &tables {
        let about = table.description.as_deref().unwrap_or_default().replace('\n', " ");
        let dash = if about.is_empty() { "" } else { ": " };
        content.push_str(&format!("- `{}`{dash}{about}\n", table.name));
    }
    if tables.is_empty() {
        content.push_str("None yet: ask an admin for access.\n");
    }
    Ok(Personal(Welcome { content }).into_response())
}

/// What an organisation knows.
#[derive(Serialize, ToSchema)]
pub(super) struct Bundle {
    #[schema(value_type = Vec<Object>)]
    mandatory: Vec<serde_json::Value>,
    #[schema(value_type = Vec<Object>)]
    approved: Vec<serde_json::Value>,
    /// The size of both, in tokens of a language model.
    token_estimate: u32,
    token_budget: u32,
}

/// Give what an organisation knows: nothing yet
#[utoipa::path(
    get, path = "/api/memory/bundle", tag = "client", responses((status = 200, body = Bundle))
)]
pub(super) async fn bundle(_: Caller) -> Personal<Bundle> {
    Personal(Bundle {
        mandatory: Vec::new(),
        approved: Vec::new(),
        token_estimate: 0,
        token_budget: 6000,
    })
}

/// Why there is no command to download.
fn none() -> Failure {
    let told = "this server has no client to download; install one from its package";
    Failure::new(StatusCode::NOT_FOUND, told)
}

/// Download the command: there is none
#[utoipa::path(
    get, path = "/cli/download", tag = "client",
    responses((status = 404, description = "This server has none"))
)]
pub(super) async fn download() -> Answer<StatusCode> {
    Err(none())
}

/// Download the command's package: there is none
#[utoipa::path(
    get, path = "/cli/wheel/{name}", tag = "client", params(("name" = String, Path)),
    responses((status = 404, description = "This server has none"))
)]
pub(super) async fn wheel(Path(_): Path<String>) -> Answer<StatusCode> {
    Err(none())
}

/// Download a script that installs the command: there is none
#[utoipa::path(
    get, path = "/cli/install.sh", tag = "client",
    responses((status = 404, description = "This server has none"))
)]
pub(super) async fn install() -> Answer<StatusCode> {
    Err(none())
}
