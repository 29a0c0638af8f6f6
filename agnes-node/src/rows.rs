//! `Rows`: the rows of a statement. `index.js` makes arrays, objects and Arrow tables of what is read here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use agnes_core::binding::{Along, Handle};
use agnes_core::query::{QueryOptions, Reader, Stop, error_of_rows};
use agnes_core::value::type_name;
use agnes_core::{Error, Kind, Session};
use arrow::array::RecordBatchReader;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use napi::bindgen_prelude::{Buffer, Env, External, ToNapiValue};
use napi_derive::napi;

use crate::call::{Promised, promise};
use crate::session::Run;
use crate::value::Records;

/// How many rows are made values of at a time: nothing else runs meanwhile.
const ROWS_A_TURN: usize = 4096;

/// The rows of a statement, which has begun: they come as they are read.
///
/// Whoever reads them a second time has the statement run again, in the same session and over the same tables.
/// Rows that aren't read to their end are to be closed: the statement waits for its reader.
#[napi]
pub struct Rows {
    reader: Handle<Reader>,
    schema: SchemaRef,
    /// Whoever reads them.
    readers: Arc<Along>,
    /// Whether they are closed: the statement ends then.
    ended: Arc<AtomicBool>,
    /// Whether some were left out, as far as anybody knew when they were closed.
    truncated: Mutex<Option<bool>>,
    along: [Arc<Along>; 2],
    stop: Arc<dyn Fn() -> Stop + Send + Sync>,
}

impl Rows {
    /// Begins a statement in a session.
    pub(crate) fn begin(
        session: Arc<Session>,
        options: QueryOptions,
        ends: [Arc<AtomicBool>; 3],
        along: [Arc<Along>; 2],
        run: Run,
    ) -> agnes_core::Result<Rows> {
        let ended = Arc::<AtomicBool>::default();
        let ends: Vec<_> = ends.into_iter().chain([ended.clone()]).collect();
        let stop = move || {
            let ends = ends.clone();
            Stop::asking(move || ends.iter().any(|end| end.load(Ordering::SeqCst)))
        };
        let reader = Reader::begin(session, options, stop(), run)?;
        let schema = reader.schema().clone();
        let reader = Handle::new("the statement", reader);
        along.iter().for_each(|along| along.add(&reader));
        let (readers, truncated) = (Arc::default(), Mutex::default());
        Ok(Rows { reader, schema, readers, ended, truncated, along, stop: Arc::new(stop) })
    }
}

#[napi]
impl Rows {
    /// The names of the columns.
    #[napi(getter)]
    pub fn columns(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The types of the columns, in their order.
    #[napi(getter)]
    pub fn types(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| type_name(field)).collect()
    }

    /// Whether rows were left out because of `maxRows` or `maxBytes`; `null` until they were read.
    #[napi(getter, ts_return_type = "boolean | null")]
    pub fn truncated(&self) -> Option<bool> {
        let mut known = self.truncated.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(reader) = self.reader.get() {
            *known = reader.truncated();
        }
        *known
    }

    /// Lets go of them, and ends the statement.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close(&self, env: Env) -> Promised {
        self.ended.store(true, Ordering::SeqCst);
        // What is known of them stays known.
        self.truncated();
        let (reader, readers) = (self.reader.clone(), self.readers.clone());
        let close = move || {
            readers.close();
            reader.close();
            Ok(())
        };
        promise(env, close, |()| ())
    }

    /// Begins to read them. For `index.js`.
    #[napi(skip_typescript)]
    pub fn read(&self, env: Env) -> Promised {
        let (reader, stop) = (self.reader.get(), self.stop.clone());
        let (readers, along) = (self.readers.clone(), self.along.clone());
        let names = self.columns().into();
        let begin = move || {
            let rows = reader?.stream(stop())?;
            let writer =
                StreamWriter::try_new(Vec::new(), &rows.schema()).map_err(error_of_rows)?;
            let open = Open { rows, writer: Some(writer), rest: None };
            let open = Handle::new("the reading of these rows", Mutex::new(open));
            along.iter().chain([&readers]).for_each(|along| along.add(&open));
            Ok(Reading { open, names })
        };
        promise(env, begin, External::new)
    }

    /// What they are, for people.
    #[napi(js_name = "toString")]
    pub fn shown(&self) -> String {
        let columns = self.columns().into_iter().zip(self.types());
        let columns: Vec<_> = columns.map(|(name, kind)| format!("{name} {kind}")).collect();
        format!("Rows {{ {} }}", columns.join(", "))
    }
}

/// Rows that are being read, by one reader.
pub struct Reading {
    open: Handle<Mutex<Open>>,
    names: Arc<[String]>,
}

struct Open {
    rows: Box<dyn RecordBatchReader + Send>,
    /// Writes them as a stream of Arrow IPC, until that has ended.
    writer: Option<StreamWriter<Vec<u8>>>,
    /// What is left of a batch that is made values of.
    rest: Option<RecordBatch>,
}

impl Open {
    fn batch(&mut self) -> agnes_core::Result<Option<RecordBatch>> {
        self.rows.next().transpose().map_err(error_of_rows)
    }

    /// The next bytes of the stream: the columns and the first rows, then rows, then its end.
    fn bytes(&mut self) -> agnes_core::Result<Option<Vec<u8>>> {
        let batch = self.batch()?;
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

    /// The whole stream.
    fn all_bytes(&mut self) -> agnes_core::Result<Vec<u8>> {
        let Some(mut writer) = self.writer.take() else { return Ok(Vec::new()) };
        while let Some(batch) = self.batch()? {
            writer.write(&batch).map_err(error_of_rows)?;
        }
        writer.into_inner().map_err(error_of_rows)
    }

    /// Some more rows.
    fn some(&mut self) -> agnes_core::Result<Option<RecordBatch>> {
        let next = self.rest.take().map_or_else(|| self.batch(), |rest| Ok(Some(rest)))?;
        Ok(next.map(|batch| {
            let count = batch.num_rows().min(ROWS_A_TURN);
            let left = batch.num_rows() - count;
            self.rest = (left > 0).then(|| batch.slice(count, left));
            batch.slice(0, count)
        }))
    }
}

impl Reading {
    fn does<T: Send + 'static, V: ToNapiValue + 'static>(
        &self,
        env: Env,
        work: impl FnOnce(&mut Open) -> agnes_core::Result<T> + Send + 'static,
        made: impl FnOnce(T) -> V + Send + 'static,
    ) -> Promised {
        let open = self.open.get();
        promise(env, move || work(&mut open?.lock().unwrap_or_else(PoisonError::into_inner)), made)
    }
}

/// The next bytes of a stream of Arrow IPC; null at its end. For `index.js`, as what follows.
#[napi(skip_typescript)]
pub fn next_bytes(env: Env, reading: &External<Reading>) -> Promised {
    reading.does(env, Open::bytes, |bytes| bytes.map(Buffer::from))
}

/// The whole stream of Arrow IPC.
#[napi(skip_typescript)]
pub fn all_bytes(env: Env, reading: &External<Reading>) -> Promised {
    reading.does(env, Open::all_bytes, Buffer::from)
}

/// The next rows, as arrays or as objects; null at the end.
#[napi(skip_typescript)]
pub fn next_rows(env: Env, reading: &External<Reading>, as_objects: bool) -> Promised {
    let names = as_objects.then(|| reading.names.clone());
    let some = move |open: &mut Open| match names.as_deref().and_then(twice) {
        Some(name) => Err(Error::new(
            Kind::Invalid,
            format!(
                "two columns are called `{}`: name one of them with AS, or read rows as arrays",
                name.escape_debug()
            ),
        )),
        None => Ok(open.some()?.map(|batch| Records { batch, names })),
    };
    reading.does(env, some, |records| records)
}

/// Ends the reading.
#[napi(skip_typescript)]
pub fn end_reading(env: Env, reading: &External<Reading>) -> Promised {
    let open = reading.open.clone();
    let close = move || {
        open.close();
        Ok(())
    };
    promise(env, close, |()| ())
}

/// A name that is there twice.
fn twice(names: &[String]) -> Option<&String> {
    names
        .iter()
        .enumerate()
        .find(|(at, name)| names.iter().take(*at).any(|n| n == *name))
        .map(|(_, n)| n)
}
