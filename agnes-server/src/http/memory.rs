//! The memory that each caller has the server hold: bodies of her requests as far as they have come,
//! and answers that she hasn't taken yet.
//!
//! Who asks for much at once is told to wait before anybody else is: the share of one is a small part
//! of what all may have.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use agnes_core::access::UserId;
use axum::BoxError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::carried::carrying;
use super::error::Failure;

/// What a user may have held, bytes: five uploads.
const OF_A_USER: u64 = 256 << 20;
/// What all who haven't said who they are may have held, of one address.
const OF_AN_ADDRESS: u64 = 16 << 20;
/// What all together may.
const OF_ALL: u64 = 2 << 30;

/// For whom something is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    User(UserId),
    Address(IpAddr),
}

impl Holder {
    fn most(&self) -> u64 {
        match self {
            Holder::User(_) => OF_A_USER,
            Holder::Address(_) => OF_AN_ADDRESS,
        }
    }
}

#[derive(Debug, Default)]
struct Held {
    all: u64,
    each: HashMap<Holder, u64>,
}

/// What is held for whom. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Held>>);

/// What is held for one request; given back when dropped.
#[derive(Debug)]
pub(crate) struct Holding {
    memory: Memory,
    holder: Holder,
    bytes: AtomicU64,
}

/// There is no room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooMuch {
    /// For this caller.
    OfHers,
    /// For anybody.
    OfAll,
}

impl std::fmt::Display for TooMuch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TooMuch::OfHers => {
                "your other requests hold as much as they may; wait until one is done"
            }
            TooMuch::OfAll => "the server is busy; try again in a moment",
        })
    }
}

impl std::error::Error for TooMuch {}

impl From<TooMuch> for Failure {
    fn from(too_much: TooMuch) -> Failure {
        let status = match too_much {
            TooMuch::OfHers => StatusCode::TOO_MANY_REQUESTS,
            TooMuch::OfAll => StatusCode::SERVICE_UNAVAILABLE,
        };
        Failure::new(status, too_much.to_string())
            .with(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }
}

impl Memory {
    pub(crate) fn of(&self, holder: Holder) -> Holding {
        Holding { memory: self.clone(), holder, bytes: AtomicU64::new(0) }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holding {
    /// Counts bytes that are there.
    ///
    /// # Errors
    /// Where so much was held before that there should be no more.
    pub(crate) fn add(&self, bytes: usize) -> Result<(), TooMuch> {
        let mut held = self.memory.held();
        if held.each.get(&self.holder).is_some_and(|hers| *hers >= self.holder.most()) {
            return Err(TooMuch::OfHers);
        }
        if held.all >= OF_ALL {
            return Err(TooMuch::OfAll);
        }
        self.count(&mut held, bytes);
        Ok(())
    }

    /// Counts them, however much there is.
    fn count(&self, held: &mut Held, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let bytes = bytes as u64;
        held.all += bytes;
        *held.each.entry(self.holder.clone()).or_default() += bytes;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        if bytes == 0 {
            return;
        }
        let mut held = self.memory.held();
        held.all -= bytes;
        if let Some(hers) = held.each.get_mut(&self.holder) {
            *hers -= bytes;
            if *hers == 0 {
                held.each.remove(&self.holder);
            }
        }
    }
}

/// The body of a request, counted as it comes.
pub(crate) struct Counted<B> {
    pub(crate) body: B,
    pub(crate) holding: Arc<Holding>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        let counted = |frame: Frame<Bytes>| {
            self.holding.add(frame.data_ref().map_or(0, Bytes::len))?;
            Ok(frame)
        };
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into).and_then(counted)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Marks an answer that is read as it is taken: it isn't in memory, however large it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadAsTaken;

/// From how many bytes on an answer counts.
const SMALL: u64 = 64 << 10;

/// Counts an answer until its last byte is on its way. Where something may have been done for it, it
/// is given in any case: her next request is refused.
///
/// # Errors
/// As [`Holding::add`].
pub(crate) fn until_taken(
    response: Response,
    holding: Holding,
    only_read: bool,
) -> Result<Response, TooMuch> {
    if response.extensions().get::<ReadAsTaken>().is_some() {
        return Ok(response);
    }
    let size = response.body().size_hint().exact().filter(|size| *size >= SMALL);
    let Some(size) = size.and_then(|size| usize::try_from(size).ok()) else { return Ok(response) };
    match only_read {
        true => holding.add(size)?,
        false => holding.count(&mut holding.memory.held(), size),
    }
    let holding = Arc::new(holding);
    Ok(response.map(|body| axum::body::Body::new(Untaken { body, holding })))
}

/// The body of an answer that is in memory.
struct Untaken<B> {
    body: B,
    holding: Arc<Holding>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Untaken<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        let part = |bytes| carrying(bytes, self.holding.clone());
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full};

    #[test]
    fn one_who_holds_much_waits_before_others_do() {
        let memory = Memory::default();
        let user = |name: &str| Holder::User(UserId::parse(name).unwrap());
        let first = memory.of(user("ada"));
        // One answer is never too large by itself.
        first.add(1 << 30).unwrap();
        assert_eq!(memory.of(user("ada")).add(0), Err(TooMuch::OfHers));
        let others = memory.of(user("bob"));
        others.add(1 << 30).unwrap();
        assert_eq!(memory.of(user("eve")).add(1), Err(TooMuch::OfAll));
        drop(others);
        assert!(memory.of(user("eve")).add(1).is_ok());
        drop(first);
        let held = memory.held();
        assert_eq!((held.all, held.each.len()), (0, 0));
    }

    #[tokio::test]
    async fn an_answer_counts_until_its_last_byte_is_gone() {
        let memory = Memory::default();
        let ada = || memory.of(Holder::User(UserId::parse("ada").unwrap()));
        let answer = |bytes: usize| Response::new(axum::body::Body::from(vec![1; bytes]));
        let body = until_taken(answer(100_000), ada(), true).unwrap().into_body();
        let mut part = body.collect().await.unwrap().to_bytes();
        let _ = part.split_to(99_999);
        assert_eq!(memory.held().all, 100_000);
        drop(part);
        assert_eq!(memory.held().all, 0);
        // What is small, or on the disk, takes no memory to speak of.
        let _small = until_taken(answer(1000), ada(), true).unwrap();
        let mut file = answer(100_000);
        file.extensions_mut().insert(ReadAsTaken);
        let _file = until_taken(file, ada(), true).unwrap();
        assert_eq!(memory.held().all, 0);
        ada().add(0).unwrap();
        let held = ada();
        held.add(300 << 20).unwrap();
        assert_eq!(until_taken(answer(100_000), ada(), true).unwrap_err(), TooMuch::OfHers);
        // What was done is never told as refused.
        let _done = until_taken(answer(100_000), ada(), false).unwrap();
        assert_eq!(memory.held().all, (300 << 20) + 100_000);
    }

    #[tokio::test]
    async fn a_body_counts_as_it_comes_and_ends_where_there_is_no_room() {
        let memory = Memory::default();
        let of = || Arc::new(memory.of(Holder::Address(IpAddr::from([192, 0, 2, 1]))));
        let counted = |holding: &Arc<Holding>| Counted {
            body: Full::new(Bytes::from(vec![0; 10 << 20])),
            holding: holding.clone(),
        };
        let (first, second, third) = (of(), of(), of());
        counted(&first).collect().await.unwrap();
        counted(&second).collect().await.unwrap();
        let error = counted(&third).collect().await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&TooMuch::OfHers));
        drop((first, second));
        counted(&third).collect().await.unwrap();
    }
}
