//! The lines of a Delta log, as far as we read and write them, after the Delta transaction protocol.
//!
//! A line is an object with one field that names the action; actions that we do not know are passed over, as the
//! protocol asks of readers.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::range::TimeRanges;
use crate::error::{Error, Result};

/// One line: exactly one field is set, or none for an action that we do not know.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Action {
    /// Where a commit comes from and what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_info: Option<CommitInfo>,
    /// What a reader and a writer must understand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Schema and configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<Metadata>,
    /// How far an application has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txn: Option<Txn>,
    /// A file joins the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<Add>,
    /// A file leaves the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<Remove>,
}

/// What a commit is, for those who read the log after it (DESIGN §2, invariant 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitKind {
    /// New rows.
    Append,
    /// Whole buckets were computed anew; the commit names their ranges.
    Replace,
    /// The same rows in other files.
    Rewrite,
    /// Rows past their retention left.
    Expire,
    /// Definition or options only; no row changed.
    Metadata,
    /// Anything else, and any commit of a foreign writer.
    #[serde(other)]
    Foreign,
}

impl CommitKind {
    /// What metrics and logs call it.
    pub fn name(self) -> &'static str {
        match self {
            CommitKind::Append => "append",
            CommitKind::Replace => "replace",
            CommitKind::Rewrite => "rewrite",
            CommitKind::Expire => "expire",
            CommitKind::Metadata => "metadata",
            CommitKind::Foreign => "foreign",
        }
    }
}

/// Where a commit comes from. Delta lets writers add fields of their own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CommitInfo {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Delta's name of the operation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// Delta's parameters of the operation; always an object, as some readers insist.
    pub operation_parameters: BTreeMap<String, String>,
    /// Who wrote it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub engine_info: String,
    /// What the commit is.
    #[serde(rename = "toplake.kind", skip_serializing_if = "Option::is_none")]
    pub kind: Option<CommitKind>,
    /// The commit's own id, looked for after a lost answer.
    #[serde(rename = "toplake.id", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The buckets that a `replace` replaced.
    #[serde(rename = "toplake.ranges", skip_serializing_if = "Option::is_none")]
    pub ranges: Option<TimeRanges>,
    /// The source version that a rollup or leaderboard was made from (invariant 9).
    #[serde(rename = "toplake.sources", skip_serializing_if = "Option::is_none")]
    pub sources: Option<BTreeMap<String, i64>>,
    /// Files of side tables that become visible by this commit (invariant 1).
    #[serde(rename = "toplake.outbox", skip_serializing_if = "Vec::is_empty")]
    pub outbox: Vec<OutboxFile>,
    /// What became of the input that the commit consumed.
    #[serde(rename = "toplake.ledger", skip_serializing_if = "Vec::is_empty")]
    pub ledger: Vec<LedgerEntry>,
}

/// What became of the input that a commit consumed from one source, or one partition of it. It balances:
/// `consumed = stored + duplicate + dead + late + suspect + filtered`, in events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerEntry {
    /// Where the input comes from: the source of a [`Partition`](super::event_times::Partition), or the address of a file.
    pub source: String,
    /// Which partition of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i64>,
    /// The first offset or line consumed.
    pub from: i64,
    /// The one after the last. Where an operator moved a position back it is lower than `from`.
    pub to: i64,
    /// Events that were read.
    #[serde(skip_serializing_if = "is_zero")]
    pub consumed: u64,
    /// Of these, rows of the table.
    #[serde(skip_serializing_if = "is_zero")]
    pub stored: u64,
    /// Of these, events that had come before.
    #[serde(skip_serializing_if = "is_zero")]
    pub duplicate: u64,
    /// Of these, dead letters.
    #[serde(skip_serializing_if = "is_zero")]
    pub dead: u64,
    /// Of these, rows of the late table.
    #[serde(skip_serializing_if = "is_zero")]
    pub late: u64,
    /// Of these, events that were kept apart as more than one key may have.
    #[serde(skip_serializing_if = "is_zero")]
    pub suspect: u64,
    /// Of these, events that the pipeline's query left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub filtered: u64,
    /// Offsets that the broker no longer had, which the operator accepted.
    #[serde(skip_serializing_if = "is_zero")]
    pub gap: u64,
    /// The broker's timestamp of the newest message, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<i64>,
    /// The offset after the broker's last one when the commit was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl LedgerEntry {
    /// How many events were read, and how many of them became what.
    pub fn outcomes(&self) -> [(&'static str, u64); 6] {
        [
            ("consumed", self.consumed),
            ("stored", self.stored),
            ("duplicate", self.duplicate),
            ("dead", self.dead + self.suspect),
            ("late", self.late),
            ("filtered", self.filtered),
        ]
    }

    /// Whether everything that was consumed is somewhere.
    pub fn balances(&self) -> bool {
        let parts = [self.stored, self.duplicate, self.dead, self.late, self.suspect, self.filtered];
        parts.into_iter().try_fold(0u64, u64::checked_add) == Some(self.consumed)
    }
}

/// A file of a side table that an events commit names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxFile {
    /// The side table's name.
    pub table: String,
    /// The file; its path is relative to the side table.
    pub add: Add,
}

/// What a reader and a writer must understand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// Lowest reader version.
    pub min_reader_version: i32,
    /// Lowest writer version.
    pub min_writer_version: i32,
    /// Named features, from reader version 3 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reader_features: Option<Vec<String>>,
    /// Named features, from writer version 7 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer_features: Option<Vec<String>>,
}

impl Protocol {
    /// What our own tables need: the least that has NOT NULL columns.
    pub fn ours() -> Self {
        Protocol {
            min_reader_version: 1,
            min_writer_version: 2,
            reader_features: None,
            writer_features: None,
        }
    }

    /// Refuses what we would read wrongly.
    pub fn check_readable(&self, metadata: &Metadata, place: &str) -> Result<()> {
        let harmless = ["timestampNtz", "vacuumProtocolCheck", "appendOnly", "invariants", "domainMetadata"];
        let features = self.reader_features.iter().flatten();
        let unknown: Vec<&str> = features.map(String::as_str).filter(|f| !harmless.contains(f)).collect();
        if self.min_reader_version > 3 || !unknown.is_empty() {
            let what = if unknown.is_empty() {
                format!("reader version {}", self.min_reader_version)
            } else {
                unknown.join(", ")
            };
            return Err(Error::not_supported(format!("the Delta table at {place} needs {what}"))
                .with_hint("write it without deletion vectors, column mapping and other reader features"));
        }
        match metadata.configuration.get("delta.columnMapping.mode").map(String::as_str) {
            None | Some("none") => Ok(()),
            Some(mode) => {
                Err(Error::not_supported(format!("the Delta table at {place} maps its columns by {mode}")))
            }
        }
    }

    /// Refuses to write where we would break what others rely on.
    pub fn check_writable(&self, place: &str) -> Result<()> {
        if self.min_writer_version > 2 {
            return Err(Error::not_supported(format!(
                "the Delta table at {place} needs writer version {}; only reading is possible",
                self.min_writer_version
            )));
        }
        Ok(())
    }
}

/// How a table's files are encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Format {
    /// Always `parquet`.
    pub provider: String,
    /// Always empty.
    #[serde(default)]
    pub options: HashMap<String, String>,
}

/// Schema and configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The table's id: another one after the table was dropped and made again.
    pub id: String,
    /// Name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How the files are encoded.
    pub format: Format,
    /// The schema as JSON.
    pub schema_string: String,
    /// Partition columns; ours have none.
    #[serde(default)]
    pub partition_columns: Vec<String>,
    /// Options.
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
}

/// How far an application has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Txn {
    /// Which application, source or dependent.
    pub app_id: String,
    /// How far.
    pub version: i64,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_updated: Option<i64>,
}

/// A file joins the table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Add {
    /// Relative to the table, URL-encoded.
    pub path: String,
    /// Values of the partition columns.
    pub partition_values: HashMap<String, Option<String>>,
    /// Bytes.
    pub size: i64,
    /// Milliseconds since 1970.
    pub modification_time: i64,
    /// Whether rows changed, or only their files.
    pub data_change: bool,
    /// Row count, minima, maxima and null counts as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    /// Marks of the writer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, Option<String>>>,
    /// Rows that are deleted without a new file; we refuse those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<serde_json::Value>,
}

/// A file leaves the table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Remove {
    /// Relative to the table, URL-encoded.
    pub path: String,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<i64>,
    /// Whether rows changed, or only their files.
    pub data_change: bool,
    /// Whether the fields below are set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extended_file_metadata: Option<bool>,
    /// Values of the partition columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_values: Option<HashMap<String, Option<String>>>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// As of the file; foreign writers leave it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
}

/// Reads the lines of a commit; `place` is for messages.
pub fn parse_lines(bytes: &[u8], place: &dyn std::fmt::Display) -> Result<Vec<Action>> {
    bytes
        .split(|b| *b == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace))
        .map(|(i, line)| {
            serde_json::from_slice(line)
                .map_err(|e| Error::corrupt(format!("line {} of {place} is not a Delta action: {e}", i + 1)))
        })
        .collect()
}

/// Writes the lines of a commit.
pub fn format_lines(actions: &[Action]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(actions.len() * 512);
    for action in actions {
        serde_json::to_writer(&mut bytes, action)
            .map_err(|e| Error::internal(format!("cannot write action: {e}")))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}
