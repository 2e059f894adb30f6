//! `/v1/status`: how everything is, as the system tables say, in one answer.
//!
//! Counting dead letters and adding up the ledger reads files, so that is done seldom; all else stands in logs that are in
//! memory.

use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use datafusion::arrow::json::WriterBuilder;
use datafusion::arrow::json::writer::JsonArray;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::checks::Check;
use super::span::show;
use super::{Answer, Http, answer};
use crate::catalog::options::keys;
use crate::catalog::privileges::Privilege;
use crate::catalog::warehouse::Object;
use crate::catalog::watermark;
use crate::error::{Error, Result};
use crate::lake::action::CommitKind;
use crate::lake::table::{Table, now_ms};
use crate::statement::Session;

/// Rates are those of the last minute.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// The ledger is added up over so many days.
const LEDGER_DAYS: u32 = 7;

/// How everything is.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Status {
    pub(super) tables: Vec<TableStatus>,
    pub(super) pipelines: Vec<PipelineLine>,
    pub(super) stages: Vec<Stages>,
    pub(super) ledger: Vec<LedgerSum>,
    pub(super) dead_letters: Vec<DeadLetters>,
    pub(super) rollups: Vec<RollupStatus>,
    pub(super) leaderboards: Vec<LeaderboardStatus>,
    pub(super) jobs: Vec<JobStatus>,
}

/// A table of events.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TableStatus {
    pub(super) name: String,
    pub(super) last_event_time: Option<String>,
    pub(super) watermark: Option<String>,
    pub(super) version: i64,
    pub(super) rows: Option<u64>,
    pub(super) files: usize,
    pub(super) rows_per_second: Option<f64>,
    pub(super) late_rows: Option<u64>,
}

/// A pipeline that brings events in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PipelineLine {
    pub(super) name: String,
    pub(super) table: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) since: Option<String>,
    pub(super) host: Option<String>,
    pub(super) written: Option<String>,
    pub(super) lag: Option<i64>,
    pub(super) consumed_per_second: Option<f64>,
    pub(super) errors: i64,
    pub(super) window: i64,
}

/// How long events are on their way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stages {
    pub(super) table: String,
    pub(super) event_to_broker_seconds: Option<f64>,
    pub(super) broker_to_commit_seconds: Option<f64>,
    pub(super) commit_to_fold_seconds: Option<f64>,
}

/// What became of what was consumed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LedgerSum {
    pub(super) table: String,
    pub(super) consumed: i64,
    pub(super) stored: i64,
    pub(super) duplicate: i64,
    pub(super) dead: i64,
    pub(super) late: i64,
    pub(super) filtered: i64,
    pub(super) imbalance: i64,
    pub(super) balanced: bool,
}

/// Input that could not be stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DeadLetters {
    pub(super) table: String,
    pub(super) rows: i64,
    pub(super) latest: Option<String>,
}

/// A rollup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RollupStatus {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) status: String,
    pub(super) lag_commits: Option<i64>,
    pub(super) lag_rows: Option<i64>,
    pub(super) lag_seconds: Option<i64>,
    pub(super) watermark: Option<String>,
    pub(super) complete_through: Option<String>,
    pub(super) last_error: Option<String>,
}

/// A leaderboard.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LeaderboardStatus {
    pub(super) name: String,
    pub(super) rows: Option<i64>,
    pub(super) last_refresh: Option<String>,
    pub(super) age_seconds: Option<i64>,
    pub(super) refresh_every_seconds: Option<i64>,
    pub(super) last_error: Option<String>,
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct JobStatus {
    pub(super) job: String,
    pub(super) object: Option<String>,
    pub(super) state: String,
    pub(super) begun: Option<String>,
    pub(super) ended: Option<String>,
    pub(super) next: Option<String>,
    pub(super) rows: Option<i64>,
    pub(super) error: Option<String>,
}

/// What reads files, and is looked at seldom.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    ledger: Vec<LedgerSum>,
    dead_letters: Vec<DeadLetters>,
}

impl Counted {
    /// Counts, with somebody's rights.
    pub(super) async fn now(session: &Session) -> Result<Self> {
        let ledger = format!(
            "SELECT *, consumed - stored - duplicate - dead - late - filtered AS imbalance, \
                    consumed = stored + duplicate + dead + late + filtered AS balanced \
             FROM (SELECT table_name AS \"table\", sum(consumed) AS consumed, sum(stored) AS stored, \
                          sum(duplicate) AS duplicate, sum(dead + suspect) AS dead, sum(late) AS late, \
                          sum(filtered) AS filtered \
                   FROM toplake.ledger WHERE committed_at > now() - INTERVAL '{LEDGER_DAYS} days' GROUP BY 1) AS sums \
             ORDER BY 1"
        );
        let dead_letters = "SELECT table_name AS \"table\", count(*) AS rows, max(at) AS latest \
                            FROM toplake.dead_letters GROUP BY 1 ORDER BY 1";
        Ok(Counted {
            ledger: read(session, &ledger).await?,
            dead_letters: read(session, dead_letters).await?,
        })
    }
}

impl Status {
    /// How everything is now, as a session may see it.
    pub(super) async fn now(session: &Session, counted: &Counted) -> Result<Self> {
        let visible = |name: &str| session.may(Privilege::Select, name);
        let mut status = Status {
            tables: tables(session).await?,
            pipelines: read(
                session,
                "SELECT name, table_name AS \"table\", state, reason, since, host, written, lag, consumed_per_second, errors, \
                        \"window\" FROM toplake.pipelines ORDER BY name, instance",
            )
            .await?,
            stages: read(
                session,
                "SELECT table_name AS \"table\", max(event_to_broker_seconds) AS event_to_broker_seconds, \
                        max(broker_to_commit_seconds) AS broker_to_commit_seconds, \
                        max(commit_to_fold_seconds) AS commit_to_fold_seconds \
                 FROM toplake.sources GROUP BY 1 ORDER BY 1",
            )
            .await?,
            ledger: counted.ledger.clone(),
            dead_letters: counted.dead_letters.clone(),
            rollups: read(
                session,
                "SELECT name, source, status, lag_commits, lag_rows, lag_seconds, watermark, complete_through, last_error \
                 FROM toplake.rollups ORDER BY name",
            )
            .await?,
            leaderboards: read(
                session,
                "SELECT name, rows, last_refresh, age_seconds, refresh_every_seconds, last_error \
                 FROM toplake.leaderboards ORDER BY name",
            )
            .await?,
            jobs: read(
                session,
                "SELECT job, object, state, begun, ended, next, rows, error FROM toplake.jobs ORDER BY job, object",
            )
            .await?,
        };
        status.pipelines.retain(|pipeline| visible(&pipeline.table));
        status.stages.retain(|stages| visible(&stages.table));
        status.jobs.retain(|job| job.object.as_deref().is_none_or(visible));
        status.rollups.retain(|rollup| visible(&rollup.name));
        status.leaderboards.retain(|board| visible(&board.name));
        Ok(status)
    }
}

/// The rows of a query, each as what it stands for.
async fn read<T: DeserializeOwned>(session: &Session, sql: &str) -> Result<Vec<T>> {
    let rows = session.sql(sql).await?;
    let mut json = vec![];
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(&mut json);
    for batch in &rows {
        writer.write(batch)?;
    }
    writer.finish()?;
    if json.is_empty() {
        return Ok(vec![]);
    }
    serde_json::from_slice(&json)
        .map_err(|e| Error::internal(format!("a system table is not what it should be: {e}")))
}

async fn tables(session: &Session) -> Result<Vec<TableStatus>> {
    let mut tables = vec![];
    let warehouse = session.warehouse();
    for name in warehouse.list().await? {
        let Ok(Some(Object::Table(events))) = warehouse.get(&name).await else { continue };
        if events.late_of().is_some() || !session.may(Privilege::Select, &name) {
            continue;
        }
        let table = events.table();
        let snapshot = table.update().await?;
        if snapshot.option(keys::TIME_COLUMN).is_none() {
            continue;
        }
        tables.push(TableStatus {
            last_event_time: watermark::last_event_time(&name, &snapshot)?.map(show),
            watermark: watermark::of(&name, &snapshot)?.map(show),
            version: snapshot.version,
            rows: snapshot.rows(),
            files: snapshot.files.len(),
            rows_per_second: rate(table, snapshot.version),
            late_rows: events.late().and_then(|late| late.snapshot().rows()),
            name,
        });
    }
    Ok(tables)
}

/// Rows that were appended in the last minute, a second; none where this process does not remember that long.
fn rate(table: &Table, version: i64) -> Option<f64> {
    let commits = table.recent(version);
    let since = now_ms() - RATE_WINDOW.as_millis() as i64;
    let first = commits.first()?;
    let schema = &table.snapshot().schema;
    let recent = commits.iter().filter(|c| c.timestamp >= since && c.kind == CommitKind::Append);
    let rows: u64 = recent.flat_map(|c| c.appended()).filter_map(|file| file.stats(schema).rows).sum();
    // Of less than a minute, what it remembers.
    let remembered = (now_ms() - first.timestamp.max(since)).max(1_000) as f64 / 1e3;
    Some(rows as f64 / remembered)
}

#[derive(Debug, Serialize)]
pub(super) struct Told {
    now: String,
    version: &'static str,
    uptime_seconds: u64,
    ready: bool,
    checks: Vec<Check>,
    #[serde(flatten)]
    status: Status,
}

pub(super) async fn status(State(http): State<Http>, headers: HeaderMap) -> Answer<Told> {
    let watch = std::sync::Arc::clone(&http.watch);
    answer(&http, &headers, |session| async move {
        let seen = watch.recent().await;
        let status = match session.is_admin() {
            // What the watch sees is what an admin may see.
            true => seen.status.clone(),
            false => {
                let mut status = Status::now(&session, &Counted::default()).await?;
                // Sums of the ledger say nothing of what is in the rows; dead letters are for those who may read them.
                status.ledger.clone_from(&seen.status.ledger);
                status.dead_letters.clone_from(&seen.status.dead_letters);
                let visible = |name: &str| session.may(Privilege::Select, name);
                status.ledger.retain(|line| visible(&line.table));
                status.dead_letters.retain(|line| visible(&line.table));
                status
            }
        };
        Ok(Told {
            now: show(chrono::Utc::now().timestamp_micros()),
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: watch.uptime().as_secs(),
            ready: seen.checks.iter().all(|check| check.ok),
            checks: seen.checks.clone(),
            status,
        })
    })
    .await
}
