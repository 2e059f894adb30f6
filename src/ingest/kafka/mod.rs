//! Kafka into a table, each message exactly once.
//!
//! A partition's position is a Delta `txn` of the table, moved by the commit that brings the rows; the consumer group decides only
//! who reads what. A lane for each partition decodes and writes while the next messages are fetched; one committer collects
//! from all lanes. Whatever happens (kill -9, a rebalance, two owners, a store that does not answer) each partition goes on where the
//! table stands.
//!
//! | file | what |
//! | --- | --- |
//! | [`options`] | what is consumed and how |
//! | `client` | the member of the group; `topic_id` |
//! | `start` | where a partition begins |
//! | `fetch` | the thread that polls; partitions come and go |
//! | `messages` | what was fetched, in one stretch of memory |
//! | `input` | messages into rows: JSON, csv, raw, a transform |
//! | `lane` | a partition's rows into files |
//! | `commit` | all lanes' files into one commit |
//! | `fold` | rollups after each commit |
//! | `status` | how it is, for `toplake.pipelines` |
//! | `pipeline` | what these share |

mod client;
mod commit;
mod fetch;
mod fold;
mod input;
mod lane;
mod messages;
pub mod options;
mod pipeline;
mod start;
mod status;
mod topic_id;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use std::time::Instant;

use tokio::sync::{Notify, mpsc, oneshot, watch};

use self::commit::{Committer, Order};
use self::fetch::Fetch;
use self::input::Input;
use self::options::Options;
use self::pipeline::Pipeline;
use self::status::Reporter;
use crate::error::{Error, Result};
use crate::ingest::guards::Guards;
use crate::session::Engine;

/// What a pipeline has done since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Messages read.
    pub messages: u64,
    /// Rows stored.
    pub stored: u64,
    /// Rows that went to the late table.
    pub late: u64,
    /// Dead letters.
    pub dead: u64,
    /// Events that the transform's WHERE left out.
    pub filtered: u64,
    /// Commits.
    pub commits: u64,
}

/// Consumes until `stopping` says so, or to the end where that is asked for; then commits what was read.
///
/// Fails where options, table and messages cannot fit together, no broker answers at the start, or the broker does not have any more
/// what the table has to read next.
pub async fn run(engine: &Engine, options: Options, mut stopping: watch::Receiver<bool>) -> Result<Summary> {
    options.check()?;
    let pipeline = Pipeline::new(engine, options);
    let events = pipeline.events().await?;
    let kept = Input::plan(&pipeline.options, &events, &pipeline.session).await?.kept();
    if let Some(guards) = pipeline.options.guards() {
        Guards::check(&guards, engine.warehouse(), &events, &pipeline.session.runtime_env().memory_pool)?;
    }
    let connected = {
        let (pipeline, table) = (Arc::clone(&pipeline), events.table().snapshot());
        tokio::task::spawn_blocking(move || {
            let consumer = client::consumer(&pipeline.options)?;
            let sources = client::sources(&consumer, &pipeline.options, &table)?;
            Ok::<_, Error>((consumer, sources))
        })
    };
    let (consumer, sources) = connected.await.map_err(|e| Error::internal(e.to_string()))??;
    let (orders, ordered) = mpsc::unbounded_channel();
    let committed = Arc::new(Notify::new());
    let committer = Committer {
        pipeline: Arc::clone(&pipeline),
        consumer: Arc::clone(&consumer),
        committed: Arc::clone(&committed),
        waited: Instant::now(),
    };
    let committer = tokio::spawn(committer.run(ordered));
    let folding = pipeline.options.fold.then(|| tokio::spawn(fold::follow(Arc::clone(&pipeline), committed)));
    let (tell, told_enough) = oneshot::channel();
    let reporting = tokio::spawn(Reporter::new(&pipeline, &consumer).run(told_enough));
    let stop = Arc::new(AtomicBool::new(false));
    let fetch = Fetch::new(&pipeline, sources, kept, orders.clone(), Arc::clone(&stop));
    let (ended, mut end) = oneshot::channel();
    let thread = {
        let consumer = Arc::clone(&consumer);
        let name = format!("fetch {}", pipeline.name());
        std::thread::Builder::new().name(name).spawn(move || drop(ended.send(fetch.run(&consumer))))?
    };
    let asked = async { drop(stopping.wait_for(|stop| *stop).await) };
    let fetched = tokio::select! {
        fetched = &mut end => Some(fetched),
        () = asked => None,
    };
    stop.store(true, Ordering::Relaxed);
    let fetched = match fetched {
        Some(fetched) => fetched,
        None => end.await,
    };
    let (done, told) = oneshot::channel();
    if orders.send(Order::Stop { done }).is_ok() {
        let _ = told.await;
    }
    let leaving = tokio::task::spawn_blocking(move || client::leave(&consumer));
    let _ = leaving.await;
    let _ = committer.await;
    drop(tell);
    let _ = reporting.await;
    let _ = thread.join();
    if let Some(folding) = folding {
        folding.abort();
    }
    pipeline.lanes.lock().clear();
    fetched.map_err(|_| Error::internal("the thread that fetches has died"))??;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let consumed = &pipeline.consumed;
    Ok(Summary {
        messages: count(&consumed.messages),
        stored: count(&consumed.stored),
        late: count(&consumed.late),
        dead: count(&consumed.dead),
        filtered: count(&consumed.filtered),
        commits: count(&consumed.commits),
    })
}
