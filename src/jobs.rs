//! A plain timer: runs jobs again and again, and knows nothing of what they do.
//!
//! A job that fails is logged and tried again at its next turn, later each time it fails in a row.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::Result;

/// The longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Something that is done again and again, never twice at the same time.
pub struct Job {
    /// What the log calls it.
    pub name: String,
    /// From the end of one run to the beginning of the next.
    pub pause: Duration,
    /// One run.
    pub run: Box<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>,
}

/// Runs jobs beside each other until `stopping` says so or its sender is gone. A run that has begun is dropped where it
/// waits: jobs must be safe to stop anywhere.
pub async fn run(jobs: Vec<Job>, stopping: watch::Receiver<bool>) {
    let mut running = JoinSet::new();
    for job in jobs {
        let mut stopping = stopping.clone();
        running.spawn(async move {
            tokio::select! {
                () = forever(&job) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        });
    }
    while running.join_next().await.is_some() {}
}

async fn forever(job: &Job) {
    let mut failures = 0_u32;
    loop {
        let begun = Instant::now();
        match (job.run)().await {
            Ok(()) => {
                if failures > 0 {
                    tracing::info!(job = job.name, "works again");
                }
                failures = 0;
                tracing::debug!(job = job.name, took = ?begun.elapsed(), "done");
            }
            Err(e) => {
                failures += 1;
                tracing::warn!(job = job.name, failures, error = %e, "failed; it will be tried again");
            }
        }
        let pause = job.pause.saturating_mul(2_u32.saturating_pow(failures.min(10)));
        tokio::time::sleep(if failures == 0 { job.pause } else { pause.min(MAX_PAUSE.max(job.pause)) }).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::error::Error;

    #[tokio::test]
    async fn a_job_goes_on_after_it_failed_and_ends_when_told() {
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        let (stop, stopping) = watch::channel(false);
        let job = Job {
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
        run(vec![job], stopping).await;
        assert_eq!(runs.load(Ordering::SeqCst), 4);
    }
}
