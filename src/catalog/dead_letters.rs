//! `toplake.dead_letters`: input that could not be stored, with where it stood and why.
//!
//! A side table of all events tables: their commits name its files ([`outbox`](super::outbox)).

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Weak};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as EngineResult;
use datafusion::logical_expr::{TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::Expr;
use tokio::sync::OnceCell;

use super::options::{TableOptions, micros};
use super::warehouse::Warehouse;
use crate::error::{Error, Result};
use crate::lake::pin::Pins;
use crate::lake::scan::Scan;
use crate::lake::schema::timestamp;
use crate::lake::snapshot::File;
use crate::lake::store::Store;
use crate::lake::table::{NewTable, Table};

/// The name of the table in the schema `toplake`.
pub const NAME: &str = "dead_letters";

/// The column that says when a letter came.
pub const TIME: &str = "at";

/// How long letters are kept if nothing else is said: 90 days, in microseconds.
pub const RETENTION: i64 = 90 * 86_400_000_000;

/// Options of this table with others: it has none but retention.
pub fn altered(options: &TableOptions, others: &BTreeMap<String, Option<String>>) -> Result<TableOptions> {
    let mut altered = options.clone();
    for (key, value) in others {
        if key != "retention" {
            return Err(Error::invalid_input(format!("'{key}' is no option of {NAME}"))
                .with_hint("its only one is retention"));
        }
        altered.retention = value.as_ref().map(|value| micros(key, value)).transpose()?;
    }
    Ok(altered)
}

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

    /// What this table has and what is named but not added yet.
    async fn files(&self, pins: &Pins) -> Result<Vec<Arc<File>>> {
        let warehouse = self.warehouse.upgrade().ok_or_else(|| Error::internal("the warehouse is closed"))?;
        let table = self.table().await?;
        // The side table first: what a follower adds after that is still named by the commits read below.
        let mine = pins.snapshot(table).await?;
        let mut files: Vec<Arc<File>> = mine.files.values().cloned().collect();
        for (route, events) in warehouse.routes_into(table).await? {
            let pending = route.pending(&mine, &events, &*pins.snapshot(&events).await?).await?;
            files.extend(pending.into_iter().map(|add| Arc::new(File::new(add))));
        }
        Ok(files)
    }
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
