//! A system table whose rows are made when it is read.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as EngineResult;
use datafusion::logical_expr::TableType;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::Expr;

use crate::error::Result;
use crate::lake::pin::Pins;

/// What makes them.
#[async_trait]
pub(super) trait LiveRows: Debug + Send + Sync + 'static {
    /// The table's columns.
    fn columns(&self) -> &SchemaRef;

    /// All rows, as a statement with these pins sees them.
    async fn now(&self, pins: &Pins) -> Result<RecordBatch>;
}

/// The table.
#[derive(Debug)]
pub(super) struct LiveTable<T>(pub(super) T);

#[async_trait]
impl<T: LiveRows> TableProvider for LiveTable<T> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.0.columns())
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
        let rows = self.0.now(&Pins::of(state.config())).await?;
        let exec = MemorySourceConfig::try_new_exec(&[vec![rows]], self.schema(), projection.cloned())?;
        Ok(exec)
    }
}
