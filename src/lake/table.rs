//! A table in this process: its newest known version, and following the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::RwLock;

use super::action::{Action, CommitInfo, CommitKind, Format, Metadata, Protocol, format_lines};
use super::log::{self, Opened};
use super::schema;
use super::snapshot::{Commit, Replay, Snapshot};
use super::store::Store;
use super::watch::Watch;
use crate::error::{Error, Kind, Result};
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
    pub(super) watch: Watch,
}

#[derive(Debug)]
struct State {
    snapshot: Arc<Snapshot>,
    /// The newest commits, without a gap, up to the snapshot's version.
    recent: VecDeque<Arc<Commit>>,
    /// When the snapshot's version was last seen to be the newest.
    looked: Looked,
}

impl State {
    fn at(opened: Opened, looked: Looked) -> Self {
        let older = opened.commits.len().saturating_sub(RECENT);
        let recent = opened.commits.into_iter().skip(older).map(Arc::new).collect();
        State { snapshot: Arc::new(opened.snapshot), recent, looked }
    }
}

/// A moment, by the clock of the process and by that of the machine: either may stand still where the other goes on.
#[derive(Debug, Clone, Copy)]
struct Looked(Instant, SystemTime);

impl Looked {
    fn now() -> Self {
        Looked(Instant::now(), SystemTime::now())
    }

    /// Whether no commit since then can have been cleaned up: the next version that is not there was never there.
    fn is_recent(self) -> bool {
        let by_machine = SystemTime::now().duration_since(self.1).unwrap_or_default();
        self.0.elapsed().max(by_machine) < log::LEAST_AGE / 2
    }
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
        let looked = Looked::now();
        Ok(log::open(&store, None).await?.map(|opened| Table::at(name, store, State::at(opened, looked))))
    }

    fn at(name: &str, store: Store, state: State) -> Self {
        Table {
            name: name.to_owned(),
            store,
            state: RwLock::new(state),
            following: Default::default(),
            committing: Default::default(),
            checkpointing: Default::default(),
            watch: Default::default(),
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
        let looked = Looked::now();
        let mut replay = Replay::default();
        let commits = vec![replay.commit(0, actions.into())];
        let opened = Opened { snapshot: replay.finish(store.prefix().as_ref())?, commits };
        Ok(Some(Table::at(name, store, State::at(opened, looked))))
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
                return self.reopen().await;
            }
            let looked = Looked::now();
            match log::read_commit(&self.store, now.version + 1).await? {
                Some(actions) => self.advance(&now, actions)?,
                None if self.looked_recently() => {
                    self.state.write().looked = looked;
                    return Ok(now);
                }
                // The next version may have been there and be cleaned up by now.
                None => return self.reopen().await,
            }
        }
    }

    /// The newest version there was at some moment within the last `age`.
    pub async fn seen_within(&self, age: Duration) -> Result<Arc<Snapshot>> {
        let looked = self.state.read().looked;
        match looked.0.elapsed() < age {
            true => Ok(self.snapshot()),
            false => self.update().await,
        }
    }

    /// Opens the table anew. The caller holds `following`.
    async fn reopen(&self) -> Result<Arc<Snapshot>> {
        let looked = Looked::now();
        let Some(opened) = log::open(&self.store, None).await? else {
            return Err(Error::undefined_table(format!("table '{}' has vanished", self.name)));
        };
        *self.state.write() = State::at(opened, looked);
        Ok(self.snapshot())
    }

    /// Whether the log was seen to end at the known version, or after it, so lately that its next version cannot have been
    /// cleaned up since.
    pub(super) fn looked_recently(&self) -> bool {
        self.state.read().looked.is_recent()
    }

    /// Applies the commit that follows `now`. The caller holds `following`.
    fn advance(&self, now: &Snapshot, actions: Vec<Action>) -> Result<()> {
        let mut replay = Replay::from_snapshot(now);
        let commit = Arc::new(replay.commit(now.version + 1, actions));
        let snapshot = replay.finish(self.store.prefix().as_ref())?;
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
        let known: Vec<Arc<Commit>> = {
            let state = self.state.read();
            state.recent.iter().filter(|c| c.version > after && c.version <= through).cloned().collect()
        };
        let known = if known.last().is_some_and(|c| c.version == through) { known } else { vec![] };
        let missing = known.first().map_or(through, |c| c.version - 1);
        if missing <= after {
            return Ok(known);
        }
        let older = log::read_commits(&self.store, after, missing).await?;
        Ok(older.into_iter().map(Arc::new).chain(known).collect())
    }

    /// Of the newest commits up to `through` those that this process has in memory, in order.
    pub fn recent(&self, through: i64) -> Vec<Arc<Commit>> {
        self.state.read().recent.iter().filter(|c| c.version <= through).cloned().collect()
    }

    /// Like [`Self::commits`], of those that were not cleaned up the first `at_most`; none only if none is left.
    pub async fn commits_left(&self, after: i64, through: i64, at_most: i64) -> Result<Vec<Arc<Commit>>> {
        let mut after = after;
        while after < through {
            match self.commits(after, through.min(after.saturating_add(at_most))).await {
                Err(e) if e.kind() == Kind::Corrupt => match log::begins_at(&self.store).await? {
                    Some(first) if first > after + 1 => after = first - 1,
                    _ => return Err(e),
                },
                found => return found,
            }
        }
        Ok(vec![])
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

#[cfg(test)]
mod tests {
    use super::super::committer::Change;
    use super::*;
    use datafusion::arrow::datatypes::{DataType, Field};
    use object_store::memory::InMemory;

    async fn table() -> Table {
        let store = Store::with_object_store(Arc::new(InMemory::new()), "memory:///t").unwrap();
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        let new = NewTable { schema, configuration: vec![], description: None };
        Table::create("t", store, &new).await.unwrap().unwrap()
    }

    async fn commit(table: &Table) -> Result<i64> {
        let mut change = Change::new(CommitKind::Append, "WRITE", &table.snapshot());
        change.adds = vec![super::super::action::Add { path: "f".into(), ..Default::default() }];
        table.commit(&change).await
    }

    /// As after an hour in which the process stood still.
    fn age(table: &Table) {
        let hour_ago = SystemTime::now() - log::LEAST_AGE;
        table.state.write().looked = Looked(Instant::now(), hour_ago);
    }

    #[tokio::test]
    async fn who_stood_still_while_the_log_was_cleaned_up_goes_on_at_its_end() {
        let busy = table().await;
        let idle = Table::open("t", busy.store().clone()).await.unwrap().unwrap();
        for _ in 0..5 {
            commit(&busy).await.unwrap();
        }
        busy.checkpoint().await.unwrap();
        assert!(log::clean_up(busy.store(), 5, std::time::Duration::ZERO).await.unwrap() > 0);
        age(&idle);
        // Version 1, which it would look for next, is not there.
        assert_eq!(idle.update().await.unwrap().version, 5);
        assert_eq!(commit(&idle).await.unwrap(), 6);
    }

    #[tokio::test]
    async fn a_commit_into_a_part_of_the_log_that_is_gone_is_taken_back() {
        let busy = table().await;
        let idle = Table::open("t", busy.store().clone()).await.unwrap().unwrap();
        for _ in 0..5 {
            commit(&busy).await.unwrap();
        }
        busy.checkpoint().await.unwrap();
        log::clean_up(busy.store(), 5, std::time::Duration::ZERO).await.unwrap();
        // The process stood still between looking for the end of the log and writing: version 1 is free again.
        age(&idle);
        let path = log::commit_path(idle.store(), 1);
        assert!(idle.store().put_if_absent(&path, b"{}".as_slice().into()).await.unwrap());
        let lost = idle.done(1, vec![]).await.unwrap_err();
        assert_eq!(lost.kind(), crate::error::Kind::Conflict, "{lost}");
        assert!(idle.store().get(&path).await.unwrap().is_none());
        assert_eq!(idle.snapshot().version, 5);
    }
}
