//! SQL over the tables of a generation.

pub(crate) mod guard;
mod session;

pub use session::{RowSink, Rows, Session, StatementLimits};
