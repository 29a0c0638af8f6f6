//! The statements that read a file as a table: what its columns are, and its values as they are
//! written.

use std::borrow::Borrow;
use std::fmt::Write as _;
use std::path::Path;

use super::{ColumnType, Sql, ident, literal, reader_path};
use crate::{ColumnName, Result};

/// How a text file is read, as the arguments of DuckDB's reader function.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reader {
    function: &'static str,
    arguments: String,
}

impl Reader {
    /// `read_csv`, `read_json` and their like on one file.
    pub(crate) fn new(function: &'static str, file: &Path) -> Result<Self> {
        Ok(Reader { function, arguments: reader_path(file)? })
    }

    /// Adds an option with a number or a bare word as its value.
    pub(crate) fn with(mut self, option: &'static str, value: impl std::fmt::Display) -> Self {
        write!(self.arguments, ", {option} = {value}").unwrap_or_default();
        self
    }

    /// Adds an option with text as its value.
    pub(crate) fn with_text(self, option: &'static str, value: &str) -> Self {
        let value = literal(value);
        self.with(option, value)
    }

    /// Says which columns there are, and their types.
    pub(crate) fn with_columns(self, columns: &[(&ColumnName, &str)]) -> Self {
        let column = |(name, kind): &(&ColumnName, &str)| {
            format!("{}: {}", literal(name.as_str()), literal(kind))
        };
        let columns: Vec<String> = columns.iter().map(column).collect();
        self.with("columns", format_args!("{{{}}}", columns.join(", ")))
    }

    /// What `sniff_csv` tells, in a row for each column: delimiter, quote, escape and end of
    /// line, the number of lines before the header, whether there is one, the formats of dates
    /// and timestamps, the column's name and its type.
    pub(crate) fn sniff(&self) -> Sql {
        Sql(format!(
            "SELECT Delimiter, Quote, Escape, NewLineDelimiter, SkipRows::BIGINT, HasHeader, \
             DateFormat, TimestampFormat, c.name, c.type \
             FROM (SELECT *, unnest(Columns) AS c FROM {}({}))",
            self.function, self.arguments
        ))
    }

    /// Every row and column.
    pub(crate) fn select(&self) -> Sql {
        Sql(format!("SELECT * FROM {}({})", self.function, self.arguments))
    }

    /// Every row and column, some columns in another type.
    pub(crate) fn select_casting(&self, casts: &[(ColumnName, Cast)]) -> Sql {
        self.select_replacing(casts, |column, cast| match cast {
            Cast::To(kind) => format!("{column}::{}", kind.0),
            Cast::JsonText => format!("{column} ->> '$'"),
        })
    }

    /// Every row and column, some of them text that is checked and converted: a value that isn't
    /// written in the given way is an error.
    pub(crate) fn select_strictly(&self, columns: &[(&ColumnName, Written)]) -> Sql {
        self.select_replacing(columns, |column, written| match written {
            Written::Integer => format!("{STRICT_INTEGER}({column})"),
            Written::Date => format!("{STRICT_DATE}({column})"),
            Written::Shaped(shaped) => format!(
                "CASE WHEN coalesce({column}, '') = '' THEN NULL \
                 WHEN {STRICT_SHAPE}({column}, {}) THEN {} ELSE error('no {}') END",
                literal(&shaped.shapes.join("\n")),
                shaped.convert(column),
                shaped.kind
            ),
        })
    }

    fn select_replacing<C: Borrow<ColumnName>, T>(
        &self,
        columns: &[(C, T)],
        expression: impl Fn(&str, &T) -> String,
    ) -> Sql {
        if columns.is_empty() {
            return self.select();
        }
        let replaced: Vec<String> = columns
            .iter()
            .map(|(column, how)| {
                let column = ident(column.borrow());
                format!("{} AS {column}", expression(&column, how))
            })
            .collect();
        Sql(format!(
            "SELECT * REPLACE ({}) FROM {}({})",
            replaced.join(", "),
            self.function,
            self.arguments
        ))
    }

    /// The first row whose value in a column of text isn't written in the given way, as
    /// [`Reader::select_first`] gives it.
    pub(crate) fn select_first_unlike(
        &self,
        column: &ColumnName,
        written: &Written,
        all: &[&ColumnName],
    ) -> Sql {
        let unlike = match written {
            Written::Integer => format!("TRY({STRICT_INTEGER}(value)) IS NULL"),
            Written::Date => format!("TRY({STRICT_DATE}(value)) IS NULL"),
            Written::Shaped(shaped) => format!(
                "NOT {STRICT_SHAPE}(value, {}) OR TRY({}) IS NULL",
                literal(&shaped.shapes.join("\n")),
                shaped.convert("value")
            ),
        };
        self.select_first(column, all, &format!("value <> '' AND ({unlike})"))
    }

    /// The first row whose value in a column isn't of a type.
    pub(crate) fn select_first_no(&self, column: &ColumnName, kind: &ColumnType) -> Sql {
        let condition = format!("value IS NOT NULL AND TRY_CAST(value AS {}) IS NULL", kind.0);
        self.select_first(column, &[], &condition)
    }

    /// Of rows that are JSON values in a column `json`: how many there are, how many are objects,
    /// and the first that is none, counted from 1.
    pub(crate) fn count_objects(&self) -> Sql {
        Sql(format!(
            "SELECT count(*), count(*) FILTER (object), min(row) FILTER (NOT object) FROM \
             (SELECT row_number() OVER () AS row, json_type(json) IS NOT DISTINCT FROM 'OBJECT' \
             AS object FROM {}({}))",
            self.function, self.arguments
        ))
    }

    /// How many values of a column of text lose something in this way.
    pub(crate) fn count_bent(&self, column: &ColumnName, losing: Losing) -> Sql {
        let column = ident(column);
        let lost = match losing {
            Losing::Digits => format!(
                "regexp_full_match({column}, '[-]?[0-9]{{16,}}') AND (strlen({column}) > 38 \
                 OR TRY_CAST({column} AS HUGEINT)::DOUBLE::HUGEINT \
                 IS DISTINCT FROM TRY_CAST({column} AS HUGEINT))"
            ),
            Losing::Moments => format!(
                "NOT regexp_matches({column}, '^[0-9]') \
                 OR regexp_matches({column}, '[.][0-9]{{7,}}')"
            ),
        };
        Sql(format!("SELECT count(*) FROM {}({}) WHERE {lost}", self.function, self.arguments))
    }

    /// Number of the first row with a value like that, counted from 1, the number of line
    /// breaks within values of the rows before it, and the value. `all` are the columns in
    /// which breaks may stand.
    fn select_first(&self, column: &ColumnName, all: &[&ColumnName], condition: &str) -> Sql {
        let breaks = match all {
            [] => "0".to_string(),
            all => {
                let all: Vec<String> = all.iter().map(|column| ident(*column)).collect();
                format!(
                    "len(concat_ws('', {0})) - len(replace(concat_ws('', {0}), chr(10), ''))",
                    all.join(", ")
                )
            }
        };
        Sql(format!(
            "SELECT row, (breaks - own)::BIGINT, value FROM (SELECT row, own, value, \
             sum(own) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS breaks \
             FROM (SELECT row_number() OVER () AS row, {breaks} AS own, {}::VARCHAR AS value \
             FROM {}({}))) WHERE {condition} ORDER BY row LIMIT 1",
            ident(column),
            self.function,
            self.arguments
        ))
    }
}

/// What becomes of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cast {
    /// Another type.
    To(ColumnType),
    /// The text of JSON values: a string without its quotes.
    JsonText,
}

/// What a type may lose of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Losing {
    /// Floating point keeps 15 digits of a whole number.
    Digits,
    /// Moments keep six digits of a second, and take `infinity` and `epoch` for dates.
    Moments,
}

/// The functions that the files connector gives its engine: text to BIGINT and to DATE, or an
/// error, and whether a text has a shape.
pub(crate) const STRICT_INTEGER: &str = "agnes_integer";
pub(crate) const STRICT_DATE: &str = "agnes_date";
pub(crate) const STRICT_SHAPE: &str = "agnes_has_shape";

/// A usual way in which values stand in text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    /// Digits without leading zeros that 64 bits hold, a sign before them and spaces around
    /// them where there are any.
    Integer,
    /// `2026-01-31`.
    Date,
    /// Some other way of writing moments, the same for all.
    Shaped(Shaped),
}

/// Moments of a few shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shaped {
    /// The type: DATE, TIME, TIMESTAMP or TIMESTAMP WITH TIME ZONE.
    pub(crate) kind: &'static str,
    /// As the files connector writes shapes.
    pub(crate) shapes: Vec<String>,
    /// As `strptime` takes it; the engine's own way of reading when absent.
    pub(crate) format: Option<String>,
}

impl Shaped {
    fn convert(&self, text: &str) -> String {
        match &self.format {
            Some(format) => format!("strptime({text}, {})::{}", literal(format), self.kind),
            None => format!("{text}::{}", self.kind),
        }
    }
}

impl Written {
    /// The type that such values have.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Written::Integer => "BIGINT",
            Written::Date => "DATE",
            Written::Shaped(shaped) => shaped.kind,
        }
    }
}
