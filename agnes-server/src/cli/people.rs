//! `agnes user`, `agnes group`, `agnes grant`: who may see what.

use agnes_core::access::{
    Admin, Email, GrantId, GrantOverview, GroupName, Overview, Principal, Resource,
};
use agnes_core::{Agnes, Error, Kind, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Done, Output, count, grouped};

/// Whoever runs the command holds the data folder.
pub(super) const OPERATOR: &Principal = &Principal::Operator;

/// A command that a user, a group or a grant is about: text that was checked.
macro_rules! argument {
    ($name:ident, $type:ty) => {
        pub(super) fn $name(text: &str) -> Result<$type, String> {
            <$type>::parse(text).map_err(|e| e.message().to_string())
        }
    };
}
argument!(email, Email);
argument!(group_name, GroupName);
argument!(resource, Resource);

#[derive(Debug, Args)]
pub(super) struct User {
    #[command(subcommand)]
    pub(super) command: UserCommand,
    #[command(flatten)]
    pub(super) json: super::Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user, who may see nothing yet
    Add {
        /// Her address
        #[arg(value_parser = email)]
        email: Email,
        /// What she is called
        #[arg(long)]
        name: Option<String>,
        /// Make her an admin, who may do everything
        #[arg(long)]
        admin: bool,
    },
    /// List the users with their groups
    List,
    /// Let a user in again
    Activate {
        /// Her address
        #[arg(value_parser = email)]
        email: Email,
    },
    /// Let a user in no more; her groups stay
    Deactivate {
        /// Her address
        #[arg(value_parser = email)]
        email: Email,
    },
    /// Remove a user with her memberships and tokens
    Remove {
        /// Her address
        #[arg(value_parser = email)]
        email: Email,
    },
}

impl User {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let access = agnes.access()?;
        let admin = access.admin(OPERATOR)?;
        let (told, user) = match self.command {
            UserCommand::List => return self.json.list(output, &admin.users(), users),
            UserCommand::Add { email, name, admin: is_admin } => match is_admin {
                true => ("added as an admin", admin.add_admin(email, name)?),
                false => ("added", admin.add_user(email, name)?),
            },
            UserCommand::Activate { email } => {
                ("active", admin.set_active(&admin.user_by_email(&email)?.user.id, true)?)
            }
            UserCommand::Deactivate { email } => {
                ("deactivated", admin.set_active(&admin.user_by_email(&email)?.user.id, false)?)
            }
            UserCommand::Remove { email } => {
                let user = admin.user_by_email(&email)?.user;
                admin.remove_user(&user.id)?;
                ("removed", user)
            }
        };
        let line = format!("{}: {told}", user.email);
        match admin.user(&user.id) {
            Ok(overview) => self.json.one(output, &overview, || line),
            // Removed.
            Err(_) => self.json.one(output, &user, || line),
        }
    }
}

fn users(users: &[Overview], output: &Output) -> Result<()> {
    let rows = users.iter().map(|of| {
        let groups: Vec<&str> = of.groups.iter().map(|g| g.group.name.as_str()).collect();
        [
            of.user.email.to_string(),
            of.user.name.clone().unwrap_or_default(),
            (if of.user.active { "active" } else { "deactivated" }).to_string(),
            groups.join(", "),
        ]
    });
    output.table(["email", "name", "state", "groups"], &[], rows)
}

#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(subcommand)]
    pub(super) command: GroupCommand,
    #[command(flatten)]
    pub(super) json: super::Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum GroupCommand {
    /// Make a group without members
    Create {
        /// Its name
        #[arg(value_parser = group_name)]
        name: GroupName,
        /// What it is for
        #[arg(long)]
        description: Option<String>,
    },
    /// List the groups
    List,
    /// List who is in a group, and why
    Members {
        /// Its name
        #[arg(value_parser = group_name)]
        name: GroupName,
    },
    /// Put a user into a group
    AddMember {
        /// The group's name
        #[arg(value_parser = group_name)]
        name: GroupName,
        /// The user's address
        #[arg(value_parser = email)]
        email: Email,
    },
    /// Take a user out of a group
    RemoveMember {
        /// The group's name
        #[arg(value_parser = group_name)]
        name: GroupName,
        /// The user's address
        #[arg(value_parser = email)]
        email: Email,
    },
    /// Remove a group with its memberships and grants
    Delete {
        /// Its name
        #[arg(value_parser = group_name)]
        name: GroupName,
    },
}

impl Group {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let access = agnes.access()?;
        let admin = access.admin(OPERATOR)?;
        match self.command {
            GroupCommand::List => self.json.list(output, &admin.groups(), |groups, output| {
                let rows = groups.iter().map(|of| {
                    [
                        of.group.name.to_string(),
                        grouped(of.members as u64),
                        grouped(of.grants as u64),
                        of.group.description.clone().unwrap_or_default(),
                    ]
                });
                output.table(["group", "members", "grants", "description"], &[1, 2], rows)
            }),
            GroupCommand::Members { name } => {
                let members = admin.members(&admin.group_by_name(&name)?.id)?;
                self.json.list(output, &members, |members, output| {
                    let rows = members.iter().map(|of| {
                        [
                            of.email.to_string(),
                            of.membership.source.as_str().to_string(),
                            of.membership.added_at.to_string(),
                            of.membership.added_by.clone().unwrap_or_default(),
                        ]
                    });
                    output.table(["email", "source", "since", "by"], &[], rows)
                })
            }
            GroupCommand::Create { name, description } => {
                let group = admin.add_group(name, description)?;
                self.json.one(output, &group, || format!("{}: created", group.name))
            }
            GroupCommand::AddMember { name, email } => {
                let group = admin.group_by_name(&name)?;
                let user = admin.user_by_email(&email)?.user;
                let member = admin.add_member(&group.id, &user.id)?;
                self.json
                    .one(output, &member, || format!("{}: {} is in it", group.name, user.email))
            }
            GroupCommand::RemoveMember { name, email } => {
                let group = admin.group_by_name(&name)?;
                let user = admin.user_by_email(&email)?.user;
                admin.remove_member(&group.id, &user.id)?;
                let told = json!({"group_id": group.id, "user_id": user.id});
                self.json.one(output, &told, || {
                    format!("{}: {} is in it no more", group.name, user.email)
                })
            }
            GroupCommand::Delete { name } => {
                let group = admin.group_by_name(&name)?;
                admin.remove_group(&group.id)?;
                self.json.one(output, &group, || format!("{}: deleted", group.name))
            }
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Grant {
    #[command(subcommand)]
    pub(super) command: GrantCommand,
    #[command(flatten)]
    pub(super) json: super::Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum GrantCommand {
    /// Let a group see something
    Create {
        /// The group's name
        #[arg(value_parser = group_name)]
        group: GroupName,
        /// What, as in `table:orders`: the id of a registered table
        #[arg(value_parser = resource)]
        resource: Resource,
    },
    /// List the grants
    List,
    /// Take a grant back; it holds no more once this returns
    Delete {
        /// Its id, or the group's name with the resource
        #[arg(value_name = "ID|GROUP RESOURCE", required = true, num_args = 1..=2)]
        grant: Vec<String>,
    },
}

impl Grant {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let access = agnes.access()?;
        let admin = access.admin(OPERATOR)?;
        match self.command {
            GrantCommand::List => self.json.list(output, &admin.grants(), |grants, output| {
                let rows = grants.iter().map(|of| {
                    [
                        of.group_name.to_string(),
                        of.grant.resource.to_string(),
                        of.grant.assigned_at.to_string(),
                        of.grant.id.to_string(),
                    ]
                });
                output.table(["group", "may see", "since", "id"], &[], rows)
            }),
            GrantCommand::Create { group, resource } => {
                let group = admin.group_by_name(&group)?;
                let grant = admin.grant(&group.id, resource)?;
                self.json
                    .one(output, &grant, || format!("{} may see {}", group.name, grant.resource))
            }
            GrantCommand::Delete { grant } => {
                let found = named(&admin, &grant)?;
                let grant = admin.revoke(&found.grant.id)?;
                self.json.one(output, &grant, || {
                    format!("{} may see {} no more", found.group_name, grant.resource)
                })
            }
        }
    }
}

/// The grant of an id, or of a group and a resource.
fn named(admin: &Admin<'_>, words: &[String]) -> Result<GrantOverview> {
    let id = match words {
        [group, resource] => {
            return admin.grant_of(&GroupName::parse(group)?, &Resource::parse(resource)?);
        }
        words => GrantId::parse(words.first().map_or("", String::as_str))?,
    };
    admin.grants().into_iter().find(|of| of.grant.id == id).ok_or_else(|| {
        Error::new(
            Kind::NotFound,
            format!("there is no grant `{id}`; `agnes grant list` shows all"),
        )
    })
}

#[derive(Debug, Args)]
pub(super) struct AccessOf {
    #[command(subcommand)]
    command: AccessCommand,
    #[command(flatten)]
    json: super::Json,
}

#[derive(Debug, Subcommand)]
enum AccessCommand {
    /// Say whether a user may see a table, and why
    Explain {
        /// Her address
        #[arg(value_parser = email)]
        email: Email,
        /// The table's id or name
        table: String,
    },
    /// List the tables that a user may see
    List {
        /// Her address
        #[arg(value_parser = email)]
        email: Email,
    },
    /// List who may see a table, and why
    Who {
        /// The table's id or name
        table: String,
    },
}

impl AccessOf {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let access = agnes.access()?;
        match &self.command {
            AccessCommand::Explain { email, table } => {
                let told = agnes.explain(email, table)?;
                self.json.one(output, &told, || {
                    let verb = if told.allowed { "may see" } else { "may not see" };
                    let because = told.reasons.iter().map(|why| format!("\n  because {why}"));
                    let but = told.about.but.iter().map(|why| format!("\n  but {why}"));
                    let lines: String = because.chain(but).collect();
                    format!("{} {verb} {}{lines}", told.email, told.about.resource)
                })
            }
            AccessCommand::List { email } => {
                let who = access.principal_of(email)?;
                let stands = access.stands(&who);
                let tables = match stands {
                    Ok(()) => visible(agnes, &who)?,
                    // She sees nothing, and is told why.
                    Err(_) => Vec::new(),
                };
                self.json.list(output, &tables, |tables, output| {
                    let rows = tables.iter().map(|t| {
                        let now = if t.published { "" } else { "not published" }.to_string();
                        [t.name.clone(), t.id.clone(), t.source.clone(), now]
                    });
                    output.table(["table", "id", "source", ""], &[], rows)?;
                    output.note(count(tables.len(), "table"));
                    if let Err(error) = stands {
                        output.note(error.message());
                    }
                    Ok(())
                })
            }
            AccessCommand::Who { table } => {
                let told = agnes.who_can(table)?;
                self.json.list(output, &told.able, |able, output| {
                    if let Some(but) = &told.about.but {
                        output.note(format_args!("nobody sees it now: {but}"));
                    }
                    let rows = able.iter().map(|of| {
                        let reasons: Vec<String> =
                            of.reasons.iter().map(ToString::to_string).collect();
                        [of.email.to_string(), reasons.join("; ")]
                    });
                    output.table(["email", "because"], &[], rows)
                })
            }
        }
    }
}

/// A table that somebody may see.
#[derive(serde::Serialize)]
struct Visible {
    /// Empty where nobody has registered it.
    id: String,
    name: String,
    source: String,
    /// Whether its source publishes it now.
    published: bool,
}

fn visible(agnes: &Agnes, principal: &Principal) -> Result<Vec<Visible>> {
    let tables = agnes.catalog(principal)?.into_iter().map(|entry| Visible {
        id: if entry.is_registered { entry.id.to_string() } else { String::new() },
        name: entry.name.to_string(),
        source: entry.source.to_string(),
        published: entry.is_published,
    });
    Ok(tables.collect())
}

#[derive(Debug, Args)]
pub(super) struct BreakGlass {
    /// `grant-admin`, and the address
    #[arg(value_name = "grant-admin EMAIL", required = true, num_args = 1..=2)]
    words: Vec<String>,
    /// Don't ask; nothing is asked anyway
    #[arg(long, hide = true)]
    yes: bool,
    #[command(flatten)]
    json: super::Json,
}

pub(super) const BREAK_GLASS_HELP: &str = "\
Make somebody an admin, whoever she is: the way back in when no admin is left.

A user who isn't there is added, one who was deactivated is let in again. It is noted in the \
audit log. Whoever can run this can read the data folder anyway.";

impl BreakGlass {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let email = match self.words.as_slice() {
            [email] => email,
            [verb, email] if verb == "grant-admin" => email,
            _ => {
                return Err(Error::new(Kind::Invalid, "say `agnes break-glass grant-admin EMAIL`"));
            }
        };
        let access = agnes.access()?;
        let user = access.admin(OPERATOR)?.break_glass(Email::parse(email)?)?;
        self.json.one(output, &user, || format!("{} is an admin", user.email))
    }
}
