//! Which PostgreSQL type stands for which Arrow type, and back.
//!
//! The mapping is arrow-pg's; here are the types that it has no answer for, and what `RowDescription` and
//! `pg_attribute` say of a type beside its number.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use pgwire::api::Type;

/// Says of a list in the catalog that it is an `int2vector` or an `oidvector`, which is written otherwise.
pub(super) const VECTOR: &str = "toplake.vector";

/// Whether a list is one of the catalog's vectors.
pub(super) fn is_vector(field: &Field) -> bool {
    is_list(field.data_type()) && field.metadata().contains_key(VECTOR)
}

/// The type of a column.
pub(super) fn of_field(field: &Field) -> Type {
    match field.data_type() {
        DataType::List(item) if is_vector(field) => match item.data_type() {
            DataType::Int16 => Type::INT2_VECTOR,
            _ => Type::OID_VECTOR,
        },
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..) => Type::NUMERIC,
        DataType::RunEndEncoded(_, values) => of_field(values),
        DataType::Dictionary(_, values) => of_type(values),
        // Lists of lists are arrays of several dimensions, which have the type of their elements' array.
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
            if is_list(item.data_type()) =>
        {
            of_field(item)
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            array_of(&of_field(item)).unwrap_or(Type::TEXT)
        }
        // What has no counterpart is shown as text.
        _ => match arrow_pg::datatypes::field_into_pg_type(&Arc::new(field.clone())) {
            Ok(Type::UNKNOWN) | Err(_) => Type::TEXT,
            Ok(known) => known,
        },
    }
}

/// The type of a value.
pub(super) fn of_type(data_type: &DataType) -> Type {
    of_field(&Field::new("", data_type.clone(), true))
}

fn is_list(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}

/// A type, its array, its width in bytes (negative: as long as it likes).
static TYPES: &[(Type, Type, i16)] = &[
    (Type::BOOL, Type::BOOL_ARRAY, 1),
    (Type::BYTEA, Type::BYTEA_ARRAY, -1),
    (Type::CHAR, Type::CHAR_ARRAY, 1),
    (Type::NAME, Type::NAME_ARRAY, 64),
    (Type::INT8, Type::INT8_ARRAY, 8),
    (Type::INT2, Type::INT2_ARRAY, 2),
    (Type::INT4, Type::INT4_ARRAY, 4),
    (Type::TEXT, Type::TEXT_ARRAY, -1),
    (Type::OID, Type::OID_ARRAY, 4),
    (Type::FLOAT4, Type::FLOAT4_ARRAY, 4),
    (Type::FLOAT8, Type::FLOAT8_ARRAY, 8),
    (Type::VARCHAR, Type::VARCHAR_ARRAY, -1),
    (Type::BPCHAR, Type::BPCHAR_ARRAY, -1),
    (Type::DATE, Type::DATE_ARRAY, 4),
    (Type::TIME, Type::TIME_ARRAY, 8),
    (Type::TIMESTAMP, Type::TIMESTAMP_ARRAY, 8),
    (Type::TIMESTAMPTZ, Type::TIMESTAMPTZ_ARRAY, 8),
    (Type::INTERVAL, Type::INTERVAL_ARRAY, 16),
    (Type::NUMERIC, Type::NUMERIC_ARRAY, -1),
    (Type::UUID, Type::UUID_ARRAY, 16),
    (Type::JSON, Type::JSON_ARRAY, -1),
    (Type::JSONB, Type::JSONB_ARRAY, -1),
    (Type::REGCLASS, Type::REGCLASS_ARRAY, 4),
    (Type::REGTYPE, Type::REGTYPE_ARRAY, 4),
    (Type::REGPROC, Type::REGPROC_ARRAY, 4),
    (Type::REGNAMESPACE, Type::REGNAMESPACE_ARRAY, 4),
    (Type::RECORD, Type::RECORD_ARRAY, -1),
];

/// The array type of a type.
pub(super) fn array_of(element: &Type) -> Option<Type> {
    TYPES.iter().find(|t| t.0.oid() == element.oid()).map(|t| t.1.clone())
}

/// The element type of an array type.
pub(super) fn element_of(array: &Type) -> Option<Type> {
    TYPES.iter().find(|t| t.1.oid() == array.oid()).map(|t| t.0.clone())
}

/// The width in bytes; -1 when it varies.
pub(super) fn width(ty: &Type) -> i16 {
    TYPES.iter().find(|t| t.0.oid() == ty.oid()).map_or(-1, |t| t.2)
}

/// The modifier: precision and scale of a decimal, -1 for none.
pub(super) fn modifier(data_type: &DataType) -> i32 {
    match data_type {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s)
            if *s >= 0 =>
        {
            ((i32::from(*p) << 16) | i32::from(*s)) + 4
        }
        DataType::Dictionary(_, values) => modifier(values),
        _ => -1,
    }
}

/// The Arrow type that holds any value of a PostgreSQL type; none for a type that we have no values of. A timestamp
/// with time zone is read in `zone` where its text names none.
pub(super) fn natural(ty: &Type, zone: &str) -> Option<DataType> {
    Some(match *ty {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 => DataType::Int64,
        // Our own object numbers are 32 bits with a sign, as in arrow-pg.
        Type::OID | Type::REGCLASS | Type::REGTYPE | Type::REGPROC | Type::REGNAMESPACE => DataType::Int32,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into())),
        Type::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        // The scale is that of the value.
        Type::NUMERIC => DataType::Decimal128(38, 0),
        Type::TEXT
        | Type::VARCHAR
        | Type::BPCHAR
        | Type::NAME
        | Type::CHAR
        | Type::UNKNOWN
        | Type::UUID
        | Type::JSON
        | Type::JSONB => DataType::Utf8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_an_answer() {
        let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
        let fields = vec![Field::new("a", DataType::Int64, true)].into();
        for (arrow, pg) in [
            (DataType::Null, Type::TEXT),
            (DataType::Utf8View, Type::TEXT),
            (DataType::UInt64, Type::NUMERIC),
            (DataType::Decimal256(60, 2), Type::NUMERIC),
            (list(DataType::Decimal256(60, 2)), Type::NUMERIC_ARRAY),
            (list(list(DataType::Int32)), Type::INT4_ARRAY),
            (list(DataType::Struct(fields)), Type::RECORD_ARRAY),
            (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), Type::TEXT),
            (DataType::Duration(TimeUnit::Second), Type::INTERVAL),
        ] {
            assert_eq!(of_type(&arrow).oid(), pg.oid(), "{arrow}");
        }
        assert_eq!(modifier(&DataType::Decimal128(18, 4)), (18 << 16) + 4 + 4);
    }
}
