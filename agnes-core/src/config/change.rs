//! Changes to the overlay, as somebody makes them while the installation runs.
//! What reads the configuration at its start knows of them at the next one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::file::{INSTANCE, merge, parsed};
use super::mask::{is_secret, masked_as};
use super::{Config, Files, Level};
use crate::access::{AuditEvent, Principal};
use crate::disk::{self, Disk};
use crate::outbound::{SystemResolver, Target};
use crate::{Agnes, Error, Key, Kind, Result};

/// The sections that may be changed while the installation runs. Those that name programs, or
/// systems to attach, belong to whoever has the machine.
pub const CHANGEABLE: [&str; 13] = [
    "instance",
    "data_source",
    "email",
    "telegram",
    "jira",
    "theme",
    "server",
    "auth",
    "ai",
    "openmetadata",
    "desktop",
    "corporate_memory",
    "materialize",
];

/// What stands in the place of a secret where a configuration is shown to be changed; sent back, it
/// leaves the secret as it is.
pub const UNCHANGED: &str = "***";

/// The most bytes of an overlay: what is longer isn't read back.
const OVERLAY_MAX: usize = 1 << 20;

/// Of two who change something at once one waits.
static CHANGING: Mutex<()> = Mutex::new(());

impl Config {
    /// The sections that may be changed, as they are written, with [`UNCHANGED`] in the place of
    /// secrets.
    pub fn changeable(&self) -> Value {
        let shown = masked_as(&self.written, UNCHANGED);
        let section = |name: &&str| {
            let value = shown.get(*name).cloned().unwrap_or_else(|| Value::Object(Map::new()));
            (name.to_string(), value)
        };
        Value::Object(CHANGEABLE.iter().map(section).collect())
    }
}

impl Agnes {
    /// Changes the configuration by its overlay: mappings key by key, everything else as a whole.
    /// The paths of what is different now. `fits` says whether whoever reads it at its start could
    /// work with what would come of it.
    ///
    /// # Errors
    /// `Denied` for anybody but admins; `Invalid` for a section that may not be changed, for a key
    /// that nobody reads, for a value that can't be understood or names a variable, and for an
    /// address that leads inside; `Contract` when the overlay that is there can't be read, so that
    /// a change would lose it; what `fits` says.
    pub fn change_config(
        &self,
        principal: &Principal,
        files: &Files,
        variables: &dyn Fn(&str) -> Option<String>,
        sections: &Map<String, Value>,
        fits: &dyn Fn(&Config) -> Result<()>,
    ) -> Result<Vec<String>> {
        let access = self.access()?;
        access.admin(principal)?;
        if let Some(other) = sections.keys().find(|name| !CHANGEABLE.contains(&name.as_str())) {
            let near = crate::name::nearest(other, CHANGEABLE.iter().copied());
            let cure = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(Error::new(
                Kind::Invalid,
                format!("`{}` is no section to be changed here{cure}", crate::name::shown(other)),
            ));
        }
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        let path = files.state_dir.join(INSTANCE);
        let overlay = parsed(&path).map_err(|fault| {
            Error::new(Kind::Contract, format!("{fault}; mend or remove it first"))
                .with(Key::Path, path.display())
        })?;
        let before = Config::load(files, variables);
        let mut patch = Value::Object(sections.clone());
        leave(&mut patch, &before.written);
        names_no_variable(&patch, &before.written, "")?;
        let mut written = before.written.clone();
        merge(&mut written, patch.clone());
        let mut changed = BTreeMap::new();
        differences(&before.written, &written, "", false, &mut changed);
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        keeps_the_password(&changed)?;
        fits(&candidate(&before, written, variables)?)?;
        let mut after = overlay;
        merge(&mut after, patch);
        let text = serde_saphyr::to_string(&after)
            .map_err(|e| Error::internal("the overlay can't be written as YAML").because(e))?;
        // What couldn't be read back would be ignored at the next start, with what it forbids.
        if text.len() > OVERLAY_MAX || crate::yaml::parse(&text).ok().as_ref() != Some(&after) {
            return Err(Error::new(
                Kind::Invalid,
                format!("the overlay would be too large or too deep: {OVERLAY_MAX} bytes at most"),
            ));
        }
        write_private(&self.components().disk, &path, &text)?;
        let paths = changed.keys().cloned().collect();
        let event =
            AuditEvent::new(self.now(), "server-config.update", "server-config".to_string());
        access.tell(event.by(principal.user_id()).with(json!(changed)));
        Ok(paths)
    }
}

/// Takes out of a change what is sent back as it was shown.
fn leave(patch: &mut Value, there: &Value) {
    let Value::Object(patch) = patch else { return };
    patch.retain(|key, value| {
        let there = there.get(key).unwrap_or(&Value::Null);
        // A list that holds a secret is sent back as a whole, or changed as a whole.
        let shown = masked_as(&json!({ key: there }), UNCHANGED);
        if shown.get(key) == Some(value) && shown.get(key) != Some(there) {
            return false;
        }
        leave(value, there);
        value.as_str() != Some(UNCHANGED)
    });
}

/// Refuses a text that names a variable where none did: whoever may change the configuration isn't
/// to read what the environment holds.
fn names_no_variable(patch: &Value, there: &Value, path: &str) -> Result<()> {
    let refused = || {
        Error::new(
            Kind::Invalid,
            format!("`{path}`: a variable is named in instance.yaml, where the server runs"),
        )
    };
    match patch {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            let dot = if path.is_empty() { "" } else { "." };
            let there = there.get(key).unwrap_or(&Value::Null);
            names_no_variable(value, there, &format!("{path}{dot}{key}"))
        }),
        value if value == there => Ok(()),
        Value::Array(items) => {
            items.iter().try_for_each(|item| names_no_variable(item, &Value::Null, path))
        }
        Value::String(text) if text.contains("${") => Err(refused()),
        _ => Ok(()),
    }
}

/// Refuses to send a stored password to another mail server.
fn keeps_the_password(changed: &BTreeMap<String, Value>) -> Result<()> {
    let way = ["email.smtp_host", "email.smtp_port", "email.smtp_tls"];
    let is_redirected = way.iter().any(|path| {
        changed.get(*path).is_some_and(|change| change.get("from") != Some(&Value::Null))
    });
    match is_redirected && !changed.contains_key("email.smtp_password") {
        true => Err(Error::new(
            Kind::Invalid,
            "another mail server takes its password anew: send `smtp_password` with it, or null",
        )),
        false => Ok(()),
    }
}

/// What would come of a change, where all of it can be understood.
fn candidate(
    before: &Config,
    written: Value,
    variables: &dyn Fn(&str) -> Option<String>,
) -> Result<Config> {
    let mut problems = Vec::new();
    let values = super::file::with_variables(&written, variables, &mut problems);
    let after = super::read::read(before.files.clone(), written, values, problems);
    let known = before.problems();
    let is_new =
        |problem: &&super::Problem| problem.level != Level::Missing && !known.contains(problem);
    if let Some(problem) = after.problems().iter().find(is_new) {
        return Err(Error::new(Kind::Invalid, problem.message.clone()));
    }
    let stack = ["data_source", "keboola", "stack_url"];
    let address = |config: &Config| config.get(&stack).and_then(Value::as_str).map(str::to_string);
    match address(&after).filter(|url| !url.is_empty() && address(before).as_ref() != Some(url)) {
        Some(url) => Target::parse(&url)?.pin(&SystemResolver).map(|_| after),
        None => Ok(after),
    }
}

/// The leaves in which two trees differ, by their paths, as they may be told.
fn differences(
    before: &Value,
    after: &Value,
    path: &str,
    secret: bool,
    found: &mut BTreeMap<String, Value>,
) {
    if before == after {
        return;
    }
    let none = Map::new();
    match (before, after) {
        (_, Value::Object(new)) => {
            let old = before.as_object().unwrap_or(&none);
            for (key, value) in new {
                let dot = if path.is_empty() { "" } else { "." };
                let old = old.get(key).unwrap_or(&Value::Null);
                let full = format!("{path}{dot}{key}");
                differences(old, value, &full, secret || is_secret(key), found);
            }
        }
        _ => {
            let told = |value: &Value| match value {
                Value::Null => Value::Null,
                _ if secret => UNCHANGED.into(),
                value => masked_as(value, UNCHANGED),
            };
            found.insert(path.to_string(), json!({"from": told(before), "to": told(after)}));
        }
    }
}

/// Writes a whole file that nobody but its owner may ever read.
fn write_private(disk: &Disk, path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        disk.create_folder(folder)?;
    }
    let aside = disk::aside(path);
    disk.write(&aside, b"")?;
    disk::private(&aside, 0o600)?;
    disk.append(&aside, text.as_bytes())?;
    disk.rename(&aside, path)
}
