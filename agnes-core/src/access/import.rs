//! Taking over a system database of the reference implementation, of whatever version.
//!
//! Only columns that are there are read. Nothing is guessed: what can't be taken over as it stands
//! is left out and named, and everything else is written in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use serde_json::json;

use super::audit::AuditEvent;
use super::change::Change;
use super::facts::{Facts, Grant, Group, MemberSource, Membership, Permission, User};
use super::request::{AccessRequest, RequestStatus};
use super::tables::is_free;
use super::token::PersonalToken;
use super::{
    Admin, Email, GrantId, GroupId, GroupName, Planned, RequestId, Resource, ResourceType, TokenId,
    UserId,
};
use crate::registry::{Declaration, RegisteredTable};
use crate::store::old::{Old, Row};
use crate::store::{MetricRow, SyncState};
use crate::{Error, Kind, Result, SourceName, TableId, Timestamp, ViewName};

/// What to take over, where there is a choice.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImportOptions {
    /// Keep the mark that a table is public. Old installations set it on every table, and the
    /// policy `grants_and_legacy` then shows them to everybody.
    pub keep_public: bool,
}

/// What was taken over, and what not.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ImportReport {
    /// The version that the file says it has.
    pub version: Option<u32>,
    /// How many of each kind were taken over.
    pub imported: BTreeMap<&'static str, usize>,
    /// What was left out, and why.
    pub left_out: Vec<LeftOut>,
}

/// Something that was left out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// What kind of thing.
    pub kind: &'static str,
    /// Which one, as the file calls it.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl Admin<'_> {
    /// Takes over users, groups, members, grants, tokens, permissions, requests, registered
    /// tables, sync state and metrics of another system database, all at once or not at all.
    ///
    /// # Errors
    /// `NotFound` and `Invalid` when the file isn't there or is no such database; `Unavailable`
    /// while another process has it open.
    pub fn import(&self, file: &Path, options: ImportOptions) -> Result<ImportReport> {
        let old = Old::read(file)?;
        self.write(|facts, by, now| {
            let mut import = Import {
                after: facts.clone(),
                options,
                by: &by.name,
                now,
                users: HashMap::new(),
                groups: HashMap::new(),
                tables: HashSet::new(),
                requests: self.access().store.requests()?.into_iter().map(|r| r.id).collect(),
                changes: Vec::new(),
                report: ImportReport { version: old.version, ..ImportReport::default() },
            };
            import.users(&old);
            import.groups(&old);
            import.members(&old);
            import.tables(&old);
            import.grants(&old);
            import.tokens(&old);
            import.permissions(&old);
            import.requests(&old);
            import.sync_states(&old);
            import.metrics(&old);
            let Import { changes, report, .. } = import;
            let told = json!({"imported": report.imported, "left_out": report.left_out.len()});
            let event = AuditEvent::new(now, "import", None).with(told);
            Ok(Planned { changes, events: vec![event], value: report })
        })
    }
}

struct Import<'a> {
    /// The facts as they will be, which what comes later is held against.
    after: Facts,
    options: ImportOptions,
    by: &'a str,
    now: Timestamp,
    /// The ids of the file, and whom they stand for here.
    users: HashMap<String, UserId>,
    groups: HashMap<String, GroupId>,
    /// The ids of tables that are the same table here: of that name, and of that source.
    tables: HashSet<TableId>,
    /// The requests that are here already.
    requests: HashSet<RequestId>,
    changes: Vec<Change>,
    report: ImportReport,
}

/// Texts of which several are equal but for their case.
fn clashing<'r>(texts: impl Iterator<Item = &'r str>) -> HashSet<String> {
    let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
    for text in texts {
        let folded = text.trim().to_lowercase();
        if !seen.insert(folded.clone()) {
            twice.insert(folded);
        }
    }
    twice
}

impl Import<'_> {
    fn take(&mut self, kind: &'static str, change: Change) {
        self.after.apply(&change);
        self.changes.push(change);
        *self.report.imported.entry(kind).or_default() += 1;
    }

    fn leave(&mut self, kind: &'static str, name: impl ToString, reason: impl ToString) {
        let (name, reason) = (name.to_string(), reason.to_string());
        self.report.left_out.push(LeftOut { kind, name, reason });
    }

    /// Takes over each row, or says why not.
    fn each(
        &mut self,
        kind: &'static str,
        rows: &[Row],
        name: &'static str,
        mut one: impl FnMut(&mut Self, &Row) -> Result<Vec<Change>>,
    ) {
        for row in rows {
            match one(self, row) {
                Ok(changes) => {
                    let mut changes = changes.into_iter();
                    if let Some(first) = changes.next() {
                        self.take(kind, first);
                    }
                    for change in changes {
                        self.after.apply(&change);
                        self.changes.push(change);
                    }
                }
                Err(error) => self.leave(kind, row.text(name).unwrap_or("?"), error.message()),
            }
        }
    }

    fn users(&mut self, old: &Old) {
        let twins = clashing(old.users.iter().filter_map(|row| row.text("email")));
        self.each("user", &old.users, "email", |import, row| {
            let id = UserId::parse(row.needed("id")?)?;
            let email = Email::parse(row.needed("email")?)?;
            if twins.contains(&email.as_str().to_lowercase()) {
                return Err(refused("another address differs from it in case alone; remove one"));
            }
            if let Some(there) = import.after.user_by_email(&email) {
                // Whoever is here already is the same person.
                import.users.insert(id.to_string(), there.user.id.clone());
                return Err(refused("a user of that address is here already"));
            }
            if import.after.user(&id).is_some() {
                return Err(refused("a user of that id is here already"));
            }
            import.users.insert(id.to_string(), id.clone());
            let user = User {
                id: id.clone(),
                email,
                name: row.text("name").map(str::to_string),
                active: row.flag("active").unwrap_or(true),
                has_password: false,
                created_at: row.moment("created_at").unwrap_or(import.now),
                updated_at: row.moment("updated_at").unwrap_or(import.now),
                deactivated_at: row.moment("deactivated_at"),
                deactivated_by: row.text("deactivated_by").map(str::to_string),
            };
            let mut changes = vec![Change::PutUser(user)];
            match row.text("password_hash") {
                Some(hash) if hash.starts_with("$argon2") => changes.push(Change::SetPassword {
                    user: id.clone(),
                    hash: Some(hash.to_string()),
                    session_version: 0,
                }),
                Some(_) => import.leave("password", row.text("email").unwrap_or("?"), "no Argon2"),
                None => {}
            }
            // Before there were groups a role said who may do everything.
            let was_admin = row.text("role") == Some("admin") || old.is_admin(id.as_str());
            if was_admin
                && !old.has_groups
                && let Some(admins) = import.admins()
            {
                changes.push(Change::PutMember(Membership {
                    user: id,
                    group: admins,
                    source: MemberSource::SystemSeed,
                    added_at: import.now,
                    added_by: Some(import.by.to_string()),
                }));
            }
            Ok(changes)
        });
        if !old.has_groups {
            for row in &old.users {
                if row.text("role") == Some("km_admin") {
                    let name = row.text("email").unwrap_or("?");
                    self.leave("role", name, "km_admin has no right of its own here");
                }
            }
        }
    }

    fn admins(&self) -> Option<GroupId> {
        Some(self.after.group_by_name(&GroupName::admin())?.group.id.clone())
    }

    fn groups(&mut self, old: &Old) {
        let twins = clashing(old.groups.iter().filter_map(|row| row.text("name")));
        self.each("group", &old.groups, "name", |import, row| {
            let id = GroupId::parse(row.needed("id")?)?;
            let name = GroupName::parse(row.needed("name")?)?;
            if twins.contains(&name.as_str().to_lowercase()) {
                return Err(refused("another group's name differs from it in case alone"));
            }
            if let Some(there) = import.after.group_by_name(&name) {
                import.groups.insert(id.to_string(), there.group.id.clone());
                // The two that are always there are the same everywhere.
                return match there.group.is_system {
                    true => Ok(Vec::new()),
                    false => Err(refused("a group of that name is here; its members join it")),
                };
            }
            if import.after.group(&id).is_some() {
                return Err(refused("a group of that id is here already"));
            }
            import.groups.insert(id.to_string(), id.clone());
            Ok(vec![Change::PutGroup(Group {
                id,
                name,
                description: row.text("description").map(str::to_string),
                is_system: false,
                created_at: row.moment("created_at").unwrap_or(import.now),
                created_by: row.text("created_by").map(str::to_string),
            })])
        });
    }

    fn member(&self, row: &Row) -> Result<(UserId, GroupId)> {
        let user = self.users.get(row.needed("user_id")?);
        let group = self.groups.get(row.needed("group_id")?);
        match (user, group) {
            (Some(user), Some(group)) => Ok((user.clone(), group.clone())),
            (None, _) => Err(refused("its user wasn't taken over")),
            (_, None) => Err(refused("its group wasn't taken over")),
        }
    }

    /// The id of a table that was taken over. One of that id which is another source's table here
    /// is not the one that the file means.
    fn table(&self, id: &TableId) -> Result<TableId> {
        match self.tables.get(id) {
            Some(id) => Ok(id.clone()),
            None => Err(refused("its table wasn't taken over")),
        }
    }

    fn members(&mut self, old: &Old) {
        self.each("member", &old.members, "user_id", |import, row| {
            let (user, group) = import.member(row)?;
            let there = import.after.user(&user);
            if there.is_some_and(|u| u.memberships.iter().any(|m| m.group == group)) {
                return Ok(Vec::new());
            }
            let source = row.text("source").unwrap_or("admin");
            Ok(vec![Change::PutMember(Membership {
                user,
                group,
                source: MemberSource::parse(source)
                    .ok_or_else(|| refused(format!("`{source}` is no source of a member")))?,
                added_at: row.moment("added_at").unwrap_or(import.now),
                added_by: row.text("added_by").map(str::to_string),
            })])
        });
    }

    fn tables(&mut self, old: &Old) {
        self.each("table", &old.tables, "id", |import, row| {
            let id = TableId::parse(row.needed("id")?)?;
            let name = ViewName::parse(row.needed("name")?)?;
            let text = |key: &'static str| row.text(key).map(str::to_string);
            let column =
                |key: &'static str| row.text(key).map(crate::ColumnName::parse).transpose();
            let source_type = text("source_type").unwrap_or_else(|| "local".to_string());
            let declaration = Declaration {
                bucket: text("bucket"),
                source_table: text("source_table"),
                source_query: text("source_query"),
                query_mode: row.word("query_mode")?,
                sync_strategy: row.word("sync_strategy")?.unwrap_or_default(),
                sync_schedule: text("sync_schedule"),
                primary_key: columns(row.text("primary_key"))?,
                description: text("description"),
                folder: text("folder"),
                incremental_window_days: row.number("incremental_window_days"),
                max_history_days: row.number("max_history_days"),
                incremental_column: column("incremental_column")?,
                where_filters: filters(row.text("where_filters"))?,
                partition_by: column("partition_by")?,
                partition_granularity: row.word("partition_granularity")?,
                initial_load_chunk_days: row.number("initial_load_chunk_days"),
                is_public: import.options.keep_public && row.flag("is_public").unwrap_or(true),
                source_type: Some(source_type.clone()),
            };
            let source = SourceName::parse(source_type)?;
            let same = |there: &RegisteredTable| there.name == name && there.source == source;
            if import.after.table(&id).is_some_and(|there| same(&there.table)) {
                import.tables.insert(id);
                return Err(refused("it is registered here already"));
            }
            is_free(&import.after, &id, &name, None)?;
            let table = RegisteredTable {
                id,
                name,
                source,
                declaration,
                registered_by: text("registered_by"),
                registered_at: row.moment("registered_at").unwrap_or(import.now),
            };
            table.check()?;
            import.tables.insert(table.id.clone());
            Ok(vec![Change::PutTable(Box::new(table))])
        });
    }

    fn grants(&mut self, old: &Old) {
        self.each("grant", &old.grants, "resource_id", |import, row| {
            let group = import.groups.get(row.needed("group_id")?);
            let group = group.ok_or_else(|| refused("its group wasn't taken over"))?.clone();
            let kind = ResourceType::parse(row.needed("resource_type")?)?;
            let mut resource = Resource::new(kind, row.needed("resource_id")?)?;
            if let Some(id) = resource.as_table() {
                resource = Resource::table(import.table(id)?);
            }
            let number = import.after.groups.number(&group);
            if import.after.grants_of(&resource).iter().any(|g| Some(g.group) == number) {
                return Ok(Vec::new());
            }
            let id = GrantId::parse(row.needed("id")?)?;
            let id = if import.after.grants.contains_key(&id) { GrantId::fresh() } else { id };
            Ok(vec![Change::PutGrant(Grant {
                id,
                group,
                resource,
                assigned_at: row.moment("assigned_at").unwrap_or(import.now),
                assigned_by: row.text("assigned_by").map(str::to_string),
            })])
        });
    }

    fn tokens(&mut self, old: &Old) {
        self.each("token", &old.tokens, "name", |import, row| {
            let id = TokenId::parse(row.needed("id")?)?;
            let user = import.users.get(row.needed("user_id")?);
            let user = user.ok_or_else(|| refused("its user wasn't taken over"))?.clone();
            if user.as_str() != row.needed("user_id")? {
                return Err(refused("its claims name a user of another id"));
            }
            if import.after.tokens.contains_key(&id) {
                return Err(refused("a token of that id is here already"));
            }
            let text = |key: &'static str| row.text(key).map(str::to_string);
            let token = PersonalToken {
                prefix: text("prefix").unwrap_or_else(|| id.as_str().chars().take(8).collect()),
                id,
                user,
                name: text("name").unwrap_or_default(),
                scope: text("scopes").unwrap_or_else(|| "general".to_string()),
                created_at: row.moment("created_at").unwrap_or(import.now),
                expires_at: row.moment("expires_at"),
                last_used_at: row.moment("last_used_at"),
                last_used_ip: text("last_used_ip"),
                revoked_at: row.moment("revoked_at"),
            };
            let hash = row.needed("token_hash")?.to_lowercase();
            Ok(vec![Change::PutToken { token: Box::new(token), hash }])
        });
    }

    fn permissions(&mut self, old: &Old) {
        self.each("permission", &old.permissions, "dataset", |import, row| {
            let user = import.users.get(row.needed("user_id")?);
            let user = user.ok_or_else(|| refused("its user wasn't taken over"))?.clone();
            let dataset = super::admin::worded(row.needed("dataset")?, "dataset")?;
            if let Ok(id) = TableId::parse(&dataset)
                && import.after.table(&id).is_some()
            {
                import.table(&id)?;
            }
            Ok(vec![Change::PutPermission(Permission {
                user,
                dataset,
                access: super::admin::worded(row.text("access").unwrap_or("read"), "access")?,
            })])
        });
    }

    fn requests(&mut self, old: &Old) {
        self.each("request", &old.requests, "table_id", |import, row| {
            let user = import.users.get(row.needed("user_id")?);
            let user = user.ok_or_else(|| refused("its user wasn't taken over"))?.clone();
            let status = row.text("status").unwrap_or("pending");
            let id = RequestId::parse(row.needed("id")?)?;
            if import.requests.contains(&id) {
                return Err(refused("a request of that id is here already"));
            }
            let table_id = TableId::parse(row.needed("table_id")?)?;
            if import.after.table(&table_id).is_some() {
                import.table(&table_id)?;
            }
            Ok(vec![Change::PutRequest(Box::new(AccessRequest {
                id,
                user,
                user_email: Email::parse(row.needed("user_email")?)?,
                table_id,
                reason: row.text("reason").map(str::to_string),
                status: RequestStatus::parse(status)
                    .ok_or_else(|| refused(format!("`{status}` is no status")))?,
                reviewed_by: row.text("reviewed_by").map(str::to_string),
                reviewed_at: row.moment("reviewed_at"),
                created_at: row.moment("created_at").unwrap_or(import.now),
            }))])
        });
    }

    fn sync_states(&mut self, old: &Old) {
        self.each("sync state", &old.sync_states, "table_id", |import, row| {
            let name = ViewName::parse(row.needed("table_id")?)?;
            let table = import.after.table_by_name(&name);
            let table = table.ok_or_else(|| refused("no table of that name is registered"))?;
            import.table(&table.table.id)?;
            Ok(vec![Change::PutSyncState(Box::new(SyncState {
                table_id: name.to_string(),
                source: table.table.source.to_string(),
                last_sync: row.moment("last_sync"),
                rows: row.large("rows"),
                file_size_bytes: row.large("file_size_bytes"),
                columns: row.number("columns").unwrap_or(0),
                hash: row.text("hash").unwrap_or("").to_string(),
                hash_blake3: String::new(),
                status: row.text("status").unwrap_or("ok").to_string(),
                error: row.text("error").map(str::to_string),
            }))])
        });
    }

    fn metrics(&mut self, old: &Old) {
        let mut seen = BTreeSet::new();
        self.each("metric", &old.metrics, "id", |_, row| {
            let id = row.needed("id")?.to_string();
            for needed in ["name", "display_name", "category", "sql"] {
                row.needed(needed)?;
            }
            if !seen.insert(id) {
                return Err(refused("there are two of that id"));
            }
            Ok(vec![Change::PutMetric(Box::new(MetricRow(row.texts().clone())))])
        });
    }
}

fn refused(reason: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, reason)
}

/// A list of columns as older versions wrote it: JSON, or names with commas between.
fn columns(text: Option<&str>) -> Result<Vec<crate::ColumnName>> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(Vec::new());
    };
    let names: Vec<String> = match serde_json::from_str(text) {
        Ok(names) => names,
        Err(_) => text.split(',').map(|name| name.trim().to_string()).collect(),
    };
    names.into_iter().filter(|name| !name.is_empty()).map(crate::ColumnName::parse).collect()
}

fn filters(text: Option<&str>) -> Result<Vec<serde_json::Value>> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(Vec::new());
    };
    serde_json::from_str(text).map_err(|_| refused("its filters are no JSON list"))
}
