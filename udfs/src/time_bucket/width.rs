//! The width of buckets, and the calendar arithmetic that counts them.

use std::fmt;

use datafusion::arrow::array::types::IntervalMonthDayNano;
use datafusion::arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use datafusion::common::{ScalarValue, plan_datafusion_err, plan_err};
use datafusion::error::{DataFusionError, Result};

pub(super) const MILLISECOND: i64 = 1_000;
pub(super) const SECOND: i64 = 1_000 * MILLISECOND;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;

/// As many as a timestamp in nanoseconds can tell apart from each other; more is an accident.
const MAX_DAYS: i32 = 100_000;

/// The width of a bucket: a number of months, of days, or of microseconds; always positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BucketWidth(pub(super) Unit);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Unit {
    Months(i32),
    Days(i32),
    Micros(i64),
}

impl BucketWidth {
    /// Reads a width such as `15 minutes`, `1 day` or `3 months`.
    pub fn parse(text: &str) -> Result<Self> {
        let unreadable = || {
            plan_datafusion_err!(
                "cannot read the bucket width '{text}': \
                 write a number and a unit, such as '15 minutes' or '1 month'"
            )
        };
        // An interval without a unit has a default unit, and another one in each dialect.
        if !text.contains(|c: char| c.is_ascii_alphabetic()) {
            return Err(unreadable());
        }
        parse_interval_month_day_nano(text).map_err(|_| unreadable())?.try_into()
    }

    /// The width of the buckets into which `date_trunc(unit, …)` cuts timestamps in UTC.
    pub fn date_trunc_equivalent(unit: &str) -> Option<Self> {
        Some(Self(match unit.to_ascii_lowercase().as_str() {
            "microsecond" => Unit::Micros(1),
            "millisecond" => Unit::Micros(MILLISECOND),
            "second" => Unit::Micros(SECOND),
            "minute" => Unit::Micros(MINUTE),
            "hour" => Unit::Micros(HOUR),
            "day" => Unit::Days(1),
            "week" => Unit::Days(7),
            "month" => Unit::Months(1),
            "quarter" => Unit::Months(3),
            "year" => Unit::Months(12),
            _ => return None,
        }))
    }

    fn new(months: i32, days: i32, nanos: i64) -> Result<Self> {
        let unit = match (months, days, nanos) {
            (0, 0, nanos) if nanos % 1_000 != 0 => {
                return plan_err!(
                    "a bucket width is a whole number of microseconds, not {nanos} nanoseconds"
                );
            }
            (0, 0, nanos) if nanos > 0 => Unit::Micros(nanos / 1_000),
            (0, days, 0) if days > MAX_DAYS => {
                return plan_err!("a bucket width of {days} days is too large: use months or years");
            }
            (0, days, 0) if days > 0 => Unit::Days(days),
            (months, 0, 0) if months > 0 => Unit::Months(months),
            (months, days, nanos) if months <= 0 && days <= 0 && nanos <= 0 => {
                return plan_err!("a bucket width must be positive: use for example INTERVAL '1 hour'");
            }
            _ => {
                return plan_err!(
                    "a bucket width must be either months, or days, or a time: \
                     write '36 hours' for '1 day 12 hours', and '30 days' or '1 month' for a mixture of those"
                );
            }
        };
        Ok(Self(unit))
    }
}

impl TryFrom<IntervalMonthDayNano> for BucketWidth {
    type Error = DataFusionError;

    fn try_from(interval: IntervalMonthDayNano) -> Result<Self> {
        Self::new(interval.months, interval.days, interval.nanoseconds)
    }
}

/// Reads an interval of any kind, or a string.
impl TryFrom<&ScalarValue> for BucketWidth {
    type Error = DataFusionError;

    fn try_from(value: &ScalarValue) -> Result<Self> {
        match value {
            ScalarValue::IntervalMonthDayNano(Some(interval)) => (*interval).try_into(),
            ScalarValue::IntervalDayTime(Some(interval)) => {
                Self::new(0, interval.days, i64::from(interval.milliseconds) * 1_000_000)
            }
            ScalarValue::IntervalYearMonth(Some(months)) => Self::new(*months, 0, 0),
            value => match value.try_as_str() {
                Some(Some(text)) => Self::parse(text),
                _ => plan_err!(
                    "a bucket width must be an interval such as INTERVAL '1 hour', not {value} of type {}",
                    value.data_type()
                ),
            },
        }
    }
}

/// Text that [`BucketWidth::parse`] reads back.
impl fmt::Display for BucketWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match self.0 {
            Unit::Months(n) if n % 12 == 0 => (i64::from(n / 12), "year"),
            Unit::Months(n) => (i64::from(n), "month"),
            Unit::Days(n) if n % 7 == 0 => (i64::from(n / 7), "week"),
            Unit::Days(n) => (i64::from(n), "day"),
            Unit::Micros(n) if n % HOUR == 0 => (n / HOUR, "hour"),
            Unit::Micros(n) if n % MINUTE == 0 => (n / MINUTE, "minute"),
            Unit::Micros(n) if n % SECOND == 0 => (n / SECOND, "second"),
            Unit::Micros(n) if n % MILLISECOND == 0 => (n / MILLISECOND, "millisecond"),
            Unit::Micros(n) => (n, "microsecond"),
        };
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}

/// Where buckets of whole months start: `months` apart, at the day and time of the first.
///
/// A month that is too short for the day starts its bucket on its last day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct MonthGrid {
    /// Months in a bucket.
    months: i64,
    /// The month in which bucket 0 starts, counted from January of the year 0.
    first: i64,
    /// The day of the month.
    day: i64,
    /// Microseconds since midnight.
    time: i64,
}

impl MonthGrid {
    /// Buckets of `months`, one of which starts when the wall clock shows `origin`.
    pub(super) fn new(months: i32, origin: i128) -> Self {
        let (first, day) = month_and_day(origin.div_euclid(i128::from(DAY)) as i64);
        let time = origin.rem_euclid(i128::from(DAY)) as i64;
        Self { months: i64::from(months), first, day, time }
    }

    /// The number of the bucket that a wall-clock time is in.
    pub(super) fn index(&self, wall: i128) -> i64 {
        let (month, _) = month_and_day(wall.div_euclid(i128::from(DAY)) as i64);
        let index = (month - self.first).div_euclid(self.months);
        if self.start(index) <= wall { index } else { index - 1 }
    }

    /// The wall-clock time at which a bucket starts.
    pub(super) fn start(&self, index: i64) -> i128 {
        let month = self.first + index * self.months;
        let day = self.day.min(first_day(month + 1) - first_day(month));
        i128::from(first_day(month) + day - 1) * i128::from(DAY) + i128::from(self.time)
    }

    /// The time of day at which buckets start.
    pub(super) fn time_of_day(&self) -> i64 {
        self.time
    }

    /// Whether every start of this grid is a start of `finer` too.
    pub(super) fn nests_in(&self, finer: &MonthGrid) -> bool {
        self.months % finer.months == 0
            && (self.first - finer.first) % finer.months == 0
            && (self.day, self.time) == (finer.day, finer.time)
    }
}

// Howard Hinnant's calendar algorithms (https://howardhinnant.github.io/date_algorithms.html), in months.
// Unlike chrono's dates they hold for every timestamp in microseconds. Years begin in March, so that leap
// days come last.

/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;
/// Days in the 400 years after which the calendar repeats.
const ERA: i64 = 146_097;

/// The month, counted from January of the year 0, and the day of the month of a day since 1970-01-01.
fn month_and_day(day: i64) -> (i64, i64) {
    let day = day + EPOCH;
    let (era, day) = (day.div_euclid(ERA), day.rem_euclid(ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    ((400 * era + year) * 12 + month + 2, day_of_year - (153 * month + 2) / 5 + 1)
}

/// The first day, since 1970-01-01, of a month counted from January of the year 0.
fn first_day(month: i64) -> i64 {
    let (year, month) = ((month - 2).div_euclid(12), (month - 2).rem_euclid(12));
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    era * ERA + 365 * year + year / 4 - year / 100 + (153 * month + 2) / 5 - EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    use chrono::{Datelike, NaiveDate};
    use datafusion::arrow::array::types::IntervalDayTime;

    #[test]
    fn widths_are_parsed_and_shown() {
        let cases = [
            ("1 hour", Unit::Micros(HOUR)),
            ("15 minutes", Unit::Micros(15 * MINUTE)),
            ("90 minutes", Unit::Micros(90 * MINUTE)),
            ("24 hours", Unit::Micros(DAY)),
            ("1500 milliseconds", Unit::Micros(1_500 * MILLISECOND)),
            ("7 microseconds", Unit::Micros(7)),
            ("1 day", Unit::Days(1)),
            ("2 weeks", Unit::Days(14)),
            ("1 month", Unit::Months(1)),
            ("5 months", Unit::Months(5)),
            ("10 years", Unit::Months(120)),
        ];
        for (text, unit) in cases {
            let width = BucketWidth::parse(text).unwrap();
            assert_eq!(width.0, unit, "{text}");
            assert_eq!(BucketWidth::parse(&width.to_string()).unwrap(), width, "{width}");
        }
        assert_eq!(BucketWidth::parse("1.5 hours").unwrap().to_string(), "90 minutes");
    }

    #[test]
    fn intervals_of_every_kind_are_widths() {
        let day_time = ScalarValue::IntervalDayTime(Some(IntervalDayTime::new(0, 60_000)));
        assert_eq!(BucketWidth::try_from(&day_time).unwrap().0, Unit::Micros(MINUTE));
        let year_month = ScalarValue::IntervalYearMonth(Some(12));
        assert_eq!(BucketWidth::try_from(&year_month).unwrap().0, Unit::Months(12));
        let text = ScalarValue::Utf8View(Some("1 week".into()));
        assert_eq!(BucketWidth::try_from(&text).unwrap().0, Unit::Days(7));
    }

    #[test]
    fn what_is_not_a_width_is_refused() {
        let cases = [
            ("", "cannot read the bucket width"),
            ("15", "cannot read the bucket width"),
            ("an hour", "cannot read the bucket width"),
            ("0 hours", "must be positive"),
            ("-1 day", "must be positive"),
            ("1 month 1 day", "either months, or days, or a time"),
            ("1 day 12 hours", "either months, or days, or a time"),
            ("1 month -1 hour", "either months, or days, or a time"),
            ("1 nanosecond", "whole number of microseconds"),
            ("1000000 days", "too large"),
        ];
        for (text, expected) in cases {
            let error = BucketWidth::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        for value in [ScalarValue::Int64(Some(5)), ScalarValue::IntervalMonthDayNano(None)] {
            let error = BucketWidth::try_from(&value).unwrap_err().to_string();
            assert!(error.contains("must be an interval"), "{error}");
        }
    }

    #[test]
    fn the_calendar_is_that_of_chrono() {
        for day in (-1_000_000..1_000_000).step_by(13) {
            let date = NaiveDate::from_epoch_days(day).unwrap();
            let month = i64::from(date.year()) * 12 + i64::from(date.month0());
            assert_eq!(month_and_day(day.into()), (month, date.day().into()), "{date}");
            assert_eq!(first_day(month), i64::from(date.with_day(1).unwrap().to_epoch_days()), "{date}");
        }
    }

    #[test]
    fn months_too_short_for_the_origin_start_on_their_last_day() {
        let wall =
            |text: &str| i128::from(text.parse::<NaiveDate>().unwrap().to_epoch_days()) * i128::from(DAY);
        let grid = MonthGrid::new(1, wall("2024-01-31"));
        for (date, start) in [
            ("2024-01-31", "2024-01-31"),
            ("2024-02-28", "2024-01-31"),
            ("2024-02-29", "2024-02-29"),
            ("2024-03-30", "2024-02-29"),
            ("2024-03-31", "2024-03-31"),
            ("2023-12-31", "2023-12-31"),
            ("2023-12-30", "2023-11-30"),
        ] {
            assert_eq!(grid.start(grid.index(wall(date))), wall(start), "{date}");
        }
    }
}
