//! A topic, a warehouse that it flows into, and the processes that bring it there.

use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::broker::Broker;
use super::clicks;
use super::process::{Process, printed};
use super::producer::Producer;
use crate::harness::{Desk, Home};
use crate::s3;

pub(crate) struct Pipeline<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) topic: &'a str,
    /// The warehouse, and the variables that it takes to reach it.
    pub(crate) warehouse: String,
    variables: Vec<(&'static str, String)>,
    pub(crate) desk: Desk,
    _home: Option<Home>,
    producer: Producer,
    partitions: i32,
    /// What the processes print, a file each.
    printed: TempDir,
    started: AtomicUsize,
}

impl<'a> Pipeline<'a> {
    /// A new topic and a new warehouse.
    pub(crate) async fn new(broker: &'a Broker, topic: &'a str, partitions: i32) -> Self {
        Self::with_options(broker, topic, partitions, &[]).await
    }

    /// The same, with options of the topic.
    pub(crate) async fn with_options(
        broker: &'a Broker,
        topic: &'a str,
        partitions: i32,
        options: &[(&str, &str)],
    ) -> Self {
        broker.create_topic(topic, partitions, options);
        let home = Home::new();
        let desk = home.desk().await;
        Self::over(broker, topic, partitions, (home.location(), vec![], desk), Some(home)).await
    }

    /// A new topic, and a new warehouse in a bucket.
    pub(crate) async fn in_bucket(
        broker: &'a Broker,
        topic: &'a str,
        partitions: i32,
        bucket: &s3::Server,
    ) -> Self {
        broker.create_topic(topic, partitions, &[]);
        let place = (bucket.url(topic), bucket.variables(), bucket.desk(topic).await);
        Self::over(broker, topic, partitions, place, None).await
    }

    async fn over(
        broker: &'a Broker,
        topic: &'a str,
        partitions: i32,
        (warehouse, variables, desk): (String, Vec<(&'static str, String)>, Desk),
        home: Option<Home>,
    ) -> Self {
        desk.run(clicks::SCHEMA).await;
        Pipeline {
            broker,
            topic,
            warehouse,
            variables,
            desk,
            _home: home,
            producer: broker.producer(),
            partitions,
            printed: tempfile::tempdir().unwrap(),
            started: AtomicUsize::new(0),
        }
    }

    /// Puts clicks into the topic, round the partitions, and waits until the broker has them.
    pub(crate) fn produce(&self, ids: impl IntoIterator<Item = i64>) {
        for id in ids {
            self.send(id, &clicks::message(id));
        }
        self.producer.flush();
    }

    /// Hands a message over for the partition of a number.
    pub(crate) fn send(&self, number: i64, message: &str) {
        self.producer.send(self.topic, (number % i64::from(self.partitions)) as i32, message.as_bytes());
    }

    /// Waits until the broker has all messages.
    pub(crate) fn flush(&self) {
        self.producer.flush();
    }

    /// Starts `toplake ingest kafka`, a member of the topic's group.
    pub(crate) fn ingest(&self, more: &[&str]) -> Process {
        let mut toplake = Command::new(env!("CARGO_BIN_EXE_toplake"));
        toplake.args(["ingest", "kafka", "--warehouse", &self.warehouse, "--table", "clicks"]);
        toplake.envs(self.variables.iter().cloned());
        toplake.args(["--brokers", &self.broker.address(), "--topic", self.topic]);
        for (option, value) in [("--group", self.topic), ("--commit-interval", "200ms")] {
            if !more.contains(&option) {
                toplake.args([option, value]);
            }
        }
        // A member that was killed is missed after two seconds, and a broker that comes back is found at once.
        let properties =
            ["session.timeout.ms=2000", "heartbeat.interval.ms=300", "reconnect.backoff.max.ms=500"];
        toplake.args(properties.iter().flat_map(|p| ["--property", p]));
        toplake.args(more);
        self.start(&toplake)
    }

    /// Ingests what the topic has now, and says how that ended.
    pub(crate) fn ingest_until_end(&self, more: &[&str]) -> (ExitStatus, String) {
        let process = self.ingest(&[&["--until-end"], more].concat());
        let file = process.file().to_owned();
        (process.wait(), printed(&file))
    }

    /// The same; it has to succeed.
    pub(crate) fn catch_up(&self) {
        let (status, output) = self.ingest_until_end(&[]);
        assert!(status.success(), "{status}: {output}");
    }

    pub(crate) fn start(&self, program: &Command) -> Process {
        let number = self.started.fetch_add(1, Ordering::SeqCst);
        Process::start(program, self.printed.path().join(format!("{number:03}.log")))
    }

    /// How many clicks are in the table.
    pub(crate) async fn stored(&self) -> i64 {
        self.desk.value("SELECT count(*) FROM clicks").await.parse().unwrap()
    }

    /// Waits until so many clicks are stored.
    pub(crate) async fn wait_for(&self, clicks: i64) {
        self.until("the clicks are stored", async || self.stored().await >= clicks).await;
    }

    /// Waits for what has to come.
    pub(crate) async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let begun = Instant::now();
        while !condition().await {
            assert!(begun.elapsed() < Duration::from_secs(120), "after two minutes not yet: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Each of these clicks is stored once, and each rollup says so, folded or not.
    pub(crate) async fn assert_exact(&self, ids: impl IntoIterator<Item = i64>) {
        let found = clicks::Answers {
            raw: self.desk.rows(clicks::RAW).await,
            minutes: self.desk.rows(clicks::MINUTES).await,
            hours: self.desk.rows(clicks::HOURS).await,
        };
        assert_eq!(found, clicks::expected(ids));
        for rollup in ["clicks_minutely", "clicks_hourly"] {
            let audit = format!("SELECT * FROM audit('{rollup}', '-infinity', 'infinity')");
            assert_eq!(self.desk.rows(&audit).await, Vec::<String>::new(), "{rollup}");
        }
    }

    /// The ledger has so many messages, each partition's without a hole, and says what became of each.
    pub(crate) async fn assert_balanced(&self, messages: i64) {
        let entries = "consumed <> stored + duplicate + dead + late + suspect + filtered";
        let unbalanced = format!("SELECT * FROM toplake.ledger WHERE {entries}");
        assert_eq!(self.desk.rows(&unbalanced).await, Vec::<String>::new());
        let sums = "SELECT sum(consumed), sum(to_position - from_position) FROM toplake.ledger";
        assert_eq!(self.desk.value(sums).await, format!("{messages},{messages}"));
        let spans = "SELECT sum(span) FROM (
            SELECT max(to_position) - min(from_position) AS span FROM toplake.ledger GROUP BY source, partition) AS spans";
        assert_eq!(self.desk.value(spans).await, messages.to_string());
    }
}

/// Whoever reads of a failure sees what the processes said.
impl Drop for Pipeline<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for number in 0..self.started.load(Ordering::SeqCst) {
                let file = self.printed.path().join(format!("{number:03}.log"));
                eprintln!("--- process {number} of {}\n{}", self.topic, printed(&file));
            }
        }
    }
}
