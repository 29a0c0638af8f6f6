//! Which remote systems may be attached, and which token goes where.
//!
//! An extract says how it wants its remote system attached; the operator says what is
//! allowed. Without this list a hostile extract could name an extension that runs code, or
//! send a secret of the process to an address of its own.

use std::path::{Path, PathBuf};

use crate::engine::Runs;
use crate::extract::RemoteAttach;
use crate::sql::{self, AttachStatements};
use crate::{
    AttachAlias, Error, ExtensionName, Key, Kind, Result, Secret, Secrets, SourceName, TokenEnv,
    engine,
};

/// One thing that the operator allows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRule {
    /// The source that may; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceName>,
    /// The extension that it may use.
    pub extension: ExtensionName,
    /// What the address must start with; anything when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_prefix: Option<String>,
    /// The token variables that it may use there.
    #[serde(default)]
    pub token_envs: Vec<TokenEnv>,
    /// Whether a rebuild may fetch the extension from DuckDB's community repository.
    #[serde(default)]
    pub community: bool,
}

/// The operator's list of what remote views may reach.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct AttachPolicy {
    rules: Vec<AttachRule>,
}

/// The token variables that any extract may name by default.
const TOKEN_ENVS: [&str; 4] =
    ["KBC_TOKEN", "KBC_STORAGE_TOKEN", "KEBOOLA_STORAGE_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"];
/// The extensions that any extract may name by default.
const EXTENSIONS: [&str; 2] = ["keboola", "bigquery"];

impl Default for AttachPolicy {
    /// The extensions `keboola` and `bigquery`, at any address, with the four token
    /// variables that their connectors use.
    fn default() -> Self {
        AttachPolicy::coarse(EXTENSIONS, TOKEN_ENVS)
    }
}

impl AttachPolicy {
    /// Exactly these rules.
    pub fn new(rules: Vec<AttachRule>) -> Self {
        AttachPolicy { rules }
    }

    /// The default lists, each replaced by a comma-separated list where one is given and
    /// not empty. Names that are none are left out.
    pub fn with_lists(extensions: Option<&str>, token_envs: Option<&str>) -> Self {
        let split = |list: Option<&str>| -> Option<Vec<String>> {
            let items: Vec<String> = list?
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(String::from)
                .collect();
            (!items.is_empty()).then_some(items)
        };
        let or = |given: Option<Vec<String>>, default: &[&str]| {
            given.unwrap_or_else(|| default.iter().map(ToString::to_string).collect())
        };
        AttachPolicy::coarse(or(split(extensions), &EXTENSIONS), or(split(token_envs), &TOKEN_ENVS))
    }

    fn coarse(
        extensions: impl IntoIterator<Item = impl Into<String>>,
        token_envs: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let token_envs: Vec<TokenEnv> =
            token_envs.into_iter().filter_map(|t| TokenEnv::parse(t).ok()).collect();
        let rules = extensions
            .into_iter()
            .filter_map(|e| ExtensionName::parse(e).ok())
            .map(|extension| AttachRule {
                source: None,
                extension,
                url_prefix: None,
                token_envs: token_envs.clone(),
                community: true,
            })
            .collect();
        AttachPolicy { rules }
    }

    /// What is allowed, for the operator to see at start.
    pub fn rules(&self) -> &[AttachRule] {
        &self.rules
    }

    /// Whether a source may attach this, with this token.
    ///
    /// # Errors
    /// `Denied`, naming what the operator would have to allow.
    pub(crate) fn allow(&self, source: &SourceName, row: &RemoteAttach) -> Result<&AttachRule> {
        let denied = |what: String| {
            Error::new(
                Kind::Denied,
                format!(
                    "`{source}` may not attach `{}`: {what}; the attach policy is the operator's",
                    row.alias
                ),
            )
            .with(Key::Source, source)
            .with(Key::Extension, &row.extension)
        };
        let named: Vec<&AttachRule> = self
            .rules
            .iter()
            .filter(|r| r.extension == row.extension)
            .filter(|r| r.source.as_ref().is_none_or(|s| s == source))
            .collect();
        if named.is_empty() {
            return Err(denied(format!("the extension `{}` is not allowed", row.extension)));
        }
        let here: Vec<&AttachRule> = named
            .into_iter()
            .filter(|r| r.url_prefix.as_ref().is_none_or(|p| covers(p, &row.url)))
            .collect();
        if here.is_empty() {
            return Err(denied("its address is not allowed".to_string()));
        }
        let allowed = here.into_iter().find(|r| match &row.token_env {
            None => true,
            Some(token) => r.token_envs.iter().any(|t| t.as_str() == token.as_str()),
        });
        allowed.ok_or_else(|| {
            let token = row.token_env.as_ref().map_or("", |t| t.as_str());
            denied(format!("the token variable `{token}` is not allowed there"))
        })
    }
}

/// Whether an address is the one that a prefix names, or lies below it: `https://a.example`
/// covers `https://a.example/x`, not `https://a.example.evil` nor `https://a.example:x@evil`.
fn covers(prefix: &str, url: &str) -> bool {
    let Some(rest) = url.strip_prefix(prefix) else { return false };
    let whole = prefix.ends_with(['/', '?', '#', '=', ' ']);
    let below = whole || rest.is_empty() || rest.starts_with(['/', '?', '#', ' ']);
    let plain = without_escapes(rest).to_ascii_lowercase();
    !prefix.is_empty() && below && !climbs(&plain) && !redirects(prefix, &plain)
}

/// Text with its `%2e` and the like written out, as whoever takes the address apart does.
fn without_escapes(text: &str) -> String {
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or("").to_string();
    for part in parts {
        let byte = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte.zip(part.get(2..)) {
            Some((byte, rest)) => {
                plain.push(char::from(byte));
                plain.push_str(rest);
            }
            None => {
                plain.push('%');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// Whether the rest of an address leaves the folder that its start named.
fn climbs(rest: &str) -> bool {
    rest.split(['/', '\\', '?', '#', ' ']).any(|part| part == "..")
}

/// Whether the rest of a connection string names the server again: of `host=a host=b`, and of
/// `postgresql://a/x?host=b`, clients take `b`.
fn redirects(prefix: &str, rest: &str) -> bool {
    const SERVER: [&str; 5] = ["host", "hostaddr", "port", "service", "servicefile"];
    // The word before each `=`.
    let keys = |text: &str| -> Vec<String> {
        let mut parts: Vec<&str> = text.split('=').collect();
        parts.pop();
        let word = |part: &&str| {
            let apart = |c: char| c.is_whitespace() || "?&;/'\"".contains(c);
            part.trim_end().rsplit(apart).next().map(str::to_ascii_lowercase)
        };
        parts.iter().filter_map(word).collect()
    };
    let named = keys(prefix);
    keys(rest).iter().any(|key| SERVER.contains(&key.as_str()) || named.contains(key))
}

/// One remote system, ready to be attached. Written out, as a worker is told it, it holds the token.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Attach {
    row: RemoteAttach,
    statements: AttachStatements,
    #[serde(serialize_with = "exposed")]
    token: Option<Secret>,
}

fn exposed<S: serde::Serializer>(
    token: &Option<Secret>,
    s: S,
) -> std::result::Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&token.as_ref().map(Secret::expose), s)
}

/// What may be attached for the rows of one source; each refusal on its own.
pub(crate) fn resolve(
    policy: &AttachPolicy,
    secrets: &dyn Secrets,
    source: &SourceName,
    row: &RemoteAttach,
) -> Result<Attach> {
    let rule = policy.allow(source, row)?;
    let token = row.token_env.as_ref().map(|name| {
        let fails = |why: &str| {
            let message = format!(
                "`{source}` can't attach `{}`: the token variable `{name}` {why} and try again",
                row.alias
            );
            Error::new(Kind::Unavailable, message).with(Key::Source, source)
        };
        // What a vault says isn't told to whoever asks for rows.
        let token = secrets.get(name);
        let token = token.map_err(|cause| fails("can't be had; wait").because(cause))?;
        token.ok_or_else(|| fails("is unset or empty; set it"))
    });
    let token = token.transpose()?;
    let statements = sql::attach_remote(
        &row.alias,
        &row.extension,
        &row.url,
        row.token_env.as_ref(),
        rule.community,
    );
    Ok(Attach { row: row.clone(), statements, token })
}

impl Attach {
    pub(crate) fn alias(&self) -> &AttachAlias {
        &self.row.alias
    }

    /// The files of this machine that attaching it reads: a database that is one, and what a token
    /// names that is a path.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let extension = self.row.extension.as_str().to_ascii_lowercase();
        let mut files = Vec::new();
        let database = Path::new(&self.row.url);
        if ["duckdb", "sqlite"].contains(&extension.as_str()) && database.is_absolute() {
            files.push(database.to_path_buf());
            let beside = [".wal", "-wal", "-journal", "-shm"];
            files.extend(beside.map(|suffix| crate::disk::with_suffix(database, suffix)));
        }
        let names_a_path = self
            .row
            .token_env
            .as_ref()
            .is_some_and(|name| name.as_str() == "GOOGLE_APPLICATION_CREDENTIALS");
        if names_a_path && let Some(token) = &self.token {
            files.push(PathBuf::from(token.expose()));
        }
        files
    }

    /// Attaches the system. Only a rebuild installs, since that goes over the network.
    pub(crate) fn run(&self, connection: &impl Runs, install: bool) -> Result<()> {
        let failed = |failure: engine::Failure| {
            // An address may hold what the operator would not print.
            let text = failure.first_paragraph().replace(&self.row.url, "…");
            Error::new(Kind::Unavailable, format!("can't attach `{}`: {text}", self.row.alias))
                .with(Key::Extension, &self.row.extension)
        };
        let statements = &self.statements;
        for sql in statements.install.iter().filter(|_| install).chain(&statements.load) {
            connection.batch(sql.as_str()).map_err(failed)?;
        }
        if let (Some(secret), Some(token)) = (&statements.secret, &self.token) {
            connection.with(secret.as_str(), token.expose()).map_err(|_| {
                // The engine repeats the statement, and with it what was bound.
                Error::new(
                    Kind::Unavailable,
                    format!(
                        "the extension `{}` refused the token of `{}`",
                        self.row.extension, self.row.alias
                    ),
                )
            })?;
        }
        connection.batch(statements.attach.as_str()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn row(extension: &str, url: &str, token: &str) -> RemoteAttach {
        RemoteAttach {
            alias: AttachAlias::parse("r").unwrap(),
            extension: ExtensionName::parse(extension).unwrap(),
            url: url.to_string(),
            token_env: (!token.is_empty()).then(|| TokenEnv::parse(token).unwrap()),
        }
    }

    #[test]
    fn the_default_lists() {
        let policy = AttachPolicy::default();
        let source = SourceName::parse("s").unwrap();
        for (extension, token, allowed) in [
            ("keboola", "KBC_TOKEN", true),
            ("KEBOOLA", "", true),
            ("bigquery", "GOOGLE_APPLICATION_CREDENTIALS", true),
            ("bigquery", "JWT_SECRET_KEY", false),
            ("keboola", "PATH", false),
            ("duckdb", "", false),
            ("postgres", "", false),
            ("sqlite", "", false),
            ("httpfs", "", false),
        ] {
            let decision = policy.allow(&source, &row(extension, "x", token));
            assert_eq!(decision.is_ok(), allowed, "{extension} {token}");
        }
    }

    #[test]
    fn a_list_replaces_the_default_one() {
        let source = SourceName::parse("s").unwrap();
        let policy = AttachPolicy::with_lists(Some(" sqlite , ,../x"), Some("MY_TOKEN"));
        assert!(policy.allow(&source, &row("sqlite", "x", "MY_TOKEN")).is_ok());
        assert!(policy.allow(&source, &row("keboola", "x", "")).is_err());
        assert!(policy.allow(&source, &row("sqlite", "x", "KBC_TOKEN")).is_err());
        assert_eq!(AttachPolicy::with_lists(Some(" , "), None), AttachPolicy::default());
    }

    #[test]
    fn a_token_goes_only_where_the_operator_said() {
        let rule = AttachRule {
            source: Some(SourceName::parse("crm").unwrap()),
            extension: ExtensionName::parse("keboola").unwrap(),
            url_prefix: Some("https://connection.keboola.com".into()),
            token_envs: vec![TokenEnv::parse("KBC_TOKEN").unwrap()],
            community: true,
        };
        let policy = AttachPolicy::new(vec![rule]);
        let (crm, evil) = (SourceName::parse("crm").unwrap(), SourceName::parse("evil").unwrap());
        let good = row("keboola", "https://connection.keboola.com", "KBC_TOKEN");
        assert!(policy.allow(&crm, &good).is_ok());
        assert!(policy.allow(&evil, &good).is_err());
        for url in [
            "https://evil.example",
            "https://connection.keboola.com.evil.example",
            "https://connection.keboola.com@evil.example",
            "https://connection.keboola.com:443@evil.example",
            "https://connection.keboola.co",
        ] {
            let elsewhere = row("keboola", url, "KBC_TOKEN");
            assert_eq!(policy.allow(&crm, &elsewhere).unwrap_err().kind(), Kind::Denied, "{url}");
        }
        let below = row("keboola", "https://connection.keboola.com/v2", "KBC_TOKEN");
        assert!(policy.allow(&crm, &below).is_ok());
    }

    #[test]
    fn an_address_below_the_allowed_one_leads_nowhere_else() {
        for (prefix, url, allowed) in [
            ("/srv/remote/", "/srv/remote/a.duckdb", true),
            ("/srv/remote/", "/srv/remote/a..b.duckdb", true),
            ("/srv/remote/", "/srv/remote/../secret.duckdb", false),
            ("/srv/remote", "/srv/remote/x/../../secret.duckdb", false),
            ("https://a.example/in/", "https://a.example/in/%2E%2e/out", false),
            ("https://a.example/in/", "https://a.example/in/..%2fout", false),
            ("https://a.example/in/", "https://a.example/in/50%", true),
            ("host=db.example", "host=db.example dbname=shop", true),
            ("host=db.example", "host=db.example host=evil", false),
            ("host=db.example", "host=db.example HOST = evil", false),
            ("host=db.example", "host=db.example hostaddr=192.0.2.1", false),
            ("host=db.example ", "host=db.example dbname='x'host=evil", false),
            ("postgresql://db.example/", "postgresql://db.example/shop?sslmode=require", true),
            ("postgresql://db.example/", "postgresql://db.example/shop?host=evil", false),
            ("postgresql://db.example/", "postgresql://db.example/shop?a=b&ho%73t=evil", false),
            ("project=", "project=my-project-1", true),
            ("project=p", "project=p project=q", false),
            ("project=p", "project=pq", false),
        ] {
            assert_eq!(covers(prefix, url), allowed, "{prefix} {url}");
        }
    }

    #[test]
    fn an_unset_token_is_a_skip_and_a_value_is_never_shown() {
        let source = SourceName::parse("s").unwrap();
        let mut secrets = BTreeMap::new();
        secrets.insert("KBC_TOKEN".to_string(), Secret::new(""));
        let policy = AttachPolicy::default();
        let error =
            resolve(&policy, &secrets, &source, &row("keboola", "x", "KBC_TOKEN")).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        secrets.insert("KBC_TOKEN".to_string(), Secret::new("hunter2"));
        let attach =
            resolve(&policy, &secrets, &source, &row("keboola", "x", "KBC_TOKEN")).unwrap();
        assert!(!format!("{attach:?}").contains("hunter2"));
        let connection = engine::in_memory(&engine::Limits::default()).unwrap();
        let error = attach.run(&connection, false).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
