//! The catalog: what one principal may discover, and what is known of each table.
//!
//! ```
//! use agnes_core::access::Principal;
//! # use agnes_core::connectors::files::{FilesConnector, FilesOptions};
//! # use agnes_core::{Agnes, NoProgress, SourceName};
//! # let dir = tempfile::tempdir().unwrap();
//! # let csv = dir.path().join("orders.csv");
//! # std::fs::write(&csv, "id,total\n1,9.5\n2,20\n").unwrap();
//! # let agnes = Agnes::open(dir.path().join("data"))?;
//! # let files = FilesConnector::new(vec![csv], FilesOptions::default());
//! # agnes.ingest(&SourceName::parse("shop")?, &files, &NoProgress)?;
//! # agnes.rebuild(None, &NoProgress)?;
//! let catalog = agnes.catalog(&Principal::Operator)?;
//! assert_eq!(catalog[0].name.as_str(), "orders");
//! assert_eq!((catalog[0].rows, catalog[0].columns.len()), (Some(2), 2));
//! assert!(agnes.catalog(&Principal::Nobody).is_err());
//! # Ok::<(), agnes_core::Error>(())
//! ```
//!
//! Invariants:
//! - it names no table that the principal may not see;
//! - nothing is asked of a remote system, and no file is opened.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::access::{Moment, Permitted, Principal, Resource, Visibility};
use crate::extract::QueryMode;
use crate::manifest::Published;
use crate::metadata::{Freshness, Revision, TableMetadata, TableStatus};
use crate::orchestrator::{Column, Held, View};
use crate::registry::{RegisteredTable, SyncStrategy, source_type};
use crate::{Agnes, Error, Kind, Result, SourceName, TableId, ViewName};

/// What is known of a table.
#[derive(Debug, Clone, serde::Serialize)]
pub struct CatalogEntry {
    /// Its id; its name where nobody has registered it.
    pub id: TableId,
    /// The name under which it is queried.
    pub name: ViewName,
    /// The source that it is a table of.
    pub source: SourceName,
    /// Whether somebody has declared it. What isn't is seen by admins alone.
    pub is_registered: bool,
    /// Whether its source publishes it now.
    pub is_published: bool,
    /// What it is.
    pub description: Option<String>,
    /// What kind of system it comes from.
    pub source_type: String,
    /// How its rows are brought over.
    pub sync_strategy: SyncStrategy,
    /// Where its rows are queried.
    pub query_mode: QueryMode,
    /// Its rows, where anybody knows.
    pub rows: Option<u64>,
    /// Bytes: of its files, or what a remote system says.
    pub size_bytes: Option<u64>,
    /// Its columns, in order; none where it isn't published.
    pub columns: Vec<Column>,
    /// What a remote system says of it beside.
    pub remote: TableMetadata,
    /// How fresh that is; none for a table whose rows are here.
    pub freshness: Option<Freshness>,
}

impl CatalogEntry {
    fn new(
        name: &ViewName,
        view: Option<&View>,
        table: Option<&RegisteredTable>,
        status: Option<&TableStatus>,
    ) -> Option<CatalogEntry> {
        let source = table.map(|t| &t.source).or(view.map(|v| &v.source))?.clone();
        let view = view.filter(|view| view.source == source);
        let declared = table.map(|table| &table.declaration);
        let remote = status.and_then(TableStatus::cached).map(|cached| cached.metadata.clone());
        let remote = remote.unwrap_or_default();
        let query_mode = match (table, view) {
            (Some(table), _) if table.declaration.query_mode.is_some() => table.query_mode(),
            (_, Some(view)) => view.query_mode,
            (Some(table), None) => table.query_mode(),
            (None, None) => QueryMode::Local,
        };
        let here = view.filter(|view| !view.files().is_empty());
        Some(CatalogEntry {
            id: match table {
                Some(table) => table.id.clone(),
                None => TableId::parse(name.as_str()).ok()?,
            },
            name: name.clone(),
            is_registered: table.is_some(),
            is_published: view.is_some(),
            description: declared
                .and_then(|declared| declared.description.clone())
                .or_else(|| view.and_then(|view| view.description.clone())),
            source_type: declared
                .and_then(|declared| declared.source_type.clone())
                .unwrap_or_else(|| source_type(&source)),
            sync_strategy: declared.map(|declared| declared.sync_strategy).unwrap_or_default(),
            query_mode,
            rows: here.map(|view| view.rows).or(remote.rows),
            size_bytes: here.map(|view| view.size_bytes).or(remote.size_bytes),
            columns: view.map(|view| view.columns.clone()).unwrap_or_default(),
            freshness: status.map(|status| status.freshness.clone()),
            remote,
            source,
        })
    }
}

/// What the catalogs and manifests of one moment are made of, without holding on to it: while two of
/// them are equal, each principal's are what they were.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    facts: Moment,
    generation: Publishing,
    metadata: Revision,
}

/// A generation, told apart from those before and after it.
#[derive(Debug, Clone)]
struct Publishing(Weak<Held>);

impl PartialEq for Publishing {
    fn eq(&self, other: &Publishing) -> bool {
        Weak::ptr_eq(&self.0, &other.0)
    }
}

impl Agnes {
    /// How things stand, for whoever remembers what she made of [`Agnes::catalog`] or
    /// [`Agnes::manifest`] and asks whether that would be the same now.
    ///
    /// # Errors
    /// As [`Agnes::catalog`].
    pub fn standing(&self, principal: &Principal) -> Result<Standing> {
        let access = self.access()?;
        // Whatever changes from here on, the standing is an older one.
        let facts = access.moment();
        access.stands(principal)?;
        let metadata = self.settings().metadata.threshold();
        let metadata = self.metadata_cache()?.revision(self.now(), metadata);
        let generation = Publishing(Arc::downgrade(&self.held()?));
        Ok(Standing { facts, generation, metadata })
    }

    /// The tables that a principal may see, by name: those that are registered, whether they are
    /// published or not, and for an admin also those that are published and not registered.
    ///
    /// # Errors
    /// `Denied` when she may do nothing at all; `Unavailable` when the generation or the system
    /// database can't be read.
    pub fn catalog(&self, principal: &Principal) -> Result<Vec<CatalogEntry>> {
        let access = self.access()?;
        let status = self.metadata_status(principal)?;
        let status: BTreeMap<&TableId, &TableStatus> =
            status.tables.iter().map(|table| (&table.table_id, table)).collect();
        let held = self.held()?;
        let views = &held.generation.views;
        let mut entries: BTreeMap<ViewName, CatalogEntry> = BTreeMap::new();
        access.each_visible(principal, |table| {
            let view = views.get(&table.name).map(|view| &**view);
            let status = status.get(&table.id).copied();
            let entry = CatalogEntry::new(&table.name, view, Some(table), status);
            entries.extend(entry.map(|entry| (table.name.clone(), entry)));
        });
        if matches!(access.visibility(principal), Visibility::All) {
            for (name, view) in
                views.iter().filter(|(name, _)| access.resolve(name.as_str()).is_none())
            {
                let entry = CatalogEntry::new(name, Some(view), None, None);
                entries.extend(entry.map(|entry| (name.clone(), entry)));
            }
        }
        Ok(entries.into_values().collect())
    }

    /// What is known of one table, for whoever a decision has allowed to read it.
    ///
    /// # Errors
    /// `Denied` when she may not any more; `NotFound` when there is no such table.
    pub fn catalog_entry(&self, table: &Permitted<'_, Resource>) -> Result<CatalogEntry> {
        let access = self.access()?;
        let published = match self.published(table) {
            Err(error) if error.kind() == Kind::NotFound => None,
            other => Some(other?),
        };
        let registered = table.what().as_table().and_then(|id| access.registered(id));
        let none = || {
            let shown = crate::name::shown(table.what().id());
            Error::new(Kind::NotFound, format!("there is no table `{shown}`"))
        };
        let (name, view): (ViewName, Option<Arc<View>>) = match (published, &registered) {
            (Some(Published { name, view, .. }), _) => (name, Some(view)),
            (None, Some(table)) => (table.name.clone(), None),
            (None, None) => return Err(none()),
        };
        let status = self.metadata_status(table.principal())?;
        let id = registered.as_ref().map(|table| &table.id);
        let status = status.tables.iter().find(|status| Some(&status.table_id) == id);
        CatalogEntry::new(&name, view.as_deref(), registered.as_ref(), status).ok_or_else(none)
    }
}
