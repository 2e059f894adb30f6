//! What can be maintained: a table by its name, and what its rows are.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;

use crate::catalog::dead_letters;
use crate::catalog::events::EventsTable;
use crate::catalog::options::{TableOptions, keys};
use crate::catalog::schemas::{PUBLIC, SYSTEM};
use crate::catalog::warehouse::{Object, Warehouse};
use crate::error::{Error, Result};
use crate::lake::archived::CLAIMED;
use crate::lake::snapshot::Snapshot;
use crate::lake::table::Table;
use crate::rollup::view::Rollup;

/// A table to maintain.
#[derive(Debug, Clone)]
pub enum Target {
    /// An incremental view: partial rows.
    Rollup(Arc<Rollup>),
    /// A table with rows of its own: events, plain rows, dead letters.
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
    /// Whether that column has the time when a row came, by the clock, and not that of an event.
    pub by_arrival: bool,
}

impl Rows {
    /// A table, as its newest known options describe it.
    pub fn of(table: &Arc<Table>) -> Self {
        let options = TableOptions::from_configuration(&table.snapshot().metadata.configuration);
        Rows { table: Arc::clone(table), time_column: options.time_column, by_arrival: false }
    }

    /// How long its rows stay at one version; for ever if `None`.
    pub fn retention(&self, on: &Snapshot) -> Option<i64> {
        let own = TableOptions::from_configuration(&on.metadata.configuration).retention;
        own.or(self.by_arrival.then_some(dead_letters::RETENTION))
    }

    /// The dead letters.
    pub async fn dead_letters(warehouse: &Warehouse) -> Result<Self> {
        let table = warehouse.dead_letters().table().await?;
        let time_column = Some(dead_letters::TIME.to_owned());
        Ok(Rows { table: Arc::clone(table), time_column, by_arrival: true })
    }
}

impl Target {
    /// Finds it: `name`, `public.name` or `toplake.dead_letters`.
    pub async fn find(warehouse: &Arc<Warehouse>, name: &str) -> Result<Self> {
        match name.split_once('.') {
            Some((schema, dead_letters::NAME)) if schema == SYSTEM => {
                return Ok(Target::Rows(Rows::dead_letters(warehouse).await?));
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
