//! The bytes of a file, read as the caller takes them.
//!
//! What is in memory already is read where the connection is served, which takes some microseconds;
//! what has to come from the disk is read on a thread of a pool, so that nobody waits for it but who
//! asked for it. Where the line takes it as it is, what is in memory isn't read at all.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use agnes_core::{Error, Kind};
use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use rustix::io::{ReadWriteFlags, preadv2};

use crate::http::pool::Pool;
use crate::http::serve::{Direct, is_at_hand};

/// How much is read at a time, bytes.
const CHUNK: usize = 256 << 10;
/// How much is handed on at a time where it isn't read, bytes.
const DIRECT: usize = 1 << 20;
/// After how much of that others have their turn, bytes.
const IN_A_ROW: usize = 4 << 20;

/// Memory that is used again once what was in it is sent: fresh memory costs more than the copy.
type Shelf = Arc<Mutex<Vec<Vec<u8>>>>;

/// A piece of the file, whose memory goes back.
struct Piece {
    memory: Vec<u8>,
    length: usize,
    shelf: Shelf,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}

/// A read that waits for the disk.
type Reading = Pin<Box<dyn Future<Output = agnes_core::Result<(Vec<u8>, usize)>> + Send>>;

/// So many bytes of a file, from somewhere on.
pub(super) struct Content {
    file: Arc<File>,
    at: u64,
    left: u64,
    /// Where the line may take it as it is.
    direct: Option<Direct>,
    /// What is left of it as the line takes it.
    mapped: Option<Bytes>,
    shelf: Shelf,
    pool: Arc<Pool>,
    reading: Option<Reading>,
    /// Whether others have their turn before the next piece, because the last was in memory.
    gave: bool,
    /// Bytes that were handed on in a row.
    in_a_row: usize,
}

impl Content {
    pub(super) fn new(
        file: File,
        at: u64,
        left: u64,
        pool: &Arc<Pool>,
        direct: Option<Direct>,
    ) -> Content {
        Content {
            file: Arc::new(file),
            at,
            left,
            direct,
            mapped: None,
            shelf: Shelf::default(),
            pool: pool.clone(),
            reading: None,
            gave: false,
            in_a_row: 0,
        }
    }

    /// Bytes that are still to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    fn memory(&self) -> Vec<u8> {
        let kept = self.shelf.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // The first piece is the largest.
        kept.unwrap_or_else(|| vec![0; self.wanted(CHUNK)])
    }

    /// How much of a piece is wanted, of which there is so much at most.
    fn wanted(&self, most: usize) -> usize {
        usize::try_from(self.left).map_or(most, |left| left.min(most))
    }

    fn copied(&mut self, memory: Vec<u8>, length: usize) -> io::Result<Frame<Bytes>> {
        if length == 0 {
            // Published files never change; somebody has cut this one off.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.go_on(length);
        let piece = Piece { memory, length, shelf: self.shelf.clone() };
        Ok(Frame::data(Bytes::from_owner(piece)))
    }

    /// The next piece as the line takes it, where that is possible.
    fn direct(&mut self) -> Option<Bytes> {
        // Not before somebody takes it: of a HEAD nobody does.
        if let Some(direct) = self.direct.take() {
            self.mapped = direct.map(&self.file, self.at, self.left);
        }
        let piece = self.mapped.as_ref()?.slice(..self.wanted(DIRECT));
        is_at_hand(&piece).then(|| {
            self.go_on(piece.len());
            piece
        })
    }

    fn go_on(&mut self, length: usize) {
        self.at += length as u64;
        self.left = self.left.saturating_sub(length as u64);
        if let Some(mapped) = &mut self.mapped {
            mapped.advance(length);
        }
    }

    /// Reads on a thread that may wait.
    fn read(&self, mut memory: Vec<u8>, wanted: usize) -> Reading {
        let (file, pool, at) = (self.file.clone(), self.pool.clone(), self.at);
        let read = move || {
            let length = match memory.get_mut(..wanted) {
                Some(into) => file.read_at(into, at),
                None => Ok(0),
            };
            let length = length.map_err(|e| {
                Error::new(Kind::Unavailable, format!("a published file can't be read: {e}"))
            })?;
            Ok((memory, length))
        };
        Box::pin(async move { pool.go_on(read).await })
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let me = &mut *self;
        if me.left == 0 {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut me.gave) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if me.reading.is_none() {
            if let Some(piece) = me.direct() {
                me.in_a_row += piece.len();
                me.gave = me.in_a_row >= IN_A_ROW;
                if me.gave {
                    me.in_a_row = 0;
                }
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let (mut memory, wanted) = (me.memory(), me.wanted(CHUNK));
            let into = memory.get_mut(..wanted).unwrap_or_default();
            match preadv2(&me.file, &mut [IoSliceMut::new(into)], me.at, ReadWriteFlags::NOWAIT) {
                Ok(length) => {
                    me.gave = true;
                    return Poll::Ready(Some(me.copied(memory, length)));
                }
                // It isn't in memory, or the file system can't tell.
                Err(_) => me.reading = Some(me.read(memory, wanted)),
            }
        }
        let Some(reading) = &mut me.reading else { return Poll::Ready(None) };
        match reading.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(read) => {
                me.reading = None;
                let read = read.map_err(|error| io::Error::other(error.to_string()));
                Poll::Ready(Some(read.and_then(|(memory, length)| me.copied(memory, length))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::pool::Threads;
    use http_body_util::BodyExt as _;
    use std::io::Write as _;

    #[tokio::test]
    async fn what_is_in_memory_is_handed_on_as_the_line_takes_it() {
        let bytes: Vec<u8> = (0..3 << 20).map(|i| (i % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let pool = Arc::new(Pool::new(1, Threads::default()));
        for (direct, first) in [(Some(Direct::default()), DIRECT), (None, CHUNK)] {
            let file = file.try_clone().unwrap();
            let mut content = Content::new(file, 7, (3 << 20) - 7, &pool, direct.clone());
            assert!(content.mapped.is_none());
            let piece = content.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(piece.len(), first);
            assert_eq!(direct.is_some_and(|direct| direct.has(&piece)), first == DIRECT);
            let rest = content.collect().await.unwrap().to_bytes();
            assert!([&piece[..], &rest].concat() == bytes[7..]);
        }
    }
}
