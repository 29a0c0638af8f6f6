//! Functions of another language that the library calls, and what they fail with: the call that they were given
//! to has nowhere to put that until it ends.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Progress, Secret, Secrets, TokenEnv};

/// The first failure of several.
#[derive(Debug)]
struct First<E>(Mutex<Option<E>>);

impl<E> First<E> {
    fn new() -> Self {
        First(Mutex::new(None))
    }

    fn locked(&self) -> MutexGuard<'_, Option<E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure.
    fn hear<T>(&self, done: Result<T, E>) -> Option<T> {
        match done {
            Ok(value) => Some(value),
            Err(failure) => {
                self.locked().get_or_insert(failure);
                None
            }
        }
    }

    fn take(&self) -> Result<(), E> {
        self.locked().take().map_or(Ok(()), Err)
    }
}

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
    failed: First<E>,
}

impl<F, E> std::fmt::Debug for ToldProgress<F, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToldProgress").finish_non_exhaustive()
    }
}

impl<F: Fn(&str, u64, u64) -> Result<(), E>, E> ToldProgress<F, E> {
    /// Tells this function.
    pub fn new(function: F) -> Self {
        ToldProgress { function, state: Mutex::default(), failed: First::new() }
    }

    /// What the function has failed with, once whatever it was told of has ended.
    ///
    /// # Errors
    /// That.
    pub fn end(&self) -> Result<(), E> {
        self.failed.take()
    }

    fn tell(&self, change: impl FnOnce(&mut (String, u64, u64))) {
        let (what, done, total) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut state);
            state.clone()
        };
        self.failed.hear((self.function)(&what, done, total));
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

/// Variables, asked of a function by their names; none for one that isn't set, or where asking has failed.
pub struct AskedSecrets<F, E> {
    function: F,
    failed: First<E>,
}

impl<F, E> std::fmt::Debug for AskedSecrets<F, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AskedSecrets").finish_non_exhaustive()
    }
}

impl<F: Fn(&str) -> Result<Option<String>, E>, E> AskedSecrets<F, E> {
    /// Asks this function.
    pub fn new(function: F) -> Self {
        AskedSecrets { function, failed: First::new() }
    }

    /// A variable's value, as it is.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.failed.hear((self.function)(name)).flatten()
    }

    /// What the function has failed with since somebody last asked for it.
    ///
    /// # Errors
    /// That.
    pub fn check(&self) -> Result<(), E> {
        self.failed.take()
    }
}

impl<F: Fn(&str) -> Result<Option<String>, E> + Send + Sync, E: Send> Secrets
    for AskedSecrets<F, E>
{
    fn get(&self, name: &TokenEnv) -> Option<Secret> {
        self.variable(name.as_str()).filter(|value| !value.is_empty()).map(Secret::new)
    }
}
