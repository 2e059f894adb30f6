//! A table at one version, and the commits that lead from one to the next.
//!
//! The file map follows the log commit by commit. It shares its structure with its predecessors, so that a query keeps
//! its version for nothing and a commit costs what it changes, however many files there are.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::datatypes::SchemaRef;

use super::action::{Action, Add, CommitKind, LedgerEntry, Metadata, OutboxFile, Protocol, Remove};
use super::checkpoint::Checkpoint;
use super::event_times::EventTimes;
use super::range::TimeRanges;
use super::schema;
use super::stats::FileStats;
use crate::error::{Error, Result};

/// An active file.
#[derive(Debug)]
pub struct File {
    /// As in the log.
    pub add: Add,
    stats: OnceLock<Arc<FileStats>>,
}

impl File {
    /// A file that an action names.
    pub fn new(add: Add) -> Self {
        File { add, stats: OnceLock::new() }
    }

    /// What is known of it; read from JSON once.
    pub fn stats(&self, schema: &SchemaRef) -> &Arc<FileStats> {
        self.stats.get_or_init(|| {
            Arc::new(self.add.stats.as_deref().map(|json| FileStats::parse(json, schema)).unwrap_or_default())
        })
    }

    /// Whether the writer marked the file with `value` under `toplake.part`.
    pub fn part(&self) -> Option<&str> {
        self.add.tags.as_ref()?.get(PART)?.as_deref()
    }

    /// The action that removes it, with the statistics that later readers of the log need.
    pub fn remove(&self, now_ms: i64, data_change: bool) -> Remove {
        Remove {
            path: self.add.path.clone(),
            deletion_timestamp: Some(now_ms),
            data_change,
            extended_file_metadata: Some(true),
            partition_values: Some(self.add.partition_values.clone()),
            size: Some(self.add.size),
            stats: self.add.stats.clone(),
        }
    }
}

/// The tag that tells the files of a `replace` commit apart: `append`, `replace` or `carry`.
pub const PART: &str = "toplake.part";

/// What it may say: new rows, rows that only moved to another file, rows in place of others.
pub const PARTS: [&str; 3] = ["append", "carry", "replace"];

/// Option of an events table: rows before this instant (microseconds) are past their retention.
pub const EXPIRED_THROUGH: &str = "toplake.expired_through";

/// A commit, as followers need it.
#[derive(Debug)]
pub struct Commit {
    /// Its version.
    pub version: i64,
    /// What it is.
    pub kind: CommitKind,
    /// Its id, if it is one of ours.
    pub id: Option<String>,
    /// Delta's name of the operation.
    pub operation: String,
    /// The buckets a `replace` replaced.
    pub ranges: TimeRanges,
    /// Files that joined.
    pub adds: Vec<Arc<File>>,
    /// Files that left; with the statistics of the file where the map or the action has them.
    pub removes: Vec<Arc<File>>,
    /// Positions it set.
    pub txns: Vec<(String, i64)>,
    /// Side-table files that it made visible.
    pub outbox: Vec<OutboxFile>,
    /// What became of the input that it consumed.
    pub ledger: Vec<LedgerEntry>,
    /// The source versions it was made from.
    pub sources: BTreeMap<String, i64>,
    /// Milliseconds since 1970, by the writer's clock.
    pub timestamp: i64,
    /// The retention cut that held when it was made. It is asked for where a foreign writer removed files, and may not be
    /// known of other commits.
    pub expired_through: Option<i64>,
}

impl Commit {
    /// Whether who follows the table has anything to do for it. Upkeep changes no row, and a commit that only moves positions has no file.
    pub fn changes_rows(&self) -> bool {
        let silent = matches!(self.kind, CommitKind::Rewrite | CommitKind::Expire | CommitKind::Metadata);
        let has_files = !self.adds.is_empty() || !self.removes.is_empty();
        has_files && !silent
    }

    /// Files whose rows are new.
    pub fn appended(&self) -> impl Iterator<Item = &Arc<File>> {
        self.adds.iter().filter(|file| match self.kind {
            CommitKind::Append => true,
            CommitKind::Replace => file.part() == Some("append"),
            // An INSERT of a foreign writer. Dirty ranges below the retention cut would be clipped, and its rows lost.
            CommitKind::Foreign => self.removes.is_empty(),
            CommitKind::Rewrite | CommitKind::Expire | CommitKind::Metadata => false,
        })
    }

    /// Files that may have rows which were in no file before.
    pub fn new_rows(&self) -> impl Iterator<Item = &Arc<File>> {
        let updates =
            self.adds.iter().filter(|_| self.kind == CommitKind::Foreign && !self.removes.is_empty());
        self.appended().chain(updates)
    }

    /// Ranges of time whose rows changed otherwise than by new ones, by the table's time column.
    ///
    /// Below the retention cut that held when it was made a commit cannot have changed rows; it only carries them from
    /// file to file.
    pub fn changed(&self, schema: &SchemaRef, time: &str) -> TimeRanges {
        match self.kind {
            CommitKind::Append | CommitKind::Rewrite | CommitKind::Expire | CommitKind::Metadata => {
                TimeRanges::default()
            }
            CommitKind::Replace => self.ranges.clone(),
            CommitKind::Foreign if self.removes.is_empty() => TimeRanges::default(),
            CommitKind::Foreign => {
                let touched = self.adds.iter().chain(&self.removes).map(|file| {
                    // Without statistics the file may have rows of any time.
                    file.stats(schema).time_bounds(time).map_or((i64::MIN, i64::MAX), |(a, b)| (a, b + 1))
                });
                let touched: TimeRanges = touched.collect();
                self.expired_through.map_or(touched.clone(), |cut| touched.at_or_after(cut))
            }
        }
    }
}

/// A table at one version. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The version.
    pub version: i64,
    /// What readers must understand.
    pub protocol: Arc<Protocol>,
    /// Schema and configuration, as in the log.
    pub metadata: Arc<Metadata>,
    /// The schema of the rows.
    pub schema: SchemaRef,
    /// Active files by path.
    pub files: imbl::OrdMap<Arc<str>, Arc<File>>,
    /// How far applications have come.
    pub txns: imbl::HashMap<Arc<str>, i64>,
    /// How far event time has come, if the table has one.
    pub event_times: EventTimes,
    /// Milliseconds since 1970 of the newest commit, by its writer's clock.
    pub timestamp: i64,
    /// Files among the active ones that a transaction has written and not committed: only it sees them.
    pub staged: Vec<Arc<File>>,
}

impl Snapshot {
    /// The option, if it is set.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.metadata.configuration.get(key).map(String::as_str)
    }

    /// Rows before this instant are past their retention, in microseconds.
    pub fn expired_through(&self) -> Option<i64> {
        expired_through(&self.metadata)
    }

    /// How far an application has come.
    pub fn position(&self, app: &str) -> Option<i64> {
        self.txns.get(app).copied()
    }

    /// Rows in all files, if every file says.
    pub fn rows(&self) -> Option<u64> {
        self.files.values().map(|f| f.stats(&self.schema).rows).sum()
    }
}

fn expired_through(metadata: &Metadata) -> Option<i64> {
    metadata.configuration.get(EXPIRED_THROUGH)?.parse().ok()
}

/// A snapshot in the making: what is known before protocol and metadata have come by.
#[derive(Debug, Default)]
pub struct Replay {
    version: Option<i64>,
    protocol: Option<Arc<Protocol>>,
    metadata: Option<Arc<Metadata>>,
    files: imbl::OrdMap<Arc<str>, Arc<File>>,
    txns: imbl::HashMap<Arc<str>, i64>,
    event_times: EventTimes,
    /// That of the metadata, once it was read.
    schema: Option<SchemaRef>,
    timestamp: i64,
}

impl Replay {
    /// Goes on from a snapshot.
    pub fn from_snapshot(s: &Snapshot) -> Self {
        Replay {
            version: Some(s.version),
            protocol: Some(Arc::clone(&s.protocol)),
            metadata: Some(Arc::clone(&s.metadata)),
            files: s.files.clone(),
            txns: s.txns.clone(),
            event_times: s.event_times.clone(),
            schema: Some(Arc::clone(&s.schema)),
            timestamp: s.timestamp,
        }
    }

    /// The version reached.
    pub fn version(&self) -> Option<i64> {
        self.version
    }

    /// Takes a checkpoint, which stands for all commits up to `version`.
    pub fn checkpoint(&mut self, version: i64, checkpoint: Checkpoint) {
        for action in checkpoint.actions {
            self.apply_one(action, None);
        }
        self.version = Some(version);
        let Some(metadata) = self.metadata.clone() else { return };
        self.event_times = match &checkpoint.event_times {
            Some(kept) => EventTimes::of_positions(&metadata, kept.iter().map(|(app, v)| (app.as_str(), *v))),
            None => match self.schema() {
                Some(schema) => {
                    let positions = self.txns.iter().map(|(app, version)| (app.as_ref(), *version));
                    EventTimes::of_checkpoint(&metadata, &schema, positions, self.files.values())
                }
                None => EventTimes::default(),
            },
        };
    }

    /// The schema of the rows, if it can be read.
    fn schema(&mut self) -> Option<SchemaRef> {
        let metadata = self.metadata.as_ref()?;
        if self.schema.is_none() {
            self.schema = schema::from_delta(&metadata.schema_string, &metadata.id).ok();
        }
        self.schema.clone()
    }

    /// Takes the time of the commit that is reached, which a checkpoint does not keep.
    pub fn dated(&mut self, actions: &[Action]) {
        let info = actions.iter().find_map(|a| a.commit_info.as_ref());
        self.timestamp = info.map_or(self.timestamp, |info| info.timestamp);
    }

    /// Takes one commit and says what it was.
    pub fn commit(&mut self, version: i64, actions: Vec<Action>) -> Commit {
        let mut commit = Commit {
            version,
            kind: CommitKind::Foreign,
            id: None,
            operation: String::new(),
            ranges: TimeRanges::default(),
            adds: vec![],
            removes: vec![],
            txns: vec![],
            outbox: vec![],
            ledger: vec![],
            sources: BTreeMap::new(),
            timestamp: 0,
            expired_through: self.metadata.as_deref().and_then(expired_through),
        };
        let table_id = self.metadata.as_ref().map(|m| m.id.clone());
        for action in actions {
            self.apply_one(action, Some(&mut commit));
        }
        self.version = Some(version);
        self.timestamp = commit.timestamp;
        if let Some(metadata) = self.metadata.clone() {
            if table_id.as_ref() != Some(&metadata.id) {
                self.event_times = EventTimes::default();
            }
            let mut times = std::mem::take(&mut self.event_times);
            times.follow(&commit, &metadata, || self.schema());
            self.event_times = times;
        }
        commit
    }

    fn apply_one(&mut self, action: Action, mut commit: Option<&mut Commit>) {
        if let (Some(info), Some(commit)) = (action.commit_info, commit.as_deref_mut()) {
            commit.kind = info.kind.unwrap_or(CommitKind::Foreign);
            commit.id = info.id;
            commit.operation = info.operation;
            commit.ranges = info.ranges.unwrap_or_default();
            commit.outbox = info.outbox;
            commit.ledger = info.ledger;
            commit.sources = info.sources.unwrap_or_default();
            commit.timestamp = info.timestamp;
        }
        if let Some(protocol) = action.protocol {
            self.protocol = Some(Arc::new(protocol));
        }
        if let Some(metadata) = action.meta_data {
            self.metadata = Some(Arc::new(metadata));
            self.schema = None;
        }
        if let Some(txn) = action.txn {
            if let Some(commit) = commit.as_deref_mut() {
                commit.txns.push((txn.app_id.clone(), txn.version));
            }
            self.txns.insert(txn.app_id.into(), txn.version);
        }
        if let Some(add) = action.add {
            let file = Arc::new(File::new(add));
            self.files.insert(file.add.path.as_str().into(), Arc::clone(&file));
            if let Some(commit) = commit.as_deref_mut() {
                commit.adds.push(file);
            }
        }
        if let Some(remove) = action.remove {
            let known = self.files.remove(remove.path.as_str());
            if let Some(commit) = commit {
                commit.removes.push(known.unwrap_or_else(|| {
                    Arc::new(File::new(Add {
                        path: remove.path,
                        size: remove.size.unwrap_or_default(),
                        stats: remove.stats,
                        ..Default::default()
                    }))
                }));
            }
        }
    }

    /// The snapshot; fails where the log lacks a protocol or schema, or needs what we cannot read.
    pub fn finish(self, place: &str) -> Result<Snapshot> {
        let (Some(version), Some(protocol), Some(metadata)) = (self.version, self.protocol, self.metadata)
        else {
            return Err(Error::corrupt(format!("the Delta log at {place} has no protocol or no metadata")));
        };
        protocol.check_readable(&metadata, place)?;
        if self.files.values().any(|f| f.add.deletion_vector.is_some()) {
            return Err(Error::not_supported(format!("the Delta table at {place} has deletion vectors")));
        }
        if !metadata.partition_columns.is_empty() && !self.files.is_empty() {
            // Partition values are not in the files: left out, a reader would show NULL.
            return Err(Error::not_supported(format!("the Delta table at {place} has partition columns")));
        }
        let schema = match self.schema {
            Some(schema) => schema,
            None => schema::from_delta(&metadata.schema_string, &place)?,
        };
        Ok(Snapshot {
            version,
            protocol,
            metadata,
            schema,
            files: self.files,
            txns: self.txns,
            event_times: self.event_times,
            timestamp: self.timestamp,
            staged: vec![],
        })
    }
}
