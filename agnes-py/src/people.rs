//! Users, groups, grants, tokens: who may see what.

use agnes_core::Secret;
use agnes_core::access::{
    Admin, Decision as CoreDecision, Email, GroupName, NewToken, Resource, TokenId,
};
use pyo3::prelude::*;
use serde::Serialize;

use crate::convert::{Told, told};
use crate::db::{Agnes, OPERATOR};
use crate::error::Result;
use agnes_core::binding::Mine;

impl Agnes {
    /// Does something as an admin, and tells what came of it.
    pub(crate) fn admin<T: Serialize + Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Admin<'_>) -> agnes_core::Result<T> + Send,
    ) -> Told {
        self.told(py, |agnes| work(&agnes.access()?.admin(OPERATOR)?))
    }
}

/// Whether somebody may see something, and why: it is true where she may.
///
/// It holds for the moment in which it was made.
#[pyclass(frozen, module = "agnes")]
pub(crate) struct Decision(Mine<CoreDecision>);

#[pymethods]
impl Decision {
    /// Whether she may.
    #[getter]
    fn allowed(&self) -> bool {
        self.0.is_allowed()
    }

    /// Every reason to allow it, or the one not to: a dict each, with `because`.
    #[getter]
    fn reasons(&self, py: Python<'_>) -> Told {
        told(py, &self.0.reasons())
    }

    /// What it is about, as in `table:orders`.
    #[getter]
    fn resource(&self) -> String {
        self.0.resource().to_string()
    }

    fn __bool__(&self) -> bool {
        self.0.is_allowed()
    }

    fn __repr__(&self) -> String {
        let verb = if self.0.is_allowed() { "allowed" } else { "denied" };
        format!("<agnes.Decision {}: {verb}, {}>", self.0.resource(), self.0.reason())
    }
}

#[pymethods]
impl Agnes {
    /// Every user, by address: a dict each.
    fn users(&self, py: Python<'_>) -> Told {
        self.admin(py, |admin| Ok(admin.users()))
    }

    /// One user, with her groups.
    fn user(&self, py: Python<'_>, email: &str) -> Told {
        let email = Email::parse(email)?;
        self.admin(py, |admin| admin.user_by_email(&email))
    }

    /// Adds a user, who may see nothing yet; an admin, who may do everything.
    #[pyo3(signature = (email, *, name=None, admin=false))]
    fn add_user(&self, py: Python<'_>, email: &str, name: Option<String>, admin: bool) -> Told {
        let email = Email::parse(email)?;
        self.admin(py, |of| match admin {
            true => of.add_admin(email, name),
            false => of.add_user(email, name),
        })
    }

    /// Removes a user, with her memberships and tokens.
    fn remove_user(&self, py: Python<'_>, email: &str) -> Result<()> {
        let email = Email::parse(email)?;
        self.admin(py, |admin| admin.remove_user(&admin.user_by_email(&email)?.user.id))?;
        Ok(())
    }

    /// Lets a user in again, or no more; her groups stay.
    fn set_active(&self, py: Python<'_>, email: &str, active: bool) -> Told {
        let email = Email::parse(email)?;
        self.admin(py, |admin| admin.set_active(&admin.user_by_email(&email)?.user.id, active))
    }

    /// Every group, with how many members and grants it has.
    fn groups(&self, py: Python<'_>) -> Told {
        self.admin(py, |admin| Ok(admin.groups()))
    }

    /// Adds a group.
    #[pyo3(signature = (name, *, description=None))]
    fn add_group(&self, py: Python<'_>, name: &str, description: Option<String>) -> Told {
        let name = GroupName::parse(name)?;
        self.admin(py, |admin| admin.add_group(name, description))
    }

    /// Removes a group, with its grants.
    fn remove_group(&self, py: Python<'_>, name: &str) -> Result<()> {
        let name = GroupName::parse(name)?;
        self.admin(py, |admin| admin.remove_group(&admin.group_by_name(&name)?.id))?;
        Ok(())
    }

    /// The members of a group.
    fn members(&self, py: Python<'_>, group: &str) -> Told {
        let name = GroupName::parse(group)?;
        self.admin(py, |admin| admin.members(&admin.group_by_name(&name)?.id))
    }

    /// Puts a user into a group.
    fn add_member(&self, py: Python<'_>, group: &str, email: &str) -> Told {
        let (name, email) = (GroupName::parse(group)?, Email::parse(email)?);
        self.admin(py, |admin| {
            let group = admin.group_by_name(&name)?;
            admin.add_member(&group.id, &admin.user_by_email(&email)?.user.id)
        })
    }

    /// Takes a user out of a group.
    fn remove_member(&self, py: Python<'_>, group: &str, email: &str) -> Result<()> {
        let (name, email) = (GroupName::parse(group)?, Email::parse(email)?);
        self.admin(py, |admin| {
            let group = admin.group_by_name(&name)?;
            admin.remove_member(&group.id, &admin.user_by_email(&email)?.user.id)
        })?;
        Ok(())
    }

    /// Every grant.
    fn grants(&self, py: Python<'_>) -> Told {
        self.admin(py, |admin| Ok(admin.grants()))
    }

    /// Lets a group see something: `table:orders`.
    fn grant(&self, py: Python<'_>, group: &str, resource: &str) -> Told {
        let (name, resource) = (GroupName::parse(group)?, Resource::parse(resource)?);
        self.admin(py, |admin| admin.grant(&admin.group_by_name(&name)?.id, resource))
    }

    /// Lets a group see something no more. It holds from the moment that this returns.
    fn revoke(&self, py: Python<'_>, group: &str, resource: &str) -> Told {
        let (name, resource) = (GroupName::parse(group)?, Resource::parse(resource)?);
        self.admin(py, |admin| admin.revoke(&admin.grant_of(&name, &resource)?.grant.id))
    }

    /// Whether a user may see something, as in `table:orders`.
    fn decide(&self, py: Python<'_>, email: &str, resource: &str) -> Result<Decision> {
        let (email, resource) = (Email::parse(email)?, Resource::parse(resource)?);
        let decision = self.run(py, |agnes| {
            let access = agnes.access()?;
            Ok(access.decide(&access.principal_of(&email)?, &resource))
        })?;
        Ok(Decision(Mine::new(decision)))
    }

    /// Whether a user may see a table, named by its id or its name, why, and whether there is anything to
    /// see.
    fn explain(&self, py: Python<'_>, email: &str, table: &str) -> Told {
        let email = Email::parse(email)?;
        self.told(py, |agnes| agnes.explain(&email, table))
    }

    /// Who may see a table, and why.
    fn who_can(&self, py: Python<'_>, table: &str) -> Told {
        self.told(py, |agnes| agnes.who_can(table))
    }

    /// Makes a personal token, with which programs act for a user. Gives what is known of it, and the token
    /// itself, which is told once. `lifetime` is a time in seconds, `None` for ever.
    #[pyo3(signature = (email, name, *, lifetime=Some(7_776_000.0)))]
    fn create_token(
        &self,
        py: Python<'_>,
        email: &str,
        name: &str,
        lifetime: Option<f64>,
    ) -> Result<(Py<PyAny>, String)> {
        let email = Email::parse(email)?;
        let lifetime = lifetime.map(crate::session::seconds).transpose()?;
        let new = NewToken { lifetime, ..NewToken::named(name) };
        let (token, secret): (_, Secret) = self.run(py, |agnes| {
            let access = agnes.access()?;
            let admin = access.admin(OPERATOR)?;
            admin.create_token(&admin.user_by_email(&email)?.user.id, new)
        })?;
        Ok((told(py, &token)?, secret.expose().to_string()))
    }

    /// Every personal token, without what is secret of it.
    fn tokens(&self, py: Python<'_>) -> Told {
        self.admin(py, |admin| admin.tokens())
    }

    /// Ends a personal token, by its id.
    fn revoke_token(&self, py: Python<'_>, id: &str) -> Result<()> {
        let id = TokenId::parse(id)?;
        self.admin(py, |admin| admin.revoke_token(&id))?;
        Ok(())
    }

    /// The last events of the audit log, the newest first.
    #[pyo3(signature = (limit=100))]
    fn audit(&self, py: Python<'_>, limit: u32) -> Told {
        self.admin(py, |admin| admin.audit(limit))
    }
}
