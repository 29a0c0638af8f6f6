//! Agnes in Python. Each function converts, lets go of the interpreter, calls the core, converts back;
//! whatever is decided is decided there. The classes that users see are re-exported by `python/agnes`,
//! whose stubs describe them.

mod arrow;
mod connector;
mod convert;
mod db;
mod error;
mod extract;
mod people;
mod rows;
mod session;
mod tables;

use std::path::PathBuf;

use agnes_core::{Clock, SystemClock, schedule};
use pyo3::prelude::*;

use convert::{Told, moment, told};
use error::Result;

/// Looks at the extract in a folder with the eyes of a rebuild: what it holds, and what is wrong.
#[pyfunction]
fn check(py: Python<'_>, folder: PathBuf) -> Told {
    told(py, &py.detach(|| agnes_core::conformance::check_extract(&folder))?)
}

/// What a schedule means: whether it is one, whether a sync is due, and when the next one is.
///
/// `last` is when the last sync was, `now` the present moment: `datetime`s with a time zone, or texts.
#[pyfunction]
#[pyo3(name = "schedule", signature = (schedule, *, last=None, now=None))]
fn verdict(
    py: Python<'_>,
    schedule: Option<&str>,
    last: Option<Bound<'_, PyAny>>,
    now: Option<Bound<'_, PyAny>>,
) -> Told {
    let now = now.map_or_else(|| Ok(SystemClock.now()), |now| moment(&now))?;
    // A text that is no time is a part of the answer.
    let last = last.map(|last| match last.extract::<String>() {
        Ok(text) => Ok(text),
        Err(_) => Ok::<_, error::Raised>(moment(&last)?.to_string()),
    });
    told(py, &schedule::verdict(schedule, last.transpose()?.as_deref(), now))
}

/// Checks a name of a kind: `source`, `table`, `view`, `alias`, `extension`, `external`, `column`,
/// `token_env`. Gives it back, or says what is wrong with it.
#[pyfunction]
fn check_name(kind: &str, name: &str) -> Result<String> {
    Ok(agnes_core::check_name(kind, name)?)
}

/// The engine that is linked: its version, and whether it knows time zones.
#[pyfunction]
fn engine_info(py: Python<'_>) -> Told {
    told(py, &py.detach(agnes_core::engine_info)?)
}

/// Runs this process as a worker, to its end. Not for people.
#[pyfunction]
fn serve_as_worker() {
    let done = agnes_core::serve_as_worker();
    // Nothing is left for the interpreter to do.
    std::process::exit(i32::from(done != std::process::ExitCode::SUCCESS));
}

/// Takes the place of what registers C++ objects to be destroyed when the process exits: a thread of the engine's
/// that still works then would use what is gone. The process takes it all along anyway.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
extern "C" fn agnes_registers_nothing() -> std::ffi::c_int {
    0
}

// Free-threaded builds don't load modules of the stable ABI; one that is built for them by itself says
// that nobody has tried it there.
#[pymodule(gil_used = true)]
mod _agnes {
    #[pymodule_export]
    use super::connector::Job;
    #[pymodule_export]
    use super::db::{Agnes, open};
    #[pymodule_export]
    use super::extract::ExtractWriter;
    #[pymodule_export]
    use super::people::Decision;
    #[pymodule_export]
    use super::rows::Rows;
    #[pymodule_export]
    use super::session::Session;
    #[pymodule_export]
    use super::{check, check_name, engine_info, serve_as_worker, verdict};

    #[pymodule_export]
    const VERSION: &str = agnes_core::VERSION;

    #[pymodule_init]
    fn init() {
        agnes_core::binding::count_forks();
    }
}
