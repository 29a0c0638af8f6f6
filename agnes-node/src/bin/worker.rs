//! What Node starts as a worker: runs the library in the addon whose path is its argument.
//!
//! Node can't be one itself, since it has started threads before it runs anything of ours, around which the
//! kernel raises no walls any more. A program of its own with the library in it would be a second copy of the
//! engine, and perhaps of another version.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1).and_then(|p| CString::new(p.into_vec()).ok())
    else {
        return ExitCode::FAILURE;
    };
    // SAFETY: the addon is a library of the same build, whose function has this type; it stays loaded.
    unsafe {
        let addon = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if addon.is_null() {
            return ExitCode::FAILURE;
        }
        let serve = libc::dlsym(addon, c"agnes_serve_as_worker".as_ptr());
        if serve.is_null() {
            return ExitCode::FAILURE;
        }
        let serve: extern "C" fn() -> libc::c_int = std::mem::transmute(serve);
        ExitCode::from(u8::try_from(serve()).unwrap_or(1))
    }
}
