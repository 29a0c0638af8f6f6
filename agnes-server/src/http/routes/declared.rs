//! What admins declare of a table, as it comes over the wire.

use agnes_core::access::{NewTable, TableUpdate};
use agnes_core::extract::QueryMode;
use agnes_core::registry::{Declaration, Granularity, OnByDefault, SyncStrategy};
use agnes_core::{ColumnName, Result, Schedule, SourceName, TableId, ViewName};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::wire::sent;
use crate::http::app::Inner;
use crate::http::error::{Answer, Failure};

/// What is declared of a table. What isn't sent stays as it is, or as it usually is; null takes a
/// value away.
#[derive(Deserialize, ToSchema)]
pub(super) struct Declared {
    /// The name under which it is published.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
    name: Option<ViewName>,
    /// The source that it is a table of: the one that publishes the name, or else the kind of
    /// system, where it isn't sent.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
    source: Option<SourceName>,
    /// `keboola`, `bigquery`, `jira`, `local`, …
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    source_type: Option<Option<String>>,
    /// The bucket or dataset there.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    bucket: Option<Option<String>>,
    /// What it is called there.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    source_table: Option<Option<String>>,
    /// The query that makes a materialized table.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    source_query: Option<Option<String>>,
    /// `local`, `remote` or `materialized`.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>, pattern = "^(local|remote|materialized)$")]
    query_mode: Option<Option<QueryMode>>,
    /// When, as in `every 1h` or `daily 07:00`.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    sync_schedule: Option<Option<Schedule>>,
    /// `full_refresh`, `incremental` or `partitioned`.
    #[schema(value_type = Option<String>, pattern = "^(full_refresh|incremental|partitioned)$")]
    sync_strategy: Option<SyncStrategy>,
    /// The columns that tell its rows apart: a list, or one.
    #[serde(default, deserialize_with = "columns")]
    #[schema(value_type = Option<Columns>)]
    primary_key: Option<Vec<ColumnName>>,
    /// What it is.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    /// A folder that clients show it in.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    folder: Option<Option<String>>,
    /// Whether a sync that changed it makes a profile of it.
    profile_after_sync: Option<bool>,
    /// Days that an incremental sync looks back.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 100_000)]
    incremental_window_days: Option<Option<u32>>,
    /// Days of history that are kept.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 100_000)]
    max_history_days: Option<Option<u32>>,
    /// The column by which an incremental sync tells what is new.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    incremental_column: Option<Option<ColumnName>>,
    /// Filters that the source applies.
    #[schema(value_type = Option<Vec<Object>>)]
    where_filters: Option<Vec<Map<String, Value>>>,
    /// The column by which it is partitioned.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>)]
    partition_by: Option<Option<ColumnName>>,
    /// `day`, `month` or `year`.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<String>, pattern = "^(day|month|year)$")]
    partition_granularity: Option<Option<Granularity>>,
    /// Days for each piece of the first load.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 100_000)]
    initial_load_chunk_days: Option<Option<u32>>,
    /// Whether the policy `grants_and_legacy` shows it to everybody.
    is_public: Option<bool>,
}

/// The same with a name, which a table to be registered has.
pub(super) struct ToRegister;

impl PartialSchema for ToRegister {
    fn schema() -> RefOr<Schema> {
        let mut schema = Declared::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.required.push("name".to_string());
            if let Some(RefOr::T(Schema::Object(name))) = object.properties.get_mut("name") {
                name.schema_type = SchemaType::Type(Type::String);
            }
        }
        schema
    }
}

impl ToSchema for ToRegister {}

/// Columns in a list, or one by itself.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Columns {
    /// One.
    One(String),
    /// A list.
    Several(Vec<String>),
}

fn columns<'de, D: Deserializer<'de>>(
    d: D,
) -> std::result::Result<Option<Vec<ColumnName>>, D::Error> {
    let texts = match Option::deserialize(d)? {
        None => Vec::new(),
        Some(Columns::One(column)) => vec![column],
        Some(Columns::Several(columns)) => columns,
    };
    let columns: Result<Vec<ColumnName>> = texts.iter().map(ColumnName::parse).collect();
    columns.map(Some).map_err(|error| D::Error::custom(error.message()))
}

impl Declared {
    /// Puts what was sent over a table. The names of what was.
    pub(super) fn over(self, table: &mut TableUpdate) -> Vec<&'static str> {
        let mut updated = Vec::new();
        fn put<T>(
            slot: &mut T,
            value: Option<T>,
            name: &'static str,
            updated: &mut Vec<&'static str>,
        ) {
            if let Some(value) = value {
                *slot = value;
                updated.push(name);
            }
        }
        let d = &mut table.declaration;
        put(&mut table.name, self.name, "name", &mut updated);
        put(&mut table.source, self.source, "source", &mut updated);
        macro_rules! put_each {
            ($($field:ident),* $(,)?) => {
                $(put(&mut d.$field, self.$field, stringify!($field), &mut updated);)*
            };
        }
        put_each!(
            source_type,
            bucket,
            source_table,
            source_query,
            query_mode,
            sync_schedule,
            sync_strategy,
            primary_key,
            description,
            folder,
            incremental_window_days,
            max_history_days,
            incremental_column,
            partition_by,
            partition_granularity,
            initial_load_chunk_days,
            is_public,
        );
        let filters = self.where_filters.map(|f| f.into_iter().map(Value::Object).collect());
        put(&mut d.where_filters, filters, "where_filters", &mut updated);
        let profile = self.profile_after_sync.map(OnByDefault);
        put(&mut d.profile_after_sync, profile, "profile_after_sync", &mut updated);
        // BigQuery has tables that are queried there, or made here of a query.
        if is_big_query(d) && d.query_mode.is_none_or(|mode| mode == QueryMode::Local) {
            d.query_mode = Some(QueryMode::Remote);
        }
        if d.sync_strategy == SyncStrategy::Partitioned {
            d.partition_granularity.get_or_insert(Granularity::Month);
        }
        updated
    }

    /// A table to be registered.
    pub(super) fn new_table(self, app: &Inner, id: Option<TableId>) -> Answer<NewTable> {
        let missing = || Failure::unprocessable(&["body", "name"], "a table has a name");
        let name = self.name.clone().ok_or_else(missing)?;
        let source_type = self.source_type.clone().flatten();
        let source = match self.source.clone() {
            Some(source) => source,
            None => app.agnes.source_for(&name, Some(source_type.as_deref().unwrap_or("local")))?,
        };
        if let Some(kind) = &source_type
            && ["keboola", "bigquery", "jira"].contains(&&*kind.to_ascii_lowercase())
            && !app.settings.data_source.eq_ignore_ascii_case(kind)
            && !app.agnes.has_source(&source)?
        {
            let told = format!(
                "`{kind}` isn't configured here: say how it is reached below `sources` in \
                 instance.yaml"
            );
            return Err(Failure::unprocessable(&["body", "source_type"], &told));
        }
        let declaration = Declaration::default();
        let mut table = TableUpdate { name, source, declaration };
        self.over(&mut table);
        let TableUpdate { name, source, declaration } = table;
        Ok(NewTable { id, name, source, declaration })
    }
}

pub(super) fn is_big_query(declaration: &Declaration) -> bool {
    declaration.source_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("bigquery"))
}
