//! Users, groups, memberships, grants, permissions and tokens, as rows.

use duckdb::types::{TimeUnit, Value};
use duckdb::{Connection, OptionalExt as _, Row, params};

use super::Store;
use crate::access::change::Change;
use crate::access::facts::Facts;
use crate::access::{
    AccessRequest, AuditEvent, Email, Grant, GrantId, Group, GroupId, GroupName, MemberSource,
    Membership, Permission, PersonalToken, RequestId, RequestStatus, Resource, ResourceType,
    TokenId, User, UserId,
};
use crate::{Error, Kind, Result, TableId, Timestamp, engine};

pub(super) fn timestamp(at: Timestamp) -> Value {
    Value::Timestamp(TimeUnit::Microsecond, at.as_micros())
}

pub(super) fn optional(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, timestamp)
}

fn moment(row: &Row<'_>, at: usize) -> duckdb::Result<Timestamp> {
    row.get(at).map(Timestamp::from_micros)
}

fn moment_if_any(row: &Row<'_>, at: usize) -> duckdb::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(at)?.map(Timestamp::from_micros))
}

/// A row whose text is no name or id was written by somebody else.
fn broken(table: &str, error: &Error) -> Error {
    Error::new(
        Kind::Internal,
        format!("the system database holds a row in `{table}` that is wrong: {}", error.message()),
    )
}

impl Store {
    /// Everything that decisions rest on.
    ///
    /// # Errors
    /// `Internal` when it can't be read. Nothing is decided then.
    pub(crate) fn facts(&self) -> Result<Facts> {
        self.read(|connection| {
            let mut facts = Facts::default();
            let mut take = |changes: Result<Vec<Change>>| -> Result<()> {
                changes?.iter().for_each(|change| facts.apply(change));
                Ok(())
            };
            take(users(connection))?;
            take(passwords(connection))?;
            take(groups(connection))?;
            take(super::registry::tables(connection))?;
            take(members(connection))?;
            take(grants(connection))?;
            take(permissions(connection))?;
            take(tokens(connection))?;
            Ok(facts)
        })
    }

    /// Every personal token, the newest first.
    pub(crate) fn personal_tokens(&self) -> Result<Vec<PersonalToken>> {
        let changes = self.read(tokens)?;
        let token = |change| match change {
            Change::PutToken { token, .. } => Some(*token),
            _ => None,
        };
        let mut tokens: Vec<PersonalToken> = changes.into_iter().filter_map(token).collect();
        tokens.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        Ok(tokens)
    }

    /// Whose a personal token is, and whether it was revoked; none where there is no such token.
    pub(crate) fn token(&self, id: &TokenId) -> Result<Option<(UserId, bool)>> {
        self.read(|c| {
            let found: Option<(String, bool)> = c
                .query_row(
                    "SELECT user_id, revoked_at IS NOT NULL FROM personal_access_tokens \
                     WHERE id = ?",
                    [id.as_str()],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()
                .map_err(|e| engine::error("read a token", e))?;
            found.map(|(user, revoked)| Ok((UserId::parse(user)?, revoked))).transpose()
        })
    }

    /// Every access request, the newest first.
    pub(crate) fn requests(&self) -> Result<Vec<AccessRequest>> {
        self.read(requests)
    }

    /// The hash of a user's password, as a PHC string.
    pub(crate) fn password_hash(&self, user: &UserId) -> Result<Option<String>> {
        self.read(|c| {
            c.query_row("SELECT password_hash FROM users WHERE id = ?", [user.as_str()], |row| {
                row.get(0)
            })
            .or_else(|e| match e {
                duckdb::Error::QueryReturnedNoRows => Ok(None),
                e => Err(engine::error("read a password's hash", e)),
            })
        })
    }

    /// Remembers the hash of a link's token in place of earlier ones for its purpose.
    pub(crate) fn put_link(
        &self,
        user: &UserId,
        purpose: &str,
        hash: &str,
        now: Timestamp,
        end: Timestamp,
    ) -> Result<()> {
        self.transaction("write a link", |c| {
            c.prepare_cached("DELETE FROM one_shot_tokens WHERE user_id = ? AND purpose = ?")?
                .execute(params![user.as_str(), purpose])?;
            c.prepare_cached(
                "INSERT INTO one_shot_tokens (user_id, purpose, token_hash, created_at, \
                 expires_at) VALUES (?, ?, ?, ?, ?)",
            )?
            .execute(params![user.as_str(), purpose, hash, timestamp(now), timestamp(end)])
            .map(drop)
        })
    }

    /// Forgets a link's token. Whether it was there and held.
    pub(crate) fn take_link(
        &self,
        user: &str,
        purpose: &str,
        hash: &str,
        now: Timestamp,
    ) -> Result<bool> {
        self.transaction("take a link", |c| {
            let taken = c
                .prepare_cached(
                    "DELETE FROM one_shot_tokens WHERE user_id = ? AND purpose = ? AND \
                     token_hash = ? AND expires_at > ?",
                )?
                .execute(params![user, purpose, hash, timestamp(now)])?;
            Ok(taken == 1)
        })
    }

    /// Writes changes in one transaction, and what is told about them. Where the telling
    /// fails, the changes are written without; what wasn't told is given back.
    pub(crate) fn apply<'e>(
        &self,
        changes: &[Change],
        events: &'e [AuditEvent],
        now: Timestamp,
    ) -> Result<&'e [AuditEvent]> {
        let write = |events: &[AuditEvent]| {
            self.transaction("write who may see what", |c| {
                changes.iter().try_for_each(|change| write(c, change, now))?;
                super::audit::append(c, events)
            })
        };
        match write(events) {
            Ok(()) => Ok(&[]),
            Err(_) if !events.is_empty() => write(&[]).map(|()| events),
            Err(error) => Err(error),
        }
    }
}

/// Reads every row of a query.
pub(super) fn rows<T>(
    connection: &Connection,
    table: &'static str,
    sql: &'static str,
    read: impl Fn(&Row<'_>) -> duckdb::Result<Result<T>>,
) -> Result<Vec<T>> {
    let fail = |e| engine::error("read who may see what", e);
    let mut statement = connection.prepare_cached(sql).map_err(fail)?;
    let rows = statement.query_map([], |row| read(row)).map_err(fail)?;
    rows.map(|row| row.map_err(fail)?.map_err(|e| broken(table, &e))).collect()
}

fn users(connection: &Connection) -> Result<Vec<Change>> {
    rows(
        connection,
        "users",
        "SELECT id, email, name, password_hash IS NOT NULL, active, epoch_us(created_at), \
         epoch_us(updated_at), epoch_us(deactivated_at), deactivated_by FROM users",
        |row| {
            let (id, email): (String, String) = (row.get(0)?, row.get(1)?);
            let rest = (row.get(2)?, row.get(3)?, row.get(4)?);
            let times = (moment(row, 5)?, moment(row, 6)?, moment_if_any(row, 7)?);
            let deactivated_by = row.get(8)?;
            Ok((|| {
                Ok(Change::PutUser(User {
                    id: UserId::parse(id)?,
                    email: Email::parse(email)?,
                    name: rest.0,
                    has_password: rest.1,
                    active: rest.2,
                    created_at: times.0,
                    updated_at: times.1,
                    deactivated_at: times.2,
                    deactivated_by,
                }))
            })())
        },
    )
}

/// That there are passwords, and which sessions hold. The hashes stay where they are.
fn passwords(connection: &Connection) -> Result<Vec<Change>> {
    rows(
        connection,
        "users",
        "SELECT id, session_version, password_hash IS NOT NULL FROM users",
        |row| {
            let (id, version): (String, i32) = (row.get(0)?, row.get(1)?);
            let is_set: bool = row.get(2)?;
            Ok(UserId::parse(id).map(|user| Change::SetPassword {
                user,
                hash: is_set.then(String::new),
                session_version: version.unsigned_abs(),
            }))
        },
    )
}

fn groups(connection: &Connection) -> Result<Vec<Change>> {
    rows(
        connection,
        "user_groups",
        "SELECT id, name, description, is_system, epoch_us(created_at), created_by \
         FROM user_groups",
        |row| {
            let (id, name): (String, String) = (row.get(0)?, row.get(1)?);
            let rest = (row.get(2)?, row.get(3)?, moment(row, 4)?, row.get(5)?);
            Ok((|| {
                Ok(Change::PutGroup(Group {
                    id: GroupId::parse(id)?,
                    name: GroupName::parse(name)?,
                    description: rest.0,
                    is_system: rest.1,
                    created_at: rest.2,
                    created_by: rest.3,
                }))
            })())
        },
    )
}

fn members(connection: &Connection) -> Result<Vec<Change>> {
    rows(
        connection,
        "user_group_members",
        "SELECT user_id, group_id, source, epoch_us(added_at), added_by FROM user_group_members",
        |row| {
            let (user, group, source): (String, String, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let rest = (moment(row, 3)?, row.get(4)?);
            Ok((|| {
                Ok(Change::PutMember(Membership {
                    user: UserId::parse(user)?,
                    group: GroupId::parse(group)?,
                    source: MemberSource::parse(&source).ok_or_else(|| {
                        Error::new(Kind::Internal, format!("`{source}` is no source of a member"))
                    })?,
                    added_at: rest.0,
                    added_by: rest.1,
                }))
            })())
        },
    )
}

fn grants(connection: &Connection) -> Result<Vec<Change>> {
    rows(
        connection,
        "resource_grants",
        "SELECT id, group_id, resource_type, resource_id, epoch_us(assigned_at), assigned_by \
         FROM resource_grants",
        |row| {
            let (id, group): (String, String) = (row.get(0)?, row.get(1)?);
            let (kind, resource): (String, String) = (row.get(2)?, row.get(3)?);
            let rest = (moment(row, 4)?, row.get(5)?);
            Ok((|| {
                Ok(Change::PutGrant(Grant {
                    id: GrantId::parse(id)?,
                    group: GroupId::parse(group)?,
                    resource: Resource::new(ResourceType::parse(kind)?, &resource)?,
                    assigned_at: rest.0,
                    assigned_by: rest.1,
                }))
            })())
        },
    )
}

fn permissions(connection: &Connection) -> Result<Vec<Change>> {
    rows(
        connection,
        "dataset_permissions",
        "SELECT user_id, dataset, access FROM dataset_permissions",
        |row| {
            let (user, dataset, access): (String, String, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(UserId::parse(user)
                .map(|user| Change::PutPermission(Permission { user, dataset, access })))
        },
    )
}

fn tokens(connection: &Connection) -> Result<Vec<Change>> {
    rows(
        connection,
        "personal_access_tokens",
        "SELECT id, user_id, name, prefix, scopes, epoch_us(created_at), epoch_us(expires_at), \
         epoch_us(last_used_at), last_used_ip, epoch_us(revoked_at), token_hash \
         FROM personal_access_tokens",
        |row| {
            let (id, user): (String, String) = (row.get(0)?, row.get(1)?);
            let texts = (row.get(2)?, row.get(3)?, row.get(4)?);
            let times = (moment(row, 5)?, moment_if_any(row, 6)?, moment_if_any(row, 7)?);
            let rest = (row.get(8)?, moment_if_any(row, 9)?, row.get(10)?);
            Ok((|| {
                Ok(Change::PutToken {
                    token: Box::new(PersonalToken {
                        id: TokenId::parse(id)?,
                        user: UserId::parse(user)?,
                        name: texts.0,
                        prefix: texts.1,
                        scope: texts.2,
                        created_at: times.0,
                        expires_at: times.1,
                        last_used_at: times.2,
                        last_used_ip: rest.0,
                        revoked_at: rest.1,
                    }),
                    hash: rest.2,
                })
            })())
        },
    )
}

fn requests(connection: &Connection) -> Result<Vec<AccessRequest>> {
    rows(
        connection,
        "access_requests",
        "SELECT id, user_id, user_email, table_id, reason, status, reviewed_by, \
         epoch_us(reviewed_at), epoch_us(created_at) FROM access_requests \
         ORDER BY created_at DESC, id",
        |row| {
            let names: [String; 4] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
            let status: String = row.get(5)?;
            let rest = (row.get(4)?, row.get(6)?, moment_if_any(row, 7)?, moment(row, 8)?);
            Ok((|| {
                let [id, user, email, table] = names;
                Ok(AccessRequest {
                    id: RequestId::parse(id)?,
                    user: UserId::parse(user)?,
                    user_email: Email::parse(email)?,
                    table_id: TableId::parse(table)?,
                    reason: rest.0,
                    status: RequestStatus::parse(&status).ok_or_else(|| {
                        Error::new(Kind::Internal, format!("`{status}` is no status"))
                    })?,
                    reviewed_by: rest.1,
                    reviewed_at: rest.2,
                    created_at: rest.3,
                })
            })())
        },
    )
}

/// Writes one change. What hangs on a thing goes with it: DuckDB does no cascades.
fn write(c: &Connection, change: &Change, now: Timestamp) -> duckdb::Result<()> {
    let run = |sql: &'static str, with: &[&dyn duckdb::ToSql]| {
        c.prepare_cached(sql)?.execute(with).map(drop)
    };
    match change {
        Change::PutUser(u) => run(
            "INSERT INTO users (id, email, name, active, created_at, updated_at, deactivated_at, \
             deactivated_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET \
             email = excluded.email, name = excluded.name, active = excluded.active, \
             updated_at = excluded.updated_at, deactivated_at = excluded.deactivated_at, \
             deactivated_by = excluded.deactivated_by",
            params![
                u.id.as_str(),
                u.email.as_str(),
                u.name,
                u.active,
                timestamp(u.created_at),
                timestamp(u.updated_at),
                optional(u.deactivated_at),
                u.deactivated_by
            ],
        ),
        Change::SetPassword { user, hash, session_version } => {
            run(
                "UPDATE users SET password_hash = ?, session_version = ? WHERE id = ?",
                params![hash, session_version, user.as_str()],
            )?;
            // Whoever has an older link must not set it once more.
            run("DELETE FROM one_shot_tokens WHERE user_id = ?", params![user.as_str()])
        }
        Change::EndSessions { user, session_version } => {
            run(
                "UPDATE users SET session_version = ? WHERE id = ?",
                params![session_version, user.as_str()],
            )?;
            run("DELETE FROM one_shot_tokens WHERE user_id = ?", params![user.as_str()])
        }
        Change::RemoveUser(id) => {
            let id: &[&dyn duckdb::ToSql] = params![id.as_str()];
            run("DELETE FROM user_group_members WHERE user_id = ?", id)?;
            run("DELETE FROM personal_access_tokens WHERE user_id = ?", id)?;
            run("DELETE FROM one_shot_tokens WHERE user_id = ?", id)?;
            run("DELETE FROM dataset_permissions WHERE user_id = ?", id)?;
            run("DELETE FROM access_requests WHERE user_id = ?", id)?;
            run("DELETE FROM user_sync_settings WHERE user_id = ?", id)?;
            run("DELETE FROM users WHERE id = ?", id)
        }
        Change::PutGroup(g) => run(
            "INSERT INTO user_groups (id, name, description, is_system, created_at, created_by) \
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
             description = excluded.description, is_system = excluded.is_system, \
             created_by = excluded.created_by",
            params![
                g.id.as_str(),
                g.name.as_str(),
                g.description,
                g.is_system,
                timestamp(g.created_at),
                g.created_by
            ],
        ),
        Change::RemoveGroup(id) => {
            let id: &[&dyn duckdb::ToSql] = params![id.as_str()];
            run("DELETE FROM user_group_members WHERE group_id = ?", id)?;
            run("DELETE FROM resource_grants WHERE group_id = ?", id)?;
            run("DELETE FROM user_groups WHERE id = ?", id)
        }
        Change::PutMember(m) => {
            run(
                "DELETE FROM user_group_members WHERE user_id = ? AND group_id = ?",
                params![m.user.as_str(), m.group.as_str()],
            )?;
            run(
                "INSERT INTO user_group_members (user_id, group_id, source, added_at, added_by) \
                 VALUES (?, ?, ?, ?, ?)",
                params![
                    m.user.as_str(),
                    m.group.as_str(),
                    m.source.as_str(),
                    timestamp(m.added_at),
                    m.added_by
                ],
            )
        }
        Change::RemoveMember { user, group } => run(
            "DELETE FROM user_group_members WHERE user_id = ? AND group_id = ?",
            params![user.as_str(), group.as_str()],
        ),
        Change::PutGrant(g) => run(
            "INSERT INTO resource_grants (id, group_id, resource_type, resource_id, assigned_at, \
             assigned_by) VALUES (?, ?, ?, ?, ?, ?)",
            params![
                g.id.as_str(),
                g.group.as_str(),
                g.resource.kind().as_str(),
                g.resource.id(),
                timestamp(g.assigned_at),
                g.assigned_by
            ],
        ),
        Change::RemoveGrant(id) => {
            run("DELETE FROM resource_grants WHERE id = ?", params![id.as_str()])
        }
        Change::PutPermission(p) => {
            run(
                "DELETE FROM dataset_permissions WHERE user_id = ? AND dataset = ?",
                params![p.user.as_str(), p.dataset],
            )?;
            run(
                "INSERT INTO dataset_permissions (user_id, dataset, access) VALUES (?, ?, ?)",
                params![p.user.as_str(), p.dataset, p.access],
            )
        }
        Change::RemovePermission { user, dataset } => run(
            "DELETE FROM dataset_permissions WHERE user_id = ? AND dataset = ?",
            params![user.as_str(), dataset],
        ),
        Change::PutRequest(r) => run(
            "INSERT OR REPLACE INTO access_requests (id, user_id, user_email, table_id, reason, \
             status, reviewed_by, reviewed_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                r.id.as_str(),
                r.user.as_str(),
                r.user_email.as_str(),
                r.table_id.as_str(),
                r.reason,
                r.status.as_str(),
                r.reviewed_by,
                optional(r.reviewed_at),
                timestamp(r.created_at)
            ],
        ),
        Change::PutSyncState(state) => super::sync_state::put_if_new(c, state),
        Change::PutMetric(row) => super::metrics::put(c, row, now),
        Change::RemoveMetric(id) => super::metrics::remove(c, id),
        Change::PutTable(table) => super::registry::put(c, table),
        Change::RemoveTable { table, at } => super::registry::remove(c, table, *at),
        Change::PutToken { token: t, hash } => run(
            "INSERT INTO personal_access_tokens (id, user_id, name, token_hash, prefix, scopes, \
             created_at, expires_at, last_used_at, last_used_ip, revoked_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                t.id.as_str(),
                t.user.as_str(),
                t.name,
                hash,
                t.prefix,
                t.scope,
                timestamp(t.created_at),
                optional(t.expires_at),
                optional(t.last_used_at),
                t.last_used_ip,
                optional(t.revoked_at)
            ],
        ),
        Change::RevokeToken { id, at, .. } => run(
            "UPDATE personal_access_tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL",
            params![timestamp(*at), id.as_str()],
        ),
    }
}
