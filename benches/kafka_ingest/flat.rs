//! Flat out: everything is in the topic before.

use std::time::Instant;

use crate::broker::Broker;
use crate::clicks::Clicks;
use crate::lake::Lake;
use crate::{Arguments, Result};

/// 2026-03-01; the clicks come at 50,000 a second from there.
const START: i64 = 1_772_323_200_000_000;
const MICROS_APART: i64 = 20;
/// Clicks that go to one partition before the next has its turn, so that they come in batches.
const TURN: u64 = 500;

pub(crate) async fn run(broker: &Broker, arguments: &Arguments) -> Result<()> {
    let Arguments { events, partitions, bytes, .. } = *arguments;
    broker.create_topic("flat", partitions, &[]);
    let begun = Instant::now();
    let sent = produce(broker, events, partitions, bytes);
    println!(
        "{events} clicks of {:.0} bytes in {partitions} partitions, produced in {:.1} s",
        sent as f64 / events as f64,
        begun.elapsed().as_secs_f64()
    );
    println!(
        "                        s   events/s   CPU s   events/s a core   commits  bytes/event   peak MiB"
    );
    for (name, more) in [("events and rollup", &[][..]), ("events alone", &["--no-fold"][..])] {
        let lake = Lake::new(arguments).await?;
        let ((before, _), begun) = (lake.size()?, Instant::now());
        let ingester = lake.ingest(broker, "flat", &[&["--until-end"], more].concat());
        let (usage, said) = tokio::task::block_in_place(|| ingester.finish())?;
        let (seconds, count) = (begun.elapsed().as_secs_f64(), events as f64);
        let (version, stored) = lake.size()?;
        println!(
            "{name:<20} {seconds:>5.1}  {:>9.0}  {:>6.1}  {:>16.0}  {:>8}  {:>11.1}  {:>9.0}",
            count / seconds,
            usage.cpu,
            count / usage.cpu,
            version - before,
            stored as f64 / count,
            usage.peak
        );
        println!("  {said}");
        lake.assert_whole(events).await?;
    }
    Ok(())
}

fn produce(broker: &Broker, events: u64, partitions: i32, bytes: usize) -> u64 {
    let (producer, mut clicks, mut sent) = (broker.producer(), Clicks::new(partitions, bytes), 0);
    for event in 0..events {
        let partition = (event / TURN % partitions as u64) as i32;
        let message = clicks.message(START + event as i64 * MICROS_APART, partition);
        sent += message.len() as u64;
        producer.send("flat", partition, message);
    }
    producer.flush();
    sent
}
