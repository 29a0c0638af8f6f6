//! What several resources show of people and groups.

use agnes_core::access::{InGroup, Origin, Overview};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A choice in the word that it is on the wire.
pub(super) fn word(choice: &impl Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserJson {
    pub(super) id: String,
    pub(super) email: String,
    name: Option<String>,
    /// `admin` or `user`, for older clients.
    role: &'static str,
    is_admin: bool,
    /// Whether Google Workspace manages her.
    is_sso_user: bool,
    groups: Vec<GroupOfUser>,
    /// Whether she may sign in.
    active: bool,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    deactivated_at: Option<String>,
}

/// A group that a user is in.
#[derive(Debug, Serialize, ToSchema)]
struct GroupOfUser {
    id: String,
    name: String,
    /// Whether it is one of the two that are always there.
    is_system: bool,
    /// `system`, `google_sync` or `custom`.
    origin: &'static str,
}

/// Where a group comes from, in a word.
pub(super) fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::System => "system",
        Origin::GoogleSync => "google_sync",
        Origin::Custom => "custom",
    }
}

impl UserJson {
    pub(super) fn of(overview: Overview) -> UserJson {
        let Overview { user, is_admin, role, is_sso_user, groups } = overview;
        let group = |InGroup { group, origin: from, .. }: InGroup| GroupOfUser {
            id: group.id.to_string(),
            name: group.name.to_string(),
            is_system: group.is_system,
            origin: origin(from),
        };
        UserJson {
            id: user.id.to_string(),
            email: user.email.to_string(),
            name: user.name,
            role,
            is_admin,
            is_sso_user,
            groups: groups.into_iter().map(group).collect(),
            active: user.active,
            created_at: user.created_at.to_string(),
            deactivated_at: user.deactivated_at.map(|at| at.to_string()),
        }
    }
}

/// Tells what wasn't sent from what was sent as null.
pub(super) fn sent<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    d: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(d).map(Some)
}
