//! What goes wrong is seen: in `/health/ready`, in a metric, in the log with what to do; and it is gone when its cause is.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Process, get, until};
use crate::cluster::machines::{Machines, Place};
use crate::harness::{Home, soon};
use crate::kafka::broker::Broker;
use crate::s3;

/// How a check of readiness stands.
async fn check(address: std::net::SocketAddr, name: &str) -> (u16, bool, String) {
    let answer = get(address, "/health/ready", None).await;
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let check = body["checks"].as_array().unwrap().iter().find(|c| c["name"] == name).cloned();
    let check = check.unwrap_or_else(|| panic!("there is no check '{name}': {body}"));
    let said =
        format!("{} {}", check["message"].as_str().unwrap_or(""), check["hint"].as_str().unwrap_or(""));
    (answer.status, check["ok"].as_bool().unwrap(), said)
}

/// Waits until a check fails with these words, and the metric says so too.
async fn fails(address: std::net::SocketAddr, name: &str, words: &[&str]) {
    until(&format!("'{name}' fails"), async || {
        let (status, ok, said) = check(address, name).await;
        status == 503 && !ok && words.iter().all(|word| said.contains(word))
    })
    .await;
    let metrics = get(address, "/metrics", None).await.body;
    assert!(metrics.contains(&format!("toplake_ready_check{{check=\"{name}\"}} 0")), "{metrics}");
    assert!(metrics.contains("\ntoplake_ready 0"));
    assert_eq!(get(address, "/health/live", None).await.status, 200, "the process works");
}

/// Waits until it holds again.
async fn recovers(address: std::net::SocketAddr, name: &str) {
    until(&format!("'{name}' holds again"), async || check(address, name).await.1).await;
    let metrics = get(address, "/metrics", None).await.body;
    assert!(metrics.contains(&format!("toplake_ready_check{{check=\"{name}\"}} 1")));
}

fn config(folder: &Path, text: &str) -> String {
    let path = folder.join("toplake.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const SCHEMA: &str = "
    CREATE TABLE clicks (id BIGINT, event_time TIMESTAMP NOT NULL) WITH (time_column = 'event_time');
    CREATE MATERIALIZED VIEW hourly AS
      SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, count(*) AS clicks FROM clicks GROUP BY 1";

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_denies() {
    let bucket = s3::Server::start().await;
    let warehouse = bucket.url("denied");
    let desk = bucket.desk("denied").await;
    desk.run(SCHEMA).await;
    let server = Process::with(&["serve", "--warehouse", &warehouse], &bucket.variables()).await;
    recovers(server.http, "store").await;
    until("it is ready", async || get(server.http, "/health/ready", None).await.status == 200).await;
    bucket.deny(true);
    fails(server.http, "store", &["privileges", "credentials"]).await;
    let metrics = get(server.http, "/metrics", None).await.body;
    assert!(
        metrics
            .lines()
            .any(|l| l.starts_with("toplake_object_store_requests_total") && l.contains("\"denied\"")),
        "{metrics}"
    );
    until("the log says what to do", async || {
        let log = server.log();
        log.contains("not ready") && log.contains("credentials")
    })
    .await;
    bucket.deny(false);
    recovers(server.http, "store").await;
    until("it is ready", async || get(server.http, "/health/ready", None).await.status == 200).await;
    assert!(server.log().contains("ready again"), "{}", server.log());
    // And it works.
    desk.run("INSERT INTO clicks VALUES (1, '2026-03-01 10:00:00')").await;
    until("the click is counted", async || {
        desk.value("SELECT coalesce(sum(lag_commits), 0) FROM toplake.rollups").await == "0"
    })
    .await;
    assert_eq!(desk.value("SELECT sum(clicks) FROM hourly").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_workers() {
    let home = Home::new();
    home.desk().await.run(SCHEMA).await;
    let places = vec![Place::default(); 2];
    let refuse = ["--cluster-fallback", "refuse"];
    let mut machines = Machines::at(&home.location(), places, &refuse, &[]).await;
    recovers(machines.server.http, "workers").await;
    machines.workers[0].kill();
    fails(machines.server.http, "workers", &["1 of 2", "refused", "toplake.workers", "'local'"]).await;
    until("the log says so", async || machines.server.log().contains("not ready: 1 of 2 workers")).await;
    machines.workers[0].again().await;
    recovers(machines.server.http, "workers").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_deploy_of_a_job() {
    let home = Home::new();
    home.desk().await.run(SCHEMA).await;
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("nightly.sql");
    std::fs::write(&script, "REFRESH MATERIALIZED VIEW hourly").unwrap();
    let toml = config(
        folder.path(),
        &format!(
            "warehouse = '{}'\n[[jobs]]\nname = 'nightly'\nfile = '{}'\nschedule = '0 3 1 1 *'\ntime_zone = 'Europe/Berlin'\n",
            home.location(),
            script.display()
        ),
    );
    let server = Process::start(&["serve", "--config", &toml]).await;
    let desk = home.desk().await;
    until("the job is known", async || {
        desk.value("SELECT count(*) FROM toplake.jobs WHERE job = 'nightly' AND next > now()").await == "1"
    })
    .await;
    let state = async || desk.value("SELECT state FROM toplake.jobs WHERE job = 'nightly'").await;
    assert_eq!(state().await, "scheduled");
    desk.run("CALL run_job('nightly')").await;
    until("it has run", async || state().await == "done").await;
    // Somebody deploys a script with a mistake.
    std::fs::write(&script, "REFRESH MATERIALIZED VIEW hourly;\n\nREFRESH MATERIALIZED VIEW hurly").unwrap();
    desk.run("CALL run_job('nightly')").await;
    fails(server.http, "jobs", &["'nightly'", "nightly.sql:3", "hurly", "run_job"]).await;
    let metrics = get(server.http, "/metrics", None).await.body;
    assert!(metrics.contains("toplake_job_failing{name=\"nightly\"} 1"), "{metrics}");
    let log = server.log();
    assert!(log.contains("hurly") && log.contains("not ready") && log.contains("perhaps you meant"), "{log}");
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
    // And a better one.
    std::fs::write(&script, "REFRESH MATERIALIZED VIEW hourly").unwrap();
    desk.run("CALL run_job('nightly')").await;
    recovers(server.http, "jobs").await;
    assert!(server.log().contains("ready again"));
    // A paused job does not count against the server, and does not run.
    desk.run("CALL pause_job('nightly')").await;
    assert_eq!(state().await, "paused");
    desk.run("CALL resume_job('nightly')").await;
    assert_eq!(state().await, "done");
    let runs = "SELECT state, sum(runs) FROM toplake.job_runs WHERE job = 'nightly' GROUP BY 1";
    until("the runs are written down", async || desk.rows(runs).await == ["done,2", "failed,1"]).await;
    let unknown = desk.try_run("CALL run_job('nigtly')").await.unwrap_err();
    assert!(unknown.hint().unwrap().contains("'nightly'"), "{unknown}");
}

/// A disk of its own, gone at the end of the test.
struct Disk(tempfile::TempDir);

impl Disk {
    /// None where it cannot be made, which is a failure on the build server.
    fn of(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let made =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        if made.is_ok_and(|done| done.status.success()) {
            return Some(Disk(folder));
        }
        assert!(std::env::var_os("CI").is_none(), "a disk of its own needs root");
        eprintln!("no disk could be mounted: not tested");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    let Some(disk) = Disk::of("400m") else { return };
    let warehouse = disk.0.path().join("warehouse");
    let server = Process::start(&["serve", "--warehouse", warehouse.to_str().unwrap()]).await;
    let url = format!("host=127.0.0.1 port={} user=toplake dbname=toplake", server.pg.port());
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(SCHEMA).await.unwrap();
    let insert =
        "INSERT INTO clicks SELECT n, TIMESTAMP '2026-03-01 10:00:00' FROM generate_series(1, 20000) AS g(n)";
    client.batch_execute(insert).await.unwrap();
    recovers(server.http, "disk").await;
    // Something fills the disk.
    let filler = disk.0.path().join("filler");
    let zeros = std::fs::File::create(&filler).unwrap();
    let mut room = 512_u64 << 20;
    while room > 4096 {
        if rustix::fs::fallocate(
            &zeros,
            rustix::fs::FallocateFlags::empty(),
            zeros.metadata().unwrap().len(),
            room,
        )
        .is_err()
        {
            room /= 2;
        }
    }
    fails(server.http, "disk", &["left on the disk", "make room"]).await;
    fails(server.http, "store", &["room"]).await;
    let refused = client.batch_execute(insert).await.unwrap_err();
    assert!(refused.as_db_error().unwrap().hint().unwrap().contains("room"), "{refused:?}");
    assert!(server.log().contains("make room"), "{}", server.log());
    drop(zeros);
    std::fs::remove_file(filler).unwrap();
    recovers(server.http, "disk").await;
    recovers(server.http, "store").await;
    client.batch_execute(insert).await.unwrap();
    // What was refused is not there in part.
    let count: i64 = client.query_one("SELECT sum(clicks)::bigint FROM hourly", &[]).await.unwrap().get(0);
    assert_eq!(count, 40_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stands_still() {
    let Some(broker) = Broker::start() else { return };
    broker.create_topic("ready", 1, &[]);
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(SCHEMA).await;
    let folder = tempfile::tempdir().unwrap();
    let toml = config(
        folder.path(),
        &format!(
            "warehouse = '{}'\n[[ingest]]\ntable = 'clicks'\nbrokers = '{}'\ntopics = ['ready']\ncommit_interval = '200ms'\n",
            home.location(),
            broker.address()
        ),
    );
    let producer = broker.producer();
    producer.send("ready", 0, br#"{"id":1,"event_time":"2026-03-01T10:00:00Z"}"#);
    producer.flush();
    let server = Process::start(&["serve", "--config", &toml]).await;
    until("the click is there", async || desk.value("SELECT count(*) FROM clicks").await == "1").await;
    recovers(server.http, "ingest").await;
    broker.kill();
    fails(server.http, "ingest", &["pipeline 'clicks' is waiting", "brokers"]).await;
    let metrics = get(server.http, "/metrics", None).await.body;
    assert!(metrics.contains("toplake_pipeline_state{pipeline=\"clicks\",state=\"waiting\"} 1"), "{metrics}");
    assert!(server.log().contains("pipeline 'clicks' is waiting"), "{}", server.log());
    let broker = soon(tokio::task::spawn_blocking(move || {
        broker.restart();
        let producer = broker.producer();
        producer.send("ready", 0, br#"{"id":2,"event_time":"2026-03-01T10:00:00Z"}"#);
        producer.flush();
        broker
    }))
    .await
    .unwrap();
    recovers(server.http, "ingest").await;
    until("the next click is there", async || desk.value("SELECT count(*) FROM clicks").await == "2").await;
    // One that is there and says nothing any more keeps its connections.
    broker.freeze();
    fails(server.http, "ingest", &["pipeline 'clicks' is waiting", "no broker answers", "brokers"]).await;
    broker.thaw();
    recovers(server.http, "ingest").await;
    let ingested = get(server.http, "/metrics", None).await.body;
    assert!(
        ingested.contains("toplake_ingest_rows_total{table=\"clicks\",outcome=\"stored\"} 2"),
        "{ingested}"
    );
}
