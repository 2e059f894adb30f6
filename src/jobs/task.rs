//! A plain timer: what each server does for itself, again and again.
//!
//! A task that fails is logged and tried again at its next turn, later each time it fails in a row.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::Result;

/// The longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Something that is done again and again, never twice at the same time.
pub struct Task {
    /// What the log calls it.
    pub name: String,
    /// From the end of one run to the beginning of the next.
    pub pause: Duration,
    /// One run.
    pub run: Box<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>,
}

/// Runs tasks beside each other until `stopping` says so or its sender is gone. A run that has begun is dropped where it
/// waits: tasks must be safe to stop anywhere.
pub async fn run(tasks: Vec<Task>, stopping: watch::Receiver<bool>) {
    let mut running = JoinSet::new();
    for task in tasks {
        let mut stopping = stopping.clone();
        running.spawn(async move {
            tokio::select! {
                () = forever(&task) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        });
    }
    while running.join_next().await.is_some() {}
}

async fn forever(task: &Task) {
    let mut failures = 0_u32;
    loop {
        let begun = Instant::now();
        match (task.run)().await {
            Ok(()) => {
                if failures > 0 {
                    tracing::info!(task = task.name, "works again");
                }
                failures = 0;
                tracing::debug!(task = task.name, took = ?begun.elapsed(), "done");
            }
            Err(e) => {
                failures += 1;
                tracing::warn!(task = task.name, failures, error = %e, "failed; it will be tried again");
            }
        }
        let pause = task.pause.saturating_mul(2_u32.saturating_pow(failures.min(10)));
        tokio::time::sleep(if failures == 0 { task.pause } else { pause.min(MAX_PAUSE.max(task.pause)) })
            .await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::error::Error;

    #[tokio::test]
    async fn a_task_goes_on_after_it_failed_and_ends_when_told() {
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        let (stop, stopping) = watch::channel(false);
        let task = Task {
            name: "test".into(),
            pause: Duration::from_millis(1),
            run: Box::new(move || {
                let n = counted.fetch_add(1, Ordering::SeqCst);
                let stop = stop.clone();
                Box::pin(async move {
                    if n == 3 {
                        stop.send_replace(true);
                    }
                    if n == 1 { Err(Error::storage("away")) } else { Ok(()) }
                })
            }),
        };
        run(vec![task], stopping).await;
        assert_eq!(runs.load(Ordering::SeqCst), 4);
    }
}
