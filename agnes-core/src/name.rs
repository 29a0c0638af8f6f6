//! Names: text that has been looked at once and may be trusted from then on.
//!
//! A string from a file, a request or another language becomes one of these types at
//! the boundary; below it no function takes a `&str` for a name. That is what keeps a
//! hostile name out of SQL text and out of paths.
//!
//! Invariants:
//! - a name is built by `parse` alone (`FromStr`, `TryFrom<String>` and serde go through it);
//! - the strict names ([`SourceName`], [`TableName`], [`ViewName`], [`AttachAlias`],
//!   [`ExtensionName`]) match `^[a-zA-Z_][a-zA-Z0-9_]{0,63}$` to the absolute end, so that
//!   each is a safe SQL identifier and a safe file name;
//! - a name keeps its spelling and compares without (ASCII) case, as DuckDB's identifiers do;
//! - the types don't convert into each other by accident.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::{Error, Kind, Result};

/// The most characters that a strict name may have.
pub const STRICT_MAX: usize = 64;
/// The most characters that an [`ExternalName`] may have.
pub const EXTERNAL_MAX: usize = 128;

/// Marks that have no width or turn the direction of writing.
pub(crate) fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Text as it can be shown in a message: characters that a terminal obeys or that nobody
/// sees are escaped, and it is cut at 80.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    const MOST: usize = 80;
    if text.len() <= MOST && !text.chars().any(|c| c.is_control() || c == '`' || is_unseen(c)) {
        return Cow::Borrowed(text);
    }
    let mut out: String =
        text.chars().take(MOST).flat_map(|c| c.escape_debug()).filter(|c| *c != '`').collect();
    if text.chars().count() > MOST {
        out.push('…');
    }
    Cow::Owned(out)
}

/// The name that somebody may have meant, of those that there are.
pub(crate) fn nearest<'n>(name: &str, all: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let folded = name.to_ascii_lowercase();
    all.map(|known| (distance(&folded, &known.to_ascii_lowercase()), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
        .map(|(_, known)| known)
}

/// How many letters have to change to make one word of the other, up to a small number.
fn distance(a: &str, b: &str) -> usize {
    const FAR: usize = 99;
    if a.len().abs_diff(b.len()) > 4 || a.len() > 64 {
        return FAR;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let value = (*cell + 1).min(left + 1).min(diagonal + usize::from(x != y));
            diagonal = std::mem::replace(cell, value);
            left = value;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(FAR)
}

/// What is wrong with `text` as a strict identifier, or nothing.
fn strict_fault(text: &str) -> Option<&'static str> {
    let mut chars = text.chars();
    match chars.next() {
        None => return Some("is empty"),
        Some(c) if c.is_ascii_alphabetic() || c == '_' => {}
        Some(c) if c.is_ascii_digit() => return Some("starts with a digit"),
        Some(_) => return Some("has a character that is no letter, digit or `_`"),
    }
    if !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Some("has a character that is no letter, digit or `_`");
    }
    (text.len() > STRICT_MAX).then_some("is longer than 64 characters")
}

/// What is wrong with `text` as an external name, or nothing.
fn external_fault(text: &str) -> Option<&'static str> {
    let mut chars = text.chars();
    match chars.next() {
        None => return Some("is empty"),
        Some(c) if c.is_ascii_alphanumeric() || c == '_' => {}
        Some(_) => return Some("starts with something else than a letter, a digit or `_`"),
    }
    if !chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
        return Some("has a character other than letters, digits, `_`, `.` and `-`");
    }
    (text.len() > EXTERNAL_MAX).then_some("is longer than 128 characters")
}

/// Names to which DuckDB itself gives a meaning: a view of that name would hide the
/// engine's own, or be hidden by it.
fn engine_fault(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    let taken = ["duckdb_", "pg_", "sqlite_", "pragma_"].iter().any(|p| lower.starts_with(p))
        || lower == "information_schema";
    taken.then_some("is a name to which DuckDB gives a meaning")
}

fn view_fault(text: &str) -> Option<&'static str> {
    strict_fault(text).or_else(|| engine_fault(text))
}

/// `^[A-Z][A-Z0-9_]{0,63}$`
fn env_fault(text: &str) -> Option<&'static str> {
    let mut chars = text.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_uppercase());
    let goes_on = chars.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    if !starts || !goes_on {
        return Some("is not made of capital letters, digits and `_`, starting with a letter");
    }
    (text.len() > STRICT_MAX).then_some("is longer than 64 characters")
}

fn column_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("is empty");
    }
    text.contains('\0').then_some("has a NUL character")
}

/// Hashes text as if it were in lower case; in pieces, because a hasher is slow byte by byte.
pub(crate) fn hash_folded(text: &str, state: &mut impl Hasher) {
    let mut folded = [0; 64];
    for piece in text.as_bytes().chunks(folded.len()) {
        for (to, from) in folded.iter_mut().zip(piece) {
            *to = from.to_ascii_lowercase();
        }
        state.write(folded.get(..piece.len()).unwrap_or_default());
    }
    state.write_u8(0xff);
}

macro_rules! names {
    ($( $(#[$doc:meta])* $name:ident, $what:literal, $fault:ident; )+) => { $(
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks `text` and takes it as a name.
            ///
            /// # Errors
            /// `Invalid`, saying what is wrong with it.
            pub fn parse(text: impl Into<String>) -> Result<Self> {
                let text = text.into();
                match $fault(&text) {
                    None => Ok($name(text.into_boxed_str())),
                    Some(fault) => Err(Error::new(
                        Kind::Invalid,
                        format!(concat!("`{}` can't be a ", $what, ": it {}"), shown(&text), fault),
                    )),
                }
            }

            /// The name as it was spelled.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.eq_ignore_ascii_case(&other.0)
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                let (a, b) = (self.0.as_bytes(), other.0.as_bytes());
                // Maps of thousands of names compare a lot, mostly equal bytes.
                let differ = a.iter().zip(b).find_map(|(a, b)| {
                    let folded = || a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase());
                    (a != b).then(folded).filter(|order| order.is_ne())
                });
                differ.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                hash_folded(&self.0, state);
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::parse(String::deserialize(d)?).map_err(serde::de::Error::custom)
            }
        }
    )+ };
}

names! {
    /// The name of a source, and of its folder below `extracts/`.
    ///
    /// **Invariants**: `^[a-zA-Z_][a-zA-Z0-9_]{0,63}$`; compares without case.
    ///
    /// ```
    /// use agnes_core::SourceName;
    /// assert_eq!(SourceName::parse("CRM")?, SourceName::parse("crm")?);
    /// # Ok::<(), agnes_core::Error>(())
    /// ```
    /// ```
    /// # use agnes_core::SourceName;
    /// assert!(SourceName::parse("../crm").is_err());
    /// assert!(SourceName::parse("crm\n").is_err());
    /// ```
    /// ```compile_fail
    /// # use agnes_core::{SourceName, TableName};
    /// let table: TableName = SourceName::parse("crm").unwrap();
    /// ```
    SourceName, "source name", strict_fault;

    /// The name of a table within its source, as `_meta.table_name` gives it.
    ///
    /// **Invariants**: `^[a-zA-Z_][a-zA-Z0-9_]{0,63}$`; compares without case.
    ///
    /// ```
    /// use agnes_core::TableName;
    /// assert_eq!(TableName::parse("Orders")?.as_str(), "Orders");
    /// # Ok::<(), agnes_core::Error>(())
    /// ```
    /// ```
    /// # use agnes_core::TableName;
    /// assert!(TableName::parse("orders; DROP").is_err());
    /// ```
    /// ```compile_fail
    /// # use agnes_core::TableName;
    /// let table: TableName = "orders";
    /// ```
    TableName, "table name", strict_fault;

    /// The name of a view in the analytics database: a table name that the engine
    /// gives no meaning of its own.
    ///
    /// **Invariants**: as [`TableName`], and it doesn't start with `duckdb_`, `pg_`,
    /// `sqlite_` or `pragma_` and isn't `information_schema`.
    ///
    /// ```
    /// use agnes_core::ViewName;
    /// assert!(ViewName::parse("orders").is_ok());
    /// ```
    /// ```
    /// # use agnes_core::ViewName;
    /// assert!(ViewName::parse("DuckDB_tables").is_err());
    /// ```
    /// ```compile_fail
    /// # use agnes_core::{TableName, ViewName};
    /// let view: ViewName = TableName::parse("orders").unwrap();
    /// ```
    ViewName, "view name", view_fault;

    /// The catalog name under which a remote system is attached.
    ///
    /// **Invariants**: `^[a-zA-Z_][a-zA-Z0-9_]{0,63}$`; compares without case.
    ///
    /// ```
    /// use agnes_core::AttachAlias;
    /// assert!(AttachAlias::parse("kbc").is_ok());
    /// ```
    /// ```
    /// # use agnes_core::AttachAlias;
    /// assert!(AttachAlias::parse("a.b").is_err());
    /// ```
    /// ```compile_fail
    /// # use agnes_core::AttachAlias;
    /// let alias: AttachAlias = String::from("kbc");
    /// ```
    AttachAlias, "remote alias", strict_fault;

    /// The name of a DuckDB extension.
    ///
    /// **Invariants**: `^[a-zA-Z_][a-zA-Z0-9_]{0,63}$`; compares without case.
    ///
    /// ```
    /// use agnes_core::ExtensionName;
    /// assert!(ExtensionName::parse("bigquery").is_ok());
    /// ```
    /// ```
    /// # use agnes_core::ExtensionName;
    /// assert!(ExtensionName::parse("/tmp/evil.duckdb_extension").is_err());
    /// ```
    /// ```compile_fail
    /// # use agnes_core::{AttachAlias, ExtensionName};
    /// let extension: ExtensionName = AttachAlias::parse("bq").unwrap();
    /// ```
    ExtensionName, "extension name", strict_fault;

    /// A name that another system gave: a bucket, a dataset, `in.c-crm.orders`.
    ///
    /// **Invariants**: `^[a-zA-Z0-9_][a-zA-Z0-9_.\-]{0,127}$`; compares without case.
    ///
    /// ```
    /// use agnes_core::ExternalName;
    /// assert!(ExternalName::parse("in.c-crm.orders").is_ok());
    /// ```
    /// ```
    /// # use agnes_core::ExternalName;
    /// assert!(ExternalName::parse(".hidden").is_err());
    /// assert!(ExternalName::parse("a/b").is_err());
    /// ```
    /// ```compile_fail
    /// # use agnes_core::{ExternalName, TableName};
    /// let name: ExternalName = TableName::parse("orders").unwrap();
    /// ```
    ExternalName, "external name", external_fault;

    /// The name of a column: any text without NUL, always quoted in SQL.
    ///
    /// **Invariants**: not empty, no NUL character; compares without ASCII case.
    ///
    /// ```
    /// use agnes_core::ColumnName;
    /// assert!(ColumnName::parse("Größe \"netto\"").is_ok());
    /// ```
    /// ```
    /// # use agnes_core::ColumnName;
    /// assert!(ColumnName::parse("a\0b").is_err());
    /// ```
    /// ```compile_fail
    /// # use agnes_core::ColumnName;
    /// let column: ColumnName = "id";
    /// ```
    ColumnName, "column name", column_fault;

    /// The name of the variable that holds a token; never the token.
    ///
    /// **Invariants**: `^[A-Z][A-Z0-9_]{0,63}$`.
    ///
    /// ```
    /// use agnes_core::TokenEnv;
    /// assert!(TokenEnv::parse("KBC_TOKEN").is_ok());
    /// ```
    /// ```
    /// # use agnes_core::TokenEnv;
    /// assert!(TokenEnv::parse("kbc_token").is_err());
    /// ```
    /// ```compile_fail
    /// # use agnes_core::TokenEnv;
    /// let token: TokenEnv = "KBC_TOKEN";
    /// ```
    TokenEnv, "token variable", env_fault;
}

names! {
    /// The id under which the registry knows a table, and which grants name. It stays when
    /// the table's name or source changes.
    ///
    /// **Invariants**: `^[a-zA-Z0-9_][a-zA-Z0-9_.\-]{0,127}$`; compares without case.
    ///
    /// ```
    /// use agnes_core::TableId;
    /// assert_eq!(TableId::parse("Orders_90d")?, TableId::parse("orders_90d")?);
    /// # Ok::<(), agnes_core::Error>(())
    /// ```
    /// ```
    /// # use agnes_core::TableId;
    /// assert!(TableId::parse("orders 90d").is_err());
    /// ```
    /// ```compile_fail
    /// # use agnes_core::{TableId, TableName};
    /// let id: TableId = TableName::parse("orders").unwrap();
    /// ```
    TableId, "table id", external_fault;

    /// What kind of thing a grant is about: `table`, or what an embedding program adds.
    ///
    /// **Invariants**: `^[a-zA-Z_][a-zA-Z0-9_]{0,63}$`; compares without case.
    ///
    /// ```
    /// use agnes_core::access::ResourceType;
    /// assert_eq!(ResourceType::parse("table")?, ResourceType::table());
    /// # Ok::<(), agnes_core::Error>(())
    /// ```
    /// ```
    /// # use agnes_core::access::ResourceType;
    /// assert!(ResourceType::parse("a:b").is_err());
    /// ```
    /// ```compile_fail
    /// # use agnes_core::access::ResourceType;
    /// let kind: ResourceType = "table";
    /// ```
    ResourceType, "resource type", strict_fault;
}

impl TableId {
    /// The id that a table gets when nobody chooses one: its name in lower case.
    pub fn of(name: &ViewName) -> Self {
        // Every view name is a table id.
        TableId(name.as_str().to_ascii_lowercase().into_boxed_str())
    }
}

impl ResourceType {
    /// How the type of tables is written.
    pub(crate) const TABLE: &str = "table";

    /// The type of tables.
    pub fn table() -> Self {
        ResourceType(Self::TABLE.into())
    }

    /// Whether it is the type of tables.
    pub(crate) fn is_table(&self) -> bool {
        self.as_str().eq_ignore_ascii_case(Self::TABLE)
    }
}

impl ViewName {
    /// The view that exposes this table.
    ///
    /// # Errors
    /// `Invalid` when DuckDB gives the name a meaning of its own.
    pub fn of(table: &TableName) -> Result<Self> {
        ViewName::parse(table.as_str())
    }
}

impl TableName {
    /// The table that a file is taken for: its name without endings, in lower case, each
    /// character that can't be in an identifier as `_`, cut at 64 characters.
    ///
    /// ```
    /// use agnes_core::TableName;
    /// assert_eq!(TableName::for_stem("Q3 Sales-final")?.as_str(), "q3_sales_final");
    /// assert_eq!(TableName::for_stem("2024")?.as_str(), "_2024");
    /// # Ok::<(), agnes_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when nothing of the name can be kept, as in `★`.
    pub fn for_stem(stem: &str) -> Result<Self> {
        if !stem.chars().any(|c| c.is_ascii_alphanumeric()) {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "no table can be named after `{}`: it has no letter or digit (a to z, 0 to 9); rename the file",
                    shown(stem)
                ),
            ));
        }
        let mut name = String::with_capacity(stem.len() + 1);
        if stem.starts_with(|c: char| c.is_ascii_digit()) {
            name.push('_');
        }
        name.extend(
            stem.chars().map(
                |c| {
                    if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }
                },
            ),
        );
        name.truncate(STRICT_MAX);
        TableName::parse(name)
    }
}

/// Checks a name of a kind that a word says: `source`, `table`, `view`, `alias`, `extension`, `external`, `column`,
/// `token_env`. Gives it back.
///
/// # Errors
/// `Invalid` for a name that isn't one, and for another word.
pub fn check_name(kind: &str, name: &str) -> Result<String> {
    macro_rules! parsed {
        ($type:ty) => {
            <$type>::parse(name)?.to_string()
        };
    }
    Ok(match kind {
        "source" => parsed!(SourceName),
        "table" => parsed!(TableName),
        "view" => parsed!(ViewName),
        "alias" => parsed!(AttachAlias),
        "extension" => parsed!(ExtensionName),
        "external" => parsed!(ExternalName),
        "column" => parsed!(ColumnName),
        "token_env" => parsed!(TokenEnv),
        _ => {
            let kind = kind.escape_debug();
            return Err(Error::new(Kind::Invalid, format!("there is no kind of name `{kind}`")));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn near_words_are_near() {
        assert_eq!(distance("orders", "orders"), 0);
        assert_eq!(distance("order", "orders"), 1);
        assert_eq!(distance("odrers", "orders"), 2);
        assert!(distance("a", "completely") > 5);
    }

    #[test]
    fn strict_names_end_at_the_absolute_end() {
        for bad in ["", "a\n", "a\0", "1a", "a b", "a-b", "ä", "a\u{200b}", "\"a\"", "ａ", "а"] {
            assert!(SourceName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(SourceName::parse("a".repeat(64)).is_ok());
        assert!(SourceName::parse("a".repeat(65)).is_err());
        assert!(ExternalName::parse("a".repeat(128)).is_ok());
        assert!(ExternalName::parse("a".repeat(129)).is_err());
    }

    #[test]
    fn equal_names_hash_alike_and_keep_their_spelling() {
        use std::collections::HashSet;
        let mut set = HashSet::new();
        set.insert(TableName::parse("Orders").unwrap());
        assert!(set.contains(&TableName::parse("ORDERS").unwrap()));
        assert_eq!(set.iter().next().unwrap().as_str(), "Orders");
    }

    #[test]
    fn messages_don_t_carry_control_characters() {
        let error = SourceName::parse("a\n\u{1b}[31mred`").unwrap_err();
        assert!(!error.message().contains(['\n', '\u{1b}']), "{error}");
    }

    #[test]
    fn file_names_become_table_names() {
        for (file, table) in [
            ("airports", "airports"),
            ("Umsätze 2024", "ums_tze_2024"),
            ("Sales (1)", "sales__1_"),
            ("a.b.c", "a_b_c"),
        ] {
            assert_eq!(TableName::for_stem(file).unwrap().as_str(), table, "{file}");
        }
        assert!(TableName::for_stem("★").is_err());
        assert_eq!(TableName::for_stem(&"x".repeat(90)).unwrap().as_str().len(), 64);
    }

    proptest! {
        #[test]
        fn a_strict_name_is_safe_whatever_comes_in(text in ".*") {
            if let Ok(name) = SourceName::parse(text.clone()) {
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
                prop_assert_eq!(name.as_str(), text.as_str());
            }
        }

        #[test]
        fn a_file_name_never_gives_an_unsafe_table(text in ".*") {
            if let Ok(name) = TableName::for_stem(&text) {
                prop_assert!(strict_fault(name.as_str()).is_none());
            }
        }

        #[test]
        fn order_and_equality_agree(a in "[a-zA-Z_]{1,3}", b in "[a-zA-Z_]{1,3}") {
            let (a, b) = (TableName::parse(a).unwrap(), TableName::parse(b).unwrap());
            prop_assert_eq!(a == b, a.cmp(&b) == Ordering::Equal);
        }
    }
}
