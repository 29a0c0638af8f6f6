//! `Agnes`: a data folder, open. What it does about data is here; about people in `people.rs`, about the
//! registry, metadata and metrics in `tables.rs`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agnes_core::binding::{
    Along, Busy, GivenConfig, HandedOver, Handle, Opened, Opening, Operator, ToldProgress, Whose,
    files as files_of,
};
use agnes_core::connector::Connector;
use agnes_core::value::Value;
use agnes_core::{Agnes as Core, NoProgress, Progress, Secret, SourceName, WorkerProgram};
use napi::bindgen_prelude::{Env, External};
use napi_derive::napi;
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::call::{Promised, promise, promise_apart, told};
use crate::connector::{Called, JsConnector, JsConnectorType, JsProvider};
use crate::extract::{ExtractWriter, Rows, WriterOptions, write};
use crate::session::{Folder, QueryOptions, Stopper, copied, query as query_of};
use crate::value::Told;

/// A data folder, open: extracts come in, one analytics database comes out, SQL runs on it.
///
/// Made by `open`. Close it for other processes to have the folder. Whoever holds it is the operator, who may do
/// everything: `asUser` gives what somebody else may see.
#[napi]
pub struct Agnes {
    pub(crate) open: Handle<Core>,
    along: Arc<Along>,
    ended: Arc<AtomicBool>,
    path: PathBuf,
    problems: Vec<String>,
}

/// How far something is, told as it goes on.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct ProgressOptions {
    /// Hears what is done, how many parts of it are done, and of how many.
    #[napi(ts_type = "Progress")]
    pub progress: Option<Called>,
}

/// Opens a data folder, which need not exist yet.
#[allow(
    clippy::too_many_arguments,
    reason = "`index.js` has told them apart; they are an object there"
)]
#[napi(
    ts_args_type = "path: string | URL, options?: OpenOptions | null",
    ts_return_type = "Promise<Agnes>"
)]
pub fn open(
    env: Env,
    path: String,
    config: Option<Json>,
    secrets: Option<Called>,
    connectors: Option<HashMap<String, Called>>,
    metadata_providers: Option<HashMap<String, Called>>,
    isolated: Option<Vec<String>>,
    libraries: Option<String>,
) -> Promised {
    let mut opening = Opening {
        variables: secrets.map(|get| Arc::new(move |name: &str| get.variable(name)) as _),
        config: config.map(|config| match config {
            Json::String(file) => GivenConfig::File(file.into()),
            fields => GivenConfig::Fields(fields),
        }),
        ..Opening::default()
    };
    for (name, run) in connectors.unwrap_or_default() {
        opening.connectors.push((name, Arc::new(JsConnectorType(Arc::new(run)))));
    }
    for (name, provider) in metadata_providers.unwrap_or_default() {
        opening.metadata_providers.push((name, Arc::new(JsProvider(provider))));
    }
    if let Some([program, arguments @ ..]) = isolated.as_deref() {
        opening.workers = Some(WorkerProgram {
            path: program.into(),
            arguments: arguments.to_vec(),
            // Where it finds shared libraries.
            environment: libraries
                .map(|path| ("LD_LIBRARY_PATH".into(), path.into()))
                .into_iter()
                .collect(),
            remote_environment: Vec::new(),
        });
    }
    promise_apart(env, move || opening.open(path.as_ref()), Agnes::of)
}

impl Agnes {
    fn of(opened: Opened) -> Agnes {
        Agnes {
            path: opened.agnes.layout().root().to_path_buf(),
            open: Handle::new("the data folder", opened.agnes),
            along: Arc::default(),
            ended: Arc::default(),
            problems: opened.problems,
        }
    }

    pub(crate) fn core(&self) -> agnes_core::Result<Arc<Core>> {
        self.open.get()
    }

    /// Does something with the core, and tells what came of it.
    pub(crate) fn told<T: Serialize>(
        &self,
        env: Env,
        work: impl FnOnce(&Operator<'_>) -> agnes_core::Result<T> + Send + 'static,
    ) -> Promised {
        let agnes = self.core();
        told(env, move || work(&Operator::of(&*agnes?)))
    }

    /// Does something with the core, of which nothing is told.
    pub(crate) fn does(
        &self,
        env: Env,
        work: impl FnOnce(&Operator<'_>) -> agnes_core::Result<()> + Send + 'static,
    ) -> Promised {
        let agnes = self.core();
        promise(env, move || work(&Operator::of(&*agnes?)), |()| ())
    }

    /// Does what takes long, and may tell how far it is.
    pub(crate) fn told_with<T: Serialize>(
        &self,
        env: Env,
        progress: Option<Called>,
        work: impl FnOnce(&Operator<'_>, &dyn Progress) -> agnes_core::Result<T> + Send + 'static,
    ) -> Promised {
        let agnes = self.core();
        let work = move || {
            let agnes = agnes?;
            let agnes = Operator::of(&agnes);
            let Some(function) = progress else { return Value::of(&work(&agnes, &NoProgress)?) };
            let progress =
                ToldProgress::new(|what: &str, done, total| function.progress(what, done, total));
            let done = work(&agnes, &progress);
            progress.end()?;
            Value::of(&done?)
        };
        promise_apart(env, work, Told)
    }

    fn session_of(&self, env: Env, whose: Whose) -> Promised {
        let folder = self.folder();
        promise(env, move || folder.session(whose), |session| session)
    }

    fn folder(&self) -> Folder {
        Folder { agnes: self.core(), along: self.along.clone(), ended: self.ended.clone() }
    }
}

#[napi]
impl Agnes {
    /// The data folder, absolute.
    #[napi(getter)]
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Closes it, with the sessions and rows that came of it. Other processes may have the folder then.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close(&self, env: Env) -> Promised {
        self.ended.store(true, Ordering::SeqCst);
        let (along, open) = (self.along.clone(), self.open.clone());
        let close = move || {
            along.close();
            open.close();
            Ok(())
        };
        promise(env, close, |()| ())
    }

    /// What it is, for people.
    #[napi(js_name = "toString")]
    pub fn shown(&self) -> String {
        let closed = if self.open.get().is_err() { " closed" } else { "" };
        format!("Agnes {{ {}{closed} }}", self.path.display())
    }

    /// What somebody should know about the configuration. For `index.js`.
    #[napi(skip_typescript)]
    pub fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    /// Brings a source in: files (a path, or an array of paths of files and folders), tables (an object of names
    /// and rows), or an object with a method `extract(job)`. A rebuild publishes what came in.
    #[allow(
        clippy::too_many_arguments,
        reason = "`index.js` has told them apart; they are an object there"
    )]
    #[napi(
        ts_args_type = "source: string, data: string | URL | (string | URL)[] | Record<string, TableData> | Connector, options?: IngestOptions | null",
        ts_return_type = "Promise<IngestReport>"
    )]
    pub fn ingest(
        &self,
        env: Env,
        source: String,
        paths: Option<Vec<String>>,
        run: Option<Called>,
        tables: Option<Vec<(String, Rows)>>,
        files: Option<Map<String, Json>>,
        options: Option<ProgressOptions>,
    ) -> Promised {
        let progress = options.and_then(|options| options.progress);
        self.told_with(env, progress, move |agnes, progress| {
            let source = SourceName::parse(source)?;
            let files = files_of(paths.map(Json::from), files.unwrap_or_default())?;
            let connector: Box<dyn Connector> = match (files, run) {
                (Some(files), _) => Box::new(files),
                (None, Some(run)) => Box::new(JsConnector::of(run)),
                (None, None) => {
                    let write = |writer: &mut _, name: &_, rows| write(writer, name, None, rows);
                    Box::new(HandedOver::of(tables.unwrap_or_default(), write)?)
                }
            };
            agnes.ingest(&source, connector.as_ref(), progress)
        })
    }

    /// Begins to write the extract of a source.
    #[napi(ts_return_type = "Promise<ExtractWriter>")]
    pub fn extract_writer(
        &self,
        env: Env,
        source: String,
        options: Option<WriterOptions>,
    ) -> Promised {
        let (agnes, mode) = (self.core(), options.unwrap_or_default().mode());
        let begin = move || Operator::of(&*agnes?).extract_writer(&source, &mode, Busy::Wait);
        promise(env, begin, ExtractWriter::of)
    }

    /// Looks at the extract of a source with the eyes of a rebuild: what it holds, and what is wrong.
    #[napi(ts_return_type = "Promise<ExtractCheck>")]
    pub fn check(&self, env: Env, source: String) -> Promised {
        self.told(env, move |agnes| agnes.check(&source))
    }

    /// Shows what a rebuild would do, without doing it.
    #[napi(ts_return_type = "Promise<Record<string, any>>")]
    pub fn plan_rebuild(&self, env: Env, source: Option<String>) -> Promised {
        self.told(env, move |agnes| agnes.plan_rebuild(source.as_deref()))
    }

    /// Publishes what the extracts hold now: all of them, or one while the others stay as they were.
    #[napi(ts_return_type = "Promise<RebuildReport>")]
    pub fn rebuild(
        &self,
        env: Env,
        source: Option<String>,
        options: Option<ProgressOptions>,
    ) -> Promised {
        self.told_with(env, options.and_then(|o| o.progress), move |agnes, progress| {
            agnes.rebuild(source.as_deref(), progress)
        })
    }

    /// What is published now in a few figures, or null.
    #[napi(ts_return_type = "Promise<Publication | null>")]
    pub fn publication(&self, env: Env) -> Promised {
        self.told(env, |agnes| agnes.publication())
    }

    /// A session over everything that is published, as the operator sees it.
    #[napi(ts_return_type = "Promise<Session>")]
    pub fn session(&self, env: Env) -> Promised {
        self.session_of(env, Whose::Operator)
    }

    /// A session over what a user may see.
    #[napi(ts_return_type = "Promise<Session>")]
    pub fn as_user(&self, env: Env, email: String) -> Promised {
        self.session_of(env, Whose::User(email))
    }

    /// A session over what the owner of a token may see: a personal one, or that of a session.
    #[napi(ts_return_type = "Promise<Session>")]
    pub fn as_token(&self, env: Env, token: String) -> Promised {
        self.session_of(env, Whose::Token(Secret::new(token)))
    }

    /// Runs a query over everything that is published now; see `Session.sql`.
    #[napi(
        ts_args_type = "query: string, parameters?: Parameter[] | null, options?: QueryOptions | null",
        ts_return_type = "Promise<Rows>"
    )]
    pub fn sql(
        &self,
        env: Env,
        query: String,
        parameters: Option<Vec<crate::value::Given>>,
        options: Option<QueryOptions>,
        stopper: Option<&External<Stopper>>,
    ) -> Promised {
        let (folder, stopper) = (self.folder(), copied(stopper));
        let asked = query_of(query, parameters, options);
        let begin = move || folder.session(Whose::Operator)?.rows(stopper, asked);
        promise(env, begin, |rows| rows)
    }

    /// How many workers there are and have been, and which walls the kernel has raised around one; null where
    /// statements run in this process.
    #[napi(ts_return_type = "Promise<Workers | null>")]
    pub fn workers(&self, env: Env) -> Promised {
        self.told(env, |agnes| agnes.describe_workers())
    }

    /// What is wrong with the data folder, and what helps.
    #[napi(ts_return_type = "Promise<Finding[]>")]
    pub fn examine(&self, env: Env) -> Promised {
        self.told(env, |agnes| Ok(agnes.examine()))
    }

    /// Writes what no sync brings back to one file.
    #[napi(ts_return_type = "Promise<Record<string, any>>")]
    pub fn back_up(
        &self,
        env: Env,
        #[napi(ts_arg_type = "string | URL")] path: String,
    ) -> Promised {
        self.told(env, move |agnes| agnes.back_up(path.as_ref()))
    }

    /// Gives back what a backup holds.
    #[napi(ts_return_type = "Promise<Record<string, any>>")]
    pub fn restore(
        &self,
        env: Env,
        #[napi(ts_arg_type = "string | URL")] path: String,
    ) -> Promised {
        self.told(env, move |agnes| agnes.restore(path.as_ref()))
    }
}
