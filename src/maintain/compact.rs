//! `CALL compact('t')`: few big files for many small ones, and of a rollup one row for several of one bucket and key.
//!
//! Each group of files is one commit of kind `rewrite`, whose rows are those of the files it removes. The committer lets it
//! through only where all of them are active still, so of two compactions, or a compaction and a DELETE, one loses and plans
//! again. Who reads the log for what is new passes over it. Rows are ordered by time (of a rollup by bucket and key), and
//! keys have bloom filters.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::Column;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, col};
use futures::StreamExt;

use super::layout::{Group, WORTH, next_group};
use super::target::Target;
use crate::catalog::options::keys;
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::Change;
use crate::lake::provider::Files;
use crate::lake::snapshot::Snapshot;
use crate::lake::writer::{FileWriter, discard};

/// Times in a row that a group is planned again after losing to another writer.
const TRIES: usize = 20;

/// Groups that one call merges at most.
const MOST_COMMITS: u64 = 1000;

/// What a compaction has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Files that were merged.
    pub files_removed: u64,
    /// Files that stand for them.
    pub files_added: u64,
    /// Bytes of these.
    pub bytes_written: u64,
    /// Commits.
    pub commits: u64,
}

/// Compacts a table until nothing is worth merging.
pub async fn compact(target: &Target, state: &SessionState) -> Result<Compacted> {
    let mut done = Compacted::default();
    if matches!(target, Target::Leaderboard(_)) {
        return Ok(done);
    }
    let begun = target.table().update().await?;
    let mut tries = 0;
    loop {
        let snapshot = target.table().update().await?;
        if !same_rows(&snapshot, &begun) {
            return Err(Error::conflict(format!("table '{}' was altered meanwhile", target.table().name())));
        }
        let Some(group) = next_group(&snapshot, target.time_column()) else { return Ok(done) };
        if done.commits >= MOST_COMMITS {
            tracing::info!(table = target.table().name(), "the next compaction goes on with the rest");
            return Ok(done);
        }
        match rewrite(target, &snapshot, group, state, &mut done).await {
            Ok(true) => tries = 0,
            Ok(false) => return Ok(done),
            Err(e) if e.kind() == Kind::Conflict && tries < TRIES => tries += 1,
            Err(e) => return Err(e),
        }
    }
}

/// Whether the rows of two versions mean the same: whoever alters a view alters how its rows are merged.
fn same_rows(one: &Snapshot, other: &Snapshot) -> bool {
    let (one_is, other_is) = (&one.metadata, &other.metadata);
    one_is.id == other_is.id
        && one_is.schema_string == other_is.schema_string
        && one.option(keys::SQL) == other.option(keys::SQL)
}

/// Merges one group, in one commit; says whether that was of any use.
async fn rewrite(
    target: &Target,
    snapshot: &Snapshot,
    group: Group,
    state: &SessionState,
    done: &mut Compacted,
) -> Result<bool> {
    let table = target.table();
    let plan = state.create_physical_plan(&rows_of(target, snapshot, &group)?).await?;
    let rows = datafusion::physical_plan::execute_stream(plan, state.task_ctx())?;
    let mut writer = FileWriter::new(table.store(), Arc::clone(&snapshot.schema), None)
        .with_bloom_filters(target.key_columns());
    if let Err(e) = write(&mut writer, rows, target.time_column(), &group).await {
        writer.abandon().await;
        return Err(e);
    }
    let written = writer.rows();
    let mut change = Change::new(CommitKind::Rewrite, "OPTIMIZE", snapshot);
    change.adds = writer.finish().await?;
    let cut = group.cut;
    change.removes = group.files;
    let before: Option<u64> = change.removes.iter().map(|f| f.stats(&snapshot.schema).rows).sum();
    if matches!(target, Target::Rows(_)) && before.is_some_and(|before| before != written) {
        discard(table.store(), &change.adds).await;
        return Err(Error::corrupt(format!(
            "table '{}': files with {} rows by the log have {written}",
            table.name(),
            before.unwrap_or_default()
        ))
        .with_hint("nothing was changed; compare the files with the log"));
    }
    match table.commit(&change).await {
        Ok(_) => {
            done.files_removed += change.removes.len() as u64;
            done.files_added += change.adds.len() as u64;
            done.bytes_written += change.adds.iter().map(|add| add.size as u64).sum::<u64>();
            done.commits += 1;
            Ok(cut || change.adds.len() < change.removes.len())
        }
        Err(e) => {
            if e.kind() == Kind::Conflict {
                discard(table.store(), &change.adds).await;
            }
            Err(e)
        }
    }
}

/// The rows of a group, in their order; of a rollup merged.
fn rows_of(target: &Target, snapshot: &Snapshot, group: &Group) -> Result<LogicalPlan> {
    let files = Files::new(target.table().store(), Arc::clone(&snapshot.schema), group.files.clone());
    let rows = files.into_plan("rows")?;
    match (target, target.time_column()) {
        (Target::Rollup(rollup), _) => rollup.definition.sorted(rollup.definition.merge(rows)?),
        (_, Some(time)) => {
            let order = col(Column::new_unqualified(time)).sort(true, false);
            Ok(LogicalPlanBuilder::from(rows).sort([order])?.build()?)
        }
        (_, None) => Ok(rows),
    }
}

/// Writes ordered rows, cut into files at the ends of periods.
async fn write(
    writer: &mut FileWriter,
    mut rows: SendableRecordBatchStream,
    time: Option<&str>,
    group: &Group,
) -> Result<()> {
    let mut last = None;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        for (period, rows) in by_period(&batch, time, group)? {
            if last.is_some_and(|last| last != period) && (group.cut || writer.open_bytes() >= WORTH as usize)
            {
                writer.cut().await?;
            }
            last = Some(period);
            writer.write(&rows).await?;
        }
    }
    Ok(())
}

/// A batch that is ordered by time, cut where a period ends.
fn by_period(batch: &RecordBatch, time: Option<&str>, group: &Group) -> Result<Vec<(i64, RecordBatch)>> {
    let Some(time) = time else { return Ok(vec![(0, batch.clone())]) };
    let column = batch.column_by_name(time).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    let times = column.ok_or_else(|| Error::internal(format!("rows have no time column '{time}'")))?;
    // NULLs are the last.
    let known = times.len() - times.null_count();
    let (mut pieces, mut from) = (vec![], 0);
    while from < batch.num_rows() {
        let period = times.values().get(from).filter(|_| from < known).map(|t| group.period.number(*t));
        let to = match period {
            Some(period) => {
                let rest = &times.values()[from..known];
                from + rest.partition_point(|t| group.period.number(*t) <= period)
            }
            None => batch.num_rows(),
        };
        pieces.push((period.unwrap_or(i64::MAX), batch.slice(from, to - from)));
        from = to;
    }
    Ok(pieces)
}
