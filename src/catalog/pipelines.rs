//! `toplake.pipelines`: how the pipelines are that bring events in, whichever process they run in.
//!
//! Each says so by an object of its own, `_toplake/pipelines/<name>-<instance>.json`, every few seconds and whenever its state
//! changes, and removes it at its end. That is a report and nothing depends on it: what is consumed stands in the tables.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};

use super::folder_names::folder_of_name;
use super::live_table::LiveRows;
use super::side_table::OURS;
use super::warehouse::Warehouse;
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::Change;
use crate::lake::pin::Pins;
use crate::lake::schema::timestamp;
use crate::lake::store::Store;

/// A pipeline that has not said how it is for so long is lost.
pub const LOST_AFTER: Duration = Duration::from_secs(30);

/// What a lost pipeline said last is kept for so long.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(86_400);

/// The position of a table that its pipelines watch: one that has stopped goes on once it has been counted up.
pub const RESUME: &str = "toplake.resume";

/// Reports that are read at the same time.
const PARALLEL: usize = 16;

/// Times that a resumption is tried again after losing to other commits.
const TRIES: usize = 20;

/// What a pipeline is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PipelineState {
    /// It consumes.
    Running,
    /// It lets its source wait, because what it has read is not written yet.
    Paused,
    /// It has no source or no store to work with, and tries again.
    Waiting,
    /// It has given up until somebody resumes it.
    Stopped,
}

impl PipelineState {
    fn as_str(self) -> &'static str {
        match self {
            PipelineState::Running => "running",
            PipelineState::Paused => "paused",
            PipelineState::Waiting => "waiting",
            PipelineState::Stopped => "stopped",
        }
    }
}

/// How far a pipeline is in a partition that it consumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The source of the [`Partition`](crate::lake::event_times::Partition).
    pub source: String,
    /// The topic.
    pub topic: String,
    /// Its number.
    pub partition: i64,
    /// The next offset to commit.
    pub position: i64,
    /// The offset after the broker's last one.
    pub end: Option<i64>,
    /// The broker's timestamp of the newest message read, in microseconds.
    pub newest: Option<i64>,
}

/// What a pipeline says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineStatus {
    /// Its name; several processes may run it.
    pub name: String,
    /// Which of these: another one for each start.
    pub instance: String,
    /// The table that it brings events into.
    pub table: String,
    /// The machine that it runs on.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// When it started, in microseconds.
    pub started: i64,
    /// When this was written, in microseconds by the store's clock. Known of what was read.
    #[serde(skip)]
    pub written: i64,
    /// What it is doing.
    pub state: PipelineState,
    /// Why it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it is in that state, in microseconds.
    pub since: i64,
    /// The partitions that it consumes.
    pub partitions: Vec<PartitionStatus>,
    /// Events consumed a second, lately.
    pub consumed_per_second: f64,
    /// Events in the window by which it decides whether to stop.
    pub window: u64,
    /// Of these, bad ones.
    pub errors: u64,
}

impl PipelineStatus {
    /// Messages that wait for it, as far as it knows where its partitions end.
    fn lag(&self) -> Option<i64> {
        self.partitions.iter().map(|p| p.end.map(|end| (end - p.position).max(0))).sum()
    }

    /// Whether it has not been heard of at an instant, in microseconds.
    pub fn is_lost(&self, now: i64) -> bool {
        now.saturating_sub(self.written) > LOST_AFTER.as_micros() as i64
    }
}

/// The folder of the reports.
fn folder(warehouse: &Store) -> Store {
    warehouse.child(OURS).child("pipelines")
}

fn path(warehouse: &Store, name: &str, instance: &str) -> object_store::path::Path {
    folder(warehouse).path(&format!("{}-{instance}.json", folder_of_name(name)))
}

impl Warehouse {
    /// Says how a pipeline is.
    pub async fn report(&self, status: &PipelineStatus) -> Result<()> {
        let body = serde_json::to_vec(status)
            .map_err(|e| Error::internal(format!("cannot write how pipeline '{}' is: {e}", status.name)))?;
        self.store().put(&path(self.store(), &status.name, &status.instance), body.into()).await
    }

    /// A pipeline has come to its end: there is nothing to say of it any more.
    pub async fn withdraw(&self, name: &str, instance: &str) -> Result<()> {
        self.store().delete_all(vec![path(self.store(), name, instance)]).await
    }

    /// What all pipelines said last, by name.
    pub async fn pipelines(&self) -> Result<Vec<PipelineStatus>> {
        let folder = folder(self.store());
        let listed: Vec<object_store::ObjectMeta> =
            folder.object_store().list(Some(folder.prefix())).try_collect().await?;
        let read = futures::stream::iter(listed).map(|meta| {
            let folder = &folder;
            async move {
                // It may have ended since it was listed.
                let Some(bytes) = folder.get(&meta.location).await? else { return Ok(None) };
                match serde_json::from_slice::<PipelineStatus>(&bytes) {
                    Ok(status) => {
                        Ok(Some(PipelineStatus { written: meta.last_modified.timestamp_micros(), ..status }))
                    }
                    Err(e) => {
                        tracing::warn!(object = %meta.location, error = %e, "cannot read how a pipeline is");
                        Ok(None)
                    }
                }
            }
        });
        let read: Vec<Result<Option<PipelineStatus>>> = read.buffered(PARALLEL).collect().await;
        let found = read.into_iter().filter_map(Result::transpose).collect::<Result<Vec<_>>>();
        let mut found = found?;
        found.sort_by(|a, b| (&a.name, &a.instance).cmp(&(&b.name, &b.instance)));
        Ok(found)
    }

    /// Removes what those pipelines said last that have been lost for long.
    pub async fn forget_lost_pipelines(&self, after: Duration) -> Result<()> {
        let folder = folder(self.store());
        let old = chrono::Utc::now() - after;
        let listed: Vec<object_store::ObjectMeta> =
            folder.object_store().list(Some(folder.prefix())).try_collect().await?;
        let lost = listed.into_iter().filter(|meta| meta.last_modified < old).map(|meta| meta.location);
        folder.delete_all(lost.collect()).await
    }

    /// Has the pipelines into a table go on that have stopped.
    pub async fn resume(&self, table: &str) -> Result<()> {
        let found = self.table(table).await?;
        let table =
            found.ok_or_else(|| Error::undefined_table(format!("there is no table '{table}' any more")))?;
        let mut lost = None;
        for _ in 0..TRIES {
            let mut change = Change::new(CommitKind::Rewrite, "RESUME", &*table.update().await?);
            change.counts.push(RESUME.into());
            match table.commit(&change).await {
                Err(e) if e.kind() == Kind::Conflict => lost = Some(e),
                done => return done.map(|_| ()),
            }
        }
        Err(lost.unwrap_or_else(|| Error::internal("no try was made")))
    }
}

/// The system table.
#[derive(Debug)]
pub struct Pipelines {
    warehouse: Arc<Warehouse>,
    schema: SchemaRef,
}

impl Pipelines {
    /// The pipelines of a warehouse.
    pub fn new(warehouse: Arc<Warehouse>) -> Self {
        let text = |name: &str| Field::new(name, DataType::Utf8View, true);
        let number = |name: &str| Field::new(name, DataType::Int64, true);
        let time = |name: &str| Field::new(name, timestamp(true), true);
        let schema = Schema::new(vec![
            text("name"),
            text("table_name"),
            text("state"),
            text("reason"),
            time("since"),
            text("host"),
            number("pid"),
            text("instance"),
            time("started"),
            time("written"),
            number("partitions"),
            number("lag"),
            Field::new("consumed_per_second", DataType::Float64, true),
            number("window"),
            number("errors"),
        ]);
        Pipelines { warehouse, schema: Arc::new(schema) }
    }

    async fn rows(&self) -> Result<RecordBatch> {
        let rows = self.warehouse.pipelines().await?;
        let now = chrono::Utc::now().timestamp_micros();
        let texts = |each: for<'a> fn(&'a PipelineStatus) -> Option<&'a str>| -> ArrayRef {
            Arc::new(rows.iter().map(each).collect::<StringViewArray>())
        };
        let numbers = |each: fn(&PipelineStatus) -> Option<i64>| -> ArrayRef {
            Arc::new(rows.iter().map(each).collect::<Int64Array>())
        };
        let times = |each: fn(&PipelineStatus) -> i64| -> ArrayRef {
            let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(each));
            Arc::new(times.with_timezone("UTC"))
        };
        let states = rows.iter().map(|row| if row.is_lost(now) { "lost" } else { row.state.as_str() });
        let states = StringViewArray::from_iter_values(states);
        let rates = Float64Array::from_iter_values(rows.iter().map(|row| row.consumed_per_second));
        let columns = vec![
            texts(|row| Some(&row.name)),
            texts(|row| Some(&row.table)),
            Arc::new(states),
            texts(|row| row.reason.as_deref()),
            times(|row| row.since),
            texts(|row| Some(&row.host)),
            numbers(|row| Some(i64::from(row.pid))),
            texts(|row| Some(&row.instance)),
            times(|row| row.started),
            times(|row| row.written),
            numbers(|row| Some(row.partitions.len() as i64)),
            numbers(PipelineStatus::lag),
            Arc::new(rates),
            numbers(|row| Some(row.window as i64)),
            numbers(|row| Some(row.errors as i64)),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

#[async_trait]
impl LiveRows for Pipelines {
    fn columns(&self) -> &SchemaRef {
        &self.schema
    }

    async fn now(&self, _: &Pins) -> Result<RecordBatch> {
        self.rows().await
    }
}
