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
use crate::registry::{Declaration, OnByDefault, RegisteredTable};
use crate::store::old::{Old, Row};
use crate::store::{MetricRow, SyncState};
use crate::{Error, Key, Kind, Result, Schedule, SourceName, TableId, Timestamp, ViewName};

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
        // Looking at it would take the engine's lock off it.
        if self.access().store.is_at(file) {
            return Err(Error::new(
                Kind::Invalid,
                format!("`{}` is the system database that is open here", file.display()),
            )
            .with(Key::Path, file.display()));
        }
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
                tokens: self.access().store.personal_tokens()?.into_iter().map(|t| t.id).collect(),
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
            import.rest(&old);
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
    /// The ids, as the file spells them, of tables that are the same table here: of that id and of
    /// that source.
    tables: HashSet<String>,
    /// The requests that are here already.
    requests: HashSet<RequestId>,
    /// The tokens that are here already, also those that hold no more.
    tokens: HashSet<TokenId>,
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
        name: impl Fn(&Self, &Row) -> String,
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
                Err(error) => self.leave(kind, name(self, row), error.message()),
            }
        }
    }

    fn users(&mut self, old: &Old) {
        let twins = clashing(old.users.iter().filter_map(|row| row.text("email")));
        self.each("user", &old.users, by("email"), |import, row| {
            let id = UserId::parse(row.needed("id")?)?;
            let email = Email::parse(row.needed("email")?)?;
            if twins.contains(&email.as_str().to_lowercase()) {
                return Err(refused("another address differs from it in case alone; remove one"));
            }
            if let Some(there) = import.after.user_by_email(&email) {
                if there.user.email.as_str() != email.as_str() {
                    return Err(refused(format!(
                        "its address differs in case alone from `{}`, who is here already",
                        there.user.email
                    )));
                }
                if !row.flag("active").unwrap_or(true) {
                    return Err(refused("a user of that address is here, and deactivated there"));
                }
                // Whoever is here already is the same person.
                import.users.insert(id.to_string(), there.user.id.clone());
                return Err(refused(
                    "a user of that address is here already; her groups and tokens are added to it",
                ));
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
                created_at: row.moment("created_at")?.unwrap_or(import.now),
                updated_at: row.moment("updated_at")?.unwrap_or(import.now),
                deactivated_at: row.moment("deactivated_at")?,
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
            self.roles(old);
        }
    }

    /// Says which roles came to nothing.
    fn roles(&mut self, old: &Old) {
        const WITHOUT: [&str; 3] = ["admin", "analyst", "viewer"];
        let of_users = old.users.iter().map(|row| (row.text("id"), row.text("role")));
        let of_users = of_users.filter_map(|(id, role)| Some((id.unwrap_or("?"), role?)));
        let roles =
            of_users.chain(old.roles()).map(|(id, role)| (id.to_string(), role.to_string()));
        let roles: Vec<(String, String)> = roles.collect();
        for (id, role) in roles {
            let plain = role.strip_prefix("core.").unwrap_or(&role);
            let known = self.users.contains_key(&id);
            if known && WITHOUT.contains(&plain) {
                continue;
            }
            let name = format!("{role} of {}", self.user_of(&id));
            match plain {
                "km_admin" => self.leave("role", name, "it has no right of its own here"),
                _ if !known => self.leave("role", name, "its user wasn't taken over"),
                _ => self.leave("role", name, "it is unknown"),
            }
        }
    }

    /// A user as people know her, or the file's id where there is none.
    fn user_of(&self, id: &str) -> String {
        let user = self.users.get(id).and_then(|id| self.after.user(id));
        user.map_or_else(|| id.to_string(), |facts| facts.user.email.to_string())
    }

    fn group_of(&self, id: &str) -> String {
        let group = self.groups.get(id).and_then(|id| self.after.group(id));
        group.map_or_else(|| id.to_string(), |facts| facts.group.name.to_string())
    }

    fn admins(&self) -> Option<GroupId> {
        Some(self.after.group_by_name(&GroupName::admin())?.group.id.clone())
    }

    fn groups(&mut self, old: &Old) {
        let twins = clashing(old.groups.iter().filter_map(|row| row.text("name")));
        self.each("group", &old.groups, by("name"), |import, row| {
            let id = GroupId::parse(row.needed("id")?)?;
            let name = GroupName::parse(row.needed("name")?)?;
            // The two that are always there are meant by exactly that name.
            let always = [GroupName::admin(), GroupName::everyone()];
            let is_system = always.iter().any(|group| group.as_str() == name.as_str());
            if !is_system && twins.contains(&name.as_str().to_lowercase()) {
                return Err(refused("another group's name differs from it in case alone"));
            }
            if let Some(there) = import.after.group_by_name(&name) {
                // `admin` was an ordinary group there.
                if there.group.name.as_str() != name.as_str() {
                    return Err(refused(format!(
                        "its name differs in case alone from `{}`, which is here already",
                        there.group.name
                    )));
                }
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
                created_at: row.moment("created_at")?.unwrap_or(import.now),
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

    /// Whether a table was taken over, by its id as the file spells it: grants there are compared
    /// letter by letter. One of that id which is another source's table here is not the one that
    /// the file means.
    fn taken(&self, id: &str) -> Result<()> {
        match self.tables.contains(id) {
            true => Ok(()),
            false => Err(refused("its table wasn't taken over")),
        }
    }

    fn members(&mut self, old: &Old) {
        let name = |import: &Self, row: &Row| {
            let (user, group) = (row.text("user_id"), row.text("group_id"));
            format!(
                "{} in {}",
                import.user_of(user.unwrap_or("?")),
                import.group_of(group.unwrap_or("?"))
            )
        };
        self.each("member", &old.members, name, |import, row| {
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
                added_at: row.moment("added_at")?.unwrap_or(import.now),
                added_by: row.text("added_by").map(str::to_string),
            })])
        });
    }

    fn tables(&mut self, old: &Old) {
        self.each("table", &old.tables, by("id"), |import, row| {
            let id = TableId::parse(row.needed("id")?)?;
            let text = |key: &'static str| row.text(key).map(str::to_string);
            let column =
                |key: &'static str| row.text(key).map(crate::ColumnName::parse).transpose();
            let source_type = text("source_type").unwrap_or_else(|| "local".to_string());
            let source = SourceName::parse(source_type.clone())?;
            // Also under another name, by whoever has registered it for this.
            if import.after.table(&id).is_some_and(|there| there.table.source == source) {
                import.tables.insert(row.needed("id")?.to_string());
                return Err(refused("it is registered here already"));
            }
            let name = ViewName::parse(row.needed("name")?).map_err(|error| {
                refused(format!(
                    "{}; register it here by another one, `agnes registry register NAME --id {id} \
                     --source {source}`, and import again",
                    error.message()
                ))
            })?;
            let sync_schedule = match text("sync_schedule").map(Schedule::parse).transpose() {
                Ok(schedule) => schedule,
                Err(error) => {
                    import.leave("schedule", &name, error.message());
                    None
                }
            };
            let declaration = Declaration {
                bucket: text("bucket"),
                source_table: text("source_table"),
                source_query: text("source_query"),
                query_mode: row.word("query_mode")?,
                sync_strategy: row.word("sync_strategy")?.unwrap_or_default(),
                sync_schedule,
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
                profile_after_sync: OnByDefault(row.flag("profile_after_sync").unwrap_or(true)),
                source_type: Some(source_type),
            };
            is_free(&import.after, &id, &name, None)?;
            let table = RegisteredTable {
                id,
                name,
                source,
                declaration,
                registered_by: text("registered_by"),
                registered_at: row.moment("registered_at")?.unwrap_or(import.now),
            };
            table.check()?;
            import.tables.insert(row.needed("id")?.to_string());
            Ok(vec![Change::PutTable(Box::new(table))])
        });
    }

    fn grants(&mut self, old: &Old) {
        let name = |import: &Self, row: &Row| {
            let part = |column| row.text(column).unwrap_or("?");
            let group = import.group_of(part("group_id"));
            format!("{}:{} to {group}", part("resource_type"), part("resource_id"))
        };
        self.each("grant", &old.grants, name, |import, row| {
            let group = import.groups.get(row.needed("group_id")?);
            let group = group.ok_or_else(|| refused("its group wasn't taken over"))?.clone();
            let (kind, id) = (row.needed("resource_type")?, row.needed("resource_id")?);
            if !OLD_TYPES.contains(&kind) {
                return Err(refused("there is no such type of resource"));
            }
            let resource = Resource::new(ResourceType::parse(kind)?, id)?;
            if resource.as_table().is_some() {
                import.taken(id)?;
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
                assigned_at: row.moment("assigned_at")?.unwrap_or(import.now),
                assigned_by: row.text("assigned_by").map(str::to_string),
            })])
        });
    }

    fn tokens(&mut self, old: &Old) {
        self.each("token", &old.tokens, by("name"), |import, row| {
            let id = TokenId::parse(row.needed("id")?)?;
            let user = import.users.get(row.needed("user_id")?);
            let user = user.ok_or_else(|| refused("its user wasn't taken over"))?.clone();
            if user.as_str() != row.needed("user_id")? {
                return Err(refused("its claims name a user of another id"));
            }
            if import.tokens.contains(&id) {
                return Err(refused("a token of that id is here already"));
            }
            let text = |key: &'static str| row.text(key).map(str::to_string);
            let token = PersonalToken {
                prefix: text("prefix").unwrap_or_else(|| id.as_str().chars().take(8).collect()),
                id,
                user,
                name: text("name").unwrap_or_default(),
                scope: text("scopes").unwrap_or_else(|| "general".to_string()),
                created_at: row.moment("created_at")?.unwrap_or(import.now),
                expires_at: row.moment("expires_at")?,
                last_used_at: row.moment("last_used_at")?,
                last_used_ip: text("last_used_ip"),
                revoked_at: row.moment("revoked_at")?,
            };
            let hash = row.needed("token_hash")?.to_lowercase();
            import.tokens.insert(token.id.clone());
            Ok(vec![Change::PutToken { token: Box::new(token), hash }])
        });
    }

    fn permissions(&mut self, old: &Old) {
        let name = |import: &Self, row: &Row| {
            let user = import.user_of(row.text("user_id").unwrap_or("?"));
            format!("{} to {user}", row.text("dataset").unwrap_or("?"))
        };
        self.each("permission", &old.permissions, name, |import, row| {
            let user = import.users.get(row.needed("user_id")?);
            let user = user.ok_or_else(|| refused("its user wasn't taken over"))?.clone();
            let dataset = super::name::worded(row.needed("dataset")?, "dataset")?;
            if let Ok(id) = TableId::parse(&dataset)
                && import.after.table(&id).is_some()
            {
                import.taken(&dataset)?;
            }
            Ok(vec![Change::PutPermission(Permission {
                user,
                dataset,
                access: super::name::worded(row.text("access").unwrap_or("read"), "access")?,
            })])
        });
    }

    fn requests(&mut self, old: &Old) {
        self.each("request", &old.requests, by("table_id"), |import, row| {
            let user = import.users.get(row.needed("user_id")?);
            let user = user.ok_or_else(|| refused("its user wasn't taken over"))?.clone();
            let status = row.text("status").unwrap_or("pending");
            let id = RequestId::parse(row.needed("id")?)?;
            if import.requests.contains(&id) {
                return Err(refused("a request of that id is here already"));
            }
            let table_id = TableId::parse(row.needed("table_id")?)?;
            if import.after.table(&table_id).is_some() {
                import.taken(row.needed("table_id")?)?;
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
                reviewed_at: row.moment("reviewed_at")?,
                created_at: row.moment("created_at")?.unwrap_or(import.now),
            }))])
        });
    }

    fn sync_states(&mut self, old: &Old) {
        self.each("sync state", &old.sync_states, by("table_id"), |import, row| {
            let name = ViewName::parse(row.needed("table_id")?)?;
            let table = import.after.table_by_name(&name);
            let table = table.ok_or_else(|| refused("no table of that name is registered"))?;
            if !import.tables.iter().any(|id| table.table.id.as_str().eq_ignore_ascii_case(id)) {
                return Err(refused("its table wasn't taken over"));
            }
            Ok(vec![Change::PutSyncState(Box::new(SyncState {
                table_id: name.to_string(),
                source: table.table.source.to_string(),
                last_sync: row.moment("last_sync")?,
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

    /// Says what nobody has asked for.
    fn rest(&mut self, old: &Old) {
        for (table, rows) in &old.unread {
            self.leave("rows of", table, format!("{rows} rows; there is no place for them here"));
        }
        let public = old.tables.iter().filter(|row| row.flag("is_public") == Some(true)).count();
        if public > 0 && !self.options.keep_public {
            let why = format!(
                "{public} tables were public; --keep-public keeps that for the policy \
                 `grants_and_legacy`"
            );
            self.leave("mark", "is_public", why);
        }
    }

    fn metrics(&mut self, old: &Old) {
        let mut seen = BTreeSet::new();
        self.each("metric", &old.metrics, by("id"), |_, row| {
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

/// The types of resources that such databases know.
const OLD_TYPES: [&str; 3] = ["table", "marketplace_plugin", "memory_domain"];

/// What a row is called: by one of its columns.
fn by(column: &'static str) -> impl Fn(&Import<'_>, &Row) -> String {
    move |_, row| row.text(column).unwrap_or("?").to_string()
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
