//! YAML, read into one tree, with errors that quote nothing of the file: it may hold secrets.

use serde_json::Value;

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
