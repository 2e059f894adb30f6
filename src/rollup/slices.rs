//! Files whose buckets do not overlap, apart from each other.
//!
//! A bucket's rows lie in one slice, so slices are aggregated one by one or side by side, each by itself: nothing has to be
//! merged between them, a hash table holds the groups of a few buckets instead of all, and what comes out is in order of
//! time. Files that were ingested in order, or compacted, lie apart; late events hold together what they reach over.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;

use toplake_udfs::time_bucket::Bucketing;

use crate::lake::snapshot::File;

/// A slice is at least so many bytes of files, if there are more: each costs a plan.
const LEAST_BYTES: i64 = 1 << 20;

/// Chunks for each of the slices' lanes, so that one which takes longer does not keep the others waiting.
const CHUNKS_PER_LANE: i64 = 4;

/// Files that hold all rows of their buckets.
#[derive(Debug, Default)]
pub struct Slice {
    /// The files.
    pub files: Vec<Arc<File>>,
    /// Where the bucket begins that all their rows lie in, in microseconds, if it is one.
    pub bucket: Option<i64>,
    bytes: i64,
}

impl Slice {
    /// One slice of all of these.
    pub fn of(files: Vec<Arc<File>>) -> Self {
        let bytes = files.iter().map(|file| file.add.size).sum();
        Slice { files, bucket: None, bytes }
    }

    /// Adds a file with rows from the first of these buckets to the last.
    fn push(&mut self, file: Arc<File>, first: i64, last: i64) {
        let same = first == last && (self.files.is_empty() || self.bucket == Some(first));
        self.bucket = same.then_some(first);
        self.bytes += file.add.size;
        self.files.push(file);
    }
}

/// Files in slices by buckets of their column `time`. One slice where a file may have rows of any time.
pub fn slices(files: Vec<Arc<File>>, schema: &SchemaRef, time: &str, bucketing: &Bucketing) -> Vec<Slice> {
    let bounds = |file: &Arc<File>| file.stats(schema).time_bounds(time);
    let mut bounded = Vec::with_capacity(files.len());
    for file in &files {
        let Some((lowest, highest)) = bounds(file) else {
            return vec![Slice::of(files)];
        };
        bounded.push((bucketing.start(lowest), bucketing.start(highest), Arc::clone(file)));
    }
    bounded.sort_by_key(|(first, ..)| *first);
    let mut slices: Vec<Slice> = vec![];
    let mut last_bucket = i64::MIN;
    for (first, last, file) in bounded {
        match slices.last_mut() {
            Some(slice) if first <= last_bucket || slice.bytes < LEAST_BYTES => {
                slice.push(file, first, last);
            }
            _ => {
                let mut slice = Slice::default();
                slice.push(file, first, last);
                slices.push(slice);
            }
        }
        last_bucket = last_bucket.max(last);
    }
    slices
}

/// How slices are worked at.
#[derive(Debug, Default)]
pub struct Schedule {
    /// By all lanes together, one after another: they are so large that one lane would be the last to end.
    pub together: Vec<Slice>,
    /// Neighbours in time, each chunk by one lane.
    pub chunks: Vec<Vec<Slice>>,
}

/// Deals slices out to a number of lanes.
pub fn schedule(slices: Vec<Slice>, lanes: usize) -> Schedule {
    let lanes = i64::try_from(lanes).unwrap_or(i64::MAX).max(1);
    let total: i64 = slices.iter().map(|slice| slice.bytes).sum();
    let mut schedule = Schedule::default();
    let mut filled = i64::MAX;
    for slice in slices {
        if slice.bytes > total / lanes / 2 {
            schedule.together.push(slice);
            continue;
        }
        if filled >= total / lanes / CHUNKS_PER_LANE {
            schedule.chunks.push(vec![]);
            filled = 0;
        }
        filled += slice.bytes;
        if let Some(chunk) = schedule.chunks.last_mut() {
            chunk.push(slice);
        }
    }
    schedule
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{Field, Schema};
    use toplake_udfs::time_bucket::BucketWidth;

    use super::*;
    use crate::lake::action::Add;
    use crate::lake::schema::timestamp;

    /// A file of so many MiB with rows from one minute of a day to another.
    fn file(mib: i64, from: i64, to: i64) -> Arc<File> {
        let at = |minute: i64| format!("2026-03-01T{:02}:{:02}:00Z", minute / 60, minute % 60);
        let stats = format!(
            r#"{{"numRecords":2,"minValues":{{"t":"{}"}},"maxValues":{{"t":"{}"}},"nullCount":{{"t":0}}}}"#,
            at(from),
            at(to)
        );
        let path = format!("{from}-{to}");
        Arc::new(File::new(Add { path, size: mib << 20, stats: Some(stats), ..Default::default() }))
    }

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("t", timestamp(false), false)]))
    }

    fn by_hour(files: Vec<Arc<File>>) -> Vec<Slice> {
        let hour = Bucketing::new(BucketWidth::parse("1 hour").unwrap(), None, None);
        slices(files, &schema(), "t", &hour)
    }

    fn names(slices: &[Slice]) -> Vec<Vec<&str>> {
        slices.iter().map(|s| s.files.iter().map(|f| f.add.path.as_str()).collect()).collect()
    }

    #[test]
    fn a_bucket_lies_in_one_slice() {
        // Two files of one hour, one that reaches over two hours, one of its own.
        let files =
            vec![file(2, 300, 310), file(2, 61, 100), file(2, 0, 10), file(2, 30, 50), file(2, 110, 130)];
        assert_eq!(
            names(&by_hour(files)),
            [vec!["0-10", "30-50"], vec!["61-100", "110-130"], vec!["300-310"]]
        );
        let buckets = |files| by_hour(files).iter().map(|s| s.bucket.is_some()).collect::<Vec<_>>();
        let files =
            vec![file(2, 0, 10), file(2, 30, 50), file(2, 61, 100), file(2, 110, 130), file(2, 300, 310)];
        assert_eq!(buckets(files), [true, false, true]);
        // A late event holds all together.
        let files = vec![file(2, 0, 10), file(2, 60, 70), file(2, 120, 130), file(2, 5, 125)];
        assert_eq!(by_hour(files).len(), 1);
    }

    #[test]
    fn small_neighbours_and_unknown_files_are_one_slice() {
        let small = |from| {
            let add = Add { size: 400 << 10, ..file(0, from, from + 1).add.clone() };
            Arc::new(File::new(add))
        };
        let files: Vec<_> = (0..9).map(|hour| small(hour * 60)).collect();
        assert_eq!(by_hour(files).iter().map(|s| s.files.len()).collect::<Vec<_>>(), [3, 3, 3]);
        let unknown =
            Arc::new(File::new(Add { path: "unknown".into(), size: 9 << 20, ..Default::default() }));
        assert_eq!(by_hour(vec![file(2, 0, 1), file(2, 60, 61), unknown]).len(), 1);
    }

    #[test]
    fn a_slice_that_would_be_the_last_to_end_is_worked_at_by_all() {
        let files =
            (0..24).map(|hour| file(if hour == 5 { 40 } else { 2 }, hour * 60, hour * 60 + 9)).collect();
        let schedule = schedule(by_hour(files), 2);
        assert_eq!(names(&schedule.together), [["300-309"]]);
        let sizes: Vec<usize> = schedule.chunks.iter().map(Vec::len).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 23);
        assert!(sizes.len() > 2 && sizes.iter().all(|n| *n <= 6), "{sizes:?}");
    }
}
