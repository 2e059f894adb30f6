//! Delta schemas and Arrow schemas.
//!
//! A Delta `timestamp` is microseconds in UTC. A column that was declared TIMESTAMP has the field metadata
//! `toplake.timestamp = naive` and is shown without a zone; the others are shown as TIMESTAMPTZ. (`timestampNtz` would
//! raise the table's protocol and lock out other readers.)

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

const NAIVE: &str = "toplake.timestamp";

/// Microseconds, with the zone or without.
pub fn timestamp(zoned: bool) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| "UTC".into()))
}

/// The type that a column of type `t` has once it is stored, or an error that says why it cannot be.
///
/// Unsigned integers become the next wider signed one (a `UInt64` beyond `i64` is an error when it is written), all
/// strings become `Utf8View`, timestamps become microseconds.
pub fn storable(t: &DataType, column: &str) -> Result<DataType> {
    let field = |f: &Field| -> Result<Arc<Field>> {
        Ok(Arc::new(Field::new(f.name(), storable(f.data_type(), column)?, f.is_nullable())))
    };
    Ok(match t {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32 => t.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::BinaryView
        }
        DataType::Timestamp(_, zone) => timestamp(zone.is_some()),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) if *s >= 0 => {
            DataType::Decimal128(*p, *s)
        }
        DataType::Decimal256(p, s) if *p <= 38 && *s >= 0 => DataType::Decimal128(*p, *s),
        DataType::Dictionary(_, value) => storable(value, column)?,
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) => {
            DataType::List(field(f)?)
        }
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|f| field(f)).collect::<Result<Vec<_>>>()?.into())
        }
        other => {
            return Err(Error::not_supported(format!(
                "column '{column}': a table cannot keep values of type {other}"
            ))
            .with_hint("cast it, for example to VARCHAR"));
        }
    })
}

/// The schema that rows of `schema` have once they are stored.
pub fn storable_schema(schema: &Schema) -> Result<SchemaRef> {
    let fields = schema.fields().iter().map(|f| {
        Ok(Field::new(
            f.name(),
            storable(f.data_type(), f.name())?,
            f.is_nullable() || f.data_type().is_null(),
        ))
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    distinct_names(&fields)?;
    Ok(Arc::new(Schema::new(fields)))
}

/// Refuses two columns of one name; in Delta, names that differ only in case are the same.
pub fn distinct_names(fields: &[Field]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match fields.iter().find(|f| !seen.insert(f.name().to_lowercase())) {
        Some(f) => Err(Error::invalid_input(format!("two columns are named '{}'", f.name()))
            .with_hint("give one of them another name with AS")),
        None => Ok(()),
    }
}

/// Arrow → Delta's JSON.
pub fn to_delta(schema: &Schema) -> Result<String> {
    Ok(json!({ "type": "struct", "fields": fields_to_delta(schema.fields())? }).to_string())
}

fn fields_to_delta(fields: &Fields) -> Result<Vec<Value>> {
    fields
        .iter()
        .map(|f| {
            let mut metadata = Map::new();
            if matches!(f.data_type(), DataType::Timestamp(_, None)) {
                metadata.insert(NAIVE.into(), "naive".into());
            }
            let t = type_to_delta(f.data_type(), f.name())?;
            Ok(json!({ "name": f.name(), "type": t, "nullable": f.is_nullable(), "metadata": metadata }))
        })
        .collect()
}

fn type_to_delta(t: &DataType, column: &str) -> Result<Value> {
    Ok(match t {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "byte".into(),
        DataType::Int16 => "short".into(),
        DataType::Int32 => "integer".into(),
        DataType::Int64 => "long".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Date32 => "date".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".into(),
        DataType::Timestamp(_, _) => "timestamp".into(),
        DataType::Decimal128(p, s) => format!("decimal({p},{s})").into(),
        DataType::List(f) => json!({
            "type": "array", "elementType": type_to_delta(f.data_type(), column)?, "containsNull": f.is_nullable()
        }),
        DataType::Struct(fields) => json!({ "type": "struct", "fields": fields_to_delta(fields)? }),
        other => return Err(Error::internal(format!("column '{column}' has the unstored type {other}"))),
    })
}

/// Delta's JSON → Arrow; `place` is for messages.
pub fn from_delta(schema_string: &str, place: &dyn std::fmt::Display) -> Result<SchemaRef> {
    let bad = |what: &str| Error::corrupt(format!("the schema of {place} {what}"));
    let value: Value = serde_json::from_str(schema_string).map_err(|e| bad(&format!("is not JSON: {e}")))?;
    let fields = value["fields"].as_array().ok_or_else(|| bad("has no fields"))?;
    Ok(Arc::new(Schema::new(fields.iter().map(|f| field_from_delta(f, place)).collect::<Result<Vec<_>>>()?)))
}

fn field_from_delta(f: &Value, place: &dyn std::fmt::Display) -> Result<Field> {
    let name =
        f["name"].as_str().ok_or_else(|| Error::corrupt(format!("a column of {place} has no name")))?;
    let naive = f["metadata"][NAIVE] == "naive";
    let t = type_from_delta(&f["type"], naive).ok_or_else(|| {
        Error::not_supported(format!("column '{name}' of {place} has the type {}", f["type"]))
    })?;
    Ok(Field::new(name, t, f["nullable"].as_bool().unwrap_or(true)))
}

fn type_from_delta(t: &Value, naive: bool) -> Option<DataType> {
    let Some(name) = t.as_str() else { return nested_from_delta(t, naive) };
    Some(match name {
        "boolean" => DataType::Boolean,
        "byte" => DataType::Int8,
        "short" => DataType::Int16,
        "integer" => DataType::Int32,
        "long" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "date" => DataType::Date32,
        "string" => DataType::Utf8View,
        "binary" => DataType::BinaryView,
        "timestamp" => timestamp(!naive),
        "timestamp_ntz" => timestamp(false),
        decimal => {
            let (p, s) = decimal.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            DataType::Decimal128(p.trim().parse().ok()?, s.trim().parse().ok()?)
        }
    })
}

fn nested_from_delta(t: &Value, naive: bool) -> Option<DataType> {
    match t["type"].as_str()? {
        "array" => {
            let element = type_from_delta(&t["elementType"], naive)?;
            Some(DataType::List(Arc::new(Field::new(
                "element",
                element,
                t["containsNull"].as_bool().unwrap_or(true),
            ))))
        }
        "struct" => {
            let fields = t["fields"].as_array()?.iter().map(|f| field_from_delta(f, &"a nested column").ok());
            Some(DataType::Struct(fields.collect::<Option<Vec<_>>>()?.into()))
        }
        _ => None,
    }
}

/// The schema that goes into Parquet files: as [`storable`], timestamps with their zone, so that every reader sees
/// instants.
pub fn file_schema(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| match f.data_type() {
        DataType::Timestamp(_, None) => Arc::new(f.as_ref().clone().with_data_type(timestamp(true))),
        _ => Arc::clone(f),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Options of a table that Delta readers honour, and ours.
pub fn default_configuration() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("delta.enableExpiredLogCleanup".to_owned(), "false".to_owned()),
        ("delta.deletedFileRetentionDuration".to_owned(), "interval 1 days".to_owned()),
    ])
}

/// The first thing that two schemas of rows do not have in common; `None` if they are the same.
pub fn difference(one: &Schema, other: &Schema) -> Option<String> {
    for field in one.fields() {
        match other.field_with_name(field.name()) {
            Err(_) => return Some(format!("column '{}' is only here", field.name())),
            Ok(there) if there.data_type() != field.data_type() => {
                return Some(format!(
                    "column '{}' has type {} here and {} there",
                    field.name(),
                    field.data_type(),
                    there.data_type()
                ));
            }
            Ok(there) if there.is_nullable() != field.is_nullable() => {
                return Some(format!("column '{}' may be NULL on one side only", field.name()));
            }
            Ok(_) => {}
        }
    }
    let more = other.fields().iter().find(|field| one.field_with_name(field.name()).is_err());
    match more {
        Some(field) => Some(format!("column '{}' is only there", field.name())),
        None => (one.fields() != other.fields()).then(|| "their columns come in another order".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_type_survives() {
        let list = DataType::List(Arc::new(Field::new("element", DataType::Int64, true)));
        let nested = DataType::Struct(vec![Field::new("a", DataType::Utf8View, true)].into());
        let schema = Schema::new(vec![
            Field::new("a", DataType::Int8, false),
            Field::new("b", timestamp(false), false),
            Field::new("c", timestamp(true), true),
            Field::new("d", DataType::Decimal128(18, 4), true),
            Field::new("e", list, true),
            Field::new("f", nested, true),
            Field::new("g", DataType::BinaryView, true),
        ]);
        let delta = to_delta(&schema).unwrap();
        assert_eq!(from_delta(&delta, &"t").unwrap().as_ref(), &schema);
    }

    #[test]
    fn unsigned_ranks_can_be_stored_and_intervals_are_refused() {
        assert_eq!(storable(&DataType::UInt64, "rank").unwrap(), DataType::Int64);
        let interval = DataType::Interval(datafusion::arrow::datatypes::IntervalUnit::MonthDayNano);
        assert!(storable(&interval, "x").unwrap_err().message().contains("column 'x'"));
    }
}
