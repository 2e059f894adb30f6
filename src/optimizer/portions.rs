//! The rows of an operator in small portions, with room for others between them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics, internal_err};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties};
use futures::{Stream, StreamExt};

/// Rows of one portion: times a million on the other side of a join they take a tenth of a second.
const ROWS: usize = 64;

/// Gives what its input gives, in portions, and has other tasks go first before each.
#[derive(Debug)]
pub(crate) struct PortionsExec {
    input: Arc<dyn ExecutionPlan>,
}

impl PortionsExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        PortionsExec { input }
    }
}

impl DisplayAs for PortionsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortionsExec: rows={ROWS}")
    }
}

impl ExecutionPlan for PortionsExec {
    fn name(&self) -> &str {
        "PortionsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Arc::new(PortionsExec::new(input))),
            _ => internal_err!("PortionsExec has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        Ok(Box::pin(Portions { input, rest: None, gave_way: false }))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        match inputs {
            [input] => Ok(Arc::clone(input)),
            _ => internal_err!("PortionsExec has one input"),
        }
    }
}

struct Portions {
    input: SendableRecordBatchStream,
    rest: Option<RecordBatch>,
    gave_way: bool,
}

impl Stream for Portions {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !std::mem::replace(&mut self.gave_way, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => match self.input.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(batch))) => batch,
                other => return other,
            },
        };
        self.gave_way = false;
        if batch.num_rows() <= ROWS {
            return Poll::Ready(Some(Ok(batch)));
        }
        self.rest = Some(batch.slice(ROWS, batch.num_rows() - ROWS));
        Poll::Ready(Some(Ok(batch.slice(0, ROWS))))
    }
}

impl RecordBatchStream for Portions {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}
