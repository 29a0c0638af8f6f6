//! What is wrong with a data folder, each with its cure.
//!
//! Everything is only looked at, also beside a process that holds the folder; what is published is
//! compared with what the disk has.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::Access;
use serde::Serialize;

use crate::access::KEY_FILE;
use crate::engine::{engine_info, missing_icu};
use crate::orchestrator::{Generation, check_intact};
use crate::store::{SCHEMA_VERSION, Store};
use crate::worker::Wall;
use crate::{Agnes, DiskSpace, Key, Kind, Timestamp};

/// Below this a rebuild may fail, bytes.
const LOW: u64 = 1 << 30;
/// How far ahead of the clock data may be dated: two machines never agree to the second.
const AHEAD: Duration = Duration::from_secs(300);
/// From when on nobody is still at work on what lies aside.
const OLD: Duration = Duration::from_secs(3600);
/// How many of several that are alike are named.
const NAMED: usize = 3;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Ok,
    /// It works, and won't in some cases.
    Warning,
    /// Something doesn't work.
    Problem,
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, as in `disk`.
    pub about: &'static str,
    /// How it is.
    pub health: Health,
    /// What was seen.
    pub seen: String,
    /// What helps; none where all is well.
    pub cure: Option<String>,
}

impl Finding {
    /// Something that is as it should be.
    pub fn ok(about: &'static str, seen: impl Into<String>) -> Finding {
        Finding { about, health: Health::Ok, seen: seen.into(), cure: None }
    }

    /// Something that works, and won't in some cases.
    pub fn warning(about: &'static str, seen: impl Into<String>, cure: &str) -> Finding {
        let cure = Some(cure.to_string());
        Finding { about, health: Health::Warning, seen: seen.into(), cure }
    }

    /// Something that doesn't work.
    pub fn problem(about: &'static str, seen: impl Into<String>, cure: &str) -> Finding {
        Finding { health: Health::Problem, ..Finding::warning(about, seen, cure) }
    }
}

impl Agnes {
    /// Looks at the engine, the folders, the disk, the system database and what is published.
    pub fn examine(&self) -> Vec<Finding> {
        let mut found = vec![engine()];
        found.extend(self.folders());
        found.extend(self.disk());
        found.push(self.system_database());
        found.extend(self.examine_workers());
        found.extend(self.published_files());
        found.extend(self.left_lying());
        found
    }

    fn folders(&self) -> Vec<Finding> {
        let root = self.layout().root();
        let shown = root.display();
        if !root.exists() {
            let cure = "`agnes ingest` or `agnes serve` makes it; or name another with --data-dir";
            return vec![Finding::warning("data folder", format!("{shown} isn't there"), cure)];
        }
        let mut found = vec![match rustix::fs::access(root, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => Finding::ok("data folder", format!("{shown} can be written")),
            Err(e) => Finding::problem(
                "data folder",
                format!("{shown} can't be written: {e}"),
                "give it to the user who runs Agnes, or mount it for writing",
            ),
        }];
        let state = self.layout().state();
        let secret = [state.to_path_buf(), self.layout().system_db(), state.join(KEY_FILE)];
        let mine = rustix::process::geteuid().as_raw();
        for path in secret {
            let Ok(is) = path.metadata() else { continue };
            let shown = path.display();
            if is.permissions().mode() & 0o077 != 0 {
                let mode = is.permissions().mode() & 0o777;
                found.push(Finding::problem(
                    "secrets",
                    format!("others of this machine may open {shown} (mode {mode:o})"),
                    "take it from them with `chmod go=`",
                ));
            }
            if is.uid() != mine && mine != 0 {
                found.push(Finding::problem(
                    "secrets",
                    format!("{shown} belongs to another user, {}", is.uid()),
                    "run Agnes as that user, or give it to this one with `chown -R`",
                ));
            }
        }
        found
    }

    fn disk(&self) -> Option<Finding> {
        let DiskSpace { free_bytes, size_bytes } = self.layout().disk_space()?;
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let seen = format!("{:.1} of {:.1} GB are free", gb(free_bytes), gb(size_bytes));
        Some(match free_bytes < LOW {
            true => Finding::problem("disk", seen, "make room: below 1 GB a rebuild may fail"),
            false => Finding::ok("disk", seen),
        })
    }

    fn system_database(&self) -> Finding {
        let about = "system database";
        let path = self.layout().system_db();
        if !path.exists() {
            return Finding::ok(about, "there is none yet");
        }
        match Store::schema_in(self.layout()) {
            Ok(SCHEMA_VERSION) => Finding::ok(about, format!("schema {SCHEMA_VERSION}")),
            Ok(older) if older < SCHEMA_VERSION => Finding::ok(
                about,
                format!("schema {older}; the next command brings it to {SCHEMA_VERSION}"),
            ),
            Ok(newer) => Finding::problem(
                about,
                format!("schema {newer}, of a newer version of Agnes"),
                "use that version, or `agnes restore` a backup of this one",
            ),
            Err(error) if error.context(Key::Reason) == Some("in_use") => {
                Finding::ok(about, "a process that runs has it open")
            }
            Err(error) => Finding::problem(
                about,
                format!("{} can't be opened: {}", path.display(), error.message()),
                match error.kind() {
                    Kind::Invalid => "`agnes restore` a backup; the file is set aside then",
                    _ => "see to what is said there: nothing says that the file itself is broken",
                },
            ),
        }
    }

    /// Looks at what keeps in the statements of strangers: starts a worker, and asks it which walls
    /// stand around it.
    pub fn examine_workers(&self) -> Vec<Finding> {
        let about = "workers";
        let walls = match self.worker_walls() {
            Ok(Some(walls)) => walls,
            Ok(None) => {
                let seen = "none: statements run in the process itself, which one of them can end";
                return vec![Finding::ok(about, seen)];
            }
            Err(error) => {
                let cure = "see to what is said there: without workers a server doesn't start";
                return vec![Finding::problem(about, error.message(), cure)];
            }
        };
        let names: Vec<&str> = walls.iter().map(|wall| wall.name()).collect();
        let mut found = match names.is_empty() {
            true => Vec::new(),
            false => {
                let seen = format!("kept in by walls of their own: {}", names.join(", "));
                vec![Finding::ok(about, seen)]
            }
        };
        found.extend(Wall::ALL.into_iter().filter(|wall| !walls.contains(wall)).map(|wall| {
            let seen = format!("this system doesn't offer {}", wall.needs());
            let cure = match Wall::NEEDED.contains(&wall) {
                true => "a statement that takes over a worker isn't kept in; use a newer Linux",
                false => "another wall stands before the same; a newer Linux has both",
            };
            Finding::warning(about, seen, cure)
        }));
        found
    }

    fn published_files(&self) -> Vec<Finding> {
        let about = "published";
        let generation = match Generation::load(self.layout()) {
            Ok(Some(generation)) => generation,
            Ok(None) => return vec![Finding::ok(about, "nothing yet")],
            Err(error) => {
                let seen = error.message().to_string();
                return vec![Finding::problem(about, seen, "`agnes rebuild` publishes it anew")];
            }
        };
        let views = &generation.views;
        let mut found = Vec::new();
        let broken: Vec<String> = views
            .iter()
            .filter(|(name, view)| check_intact(self.layout(), name, view).is_err())
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        if !broken.is_empty() {
            let seen = format!("the files of {} are gone or were changed", some(&broken));
            found.push(Finding::problem(about, seen, "`agnes rebuild` publishes them anew"));
        }
        if !self.layout().server_db().exists() {
            let seen = "analytics/server.duckdb isn't there, which outside readers open";
            found.push(Finding::problem(about, seen, "`agnes rebuild` writes it"));
        }
        let now = self.now();
        let ahead: Vec<String> = views
            .iter()
            .filter(|(_, view)| view.extracted_at.is_some_and(|at| at.since(now) > AHEAD))
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        if !ahead.is_empty() {
            let seen = format!("{} were read in the future, by this machine's clock", some(&ahead));
            found.push(Finding::warning("clock", seen, "let the machines' clocks be set (NTP)"));
        }
        let skipped: Vec<String> = generation
            .sources
            .iter()
            .filter(|(_, source)| !source.skipped.is_empty())
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        if !skipped.is_empty() {
            let seen = format!("something of {} was left out", some(&skipped));
            found.push(Finding::warning(about, seen, "`agnes rebuild` says what, and why"));
        }
        if found.is_empty() {
            let number = generation.number;
            found.push(Finding::ok(about, format!("generation {number}, tables: {}", views.len())));
        }
        found
    }

    /// What a process that was killed has left.
    fn left_lying(&self) -> Option<Finding> {
        let inbox = std::fs::read_dir(self.layout().root().join("inbox")).into_iter().flatten();
        let asides = [self.layout().state(), self.layout().root()]
            .into_iter()
            .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten())
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(".backup-"));
        let now = self.now();
        let is_old = |path: &Path| {
            let modified = path.metadata().and_then(|is| is.modified()).ok();
            let age = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            let at = age.and_then(|age| i64::try_from(age.as_micros()).ok());
            at.is_some_and(|at| now.since(Timestamp::from_micros(at)) > OLD)
        };
        let paths = inbox.flatten().chain(asides).map(|entry| entry.path());
        let left: Vec<String> =
            paths.filter(|path| is_old(path)).map(|path| path.display().to_string()).collect();
        (!left.is_empty()).then(|| {
            let seen = format!("{} are of processes that were killed", some(&left));
            Finding::warning("left over", seen, "remove them")
        })
    }
}

fn engine() -> Finding {
    match engine_info() {
        Err(error) => Finding::problem("engine", error.message(), "build Agnes again"),
        Ok(info) => match missing_icu(&info) {
            Some(what) => {
                Finding::warning("engine", format!("DuckDB {} without ICU", info.version), what)
            }
            None => Finding::ok("engine", format!("DuckDB {} with ICU", info.version)),
        },
    }
}

/// A few of several, and how many there are besides.
fn some(all: &[String]) -> String {
    let named: Vec<&str> = all.iter().take(NAMED).map(String::as_str).collect();
    match all.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
