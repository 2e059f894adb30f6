//! `/metrics`: what was counted, and how everything is at the moment, for Prometheus.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use chrono::DateTime;
use datafusion::execution::memory_pool::MemoryLimit;

use super::problem::Problem;
use super::status::Status;
use super::watch::Seen;
use super::{Host, Http};
use crate::catalog::privileges::Role;
use crate::catalog::workers::WorkerState;
use crate::metrics::{self, Gauges};

/// The states of a pipeline.
const STATES: &[&str] = &["running", "paused", "waiting", "stopped", "lost"];

pub(super) async fn exposition(State(http): State<Http>, headers: HeaderMap) -> Result<Response, Problem> {
    http.options.tokens.who(&headers)?;
    let seen = http.watch.recent().await;
    let text = metrics::render(&gauges(&seen, http.host.as_ref()));
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// How everything is, in numbers.
fn gauges(seen: &Seen, host: &dyn Host) -> Gauges {
    let mut g = Gauges::default();
    g.ready(truth(seen.checks.iter().all(|check| check.ok)));
    for check in &seen.checks {
        g.ready_check(check.name, truth(check.ok));
    }
    for (path, free) in &seen.free {
        g.disk_free(path, *free as f64);
    }
    of_status(&mut g, &seen.status);
    let engine = host.engine();
    for role in Role::ALL {
        let (running, waiting) = engine.workload().now(role);
        g.queries_running(role.name(), running as f64);
        g.queries_waiting(role.name(), waiting as f64);
    }
    g.connections(host.connections() as f64);
    let state = engine.state();
    let pool = &state.runtime_env().memory_pool;
    g.memory_used(pool.reserved() as f64);
    if let MemoryLimit::Finite(limit) = pool.memory_limit() {
        g.memory_limit(limit as f64);
    }
    for job in engine.warehouse().jobs().known() {
        g.job_failing(&job.name, truth(job.failing));
        g.job_paused(&job.name, truth(job.paused));
        if let Some(at) = job.last_success {
            g.job_last_success(&job.name, at as f64 / 1e6);
        }
    }
    let workers = engine.warehouse().workers();
    if !workers.is_empty() {
        for state in WorkerState::ALL {
            g.workers(state.name(), workers.iter().filter(|w| w.state == state).count() as f64);
        }
    }
    for (rollup, differences) in engine.warehouse().jobs().audits() {
        g.audit_differences(&rollup, differences as f64);
    }
    g
}

fn of_status(g: &mut Gauges, status: &Status) {
    for table in &status.tables {
        set(&table.last_event_time, |at| g.table_last_event(&table.name, at));
        set(&table.watermark, |at| g.table_watermark(&table.name, at));
        if let Some(rows) = table.rows {
            g.table_rows(&table.name, rows as f64);
        }
        g.table_files(&table.name, table.files as f64);
        g.late_rows(&table.name, table.late_rows.unwrap_or(0) as f64);
        let dead = status.dead_letters.iter().find(|dead| dead.table == table.name);
        g.dead_letters(&table.name, dead.map_or(0, |dead| dead.rows) as f64);
        let ledger = status.ledger.iter().find(|ledger| ledger.table == table.name);
        g.ledger_imbalance(&table.name, ledger.map_or(0, |ledger| ledger.imbalance) as f64);
    }
    for stages in &status.stages {
        let each = [
            ("event_to_broker", stages.event_to_broker_seconds),
            ("broker_to_commit", stages.broker_to_commit_seconds),
            ("commit_to_fold", stages.commit_to_fold_seconds),
        ];
        for (stage, seconds) in each {
            if let Some(seconds) = seconds {
                g.ingest_lag_seconds(&stages.table, stage, seconds);
            }
        }
    }
    let mut names: Vec<&str> = status.pipelines.iter().map(|p| p.name.as_str()).collect();
    names.dedup();
    for name in names {
        // Several processes may run a pipeline: each state that one of them is in.
        let mine = || status.pipelines.iter().filter(|p| p.name == name);
        // One that is lost says nothing of how it is now.
        let heard = || mine().filter(|p| p.state != "lost");
        for state in STATES {
            g.pipeline_state(name, state, truth(mine().any(|p| p.state == *state)));
        }
        let lag: Option<i64> = heard().map(|p| p.lag).sum();
        if let Some(lag) = lag.filter(|_| heard().next().is_some()) {
            g.ingest_lag_messages(name, lag as f64);
        }
        let (errors, window) = heard().fold((0, 0), |(e, w), p| (e + p.errors, w + p.window));
        g.pipeline_error_ratio(name, errors as f64 / window.max(1) as f64);
    }
    for rollup in &status.rollups {
        if let Some(lag) = rollup.lag_seconds {
            g.rollup_lag_seconds(&rollup.name, lag as f64);
        }
        if let Some(lag) = rollup.lag_rows {
            g.rollup_lag_rows(&rollup.name, lag as f64);
        }
        set(&rollup.complete_through, |at| g.rollup_complete_through(&rollup.name, at));
    }
    for board in &status.leaderboards {
        if let Some(age) = board.age_seconds {
            g.leaderboard_age(&board.name, age as f64);
        }
        if let Some(every) = board.refresh_every_seconds {
            g.leaderboard_refresh_every(&board.name, every as f64);
        }
    }
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// Sets a gauge to a time, in seconds, where there is one.
fn set(time: &Option<String>, gauge: impl FnOnce(f64)) {
    let read = time.as_deref().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    if let Some(time) = read {
        gauge(time.timestamp_micros() as f64 / 1e6);
    }
}
