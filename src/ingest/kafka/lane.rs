//! One partition on its way into files: decoded, checked, written; handed over when a commit is due.
//!
//! A lane takes messages in the order of their offsets and writes them into files of their own, so that a partition which is lost
//! takes nothing else out of a commit.

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::max;
use datafusion::arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::execution::memory_pool::MemoryReservation;
use tokio::sync::{mpsc, oneshot};

use super::input::{Decoded, Input};
use super::messages::Messages;
use super::pipeline::{Counted, InFlight, Pipeline};
use super::start::Start;
use crate::catalog::events::EventsTable;
use crate::catalog::late::{Divided, EventWriter};
use crate::error::{Error, Result};
use crate::ingest::decode::BadLine;
use crate::ingest::error_rate::Verdict;
use crate::ingest::guards::{Guards, Judged};
use crate::ingest::outbox::Outbox;
use crate::lake::action::{Add, LedgerEntry, Metadata};
use crate::lake::event_times::Partition;
use crate::lake::snapshot::Snapshot;
use crate::lake::writer::discard;

/// The reason of dead letters that are more than their key may have.
const SUSPECT: &str = "max_per_key: its key has more events in this time than it may";

/// Messages that are on their way.
pub(super) struct Batch {
    pub(super) messages: Messages,
    /// Counts them until they are in a file.
    pub(super) in_flight: InFlight,
}

/// Asks for what is written.
pub(super) struct Cut {
    /// Also what is on its way to the lane.
    pub(super) drain: bool,
    /// Gets it; `None` if there is nothing.
    pub(super) reply: oneshot::Sender<Option<Segment>>,
}

/// Files of one partition for one commit.
pub(super) struct Segment {
    pub(super) partition: Partition,
    /// The table and its columns that they were written for.
    pub(super) table_id: String,
    pub(super) schema: SchemaRef,
    /// Where the table has to stand.
    pub(super) stands: Option<i64>,
    /// Rows.
    pub(super) divided: Divided,
    /// Dead letters.
    pub(super) dead: Vec<Add>,
    /// What the guards remember of them.
    pub(super) recent_keys: Vec<Add>,
    /// What it accounts for; rows stored, late and left out are counted by the commit.
    pub(super) ledger: LedgerEntry,
    /// The highest event time.
    pub(super) highest: Option<i64>,
    /// When the first message of it was taken.
    pub(super) since: Instant,
    /// Messages and their bytes.
    pub(super) messages: u64,
    _uncommitted: Counted,
}

impl Segment {
    /// The offset behind it.
    pub(super) fn to(&self) -> i64 {
        self.ledger.to
    }

    /// Removes its files.
    pub(super) async fn discard(self, pipeline: &Pipeline) {
        self.divided.discard().await;
        let warehouse = pipeline.engine.warehouse();
        discard(warehouse.dead_letters().store(), &self.dead).await;
        discard(warehouse.recent_keys().store(), &self.recent_keys).await;
    }
}

/// What is written for the next commit.
struct Open {
    planned: Arc<Snapshot>,
    rows: EventWriter,
    dead: Outbox,
    ledger: LedgerEntry,
    highest: Option<i64>,
    since: Instant,
    messages: u64,
    uncommitted: Counted,
}

/// One partition.
pub(super) struct Lane {
    pipeline: Arc<Pipeline>,
    topic: String,
    partition: Partition,
    events: Arc<EventsTable>,
    /// As the input was planned.
    metadata: Arc<Metadata>,
    input: Input,
    time: Option<usize>,
    guards: Option<Guards>,
    /// Whether the watermark has to wait for it again.
    wakes: bool,
    /// Where the table stands once everything that was handed over is committed.
    stands: Option<i64>,
    /// The offset behind what was taken.
    next: i64,
    /// Offsets that were passed over at the start.
    gap: u64,
    open: Option<Open>,
    /// What the open files take.
    reservation: MemoryReservation,
}

/// Tells that a lane is lost, unless it came to its end.
struct Lost {
    pipeline: Arc<Pipeline>,
    partition: Partition,
    ended: bool,
}

impl Drop for Lost {
    fn drop(&mut self) {
        if !self.ended {
            self.pipeline
                .lose(&self.partition, Some(Error::internal(format!("the lane of {} died", self.partition))));
        }
    }
}

/// How messages become rows of the table as it is.
async fn planned(pipeline: &Pipeline, events: &EventsTable) -> Result<(Input, Option<usize>, Arc<Metadata>)> {
    let metadata = Arc::clone(&events.table().snapshot().metadata);
    let input = Input::plan(&pipeline.options, events, &pipeline.session).await?;
    let time = events.options().time_column.as_ref().and_then(|name| events.stored().index_of(name).ok());
    Ok((input, time, metadata))
}

impl Lane {
    /// Plans a lane for a partition that begins at `start`.
    pub(super) async fn new(
        pipeline: &Arc<Pipeline>,
        topic: &str,
        partition: &Partition,
        start: Start,
    ) -> Result<Self> {
        let events = pipeline.events().await?;
        let (input, time, metadata) = planned(pipeline, &events).await?;
        Ok(Lane {
            metadata,
            guards: None,
            wakes: start.wakes,
            topic: topic.to_owned(),
            partition: partition.clone(),
            input,
            time,
            events,
            stands: start.stands,
            next: start.offset,
            gap: start.gap,
            open: None,
            reservation: pipeline.reservation.new_empty(),
            pipeline: Arc::clone(pipeline),
        })
    }

    /// The table that it writes for.
    pub(super) fn table_id(&self) -> &str {
        &self.metadata.id
    }

    /// Takes messages and hands over what is written, until nobody sends any more. An error ends it too: then the partition begins
    /// again where the table stands.
    pub(super) async fn run(
        mut self,
        mut messages: mpsc::UnboundedReceiver<Batch>,
        mut cuts: mpsc::UnboundedReceiver<Cut>,
    ) {
        // Also where it dies of a bug: then the counters of what it had are not to be believed.
        let mut guard =
            Lost { pipeline: Arc::clone(&self.pipeline), partition: self.partition.clone(), ended: false };
        let done = self.work(&mut messages, &mut cuts).await;
        guard.ended = true;
        if let Err(e) = done {
            self.pipeline.lose(&self.partition, Some(e));
        }
        if let Some(open) = self.open.take() {
            open.rows.abandon().await;
            open.dead.abandon().await;
        }
    }

    async fn work(
        &mut self,
        messages: &mut mpsc::UnboundedReceiver<Batch>,
        cuts: &mut mpsc::UnboundedReceiver<Cut>,
    ) -> Result<()> {
        if let Some(options) = self.pipeline.options.guards() {
            let (warehouse, pool) =
                (self.pipeline.engine.warehouse(), &self.pipeline.session.runtime_env().memory_pool);
            self.guards = Some(Guards::load(&options, warehouse, &self.events, &self.partition, pool).await?);
        }
        loop {
            tokio::select! {
                biased;
                cut = cuts.recv() => {
                    let Some(Cut { drain, reply }) = cut else { return Ok(()) };
                    while drain && let Ok(batch) = messages.try_recv() {
                        self.take(batch).await?;
                    }
                    // Who asked may be gone; the files are not in any commit then.
                    if let Err(Some(unwanted)) = reply.send(self.cut().await?) {
                        unwanted.discard(&self.pipeline).await;
                        return Err(Error::cancelled("a commit was given up"));
                    }
                }
                batch = messages.recv() => match batch {
                    Some(batch) => self.take(batch).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    async fn take(&mut self, batch: Batch) -> Result<()> {
        let Batch { messages, in_flight } = batch;
        let (Some(next), count) = (messages.next(), messages.len() as u64) else { return Ok(()) };
        let (bytes, newest) = (messages.size() as u64, messages.newest());
        self.open().await?;
        let Decoded { mapped, chunk, events } =
            self.input.rows(messages, (&self.topic, self.partition.number as i32))?;
        let Some(open) = &mut self.open else { return Err(Error::internal("no file is open")) };
        self.next = next;
        open.messages += count;
        open.uncommitted.add(bytes as usize);
        open.ledger.to = next;
        open.ledger.newest = open.ledger.newest.max(newest);
        open.ledger.consumed += events;
        open.ledger.dead += mapped.bad.len() as u64;
        let first = || {
            let first = mapped.bad.first();
            first.map_or_else(String::new, |bad| format!("{}:{}: {}", self.partition, bad.line, bad.reason))
        };
        let verdict =
            self.pipeline.window.lock().count(Instant::now(), events, mapped.bad.len() as u64, first);
        let mut rows = mapped.rows;
        if let Some(time) = self.time {
            let highest = max(rows.batch.column(time).as_primitive::<TimestampMicrosecondType>());
            if highest.is_some() {
                self.pipeline.timed(&self.partition);
            }
            open.highest = open.highest.max(highest);
        }
        if let Some(guards) = &mut self.guards {
            let Judged { keep, duplicates, suspects } = guards.judge(&rows.batch)?;
            open.ledger.duplicate += duplicates.len() as u64;
            open.ledger.suspect += suspects.len() as u64;
            let suspects = suspects.into_iter().map(|row| {
                let origin = rows.origin.value(row as usize) as usize;
                BadLine {
                    line: chunk.lines[origin],
                    reason: SUSPECT.to_owned(),
                    payload: chunk.payload(origin),
                }
            });
            open.dead.write(&suspects.collect::<Vec<_>>()).await?;
            if let Some(keep) = keep {
                rows = rows.filter(&keep)?;
            }
        }
        open.rows.write(&rows.batch).await?;
        open.dead.write(&mapped.bad).await?;
        // An early commit makes room where there is none.
        if self.reservation.try_resize(open.rows.open_bytes()).is_err() {
            self.pipeline.commit_now();
        }
        drop(in_flight);
        self.pipeline.written(count, bytes);
        match verdict {
            Verdict::Fine => {}
            Verdict::Warn(what) => {
                tracing::warn!(ingest = self.pipeline.name(), "{what}; they are in toplake.dead_letters");
            }
            Verdict::Stop(what) => self.pipeline.halt(what),
        }
        Ok(())
    }

    /// Begins files, if none are open.
    async fn open(&mut self) -> Result<()> {
        if self.open.is_some() {
            return Ok(());
        }
        let mut planned = self.events.table().snapshot();
        if planned.metadata != self.metadata {
            if self.guards.is_some() {
                // They look at columns by their places.
                return Err(Error::conflict(format!("table '{}' was altered", self.events.table().name())));
            }
            // New columns or options.
            self.events = self.pipeline.events().await?;
            (self.input, self.time, self.metadata) = self::planned(&self.pipeline, &self.events).await?;
            planned = self.events.table().snapshot();
        }
        let letters = self.pipeline.engine.warehouse().dead_letters();
        let from = self.stands.unwrap_or(self.next);
        self.open = Some(Open {
            rows: EventWriter::new(&self.events, &planned),
            dead: Outbox::new(
                letters,
                self.events.table().name(),
                &self.partition.source,
                Some(self.partition.number),
            ),
            ledger: LedgerEntry {
                source: self.partition.source.clone(),
                partition: Some(self.partition.number),
                from,
                to: self.next,
                gap: std::mem::take(&mut self.gap),
                ..Default::default()
            },
            highest: None,
            since: Instant::now(),
            messages: 0,
            uncommitted: self.pipeline.uncommitted(),
            planned,
        });
        Ok(())
    }

    /// Closes the files. Where the table stands elsewhere than the lane, or does not wait for the partition, it is told even if there was
    /// nothing yet.
    async fn cut(&mut self) -> Result<Option<Segment>> {
        if self.stands != Some(self.next) || std::mem::take(&mut self.wakes) {
            self.open().await?;
        }
        let Some(open) = self.open.take() else { return Ok(None) };
        let Open { planned, rows, dead, ledger, highest, since, messages, uncommitted } = open;
        let divided = match rows.finish().await {
            Ok(divided) => divided,
            Err(e) => {
                dead.abandon().await;
                return Err(e);
            }
        };
        let recent_keys = match &mut self.guards {
            Some(guards) => guards.finish().await?,
            None => vec![],
        };
        let segment = Segment {
            recent_keys,
            partition: self.partition.clone(),
            table_id: planned.metadata.id.clone(),
            schema: Arc::clone(&planned.schema),
            stands: self.stands,
            dead: dead.finish().await?,
            divided,
            ledger,
            highest,
            since,
            messages,
            _uncommitted: uncommitted,
        };
        self.reservation.free();
        self.stands = Some(segment.to());
        Ok(Some(segment))
    }
}
