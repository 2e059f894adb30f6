//! What guards of streams remember leaves the side table once no guard asks for it: an event older than its partition's highest
//! time less the guard's window, and all that a table which was dropped has left behind.
//!
//! The rows themselves say how far a partition has come, which only rises. So what is past the window now stays so, whoever
//! writes meanwhile; of a partition that gives nothing more the last window stays until its table is dropped.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::common::{Column, ScalarValue, TableReference};
use datafusion::execution::SessionState;
use datafusion::functions_aggregate::expr_fn::max;
use datafusion::logical_expr::utils::disjunction;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col, lit};

use super::delete::{Condition, delete};
use super::target::Rows;
use crate::catalog::recent_keys::{NAME, TIME};
use crate::catalog::warehouse::Warehouse;
use crate::error::Result;
use crate::lake::provider::Files;

/// Guards whose rows one commit takes out.
const AT_ONCE: usize = 64;

/// A guard of a partition, and how far that has come.
struct Reached {
    table_id: String,
    source: String,
    partition: i64,
    guard: String,
    highest: i64,
    span: i64,
}

impl Reached {
    /// Its rows that are past the window; all of them where the table is gone.
    fn past(&self, live: &HashSet<String>) -> Expr {
        let own = column("table_id").eq(lit(self.table_id.as_str()));
        if !live.contains(&self.table_id) {
            return own;
        }
        let horizon = self.highest.saturating_sub(self.span);
        let horizon = ScalarValue::TimestampMicrosecond(Some(horizon), Some("UTC".into()));
        own.and(column("source").eq(lit(self.source.as_str())))
            .and(column("partition").eq(lit(self.partition)))
            .and(column("guard").eq(lit(self.guard.as_str())))
            .and(column(TIME).lt(Expr::Literal(horizon, None)))
    }
}

fn column(name: &str) -> Expr {
    col(Column::new_unqualified(name))
}

/// Removes what is past its window, and says how many rows that were.
pub(super) async fn forget(warehouse: &Arc<Warehouse>, rows: &Rows, state: &SessionState) -> Result<u64> {
    warehouse.catch_up(&rows.table).await?;
    let reached = reached(rows, state).await?;
    // The tables after that: one that has rows here by now is among them, or was dropped.
    let live = warehouse.tables().await?;
    let live: HashSet<String> = live.iter().map(|table| table.snapshot().metadata.id.clone()).collect();
    let mut forgotten = 0;
    for some in reached.chunks(AT_ONCE) {
        let filter = disjunction(some.iter().map(|one| one.past(&live)));
        let condition = Condition { table: TableReference::bare(NAME), filter };
        forgotten += delete(rows, &condition, None, state).await?;
    }
    Ok(forgotten)
}

/// How far each partition has come, by what its guards have written.
async fn reached(rows: &Rows, state: &SessionState) -> Result<Vec<Reached>> {
    let files = Files::active(rows.table.store(), &*rows.table.update().await?);
    let group = ["table_id", "source", "partition", "guard"].map(column);
    let plan = LogicalPlanBuilder::from(files.into_plan(NAME)?)
        .filter(column("key").is_null())?
        .aggregate(group, [max(column(TIME)).alias("highest"), max(column("count")).alias("span")])?
        .build()?;
    let physical = state.create_physical_plan(&plan).await?;
    let batches = datafusion::physical_plan::collect(physical, state.task_ctx()).await?;
    Ok(batches.iter().flat_map(read).collect())
}

fn read(batch: &RecordBatch) -> Vec<Reached> {
    let text = |index: usize, row: usize| batch.column(index).as_string_view().value(row).to_owned();
    let number = |index: usize, row: usize| batch.column(index).as_primitive::<Int64Type>().value(row);
    let one = |row| Reached {
        table_id: text(0, row),
        source: text(1, row),
        partition: number(2, row),
        guard: text(3, row),
        highest: batch.column(4).as_primitive::<TimestampMicrosecondType>().value(row),
        span: number(5, row),
    };
    (0..batch.num_rows()).map(one).collect()
}
