//! A request's body, which has to come at a certain rate.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::SLOW_LINE;
use super::connections::AtWork;

/// A body that is given up when it comes too slowly, whatever it does in between.
pub(super) struct Timely<B = Incoming> {
    body: B,
    begun: Instant,
    /// How long it may take without regard to how much it brings.
    first: Duration,
    come: u64,
    over: Pin<Box<Sleep>>,
    /// The request that it belongs to.
    at_work: Arc<AtWork>,
}

impl<B> Timely<B> {
    pub(super) fn new(body: B, first: Duration, at_work: Arc<AtWork>) -> Timely<B> {
        let begun = Instant::now();
        let over = Box::pin(tokio::time::sleep_until(begun + first));
        Timely { body, begun, first, come: 0, over, at_work }
    }
}

impl<B> Drop for Timely<B> {
    fn drop(&mut self) {
        self.at_work.asked_for_more(true);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Timely<B>
where
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.at_work.asked_for_more(frame.is_ready());
        if let Poll::Ready(frame) = frame {
            if let Some(Ok(frame)) = &frame {
                self.come += frame.data_ref().map_or(0, |data| data.len() as u64);
                let earned = Duration::from_secs(self.come / SLOW_LINE);
                let until = self.begun + self.first + earned;
                if until != self.over.deadline() {
                    self.over.as_mut().reset(until);
                }
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match self.over.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(TooSlow.into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body came too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooSlow;

impl std::fmt::Display for TooSlow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the request's body comes too slowly")
    }
}

impl std::error::Error for TooSlow {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::serve::{ConnectionSettings, Connections};
    use http_body_util::{BodyExt as _, StreamBody};

    /// A body that brings `bytes` after each `pause`.
    fn dripping(
        bytes: usize,
        pause: Duration,
    ) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin {
        let frames = futures_util::stream::unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            Some((Ok(Frame::data(Bytes::from(vec![0; bytes]))), ()))
        });
        StreamBody::new(Box::pin(frames))
    }

    async fn read(bytes: usize, pause: Duration, frames: usize) -> Result<(), axum::BoxError> {
        let connections = Connections::new(ConnectionSettings::default());
        let at_work = connections.enter().unwrap().begin(hyper::Version::HTTP_11);
        let mut body = Timely::new(dripping(bytes, pause), Duration::from_secs(30), at_work);
        for _ in 0..frames {
            body.frame().await.expect("it never ends")?;
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_given_up_and_a_slow_line_is_not() {
        let second = Duration::from_secs(1);
        assert!(read(SLOW_LINE as usize, second, 1000).await.is_ok());
        assert!(read(1, second, 29).await.is_ok());
        let error = read(1, second, 60).await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&TooSlow));
        assert!(read(0, Duration::from_secs(3600), 1).await.is_err());
        // One large piece doesn't earn the time for a pause of any length.
        assert!(read(10 * SLOW_LINE as usize, Duration::from_secs(60), 3).await.is_err());
    }
}
