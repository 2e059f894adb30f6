//! A rollup as a table of the engine: reading it is the formula.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::expr_rewriter::unnormalize_cols;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{LogicalPlanBuilder, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::Expr;

use super::view::Rollup;
use crate::lake::pin::Pins;

/// The table.
#[derive(Debug)]
pub struct RollupTable {
    rollup: Arc<Rollup>,
    definition_sql: String,
    merged: bool,
}

impl RollupTable {
    /// A table over `rollup`; the statement that made it is for people who ask.
    pub fn new(rollup: Arc<Rollup>, definition_sql: String) -> Self {
        RollupTable { rollup, definition_sql, merged: true }
    }

    /// The same for a reader that merges by itself: several rows may share a bucket and key.
    pub fn partial(&self) -> Self {
        RollupTable {
            rollup: Arc::clone(&self.rollup),
            definition_sql: self.definition_sql.clone(),
            merged: false,
        }
    }

    /// Whether there is one row for each bucket and key.
    pub fn is_merged(&self) -> bool {
        self.merged
    }

    /// The rollup.
    pub fn rollup(&self) -> &Arc<Rollup> {
        &self.rollup
    }
}

#[async_trait]
impl TableProvider for RollupTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.rollup.definition.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_table_definition(&self) -> Option<&str> {
        Some(&self.definition_sql)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Exact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
            return Err(DataFusionError::Internal("a rollup is planned in a session of the engine".into()));
        };
        let pinned = self.rollup.pin(&Pins::of(state.config())).await?;
        let rows = if self.merged { pinned.view().await? } else { pinned.partial_view().await? };
        let mut plan = LogicalPlanBuilder::from(rows);
        if let Some(filter) = conjunction(unnormalize_cols(filters.to_vec())) {
            plan = plan.filter(filter)?;
        }
        if let Some(columns) = projection {
            plan = plan.select(columns.clone())?;
        }
        if limit.is_some() {
            plan = plan.limit(0, limit)?;
        }
        // It is part of a larger plan, which is optimised, and spread over workers, as a whole.
        let state = SessionStateBuilder::new_from_existing(state.clone())
            .with_physical_optimizer_rules(vec![])
            .build();
        let plan = state.optimize(&plan.build()?)?;
        DefaultPhysicalPlanner::default().create_physical_plan(&plan, &state).await
    }
}
