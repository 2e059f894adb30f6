//! Ingest from Kafka, against a real broker.

pub(crate) mod broker;
pub(crate) mod clicks;
mod counts;
mod crash;
mod distribution;
mod groups;
mod messages;
mod mock;
mod outage;
pub(crate) mod pipeline;
mod process;
mod producer;
mod serve;
mod topics;

use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};

use broker::Broker;

/// The broker of all tests that do nothing to it; each has topics of its own.
fn broker() -> Option<&'static Broker> {
    static BROKER: OnceLock<Option<Broker>> = OnceLock::new();
    BROKER.get_or_init(Broker::start).as_ref()
}

/// What a partition holds: offset and payload of each message.
fn messages(broker: &Broker, topic: &str, partition: i32) -> Vec<(i64, String)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .set("group.id", "reader")
        .create()
        .unwrap();
    let patience = Duration::from_secs(60);
    let (low, high) = consumer.fetch_watermarks(topic, partition, patience).unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, partition, Offset::Offset(low)).unwrap();
    consumer.assign(&from).unwrap();
    let mut found = vec![];
    while found.last().map_or(low, |(offset, _)| offset + 1) < high {
        let message = consumer.poll(patience).unwrap().unwrap();
        found.push((message.offset(), String::from_utf8(message.payload().unwrap().to_vec()).unwrap()));
    }
    found
}

#[test]
fn the_broker_is_real() {
    let Some(broker) = Broker::start() else { return };
    broker.create_topic("words", 2, &[]);
    let producer = broker.producer();
    for word in ["a", "b", "c"] {
        producer.send("words", 1, word.as_bytes());
    }
    assert_eq!(producer.flush(), 3);
    let word = |offset, word: &str| (offset, word.to_owned());
    assert_eq!(messages(&broker, "words", 1), [word(0, "a"), word(1, "b"), word(2, "c")]);
    assert_eq!(messages(&broker, "words", 0), []);

    // What it has said to have taken survives its death, and the producer goes on with it.
    broker.kill();
    producer.send("words", 0, b"d");
    broker.restart();
    assert_eq!(producer.flush(), 4);
    assert_eq!(messages(&broker, "words", 0), [word(0, "d")]);
    assert_eq!(messages(&broker, "words", 1).len(), 3);

    broker.delete_records("words", 1, 2);
    assert_eq!(messages(&broker, "words", 1), [word(2, "c")]);
    broker.stop();
    broker.restart();
    assert_eq!(messages(&broker, "words", 1), [word(2, "c")]);

    broker.delete_topic("words");
    broker.create_topic("words", 1, &[]);
    assert_eq!(messages(&broker, "words", 0), []);
}
