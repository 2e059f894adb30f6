//! Several processes of one group share the partitions, and move them, without loss or repeat.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::pipeline::Pipeline;

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_the_partitions() {
    let Some(broker) = super::broker() else { return };
    let pipeline = Pipeline::new(broker, "shared", 4).await;
    pipeline.produce(0..2_000);
    let one = pipeline.ingest(&[]);
    pipeline.wait_for(2_000).await;
    let other = pipeline.ingest(&[]);
    pipeline.until("both are members", async || broker.members("shared") == 2).await;
    pipeline.produce(2_000..6_000);
    pipeline.wait_for(6_000).await;
    pipeline.assert_exact(0..6_000).await;

    // What one leaves the other takes over, without waiting for a session to end.
    assert!(one.terminate().success());
    pipeline.until("one is left", async || broker.members("shared") == 1).await;
    pipeline.produce(6_000..8_000);
    pipeline.wait_for(8_000).await;
    assert!(other.terminate().success());
    pipeline.catch_up();
    pipeline.assert_exact(0..8_000).await;
}

/// A member joins or leaves every second, in order or killed, while events come in.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_rebalances_loses_and_repeats_nothing() {
    let Some(broker) = super::broker() else { return };
    let pipeline = Pipeline::new(broker, "storm", 8).await;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut members, mut produced, begun) = (vec![], 0, Instant::now());
    for round in 0..16 {
        let next = begun + Duration::from_secs(1) * round;
        while Instant::now() < next {
            pipeline.produce(produced..produced + 100);
            produced += 100;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if members.is_empty() || members.len() < 4 && random.random_bool(0.5) {
            println!("{round}: one joins {}", members.len());
            members.push(pipeline.ingest(&[]));
        } else {
            let mut member = members.swap_remove(random.random_range(0..members.len()));
            if random.random_bool(0.5) {
                println!("{round}: one is killed, {} stay", members.len());
                member.kill();
            } else {
                println!("{round}: one leaves, {} stay", members.len());
                assert!(member.terminate().success());
            }
        }
    }
    drop(members);
    pipeline.catch_up();
    pipeline.assert_exact(0..produced).await;
    pipeline.assert_balanced(produced).await;
}
