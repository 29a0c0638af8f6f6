//! The library as a whole, topic by topic, through its public interface.
#![allow(missing_docs, unreachable_pub)]

#[path = "core/extracts.rs"]
mod extracts;
#[path = "core/files.rs"]
mod files;
#[path = "core/rebuilds.rs"]
mod rebuilds;
#[path = "core/remote.rs"]
mod remote;
#[path = "core/support.rs"]
mod support;
