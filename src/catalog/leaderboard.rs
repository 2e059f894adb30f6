//! A snapshot materialized view: small, and kept in memory as long as its version is the newest.

use std::collections::BTreeMap;
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
use parking_lot::Mutex;

use super::row_index::RowIndex;
use crate::error::{Error, Result};
use crate::lake::pin::Pins;
use crate::lake::scan::Scan;
use crate::lake::snapshot::Snapshot;
use crate::lake::table::Table;

/// A leaderboard of more bytes than this is read from its files each time.
pub const MAX_CACHED_BYTES: i64 = 64 << 20;

/// More sets of columns than this have no index: each takes about as much memory as the rows.
const MAX_INDEXES: usize = 4;

/// The table.
#[derive(Debug)]
pub struct LeaderboardTable {
    table: Arc<Table>,
    schema: SchemaRef,
    sql: String,
    statement: String,
    cached: Mutex<Option<InMemory>>,
}

/// Indexes by the numbers of their columns.
type Indexes = Vec<(Vec<usize>, Arc<RowIndex>)>;

/// The rows of one version.
#[derive(Debug, Clone)]
pub struct InMemory {
    version: i64,
    rows: RecordBatch,
    indexes: Arc<Mutex<Indexes>>,
}

impl InMemory {
    /// The rows.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// An index of the rows by these columns, which is made when it is first asked for. None where there are too many already.
    pub fn index(&self, columns: &[usize]) -> Result<Option<Arc<RowIndex>>> {
        let mut indexes = self.indexes.lock();
        if let Some((_, index)) = indexes.iter().find(|(of, _)| of == columns) {
            return Ok(Some(Arc::clone(index)));
        }
        if indexes.len() == MAX_INDEXES {
            return Ok(None);
        }
        let index = Arc::new(RowIndex::of(&self.rows, columns)?);
        indexes.push((columns.to_vec(), Arc::clone(&index)));
        Ok(Some(index))
    }
}

impl LeaderboardTable {
    /// The leaderboard whose rows are in `table`, made by the query `sql`; `statement` is for people who ask.
    pub fn new(table: Arc<Table>, sql: String, statement: String) -> Self {
        let schema = Arc::clone(&table.snapshot().schema);
        LeaderboardTable { table, schema, sql, statement, cached: Mutex::new(None) }
    }

    /// The Delta table.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The query.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The versions that the refresh read which made the rows of a version.
    pub async fn sources_shown(&self, at: &Snapshot) -> Result<BTreeMap<String, i64>> {
        let newest = self.table.commits(at.version - 1, at.version).await?;
        Ok(newest.last().map(|c| c.sources.clone()).unwrap_or_default())
    }

    /// The rows of this version, if they are in memory.
    pub fn in_memory(&self, snapshot: &Snapshot) -> Option<InMemory> {
        if snapshot.schema != self.schema {
            return None;
        }
        let cached = self.cached.lock();
        cached.as_ref().filter(|cached| cached.version == snapshot.version).cloned()
    }

    fn scan_files(
        &self,
        state: &dyn Session,
        snapshot: &Snapshot,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let files = snapshot.files.values().cloned().collect();
        let scan =
            Scan { store: self.table.store(), schema: &self.schema, files, projection, filters: &[], limit };
        Ok(scan.plan(state)?)
    }
}

#[async_trait]
impl TableProvider for LeaderboardTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_table_definition(&self) -> Option<&str> {
        Some(&self.statement)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let snapshot = Pins::of(state.config()).snapshot(&self.table).await?;
        if snapshot.schema != self.schema {
            return Err(Error::conflict(format!("'{}' was made anew meanwhile", self.table.name())).into());
        }
        if snapshot.files.values().map(|f| f.add.size).sum::<i64>() > MAX_CACHED_BYTES {
            return self.scan_files(state, &snapshot, projection, limit);
        }
        let rows = match self.in_memory(&snapshot) {
            Some(known) => known.rows,
            None => {
                let plan = self.scan_files(state, &snapshot, None, None)?;
                // One batch keeps the order of the rows through whatever is planned on top.
                let read = datafusion::physical_plan::collect(plan, state.task_ctx()).await?;
                let rows = datafusion::arrow::compute::concat_batches(&self.schema, &read)?;
                let mut cached = self.cached.lock();
                // A transaction may read an older version than others do.
                if cached.as_ref().is_none_or(|cached| cached.version < snapshot.version) {
                    let (version, rows) = (snapshot.version, rows.clone());
                    *cached = Some(InMemory { version, rows, indexes: Default::default() });
                }
                rows
            }
        };
        let exec = MemorySourceConfig::try_new_exec(&[vec![rows]], self.schema(), projection.cloned())?;
        Ok(exec)
    }
}
