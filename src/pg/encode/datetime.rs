//! Dates, times and intervals, in the ISO style.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike};
use chrono_tz::Tz;
use datafusion::arrow::datatypes::IntervalMonthDayNano;

use crate::pg::error::{Failure, state};

/// Days and microseconds from 1970-01-01, where Arrow counts from, to 2000-01-01, where PostgreSQL does.
const DAYS_TO_2000: i32 = 10_957;
const MICROS_TO_2000: i64 = DAYS_TO_2000 as i64 * 86_400_000_000;

fn out_of_range(what: &str) -> Failure {
    Failure::new(state::DATETIME_OUT_OF_RANGE, format!("{what} out of range"))
}

pub(super) fn date_text(days: i32, out: &mut BytesMut) -> Result<(), Failure> {
    let date = NaiveDate::from_epoch_days(days).ok_or_else(|| out_of_range("date"))?;
    write_date(date, out);
    write_era(date, out);
    Ok(())
}

pub(super) fn date_binary(days: i32, out: &mut BytesMut) -> Result<(), Failure> {
    out.put_i32(days.checked_sub(DAYS_TO_2000).ok_or_else(|| out_of_range("date"))?);
    Ok(())
}

pub(super) fn time_text(micros: i64, out: &mut BytesMut) {
    // 24:00:00 is a time of its own and does not wrap.
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    two_digits(seconds / 3600, out);
    out.put_u8(b':');
    two_digits(seconds / 60 % 60, out);
    out.put_u8(b':');
    two_digits(seconds % 60, out);
    write_fraction(fraction, out);
}

pub(super) fn timestamp_text(micros: i64, out: &mut BytesMut) -> Result<(), Failure> {
    let at = DateTime::from_timestamp_micros(micros).ok_or_else(|| out_of_range("timestamp"))?.naive_utc();
    write_timestamp(at, out);
    write_era(at.date(), out);
    Ok(())
}

pub(super) fn timestamptz_text(micros: i64, zone: Tz, out: &mut BytesMut) -> Result<(), Failure> {
    let utc = DateTime::from_timestamp_micros(micros).ok_or_else(|| out_of_range("timestamp"))?.naive_utc();
    let offset = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
    let local = utc
        .checked_add_signed(chrono::TimeDelta::seconds(i64::from(offset)))
        .ok_or_else(|| out_of_range("timestamp"))?;
    write_timestamp(local, out);
    out.put_u8(if offset < 0 { b'-' } else { b'+' });
    let offset = i64::from(offset.abs());
    two_digits(offset / 3600, out);
    if offset % 3600 != 0 {
        out.put_u8(b':');
        two_digits(offset / 60 % 60, out);
    }
    if offset % 60 != 0 {
        out.put_u8(b':');
        two_digits(offset % 60, out);
    }
    write_era(local.date(), out);
    Ok(())
}

pub(super) fn timestamp_binary(micros: i64, out: &mut BytesMut) -> Result<(), Failure> {
    out.put_i64(micros.checked_sub(MICROS_TO_2000).ok_or_else(|| out_of_range("timestamp"))?);
    Ok(())
}

/// Months, days and a time, each with its own sign, as `1 year 2 mons -3 days +04:05:06.7`.
pub(super) fn interval_text(value: IntervalMonthDayNano, out: &mut BytesMut) {
    let start = out.len();
    let mut negative_before = false;
    let parts = [(value.months / 12, "year"), (value.months % 12, "mon"), (value.days, "day")];
    for (n, unit) in parts {
        if n == 0 {
            continue;
        }
        let space = if out.len() > start { " " } else { "" };
        let sign = if negative_before && n > 0 { "+" } else { "" };
        let plural = if n == 1 { "" } else { "s" };
        let _ = write!(out, "{space}{sign}{n} {unit}{plural}");
        negative_before = n < 0;
    }
    let micros = value.nanoseconds / 1000;
    if micros == 0 && out.len() > start {
        return;
    }
    if out.len() > start {
        out.put_u8(b' ');
    }
    if micros < 0 {
        out.put_u8(b'-');
    } else if negative_before {
        out.put_u8(b'+');
    }
    let seconds = (micros / 1_000_000).abs();
    let hours = seconds / 3600;
    if hours < 100 {
        two_digits(hours, out);
    } else {
        super::text::digits(hours, out);
    }
    out.put_u8(b':');
    two_digits(seconds / 60 % 60, out);
    out.put_u8(b':');
    two_digits(seconds % 60, out);
    write_fraction((micros % 1_000_000).abs(), out);
}

pub(super) fn interval_binary(value: IntervalMonthDayNano, out: &mut BytesMut) {
    out.put_i64(value.nanoseconds / 1000);
    out.put_i32(value.days);
    out.put_i32(value.months);
}

fn write_timestamp(at: NaiveDateTime, out: &mut BytesMut) {
    write_date(at.date(), out);
    out.put_u8(b' ');
    let time: NaiveTime = at.time();
    two_digits(i64::from(time.hour()), out);
    out.put_u8(b':');
    two_digits(i64::from(time.minute()), out);
    out.put_u8(b':');
    two_digits(i64::from(time.second()), out);
    write_fraction(i64::from(time.nanosecond() / 1000), out);
}

fn write_date(date: NaiveDate, out: &mut BytesMut) {
    // There is no year 0: the year before 1 is 1 BC.
    let year = if date.year() > 0 { date.year() } else { 1 - date.year() };
    if (1000..10_000).contains(&year) {
        super::text::digits(i64::from(year), out);
    } else {
        let _ = write!(out, "{year:04}");
    }
    out.put_u8(b'-');
    two_digits(i64::from(date.month()), out);
    out.put_u8(b'-');
    two_digits(i64::from(date.day()), out);
}

fn write_era(date: NaiveDate, out: &mut BytesMut) {
    if date.year() <= 0 {
        out.put_slice(b" BC");
    }
}

fn write_fraction(micros: i64, out: &mut BytesMut) {
    if micros == 0 {
        return;
    }
    let mut digits = format!(".{micros:06}");
    digits.truncate(digits.trim_end_matches('0').len());
    out.put_slice(digits.as_bytes());
}

fn two_digits(n: i64, out: &mut BytesMut) {
    out.put_u8(b'0' + (n / 10 % 10) as u8);
    out.put_u8(b'0' + (n % 10) as u8);
}
