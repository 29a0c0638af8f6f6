//! Pages for people: one look, no scripts, nothing from elsewhere.

use std::sync::LazyLock;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::app::{App, Inner};
use super::error::Told;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:12vh auto;padding:0 1.5rem}\
h1{font-size:1.4rem}form{margin:1.5rem 0}\
label{display:block;margin:.8rem 0 .2rem}\
input{font:inherit;width:100%;box-sizing:border-box;padding:.5rem;border:1px solid #888;\
border-radius:.3rem}\
button{font:inherit;margin-top:1rem;padding:.5rem 1.2rem;border:0;border-radius:.3rem;\
background:#1a56b0;color:#fff;cursor:pointer}\
.told{border-left:.25rem solid #1a56b0;padding:.2rem .8rem}\
.wrong{border-left-color:#b3261e}\
li{margin:.2rem 0}code{font-size:.95em}";

/// Nothing runs and nothing is fetched; forms go to this server.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).ok()
});

/// A page.
pub(crate) fn page(status: StatusCode, title: &str, body: &Markup) -> Response {
    let html = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) @if title != "Agnes" { " · Agnes" } }
                style { (PreEscaped(STYLE)) }
            }
            body { main { h1 { (title) } (body) } }
        }
    };
    let mut response = (status, axum::response::Html(html.into_string())).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(policy) = &*POLICY {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    }
    response
}

/// Sends a browser to another address of this server.
pub(crate) fn moved(to: &str) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(to) = HeaderValue::from_str(to) {
        headers.insert(header::LOCATION, to);
    }
    response
}

/// Where a browser may be sent that asked to go on there: a path of this server, and nothing that a
/// browser takes for another one.
pub(crate) fn safe(next: &str) -> Option<String> {
    // A browser takes a backslash for a slash, and leaves out tabs and line ends.
    let is_odd = |c: char| c == '\\' || c.is_control();
    if !next.starts_with('/') || next.starts_with("//") || next.chars().any(is_odd) {
        return None;
    }
    let base = url::Url::parse("http://agnes.invalid/").ok()?;
    let url = base.join(next).ok().filter(|url| url.origin() == base.origin())?;
    // A path with `..` may come to begin with two slashes.
    let to = url.as_str().strip_prefix("http://agnes.invalid")?;
    (!to.starts_with("//")).then(|| to.to_string())
}

/// What the page on which people sign in says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Says {
    Nothing,
    /// Something is wrong.
    Error(&'static str),
    /// Something is done.
    Done(&'static str),
}

/// The address of the page on which people sign in, from which they go on to `next`.
pub(crate) fn login(app: &Inner, says: Says, next: Option<&str>) -> String {
    let (name, told) = match says {
        Says::Nothing => ("error", None),
        Says::Error(told) => ("error", Some(told)),
        Says::Done(told) => ("done", Some(told)),
    };
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in [(name, told), ("next", next)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    let page = app.at("/login");
    if query.is_empty() { page } else { format!("{page}?{query}") }
}

/// Whether a person looks at a page, and no program at an answer.
fn is_for_a_person(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
        && !request.uri().path().starts_with("/api/")
}

/// Shows people what went wrong as a page, and has them sign in where that is what is missing.
pub(crate) async fn for_people(State(app): State<App>, request: Request, next: Next) -> Response {
    if !is_for_a_person(&request) {
        return next.run(request).await;
    }
    let asked = (request.method() == Method::GET).then(|| request.uri().clone());
    let response = next.run(request).await;
    let Some(Told(told)) = response.extensions().get::<Told>() else { return response };
    let can_sign_in = !app.settings.providers.is_empty();
    match (response.status(), asked) {
        (StatusCode::UNAUTHORIZED, Some(asked)) if can_sign_in => {
            let next = asked.path_and_query().map(|path| app.at(path.as_str()));
            moved(&login(&app, Says::Nothing, next.as_deref()))
        }
        (status, _) => {
            let title = status.canonical_reason().unwrap_or("Something went wrong");
            let back = can_sign_in.then(|| app.at("/login"));
            let body = html! {
                p.told.wrong { (told) }
                @if let Some(back) = back { p { a href=(back) { "Sign in, or ask for a link" } } }
            };
            let mut shown = page(status, title, &body);
            if let Some(after) = response.headers().get(header::RETRY_AFTER) {
                shown.headers_mut().insert(header::RETRY_AFTER, after.clone());
            }
            shown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_elsewhere() {
        for (next, to) in [
            ("/dashboard", "/dashboard"),
            ("/catalog?q=a b#c", "/catalog?q=a%20b#c"),
            ("/a/../b", "/b"),
            ("/ünter", "/%C3%BCnter"),
            ("/login?next=https://evil.example", "/login?next=https://evil.example"),
        ] {
            assert_eq!(safe(next).as_deref(), Some(to));
        }
        for next in [
            "",
            "dashboard",
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/a\\b",
            "/..//evil.example",
            "/.//evil.example",
            "/a/..//evil.example",
            "javascript:alert(1)",
            "/\u{0}",
            " /dashboard",
        ] {
            assert_eq!(safe(next), None, "{next:?}");
        }
    }
}
