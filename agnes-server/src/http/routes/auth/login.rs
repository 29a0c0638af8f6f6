//! The page on which people sign in, and the one that they come to.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use maud::html;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::answer::personal;
use crate::http::app::{App, Inner};
use crate::http::door::Caller;
use crate::http::extract::Query;
use crate::http::page::{self, moved, page as shown};
use crate::http::settings::Provider;

/// What whoever asked for a link is told, whether there is somebody of that address or not.
pub(super) const ON_ITS_WAY: &str =
    "If there is an account with this address, a link is on its way to it.";

/// The page that says so.
pub(super) fn on_its_way(app: &Inner, dev_link: Option<&str>) -> Response {
    let body = html! {
        p.told { (ON_ITS_WAY) }
        @if let Some(link) = dev_link { p { a href=(link) { "The link (developer's mode)" } } }
        p { a href=(app.at("/login")) { "Back" } }
    };
    shown(StatusCode::OK, "Look into your mail", &body)
}

/// Where a browser goes that has signed in.
pub(super) fn home_route(app: &Inner) -> String {
    app.settings.home_route.clone().unwrap_or_else(|| app.at("/dashboard"))
}

/// What the page is told.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Told {
    /// Why she comes back.
    error: Option<String>,
    /// What she has done.
    done: Option<String>,
    /// Where to go then: a path on this server.
    next: Option<String>,
}

/// Show the page on which people sign in
#[utoipa::path(
    get, path = "/login", tag = "pages", params(Told),
    responses((status = 200, description = "A page", content_type = "text/html", body = String))
)]
pub(super) async fn page(State(app): State<App>, Query(told): Query<Told>) -> Response {
    let next = told.next.as_deref().and_then(page::safe);
    // A text of somebody's link is never shown.
    let told = match told.error.as_deref() {
        None if told.done.is_some() => Some((false, "Your password is set. Sign in with it.")),
        None => None,
        Some("invalid") => Some((true, "Wrong e-mail address or password.")),
        Some("deactivated") => Some((true, "Your account is deactivated; ask an admin.")),
        Some(_) => Some((true, "That didn't work. Try again.")),
    };
    let has = |provider| app.settings.providers.contains(&provider);
    // Nobody waits for a letter that never comes.
    let mails = app.mails();
    let next = html! {
        @if let Some(next) = &next { input type="hidden" name="next" value=(next); }
    };
    let body = html! {
        @if let Some((is_wrong, told)) = told { p.told.wrong[is_wrong] { (told) } }
        @if has(Provider::Password) {
            form method="post" action=(app.at("/auth/password/login/web")) {
                (next)
                label for="email" { "E-mail address" }
                input #email name="email" type="email" required autocomplete="username" autofocus;
                label for="password" { "Password" }
                input #password name="password" type="password" required
                    autocomplete="current-password";
                button { "Sign in" }
            }
            @if mails { p { a href=(app.at("/auth/password/reset")) { "I have forgotten my password" } } }
        }
        @if mails && has(Provider::Email) {
            form method="post" action=(app.at("/auth/email/send-link")) {
                (next)
                label for="link-to" { "Or sign in with a link by mail" }
                input #link-to name="email" type="email" required autocomplete="username";
                button { "Send me a link" }
            }
        }
    };
    shown(StatusCode::OK, "Sign in", &body)
}

/// Go to where people begin
#[utoipa::path(
    get, path = "/", tag = "pages", responses((status = 302, description = "To the home route"))
)]
pub(super) async fn root(State(app): State<App>) -> Response {
    moved(&home_route(&app))
}

/// Show who is signed in, and what she may see
#[utoipa::path(
    get, path = "/dashboard", tag = "pages",
    responses((status = 200, description = "A page", content_type = "text/html", body = String))
)]
pub(super) async fn home(
    State(app): State<App>,
    caller: Caller,
) -> crate::http::error::Answer<Response> {
    let principal = caller.principal;
    let tables = app.work(move |app| app.agnes.catalog(&principal)).await?;
    let (docs, sign_out) = (app.at("/docs"), app.at("/auth/logout"));
    let body = html! {
        p { "You are " b { (caller.user.email) } "." }
        @if tables.is_empty() {
            p { "There is no table yet that you may see; ask an admin for access." }
        } @else {
            p { "You may see " (tables.len()) @if tables.len() == 1 { " table:" } @else { " tables:" } }
            ul {
                @for table in tables.iter().take(SHOWN) {
                    li {
                        code { (table.name) }
                        @if let Some(about) = &table.description { ": " (about) }
                    }
                }
                @if tables.len() > SHOWN { li { "and " (tables.len() - SHOWN) " more" } }
            }
        }
        p { a href=(docs) { "What programs can ask of this server" } }
        form method="post" action=(sign_out) { button { "Sign out" } }
    };
    let mut response = shown(StatusCode::OK, "Agnes", &body);
    personal(response.headers_mut());
    Ok(response)
}

/// Tables on the page; `agnes catalog` has all.
const SHOWN: usize = 100;
