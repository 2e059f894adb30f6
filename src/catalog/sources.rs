//! `toplake.sources`: where the rows of each events table come from, how far each of these has come, and where events wait on
//! their way.
//!
//! No data file is opened: positions and event times stand in the snapshot, what the last commits consumed stands in those
//! commits that are in memory, and where a partition ends is said there and by the pipelines that consume it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::live_table::LiveRows;
use super::pipelines::PipelineStatus;
use super::warehouse::{Object, Warehouse};
use crate::error::Result;
use crate::lake::committer::{LEDGER, counted_at};
use crate::lake::event_times::{Partition, Reached};
use crate::lake::pin::Pins;
use crate::lake::schema::timestamp;
use crate::lake::snapshot::{Commit, Snapshot};
use crate::lake::table::{Table, now_ms};
use crate::rollup::view::{Rollup, Source};

/// The source of rows that came by no stream: INSERT, files, other writers.
const BATCH: &str = "batch";

/// Commits that are read at once to find the first that was not folded.
const AT_ONCE: i64 = 64;

/// The topic of a source; `None` if it is none of Kafka's, which are `kafka:<cluster>/<topic>/<topic id>`.
pub fn topic_of(source: &str) -> Option<&str> {
    let (rest, _id) = source.strip_prefix("kafka:")?.rsplit_once('/')?;
    rest.rsplit_once('/').map(|(_cluster, topic)| topic)
}

/// The system table.
#[derive(Debug)]
pub struct Sources {
    warehouse: Arc<Warehouse>,
    schema: SchemaRef,
}

#[derive(Default)]
struct Row {
    table: String,
    source: String,
    partition: Option<i64>,
    position: Option<i64>,
    end: Option<i64>,
    /// Messages that are not committed.
    lag: Option<i64>,
    highest: Option<i64>,
    watermark: Option<i64>,
    idle: Option<bool>,
    /// When rows were last committed, in microseconds.
    committed: Option<i64>,
    /// How long events took to the broker, the broker's messages to the commit, and how long a commit waits for a rollup.
    seconds: [Option<f64>; 3],
}

/// What the last commits say that consumed a partition.
#[derive(Default)]
struct Consumed {
    /// When the last one was made, in microseconds.
    committed: Option<i64>,
    /// The broker's timestamp of its newest message.
    newest: Option<i64>,
    /// The highest end of the partition.
    end: Option<i64>,
}

impl Consumed {
    /// By the partitions of a table at one version.
    async fn of(table: &Table, on: &Snapshot) -> Result<BTreeMap<Partition, Consumed>> {
        let mut commits = table.recent(on.version);
        if let Some(newest) = on.position(&counted_at(LEDGER))
            && commits.first().is_none_or(|first| newest < first.version)
        {
            // Only others came since, or this process has just opened the table.
            commits.splice(0..0, table.commits_left(newest - 1, newest, 1).await?);
        }
        let mut found: BTreeMap<Partition, Consumed> = BTreeMap::new();
        for (commit, entry) in commits.iter().flat_map(|c| c.ledger.iter().map(move |entry| (c, entry))) {
            let Some(number) = entry.partition else { continue };
            let partition = Partition { source: entry.source.clone(), number };
            let consumed = found.entry(partition).or_default();
            consumed.end = consumed.end.max(entry.end);
            if entry.consumed > 0 {
                consumed.committed = Some(commit.timestamp.saturating_mul(1000));
                consumed.newest = entry.newest;
            }
        }
        Ok(found)
    }
}

impl Sources {
    /// The sources of a warehouse's tables.
    pub fn new(warehouse: Arc<Warehouse>) -> Self {
        let text = |name: &str| Field::new(name, DataType::Utf8View, true);
        let number = |name: &str| Field::new(name, DataType::Int64, true);
        let time = |name: &str| Field::new(name, timestamp(true), true);
        let seconds = |name: &str| Field::new(name, DataType::Float64, true);
        let schema = Schema::new(vec![
            text("table_name"),
            text("source"),
            text("topic"),
            number("partition"),
            number("position"),
            number("end_position"),
            number("lag"),
            time("highest_event_time"),
            time("watermark"),
            Field::new("idle", DataType::Boolean, true),
            time("committed_at"),
            seconds("event_to_broker_seconds"),
            seconds("broker_to_commit_seconds"),
            seconds("commit_to_fold_seconds"),
        ]);
        Sources { warehouse, schema: Arc::new(schema) }
    }

    async fn rows(&self, pins: &Pins) -> Result<Vec<Row>> {
        let (mut tables, mut rollups) = (vec![], vec![]);
        for name in self.warehouse.list().await? {
            match self.warehouse.get(&name).await {
                Ok(Some(Object::Table(events))) => tables.push(events),
                Ok(Some(Object::Rollup(rollup))) => rollups.push(rollup),
                _ => {}
            }
        }
        let over = |table: &Table| {
            let mine = |rollup: &Rollup| match &rollup.source {
                Source::Events { table: source, .. } => source.name() == table.name(),
                Source::Rollup(_) => false,
            };
            rollups.iter().map(|r| Arc::clone(r.rollup())).filter(|r| mine(r)).collect::<Vec<_>>()
        };
        // The rollups before what they are made from.
        for rollup in &rollups {
            pins.snapshot(&rollup.rollup().table).await?;
        }
        let pipelines = self.warehouse.pipelines().await?;
        let mut rows = vec![];
        for events in tables {
            let table = events.table();
            let on = pins.snapshot(table).await?;
            let unfolded = unfolded_for(table, &on, &over(table), pins).await?;
            let first = rows.len();
            rows.extend(streams(table, &on, &pipelines).await?);
            if let Some(highest) = on.event_times.batches() {
                rows.push(Row { source: BATCH.to_owned(), highest: Some(highest), ..Row::default() });
            }
            let lateness = events.options().allowed_lateness;
            for row in &mut rows[first..] {
                row.table = table.name().to_owned();
                row.watermark = row.highest.map(|time| time.saturating_sub(lateness));
                row.seconds[2] = unfolded;
            }
        }
        Ok(rows)
    }

    fn batch(&self, rows: &[Row]) -> Result<RecordBatch> {
        let times = |each: fn(&Row) -> Option<i64>| -> ArrayRef {
            Arc::new(rows.iter().map(each).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        };
        let numbers = |each: fn(&Row) -> Option<i64>| -> ArrayRef {
            Arc::new(rows.iter().map(each).collect::<Int64Array>())
        };
        let texts = |each: for<'a> fn(&'a Row) -> Option<&'a str>| -> ArrayRef {
            Arc::new(rows.iter().map(each).collect::<StringViewArray>())
        };
        let seconds = |stage: usize| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row.seconds[stage]).collect::<Float64Array>())
        };
        Ok(RecordBatch::try_new(
            Arc::clone(&self.schema),
            vec![
                texts(|row| Some(&row.table)),
                texts(|row| Some(&row.source)),
                texts(|row| topic_of(&row.source)),
                numbers(|row| row.partition),
                numbers(|row| row.position),
                numbers(|row| row.end),
                numbers(|row| row.lag),
                times(|row| row.highest),
                times(|row| row.watermark),
                Arc::new(rows.iter().map(|row| row.idle).collect::<BooleanArray>()),
                times(|row| row.committed),
                seconds(0),
                seconds(1),
                seconds(2),
            ],
        )?)
    }
}

/// The partitions that a table has consumed from, or that a pipeline is about to.
async fn streams(table: &Table, on: &Snapshot, pipelines: &[PipelineStatus]) -> Result<Vec<Row>> {
    let mut partitions: BTreeMap<Partition, Option<Reached>> =
        Partition::consumed(on).map(|(partition, _)| (partition, None)).collect();
    partitions
        .extend(on.event_times.streams().map(|(partition, reached)| (partition.clone(), Some(reached))));
    // Where each ends and is to be read from, by the pipelines into this table.
    let mut said: BTreeMap<Partition, (Option<i64>, i64)> = BTreeMap::new();
    for status in pipelines.iter().filter(|p| p.table == table.name()).flat_map(|p| &p.partitions) {
        let partition = Partition { source: status.source.clone(), number: status.partition };
        partitions.entry(partition.clone()).or_default();
        let (end, position) = said.entry(partition).or_insert((None, status.position));
        *end = (*end).max(status.end);
        *position = (*position).max(status.position);
    }
    let consumed = Consumed::of(table, on).await?;
    let rows = partitions.into_iter().map(|(partition, reached)| {
        let last = consumed.get(&partition);
        let (said_end, said_position) = said.get(&partition).copied().unzip();
        let position = on.position(&partition.consumed_app(&on.metadata.id));
        let end = last.and_then(|last| last.end).max(said_end.flatten());
        let highest = reached.and_then(|reached| reached.highest);
        let newest = last.and_then(|last| last.newest);
        let committed = last.and_then(|last| last.committed);
        Row {
            position,
            end,
            lag: end.zip(position.or(said_position)).map(|(end, from)| (end - from).max(0)),
            highest,
            idle: reached.map(|reached| reached.idle),
            committed,
            seconds: [apart(highest, newest), apart(newest, committed), None],
            partition: Some(partition.number),
            source: partition.source,
            ..Row::default()
        }
    });
    Ok(rows.collect())
}

/// Seconds from one instant to another, in microseconds.
fn apart(from: Option<i64>, to: Option<i64>) -> Option<f64> {
    from.zip(to).map(|(from, to)| to.saturating_sub(from) as f64 / 1e6)
}

/// For how many seconds the oldest commit waits that a rollup has not folded; `None` without rollups, and while they are
/// built.
async fn unfolded_for(
    table: &Table,
    on: &Snapshot,
    rollups: &[Arc<Rollup>],
    pins: &Pins,
) -> Result<Option<f64>> {
    let mut longest = None;
    for rollup in rollups {
        let folding = pins.snapshot(&rollup.table).await?;
        let Some(folded) = folding.position(&Rollup::fold_app(&folding)) else { continue };
        let waits = match first_new(table, folded, on.version).await? {
            Some(commit) => (now_ms() - commit.timestamp).max(0) as f64 / 1e3,
            None => 0.0,
        };
        longest = Some(longest.map_or(waits, |longest: f64| longest.max(waits)));
    }
    Ok(longest)
}

/// The first commit of `(after, through]` that changed rows.
async fn first_new(table: &Table, mut after: i64, through: i64) -> Result<Option<Arc<Commit>>> {
    loop {
        let commits = table.commits_left(after, through, AT_ONCE).await?;
        let Some(last) = commits.last().map(|commit| commit.version) else { return Ok(None) };
        if let Some(found) = commits.into_iter().find(|commit| commit.changes_rows()) {
            return Ok(Some(found));
        }
        after = last;
    }
}

#[async_trait]
impl LiveRows for Sources {
    fn columns(&self) -> &SchemaRef {
        &self.schema
    }

    async fn now(&self, pins: &Pins) -> Result<RecordBatch> {
        self.batch(&self.rows(pins).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_stands_before_its_id() {
        assert_eq!(topic_of("kafka:MkU3OEVBNTcwNTJENDM2Qg/ad.clicks/5Jc9"), Some("ad.clicks"));
        assert_eq!(topic_of("kafka:a/b/clicks/5Jc9"), Some("clicks"), "a cluster may be called anything");
        assert_eq!(topic_of("kafka:clicks/5Jc9"), None);
        assert_eq!(topic_of("file:///a/b/c.csv"), None);
    }
}
