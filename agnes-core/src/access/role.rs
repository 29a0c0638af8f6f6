//! Roles, which older installations had before there were groups, and which their clients still
//! name. Nothing is decided by them but what a role is said to mean here.

use super::{Access, Principal};
use crate::{Error, Kind, Result};

/// A role of an older installation, from the one that may least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// May look.
    Viewer,
    /// May ask.
    Analyst,
    /// Administered knowledge; has been an admin's work since there are groups.
    KmAdmin,
    /// May do everything.
    Admin,
}

impl Role {
    /// A role by its name: `viewer`, `analyst`, `km_admin` or `admin`.
    ///
    /// # Errors
    /// `Invalid` for any other.
    pub fn parse(name: &str) -> Result<Role> {
        match name {
            "viewer" => Ok(Role::Viewer),
            "analyst" => Ok(Role::Analyst),
            "km_admin" => Ok(Role::KmAdmin),
            "admin" => Ok(Role::Admin),
            _ => Err(Error::new(
                Kind::Invalid,
                format!("there is no role `{}`", crate::name::shown(name)),
            )),
        }
    }
}

/// What old clients are told of a user: `admin` or `user`.
pub(super) fn told(is_admin: bool) -> &'static str {
    if is_admin { "admin" } else { "user" }
}

impl Access {
    /// Whether a principal passes a gate of "this role at least": for `admin` and `km_admin` the
    /// members of `Admin`, for the others every user who is active.
    pub fn has_role(&self, principal: &Principal, at_least: Role) -> bool {
        match at_least {
            Role::Viewer | Role::Analyst => self.stands(principal).is_ok(),
            Role::KmAdmin | Role::Admin => self.admin(principal).is_ok(),
        }
    }
}
