//! Functions of text that the engine does not have.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::{Function, as_number, as_text, function, invalid, strict, text};
use crate::pg::catalog::format_type::format_type;
use crate::pg::catalog::names::quoted;

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
        strict("quote_literal", &[1], DataType::Utf8, |args| {
            Ok(ScalarValue::Utf8(as_text(&args[0])?.map(|t| literal(&t))))
        }),
        function("quote_nullable", &[1], DataType::Utf8, |args| {
            Ok(text(as_text(&args[0])?.map_or("NULL".to_owned(), |t| literal(&t))))
        }),
        any_number(function("format", &[1], DataType::Utf8, |args| match as_text(&args[0])? {
            Some(template) => Ok(text(formatted(&template, &args[1..])?)),
            None => Ok(ScalarValue::Utf8(None)),
        })),
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

fn literal(text: &str) -> String {
    match text.contains('\\') {
        true => format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
        false => format!("'{}'", text.replace('\'', "''")),
    }
}

fn json(value: &ScalarValue) -> Result<serde_json::Value> {
    Ok(match value {
        value if value.is_null() => serde_json::Value::Null,
        ScalarValue::Boolean(Some(yes)) => (*yes).into(),
        value if value.data_type().is_integer() => as_number(value).into(),
        value => as_text(value)?.into(),
    })
}

/// `%s`, `%I`, `%L` and `%%`, also with the number of an argument: `%1$s`.
fn formatted(template: &str, args: &[ScalarValue]) -> Result<String> {
    let (mut out, mut next) = (String::new(), 0);
    let mut characters = template.chars().peekable();
    while let Some(c) = characters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut digits = String::new();
        while let Some(digit) = characters.peek().filter(|c| c.is_ascii_digit()) {
            digits.push(*digit);
            characters.next();
        }
        let numbered = (characters.peek() == Some(&'$')).then(|| digits.parse::<usize>().ok()).flatten();
        if numbered.is_some() {
            characters.next();
        }
        let kind = characters.next();
        if kind == Some('%') {
            out.push('%');
            continue;
        }
        let at = numbered.map_or(next, |n| n.saturating_sub(1));
        next = at + 1;
        let value = args.get(at).ok_or_else(|| invalid("too few arguments for format()"))?;
        let value = as_text(value)?;
        match kind {
            Some('s') => out.push_str(&value.unwrap_or_default()),
            Some('I') => {
                let name =
                    value.ok_or_else(|| invalid("null values cannot be formatted as an SQL identifier"))?;
                out.push_str(&quoted(&name));
            }
            Some('L') => out.push_str(&value.map_or("NULL".to_owned(), |t| literal(&t))),
            _ => return Err(invalid("unrecognized format() type specifier").into()),
        }
    }
    Ok(out)
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
    fn format_takes_its_arguments() {
        let args = [text("public"), text("My table"), ScalarValue::from(3i32)];
        assert_eq!(formatted("%I.%I", &args).unwrap(), "public.\"My table\"");
        assert_eq!(formatted("%3$s%% %L", &args[..]).unwrap_or_default(), "");
        assert_eq!(formatted("%3$s%% %1$L", &args).unwrap(), "3% 'public'");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!((pretty_size(8192), pretty_size(10_240)), ("8192 bytes".into(), "10 kB".into()));
        assert_eq!((size_in_bytes("10 kB"), size_in_bytes("1.5MB")), (Some(10_240), Some(1_572_864)));
    }
}
