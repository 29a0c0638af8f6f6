//! Every route, with its guard: one file for each resource.

mod auth;
mod catalog;
mod client;
mod columns;
mod config;
mod data;
mod declared;
mod discover;
mod discovery;
mod docs;
mod grants;
mod groups;
mod health;
mod jira;
mod metadata;
mod metrics;
mod named;
mod permissions;
mod prometheus;
mod query;
mod registry;
mod requests;
mod scan;
mod settings;
mod sync;
mod tokens;
mod uploads;
mod users;
mod warmup;
mod wire;

use utoipa_axum::routes;

use super::app::App;
use super::door::{Doors, Guard};
use super::error::Failure;

/// The most bytes of a body with an upload.
pub(super) const LARGEST: usize = uploads::BODY_MAX;

/// What is shown on an address of its own to whoever can reach it.
pub(super) fn of_operators(app: &App) -> axum::Router {
    use axum::routing::get;
    axum::Router::new()
        .route("/metrics", get(prometheus::show))
        .route("/api/health", get(health::health))
        .with_state(app.clone())
}

/// What takes a connection to a system that nothing here has yet.
fn not_there(system: &str) -> Failure {
    Failure::new(
        axum::http::StatusCode::NOT_IMPLEMENTED,
        format!("this takes a connection to {system}, which this version doesn't have"),
    )
}

/// All of them.
pub(super) fn all(app: &App) -> Doors {
    use Guard::{Admin, Public, Session, User};
    auth::doors(Doors::new(app, super::api::empty()), app)
        .route(User, routes!(tokens::list))
        .route(Session, routes!(tokens::create))
        .route(User, routes!(tokens::get, tokens::revoke))
        .route(Admin, routes!(tokens::all))
        .route(Admin, routes!(tokens::revoke_any))
        // Data.
        .route(User, routes!(data::check_access))
        .route(User, routes!(data::download))
        .route(User, routes!(query::query))
        .route(Admin, routes!(query::hybrid))
        .route(User, routes!(sync::manifest))
        .route(User, routes!(sync::status))
        .route(Admin, routes!(sync::trigger))
        .route(User, routes!(settings::get, settings::update))
        .route(User, routes!(settings::subscriptions, settings::subscribe_to))
        .route(User, routes!(settings::all))
        .route(User, routes!(settings::put))
        .route(User, routes!(catalog::tables))
        .route(User, routes!(catalog::profile))
        .route(User, routes!(catalog::refresh))
        .route(User, routes!(catalog::metric))
        .route(User, routes!(discovery::catalog))
        .route(User, routes!(discovery::schema))
        .route(User, routes!(discovery::sample))
        .route(User, routes!(scan::estimate))
        .route(User, routes!(scan::scan))
        .route(User, routes!(metadata::status))
        .route(Admin, routes!(metadata::refresh))
        .route(Admin, routes!(metadata::refresh_all))
        .route(Admin, routes!(warmup::status))
        .route(Admin, routes!(warmup::run))
        .route(Admin, routes!(warmup::watch))
        // People, groups, grants.
        .route(Admin, routes!(users::list, users::create))
        .route(Admin, routes!(users::get, users::update, users::remove))
        .route(Admin, routes!(users::activate))
        .route(Admin, routes!(users::deactivate))
        .route(Admin, routes!(users::set_password))
        .route(Admin, routes!(users::reset_password))
        .route(Admin, routes!(groups::list, groups::create))
        .route(Admin, routes!(groups::get, groups::update, groups::remove))
        .route(Admin, routes!(groups::members, groups::add_member))
        .route(Admin, routes!(groups::remove_member))
        .route(Admin, routes!(groups::of_user, groups::join))
        .route(Admin, routes!(groups::leave))
        .route(Admin, routes!(grants::list, grants::create))
        .route(Admin, routes!(grants::remove))
        .route(Admin, routes!(grants::resource_types))
        .route(Admin, routes!(grants::overview))
        .route(Admin, routes!(grants::of_user))
        .route(User, routes!(grants::mine))
        .also(
            Admin,
            "/api/admin/permissions",
            routes!(permissions::list, permissions::give, permissions::take_back),
        )
        .also(Admin, "/api/admin/permissions/{user}", routes!(permissions::of_user))
        .route(User, routes!(requests::create))
        .route(User, routes!(requests::mine))
        .route(Admin, routes!(requests::pending))
        .route(Admin, routes!(requests::approve))
        .route(Admin, routes!(requests::deny))
        // The registry, and the configuration.
        .route(Admin, routes!(registry::list))
        .route(Admin, routes!(registry::update, registry::remove))
        .route(Admin, routes!(registry::register))
        .route(Admin, routes!(registry::register_with_id))
        .route(Admin, routes!(registry::precheck))
        .route(Admin, routes!(discover::list))
        .route(Admin, routes!(discover::register))
        .route(User, routes!(columns::get))
        .route(Admin, routes!(columns::put))
        .route(Admin, routes!(columns::push))
        .route(Admin, routes!(config::get, config::update))
        .route(Admin, routes!(config::configure))
        .route(Admin, routes!(config::test_big_query))
        // What business numbers mean.
        .route(User, routes!(metrics::list))
        .route(User, routes!(metrics::get))
        .route(Admin, routes!(metrics::put))
        .route(Admin, routes!(metrics::remove))
        .large(Admin, routes!(uploads::metrics))
        // What comes from analysts' machines, and what they ask for.
        .large(User, routes!(uploads::session))
        .large(User, routes!(uploads::artifact))
        .large(User, routes!(uploads::notes))
        .large(Admin, routes!(uploads::table))
        .route(Public, routes!(client::latest))
        .route(Public, routes!(client::download))
        .route(Public, routes!(client::wheel))
        .route(Public, routes!(client::install))
        .route(User, routes!(client::welcome))
        .route(User, routes!(client::bundle))
        // What other systems tell.
        .also(Public, "/api/jira/webhook", routes!(jira::take))
        .route(Public, routes!(jira::health))
        // The server itself.
        .route(Public, routes!(health::health))
        .route(User, routes!(health::detailed))
        .route(Admin, routes!(prometheus::show))
        .route(Public, routes!(health::version))
        .route(Public, routes!(docs::described))
        .route(User, routes!(docs::page))
        .route(User, routes!(docs::file))
}
