//! `ExtractWriter`: extracts written from JavaScript, of Arrow IPC and of plain objects.

use std::io::Cursor;
use std::sync::Arc;

use agnes_core::binding::{Busy, Writing};
use agnes_core::extract::{RemoteAttach, RemoteTable};
use agnes_core::{Error, ExternalName, ExtractWriter as CoreWriter, Kind, TableName};
use napi::bindgen_prelude::{Either, Env, Uint8Array};
use napi_derive::napi;

use crate::call::{Promised, promise, told};
use crate::value::count;

/// Rows as `index.js` passes them on: Arrow IPC, a stream or a file; or a JSON object a line.
pub(crate) type Rows = Either<Uint8Array, String>;

/// Writes rows as a table, or as one shard of it.
pub(crate) fn write(
    writer: &mut CoreWriter,
    name: &TableName,
    shard: Option<&ExternalName>,
    rows: Rows,
) -> agnes_core::Result<()> {
    match (rows, shard) {
        (Either::A(bytes), shard) => writer.table_from_ipc(name, shard, Cursor::new(&*bytes)),
        (Either::B(lines), None) => writer.table_from_json(name, lines.as_bytes()),
        (Either::B(_), Some(_)) => Err(Error::new(
            Kind::Invalid,
            "a shard is written of Arrow rows: its types are those of its table",
        )),
    }
}

/// Writes the extract of a source: the folder that a rebuild reads.
///
/// Nothing is seen of it before `finish`. Made by `Agnes.extractWriter`, or given to a connector, whose end
/// finishes it.
#[napi]
#[derive(Clone)]
pub struct ExtractWriter {
    pub(crate) writing: Arc<Writing>,
}

/// What becomes of the tables that aren't written.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct WriterOptions {
    /// `partial` for those to stay; `replace`, which is what happens otherwise, for them to go.
    #[napi(ts_type = "'replace' | 'partial'")]
    pub mode: Option<String>,
}

impl WriterOptions {
    pub(crate) fn mode(self) -> String {
        self.mode.unwrap_or_else(|| "replace".to_string())
    }
}

/// What a table is.
#[napi(object, object_to_js = false)]
pub struct TableOptions {
    /// For people who look for data.
    pub description: Option<String>,
}

/// How to attach a remote system.
#[napi(object, object_to_js = false)]
pub struct RemoteAttachOptions {
    /// The engine's extension for it.
    pub extension: String,
    /// Where it is.
    pub url: String,
    /// The variable in which its token stands, on the machine that attaches it.
    pub token_env: Option<String>,
}

/// A table whose rows stay in a remote system.
#[napi(object, object_to_js = false)]
pub struct RemoteTableOptions {
    /// The system that it lies in, as `remoteAttach` calls it.
    pub alias: String,
    /// What leads to it there, as in `['public', 'orders']`.
    pub path: Vec<String>,
    /// Its columns: pairs of a name and a type of DuckDB.
    #[napi(ts_type = "[name: string, type: string][]")]
    pub columns: Option<Vec<(String, String)>>,
    /// How many rows it has, roughly.
    pub rows: Option<f64>,
    /// How many bytes.
    pub size_bytes: Option<f64>,
}

impl ExtractWriter {
    pub(crate) fn of(writing: Writing) -> Self {
        ExtractWriter { writing: Arc::new(writing) }
    }

    fn with(
        &self,
        env: Env,
        work: impl FnOnce(&mut CoreWriter) -> agnes_core::Result<()> + Send + 'static,
    ) -> Promised {
        let writing = self.writing.clone();
        promise(env, move || writing.with(work), |()| ())
    }
}

/// Begins the extract in a folder whose last part is the source's name. For `index.js`.
#[napi(skip_typescript)]
pub fn begin_extract(env: Env, folder: String, options: Option<WriterOptions>) -> Promised {
    let mode = options.unwrap_or_default().mode();
    promise(env, move || Writing::begin(folder.as_ref(), &mode, Busy::Wait), ExtractWriter::of)
}

#[napi]
impl ExtractWriter {
    /// Writes a table: of an Arrow table, of its IPC bytes, or of an array of objects.
    #[napi(
        ts_args_type = "name: string, rows: TableData, options?: TableOptions | null",
        ts_return_type = "Promise<void>"
    )]
    pub fn table(
        &self,
        env: Env,
        name: String,
        rows: Rows,
        options: Option<TableOptions>,
    ) -> Promised {
        self.with(env, move |writer| {
            let name = TableName::parse(name)?;
            write(writer, &name, None, rows)?;
            if let Some(text) = options.and_then(|options| options.description) {
                writer.describe(&name, &text);
            }
            Ok(())
        })
    }

    /// Writes one shard of a table, of Arrow rows. Shards are read together, in the order of their names, columns
    /// matched by name.
    #[napi(
        ts_args_type = "name: string, shard: string, rows: ArrowData",
        ts_return_type = "Promise<void>"
    )]
    pub fn shard(&self, env: Env, name: String, shard: String, rows: Rows) -> Promised {
        self.with(env, move |writer| {
            write(writer, &TableName::parse(name)?, Some(&ExternalName::parse(shard)?), rows)
        })
    }

    /// Takes a copy of a parquet file as a table.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn table_from_parquet(
        &self,
        env: Env,
        name: String,
        #[napi(ts_arg_type = "string | URL")] file: String,
    ) -> Promised {
        self.with(env, move |writer| {
            writer.table_from_parquet(&TableName::parse(name)?, file.as_ref())
        })
    }

    /// Writes a table from the rows of a query that DuckDB runs with the rights of this process: it may read any
    /// file.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn table_from_sql(&self, env: Env, name: String, query: String) -> Promised {
        self.with(env, move |writer| writer.table_from_sql(&TableName::parse(name)?, &query))
    }

    /// Says what a table is that was written.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn describe(&self, env: Env, name: String, description: String) -> Promised {
        self.with(env, move |writer| {
            writer.describe(&TableName::parse(name)?, &description);
            Ok(())
        })
    }

    /// Takes a table out of the extract.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn remove(&self, env: Env, name: String) -> Promised {
        self.with(env, move |writer| {
            writer.remove(&TableName::parse(name)?);
            Ok(())
        })
    }

    /// Says how to attach the system in which remote tables lie.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn remote_attach(&self, env: Env, alias: String, options: RemoteAttachOptions) -> Promised {
        self.with(env, move |writer| {
            let RemoteAttachOptions { extension, url, token_env } = options;
            writer.remote_attach(RemoteAttach::of(alias, extension, url, token_env)?);
            Ok(())
        })
    }

    /// Publishes a table whose rows stay in a remote system.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn remote_table(&self, env: Env, name: String, options: RemoteTableOptions) -> Promised {
        self.with(env, move |writer| {
            let RemoteTableOptions { alias, path, columns, rows, size_bytes } = options;
            let mut table = RemoteTable::of(alias, path, columns.unwrap_or_default())?;
            table.rows = count(rows.unwrap_or(0.0))?;
            table.size_bytes = count(size_bytes.unwrap_or(0.0))?;
            writer.remote_table(&TableName::parse(name)?, table)
        })
    }

    /// Checks, flushes and publishes what was written.
    #[napi(ts_return_type = "Promise<WriteReport>")]
    pub fn finish(&self, env: Env) -> Promised {
        let writing = self.writing.clone();
        told(env, move || writing.finish())
    }

    /// Gives it up: the extract stays as it was.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn abandon(&self, env: Env) -> Promised {
        let writing = self.writing.clone();
        promise(env, move || writing.abandon(), |()| ())
    }

    /// What it is, for people.
    #[napi(js_name = "toString")]
    pub fn shown(&self) -> String {
        format!("ExtractWriter {{ {} }}", self.writing.shown())
    }
}
