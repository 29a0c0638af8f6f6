//! How a binding opens a data folder, and takes files in.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::config::{Config, Files};
use crate::connectors::files::FilesConnector;
use crate::metadata::{MetadataProvider, MetadataProviders};
use crate::sync::{ConnectorType, Connectors};
use crate::{
    Agnes, Components, Error, Kind, Result, Secret, Secrets, Settings, SourceName, TokenEnv,
    WorkerProgram, WorkerSettings,
};

/// A configuration, as a program gives it.
#[derive(Debug, Clone)]
pub enum GivenConfig {
    /// The path of an `instance.yaml`.
    File(PathBuf),
    /// What would stand in one. Relative paths in it mean what they mean anywhere in a program.
    Fields(Value),
}

/// Gives a variable's value by its name, as it is; none where it isn't set.
pub type Variables = Arc<dyn Fn(&str) -> Result<Option<String>> + Send + Sync>;

/// Variables, as the rest of the library asks for them.
struct Asked(Variables);

impl Secrets for Asked {
    fn get(&self, name: &TokenEnv) -> Result<Option<Secret>> {
        let value = (self.0)(name.as_str())?;
        Ok(value.filter(|value| !value.is_empty()).map(Secret::new))
    }
}

/// What a data folder is opened with.
///
/// ```
/// use agnes_core::binding::{GivenConfig, Opening};
///
/// # let dir = tempfile::tempdir().unwrap();
/// let opening = Opening {
///     config: Some(GivenConfig::Fields(serde_json::json!({"sources": {"shop": {"conector": "files"}}}))),
///     ..Opening::default()
/// };
/// let opened = opening.open(dir.path())?;
/// assert!(opened.agnes.publication()?.is_none());
/// assert!(opened.problems[0].contains("conector"));
/// # Ok::<(), agnes_core::Error>(())
/// ```
#[derive(Default)]
pub struct Opening {
    /// The variables that the configuration and the sources' tokens are taken from; of the environment nothing
    /// is read.
    pub variables: Option<Variables>,
    /// The configuration.
    pub config: Option<GivenConfig>,
    /// Connectors, by the name that `sources.<name>.connector` says.
    pub connectors: Vec<(String, Arc<dyn ConnectorType>)>,
    /// What knows how large and how fresh the remote tables of a source are, by the source's name.
    pub metadata_providers: Vec<(String, Arc<dyn MetadataProvider>)>,
    /// The program that acts as a worker, where statements run in processes of their own.
    pub workers: Option<WorkerProgram>,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A data folder that was opened.
#[derive(Debug)]
pub struct Opened {
    /// It.
    pub agnes: Agnes,
    /// What somebody should know about its configuration.
    pub problems: Vec<String>,
}

impl Opening {
    /// Opens the folder, which need not exist yet.
    ///
    /// # Errors
    /// What asking for a variable has failed with, before anything that it has led to; otherwise as
    /// [`Agnes::open_with`] and [`Config`].
    pub fn open(self, folder: &Path) -> Result<Opened> {
        let variables = self.variables;
        let failed = RefCell::new(None);
        let variable = |name: &str| {
            if failed.borrow().is_some() {
                return None;
            }
            let asked = variables.as_ref().map_or(Ok(None), |variables| variables(name));
            asked.unwrap_or_else(|failure| {
                failed.replace(Some(failure));
                None
            })
        };
        let config = self.config.map(|config| match config {
            GivenConfig::File(file) => Config::named(&Files::of(folder, file), &variable),
            GivenConfig::Fields(fields) => Config::of(fields, &Files::of(folder, ""), &variable),
        });
        failed.take().map_or(Ok(()), Err)?;
        let config = config.transpose()?;
        let mut settings =
            config.as_ref().map_or_else(|| Ok(Settings::default()), Config::settings)?;
        if let Some(program) = self.workers {
            let configured = config.as_ref().and_then(|config| config.workers(program.clone()));
            settings.workers = Some(configured.unwrap_or_else(|| WorkerSettings::new(program)));
        }
        let mut components = Components::default();
        if let Some(variables) = variables {
            components.secrets = Arc::new(Asked(variables));
        }
        for (name, connector) in self.connectors {
            components.connectors = Connectors::with(components.connectors, &name, connector);
        }
        for (source, provider) in self.metadata_providers {
            let source = SourceName::parse(source)?;
            components.metadata_providers =
                MetadataProviders::of_source(components.metadata_providers, source, provider);
        }
        let problems = config.iter().flat_map(Config::problems).filter(|p| !p.is_of_a_server());
        let problems = problems.map(ToString::to_string).collect();
        Ok(Opened { agnes: Agnes::open_with(folder, settings, components)?, problems })
    }
}

/// The connector of the files at some paths, one or a list, with the options of the files connector; none where
/// there are no paths.
///
/// # Errors
/// `Invalid` for options without paths, and as [`FilesConnector::from_config`].
pub fn files(
    paths: Option<Value>,
    mut options: Map<String, Value>,
) -> Result<Option<FilesConnector>> {
    let paths = match paths {
        None if options.is_empty() => return Ok(None),
        None => return Err(Error::new(Kind::Invalid, "these options are for files alone")),
        Some(one @ Value::String(_)) => Value::Array(vec![one]),
        Some(several) => several,
    };
    options.insert("paths".into(), paths);
    FilesConnector::from_config(&options.into(), Path::new("")).map(Some)
}
