//! HTTP: the dashboard, the questions of an ad or sales system as an API, health and metrics.
//!
//! # Layout
//!
//! - `parameters` reads a query string; `span` says which buckets are meant; `question` puts rollup, measure, span and filters
//!   together, at one version of each table;
//! - `top`, `count`, `history` and `listing` answer: `/v1/top`, `/v1/count`, `/v1/history`, `/v1/catalog`; `value` writes values;
//! - `status` is how everything is: `/v1/status`; `checks` judges whether that is well, `watch` looks again and again and logs
//!   what changes: `/health/ready`; `exposition` has the numbers: `/metrics`;
//! - `tokens` knows who asks; `problem` is what is told instead of an answer; `door` listens, with TLS or without;
//! - `worker` is the little that a worker has of all this;
//! - `pages` has the dashboard's files, and the OpenAPI document that describes all of this.

mod checks;
mod count;
mod door;
mod exposition;
mod history;
mod listing;
mod pages;
mod parameters;
mod problem;
mod question;
mod span;
mod status;
mod tokens;
mod top;
mod value;
mod watch;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::catalog::access::Access;
use crate::certificate::Certificate;
use crate::error::{Error, Result};
use crate::metrics;
use crate::session::Engine;
use crate::statement::Session;

pub use self::checks::free;
use self::problem::Problem;
pub use self::tokens::{Tokens, new_token};
use self::watch::Watch;
pub use self::worker::serve_worker;

/// What HTTP needs of the server around it.
pub trait Host: Send + Sync + 'static {
    /// The engine.
    fn engine(&self) -> &Engine;

    /// A session of somebody who asks; an error where that one may not ask now.
    fn session(&self, access: &Access) -> Result<Session>;

    /// The threads that questions are answered on.
    fn threads(&self) -> Handle;

    /// How many PostgreSQL clients are connected.
    fn connections(&self) -> usize;
}

/// What HTTP listens with, and when the server is not well.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who may ask; anybody who reaches the server if there are none.
    pub tokens: Tokens,
    /// The certificate; without one nothing is encrypted.
    pub certificate: Option<Certificate>,
    /// A pipeline, or a rollup, that is further behind is not well.
    pub max_lag: Duration,
    /// Folders whose disk must not be full, beside that of a local warehouse.
    pub folders: Vec<PathBuf>,
    /// Whether the server refuses what it cannot spread over its workers, so that one without them is not well.
    pub needs_workers: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            tokens: Tokens::default(),
            certificate: None,
            max_lag: Duration::from_secs(300),
            folders: vec![],
            needs_workers: false,
        }
    }
}

/// What the handlers share.
#[derive(Clone)]
struct Http {
    host: Arc<dyn Host>,
    options: Arc<Options>,
    watch: Arc<Watch>,
}

/// What a handler gives.
type Answer<T> = Result<Json<T>, Problem>;

/// Serves until `shutdown` ends; then requests that run may finish.
pub async fn serve(
    listener: TcpListener,
    host: Arc<dyn Host>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    metrics::install()?;
    let threads = host.threads();
    let options = Arc::new(options);
    let watch = Arc::new(Watch::new(Arc::clone(&host), Arc::clone(&options)));
    let mut looking = JoinSet::new();
    looking.spawn_on(Arc::clone(&watch).forever(), &threads);
    let certificate = options.certificate.clone();
    let app = router(Http { host, options, watch });
    let failed = |e: std::io::Error| Error::storage(format!("http: {e}"));
    match certificate {
        Some(certificate) => {
            let door = door::TlsDoor::open(listener, &certificate);
            axum::serve(door, app).with_graceful_shutdown(shutdown).await.map_err(failed)
        }
        None => axum::serve(listener, app).with_graceful_shutdown(shutdown).await.map_err(failed),
    }
}

fn router(http: Http) -> Router {
    let api = Router::new()
        .route("/v1/catalog", get(listing::catalog))
        .route("/v1/top", get(top::top))
        .route("/v1/count", get(count::count))
        .route("/v1/history", get(history::history))
        .route("/v1/status", get(status::status))
        .route("/health/live", get(watch::live))
        .route("/health/ready", get(watch::ready))
        .route("/metrics", get(exposition::exposition))
        .route("/v1/openapi.json", get(pages::openapi));
    pages::routes(api).fallback(pages::nothing).layer(from_fn(timed)).with_state(http)
}

/// Counts each request by the route that answers it.
async fn timed(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let response = next.run(request).await;
    let path = path.as_ref().map_or("other", |path| path.as_str());
    metrics::http_answered(path, response.status().as_u16(), begun.elapsed());
    response
}

/// Answers somebody's question on the threads for that. It stops where nobody waits for the answer any more.
async fn answer<T, F>(http: &Http, headers: &HeaderMap, question: impl FnOnce(Session) -> F) -> Answer<T>
where
    T: Serialize + Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let access = http.options.tokens.who(headers)?;
    let session = http.host.session(&access)?;
    let mut task = JoinSet::new();
    task.spawn_on(question(session), &http.host.threads());
    let answered = match task.join_next().await {
        Some(Ok(answered)) => answered,
        Some(Err(e)) if !e.is_cancelled() => Err(Error::internal(format!("the question ended: {e}"))),
        _ => Err(Error::cancelled("the server is stopping")),
    };
    if let Err(e) = &answered {
        metrics::statement_failed(e.kind().sqlstate());
    }
    Ok(Json(answered?))
}

impl IntoResponse for watch::Readiness {
    fn into_response(self) -> Response {
        let status =
            if self.ready { axum::http::StatusCode::OK } else { axum::http::StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(self)).into_response()
    }
}
