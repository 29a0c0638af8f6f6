//! Columns of types that Arrow has none for: they come as text, and the field says of which.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use duckdb::Statement;
use duckdb::core::{LogicalTypeHandle, LogicalTypeId};

use super::tokens::tokens;
use crate::{Error, Key, Kind, Result, sql};

/// Where a field that holds the text of another type says which: `BIT`, `BIGNUM`, `JSON`,
/// `TIME WITH TIME ZONE`, `UHUGEINT` or `UUID`.
pub const TYPE_KEY: &str = "agnes:type";

/// What DuckDB hands to Arrow as something else: a large UHUGEINT as a negative number, a BIT as
/// the bytes that store it, a TIMETZ without its zone.
fn bent(kind: &LogicalTypeHandle) -> Option<&'static str> {
    match kind.id() {
        LogicalTypeId::UHugeint => Some("UHUGEINT"),
        LogicalTypeId::Bit => Some("BIT"),
        LogicalTypeId::TimeTZ => Some("TIME WITH TIME ZONE"),
        LogicalTypeId::Bignum => Some("BIGNUM"),
        _ => (0..kind.num_children()).find_map(|at| bent(&kind.child(at))),
    }
}

/// What DuckDB hands to Arrow as text by itself.
fn as_text(kind: &LogicalTypeHandle) -> Option<&'static str> {
    match kind.id() {
        LogicalTypeId::Uuid => Some("UUID"),
        LogicalTypeId::Varchar if kind.get_alias().as_deref() == Some("JSON") => Some("JSON"),
        _ => None,
    }
}

/// The deepest type of a column: whoever reads the rows goes down into it on a stack of her own.
const DEPTH_MAX: usize = 100;

/// Checks that no column is nested deeper than readers can go.
///
/// # Errors
/// `Limit`.
pub(super) fn are_shallow(statement: &Statement<'_>) -> Result<()> {
    let mut columns = (0..statement.column_count()).map(|at| statement.column_logical_type(at));
    match columns.any(|kind| is_deeper(&kind, DEPTH_MAX)) {
        true => Err(Error::new(
            Kind::Limit,
            format!("a column of the result is nested more than {DEPTH_MAX} levels deep"),
        )),
        false => Ok(()),
    }
}

fn is_deeper(kind: &LogicalTypeHandle, most: usize) -> bool {
    let mut children = (0..kind.num_children()).map(|at| kind.child(at));
    match most.checked_sub(1) {
        Some(rest) => children.any(|child| is_deeper(&child, rest)),
        None => children.next().is_some(),
    }
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
    pub(super) fn of(statement: &Statement<'_>) -> Option<Columns> {
        let column = |at| {
            let kind = statement.column_logical_type(at);
            match (bent(&kind), kind.num_children()) {
                (Some(name), 0) => Some(Column::Bent(name)),
                (Some(name), _) => Some(Column::BentInside(name)),
                (None, _) => as_text(&kind).map(Column::Text),
            }
        };
        let columns: Vec<_> = (0..statement.column_count()).map(column).collect();
        columns.iter().any(Option::is_some).then_some(Columns { columns })
    }

    /// Whether some would be bent.
    pub(super) fn are_bent(&self) -> bool {
        self.columns.iter().flatten().any(|column| !matches!(column, Column::Text(_)))
    }

    /// A statement that gives the names of a query's columns.
    pub(super) fn names(query: &str) -> sql::Sql {
        sql::without_rows(without_end(query))
    }

    /// The query with text in place of what is bent, told the columns' names.
    ///
    /// # Errors
    /// `Invalid` for a list and its like that holds such a type.
    pub(super) fn as_text(&self, query: &str, names: &Schema) -> Result<sql::Sql> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(names.fields()) {
            if let Some(Column::BentInside(kind)) = column {
                return Err(Error::new(
                    Kind::Invalid,
                    format!(
                        "the column `{}` holds {kind}, which Arrow has no type for; cast it to \
                         VARCHAR",
                        crate::name::shown(field.name())
                    ),
                )
                .with(Key::Column, field.name()));
            }
            columns.push((field.name().as_str(), matches!(column, Some(Column::Bent(_)))));
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
    use super::without_end;

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
