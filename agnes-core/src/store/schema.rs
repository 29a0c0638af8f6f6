//! The schema of the system database, and how an older one gets there.

use std::path::Path;
use std::time::Duration;

use duckdb::Connection;

use super::transaction;
use crate::clock::Timestamp;
use crate::disk::{Disk, with_suffix};
use crate::{Error, Key, Kind, Result, engine};

/// Each step takes the schema from the version that is its index to the next one. A step
/// that was released is never changed; a new one follows it.
const STEPS: &[&str] = &[V1, V2, V3, V4, V5, V6, V7];

/// The version of the schema that this build reads and writes.
pub const SCHEMA_VERSION: u32 = STEPS.len() as u32;

/// Version 1: what syncing and rebuilding remember, and the registry of tables.
const V1: &str = "
CREATE TABLE schema_version (
    version INTEGER NOT NULL,
    applied_at TIMESTAMP NOT NULL
);
CREATE TABLE sync_state (
    table_id VARCHAR PRIMARY KEY,
    source_name VARCHAR NOT NULL,
    last_sync TIMESTAMP,
    rows BIGINT NOT NULL DEFAULT 0,
    file_size_bytes BIGINT NOT NULL DEFAULT 0,
    uncompressed_size_bytes BIGINT NOT NULL DEFAULT 0,
    columns INTEGER NOT NULL DEFAULT 0,
    hash VARCHAR NOT NULL DEFAULT '',
    hash_blake3 VARCHAR NOT NULL DEFAULT '',
    status VARCHAR NOT NULL DEFAULT 'ok',
    error VARCHAR
);
CREATE TABLE sync_history (
    id VARCHAR PRIMARY KEY,
    table_id VARCHAR NOT NULL,
    synced_at TIMESTAMP NOT NULL,
    rows BIGINT NOT NULL DEFAULT 0,
    duration_ms INTEGER NOT NULL DEFAULT 0,
    status VARCHAR NOT NULL,
    error VARCHAR
);
CREATE TABLE view_ownership (
    view_name VARCHAR PRIMARY KEY,
    source_name VARCHAR NOT NULL,
    registered_at TIMESTAMP NOT NULL
);
CREATE TABLE applied_generation (
    number BIGINT NOT NULL
);
CREATE TABLE table_registry (
    id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,
    source_type VARCHAR,
    bucket VARCHAR,
    source_table VARCHAR,
    sync_strategy VARCHAR NOT NULL DEFAULT 'full_refresh',
    query_mode VARCHAR NOT NULL DEFAULT 'local',
    sync_schedule VARCHAR,
    profile_after_sync BOOLEAN NOT NULL DEFAULT true,
    primary_key VARCHAR,
    folder VARCHAR,
    description VARCHAR,
    registered_by VARCHAR,
    is_public BOOLEAN NOT NULL DEFAULT true,
    registered_at TIMESTAMP NOT NULL
);
";

/// Version 2: users, groups, grants, tokens and what they did; the registry with the source that
/// each table is of. Nothing has written to the registry of version 1.
const V2: &str = "
DROP TABLE table_registry;
CREATE TABLE table_registry (
    id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,
    source_name VARCHAR NOT NULL,
    source_type VARCHAR,
    bucket VARCHAR,
    source_table VARCHAR,
    source_query VARCHAR,
    query_mode VARCHAR,
    sync_strategy VARCHAR NOT NULL,
    sync_schedule VARCHAR,
    primary_key VARCHAR,
    description VARCHAR,
    folder VARCHAR,
    incremental_window_days INTEGER,
    max_history_days INTEGER,
    incremental_column VARCHAR,
    where_filters VARCHAR,
    partition_by VARCHAR,
    partition_granularity VARCHAR,
    initial_load_chunk_days INTEGER,
    is_public BOOLEAN NOT NULL,
    registered_by VARCHAR,
    registered_at TIMESTAMP NOT NULL
);
CREATE TABLE withdrawn_tables (
    source_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    withdrawn_at TIMESTAMP NOT NULL
);
CREATE TABLE users (
    id VARCHAR PRIMARY KEY,
    email VARCHAR NOT NULL,
    name VARCHAR,
    password_hash VARCHAR,
    session_version INTEGER NOT NULL DEFAULT 0,
    active BOOLEAN NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    deactivated_at TIMESTAMP,
    deactivated_by VARCHAR
);
CREATE TABLE user_groups (
    id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,
    description VARCHAR,
    is_system BOOLEAN NOT NULL,
    created_at TIMESTAMP NOT NULL,
    created_by VARCHAR
);
CREATE TABLE user_group_members (
    user_id VARCHAR NOT NULL,
    group_id VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    added_at TIMESTAMP NOT NULL,
    added_by VARCHAR
);
CREATE TABLE resource_grants (
    id VARCHAR PRIMARY KEY,
    group_id VARCHAR NOT NULL,
    resource_type VARCHAR NOT NULL,
    resource_id VARCHAR NOT NULL,
    assigned_at TIMESTAMP NOT NULL,
    assigned_by VARCHAR
);
CREATE TABLE dataset_permissions (
    user_id VARCHAR NOT NULL,
    dataset VARCHAR NOT NULL,
    access VARCHAR NOT NULL
);
CREATE TABLE access_requests (
    id VARCHAR PRIMARY KEY,
    user_id VARCHAR NOT NULL,
    user_email VARCHAR NOT NULL,
    table_id VARCHAR NOT NULL,
    reason VARCHAR,
    status VARCHAR NOT NULL,
    reviewed_by VARCHAR,
    reviewed_at TIMESTAMP,
    created_at TIMESTAMP NOT NULL
);
CREATE TABLE personal_access_tokens (
    id VARCHAR PRIMARY KEY,
    user_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    token_hash VARCHAR NOT NULL,
    prefix VARCHAR NOT NULL,
    scopes VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP,
    last_used_at TIMESTAMP,
    last_used_ip VARCHAR,
    revoked_at TIMESTAMP
);
CREATE TABLE one_shot_tokens (
    user_id VARCHAR NOT NULL,
    purpose VARCHAR NOT NULL,
    token_hash VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL
);
CREATE TABLE audit_log (
    id VARCHAR NOT NULL,
    timestamp TIMESTAMP NOT NULL,
    user_id VARCHAR,
    action VARCHAR NOT NULL,
    resource VARCHAR,
    params VARCHAR,
    result VARCHAR,
    duration_ms INTEGER
);
";

/// Version 3: metric definitions. Lists are JSON.
const V3: &str = "
CREATE TABLE metric_definitions (
    id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,
    display_name VARCHAR NOT NULL,
    category VARCHAR NOT NULL,
    description VARCHAR,
    type VARCHAR,
    unit VARCHAR,
    grain VARCHAR,
    table_name VARCHAR,
    tables VARCHAR,
    expression VARCHAR,
    time_column VARCHAR,
    dimensions VARCHAR,
    filters VARCHAR,
    synonyms VARCHAR,
    notes VARCHAR,
    sql VARCHAR NOT NULL,
    sql_variants VARCHAR,
    validation VARCHAR,
    source VARCHAR,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
";

/// Version 4: what is known of remote tables. The columns after the id say which table that was.
const V4: &str = "
CREATE TABLE bq_metadata_cache (
    table_id VARCHAR PRIMARY KEY,
    source_name VARCHAR NOT NULL,
    bucket VARCHAR NOT NULL,
    source_table VARCHAR NOT NULL,
    rows BIGINT,
    size_bytes BIGINT,
    partition_by VARCHAR,
    clustered_by VARCHAR,
    entity_type VARCHAR,
    known_columns VARCHAR,
    refreshed_at TIMESTAMP,
    error_at TIMESTAMP,
    error_msg VARCHAR
);
";

/// Version 5: the runs of connectors.
const V5: &str = "
CREATE TABLE sync_runs (
    id VARCHAR PRIMARY KEY,
    source_name VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL,
    duration_ms INTEGER NOT NULL,
    status VARCHAR NOT NULL,
    error VARCHAR
);
";

/// Version 6: profiles, with a hash of what they were made of.
const V6: &str = "
CREATE TABLE table_profiles (
    table_id VARCHAR PRIMARY KEY,
    hash VARCHAR NOT NULL,
    profile VARCHAR NOT NULL,
    profiled_at TIMESTAMP NOT NULL
);
ALTER TABLE table_registry ADD COLUMN profile_after_sync BOOLEAN DEFAULT true;
";

/// Version 7: what users want brought to them, and what somebody says of columns.
const V7: &str = "
CREATE TABLE user_sync_settings (
    user_id VARCHAR NOT NULL,
    dataset VARCHAR NOT NULL,
    enabled BOOLEAN NOT NULL,
    table_mode VARCHAR NOT NULL,
    tables VARCHAR,
    updated_at TIMESTAMP NOT NULL
);
CREATE TABLE column_metadata (
    table_id VARCHAR NOT NULL,
    column_name VARCHAR NOT NULL,
    basetype VARCHAR,
    description VARCHAR,
    confidence VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
";

/// The version of an open database; none when it is new.
pub(super) fn version(connection: &Connection) -> Result<Option<u32>> {
    let fail = |e| engine::error("read the schema's version", e);
    let exists: bool = connection
        .query_row(
            "SELECT count(*) > 0 FROM duckdb_tables() \
             WHERE database_name = 'state' AND table_name = 'schema_version'",
            [],
            |row| row.get(0),
        )
        .map_err(fail)?;
    if !exists {
        return Ok(None);
    }
    connection
        .query_row("SELECT max(version) FROM schema_version", [], |row| row.get(0))
        .map_err(fail)
}

/// Brings the database to this build's version, one step and one transaction at a time.
/// Before the first step a copy of the file is put beside it.
pub(super) fn migrate(
    connection: Connection,
    path: &Path,
    disk: &Disk,
    now: Timestamp,
    patience: Duration,
) -> Result<Connection> {
    migrate_to(connection, path, disk, now, patience, STEPS)
}

fn migrate_to(
    connection: Connection,
    path: &Path,
    disk: &Disk,
    now: Timestamp,
    patience: Duration,
    steps: &[&str],
) -> Result<Connection> {
    let found = version(&connection)?;
    let newest = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    let from = found.unwrap_or(0);
    if from > newest {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "the system database `{}` has schema version {from}, this build knows {newest}; \
                 use the version of Agnes that wrote it, or a newer one",
                path.display()
            ),
        )
        .with(Key::Path, path.display()));
    }
    if from == newest {
        return Ok(connection);
    }
    let connection =
        if found.is_some() { copied(connection, path, disk, patience)? } else { connection };
    for (index, step) in steps.iter().enumerate().skip(from as usize) {
        let reached = index + 1;
        transaction(&connection, "migrate the system database", |c| {
            c.execute_batch(step)?;
            c.execute(
                "INSERT INTO schema_version VALUES (?, make_timestamp(?::BIGINT))",
                duckdb::params![reached as i64, now.as_micros()],
            )
            .map(drop)
        })?;
    }
    connection
        .execute_batch("CHECKPOINT")
        .map_err(|e| engine::error("migrate the system database", e))?;
    Ok(connection)
}

/// Puts a copy of the file beside it, as `system.duckdb.pre-migrate`.
fn copied(
    connection: Connection,
    path: &Path,
    disk: &Disk,
    patience: Duration,
) -> Result<Connection> {
    connection
        .execute_batch("CHECKPOINT")
        .map_err(|e| engine::error("copy the system database", e))?;
    // The file is whole once nobody has it open.
    drop(connection);
    let copy = with_suffix(path, ".pre-migrate");
    let aside = crate::disk::aside(&copy);
    disk.remove(&aside)?;
    std::fs::copy(path, &aside).map_err(|e| Error::io("copy the system database to", &aside, e))?;
    disk.flush(&aside)?;
    disk.rename(&aside, &copy)?;
    super::attach(path, patience)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::store::Store;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn open(layout: &Layout) -> Result<Store> {
        Store::open(layout, &Disk::real(), NOW, Duration::ZERO)
    }

    #[test]
    fn a_new_database_gets_the_newest_schema() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None).unwrap();
        for _ in 0..2 {
            let version = open(&layout).unwrap().schema_version().unwrap();
            assert_eq!(version as usize, STEPS.len());
        }
        assert!(!with_suffix(&layout.system_db(), ".pre-migrate").exists());
    }

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None).unwrap();
        let store = open(&layout).unwrap();
        store
            .lock()
            .unwrap()
            .execute_batch("INSERT INTO schema_version VALUES (99, now()::TIMESTAMP)")
            .unwrap();
        drop(store);
        let error = open(&layout).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.message().contains("99"), "{error}");
    }

    #[test]
    fn a_step_that_fails_changes_nothing_and_leaves_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None).unwrap();
        drop(open(&layout).unwrap());
        let path = layout.system_db();
        let migrate = |steps: &[&str]| {
            let connection = super::super::attach(&path, Duration::ZERO).unwrap();
            migrate_to(connection, &path, &Disk::real(), NOW, Duration::ZERO, steps)
        };
        let next = |step| [STEPS, &[step]].concat();
        let bad = next("CREATE TABLE more (a INTEGER); CREATE TABLE more (a INTEGER)");
        assert!(migrate(&bad).is_err());
        assert!(with_suffix(&path, ".pre-migrate").exists());
        let good = next("CREATE TABLE more (a INTEGER)");
        let connection = migrate(&good).unwrap();
        assert_eq!(version(&connection).unwrap().map(|v| v as usize), Some(good.len()));
    }

    #[test]
    fn a_second_holder_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None).unwrap();
        let _held = open(&layout).unwrap();
        let error = open(&layout).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.message().contains("holds the system database"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_database_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None).unwrap();
        std::fs::create_dir_all(layout.state()).unwrap();
        std::fs::write(layout.system_db(), "garbage garbage garbage").unwrap();
        let error = open(&layout).unwrap_err();
        assert!(error.message().contains("system.duckdb"), "{error}");
    }
}
