//! What the core calls that is written in JavaScript: connectors, providers of metadata, secrets, progress.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use agnes_core::binding::{Busy, extract_by};
use agnes_core::connector::{Connector, ConnectorReport, Job as CoreJob};
use agnes_core::metadata::{Address, MetadataProvider, TableMetadata};
use agnes_core::sync::ConnectorType;
use agnes_core::value::Value;
use agnes_core::{Error, Kind, Result};
use napi::bindgen_prelude::{
    Env, FromNapiValue, Function, JsValuesTupleIntoVec, ToNapiValue, Unknown,
};
use napi::threadsafe_function::{
    ThreadsafeFunction, ThreadsafeFunctionCallMode, UnknownReturnValue,
};
use napi::{Status, ValueType, sys};
use napi_derive::napi;
use serde_json::Value as Json;

use crate::call::of_thrown;
use crate::extract::ExtractWriter;
use crate::value::Told;

/// A function of JavaScript's that any thread calls and waits for. `index.js` has made it of what users wrote:
/// its first argument hears what came of it.
pub(crate) struct Called(ThreadsafeFunction<Call, UnknownReturnValue, Call, Status, false, true>);

/// How often somebody who waits for an answer looks whether there can be one.
const LOOK: Duration = Duration::from_millis(100);

/// A call on its way to the thread that runs JavaScript.
pub(crate) struct Call {
    arguments: Box<dyn FnOnce(sys::napi_env) -> napi::Result<Vec<sys::napi_value>> + Send>,
    reply: Sender<Result<Json>>,
}

impl JsValuesTupleIntoVec for Call {
    fn into_vec(self, raw: sys::napi_env) -> napi::Result<Vec<sys::napi_value>> {
        let env = Env::from_raw(raw);
        let reply = self.reply;
        let hear = env.create_function_from_closure::<(), _, _>("reply", move |heard| {
            // What was thrown, and what `index.js` says of it; or what was returned.
            let described = heard.get::<Option<String>>(0)?;
            let value = heard.get::<Unknown<'_>>(1)?;
            let said = match described {
                Some(described) => {
                    Err(of_thrown(&described, napi::Error::from_unknown_without_coercion(value)))
                }
                None => match value.get_type()? {
                    ValueType::Undefined => Ok(Json::Null),
                    _ => heard.get::<Json>(1).map_err(|error| {
                        Error::new(Kind::Contract, format!("what was returned: {}", error.reason))
                    }),
                },
            };
            // Nobody waits any more when the data folder was closed.
            let _ = reply.send(said);
            Ok(())
        })?;
        // SAFETY: the values are made on the thread of this environment, for the call that it makes.
        let mut all = vec![unsafe { ToNapiValue::to_napi_value(raw, hear)? }];
        all.extend((self.arguments)(raw)?);
        Ok(all)
    }
}

impl FromNapiValue for Called {
    unsafe fn from_napi_value(env: sys::napi_env, given: sys::napi_value) -> napi::Result<Self> {
        // SAFETY: the value is of the call that converts it.
        let function =
            unsafe { Function::<Call, UnknownReturnValue>::from_napi_value(env, given)? };
        let function = function.build_threadsafe_function::<Call>().weak::<true>();
        Ok(Called(function.build_callback(|call| Ok(call.value))?))
    }
}

impl Called {
    /// Calls it, and waits for what it says.
    fn call(
        &self,
        arguments: impl FnOnce(sys::napi_env) -> napi::Result<Vec<sys::napi_value>> + Send + 'static,
    ) -> Result<Json> {
        let (reply, heard) = channel();
        let call = Call { arguments: Box::new(arguments), reply };
        let queued = self.0.call(call, ThreadsafeFunctionCallMode::Blocking);
        loop {
            match heard.recv_timeout(LOOK) {
                Ok(said) => return said,
                // What is queued when a thread of Node's is ended is never answered.
                Err(RecvTimeoutError::Timeout) if queued == Status::Ok && !self.0.aborted() => {}
                Err(_) => {
                    let message = "the program ends, and nobody runs JavaScript any more";
                    return Err(Error::new(Kind::Cancelled, message));
                }
            }
        }
    }

    /// Calls it with plain values.
    fn tell(&self, arguments: Vec<Value>) -> Result<Json> {
        self.call(move |env| {
            // SAFETY: called on the thread of this environment.
            let told = |value| unsafe { Told::to_napi_value(env, Told(value)) };
            arguments.into_iter().map(told).collect()
        })
    }
}

/// Connectors that a function runs, which is given a configuration and a job.
pub(crate) struct JsConnectorType(pub(crate) Arc<Called>);

impl ConnectorType for JsConnectorType {
    fn open(&self, config: &Json, _: &Path) -> Result<Box<dyn Connector>> {
        Ok(Box::new(JsConnector { run: self.0.clone(), config: Value::of(config)? }))
    }
}

/// A connector that a function runs.
pub(crate) struct JsConnector {
    run: Arc<Called>,
    config: Value,
}

impl JsConnector {
    /// One that has no configuration.
    pub(crate) fn of(run: Called) -> Self {
        JsConnector { run: Arc::new(run), config: Value::Null }
    }
}

impl Connector for JsConnector {
    fn extract(&self, job: &CoreJob<'_>) -> Result<ConnectorReport> {
        extract_by(job, Busy::Wait, |asked| {
            let config = self.config.clone();
            let job = Job {
                source: asked.source,
                tables: Told(Value::of(&asked.tables)?),
                declared: Told(Value::of(&asked.declared)?),
                now: Told(Value::Time(asked.now)),
                writer: ExtractWriter { writing: asked.writing },
            };
            // SAFETY: called on the thread of this environment.
            let run = self.run.call(|env| unsafe {
                Ok(vec![Told::to_napi_value(env, Told(config))?, Job::to_napi_value(env, job)?])
            });
            run.map(drop)
        })
    }
}

/// What a connector is asked to do.
///
/// It writes what its source has now to `writer`, which is finished when `extract` has ended. Tables that it
/// doesn't write stay as they are.
#[napi(object, object_from_js = false)]
pub struct Job {
    /// The source that it is to bring over.
    pub source: String,
    /// The tables that are due; null for all.
    #[napi(ts_type = "string[] | null")]
    pub tables: Told,
    /// What is declared about the source's tables: an object for each.
    #[napi(ts_type = "any[]")]
    pub declared: Told,
    /// The present moment.
    #[napi(ts_type = "Date")]
    pub now: Told,
    /// Takes the tables.
    pub writer: ExtractWriter,
}

/// A function of a table that knows how large it is.
pub(crate) struct JsProvider(pub(crate) Called);

impl MetadataProvider for JsProvider {
    fn metadata(&self, table: &Address) -> Result<Option<TableMetadata>> {
        let said = self.0.tell(vec![Value::of(table)?])?;
        serde_json::from_value(said)
            .map_err(|e| Error::new(Kind::Invalid, format!("the metadata of a table: {e}")))
    }
}

impl Called {
    /// As a function of a variable's name that gives its value.
    pub(crate) fn variable(&self, name: &str) -> Result<Option<String>> {
        Ok(self.tell(vec![Value::Text(name.to_string())])?.as_str().map(str::to_string))
    }

    /// As a function `(what, done, total)`.
    pub(crate) fn progress(&self, what: &str, done: u64, total: u64) -> Result<()> {
        let number = |number| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        self.tell(vec![Value::Text(what.to_string()), number(done), number(total)]).map(drop)
    }
}
