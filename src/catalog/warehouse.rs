//! What a warehouse holds. The store is the only state: a folder with a Delta log is an object, and its configuration
//! says what it is. Nothing is kept beside it, so a second process sees what the first has made.
//!
//! A dropped object keeps its log: dropping is a commit that removes the files and marks the table as dropped, and
//! making it again is a commit on top. Versions never go backwards, so a process that has the old table open sees both.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use datafusion::catalog::TableProvider;
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::RwLock;

use super::comments::Comments;
use super::dead_letters;
use super::events::{Beside, EventsTable};
use super::folder_names::{check_name, folder_of_name, name_of_folder};
use super::job_runs;
use super::jobs::Jobs;
use super::late;
use super::leaderboard::LeaderboardTable;
use super::ledger;
use super::options::{Late, ObjectKind, keys};
use super::privileges::Grants;
use super::recent_keys;
use super::side_table::{OURS, SideTable};
use super::workers::WorkerStatus;
use crate::error::{Error, Kind, Result};
use crate::lake::action::{CommitKind, Metadata};
use crate::lake::committer::Change;
use crate::lake::lease::{self, Leases};
use crate::lake::scan::locate;
use crate::lake::snapshot::Snapshot;
use crate::lake::store::Store;
use crate::lake::table::{NewTable, Table};
use crate::rollup::table::RollupTable;
use crate::rollup::view::{Edition, Rollup};

/// An object of the warehouse, ready for the engine.
#[derive(Debug, Clone)]
pub enum Object {
    /// A table with rows of its own.
    Table(Arc<EventsTable>),
    /// An incremental view.
    Rollup(Arc<RollupTable>),
    /// A snapshot view.
    Leaderboard(Arc<LeaderboardTable>),
    /// A view.
    View(Arc<ViewTable>),
    /// A table that lies elsewhere.
    External(Arc<dyn TableProvider>),
}

impl Object {
    /// As a table of the engine.
    pub fn provider(&self) -> Arc<dyn TableProvider> {
        match self {
            Object::Table(t) => Arc::clone(t) as _,
            Object::Rollup(r) => Arc::clone(r) as _,
            Object::Leaderboard(l) => Arc::clone(l) as _,
            Object::View(v) => Arc::clone(v) as _,
            Object::External(e) => Arc::clone(e),
        }
    }

    /// Whether what it is made from is what it was when it was built.
    fn is_current(&self) -> bool {
        match self {
            Object::Rollup(table) => table.rollup().is_current(),
            // What stands in the way of its late rows may be gone by now.
            Object::Table(events) => events.unfit().is_none(),
            _ => true,
        }
    }

    /// What it is.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Object::Table(_) => ObjectKind::Table,
            Object::Rollup(_) => ObjectKind::Rollup,
            Object::Leaderboard(_) => ObjectKind::Leaderboard,
            Object::View(_) => ObjectKind::View,
            Object::External(_) => ObjectKind::External,
        }
    }
}

/// An object and the metadata it was made from.
#[derive(Debug)]
struct Entry {
    table: Arc<Table>,
    /// `None` until it is asked for, and after the metadata changed; of a view always.
    built: RwLock<Option<(Arc<Metadata>, Object)>>,
}

/// A warehouse in this process.
#[derive(Debug)]
pub struct Warehouse {
    store: Store,
    entries: RwLock<HashMap<String, Arc<Entry>>>,
    /// Live names as of the last listing and the changes made here since.
    names: RwLock<Vec<String>>,
    planner: OnceLock<SessionState>,
    dead_letters: Arc<SideTable>,
    ledger: Arc<SideTable>,
    recent_keys: Arc<SideTable>,
    job_runs: Arc<SideTable>,
    leases: Arc<Leases>,
    jobs: Arc<Jobs>,
    workers: RwLock<Vec<WorkerStatus>>,
}

impl Warehouse {
    /// Opens the warehouse at a location; see [`Store::open`].
    pub async fn open(location: &str) -> Result<Arc<Self>> {
        Self::on(Store::open(location)?).await
    }

    /// Opens the warehouse in a store.
    pub async fn on(store: Store) -> Result<Arc<Self>> {
        let warehouse = Arc::new_cyclic(|this: &Weak<Warehouse>| Warehouse {
            dead_letters: Arc::new(SideTable::new(dead_letters::definition(), &store, this.clone())),
            ledger: Arc::new(SideTable::new(ledger::definition(), &store, this.clone())),
            recent_keys: Arc::new(SideTable::new(recent_keys::definition(), &store, this.clone())),
            job_runs: Arc::new(SideTable::new(job_runs::definition(), &store, this.clone())),
            leases: Leases::new(store.child(OURS).child("leases"), lease::LENGTH),
            store,
            entries: Default::default(),
            names: Default::default(),
            planner: OnceLock::new(),
            jobs: Default::default(),
            workers: Default::default(),
        });
        Ok(warehouse)
    }

    /// The workers of this server, as it last saw them.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        self.workers.read().clone()
    }

    /// Tells how they are.
    pub fn set_workers(&self, seen: Vec<WorkerStatus>) {
        *self.workers.write() = seen;
    }

    /// Where it lies.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Bad input.
    pub fn dead_letters(&self) -> &Arc<SideTable> {
        &self.dead_letters
    }

    /// What became of all input.
    pub fn ledger(&self) -> &Arc<SideTable> {
        &self.ledger
    }

    /// What guards of streams remember.
    pub fn recent_keys(&self) -> &Arc<SideTable> {
        &self.recent_keys
    }

    /// What jobs have done.
    pub fn job_runs(&self) -> &Arc<SideTable> {
        &self.job_runs
    }

    /// Which process does what.
    pub fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    /// The tables of our own.
    pub fn side_tables(&self) -> [&Arc<SideTable>; 4] {
        [&self.dead_letters, &self.ledger, &self.recent_keys, &self.job_runs]
    }

    /// What runs in this process.
    pub fn jobs(&self) -> &Arc<Jobs> {
        &self.jobs
    }

    /// Gives the warehouse the session that plans the queries of its views; the first one stays.
    pub fn set_planner(&self, state: SessionState) {
        let _ = self.planner.set(state);
    }

    pub(super) fn planner(&self, time_zone: Option<&str>) -> Result<SessionState> {
        let mut state =
            self.planner.get().cloned().ok_or_else(|| Error::internal("the warehouse has no session"))?;
        let zone = time_zone.map(str::to_owned);
        state.config_mut().options_mut().execution.time_zone = zone;
        Ok(state)
    }

    /// Names of what is in the warehouse, as of the last [`Self::list`].
    pub fn known_names(&self) -> Vec<String> {
        self.names.read().clone()
    }

    /// Reads from the store what is in the warehouse.
    pub async fn list(self: &Arc<Self>) -> Result<Vec<String>> {
        let mut names = vec![];
        for folder in self.store.list_folders().await? {
            let Some(name) = name_of_folder(&folder) else { continue };
            if let Some(entry) = self.entry(&name).await?
                && !is_dropped(&*entry.table.update().await?)
            {
                names.push(name);
            }
        }
        names.sort();
        self.names.write().clone_from(&names);
        Ok(names)
    }

    /// The object of this name, at its newest definition; `None` if there is none.
    pub fn get<'a>(self: &'a Arc<Self>, name: &'a str) -> BoxFuture<'a, Result<Option<Object>>> {
        async move {
            let Some(entry) = self.entry(name).await? else { return Ok(None) };
            let snapshot = entry.table.update().await?;
            if is_dropped(&snapshot) {
                return Ok(None);
            }
            if let Some((metadata, object)) = entry.built.read().as_ref()
                && Arc::ptr_eq(metadata, &snapshot.metadata)
                && object.is_current()
            {
                return Ok(Some(object.clone()));
            }
            let object = self.build(name, &entry.table, &snapshot).await?;
            // A view's plan has those of the views below it in it, which may be replaced at any time.
            if !matches!(object, Object::View(_)) {
                *entry.built.write() = Some((Arc::clone(&snapshot.metadata), object.clone()));
            }
            Ok(Some(object))
        }
        .boxed()
    }

    /// The object of this name as it was last built in this process.
    pub fn built(&self, name: &str) -> Option<Object> {
        let entry = Arc::clone(self.entries.read().get(name)?);
        let built = entry.built.read();
        built.as_ref().map(|(_, object)| object.clone())
    }

    /// The object of this name, or an error that says there is none.
    pub async fn require(self: &Arc<Self>, name: &str) -> Result<Object> {
        match self.get(name).await? {
            Some(object) => Ok(object),
            None => {
                Err(Error::undefined_table(format!("there is no table or view '{name}'")).with_name(name))
            }
        }
    }

    /// The rollup of this name.
    pub async fn rollup(self: &Arc<Self>, name: &str) -> Result<Arc<Rollup>> {
        match self.require(name).await? {
            Object::Rollup(table) => Ok(Arc::clone(table.rollup())),
            other => Err(Error::wrong_object_type(format!(
                "'{name}' is {}, not a rollup",
                other.kind().with_article()
            ))),
        }
    }

    /// The Delta table of an object, whatever it is; `None` if there is none, or it was dropped.
    pub async fn table(&self, name: &str) -> Result<Option<Arc<Table>>> {
        let entry = self.entry(name).await?;
        Ok(entry.map(|e| Arc::clone(&e.table)).filter(|t| !is_dropped(&t.snapshot())))
    }

    /// The newest version that this process has seen of a table that it has open.
    pub fn opened(&self, name: &str) -> Option<Arc<Snapshot>> {
        let snapshot = self.entries.read().get(name)?.table.snapshot();
        (!is_dropped(&snapshot)).then_some(snapshot)
    }

    /// Opens what is there, dropped or not.
    async fn entry(&self, name: &str) -> Result<Option<Arc<Entry>>> {
        if let Some(entry) = self.entries.read().get(name) {
            return Ok(Some(Arc::clone(entry)));
        }
        let Some(table) = Table::open(name, self.store.child(&folder_of_name(name))).await? else {
            return Ok(None);
        };
        Ok(Some(self.remember(name, table)))
    }

    /// One handle for each table: the first one stays.
    fn remember(&self, name: &str, table: Table) -> Arc<Entry> {
        let entry = Entry { table: Arc::new(table), built: RwLock::new(None) };
        Arc::clone(self.entries.write().entry(name.to_owned()).or_insert_with(|| Arc::new(entry)))
    }

    async fn build(self: &Arc<Self>, name: &str, table: &Arc<Table>, snapshot: &Snapshot) -> Result<Object> {
        let configuration = &snapshot.metadata.configuration;
        let sql = || configuration.get(keys::SQL).cloned().unwrap_or_default();
        let statement = || format!("CREATE MATERIALIZED VIEW {name} AS {}", sql());
        let zone = configuration.get(keys::TIME_ZONE).map(String::as_str);
        let context = |e: Error| e.context(format!("'{name}'"));
        Ok(match ObjectKind::of(configuration) {
            ObjectKind::Table => Object::Table(Arc::new(self.events_table(name, table, snapshot).await?)),
            ObjectKind::Leaderboard => {
                Object::Leaderboard(Arc::new(LeaderboardTable::new(Arc::clone(table), sql(), statement())))
            }
            ObjectKind::Rollup => {
                let source_id = configuration.get(keys::SOURCE_ID).cloned().unwrap_or_default();
                let (definition, source) = self.definition(&sql(), zone).await.map_err(context)?;
                if source.table().snapshot().metadata.id != source_id {
                    return Err(Error::wrong_object_type(format!(
                        "'{name}' was made over another table '{}' than the one there now",
                        source.table().name()
                    ))
                    .with_hint(format!("DROP MATERIALIZED VIEW {name}, and create it again")));
                }
                let edition = Edition::of(snapshot);
                let rollup = Rollup { table: Arc::clone(table), definition, source, edition };
                Object::Rollup(Arc::new(RollupTable::new(Arc::new(rollup), statement())))
            }
            ObjectKind::View => {
                let plan = self.plan(&sql(), zone).await.map_err(context)?;
                Object::View(Arc::new(ViewTable::new(plan, Some(sql()))))
            }
            ObjectKind::External => {
                Object::External(super::external::open(&self.planner(zone)?, &sql()).await.map_err(context)?)
            }
        })
    }

    /// A table with rows of its own, and what stands beside it.
    async fn events_table(
        self: &Arc<Self>,
        name: &str,
        table: &Arc<Table>,
        snapshot: &Snapshot,
    ) -> Result<EventsTable> {
        let events = EventsTable::new(Arc::clone(table));
        let mut beside = Beside::default();
        if let Some(of) = late::events_of(snapshot) {
            // Dropped or not: what its log names is visible.
            beside.events = self.entry(of).await?.map(|entry| Arc::clone(&entry.table));
        } else if events.options().time_column.is_some() {
            beside.late_store = Some(self.store.child(&folder_of_name(&late::name_of(name))));
            if events.options().late == Late::Divert {
                match self.late_table(name, &snapshot.schema, events.options()).await {
                    Ok(late) => beside.late = Some(late),
                    // What there is can be read, and rows that come in time be stored: whoever has late ones is told.
                    Err(e) if e.kind() == Kind::DuplicateTable => beside.unfit = Some(Arc::new(e)),
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(events.with(beside))
    }

    /// Makes an object; says whether it did, or one of that name was there.
    pub async fn create(self: &Arc<Self>, name: &str, new: &NewTable) -> Result<bool> {
        check_name(name)?;
        if let Some(entry) = self.entry(name).await? {
            let snapshot = entry.table.update().await?;
            if !is_dropped(&snapshot) {
                return Ok(false);
            }
            self.redefine(&entry.table, &snapshot, new, "CREATE TABLE").await?;
        } else {
            match Table::create(name, self.store.child(&folder_of_name(name)), new).await? {
                Some(table) => drop(self.remember(name, table)),
                // Somebody else was faster.
                None => return Ok(false),
            }
        }
        self.note(name, true);
        Ok(true)
    }

    /// Puts another definition in the place of an object: its rows leave in the same commit.
    pub async fn replace(self: &Arc<Self>, name: &str, new: &NewTable) -> Result<()> {
        let entry =
            self.entry(name).await?.ok_or_else(|| Error::undefined_table(format!("there is no '{name}'")))?;
        let snapshot = entry.table.update().await?;
        self.redefine(&entry.table, &snapshot, new, "REPLACE TABLE").await?;
        self.note(name, true);
        Ok(())
    }

    async fn redefine(
        &self,
        table: &Table,
        now: &Snapshot,
        new: &NewTable,
        operation: &'static str,
    ) -> Result<()> {
        let mut change = Change::new(CommitKind::Metadata, operation, now);
        let mut metadata = new.metadata(table.name())?;
        if !is_dropped(now) {
            Grants::keep(&now.metadata.configuration, &mut metadata.configuration);
            Comments::keep(&now.metadata.configuration, &mut metadata.configuration);
        }
        change.metadata = Some(metadata);
        change.removes = now.files.values().cloned().collect();
        // What came in between would stay.
        change.refuses_all = true;
        table.commit(&change).await?;
        Ok(())
    }

    /// Drops an object; its files are removed after the commit that drops them.
    pub async fn drop(self: &Arc<Self>, name: &str) -> Result<()> {
        let entry =
            self.entry(name).await?.ok_or_else(|| Error::undefined_table(format!("there is no '{name}'")))?;
        // What it names for other tables stays there; what others name for it goes with it, and does not come back.
        self.follow(&entry.table).await?;
        self.catch_up(&entry.table).await?;
        let snapshot = entry.table.update().await?;
        let mut metadata = snapshot.metadata.as_ref().clone();
        metadata.configuration.insert(keys::DROPPED.to_owned(), "true".to_owned());
        let mut change = Change::new(CommitKind::Metadata, "DROP TABLE", &snapshot);
        change.metadata = Some(metadata);
        change.removes = snapshot.files.values().cloned().collect();
        entry.table.commit(&change).await?;
        self.note(name, false);
        if let Err(e) = self.follow(&entry.table).await {
            // It is found when a table of this name is made again.
            tracing::warn!(table = name, error = %e, "could not take in what its last commits have for other tables");
        }
        let store = entry.table.store();
        let paths = change.removes.iter().filter_map(|f| locate(store, &f.add.path).ok()).collect();
        if let Err(e) = store.delete_all(paths).await {
            tracing::warn!(table = name, error = %e, "could not remove the files of a dropped table");
        }
        Ok(())
    }

    fn note(&self, name: &str, there: bool) {
        let mut names = self.names.write();
        names.retain(|n| n != name);
        if there {
            names.push(name.to_owned());
            names.sort();
        }
    }

    /// The tables with rows of their own.
    pub async fn tables(self: &Arc<Self>) -> Result<Vec<Arc<Table>>> {
        let mut tables = vec![];
        for name in self.list().await? {
            if let Some(table) = self.table(&name).await?
                && ObjectKind::of(&table.snapshot().metadata.configuration) == ObjectKind::Table
            {
                tables.push(table);
            }
        }
        Ok(tables)
    }
}

fn is_dropped(snapshot: &Snapshot) -> bool {
    snapshot.option(keys::DROPPED).is_some()
}
