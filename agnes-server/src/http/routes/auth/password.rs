//! Signing in with a password, and the links with which people set one.

use agnes_core::access::{Email, LinkPurpose, User, invalid_link};
use agnes_core::{Error, Kind, Secret};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use maud::html;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::link::{self, Wanted};
use super::{Token, login, sent_home, session, signed_in};
use crate::http::app::{App, Inner};
use crate::http::door::{Doors, From, Guard};
use crate::http::error::{Answer, Failure};
use crate::http::extract::{Body, Form, Query};
use crate::http::limits::Attempt;
use crate::http::page::{self, Says, moved, page};

pub(super) fn doors(doors: Doors) -> Doors {
    doors
        .route(Guard::Public, routes!(token))
        .route(Guard::Public, routes!(login_json))
        .route(Guard::Public, routes!(login_web))
        .route(Guard::Public, routes!(setup_page, setup))
        .route(Guard::Public, routes!(setup_request))
        .route(Guard::Public, routes!(setup_confirm))
        .route(Guard::Public, routes!(reset_page, reset))
        .route(Guard::Public, routes!(reset_confirm))
}

/// An address and a password.
#[derive(Deserialize, ToSchema)]
pub(super) struct Credentials {
    /// Her address.
    #[schema(example = "ada@example.com")]
    email: String,
    /// Her password.
    #[schema(format = Password)]
    password: String,
}

/// Whoever can't sign in hears the same, whatever the reason.
fn wrong(error: Error) -> Failure {
    match error.kind() {
        Kind::Denied => Failure::unauthenticated("Invalid email or password"),
        _ => error.into(),
    }
}

/// Checks a password on the few threads that may hash.
async fn checked(app: &App, credentials: Credentials) -> Answer<User> {
    let shared = app.clone();
    let checked = app.hashing.run(move || {
        let wrong = || Error::new(Kind::Denied, "no address");
        let email = Email::parse(&credentials.email).map_err(|_| wrong())?;
        shared.access.sign_in(&email, &Secret::new(credentials.password))
    });
    checked.await.map_err(wrong)
}

/// Get a token with a password
#[utoipa::path(
    post, path = "/auth/token", tag = "auth", request_body = Credentials,
    responses((status = 200, body = Token), (status = 401, description = "Wrong address or password"))
)]
pub(super) async fn token(
    State(app): State<App>,
    From(from): From,
    Body(credentials): Body<Credentials>,
) -> Answer<Response> {
    app.limits.count(Attempt::Token, from)?;
    let user = checked(&app, credentials).await?;
    let token = app.work(move |app| session(app, &user.id)).await?;
    Ok(signed_in(&app, token, false))
}

/// Sign in with a password; the session comes as a cookie, too
#[utoipa::path(
    post, path = "/auth/password/login", tag = "auth", request_body = Credentials,
    responses((status = 200, body = Token), (status = 401, description = "Wrong address or password"))
)]
pub(super) async fn login_json(
    State(app): State<App>,
    From(from): From,
    Body(credentials): Body<Credentials>,
) -> Answer<Response> {
    app.limits.count(Attempt::Password, from)?;
    let user = checked(&app, credentials).await?;
    let token = app.work(move |app| session(app, &user.id)).await?;
    Ok(signed_in(&app, token, true))
}

/// What the form to sign in holds.
#[derive(Deserialize, ToSchema)]
pub(super) struct LoginForm {
    #[serde(flatten)]
    credentials: Credentials,
    /// Where to go then: a path on this server.
    next: Option<String>,
}

/// Sign in with a browser's form
#[utoipa::path(
    post, path = "/auth/password/login/web", tag = "auth",
    request_body(content = LoginForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 302, description = "Where she wanted to go, or back to the form"))
)]
pub(super) async fn login_web(
    State(app): State<App>,
    From(from): From,
    Form(LoginForm { credentials, next }): Form<LoginForm>,
) -> Answer<Response> {
    app.limits.count(Attempt::Password, from)?;
    let next = next.as_deref().and_then(page::safe);
    let user = match checked(&app, credentials).await {
        Err(failure) if failure.is(StatusCode::UNAUTHORIZED) => {
            return Ok(moved(&page::login(&app, Says::Error("invalid"), next.as_deref())));
        }
        checked => checked?,
    };
    app.work(move |app| Ok(sent_home(app, &session(app, &user.id)?, next.as_deref())))
        .await
        .map_err(Failure::from)
}

/// A password, and the link with which somebody may set it.
#[derive(Deserialize, ToSchema)]
pub(super) struct PasswordByLink {
    #[schema(example = "ada@example.com")]
    email: String,
    /// Of the link.
    token: String,
    /// At least 8 characters.
    #[schema(format = Password, min_length = 8)]
    password: String,
}

/// Sets a password with a link for that.
async fn set(app: &App, new: PasswordByLink, purpose: LinkPurpose) -> Answer<User> {
    let shared = app.clone();
    let set = app.hashing.run(move || {
        let email = Email::parse(&new.email).map_err(|_| invalid_link())?;
        let (token, password) = (Secret::new(new.token), Secret::new(new.password));
        shared.access.set_password_by_link(&email, &token, purpose, &password)
    });
    set.await.map_err(link::refused)
}

/// Set a first password with the link of an invitation
#[utoipa::path(
    post, path = "/auth/password/setup", tag = "auth", request_body = PasswordByLink,
    responses(
        (status = 200, body = Token), (status = 400, description = "Too short a password"),
        (status = 401, description = "The link is invalid or has expired"),
    )
)]
pub(super) async fn setup(
    State(app): State<App>,
    From(from): From,
    Body(new): Body<PasswordByLink>,
) -> Answer<Response> {
    app.limits.count(Attempt::Link, from)?;
    let user = set(&app, new, LinkPurpose::Setup).await?;
    let token = app.work(move |app| session(app, &user.id)).await?;
    Ok(signed_in(&app, token, true))
}

/// What the address of a link holds.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Followed {
    email: Option<String>,
    token: Option<String>,
}

/// The form to set a password with a link, or to ask for one.
fn form(app: &Inner, followed: Followed, title: &str, confirm: &str, request: &str) -> Response {
    let (confirm, request) = (app.at(confirm), app.at(request));
    let body = match followed {
        Followed { email: Some(email), token: Some(token) } => html! {
            form method="post" action=(confirm) {
                input type="hidden" name="email" value=(email);
                input type="hidden" name="token" value=(token);
                p { "For " b { (email) } }
                label for="password" { "New password, at least 8 characters" }
                input #password name="password" type="password" minlength="8" required
                    autocomplete="new-password" autofocus;
                button { "Set the password" }
            }
        },
        // Nobody waits for a letter that never comes.
        Followed { token: None, .. } if !app.mails() => html! {
            p.told { "This server sends no mail: ask an admin for a link." }
        },
        Followed { email, .. } => html! {
            form method="post" action=(request) {
                label for="email" { "Your e-mail address" }
                input #email name="email" type="email" required autocomplete="username"
                    value=[email] autofocus;
                button { "Send me a link" }
            }
        },
    };
    page(StatusCode::OK, title, &body)
}

/// Show the form to set a first password
///
/// It takes nothing: whoever opens a link for somebody else, as scanners of mail do, leaves it good.
#[utoipa::path(
    get, path = "/auth/password/setup", tag = "auth", params(Followed),
    responses((status = 200, description = "A page", content_type = "text/html", body = String))
)]
pub(super) async fn setup_page(
    State(app): State<App>,
    Query(followed): Query<Followed>,
) -> Response {
    let (confirm, request) = ("/auth/password/setup/confirm", "/auth/password/setup/request");
    form(&app, followed, "Set your password", confirm, request)
}

/// Ask for another link to set a first password
///
/// The page is the same for an address that nobody has.
#[utoipa::path(
    post, path = "/auth/password/setup/request", tag = "auth",
    request_body(content = Wanted, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "A page", content_type = "text/html", body = String))
)]
pub(super) async fn setup_request(
    State(app): State<App>,
    from: From,
    Form(wanted): Form<Wanted>,
) -> Answer<Response> {
    let dev_link = link::ask(&app, from, wanted, LinkPurpose::Setup).await?;
    Ok(login::on_its_way(&app, dev_link.as_deref()))
}

/// Set a first password with a browser's form, which signs in
#[utoipa::path(
    post, path = "/auth/password/setup/confirm", tag = "auth",
    request_body(content = PasswordByLink, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 302, description = "Signed in"),
        (status = 400, description = "Too short a password"),
        (status = 401, description = "The link is invalid or has expired"),
    )
)]
pub(super) async fn setup_confirm(
    State(app): State<App>,
    From(from): From,
    Form(new): Form<PasswordByLink>,
) -> Answer<Response> {
    app.limits.count(Attempt::Link, from)?;
    let user = set(&app, new, LinkPurpose::Setup).await?;
    app.work(move |app| Ok(sent_home(app, &session(app, &user.id)?, None)))
        .await
        .map_err(Failure::from)
}

/// Show the form to set another password, or to ask for a link to it
#[utoipa::path(
    get, path = "/auth/password/reset", tag = "auth", params(Followed),
    responses((status = 200, description = "A page", content_type = "text/html", body = String))
)]
pub(super) async fn reset_page(
    State(app): State<App>,
    Query(followed): Query<Followed>,
) -> Response {
    let (confirm, request) = ("/auth/password/reset/confirm", "/auth/password/reset");
    form(&app, followed, "Set another password", confirm, request)
}

/// Ask for a link to set another password
///
/// The page is the same for an address that nobody has.
#[utoipa::path(
    post, path = "/auth/password/reset", tag = "auth",
    request_body(content = Wanted, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "A page", content_type = "text/html", body = String))
)]
pub(super) async fn reset(
    State(app): State<App>,
    from: From,
    Form(wanted): Form<Wanted>,
) -> Answer<Response> {
    let dev_link = link::ask(&app, from, wanted, LinkPurpose::Reset).await?;
    Ok(login::on_its_way(&app, dev_link.as_deref()))
}

/// Set another password with a browser's form, which ends all sessions
#[utoipa::path(
    post, path = "/auth/password/reset/confirm", tag = "auth",
    request_body(content = PasswordByLink, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 302, description = "To the page to sign in"),
        (status = 400, description = "Too short a password"),
        (status = 401, description = "The link is invalid or has expired"),
    )
)]
pub(super) async fn reset_confirm(
    State(app): State<App>,
    From(from): From,
    Form(new): Form<PasswordByLink>,
) -> Answer<Response> {
    app.limits.count(Attempt::Link, from)?;
    set(&app, new, LinkPurpose::Reset).await?;
    Ok(moved(&page::login(&app, Says::Done("password"), None)))
}
