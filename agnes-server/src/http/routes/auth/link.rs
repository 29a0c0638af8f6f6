//! Links that stand in for a password once: made, mailed, taken.

use std::sync::Arc;

use agnes_core::access::{Email, LinkPurpose, User};
use agnes_core::{Error, Kind, Result};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::app::{App, Inner};
use crate::http::door::From;
use crate::http::error::{Answer, Failure};
use crate::http::limits::Attempt;
use crate::http::mail::Letter;
use crate::http::page::safe;
use crate::http::settings::Provider;

/// Who wants a link.
#[derive(Deserialize, ToSchema)]
pub(super) struct Wanted {
    #[schema(example = "ada@example.com")]
    email: String,
    /// Where to go then: a path on this server.
    next: Option<String>,
}

/// What somebody hears whose link isn't taken.
pub(super) fn refused(error: Error) -> Failure {
    match error.kind() {
        Kind::Denied => Failure::unauthenticated(error.message()),
        _ => error.into(),
    }
}

/// The page of links for a purpose.
///
/// # Errors
/// `Conflict` where nobody signs in in that way.
pub(in crate::http::routes) fn page_of(app: &Inner, purpose: LinkPurpose) -> Result<&'static str> {
    let (page, provider) = match purpose {
        LinkPurpose::Setup => ("/auth/password/setup", Provider::Password),
        LinkPurpose::Reset => ("/auth/password/reset", Provider::Password),
        LinkPurpose::SignIn => ("/auth/email/verify", Provider::Email),
    };
    let is_there = app.settings.providers.contains(&provider);
    is_there
        .then_some(page)
        .ok_or_else(|| Error::new(Kind::Conflict, "nobody signs in here in the way of such a link"))
}

/// Makes a link for a user.
///
/// # Errors
/// As [`page_of`] and [`Access::issue_link`](agnes_core::access::Access::issue_link).
pub(in crate::http::routes) fn with_link(
    app: &Inner,
    user: &User,
    purpose: LinkPurpose,
    next: Option<&str>,
) -> Result<String> {
    let page = page_of(app, purpose)?;
    let token = app.access.issue_link(&user.id, purpose)?;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("email", user.email.as_str()).append_pair("token", token.expose());
    if let Some(next) = next {
        query.append_pair("next", next);
    }
    Ok(format!("{}{page}?{}", app.settings.public_url, query.finish()))
}

fn letter(app: &Inner, to: &Email, purpose: LinkPurpose, link: &str) -> Letter {
    let server = &app.settings.public_url;
    let (subject, what) = match purpose {
        LinkPurpose::Setup => ("Your account", "You were invited. Set your password here"),
        LinkPurpose::Reset => ("Another password", "Set another password here"),
        LinkPurpose::SignIn => ("Your link to sign in", "Sign in here"),
    };
    let otherwise = match purpose {
        LinkPurpose::Setup => "If you don't want the account, leave the link alone.",
        LinkPurpose::Reset | LinkPurpose::SignIn => {
            "If you didn't ask for it, leave it alone; nothing changes."
        }
    };
    let hours = purpose.lifetime().as_secs() / 3600;
    let holds = match hours {
        1 => "an hour".to_string(),
        ..=48 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    };
    Letter {
        to: to.clone(),
        subject: format!("Agnes: {subject}"),
        text: format!(
            "{what}:\n\n{link}\n\nThe link works once and holds for {holds}. It is for {to} on \
             {server}. {otherwise}\n"
        ),
    }
}

/// Mails a link. Whether it was taken by the mail server; the log says why not.
pub(in crate::http::routes) async fn mailed(
    app: &App,
    to: &Email,
    purpose: LinkPurpose,
    link: &str,
) -> bool {
    let Some(mailer) = &app.mailer else { return false };
    let sent = mailer.send(letter(app, to, purpose, link)).await;
    if let Err(error) = &sent {
        tracing::error!(%error, %to, "a link wasn't mailed");
    }
    sent.is_ok()
}

/// Mails a link to whoever asks for one and may have it. The answer is the same, and as fast, for
/// everybody: the rest is done afterwards. On a developer's machine the link comes back.
///
/// # Errors
/// 429 when that address asks too often.
pub(super) async fn ask(
    app: &App,
    from: From,
    wanted: Wanted,
    purpose: LinkPurpose,
) -> Answer<Option<String>> {
    app.limits.count(Attempt::Ask, from.0)?;
    if app.settings.dev_user.is_some() {
        return Ok(make(app, wanted, purpose).await.map(|(_, link)| link));
    }
    let Ok(permit) = Arc::clone(&app.letters).try_acquire_owned() else {
        tracing::warn!("too many links are being mailed; one is left out");
        return Ok(None);
    };
    let app = app.clone();
    tokio::spawn(async move {
        if app.mailer.is_none() {
            tracing::warn!("a link isn't mailed: no mail server is configured (`email`)");
        } else if let Some((to, link)) = make(&app, wanted, purpose).await {
            mailed(&app, &to, purpose, &link).await;
        }
        drop(permit);
    });
    Ok(None)
}

/// A link for whoever has this address, if she may have one.
async fn make(app: &App, wanted: Wanted, purpose: LinkPurpose) -> Option<(Email, String)> {
    let made = app.work(move |app| {
        let user = Email::parse(&wanted.email).ok().and_then(|e| app.access.user_by_email(&e));
        let Some(user) = user.filter(|user| app.limits.may_mail(&user.id)) else {
            return Ok(None);
        };
        let next = wanted.next.as_deref().and_then(safe);
        let link = with_link(app, &user, purpose, next.as_deref())?;
        Ok(Some((user.email, link)))
    });
    match made.await {
        Ok(made) => {
            if let (Some((to, link)), Some(_)) = (&made, &app.settings.dev_user) {
                tracing::info!(%to, link, "a link, on a developer's machine");
            }
            made
        }
        // Who may not have one isn't told so.
        Err(error) => {
            tracing::info!(?error, "no link is made");
            None
        }
    }
}
