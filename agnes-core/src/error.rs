//! What can go wrong, in one type.
//!
//! An [`Error`] has a [`Kind`], a message and [`Key`]ed context. The kind is what a
//! program matches: it says what the caller can do. The message is what a person
//! reads: what happened, why, and the cure. The context repeats the names that the
//! message mentions for programs.
//!
//! Invariants:
//! - a secret's value is never part of a message, a context value or a source;
//! - a new kind exists only where a caller would act differently.
//!
//! ```
//! use agnes_core::{Error, Key, Kind};
//!
//! let error = Error::new(Kind::Contract, "`orders.parquet` has no footer; write it again")
//!     .with(Key::Source, "crm")
//!     .with(Key::Table, "orders");
//! assert_eq!(error.kind(), Kind::Contract);
//! assert_eq!(error.kind().exit_code(), 6);
//! assert_eq!(error.context(Key::Table), Some("orders"));
//! ```

use std::fmt;
use std::path::Path;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// The call is wrong: fix it.
    Invalid,
    /// Not permitted, or (to anybody but an admin) not there: ask an admin.
    Denied,
    /// Nothing of that name: check the name.
    NotFound,
    /// It clashes with what is there: rename, or retry with the new state.
    Conflict,
    /// An extract breaks the contract: fix the connector.
    Contract,
    /// Not now: retry. The only kind worth retrying unchanged.
    Unavailable,
    /// A limit was reached: ask for less, or later.
    Limit,
    /// The caller cancelled it.
    Cancelled,
    /// A bug in Agnes: report it.
    Internal,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 9] = [
        Kind::Invalid,
        Kind::Denied,
        Kind::NotFound,
        Kind::Conflict,
        Kind::Contract,
        Kind::Unavailable,
        Kind::Limit,
        Kind::Cancelled,
        Kind::Internal,
    ];

    /// The name that every door uses: error codes on the wire, `code` in JavaScript.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Invalid => "Invalid",
            Kind::Denied => "Denied",
            Kind::NotFound => "NotFound",
            Kind::Conflict => "Conflict",
            Kind::Contract => "Contract",
            Kind::Unavailable => "Unavailable",
            Kind::Limit => "Limit",
            Kind::Cancelled => "Cancelled",
            Kind::Internal => "Internal",
        }
    }

    /// The exit code of a command that fails with this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Invalid => 2,
            Kind::Denied => 3,
            Kind::NotFound => 4,
            Kind::Conflict => 5,
            Kind::Contract => 6,
            Kind::Unavailable => 7,
            Kind::Limit => 8,
            Kind::Cancelled => 130,
            Kind::Internal => 70,
        }
    }

    /// Whether the same call may succeed later, with nothing changed by the caller.
    pub fn retryable(self) -> bool {
        self == Kind::Unavailable
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The names under which an [`Error`] carries context.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Key {
    /// A source's name.
    Source,
    /// A table's name.
    Table,
    /// A file or folder.
    Path,
    /// A view's name in the analytics database.
    View,
    /// A column's name.
    Column,
    /// A DuckDB extension's name.
    Extension,
    /// What was being done.
    Operation,
    /// Why, in one word that programs tell apart, as in `last_admin`.
    Reason,
    /// How many there are, where there are too many.
    Count,
    /// The most that there may be.
    Max,
}

impl Key {
    /// The key as it is spelled in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Key::Source => "source",
            Key::Table => "table",
            Key::Path => "path",
            Key::View => "view",
            Key::Column => "column",
            Key::Extension => "extension",
            Key::Operation => "operation",
            Key::Reason => "reason",
            Key::Count => "count",
            Key::Max => "max",
        }
    }
}

/// What a panic said.
pub(crate) fn of_a_panic(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_string())
}

/// Why something failed: a kind to match, a message to read, context to process.
///
/// One pointer wide, so that a `Result` stays small.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    context: Vec<(Key, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this kind. The message is a sentence with a lower-case start and
    /// no final stop: what, why, cure, names in backticks.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), context: Vec::new(), source: None }))
    }

    /// Adds what the error is about. A key that is already there keeps its first value,
    /// which the code nearest to the failure has set.
    #[must_use]
    pub fn with(mut self, key: Key, value: impl fmt::Display) -> Self {
        if self.context(key).is_none() {
            self.0.context.push((key, value.to_string()));
        }
        self
    }

    /// Adds the lower-level error that led to this one.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// The same error without the place of the data folder, wherever what it says names a path
    /// below it.
    pub(crate) fn without_home(mut self, home: &str) -> Self {
        let context = self.0.context.iter_mut().map(|(_, value)| value);
        let mut found = false;
        for said in std::iter::once(&mut self.0.message).chain(context) {
            let mut from = 0;
            while let Some(at) = said.get(from..).and_then(|rest| rest.find(home)) {
                let start = from + at;
                // Not the end of a longer path.
                let before = said.get(..start).and_then(|text| text.chars().next_back());
                if before.is_some_and(|c| c.is_alphanumeric() || "/:._-".contains(c)) {
                    from = start + home.len();
                } else {
                    said.replace_range(start..start + home.len(), "");
                    from = start;
                    found = true;
                }
            }
        }
        if found {
            self.0.source = None;
        }
        self
    }

    /// The same error without one piece of context.
    pub(crate) fn without(mut self, key: Key) -> Self {
        self.0.context.retain(|(other, _)| *other != key);
        self
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What happened, why, and the cure, in one sentence.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The value of one context key, if it was set.
    pub fn context(&self, key: Key) -> Option<&str> {
        self.0.context.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str())
    }

    /// All context, in the order in which it was added.
    pub fn contexts(&self) -> impl Iterator<Item = (Key, &str)> {
        self.0.context.iter().map(|(k, v)| (*k, v.as_str()))
    }

    /// A failed operation on a file: which operation, which file, and what helps.
    pub(crate) fn io(operation: &str, path: &Path, error: std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        let cure = match error.kind() {
            E::StorageFull | E::QuotaExceeded => "; free some space and run it again",
            E::PermissionDenied => "; check who owns it and its mode",
            E::ReadOnlyFilesystem => "; the file system is read-only",
            E::NotFound => "; check the path",
            _ => "",
        };
        let kind = match error.kind() {
            E::NotFound => Kind::NotFound,
            _ => Kind::Unavailable,
        };
        Error::new(kind, format!("can't {operation} `{}`: {error}{cure}", path.display()))
            .with(Key::Path, path.display())
            .with(Key::Operation, operation)
            .because(error)
    }

    /// Something that only a bug in Agnes explains.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Error::new(Kind::Internal, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind).field("message", &self.0.message);
        for (key, value) in &self.0.context {
            out.field(key.as_str(), value);
        }
        if let Some(source) = &self.0.source {
            out.field("source_error", source);
        }
        out.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as _)
    }
}

/// The form in which reports and `--json` show an error.
impl serde::Serialize for Error {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", &self.0.kind)?;
        map.serialize_entry("message", &self.0.message)?;
        for (key, value) in &self.0.context {
            map.serialize_entry(key.as_str(), value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_distinct_and_not_zero() {
        let kinds = Kind::ALL;
        let mut codes: Vec<u8> = kinds.iter().map(|k| k.exit_code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), kinds.len());
        // 9 is a command whose work was done in part, 1 what a shell reports by itself.
        assert!(!codes.contains(&0) && !codes.contains(&1) && !codes.contains(&9));
    }

    #[test]
    fn the_first_context_value_stays() {
        let error =
            Error::new(Kind::Invalid, "x").with(Key::Path, "near").with(Key::Path, "far away");
        assert_eq!(error.context(Key::Path), Some("near"));
    }

    #[test]
    fn a_full_disk_names_the_file_and_the_cure() {
        let full = std::io::Error::from_raw_os_error(28);
        let error = Error::io("write", Path::new("/d/x.parquet"), full);
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.message().contains("/d/x.parquet"), "{error}");
        assert!(error.message().contains("free some space"), "{error}");
    }

    #[test]
    fn only_the_place_of_the_data_is_cut_out() {
        let error =
            Error::new(Kind::Invalid, "`/d/a/x` and \"/d/a/y\", not /mnt/d/a/z or s3://b/d/a/")
                .with(Key::Path, "/d/a/x")
                .because(std::io::Error::other("/d/a/x"))
                .without_home("/d/a/");
        assert_eq!(error.message(), "`x` and \"y\", not /mnt/d/a/z or s3://b/d/a/");
        assert_eq!(error.context(Key::Path), Some("x"));
        assert!(!format!("{error:?}").contains("\"/d/a/x"));
    }

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
