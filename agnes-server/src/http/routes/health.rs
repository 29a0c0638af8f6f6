//! Whether the server is well, and which version it is.

use agnes_core::VERSION;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::app::App;
use crate::http::door::Caller;
use crate::http::error::Answer;
use crate::http::extract::Query;

/// Whether the server is well.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok` or `unhealthy`.
    status: &'static str,
    /// `ok`, `mismatch` or `unreachable`.
    db_schema: &'static str,
    /// The schema of the system database; null when it can't be read.
    current: Option<u32>,
    /// The schema that this version reads.
    expected: u32,
}

impl Health {
    fn of(app: &App) -> Health {
        let expected = agnes_core::store::SCHEMA_VERSION;
        let current = app.pulse.schema(&app.agnes);
        let db_schema = match current {
            None => "unreachable",
            Some(current) if current == expected => "ok",
            Some(_) => "mismatch",
        };
        let status = if db_schema == "ok" { "ok" } else { "unhealthy" };
        Health { status, db_schema, current, expected }
    }
}

/// Say whether the server is well
///
/// Always 200, so that a balancer tells a sick server from a wrong address by `status`. It waits for
/// nothing: the system database is asked in the background, and has two seconds to answer.
#[utoipa::path(get, path = "/api/health", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn health(State(app): State<App>) -> Json<Health> {
    Json(Health::of(&app))
}

/// What a server knows of its parts.
#[derive(Serialize, ToSchema)]
pub(super) struct Detailed {
    /// `healthy`, `degraded` or `unhealthy`.
    status: &'static str,
    version: &'static str,
    /// The channel that it was released in.
    channel: Option<String>,
    /// The container image.
    image_tag: Option<String>,
    /// The commit that it was built from.
    commit_sha: Option<String>,
    /// The schema of the system database.
    schema_version: Option<u32>,
    /// When it was deployed.
    deployed_at: Option<String>,
    /// Now.
    timestamp: String,
    /// The system database, with `include=schema`.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_schema: Option<Health>,
    services: Services,
}

#[derive(Serialize, ToSchema)]
struct Services {
    duckdb_state: Service,
    data: Data,
    users: Users,
    disk: Disk,
    /// What turns sessions of agents into knowledge: `not_configured`, as there is none yet.
    session_pipeline: Service,
    /// The connection to BigQuery, where this installation's source is that: `not_configured`.
    #[serde(skip_serializing_if = "Option::is_none")]
    bq_config: Option<Service>,
}

#[derive(Serialize, ToSchema)]
struct Service {
    status: &'static str,
}

/// The tables that the caller may see.
#[derive(Serialize, ToSchema)]
struct Data {
    status: &'static str,
    tables: usize,
    total_rows: u64,
    /// Those whose data was read longer ago than a day.
    stale_tables: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct Users {
    status: &'static str,
    count: usize,
}

#[derive(Serialize, ToSchema)]
struct Disk {
    status: &'static str,
    /// Bytes that are free on the disk of the data folder.
    free_bytes: Option<u64>,
    /// Bytes that it has.
    size_bytes: Option<u64>,
}

/// Below this a rebuild may fail, bytes.
const LOW: u64 = 1 << 30;

/// What to tell besides.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// `schema`: how the system database stands.
    include: Option<String>,
}

/// Say how each part is
#[utoipa::path(
    get, path = "/api/health/detailed", tag = "health", params(Wanted),
    responses((status = 200, body = Detailed))
)]
pub(super) async fn detailed(
    State(app): State<App>,
    caller: Caller,
    Query(Wanted { include }): Query<Wanted>,
) -> Answer<Json<Detailed>> {
    let health = Health::of(&app);
    let principal = caller.principal;
    let (manifest, users, disk) = app
        .work(move |app| {
            let manifest = app.agnes.manifest(&principal)?;
            let disk = app.agnes.layout().disk_space();
            Ok((manifest, app.access.people(), disk))
        })
        .await?;
    let now = app.agnes.now();
    let is_stale = |updated: Option<agnes_core::Timestamp>| {
        updated.is_some_and(|updated| now.since(updated) > app.settings.stale_after)
    };
    let stale_tables: Vec<String> = manifest
        .tables
        .iter()
        .filter(|(_, entry)| is_stale(entry.updated))
        .map(|(name, _)| name.to_string())
        .collect();
    let is_low = disk.is_some_and(|disk| disk.free_bytes < LOW);
    let tell = |is_well: bool, otherwise: &'static str| if is_well { "ok" } else { otherwise };
    let database = tell(health.status == "ok", "error");
    let status = match (database, is_low || !stale_tables.is_empty()) {
        ("error", _) => "unhealthy",
        (_, true) => "degraded",
        (_, false) => "healthy",
    };
    let is_big_query = app.settings.data_source.eq_ignore_ascii_case("bigquery");
    let with_schema =
        include.is_some_and(|include| include.split(',').any(|part| part == "schema"));
    let release = app.settings.release.clone();
    Ok(Json(Detailed {
        status,
        version: VERSION,
        channel: release.channel,
        image_tag: release.image_tag,
        commit_sha: release.commit_sha,
        schema_version: health.current,
        deployed_at: release.deployed_at,
        timestamp: now.to_string(),
        db_schema: with_schema.then_some(health),
        services: Services {
            duckdb_state: Service { status: database },
            data: Data {
                status: tell(stale_tables.is_empty(), "warning"),
                tables: manifest.tables.len(),
                total_rows: manifest.tables.values().map(|entry| entry.rows).sum(),
                stale_tables,
            },
            users: Users { status: "ok", count: users },
            disk: Disk {
                status: tell(!is_low, "warning"),
                free_bytes: disk.map(|disk| disk.free_bytes),
                size_bytes: disk.map(|disk| disk.size_bytes),
            },
            session_pipeline: Service { status: "not_configured" },
            bq_config: is_big_query.then_some(Service { status: "not_configured" }),
        },
    }))
}

/// Which version a server is.
#[derive(Serialize, ToSchema)]
pub(super) struct Version {
    version: &'static str,
    channel: Option<String>,
    image_tag: Option<String>,
    commit_sha: Option<String>,
}

/// Say which version this is
#[utoipa::path(get, path = "/api/version", tag = "health", responses((status = 200, body = Version)))]
pub(super) async fn version(State(app): State<App>) -> Json<Version> {
    let release = app.settings.release.clone();
    Json(Version {
        version: VERSION,
        channel: release.channel,
        image_tag: release.image_tag,
        commit_sha: release.commit_sha,
    })
}
