//! What admins do: users, groups, members, grants, permissions, the registry.

use serde_json::json;

use super::audit::AuditEvent;
use super::change::Change;
use super::decision::{Question, Standing};
use super::facts::{Facts, GOOGLE_SYNC, GroupFacts, Permission, UserFacts};
use super::{
    Access, Email, Grant, GrantId, Group, GroupId, GroupName, MaySee, MemberSource, Membership,
    Origin, Planned, Principal, Resource, User, UserId,
};
use crate::{Error, Key, Kind, Result, Timestamp};

/// Leave to change who may see what. Made by [`Access::admin`].
///
/// Whatever it is asked to change is refused as `Denied` once whoever it was made for is no admin
/// any more, and fails as `Unavailable` when it can't be written. Reading goes on: make a new one
/// for each request.
#[derive(Debug, Clone)]
pub struct Admin<'a> {
    access: &'a Access,
    principal: Principal,
}

/// Who does something, as it is noted.
pub(super) struct By {
    pub(super) user: Option<UserId>,
    pub(super) name: String,
}

/// A user with what is known about her.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Overview {
    /// The user.
    #[serde(flatten)]
    pub user: User,
    /// Whether she may do everything.
    pub is_admin: bool,
    /// The same for clients that know roles: `admin` or `user`.
    pub role: &'static str,
    /// Whether Google Workspace manages her: she can't be removed or given a password here.
    pub is_sso_user: bool,
    /// The groups that she is in.
    pub groups: Vec<InGroup>,
}

/// A group that somebody is in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct InGroup {
    /// The group.
    #[serde(flatten)]
    pub group: Group,
    /// Where the group comes from.
    pub origin: Origin,
    /// Why she is in it.
    pub source: MemberSource,
}

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

/// A grant with the name of its group.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GrantOverview {
    /// The grant.
    #[serde(flatten)]
    pub grant: Grant,
    /// The group's name.
    pub group_name: GroupName,
}

fn missing(what: &str, name: impl std::fmt::Display, list: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no {what} `{name}`; `agnes {list}` shows all"))
}

fn no_user(id: &UserId) -> Error {
    missing("user", id, "user list")
}

pub(super) fn no_group(id: &GroupId) -> Error {
    missing("group", id, "group list")
}

fn conflict(message: String) -> Error {
    Error::new(Kind::Conflict, message)
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

/// Whether Google Workspace says what groups she is in.
fn is_sso(facts: &Facts, user: &UserFacts) -> bool {
    user.memberships.iter().any(|member| {
        let made_by = facts.group(&member.group).and_then(|g| g.group.created_by.as_deref());
        member.source == MemberSource::GoogleSync || made_by == Some(GOOGLE_SYNC)
    })
}

/// What a user's removal or deactivation must not do.
fn may_leave(facts: &Facts, by: &By, user: &UserFacts, what: &str) -> Result<()> {
    if by.user.as_ref() == Some(&user.user.id) {
        return Err(conflict(format!("you can't {what} yourself; ask another admin")));
    }
    keeps_an_admin(facts, user, what)
}

fn keeps_an_admin(facts: &Facts, user: &UserFacts, what: &str) -> Result<()> {
    if user.is_person() && facts.is_admin(user) && facts.active_admins() <= 1 {
        return Err(conflict(format!(
            "can't {what} `{}`: nobody else is an active admin; make somebody else one first",
            user.user.email
        ))
        .with(Key::Reason, "last_admin"));
    }
    Ok(())
}

pub(super) fn not_sso(facts: &Facts, user: &UserFacts, what: &str) -> Result<()> {
    match is_sso(facts, user) {
        true => Err(conflict(format!(
            "can't {what} `{}`: Google Workspace manages this user",
            user.user.email
        ))
        .with(Key::Reason, "sso_managed")),
        false => Ok(()),
    }
}

/// A new user.
pub(super) fn new_user(email: Email, name: Option<String>, now: Timestamp) -> User {
    User {
        id: UserId::fresh(),
        email,
        name,
        active: true,
        has_password: false,
        created_at: now,
        updated_at: now,
        deactivated_at: None,
        deactivated_by: None,
    }
}

impl<'a> Admin<'a> {
    pub(super) fn of(access: &'a Access, principal: &Principal) -> Result<Self> {
        let admin = Admin { access, principal: principal.clone() };
        admin.by(&access.facts()).map(|_| admin)
    }

    pub(super) fn access(&self) -> &Access {
        self.access
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Who this is, while she is still an admin.
    pub(super) fn by(&self, facts: &Facts) -> Result<By> {
        let now = || self.access.now();
        let question = Question { policy: self.access.policy, now: &now };
        match question.standing(facts, &self.principal) {
            Standing::Everything(_) => {
                let user = self.principal.user_id().and_then(|id| facts.user(id));
                let name = user.map_or_else(|| "operator".into(), |u| u.user.email.to_string());
                Ok(By { user: user.map(|u| u.user.id.clone()), name })
            }
            Standing::User(_) | Standing::Nothing(_) => {
                Err(Error::new(Kind::Denied, "admin access required"))
            }
        }
    }

    pub(super) fn write<T>(
        &self,
        plan: impl FnOnce(&Facts, &By, Timestamp) -> Result<Planned<T>>,
    ) -> Result<T> {
        self.access.write(|facts, now| {
            let by = self.by(facts)?;
            let mut planned = plan(facts, &by, now)?;
            for event in &mut planned.events {
                event.user = by.user.as_ref().map(ToString::to_string);
            }
            Ok(planned)
        })
    }

    /// The facts, for reading.
    pub(super) fn facts(&self) -> std::sync::Arc<Facts> {
        self.access.facts()
    }

    // Users.

    /// Every user, by address.
    pub fn users(&self) -> Vec<Overview> {
        let facts = self.facts();
        let mut users: Vec<Overview> =
            facts.users.values().map(|user| overview(&facts, user)).collect();
        users.sort_by(|a, b| a.user.email.cmp(&b.user.email));
        users
    }

    /// One user.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn user(&self, id: &UserId) -> Result<Overview> {
        let facts = self.facts();
        facts.user(id).map(|user| overview(&facts, user)).ok_or_else(|| no_user(id))
    }

    /// The user with this address.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn user_by_email(&self, email: &Email) -> Result<Overview> {
        let facts = self.facts();
        let user = facts.user_by_email(email).map(|user| overview(&facts, user));
        user.ok_or_else(|| missing("user", email, "user list"))
    }

    /// Adds a user. She is in no group.
    ///
    /// # Errors
    /// `Conflict` when somebody has this address, in whatever case; `Invalid` for a name with
    /// control characters or more than 256 bytes.
    pub fn add_user(&self, email: Email, name: Option<String>) -> Result<User> {
        let name = name.map(|name| worded(&name, "name")).transpose()?;
        self.write(|facts, _, now| {
            if let Some(there) = facts.user_by_email(&email) {
                return Err(conflict(format!("there is a user `{}` already", there.user.email)));
            }
            let user = new_user(email, name, now);
            Ok(Planned {
                changes: vec![Change::PutUser(user.clone())],
                events: vec![
                    event(now, "user.create", &user.id).with(json!({"email": user.email})),
                ],
                value: user,
            })
        })
    }

    /// Changes what a user is called.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn rename_user(&self, id: &UserId, name: Option<String>) -> Result<User> {
        let name = name.map(|name| worded(&name, "name")).transpose()?;
        self.write(|facts, _, now| {
            let there = &facts.user(id).ok_or_else(|| no_user(id))?.user;
            let user = User { name, updated_at: now, ..there.clone() };
            Ok(Planned {
                changes: vec![Change::PutUser(user.clone())],
                events: vec![event(now, "user.update", id).with(json!({"name": user.name}))],
                value: user,
            })
        })
    }

    /// Lets a user sign in again, or not any more. Her grants stay; while she is deactivated
    /// she may see nothing, and her sessions and links don't come back with her.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for the last active admin and for oneself.
    pub fn set_active(&self, id: &UserId, active: bool) -> Result<User> {
        self.write(|facts, by, now| {
            let there = facts.user(id).ok_or_else(|| no_user(id))?;
            if there.user.active == active {
                return Ok(Planned::nothing(there.user.clone()));
            }
            if !active {
                may_leave(facts, by, there, "deactivate")?;
            }
            let user = User {
                active,
                updated_at: now,
                deactivated_at: (!active).then_some(now),
                deactivated_by: (!active).then(|| by.name.clone()),
                ..there.user.clone()
            };
            let mut changes = vec![Change::PutUser(user.clone())];
            if !active {
                let session_version = there.session_version + 1;
                changes.push(Change::EndSessions { user: id.clone(), session_version });
            }
            Ok(Planned {
                changes,
                events: vec![event(now, "user.update", id).with(json!({"active": active}))],
                value: user,
            })
        })
    }

    /// Removes a user with her memberships, tokens and requests, and the group of her own.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for the last active admin, for oneself, and for a user whom
    /// Google Workspace manages.
    pub fn remove_user(&self, id: &UserId) -> Result<()> {
        self.write(|facts, by, now| {
            let there = facts.user(id).ok_or_else(|| no_user(id))?;
            may_leave(facts, by, there, "remove")?;
            not_sso(facts, there, "remove")?;
            let told = json!({"email": there.user.email});
            let mut planned = Planned::nothing(());
            planned.changes.push(Change::RemoveUser(id.clone()));
            planned.events.push(event(now, "user.delete", id).with(told));
            // Whoever has the address next isn't she.
            let own = GroupName::of_user(&there.user.email);
            if let Some(own) = own.ok().and_then(|name| facts.group_by_name(&name)) {
                let told = json!({"name": own.group.name});
                planned.changes.push(Change::RemoveGroup(own.group.id.clone()));
                planned.events.push(event(now, "user_group.deleted", &own.group.id).with(told));
            }
            Ok(planned)
        })
    }

    // Groups.

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
        self.add_member_from(group, user, MemberSource::Admin)
    }

    fn add_member_from(
        &self,
        group: &GroupId,
        user: &UserId,
        source: MemberSource,
    ) -> Result<Membership> {
        self.write(|facts, by, now| {
            changeable(facts, group)?;
            let there = facts.user(user).ok_or_else(|| no_user(user))?;
            if let Some(member) = there.memberships.iter().find(|m| m.group == *group) {
                return Ok(Planned::nothing(member.clone()));
            }
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
        self.write(|facts, _, now| {
            let there = changeable(facts, group)?;
            let facts_of = facts.user(user).ok_or_else(|| no_user(user))?;
            let member = facts_of.memberships.iter().find(|m| m.group == *group);
            let operator = self.principal == Principal::Operator;
            let hers = member.filter(|m| {
                m.source == MemberSource::Admin
                    || (operator && m.source != MemberSource::GoogleSync)
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
        })
    }

    /// Makes somebody an admin, whoever she is: the way back in when no admin is left.
    ///
    /// Adds the user when there is none of that address, and activates her. The membership's
    /// source is `cli_break_glass`.
    ///
    /// # Errors
    /// `Denied` for anybody but the operator.
    pub fn break_glass(&self, email: Email) -> Result<User> {
        if self.principal != Principal::Operator {
            return Err(Error::new(
                Kind::Denied,
                "only who has the data folder at hand may break the glass",
            ));
        }
        self.write(|facts, by, now| {
            let there = facts.user_by_email(&email);
            let group = facts.group_by_name(&GroupName::admin()).ok_or_else(|| {
                Error::new(Kind::Invalid, "the group `Admin` is missing; open the folder again")
            })?;
            let user = match there {
                Some(there) => User {
                    active: true,
                    deactivated_at: None,
                    deactivated_by: None,
                    updated_at: now,
                    ..there.user.clone()
                },
                None => new_user(email, None, now),
            };
            let mut changes = vec![Change::PutUser(user.clone())];
            let is_in =
                there.is_some_and(|u| u.memberships.iter().any(|m| m.group == group.group.id));
            if !is_in {
                changes.push(Change::PutMember(Membership {
                    user: user.id.clone(),
                    group: group.group.id.clone(),
                    source: MemberSource::CliBreakGlass,
                    added_at: now,
                    added_by: Some(by.name.clone()),
                }));
            }
            let told = json!({"email": user.email});
            Ok(Planned {
                changes,
                events: vec![event(now, "user.break_glass", &user.id).with(told)],
                value: user,
            })
        })
    }

    // Grants.

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
        let Some(known) = self.access.kinds.iter().find(|k| k.key() == kind) else {
            let mut keys: Vec<String> =
                self.access.kinds.iter().map(|k| format!("`{}`", k.key())).collect();
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
            dataset: worded(dataset, "dataset")?,
            access: worded(access, "access")?,
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

    /// Everybody who may see a resource, by address, with every reason.
    pub fn who_can(&self, resource: &Resource) -> Vec<MaySee> {
        let facts = self.facts();
        let now = || self.access.now();
        let question = Question { policy: self.access.policy, now: &now };
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

    /// The last events of the audit log, the newest first.
    ///
    /// # Errors
    /// `Internal` when it can't be read; `Unavailable` when what waits can't be written.
    pub fn audit(&self, limit: u32) -> Result<Vec<AuditEvent>> {
        self.access.books.flush()?;
        self.access.store.told(limit)
    }
}

/// An event about a user or a group.
fn event(at: Timestamp, action: &str, about: &impl About) -> AuditEvent {
    AuditEvent::new(at, action, about.resource())
}

/// What an event may be about, as the log spells it.
trait About {
    fn resource(&self) -> String;
}

impl About for UserId {
    fn resource(&self) -> String {
        format!("user:{self}")
    }
}

impl About for GroupId {
    fn resource(&self) -> String {
        format!("group:{self}")
    }
}

fn overview(facts: &Facts, user: &UserFacts) -> Overview {
    let group = |member: &Membership| {
        let group = facts.group(&member.group)?.group.clone();
        Some(InGroup { origin: group.origin(), group, source: member.source })
    };
    let mut groups: Vec<InGroup> = user.memberships.iter().filter_map(group).collect();
    groups.sort_by(|a, b| a.group.name.cmp(&b.group.name));
    Overview {
        user: user.user.clone(),
        is_admin: facts.is_admin(user),
        role: super::role::told(facts.is_admin(user)),
        is_sso_user: is_sso(facts, user),
        groups,
    }
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

/// A word of a permission.
pub(super) fn worded(text: &str, what: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return Err(Error::new(
            Kind::Invalid,
            format!("the {what} has 1 to 256 bytes and no control characters"),
        ));
    }
    Ok(text.to_string())
}
