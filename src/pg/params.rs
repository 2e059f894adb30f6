//! Values of parameters: from the bytes of a Bind message, text or binary, to what the engine takes.
//!
//! A value is read as the PostgreSQL type that the client says (or was told) it has, and then cast to the type that
//! the statement wants.

use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::scalar::ScalarValue;
use pgwire::api::Type;

use super::encode::Formats;
use super::error::{Failure, state};
use super::message::Body;
use super::types;
use crate::dialect::literal;

/// From 1970-01-01 to 2000-01-01.
const DAYS_TO_2000: i32 = 10_957;
const MICROS_TO_2000: i64 = DAYS_TO_2000 as i64 * 86_400_000_000;

/// A parameter of a prepared statement.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    /// The type on the wire.
    pub(super) wire: Type,
    /// The type that the statement wants, where known.
    pub(super) wanted: Option<DataType>,
}

impl Parameter {
    /// The client's own word on the type counts before what the statement wants.
    pub(super) fn new(declared: Option<u32>, wanted: Option<DataType>) -> Result<Self, Failure> {
        let declared = declared.filter(|oid| *oid != 0 && *oid != Type::UNKNOWN.oid());
        let wire = match (declared, &wanted) {
            (Some(oid), _) => Type::from_oid(oid).ok_or_else(|| unknown_type(oid))?,
            (None, Some(wanted)) => types::of_type(wanted),
            (None, None) => Type::TEXT,
        };
        Ok(Parameter { wire, wanted: wanted.filter(|t| *t != DataType::Null) })
    }
}

fn unknown_type(oid: u32) -> Failure {
    Failure::new(state::UNDEFINED_SETTING, format!("type with OID {oid} does not exist"))
}

/// The values of a Bind message. `zone` is the session's time zone.
pub(super) fn read(
    parameters: &[Parameter],
    values: &[Option<Bytes>],
    formats: &Formats,
    zone: &str,
) -> Result<Vec<ScalarValue>, Failure> {
    if values.len() != parameters.len() {
        return Err(Failure::new(
            state::PROTOCOL_VIOLATION,
            format!(
                "bind message supplies {} parameters, but prepared statement requires {}",
                values.len(),
                parameters.len()
            ),
        ));
    }
    formats.check(values.len(), "parameter")?;
    let each = parameters.iter().zip(values).enumerate();
    each.map(|(i, (parameter, value))| {
        one(parameter, value.as_ref(), formats.binary(i), zone)
            .map_err(|e| Failure { message: format!("parameter ${}: {}", i + 1, e.message), ..e })
    })
    .collect()
}

fn one(
    parameter: &Parameter,
    value: Option<&Bytes>,
    binary: bool,
    zone: &str,
) -> Result<ScalarValue, Failure> {
    let Parameter { wire, wanted } = parameter;
    let Some(value) = value else {
        let data_type = wanted.clone().or_else(|| natural(wire, zone)).unwrap_or(DataType::Null);
        return Ok(ScalarValue::try_new_null(&data_type)?);
    };
    let read = match binary {
        true => from_binary(wire, value.clone(), zone)?,
        false => {
            let text = std::str::from_utf8(value)
                .map_err(|_| Failure::new("22021", "invalid byte sequence for encoding \"UTF8\""))?;
            from_text(wire, text, zone)?
        }
    };
    match wanted {
        Some(wanted) if read.data_type() != *wanted => Ok(read.cast_to(wanted)?),
        _ => Ok(read),
    }
}

/// The Arrow type of values of this type, arrays included.
pub(super) fn natural(wire: &Type, zone: &str) -> Option<DataType> {
    match types::element_of(wire) {
        Some(element) => {
            let item = types::natural(&element, zone)?;
            Some(DataType::new_list(item, true))
        }
        None => types::natural(wire, zone),
    }
}

fn unsupported(wire: &Type) -> Failure {
    Failure::new(state::NOT_SUPPORTED, format!("parameters of type {} are not supported", wire.name()))
}

fn from_text(wire: &Type, text: &str, zone: &str) -> Result<ScalarValue, Failure> {
    if let Some(element) = types::element_of(wire) {
        let items = literal::array(text).ok_or_else(|| {
            Failure::new(state::INVALID_TEXT, format!("malformed array literal: \"{text}\""))
        })?;
        let items = items.iter().map(|item| match item {
            Some(text) => from_text(&element, text, zone),
            None => Ok(ScalarValue::Null),
        });
        return list(items.collect::<Result<_, _>>()?, &element, zone);
    }
    let data_type = types::natural(wire, zone).ok_or_else(|| unsupported(wire))?;
    let trimmed = text.trim();
    match data_type {
        DataType::Utf8 => Ok(ScalarValue::from(text)),
        DataType::Binary => match literal::bytes(text) {
            Some(bytes) => Ok(ScalarValue::Binary(Some(bytes))),
            None => Err(Failure::new(state::INVALID_TEXT, "invalid input syntax for type bytea")),
        },
        DataType::Decimal128(..) => decimal(trimmed),
        DataType::Date32 => scalar(wire, date(trimmed), &data_type),
        DataType::Interval(_) => match literal::interval(trimmed) {
            Some(interval) => Ok(ScalarValue::IntervalMonthDayNano(Some(interval))),
            None => scalar(wire, trimmed, &data_type),
        },
        data_type => scalar(wire, trimmed, &data_type),
    }
}

fn scalar(wire: &Type, text: &str, data_type: &DataType) -> Result<ScalarValue, Failure> {
    ScalarValue::from(text).cast_to(data_type).map_err(|_| {
        let message = format!("invalid input syntax for type {}: \"{text}\"", wire.name());
        Failure::new(state::INVALID_TEXT, message)
    })
}

/// The date in a text that may go on with a time and a zone, as JDBC's dates do.
fn date(text: &str) -> &str {
    match text.split_once([' ', 'T']) {
        Some((day, rest)) if rest.bytes().all(|b| b.is_ascii_digit() || b"+-:.Z".contains(&b)) => day,
        _ => text,
    }
}

/// A list of items that are NULL where unknown.
fn list(items: Vec<ScalarValue>, element: &Type, zone: &str) -> Result<ScalarValue, Failure> {
    let mut item_type = types::natural(element, zone).ok_or_else(|| unsupported(element))?;
    if let DataType::Decimal128(..) = item_type {
        // One scale for all of them.
        let scale = items.iter().filter_map(|i| match i.data_type() {
            DataType::Decimal128(_, s) => Some(s),
            _ => None,
        });
        item_type = DataType::Decimal128(38, scale.max().unwrap_or(0));
    }
    let items = items.iter().map(|item| item.cast_to(&item_type)).collect::<Result<Vec<_>, _>>()?;
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&items, &item_type)))
}

/// A decimal with the scale that its text has.
fn decimal(text: &str) -> Result<ScalarValue, Failure> {
    let invalid =
        || Failure::new(state::INVALID_TEXT, format!("invalid input syntax for type numeric: \"{text}\""));
    if text.contains(['e', 'E']) {
        let value: f64 = text.parse().map_err(|_| invalid())?;
        return Ok(ScalarValue::Float64(Some(value)));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let unsigned = whole.strip_prefix(['-', '+']).unwrap_or(whole);
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(unsigned) || !all_digits(fraction) || (unsigned.is_empty() && fraction.is_empty()) {
        return Err(invalid());
    }
    let out_of_range = || Failure::new(state::NUMERIC_OUT_OF_RANGE, "numeric value has more than 38 digits");
    let digits = format!("{whole}{fraction}");
    let unscaled: i128 = digits.parse().map_err(|_| out_of_range())?;
    if unscaled.unsigned_abs() >= 10u128.pow(38) || fraction.len() > 38 {
        return Err(out_of_range());
    }
    Ok(ScalarValue::Decimal128(Some(unscaled), 38, fraction.len() as i8))
}

fn from_binary(wire: &Type, value: Bytes, zone: &str) -> Result<ScalarValue, Failure> {
    let invalid = || {
        let message = format!("incorrect binary data format for type {}", wire.name());
        Failure::new(state::INVALID_BINARY, message)
    };
    if let Some(element) = types::element_of(wire) {
        return array_binary(&element, value, zone).map_err(|e| Failure { message: e.message, ..invalid() });
    }
    let bytes: &[u8] = &value;
    macro_rules! number {
        ($kind:ty) => {
            <$kind>::from_be_bytes(bytes.try_into().map_err(|_| invalid())?)
        };
    }
    Ok(match *wire {
        Type::BOOL => match bytes {
            [b] => ScalarValue::Boolean(Some(*b != 0)),
            _ => return Err(invalid()),
        },
        Type::INT2 => ScalarValue::Int16(Some(number!(i16))),
        Type::INT4 | Type::OID | Type::REGCLASS | Type::REGTYPE | Type::REGPROC | Type::REGNAMESPACE => {
            ScalarValue::Int32(Some(number!(i32)))
        }
        Type::INT8 => ScalarValue::Int64(Some(number!(i64))),
        Type::FLOAT4 => ScalarValue::Float32(Some(number!(f32))),
        Type::FLOAT8 => ScalarValue::Float64(Some(number!(f64))),
        Type::BYTEA => ScalarValue::Binary(Some(bytes.to_vec())),
        Type::DATE => ScalarValue::Date32(Some(number!(i32).checked_add(DAYS_TO_2000).ok_or_else(invalid)?)),
        Type::TIME => ScalarValue::Time64Microsecond(Some(number!(i64))),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let micros = number!(i64).checked_add(MICROS_TO_2000).ok_or_else(invalid)?;
            let zone = (*wire == Type::TIMESTAMPTZ).then(|| zone.into());
            ScalarValue::TimestampMicrosecond(Some(micros), zone)
        }
        Type::INTERVAL => {
            let mut body = Body(value.clone());
            let micros = i64::from(body.i32()?) << 32 | i64::from(body.i32()? as u32);
            let (days, months) = (body.i32()?, body.i32()?);
            let nanoseconds = micros.checked_mul(1000).ok_or_else(invalid)?;
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds }))
        }
        Type::NUMERIC => decimal(&numeric_binary(Body(value.clone()))?)?,
        Type::UUID => {
            let id = uuid::Uuid::from_slice(bytes).map_err(|_| invalid())?;
            ScalarValue::from(id.to_string())
        }
        // One byte of version in front of the text.
        Type::JSONB => match bytes {
            [1, text @ ..] => ScalarValue::from(std::str::from_utf8(text).map_err(|_| invalid())?),
            _ => return Err(invalid()),
        },
        _ => match types::natural(wire, zone) {
            Some(DataType::Utf8) => ScalarValue::from(std::str::from_utf8(bytes).map_err(|_| invalid())?),
            _ => return Err(unsupported(wire)),
        },
    })
}

/// The text of a binary numeric.
fn numeric_binary(mut body: Body) -> Result<String, Failure> {
    let (count, weight, sign, scale) = (body.i16()?, body.i16()?, body.i16()? as u16, body.i16()?);
    if !matches!(sign, 0 | 0x4000) {
        return Err(Failure::new(state::NUMERIC_OUT_OF_RANGE, "numeric parameters must be finite"));
    }
    let mut groups = Vec::new();
    for _ in 0..count.max(0) {
        groups.push(body.i16()?);
    }
    // Only so many digits can be held; a weight beyond that must not reserve memory.
    if !(-20..=10).contains(&weight) || !(0..=38).contains(&scale) {
        return Err(Failure::new(state::NUMERIC_OUT_OF_RANGE, "numeric value has more than 38 digits"));
    }
    let group = |i: i16| usize::try_from(i).ok().and_then(|i| groups.get(i)).copied().unwrap_or(0);
    let whole: String = (0..=weight.max(-1)).map(|i| format!("{:04}", group(i))).collect();
    let fraction: String = (0..10).map(|i| format!("{:04}", group(weight + 1 + i))).collect();
    let fraction = &fraction[..scale as usize];
    let sign = if sign == 0 { "" } else { "-" };
    let point = if fraction.is_empty() { "" } else { "." };
    Ok(format!("{sign}0{whole}{point}{fraction}"))
}

fn array_binary(element: &Type, value: Bytes, zone: &str) -> Result<ScalarValue, Failure> {
    let mut body = Body(value);
    let (dimensions, _nulls, sent) = (body.i32()?, body.i32()?, body.i32()?);
    let element = Type::from_oid(sent as u32).unwrap_or_else(|| element.clone());
    let items = match dimensions {
        0 => vec![],
        1 => {
            let (count, _lower) = (body.i32()?, body.i32()?);
            let mut items = Vec::new();
            for _ in 0..count {
                items.push(match body.value()? {
                    Some(value) => from_binary(&element, value, zone)?,
                    None => ScalarValue::Null,
                });
            }
            items
        }
        _ => {
            return Err(Failure::new(
                state::NOT_SUPPORTED,
                "arrays of several dimensions are not supported as parameters",
            ));
        }
    };
    list(items, &element, zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(wire: Type, text: &str) -> Result<ScalarValue, Failure> {
        from_text(&wire, text, "Europe/Berlin")
    }

    #[test]
    fn values_from_text() {
        assert_eq!(text(Type::BOOL, "t").unwrap(), ScalarValue::Boolean(Some(true)));
        assert_eq!(text(Type::INT4, " 42 ").unwrap(), ScalarValue::Int32(Some(42)));
        assert_eq!(text(Type::BYTEA, "\\x00ff").unwrap(), ScalarValue::Binary(Some(vec![0, 255])));
        assert_eq!(text(Type::BYTEA, "a\\\\\\001").unwrap(), ScalarValue::Binary(Some(b"a\\\x01".to_vec())));
        assert_eq!(text(Type::NUMERIC, "-1.250").unwrap(), ScalarValue::Decimal128(Some(-1250), 38, 3));
        assert_eq!(text(Type::DATE, "2000-01-01").unwrap(), ScalarValue::Date32(Some(10_957)));
        for shown in ["2000-01-01 +00", "2000-01-01 23:59:59.5+02", "2000-01-01T00:00:00Z"] {
            assert_eq!(text(Type::DATE, shown).unwrap(), ScalarValue::Date32(Some(10_957)), "{shown}");
        }
        assert!(text(Type::DATE, "2000-01-01 or so").is_err());
        for (shown, months, days, nanoseconds) in [
            ("1 mon 2 days 03:04:05", 1, 2, 11_045_000_000_000),
            ("1 year 2 mons -3 days +00:00:00.7", 14, -3, 700_000_000),
            ("-00:00:01.000001", 0, 0, -1_000_001_000),
            ("2 weeks", 0, 14, 0),
        ] {
            let interval = ScalarValue::new_interval_mdn(months, days, nanoseconds);
            assert_eq!(text(Type::INTERVAL, shown).unwrap(), interval, "{shown}");
        }
        assert_eq!(
            text(Type::TIMESTAMPTZ, "2024-07-01 02:00:00").unwrap(),
            text(Type::TIMESTAMPTZ, "2024-07-01 00:00:00+00").unwrap()
        );
        for (wire, bad) in [(Type::INT4, "x"), (Type::NUMERIC, "."), (Type::BYTEA, "\\x0"), (Type::DATE, "?")]
        {
            assert!(text(wire, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mutated_binary_values_are_errors_or_values() {
        for wire in [Type::NUMERIC, Type::INTERVAL, Type::INT4_ARRAY, Type::NUMERIC_ARRAY, Type::UUID] {
            for length in 0..40 {
                for fill in [0u8, 1, 0x40, 0x7f, 0xff] {
                    let _ = from_binary(&wire, Bytes::from(vec![fill; length]), "UTC");
                }
            }
        }
    }
}
