//! The connections that are open, and which of them have to go.
//!
//! A connection waits for a request, sends the head of one, or has requests at work. Whoever sends
//! a head too slowly, asks nothing for long, or doesn't take what she asked for is ended by
//! [`Connections::sweep`]; when there are as many as there may be, whoever has asked nothing for the
//! longest time makes room, or else whoever takes the longest over her part of a request.
//!
//! A request is at work until the last byte of its answer has been written, and each piece of an
//! answer has a time of its own to be taken in: HTTP/2 lets a reader leave an answer where it is
//! while the line itself takes everything.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::Notify;

use super::ConnectionSettings;
use super::direct::{Direct, Mapped, Part};
use crate::http::carried::carrying;

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
    at_work: Mutex<Vec<Arc<Turn>>>,
    /// Requests at work whose answers are large.
    large: AtomicUsize,
    is_http2: AtomicBool,
    /// When it was told to end once nothing is at work.
    told: AtomicU64,
    is_cut: AtomicBool,
    end: Notify,
    cut: Notify,
}

impl State {
    fn at_work(&self) -> MutexGuard<'_, Vec<Arc<Turn>>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when it has waited for the other end alone; none while the server has something to do.
    fn waits_since(&self) -> Option<Waits> {
        let at_work = self.at_work();
        if at_work.is_empty() {
            return Some(Waits::ForARequest(self.idle.load(Ordering::Relaxed)));
        }
        let mut latest = 0;
        for turn in at_work.iter() {
            latest = latest.max(turn.hers_since()?);
        }
        Some(Waits::ForTheRest(latest))
    }

    /// The first of these bytes that are a part of a file, how many come before, and whose they are.
    fn part(&self, bytes: &[IoSlice<'_>]) -> Option<(usize, Part, Arc<Turn>)> {
        if self.large.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let at_work = self.at_work();
        at_work.iter().find_map(|turn| {
            let (before, part) = turn.file.get()?.first_of(bytes)?;
            Some((before, part, turn.clone()))
        })
    }
}

/// For what a connection waits, and since when: who makes room first comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Waits {
    ForARequest(u64),
    ForTheRest(u64),
}

/// Whose turn it is with a request: the server's, or the other end's, who has to send the rest of it
/// or to take what is ready of its answer.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Since when it is hers; 0 is never.
    since: AtomicU64,
    /// Until when she has to go on.
    until: AtomicU64,
    /// The file of which the answer hands on parts.
    pub(super) file: OnceLock<Mapped>,
    /// Bytes of it that were taken since it was last said until when.
    taken: AtomicUsize,
}

impl Turn {
    fn hers_since(&self) -> Option<u64> {
        Some(self.since.load(Ordering::Acquire)).filter(|since| *since > 0)
    }

    /// It is the other end's turn, for so long.
    fn hers(&self, now: u64, time: Duration) {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.until.store(now.saturating_add(time), Ordering::Relaxed);
        self.since.store(now, Ordering::Release);
    }

    /// The other end has taken some of the file. What counts as a piece gives her time for another.
    fn took(&self, bytes: usize, shared: &Connections) {
        if self.taken.fetch_add(bytes, Ordering::Relaxed) + bytes >= PIECE {
            self.taken.store(0, Ordering::Relaxed);
            self.hers(shared.now(), shared.0.settings.to_take(PIECE));
        }
    }

    fn is_over(&self, now: u64) -> bool {
        self.hers_since().is_some() && now > self.until.load(Ordering::Relaxed)
    }
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
        // One that was cut leaves at once: its place is free.
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

    /// Ends the connection that has waited for its other end for the longest time, where there is
    /// one.
    fn make_room(&self, open: &Open) -> bool {
        let stays = |state: &&Arc<State>| !state.is_cut.load(Ordering::Relaxed);
        let waits = |state| Some((State::waits_since(state)?, state));
        let longest = open.all.values().filter(stays).filter_map(|state| waits(state));
        let longest = longest.min_by_key(|(since, _)| *since);
        longest.inspect(|(_, state)| self.end(state, true)).is_some()
    }

    /// Ends those that have waited for the longest time, to have file descriptors again.
    pub(super) fn make_some_room(&self) {
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..8 {
            self.make_room(&open);
        }
    }

    fn end(&self, state: &State, at_once: bool) {
        let told = state.told.swap(self.now(), Ordering::Relaxed);
        self.0.ended.fetch_add(u64::from(told == 0), Ordering::Relaxed);
        if at_once {
            state.is_cut.store(true, Ordering::Relaxed);
            state.cut.notify_one();
        } else {
            state.end.notify_one();
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
            let (is_at_work, is_stuck) = {
                let turns = state.at_work();
                (!turns.is_empty(), turns.iter().any(|turn| turn.is_over(now)))
            };
            if state.is_cut.load(Ordering::Relaxed) {
                // It is on its way out.
            } else if is_stuck {
                self.end(state, true);
            } else if is_at_work {
                // What is at work ends by its own limits.
            } else if state.told.load(Ordering::Relaxed) > 0 {
                // What is left of an answer may be on its way.
                if is_over(&state.told, settings.stall) {
                    self.end(state, true);
                }
            } else if is_over(&state.head, settings.head) {
                self.end(state, true);
            } else if is_over(&state.idle, settings.idle) {
                self.end(state, false);
            }
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at_work = open.all.values().map(|state| state.at_work().len()).sum();
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
    pub(super) fn watch(&self, line: TcpStream) -> Watched {
        let (all, state) = (self.all.clone(), self.state.clone());
        let home = runtime::Handle::current().id();
        Watched { line: Some(line), home, is_large: false, fills: false, all, state }
    }

    /// Counts a request, until what this gives is dropped.
    pub(super) fn begin(&self, version: hyper::Version) -> Arc<AtWork> {
        if version == hyper::Version::HTTP_2 {
            self.state.is_http2.store(true, Ordering::Relaxed);
        }
        let turn = Arc::<Turn>::default();
        self.state.at_work().push(turn.clone());
        self.state.head.store(0, Ordering::Relaxed);
        let (all, state) = (self.all.clone(), self.state.clone());
        Arc::new(AtWork { all, state, turn, is_large: AtomicBool::new(false) })
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
    turn: Arc<Turn>,
    is_large: AtomicBool,
}

impl AtWork {
    /// It is the server's turn.
    fn ours(&self) {
        self.turn.since.store(0, Ordering::Release);
    }

    /// It is the other end's turn, for so long.
    fn hers(&self, time: Duration) {
        self.turn.hers(self.all.now(), time);
    }

    /// Takes the file of its answer, for a line that takes it as it is.
    pub(super) fn direct(&self) -> Direct {
        Direct(self.turn.clone())
    }

    /// The body of the request has been asked for, and is there or isn't.
    pub(super) fn asked_for_more(&self, is_there: bool) {
        match is_there {
            true => self.ours(),
            // How long a body may take is its own affair.
            false if self.turn.hers_since().is_none() => self.hers(Duration::MAX),
            false => {}
        }
    }

    fn is_large(&self) {
        if !self.is_large.swap(true, Ordering::Relaxed) {
            self.state.large.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.state.idle.store(self.all.now(), Ordering::Relaxed);
        self.state.at_work().retain(|turn| !Arc::ptr_eq(turn, &self.turn));
        if *self.is_large.get_mut() {
            self.state.large.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// An answer's body, at work until its last byte is written.
pub(super) struct Answering<B> {
    body: B,
    /// What is left of a piece that was too large to be handed over at once.
    rest: Bytes,
    at_work: Arc<AtWork>,
    /// How many bytes more are made where it began, before it goes over to the threads for what is
    /// large; none when it doesn't any more.
    here: Option<u64>,
}

/// From how many bytes on an answer is large. One whose length nobody knows may be.
const LARGE: u64 = 1 << 20;
/// The most bytes that are handed over at once.
const PIECE: usize = 256 << 10;

impl<B: Body> Answering<B> {
    pub(super) fn new(body: B, at_work: Arc<AtWork>) -> Answering<B> {
        let here = match body.size_hint().exact() {
            // It may turn out to be small.
            None => Some(PIECE as u64),
            Some(bytes) => (bytes >= LARGE).then_some(0),
        };
        if here.is_some() {
            at_work.is_large();
        }
        at_work.hers(at_work.all.0.settings.stall);
        Answering { body, rest: Bytes::new(), at_work, here }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if this.here == Some(0) {
            this.here = None;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.rest.is_empty() {
            let frame = match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Pending => {
                    this.at_work.ours();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(last) => return Poll::Ready(last),
            };
            match frame.into_data() {
                Ok(data) => this.rest = data,
                Err(trailers) => {
                    this.at_work.hers(this.at_work.all.0.settings.stall);
                    return Poll::Ready(Some(Ok(trailers)));
                }
            }
        }
        // Of a file it is seen where it is sent what was taken.
        let most = if this.at_work.turn.file.get().is_some() { usize::MAX } else { PIECE };
        let bytes = this.rest.split_to(this.rest.len().min(most));
        let (shared, length) = (&this.at_work.all.0, bytes.len() as u64);
        shared.sent.fetch_add(length, Ordering::Relaxed);
        this.here = this.here.map(|bytes| bytes.saturating_sub(length));
        this.at_work.hers(shared.settings.to_take(PIECE.min(bytes.len())));
        // It is at work until they are written.
        let piece = carrying(bytes, this.at_work.clone());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// The bytes of a connection on their way.
pub(super) struct Watched {
    /// None once it couldn't go over to other threads.
    line: Option<TcpStream>,
    /// The threads to which its events come.
    home: runtime::Id,
    is_large: bool,
    /// Whether what doesn't fill a packet waits for more to come.
    fills: bool,
    all: Connections,
    state: Arc<State>,
}

impl Watched {
    /// The line, whose events come to the threads on which its connection is served: otherwise each of
    /// them would wake one thread of the small ones for one of the large.
    fn line(&mut self, cx: &Context<'_>) -> io::Result<&mut TcpStream> {
        let is_large = self.state.large.load(Ordering::Relaxed) > 0;
        if is_large != self.is_large && runtime::Handle::current().id() != self.home {
            (self.is_large, self.home) = (is_large, runtime::Handle::current().id());
            let line = self.line.take().map(|line| TcpStream::from_std(line.into_std()?));
            self.line = line.transpose()?;
            self.fill(false);
            // Whoever waits for it has to ask again.
            cx.waker().wake_by_ref();
        }
        self.line.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Has a file's parts go in full packets. What is small isn't held back for more to come.
    fn fill(&mut self, fills: bool) {
        if fills != self.fills {
            self.fills = fills;
            let _ = self.line.as_ref().map(|line| line.set_nodelay(!fills));
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let done = Pin::new(self.line(cx)?).poll_read(cx, into);
        let state = &self.state;
        // Between two requests the next one's head begins.
        if into.filled().len() > before
            && state.head.load(Ordering::Relaxed) == 0
            && !state.is_http2.load(Ordering::Relaxed)
            && state.at_work().is_empty()
        {
            state.head.store(self.all.now(), Ordering::Relaxed);
        }
        done
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.line(cx)?).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.state.part(bytes) {
            None => {}
            Some((0, part, turn)) => {
                self.fill(true);
                let line = self.line(cx)?;
                let sent = match ready!(part.poll_send(line, cx))? {
                    Some(sent) => sent,
                    None => ready!(Pin::new(line).poll_write_vectored(cx, bytes))?,
                };
                turn.took(sent, &self.all);
                return Poll::Ready(Ok(sent));
            }
            Some((before, ..)) => bytes = bytes.get(..before).unwrap_or(bytes),
        }
        self.fill(false);
        Pin::new(self.line(cx)?).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.line(cx)?).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.line(cx)?).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full};

    fn connections(most: usize) -> Connections {
        let stall = Duration::from_millis(20);
        Connections::new(ConnectionSettings { most, stall, ..ConnectionSettings::default() })
    }

    /// An answer of two pieces, of which the first is on its way.
    async fn answering(place: &Connection) -> (Bytes, Answering<Full<Bytes>>) {
        let body = Full::new(Bytes::from(vec![7; PIECE + 5]));
        let mut answer = Answering::new(body, place.begin(hyper::Version::HTTP_2));
        assert_eq!(answer.size_hint().exact(), Some(PIECE as u64 + 5));
        let piece = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((piece.len(), answer.size_hint().exact()), (PIECE, Some(5)));
        assert!(!answer.is_end_stream());
        (piece, answer)
    }

    #[tokio::test]
    async fn a_request_is_at_work_until_its_last_byte_is_written() {
        let all = connections(5);
        let place = all.enter().unwrap();
        let (first, mut answer) = answering(&place).await;
        let last = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(answer.is_end_stream());
        drop((first, answer));
        assert_eq!(all.counts().at_work, 1);
        drop(last);
        assert_eq!(all.counts().at_work, 0);
    }

    #[tokio::test]
    async fn whoever_leaves_a_piece_is_cut_off() {
        let all = connections(5);
        let (place, other) = (all.enter().unwrap(), all.enter().unwrap());
        let (piece, _answer) = answering(&place).await;
        // The server works on that one.
        let _ours = other.begin(hyper::Version::HTTP_11);
        let is_cut = || place.state.is_cut.load(Ordering::Relaxed);
        all.sweep();
        assert!(!is_cut());
        let turn = place.state.at_work()[0].clone();
        let time = turn.until.load(Ordering::Relaxed) - turn.hers_since().unwrap();
        assert_eq!(time, 20 + 16_000, "the time of a slow line, too");
        turn.until.store(0, Ordering::Relaxed);
        all.sweep();
        assert!(is_cut() && !other.state.is_cut.load(Ordering::Relaxed));
        drop(piece);
    }

    #[tokio::test]
    async fn of_a_file_a_whole_piece_has_to_be_taken_for_more_time() {
        let all = connections(5);
        let place = all.enter().unwrap();
        let (_piece, _answer) = answering(&place).await;
        let turn = place.state.at_work()[0].clone();
        turn.until.store(0, Ordering::Relaxed);
        turn.took(PIECE - 1, &all);
        assert_eq!(turn.until.load(Ordering::Relaxed), 0);
        turn.took(1, &all);
        let time = turn.until.load(Ordering::Relaxed) - turn.hers_since().unwrap();
        assert_eq!(time, 20 + 16_000);
    }

    #[tokio::test]
    async fn who_asks_nothing_makes_room_first_and_then_who_takes_long() {
        let all = connections(3);
        let (slow, ours, idle) = (all.enter().unwrap(), all.enter().unwrap(), all.enter().unwrap());
        let held = answering(&slow).await;
        let at_work = ours.begin(hyper::Version::HTTP_11);
        let is_cut = |place: &Connection| place.state.is_cut.load(Ordering::Relaxed);
        let fourth = all.enter().unwrap();
        assert!(is_cut(&idle) && !is_cut(&slow));
        drop(idle);
        let _busy = fourth.begin(hyper::Version::HTTP_11);
        // A body that doesn't come is its sender's affair.
        at_work.asked_for_more(false);
        slow.state.at_work()[0].since.store(1, Ordering::Relaxed);
        at_work.turn.since.store(2, Ordering::Relaxed);
        let fifth = all.enter().unwrap();
        assert!(is_cut(&slow) && !is_cut(&ours));
        drop((slow, held));
        let _busy = fifth.begin(hyper::Version::HTTP_11);
        assert!(all.enter().is_some() && is_cut(&ours));
    }
}
