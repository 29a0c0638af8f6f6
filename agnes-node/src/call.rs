//! Calls: what takes a while is done on another thread and told by a promise; what goes wrong is told as text,
//! of which `index.js` makes an `AgnesError` with the stack of whoever waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use agnes_core::binding::Fault;
use agnes_core::value::Value;
use agnes_core::{Error, Kind};
use napi::bindgen_prelude::{Env, ToNapiValue, spawn_blocking};
use napi::{JsValue, sys};
use serde::Serialize;

use crate::value::Told;

/// The promise of what a call gives.
pub(crate) type Promised = napi::Result<Pledge>;

/// A promise, on its way to whoever has called.
pub struct Pledge(sys::napi_value);

impl ToNapiValue for Pledge {
    unsafe fn to_napi_value(_: sys::napi_env, pledge: Self) -> napi::Result<sys::napi_value> {
        Ok(pledge.0)
    }
}

type Settle<V> = Box<dyn FnOnce(Env) -> napi::Result<V> + Send>;

/// Does something on another thread, makes something for JavaScript of it, and promises that.
pub(crate) fn promise<T: Send + 'static, V: ToNapiValue + 'static>(
    env: Env,
    work: impl FnOnce() -> agnes_core::Result<T> + Send + 'static,
    made: impl FnOnce(T) -> V + Send + 'static,
) -> Promised {
    let (settle, promise) = pledge(env, made)?;
    spawn_blocking(move || settle(guarded(work)));
    Ok(promise)
}

/// The same for what may call JavaScript, which may ask for something itself: on a thread of its own, since those
/// that others share could all wait for that.
pub(crate) fn promise_apart<T: Send + 'static, V: ToNapiValue + 'static>(
    env: Env,
    work: impl FnOnce() -> agnes_core::Result<T> + Send + 'static,
    made: impl FnOnce(T) -> V + Send + 'static,
) -> Promised {
    let (settle, promise) = pledge(env, made)?;
    let thread = std::thread::Builder::new().name("agnes-call".into());
    match thread.spawn(move || settle(guarded(work))) {
        Ok(_) => Ok(promise),
        Err(error) => Err(raised(Error::new(
            Kind::Unavailable,
            format!("there is no thread for the call ({error}); try again"),
        ))),
    }
}

type Settled<T> = Box<dyn FnOnce(agnes_core::Result<T>) + Send>;

/// A promise, and what keeps it.
fn pledge<T: Send + 'static, V: ToNapiValue + 'static>(
    env: Env,
    made: impl FnOnce(T) -> V + Send + 'static,
) -> napi::Result<(Settled<T>, Pledge)> {
    let (deferred, promise) = env.create_deferred::<V, Settle<V>>()?;
    let promise = Pledge(promise.raw());
    let settle = move |done: agnes_core::Result<T>| {
        deferred.resolve(Box::new(move |_| done.map(made).map_err(raised)));
    };
    Ok((Box::new(settle), promise))
}

fn guarded<T>(work: impl FnOnce() -> agnes_core::Result<T>) -> agnes_core::Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::new(Kind::Internal, "a call has panicked")))
}

/// Does something on another thread, and tells what the core reports of it.
pub(crate) fn told<T: Serialize>(
    env: Env,
    work: impl FnOnce() -> agnes_core::Result<T> + Send + 'static,
) -> Promised {
    promise(env, || Value::of(&work()?), Told)
}

/// What JavaScript code has thrown.
#[derive(Debug)]
pub(crate) struct Thrown(napi::Error);

impl std::fmt::Display for Thrown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.reason)
    }
}

impl std::error::Error for Thrown {}

/// An error, on its way to JavaScript.
pub(crate) fn raised(error: Error) -> napi::Error {
    let text = serde_json::to_string(&Fault::from(&error)).unwrap_or_else(|_| error.to_string());
    let mut raised = napi::Error::from_reason(text);
    let mut causes =
        std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
    if let Some(Thrown(thrown)) = causes.find_map(|cause| cause.downcast_ref())
        && let Ok(thrown) = thrown.try_clone()
    {
        raised.set_cause(thrown);
    }
    raised
}

/// What JavaScript code has thrown, as an error of the core's: `described` is what `index.js` says of it.
pub(crate) fn of_thrown(described: &str, thrown: napi::Error) -> Error {
    let error = match serde_json::from_str::<Fault>(described) {
        Ok(fault) => fault.into(),
        Err(_) => Error::new(Kind::Contract, "the JavaScript code threw something"),
    };
    error.because(Thrown(thrown))
}
