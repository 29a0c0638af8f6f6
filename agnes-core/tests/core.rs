//! The library as a whole, topic by topic, through its public interface.
// Helpers of tests are tests: they may panic, and nothing outside sees them.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

/// Whether statements run in workers; `in_workers.rs` has some of the same tests where they do.
const IN_WORKERS: bool = false;

#[path = "core/access.rs"]
mod access;
#[path = "core/backups.rs"]
mod backups;
#[path = "core/config.rs"]
mod config;
#[path = "core/dependencies.rs"]
mod dependencies;
#[path = "core/extracts.rs"]
mod extracts;
#[path = "core/faults.rs"]
mod faults;
#[path = "core/files.rs"]
mod files;
#[path = "core/hybrid.rs"]
mod hybrid;
#[path = "core/imports.rs"]
mod imports;
#[path = "core/metadata.rs"]
mod metadata;
#[path = "core/metrics.rs"]
mod metrics;
#[path = "core/names.rs"]
mod names;
#[path = "core/plans.rs"]
mod plans;
#[path = "core/profiles.rs"]
mod profiles;
#[path = "core/rebuilds.rs"]
mod rebuilds;
#[path = "core/remote.rs"]
mod remote;
#[path = "core/scans.rs"]
mod scans;
#[path = "core/sessions.rs"]
mod sessions;
#[path = "core/support.rs"]
mod support;
#[path = "core/sync.rs"]
mod sync;
#[path = "core/tokens.rs"]
mod tokens;
#[path = "core/workers.rs"]
mod workers;
