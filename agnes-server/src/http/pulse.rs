//! Whether the system database answers, asked now and then: who wants to know hears at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agnes_core::Agnes;

/// How long what it said is good for.
const GOOD: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the system database said last.
#[derive(Clone)]
pub(crate) struct Pulse(Arc<Mutex<State>>);

struct State {
    schema: Option<u32>,
    at: Instant,
    /// Since when it has been asked again.
    asked: Option<Instant>,
}

impl Pulse {
    /// It has just said which schema it has.
    pub(crate) fn new(schema: u32) -> Pulse {
        Pulse(Arc::new(Mutex::new(State { schema: Some(schema), at: Instant::now(), asked: None })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The schema of the system database; none when it doesn't answer. It is asked again for the
    /// next one who wants to know, beside the pools: a busy server is well.
    pub(crate) fn schema(&self, agnes: &Arc<Agnes>) -> Option<u32> {
        let (schema, asks) = self.with(|state| match state.asked {
            Some(asked) if asked.elapsed() > PATIENCE => (None, false),
            Some(_) => (state.schema, false),
            None => {
                let asks = state.at.elapsed() > GOOD;
                state.asked = asks.then(Instant::now);
                (state.schema, asks)
            }
        });
        if asks {
            let (pulse, agnes) = (self.clone(), agnes.clone());
            tokio::task::spawn_blocking(move || {
                let schema = agnes.store().and_then(|store| store.schema_version()).ok();
                pulse.with(|state| *state = State { schema, at: Instant::now(), asked: None });
            });
        }
        schema
    }
}
