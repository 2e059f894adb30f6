//! The catalog `toplake` as the engine sees it: schema `public` with what the warehouse holds, schema `toplake` with
//! what can be known about it.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result as EngineResult;

use super::job_runs::refreshes;
use super::jobs::JobsTable;
use super::live_table::LiveTable;
use super::pipelines::Pipelines;
use super::rollups::{Rollups, Which};
use super::sources::Sources;
use super::warehouse::Warehouse;
use super::workers::Workers;

/// The catalog's name.
pub const CATALOG: &str = "toplake";
/// The schema of tables and views.
pub const PUBLIC: &str = "public";
/// The schema of system tables.
pub const SYSTEM: &str = "toplake";

/// The catalog.
#[derive(Debug)]
pub struct WarehouseCatalog {
    public: Arc<dyn SchemaProvider>,
    system: Arc<dyn SchemaProvider>,
}

impl WarehouseCatalog {
    /// The catalog of a warehouse.
    pub fn new(warehouse: &Arc<Warehouse>) -> Self {
        WarehouseCatalog {
            public: Arc::new(PublicSchema(Arc::clone(warehouse))),
            system: Arc::new(SystemSchema(Arc::clone(warehouse))),
        }
    }
}

impl CatalogProvider for WarehouseCatalog {
    fn schema_names(&self) -> Vec<String> {
        vec![PUBLIC.into(), SYSTEM.into()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            PUBLIC => Some(Arc::clone(&self.public)),
            SYSTEM => Some(Arc::clone(&self.system)),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct PublicSchema(Arc<Warehouse>);

#[async_trait]
impl SchemaProvider for PublicSchema {
    fn table_names(&self) -> Vec<String> {
        self.0.known_names()
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        Ok(self.0.get(name).await?.map(|object| object.provider()))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.known_names().iter().any(|n| n == name)
    }
}

#[derive(Debug)]
struct SystemSchema(Arc<Warehouse>);

const SYSTEM_TABLES: [&str; 10] = [
    "dead_letters",
    "job_runs",
    "jobs",
    "leaderboards",
    "ledger",
    "pipelines",
    "refreshes",
    "rollups",
    "sources",
    "workers",
];

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        SYSTEM_TABLES.map(str::to_owned).into()
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        Ok(match name {
            "dead_letters" => Some(Arc::clone(self.0.dead_letters()) as _),
            "ledger" => Some(Arc::clone(self.0.ledger()) as _),
            "job_runs" => Some(Arc::clone(self.0.job_runs()) as _),
            "refreshes" => Some(Arc::new(refreshes(&self.0)?)),
            "jobs" => Some(Arc::new(LiveTable(JobsTable::new(Arc::clone(&self.0))))),
            "pipelines" => Some(Arc::new(LiveTable(Pipelines::new(Arc::clone(&self.0))))),
            "workers" => Some(Arc::new(LiveTable(Workers::new(Arc::clone(&self.0))))),
            "sources" => Some(Arc::new(LiveTable(Sources::new(Arc::clone(&self.0))))),
            "rollups" => Some(Arc::new(LiveTable(Rollups::new(Arc::clone(&self.0), Which::Rollups)))),
            "leaderboards" => {
                Some(Arc::new(LiveTable(Rollups::new(Arc::clone(&self.0), Which::Leaderboards))))
            }
            _ => None,
        })
    }

    fn table_exist(&self, name: &str) -> bool {
        SYSTEM_TABLES.contains(&name)
    }
}
