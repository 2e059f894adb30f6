//! Queries and folds on many machines: a server plans them, workers that know no warehouse run their parts.
//!
//! The planner of distributed plans and the transport between machines are datafusion-distributed's. What it leaves to its user is here.
//!
//! # Layout
//!
//! - `addresses` says where workers may be; `members` asks them again and again, and knows which of them take part;
//! - `channels` are the connections, with time-outs; `trust` is who may open one: a token, and certificates of both sides;
//! - `planner` decides what is spread, and `tasks` over how many; `travel` makes sure that a plan can go to another process before it
//!   does, and has the session's settings go with it; `codec` writes and reads our own operators;
//! - `on_workers` runs a spread plan, and once more where a worker was lost;
//! - `writers` has a fold's rows written where they are computed;
//! - `worker` is the other end: a process that runs what it is sent; `stores` are the object stores that plans name; `guard` stands
//!   before all of its calls; `version` is how two processes know that they are the same program.

mod addresses;
mod channels;
mod codec;
mod guard;
mod members;
mod on_workers;
mod planner;
mod stores;
mod tasks;
mod travel;
mod trust;
mod version;
mod worker;
mod writers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datafusion::execution::SessionStateBuilder;
use datafusion_distributed::DistributedExt;
use serde::Deserialize;
use tokio::sync::watch;

use crate::catalog::warehouse::Warehouse;
use crate::error::{Error, Kind, Result};
use crate::lake::write_files::Elsewhere;

pub use self::addresses::Addresses;
use self::channels::Channels;
use self::members::Members;
use self::planner::Planner;
pub use self::trust::{Trust, TrustFiles};
pub use self::worker::{Worker, WorkerOptions};
use self::writers::Writers;

/// What happens to a query that is to be spread while there are not two workers to spread it over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// The server runs it itself.
    #[default]
    Local,
    /// It is refused.
    Refuse,
}

/// How a server uses its workers.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where they may be.
    pub workers: Addresses,
    /// Who may talk to whom.
    pub trust: Trust,
    /// Where there are not enough of them.
    pub fallback: Fallback,
    /// Bytes of the columns that a scan reads, as they lie in memory, for each task: a query that reads less is run by the server
    /// itself.
    pub bytes_per_task: u64,
}

impl Options {
    /// What holds where nothing else is said: queries that read more than 64 MB are spread.
    pub const BYTES_PER_TASK: u64 = 64 << 20;
}

/// The workers of a server.
#[derive(Debug)]
pub struct Cluster {
    members: Arc<Members>,
    channels: Channels,
    fallback: Fallback,
    bytes_per_task: u64,
    runs: AtomicU64,
}

impl Cluster {
    /// Nobody has been asked yet: see [`watch_over`](Self::watch_over). Connections are cared for on the threads that this is called on,
    /// which are a runtime's. Fails where the program cannot be read, by which two
    /// processes know each other.
    pub fn new(options: Options) -> Result<Arc<Self>> {
        let channels = Channels::new(options.trust);
        let members = Members::new(options.workers, channels.clone(), version::own()?);
        Ok(Arc::new(Cluster {
            members: Arc::new(members),
            channels,
            fallback: options.fallback,
            bytes_per_task: options.bytes_per_task.max(1),
            runs: AtomicU64::new(0),
        }))
    }

    /// Has the sessions that are built plan for the workers.
    pub fn plug(self: &Arc<Self>, builder: SessionStateBuilder) -> Result<SessionStateBuilder> {
        let mut builder = planner::distributed(builder)
            .with_distributed_worker_resolver(members::Live(Arc::clone(&self.members)))
            .with_distributed_channel_resolver(self.channels.clone())
            .with_distributed_user_codec(codec::Codec::new(None))
            .with_distributed_desired_task_count_handler(tasks::ByBytes(self.bytes_per_task))
            .with_distributed_scale_up_leaf_node_handler(tasks::EvenShares)
            // A union's parts are a rollup's folded rows and its tails, which differ in size: each worker takes a share of each.
            .with_distributed_children_isolator_unions(false)?;
        let distributed = std::mem::take(builder.query_planner())
            .ok_or_else(|| Error::internal("a session without the planner that it was given"))?;
        let planner = Arc::new(Planner::new(Arc::clone(self), distributed));
        if let Some(config) = builder.config() {
            config.set_extension(Arc::new(Elsewhere(Arc::new(Writers::new(Arc::clone(&planner))))));
        }
        Ok(builder.with_query_planner(planner))
    }

    /// Asks workers how they are until it is told to stop, and tells the warehouse's `toplake.workers`.
    pub async fn watch_over(self: Arc<Self>, warehouse: Arc<Warehouse>, stopping: watch::Receiver<bool>) {
        self.members.watch_over(&warehouse, stopping).await;
    }

    /// Whether there are two workers to spread a query over; an error where there are not and the server is not to run it itself.
    fn has_enough(&self) -> Result<bool> {
        match self.members.live().len() {
            0 | 1 if self.is_needed() => Err(Error::new(
                Kind::WorkersLost,
                "there are not two workers to spread the query over, and the server is not to run it itself",
            )
            .with_hint(
                "toplake.workers says how each is; [cluster] fallback = 'local' has the server run it",
            )),
            live => Ok(live > 1),
        }
    }

    /// Whether a large query is refused while there are not two workers.
    pub fn is_needed(&self) -> bool {
        self.fallback == Fallback::Refuse
    }

    /// How many plans were run on workers.
    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// Waits until all that are listed have been asked how they are, or have not answered in time.
    pub async fn have_been_asked(&self) {
        self.members.have_been_asked().await;
    }

    /// Waits until so many workers take part, at most so long; whether they do.
    pub async fn wait_for(&self, workers: usize, most: Duration) -> bool {
        self.members.wait_for(workers, most).await
    }
}
