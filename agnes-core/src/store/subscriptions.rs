//! What users want brought to them, as rows. A row of the table `*` has a user's mode alone.

use duckdb::{Connection, params};

use super::Store;
use super::access::timestamp;
use crate::access::UserId;
use crate::subscription::{Mode, Subscription};
use crate::{Result, TableId, Timestamp, engine};

const EVERYTHING: &str = "*";

impl Store {
    /// A user's mode, and what she has chosen, by table.
    pub(crate) fn subscriptions(&self, user: &UserId) -> Result<(Mode, Vec<Subscription>)> {
        let fail = |e| engine::error("read what a user wants", e);
        let rows: Vec<(String, bool, Mode, Timestamp)> = self.read(|c| {
            let mut statement = c
                .prepare_cached(
                    "SELECT dataset, enabled, table_mode, updated_at FROM user_sync_settings \
                     WHERE user_id = ? ORDER BY dataset",
                )
                .map_err(fail)?;
            let rows = statement.query_map([user.as_str()], |row| {
                let (dataset, mode): (String, String) = (row.get(0)?, row.get(2)?);
                Ok((dataset, row.get(1)?, Mode::of(&mode), Timestamp::from_micros(row.get(3)?)))
            });
            rows.and_then(Iterator::collect).map_err(fail)
        })?;
        let mode = rows.first().map_or(Mode::All, |(_, _, mode, _)| *mode);
        let chosen = rows.into_iter().filter_map(|(dataset, enabled, _, updated_at)| {
            Some(Subscription { table: TableId::parse(dataset).ok()?, enabled, updated_at })
        });
        Ok((mode, chosen.collect()))
    }

    /// Keeps choices of a user, in the place of those about the same tables.
    pub(crate) fn subscribe(
        &self,
        user: &UserId,
        mode: Option<Mode>,
        chosen: &[(TableId, bool)],
        now: Timestamp,
    ) -> Result<()> {
        let (before, _) = self.subscriptions(user)?;
        let mode = mode.unwrap_or(before);
        let chosen = chosen.iter().map(|(table, enabled)| (table.as_str(), *enabled));
        self.transaction("keep what a user wants", |c| {
            c.prepare_cached("UPDATE user_sync_settings SET table_mode = ? WHERE user_id = ?")?
                .execute(params![mode.as_str(), user.as_str()])?;
            for (table, enabled) in chosen.chain([(EVERYTHING, true)]) {
                c.prepare_cached(
                    "DELETE FROM user_sync_settings WHERE user_id = ? AND lower(dataset) = lower(?)",
                )?
                .execute(params![user.as_str(), table])?;
                c.prepare_cached("INSERT INTO user_sync_settings VALUES (?, ?, ?, ?, NULL, ?)")?
                    .execute(params![
                        user.as_str(),
                        table,
                        enabled,
                        mode.as_str(),
                        timestamp(now)
                    ])?;
            }
            Ok(())
        })
    }
}

pub(super) fn remove_table(c: &Connection, table: &TableId) -> duckdb::Result<()> {
    c.prepare_cached("DELETE FROM user_sync_settings WHERE lower(dataset) = lower(?)")?
        .execute([table.as_str()])
        .map(drop)
}
