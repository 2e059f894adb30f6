//! What PostgreSQL itself has, decoded once for the process and brought to the columns of the version that we speak as.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{
    ArrayRef, AsArray, Int32Array, ListBuilder, RecordBatch, StringBuilder, new_null_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{CatalogProviderList, MemTable, MemoryCatalogProviderList, TableProvider};
use datafusion::common::Result as EngineResult;
use datafusion::scalar::ScalarValue;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::{
    ArrowTable, PgCatalogSchemaProvider, PgCatalogStaticTables, PgCatalogTable,
};
use parking_lot::Mutex;

use super::names::number_of_function;
use super::system::SystemRelation;
use crate::error::Result;

/// The tables as they come.
pub(super) fn static_tables() -> Result<Arc<PgCatalogStaticTables>> {
    static TABLES: OnceLock<Arc<PgCatalogStaticTables>> = OnceLock::new();
    if let Some(tables) = TABLES.get() {
        return Ok(Arc::clone(tables));
    }
    let tables = Arc::new(PgCatalogStaticTables::try_new()?);
    Ok(Arc::clone(TABLES.get_or_init(|| tables)))
}

/// A table by name; none where there is nothing in it.
pub(super) fn table(relation: &'static SystemRelation) -> Result<Option<Arc<dyn TableProvider>>> {
    type Known = HashMap<&'static str, Option<Arc<dyn TableProvider>>>;
    static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
    let known = KNOWN.get_or_init(Mutex::default);
    if let Some(table) = known.lock().get(relation.name) {
        return Ok(table.clone());
    }
    let table = read(relation)?;
    Ok(known.lock().entry(relation.name).or_insert(table).clone())
}

fn read(relation: &'static SystemRelation) -> Result<Option<Arc<dyn TableProvider>>> {
    // Nobody has installed any here.
    if relation.name == "pg_extension" {
        return Ok(None);
    }
    let nothing: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
    let provider = PgCatalogSchemaProvider::try_new(nothing, static_tables()?, EmptyContextProvider)?;
    let Some(PgCatalogTable::Static(table)) = provider.build_table_by_name(relation.name)? else {
        return Ok(None);
    };
    let batches = conformed(&table, &relation.arrow)?;
    if batches.iter().all(|batch| batch.num_rows() == 0) {
        return Ok(None);
    }
    Ok(Some(Arc::new(MemTable::try_new(Arc::clone(&relation.arrow), vec![batches])?)))
}

/// The rows of a table with these columns. They come from a newer version: a column that it has no more is what an object
/// has there of which nothing is said.
pub(super) fn conformed(table: &ArrowTable, schema: &SchemaRef) -> EngineResult<Vec<RecordBatch>> {
    let batches = table.data().iter().map(|batch| {
        let columns = schema.fields().iter().map(|field| {
            let known = batch.column_by_name(field.name()).and_then(|c| converted(c, field.data_type()));
            match known.filter(|c| field.is_nullable() || c.null_count() == 0) {
                Some(column) => Ok(column),
                None if field.is_nullable() => Ok(new_null_array(field.data_type(), batch.num_rows())),
                None => ScalarValue::new_default(field.data_type())?.to_array_of_size(batch.num_rows()),
            }
        });
        let columns = columns.collect::<EngineResult<Vec<ArrayRef>>>()?;
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    });
    batches.collect()
}

/// A column as the type that it is declared with; arrays may come as text.
fn converted(column: &ArrayRef, to: &DataType) -> Option<ArrayRef> {
    let is_text = matches!(column.data_type(), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8);
    if is_text && *to == DataType::Int32 {
        // Functions come by name.
        let names = cast(column, &DataType::Utf8).ok()?;
        let numbers = names.as_string::<i32>().iter().map(|name| name.map(function_named));
        return Some(Arc::new(numbers.collect::<Int32Array>()));
    }
    let (DataType::List(_), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) =
        (to, column.data_type())
    else {
        return cast(column, to).ok();
    };
    let texts = cast(column, &DataType::Utf8).ok()?;
    let mut lists = ListBuilder::new(StringBuilder::new());
    for text in texts.as_string::<i32>() {
        lists.append_option(text.map(|text| elements(text).into_iter().map(Some).collect::<Vec<_>>()));
    }
    cast(&(Arc::new(lists.finish()) as ArrayRef), to).ok()
}

/// The number of the function of this name; 0 is none.
fn function_named(name: &str) -> i32 {
    let bare = name.rsplit('.').next().unwrap_or_default().trim_matches('"');
    bare.parse().ok().or_else(|| number_of_function(bare)).unwrap_or(0)
}

/// The elements of `{a,b}`, of `[a, b]` or, of a vector, `a b`.
fn elements(text: &str) -> Vec<String> {
    let text = text.trim_matches(['{', '}', '[', ']']);
    let parts = text.split([',', ' ']).map(|part| part.trim_matches(['"', '\'']).to_owned());
    parts.filter(|part| !part.is_empty()).collect()
}
