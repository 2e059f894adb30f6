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
use crate::ingest::error_rate::Verdict;
use crate::ingest::outbox::Outbox;
use crate::lake::action::{Add, LedgerEntry, Metadata};
use crate::lake::event_times::Partition;
use crate::lake::snapshot::Snapshot;
use crate::lake::writer::discard;

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
        discard(pipeline.engine.warehouse().dead_letters().store(), &self.dead).await;
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
        let done = async {
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
        };
        let done: Result<()> = done.await;
        if let Some(open) = self.open.take() {
            open.rows.abandon().await;
            open.dead.abandon().await;
        }
        if let Err(e) = done {
            self.pipeline.lose(&self.partition, Some(e));
        }
    }

    async fn take(&mut self, batch: Batch) -> Result<()> {
        let Batch { messages, in_flight } = batch;
        let (Some(next), count) = (messages.next(), messages.len() as u64) else { return Ok(()) };
        let (bytes, newest) = (messages.size() as u64, messages.newest());
        self.open().await?;
        let Decoded { mapped, events } =
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
            mapped
                .bad
                .first()
                .map_or_else(String::new, |bad| format!("{}:{}: {}", self.partition, bad.line, bad.reason))
        };
        let verdict =
            self.pipeline.window.lock().count(Instant::now(), events, mapped.bad.len() as u64, first);
        let rows = &mapped.rows.batch;
        if let Some(time) = self.time {
            open.highest =
                open.highest.max(max(rows.column(time).as_primitive::<TimestampMicrosecondType>()));
        }
        open.rows.write(rows).await?;
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
            // New columns or options.
            self.events = self.pipeline.events().await?;
            (self.input, self.time, self.metadata) = self::planned(&self.pipeline, &self.events).await?;
            planned = self.events.table().snapshot();
        }
        let letters = self.pipeline.engine.warehouse().dead_letters();
        let from = self.stands.unwrap_or(self.next);
        self.open = Some(Open {
            rows: EventWriter::new(&self.events, &planned),
            dead: Outbox::new(letters, self.events.table().name(), &self.partition.to_string()),
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

    /// Closes the files. The table has to say where a partition begins that it knows nothing of, even if that gave nothing yet:
    /// else a restart could begin elsewhere.
    async fn cut(&mut self) -> Result<Option<Segment>> {
        if self.stands.is_none() || self.gap > 0 {
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
        let segment = Segment {
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
