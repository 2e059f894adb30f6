//! A time zone as a function from instants to the wall clock and back.
//!
//! Instants and wall-clock times are microseconds since 1970-01-01 00:00, of UTC or of the wall clock. They
//! are `i128` here so that no sum of an `i64`, an offset and a width can overflow.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};
use datafusion::arrow::array::timezone::Tz as ArrowTz;
use datafusion::common::plan_datafusion_err;
use datafusion::error::{DataFusionError, Result};

use super::width::{DAY, SECOND};

/// A time zone: a name of the IANA database, or a constant offset such as `+05:30`.
///
/// UTC and its other names are one and the same zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Zone(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Named(Tz),
    /// Seconds east of UTC.
    Fixed(i32),
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Zone = Zone(Kind::Fixed(0));

    /// The offset, if it is the same at all times.
    pub(super) fn fixed_offset(self) -> Option<i64> {
        match self.0 {
            Kind::Named(_) => None,
            Kind::Fixed(seconds) => Some(i64::from(seconds) * SECOND),
        }
    }

    /// What the wall clock is ahead of UTC at `instant`.
    pub(super) fn offset_at(self, instant: i128) -> i128 {
        let seconds = match self.0 {
            Kind::Fixed(seconds) => seconds,
            Kind::Named(tz) => {
                // Beyond what chrono represents (the year 250,000), no zone changes any more.
                let utc = instant.div_euclid(i128::from(SECOND)).clamp(-8_000_000_000_000, 8_000_000_000_000);
                let utc = DateTime::from_timestamp(utc as i64, 0).unwrap_or_default().naive_utc();
                tz.offset_from_utc_datetime(&utc).fix().local_minus_utc()
            }
        };
        i128::from(seconds) * i128::from(SECOND)
    }

    /// The first instant at which the wall clock has reached `wall`: the earlier one where that time is
    /// repeated, the end of the gap where it is skipped.
    pub(super) fn first_reached(self, wall: i128) -> i128 {
        // Offsets are less than a day and changes are more than two days apart, so there is at most one
        // change here.
        let (earliest, latest) = (wall - i128::from(DAY), wall + i128::from(DAY));
        let (before, after) = (self.offset_at(earliest), self.offset_at(latest));
        let reached = wall - before;
        if self.offset_at(reached) == before {
            reached
        } else {
            self.change_between(earliest, latest).max(wall - after)
        }
    }

    /// The instant in `(from, to]` at which the offset changes from that of `from` to that of `to`.
    pub(super) fn change_between(self, mut from: i128, mut to: i128) -> i128 {
        let after = self.offset_at(to);
        while to - from > 1 {
            let middle = from + (to - from) / 2;
            if self.offset_at(middle) == after {
                to = middle;
            } else {
                from = middle;
            }
        }
        to
    }

    /// The instants since 1970 at which the offset changes, up to 2100, where the database ends.
    pub(super) fn changes_since_1970(self) -> &'static [i128] {
        // chrono-tz does not hand out its table, so it is probed, once for each zone.
        static CHANGES: [OnceLock<Vec<i128>>; TZ_VARIANTS.len()] =
            [const { OnceLock::new() }; TZ_VARIANTS.len()];
        match self.0 {
            Kind::Fixed(_) => &[],
            Kind::Named(tz) => CHANGES[tz as usize].get_or_init(|| self.probe_changes()),
        }
    }

    fn probe_changes(self) -> Vec<i128> {
        // The closest two changes of the database are 6 days and 23 hours apart.
        const STRIDE: i128 = 6 * DAY as i128;
        const END: i128 = 130 * 366 * DAY as i128;

        let mut changes = vec![];
        let mut from = 0;
        while from < END {
            let to = from + STRIDE;
            if self.offset_at(from) != self.offset_at(to) {
                changes.push(self.change_between(from, to));
            }
            from = to;
        }
        changes
    }
}

impl From<Tz> for Zone {
    fn from(tz: Tz) -> Self {
        match tz {
            Tz::UTC | Tz::UCT | Tz::GMT | Tz::Universal | Tz::Zulu | Tz::Greenwich => Zone::UTC,
            Tz::Etc__UTC | Tz::Etc__UCT | Tz::Etc__GMT => Zone::UTC,
            Tz::Etc__Universal | Tz::Etc__Zulu | Tz::Etc__Greenwich => Zone::UTC,
            tz => Zone(Kind::Named(tz)),
        }
    }
}

impl FromStr for Zone {
    type Err = DataFusionError;

    fn from_str(name: &str) -> Result<Self> {
        let unknown = || {
            plan_datafusion_err!(
                "unknown time zone '{name}': use a name such as 'Europe/Berlin' or an offset such as '+05:30'"
            )
        };
        if name.starts_with(['+', '-']) {
            let tz = ArrowTz::from_str(name).map_err(|_| unknown())?;
            let offset = tz.offset_from_utc_datetime(&DateTime::UNIX_EPOCH.naive_utc()).fix();
            Ok(Zone(Kind::Fixed(offset.local_minus_utc())))
        } else {
            Ok(Tz::from_str(name).map_err(|_| unknown())?.into())
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Named(tz) => f.write_str(tz.name()),
            Kind::Fixed(0) => f.write_str("UTC"),
            Kind::Fixed(seconds) => {
                let sign = if seconds < 0 { '-' } else { '+' };
                let minutes = seconds.abs() / 60;
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_shown() {
        for name in ["Europe/Berlin", "+05:30", "-09:00", "UTC"] {
            assert_eq!(name.parse::<Zone>().unwrap().to_string(), name);
        }
        for name in ["UTC", "Etc/UTC", "GMT", "+00:00", "-00:00", "+00"] {
            assert_eq!(name.parse::<Zone>().unwrap(), Zone::UTC);
        }
        for name in ["", "Berlin", "europe/berlin", "+5", "+09:00x", "+25:00"] {
            let error = name.parse::<Zone>().unwrap_err().to_string();
            assert!(error.contains("unknown time zone"), "{error}");
        }
    }

    /// `first_reached` and `changes_since_1970` rely on it.
    #[test]
    fn changes_of_a_zone_are_more_than_six_days_apart() {
        for tz in TZ_VARIANTS {
            let zone = Zone::from(tz);
            let changes = zone.changes_since_1970();
            for pair in changes.windows(2) {
                assert!(pair[1] - pair[0] > 6 * i128::from(DAY), "{zone}");
            }
            for &change in changes {
                assert_ne!(zone.offset_at(change - 1), zone.offset_at(change), "{zone}");
            }
        }
    }

    #[test]
    fn a_time_is_first_reached_before_it_is_repeated_and_after_it_is_skipped() {
        let at = |text: &str| i128::from(text.parse::<DateTime<chrono::Utc>>().unwrap().timestamp_micros());
        let berlin = Zone::from(Tz::Europe__Berlin);
        let cases = [
            ("2024-01-01T00:00:00Z", "2023-12-31T23:00:00Z"),
            // Spring: 02:00 to 03:00 is skipped.
            ("2024-03-31T01:59:59Z", "2024-03-31T00:59:59Z"),
            ("2024-03-31T02:00:00Z", "2024-03-31T01:00:00Z"),
            ("2024-03-31T02:30:00Z", "2024-03-31T01:00:00Z"),
            ("2024-03-31T03:00:00Z", "2024-03-31T01:00:00Z"),
            ("2024-03-31T03:00:01Z", "2024-03-31T01:00:01Z"),
            // Autumn: 02:00 to 03:00 is repeated.
            ("2024-10-27T02:00:00Z", "2024-10-27T00:00:00Z"),
            ("2024-10-27T02:59:59Z", "2024-10-27T00:59:59Z"),
            ("2024-10-27T03:00:00Z", "2024-10-27T02:00:00Z"),
        ];
        for (wall, instant) in cases {
            assert_eq!(berlin.first_reached(at(wall)), at(instant), "{wall}");
        }
        // Samoa went over the date line and had no 30 December 2011.
        let apia = Zone::from(Tz::Pacific__Apia);
        for wall in ["2011-12-30T00:00:00Z", "2011-12-30T18:00:00Z", "2011-12-31T00:00:00Z"] {
            assert_eq!(apia.first_reached(at(wall)), at("2011-12-30T10:00:00Z"), "{wall}");
        }
    }

    #[test]
    fn extreme_instants_have_an_offset() {
        let berlin = Zone::from(Tz::Europe__Berlin);
        assert_eq!(berlin.offset_at(i64::MAX.into()), 3600 * i128::from(SECOND));
        berlin.first_reached(i64::MIN.into());
        berlin.first_reached(i64::MAX.into());
    }
}
