//! Rows of a rollup's own files changed by hand, as a broken disk or a bug would.

use std::sync::Arc;

use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::lake::provider::Files;
use toplake::lake::writer::FileWriter;

use crate::harness::Desk;

/// Puts the rows that `sql` makes of the table `stored` in the place of a rollup's own, by a commit that says that no row
/// has changed.
pub(crate) async fn corrupt(desk: &Desk, rollup: &str, sql: &str) {
    let table = desk.table(rollup).await;
    let snapshot = table.snapshot();
    let files = Files::active(table.store(), &snapshot).into_plan("stored").unwrap();
    let rows = desk.engine.context().execute_logical_plan(files).await.unwrap().collect().await.unwrap();
    let ctx = SessionContext::new();
    let stored = MemTable::try_new(Arc::clone(&snapshot.schema), vec![rows]).unwrap();
    ctx.register_table("stored", Arc::new(stored)).unwrap();
    let rows = ctx.sql(sql).await.unwrap().execute_stream().await.unwrap();
    let mut writer = FileWriter::new(table.store(), Arc::clone(&snapshot.schema), None);
    writer.write_all(rows).await.unwrap();
    let mut change = Change::new(CommitKind::Rewrite, "CORRUPT", &snapshot);
    change.removes = snapshot.files.values().cloned().collect();
    change.adds = writer.finish().await.unwrap();
    table.commit(&change).await.unwrap();
}

/// The ranges that the newest commits of a rollup replaced, in order, since a version.
pub(crate) async fn replaced_since(desk: &Desk, rollup: &str, version: i64) -> Vec<Vec<(i64, i64)>> {
    let table = desk.table(rollup).await;
    let commits = table.commits(version, table.snapshot().version).await.unwrap();
    let replaces = commits.iter().filter(|c| c.kind == CommitKind::Replace);
    replaces.map(|c| c.ranges.iter().collect()).collect()
}
