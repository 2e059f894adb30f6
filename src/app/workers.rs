//! Threads for queries, folds and jobs, beside those that talk to clients: see [`Lanes`].

use std::future::Future;
use std::sync::Arc;

use thread_priority::{ThreadPriority, ThreadPriorityValue};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::statement::Lanes;

/// The share that the threads for big work get where all are busy, between 0 and 99: others have 50. On Linux a nice
/// value of 4.
const BEHIND: u8 = 37;

/// The threads. They end with the last handle.
#[derive(Debug, Clone)]
pub(super) struct Workers {
    small: Arc<Threads>,
    big: Arc<Threads>,
}

impl Workers {
    /// As many threads of each kind as there are cores.
    pub(super) fn start() -> Result<Self> {
        Ok(Workers {
            small: Arc::new(Threads::start("toplake-small", None)?),
            big: Arc::new(Threads::big()?),
        })
    }

    /// For statements.
    pub(super) fn lanes(&self) -> Lanes {
        Lanes { small: self.small.handle.clone(), big: self.big.handle.clone() }
    }

    /// For what nobody waits for.
    pub(super) fn background(&self) -> &Handle {
        &self.big.handle
    }

    /// Runs a statement up to its first row. Dropping the future stops it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        big: bool,
        statement: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let threads = if big { &self.big } else { &self.small };
        let mut task = JoinSet::new();
        task.spawn_on(statement, &threads.handle);
        match task.join_next().await {
            Some(Ok(outcome)) => outcome,
            Some(Err(e)) if !e.is_cancelled() => Err(Error::internal(format!("the statement ended: {e}"))),
            _ => Err(Error::cancelled("the server is stopping")),
        }
    }
}

/// Threads of one kind.
#[derive(Debug)]
pub(super) struct Threads {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Threads {
    /// For big work.
    pub(super) fn big() -> Result<Self> {
        Self::start("toplake-big", Some(BEHIND))
    }

    /// For the connections of a process that computes on its other threads.
    pub(super) fn sockets() -> Result<Self> {
        Self::start("toplake-sockets", None)
    }

    /// What work is spawned on.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    fn start(name: &str, priority: Option<u8>) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .enable_all()
            .thread_name(name)
            .on_thread_start(move || {
                let Some(priority) = priority else { return };
                let lower = ThreadPriorityValue::try_from(priority).map(ThreadPriority::Crossplatform);
                if let Err(e) = lower.map(thread_priority::set_current_thread_priority) {
                    tracing::debug!("a thread keeps its priority: {e}");
                }
            })
            .build()
            .map_err(|e| Error::internal(format!("cannot start threads: {e}")))?;
        let handle = runtime.handle().clone();
        Ok(Threads { runtime: Some(runtime), handle })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // What still runs there is for nobody.
            runtime.shutdown_background();
        }
    }
}
