//! `DELETE FROM t WHERE …`: rewrites the files that hold such rows, in one commit.
//!
//! The commit is a `replace` that names the hours of the rows that left; the others are carried from file to file. Rollups
//! are right at once, as those hours are dirty until they are folded. It loses only to a writer that removed one of the
//! files it rewrites, and then does those again: with rows coming in every second it still gets through.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, TableReference};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col, lit};
use futures::StreamExt;

use super::target::Rows;
use crate::error::{Error, Kind, Result};
use crate::lake::action::{Add, CommitKind};
use crate::lake::archived::CLAIM;
use crate::lake::committer::Change;
use crate::lake::instant::shown;
use crate::lake::pin::Pins;
use crate::lake::provider::Files;
use crate::lake::range::TimeRanges;
use crate::lake::scan::Scan;
use crate::lake::snapshot::{File, Snapshot};
use crate::lake::writer::{FileWriter, discard};
use crate::session::pin_all;

/// Times that a deletion is planned again after losing a file to another writer.
const TRIES: usize = 20;

const HOUR: i64 = 3_600_000_000;

/// Which rows are to leave.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The name that the condition knows the table by.
    pub table: TableReference,
    /// The condition; `None` means all rows.
    pub filter: Option<Expr>,
}

/// A file without the rows that leave.
struct Rewritten {
    file: Arc<File>,
    adds: Vec<Add>,
    deleted: u64,
    /// Whole hours that have all rows which leave.
    hours: TimeRanges,
}

/// Deletes rows and says how many. `holds_expired` names what still has rows that are past the retention of this table, if
/// anything has.
pub async fn delete(
    rows: &Rows,
    condition: &Condition,
    holds_expired: Option<&str>,
    state: &SessionState,
) -> Result<u64> {
    let work = Work { rows, condition, state };
    work.refuse_chance()?;
    let mut done: HashMap<String, Rewritten> = HashMap::new();
    let mut lost = None;
    for _ in 0..TRIES {
        let snapshot = rows.table.update().await?;
        match work.attempt(&snapshot, holds_expired, &mut done).await {
            Err(e) if e.kind() == Kind::Conflict => lost = Some(e),
            Err(e) => {
                work.forget(done).await;
                return Err(e);
            }
            Ok(deleted) => return Ok(deleted),
        }
    }
    work.forget(done).await;
    Err(lost.unwrap_or_else(|| Error::internal("no try was made")))
}

struct Work<'a> {
    rows: &'a Rows,
    condition: &'a Condition,
    state: &'a SessionState,
}

impl Work<'_> {
    /// One try. Files that it has rewritten stay in `done` for the next one.
    async fn attempt(
        &self,
        snapshot: &Arc<Snapshot>,
        holds_expired: Option<&str>,
        done: &mut HashMap<String, Rewritten>,
    ) -> Result<u64> {
        self.refuse_expired(snapshot, holds_expired)?;
        let gone = done.extract_if(|path, _| !snapshot.files.contains_key(path.as_str())).collect();
        self.forget(gone).await;
        for file in self.candidates(snapshot, snapshot.files.values().cloned().collect())? {
            if !done.contains_key(&file.add.path) {
                let rewritten = self.rewrite(snapshot, &file).await?;
                done.insert(file.add.path.clone(), rewritten);
            }
        }
        let mut change = Change::new(CommitKind::Replace, "DELETE", snapshot);
        // A row that is not past its retention now may be when this is committed.
        change.refuses_alteration = true;
        let touched: Vec<&Rewritten> = done.values().filter(|r| r.deleted > 0).collect();
        change.removes = touched.iter().map(|r| Arc::clone(&r.file)).collect();
        change.adds = touched.iter().flat_map(|r| r.adds.iter().cloned()).collect();
        // What is past its retention cannot be read again by anybody.
        let hours: TimeRanges = touched.iter().flat_map(|r| r.hours.iter()).collect();
        change.ranges = Some(hours.at_or_after(snapshot.expired_through().unwrap_or(i64::MIN)));
        let deleted = touched.iter().map(|r| r.deleted).sum();
        if deleted > 0 {
            self.rows.table.commit(&change).await?;
        }
        Ok(deleted)
    }

    /// Refuses a condition that gives another answer each time: it is asked once for what leaves and once for what stays.
    fn refuse_chance(&self) -> Result<()> {
        let Some(filter) = &self.condition.filter else { return Ok(()) };
        let nothing = self.scan(&self.rows.table.snapshot(), vec![])?;
        let plan = LogicalPlanBuilder::from(nothing).filter(filter.clone())?.build()?;
        let mut chance = false;
        plan.apply_with_subqueries(|node| {
            chance |= node.expressions().iter().any(Expr::is_volatile);
            Ok(TreeNodeRecursion::Continue)
        })?;
        if chance {
            return Err(Error::not_supported("the condition may give another answer each time")
                .with_hint("leave out random() and the like"));
        }
        Ok(())
    }

    /// Files that may have rows which leave.
    fn candidates(&self, snapshot: &Snapshot, files: Vec<Arc<File>>) -> Result<Vec<Arc<File>>> {
        let filters = self.filters(snapshot)?;
        let scan = Scan {
            store: self.rows.table.store(),
            schema: &snapshot.schema,
            files,
            projection: None,
            filters: &filters,
            limit: None,
        };
        scan.matching(self.state)
    }

    /// What of the condition a scan of the table can use, as the optimizer leaves it.
    fn filters(&self, snapshot: &Snapshot) -> Result<Vec<Expr>> {
        let Some(filter) = &self.condition.filter else { return Ok(vec![]) };
        let plan = LogicalPlanBuilder::from(self.scan(snapshot, vec![])?).filter(filter.clone())?;
        let mut filters = vec![];
        self.state.optimize(&plan.build()?)?.apply(|node| {
            // A subquery may read the same table by its own provider.
            if let LogicalPlan::TableScan(scan) = node
                && source_as_provider(&scan.source).is_ok_and(|p| (p.as_ref() as &dyn Any).is::<Files>())
            {
                filters.extend(scan.filters.iter().cloned());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(filters)
    }

    /// Refuses a condition that rows past their retention may satisfy: they are no longer here to be deleted.
    fn refuse_expired(&self, snapshot: &Snapshot, holds_expired: Option<&str>) -> Result<()> {
        let (Some(cut), Some(time), Some(holders)) =
            (snapshot.expired_through(), &self.rows.time_column, holds_expired)
        else {
            return Ok(());
        };
        let highest = chrono::DateTime::from_timestamp_micros(cut - 1).unwrap_or_default();
        let stats = serde_json::json!({
            "numRecords": 1,
            "minValues": { time: "0001-01-01T00:00:00.000000Z" },
            "maxValues": { time: highest.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string() },
            "nullCount": { time: 0 },
        });
        let expired = File::new(Add { stats: Some(stats.to_string()), ..Default::default() });
        if self.candidates(snapshot, vec![Arc::new(expired)])?.is_empty() {
            return Ok(());
        }
        let name = self.rows.table.name();
        let cut = shown(cut);
        Err(Error::expired(format!(
            "rows of '{name}' before {cut} are past their retention and cannot be deleted: {holders} still has them"
        ))
        .with_hint(format!("add AND {time} >= '{cut}' to delete those that are here")))
    }

    /// Writes a file anew without the rows that leave; writes nothing if it has none.
    async fn rewrite(&self, snapshot: &Snapshot, file: &Arc<File>) -> Result<Rewritten> {
        let mut rewritten =
            Rewritten { file: Arc::clone(file), adds: vec![], deleted: 0, hours: TimeRanges::default() };
        let filter = self.condition.filter.clone().unwrap_or_else(|| lit(true));
        let leave =
            LogicalPlanBuilder::from(self.scan(snapshot, vec![Arc::clone(file)])?).filter(filter.clone())?;
        let leave = match &self.rows.time_column {
            Some(time) => leave.project([col(Column::new_unqualified(time))])?,
            None => leave.project([lit(1_i64)])?,
        };
        let mut rows = self.run(leave.build()?).await?;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            rewritten.deleted += batch.num_rows() as u64;
            if let Some(times) = batch.column(0).as_primitive_opt::<TimestampMicrosecondType>() {
                let hours: TimeRanges = times.iter().flatten().map(hour_of).collect();
                rewritten.hours = rewritten.hours.union(&hours);
            }
        }
        if rewritten.deleted == 0 {
            return Ok(rewritten);
        }
        let stay = LogicalPlanBuilder::from(self.scan(snapshot, vec![Arc::clone(file)])?)
            .filter(filter.is_not_true())?;
        let mut writer =
            FileWriter::new(self.rows.table.store(), Arc::clone(&snapshot.schema), Some("carry"));
        let stay = self.run(stay.build()?).await?;
        if let Err(e) = writer.write_all(stay).await {
            writer.abandon().await;
            return Err(e);
        }
        let kept = writer.rows();
        rewritten.adds = writer.finish().await?;
        if let Some(claim) = file.add.tags.as_ref().and_then(|tags| tags.get(CLAIM)) {
            // In an archive the files say which rows they are.
            let tags = rewritten.adds.iter_mut().map(|add| add.tags.get_or_insert_default());
            tags.for_each(|tags| drop(tags.insert(CLAIM.to_owned(), claim.clone())));
        }
        match file.stats(&snapshot.schema).rows {
            Some(rows) if rows != kept + rewritten.deleted => {
                discard(self.rows.table.store(), &rewritten.adds).await;
                Err(Error::corrupt(format!(
                    "file '{}' has {rows} rows by the log, of which {} leave and {kept} stay",
                    file.add.path, rewritten.deleted
                ))
                .with_hint("nothing was deleted"))
            }
            _ => Ok(rewritten),
        }
    }

    fn scan(&self, snapshot: &Snapshot, files: Vec<Arc<File>>) -> Result<LogicalPlan> {
        let files = Files::new(self.rows.table.store(), Arc::clone(&snapshot.schema), files);
        let source = provider_as_source(Arc::new(files));
        Ok(LogicalPlanBuilder::scan(self.condition.table.clone(), source, None)?.build()?)
    }

    /// Runs a plan; what it reads besides the table itself is pinned for it.
    async fn run(&self, plan: LogicalPlan) -> Result<datafusion::execution::SendableRecordBatchStream> {
        let mut state = self.state.clone();
        // One partition keeps the order of the rows.
        state.config_mut().options_mut().execution.target_partitions = 1;
        pin_all(&plan, &Pins::of(state.config())).await?;
        let plan = state.create_physical_plan(&plan).await?;
        Ok(datafusion::physical_plan::execute_stream(plan, state.task_ctx())?)
    }

    /// Removes what was written for nothing.
    async fn forget(&self, rewritten: HashMap<String, Rewritten>) {
        for rewritten in rewritten.into_values() {
            discard(self.rows.table.store(), &rewritten.adds).await;
        }
    }
}

fn hour_of(time: i64) -> (i64, i64) {
    let from = time.div_euclid(HOUR) * HOUR;
    (from, from + HOUR)
}
