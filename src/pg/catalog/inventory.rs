//! What an engine tells of what it holds, to be shown as `pg_catalog` has it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{CatalogProvider, TableProvider};
use datafusion::logical_expr::TableType;

use super::{INFORMATION_SCHEMA, PG_CATALOG};
use crate::catalog::privileges::{Grants, Role};
use crate::error::Result;

/// What an engine holds.
#[async_trait]
pub trait Inventory: Debug + Send + Sync {
    /// Its schemas and what is in them, now.
    async fn schemas(&self) -> Result<Vec<SchemaContent>>;
}

/// A schema.
#[derive(Debug, Clone)]
pub struct SchemaContent {
    /// Its name.
    pub name: String,
    /// Tables and views, by name.
    pub tables: Vec<TableContent>,
}

/// A table or view.
#[derive(Debug, Clone)]
pub struct TableContent {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// Its columns.
    pub columns: SchemaRef,
    /// The query of a view.
    pub definition: Option<String>,
    /// How many rows it keeps, if that is known without reading them.
    pub rows: Option<u64>,
    /// How many bytes its files have.
    pub bytes: u64,
    /// What `COMMENT ON` said of it.
    pub comment: Option<String>,
    /// What `COMMENT ON` said of its columns.
    pub column_comments: BTreeMap<String, String>,
    /// Who may do what with it.
    pub rights: Rights,
}

/// What PostgreSQL calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// A table.
    Table,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A table that lies elsewhere.
    Foreign,
}

/// Who may do what with a table; an admin may do everything.
#[derive(Debug, Clone)]
pub enum Rights {
    /// What was granted.
    Granted(Grants),
    /// Users of these roles may read it, and nobody may write.
    ReadBy(&'static [Role]),
}

impl TableContent {
    /// A table of which no more is known.
    pub fn new(name: &str, kind: TableKind, columns: SchemaRef) -> Self {
        TableContent {
            name: name.to_owned(),
            kind,
            columns,
            definition: None,
            rows: None,
            bytes: 0,
            comment: None,
            column_comments: BTreeMap::new(),
            rights: Rights::Granted(Grants::default()),
        }
    }
}

/// A catalog of the engine, of which is known what its providers say.
#[derive(Debug)]
pub(super) struct Provided(pub(super) Arc<dyn CatalogProvider>);

#[async_trait]
impl Inventory for Provided {
    async fn schemas(&self) -> Result<Vec<SchemaContent>> {
        let mut names = self.0.schema_names();
        names.retain(|n| n != PG_CATALOG && n != INFORMATION_SCHEMA);
        names.sort();
        let mut schemas = vec![];
        for name in names {
            let Some(schema) = self.0.schema(&name) else { continue };
            let mut tables = vec![];
            let mut table_names = schema.table_names();
            table_names.sort();
            for table in table_names {
                // One table that cannot be opened must not hide the others.
                let provider = match schema.table(&table).await {
                    Ok(Some(provider)) => Some(provider),
                    Ok(None) => continue,
                    Err(e) => {
                        tracing::warn!("{name}.{table} cannot be described: {e}");
                        None
                    }
                };
                tables.push(content(&table, provider.as_deref()));
            }
            schemas.push(SchemaContent { name, tables });
        }
        Ok(schemas)
    }
}

/// What a provider says of a table.
fn content(name: &str, provider: Option<&dyn TableProvider>) -> TableContent {
    let Some(provider) = provider else {
        return TableContent::new(name, TableKind::Table, Arc::new(Schema::empty()));
    };
    let definition = provider.get_table_definition();
    let words = definition.map(|d| d.split_whitespace().take(5).map(str::to_uppercase).collect::<Vec<_>>());
    let materialized = words.is_some_and(|words| {
        let words: Vec<_> =
            words.iter().map(String::as_str).filter(|w| !matches!(*w, "OR" | "REPLACE")).collect();
        words.starts_with(&["CREATE", "MATERIALIZED", "VIEW"])
    });
    let kind = match provider.table_type() {
        _ if materialized => TableKind::MaterializedView,
        TableType::View => TableKind::View,
        TableType::Base | TableType::Temporary => TableKind::Table,
    };
    let definition = definition.filter(|_| kind != TableKind::Table).map(query_of);
    TableContent { definition, ..TableContent::new(name, kind, provider.schema()) }
}

/// The query of `CREATE VIEW … AS query`.
fn query_of(definition: &str) -> String {
    let create = definition.trim_start().get(..6).is_some_and(|w| w.eq_ignore_ascii_case("create"));
    // The first AS between words, which a quoted name cannot be.
    let mut at = 0;
    let split = definition.split_inclusive(char::is_whitespace).find_map(|word| {
        at += word.len();
        word.trim().eq_ignore_ascii_case("as").then_some(at)
    });
    match split {
        Some(at) if create => definition[at..].trim().to_owned(),
        _ => definition.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_a_view() {
        for (definition, query) in [
            ("CREATE VIEW v AS SELECT a AS b FROM t", "SELECT a AS b FROM t"),
            ("create materialized view if not exists m with (x = 'y')\nas\nselect 1", "select 1"),
            ("SELECT a AS b FROM t", "SELECT a AS b FROM t"),
        ] {
            assert_eq!(query_of(definition), query);
        }
    }
}
