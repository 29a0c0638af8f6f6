//! The configuration of an installation: `instance.yaml`, an overlay that the server writes, and
//! variables in both.
//!
//! ```
//! use agnes_core::config::{Config, Files};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! std::fs::write(
//!     dir.path().join("instance.yaml"),
//!     "instance: {name: Sales}\nquery: {time_seconds: '${QUERY_TIME}'}\nqury: {}\n",
//! ).unwrap();
//! let files = Files::in_folder(dir.path(), dir.path().join("state"));
//! let variables = |name: &str| (name == "QUERY_TIME").then(|| "30".to_string());
//! let config = Config::load(&files, &variables);
//! assert_eq!(config.instance.name.as_deref(), Some("Sales"));
//! assert_eq!(config.settings()?.query.time.as_secs(), 30);
//! let told: Vec<String> = config.problems().iter().map(|problem| problem.to_string()).collect();
//! assert!(told.contains(&"warning: `qury` is no key; did you mean `query`?".to_string()));
//! # Ok::<(), agnes_core::Error>(())
//! ```
//!
//! Invariants:
//! - what can't be understood is a [`Problem`] with the place where it stands, and doesn't hide
//!   the others;
//! - a value that an unset variable was to give is empty, and counts as absent where a number or
//!   a choice is expected;
//! - nothing that this prints, whatever fails, shows a secret's value.

mod change;
mod file;
mod mask;
mod read;
mod settings;

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use change::{CHANGEABLE, UNCHANGED};
pub use file::{ENV_OVERLAY, INSTANCE, env_overlay};
pub use settings::{
    AccessConfig, ApiConfig, AuthConfig, DataSourceConfig, EmailConfig, InstanceConfig,
    MetadataConfig, ProfilerConfig, QueryConfig, RebuildConfig, RemoteQueryConfig, ScanConfig,
    ServerConfig, SourceConfig, SyncConfig, WorkersConfig,
};

pub(crate) use mask::{secrets, without_secrets};

use crate::layout::STATE;
use crate::orchestrator::AttachRule;
use crate::{Error, Key, Kind, Result, SourceName};

/// Where the configuration lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The file, usually `instance.yaml`. Relative paths in it are relative to its folder.
    pub instance: PathBuf,
    /// The folder of the overlay, whose keys go before those of the file, and of `.env_overlay`.
    pub state_dir: PathBuf,
}

impl Files {
    /// `instance.yaml` in a folder.
    pub fn in_folder(config_dir: impl AsRef<Path>, state_dir: impl Into<PathBuf>) -> Files {
        Files { instance: config_dir.as_ref().join(INSTANCE), state_dir: state_dir.into() }
    }

    /// A file of any name, for a data folder that holds its state, too.
    pub fn of(data_dir: impl AsRef<Path>, instance: impl Into<PathBuf>) -> Files {
        Files { instance: instance.into(), state_dir: data_dir.as_ref().join(STATE) }
    }

    /// A path that the configuration names.
    pub fn path(&self, named: &str) -> PathBuf {
        self.folder().join(named)
    }

    /// What relative paths are relative to.
    fn folder(&self) -> &Path {
        self.instance.parent().unwrap_or(Path::new(""))
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It works, but perhaps not as somebody thinks.
    Warning,
    /// A key that an installation needs is missing.
    Missing,
    /// Something can't be understood.
    Error,
}

/// Something about the configuration that somebody should know.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// How bad it is.
    pub level: Level,
    /// The key, as in `sources.crm.schedule`; empty when it is about a whole file.
    pub path: String,
    /// What it is, and the cure.
    pub message: String,
}

impl Problem {
    /// Whether it matters to nobody but a server: what an installation on the network needs, and how it
    /// signs people in.
    pub fn is_of_a_server(&self) -> bool {
        let section = self.path.split('.').next().unwrap_or_default();
        self.level == Level::Missing || matches!(section, "server" | "auth" | "email" | "api")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Warning => "warning",
            Level::Missing | Level::Error => "error",
        };
        write!(f, "{level}: {}", self.message)
    }
}

/// A configuration, read and taken apart.
///
/// Of the sections that belong to other parts of an installation (`telegram`, `theme`, …) it
/// knows the names alone; [`Config::get`] reads them.
#[derive(Clone, PartialEq)]
pub struct Config {
    /// What the installation is called.
    pub instance: InstanceConfig,
    /// Where it serves.
    pub server: ServerConfig,
    /// Who may sign in.
    pub auth: AuthConfig,
    /// Who carries the server's mail.
    pub email: EmailConfig,
    /// What older installations say of their one source.
    pub data_source: DataSourceConfig,
    /// What decides who may see a table.
    pub access: AccessConfig,
    /// Which remote systems may be attached; the default policy when absent.
    pub attach: Option<Vec<AttachRule>>,
    /// What requests may take.
    pub api: ApiConfig,
    /// What queries may take.
    pub query: QueryConfig,
    /// What a rebuild may take.
    pub rebuild: RebuildConfig,
    /// How old what is known of remote tables may be.
    pub metadata: MetadataConfig,
    /// How profiles are made.
    pub profiler: ProfilerConfig,
    /// What the rows of remote statements may take.
    pub remote_query: RemoteQueryConfig,
    /// How connectors run.
    pub sync: SyncConfig,
    /// The sources, by name.
    pub sources: Vec<(SourceName, SourceConfig)>,
    files: Files,
    /// As it is written, file and overlay together.
    written: Value,
    /// The same with the values of variables.
    values: Value,
    problems: Vec<Problem>,
}

/// No value is shown.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("files", &self.files)
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the files. What is wrong with them is among the [problems](Config::problems); files
    /// that aren't there are empty.
    pub fn load(files: &Files, variables: &dyn Fn(&str) -> Option<String>) -> Config {
        let mut problems = Vec::new();
        let written = file::merged(files, &mut problems);
        let values = file::with_variables(&written, variables, &mut problems);
        read::read(files.clone(), written, values, problems)
    }

    /// The same of a file that somebody has named, which has to be there.
    ///
    /// # Errors
    /// `NotFound` where it isn't.
    pub fn named(files: &Files, variables: &dyn Fn(&str) -> Option<String>) -> Result<Config> {
        match files.instance.try_exists() {
            Ok(true) => Ok(Config::load(files, variables)),
            _ => Err(Error::new(
                Kind::NotFound,
                format!("there is no configuration `{}`; check the path", files.instance.display()),
            )
            .with(Key::Path, files.instance.display())),
        }
    }

    /// Takes a configuration that a program has put together in the place of a file, and no overlay with
    /// it. `files` says what relative paths in it are relative to.
    ///
    /// # Errors
    /// `Invalid` for what is no mapping of keys to values.
    pub fn of(
        written: Value,
        files: &Files,
        variables: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config> {
        if !written.is_object() {
            return Err(Error::new(
                Kind::Invalid,
                "a configuration is a mapping of keys to values, as instance.yaml holds it",
            ));
        }
        let mut problems = Vec::new();
        let values = file::with_variables(&written, variables, &mut problems);
        Ok(read::read(files.clone(), written, values, problems))
    }

    /// The file that it was read from, which need not be there.
    pub fn file(&self) -> PathBuf {
        self.files.instance.clone()
    }

    /// Where it lies.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Everything that somebody should know, the worst first.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether all of it was understood that matters to more than one source: a source that wasn't
    /// is left out. Keys that are missing don't matter here, since a program that embeds the
    /// library needs none of them.
    ///
    /// # Errors
    /// `Invalid`, naming the first thing that wasn't.
    pub fn understood(&self) -> Result<()> {
        let of_one = |problem: &&Problem| {
            ["sources.", "data_source."].iter().any(|start| problem.path.starts_with(start))
        };
        let mut errors = self.problems.iter().filter(|problem| problem.level == Level::Error);
        match errors.find(|problem| !of_one(problem)) {
            None => Ok(()),
            Some(problem) => Err(Error::new(
                Kind::Invalid,
                format!(
                    "the configuration is wrong: {}; `agnes config check` shows all",
                    problem.message
                ),
            )
            .with(Key::Path, self.file().display())),
        }
    }

    /// A value, as it stands after variables; none when it or a part of its path is missing or
    /// null.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let value = path.iter().try_fold(&self.values, |value, key| value.get(key))?;
        Some(value).filter(|value| !value.is_null())
    }

    /// All that is configured, as it is written, with `…` in the place of secrets. Variables
    /// stand under their names.
    pub fn shown(&self) -> Value {
        mask::masked(&self.written)
    }

    /// The domains whose addresses may sign in.
    pub fn allowed_domains(&self) -> Vec<&str> {
        let domains = self.auth.allowed_domain.as_deref().unwrap_or_default();
        domains.split(',').map(str::trim).filter(|domain| !domain.is_empty()).collect()
    }

    /// The kind of the one source of an older installation: what the variable `DATA_SOURCE` says,
    /// or the file, or `local`.
    pub fn data_source(&self, variable: Option<&str>) -> String {
        let given = variable.filter(|text| !text.is_empty());
        given.or(self.data_source.kind.as_deref()).unwrap_or("local").to_string()
    }
}
