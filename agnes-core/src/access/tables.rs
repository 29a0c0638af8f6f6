//! What admins do with the registry of tables.

use serde_json::json;

use super::audit::AuditEvent;
use super::change::Change;
use super::facts::Facts;
use super::{Admin, GroupName, Planned};
use crate::registry::{Declaration, RegisteredTable};
use crate::{Error, Key, Kind, Result, SourceName, TableId, Timestamp, ViewName};

/// A table to be registered.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// What grants will name; the name in lower case when absent.
    pub id: Option<TableId>,
    /// The name under which it is published.
    pub name: ViewName,
    /// The source that it is a table of.
    pub source: SourceName,
    /// What is declared about it.
    pub declaration: Declaration,
}

/// What may be changed of a registered table, as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct TableUpdate {
    /// The name under which its source publishes it: with another one the row and its grants
    /// stand for the table of that name.
    pub name: ViewName,
    /// The source that it is a table of: with another one its grants reach that source's table.
    pub source: SourceName,
    /// What is declared about it.
    pub declaration: Declaration,
}

impl Admin<'_> {
    /// Every registered table, by name.
    pub fn tables(&self) -> Vec<RegisteredTable> {
        let facts = self.facts();
        let mut tables: Vec<RegisteredTable> =
            facts.tables.values().map(|facts| facts.table.clone()).collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        tables
    }

    /// The registered table of this id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn table(&self, id: &TableId) -> Result<RegisteredTable> {
        let facts = self.facts();
        facts.table(id).map(|facts| facts.table.clone()).ok_or_else(|| unregistered(id))
    }

    /// The registered table that a text names: an id first, a name second.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn table_named(&self, text: &str) -> Result<RegisteredTable> {
        self.access().resolve(text).ok_or_else(|| unregistered(&crate::name::shown(text)))
    }

    /// The registered table of this name.
    pub(crate) fn table_by_name(&self, name: &ViewName) -> Option<RegisteredTable> {
        self.facts().table_by_name(name).map(|facts| facts.table.clone())
    }

    /// The groups that were granted a table, by name.
    pub(crate) fn groups_granted(&self, id: &TableId) -> Vec<GroupName> {
        let facts = self.facts();
        let grants = facts.table(id).map_or(&[][..], |table| &table.grants);
        let group = |number: u32| Some(facts.groups.at(number)?.group.name.clone());
        let mut groups: Vec<GroupName> =
            grants.iter().filter_map(|grant| group(grant.group)).collect();
        groups.sort();
        groups
    }

    /// Registers a table, which may be published already or not yet.
    ///
    /// # Errors
    /// `Conflict` when a table has that id or name, as its id or as its name; `Invalid` when
    /// what is declared doesn't fit together.
    pub fn register(&self, table: NewTable) -> Result<RegisteredTable> {
        let mut registered = self.register_all(vec![table])?;
        registered.pop().ok_or_else(|| Error::internal("nothing was registered"))
    }

    /// Registers tables, all of them or none.
    ///
    /// # Errors
    /// As [`Admin::register`].
    pub fn register_all(&self, tables: Vec<NewTable>) -> Result<Vec<RegisteredTable>> {
        self.write(|facts, by, now| {
            // The new ones may clash with each other as well.
            let mut after = facts.clone();
            let mut planned = Planned::nothing(Vec::with_capacity(tables.len()));
            for NewTable { id, name, source, declaration } in tables {
                let id = id.unwrap_or_else(|| TableId::of(&name));
                is_free(&after, &id, &name, None)?;
                let table = RegisteredTable {
                    id,
                    name,
                    source,
                    declaration,
                    registered_by: Some(by.name.clone()),
                    registered_at: now,
                };
                table.check()?;
                let change = Change::PutTable(Box::new(table.clone()));
                after.apply(&change);
                planned.changes.push(change);
                planned.events.push(event(now, "register_table", &table));
                planned.value.push(table);
            }
            Ok(planned)
        })
    }

    /// Whether a table could be registered, without doing it.
    ///
    /// # Errors
    /// As [`Admin::register`].
    pub fn check_table(&self, table: &NewTable) -> Result<()> {
        let NewTable { id, name, source, declaration } = table.clone();
        let id = id.unwrap_or_else(|| TableId::of(&name));
        is_free(&self.facts(), &id, &name, None)?;
        let registered_at = self.access().now();
        RegisteredTable { id, name, source, declaration, registered_by: None, registered_at }
            .check()
    }

    /// Changes a registered table, told how it is at that moment: of two who change different
    /// things at once neither undoes what the other did. Its grants stay.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for a name that is taken; `Invalid` when what is declared doesn't
    /// fit together; what `change` says, which leaves the table as it was.
    pub fn update_table(
        &self,
        id: &TableId,
        change: impl FnOnce(&mut TableUpdate) -> Result<()>,
    ) -> Result<RegisteredTable> {
        self.update_tables(vec![(id.clone(), change)])?
            .pop()
            .ok_or_else(|| Error::internal("nothing was changed"))
    }

    /// Changes registered tables, all of them or none.
    pub(crate) fn update_tables(
        &self,
        updates: Vec<(TableId, impl FnOnce(&mut TableUpdate) -> Result<()>)>,
    ) -> Result<Vec<RegisteredTable>> {
        self.write(|facts, _, now| {
            let mut planned = Planned::nothing(Vec::new());
            for (id, change) in updates {
                let there = &facts.table(&id).ok_or_else(|| unregistered(&id))?.table;
                let RegisteredTable { name, source, declaration, .. } = there.clone();
                let mut update = TableUpdate { name, source, declaration };
                change(&mut update)?;
                let TableUpdate { name, source, declaration } = update;
                let table = RegisteredTable { name, source, declaration, ..there.clone() };
                is_free(facts, &table.id, &table.name, Some(&there.id))?;
                table.check()?;
                planned.changes.push(Change::PutTable(Box::new(table.clone())));
                planned.events.push(event(now, "update_table", &table));
                planned.value.push(table);
            }
            Ok(planned)
        })
    }

    /// Takes a table out of the registry, with its grants and all that is known of it. Its
    /// source doesn't publish it any more from the next rebuild on, until it is registered again.
    pub(crate) fn unregister(&self, id: &TableId) -> Result<RegisteredTable> {
        self.write(|facts, _, now| {
            let table = facts.table(id).ok_or_else(|| unregistered(id))?.table.clone();
            Ok(Planned {
                changes: vec![Change::RemoveTable { table: Box::new(table.clone()), at: now }],
                events: vec![event(now, "unregister_table", &table)],
                value: table,
            })
        })
    }
}

pub(crate) fn unregistered(id: &(impl std::fmt::Display + ?Sized)) -> Error {
    Error::new(
        Kind::NotFound,
        format!("no table `{id}` is registered; `agnes registry list` shows all"),
    )
    .with(Key::Table, id)
}

fn event(at: Timestamp, action: &str, table: &RegisteredTable) -> AuditEvent {
    let told = json!({
        "name": table.name, "source": table.source, "declaration": table.declaration,
    });
    AuditEvent::new(at, action, table.id.to_string()).with(told)
}

/// Whether no other table has this id or name, as its id or as its name: whoever names a table
/// by either means one.
pub(super) fn is_free(
    facts: &Facts,
    id: &TableId,
    name: &ViewName,
    but: Option<&TableId>,
) -> Result<()> {
    let as_name = ViewName::parse(id.as_str()).ok();
    let as_id = TableId::parse(name.as_str()).ok();
    let taken = [
        facts.table(id),
        facts.table_by_name(name),
        as_name.and_then(|name| facts.table_by_name(&name)),
        as_id.and_then(|id| facts.table(&id)),
    ];
    match taken.into_iter().flatten().find(|there| Some(&there.table.id) != but) {
        None => Ok(()),
        Some(there) => Err(Error::new(
            Kind::Conflict,
            format!(
                "`{name}` (id `{id}`) clashes with the table `{}` (id `{}`) of `{}`, which is \
                 registered; ids and names are one list",
                there.table.name, there.table.id, there.table.source
            ),
        )
        .with(Key::Table, &there.table.id)),
    }
}
