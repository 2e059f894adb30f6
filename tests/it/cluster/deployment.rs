//! The whole deployment: ingesters, servers and workers, several of each, over one bucket. All of them are killed at random while clicks
//! come in and people ask. No answer is wrong meanwhile, and in the end each click counts once.
//!
//! `TOPLAKE_CRASH_SEED` repeats a run's decisions, not its timing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use super::machines::{Place, Worker, connect, value};
use crate::http::{Process, get, until};
use crate::kafka::broker::Broker;
use crate::kafka::clicks;
use crate::kafka::pipeline::Pipeline;
use crate::s3;

/// A third of each kind.
const KILLS: usize = 15;
const PARTITIONS: i32 = 6;

/// What a statement sees of a click, it sees in all tables.
const QUESTION: &str = "SELECT concat_ws(' ', (SELECT count(*) FROM clicks), (SELECT coalesce(sum(clicks), 0) FROM clicks_minutely),
    (SELECT coalesce(sum(clicks), 0) FROM clicks_hourly))";

/// How an answer to the question begins an error that people may get while things die.
const EXCUSED: [&str; 3] = ["08006", "57P01", "the connection broke"];

/// Asks a server, at the port where it is now, until all is over; how often it answered.
async fn ask(port: impl Fn() -> u16, over: &AtomicBool) -> usize {
    let (mut answers, mut most) = (0, 0);
    while !over.load(Ordering::SeqCst) {
        let Ok(client) = connect(port()).await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        while !over.load(Ordering::SeqCst) && !client.is_closed() {
            match value(&client, QUESTION).await {
                Ok(answer) => {
                    let counts: Vec<i64> = answer.split(' ').map(|n| n.parse().unwrap()).collect();
                    assert!(
                        counts.iter().all(|n| *n == counts[0]),
                        "one statement, several truths: {answer}"
                    );
                    assert!(counts[0] >= most, "{answer} after {most}");
                    (answers, most) = (answers + 1, counts[0]);
                }
                Err(e) => assert!(EXCUSED.iter().any(|excuse| e.starts_with(excuse)), "{e}"),
            }
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_it_dies_and_each_click_counts_once() {
    let Some(broker) = Broker::start() else { return };
    let seed =
        std::env::var("TOPLAKE_CRASH_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("TOPLAKE_CRASH_SEED={seed}");
    let bucket = s3::Server::start().await;
    let pipeline = Pipeline::in_bucket(&broker, "deployment", PARTITIONS, &bucket).await;
    let folder = tempfile::tempdir().unwrap();
    let mut workers = vec![];
    for name in ["a", "b", "c"] {
        let own = folder.path().join(name);
        std::fs::create_dir(&own).unwrap();
        workers.push(Worker::start(own, Place { variables: bucket.variables(), ..Place::default() }).await);
    }
    let addresses: Vec<&str> = workers.iter().map(|w| w.address()).collect();
    let addresses = addresses.join(",");
    let serve = async || {
        let mut all = vec!["serve", "--warehouse", &pipeline.warehouse, "--workers", &addresses];
        all.extend(["--cluster-bytes-per-task", "1", "--refresh-every", "0.5", "--upkeep-every", "2"]);
        Process::with(&all, &bucket.variables()).await
    };
    let mut servers = [serve().await, serve().await];
    // What comes in is folded by the servers, on the workers.
    let ingest = || pipeline.ingest(&["--no-fold"]);
    let mut ingesters = [ingest(), ingest()];
    let ports = Mutex::new([0, 1].map(|i: usize| servers[i].pg.port()));
    let (over, begun) = (AtomicBool::new(false), Instant::now());

    let producing = async {
        let (mut random, mut id) = (StdRng::seed_from_u64(seed), 0);
        while !over.load(Ordering::SeqCst) {
            let partition = random.random_range(0..PARTITIONS);
            for _ in 0..random.random_range(1..100) {
                pipeline.send(i64::from(partition), &clicks::message(id));
                id += 1;
            }
            sleep(Duration::from_millis(random.random_range(10..100))).await;
        }
        pipeline.flush();
        id
    };
    let killing = async {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(1));
        for kill in 0..KILLS {
            sleep(Duration::from_millis(random.random_range(200..3_000))).await;
            let (which, pause) =
                (random.random_range(0..2), Duration::from_millis(random.random_range(0..1_500)));
            let what = ["ingester", "server", "worker"][kill % 3];
            println!("{:>8.3} s  kill {kill}: {what} {which}", begun.elapsed().as_secs_f64());
            match what {
                "ingester" => {
                    assert!(
                        !ingesters[which].has_ended(),
                        "it ended by itself:\n{}",
                        ingesters[which].output()
                    );
                    ingesters[which].kill();
                    sleep(pause).await;
                    ingesters[which] = ingest();
                }
                "server" => {
                    servers[which].signal("KILL");
                    servers[which].wait();
                    sleep(pause).await;
                    servers[which] = serve().await;
                    ports.lock()[which] = servers[which].pg.port();
                }
                _ => {
                    workers[which].kill();
                    sleep(pause).await;
                    workers[which].again().await;
                }
            }
        }
        over.store(true, Ordering::SeqCst);
    };
    let port = |which: usize| ports.lock()[which];
    let (produced, (), first, second) =
        tokio::join!(producing, killing, ask(|| port(0), &over), ask(|| port(1), &over));
    println!("{first} and {second} answers while {produced} clicks came");
    assert!(first > 0 && second > 0, "{first} and {second} answers");

    pipeline.wait_for(produced).await;
    for ingester in ingesters {
        assert!(ingester.terminate().success());
    }
    pipeline.assert_exact(0..produced).await;
    pipeline.assert_balanced(produced).await;
    let lag = "SELECT sum(lag_commits) FROM toplake.rollups";
    pipeline.until("the servers have folded all", async || pipeline.desk.value(lag).await == "0").await;
    for server in &servers {
        until("it is answered on the workers", async || {
            let client = connect(server.pg.port()).await.unwrap();
            assert_eq!(value(&client, QUESTION).await, Ok(format!("{produced} {produced} {produced}")));
            let metrics = get(server.http, "/metrics", None).await.body;
            let spread = metrics.lines().find_map(|line| line.strip_prefix("toplake_spread_queries_total "));
            spread.is_some_and(|n| n != "0")
        })
        .await;
    }
}
