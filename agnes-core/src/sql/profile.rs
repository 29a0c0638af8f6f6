//! The statements of the profiler, over the files of one table.

use super::{ColumnName, Sql, ident, reader_path};
use crate::Result;

/// The rows that are looked at: all, or so many of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample(String);

impl Sample {
    /// Every row of these files.
    pub(crate) fn all<P: AsRef<std::path::Path>>(files: &[P], by_name: bool) -> Result<Sample> {
        let Sql(select) = super::select_parquet(files, by_name)?;
        Ok(Sample(format!("({select})")))
    }

    /// Exactly `wanted` of the rows of these files, spread over all of them: those whose number
    /// comes below `wanted` when it is multiplied by a number that has no divisor in common with
    /// how many there are. The same files give the same rows.
    ///
    /// `files` come with their rows. None of their columns may be called `file_row_number`.
    pub(crate) fn some<P: AsRef<std::path::Path>>(
        files: &[(P, u64)],
        by_name: bool,
        wanted: u64,
    ) -> Result<Sample> {
        let paths = files.iter().map(|(file, _)| reader_path(file.as_ref()));
        let paths = paths.collect::<Result<Vec<_>>>()?.join(", ");
        let by_name = if by_name { ", union_by_name = true" } else { "" };
        let total: u64 = files.iter().map(|(_, rows)| rows).sum();
        let mut before = 0;
        let starts = files.iter().map(|(_, rows)| {
            before += rows;
            (before - rows).to_string()
        });
        let starts = starts.collect::<Vec<_>>().join(", ");
        let number = match files.len() {
            1 => "file_row_number".to_string(),
            _ => format!("([{starts}]::BIGINT[])[file_index::BIGINT + 1] + file_row_number"),
        };
        // 64 bits are enough for three thousand million rows, and twice as fast.
        let wide = if total < 3_000_000_000 { "BIGINT" } else { "HUGEINT" };
        let step = step(total);
        Ok(Sample(format!(
            "(SELECT * FROM read_parquet([{paths}]{by_name}, hive_partitioning = false) \
             WHERE (({number})::{wide} * {step}) % {total} < {wanted})"
        )))
    }

    /// So many rows by chance, where [`Sample::some`] can't tell them by their numbers.
    pub(crate) fn by_chance<P: AsRef<std::path::Path>>(
        files: &[P],
        by_name: bool,
        wanted: u64,
    ) -> Result<Sample> {
        let Sample(all) = Sample::all(files, by_name)?;
        Ok(Sample(format!(
            "(SELECT * FROM {all} USING SAMPLE reservoir({wanted} ROWS) REPEATABLE (1))"
        )))
    }
}

impl Sample {
    /// Some of its columns. Naming them spares the engine the others: of a thousand it takes 10 ms
    /// to find out what `*` stands for.
    fn of<'c>(&self, columns: impl IntoIterator<Item = &'c ColumnName>) -> String {
        let columns: Vec<String> = columns.into_iter().map(ident).collect();
        format!("(SELECT {} FROM {})", columns.join(", "), self.0)
    }
}

/// Some columns of a sample, read once and held in memory.
pub(crate) fn hold(columns: &[&ColumnName], sample: &Sample) -> (Sql, Sample) {
    let columns: Vec<String> = columns.iter().map(|column| ident(*column)).collect();
    let held = "main.\"agnes held\"".to_string();
    let statement = format!(
        "CREATE OR REPLACE TABLE {held} AS SELECT {} FROM {}",
        columns.join(", "),
        sample.0
    );
    (Sql(statement), Sample(held))
}

/// A number near the golden ratio of `total`, which spreads best, without a common divisor.
fn step(total: u64) -> u64 {
    fn divisor(a: u64, b: u64) -> u64 {
        if b == 0 { a } else { divisor(b, a % b) }
    }
    let near = (total as f64 * 0.618_033_988_749_895) as u64;
    (near.max(1)..).find(|step| divisor(*step, total) == 1).unwrap_or(1)
}

/// The most that is shown of a value, characters.
const TEXT_MAX: usize = 1000;

/// What is asked about a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Values that aren't NULL.
    Filled,
    /// The smallest number, as text.
    Min,
    /// The largest number, as text.
    Max,
    Mean,
    Deviation,
    /// The quantiles at 5, 25, 50, 75 and 95 %, as the text of a list.
    Quantiles,
    Zeros,
    Negative,
    /// The length of the shortest text.
    MinLength,
    MaxLength,
    AverageLength,
    /// The first moment, as text.
    Earliest,
    Latest,
    /// Days between the two.
    Days,
    True,
}

/// A column that something is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'c> {
    pub(crate) column: &'c ColumnName,
    /// The name that stands for it where NaN and infinities don't count; none where it has none.
    pub(crate) finite: Option<&'c ColumnName>,
    pub(crate) is_text: bool,
}

impl Asked<'_> {
    fn number(&self) -> String {
        ident(self.finite.unwrap_or(self.column))
    }

    fn text(&self) -> String {
        match self.is_text {
            true => ident(self.column),
            false => format!("CAST({} AS VARCHAR)", ident(self.column)),
        }
    }
}

fn expression(ask: Ask, asked: &Asked<'_>) -> String {
    let c = ident(asked.column);
    let dated = format!("FILTER (WHERE isfinite({c}))");
    match ask {
        Ask::Filled => format!("count({c})::DOUBLE"),
        Ask::Min => format!("min({})::VARCHAR", asked.number()),
        Ask::Max => format!("max({})::VARCHAR", asked.number()),
        Ask::Mean => format!("avg({})::DOUBLE", asked.number()),
        Ask::Deviation => format!("stddev_samp({}::DOUBLE)", asked.number()),
        Ask::Quantiles => {
            let quantiles = "[0.05, 0.25, 0.5, 0.75, 0.95]";
            // Of decimals they would be decimals again, as short as those.
            format!("quantile_cont({}::DOUBLE, {quantiles})::VARCHAR", asked.number())
        }
        Ask::Zeros => format!("count_if({c} = 0)::DOUBLE"),
        Ask::Negative => format!("count_if({c} < 0)::DOUBLE"),
        Ask::MinLength => format!("min(length({}))::DOUBLE", asked.text()),
        Ask::MaxLength => format!("max(length({}))::DOUBLE", asked.text()),
        Ask::AverageLength => format!("avg(length({}))", asked.text()),
        Ask::Earliest => format!("(min({c}) {dated})::VARCHAR"),
        Ask::Latest => format!("(max({c}) {dated})::VARCHAR"),
        Ask::Days => format!(
            "date_diff('day', CAST(min({c}) {dated} AS DATE), CAST(max({c}) {dated} AS DATE))::DOUBLE"
        ),
        Ask::True => format!("count_if({c})::DOUBLE"),
    }
}

/// One row with the answers to all these, read in one scan.
pub(crate) fn answers(asked: &[(Ask, Asked<'_>)], sample: &Sample) -> Sql {
    let answers: Vec<String> = asked.iter().map(|(ask, of)| expression(*ask, of)).collect();
    let mut finite: Vec<String> = Vec::new();
    for (_, of) in asked {
        let Some(name) = of.finite else { continue };
        let c = ident(of.column);
        let one = format!(", CASE WHEN isfinite({c}) THEN {c} END AS {}", ident(name));
        if !finite.contains(&one) {
            finite.push(one);
        }
    }
    let finite = finite.concat();
    let mut columns: Vec<&ColumnName> = asked.iter().map(|(_, of)| of.column).collect();
    columns.dedup();
    Sql(format!(
        "SELECT {} FROM (SELECT *{finite} FROM {})",
        answers.join(", "),
        sample.of(columns)
    ))
}

/// The number of different values of a column, and the most frequent ones as text with how often
/// they come, in one scan.
pub(crate) fn values(column: &ColumnName, sample: &Sample, most: usize) -> Sql {
    let c = ident(column);
    Sql(format!(
        "WITH v AS (SELECT {c} AS v, count(*) AS n FROM {} WHERE {c} IS NOT NULL GROUP BY 1) \
         SELECT (SELECT count(*) FROM v), left(CAST(v AS VARCHAR), {TEXT_MAX}), n FROM (FROM v ORDER BY n DESC, v LIMIT {most}) \
         ORDER BY n DESC, v",
        sample.of([column])
    ))
}

/// How many numbers of a column fall into each of `bins` equal parts of `min` to `max`, both of
/// which belong to a part. Parts without any are left out.
pub(crate) fn histogram(
    column: &ColumnName,
    sample: &Sample,
    (min, max): (f64, f64),
    bins: usize,
) -> Sql {
    let number = format!("CAST({} AS DOUBLE)", ident(column));
    // In two halves, so that the width of no range is infinite.
    Sql(format!(
        "SELECT least(floor(({number} / 2 - {min:?}::DOUBLE / 2) / ({max:?}::DOUBLE / 2 - {min:?}::DOUBLE / 2) \
         * {bins}), {})::BIGINT AS bin, count(*) FROM {} WHERE isfinite({number}) GROUP BY 1 ORDER BY 1",
        bins.saturating_sub(1),
        sample.of([column])
    ))
}

/// How many moments of a column fall into each quarter.
pub(crate) fn quarters(column: &ColumnName, sample: &Sample) -> Sql {
    let c = ident(column);
    Sql(format!(
        "SELECT year({c}) || '-Q' || quarter({c}), count(*) FROM {} WHERE isfinite({c}) \
         GROUP BY year({c}), quarter({c}) ORDER BY year({c}), quarter({c})",
        sample.of([column])
    ))
}

/// How many rows have the key of another one.
pub(crate) fn duplicates(key: &[ColumnName], sample: &Sample) -> Sql {
    let key = key.iter().map(ident).collect::<Vec<_>>().join(", ");
    Sql(format!(
        "SELECT (SELECT count(*) FROM {0}) - (SELECT count(*) FROM (SELECT DISTINCT {key} FROM {0}))",
        sample.0
    ))
}

/// The first rows, every value as text.
pub(crate) fn first_rows(columns: &[ColumnName], sample: &Sample, rows: usize) -> Sql {
    let text =
        |column: &ColumnName| format!("left(CAST({} AS VARCHAR), {TEXT_MAX})", ident(column));
    let columns: Vec<String> = columns.iter().map(text).collect();
    Sql(format!("SELECT {} FROM {} LIMIT {rows}", columns.join(", "), sample.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_exactly_the_rows_that_were_wanted() {
        for total in [2u64, 10, 97, 1000, 4096, 10_007] {
            let step = step(total);
            for wanted in [1, total / 3, total - 1] {
                let taken = (0..total).filter(|row| row * step % total < wanted).count() as u64;
                assert_eq!(taken, wanted, "{total}");
            }
            // Of both halves of the table about as many, closer than by chance.
            let half = |from| {
                (from..from + total / 2).filter(|row| row * step % total < total / 2).count()
            };
            let apart = half(0).abs_diff(half(total - total / 2));
            assert!(apart as f64 <= 2.0 + (total as f64).sqrt(), "{total}: {apart}");
        }
    }

    #[test]
    fn what_is_held_is_what_was_there() {
        let connection = crate::engine::in_memory(&crate::Limits::default()).unwrap();
        let sample =
            Sample("(SELECT i AS a, i % 2 AS \"b \"\"c\", 'x' AS d FROM range(4) t(i))".into());
        let (b, d) = (ColumnName::parse("b \"c").unwrap(), ColumnName::parse("d").unwrap());
        let (statement, held) = hold(&[&b, &d], &sample);
        // Twice: the next columns take their place.
        for _ in 0..2 {
            connection.execute_batch(statement.as_str()).unwrap();
        }
        let most = values(&b, &held, 5);
        let count: i64 = connection.query_row(most.as_str(), [], |row| row.get(0)).unwrap();
        assert_eq!(count, 2);
    }
}
