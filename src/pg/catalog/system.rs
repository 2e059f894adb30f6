//! The relations that every PostgreSQL has: their columns and types, as version 15 declares them.
//!
//! `postgres_relations.txt` has a line for each relation of `pg_catalog` and `information_schema`: name, number, kind, then
//! `column:type` (with `!` where it is NOT NULL); for an index the numbers of the table and of its columns, and whether it
//! is the primary key (`p`) or unique (`u`).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion_pg_catalog::pg_catalog::oid_field::{self, kind};
use pgwire::api::Type;

use super::{INFORMATION_SCHEMA, PG_CATALOG};
use crate::pg::types;

/// Marks a text column whose values are of the one-letter type "char".
const CHAR: &str = "pg.char";

/// A relation that every PostgreSQL has.
#[derive(Debug)]
pub(super) struct SystemRelation {
    pub(super) schema: &'static str,
    pub(super) name: &'static str,
    pub(super) oid: i32,
    /// `r`, `v` or `i`
    pub(super) kind: &'static str,
    pub(super) columns: Vec<SystemColumn>,
    /// As the engine has them.
    pub(super) arrow: SchemaRef,
    /// Of an index: its table.
    pub(super) index: Option<SystemIndex>,
}

/// What an index is over.
#[derive(Debug)]
pub(super) struct SystemIndex {
    pub(super) table: i32,
    pub(super) unique: bool,
}

/// A column of such a relation.
#[derive(Debug, Clone)]
pub(super) struct SystemColumn {
    pub(super) name: &'static str,
    pub(super) ty: Type,
    pub(super) not_null: bool,
}

/// All of them.
pub(super) fn relations() -> &'static [SystemRelation] {
    static RELATIONS: OnceLock<Vec<SystemRelation>> = OnceLock::new();
    RELATIONS.get_or_init(|| {
        let mut found: Vec<SystemRelation> = vec![];
        let mut by_oid: HashMap<i32, usize> = HashMap::new();
        for line in include_str!("postgres_relations.txt").lines() {
            let Some(mut relation) = read(line) else { continue };
            // Indexes come last.
            if let Some(index) = &relation.index
                && let Some(table) = by_oid.get(&index.table).map(|at| &found[*at])
            {
                let numbers = line.rsplit(' ').nth(1).and_then(|of| of.split_once(':')).map_or("", |of| of.1);
                let columns = numbers.split(',').filter_map(|n| n.parse::<usize>().ok()?.checked_sub(1));
                relation.columns = columns.filter_map(|n| table.columns.get(n).cloned()).collect();
            }
            by_oid.insert(relation.oid, found.len());
            found.push(relation);
        }
        found
    })
}

/// The table or view of this name.
pub(super) fn relation(schema: &str, name: &str) -> Option<&'static SystemRelation> {
    static BY_NAME: OnceLock<HashMap<(&'static str, &'static str), usize>> = OnceLock::new();
    let by_name = BY_NAME.get_or_init(|| {
        let all = relations().iter().enumerate().filter(|(_, r)| r.index.is_none());
        all.map(|(at, r)| ((r.schema, r.name), at)).collect()
    });
    by_name.get(&(schema, name)).map(|at| &relations()[*at])
}

/// Tables and views of a schema.
pub(super) fn names_in(schema: &str) -> impl Iterator<Item = &'static str> {
    relations().iter().filter(move |r| r.schema == schema && r.index.is_none()).map(|r| r.name)
}

fn read(line: &'static str) -> Option<SystemRelation> {
    let mut words = line.split(' ');
    let (schema, name) = words.next()?.split_once('.')?;
    let schema = [PG_CATALOG, INFORMATION_SCHEMA].into_iter().find(|s| *s == schema)?;
    let (oid, kind) = (words.next()?.parse().ok()?, words.next()?);
    if kind == "i" {
        let (table, unique) = (words.next()?.split_once(':')?.0.parse().ok()?, words.next()? != "-");
        let (index, arrow) = (Some(SystemIndex { table, unique }), Arc::new(Schema::empty()));
        return Some(SystemRelation { schema, name, oid, kind, columns: vec![], arrow, index });
    }
    let (mut columns, mut fields) = (vec![], vec![]);
    for word in words.filter(|w| !w.is_empty()) {
        let (name, ty) = word.split_once(':')?;
        let (ty, not_null) = (ty.trim_end_matches('!'), ty.ends_with('!'));
        fields.push(field(name, ty, not_null));
        columns.push(SystemColumn { name, ty: type_named(ty), not_null });
    }
    let arrow = Arc::new(Schema::new(fields));
    Some(SystemRelation { schema, name, oid, kind, columns, arrow, index: None })
}

/// How the engine has a column.
fn field(name: &str, ty: &'static str, not_null: bool) -> Field {
    if let Some(item) = ty.strip_prefix('_') {
        let list = DataType::new_list(self::field("item", item, false).data_type().clone(), true);
        return Field::new(name, list, !not_null);
    }
    let alias = match ty {
        "oid" | "xid" | "cid" => Some(kind::OID),
        "regproc" => Some(kind::REGPROC),
        "regtype" => Some(kind::REGTYPE),
        _ => None,
    };
    if let Some(alias) = alias.filter(|_| ty != "xid" && ty != "cid") {
        return oid_field::oid_field(name, alias, !not_null);
    }
    let data_type = match ty {
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "int4" | "oid" | "xid" | "cid" | "cardinal_number" | "regproc" | "regtype" => DataType::Int32,
        "int8" => DataType::Int64,
        "float4" => DataType::Float32,
        "float8" => DataType::Float64,
        "numeric" => DataType::Decimal128(38, 0),
        "timestamptz" | "time_stamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "interval" => DataType::Interval(datafusion::arrow::datatypes::IntervalUnit::MonthDayNano),
        "bytea" => DataType::Binary,
        "int2vector" => DataType::new_list(DataType::Int16, true),
        "oidvector" => DataType::new_list(DataType::Int32, true),
        "anyarray" => DataType::new_list(DataType::Utf8, true),
        _ => DataType::Utf8,
    };
    let field = Field::new(name, data_type, !not_null);
    match ty {
        "char" => field.with_metadata(HashMap::from([(CHAR.to_owned(), "true".to_owned())])),
        "int2vector" | "oidvector" => {
            field.with_metadata(HashMap::from([(types::VECTOR.to_owned(), ty.to_owned())]))
        }
        _ => field,
    }
}

/// The type that `pg_attribute` shows.
fn type_named(ty: &str) -> Type {
    match ty {
        "bool" => Type::BOOL,
        "bytea" => Type::BYTEA,
        "char" => Type::CHAR,
        // Domains over these.
        "name" | "sql_identifier" => Type::NAME,
        "int8" => Type::INT8,
        "int2" => Type::INT2,
        "int2vector" => Type::INT2_VECTOR,
        "int4" | "cardinal_number" => Type::INT4,
        "regproc" => Type::REGPROC,
        "text" => Type::TEXT,
        "oid" => Type::OID,
        "xid" => Type::XID,
        "oidvector" => Type::OID_VECTOR,
        "pg_node_tree" => Type::PG_NODE_TREE,
        "float4" => Type::FLOAT4,
        "float8" => Type::FLOAT8,
        "inet" => Type::INET,
        "timestamptz" | "time_stamp" => Type::TIMESTAMPTZ,
        "interval" => Type::INTERVAL,
        "numeric" => Type::NUMERIC,
        "regtype" => Type::REGTYPE,
        "pg_lsn" => Type::PG_LSN,
        "anyarray" => Type::ANYARRAY,
        "character_data" | "yes_or_no" => Type::VARCHAR,
        "_text" => Type::TEXT_ARRAY,
        "_aclitem" => Type::ACLITEM_ARRAY,
        "_float4" => Type::FLOAT4_ARRAY,
        "_float8" => Type::FLOAT8_ARRAY,
        "_oid" => Type::OID_ARRAY,
        "_name" => Type::NAME_ARRAY,
        "_int2" => Type::INT2_ARRAY,
        "_char" => Type::CHAR_ARRAY,
        "_bool" => Type::BOOL_ARRAY,
        "_regtype" => Type::REGTYPE_ARRAY,
        _ => Type::TEXT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        assert_eq!(relations().len(), include_str!("postgres_relations.txt").lines().count());
        let class = relation(PG_CATALOG, "pg_class").unwrap();
        assert_eq!((class.oid, class.kind, class.columns.len()), (1259, "r", 33));
        assert!(class.columns[0].not_null && class.arrow.field(0).data_type() == &DataType::Int32);
        let index = relations().iter().find(|r| r.name == "pg_class_relname_nsp_index").unwrap();
        let names: Vec<&str> = index.columns.iter().map(|c| c.name).collect();
        assert_eq!(names, ["relname", "relnamespace"]);
    }
}
