//! Progress, told to a function of another language, and what that fails with: whatever tells it has nowhere to put
//! that until it ends.

use std::sync::{Mutex, PoisonError};

use crate::Progress;

/// Progress, told to a function: what is done, how many parts of it are, and of how many.
///
/// ```
/// use agnes_core::Progress;
/// use agnes_core::binding::ToldProgress;
///
/// let progress = ToldProgress::new(|what: &str, done: u64, total: u64| match done <= total {
///     true => Ok(()),
///     false => Err(format!("{what}: {done} of {total}")),
/// });
/// progress.start("reading", 1);
/// progress.step(2);
/// assert_eq!(progress.end(), Err("reading: 2 of 1".to_string()));
/// ```
pub struct ToldProgress<F, E> {
    function: F,
    state: Mutex<(String, u64, u64)>,
    failed: Mutex<Option<E>>,
}

impl<F, E> std::fmt::Debug for ToldProgress<F, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToldProgress").finish_non_exhaustive()
    }
}

impl<F: Fn(&str, u64, u64) -> Result<(), E>, E> ToldProgress<F, E> {
    /// Tells this function.
    pub fn new(function: F) -> Self {
        ToldProgress { function, state: Mutex::default(), failed: Mutex::new(None) }
    }

    /// What the function has failed with, once whatever it was told of has ended.
    ///
    /// # Errors
    /// That.
    pub fn end(&self) -> Result<(), E> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    fn tell(&self, change: impl FnOnce(&mut (String, u64, u64))) {
        let (what, done, total) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut state);
            state.clone()
        };
        if let Err(failure) = (self.function)(&what, done, total) {
            // The first of several.
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
    }
}

impl<F: Fn(&str, u64, u64) -> Result<(), E> + Sync, E: Send> Progress for ToldProgress<F, E> {
    fn start(&self, what: &str, total: u64) {
        self.tell(|state| *state = (what.to_string(), 0, total));
    }

    fn step(&self, parts: u64) {
        self.tell(|state| state.1 += parts);
    }
}
