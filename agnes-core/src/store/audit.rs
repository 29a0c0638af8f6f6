//! What was done, as rows that are only ever appended.

use std::collections::HashMap;

use duckdb::{Connection, params};

use super::Store;
use super::access::timestamp;
use crate::access::audit::Use;
use crate::access::{AuditEvent, TokenId};
use crate::{Result, Timestamp, engine};

/// Appends events within somebody's transaction.
pub(super) fn append(c: &Connection, events: &[AuditEvent]) -> duckdb::Result<()> {
    let mut statement = c.prepare_cached(
        "INSERT INTO audit_log (id, timestamp, user_id, action, resource, params, result, \
         duration_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for event in events {
        let params = event.params.as_ref().map(serde_json::Value::to_string);
        let duration = event.duration_ms.map(|ms| i32::try_from(ms).unwrap_or(i32::MAX));
        statement.execute(params![
            uuid::Uuid::new_v4().to_string(),
            timestamp(event.at),
            event.user,
            event.action,
            event.resource,
            params,
            event.result,
            duration
        ])?;
    }
    Ok(())
}

impl Store {
    /// Appends events, and writes down when tokens were last used, in one transaction.
    pub(crate) fn tell(&self, events: &[AuditEvent], uses: &HashMap<TokenId, Use>) -> Result<()> {
        self.transaction("write the audit log", |c| {
            append(c, events)?;
            let mut statement = c.prepare_cached(
                "UPDATE personal_access_tokens SET last_used_at = ?, last_used_ip = ? \
                 WHERE id = ?",
            )?;
            for (token, used) in uses {
                statement.execute(params![timestamp(used.at), used.ip, token.as_str()])?;
            }
            Ok(())
        })
    }

    /// The last events, the newest first.
    ///
    /// # Errors
    /// `Internal` when they can't be read.
    pub(crate) fn told(&self, limit: u32) -> Result<Vec<AuditEvent>> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT epoch_us(timestamp), user_id, action, resource, params, result, \
                 duration_ms FROM audit_log ORDER BY timestamp DESC, rowid DESC LIMIT ?",
            )
            .and_then(|mut statement| {
                statement
                    .query_map([limit], |row| {
                        let params: Option<String> = row.get(4)?;
                        Ok(AuditEvent {
                            at: Timestamp::from_micros(row.get(0)?),
                            user: row.get(1)?,
                            action: row.get(2)?,
                            resource: row.get(3)?,
                            params: params.and_then(|p| serde_json::from_str(&p).ok()),
                            result: row.get(5)?,
                            duration_ms: row.get::<_, Option<i32>>(6)?.map(i32::unsigned_abs),
                        })
                    })?
                    .collect()
            })
            .map_err(|e| engine::error("read the audit log", e))
        })
    }
}
