//! Rows on their way out of the engine, joined: it gives them in vectors of 2,048, and whoever reads millions of
//! them spends her time with handing over and putting together.

use std::time::{Duration, Instant};

use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::{Error, Result};

/// The most batches of the engine in one: 131,072 rows.
const MOST: usize = 64;
/// The most bytes that are put together: a server offers a batch at a time, and waits for its reader to take it.
const LARGE: usize = 1 << 20;
/// What comes later than this after the rows before it went out isn't kept waiting for more.
const SOON: Duration = Duration::from_millis(5);

/// Joins batches: the first goes out at once, then two in one, four, and so on, as long as they come quickly.
pub(super) struct Joined {
    schema: SchemaRef,
    /// How many go out in one now.
    wanted: usize,
    waiting: Vec<RecordBatch>,
    bytes: usize,
    since: Instant,
}

impl Joined {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let joins = schema.fields().iter().all(|field| joins(field.data_type()));
        let wanted = if joins { 1 } else { 0 };
        Joined { schema, wanted, waiting: Vec::new(), bytes: 0, since: Instant::now() }
    }

    /// Takes a batch; gives what is to go out now.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        if self.wanted == 0 {
            return Ok(Some(batch));
        }
        let bytes = batch.get_array_memory_size();
        // What is large isn't put together with anything: texts of one column have 2 GiB at most.
        let before = if self.bytes + bytes > LARGE { self.rest()? } else { None };
        self.bytes += bytes;
        self.waiting.push(batch);
        if before.is_some() {
            return Ok(before);
        }
        let is_full = self.waiting.len() >= self.wanted || self.bytes >= LARGE;
        if !is_full && self.since.elapsed() < SOON {
            return Ok(None);
        }
        if is_full {
            self.wanted = (self.wanted * 2).min(MOST);
        }
        self.rest()
    }

    /// What waits.
    pub(super) fn rest(&mut self) -> Result<Option<RecordBatch>> {
        self.bytes = 0;
        self.since = Instant::now();
        let waiting = std::mem::take(&mut self.waiting);
        match waiting.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            several => concat_batches(&self.schema, several)
                .map(Some)
                .map_err(|e| Error::internal("rows don't fit").because(e)),
        }
    }
}

/// Whether columns of a type are joined as they are. Joined dictionaries would have a value more than once.
fn joins(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(..) | DataType::Union(..) | DataType::RunEndEncoded(..) => false,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => joins(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| joins(field.data_type())),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, StringArray, StringDictionaryBuilder};
    use arrow::datatypes::UInt8Type;

    use super::*;

    fn batch(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([("x", column)]).unwrap()
    }

    /// How many rows go out after each batch of 100, and at the end.
    fn out(joined: &mut Joined, batches: usize, one: &RecordBatch) -> Vec<usize> {
        let mut out = Vec::new();
        for _ in 0..batches {
            out.extend(joined.push(one.clone()).unwrap().map(|batch| batch.num_rows()));
        }
        out.extend(joined.rest().unwrap().map(|batch| batch.num_rows()));
        out
    }

    /// One for which nothing is late, however slow the machine is.
    fn patient(one: &RecordBatch) -> Joined {
        let mut joined = Joined::new(one.schema());
        joined.since = Instant::now() + Duration::from_secs(3600);
        joined
    }

    #[test]
    fn batches_grow_and_nothing_is_lost() {
        let one = batch(Arc::new(Int32Array::from_iter_values(0..100)));
        let mut joined = patient(&one);
        assert_eq!(joined.push(one.clone()).unwrap().unwrap().num_rows(), 100);
        joined.since = Instant::now() + Duration::from_secs(3600);
        assert!(joined.push(one.clone()).unwrap().is_none());
        assert_eq!(joined.push(one.clone()).unwrap().unwrap().num_rows(), 200);
        let counts = out(&mut joined, 1000, &one);
        assert_eq!(counts.iter().sum::<usize>(), 100_000);
        assert!(counts.iter().all(|rows| *rows <= MOST * 100));
    }

    #[test]
    fn what_comes_late_goes_out_at_once() {
        let one = batch(Arc::new(Int32Array::from_iter_values(0..100)));
        let mut joined = Joined::new(one.schema());
        for _ in 0..5 {
            joined.since = Instant::now() - SOON;
            assert!(joined.push(one.clone()).unwrap().is_some());
        }
    }

    #[test]
    fn large_rows_are_not_joined() {
        let long = "x".repeat(LARGE);
        let one = batch(Arc::new(StringArray::from_iter_values([long])));
        let mut joined = patient(&one);
        joined.wanted = MOST;
        assert_eq!(out(&mut joined, 3, &one), [1, 1, 1]);
        let small = batch(Arc::new(StringArray::from_iter_values(["x"])));
        let mut joined = patient(&one);
        joined.wanted = MOST;
        for (given, out) in [(&small, None), (&small, None), (&one, Some(2)), (&small, Some(1))] {
            let rows = joined.push(given.clone()).unwrap().map(|batch| batch.num_rows());
            assert_eq!(rows, out);
        }
        assert_eq!(joined.rest().unwrap().map(|batch| batch.num_rows()), Some(1));
    }

    #[test]
    fn dictionaries_are_not_joined() {
        let mut words = StringDictionaryBuilder::<UInt8Type>::new();
        words.extend([Some("a"), Some("b")]);
        let one = batch(Arc::new(words.finish()));
        assert_eq!(out(&mut patient(&one), 3, &one), [2, 2, 2]);
    }
}
