//! A table of our own that what commits of other tables say ends up in: `toplake.dead_letters`, `toplake.ledger`.
//!
//! It is a Delta table below `_toplake` like any other: compacted, vacuumed, and expired by the time when its rows came. A
//! reader sees what it has, and what commits of others have for it ([`outbox`](super::outbox)) and nobody has moved yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as EngineResult;
use datafusion::logical_expr::{TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use datafusion::prelude::Expr;
use tokio::sync::OnceCell;

use super::ledger;
use super::options::{TableOptions, micros};
use super::outbox::Route;
use super::warehouse::Warehouse;
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::Change;
use crate::lake::pin::Pins;
use crate::lake::scan::Scan;
use crate::lake::schema::to_delta;
use crate::lake::snapshot::{File, Snapshot};
use crate::lake::store::Store;
use crate::lake::table::{NewTable, Table};
use crate::lake::writer::{FileWriter, discard};

/// How long rows are kept if nothing else is said: 90 days, in microseconds.
pub const RETENTION: i64 = 90 * 86_400_000_000;

/// Times that rows are added again after losing to another.
const TRIES: usize = 20;

/// The folder of what is ours in a warehouse; no table of a user has a name that begins like this.
pub(super) const OURS: &str = "_toplake";

/// What a side table is.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    /// Its name in the schema `toplake`.
    pub(super) name: &'static str,
    /// The column that says when a row came.
    pub(super) time: &'static str,
    /// Its rows.
    pub(super) schema: SchemaRef,
    /// The way on which they come; without one they are written by [`SideTable::append`] alone.
    pub(super) route: Option<Route>,
}

/// The table.
#[derive(Debug)]
pub struct SideTable {
    definition: Definition,
    store: Store,
    warehouse: Weak<Warehouse>,
    table: OnceCell<Arc<Table>>,
}

impl SideTable {
    /// A side table of the warehouse at `store`.
    pub(super) fn new(definition: Definition, store: &Store, warehouse: Weak<Warehouse>) -> Self {
        let store = store.child(OURS).child(definition.name);
        SideTable { definition, store, warehouse, table: OnceCell::new() }
    }

    /// Its name in the schema `toplake`.
    pub fn name(&self) -> &'static str {
        self.definition.name
    }

    /// The column that says when a row came.
    pub fn time_column(&self) -> &'static str {
        self.definition.time
    }

    /// The way on which its rows come from other tables, if they do.
    pub fn route(&self) -> Option<Route> {
        self.definition.route
    }

    /// Where its files are written.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The Delta table; made when it is first needed.
    pub async fn table(&self) -> Result<&Arc<Table>> {
        // Boxed: whatever plans a statement passes here, and would have room for this on its stack.
        self.table.get_or_try_init(|| Box::pin(self.open())).await
    }

    async fn open(&self) -> Result<Arc<Table>> {
        let schema = self.definition.schema.as_ref().clone();
        let new = NewTable { schema, configuration: vec![], description: None };
        // A statement tells tables apart by name: a user may have one that is called like this.
        let name = format!("{OURS}/{}", self.definition.name);
        loop {
            if let Some(table) = Table::open(&name, self.store.clone()).await? {
                self.add_columns(&table).await?;
                return Ok(Arc::new(table));
            }
            if let Some(table) = Table::create(&name, self.store.clone(), &new).await? {
                return Ok(Arc::new(table));
            }
        }
    }

    /// The Delta table, if there is one by now.
    pub async fn existing(&self) -> Result<Option<&Arc<Table>>> {
        if self.table.get().is_none() && Table::open(self.name(), self.store.clone()).await?.is_none() {
            return Ok(None);
        }
        self.table().await.map(Some)
    }

    /// Adds to a table that an older version has made what columns came since; they are NULL in its rows.
    async fn add_columns(&self, table: &Table) -> Result<()> {
        loop {
            let on = table.update().await?;
            let mut fields: Vec<FieldRef> = on.schema.fields().iter().cloned().collect();
            let known = fields.len();
            let new =
                self.definition.schema.fields().iter().filter(|f| on.schema.index_of(f.name()).is_err());
            fields.extend(new.cloned());
            if fields.len() == known {
                return Ok(());
            }
            let mut metadata = on.metadata.as_ref().clone();
            metadata.schema_string = to_delta(&Schema::new(fields))?;
            let mut change = Change::new(CommitKind::Metadata, "ADD COLUMNS", &on);
            change.metadata = Some(metadata);
            match table.commit(&change).await {
                // Another process may be doing the same.
                Err(e) if e.kind() == Kind::Conflict => {}
                done => return done.map(|_| ()),
            }
        }
    }

    /// Adds rows that come from nowhere else.
    pub(super) async fn append(&self, rows: &RecordBatch) -> Result<()> {
        let table = self.table().await?;
        let mut lost = None;
        for _ in 0..TRIES {
            let now = table.update().await?;
            let mut writer = FileWriter::new(table.store(), Arc::clone(&now.schema), None);
            if let Err(e) = writer.write(rows).await {
                writer.abandon().await;
                return Err(e);
            }
            let mut change = Change::new(CommitKind::Append, "APPEND", &now);
            change.adds = writer.finish().await?;
            match table.commit(&change).await {
                Err(e) if e.kind() == Kind::Conflict => {
                    discard(table.store(), &change.adds).await;
                    lost = Some(e);
                }
                done => return done.map(|_| ()),
            }
        }
        Err(lost.unwrap_or_else(|| Error::internal("no try was made")))
    }

    /// What is on its way at the version `mine`: files, and rows that are in none yet.
    async fn pending(&self, mine: &Snapshot, pins: &Pins) -> Result<(Vec<Arc<File>>, Vec<RecordBatch>)> {
        let warehouse = self.warehouse.upgrade().ok_or_else(|| Error::internal("the warehouse is closed"))?;
        let (mut files, mut rows) = (vec![], vec![]);
        for (route, from) in warehouse.routes_into(self.table().await?).await? {
            let theirs = pins.snapshot(&from).await?;
            let mut unread = route.unread(mine, &from, &theirs);
            while let Some(commits) = unread.next().await? {
                match route {
                    Route::Ledger => rows.push(ledger::rows(from.name(), &commits)?),
                    _ => files.extend(route.files(&commits).into_iter().map(|add| Arc::new(File::new(add)))),
                }
            }
        }
        Ok((files, rows))
    }
}

#[async_trait]
impl TableProvider for SideTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.definition.schema)
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
        let pins = Pins::of(state.config());
        // This table first: what a follower moves after that still stands in the commits read below.
        let mine = pins.snapshot(self.table().await?).await?;
        let (mut files, rows) = self.pending(&mine, &pins).await?;
        files.extend(mine.files.values().cloned());
        let schema = self.schema();
        let scan = Scan { store: &self.store, schema: &schema, files, projection, filters, limit };
        let stored = scan.plan(state)?;
        if rows.is_empty() {
            return Ok(stored);
        }
        let rows = MemorySourceConfig::try_new_exec(&[rows], self.schema(), projection.cloned())?;
        Ok(UnionExec::try_new(vec![stored, rows])?)
    }
}

/// Options of a side table with others: it has none but retention.
pub fn altered(options: &TableOptions, others: &BTreeMap<String, Option<String>>) -> Result<TableOptions> {
    let mut altered = options.clone();
    for (key, value) in others {
        if key != "retention" {
            return Err(Error::invalid_input(format!("'{key}' is no option of a side table"))
                .with_hint("its only one is retention"));
        }
        altered.retention = value.as_ref().map(|value| micros(key, value)).transpose()?;
    }
    Ok(altered)
}
