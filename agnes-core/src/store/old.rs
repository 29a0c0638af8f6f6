//! A system database of the reference implementation, read as text, of whatever version.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use duckdb::Connection;

use crate::{Error, Key, Kind, Result, Timestamp, engine, sql};

/// One row, by column; what is NULL or not there is absent. Moments are microseconds since 1970,
/// lists are JSON.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row(BTreeMap<&'static str, String>);

impl Row {
    /// A text. One of blanks is as good as none.
    pub(crate) fn text(&self, column: &'static str) -> Option<&str> {
        self.0.get(column).map(String::as_str).filter(|text| !text.trim().is_empty())
    }

    pub(crate) fn texts(&self) -> &BTreeMap<&'static str, String> {
        &self.0
    }

    pub(crate) fn needed(&self, column: &'static str) -> Result<&str> {
        self.text(column).ok_or_else(|| Error::new(Kind::Invalid, format!("it has no `{column}`")))
    }

    pub(crate) fn flag(&self, column: &'static str) -> Option<bool> {
        self.text(column).map(|text| text == "true")
    }

    pub(crate) fn moment(&self, column: &'static str) -> Result<Option<Timestamp>> {
        let Some(text) = self.text(column) else { return Ok(None) };
        let micros = text.parse().map_err(|_| {
            let shown = crate::name::shown(text.trim_start_matches('?'));
            Error::new(Kind::Invalid, format!("its `{column}` is `{shown}`, which is no time"))
        })?;
        Ok(Some(Timestamp::from_micros(micros)))
    }

    pub(crate) fn number(&self, column: &'static str) -> Option<u32> {
        self.text(column)?.parse().ok()
    }

    pub(crate) fn large(&self, column: &'static str) -> u64 {
        self.text(column).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// One of a few words.
    pub(crate) fn word<T: serde::de::DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>> {
        let Some(text) = self.text(column) else { return Ok(None) };
        serde_json::from_value(serde_json::Value::String(text.to_string())).map(Some).map_err(
            |_| {
                let shown = crate::name::shown(text);
                Error::new(Kind::Invalid, format!("its `{column}` is `{shown}`, which is unknown"))
            },
        )
    }
}

/// How a column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    Text,
    Moment,
    List,
}

/// A table, with the columns that any version has.
type Shape = (&'static str, &'static [(&'static str, As)]);

use As::{List, Moment, Text};

const USERS: Shape = (
    "users",
    &[
        ("id", Text),
        ("email", Text),
        ("name", Text),
        ("role", Text),
        ("password_hash", Text),
        ("active", Text),
        ("deactivated_at", Moment),
        ("deactivated_by", Text),
        ("created_at", Moment),
        ("updated_at", Moment),
    ],
);
const GROUPS: Shape = (
    "user_groups",
    &[
        ("id", Text),
        ("name", Text),
        ("description", Text),
        ("created_at", Moment),
        ("created_by", Text),
    ],
);
const MEMBERS: Shape = (
    "user_group_members",
    &[
        ("user_id", Text),
        ("group_id", Text),
        ("source", Text),
        ("added_at", Moment),
        ("added_by", Text),
    ],
);
const GRANTS: Shape = (
    "resource_grants",
    &[
        ("id", Text),
        ("group_id", Text),
        ("resource_type", Text),
        ("resource_id", Text),
        ("assigned_at", Moment),
        ("assigned_by", Text),
    ],
);
const TOKENS: Shape = (
    "personal_access_tokens",
    &[
        ("id", Text),
        ("user_id", Text),
        ("name", Text),
        ("token_hash", Text),
        ("prefix", Text),
        ("scopes", Text),
        ("created_at", Moment),
        ("expires_at", Moment),
        ("last_used_at", Moment),
        ("last_used_ip", Text),
        ("revoked_at", Moment),
    ],
);
const PERMISSIONS: Shape =
    ("dataset_permissions", &[("user_id", Text), ("dataset", Text), ("access", Text)]);
const REQUESTS: Shape = (
    "access_requests",
    &[
        ("id", Text),
        ("user_id", Text),
        ("user_email", Text),
        ("table_id", Text),
        ("reason", Text),
        ("status", Text),
        ("reviewed_by", Text),
        ("reviewed_at", Moment),
        ("created_at", Moment),
    ],
);
const TABLES: Shape = (
    "table_registry",
    &[
        ("id", Text),
        ("name", Text),
        ("source_type", Text),
        ("bucket", Text),
        ("source_table", Text),
        ("source_query", Text),
        ("query_mode", Text),
        ("sync_strategy", Text),
        ("sync_schedule", Text),
        ("primary_key", Text),
        ("description", Text),
        ("folder", Text),
        ("registered_by", Text),
        ("incremental_window_days", Text),
        ("max_history_days", Text),
        ("incremental_column", Text),
        ("where_filters", Text),
        ("partition_by", Text),
        ("partition_granularity", Text),
        ("initial_load_chunk_days", Text),
        ("is_public", Text),
        ("profile_after_sync", Text),
        ("registered_at", Moment),
    ],
);
const SYNC_STATES: Shape = (
    "sync_state",
    &[
        ("table_id", Text),
        ("last_sync", Moment),
        ("rows", Text),
        ("file_size_bytes", Text),
        ("columns", Text),
        ("hash", Text),
        ("status", Text),
        ("error", Text),
    ],
);
const METRICS: Shape = (
    "metric_definitions",
    &[
        ("id", Text),
        ("name", Text),
        ("display_name", Text),
        ("category", Text),
        ("description", Text),
        ("type", Text),
        ("unit", Text),
        ("grain", Text),
        ("table_name", Text),
        ("tables", List),
        ("expression", Text),
        ("time_column", Text),
        ("dimensions", List),
        ("filters", List),
        ("synonyms", List),
        ("notes", List),
        ("sql", Text),
        ("sql_variants", Text),
        ("validation", Text),
        ("source", Text),
    ],
);
/// The interlude before there were groups that admins are in.
const ROLES: Shape = ("internal_roles", &[("id", Text), ("key", Text)]);
const ROLE_GRANTS: Shape =
    ("user_role_grants", &[("user_id", Text), ("internal_role_id", Text), ("role_key", Text)]);

/// What such a database holds.
#[derive(Debug, Default)]
pub(crate) struct Old {
    pub(crate) version: Option<u32>,
    pub(crate) users: Vec<Row>,
    pub(crate) groups: Vec<Row>,
    pub(crate) members: Vec<Row>,
    pub(crate) grants: Vec<Row>,
    pub(crate) tokens: Vec<Row>,
    pub(crate) permissions: Vec<Row>,
    pub(crate) requests: Vec<Row>,
    pub(crate) tables: Vec<Row>,
    pub(crate) sync_states: Vec<Row>,
    pub(crate) metrics: Vec<Row>,
    /// Whether members of groups say who is an admin, or roles do.
    pub(crate) has_groups: bool,
    admins: BTreeSet<String>,
    role_grants: Vec<Row>,
    role_keys: Vec<String>,
    /// Tables of which nothing is read, and how many rows each has.
    pub(crate) unread: Vec<(String, u64)>,
}

impl Old {
    /// Reads a file that nobody writes to.
    pub(crate) fn read(file: &Path) -> Result<Old> {
        if !file.is_file() {
            return Err(Error::new(
                Kind::NotFound,
                format!("there is no file `{}`", file.display()),
            )
            .with(Key::Path, file.display()));
        }
        let limits = engine::Limits { memory_bytes: 1 << 30, threads: 1 };
        let connection = engine::in_memory(&limits)?;
        let unusable = |e: Error| {
            let busy = engine::is_lock_conflict(e.message());
            let kind = if busy { Kind::Unavailable } else { Kind::Invalid };
            let message =
                format!("`{}` can't be read as a system database: {}", file.display(), e.message());
            Error::new(kind, message).with(Key::Path, file.display())
        };
        engine::run(&connection, "open the file", &sql::attach_extract(file)?).map_err(unusable)?;
        // Whoever wrote it may have put more into it than rows.
        engine::run(&connection, "lock the reader", &sql::lock::<&str>(&[])?)?;
        let tables = there(&connection).map_err(unusable)?;
        if !tables.contains_key("schema_version") || !tables.contains_key("users") {
            return Err(unusable(Error::new(
                Kind::Invalid,
                "it has no tables `schema_version` and `users`",
            )));
        }
        if tables.contains_key("one_shot_tokens") {
            return Err(unusable(Error::new(
                Kind::Invalid,
                "it is a system database of Agnes itself; put it into the state folder as it is",
            )));
        }
        let unread = unread(&connection, &tables).map_err(unusable)?;
        let read = |shape: &Shape| rows(&connection, &tables, shape).map_err(unusable);
        let roles = read(&ROLES)?;
        let key_of = |row: &Row| {
            let id = row.text("internal_role_id");
            let role = roles.iter().find(|role| role.text("id") == id);
            let key = row.text("role_key").or_else(|| role.and_then(|role| role.text("key")));
            key.or(id).unwrap_or("?").to_string()
        };
        let role_grants = read(&ROLE_GRANTS)?;
        let role_keys: Vec<String> = role_grants.iter().map(key_of).collect();
        let admins = role_grants.iter().zip(&role_keys).filter(|(_, key)| *key == "core.admin");
        let version: Option<i64> = connection
            .query_row("SELECT max(version)::BIGINT FROM extract.main.schema_version", [], |row| {
                row.get(0)
            })
            .map_err(|e| unusable(engine::error("read the version", e)))?;
        Ok(Old {
            version: version.and_then(|version| u32::try_from(version).ok()),
            admins: admins.filter_map(|(row, _)| row.text("user_id").map(str::to_string)).collect(),
            users: read(&USERS)?,
            groups: read(&GROUPS)?,
            members: read(&MEMBERS)?,
            grants: read(&GRANTS)?,
            tokens: read(&TOKENS)?,
            permissions: read(&PERMISSIONS)?,
            requests: read(&REQUESTS)?,
            tables: read(&TABLES)?,
            sync_states: read(&SYNC_STATES)?,
            metrics: read(&METRICS)?,
            has_groups: tables.contains_key("user_group_members"),
            role_grants,
            role_keys,
            unread,
        })
    }

    /// The roles that somebody was given, by the id of the user, in the interlude of roles.
    pub(crate) fn roles(&self) -> impl Iterator<Item = (&str, &str)> {
        let users = self.role_grants.iter().map(|row| row.text("user_id").unwrap_or("?"));
        users.zip(self.role_keys.iter().map(String::as_str))
    }

    /// Whether the roles of one interlude make a user an admin.
    pub(crate) fn is_admin(&self, user: &str) -> bool {
        self.admins.contains(user)
    }
}

/// The tables that are there, each with its columns; in lower case.
fn there(connection: &Connection) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let fail = |e| engine::error("read the tables", e);
    // A view is a query of whoever made the file.
    let mut statement = connection
        .prepare(
            "SELECT lower(table_name), lower(column_name) FROM duckdb_columns() \
             WHERE database_name = 'extract' AND schema_name = 'main' AND table_name IN \
             (SELECT table_name FROM duckdb_tables() WHERE database_name = 'extract')",
        )
        .map_err(fail)?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .map_err(fail)?;
    let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let (table, column) = row.map_err(fail)?;
        tables.entry(table).or_default().insert(column);
    }
    Ok(tables)
}

/// Tables that hold something and that nobody asks for.
fn unread(
    connection: &Connection,
    tables: &BTreeMap<String, BTreeSet<String>>,
) -> Result<Vec<(String, u64)>> {
    let shapes = [
        USERS,
        GROUPS,
        MEMBERS,
        GRANTS,
        TOKENS,
        PERMISSIONS,
        REQUESTS,
        TABLES,
        SYNC_STATES,
        METRICS,
        ROLES,
        ROLE_GRANTS,
    ];
    let known: BTreeSet<&str> =
        shapes.iter().map(|shape| shape.0).chain(["schema_version"]).collect();
    let fail = |e| engine::error("count the rows", e);
    let mut statement = connection
        .prepare(
            "SELECT table_name, estimated_size FROM duckdb_tables() WHERE database_name = \
             'extract' AND schema_name = 'main' AND estimated_size > 0 ORDER BY 1",
        )
        .map_err(fail)?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
        .map_err(fail)?;
    let mut unread = Vec::new();
    for row in rows {
        let (table, rows) = row.map_err(fail)?;
        if !known.contains(table.to_lowercase().as_str())
            && tables.contains_key(&table.to_lowercase())
        {
            unread.push((table, rows.unsigned_abs()));
        }
    }
    Ok(unread)
}

fn rows(
    connection: &Connection,
    tables: &BTreeMap<String, BTreeSet<String>>,
    (table, columns): &Shape,
) -> Result<Vec<Row>> {
    let Some(present) = tables.get(*table) else { return Ok(Vec::new()) };
    let columns: Vec<(&'static str, As)> =
        columns.iter().filter(|(column, _)| present.contains(*column)).copied().collect();
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let fail = |e| engine::error("read the rows", e);
    let select = sql::select_as_text(table, &columns);
    let mut statement = connection.prepare(select.as_str()).map_err(fail)?;
    let rows = statement
        .query_map([], |row| {
            let mut texts = BTreeMap::new();
            for (at, (column, _)) in columns.iter().enumerate() {
                if let Some(text) = row.get::<_, Option<String>>(at)? {
                    texts.insert(*column, text);
                }
            }
            Ok(Row(texts))
        })
        .map_err(fail)?;
    rows.map(|row| row.map_err(fail)).collect()
}
