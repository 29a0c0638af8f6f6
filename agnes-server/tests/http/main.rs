//! The server, asked as its clients ask it.
// Helpers of tests are tests: they may panic.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod admin;
mod auth;
mod client;
mod clock;
mod data;
mod discovery;
mod doors;
mod house;
mod links;
mod people;
mod query;
mod strangers;
