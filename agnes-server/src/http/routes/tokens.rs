//! Personal access tokens.

use std::time::Duration;

use agnes_core::access::{NewToken, PersonalToken, Principal, TokenId};
use agnes_core::{Error, Kind, Result};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::http::answer::Personal;
use crate::http::app::{App, Inner};
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Body, Path, Whole};

/// A token to be made.
#[derive(Deserialize, ToSchema)]
pub(super) struct WantedToken {
    /// What its owner calls it.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    /// How many days it holds; null for ever.
    #[serde(default = "ninety", deserialize_with = "given")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 3650, default = 90)]
    expires_in_days: Option<Whole>,
    /// How many seconds it holds, in the place of days.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 315_360_000)]
    ttl_seconds: Option<Whole>,
    /// What it is for; `bootstrap-analyst` ends within an hour.
    #[serde(default = "general")]
    #[schema(default = "general")]
    scope: String,
}

fn ninety() -> Option<Whole> {
    Some(Whole(90))
}

fn general() -> String {
    "general".to_string()
}

/// What is there counts, null as well.
fn given<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Whole>, D::Error> {
    Option::deserialize(d)
}

impl WantedToken {
    fn lifetime(&self) -> Answer<Option<Duration>> {
        let within = |name: &str, value: i64, most: i64| match (1..=most).contains(&value) {
            true => Ok(value.unsigned_abs()),
            false => Err(Failure::unprocessable(
                &["body", name],
                &format!("it takes a number from 1 to {most}"),
            )),
        };
        match (self.ttl_seconds, self.expires_in_days) {
            (Some(Whole(seconds)), _) => {
                let seconds = within("ttl_seconds", seconds, 315_360_000)?;
                Ok(Some(Duration::from_secs(seconds)))
            }
            (None, Some(Whole(days))) => {
                let days = within("expires_in_days", days, 3650)?;
                Ok(Some(Duration::from_secs(days * 24 * 3600)))
            }
            (None, None) => Ok(None),
        }
    }
}

/// A token that was made. It is told once.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeToken {
    id: String,
    name: String,
    /// The first 8 hex digits of its id.
    prefix: String,
    /// The token itself.
    token: String,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
}

/// A token, as it is remembered.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenJson {
    id: String,
    name: String,
    /// The first 8 hex digits of its id.
    prefix: String,
    scope: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
}

impl TokenJson {
    fn of(token: &PersonalToken) -> TokenJson {
        let text = |at: Option<agnes_core::Timestamp>| at.map(|at| at.to_string());
        TokenJson {
            id: token.id.to_string(),
            name: token.name.clone(),
            prefix: token.prefix.clone(),
            scope: token.scope.clone(),
            created_at: token.created_at.to_string(),
            expires_at: text(token.expires_at),
            last_used_at: text(token.last_used_at),
            revoked_at: text(token.revoked_at),
        }
    }
}

/// A token with whose it is.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenOfUser {
    #[serde(flatten)]
    token: TokenJson,
    user_id: String,
    user_email: Option<String>,
    /// The address that it was last used from.
    last_used_ip: Option<String>,
}

/// Make a token for oneself
#[utoipa::path(
    post, path = "/auth/tokens", tag = "tokens", request_body = WantedToken,
    responses((status = 201, body = MadeToken), (status = 422, description = "It can't be like that"))
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<WantedToken>,
) -> Answer<Response> {
    let new = NewToken { lifetime: new.lifetime()?, name: new.name, scope: new.scope };
    let made = app.work(move |app| app.access.create_token(&caller.principal, new)).await;
    let (token, secret) = made.map_err(|error| match error.kind() {
        Kind::Invalid => Failure::unprocessable(&["body", "name"], error.message()),
        _ => error.into(),
    })?;
    let made = MadeToken {
        id: token.id.to_string(),
        name: token.name,
        prefix: token.prefix,
        token: secret.expose().to_string(),
        expires_at: token.expires_at.map(|at| at.to_string()),
        created_at: token.created_at.to_string(),
    };
    Ok((StatusCode::CREATED, Personal(made)).into_response())
}

/// List one's own tokens, the newest first
#[utoipa::path(
    get, path = "/auth/tokens", tag = "tokens", responses((status = 200, body = Vec<TokenJson>))
)]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Answer<Response> {
    let tokens = app.work(move |app| app.access.tokens(&caller.principal)).await?;
    let tokens: Vec<TokenJson> = tokens.iter().map(TokenJson::of).collect();
    Ok(Personal(tokens).into_response())
}

fn id(text: &str) -> Result<TokenId> {
    let none = || Error::new(Kind::NotFound, "there is no such token");
    TokenId::parse(text).map_err(|_| none())
}

fn own(app: &Inner, principal: &Principal, id: &TokenId) -> Result<PersonalToken> {
    let tokens = app.access.tokens(principal)?;
    let found = tokens.into_iter().find(|token| token.id == *id);
    found.ok_or_else(|| Error::new(Kind::NotFound, "there is no such token"))
}

/// Show one of one's own tokens
#[utoipa::path(
    get, path = "/auth/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 200, body = TokenJson), (status = 404, description = "No such token"))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(text): Path<String>,
) -> Answer<Response> {
    let id = id(&text)?;
    let token = app.work(move |app| own(app, &caller.principal, &id)).await?;
    Ok(Personal(TokenJson::of(&token)).into_response())
}

/// Revoke one of one's own tokens
#[utoipa::path(
    delete, path = "/auth/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 204, description = "Done"), (status = 404, description = "No such token"))
)]
pub(super) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Path(text): Path<String>,
) -> Answer<StatusCode> {
    let id = id(&text)?;
    app.work(move |app| app.access.revoke_token(&caller.principal, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List everybody's tokens, the newest first
#[utoipa::path(
    get, path = "/auth/admin/tokens", tag = "tokens",
    responses((status = 200, body = Vec<TokenOfUser>))
)]
pub(super) async fn all(State(app): State<App>, caller: Caller) -> Answer<Json<Vec<TokenOfUser>>> {
    let tokens = app
        .work(move |app| {
            let tokens = app.access.admin(&caller.principal)?.tokens()?;
            let owned = tokens.into_iter().map(|token| TokenOfUser {
                user_email: app.access.user(&token.user).map(|user| user.email.to_string()),
                user_id: token.user.to_string(),
                last_used_ip: token.last_used_ip.clone(),
                token: TokenJson::of(&token),
            });
            Ok(owned.collect())
        })
        .await?;
    Ok(Json(tokens))
}

/// Revoke anybody's token
#[utoipa::path(
    delete, path = "/auth/admin/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 204, description = "Done"), (status = 404, description = "No such token"))
)]
pub(super) async fn revoke_any(
    State(app): State<App>,
    caller: Caller,
    Path(text): Path<String>,
) -> Answer<StatusCode> {
    let id = id(&text)?;
    app.work(move |app| app.access.admin(&caller.principal)?.revoke_token(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
