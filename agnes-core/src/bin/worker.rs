//! Runs statements for a program that embeds Agnes and names this one in its
//! [`WorkerSettings`](agnes_core::WorkerSettings). It does nothing by itself.

fn main() -> std::process::ExitCode {
    agnes_core::serve_as_worker()
}
