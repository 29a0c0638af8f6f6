//! What Python holds of the core's, and lets go of: when it is closed, and never in a process that was
//! forked off, where nobody runs the threads that it would wait for.

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

use agnes_core::{Error, Kind};

/// How many forks lie between this process and the one that loaded the module.
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// Has forks counted from now on.
pub(crate) fn count_forks() {
    static COUNTED: Once = Once::new();
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: what is called in the child does nothing but count.
    COUNTED.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(forked));
    });
}

/// The process in which something was made.
#[derive(Clone, Copy)]
pub(crate) struct Origin(usize);

impl Origin {
    pub(crate) fn here() -> Origin {
        Origin(FORKS.load(Ordering::Relaxed))
    }

    /// Whether it is this one, and not one that this was forked off.
    pub(crate) fn is_here(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }

    /// # Errors
    /// `Invalid` where it isn't.
    pub(crate) fn check(self, name: &str) -> Result<(), Error> {
        match self.is_here() {
            true => Ok(()),
            false => Err(Error::new(
                Kind::Invalid,
                format!(
                    "{name} was opened before this process was forked off: open it anew here, or start \
                     processes with `multiprocessing.get_context('spawn')`"
                ),
            )),
        }
    }
}

/// Something of the core's, as long as it is open.
pub(crate) struct Handle<T> {
    slot: Arc<Slot<T>>,
    name: &'static str,
}

struct Slot<T> {
    what: Mutex<Option<Arc<T>>>,
    origin: Origin,
}

impl<T> Slot<T> {
    fn take(&self) -> Option<Arc<T>> {
        self.what.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Lets go of it; of what is a parent's without a word.
    fn let_go(&self) {
        let what = self.take();
        match self.origin.is_here() {
            true => drop(what),
            false => std::mem::forget(what),
        }
    }
}

trait Close: Send + Sync {
    fn close(&self);
}

impl<T: Send + Sync> Close for Slot<T> {
    fn close(&self) {
        self.let_go();
    }
}

impl<T: Send + Sync + 'static> Handle<T> {
    /// `name` is what people call it, as in `the session`.
    pub(crate) fn new(name: &'static str, what: T) -> Self {
        let what = Mutex::new(Some(Arc::new(what)));
        Handle { slot: Arc::new(Slot { what, origin: Origin::here() }), name }
    }

    /// # Errors
    /// `Invalid` when it is closed, or was opened before this process was forked off.
    pub(crate) fn get(&self) -> Result<Arc<T>, Error> {
        self.slot.origin.check(self.name)?;
        let what = self.slot.what.lock().unwrap_or_else(PoisonError::into_inner).clone();
        what.ok_or_else(|| Error::new(Kind::Invalid, format!("{} is closed", self.name)))
    }

    /// Lets go of it; again and again, if somebody likes.
    pub(crate) fn close(&self) {
        self.slot.let_go();
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.slot.let_go();
    }
}

/// Something that is dropped in the process that made it, and in no other.
pub(crate) struct Mine<T> {
    what: ManuallyDrop<T>,
    origin: Origin,
}

impl<T> Mine<T> {
    pub(crate) fn new(what: T) -> Self {
        Mine { what: ManuallyDrop::new(what), origin: Origin::here() }
    }
}

impl<T> Deref for Mine<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.what
    }
}

impl<T> DerefMut for Mine<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.what
    }
}

impl<T> Drop for Mine<T> {
    fn drop(&mut self) {
        if self.origin.is_here() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.what) };
        }
    }
}

/// What is closed along with something else.
#[derive(Default)]
pub(crate) struct Along(Mutex<Vec<Weak<dyn Close>>>);

impl Along {
    pub(crate) fn add<T: Send + Sync + 'static>(&self, handle: &Handle<T>) {
        let slot: Arc<dyn Close> = handle.slot.clone();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == all.capacity() {
            all.retain(|slot| slot.strong_count() > 0);
        }
        all.push(Arc::downgrade(&slot));
    }

    pub(crate) fn close(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        all.iter().filter_map(Weak::upgrade).for_each(|slot| slot.close());
    }
}
