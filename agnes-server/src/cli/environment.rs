//! What the command takes from its environment. The core takes nothing from it.

use std::path::PathBuf;
use std::sync::Arc;

use agnes_core::{AttachPolicy, Components, Secret, Secrets, Settings, TokenEnv};

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

pub(super) fn settings() -> Settings {
    let extensions = variable("AGNES_REMOTE_ATTACH_EXTENSIONS");
    let token_envs = variable("AGNES_REMOTE_ATTACH_TOKEN_ENVS");
    Settings {
        state_dir: variable("STATE_DIR").map(PathBuf::from),
        attach_policy: AttachPolicy::with_lists(extensions.as_deref(), token_envs.as_deref()),
        ..Settings::default()
    }
}

pub(super) fn components() -> Components {
    Components { secrets: Arc::new(Environment), ..Components::default() }
}
