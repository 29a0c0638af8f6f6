//! What bindings share: the library in another language holds things until they are closed, and is called back.

mod callbacks;
mod handle;
mod opening;

pub use callbacks::{AskedSecrets, ToldProgress};
pub use handle::{Along, Handle, Mine, Origin, count_forks};
pub use opening::{GivenConfig, Opened, Opening, files};
