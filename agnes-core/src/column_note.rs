//! What somebody says of a table's columns: what they mean, of what type they really are.

use serde_json::json;

use crate::access::{AuditEvent, Permitted, Principal, Resource};
use crate::{Agnes, ColumnName, Error, Kind, Result, TableId, Timestamp};

/// The most bytes of a description.
pub const DESCRIPTION_MAX: usize = 10_000;

/// What is said of a column.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ColumnNote {
    /// The column.
    #[serde(rename = "column_name")]
    pub column: String,
    /// Its type, as its source names it: `STRING`, `DATE`, …
    pub basetype: Option<String>,
    /// What it means.
    pub description: Option<String>,
    /// How sure that is: `manual` when somebody has written it.
    pub confidence: String,
    /// Who says so: `manual` for a person.
    pub source: String,
    /// When.
    pub updated_at: Timestamp,
}

/// Something to be said of a column.
#[derive(Debug, Clone, Default)]
pub struct NewColumnNote {
    /// The column.
    pub column: String,
    /// Its type, as its source names it.
    pub basetype: Option<String>,
    /// What it means.
    pub description: Option<String>,
    /// How sure that is; `manual` when absent.
    pub confidence: Option<String>,
}

impl NewColumnNote {
    fn note(self, now: Timestamp) -> Result<ColumnNote> {
        let column = ColumnName::parse(&self.column)?;
        let texts = [&self.basetype, &self.description, &self.confidence];
        if texts.into_iter().flatten().any(|text| text.len() > DESCRIPTION_MAX) {
            return Err(Error::new(
                Kind::Invalid,
                format!("what is said of `{column}` has at most {DESCRIPTION_MAX} bytes"),
            ));
        }
        Ok(ColumnNote {
            column: column.to_string(),
            basetype: self.basetype,
            description: self.description,
            confidence: self.confidence.unwrap_or_else(|| "manual".to_string()),
            source: "manual".to_string(),
            updated_at: now,
        })
    }
}

impl Agnes {
    /// What is said of a table's columns, for whoever a decision has allowed to read it.
    ///
    /// # Errors
    /// As [`Agnes::store`].
    pub fn column_notes(&self, table: &Permitted<'_, Resource>) -> Result<Vec<ColumnNote>> {
        match table.what().as_table() {
            Some(id) => self.store()?.column_notes(id),
            None => Ok(Vec::new()),
        }
    }

    /// Says something of columns of a registered table, in the place of what was said of them.
    ///
    /// # Errors
    /// `Denied` for anybody but admins; `NotFound` when the table isn't registered; `Invalid` for
    /// a name that no column has, and for too long a text.
    pub fn note_columns(
        &self,
        principal: &Principal,
        table: &TableId,
        notes: Vec<NewColumnNote>,
    ) -> Result<Vec<ColumnNote>> {
        let access = self.access()?;
        let table = access.admin(principal)?.table(table)?.id;
        let now = self.now();
        let notes: Vec<ColumnNote> =
            notes.into_iter().map(|note| note.note(now)).collect::<Result<_>>()?;
        let store = self.store()?;
        store.put_column_notes(&table, &notes)?;
        let columns: Vec<&str> = notes.iter().map(|note| note.column.as_str()).collect();
        let event = AuditEvent::new(now, "column_metadata.updated", table.to_string());
        access.tell(event.by(principal.user_id()).with(json!({"columns": columns})));
        Ok(notes)
    }
}
