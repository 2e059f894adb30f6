//! `pg_catalog` and `information_schema`: what psql, drivers and BI tools read to find out what there is.
//!
//! `system` knows the relations that every PostgreSQL has. Rows of what PostgreSQL itself has (types, casts, operators,
//! built-in functions) come ready from datafusion-pg-catalog (`fixed`). Those that say what is *here* are made each time
//! that they are read (`live`), from what the engine tells of itself ([`Inventory`]); all others are empty. `relations`
//! keeps what was seen when a statement began, `roles` knows who may do what, `functions` has the functions of such
//! statements, `compat` rewrites what the engine cannot plan, and `correlated` runs subqueries that it cannot join.

mod compat;
mod correlated;
mod fixed;
mod format_type;
mod functions;
mod inventory;
mod live;
mod names;
mod relations;
mod roles;
mod rows;
mod system;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableFunctionImpl, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use datafusion_pg_catalog::pg_catalog::generate_series_arg_coercion::CoerceIntArgsToBigInt;
use datafusion_pg_catalog::pg_catalog::oid_field;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;

pub(super) use self::compat::rewrite;
pub use self::inventory::{Inventory, Rights, SchemaContent, TableContent, TableKind};

use self::correlated::RunCorrelated;
use self::fixed::{conformed, static_tables};
use self::inventory::Provided;
use self::relations::Relations;
use super::Client;
use crate::error::{Error, Result};

/// The schema that everybody sees without naming it.
pub(super) const PG_CATALOG: &str = "pg_catalog";
/// The schema of the SQL standard.
const INFORMATION_SCHEMA: &str = "information_schema";
/// What it is called inside: the engine has an `information_schema` of its own, which its SHOW statements read.
const INFORMATION_SCHEMA_INSIDE: &str = "pg_information_schema";

/// So old may be what was seen by a statement that did not look itself.
const FRESH: Duration = Duration::from_millis(100);

/// What a client is told of the columns of a statement about the catalog: lists of numbers there are those of objects, of
/// which the engine's aggregates lose track.
pub(super) fn told(fields: SchemaRef) -> SchemaRef {
    let of_objects = |field: &Arc<Field>| match field.data_type() {
        DataType::List(item) if *item.data_type() == DataType::Int32 => {
            let item = oid_field::oid_field(item.name(), oid_field::kind::OID, item.is_nullable());
            Arc::new(field.as_ref().clone().with_data_type(DataType::List(Arc::new(item))))
        }
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new_with_metadata(
        fields.fields().iter().map(of_objects).collect::<Fields>(),
        fields.metadata().clone(),
    ))
}

/// The `pg_catalog` of a session, once it is registered.
#[derive(Debug, Clone, Default)]
pub struct Catalog(Arc<OnceLock<Arc<Relations>>>);

impl Catalog {
    /// Looks at what there is, for the statement that comes.
    pub(super) async fn look(&self) -> Result<()> {
        if let Some(relations) = self.0.get() {
            relations.look().await?;
        }
        Ok(())
    }
}

/// Adds `pg_catalog` and its functions to the session of a client, over the tables of the catalog `catalog_name`.
///
/// The session's *list* of catalogs must be its own, as the catalog is replaced by one that has `pg_catalog` beside
/// its schemas; the catalog underneath may be shared. Call it once, after the session's functions are registered.
pub fn register_pg_catalog(ctx: &SessionContext, catalog_name: &str, client: &Client) -> Result<()> {
    let inner = catalog(ctx, catalog_name)?;
    register_pg_catalog_of(ctx, catalog_name, client, Arc::new(Provided(inner)))
}

/// The same for an engine that knows more of its tables than their columns.
pub fn register_pg_catalog_of(
    ctx: &SessionContext,
    catalog_name: &str,
    client: &Client,
    inventory: Arc<dyn Inventory>,
) -> Result<()> {
    let inner = catalog(ctx, catalog_name)?;
    let relations = Arc::new(Relations::new(catalog_name, inventory, client));
    let _ = client.catalog.0.set(Arc::clone(&relations));
    let listed = functions::Listed::of(ctx)?;
    let schema = |name| {
        Arc::new(SystemSchema {
            name,
            pg_proc: Arc::clone(&listed.pg_proc),
            relations: Arc::clone(&relations),
        })
    };
    let (pg_catalog, information) = (schema(PG_CATALOG), schema(INFORMATION_SCHEMA));
    ctx.register_catalog(catalog_name, Arc::new(WithSystem { inner, pg_catalog, information }));
    functions::register(ctx, &relations, &listed, client);
    ctx.register_udtf("pg_get_keywords", static_tables()?.pg_get_keywords.clone());
    ctx.register_udtf("pg_show_all_settings", Arc::new(AllSettings(Arc::clone(&relations))));

    // Casts to regclass, regtype and the like; subqueries that the engine has no join for.
    let state = ctx.state_ref();
    let correlated = Arc::new(RunCorrelated::new(Arc::downgrade(&state)));
    let mut analyzer = vec![correlated as Arc<_>];
    analyzer.extend(state.read().analyzer().rules.iter().cloned());
    let changed = SessionStateBuilder::new_from_existing(state.read().clone())
        .with_type_planner(Arc::new(PgOidTypePlanner))
        .with_analyzer_rules(analyzer)
        .build();
    *state.write() = changed;
    CoerceIntArgsToBigInt::widen(ctx);
    Ok(())
}

fn catalog(ctx: &SessionContext, name: &str) -> Result<Arc<dyn CatalogProvider>> {
    let none = || Error::internal(format!("no catalog {name} to describe in pg_catalog"));
    ctx.catalog(name).ok_or_else(none)
}

/// A catalog with PostgreSQL's schemas beside its own.
#[derive(Debug)]
struct WithSystem {
    inner: Arc<dyn CatalogProvider>,
    pg_catalog: Arc<SystemSchema>,
    information: Arc<SystemSchema>,
}

impl CatalogProvider for WithSystem {
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.inner.schema_names();
        names.push(PG_CATALOG.to_owned());
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            PG_CATALOG => Some(Arc::clone(&self.pg_catalog) as _),
            INFORMATION_SCHEMA_INSIDE => Some(Arc::clone(&self.information) as _),
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
        PG_CATALOG | INFORMATION_SCHEMA_INSIDE => {
            Err(Error::not_supported(format!("the schema {name} cannot be changed")).into())
        }
        _ => Ok(()),
    }
}

/// A schema that every PostgreSQL has.
#[derive(Debug)]
struct SystemSchema {
    name: &'static str,
    /// `pg_proc` with the session's functions.
    pg_proc: Arc<dyn TableProvider>,
    relations: Arc<Relations>,
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        system::names_in(self.name).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> datafusion::error::Result<Option<Arc<dyn TableProvider>>> {
        let Some(relation) = system::relation(self.name, name) else { return Ok(None) };
        if (self.name, name) == (PG_CATALOG, "pg_proc") {
            return Ok(Some(Arc::clone(&self.pg_proc)));
        }
        if let Some(make) = live::find(self.name, name) {
            return Ok(Some(live_table(&relation.arrow, make, &self.relations)?));
        }
        if self.name == PG_CATALOG
            && let Some(table) = fixed::table(relation)?
        {
            return Ok(Some(table));
        }
        Ok(Some(Arc::new(EmptyTable::new(Arc::clone(&relation.arrow)))))
    }

    fn table_exist(&self, name: &str) -> bool {
        system::relation(self.name, name).is_some()
    }
}

fn live_table(
    schema: &SchemaRef,
    make: live::Make,
    relations: &Arc<Relations>,
) -> datafusion::error::Result<Arc<dyn TableProvider>> {
    let live = Live { schema: Arc::clone(schema), relations: Arc::clone(relations), make };
    Ok(Arc::new(StreamingTable::try_new(Arc::clone(schema), vec![Arc::new(live)])?))
}

/// A table that is made when it is read.
#[derive(Debug)]
struct Live {
    schema: SchemaRef,
    relations: Arc<Relations>,
    make: live::Make,
}

impl PartitionStream for Live {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (relations, make) = (Arc::clone(&self.relations), self.make);
        let batch = async move {
            // A statement that came through `rewrite` has looked, and all of it sees the same.
            match relations.last_since(Instant::now().checked_sub(FRESH)) {
                Some(seen) => make(&seen),
                None => make(&*relations.look().await?),
            }
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::once(batch)))
    }
}

/// The function `pg_show_all_settings`.
#[derive(Debug)]
struct AllSettings(Arc<Relations>);

impl TableFunctionImpl for AllSettings {
    fn call(&self, _: &[Expr]) -> datafusion::error::Result<Arc<dyn TableProvider>> {
        let (name, schema) = ("pg_settings", PG_CATALOG);
        match (system::relation(schema, name), live::find(schema, name)) {
            (Some(relation), Some(make)) => live_table(&relation.arrow, make, &self.0),
            _ => Err(Error::internal("no pg_settings").into()),
        }
    }
}
