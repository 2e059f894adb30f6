//! `format`, `quote_literal`, `quote_nullable`, `convert_from`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::ScalarUDF;

use super::scalar::{Run, Scalar, TEXT, doc, exactly};

pub(super) fn udfs() -> Vec<Arc<ScalarUDF>> {
    let format = Scalar {
        name: "format",
        takes: |types| match types.len() {
            0 => plan_err!("function 'format' takes a text and what is put into it"),
            n => Ok(vec![DataType::Utf8; n]),
        },
        gives: |_| Ok(DataType::Utf8),
        run: |args, _| {
            let columns: Vec<&StringArray> = args.iter().map(|a| a.as_string::<i32>()).collect();
            let value = |column: usize, row: usize| {
                columns.get(column).filter(|c| c.is_valid(row)).map(|c| c.value(row))
            };
            let rows = (0..columns[0].len()).map(|row| {
                let Some(template) = value(0, row) else { return Ok(None) };
                filled(template, columns.len() - 1, |n| value(n, row)).map(Some)
            });
            Ok(Arc::new(rows.collect::<Result<StringArray>>()?) as ArrayRef)
        },
        doc: doc(
            TEXT,
            "A text with values put into it: `%s` as they are, `%I` as names, `%L` as literals.",
            "format(text, value, …)",
            "SELECT format('%I = %L', 'Total', 'it''s');  -- \"Total\" = 'it''s'",
        ),
    };
    let literal = quote(
        "quote_literal",
        |args, _| {
            let texts = args[0].as_string::<i32>().iter().map(|t| t.map(|t| as_literal(Some(t))));
            Ok(Arc::new(texts.collect::<StringArray>()) as ArrayRef)
        },
        "A text as a literal of SQL.",
        "SELECT quote_literal('it''s');  -- 'it''s'",
    );
    let nullable = quote(
        "quote_nullable",
        |args, _| {
            let texts = args[0].as_string::<i32>().iter().map(|t| Some(as_literal(t)));
            Ok(Arc::new(texts.collect::<StringArray>()) as ArrayRef)
        },
        "A text as a literal of SQL, which is NULL where there is none.",
        "SELECT quote_nullable(NULL);  -- NULL",
    );
    let convert_from = Scalar {
        name: "convert_from",
        takes: |types| exactly("convert_from", types, &[DataType::Binary, DataType::Utf8]),
        gives: |_| Ok(DataType::Utf8),
        run: |args, _| {
            let rows =
                args[0].as_binary::<i32>().iter().zip(args[1].as_string::<i32>()).map(|(bytes, encoding)| {
                    let (Some(bytes), Some(encoding)) = (bytes, encoding) else { return Ok(None) };
                    if !["utf8", "utf-8", "unicode"].iter().any(|e| encoding.eq_ignore_ascii_case(e)) {
                        return exec_err!("the only encoding is UTF8, not {encoding}");
                    }
                    let text = std::str::from_utf8(bytes);
                    text.map(|t| Some(t.to_owned()))
                        .map_err(|e| exec_datafusion_err!("invalid bytes for UTF8: {e}"))
                });
            Ok(Arc::new(rows.collect::<Result<StringArray>>()?) as ArrayRef)
        },
        doc: doc(
            TEXT,
            "Bytes as text.",
            "convert_from(bytes, encoding)",
            "SELECT convert_from(X'61', 'UTF8');  -- a",
        ),
    };
    [format, literal, nullable, convert_from].map(Scalar::udf).into()
}

fn quote(name: &'static str, run: Run, what: &str, example: &str) -> Scalar {
    Scalar {
        name,
        takes: |types| exactly("quote_literal", types, &[DataType::Utf8]),
        gives: |_| Ok(DataType::Utf8),
        run,
        doc: doc(TEXT, what, &format!("{name}(value)"), example),
    }
}

fn filled<'a>(template: &str, count: usize, value: impl Fn(usize) -> Option<&'a str>) -> Result<String> {
    let (mut out, mut rest, mut next) = (String::new(), template, 1);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        if let Some((number, after)) = rest.split_once('$')
            && let Ok(number) = number.parse::<usize>()
        {
            (next, rest) = (number, after);
        }
        let left = rest.starts_with('-');
        rest = rest.trim_start_matches('-');
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let width: usize = rest[..digits].parse().unwrap_or(0).min(10_000);
        rest = &rest[digits..];
        if next == 0 || next > count {
            return exec_err!("there are too few arguments for format");
        }
        let value = value(next);
        next += 1;
        let text = match rest.chars().next() {
            Some('s') => value.unwrap_or_default().to_owned(),
            Some('L') => as_literal(value),
            Some('I') => match value {
                Some(name) => identifier(name),
                None => return exec_err!("null values cannot be formatted as an SQL identifier"),
            },
            other => return exec_err!("format knows %s, %I and %L, not %{}", other.unwrap_or(' ')),
        };
        rest = &rest[1..];
        out.push_str(&if left { format!("{text:<width$}") } else { format!("{text:>width$}") });
    }
    out.push_str(rest);
    Ok(out)
}

fn as_literal(text: Option<&str>) -> String {
    let Some(text) = text else { return "NULL".to_owned() };
    let doubled = text.replace('\'', "''");
    match text.contains('\\') {
        true => format!(" E'{}'", doubled.replace('\\', "\\\\")),
        false => format!("'{doubled}'"),
    }
}

fn identifier(name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    match plain && !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}
