//! What the values of a sample tell about a column, beyond the type that DuckDB sniffs.

use super::strict;
use crate::sql::{Shaped, Written};

/// How a column is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As the type that was sniffed.
    AsSniffed,
    /// As that type, each value written in this way or a mistake.
    Written(Written),
    /// As text: its type would lose something of a value.
    Text,
}

/// The most ways of writing moments in one column.
const SHAPES_MAX: usize = 4;

/// A look at the values of one column.
#[derive(Debug)]
pub(super) struct Look {
    kind: Kind,
    /// How dates are written, where the sniffer says so.
    format: Option<String>,
    /// Whether all values so far are written in the usual way of their type.
    usual: bool,
    /// The shapes of all moments so far.
    shapes: Vec<String>,
    /// Whether day and month could be the other way round, by the format alone.
    swappable: bool,
    /// Whether some value could be another day.
    swapped: bool,
    /// Whether some value can't.
    decided: bool,
    /// Whether the type would lose something of a value.
    lossy: bool,
    /// Whether a value was there to be sniffed.
    sniffed: bool,
    /// Whether a value that wasn't sniffed may show another type.
    doubts: bool,
}

/// What the sniffer says of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Float,
    Truth,
    /// DATE, TIME, TIMESTAMP and TIMESTAMP WITH TIME ZONE.
    Moment(&'static str),
    Text,
    Other,
}

impl Look {
    /// A column that the sniffer gave this type, its dates written in this format.
    pub(super) fn at(kind: &str, format: Option<&str>) -> Self {
        const MOMENTS: [&str; 4] = ["DATE", "TIME", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"];
        let kind = match kind {
            "BIGINT" => Kind::Whole,
            "DOUBLE" | "HUGEINT" => Kind::Float,
            "BOOLEAN" => Kind::Truth,
            "VARCHAR" => Kind::Text,
            other => MOMENTS.iter().find(|m| **m == other).map_or(Kind::Other, |m| Kind::Moment(m)),
        };
        let dated = matches!(kind, Kind::Moment(moment) if moment != "TIME");
        let format = format.filter(|_| dated);
        let order: String = format.unwrap_or("").chars().filter(|c| "dmyY".contains(*c)).collect();
        Look {
            kind,
            // A German date has dots, and the day first.
            swappable: matches!(order.as_str(), "dmY" | "mdY")
                && format.is_some_and(|format| !format.starts_with("%d.")),
            // Of 01/02/03 each part may be the year.
            lossy: order.contains('y'),
            format: format.map(String::from),
            usual: true,
            shapes: Vec::new(),
            swapped: false,
            decided: false,
            sniffed: false,
            doubts: false,
        }
    }

    /// Takes in the next value, which the sniffer saw or didn't.
    pub(super) fn see(&mut self, value: &str, sniffed: bool) {
        self.sniffed |= sniffed;
        let fits = match self.kind {
            Kind::Text => true,
            Kind::Whole => {
                // What DuckDB takes for a whole number is one, or text: 0x1F, 007.
                self.usual &= strict::integer(value.as_bytes()).is_some();
                self.lossy |= !self.usual;
                self.usual
            }
            Kind::Float => {
                self.lossy |= loses_as_double(value);
                value.parse::<f64>().is_ok()
            }
            Kind::Truth => {
                // `no` is a country as well.
                let known = ["true", "false"].iter().any(|word| value.eq_ignore_ascii_case(word));
                self.lossy |= !known;
                known
            }
            Kind::Moment(moment) => self.see_moment(moment, value),
            Kind::Other => false,
        };
        // Where the sniffer saw no value at all, its type says nothing.
        let told = sniffed || (fits && self.sniffed);
        self.doubts |= !told;
    }

    /// Says whether the value is written like those before it.
    fn see_moment(&mut self, moment: &str, value: &str) -> bool {
        self.usual &= moment == "DATE" && strict::date(value.as_bytes()).is_some();
        let shape = strict::shape(value);
        // DuckDB takes 01/02/03 for a day of the year 1 where nobody told it a format, and
        // `infinity` and `epoch` for moments; of a second it keeps six digits.
        let year_first = self.format.as_deref().is_none_or(|format| format.starts_with("%Y"));
        let begins = if year_first && moment != "TIME" { "Y" } else { "0" };
        let fraction = value.rsplit_once('.').map_or("", |(_, fraction)| fraction);
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        self.lossy |= digits > 6 || !shape.starts_with(begins);
        let known_shape = self.shapes.contains(&shape);
        if !known_shape {
            self.shapes.push(shape);
            self.lossy |= self.shapes.len() > SHAPES_MAX;
        }
        if self.swappable {
            let mut parts = value.split(['/', '-', ' ']).map_while(|part| part.parse::<u32>().ok());
            if let (Some(a), Some(b)) = (parts.next(), parts.next()) {
                self.decided |= a > 12 || b > 12;
                self.swapped |= a != b;
            }
        }
        known_shape
    }

    /// Whether sniffing all that was seen could tell another type.
    pub(super) fn doubts(&self) -> bool {
        self.doubts
    }

    /// The format of which a value shows which part is the day and which the month.
    pub(super) fn decided_format(&self) -> Option<&str> {
        self.format.as_deref().filter(|_| self.decided)
    }

    /// What becomes of the column; `decided` are the formats whose order is known.
    pub(super) fn verdict(self, decided: &[String]) -> Verdict {
        let known = self.format.as_ref().is_some_and(|format| decided.contains(format));
        if self.lossy || (self.swappable && self.swapped && !known) {
            return Verdict::Text;
        }
        match self.kind {
            Kind::Whole => Verdict::Written(Written::Integer),
            Kind::Moment(_) if self.usual => Verdict::Written(Written::Date),
            Kind::Moment(kind) => {
                let Look { shapes, format, .. } = self;
                Verdict::Written(Written::Shaped(Shaped { kind, shapes, format }))
            }
            _ => Verdict::AsSniffed,
        }
    }
}

/// Whether a floating-point number would be another one: digits with leading zeros, more of
/// them than it keeps, or one that it takes for infinite.
fn loses_as_double(value: &str) -> bool {
    const KEPT: u64 = 1 << 53;
    let value = value.trim_matches(' ');
    let digits = value.trim_start_matches(['+', '-']);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        let code = digits.len() > 1 && digits.starts_with('0');
        return code || digits.parse::<u64>().map_or(true, |number| number > KEPT);
    }
    digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && value.parse::<f64>().map_or(true, f64::is_infinite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(kind: &str, format: Option<&str>, values: &[&str]) -> String {
        let mut look = Look::at(kind, format);
        values.iter().for_each(|value| look.see(value, true));
        let decided: Vec<String> = look.decided_format().map(String::from).into_iter().collect();
        match look.verdict(&decided) {
            Verdict::Text => "text".into(),
            Verdict::AsSniffed => "as sniffed".into(),
            Verdict::Written(Written::Shaped(shaped)) => shaped.shapes.join("|"),
            Verdict::Written(written) => written.kind().into(),
        }
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
            ("BOOLEAN", &["true"], &["false"], false),
            ("BOOLEAN", &["true"], &["maybe"], true),
            ("TIME", &["10:00"], &["11:00"], false),
            ("TIME", &["10:00"], &["11:00:05"], true),
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
        let (dm, ymd) = (Some("%d/%m/%Y"), Some("%Y-%m-%d"));
        for (kind, format, values, expected) in [
            ("BIGINT", None, &["1", "-20", "0", "+2", " 3"][..], "BIGINT"),
            ("BIGINT", None, &["1", "007"], "text"),
            ("BIGINT", None, &["0x10", "0x1F"], "text"),
            ("DOUBLE", None, &["12345678901234567890", "1"], "text"),
            ("DOUBLE", None, &["-12345678901234567890"], "text"),
            ("DOUBLE", None, &["0.5", "9007199254740993"], "text"),
            ("DOUBLE", None, &["1e400"], "text"),
            ("DOUBLE", None, &["1.5", "0.5", "inf", "-1e5", "NaN"], "as sniffed"),
            ("DATE", ymd, &["2026-01-02"], "DATE"),
            ("DATE", ymd, &["2026-01-02", " 2026-1-2"], "text"),
            ("DATE", ymd, &["2026-01-02", "2026-1-2", "2026-11-12"], "Y-0-0"),
            ("DATE", Some("%Y/%m/%d"), &["2026/01/02"], "Y/0/0"),
            ("DATE", dm, &["01/02/2026", "03/04/2026"], "text"),
            ("DATE", dm, &["01/02/2026", "31/04/2026"], "0/0/Y"),
            ("DATE", dm, &["02/02/2026"], "0/0/Y"),
            ("DATE", Some("%d.%m.%Y"), &["01.02.2026"], "0.0.Y"),
            ("DATE", Some("%d %m %Y"), &["01 02 2026"], "text"),
            ("DATE", Some("%y/%m/%d"), &["01/02/03"], "text"),
            ("DATE", ymd, &["26-01-02"], "text"),
            ("DATE", None, &["infinity"], "text"),
            ("DATE", ymd, &["epoch"], "text"),
            ("TIME", None, &["10:00:00", "9:00:00.5"], "0:0:0"),
            ("TIME", None, &["10:00:00", "9:00"], "0:0:0|0:0"),
            ("TIMESTAMP", None, &["2026-01-02 03:04:05"], "Y-0-0 0:0:0"),
            ("TIMESTAMP", None, &["2026/01/02 03:04"], "Y/0/0 0:0"),
            ("TIMESTAMP", None, &["01/02/03"], "text"),
            ("TIMESTAMP", None, &["2026-01-02 03:04:05 UTC"], "Y-0-0 0:0:0 UTC"),
            ("TIMESTAMP", None, &["2026-01-02 03:04:05.123456789"], "text"),
            ("TIMESTAMP WITH TIME ZONE", None, &["2026-01-02 03:04:05.123456+02"], "Y-0-0 0:0:0+0"),
            ("BOOLEAN", None, &["true", "False"], "as sniffed"),
            ("BOOLEAN", None, &["no"], "text"),
            ("VARCHAR", None, &["x"], "as sniffed"),
        ] {
            assert_eq!(verdict(kind, format, values), expected, "{kind} {values:?}");
        }
    }
}
