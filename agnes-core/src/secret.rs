//! Secrets: values that can be used and are never shown.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Error, Kind, Result, TokenEnv};

/// A secret's value. It can be used, not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a value.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value, for whoever has to use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str("…")
    }
}

/// From a text or a number; what is neither isn't repeated in the error.
impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        match serde_json::Value::deserialize(d)? {
            serde_json::Value::String(text) => Ok(Secret(text)),
            serde_json::Value::Number(number) => Ok(Secret(number.to_string())),
            _ => Err(serde::de::Error::custom("a secret is a text")),
        }
    }
}

/// Where the values of token variables come from: the environment, a vault, a test.
pub trait Secrets: Send + Sync {
    /// The value of a variable, or nothing when it is unset or empty.
    ///
    /// # Errors
    /// Whatever keeps it from being had, as a vault that doesn't answer. Whoever needs it fails with `Unavailable`,
    /// of which that is the cause: it isn't taken for unset.
    fn get(&self, name: &TokenEnv) -> Result<Option<Secret>>;
}

/// The value of a variable, for whoever works for somebody else: what keeps it from being had is the error's cause,
/// which isn't shown to her.
pub(crate) fn had(secrets: &dyn Secrets, name: &TokenEnv) -> Result<Option<Secret>> {
    secrets.get(name).map_err(|cause| {
        let message = format!("the variable `{name}` can't be had; try again");
        Error::new(Kind::Unavailable, message).because(cause)
    })
}

/// No secrets at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, _: &TokenEnv) -> Result<Option<Secret>> {
        Ok(None)
    }
}

/// Secrets that are held in memory.
impl Secrets for BTreeMap<String, Secret> {
    fn get(&self, name: &TokenEnv) -> Result<Option<Secret>> {
        Ok(BTreeMap::get(self, name.as_str()).filter(|s| !s.0.is_empty()).cloned())
    }
}
