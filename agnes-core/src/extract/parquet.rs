//! Looking at a parquet file before DuckDB opens it.
//!
//! The footer says where everything lies; a footer that lies, or pages that claim sizes
//! which the file can't hold, are refused here with a sentence, so that the engine never
//! sees them. Pages are not decompressed: their headers tell enough.
//!
//! The library that reads footers goes down into nested columns level by level, however deep they are, makes
//! room for as many as they say, and asks of no field which type it says it has. So a first look, at the
//! columns alone, is to take nothing that it would understand otherwise. Where there are workers all of this
//! runs in one.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};

/// What a fault says: the end of a sentence that starts with the file's name.
pub(crate) type Fault = String;

/// Files up to this size are read whole, which is one call instead of dozens.
pub(crate) const SMALL: u64 = 1 << 20;
/// The largest footer, bytes.
const FOOTER_MAX: u64 = 256 << 20;
/// The deepest that columns may be nested in groups, of which a list has two: results have 100 lists.
const DEPTH_MAX: usize = 200;
/// The most columns of all row groups together.
const CHUNKS_MAX: usize = 1_000_000;
/// The longest that the paths of all columns are together, bytes.
const PATHS_MAX: usize = 64 << 20;
/// The largest page after decompression, bytes.
const PAGE_MAX: i64 = 1 << 30;

/// What a sound parquet file holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Facts {
    /// Rows.
    pub(crate) rows: u64,
    /// Bytes of the file.
    pub(crate) size: u64,
}

/// The bytes of a file, in memory or on disk.
enum Content<'a> {
    Memory(bytes::Bytes),
    Disk(&'a File),
}

impl Content<'_> {
    fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, Fault> {
        match self {
            Content::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(length).min(bytes.len());
                Ok(bytes.slice(start..end).to_vec())
            }
            Content::Disk(file) => {
                let mut buffer = vec![0u8; length];
                let mut read = 0;
                while let Some(rest) = buffer.get_mut(read..).filter(|r| !r.is_empty()) {
                    match file.read_at(rest, offset + read as u64) {
                        Ok(0) => break,
                        Ok(n) => read += n,
                        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                        Err(e) => return Err(format!("can't be read: {e}")),
                    }
                }
                buffer.truncate(read);
                Ok(buffer)
            }
        }
    }
}

/// Checks a whole parquet file, from its magic bytes to the header of each page.
pub(crate) fn check(file: &File) -> Result<Facts, Fault> {
    let size = file.metadata().map_err(|e| format!("can't be read: {e}"))?.len();
    if size == 0 {
        return Err("is empty, not a parquet file".into());
    }
    let content = if size <= SMALL {
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let mut reader = file;
        std::io::Seek::rewind(&mut reader).map_err(|e| format!("can't be read: {e}"))?;
        reader.take(SMALL).read_to_end(&mut bytes).map_err(|e| format!("can't be read: {e}"))?;
        Content::Memory(bytes.into())
    } else {
        Content::Disk(file)
    };
    check_content(&content, size)
}

/// Checks that a file begins and ends as a parquet file.
pub(crate) fn check_outside(file: &File) -> Result<(), Fault> {
    let size = file.metadata().map_err(|e| format!("can't be read: {e}"))?.len();
    check_ends(&Content::Disk(file), size).map(drop)
}

/// Checks that a file begins and ends as a parquet file, with a footer that can be read, and
/// goes back to its start.
pub(crate) fn check_footer(file: &File) -> Result<(), Fault> {
    let size = file.metadata().map_err(|e| format!("can't be read: {e}"))?.len();
    let content = Content::Disk(file);
    let data_end = check_ends(&content, size)?;
    read_footer(&content, data_end, size)?;
    let mut reader = file;
    std::io::Seek::rewind(&mut reader).map_err(|e| format!("can't be read: {e}"))
}

/// Checks the bytes of a whole parquet file.
pub(crate) fn check_bytes(bytes: bytes::Bytes) -> Result<Facts, Fault> {
    let size = bytes.len() as u64;
    if size == 0 {
        return Err("is empty, not a parquet file".into());
    }
    check_content(&Content::Memory(bytes), size)
}

fn check_content(content: &Content<'_>, size: u64) -> Result<Facts, Fault> {
    let data_end = check_ends(content, size)?;
    let metadata = read_footer(content, data_end, size)?;
    let mut rows = 0i64;
    for (index, group) in metadata.row_groups().iter().enumerate() {
        if group.num_rows() < 0 {
            return Err(format!(
                "has a footer that lies: row group {index} has a negative row count"
            ));
        }
        rows = rows.checked_add(group.num_rows()).ok_or("has a footer that lies about its rows")?;
        for chunk in group.columns() {
            check_chunk(content, chunk, group.num_rows(), data_end)?;
        }
    }
    if rows != metadata.file_metadata().num_rows() {
        return Err(format!(
            "has a footer that lies: it claims {} rows, its row groups hold {rows}",
            metadata.file_metadata().num_rows()
        ));
    }
    Ok(Facts { rows: u64::try_from(rows).unwrap_or(0), size })
}

/// Checks the magic bytes and the footer's length; says where the data ends.
fn check_ends(content: &Content<'_>, size: u64) -> Result<u64, Fault> {
    if size < 12 || content.read_at(0, 4)? != b"PAR1" {
        if content.read_at(0, 4)? == b"PARE" {
            return Err("is an encrypted parquet file, which Agnes doesn't read".into());
        }
        return Err("is no parquet file".into());
    }
    let tail = content.read_at(size - 8, 8)?;
    let (length, magic) = tail.split_at_checked(4).unwrap_or((&[], &[]));
    if magic != b"PAR1" {
        return Err("is cut off: its end is no parquet footer".into());
    }
    let length = length.try_into().map(u32::from_le_bytes).map(u64::from).unwrap_or(u64::MAX);
    if length > size - 12 || length > FOOTER_MAX {
        return Err("has a footer that lies about its own length".into());
    }
    Ok(size - 8 - length)
}

fn read_footer(content: &Content<'_>, data_end: u64, size: u64) -> Result<ParquetMetaData, Fault> {
    let too_deep = || Err(format!("nests its columns more than {DEPTH_MAX} levels deep"));
    // The reader of footers goes down as far as they do.
    let footer = content.read_at(data_end, usize::try_from(size - 8 - data_end).unwrap_or(0))?;
    match (Compact { bytes: &footer, at: 0, depth: 0 }).nesting() {
        Some(depth) if depth > DEPTH_MAX => return too_deep(),
        Some(_) => {}
        None => return Err("has a broken footer: it doesn't begin with its columns".into()),
    }
    let read = || ParquetMetaDataReader::decode_metadata(&footer);
    // The footer is bytes from anybody; a panic in the parser must not become ours.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)) {
        Ok(Ok(metadata)) if nesting(&metadata) > DEPTH_MAX => too_deep(),
        Ok(Ok(metadata)) if is_much(&metadata) => {
            Err("has more columns in more row groups than are read".into())
        }
        Ok(Ok(metadata)) => Ok(metadata),
        Ok(Err(error)) => Err(format!("has a broken footer: {error}")),
        Err(_) => Err("has a broken footer".into()),
    }
}

/// How deep columns are nested, as the reader has understood them.
fn nesting(metadata: &ParquetMetaData) -> usize {
    let mut open = vec![(metadata.file_metadata().schema_descr().root_schema(), 0)];
    let mut deepest = 0;
    while let Some((group, depth)) = open.pop() {
        deepest = deepest.max(depth);
        let inside = group.get_fields().iter().filter(|field| field.is_group());
        open.extend(inside.map(|field| (&**field, depth + 1)));
    }
    deepest
}

/// Whether what a footer says takes far more memory than the footer: each column has a path of its own, and
/// each row group each column.
fn is_much(metadata: &ParquetMetaData) -> bool {
    let columns = metadata.file_metadata().schema_descr().columns();
    let paths = columns.iter().flat_map(|column| column.path().parts()).map(String::len);
    columns.len().saturating_mul(metadata.num_row_groups()) > CHUNKS_MAX
        || paths.sum::<usize>() > PATHS_MAX
}

fn check_chunk(
    content: &Content<'_>,
    chunk: &ColumnChunkMetaData,
    group_rows: i64,
    data_end: u64,
) -> Result<(), Fault> {
    let column = crate::name::shown(&chunk.column_path().string()).into_owned();
    match chunk.compression() {
        Compression::UNCOMPRESSED
        | Compression::SNAPPY
        | Compression::GZIP(_)
        | Compression::ZSTD(_)
        | Compression::LZ4
        | Compression::LZ4_RAW
        | Compression::BROTLI(_) => {}
        other => {
            return Err(format!(
                "compresses the column `{column}` with {other}, which is not one of \
                 uncompressed, snappy, gzip, zstd, lz4 and brotli"
            ));
        }
    }
    let lie = |what: &str| format!("has a footer that lies: {what} of the column `{column}`");
    if chunk.file_path().is_some_and(|p| !p.is_empty()) {
        return Err(lie("another file holds the data"));
    }
    // Offset 0 stands for no dictionary with some writers.
    let data = chunk.data_page_offset();
    let start = chunk.dictionary_page_offset().filter(|&d| d > 0).map_or(data, |d| d.min(data));
    let (start, length) = match (u64::try_from(start), u64::try_from(chunk.compressed_size())) {
        (Ok(start), Ok(length)) => (start, length),
        _ => return Err(lie("negative offset or size")),
    };
    if start < 4 || start.checked_add(length).is_none_or(|end| end > data_end) {
        return Err(lie("the data lies outside of the file, says the footer"));
    }
    let values = chunk.num_values();
    let flat = chunk.column_descr().max_rep_level() == 0;
    if values < 0 || chunk.uncompressed_size() < 0 || (flat && values != group_rows) {
        return Err(lie("wrong number of values"));
    }
    check_pages(content, start, length, values).map_err(|what| lie(&what))
}

/// Walks the page headers of a column chunk: they must fill it exactly and hold as many
/// values as the footer claims.
fn check_pages(content: &Content<'_>, start: u64, length: u64, values: i64) -> Result<(), Fault> {
    let (mut at, end) = (start, start + length);
    let mut seen = 0i64;
    while at < end && seen < values {
        let header = read_page_header(content, at, end)?;
        at += header.length;
        let size = u64::try_from(header.compressed).map_err(|_| "negative page size")?;
        if size > end - at {
            return Err("a page is larger than the data".into());
        }
        if !(0..=PAGE_MAX).contains(&header.uncompressed) {
            return Err(format!("a page claims {} bytes", header.uncompressed));
        }
        at += size;
        seen = seen.checked_add(header.values.max(0)).ok_or("too many values in the pages")?;
    }
    if seen != values {
        return Err(format!("{seen} values in the pages where {values} are claimed"));
    }
    Ok(())
}

#[derive(Debug, Default)]
struct PageHeader {
    length: u64,
    compressed: i64,
    uncompressed: i64,
    /// Values of a data page; 0 for a dictionary or an index.
    values: i64,
}

fn read_page_header(content: &Content<'_>, at: u64, end: u64) -> Result<PageHeader, Fault> {
    // Statistics make headers long now and then.
    let mut window = 256usize;
    loop {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(window);
        let bytes = content.read_at(at, most)?;
        let mut reader = Compact { bytes: &bytes, at: 0, depth: 0 };
        match reader.page_header() {
            Some(header) => return Ok(header),
            None if most == window && window < (16 << 20) => window *= 16,
            None => return Err("a broken page header".into()),
        }
    }
}

/// The types of Thrift's compact protocol that are told apart here, as it numbers them.
mod thrift {
    pub(super) const TRUE: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const BYTE: u8 = 3;
    pub(super) const I32: u8 = 5;
    pub(super) const BINARY: u8 = 8;
    pub(super) const LIST: u8 = 9;
    pub(super) const STRUCT: u8 = 12;
}

/// As much of Thrift's compact protocol as a page header and a footer's columns take
/// (thrift.apache.org, "Thrift compact protocol encoding").
struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
}

impl Compact<'_> {
    fn page_header(&mut self) -> Option<PageHeader> {
        let mut header = PageHeader::default();
        let mut field = 0i64;
        while let Some(kind) = self.field(&mut field)? {
            match (field, kind) {
                (2, 5) => header.uncompressed = self.zigzag()?,
                (3, 5) => header.compressed = self.zigzag()?,
                // Data pages of both versions start with their number of values.
                (5 | 8, 12) => header.values = self.first_integer()?,
                (_, kind) => self.skip(kind)?,
            }
        }
        header.length = self.at as u64;
        Some(header)
    }

    /// How deep the columns of a footer are nested, or more than it may be. Nothing where it can't be told:
    /// all footers begin with a version and the columns, each group before what is in it.
    fn nesting(&mut self) -> Option<usize> {
        let mut field = 0i64;
        let mut kind = self.field(&mut field)??;
        if (field, kind) == (1, thrift::I32) {
            self.varint()?;
            kind = self.field(&mut field)??;
        }
        if (field, kind) != (2, thrift::LIST) {
            return None;
        }
        let byte = self.byte()?;
        let count = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
        if byte & 0x0f != thrift::STRUCT || count > self.bytes.len() as u64 {
            return None;
        }
        // Of each group on the way down, how much of it is still to come.
        let mut open: Vec<u64> = Vec::new();
        let mut deepest = 0;
        for at in 0..count {
            let children = self.children()?;
            while open.last() == Some(&0) {
                open.pop();
            }
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            // Room is made for as many as it says.
            if children >= count - at {
                return None;
            }
            if children > 0 {
                // The first holds all others.
                deepest = deepest.max(open.len());
                open.push(children);
            }
            if deepest > DEPTH_MAX {
                break;
            }
        }
        Some(deepest)
    }

    /// How many columns are in one.
    fn children(&mut self) -> Option<u64> {
        let (mut children, mut field) = (0, 0i64);
        while let Some(kind) = self.field(&mut field)? {
            match (field, kind) {
                (5, thrift::I32) => children = u64::from(u32::try_from(self.zigzag()?).ok()?),
                (10, thrift::STRUCT) => self.logical_type()?,
                (1..=3 | 6..=9, thrift::I32) | (4, thrift::BINARY) => self.skip(kind)?,
                // The reader of footers doesn't ask of which type they say that they are.
                (1..=10, _) => return None,
                // Of those that it doesn't know it skips what has no more than a length, as this does.
                (_, thrift::TRUE..=thrift::BINARY) => self.skip(kind)?,
                _ => return None,
            }
        }
        Some(children)
    }

    /// Skips what a column stands for, each of whose fields is of its own type.
    fn logical_type(&mut self) -> Option<()> {
        use thrift::{BINARY, BYTE, FALSE, I32, STRUCT, TRUE};
        /// A time's unit is one of three structs without fields.
        const UNITS: &[(i64, u8)] = &[(1, STRUCT), (2, STRUCT), (3, STRUCT)];
        let mut field = 0i64;
        while let Some(kind) = self.field(&mut field)? {
            let fields: &[(i64, u8)] = match (field, kind) {
                // Decimals, times, integers, VARIANT, and places on a plane and on a globe.
                (5, STRUCT) => &[(1, I32), (2, I32)],
                (7 | 8, STRUCT) => &[(1, TRUE), (1, FALSE), (2, STRUCT)],
                (10, STRUCT) => &[(1, BYTE), (2, TRUE), (2, FALSE)],
                (16, STRUCT) => &[(1, BYTE)],
                (17, STRUCT) => &[(1, BINARY)],
                (18, STRUCT) => &[(1, BINARY), (2, I32)],
                (1..=19, STRUCT) => &[],
                _ => return None,
            };
            self.skip_known(fields, UNITS)?;
        }
        Some(())
    }

    /// Skips a struct that has no other fields than these, and `inside` in those that are structs; a struct
    /// in one of `inside` is empty.
    fn skip_known(&mut self, fields: &[(i64, u8)], inside: &[(i64, u8)]) -> Option<()> {
        let mut field = 0i64;
        while let Some(kind) = self.field(&mut field)? {
            match kind {
                _ if !fields.contains(&(field, kind)) => return None,
                thrift::STRUCT if inside.is_empty() => (self.byte()? == 0).then_some(())?,
                thrift::STRUCT => self.skip_known(inside, &[])?,
                _ => self.skip(kind)?,
            }
        }
        Some(())
    }

    /// The integer in field 1 of a struct, the rest skipped.
    fn first_integer(&mut self) -> Option<i64> {
        let mut first = 0;
        let mut field = 0i64;
        while let Some(kind) = self.field(&mut field)? {
            match (field, kind) {
                (1, 5) => first = self.zigzag()?,
                (_, kind) => self.skip(kind)?,
            }
        }
        Some(first)
    }

    /// The type of the next field, or `Some(None)` at the end of the struct.
    fn field(&mut self, last: &mut i64) -> Option<Option<u8>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        *last = match byte >> 4 {
            0 => self.zigzag()?,
            delta => last.checked_add(i64::from(delta))?,
        };
        // To others a longer number is another field.
        i16::try_from(*last).ok()?;
        Some(Some(byte & 0x0f))
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn skip_bytes(&mut self, count: u64) -> Option<()> {
        self.at = self.at.checked_add(usize::try_from(count).ok()?)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn skip(&mut self, kind: u8) -> Option<()> {
        self.depth += 1;
        if self.depth > 16 {
            return None;
        }
        match kind {
            1 | 2 => {}
            3 => self.skip_bytes(1)?,
            4..=6 => {
                self.varint()?;
            }
            7 => self.skip_bytes(8)?,
            8 => {
                let length = self.varint()?;
                self.skip_bytes(length)?;
            }
            9 | 10 => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
                for _ in 0..count {
                    match byte & 0x0f {
                        // Within a list a truth value takes a byte of its own.
                        1 | 2 => self.skip_bytes(1)?,
                        kind => self.skip(kind)?,
                    }
                }
            }
            12 => {
                let mut field = 0i64;
                while let Some(kind) = self.field(&mut field)? {
                    self.skip(kind)?;
                }
            }
            _ => return None,
        }
        self.depth -= 1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn sample(sql: &str, options: &str) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.parquet");
        let connection = duckdb::Connection::open_in_memory().unwrap();
        connection
            .execute_batch(&format!(
                "COPY ({sql}) TO '{}' (FORMAT parquet{options})",
                file.display()
            ))
            .unwrap();
        std::fs::read(file).unwrap()
    }

    fn check_file_of(bytes: &[u8]) -> Result<Facts, Fault> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        check(&file)
    }

    #[test]
    fn what_duckdb_writes_is_sound() {
        for (sql, rows) in [
            ("SELECT 1 AS a WHERE false", 0),
            (
                "SELECT range AS i, 'x' || range AS s, [range, NULL] AS l FROM range(300000)",
                300_000,
            ),
            ("SELECT {'a': range, 'b': [1, 2]} AS s, MAP {'k': range} AS m FROM range(1000)", 1000),
            ("SELECT repeat('long ', 200000) AS s FROM range(5)", 5),
            ("SELECT NULL::INT AS n FROM range(10)", 10),
        ] {
            for options in [
                "",
                ", COMPRESSION zstd, PARQUET_VERSION v2",
                ", COMPRESSION uncompressed",
                ", COMPRESSION gzip",
                ", COMPRESSION brotli",
                ", COMPRESSION lz4_raw",
            ] {
                let bytes = sample(sql, options);
                assert_eq!(check_file_of(&bytes).map(|f| f.rows), Ok(rows), "{sql}{options}");
            }
        }
    }

    #[test]
    fn broken_files_are_told_apart() {
        let good = sample("SELECT range AS i FROM range(1000)", "");
        for (bytes, fault) in [
            (Vec::new(), "is empty"),
            (b"hello, I am no parquet file".to_vec(), "is no parquet file"),
            (b"PAREhello, I am encrypted".to_vec(), "encrypted"),
            (good[..good.len() / 2].to_vec(), "is cut off"),
            (good[..good.len() - 1].to_vec(), "is cut off"),
        ] {
            let error = check_file_of(&bytes).unwrap_err();
            assert!(error.contains(fault), "{error} / {fault}");
        }
        let mut long_footer = good.clone();
        let at = long_footer.len() - 8;
        long_footer[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(check_file_of(&long_footer).unwrap_err().contains("lies"));
        // A hole where the pages were.
        let mut hollow = good.clone();
        hollow[4..40].fill(0);
        assert!(check_file_of(&hollow).is_err());
    }

    /// A group of a footer with one column in it.
    const GROUP: &[u8] = b"\x35\x02\x18\x01g\x15\x02\0";

    /// A file without rows whose columns are so many such groups in each other, and a number in the last.
    fn nested(group: &[u8], groups: usize) -> Vec<u8> {
        let number = b"\x15\x02\x25\x02\x18\x01n\0";
        let (version, columns, rows) = (b"\x15\x02", b"\x19\xfc", b"\x16\0\x19\x0c\0");
        let count = u32::try_from(groups + 2).unwrap();
        let mut count =
            [0, 7, 14, 21, 28].map(|at| u8::try_from(count >> at & 0x7f).unwrap() | 0x80);
        count[4] &= 0x7f;
        let inside = group.repeat(groups);
        let footer = [version, columns, &count[..], GROUP, &inside, number, rows].concat();
        let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
        [b"PAR1", &footer[..], &length, b"PAR1"].concat()
    }

    #[test]
    fn columns_nest_as_deep_as_results_do() {
        for groups in [0, 1, DEPTH_MAX] {
            let facts = check_file_of(&nested(GROUP, groups));
            assert_eq!(facts.map(|facts| facts.rows), Ok(0), "{groups}");
        }
        // Ten thousand ended the process.
        for groups in [DEPTH_MAX + 1, 10_000, 1_000_000] {
            let fault = check_file_of(&nested(GROUP, groups)).unwrap_err();
            assert!(fault.contains("more than 200 levels deep"), "{fault}");
        }
        // What is one thing to whoever skips it and another to whoever reads it hides a group.
        for hidden in [
            // A number that says that it is a text, a field's number and a count of more bits, truth
            // values in a list, and an empty struct that says that it is a number.
            &b"\x35\x02\x18\x01g\x6c\x5c\x18\x09\x15\x02\0\0\x05\x0a\x02\xf8\x03\0\0\0\0"[..],
            b"\x35\x02\x18\x01g\x05\x8a\x80\x08\x02\0",
            b"\x35\x02\x18\x01g\x15\xfd\xff\xff\xff\x1f\0",
            b"\x35\x02\x18\x01g\x79\x32\x05\x0a\x02\0",
            b"\x35\x02\x18\x01g\x6c\x07\x26\0\0\x05\x0a\x02\xa8\x02\0\0\0",
            // A name that says that it is a number.
            b"\x35\x02\x15\x01g\x15\x02\0",
        ] {
            let fault = check_file_of(&nested(hidden, 1_000_000)).unwrap_err();
            assert!(fault.contains("doesn't begin with its columns"), "{hidden:x?}: {fault}");
        }
        // Room for so many would be made at once.
        let mut boundless = nested(GROUP, 1);
        let footer = b"\x15\x02\x19\x1c\x48\x01s\x15\xfe\xff\xff\xff\x0f\0\x16\0\x19\x0c\0";
        boundless.truncate(4);
        boundless.extend_from_slice(footer);
        boundless.extend_from_slice(&u32::try_from(footer.len()).unwrap().to_le_bytes());
        boundless.extend_from_slice(b"PAR1");
        assert!(check_file_of(&boundless).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn a_flipped_byte_never_panics(at in 0usize..4000, value: u8) {
            static GOOD: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let good = GOOD.get_or_init(|| {
                sample("SELECT range AS i, 'x' || range AS s FROM range(500)", ", COMPRESSION zstd")
            });
            let mut bytes = good.clone();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = check_file_of(&bytes);
        }
    }
}
