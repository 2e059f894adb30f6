//! Workers that are killed, stopped and started again under queries and folds: the exact answer, or an error that says so; and one
//! commit for each fold.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use toplake::cluster::Fallback;

use super::{Fleet, fill};
use crate::harness::Home;
use crate::http::{Process, until};

/// A worker in a process of its own, dead at the end of the test.
struct Worker {
    child: Option<Child>,
    address: String,
    folder: PathBuf,
}

impl Worker {
    async fn start(folder: PathBuf) -> Self {
        let mut worker = Worker { child: None, address: "127.0.0.1:0".to_owned(), folder };
        worker.again().await;
        worker
    }

    /// Starts it, at the address that it had before.
    async fn again(&mut self) {
        let out = self.folder.join(format!("{}.out", self.address.replace(':', "-")));
        let mut command = Command::new(env!("CARGO_BIN_EXE_toplake"));
        command.args(["worker", "--listen", &self.address, "--http", "off", "--memory", "256MB"]);
        command.stdin(Stdio::null()).stdout(std::fs::File::create(&out).unwrap()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        let text = || std::fs::read_to_string(&out).unwrap_or_default();
        until("the worker listens", async || text().trim_end().contains(" on ")).await;
        self.address = text().trim_end().rsplit_once(" on ").unwrap().1.to_owned();
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// A server with three workers, all in processes of their own, and a client.
struct Machines {
    server: Process,
    client: Client,
    workers: Vec<Worker>,
    _folder: tempfile::TempDir,
}

impl Machines {
    async fn start(home: &Home) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut workers = vec![];
        for name in ["a", "b", "c"] {
            let own = folder.path().join(name);
            std::fs::create_dir(&own).unwrap();
            workers.push(Worker::start(own).await);
        }
        let addresses: Vec<&str> = workers.iter().map(|w| w.address.as_str()).collect();
        let (addresses, location) = (addresses.join(","), home.location());
        let server = Process::start(&[
            "serve",
            "--warehouse",
            &location,
            "--workers",
            &addresses,
            "--cluster-bytes-per-task",
            "1",
            "--refresh-every",
            "0",
            "--upkeep-every",
            "0",
        ])
        .await;
        let client = connect(&server).await;
        let machines = Machines { server, client, workers, _folder: folder };
        machines.all_live().await;
        machines
    }

    async fn all_live(&self) {
        until("all workers take part", async || {
            self.value("SELECT count(*) FROM toplake.workers WHERE state = 'live'").await.unwrap() == "3"
        })
        .await;
    }

    /// The first value of a query, or the SQLSTATE of what went wrong.
    async fn value(&self, sql: &str) -> Result<String, String> {
        value(&self.client, sql).await
    }
}

async fn connect(server: &Process) -> Client {
    let config = format!("host=127.0.0.1 port={} user=toplake dbname=toplake", server.pg.port());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn value(client: &Client, sql: &str) -> Result<String, String> {
    let messages = client.simple_query(sql).await.map_err(|e| match e.as_db_error() {
        Some(e) => format!("{}: {}", e.code().code(), e.message()),
        None => format!("the connection broke: {e}"),
    })?;
    let rows = messages.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    });
    Ok(rows.unwrap_or_default())
}

/// Joins and aggregates all there is, and gives one number.
const QUERY: &str = "SELECT sum(n * q) FROM (
    SELECT a.customer_id, count(*) AS n, sum(b.quantity) AS q FROM sales a JOIN sales b ON a.product_id = b.product_id
      AND a.event_id % 50 = b.event_id % 50 GROUP BY 1)";

/// Pauses of a run, without chance: each run tries the same ones.
fn pauses() -> impl Iterator<Item = Duration> {
    (0_u64..).map(|n| Duration::from_millis(n * 7919 % 900))
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_stopped_workers_change_no_answer() {
    let home = Home::new();
    let alone = home.desk().await;
    fill(&alone, 6).await;
    let right = alone.value(QUERY).await;
    let mut machines = Machines::start(&home).await;
    assert_eq!(machines.value(QUERY).await, Ok(right.clone()));
    let (mut answered, mut refused) = (0, 0);
    for (round, pause) in pauses().take(12).enumerate() {
        let client = connect(&machines.server).await;
        let begun = Instant::now();
        let asked = tokio::spawn(async move { value(&client, QUERY).await });
        tokio::time::sleep(pause).await;
        let (victim, stops) = (round % 3, round % 4 == 3);
        match stops {
            true => machines.workers[victim].signal("STOP"),
            false => machines.workers[victim].kill(),
        }
        match asked.await.unwrap() {
            Ok(answer) => {
                assert_eq!(answer, right, "round {round}");
                answered += 1;
            }
            Err(e) => {
                assert!(e.starts_with("08006: "), "round {round}: {e}");
                refused += 1;
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "round {round} hung: {:?}", begun.elapsed());
        match stops {
            true => machines.workers[victim].signal("CONT"),
            false => machines.workers[victim].again().await,
        }
        machines.all_live().await;
    }
    eprintln!("{answered} answered, {refused} refused");
    assert!(answered >= 6, "of 12 queries {refused} were refused, which were to be run once more");
}

#[tokio::test(flavor = "multi_thread")]
async fn folds_under_killed_workers_are_one_commit_each() {
    let home = Home::new();
    let alone = home.desk().await;
    fill(&alone, 3).await;
    let mut machines = Machines::start(&home).await;
    let version = async || alone.table("sales_hourly").await.update().await.unwrap().version;
    machines.value("REFRESH MATERIALIZED VIEW sales_hourly").await.unwrap();
    for (round, pause) in pauses().take(6).enumerate() {
        let first = 100_000 + round * 20_000;
        alone
            .run(&format!(
                "INSERT INTO sales SELECT n, CAST(to_timestamp(1767225600 + n * 43 % 864000) AS TIMESTAMP), 'p' || (n % 499), n % 5, 1, 'c', 'France'
                 FROM generate_series({first}, {}) AS g(n)",
                first + 19_999
            ))
            .await;
        let before = version().await;
        let client = connect(&machines.server).await;
        let asked =
            tokio::spawn(async move { value(&client, "REFRESH MATERIALIZED VIEW sales_hourly").await });
        tokio::time::sleep(pause / 2).await;
        machines.workers[round % 3].kill();
        let done = asked.await.unwrap();
        assert!(done.is_ok(), "round {round}: {done:?}");
        assert_eq!(version().await, before + 1, "round {round}");
        machines.workers[round % 3].again().await;
        machines.all_live().await;
    }
    let truth = "SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, country,
                        sum(quantity), count(*), sum(quantity * unit_price) FROM sales GROUP BY 1, 2, 3";
    assert_eq!(alone.rows("SELECT * FROM sales_hourly").await, alone.rows(truth).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_worker_finishes_or_refuses() {
    let home = Home::new();
    let fleet = Fleet::with(2, &home, 60 << 20, Fallback::Refuse).await;
    fill(&fleet.desk, 8).await;
    let alone = home.desk().await;
    let query = "SELECT a.event_id, b.customer_id, count(*), max(a.product_id || b.product_id || a.customer_id) AS m
                 FROM sales a JOIN sales b ON a.event_id % 4000 = b.event_id % 4000 GROUP BY 1, 2 ORDER BY m, 1, 2";
    match fleet.desk.try_run(query).await {
        Ok(there) => assert_eq!(crate::harness::rows(&there), alone.rows(query).await),
        Err(e) => assert_eq!(e.kind(), toplake::error::Kind::ResourcesExhausted, "{e}"),
    }
    // It lives.
    assert_eq!(fleet.desk.value("SELECT count(*) FROM sales WHERE quantity > -9").await, "40000");
    assert!(fleet.workers.iter().all(|task| task.worker.is_ready()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_stops_on_the_workers() {
    let home = Home::new();
    let fleet = Fleet::of(2, &home).await;
    fill(&fleet.desk, 6).await;
    let long =
        "SELECT count(*) FROM sales a, sales b, sales c WHERE a.quantity + b.quantity < c.event_id % 3";
    let session = fleet.desk.session.clone();
    let asked = tokio::spawn(async move { session.sql(long).await });
    let tasks = || fleet.workers.iter().map(|w| w.worker.tasks()).sum::<usize>();
    until("it runs", async || tasks() > 0).await;
    asked.abort();
    until("nothing runs any more", async || tasks() == 0).await;
}
