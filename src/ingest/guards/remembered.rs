//! What guards remember, as rows of the side table: written beside the events, and read again.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, Int64Array, Int64Builder, RecordBatch,
    StringViewArray, StringViewBuilder, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::common::{Column, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col, lit};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use super::GuardOptions;
use super::dedup::RecentEvents;
use super::max_per_key::Counts;
use crate::catalog::events::EventsTable;
use crate::catalog::recent_keys::{SCHEMA, TIME};
use crate::catalog::warehouse::Warehouse;
use crate::error::{Error, Result};
use crate::lake::action::Add;
use crate::lake::event_times::Partition;
use crate::lake::provider::Files;
use crate::lake::snapshot::File;
use crate::lake::store::Store;
use crate::lake::writer::FileWriter;

/// Rows that are written at once.
const ROWS: usize = 1 << 16;

/// What the warehouse has of a partition's guards.
#[derive(Debug)]
pub(super) struct Remembered {
    store: Store,
    table_name: String,
    table_id: String,
    partition: Partition,
    dedup: Option<Guard>,
    max_per_key: Option<Guard>,
    /// How far the partition had come when this was last written.
    reached: Option<i64>,
}

/// A guard as its rows name it.
#[derive(Debug, Clone)]
struct Guard {
    /// Says what its keys are made of: what was remembered by others says nothing.
    name: String,
    /// For how long it remembers.
    span: i64,
}

impl Remembered {
    pub(super) fn new(
        options: &GuardOptions,
        warehouse: &Warehouse,
        events: &EventsTable,
        partition: &Partition,
    ) -> Self {
        let dedup = options.dedup.as_ref().map(|dedup| Guard {
            name: format!("dedup {}", serde_json::json!(dedup.key)),
            span: dedup.window,
        });
        let max_per_key = options.max_per_key.as_ref().map(|max| Guard {
            name: format!("max_per_key {} {}", serde_json::json!(max.keys), max.per),
            span: max.per.saturating_mul(2),
        });
        Remembered {
            store: warehouse.recent_keys().store().clone(),
            table_name: events.table().name().to_owned(),
            table_id: events.table().snapshot().metadata.id.clone(),
            partition: partition.clone(),
            dedup,
            max_per_key,
            reached: None,
        }
    }

    /// Writes what is new. `highest` is how far the partition has come.
    pub(super) async fn write(
        &mut self,
        recent: Option<&mut RecentEvents>,
        counts: Option<&mut Counts>,
        highest: i64,
    ) -> Result<Vec<Add>> {
        let mut writer = FileWriter::new(&self.store, Arc::clone(&SCHEMA), None);
        let mut written = vec![];
        let mut news = self.reached.is_none_or(|reached| reached < highest);
        if let (Some(guard), Some(recent)) = (&self.dedup, recent) {
            let mut rows = NewRows::default();
            recent.each_new(|key, time| rows.add(key, time, None));
            written.push((guard, rows));
        }
        if let (Some(guard), Some(counts)) = (&self.max_per_key, counts) {
            let mut rows = NewRows::default();
            counts.each_new(|key, begin, count| rows.add(key, begin, Some(count)));
            written.push((guard, rows));
        }
        news |= written.iter().any(|(_, rows)| !rows.times.is_empty());
        if !news {
            return Ok(vec![]);
        }
        for (guard, mut rows) in written {
            rows.reached(highest, guard.span);
            let batch = self.batch(guard, rows)?;
            for from in (0..batch.num_rows()).step_by(ROWS) {
                writer.write(&batch.slice(from, ROWS.min(batch.num_rows() - from))).await?;
            }
        }
        self.reached = Some(highest);
        writer.finish().await
    }

    fn batch(&self, guard: &Guard, mut rows: NewRows) -> Result<RecordBatch> {
        let n = rows.times.len();
        let same = |text: &str| Arc::new(repeated(text, n)) as ArrayRef;
        let columns: Vec<ArrayRef> = vec![
            same(&self.table_name),
            same(&self.table_id),
            same(&self.partition.source),
            Arc::new(Int64Array::from_value(self.partition.number, n)),
            same(&guard.name),
            Arc::new(rows.keys.finish()),
            Arc::new(TimestampMicrosecondArray::from(rows.times).with_timezone("UTC")),
            Arc::new(rows.counts.finish()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?)
    }

    /// Reads what is remembered. `reached` is how far the partition has come at least: what is too old by that is left out.
    pub(super) async fn read(
        &mut self,
        table_id: &str,
        files: Vec<Arc<File>>,
        reached: Option<i64>,
    ) -> Result<Reading> {
        self.table_id = table_id.to_owned();
        let column = |name: &str| col(Column::new_unqualified(name));
        let guards: Vec<&Guard> = self.dedup.iter().chain(&self.max_per_key).collect();
        let mut filter = column("table_id")
            .eq(lit(self.table_id.as_str()))
            .and(column("source").eq(lit(self.partition.source.as_str())))
            .and(column("partition").eq(lit(self.partition.number)))
            .and(column("guard").in_list(guards.iter().map(|g| lit(g.name.as_str())).collect(), false));
        if let Some(reached) = reached {
            let span = guards.iter().map(|g| g.span).max().unwrap_or_default();
            let oldest =
                ScalarValue::TimestampMicrosecond(Some(reached.saturating_sub(span)), Some("UTC".into()));
            filter = filter.and(column(TIME).gt_eq(Expr::Literal(oldest, None)));
        }
        let rows = Files::new(&self.store, Arc::clone(&SCHEMA), files).into_plan("recent_keys")?;
        let plan = LogicalPlanBuilder::from(rows)
            .filter(filter)?
            .project(["guard", "key", TIME, "count"].map(column))?
            .build()?;
        let stream = SessionContext::new().execute_logical_plan(plan).await?.execute_stream().await?;
        Ok(Reading { stream, dedup: self.dedup.as_ref().map(|guard| guard.name.clone()) })
    }

    /// Takes in how far the partition had come when something was written.
    pub(super) fn reached(&mut self, highest: i64) {
        self.reached = self.reached.max(Some(highest));
    }
}

/// What is new of one guard.
#[derive(Default)]
struct NewRows {
    keys: BinaryViewBuilder,
    times: Vec<i64>,
    counts: Int64Builder,
}

impl NewRows {
    fn add(&mut self, key: &[u8], time: i64, count: Option<i64>) {
        self.keys.append_value(key);
        self.times.push(time);
        self.counts.append_option(count);
    }

    fn reached(&mut self, highest: i64, span: i64) {
        self.keys.append_null();
        self.times.push(highest);
        self.counts.append_value(span);
    }
}

/// A text so many times.
fn repeated(text: &str, n: usize) -> StringViewArray {
    let mut texts = StringViewBuilder::with_capacity(n).with_deduplicate_strings();
    (0..n).for_each(|_| texts.append_value(text));
    texts.finish()
}

/// Rows on their way in.
pub(super) struct Reading {
    stream: SendableRecordBatchStream,
    /// How rows of `dedup` name it.
    dedup: Option<String>,
}

/// Rows that are remembered.
pub(super) struct RowsRead {
    /// Whether a row is one of `dedup`.
    events: Vec<bool>,
    keys: BinaryViewArray,
    times: TimestampMicrosecondArray,
    counts: Int64Array,
}

/// A row that is remembered.
pub(super) enum Row<'a> {
    /// An event was taken.
    Event { key: &'a [u8], time: i64 },
    /// A key had so many events in a bucket.
    Count { key: &'a [u8], begin: i64, count: i64 },
    /// The partition had come so far.
    Reached { highest: i64 },
}

impl Reading {
    /// The next rows; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<RowsRead>> {
        let Some(batch) = self.stream.try_next().await? else { return Ok(None) };
        let guards = batch.column(0).as_string_view_opt();
        let guards = guards.ok_or_else(|| Error::internal("recent keys without the name of their guard"))?;
        Ok(Some(RowsRead {
            events: guards.iter().map(|name| name == self.dedup.as_deref()).collect(),
            keys: batch.column(1).as_binary_view().clone(),
            times: batch.column(2).as_primitive::<TimestampMicrosecondType>().clone(),
            counts: batch.column(3).as_primitive::<Int64Type>().clone(),
        }))
    }
}

impl RowsRead {
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn row(&self, row: usize) -> Row<'_> {
        let time = self.times.value(row);
        if self.keys.is_null(row) {
            return Row::Reached { highest: time };
        }
        let key = self.keys.value(row);
        match self.events[row] {
            true => Row::Event { key, time },
            false => Row::Count { key, begin: time, count: self.counts.value(row) },
        }
    }
}
