//! Finding the files, and telling what each is and which table it becomes.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::Encoding;
use crate::disk::Fingerprint;
use crate::extract::check_table_name;
use crate::{Error, Key, Kind, Result, TableName, ViewName};

/// What a file's ending says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Tsv,
    Json,
    JsonLines,
    Parquet,
    Arrow,
}

/// How a text file is packed, as its ending says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zstd,
}

/// A file that becomes a table.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    pub(super) table: TableName,
    pub(super) format: Format,
    packing: Option<Packing>,
}

/// The files that were given, and what else lies beside them.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) files: Vec<Input>,
    pub(super) ignored: Vec<String>,
}

/// What a file's name tells, or why it can't be read.
enum Named {
    Data {
        stem: String,
        format: Format,
        packing: Option<Packing>,
    },
    /// A known kind of file that must be unpacked or converted first.
    Unreadable(&'static str),
    Unknown,
}

const READABLE: &str = "csv, tsv, json, jsonl, ndjson, parquet, arrow, ipc and feather, the text formats also as .gz and .zst";

/// The table that a file becomes, by its name; none for one that isn't read.
pub(super) fn table_of(file_name: &str) -> Option<TableName> {
    match look_at(file_name) {
        Named::Data { stem, .. } => TableName::for_stem(&stem).ok(),
        Named::Unreadable(_) | Named::Unknown => None,
    }
}

fn look_at(name: &str) -> Named {
    let lower = name.to_ascii_lowercase();
    let (plain, packing) = match (lower.strip_suffix(".gz"), lower.strip_suffix(".zst")) {
        (Some(plain), _) => (plain, Some(Packing::Gzip)),
        (_, Some(plain)) => (plain, Some(Packing::Zstd)),
        _ => (lower.as_str(), None),
    };
    let Some((_, ending)) = plain.rsplit_once('.') else { return Named::Unknown };
    let format = match ending {
        "csv" => Format::Csv,
        "tsv" | "tab" => Format::Tsv,
        "json" => Format::Json,
        "jsonl" | "ndjson" => Format::JsonLines,
        "parquet" | "pq" => Format::Parquet,
        "arrow" | "ipc" | "feather" => Format::Arrow,
        "bz2" | "xz" | "zip" | "7z" | "tgz" | "tar" => {
            return Named::Unreadable(
                "is packed in a way that can't be read here; unpack it first",
            );
        }
        "xlsx" | "xls" | "ods" => {
            return Named::Unreadable("is a spreadsheet; save it as CSV first");
        }
        _ => return Named::Unknown,
    };
    if packing.is_some() && matches!(format, Format::Parquet | Format::Arrow) {
        return Named::Unreadable("is packed; unpack it first");
    }
    // The same letters in the same number of bytes: only ASCII was folded.
    let stem = name.get(..plain.len() - ending.len() - 1).unwrap_or("").to_string();
    Named::Data { stem, format, packing }
}

impl Inputs {
    /// The files, sorted by table.
    ///
    /// A file of a folder that can't become a table is ignored, with the reason; one that was
    /// named is an error.
    pub(super) fn find(paths: &[PathBuf]) -> Result<Inputs> {
        if paths.is_empty() {
            return Err(Error::new(
                Kind::Invalid,
                "no file or folder was given; name at least one",
            ));
        }
        let mut found = Inputs { files: Vec::new(), ignored: Vec::new() };
        for path in paths {
            let meta = fs::metadata(path).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => Error::new(
                    Kind::NotFound,
                    format!("there is no file or folder `{}`; check the path", path.display()),
                )
                .with(Key::Path, path.display()),
                _ => Error::io("open", path, e),
            })?;
            if meta.is_dir() {
                found.add_folder(path)?;
            } else {
                found.add_file(path)?;
            }
        }
        if found.files.is_empty() {
            // A share that isn't mounted looks the same, so that nothing is pruned for it.
            let first = paths.first().map(|p| p.display().to_string()).unwrap_or_default();
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "there is no data file in `{first}`; files that are read: {READABLE}; to take \
                     out a source, remove its folder below `extracts`"
                ),
            )
            .with(Key::Path, first));
        }
        found.files.sort_by(|a, b| a.table.cmp(&b.table).then_with(|| a.path.cmp(&b.path)));
        // The same file under the same name, given twice.
        found.files.dedup_by(|a, b| a.path == b.path && a.table == b.table);
        found.check_names()?;
        Ok(found)
    }

    fn add_folder(&mut self, folder: &Path) -> Result<()> {
        let fail = |e| Error::io("list", folder, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(fail)? {
            names.push(entry.map_err(fail)?.file_name());
        }
        names.sort();
        for name in names {
            let path = folder.join(&name);
            let text = name.to_string_lossy();
            if text.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                self.ignored
                    .push(format!("{}: a folder; name it to read it as well", path.display()));
                continue;
            }
            match look_at(&text) {
                Named::Data { stem, format, packing } => {
                    match self.push(&path, &stem, format, packing) {
                        // Its name is no table's.
                        Err(error) if error.kind() == Kind::Invalid => {
                            self.ignored.push(format!("{}: {}", path.display(), error.message()));
                        }
                        other => other?,
                    }
                }
                Named::Unreadable(why) => self.ignored.push(format!("{}: {why}", path.display())),
                Named::Unknown => {
                    self.ignored.push(format!("{}: no data file by its name", path.display()));
                }
            }
        }
        Ok(())
    }

    /// A file that was named has to be readable.
    fn add_file(&mut self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let why = match look_at(&name) {
            Named::Data { stem, format, packing } => {
                return self.push(path, &stem, format, packing);
            }
            Named::Unreadable(why) => why.to_string(),
            Named::Unknown => {
                format!("has no ending that is known; files that are read: {READABLE}")
            }
        };
        Err(Error::new(Kind::Invalid, format!("`{}` {why}", path.display()))
            .with(Key::Path, path.display()))
    }

    fn push(
        &mut self,
        path: &Path,
        stem: &str,
        format: Format,
        packing: Option<Packing>,
    ) -> Result<()> {
        let table = TableName::for_stem(stem).map_err(|e| e.with(Key::Path, path.display()))?;
        check_table_name(&table)
            .and_then(|()| ViewName::of(&table).map(drop))
            .map_err(|e| e.with(Key::Path, path.display()))?;
        // One file that was given twice is read once. A link to nothing fails when it is read,
        // so that its table isn't taken for one without a file.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        self.files.push(Input { path, table, format, packing });
        Ok(())
    }

    fn check_names(&self) -> Result<()> {
        for pair in self.files.windows(2) {
            if let [a, b] = pair
                && a.table == b.table
            {
                return Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "`{}` and `{}` would both become the table `{}`; rename one, or give them \
                         to two sources",
                        a.path.display(),
                        b.path.display(),
                        a.table
                    ),
                )
                .with(Key::Table, &a.table)
                .with(Key::Path, a.path.display()));
            }
        }
        Ok(())
    }
}

impl Input {
    /// A file of JSON records that becomes this table.
    pub(super) fn records(path: PathBuf, table: &TableName) -> Input {
        Input { path, table: table.clone(), format: Format::JsonLines, packing: None }
    }

    pub(super) fn is_packed(&self) -> bool {
        self.packing.is_some()
    }

    /// The content, unpacked.
    pub(super) fn open(&self) -> io::Result<Box<dyn Read>> {
        let file = BufReader::new(File::open(&self.path)?);
        Ok(match self.packing {
            None => Box::new(file),
            Some(Packing::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
            Some(Packing::Zstd) => Box::new(zstd::stream::read::Decoder::with_buffer(file)?),
        })
    }

    /// The first lines of the content, as bytes without their ends.
    pub(super) fn first_lines(&self, count: i64) -> Result<Vec<Vec<u8>>> {
        /// What they may take in all, where a line doesn't end.
        const MOST: u64 = 1 << 20;
        let lines = usize::try_from(count).unwrap_or(0);
        let read = |file: Box<dyn Read>| {
            BufReader::new(file.take(MOST)).split(b'\n').take(lines).collect::<io::Result<_>>()
        };
        self.open().and_then(read).map_err(|e| Error::io("read", &self.path, e))
    }

    /// Writes the content with `\n` at the end of each line, but for breaks within quotes;
    /// `false`, and nothing, where it had one end of line anyway.
    pub(super) fn copy_with_one_end(&self, to: &Path) -> Result<bool> {
        let fail = |e| Error::io("copy for its ends of lines", &self.path, e);
        let mut out = BufWriter::new(File::create(to).map_err(|e| Error::io("write", to, e))?);
        let mut bytes =
            BufReader::with_capacity(1 << 18, self.open().map_err(fail)?).bytes().peekable();
        let (mut quoted, mut plain, mut carried) = (false, 0u64, 0u64);
        while let Some(byte) = bytes.next() {
            let byte = byte.map_err(fail)?;
            quoted ^= byte == b'"';
            let ends = byte == b'\r' && !quoted && matches!(bytes.peek(), Some(Ok(b'\n')));
            if ends {
                carried += 1;
                continue;
            }
            plain += u64::from(byte == b'\n' && !quoted);
            out.write_all(&[byte]).map_err(|e| Error::io("write", to, e))?;
        }
        out.flush().map_err(|e| Error::io("write", to, e))?;
        // Each `\r\n` was counted as a plain one as well.
        let mixed = carried > 0 && plain > carried;
        if !mixed {
            let _ = fs::remove_file(to);
        }
        Ok(mixed)
    }

    /// How many blank lines stand before the end of so many others, after the first `skip`
    /// lines.
    pub(super) fn blank_lines_among(&self, skip: i64, others: i64) -> io::Result<i64> {
        let (mut blank, mut seen) = (0, 0);
        let skip = usize::try_from(skip).unwrap_or(0);
        for line in BufReader::new(self.open()?).split(b'\n').skip(skip) {
            if line?.trim_ascii().is_empty() {
                blank += 1;
            } else {
                seen += 1;
            }
            if seen == others {
                break;
            }
        }
        Ok(blank)
    }

    /// The encoding that the first bytes announce, where it is not UTF-8.
    pub(super) fn byte_order_mark(&self) -> Result<Option<Encoding>> {
        match self.first_bytes(2)?.as_slice() {
            [0xff, 0xfe] => Ok(Some(Encoding::Utf16)),
            [0xfe, 0xff] => Err(Error::new(
                Kind::Invalid,
                format!(
                    "`{}` is UTF-16 text, the most significant byte first, which can't be read; \
                     save it as UTF-8",
                    self.path.display()
                ),
            )),
            _ => Ok(None),
        }
    }

    /// Refuses what is no UTF-16, of which DuckDB would read no row.
    pub(super) fn check_utf16(&self) -> Result<()> {
        // A separator and an end of line have a zero as their second byte.
        let start = self.first_bytes(1 << 16)?;
        if start.iter().skip(1).step_by(2).any(|byte| *byte == 0) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Invalid,
            format!("`{}` is no UTF-16 text; choose another `--encoding`", self.path.display()),
        ))
    }

    fn first_bytes(&self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()
            .and_then(|file| file.take(count).read_to_end(&mut bytes))
            .map_err(|e| Error::io("read", &self.path, e))?;
        Ok(bytes)
    }

    /// The file as it is now.
    pub(super) fn fingerprint(&self) -> Result<Fingerprint> {
        Fingerprint::of_path(&self.path).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("`{}` is no regular file", self.path.display()))
                .with(Key::Path, self.path.display())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_decides() {
        for (name, stem, format) in [
            ("a.csv", "a", Format::Csv),
            ("A.CSV", "A", Format::Csv),
            ("a.b.tsv.gz", "a.b", Format::Tsv),
            ("x.JSONL.zst", "x", Format::JsonLines),
            ("x.parquet", "x", Format::Parquet),
            ("Ümläut.ndjson", "Ümläut", Format::JsonLines),
        ] {
            match look_at(name) {
                Named::Data { stem: s, format: f, .. } => {
                    assert_eq!((s.as_str(), f), (stem, format))
                }
                _ => panic!("{name} is not read"),
            }
        }
        for name in ["README.md", "noending", "x.gz", "csv"] {
            assert!(matches!(look_at(name), Named::Unknown), "{name}");
        }
        for name in ["x.csv.bz2", "x.zip", "x.xlsx", "x.parquet.gz"] {
            assert!(matches!(look_at(name), Named::Unreadable(_)), "{name}");
        }
    }
}
