//! Parts of files that go to the line from where the kernel has them, without a copy (sendfile(2)).
//!
//! A large file is mapped into memory, and its answer hands on parts of that mapping like any other
//! bytes. Nobody looks into them: where they come to be written, they are known by where they lie,
//! and the kernel is asked to send that part of the file. What isn't known there is written as ever,
//! so the bytes that are sent are the same either way.
//!
//! This is for HTTP/1 without TLS alone. Others have to read what they pack, and who reads a mapping
//! of a file that somebody has cut off meanwhile is killed (SIGBUS); the kernel gives an error.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use memmap2::MmapOptions;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::connections::Turn;

/// The least that is worth a mapping, bytes.
const LEAST: u64 = 1 << 20;
/// Pages that are asked about at a time.
const PAGES: usize = 256;

/// Takes the file of a request's answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Direct(pub(super) Arc<Turn>);

impl Direct {
    /// `length` bytes of a file, from `at` on, of which parts can be handed on. They aren't to be
    /// looked into. None where that isn't possible, or not worth it; nor of somebody else's file, of
    /// which the system doesn't tell what is at hand (mincore(2)).
    pub(crate) fn map(&self, file: &Arc<File>, at: u64, length: u64) -> Option<Bytes> {
        let length = usize::try_from(length).ok().filter(|_| length >= LEAST)?;
        let me = rustix::process::geteuid();
        if !me.is_root() && file.metadata().ok()?.uid() != me.as_raw() {
            return None;
        }
        // SAFETY: published files are never written to, and nobody reads this but the kernel.
        let memory =
            unsafe { MmapOptions::new().offset(at).len(length).map(file.as_ref()) }.ok()?;
        let memory = Bytes::from_owner(memory);
        let mapped = Mapped { file: file.clone(), at, memory: memory.clone() };
        // A request has one answer.
        self.0.file.set(mapped).ok().map(|()| memory)
    }

    /// Whether these bytes would be known as a part of the file.
    #[cfg(test)]
    pub(crate) fn has(&self, bytes: &[u8]) -> bool {
        self.0.file.get().is_some_and(|file| file.part(bytes).is_some())
    }
}

/// Whether the kernel has all of this part of a mapping at hand, so that nobody waits for a disk.
pub(crate) fn is_at_hand(part: &[u8]) -> bool {
    let page = rustix::param::page_size();
    let before = part.as_ptr().addr() % page;
    let mut rest = part.len() + before;
    let mut from = part.as_ptr().wrapping_sub(before).cast_mut();
    let mut pages = [0_u8; PAGES];
    while rest > 0 {
        let length = rest.min(PAGES * page);
        // SAFETY: it writes a byte for each page, of which there are no more; of addresses where
        // nothing is mapped it says so.
        let told = unsafe { libc::mincore(from.cast(), length, pages.as_mut_ptr().cast()) };
        let told = pages.get(..length.div_ceil(page)).filter(|_| told == 0).unwrap_or(&[0]);
        if told.iter().any(|page| page & 1 == 0) {
            return false;
        }
        from = from.wrapping_add(length);
        rest -= length;
    }
    true
}

/// A file that lies in memory from somewhere on.
#[derive(Debug)]
pub(super) struct Mapped {
    file: Arc<File>,
    at: u64,
    memory: Bytes,
}

/// A part of a file.
#[derive(Debug)]
pub(super) struct Part {
    file: Arc<File>,
    at: u64,
    length: usize,
}

impl Mapped {
    /// The part of the file that is at these bytes.
    fn part(&self, bytes: &[u8]) -> Option<Part> {
        let from = bytes.as_ptr().addr().checked_sub(self.memory.as_ptr().addr())?;
        let is_inside = !bytes.is_empty() && from.checked_add(bytes.len())? <= self.memory.len();
        is_inside.then(|| Part {
            file: self.file.clone(),
            at: self.at + from as u64,
            length: bytes.len(),
        })
    }

    /// The first of these bytes that are a part of the file, and how many come before.
    pub(super) fn first_of(&self, bytes: &[IoSlice<'_>]) -> Option<(usize, Part)> {
        let part = |(before, bytes): (_, &IoSlice<'_>)| Some((before, self.part(bytes)?));
        bytes.iter().enumerate().find_map(part)
    }
}

impl Part {
    /// Sends as much of it as the line takes. None where this file can't be sent so.
    pub(super) fn poll_send(
        &self,
        line: &TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<usize>>> {
        use io::ErrorKind::{Interrupted, InvalidInput, UnexpectedEof, Unsupported, WouldBlock};
        loop {
            ready!(line.poll_write_ready(cx))?;
            let send = || {
                let mut at = self.at;
                Ok(rustix::fs::sendfile(line, &self.file, Some(&mut at), self.length)?)
            };
            return Poll::Ready(match line.try_io(Interest::WRITABLE, send) {
                Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => continue,
                Err(error) if matches!(error.kind(), InvalidInput | Unsupported) => Ok(None),
                // Published files never change; somebody has cut this one off.
                Ok(0) => Err(UnexpectedEof.into()),
                sent => sent.map(Some),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    const SIZE: usize = 3 << 20;

    fn content() -> Vec<u8> {
        (0..SIZE).map(|i| (i * 7919 % 251) as u8).collect()
    }

    fn file() -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content()).unwrap();
        Arc::new(file)
    }

    /// A mapping of all but the first five bytes.
    fn mapped(file: &Arc<File>) -> (Bytes, Arc<Turn>) {
        let direct = Direct(Arc::default());
        let bytes = direct.map(file, 5, SIZE as u64 - 5).unwrap();
        assert_eq!(bytes.len(), SIZE - 5);
        (bytes, direct.0)
    }

    fn first_of(bytes: &[&[u8]], turn: &Turn) -> Option<(usize, Part)> {
        let slices: Vec<_> = bytes.iter().map(|bytes| IoSlice::new(bytes)).collect();
        turn.file.get().unwrap().first_of(&slices)
    }

    #[test]
    fn a_part_is_known_by_where_it_lies() {
        let (bytes, turn) = mapped(&file());
        let (before, part) = first_of(&[b"head", &bytes[100..300], &bytes[300..]], &turn).unwrap();
        assert_eq!((before, part.at, part.length), (1, 105, 200));
        let (before, part) = first_of(&[&bytes[7..]], &turn).unwrap();
        assert_eq!((before, part.at, part.length), (0, 12, SIZE - 12));
        // The same bytes, elsewhere.
        let copy = bytes[100..300].to_vec();
        assert!(first_of(&[&copy, &bytes[..0]], &turn).is_none());
        let (other, _turn) = mapped(&file());
        assert!(first_of(&[&other], &turn).is_none());
    }

    #[test]
    fn what_is_small_is_not_mapped_and_an_answer_has_one_file() {
        let (file, direct) = (file(), Direct(Arc::default()));
        assert!(direct.map(&file, 0, LEAST - 1).is_none());
        assert!(direct.map(&file, 0, LEAST).is_some());
        assert!(direct.map(&file, 0, LEAST).is_none());
    }

    /// What a part brings over a line, and how it ends.
    async fn sent(mut part: Part) -> (Vec<u8>, io::Result<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut reader = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (line, _) = listener.accept().await.unwrap();
        let sending = async move {
            while part.length > 0 {
                let sent = std::future::poll_fn(|cx| part.poll_send(&line, cx)).await?.unwrap();
                part.at += sent as u64;
                part.length -= sent;
            }
            Ok(())
        };
        let mut received = Vec::new();
        let (ended, read) = tokio::join!(sending, reader.read_to_end(&mut received));
        read.unwrap();
        (received, ended)
    }

    #[tokio::test]
    async fn a_part_is_sent_as_it_is_in_the_file() {
        let (bytes, turn) = mapped(&file());
        let (_, part) = first_of(&[&bytes[1000..SIZE - 500]], &turn).unwrap();
        let (received, ended) = sent(part).await;
        ended.unwrap();
        assert!(received == content()[1005..SIZE - 495]);
    }

    #[tokio::test]
    async fn a_file_that_was_cut_off_ends_its_line_and_nothing_else() {
        let file = file();
        let (bytes, turn) = mapped(&file);
        let (_, part) = first_of(&[&bytes], &turn).unwrap();
        assert!(is_at_hand(&bytes));
        file.set_len(1 << 20).unwrap();
        assert!(!is_at_hand(&bytes));
        let (received, ended) = sent(part).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(received == content()[5..1 << 20]);
    }
}
