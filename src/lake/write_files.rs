//! Writes rows into files of a table where they are computed, which may be another machine, and gives what a commit has to name.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{AsArray, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as EngineResult, internal_err};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PhysicalExpr,
    PlanProperties,
};
use futures::stream;

use super::action::Add;
use super::snapshot;
use super::store::Store;
use super::writer::FileWriter;
use crate::error::{Error, Result};

/// Where rows go.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The table's place.
    pub store: Store,
    /// Its columns, as users see them.
    pub schema: SchemaRef,
    /// What the files are in a `replace` commit: see [`FileWriter::new`].
    pub part: Option<&'static str>,
}

/// Each partition of the input becomes files of its own. What is written is nobody's until a commit names it; what none names is
/// left to VACUUM.
#[derive(Debug)]
pub struct WriteFilesExec {
    input: Arc<dyn ExecutionPlan>,
    to: Destination,
    properties: Arc<PlanProperties>,
}

impl WriteFilesExec {
    /// Writes what `input` gives.
    pub fn new(input: Arc<dyn ExecutionPlan>, to: Destination) -> Self {
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(told()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        WriteFilesExec { input, to, properties: Arc::new(properties) }
    }

    /// Where the rows go.
    pub fn destination(&self) -> &Destination {
        &self.to
    }
}

/// The rows of a file, and the file as the log names it.
fn told() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("rows", DataType::UInt64, false),
        Field::new("file", DataType::Utf8, false),
    ]))
}

/// What such a plan has told: how many rows were written, and the files.
pub fn files(batches: &[RecordBatch]) -> Result<(u64, Vec<Add>)> {
    let (mut rows, mut adds) = (0, vec![]);
    for batch in batches {
        rows += batch.column(0).as_primitive::<UInt64Type>().values().iter().sum::<u64>();
        for file in batch.column(1).as_string::<i32>().iter().flatten() {
            let add = serde_json::from_str(file)
                .map_err(|e| Error::internal(format!("what was written is not readable: {e}")))?;
            adds.push(add);
        }
    }
    Ok((rows, adds))
}

impl DisplayAs for WriteFilesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteFilesExec: {}", self.to.store.prefix())
    }
}

impl ExecutionPlan for WriteFilesExec {
    fn name(&self) -> &str {
        "WriteFilesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Arc::new(WriteFilesExec::new(input, self.to.clone()))),
            _ => internal_err!("WriteFilesExec has one input"),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> EngineResult<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let to = self.to.clone();
        let written = async move { Ok(write(rows, to).await?) };
        Ok(Box::pin(RecordBatchStreamAdapter::new(told(), stream::once(written))))
    }
}

async fn write(rows: SendableRecordBatchStream, to: Destination) -> Result<RecordBatch> {
    let mut writer = FileWriter::new(&to.store, to.schema, to.part);
    if let Err(e) = writer.write_all(rows).await {
        writer.abandon().await;
        return Err(e);
    }
    let rows = writer.rows();
    let adds = writer.finish().await?;
    let texts = adds.iter().map(|add| {
        serde_json::to_string(add).map_err(|e| Error::internal(format!("a file cannot be told of: {e}")))
    });
    let texts: Vec<String> = texts.collect::<Result<_>>()?;
    // The rows of all files stand beside the first.
    let counts = UInt64Array::from_iter_values((0..texts.len()).map(|i| if i == 0 { rows } else { 0 }));
    let texts = StringArray::from_iter_values(texts);
    Ok(RecordBatch::try_new(told(), vec![Arc::new(counts), Arc::new(texts)])?)
}

/// Who has rows computed, and written, on other machines. A session that may has one in its configuration.
#[async_trait]
pub trait WriteElsewhere: fmt::Debug + Send + Sync {
    /// Writes the rows of a plan, each file sorted by these of its columns; `None` where they are too few to be worth it, or
    /// nobody is there.
    async fn write(
        &self,
        rows: &LogicalPlan,
        sorted_by: &[usize],
        to: Destination,
        state: &SessionState,
    ) -> Result<Option<(u64, Vec<Add>)>>;
}

/// What the configuration of a session holds.
#[derive(Debug)]
pub struct Elsewhere(pub Arc<dyn WriteElsewhere>);

impl Elsewhere {
    /// What a session has, if any.
    pub fn of(state: &SessionState) -> Option<Arc<dyn WriteElsewhere>> {
        state.config().get_extension::<Elsewhere>().map(|elsewhere| Arc::clone(&elsewhere.0))
    }
}

/// The part that goes by a name, on its way from one process to another.
pub fn part(name: &str) -> Option<&'static str> {
    snapshot::PARTS.iter().find(|part| **part == name).copied()
}
