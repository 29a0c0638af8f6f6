//! `Rows`: the rows of a statement. `index.js` makes arrays, objects and Arrow tables of what is read here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use agnes_core::binding::{Along, Handle, Reading};
use agnes_core::query::{Reader, Stop};
use agnes_core::value::type_name;
use arrow::datatypes::SchemaRef;
use napi::bindgen_prelude::{Buffer, Env, External, ToNapiValue};
use napi_derive::napi;

use crate::call::{Promised, promise};
use crate::value::Batch;

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
    /// Whether some were left out, as far as anybody knew when they were closed.
    truncated: Mutex<Option<bool>>,
    along: [Arc<Along>; 2],
    ends: Ends,
}

/// What ends a statement: its rows are closed, or any of the others.
#[derive(Clone)]
pub(crate) struct Ends {
    closed: Arc<AtomicBool>,
    others: [Arc<AtomicBool>; 3],
}

impl Ends {
    pub(crate) fn of(others: [Arc<AtomicBool>; 3]) -> Ends {
        Ends { closed: Arc::default(), others }
    }

    pub(crate) fn stop(&self) -> Stop {
        let Ends { closed, others } = self.clone();
        Stop::asking(move || others.iter().chain([&closed]).any(|end| end.load(Ordering::SeqCst)))
    }
}

impl Rows {
    /// The rows of a statement that has begun.
    pub(crate) fn of(reader: Reader, ends: Ends, along: [Arc<Along>; 2]) -> Rows {
        let schema = reader.schema().clone();
        let reader = Handle::new("the statement", reader);
        along.iter().for_each(|along| along.add(&reader));
        Rows { reader, schema, readers: Arc::default(), truncated: Mutex::default(), along, ends }
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
        self.ends.closed.store(true, Ordering::SeqCst);
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
        let (reader, ends) = (self.reader.get(), self.ends.clone());
        let (readers, along) = (self.readers.clone(), self.along.clone());
        let begin = move || {
            let reading = Mutex::new(Reading::of(reader?.stream(ends.stop())?)?);
            let open = Handle::new("the reading of these rows", reading);
            along.iter().chain([&readers]).for_each(|along| along.add(&open));
            Ok(Open(open))
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
pub struct Open(Handle<Mutex<Reading>>);

impl Open {
    fn does<T: Send + 'static, V: ToNapiValue + 'static>(
        &self,
        env: Env,
        work: impl FnOnce(&mut Reading) -> agnes_core::Result<T> + Send + 'static,
        made: impl FnOnce(T) -> V + Send + 'static,
    ) -> Promised {
        let open = self.0.get();
        promise(env, move || work(&mut open?.lock().unwrap_or_else(PoisonError::into_inner)), made)
    }
}

/// The next bytes of a stream of Arrow IPC; null at its end. For `index.js`, as what follows.
#[napi(skip_typescript)]
pub fn next_bytes(env: Env, reading: &External<Open>) -> Promised {
    reading.does(env, Reading::bytes, |bytes| bytes.map(Buffer::from))
}

/// The whole stream of Arrow IPC.
#[napi(skip_typescript)]
pub fn all_bytes(env: Env, reading: &External<Open>) -> Promised {
    reading.does(env, Reading::all_bytes, Buffer::from)
}

/// The columns of the next rows, which can be the keys of objects where `as_objects` says so; null at the end.
#[napi(skip_typescript)]
pub fn next_rows(env: Env, reading: &External<Open>, as_objects: bool) -> Promised {
    let some = move |reading: &mut Reading| {
        as_objects.then(|| reading.keys()).transpose()?;
        reading.some(ROWS_A_TURN)
    };
    reading.does(env, some, |rows| rows.map(Batch))
}

/// Ends the reading.
#[napi(skip_typescript)]
pub fn end_reading(env: Env, reading: &External<Open>) -> Promised {
    let open = reading.0.clone();
    let close = move || {
        open.close();
        Ok(())
    };
    promise(env, close, |()| ())
}
