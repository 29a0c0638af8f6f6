//! Asking for access, and answering.

use serde_json::json;

use super::audit::AuditEvent;
use super::change::Change;
use super::decision::TablePolicy;
use super::facts::{Grant, Group, MemberSource, Membership, Permission};
use super::{
    Access, Admin, Email, GrantId, GroupId, GroupName, Planned, Principal, RequestId, Resource,
    UserId,
};
use crate::{Error, Key, Kind, Result, TableId, Timestamp};

/// The most bytes of a reason.
const REASON_MAX: usize = 2000;
/// The most requests of one user that wait for an answer.
const PENDING_MAX: usize = 100;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestStatus {
    /// Nobody has answered.
    Pending,
    /// She may see the table.
    Approved,
    /// She may not.
    Denied,
}

impl RequestStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            RequestStatus::Pending => "pending",
            RequestStatus::Approved => "approved",
            RequestStatus::Denied => "denied",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all = [RequestStatus::Pending, RequestStatus::Approved, RequestStatus::Denied];
        all.into_iter().find(|status| status.as_str() == text)
    }
}

/// That somebody asks to see a table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AccessRequest {
    /// Its id.
    pub id: RequestId,
    /// Who asks.
    #[serde(rename = "user_id")]
    pub user: UserId,
    /// Her address.
    pub user_email: Email,
    /// The table's id, which may be of no table: she can't know.
    pub table_id: TableId,
    /// Why she needs it.
    pub reason: Option<String>,
    /// What became of it.
    pub status: RequestStatus,
    /// Who answered.
    pub reviewed_by: Option<String>,
    /// When.
    pub reviewed_at: Option<Timestamp>,
    /// When she asked.
    pub created_at: Timestamp,
}

impl Access {
    /// Asks for a table. The answer is the same whether there is such a table or not.
    ///
    /// # Errors
    /// `Denied` for whoever is no user; `Conflict` when she has asked and nobody has answered;
    /// `Invalid` for a reason that is too long; `Limit` when 100 of hers wait for an answer.
    pub fn request(
        &self,
        principal: &Principal,
        table: TableId,
        reason: Option<String>,
    ) -> Result<AccessRequest> {
        self.stands(principal)?;
        if reason.as_ref().is_some_and(|reason| reason.len() > REASON_MAX) {
            return Err(Error::new(
                Kind::Invalid,
                format!("a reason has at most {REASON_MAX} bytes"),
            ));
        }
        self.write(|facts, now| {
            let user = principal
                .user_id()
                .and_then(|id| facts.user(id))
                .ok_or_else(|| Error::new(Kind::Denied, "sign in to ask for a table"))?;
            let mut open = self.store.requests()?;
            open.retain(|r| r.status == RequestStatus::Pending && r.user == user.user.id);
            if open.len() >= PENDING_MAX {
                return Err(Error::new(
                    Kind::Limit,
                    format!("{PENDING_MAX} of your requests wait for an answer; that is the most"),
                ));
            }
            if open.iter().any(|request| request.table_id == table) {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("you have asked for `{table}` already; wait for the answer"),
                )
                .with(Key::Table, &table));
            }
            let request = AccessRequest {
                id: RequestId::fresh(),
                user: user.user.id.clone(),
                user_email: user.user.email.clone(),
                table_id: table,
                reason,
                status: RequestStatus::Pending,
                reviewed_by: None,
                reviewed_at: None,
                created_at: now,
            };
            let event =
                AuditEvent::new(now, "access_request.created", format!("request:{}", request.id));
            let told = json!({"table_id": request.table_id});
            Ok(Planned {
                changes: vec![Change::PutRequest(Box::new(request.clone()))],
                events: vec![event.by(Some(&request.user)).with(told)],
                value: request,
            })
        })
    }

    /// What a principal has asked for, the newest first.
    ///
    /// # Errors
    /// `Denied` for whoever is no user; `Internal` when it can't be read.
    pub fn my_requests(&self, principal: &Principal) -> Result<Vec<AccessRequest>> {
        self.stands(principal)?;
        let mut requests = self.store.requests()?;
        requests.retain(|request| Some(&request.user) == principal.user_id());
        Ok(requests)
    }
}

impl Admin<'_> {
    /// What was asked for and not answered, the oldest first.
    ///
    /// # Errors
    /// `Internal` when it can't be read.
    pub fn pending_requests(&self) -> Result<Vec<AccessRequest>> {
        let mut requests = self.access().store.requests()?;
        requests.retain(|request| request.status == RequestStatus::Pending);
        requests.reverse();
        Ok(requests)
    }

    /// Lets whoever asked see the table: by a grant to `group`, or to a group of her own,
    /// `user:<address>`; under the policy `grants_and_legacy` and without a group by a permission.
    ///
    /// # Errors
    /// `NotFound` when there is no such request that is pending, no such table any more or no
    /// such group; `Conflict` when she isn't in the group, or the group of her own isn't.
    pub fn approve(&self, id: &RequestId, group: Option<&GroupId>) -> Result<AccessRequest> {
        self.write(|facts, by, now| {
            let request = self.pending(id)?;
            let missing = |what: String| Error::new(Kind::NotFound, what);
            let user = facts
                .user(&request.user)
                .ok_or_else(|| missing(format!("`{}` isn't there any more", request.user_email)))?;
            let table = facts
                .table(&request.table_id)
                .ok_or_else(|| super::tables::unregistered(&request.table_id))?;
            let mut changes = Vec::new();
            let group = match group {
                Some(id) => {
                    let group = facts.group(id).ok_or_else(|| super::admin::no_group(id))?;
                    if !user.memberships.iter().any(|m| m.group == *id) {
                        return Err(Error::new(
                            Kind::Conflict,
                            format!(
                                "`{}` isn't in the group `{}`; put her in first",
                                request.user_email, group.group.name
                            ),
                        ));
                    }
                    Some(id.clone())
                }
                None if self.access().policy == TablePolicy::GrantsAndLegacy => {
                    changes.push(Change::PutPermission(Permission {
                        user: request.user.clone(),
                        dataset: table.table.id.to_string(),
                        access: "read".to_string(),
                    }));
                    None
                }
                None => {
                    let name = GroupName::of_user(&request.user_email)?;
                    let there = facts.group_by_name(&name);
                    // Others in it would see the table too, and she what it was granted before.
                    let is_hers = there.is_none_or(|there| match there.members.as_slice() {
                        [] => there.tables.is_empty(),
                        [only] => facts.users.number(&request.user) == Some(*only),
                        _ => false,
                    });
                    if !is_hers {
                        return Err(Error::new(
                            Kind::Conflict,
                            format!(
                                "the group `{name}` isn't hers alone; name a group, or empty it"
                            ),
                        ));
                    }
                    let there = there.map(|of| of.group.id.clone());
                    let id = there.unwrap_or_else(|| {
                        let group = Group {
                            id: GroupId::fresh(),
                            name,
                            description: Some("what one user was granted".to_string()),
                            is_system: false,
                            created_at: now,
                            created_by: Some(by.name.clone()),
                        };
                        let id = group.id.clone();
                        changes.push(Change::PutGroup(group));
                        id
                    });
                    if !user.memberships.iter().any(|m| m.group == id) {
                        changes.push(Change::PutMember(Membership {
                            user: request.user.clone(),
                            group: id.clone(),
                            source: MemberSource::Admin,
                            added_at: now,
                            added_by: Some(by.name.clone()),
                        }));
                    }
                    Some(id)
                }
            };
            if let Some(group) = group {
                let number = facts.groups.number(&group);
                // It may have been granted meanwhile.
                if !table.grants.iter().any(|grant| Some(grant.group) == number) {
                    changes.push(Change::PutGrant(Grant {
                        id: GrantId::fresh(),
                        group,
                        resource: Resource::table(table.table.id.clone()),
                        assigned_at: now,
                        assigned_by: Some(by.name.clone()),
                    }));
                }
            }
            Ok(answered(request, RequestStatus::Approved, &by.name, now, changes))
        })
    }

    /// Says no.
    ///
    /// # Errors
    /// `NotFound` when there is no such request that is pending.
    pub fn deny(&self, id: &RequestId) -> Result<AccessRequest> {
        self.write(|_, by, now| {
            Ok(answered(self.pending(id)?, RequestStatus::Denied, &by.name, now, Vec::new()))
        })
    }

    fn pending(&self, id: &RequestId) -> Result<AccessRequest> {
        let found = self
            .access()
            .store
            .requests()?
            .into_iter()
            .find(|request| request.id == *id && request.status == RequestStatus::Pending);
        found.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("there is no pending request `{id}`"))
        })
    }
}

fn answered(
    request: AccessRequest,
    status: RequestStatus,
    by: &str,
    now: Timestamp,
    mut changes: Vec<Change>,
) -> Planned<AccessRequest> {
    let reviewed_by = Some(by.to_string());
    let request = AccessRequest { status, reviewed_by, reviewed_at: Some(now), ..request };
    changes.push(Change::PutRequest(Box::new(request.clone())));
    let action = format!("access_request.{}", status.as_str());
    let event = AuditEvent::new(now, &action, format!("request:{}", request.id));
    let told = json!({"table_id": request.table_id, "user_id": request.user});
    Planned { changes, events: vec![event.with(told)], value: request }
}
