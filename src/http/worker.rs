//! What a worker tells of itself: health and metrics.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use datafusion::execution::memory_pool::MemoryLimit;
use serde_json::json;
use tokio::net::TcpListener;

use crate::cluster::Worker;
use crate::error::{Error, Result};
use crate::metrics::{self, Gauges};

/// Serves `/metrics`, `/health/live` and `/health/ready` for as long as the worker is there, also while it drains.
pub async fn serve_worker(listener: TcpListener, worker: Worker) -> Result<()> {
    let app = Router::new()
        .route("/health/live", get(|| async { Json(json!({ "live": true })) }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(exposition))
        .with_state(worker);
    axum::serve(listener, app).await.map_err(|e| Error::storage(format!("http: {e}")))
}

async fn ready(State(worker): State<Worker>) -> impl IntoResponse {
    let ready = worker.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": ready, "version": worker.version(), "tasks": worker.tasks() });
    (status, Json(body))
}

async fn exposition(State(worker): State<Worker>) -> impl IntoResponse {
    let mut g = Gauges::default();
    g.ready(f64::from(u8::from(worker.is_ready())));
    g.worker_tasks(worker.tasks() as f64);
    g.memory_used(worker.memory().reserved() as f64);
    if let MemoryLimit::Finite(limit) = worker.memory().memory_limit() {
        g.memory_limit(limit as f64);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::render(&g))
}
