//! Has nothing of the module destroyed at exit.

#[expect(clippy::disallowed_methods, reason = "this is how cargo tells")]
fn main() {
    // See `agnes_registers_nothing`.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--defsym=__cxa_atexit=agnes_registers_nothing");
    }
}
