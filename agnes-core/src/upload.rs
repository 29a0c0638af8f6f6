//! What users upload: transcripts of sessions, artifacts, their own notes, which are kept as they
//! are; and files that admins make tables of.
//!
//! Invariants:
//! - a file is whole or not there, and readable by the owner of the data folder alone;
//! - what a client calls it is never a path: its last part is its name.

use std::path::Path;

use crate::access::{Principal, User};
use crate::connector::TableStatus;
use crate::connectors::files::{FilesConnector, FilesOptions};
use crate::{Agnes, Error, Kind, NoProgress, Result, SourceName, TableName, ViewName, disk};

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

/// A table that was made of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedTable {
    /// The table.
    pub table: TableName,
    /// Its rows.
    pub rows: u64,
    /// Bytes of the file.
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
    /// Keeps what a user uploads, in `user_sessions/<id>/`, `user_artifacts/<id>/` or
    /// `user_local_md/`. Of the same name the last one stays.
    ///
    /// # Errors
    /// `Limit` for more than [`UPLOAD_MAX`] bytes; `Unavailable` when the disk can't be written.
    pub fn keep_upload(&self, of: &User, what: Uploaded<'_>, content: &[u8]) -> Result<Kept> {
        fits(content)?;
        let (folder, filename) = match what {
            Uploaded::Session(name) => (format!("user_sessions/{}", of.id), file_name(name)),
            Uploaded::Artifact(name) => (format!("user_artifacts/{}", of.id), file_name(name)),
            Uploaded::Notes => {
                let hash = crate::access::jwt::sha256(of.email.as_str());
                let hash = hash.get(..24).unwrap_or_default();
                ("user_local_md".to_string(), format!("{hash}.md"))
            }
        };
        let folder = self.layout().root().join(folder);
        self.put(&folder, &filename, content)?;
        Ok(Kept { filename, size: content.len() })
    }

    /// Makes a table of a file: CSV, TSV, JSON, Parquet or Arrow, by the ending of its name. It is
    /// a table of the source `files`, in the place of one of that name there, and published.
    ///
    /// # Errors
    /// `Denied` for anybody but admins; `Limit` for more than [`UPLOAD_MAX`] bytes; `Invalid` for
    /// a file that can't be read, which changes nothing; as [`Agnes::rebuild`]; `Conflict` when
    /// its name is another source's, or somebody has taken it out of the registry.
    pub fn upload_table(
        &self,
        principal: &Principal,
        name: &str,
        content: &[u8],
    ) -> Result<UploadedTable> {
        self.access()?.admin(principal)?;
        fits(content)?;
        let filename = file_name(name);
        let source = SourceName::parse("files")?;
        // What is refused leaves nothing behind that a later rebuild might publish.
        self.may_publish(&source, &filename)?;
        let folder = self.layout().root().join("inbox").join(uuid::Uuid::new_v4().to_string());
        let done = (|| {
            self.put(&folder, &filename, content)?;
            let files = FilesConnector::new(vec![folder.join(&filename)], FilesOptions::default());
            self.ingest(&source, &files, &NoProgress)
        })();
        let _ = std::fs::remove_dir_all(&folder);
        // What the server calls its folder is nobody's affair.
        let told = |error: &Error| {
            let told = error.message().replace(&format!("{}/", folder.display()), "");
            // A file that is broken is what the caller sent.
            let kind = if error.kind() == Kind::Contract { Kind::Invalid } else { error.kind() };
            Error::new(kind, told)
        };
        let report = done.map_err(|error| told(&error))?;
        let outcome = report.extract.tables.into_iter().find(|table| table.from.is_some());
        let outcome = outcome.ok_or_else(|| Error::internal("a file came to no table"))?;
        if let (TableStatus::Failed, Some(error)) = (outcome.status, outcome.error) {
            return Err(told(&error));
        }
        if let Some(error) = report.unregistered.into_iter().next() {
            return Err(Error::new(error.kind(), error.message().to_string()));
        }
        self.rebuild(Some(&source), &NoProgress)?;
        Ok(UploadedTable { table: outcome.table, rows: outcome.rows, size: content.len() })
    }

    /// Whether the table of a file may be this source's.
    fn may_publish(&self, source: &SourceName, filename: &str) -> Result<()> {
        // What becomes no table is the connector's to refuse.
        let Some(table) = FilesConnector::table_of(filename) else { return Ok(()) };
        let name = ViewName::of(&table)?;
        let taken = |by: &SourceName| {
            Error::new(
                Kind::Conflict,
                format!("`{name}` is a table of `{by}`; call the file something else"),
            )
            .with(crate::Key::Table, &name)
        };
        if let Some(table) = self.access()?.resolve(name.as_str())
            && (table.source != *source || table.name != name)
        {
            return Err(taken(&table.source));
        }
        let generation = self.generation()?;
        let view = generation.as_ref().and_then(|g| g.views.get(&name));
        if let Some(view) = view.filter(|view| view.source != *source) {
            return Err(taken(&view.source));
        }
        match self.store()?.withdrawn()?.contains(&(source.clone(), name.clone())) {
            true => Err(Error::new(
                Kind::Conflict,
                format!("`{name}` was taken out of the registry; register it first"),
            )),
            false => Ok(()),
        }
    }

    /// Puts a file whole into a folder of the owner's.
    fn put(&self, folder: &Path, filename: &str, content: &[u8]) -> Result<()> {
        let disk = &self.components().disk;
        disk.create_folder(folder)?;
        disk::private(folder, 0o700)?;
        // Two who upload at once each have their own.
        let aside = folder.join(format!(".{}", uuid::Uuid::new_v4().simple()));
        let written = disk
            .write(&aside, b"")
            .and_then(|()| disk::private(&aside, 0o600))
            .and_then(|()| disk.append(&aside, content));
        written.and_then(|()| disk.rename(&aside, &folder.join(filename))).inspect_err(|_| {
            let _ = std::fs::remove_file(&aside);
        })
    }
}

fn fits(content: &[u8]) -> Result<()> {
    match content.len() <= UPLOAD_MAX {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Limit,
            format!("an upload has at most {UPLOAD_MAX} bytes, this one {}", content.len()),
        )
        .with(crate::Key::Reason, "too_large")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Email;

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
        let access = agnes.access().unwrap();
        let [ada, eve] = ["ada@example.com", "eve@example.com"]
            .map(|email| access.seed_admin(&Email::parse(email).unwrap(), None, None).unwrap());
        for (who, text) in [(&ada, "one"), (&ada, "two"), (&eve, "three")] {
            let kept = agnes.keep_upload(who, Uploaded::Notes, text.as_bytes()).unwrap();
            assert_eq!((kept.filename.len(), kept.size), (27, text.len()));
        }
        agnes.keep_upload(&ada, Uploaded::Session("../x.jsonl"), b"{}").unwrap();
        assert!(dir.path().join(format!("user_sessions/{}/x.jsonl", ada.id)).exists());
        let files = std::fs::read_dir(dir.path().join("user_local_md")).unwrap();
        let mut texts: Vec<String> =
            files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        texts.sort();
        assert_eq!(texts, ["three", "two"]);
        let large = vec![0; UPLOAD_MAX + 1];
        let error = agnes.keep_upload(&ada, Uploaded::Artifact("x"), &large).unwrap_err();
        assert_eq!(error.kind(), Kind::Limit);
    }
}
