//! A producer of which each message arrives once, whatever the broker goes through.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};

pub(crate) struct Producer(BaseProducer<Deliveries>);

/// Messages that the broker has taken.
#[derive(Default)]
struct Deliveries(AtomicU64);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        match result {
            Ok(_) => self.0.fetch_add(1, Ordering::SeqCst),
            Err((e, _)) => panic!("a message was not taken: {e}"),
        };
    }
}

impl Producer {
    pub(crate) fn new(brokers: &str) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            // Until it is taken.
            .set("message.timeout.ms", "0")
            .set("message.max.bytes", "20000000")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", "1000000")
            .set("queue.buffering.max.kbytes", "262144")
            // A broker that comes back is found at once.
            .set("reconnect.backoff.max.ms", "200");
        Producer(config.create_with_context(Deliveries::default()).unwrap())
    }

    /// Hands over a message; waits while there are too many under way.
    pub(crate) fn send(&self, topic: &str, partition: i32, payload: &[u8]) {
        let mut record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(payload);
        while let Err((e, back)) = self.0.send(record) {
            assert!(matches!(e, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{e}");
            self.0.poll(Duration::from_millis(10));
            record = back;
        }
        self.0.poll(Duration::ZERO);
    }

    /// Waits until the broker has all messages, and says how many that were.
    pub(crate) fn flush(&self) -> u64 {
        self.0.flush(Duration::from_secs(120)).unwrap();
        assert_eq!(self.0.in_flight_count(), 0);
        self.0.context().0.load(Ordering::SeqCst)
    }
}
