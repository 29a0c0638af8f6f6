//! What users upload: transcripts of sessions, artifacts, their own notes. Nothing of it is read
//! here, and nothing of it is published.
//!
//! Invariants:
//! - a file is whole or not there, and readable by the owner of the data folder alone;
//! - what a client calls it is never a path: its last part is its name.

use crate::access::Email;
use crate::{Agnes, Error, Kind, Result, disk};

/// The most bytes of an upload.
pub const UPLOAD_MAX: usize = 50 << 20;

/// What is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploaded<'a> {
    /// The transcript of a session, by its name.
    Session(&'a str),
    /// Something that somebody has made, by its name.
    Artifact(&'a str),
    /// A user's notes for her agent, of which she has one.
    Notes,
}

/// What was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it is called here.
    pub filename: String,
    /// Bytes.
    pub size: usize,
}

/// The last part of what a client calls a file; something else for names that are none.
fn file_name(given: &str) -> String {
    const MOST: usize = 200;
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let is_fine = !last.is_empty()
        && !last.starts_with('.')
        && last.len() <= MOST
        && !last.chars().any(char::is_control);
    match is_fine {
        true => last.to_string(),
        false => format!("upload-{}", uuid::Uuid::new_v4().simple()),
    }
}

impl Agnes {
    /// Keeps what a user uploads. Of the same name the last one stays.
    ///
    /// # Errors
    /// `Limit` for more than [`UPLOAD_MAX`] bytes; `Unavailable` when the disk can't be written.
    pub fn keep_upload(&self, of: &Email, what: Uploaded<'_>, content: &[u8]) -> Result<Kept> {
        if content.len() > UPLOAD_MAX {
            return Err(Error::new(
                Kind::Limit,
                format!("an upload has at most {UPLOAD_MAX} bytes, this one {}", content.len()),
            )
            .with(crate::Key::Reason, "too_large"));
        }
        let hash = crate::access::jwt::sha256(&of.as_str().to_ascii_lowercase());
        let user = hash.get(..24).unwrap_or_default();
        let (folder, filename) = match what {
            Uploaded::Session(name) => (format!("sessions/{user}"), file_name(name)),
            Uploaded::Artifact(name) => (format!("artifacts/{user}"), file_name(name)),
            Uploaded::Notes => ("local-md".to_string(), format!("{user}.md")),
        };
        let home = self.layout().root().join("uploads");
        let disk = &self.components().disk;
        let folder = home.join(folder);
        disk.create_folder(&folder)?;
        disk::private(&home, 0o700)?;
        // Two who upload at once each have their own.
        let aside = folder.join(format!(".{}", uuid::Uuid::new_v4().simple()));
        let written = disk.write(&aside, content);
        written.and_then(|()| disk.rename(&aside, &folder.join(&filename))).inspect_err(|_| {
            let _ = std::fs::remove_file(&aside);
        })?;
        Ok(Kept { filename, size: content.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_path() {
        assert_eq!(file_name("a.jsonl"), "a.jsonl");
        assert_eq!(file_name("C:\\notes\\a b.md"), "a b.md");
        assert_eq!(file_name("../../etc/passwd"), "passwd");
        for odd in ["", "..", "a/..", ".bashrc", "x\0y", "a/", &"x".repeat(300)] {
            let name = file_name(odd);
            assert!(name.starts_with("upload-") && name.len() == 39, "{odd}: {name}");
        }
    }

    #[test]
    fn the_last_one_stays_and_others_have_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let agnes = Agnes::open(dir.path()).unwrap();
        let [ada, eve] = ["ada@example.com", "eve@example.com"].map(|e| Email::parse(e).unwrap());
        for (who, text) in [(&ada, "one"), (&ada, "two"), (&eve, "three")] {
            let kept = agnes.keep_upload(who, Uploaded::Notes, text.as_bytes()).unwrap();
            assert_eq!((kept.filename.len(), kept.size), (27, text.len()));
        }
        let files = std::fs::read_dir(dir.path().join("uploads/local-md")).unwrap();
        let mut texts: Vec<String> =
            files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        texts.sort();
        assert_eq!(texts, ["three", "two"]);
        let large = vec![0; UPLOAD_MAX + 1];
        let error = agnes.keep_upload(&ada, Uploaded::Artifact("x"), &large).unwrap_err();
        assert_eq!(error.kind(), Kind::Limit);
    }
}
