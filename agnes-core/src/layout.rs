//! Where everything lies below one data folder.
//!
//! ```text
//! <data-dir>/
//!   extracts/<source>/extract.duckdb, data/   written by connectors
//!   analytics/server.duckdb                   for outside readers
//!   analytics/generation.json                 the commit point of a rebuild
//!   analytics/generations/<n>.json            what sessions hold on to
//!   analytics/pins/<source>/<table>/<hash>.parquet
//!   state/system.duckdb                       the system database
//! ```

use std::path::{Path, PathBuf};

use crate::SourceName;

/// The file that makes a folder an extract.
pub(crate) const EXTRACT_DB: &str = "extract.duckdb";
/// The folder of an extract's parquet files.
pub(crate) const DATA: &str = "data";
/// The folder of the system database, where it lies in the data folder.
pub(crate) const STATE: &str = "state";

/// The paths below one data folder.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    state: PathBuf,
}

/// The space on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that whoever runs Agnes may still write.
    pub free_bytes: u64,
    /// Bytes in all.
    pub size_bytes: u64,
}

impl Layout {
    /// The layout below `root`, which is made absolute here, once.
    ///
    /// # Errors
    /// `Invalid` when `root` can't be made absolute.
    pub(crate) fn new(root: &Path, state: Option<&Path>) -> crate::Result<Self> {
        let absolute = |path: &Path| {
            // A folder that exists is named as the file system names it, so that the paths
            // in `server.duckdb` don't go through links that may move.
            std::fs::canonicalize(path)
                .or_else(|_| std::path::absolute(path))
                .map_err(|e| crate::Error::io("use the folder", path, e))
        };
        let root = absolute(root)?;
        let text = root.to_str().unwrap_or("*");
        if text.contains(['*', '?', '[', '\0']) {
            return Err(crate::Error::new(
                crate::Kind::Invalid,
                format!(
                    "the data folder `{}` can't be used: DuckDB takes `*`, `?` and `[` in a path \
                     for patterns, and needs UTF-8; choose another folder",
                    root.display()
                ),
            )
            .with(crate::Key::Path, root.display()));
        }
        let state = match state {
            Some(state) => absolute(state)?,
            None => root.join(STATE),
        };
        Ok(Layout { root, state })
    }

    /// The data folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The space on the data folder's disk; none where nobody can tell.
    pub fn disk_space(&self) -> Option<DiskSpace> {
        let disk = rustix::fs::statvfs(&self.root).ok()?;
        Some(DiskSpace {
            free_bytes: disk.f_bavail.checked_mul(disk.f_frsize)?,
            size_bytes: disk.f_blocks.checked_mul(disk.f_frsize)?,
        })
    }

    /// `extracts/`: one folder for each source.
    pub fn extracts(&self) -> PathBuf {
        self.root.join("extracts")
    }

    /// The extract of one source.
    pub fn extract(&self, source: &SourceName) -> PathBuf {
        self.extracts().join(source.as_str())
    }

    /// `analytics/`: everything that a rebuild writes.
    pub fn analytics(&self) -> PathBuf {
        self.root.join("analytics")
    }

    /// The analytics database that outside readers open.
    pub fn server_db(&self) -> PathBuf {
        self.analytics().join("server.duckdb")
    }

    /// The current generation.
    pub fn generation(&self) -> PathBuf {
        self.analytics().join("generation.json")
    }

    /// The generations that may still be in use.
    pub fn generations(&self) -> PathBuf {
        self.analytics().join("generations")
    }

    /// The parquet files that generations read.
    pub fn pins(&self) -> PathBuf {
        self.analytics().join("pins")
    }

    /// The lock that one rebuild at a time holds.
    pub(crate) fn rebuild_lock(&self) -> PathBuf {
        self.analytics().join("rebuild.lock")
    }

    /// Stands while a rebuild writes: a crash leaves it, and with it the order to clean up.
    pub(crate) fn applying(&self) -> PathBuf {
        self.analytics().join("applying")
    }

    /// Says which generation the system database has surely heard of, so that a rebuild with
    /// nothing to do needn't open it.
    pub(crate) fn heard(&self) -> PathBuf {
        self.state.join("heard-generation")
    }

    /// The folder of the system database.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The system database.
    pub fn system_db(&self) -> PathBuf {
        self.state.join("system.duckdb")
    }
}
