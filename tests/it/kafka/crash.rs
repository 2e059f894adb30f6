//! The crash run: two ingesters of one group and the broker are killed at random moments while events come in; at the
//! end each event is there once.
//!
//! `TOPLAKE_CRASH_KILLS` says how many ingesters are killed, `TOPLAKE_CRASH_SEED` repeats a run's decisions (not its
//! timing).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::broker::Broker;
use super::clicks;
use super::pipeline::Pipeline;

/// In CI; with some seconds between them that is well below three minutes.
const KILLS: u64 = 14;
/// Of so many kills the broker goes down after one.
const BROKER_EVERY: u64 = 5;
const PARTITIONS: i32 = 6;

fn setting(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

/// Makes clicks until it is told to stop, and says how many the broker has taken.
fn produce(pipeline: &Pipeline<'_>, stop: &AtomicBool, seed: u64) -> i64 {
    let mut random = StdRng::seed_from_u64(seed);
    let mut id = 0;
    while !stop.load(Ordering::SeqCst) {
        // In bursts, round the partitions unevenly.
        let partition = random.random_range(0..PARTITIONS);
        for _ in 0..random.random_range(1..200) {
            pipeline.send(i64::from(partition), &clicks::message(id));
            id += 1;
        }
        std::thread::sleep(Duration::from_millis(random.random_range(10..100)));
    }
    pipeline.flush();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_repeated_by_crashes() {
    let Some(broker) = Broker::start() else { return };
    let kills = setting("TOPLAKE_CRASH_KILLS").unwrap_or(KILLS);
    let seed = setting("TOPLAKE_CRASH_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("TOPLAKE_CRASH_KILLS={kills} TOPLAKE_CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let pipeline = Pipeline::new(&broker, "crash", PARTITIONS).await;
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    let said = |what: &str| println!("{:>8.3} s  {what}", begun.elapsed().as_secs_f64());

    let produced = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce(&pipeline, &stop, seed));
        let mut ingesters = [pipeline.ingest(&[]), pipeline.ingest(&[])];
        let mut killed = 0;
        while killed < kills {
            std::thread::sleep(Duration::from_millis(random.random_range(100..3_500)));
            let both = random.random_ratio(1, 6);
            let victim = random.random_range(0..2);
            for (number, ingester) in ingesters.iter_mut().enumerate() {
                if both || number == victim {
                    assert!(
                        !ingester.has_ended(),
                        "ingester {number} ended by itself:\n{}",
                        ingester.output()
                    );
                    ingester.kill();
                    killed += 1;
                    said(&format!("kill {killed}: ingester {number}"));
                }
            }
            if killed % BROKER_EVERY == 0 {
                said("the broker is killed");
                broker.kill();
                std::thread::sleep(Duration::from_millis(random.random_range(0..2_000)));
                broker.restart();
                said("the broker is back");
            }
            for ingester in &mut ingesters {
                if ingester.has_ended() {
                    std::thread::sleep(Duration::from_millis(random.random_range(0..500)));
                    *ingester = pipeline.ingest(&[]);
                }
            }
        }
        stop.store(true, Ordering::SeqCst);
        let produced = producer.join().unwrap();
        (produced, ingesters)
    });
    let (produced, ingesters) = produced;
    let stored = pipeline.stored().await;
    said(&format!("{stored} of {produced} clicks are stored"));
    assert!(stored > 0, "a run of crashes that commits nothing tests nothing");

    // The two that are left bring the rest, without help.
    pipeline.wait_for(produced).await;
    for ingester in ingesters {
        assert!(ingester.terminate().success());
    }
    pipeline.catch_up();
    pipeline.assert_exact(0..produced).await;
    pipeline.assert_balanced(produced).await;
    said("each is there once");
}
