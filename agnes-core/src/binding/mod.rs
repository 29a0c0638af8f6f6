//! What bindings share: the library in another language holds things until they are closed, is asked in words, and
//! calls back.

mod fault;
mod handle;
mod opening;
mod operator;
mod progress;
mod reading;
mod session;
mod writing;

pub use fault::Fault;
use handle::Origin;
pub use handle::{Along, Handle, Mine, count_forks};
pub use opening::{GivenConfig, Opened, Opening, Variables, files};
pub use operator::{Operator, Refreshed};
pub use progress::ToldProgress;
pub use reading::Reading;
pub use session::{OpenSession, Statement, Whose};
pub use writing::{Asked, Busy, HandedOver, Writing, extract_by};
