//! Reading the Delta log of one table: where it is, from which checkpoint, and commit by commit.

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use serde::Deserialize;

use super::action::{Action, parse_lines};
use super::checkpoint;
use super::snapshot::{Commit, Replay, Snapshot};
use super::store::Store;
use crate::error::{Error, Result};

/// Commits that are read at the same time while a table is opened.
const PARALLEL: usize = 32;

#[derive(Deserialize)]
struct LastCheckpoint {
    version: i64,
}

/// The path of a commit.
pub fn commit_path(table: &Store, version: i64) -> Path {
    table.path(&format!("_delta_log/{version:020}.json"))
}

/// The path of a checkpoint.
pub fn checkpoint_path(table: &Store, version: i64) -> Path {
    table.path(&format!("_delta_log/{version:020}.checkpoint.parquet"))
}

/// The path of the hint that names the newest checkpoint.
pub fn last_checkpoint_path(table: &Store) -> Path {
    table.path("_delta_log/_last_checkpoint")
}

/// The actions of one commit; `None` if there is no such version.
pub async fn read_commit(table: &Store, version: i64) -> Result<Option<Vec<Action>>> {
    let path = commit_path(table, version);
    match table.get(&path).await? {
        Some(bytes) => Ok(Some(parse_lines(&bytes, &path)?)),
        None => Ok(None),
    }
}

/// A table at its newest version, or at `at_most`; `None` if there is no table.
pub async fn load(table: &Store, at_most: Option<i64>) -> Result<Option<Snapshot>> {
    let mut replay = Replay::default();
    if let Some(version) = newest_checkpoint(table, at_most).await? {
        let path = checkpoint_path(table, version);
        let bytes = table
            .get(&path)
            .await?
            .ok_or_else(|| Error::corrupt(format!("there is no checkpoint {path}")))?;
        replay.checkpoint(version, checkpoint::read(bytes, &path)?);
    }
    let from = replay.version().map_or(0, |v| v + 1);
    let versions = list_commits(table, from, at_most).await?;
    if let Some(missing) = versions.iter().zip(from..).find(|(found, expected)| **found != *expected) {
        return Err(Error::corrupt(format!(
            "there is no version {} in {}",
            missing.1,
            commit_path(table, missing.1)
        )));
    }
    if versions.is_empty()
        && let Some(version) = replay.version()
        && let Some(actions) = read_commit(table, version).await?
    {
        replay.dated(&actions);
    }
    let mut commits = futures::stream::iter(versions)
        .map(|v| async move {
            let actions = read_commit(table, v).await?;
            actions
                .map(|a| (v, a))
                .ok_or_else(|| Error::corrupt(format!("version {v} has vanished while it was read")))
        })
        .buffered(PARALLEL);
    while let Some((version, actions)) = commits.try_next().await? {
        replay.commit(version, actions);
    }
    if replay.version().is_none() {
        return Ok(None);
    }
    replay.finish(table.prefix().as_ref()).map(Some)
}

/// The commits `(after, through]`, with the files that each removed.
pub async fn read_commits(table: &Store, after: i64, through: i64) -> Result<Vec<Commit>> {
    let start = load(table, Some(after)).await.ok().flatten();
    let mut replay = start.as_ref().map(Replay::from_snapshot).unwrap_or_default();
    let mut commits = Vec::new();
    for version in after + 1..=through {
        let Some(actions) = read_commit(table, version).await? else {
            return Err(Error::corrupt(format!(
                "version {version} of {} is gone from its log",
                table.prefix()
            )));
        };
        commits.push(replay.commit(version, actions));
    }
    Ok(commits)
}

/// The newest checkpoint by the hint; by a listing if an older state is asked for than the hint has.
async fn newest_checkpoint(table: &Store, at_most: Option<i64>) -> Result<Option<i64>> {
    if let Some(bytes) = table.get(&last_checkpoint_path(table)).await?
        && let Ok(hint) = serde_json::from_slice::<LastCheckpoint>(&bytes)
    {
        if at_most.is_none_or(|v| hint.version <= v) {
            return Ok(Some(hint.version));
        }
        let listed = list_log(table, 0).await?;
        let checkpoints = listed.iter().filter_map(|name| version_of(name, ".checkpoint.parquet"));
        return Ok(checkpoints.filter(|v| at_most.is_none_or(|most| *v <= most)).max());
    }
    Ok(None)
}

/// The commits from `from` on, in order.
async fn list_commits(table: &Store, from: i64, at_most: Option<i64>) -> Result<Vec<i64>> {
    let listed = list_log(table, from).await?;
    let mut versions: Vec<i64> = listed
        .iter()
        .filter_map(|name| version_of(name, ".json"))
        .filter(|v| *v >= from && at_most.is_none_or(|most| *v <= most))
        .collect();
    versions.sort_unstable();
    Ok(versions)
}

async fn list_log(table: &Store, from: i64) -> Result<Vec<String>> {
    let prefix = table.path("_delta_log");
    let listed = if from == 0 {
        table.object_store().list(Some(&prefix))
    } else {
        table.object_store().list_with_offset(Some(&prefix), &commit_path(table, from - 1))
    };
    let names = listed.try_filter_map(|meta| async move { Ok(meta.location.filename().map(str::to_owned)) });
    Ok(names.try_collect().await?)
}

fn version_of(name: &str, ending: &str) -> Option<i64> {
    let digits = name.strip_suffix(ending)?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}
