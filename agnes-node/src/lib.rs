//! Agnes in Node. Each function converts, calls the core on another thread, converts back; whatever is decided
//! is decided there. `index.js` adds what is JavaScript's own: errors, signals, async iteration.
//! The types of what users see, `index.d.ts`, come of this.

// What the macro exports has to be public.
#![allow(unreachable_pub, private_interfaces)]

mod call;
mod connector;
mod db;
mod extract;
mod people;
mod rows;
mod session;
mod tables;
mod value;

use agnes_core::value::Value;
use agnes_core::{Clock, Error, Kind, SystemClock, Timestamp, schedule};
use napi::bindgen_prelude::Env;
use napi_derive::napi;

use call::{Promised, raised, told};
use value::{Moment, Told};

/// Looks at the extract in a folder with the eyes of a rebuild: what it holds, and what is wrong.
#[napi(ts_return_type = "Promise<ExtractCheck>")]
pub fn check(env: Env, #[napi(ts_arg_type = "string | URL")] folder: String) -> Promised {
    told(env, move || agnes_core::conformance::check_extract(folder.as_ref()))
}

/// When a schedule is looked at.
#[napi(object, object_to_js = false)]
pub struct ScheduleOptions {
    /// When the last sync was.
    #[napi(ts_type = "Date | string | null")]
    pub last: Option<Moment>,
    /// The present moment, where it isn't that of the clock.
    #[napi(ts_type = "Date | string | null")]
    pub now: Option<Moment>,
}

/// What a schedule means: whether it is one, whether a sync is due, and when the next one is.
#[napi(
    js_name = "schedule",
    ts_args_type = "schedule: string | null, options?: ScheduleOptions | null",
    ts_return_type = "Verdict"
)]
pub fn verdict(text: Option<String>, options: Option<ScheduleOptions>) -> napi::Result<Told> {
    let options = options.unwrap_or(ScheduleOptions { last: None, now: None });
    let now = options.now.map_or_else(
        || Ok(SystemClock.now()),
        |Moment(text)| {
            let message = format!("`{text}` is no time");
            Timestamp::parse(&text).ok_or_else(|| raised(Error::new(Kind::Invalid, message)))
        },
    )?;
    // A text that is no time is a part of the answer.
    let last = options.last.map(|Moment(text)| text);
    let verdict = schedule::verdict(text.as_deref(), last.as_deref(), now);
    Ok(Told(Value::of(&verdict).map_err(raised)?))
}

/// Checks a name of a kind. Gives it back, or says what is wrong with it.
#[napi(ts_args_type = "kind: NameKind, name: string")]
pub fn check_name(kind: String, name: String) -> napi::Result<String> {
    agnes_core::check_name(&kind, &name).map_err(raised)
}

/// The engine that is linked: its version, and whether it knows time zones.
#[napi(ts_return_type = "Promise<EngineInfo>")]
pub fn engine_info(env: Env) -> Promised {
    told(env, agnes_core::engine_info)
}

/// The kinds of errors that are worth another try with nothing changed. For `errors.js`.
#[napi(skip_typescript)]
pub fn retryable_kinds() -> Vec<&'static str> {
    Kind::ALL.into_iter().filter(|kind| kind.retryable()).map(Kind::as_str).collect()
}

/// This version of Agnes.
#[napi]
pub const VERSION: &str = agnes_core::VERSION;

/// Runs this process as a worker, to its end: what `agnes-node-worker` calls.
#[unsafe(no_mangle)]
pub extern "C" fn agnes_serve_as_worker() -> std::ffi::c_int {
    let done = agnes_core::serve_as_worker();
    i32::from(done != std::process::ExitCode::SUCCESS)
}

/// Takes the place of what registers C++ objects to be destroyed when the process exits: a thread of the engine's
/// that still works then would use what is gone. The process takes it all along anyway.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
pub extern "C" fn agnes_registers_nothing() -> std::ffi::c_int {
    0
}
