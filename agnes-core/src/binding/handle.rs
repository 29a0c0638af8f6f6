//! What a binding holds of the library's, and lets go of: when it is closed, whoever else has it, and never in
//! a process that was forked off, where nobody runs the threads that it would wait for.

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

use crate::{Error, Kind, Result};

/// How many forks lie between this process and the one that loaded the module.
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// Has forks counted from now on: for languages whose programs fork. Without it every process is the one that
/// loaded the library.
pub fn count_forks() {
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
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin(usize);

impl Origin {
    /// This process.
    pub(super) fn here() -> Origin {
        Origin(FORKS.load(Ordering::Relaxed))
    }

    /// Whether it is this one, and not one that this was forked off.
    pub(super) fn is_here(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }

    /// Says that something was made in this process; `name` is what people call it, as in `the session`.
    ///
    /// # Errors
    /// `Invalid` where it wasn't.
    pub(super) fn check(self, name: &str) -> Result<()> {
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

/// Something of the library's, as long as it is open.
///
/// ```
/// use agnes_core::binding::Handle;
///
/// let open = Handle::new("the door", 42);
/// assert_eq!(*open.get()?, 42);
/// open.close();
/// assert_eq!(open.get().unwrap_err().message(), "the door is closed");
/// # Ok::<(), agnes_core::Error>(())
/// ```
pub struct Handle<T> {
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

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        self.let_go();
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

impl<T> std::fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Handle").field(&self.name).finish()
    }
}

impl<T: Send + Sync + 'static> Handle<T> {
    /// Holds something; `name` is what people call it, as in `the session`.
    pub fn new(name: &'static str, what: T) -> Self {
        let what = Mutex::new(Some(Arc::new(what)));
        Handle { slot: Arc::new(Slot { what, origin: Origin::here() }), name }
    }

    /// It, while it is open.
    ///
    /// # Errors
    /// `Invalid` when it is closed, or was opened before this process was forked off.
    pub fn get(&self) -> Result<Arc<T>> {
        self.slot.origin.check(self.name)?;
        let what = self.slot.what.lock().unwrap_or_else(PoisonError::into_inner).clone();
        what.ok_or_else(|| Error::new(Kind::Invalid, format!("{} is closed", self.name)))
    }

    /// Lets go of it; again and again, if somebody likes.
    pub fn close(&self) {
        self.slot.let_go();
    }
}

impl<T> Clone for Handle<T> {
    /// The same thing: whoever closes one closes all.
    fn clone(&self) -> Self {
        Handle { slot: self.slot.clone(), name: self.name }
    }
}

/// Something that is dropped in the process that made it, and in no other.
pub struct Mine<T> {
    what: ManuallyDrop<T>,
    origin: Origin,
}

impl<T> Mine<T> {
    /// Holds something.
    pub fn new(what: T) -> Self {
        Mine { what: ManuallyDrop::new(what), origin: Origin::here() }
    }
}

impl<T> std::fmt::Debug for Mine<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Mine").finish()
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
pub struct Along(Mutex<Vec<Weak<dyn Close>>>);

impl std::fmt::Debug for Along {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Along").finish()
    }
}

impl Along {
    /// Has this closed along.
    pub fn add<T: Send + Sync + 'static>(&self, handle: &Handle<T>) {
        let slot: Arc<dyn Close> = handle.slot.clone();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == all.capacity() {
            all.retain(|slot| slot.strong_count() > 0);
        }
        all.push(Arc::downgrade(&slot));
    }

    /// Closes all of it that is still there.
    pub fn close(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        all.iter().filter_map(Weak::upgrade).for_each(|slot| slot.close());
    }
}
