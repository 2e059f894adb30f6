//! The formula (DESIGN §2): one computation for query, fold, recompute and cascade.
//!
//! ```text
//! view = (folded rows, bucket ∉ D) ⊕ definition(tail, bucket ∉ D) ⊕ definition(source, bucket ∈ D)
//! ```
//!
//! The rollup is pinned first and its source after it, so that the source is never older than what was folded. The
//! commits of the source since the fold are its *changes*: rows that were appended (the tail), and ranges of time whose
//! rows have to be computed anew (the dirty set D). In a cascade the changes of a rollup are those of its own log and,
//! for a query, what it has not folded itself.
//!
//! A rollup that is still being built has no fold position: all of time is dirty then, and its view is the definition
//! over its source.

use std::sync::Arc;

use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::definition::{Definition, within};
use crate::error::{Error, Result};
use crate::lake::pin::Pins;
use crate::lake::provider::Files;
use crate::lake::range::TimeRanges;
use crate::lake::snapshot::{Commit, File, Snapshot};
use crate::lake::table::Table;

/// What a rollup reads.
#[derive(Debug, Clone)]
pub enum Source {
    /// An events table.
    Events {
        /// The table.
        table: Arc<Table>,
        /// The column that says when an event counts.
        time_column: String,
    },
    /// A finer rollup.
    Rollup(Arc<Rollup>),
}

impl Source {
    /// The table that a fold follows.
    pub fn table(&self) -> &Arc<Table> {
        match self {
            Source::Events { table, .. } => table,
            Source::Rollup(finer) => &finer.table,
        }
    }
}

/// Commits that are looked through at once.
const CHUNK: i64 = 256;

/// Option of a rollup's table: how often its definition was replaced, and one.
pub const DEFINITION_VERSION: &str = "toplake.definition_version";

/// Which definition a rollup's table has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edition {
    table_id: String,
    version: i64,
}

impl Edition {
    /// That of a table at one version.
    pub fn of(snapshot: &Snapshot) -> Self {
        let version = snapshot.option(DEFINITION_VERSION).and_then(|v| v.parse().ok()).unwrap_or(1);
        Edition { table_id: snapshot.metadata.id.clone(), version }
    }

    /// Its number, from 1 on.
    pub fn version(&self) -> i64 {
        self.version
    }
}

/// A rollup: its table, its definition and what it is made from.
#[derive(Debug)]
pub struct Rollup {
    /// Where its partial rows are.
    pub table: Arc<Table>,
    /// What it is.
    pub definition: Definition,
    /// What it is made from.
    pub source: Source,
    /// Which definition it is.
    pub edition: Edition,
}

impl Rollup {
    /// How many rollups lie between this one and the events, this one included.
    pub fn level(&self) -> usize {
        match &self.source {
            Source::Events { .. } => 1,
            Source::Rollup(finer) => finer.level() + 1,
        }
    }

    /// The events table that it is made from in the end.
    pub fn events(&self) -> &Arc<Table> {
        match &self.source {
            Source::Events { table, .. } => table,
            Source::Rollup(finer) => finer.events(),
        }
    }

    /// Whether it is made from the rollup of this name, directly or through others.
    pub fn is_above(&self, name: &str) -> bool {
        match &self.source {
            Source::Events { .. } => false,
            Source::Rollup(finer) => finer.table.name() == name || finer.is_above(name),
        }
    }

    /// Whether this is what its table, and those that it is made from, have as far as this process knows.
    pub fn is_current(&self) -> bool {
        Edition::of(&self.table.snapshot()) == self.edition
            && match &self.source {
                Source::Events { .. } => true,
                Source::Rollup(finer) => finer.is_current(),
            }
    }

    /// An earlier version of a rollup that has folded more than `source` has; none if it has not. So it comes where a statement
    /// of a transaction reads the rollup, and one before it has read the source.
    async fn before(&self, now: &Snapshot, source: &Snapshot) -> Result<Option<Arc<Snapshot>>> {
        let app = Rollup::fold_app(now);
        if now.position(&app).is_none_or(|folded| folded <= source.version) {
            return Ok(None);
        }
        let folds = |c: &Commit| c.txns.iter().any(|(of, folded)| *of == app && *folded > source.version);
        let mut through = now.version;
        loop {
            let after = (through - CHUNK).max(0);
            let commits = self.table.commits(after, through).await?;
            let first = commits.iter().position(|c| folds(c));
            match first {
                Some(i) if i > 0 || after == 0 => {
                    return self.table.snapshot_at(after + i as i64).await.map(Some);
                }
                // All of them have folded more, or none is left: it is further back.
                _ if after > 0 => through = after + 1,
                _ => return Err(Error::conflict(format!("'{}' was built meanwhile", self.table.name()))),
            }
        }
    }

    /// Follows its log, and those of the rollups that it is made from.
    pub fn update(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            self.table.update().await?;
            match &self.source {
                Source::Events { .. } => Ok(()),
                Source::Rollup(finer) => finer.update().await,
            }
        }
        .boxed()
    }

    /// The name under which a rollup's table keeps its fold position. A table that was dropped and made again is
    /// another one.
    pub fn fold_app(snapshot: &Snapshot) -> String {
        Rollup::fold_app_of(&snapshot.metadata.id)
    }

    /// The same, of a table with this id.
    pub fn fold_app_of(table_id: &str) -> String {
        format!("toplake.fold:{table_id}")
    }

    /// Pins the rollup, and after it what it is made from. Fails with [`Kind::Conflict`](crate::error::Kind::Conflict)
    /// where its definition was replaced: whoever looks it up again finds the new one.
    pub fn pin<'a>(self: &'a Arc<Self>, pins: &'a Pins) -> BoxFuture<'a, Result<PinnedRollup>> {
        async move {
            let mut snapshot = pins.snapshot(&self.table).await?;
            let source = match &self.source {
                Source::Events { table, time_column } => PinnedSource::Events(PinnedEvents {
                    snapshot: pins.snapshot(table).await?,
                    table: Arc::clone(table),
                    time_column: time_column.clone(),
                }),
                Source::Rollup(finer) => PinnedSource::Rollup(Box::new(finer.pin(pins).await?)),
            };
            while let Some(before) = self.before(&snapshot, source.snapshot()).await? {
                pins.replace(self.table.name(), Arc::clone(&before));
                snapshot = before;
            }
            if Edition::of(&snapshot) != self.edition {
                let name = self.table.name();
                return Err(Error::conflict(format!("the definition of '{name}' was replaced meanwhile")));
            }
            Ok(PinnedRollup { rollup: Arc::clone(self), snapshot, source })
        }
        .boxed()
    }
}

/// A rollup and all it depends on, each at one version.
#[derive(Debug)]
pub struct PinnedRollup {
    /// The rollup.
    pub rollup: Arc<Rollup>,
    /// Its version.
    pub snapshot: Arc<Snapshot>,
    /// Its source's version.
    pub source: PinnedSource,
}

/// An events table at one version.
#[derive(Debug)]
pub struct PinnedEvents {
    table: Arc<Table>,
    snapshot: Arc<Snapshot>,
    time_column: String,
}

impl PinnedEvents {
    /// The table.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Its version.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }
}

/// A source at one version.
#[derive(Debug)]
pub enum PinnedSource {
    /// An events table.
    Events(PinnedEvents),
    /// A finer rollup.
    Rollup(Box<PinnedRollup>),
}

/// What has changed in a source since a version.
#[derive(Debug, Default)]
pub struct Changes {
    /// Ranges of time that have to be computed anew.
    pub dirty: TimeRanges,
    /// Appended rows of the source; those in dirty ranges do not count.
    pub tail: Vec<LogicalPlan>,
}

/// Whose rows a computation sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A query: down to the raw events.
    Live,
    /// A fold: what stands in the source's own table.
    Stored,
}

impl PinnedSource {
    /// The version of the source's table.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        match self {
            PinnedSource::Events(e) => &e.snapshot,
            PinnedSource::Rollup(r) => &r.snapshot,
        }
    }

    /// The source's table.
    pub fn table(&self) -> &Arc<Table> {
        match self {
            PinnedSource::Events(e) => &e.table,
            PinnedSource::Rollup(r) => &r.rollup.table,
        }
    }

    /// What has changed since the table's version `since`.
    pub async fn changes(&self, since: i64, reach: Reach) -> Result<Changes> {
        let snapshot = self.snapshot();
        if since > snapshot.version {
            return Err(Error::conflict(format!(
                "table '{}' is at version {} and was read at version {since} before",
                self.table().name(),
                snapshot.version
            ))
            .with_hint("was it restored to an older state? drop the rollups over it and create them again"));
        }
        let commits = self.table().commits(since, snapshot.version).await?;
        let changed = commits.iter().map(|c| c.changed(&snapshot.schema, self.time_column()));
        let dirty = changed.fold(TimeRanges::default(), |all, some| all.union(&some));
        let appended = commits.iter().flat_map(|c| c.appended().cloned());
        let tail: Vec<Arc<File>> = appended.chain(snapshot.staged.iter().cloned()).collect();
        let mut changes = Changes { dirty, tail: vec![] };
        if !tail.is_empty() {
            changes.tail.push(self.files(tail).into_plan("tail")?);
        }
        match self {
            PinnedSource::Events(e) => {
                let cut = e.snapshot.expired_through().unwrap_or(i64::MIN);
                if changes.dirty != changes.dirty.at_or_after(cut) {
                    // What they would be computed from may be gone. The rollup has taken the change in before, or the
                    // rows could not have expired: pinned now, it needs them no more.
                    return Err(Error::conflict(format!(
                        "events of '{}' that a rollup has to read again have expired meanwhile",
                        e.table.name()
                    )));
                }
            }
            PinnedSource::Rollup(r) if reach == Reach::Live => {
                let own = r.pending(reach).await?;
                changes.dirty = changes.dirty.union(&own.dirty);
                changes.tail.extend(own.tail);
            }
            PinnedSource::Rollup(_) => {}
        }
        Ok(changes)
    }

    /// The events table at the end of the cascade, at its version.
    pub fn events(&self) -> &PinnedEvents {
        match self {
            PinnedSource::Events(events) => events,
            PinnedSource::Rollup(finer) => finer.source.events(),
        }
    }

    /// All rows of the source.
    pub async fn rows(&self, reach: Reach) -> Result<LogicalPlan> {
        match self {
            PinnedSource::Rollup(r) if reach == Reach::Live => r.partial_rows().await,
            _ => self.files(self.snapshot().files.values().cloned().collect()).into_plan("rows"),
        }
    }

    /// A selection of the source's files.
    pub fn files(&self, files: Vec<Arc<File>>) -> Files {
        Files::new(self.table().store(), Arc::clone(&self.snapshot().schema), files)
    }

    /// The source's time or bucket column.
    fn time_column(&self) -> &str {
        match self {
            PinnedSource::Events(e) => &e.time_column,
            PinnedSource::Rollup(r) => r.rollup.definition.bucket_column(),
        }
    }
}

impl PinnedRollup {
    /// The source version that is folded; `None` while the rollup is being built.
    pub fn position(&self) -> Option<i64> {
        self.snapshot.position(&Rollup::fold_app(&self.snapshot))
    }

    /// What the rollup has not folded yet, as its own dirty ranges and partial rows.
    pub fn pending(&self, reach: Reach) -> BoxFuture<'_, Result<Changes>> {
        async move {
            let Some(position) = self.position() else {
                return Ok(Changes { dirty: TimeRanges::everything(), tail: vec![] });
            };
            let definition = &self.rollup.definition;
            let changes = self.source.changes(position, reach).await?;
            let dirty = definition.widen(&changes.dirty).coarsened();
            let time = definition.source_time();
            let schema = &self.source.snapshot().schema;
            let tail = changes.tail.into_iter().map(|rows| {
                let clean = if dirty.is_empty() {
                    rows
                } else {
                    filtered(rows, within(time, schema, &dirty, false)?)?
                };
                definition.over(clean)
            });
            Ok(Changes { tail: tail.collect::<Result<Vec<_>>>()?, dirty })
        }
        .boxed()
    }

    /// Partial rows that stand for the whole view: several may share a bucket and key.
    pub fn partial_rows(&self) -> BoxFuture<'_, Result<LogicalPlan>> {
        async move {
            let definition = &self.rollup.definition;
            let pending = self.pending(Reach::Live).await?;
            if pending.dirty == TimeRanges::everything() {
                return definition.over(self.source.rows(Reach::Live).await?);
            }
            let folded = Files::active(self.rollup.table.store(), &self.snapshot).into_plan("folded")?;
            let mut arms = vec![];
            if pending.dirty.is_empty() {
                arms.push(folded);
            } else {
                let clean = within(definition.bucket_column(), definition.schema(), &pending.dirty, false)?;
                arms.push(filtered(folded, clean)?);
                arms.push(self.recomputed(&pending.dirty, Reach::Live).await?);
            }
            arms.extend(pending.tail);
            union(arms)
        }
        .boxed()
    }

    /// The definition over the source, in these ranges (whole buckets) only.
    pub async fn recomputed(&self, ranges: &TimeRanges, reach: Reach) -> Result<LogicalPlan> {
        self.recomputed_from(self.source.rows(reach).await?, ranges)
    }

    /// The same over these rows of the source.
    pub fn recomputed_from(&self, rows: LogicalPlan, ranges: &TimeRanges) -> Result<LogicalPlan> {
        let definition = &self.rollup.definition;
        let inside = within(definition.source_time(), &self.source.snapshot().schema, ranges, true)?;
        definition.over(filtered(rows, inside)?)
    }

    /// The view: one row for each bucket and key.
    pub async fn view(&self) -> Result<LogicalPlan> {
        self.masked(self.rollup.definition.merge(self.partial_rows().await?)?)
    }

    /// The view, not merged: rows that give the view if they are merged.
    pub async fn partial_view(&self) -> Result<LogicalPlan> {
        // What is not known is not known of a whole bucket: NULL in all its rows is NULL when they are merged.
        self.masked(self.partial_rows().await?)
    }
}

fn filtered(plan: LogicalPlan, filter: datafusion::prelude::Expr) -> Result<LogicalPlan> {
    Ok(LogicalPlanBuilder::from(plan).filter(filter)?.build()?)
}

/// All arms, one below the other.
pub fn union(arms: Vec<LogicalPlan>) -> Result<LogicalPlan> {
    let mut arms = arms.into_iter();
    let Some(first) = arms.next() else { return Err(Error::internal("a view without rows")) };
    let mut all = LogicalPlanBuilder::from(first);
    for arm in arms {
        all = all.union(arm)?;
    }
    Ok(all.build()?)
}
