//! Sets of time ranges: which buckets are dirty, replaced or expired.

use serde::{Deserialize, Serialize};

/// More ranges than this are joined by [`TimeRanges::coarsened`].
const MAX_RANGES: usize = 256;

/// A set of half-open ranges `[from, to)` in microseconds since 1970, sorted, disjoint and not adjacent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(i64, i64)>", into = "Vec<(i64, i64)>")]
pub struct TimeRanges(Vec<(i64, i64)>);

impl From<Vec<(i64, i64)>> for TimeRanges {
    fn from(ranges: Vec<(i64, i64)>) -> Self {
        ranges.into_iter().collect()
    }
}

impl From<TimeRanges> for Vec<(i64, i64)> {
    fn from(ranges: TimeRanges) -> Self {
        ranges.0
    }
}

impl FromIterator<(i64, i64)> for TimeRanges {
    fn from_iter<T: IntoIterator<Item = (i64, i64)>>(ranges: T) -> Self {
        let mut sorted: Vec<(i64, i64)> = ranges.into_iter().filter(|(from, to)| from < to).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::with_capacity(sorted.len());
        for (from, to) in sorted {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        TimeRanges(merged)
    }
}

impl TimeRanges {
    /// All of time.
    pub fn everything() -> Self {
        TimeRanges(vec![(i64::MIN, i64::MAX)])
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.0.iter().copied()
    }

    /// What is in either.
    pub fn union(&self, other: &TimeRanges) -> TimeRanges {
        self.iter().chain(other.iter()).collect()
    }

    /// What lies at or after `from`.
    pub fn at_or_after(&self, from: i64) -> TimeRanges {
        self.iter().map(|(a, b)| (a.max(from), b)).collect()
    }

    /// What lies in `[from, to)`.
    pub fn clipped(&self, from: i64, to: i64) -> TimeRanges {
        self.iter().map(|(a, b)| (a.max(from), b.min(to))).collect()
    }

    /// What is in this and not in `other`.
    pub fn minus(&self, other: &TimeRanges) -> TimeRanges {
        let mut left = vec![];
        for (from, to) in self.iter() {
            let mut rest = from;
            for (a, b) in other.iter().filter(|(a, b)| *b > from && *a < to) {
                left.push((rest, a));
                rest = b;
            }
            left.push((rest, to));
        }
        left.into()
    }

    /// At most 256 ranges, and no less than before: those that lie closest are joined. A filter of thousands of ranges
    /// costs more than it saves, and more than has to be may always be computed anew.
    pub fn coarsened(self) -> TimeRanges {
        if self.0.len() <= MAX_RANGES {
            return self;
        }
        let mut gaps: Vec<i64> = self.0.windows(2).map(|w| w[1].0.saturating_sub(w[0].1)).collect();
        gaps.sort_unstable();
        let widest_joined = gaps[self.0.len() - MAX_RANGES];
        let mut joined: Vec<(i64, i64)> = vec![];
        for (from, to) in self.0 {
            match joined.last_mut() {
                Some(last) if from.saturating_sub(last.1) <= widest_joined => last.1 = to,
                _ => joined.push((from, to)),
            }
        }
        TimeRanges(joined)
    }

    /// Whether any instant of `[from, to]` (both inclusive) is in it.
    pub fn overlaps(&self, from: i64, to: i64) -> bool {
        let after = self.0.partition_point(|&(_, end)| end <= from);
        self.0.get(after).is_some_and(|&(start, _)| start <= to)
    }

    /// Each range widened by `start` and `end`, which give the bounds of the bucket an instant is in.
    pub fn widen(&self, start: impl Fn(i64) -> i64, end: impl Fn(i64) -> i64) -> TimeRanges {
        self.iter()
            .map(|(a, b)| {
                let from = if a == i64::MIN { a } else { start(a) };
                let to = if b == i64::MAX { b } else { end(b - 1) };
                (from, to)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_when_they_touch() {
        let ranges: TimeRanges = [(5, 7), (0, 2), (2, 3), (6, 9), (4, 4)].into_iter().collect();
        assert_eq!(ranges.iter().collect::<Vec<_>>(), vec![(0, 3), (5, 9)]);
    }

    #[test]
    fn overlap_includes_both_ends_of_what_is_asked() {
        let ranges: TimeRanges = [(10, 20)].into_iter().collect();
        assert!(ranges.overlaps(0, 10) && ranges.overlaps(19, 30) && ranges.overlaps(12, 13));
        assert!(!ranges.overlaps(0, 9) && !ranges.overlaps(20, 30));
    }

    #[test]
    fn what_is_taken_away_leaves_both_ends() {
        let ranges: TimeRanges = [(0, 10), (20, 30), (40, 50)].into_iter().collect();
        let other: TimeRanges = [(2, 4), (6, 22), (25, 26), (40, 60)].into_iter().collect();
        let left: Vec<_> = ranges.minus(&other).iter().collect();
        assert_eq!(left, vec![(0, 2), (4, 6), (22, 25), (26, 30)]);
        assert_eq!(ranges.minus(&TimeRanges::default()), ranges);
        assert!(ranges.minus(&TimeRanges::everything()).is_empty());
        assert_eq!(ranges.clipped(5, 25).iter().collect::<Vec<_>>(), vec![(5, 10), (20, 25)]);
    }

    #[test]
    fn widening_takes_whole_buckets() {
        let ranges: TimeRanges = [(11, 12), (25, 31)].into_iter().collect();
        let widened = ranges.widen(|t| t / 10 * 10, |t| t / 10 * 10 + 10);
        assert_eq!(widened.iter().collect::<Vec<_>>(), vec![(10, 40)]);
    }
}
