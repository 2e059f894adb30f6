//! `timezone(zone, time)`, which is what `time AT TIME ZONE zone` says, and the clock of the session's zone.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, plan_err};
use datafusion::logical_expr::ScalarUDF;

use super::scalar::{Scalar, TIME, TIMESTAMP, doc, micros, timestamptz};

pub(super) fn udf() -> Arc<ScalarUDF> {
    let function = Scalar {
        name: "timezone",
        takes: |types| match types {
            [_, t @ DataType::Timestamp(..)] => Ok(vec![DataType::Utf8, micros(t)]),
            // As in PostgreSQL, what could be either is an instant.
            [_, DataType::Date32 | DataType::Utf8 | DataType::Utf8View | DataType::Null] => {
                Ok(vec![DataType::Utf8, timestamptz()])
            }
            _ => plan_err!("function 'timezone' takes the name of a zone and a timestamp"),
        },
        gives: |types| match types {
            [_, DataType::Timestamp(_, Some(_))] => Ok(TIMESTAMP),
            _ => Ok(timestamptz()),
        },
        run: |args, _| {
            let (zones, times) =
                (args[0].as_string::<i32>(), args[1].as_primitive::<TimestampMicrosecondType>());
            let instants = matches!(args[1].data_type(), DataType::Timestamp(_, Some(_)));
            let mut known: Option<(String, Tz)> = None;
            let rows = zones.iter().zip(times).map(|(zone, time)| {
                let (Some(name), Some(time)) = (zone, time) else { return Ok(None) };
                if known.as_ref().is_none_or(|(last, _)| last != name) {
                    known = Some((name.to_owned(), named(name)?));
                }
                let Some((_, zone)) = &known else { return Ok(None) };
                let shifted = if instants { clock_at(*zone, time) } else { instant_of(*zone, time) };
                shifted.map(Some).ok_or_else(out_of_range)
            });
            let rows = rows.collect::<Result<TimestampMicrosecondArray>>()?;
            Ok(match instants {
                true => Arc::new(rows) as ArrayRef,
                false => Arc::new(rows.with_timezone("UTC")),
            })
        },
        doc: doc(
            TIME,
            "What a clock in a time zone shows at an instant, or the instant at which it shows a timestamp. \
             `time AT TIME ZONE zone` is the same.",
            "timezone(zone, time)",
            "SELECT timezone('Europe/Paris', TIMESTAMPTZ '2026-07-31 12:00:00Z');  -- 2026-07-31 14:00:00",
        ),
    };
    function.udf()
}

/// The zone of a name of the IANA database, in any case, or of an offset.
pub(super) fn named(name: &str) -> Result<Tz> {
    let name = name.trim();
    if name.eq_ignore_ascii_case("utc") || name.eq_ignore_ascii_case("z") {
        return Ok(Tz::from_str("UTC")?);
    }
    Tz::from_str(name).or_else(|_| {
        let known = chrono_tz::TZ_VARIANTS.into_iter().find(|z| z.name().eq_ignore_ascii_case(name));
        let zone = known.and_then(|z| Tz::from_str(z.name()).ok());
        zone.ok_or_else(|| exec_datafusion_err!("time zone \"{name}\" not recognized"))
    })
}

fn out_of_range() -> DataFusionError {
    exec_datafusion_err!("timestamp out of range")
}

/// What the clock of a zone shows at an instant.
pub(super) fn clock_at(zone: Tz, micros: i64) -> Option<i64> {
    let utc = DateTime::<Utc>::from_timestamp_micros(micros)?.naive_utc();
    let offset = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
    micros.checked_add(i64::from(offset) * 1_000_000)
}

/// When the clock of a zone shows a time: of two such instants the later one, and where it skips the time,
/// what it would have been without the skip.
pub(super) fn instant_of(zone: Tz, micros: i64) -> Option<i64> {
    let shown = DateTime::<Utc>::from_timestamp_micros(micros)?.naive_utc();
    let offset = match zone.offset_from_local_datetime(&shown) {
        LocalResult::Single(offset) => offset,
        LocalResult::Ambiguous(_, later) => later,
        LocalResult::None => zone.offset_from_utc_datetime(&(shown - TimeDelta::days(1))),
    };
    micros.checked_sub(i64::from(offset.fix().local_minus_utc()) * 1_000_000)
}

/// A timestamp column as the clock of its own zone shows it: TIMESTAMP stays, TIMESTAMPTZ becomes what the clock shows.
pub(super) fn local(column: &ArrayRef) -> Result<ArrayRef> {
    let DataType::Timestamp(_, Some(zone)) = column.data_type() else { return Ok(cast(column, &TIMESTAMP)?) };
    let zone = named(zone)?;
    let column = cast(column, &timestamptz())?;
    let rows = column.as_primitive::<TimestampMicrosecondType>().iter();
    let rows = rows.map(|t| t.map(|t| clock_at(zone, t).ok_or_else(out_of_range)).transpose());
    Ok(Arc::new(rows.collect::<Result<TimestampMicrosecondArray>>()?))
}

/// Now, as the clock of a zone shows it.
pub(super) fn now_in(zone: Option<&str>) -> Result<NaiveDateTime> {
    let now = Utc::now().timestamp_micros();
    let shown = clock_at(named(zone.unwrap_or("UTC"))?, now).and_then(DateTime::<Utc>::from_timestamp_micros);
    shown.map(|t| t.naive_utc()).ok_or_else(out_of_range)
}
