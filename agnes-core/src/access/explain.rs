//! Why somebody may see a table or not, as an admin is told.

use super::{Email, MaySee, Principal, Reason, Resource, UserId};
use crate::name::shown;
use crate::registry::RegisteredTable;
use crate::{Agnes, Error, Kind, Result, TableId};

/// Whether somebody may see a table, why, and whether there is anything to see.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Explanation {
    /// Who.
    pub user_id: UserId,
    /// Her address.
    pub email: Email,
    /// The table.
    #[serde(flatten)]
    pub about: About,
    /// Whether she may.
    pub allowed: bool,
    /// Every reason to allow it, or the one not to.
    pub reasons: Vec<Reason>,
}

/// A table that somebody asks about.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct About {
    /// The table.
    pub resource: Resource,
    /// Whether it is in the registry. What isn't is seen by admins alone.
    pub registered: bool,
    /// Whether its source publishes it now.
    pub published: bool,
    /// Why nobody sees anything of it now, whatever is granted.
    pub but: Option<String>,
}

/// Who may see a table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct WhoCan {
    /// The table.
    #[serde(flatten)]
    pub about: About,
    /// Whoever may, by address, with her reasons.
    pub able: Vec<MaySee>,
}

impl Agnes {
    /// Whether a user may see a table, and why. The table is named by its id or its name.
    ///
    /// # Errors
    /// `NotFound` when there is no such user, or neither the registry nor what is published has such a
    /// table; as [`Agnes::access`].
    pub fn explain(&self, email: &Email, table: &str) -> Result<Explanation> {
        let about = self.about(table)?;
        let access = self.access()?;
        let user = access.admin(&Principal::Operator)?.user_by_email(email)?.user;
        let decision = access.decide(&Principal::user(user.id.clone()), &about.resource);
        Ok(Explanation {
            user_id: user.id,
            email: user.email,
            allowed: decision.is_allowed(),
            reasons: decision.reasons(),
            about,
        })
    }

    /// Who may see a table, and why. The table is named by its id or its name.
    ///
    /// # Errors
    /// As [`Agnes::explain`].
    pub fn who_can(&self, table: &str) -> Result<WhoCan> {
        let about = self.about(table)?;
        let access = self.access()?;
        let able = access.admin(&Principal::Operator)?.who_can(&about.resource);
        Ok(WhoCan { about, able })
    }

    /// The table that a text names; one that nobody has registered where it is published.
    fn about(&self, text: &str) -> Result<About> {
        if let Some(table) = self.access()?.resolve(text) {
            let but = self.why_unpublished(&table)?;
            let (registered, published) = (true, but.is_none());
            return Ok(About { resource: Resource::table(table.id), registered, published, but });
        }
        let generation = self.generation()?;
        let mut views = generation.iter().flat_map(|g| g.views.keys());
        match views.any(|name| name.as_str().eq_ignore_ascii_case(text)) {
            true => Ok(About {
                resource: Resource::table(TableId::parse(text)?),
                registered: false,
                published: true,
                but: None,
            }),
            false => Err(Error::new(
                Kind::NotFound,
                format!(
                    "no table `{}` is published or registered; `agnes status` and `agnes registry \
                     list` show all",
                    shown(text)
                ),
            )),
        }
    }

    /// Why nobody sees anything of a registered table now; none where its source publishes it.
    ///
    /// # Errors
    /// As [`Agnes::generation`].
    pub fn why_unpublished(&self, table: &RegisteredTable) -> Result<Option<String>> {
        let generation = self.generation()?;
        let view = generation.as_ref().and_then(|g| g.views.get(&table.name));
        Ok(match view {
            Some(view) if view.source == table.source => None,
            Some(view) => Some(format!(
                "what is published as `{}` is a table of `{}` and not of `{}`, which a grant doesn't \
                 reach (`agnes registry adopt {1}` hands it over)",
                table.name, view.source, table.source
            )),
            None => Some(format!("`{}` publishes no table `{}` now", table.source, table.name)),
        })
    }
}
