//! Reading JSON and JSON lines: the types are those of all rows, since a column that is null in
//! a sample would lose every later value.

use duckdb::Connection;

use super::inputs::{Format, Input};
use super::mistake::mistake;
use super::read::{LINE_MAX, SAMPLE_ROWS, Sniffed};
use super::{FilesOptions, Mistakes};
use crate::sql::{Cast, ColumnType, Reader, Sql};
use crate::{ColumnName, Error, Result, engine};

/// A file and how it is understood so far.
pub(super) struct Json {
    reader: Reader,
    /// Names and types by all rows.
    columns: Vec<(String, String)>,
    /// How whole numbers are kept that DuckDB reads with 128 bits, as it does where some are
    /// negative and some are not: an index into [`WIDE`].
    wide: usize,
}

/// From the narrowest to the widest.
const WIDE: [&str; 3] = ["BIGINT", "DECIMAL(38, 0)", "VARCHAR"];

/// What a type says of a part in which no row has a value.
const NULL: &str = "\"NULL\"";

impl Json {
    /// Looks at every row of a file. A column that held numbers, say, and turns out to hold
    /// text as well is a mistake.
    ///
    /// # Errors
    /// `Invalid` for a mistake, where mistakes are errors.
    pub(super) fn sniff(
        input: &Input,
        options: &FilesOptions,
        connection: &Connection,
    ) -> Result<Self> {
        let reader = |rows: i64| -> Result<Reader> {
            let lines = input.format == Format::JsonLines;
            Ok(Reader::new("read_json", &input.path)?
                .with("sample_size", rows)
                .with("maximum_object_size", LINE_MAX)
                .with_text("format", if lines { "newline_delimited" } else { "auto" }))
        };
        let mut json = Json { reader: reader(-1)?, columns: Vec::new(), wide: 0 };
        // Where one can't be had, reading will say what is wrong.
        let sampled = engine::columns(connection, &reader(SAMPLE_ROWS)?.select());
        let all = engine::columns(connection, &json.reader.select());
        if let (Ok(sampled), Ok(all)) = (sampled, all) {
            json.columns = all;
            if options.mistakes == Mistakes::Fail {
                json.check(input, connection, &sampled)?;
            }
        }
        Ok(json)
    }

    fn check(
        &self,
        input: &Input,
        connection: &Connection,
        sampled: &[(String, String)],
    ) -> Result<()> {
        let is_text = |kind: &str| matches!(kind, "VARCHAR" | "JSON");
        let mistaken = self.columns.iter().filter(|(_, kind)| is_text(kind));
        let mistaken = mistaken.into_iter().find_map(|(name, _)| {
            let (_, before) = sampled.iter().find(|(sampled, _)| sampled == name)?;
            (!is_text(before) && !before.contains(NULL)).then_some((name, before))
        });
        let Some((name, before)) = mistaken else { return Ok(()) };
        let column = ColumnName::parse(name.clone())?;
        let found = ColumnType::parse(before).ok().and_then(|kind| {
            let find = self.reader.select_first_no(&column, &kind);
            let row = connection.query_row(find.as_str(), [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(2)?))
            });
            row.ok()
        });
        let Some((row, value)) = found else { return Err(mistake(input, None, None, &column)) };
        // A text without its quotes.
        let value = serde_json::from_str::<String>(&value).unwrap_or(value);
        Err(mistake(input, Some(row), Some((&value, before)), &column))
    }
}

impl Sniffed for Json {
    /// Parquet has no whole numbers of 128 bits, which DuckDB would write as floating point,
    /// and no columns without a type, which it writes in a way that it can't filter. Values of
    /// several types in one column are text.
    fn query(&self) -> Result<Sql> {
        let mut casts = Vec::new();
        for (name, kind) in &self.columns {
            let to = |kind: &str| ColumnType::parse(kind).map(Cast::To);
            let cast: Result<Cast, Error> = match kind.as_str() {
                kind if is_wide(kind) => to(WIDE.get(self.wide).unwrap_or(&"VARCHAR")),
                "JSON" => Ok(Cast::JsonText),
                kind if kind.contains(NULL) => to(&kind.replace(NULL, "VARCHAR")),
                _ => continue,
            };
            if let (Ok(name), Ok(cast)) = (ColumnName::parse(name.clone()), cast) {
                casts.push((name, cast));
            }
        }
        Ok(self.reader.select_casting(&casts))
    }

    /// Tries the next wider type for whole numbers of 128 bits.
    fn again(&mut self, _: &str) -> Result<bool> {
        let has_wide = self.columns.iter().any(|(_, kind)| is_wide(kind));
        let more = has_wide && self.wide + 1 < WIDE.len();
        self.wide += usize::from(more);
        Ok(more)
    }
}

fn is_wide(kind: &str) -> bool {
    matches!(kind, "HUGEINT" | "UHUGEINT")
}
