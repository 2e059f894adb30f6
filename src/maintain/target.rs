//! What can be maintained: a table by its name, and what its rows are.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;

use crate::catalog::events::EventsTable;
use crate::catalog::options::{TableOptions, keys};
use crate::catalog::recent_keys;
use crate::catalog::schemas::{PUBLIC, SYSTEM};
use crate::catalog::side_table::{self, SideTable};
use crate::catalog::warehouse::{Object, Warehouse};
use crate::error::{Error, Kind, Result};
use crate::lake::archived::CLAIMED;
use crate::lake::snapshot::Snapshot;
use crate::lake::table::Table;
use crate::rollup::view::Rollup;

/// A table to maintain.
#[derive(Debug, Clone)]
pub enum Target {
    /// An incremental view: partial rows.
    Rollup(Arc<Rollup>),
    /// A table with rows of its own: events, plain rows, a side table of ours.
    Rows(Rows),
    /// A snapshot view: replaced whole by each refresh.
    Leaderboard(Arc<Table>),
}

/// A table with rows of its own.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The table.
    pub table: Arc<Table>,
    /// The column that its rows are ordered by.
    pub time_column: Option<String>,
    /// What says how long they stay.
    pub kept: Kept,
}

/// What says how long rows stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The table's retention, measured against its watermark.
    ByEventTime,
    /// The table's retention, measured against the clock: the time column says when a row came.
    ByArrival,
    /// The windows of the guards that remember them.
    ByWindow,
}

impl Rows {
    /// A table, as its newest known options describe it.
    pub fn of(table: &Arc<Table>) -> Self {
        let options = TableOptions::from_configuration(&table.snapshot().metadata.configuration);
        Rows { table: Arc::clone(table), time_column: options.time_column, kept: Kept::ByEventTime }
    }

    /// How long its rows stay at one version; for ever if `None`.
    pub fn retention(&self, on: &Snapshot) -> Option<i64> {
        let own = TableOptions::from_configuration(&on.metadata.configuration).retention;
        own.or((self.kept == Kept::ByArrival).then_some(side_table::RETENTION))
    }

    /// A side table of ours.
    pub async fn of_side(side: &SideTable) -> Result<Self> {
        let time_column = Some(side.time_column().to_owned());
        let kept = if side.name() == recent_keys::NAME { Kept::ByWindow } else { Kept::ByArrival };
        Ok(Rows { table: Arc::clone(side.table().await?), time_column, kept })
    }
}

impl Target {
    /// Finds it: `name`, `public.name`, or a side table such as `toplake.dead_letters`.
    pub async fn find(warehouse: &Arc<Warehouse>, name: &str) -> Result<Self> {
        let side = |name: &str| warehouse.side_tables().into_iter().find(|side| side.name() == name);
        match name.split_once('.') {
            Some((SYSTEM, name)) => {
                if let Some(side) = side(name) {
                    return Ok(Target::Rows(Rows::of_side(side).await?));
                }
            }
            Some((schema, name)) if schema == PUBLIC => return Box::pin(Self::find(warehouse, name)).await,
            _ => {}
        }
        match warehouse.require(name).await? {
            Object::Rollup(table) => Ok(Target::Rollup(Arc::clone(table.rollup()))),
            Object::Table(events) => Ok(Target::Rows(Rows::of(events.table()))),
            Object::Leaderboard(board) => Ok(Target::Leaderboard(Arc::clone(board.table()))),
            other => Err(Error::wrong_object_type(format!(
                "'{name}' is {}, which has no files of its own",
                other.kind().with_article()
            ))),
        }
    }

    /// Everything in a warehouse that can be maintained. What cannot be opened does not keep the others waiting.
    pub async fn all(warehouse: &Arc<Warehouse>) -> Result<Vec<Result<Self>>> {
        let mut targets = vec![];
        for side in warehouse.side_tables() {
            targets.push(Rows::of_side(side).await.map(Target::Rows));
        }
        for name in warehouse.list().await? {
            match Target::find(warehouse, &name).await {
                Err(e) if e.kind() == Kind::WrongObjectType => {}
                found => targets.push(found.map_err(|e| e.context(format!("'{name}'")))),
            }
        }
        Ok(targets)
    }

    /// Like [`Self::find`]; also an archive, which lies elsewhere. Of other tables elsewhere nobody here knows who reads
    /// them.
    pub async fn find_to_vacuum(warehouse: &Arc<Warehouse>, name: &str) -> Result<Self> {
        if let Some(Object::External(provider)) = warehouse.get(name).await?
            && let Some(table) = (provider.as_ref() as &dyn Any).downcast_ref::<EventsTable>()
        {
            let snapshot = table.table().update().await?;
            if snapshot.txns.keys().any(|app| app.starts_with(CLAIMED))
                && snapshot.option(keys::KIND).is_none()
            {
                return Ok(Target::Rows(Rows::of(table.table())));
            }
        }
        Self::find(warehouse, name).await
    }

    /// The table.
    pub fn table(&self) -> &Arc<Table> {
        match self {
            Target::Rollup(rollup) => &rollup.table,
            Target::Rows(rows) => &rows.table,
            Target::Leaderboard(table) => table,
        }
    }

    /// The column that its rows are ordered by, first of all.
    pub fn time_column(&self) -> Option<&str> {
        match self {
            Target::Rollup(rollup) => Some(rollup.definition.bucket_column()),
            Target::Rows(rows) => rows.time_column.as_deref(),
            Target::Leaderboard(_) => None,
        }
    }

    /// The columns that rows are looked up by: the keys of a rollup; of other tables, which do not say, all text.
    pub fn key_columns(&self) -> Vec<String> {
        match self {
            Target::Rollup(rollup) => rollup.definition.key_columns().map(str::to_owned).collect(),
            _ => {
                let schema = Arc::clone(&self.table().snapshot().schema);
                let text = schema.fields().iter().filter(|f| *f.data_type() == DataType::Utf8View);
                text.map(|f| f.name().clone()).collect()
            }
        }
    }
}
