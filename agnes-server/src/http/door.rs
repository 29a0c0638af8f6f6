//! Who may come in: every route stands behind a [`Guard`], and its handler gets the [`Caller`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use agnes_core::access::{Principal, User, Via};
use agnes_core::{Error, Key, Kind};
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::CookieJar;
use http_body::Body as _;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{RefOr, Schema};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::answer::personal;
use super::app::App;
use super::error::{Answer, Failure};
use super::limits::counted_as;
use super::memory::{Counted, Holder, until_taken};

/// The cookie of a session.
pub(crate) const COOKIE: &str = "access_token";

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// Anybody.
    Public,
    /// Any active user, however she showed who she is.
    User,
    /// A user who has signed in: no token, not the scheduler.
    Session,
    /// An admin.
    Admin,
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) user: User,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct From(pub(crate) IpAddr);

/// The routes of a server, each with its guard.
pub(crate) struct Doors {
    router: OpenApiRouter<App>,
    app: App,
    guards: BTreeMap<(String, String), Guard>,
    /// What is described, by name: two of one name would be one.
    schemas: BTreeMap<String, RefOr<Schema>>,
}

impl Doors {
    pub(crate) fn new(app: &App, api: utoipa::openapi::OpenApi) -> Doors {
        Doors {
            router: OpenApiRouter::with_openapi(api),
            app: app.clone(),
            guards: BTreeMap::new(),
            schemas: BTreeMap::new(),
        }
    }

    /// Adds routes behind a guard. There is no other way to add one.
    #[must_use]
    pub(crate) fn route(
        mut self,
        guard: Guard,
        (schemas, mut paths, methods): UtoipaMethodRouter<App>,
    ) -> Doors {
        for (path, item) in &mut paths.paths {
            let operations = [
                ("GET", &mut item.get),
                ("PUT", &mut item.put),
                ("POST", &mut item.post),
                ("DELETE", &mut item.delete),
                ("PATCH", &mut item.patch),
            ];
            for (method, operation) in operations {
                if let Some(operation) = operation {
                    super::api::describe(operation, guard);
                    operation.operation_id = Some(super::api::name(method, path));
                    self.guards.insert((path.clone(), method.to_string()), guard);
                }
            }
        }
        for (name, schema) in &schemas {
            let there = self.schemas.insert(name.clone(), schema.clone());
            debug_assert!(there.is_none_or(|there| there == *schema), "two are called {name}");
        }
        let app = self.app.clone();
        let methods = methods.route_layer(axum::middleware::from_fn_with_state(
            app,
            move |State(app): State<App>, request: Request, next: Next| async move {
                pass(&app, guard, request, next).await
            },
        ));
        self.router = self.router.routes((schemas, paths, methods));
        self
    }

    /// Adds routes under their address, and under an older one that clients still call.
    #[must_use]
    pub(crate) fn also(
        self,
        guard: Guard,
        older: &str,
        (schemas, paths, methods): UtoipaMethodRouter<App>,
    ) -> Doors {
        let mut at_older = paths.clone();
        at_older.paths =
            paths.paths.values().map(|item| (older.to_string(), item.clone())).collect();
        self.route(guard, (schemas.clone(), paths, methods.clone()))
            .route(guard, (schemas, at_older, methods))
    }

    /// Adds routes whose bodies may be as large as an upload.
    #[must_use]
    pub(crate) fn large(
        self,
        guard: Guard,
        (schemas, paths, methods): UtoipaMethodRouter<App>,
    ) -> Doors {
        let most = axum::extract::DefaultBodyLimit::max(super::routes::LARGEST);
        self.route(guard, (schemas, paths, methods.layer(most)))
    }

    /// The routes, their description, and their guards by path and method.
    pub(crate) fn into_parts(
        self,
    ) -> (axum::Router<App>, utoipa::openapi::OpenApi, BTreeMap<(String, String), Guard>) {
        let (router, api) = self.router.split_for_parts();
        (router, api, self.guards)
    }
}

/// What an operation behind a guard asks for, as OpenAPI says it.
pub(crate) fn requirement(guard: Guard) -> Option<Vec<SecurityRequirement>> {
    let none: [&str; 0] = [];
    match guard {
        Guard::Public => None,
        Guard::User | Guard::Session | Guard::Admin => Some(vec![
            SecurityRequirement::new("token", none),
            SecurityRequirement::new("session", none),
        ]),
    }
}

/// Lets a request through, or not.
async fn pass(app: &App, guard: Guard, mut request: Request, next: Next) -> Response {
    let from = From(client(app, &request));
    request.extensions_mut().insert(from);
    // A name that somebody else resolves to this machine makes her page one of this server's.
    if app.settings.dev_user.is_some() && !names_this_machine(&request) {
        let refused = "ask for `localhost`, or by a loopback address";
        return Failure::unauthenticated(refused).into_response();
    }
    // A browser sends a cookie along with whatever any page has it send, and takes one for it.
    if bearer(request.headers()).is_none() && !comes_from_here(app, &request) {
        let refused = "another site's page sent this request; send a token, or call from this site";
        return Failure::new(StatusCode::FORBIDDEN, refused).into_response();
    }
    let mut holder = Holder::Address(counted_as(from.0));
    if guard != Guard::Public {
        match authenticated(app, from, &request).and_then(|caller| permitted(app, guard, caller)) {
            Ok(caller) => {
                holder = Holder::User(caller.user.id.clone());
                request.extensions_mut().insert(caller);
            }
            Err(failure) => return failure.into_response(),
        }
    }
    // What has come of a body is there until it has been answered.
    let mut held = None;
    if !request.body().is_end_stream() {
        let holding = Arc::new(app.memory.of(holder.clone()));
        held = Some(holding.clone());
        request = request.map(|body| Body::new(Counted { body, holding }));
    }
    let only_reads = request.method().is_safe();
    let response = next.run(request).await;
    drop(held);
    let mut response = match until_taken(response, app.memory.of(holder), only_reads) {
        Ok(response) => response,
        Err(too_much) => return Failure::from(too_much).into_response(),
    };
    // What one caller is told is nobody else's, whatever it is.
    if guard != Guard::Public && !response.headers().contains_key(header::CACHE_CONTROL) {
        personal(response.headers_mut());
    }
    response
}

fn permitted(app: &App, guard: Guard, caller: Caller) -> Answer<Caller> {
    let has_signed_in = matches!(&caller.principal, Principal::User { via: Via::Session, .. });
    match guard {
        Guard::Session if !has_signed_in => Err(Failure::new(
            StatusCode::FORBIDDEN,
            "a token can't do this; sign in with a password or a link",
        )),
        Guard::Admin if app.access.admin(&caller.principal).is_err() => {
            Err(Failure::new(StatusCode::FORBIDDEN, "Admin access required"))
        }
        _ => Ok(caller),
    }
}

/// Who a request comes from, as it shows by its token or its cookie.
pub(crate) fn authenticated(app: &App, from: From, request: &Request) -> Answer<Caller> {
    if let Some(email) = &app.settings.dev_user {
        let user = app.access.user_by_email(email);
        let user = user.ok_or_else(|| Failure::unauthenticated("the developer's user is gone"))?;
        return Ok(Caller { principal: Principal::user(user.id.clone()), user });
    }
    let headers = request.headers();
    let token = match bearer(headers) {
        Some(token) => token.to_string(),
        None => match CookieJar::from_headers(headers).get(COOKIE) {
            Some(cookie) if !cookie.value().is_empty() => cookie.value().to_string(),
            _ => return Err(Failure::unauthenticated("Not authenticated")),
        },
    };
    let address = from.0.to_string();
    let principal = app.access.authenticate(&token, Some(&address)).map_err(unknown)?;
    let user = principal.user_id().and_then(|id| app.access.user(id));
    let user = user.ok_or_else(|| Failure::unauthenticated("the token's user is gone"))?;
    Ok(Caller { principal, user })
}

/// The error of a token that shows nobody.
fn unknown(error: Error) -> Failure {
    match error.kind() {
        Kind::Denied if error.context(Key::Reason).is_some() => {
            Failure::unauthenticated(error.message())
        }
        _ => Failure::from(error),
    }
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The host that a request names.
fn host(request: &Request) -> Option<&str> {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    request.uri().authority().map(Authority::as_str).or(header)
}

/// Whether a request names this machine as its own users do.
fn names_this_machine(request: &Request) -> bool {
    let Some(authority) = host(request).and_then(|host| host.parse::<Authority>().ok()) else {
        return false;
    };
    let host = authority.host().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a browser says that the page which sent this is one of this server, or of those that
/// may call it, or whether no browser did. `Sec-Fetch-Site` tells; of older browsers `Origin` does.
fn comes_from_here(app: &App, request: &Request) -> bool {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return true;
    }
    let headers = request.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_listed = |origin: &str| app.settings.cors_origins.iter().any(|listed| listed == origin);
    match (text("sec-fetch-site"), text("origin")) {
        (_, Some(origin)) if is_listed(origin) => true,
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, None) => true,
        (None, Some(origin)) => {
            let of = origin.split_once("://").map(|(_, host)| host);
            of.is_some() && of == host(request)
        }
    }
}

/// The address that a request comes from: its peer's, or what trusted proxies say.
fn client(app: &App, request: &Request) -> IpAddr {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    // Nobody trusts a peer that isn't known.
    let mut address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    let forwarded = request.headers().get_all("x-forwarded-for").iter();
    let hops: Vec<&str> =
        forwarded.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(',')).collect();
    // Each proxy adds whom it heard; the first that isn't trusted may have said anything before.
    for hop in hops.iter().rev() {
        if !app.settings.trusts(address) {
            break;
        }
        match hop.trim().parse() {
            Ok(before) => address = before,
            Err(_) => break,
        }
    }
    address.to_canonical()
}

/// Behind a guard there is one; a handler of a public route can't have one.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.ok_or_else(|| Failure::unauthenticated("Not authenticated"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for From {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let nowhere = From(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Ok(parts.extensions.get::<From>().copied().unwrap_or(nowhere))
    }
}
