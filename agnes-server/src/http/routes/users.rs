//! Users.

use agnes_core::access::{Admin, Email, LinkPurpose, UserId, UserUpdate};
use agnes_core::{Error, Kind, Result, Secret};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{mailed, page_of, with_link};
use super::wire::UserJson;
use crate::http::app::{App, Inner};
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Body, Path};

/// A user's id from an address; one that is malformed is nobody's.
pub(super) fn user_id(text: &str) -> Result<UserId> {
    let none = || Error::new(Kind::NotFound, "there is no such user");
    UserId::parse(text).map_err(|_| none())
}

/// What an admin does about a user, who is shown as she is afterwards.
async fn change(
    app: &App,
    caller: Caller,
    id: &str,
    work: impl FnOnce(&Admin<'_>, &UserId) -> Result<()> + Send + 'static,
) -> Answer<Json<UserJson>> {
    let id = user_id(id)?;
    let changed = app.work(move |app| {
        let admin = app.access.admin(&caller.principal)?;
        work(&admin, &id)?;
        admin.user(&id)
    });
    Ok(Json(UserJson::of(changed.await?)))
}

/// List the users, by address
#[utoipa::path(get, path = "/api/users", tag = "users", responses((status = 200, body = Vec<UserJson>)))]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Answer<Json<Vec<UserJson>>> {
    let users = app.work(move |app| Ok(app.access.admin(&caller.principal)?.users())).await?;
    Ok(Json(users.into_iter().map(UserJson::of).collect()))
}

/// Show a user
#[utoipa::path(
    get, path = "/api/users/{id}", tag = "users", params(("id" = String, Path)),
    responses((status = 200, body = UserJson), (status = 404, description = "No such user"))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<UserJson>> {
    change(&app, caller, &id, |_, _| Ok(())).await
}

/// A user to be added.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewUser {
    #[schema(example = "ada@example.com")]
    email: String,
    name: Option<String>,
    /// Whether to make a link with which she sets her password.
    #[serde(default)]
    send_invite: bool,
    /// As older clients say it: `admin` puts her into the group of admins.
    role: Option<String>,
}

/// A user who was added.
#[derive(Serialize, ToSchema)]
pub(super) struct AddedUser {
    #[serde(flatten)]
    user: UserJson,
    /// Where she sets her password, when that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    invite_url: Option<String>,
    /// Whether she was sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    invite_email_sent: Option<bool>,
}

/// Whether an older client's role is the admins'.
fn is_admin(role: Option<&str>) -> Result<Option<bool>> {
    use agnes_core::access::Role;
    let role = role.map(Role::parse).transpose()?;
    Ok(role.map(|role| role == Role::Admin))
}

/// Add a user, who may see nothing yet
#[utoipa::path(
    post, path = "/api/users", tag = "users", request_body = NewUser,
    responses(
        (status = 201, body = AddedUser), (status = 400, description = "No address"),
        (status = 409, description = "Somebody has this address"),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewUser>,
) -> Answer<Response> {
    let role = is_admin(new.role.as_deref())?;
    let add = move |app: &Inner| -> Result<_> {
        let admin = app.access.admin(&caller.principal)?;
        if new.send_invite {
            // Whom nobody can invite nobody adds.
            page_of(app, LinkPurpose::Setup)?;
        }
        let email = Email::parse(&new.email)?;
        let user = match role {
            Some(true) => admin.add_admin(email, new.name)?,
            _ => admin.add_user(email, new.name)?,
        };
        let invite_url = match new.send_invite {
            true => Some(with_link(app, &user, LinkPurpose::Setup, None)?),
            false => None,
        };
        Ok((user.email, admin.user(&user.id)?, invite_url))
    };
    let (email, user, invite_url) = app.work(add).await?;
    let invite_email_sent = match &invite_url {
        Some(link) => Some(mailed(&app, &email, LinkPurpose::Setup, link).await),
        None => None,
    };
    let added = AddedUser { user: UserJson::of(user), invite_url, invite_email_sent };
    Ok((StatusCode::CREATED, Json(added)).into_response())
}

/// What is to be different.
#[derive(Deserialize, ToSchema)]
pub(super) struct UserChanges {
    /// Null takes it away.
    #[serde(default, deserialize_with = "super::wire::sent")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    active: Option<bool>,
    /// As older clients say it.
    role: Option<String>,
}

/// Change a user
#[utoipa::path(
    patch, path = "/api/users/{id}", tag = "users", params(("id" = String, Path)),
    request_body = UserChanges,
    responses(
        (status = 200, body = UserJson), (status = 404, description = "No such user"),
        (status = 409, description = "Herself, the last admin, or a user whom Google manages"),
    )
)]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(changes): Body<UserChanges>,
) -> Answer<Json<UserJson>> {
    let is_admin = is_admin(changes.role.as_deref())?;
    change(&app, caller, &id, move |admin, id| {
        let UserChanges { name, active, .. } = changes;
        admin.update_user(id, UserUpdate { name, active, is_admin }).map(drop)
    })
    .await
}

/// Let a user in again
#[utoipa::path(
    post, path = "/api/users/{id}/activate", tag = "users", params(("id" = String, Path)),
    responses((status = 200, body = UserJson), (status = 404, description = "No such user"))
)]
pub(super) async fn activate(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<UserJson>> {
    change(&app, caller, &id, |admin, id| admin.set_active(id, true).map(drop)).await
}

/// Let a user in no more
#[utoipa::path(
    post, path = "/api/users/{id}/deactivate", tag = "users", params(("id" = String, Path)),
    responses(
        (status = 200, body = UserJson), (status = 404, description = "No such user"),
        (status = 409, description = "Herself, or the last admin"),
    )
)]
pub(super) async fn deactivate(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<UserJson>> {
    change(&app, caller, &id, |admin, id| admin.set_active(id, false).map(drop)).await
}

/// Remove a user with her memberships and tokens
#[utoipa::path(
    delete, path = "/api/users/{id}", tag = "users", params(("id" = String, Path)),
    responses(
        (status = 204, description = "Done"), (status = 404, description = "No such user"),
        (status = 409, description = "Herself, the last admin, or a user whom Google manages"),
    )
)]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let id = user_id(&id)?;
    app.work(move |app| app.access.admin(&caller.principal)?.remove_user(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A password.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewPassword {
    /// At least 8 characters.
    #[schema(format = Password, min_length = 8)]
    password: String,
}

/// Set a user's password, which ends her sessions
#[utoipa::path(
    post, path = "/api/users/{id}/set-password", tag = "users", params(("id" = String, Path)),
    request_body = NewPassword,
    responses(
        (status = 204, description = "Done"), (status = 400, description = "Too short"),
        (status = 404, description = "No such user"),
        (status = 409, description = "Google manages her"),
    )
)]
pub(super) async fn set_password(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(NewPassword { password }): Body<NewPassword>,
) -> Answer<StatusCode> {
    let id = user_id(&id)?;
    let shared = app.clone();
    let set = app.hashing.run(move || {
        shared.access.admin(&caller.principal)?.set_password(&id, &Secret::new(password))
    });
    set.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A link to set another password.
#[derive(Serialize, ToSchema)]
pub(super) struct Reset {
    reset_url: String,
    /// Whether she was sent it.
    email_sent: bool,
}

/// Make a link with which a user sets another password
#[utoipa::path(
    post, path = "/api/users/{id}/reset-password", tag = "users", params(("id" = String, Path)),
    responses(
        (status = 200, body = Reset), (status = 404, description = "No such user"),
        (status = 409, description = "Google manages her"),
    )
)]
pub(super) async fn reset_password(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Reset>, Failure> {
    let id = user_id(&id)?;
    let made = app.work(move |app| {
        let user = app.access.admin(&caller.principal)?.user(&id)?.user;
        Ok((with_link(app, &user, LinkPurpose::Reset, None)?, user.email))
    });
    let (reset_url, email) = made.await?;
    let email_sent = mailed(&app, &email, LinkPurpose::Reset, &reset_url).await;
    Ok(Json(Reset { reset_url, email_sent }))
}
