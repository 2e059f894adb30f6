//! What there is in the session's catalog: schemas, tables, views, columns.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{CatalogProvider, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::TableType;
use datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;
use parking_lot::RwLock;

use super::PG_CATALOG;
use crate::pg::Client;

/// Numbers below this are PostgreSQL's own.
const FIRST_OWN: i32 = 16_384;
/// The owner of everything.
pub(super) const OWNER: i32 = 10;

/// The catalog of a session.
#[derive(Debug)]
pub(super) struct Relations {
    catalog: Arc<dyn CatalogProvider>,
    database: String,
    client: Client,
    /// What was there when it was last looked at, for functions that take the number of something just read.
    last: RwLock<Arc<Seen>>,
}

/// What there was at one moment.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) database: String,
    pub(super) client: Client,
    pub(super) schemas: Vec<Namespace>,
    pub(super) relations: Vec<Relation>,
}

impl Seen {
    fn nothing(database: &str, client: &Client) -> Self {
        Seen { database: database.to_owned(), client: client.clone(), schemas: vec![], relations: vec![] }
    }
}

/// A schema.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) oid: i32,
    pub(super) name: String,
}

/// A table or view.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) oid: i32,
    pub(super) schema: String,
    pub(super) schema_oid: i32,
    pub(super) name: String,
    /// `r`, `v` or `m`
    pub(super) kind: &'static str,
    pub(super) columns: SchemaRef,
    /// The query of a view.
    pub(super) definition: Option<String>,
    /// Whether its bare name finds it.
    pub(super) visible: bool,
}

impl Relations {
    pub(super) fn new(database: &str, catalog: Arc<dyn CatalogProvider>, client: Client) -> Self {
        let nothing = Seen::nothing(database, &client);
        Relations { catalog, database: database.to_owned(), client, last: RwLock::new(Arc::new(nothing)) }
    }

    /// An empty catalog, to know the columns of tables about it.
    pub(super) fn nothing(&self) -> Seen {
        Seen::nothing(&self.database, &self.client)
    }

    /// What there was when [`Relations::look`] was last called.
    pub(super) fn last(&self) -> Arc<Seen> {
        Arc::clone(&self.last.read())
    }

    /// What there is now.
    pub(super) async fn look(&self) -> Result<Arc<Seen>, DataFusionError> {
        let mut numbers = Numbers::default();
        let mut names = self.catalog.schema_names();
        names.retain(|n| n != PG_CATALOG && n != "information_schema");
        names.sort();
        let mut schemas = vec![
            Namespace { oid: 11, name: PG_CATALOG.to_owned() },
            Namespace { oid: numbers.of("information_schema", ""), name: "information_schema".to_owned() },
        ];
        let path = self.client.settings.search_path();
        let mut taken: HashSet<String> = PG_CATALOG_TABLES.iter().map(|t| (*t).to_owned()).collect();
        // In the order of the search path, so that of two tables with one name the first is the visible one.
        names.sort_by_key(|n| path.iter().position(|p| p == n).unwrap_or(usize::MAX));
        let mut relations = Vec::new();
        for name in names {
            let oid = if name == "public" { 2200 } else { numbers.of(&name, "") };
            let Some(schema) = self.catalog.schema(&name) else { continue };
            let mut tables = schema.table_names();
            tables.sort();
            for table in tables {
                // One table that cannot be opened must not hide the others.
                let provider = match schema.table(&table).await {
                    Ok(Some(provider)) => Some(provider),
                    Ok(None) => continue,
                    Err(e) => {
                        tracing::warn!("{name}.{table} cannot be described: {e}");
                        None
                    }
                };
                let (kind, columns, definition) = describe(provider.as_deref());
                let visible = path.contains(&name) && taken.insert(table.clone());
                relations.push(Relation {
                    oid: numbers.of(&name, &table),
                    schema: name.clone(),
                    schema_oid: oid,
                    name: table,
                    kind,
                    columns,
                    definition,
                    visible,
                });
            }
            schemas.push(Namespace { oid, name });
        }
        let seen = Arc::new(Seen { schemas, relations, ..self.nothing() });
        *self.last.write() = Arc::clone(&seen);
        Ok(seen)
    }
}

/// Kind, columns and query of a table.
fn describe(provider: Option<&dyn TableProvider>) -> (&'static str, SchemaRef, Option<String>) {
    let Some(provider) = provider else { return ("r", Arc::new(Schema::empty()), None) };
    let definition = provider.get_table_definition();
    let words = definition.map(|d| d.split_whitespace().take(5).map(str::to_uppercase).collect::<Vec<_>>());
    let materialized = words.is_some_and(|words| {
        let words: Vec<_> =
            words.iter().map(String::as_str).filter(|w| !matches!(*w, "OR" | "REPLACE")).collect();
        words.starts_with(&["CREATE", "MATERIALIZED", "VIEW"])
    });
    let kind = match provider.table_type() {
        _ if materialized => "m",
        TableType::View => "v",
        TableType::Base | TableType::Temporary => "r",
    };
    let query = definition.filter(|_| kind != "r").map(query_of);
    (kind, provider.schema(), query)
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

/// Hands out object numbers. They come from the name, so that every session of every server has the same, and a tool
/// may keep them.
#[derive(Default)]
pub(super) struct Numbers {
    used: HashSet<i32>,
}

impl Numbers {
    pub(super) fn of(&mut self, schema: &str, name: &str) -> i32 {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        (schema, name).hash(&mut hasher);
        let span = (i32::MAX - FIRST_OWN) as u64;
        let mut number = FIRST_OWN + (hasher.finish() % span) as i32;
        while !self.used.insert(number) {
            number = if number == i32::MAX { FIRST_OWN } else { number + 1 };
        }
        number
    }
}

/// FNV-1a: the same on every machine and in every version.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
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

    #[test]
    fn numbers_do_not_depend_on_what_else_is_there() {
        let (mut few, mut many) = (Numbers::default(), Numbers::default());
        (0..1000).for_each(|i| assert_ne!(many.of("other", &i.to_string()), 0));
        assert_eq!(few.of("public", "sales"), many.of("public", "sales"));
        assert_ne!(few.of("public", "a"), few.of("publica", ""));
    }
}
