//! The connections that are open, and which of them have to go.
//!
//! A connection waits for a request, sends the head of one, or has requests at work. Whoever sends
//! a head too slowly, asks nothing for long, or doesn't take what she asked for is ended by
//! [`Connections::sweep`]; when there are as many as there may be, whoever has asked nothing for the
//! longest time makes room.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Buf as _;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::ConnectionSettings;

/// All that are open. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Shared>);

struct Shared {
    settings: ConnectionSettings,
    begun: Instant,
    open: Mutex<Open>,
    refused: AtomicU64,
    ended: AtomicU64,
    accepted: AtomicU64,
    sent: AtomicU64,
}

#[derive(Default)]
struct Open {
    all: std::collections::HashMap<u64, Arc<State>>,
    next: u64,
}

/// Connections that may be on their way out beside those that there may be.
const LEAVING: usize = 16;

/// What a connection does. Moments are milliseconds since the server began, plus one; 0 is never.
#[derive(Default)]
struct State {
    /// Since when it has had nothing at work.
    idle: AtomicU64,
    /// Since when the head of a request has been coming.
    head: AtomicU64,
    /// Since when the other end has taken nothing of what is ready for it.
    stalled: AtomicU64,
    at_work: AtomicUsize,
    /// Those of them whose answers are large.
    large: AtomicUsize,
    is_http2: AtomicBool,
    told: AtomicBool,
    end: Notify,
    cut: Notify,
}

/// How many connections there are, and have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Open ones.
    pub(crate) open: usize,
    /// Requests at work on them.
    pub(crate) at_work: usize,
    pub(crate) accepted: u64,
    /// For which there was no room.
    pub(crate) refused: u64,
    /// Which the server has ended: too slow, or idle for too long.
    pub(crate) ended: u64,
    /// Bytes of bodies that were handed over.
    pub(crate) sent: u64,
}

impl Connections {
    pub(crate) fn new(settings: ConnectionSettings) -> Connections {
        Connections(Arc::new(Shared {
            settings,
            begun: Instant::now(),
            open: Mutex::default(),
            refused: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }))
    }

    pub(crate) fn settings(&self) -> &ConnectionSettings {
        &self.0.settings
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// A place for another connection; none when all are taken by requests at work.
    pub(super) fn enter(&self) -> Option<Connection> {
        let now = self.now();
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was told leaves soon: its place is free.
        if open.all.len() >= self.0.settings.most && !self.make_room(&open) {
            drop(open);
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let number = open.next;
        open.next += 1;
        let state = Arc::new(State::default());
        state.idle.store(now, Ordering::Relaxed);
        state.head.store(now, Ordering::Relaxed);
        open.all.insert(number, state.clone());
        Some(Connection { all: self.clone(), number, state })
    }

    /// Whether many that were told to go haven't gone yet.
    pub(super) fn is_crowded(&self) -> bool {
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all.len() > self.0.settings.most.saturating_add(LEAVING)
    }

    /// Ends the connection that has asked nothing for the longest time, where there is one.
    fn make_room(&self, open: &Open) -> bool {
        let waits = |state: &&Arc<State>| {
            state.at_work.load(Ordering::Relaxed) == 0 && !state.told.load(Ordering::Relaxed)
        };
        let idle = |state: &&Arc<State>| state.idle.load(Ordering::Relaxed);
        let longest = open.all.values().filter(waits).min_by_key(idle);
        longest.inspect(|state| self.end(state, true)).is_some()
    }

    /// Ends those that have been idle for the longest time, to have file descriptors again.
    pub(super) fn make_some_room(&self) {
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..8 {
            self.make_room(&open);
        }
    }

    fn end(&self, state: &State, at_once: bool) {
        let was_told = state.told.swap(true, Ordering::Relaxed);
        self.0.ended.fetch_add(u64::from(!was_told), Ordering::Relaxed);
        match at_once {
            true => state.cut.notify_one(),
            false => state.end.notify_one(),
        }
    }

    /// Ends those that are too slow, or idle for too long.
    pub(super) fn sweep(&self) {
        let (now, settings) = (self.now(), &self.0.settings);
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        for state in open.all.values() {
            let is_over = |since: &AtomicU64, most: Duration| {
                let since = since.load(Ordering::Relaxed);
                since > 0 && u128::from(now.saturating_sub(since)) > most.as_millis()
            };
            let is_told = state.told.load(Ordering::Relaxed);
            let at_work = state.at_work.load(Ordering::Relaxed) > 0;
            if is_over(&state.stalled, settings.stall) {
                self.end(state, true);
            } else if is_told || at_work {
                // What is at work ends by its own limits.
            } else if is_over(&state.head, settings.head) {
                self.end(state, true);
            } else if is_over(&state.idle, settings.idle) {
                self.end(state, false);
            }
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at_work = open.all.values().map(|state| state.at_work.load(Ordering::Relaxed)).sum();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            open: open.all.len(),
            at_work,
            accepted: load(&self.0.accepted),
            refused: load(&self.0.refused),
            ended: load(&self.0.ended),
            sent: load(&self.0.sent),
        }
    }
}

/// A place among the connections, given back when dropped.
pub(super) struct Connection {
    all: Connections,
    number: u64,
    state: Arc<State>,
}

impl Connection {
    /// Has its reads and writes looked at.
    pub(super) fn watch<I>(&self, io: I) -> Watched<I> {
        Watched { io, all: self.all.clone(), state: self.state.clone() }
    }

    /// Counts a request, until what this gives is dropped.
    pub(super) fn begin(&self, version: hyper::Version) -> AtWork {
        if version == hyper::Version::HTTP_2 {
            self.state.is_http2.store(true, Ordering::Relaxed);
        }
        self.state.at_work.fetch_add(1, Ordering::Relaxed);
        self.state.head.store(0, Ordering::Relaxed);
        AtWork { all: self.all.clone(), state: self.state.clone(), is_large: false }
    }

    /// Tells on which threads it belongs.
    pub(super) fn lane(&self) -> Lane {
        Lane(self.state.clone())
    }

    /// How long a request's body may take.
    pub(super) fn body_time(&self) -> Duration {
        self.all.0.settings.body
    }

    /// Waits until it should end, when nothing is at work on it.
    pub(super) async fn told_to_end(&self) {
        self.state.end.notified().await;
    }

    /// Waits until it should be cut off.
    pub(super) async fn told_to_go(&self) {
        self.state.cut.notified().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.all.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all.remove(&self.number);
    }
}

/// Whether something large is sent on a connection.
#[derive(Clone)]
pub(super) struct Lane(Arc<State>);

impl Lane {
    pub(super) fn is_large(&self) -> bool {
        self.0.large.load(Ordering::Relaxed) > 0
    }
}

/// A request at work.
pub(super) struct AtWork {
    all: Connections,
    state: Arc<State>,
    is_large: bool,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.state.idle.store(self.all.now(), Ordering::Relaxed);
        self.state.at_work.fetch_sub(1, Ordering::Relaxed);
        self.state.large.fetch_sub(usize::from(self.is_large), Ordering::Relaxed);
    }
}

/// An answer's body, at work until its last byte is handed over.
pub(super) struct Answering<B> {
    body: B,
    at_work: AtWork,
}

/// From how many bytes on an answer is large. One whose length nobody knows may be.
const LARGE: u64 = 1 << 20;

impl<B: Body> Answering<B> {
    pub(super) fn new(body: B, mut at_work: AtWork) -> Answering<B> {
        at_work.is_large = body.size_hint().exact().is_none_or(|bytes| bytes >= LARGE);
        at_work.state.large.fetch_add(usize::from(at_work.is_large), Ordering::Relaxed);
        Answering { body, at_work }
    }
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            let sent = data.remaining() as u64;
            self.at_work.all.0.sent.fetch_add(sent, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The bytes of a connection on their way.
pub(super) struct Watched<I> {
    io: I,
    all: Connections,
    state: Arc<State>,
}

impl<I> Watched<I> {
    /// Notes whether the other end takes what it is sent.
    fn written<T>(&self, done: &Poll<std::io::Result<T>>) {
        let stalled = &self.state.stalled;
        match done {
            Poll::Pending if stalled.load(Ordering::Relaxed) == 0 => {
                stalled.store(self.all.now(), Ordering::Relaxed);
            }
            Poll::Pending => {}
            Poll::Ready(_) => stalled.store(0, Ordering::Relaxed),
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let done = Pin::new(&mut self.io).poll_read(cx, into);
        let state = &self.state;
        // Between two requests the next one's head begins.
        if into.filled().len() > before
            && state.head.load(Ordering::Relaxed) == 0
            && state.at_work.load(Ordering::Relaxed) == 0
            && !state.is_http2.load(Ordering::Relaxed)
        {
            state.head.store(self.all.now(), Ordering::Relaxed);
        }
        done
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.written(&done);
        done
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.written(&done);
        done
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
