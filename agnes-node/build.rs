//! Lets the addon find Node's symbols in the process that loads it, and has nothing of it destroyed at exit.

#[expect(clippy::disallowed_methods, reason = "this is how cargo tells")]
fn main() {
    napi_build::setup();
    // See `agnes_registers_nothing`.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--defsym=__cxa_atexit=agnes_registers_nothing");
    }
}
