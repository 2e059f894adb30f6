//! A fixed selection of a table's files, as a table of the engine.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as EngineResult, Statistics};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::Expr;

use super::scan::Scan;
use super::snapshot::{File, Snapshot};
use super::store::Store;
use crate::error::Result;

/// Files of one table: its active ones, a tail, or those of an older version.
#[derive(Debug)]
pub struct Files {
    store: Store,
    schema: SchemaRef,
    files: Vec<Arc<File>>,
}

impl Files {
    /// A selection of the files of the table at `store`.
    pub fn new(store: &Store, schema: SchemaRef, files: Vec<Arc<File>>) -> Self {
        Files { store: store.clone(), schema, files }
    }

    /// The active files of a snapshot.
    pub fn active(store: &Store, snapshot: &Snapshot) -> Self {
        Files::new(store, Arc::clone(&snapshot.schema), snapshot.files.values().cloned().collect())
    }

    /// The number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// A logical plan that reads them under this name.
    pub fn into_plan(self, name: &str) -> Result<LogicalPlan> {
        let source = datafusion::datasource::provider_as_source(Arc::new(self));
        Ok(LogicalPlanBuilder::scan(datafusion::common::TableReference::bare(name), source, None)?.build()?)
    }
}

#[async_trait]
impl TableProvider for Files {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    fn statistics(&self) -> Option<Statistics> {
        None
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let scan = Scan {
            store: &self.store,
            schema: &self.schema,
            files: self.files.clone(),
            projection,
            filters,
            limit,
        };
        Ok(scan.plan(state)?)
    }
}
