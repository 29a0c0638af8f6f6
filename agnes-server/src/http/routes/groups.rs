//! Groups and who is in them.

use agnes_core::access::{
    Admin, Email, Group, GroupId, GroupName, GroupOverview, InGroup, Member, User,
};
use agnes_core::{Error, Kind, Result};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::users::user_id;
use super::wire::origin;
use crate::http::app::App;
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Body, Path};

/// A group.
#[derive(Serialize, ToSchema)]
pub(super) struct GroupJson {
    id: String,
    name: String,
    description: Option<String>,
    /// Whether it is one of the two that are always there.
    is_system: bool,
    /// `system`, `google_sync` or `custom`.
    origin: &'static str,
    member_count: usize,
    grant_count: usize,
    #[schema(format = DateTime)]
    created_at: String,
    created_by: Option<String>,
}

impl GroupJson {
    pub(super) fn of(overview: GroupOverview) -> GroupJson {
        let GroupOverview { group, origin: from, members, grants } = overview;
        GroupJson {
            id: group.id.to_string(),
            name: group.name.to_string(),
            description: group.description,
            is_system: group.is_system,
            origin: origin(from),
            member_count: members,
            grant_count: grants,
            created_at: group.created_at.to_string(),
            created_by: group.created_by,
        }
    }

    /// A group as it is now.
    fn now(admin: &Admin<'_>, group: &Group) -> Result<GroupJson> {
        let found = admin.groups().into_iter().find(|of| of.group.id == group.id);
        found.map(GroupJson::of).ok_or_else(none)
    }
}

fn none() -> Error {
    Error::new(Kind::NotFound, "there is no such group")
}

/// A group's id from an address; one that is malformed is none's.
pub(super) fn group_id(text: &str) -> Result<GroupId> {
    GroupId::parse(text).map_err(|_| none())
}

/// List the groups, by name
#[utoipa::path(
    get, path = "/api/admin/groups", tag = "groups", responses((status = 200, body = Vec<GroupJson>))
)]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Answer<Json<Vec<GroupJson>>> {
    let groups = app.work(move |app| Ok(app.access.admin(&caller.principal)?.groups())).await?;
    Ok(Json(groups.into_iter().map(GroupJson::of).collect()))
}

/// Show a group
#[utoipa::path(
    get, path = "/api/admin/groups/{id}", tag = "groups", params(("id" = String, Path)),
    responses((status = 200, body = GroupJson), (status = 404, description = "No such group"))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<GroupJson>> {
    let id = group_id(&id)?;
    let found = app.work(move |app| {
        let admin = app.access.admin(&caller.principal)?;
        GroupJson::now(&admin, &admin.group(&id)?)
    });
    Ok(Json(found.await?))
}

/// A group to be made.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewGroup {
    #[schema(min_length = 1, max_length = 260)]
    name: String,
    description: Option<String>,
}

/// Make a group
#[utoipa::path(
    post, path = "/api/admin/groups", tag = "groups", request_body = NewGroup,
    responses(
        (status = 201, body = GroupJson), (status = 400, description = "It can't be called that"),
        (status = 409, description = "There is one of that name"),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewGroup>,
) -> Answer<Response> {
    let made = app.work(move |app| {
        let admin = app.access.admin(&caller.principal)?;
        let group = admin.add_group(GroupName::parse(&new.name)?, new.description)?;
        GroupJson::now(&admin, &group)
    });
    Ok((StatusCode::CREATED, Json(made.await?)).into_response())
}

/// What is to be different.
#[derive(Deserialize, ToSchema)]
pub(super) struct GroupChanges {
    name: Option<String>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "super::wire::sent")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
}

/// Change a group
#[utoipa::path(
    patch, path = "/api/admin/groups/{id}", tag = "groups", params(("id" = String, Path)),
    request_body = GroupChanges,
    responses(
        (status = 200, body = GroupJson), (status = 400, description = "It can't be called that"),
        (status = 404, description = "No such group"),
        (status = 409, description = "The name is taken, or somebody else manages the group"),
    )
)]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(changes): Body<GroupChanges>,
) -> Answer<Json<GroupJson>> {
    let id = group_id(&id)?;
    let changed = app.work(move |app| {
        let admin = app.access.admin(&caller.principal)?;
        let name = changes.name.as_deref().map(GroupName::parse).transpose()?;
        let group = admin.update_group(&id, name, changes.description)?;
        GroupJson::now(&admin, &group)
    });
    Ok(Json(changed.await?))
}

/// Remove a group with its memberships and grants
#[utoipa::path(
    delete, path = "/api/admin/groups/{id}", tag = "groups", params(("id" = String, Path)),
    responses(
        (status = 204, description = "Done"), (status = 404, description = "No such group"),
        (status = 409, description = "It is always there, or somebody else manages it"),
    )
)]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let id = group_id(&id)?;
    app.work(move |app| app.access.admin(&caller.principal)?.remove_group(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Somebody in a group.
#[derive(Serialize, ToSchema)]
pub(super) struct MemberJson {
    user_id: String,
    email: String,
    name: Option<String>,
    active: bool,
    /// Why she is in it: `admin`, `google_sync`, `system_seed`, `cli_break_glass`.
    source: &'static str,
    #[schema(format = DateTime)]
    added_at: String,
    added_by: Option<String>,
}

impl MemberJson {
    fn of(member: Member) -> MemberJson {
        let Member { email, name, active, membership } = member;
        MemberJson {
            user_id: membership.user.to_string(),
            email: email.to_string(),
            name,
            active,
            source: membership.source.as_str(),
            added_at: membership.added_at.to_string(),
            added_by: membership.added_by,
        }
    }
}

/// List who is in a group, by address
#[utoipa::path(
    get, path = "/api/admin/groups/{id}/members", tag = "groups", params(("id" = String, Path)),
    responses((status = 200, body = Vec<MemberJson>), (status = 404, description = "No such group"))
)]
pub(super) async fn members(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<Vec<MemberJson>>> {
    let id = group_id(&id)?;
    let members = app.work(move |app| app.access.admin(&caller.principal)?.members(&id)).await?;
    Ok(Json(members.into_iter().map(MemberJson::of).collect()))
}

/// Who is to be in it.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewMember {
    #[schema(example = "ada@example.com")]
    email: String,
}

/// Put a user into a group
#[utoipa::path(
    post, path = "/api/admin/groups/{id}/members", tag = "groups", params(("id" = String, Path)),
    request_body = NewMember,
    responses(
        (status = 201, body = MemberJson), (status = 404, description = "No such group, or user"),
        (status = 409, description = "She is in it, or somebody else manages the group"),
    )
)]
pub(super) async fn add_member(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(NewMember { email }): Body<NewMember>,
) -> Answer<Response> {
    let id = group_id(&id)?;
    let added = app.work(move |app| {
        let admin = app.access.admin(&caller.principal)?;
        let user = admin.user_by_email(&Email::parse(&email)?)?.user;
        let membership = admin.add_new_member(&id, &user.id)?;
        let User { email, name, active, .. } = user;
        Ok(Member { email, name, active, membership })
    });
    Ok((StatusCode::CREATED, Json(MemberJson::of(added.await?))).into_response())
}

/// Take a user out of a group
#[utoipa::path(
    delete, path = "/api/admin/groups/{id}/members/{user}", tag = "groups",
    params(("id" = String, Path), ("user" = String, Path, description = "Her id")),
    responses(
        (status = 204, description = "Done"), (status = 404, description = "She isn't in it"),
        (status = 409, description = "The last admin, or somebody else manages the group"),
    )
)]
pub(super) async fn remove_member(
    State(app): State<App>,
    caller: Caller,
    Path((id, user)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let (id, user) = (group_id(&id)?, user_id(&user)?);
    app.work(move |app| app.access.admin(&caller.principal)?.remove_member(&id, &user)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A group that a user is in, and why.
#[derive(Serialize, ToSchema)]
pub(super) struct MembershipJson {
    group_id: String,
    group_name: String,
    is_system: bool,
    /// `system`, `google_sync` or `custom`.
    origin: &'static str,
    /// Why: `admin`, `google_sync`, `system_seed`, `cli_break_glass`.
    source: &'static str,
}

impl MembershipJson {
    fn of(InGroup { group, origin: from, source }: InGroup) -> MembershipJson {
        MembershipJson {
            group_id: group.id.to_string(),
            group_name: group.name.to_string(),
            is_system: group.is_system,
            origin: origin(from),
            source: source.as_str(),
        }
    }
}

/// List the groups that a user is in
#[utoipa::path(
    get, path = "/api/admin/users/{id}/memberships", tag = "groups", params(("id" = String, Path)),
    responses(
        (status = 200, body = Vec<MembershipJson>), (status = 404, description = "No such user")
    )
)]
pub(super) async fn of_user(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<Vec<MembershipJson>>> {
    let id = user_id(&id)?;
    let user = app.work(move |app| app.access.admin(&caller.principal)?.user(&id)).await?;
    Ok(Json(user.groups.into_iter().map(MembershipJson::of).collect()))
}

/// The group that she is to be in.
#[derive(Deserialize, ToSchema)]
pub(super) struct JoinedGroup {
    group_id: String,
}

/// Put a user into a group, named by its id
#[utoipa::path(
    post, path = "/api/admin/users/{id}/memberships", tag = "groups", params(("id" = String, Path)),
    request_body = JoinedGroup,
    responses(
        (status = 201, body = MembershipJson), (status = 404, description = "No such group, or user"),
        (status = 409, description = "She is in it, or somebody else manages the group"),
    )
)]
pub(super) async fn join(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(into): Body<JoinedGroup>,
) -> Result<Response, Failure> {
    let (id, group) = (user_id(&id)?, group_id(&into.group_id)?);
    let joined = app.work(move |app| {
        let admin = app.access.admin(&caller.principal)?;
        let source = admin.add_new_member(&group, &id)?.source;
        let group = admin.group(&group)?;
        Ok(InGroup { origin: group.origin(), group, source })
    });
    Ok((StatusCode::CREATED, Json(MembershipJson::of(joined.await?))).into_response())
}

/// Take a user out of a group, named by its id
#[utoipa::path(
    delete, path = "/api/admin/users/{id}/memberships/{group}", tag = "groups",
    params(("id" = String, Path), ("group" = String, Path, description = "Its id")),
    responses(
        (status = 204, description = "Done"), (status = 404, description = "She isn't in it"),
        (status = 409, description = "The last admin, or somebody else manages the group"),
    )
)]
pub(super) async fn leave(
    State(app): State<App>,
    caller: Caller,
    Path((id, group)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let (id, group) = (user_id(&id)?, group_id(&group)?);
    app.work(move |app| app.access.admin(&caller.principal)?.remove_member(&group, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
