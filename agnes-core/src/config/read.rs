//! From a tree to sections: types, required keys, keys that nobody reads.

use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::settings::{AuthConfig, SourceConfig};
use super::{Config, Files, Level, Problem};
use crate::orchestrator::AttachRule;
use crate::outbound::Target;
use crate::{ExtensionName, SourceName};

/// The sections of other parts of an installation: known by name, read by whoever they belong to.
const OTHERS: [&str; 16] = [
    "admins",
    "deployment",
    "theme",
    "openmetadata",
    "desktop",
    "telegram",
    "jira",
    "ai",
    "guardrails",
    "corporate_memory",
    "groups",
    "users",
    "username_mapping",
    "datasets",
    "catalog",
    "materialize",
];
/// The sections that are read here.
const OURS: [&str; 16] = [
    "config_version",
    "instance",
    "server",
    "auth",
    "email",
    "data_source",
    "access",
    "attach",
    "api",
    "query",
    "rebuild",
    "metadata",
    "profiler",
    "remote_query",
    "sync",
    "sources",
];
/// The keys without which an installation doesn't work.
const REQUIRED: [[&str; 2]; 4] =
    [["instance", "name"], ["auth", "allowed_domain"], ["server", "host"], ["server", "hostname"]];

/// Takes a tree apart.
pub(super) fn read(files: Files, written: Value, values: Value, problems: Vec<Problem>) -> Config {
    let mut reading = Reading { written: &written, values: &values, problems };
    reading.version();
    let config = Config {
        instance: reading.section("instance"),
        server: reading.section("server"),
        auth: reading.section("auth"),
        email: reading.section("email"),
        data_source: reading.section("data_source"),
        access: reading.section("access"),
        attach: reading.rules(),
        api: reading.section("api"),
        query: reading.section("query"),
        rebuild: reading.section("rebuild"),
        metadata: reading.section("metadata"),
        profiler: reading.section("profiler"),
        remote_query: reading.section("remote_query"),
        sync: reading.section("sync"),
        sources: reading.sources(),
        files,
        written: Value::Null,
        values: Value::Null,
        problems: Vec::new(),
    };
    reading.top();
    reading.required(&config.auth);
    reading.stack_url();
    let mut problems = reading.problems;
    problems.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.path.cmp(&b.path)));
    Config { written, values, problems, ..config }
}

struct Reading<'a> {
    written: &'a Value,
    values: &'a Value,
    problems: Vec<Problem>,
}

impl Reading<'_> {
    fn tell(&mut self, level: Level, path: &str, message: String) {
        self.problems.push(Problem { level, path: path.to_string(), message });
    }

    fn is_of_a_variable(&self, path: &str) -> bool {
        let value = path.split('.').try_fold(self.written, |value, key| value.get(key));
        value.and_then(Value::as_str).is_some_and(|text| text.contains("${"))
    }

    fn version(&mut self) {
        let version = self.values.get("config_version");
        let is_one = |version: &Value| version.as_u64() == Some(1) || version.as_str() == Some("1");
        if version.is_some_and(|version| !is_one(version)) {
            let message = "`config_version` isn't 1, the one that this version of Agnes knows";
            self.tell(Level::Warning, "config_version", message.to_string());
        }
    }

    fn section<T: Default + Serialize + DeserializeOwned>(&mut self, name: &str) -> T {
        match self.values.get(name) {
            Some(value) if !value.is_null() => self.typed(name, value.clone(), &T::default()),
            _ => T::default(),
        }
    }

    /// A value as what it should be; what it is not is told. `template` has every key.
    fn typed<T: Default + Serialize + DeserializeOwned>(
        &mut self,
        path: &str,
        value: Value,
        template: &T,
    ) -> T {
        let Value::Object(mut map) = value else {
            self.tell(
                Level::Error,
                path,
                format!("`{path}`: it takes a mapping of keys to values"),
            );
            return T::default();
        };
        let known = serde_json::to_value(template).unwrap_or_default();
        loop {
            let mut unknown = Vec::new();
            let mut track = serde_path_to_error::Track::new();
            let value = Value::Object(map.clone());
            let inside = serde_path_to_error::Deserializer::new(value, &mut track);
            let mut ignored = |key: serde_ignored::Path<'_>| unknown.push(key.to_string());
            let found = T::deserialize(serde_ignored::Deserializer::new(inside, &mut ignored));
            let error = match found {
                Err(error) => error.to_string(),
                Ok(found) => {
                    for key in unknown {
                        let full = format!("{path}.{key}");
                        let near = known.as_object().and_then(|known| near(&key, known.keys()));
                        self.tell(Level::Warning, &full, not_a_key(&full, path, near));
                    }
                    return found;
                }
            };
            let key = track.path().to_string();
            let full = if key == "." { path.to_string() } else { format!("{path}.{key}") };
            // What a variable gave may be a secret.
            let told = match self.is_of_a_variable(&full) {
                true => "what its variable gives is nothing that it takes".to_string(),
                false => error,
            };
            self.tell(Level::Error, &full, format!("`{full}`: {told}"));
            // Without it the others can be told.
            let first = key.split(['.', '[']).next().unwrap_or_default();
            if map.remove(first).is_none() {
                return T::default();
            }
        }
    }

    fn rules(&mut self) -> Option<Vec<AttachRule>> {
        let rules = self.values.get("attach").filter(|rules| !rules.is_null())?;
        let Some(rules) = rules.as_array() else {
            let message = "`attach`: it takes a list of rules, each with its `extension`";
            self.tell(Level::Error, "attach", message.to_string());
            return Some(Vec::new());
        };
        let rules = rules.iter().enumerate().map(|(at, rule)| {
            let path = format!("attach[{at}]");
            self.typed::<Option<AttachRule>>(&path, rule.clone(), &any_rule())
        });
        // A rule that can't be understood allows nothing.
        Some(rules.collect::<Vec<_>>().into_iter().flatten().collect())
    }

    fn sources(&mut self) -> Vec<(SourceName, SourceConfig)> {
        let Some(sources) = self.values.get("sources").filter(|sources| !sources.is_null()) else {
            return Vec::new();
        };
        let Some(sources) = sources.as_object() else {
            let message = "`sources`: it takes a mapping of names to sources";
            self.tell(Level::Error, "sources", message.to_string());
            return Vec::new();
        };
        let mut read = Vec::new();
        for (name, source) in sources {
            let path = format!("sources.{name}");
            let name = match SourceName::parse(name.as_str()) {
                Ok(name) => name,
                Err(error) => {
                    self.tell(Level::Error, &path, format!("`{path}`: {}", error.message()));
                    continue;
                }
            };
            let source = match source {
                Value::Null => SourceConfig::default(),
                source => self.typed(&path, source.clone(), &SourceConfig::default()),
            };
            if source.connector.is_some() && source.command.is_some() {
                let message = format!("`{path}` has a `connector` and a `command`; it takes one");
                self.tell(Level::Error, &path, message);
            }
            if read.iter().any(|(other, _): &(SourceName, SourceConfig)| *other == name) {
                let message = format!("`{path}` is there twice: names are the same in any case");
                self.tell(Level::Error, &path, message);
            }
            // One that is wrong isn't brought over: without its schedule it would be all the time.
            let wrong = |problem: &Problem| {
                let rest = problem.path.strip_prefix(&path);
                problem.level == Level::Error
                    && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            if !self.problems.iter().any(wrong) {
                read.push((name, source));
            }
        }
        read
    }

    fn top(&mut self) {
        let keys = self.values.as_object().into_iter().flat_map(Map::keys);
        let known = || OURS.iter().chain(&OTHERS).copied();
        let unknown: Vec<&String> =
            keys.filter(|key| !known().any(|known| known == key.as_str())).collect();
        for key in unknown {
            let near = crate::name::nearest(key, known());
            self.tell(Level::Warning, key, not_a_key(key, "", near));
        }
    }

    /// The server calls it, so that it must not lead inside.
    fn stack_url(&mut self) {
        let path = "/data_source/keboola/stack_url";
        let Some(Value::String(address)) = self.values.pointer(path) else { return };
        if let Err(error) = Target::parse(address).map(drop)
            && !address.is_empty()
        {
            let path = "data_source.keboola.stack_url";
            self.tell(Level::Error, path, format!("`{path}`: {}", error.message()));
        }
    }

    fn required(&mut self, auth: &AuthConfig) {
        // Of a file that can't be read nobody knows what is missing.
        if self
            .problems
            .iter()
            .any(|problem| problem.path.is_empty() && problem.level == Level::Error)
        {
            return;
        }
        for [section, key] in REQUIRED {
            let value = self.values.get(section).and_then(|section| section.get(key));
            let is_there = match value {
                None | Some(Value::Null) => false,
                Some(Value::String(text)) => !text.trim().is_empty(),
                Some(_) => true,
            };
            if !is_there {
                let path = format!("{section}.{key}");
                self.tell(
                    Level::Missing,
                    &path,
                    format!("`{path}` is required and missing or empty"),
                );
            }
        }
        if auth.webapp_secret_key.as_ref().is_none_or(|secret| secret.expose().is_empty()) {
            let path = "auth.webapp_secret_key";
            let message = format!("`{path}` is missing or empty: web sessions can't be signed");
            self.tell(Level::Warning, path, message);
        }
    }
}

/// A rule with every key, to tell which keys there are.
fn any_rule() -> Option<AttachRule> {
    Some(AttachRule {
        source: SourceName::parse("any").ok(),
        extension: ExtensionName::parse("any").ok()?,
        url_prefix: Some(String::new()),
        token_envs: Vec::new(),
        community: false,
    })
}

fn near<'k>(key: &str, known: impl Iterator<Item = &'k String>) -> Option<&'k str> {
    crate::name::nearest(key, known.map(String::as_str))
}

fn not_a_key(full: &str, section: &str, near: Option<&str>) -> String {
    let full = crate::name::shown(full);
    let dot = if section.is_empty() { "" } else { "." };
    match near {
        Some(near) => format!("`{full}` is no key; did you mean `{section}{dot}{near}`?"),
        None => format!("`{full}` is no key, and nobody reads it"),
    }
}

/// A text, also from a number or a flag; an empty one is none.
pub(super) fn text<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(d)? {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Array(_) | Value::Object(_) => Err(D::Error::custom("it takes a text")),
    }
}

/// A whole number, also one that a variable gave as text; an empty text is none.
pub(super) fn number<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    d: D,
) -> Result<Option<T>, D::Error> {
    between(d, 0, LARGEST)
}

/// A port; 0 is a free one.
pub(super) fn port<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u16>, D::Error> {
    between(d, 0, u64::from(u16::MAX))
}

/// The same, where nothing would work with 0.
pub(super) fn positive<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    d: D,
) -> Result<Option<T>, D::Error> {
    between(d, 1, LARGEST)
}

/// How far something stands back, as in `nice`.
pub(super) fn nice<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u8>, D::Error> {
    between(d, 0, 19)
}

/// An engine's buffers, MiB: with fewer it can't read a column.
pub(super) fn memory<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    between(d, 16, LARGEST)
}

/// How large something may be, bytes.
pub(super) fn bytes<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    between(d, 1, 1 << 50)
}

/// How many of something people are shown.
pub(super) fn shown<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    d: D,
) -> Result<Option<T>, D::Error> {
    between(d, 1, 1000)
}

/// Larger ones are mistakes, whatever they count.
const LARGEST: u64 = 1_000_000_000;

fn between<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    d: D,
    least: u64,
    most: u64,
) -> Result<Option<T>, D::Error> {
    let Some(text) = text(d)? else { return Ok(None) };
    let number: Option<u64> = text.trim().parse().ok();
    let number = number.filter(|number| (least..=most).contains(number));
    let number = number.and_then(|number| T::try_from(number).ok());
    let unlike = || {
        let shown = crate::name::shown(&text);
        D::Error::custom(format!("it takes a whole number from {least} to {most}, not `{shown}`"))
    };
    number.map(Some).ok_or_else(unlike)
}

/// Percent, also such that a variable gave as text; an empty text is none.
pub(super) fn percent<'de, D: Deserializer<'de>>(d: D) -> Result<Option<f64>, D::Error> {
    let Some(text) = text(d)? else { return Ok(None) };
    let number: Option<f64> = text.trim().parse().ok();
    let number = number.filter(|number| (0.0..=100.0).contains(number));
    let unlike = || {
        let shown = crate::name::shown(&text);
        D::Error::custom(format!("it takes a number from 0 to 100, not `{shown}`"))
    };
    number.map(Some).ok_or_else(unlike)
}

/// Whether or not, also as a variable gave it; an empty text is none.
pub(super) fn flag<'de, D: Deserializer<'de>>(d: D) -> Result<Option<bool>, D::Error> {
    let Some(text) = text(d)? else { return Ok(None) };
    match text.trim() {
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        other => {
            let shown = crate::name::shown(other);
            Err(D::Error::custom(format!("it takes true or false, not `{shown}`")))
        }
    }
}

/// What a text stands for; an empty one is none.
pub(super) fn word<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    d: D,
) -> Result<Option<T>, D::Error> {
    let Some(text) = text(d)? else { return Ok(None) };
    serde_json::from_value(Value::String(text)).map(Some).map_err(D::Error::custom)
}

/// A list of texts; one text is a list of one.
pub(super) fn list<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    let item = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(D::Error::custom("it takes a list of texts")),
    };
    match Value::deserialize(d)? {
        Value::Null => Ok(None),
        Value::Array(items) => items.into_iter().map(item).collect::<Result<_, _>>().map(Some),
        one => item(one).map(|one| Some(vec![one])),
    }
}
