//! What there is in the session's catalog: schemas, tables, views, columns.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use datafusion::arrow::datatypes::Field;
use datafusion::common::DataFusionError;
use parking_lot::RwLock;
use pgwire::api::Type;

use super::inventory::{Inventory, Rights, TableContent, TableKind};
use super::roles::Roles;
use super::system::{self, SystemRelation};
use super::{Catalog, INFORMATION_SCHEMA, PG_CATALOG};
use crate::pg::{Client, types};

/// Numbers below this are PostgreSQL's own.
const FIRST_OWN: i32 = 16_384;
/// The owner of everything.
pub(super) const OWNER: i32 = 10;
/// The number of the schema `information_schema`, as a new PostgreSQL 15 has it.
const INFORMATION_SCHEMA_OID: i32 = 13_207;

/// The catalog of a session.
#[derive(Debug)]
pub(super) struct Relations {
    inventory: Arc<dyn Inventory>,
    database: String,
    client: Client,
    /// What was there when it was last looked at.
    last: RwLock<(Instant, Arc<Seen>)>,
}

/// What there was at one moment.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) database: String,
    pub(super) client: Client,
    pub(super) roles: Roles,
    pub(super) schemas: Vec<Namespace>,
    /// PostgreSQL's own first.
    pub(super) relations: Vec<Arc<Relation>>,
    by_oid: HashMap<i32, usize>,
    by_name: HashMap<(String, String), usize>,
    /// Those that a bare name does not find.
    hidden: HashSet<i32>,
}

/// A schema.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) oid: i32,
    pub(super) name: String,
}

/// A table, a view, an index.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) oid: i32,
    pub(super) schema: String,
    pub(super) schema_oid: i32,
    pub(super) name: String,
    /// As `relkind` has it.
    pub(super) kind: &'static str,
    pub(super) columns: Vec<Attribute>,
    /// The query of a view.
    pub(super) definition: Option<String>,
    pub(super) rows: Option<u64>,
    pub(super) bytes: u64,
    pub(super) comment: Option<String>,
    pub(super) column_comments: BTreeMap<String, String>,
    /// None of PostgreSQL's own, which everybody may read.
    pub(super) rights: Option<Rights>,
    /// PostgreSQL's own.
    pub(super) system: Option<&'static SystemRelation>,
}

/// A column.
#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) ty: Type,
    pub(super) modifier: i32,
    pub(super) not_null: bool,
}

impl Attribute {
    fn of(field: &Field, of_table: bool) -> Self {
        Attribute {
            name: field.name().clone(),
            ty: types::of_field(field),
            modifier: types::modifier(field.data_type()),
            not_null: of_table && !field.is_nullable(),
        }
    }
}

impl Relation {
    /// Whether it is one of ours.
    pub(super) fn is_own(&self) -> bool {
        self.system.is_none()
    }

    fn of(schema: &str, schema_oid: i32, content: TableContent, oid: i32) -> Self {
        let TableContent { name, kind, columns, definition, rows, bytes, comment, column_comments, rights } =
            content;
        // Nobody declares a view's columns NOT NULL.
        let is_table = matches!(kind, TableKind::Table | TableKind::Foreign);
        Relation {
            oid,
            schema: schema.to_owned(),
            schema_oid,
            name,
            kind: match kind {
                TableKind::Table => "r",
                TableKind::View => "v",
                TableKind::MaterializedView => "m",
                TableKind::Foreign => "f",
            },
            columns: columns.fields().iter().map(|f| Attribute::of(f, is_table)).collect(),
            definition,
            rows,
            bytes,
            comment,
            column_comments,
            rights: Some(rights),
            system: None,
        }
    }

    fn of_system(relation: &'static SystemRelation) -> Self {
        let columns = relation.columns.iter().map(|c| Attribute {
            name: c.name.to_owned(),
            ty: c.ty.clone(),
            modifier: -1,
            not_null: c.not_null,
        });
        Relation {
            oid: relation.oid,
            schema: relation.schema.to_owned(),
            schema_oid: if relation.schema == PG_CATALOG { 11 } else { INFORMATION_SCHEMA_OID },
            name: relation.name.to_owned(),
            kind: relation.kind,
            columns: columns.collect(),
            definition: None,
            rows: None,
            bytes: 0,
            comment: None,
            column_comments: BTreeMap::new(),
            rights: None,
            system: Some(relation),
        }
    }
}

/// PostgreSQL's own.
fn system_relations() -> &'static [Arc<Relation>] {
    static RELATIONS: OnceLock<Vec<Arc<Relation>>> = OnceLock::new();
    RELATIONS.get_or_init(|| system::relations().iter().map(|r| Arc::new(Relation::of_system(r))).collect())
}

impl Seen {
    fn of(database: &str, client: &Client, schemas: Vec<Namespace>, own: Vec<Relation>) -> Self {
        let path = client.settings.search_path();
        let mut relations: Vec<Arc<Relation>> = system_relations().to_vec();
        relations.extend(own.into_iter().map(Arc::new));
        let by_oid = relations.iter().enumerate().map(|(at, r)| (r.oid, at)).collect();
        let by_name =
            relations.iter().enumerate().map(|(at, r)| ((r.schema.clone(), r.name.clone()), at)).collect();
        let mut seen = Seen {
            database: database.to_owned(),
            client: client.clone(),
            roles: Roles::of(client),
            schemas,
            relations,
            by_oid,
            by_name,
            hidden: HashSet::new(),
        };
        let first = |r: &Relation| {
            r.schema == PG_CATALOG || seen.named(&r.name, &path).is_some_and(|found| found.oid == r.oid)
        };
        seen.hidden = seen.relations.iter().filter(|r| !first(r)).map(|r| r.oid).collect();
        seen
    }

    /// The relation of this number.
    pub(super) fn relation(&self, oid: i32) -> Option<&Arc<Relation>> {
        self.relations.get(*self.by_oid.get(&oid)?)
    }

    /// The relation that a name in SQL finds.
    pub(super) fn find(&self, parts: &[String]) -> Option<&Arc<Relation>> {
        match parts {
            [name] => self.named(name, &self.client.settings.search_path()),
            [schema, name] => self.in_schema(schema, name),
            [database, schema, name] if *database == self.database => self.in_schema(schema, name),
            _ => None,
        }
    }

    fn in_schema(&self, schema: &str, name: &str) -> Option<&Arc<Relation>> {
        self.relations.get(*self.by_name.get(&(schema.to_owned(), name.to_owned()))?)
    }

    fn named(&self, name: &str, path: &[String]) -> Option<&Arc<Relation>> {
        let path = std::iter::once(PG_CATALOG).chain(path.iter().map(String::as_str));
        path.into_iter().find_map(|schema| self.in_schema(schema, name))
    }

    /// Whether its bare name finds it.
    pub(super) fn is_visible(&self, relation: &Relation) -> bool {
        !self.hidden.contains(&relation.oid)
    }

    /// The schema of this number.
    pub(super) fn schema(&self, oid: i32) -> Option<&Namespace> {
        self.schemas.iter().find(|s| s.oid == oid)
    }

    /// The relations of these kinds.
    pub(super) fn of_kinds(&self, kinds: &[&str]) -> Vec<&Arc<Relation>> {
        self.relations.iter().filter(|r| kinds.contains(&r.kind)).collect()
    }

    /// The number of the database.
    pub(super) fn database_oid(&self) -> i32 {
        Numbers::default().of("", &self.database)
    }
}

impl Relations {
    pub(super) fn new(database: &str, inventory: Arc<dyn Inventory>, client: &Client) -> Self {
        // The client has its relations, and not the other way round as well.
        let client = Client { catalog: Catalog::default(), ..client.clone() };
        let nothing = Seen {
            database: database.to_owned(),
            roles: Roles(vec![]),
            client: client.clone(),
            schemas: vec![],
            relations: vec![],
            by_oid: HashMap::new(),
            by_name: HashMap::new(),
            hidden: HashSet::new(),
        };
        let last = RwLock::new((Instant::now(), Arc::new(nothing)));
        Relations { inventory, database: database.to_owned(), client, last }
    }

    /// The name of the database.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// What there was when [`Relations::look`] was last called.
    pub(super) fn last(&self) -> Arc<Seen> {
        Arc::clone(&self.last.read().1)
    }

    /// The same if that was after `since`.
    pub(super) fn last_since(&self, since: Option<Instant>) -> Option<Arc<Seen>> {
        let last = self.last.read();
        (!last.1.relations.is_empty() && since.is_some_and(|since| last.0 >= since))
            .then(|| Arc::clone(&last.1))
    }

    /// What there is now.
    pub(super) async fn look(&self) -> Result<Arc<Seen>, DataFusionError> {
        let mut numbers = Numbers::default();
        let mut schemas = vec![
            Namespace { oid: 11, name: PG_CATALOG.to_owned() },
            Namespace { oid: INFORMATION_SCHEMA_OID, name: INFORMATION_SCHEMA.to_owned() },
        ];
        let mut relations = vec![];
        for content in self.inventory.schemas().await? {
            let name = content.name;
            let oid = if name == "public" { 2200 } else { numbers.of(&name, "") };
            for table in content.tables {
                let number = numbers.of(&name, &table.name);
                relations.push(Relation::of(&name, oid, table, number));
            }
            schemas.push(Namespace { oid, name });
        }
        let seen = Arc::new(Seen::of(&self.database, &self.client, schemas, relations));
        *self.last.write() = (Instant::now(), Arc::clone(&seen));
        Ok(seen)
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
    fn numbers_do_not_depend_on_what_else_is_there() {
        let (mut few, mut many) = (Numbers::default(), Numbers::default());
        (0..1000).for_each(|i| assert_ne!(many.of("other", &i.to_string()), 0));
        assert_eq!(few.of("public", "sales"), many.of("public", "sales"));
        assert_ne!(few.of("public", "a"), few.of("publica", ""));
    }
}
