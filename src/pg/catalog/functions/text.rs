//! Functions of text that the engine does not have.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::{Function, as_number, as_text, function, invalid, strict, text};
use crate::pg::catalog::format_type::format_type;

pub(super) fn all() -> Vec<Function> {
    vec![
        function("format_type", &[2], DataType::Utf8, |args| {
            let modifier = as_number(&args[1]).map(|n| n as i32);
            Ok(ScalarValue::Utf8(as_number(&args[0]).map(|oid| format_type(oid as i32, modifier))))
        }),
        strict("pg_size_pretty", &[1], DataType::Utf8, |args| {
            Ok(ScalarValue::Utf8(as_number(&args[0]).map(pretty_size)))
        }),
        strict("pg_size_bytes", &[1], DataType::Int64, |args| {
            let given = as_text(&args[0])?.unwrap_or_default();
            size_in_bytes(&given)
                .map(ScalarValue::from)
                .ok_or_else(|| invalid(format!("invalid size: \"{given}\"")))
        }),
        any_number(function("json_build_object", &[0], DataType::Utf8, |args| {
            let mut object = serde_json::Map::new();
            for pair in args.chunks(2) {
                let value = pair.get(1).map_or(Ok(serde_json::Value::Null), json)?;
                object.insert(as_text(&pair[0])?.unwrap_or_default(), value);
            }
            Ok(text(serde_json::Value::Object(object).to_string()))
        })),
    ]
}

fn any_number(function: Function) -> Function {
    Function { signature: Signature::variadic_any(Volatility::Immutable), ..function }
}

fn json(value: &ScalarValue) -> Result<serde_json::Value> {
    Ok(match value {
        value if value.is_null() => serde_json::Value::Null,
        ScalarValue::Boolean(Some(yes)) => (*yes).into(),
        value if value.data_type().is_integer() => as_number(value).into(),
        value => as_text(value)?.into(),
    })
}

/// As PostgreSQL does: the next unit from ten times its size on.
fn pretty_size(bytes: i64) -> String {
    let (mut size, mut unit) = (bytes as f64, 0);
    while size.abs() >= 10_240.0 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    format!("{} {}", size.round(), UNITS[unit])
}

const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];

fn size_in_bytes(text: &str) -> Option<i64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '-' | '.')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = match text[end..].trim() {
        "" | "B" => 0,
        unit => UNITS.iter().position(|u| u.eq_ignore_ascii_case(unit))?,
    };
    Some((number * 1024f64.powi(unit as i32)).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!((pretty_size(8192), pretty_size(10_240)), ("8192 bytes".into(), "10 kB".into()));
        assert_eq!((size_in_bytes("10 kB"), size_in_bytes("1.5MB")), (Some(10_240), Some(1_572_864)));
    }
}
