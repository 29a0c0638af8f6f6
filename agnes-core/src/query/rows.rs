//! The rows of a statement, as they come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::remote::Stop;
use crate::access::{Interrupt, Watch, ended};
use crate::{Error, Kind, Result, Timestamp};

/// What a statement is given, and what it may take.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryOptions {
    /// The values of its `?` or `$1`, `$2`, …, in order.
    pub parameters: Vec<Parameter>,
    /// The most rows; the rest is left out, and [`Rows::truncated`] says so. None is no limit.
    pub max_rows: Option<u64>,
    /// The most bytes of rows, as Arrow holds them; as `max_rows`.
    pub max_bytes: Option<u64>,
    /// The time that the caller waits for rows; that of [`QueryLimits`](super::QueryLimits)
    /// when absent.
    pub time: Option<Duration>,
    /// Ends the statement, also before it has any rows to wait for: for a caller who may go away.
    pub stop: Option<Stop>,
    /// The most rows of a batch. Whoever reads millions is faster with more of them. Where they are long, as the
    /// tables' files say, fewer come, and 2,048 at most from a worker, which has little memory.
    pub batch_rows: u32,
}

impl Default for QueryOptions {
    /// No parameters, 100,000 rows, 256 MiB, batches of 2,048 rows.
    fn default() -> Self {
        QueryOptions {
            parameters: Vec::new(),
            max_rows: Some(100_000),
            max_bytes: Some(256 << 20),
            time: None,
            stop: None,
            batch_rows: 2048,
        }
    }
}

/// A value that a statement is given. It is bound, never put into the text.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// NULL.
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// BIGINT.
    Integer(i64),
    /// DOUBLE.
    Float(f64),
    /// VARCHAR.
    Text(String),
    /// BLOB.
    Bytes(Vec<u8>),
    /// TIMESTAMP.
    Timestamp(Timestamp),
}

impl From<&Parameter> for duckdb::types::Value {
    fn from(parameter: &Parameter) -> Self {
        use duckdb::types::{TimeUnit, Value};
        match parameter {
            Parameter::Null => Value::Null,
            Parameter::Bool(value) => Value::Boolean(*value),
            Parameter::Integer(value) => Value::BigInt(*value),
            Parameter::Float(value) => Value::Double(*value),
            Parameter::Text(value) => Value::Text(value.clone()),
            Parameter::Bytes(value) => Value::Blob(value.clone()),
            Parameter::Timestamp(value) => {
                Value::Timestamp(TimeUnit::Microsecond, value.as_micros())
            }
        }
    }
}

/// How long whoever asks may wait, from when she asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    begun: Instant,
    limit: Duration,
}

impl Time {
    pub(super) fn begins(limit: Duration) -> Time {
        Time { begun: Instant::now(), limit }
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begun.elapsed())
    }
}

/// What comes from the thread that runs the statement.
pub(super) enum Message {
    Columns(SchemaRef),
    Rows(RecordBatch),
    /// Nothing follows.
    End(Result<()>),
}

/// How a statement ended, which is set before its messages end: telling it waits for no reader.
#[derive(Clone, Default)]
pub(super) struct Ended(Arc<Mutex<Option<Result<()>>>>);

impl Ended {
    pub(super) fn set(&self, done: Result<()>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
    }

    fn take(&self) -> Option<Result<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How long a statement that was interrupted may take to end before its caller is let go.
const TO_END: Duration = Duration::from_secs(2);
/// How often whoever waits looks whether the statement is still wanted.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// Ends a statement from another thread.
#[derive(Clone)]
pub struct Cancel {
    interrupt: Interrupt,
    cancelled: Arc<AtomicBool>,
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

impl Cancel {
    pub(super) fn new(interrupt: Interrupt) -> Self {
        Cancel { interrupt, cancelled: Arc::default() }
    }

    /// Ends the statement; whoever waits for its rows gets `Cancelled`.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        (self.interrupt)();
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

/// The rows of a statement, in batches, as the engine makes them.
///
/// A batch has [`QueryOptions::batch_rows`] rows at most. The engine runs a few of them ahead of whoever reads. Dropping it ends the statement.
/// After the last batch, or an error, there are no more.
pub struct Rows {
    schema: SchemaRef,
    messages: Receiver<Message>,
    ended: Ended,
    cancel: Cancel,
    stop: Option<Stop>,
    watch: Arc<Watch>,
    budget: Duration,
    limit: Duration,
    rows_left: Option<u64>,
    bytes_left: Option<u64>,
    truncated: bool,
    over: bool,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Rows {
    /// Waits for the columns of a statement that has begun.
    pub(super) fn begin(
        messages: Receiver<Message>,
        ended: Ended,
        cancel: Cancel,
        watch: Arc<Watch>,
        options: &QueryOptions,
        time: Time,
    ) -> Result<Rows> {
        let mut rows = Rows {
            schema: SchemaRef::new(arrow::datatypes::Schema::empty()),
            messages,
            ended,
            cancel,
            stop: options.stop.clone(),
            watch,
            budget: time.left(),
            limit: time.limit,
            rows_left: options.max_rows,
            bytes_left: options.max_bytes,
            truncated: false,
            over: false,
        };
        match rows.wait()? {
            Message::Columns(schema) => rows.schema = schema,
            Message::Rows(_) => return Err(Error::internal("rows came before their columns")),
            Message::End(Ok(())) => return Err(Error::internal("no columns came")),
            Message::End(Err(error)) => {
                rows.over = true;
                return Err(rows.told(error));
            }
        }
        Ok(rows)
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether rows were left out because of a limit. Known after the last batch.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// Ends the statement from another thread.
    pub fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Reads all rows into memory.
    ///
    /// # Errors
    /// As the batches.
    pub fn read_all(mut self) -> Result<AllRows> {
        let batches = self.by_ref().collect::<Result<Vec<_>>>()?;
        Ok(AllRows { schema: self.schema.clone(), batches, truncated: self.truncated })
    }

    /// The next message, within what is left of the time.
    fn wait(&mut self) -> Result<Message> {
        loop {
            let begun = Instant::now();
            let message = self.messages.recv_timeout(self.budget.min(TICK));
            self.budget = self.budget.saturating_sub(begun.elapsed());
            match message {
                Ok(message) => return Ok(message),
                Err(RecvTimeoutError::Disconnected) => {
                    if let Some(done) = self.ended.take() {
                        return Ok(Message::End(done));
                    }
                    self.over = true;
                    return Err(self.told(Error::internal("the engine gave up on the statement")));
                }
                Err(RecvTimeoutError::Timeout) if self.budget.is_zero() => {
                    self.give_up();
                    return Err(Error::new(
                        Kind::Limit,
                        format!(
                            "the query ran longer than the limit of {} s and was ended",
                            self.limit.as_secs_f64()
                        ),
                    )
                    .with(crate::Key::Reason, "timeout"));
                }
                // An interrupt that came before the engine had begun was for nobody.
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.untouched() {
                        self.give_up();
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Ends the statement, and waits a moment until it has.
    fn give_up(&mut self) {
        self.over = true;
        (self.cancel.interrupt)();
        let end = Instant::now() + TO_END;
        let left = || end.saturating_duration_since(Instant::now());
        // What comes in meanwhile is too late.
        while self.messages.recv_timeout(left()).is_ok() {}
    }

    /// An error as the caller should hear it: an interrupt has a reason.
    fn told(&self, error: Error) -> Error {
        if self.watch.has_ended() {
            return ended();
        }
        match error.kind() {
            Kind::Cancelled => cancelled(),
            _ => error,
        }
    }

    /// Whether nobody has ended the statement.
    fn untouched(&self) -> Result<()> {
        self.watch.check()?;
        let is_stopped = self.stop.as_ref().is_some_and(Stop::is_stopped);
        match self.cancel.is_cancelled() || is_stopped {
            true => Err(cancelled()),
            false => Ok(()),
        }
    }

    /// As much of a batch as the limits leave.
    fn within_limits(&mut self, batch: RecordBatch) -> Option<RecordBatch> {
        let mut keep = batch.num_rows();
        if let Some(left) = self.rows_left {
            keep = keep.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        if let Some(left) = self.bytes_left {
            let bytes = u64::try_from(batch.get_array_memory_size()).unwrap_or(u64::MAX);
            // The rows of a batch count alike.
            if bytes > left {
                let rows = u128::from(batch.num_rows() as u64) * u128::from(left);
                let fit = rows / u128::from(bytes.max(1));
                keep = keep.min(usize::try_from(fit).unwrap_or(usize::MAX));
            }
            self.bytes_left = Some(left.saturating_sub(bytes));
        }
        if keep < batch.num_rows() {
            self.truncated = true;
            self.finish();
        }
        self.rows_left = self.rows_left.map(|left| left.saturating_sub(keep as u64));
        (keep > 0).then(|| if keep == batch.num_rows() { batch } else { batch.slice(0, keep) })
    }

    /// Lets go of a statement whose rows nobody wants any more.
    fn finish(&mut self) {
        if !self.over {
            self.over = true;
            (self.cancel.interrupt)();
        }
    }
}

pub(super) fn cancelled() -> Error {
    Error::new(Kind::Cancelled, "the query was cancelled")
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            // Rows that were made before the session ended are nobody's either.
            if let Err(error) = self.untouched() {
                self.finish();
                return Some(Err(error));
            }
            match self.wait() {
                Err(error) => return Some(Err(error)),
                Ok(Message::Columns(_)) => {}
                // Something may have been taken away while they came.
                Ok(Message::Rows(_)) if self.untouched().is_err() => {}
                Ok(Message::Rows(batch)) => {
                    if let Some(batch) = self.within_limits(batch) {
                        return Some(Ok(batch));
                    }
                }
                Ok(Message::End(done)) => {
                    self.over = true;
                    // An interrupt may look like the end of the rows.
                    let whole = done.and_then(|()| self.untouched());
                    return whole.err().map(|error| Err(self.told(error)));
                }
            }
        }
        None
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.finish();
    }
}

/// All rows of a statement, in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct AllRows {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// Whether some were left out because of a limit.
    pub truncated: bool,
}

impl AllRows {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
