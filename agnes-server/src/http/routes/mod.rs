//! Every route, with its guard: one file for each resource.

mod auth;
mod catalog;
mod client;
mod data;
mod discovery;
mod docs;
mod grants;
mod groups;
mod health;
mod metadata;
mod metrics;
mod named;
mod permissions;
mod query;
mod registry;
mod requests;
mod scan;
mod sync;
mod tokens;
mod uploads;
mod users;
mod wire;

use utoipa_axum::routes;

use super::app::App;
use super::door::{Doors, Guard};

/// The most bytes of a body with an upload.
pub(super) const LARGEST: usize = uploads::BODY_MAX;

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
        .route(User, routes!(sync::manifest))
        .route(User, routes!(sync::status))
        .route(Admin, routes!(sync::trigger))
        .route(User, routes!(catalog::tables))
        .route(User, routes!(catalog::profile))
        .route(User, routes!(catalog::refresh))
        .route(User, routes!(discovery::catalog))
        .route(User, routes!(discovery::schema))
        .route(User, routes!(discovery::sample))
        .route(User, routes!(scan::estimate))
        .route(User, routes!(scan::scan))
        .route(User, routes!(metadata::status))
        .route(Admin, routes!(metadata::refresh))
        .route(Admin, routes!(metadata::refresh_all))
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
        .route(Admin, routes!(permissions::list, permissions::give, permissions::take_back))
        .route(Admin, routes!(permissions::of_user))
        .route(User, routes!(requests::create))
        .route(User, routes!(requests::mine))
        .route(Admin, routes!(requests::pending))
        .route(Admin, routes!(requests::approve))
        .route(Admin, routes!(requests::deny))
        .route(Admin, routes!(registry::list))
        .route(Admin, routes!(registry::remove))
        // What business numbers mean.
        .route(User, routes!(metrics::list))
        .route(User, routes!(metrics::get))
        .route(Admin, routes!(metrics::put))
        .route(Admin, routes!(metrics::remove))
        // What comes from analysts' machines, and what they ask for.
        .large(User, routes!(uploads::session))
        .large(User, routes!(uploads::artifact))
        .large(User, routes!(uploads::notes))
        .route(Public, routes!(client::latest))
        .route(User, routes!(client::welcome))
        .route(User, routes!(client::bundle))
        // The server itself.
        .route(Public, routes!(health::health))
        .route(User, routes!(health::detailed))
        .route(Public, routes!(health::version))
        .route(Public, routes!(docs::described))
        .route(User, routes!(docs::page))
        .route(User, routes!(docs::file))
}
