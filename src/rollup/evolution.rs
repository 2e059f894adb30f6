//! Another definition in the place of a rollup's own, without losing what it has.
//!
//! A definition that has the same source, buckets, keys and WHERE, and the same aggregate for each measure that stays, only
//! adds and drops measures: the stored rows stay. An added measure is not known in buckets that were folded before, and a
//! partial sum is not the answer: it is NULL there, in this rollup and in those above, until they are computed anew, which
//! the folds to come do. What is not known stands in the options of the rollup's table.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col, when};
use serde::{Deserialize, Serialize};

use super::definition::{Definition, within};
use super::recompute::{add_pending, bounds};
use super::view::{PinnedRollup, PinnedSource};
use crate::error::{Error, Result};
use crate::lake::action::Metadata;
use crate::lake::range::TimeRanges;
use crate::lake::schema;
use crate::lake::snapshot::Snapshot;

/// Option of a rollup's table: measures, and where they are not known.
const UNKNOWN: &str = "toplake.unknown";

/// Option of a rollup's table: names of measures that were dropped. The files still have them.
const DROPPED_MEASURES: &str = "toplake.dropped_measures";

/// Measures that were added, and where they are not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Unknown {
    measures: BTreeSet<String>,
    ranges: TimeRanges,
}

impl Unknown {
    fn of(snapshot: &Snapshot) -> Result<Self> {
        match snapshot.option(UNKNOWN) {
            Some(json) => serde_json::from_str(json)
                .map_err(|e| Error::corrupt(format!("option {UNKNOWN} is not what was written there: {e}"))),
            None => Ok(Unknown::default()),
        }
    }

    fn set(&self, metadata: &mut Metadata) -> Result<()> {
        if self.measures.is_empty() || self.ranges.is_empty() {
            metadata.configuration.remove(UNKNOWN);
            return Ok(());
        }
        let json = to_json(self)?;
        metadata.configuration.insert(UNKNOWN.to_owned(), json);
        Ok(())
    }
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal(format!("cannot write an option: {e}")))
}

/// Takes ranges that were computed anew off what is not known.
pub(super) fn known(metadata: &mut Metadata, snapshot: &Snapshot, ranges: &TimeRanges) -> Result<()> {
    let mut unknown = Unknown::of(snapshot)?;
    unknown.ranges = unknown.ranges.minus(ranges);
    unknown.set(metadata)
}

/// How a new definition differs from the one there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuresChange {
    /// Measures that are new.
    pub added: BTreeSet<String>,
    /// Measures that leave.
    pub dropped: BTreeSet<String>,
}

impl MeasuresChange {
    /// What changes, if it is only measures that join and leave; `None` if the rollup has to be built anew. A rollup that
    /// is still being built is begun again.
    pub fn between(pinned: &PinnedRollup, new: &Definition) -> Result<Option<Self>> {
        let old = &pinned.rollup.definition;
        if pinned.position().is_none() || !old.same_rows(new)? {
            return Ok(None);
        }
        let (before, after) = (old.aggregates()?, new.aggregates()?);
        if after.iter().any(|(name, aggregate)| before.get(name).is_some_and(|old| old != aggregate)) {
            return Ok(None);
        }
        let names = |of: &BTreeMap<String, String>| of.keys().cloned().collect::<BTreeSet<_>>();
        let (before, after) = (names(&before), names(&after));
        let change = MeasuresChange { added: &after - &before, dropped: &before - &after };
        // Old files would give a measure that comes back its old values.
        let dropped_before = dropped(&pinned.snapshot)?;
        Ok(change.added.is_disjoint(&dropped_before).then_some(change))
    }

    /// The metadata of the rollup's table afterwards, but for what the catalog keeps there.
    pub fn metadata(&self, pinned: &PinnedRollup, new: &Definition) -> Result<Metadata> {
        let snapshot = &pinned.snapshot;
        let mut metadata = snapshot.metadata.as_ref().clone();
        metadata.schema_string = schema::to_delta(new.schema())?;
        let mut unknown = Unknown::of(snapshot)?;
        unknown.measures.retain(|name| !self.dropped.contains(name));
        if !self.added.is_empty() {
            let all = match bounds(pinned) {
                Some((from, to)) => new.widen(&[(from, to)].into_iter().collect()),
                None => TimeRanges::everything(),
            };
            unknown.measures.extend(self.added.iter().cloned());
            unknown.ranges = unknown.ranges.union(&all);
            add_pending(&mut metadata, snapshot, &all)?;
        }
        unknown.set(&mut metadata)?;
        let mut names = dropped(snapshot)?;
        names.extend(self.dropped.iter().cloned());
        if !names.is_empty() {
            metadata.configuration.insert(DROPPED_MEASURES.to_owned(), to_json(&names)?);
        }
        Ok(metadata)
    }
}

fn dropped(snapshot: &Snapshot) -> Result<BTreeSet<String>> {
    match snapshot.option(DROPPED_MEASURES) {
        Some(json) => serde_json::from_str(json)
            .map_err(|e| Error::corrupt(format!("option {DROPPED_MEASURES} is not a list of names: {e}"))),
        None => Ok(BTreeSet::new()),
    }
}

impl PinnedRollup {
    /// Where each measure is not known: what this rollup has not computed since the measure was added, and where one that
    /// it is made from is not known.
    fn unknown(&self) -> Result<BTreeMap<String, TimeRanges>> {
        let definition = &self.rollup.definition;
        let own = Unknown::of(&self.snapshot)?;
        let mut all: BTreeMap<String, TimeRanges> = BTreeMap::new();
        for measure in own.measures {
            all.insert(measure, own.ranges.clone());
        }
        if let PinnedSource::Rollup(finer) = &self.source {
            let below = finer.unknown()?;
            if !below.is_empty() {
                for (measure, inputs) in definition.inputs()? {
                    let ranges = inputs.iter().filter_map(|input| below.get(input));
                    for ranges in ranges {
                        let mine = all.entry(measure.clone()).or_default();
                        *mine = mine.union(&definition.widen(ranges));
                    }
                }
            }
        }
        Ok(all)
    }

    /// Measures that are not known everywhere.
    pub fn unknown_measures(&self) -> Result<BTreeSet<String>> {
        let unknown = self.unknown()?.into_iter().filter(|(_, ranges)| !ranges.is_empty());
        Ok(unknown.map(|(measure, _)| measure).collect())
    }

    /// Rows in the rollup's form with NULL for what is not known.
    pub(super) fn masked(&self, rows: LogicalPlan) -> Result<LogicalPlan> {
        let unknown = self.unknown()?;
        if unknown.values().all(TimeRanges::is_empty) {
            return Ok(rows);
        }
        let definition = &self.rollup.definition;
        let columns = definition.schema().fields().iter().map(|field| {
            let column = col(Column::new_unqualified(field.name()));
            let Some(ranges) = unknown.get(field.name()).filter(|ranges| !ranges.is_empty()) else {
                return Ok(column);
            };
            let known =
                within(definition.bucket_column(), definition.schema(), &ranges.clone().coarsened(), false)?;
            Ok(when(known, column).end()?.alias(field.name()))
        });
        let columns: Vec<Expr> = columns.collect::<Result<_>>()?;
        Ok(LogicalPlanBuilder::from(rows).project(columns)?.build()?)
    }
}
