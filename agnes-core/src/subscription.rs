//! Subscriptions: which of the tables that she may see a user wants on her machine.
//!
//! They decide nothing about who may see what: clients read them, and leave out what their user
//! doesn't want.
//!
//! ```
//! use agnes_core::access::{Email, Principal};
//! use agnes_core::subscription::Mode;
//! # use agnes_core::connectors::files::{FilesConnector, FilesOptions};
//! # use agnes_core::{Agnes, NoProgress, SourceName};
//! # let dir = tempfile::tempdir().unwrap();
//! # let csv = dir.path().join("orders.csv");
//! # std::fs::write(&csv, "id,total\n1,9.5\n").unwrap();
//! # let agnes = Agnes::open(dir.path().join("data"))?;
//! # let files = FilesConnector::new(vec![csv], FilesOptions::default());
//! # agnes.ingest(&SourceName::parse("shop")?, &files, &NoProgress)?;
//! # let admin = agnes.access()?;
//! # let user = admin.seed_admin(&Email::parse("ada@example.com")?, None, None)?;
//! let ada = Principal::user(user.id);
//! let chosen = agnes.subscribe(&ada, Some(Mode::Explicit), &[("orders", true), ("secret", true)])?;
//! assert!(chosen[0].is_ok() && chosen[1].is_err());
//! let wanted = agnes.subscriptions(&ada)?;
//! assert_eq!((wanted.mode, wanted.chosen.len()), (Mode::Explicit, 1));
//! # Ok::<(), agnes_core::Error>(())
//! ```

use crate::access::{Principal, Resource, UserId};
use crate::{Agnes, Error, Kind, Result, TableId, Timestamp};

/// What of the tables without a choice a user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All of them.
    #[default]
    All,
    /// None of them.
    Explicit,
}

impl Mode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Mode::All => "all",
            Mode::Explicit => "explicit",
        }
    }

    pub(crate) fn of(text: &str) -> Mode {
        if text == "explicit" { Mode::Explicit } else { Mode::All }
    }
}

/// A choice about one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The table.
    pub table: TableId,
    /// Whether she wants it.
    pub enabled: bool,
    /// When she said so.
    pub updated_at: Timestamp,
}

/// What a user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriptions {
    /// What of the tables without a choice.
    pub mode: Mode,
    /// Her choices about tables that she may see now, by id.
    pub chosen: Vec<Subscription>,
}

fn user_of(principal: &Principal) -> Result<&UserId> {
    principal.user_id().ok_or_else(|| Error::new(Kind::Denied, "only users want something"))
}

impl Agnes {
    /// What a user wants on her machine.
    ///
    /// # Errors
    /// `Denied` for whoever is no user, or may do nothing; as [`Agnes::store`].
    pub fn subscriptions(&self, principal: &Principal) -> Result<Subscriptions> {
        let user = user_of(principal)?;
        let access = self.access()?;
        access.stands(principal)?;
        let (mode, mut chosen) = self.store()?.subscriptions(user)?;
        let may = |table: &TableId| {
            access.decide(principal, &Resource::table(table.clone())).is_allowed()
        };
        chosen.retain(|subscription| may(&subscription.table));
        Ok(Subscriptions { mode, chosen })
    }

    /// Keeps choices of a user about tables, each by id or name, and her mode; without a mode it
    /// stays what it was. What came of each choice, in their order: those about tables that she
    /// may see are kept, whatever the others are.
    ///
    /// # Errors
    /// `Denied` for whoever is no user, or may do nothing; as [`Agnes::store`].
    pub fn subscribe(
        &self,
        principal: &Principal,
        mode: Option<Mode>,
        choices: &[(&str, bool)],
    ) -> Result<Vec<Result<TableId>>> {
        let user = user_of(principal)?;
        let access = self.access()?;
        access.stands(principal)?;
        let table = |text: &str| -> Result<TableId> {
            let id = match access.resolve(text) {
                Some(table) => table.id,
                None => TableId::parse(text)?,
            };
            access.decide(principal, &Resource::table(id.clone())).permit()?;
            // Admins may see what isn't there, but can't want it.
            access
                .registered(&id)
                .map(|table| table.id)
                .ok_or_else(|| Error::new(Kind::NotFound, format!("no table `{id}` is registered")))
        };
        let done: Vec<Result<TableId>> = choices.iter().map(|(text, _)| table(text)).collect();
        let pairs = done.iter().zip(choices);
        let chosen: Vec<(TableId, bool)> = pairs
            .filter_map(|(table, (_, enabled))| Some((table.as_ref().ok()?.clone(), *enabled)))
            .collect();
        if mode.is_some() || !chosen.is_empty() {
            self.store()?.subscribe(user, mode, &chosen, self.now())?;
        }
        Ok(done)
    }
}
