//! Workers that are killed, stopped and started again under queries and folds: the exact answer, or an error that says so; and one
//! commit for each fold.

use std::time::{Duration, Instant};

use toplake::cluster::{Fallback, Trust};

use super::machines::{Machines, value};
use super::{Fleet, MEMORY, Task, fill};
use crate::harness::Home;
use crate::http::until;

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
    let mut machines = Machines::start(&home.location(), 3).await;
    assert_eq!(machines.value(QUERY).await, Ok(right.clone()));
    let (mut answered, mut refused) = (0, 0);
    for (round, pause) in pauses().take(12).enumerate() {
        let client = machines.connect().await;
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
    let retried = machines.counted(r#"toplake_workers_lost_total{outcome="retried"}"#).await;
    eprintln!("{answered} answered, of these {retried} run once more, {refused} refused");
    assert!(retried > 0, "no worker was lost under a query: nothing was tried");
    assert!(answered >= 6, "of 12 queries {refused} were refused, which were to be run once more");
}

#[tokio::test(flavor = "multi_thread")]
async fn folds_under_killed_workers_are_one_commit_each() {
    let home = Home::new();
    let alone = home.desk().await;
    fill(&alone, 3).await;
    let mut machines = Machines::start(&home.location(), 3).await;
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
        let client = machines.connect().await;
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
    assert!(
        machines.counted("toplake_spread_queries_total").await >= 6,
        "folds were run by the server itself"
    );
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

/// Its only thread computes for longer than a connection may be silent: it is busy, and not lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_worker_is_not_taken_for_lost() {
    let home = Home::new();
    let busy = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (a, b) = tokio::join!(
        Task::computing_on(busy.handle().clone(), MEMORY, Trust::default()),
        Task::start(MEMORY, Trust::default())
    );
    let addresses = format!("{},{}", a.address, b.address);
    let fleet = Fleet::at(&addresses, &home, Trust::default(), Fallback::Refuse).await;
    assert!(fleet.cluster.wait_for(2, Duration::from_secs(60)).await);
    fill(&fleet.desk, 3).await;
    let (begins, begun) = tokio::sync::oneshot::channel();
    busy.spawn(async move {
        begins.send(()).unwrap();
        std::thread::sleep(Duration::from_secs(9));
    });
    begun.await.unwrap();
    let (since, before) = (Instant::now(), fleet.cluster.runs());
    let begun = chrono::Utc::now().timestamp_micros();
    let rows = fleet.desk.rows("SELECT country, count(*) FROM sales GROUP BY 1").await;
    assert_eq!(rows, ["France,5000", "Kenya,5000", "NULL,5000"]);
    assert!(since.elapsed() > Duration::from_secs(7), "it did not wait for the busy one");
    // It was run once: nobody was lost, and nobody was away meanwhile.
    assert_eq!(fleet.cluster.runs(), before + 1);
    let workers = fleet.desk.engine.warehouse().workers();
    assert!(workers.iter().all(|w| w.state.name() == "live" && w.since < begun), "{workers:?}");
    busy.shutdown_background();
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
