//! Which source owns which view name.

use super::Store;
use crate::clock::Timestamp;
use crate::orchestrator::Ownership;
use crate::{Result, SourceName, ViewName, engine};

impl Store {
    /// Every name with its owner.
    ///
    /// # Errors
    /// `Internal` when it can't be read; a rebuild then leaves everything as it is.
    pub(crate) fn ownership(&self) -> Result<Ownership> {
        let rows: Vec<(String, String)> = self.read(|c| {
            c.prepare_cached("SELECT view_name, source_name FROM view_ownership")
                .and_then(|mut s| s.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
                .map_err(|e| engine::error("read who owns which name", e))
        })?;
        rows.into_iter()
            .map(|(view, source)| Ok((ViewName::parse(view)?, SourceName::parse(source)?)))
            .collect()
    }

    /// Gives names to their new owners and takes away the others.
    pub(crate) fn set_ownership(
        &self,
        claimed: &Ownership,
        released: &Ownership,
        now: Timestamp,
    ) -> Result<()> {
        if claimed.is_empty() && released.is_empty() {
            return Ok(());
        }
        self.transaction("write who owns which name", |c| {
            for name in released.keys() {
                c.prepare_cached("DELETE FROM view_ownership WHERE lower(view_name) = lower(?)")?
                    .execute([name.as_str()])?;
            }
            let mut rows = c.appender("view_ownership")?;
            for (name, source) in claimed {
                let at = duckdb::types::Value::Timestamp(
                    duckdb::types::TimeUnit::Microsecond,
                    now.as_micros(),
                );
                rows.append_row(duckdb::params![name.as_str(), source.as_str(), at])?;
            }
            rows.flush()
        })
    }
}
