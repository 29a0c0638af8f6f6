//! The configuration, as admins change it. What reads it at its start knows of it at the next one.

use agnes_core::config::Config;
use agnes_core::outbound::{SystemResolver, Target};
use agnes_core::{Error, Kind, Result};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::http::app::{App, Inner};
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::Body;
use crate::http::settings::Configuration;

/// Sections with which somebody can shut everybody out.
const DANGEROUS: [&str; 2] = ["auth", "server"];

/// Where the configuration lies; a service that mounts the routes may have none.
fn configuration(app: &Inner) -> Result<&Configuration> {
    app.settings.configuration.as_ref().ok_or_else(|| {
        Error::new(Kind::Conflict, "this server has no configuration that can be changed")
    })
}

/// The configuration that may be changed.
#[derive(Serialize, ToSchema)]
pub(super) struct Sections {
    /// By name, as they are written: `${NAME}` stands for a variable, `***` for a secret.
    #[schema(value_type = Object)]
    sections: Value,
    /// Those that take `confirm_danger`.
    dangerous: [&'static str; 2],
}

/// Show the configuration that may be changed, without secrets
#[utoipa::path(
    get, path = "/api/admin/server-config", tag = "configuration",
    responses(
        (status = 200, body = Sections), (status = 409, description = "This server has none"),
    )
)]
pub(super) async fn get(State(app): State<App>, _: Caller) -> Answer<Json<Sections>> {
    let sections = app.work(move |app| {
        let Configuration { files, variables, .. } = configuration(app)?;
        Ok(Config::load(files, &|name| variables(name)).changeable())
    });
    Ok(Json(Sections { sections: sections.await?, dangerous: DANGEROUS }))
}

/// What is to be different.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewSections {
    /// By name: mappings key by key, everything else as a whole. `***` leaves a secret.
    #[schema(value_type = Object)]
    sections: Map<String, Value>,
    /// Whether the sections `auth` and `server` are meant.
    #[serde(default)]
    confirm_danger: bool,
}

/// What was changed.
#[derive(Serialize, ToSchema)]
pub(super) struct UpdatedSections {
    /// `ok`.
    status: &'static str,
    /// The paths of what is different now.
    updated: Vec<String>,
    /// Whether it holds from the server's next start on.
    restart_required: bool,
}

fn change(app: &Inner, caller: &Caller, sections: &Map<String, Value>) -> Result<Vec<String>> {
    let Configuration { files, variables, fits } = configuration(app)?;
    let fits = |config: &Config| fits(config);
    app.agnes.change_config(&caller.principal, files, &|name| variables(name), sections, &fits)
}

/// Why a change wasn't made. An overlay that can't be read is the server's fault, told in full.
fn unchanged(error: Error) -> Failure {
    let kind = error.kind();
    let failure = Failure::from(error);
    match kind {
        Kind::Contract => failure.status(StatusCode::INTERNAL_SERVER_ERROR),
        _ => failure,
    }
}

/// Change the configuration
#[utoipa::path(
    post, path = "/api/admin/server-config", tag = "configuration", request_body = NewSections,
    responses(
        (status = 200, body = UpdatedSections),
        (status = 400, description = "No such section, a value that can't be, or no confirmation"),
        (status = 409, description = "This server has no configuration that can be changed"),
        (status = 500, description = "What is there can't be read"),
    )
)]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Body(NewSections { sections, confirm_danger }): Body<NewSections>,
) -> Answer<Json<UpdatedSections>> {
    if let Some(name) = DANGEROUS.iter().find(|name| sections.contains_key(**name))
        && !confirm_danger
    {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            format!("`{name}` can shut everybody out: send `confirm_danger: true` with it"),
        ));
    }
    let updated = app.work(move |app| change(app, &caller, &sections)).await.map_err(unchanged)?;
    let restart_required = !updated.is_empty();
    Ok(Json(UpdatedSections { status: "ok", updated, restart_required }))
}

/// Where an installation's data comes from.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewSource {
    /// `local`, `keboola` or `bigquery`.
    #[schema(pattern = "^(local|keboola|bigquery)$")]
    data_source: String,
    keboola_url: Option<String>,
    instance_name: Option<String>,
    allowed_domain: Option<String>,
}

/// What was set up.
#[derive(Serialize, ToSchema)]
pub(super) struct Configured {
    /// `ok`.
    status: &'static str,
    data_source: String,
    /// What came of trying it: `not_needed`.
    connection: &'static str,
}

/// Say where the installation's data comes from
///
/// A source that nobody has tried isn't set up.
#[utoipa::path(
    post, path = "/api/admin/configure", tag = "configuration", request_body = NewSource,
    responses(
        (status = 200, body = Configured),
        (status = 400, description = "An address that leads inside, or something that can't be"),
        (status = 409, description = "This server has no configuration that can be changed"),
        (status = 422, description = "The request can't be understood"),
        (status = 500, description = "What is there can't be read"),
        (status = 501, description = "Nothing here can try the source"),
    )
)]
pub(super) async fn configure(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewSource>,
) -> Answer<Json<Configured>> {
    match new.data_source.as_str() {
        "local" => {}
        "keboola" => {
            if let Some(url) = new.keboola_url {
                app.work(move |_| Target::parse(&url)?.pin(&SystemResolver)).await?;
            }
            return Err(super::not_there("Keboola"));
        }
        "bigquery" => return Err(super::not_there("BigQuery")),
        _ => {
            let told = "it is `local`, `keboola` or `bigquery`";
            return Err(Failure::unprocessable(&["body", "data_source"], told));
        }
    }
    let mut sections = Map::new();
    sections.insert("data_source".to_string(), json!({"type": "local"}));
    if let Some(name) = new.instance_name {
        sections.insert("instance".to_string(), json!({"name": name}));
    }
    if let Some(domain) = new.allowed_domain {
        sections.insert("auth".to_string(), json!({"allowed_domain": domain}));
    }
    app.work(move |app| change(app, &caller, &sections)).await.map_err(unchanged)?;
    let connection = "not_needed";
    Ok(Json(Configured { status: "ok", data_source: new.data_source, connection }))
}

/// Try the connection to BigQuery
#[utoipa::path(
    post, path = "/api/admin/bigquery/test-connection", tag = "configuration",
    responses((status = 501, description = "Nothing here can try it"))
)]
pub(super) async fn test_big_query() -> Answer<StatusCode> {
    Err(super::not_there("BigQuery"))
}
