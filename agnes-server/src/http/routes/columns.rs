//! What somebody says of a table's columns.

use agnes_core::column_note::NewColumnNote;
use agnes_core::{Error, Kind, TableId};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::named::with_table;
use crate::http::answer::Personal;
use crate::http::app::App;
use crate::http::door::Caller;
use crate::http::error::Answer;
use crate::http::extract::{Body, Path};

/// What is said of a table's columns.
#[derive(Serialize, ToSchema)]
pub(super) struct ColumnNotes {
    table_id: String,
    columns: Vec<ColumnNote>,
}

/// What is said of a column.
#[derive(Serialize, ToSchema)]
struct ColumnNote {
    column_name: String,
    /// Its type, as its source names it.
    basetype: Option<String>,
    description: Option<String>,
    /// How sure that is: `manual` when somebody has written it.
    confidence: String,
    /// Who says so.
    source: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

/// Show what is said of a table's columns
#[utoipa::path(
    get, path = "/api/admin/metadata/{table}", tag = "registry", params(("table" = String, Path)),
    responses((status = 200, body = ColumnNotes), (status = 404, description = "No such table"))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(table): Path<String>,
) -> Answer<Response> {
    let notes = with_table(&app, caller, table, |app, _, permit| {
        let table_id = permit.what().id().to_string();
        let note = |note: agnes_core::column_note::ColumnNote| ColumnNote {
            column_name: note.column,
            basetype: note.basetype,
            description: note.description,
            confidence: note.confidence,
            source: note.source,
            updated_at: note.updated_at.to_string(),
        };
        let columns = app.agnes.column_notes(permit)?.into_iter().map(note).collect();
        Ok(ColumnNotes { table_id, columns })
    });
    Ok(Personal(notes.await?).into_response())
}

/// What is to be said.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewColumnNotes {
    columns: Vec<NewNote>,
}

#[derive(Deserialize, ToSchema)]
struct NewNote {
    column_name: String,
    basetype: Option<String>,
    description: Option<String>,
    confidence: Option<String>,
}

/// What was said.
#[derive(Serialize, ToSchema)]
pub(super) struct SavedNotes {
    table_id: String,
    /// How many columns.
    updated: usize,
}

/// Say something of a table's columns, in the place of what was said of them
#[utoipa::path(
    post, path = "/api/admin/metadata/{table}", tag = "registry", params(("table" = String, Path)),
    request_body = NewColumnNotes,
    responses(
        (status = 200, body = SavedNotes), (status = 400, description = "A column can't be called so"),
        (status = 404, description = "No such table"),
    )
)]
pub(super) async fn put(
    State(app): State<App>,
    caller: Caller,
    Path(table): Path<String>,
    Body(NewColumnNotes { columns }): Body<NewColumnNotes>,
) -> Answer<Json<SavedNotes>> {
    let saved = app.work(move |app| {
        let none = || Error::new(Kind::NotFound, "no such table is registered");
        let id = app.access.resolve(&table).map(|table| table.id);
        let id: TableId = id.ok_or_else(none)?;
        let note = |note: NewNote| NewColumnNote {
            column: note.column_name,
            basetype: note.basetype,
            description: note.description,
            confidence: note.confidence,
        };
        let notes = columns.into_iter().map(note).collect();
        let saved = app.agnes.note_columns(&caller.principal, &id, notes)?;
        Ok(SavedNotes { table_id: id.to_string(), updated: saved.len() })
    });
    Ok(Json(saved.await?))
}

/// Tell Keboola what is said of a table's columns
#[utoipa::path(
    post, path = "/api/admin/metadata/{table}/push", tag = "registry",
    params(("table" = String, Path)),
    responses((status = 501, description = "Nothing here can tell Keboola"))
)]
pub(super) async fn push(Path(_): Path<String>) -> Answer<StatusCode> {
    Err(super::not_there("Keboola"))
}
