//! The vocabulary: rows, tables as logs of commits, and what a log says at each of its versions.

use std::collections::{BTreeMap, BTreeSet};

use super::variant::Variant;

pub(crate) type FileId = usize;
/// A number of commits: version `n` of a table is the table after its first `n` commits.
pub(crate) type VersionId = usize;

pub(crate) const PARTITIONS: usize = 2;
pub(crate) const KEYS: u8 = 3;
/// Allowed lateness: what the watermark stays behind the highest event time.
const LATENESS: i64 = 1;
const NEVER_EXPIRED: i64 = i64::MIN;

/// An event, or a partial row of a rollup: an event is the partial row of one event in a bucket of width one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) time: i64,
    pub(crate) key: u8,
    pub(crate) sum: i64,
    pub(crate) max: i64,
    pub(crate) count: i64,
}

impl Row {
    pub(crate) fn event(time: i64, key: u8, quantity: i64) -> Self {
        Self { time, key, sum: quantity, max: quantity, count: 1 }
    }

    pub(crate) fn bucket(&self, width: i64) -> i64 {
        bucket(self.time, width)
    }
}

pub(crate) fn bucket(time: i64, width: i64) -> i64 {
    time.div_euclid(width) * width
}

/// The definition of every rollup here: sum, maximum and count by bucket and key.
pub(crate) fn aggregate(rows: impl IntoIterator<Item = Row>, width: i64) -> Vec<Row> {
    let mut merged: BTreeMap<(i64, u8), Row> = BTreeMap::new();
    for row in rows {
        let time = row.bucket(width);
        merged
            .entry((time, row.key))
            .and_modify(|into| {
                into.sum += row.sum;
                into.max = into.max.max(row.max);
                into.count += row.count;
            })
            .or_insert(Row { time, ..row });
    }
    merged.into_values().collect()
}

/// A row that ingest puts beside the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SideRow {
    DeadLetter { partition: usize, offset: usize },
    Late { partition: usize, offset: usize },
    Ledger { partition: usize, from: usize, to: usize, stored: usize, dead: usize, late: usize },
}

/// What a source partition holds at one offset.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    Good(Row),
    Bad,
    /// Late, in a table that diverts late rows. (A late row that is accepted is a `Good` one.)
    Diverted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Events,
    Minute,
    /// A second direct dependent of the events, whose buckets and minutes nest neither way.
    Shift,
    Hour,
    DeadLetters,
    LateRows,
    Ledger,
}

impl Name {
    pub(crate) const ROLLUPS: [Name; 3] = [Name::Minute, Name::Shift, Name::Hour];
    pub(crate) const SIDE_TABLES: [Name; 3] = [Name::DeadLetters, Name::LateRows, Name::Ledger];
    const COUNT: usize = 7;

    /// The table whose log this one reads on from.
    pub(crate) fn source(self) -> Option<Name> {
        match self {
            Name::Events => None,
            Name::Hour => Some(Name::Minute),
            _ => Some(Name::Events),
        }
    }

    pub(crate) fn width(self) -> i64 {
        match self {
            Name::Minute => 2,
            Name::Shift => 3,
            Name::Hour => 8,
            _ => 1,
        }
    }

    pub(crate) fn direct_dependents_of_events() -> impl Iterator<Item = Name> {
        Name::ROLLUPS.into_iter().filter(|rollup| rollup.source() == Some(Name::Events))
    }

    pub(crate) fn is_side_table(self) -> bool {
        Name::SIDE_TABLES.contains(&self)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum CommitKind {
    Append,
    /// A fold with dirty buckets, a recompute, a repair.
    Replace {
        buckets: BTreeSet<i64>,
    },
    /// Compaction.
    Rewrite,
    /// Retention. The cut stands in the table's own log, so whoever pins a version pins its cut too.
    Expire {
        through: i64,
    },
    /// DELETE, UPDATE, another program's commit: all that is known is which files came and went.
    Foreign,
}

/// Where the rows of an added file come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    New,
    Carried,
    Replaced,
}

/// The source position that an ingest commit moves on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumed {
    pub(crate) partition: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) id: u64,
    pub(crate) kind: CommitKind,
    pub(crate) removed: Vec<FileId>,
    pub(crate) added: Vec<(FileId, Tag)>,
    /// `txn` of a rollup or a side table: the version of its source up to which this commit read it.
    pub(crate) read_to: Option<VersionId>,
    /// `txn` of an ingest commit.
    pub(crate) consumed: Option<Consumed>,
    pub(crate) highest_time: Option<i64>,
    /// Files of side tables that become visible with this commit.
    pub(crate) outbox: Vec<(Name, FileId)>,
}

impl Commit {
    pub(crate) fn new(id: u64, kind: CommitKind) -> Self {
        Self {
            id,
            kind,
            removed: vec![],
            added: vec![],
            read_to: None,
            consumed: None,
            highest_time: None,
            outbox: vec![],
        }
    }
}

/// What a table's log says at one version.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) active: BTreeSet<FileId>,
    pub(crate) read_to: VersionId,
    pub(crate) expired_through: i64,
    pub(crate) positions: [usize; PARTITIONS],
    highest: [Option<i64>; PARTITIONS],
}

impl Version {
    fn empty() -> Self {
        Self {
            active: BTreeSet::new(),
            read_to: 0,
            expired_through: NEVER_EXPIRED,
            positions: [0; PARTITIONS],
            highest: [None; PARTITIONS],
        }
    }

    /// The lowest of the partitions that have sent anything.
    pub(crate) fn watermark(&self) -> Option<i64> {
        self.highest.iter().flatten().min().map(|time| time - LATENESS)
    }

    fn after(&self, commit: &Commit) -> Self {
        let mut next = self.clone();
        for file in &commit.removed {
            next.active.remove(file);
        }
        next.active.extend(commit.added.iter().map(|(file, _)| file));
        next.read_to = commit.read_to.unwrap_or(self.read_to);
        if let CommitKind::Expire { through } = commit.kind {
            next.expired_through = through;
        }
        if let Some(Consumed { partition, to, .. }) = commit.consumed {
            next.positions[partition] = to;
            next.highest[partition] = next.highest[partition].max(commit.highest_time);
        }
        next
    }
}

pub(crate) struct Table {
    pub(crate) log: Vec<Commit>,
    versions: Vec<Version>,
    /// When each commit happened, on the one clock of the lake.
    ticks: Vec<u64>,
}

impl Table {
    fn empty() -> Self {
        Self { log: vec![], versions: vec![Version::empty()], ticks: vec![] }
    }

    pub(crate) fn head(&self) -> VersionId {
        self.log.len()
    }

    pub(crate) fn at(&self, version: VersionId) -> &Version {
        &self.versions[version]
    }

    pub(crate) fn latest(&self) -> &Version {
        self.at(self.head())
    }

    pub(crate) fn version_at(&self, tick: u64) -> VersionId {
        self.ticks.partition_point(|committed| *committed <= tick)
    }
}

/// Every table, every file ever written (vacuum is not modelled) and what the source partitions hold.
pub(crate) struct Lake {
    pub(crate) variant: Variant,
    pub(crate) now: u64,
    pub(crate) topics: [Vec<Message>; PARTITIONS],
    tables: [Table; Name::COUNT],
    files: Vec<Vec<Row>>,
    side_files: Vec<Vec<SideRow>>,
    last_id: u64,
}

impl Lake {
    pub(crate) fn new(variant: Variant) -> Self {
        Self {
            variant,
            now: 0,
            topics: Default::default(),
            tables: std::array::from_fn(|_| Table::empty()),
            files: vec![],
            side_files: vec![],
            last_id: 0,
        }
    }

    pub(crate) fn table(&self, name: Name) -> &Table {
        &self.tables[name as usize]
    }

    pub(crate) fn new_commit(&mut self, kind: CommitKind) -> Commit {
        self.last_id += 1;
        Commit::new(self.last_id, kind)
    }

    pub(crate) fn commit(&mut self, name: Name, commit: Commit) {
        self.now += 1;
        let table = &mut self.tables[name as usize];
        let next = table.latest().after(&commit);
        table.versions.push(next);
        table.ticks.push(self.now);
        table.log.push(commit);
    }

    pub(crate) fn write(&mut self, rows: Vec<Row>) -> FileId {
        self.files.push(rows);
        self.files.len() - 1
    }

    pub(crate) fn write_side(&mut self, rows: Vec<SideRow>) -> FileId {
        self.side_files.push(rows);
        self.side_files.len() - 1
    }

    pub(crate) fn rows<'a>(&self, files: impl IntoIterator<Item = &'a FileId>) -> impl Iterator<Item = Row> {
        files.into_iter().flat_map(|file| self.files[*file].iter().copied())
    }

    pub(crate) fn side_rows<'a>(
        &self,
        files: impl IntoIterator<Item = &'a FileId>,
    ) -> impl Iterator<Item = SideRow> {
        files.into_iter().flat_map(|file| self.side_files[*file].iter().copied())
    }
}
