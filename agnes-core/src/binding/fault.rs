//! Errors that cross over between languages.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Key, Kind};

/// An error, as another language tells it and is told it.
///
/// ```
/// use agnes_core::binding::Fault;
/// use agnes_core::{Error, Key, Kind};
///
/// let fault = Fault::from(&Error::new(Kind::NotFound, "it isn't there").with(Key::Table, "orders"));
/// let text = serde_json::to_string(&fault).unwrap();
/// assert_eq!(text, r#"{"code":"NotFound","message":"it isn't there","context":{"table":"orders"}}"#);
/// let error = Error::from(serde_json::from_str::<Fault>(&text).unwrap());
/// assert_eq!(error.context(Key::Table), Some("orders"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What its caller can do about it.
    pub code: Kind,
    /// What is wrong, for people.
    pub message: String,
    /// What it is about, by the names of [`Key`]; others say nothing.
    #[serde(default)]
    pub context: BTreeMap<String, String>,
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Fault {
        let named = |(key, value): (Key, &str)| (key.as_str().to_string(), value.to_string());
        let (code, message) = (error.kind(), error.message().to_string());
        Fault { code, message, context: error.contexts().map(named).collect() }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        let known = fault.context.into_iter().filter_map(|(key, value)| {
            Some((serde_json::from_value::<Key>(key.into()).ok()?, value))
        });
        let error = Error::new(fault.code, fault.message);
        known.fold(error, |error, (key, value)| error.with(key, value))
    }
}
