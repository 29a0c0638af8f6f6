//! What a worker can do once it isn't itself any more: nothing that its walls keep from it.
//!
//! This program plays both ends. As Agnes it starts itself again as a worker, over the same wire
//! (`agnes.rs`). As the worker it serves until a signal comes, in whose midst it does whatever it
//! can to get out (`captured.rs`): so does a statement that has taken over its process. And it has
//! every statement of `tests/cases/query-attacks.json` run that no guard has looked at
//! (`unguarded.rs`).
//!
//! It has no harness: a worker has to be alone in its process before it raises its walls.
// Helpers of tests are tests: they may panic, and nothing outside sees them.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout)]

#[cfg(target_os = "linux")]
mod agnes;
#[cfg(target_os = "linux")]
mod captured;
#[cfg(target_os = "linux")]
mod unguarded;

/// What has this program be a worker.
const WORKER: &str = "captured-worker";

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == WORKER) {
        #[cfg(target_os = "linux")]
        captured::prepare(&arguments[2..]);
        return agnes_core::serve_as_worker();
    }
    let mut failed = false;
    for (name, test) in tests() {
        // As cargo's own: a part of the name.
        if arguments[1..]
            .iter()
            .any(|wanted| !wanted.starts_with('-') && !name.contains(wanted.as_str()))
        {
            continue;
        }
        let passed = std::panic::catch_unwind(test).is_ok();
        failed |= !passed;
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    }
    std::process::ExitCode::from(u8::from(failed))
}

#[cfg(target_os = "linux")]
fn tests() -> Vec<(&'static str, fn())> {
    vec![
        ("a_captured_worker_is_bounded", captured::a_captured_worker_is_bounded),
        ("a_captured_worker_gets_nowhere", captured::a_captured_worker_gets_nowhere),
        (
            "a_remote_worker_gets_to_the_network_alone",
            captured::a_remote_worker_gets_to_the_network_alone,
        ),
        ("a_worker_for_foreign_files_writes_one", captured::a_worker_for_foreign_files_writes_one),
        ("no_statement_gets_out_without_a_guard", unguarded::no_statement_gets_out_without_a_guard),
    ]
}

#[cfg(not(target_os = "linux"))]
fn tests() -> Vec<(&'static str, fn())> {
    Vec::new()
}
