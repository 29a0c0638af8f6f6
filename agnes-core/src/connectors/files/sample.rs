//! What the values of a sample tell about a column, beyond the type that DuckDB sniffs.

use crate::sql::Written;

/// How a column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As the type that was sniffed.
    AsSniffed,
    /// As that type, each value written in this way or a mistake.
    Written(Written),
    /// As text: its type would lose something of a value.
    Text,
}

/// A look at the values of one column.
#[derive(Debug)]
pub(super) struct Look {
    /// The one way in which all values so far are written, if there is one.
    usual: Option<Written>,
    /// Whether digits are a number, as the sniffer says.
    number: bool,
    /// Whether values are moments that begin with the year.
    year_first: bool,
    /// Whether day and month could be the other way round, by the format alone.
    swappable: bool,
    /// Whether some value could be another day.
    swapped: bool,
    /// Whether some value can't.
    decided: bool,
    /// Whether the type would lose something of a value.
    lossy: bool,
    /// What a value must be to have the type that was sniffed.
    fits: Fits,
    /// Whether a value was there to be sniffed.
    sniffed: bool,
    /// Whether a value that wasn't sniffed may show another type.
    doubts: bool,
}

/// How far it can be told here that a value is of the type that was sniffed.
#[derive(Debug, Clone, Copy)]
enum Fits {
    Always,
    Usual,
    Float,
    Unknown,
}

impl Look {
    /// A column that the sniffer gave this type, its dates written in this format.
    pub(super) fn at(kind: &str, format: Option<&str>) -> Self {
        let moment = kind == "DATE" || kind.starts_with("TIMESTAMP");
        let format = format.filter(|_| moment);
        let usual = match kind {
            "BIGINT" => Some(Written::Integer),
            "DATE" => Some(Written::Date),
            // A format of its own is kept to by the reader.
            "TIMESTAMP" if format.is_none() => Some(Written::Timestamp),
            _ => None,
        };
        let start = format.and_then(|format| format.get(..6)).unwrap_or("");
        Look {
            usual,
            number: matches!(kind, "BIGINT" | "HUGEINT" | "DOUBLE"),
            year_first: moment && format.is_none(),
            swappable: matches!(start, "%d/%m/" | "%m/%d/" | "%d-%m-" | "%m-%d-"),
            swapped: false,
            decided: false,
            // Of 01/02/03 each part may be the year.
            lossy: format.is_some_and(|format| format.contains("%y")),
            fits: match kind {
                "VARCHAR" => Fits::Always,
                "DOUBLE" => Fits::Float,
                _ if usual.is_some() => Fits::Usual,
                _ => Fits::Unknown,
            },
            sniffed: false,
            doubts: false,
        }
    }

    /// Takes in the next value, which the sniffer saw or didn't.
    pub(super) fn see(&mut self, value: &str, sniffed: bool) {
        self.sniffed |= sniffed;
        if self.usual.is_some_and(|usual| !usual.is(value)) {
            self.usual = None;
        }
        if self.number {
            self.lossy |= is_code(value);
        } else if self.year_first {
            // DuckDB takes 01/02/03 for a day of the year 1, and keeps microseconds.
            let year = value.bytes().take(4).all(|b| b.is_ascii_digit());
            let fraction = value.rsplit_once('.').map_or("", |(_, fraction)| fraction);
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            self.lossy |= !year || digits > 6;
        } else if self.swappable {
            let mut parts = value.split(['/', '-']).map_while(|part| part.parse::<u32>().ok());
            if let (Some(a), Some(b)) = (parts.next(), parts.next()) {
                self.decided |= a > 12 || b > 12;
                self.swapped |= a != b;
            }
        }
        let fits = match self.fits {
            Fits::Always => true,
            Fits::Usual => self.usual.is_some(),
            Fits::Float => sniffed || value.parse::<f64>().is_ok(),
            Fits::Unknown => false,
        };
        // Where the sniffer saw no value at all, its type says nothing.
        let told = sniffed || (fits && self.sniffed);
        self.doubts |= !told;
    }

    /// Whether sniffing all that was seen could tell another type.
    pub(super) fn doubts(&self) -> bool {
        self.doubts
    }

    /// Whether a value shows which is the day and which the month.
    pub(super) fn tells_order(&self) -> bool {
        self.decided
    }

    /// What becomes of the column, some column having told the order of day and month or none.
    pub(super) fn verdict(&self, order_known: bool) -> Verdict {
        let ambiguous = self.swappable && self.swapped && !order_known;
        match self.usual {
            _ if self.lossy || ambiguous => Verdict::Text,
            Some(usual) => Verdict::Written(usual),
            None => Verdict::AsSniffed,
        }
    }
}

/// Whether digits are more than a number: leading zeros, or more of them than a number of
/// 64 bits keeps.
fn is_code(value: &str) -> bool {
    value.len() > 1
        && value.bytes().all(|b| b.is_ascii_digit())
        && (value.starts_with('0') || value.parse::<i64>().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(kind: &str, format: Option<&str>, values: &[&str]) -> Verdict {
        let mut look = Look::at(kind, format);
        values.iter().for_each(|value| look.see(value, true));
        look.verdict(look.tells_order())
    }

    #[test]
    fn a_value_that_was_not_sniffed_may_leave_a_doubt() {
        for (kind, sniffed, later, doubts) in [
            ("BIGINT", &["1"][..], &["2", "-3"][..], false),
            ("BIGINT", &["1"], &["1.5"], true),
            ("DOUBLE", &["1.5"], &["2", "1e3", "-.5"], false),
            ("DOUBLE", &["1.5"], &["n/a"], true),
            ("DATE", &["2026-01-02"], &["2026-01-03"], false),
            ("DATE", &["2026-01-02"], &["2026-01-03 10:00"], true),
            ("BOOLEAN", &["true"], &["false"], true),
            ("VARCHAR", &["x"], &["1"], false),
            ("VARCHAR", &[], &["1"], true),
        ] {
            let mut look = Look::at(kind, None);
            sniffed.iter().for_each(|value| look.see(value, true));
            assert!(!look.doubts(), "{kind}");
            later.iter().for_each(|value| look.see(value, false));
            assert_eq!(look.doubts(), doubts, "{kind} {later:?}");
        }
    }

    #[test]
    fn a_type_that_would_lose_something_gives_way_to_text() {
        use Verdict::{AsSniffed, Text, Written as W};
        let (dm, ymd) = (Some("%d/%m/%Y"), Some("%Y-%m-%d"));
        for (kind, format, values, expected) in [
            ("BIGINT", None, &["1", "-20", "0"][..], W(Written::Integer)),
            ("BIGINT", None, &["1", "+2"], AsSniffed),
            ("BIGINT", None, &["1", "007"], Text),
            ("DOUBLE", None, &["12345678901234567890", "1"], Text),
            ("DOUBLE", None, &["1.5", "0.5"], AsSniffed),
            ("DATE", ymd, &["2026-01-02"], W(Written::Date)),
            ("DATE", Some("%Y/%m/%d"), &["2026/01/02"], AsSniffed),
            ("DATE", dm, &["01/02/2026", "03/04/2026"], Text),
            ("DATE", dm, &["01/02/2026", "31/04/2026"], AsSniffed),
            ("DATE", dm, &["02/02/2026"], AsSniffed),
            ("DATE", Some("%d.%m.%Y"), &["01.02.2026"], AsSniffed),
            ("DATE", Some("%y/%m/%d"), &["01/02/03"], Text),
            ("TIMESTAMP", None, &["2026-01-02 03:04:05"], W(Written::Timestamp)),
            ("TIMESTAMP", None, &["2026-01-02 03:04:05 UTC"], AsSniffed),
            ("TIMESTAMP", None, &["2026/01/02 03:04"], W(Written::Timestamp)),
            ("TIMESTAMP", None, &["01/02/03"], Text),
            ("TIMESTAMP", None, &["2026-01-02 03:04:05.123456789"], Text),
            ("TIMESTAMP WITH TIME ZONE", None, &["2026-01-02 03:04:05.123456+02"], AsSniffed),
            ("BOOLEAN", None, &["true"], AsSniffed),
            ("VARCHAR", None, &["x"], AsSniffed),
        ] {
            assert_eq!(verdict(kind, format, values), expected, "{kind} {values:?}");
        }
    }
}
