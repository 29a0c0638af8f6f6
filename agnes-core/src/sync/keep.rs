//! Bringing back what a connector's run has lost: the tables that it was not to touch, and those
//! that it failed to bring.
//!
//! A connector is to keep them, and many a one writes its extract anew with nothing but what it
//! was asked for. The last generation still holds their files.

use std::path::Path;

use crate::extract::{ExtractWriter, WriteMode};
use crate::orchestrator::{Generation, View};
use crate::{Agnes, Error, Key, Result, SourceName, TableName, Timestamp};

/// Puts published tables back into the extract that lost them: all at once, or, where one of them
/// can't be, each by itself. Gives those that are back, and what kept others from it.
pub(super) fn bring_back(
    agnes: &Agnes,
    source: &SourceName,
    lost: &[&View],
    generation: &Generation,
    now: Timestamp,
) -> (Vec<TableName>, Vec<Error>) {
    let names = |views: &[&View]| views.iter().map(|view| view.table.clone()).collect();
    match restore(agnes, source, lost, generation, now) {
        Ok(()) => (names(lost), Vec::new()),
        Err(error) if lost.len() == 1 => (Vec::new(), vec![error]),
        Err(_) => {
            let (mut back, mut faults) = (Vec::new(), Vec::new());
            for view in lost {
                match restore(agnes, source, &[view], generation, now) {
                    Ok(()) => back.push(view.table.clone()),
                    Err(error) => faults.push(error.with(Key::Table, &view.table)),
                }
            }
            (back, faults)
        }
    }
}

fn restore(
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
