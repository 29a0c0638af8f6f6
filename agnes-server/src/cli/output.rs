//! Where everything that the command prints goes: data to stdout, messages to stderr.

use std::fmt::Display;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agnes_core::query::Stop;
use agnes_core::{Error, Key, Kind, Progress, Result};
use comfy_table::{CellAlignment, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::beside::Peer;

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// All of it.
    Whole,
    /// Some things were left out; they are listed.
    Part,
    /// What was asked about is wrong, and the answer says so.
    Wrong,
}

impl Done {
    pub(super) fn whole_if(whole: bool) -> Done {
        if whole { Done::Whole } else { Done::Part }
    }
}

/// Where somebody is who runs a command: her streams and her folder.
pub(super) struct Output {
    streams: Streams,
    /// Whether the reader of stdout has gone away, as `head` does.
    closed: AtomicBool,
    /// Why stdout can't be written, whatever the writer on top of it makes of that.
    broken: OnceLock<Error>,
}

/// Whose streams they are.
enum Streams {
    /// This process's.
    Own,
    /// Those of a command that was run beside a server, which is this process.
    Beside(Peer),
}

impl Output {
    pub(super) fn new() -> Output {
        Output { streams: Streams::Own, closed: AtomicBool::new(false), broken: OnceLock::new() }
    }

    /// That of a command which another process was started with.
    pub(super) fn of(peer: Peer) -> Output {
        Output { streams: Streams::Beside(peer), ..Output::new() }
    }

    /// Whether the command is what this process was started for.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.streams, Streams::Own)
    }

    /// Says how the command ended, where its caller is another process.
    pub(super) fn end(&self, code: u8) {
        if let Streams::Beside(peer) = &self.streams {
            peer.end(code);
        }
    }

    /// A path as its caller means it, wherever this process works.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        match &self.streams {
            Streams::Own => path.to_path_buf(),
            Streams::Beside(peer) => peer.folder().join(path),
        }
    }

    /// What tells that the caller is gone.
    pub(super) fn stop(&self) -> Option<Stop> {
        match &self.streams {
            Streams::Own => None,
            Streams::Beside(peer) => Some(peer.stop()),
        }
    }

    /// All of standard input.
    pub(super) fn input(&self) -> Result<String> {
        let mut bytes = Vec::new();
        let read = match &self.streams {
            Streams::Own => io::stdin().read_to_end(&mut bytes).map(drop),
            Streams::Beside(peer) => peer.input().map(|input| bytes = input),
        };
        let text = read.and_then(|()| String::from_utf8(bytes).map_err(io::Error::other));
        text.map_err(|e| Error::new(Kind::Invalid, format!("can't read standard input: {e}")))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.streams {
            Streams::Own => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
            Streams::Beside(peer) => peer.data(bytes),
        }
    }

    /// Writes bytes to stdout. A reader that has gone away is no error.
    pub(super) fn data(&self, bytes: &[u8]) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.write(bytes) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(e) => {
                let unwritten =
                    || Error::new(Kind::Unavailable, format!("can't write the output: {e}"));
                let _ = self.broken.set(unwritten());
                Err(unwritten())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Whether nobody reads stdout any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// A line on stdout.
    pub(super) fn line(&self, text: impl Display) -> Result<()> {
        self.data(format!("{text}\n").as_bytes())
    }

    /// One line on stdout with what somebody else may have written, without what a terminal would
    /// obey.
    pub(super) fn text(&self, text: impl Display) -> Result<()> {
        self.line(shown(&text.to_string()).replace('\n', "\\n"))
    }

    /// Rows for people on stdout, some columns aligned to the right.
    pub(super) fn table<const N: usize>(
        &self,
        header: [&str; N],
        right: &[usize],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Result<()> {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(header);
        for row in rows {
            table.add_row(row.map(|cell| shown(&cell)));
        }
        for column in right {
            if let Some(column) = table.column_mut(*column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().try_for_each(|line| self.line(line.trim_end()))
    }

    /// A report as JSON on stdout.
    pub(super) fn json(&self, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Error::new(Kind::Internal, "the report is no JSON").because(e))?;
        self.line(text)
    }

    /// A line on stderr. What a terminal would obey is shown as it is written: messages name
    /// files and values that anybody may have made.
    pub(super) fn note(&self, text: impl Display) {
        self.message(format!("{}\n", shown(&text.to_string())).as_bytes());
    }

    /// Bytes for stderr, as they are.
    pub(super) fn message(&self, bytes: &[u8]) {
        let _ = match &self.streams {
            Streams::Own => io::stderr().lock().write_all(bytes),
            Streams::Beside(peer) => peer.message(bytes),
        };
    }

    /// Whether stdout is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        match &self.streams {
            Streams::Own => io::stdout().is_terminal(),
            Streams::Beside(peer) => peer.is_terminal(),
        }
    }

    /// The width of the terminal on stdout, if there is one.
    pub(super) fn width(&self) -> Option<u16> {
        match &self.streams {
            Streams::Own if !io::stdout().is_terminal() => None,
            Streams::Own => Table::new().width(),
            Streams::Beside(peer) => peer.width(),
        }
    }

    /// A bar for long work, on a terminal only.
    pub(super) fn progress(&self) -> Bar {
        let target = if self.is_own() && io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{msg:>16} [{bar:40}] {pos}/{len} {elapsed}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar { bar }
    }

    /// Says how the command ended, as a person and as a program sees it.
    pub(super) fn finish(&self, done: Result<Done>) -> u8 {
        match done {
            Ok(Done::Whole) => 0,
            Ok(Done::Part) => 9,
            Ok(Done::Wrong) => Kind::Invalid.exit_code(),
            Err(error) => {
                let error = self.broken.get().unwrap_or(&error);
                self.note(format_args!("error: {}", error.message()));
                // The message names a path where it helps; a long one of its own helps too.
                if let Some(path) = error.context(Key::Path)
                    && !error.message().contains(path)
                {
                    self.note(format_args!("  in {path}"));
                }
                error.kind().exit_code()
            }
        }
    }
}

/// A progress bar that goes away when the work is done.
pub(super) struct Bar {
    bar: ProgressBar,
}

impl Progress for Bar {
    fn start(&self, what: &str, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(0);
        self.bar.set_message(what.to_string());
    }

    fn step(&self, parts: u64) {
        self.bar.inc(parts);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Text without what a terminal would obey.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// `1 table`, `2 tables`.
pub(super) fn count(n: usize, what: &str) -> String {
    format!("{} {what}{}", grouped(n as u64), if n == 1 { "" } else { "s" })
}

/// A number with its thousands apart.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A time as people read it: `45 s`, `12 min`, `3 h`, `2 d`.
pub(super) fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Bytes as people read them.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1000.0;
    for unit in UNITS {
        if value < 999.5 || unit == "PB" {
            return if value < 9.95 {
                format!("{value:.1} {unit}")
            } else {
                format!("{value:.0} {unit}")
            };
        }
        value /= 1000.0;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(count(1, "table"), "1 table");
        assert_eq!(count(2, "table"), "2 tables");
        for (n, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1500, "1.5 kB"),
            (999_600, "1.0 MB"),
            (12_345_678, "12 MB"),
        ] {
            assert_eq!(bytes(n), shown);
        }
    }
}
