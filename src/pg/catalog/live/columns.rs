//! Columns: `pg_attribute`, and what information_schema says of them.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;
use pgwire::api::Type;

use super::information::listed;
use super::{rows, rows_of, yes_or_no};
use crate::pg::catalog::INFORMATION_SCHEMA;
use crate::pg::catalog::format_type::format_type;
use crate::pg::catalog::relations::{Attribute, Relation, Seen};
use crate::pg::types;

/// Every column with its relation and its number.
fn all_of<'a>(
    relations: impl IntoIterator<Item = &'a Arc<Relation>>,
) -> Vec<(&'a Relation, i16, &'a Attribute)> {
    let each =
        relations.into_iter().flat_map(|r| (1..).zip(&r.columns).map(move |(n, c)| (r.as_ref(), n, c)));
    each.collect()
}

fn is_array(ty: &Type) -> bool {
    types::element_of(ty).is_some()
}

pub(super) fn pg_attribute(seen: &Seen) -> Result<RecordBatch> {
    let columns = all_of(&seen.relations);
    let all = || columns.iter();
    rows("pg_attribute", columns.len())?
        .int4("attrelid", all().map(|c| c.0.oid))
        .text("attname", all().map(|c| &c.2.name))
        .int4("atttypid", all().map(|c| c.2.ty.oid() as i32))
        .all(&["attstattarget", "attcacheoff"], -1)?
        .int2("attlen", all().map(|c| types::width(&c.2.ty)))
        .int2("attnum", all().map(|c| c.1))
        .int4("attndims", all().map(|c| i32::from(is_array(&c.2.ty))))
        .int4("atttypmod", all().map(|c| c.2.modifier))
        .bool("attbyval", all().map(|c| (1..=8).contains(&types::width(&c.2.ty))))
        .text("attalign", all().map(|c| align(types::width(&c.2.ty))))
        .text("attstorage", all().map(|c| storage(&c.2.ty)))
        .bool("attnotnull", all().map(|c| c.2.not_null))
        .all(&["attislocal"], true)?
        .int4("attcollation", all().map(|c| collation(&c.2.ty)))
        .batch()
}

fn storage(ty: &Type) -> &'static str {
    match *ty {
        Type::NUMERIC => "m",
        _ if types::width(ty) < 0 => "x",
        _ => "p",
    }
}

/// The default collation, where a type has one; names are in that of C.
fn collation(ty: &Type) -> i32 {
    match *ty {
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::TEXT_ARRAY | Type::VARCHAR_ARRAY => 100,
        Type::NAME | Type::NAME_ARRAY => 950,
        _ => 0,
    }
}

fn align(width: i16) -> &'static str {
    match width {
        1 => "c",
        2 => "s",
        8 | 16 => "d",
        _ => "i",
    }
}

pub(super) fn columns(seen: &Seen) -> Result<RecordBatch> {
    let columns = all_of(listed(seen));
    let all = || columns.iter();
    let database = seen.database.as_str();
    rows_of(INFORMATION_SCHEMA, "columns", columns.len())?
        .all(&["table_catalog", "udt_catalog"], database)?
        .text("table_schema", all().map(|c| &c.0.schema))
        .text("table_name", all().map(|c| &c.0.name))
        .text("column_name", all().map(|c| &c.2.name))
        .int4("ordinal_position", all().map(|c| i32::from(c.1)))
        .text("is_nullable", all().map(|c| yes_or_no(!c.2.not_null)))
        .text("data_type", all().map(|c| data_type(&c.2.ty)))
        .maybe_int4("character_octet_length", all().map(|c| octets(&c.2.ty)))
        .maybe_int4("numeric_precision", all().map(|c| precision(c.2).map(|p| p.0)))
        .maybe_int4("numeric_precision_radix", all().map(|c| radix(&c.2.ty)))
        .maybe_int4("numeric_scale", all().map(|c| precision(c.2).and_then(|p| p.1)))
        .maybe_int4("datetime_precision", all().map(|c| fraction(&c.2.ty)))
        .all(&["udt_schema"], super::super::PG_CATALOG)?
        .text("udt_name", all().map(|c| udt_name(&c.2.ty)))
        .text("dtd_identifier", all().map(|c| c.1.to_string()))
        .all(&["is_self_referencing", "is_identity", "identity_cycle"], "NO")?
        .all(&["is_generated"], "NEVER")?
        .text("is_updatable", all().map(|c| yes_or_no(c.0.is_own() && c.0.kind == "r")))
        .batch()
}

pub(super) fn column_udt_usage(seen: &Seen) -> Result<RecordBatch> {
    let columns = all_of(listed(seen));
    let all = || columns.iter();
    rows_of(INFORMATION_SCHEMA, "column_udt_usage", columns.len())?
        .all(&["udt_catalog", "table_catalog"], seen.database.as_str())?
        .all(&["udt_schema"], super::super::PG_CATALOG)?
        .text("udt_name", all().map(|c| udt_name(&c.2.ty)))
        .text("table_schema", all().map(|c| &c.0.schema))
        .text("table_name", all().map(|c| &c.0.name))
        .text("column_name", all().map(|c| &c.2.name))
        .batch()
}

/// What the elements of arrays are.
pub(super) fn element_types(seen: &Seen) -> Result<RecordBatch> {
    let columns = all_of(listed(seen));
    let arrays: Vec<_> =
        columns.iter().filter_map(|c| types::element_of(&c.2.ty).map(|element| (c, element))).collect();
    let all = || arrays.iter();
    rows_of(INFORMATION_SCHEMA, "element_types", arrays.len())?
        .all(&["object_catalog", "udt_catalog"], seen.database.as_str())?
        .text("object_schema", all().map(|(c, _)| &c.0.schema))
        .text("object_name", all().map(|(c, _)| &c.0.name))
        .text("object_type", all().map(|(c, _)| if c.0.kind == "v" { "VIEW" } else { "TABLE" }))
        .text("collection_type_identifier", all().map(|(c, _)| c.1.to_string()))
        .text("data_type", all().map(|(_, element)| data_type(element)))
        .all(&["udt_schema"], super::super::PG_CATALOG)?
        .text("udt_name", all().map(|(_, element)| udt_name(element)))
        .text("dtd_identifier", all().map(|(c, _)| format!("a{}", c.1)))
        .batch()
}

fn data_type(ty: &Type) -> String {
    if is_array(ty) { "ARRAY".to_owned() } else { format_type(ty.oid() as i32, None) }
}

fn udt_name(ty: &Type) -> &str {
    ty.name()
}

fn octets(ty: &Type) -> Option<i32> {
    matches!(*ty, Type::TEXT | Type::VARCHAR | Type::BPCHAR).then_some(1 << 30)
}

/// Digits of a number, all and behind the point.
fn precision(column: &Attribute) -> Option<(i32, Option<i32>)> {
    match column.ty {
        Type::INT2 => Some((16, Some(0))),
        Type::INT4 => Some((32, Some(0))),
        Type::INT8 => Some((64, Some(0))),
        Type::FLOAT4 => Some((24, None)),
        Type::FLOAT8 => Some((53, None)),
        Type::NUMERIC if column.modifier >= 4 => {
            let modifier = column.modifier - 4;
            Some((modifier >> 16, Some(modifier & 0xffff)))
        }
        _ => None,
    }
}

fn radix(ty: &Type) -> Option<i32> {
    match *ty {
        Type::INT2 | Type::INT4 | Type::INT8 | Type::FLOAT4 | Type::FLOAT8 => Some(2),
        Type::NUMERIC => Some(10),
        _ => None,
    }
}

fn fraction(ty: &Type) -> Option<i32> {
    match *ty {
        Type::DATE => Some(0),
        Type::TIME | Type::TIMETZ | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::INTERVAL => Some(6),
        _ => None,
    }
}
