//! Writing the rows of a foreign query into a parquet file, inside a locked session.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::{Export, ParquetOptions};
use crate::disk::Disk;
use crate::layout::EXTRACT_DB;
use crate::{Error, Kind, Result, engine, sql};

/// The longest that a foreign query may run.
const PATIENCE: Duration = Duration::from_secs(600);

/// Exports `query` of the extract in `folder` to the new file `out`.
///
/// The session sees the extract's own files and the file that it writes, nothing else, and
/// is ended after ten minutes.
pub(crate) fn export(
    query: &Export,
    folder: &Path,
    out: &Path,
    limits: &engine::Limits,
    disk: &Disk,
) -> Result<()> {
    let connection = engine::in_memory(limits)?;
    // DuckDB stores a view's `lambda x: …` as the arrow that it doesn't take any more.
    connection
        .execute_batch("SET lambda_syntax = 'ENABLE_SINGLE_ARROW'")
        .map_err(|e| engine::error("open the engine", e))?;
    if query.tables {
        engine::run(
            &connection,
            "open the extract",
            &sql::attach_extract(&folder.join(EXTRACT_DB))?,
        )?;
    }
    let mut allowed: Vec<PathBuf> = query.files.iter().map(|f| folder.join(f)).collect();
    allowed.push(out.to_path_buf());
    engine::run(&connection, "lock the session", &sql::lock(&allowed)?)?;
    disk.engine_writes(out)?;
    let copy = sql::copy_to_parquet(&query.query, out, &ParquetOptions::default())?;
    with_deadline(&connection, PATIENCE, || {
        for (name, body) in &query.views {
            engine::run(&connection, "make a view", &sql::create_view(name, body))?;
        }
        engine::run(&connection, "export a table", &copy)
    })
}

/// Runs `work` and interrupts the connection when it takes longer than `patience`.
///
/// # Errors
/// `Limit` naming the time limit; whatever `work` returns.
fn with_deadline<T>(
    connection: &duckdb::Connection,
    patience: Duration,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let interrupt = connection.interrupt_handle();
    let (done, wait) = mpsc::channel::<()>();
    let (result, late) = std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let late = wait.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                interrupt.interrupt();
            }
            late
        });
        let result = work();
        drop(done);
        (result, watch.join().unwrap_or(false))
    });
    match result {
        Err(error) if late && error.kind() == Kind::Cancelled => Err(Error::new(
            Kind::Limit,
            format!(
                "the query ran longer than the limit of {} s and was ended",
                patience.as_secs()
            ),
        )),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_query_is_ended_by_the_limit() {
        let connection = engine::in_memory(&engine::Limits::default()).unwrap();
        let error = with_deadline(&connection, Duration::from_millis(50), || {
            connection
                .execute_batch("SELECT count(*) FROM range(10000000000) a, range(1000) b")
                .map_err(|e| engine::error("run", e))
        })
        .unwrap_err();
        assert_eq!(error.kind(), Kind::Limit, "{error}");
    }
}
