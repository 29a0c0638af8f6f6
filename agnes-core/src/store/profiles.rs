//! Profiles, as rows: JSON, with a hash of what they were made of.

use std::collections::BTreeMap;

use duckdb::{Connection, OptionalExt as _};

use super::Store;
use super::access::timestamp;
use crate::profile::Profile;
use crate::{Result, engine};

impl Store {
    /// What the profile of each table was made of.
    pub(crate) fn profile_hashes(&self) -> Result<BTreeMap<String, String>> {
        let connection = self.lock()?;
        let mut statement = connection
            .prepare_cached("SELECT table_id, hash FROM table_profiles")
            .map_err(|e| engine::error("read the profiles", e))?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.and_then(Iterator::collect).map_err(|e| engine::error("read the profiles", e))
    }

    /// The profile of a table, if it was made of this.
    pub(crate) fn profile(&self, table: &str, hash: &str) -> Result<Option<Profile>> {
        let text: Option<String> = self
            .lock()?
            .query_row(
                "SELECT profile FROM table_profiles WHERE lower(table_id) = lower(?) AND hash = ?",
                [table, hash],
                |row| row.get(0),
            )
            .optional()
            .map_err(|e| engine::error("read a profile", e))?;
        // One that can't be read is made anew.
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Keeps the profile of a table, in the place of the one before.
    pub(crate) fn put_profile(&self, table: &str, hash: &str, profile: &Profile) -> Result<()> {
        let text = serde_json::to_string(profile)
            .map_err(|e| crate::Error::internal("a profile can't be written as JSON").because(e))?;
        self.transaction("write a profile", |c| {
            remove(c, table)?;
            c.prepare_cached("INSERT INTO table_profiles VALUES (?, ?, ?, ?)")?
                .execute(duckdb::params![table, hash, text, timestamp(profile.profiled_at)])
                .map(drop)
        })
    }
}

pub(super) fn remove(c: &Connection, table: &str) -> duckdb::Result<()> {
    c.prepare_cached("DELETE FROM table_profiles WHERE lower(table_id) = lower(?)")?
        .execute([table])
        .map(drop)
}
