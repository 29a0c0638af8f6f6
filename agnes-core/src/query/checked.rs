//! What the guard is asked about a statement on behalf of a session, and what it answers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::guard::{self, Judge};
use super::rows::Parameter;
use super::shown::Shown;
use super::tree::{Parser, Tree};
use crate::access::hidden;
use crate::{Error, Key, Kind, Result, ViewName};

/// What the guard found out about a text.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    /// The tables that it reads.
    names: BTreeSet<ViewName>,
    runs: Runs,
    /// Whether it holds for these values of the parameters alone.
    of_values: bool,
}

impl Checked {
    /// The tables that it reads.
    pub(super) fn names(&self) -> &BTreeSet<ViewName> {
        &self.names
    }

    pub(super) fn runs(&self) -> Runs {
        self.runs
    }

    /// Whether it holds whatever the values of the parameters are.
    pub(super) fn of_the_text(&self) -> bool {
        !self.of_values
    }
}

#[cfg(fuzzing)]
impl Checked {
    /// Whether it lists tables or columns.
    pub(super) fn lists(&self) -> bool {
        self.runs == Runs::Catalog
    }
}

/// Where a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// In the instance that is shared by all who see the same.
    Shared,
    /// In one of its own, because it reads from remote systems.
    Remote,
    /// Where there is nothing but the names of tables and columns.
    Catalog,
}

/// Collects what a statement names.
struct Names<'a> {
    shown: &'a Shown,
    views: BTreeSet<ViewName>,
    catalog: bool,
}

const SYSTEM_SCHEMAS: &[&str] = &["information_schema", "pg_catalog"];

fn no_system_table(name: &str) -> Error {
    Error::new(
        Kind::Denied,
        format!(
            "`{}` is not here: `SHOW TABLES`, `DESCRIBE t`, information_schema.tables and \
             information_schema.columns say what there is",
            crate::name::shown(name)
        ),
    )
}

impl Judge for Names<'_> {
    fn table(&mut self, name: &[String], node: &mut Value) -> Result<()> {
        if node.get("at_clause").is_some_and(|at| !at.is_null()) {
            return Err(Error::new(Kind::Denied, "tables have no earlier versions here"));
        }
        // As the lists of tables call them.
        let name = match name {
            [catalog, rest @ ..] if !rest.is_empty() && catalog.eq_ignore_ascii_case("memory") => {
                rest
            }
            name => name,
        };
        let table = match name {
            [one] => one,
            [schema, one] if schema.eq_ignore_ascii_case("main") => one,
            [schema, one]
                if schema.eq_ignore_ascii_case("information_schema")
                    && guard::INFORMATION_SCHEMA.iter().any(|t| one.eq_ignore_ascii_case(t)) =>
            {
                self.catalog = true;
                return Ok(());
            }
            // The engine's own, of which there is none to be had from an admin.
            [schema, _] if SYSTEM_SCHEMAS.iter().any(|of| schema.eq_ignore_ascii_case(of)) => {
                return Err(no_system_table(&name.join(".")));
            }
            _ => return Err(self.unknown(&name.join("."))),
        };
        let known = ViewName::parse(table.clone()).ok();
        match known.filter(|view| self.shown.views().contains_key(view)) {
            Some(view) => {
                self.views.insert(view);
                Ok(())
            }
            None if table.eq_ignore_ascii_case("sqlite_master") => Err(no_system_table(table)),
            None => Err(self.unknown(table)),
        }
    }

    fn table_function(&mut self, name: &str, _: &mut Value) -> Result<()> {
        if ["duckdb_", "pragma_"].iter().any(|start| name.starts_with(start)) {
            return Err(no_system_table(name));
        }
        Err(Error::new(
            Kind::Denied,
            format!(
                "the table function `{}` is not allowed: a query reads published tables, not files",
                crate::name::shown(name)
            ),
        ))
    }

    fn show(&mut self, name: &str) -> Result<()> {
        self.table(&[name.to_string()], &mut Value::Null)
    }

    fn listing(&mut self) -> Result<()> {
        self.catalog = true;
        Ok(())
    }
}

impl Names<'_> {
    /// The answer for a name that isn't visible. It is made of visible names alone, so that what
    /// is hidden and what doesn't exist give the same.
    fn unknown(&self, name: &str) -> Error {
        let shown = crate::name::shown(name);
        let near = crate::name::nearest(name, self.shown.views().keys().map(ViewName::as_str));
        let error = match self.shown.is_all() {
            true => Error::new(Kind::NotFound, format!("there is no table `{shown}`")),
            false => hidden(name),
        };
        let cure = match (near, self.shown.is_all()) {
            (Some(view), _) => format!("did you mean `{view}`?"),
            (None, true) => "`agnes status` lists what there is".to_string(),
            (None, false) => return error,
        };
        Error::new(error.kind(), format!("{}; {cure}", error.message())).with(Key::Table, shown)
    }
}

/// Asks the guard about a text. It looks at the values of the parameters only where something has
/// to be known that isn't written out, such as a pattern.
pub(super) fn check(
    shown: &Shown,
    parser: &dyn Parser,
    text: &str,
    parameters: &[Parameter],
) -> Result<Checked> {
    let mut tree = Tree::parse(parser, text)?;
    let filled = (!parameters.is_empty()).then(|| tree.clone());
    match (judged(shown, &mut tree), filled) {
        (Err(error), Some(mut filled)) if error.kind() == Kind::Denied => {
            filled.fill(parameters)?;
            Ok(Checked { of_values: true, ..judged(shown, &mut filled)? })
        }
        (judged, _) => judged,
    }
}

fn judged(shown: &Shown, tree: &mut Tree) -> Result<Checked> {
    let mut names = Names { shown, views: BTreeSet::new(), catalog: false };
    tree.judge(&mut names)?;
    let Names { views, catalog, .. } = names;
    let runs = match (catalog, views.iter().any(|name| shown.is_remote(name))) {
        (false, false) => Runs::Shared,
        (false, true) => Runs::Remote,
        (true, _) if views.is_empty() => Runs::Catalog,
        (true, _) => {
            return Err(Error::new(
                Kind::Invalid,
                "a list of tables or columns can't be joined with rows of a table; ask for one \
                 after the other",
            ));
        }
    };
    Ok(Checked { names: views, runs, of_values: false })
}
