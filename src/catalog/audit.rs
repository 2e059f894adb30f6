//! `SELECT * FROM audit('rollup', from, to [, 'source'])`: where a rollup and the raw events differ.
//!
//! A line for each bucket, key and measure. The columns are the same for every rollup, so that one query can audit
//! several: the keys are one JSON object, `keys->>'country'` to a PostgreSQL user, and values are shown as text.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray};
use datafusion::arrow::compute::kernels::boolean::or;
use datafusion::arrow::compute::kernels::cmp::neq;
use datafusion::arrow::compute::{cast, concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::arrow::json::WriterBuilder;
use datafusion::arrow::json::writer::LineDelimited;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, Result as EngineResult, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::TableType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::Expr;
use futures::{StreamExt, TryStreamExt};

use super::access::Access;
use super::jobs::Jobs;
use super::privileges::Privilege;
use super::warehouse::Warehouse;
use crate::error::{Error, Result};
use crate::lake::instant::instant;
use crate::lake::pin::Pins;
use crate::lake::range::TimeRanges;
use crate::lake::schema::timestamp;
use crate::rollup::audit::{Basis, IN_EXPECTED, IN_FOUND, different, key, sides};
use crate::rollup::definition::Definition;
use crate::rollup::view::Rollup;

/// The function's name.
pub const NAME: &str = "audit";

/// The table function.
#[derive(Debug)]
pub struct AuditFunction {
    warehouse: Arc<Warehouse>,
    access: Option<Access>,
}

impl AuditFunction {
    /// The function over a warehouse. Without anybody's access it is for the definitions of views.
    pub fn new(warehouse: &Arc<Warehouse>, access: Option<&Access>) -> Self {
        AuditFunction { warehouse: Arc::clone(warehouse), access: access.cloned() }
    }
}

impl TableFunctionImpl for AuditFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> EngineResult<Arc<dyn TableProvider>> {
        let values = args.exprs().iter().map(|expr| match expr {
            Expr::Literal(value, _) if !value.is_null() => Ok(value.clone()),
            other => Err(usage(format!("{other} is not a value"))),
        });
        let values = values.collect::<Result<Vec<_>>>()?;
        let (rollup, from, to, basis) = match values.as_slice() {
            [rollup, from, to] => (rollup, from, to, Basis::Events),
            [rollup, from, to, basis] => (rollup, from, to, basis_of(basis)?),
            other => return Err(usage(format!("it takes 3 or 4 arguments, and got {}", other.len())).into()),
        };
        let Some(rollup) = rollup.try_as_str().flatten() else {
            return Err(usage(format!("{rollup} is not the name of a rollup")).into());
        };
        let zone = args.session().config().options().execution.time_zone.clone();
        let audit = Audit {
            warehouse: Arc::clone(&self.warehouse),
            access: self.access.clone(),
            rollup: rollup.to_owned(),
            from: from.clone(),
            to: to.clone(),
            zone,
            basis,
            schema: schema(),
        };
        Ok(Arc::new(audit))
    }
}

fn usage(what: String) -> Error {
    Error::invalid_input(format!("audit: {what}"))
        .with_hint("write audit('rollup', 'from', 'to' [, 'source'])")
}

fn basis_of(value: &ScalarValue) -> Result<Basis> {
    match value.try_as_str().flatten().map(str::to_lowercase).as_deref() {
        Some("source") => Ok(Basis::Source),
        Some("events") => Ok(Basis::Events),
        _ => Err(usage(format!("{value} is neither 'events' nor 'source'"))),
    }
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8View, true);
    Arc::new(Schema::new(vec![
        Field::new("bucket", timestamp(true), true),
        text("keys"),
        text("measure"),
        text("expected"),
        text("found"),
        text("problem"),
    ]))
}

/// One call of the function.
#[derive(Debug)]
pub struct Audit {
    warehouse: Arc<Warehouse>,
    /// Whose session it is for.
    access: Option<Access>,
    rollup: String,
    from: ScalarValue,
    to: ScalarValue,
    zone: Option<String>,
    basis: Basis,
    schema: SchemaRef,
}

impl Audit {
    /// The rollup that is audited.
    pub async fn rollup(&self) -> Result<Arc<Rollup>> {
        let rollup = self.warehouse.rollup(&self.rollup).await?;
        if let Some(access) = &self.access {
            access.check(Privilege::Select, &self.warehouse, &self.rollup)?;
        }
        Ok(rollup)
    }

    fn ranges(&self, definition: &Definition) -> Result<TimeRanges> {
        let zone = if definition.has_zone() { self.zone.as_deref() } else { None };
        let at = |value| instant(value, zone).map_err(|e| e.context(NAME));
        Ok([(at(&self.from)?, at(&self.to)?)].into_iter().collect())
    }
}

#[async_trait]
impl TableProvider for Audit {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let Some(session) = state.as_any().downcast_ref::<SessionState>() else {
            return Err(DataFusionError::Internal("an audit is planned in a session of the engine".into()));
        };
        let rollup = self.rollup().await?;
        let pinned = rollup.pin(&Pins::of(state.config())).await?;
        let plan = pinned.differences(&self.ranges(&rollup.definition)?, self.basis).await?;
        let differences = Differences {
            plan: session.create_physical_plan(&plan).await?,
            measures: rollup.definition.measure_columns().map(str::to_owned).collect(),
            keys: rollup.definition.key_columns().map(str::to_owned).collect(),
            schema: self.schema(),
            rollup: self.rollup.clone(),
            jobs: Arc::clone(self.warehouse.jobs()),
        };
        let partition: Arc<dyn PartitionStream> = Arc::new(differences);
        let exec =
            StreamingTableExec::try_new(self.schema(), vec![partition], projection, None, false, limit)?;
        Ok(Arc::new(exec))
    }
}

/// The rows that differ, on their way to being lines.
#[derive(Debug)]
struct Differences {
    plan: Arc<dyn ExecutionPlan>,
    measures: Vec<String>,
    keys: Vec<String>,
    schema: SchemaRef,
    rollup: String,
    jobs: Arc<Jobs>,
}

impl PartitionStream for Differences {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (measures, keys, schema) = (self.measures.clone(), self.keys.clone(), Arc::clone(&self.schema));
        let lines = match execute_stream(Arc::clone(&self.plan), context) {
            Ok(rows) => rows,
            Err(e) => {
                let failed = futures::stream::once(async move { Err(e) });
                return Box::pin(RecordBatchStreamAdapter::new(schema, failed));
            }
        };
        let shown = Arc::clone(&schema);
        let lines = lines.and_then(move |batch| {
            let lines = lines_of(&batch, &measures, &keys, &shown).map_err(DataFusionError::from);
            async move { lines }
        });
        // An audit that was read to its end has found so many.
        let (jobs, rollup, found) =
            (Arc::clone(&self.jobs), self.rollup.clone(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&found);
        let lines = lines.inspect_ok(move |lines| {
            counted.fetch_add(lines.num_rows() as u64, Ordering::Relaxed);
        });
        let end = futures::stream::poll_fn(move |_| {
            jobs.audited(&rollup, found.load(Ordering::Relaxed));
            Poll::Ready(None)
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, lines.chain(end)))
    }
}

/// A line for each measure that differs.
fn lines_of(
    rows: &RecordBatch,
    measures: &[String],
    keys: &[String],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let column = |rows: &RecordBatch, name: &str| {
        let found = rows.column_by_name(name).map(Arc::clone);
        found.ok_or_else(|| Error::internal(format!("an audit without the column {name}")))
    };
    let (in_expected, in_found) = (column(rows, IN_EXPECTED)?, column(rows, IN_FOUND)?);
    let lonely = neq(in_expected.as_primitive::<Int64Type>(), in_found.as_primitive::<Int64Type>())?;
    let mut lines = vec![];
    for (i, measure) in measures.iter().enumerate() {
        let differs = column(rows, &different(i))?;
        let rows = filter_record_batch(rows, &or(differs.as_boolean(), &lonely)?)?;
        if rows.num_rows() == 0 {
            continue;
        }
        let (expected, found) = sides(i);
        lines.push(RecordBatch::try_new(
            Arc::clone(schema),
            vec![
                cast(&column(&rows, &key(0))?, &timestamp(true))?,
                keys_of(&rows, keys)?,
                Arc::new(StringViewArray::from_iter_values((0..rows.num_rows()).map(|_| measure))),
                texts(&column(&rows, &expected)?)?,
                texts(&column(&rows, &found)?)?,
                problems(&column(&rows, IN_EXPECTED)?, &column(&rows, IN_FOUND)?),
            ],
        )?);
    }
    Ok(concat_batches(schema, &lines)?)
}

/// The keys of each row as a JSON object.
fn keys_of(rows: &RecordBatch, keys: &[String]) -> Result<ArrayRef> {
    if keys.is_empty() {
        return Ok(Arc::new(StringViewArray::from_iter_values((0..rows.num_rows()).map(|_| "{}"))));
    }
    let places: Vec<usize> = (1..=keys.len()).collect();
    let columns = rows.project(&places)?;
    let named = columns
        .schema()
        .fields()
        .iter()
        .zip(keys)
        .map(|(f, name)| f.as_ref().clone().with_name(name))
        .collect::<Vec<_>>();
    let columns = RecordBatch::try_new(Arc::new(Schema::new(named)), columns.columns().to_vec())?;
    let mut json = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(vec![]);
    json.write(&columns)?;
    json.finish()?;
    let json = String::from_utf8(json.into_inner())
        .map_err(|e| Error::internal(format!("keys that are not text: {e}")))?;
    Ok(Arc::new(StringViewArray::from_iter_values(json.lines())))
}

/// Values as text; of a sketch, its size.
fn texts(values: &dyn Array) -> Result<ArrayRef> {
    if let Some(sketches) = values.as_binary_opt::<i32>() {
        let sizes = sketches.iter().map(|s| s.map(|bytes| format!("a sketch of {} bytes", bytes.len())));
        return Ok(Arc::new(sizes.collect::<StringViewArray>()));
    }
    let options = FormatOptions::default();
    let shown = ArrayFormatter::try_new(values, &options)?;
    let texts = (0..values.len()).map(|i| values.is_valid(i).then(|| shown.value(i).to_string()));
    Ok(Arc::new(texts.collect::<StringViewArray>()))
}

fn problems(expected: &dyn Array, found: &dyn Array) -> ArrayRef {
    let (expected, found) = (expected.as_primitive::<Int64Type>(), found.as_primitive::<Int64Type>());
    let each =
        expected.values().iter().zip(found.values()).map(|(expected, found)| match expected.cmp(found) {
            std::cmp::Ordering::Greater => "missing row",
            std::cmp::Ordering::Less => "surplus row",
            std::cmp::Ordering::Equal => "other value",
        });
    Arc::new(StringViewArray::from_iter_values(each))
}
