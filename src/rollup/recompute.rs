//! Recompute: ranges of time that are to be computed anew from the source.
//!
//! What is left to do stands in the options of the rollup's table, so that it outlives whoever asked for it. Each fold takes
//! the newest part of it that is no more than one unit of work into its dirty set, and the commit that replaces those
//! buckets takes them off. Queries need not wait: folded buckets are shown as they are until they are replaced.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use toplake_udfs::time_bucket::Bucketing;

use super::view::{PinnedRollup, PinnedSource, Rollup};
use crate::error::{Error, Kind, Result};
use crate::lake::action::{CommitKind, Metadata};
use crate::lake::archived::{Archived, archived_from};
use crate::lake::committer::Change;
use crate::lake::instant::shown;
use crate::lake::pin::Pins;
use crate::lake::range::TimeRanges;
use crate::lake::snapshot::Snapshot;

/// Option of a rollup's table: what is to be computed anew.
const PENDING: &str = "toplake.pending";

/// The same, from events that are past their retention: with the archive.
const PENDING_ARCHIVED: &str = "toplake.pending_archived";

/// Bytes of source files that one unit reads; a bucket that has more is a unit of its own.
const UNIT: i64 = 2 << 30;

/// Times a request is made again after losing to another commit.
const TRIES: usize = 20;

/// Which events a recompute reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The events that are there.
    Events,
    /// Also those that are past their retention.
    Archive,
}

/// What is still to be computed anew.
pub fn pending(snapshot: &Snapshot) -> Result<TimeRanges> {
    Ok(listed(snapshot, PENDING)?.union(&listed(snapshot, PENDING_ARCHIVED)?))
}

fn listed(snapshot: &Snapshot, option: &str) -> Result<TimeRanges> {
    let Some(json) = snapshot.option(option) else { return Ok(TimeRanges::default()) };
    serde_json::from_str(json)
        .map_err(|e| Error::corrupt(format!("option {option} is not a list of ranges: {e}")))
}

fn list(metadata: &mut Metadata, option: &str, ranges: &TimeRanges) -> Result<()> {
    if ranges.is_empty() {
        metadata.configuration.remove(option);
        return Ok(());
    }
    let json =
        serde_json::to_string(ranges).map_err(|e| Error::internal(format!("cannot write ranges: {e}")))?;
    metadata.configuration.insert(option.to_owned(), json);
    Ok(())
}

/// Adds to what is still to be computed anew from the events that are there.
pub(super) fn add_pending(metadata: &mut Metadata, snapshot: &Snapshot, more: &TimeRanges) -> Result<()> {
    list(metadata, PENDING, &listed(snapshot, PENDING)?.union(more))
}

/// Asks for ranges (widened to whole buckets) to be computed anew by the folds to come, and gives what that is: nothing
/// where there are no events. Fails where events of that time are gone, or not in the archive.
pub async fn request(rollup: &Arc<Rollup>, wanted: &TimeRanges, origin: Origin) -> Result<TimeRanges> {
    let mut last = None;
    for _ in 0..TRIES {
        let pinned = rollup.pin(&Pins::default()).await?;
        let ranges = requested(&pinned, wanted, origin).await?;
        // A rollup that is being built is computed from the source anyway, though not from an archive.
        if pinned.position().is_none() && origin == Origin::Events {
            return Ok(ranges);
        }
        let split = pinned.first_kept();
        let (gone, kept) = match origin {
            Origin::Events => (TimeRanges::default(), ranges.clone()),
            Origin::Archive => (ranges.clipped(i64::MIN, split), ranges.at_or_after(split)),
        };
        let mut metadata = pinned.snapshot.metadata.as_ref().clone();
        add_pending(&mut metadata, &pinned.snapshot, &kept)?;
        let archived = listed(&pinned.snapshot, PENDING_ARCHIVED)?.union(&gone);
        list(&mut metadata, PENDING_ARCHIVED, &archived)?;
        if metadata == *pinned.snapshot.metadata {
            return Ok(ranges);
        }
        let mut change = Change::new(CommitKind::Metadata, "RECOMPUTE", &pinned.snapshot);
        change.metadata = Some(metadata);
        match rollup.table.commit(&change).await {
            Err(e) if e.kind() == Kind::Conflict => last = Some(e),
            Err(e) => return Err(e),
            Ok(_) => return Ok(ranges),
        }
    }
    Err(last.unwrap_or_else(|| Error::internal("no try was made")))
}

/// Whole buckets, no more than there are rows for; an error where events are gone.
async fn requested(pinned: &PinnedRollup, wanted: &TimeRanges, origin: Origin) -> Result<TimeRanges> {
    let definition = &pinned.rollup.definition;
    let ranges = definition.widen(wanted);
    let mut known = bounds(pinned);
    match origin {
        Origin::Events => pinned.refuse_expired(&ranges)?,
        Origin::Archive => {
            pinned.refuse_unarchived(&ranges)?;
            if let Some(archived) = Archived::open(pinned.source.snapshot()).await? {
                known = hull(known, archived.bounds(definition.source_time()).map(|(bounds, _)| bounds));
            }
        }
    }
    Ok(match known {
        Some((from, to)) => definition.widen(&ranges.clipped(from, to)),
        None => ranges,
    })
}

/// The times that the source or the rollup has rows of; `None` where a file does not say.
pub(super) fn bounds(pinned: &PinnedRollup) -> Option<(i64, i64)> {
    let own = pinned.rollup.definition.bucket_column();
    let (source, time) = (pinned.source.snapshot(), pinned.rollup.definition.source_time());
    let files = pinned.snapshot.files.values().map(|f| f.stats(&pinned.snapshot.schema).time_bounds(own));
    let files = files.chain(source.files.values().map(|f| f.stats(&source.schema).time_bounds(time)));
    hull(Some((i64::MAX, i64::MIN)), files)
}

/// Bounds that have those of files in them; `None` where one does not say.
fn hull(bounds: Option<(i64, i64)>, files: impl Iterator<Item = Option<(i64, i64)>>) -> Option<(i64, i64)> {
    files.fold(bounds, |hull, file| match (hull, file) {
        (Some((from, to)), Some((lowest, highest))) => Some((from.min(lowest), to.max(highest + 1))),
        _ => None,
    })
}

impl PinnedRollup {
    /// Fails where the range begins before what the events table below still has.
    pub fn refuse_expired(&self, ranges: &TimeRanges) -> Result<()> {
        let mut source = &self.source;
        while let PinnedSource::Rollup(finer) = source {
            source = &finer.source;
        }
        let (Some(cut), Some((from, _))) = (source.snapshot().expired_through(), ranges.iter().next()) else {
            return Ok(());
        };
        if from >= cut {
            return Ok(());
        }
        let (rollup, events) = (self.rollup.table.name(), source.table().name());
        Err(Error::expired(format!(
            "'{rollup}': the range begins with the bucket of {}, and events of '{events}' are kept from {} on",
            shown(from),
            shown(cut)
        ))
        .with_hint("the rollup keeps what it has of the time before; choose a later beginning"))
    }

    /// The first instant from which on all events of a bucket are there.
    fn first_kept(&self) -> i64 {
        let cut = self.source.snapshot().expired_through();
        cut.map_or(i64::MIN, |cut| self.rollup.definition.bucketing().end(cut - 1))
    }

    /// Fails where the range begins before what the archive of the events has all of.
    fn refuse_unarchived(&self, ranges: &TimeRanges) -> Result<()> {
        let events = self.source.snapshot();
        let (Some(cut), Some((from, _))) = (events.expired_through(), ranges.iter().next()) else {
            return Ok(());
        };
        let whole = archived_from(events);
        if from >= cut || whole.is_some_and(|whole| whole <= from) {
            return Ok(());
        }
        let (rollup, table) = (self.rollup.table.name(), self.source.table().name());
        let whole = shown(whole.unwrap_or(cut));
        Err(Error::expired(format!(
            "'{rollup}': the range begins with the bucket of {}, and events of '{table}' before {whole} left without an \
             archive",
            shown(from),
        ))
        .with_hint("the rollup keeps what it has of the time before; choose a later beginning"))
    }
}

/// What one fold computes anew.
#[derive(Debug, Default)]
pub(super) struct Unit {
    /// Whole buckets.
    pub(super) ranges: TimeRanges,
    /// Events of these that are past their retention.
    pub(super) archived: Option<LogicalPlan>,
    /// What is left after it of what the events have.
    kept: TimeRanges,
    /// What is left after it of what needs the archive.
    gone: TimeRanges,
    /// Whether the commit has to say so.
    pub(super) counts: bool,
}

impl Unit {
    /// The newest unit of what is pending; what needs the archive comes last.
    pub(super) async fn next(pinned: &PinnedRollup) -> Result<Self> {
        let kept = listed(&pinned.snapshot, PENDING)?;
        let gone = listed(&pinned.snapshot, PENDING_ARCHIVED)?;
        if kept.is_empty() && gone.is_empty() {
            return Ok(Unit::default());
        }
        let (source, time) = (pinned.source.snapshot(), pinned.rollup.definition.source_time());
        let bounds = source.files.values().map(|f| (f.stats(&source.schema).time_bounds(time), f.add.size));
        let mut files: Vec<(Option<(i64, i64)>, i64)> = bounds.collect();
        // What has expired since it was asked for stays as it is.
        let kept = match pinned.first_kept() {
            i64::MIN => kept,
            first => kept.at_or_after(first),
        };
        let bucketing = pinned.rollup.definition.bucketing();
        if !kept.is_empty() || gone.is_empty() {
            let ranges = newest(&kept, bucketing, UNIT, |from, to| bytes(&files, from, to));
            let kept = kept.minus(&ranges);
            return Ok(Unit { ranges, archived: None, kept, gone, counts: true });
        }
        let Some(archived) = Archived::open(source).await? else {
            return Ok(Unit { counts: true, ..Default::default() });
        };
        // The same for what has left without the archive.
        let gone = match archived_from(source) {
            None => TimeRanges::default(),
            Some(i64::MIN) => gone,
            Some(whole) => gone.at_or_after(bucketing.end(whole - 1)),
        };
        files.extend(archived.bounds(time));
        let ranges = newest(&gone, bucketing, UNIT, |from, to| bytes(&files, from, to));
        let rows = archived.rows();
        let archived = if rows.is_empty() { None } else { Some(rows.into_plan("rows")?) };
        Ok(Unit { gone: gone.minus(&ranges), ranges, archived, kept, counts: true })
    }

    /// What is left after it.
    pub(super) fn left(&self) -> TimeRanges {
        self.kept.union(&self.gone)
    }

    /// Takes it off what is pending.
    pub(super) fn take_off(&self, metadata: &mut Metadata) -> Result<()> {
        list(metadata, PENDING, &self.kept)?;
        list(metadata, PENDING_ARCHIVED, &self.gone)
    }
}

/// How many bytes of files lie in a range.
fn bytes(files: &[(Option<(i64, i64)>, i64)], from: i64, to: i64) -> i64 {
    let each = files.iter().map(|(bounds, size)| {
        let share = bounds.map_or(1.0, |bounds| share(bounds, (from, to)));
        (*size as f64 * share) as i64
    });
    each.sum()
}

/// How much of a file lies in a range, if its rows lie evenly.
fn share((lowest, highest): (i64, i64), (from, to): (i64, i64)) -> f64 {
    let span = highest as f64 - lowest as f64 + 1.0;
    let overlap = to.min(highest.saturating_add(1)) as f64 - from.max(lowest) as f64;
    (overlap / span).clamp(0.0, 1.0)
}

/// The newest whole buckets that have at most `limit` bytes, and at least one bucket.
fn newest(
    pending: &TimeRanges,
    bucketing: &Bucketing,
    limit: i64,
    bytes: impl Fn(i64, i64) -> i64,
) -> TimeRanges {
    let Some((mut from, to)) = pending.iter().last() else { return TimeRanges::default() };
    while from != i64::MIN && to != i64::MAX && bytes(from, to) > limit {
        let middle = from + (to - from) / 2;
        let start = bucketing.start(middle);
        let next = if start > from { start } else { bucketing.end(middle) };
        if next >= to {
            break;
        }
        from = next;
    }
    [(from, to)].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use toplake_udfs::time_bucket::BucketWidth;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn units_are_whole_buckets_newest_first_and_end() {
        let bucketing = Bucketing::new(BucketWidth::date_trunc_equivalent("hour").unwrap(), None, None);
        let mut pending: TimeRanges = [(0, 100 * HOUR), (200 * HOUR, 203 * HOUR)].into_iter().collect();
        let mut units = vec![];
        while !pending.is_empty() {
            // One byte an hour.
            let unit = newest(&pending, &bucketing, 10, |from, to| (to - from) / HOUR);
            pending = pending.minus(&unit);
            units.extend(unit.iter());
        }
        assert_eq!(units[0], (200 * HOUR, 203 * HOUR));
        assert!(units.windows(2).all(|pair| pair[1].1 <= pair[0].0), "{units:?}");
        assert!(units.iter().all(|(a, b)| a % HOUR == 0 && b % HOUR == 0 && b - a <= 10 * HOUR), "{units:?}");
        assert_eq!(units.iter().map(|(a, b)| b - a).sum::<i64>(), 103 * HOUR);
    }

    #[test]
    fn a_bucket_that_is_too_big_is_a_unit_of_its_own() {
        let bucketing = Bucketing::new(BucketWidth::date_trunc_equivalent("hour").unwrap(), None, None);
        let pending: TimeRanges = [(0, 5 * HOUR)].into_iter().collect();
        let unit = newest(&pending, &bucketing, 10, |from, to| (to - from) / HOUR * 1000);
        assert_eq!(unit.iter().collect::<Vec<_>>(), vec![(4 * HOUR, 5 * HOUR)]);
    }

    #[test]
    fn a_file_counts_by_how_much_of_it_lies_in_the_range() {
        assert!((share((0, 99), (50, 200)) - 0.5).abs() < 1e-9);
        assert!(share((0, 99), (100, 200)) == 0.0);
        assert!(share((5, 5), (0, 10)) == 1.0);
    }
}
