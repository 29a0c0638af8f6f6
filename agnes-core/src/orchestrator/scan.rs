//! Looking at every extract: what changed since the last generation, and what can't be read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::generation::Generation;
use crate::disk::Fingerprint;
use crate::extract::{self, Extract, Reader, Skipped};
use crate::layout::{DATA, EXTRACT_DB, Layout};
use crate::worker::Pool;
use crate::{Error, Key, Kind, Result, SourceName, Timestamp};

/// What was found below `extracts/`.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Whether there is an `extracts/` at all.
    pub(crate) exists: bool,
    /// The sources, in the order of their folders' names.
    pub(crate) sources: Vec<SourceScan>,
    /// Folders that can't be sources.
    pub(crate) skipped: Vec<Skipped>,
    /// When the files were looked at, nanoseconds since 1970.
    pub(crate) now_ns: i64,
}

/// What one source's extract is like.
#[derive(Debug)]
pub(crate) struct SourceScan {
    pub(crate) source: SourceName,
    pub(crate) found: Found,
}

#[derive(Debug)]
pub(crate) enum Found {
    /// Every file is the one that the last generation saw.
    Unchanged,
    /// Not looked at: only another source was asked for.
    NotAsked,
    /// It was read.
    Read {
        extract: Box<Extract>,
        /// Empty when a change right after the scan could go unnoticed.
        digest: String,
    },
    /// It can't be read, and what it published goes.
    Broken(Arc<Error>),
    /// It can't be read just now; what it published stays.
    Busy(Arc<Error>),
}

/// Looks at every source, or at one and nothing but that the others are still there.
pub(crate) fn scan(
    layout: &Layout,
    previous: &Generation,
    only: Option<&SourceName>,
    now: Timestamp,
    pool: Option<&Arc<Pool>>,
) -> Result<Scan> {
    let scan = scan_while(layout, previous, only, now, How::Read(pool))?;
    scan.ok_or_else(|| Error::internal("a scan of everything ended early"))
}

/// The same, if every source is as the last generation saw it; none is read.
pub(crate) fn unchanged(
    layout: &Layout,
    previous: &Generation,
    only: Option<&SourceName>,
    now: Timestamp,
) -> Result<Option<Scan>> {
    let scan = scan_while(layout, previous, only, now, How::Look)?;
    Ok(scan.filter(|scan| scan.exists && scan.sources.len() == previous.sources.len()))
}

/// Whether something was written below `extracts/` since the last rebuild, as far as folders
/// show it. A connector that writes into its files leaves no such sign.
pub(crate) fn has_stirred(layout: &Layout) -> bool {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let Some(last) = modified(&layout.generation()) else { return false };
    let entries = std::fs::read_dir(layout.extracts()).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|folder| {
        let places = [folder.join(DATA), folder.join(EXTRACT_DB), folder];
        places.iter().filter_map(|place| modified(place)).any(|at| at > last)
    })
}

/// How closely a scan looks.
#[derive(Clone, Copy)]
enum How<'p> {
    /// It ends where a source differs.
    Look,
    /// It reads what differs, in workers where there are workers.
    Read(Option<&'p Arc<Pool>>),
}

/// A scan, or nothing when it ends early.
fn scan_while(
    layout: &Layout,
    previous: &Generation,
    only: Option<&SourceName>,
    now: Timestamp,
    how: How<'_>,
) -> Result<Option<Scan>> {
    let home = layout.extracts();
    let now_ns = now.as_micros().saturating_mul(1000);
    let mut scan = Scan { exists: true, sources: Vec::new(), skipped: Vec::new(), now_ns };
    let entries = match std::fs::read_dir(&home) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            scan.exists = false;
            return Ok(Some(scan));
        }
        other => other.map_err(|e| Error::io("list", &home, e))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(|e| Error::io("list", &home, e))?.file_name());
    }
    names.sort();
    // Of two that differ in the case of letters the one that published before comes first.
    let published = |name: &OsString| {
        previous.sources.keys().any(|source| name.to_str() == Some(source.as_str()))
    };
    names.sort_by_key(|name| !published(name));
    let is_source = |name: &OsString| SourceName::parse(name.to_string_lossy()).is_ok();
    let folders: Vec<_> =
        names.iter().filter(|name| is_source(name)).map(|name| home.join(name)).collect();
    // Made when the first extract has to be read.
    let mut reader = None;
    for name in names {
        let folder = home.join(&name);
        let text = name.to_string_lossy();
        // Writers' own files, and folders that hold no extract (yet). One that can't be looked
        // into is another thing than one that is gone.
        let absent = match folder.join(EXTRACT_DB).symlink_metadata() {
            Err(e) => {
                matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
            }
            Ok(_) => false,
        };
        if text.starts_with('.') || absent {
            continue;
        }
        let source = match SourceName::parse(text.clone()) {
            Ok(source) => source,
            Err(error) => {
                let error = extract::contract(format!(
                    "the folder `{}` is left out: {}; rename it",
                    crate::name::shown(&text),
                    error.message()
                ));
                scan.skipped.push(Skipped {
                    source: crate::name::shown(&text).into_owned(),
                    table: None,
                    error: Arc::new(error.with(Key::Path, folder.display())),
                });
                continue;
            }
        };
        if scan.sources.iter().any(|s| s.source == source) {
            let error = extract::contract(format!(
                "two folders are called `{source}` but for the case of their letters; rename one"
            ));
            scan.skipped.push(Skipped {
                source: source.to_string(),
                table: None,
                error: Arc::new(error.with(Key::Source, &source)),
            });
            continue;
        }
        let found = match only {
            Some(only) if *only != source && previous.sources.contains_key(&source) => {
                Found::NotAsked
            }
            _ => match how {
                How::Look if !is_unchanged(&source, &folder, previous, now_ns) => return Ok(None),
                How::Look => Found::Unchanged,
                How::Read(pool) => look(&source, &folder, previous, now_ns, || match &mut reader {
                    Some(reader) => Ok(&*reader),
                    none => {
                        Ok(&*none.insert(Reader::over(folders.iter().map(PathBuf::as_path), pool)?))
                    }
                }),
            },
        };
        scan.sources.push(SourceScan { source, found });
    }
    scan.sources.sort_by(|a, b| a.source.cmp(&b.source));
    Ok(Some(scan))
}

fn look<'r>(
    source: &SourceName,
    folder: &Path,
    previous: &Generation,
    now_ns: i64,
    reader: impl FnOnce() -> Result<&'r Reader>,
) -> Found {
    let failed = |error: Error| match error.kind() {
        Kind::Contract | Kind::NotFound => Found::Broken(Arc::new(error.with(Key::Source, source))),
        _ => Found::Busy(Arc::new(error.with(Key::Source, source))),
    };
    if is_unchanged(source, folder, previous, now_ns) {
        return Found::Unchanged;
    }
    match reader().and_then(|reader| Extract::scan(source, folder, reader)) {
        Ok(extract) => {
            let digest = digest(&extract.files, now_ns);
            Found::Read { extract: Box::new(extract), digest }
        }
        Err(error) => failed(error),
    }
}

/// Whether every file of a source is the one that the last generation saw.
fn is_unchanged(source: &SourceName, folder: &Path, previous: &Generation, now_ns: i64) -> bool {
    let Some(record) = previous.sources.get(source) else { return false };
    // A name that was refused may have become free.
    if record.digest.is_empty() || !record.refused.is_empty() {
        return false;
    }
    let files = extract::open_folder(source, folder)
        .and_then(|folder| extract::list_files(source, &folder));
    files.is_ok_and(|files| digest(&files, now_ns) == record.digest)
}

/// Stands for a set of files as they are; empty when one of them is so fresh that it may
/// change without showing it.
fn digest(files: &BTreeMap<std::path::PathBuf, Fingerprint>, now_ns: i64) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut hasher = blake3::Hasher::new();
    for (path, file) in files {
        if file.is_racy(now_ns) {
            return String::new();
        }
        hasher.update(path.as_os_str().as_bytes());
        hasher.update(&[0]);
        hasher.update(&file.size.to_le_bytes());
        hasher.update(&file.mtime_ns.to_le_bytes());
        hasher.update(&file.inode.to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
