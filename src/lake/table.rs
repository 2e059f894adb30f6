//! A table in this process: its newest known version, and following the log.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::RwLock;

use super::action::{Action, CommitInfo, CommitKind, Format, Metadata, Protocol, format_lines};
use super::log;
use super::schema;
use super::snapshot::{Commit, Replay, Snapshot};
use super::store::Store;
use crate::error::{Error, Result};
use datafusion::arrow::datatypes::Schema;

/// Commits kept in memory for those who read what is new since a version.
const RECENT: usize = 1024;

/// When more commits than this are missing, the table is opened anew: that reads from a checkpoint, in parallel.
const FOLLOW: i64 = 64;

/// A Delta table. One for each table and process: it is the one committer that the process has for the table.
#[derive(Debug)]
pub struct Table {
    name: String,
    store: Store,
    state: RwLock<State>,
    following: tokio::sync::Mutex<()>,
    /// Held during a commit, so that writers of one process queue up instead of colliding.
    pub(super) committing: tokio::sync::Mutex<()>,
    /// Held while a checkpoint is written.
    pub(super) checkpointing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct State {
    snapshot: Arc<Snapshot>,
    /// The newest commits, without a gap, up to the snapshot's version.
    recent: VecDeque<Arc<Commit>>,
}

/// What a new table is.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// Rows; types as [`schema::storable_schema`] leaves them.
    pub schema: Schema,
    /// Options besides the defaults.
    pub configuration: Vec<(String, String)>,
    /// Comment.
    pub description: Option<String>,
}

impl NewTable {
    /// The metadata action.
    pub fn metadata(&self, name: &str) -> Result<Metadata> {
        let mut configuration = schema::default_configuration();
        configuration.extend(self.configuration.iter().cloned());
        Ok(Metadata {
            id: uuid::Uuid::new_v4().to_string(),
            name: Some(name.to_owned()),
            description: self.description.clone(),
            format: Format { provider: "parquet".into(), options: Default::default() },
            schema_string: schema::to_delta(&self.schema)?,
            partition_columns: vec![],
            configuration,
            created_time: Some(now_ms()),
        })
    }
}

impl Table {
    /// Opens the table that lies in `store`; `None` if there is none.
    pub async fn open(name: &str, store: Store) -> Result<Option<Self>> {
        Ok(log::load(&store, None).await?.map(|snapshot| Table::at(name, store, snapshot)))
    }

    fn at(name: &str, store: Store, snapshot: Snapshot) -> Self {
        let state = State { snapshot: Arc::new(snapshot), recent: VecDeque::new() };
        Table {
            name: name.to_owned(),
            store,
            state: RwLock::new(state),
            following: Default::default(),
            committing: Default::default(),
            checkpointing: Default::default(),
        }
    }

    /// Makes a table; `None` if one was there first.
    pub async fn create(name: &str, store: Store, new: &NewTable) -> Result<Option<Self>> {
        let info = CommitInfo {
            timestamp: now_ms(),
            operation: "CREATE TABLE".into(),
            engine_info: engine_info(),
            kind: Some(CommitKind::Metadata),
            id: Some(uuid::Uuid::new_v4().to_string()),
            ..Default::default()
        };
        let actions = [
            Action { commit_info: Some(info), ..Default::default() },
            Action { protocol: Some(Protocol::ours()), ..Default::default() },
            Action { meta_data: Some(new.metadata(name)?), ..Default::default() },
        ];
        let body = format_lines(&actions)?;
        if !store.put_if_absent(&log::commit_path(&store, 0), body.into()).await? {
            return Ok(None);
        }
        let mut replay = Replay::default();
        replay.commit(0, actions.into());
        Ok(Some(Table::at(name, store.clone(), replay.finish(store.prefix().as_ref())?)))
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it lies.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The newest version that this process has seen.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.state.read().snapshot)
    }

    /// The newest version there is: follows the log to its end.
    pub async fn update(&self) -> Result<Arc<Snapshot>> {
        let _one = self.following.lock().await;
        let start = self.snapshot().version;
        loop {
            let now = self.snapshot();
            if now.version - start >= FOLLOW {
                let Some(snapshot) = log::load(&self.store, None).await? else {
                    return Err(Error::undefined_table(format!("table '{}' has vanished", self.name)));
                };
                let snapshot = Arc::new(snapshot);
                *self.state.write() = State { snapshot: Arc::clone(&snapshot), recent: VecDeque::new() };
                return Ok(snapshot);
            }
            match log::read_commit(&self.store, now.version + 1).await? {
                None => return Ok(now),
                Some(actions) => self.advance(&now, actions)?,
            };
        }
    }

    /// Applies the commit that follows `now`. The caller holds `following`.
    fn advance(&self, now: &Snapshot, actions: Vec<Action>) -> Result<()> {
        let metadata_changed = actions.iter().any(|a| a.meta_data.is_some());
        let mut replay = Replay::from_snapshot(now);
        let commit = Arc::new(replay.commit(now.version + 1, actions));
        let mut snapshot = replay.finish(self.store.prefix().as_ref())?;
        if !metadata_changed {
            snapshot.schema = Arc::clone(&now.schema);
        }
        let mut state = self.state.write();
        state.snapshot = Arc::new(snapshot);
        state.recent.push_back(commit);
        if state.recent.len() > RECENT {
            state.recent.pop_front();
        }
        Ok(())
    }

    /// Takes in a commit that this process has just written, without reading it back.
    pub(super) async fn wrote(&self, version: i64, actions: Vec<Action>) -> Result<()> {
        let _one = self.following.lock().await;
        let now = self.snapshot();
        if now.version + 1 == version { self.advance(&now, actions) } else { Ok(()) }
    }

    /// The commits `(after, through]` in order: from memory where possible, else from the log.
    pub async fn commits(&self, after: i64, through: i64) -> Result<Vec<Arc<Commit>>> {
        if after >= through {
            return Ok(vec![]);
        }
        {
            let state = self.state.read();
            if state.recent.front().is_some_and(|first| first.version <= after + 1) {
                let wanted = state.recent.iter().filter(|c| c.version > after && c.version <= through);
                return Ok(wanted.cloned().collect());
            }
        }
        Ok(log::read_commits(&self.store, after, through).await?.into_iter().map(Arc::new).collect())
    }

    /// The table as it was at `version`.
    pub async fn snapshot_at(&self, version: i64) -> Result<Arc<Snapshot>> {
        let now = self.snapshot();
        if now.version == version {
            return Ok(now);
        }
        let loaded = log::load(&self.store, Some(version)).await?.filter(|s| s.version == version);
        loaded
            .map(Arc::new)
            .ok_or_else(|| Error::corrupt(format!("table '{}' has no version {version}", self.name)))
    }
}

/// Milliseconds since 1970 by this machine's clock.
pub fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// How commits name their writer.
pub fn engine_info() -> String {
    concat!("toplake/", env!("CARGO_PKG_VERSION")).to_owned()
}
