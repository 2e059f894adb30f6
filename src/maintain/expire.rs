//! `CALL expire('t')`: rows that are past their retention leave.
//!
//! The cut is measured against the watermark and only ever rises. It takes whole buckets of every rollup that is made from
//! the table directly, and none that one of them has yet to compute anew: those are folded first. Rollups keep what they
//! have. Rows below the cut that come later, a late event or a refund, count as ever: they are in the tail until they are
//! folded into their old bucket, and leave with the next cut. The commit puts the cut into the table's options, so whoever
//! pins a version pins its cut.
//!
//! The cut is announced in each of those rollups first ([`announced`]): a definition with other buckets that is put in the
//! place of one's either comes before that, and the cut is planned anew, or sees it. A rollup that is made counts a position
//! of the table up ([`joined`]) before it reads any of it: a cut that was planned without that rollup is planned anew.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col};
use datafusion::scalar::ScalarValue;

use super::archive::{Archive, Claim};
use super::forget::forget;
use super::needed::rollups_over;
use super::target::{Kept, Rows};
use crate::catalog::options::keys;
use crate::catalog::warehouse::Warehouse;
use crate::catalog::watermark;
use crate::error::{Error, Kind, Result};
use crate::lake::action::{Add, CommitKind};
use crate::lake::archived::ARCHIVED_FROM;
use crate::lake::committer::{Change, Expiry, Position};
use crate::lake::provider::Files;
use crate::lake::snapshot::{EXPIRED_THROUGH, File, Snapshot};
use crate::lake::table::Table;
use crate::lake::writer::{FileWriter, discard};
use crate::rollup::fold::fold;
use crate::rollup::view::{Edition, Rollup};

/// Times that the work is planned again after losing to another writer.
const TRIES: usize = 20;

/// Steps down that are tried to find an edge of a bucket that is one of every rollup.
const EDGES: usize = 10_000;

const HOUR: i64 = 3_600_000_000;

/// What has expired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Rows before this instant, in microseconds, are past their retention; `None` if none ever were.
    pub through: Option<i64>,
    /// Rows that left now.
    pub rows: u64,
    /// Of these, rows that went to the archive.
    pub archived: u64,
}

/// Applies the retention of a table; `retention` stands for that of its options.
pub async fn expire(
    warehouse: &Arc<Warehouse>,
    rows: &Rows,
    retention: Option<i64>,
    state: &SessionState,
) -> Result<Expired> {
    let context = |e: Error| e.context(format!("table '{}'", rows.table.name()));
    if rows.kept == Kept::ByWindow {
        if retention.is_some() {
            return Err(context(Error::invalid_input("its rows stay as long as the guards' windows say")));
        }
        let rows = forget(warehouse, rows, state).await.map_err(context)?;
        return Ok(Expired { rows, ..Default::default() });
    }
    let mut lost = None;
    for _ in 0..TRIES {
        let work = Work { warehouse, rows, retention, state };
        match work.attempt().await {
            Err(e) if e.kind() == Kind::Conflict => lost = Some(e),
            done => return done.map_err(context),
        }
    }
    Err(context(lost.unwrap_or_else(|| Error::internal("no try was made"))))
}

struct Work<'a> {
    warehouse: &'a Arc<Warehouse>,
    rows: &'a Rows,
    retention: Option<i64>,
    state: &'a SessionState,
}

/// The position in a rollup's table that has the highest cut of a table that was ever announced to it, in microseconds.
/// Until the table's own cut is as high, an expiry is under way, or was cut short.
pub fn announced(table_id: &str) -> String {
    format!("toplake.expire:{table_id}")
}

/// The position of an events table that counts the rollups that were made from it directly.
const ROLLUPS: &str = "toplake.rollups";

/// Counts a rollup that was just made, and has read nothing yet, among those that cuts of its events table are an edge of.
pub async fn joined(events: &Table) -> Result<()> {
    let now = events.update().await?;
    if now.protocol.check_writable(events.name()).is_err() {
        // Nothing can expire there either.
        return Ok(());
    }
    let mut change = Change::new(CommitKind::Append, "CREATE ROLLUP", &now);
    change.counts = vec![ROLLUPS.into()];
    events.commit(&change).await.map(|_| ())
}

/// What leaves, as planned on one version.
struct Plan {
    on: Arc<Snapshot>,
    /// The rollups that the cut is an edge of.
    rollups: Vec<Arc<Rollup>>,
    cut: i64,
    /// The column that says so.
    time: String,
    /// Files that have such rows.
    files: Vec<Arc<File>>,
}

impl Work<'_> {
    async fn attempt(&self) -> Result<Expired> {
        let Some(mut plan) = self.plan().await? else {
            let through = self.rows.table.snapshot().expired_through();
            return Ok(Expired { through, ..Default::default() });
        };
        let mut held = None;
        let mut archived = 0;
        if let Some(url) = plan.on.option(keys::ARCHIVE).map(str::to_owned) {
            let claim = Claim::take(&self.rows.table, &plan.on).await?;
            // Whoever held a claim before this one may have removed rows until now, and cannot any more.
            let Some(again) = self.plan().await? else {
                return Err(Error::conflict("the rows have expired meanwhile"));
            };
            plan = again;
            announce(&plan).await?;
            let archive = Archive::open(&url, &plan.on).await?;
            let mut writer = archive.writer();
            if let Err(e) = self.copy_expired(&plan, &mut writer).await {
                writer.abandon().await;
                return Err(e);
            }
            archived = writer.rows();
            archive.append(writer, &claim, &plan.on).await?;
            held = Some(claim);
        } else {
            announce(&plan).await?;
        }
        let mut change = Change::new(CommitKind::Expire, "EXPIRE", &plan.on);
        let mut metadata = plan.on.metadata.as_ref().clone();
        metadata.configuration.insert(EXPIRED_THROUGH.to_owned(), plan.cut.to_string());
        // Whatever leaves without an archive is gone, and so is the whole of what one has.
        match &held {
            None => drop(metadata.configuration.remove(ARCHIVED_FROM)),
            Some(_) => {
                let before = plan.on.expired_through().unwrap_or(i64::MIN);
                let from = metadata.configuration.entry(ARCHIVED_FROM.to_owned());
                from.or_insert_with(|| before.to_string());
            }
        }
        change.metadata = Some(metadata);
        change.expires = Some(Expiry { cut: plan.cut, time_column: plan.time.clone() });
        change.positions = held.map(|claim| claim.settle(&plan.on)).unwrap_or_default();
        let rollups = plan.on.position(ROLLUPS);
        change.positions.push(Position { app: ROLLUPS.to_owned(), from: rollups, to: rollups.unwrap_or(0) });
        change.adds = self.remainder(&plan).await?;
        change.removes = plan.files;
        let rows = |files: &mut dyn Iterator<Item = &Arc<File>>| -> Option<u64> {
            files.map(|file| file.stats(&plan.on.schema).rows).sum()
        };
        let before = rows(&mut change.removes.iter()).unwrap_or_default();
        let kept: Vec<Arc<File>> = change.adds.iter().map(|add| Arc::new(File::new(add.clone()))).collect();
        let left = before.saturating_sub(rows(&mut kept.iter()).unwrap_or_default());
        match self.rows.table.commit(&change).await {
            Ok(_) => Ok(Expired { through: Some(plan.cut), rows: left, archived }),
            Err(e) => {
                if e.kind() == Kind::Conflict {
                    discard(self.rows.table.store(), &change.adds).await;
                }
                Err(e)
            }
        }
    }

    /// What is past its retention at the newest version; `None` if nothing is, or if the cut would not rise.
    async fn plan(&self) -> Result<Option<Plan>> {
        let table = &self.rows.table;
        let Some(time) = self.rows.time_column.clone() else {
            return Err(Error::wrong_object_type("it has no time_column, so no row is older than another"));
        };
        let on = table.update().await?;
        // A rollup that comes into being after this counts up a position of that version before it reads anything.
        let rollups = match self.rows.kept {
            Kept::ByArrival => vec![],
            _ => rollups_over(self.warehouse, table).await?,
        };
        let mut at = Vec::with_capacity(rollups.len());
        for rollup in &rollups {
            let snapshot = rollup.table.update().await?;
            if Edition::of(&snapshot) != rollup.edition {
                let name = rollup.table.name();
                return Err(Error::conflict(format!("the definition of '{name}' was replaced meanwhile")));
            }
            at.push(snapshot);
        }
        let Some(retention) = self.retention.or(self.rows.retention(&on)) else {
            return Err(Error::invalid_input("it has no retention")
                .with_hint("ALTER TABLE … SET (retention = '90 days'), or name one as the second argument"));
        };
        let newest = match self.rows.kept {
            Kept::ByArrival => Some(chrono::Utc::now().timestamp_micros()),
            _ => watermark::of(table.name(), &on)?,
        };
        let Some(newest) = newest else { return Ok(None) };
        let cut = edge_of_all(newest.saturating_sub(retention), &rollups)?;
        if on.expired_through().is_some_and(|now| cut <= now) {
            return Ok(None);
        }
        let old = |file: &&Arc<File>| {
            file.stats(&on.schema).time_bounds(&time).is_none_or(|(lowest, _)| lowest < cut)
        };
        let files: Vec<Arc<File>> = on.files.values().filter(old).cloned().collect();
        if files.is_empty() {
            return Ok(None);
        }
        for (rollup, snapshot) in rollups.iter().zip(&at) {
            let folded = snapshot.position(&Rollup::fold_app(snapshot));
            if self.is_behind(&on, folded, cut, &time).await? {
                fold(rollup, self.state)
                    .await
                    .map_err(|e| e.context(format!("rollup '{}'", rollup.table.name())))?;
                return Err(Error::conflict("a rollup had to read rows again before they expire"));
            }
        }
        Ok(Some(Plan { on, rollups, cut, time, files }))
    }

    /// Whether a rollup has yet to compute a bucket below the cut anew. Rows that were only appended there are no
    /// obstacle: they are folded from the files that their own commit added.
    async fn is_behind(&self, on: &Snapshot, folded: Option<i64>, cut: i64, time: &str) -> Result<bool> {
        let Some(folded) = folded else { return Ok(true) };
        if folded >= on.version {
            return Ok(false);
        }
        let commits = self.rows.table.commits(folded, on.version).await?;
        let lowest = |c: &crate::lake::snapshot::Commit| c.changed(&on.schema, time).iter().next();
        Ok(commits.iter().filter_map(|c| lowest(c)).any(|(from, _)| from < cut))
    }

    /// What leaves, into the archive.
    async fn copy_expired(&self, plan: &Plan, archive: &mut FileWriter) -> Result<()> {
        for file in &plan.files {
            archive.write_all(self.read(plan, file, true).await?).await?;
        }
        Ok(())
    }

    /// What stays of the files, in files of its own.
    async fn remainder(&self, plan: &Plan) -> Result<Vec<Add>> {
        let mut writer = FileWriter::new(self.rows.table.store(), Arc::clone(&plan.on.schema), None);
        for file in &plan.files {
            let bounds = file.stats(&plan.on.schema).time_bounds(&plan.time);
            if bounds.is_some_and(|(_, highest)| highest < plan.cut) {
                continue;
            }
            let rows = self.read(plan, file, false).await?;
            if let Err(e) = writer.write_all(rows).await {
                writer.abandon().await;
                return Err(e);
            }
            writer.cut().await?;
        }
        writer.finish().await
    }

    /// The rows of a file on one side of the cut, in their order.
    async fn read(&self, plan: &Plan, file: &Arc<File>, expired: bool) -> Result<SendableRecordBatchStream> {
        let zone = match plan.on.schema.field_with_name(&plan.time)?.data_type() {
            datafusion::arrow::datatypes::DataType::Timestamp(_, zone) => zone.clone(),
            other => return Err(Error::internal(format!("time column '{}' has type {other}", plan.time))),
        };
        let cut = Expr::Literal(ScalarValue::TimestampMicrosecond(Some(plan.cut), zone), None);
        let time = col(Column::new_unqualified(&plan.time));
        let side = if expired { time.lt(cut) } else { time.gt_eq(cut) };
        let files = Files::new(self.rows.table.store(), Arc::clone(&plan.on.schema), vec![Arc::clone(file)]);
        let rows = LogicalPlanBuilder::from(files.into_plan("rows")?).filter(side)?.build()?;
        let mut state = self.state.clone();
        // One partition keeps the order of the rows.
        state.config_mut().options_mut().execution.target_partitions = 1;
        let physical = state.create_physical_plan(&rows).await?;
        Ok(datafusion::physical_plan::execute_stream(physical, state.task_ctx())?)
    }
}

/// Tells the rollups of the cut.
async fn announce(plan: &Plan) -> Result<()> {
    for rollup in &plan.rollups {
        let mut lost = None;
        for _ in 0..TRIES {
            match announce_to(rollup, &plan.on.metadata.id, plan.cut).await {
                // A fold or a recompute was faster, and that is no reason to plan the cut anew.
                Err(e) if e.kind() == Kind::Conflict => lost = Some(e),
                done => {
                    lost = None;
                    done?;
                    break;
                }
            }
        }
        if let Some(e) = lost {
            return Err(e);
        }
    }
    Ok(())
}

/// Fails with a conflict where the rollup has another definition now than the cut was planned on.
async fn announce_to(rollup: &Rollup, events_id: &str, cut: i64) -> Result<()> {
    let now = rollup.table.update().await?;
    if Edition::of(&now) != rollup.edition {
        let name = rollup.table.name();
        return Err(Error::conflict(format!("the definition of '{name}' was replaced meanwhile")));
    }
    let app = announced(events_id);
    let from = now.position(&app);
    if from.is_some_and(|highest| highest >= cut) {
        return Ok(());
    }
    let mut change = Change::new(CommitKind::Append, "EXPIRE SOURCE", &now);
    change.refuses_alteration = true;
    change.positions = vec![Position { app, from, to: cut }];
    rollup.table.commit(&change).await.map(|_| ())
}

/// The latest instant, at or before `latest`, at which a bucket of every rollup begins; of an hour if there is none.
fn edge_of_all(latest: i64, rollups: &[Arc<Rollup>]) -> Result<i64> {
    let mut edge = latest;
    for _ in 0..EDGES {
        let starts = rollups.iter().map(|r| r.definition.bucketing().start(edge));
        let lowest = starts.min().unwrap_or_else(|| edge.div_euclid(HOUR) * HOUR);
        if lowest == edge {
            return Ok(edge);
        }
        edge = lowest;
    }
    Err(Error::not_supported("the buckets of the rollups over it do not begin at a common instant")
        .with_hint("make one of them from the other, or drop one"))
}
