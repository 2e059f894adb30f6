//! How far event time has come in a table: what its watermark is made of.
//!
//! The highest event time is kept for each partition of a stream, and one for all other rows together: an INSERT, a file or
//! a foreign writer's commit is a batch, after which nothing need follow, so it holds nobody back. The watermark is the
//! lowest of the partitions that are active, or the highest time seen at all where none is, less the table's
//! `allowed_lateness`; and it never falls, whoever joins and whatever leaves.
//!
//! All of it is carried from commit to commit with the snapshot, so asking costs nothing however many files there are. A
//! commit writes what it moves as positions (Delta `txn` actions), which nobody compares: the committer takes the higher
//! one. Of commits without them (a foreign writer's) the statistics of the files count, and our checkpoints keep what came
//! of that. Nobody has looked at such rows when they came in: they bring event time no further than `max_future` after the
//! time that the log gives for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;

use super::action::{Add, Metadata};
use super::snapshot::{Commit, File, Snapshot};
use super::stats::FileStats;

/// Option of an events table: the column that says when an event counts.
pub const TIME_COLUMN: &str = "toplake.time_column";

/// Option of an events table: how far the watermark stays behind the highest event time, in microseconds.
pub const ALLOWED_LATENESS: &str = "toplake.allowed_lateness";

/// [`ALLOWED_LATENESS`] where the table does not say.
pub const DEFAULT_LATENESS: i64 = 15 * 60_000_000;

/// Option of an events table: how far ahead of the clock an event may lie, in microseconds.
pub const MAX_FUTURE: &str = "toplake.max_future";

/// [`MAX_FUTURE`] where the table does not say.
pub const DEFAULT_MAX_FUTURE: i64 = 3_600_000_000;

/// Positions: `<prefix><table id>` of batches and of the watermark, `<prefix><table id>:<source>/<number>` of a stream.
const HIGHEST: &str = "toplake.highest:";
const IDLE: &str = "toplake.idle:";
const WATERMARK: &str = "toplake.watermark:";

/// A partition of a stream, such as one of a Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The stream.
    pub source: String,
    /// Which of its partitions.
    pub number: i64,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.number)
    }
}

impl Partition {
    /// The position that says how far a table has consumed the partition.
    pub fn consumed_app(&self, table_id: &str) -> String {
        format!("toplake.stream:{table_id}:{self}")
    }

    /// The partition that a position of [`Self::consumed_app`] is of.
    pub fn of_consumed_app(app: &str, table_id: &str) -> Option<Self> {
        app.strip_prefix("toplake.stream:")?
            .strip_prefix(table_id)?
            .strip_prefix(':')
            .and_then(Partition::read)
    }

    /// The partitions that a table has consumed, and how far.
    pub fn consumed(on: &Snapshot) -> impl Iterator<Item = (Partition, i64)> {
        let of = |app: &str| Partition::of_consumed_app(app, &on.metadata.id);
        on.txns.iter().filter_map(move |(app, version)| Some((of(app)?, *version)))
    }

    fn read(text: &str) -> Option<Self> {
        let (source, number) = text.rsplit_once('/')?;
        Some(Partition { source: source.to_owned(), number: number.parse().ok()? })
    }
}

/// How far a partition has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// The highest event time seen, in microseconds; `None` before its first row.
    pub highest: Option<i64>,
    /// Whether it has given all that it has: nobody waits for it until it gives more.
    pub idle: bool,
}

/// What a commit says of the streams that its rows come from. Without any they are a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Partitions that have given rows, with the highest event time of these; `None` for one that is about to: the
    /// watermark waits for it from this commit on.
    pub active: BTreeMap<Partition, Option<i64>>,
    /// Partitions that are read to their end.
    pub idle: BTreeSet<Partition>,
}

impl Seen {
    fn is_empty(&self) -> bool {
        self.active.is_empty() && self.idle.is_empty()
    }
}

/// How far event time has come in a table. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventTimes {
    streams: Arc<BTreeMap<Partition, Reached>>,
    /// The highest event time of rows that came by no stream.
    batches: Option<i64>,
    watermark: Option<i64>,
}

impl EventTimes {
    /// The event time up to which the table is taken to be complete, in microseconds; `None` where nothing says.
    pub fn watermark(&self) -> Option<i64> {
        self.watermark
    }

    /// The highest event time seen, in microseconds.
    pub fn highest(&self) -> Option<i64> {
        self.streams.values().map(|reached| reached.highest).max().flatten().max(self.batches)
    }

    /// The highest event time of rows that came by no stream.
    pub fn batches(&self) -> Option<i64> {
        self.batches
    }

    /// The partitions of streams.
    pub fn streams(&self) -> impl Iterator<Item = (&Partition, Reached)> {
        self.streams.iter().map(|(partition, reached)| (partition, *reached))
    }

    /// As of a checkpoint that does not say: by the positions, and by what the active files say.
    pub(super) fn of_checkpoint<'a>(
        metadata: &Metadata,
        schema: &SchemaRef,
        positions: impl Iterator<Item = (&'a str, i64)>,
        files: impl Iterator<Item = &'a Arc<File>>,
    ) -> Self {
        let mut times = EventTimes::of_positions(metadata, positions);
        if let Some(column) = metadata.configuration.get(TIME_COLUMN) {
            let streams = !times.streams.is_empty();
            let highest =
                files.filter_map(|file| foreign_highest(file, None, metadata, schema, column)).max();
            // Where streams are, the files have their rows too, and theirs are known.
            times.batches = times.batches.max(highest.filter(|_| !streams));
            times.raise_watermark(metadata);
        }
        times
    }

    /// As these positions say.
    pub(super) fn of_positions<'a>(
        metadata: &Metadata,
        positions: impl Iterator<Item = (&'a str, i64)>,
    ) -> Self {
        let mut times = EventTimes::default();
        if metadata.configuration.contains_key(TIME_COLUMN) {
            for (app, version) in positions {
                times.take(&metadata.id, app, version);
            }
        }
        times
    }

    /// All that it is, as positions.
    pub(super) fn positions(&self, table_id: &str) -> Vec<(String, i64)> {
        let mut positions = vec![];
        for (partition, reached) in self.streams.iter() {
            positions.extend(of_stream(table_id, partition, *reached));
        }
        positions.extend(self.own_positions(table_id));
        positions
    }

    /// Those that belong to no stream.
    fn own_positions(&self, table_id: &str) -> impl Iterator<Item = (String, i64)> {
        let batches = self.batches.map(|highest| (format!("{HIGHEST}{table_id}"), highest));
        let watermark = self.watermark.map(|watermark| (format!("{WATERMARK}{table_id}"), watermark));
        batches.into_iter().chain(watermark)
    }

    /// What a commit would make of it: the positions that the commit has to write.
    pub(super) fn moved_by(
        &self,
        metadata: &Metadata,
        seen: &Seen,
        batch: Option<i64>,
        stands: impl Fn(&str) -> Option<i64>,
    ) -> Vec<(String, i64)> {
        if !metadata.configuration.contains_key(TIME_COLUMN) {
            return vec![];
        }
        let mut next = self.clone();
        if !seen.is_empty() {
            let streams = Arc::make_mut(&mut next.streams);
            for (partition, highest) in &seen.active {
                let reached = streams.entry(partition.clone()).or_default();
                *reached = Reached { highest: reached.highest.max(*highest), idle: false };
            }
            for partition in &seen.idle {
                streams.entry(partition.clone()).or_default().idle = true;
            }
        }
        if seen.active.is_empty() {
            next.batches = next.batches.max(batch);
        }
        next.raise_watermark(metadata);
        let mut moved = vec![];
        for partition in seen.active.keys().chain(&seen.idle) {
            let reached = next.streams.get(partition).copied().unwrap_or_default();
            moved.extend(of_stream(&metadata.id, partition, reached));
        }
        // A batch says how far it came even where that is no news: who follows need not look at its files then.
        let says = |app: &str, version| batch.is_some() || stands(app) != Some(version);
        moved.extend(next.own_positions(&metadata.id).filter(|(app, version)| says(app, *version)));
        moved
    }

    /// Takes in a commit.
    pub(super) fn follow(
        &mut self,
        commit: &Commit,
        metadata: &Metadata,
        schema: impl FnOnce() -> Option<SchemaRef>,
    ) {
        let Some(column) = metadata.configuration.get(TIME_COLUMN) else { return };
        let mut told = false;
        for (app, version) in &commit.txns {
            told |= self.take(&metadata.id, app, *version);
        }
        let mut new = commit.new_rows().peekable();
        if !told
            && new.peek().is_some()
            && let Some(schema) = schema()
        {
            let at = Some(commit.timestamp).filter(|at| *at > 0);
            let highest = new.filter_map(|file| foreign_highest(file, at, metadata, &schema, column)).max();
            self.batches = self.batches.max(highest);
        }
        self.raise_watermark(metadata);
    }

    /// Takes in a position, if it is one of these.
    fn take(&mut self, table_id: &str, app: &str, version: i64) -> bool {
        let of = |prefix: &str| app.strip_prefix(prefix)?.strip_prefix(table_id);
        if let Some(rest) = of(HIGHEST) {
            match rest.strip_prefix(':').and_then(Partition::read) {
                Some(partition) => {
                    let reached = Arc::make_mut(&mut self.streams).entry(partition).or_default();
                    reached.highest = reached.highest.max(Some(version));
                }
                None => self.batches = self.batches.max(Some(version)),
            }
        } else if let Some(rest) = of(IDLE) {
            if let Some(partition) = rest.strip_prefix(':').and_then(Partition::read) {
                Arc::make_mut(&mut self.streams).entry(partition).or_default().idle = version != 0;
            }
        } else if of(WATERMARK).is_some() {
            self.watermark = self.watermark.max(Some(version));
        } else {
            return false;
        }
        true
    }

    fn raise_watermark(&mut self, metadata: &Metadata) {
        let mut active = self.streams.values().filter(|reached| !reached.idle).peekable();
        let reached = match active.peek() {
            // One that has given no row yet may begin anywhere.
            Some(_) => active.map(|reached| reached.highest).min().flatten(),
            None => self.highest(),
        };
        let lateness = metadata.configuration.get(ALLOWED_LATENESS).and_then(|text| text.parse().ok());
        let lateness = lateness.unwrap_or(DEFAULT_LATENESS);
        self.watermark = self.watermark.max(reached.map(|time| time.saturating_sub(lateness)));
    }
}

fn of_stream(table_id: &str, partition: &Partition, reached: Reached) -> impl Iterator<Item = (String, i64)> {
    let highest = reached.highest.map(|highest| (format!("{HIGHEST}{table_id}:{partition}"), highest));
    let idle = (format!("{IDLE}{table_id}:{partition}"), i64::from(reached.idle));
    highest.into_iter().chain([idle])
}

/// The highest event time of a file that may be a foreign writer's, no further than `max_future` after the commit that it
/// came by, in milliseconds, or where that is not known after it was written.
fn foreign_highest(
    file: &File,
    committed: Option<i64>,
    metadata: &Metadata,
    schema: &SchemaRef,
    column: &str,
) -> Option<i64> {
    let highest = file.stats(schema).highest_time_seen(column)?;
    let Some(came) = committed.or(Some(file.add.modification_time).filter(|at| *at > 0)) else {
        return Some(highest);
    };
    let max_future = metadata.configuration.get(MAX_FUTURE).and_then(|text| text.parse().ok());
    let latest = came.saturating_mul(1000).saturating_add(max_future.unwrap_or(DEFAULT_MAX_FUTURE));
    Some(highest.min(latest))
}

/// The highest event time of files that are about to join, by their statistics.
pub(super) fn highest_of(adds: &[Add], metadata: &Metadata, schema: &SchemaRef) -> Option<i64> {
    let column = metadata.configuration.get(TIME_COLUMN)?;
    let stats = adds.iter().filter_map(|add| add.stats.as_deref());
    stats.filter_map(|json| FileStats::parse(json, schema).highest_time_seen(column)).max()
}

/// No row of files that are about to join is earlier; `None` if nothing says.
pub(super) fn lowest_of(adds: &[Add], metadata: &Metadata, schema: &SchemaRef) -> Option<i64> {
    let column = metadata.configuration.get(TIME_COLUMN)?;
    let stats = adds.iter().filter_map(|add| add.stats.as_deref());
    stats.filter_map(|json| Some(FileStats::parse(json, schema).time_bounds(column)?.0)).min()
}

#[cfg(test)]
mod tests {
    use super::super::schema::timestamp;
    use super::super::table::NewTable;
    use super::*;
    use datafusion::arrow::datatypes::{Field, Schema};

    fn metadata(lateness: i64) -> Metadata {
        let schema = Schema::new(vec![Field::new("t", timestamp(false), false)]);
        let options = [(TIME_COLUMN, "t".to_owned()), (ALLOWED_LATENESS, lateness.to_string())];
        let configuration = options.map(|(key, value)| (key.to_owned(), value)).to_vec();
        NewTable { schema, configuration, description: None }.metadata("t").unwrap()
    }

    fn partition(number: i64) -> Partition {
        Partition { source: "kafka/eu".into(), number }
    }

    /// A table of which only the positions are known, as a process that opens it would.
    #[derive(Default)]
    struct Stands(BTreeMap<String, i64>);

    impl Stands {
        fn times(&self, metadata: &Metadata) -> EventTimes {
            EventTimes::of_positions(metadata, self.0.iter().map(|(app, v)| (app.as_str(), *v)))
        }

        fn commit(&mut self, metadata: &Metadata, seen: Seen, batch: Option<i64>) -> Option<i64> {
            let moved = self.times(metadata).moved_by(metadata, &seen, batch, |app| self.0.get(app).copied());
            self.0.extend(moved);
            let times = self.times(metadata);
            assert_eq!(times.positions(&metadata.id).into_iter().collect::<BTreeMap<_, _>>(), self.0);
            times.watermark()
        }
    }

    fn rows(rows: &[(i64, i64)]) -> Seen {
        let active = rows.iter().map(|(number, highest)| (partition(*number), Some(*highest)));
        Seen { active: active.collect(), idle: BTreeSet::new() }
    }

    fn idle(numbers: &[i64]) -> Seen {
        Seen { idle: numbers.iter().map(|n| partition(*n)).collect(), ..Default::default() }
    }

    #[test]
    fn the_slowest_active_partition_holds_the_watermark() {
        let (m, mut table) = (metadata(10), Stands::default());
        assert_eq!(table.commit(&m, Seen::default(), None), None);
        // Both are announced: the rows of the first to come do not make those of the other late.
        let announced =
            Seen { active: [(partition(0), None), (partition(1), None)].into(), ..Default::default() };
        assert_eq!(table.commit(&m, announced, None), None);
        assert_eq!(table.commit(&m, rows(&[(0, 1000)]), None), None);
        assert_eq!(table.commit(&m, rows(&[(1, 500)]), None), Some(490));
        assert_eq!(table.commit(&m, rows(&[(0, 2000), (1, 400)]), None), Some(490), "late rows move nothing");
        assert_eq!(table.commit(&m, Seen::default(), Some(9000)), Some(490), "a batch does not push");
        // Caught up: nobody waits for it, until it gives rows again.
        assert_eq!(table.commit(&m, idle(&[1]), None), Some(1990));
        assert_eq!(table.commit(&m, rows(&[(1, 600)]), None), Some(1990), "it never falls");
        assert_eq!(table.commit(&m, rows(&[(0, 3000)]), None), Some(1990));
        assert_eq!(table.commit(&m, rows(&[(1, 2500)]), None), Some(2490));
        let times = table.times(&m);
        assert_eq!((times.highest(), times.batches()), (Some(9000), Some(9000)));
        assert_eq!(table.commit(&m, idle(&[0, 1]), None), Some(8990), "nobody is waited for");
    }

    #[test]
    fn more_lateness_moves_the_watermark_no_more_for_a_while() {
        let (mut m, mut table) = (metadata(10), Stands::default());
        assert_eq!(table.commit(&m, Seen::default(), Some(1000)), Some(990));
        m.configuration.insert(ALLOWED_LATENESS.into(), "100".into());
        assert_eq!(table.commit(&m, Seen::default(), None), Some(990));
        assert_eq!(table.commit(&m, Seen::default(), Some(1050)), Some(990));
        assert_eq!(table.commit(&m, Seen::default(), Some(1200)), Some(1100));
        m.configuration.insert(ALLOWED_LATENESS.into(), "0".into());
        assert_eq!(table.commit(&m, Seen::default(), None), Some(1200));
    }

    #[test]
    fn another_table_in_the_same_log_begins_anew() {
        let (m, mut table) = (metadata(10), Stands::default());
        table.commit(&m, rows(&[(3, 1000)]), None);
        assert_eq!(table.times(&metadata(10)), EventTimes::default());
    }
}
