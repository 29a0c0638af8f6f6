//! What a profile says of one column.

use serde::{Deserialize, Serialize};

/// What kind of values a column has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Category {
    /// True or false.
    Boolean,
    /// Days.
    Date,
    /// Moments.
    Timestamp,
    /// Numbers.
    Numeric,
    /// Everything else, as text.
    String,
}

impl Category {
    /// The category of a DuckDB type.
    pub fn of(kind: &str) -> Category {
        let kind = kind.to_ascii_uppercase();
        // Lists and structs are written with brackets after the type of their elements.
        if kind.ends_with(']') || kind.starts_with("STRUCT") || kind.starts_with("MAP") {
            return Category::String;
        }
        match kind.split('(').next().unwrap_or_default() {
            "BOOLEAN" => Category::Boolean,
            "DATE" => Category::Date,
            "TINYINT" | "SMALLINT" | "INTEGER" | "BIGINT" | "HUGEINT" | "UTINYINT"
            | "USMALLINT" | "UINTEGER" | "UBIGINT" | "UHUGEINT" | "DECIMAL" | "FLOAT"
            | "DOUBLE" | "REAL" => Category::Numeric,
            other if other.starts_with("TIMESTAMP") => Category::Timestamp,
            _ => Category::String,
        }
    }
}

/// What is in a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnProfile {
    /// Its name.
    pub name: String,
    /// Its DuckDB type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of values it has.
    pub type_category: Category,
    /// How full it is, percent.
    pub completeness_pct: f64,
    /// Values that are missing.
    pub null_count: u64,
    /// Different values; absent where they can't be compared.
    pub unique_count: Option<u64>,
    /// The same in percent of the values that aren't missing.
    pub unique_pct: Option<f64>,
    /// Some different values as text, the most frequent first.
    pub sample_values: Vec<String>,
    /// Whether it belongs to the key.
    pub is_primary_key: bool,
    /// What somebody should know.
    pub alerts: Vec<Alert>,
    /// Of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numeric_stats: Option<NumericStats>,
    /// Of texts, and of whatever has no category of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub string_stats: Option<StringStats>,
    /// Of days and moments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_stats: Option<DateStats>,
    /// Of flags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boolean_stats: Option<BooleanStats>,
}

/// What is known of numbers. NaN and the infinities don't count.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NumericStats {
    /// The smallest.
    pub min: Option<serde_json::Number>,
    /// The largest.
    pub max: Option<serde_json::Number>,
    /// The mean.
    pub mean: Option<f64>,
    /// Half of them are smaller.
    pub median: Option<f64>,
    /// The standard deviation of a sample.
    pub stddev: Option<f64>,
    /// 5 % of them are smaller.
    pub p5: Option<f64>,
    /// 25 % of them are smaller.
    pub p25: Option<f64>,
    /// 75 % of them are smaller.
    pub p75: Option<f64>,
    /// 95 % of them are smaller.
    pub p95: Option<f64>,
    /// Zeros.
    pub zeros: u64,
    /// The same in percent of the values that aren't missing.
    pub zeros_pct: f64,
    /// Numbers below zero.
    pub negative: u64,
    /// The same in percent of the values that aren't missing.
    pub negative_pct: f64,
    /// How they are spread.
    pub histogram: Histogram,
}

/// How many values fall into which part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Histogram {
    /// The parts: `lo-hi`, or `YYYY-Qn`.
    pub bins: Vec<String>,
    /// How many values each has.
    pub counts: Vec<u64>,
}

impl Histogram {
    /// `bins` equal parts of `min` to `max`, with what was counted of some of them.
    pub(super) fn of_numbers(
        (min, max): (f64, f64),
        bins: usize,
        counted: &[(usize, u64)],
    ) -> Histogram {
        let edge = |at: usize| {
            let part = at as f64 / bins as f64;
            // In two parts, so that the width of no range is infinite.
            min * (1.0 - part) + max * part
        };
        let label = |at: usize| format!("{}-{}", short(edge(at)), short(edge(at + 1)));
        let mut counts = vec![0; bins];
        for (bin, count) in counted {
            if let Some(slot) = counts.get_mut(*bin) {
                *slot += count;
            }
        }
        Histogram { bins: (0..bins).map(label).collect(), counts }
    }
}

/// A number in few characters: `12.5`, `3.2K`, `1.5M`, `2B`.
pub(super) fn short(number: f64) -> String {
    let (number, unit) = match number.abs() {
        1e9.. => (number / 1e9, "B"),
        1e6.. => (number / 1e6, "M"),
        1e3.. => (number / 1e3, "K"),
        _ => (number, ""),
    };
    if number.abs() >= 1e6 {
        return format!("{number:.1e}{unit}");
    }
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{unit}", if text == "-0" { "0" } else { text })
}

/// What is known of texts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StringStats {
    /// The length of the shortest, characters.
    pub min_length: Option<u64>,
    /// The length of the longest, characters.
    pub max_length: Option<u64>,
    /// The mean length, characters.
    pub avg_length: Option<f64>,
    /// The most frequent, where there are few different ones.
    pub top_values: Vec<TopValue>,
}

/// A value and how often it comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopValue {
    /// The value.
    pub value: String,
    /// How often it comes.
    pub count: u64,
    /// The same in percent of the values that aren't missing.
    pub pct: f64,
}

/// What is known of days and moments. The infinite ones don't count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DateStats {
    /// The first.
    pub earliest: Option<String>,
    /// The last.
    pub latest: Option<String>,
    /// Days between them.
    pub span_days: Option<i64>,
    /// How they are spread over quarters; those without any are left out.
    pub histogram: Histogram,
}

/// What is known of flags.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BooleanStats {
    /// True ones.
    pub true_count: u64,
    /// False ones.
    pub false_count: u64,
    /// The true ones in percent of both.
    pub true_pct: f64,
}

/// Something that somebody should know of a column before she uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The column.
    pub column: String,
    /// What.
    #[serde(rename = "type")]
    pub kind: AlertKind,
    /// In a sentence.
    pub message: String,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// One value in every row.
    Constant,
    /// Another value in every row.
    Unique,
    /// Many values are missing.
    HighMissing,
    /// Some values are missing.
    Missing,
    /// One value in most rows.
    Imbalance,
    /// Many different texts.
    HighCardinality,
    /// Zeros in most rows.
    Zeros,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories() {
        use Category::{Boolean, Date, Numeric, String, Timestamp};
        for (kind, category) in [
            ("BOOLEAN", Boolean),
            ("DATE", Date),
            ("TIMESTAMP", Timestamp),
            ("TIMESTAMP WITH TIME ZONE", Timestamp),
            ("TIMESTAMP_NS", Timestamp),
            ("DECIMAL(18,3)", Numeric),
            ("UHUGEINT", Numeric),
            ("float", Numeric),
            ("VARCHAR", String),
            ("TIME", String),
            ("INTERVAL", String),
            ("INTEGER[]", String),
            ("TIMESTAMP[]", String),
            ("DECIMAL(18,3)[3]", String),
            ("STRUCT(a INTEGER)", String),
            ("MAP(DATE, INTEGER)", String),
            ("BLOB", String),
            ("JSON", String),
            ("ENUM('DATE')", String),
        ] {
            assert_eq!(Category::of(kind), category, "{kind}");
        }
    }

    #[test]
    fn numbers_in_few_characters() {
        for (number, text) in [
            (0.0, "0"),
            (-0.001, "0"),
            (12.5, "12.5"),
            (999.994, "999.99"),
            (1000.0, "1K"),
            (-3210.0, "-3.21K"),
            (1_500_000.0, "1.5M"),
            (2e9, "2B"),
            (1e18, "1.0e9B"),
            (f64::MAX, "1.8e299B"),
        ] {
            assert_eq!(short(number), text, "{number}");
        }
    }

    #[test]
    fn parts_are_equal_and_cover_everything() {
        let histogram = Histogram::of_numbers((0.0, 30.0), 3, &[(0, 5), (2, 7)]);
        assert_eq!(histogram.bins, ["0-10", "10-20", "20-30"]);
        assert_eq!(histogram.counts, [5, 0, 7]);
        let wide = Histogram::of_numbers((f64::MIN, f64::MAX), 2, &[(0, 1), (1, 1)]);
        assert_eq!(wide.bins, ["-1.8e299B-0", "0-1.8e299B"]);
    }
}
