//! Users, groups, grants, tokens: who may see what.

use agnes_core::access::{Decision as CoreDecision, NewToken};
use agnes_core::binding::Mine;
use pyo3::prelude::*;

use crate::convert::{Told, told};
use crate::db::Agnes;
use crate::error::Result;

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
        self.told(py, |agnes| agnes.users())
    }

    /// One user, with her groups.
    fn user(&self, py: Python<'_>, email: &str) -> Told {
        self.told(py, |agnes| agnes.user(email))
    }

    /// Adds a user, who may see nothing yet; an admin, who may do everything.
    #[pyo3(signature = (email, *, name=None, admin=false))]
    fn add_user(&self, py: Python<'_>, email: &str, name: Option<String>, admin: bool) -> Told {
        self.told(py, |agnes| agnes.add_user(email, name, admin))
    }

    /// Removes a user, with her memberships and tokens.
    fn remove_user(&self, py: Python<'_>, email: &str) -> Result<()> {
        self.run(py, |agnes| agnes.remove_user(email))
    }

    /// Lets a user in again, or no more; her groups stay.
    fn set_active(&self, py: Python<'_>, email: &str, active: bool) -> Told {
        self.told(py, |agnes| agnes.set_active(email, active))
    }

    /// Every group, with how many members and grants it has.
    fn groups(&self, py: Python<'_>) -> Told {
        self.told(py, |agnes| agnes.groups())
    }

    /// Adds a group.
    #[pyo3(signature = (name, *, description=None))]
    fn add_group(&self, py: Python<'_>, name: &str, description: Option<String>) -> Told {
        self.told(py, |agnes| agnes.add_group(name, description))
    }

    /// Removes a group, with its grants.
    fn remove_group(&self, py: Python<'_>, name: &str) -> Result<()> {
        self.run(py, |agnes| agnes.remove_group(name))
    }

    /// The members of a group.
    fn members(&self, py: Python<'_>, group: &str) -> Told {
        self.told(py, |agnes| agnes.members(group))
    }

    /// Puts a user into a group.
    fn add_member(&self, py: Python<'_>, group: &str, email: &str) -> Told {
        self.told(py, |agnes| agnes.add_member(group, email))
    }

    /// Takes a user out of a group.
    fn remove_member(&self, py: Python<'_>, group: &str, email: &str) -> Result<()> {
        self.run(py, |agnes| agnes.remove_member(group, email))
    }

    /// Every grant.
    fn grants(&self, py: Python<'_>) -> Told {
        self.told(py, |agnes| agnes.grants())
    }

    /// Lets a group see something: `table:orders`.
    fn grant(&self, py: Python<'_>, group: &str, resource: &str) -> Told {
        self.told(py, |agnes| agnes.grant(group, resource))
    }

    /// Lets a group see something no more. It holds from the moment that this returns.
    fn revoke(&self, py: Python<'_>, group: &str, resource: &str) -> Told {
        self.told(py, |agnes| agnes.revoke(group, resource))
    }

    /// Whether a user may see something, as in `table:orders`.
    fn decide(&self, py: Python<'_>, email: &str, resource: &str) -> Result<Decision> {
        Ok(Decision(Mine::new(self.run(py, |agnes| agnes.decide(email, resource))?)))
    }

    /// Whether a user may see a table, named by its id or its name, why, and whether there is anything to
    /// see.
    fn explain(&self, py: Python<'_>, email: &str, table: &str) -> Told {
        self.told(py, |agnes| agnes.explain(email, table))
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
        let lifetime = lifetime.map(crate::session::seconds).transpose()?;
        let new = NewToken { lifetime, ..NewToken::named(name) };
        let (token, secret) = self.run(py, |agnes| agnes.create_token(email, new))?;
        Ok((told(py, &token)?, secret.expose().to_string()))
    }

    /// Every personal token, without what is secret of it.
    fn tokens(&self, py: Python<'_>) -> Told {
        self.told(py, |agnes| agnes.tokens())
    }

    /// Ends a personal token, by its id.
    fn revoke_token(&self, py: Python<'_>, id: &str) -> Result<()> {
        self.run(py, |agnes| agnes.revoke_token(id))
    }

    /// The last events of the audit log, the newest first.
    #[pyo3(signature = (limit=100))]
    fn audit(&self, py: Python<'_>, limit: u32) -> Told {
        self.told(py, |agnes| agnes.audit(limit))
    }
}
