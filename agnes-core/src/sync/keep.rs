//! Bringing back what a connector's run has lost: the tables that it was not to touch.
//!
//! A connector is to keep them, and many a one writes its extract anew with nothing but what it
//! was asked for. The last generation still holds their files.

use std::path::Path;

use crate::extract::{ExtractWriter, WriteMode};
use crate::orchestrator::{Generation, View};
use crate::{Agnes, Result, SourceName, Timestamp};

/// Puts published tables back into the extract that lost them.
pub(super) fn bring_back(
    agnes: &Agnes,
    source: &SourceName,
    lost: &[&View],
    generation: &Generation,
    now: Timestamp,
) -> Result<()> {
    if lost.is_empty() {
        return Ok(());
    }
    let folder = agnes.layout().extract(source);
    let disk = agnes.components().disk.clone();
    let mut writer = ExtractWriter::begin_on(&folder, WriteMode::Partial, now, disk)?;
    for view in lost {
        let analytics = agnes.layout().analytics();
        let files: Vec<_> = view.files().iter().map(|pin| pin.path_in(&analytics)).collect();
        let files: Vec<&Path> = files.iter().map(|path| path.as_path()).collect();
        writer.restore(view, &files)?;
        for alias in view.aliases() {
            if let Some(row) = generation.attach(source, alias) {
                writer.remote_attach(row.clone());
            }
        }
    }
    writer.finish().map(drop)
}
