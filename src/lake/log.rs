//! The Delta log of one table: where it is, reading it from a checkpoint on or commit by commit, and cleaning it up.

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use serde::Deserialize;

use super::action::{Action, CommitKind, parse_lines};
use super::checkpoint;
use super::snapshot::{Commit, Replay, Snapshot};
use super::store::Store;
use crate::error::{Error, Result};

/// Commits that are asked for at the same time.
const PARALLEL: usize = 32;

/// Objects that are removed by one request.
const DELETE_AT_ONCE: usize = 1000;

/// No commit younger than this is ever removed from a log that others may follow.
pub const LEAST_AGE: std::time::Duration = std::time::Duration::from_secs(3600);

const FOLDER: &str = "_delta_log";
const COMMIT: &str = ".json";
const CHECKPOINT: &str = ".checkpoint.parquet";

#[derive(Deserialize)]
struct LastCheckpoint {
    version: i64,
}

/// The path of a commit.
pub fn commit_path(table: &Store, version: i64) -> Path {
    table.path(&format!("{FOLDER}/{version:020}{COMMIT}"))
}

/// The path of a checkpoint.
pub fn checkpoint_path(table: &Store, version: i64) -> Path {
    table.path(&format!("{FOLDER}/{version:020}{CHECKPOINT}"))
}

/// The path of the hint that names the newest checkpoint.
pub fn last_checkpoint_path(table: &Store) -> Path {
    table.path("_delta_log/_last_checkpoint")
}

/// The actions of one commit; `None` if there is no such version.
pub async fn read_commit(table: &Store, version: i64) -> Result<Option<Vec<Action>>> {
    let path = commit_path(table, version);
    match table.get(&path).await? {
        // As a local disk may leave it that lost its power: taken for a commit it would hide that rows are gone.
        Some(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Err(Error::corrupt(format!(
            "{path} is empty, and a commit never is"
        ))
        .with_hint(
            "it was written and not kept, as after a power cut: restore it, or remove it if it is the newest",
        )),
        Some(bytes) => Ok(Some(parse_lines(&bytes, &path)?)),
        None => Ok(None),
    }
}

/// A table as it was found: its version, and the commits that were read on the way there.
#[derive(Debug)]
pub struct Opened {
    /// The version.
    pub snapshot: Snapshot,
    /// The newest commits, without a gap, up to that version.
    pub commits: Vec<Commit>,
}

/// A table at its newest version, or at `at_most`; `None` if there is no table.
pub async fn load(table: &Store, at_most: Option<i64>) -> Result<Option<Snapshot>> {
    Ok(open(table, at_most).await?.map(|opened| opened.snapshot))
}

/// Like [`load`], with the commits since the checkpoint.
///
/// From the checkpoint that the hint names the commits are asked for one by one, many at a time, until there is none:
/// however long the log is, that costs what came since the checkpoint. Only where the hint does not lead to the end is
/// the log listed.
pub async fn open(table: &Store, at_most: Option<i64>) -> Result<Option<Opened>> {
    if let Some(hint) = hint(table).await?
        && at_most.is_none_or(|most| hint <= most)
        && let Some(checkpoint) = table.get(&checkpoint_path(table, hint)).await?
    {
        let commits = commits_until_end(table, hint, at_most).await?;
        // The commit of a checkpoint is kept as long as the checkpoint is. Where it is gone the hint was an old one, and
        // the log has been cleaned up beyond it.
        if !commits.is_empty() {
            return replay(table, Some((hint, checkpoint)), commits).map(Some);
        }
    }
    let listed = list_log(table).await?;
    let fits = |version: &i64| at_most.is_none_or(|most| *version <= most);
    let newest = listed.iter().filter_map(|name| version_of(name, CHECKPOINT)).filter(fits).max();
    let checkpoint = match newest {
        None => None,
        Some(version) => {
            let path = checkpoint_path(table, version);
            let bytes = table.get(&path).await?;
            Some((version, bytes.ok_or_else(|| Error::corrupt(format!("there is no checkpoint {path}")))?))
        }
    };
    let from = newest.map_or(0, |version| version + 1);
    let mut versions: Vec<i64> = listed.iter().filter_map(|name| version_of(name, COMMIT)).collect();
    versions.retain(|version| fits(version) && *version >= newest.unwrap_or(0));
    versions.sort_unstable();
    if versions.is_empty() && newest.is_none() {
        return Ok(None);
    }
    let since = versions.iter().filter(|version| **version >= from);
    if let Some((_, missing)) = since.zip(from..).find(|(found, expected)| **found != *expected) {
        return Err(missing_version(table, missing));
    }
    let commits = read_versions(table, versions).await?;
    replay(table, checkpoint, commits).map(Some)
}

/// Puts a checkpoint and the commits after it together. The commit of the checkpoint itself, where there is one, says
/// when it was made.
fn replay(
    table: &Store,
    checkpoint: Option<(i64, bytes::Bytes)>,
    commits: Vec<(i64, Vec<Action>)>,
) -> Result<Opened> {
    let mut replay = Replay::default();
    if let Some((version, bytes)) = checkpoint {
        replay.checkpoint(version, checkpoint::read(bytes, &checkpoint_path(table, version))?);
    }
    let mut since = Vec::with_capacity(commits.len());
    for (version, actions) in commits {
        if replay.version() == Some(version) {
            replay.dated(&actions);
        } else {
            since.push(replay.commit(version, actions));
        }
    }
    Ok(Opened { snapshot: replay.finish(table.prefix().as_ref())?, commits: since })
}

/// The commits from `from` on, until there is none; nothing if that one is not there.
async fn commits_until_end(
    table: &Store,
    from: i64,
    at_most: Option<i64>,
) -> Result<Vec<(i64, Vec<Action>)>> {
    let mut found = vec![];
    loop {
        let first = from + found.len() as i64;
        let last = at_most.unwrap_or(i64::MAX).min(first + PARALLEL as i64 - 1);
        let window: Vec<Option<Vec<Action>>> = futures::stream::iter(first..=last)
            .map(|version| read_commit(table, version))
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        let asked = window.len();
        let there = window.iter().rposition(Option::is_some).map_or(0, |newest| newest + 1);
        for (version, actions) in (first..).zip(window).take(there) {
            let actions = match actions {
                Some(actions) => actions,
                // It came in after it was asked for, or it is missing: a later one is there.
                None => match read_commit(table, version).await? {
                    Some(actions) => actions,
                    None if found.is_empty() => return Ok(found),
                    None => return Err(missing_version(table, version)),
                },
            };
            found.push((version, actions));
        }
        if there < asked || asked == 0 {
            return Ok(found);
        }
    }
}

/// These commits, all of which have to be there.
async fn read_versions(
    table: &Store,
    versions: impl IntoIterator<Item = i64>,
) -> Result<Vec<(i64, Vec<Action>)>> {
    futures::stream::iter(versions)
        .map(|version| async move {
            let actions = read_commit(table, version).await?;
            actions.map(|a| (version, a)).ok_or_else(|| missing_version(table, version))
        })
        .buffered(PARALLEL)
        .try_collect()
        .await
}

fn missing_version(table: &Store, version: i64) -> Error {
    Error::corrupt(format!("there is no version {version} in {}", commit_path(table, version)))
}

/// The commits `(after, through]`, with the files that each removed.
pub async fn read_commits(table: &Store, after: i64, through: i64) -> Result<Vec<Commit>> {
    let read = read_versions(table, after + 1..=through).await?;
    // Our own commits say all that is asked of them. Of a file that a foreign commit removes the log may know no more than
    // its name: what was active before has the rest.
    let mut replay = match read.iter().any(|(_, actions)| removes_by_others(actions)) {
        true => load(table, Some(after)).await.ok().flatten().as_ref().map(Replay::from_snapshot),
        false => None,
    }
    .unwrap_or_default();
    Ok(read.into_iter().map(|(version, actions)| replay.commit(version, actions)).collect())
}

fn removes_by_others(actions: &[Action]) -> bool {
    let kind = actions.iter().find_map(|a| a.commit_info.as_ref()).and_then(|info| info.kind);
    kind.is_none_or(|kind| kind == CommitKind::Foreign) && actions.iter().any(|a| a.remove.is_some())
}

/// The version of the checkpoint that the hint names.
async fn hint(table: &Store) -> Result<Option<i64>> {
    let bytes = table.get(&last_checkpoint_path(table)).await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice::<LastCheckpoint>(&bytes).ok()).map(|hint| hint.version))
}

async fn list_log(table: &Store) -> Result<Vec<String>> {
    let listed = table.object_store().list(Some(&table.path(FOLDER)));
    let names = listed.try_filter_map(|meta| async move { Ok(meta.location.filename().map(str::to_owned)) });
    Ok(names.try_collect().await?)
}

/// The first commit of a log from which on none is missing.
pub async fn begins_at(table: &Store) -> Result<Option<i64>> {
    let mut versions: Vec<i64> =
        list_log(table).await?.iter().filter_map(|name| version_of(name, COMMIT)).collect();
    versions.sort_unstable();
    let mut first = versions.pop();
    while let Some(before) = versions.pop()
        && first == Some(before + 1)
    {
        first = Some(before);
    }
    Ok(first)
}

fn version_of(name: &str, ending: &str) -> Option<i64> {
    let digits = name.strip_suffix(ending)?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// Removes the commits and checkpoints that nobody needs any more, and says how many objects that were.
///
/// What is kept begins with the newest checkpoint at or before `needed` whose commit is older than `keep`: from there on
/// every version can be read. `keep` has to be longer than [`LEAST_AGE`] wherever others may have the table open, who
/// follow the log by its next version and would take a gap for its end.
pub async fn clean_up(table: &Store, needed: i64, keep: std::time::Duration) -> Result<usize> {
    let objects: Vec<object_store::ObjectMeta> =
        table.object_store().list(Some(&table.path(FOLDER))).try_collect().await?;
    let of = |meta: &object_store::ObjectMeta, ending: &str| version_of(meta.location.filename()?, ending);
    let old = chrono::Utc::now() - keep;
    let mut aged = std::collections::HashSet::new();
    aged.extend(objects.iter().filter(|meta| meta.last_modified <= old).filter_map(|meta| of(meta, COMMIT)));
    let checkpoints = objects.iter().filter_map(|meta| of(meta, CHECKPOINT));
    let Some(first) = checkpoints.filter(|v| *v <= needed && aged.contains(v)).max() else { return Ok(0) };
    if hint(table).await?.is_none_or(|hint| hint < first) {
        write_hint(table, first, None).await?;
    }
    let version = |meta: &object_store::ObjectMeta| of(meta, COMMIT).or_else(|| of(meta, CHECKPOINT));
    let mut dead: Vec<(i64, Path)> = objects
        .iter()
        .filter_map(|meta| Some((version(meta)?, meta.location.clone())))
        .filter(|(version, _)| *version < first)
        .collect();
    dead.sort_unstable();
    // The oldest first, so that a commit is never there without those that follow it.
    for some in dead.chunks(DELETE_AT_ONCE) {
        table.delete_all(some.iter().map(|(_, path)| path.clone()).collect()).await?;
    }
    Ok(dead.len())
}

/// Names the newest checkpoint for those who open the table.
pub async fn write_hint(table: &Store, version: i64, actions: Option<usize>) -> Result<()> {
    let mut hint = serde_json::json!({ "version": version });
    if let Some(actions) = actions {
        hint["size"] = actions.into();
    }
    table.put(&last_checkpoint_path(table), hint.to_string().into_bytes().into()).await
}
