//! Tells the warehouse how the pipeline is, every few seconds and when that changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::client::Group;
use super::pipeline::Pipeline;
use crate::catalog::pipelines::{PartitionStatus, PipelineState, PipelineStatus};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Between two reports of the same state.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What the reports of one start have in common.
pub(super) struct Reporter {
    pipeline: Arc<Pipeline>,
    consumer: Arc<BaseConsumer<Group>>,
    said: PipelineStatus,
    told: Option<Instant>,
    /// Messages as of the last report.
    messages: u64,
}

impl Reporter {
    pub(super) fn new(pipeline: &Arc<Pipeline>, consumer: &Arc<BaseConsumer<Group>>) -> Self {
        let now = now();
        let said = PipelineStatus {
            name: pipeline.name().to_owned(),
            instance: uuid::Uuid::new_v4().to_string(),
            table: pipeline.options.table.clone(),
            host: host(),
            pid: std::process::id(),
            started: now,
            written: 0,
            state: PipelineState::Running,
            reason: None,
            since: now,
            partitions: vec![],
            consumed_per_second: 0.0,
            window: 0,
            errors: 0,
        };
        Reporter {
            pipeline: Arc::clone(pipeline),
            consumer: Arc::clone(consumer),
            said,
            told: None,
            messages: 0,
        }
    }

    /// Reports until it is dropped.
    pub(super) async fn run(mut self, ended: tokio::sync::oneshot::Receiver<()>) {
        let forever = async {
            let mut timer = tokio::time::interval(LOOK_EVERY);
            loop {
                timer.tick().await;
                self.look().await;
            }
        };
        tokio::select! {
            () = forever => {}
            _ = ended => {}
        }
        let warehouse = self.pipeline.engine.warehouse();
        if let Err(error) = warehouse.withdraw(&self.said.name, &self.said.instance).await {
            tracing::debug!(ingest = self.said.name, %error, "could not take the report back");
        }
    }

    async fn look(&mut self) {
        let (state, reason) = self.state();
        let changed = state != self.said.state || reason != self.said.reason;
        if !changed && self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        if state != self.said.state {
            self.said.since = now();
        }
        (self.said.state, self.said.reason) = (state, reason);
        let messages = self.pipeline.consumed.messages.load(Ordering::Relaxed);
        if let Some(told) = self.told {
            self.said.consumed_per_second =
                (messages - self.messages) as f64 / told.elapsed().as_secs_f64().max(1e-3);
        }
        (self.messages, self.told) = (messages, Some(Instant::now()));
        (self.said.window, self.said.errors) = self.pipeline.window.lock().counted();
        self.said.partitions = self.partitions();
        if let Err(error) = self.pipeline.engine.warehouse().report(&self.said).await {
            tracing::debug!(ingest = self.said.name, %error, "could not say how it is");
        }
    }

    fn state(&self) -> (PipelineState, Option<String>) {
        if let Some(halt) = self.pipeline.halted() {
            return (PipelineState::Stopped, Some(halt.reason));
        }
        if let Some(trouble) = self.pipeline.trouble() {
            return (PipelineState::Waiting, Some(trouble));
        }
        if self.consumer.context().is_unreachable() {
            let brokers = &self.pipeline.options.brokers;
            return (PipelineState::Waiting, Some(format!("no broker answers at {brokers}")));
        }
        if self.pipeline.is_full() {
            return (PipelineState::Paused, Some("what was read is not committed yet".to_owned()));
        }
        (PipelineState::Running, None)
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        let lanes = self.pipeline.lanes.lock();
        let mut partitions: Vec<PartitionStatus> = lanes
            .iter()
            .map(|(partition, lane)| PartitionStatus {
                source: partition.source.clone(),
                topic: lane.topic.clone(),
                partition: partition.number,
                position: lane.position,
                end: self.consumer.context().end(&lane.topic, partition.number as i32).map(|end| end.offset),
                newest: lane.newest,
            })
            .collect();
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        partitions
    }
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

/// The machine's name.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    name.or_else(|_| std::env::var("HOSTNAME")).unwrap_or_else(|_| "unknown".to_owned())
}
