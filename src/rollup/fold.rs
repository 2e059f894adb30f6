//! Fold and build: the formula, committed.
//!
//! A fold reads the source's commits since the last one and appends their aggregate, in one commit that moves the
//! rollup's position. If it commits at all it commits on the position it began at, with no `replace` in between; a fold
//! that loses is planned again. Where buckets are dirty it replaces them, and says so in the commit; what somebody asked to
//! be computed anew ([`recompute`](super::recompute)) it takes for dirty too, one unit at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use tokio::task::{JoinError, JoinSet};

use super::definition::{Definition, within};
use super::evolution::known;
use super::recompute::Unit;
use super::slices::{Slice, schedule, slices};
use super::view::{PinnedRollup, PinnedSource, Reach, Rollup, Source, union};
use crate::error::{Error, Kind, Result};
use crate::lake::action::{Add, CommitKind};
use crate::lake::committer::{Change, Position};
use crate::lake::pin::Pins;
use crate::lake::provider::Files;
use crate::lake::range::TimeRanges;
use crate::lake::snapshot::{File, Snapshot};
use crate::lake::store::Store;
use crate::lake::table::Table;
use crate::lake::write_files::{Destination, Elsewhere};
use crate::lake::writer::{FileWriter, discard};
use crate::metrics;

/// Times a fold is planned again after losing to another.
const TRIES: usize = 20;

/// Times that it is begun again as a whole where a worker was lost that ran a part of it.
const TRIES_ON_WORKERS: usize = 3;

/// Bytes of source files that one step of a build reads.
const BUILD_STEP: i64 = 2 << 30;

/// Source commits without rows (compaction, retention) that a fold may leave unread.
const IDLE_COMMITS: i64 = 32;

/// What a fold has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folded {
    /// Partial rows that were computed.
    pub rows: u64,
    /// The source version that is folded now.
    pub through: i64,
    /// Whether there was anything to do.
    pub committed: bool,
    /// What is still to be computed anew; the folds to come do it, a unit each.
    pub pending: TimeRanges,
}

/// Folds what is new in the source, and a unit of what is to be computed anew; builds the rollup first if it is not built
/// yet.
pub async fn fold(rollup: &Arc<Rollup>, state: &SessionState) -> Result<Folded> {
    let begun = Instant::now();
    let done = attempts(rollup, state).await;
    match &done {
        Ok(folded) if folded.committed => metrics::folded(rollup.table.name(), folded.rows, begun.elapsed()),
        Ok(_) => {}
        Err(_) => metrics::fold_failed(rollup.table.name()),
    }
    done
}

async fn attempts(rollup: &Arc<Rollup>, state: &SessionState) -> Result<Folded> {
    let (mut tries, mut lost, mut last) = (0, 0, None);
    while tries < TRIES {
        let pins = Pins::default();
        let pinned = rollup.pin(&pins).await?;
        let done = match pinned.position() {
            None => build(&pinned, state).await,
            Some(position) => once(&pinned, position, state).await.map(Some),
        };
        match done {
            Ok(Some(folded)) => return Ok(folded),
            // A step of a build: progress, not a lost try.
            Ok(None) => tries = 0,
            Err(e) if e.kind() == Kind::Conflict => {
                last = Some(e);
                tries += 1;
            }
            // It commits at its end, so nothing has happened yet.
            Err(e) if e.kind() == Kind::WorkersLost && lost < TRIES_ON_WORKERS => lost += 1,
            Err(e) => return Err(e),
        }
    }
    Err(last
        .unwrap_or_else(|| Error::internal("no try was made"))
        .context(format!("rollup '{}': lost to other writers {TRIES} times", rollup.table.name())))
}

/// One try.
async fn once(pinned: &PinnedRollup, from: i64, state: &SessionState) -> Result<Folded> {
    let through = pinned.source.snapshot().version;
    let definition = &pinned.rollup.definition;
    let pending = pinned.pending(Reach::Stored).await?;
    let (unit, waits) = match Unit::next(pinned).await {
        // An archive that cannot be read is no reason to leave unfolded what is new.
        Err(e) if !pending.tail.is_empty() || !pending.dirty.is_empty() => (Unit::default(), Some(e)),
        unit => (unit?, None),
    };
    let dirty = pending.dirty.union(&unit.ranges);
    if pending.tail.is_empty() && dirty.is_empty() && !unit.counts && through - from < IDLE_COMMITS {
        return Ok(Folded { through: from, ..Default::default() });
    }
    let tail =
        if unit.ranges.is_empty() { pending.tail } else { outside(pinned, pending.tail, &unit.ranges)? };
    let mut change = Change::new(CommitKind::Append, "FOLD", &pinned.snapshot);
    change.refuses_replace = true;
    change.positions =
        vec![Position { app: Rollup::fold_app(&pinned.snapshot), from: Some(from), to: through }];
    change.sources = Some(lineage(&pinned.source));
    if unit.counts {
        let mut metadata = pinned.snapshot.metadata.as_ref().clone();
        unit.take_off(&mut metadata)?;
        known(&mut metadata, &pinned.snapshot, &unit.ranges)?;
        change.metadata = Some(metadata);
    }
    let mut work = Work::new(pinned, state);
    if !tail.is_empty() {
        work.write(union(tail)?, (!dirty.is_empty()).then_some("append")).await?;
    }
    let tailed = work.rows;
    if !dirty.is_empty() {
        change.kind = CommitKind::Replace;
        change.ranges = Some(dirty.clone());
        change.removes = touched(&pinned.snapshot, definition.bucket_column(), &dirty);
        if !change.removes.is_empty() {
            let clean = within(definition.bucket_column(), definition.schema(), &dirty, false)?;
            let carried = Files::new(
                pinned.rollup.table.store(),
                pinned.snapshot.schema.clone(),
                change.removes.clone(),
            );
            let carried = LogicalPlanBuilder::from(carried.into_plan("carried")?).filter(clean)?.build()?;
            work.write(carried, Some("carry")).await?;
            // Rows that only moved to another file are no work that anybody asked for.
            work.rows = tailed;
        }
        if let Some(archived) = unit.archived.clone() {
            let rows = union(vec![pinned.source.rows(Reach::Stored).await?, archived])?;
            work.write(pinned.recomputed_from(rows, &dirty)?, Some("replace")).await?;
        } else {
            let (source, time) = (pinned.source.snapshot(), definition.source_time());
            let inside = within(time, &source.schema, &dirty, true)?;
            let files = touched(source, time, &dirty);
            work.write_over(pinned.source.table(), source, files, Some(inside), Some("replace")).await?;
        }
    }
    let rows = work.rows;
    change.adds = work.adds;
    commit(pinned, &change).await?;
    match waits {
        Some(e) => Err(e.context("what is new is folded, and what is to be computed anew has to wait")),
        None => Ok(Folded { rows, through, committed: true, pending: unit.left() }),
    }
}

/// Tail rows (already in the rollup's form) that are not in these buckets, which are computed anew.
fn outside(pinned: &PinnedRollup, tail: Vec<LogicalPlan>, buckets: &TimeRanges) -> Result<Vec<LogicalPlan>> {
    let definition = &pinned.rollup.definition;
    let clean = within(definition.bucket_column(), definition.schema(), buckets, false)?;
    tail.into_iter().map(|rows| Ok(LogicalPlanBuilder::from(rows).filter(clean.clone())?.build()?)).collect()
}

/// Active files that may have rows in these ranges.
fn touched(snapshot: &Snapshot, bucket: &str, ranges: &TimeRanges) -> Vec<Arc<File>> {
    let touches = |f: &&Arc<File>| match f.stats(&snapshot.schema).time_bounds(bucket) {
        Some((lowest, highest)) => ranges.overlaps(lowest, highest),
        None => true,
    };
    snapshot.files.values().filter(touches).cloned().collect()
}

/// Builds a new rollup from the source's files at one version, some at a time. Each step is a commit that says how far
/// it is; whoever comes next goes on from there. Until the last step sets the fold position, queries read the source.
/// `None` means that there are more steps.
async fn build(pinned: &PinnedRollup, state: &SessionState) -> Result<Option<Folded>> {
    let id = &pinned.snapshot.metadata.id;
    let (at_app, step_app) = (build_app(&pinned.snapshot), format!("toplake.build.step:{id}"));
    let (at, step) = (pinned.snapshot.position(&at_app), pinned.snapshot.position(&step_app));
    let table = pinned.source.table();
    let source = match at {
        Some(version) => match table.snapshot_at(version).await {
            // Its log has been cleaned up.
            Err(e) if e.kind() == Kind::Corrupt => return restart_build(pinned, &step_app, step, e).await,
            source => source?,
        },
        None => Arc::clone(pinned.source.snapshot()),
    };
    let steps = build_steps(&source);
    let next = step.unwrap_or(0);
    let mut change = Change::new(CommitKind::Append, "BUILD", &pinned.snapshot);
    change.sources = Some(BTreeMap::from([(table.name().to_owned(), source.version)]));
    if at.is_none() {
        change.positions.push(Position { app: at_app, from: at, to: source.version });
    }
    let mut work = Work::new(pinned, state);
    if let Some(files) = steps.get(next as usize) {
        match work.write_over(table, &source, files.clone(), None, None).await {
            Err(e) if at.is_some_and(|at| at < pinned.source.snapshot().version) && e.is_missing_object() => {
                return restart_build(pinned, &step_app, step, e).await;
            }
            other => other?,
        }
    }
    change.positions.push(Position { app: step_app, from: step, to: next + 1 });
    let last = next + 1 >= steps.len() as i64;
    if last {
        change.positions.push(Position {
            app: Rollup::fold_app(&pinned.snapshot),
            from: None,
            to: source.version,
        });
    }
    let rows = work.rows;
    change.adds = work.adds;
    commit(pinned, &change).await?;
    Ok(last.then_some(Folded { rows, through: source.version, committed: true, ..Default::default() }))
}

/// A rollup's rows that no commit names yet.
#[derive(Debug)]
pub struct Beside {
    /// The files.
    pub adds: Vec<Add>,
    /// Partial rows in them.
    pub rows: u64,
    /// The source version that they were made from.
    pub through: i64,
}

/// Builds what a definition makes of all of a source, beside what the table has. Nobody sees it before the caller commits
/// it; if that does not happen, VACUUM removes it.
pub async fn build_beside(
    table: &Table,
    definition: &Definition,
    source: &Source,
    state: &SessionState,
) -> Result<Beside> {
    let snapshot = source.table().update().await?;
    let mut work = Work { store: table.store(), definition, state, adds: vec![], rows: 0 };
    for files in build_steps(&snapshot) {
        if let Err(e) = work.write_over(source.table(), &snapshot, files, None, None).await {
            discard(table.store(), &work.adds).await;
            return Err(e);
        }
    }
    Ok(Beside { adds: work.adds, rows: work.rows, through: snapshot.version })
}

/// The files that a build was begun on have been removed for good: the next try begins anew.
async fn restart_build(
    pinned: &PinnedRollup,
    step_app: &str,
    step: Option<i64>,
    cause: Error,
) -> Result<Option<Folded>> {
    tracing::warn!(rollup = pinned.rollup.table.name(), error = %cause, "a build's source files are gone; beginning anew");
    let at_app = build_app(&pinned.snapshot);
    let mut change = Change::new(CommitKind::Replace, "BUILD", &pinned.snapshot);
    change.ranges = Some(TimeRanges::everything());
    change.removes = pinned.snapshot.files.values().cloned().collect();
    change.positions = vec![
        Position {
            from: pinned.snapshot.position(&at_app),
            to: pinned.source.snapshot().version,
            app: at_app,
        },
        Position { app: step_app.to_owned(), from: step, to: 0 },
    ];
    commit(pinned, &change).await?;
    Ok(None)
}

/// The position that names the source version which a rollup is being built from.
pub fn build_app(snapshot: &Snapshot) -> String {
    format!("toplake.build.at:{}", snapshot.metadata.id)
}

/// The same steps for everybody who builds from this version.
fn build_steps(source: &Snapshot) -> Vec<Vec<Arc<File>>> {
    let mut steps: Vec<Vec<Arc<File>>> = vec![];
    let mut bytes = 0;
    for file in source.files.values() {
        if steps.is_empty() || bytes + file.add.size > BUILD_STEP {
            steps.push(vec![]);
            bytes = 0;
        }
        bytes += file.add.size;
        if let Some(step) = steps.last_mut() {
            step.push(Arc::clone(file));
        }
    }
    steps
}

/// Source versions of a commit.
fn lineage(source: &PinnedSource) -> BTreeMap<String, i64> {
    BTreeMap::from([(source.table().name().to_owned(), source.snapshot().version)])
}

/// Commits; the files of a lost try are removed at once.
async fn commit(pinned: &PinnedRollup, change: &Change) -> Result<i64> {
    let committed = pinned.rollup.table.commit(change).await;
    if committed.as_ref().is_err_and(|e| e.kind() == Kind::Conflict) {
        discard(pinned.rollup.table.store(), &change.adds).await;
    }
    committed
}

/// Rows, and the files they are in.
type Written = Result<(u64, Vec<Add>)>;

/// Closes the files of work that was done, and removes those of work that failed.
async fn finished(work: Result<()>, writer: FileWriter) -> Written {
    match work {
        Ok(()) => {
            let rows = writer.rows();
            Ok((rows, writer.finish().await?))
        }
        Err(e) => {
            writer.abandon().await;
            Err(e)
        }
    }
}

/// The files of one try.
struct Work<'a> {
    store: &'a Store,
    definition: &'a Definition,
    state: &'a SessionState,
    adds: Vec<Add>,
    rows: u64,
}

impl<'a> Work<'a> {
    fn new(pinned: &'a PinnedRollup, state: &'a SessionState) -> Self {
        let rollup = &pinned.rollup;
        Work { store: rollup.table.store(), definition: &rollup.definition, state, adds: vec![], rows: 0 }
    }

    /// Runs a plan and writes its rows, sorted by bucket and key.
    async fn write(&mut self, plan: LogicalPlan, part: Option<&'static str>) -> Result<()> {
        let definition = self.definition;
        if self.written_elsewhere(|| Ok(plan.clone()), part).await? {
            return Ok(());
        }
        let plan = self.state.create_physical_plan(&definition.sorted(plan)?).await?;
        let rows = datafusion::physical_plan::execute_stream(plan, self.state.task_ctx())?;
        let mut writer = FileWriter::new(self.store, Arc::clone(definition.schema()), part);
        let (rows, adds) = finished(writer.write_all(rows).await, writer).await?;
        self.rows += rows;
        self.adds.extend(adds);
        Ok(())
    }

    /// Has the rows of a plan written by other machines, if there are any and it is large; whether it has.
    async fn written_elsewhere(
        &mut self,
        plan: impl FnOnce() -> Result<LogicalPlan>,
        part: Option<&'static str>,
    ) -> Result<bool> {
        let Some(elsewhere) = Elsewhere::of(self.state) else { return Ok(false) };
        let definition = self.definition;
        let (store, schema) = (self.store.clone(), Arc::clone(definition.schema()));
        let to = Destination { store, schema, part };
        let written = elsewhere.write(&plan()?, &definition.order(), to, self.state).await?;
        let Some((rows, adds)) = written else { return Ok(false) };
        self.rows += rows;
        self.adds.extend(adds);
        Ok(true)
    }

    /// Writes what the definition makes of a source's files, of the rows that pass the filter.
    async fn write_over(
        &mut self,
        source: &Table,
        at: &Snapshot,
        files: Vec<Arc<File>>,
        filter: Option<Expr>,
        part: Option<&'static str>,
    ) -> Result<()> {
        let (definition, store) = (self.definition, self.store);
        let plan = |slice: Slice| {
            let bucket = slice.bucket;
            let rows = Files::new(source.store(), Arc::clone(&at.schema), slice.files).into_plan("rows")?;
            let rows = LogicalPlanBuilder::from(rows);
            let rows = match &filter {
                Some(filter) => rows.filter(filter.clone())?,
                None => rows,
            };
            match bucket {
                Some(bucket) => definition.over_bucket(rows.build()?, bucket),
                None => definition.over(rows.build()?),
            }
        };
        if self.written_elsewhere(|| plan(Slice::of(files.clone())), part).await? {
            return Ok(());
        }
        let lanes = self.state.config().target_partitions();
        let schedule =
            schedule(slices(files, &at.schema, definition.source_time(), definition.bucketing()), lanes);
        // A lane has one thread.
        let mut lane = self.state.clone();
        lane.config_mut().options_mut().execution.target_partitions = 1;
        let mut running = JoinSet::new();
        for chunk in schedule.chunks {
            let mut plans = vec![];
            for slice in chunk {
                plans.push(lane.create_physical_plan(&definition.sorted(plan(slice)?)?).await?);
            }
            let mut writer = FileWriter::new(store, Arc::clone(definition.schema()), part);
            let task = lane.task_ctx();
            if running.len() >= lanes {
                self.take(running.join_next().await)?;
            }
            running.spawn(async move {
                let written = async {
                    for plan in plans {
                        let rows = datafusion::physical_plan::execute_stream(plan, Arc::clone(&task))?;
                        writer.write_all(rows).await?;
                    }
                    Ok(())
                };
                finished(written.await, writer).await
            });
        }
        while !running.is_empty() {
            self.take(running.join_next().await)?;
        }
        for slice in schedule.together {
            self.write(plan(slice)?, part).await?;
        }
        Ok(())
    }

    /// Takes over what a lane has written.
    fn take(&mut self, chunk: Option<Result<Written, JoinError>>) -> Result<()> {
        let Some(chunk) = chunk else { return Ok(()) };
        let (rows, adds) = chunk.map_err(|e| Error::internal(format!("a lane of a fold: {e}")))??;
        self.rows += rows;
        self.adds.extend(adds);
        Ok(())
    }
}
