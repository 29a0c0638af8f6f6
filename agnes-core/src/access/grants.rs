//! What admins do about grants, and about the permissions of single users.

use serde_json::json;

use super::admin::{Admin, conflict, event, missing, no_group, no_user};
use super::audit::AuditEvent;
use super::change::Change;
use super::decision::Question;
use super::facts::{Facts, Permission};
use super::{
    Block, Grant, GrantId, GroupId, GroupName, Item, MaySee, Planned, Principal, Resource, UserId,
};
use crate::{Error, Key, Kind, Result};

/// A grant with the name of its group.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GrantOverview {
    /// The grant.
    #[serde(flatten)]
    pub grant: Grant,
    /// The group's name.
    pub group_name: GroupName,
}

impl Admin<'_> {
    /// Every grant, by resource.
    pub fn grants(&self) -> Vec<GrantOverview> {
        let facts = self.facts();
        let named = |grant: &Grant| {
            let group_name = facts.group(&grant.group)?.group.name.clone();
            Some(GrantOverview { grant: grant.clone(), group_name })
        };
        let mut grants: Vec<GrantOverview> = facts.grants.values().filter_map(named).collect();
        grants.sort_by(|a, b| {
            (&a.grant.resource, &a.group_name).cmp(&(&b.grant.resource, &b.group_name))
        });
        grants
    }

    /// The grant of something to a group.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn grant_of(&self, group: &GroupName, resource: &Resource) -> Result<GrantOverview> {
        let mut grants = self.grants().into_iter();
        let found = grants.find(|of| of.group_name == *group && of.grant.resource == *resource);
        found.ok_or_else(|| missing("grant", format!("{group} {resource}"), "grant list"))
    }

    /// Grants a group something.
    ///
    /// # Errors
    /// `NotFound` when there is no such group, or no table of that id is registered; `Invalid`
    /// for a type of resource that nobody defined; `Conflict` when it is granted already.
    pub fn grant(&self, group: &GroupId, resource: Resource) -> Result<Grant> {
        self.write(|facts, by, now| {
            let there = facts.group(group).ok_or_else(|| no_group(group))?;
            let resource = self.grantable(facts, resource)?;
            let number = facts.groups.number(group);
            if facts.grants_of(&resource).iter().any(|grant| Some(grant.group) == number) {
                return Err(conflict(format!(
                    "the group `{}` was granted `{resource}` already",
                    there.group.name
                )));
            }
            let grant = Grant {
                id: GrantId::fresh(),
                group: group.clone(),
                resource,
                assigned_at: now,
                assigned_by: Some(by.name.clone()),
            };
            let told = json!({"group_id": group, "resource": grant.resource});
            Ok(Planned {
                changes: vec![Change::PutGrant(grant.clone())],
                events: vec![
                    AuditEvent::new(now, "resource_grant.created", format!("grant:{}", grant.id))
                        .with(told),
                ],
                value: grant,
            })
        })
    }

    /// The resource, when there is such a thing.
    fn grantable(&self, facts: &Facts, resource: Resource) -> Result<Resource> {
        if let Some(id) = resource.as_table() {
            let table = facts.table(id).ok_or_else(|| {
                missing("registered table", id, "registry list").with(Key::Table, id)
            })?;
            return Ok(Resource::table(table.table.id.clone()));
        }
        let kind = resource.kind();
        let Some(known) = self.access().kinds.iter().find(|k| k.key() == kind) else {
            let mut keys: Vec<String> =
                self.access().kinds.iter().map(|k| format!("`{}`", k.key())).collect();
            keys.insert(0, "`table`".to_string());
            return Err(Error::new(
                Kind::Invalid,
                format!("there is no type of resource `{kind}`; there are {}", keys.join(", ")),
            ));
        };
        known.check(resource.id())?;
        Ok(resource)
    }

    /// Takes a grant back.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn revoke(&self, id: &GrantId) -> Result<Grant> {
        self.write(|facts, _, now| {
            let grant = facts.grants.get(id).cloned();
            let grant = grant.ok_or_else(|| missing("grant", id, "grant list"))?;
            let told = json!({"group_id": grant.group, "resource": grant.resource});
            Ok(Planned {
                changes: vec![Change::RemoveGrant(id.clone())],
                events: vec![
                    AuditEvent::new(now, "resource_grant.deleted", format!("grant:{id}"))
                        .with(told),
                ],
                value: grant,
            })
        })
    }

    // Permissions of single users, which the policy `grants_and_legacy` looks at.

    /// Every permission.
    pub fn permissions(&self) -> Vec<Permission> {
        let facts = self.facts();
        facts.users.values().flat_map(|user| user.permissions.clone()).collect()
    }

    /// Gives a user a permission of her own, or changes it.
    ///
    /// # Errors
    /// `NotFound` when there is no such user; `Invalid` for a blank dataset.
    pub fn permit(&self, user: &UserId, dataset: &str, access: &str) -> Result<Permission> {
        let permission = Permission {
            user: user.clone(),
            dataset: super::name::worded(dataset, "dataset")?,
            access: super::name::worded(access, "access")?,
        };
        self.write(|facts, _, now| {
            facts.user(user).ok_or_else(|| no_user(user))?;
            let told = json!({"dataset": permission.dataset, "access": permission.access});
            Ok(Planned {
                changes: vec![Change::PutPermission(permission.clone())],
                events: vec![event(now, "permission.granted", user).with(told)],
                value: permission,
            })
        })
    }

    /// Takes a user's permission back.
    ///
    /// # Errors
    /// `NotFound` when she has none.
    pub fn unpermit(&self, user: &UserId, dataset: &str) -> Result<()> {
        self.write(|facts, _, now| {
            let there = facts.user(user).ok_or_else(|| no_user(user))?;
            if !there.permissions.iter().any(|p| p.dataset == dataset) {
                return Err(Error::new(
                    Kind::NotFound,
                    format!(
                        "`{}` has no permission for `{}`",
                        there.user.email,
                        crate::name::shown(dataset)
                    ),
                ));
            }
            let change =
                Change::RemovePermission { user: user.clone(), dataset: dataset.to_string() };
            Ok(Planned {
                changes: vec![change],
                events: vec![
                    event(now, "permission.revoked", user).with(json!({"dataset": dataset})),
                ],
                value: (),
            })
        })
    }

    /// The registered tables that can be granted, a block for each bucket.
    pub fn table_blocks(&self) -> Vec<Block> {
        let mut blocks: std::collections::BTreeMap<String, Vec<Item>> = Default::default();
        for table in self.tables() {
            let bucket = table.declaration.bucket.filter(|bucket| !bucket.trim().is_empty());
            let block = bucket.unwrap_or_else(|| "(no bucket)".to_string());
            blocks.entry(block).or_default().push(Item {
                resource_id: table.id.to_string(),
                name: table.name.to_string(),
                description: table.declaration.description,
            });
        }
        blocks.into_iter().map(|(name, items)| Block { name, items }).collect()
    }

    /// Everybody who may see a resource, by address, with every reason.
    pub fn who_can(&self, resource: &Resource) -> Vec<MaySee> {
        let facts = self.facts();
        let now = || self.access().now();
        let question = Question { policy: self.access().policy, now: &now };
        let mut able: Vec<MaySee> = facts
            .users
            .values()
            .filter_map(|user| {
                let principal = Principal::user(user.user.id.clone());
                let decision = question.decide(facts.clone(), &principal, resource);
                decision.is_allowed().then(|| MaySee {
                    user: user.user.id.clone(),
                    email: user.user.email.clone(),
                    reasons: decision.reasons(),
                })
            })
            .collect();
        able.sort_by(|a, b| a.email.cmp(&b.email));
        able
    }
}
