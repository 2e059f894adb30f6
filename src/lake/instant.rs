//! Instants as people write and read them.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;

use crate::error::{Error, Result};

/// Microseconds since 1970 of a date, a timestamp, or either as text in a spelling of PostgreSQL's. A value that names no
/// zone is one of `zone`, or of UTC.
pub fn instant(value: &ScalarValue, zone: Option<&str>) -> Result<i64> {
    let text = value.try_as_str().flatten().map(str::trim);
    match text.map(str::to_lowercase).as_deref() {
        Some("infinity") => return Ok(i64::MAX),
        Some("-infinity") => return Ok(i64::MIN),
        _ => {}
    }
    let t = value.data_type();
    if text.is_none() && !matches!(t, DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64) {
        return Err(Error::invalid_input(format!("{value} has type {t}, and has to be a date or timestamp")));
    }
    let value = text.map_or_else(|| value.clone(), |text| ScalarValue::from(with_seconds(text)));
    let wanted = DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    match value.cast_to(&wanted) {
        Ok(ScalarValue::TimestampMicrosecond(Some(micros), _)) => Ok(micros),
        Ok(_) => Err(Error::not_null("a date or timestamp may not be NULL")),
        Err(_) => Err(Error::invalid_value(format!("'{value}' is not a date or timestamp"))
            .with_hint("write it as '2026-03-01', '2026-03-01 12:00:00' or '2026-03-01 12:00:00+01:00'")),
    }
}

/// `2026-03-01 12:00` has no seconds, which the engine wants.
fn with_seconds(text: &str) -> String {
    match (text.get(13..14), text.get(16..17), text.get(..16), text.get(16..)) {
        (Some(":"), after, Some(minutes), Some(rest)) if after != Some(":") => format!("{minutes}:00{rest}"),
        _ => text.to_owned(),
    }
}

/// As messages show it.
pub fn shown(micros: i64) -> String {
    match micros {
        i64::MIN => "-infinity".to_owned(),
        i64::MAX => "infinity".to_owned(),
        _ => chrono::DateTime::from_timestamp_micros(micros)
            .map_or(micros.to_string(), |t| t.format("%F %T%.fZ").to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_instant_is_the_same_one() {
        let noon = 1_772_366_400_000_000; // 2026-03-01 12:00:00 UTC
        for text in [
            "2026-03-01 12:00:00",
            "2026-03-01T12:00:00Z",
            " 2026-03-01 12:00 ",
            "2026-03-01 13:00+01",
            "2026-03-01 13:00:00+01",
            "2026-03-01 13:00:00+01:00",
            "2026-03-01 12:00:00.000000+00",
        ] {
            assert_eq!(instant(&ScalarValue::from(text), None).unwrap(), noon, "{text}");
        }
        let berlin = instant(&ScalarValue::from("2026-03-01 13:00:00"), Some("Europe/Berlin")).unwrap();
        assert_eq!(berlin, noon);
        assert_eq!(instant(&ScalarValue::Date32(Some(20_513)), None).unwrap(), noon - 43_200_000_000);
        let zoned = ScalarValue::TimestampSecond(Some(noon / 1_000_000), Some("Asia/Kolkata".into()));
        assert_eq!(instant(&zoned, None).unwrap(), noon);
        assert_eq!(instant(&ScalarValue::from("Infinity"), None).unwrap(), i64::MAX);
        assert_eq!(shown(noon), "2026-03-01 12:00:00Z");
    }

    #[test]
    fn what_is_no_instant_is_refused_with_its_kind() {
        let code = |value: ScalarValue| instant(&value, None).unwrap_err().kind().sqlstate();
        assert_eq!(code(ScalarValue::from("noon")), "22P02");
        assert_eq!(code(ScalarValue::Int64(Some(5))), "22023");
        assert_eq!(code(ScalarValue::TimestampSecond(None, None)), "23502");
    }
}
