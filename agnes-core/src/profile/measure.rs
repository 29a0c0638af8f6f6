//! Making a profile: two scans of the table's files, and the sums of what they give.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::column::{
    Alert, AlertKind, BooleanStats, Category, ColumnProfile, DateStats, Histogram, NumericStats,
    StringStats, TopValue,
};
use super::{DateRange, Profile, ProfileSettings};
use crate::manifest::Published;
use crate::orchestrator::check_intact;
use crate::sql::Sql;
use crate::sql::profile::{self as ask, Ask, Asked, Sample};
use crate::worker::{Fate, Foreign, Texts};
use crate::{Agnes, ColumnName, Error, Key, Kind, Limits, Result};

/// How long a table may be measured.
const PATIENCE: Duration = Duration::from_secs(3600);
/// What is being done, for errors.
const MEASURE: &str = "profile a table";

/// A table that is being measured, or some columns of it.
#[derive(Clone, Copy)]
struct Measuring<'a> {
    engine: &'a Foreign,
    settings: &'a ProfileSettings,
    /// The rows that are looked at.
    sample: &'a Sample,
    /// How many they are.
    rows: u64,
}

/// The answers about one column.
type Answers = Vec<(Ask, Option<String>)>;

pub(super) fn profile(agnes: &Agnes, subject: &Published) -> Result<Profile> {
    let Published { name, view, table } = subject;
    if view.files().is_empty() {
        return Err(Error::new(
            Kind::Invalid,
            format!("`{name}` has no profile: its rows are in a remote system"),
        )
        .with(Key::Table, name));
    }
    check_intact(agnes.layout(), name, view)?;
    let settings = &agnes.settings().profiler;
    let limits = Limits { memory_bytes: settings.memory_bytes, threads: settings.threads };
    let sampled = view.rows > settings.sample_size;
    let analytics = agnes.layout().analytics();
    let files: Vec<PathBuf> = view.files().iter().map(|pin| pin.path_in(&analytics)).collect();
    // The files are a stranger's.
    let engine = Foreign::open(agnes.pool(), &limits, PATIENCE, files.clone(), None)?;
    let measuring = Measuring {
        engine: &engine,
        settings,
        sample: &sample(subject, &files, settings, sampled)?,
        rows: view.rows.min(settings.sample_size),
    };
    let all = Sample::all(&files, view.by_name())?;
    let key: Vec<ColumnName> =
        table.as_ref().map(|table| table.declaration.primary_key.clone()).unwrap_or_default();
    let columns = measuring.columns(subject, &key)?;
    let sample_rows = measuring.sample_rows(subject, &all);
    let duplicate_rows = measuring.duplicates(subject, &key);
    if let Some(fate) = engine.fate() {
        return Err(ended(fate, subject));
    }
    let missing: u64 = columns.iter().map(|column| column.null_count).sum();
    let full: f64 = columns.iter().map(|column| column.completeness_pct).sum();
    let mut variable_types = BTreeMap::new();
    for column in &columns {
        *variable_types.entry(column.type_category).or_insert(0) += 1;
    }
    let date_range = columns.iter().find_map(|column| {
        let DateStats { earliest, latest, span_days, .. } = column.date_stats.clone()?;
        Some(DateRange { earliest, latest, span_days })
    });
    Ok(Profile {
        table_id: subject.id(),
        description: None,
        primary_key: key.iter().map(ToString::to_string).collect(),
        sync_strategy: Default::default(),
        row_count: view.rows,
        column_count: columns.len(),
        file_size_mb: rounded(view.size_bytes as f64 / f64::from(1 << 20)).unwrap_or(0.0),
        avg_completeness: rounded(full / columns.len().max(1) as f64).unwrap_or(0.0),
        missing_cells: missing,
        missing_cells_pct: percent(missing, measuring.rows * columns.len() as u64),
        duplicate_rows,
        variable_types,
        date_range,
        alerts: columns.iter().flat_map(|column| column.alerts.clone()).collect(),
        sampled,
        last_sync: None,
        related_tables: Vec::new(),
        used_by_metrics: Vec::new(),
        sample_rows,
        columns,
        profiled_at: agnes.now(),
    })
}

/// What is said of a table that ended its worker: what it didn't answer isn't there.
fn ended(fate: Fate, subject: &Published) -> Error {
    let name = &subject.name;
    let (kind, why) = match fate {
        Fate::Crashed => (
            Kind::Limit,
            format!(
                "ends the engine that reads it; let `{}` be written again",
                subject.view.source
            ),
        ),
        Fate::Time => (Kind::Limit, format!("takes longer than {} s", PATIENCE.as_secs())),
        Fate::Memory | Fate::Killed => (Kind::Unavailable, "was ended; try again".to_string()),
    };
    Error::new(kind, format!("the profile of `{name}` {why}")).with(Key::Table, name)
}

/// The rows that are looked at.
fn sample(
    subject: &Published,
    files: &[PathBuf],
    settings: &ProfileSettings,
    sampled: bool,
) -> Result<Sample> {
    let (view, by_name) = (&subject.view, subject.view.by_name());
    if !sampled {
        return Sample::all(files, by_name);
    }
    let virtual_names = ["file_row_number", "file_index"];
    let is_taken = |name: &str| virtual_names.iter().any(|taken| name.eq_ignore_ascii_case(taken));
    if view.columns.iter().any(|column| is_taken(&column.name)) {
        return Sample::by_chance(files, by_name, settings.sample_size);
    }
    let rows = view.files().iter().map(|pin| pin.rows);
    let files: Vec<(&PathBuf, u64)> = files.iter().zip(rows).collect();
    Sample::some(&files, by_name, settings.sample_size)
}

/// To two places; none for what is no number.
fn rounded(number: f64) -> Option<f64> {
    let rounded = (number * 100.0).round() / 100.0;
    // So large that there are no places.
    let rounded = if rounded.is_finite() { rounded } else { number };
    number.is_finite().then_some(rounded)
}

fn percent(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => rounded(part as f64 / whole as f64 * 100.0).unwrap_or(0.0),
    }
}

/// The columns that one statement asks about. Quantiles keep every number until they are known.
const AT_ONCE: usize = 4;
/// The values that are held in memory at a time, of some columns.
const HELD_VALUES: usize = 2_000_000;
/// The columns that are: each statement looks at all of a table's, whatever it asks.
const HELD_COLUMNS: usize = 64;

/// What a first scan asks of a column of a category.
fn asks(category: Category) -> &'static [Ask] {
    use Ask::{
        AverageLength, Days, Deviation, Earliest, Filled, Latest, Max, MaxLength, Mean, Min,
        MinLength, Negative, Quantiles, True, Zeros,
    };
    match category {
        Category::Numeric => &[Filled, Min, Max, Mean, Deviation, Quantiles, Zeros, Negative],
        Category::String => &[Filled, MinLength, MaxLength, AverageLength],
        Category::Date | Category::Timestamp => &[Filled, Earliest, Latest, Days],
        Category::Boolean => &[Filled, True],
    }
}

impl Measuring<'_> {
    fn columns(&self, subject: &Published, key: &[ColumnName]) -> Result<Vec<ColumnProfile>> {
        let mut columns = Vec::with_capacity(subject.view.columns.len());
        for column in &subject.view.columns {
            let name = ColumnName::parse(&*column.name)?;
            columns.push((name, &column.kind, Category::of(&column.kind)));
        }
        let floats =
            columns.iter().filter(|(_, kind, _)| ["FLOAT", "DOUBLE"].contains(&kind.as_str()));
        let mut finite: BTreeMap<&ColumnName, ColumnName> = BTreeMap::new();
        for (column, ..) in floats {
            // A name that no column has.
            let mut name = format!("{column} finite");
            while subject.view.columns.iter().any(|c| c.name.eq_ignore_ascii_case(&name)) {
                name.push('\'');
            }
            finite.insert(column, ColumnName::parse(name)?);
        }
        let mut profiles = Vec::with_capacity(columns.len());
        let rows = usize::try_from(self.rows).unwrap_or(usize::MAX).max(1);
        let together = (HELD_VALUES / rows).clamp(AT_ONCE, HELD_COLUMNS);
        for some in columns.chunks(together) {
            // A file is looked through once for many columns, and not once for each: finding out
            // what columns it has takes as long as reading a few of them.
            let names: Vec<&ColumnName> = some.iter().map(|(name, ..)| name).collect();
            let (statement, held) = ask::hold(&names, self.sample);
            // Of long columns that is little, and copying them takes longer. One that can't be held
            // mustn't cost the others: each is read on its own.
            let is_held = together > AT_ONCE && self.engine.execute(MEASURE, &statement).is_ok();
            let part = if is_held { Measuring { sample: &held, ..*self } } else { *self };
            for few in some.chunks(AT_ONCE) {
                let asked: Vec<(Ask, Asked<'_>)> = few
                    .iter()
                    .flat_map(|(column, kind, category)| {
                        let finite = finite.get(column);
                        let asked = Asked { column, finite, is_text: kind.as_str() == "VARCHAR" };
                        asks(*category).iter().map(move |ask| (*ask, asked))
                    })
                    .collect();
                let mut answers = part.answers(&asked).into_iter();
                for (name, kind, category) in few {
                    let asked = asks(*category);
                    let answers: Answers =
                        asked.iter().copied().zip(answers.by_ref().take(asked.len())).collect();
                    let is_key = key.contains(name);
                    profiles.push(part.column(name, kind, *category, &answers, is_key));
                }
            }
        }
        Ok(profiles)
    }

    /// The answers to all of these in one scan. Where one of them fails, the others are asked
    /// again without it.
    fn answers(&self, asked: &[(Ask, Asked<'_>)]) -> Vec<Option<String>> {
        if asked.is_empty() {
            return Vec::new();
        }
        let statement = ask::answers(asked, self.sample);
        let read = self.engine.texts(MEASURE, statement.as_str());
        let row = read.ok().and_then(|rows| rows.into_iter().next());
        match (row.filter(|row| row.len() == asked.len()), asked.len()) {
            (Some(values), _) => values,
            (None, 1) => vec![None],
            (None, many) => {
                let (one, other) = asked.split_at(many / 2);
                let mut values = self.answers(one);
                values.append(&mut self.answers(other));
                values
            }
        }
    }

    fn column(
        &self,
        name: &ColumnName,
        kind: &str,
        category: Category,
        answers: &Answers,
        is_primary_key: bool,
    ) -> ColumnProfile {
        let filled = whole(answers, Ask::Filled).unwrap_or(0);
        let missing = self.rows.saturating_sub(filled);
        let settings = self.settings;
        let listed = settings.top_values_limit.max(settings.sample_values_limit).max(1);
        let values = self.values(name, listed);
        let unique = values.as_ref().map(|values| values.0);
        let top: Vec<TopValue> = values
            .into_iter()
            .flat_map(|values| values.1)
            .map(|(value, count)| TopValue { value, count, pct: percent(count, filled) })
            .collect();
        let mut column = ColumnProfile {
            name: name.to_string(),
            kind: kind.to_string(),
            type_category: category,
            completeness_pct: percent(filled, self.rows),
            null_count: missing,
            unique_count: unique,
            unique_pct: unique.map(|unique| percent(unique, filled)),
            sample_values: top
                .iter()
                .take(settings.sample_values_limit)
                .map(|top| top.value.clone())
                .collect(),
            is_primary_key,
            alerts: Vec::new(),
            numeric_stats: None,
            string_stats: None,
            date_stats: None,
            boolean_stats: None,
        };
        match category {
            Category::Numeric => column.numeric_stats = Some(self.numbers(name, answers, filled)),
            Category::Date | Category::Timestamp => {
                column.date_stats = Some(self.dates(name, answers));
            }
            Category::Boolean => {
                let true_count = whole(answers, Ask::True).unwrap_or(0);
                column.boolean_stats = Some(BooleanStats {
                    true_count,
                    false_count: filled.saturating_sub(true_count),
                    true_pct: percent(true_count, filled),
                });
            }
            Category::String => {
                let few = unique.is_some_and(|n| n <= settings.max_categorical_distinct);
                let top = top.iter().take(if few { settings.top_values_limit } else { 0 });
                column.string_stats = Some(StringStats {
                    min_length: whole(answers, Ask::MinLength),
                    max_length: whole(answers, Ask::MaxLength),
                    avg_length: number(answers, Ask::AverageLength).and_then(rounded),
                    top_values: top.cloned().collect(),
                });
            }
        }
        column.alerts = self.alerts(&column, top.first());
        column
    }

    fn numbers(&self, name: &ColumnName, answers: &Answers, filled: u64) -> NumericStats {
        let quantiles = answer(answers, Ask::Quantiles).unwrap_or_default();
        let quantiles = quantiles.trim_matches(['[', ']']).split(", ");
        let quantiles: Vec<Option<f64>> = quantiles.map(|text| text.parse().ok()).collect();
        let quantile = |at: usize| quantiles.get(at).copied().flatten().and_then(rounded);
        let (min, max) = (answer(answers, Ask::Min), answer(answers, Ask::Max));
        let ends = min.zip(max);
        let ends = ends.and_then(|(min, max)| Some((min.parse().ok()?, max.parse().ok()?)));
        let (zeros, negative) =
            (whole(answers, Ask::Zeros).unwrap_or(0), whole(answers, Ask::Negative).unwrap_or(0));
        NumericStats {
            min: min.and_then(as_json),
            max: max.and_then(as_json),
            mean: number(answers, Ask::Mean).and_then(rounded),
            median: quantile(2),
            stddev: number(answers, Ask::Deviation).and_then(rounded),
            p5: quantile(0),
            p25: quantile(1),
            p75: quantile(3),
            p95: quantile(4),
            zeros,
            zeros_pct: percent(zeros, filled),
            negative,
            negative_pct: percent(negative, filled),
            histogram: ends.map(|ends| self.spread(name, ends)).unwrap_or_default(),
        }
    }

    /// How numbers are spread; in one part where they are all the same.
    fn spread(&self, name: &ColumnName, (min, max): (f64, f64)) -> Histogram {
        let bins = if max > min { self.settings.histogram_bins.max(1) } else { 1 };
        let statement = match max > min {
            true => ask::histogram(name, self.sample, (min, max), bins),
            // Anything but 0 to divide by.
            false => ask::histogram(name, self.sample, (min, min + 1.0), bins),
        };
        match self.pairs::<usize>(&statement) {
            Some(counted) => Histogram::of_numbers((min, max), bins, &counted),
            None => Histogram::default(),
        }
    }

    fn dates(&self, name: &ColumnName, answers: &Answers) -> DateStats {
        let quarters = self.pairs::<String>(&ask::quarters(name, self.sample));
        let (bins, counts) = quarters.unwrap_or_default().into_iter().unzip();
        DateStats {
            earliest: answer(answers, Ask::Earliest).map(str::to_string),
            latest: answer(answers, Ask::Latest).map(str::to_string),
            span_days: number(answers, Ask::Days).map(|days| days as i64),
            histogram: Histogram { bins, counts },
        }
    }

    fn pairs<T: FromStr>(&self, sql: &Sql) -> Option<Vec<(T, u64)>> {
        let rows = self.engine.texts(MEASURE, sql.as_str()).ok()?;
        Some(rows.iter().filter_map(|row| Some((cell(row, 0)?, cell(row, 1)?))).collect())
    }

    /// How many different values a column has, and the most frequent of them.
    fn values(&self, name: &ColumnName, most: usize) -> Option<(u64, Vec<(String, u64)>)> {
        let statement = ask::values(name, self.sample, most);
        let rows = self.engine.texts(MEASURE, statement.as_str()).ok()?;
        let unique = rows.first().map_or(Some(0), |row| cell(row, 0))?;
        let values = rows.iter().map(|row| Some((cell(row, 1)?, cell(row, 2)?)));
        Some((unique, values.collect::<Option<_>>()?))
    }

    fn alerts(&self, column: &ColumnProfile, top: Option<&TopValue>) -> Vec<Alert> {
        let mut alerts = Vec::new();
        let mut tell = |kind, message: String| {
            alerts.push(Alert { column: column.name.clone(), kind, message });
        };
        let settings = self.settings;
        let (unique, all) = (column.unique_count, column.null_count == 0 && self.rows > 0);
        let constant = all && unique == Some(1);
        if constant {
            tell(AlertKind::Constant, "every row has the same value".to_string());
        }
        if all && unique == Some(self.rows) {
            tell(AlertKind::Unique, "every row has another value".to_string());
        }
        let missing = percent(column.null_count, self.rows);
        if missing > settings.alert_high_missing_pct {
            tell(AlertKind::HighMissing, format!("{missing} % of the values are missing"));
        } else if missing > settings.alert_missing_pct {
            tell(AlertKind::Missing, format!("{missing} % of the values are missing"));
        }
        let counted = matches!(column.type_category, Category::String | Category::Boolean);
        let few = unique.is_some_and(|unique| unique <= settings.max_categorical_distinct);
        if let Some(top) =
            top.filter(|top| counted && few && !constant && top.pct > settings.alert_imbalance_pct)
        {
            let shown = crate::name::shown(&top.value);
            tell(AlertKind::Imbalance, format!("{} % of the values are `{shown}`", top.pct));
        }
        if column.type_category == Category::String
            && !few
            && let Some(unique) = unique.filter(|n| *n > settings.alert_high_cardinality)
        {
            tell(AlertKind::HighCardinality, format!("it has {unique} different values"));
        }
        let zeros = column.numeric_stats.as_ref().map_or(0.0, |stats| stats.zeros_pct);
        /// Percent, as clients know it.
        const ZEROS: f64 = 50.0;
        if zeros > ZEROS {
            tell(AlertKind::Zeros, format!("{zeros} % of the values are 0"));
        }
        alerts
    }

    /// Rows with the key of another one, where the table has all columns of the key.
    fn duplicates(&self, subject: &Published, key: &[ColumnName]) -> Option<u64> {
        let has = |name: &ColumnName| {
            subject.view.columns.iter().any(|c| c.name.eq_ignore_ascii_case(name.as_str()))
        };
        if key.is_empty() || !key.iter().all(has) {
            return None;
        }
        let statement = ask::duplicates(key, self.sample);
        let rows = self.engine.texts(MEASURE, statement.as_str()).ok()?;
        cell(rows.first()?, 0)
    }

    /// The first rows of all that there are.
    fn sample_rows(
        &self,
        subject: &Published,
        all: &Sample,
    ) -> Vec<BTreeMap<String, Option<String>>> {
        let names = subject.view.columns.iter().map(|column| ColumnName::parse(&*column.name));
        let Ok(names) = names.collect::<Result<Vec<_>>>() else { return Vec::new() };
        let statement = ask::first_rows(&names, all, self.settings.sample_rows_limit);
        let rows = self.engine.texts(MEASURE, statement.as_str()).unwrap_or_default();
        let named = |row| names.iter().map(ToString::to_string).zip(row).collect();
        rows.into_iter().map(named).collect()
    }
}

fn cell<T: FromStr>(row: &Texts, at: usize) -> Option<T> {
    row.get(at)?.as_deref()?.parse().ok()
}

fn answer(answers: &Answers, ask: Ask) -> Option<&str> {
    answers.iter().find(|(asked, _)| *asked == ask)?.1.as_deref()
}

fn number(answers: &Answers, ask: Ask) -> Option<f64> {
    answer(answers, ask)?.parse().ok()
}

fn whole(answers: &Answers, ask: Ask) -> Option<u64> {
    number(answers, ask).filter(|number| *number >= 0.0).map(|number| number as u64)
}

/// A number as JSON: whole ones exactly, others to two places.
fn as_json(text: &str) -> Option<serde_json::Number> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    if let Ok(whole) = text.parse::<u64>() {
        return Some(whole.into());
    }
    serde_json::Number::from_f64(rounded(text.parse().ok()?)?)
}
