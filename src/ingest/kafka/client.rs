//! The consumer: a member of a group, and what it asks of the cluster.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Broker;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};

use super::options::Options;
use super::start::consumed;
use super::topic_id::topic_id;
use crate::error::{Error, Result};
use crate::lake::snapshot::Snapshot;

/// A question to the cluster waits so long for its answer.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// A broker that is asked and says nothing for so long does not answer: it is asked for messages ten times a second.
const SILENCE: Duration = Duration::from_secs(10);

/// The group gives or takes partitions.
pub(super) trait Member: Send + Sync {
    /// Partitions are given: puts the offset into each that it begins at.
    fn assign(&self, consumer: &BaseConsumer<Group>, partitions: &mut TopicPartitionList);

    /// Partitions are taken; called before they are.
    fn revoke(&self, partitions: &TopicPartitionList);
}

/// What librdkafka calls back into.
pub(super) struct Group {
    name: String,
    member: Mutex<Option<Arc<dyn Member>>>,
    ends: Mutex<HashMap<(String, i32), End>>,
    unreachable: AtomicBool,
}

/// How far the broker and the consumer are in a partition, as of the last statistics.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// The offset behind the last message that may be read.
    pub(super) offset: i64,
    /// Whether everything before it was handed out.
    pub(super) reached: bool,
    /// Statistics that said so in a row. Those of before a seek may still come in after it.
    pub(super) times: u32,
}

impl Group {
    /// How far a partition is; `None` before the first statistics say.
    pub(super) fn end(&self, topic: &str, partition: i32) -> Option<End> {
        self.ends.lock().get(&(topic.to_owned(), partition)).copied()
    }

    /// What is known of a partition's end is not true any more.
    pub(super) fn forget(&self, topic: &str, partition: i32) {
        self.ends.lock().remove(&(topic.to_owned(), partition));
    }

    /// Whether no broker could be reached when that was last tried.
    pub(super) fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed)
    }

    fn member(&self) -> Option<Arc<dyn Member>> {
        self.member.lock().clone()
    }
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let ingest = &self.name;
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::error!(ingest, facility, "{message}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(ingest, facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(ingest, facility, "{message}"),
            RDKafkaLogLevel::Debug => tracing::debug!(ingest, facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.unreachable.store(true, Ordering::Relaxed);
        }
        // The log has it too.
        tracing::debug!(ingest = self.name, %error, "{reason}");
    }

    fn stats(&self, statistics: Statistics) {
        if let Some(answers) = some_broker_answers(&statistics) {
            self.unreachable.store(!answers, Ordering::Relaxed);
        }
        let up: HashSet<i32> = statistics
            .brokers
            .values()
            .filter(|broker| broker.state == "UP")
            .map(|broker| broker.nodeid)
            .collect();
        let mut ends = self.ends.lock();
        for (name, topic) in &statistics.topics {
            for (number, partition) in topic.partitions.iter().filter(|(number, _)| **number >= 0) {
                let key = (name.clone(), *number);
                // Only as far as it may be read: messages of open transactions are not handed out. It is known from what the
                // broker answers, so of a partition that is not fetched it is the past.
                let offset = partition.ls_offset;
                if offset < 0 || partition.fetch_state != "active" || !up.contains(&partition.leader) {
                    ends.remove(&key);
                    continue;
                }
                // At the end of a transaction is an offset that nobody is given. What waits is counted for all partitions together.
                let reached = partition.app_offset >= offset
                    || (partition.next_offset >= offset && partition.fetchq_cnt == 0);
                let before = ends.get(&key).filter(|end| end.reached && reached).map_or(0, |end| end.times);
                ends.insert(key, End { offset, reached, times: before.saturating_add(1) });
            }
        }
    }
}

/// Whether one of the brokers that are connected answers; `None` if none is connected. One that stands still keeps its connections, and
/// the client takes it for up until it gives a request up, after a minute.
fn some_broker_answers(statistics: &Statistics) -> Option<bool> {
    let connected: Vec<&Broker> = statistics.brokers.values().filter(|broker| broker.state == "UP").collect();
    let heard = connected.iter().any(|broker| broker.rxidle <= SILENCE.as_micros() as i64);
    // On the connection to a coordinator, which is a logical broker, a request may wait for others of the group.
    let asked = connected.iter().any(|broker| broker.waitresp_cnt > 0 && broker.source != "logical");
    (!connected.is_empty()).then_some(heard || !asked)
}

impl ConsumerContext for Group {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                if let Some(member) = self.member() {
                    member.assign(consumer, partitions);
                }
                if cooperative {
                    consumer.incremental_assign(partitions)
                } else {
                    consumer.assign(partitions)
                }
            }
            _ => {
                if let Some(member) = self.member() {
                    member.revoke(partitions);
                }
                for partition in partitions.elements() {
                    self.forget(partition.topic(), partition.partition());
                }
                if cooperative { consumer.incremental_unassign(partitions) } else { consumer.unassign() }
            }
        };
        if let Err(error) = done {
            tracing::error!(ingest = self.name, %error, "could not change the partitions that are consumed");
        }
    }
}

/// Makes a consumer that is a member of nothing yet.
pub(super) fn consumer(options: &Options) -> Result<Arc<BaseConsumer<Group>>> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &options.brokers)
        .set("group.id", options.group())
        .set("client.id", "toplake")
        // Positions are kept in the table; the group's are for people who look at the group.
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // An offset that the broker does not have is looked at, never passed over.
        .set("auto.offset.reset", "error")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", "15000")
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "65536")
        // After the queue was full each partition would wait for a whole second.
        .set("fetch.queue.backoff.ms", "10")
        .set("statistics.interval.ms", if options.until_end { "100" } else { "1000" })
        .set("log.connection.close", "false")
        .set_log_level(RDKafkaLogLevel::Info);
    for (key, value) in &options.properties {
        if ["enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "group.id"]
            .contains(&key.as_str())
        {
            return Err(Error::invalid_input(format!("property '{key}' is not free to choose"))
                .with_hint("positions are kept in the table; see --group and --from"));
        }
        config.set(key, value);
    }
    let group = Group {
        name: options.name().to_owned(),
        member: Mutex::new(None),
        ends: Mutex::new(HashMap::new()),
        unreachable: AtomicBool::new(false),
    };
    let consumer = config.create_with_context(group);
    consumer.map(Arc::new).map_err(|e| Error::invalid_input(format!("Kafka client: {e}")))
}

/// Joins the group.
pub(super) fn join(consumer: &BaseConsumer<Group>, options: &Options, member: Arc<dyn Member>) -> Result<()> {
    *consumer.context().member.lock() = Some(member);
    let topics: Vec<&str> = options.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics).map_err(failed)
}

/// Leaves the group: the others need not wait until they miss this member.
pub(super) fn leave(consumer: &BaseConsumer<Group>) {
    consumer.unsubscribe();
    // The last partitions are taken by a call back out of `poll`.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        match consumer.assignment() {
            Ok(assigned) if assigned.count() > 0 => drop(consumer.poll(Duration::from_millis(50))),
            _ => break,
        }
    }
    *consumer.context().member.lock() = None;
}

/// What a table calls each topic as a source: cluster, name and id, so that neither another cluster's topic of that name nor a
/// later one goes on where this one stands. A topic that is consumed since before its brokers gave ids keeps its name without.
pub(super) fn sources(
    consumer: &BaseConsumer<Group>,
    options: &Options,
    table: &Snapshot,
) -> Result<HashMap<String, String>> {
    let unknown = || {
        Error::storage(format!("no broker answers at {}", options.brokers))
            .with_hint("check --brokers, the network, and security.protocol")
    };
    let cluster = consumer.client().fetch_cluster_id(ANSWER).ok_or_else(unknown)?;
    let of_topic = |topic: &String| {
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER).map_err(failed)?;
        let broker = metadata.brokers().first().map(|broker| broker.id()).ok_or_else(unknown)?;
        let without = source(&cluster, topic, None);
        if consumed(table).any(|partition| partition.source == without) {
            return Ok((topic.clone(), without));
        }
        let id = topic_id(consumer.client(), broker, topic, ANSWER)?;
        Ok((topic.clone(), source(&cluster, topic, id.as_deref())))
    };
    options.topics.iter().map(of_topic).collect()
}

/// The partitions of a topic.
pub(super) fn partitions(consumer: &BaseConsumer<Group>, topic: &str) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER).map_err(failed)?;
    Ok(metadata.topics().iter().flat_map(|t| t.partitions()).map(|partition| partition.id()).collect())
}

/// A topic as a source.
pub(super) fn source(cluster: &str, topic: &str, id: Option<&str>) -> String {
    match id {
        Some(id) => format!("{}{id}", prefix(cluster, topic)),
        None => prefix(cluster, topic),
    }
}

/// How sources of a topic begin, whatever its id.
fn prefix(cluster: &str, topic: &str) -> String {
    format!("kafka:{cluster}/{topic}/")
}

/// Whether two sources are topics of one name in one cluster.
pub(super) fn same_name(one: &str, other: &str) -> bool {
    let name = |source: &str| source.rsplit_once('/').map(|(name, _)| name.to_owned());
    name(one) == name(other)
}

/// The first and the next offset of a partition.
pub(super) fn bounds(consumer: &BaseConsumer<Group>, topic: &str, partition: i32) -> Result<(i64, i64)> {
    consumer.fetch_watermarks(topic, partition, ANSWER).map_err(failed)
}

pub(super) fn failed(e: KafkaError) -> Error {
    Error::storage(format!("Kafka: {e}"))
}
