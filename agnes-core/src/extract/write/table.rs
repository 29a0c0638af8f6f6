//! One table of an extract, written in Arrow record batches.

use std::fs::File;
use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::{Codec, ExtractWriter};
use crate::{Error, Key, Kind, Result, TableName};

/// Writes one table, or one shard, in Arrow record batches.
///
/// Dropping it without [`TableWriter::finish`] leaves the table out.
#[derive(Debug)]
pub struct TableWriter<'w> {
    writer: &'w mut ExtractWriter,
    name: TableName,
    file: PathBuf,
    parquet: ArrowWriter<File>,
}

impl<'w> TableWriter<'w> {
    pub(super) fn open(
        writer: &'w mut ExtractWriter,
        name: TableName,
        file: PathBuf,
        schema: SchemaRef,
    ) -> Result<Self> {
        let path = writer.aside.join(&file);
        writer.disk.engine_writes(&path)?;
        let out = File::create(&path).map_err(|e| Error::io("write", &path, e))?;
        let codec = match writer.options.codec {
            Codec::Zstd => Compression::ZSTD(ZstdLevel::default()),
            Codec::Snappy => Compression::SNAPPY,
            Codec::Uncompressed => Compression::UNCOMPRESSED,
        };
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_max_row_group_row_count(Some(writer.options.row_group_rows))
            .build();
        let parquet = ArrowWriter::try_new(out, schema, Some(properties)).map_err(|e| {
            Error::new(Kind::Invalid, format!("parquet can't hold the table `{name}`: {e}"))
                .with(Key::Table, &name)
        })?;
        Ok(TableWriter { writer, name, file, parquet })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// `Invalid` for a batch of another schema; `Unavailable` when the disk is full.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.parquet.write(batch).map_err(|e| parquet_error(&self.name, e))
    }

    /// Ends the table; it becomes part of the extract.
    ///
    /// # Errors
    /// As [`TableWriter::write`].
    pub fn finish(self) -> Result<()> {
        let TableWriter { writer, name, file, parquet } = self;
        parquet.close().map_err(|e| parquet_error(&name, e))?;
        writer.add_file(&name, file)
    }
}

fn parquet_error(name: &TableName, error: parquet::errors::ParquetError) -> Error {
    let kind = match &error {
        parquet::errors::ParquetError::External(e) if e.is::<std::io::Error>() => Kind::Unavailable,
        _ => Kind::Invalid,
    };
    Error::new(kind, format!("the table `{name}` can't be written: {error}")).with(Key::Table, name)
}
