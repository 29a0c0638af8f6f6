//! YAML, read into one tree, with errors that quote nothing of the file: it may hold secrets.

use std::io::{self, Read as _};
use std::path::Path;

use serde_json::Value;

/// The most bytes of a file.
const FILE_MAX: u64 = 4 << 20;

/// The text of a file. A pipe or a device isn't waited for.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    let is = std::fs::metadata(path)?;
    if !is.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    match text.len() as u64 > FILE_MAX {
        true => Err(io::Error::other(format!("it has more than {FILE_MAX} bytes"))),
        // Some editors begin a file with it.
        false => Ok(text.trim_start_matches('\u{feff}').to_string()),
    }
}

/// Reads one document.
///
/// # Errors
/// Where it is no YAML, and why, as the end of a sentence.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| {
        // What follows its first line is the place in the file.
        let told = error.to_string();
        let first = told.lines().next().unwrap_or_default();
        format!("is no YAML: {}", first.trim_start_matches("error: "))
    })
}
