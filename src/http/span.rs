//! Which buckets a request is about: the last ones up to the latest event, or those from one time to another.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use toplake_udfs::time_bucket::Bucketing;

use crate::error::{Error, Result};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// More buckets than this are not asked for at a time.
const MOST: usize = 20_000;

/// Whole buckets: from the start of one to the start of another, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Span {
    /// The buckets of the time `last` up to the one that the latest event lies in, which counts as one of them: of `1h` and
    /// buckets of a minute these are 60.
    pub(super) fn last(last: Option<&str>, latest: i64, bucketing: &Bucketing) -> Result<Self> {
        let newest = bucketing.start(latest);
        let to = bucketing.end(newest);
        let Some(text) = last else { return Ok(Span { from: newest, to }) };
        let back = Back::parse(text)?;
        // The bucket that begins so long before the end, or the first after it.
        let wanted = back.before(to);
        let start = bucketing.start(wanted);
        let from = if start < wanted { bucketing.end(wanted) } else { start };
        Ok(Span { from: from.min(newest), to })
    }

    /// The buckets that have a part between two times.
    pub(super) fn between(from: &str, to: Option<&str>, latest: i64, bucketing: &Bucketing) -> Result<Self> {
        let from = bucketing.start(instant("from", from)?);
        let to = match to {
            Some(to) => {
                let to = instant("to", to)?;
                let start = bucketing.start(to);
                if start < to { bucketing.end(to) } else { to }
            }
            None => bucketing.end(latest),
        };
        if to <= from {
            return Err(Error::invalid_input(format!(
                "no bucket lies between {} and {}",
                show(from),
                show(to)
            )));
        }
        Ok(Span { from, to })
    }

    /// As many buckets just before.
    pub(super) fn previous(self, bucketing: &Bucketing) -> Result<Self> {
        let mut from = self.from;
        for _ in 0..self.buckets(bucketing)?.len() {
            from = bucketing.start(from - 1);
        }
        Ok(Span { from, to: self.from })
    }

    /// The starts of the buckets, in order.
    pub(super) fn buckets(self, bucketing: &Bucketing) -> Result<Vec<i64>> {
        let mut starts = vec![];
        let mut at = self.from;
        while at < self.to {
            if starts.len() == MOST {
                return Err(Error::invalid_input(format!(
                    "{} to {} has more than {MOST} buckets of {}",
                    show(self.from),
                    show(self.to),
                    bucketing.width()
                ))
                .with_hint("ask for less time, or ask a rollup with wider buckets"));
            }
            starts.push(at);
            at = bucketing.end(at);
        }
        Ok(starts)
    }
}

/// A length of time, by the clock or by the calendar.
enum Back {
    Micros(i64),
    Months(u32),
}

impl Back {
    /// Reads `5m`, `24h`, `7d`, `2w`, `3mo`, `1y`.
    fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid_input(format!("the parameter 'last' is '{text}', not a length of time"))
                .with_hint("write a number and a unit: 5m, 24h, 7d, 2w, 3mo, 1y")
        };
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u32 = number.parse().map_err(|_| bad())?;
        if number == 0 || number > 1_000_000 {
            return Err(bad());
        }
        let micros = |unit: i64| Ok(Back::Micros(i64::from(number) * unit));
        match unit {
            "m" | "min" => micros(MINUTE),
            "h" => micros(HOUR),
            "d" => micros(DAY),
            "w" => micros(7 * DAY),
            "mo" => Ok(Back::Months(number)),
            "y" => number.checked_mul(12).map(Back::Months).ok_or_else(bad),
            _ => Err(bad()),
        }
    }

    fn before(&self, micros: i64) -> i64 {
        match self {
            Back::Micros(length) => micros.saturating_sub(*length),
            Back::Months(months) => DateTime::from_timestamp_micros(micros)
                .and_then(|time| time.checked_sub_months(chrono::Months::new(*months)))
                .map_or(i64::MIN / 2, |time| time.timestamp_micros()),
        }
    }
}

/// Reads `2026-11-29T10:00:00Z`, the same without a zone (UTC), or a date.
fn instant(name: &str, text: &str) -> Result<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_micros());
    }
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let time = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
    let time = time.or_else(day).ok_or_else(|| {
        Error::invalid_input(format!("the parameter '{name}' is '{text}', not a time"))
            .with_hint("write it like 2026-11-29T10:00:00Z, or as a date")
    })?;
    Ok(time.and_utc().timestamp_micros())
}

/// A time as it is told, in UTC.
pub(super) fn show(micros: i64) -> String {
    match DateTime::<Utc>::from_timestamp_micros(micros) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => format!("{micros} µs"),
    }
}

#[cfg(test)]
mod tests {
    use toplake_udfs::time_bucket::BucketWidth;

    use super::*;

    fn every(width: &str, zone: &str) -> Bucketing {
        Bucketing::new(BucketWidth::parse(width).unwrap(), Some(zone.parse().unwrap()), None)
    }

    fn at(text: &str) -> i64 {
        instant("t", text).unwrap()
    }

    fn shown(span: Span) -> String {
        format!("{} {}", show(span.from), show(span.to))
    }

    #[test]
    fn the_last_buckets_end_with_that_of_the_latest_event() {
        let latest = at("2026-11-29T10:07:30Z");
        let last = |width, text| Span::last(text, latest, &every(width, "UTC")).map(shown);
        assert_eq!(last("1 minute", Some("5m")).unwrap(), "2026-11-29T10:03:00Z 2026-11-29T10:08:00Z");
        assert_eq!(last("1 hour", Some("5m")).unwrap(), "2026-11-29T10:00:00Z 2026-11-29T11:00:00Z");
        assert_eq!(last("1 hour", Some("90m")).unwrap(), "2026-11-29T10:00:00Z 2026-11-29T11:00:00Z");
        assert_eq!(last("1 hour", None).unwrap(), "2026-11-29T10:00:00Z 2026-11-29T11:00:00Z");
        assert_eq!(last("1 day", Some("2w")).unwrap(), "2026-11-16T00:00:00Z 2026-11-30T00:00:00Z");
        assert_eq!(last("1 month", Some("1y")).unwrap(), "2025-12-01T00:00:00Z 2026-12-01T00:00:00Z");
        assert_eq!(last("1 month", Some("3mo")).unwrap(), "2026-09-01T00:00:00Z 2026-12-01T00:00:00Z");
        for bad in ["", "5", "m", "0m", "5x", "-5m", "99999999999d"] {
            assert!(last("1 day", Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn part_of_a_bucket_stands_for_the_whole_of_it() {
        let berlin = every("1 day", "Europe/Berlin");
        let between = |from, to| Span::between(from, to, at("2026-03-30T05:00:00Z"), &berlin).map(shown);
        assert_eq!(
            between("2026-03-29", Some("2026-03-29T12:00")).unwrap(),
            "2026-03-28T23:00:00Z 2026-03-29T22:00:00Z"
        );
        assert_eq!(between("2026-03-29", None).unwrap(), "2026-03-28T23:00:00Z 2026-03-30T22:00:00Z");
        assert!(between("2026-03-29", Some("2026-03-27")).is_err());
        assert!(between("yesterday", None).is_err());
    }

    #[test]
    fn before_it_there_are_as_many_buckets() {
        let months = every("1 month", "UTC");
        let span = Span { from: at("2026-03-01"), to: at("2026-05-01") };
        assert_eq!(shown(span.previous(&months).unwrap()), "2026-01-01T00:00:00Z 2026-03-01T00:00:00Z");
        assert_eq!(span.buckets(&months).unwrap(), [at("2026-03-01"), at("2026-04-01")]);
        let second = every("1 second", "UTC");
        assert!(span.buckets(&second).is_err());
    }
}
