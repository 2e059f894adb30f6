//! Threads for queries, folds and jobs, beside those that talk to clients.
//!
//! A query keeps its thread busy from batch to batch. Were it a thread that also reads sockets, every small query would
//! wait for it; as it is one of these, the machine's scheduler lets the small one go first, and these have the lower
//! priority.

use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use thread_priority::{ThreadPriority, ThreadPriorityValue};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::statement::Outcome;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;

/// The share that these threads get where all are busy, between 0 and 99: the others have 50. On Linux a nice value of 4.
const PRIORITY: u8 = 37;

/// Batches that are ready before the client has taken those before them.
const AHEAD: usize = 2;

/// The threads. They end with the last handle.
#[derive(Debug, Clone)]
pub(super) struct Workers(Arc<Owner>);

#[derive(Debug)]
struct Owner(Option<Runtime>, Handle);

impl Workers {
    /// As many threads as there are cores.
    pub(super) fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .enable_all()
            .thread_name("toplake-worker")
            .on_thread_start(|| {
                let lower = ThreadPriorityValue::try_from(PRIORITY).map(ThreadPriority::Crossplatform);
                if let Err(e) = lower.map(thread_priority::set_current_thread_priority) {
                    tracing::debug!("a worker keeps its priority: {e}");
                }
            })
            .build()
            .map_err(|e| Error::internal(format!("cannot start threads: {e}")))?;
        let handle = runtime.handle().clone();
        Ok(Workers(Arc::new(Owner(Some(runtime), handle))))
    }

    /// Where to spawn what is to run on them.
    pub(super) fn handle(&self) -> &Handle {
        &self.0.1
    }

    /// Runs a statement on these threads, up to its last row. Dropping the future, or the rows, stops it.
    pub(super) async fn run(
        &self,
        statement: impl Future<Output = Result<Outcome>> + Send + 'static,
    ) -> Result<Outcome> {
        let mut task = JoinSet::new();
        task.spawn_on(statement, self.handle());
        let outcome = match task.join_next().await {
            Some(Ok(outcome)) => outcome?,
            Some(Err(e)) if !e.is_cancelled() => {
                return Err(Error::internal(format!("the statement ended: {e}")));
            }
            _ => return Err(Error::cancelled("the server is stopping")),
        };
        Ok(match outcome {
            Outcome::Rows { tag, stream, stamp } => Outcome::Rows { tag, stream: self.drive(stream), stamp },
            done => done,
        })
    }

    /// The same rows, made on these threads.
    fn drive(&self, mut rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let mut driven = RecordBatchReceiverStream::builder(rows.schema(), AHEAD);
        let sender = driven.tx();
        let work = async move {
            while let Some(batch) = rows.next().await {
                let failed = batch.is_err();
                // Nobody waits for more.
                if sender.send(batch).await.is_err() || failed {
                    break;
                }
            }
            Ok::<(), DataFusionError>(())
        };
        driven.spawn_on(work, self.handle());
        driven.build()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // What still runs there is for nobody.
            runtime.shutdown_background();
        }
    }
}
