//! Tables that lie elsewhere: `CREATE EXTERNAL TABLE … STORED AS PARQUET | CSV | JSON | DELTA LOCATION …`.
//!
//! The statement itself is what the warehouse keeps; it is run again where the table is opened.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{CreateExternalTable, DdlStatement, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use super::events::EventsTable;
use super::schemas::CATALOG;
use crate::error::{Error, Result};
use crate::lake::store::Store;
use crate::lake::table::Table;

/// Opens the table that a CREATE EXTERNAL TABLE statement describes.
pub async fn open(state: &SessionState, sql: &str) -> Result<Arc<dyn TableProvider>> {
    let options = &state.config().options().sql_parser;
    let mut statement = state.sql_to_statement(sql, &options.dialect)?;
    // Planning looks up the name that is to be created, which would open this table again, without end: in a schema that
    // nobody has there is nothing to look up.
    if let Statement::CreateExternalTable(create) = &mut statement
        && let Some(name) = create.name.0.pop()
    {
        let nowhere = |part: &str| ObjectNamePart::Identifier(Ident::new(part));
        create.name = ObjectName(vec![nowhere(CATALOG), nowhere("_external"), name]);
    }
    match state.statement_to_plan(statement).await? {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) => provider(state, &create).await,
        _ => Err(Error::corrupt("the definition of an external table is not CREATE EXTERNAL TABLE")),
    }
}

/// Opens the table of a planned statement.
pub async fn provider(state: &SessionState, create: &CreateExternalTable) -> Result<Arc<dyn TableProvider>> {
    let location = create.locations.first().map(String::as_str).unwrap_or_default();
    if location.contains("://") && !location.starts_with("file://") {
        let store = Store::open(location)?;
        state.runtime_env().register_object_store(store.root_url(), Arc::clone(store.object_store()));
    }
    if create.file_type.eq_ignore_ascii_case("delta") {
        let store = Store::open(location)?;
        let table = Table::open(create.name.table(), store).await?;
        let table = table.ok_or_else(|| Error::undefined_table(format!("there is no Delta table at '{location}'")))?;
        return Ok(Arc::new(EventsTable::new(Arc::new(table))));
    }
    let factories = state.table_factories();
    let factory = factories.get(&create.file_type.to_uppercase()).ok_or_else(|| {
        Error::not_supported(format!("cannot read files of type '{}'", create.file_type))
            .with_hint("STORED AS PARQUET, CSV, JSON, ARROW or DELTA")
    })?;
    Ok(factory.create(state, create).await?)
}
