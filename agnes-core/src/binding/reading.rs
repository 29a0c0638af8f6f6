//! Rows on their way into another language, for one that has no C interface to take them by.

use std::collections::HashSet;

use arrow::array::RecordBatchReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;

use crate::query::error_of_rows;
use crate::{Error, Kind, Result};

/// Rows that somebody reads: as a stream of Arrow IPC, or some of them at a time.
///
/// ```
/// use std::sync::Arc;
///
/// use agnes_core::arrow::array::{Int32Array, RecordBatch, RecordBatchIterator};
/// use agnes_core::binding::Reading;
///
/// let batch = RecordBatch::try_from_iter([("a", Arc::new(Int32Array::from(vec![1, 2, 3])) as _)]).unwrap();
/// let rows = RecordBatchIterator::new([Ok(batch.clone())], batch.schema());
/// let mut reading = Reading::of(Box::new(rows))?;
/// assert_eq!(reading.keys()?, ["a"]);
/// assert_eq!(reading.some(2)?.map(|batch| batch.num_rows()), Some(2));
/// assert_eq!(reading.some(2)?.map(|batch| batch.num_rows()), Some(1));
/// assert_eq!(reading.some(2)?, None);
/// # Ok::<(), agnes_core::Error>(())
/// ```
pub struct Reading {
    rows: Box<dyn RecordBatchReader + Send>,
    /// Writes them as a stream of Arrow IPC, until that has ended.
    writer: Option<StreamWriter<Vec<u8>>>,
    /// What is left of a batch.
    rest: Option<RecordBatch>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("schema", &self.rows.schema()).finish_non_exhaustive()
    }
}

impl Reading {
    /// Begins to read these.
    ///
    /// # Errors
    /// `Internal` for columns that no stream of Arrow IPC can hold.
    pub fn of(rows: Box<dyn RecordBatchReader + Send>) -> Result<Reading> {
        let writer = StreamWriter::try_new(Vec::new(), &rows.schema()).map_err(error_of_rows)?;
        Ok(Reading { rows, writer: Some(writer), rest: None })
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        self.rows.next().transpose().map_err(error_of_rows)
    }

    /// The next bytes of the stream: the columns and the first rows, then rows, then its end; then nothing.
    ///
    /// # Errors
    /// What the statement says.
    pub fn bytes(&mut self) -> Result<Option<Vec<u8>>> {
        let batch = self.some(usize::MAX)?;
        let Some(writer) = &mut self.writer else { return Ok(None) };
        let written = match &batch {
            Some(batch) => writer.write(batch),
            None => writer.finish(),
        };
        written.map_err(error_of_rows)?;
        let bytes = std::mem::take(writer.get_mut());
        if batch.is_none() {
            self.writer = None;
        }
        Ok(Some(bytes))
    }

    /// The whole stream in one piece; empty once it has ended.
    ///
    /// # Errors
    /// What the statement says.
    pub fn all_bytes(&mut self) -> Result<Vec<u8>> {
        let Some(mut writer) = self.writer.take() else { return Ok(Vec::new()) };
        while let Some(batch) = self.some(usize::MAX)? {
            writer.write(&batch).map_err(error_of_rows)?;
        }
        writer.into_inner().map_err(error_of_rows)
    }

    /// The next rows, so many at most; none at the end.
    ///
    /// # Errors
    /// What the statement says.
    pub fn some(&mut self, most: usize) -> Result<Option<RecordBatch>> {
        let next = self.rest.take().map_or_else(|| self.batch(), |rest| Ok(Some(rest)))?;
        Ok(next.map(|batch| {
            let count = batch.num_rows().min(most);
            let left = batch.num_rows() - count;
            self.rest = (left > 0).then(|| batch.slice(count, left));
            batch.slice(0, count)
        }))
    }

    /// The names of the columns, where each is the name of one column alone: by them the values of a row are told
    /// apart.
    ///
    /// # Errors
    /// `Invalid`, with the name that two columns have.
    pub fn keys(&self) -> Result<Vec<String>> {
        let schema = self.rows.schema();
        let names = || schema.fields().iter().map(|field| field.name());
        let mut seen = HashSet::new();
        match names().find(|name| !seen.insert(*name)) {
            None => Ok(names().cloned().collect()),
            Some(twice) => Err(Error::new(
                Kind::Invalid,
                format!(
                    "two columns are called `{}`: name one of them with AS, or read rows as arrays",
                    twice.escape_debug()
                ),
            )),
        }
    }
}
