//! `pg_catalog`: what psql, drivers and BI tools read to find out what there is.
//!
//! Tables of what PostgreSQL itself has (types, casts, operators, built-in functions) come ready from
//! datafusion-pg-catalog. Those that say what is *here* are made from the session's catalog each time they are read:
//! `relations` looks at it, `tables` makes the rows, `functions` has the functions of those queries. `compat` rewrites
//! the few things in them that the engine cannot plan.
//!
//! A relation is a table (`r`), a view (`v`) or a materialized view (`m`). A provider says which by
//! [`TableProvider::table_type`], and a materialized view is one whose
//! [`get_table_definition`](datafusion::catalog::TableProvider::get_table_definition) begins with
//! `CREATE MATERIALIZED VIEW`.

mod compat;
mod functions;
mod relations;
mod tables;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider,
};
use datafusion::common::DataFusionError;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::generate_series_arg_coercion::CoerceIntArgsToBigInt;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use datafusion_pg_catalog::pg_catalog::{PG_CATALOG_TABLES, PgCatalogSchemaProvider, PgCatalogStaticTables};

pub(super) use self::compat::rewrite;

use self::relations::Relations;
use self::tables::LIVE;
use super::Client;
use crate::error::{Error, Result};

/// The schema that everybody sees without naming it.
pub(super) const PG_CATALOG: &str = "pg_catalog";

/// Adds `pg_catalog` and its functions to the session of a client, over the tables of the catalog `catalog_name`.
///
/// The session's *list* of catalogs must be its own, as the catalog is replaced by one that has `pg_catalog` beside
/// its schemas; the catalog underneath may be shared. Call it once, after the session's functions are registered.
pub fn register_pg_catalog(ctx: &SessionContext, catalog_name: &str, client: &Client) -> Result<()> {
    let inner = ctx
        .catalog(catalog_name)
        .ok_or_else(|| Error::internal(format!("no catalog {catalog_name} to describe in pg_catalog")))?;
    let relations = Arc::new(Relations::new(catalog_name, Arc::clone(&inner), client.clone()));
    let listed = functions::Listed::new(ctx, &static_tables()?.pg_proc)?;
    let schema = PgCatalog {
        fixed: fixed_tables()?,
        pg_proc: Arc::clone(&listed.pg_proc),
        relations: Arc::clone(&relations),
    };
    ctx.register_catalog(catalog_name, Arc::new(WithPgCatalog { inner, schema: Arc::new(schema) }));
    functions::register(ctx, &relations, listed, client);
    ctx.register_udtf("pg_get_keywords", static_tables()?.pg_get_keywords.clone());

    // Casts to regclass, regtype and the like.
    let state = ctx.state_ref();
    let planner = Arc::new(PgOidTypePlanner);
    let changed =
        SessionStateBuilder::new_from_existing(state.read().clone()).with_type_planner(planner).build();
    *state.write() = changed;
    CoerceIntArgsToBigInt::widen(ctx);
    Ok(())
}

/// What PostgreSQL itself has, decoded once for the process.
fn static_tables() -> Result<Arc<PgCatalogStaticTables>> {
    static TABLES: OnceLock<Arc<PgCatalogStaticTables>> = OnceLock::new();
    if let Some(tables) = TABLES.get() {
        return Ok(Arc::clone(tables));
    }
    let tables = Arc::new(PgCatalogStaticTables::try_new()?);
    Ok(Arc::clone(TABLES.get_or_init(|| tables)))
}

type Fixed = PgCatalogSchemaProvider<Arc<dyn CatalogProviderList>, EmptyContextProvider>;

/// The tables that say nothing of what is here.
fn fixed_tables() -> Result<Arc<Fixed>> {
    static FIXED: OnceLock<Arc<Fixed>> = OnceLock::new();
    if let Some(fixed) = FIXED.get() {
        return Ok(Arc::clone(fixed));
    }
    let nothing: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
    let fixed = Fixed::try_new(nothing, static_tables()?, EmptyContextProvider)?;
    Ok(Arc::clone(FIXED.get_or_init(|| Arc::new(fixed))))
}

/// A catalog with `pg_catalog` beside its own schemas.
#[derive(Debug)]
struct WithPgCatalog {
    inner: Arc<dyn CatalogProvider>,
    schema: Arc<PgCatalog>,
}

impl CatalogProvider for WithPgCatalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.inner.schema_names();
        names.push(PG_CATALOG.to_owned());
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            PG_CATALOG => Some(Arc::clone(&self.schema) as _),
            name => self.inner.schema(name),
        }
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> datafusion::error::Result<Option<Arc<dyn SchemaProvider>>> {
        refuse_own(name)?;
        self.inner.register_schema(name, schema)
    }

    fn deregister_schema(
        &self,
        name: &str,
        cascade: bool,
    ) -> datafusion::error::Result<Option<Arc<dyn SchemaProvider>>> {
        refuse_own(name)?;
        self.inner.deregister_schema(name, cascade)
    }
}

fn refuse_own(name: &str) -> Result<(), DataFusionError> {
    match name {
        PG_CATALOG => Err(Error::not_supported("the schema pg_catalog cannot be changed").into()),
        _ => Ok(()),
    }
}

/// The schema `pg_catalog` of a session.
#[derive(Debug)]
struct PgCatalog {
    fixed: Arc<Fixed>,
    /// `pg_proc` with the session's functions.
    pg_proc: Arc<dyn TableProvider>,
    relations: Arc<Relations>,
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        let live = LIVE.iter().map(|t| t.0).filter(|name| !PG_CATALOG_TABLES.contains(name));
        PG_CATALOG_TABLES.iter().copied().chain(live).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> datafusion::error::Result<Option<Arc<dyn TableProvider>>> {
        if name == "pg_proc" {
            return Ok(Some(Arc::clone(&self.pg_proc)));
        }
        let Some((_, make)) = LIVE.iter().find(|t| t.0 == name) else { return self.fixed.table(name).await };
        let schema = make(&self.relations.nothing())?.schema();
        let live = Live { schema: Arc::clone(&schema), relations: Arc::clone(&self.relations), make: *make };
        Ok(Some(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(live)])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        PG_CATALOG_TABLES.contains(&name) || LIVE.iter().any(|t| t.0 == name)
    }
}

/// A table that is made when it is read.
#[derive(Debug)]
struct Live {
    schema: SchemaRef,
    relations: Arc<Relations>,
    make: tables::Make,
}

impl PartitionStream for Live {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (relations, make) = (Arc::clone(&self.relations), self.make);
        let batch = async move { make(&*relations.look().await?) };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::once(batch)))
    }
}
