//! What callers see where statements run in workers: the same.
// Helpers of tests are tests: they may panic, and nothing outside sees them. Not all are used here.
#![allow(missing_docs, unreachable_pub, dead_code, unused_imports)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

const IN_WORKERS: bool = true;

#[path = "core/access.rs"]
mod access;
#[path = "core/hybrid.rs"]
mod hybrid;
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
