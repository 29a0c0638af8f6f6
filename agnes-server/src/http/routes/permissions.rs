//! Permissions of single users, which the policy `grants_and_legacy` looks at.

use agnes_core::access::Permission;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::users::user_id;
use crate::http::app::App;
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Body, Path};

/// That a user may read a table, or all tables of a bucket.
#[derive(Serialize, ToSchema)]
pub(super) struct PermissionJson {
    user_id: String,
    /// A table's id, or `<bucket>.*`.
    dataset: String,
    /// `read`, or `none`.
    access: String,
}

impl PermissionJson {
    fn of(permission: Permission) -> PermissionJson {
        PermissionJson {
            user_id: permission.user.to_string(),
            dataset: permission.dataset,
            access: permission.access,
        }
    }
}

/// A permission to be given.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewPermission {
    user_id: String,
    /// A table's id, or `<bucket>.*`.
    #[schema(min_length = 1, max_length = 256)]
    dataset: String,
    #[serde(default = "read")]
    #[schema(default = "read")]
    access: String,
}

fn read() -> String {
    "read".to_string()
}

/// List the permissions
#[utoipa::path(
    get, path = "/api/permissions", tag = "permissions",
    responses((status = 200, body = Vec<PermissionJson>))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
) -> Answer<Json<Vec<PermissionJson>>> {
    let all = app.work(move |app| Ok(app.access.admin(&caller.principal)?.permissions())).await?;
    Ok(Json(all.into_iter().map(PermissionJson::of).collect()))
}

/// List the permissions of a user
#[utoipa::path(
    get, path = "/api/permissions/{user}", tag = "permissions", params(("user" = String, Path)),
    responses(
        (status = 200, body = Vec<PermissionJson>), (status = 404, description = "No such user")
    )
)]
pub(super) async fn of_user(
    State(app): State<App>,
    caller: Caller,
    Path(user): Path<String>,
) -> Answer<Json<Vec<PermissionJson>>> {
    let id = user_id(&user)?;
    let hers = app.work(move |app| {
        let admin = app.access.admin(&caller.principal)?;
        admin.user(&id)?;
        Ok(admin.permissions().into_iter().filter(|of| of.user == id).collect::<Vec<_>>())
    });
    Ok(Json(hers.await?.into_iter().map(PermissionJson::of).collect()))
}

/// Give a user a permission, or change it
#[utoipa::path(
    post, path = "/api/permissions", tag = "permissions", request_body = NewPermission,
    responses(
        (status = 201, body = PermissionJson), (status = 400, description = "It can't be"),
        (status = 404, description = "No such user"),
    )
)]
pub(super) async fn give(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewPermission>,
) -> Answer<Response> {
    let id = user_id(&new.user_id)?;
    let given = app.work(move |app| {
        app.access.admin(&caller.principal)?.permit(&id, &new.dataset, &new.access)
    });
    Ok((StatusCode::CREATED, Json(PermissionJson::of(given.await?))).into_response())
}

/// A permission that was taken back.
#[derive(Serialize, ToSchema)]
pub(super) struct RevokedPermission {
    revoked: bool,
}

/// Take a user's permission back
#[utoipa::path(
    delete, path = "/api/permissions", tag = "permissions", request_body = NewPermission,
    responses(
        (status = 200, body = RevokedPermission), (status = 404, description = "She has none")
    )
)]
pub(super) async fn take_back(
    State(app): State<App>,
    caller: Caller,
    Body(old): Body<NewPermission>,
) -> Result<Json<RevokedPermission>, Failure> {
    let id = user_id(&old.user_id)?;
    app.work(move |app| app.access.admin(&caller.principal)?.unpermit(&id, &old.dataset)).await?;
    Ok(Json(RevokedPermission { revoked: true }))
}
