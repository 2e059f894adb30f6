//! Which files of a table are worth merging.
//!
//! Files are kept by *period*: as few days (1, 16, 256, or all of time) as make up a file worth its name on the average.
//! Within a period they are merged by tiers of size, four of about the same size at a time, so that a row is rewritten once
//! a tier, however long files keep coming, and a period has a few small files at most. A file whose rows lie all over the
//! place, such as a fold that had late events, waits with its like until together they are worth being cut into periods.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::lake::range::TimeRanges;
use crate::lake::snapshot::{File, Snapshot};

/// Files of one tier that are merged at once, at least.
const FAN_IN: usize = 4;

/// Files of the lowest tier are smaller than this; those of each next one are up to [`FAN_IN`] times as big.
const SMALLEST: i64 = 64 << 10;

/// A file of this size stays as it is.
const FULL: i64 = 64 << 20;

/// Worth a file of its own: a period has this much on the average, and so has a stray file before it is cut.
pub const WORTH: i64 = 16 << 20;

/// Periods that a file may touch and still count as one of the first of them.
const CLOSE: i64 = 8;

/// What one commit rewrites at most.
const MOST_BYTES: i64 = 512 << 20;
const MOST_FILES: usize = 1000;

const DAY: i64 = 86_400_000_000;

/// How a table is cut into periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// `None` is all of time.
    micros: Option<i64>,
}

impl Period {
    /// The number of the period that an instant is in.
    pub fn number(self, time: i64) -> i64 {
        self.micros.map_or(0, |micros| time.div_euclid(micros))
    }
}

/// Files to merge.
#[derive(Debug)]
pub struct Group {
    /// The files.
    pub files: Vec<Arc<File>>,
    /// How the table is cut.
    pub period: Period,
    /// Whether a new file begins with each period, however small the last one is.
    pub cut: bool,
}

/// A file and the times of its rows, where they are known.
struct Dated {
    file: Arc<File>,
    bounds: Option<(i64, i64)>,
}

/// Where a file belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    In(i64),
    /// All over the place.
    Stray,
    /// Without statistics.
    Unknown,
}

/// The next files to merge, if any are worth it. `time` is the column that rows are ordered by.
pub fn next_group(snapshot: &Snapshot, time: Option<&str>) -> Option<Group> {
    let bounds = |file: &File| time.and_then(|column| file.stats(&snapshot.schema).time_bounds(column));
    let files: Vec<Dated> =
        snapshot.files.values().map(|file| Dated { file: Arc::clone(file), bounds: bounds(file) }).collect();
    let period = match time {
        Some(_) => period(&files),
        None => Period { micros: None },
    };
    let mut places: BTreeMap<Place, Vec<Arc<File>>> = BTreeMap::new();
    for Dated { file, bounds } in files {
        let place = match bounds {
            _ if time.is_none() => Place::In(0),
            None => Place::Unknown,
            Some((low, high)) if period.number(high) - period.number(low) < CLOSE => {
                Place::In(period.number(low))
            }
            Some(_) => Place::Stray,
        };
        places.entry(place).or_default().push(file);
    }
    let big = |file: &&Arc<File>| file.add.size >= WORTH;
    let strays = places.get(&Place::Stray).map(|strays| strays.iter().filter(big).cloned().collect());
    if let Some(files) = strays.filter(|files: &Vec<_>| !files.is_empty()) {
        return Some(Group { files: bounded(files), period, cut: true });
    }
    places.into_iter().find_map(|(place, files)| {
        let files = bounded(fullest_tier(files)?);
        let bytes: i64 = files.iter().map(|f| f.add.size).sum();
        Some(Group { files, period, cut: place == Place::Stray && bytes >= WORTH })
    })
}

/// The shortest period that has enough on the average of those that the table has rows in. A file that is worth its name
/// counts for all that it touches, a small one only for its first: one stray row of long ago is no reason.
fn period(files: &[Dated]) -> Period {
    let bytes: i64 = files.iter().map(|dated| dated.file.add.size).sum();
    let days = [1, 16, 256].map(|days| Period { micros: Some(days * DAY) });
    let worth = |period: &Period| {
        let spans = files.iter().filter_map(|dated| {
            let (low, high) = dated.bounds?;
            let last = if dated.file.add.size >= WORTH { high } else { low };
            Some((period.number(low), period.number(last) + 1))
        });
        let touched: i64 = spans.collect::<TimeRanges>().iter().map(|(from, to)| to - from).sum();
        bytes / touched.max(1) >= WORTH
    };
    days.into_iter().find(worth).unwrap_or(Period { micros: None })
}

/// The files of the highest tier that has enough of them.
fn fullest_tier(files: Vec<Arc<File>>) -> Option<Vec<Arc<File>>> {
    let mut tiers: BTreeMap<u32, Vec<Arc<File>>> = BTreeMap::new();
    for file in files.into_iter().filter(|file| file.add.size < FULL) {
        tiers.entry(tier(file.add.size)).or_default().push(file);
    }
    tiers.into_values().rev().find(|files| files.len() >= FAN_IN)
}

fn tier(size: i64) -> u32 {
    (size / SMALLEST).max(1).ilog(FAN_IN as i64) + u32::from(size >= SMALLEST)
}

/// As many as one commit may rewrite; the first in any case.
fn bounded(files: Vec<Arc<File>>) -> Vec<Arc<File>> {
    let mut bytes = 0;
    let fits = |file: &Arc<File>| {
        let first = bytes == 0;
        bytes += file.add.size.max(1);
        first || bytes <= MOST_BYTES
    };
    files.into_iter().take(MOST_FILES).take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::action::{Action, Add, Metadata, Protocol};
    use crate::lake::snapshot::Replay;
    use crate::lake::table::NewTable;
    use datafusion::arrow::datatypes::{Field, Schema};

    const START: i64 = 1_767_225_600_000_000; // 2026-01-01

    /// A table of which only sizes and times are known, and what its compaction has rewritten.
    struct Imagined {
        snapshot: Snapshot,
        next: usize,
        appended: i64,
        rewritten: i64,
    }

    impl Imagined {
        fn new() -> Self {
            let schema = Schema::new(vec![Field::new("t", crate::lake::schema::timestamp(false), false)]);
            let new = NewTable { schema, configuration: vec![], description: None };
            let metadata: Metadata = new.metadata("t").unwrap();
            let mut replay = Replay::default();
            replay.commit(
                0,
                vec![
                    Action { protocol: Some(Protocol::ours()), ..Default::default() },
                    Action { meta_data: Some(metadata), ..Default::default() },
                ],
            );
            Imagined { snapshot: replay.finish("t").unwrap(), next: 0, appended: 0, rewritten: 0 }
        }

        fn commit(&mut self, removes: &[Arc<File>], adds: &[(i64, i64, i64)]) {
            let shown = |t: i64| chrono::DateTime::from_timestamp_micros(t).unwrap().to_rfc3339();
            let mut actions: Vec<Action> = removes
                .iter()
                .map(|file| Action { remove: Some(file.remove(0, false)), ..Default::default() })
                .collect();
            for (size, low, high) in adds {
                let (low, high) = (shown(*low), shown(*high));
                let stats = format!(r#"{{"minValues":{{"t":"{low}"}},"maxValues":{{"t":"{high}"}}}}"#);
                let path = format!("f{}", self.next);
                let add = Add { path, size: *size, stats: Some(stats), ..Default::default() };
                actions.push(Action { add: Some(add), ..Default::default() });
                self.next += 1;
            }
            let mut replay = Replay::from_snapshot(&self.snapshot);
            replay.commit(self.snapshot.version + 1, actions);
            self.snapshot = replay.finish("t").unwrap();
        }

        fn append(&mut self, size: i64, low: i64, high: i64) {
            self.appended += size;
            self.commit(&[], &[(size, low, high)]);
        }

        /// As [`super::super::compact`] would, with rows spread evenly over the time of a file that is cut.
        fn compact(&mut self) {
            let mut groups = 0;
            while let Some(group) = next_group(&self.snapshot, Some("t")) {
                groups += 1;
                assert!(groups < 1000, "it goes in circles: {group:?}");
                let bytes: i64 = group.files.iter().map(|f| f.add.size).sum();
                let bounds =
                    group.files.iter().filter_map(|f| f.stats(&self.snapshot.schema).time_bounds("t"));
                let (low, high) = bounds.fold((i64::MAX, i64::MIN), |a, b| (a.0.min(b.0), a.1.max(b.1)));
                let mut adds = vec![(bytes, low, high)];
                if group.cut {
                    let (first, last) = (group.period.number(low), group.period.number(high));
                    let micros = group.period.micros.unwrap();
                    let each = bytes / (last - first + 1);
                    let start = |p: i64| (p * micros).max(low);
                    adds = (first..=last).map(|p| (each, start(p), start(p))).collect();
                }
                assert!(group.cut || group.files.len() > 1, "nothing is gained");
                self.rewritten += bytes;
                self.commit(&group.files, &adds);
            }
        }
    }

    #[test]
    fn tiers_are_powers_of_the_fan_in() {
        let sizes = [0, SMALLEST - 1, SMALLEST, 4 * SMALLEST - 1, 4 * SMALLEST, FULL - 1];
        assert_eq!(sizes.map(tier), [0, 0, 1, 1, 2, 5]);
    }

    #[test]
    fn a_row_is_rewritten_a_few_times_however_long_files_keep_coming() {
        let mut table = Imagined::new();
        for n in 0..6_000 {
            let now = START + n * 60_000_000;
            table.append(20 << 10, now, now + 59_000_000);
            if n % 7 == 0 {
                table.compact();
            }
        }
        table.compact();
        let amplification = table.rewritten as f64 / table.appended as f64;
        assert!(amplification < 7.0, "each byte was written {amplification} times again");
        assert!(table.snapshot.files.len() < 5 * 18, "{} files", table.snapshot.files.len());
    }

    #[test]
    fn late_rows_do_not_spread_files_over_all_days() {
        let mut table = Imagined::new();
        // 30 days of 64 MB; every tenth file has a row of some day before.
        for n in 0..30 * 64 {
            let now = START + n * (DAY / 64);
            let late = START + (n * 7919) % (n + 1) * (DAY / 64);
            table.append(1 << 20, if n % 10 == 0 { late } else { now }, now);
            table.compact();
        }
        let amplification = table.rewritten as f64 / table.appended as f64;
        assert!(amplification < 7.0, "each byte was written {amplification} times again");
        let files: Vec<_> = table.snapshot.files.values().collect();
        assert!(files.len() < 30 * 12, "{} files", files.len());
        let spans = files.iter().filter_map(|f| f.stats(&table.snapshot.schema).time_bounds("t"));
        let wide = spans.filter(|(low, high)| (high - low) / DAY >= CLOSE).count();
        assert!(wide < 20, "{wide} files of {} lie all over the place", files.len());
    }

    #[test]
    fn a_small_table_is_not_cut_into_days() {
        let mut table = Imagined::new();
        for n in 0..400 {
            table.append(50 << 10, START + n * DAY, START + n * DAY + 1);
        }
        table.compact();
        assert!(table.snapshot.files.len() < 16, "{} files", table.snapshot.files.len());
    }
}
