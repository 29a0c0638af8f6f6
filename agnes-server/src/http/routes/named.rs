//! A table that an address or a body names, and what its caller may do with it.

use agnes_core::access::{Decision, Permitted, Principal, Resource};
use agnes_core::catalog::CatalogEntry;
use agnes_core::extract::QueryMode;
use agnes_core::{Error, ExternalName, Kind, Result, TableId};
use axum::http::StatusCode;

use crate::http::app::{App, Inner};
use crate::http::door::Caller;
use crate::http::error::{Answer, Failure};
use crate::http::pool::Pool;

/// The table that an address names: by the name under which it is published, or by its id.
pub(super) fn decide(app: &Inner, principal: &Principal, table: &str) -> Answer<Decision> {
    let nothing = || Failure::new(StatusCode::NOT_FOUND, "Table not found");
    ExternalName::parse(table).map_err(|_| nothing())?;
    let id = match app.access.resolve(table) {
        Some(registered) => registered.id,
        None => TableId::parse(table).map_err(|_| nothing())?,
    };
    Ok(app.access.decide(principal, &Resource::table(id)))
}

/// What is known of a table whose source publishes it.
///
/// # Errors
/// `NotFound` when it doesn't.
pub(super) fn published(app: &Inner, permit: &Permitted<'_, Resource>) -> Result<CatalogEntry> {
    let entry = app.agnes.catalog_entry(permit)?;
    match entry.is_published {
        true => Ok(entry),
        false => Err(Error::new(Kind::NotFound, unpublished(&entry))),
    }
}

/// Why nothing of a table can be read.
pub(super) fn unpublished(entry: &CatalogEntry) -> String {
    match entry.query_mode {
        QueryMode::Materialized => format!(
            "`{}` is materialized, and has no rows yet: they come with the next sync that is due",
            entry.name
        ),
        _ => format!("`{}` isn't published now", entry.name),
    }
}

/// What a decision lets a caller do with the table that an address names, where it takes no time.
pub(super) async fn with_table<T: Send + 'static>(
    app: &App,
    caller: Caller,
    table: String,
    work: impl FnOnce(&Inner, &Caller, &Permitted<'_, Resource>) -> Result<T> + Send + 'static,
) -> Answer<T> {
    with_table_in(app, &app.pool, caller, table, work).await
}

/// The same in a pool of its own.
pub(super) async fn with_table_in<T: Send + 'static>(
    app: &App,
    pool: &Pool,
    caller: Caller,
    table: String,
    work: impl FnOnce(&Inner, &Caller, &Permitted<'_, Resource>) -> Result<T> + Send + 'static,
) -> Answer<T> {
    // A name that is none has a status of its own, which no error of the core has.
    let done = move |app: &Inner| -> Result<Answer<T>> {
        let work = || -> Answer<T> {
            let decision = decide(app, &caller.principal, &table)?;
            Ok(work(app, &caller, &decision.permit()?)?)
        };
        Ok(work())
    };
    app.work_in(pool, done).await?
}
