//! What the command takes from its environment and its configuration. The core takes nothing from
//! either by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agnes_core::access::TablePolicy;
use agnes_core::config::{self, Config, Files};
use agnes_core::{
    AttachPolicy, Components, Error, Kind, Result, Secret, Secrets, Settings, TokenEnv,
};

/// The variables of this process, and those that `.env_overlay` has in the place of absent ones.
#[derive(Clone)]
pub(super) struct Environment {
    overlay: Arc<BTreeMap<String, String>>,
    state_dir: PathBuf,
}

// The one place that reads the environment.
#[allow(clippy::disallowed_methods)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Secrets for Environment {
    fn get(&self, name: &TokenEnv) -> agnes_core::Result<Option<Secret>> {
        Ok(self.get(name.as_str()).map(Secret::new))
    }
}

impl Environment {
    /// The state folder of an installation with this data folder.
    pub(super) fn state_of(data_dir: &Path) -> PathBuf {
        let state_dir = variable("STATE_DIR").filter(|dir| !dir.is_empty());
        state_dir.map_or_else(|| data_dir.join("state"), PathBuf::from)
    }

    /// Who whoever runs the command is to a server elsewhere.
    pub(super) fn token() -> Option<Secret> {
        variable("AGNES_TOKEN").filter(|token| !token.is_empty()).map(Secret::new)
    }

    /// The environment of an installation with this data folder.
    pub(super) fn of(data_dir: &Path) -> Environment {
        let state_dir = Environment::state_of(data_dir);
        let overlay = std::fs::read_to_string(state_dir.join(config::ENV_OVERLAY));
        let overlay = overlay.map(|text| config::env_overlay(&text)).unwrap_or_default();
        Environment { overlay: Arc::new(overlay), state_dir }
    }

    /// A variable that is set, perhaps to nothing.
    pub(super) fn set(&self, name: &str) -> Option<String> {
        variable(name).or_else(|| self.overlay.get(name).cloned())
    }

    /// A variable that is set to something.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.set(name).filter(|value| !value.is_empty())
    }

    /// `instance.yaml` in `CONFIG_DIR`, or in `./config`.
    pub(super) fn config(&self) -> Config {
        let config_dir =
            self.get("CONFIG_DIR").map_or_else(|| PathBuf::from("config"), PathBuf::from);
        self.config_of(Files::in_folder(config_dir, &self.state_dir))
    }

    /// Another file in its place.
    pub(super) fn config_in(&self, instance: &Path) -> Config {
        self.config_of(Files { instance: instance.into(), state_dir: self.state_dir.clone() })
    }

    fn config_of(&self, mut files: Files) -> Config {
        // Relative paths in it must mean the same wherever a connector works.
        if let Ok(absolute) = std::path::absolute(&files.instance) {
            files.instance = absolute;
        }
        Config::load(&files, &|name| self.set(name))
    }

    /// What is configured; a variable goes before it.
    pub(super) fn settings(&self, config: &Config) -> Result<Settings> {
        let mut settings = config.settings()?;
        if let Some(policy) = self.get("AGNES_TABLE_POLICY") {
            settings.table_policy = table_policy(&policy)?;
        }
        let extensions = self.get("AGNES_REMOTE_ATTACH_EXTENSIONS");
        let token_envs = self.get("AGNES_REMOTE_ATTACH_TOKEN_ENVS");
        if extensions.is_some() || token_envs.is_some() {
            settings.attach_policy =
                AttachPolicy::with_lists(extensions.as_deref(), token_envs.as_deref());
        }
        settings.metadata = settings.metadata.with_texts(
            self.get("SCHEDULER_BQ_METADATA_REFRESH_INTERVAL").as_deref(),
            self.get("AGNES_BQ_METADATA_REFRESH_CONCURRENCY").as_deref(),
            self.get("AGNES_WARMUP_CONCURRENCY").as_deref(),
        );
        if let Some(dir) = self.get("CONNECTORS_DIR") {
            settings.sync.connectors_dir = Some(PathBuf::from(dir));
        }
        Ok(settings)
    }

    pub(super) fn components(self) -> Components {
        Components { secrets: Arc::new(self), ..Components::default() }
    }
}

fn table_policy(text: &str) -> Result<TablePolicy> {
    match text {
        "grants" => Ok(TablePolicy::Grants),
        "grants_and_legacy" => Ok(TablePolicy::GrantsAndLegacy),
        other => Err(Error::new(
            Kind::Invalid,
            format!(
                "AGNES_TABLE_POLICY is `grants` or `grants_and_legacy`, not `{}`",
                other.escape_debug()
            ),
        )),
    }
}
