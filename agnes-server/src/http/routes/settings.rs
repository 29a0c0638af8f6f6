//! What users want on their machines, of what they may see.

use std::collections::BTreeMap;

use agnes_core::subscription::{Mode, Subscriptions};
use agnes_core::{Kind, Result};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::wire::word;
use crate::http::answer::Personal;
use crate::http::app::{App, Inner};
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::Body;

/// A choice about a table.
#[derive(Serialize, ToSchema)]
pub(super) struct Choice {
    user_id: String,
    /// The table's id.
    dataset: String,
    /// Whether she wants it.
    enabled: bool,
    /// `all` or `explicit`.
    table_mode: String,
    /// Always null; older clients know it.
    #[schema(value_type = Option<Vec<String>>)]
    tables: Option<()>,
    #[schema(format = DateTime)]
    updated_at: String,
}

fn choices(user: &str, wanted: &Subscriptions) -> Vec<Choice> {
    let choice = |chosen: &agnes_core::subscription::Subscription| Choice {
        user_id: user.to_string(),
        dataset: chosen.table.to_string(),
        enabled: chosen.enabled,
        table_mode: word(&wanted.mode),
        tables: None,
        updated_at: chosen.updated_at.to_string(),
    };
    wanted.chosen.iter().map(choice).collect()
}

async fn wanted(app: &App, caller: Caller) -> Answer<(String, Subscriptions)> {
    let id = caller.user.id.to_string();
    let wanted = app.work(move |app| app.agnes.subscriptions(&caller.principal)).await?;
    Ok((id, wanted))
}

/// What a user wants.
#[derive(Serialize, ToSchema)]
pub(super) struct SyncSettings {
    user_id: String,
    settings: Vec<Choice>,
    /// The ids of the tables that she wants by name.
    enabled_datasets: Vec<String>,
}

/// Show what the caller wants on her machine
///
/// Of the tables that she may see now.
#[utoipa::path(
    get, path = "/api/sync/settings", tag = "sync", responses((status = 200, body = SyncSettings))
)]
pub(super) async fn get(State(app): State<App>, caller: Caller) -> Answer<Personal<SyncSettings>> {
    let (user_id, wanted) = wanted(&app, caller).await?;
    let enabled = wanted.chosen.iter().filter(|chosen| chosen.enabled);
    let enabled_datasets = enabled.map(|chosen| chosen.table.to_string()).collect();
    let settings = choices(&user_id, &wanted);
    Ok(Personal(SyncSettings { user_id, settings, enabled_datasets }))
}

/// What is to be different.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewSyncSettings {
    /// Whether she wants each, by id or name.
    datasets: BTreeMap<String, bool>,
}

/// What came of each choice.
#[derive(Serialize, ToSchema)]
pub(super) struct UpdatedSettings {
    updated: BTreeMap<String, Outcome>,
}

/// What came of a choice.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Outcome {
    /// It is kept.
    Kept {
        /// Whether she wants it.
        enabled: bool,
    },
    /// It isn't.
    Refused {
        /// `no permission`.
        error: &'static str,
    },
}

fn subscribe(
    app: &Inner,
    caller: &Caller,
    mode: Option<Mode>,
    chosen: &BTreeMap<String, bool>,
) -> Result<BTreeMap<String, bool>> {
    let pairs: Vec<(&str, bool)> = chosen.iter().map(|(name, on)| (name.as_str(), *on)).collect();
    let done = app.agnes.subscribe(&caller.principal, mode, &pairs)?;
    let names = chosen.keys().cloned();
    Ok(names.zip(done).map(|(name, done)| (name, done.is_ok())).collect())
}

/// Say which tables the caller wants
#[utoipa::path(
    post, path = "/api/sync/settings", tag = "sync", request_body = NewSyncSettings,
    responses(
        (status = 200, body = UpdatedSettings),
        (status = 422, description = "The request can't be understood"),
    )
)]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Body(NewSyncSettings { datasets }): Body<NewSyncSettings>,
) -> Answer<Personal<UpdatedSettings>> {
    let updated = app.work(move |app| {
        let kept = subscribe(app, &caller, None, &datasets)?;
        let outcome = |(name, is_kept): (String, bool)| {
            let enabled = datasets.get(&name).copied().unwrap_or_default();
            let outcome = match is_kept {
                true => Outcome::Kept { enabled },
                false => Outcome::Refused { error: "no permission" },
            };
            (name, outcome)
        };
        Ok(kept.into_iter().map(outcome).collect())
    });
    Ok(Personal(UpdatedSettings { updated: updated.await? }))
}

/// What a user wants, table by table.
#[derive(Serialize, ToSchema)]
pub(super) struct TableSubscriptions {
    user_id: String,
    /// What of the tables without a choice: `all` of them, or none (`explicit`).
    table_mode: String,
    subscriptions: Vec<Choice>,
}

/// Show what the caller wants, table by table
#[utoipa::path(
    get, path = "/api/sync/table-subscriptions", tag = "sync",
    responses((status = 200, body = TableSubscriptions))
)]
pub(super) async fn subscriptions(
    State(app): State<App>,
    caller: Caller,
) -> Answer<Personal<TableSubscriptions>> {
    let (user_id, wanted) = wanted(&app, caller).await?;
    let subscriptions = choices(&user_id, &wanted);
    Ok(Personal(TableSubscriptions { user_id, table_mode: word(&wanted.mode), subscriptions }))
}

/// What is to be different.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewSubscriptions {
    /// What of the tables without a choice: `all` of them, or none (`explicit`).
    #[serde(default)]
    #[schema(value_type = String, pattern = "^(all|explicit)$", default = "all")]
    table_mode: Mode,
    /// Whether she wants each, by id or name.
    #[serde(default)]
    tables: BTreeMap<String, bool>,
}

/// What came of it.
#[derive(Serialize, ToSchema)]
pub(super) struct UpdatedSubscriptions {
    table_mode: String,
    /// How many choices were kept.
    updated: usize,
    /// Tables that she may not see, or that aren't there.
    refused: Vec<String>,
}

/// Say which tables the caller wants, and what of all others
#[utoipa::path(
    post, path = "/api/sync/table-subscriptions", tag = "sync", request_body = NewSubscriptions,
    responses(
        (status = 200, body = UpdatedSubscriptions),
        (status = 422, description = "The request can't be understood"),
    )
)]
pub(super) async fn subscribe_to(
    State(app): State<App>,
    caller: Caller,
    Body(NewSubscriptions { table_mode, tables }): Body<NewSubscriptions>,
) -> Answer<Personal<UpdatedSubscriptions>> {
    let done = app.work(move |app| subscribe(app, &caller, Some(table_mode), &tables)).await?;
    let updated = done.values().filter(|is_kept| **is_kept).count();
    let refused = done.into_iter().filter(|(_, is_kept)| !is_kept).map(|(name, _)| name).collect();
    Ok(Personal(UpdatedSubscriptions { table_mode: word(&table_mode), updated, refused }))
}

/// A user's settings.
#[derive(Serialize, ToSchema)]
pub(super) struct Settings {
    user_id: String,
    sync_settings: Vec<Choice>,
    /// Her personal permissions, of older installations.
    permissions: Vec<Permitted>,
}

#[derive(Serialize, ToSchema)]
struct Permitted {
    dataset: String,
    /// `read` or `none`.
    access: String,
}

/// Show the caller's settings
#[utoipa::path(
    get, path = "/api/settings", tag = "sync", responses((status = 200, body = Settings))
)]
pub(super) async fn all(State(app): State<App>, caller: Caller) -> Answer<Personal<Settings>> {
    let permissions = app.access.permissions_of(&caller.user.id).into_iter();
    let permissions =
        permissions.map(|p| Permitted { dataset: p.dataset, access: p.access }).collect();
    let (user_id, wanted) = wanted(&app, caller).await?;
    let sync_settings = choices(&user_id, &wanted);
    Ok(Personal(Settings { user_id, sync_settings, permissions }))
}

/// Whether a user wants a table.
#[derive(Deserialize, Serialize, ToSchema)]
pub(super) struct OneChoice {
    /// The table, by id or name.
    dataset: String,
    enabled: bool,
}

/// Say whether the caller wants a table
#[utoipa::path(
    put, path = "/api/settings/dataset", tag = "sync", request_body = OneChoice,
    responses((status = 200, body = OneChoice))
)]
pub(super) async fn put(
    State(app): State<App>,
    caller: Caller,
    Body(choice): Body<OneChoice>,
) -> Answer<Personal<OneChoice>> {
    let done = app.work(move |app| {
        let pair = [(choice.dataset.as_str(), choice.enabled)];
        let mut done = app.agnes.subscribe(&caller.principal, None, &pair)?;
        Ok((done.pop(), choice))
    });
    match done.await? {
        (Some(Err(error)), _) if matches!(error.kind(), Kind::Denied | Kind::Invalid) => {
            let none = "there is no such table that you may see";
            Err(Failure::new(StatusCode::FORBIDDEN, none))
        }
        (Some(Err(error)), _) => Err(error.into()),
        (_, choice) => Ok(Personal(choice)),
    }
}
