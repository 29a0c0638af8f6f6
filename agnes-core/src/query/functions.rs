//! Which functions a statement may use.
//!
//! Each function of the linked DuckDB is on one of these lists; a test looks them all up, and the
//! types, and fails on one that nobody has classified. What is allowed computes with its
//! arguments. What is refused reads files, looks at the catalog, the settings or the engine,
//! writes, or ends the process: each was tried with hostile arguments. In between stand the
//! functions whose cost one short argument multiplies; a [`Check`] looks at that argument, or a
//! macro of the session's instance does (`bounds.sql`).

mod lists;

use lists::{ALLOWED, REFUSED, REFUSED_TABLE_FUNCTIONS, TABLE_FUNCTIONS};

/// What must hold for an argument; the first argument is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// A text that is written out, of at most so many bytes, where there is such an argument.
    Text { at: usize, most: usize },
    /// One of the arguments is a text that is written out, of at most so many bytes.
    AnyText { most: usize },
    /// A path into JSON that is written out: `$.a[0].b`, or a number.
    JsonPath { at: usize },
    /// How JSON is to become a nested type, written out.
    Structure { at: usize },
    /// What `format` and `printf` fill in, written out, without long or computed widths.
    Format,
    /// A whole number that is written out, at most this, where there is such an argument.
    Number { at: usize, most: i64 },
    /// A list that is written out with at most so many values, or one number.
    Numbers { at: usize, most: usize },
    /// The name of an aggregate function that is allowed, written out.
    Aggregate { at: usize },
    /// A lambda that doesn't double what it has accumulated.
    Reduce,
}

use Check::{Aggregate, AnyText, Format, JsonPath, Number, Numbers, Reduce, Structure, Text};

/// The longest pattern of a regular expression: long ones take the engine seconds.
const PATTERN: usize = 1000;
/// The longest name of a time zone. The engine looks for similar ones to suggest.
const ZONE: usize = 64;

/// Functions with something to check, and what.
const CHECKED: &[(&str, &[Check])] = &[
    ("->>", &[JsonPath { at: 1 }]),
    ("aggregate", &[Aggregate { at: 1 }]),
    ("approx_top_k", &[Number { at: 1, most: 100 }]),
    ("arg_max", &[Number { at: 2, most: 1000 }]),
    ("arg_max_nulls_last", &[Number { at: 2, most: 1000 }]),
    ("arg_min", &[Number { at: 2, most: 1000 }]),
    ("arg_min_nulls_last", &[Number { at: 2, most: 1000 }]),
    ("argmax", &[Number { at: 2, most: 1000 }]),
    ("argmin", &[Number { at: 2, most: 1000 }]),
    ("array_aggr", &[Aggregate { at: 1 }]),
    ("array_aggregate", &[Aggregate { at: 1 }]),
    ("array_reduce", &[Reduce]),
    ("bitstring_agg", &[Number { at: 1, most: 1_000_000 }, Number { at: 2, most: 1_000_000 }]),
    ("equi_width_bins", &[Number { at: 2, most: 1000 }]),
    ("format", &[Format]),
    ("from_json", &[Structure { at: 1 }]),
    ("from_json_strict", &[Structure { at: 1 }]),
    ("json_array_length", &[JsonPath { at: 1 }]),
    ("json_each", &[JsonPath { at: 1 }]),
    ("json_exists", &[JsonPath { at: 1 }]),
    ("json_extract", &[JsonPath { at: 1 }]),
    ("json_extract_path", &[JsonPath { at: 1 }]),
    ("json_extract_path_text", &[JsonPath { at: 1 }]),
    ("json_extract_string", &[JsonPath { at: 1 }]),
    ("json_keys", &[JsonPath { at: 1 }]),
    ("json_transform", &[Structure { at: 1 }]),
    ("json_transform_strict", &[Structure { at: 1 }]),
    ("json_tree", &[JsonPath { at: 1 }]),
    ("json_type", &[JsonPath { at: 1 }]),
    ("json_value", &[JsonPath { at: 1 }]),
    ("list_aggr", &[Aggregate { at: 1 }]),
    ("list_aggregate", &[Aggregate { at: 1 }]),
    ("list_reduce", &[Reduce]),
    ("make_timestamptz", &[Text { at: 6, most: ZONE }]),
    ("max", &[Number { at: 1, most: 1000 }]),
    ("max_by", &[Number { at: 2, most: 1000 }]),
    ("min", &[Number { at: 1, most: 1000 }]),
    ("min_by", &[Number { at: 2, most: 1000 }]),
    ("printf", &[Format]),
    ("quantile", &[Numbers { at: 1, most: 100 }]),
    ("quantile_cont", &[Numbers { at: 1, most: 100 }]),
    ("quantile_disc", &[Numbers { at: 1, most: 100 }]),
    ("reduce", &[Reduce]),
    ("regexp_extract", &[Text { at: 1, most: PATTERN }]),
    ("regexp_extract_all", &[Text { at: 1, most: PATTERN }]),
    ("regexp_full_match", &[Text { at: 1, most: PATTERN }]),
    ("regexp_matches", &[Text { at: 1, most: PATTERN }]),
    ("regexp_replace", &[Text { at: 1, most: PATTERN }, Text { at: 2, most: 200 }]),
    ("regexp_split_to_array", &[Text { at: 1, most: PATTERN }]),
    ("regexp_split_to_table", &[Text { at: 1, most: PATTERN }]),
    ("reservoir_quantile", &[Numbers { at: 1, most: 100 }, Number { at: 2, most: 100_000 }]),
    ("str_split_regex", &[Text { at: 1, most: PATTERN }]),
    ("strftime", &[AnyText { most: 200 }]),
    ("string_split_regex", &[Text { at: 1, most: PATTERN }]),
    ("time_bucket", &[Text { at: 3, most: ZONE }]),
    ("timezone", &[Text { at: 0, most: ZONE }]),
];

/// Functions that a macro of the session's instance bounds, and those that are bounded with them.
const BOUNDED: &[&str] = &[
    "apply",
    "approx_quantile",
    "array_apply",
    "array_resize",
    "array_transform",
    "bitstring",
    "damerau_levenshtein",
    "editdist3",
    "generate_series",
    "histogram",
    "histogram_exact",
    "jaro_similarity",
    "jaro_winkler_similarity",
    "json_group_structure",
    "json_structure",
    "levenshtein",
    "list_apply",
    "list_resize",
    "list_transform",
    "lpad",
    "range",
    "repeat",
    "replace",
    "rpad",
    "split",
    "split_part",
    "str_split",
    "string_split",
    "string_to_array",
];

/// Comparisons are nodes of their own. As functions, which is how `OPERATOR(=)` writes them, they
/// take values of two types for one, and end the process.
const COMPARISONS: &[&str] =
    &["!=", "<", "<=", "=", ">", ">=", "is distinct from", "is not distinct from"];

/// Starts of names that only the engine itself uses.
const OF_THE_ENGINE: &[&str] = &["__internal_", "collate_", "icu_collate_"];

/// What the guard makes of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be used when these hold.
    Allowed(&'static [Check]),
    /// It is known and refused.
    Refused,
    /// Nobody has looked at it.
    Unknown,
}

/// What the guard makes of a scalar, aggregate or window function or a macro, in lower case.
pub(super) fn function(name: &str) -> Verdict {
    let checks = CHECKED.iter().find(|(checked, _)| *checked == name).map(|(_, checks)| *checks);
    match checks {
        Some(checks) => Verdict::Allowed(checks),
        None if has(ALLOWED, name) || has(BOUNDED, name) => Verdict::Allowed(&[]),
        None if has(REFUSED, name) || has(COMPARISONS, name) => Verdict::Refused,
        None if OF_THE_ENGINE.iter().any(|start| name.starts_with(start)) => Verdict::Refused,
        None => Verdict::Unknown,
    }
}

/// An allowed function whose name is nearly this one.
pub(super) fn near(name: &str) -> Option<&'static str> {
    let checked = CHECKED.iter().map(|(name, _)| *name);
    let all = ALLOWED.iter().chain(BOUNDED).copied().chain(checked);
    crate::name::nearest(name, all)
}

/// What the guard makes of a table function, in lower case.
pub(super) fn table_function(name: &str) -> Verdict {
    match (has(TABLE_FUNCTIONS, name), has(REFUSED_TABLE_FUNCTIONS, name)) {
        (true, _) => {
            let checks = CHECKED.iter().find(|(checked, _)| *checked == name);
            Verdict::Allowed(checks.map_or(&[], |(_, checks)| *checks))
        }
        (false, true) => Verdict::Refused,
        (false, false) => Verdict::Unknown,
    }
}

/// Whether a list aggregate may be called by this name, which the engine takes as text.
pub(super) fn may_aggregate(name: &str) -> bool {
    has(AGGREGATES, name)
}

pub(super) fn has(list: &[&str], name: &str) -> bool {
    list.contains(&name)
}

/// Aggregates that may be named in a text.
const AGGREGATES: &[&str] = &[
    "any_value",
    "approx_count_distinct",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "count",
    "entropy",
    "first",
    "histogram",
    "kurtosis",
    "kurtosis_pop",
    "last",
    "mad",
    "max",
    "mean",
    "median",
    "min",
    "mode",
    "product",
    "sem",
    "skewness",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var_pop",
    "var_samp",
    "variance",
];

#[cfg(test)]
mod tests {
    use super::super::types::cast;
    use super::*;
    use crate::engine;

    fn names(sql: &str) -> Vec<String> {
        let connection = engine::in_memory(&engine::Limits::default()).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let names = statement.query_map([], |row| row.get(0)).unwrap();
        names.map(|name| name.unwrap()).collect()
    }

    /// A DuckDB that brings something new fails here, until somebody has tried it and put it
    /// on a list.
    #[test]
    fn every_function_of_the_engine_is_on_a_list() {
        let unknown = |sql: &str, verdict: fn(&str) -> Verdict| -> Vec<String> {
            names(sql).into_iter().filter(|name| verdict(name) == Verdict::Unknown).collect()
        };
        let functions = unknown(
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions() \
             WHERE function_type NOT IN ('table', 'table_macro', 'pragma') ORDER BY 1",
            function,
        );
        assert!(functions.is_empty(), "nobody has classified {functions:?}");
        let tables = unknown(
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions() \
             WHERE function_type IN ('table', 'table_macro') ORDER BY 1",
            table_function,
        );
        assert!(tables.is_empty(), "nobody has classified {tables:?}");
        let types = names("SELECT DISTINCT lower(type_name) FROM duckdb_types() ORDER BY 1");
        let types: Vec<String> =
            types.into_iter().filter(|name| cast(name) == Verdict::Unknown).collect();
        assert!(types.is_empty(), "nobody has classified {types:?}");
    }

    #[test]
    fn nothing_is_on_two_lists() {
        let lists = [ALLOWED, BOUNDED, REFUSED, COMPARISONS];
        let checked = CHECKED.iter().map(|(name, _)| *name).filter(|n| !has(TABLE_FUNCTIONS, n));
        let mut all: Vec<&str> =
            lists.iter().flat_map(|l| l.iter().copied()).chain(checked).collect();
        all.sort_unstable();
        let twice: Vec<_> = all.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{twice:?}");
        for name in all {
            assert_eq!(name, name.to_lowercase());
        }
    }
}
