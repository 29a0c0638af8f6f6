//! Workers: processes in which statements of strangers run, so that what no guard can foresee costs
//! its author one process and nobody else anything.
//!
//! A worker is a program that was named by whoever embeds Agnes (`agnes` itself for the server), started
//! with two sockets, nothing of its environment and no other file. It raises its walls before it has
//! a second thread, opens an instance of the engine that shows what one visibility shows, and then
//! parses and runs statements, one at a time, as long as it is asked to. What may run is decided
//! outside of it.
//!
//! - `wire.rs`: the frames of the first socket; `control.rs` the second, which interrupts.
//! - `child.rs`: the worker's own side; `walls.rs` what keeps it in.
//! - `starter.rs`: how it begins; `life.rs` its process, and `reaper.rs` ends that when its time is over.
//! - `process.rs`: its other end; `rows.rs` what it tells of rows.
//! - `pool.rs`: those that are ready for more.
//! - `foreign.rs`: what Agnes asks of files that strangers have written.

mod child;
mod control;
mod foreign;
mod life;
mod pool;
mod process;
mod reaper;
mod rows;
mod starter;
mod walls;
mod wire;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::engine::direct::VECTOR;
use crate::orchestrator::Attach;
use crate::query::{Job, Parameter, Place, QueryLimits};
use crate::sql::Sql;
use crate::{Timestamp, ViewName};

pub use child::serve_as_worker;
pub(crate) use foreign::{Foreign, Texts};
pub(crate) use pool::{Pool, Taken};
pub use pool::{WorkerCounts, WorkerSettings};
pub use process::WorkerProgram;
pub(crate) use process::{ENDED, Fate, Worker};
pub use walls::Wall;

/// What a worker is told before anything else.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Open {
    purpose: Purpose,
    limits: QueryLimits,
    /// The walls without which it doesn't open anything.
    needs: Vec<Wall>,
}

/// When a worker may compute, beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    /// As all, until it has computed for long.
    Usual,
    /// Behind all others: it is for somebody who has computed much.
    Last,
}

/// What a worker is for: nothing that this doesn't take is within its walls.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// Statements over tables in these files.
    Tables { files: Vec<PathBuf> },
    /// Lists of tables and columns.
    Lists,
    /// One statement over remote systems, and over what lies in these files. It reaches the network.
    Remote { files: Vec<PathBuf> },
    /// What Agnes itself asks of files that a stranger has written.
    Foreign {
        reads: Vec<PathBuf>,
        /// The one file that it writes, which is there and empty.
        writes: Option<PathBuf>,
    },
}

impl Purpose {
    /// The files that it may read.
    fn reads(&self) -> &[PathBuf] {
        match self {
            Purpose::Tables { files } | Purpose::Remote { files } => files,
            Purpose::Foreign { reads, .. } => reads,
            Purpose::Lists => &[],
        }
    }

    /// The file that it may write.
    fn writes(&self) -> Option<&Path> {
        match self {
            Purpose::Foreign { writes, .. } => writes.as_deref(),
            _ => None,
        }
    }

    fn is_remote(&self) -> bool {
        matches!(self, Purpose::Remote { .. })
    }
}

/// What a worker says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    version: u32,
    walls: Vec<Wall>,
}

/// A statement on its way.
#[derive(Serialize, Deserialize)]
struct Run {
    /// Tells it from the others of this worker.
    number: u64,
    views: Vec<(ViewName, Sql)>,
    place: Where,
    statement: Sql,
    parameters: Vec<Value>,
    batch_rows: u32,
}

/// Where a statement runs, on its way.
#[derive(Serialize, Deserialize)]
enum Where {
    Shared,
    Remote { attaches: Vec<Attach>, files: Vec<PathBuf> },
    Catalog(Option<Vec<Sql>>),
}

/// A parameter on its way: JSON has no number that isn't one.
#[derive(Serialize, Deserialize)]
enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    /// Its bits.
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
    /// Microseconds since 1970.
    Timestamp(i64),
}

impl From<Parameter> for Value {
    fn from(parameter: Parameter) -> Value {
        match parameter {
            Parameter::Null => Value::Null,
            Parameter::Bool(value) => Value::Bool(value),
            Parameter::Integer(value) => Value::Integer(value),
            Parameter::Float(value) => Value::Float(value.to_bits()),
            Parameter::Text(value) => Value::Text(value),
            Parameter::Bytes(value) => Value::Bytes(value),
            Parameter::Timestamp(value) => Value::Timestamp(value.as_micros()),
        }
    }
}

impl From<Value> for Parameter {
    fn from(value: Value) -> Parameter {
        match value {
            Value::Null => Parameter::Null,
            Value::Bool(value) => Parameter::Bool(value),
            Value::Integer(value) => Parameter::Integer(value),
            Value::Float(bits) => Parameter::Float(f64::from_bits(bits)),
            Value::Text(value) => Parameter::Text(value),
            Value::Bytes(value) => Parameter::Bytes(value),
            Value::Timestamp(micros) => Parameter::Timestamp(Timestamp::from_micros(micros)),
        }
    }
}

impl Run {
    fn of(number: u64, job: Job) -> Run {
        let Job { place, views, statement, parameters, batch_rows } = job;
        let place = match place {
            Place::Shared => Where::Shared,
            Place::Catalog(tables) => Where::Catalog(tables),
            Place::Remote { attaches, files } => Where::Remote { attaches, files },
        };
        let parameters = parameters.into_iter().map(Value::from).collect();
        // A worker has little memory, and what a statement makes of its tables may be long.
        let batch_rows = batch_rows.min(VECTOR);
        Run { number, views, place, statement, parameters, batch_rows }
    }
}
