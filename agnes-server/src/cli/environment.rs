//! What the command takes from its environment. The core takes nothing from it.

use std::path::PathBuf;
use std::sync::Arc;

use agnes_core::access::TablePolicy;
use agnes_core::metadata::MetadataSettings;
use agnes_core::{
    AttachPolicy, Components, Error, Kind, Result, Secret, Secrets, Settings, TokenEnv,
};

/// Token variables, read when they are needed.
struct Environment;

impl Secrets for Environment {
    fn get(&self, name: &TokenEnv) -> Option<Secret> {
        variable(name.as_str()).map(Secret::new)
    }
}

// The one place that reads the environment.
#[allow(clippy::disallowed_methods)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub(super) fn settings() -> Result<Settings> {
    let table_policy = match variable("AGNES_TABLE_POLICY").as_deref() {
        None | Some("grants") => TablePolicy::Grants,
        Some("grants_and_legacy") => TablePolicy::GrantsAndLegacy,
        Some(other) => {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "AGNES_TABLE_POLICY is `grants` or `grants_and_legacy`, not `{}`",
                    other.escape_debug()
                ),
            ));
        }
    };
    let extensions = variable("AGNES_REMOTE_ATTACH_EXTENSIONS");
    let token_envs = variable("AGNES_REMOTE_ATTACH_TOKEN_ENVS");
    let metadata = MetadataSettings::from_texts(
        variable("SCHEDULER_BQ_METADATA_REFRESH_INTERVAL").as_deref(),
        variable("AGNES_BQ_METADATA_REFRESH_CONCURRENCY").as_deref(),
        variable("AGNES_WARMUP_CONCURRENCY").as_deref(),
    );
    Ok(Settings {
        table_policy,
        metadata,
        state_dir: variable("STATE_DIR").map(PathBuf::from),
        attach_policy: AttachPolicy::with_lists(extensions.as_deref(), token_envs.as_deref()),
        ..Settings::default()
    })
}

pub(super) fn components() -> Components {
    Components { secrets: Arc::new(Environment), ..Components::default() }
}
