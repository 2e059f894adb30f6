//! `age`: the years, months, days and time between two timestamps, as a person counts them.

use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, TimestampMicrosecondType};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::ScalarUDF;

use super::scalar::{INTERVAL, Scalar, TIME, TIMESTAMP, doc, micros};
use super::timezone::local;

pub(super) fn udfs() -> Vec<Arc<ScalarUDF>> {
    let age = Scalar {
        name: "age",
        takes: |types| {
            let instant = |t: &DataType| matches!(t, DataType::Timestamp(_, Some(_)));
            // With the zone that the first has.
            let wanted = types.iter().find(|t| instant(t)).map_or(TIMESTAMP, micros);
            match types.len() {
                1 | 2 => Ok(vec![wanted; types.len()]),
                n => plan_err!("function 'age' takes 1 or 2 timestamps, not {n} arguments"),
            }
        },
        gives: |_| Ok(INTERVAL),
        run: |args, config| {
            let args = args.iter().map(local).collect::<Result<Vec<_>>>()?;
            let zone = config.execution.time_zone.as_deref();
            let today = super::timezone::now_in(zone)?.date().and_hms_opt(0, 0, 0);
            let of = |i: usize, row: usize| -> Option<NaiveDateTime> {
                let column = args.get(i)?.as_primitive::<TimestampMicrosecondType>();
                let micros = column.is_valid(row).then(|| column.value(row))?;
                DateTime::<Utc>::from_timestamp_micros(micros).map(|t| t.naive_utc())
            };
            let rows = (0..args[0].len()).map(|row| match args.len() {
                1 => Some(between(of(0, row)?, today?)),
                _ => Some(between(of(1, row)?, of(0, row)?)),
            });
            Ok(Arc::new(rows.collect::<IntervalMonthDayNanoArray>()) as ArrayRef)
        },
        doc: doc(
            TIME,
            "The years, months, days and time from the second timestamp to the first; with one, to today.",
            "age(to, from)",
            "SELECT age(TIMESTAMP '2001-04-10', TIMESTAMP '1957-06-13');  -- 43 years 9 mons 27 days",
        ),
    };
    let isfinite = Scalar {
        name: "isfinite",
        takes: |types| match types {
            [t @ (DataType::Date32 | DataType::Timestamp(..) | DataType::Interval(_))] => Ok(vec![t.clone()]),
            [_] => Ok(vec![TIMESTAMP]),
            _ => plan_err!("function 'isfinite' takes 1 argument, not {}", types.len()),
        },
        gives: |_| Ok(DataType::Boolean),
        // Nothing here is infinite.
        run: |args, _| {
            let known = datafusion::arrow::compute::is_not_null(&args[0])?;
            let nulls = args[0].nulls().cloned();
            Ok(Arc::new(datafusion::arrow::array::BooleanArray::new(known.values().clone(), nulls))
                as ArrayRef)
        },
        doc: doc(
            TIME,
            "Whether a date, timestamp or interval is not infinite: each is.",
            "isfinite(time)",
            "SELECT isfinite(DATE '2026-01-31');  -- true",
        ),
    };
    let make_timestamp = Scalar {
        name: "make_timestamp",
        takes: |types| {
            let mut wanted = vec![DataType::Int32; 5];
            wanted.push(DataType::Float64);
            super::scalar::exactly("make_timestamp", types, &wanted)
        },
        gives: |_| Ok(TIMESTAMP),
        run: |args, _| {
            use datafusion::arrow::datatypes::{Float64Type, Int32Type};
            let rows = (0..args[0].len()).map(|row| {
                if args.iter().any(|a| a.is_null(row)) {
                    return Ok(None);
                }
                let of = |i: usize| args[i].as_primitive::<Int32Type>().value(row);
                let seconds = args[5].as_primitive::<Float64Type>().value(row);
                let date = NaiveDate::from_ymd_opt(of(0), of(1) as u32, of(2) as u32);
                let minute = date.and_then(|d| d.and_hms_opt(of(3) as u32, of(4) as u32, 0));
                match minute.filter(|_| (0.0..=60.0).contains(&seconds)) {
                    Some(at) => Ok(Some(at.and_utc().timestamp_micros() + (seconds * 1e6).round() as i64)),
                    None => datafusion::common::exec_err!("date or time out of range"),
                }
            });
            let rows = rows.collect::<Result<datafusion::arrow::array::TimestampMicrosecondArray>>()?;
            Ok(cast(&rows, &TIMESTAMP)?)
        },
        doc: doc(
            TIME,
            "A timestamp of its parts.",
            "make_timestamp(year, month, day, hour, minute, second)",
            "SELECT make_timestamp(2026, 1, 31, 8, 15, 23.5);  -- 2026-01-31 08:15:23.5",
        ),
    };
    [age, isfinite, make_timestamp].map(Scalar::udf).into()
}

/// From one time to another: negative in all its parts where the second is earlier.
fn between(from: NaiveDateTime, to: NaiveDateTime) -> IntervalMonthDayNano {
    if to < from {
        let back = between(to, from);
        return IntervalMonthDayNano::new(-back.months, -back.days, -back.nanoseconds);
    }
    let nanos = |t: NaiveDateTime| {
        i64::from(t.num_seconds_from_midnight()) * 1_000_000_000 + i64::from(t.nanosecond())
    };
    let mut months = (to.year() - from.year()) * 12 + to.month() as i32 - from.month() as i32;
    let mut days = to.day() as i32 - from.day() as i32;
    let mut time = nanos(to) - nanos(from);
    if time < 0 {
        (days, time) = (days - 1, time + 86_400_000_000_000);
    }
    if days < 0 {
        // The month that the earlier time lies in is the one that is not full.
        (months, days) = (months - 1, days + length_of_month(from.date()));
    }
    IntervalMonthDayNano::new(months, days, time)
}

fn length_of_month(date: NaiveDate) -> i32 {
    let next = match date.month() {
        12 => NaiveDate::from_ymd_opt(date.year() + 1, 1, 1),
        month => NaiveDate::from_ymd_opt(date.year(), month + 1, 1),
    };
    let first = date.with_day(1);
    next.zip(first).map_or(30, |(next, first)| (next - first).num_days() as i32)
}
