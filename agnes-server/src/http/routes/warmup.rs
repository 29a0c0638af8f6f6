//! The warm-up: what a server asks about remote tables at its start, so that the first who looks at
//! the catalog doesn't wait.

use std::convert::Infallible;
use std::sync::PoisonError;
use std::time::Duration;

use agnes_core::access::Principal;
use agnes_core::metadata::{Refresh, RefreshReport, Which};
use agnes_core::{Error, Kind, Result};
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream;
use serde::Serialize;
use utoipa::ToSchema;

use super::metadata::under_way;
use crate::http::app::{App, Inner};
use crate::http::error::Answer;

/// How the warm-up stands.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct WarmUp {
    /// `running`, `done`, or `idle` when none has run.
    status: &'static str,
    /// The one that is under way.
    run_id: Option<String>,
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// What the last one came to.
    #[schema(value_type = Option<Object>)]
    last: Option<RefreshReport>,
}

/// An event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is sent; nothing is read into it")]
pub(super) struct WarmUpEvent {
    /// The status, as JSON.
    data: String,
}

fn standing(app: &Inner) -> Result<WarmUp> {
    let running = app.agnes.metadata_run()?;
    let last = app.warmed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(WarmUp {
        status: match (&running, &last) {
            (Some(_), _) => "running",
            (None, Some(_)) => "done",
            (None, None) => "idle",
        },
        started_at: running.as_ref().map(|run| run.started_at.to_string()),
        run_id: running.map(|run| run.run_id),
        last,
    })
}

impl App {
    /// Asks about the remote tables of which nothing fresh is known, in the background.
    ///
    /// # Errors
    /// `Unavailable` when no thread can be had.
    pub fn warm_up(&self) -> Result<()> {
        let app = self.clone();
        let work = move || match app.agnes.refresh_metadata(&Principal::Operator, Which::NotFresh) {
            Ok(Refresh::Done(report)) => {
                tracing::info!(total = report.total, failed = report.failed, "warmed up");
                *app.warmed.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
            }
            // It asks about the same tables.
            Ok(Refresh::AlreadyRunning(_)) => {}
            Err(error) => tracing::error!(?error, "the warm-up failed"),
        };
        // A system may take minutes to answer, in which no thread of the pool waits for it.
        let thread = std::thread::Builder::new().name("agnes-warm-up".into()).spawn(work);
        thread.map(drop).map_err(|e| {
            Error::new(Kind::Unavailable, format!("no thread can be had: {e}; try again"))
        })
    }
}

/// Say how the warm-up stands
#[utoipa::path(
    get, path = "/api/admin/cache-warmup/status", tag = "metadata",
    responses((status = 200, body = WarmUp))
)]
pub(super) async fn status(State(app): State<App>) -> Answer<Json<WarmUp>> {
    Ok(Json(app.work(standing).await?))
}

/// Ask about the remote tables of which nothing fresh is known
///
/// It goes on when this has returned.
#[utoipa::path(
    post, path = "/api/admin/cache-warmup/run", tag = "metadata",
    responses((status = 200, body = WarmUp), (status = 409, description = "It is under way"))
)]
pub(super) async fn run(State(app): State<App>) -> Answer<Json<WarmUp>> {
    if let Some(running) = app.work(|app| app.agnes.metadata_run()).await? {
        return Err(under_way(&running));
    }
    app.warm_up()?;
    Ok(Json(app.work(standing).await?))
}

/// Watch the warm-up
///
/// Events of the form of its status: one at once, one for each change, and the end once none is
/// under way.
#[utoipa::path(
    get, path = "/api/admin/cache-warmup/stream", tag = "metadata",
    responses((status = 200, description = "Events", content_type = "text/event-stream", body = WarmUpEvent))
)]
pub(super) async fn watch(State(app): State<App>) -> impl IntoResponse {
    const EVERY: Duration = Duration::from_millis(300);
    let events = stream::unfold((app, None::<WarmUp>), |(app, told)| async move {
        if told.as_ref().is_some_and(|told| told.status != "running") {
            return None;
        }
        loop {
            let now = app.work(standing).await.ok()?;
            if told.as_ref() != Some(&now) {
                let event = Event::default().json_data(&now).ok()?;
                return Some((Ok::<_, Infallible>(event), (app, Some(now))));
            }
            tokio::time::sleep(EVERY).await;
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
