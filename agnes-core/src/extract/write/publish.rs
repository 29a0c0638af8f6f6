//! Putting a written extract in the place of the old one, and clearing up after writers that
//! were killed.

use std::fs;
use std::path::Path;

use super::{Body, ExtractWriter};
use crate::layout::{DATA, EXTRACT_DB};
use crate::{Error, Result, SourceName};

impl ExtractWriter {
    pub(super) fn flush(&self) -> Result<()> {
        let mut files = vec![self.aside.join(EXTRACT_DB)];
        let mut folders = vec![self.aside.clone(), self.aside.join(DATA)];
        for entry in self.entries.values() {
            let Body::Files { files: own, .. } = &entry.body else { continue };
            for file in own {
                let path = self.aside.join(file);
                if let Some(folder) = path.parent()
                    && !folders.iter().any(|f| f == folder)
                {
                    folders.push(folder.to_path_buf());
                }
                files.push(path);
            }
        }
        files.extend(folders);
        self.disk.flush_many(&self.aside, &files)
    }

    /// Swaps the new folder with the old one.
    pub(super) fn publish(&self) -> Result<()> {
        let home = self.folder.parent().unwrap_or(&self.folder);
        if self.folder.symlink_metadata().is_err() {
            return self.disk.rename(&self.aside, &self.folder);
        }
        if self.disk.exchange(&self.aside, &self.folder)? {
            return self.disk.flush(home);
        }
        // Two steps where the file system has no exchange. A crash between them leaves the
        // old folder under the name from which `begin` takes it back.
        let old = home.join(format!(".{}.old", self.source));
        self.disk.rename(&self.folder, &old)?;
        if let Err(error) = self.disk.rename(&self.aside, &self.folder) {
            fs::rename(&old, &self.folder).map_err(|e| Error::io("move back", &self.folder, e))?;
            return Err(error);
        }
        clear_away(&old, &self.folder)
    }
}

/// Clears away what killed writers of this source left. The caller holds the lock, so that
/// nobody uses it.
pub(super) fn clear_leftovers(home: &Path, source: &SourceName, folder: &Path) -> Result<()> {
    let old = home.join(format!(".{source}.old"));
    if folder.symlink_metadata().is_err() && old.is_dir() {
        fs::rename(&old, folder).map_err(|e| Error::io("move back", folder, e))?;
    }
    clear_away(&old, folder)?;
    clear_away(&home.join(format!(".{source}.new")), folder)
}

/// Removes a folder that was swapped out. What a connector keeps beside its extract goes
/// back to where it was.
pub(super) fn clear_away(leftover: &Path, folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(leftover) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|e| Error::io("clear away", leftover, e))?,
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("clear away", leftover, e))?;
        let name = entry.file_name();
        let ours = name == DATA || name.to_string_lossy().starts_with(EXTRACT_DB);
        let back = folder.join(&name);
        if !ours && folder.is_dir() && back.symlink_metadata().is_err() {
            fs::rename(entry.path(), &back).map_err(|e| Error::io("move back", &back, e))?;
        }
    }
    fs::remove_dir_all(leftover).map_err(|e| Error::io("clear away", leftover, e))
}
