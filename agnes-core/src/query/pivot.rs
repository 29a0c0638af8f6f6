//! A PIVOT that doesn't name the values that become its columns.
//!
//! The engine asks the table for them first, by statements of its own that have no parse tree. So
//! does a session, by queries that go through the guard like everybody's, and puts what they give
//! into the text: `PIVOT t ON k USING sum(x)` becomes `PIVOT t ON (k) IN ('a', 'b') USING sum(x)`.

use std::ops::Range;

use super::tokens::{Token, tokens};
use crate::sql;

/// The most values that become columns, and the most PIVOTs of a statement that ask for theirs.
pub(super) const VALUES_MAX: usize = 1000;
pub(super) const PIVOTS_MAX: usize = 10;
/// The most words `PIVOT` that are looked at.
const WORDS_MAX: usize = 50;

/// What may follow the list of expressions that a PIVOT is on.
const AFTER: &[&str] =
    &["using", "group", "order", "limit", "offset", "union", "except", "intersect", ";"];

/// The first PIVOT of a statement that needs values, inner ones before those around them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Open<'t> {
    text: &'t str,
    /// The WITHs that its source may name.
    with: String,
    source: &'t str,
    /// What it is on, where no values are named.
    on: Vec<Range<usize>>,
}

/// Whether there can be a PIVOT in a text at all.
pub(super) fn may_be_in(text: &str) -> bool {
    text.as_bytes().windows(5).any(|word| word.eq_ignore_ascii_case(b"pivot"))
}

/// Whether a text looks like a query with one.
pub(super) fn may_begin(text: &str) -> bool {
    const FIRST: &[&str] = &[
        "pivot",
        "pivot_wider",
        "with",
        "from",
        "select",
        "explain",
        "describe",
        "desc",
        "summarize",
        "(",
    ];
    let first = tokens(text).next().is_some_and(|first| first.is_one_of(FIRST));
    first && may_be_in(text)
}

impl<'t> Open<'t> {
    /// Looks for one.
    pub(super) fn find(text: &'t str) -> Option<Open<'t>> {
        let all: Vec<Token<'t>> = tokens(text).collect();
        let starts = (0..all.len()).filter(|at| all.get(*at).is_some_and(is_pivot));
        // More are left to the guard, which refuses those without values.
        let starts = starts.take(WORDS_MAX).filter(|at| is_start(&all, *at));
        let found = starts.filter_map(|at| Some((at, pivot(text, &all, at)?)));
        let (at, found) = found.min_by_key(|(_, found)| found.end)?;
        let (before, this) = (all.get(..at)?, all.get(at)?);
        let with = withs(text, before, this.depth);
        Some(Open { text, with, source: found.source, on: found.on })
    }

    /// The queries for the values of each expression, as text and in order.
    pub(super) fn queries(&self) -> impl Iterator<Item = String> {
        self.on.iter().map(|on| {
            let on = self.text.get(on.clone()).unwrap_or("");
            sql::pivot_values(&self.with, on, self.source, VALUES_MAX + 1).as_str().to_string()
        })
    }

    /// What the expression before this one of [`Open::queries`] says, for people.
    pub(super) fn expression(&self, at: usize) -> &str {
        self.on.get(at).and_then(|on| self.text.get(on.clone())).unwrap_or("")
    }

    /// The statement with the values in their places.
    pub(super) fn filled(&self, values: &[Vec<String>]) -> String {
        let mut filled = String::new();
        let mut done = 0;
        for (on, values) in self.on.iter().zip(values) {
            filled.push_str(self.text.get(done..on.start).unwrap_or(""));
            let on_text = self.text.get(on.clone()).unwrap_or("");
            filled.push_str(sql::pivot_in(on_text, values).as_str());
            done = on.end;
        }
        filled + self.text.get(done..).unwrap_or("")
    }
}

fn is_pivot(token: &Token<'_>) -> bool {
    token.is_one_of(&["pivot", "pivot_wider"])
}

/// Whether a PIVOT statement begins here, and not the PIVOT of a table in a FROM, which always
/// names its values.
fn is_start(all: &[Token<'_>], at: usize) -> bool {
    let Some((before, [this, ..])) = all.split_at_checked(at) else { return false };
    match before.last() {
        None => true,
        Some(last) if last.is("(") => true,
        Some(first) if before.len() == 1 => {
            first.is_one_of(&["explain", "describe", "desc", "summarize"])
        }
        Some(last) if last.is(")") => {
            let group = group(before, this.depth);
            group.first().is_some_and(|first| first.is("with"))
                && !group.iter().any(|token| {
                    token.depth == this.depth && token.is_one_of(&["select", "from", "values"])
                })
        }
        Some(_) => false,
    }
}

/// The tokens before a place that stand in the same innermost brackets, with what is inside them.
fn group<'a, 't>(before: &'a [Token<'t>], depth: usize) -> &'a [Token<'t>] {
    let outside = before.iter().rposition(|token| token.depth < depth || token.is(";"));
    before.get(outside.map_or(0, |at| at + 1)..).unwrap_or_default()
}

struct Found<'t> {
    source: &'t str,
    on: Vec<Range<usize>>,
    end: usize,
}

/// The PIVOT that begins here, if it needs values.
fn pivot<'t>(text: &'t str, all: &[Token<'t>], at: usize) -> Option<Found<'t>> {
    let (_, [this, rest @ ..]) = all.split_at_checked(at)? else { return None };
    let depth = this.depth;
    let inside = rest.iter().position(|token| token.depth < depth).unwrap_or(rest.len());
    let inside = rest.get(..inside)?;
    let on_at = inside.iter().position(|token| token.depth == depth && token.is("on"))?;
    let (source, [_, on @ ..]) = inside.split_at_checked(on_at)? else { return None };
    let stops = on.iter().position(|t| t.depth == depth && t.is_one_of(AFTER));
    let on = on.get(..stops.unwrap_or(on.len()))?;
    let on: Vec<Range<usize>> = on
        .split(|token| token.depth == depth && token.is(","))
        .filter(|item| !names_values(item, depth))
        .filter_map(|item| Some(item.first()?.at..item.last()?.end()))
        .collect();
    let source = text.get(source.first()?.at..source.last()?.end())?;
    let end = inside.last().map_or(this.end(), Token::end);
    (!on.is_empty()).then_some(Found { source, on, end })
}

/// `k IN (…)` or `k IN name`.
fn names_values(item: &[Token<'_>], depth: usize) -> bool {
    let last = item.iter().rposition(|token| token.depth == depth && token.is("in"));
    let Some([_, values @ ..]) = last.and_then(|at| item.get(at..)) else { return false };
    match values {
        [_name] => true,
        [open, .., close] => {
            open.is("(")
                && close.is(")")
                && !values.iter().skip(1).rev().skip(1).any(|t| t.depth == depth)
        }
        [] => false,
    }
}

/// `WITH a AS (…), b AS (…)` of what is defined before a place, in all brackets around it.
fn withs(text: &str, before: &[Token<'_>], depth: usize) -> String {
    let mut parts = Vec::new();
    let mut recursive = false;
    for depth in 0..=depth {
        let [with, rest @ ..] = group(before, depth) else { continue };
        if !with.is("with") {
            continue;
        }
        let rest = match rest {
            [word, rest @ ..] if word.is("recursive") => {
                recursive = true;
                rest
            }
            rest => rest,
        };
        // One ends with a bracket that isn't that of its columns, which AS or USING follows.
        let mut start = rest.first().map(|token| token.at);
        for (at, token) in rest.iter().enumerate() {
            let next = rest.get(at + 1);
            let closes = token.depth == depth && token.is(")");
            if !closes || next.is_some_and(|next| next.is_one_of(&["as", "using"])) {
                continue;
            }
            parts.extend(start.and_then(|start| text.get(start..token.end())));
            match next.filter(|next| next.is(",")).and_then(|_| rest.get(at + 2)) {
                Some(next) => start = Some(next.at),
                None => break,
            }
        }
    }
    match (parts.is_empty(), recursive) {
        (true, _) => String::new(),
        (false, true) => format!("WITH RECURSIVE {} ", parts.join(", ")),
        (false, false) => format!("WITH {} ", parts.join(", ")),
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::Open;

    fn found(text: &str) -> Option<(String, &str, Vec<&str>)> {
        let open = Open::find(text)?;
        let on = open.on.iter().map(|on| &text[on.clone()]).collect();
        Some((open.with, open.source, on))
    }

    #[test]
    fn what_needs_values_is_found() {
        for (text, with, source, on) in [
            ("PIVOT t ON k", "", "t", vec!["k"]),
            ("pivot t on k using sum(v) group by a", "", "t", vec!["k"]),
            ("PIVOT_WIDER t ON k, n + 1 USING sum(v)", "", "t", vec!["k", "n + 1"]),
            ("PIVOT t ON k IN ('a'), n USING sum(v)", "", "t", vec!["n"]),
            ("PIVOT t ON k IN ('a') || 'b'", "", "t", vec!["k IN ('a') || 'b'"]),
            (
                "PIVOT (FROM t JOIN u ON a = b) AS s ON f(k, n);",
                "",
                "(FROM t JOIN u ON a = b) AS s",
                vec!["f(k, n)"],
            ),
            ("DESCRIBE PIVOT t ON k", "", "t", vec!["k"]),
            ("WITH s AS (FROM t) PIVOT s ON k", "WITH s AS (FROM t) ", "s", vec!["k"]),
            (
                "WITH s(a) AS (FROM t), u AS (FROM s) PIVOT u ON k",
                "WITH s(a) AS (FROM t), u AS (FROM s) ",
                "u",
                vec!["k"],
            ),
            (
                "WITH s AS (FROM t), p AS (PIVOT s ON k) FROM p",
                "WITH s AS (FROM t) ",
                "s",
                vec!["k"],
            ),
            ("WITH p AS (PIVOT t ON k), q AS (PIVOT t ON n) FROM p, q", "", "t", vec!["k"]),
            ("FROM (PIVOT (PIVOT t ON k) ON n)", "", "t", vec!["k"]),
            ("FROM (WITH s AS (FROM t) PIVOT s ON k)", "WITH s AS (FROM t) ", "s", vec!["k"]),
        ] {
            assert_eq!(found(text), Some((with.to_string(), source, on)), "{text}");
        }
    }

    #[test]
    fn what_needs_none_is_not() {
        for text in [
            "",
            "SELECT pivot FROM t",
            "SELECT (pivot) FROM t JOIN u ON (a)",
            "PIVOT t ON k IN ('a', 'b') USING sum(v)",
            "PIVOT t ON k IN kinds USING sum(v)",
            "PIVOT t USING sum(v)",
            "FROM (FROM t) PIVOT (sum(v) FOR k IN ('a')) JOIN u ON a",
            "SELECT 'PIVOT t ON k'",
            "SELECT \"pivot\" -- PIVOT t ON k",
            "PIVOT",
            "PIVOT ON",
            "(PIVOT)))((",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn values_go_to_their_places() {
        let text = "PIVOT t ON k, n IN (1), m -- which\nUSING sum(v)";
        let open = Open::find(text).unwrap_or_else(|| unreachable!());
        let filled = open.filled(&[vec!["a".into(), "it's".into()], vec!["1".into()]]);
        assert_eq!(
            filled,
            "PIVOT t ON (k) IN ('a', 'it''s'), n IN (1), (m) IN ('1') -- which\nUSING sum(v)"
        );
        assert_eq!(Open::find(&filled), None);
    }
}
