//! What Agnes and a worker say to each other, over a socket that both have from the start.
//!
//! A frame is the length of its content (4 bytes, little endian), a byte that says what it is, and the
//! content: JSON, a text, or messages of Arrow's IPC stream. Agnes asks, the worker answers, one
//! thing after the other; [`Tag`] says what answers what. A worker that was taken over by a statement
//! may say anything: whoever reads it believes no length and no text.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;

use arrow::buffer::{Buffer, MutableBuffer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, Key, Kind, Result};

/// The version of all this. Both ends come from one build, or say why they can't talk.
pub(super) const VERSION: u32 = 2;
/// The most bytes of a frame: a piece of rows is made to fit.
pub(super) const FRAME_MAX: usize = 64 << 20;
/// The longest message of an error, characters.
const MESSAGE_MAX: usize = 4100;
/// How much is read at a time where frames are small, bytes.
const READ: usize = 64 << 10;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    /// Asks the worker to open its instance; answered by `Ready` or `Failed`.
    Open = 1,
    /// The instance is open, behind these walls.
    Ready,
    /// Asks for the parse tree of a text; answered by `Text` or `Failed`.
    Parse,
    /// Asks for the text of a parse tree; answered by `Text` or `Failed`.
    Write,
    /// What was asked for.
    Text,
    /// Asks for the rows of a statement: answered by `Columns`, any number of `Rows`, and `Done`; or
    /// at any moment by `Failed`.
    Run,
    /// Asks whether a statement may run that was made of the one that runs; answered by `Yes` or
    /// `Failed`, after its tree was asked for or not.
    May,
    /// It may.
    Yes,
    /// The columns, as Arrow's schema.
    Columns,
    /// Some rows.
    Rows,
    /// The statement has ended.
    Done,
    /// What was asked for went wrong: an error.
    Failed,
    /// Asks for some statements to be run that give no rows: answered by `Done` or `Failed`.
    Execute,
    /// Asks for the rows of a query as texts: answered by `Text`, which is JSON, or `Failed`.
    Texts,
    /// Asks what the parquet file at a path holds: answered by `Text`, which is JSON, or `Failed`.
    Look,
}

impl Tag {
    fn of(byte: u8) -> Option<Tag> {
        const ALL: [Tag; 15] = [
            Tag::Open,
            Tag::Ready,
            Tag::Parse,
            Tag::Write,
            Tag::Text,
            Tag::Run,
            Tag::May,
            Tag::Yes,
            Tag::Columns,
            Tag::Rows,
            Tag::Done,
            Tag::Failed,
            Tag::Execute,
            Tag::Texts,
            Tag::Look,
        ];
        ALL.into_iter().find(|tag| *tag as u8 == byte)
    }
}

/// One end of the socket.
pub(super) struct Line {
    // As files, they need no system call that is for sockets alone.
    read: BufReader<File>,
    write: File,
}

impl Line {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Line> {
        let write = File::from(socket.try_clone()?);
        Ok(Line { read: BufReader::with_capacity(READ, File::from(socket)), write })
    }

    /// Says something.
    pub(super) fn say(&mut self, tag: Tag, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).ok().filter(|_| content.len() <= FRAME_MAX);
        let length = length.ok_or(io::ErrorKind::FileTooLarge)?;
        let mut head = [tag as u8; 5];
        head[..4].copy_from_slice(&length.to_le_bytes());
        let mut parts = [io::IoSlice::new(&head), io::IoSlice::new(content)];
        let mut parts = &mut parts[..];
        while !parts.is_empty() {
            match self.write.write_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => io::IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says something as JSON.
    pub(super) fn tell(&mut self, tag: Tag, content: &impl Serialize) -> io::Result<()> {
        self.say(tag, &serde_json::to_vec(content)?)
    }

    /// Hears the next frame. Its content is aligned as Arrow wants it.
    pub(super) fn hear(&mut self) -> io::Result<(Tag, Buffer)> {
        let mut head = [0; 5];
        self.read.read_exact(&mut head)?;
        let [length @ .., tag] = head;
        let (length, tag) = (u32::from_le_bytes(length) as usize, Tag::of(tag));
        let tag = tag.filter(|_| length <= FRAME_MAX).ok_or(io::ErrorKind::InvalidData)?;
        let mut content = MutableBuffer::from_len_zeroed(length);
        self.read.read_exact(content.as_slice_mut())?;
        Ok((tag, content.into()))
    }
}

/// An error on its way.
#[derive(Serialize, Deserialize)]
pub(super) struct Fault {
    kind: Kind,
    message: String,
    context: Vec<(Key, String)>,
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Fault {
        let context = error.contexts().map(|(key, value)| (key, value.to_string())).collect();
        Fault { kind: error.kind(), message: error.message().to_string(), context }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        // A worker that was taken over may say anything, of any length. Which limit was passed isn't
        // its to tell.
        let cut = |text: String| match text.char_indices().nth(MESSAGE_MAX) {
            Some((end, _)) => text.get(..end).unwrap_or_default().to_string(),
            None => text,
        };
        let error = Error::new(fault.kind, cut(fault.message));
        let context = fault.context.into_iter().filter(|(key, _)| *key != Key::Reason).take(10);
        context.fold(error, |error, (key, value)| error.with(key, cut(value)))
    }
}

/// Reads what was said as JSON.
pub(super) fn read<T: DeserializeOwned>(content: &[u8]) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(content);
    reader.disable_recursion_limit();
    T::deserialize(&mut reader).map_err(|e| garbled().because(e))
}

/// What can't be understood comes from a worker that isn't itself any more.
pub(super) fn garbled() -> Error {
    Error::new(Kind::Internal, "a worker said something that can't be understood")
}
