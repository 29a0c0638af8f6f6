//! Rows that a worker tells, as Arrow's IPC stream, looked through before anybody uses them: one that
//! was taken over may say that a little is as much as it likes.

use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, FieldRef};
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_message;

use crate::query::Sink;

/// What isn't rows of the engine.
#[derive(Debug)]
pub(super) struct Nonsense;

/// Reads rows, and passes them on. What it gives is whether somebody wants more.
#[derive(Default)]
pub(super) struct Decoder {
    stream: StreamDecoder,
    has_columns: bool,
    /// The frames since some rows came out.
    silent: u32,
}

/// The most frames out of which no rows come: the columns, and what has no bytes of its own.
const SILENT_MAX: u32 = 3;

impl Decoder {
    /// Takes the columns, which come once.
    pub(super) fn columns(
        &mut self,
        content: Buffer,
        sink: &mut dyn Sink,
    ) -> Result<bool, Nonsense> {
        let columns = try_schema_from_ipc_buffer(&content).map_err(|_| Nonsense)?;
        let is_usual = columns.fields().iter().all(|field| is_usual(field.data_type()));
        if std::mem::replace(&mut self.has_columns, true) || !is_usual {
            return Err(Nonsense);
        }
        let is_wanted = sink.columns(&columns.into());
        Ok(self.rows(content, sink)? && is_wanted)
    }

    /// Takes the end of the stream.
    pub(super) fn ends(&mut self, sink: &mut dyn Sink) -> Result<bool, Nonsense> {
        self.rows(Buffer::from(END), sink)
    }

    /// Takes some rows.
    pub(super) fn rows(
        &mut self,
        mut content: Buffer,
        sink: &mut dyn Sink,
    ) -> Result<bool, Nonsense> {
        // Dictionaries are kept until their rows come, and have to have some.
        self.silent += 1;
        if self.silent > SILENT_MAX || !are_plain(&content) {
            return Err(Nonsense);
        }
        // What has no bytes of its own, as NULLs, comes out with what follows it.
        while !content.is_empty() {
            // What doesn't fit together is an error there, or a panic.
            let decode = std::panic::AssertUnwindSafe(|| self.stream.decode(&mut content));
            match std::panic::catch_unwind(decode) {
                Ok(Ok(Some(rows))) => {
                    self.silent = 0;
                    if !sink.rows(rows) {
                        return Ok(false);
                    }
                }
                Ok(Ok(None)) => {}
                Ok(Err(_)) | Err(_) => return Err(Nonsense),
            }
        }
        Ok(true)
    }
}

/// How a stream of Arrow's ends.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// The most rows of one message: the engine gives them in vectors of 2,048.
const ROWS_MAX: i64 = 1 << 20;

/// Whether a type is one that the engine gives: others can stand for far more than they take.
fn is_usual(kind: &DataType) -> bool {
    let all = |mut fields: std::slice::Iter<'_, FieldRef>| fields.all(|f| is_usual(f.data_type()));
    match kind {
        DataType::Utf8View
        | DataType::BinaryView
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::RunEndEncoded(..) => false,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => is_usual(field.data_type()),
        DataType::Struct(fields) => all(fields.iter()),
        DataType::Union(fields, _) => fields.iter().all(|(_, field)| is_usual(field.data_type())),
        DataType::Dictionary(key, value) => is_usual(key) && is_usual(value),
        _ => true,
    }
}

/// Whether these messages hold their rows as they are: what is packed may say that it is of any size.
fn are_plain(content: &[u8]) -> bool {
    let mut rest = content;
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [marker @ .., a, b, c, d] = *head;
        // Without it the reader takes the length from there, and reads another message.
        if marker != [0xff; 4] {
            return false;
        }
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length == 0 {
            return after.is_empty();
        }
        let Some((message, after)) = after.split_at_checked(length) else { return false };
        let Ok(message) = root_as_message(message) else { return false };
        let dictionary = message.header_as_dictionary_batch();
        let batch = message.header_as_record_batch();
        let batch = batch.or_else(|| dictionary?.data());
        let is_packed = batch.is_some_and(|batch| batch.compression().is_some());
        let is_long = batch.is_some_and(|batch| batch.length() > ROWS_MAX);
        if is_packed || is_long || dictionary.is_some_and(|dictionary| dictionary.isDelta()) {
            return false;
        }
        let body = usize::try_from(message.bodyLength()).unwrap_or(usize::MAX);
        let Some(after) = after.get(body..) else { return false };
        rest = after;
    }
    rest.is_empty()
}
