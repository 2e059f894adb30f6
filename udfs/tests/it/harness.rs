//! What the tests of sketches stand on.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::prelude::{SessionConfig, SessionContext};
use toplake_udfs::register_all;

/// A session with this many partitions, and batches so small that a test has many.
pub(crate) fn session(partitions: usize, batch_size: usize) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(batch_size);
    let ctx = SessionContext::new_with_config(config);
    register_all(&ctx).unwrap();
    ctx
}

/// A table `t` whose rows lie in several partitions.
pub(crate) fn table(ctx: &SessionContext, columns: &[(&str, ArrayRef)], partitions: usize) {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.iter().map(|(name, column)| (*name, Arc::clone(column), true)),
    )
    .unwrap();
    let rows = batch.num_rows().div_ceil(partitions).max(1);
    let parts = (0..partitions).map(|i| {
        let from = (i * rows).min(batch.num_rows());
        let of_part = batch.slice(from, rows.min(batch.num_rows() - from));
        let step = of_part.num_rows().div_ceil(7).max(1);
        (0..of_part.num_rows())
            .step_by(step)
            .map(|at| of_part.slice(at, step.min(of_part.num_rows() - at)))
            .collect()
    });
    let table = MemTable::try_new(batch.schema(), parts.collect()).unwrap();
    ctx.register_table("t", Arc::new(table)).unwrap();
}

pub(crate) async fn try_query(ctx: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    ctx.sql(sql).await?.collect().await
}

pub(crate) async fn query(ctx: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    try_query(ctx, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// Each row as text, values separated by `|`.
pub(crate) async fn rows(ctx: &SessionContext, sql: &str) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = vec![];
    for batch in query(ctx, sql).await {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
        for i in 0..batch.num_rows() {
            rows.push(columns.iter().map(|c| c.value(i).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    rows
}

/// The only value of a query, as text.
pub(crate) async fn value(ctx: &SessionContext, sql: &str) -> String {
    let rows = rows(ctx, sql).await;
    assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
    rows[0].clone()
}

/// The message of a query that has to fail.
pub(crate) async fn error(ctx: &SessionContext, sql: &str) -> String {
    match try_query(ctx, sql).await {
        Ok(_) => panic!("{sql}: should fail"),
        Err(e) => e.strip_backtrace(),
    }
}

/// The only column of a query.
pub(crate) async fn column(ctx: &SessionContext, sql: &str) -> ArrayRef {
    let batches = query(ctx, sql).await;
    let columns: Vec<&dyn Array> = batches.iter().map(|b| b.column(0).as_ref()).collect();
    datafusion::arrow::compute::concat(&columns).unwrap()
}
