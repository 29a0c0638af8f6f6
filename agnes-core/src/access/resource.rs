//! What a grant is about.

use std::fmt;
use std::sync::Arc;

pub use crate::name::ResourceType;
use crate::{Error, Kind, Result, TableId};

/// The most bytes of the id of a resource that is no table.
pub const RESOURCE_ID_MAX: usize = 256;

/// Something that a group may be granted: a type and an id, as in `table:orders`.
///
/// **Invariants**: the id of a table is a [`TableId`] and compares without case; any other has
/// 1 to 256 bytes, no control characters, and compares exactly.
///
/// ```
/// use agnes_core::access::Resource;
/// let orders = Resource::parse("table:orders")?;
/// assert_eq!(orders, Resource::parse("TABLE:Orders")?);
/// assert!(Resource::parse("orders").is_err());
/// assert!(Resource::parse("table:or ders").is_err());
/// # Ok::<(), agnes_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource(Inner);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Inner {
    Table(TableId),
    Other(ResourceType, Arc<str>),
}

impl Resource {
    /// A table.
    pub fn table(id: TableId) -> Self {
        Resource(Inner::Table(id))
    }

    /// A resource of any type.
    ///
    /// # Errors
    /// `Invalid` when the id can't be one of that type.
    pub fn new(kind: ResourceType, id: &str) -> Result<Self> {
        if kind.is_table() {
            return TableId::parse(id).map(Resource::table);
        }
        if id.trim().is_empty() || id.len() > RESOURCE_ID_MAX || id.chars().any(char::is_control) {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "`{}` can't be the id of a {kind}: it has 1 to 256 bytes and no control \
                     characters",
                    crate::name::shown(id)
                ),
            ));
        }
        Ok(Resource(Inner::Other(kind, id.into())))
    }

    /// Reads the text form, as in `table:orders`.
    ///
    /// # Errors
    /// `Invalid` when there is no `:` or a part is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let Some((kind, id)) = text.split_once(':') else {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "`{}` names no resource: write type and id, as in `table:orders`",
                    crate::name::shown(text)
                ),
            ));
        };
        match kind {
            // The usual one, asked about at each decision.
            ResourceType::TABLE => TableId::parse(id).map(Resource::table),
            kind => Resource::new(ResourceType::parse(kind)?, id),
        }
    }

    /// Its type.
    pub fn kind(&self) -> ResourceType {
        match &self.0 {
            Inner::Table(_) => ResourceType::table(),
            Inner::Other(kind, _) => kind.clone(),
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        match &self.0 {
            Inner::Table(id) => id.as_str(),
            Inner::Other(_, id) => id,
        }
    }

    /// The table, if it is one.
    pub fn as_table(&self) -> Option<&TableId> {
        match &self.0 {
            Inner::Table(id) => Some(id),
            Inner::Other(..) => None,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Inner::Table(_) => ResourceType::TABLE,
            Inner::Other(kind, _) => kind.as_str(),
        };
        write!(f, "{kind}:{}", self.id())
    }
}

impl std::str::FromStr for Resource {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Resource::parse(text)
    }
}

impl serde::Serialize for Resource {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// A type of resource that an embedding program defines, so that groups can be granted things
/// that Agnes itself knows nothing of.
///
/// Nothing in the database changes for a new type; grants of a type that isn't defined any more
/// stay, and count again once it is.
pub trait ResourceKind: Send + Sync {
    /// Its key, which stands before the `:`.
    fn key(&self) -> ResourceType;
    /// What people call it.
    fn display_name(&self) -> &str;
    /// What it is, in a sentence.
    fn description(&self) -> &str;
    /// How its ids look, as in `<marketplace>/<plugin>`.
    fn id_format(&self) -> &str;
    /// What can be granted, in the blocks in which it is listed.
    ///
    /// # Errors
    /// Whatever keeps it from being listed.
    fn blocks(&self) -> Result<Vec<Block>>;
    /// Whether an id is one of this type.
    ///
    /// # Errors
    /// `Invalid` or `NotFound`, saying what is wrong with it.
    fn check(&self, id: &str) -> Result<()> {
        let _ = id;
        Ok(())
    }
}

/// Some things that can be granted, listed together: the tables of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Block {
    /// What they have in common.
    pub name: String,
    /// What can be granted.
    pub items: Vec<Item>,
}

/// Something that can be granted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Item {
    /// The id that a grant names.
    pub resource_id: String,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub description: Option<String>,
}
