//! Rows that a program holds, read as a file of them would be.

use std::fs;
use std::io::{Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatchReader;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};

use super::inputs::Input;
use super::{FilesConnector, FilesOptions};
use crate::extract::ExtractWriter;
use crate::{Error, ExternalName, Key, Kind, Result, TableName};

impl ExtractWriter {
    /// Writes a table of JSON records, one object a line (UTF-8): types are told as those of a file are, so
    /// that what looks like a day or a time in every row is one.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use agnes_core::extract::WriteMode;
    /// use agnes_core::{ExtractWriter, TableName, Timestamp};
    ///
    /// let now = Timestamp::parse("2026-11-20T12:00:00Z").unwrap();
    /// let folder = dir.path().join("shop");
    /// let mut writer = ExtractWriter::begin(&folder, WriteMode::Replace, now)?;
    /// let orders = TableName::parse("orders")?;
    /// writer.table_from_json(&orders, br#"{"id": 1, "day": "2026-02-03"}"#)?;
    /// assert_eq!(writer.rows(&orders), Some(1));
    /// writer.finish()?;
    /// # Ok::<(), agnes_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for no record, for what is no JSON, and for a value of another type than those before it.
    pub fn table_from_json(&mut self, name: &TableName, lines: &[u8]) -> Result<()> {
        if lines.trim_ascii().is_empty() {
            let message = "there is no record: nothing tells the columns";
            return Err(Error::new(Kind::Invalid, message).with(Key::Table, name));
        }
        let input = Input::records(self.scratch(name), name);
        fs::write(&input.path, lines).map_err(|e| Error::io("write", &input.path, e))?;
        let read = FilesConnector::new(Vec::new(), FilesOptions::default()).read(&input, self);
        // What is left of it goes with the rest of what lies there.
        let _ = fs::remove_file(&input.path);
        read.map_err(|error| {
            let file = format!("`{}`", input.path.display());
            let message = error.message().replace(&file, "the records");
            Error::new(error.kind(), message).with(Key::Table, name).because(error)
        })
    }

    /// Writes Arrow rows as a table, or as one shard of it.
    ///
    /// # Errors
    /// `Invalid` for what the reader says; otherwise as [`ExtractWriter::table`].
    pub fn table_from_batches(
        &mut self,
        name: &TableName,
        shard: Option<&ExternalName>,
        batches: impl RecordBatchReader,
    ) -> Result<()> {
        let unread = |error: ArrowError| {
            let message = format!("the rows can't be read as Arrow: {error}");
            Error::new(Kind::Invalid, message).with(Key::Table, name).because(error)
        };
        let mut table = match shard {
            Some(shard) => self.shard(name, shard, batches.schema())?,
            None => self.table(name, batches.schema())?,
        };
        for batch in batches {
            table.write(&batch.map_err(unread)?)?;
        }
        table.finish()
    }

    /// Writes Arrow IPC, a file or a stream, as a table, or as one shard of it.
    ///
    /// # Errors
    /// As [`ExtractWriter::table_from_batches`].
    pub fn table_from_ipc(
        &mut self,
        name: &TableName,
        shard: Option<&ExternalName>,
        mut ipc: impl Read + Seek,
    ) -> Result<()> {
        let unsound = |what: &str| {
            let message = format!("the rows can't be read as Arrow{what}");
            Error::new(Kind::Invalid, message).with(Key::Table, name)
        };
        // The bytes are anybody's, and the readers assert here and there.
        let guarded = catch_unwind(AssertUnwindSafe(|| {
            let mut magic = Vec::new();
            let read = ipc.by_ref().take(6).read_to_end(&mut magic).and_then(|_| ipc.rewind());
            read.map_err(|e| unsound(&format!(": {e}")).because(e))?;
            let unread = |e: ArrowError| unsound(&format!(": {e}")).because(e);
            match magic == b"ARROW1" {
                true => self.table_from_batches(
                    name,
                    shard,
                    FileReader::try_new(ipc, None).map_err(unread)?,
                ),
                false => self.table_from_batches(
                    name,
                    shard,
                    StreamReader::try_new(ipc, None).map_err(unread)?,
                ),
            }
        }));
        guarded.unwrap_or_else(|_| Err(unsound("")))
    }
}
