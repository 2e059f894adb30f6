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
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use datafusion::prelude::Expr;
use futures::StreamExt;

use super::options::TableOptions;
use crate::error::{Error, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::Change;
use crate::lake::instant::shown;
use crate::lake::pin::Pins;
use crate::lake::scan::Scan;
use crate::lake::table::Table;
use crate::lake::writer::{FileWriter, conform};

/// The table.
#[derive(Debug)]
pub struct EventsTable {
    table: Arc<Table>,
    schema: SchemaRef,
    options: TableOptions,
}

impl EventsTable {
    /// The table as its newest known metadata describe it.
    pub fn new(table: Arc<Table>) -> Self {
        let snapshot = table.snapshot();
        let options = TableOptions::from_configuration(&snapshot.metadata.configuration);
        EventsTable { table, schema: Arc::clone(&snapshot.schema), options }
    }

    /// The Delta table.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The options.
    pub fn options(&self) -> &TableOptions {
        &self.options
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
        let snapshot = Pins::of(state.config()).snapshot(&self.table).await?;
        let files = snapshot.files.values().cloned().collect();
        let scan =
            Scan { store: self.table.store(), schema: &self.schema, files, projection, filters, limit };
        Ok(scan.plan(state)?)
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        if op != InsertOp::Append {
            return Err(Error::not_supported("only INSERT INTO is possible, not OVERWRITE").into());
        }
        let sink = Sink {
            table: Arc::clone(&self.table),
            schema: nullable(&self.schema),
            stored: self.schema(),
            options: self.options.clone(),
        };
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)))
    }
}

/// Writes rows and commits them once, at the end.
#[derive(Debug)]
struct Sink {
    table: Arc<Table>,
    /// What is taken in: NULLs everywhere, so that it is the table that refuses them, and names the column.
    schema: SchemaRef,
    stored: SchemaRef,
    options: TableOptions,
}

fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl DisplayAs for Sink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table={}", self.table.name())
    }
}

#[async_trait]
impl DataSink for Sink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(&self, data: SendableRecordBatchStream, _: &Arc<TaskContext>) -> EngineResult<u64> {
        let name = self.table.name();
        append(&self.table, &self.stored, &self.options, data)
            .await
            .map_err(|e| DataFusionError::from(e.context(format!("table '{name}'"))))
    }
}

/// Appends rows in one commit.
pub async fn append(
    table: &Table,
    schema: &SchemaRef,
    options: &TableOptions,
    mut rows: SendableRecordBatchStream,
) -> Result<u64> {
    let mut change = Change::new(CommitKind::Append, "WRITE", &*table.update().await?);
    let mut writer = FileWriter::new(table.store(), Arc::clone(schema), None);
    let check = TimeCheck::new(options, schema);
    while let Some(batch) = rows.next().await {
        let batch = conform(&batch?, schema)?;
        check.check(&batch)?;
        writer.write(&batch).await?;
    }
    let rows = writer.rows();
    change.adds = writer.finish().await?;
    if rows > 0 {
        table.commit(&change).await?;
    }
    Ok(rows)
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
