//! The registry, what is known of remote tables, profiles, metrics, syncs.

use napi::bindgen_prelude::Env;
use napi_derive::napi;
use serde_json::{Map, Value as Json};

use crate::call::Promised;
use crate::db::{Agnes, ProgressOptions};

/// Which sources, and how far it is.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct SyncOptions {
    /// Whether those that aren't due are meant, too.
    pub all: Option<bool>,
    /// Hears what is done, how many parts of it are done, and of how many.
    #[napi(ts_type = "Progress")]
    pub progress: Option<crate::connector::Called>,
}

/// Which sources a plan is of.
#[napi(object, object_to_js = false)]
pub struct PlanOptions {
    /// Whether those that aren't due are meant, too.
    pub all: Option<bool>,
}

/// Which remote tables are asked about.
#[napi(object, object_to_js = false)]
pub struct RefreshOptions {
    /// Only those of which nothing fresh is known.
    pub stale: Option<bool>,
}

/// What metrics belong to.
#[napi(object, object_to_js = false)]
pub struct MetricsOptions {
    /// Their category, where they don't say one themselves.
    pub category: Option<String>,
}

#[napi]
impl Agnes {
    /// Every registered table, by name.
    #[napi(ts_return_type = "Promise<RegisteredTable[]>")]
    pub fn registered_tables(&self, env: Env) -> Promised {
        self.told(env, |agnes| agnes.registered_tables())
    }

    /// Registers a table, which may be published already or not yet, so that it can be granted.
    #[napi(
        ts_args_type = "name: string, source: string, declared?: NewTable | null",
        ts_return_type = "Promise<RegisteredTable>"
    )]
    pub fn register(
        &self,
        env: Env,
        name: String,
        source: String,
        declared: Option<Map<String, Json>>,
    ) -> Promised {
        self.told(env, move |agnes| agnes.register(&name, &source, declared.unwrap_or_default()))
    }

    /// Changes what is declared about a registered table, named by its id or name; what isn't given stays.
    #[napi(
        ts_args_type = "table: string, declared: Declared",
        ts_return_type = "Promise<RegisteredTable>"
    )]
    pub fn update_table(&self, env: Env, table: String, declared: Map<String, Json>) -> Promised {
        self.told(env, move |agnes| agnes.update_table(&table, declared))
    }

    /// Takes a table out of the registry, with its grants, and out of what is published.
    #[napi(ts_return_type = "Promise<RegisteredTable>")]
    pub fn unregister(&self, env: Env, table: String) -> Promised {
        self.told(env, move |agnes| agnes.unregister(&table))
    }

    /// Registers what is published and isn't registered yet: of one source, or of all.
    #[napi(ts_return_type = "Promise<Adoption>")]
    pub fn adopt(&self, env: Env, source: Option<String>) -> Promised {
        self.told(env, move |agnes| agnes.adopt(source.as_deref()))
    }

    /// Which sources a sync would bring over now, and which of their tables.
    #[napi(
        ts_args_type = "sources?: string | string[] | null, options?: PlanOptions | null",
        ts_return_type = "Promise<Record<string, any>>"
    )]
    pub fn plan_sync(
        &self,
        env: Env,
        sources: Option<Vec<String>>,
        options: Option<PlanOptions>,
    ) -> Promised {
        let all = options.and_then(|options| options.all).unwrap_or(false);
        self.told(env, move |agnes| agnes.plan_sync(sources.unwrap_or_default(), all))
    }

    /// Brings sources over with their connectors, and publishes what they hold: those that are named, all, or those
    /// that are due.
    #[napi(
        ts_args_type = "sources?: string | string[] | null, options?: SyncOptions | null",
        ts_return_type = "Promise<SyncReport>"
    )]
    pub fn sync(
        &self,
        env: Env,
        sources: Option<Vec<String>>,
        options: Option<SyncOptions>,
    ) -> Promised {
        let SyncOptions { all, progress } = options.unwrap_or_default();
        self.told_with(env, progress, move |agnes, progress| {
            agnes.sync(sources.unwrap_or_default(), all.unwrap_or(false), progress)
        })
    }

    /// How large and how fresh every remote table is, as far as anybody knows. Nobody is asked.
    #[napi(ts_return_type = "Promise<MetadataStatus>")]
    pub fn metadata_status(&self, env: Env) -> Promised {
        self.told(env, |agnes| agnes.metadata_status())
    }

    /// Asks the providers: about one remote table, or about all (`stale`: about those that aren't fresh).
    ///
    /// Of all one refresh at a time runs: where one does already, its `run_id` and `started_at` are given with
    /// `already_running`.
    #[napi(ts_return_type = "Promise<Record<string, any>>")]
    pub fn refresh_metadata(
        &self,
        env: Env,
        table: Option<String>,
        options: Option<RefreshOptions>,
    ) -> Promised {
        let stale = options.and_then(|options| options.stale).unwrap_or(false);
        self.told_with(env, None, move |agnes, _| agnes.refresh_metadata(table.as_deref(), stale))
    }

    /// Profiles the tables that have changed since they were last: these, or all that are published.
    #[napi(
        ts_args_type = "tables?: string | string[] | null, options?: ProgressOptions | null",
        ts_return_type = "Promise<any>"
    )]
    pub fn refresh_profiles(
        &self,
        env: Env,
        tables: Option<Vec<String>>,
        options: Option<ProgressOptions>,
    ) -> Promised {
        self.told_with(env, options.and_then(|o| o.progress), move |agnes, progress| {
            agnes.refresh_profiles(tables.unwrap_or_default(), progress)
        })
    }

    /// Every metric, by id.
    #[napi(ts_return_type = "Promise<Metric[]>")]
    pub fn metrics(&self, env: Env) -> Promised {
        self.told(env, |agnes| agnes.metrics())
    }

    /// Takes metrics in from a text of YAML, and gives their ids.
    #[napi(ts_return_type = "Promise<string[]>")]
    pub fn put_metrics(&self, env: Env, yaml: String, options: Option<MetricsOptions>) -> Promised {
        let category = options.and_then(|options| options.category);
        self.told(env, move |agnes| agnes.put_metrics(&yaml, category.as_deref()))
    }

    /// Takes metrics in from a file of YAML, or from a folder of them.
    #[napi(ts_return_type = "Promise<Record<string, any>>")]
    pub fn import_metrics(
        &self,
        env: Env,
        #[napi(ts_arg_type = "string | URL")] path: String,
    ) -> Promised {
        self.told(env, move |agnes| agnes.import_metrics(path.as_ref()))
    }

    /// Writes every metric to a folder, and gives the files.
    #[napi(ts_return_type = "Promise<string[]>")]
    pub fn export_metrics(
        &self,
        env: Env,
        #[napi(ts_arg_type = "string | URL")] folder: String,
    ) -> Promised {
        self.told(env, move |agnes| agnes.export_metrics(folder.as_ref()))
    }

    /// Removes a metric.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn remove_metric(&self, env: Env, id: String) -> Promised {
        self.does(env, move |agnes| agnes.remove_metric(&id))
    }

    /// Holds every metric against the tables that are published.
    #[napi(ts_return_type = "Promise<any[]>")]
    pub fn check_metrics(&self, env: Env) -> Promised {
        self.told(env, |agnes| agnes.check_metrics())
    }
}
