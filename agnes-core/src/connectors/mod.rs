//! The connectors that come with Agnes.

pub mod files;
