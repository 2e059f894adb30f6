//! Casts between names and numbers: `'sales'::regclass`, `c.oid::regclass::text`, `to_regclass('sales')`.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::{Function, as_number, as_text, invalid, is_text, strict, text};
use crate::pg::catalog::names::Alias;
use crate::pg::catalog::relations::Relations;

/// The types that stand for numbers of objects, and the functions that read and show their values, which `compat` puts in
/// the place of casts.
pub(in crate::pg::catalog) const CASTS: [(&str, &str, &str); 11] = [
    ("regclass", "regclassin", "regclassout"),
    ("regnamespace", "regnamespacein", "regnamespaceout"),
    ("regtype", "regtypein", "regtypeout"),
    ("regproc", "regprocin", "regprocout"),
    ("regprocedure", "regprocedurein", "regprocedureout"),
    ("regrole", "regrolein", "regroleout"),
    ("regoper", "regoperin", "regoperout"),
    ("regoperator", "regoperatorin", "regoperatorout"),
    ("regconfig", "regconfigin", "regconfigout"),
    ("regdictionary", "regdictionaryin", "regdictionaryout"),
    ("regcollation", "regcollationin", "regcollationout"),
];

pub(super) fn all(relations: &Arc<Relations>) -> Vec<Function> {
    let mut functions = vec![];
    for (name, reads, shows) in CASTS {
        let alias = Alias::named(name).unwrap_or(Alias::Other);
        let seen = Arc::clone(relations);
        functions.push(strict(reads, &[1], DataType::Int32, move |args| match &args[0] {
            name if is_text(name) => {
                let name = as_text(name)?.unwrap_or_default();
                Ok(ScalarValue::from(alias.require(&seen.last(), &name)?))
            }
            number => Ok(ScalarValue::Int32(as_number(number).map(|n| n as i32))),
        }));
        let seen = Arc::clone(relations);
        functions.push(strict(shows, &[1], DataType::Utf8, move |args| {
            let oid = as_number(&args[0]).ok_or_else(|| invalid("not the number of an object"))?;
            Ok(text(alias.show(&seen.last(), oid as i32)))
        }));
    }
    let finders = [
        ("to_regclass", Alias::Class),
        ("to_regnamespace", Alias::Namespace),
        ("to_regtype", Alias::Type),
        ("to_regproc", Alias::Proc),
        ("to_regrole", Alias::Role),
    ];
    for (name, alias) in finders {
        let seen = Arc::clone(relations);
        functions.push(strict(name, &[1], DataType::Int32, move |args| {
            let name = as_text(&args[0])?.unwrap_or_default();
            Ok(ScalarValue::Int32(alias.find(&seen.last(), &name)))
        }));
    }
    functions
}
