//! Columns of types that Arrow has none for: they come as text, and the field says of which.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use super::tokens::tokens;
use crate::engine::direct::{Column as Given, Type, TypeId};
use crate::{Error, Key, Kind, Result, sql};

/// Where a field that holds the text of another type says which: `BIT`, `BIGNUM`, `JSON`,
/// `TIME WITH TIME ZONE`, `UHUGEINT` or `UUID`.
pub const TYPE_KEY: &str = "agnes:type";

/// What DuckDB hands to Arrow as something else: a large UHUGEINT as a negative number, a BIT as
/// the bytes that store it, a TIMETZ without its zone.
fn bent(kind: &Type) -> Option<&'static str> {
    match kind.id {
        TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_UHUGEINT => Some("UHUGEINT"),
        TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_BIT => Some("BIT"),
        TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_TIME_TZ => Some("TIME WITH TIME ZONE"),
        TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_BIGNUM => Some("BIGNUM"),
        _ => kind.inside.iter().find_map(bent),
    }
}

/// What DuckDB hands to Arrow as text by itself.
fn as_text(kind: &Type) -> Option<&'static str> {
    match kind.id {
        TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_UUID => Some("UUID"),
        TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_VARCHAR if kind.name == "JSON" => Some("JSON"),
        _ => None,
    }
}

/// The deepest type of a column: whoever reads the rows goes down into it on a stack of her own.
const DEPTH_MAX: usize = 100;
const _: () = assert!(DEPTH_MAX < crate::engine::direct::DEPTH_SEEN);

/// Checks that readers can take every column: none is nested deeper than they can go, and none holds what
/// Arrow has no form for.
///
/// # Errors
/// `Limit`, `Invalid`.
pub(super) fn can_be_read(columns: &[Given]) -> Result<()> {
    if columns.iter().any(|column| is_deeper(&column.kind, DEPTH_MAX)) {
        return Err(Error::new(
            Kind::Limit,
            format!("a column of the result is nested more than {DEPTH_MAX} levels deep"),
        ));
    }
    match columns.iter().find(|column| has_variant(&column.kind)) {
        Some(column) => Err(untold(&column.name, "VARIANT")),
        None => Ok(()),
    }
}

fn is_deeper(kind: &Type, most: usize) -> bool {
    match most.checked_sub(1) {
        Some(rest) => kind.inside.iter().any(|inner| is_deeper(inner, rest)),
        None => !kind.inside.is_empty(),
    }
}

fn has_variant(kind: &Type) -> bool {
    kind.id == TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_VARIANT || kind.inside.iter().any(has_variant)
}

fn untold(column: &str, kind: &str) -> Error {
    let shown = crate::name::shown(column);
    Error::new(
        Kind::Invalid,
        format!(
            "the column `{shown}` holds {kind}, which Arrow has no type for; cast it to VARCHAR"
        ),
    )
    .with(Key::Column, column)
}

/// A column of a type that Arrow has none for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    /// It is text already.
    Text(&'static str),
    /// It would be bent.
    Bent(&'static str),
    /// Something inside of it would be.
    BentInside(&'static str),
}

/// The columns of a statement, where Arrow lacks a type for some.
pub(super) struct Columns {
    columns: Vec<Option<Column>>,
}

impl Columns {
    /// None where Arrow carries everything.
    pub(super) fn of(columns: &[Given]) -> Option<Columns> {
        let column = |column: &Given| {
            let kind = &column.kind;
            match (bent(kind), kind.inside.is_empty()) {
                (Some(name), true) => Some(Column::Bent(name)),
                (Some(name), false) => Some(Column::BentInside(name)),
                (None, _) => as_text(kind).map(Column::Text),
            }
        };
        let columns: Vec<_> = columns.iter().map(column).collect();
        columns.iter().any(Option::is_some).then_some(Columns { columns })
    }

    /// Whether some would be bent.
    pub(super) fn are_bent(&self) -> bool {
        self.columns.iter().flatten().any(|column| !matches!(column, Column::Text(_)))
    }

    /// The query with text in place of what is bent.
    ///
    /// # Errors
    /// `Invalid` for a list and its like that holds such a type.
    pub(super) fn as_text(&self, query: &str, given: &[Given]) -> Result<sql::Sql> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (column, given) in self.columns.iter().zip(given) {
            if let Some(Column::BentInside(kind)) = column {
                return Err(untold(&given.name, kind));
            }
            columns.push((given.name.as_str(), matches!(column, Some(Column::Bent(_)))));
        }
        Ok(sql::with_texts(without_end(query), &columns))
    }

    /// The schema with what each text is.
    pub(super) fn told(&self, schema: &SchemaRef) -> SchemaRef {
        let fields =
            schema.fields().iter().zip(&self.columns).map(|(field, column)| match column {
                Some(Column::Text(kind) | Column::Bent(kind) | Column::BentInside(kind)) => {
                    let metadata = [(TYPE_KEY.to_string(), (*kind).to_string())];
                    Arc::new(field.as_ref().clone().with_metadata(metadata))
                }
                None => field.clone(),
            });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// A statement without the semicolons at its end.
fn without_end(query: &str) -> &str {
    let last = tokens(query).filter(|token| !token.is(";")).last();
    last.and_then(|last| query.get(..last.end())).unwrap_or(query)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::direct::Connection;

    #[test]
    fn what_readers_can_not_take_is_named() {
        let connection = Connection::open(&[]).unwrap();
        let nested = |levels| format!("SELECT NULL::INTEGER{} AS deep", "[]".repeat(levels));
        for (text, says) in [
            ("SELECT 1 AS one, [2::VARIANT] AS other".to_string(), Some("`other` holds VARIANT")),
            (nested(DEPTH_MAX - 1), None),
            (nested(DEPTH_MAX), None),
            (nested(DEPTH_MAX + 1), Some("100 levels")),
            (nested(DEPTH_MAX * 2), Some("100 levels")),
        ] {
            let can = can_be_read(connection.statement(&text).unwrap().columns());
            match says {
                None => can.unwrap(),
                Some(says) => {
                    let error = can.unwrap_err();
                    assert!(error.message().contains(says), "{text}: {error}");
                }
            }
        }
    }

    #[test]
    fn semicolons_at_the_end_go() {
        for (text, without) in [
            ("SELECT ';'", "SELECT ';'"),
            ("SELECT 1; ; -- that was ;\n", "SELECT 1"),
            ("SELECT 1 /* ; -- */", "SELECT 1"),
            (";", ";"),
            ("", ""),
        ] {
            assert_eq!(without_end(text), without, "{text}");
        }
    }
}
