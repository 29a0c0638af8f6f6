//! Requests for access.

use agnes_core::access::{AccessRequest, GroupId, RequestId};
use agnes_core::{Error, Kind, Result, TableId};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::wire::word;
use crate::http::answer::Personal;
use crate::http::app::App;
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Body, Path, parse};

/// That somebody asks to see a table.
#[derive(Serialize, ToSchema)]
pub(super) struct RequestJson {
    id: String,
    user_id: String,
    user_email: String,
    table_id: String,
    reason: Option<String>,
    /// `pending`, `approved` or `denied`.
    status: String,
    reviewed_by: Option<String>,
    #[schema(format = DateTime)]
    reviewed_at: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
}

impl RequestJson {
    fn of(request: AccessRequest) -> RequestJson {
        RequestJson {
            id: request.id.to_string(),
            user_id: request.user.to_string(),
            user_email: request.user_email.to_string(),
            table_id: request.table_id.to_string(),
            reason: request.reason,
            status: word(&request.status),
            reviewed_by: request.reviewed_by,
            reviewed_at: request.reviewed_at.map(|at| at.to_string()),
            created_at: request.created_at.to_string(),
        }
    }
}

/// Requests.
#[derive(Serialize, ToSchema)]
pub(super) struct Requests {
    requests: Vec<RequestJson>,
    count: usize,
}

impl Requests {
    fn of(requests: Vec<AccessRequest>) -> Requests {
        let requests: Vec<_> = requests.into_iter().map(RequestJson::of).collect();
        Requests { count: requests.len(), requests }
    }
}

/// What somebody asks for.
#[derive(Deserialize, ToSchema)]
pub(super) struct WantedTable {
    /// The table's id.
    #[schema(example = "orders")]
    table_id: String,
    /// Why she needs it.
    reason: Option<String>,
}

/// A request that waits for an answer.
#[derive(Serialize, ToSchema)]
pub(super) struct RequestState {
    id: String,
    /// `pending`, `approved` or `denied`.
    status: String,
    table_id: String,
}

impl RequestState {
    fn of(request: &AccessRequest) -> RequestState {
        RequestState {
            id: request.id.to_string(),
            status: word(&request.status),
            table_id: request.table_id.to_string(),
        }
    }
}

/// Ask for a table
///
/// The answer is the same whether there is such a table or not.
#[utoipa::path(
    post, path = "/api/access-requests", tag = "requests", request_body = WantedTable,
    responses(
        (status = 201, body = RequestState), (status = 400, description = "It can't be"),
        (status = 409, description = "She has asked already"),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(wanted): Body<WantedTable>,
) -> Answer<Response> {
    let made = app.work(move |app| {
        let table = match app.access.resolve(&wanted.table_id) {
            Some(registered) => registered.id,
            None => TableId::parse(&wanted.table_id)?,
        };
        app.access.request(&caller.principal, table, wanted.reason)
    });
    Ok((StatusCode::CREATED, Personal(RequestState::of(&made.await?))).into_response())
}

/// List what the caller has asked for, the newest first
#[utoipa::path(
    get, path = "/api/access-requests/my", tag = "requests", responses((status = 200, body = Requests))
)]
pub(super) async fn mine(State(app): State<App>, caller: Caller) -> Answer<Response> {
    let mine = app.work(move |app| app.access.my_requests(&caller.principal)).await?;
    Ok(Personal(Requests::of(mine)).into_response())
}

/// List what nobody has answered, the oldest first
#[utoipa::path(
    get, path = "/api/access-requests/pending", tag = "requests",
    responses((status = 200, body = Requests))
)]
pub(super) async fn pending(State(app): State<App>, caller: Caller) -> Answer<Json<Requests>> {
    let pending =
        app.work(move |app| app.access.admin(&caller.principal)?.pending_requests()).await?;
    Ok(Json(Requests::of(pending)))
}

fn id(text: &str) -> Result<RequestId> {
    let none = || Error::new(Kind::NotFound, "there is no such request");
    RequestId::parse(text).map_err(|_| none())
}

/// How it is granted.
#[derive(Default, Deserialize, ToSchema)]
pub(super) struct Approval {
    /// To this group; to one of her own when absent.
    group_id: Option<String>,
}

/// Let whoever asked see the table
#[utoipa::path(
    post, path = "/api/access-requests/{id}/approve", tag = "requests", params(("id" = String, Path)),
    request_body = Option<Approval>,
    responses(
        (status = 200, body = RequestState),
        (status = 404, description = "No such request waits, or no such table or group"),
    )
)]
pub(super) async fn approve(
    State(app): State<App>,
    caller: Caller,
    Path(text): Path<String>,
    body: bytes::Bytes,
) -> Result<Json<RequestState>, Failure> {
    let id = id(&text)?;
    // Older clients send nothing.
    let approval: Approval = match body.trim_ascii() {
        b"" | b"null" => Approval::default(),
        body => parse(body)?,
    };
    let group = approval.group_id.as_deref().map(super::groups::group_id).transpose()?;
    let approved = app.work(move |app| {
        app.access.admin(&caller.principal)?.approve(&id, group.as_ref() as Option<&GroupId>)
    });
    Ok(Json(RequestState::of(&approved.await?)))
}

/// Don't let whoever asked see the table
#[utoipa::path(
    post, path = "/api/access-requests/{id}/deny", tag = "requests", params(("id" = String, Path)),
    responses(
        (status = 200, body = RequestState), (status = 404, description = "No such request waits")
    )
)]
pub(super) async fn deny(
    State(app): State<App>,
    caller: Caller,
    Path(text): Path<String>,
) -> Result<Json<RequestState>, Failure> {
    let id = id(&text)?;
    let denied = app.work(move |app| app.access.admin(&caller.principal)?.deny(&id));
    Ok(Json(RequestState::of(&denied.await?)))
}
