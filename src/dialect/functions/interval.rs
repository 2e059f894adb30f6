//! Intervals: times a number, `justify_…`, `make_interval`.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoArray};
use datafusion::arrow::datatypes::{
    DataType, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::ScalarUDF;

use super::scalar::{INTERVAL, Run, Scalar, TIME, doc, exactly};

const DAY: i64 = 86_400_000_000_000;

pub(super) fn udfs() -> Vec<Arc<ScalarUDF>> {
    let hours = justify(
        "justify_hours",
        |args, _| each(&args[0], justify_hours),
        "Makes a day of each 24 hours.",
        "SELECT justify_hours(INTERVAL '27 hours');  -- 1 day 03:00:00",
    );
    let days = justify(
        "justify_days",
        |args, _| each(&args[0], justify_days),
        "Makes a month of each 30 days.",
        "SELECT justify_days(INTERVAL '35 days');  -- 1 mon 5 days",
    );
    let both = justify(
        "justify_interval",
        |args, _| each(&args[0], justify_interval),
        "Makes months of days and days of hours, all of one sign.",
        "SELECT justify_interval(INTERVAL '1 month -1 hour');  -- 29 days 23:00:00",
    );
    let make = Scalar {
        name: "make_interval",
        takes: |types| match types.len() {
            0 => plan_err!("function 'make_interval' takes years, months, weeks, days, hours, mins and secs"),
            n @ 1..=7 => {
                Ok((0..n).map(|i| if i == 6 { DataType::Float64 } else { DataType::Int64 }).collect())
            }
            n => plan_err!("function 'make_interval' takes up to 7 arguments, not {n}"),
        },
        gives: |_| Ok(INTERVAL),
        run: |args, _| {
            let rows = (0..args[0].len()).map(|row| {
                if args.iter().any(|a| a.is_null(row)) {
                    return Ok(None);
                }
                let of = |i: usize| args.get(i).map_or(0, |a| a.as_primitive::<Int64Type>().value(row));
                let seconds = args.get(6).map_or(0.0, |a| a.as_primitive::<Float64Type>().value(row));
                let (months, days) = (of(0) as f64 * 12.0 + of(1) as f64, of(2) as f64 * 7.0 + of(3) as f64);
                let seconds = of(4) as f64 * 3600.0 + of(5) as f64 * 60.0 + seconds;
                checked(months, days, (seconds * 1e6).round()).map(Some)
            });
            Ok(Arc::new(rows.collect::<Result<IntervalMonthDayNanoArray>>()?) as ArrayRef)
        },
        doc: doc(
            TIME,
            "An interval of its parts; those that are left out are 0.",
            "make_interval(years, months, weeks, days, hours, mins, secs)",
            "SELECT make_interval(0, 0, 0, 10);  -- 10 days",
        ),
    };
    [hours, days, both, make].map(Scalar::udf).into()
}

fn justify(name: &'static str, run: Run, what: &str, example: &str) -> Scalar {
    Scalar {
        name,
        takes: |types| exactly("justify", types, &[INTERVAL]),
        gives: |_| Ok(INTERVAL),
        run,
        doc: doc(TIME, what, &format!("{name}(interval)"), example),
    }
}

/// What `*` between an interval and a number is.
pub(in crate::dialect) fn times_interval() -> Arc<ScalarUDF> {
    static INSTANCE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let function = Scalar {
            name: "interval_times",
            takes: |types| exactly("interval_times", types, &[INTERVAL, DataType::Float64]),
            gives: |_| Ok(INTERVAL),
            run: |args, _| {
                let factors = args[1].as_primitive::<Float64Type>();
                let intervals = args[0].as_primitive::<IntervalMonthDayNanoType>().iter().zip(factors);
                let rows = intervals.map(|(interval, factor)| match (interval, factor) {
                    (Some(interval), Some(factor)) => times(interval, factor).map(Some),
                    _ => Ok(None),
                });
                Ok(Arc::new(rows.collect::<Result<IntervalMonthDayNanoArray>>()?) as ArrayRef)
            },
            doc: doc(
                TIME,
                "An interval times a number.",
                "interval * number",
                "SELECT 3 * INTERVAL '1 day';",
            ),
        };
        function.udf()
    });
    Arc::clone(&INSTANCE)
}

/// What is less than a month becomes days, at 30 a month, and what is less than a day time, in whole
/// microseconds.
fn times(of: IntervalMonthDayNano, factor: f64) -> Result<IntervalMonthDayNano> {
    let months = f64::from(of.months) * factor;
    let days = f64::from(of.days) * factor + months.fract() * 30.0;
    let micros = of.nanoseconds as f64 / 1e3 * factor + days.fract() * DAY as f64 / 1e3;
    checked(months.trunc(), days.trunc(), micros.round())
}

fn checked(months: f64, days: f64, micros: f64) -> Result<IntervalMonthDayNano> {
    let fits =
        months.abs() <= f64::from(i32::MAX) && days.abs() <= f64::from(i32::MAX) && micros.abs() < 9.2e15;
    match fits {
        true => Ok(IntervalMonthDayNano::new(months as i32, days as i32, micros as i64 * 1000)),
        false => exec_err!("the interval is out of range"),
    }
}

fn each(intervals: &ArrayRef, f: fn(IntervalMonthDayNano) -> IntervalMonthDayNano) -> Result<ArrayRef> {
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    Ok(Arc::new(intervals.unary::<_, IntervalMonthDayNanoType>(f)))
}

fn justify_hours(of: IntervalMonthDayNano) -> IntervalMonthDayNano {
    let (mut days, mut nanos) = (i64::from(of.days) + of.nanoseconds / DAY, of.nanoseconds % DAY);
    if days > 0 && nanos < 0 {
        (days, nanos) = (days - 1, nanos + DAY);
    } else if days < 0 && nanos > 0 {
        (days, nanos) = (days + 1, nanos - DAY);
    }
    IntervalMonthDayNano::new(of.months, days as i32, nanos)
}

fn justify_days(of: IntervalMonthDayNano) -> IntervalMonthDayNano {
    let (mut months, mut days) = (of.months.saturating_add(of.days / 30), of.days % 30);
    if months > 0 && days < 0 {
        (months, days) = (months - 1, days + 30);
    } else if months < 0 && days > 0 {
        (months, days) = (months + 1, days - 30);
    }
    IntervalMonthDayNano::new(months, days, of.nanoseconds)
}

fn justify_interval(of: IntervalMonthDayNano) -> IntervalMonthDayNano {
    let days = justify_days(justify_hours(of));
    let (mut months, mut days, mut nanos) = (days.months, days.days, days.nanoseconds);
    if months > 0 && (days < 0 || (days == 0 && nanos < 0)) {
        (months, days) = (months - 1, days + 30);
    } else if months < 0 && (days > 0 || (days == 0 && nanos > 0)) {
        (months, days) = (months + 1, days - 30);
    }
    if days > 0 && nanos < 0 {
        (days, nanos) = (days - 1, nanos + DAY);
    } else if days < 0 && nanos > 0 {
        (days, nanos) = (days + 1, nanos - DAY);
    }
    IntervalMonthDayNano::new(months, days, nanos)
}
