//! A table with rows of its own: events, or plain rows.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as EngineResult};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use datafusion::prelude::Expr;
use futures::StreamExt;

use super::late::{Divided, EventWriter};
use super::options::TableOptions;
use super::outbox::Route;
use super::transaction::Transaction;
use crate::error::{Error, Kind, Result};
use crate::lake::action::{Add, CommitKind, LedgerEntry};
use crate::lake::committer::{Change, Position};
use crate::lake::instant::shown;
use crate::lake::pin::Pins;
use crate::lake::scan::Scan;
use crate::lake::snapshot::{File, Snapshot};
use crate::lake::store::Store;
use crate::lake::table::Table;
use crate::lake::writer::{conform, discard};

/// The table.
#[derive(Debug)]
pub struct EventsTable {
    table: Arc<Table>,
    schema: SchemaRef,
    options: TableOptions,
    beside: Beside,
}

/// What stands beside a table where rows may come late.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Where its late table is, or would be.
    pub late_store: Option<Store>,
    /// Its late table, if rows are diverted.
    pub late: Option<Arc<Table>>,
    /// Why late rows cannot be diverted, where they should be.
    pub unfit: Option<Arc<Error>>,
    /// Of a late table: the events table whose commits name its files.
    pub events: Option<Arc<Table>>,
}

impl EventsTable {
    /// The table as its newest known metadata describe it.
    pub fn new(table: Arc<Table>) -> Self {
        let snapshot = table.snapshot();
        let options = TableOptions::from_configuration(&snapshot.metadata.configuration);
        EventsTable { table, schema: Arc::clone(&snapshot.schema), options, beside: Beside::default() }
    }

    /// The same with what stands beside it.
    pub fn with(mut self, beside: Beside) -> Self {
        self.beside = beside;
        self
    }

    /// The Delta table.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The options.
    pub fn options(&self) -> &TableOptions {
        &self.options
    }

    /// The schema of the rows.
    pub fn stored(&self) -> &SchemaRef {
        &self.schema
    }

    /// Where the files of late rows are written.
    pub fn late_store(&self) -> Option<&Store> {
        self.beside.late_store.as_ref()
    }

    /// The late table, if rows are diverted.
    pub fn late(&self) -> Option<&Arc<Table>> {
        self.beside.late.as_ref()
    }

    /// Why late rows cannot be diverted, where they should be.
    pub fn unfit(&self) -> Option<&Arc<Error>> {
        self.beside.unfit.as_ref()
    }

    /// The events table that a late table belongs to.
    pub fn late_of(&self) -> Option<&Arc<Table>> {
        self.beside.events.as_ref()
    }

    /// Another handle of the same table.
    pub(super) fn share(&self) -> Self {
        EventsTable {
            table: Arc::clone(&self.table),
            schema: self.schema(),
            options: self.options.clone(),
            beside: self.beside.clone(),
        }
    }

    async fn files(&self, pins: &Pins) -> Result<Vec<Arc<File>>> {
        let snapshot = pins.snapshot(&self.table).await?;
        if snapshot.schema != self.schema {
            // Only where it was pinned before: the files are those of other columns.
            return Err(Error::conflict(format!(
                "'{}' was altered or made anew meanwhile",
                self.table.name()
            )));
        }
        let mut files: Vec<Arc<File>> = snapshot.files.values().cloned().collect();
        if let Some(events) = &self.beside.events {
            let named = Route::Late.pending(&snapshot, events, &*pins.snapshot(events).await?).await?;
            files.extend(named.into_iter().map(|add| Arc::new(File::new(add))));
        }
        Ok(files)
    }
}

#[async_trait]
impl TableProvider for EventsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let files = self.files(&Pins::of(state.config())).await?;
        let scan =
            Scan { store: self.table.store(), schema: &self.schema, files, projection, filters, limit };
        Ok(scan.plan(state)?)
    }

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        if op != InsertOp::Append {
            return Err(Error::not_supported("only INSERT INTO is possible, not OVERWRITE").into());
        }
        let sink = Sink {
            schema: nullable(&self.schema),
            events: self.share(),
            transaction: Transaction::of(state.config()),
            metrics: ExecutionPlanMetricsSet::new(),
        };
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)))
    }
}

/// The metric of an INSERT that counts rows which went to the late table.
pub const DIVERTED: &str = "diverted";

/// Writes rows and commits them once, at the end.
#[derive(Debug)]
struct Sink {
    events: EventsTable,
    transaction: Option<Transaction>,
    /// What is taken in: NULLs everywhere, so that it is the table that refuses them, and names the column.
    schema: SchemaRef,
    metrics: ExecutionPlanMetricsSet,
}

fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl DisplayAs for Sink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table={}", self.events.table.name())
    }
}

#[async_trait]
impl DataSink for Sink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    async fn write_all(&self, data: SendableRecordBatchStream, _: &Arc<TaskContext>) -> EngineResult<u64> {
        let name = self.events.table.name();
        let appended = match &self.transaction {
            Some(transaction) => transaction.append(&self.events, data).await,
            None => append(&self.events, data).await,
        };
        let appended = appended.map_err(|e| DataFusionError::from(e.context(format!("table '{name}'"))))?;
        MetricBuilder::new(&self.metrics).global_counter(DIVERTED).add(appended.late as usize);
        Ok(appended.rows)
    }
}

/// What an append has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Appended {
    /// Rows that are stored.
    pub rows: u64,
    /// Rows that went to the late table.
    pub late: u64,
}

/// What one statement or more have written, for a commit to store.
#[derive(Debug)]
pub struct Part {
    /// The rows.
    pub divided: Divided,
    /// What else the commit has.
    pub besides: Besides,
}

/// What a commit of rows has besides them.
#[derive(Debug, Default)]
pub struct Besides {
    /// Positions that it moves; it fails with [`Kind::Conflict`] where another has moved one.
    pub positions: Vec<Position>,
    /// Files of dead letters that become visible, and where they are.
    pub dead: Option<(Store, Vec<Add>)>,
    /// What became of the input, but for what is stored and late: that is known when it is committed.
    pub ledger: Option<LedgerEntry>,
}

impl From<Divided> for Part {
    fn from(divided: Divided) -> Self {
        Part { divided, besides: Besides::default() }
    }
}

impl Part {
    /// Whether there is nothing in it to commit.
    fn is_empty(&self) -> bool {
        let Besides { positions, dead, .. } = &self.besides;
        let dead = dead.as_ref().is_some_and(|(_, dead)| !dead.is_empty());
        self.divided.rows() + self.divided.late_rows() == 0 && positions.is_empty() && !dead
    }

    fn ledger(&self) -> Option<LedgerEntry> {
        let entry = self.besides.ledger.clone()?;
        Some(LedgerEntry { stored: self.divided.rows(), late: self.divided.late_rows(), ..entry })
    }

    /// Removes the files.
    pub async fn discard(&self) {
        self.divided.discard().await;
        if let Some((store, dead)) = &self.besides.dead {
            discard(store, dead).await;
        }
    }
}

/// Times that a commit is planned again after losing to another.
const TRIES: usize = 20;

/// Appends rows in one commit.
pub async fn append(events: &EventsTable, rows: SendableRecordBatchStream) -> Result<Appended> {
    let planned = events.table.update().await?;
    let divided = write(events, &planned, rows).await?;
    commit(events, &planned, vec![divided.into()]).await
}

/// Writes rows into files for a commit that is planned on a version.
async fn write(events: &EventsTable, planned: &Snapshot, rows: SendableRecordBatchStream) -> Result<Divided> {
    let mut writer = EventWriter::new(events, planned);
    match write_into(&mut writer, events, rows).await {
        Ok(()) => writer.finish().await,
        Err(e) => {
            writer.abandon().await;
            Err(e)
        }
    }
}

/// Checks rows and writes them. After an error some may be written.
pub(super) async fn write_into(
    writer: &mut EventWriter,
    events: &EventsTable,
    mut rows: SendableRecordBatchStream,
) -> Result<()> {
    let check = TimeCheck::new(&events.options, &events.schema);
    while let Some(batch) = rows.next().await {
        let batch = conform(&batch?, &events.schema)?;
        check.check(&batch)?;
        writer.write(&batch).await?;
    }
    Ok(())
}

/// Commits files, and has late rows taken into their table. On an error the files are removed, unless a commit may name them.
pub async fn commit(events: &EventsTable, planned: &Snapshot, mut parts: Vec<Part>) -> Result<Appended> {
    let table = &events.table;
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() {
        return Ok(Appended::default());
    }
    match commit_files(table, planned, &mut parts).await {
        Ok(()) => {}
        Err((e, Fate::NotNamed)) => {
            for part in parts {
                part.discard().await;
            }
            return Err(e);
        }
        Err((e, Fate::Unknown)) => return Err(e),
    }
    let rows = parts.iter().map(|part| part.divided.rows()).sum();
    let late_rows = parts.iter().map(|part| part.divided.late_rows()).sum();
    if let (Some(late), true) = (events.late(), late_rows > 0)
        && let Err(e) = Route::Late.follow(table, late).await
    {
        // They are visible by the commit; whoever follows next adds them.
        tracing::warn!(table = table.name(), error = %e, "could not add late rows to their table yet");
    }
    Ok(Appended { rows, late: late_rows })
}

/// What became of files whose commit failed.
enum Fate {
    /// No commit names them.
    NotNamed,
    /// A commit may name them: the store did not say.
    Unknown,
}

/// Commits; again where the watermark or the options have changed meanwhile.
async fn commit_files(table: &Table, planned: &Snapshot, parts: &mut [Part]) -> Result<(), (Error, Fate)> {
    let not_named = |e| (e, Fate::NotNamed);
    let mut change = Change::new(CommitKind::Append, "WRITE", planned);
    change.positions = parts.iter().flat_map(|part| part.besides.positions.iter().cloned()).collect();
    let dead = parts.iter().filter_map(|part| part.besides.dead.as_ref());
    let dead: Vec<Add> = dead.flat_map(|(_, dead)| dead.iter().cloned()).collect();
    Route::DeadLetters.name_in(&mut change, &dead);
    let mut lost = None;
    for _ in 0..TRIES {
        let now = if lost.is_none() {
            Arc::new(planned.clone())
        } else {
            table.update().await.map_err(not_named)?
        };
        if now.metadata.id != planned.metadata.id || now.schema != planned.schema {
            let changed = Error::conflict("its columns were altered meanwhile, or it was made again");
            return Err(not_named(changed));
        }
        if change.positions.iter().any(|p| now.position(&p.app) != p.from) {
            return Err(not_named(Error::conflict("another has moved on meanwhile")));
        }
        let divided = parts.iter_mut().map(|part| &mut part.divided).collect();
        Divided::plan_all(divided, &mut change, &now).await.map_err(not_named)?;
        change.ledger = parts.iter().filter_map(Part::ledger).collect();
        match table.commit(&change).await {
            Err(e) if e.kind() == Kind::Conflict => lost = Some(e),
            done => return done.map(|_| ()).map_err(|e| (e, Fate::Unknown)),
        }
    }
    Err(not_named(lost.unwrap_or_else(|| Error::internal("no try was made"))))
}

/// Refuses events that lie too far ahead: one wrong clock must not move the watermark.
#[derive(Debug)]
pub struct TimeCheck {
    column: Option<(usize, String)>,
    /// No event may be later, in microseconds.
    latest: i64,
}

impl TimeCheck {
    /// A check by this machine's clock of now.
    pub fn new(options: &TableOptions, schema: &SchemaRef) -> Self {
        let column = options.time_column.as_ref().and_then(|c| Some((schema.index_of(c).ok()?, c.clone())));
        let latest = chrono::Utc::now().timestamp_micros().saturating_add(options.max_future);
        TimeCheck { column, latest }
    }

    /// An error that names the first event which is too far ahead.
    pub fn check(&self, batch: &RecordBatch) -> Result<()> {
        let Some((index, name)) = &self.column else { return Ok(()) };
        let times = batch.column(*index).as_primitive::<TimestampMicrosecondType>();
        let Some(highest) = datafusion::arrow::compute::max(times).filter(|highest| *highest > self.latest)
        else {
            return Ok(());
        };
        Err(Error::invalid_value(format!(
            "column '{name}': {} lies further ahead than max_future allows ({})",
            shown(highest),
            shown(self.latest)
        )))
    }

    /// Which rows may not be stored: those with a time that is too far ahead.
    pub fn bad_rows(&self, batch: &RecordBatch) -> Vec<usize> {
        let Some((index, _)) = &self.column else { return vec![] };
        let times = batch.column(*index).as_primitive::<TimestampMicrosecondType>();
        (0..times.len()).filter(|i| times.is_valid(*i) && times.value(*i) > self.latest).collect()
    }
}
