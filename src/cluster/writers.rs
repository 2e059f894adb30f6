//! Folds whose rows are written where they are computed: each worker writes its share of the files, and what comes back to the server is
//! their names, for the one commit.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::compute::SortOptions;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use super::on_workers::OnWorkersExec;
use super::planner::{Planner, in_parts};
use crate::error::Result;
use crate::lake::action::Add;
use crate::lake::write_files::{Destination, WriteElsewhere, WriteFilesExec, files};

/// Writes on workers.
#[derive(Debug)]
pub(super) struct Writers {
    planner: Arc<Planner>,
}

impl Writers {
    pub(super) fn new(planner: Arc<Planner>) -> Self {
        Writers { planner }
    }
}

#[async_trait]
impl WriteElsewhere for Writers {
    async fn write(
        &self,
        rows: &LogicalPlan,
        sorted_by: &[usize],
        to: Destination,
        state: &SessionState,
    ) -> Result<Option<(u64, Vec<Add>)>> {
        if !self.planner.may_spread() {
            return Ok(None);
        }
        let state = &*in_parts(state);
        let rows = state.optimize(rows)?;
        let plan = DefaultPhysicalPlanner::default().create_physical_plan(&rows, state).await?;
        let schema = plan.schema();
        let order = sorted_by.iter().map(|i| PhysicalSortExpr {
            expr: Arc::new(Column::new(schema.field(*i).name(), *i)),
            options: SortOptions { descending: false, nulls_first: false },
        });
        let sorted: Arc<dyn ExecutionPlan> = match LexOrdering::new(order) {
            Some(order) => Arc::new(SortExec::new(order, plan).with_preserve_partitioning(true)),
            None => plan,
        };
        let written = Arc::new(WriteFilesExec::new(sorted, to));
        let local = Arc::new(CoalescePartitionsExec::new(written));
        let spread = self.planner.spread(local, state).await?;
        // Where it is not worth it the fold has a better plan for one machine.
        if !spread.is::<OnWorkersExec>() {
            return Ok(None);
        }
        files(&collect(spread, state.task_ctx()).await?).map(Some)
    }
}
