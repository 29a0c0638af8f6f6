//! `agnes manifest`: what a user may download, with hashes.

use agnes_core::access::{Email, Principal};
use agnes_core::{Agnes, Result};
use clap::Args;

use super::output::{Done, Output, bytes, grouped};
use super::people::email;

#[derive(Debug, Args)]
pub(super) struct Manifest {
    /// The user that it is for; the operator, who sees all, when absent
    #[arg(long = "as", value_name = "EMAIL", value_parser = email)]
    pub(super) as_user: Option<Email>,
    #[command(flatten)]
    pub(super) json: super::Json,
}

impl Manifest {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let who = match &self.as_user {
            None => Principal::Operator,
            Some(email) => agnes.access()?.principal_of(email)?,
        };
        let manifest = agnes.manifest(&who)?;
        if self.json.json {
            output.json(&manifest)?;
            return Ok(Done::Whole);
        }
        let rows = manifest.tables.iter().map(|(name, entry)| {
            let parts = match entry.parts.len() {
                0 => String::new(),
                parts => parts.to_string(),
            };
            let updated = entry.updated.map_or_else(|| "-".to_string(), |at| at.to_string());
            let hash = entry.hash.clone();
            [name.to_string(), grouped(entry.rows), bytes(entry.size_bytes), updated, hash, parts]
        });
        let columns = ["table", "rows", "size", "updated", "md5", "parts"];
        output.table(columns, &[1, 2, 5], rows)?;
        Ok(Done::Whole)
    }
}
