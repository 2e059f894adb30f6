//! A real Apache Kafka broker, a process of its own in KRaft mode.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use parking_lot::Mutex;
use rand::Rng;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};
use tempfile::TempDir;

use super::distribution;
use super::process::Process;
use super::producer::Producer;

/// How long something may take that takes seconds at most where little else runs.
const PATIENCE: Duration = Duration::from_secs(180);

const JAVA: [&str; 4] = [
    "-Xmx512m",
    "-XX:+UseSerialGC",
    // A broker of the tests lives for a minute: it starts sooner so.
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
];

pub(crate) struct Broker {
    folder: TempDir,
    /// For clients, and for the broker itself as its controller.
    ports: [u16; 2],
    class_path: &'static str,
    process: Mutex<Option<Process>>,
}

impl Broker {
    /// A broker with no topics; none where there is no Kafka.
    pub(crate) fn start() -> Option<Self> {
        let class_path = distribution::class_path()?;
        let broker = Broker {
            folder: tempfile::tempdir().unwrap(),
            ports: free_ports(),
            class_path,
            process: Mutex::new(None),
        };
        broker.format();
        broker.restart();
        Some(broker)
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&self) {
        if let Some(mut process) = self.process.lock().take() {
            process.kill();
        }
    }

    /// Has it stand still, with its connections open.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Has it go on after [`Broker::freeze`].
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        if let Some(process) = &*self.process.lock() {
            process.signal(name);
        }
    }

    /// Ends it in order.
    pub(crate) fn stop(&self) {
        if let Some(process) = self.process.lock().take() {
            process.terminate();
        }
    }

    /// Runs it, with the data that it has, and waits until it answers.
    pub(crate) fn restart(&self) {
        self.kill();
        let mut kafka = self.java();
        kafka.arg("kafka.Kafka").arg(self.folder.path().join("server.properties"));
        let mut process = Process::start(&kafka, self.folder.path().join("broker.log"));
        let begun = Instant::now();
        let admin = self.admin();
        while admin.inner().fetch_metadata(None, Duration::from_secs(2)).is_err() {
            let lost = process.has_ended() || begun.elapsed() > PATIENCE;
            assert!(!lost, "the broker does not start:\n{}", process.output());
            std::thread::sleep(Duration::from_millis(50));
        }
        *self.process.lock() = Some(process);
    }

    /// Makes a topic, with options of the broker's, and waits until it can be used.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32, options: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (option, value) in options {
            topic = topic.set(option, value);
        }
        let made = block_on(self.admin().create_topics([&topic], &AdminOptions::new())).unwrap();
        made[0].as_ref().unwrap();
        self.wait_for(|known| {
            known.topics().iter().any(|t| {
                t.name() == name
                    && t.partitions().len() == partitions as usize
                    && t.partitions().iter().all(|p| p.leader() >= 0)
            })
        });
    }

    /// Removes a topic and waits until nobody finds it any more.
    pub(crate) fn delete_topic(&self, name: &str) {
        let gone = block_on(self.admin().delete_topics(&[name], &AdminOptions::new())).unwrap();
        gone[0].as_ref().unwrap();
        self.wait_for(|known| known.topics().iter().all(|t| t.name() != name));
    }

    /// Removes the records of a partition before an offset, as retention does.
    pub(crate) fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
        let done = block_on(self.admin().delete_records(&list, &AdminOptions::new())).unwrap();
        assert_eq!(done.elements()[0].offset(), Offset::Offset(before));
    }

    /// How many members a consumer group has, once they have shared its partitions.
    pub(crate) fn members(&self, group: &str) -> usize {
        let found = self.admin().inner().fetch_group_list(Some(group), PATIENCE).unwrap();
        found.groups().iter().filter(|g| g.state() == "Stable").map(|g| g.members().len()).sum()
    }

    pub(crate) fn producer(&self) -> Producer {
        Producer::new(&self.address())
    }

    fn format(&self) {
        let [port, controller] = self.ports;
        let data = self.folder.path().join("data");
        // Everything that has copies has one, and a member that was killed is missed after a second.
        let properties = format!(
            "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={}
log.retention.ms=-1
auto.create.topics.enable=false
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
offsets.topic.num.partitions=2
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
",
            data.display()
        );
        let file = self.folder.path().join("server.properties");
        std::fs::write(&file, properties).unwrap();
        let mut format = self.java();
        format
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", &cluster_id(), "--config"])
            .arg(file);
        let done = format.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "Kafka's storage cannot be formatted (Java 17 is needed):\n{said}");
    }

    fn java(&self) -> Command {
        let mut java = Command::new("java");
        java.args(JAVA).args(["-cp", self.class_path]);
        java
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        // A broker that starts is found at once.
        config.set("bootstrap.servers", self.address()).set("reconnect.backoff.max.ms", "200");
        config.create().unwrap()
    }

    fn wait_for(&self, condition: impl Fn(&Metadata) -> bool) {
        let admin = self.admin();
        let begun = Instant::now();
        while !condition(&admin.inner().fetch_metadata(None, PATIENCE).unwrap()) {
            assert!(begun.elapsed() < PATIENCE, "the broker does not do what it was told");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Two ports below those that the system gives to clients, so that none of them takes one while the broker is away.
fn free_ports() -> [u16; 2] {
    let mut random = rand::rng();
    loop {
        let port = random.random_range(10_000..30_000);
        let ports = [port, port + 1];
        if ports.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return ports;
        }
    }
}

/// 128 bits in Kafka's spelling: base 64, without what the last character has too many.
fn cluster_id() -> String {
    let mut random = rand::rng();
    let letters = (0..21).map(|_| char::from(random.sample(rand::distr::Alphanumeric)));
    letters.chain(['A']).collect()
}
