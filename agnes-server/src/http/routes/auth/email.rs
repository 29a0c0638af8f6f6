//! Signing in with a link that comes by mail.

use agnes_core::Secret;
use agnes_core::access::{Email, LinkPurpose, invalid_link};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::link::{self, Wanted};
use super::{Token, login, sent_home, session, signed_in};
use crate::http::app::App;
use crate::http::door::{Doors, From, Guard};
use crate::http::error::Answer;
use crate::http::extract::{Query, Sent};
use crate::http::limits::Attempt;
use crate::http::page::page;

pub(super) fn doors(doors: Doors) -> Doors {
    doors
        .route(Guard::Public, routes!(send_link))
        .route(Guard::Public, routes!(verify_page, verify))
}

/// A link that is on its way, if there is somebody of that address.
#[derive(Serialize, ToSchema)]
pub(super) struct OnItsWay {
    /// `sent`.
    status: &'static str,
    message: &'static str,
    /// The link itself, on a developer's machine alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_link: Option<String>,
}

/// Ask for a link to sign in
///
/// The answer is the same for an address that nobody has. A browser's form gets a page.
#[utoipa::path(
    post, path = "/auth/email/send-link", tag = "auth",
    request_body(content(
        (Wanted = "application/json"), (Wanted = "application/x-www-form-urlencoded")
    )),
    responses((status = 200, content(
        (OnItsWay = "application/json"), (String = "text/html")
    )))
)]
pub(super) async fn send_link(
    State(app): State<App>,
    from: From,
    sent: Sent<Wanted>,
) -> Answer<Response> {
    let (wanted, is_form) = sent.into_parts();
    let dev_link = link::ask(&app, from, wanted, LinkPurpose::SignIn).await?;
    Ok(match is_form {
        true => login::on_its_way(&app, dev_link.as_deref()),
        false => {
            let message = login::ON_ITS_WAY;
            Json(OnItsWay { status: "sent", message, dev_link }).into_response()
        }
    })
}

/// What the address of a link holds.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Followed {
    email: Option<String>,
    token: Option<String>,
    next: Option<String>,
}

/// Show the button that signs in with a link
///
/// It takes nothing: whoever opens the link for somebody else, as scanners of mail do, leaves it
/// good.
#[utoipa::path(
    get, path = "/auth/email/verify", tag = "auth", params(Followed),
    responses((status = 200, description = "A page", content_type = "text/html", body = String))
)]
pub(super) async fn verify_page(
    State(app): State<App>,
    Query(followed): Query<Followed>,
) -> Response {
    let Followed { email: Some(email), token: Some(token), next } = followed else {
        let told = html! {
            p.told.wrong { "This link isn't whole. Copy all of it, or ask for a new one." }
            p { a href=(app.at("/login")) { "Ask for a new one" } }
        };
        return page(StatusCode::OK, "Sign in", &told);
    };
    let button = html! {
        form method="post" action=(app.at("/auth/email/verify")) {
            input type="hidden" name="email" value=(email);
            input type="hidden" name="token" value=(token);
            @if let Some(next) = next { input type="hidden" name="next" value=(next); }
            p { "As " b { (email) } }
            button autofocus { "Sign in" }
        }
    };
    page(StatusCode::OK, "Sign in", &button)
}

/// A link that somebody follows.
#[derive(Deserialize, ToSchema)]
pub(super) struct Taken {
    #[schema(example = "ada@example.com")]
    email: String,
    /// Of the link.
    token: String,
    /// Where to go then: a path on this server.
    next: Option<String>,
}

/// Sign in with a link, which is worth nothing afterwards
///
/// A browser's form goes on to where it wanted to go.
#[utoipa::path(
    post, path = "/auth/email/verify", tag = "auth",
    request_body(content((Taken = "application/json"), (Taken = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, body = Token),
        (status = 302, description = "Signed in"),
        (status = 401, description = "The link is invalid or has expired"),
    )
)]
pub(super) async fn verify(
    State(app): State<App>,
    From(from): From,
    sent: Sent<Taken>,
) -> Answer<Response> {
    app.limits.count(Attempt::Link, from)?;
    let (taken, is_form) = sent.into_parts();
    let token = app.work(move |app| {
        let email = Email::parse(&taken.email).map_err(|_| invalid_link())?;
        let token = Secret::new(taken.token);
        let user = app.access.take_link(&email, &token, LinkPurpose::SignIn)?;
        Ok((session(app, &user.id)?, taken.next))
    });
    let (token, next) = token.await.map_err(link::refused)?;
    Ok(match is_form {
        true => sent_home(&app, &token, next.as_deref()),
        false => signed_in(&app, token, true),
    })
}
