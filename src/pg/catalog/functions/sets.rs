//! Functions that give several rows, as lists that `compat` has unnested.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int32Array, StructArray};
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::Result;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::logical_expr::{Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::{Function, function, strict};

/// Those of a statement that stand for rows: their names, and whether each is a record.
pub(in crate::pg::catalog) const SETS: [&str; 5] =
    ["generate_subscripts", "_pg_expandarray", "aclexplode", "pg_options_to_table", "pg_partition_ancestors"];

pub(super) fn all() -> Vec<Function> {
    let options = Fields::from(vec![
        Field::new("option_name", DataType::Utf8, true),
        Field::new("option_value", DataType::Utf8, true),
    ]);
    vec![
        strict("generate_subscripts", &[2, 3], DataType::new_list(DataType::Int32, true), |args| {
            let count = elements(&args[0]).map_or(0, |e| e.len() as i32);
            let numbers: Vec<ScalarValue> = (1..=count).map(ScalarValue::from).collect();
            Ok(ScalarValue::List(ScalarValue::new_list_nullable(&numbers, &DataType::Int32)))
        }),
        expand_array(),
        records("aclexplode", acl_fields(), acl_rows),
        records("pg_options_to_table", options, |_| Ok(None)),
        function("pg_partition_ancestors", &[1], DataType::new_list(DataType::Int32, true), |_| {
            Ok(ScalarValue::List(ScalarValue::new_list_nullable(&[], &DataType::Int32)))
        }),
        Function {
            returns: Box::new(|types| types.first().cloned().unwrap_or(DataType::Null)),
            ..function("array_or_empty", &[1], DataType::Null, |args| {
                match (args[0].is_null(), args[0].data_type()) {
                    (true, DataType::List(item)) => Ok(ScalarValue::List(ScalarValue::new_list(
                        &[],
                        item.data_type(),
                        item.is_nullable(),
                    ))),
                    _ => Ok(args[0].clone()),
                }
            })
        },
    ]
}

/// The elements of a list.
fn elements(value: &ScalarValue) -> Option<ArrayRef> {
    match value {
        ScalarValue::List(list) if !list.is_null(0) => Some(list.value(0)),
        _ => None,
    }
}

/// Elements with their numbers: records of `x` and `n`.
fn expand_array() -> Function {
    let fields = |item: DataType| {
        Fields::from(vec![Field::new("x", item, true), Field::new("n", DataType::Int32, true)])
    };
    let item = |ty: &DataType| match ty {
        DataType::List(item) | DataType::LargeList(item) => item.data_type().clone(),
        _ => DataType::Int32,
    };
    let run = function("_pg_expandarray", &[1], DataType::Null, move |args| {
        let fields = fields(item(&args[0].data_type()));
        let Some(values) = elements(&args[0]) else { return no_records(&fields) };
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(1..=values.len() as i32));
        let records = StructArray::new(fields, vec![values, numbers], None);
        Ok(list_of(Arc::new(records)))
    });
    Function {
        returns: Box::new(move |types| {
            let item = types.first().map_or(DataType::Int32, item);
            DataType::new_list(DataType::Struct(fields(item)), true)
        }),
        signature: Signature::any(1, Volatility::Immutable),
        ..run
    }
}

/// A function from a value to records; none of NULL.
fn records(
    name: &'static str,
    fields: Fields,
    rows: impl Fn(&ScalarValue) -> Result<Option<StructArray>> + Send + Sync + 'static,
) -> Function {
    let returns = DataType::new_list(DataType::Struct(fields.clone()), true);
    function(name, &[1], returns, move |args| match rows(&args[0])? {
        Some(records) => Ok(list_of(Arc::new(records))),
        None => no_records(&fields),
    })
}

fn list_of(values: ArrayRef) -> ScalarValue {
    ScalarValue::List(Arc::new(SingleRowListArrayBuilder::new(values).build_list_array()))
}

fn no_records(fields: &Fields) -> Result<ScalarValue> {
    Ok(list_of(datafusion::arrow::array::new_empty_array(&DataType::Struct(fields.clone()))))
}

fn acl_fields() -> Fields {
    Fields::from(vec![
        Field::new("grantor", DataType::Int32, true),
        Field::new("grantee", DataType::Int32, true),
        Field::new("privilege_type", DataType::Utf8, true),
        Field::new("is_grantable", DataType::Boolean, true),
    ])
}

/// The rights in an access list. Roles are told by name there, so their numbers are those of their names.
fn acl_rows(value: &ScalarValue) -> Result<Option<StructArray>> {
    use datafusion::arrow::array::{AsArray, BooleanArray, StringArray};
    use datafusion::arrow::compute::cast;

    use crate::pg::catalog::roles::{OWNER_RIGHTS, number_of_role};
    let Some(items) = elements(value) else { return Ok(None) };
    let items = cast(&items, &DataType::Utf8)?;
    let mut rows = vec![];
    for item in items.as_string::<i32>().iter().flatten() {
        let Some((grantee, rest)) = item.split_once('=') else { continue };
        let (letters, grantor) = rest.split_once('/').unwrap_or((rest, ""));
        for (right, letter) in OWNER_RIGHTS {
            if letters.contains(letter) {
                let number = |name| number_of_role(name, grantor);
                rows.push((number(grantor), number(grantee), right, grantee == grantor));
            }
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.1))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.2))),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.3)))),
    ];
    Ok(Some(StructArray::new(acl_fields(), columns, None)))
}
