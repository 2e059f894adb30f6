//! The thread that polls the consumer and hands messages to the lanes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};

use super::client::{self, ANSWER, Group, Member, failed};
use super::commit::Order;
use super::lane::Batch;
use super::messages::{Kept, Messages};
use super::options::Options;
use super::pipeline::Pipeline;
use super::start::{first_positions, start};
use crate::error::{Error, Kind, Result};
use crate::lake::event_times::Partition;
use crate::lake::snapshot::Snapshot;

/// Messages that are decoded together.
const CHUNK: usize = 8192;

/// Bytes of messages that are decoded together.
const CHUNK_BYTES: usize = 1 << 20;

/// A message waits at most so long for others that it is decoded with.
const LINGER: Duration = Duration::from_millis(50);

/// Messages between two looks at everything else.
const LOOK_EVERY: usize = 1024;

/// How long a partition that is taken away may take to commit what was read of it.
const FLUSH: Duration = Duration::from_secs(10);

/// Pause before something that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Statistics that have to say that a partition is read to its end before it is believed.
const SURE: u32 = 5;

/// Between two looks whether topics are still the ones that they were.
const TOPICS_EVERY: Duration = Duration::from_secs(30);

/// The fetching side of a pipeline.
pub(super) struct Fetch {
    pipeline: Arc<Pipeline>,
    orders: mpsc::UnboundedSender<Order>,
    runtime: runtime::Handle,
    stop: Arc<AtomicBool>,
    kept: Kept,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the table calls each topic as a source.
    sources: HashMap<String, String>,
    /// Messages that wait for others, by topic and partition; there is one for each partition that is ours.
    buffers: Vec<(String, HashMap<i32, Buffer>)>,
    /// Why it cannot go on.
    failed: Option<Error>,
    /// Whether the group has given partitions, or said that there are none.
    joined: bool,
    /// Whether the brokers have to wait; `None` where it is not known of each partition.
    paused: Option<bool>,
}

#[derive(Default)]
struct Buffer {
    messages: Messages,
    since: Option<Instant>,
}

impl State {
    fn buffer(&mut self, topic: &str, number: i32) -> Option<&mut Buffer> {
        let (_, of_topic) = self.buffers.iter_mut().find(|(name, _)| name == topic)?;
        of_topic.get_mut(&number)
    }

    fn add(&mut self, topic: &str, number: i32, kept: Kept) {
        let buffer = Buffer { messages: Messages::new(kept), since: None };
        match self.buffers.iter_mut().find(|(name, _)| name == topic) {
            Some((_, of_topic)) => drop(of_topic.insert(number, buffer)),
            None => self.buffers.push((topic.to_owned(), HashMap::from([(number, buffer)]))),
        }
    }

    fn remove(&mut self, topic: &str, number: i32) {
        for (_, of_topic) in self.buffers.iter_mut().filter(|(name, _)| name == topic) {
            of_topic.remove(&number);
        }
    }

    /// The partitions that are ours.
    fn partitions(&self) -> Vec<(String, i32)> {
        let all = self.buffers.iter();
        all.flat_map(|(topic, of_topic)| of_topic.keys().map(|number| (topic.clone(), *number))).collect()
    }

    fn partition(&self, topic: &str, number: i32) -> Result<Partition> {
        let source = self.sources.get(topic).cloned();
        let source = source.ok_or_else(|| Error::internal(format!("topic '{topic}' is not one of ours")))?;
        Ok(Partition { source, number: i64::from(number) })
    }
}

impl Fetch {
    pub(super) fn new(
        pipeline: &Arc<Pipeline>,
        sources: HashMap<String, String>,
        kept: Kept,
        orders: mpsc::UnboundedSender<Order>,
        stop: Arc<AtomicBool>,
    ) -> Arc<Self> {
        Arc::new(Fetch {
            pipeline: Arc::clone(pipeline),
            orders,
            runtime: runtime::Handle::current(),
            stop,
            kept,
            state: Mutex::new(State { sources, ..Default::default() }),
        })
    }

    fn options(&self) -> &Options {
        &self.pipeline.options
    }

    /// Consumes until it is told to stop, or to the end where that is asked for.
    pub(super) fn run(self: &Arc<Self>, consumer: &Arc<BaseConsumer<Group>>) -> Result<()> {
        let member: Arc<dyn Member> = Arc::<Fetch>::clone(self);
        client::join(consumer, self.options(), member)?;
        let ends = if self.options().until_end { Some(ends(consumer, self.options())?) } else { None };
        let mut since_look = 0;
        let (mut checked, mut tried) = (Instant::now(), Instant::now());
        while !self.stop.load(Ordering::Relaxed) {
            match consumer.poll(LINGER) {
                Some(Ok(message)) => {
                    self.take(&message);
                    since_look += 1;
                    if since_look < LOOK_EVERY {
                        continue;
                    }
                }
                Some(Err(e)) => self.failed(consumer, e)?,
                None => {}
            }
            let quiet = std::mem::take(&mut since_look) < LOOK_EVERY;
            self.send_waiting(quiet);
            if let Some(e) = self.state.lock().failed.take() {
                return Err(e);
            }
            let pause = self.pipeline.is_full() || self.pipeline.halted().is_some();
            if self.state.lock().paused.replace(pause) != Some(pause) {
                let ours = consumer.assignment().map_err(failed)?;
                let done = if pause { consumer.pause(&ours) } else { consumer.resume(&ours) };
                done.map_err(failed)?;
            }
            if checked.elapsed() >= TOPICS_EVERY {
                checked = Instant::now();
                self.check_topics(consumer)?;
            }
            if tried.elapsed() >= PAUSE || self.pipeline.trouble().is_none() {
                tried = Instant::now();
                self.begin_again(consumer)?;
            }
            if let Some(ends) = &ends
                && self.is_done(consumer, ends)?
            {
                break;
            }
        }
        self.send_waiting(true);
        Ok(())
    }

    fn take(&self, message: &BorrowedMessage<'_>) {
        let mut state = self.state.lock();
        // A message of a partition that is not ours any more is the new owner's.
        let Some(buffer) = state.buffer(message.topic(), message.partition()) else { return };
        buffer.messages.push(message);
        if buffer.since.is_none() {
            buffer.since = Some(Instant::now());
        }
        if buffer.messages.len() >= CHUNK || buffer.messages.size() >= CHUNK_BYTES {
            let full = std::mem::replace(buffer, Buffer { messages: Messages::new(self.kept), since: None });
            let partition = state.partition(message.topic(), message.partition());
            drop(state);
            self.send(partition, full);
        }
    }

    /// Hands over what has waited long enough, or everything.
    fn send_waiting(&self, all: bool) {
        let mut ready = vec![];
        let mut state = self.state.lock();
        for (topic, number) in state.partitions() {
            let Some(buffer) = state.buffer(&topic, number) else { continue };
            if buffer.since.is_some_and(|since| all || since.elapsed() >= LINGER) {
                let waiting =
                    std::mem::replace(buffer, Buffer { messages: Messages::new(self.kept), since: None });
                ready.push((state.partition(&topic, number), waiting));
            }
        }
        drop(state);
        ready.into_iter().for_each(|(partition, waiting)| self.send(partition, waiting));
    }

    fn send(&self, partition: Result<Partition>, buffer: Buffer) {
        let Ok(partition) = partition else { return };
        let in_flight = self.pipeline.in_flight(buffer.messages.size());
        let batch = Batch { messages: buffer.messages, in_flight };
        if let Some(lane) = self.pipeline.lanes.lock().get_mut(&partition) {
            lane.fed = Instant::now();
            // A lane that has ended is lost, and its partition begins again.
            let _ = lane.messages.send(batch);
        }
    }

    /// What the consumer says instead of a message.
    fn failed(&self, consumer: &BaseConsumer<Group>, e: KafkaError) -> Result<()> {
        match e {
            KafkaError::MessageConsumptionFatal(code) => {
                Err(Error::storage(format!("Kafka: {code}; this consumer cannot go on")))
            }
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::UnknownTopicId
                | RDKafkaErrorCode::UnknownTopicOrPartition,
            ) => {
                tracing::warn!(ingest = self.pipeline.name(), error = %e, "looking where each partition stands");
                self.check_topics(consumer)?;
                // Whichever it was: each finds out where it has to begin, or that it cannot.
                let state = self.state.lock();
                let all =
                    state.partitions().into_iter().map(|(topic, number)| state.partition(&topic, number));
                self.pipeline.restart(all.collect::<Result<Vec<_>>>()?);
                Ok(())
            }
            // The consumer tries again by itself, and says when it cannot reach any broker.
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure,
            ) => Ok(()),
            e => {
                self.pipeline.troubled(&failed(e));
                Ok(())
            }
        }
    }

    /// Looks whether topics were made again under their names; their partitions are others then, and begin again.
    fn check_topics(&self, consumer: &BaseConsumer<Group>) -> Result<()> {
        let known = self.runtime.block_on(self.pipeline.events()).and_then(|events| {
            let table = events.table().snapshot();
            client::sources(consumer, self.options(), &table)
        });
        let now = match known {
            Ok(now) => now,
            Err(e) => {
                self.pipeline.troubled(&e);
                return Ok(());
            }
        };
        let mut state = self.state.lock();
        let changed: Vec<(String, i32)> = state
            .partitions()
            .into_iter()
            .filter(|(topic, _)| state.sources.get(topic) != now.get(topic))
            .collect();
        for (topic, number) in &changed {
            tracing::warn!(
                ingest = self.pipeline.name(),
                topic,
                partition = number,
                "the topic was made again"
            );
            self.pipeline.end(&state.partition(topic, *number)?);
        }
        state.sources = now;
        let again = changed.iter().map(|(topic, number)| state.partition(topic, *number));
        self.pipeline.restart(again.collect::<Result<Vec<_>>>()?);
        Ok(())
    }

    /// Begins lost partitions again. The first that cannot be asked about ends the round: the others would have to wait as long.
    fn begin_again(&self, consumer: &BaseConsumer<Group>) -> Result<()> {
        if let Some(e) = self.pipeline.lost_for_good() {
            return Err(e);
        }
        let lost = self.pipeline.lost();
        if lost.is_empty() {
            return Ok(());
        }
        let done = self.table(consumer).and_then(|table| {
            for partition in lost {
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
                self.begin_one_again(consumer, &table, &partition)?;
            }
            Ok(())
        });
        match done {
            Err(e) if e.kind() == Kind::Storage => {
                self.pipeline.troubled(&e);
                Ok(())
            }
            done => done,
        }
    }

    fn begin_one_again(
        &self,
        consumer: &BaseConsumer<Group>,
        table: &Snapshot,
        lost: &Partition,
    ) -> Result<()> {
        let number = lost.number as i32;
        let ours = {
            let mut state = self.state.lock();
            let topics = state.partitions().into_iter().filter(|(_, n)| *n == number);
            let topic =
                topics.map(|(topic, _)| topic).find(|topic| state.sources.get(topic) == Some(&lost.source));
            // What was read of it is read again.
            topic.inspect(|topic| state.add(topic, number, self.kept))
        };
        let Some(topic) = ours else {
            self.pipeline.end(lost);
            return Ok(());
        };
        let start = start(consumer, self.options(), table, &topic, lost)?;
        if consumer.seek(&topic, number, Offset::Offset(start.offset), ANSWER).is_err() {
            // One that the broker refused an offset of is not fetched any more, and cannot be moved.
            let mut alone = TopicPartitionList::new();
            alone.add_partition_offset(&topic, number, Offset::Offset(start.offset)).map_err(failed)?;
            consumer.incremental_unassign(&alone).map_err(failed)?;
            consumer.incremental_assign(&alone).map_err(failed)?;
            self.state.lock().paused = None;
        }
        consumer.context().forget(&topic, number);
        self.runtime.block_on(self.pipeline.begin(&topic, lost, start))
    }

    /// The table as it is now, once it says where each partition begins.
    fn table(&self, consumer: &BaseConsumer<Group>) -> Result<Arc<Snapshot>> {
        let sources = self.state.lock().sources.clone();
        loop {
            let events = self.runtime.block_on(self.pipeline.events())?;
            let table = events.table().snapshot();
            let Some(change) = first_positions(consumer, self.options(), &sources, &table)? else {
                return Ok(table);
            };
            match self.runtime.block_on(events.table().commit(&change)) {
                // Another process was faster.
                Err(e) if e.kind() == Kind::Conflict => {}
                done => drop(done?),
            }
        }
    }

    /// Finds where given partitions begin, and begins their lanes.
    fn begin(&self, consumer: &BaseConsumer<Group>, partitions: &mut TopicPartitionList) -> Result<()> {
        self.check_topics(consumer)?;
        let table = self.table(consumer)?;
        let given: Vec<(String, i32)> =
            partitions.elements().iter().map(|p| (p.topic().to_owned(), p.partition())).collect();
        for (topic, number) in given {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let partition = self.state.lock().partition(&topic, number)?;
            let start = start(consumer, self.options(), &table, &topic, &partition)?;
            partitions.set_partition_offset(&topic, number, Offset::Offset(start.offset)).map_err(failed)?;
            self.runtime.block_on(self.pipeline.begin(&topic, &partition, start))?;
            self.state.lock().add(&topic, number, self.kept);
            tracing::info!(
                ingest = self.pipeline.name(),
                topic,
                partition = number,
                offset = start.offset,
                "begins"
            );
        }
        Ok(())
    }

    /// Whether everything is committed that was there at the start, by this process or another one. Fails if nothing more will be.
    fn is_done(&self, consumer: &BaseConsumer<Group>, ends: &HashMap<(String, i32), i64>) -> Result<bool> {
        let state = self.state.lock();
        let waits = state.buffers.iter().flat_map(|(_, all)| all.values()).any(|b| b.since.is_some());
        if !state.joined || waits || !self.pipeline.lost().is_empty() || !self.pipeline.is_settled() {
            return Ok(false);
        }
        if let Some(halt) = self.pipeline.halted() {
            return Err(Error::too_many_errors(halt.reason)
                .with_hint("see toplake.dead_letters; allow more with --max-errors"));
        }
        let table = self.pipeline.engine.warehouse().opened(&self.options().table);
        for ((topic, number), target) in ends.iter().filter(|(_, target)| **target > 0) {
            let partition = state.partition(topic, *number)?;
            let position =
                table.as_ref().and_then(|table| table.position(&partition.consumed_app(&table.metadata.id)));
            let ours = state.buffers.iter().any(|(name, all)| name == topic && all.contains_key(number));
            // Behind the last message there may be more offsets, which nobody is given.
            let end = consumer.context().end(topic, *number).filter(|_| ours);
            let reached = end.is_some_and(|end| end.reached && end.times >= SURE && end.offset >= *target);
            if !reached && position.is_none_or(|position| position < *target) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Member for Fetch {
    fn assign(&self, consumer: &BaseConsumer<Group>, partitions: &mut TopicPartitionList) {
        // The group waits: it takes the partitions away again from who does not come back in max.poll.interval.ms.
        while !self.stop.load(Ordering::Relaxed) {
            match self.begin(consumer, partitions) {
                Err(e) if e.kind() == Kind::Storage => {
                    self.pipeline.troubled(&e);
                    std::thread::sleep(PAUSE);
                }
                Err(e) => {
                    self.state.lock().failed = Some(e);
                    break;
                }
                Ok(()) => break,
            }
        }
        let mut state = self.state.lock();
        state.joined = true;
        // What came now is as it was left by whoever had it before.
        state.paused = None;
    }

    fn revoke(&self, partitions: &TopicPartitionList) {
        self.send_waiting(true);
        let mut state = self.state.lock();
        let taken: Vec<(String, i32)> =
            partitions.elements().iter().map(|p| (p.topic().to_owned(), p.partition())).collect();
        let ours: Vec<Partition> =
            taken.iter().filter_map(|(topic, number)| state.partition(topic, *number).ok()).collect();
        taken.iter().for_each(|(topic, number)| state.remove(topic, *number));
        drop(state);
        if ours.is_empty() {
            return;
        }
        tracing::info!(ingest = self.pipeline.name(), partitions = ours.len(), "gives partitions back");
        // What was read is committed if that is quickly done; else the new owner reads it again, and one of both commits it.
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Flush { partitions: ours.clone(), done }).is_ok() {
            let _ = self.runtime.block_on(async { tokio::time::timeout(FLUSH, wait).await });
        }
        ours.iter().for_each(|partition| self.pipeline.end(partition));
    }
}

/// Where each partition of the topics ends now.
fn ends(consumer: &BaseConsumer<Group>, options: &Options) -> Result<HashMap<(String, i32), i64>> {
    let mut ends = HashMap::new();
    for topic in &options.topics {
        for number in client::partitions(consumer, topic)? {
            let (low, high) = client::bounds(consumer, topic, number)?;
            ends.insert((topic.clone(), number), if low == high { 0 } else { high });
        }
    }
    Ok(ends)
}
