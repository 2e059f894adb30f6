//! How queries share the machine.
//!
//! A query that reads little, and joins nothing without a key, runs at once. Of the heavy ones only so many run at a
//! time, by role, and each has a bound of its own within the memory that all of them share.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result as EngineResult};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, TrackConsumersPool,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::catalog::privileges::Role;
use crate::error::{Error, Kind, Result};
use crate::metrics;

/// A query is heavy from so many bytes of columns on that it has to look at, as they lie in files.
const HEAVY: u64 = 16 << 20;

/// Where only some values of a column are looked for, so many bytes count as one: they are read, and hardly any row is kept.
const LOOKED_THROUGH: u64 = 4;

/// What a value of a type without a width is taken to have.
const TEXT: u64 = 16;

/// What queries may take.
#[derive(Debug, Clone)]
pub struct Resources {
    /// Bytes of memory of all queries together; beyond that they spill, then fail.
    pub memory: usize,
    /// Bytes of memory of one query.
    pub memory_per_query: usize,
    /// Bytes of memory of all jobs together.
    pub memory_of_jobs: usize,
    /// Where they spill; the system's folder for temporary files if nothing is said.
    pub spill_folder: Option<PathBuf>,
    /// Bytes that all queries together may spill.
    pub spill: u64,
    /// How many heavy queries of a role run at a time.
    pub lanes: Lanes,
}

impl Resources {
    /// What holds where only the memory is given.
    pub fn with_memory(memory: usize) -> Self {
        Resources {
            memory,
            memory_per_query: memory / 2,
            memory_of_jobs: memory / 2,
            spill_folder: None,
            spill: 100 << 30,
            lanes: Lanes::default(),
        }
    }

    /// What spills into the folder, and counts the memory.
    pub fn runtime(&self) -> RuntimeEnvBuilder {
        let five = std::num::NonZeroUsize::MIN.saturating_add(4);
        let pool = TrackConsumersPool::new(FairSpillPool::new(self.memory), five);
        let mode = match &self.spill_folder {
            Some(folder) => DiskManagerMode::Directories(vec![folder.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(self.spill);
        RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_disk_manager_builder(disk)
    }
}

/// How many heavy queries of each role run at a time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lanes {
    /// Readers.
    pub reader: Lane,
    /// Writers.
    pub writer: Lane,
    /// Admins.
    pub admin: Lane,
}

/// How many heavy queries of one role run at a time.
#[derive(Debug, Clone, Copy)]
pub struct Lane {
    /// More than these wait.
    pub queries: usize,
    /// More than these that wait are refused.
    pub queue: usize,
    /// How long one waits before it is refused.
    pub wait: Duration,
}

impl Default for Lane {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Lane { queries: 2 * cores, queue: 100, wait: Duration::from_secs(60) }
    }
}

/// Runs queries within what they may take.
#[derive(Debug)]
pub struct Workload {
    reader: Gate,
    writer: Gate,
    admin: Gate,
    memory_per_query: usize,
}

impl Workload {
    /// Nothing runs yet.
    pub fn new(resources: &Resources) -> Arc<Self> {
        let Lanes { reader, writer, admin } = resources.lanes;
        Arc::new(Workload {
            reader: Gate::new(Role::Reader, reader),
            writer: Gate::new(Role::Writer, writer),
            admin: Gate::new(Role::Admin, admin),
            memory_per_query: resources.memory_per_query,
        })
    }

    /// Lets somebody with this role run a plan: gives what to run it with, and the place to [hold](holding) meanwhile.
    pub async fn admit(
        &self,
        role: Role,
        weight: Weight,
        context: TaskContext,
    ) -> Result<(Arc<TaskContext>, Option<OwnedSemaphorePermit>)> {
        if !weight.is_heavy() {
            return Ok((Arc::new(context), None));
        }
        let place = self.gate(role).enter().await?;
        Ok((self.with_share(context), Some(place)))
    }

    /// How many heavy queries of a role run now, and how many wait.
    pub fn now(&self, role: Role) -> (usize, usize) {
        let gate = self.gate(role);
        let running = gate.lane.queries - gate.places.available_permits();
        (running, gate.waiting.load(Ordering::Relaxed))
    }

    fn gate(&self, role: Role) -> &Gate {
        match role {
            Role::Reader => &self.reader,
            Role::Writer => &self.writer,
            Role::Admin => &self.admin,
        }
    }

    /// The same, with memory that counts as one query's.
    fn with_share(&self, context: TaskContext) -> Arc<TaskContext> {
        let runtime = share_of(&context.runtime_env(), self.memory_per_query);
        Arc::new(context.with_runtime(Arc::new(runtime)))
    }
}

/// The same with at most so many bytes of its memory.
pub fn share_of(all: &RuntimeEnv, most: usize) -> RuntimeEnv {
    let share = Share { of: Arc::clone(&all.memory_pool), most, own: FairSpillPool::new(most) };
    RuntimeEnv { memory_pool: Arc::new(share), ..all.clone() }
}

/// The same rows; the place is held as long as there may be more of them.
pub fn holding(
    rows: SendableRecordBatchStream,
    place: Option<OwnedSemaphorePermit>,
) -> SendableRecordBatchStream {
    let Some(place) = place else { return rows };
    let schema = rows.schema();
    let rows = rows.inspect(move |_| {
        let _ = &place;
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// What a plan's work may come to.
#[derive(Debug, Clone, Copy)]
pub struct Weight {
    /// Bytes of the files that it looks at, whichever columns and pages of them it needs in the end.
    pub bytes: u64,
    /// About how many of these are of columns that it needs; less of what it only looks through for some values.
    pub of_columns: u64,
    /// Whether it may make much of little.
    pub unbounded: bool,
}

impl Weight {
    /// That of a plan.
    pub fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        let (mut bytes, mut of_columns, mut unbounded) = (0, 0, false);
        let walked = plan.apply(|node| {
            unbounded |=
                node.is::<CrossJoinExec>() || node.is::<NestedLoopJoinExec>() || node.is::<LazyMemoryExec>();
            let scan = node.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source);
            if let Some(config) = scan.and_then(|source| source.downcast_ref::<FileScanConfig>()) {
                let files = config.file_groups.iter().flat_map(|group| group.iter());
                let size = files.map(PartitionedFile::effective_size).sum::<u64>();
                let (needed, all) = (width(&node.schema()), width(config.file_schema()));
                bytes += size;
                let needed = (u128::from(size) * u128::from(needed.min(all)) / u128::from(all)) as u64;
                of_columns += if looks_for_values(config) { needed / LOOKED_THROUGH } else { needed };
            }
            Ok(TreeNodeRecursion::Continue)
        });
        Weight { bytes, of_columns, unbounded: unbounded || walked.is_err() }
    }

    /// Whether the work may be big.
    pub fn is_heavy(self) -> bool {
        self.unbounded || self.of_columns >= HEAVY
    }
}

/// Whether a scan is for some values of a column: `product_id = 'x'`, `IN (…)`.
fn looks_for_values(scan: &FileScanConfig) -> bool {
    let filter = scan.file_source().filter();
    let guarantees = filter.map(|filter| LiteralGuarantee::analyze(&filter)).unwrap_or_default();
    guarantees.iter().any(|guarantee| guarantee.guarantee == Guarantee::In)
}

/// Bytes of a row in memory, at a guess; never 0.
pub fn width(schema: &Schema) -> u64 {
    let of = |data_type: &DataType| match data_type {
        DataType::Boolean => 1,
        other => other.primitive_width().map_or(TEXT, |width| width as u64),
    };
    schema.fields().iter().map(|field| of(field.data_type())).sum::<u64>().max(1)
}

/// What heavy queries of one role pass.
#[derive(Debug)]
struct Gate {
    role: Role,
    lane: Lane,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Gate {
    fn new(role: Role, lane: Lane) -> Self {
        Gate { role, lane, places: Arc::new(Semaphore::new(lane.queries)), waiting: AtomicUsize::new(0) }
    }

    /// A place, in the order in which they were asked for.
    async fn enter(&self) -> Result<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let role = self.role.name();
        let Lane { queries, queue, wait } = self.lane;
        let refused = |what: String| {
            metrics::refused("queue");
            Error::new(
                Kind::TooManyQueries,
                format!("{queries} heavy queries of the role {role} are running, {what}"),
            )
            .with_hint("try again later, or raise queries in the limits of the role")
        };
        let waiting = Waiting::of(&self.waiting);
        if waiting.before >= queue {
            return Err(refused(format!("and {queue} are waiting")));
        }
        match tokio::time::timeout(wait, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(Error::internal("the places of queries are gone")),
            Err(_) => Err(refused(format!("and this one has waited for {} s", wait.as_secs_f64()))),
        }
    }
}

/// One who waits, until it is dropped.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn of(all: &'a AtomicUsize) -> Self {
        Waiting { all, before: all.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One query's share of a pool.
#[derive(Debug)]
struct Share {
    of: Arc<dyn MemoryPool>,
    most: usize,
    /// Divides it among the query's own parts: were it first come, first served, one sort would take all of it, and the next one
    /// would have nothing to spill.
    own: FairSpillPool,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a query's {} bytes of {}", self.most, self.of)
    }
}

impl MemoryPool for Share {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
        self.of.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
        self.of.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.of.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.of.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> EngineResult<()> {
        self.own.try_grow(reservation, additional).map_err(|_| {
            DataFusionError::ResourcesExhausted(format!(
                "{} needs {additional} bytes more, and the query has {} of the {} that it may take",
                reservation.consumer().name(),
                self.own.reserved(),
                self.most
            ))
        })?;
        self.of.try_grow(reservation, additional).inspect_err(|_| self.own.shrink(reservation, additional))
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.most)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Field;
    use datafusion::common::DFSchema;
    use datafusion::datasource::physical_plan::{FileScanConfigBuilder, ParquetSource};
    use datafusion::execution::object_store::ObjectStoreUrl;
    use datafusion::logical_expr::{Expr, col, lit};
    use datafusion::prelude::SessionContext;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// What a scan of a file weighs that has two numbers and two texts, by its size, the columns that are needed and a filter.
    fn weight(size: u64, columns: &[usize], filter: Option<Expr>) -> Weight {
        let (number, text) = (DataType::Int64, DataType::Utf8View);
        let fields = [("n", &number), ("m", &number), ("a", &text), ("b", &text)];
        let schema = fields.map(|(name, data_type)| Field::new(name, data_type.clone(), true));
        let schema = Arc::new(Schema::new(schema.to_vec()));
        let mut source = ParquetSource::new(Arc::clone(&schema));
        if let Some(filter) = filter {
            let schema = DFSchema::try_from(schema).unwrap();
            source =
                source.with_predicate(SessionContext::new().create_physical_expr(filter, &schema).unwrap());
        }
        let scan = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file(PartitionedFile::new("f", size))
            .with_projection_indices(Some(columns.to_vec()))
            .unwrap()
            .build();
        Weight::of(&(DataSourceExec::from_data_source(scan) as Arc<dyn ExecutionPlan>))
    }

    #[test]
    fn a_query_weighs_what_it_needs() {
        let all = [0, 1, 2, 3];
        assert!(weight(16 * MIB, &all, None).is_heavy());
        assert!(!weight(16 * MIB - 1, &all, None).is_heavy());
        // One of two numbers and two texts is a sixth of a row.
        assert!(!weight(90 * MIB, &[0], None).is_heavy());
        assert!(weight(97 * MIB, &[0], None).is_heavy());
        assert_eq!(weight(90 * MIB, &[0], None).bytes, 90 * MIB);
        // Who looks for a key keeps hardly a row.
        let key = || Some(col("n").eq(lit(7_i64)));
        assert!(!weight(63 * MIB, &all, key()).is_heavy());
        assert!(weight(64 * MIB, &all, key()).is_heavy());
        assert!(weight(16 * MIB, &all, Some(col("n").gt(lit(7_i64)))).is_heavy());
    }
}
