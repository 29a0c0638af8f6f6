//! What bindings share: the library in another language holds things until they are closed, and is called back.

mod callbacks;
mod handle;

pub use callbacks::{AskedSecrets, ToldProgress};
pub use handle::{Along, Handle, Mine, Origin, count_forks};
