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
        let fail = |e| engine::error("read the profiles", e);
        self.read(|c| {
            let mut statement =
                c.prepare_cached("SELECT table_id, hash FROM table_profiles").map_err(fail)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
            rows.and_then(Iterator::collect).map_err(fail)
        })
    }

    /// The profile of a table, if it was made of this.
    pub(crate) fn profile(&self, table: &str, hash: &str) -> Result<Option<Profile>> {
        let text: Option<String> = self.read(|c| {
            c.query_row(
                "SELECT profile FROM table_profiles WHERE lower(table_id) = lower(?) AND hash = ?",
                [table, hash],
                |row| row.get(0),
            )
            .optional()
            .map_err(|e| engine::error("read a profile", e))
        })?;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Timestamp;
    use crate::disk::Disk;
    use crate::layout::Layout;

    #[test]
    fn profiles_that_were_replaced_take_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None).unwrap();
        let now = Timestamp::EPOCH;
        let store = Store::open(&layout, &Disk::real(), now, Duration::ZERO).unwrap();
        // Text that can't be packed, 20 tables at a time in no order.
        let text = |at: u32| {
            (0..160)
                .map(move |part| blake3::hash(&[at, part].map(u32::to_le_bytes).concat()).to_hex())
        };
        let mut sizes = Vec::new();
        for at in 0..800_u32 {
            let table = format!("table {}", at * 7 % 20);
            let kept = store.transaction("write a profile", |c| {
                remove(c, &table)?;
                let text: String = text(at).map(|hex| hex.to_string()).collect();
                c.execute(
                    "INSERT INTO table_profiles VALUES (?, '', ?, ?)",
                    duckdb::params![table, text, timestamp(now)],
                )
            });
            kept.unwrap();
            if at % 200 == 199 {
                store.lock().unwrap().execute_batch("CHECKPOINT").unwrap();
                sizes.push(std::fs::metadata(layout.system_db()).unwrap().len());
            }
        }
        // Each 200 write two megabytes, where those before have left room.
        assert!(sizes.iter().all(|size| *size < 8_000_000), "{sizes:?}");
    }
}
