//! `toplake.dead_letters`: input that could not be stored, with where it stood and why.
//!
//! A side table by outbox (DESIGN §2, invariant 1). Its files are written first; the commit of the events table names
//! them, and by that commit alone they become visible. A follower adds them to this table later, each once: it moves
//! `outbox:<events table>` from the version it began at, so of two followers one loses. Readers see what this table has
//! and what is named but not added yet.

use std::sync::{Arc, LazyLock, Weak};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as EngineResult;
use datafusion::logical_expr::{TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::Expr;
use tokio::sync::OnceCell;

use super::warehouse::Warehouse;
use crate::error::{Error, Kind, Result};
use crate::lake::action::{Add, CommitKind, OutboxFile};
use crate::lake::committer::{Change, Position};
use crate::lake::pin::Pins;
use crate::lake::scan::Scan;
use crate::lake::schema::timestamp;
use crate::lake::snapshot::{File, Snapshot};
use crate::lake::store::Store;
use crate::lake::table::{NewTable, Table};

/// The name of the table in the schema `toplake`.
pub const NAME: &str = "dead_letters";

/// The column that says when a letter came.
pub const TIME: &str = "at";

/// The position that an events table moves with each commit that names side-table files: their number so far.
pub const MARK: &str = "toplake.outbox";

/// What a dead letter is.
pub static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new(TIME, timestamp(true), false),
        Field::new("table_name", DataType::Utf8View, false),
        Field::new("source", DataType::Utf8View, false),
        Field::new("position", DataType::Int64, false),
        Field::new("reason", DataType::Utf8View, false),
        Field::new("payload", DataType::Utf8View, true),
    ]))
});

/// The side table.
#[derive(Debug)]
pub struct DeadLetters {
    store: Store,
    warehouse: Weak<Warehouse>,
    table: OnceCell<Arc<Table>>,
}

impl DeadLetters {
    /// The side table of the warehouse at `store`.
    pub fn new(store: &Store, warehouse: Weak<Warehouse>) -> Self {
        DeadLetters { store: store.child("_toplake").child(NAME), warehouse, table: OnceCell::new() }
    }

    /// Where its files are written.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The Delta table; made when it is first needed.
    pub async fn table(&self) -> Result<&Arc<Table>> {
        self.table
            .get_or_try_init(|| async {
                let new =
                    NewTable { schema: SCHEMA.as_ref().clone(), configuration: vec![], description: None };
                loop {
                    if let Some(table) = Table::open(NAME, self.store.clone()).await? {
                        return Ok(Arc::new(table));
                    }
                    if let Some(table) = Table::create(NAME, self.store.clone(), &new).await? {
                        return Ok(Arc::new(table));
                    }
                }
            })
            .await
    }

    /// Adds to this table what the commits of `events` have named since the last time. Any number of followers may run
    /// at the same time.
    pub async fn follow(&self, events: &Table) -> Result<()> {
        let table = self.table().await?;
        loop {
            let mine = table.update().await?;
            let theirs = events.update().await?;
            let pending = Pending::between(&mine, events, &theirs).await?;
            if pending.files.is_empty() {
                return Ok(());
            }
            let mut change = Change::new(CommitKind::Append, "OUTBOX", &mine);
            change.positions = pending.positions(&mine, events, &theirs);
            change.adds = pending.files.into_iter().map(|f| f.add).collect();
            match table.commit(&change).await {
                Err(e) if e.kind() == Kind::Conflict => {}
                done => return done.map(|_| ()),
            }
        }
    }

    /// Files that commits of `events` name and that no follower has added yet.
    pub async fn pending(&self, events: &Table) -> Result<Vec<OutboxFile>> {
        let mine = self.table().await?.update().await?;
        Ok(Pending::between(&mine, events, &*events.update().await?).await?.files)
    }

    /// The version of `events` whose commits a follower has yet to read from; `None` if it has read all that name a file.
    pub async fn followed(&self, events: &Table) -> Result<Option<i64>> {
        let theirs = events.update().await?;
        let Some(marked) = theirs.position(MARK) else { return Ok(None) };
        let mine = self.table().await?.update().await?;
        let (mark, version) = apps(events);
        let behind = mine.position(&mark) != Some(marked);
        Ok(behind.then(|| mine.position(&version).unwrap_or(-1)))
    }

    /// What this table has and what is named but not added yet.
    async fn files(&self, pins: &Pins) -> Result<Vec<Arc<File>>> {
        let warehouse = self.warehouse.upgrade().ok_or_else(|| Error::internal("the warehouse is closed"))?;
        // The side table first: what a follower adds after that is still named by the commits read below.
        let mine = pins.snapshot(self.table().await?).await?;
        let mut files: Vec<Arc<File>> = mine.files.values().cloned().collect();
        for events in warehouse.events_tables().await? {
            let theirs = pins.snapshot(&events).await?;
            let pending = Pending::between(&mine, &events, &theirs).await?;
            files.extend(pending.files.into_iter().map(|f| Arc::new(File::new(f.add))));
        }
        Ok(files)
    }
}

/// What commits of one events table name and this table does not have.
struct Pending {
    files: Vec<OutboxFile>,
}

impl Pending {
    async fn between(mine: &Snapshot, events: &Table, theirs: &Snapshot) -> Result<Self> {
        let (mark, version) = apps(events);
        if theirs.position(MARK) == mine.position(&mark) {
            return Ok(Pending { files: vec![] });
        }
        let commits = events.commits(mine.position(&version).unwrap_or(-1), theirs.version).await?;
        let named = commits.iter().flat_map(|c| c.outbox.iter());
        Ok(Pending { files: named.filter(|f| f.table == NAME).cloned().collect() })
    }

    fn positions(&self, mine: &Snapshot, events: &Table, theirs: &Snapshot) -> Vec<Position> {
        let (mark, version) = apps(events);
        let marked = theirs.position(MARK).unwrap_or_default();
        vec![
            Position { from: mine.position(&mark), to: marked, app: mark },
            Position { from: mine.position(&version), to: theirs.version, app: version },
        ]
    }
}

/// The names of the two positions of an events table: how many it had named, and at which version. They belong to its
/// log, which goes on when the table is dropped and made again.
fn apps(events: &Table) -> (String, String) {
    let name = events.name();
    (format!("toplake.outbox.mark:{name}"), format!("toplake.outbox.version:{name}"))
}

/// How a commit names a side-table file.
pub fn outbox(adds: Vec<Add>) -> Vec<OutboxFile> {
    adds.into_iter().map(|add| OutboxFile { table: NAME.to_owned(), add }).collect()
}

#[async_trait]
impl TableProvider for DeadLetters {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let files = self.files(&Pins::of(state.config())).await?;
        let schema = self.schema();
        let scan = Scan { store: &self.store, schema: &schema, files, projection, filters, limit };
        Ok(scan.plan(state)?)
    }
}
