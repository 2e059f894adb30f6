//! Plans a plain Parquet scan over any selection of a table's files: pruned by statistics, with the statistics it
//! knows.
//!
//! The selection need not be the active files: the tail of a rollup and the files of an older version are read the
//! same way. The plan is a bare `DataSourceExec`, so the engine pushes filters, limits and ranges into it, and it can
//! travel to a worker.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::prelude::Expr;
use object_store::ObjectStore;

use super::snapshot::File;
use super::stats::{FileStats, PruningStats};
use super::store::Store;
use crate::error::{Error, Result};

/// Enough for the footer and the page index of most files in one request.
const FOOTER_HINT: usize = 128 << 10;

/// What to read.
#[derive(Debug)]
pub struct Scan<'a> {
    /// Where the table lies.
    pub store: &'a Store,
    /// The table's rows.
    pub schema: &'a SchemaRef,
    /// The selection.
    pub files: Vec<Arc<File>>,
    /// Which columns, by index; all if `None`.
    pub projection: Option<&'a Vec<usize>>,
    /// What the rows must satisfy. Files that cannot have such rows are left out; rows are not filtered.
    pub filters: &'a [Expr],
    /// How many rows are enough.
    pub limit: Option<usize>,
}

impl Scan<'_> {
    /// The files that may have rows which satisfy the filters, by their statistics.
    pub fn matching(&self, state: &dyn Session) -> Result<Vec<Arc<File>>> {
        let stats: Vec<Arc<FileStats>> =
            self.files.iter().map(|f| Arc::clone(f.stats(self.schema))).collect();
        let keep = self.prune(self.predicate(state)?.as_ref(), &stats);
        Ok(self.files.iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| Arc::clone(file)).collect())
    }

    /// The plan.
    pub fn plan(self, state: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let predicate = self.predicate(state)?;
        let stats: Vec<Arc<FileStats>> =
            self.files.iter().map(|f| Arc::clone(f.stats(self.schema))).collect();
        let keep = self.prune(predicate.as_ref(), &stats);
        let mut files = Vec::with_capacity(keep.len());
        for (i, _) in keep.iter().enumerate().filter(|(_, keep)| **keep) {
            files.push(self.partitioned(&self.files[i], &stats[i])?);
        }
        if files.is_empty() {
            let schema = match self.projection {
                Some(columns) => Arc::new(self.schema.project(columns)?),
                None => Arc::clone(self.schema),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let kept: Vec<&Arc<FileStats>> =
            stats.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(stats, _)| stats).collect();
        let statistics = table_statistics(self.schema, &kept, &files);
        let groups = FileGroup::new(files).split_files(state.config().target_partitions().max(1));
        let options = datafusion::common::config::TableParquetOptions {
            global: state.config().options().execution.parquet.clone(),
            ..Default::default()
        };
        // The engine hands it the filter above it, by which it leaves out row groups and pages.
        let source = ParquetSource::new(Arc::clone(self.schema)).with_table_parquet_options(options);
        let source =
            with_kept_footers(source, Arc::clone(self.store.object_store()), state.runtime_env().as_ref());
        let config = FileScanConfigBuilder::new(self.store.object_store_url()?, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(self.projection.cloned())?
            .with_limit(self.limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn predicate(&self, state: &dyn Session) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let Some(filter) = conjunction(self.filters.to_vec()) else { return Ok(None) };
        let schema = DFSchema::try_from(Arc::clone(self.schema))?;
        // The engine hands over qualified columns.
        let filter = datafusion::logical_expr::expr_rewriter::unnormalize_col(filter);
        Ok(Some(state.create_physical_expr(filter, &schema)?))
    }

    /// Which files may have rows that satisfy the predicate. What cannot be decided is kept.
    fn prune(&self, predicate: Option<&Arc<dyn PhysicalExpr>>, stats: &[Arc<FileStats>]) -> Vec<bool> {
        let all = || vec![true; stats.len()];
        let Some(predicate) = predicate else { return all() };
        let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(self.schema));
        let Ok(pruning) = builder.try_build(Arc::clone(predicate)) else { return all() };
        pruning.prune(&PruningStats { files: stats, schema: self.schema }).unwrap_or_else(|_| all())
    }

    fn partitioned(&self, file: &File, stats: &FileStats) -> Result<PartitionedFile> {
        let location = locate(self.store, &file.add.path)?;
        let mut found = PartitionedFile::new(String::new(), file.add.size as u64);
        found.object_meta.location = location;
        found.object_meta.last_modified =
            chrono::DateTime::from_timestamp_millis(file.add.modification_time).unwrap_or_default();
        Ok(found.with_statistics(Arc::new(file_statistics(self.schema, stats, file.add.size as usize))))
    }
}

/// The same source of rows, which keeps the footers that it reads for the next query.
pub fn with_kept_footers(
    source: ParquetSource,
    store: Arc<dyn ObjectStore>,
    runtime: &RuntimeEnv,
) -> ParquetSource {
    let readers = CachedParquetFileReaderFactory::new(store, runtime.cache_manager.get_file_metadata_cache());
    source.with_metadata_size_hint(FOOTER_HINT).with_parquet_file_reader_factory(Arc::new(readers))
}

/// The full path of a file that the log names; the log's form is URL-encoded.
pub fn locate(store: &Store, path: &str) -> Result<object_store::path::Path> {
    let bad = |e: &dyn std::fmt::Display| Error::corrupt(format!("bad file path '{path}' in the log: {e}"));
    if let Ok(url) = url::Url::parse(path) {
        return object_store::path::Path::from_url_path(url.path()).map_err(|e| bad(&e));
    }
    let decoded = object_store::path::Path::from_url_path(path).map_err(|e| bad(&e))?;
    Ok(decoded.parts().fold(store.prefix().clone(), |p, part| p.join(part)))
}

fn file_statistics(schema: &SchemaRef, stats: &FileStats, bytes: usize) -> Statistics {
    let column_statistics = schema.fields().iter().map(|f| {
        let Some(column) = stats.columns.get(f.name()) else { return ColumnStatistics::new_unknown() };
        let bound = |v: &Option<datafusion::common::ScalarValue>| match v {
            Some(v) if column.exact => Precision::Exact(v.clone()),
            Some(v) => Precision::Inexact(v.clone()),
            None => Precision::Absent,
        };
        ColumnStatistics {
            null_count: column.nulls.map_or(Precision::Absent, |n| Precision::Exact(n as usize)),
            min_value: bound(&column.min),
            max_value: bound(&column.max),
            ..ColumnStatistics::new_unknown()
        }
    });
    Statistics {
        num_rows: stats.rows.map_or(Precision::Absent, |n| Precision::Exact(n as usize)),
        total_byte_size: Precision::Inexact(bytes),
        column_statistics: column_statistics.collect(),
    }
}

/// Of all files together.
fn table_statistics(schema: &SchemaRef, stats: &[&Arc<FileStats>], files: &[PartitionedFile]) -> Statistics {
    let each = files.iter().filter_map(|f| f.statistics.as_deref());
    Statistics::try_merge_iter(each, schema).unwrap_or_else(|_| {
        let rows: Option<u64> = stats.iter().map(|s| s.rows).sum();
        let mut unknown = Statistics::new_unknown(schema);
        unknown.num_rows = rows.map_or(Precision::Absent, |n| Precision::Exact(n as usize));
        unknown
    })
}
