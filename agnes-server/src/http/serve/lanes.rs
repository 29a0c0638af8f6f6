//! Two sets of threads that serve connections: one for what is small, one for what is large.
//!
//! Threads that copy gigabytes never sleep, and have to wait for their share of the cores like
//! everybody else; threads that sleep most of the time get a core as soon as they wake. So that
//! somebody's small request doesn't stand behind somebody's download, a connection goes over to the
//! other threads as long as something large is sent on it. They stand back behind the others, and so
//! do those on which long work is done.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::{Handle, Runtime};

use super::connections::Lane;
use crate::http::process;

/// A connection at work.
pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The threads for what is large. They end with it.
pub(crate) struct Large(Option<Runtime>);

impl Large {
    pub(crate) fn new() -> std::io::Result<Large> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("agnes-large")
            .on_thread_start(process::stand_back)
            .enable_all()
            .build()?;
        Ok(Large(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        // Nobody waits for them: this may be a thread that must not.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Does a connection's work as long as it belongs to these threads.
struct While {
    work: Option<Work>,
    lane: Lane,
    large: bool,
}

impl Future for While {
    /// The work, where it belongs elsewhere; none when it is done.
    type Output = Option<Work>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Work>> {
        let Some(work) = &mut self.work else { return Poll::Ready(None) };
        match work.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending if self.lane.is_large() != self.large => Poll::Ready(self.work.take()),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Does a connection's work, on whichever threads it belongs to at the time.
pub(super) async fn work(work: Work, lane: Lane, large: Handle) {
    let on = |work, large| While { work: Some(work), lane: lane.clone(), large };
    let mut work = Some(work);
    while let Some(small) = work {
        let Some(over) = on(small, false).await else { return };
        work = large.spawn(on(over, true)).await.unwrap_or_default();
    }
}
