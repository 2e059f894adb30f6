//! Ingest from librdkafka's own mock cluster: what does not need a real broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use object_store::local::LocalFileSystem;
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use toplake::error::{Kind, Result};
use toplake::ingest::kafka::options::{Format, From, Options, UnknownFields};
use toplake::ingest::kafka::{Summary, run};
use toplake::lake::store::Store;

use crate::harness::{Desk, Fault, Gate, Home, soon};
use crate::weather::WeatheredStore;

/// A mock cluster with one topic, and a producer for it.
struct Cluster {
    mock: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
    topic: String,
}

impl Cluster {
    fn new(topic: &str, partitions: i32) -> Self {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic(topic, partitions, 1).unwrap();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", mock.bootstrap_servers())
            .set("linger.ms", "1")
            .create()
            .unwrap();
        Cluster { mock, producer, topic: topic.to_owned() }
    }

    fn send(&self, partition: i32, value: impl AsRef<[u8]>) {
        self.send_keyed(partition, None, Some(value.as_ref()));
    }

    fn send_keyed(&self, partition: i32, key: Option<&str>, value: Option<&[u8]>) {
        let mut record = BaseRecord::<str, [u8]>::to(&self.topic).partition(partition);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.payload(value);
        }
        self.producer.send(record).map_err(|(e, _)| e).unwrap();
    }

    fn flush(&self) {
        self.producer.flush(Duration::from_secs(30)).unwrap();
    }

    fn options(&self, table: &str) -> Options {
        Options {
            table: table.to_owned(),
            brokers: self.mock.bootstrap_servers(),
            topics: vec![self.topic.clone()],
            commit_interval: Duration::from_millis(20),
            properties: BTreeMap::from([
                ("session.timeout.ms".to_owned(), "6000".to_owned()),
                ("heartbeat.interval.ms".to_owned(), "200".to_owned()),
            ]),
            ..Default::default()
        }
    }
}

/// A pipeline that runs beside the test.
struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<Summary>>,
}

impl Running {
    fn start(desk: &Desk, options: Options) -> Self {
        let (stop, stopping) = watch::channel(false);
        let engine = desk.engine.clone();
        // As a server does, it begins again where a store fails at the start.
        let task = tokio::spawn(async move {
            loop {
                match run(&engine, options.clone(), stopping.clone()).await {
                    Err(e) if e.kind() == Kind::Storage && !*stopping.borrow() => {}
                    done => return done,
                }
            }
        });
        Running { stop, task }
    }

    async fn stop(self) -> Result<Summary> {
        self.stop.send_replace(true);
        soon(self.task).await.unwrap()
    }
}

async fn until_end(desk: &Desk, options: Options) -> Result<Summary> {
    let (_stop, stopping) = watch::channel(false);
    soon(run(&desk.engine, Options { until_end: true, ..options }, stopping)).await
}

/// Waits until a query gives this.
async fn eventually(desk: &Desk, sql: &str, expected: &str) {
    let asked = async {
        while desk.value(sql).await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), asked).await.is_err() {
        panic!("{sql}: {} and not {expected}", desk.value(sql).await);
    }
}

const CLICKS: &str = "CREATE TABLE clicks (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, ad VARCHAR, price DECIMAL(10, 2))
    WITH (time_column = 'at');
    CREATE MATERIALIZED VIEW minutely AS SELECT time_bucket(INTERVAL '1 minute', at) AS minute, ad, count(*) AS clicks,
        sum(price) AS price FROM clicks GROUP BY 1, 2";

fn click(id: i64) -> String {
    format!(
        "{{\"id\":{id},\"at\":\"2026-11-01T00:{:02}:00Z\",\"ad\":\"ad{}\",\"price\":{}.25}}",
        id % 60,
        id % 7,
        id % 3
    )
}

async fn clicks() -> (Home, Desk) {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(CLICKS).await;
    (home, desk)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_stored_once_however_often_it_is_started() {
    let (_home, desk) = clicks().await;
    let cluster = Cluster::new("clicks", 3);
    let mut sent = 0;
    for round in 1..=3 {
        for _ in 0..1000 {
            cluster.send(sent as i32 % 3, click(sent));
            sent += 1;
        }
        cluster.flush();
        let done = until_end(&desk, cluster.options("clicks")).await.unwrap();
        assert_eq!((done.messages, done.stored, done.dead), (1000, 1000, 0), "round {round}");
    }
    assert_eq!(
        desk.value("SELECT count(*), count(DISTINCT id), sum(id) FROM clicks").await,
        "3000,3000,4498500"
    );
    assert_eq!(
        desk.rows("SELECT * FROM audit('minutely', TIMESTAMP '2026-11-01', TIMESTAMP '2026-11-02')").await,
        Vec::<String>::new()
    );
    assert_eq!(desk.value("SELECT sum(clicks) FROM minutely").await, "3000");
    let sources = desk.rows("SELECT partition, position, watermark FROM toplake.sources").await;
    assert_eq!(sources.len(), 3);
    assert!(sources[0].starts_with("0,1000,2026-11-01T00:"), "{sources:?}");
    // Nothing new is nothing done.
    assert_eq!(until_end(&desk, cluster.options("clicks")).await.unwrap(), Summary::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bad_is_kept_with_where_it_stood() {
    let (_home, desk) = clicks().await;
    let cluster = Cluster::new("clicks", 1);
    cluster.send(0, click(0));
    cluster.send(0, "nonsense");
    cluster.send_keyed(0, None, None);
    cluster.send(0, format!("[{},{{\"id\":7}},{}]", click(1), click(2)));
    cluster.send(0, "{\"id\":\"x\",\"at\":\"2026-11-01T00:00:00Z\"}");
    cluster.send(0, "{\"id\":5,\"at\":\"2126-11-01T00:00:00Z\"}");
    cluster.send(0, click(3).replace("{\"id\"", "{\"more\":1,\"id\""));
    cluster.send(0, "   ");
    cluster.send(0, b"\xff\xfe");
    cluster.flush();
    let done = until_end(&desk, cluster.options("clicks")).await.unwrap();
    assert_eq!((done.messages, done.stored, done.dead), (9, 4, 7));
    assert_eq!(desk.value("SELECT sum(id) FROM clicks").await, "6");
    let letters = "SELECT position, reason, payload FROM toplake.dead_letters";
    let letters = desk.rows(letters).await;
    for (letter, what) in letters.iter().zip([
        "1,",
        "2,the message has no value",
        "3,column 'at' may not be NULL,{\"id\":7}",
        "4,column 'id': 'x' does not fit BIGINT",
        "5,column 'at': 2126-11-01",
        "7,the message is empty",
        "8,",
    ]) {
        assert!(letter.starts_with(what), "{letter} does not begin with {what}");
    }
    let strict = Options { unknown_fields: UnknownFields::Refuse, ..cluster.options("clicks") };
    cluster.send(0, click(4).replace("{\"id\"", "{\"more\":1,\"id\""));
    cluster.flush();
    assert_eq!(until_end(&desk, strict).await.unwrap().dead, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_sees_fields_and_where_they_come_from() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(
        "CREATE TABLE seen (at TIMESTAMP NOT NULL, who VARCHAR, n BIGINT, key VARCHAR, topic VARCHAR, part INT, pos BIGINT,
             stamp VARCHAR, late BOOLEAN, ingested TIMESTAMP) WITH (time_column = 'at')",
    )
    .await;
    let cluster = Cluster::new("t", 1);
    cluster.send_keyed(
        0,
        Some("k"),
        Some(b"{\"ts\":1793491200000,\"userId\":\"u\",\"n\":3,\"timestamp\":\"x\"}"),
    );
    cluster.send(0, "[{\"ts\":1793491200001,\"n\":4},{\"ts\":1793491200002,\"n\":-1},{\"ts\":\"?\"}]");
    cluster.flush();
    let transform = "SELECT to_timestamp_millis(CAST(ts AS BIGINT)) AS at, userId AS who, n * 2 AS n, key, topic, partition AS part,
        \"offset\" AS pos, json.timestamp AS stamp, timestamp > TIMESTAMP '2020-01-01' AS late FROM input WHERE n >= 0 OR n IS NULL";
    let options = Options {
        transform: Some(transform.to_owned()),
        processing_time: Some("ingested".to_owned()),
        ..cluster.options("seen")
    };
    let done = until_end(&desk, options).await.unwrap();
    assert_eq!((done.stored, done.dead, done.filtered), (2, 1, 1));
    assert_eq!(
        desk.rows("SELECT at, who, n, key, topic, part, pos, stamp, late FROM seen").await,
        [
            "2026-11-01T00:00:00,u,6,k,t,0,0,x,true".to_owned(),
            "2026-11-01T00:00:00.001,NULL,8,NULL,t,0,1,NULL,true".to_owned(),
        ]
    );
    assert_eq!(desk.value("SELECT count(*) FROM seen WHERE ingested > now() - INTERVAL '1 hour'").await, "2");
    let wrong = Options { transform: Some("SELECT count(*) FROM input".into()), ..cluster.options("seen") };
    assert_eq!(until_end(&desk, wrong).await.unwrap_err().kind(), Kind::NotSupported);
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_and_raw_messages() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run("CREATE TABLE pairs (a BIGINT, b VARCHAR); CREATE TABLE raw (key VARCHAR, value VARCHAR, \"offset\" BIGINT)").await;
    let cluster = Cluster::new("t", 1);
    cluster.send_keyed(0, Some("k"), Some(b"1,\"x, y\""));
    cluster.send(0, "2");
    cluster.flush();
    let csv = Options { format: Format::Csv, ..cluster.options("pairs") };
    let done = until_end(&desk, csv.clone()).await.unwrap();
    assert_eq!((done.stored, done.dead), (1, 1));
    assert_eq!(desk.rows("SELECT * FROM pairs").await, ["1,x, y"]);
    let turned = Options { columns: Some("b VARCHAR, a VARCHAR".into()), group: Some("other".into()), ..csv };
    desk.run("DROP TABLE pairs; CREATE TABLE pairs (a VARCHAR, b VARCHAR)").await;
    until_end(&desk, turned).await.unwrap();
    assert_eq!(desk.rows("SELECT a, b FROM pairs").await, ["x, y,1"]);
    let raw = Options { format: Format::Raw, ..cluster.options("raw") };
    until_end(&desk, raw).await.unwrap();
    assert_eq!(desk.rows("SELECT * FROM raw").await, ["NULL,2,1", "k,1,\"x, y\",0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_stays_where_it_was_first_started() {
    let (_home, desk) = clicks().await;
    let cluster = Cluster::new("clicks", 1);
    cluster.send(0, click(0));
    cluster.flush();
    let options = Options { from: From::Latest, ..cluster.options("clicks") };
    let first = Running::start(&desk, options.clone());
    eventually(&desk, "SELECT max(position) FROM toplake.sources", "1").await;
    first.stop().await.unwrap();
    cluster.send(0, click(1));
    cluster.flush();
    let done = until_end(&desk, options).await.unwrap();
    assert_eq!(done.stored, 1, "what came while it was off is not left out");
    assert_eq!(desk.rows("SELECT id FROM clicks").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_and_options_may_change_meanwhile() {
    let (home, desk) = clicks().await;
    let cluster = Cluster::new("clicks", 2);
    let running = Running::start(&desk, cluster.options("clicks"));
    let other = home.desk().await;
    for id in 0..200 {
        cluster.send(id as i32 % 2, click(id));
        if id == 50 {
            eventually(&other, "SELECT count(*) > 0 FROM clicks", "true").await;
            other.run("ALTER TABLE clicks SET (allowed_lateness = '1 hour')").await;
        }
        if id == 100 {
            other.run("ALTER TABLE clicks SET (late = 'divert')").await;
        }
    }
    cluster.flush();
    // What has come late since went elsewhere.
    let both = "SELECT (SELECT count(*) FROM clicks) + (SELECT count(*) FROM clicks_late)";
    eventually(&other, both, "200").await;
    other.run("DROP MATERIALIZED VIEW minutely; DROP TABLE clicks").await;
    other.run(CLICKS).await;
    // A table of that name that is another one begins with all that there is.
    eventually(&other, "SELECT count(*) FROM clicks", "200").await;
    running.stop().await.unwrap();
    assert_eq!(other.value("SELECT count(DISTINCT id) FROM clicks").await, "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_group_share_and_none_counts_twice() {
    let (home, desk) = clicks().await;
    let cluster = Cluster::new("clicks", 4);
    let mut members: Vec<Running> = vec![];
    let mut sent = 0;
    for round in 0..6 {
        let own = home.desk().await;
        members.push(Running::start(&own, cluster.options("clicks")));
        for _ in 0..500 {
            cluster.send(sent as i32 % 4, click(sent));
            sent += 1;
        }
        cluster.flush();
        if round % 2 == 1 {
            // Killed, not stopped: nothing of it is ever told to anybody.
            members.remove(0).task.abort();
        }
    }
    eventually(&desk, "SELECT count(*) FROM clicks", "3000").await;
    for member in members {
        member.stop().await.unwrap();
    }
    assert_eq!(
        desk.value("SELECT count(*), count(DISTINCT id), sum(id) FROM clicks").await,
        "3000,3000,4498500"
    );
    assert_eq!(
        desk.rows("SELECT * FROM audit('minutely', TIMESTAMP '2026-11-01', TIMESTAMP '2026-11-02')").await,
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_bad_weather_loses_and_repeats_nothing() {
    for seed in 0..4 {
        let (home, desk) = clicks().await;
        let cluster = Cluster::new("clicks", 3);
        let stormy = WeatheredStore::storm(LocalFileSystem::new(), seed, 12);
        let stormy = Store::with_object_store(stormy as _, &home.location()).unwrap();
        let weathered = Desk::at(stormy).await;
        let running = Running::start(&weathered, cluster.options("clicks"));
        for id in 0..900 {
            cluster.send(id as i32 % 3, click(id));
            if id % 100 == 0 {
                cluster.flush();
            }
        }
        cluster.flush();
        eventually(&desk, "SELECT count(*) FROM clicks", "900").await;
        let _ = running.stop().await;
        let all = desk.value("SELECT count(*), count(DISTINCT id), sum(id) FROM clicks").await;
        assert_eq!(all, "900,900,404550", "seed {seed}");
        assert_eq!(
            desk.rows("SELECT * FROM audit('minutely', TIMESTAMP '2026-11-01', TIMESTAMP '2026-11-02')")
                .await,
            Vec::<String>::new(),
            "seed {seed}"
        );
    }
}

/// What the commits of a table meet on their way.
async fn commits_meet(faults: Vec<Fault>) {
    let (home, desk) = clicks().await;
    let (faulty, store) = home.faulty_desk().await;
    let cluster = Cluster::new("clicks", 2);
    let running = Running::start(&faulty, cluster.options("clicks"));
    cluster.send(0, click(0));
    cluster.send(1, click(1));
    cluster.flush();
    eventually(&desk, "SELECT count(*) FROM clicks", "2").await;
    store.on_put("clicks/_delta_log/0", faults);
    for id in 2..200 {
        cluster.send(id as i32 % 2, click(id));
        if id % 10 == 0 {
            cluster.flush();
        }
    }
    cluster.flush();
    eventually(&desk, "SELECT count(*) FROM clicks", "200").await;
    assert!(store.is_spent());
    running.stop().await.unwrap();
    assert_eq!(desk.value("SELECT count(DISTINCT id), sum(id) FROM clicks").await, "200,19900");
    assert_eq!(desk.value("SELECT sum(clicks) FROM minutely").await, "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_or_late() {
    let gate = Gate::new();
    gate.release();
    let faults = [
        Fault::LoseAnswer,
        Fault::Refuse,
        Fault::Repeat,
        Fault::Late(gate),
        Fault::Delay(Duration::from_millis(300)),
    ];
    commits_meet(faults.into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_hangs_lets_nothing_pass_and_nothing_is_lost() {
    let (home, desk) = clicks().await;
    let (faulty, store) = home.faulty_desk().await;
    let cluster = Cluster::new("clicks", 1);
    // So little room that fetching has to wait for the commit.
    let options =
        Options { commit_bytes: ByteSize(20_000), memory: ByteSize::mib(1), ..cluster.options("clicks") };
    let gate = Gate::new();
    store.on_put("clicks/_delta_log/0", [Fault::Pause(Arc::clone(&gate))]);
    let running = Running::start(&faulty, options);
    gate.arrived().await;
    for id in 0..20_000 {
        cluster.send(0, click(id));
    }
    cluster.flush();
    assert_eq!(desk.value("SELECT count(*) FROM clicks").await, "0");
    gate.release();
    eventually(&desk, "SELECT count(*) FROM clicks", "20000").await;
    running.stop().await.unwrap();
    assert_eq!(desk.value("SELECT count(DISTINCT id) FROM clicks").await, "20000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_given_up_and_lands_later_counts_once() {
    let (home, desk) = clicks().await;
    let (faulty, store) = home.faulty_desk().await;
    let cluster = Cluster::new("clicks", 1);
    let running = Running::start(&faulty, cluster.options("clicks"));
    cluster.send(0, click(0));
    cluster.flush();
    eventually(&desk, "SELECT count(*) FROM clicks", "1").await;
    let gate = Gate::new();
    // The store is away until the committer gives up; what it was asked first happens after that.
    let away = std::iter::repeat_n(Fault::Refuse, 39);
    store.on_put("clicks/_delta_log/0", std::iter::once(Fault::Late(Arc::clone(&gate))).chain(away));
    cluster.send(0, click(1));
    cluster.flush();
    gate.arrived().await;
    let spent = async {
        while !store.is_spent() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(spent).await;
    gate.release();
    gate.arrived().await;
    cluster.send(0, click(2));
    cluster.flush();
    eventually(&desk, "SELECT count(*) FROM clicks", "3").await;
    running.stop().await.unwrap();
    assert_eq!(desk.rows("SELECT id FROM clicks").await, ["0", "1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_bad_input_stops_it_until_somebody_says_go_on() {
    let (home, desk) = clicks().await;
    let cluster = Cluster::new("clicks", 1);
    (0..2000).for_each(|_| cluster.send(0, "poison"));
    cluster.flush();
    let running = Running::start(&desk, cluster.options("clicks"));
    let operator = home.desk().await;
    eventually(&operator, "SELECT max(state) FROM toplake.pipelines", "stopped").await;
    let why = operator.value("SELECT reason FROM toplake.pipelines").await;
    assert!(
        why.starts_with("2000 of 2000 messages of the last 1m are bad, more than 5%; the first: kafka:"),
        "{why}"
    );
    eventually(&operator, "SELECT count(*) FROM toplake.dead_letters", "2000").await;
    (0..10).for_each(|id| cluster.send(0, click(id)));
    cluster.flush();
    // What is good waits too. There is nothing to wait for but time.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(operator.value("SELECT count(*) FROM clicks").await, "0");
    operator.run("CALL resume('clicks')").await;
    eventually(&operator, "SELECT count(*) FROM clicks", "10").await;
    eventually(&operator, "SELECT max(state) FROM toplake.pipelines", "running").await;
    running.stop().await.unwrap();
    assert_eq!(
        operator.value("SELECT count(*) FROM toplake.pipelines").await,
        "0",
        "a clean end leaves nothing behind"
    );
}

/// Nothing is counted in the ledger that is not accounted for.
async fn ledger_balances(desk: &Desk, consumed: u64) {
    let sums = "SELECT sum(consumed), sum(consumed - stored - duplicate - dead - late - suspect - filtered) FROM toplake.ledger";
    assert_eq!(desk.value(sums).await, format!("{consumed},0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_producer_sends_twice_is_stored_once() {
    let (home, desk) = clicks().await;
    let cluster = Cluster::new("clicks", 2);
    let options = Options { dedup_key: vec!["id".into()], ..cluster.options("clicks") };
    let mut sent = 0;
    for round in 0..3 {
        // Each start, on another machine, sees again what the ones before it have stored.
        for id in 0..(round + 1) * 100 {
            cluster.send(id % 2, click(i64::from(id)));
            cluster.send(id % 2, click(i64::from(id)));
            sent += 2;
        }
        cluster.flush();
        until_end(&home.desk().await, options.clone()).await.unwrap();
        let stored = (round + 1) * 100;
        assert_eq!(
            desk.value("SELECT count(*), count(DISTINCT id) FROM clicks").await,
            format!("{stored},{stored}")
        );
    }
    ledger_balances(&desk, sent).await;
    assert_eq!(desk.value("SELECT sum(duplicate) FROM toplake.ledger").await, (sent - 300).to_string());
    let wrong = Options { dedup_key: vec!["no".into()], ..cluster.options("clicks") };
    assert!(until_end(&desk, wrong).await.unwrap_err().message().contains("no"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_key_has_too_much_of_is_kept_apart() {
    let (_home, desk) = clicks().await;
    let cluster = Cluster::new("clicks", 1);
    let options =
        Options { max_per_key: Some("5/1 minute/ad".parse().unwrap()), ..cluster.options("clicks") };
    for id in 0..20 {
        cluster.send(
            0,
            format!(
                "{{\"id\":{id},\"at\":\"2026-11-01T00:00:00Z\",\"ad\":\"{}\"}}",
                if id < 16 { "a" } else { "b" }
            ),
        );
    }
    cluster.flush();
    until_end(&desk, options).await.unwrap();
    assert_eq!(desk.rows("SELECT ad, count(*) FROM clicks GROUP BY 1").await, ["a,5", "b,4"]);
    ledger_balances(&desk, 20).await;
    assert_eq!(desk.value("SELECT sum(suspect), sum(dead) FROM toplake.ledger").await, "11,0");
    let letters = "SELECT count(*), min(position), min(payload) FROM toplake.dead_letters WHERE reason LIKE 'max_per_key%'";
    assert_eq!(desk.value(letters).await, "11,5,{\"id\":10,\"at\":\"2026-11-01T00:00:00Z\",\"ad\":\"a\"}");
}
