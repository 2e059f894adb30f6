//! A broker that goes away and comes back.

use std::time::Duration;

use super::broker::Broker;
use super::pipeline::Pipeline;

/// How long it is away.
const AWAY: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_is_waited_for() {
    let Some(broker) = Broker::start() else { return };
    let pipeline = Pipeline::new(&broker, "away", 3).await;
    pipeline.produce(0..1_000);
    let mut process = pipeline.ingest(&[]);
    pipeline.wait_for(1_000).await;
    broker.kill();
    for id in 1_000..2_000 {
        pipeline.send(id, &super::clicks::message(id));
    }
    tokio::time::sleep(AWAY).await;
    assert!(!process.has_ended(), "it did not wait:\n{}", process.output());
    broker.restart();
    pipeline.flush();
    pipeline.wait_for(2_000).await;
    assert!(process.terminate().success());
    pipeline.catch_up();
    pipeline.assert_exact(0..2_000).await;
}
