//! Signing in and out: what all ways to do it share. Each way is a file.

mod email;
mod link;
mod login;
mod password;

use agnes_core::access::{Email, Overview, SESSION_LIFETIME, UserId};
use agnes_core::{Error, Kind, Result, Secret};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum_extra::extract::cookie::{Cookie, SameSite};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

pub(super) use link::{mailed, page_of, with_link};

use super::wire::UserJson;
use crate::http::answer::Personal;
use crate::http::app::{App, Inner};
use crate::http::door::{COOKIE, Caller, Doors, From, Guard};
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Body, is_form};
use crate::http::limits::Attempt;
use crate::http::page::{moved, safe};
use crate::http::settings::Provider;

/// The routes on which people sign in and out, those of the ways that this server has.
pub(super) fn doors(doors: Doors, app: &App) -> Doors {
    use Guard::{Public, User};
    let doors = doors
        .route(Public, routes!(login::page))
        .route(Public, routes!(login::root))
        .route(User, routes!(login::home))
        .route(Public, routes!(bootstrap))
        .route(Public, routes!(logout))
        .route(User, routes!(me));
    app.settings.providers.iter().fold(doors, |doors, provider| match provider {
        Provider::Password => password::doors(doors),
        Provider::Email => email::doors(doors),
    })
}

/// A session.
#[derive(Serialize, ToSchema)]
pub(super) struct Token {
    /// What `Authorization: Bearer` takes.
    access_token: String,
    /// `bearer`.
    token_type: &'static str,
    user_id: String,
    email: String,
    /// `admin` or `user`.
    role: &'static str,
}

/// A session for somebody who has just shown who she is.
fn session(app: &Inner, id: &UserId) -> Result<Token> {
    let token = app.access.session_token(id, serde_json::Map::new())?;
    let Overview { user, role, .. } = app
        .access
        .overview(id)
        .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no user `{id}`")))?;
    Ok(Token {
        access_token: token.expose().to_string(),
        token_type: "bearer",
        user_id: user.id.to_string(),
        email: user.email.to_string(),
        role,
    })
}

/// The cookie of a session; without a token one that takes it away.
pub(super) fn cookie(app: &Inner, token: Option<&str>) -> Option<HeaderValue> {
    let lifetime = if token.is_some() { SESSION_LIFETIME.as_secs() } else { 0 };
    let cookie = Cookie::build((COOKIE, token.unwrap_or_default().to_string()))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(app.settings.secure_cookies)
        .max_age(time::Duration::seconds(i64::try_from(lifetime).unwrap_or(0)));
    HeaderValue::from_str(&cookie.build().to_string()).ok()
}

/// The token as a body, and as a cookie where a browser asks.
fn signed_in(app: &Inner, token: Token, with_cookie: bool) -> Response {
    let cookie = with_cookie.then(|| cookie(app, Some(&token.access_token))).flatten();
    let mut response = Json(token).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(cookie) = cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    response
}

/// A browser that has signed in, on its way to where it wanted to go.
fn sent_home(app: &Inner, token: &Token, next: Option<&str>) -> Response {
    let to = next.and_then(safe).unwrap_or_else(|| login::home_route(app));
    let mut response = moved(&to);
    if let Some(cookie) = cookie(app, Some(&token.access_token)) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// The first admin.
#[derive(Deserialize, ToSchema)]
pub(super) struct FirstAdmin {
    /// Her address.
    #[schema(example = "ada@example.com")]
    email: String,
    /// What she is called.
    name: Option<String>,
    /// At least 8 characters; without one she signs in another way.
    #[schema(format = Password, min_length = 8)]
    password: Option<String>,
}

/// Make the first admin
///
/// It is over as soon as there is an active admin, whatever she signs in with.
#[utoipa::path(
    post, path = "/auth/bootstrap", tag = "auth", request_body = FirstAdmin,
    responses(
        (status = 200, body = Token),
        (status = 400, description = "No address, or too short a password"),
        (status = 403, description = "There is an admin already"),
    )
)]
pub(super) async fn bootstrap(
    State(app): State<App>,
    From(from): From,
    Body(first): Body<FirstAdmin>,
) -> Answer<Response> {
    app.limits.count(Attempt::Bootstrap, from)?;
    let shared = app.clone();
    let token = app.hashing.run(move || {
        let FirstAdmin { email, name, password } = first;
        let password = password.map(Secret::new);
        let access = &shared.access;
        let email = Email::parse(&email)?;
        let user = access.bootstrap(&email, name.as_deref(), password.as_ref())?;
        session(&shared, &user.id)
    });
    Ok(signed_in(&app, token.await?, true))
}

/// Say who the caller is
#[utoipa::path(get, path = "/auth/me", tag = "auth", responses((status = 200, body = UserJson)))]
pub(super) async fn me(State(app): State<App>, caller: Caller) -> Answer<Response> {
    let overview = app.access.overview(&caller.user.id);
    let overview = overview.ok_or_else(|| Failure::unauthenticated("the user is gone"))?;
    Ok(Personal(UserJson::of(overview)).into_response())
}

/// Sign out of this browser
///
/// A token that somebody has copied goes on; a new password ends all of a user's.
#[utoipa::path(
    post, path = "/auth/logout", tag = "auth",
    responses(
        (status = 204, description = "Done"),
        (status = 302, description = "Done; a browser's form goes on to the page to sign in"),
    )
)]
pub(super) async fn logout(State(app): State<App>, headers: HeaderMap) -> Response {
    let mut response = match is_form(&headers) {
        true => moved(&app.at("/login")),
        false => StatusCode::NO_CONTENT.into_response(),
    };
    if let Some(cookie) = cookie(&app, None) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
