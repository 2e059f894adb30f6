//! What the parts of a pipeline share: the thread that fetches, a lane for each partition, and the committer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::lane::{Batch, Cut, Lane};
use super::options::Options;
use super::start::Start;
use crate::catalog::events::EventsTable;
use crate::catalog::warehouse::Object;
use crate::error::{Error, Kind, Result};
use crate::ingest::error_rate::Window;
use crate::lake::event_times::Partition;
use crate::session::Engine;

/// One pipeline of this process.
pub(super) struct Pipeline {
    pub(super) engine: Engine,
    pub(super) options: Options,
    pub(super) session: SessionState,
    /// How much of the newest input is bad.
    pub(super) window: Mutex<Window>,
    /// Its memory, in the engine's pool.
    pub(super) reservation: MemoryReservation,
    /// Bytes of messages that are on their way to a file.
    in_flight: Arc<AtomicUsize>,
    /// Bytes of messages that are in files, and those not committed.
    uncommitted: Arc<AtomicUsize>,
    /// Messages and bytes since the last cut.
    since_cut: (AtomicU64, AtomicU64),
    /// A commit need not wait any longer.
    pub(super) due: Notify,
    /// The partitions that this process consumes.
    pub(super) lanes: Mutex<HashMap<Partition, Handle>>,
    /// Partitions that have to begin again where the table stands.
    lost: Mutex<HashMap<Partition, Option<Error>>>,
    halted: Mutex<Option<Halt>>,
    /// Why it makes no progress, though it tries.
    trouble: Mutex<Option<Trouble>>,
    /// The pool has no more memory.
    pressed: AtomicBool,
    pub(super) consumed: Consumed,
}

/// What has become of the messages since the start.
#[derive(Debug, Default)]
pub(super) struct Consumed {
    pub(super) messages: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) filtered: AtomicU64,
    pub(super) commits: AtomicU64,
}

/// Consuming has stopped until somebody says that it may go on.
#[derive(Debug, Clone)]
pub(super) struct Halt {
    pub(super) reason: String,
    pub(super) since: Instant,
}

/// Something that fails and is tried again.
struct Trouble {
    what: String,
    /// When it last failed.
    at: Instant,
}

/// What did not fail again for so long has passed.
const PASSED_AFTER: Duration = Duration::from_secs(20);

/// How a lane is spoken to. It ends when this is dropped.
pub(super) struct Handle {
    pub(super) topic: String,
    pub(super) messages: mpsc::UnboundedSender<Batch>,
    pub(super) cuts: mpsc::UnboundedSender<Cut>,
    /// The table that it writes for.
    pub(super) table_id: String,
    /// Where the table stands, as far as this process knows.
    pub(super) position: i64,
    /// The broker's time of the newest message that is committed, in microseconds.
    pub(super) newest: Option<i64>,
    /// When it was last given something.
    pub(super) fed: Instant,
    /// When that last had an event time.
    pub(super) timed: Instant,
}

/// A share of a counter, given back when it is dropped.
pub(super) struct Counted {
    counter: Arc<AtomicUsize>,
    amount: usize,
}

impl Counted {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        Counted { counter: Arc::clone(counter), amount: 0 }
    }

    pub(super) fn add(&mut self, amount: usize) {
        self.amount += amount;
        self.counter.fetch_add(amount, Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

/// Messages on their way, in bytes.
pub(super) struct InFlight {
    _counted: Counted,
    _reserved: MemoryReservation,
}

impl Pipeline {
    pub(super) fn new(engine: &Engine, options: Options) -> Arc<Self> {
        let session = engine.state();
        let consumer = MemoryConsumer::new(format!("ingest {}", options.name()));
        Arc::new(Pipeline {
            engine: engine.clone(),
            window: Mutex::new(Window::new(options.errors.clone())),
            reservation: consumer.register(&session.runtime_env().memory_pool),
            session,
            options,
            in_flight: Default::default(),
            uncommitted: Default::default(),
            since_cut: Default::default(),
            due: Notify::new(),
            lanes: Default::default(),
            lost: Default::default(),
            halted: Default::default(),
            trouble: Default::default(),
            pressed: AtomicBool::new(false),
            consumed: Consumed::default(),
        })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        self.options.name()
    }

    /// The table as it is now.
    pub(super) async fn events(&self) -> Result<Arc<EventsTable>> {
        match self.engine.warehouse().require(&self.options.table).await? {
            Object::Table(events) => {
                events.table().update().await?;
                Ok(events)
            }
            other => Err(Error::wrong_object_type(format!(
                "'{}' is a {}, not a table",
                self.options.table,
                other.kind().sql_name()
            ))),
        }
    }

    /// Begins a lane. One that was there for the partition ends.
    pub(super) async fn begin(
        self: &Arc<Self>,
        topic: &str,
        partition: &Partition,
        start: Start,
    ) -> Result<()> {
        let lane = Lane::new(self, topic, partition, start).await?;
        let table_id = lane.table_id().to_owned();
        let ((messages, taken), (cuts, asked)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        tokio::spawn(lane.run(taken, asked));
        let handle = Handle {
            topic: topic.to_owned(),
            messages,
            cuts,
            table_id,
            position: start.offset,
            newest: None,
            fed: Instant::now(),
            timed: Instant::now(),
        };
        // In this order: from when it is there it may be lost.
        self.lost.lock().remove(partition);
        self.lanes.lock().insert(partition.clone(), handle);
        Ok(())
    }

    /// Ends a lane; what it has not handed over is dropped.
    pub(super) fn end(&self, partition: &Partition) {
        self.lanes.lock().remove(partition);
        self.lost.lock().remove(partition);
    }

    /// A partition cannot go on: another member has it, or something failed. Its lane ends and a new one begins where the table
    /// stands.
    pub(super) fn lose(&self, partition: &Partition, why: Option<Error>) {
        if self.lanes.lock().remove(partition).is_some() {
            if let Some(e) = why.as_ref().filter(|e| e.kind() != Kind::Conflict) {
                self.troubled(e);
            }
            self.lost.lock().insert(partition.clone(), why);
        }
    }

    /// The partitions that have to begin again.
    pub(super) fn lost(&self) -> Vec<Partition> {
        self.lost.lock().keys().cloned().collect()
    }

    /// Why a partition was lost, if beginning again does not help.
    pub(super) fn lost_for_good(&self) -> Option<Error> {
        let mut lost = self.lost.lock();
        let for_good = lost.values_mut().find(|why| {
            let passes = [Kind::Storage, Kind::Conflict, Kind::Cancelled];
            why.as_ref().is_some_and(|why| !passes.contains(&why.kind()))
        });
        for_good.and_then(Option::take)
    }

    /// Has these begin again, whatever they are at.
    pub(super) fn restart(&self, partitions: impl IntoIterator<Item = Partition>) {
        for partition in partitions {
            self.lanes.lock().remove(&partition);
            self.lost.lock().insert(partition, None);
        }
    }

    /// A partition has given events with a time.
    pub(super) fn timed(&self, partition: &Partition) {
        if let Some(lane) = self.lanes.lock().get_mut(partition) {
            lane.timed = Instant::now();
        }
    }

    /// Accounts for messages on their way to a lane.
    pub(super) fn in_flight(&self, bytes: usize) -> InFlight {
        let reserved = self.reservation.new_empty();
        let fits = reserved.try_grow(bytes).is_ok();
        if !fits {
            // These few are there already; no more will come until the pool has room.
            reserved.grow(bytes);
            self.commit_now();
        }
        self.pressed.store(!fits, Ordering::Relaxed);
        let mut counted = Counted::new(&self.in_flight);
        counted.add(bytes);
        InFlight { _counted: counted, _reserved: reserved }
    }

    /// Accounts for messages in files.
    pub(super) fn uncommitted(&self) -> Counted {
        Counted::new(&self.uncommitted)
    }

    /// Whether the brokers have to wait.
    pub(super) fn is_full(&self) -> bool {
        let (in_flight, uncommitted) =
            (self.in_flight.load(Ordering::Relaxed), self.uncommitted.load(Ordering::Relaxed));
        if in_flight == 0 {
            self.pressed.store(false, Ordering::Relaxed);
        }
        self.pressed.load(Ordering::Relaxed)
            || in_flight as u64 >= self.options.memory.0
            || uncommitted as u64 >= self.options.commit_bytes.0.saturating_mul(2)
    }

    /// Whether nothing is on its way any more.
    pub(super) fn is_settled(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0 && self.uncommitted.load(Ordering::Relaxed) == 0
    }

    /// Messages are in files: enough for a commit, perhaps.
    pub(super) fn written(&self, messages: u64, bytes: u64) {
        self.consumed.messages.fetch_add(messages, Ordering::Relaxed);
        let messages = self.since_cut.0.fetch_add(messages, Ordering::Relaxed) + messages;
        let bytes = self.since_cut.1.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if messages >= self.options.commit_rows || bytes >= self.options.commit_bytes.0 {
            self.commit_now();
        }
    }

    /// A commit begins: those after it count anew.
    pub(super) fn cut(&self) {
        self.since_cut.0.store(0, Ordering::Relaxed);
        self.since_cut.1.store(0, Ordering::Relaxed);
    }

    /// Has the next commit come at once.
    pub(super) fn commit_now(&self) {
        self.due.notify_one();
    }

    /// Stops consuming; what was consumed is committed.
    pub(super) fn halt(&self, reason: String) {
        tracing::error!(ingest = self.name(), "stopped: {reason}; CALL resume('{}') goes on", self.name());
        *self.halted.lock() = Some(Halt { reason, since: Instant::now() });
    }

    /// A commit has brought a partition so far.
    pub(super) fn reached(&self, partition: &Partition, position: i64, newest: Option<i64>) {
        if let Some(lane) = self.lanes.lock().get_mut(partition) {
            lane.position = position;
            lane.newest = lane.newest.max(newest);
        }
    }

    /// Why consuming has stopped.
    pub(super) fn halted(&self) -> Option<Halt> {
        self.halted.lock().clone()
    }

    /// Goes on.
    pub(super) fn resume(&self, why: &str) {
        if self.halted.lock().take().is_some() {
            self.window.lock().reset();
            tracing::info!(ingest = self.name(), "goes on: {why}");
        }
    }

    /// Something failed that is tried again.
    pub(super) fn troubled(&self, e: &Error) {
        let what = e.to_string();
        let mut trouble = self.trouble.lock();
        if trouble.as_ref().is_none_or(|trouble| trouble.what != what) {
            tracing::warn!(ingest = self.name(), error = %e, "will be tried again");
        }
        *trouble = Some(Trouble { what, at: Instant::now() });
    }

    /// A commit went through.
    pub(super) fn works(&self) {
        if self.lost.lock().is_empty() && self.trouble.lock().take().is_some() {
            tracing::info!(ingest = self.name(), "works again");
        }
    }

    /// Why it makes no progress, though it tries.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble
            .as_ref()
            .filter(|trouble| trouble.at.elapsed() < PASSED_AFTER)
            .map(|trouble| trouble.what.clone())
    }
}
