//! `toplake.sources`: where the rows of each events table come from, and how far each of these has come.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    BooleanArray, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as EngineResult;
use datafusion::logical_expr::TableType;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::Expr;

use super::warehouse::{Object, Warehouse};
use crate::error::Result;
use crate::lake::pin::Pins;
use crate::lake::schema::timestamp;

/// The source of rows that came by no stream: INSERT, files, other writers.
const BATCH: &str = "batch";

/// The topic of a source; `None` if it is none of Kafka's, which are `kafka:<cluster>/<topic>/<topic id>`.
pub fn topic_of(source: &str) -> Option<&str> {
    let (rest, _id) = source.strip_prefix("kafka:")?.rsplit_once('/')?;
    rest.rsplit_once('/').map(|(_cluster, topic)| topic)
}

/// The system table.
#[derive(Debug)]
pub struct Sources {
    warehouse: Arc<Warehouse>,
    schema: SchemaRef,
}

struct Row {
    table: String,
    source: String,
    partition: Option<i64>,
    position: Option<i64>,
    highest: Option<i64>,
    watermark: Option<i64>,
    idle: Option<bool>,
}

impl Sources {
    /// The sources of a warehouse's tables.
    pub fn new(warehouse: Arc<Warehouse>) -> Self {
        let text = |name: &str| Field::new(name, DataType::Utf8View, true);
        let number = |name: &str| Field::new(name, DataType::Int64, true);
        let time = |name: &str| Field::new(name, timestamp(true), true);
        let schema = Schema::new(vec![
            text("table_name"),
            text("source"),
            number("partition"),
            number("position"),
            time("highest_event_time"),
            time("watermark"),
            Field::new("idle", DataType::Boolean, true),
        ]);
        Sources { warehouse, schema: Arc::new(schema) }
    }

    async fn rows(&self, pins: &Pins) -> Result<Vec<Row>> {
        let mut rows = vec![];
        for name in self.warehouse.list().await? {
            let Ok(Some(Object::Table(events))) = self.warehouse.get(&name).await else { continue };
            let lateness = events.options().allowed_lateness;
            let snapshot = pins.snapshot(events.table()).await?;
            let late = |highest: Option<i64>| highest.map(|time| time.saturating_sub(lateness));
            for (partition, reached) in snapshot.event_times.streams() {
                rows.push(Row {
                    table: name.clone(),
                    source: partition.source.clone(),
                    partition: Some(partition.number),
                    position: snapshot.position(&partition.consumed_app(&snapshot.metadata.id)),
                    highest: reached.highest,
                    watermark: late(reached.highest),
                    idle: Some(reached.idle),
                });
            }
            if let Some(highest) = snapshot.event_times.batches() {
                rows.push(Row {
                    table: name,
                    source: BATCH.to_owned(),
                    partition: None,
                    position: None,
                    highest: Some(highest),
                    watermark: late(Some(highest)),
                    idle: None,
                });
            }
        }
        Ok(rows)
    }

    fn batch(&self, rows: &[Row]) -> Result<RecordBatch> {
        let times = |each: fn(&Row) -> Option<i64>| {
            Arc::new(rows.iter().map(each).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        };
        let numbers = |each: fn(&Row) -> Option<i64>| Arc::new(rows.iter().map(each).collect::<Int64Array>());
        let texts =
            |each: fn(&Row) -> &str| Arc::new(StringViewArray::from_iter_values(rows.iter().map(each)));
        Ok(RecordBatch::try_new(
            Arc::clone(&self.schema),
            vec![
                texts(|row| &row.table),
                texts(|row| &row.source),
                numbers(|row| row.partition),
                numbers(|row| row.position),
                times(|row| row.highest),
                times(|row| row.watermark),
                Arc::new(rows.iter().map(|row| row.idle).collect::<BooleanArray>()),
            ],
        )?)
    }
}

#[async_trait]
impl TableProvider for Sources {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let rows = self.batch(&self.rows(&Pins::of(state.config())).await?)?;
        let exec = MemorySourceConfig::try_new_exec(&[vec![rows]], self.schema(), projection.cloned())?;
        Ok(exec)
    }
}
