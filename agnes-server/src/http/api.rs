//! The description of the API, OpenAPI 3.1.

use agnes_core::VERSION;
use axum::http::StatusCode;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use super::door::{COOKIE, Guard, requirement};

/// What every error looks like.
#[derive(serde::Serialize, ToSchema)]
pub(crate) struct Problem {
    /// What it is, and the cure: a text, an object for errors that programs tell apart, or a list
    /// of places for a request that can't be understood.
    detail: serde_json::Value,
    /// What a caller can do about it, in one word.
    code: String,
    /// The request, as the server's log names it.
    request_id: String,
}

/// The description without any path.
pub(crate) fn empty() -> OpenApi {
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let session = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(COOKIE)));
    let components = ComponentsBuilder::new()
        .schema("Problem", Problem::schema())
        .security_scheme("token", token)
        .security_scheme("session", session)
        .build();
    let info = InfoBuilder::new().title("Agnes").version(VERSION).description(Some(ABOUT)).build();
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

const ABOUT: &str = "\
A governed data layer: tables from many sources, who may see them, SQL over them.

Errors are `{\"detail\", \"code\", \"request_id\"}`. Times are ISO 8601 in UTC. To whoever is no \
admin, a table that she may not see and one that isn't there are the same answer.";

/// Says of an operation what its guard asks for and answers.
pub(crate) fn describe(operation: &mut Operation, guard: Guard) {
    operation.security = requirement(guard);
    describe_answers(operation);
    let mut refused = vec![("default", "Something else went wrong")];
    if guard != Guard::Public {
        refused.push(("401", "Nobody knows who asks"));
        refused.push(("403", "She may not"));
    }
    for (status, what) in refused {
        let answer =
            ResponseBuilder::new().description(what).content("application/json", problem()).build();
        operation.responses.responses.entry(status.to_string()).or_insert(RefOr::T(answer));
    }
}

/// Says of each answer what it is, where nobody has.
fn describe_answers(operation: &mut Operation) {
    for (status, answer) in &mut operation.responses.responses {
        if let RefOr::T(answer) = answer
            && answer.description.is_empty()
        {
            let code: Option<StatusCode> = status.parse().ok();
            let reason = code.and_then(|code| code.canonical_reason());
            answer.description = reason.unwrap_or("The answer").to_string();
        }
    }
}

/// What generated clients call an operation: `get_api_users_id` for `GET /api/users/{id}`.
pub(crate) fn name(method: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.fold(method.to_ascii_lowercase(), |name, word| name + "_" + word)
}

fn problem() -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build()
}
