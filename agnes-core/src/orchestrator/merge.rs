//! One file out of a table's several, for clients that know one file per table.
//!
//! Where all have one schema their row groups are copied as they are, which costs no more than
//! pinning did. Otherwise the engine reads them as the table's view does and writes them anew.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;

use super::Context;
use super::generation::Pin;
use super::pin::{Failure, Target};
use crate::extract::ParquetOptions;
use crate::worker::{Fate, Foreign};
use crate::{Error, Kind, Result, sql};

/// The longest that the engine may take for it.
const PATIENCE: Duration = Duration::from_secs(600);

/// Merges the pinned files of a table, in their order. Nothing comes of it where they don't fit
/// together: then reading the table fails as well.
pub(super) fn merge(
    target: &Target<'_>,
    files: &[Pin],
    by_name: bool,
    context: &Context<'_>,
) -> Result<Option<Pin>, Failure> {
    let out = target.export_path();
    let _ = fs::remove_file(&out);
    context.disk.engine_writes(&out).map_err(Failure::Disk)?;
    let paths: Vec<PathBuf> =
        files.iter().map(|pin| context.layout.analytics().join(&pin.path)).collect();
    let merged = match concatenate(&paths, &out) {
        Ok(true) => Ok(()),
        Ok(false) => rewrite(&paths, by_name, &out, context),
        Err(ParquetError::External(e)) if e.is::<std::io::Error>() => {
            let error = Error::new(
                Kind::Unavailable,
                format!("can't write `{}`: {e}; free some space and run it again", out.display()),
            );
            Err(error)
        }
        // What the one can't put together the other may.
        Err(_) => rewrite(&paths, by_name, &out, context),
    };
    match merged {
        Ok(()) => target.pin_export().map(Some),
        Err(error) => {
            let _ = fs::remove_file(&out);
            match error.kind() {
                Kind::Unavailable => Err(Failure::Disk(error)),
                _ => Ok(None),
            }
        }
    }
}

/// Copies the row groups of files of one schema into a new file. Whether they are of one.
fn concatenate(paths: &[PathBuf], out: &Path) -> Result<bool, ParquetError> {
    let open = |path: &PathBuf| -> Result<(File, SerializedFileReader<File>), ParquetError> {
        let file = File::open(path)?;
        Ok((file.try_clone()?, SerializedFileReader::new(file)?))
    };
    let Some((first, others)) = paths.split_first() else { return Ok(false) };
    let (_, first) = open(first)?;
    let described = first.metadata().file_metadata();
    let schema = described.schema_descr().root_schema_ptr();
    let kept = described.key_value_metadata();
    // One at a time: footers may take much memory.
    for path in others {
        let (_, reader) = open(path)?;
        let other = reader.metadata().file_metadata();
        if other.schema_descr().root_schema_ptr() != schema || other.key_value_metadata() != kept {
            return Ok(false);
        }
    }
    let properties = WriterProperties::builder().set_key_value_metadata(kept.cloned()).build();
    let mut writer =
        SerializedFileWriter::new(File::create(out)?, schema.clone(), Arc::new(properties))?;
    for path in paths {
        let (file, reader) = open(path)?;
        for group in reader.metadata().row_groups() {
            let mut out = writer.next_row_group()?;
            for column in group.columns() {
                let close = ColumnCloseResult {
                    bytes_written: u64::try_from(column.compressed_size()).unwrap_or(0),
                    rows_written: u64::try_from(group.num_rows()).unwrap_or(0),
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                out.append_column(&file, close)?;
            }
            out.close()?;
        }
    }
    writer.close()?;
    Ok(true)
}

/// Writes the rows of the files anew, as the table's view gives them.
fn rewrite(paths: &[PathBuf], by_name: bool, out: &Path, context: &Context<'_>) -> Result<()> {
    File::create(out).map_err(|e| Error::io("write", out, e))?;
    let (reads, writes) = (paths.to_vec(), Some(out.to_path_buf()));
    let engine = Foreign::open(context.pool, context.limits, PATIENCE, reads, writes)?;
    let select = sql::select_parquet(paths, by_name)?;
    let copy = sql::copy_to_parquet(&select, out, &ParquetOptions::default())?;
    let done = engine.execute_long("merge the files of a table", &copy);
    done.map_err(|error| match engine.fate() {
        // It says nothing about the files.
        Some(Fate::Killed | Fate::Memory) => Error::new(Kind::Unavailable, error.message()),
        _ => error,
    })
}
