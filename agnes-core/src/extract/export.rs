//! Writing the rows of a foreign query into a parquet file, inside a locked session.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Export, ParquetOptions};
use crate::disk::Disk;
use crate::layout::EXTRACT_DB;
use crate::worker::{Fate, Foreign, Pool};
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
    pool: Option<&Arc<Pool>>,
) -> Result<()> {
    let mut files: Vec<PathBuf> = query.files.iter().map(|f| folder.join(f)).collect();
    if query.tables {
        files.extend(super::database_files(folder));
    }
    disk.engine_writes(out)?;
    // A worker may write this one file, and make none.
    File::create_new(out).map_err(|e| Error::io("write", out, e))?;
    let engine = Foreign::open(pool, limits, PATIENCE, files, Some(out.to_path_buf()))?;
    let done = copy(query, folder, out, &engine);
    done.map_err(|error| match engine.fate() {
        // It says nothing about the extract.
        Some(Fate::Killed | Fate::Memory) => Error::new(Kind::Unavailable, error.message()),
        _ => error,
    })
}

fn copy(query: &Export, folder: &Path, out: &Path, engine: &Foreign) -> Result<()> {
    if query.tables {
        engine.execute("open the extract", &sql::attach_extract(&folder.join(EXTRACT_DB))?)?;
    }
    for (name, body) in &query.views {
        engine.execute("make a view", &sql::create_view(name, body))?;
    }
    let copy = sql::copy_to_parquet(&query.query, out, &ParquetOptions::default())?;
    engine.execute_long("export a table", &copy)
}
