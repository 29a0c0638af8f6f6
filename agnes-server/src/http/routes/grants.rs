//! What groups may see.

use agnes_core::access::{
    Block, EffectiveAccess, GrantId, GrantOverview, Principal, Resource, ResourceKind, ResourceType,
};
use agnes_core::{Error, Kind, Result};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::groups::{GroupJson, group_id};
use super::users::user_id;
use crate::http::answer::Personal;
use crate::http::app::{App, Inner};
use crate::http::door::Caller;
use crate::http::error::Answer;
use crate::http::extract::{Body, Path, Query};

/// That a group may see something.
#[derive(Serialize, ToSchema)]
pub(super) struct GrantJson {
    id: String,
    group_id: String,
    group_name: String,
    /// `table`, or another type of resource.
    resource_type: String,
    /// The id of a registered table, or of whatever it is.
    resource_id: String,
    #[schema(format = DateTime)]
    assigned_at: String,
    assigned_by: Option<String>,
}

impl GrantJson {
    fn of(overview: GrantOverview) -> GrantJson {
        let GrantOverview { grant, group_name } = overview;
        GrantJson {
            id: grant.id.to_string(),
            group_id: grant.group.to_string(),
            group_name: group_name.to_string(),
            resource_type: grant.resource.kind().to_string(),
            resource_id: grant.resource.id().to_string(),
            assigned_at: grant.assigned_at.to_string(),
            assigned_by: grant.assigned_by,
        }
    }
}

/// Which grants.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Of {
    /// Those of this type of resource.
    resource_type: Option<String>,
    /// Those of this group.
    group_id: Option<String>,
}

/// List the grants, by resource
#[utoipa::path(
    get, path = "/api/admin/grants", tag = "grants", params(Of),
    responses((status = 200, body = Vec<GrantJson>))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(of): Query<Of>,
) -> Answer<Json<Vec<GrantJson>>> {
    let grants = app.work(move |app| Ok(app.access.admin(&caller.principal)?.grants())).await?;
    let grants = grants.into_iter().map(GrantJson::of).filter(|grant| {
        of.resource_type.as_ref().is_none_or(|kind| *kind == grant.resource_type)
            && of.group_id.as_ref().is_none_or(|id| *id == grant.group_id)
    });
    Ok(Json(grants.collect()))
}

/// A grant to be made.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewGrant {
    group_id: String,
    #[schema(example = "table")]
    resource_type: String,
    /// The id of a registered table, or of whatever it is.
    #[schema(example = "orders")]
    resource_id: String,
}

/// Let a group see something
#[utoipa::path(
    post, path = "/api/admin/grants", tag = "grants", request_body = NewGrant,
    responses(
        (status = 201, body = GrantJson), (status = 400, description = "There is no such type"),
        (status = 404, description = "No such group, or no such thing"),
        (status = 409, description = "It may see it"),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewGrant>,
) -> Answer<Response> {
    let made = app.work(move |app| {
        let admin = app.access.admin(&caller.principal)?;
        let group = group_id(&new.group_id)?;
        let resource = Resource::new(ResourceType::parse(&new.resource_type)?, &new.resource_id)?;
        let grant = admin.grant(&group, resource)?;
        let group_name = admin.group(&group)?.name;
        Ok(GrantJson::of(GrantOverview { grant, group_name }))
    });
    Ok((StatusCode::CREATED, Json(made.await?)).into_response())
}

/// Take a grant back
///
/// It holds no more once this returns, also for what runs.
#[utoipa::path(
    delete, path = "/api/admin/grants/{id}", tag = "grants", params(("id" = String, Path)),
    responses((status = 204, description = "Done"), (status = 404, description = "No such grant"))
)]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let none = || Error::new(Kind::NotFound, "there is no such grant");
    let id = GrantId::parse(&id).map_err(|_| none())?;
    app.work(move |app| app.access.admin(&caller.principal)?.revoke(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A type of resource that can be granted.
#[derive(Serialize, ToSchema)]
pub(super) struct TypeJson {
    key: String,
    display_name: String,
    description: String,
    /// How its ids look.
    id_format: String,
}

/// Tables, and what an embedding program adds.
fn types(app: &Inner) -> Vec<TypeJson> {
    let table = TypeJson {
        key: "table".into(),
        display_name: "Table".into(),
        description: "A registered table: query it, download it, see what is known of it".into(),
        id_format: "<table id>".into(),
    };
    let other = |kind: &std::sync::Arc<dyn ResourceKind>| TypeJson {
        key: kind.key().to_string(),
        display_name: kind.display_name().into(),
        description: kind.description().into(),
        id_format: kind.id_format().into(),
    };
    std::iter::once(table).chain(app.access.resource_kinds().iter().map(other)).collect()
}

/// List the types of resources that can be granted
#[utoipa::path(
    get, path = "/api/admin/resource-types", tag = "grants",
    responses((status = 200, body = Vec<TypeJson>))
)]
pub(super) async fn resource_types(State(app): State<App>) -> Json<Vec<TypeJson>> {
    Json(types(&app))
}

/// Everything that decides about access.
#[derive(Serialize, ToSchema)]
pub(super) struct AccessOverview {
    groups: Vec<GroupJson>,
    grants: Vec<GrantJson>,
    /// What can be granted.
    resources: Vec<Grantable>,
}

/// What of one type can be granted.
#[derive(Serialize, ToSchema)]
struct Grantable {
    type_key: String,
    type_display: String,
    /// Tables come in a block for each bucket.
    #[schema(value_type = Vec<Object>)]
    blocks: Vec<Block>,
}

/// Show groups, grants and what can be granted
#[utoipa::path(
    get, path = "/api/admin/access-overview", tag = "grants", responses((status = 200, body = AccessOverview))
)]
pub(super) async fn overview(
    State(app): State<App>,
    caller: Caller,
) -> Answer<Json<AccessOverview>> {
    let overview = app.work(move |app| {
        let admin = app.access.admin(&caller.principal)?;
        let mut resources = vec![Grantable {
            type_key: "table".into(),
            type_display: "Table".into(),
            blocks: admin.table_blocks(),
        }];
        for kind in app.access.resource_kinds() {
            resources.push(Grantable {
                type_key: kind.key().to_string(),
                type_display: kind.display_name().to_string(),
                blocks: kind.blocks()?,
            });
        }
        Ok(AccessOverview {
            groups: admin.groups().into_iter().map(GroupJson::of).collect(),
            grants: admin.grants().into_iter().map(GrantJson::of).collect(),
            resources,
        })
    });
    Ok(Json(overview.await?))
}

/// What somebody may see.
#[derive(Serialize, ToSchema)]
pub(super) struct Effective {
    /// Whether she may see everything; `items` is empty then.
    is_admin: bool,
    items: Vec<EffectiveJson>,
}

#[derive(Serialize, ToSchema)]
struct EffectiveJson {
    resource_type: String,
    resource_id: String,
    via_groups: Vec<Via>,
}

#[derive(Serialize, ToSchema)]
struct Via {
    group_id: String,
    group_name: String,
}

impl Effective {
    fn of(access: EffectiveAccess) -> Effective {
        let items = access.items.into_iter().map(|item| EffectiveJson {
            resource_type: item.resource.kind().to_string(),
            resource_id: item.resource.id().to_string(),
            via_groups: item
                .via_groups
                .into_iter()
                .map(|via| Via { group_id: via.id.to_string(), group_name: via.name.to_string() })
                .collect(),
        });
        Effective { is_admin: access.is_admin, items: items.collect() }
    }
}

/// Say what the caller may see, and through which groups
#[utoipa::path(
    get, path = "/api/me/effective-access", tag = "grants", responses((status = 200, body = Effective))
)]
pub(super) async fn mine(State(app): State<App>, caller: Caller) -> Answer<Response> {
    let access = app.access.effective_access(&caller.principal);
    Ok(Personal(Effective::of(access)).into_response())
}

/// Say what a user may see, and through which groups
#[utoipa::path(
    get, path = "/api/admin/users/{id}/effective-access", tag = "grants",
    params(("id" = String, Path)),
    responses((status = 200, body = Effective), (status = 404, description = "No such user"))
)]
pub(super) async fn of_user(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<Effective>> {
    let id = user_id(&id)?;
    let access = app.work(move |app| -> Result<EffectiveAccess> {
        app.access.admin(&caller.principal)?.user(&id)?;
        Ok(app.access.effective_access(&Principal::user(id)))
    });
    Ok(Json(Effective::of(access.await?)))
}
