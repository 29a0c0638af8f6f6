//! SQL over the tables of a generation, bounded by what a principal may see.
//!
//! A [`Session`] shows exactly the tables of one [`Visibility`](crate::access::Visibility). Four
//! walls stand around a statement:
//! 1. the *guard* takes the engine's own parse tree and accepts what is on its lists;
//! 2. the *session's instance* of the engine may read exactly the files of its visible tables;
//! 3. the *files* are read-only;
//! 4. *limits* bound time, memory, rows, bytes and how much runs at once.
//!
//! ```
//! use agnes_core::query::QueryOptions;
//! # use agnes_core::{Agnes, NoProgress, SourceName};
//! # use agnes_core::connectors::files::{FilesConnector, FilesOptions};
//! # let dir = tempfile::tempdir().unwrap();
//! # let csv = dir.path().join("orders.csv");
//! # std::fs::write(&csv, "id,total\n1,9.5\n2,20\n").unwrap();
//! # let agnes = Agnes::open(dir.path().join("data"))?;
//! # let files = FilesConnector::new(vec![csv], FilesOptions::default());
//! # agnes.ingest(&SourceName::parse("shop")?, &files, &NoProgress)?;
//! # agnes.rebuild(None, &NoProgress)?;
//! let session = agnes.session()?;
//! let mut rows = session.query("SELECT id, total FROM orders", &QueryOptions::default())?;
//! assert_eq!(rows.schema().fields().len(), 2);
//! for batch in &mut rows {
//!     assert_eq!(batch?.num_rows(), 2);
//! }
//! assert!(!rows.truncated());
//! # Ok::<(), agnes_core::Error>(())
//! ```
//!
//! `docs/query-safety.md` says what the walls promise, and what only a process of its own could.

mod arguments;
mod checked;
mod columns;
mod functions;
#[cfg(fuzzing)]
pub mod fuzz;
pub(crate) mod guard;
#[cfg(any(test, fuzzing))]
mod house;
mod hybrid;
mod instance;
mod limits;
mod pivot;
mod reader;
mod remote;
mod rows;
mod scan;
mod session;
mod shown;
mod threads;
mod tokens;
pub(crate) mod tree;
mod types;
#[cfg(test)]
mod walls;
mod work;

pub use columns::TYPE_KEY;
pub use hybrid::{HybridLimits, HybridSession, Registered};
pub use limits::{QueryLimits, Statements};
pub use reader::Reader;
pub(crate) use reader::error_of_rows;
pub use remote::{REMOTE_ENGINE, RemoteEngine, RemoteEngines, RemoteRows, Stop};
pub use rows::{AllRows, Cancel, Parameter, QueryOptions, Rows};
pub use scan::{Order, Scan};
pub use session::Session;

pub(crate) use instance::{Bounds, Has, Instance, Job, Place, Sink, run_remote};
pub(crate) use limits::Gate;
pub(crate) use session::Means;
pub(crate) use shown::Shelf;
pub(crate) use threads::Threads;
