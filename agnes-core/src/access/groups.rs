//! What admins do about groups and who is in them.

use serde_json::json;

use super::admin::{Admin, By, conflict, event, keeps_an_admin, missing, no_group, no_user};
use super::change::Change;
use super::facts::{Facts, GroupFacts};
use super::{
    Email, Group, GroupId, GroupName, MemberSource, Membership, Origin, Planned, Principal, User,
    UserId,
};
use crate::{Error, Key, Kind, Result, Timestamp};

/// A group with how many are in it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GroupOverview {
    /// The group.
    #[serde(flatten)]
    pub group: Group,
    /// Where it comes from.
    pub origin: Origin,
    /// Its members.
    pub members: usize,
    /// What it was granted.
    pub grants: usize,
}

/// Somebody in a group.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Member {
    /// Her address.
    pub email: Email,
    /// What she is called.
    pub name: Option<String>,
    /// Whether she may sign in and see anything.
    pub active: bool,
    /// Since when and why she is in it.
    #[serde(flatten)]
    pub membership: Membership,
}

/// The group, unless Google Workspace manages it.
fn changeable<'f>(facts: &'f Facts, id: &GroupId) -> Result<&'f Group> {
    let group = &facts.group(id).ok_or_else(|| no_group(id))?.group;
    match group.origin() {
        Origin::GoogleSync => Err(conflict(format!(
            "the group `{}` is managed by Google Workspace; change it there",
            group.name
        ))
        .with(Key::Reason, "google_managed_readonly")),
        Origin::System | Origin::Custom => Ok(group),
    }
}

impl Admin<'_> {
    /// Every group, by name.
    pub fn groups(&self) -> Vec<GroupOverview> {
        let facts = self.facts();
        let mut grants: std::collections::HashMap<&GroupId, usize> = Default::default();
        facts.grants.values().for_each(|grant| *grants.entry(&grant.group).or_default() += 1);
        let overview = |of: &std::sync::Arc<GroupFacts>| GroupOverview {
            group: of.group.clone(),
            origin: of.group.origin(),
            members: of.members.len(),
            grants: grants.get(&of.group.id).copied().unwrap_or(0),
        };
        let mut groups: Vec<GroupOverview> = facts.groups.values().map(overview).collect();
        groups.sort_by(|a, b| a.group.name.cmp(&b.group.name));
        groups
    }

    /// One group.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn group(&self, id: &GroupId) -> Result<Group> {
        self.facts().group(id).map(|facts| facts.group.clone()).ok_or_else(|| no_group(id))
    }

    /// The group of this name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn group_by_name(&self, name: &GroupName) -> Result<Group> {
        let facts = self.facts();
        let group = facts.group_by_name(name).map(|facts| facts.group.clone());
        group.ok_or_else(|| missing("group", name, "group list"))
    }

    /// Adds a group without members.
    ///
    /// # Errors
    /// `Conflict` when there is one of that name, in whatever case.
    pub fn add_group(&self, name: GroupName, description: Option<String>) -> Result<Group> {
        self.write(|facts, by, now| {
            free(facts, &name, None)?;
            let group = Group {
                id: GroupId::fresh(),
                name,
                description,
                is_system: false,
                created_at: now,
                created_by: Some(by.name.clone()),
            };
            let told = json!({"name": group.name});
            Ok(Planned {
                changes: vec![Change::PutGroup(group.clone())],
                events: vec![event(now, "user_group.created", &group.id).with(told)],
                value: group,
            })
        })
    }

    /// Changes what is said of a group, and its name unless it is one of the two that are
    /// always there.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for a name that is taken, for the name of a system group and for
    /// groups that Google Workspace manages.
    pub fn update_group(
        &self,
        id: &GroupId,
        name: Option<GroupName>,
        description: Option<Option<String>>,
    ) -> Result<Group> {
        self.write(|facts, _, now| {
            let there = changeable(facts, id)?;
            let mut group = there.clone();
            if let Some(name) = name {
                if there.is_system && name.as_str() != there.name.as_str() {
                    return Err(conflict(format!(
                        "the group `{}` is always there and keeps its name",
                        there.name
                    )));
                }
                free(facts, &name, Some(id))?;
                group.name = name;
            }
            if let Some(description) = description {
                group.description = description;
            }
            let told = json!({"name": group.name, "description": group.description});
            Ok(Planned {
                changes: vec![Change::PutGroup(group.clone())],
                events: vec![event(now, "user_group.updated", id).with(told)],
                value: group,
            })
        })
    }

    /// Removes a group with its memberships and grants.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for the two groups that are always there, and for groups that
    /// Google Workspace manages.
    pub fn remove_group(&self, id: &GroupId) -> Result<()> {
        self.write(|facts, _, now| {
            let there = changeable(facts, id)?;
            if there.is_system {
                return Err(conflict(format!(
                    "the group `{}` is always there and can't be removed",
                    there.name
                )));
            }
            let told = json!({"name": there.name});
            Ok(Planned {
                changes: vec![Change::RemoveGroup(id.clone())],
                events: vec![event(now, "user_group.deleted", id).with(told)],
                value: (),
            })
        })
    }

    /// The members of a group, by address.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn members(&self, id: &GroupId) -> Result<Vec<Member>> {
        let facts = self.facts();
        let group = facts.group(id).ok_or_else(|| no_group(id))?;
        let member = |number: &u32| {
            let of = facts.users.at(*number)?;
            let membership = of.memberships.iter().find(|m| m.group == *id)?.clone();
            let User { email, name, active, .. } = of.user.clone();
            Some(Member { email, name, active, membership })
        };
        let mut members: Vec<Member> = group.members.iter().filter_map(member).collect();
        members.sort_by(|a, b| a.email.cmp(&b.email));
        Ok(members)
    }

    /// Puts a user into a group. Whoever is in it already stays as she is.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for groups that Google Workspace manages.
    pub fn add_member(&self, group: &GroupId, user: &UserId) -> Result<Membership> {
        self.add(group, user, |_, member| Ok(member.clone()))
    }

    /// Puts a user into a group that she isn't in.
    ///
    /// # Errors
    /// As [`Admin::add_member`]; `Conflict` also when she is in it.
    pub fn add_new_member(&self, group: &GroupId, user: &UserId) -> Result<Membership> {
        self.add(group, user, |email, _| {
            Err(conflict(format!("`{email}` is in the group already")))
        })
    }

    /// Puts a user into a group; `there` says what to make of one who is in it.
    fn add(
        &self,
        group: &GroupId,
        user: &UserId,
        there: impl FnOnce(&Email, &Membership) -> Result<Membership>,
    ) -> Result<Membership> {
        self.write(|facts, by, now| {
            changeable(facts, group)?;
            let of = facts.user(user).ok_or_else(|| no_user(user))?;
            match of.memberships.iter().find(|m| m.group == *group) {
                Some(member) => there(&of.user.email, member).map(Planned::nothing),
                None => join(facts, by, group, user, now),
            }
        })
    }

    /// Takes a user out of a group.
    ///
    /// Only the operator takes out whom the settings or a break-glass put there.
    ///
    /// # Errors
    /// `NotFound` when she isn't in it, or wasn't put there by an admin; `Conflict` for the last
    /// active admin and for groups that Google Workspace manages.
    pub fn remove_member(&self, group: &GroupId, user: &UserId) -> Result<()> {
        let operator = *self.principal() == Principal::Operator;
        self.write(|facts, _, now| leave(facts, operator, group, user, now))
    }
}

/// The group of those who may do everything.
pub(super) fn admins(facts: &Facts) -> Result<GroupId> {
    let group = facts.group_by_name(&GroupName::admin()).map(|facts| facts.group.id.clone());
    group.ok_or_else(|| {
        Error::new(Kind::Invalid, "the group `Admin` is missing; open the folder again")
    })
}

/// Puts a user into a group that she isn't in.
pub(super) fn join(
    facts: &Facts,
    by: &By,
    group: &GroupId,
    user: &UserId,
    now: Timestamp,
) -> Result<Planned<Membership>> {
    changeable(facts, group)?;
    facts.user(user).ok_or_else(|| no_user(user))?;
    let source = MemberSource::Admin;
    let member = Membership {
        user: user.clone(),
        group: group.clone(),
        source,
        added_at: now,
        added_by: Some(by.name.clone()),
    };
    let told = json!({"user_id": user, "source": source});
    Ok(Planned {
        changes: vec![Change::PutMember(member.clone())],
        events: vec![event(now, "user_group.member_added", group).with(told)],
        value: member,
    })
}

/// Takes a user out of a group.
pub(super) fn leave(
    facts: &Facts,
    operator: bool,
    group: &GroupId,
    user: &UserId,
    now: Timestamp,
) -> Result<Planned<()>> {
    let there = changeable(facts, group)?;
    let facts_of = facts.user(user).ok_or_else(|| no_user(user))?;
    let member = facts_of.memberships.iter().find(|m| m.group == *group);
    let hers = member.filter(|m| {
        m.source == MemberSource::Admin || (operator && m.source != MemberSource::GoogleSync)
    });
    if hers.is_none() {
        return Err(Error::new(
            Kind::NotFound,
            format!(
                "`{}` has no admin-managed membership in `{}`",
                facts_of.user.email, there.name
            ),
        ));
    }
    if there.is_system && there.name == GroupName::admin() {
        keeps_an_admin(facts, facts_of, "take the admin's rights from")?;
    }
    let told = json!({"user_id": user});
    Ok(Planned {
        changes: vec![Change::RemoveMember { user: user.clone(), group: group.clone() }],
        events: vec![event(now, "user_group.member_removed", group).with(told)],
        value: (),
    })
}

/// Whether no other group has this name.
fn free(facts: &Facts, name: &GroupName, but: Option<&GroupId>) -> Result<()> {
    match facts.group_by_name(name) {
        Some(there) if Some(&there.group.id) != but => {
            Err(conflict(format!("there is a group `{}` already", there.group.name)))
        }
        _ => Ok(()),
    }
}
