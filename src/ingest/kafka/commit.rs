//! The one committer of a pipeline: collects what the lanes have written, and commits it together.
//!
//! *Exactly once.* The commit that brings a partition's rows also moves the table's position of that partition, a Delta `txn` that is
//! compared at the version which the commit builds on, with where the lane's work began. So of two processes that both believe
//! a partition to be theirs one commits, and the other one loses that partition's files and begins again where the table stands; the
//! rest of its commit goes on without them. After an answer that was lost nobody guesses: all partitions of that commit begin
//! again where the table says that they are, and their files stay for VACUUM to judge.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tracing::{Instrument, Span};

use super::client::Group;
use super::lane::{Cut, Segment};
use super::pipeline::Pipeline;
use crate::catalog::late::Divided;
use crate::catalog::outbox::Route;
use crate::catalog::pipelines::RESUME;
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::{Change, Position};
use crate::lake::event_times::{Partition, Seen};
use crate::lake::snapshot::Snapshot;
use crate::lake::table::Table;

/// Times in a row that a commit is planned again without losing a partition.
const TRIES: usize = 100;

/// Between two lines in the log that say how far it is.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Between two looks whether a pipeline that has stopped may go on.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The span of the next batch: what is logged in it carries its number, which no other batch of the process has.
fn batch(ingest: &str) -> Span {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    tracing::info_span!("batch", ingest, id = NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What others ask of the committer.
pub(super) enum Order {
    /// Commit what was read of these partitions.
    Flush {
        /// Which.
        partitions: Vec<Partition>,
        /// Told when that was tried.
        done: oneshot::Sender<()>,
    },
    /// Commit all that was read, and end.
    Stop {
        /// Told when that was tried.
        done: oneshot::Sender<()>,
    },
}

/// The committer.
pub(super) struct Committer {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) consumer: Arc<BaseConsumer<Group>>,
    /// Told after each commit.
    pub(super) committed: Arc<tokio::sync::Notify>,
    /// When it last had to wait: for brokers, for the store, for somebody who says go on.
    pub(super) waited: Instant,
}

impl Committer {
    /// Commits when it is time, until it is told to stop.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut timer = tokio::time::interval(self.pipeline.options.commit_interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut said, mut resumed) = (Said::new(), None);
        loop {
            let order = tokio::select! {
                biased;
                order = orders.recv() => order,
                () = self.pipeline.due.notified() => None,
                _ = timer.tick() => None,
                _ = looks.tick() => {
                    said.say(&self.pipeline);
                    self.look(&mut resumed).await;
                    continue;
                }
            };
            let only = match &order {
                Some(Order::Flush { partitions, .. }) => Some(partitions.iter().cloned().collect()),
                _ => None,
            };
            let segments = self.collect(only.as_ref(), order.is_some()).await;
            let idle = if order.is_some() { BTreeSet::new() } else { self.idle() };
            if !segments.is_empty() || !idle.is_empty() {
                let span = batch(self.pipeline.name());
                let done = self.commit(segments, idle).instrument(span.clone()).await;
                span.in_scope(|| match done {
                    Ok(()) => self.pipeline.works(),
                    Err(e) => self.pipeline.troubled(&e),
                });
            }
            // Who asked may not wait any more.
            match order {
                Some(Order::Flush { done, .. }) => {
                    let _ = done.send(());
                }
                Some(Order::Stop { done }) => {
                    let _ = done.send(());
                    return;
                }
                None => {}
            }
        }
    }

    /// What the lanes have written.
    async fn collect(&self, only: Option<&BTreeSet<Partition>>, drain: bool) -> Vec<Segment> {
        if only.is_none() {
            self.pipeline.cut();
        }
        let asked: Vec<_> = {
            let lanes = self.pipeline.lanes.lock();
            let wanted =
                lanes.iter().filter(|(partition, _)| only.is_none_or(|only| only.contains(partition)));
            let ask = wanted.filter_map(|(_, lane)| {
                let (reply, answer) = oneshot::channel();
                lane.cuts.send(Cut { drain, reply }).ok().map(|()| answer)
            });
            ask.collect()
        };
        join_all(asked).await.into_iter().flatten().flatten().collect()
    }

    /// Partitions that have given no event time for a while, though they are read, and that the watermark still waits for. Nobody
    /// is idle because it has to wait.
    fn idle(&mut self) -> BTreeSet<Partition> {
        let waits = self.pipeline.halted().is_some()
            || self.pipeline.is_full()
            || self.consumer.context().is_unreachable();
        if waits {
            self.waited = Instant::now();
        }
        let after = self.pipeline.options.idle_after;
        if self.waited.elapsed() < after {
            return BTreeSet::new();
        }
        let Ok(Some(table)) = self.table_as_known() else { return BTreeSet::new() };
        let lanes = self.pipeline.lanes.lock();
        let waited_for = table.event_times.streams().filter(|(_, reached)| !reached.idle);
        let quiet = waited_for.filter(|(partition, _)| {
            lanes.get(partition).is_some_and(|lane| {
                let end = self.consumer.context().end(&lane.topic, partition.number as i32);
                let read = lane.fed.elapsed() < after || end.is_some_and(|end| end.reached);
                lane.timed.elapsed() >= after && read
            })
        });
        quiet.map(|(partition, _)| partition.clone()).collect()
    }

    /// The table as it was when it was last looked at; nothing is asked of the store.
    fn table_as_known(&self) -> Result<Option<Arc<Snapshot>>> {
        Ok(self.pipeline.engine.warehouse().opened(&self.pipeline.options.table))
    }

    /// Commits segments, without those that others have committed already.
    async fn commit(&self, mut segments: Vec<Segment>, idle: BTreeSet<Partition>) -> Result<()> {
        let begun = Instant::now();
        let events = match self.pipeline.events().await {
            Ok(events) => events,
            Err(e) => {
                self.lose(segments, true).await;
                return Err(e);
            }
        };
        let table = Arc::clone(events.table());
        let mut now = table.snapshot();
        for _ in 0..TRIES {
            let (mine, lost): (Vec<Segment>, Vec<Segment>) =
                segments.into_iter().partition(|segment| stands(segment, &now));
            self.lose(lost, false).await;
            segments = mine;
            if segments.is_empty() && idle.is_empty() {
                return Ok(());
            }
            let mut change = match self.plan(&mut segments, &idle, &now).await {
                Ok(change) => change,
                Err(e) => {
                    self.lose(segments, true).await;
                    return Err(e);
                }
            };
            for (segment, entry) in segments.iter().zip(&mut change.ledger) {
                entry.end = self.end_of(&segment.partition);
            }
            match table.commit(&change).await {
                Ok(version) => {
                    self.done(&table, version, &change, segments, begun.elapsed());
                    return Ok(());
                }
                Err(e) if e.kind() == Kind::Conflict => match table.update().await {
                    Ok(newer) => now = newer,
                    Err(e) => {
                        self.lose(segments, true).await;
                        return Err(e);
                    }
                },
                Err(e) => {
                    // It may have happened: the files stay, and each partition goes on where the table stands.
                    for segment in &segments {
                        self.pipeline.lose(&segment.partition, None);
                    }
                    return Err(e);
                }
            }
        }
        let e = Error::conflict(format!("table '{}': other writers keep winning", table.name()));
        self.lose(segments, true).await;
        Err(e)
    }

    async fn plan(
        &self,
        segments: &mut [Segment],
        idle: &BTreeSet<Partition>,
        now: &Arc<Snapshot>,
    ) -> Result<Change> {
        let mut change = Change::new(CommitKind::Append, "INGEST", now);
        let rows = segments.iter_mut().map(|segment| &mut segment.divided).collect();
        Divided::plan_all(rows, &mut change, now).await?;
        let dead: Vec<_> = segments.iter().flat_map(|segment| segment.dead.iter().cloned()).collect();
        Route::DeadLetters.name_in(&mut change, &dead);
        let recent: Vec<_> =
            segments.iter().flat_map(|segment| segment.recent_keys.iter().cloned()).collect();
        Route::RecentKeys.name_in(&mut change, &recent);
        let mut seen = Seen { idle: idle.clone(), ..Default::default() };
        for segment in segments {
            let partition = &segment.partition;
            let app = partition.consumed_app(&now.metadata.id);
            change.positions.push(Position { app, from: segment.stands, to: segment.to() });
            // One that gave nothing with a time is waited for only from its beginning, or when it begins again.
            if segment.highest.is_some() || segment.messages == 0 {
                seen.active.insert(partition.clone(), segment.highest);
                seen.idle.remove(partition);
            }
            let entry = &mut segment.ledger;
            (entry.stored, entry.late) = (segment.divided.rows(), segment.divided.late_rows());
            let kept = entry.stored + entry.late + entry.dead + entry.duplicate + entry.suspect;
            entry.filtered = entry.consumed.saturating_sub(kept);
            change.ledger.push(entry.clone());
        }
        change.seen = seen;
        Ok(change)
    }

    fn done(&self, table: &Table, version: i64, change: &Change, segments: Vec<Segment>, took: Duration) {
        let consumed = &self.pipeline.consumed;
        consumed.commits.fetch_add(1, Ordering::Relaxed);
        for entry in &change.ledger {
            consumed.stored.fetch_add(entry.stored, Ordering::Relaxed);
            consumed.late.fetch_add(entry.late, Ordering::Relaxed);
            consumed.dead.fetch_add(entry.dead, Ordering::Relaxed);
            consumed.filtered.fetch_add(entry.filtered, Ordering::Relaxed);
        }
        for segment in &segments {
            self.pipeline.reached(&segment.partition, segment.to(), segment.ledger.newest);
        }
        let oldest = segments.iter().map(|segment| segment.since.elapsed()).max();
        let messages: u64 = segments.iter().map(|segment| segment.messages).sum();
        tracing::debug!(table = table.name(), version, messages, ?took, ?oldest, "committed");
        self.tell_group(&segments);
        self.committed.notify_one();
    }

    /// Tells the group how far its partitions are, for people who look at its lag. Nothing is ever read back.
    fn tell_group(&self, segments: &[Segment]) {
        let mut offsets = TopicPartitionList::new();
        let lanes = self.pipeline.lanes.lock();
        for segment in segments {
            if let Some(lane) = lanes.get(&segment.partition) {
                let number = segment.partition.number as i32;
                let _ = offsets.add_partition_offset(&lane.topic, number, Offset::Offset(segment.to()));
            }
        }
        drop(lanes);
        if let Err(error) = self.consumer.commit(&offsets, CommitMode::Async) {
            tracing::debug!(ingest = self.pipeline.name(), %error, "could not tell the group");
        }
    }

    fn end_of(&self, partition: &Partition) -> Option<i64> {
        let lanes = self.pipeline.lanes.lock();
        let topic = &lanes.get(partition)?.topic;
        Some(self.consumer.context().end(topic, partition.number as i32)?.offset)
    }

    /// Removes the files of segments that no commit will name; their partitions begin again.
    async fn lose(&self, segments: Vec<Segment>, failed: bool) {
        for segment in segments {
            if !failed {
                tracing::info!(
                    partition = %segment.partition,
                    "another process has committed it, or the table has changed: begins again where the table stands"
                );
            }
            self.pipeline.lose(&segment.partition, None);
            segment.discard(&self.pipeline).await;
        }
    }

    /// Whether the table was made again, and whether a pipeline that has stopped may go on.
    async fn look(&self, resumed: &mut Option<i64>) {
        let table = match self.pipeline.events().await {
            Ok(events) => events.table().snapshot(),
            Err(e) => return self.pipeline.troubled(&e),
        };
        let lanes = self.pipeline.lanes.lock();
        let old = lanes.iter().filter(|(_, lane)| lane.table_id != table.metadata.id);
        let old: Vec<Partition> = old.map(|(partition, _)| partition.clone()).collect();
        drop(lanes);
        self.pipeline.restart(old);
        let count = table.position(RESUME).unwrap_or(0);
        let before = resumed.replace(count);
        let Some(halt) = self.pipeline.halted() else { return };
        if before.is_some_and(|before| count > before) {
            self.pipeline.resume("it was told to");
        } else if self.pipeline.options.errors.retry_after.is_some_and(|after| halt.since.elapsed() >= after)
        {
            self.pipeline.resume("it tries again");
        }
    }
}

/// Whether a segment can be committed at `now`.
fn stands(segment: &Segment, now: &Snapshot) -> bool {
    segment.table_id == now.metadata.id
        && segment.schema == now.schema
        && segment.stands == now.position(&segment.partition.consumed_app(&now.metadata.id))
}

/// Says now and then how far it is.
struct Said {
    at: Instant,
    stored: u64,
}

impl Said {
    fn new() -> Self {
        Said { at: Instant::now(), stored: 0 }
    }

    fn say(&mut self, pipeline: &Pipeline) {
        let elapsed = self.at.elapsed();
        if elapsed < SAY_EVERY {
            return;
        }
        let consumed = &pipeline.consumed;
        let stored = consumed.stored.load(Ordering::Relaxed);
        let rate = (stored - self.stored) as f64 / elapsed.as_secs_f64();
        if stored > self.stored {
            tracing::info!(
                ingest = pipeline.name(),
                stored,
                late = consumed.late.load(Ordering::Relaxed),
                dead_letters = consumed.dead.load(Ordering::Relaxed),
                commits = consumed.commits.load(Ordering::Relaxed),
                "{rate:.0} rows/s"
            );
        }
        (self.at, self.stored) = (Instant::now(), stored);
    }
}
