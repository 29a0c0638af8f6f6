//! The second socket of a worker: numbers of statements that are to end. When it ends, so does the
//! worker.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

/// Hears which statements are to end, and ends the process with whoever has started it.
pub(super) fn watch(control: &OwnedFd, interrupt: impl Fn(u64)) {
    let mut number = [0; 8];
    if let Ok(control) = control.try_clone() {
        let mut control = File::from(control);
        while control.read_exact(&mut number).is_ok() {
            interrupt(u64::from_le_bytes(number));
        }
    }
    // A statement may be at work, in whose midst nothing can be closed in order.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}
