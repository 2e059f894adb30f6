//! What there is to say of an object by its number or name: sizes, comments, definitions.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::common::Result;
use datafusion::scalar::ScalarValue;

use super::{Function, Listed, as_number, as_text, constant, function, is_text, strict, text};
use crate::error::Error;
use crate::pg::catalog::fixed::static_tables;
use crate::pg::catalog::names::{self, quoted};
use crate::pg::catalog::relations::{Relation, Relations, Seen};

/// The relation that an argument names, by its number or its name. A name that nothing has is an error.
pub(super) fn relation_of(seen: &Seen, value: &ScalarValue) -> Result<Option<Arc<Relation>>> {
    if !is_text(value) {
        return Ok(as_number(value).and_then(|oid| seen.relation(oid as i32)).cloned());
    }
    let name = as_text(value)?.unwrap_or_default();
    if let Ok(oid) = name.parse::<i32>() {
        return Ok(seen.relation(oid).cloned());
    }
    let missing = || Error::undefined_table(format!("relation \"{name}\" does not exist")).with_name(&name);
    Ok(Some(seen.find(&names::parts(&name)).cloned().ok_or_else(missing)?))
}

pub(super) fn all(relations: &Arc<Relations>, listed: &Arc<Listed>) -> Vec<Function> {
    let of = |relations: &Arc<Relations>| Arc::clone(relations);
    let size = |name, arguments: &[usize]| {
        let seen = of(relations);
        strict(name, arguments, DataType::Int64, move |args| {
            let relation = relation_of(&seen.last(), &args[0])?;
            let main = args.get(1).map_or(Ok(None), as_text)?.is_none_or(|fork| fork == "main");
            Ok(ScalarValue::Int64(relation.map(|r| if main { r.bytes as i64 } else { 0 })))
        })
    };
    let (visible, views, owners, database) = (of(relations), of(relations), of(relations), of(relations));
    let (files, comments, columns, indexes) = (of(relations), of(relations), of(relations), of(relations));
    let (by_arguments, by_identity, by_result, by_definition) =
        (Arc::clone(listed), Arc::clone(listed), Arc::clone(listed), Arc::clone(listed));
    vec![
        size("pg_relation_size", &[1, 2]),
        size("pg_table_size", &[1]),
        size("pg_total_relation_size", &[1]),
        strict("pg_database_size", &[1], DataType::Int64, move |_| {
            Ok(ScalarValue::from(database.last().relations.iter().map(|r| r.bytes as i64).sum::<i64>()))
        }),
        strict("pg_relation_filenode", &[1], DataType::Int32, move |args| {
            let relation = relation_of(&files.last(), &args[0])?;
            Ok(ScalarValue::Int32(relation.filter(|r| matches!(r.kind, "r" | "m" | "i")).map(|r| r.oid)))
        }),
        strict("pg_table_is_visible", &[1], DataType::Boolean, move |args| {
            let seen = visible.last();
            let relation = as_number(&args[0]).and_then(|oid| seen.relation(oid as i32));
            Ok(ScalarValue::Boolean(relation.map(|r| seen.is_visible(r))))
        }),
        strict("pg_get_viewdef", &[1, 2], DataType::Utf8, move |args| {
            let relation = relation_of(&views.last(), &args[0])?;
            let definition = relation.and_then(|r| r.definition.as_ref().map(|d| format!(" {d};")));
            Ok(ScalarValue::Utf8(definition))
        }),
        strict("pg_get_userbyid", &[1], DataType::Utf8, move |args| {
            let oid = as_number(&args[0]).unwrap_or_default();
            let seen = owners.last();
            Ok(text(match seen.roles.numbered(oid as i32) {
                Some(member) => member.name.clone(),
                None => format!("unknown (OID={oid})"),
            }))
        }),
        strict("obj_description", &[1, 2], DataType::Utf8, move |args| {
            let Some(oid) = as_number(&args[0]) else { return Ok(ScalarValue::Utf8(None)) };
            let catalog = args.get(1).map_or(Ok(None), as_text)?;
            let of_relations = catalog.as_deref().is_none_or(|c| c == "pg_class");
            let own =
                comments.last().relation(oid as i32).filter(|_| of_relations).and_then(|r| r.comment.clone());
            Ok(ScalarValue::Utf8(own.or_else(|| described(oid as i32, catalog.as_deref()))))
        }),
        constant("shobj_description", &[2], ScalarValue::Utf8(None)),
        strict("col_description", &[2], DataType::Utf8, move |args| {
            let seen = columns.last();
            let relation = as_number(&args[0]).and_then(|oid| seen.relation(oid as i32));
            let comment = relation.and_then(|r| {
                let at = usize::try_from(as_number(&args[1])?).ok()?.checked_sub(1)?;
                r.column_comments.get(&r.columns.get(at)?.name).cloned()
            });
            Ok(ScalarValue::Utf8(comment))
        }),
        strict("pg_get_indexdef", &[1, 3], DataType::Utf8, move |args| {
            let seen = indexes.last();
            let index = as_number(&args[0]).and_then(|oid| seen.relation(oid as i32));
            Ok(ScalarValue::Utf8(index.and_then(|index| index_definition(&seen, index, args.get(1)))))
        }),
        strict("pg_get_function_arguments", &[1], DataType::Utf8, move |args| {
            Ok(ScalarValue::Utf8(as_number(&args[0]).and_then(|oid| by_arguments.arguments(oid as i32))))
        }),
        strict("pg_get_function_identity_arguments", &[1], DataType::Utf8, move |args| {
            Ok(ScalarValue::Utf8(as_number(&args[0]).and_then(|oid| by_identity.arguments(oid as i32))))
        }),
        strict("pg_get_function_result", &[1], DataType::Utf8, move |args| {
            Ok(ScalarValue::Utf8(as_number(&args[0]).and_then(|oid| by_result.result(oid as i32))))
        }),
        function("pg_get_functiondef", &[1], DataType::Utf8, move |args| {
            Ok(ScalarValue::Utf8(as_number(&args[0]).and_then(|oid| by_definition.definition(oid as i32))))
        }),
    ]
}

/// `CREATE INDEX`, or the column of a number.
fn index_definition(seen: &Seen, index: &Relation, column: Option<&ScalarValue>) -> Option<String> {
    let of = index.system?.index.as_ref()?;
    let table = seen.relation(of.table)?;
    let names: Vec<String> = index.columns.iter().map(|c| quoted(&c.name)).collect();
    match column.and_then(as_number).filter(|n| *n > 0) {
        Some(n) => names.get(n as usize - 1).cloned(),
        None => Some(format!(
            "CREATE {}INDEX {} ON {}.{} USING btree ({})",
            if of.unique { "UNIQUE " } else { "" },
            quoted(&index.name),
            quoted(&table.schema),
            quoted(&table.name),
            names.join(", ")
        )),
    }
}

/// What PostgreSQL says of its own objects: by number and the number of their catalog.
fn described(oid: i32, catalog: Option<&str>) -> Option<String> {
    static TEXTS: OnceLock<HashMap<i32, Vec<(i32, String)>>> = OnceLock::new();
    let texts = TEXTS.get_or_init(|| {
        let mut texts: HashMap<i32, Vec<(i32, String)>> = HashMap::new();
        let Ok(tables) = static_tables() else { return texts };
        for batch in tables.pg_description.data() {
            let column = |name: &str, ty: &DataType| cast(batch.column_by_name(name)?, ty).ok();
            let (number, text) = (DataType::Int32, DataType::Utf8);
            if let (Some(oids), Some(classes), Some(said)) =
                (column("objoid", &number), column("classoid", &number), column("description", &text))
            {
                let (oids, classes) = (oids.as_primitive::<Int32Type>(), classes.as_primitive::<Int32Type>());
                for row in 0..batch.num_rows() {
                    let said = said.as_string::<i32>().value(row).to_owned();
                    texts.entry(oids.value(row)).or_default().push((classes.value(row), said));
                }
            }
        }
        texts
    });
    let class = match catalog {
        Some(name) => super::super::system::relation(super::super::PG_CATALOG, name).map(|r| r.oid),
        None => None,
    };
    let all = texts.get(&oid)?;
    let found = all.iter().find(|(of, _)| catalog.is_none() || class == Some(*of));
    found.map(|(_, text)| text.clone())
}
