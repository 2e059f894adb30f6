//! Ingest from Kafka: JSON clicks of about 120 bytes from a broker on this machine into committed rows and a rollup by
//! minute, folded. `toplake ingest kafka` is a process of its own, and so are the broker and the server that is asked.
//!
//! - `cargo bench --bench kafka_ingest -- flat [--events 20000000] [--partitions 8] [--bytes 1000]`: the clicks are in the topic before; how
//!   long does it take until they are committed?
//! - `cargo bench --bench kafka_ingest -- steady [--rate 50000] [--seconds 300] [--partitions 8]`: clicks come in at a
//!   constant rate; how long does it take until a query sees one? A run of 300 seconds writes `results/kafka_steady.csv`
//!   beside itself.
//!
//! `--toplake PATH` measures another build, `--commit-interval 500ms` another interval.

// Where no broker starts there is nothing to measure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clicks;
mod flat;
mod lake;
mod steady;

// The tests' broker; they do more to it than a bench does.
#[allow(dead_code)]
#[path = "../../tests/it/kafka/broker.rs"]
mod broker;
#[path = "../../tests/it/kafka/distribution.rs"]
mod distribution;
#[allow(dead_code)]
#[path = "../../tests/it/kafka/process.rs"]
mod process;
#[path = "../../tests/it/kafka/producer.rs"]
mod producer;

use std::path::PathBuf;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What the command line says.
struct Arguments {
    events: u64,
    rate: u64,
    seconds: u64,
    partitions: i32,
    /// Of a message; 0 leaves it as short as it is.
    bytes: usize,
    commit_interval: String,
    toplake: PathBuf,
}

fn main() -> Result<()> {
    let mut arguments = Arguments {
        events: 20_000_000,
        rate: 50_000,
        seconds: 300,
        partitions: 8,
        bytes: 0,
        commit_interval: "1s".into(),
        toplake: env!("CARGO_BIN_EXE_toplake").into(),
    };
    let mut parts = vec![];
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--events" => arguments.events = value()?.parse()?,
            "--rate" => arguments.rate = value()?.parse()?,
            "--seconds" => arguments.seconds = value()?.parse()?,
            "--bytes" => arguments.bytes = value()?.parse()?,
            "--partitions" => arguments.partitions = value()?.parse()?,
            "--commit-interval" => arguments.commit_interval = value()?,
            "--toplake" => arguments.toplake = value()?.into(),
            "--bench" => {}
            "flat" | "steady" => parts.push(arg),
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let Some(broker) = broker::Broker::start() else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let asked = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    if asked("flat") {
        runtime.block_on(flat::run(&broker, &arguments))?;
    }
    if asked("steady") {
        runtime.block_on(steady::run(&broker, &arguments))?;
    }
    Ok(())
}
