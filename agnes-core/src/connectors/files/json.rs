//! Reading JSON and JSON lines: the types are those of all rows, since a column that is null in
//! a sample would lose every later value.

use duckdb::Connection;

use super::inputs::{Format, Input};
use super::mistake::{at, mistake};
use super::read::{LINE_MAX, SAMPLE_ROWS, Sniffed};
use super::{FilesOptions, Mistakes};
use crate::sql::{Cast, ColumnType, Losing, Reader, Sql};
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
        let plain = || -> Result<Reader> {
            let lines = input.format == Format::JsonLines;
            Ok(Reader::new("read_json", &input.path)?
                .with("maximum_object_size", LINE_MAX)
                .with_text("format", if lines { "newline_delimited" } else { "auto" }))
        };
        let reader = |rows: i64| Ok::<_, Error>(plain()?.with("sample_size", rows));
        let mut json = Json { reader: reader(-1)?, columns: Vec::new(), wide: 0 };
        // Where one can't be had, reading will say what is wrong.
        let sampled = engine::columns(connection, &reader(SAMPLE_ROWS)?.select());
        let all = engine::columns(connection, &json.reader.select());
        let (Ok(sampled), Ok(all)) = (sampled, all) else { return Ok(json) };
        json.columns = all;
        json.check_objects(input, options, connection)?;
        if options.mistakes == Mistakes::Fail {
            json.check_types(input, connection, &sampled)?;
        }
        json.keep_what_would_be_lost(connection, &plain()?)?;
        Ok(json)
    }

    /// Where a row is no object, DuckDB makes one column `json` of a whole file. That is right
    /// for a list of numbers, and not where one of many objects is broken.
    fn check_objects(
        &self,
        input: &Input,
        options: &FilesOptions,
        connection: &Connection,
    ) -> Result<()> {
        let [(name, _)] = self.columns.as_slice() else { return Ok(()) };
        let objects = self.reader.clone().with("records", true);
        if name != "json" || engine::columns(connection, &objects.select()).is_ok() {
            return Ok(());
        }
        let count = |row: &duckdb::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let counted: std::result::Result<(i64, i64, Option<i64>), _> =
            connection.query_row(self.reader.count_objects().as_str(), [], count);
        let (line, message) = match counted {
            Ok((0, ..)) => (None, "it holds no row: there is nothing to read columns from"),
            Ok((_, 1.., Some(row))) if options.mistakes == Mistakes::Fail => {
                let message = "it is no object, as other rows are; mend the line, or read the \
                               rows as text with `--mistakes text`";
                (Some(row), message)
            }
            _ => return Ok(()),
        };
        Err(at(input, line, message))
    }

    /// DuckDB reads whole numbers that 64 bits don't hold as floating point, which keeps 15
    /// digits of them, `infinity` as a date, and of a second six digits: such a column stays text.
    fn keep_what_would_be_lost(&mut self, connection: &Connection, plain: &Reader) -> Result<()> {
        let named = |(name, kind): &(String, String)| {
            let losing = if kind == "DOUBLE" {
                Losing::Digits
            } else if kind == "DATE" || kind.starts_with("TIME") {
                Losing::Moments
            } else {
                return None;
            };
            Some((ColumnName::parse(name.clone()).ok()?, losing))
        };
        let suspects: Vec<(ColumnName, Losing)> = self.columns.iter().filter_map(named).collect();
        if suspects.is_empty() {
            return Ok(());
        }
        let as_text: Vec<(&ColumnName, &str)> =
            suspects.iter().map(|(column, _)| (column, "VARCHAR")).collect();
        let texts = plain.clone().with_columns(&as_text);
        let mut any = false;
        for (column, losing) in &suspects {
            let count = texts.count_bent(column, *losing);
            let found = connection.query_row(count.as_str(), [], |row| row.get(0));
            // What can't be counted is told by reading.
            if found.is_ok_and(|bent: i64| bent > 0) {
                let meant = self.columns.iter_mut().find(|(name, _)| name == column.as_str());
                meant.into_iter().for_each(|(_, kind)| *kind = "VARCHAR".into());
                any = true;
            }
        }
        if any {
            let names = self.columns.iter().map(|(name, _)| ColumnName::parse(name.clone()));
            let names: Vec<ColumnName> = names.collect::<Result<_>>()?;
            let kinds = self.columns.iter().map(|(_, kind)| kind.as_str());
            let columns: Vec<(&ColumnName, &str)> = names.iter().zip(kinds).collect();
            self.reader = plain.clone().with_columns(&columns);
        }
        Ok(())
    }

    fn check_types(
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
            let cast = match kind.as_str() {
                "JSON" => Cast::JsonText,
                kind if is_wide(kind) || kind.contains(NULL) => {
                    let wide = WIDE.get(self.wide).unwrap_or(&"VARCHAR");
                    let kind = kind.replace(NULL, "VARCHAR").replace("UHUGEINT", "HUGEINT");
                    Cast::To(ColumnType::parse(&kind.replace("HUGEINT", wide))?)
                }
                _ => continue,
            };
            casts.push((ColumnName::parse(name.clone())?, cast));
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
    kind.contains("HUGEINT")
}
