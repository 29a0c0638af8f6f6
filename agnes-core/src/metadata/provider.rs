//! Where metadata comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::registry::RegisteredTable;
use crate::{ExternalName, Result, SourceName, TableId};

/// Knows how large the tables of a remote system are.
///
/// It is asked from several threads at once. It may fail or panic: that is the outcome of one
/// table, and no other's.
pub trait MetadataProvider: Send + Sync {
    /// What is known of one table; none where the system doesn't know it.
    ///
    /// # Errors
    /// Any. The error is kept beside the last good figures.
    fn metadata(&self, table: &Address) -> Result<Option<TableMetadata>>;
}

/// Where a remote table is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Address {
    /// Its id in the registry.
    pub id: TableId,
    /// The bucket, dataset or schema.
    pub bucket: ExternalName,
    /// What it is called there.
    pub source_table: ExternalName,
}

impl Address {
    /// Where a registered table is; its id stands for a name that nobody declared. None for what
    /// can't be put into a statement of another system.
    pub(crate) fn of(table: &RegisteredTable) -> Option<Address> {
        let (bucket, source_table) = texts(table);
        Some(Address {
            id: table.id.clone(),
            bucket: ExternalName::parse(bucket).ok()?,
            source_table: ExternalName::parse(source_table).ok()?,
        })
    }
}

/// Bucket and name of a table, as they are declared.
pub(super) fn texts(table: &RegisteredTable) -> (&str, &str) {
    let declared = &table.declaration;
    let name = declared.source_table.as_deref().filter(|name| !name.is_empty());
    (declared.bucket.as_deref().unwrap_or(""), name.unwrap_or(table.id.as_str()))
}

/// What a remote system says of one of its tables. Whatever it doesn't say is absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableMetadata {
    /// Rows; absent for views, whose figures would mislead.
    pub rows: Option<u64>,
    /// Bytes; absent for views.
    pub size_bytes: Option<u64>,
    /// What it is partitioned by, as the system writes it.
    pub partition_by: Option<String>,
    /// The columns that it is sorted or clustered by, in order. An empty list: by none.
    pub clustered_by: Option<Vec<String>>,
    /// What it is: `BASE TABLE`, `VIEW`, `MATERIALIZED VIEW`, `EXTERNAL`, `SNAPSHOT`, `CLONE`.
    pub entity_type: Option<String>,
    /// Its columns, in order.
    pub known_columns: Option<Vec<String>>,
}

impl TableMetadata {
    /// Without what misleads: systems report 0 rows for a view. None when nothing is left.
    pub(super) fn checked(mut self) -> Option<TableMetadata> {
        let views = ["VIEW", "MATERIALIZED VIEW"];
        let view = |kind: &String| views.iter().any(|view| kind.eq_ignore_ascii_case(view));
        if self.entity_type.as_ref().is_some_and(view) {
            (self.rows, self.size_bytes) = (None, None);
        }
        (self != TableMetadata::default()).then_some(self)
    }
}

/// Who knows about the tables of which source.
///
/// A source that has none but attaches its remote system is asked through what it attaches.
#[derive(Clone, Default)]
pub struct MetadataProviders {
    sources: BTreeMap<SourceName, Arc<dyn MetadataProvider>>,
    types: BTreeMap<String, Arc<dyn MetadataProvider>>,
}

impl MetadataProviders {
    /// With a provider for one source.
    #[must_use]
    pub fn of_source(mut self, source: SourceName, provider: Arc<dyn MetadataProvider>) -> Self {
        self.sources.insert(source, provider);
        self
    }

    /// With a provider for every source of a type, as in `bigquery`.
    #[must_use]
    pub fn of_type(mut self, source_type: &str, provider: Arc<dyn MetadataProvider>) -> Self {
        self.types.insert(source_type.to_ascii_lowercase(), provider);
        self
    }

    /// The one that knows about a table: its source's first, its type's second.
    pub(super) fn of(&self, table: &RegisteredTable) -> Option<Arc<dyn MetadataProvider>> {
        let kind = table.declaration.source_type.as_ref().map(|kind| kind.to_ascii_lowercase());
        let of_type = || kind.and_then(|kind| self.types.get(&kind));
        self.sources.get(&table.source).or_else(of_type).cloned()
    }
}

impl fmt::Debug for MetadataProviders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataProviders")
            .field("sources", &self.sources.keys())
            .field("types", &self.types.keys())
            .finish()
    }
}
