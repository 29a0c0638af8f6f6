//! The `agnes` command.

/// For the engine, too: a catalog of thousands of views is millions of small pieces of memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    agnes_server::command()
}
