//! Rows that are looked at first and read later, perhaps more than once: what somebody at a notebook does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatchReader;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchIterator};

use super::remote::Stop;
use super::rows::{AllRows, QueryOptions, Rows};
use super::session::Session;
use crate::{Error, Result};

/// A statement that has begun, and its rows.
///
/// Whoever reads them first reads the statement that runs. Whoever reads them again has it run again, in the
/// same session and so over the same tables; a result that was looked at to its end is kept instead.
pub struct Reader {
    session: Arc<Session>,
    run: Box<Run>,
    options: QueryOptions,
    schema: SchemaRef,
    there: Mutex<There>,
    truncated: Arc<Mutex<Option<bool>>>,
}

/// The rows of a batch: somebody who asks so reads all that there is, and as soon as she can.
const BATCH_ROWS: u32 = 65_536;

type Run = dyn Fn(&Session, &QueryOptions) -> Result<Rows> + Send + Sync;

/// What is there of the rows.
enum There {
    /// They come.
    Coming(Box<Rows>),
    /// All of them.
    All(Arc<AllRows>),
    /// Somebody has taken them.
    Taken,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("schema", &self.schema).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    /// Begins a statement. `stop` ends it, as [`QueryOptions::stop`].
    ///
    /// # Errors
    /// What `run` says.
    pub fn begin(
        session: Arc<Session>,
        options: QueryOptions,
        stop: Stop,
        run: impl Fn(&Session, &QueryOptions) -> Result<Rows> + Send + Sync + 'static,
    ) -> Result<Reader> {
        let options = QueryOptions { stop: Some(stop), batch_rows: BATCH_ROWS, ..options };
        let rows = run(&session, &options)?;
        Ok(Reader {
            session,
            run: Box::new(run),
            options,
            schema: rows.schema().clone(),
            there: Mutex::new(There::Coming(Box::new(rows))),
            truncated: Arc::default(),
        })
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether rows were left out because of a limit; none until somebody has read them.
    pub fn truncated(&self) -> Option<bool> {
        *locked(&self.truncated)
    }

    /// Takes what is there; begins the statement again where nothing is. `stop` ends it then.
    fn take(&self, stop: Stop) -> Result<There> {
        let mut there = locked(&self.there);
        match std::mem::replace(&mut *there, There::Taken) {
            There::All(all) => {
                *there = There::All(all.clone());
                Ok(There::All(all))
            }
            There::Taken => {
                drop(there);
                let options = QueryOptions { stop: Some(stop), ..self.options.clone() };
                Ok(There::Coming(Box::new((self.run)(&self.session, &options)?)))
            }
            coming => Ok(coming),
        }
    }

    /// The rows as they come, for Arrow's C interface.
    ///
    /// # Errors
    /// As [`Session::query`], where the statement has to run again.
    pub fn stream(&self, stop: Stop) -> Result<Box<dyn RecordBatchReader + Send>> {
        let schema = self.schema.clone();
        Ok(match self.take(stop)? {
            There::Coming(rows) => {
                Box::new(Stream { schema, rows: *rows, truncated: self.truncated.clone() })
            }
            There::All(all) => all.stream(),
            There::Taken => Box::new(RecordBatchIterator::new([], schema)),
        })
    }

    /// All rows, in memory.
    ///
    /// # Errors
    /// As [`Rows::read_all`], and as [`Session::query`] where the statement has to run again.
    pub fn read_all(&self, stop: Stop) -> Result<Arc<AllRows>> {
        match self.take(stop)? {
            There::Coming(rows) => {
                let all = rows.read_all()?;
                *locked(&self.truncated) = Some(all.truncated);
                Ok(Arc::new(all))
            }
            There::All(all) => Ok(all),
            There::Taken => Err(Error::internal("there are no rows")),
        }
    }

    /// The first rows, and whether there are more. Where these are all, they are kept; otherwise the statement
    /// ends, since nobody knows whether the rest will ever be read.
    ///
    /// # Errors
    /// As [`Reader::read_all`].
    pub fn first(&self, most: usize, stop: Stop) -> Result<(RecordBatch, bool)> {
        let mut rows = match self.take(stop)? {
            There::Coming(rows) => rows,
            There::All(all) => return Ok((all.first(most)?, all.len() > most)),
            There::Taken => return Err(Error::internal("there are no rows")),
        };
        let mut batches = Vec::new();
        let mut count = 0;
        while count <= most
            && let Some(batch) = rows.next()
        {
            let batch = batch?;
            count += batch.num_rows();
            batches.push(batch);
        }
        let next = if count > most { rows.next().transpose()? } else { None };
        let truncated = rows.truncated();
        let all = AllRows { schema: self.schema.clone(), batches, truncated };
        let first = all.first(most)?;
        if next.is_none() {
            *locked(&self.truncated) = Some(truncated);
            *locked(&self.there) = There::All(Arc::new(all));
        }
        Ok((first, next.is_some() || count > most))
    }
}

/// Rows on their way.
struct Stream {
    schema: SchemaRef,
    rows: Rows,
    truncated: Arc<Mutex<Option<bool>>>,
}

impl Iterator for Stream {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.rows.next();
        if next.is_none() {
            *locked(&self.truncated) = Some(self.rows.truncated());
        }
        next.map(|batch| batch.map_err(|error| ArrowError::ExternalError(Box::new(error))))
    }
}

impl RecordBatchReader for Stream {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// What a reader of rows says is wrong: what a statement has said, as it said it.
pub(crate) fn error_of_rows(error: ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(source) => match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(other) => {
                Error::internal("rows can't be read").because(ArrowError::ExternalError(other))
            }
        },
        other => Error::internal("rows can't be read").because(other),
    }
}

impl AllRows {
    /// The rows, for Arrow's C interface.
    pub fn stream(&self) -> Box<dyn RecordBatchReader + Send> {
        let batches = self.batches.clone().into_iter().map(Ok);
        Box::new(RecordBatchIterator::new(batches, self.schema.clone()))
    }

    /// The first rows, in one batch.
    ///
    /// # Errors
    /// `Internal`.
    pub fn first(&self, most: usize) -> Result<RecordBatch> {
        let mut left = most;
        let some = self.batches.iter().map(|batch| {
            let some = batch.slice(0, batch.num_rows().min(left));
            left -= some.num_rows();
            some
        });
        arrow::compute::concat_batches(&self.schema, &some.collect::<Vec<_>>())
            .map_err(|e| Error::internal("rows don't fit").because(e))
    }
}
