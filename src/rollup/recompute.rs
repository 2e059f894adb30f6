//! Recompute: ranges of time that are to be computed anew from the source.
//!
//! What is left to do stands in the options of the rollup's table, so that it outlives whoever asked for it. Each fold takes
//! the newest part of it that is no more than one unit of work into its dirty set, and the commit that replaces those
//! buckets takes them off. Queries need not wait: folded buckets are shown as they are until they are replaced.

use std::sync::Arc;

use toplake_udfs::time_bucket::Bucketing;

use super::view::{PinnedRollup, PinnedSource, Rollup};
use crate::error::{Error, Kind, Result};
use crate::lake::action::{CommitKind, Metadata};
use crate::lake::committer::Change;
use crate::lake::instant::shown;
use crate::lake::pin::Pins;
use crate::lake::range::TimeRanges;
use crate::lake::snapshot::Snapshot;

/// Option of a rollup's table: what is to be computed anew.
const PENDING: &str = "toplake.pending";

/// Bytes of source files that one unit reads; a bucket that has more is a unit of its own.
const UNIT: i64 = 2 << 30;

/// Times a request is made again after losing to another commit.
const TRIES: usize = 20;

/// What is still to be computed anew.
pub fn pending(snapshot: &Snapshot) -> Result<TimeRanges> {
    let Some(json) = snapshot.option(PENDING) else { return Ok(TimeRanges::default()) };
    serde_json::from_str(json)
        .map_err(|e| Error::corrupt(format!("option {PENDING} is not a list of ranges: {e}")))
}

/// Sets what is still to be computed anew.
pub(super) fn set_pending(metadata: &mut Metadata, pending: &TimeRanges) -> Result<()> {
    if pending.is_empty() {
        metadata.configuration.remove(PENDING);
        return Ok(());
    }
    let json =
        serde_json::to_string(pending).map_err(|e| Error::internal(format!("cannot write ranges: {e}")))?;
    metadata.configuration.insert(PENDING.to_owned(), json);
    Ok(())
}

/// Asks for ranges (widened to whole buckets) to be computed anew by the folds to come, and gives what that is: nothing
/// where there are no events. Fails where events of that time are gone.
pub async fn request(rollup: &Arc<Rollup>, wanted: &TimeRanges) -> Result<TimeRanges> {
    let mut last = None;
    for _ in 0..TRIES {
        let pinned = rollup.pin(&Pins::default()).await?;
        let ranges = requested(&pinned, wanted)?;
        let before = pending(&pinned.snapshot)?;
        let all = before.union(&ranges);
        // A rollup that is being built is computed from the source anyway.
        if pinned.position().is_none() || all == before {
            return Ok(ranges);
        }
        let mut metadata = pinned.snapshot.metadata.as_ref().clone();
        set_pending(&mut metadata, &all)?;
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
fn requested(pinned: &PinnedRollup, wanted: &TimeRanges) -> Result<TimeRanges> {
    let definition = &pinned.rollup.definition;
    let ranges = definition.widen(wanted);
    pinned.refuse_expired(&ranges)?;
    Ok(match bounds(pinned) {
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
    let mut hull = Some((i64::MAX, i64::MIN));
    for file in files {
        hull = match (hull, file) {
            (Some((from, to)), Some((lowest, highest))) => Some((from.min(lowest), to.max(highest + 1))),
            _ => None,
        };
    }
    hull
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
}

/// What one fold computes anew.
#[derive(Debug, Default)]
pub(super) struct Unit {
    /// Whole buckets.
    pub(super) ranges: TimeRanges,
    /// What is left after it.
    pub(super) left: TimeRanges,
    /// Whether the commit has to say so.
    pub(super) counts: bool,
}

impl Unit {
    /// The newest unit of what is pending.
    pub(super) fn next(pinned: &PinnedRollup) -> Result<Self> {
        let pending = pending(&pinned.snapshot)?;
        if pending.is_empty() {
            return Ok(Unit::default());
        }
        let bucketing = pinned.rollup.definition.bucketing();
        // What has expired since it was asked for stays as it is.
        let there = match pinned.source.snapshot().expired_through() {
            Some(cut) => pending.at_or_after(bucketing.end(cut - 1)),
            None => pending,
        };
        let (source, time) = (pinned.source.snapshot(), pinned.rollup.definition.source_time());
        let bytes = |from: i64, to: i64| -> i64 {
            let each = source.files.values().map(|file| {
                let share = match file.stats(&source.schema).time_bounds(time) {
                    Some((lowest, highest)) => share((lowest, highest), (from, to)),
                    None => 1.0,
                };
                (file.add.size as f64 * share) as i64
            });
            each.sum()
        };
        let ranges = newest(&there, bucketing, UNIT, bytes);
        Ok(Unit { left: there.minus(&ranges), ranges, counts: true })
    }
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
