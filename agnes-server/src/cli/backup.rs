//! `agnes backup` and `agnes restore`: what no sync brings back, in one file.

use std::path::PathBuf;

use agnes_core::backup::Backup;
use agnes_core::{Agnes, Result};
use clap::Args;

use super::output::{Done, Output, bytes, count};

pub(super) const BACKUP_HELP: &str = "\
Write what no sync brings back to one file.

Users, groups, grants, tokens, the registry, profiles, what is known of remote tables, the audit log, \
the signing key, the configuration's overlay, and what users have uploaded: a compressed tar archive \
that only its owner may read. Extracts and what is published aren't in it. It works beside a running \
server, which goes on meanwhile; what was acknowledged before is in it. Links among the uploads, what \
lies deeper than four folders there, and names that are no UTF-8 are left out: they are named, and the \
exit code is 9.";

pub(super) const RESTORE_HELP: &str = "\
Give back what a backup holds.

Users, groups, grants and tokens are then those of the backup, also of a running server: a token that \
was revoked since holds again. Every session ends. What was there before is kept as \
`before-restore-….tar.zst` in the state folder. The backup is checked first: one that was changed or \
cut off changes nothing.";

#[derive(Debug, Args)]
pub(super) struct BackupCommand {
    /// Where it goes; one that is there is replaced once the new one is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    json: super::Json,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only say what is in it, and whether it is whole
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    json: super::Json,
}

/// A backup in a sentence.
fn shown(backup: &Backup) -> String {
    let left_out = match backup.skipped.len() {
        0 => String::new(),
        skipped => format!("; {skipped} left out"),
    };
    format!(
        "{}, {}, of {} by version {}{left_out}",
        count(backup.files.len(), "file"),
        bytes(backup.size_bytes()),
        backup.created_at,
        backup.version
    )
}

impl BackupCommand {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let file = output.path(&self.file);
        let backup = agnes.back_up(&file)?;
        match self.json.json {
            true => output.json(&backup)?,
            false => output.line(format_args!("{}: {}", self.file.display(), shown(&backup)))?,
        }
        for name in &backup.skipped {
            output.note(format_args!("left out: {name}"));
        }
        Ok(Done::whole_if(backup.skipped.is_empty()))
    }
}

impl Restore {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let file = output.path(&self.file);
        if self.check {
            let backup = agnes.inspect(&file)?;
            match self.json.json {
                true => output.json(&backup)?,
                false => output.line(format_args!("whole: {}", shown(&backup)))?,
            }
            return Ok(Done::Whole);
        }
        let restored = agnes.restore(&file)?;
        if self.json.json {
            output.json(&restored)?;
            return Ok(Done::Whole);
        }
        output.line(format_args!("restored: {}", shown(&restored.backup)))?;
        if let Some(before) = &restored.before {
            output.note(format_args!("what was there before is in {}", before.display()));
        }
        if restored.backup.files.keys().any(|name| name.as_str() == "state/instance.yaml") {
            output.note("a server that runs takes the configuration from its next start on");
        }
        Ok(Done::Whole)
    }
}
