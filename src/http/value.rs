//! Values of the engine as JSON, with all their digits.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::value::RawValue;

use super::span::show;
use crate::error::{Error, Result};

/// A number as it is; none for NULL, and for what JSON has no number for (NaN, infinities).
pub(super) fn number(column: &dyn Array, row: usize) -> Result<Option<Box<RawValue>>> {
    if column.is_null(row) {
        return Ok(None);
    }
    let text = text(column, row)?;
    Ok(RawValue::from_string(text)
        .ok()
        .filter(|raw| raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit())))
}

/// A key: a number, a text, a truth or a time.
pub(super) fn key(column: &ArrayRef, row: usize) -> Result<serde_json::Value> {
    if column.is_null(row) {
        return Ok(serde_json::Value::Null);
    }
    let shown = text(column, row)?;
    Ok(match column.data_type() {
        t if t.is_integer() => shown.parse::<i64>().map_or_else(|_| shown.into(), Into::into),
        DataType::Boolean => (shown == "true").into(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            show(column.as_primitive::<TimestampMicrosecondType>().value(row)).into()
        }
        _ => shown.into(),
    })
}

/// What a type is to a person who looks at keys.
pub(super) fn type_name(t: &DataType) -> &'static str {
    match t {
        t if t.is_integer() => "integer",
        t if t.is_numeric() => "number",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Boolean => "boolean",
        DataType::Timestamp(_, _) | DataType::Date32 => "time",
        _ => "other",
    }
}

fn text(column: &dyn Array, row: usize) -> Result<String> {
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::default())?;
    formatter.value(row).try_to_string().map_err(|e| Error::internal(format!("cannot show a value: {e}")))
}
