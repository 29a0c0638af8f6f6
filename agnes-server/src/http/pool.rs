//! The threads on which the core works: so many, and no more wait than makes sense.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use agnes_core::{Error, Kind, Result};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request waits for a thread.
const PATIENCE: Duration = Duration::from_secs(30);
/// The requests that may wait for each thread.
const WAITING_EACH: usize = 16;

/// Whose threads a pool uses: those of the runtime that asks, unless others are set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads(Arc<RwLock<Option<Handle>>>);

impl Threads {
    pub(crate) fn set(&self, handle: Option<Handle>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = handle;
    }

    fn get(&self) -> Handle {
        let set = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        set.unwrap_or_else(Handle::current)
    }
}

/// Runs what blocks, so much of it at a time.
#[derive(Debug)]
pub(crate) struct Pool {
    on: Threads,
    permits: Arc<Semaphore>,
    threads: usize,
    waiting: AtomicUsize,
    most_waiting: usize,
}

impl Pool {
    /// A pool of this many threads.
    pub(crate) fn new(threads: usize, on: Threads) -> Pool {
        Pool {
            on,
            permits: Arc::new(Semaphore::new(threads)),
            threads,
            waiting: AtomicUsize::new(0),
            most_waiting: threads.saturating_mul(WAITING_EACH),
        }
    }

    /// Runs `work` on a thread of the pool. It runs to its end also when nobody waits for it any
    /// more.
    ///
    /// # Errors
    /// Those of `work`; `Unavailable` while too many wait, `Internal` when it panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self.permit().await?;
        self.on_a_thread(permit, work).await
    }

    /// Runs the next part of what has begun, however long that waits for a thread: breaking it off
    /// would cost more than waiting.
    ///
    /// # Errors
    /// Those of `work`; `Internal` when it panics.
    pub(crate) async fn go_on<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let waiting = Waiting::begin(&self.waiting);
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Error::new(Kind::Internal, "the pool is closed"))?;
        drop(waiting);
        self.on_a_thread(permit, work).await
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = self.on.get().spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.unwrap_or_else(|_| Err(Error::new(Kind::Internal, "the work panicked")))
    }

    /// Pieces of work that run.
    pub(crate) fn running(&self) -> usize {
        self.threads.saturating_sub(self.permits.available_permits())
    }

    /// Those that wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        let busy = || Error::new(Kind::Unavailable, "the server is busy; try again in a moment");
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = Waiting::begin(&self.waiting);
        if waiting.before >= self.most_waiting {
            return Err(busy());
        }
        let permit = tokio::time::timeout(PATIENCE, self.permits.clone().acquire_owned()).await;
        permit.ok().and_then(Result::ok).ok_or_else(busy)
    }
}

/// Somebody who waits, counted until she doesn't.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn begin(all: &'a AtomicUsize) -> Waiting<'a> {
        Waiting { all, before: all.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_costs_no_thread() {
        let pool = Pool::new(1, Threads::default());
        for _ in 0..3 {
            let done: Result<()> = pool.run(|| panic!("fell over")).await;
            assert_eq!(done.unwrap_err().kind(), Kind::Internal);
        }
        assert_eq!(pool.run(|| Ok(5)).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn only_so_many_wait() {
        let pool = Arc::new(Pool::new(1, Threads::default()));
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(move || Ok(gone.recv().is_ok())).await }
        });
        while pool.permits.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..WAITING_EACH)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { pool.run(|| Ok(())).await })
            })
            .collect();
        while pool.waiting.load(Ordering::Relaxed) < WAITING_EACH {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|| Ok(())).await.unwrap_err().kind(), Kind::Unavailable);
        go.send(()).unwrap();
        assert!(first.await.unwrap().unwrap());
        for other in others {
            other.await.unwrap().unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_waits_behind_any_number_of_others() {
        let pool = Arc::new(Pool::new(1, Threads::default()));
        let permit = pool.permits.clone().try_acquire_owned().unwrap();
        let begun: Vec<_> = (0..WAITING_EACH * 3)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { pool.go_on(|| Ok(())).await })
            })
            .collect();
        tokio::time::sleep(PATIENCE * 10).await;
        drop(permit);
        for one in begun {
            one.await.unwrap().unwrap();
        }
    }
}
