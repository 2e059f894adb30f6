//! Which bucket an instant is in, and which buckets are made of which.

use std::cell::Cell;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::plan_err;
use datafusion::error::Result;

use super::width::{BucketWidth, DAY, MILLISECOND, MonthGrid, SECOND, Unit};
use super::zone::Zone;

/// 2000-01-03 00:00, a Monday, on the wall clock.
const FIRST_MONDAY: i128 = 10_959 * DAY as i128;
/// 2000-01-01 00:00 on the wall clock.
const FIRST_MONTH: i128 = 10_957 * DAY as i128;

/// A division of all time into buckets: what `time_bucket` computes, less the timestamps.
///
/// Instants are microseconds since 1970-01-01 00:00 UTC. Every instant is in one bucket, its bucket begins at
/// or before it, and the next bucket begins where the bucket ends. Bounds that an `i64` cannot hold become
/// its minimum or maximum.
///
/// Two bucketings are equal if they are written in the same way, up to defaults. They have the same buckets
/// if each nests in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bucketing {
    width: BucketWidth,
    zone: Zone,
    grid: Grid,
}

/// Where buckets start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Grid {
    /// At instants.
    Instants(EvenGrid),
    /// At times of the wall clock within a day, each time they are shown, in a zone whose offset changes.
    Times(EvenGrid),
    /// At midnights of the wall clock, or another time of day, when they are first reached, likewise.
    Days(EvenGrid),
    /// At days of the month, when they are first reached, in any zone.
    Months(MonthGrid),
}

/// Multiples of `step` plus `phase`, in microseconds; `0 <= phase < step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct EvenGrid {
    step: i64,
    phase: i64,
}

impl EvenGrid {
    fn new(step: i64, origin: i128) -> Self {
        Self { step, phase: origin.rem_euclid(i128::from(step)) as i64 }
    }

    /// How far `at` is past the last point of the grid.
    #[inline]
    fn past(&self, at: i64) -> i64 {
        let past = at.rem_euclid(self.step) - self.phase;
        if past < 0 { past + self.step } else { past }
    }

    /// The last point of the grid at or before `at`.
    #[inline]
    fn floor(&self, at: i64) -> i64 {
        at.saturating_sub(self.past(at))
    }

    /// The same, for a time on the wall clock.
    fn floor_wall(&self, wall: i128) -> i128 {
        wall - (wall - i128::from(self.phase)).rem_euclid(i128::from(self.step))
    }

    fn contains(&self, at: i128) -> bool {
        self.floor_wall(at) == at
    }

    /// Whether every point of this grid, moved by `-offset`, is a point of `finer`.
    fn nests_in(&self, finer: &EvenGrid, offset: i128) -> bool {
        self.step % finer.step == 0 && finer.contains(i128::from(self.phase) - offset)
    }
}

impl Bucketing {
    /// Buckets of `width` in `timezone` (UTC if there is none), one of which starts at the instant `origin`,
    /// in microseconds (by default 2000-01-01 for months and Monday, 2000-01-03 for all else, at midnight).
    pub fn new(width: BucketWidth, timezone: Option<Zone>, origin: Option<i64>) -> Self {
        let zone = timezone.unwrap_or(Zone::UTC);
        let origin = origin.map(i128::from);
        let wall_origin = origin.map(|origin| origin + zone.offset_at(origin));
        let instant_origin = || origin.unwrap_or_else(|| zone.first_reached(FIRST_MONDAY));
        let grid = match (width.0, zone.fixed_offset()) {
            (Unit::Months(months), _) => {
                Grid::Months(MonthGrid::new(months, wall_origin.unwrap_or(FIRST_MONTH)))
            }
            (Unit::Days(days), None) => {
                Grid::Days(EvenGrid::new(i64::from(days) * DAY, wall_origin.unwrap_or(FIRST_MONDAY)))
            }
            (Unit::Micros(micros), None) if micros < DAY && DAY % micros == 0 => {
                Grid::Times(EvenGrid::new(micros, wall_origin.unwrap_or(FIRST_MONDAY)))
            }
            (Unit::Days(days), Some(_)) => {
                Grid::Instants(EvenGrid::new(i64::from(days) * DAY, instant_origin()))
            }
            (Unit::Micros(micros), _) => Grid::Instants(EvenGrid::new(micros, instant_origin())),
        };
        Self { width, zone, grid }
    }

    /// The width of the buckets.
    pub fn width(&self) -> BucketWidth {
        self.width
    }

    /// The time zone whose clock and calendar cut the buckets.
    pub fn timezone(&self) -> Zone {
        self.zone
    }

    /// The start of the bucket that contains `micros`.
    pub fn start(&self, micros: i64) -> i64 {
        self.bounds(micros).0
    }

    /// The start of the bucket after the one that contains `micros`.
    pub fn end(&self, micros: i64) -> i64 {
        self.bounds(micros).1
    }

    /// The [`start`](Self::start) and the [`end`](Self::end) of the bucket that contains `micros`.
    pub fn bounds(&self, micros: i64) -> (i64, i64) {
        let at = i128::from(micros);
        let (start, end) = match &self.grid {
            Grid::Instants(grid) => {
                let start = grid.floor_wall(at);
                (start, start + i128::from(grid.step))
            }
            Grid::Times(grid) => (self.start_of_time(grid, at), self.end_of_time(grid, at)),
            Grid::Days(grid) => {
                let first = grid.floor_wall(at + self.zone.offset_at(at));
                self.calendar_bounds(at, (0..).map(|n| first + n * i128::from(grid.step)))
            }
            Grid::Months(grid) => {
                let first = grid.index(at + self.zone.offset_at(at));
                self.calendar_bounds(at, (0..).map(|n| grid.start(first + n)))
            }
        };
        (saturate(start), saturate(end))
    }

    /// [`start`](Self::start) for many instants, fast if they come in order of time.
    pub(super) fn starts(&self) -> Starts<'_> {
        match &self.grid {
            Grid::Instants(grid) => Starts::Even(grid),
            _ => Starts::Cached { bucketing: self, last: Cell::new((0, 0)) },
        }
    }

    /// Whether every bucket of `self` is a union of whole buckets of `finer`, for instants since 1970.
    ///
    /// `false` also means "not known". A time zone counts with all offsets and changes of offset that it has
    /// had since 1970 according to the IANA database, and with those planned until 2100: days in
    /// `Asia/Kolkata` nest in UTC buckets of 30 minutes, days in `Europe/Berlin` in UTC hours (and those
    /// hours in hours of `Europe/Berlin`), but days of `Africa/Monrovia` (44 minutes and 30 seconds behind
    /// UTC until 1972) in neither. Before 1970, when local mean times were in use, most zones nest in nothing
    /// but themselves, so that this would be of no use.
    pub fn nests_in(&self, finer: &Bucketing) -> bool {
        if self.zone == finer.zone {
            // Both follow the same clock, so it is enough to compare what it shows when buckets start.
            let nested = match (&self.grid, &finer.grid) {
                (Grid::Months(coarse), Grid::Months(finer)) => coarse.nests_in(finer),
                (_, Grid::Times(finer) | Grid::Days(finer)) => {
                    self.wall_grid().is_some_and(|coarse| coarse.nests_in(finer, 0))
                }
                _ => false,
            };
            if nested {
                return true;
            }
        }
        finer.instants_since_1970().is_some_and(|instants| self.starts_on(&instants))
    }

    /// A grid of which every point since 1970 is a start of a bucket.
    fn instants_since_1970(&self) -> Option<EvenGrid> {
        let moved = |grid: &EvenGrid, offset| EvenGrid::new(grid.step, i128::from(grid.phase) - offset);
        match &self.grid {
            Grid::Instants(grid) => Some(*grid),
            Grid::Times(grid) => {
                let instants = moved(grid, self.zone.offset_at(0));
                let same = |&change| moved(grid, self.zone.offset_at(change)) == instants;
                self.zone.changes_since_1970().iter().all(same).then_some(instants)
            }
            Grid::Days(grid) => {
                let constant = self.zone.changes_since_1970().is_empty();
                constant.then(|| moved(grid, self.zone.offset_at(0)))
            }
            Grid::Months(_) => None,
        }
    }

    /// Whether every bucket since 1970 starts at a point of `instants`.
    fn starts_on(&self, instants: &EvenGrid) -> bool {
        let Some(wall) = self.wall_grid() else {
            return matches!(&self.grid, Grid::Instants(grid) if grid.nests_in(instants, 0));
        };
        if !wall.nests_in(instants, self.zone.offset_at(0)) {
            return false;
        }
        self.zone.changes_since_1970().iter().all(|&change| {
            let starts_bucket = i128::from(self.start(saturate(change))) == change;
            wall.nests_in(instants, self.zone.offset_at(change))
                && (!starts_bucket || instants.contains(change))
        })
    }

    /// A grid of wall-clock times that contains every one at which a bucket starts, other than by a change of
    /// offset.
    fn wall_grid(&self) -> Option<EvenGrid> {
        match &self.grid {
            Grid::Instants(_) => None,
            Grid::Times(grid) | Grid::Days(grid) => Some(*grid),
            Grid::Months(grid) => Some(EvenGrid::new(DAY, grid.time_of_day().into())),
        }
    }

    /// Refuses buckets whose starts a timestamp of this type cannot express.
    pub(super) fn check_resolution(&self, ts_type: &DataType) -> Result<()> {
        let resolution = match ts_type {
            DataType::Timestamp(TimeUnit::Second, _) => SECOND,
            DataType::Timestamp(TimeUnit::Millisecond, _) => MILLISECOND,
            _ => 1,
        };
        let (step, phase) = match &self.grid {
            Grid::Instants(grid) | Grid::Times(grid) | Grid::Days(grid) => (grid.step, grid.phase),
            Grid::Months(grid) => (DAY, grid.time_of_day()),
        };
        if step % resolution != 0 || phase % resolution != 0 {
            return plan_err!(
                "buckets of {} start between two values of {ts_type}: \
                 cast the timestamp to TIMESTAMP(6), or use a rounder width and origin",
                self.width
            );
        }
        Ok(())
    }

    /// The start of a part of a day: when the clock last showed a point of the grid, or was set past one.
    fn start_of_time(&self, grid: &EvenGrid, at: i128) -> i128 {
        let offset = self.zone.offset_at(at);
        let shown = grid.floor_wall(at + offset);
        let start = shown - offset;
        if self.zone.offset_at(start) == offset {
            return start;
        }
        // The clock was set since it showed that point, or never showed it.
        let change = self.zone.change_between(start, at);
        let before = change - 1;
        if grid.floor_wall(before + self.zone.offset_at(before)) == shown {
            self.start_of_time(grid, before)
        } else {
            change
        }
    }

    /// The end of a part of a day; see [`Self::start_of_time`].
    fn end_of_time(&self, grid: &EvenGrid, at: i128) -> i128 {
        let offset = self.zone.offset_at(at);
        let end = grid.floor_wall(at + offset) + i128::from(grid.step) - offset;
        if self.zone.offset_at(end) == offset {
            return end;
        }
        let change = self.zone.change_between(at, end);
        if self.start_of_time(grid, change) == change { change } else { self.end_of_time(grid, change) }
    }

    /// The bucket of `at`, given the wall-clock times at which buckets start, from the one shown at `at` on.
    ///
    /// It may be a later one than the first, if the clock was set back after it had reached that.
    fn calendar_bounds(&self, at: i128, starts: impl Iterator<Item = i128>) -> (i128, i128) {
        let mut start = at;
        for wall in starts {
            let reached = self.zone.first_reached(wall);
            if reached > at {
                return (start, reached);
            }
            start = reached;
        }
        (start, i128::MAX)
    }
}

/// See [`Bucketing::starts`].
pub(super) enum Starts<'a> {
    /// One division for each instant.
    Even(&'a EvenGrid),
    /// Two comparisons for each instant in the same bucket as the one before.
    Cached { bucketing: &'a Bucketing, last: Cell<(i64, i64)> },
}

impl Starts<'_> {
    #[inline]
    pub(super) fn of(&self, micros: i64) -> i64 {
        match self {
            Self::Even(grid) => grid.floor(micros),
            Self::Cached { bucketing, last } => {
                let (start, end) = last.get();
                if start <= micros && micros < end {
                    return start;
                }
                let bounds = bucketing.bounds(micros);
                last.set(bounds);
                bounds.0
            }
        }
    }
}

fn saturate(instant: i128) -> i64 {
    instant.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    use chrono::{DateTime, SecondsFormat};

    fn at(text: &str) -> i64 {
        text.parse::<DateTime<chrono::Utc>>().unwrap().timestamp_micros()
    }

    fn text(micros: i64) -> String {
        DateTime::from_timestamp_micros(micros).unwrap().to_rfc3339_opts(SecondsFormat::AutoSi, true)
    }

    fn buckets(width: &str, zone: &str) -> Bucketing {
        Bucketing::new(BucketWidth::parse(width).unwrap(), Some(zone.parse().unwrap()), None)
    }

    fn buckets_from(width: &str, zone: &str, origin: &str) -> Bucketing {
        Bucketing::new(BucketWidth::parse(width).unwrap(), Some(zone.parse().unwrap()), Some(at(origin)))
    }

    fn assert_bucket(buckets: Bucketing, instant: &str, start: &str, end: &str) {
        let (actual_start, actual_end) = buckets.bounds(at(instant));
        assert_eq!((text(actual_start).as_str(), text(actual_end).as_str()), (start, end), "{instant}");
    }

    /// The starts of the buckets in `[from, to)`.
    fn starts(buckets: Bucketing, from: &str, to: &str) -> Vec<String> {
        let mut starts = vec![];
        let mut start = buckets.start(at(from));
        while start < at(to) {
            if start >= at(from) {
                starts.push(text(start));
            }
            start = buckets.end(start);
        }
        starts
    }

    #[test]
    fn parts_of_a_day() {
        let utc = |width| buckets(width, "UTC");
        assert_bucket(
            utc("15 minutes"),
            "2024-05-15T10:42:00Z",
            "2024-05-15T10:30:00Z",
            "2024-05-15T10:45:00Z",
        );
        assert_bucket(utc("1 hour"), "2024-05-15T11:00:00Z", "2024-05-15T11:00:00Z", "2024-05-15T12:00:00Z");
        assert_bucket(utc("6 hours"), "1969-12-31T23:59:59Z", "1969-12-31T18:00:00Z", "1970-01-01T00:00:00Z");
        // Not parts of a day: counted from 2000-01-03.
        assert_bucket(utc("7 hours"), "2000-01-03T07:00:00Z", "2000-01-03T07:00:00Z", "2000-01-03T14:00:00Z");
        assert_bucket(
            utc("36 hours"),
            "2000-01-02T00:00:00Z",
            "2000-01-01T12:00:00Z",
            "2000-01-03T00:00:00Z",
        );
    }

    #[test]
    fn months_and_years() {
        let utc = |width| buckets(width, "UTC");
        assert_bucket(utc("1 month"), "2024-02-29T23:59:59Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z");
        assert_bucket(
            utc("3 months"),
            "2024-05-15T00:00:00Z",
            "2024-04-01T00:00:00Z",
            "2024-07-01T00:00:00Z",
        );
        assert_bucket(utc("1 year"), "1969-12-31T23:59:59Z", "1969-01-01T00:00:00Z", "1970-01-01T00:00:00Z");
        assert_bucket(
            utc("10 years"),
            "1905-06-01T00:00:00Z",
            "1900-01-01T00:00:00Z",
            "1910-01-01T00:00:00Z",
        );
        assert_bucket(
            utc("5 months"),
            "1999-12-31T00:00:00Z",
            "1999-08-01T00:00:00Z",
            "2000-01-01T00:00:00Z",
        );
        let berlin = buckets("1 month", "Europe/Berlin");
        assert_bucket(berlin, "2024-03-31T21:59:59Z", "2024-02-29T23:00:00Z", "2024-03-31T22:00:00Z");
    }

    #[test]
    fn weeks_are_iso_weeks() {
        let weeks = buckets("1 week", "UTC");
        assert_bucket(weeks, "2021-01-03T23:59:59Z", "2020-12-28T00:00:00Z", "2021-01-04T00:00:00Z");
        assert_bucket(weeks, "2024-12-30T00:00:00Z", "2024-12-30T00:00:00Z", "2025-01-06T00:00:00Z");
        assert_bucket(weeks, "1970-01-01T00:00:00Z", "1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z");
        let new_york = buckets("1 week", "America/New_York");
        assert_bucket(new_york, "2024-03-10T12:00:00Z", "2024-03-04T05:00:00Z", "2024-03-11T04:00:00Z");
    }

    #[test]
    fn days_are_shorter_and_longer_when_clocks_change() {
        let berlin = buckets("1 day", "Europe/Berlin");
        assert_bucket(berlin, "2024-03-31T12:00:00Z", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z");
        assert_bucket(berlin, "2024-10-27T12:00:00Z", "2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z");
        let new_york = buckets("1 day", "America/New_York");
        assert_bucket(new_york, "2024-11-03T12:00:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z");
        let kolkata = buckets("1 day", "Asia/Kolkata");
        assert_bucket(kolkata, "2024-05-15T10:42:00Z", "2024-05-14T18:30:00Z", "2024-05-15T18:30:00Z");
        // `24 hours` is a time.
        let hours = buckets("24 hours", "Europe/Berlin");
        assert_bucket(hours, "2024-07-01T12:00:00Z", "2024-06-30T23:00:00Z", "2024-07-01T23:00:00Z");
    }

    #[test]
    fn days_start_when_their_date_first_shows() {
        // Midnight was skipped, so the day began at 01:00.
        let sao_paulo = buckets("1 day", "America/Sao_Paulo");
        assert_bucket(sao_paulo, "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z");
        // Midnight was passed twice: clocks went from 00:01 back to 23:01.
        let st_johns = buckets("1 day", "America/St_Johns");
        assert_bucket(st_johns, "2010-11-07T02:31:30Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z");
        // A whole day was skipped.
        let apia = buckets("1 day", "Pacific/Apia");
        assert_bucket(apia, "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
        assert_bucket(apia, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z");
    }

    #[test]
    fn the_repeated_hour_is_two_buckets() {
        let hours =
            starts(buckets("1 hour", "Europe/Berlin"), "2024-10-26T23:00:00Z", "2024-10-27T03:00:00Z");
        let expected =
            ["2024-10-26T23:00:00Z", "2024-10-27T00:00:00Z", "2024-10-27T01:00:00Z", "2024-10-27T02:00:00Z"];
        assert_eq!(hours, expected);
        let hours =
            starts(buckets("1 hour", "America/New_York"), "2024-03-10T05:00:00Z", "2024-03-10T09:00:00Z");
        assert_eq!(
            hours,
            ["2024-03-10T05:00:00Z", "2024-03-10T06:00:00Z", "2024-03-10T07:00:00Z", "2024-03-10T08:00:00Z"]
        );
    }

    #[test]
    fn parts_of_a_day_follow_the_wall_clock() {
        let kolkata = buckets("1 hour", "Asia/Kolkata");
        assert_bucket(kolkata, "2024-05-15T10:42:00Z", "2024-05-15T10:30:00Z", "2024-05-15T11:30:00Z");
        // 00:00 to 04:00 on the wall clock, three and five hours long.
        let berlin = buckets("4 hours", "Europe/Berlin");
        assert_bucket(berlin, "2024-03-31T01:30:00Z", "2024-03-30T23:00:00Z", "2024-03-31T02:00:00Z");
        assert_bucket(berlin, "2024-10-27T01:30:00Z", "2024-10-26T22:00:00Z", "2024-10-27T03:00:00Z");
    }

    #[test]
    fn clocks_set_by_half_an_hour() {
        let hours = buckets("1 hour", "Australia/Lord_Howe");
        // Autumn, 02:00 to 01:30: the hour from 01:00 has 90 minutes.
        assert_bucket(hours, "2024-04-06T15:15:00Z", "2024-04-06T14:00:00Z", "2024-04-06T15:30:00Z");
        // Spring, 02:00 to 02:30: the hour from 02:30 has 30 minutes.
        assert_bucket(hours, "2024-10-05T15:45:00Z", "2024-10-05T15:30:00Z", "2024-10-05T16:00:00Z");
        assert_bucket(hours, "2024-10-05T15:29:59Z", "2024-10-05T14:30:00Z", "2024-10-05T15:30:00Z");
    }

    #[test]
    fn an_origin_is_the_start_of_a_bucket() {
        let noon = buckets_from("1 day", "UTC", "2024-01-01T12:00:00Z");
        assert_bucket(noon, "2020-06-01T11:00:00Z", "2020-05-31T12:00:00Z", "2020-06-01T12:00:00Z");
        let quarter_past = buckets_from("1 hour", "Europe/Berlin", "2024-01-01T00:15:00Z");
        assert_bucket(quarter_past, "2024-07-01T12:00:00Z", "2024-07-01T11:15:00Z", "2024-07-01T12:15:00Z");
        // At 06:00 on the wall clock, in summer and winter.
        let shift = buckets_from("1 day", "Europe/Berlin", "2024-01-01T05:00:00Z");
        assert_bucket(shift, "2024-07-01T12:00:00Z", "2024-07-01T04:00:00Z", "2024-07-02T04:00:00Z");
        let sundays = buckets_from("1 week", "UTC", "2024-05-05T00:00:00Z");
        assert_bucket(sundays, "2024-05-15T00:00:00Z", "2024-05-12T00:00:00Z", "2024-05-19T00:00:00Z");
        let fiscal = buckets_from("1 year", "UTC", "2000-04-01T00:00:00Z");
        assert_bucket(fiscal, "2024-03-31T00:00:00Z", "2023-04-01T00:00:00Z", "2024-04-01T00:00:00Z");
    }

    #[test]
    fn extreme_instants_are_in_a_bucket() {
        for width in ["1 microsecond", "1 hour", "7 hours", "1 day", "1 month", "100 years"] {
            for zone in ["UTC", "-05:00", "Europe/Berlin"] {
                for instant in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
                    let (start, end) = buckets(width, zone).bounds(instant);
                    assert!(
                        start <= instant && (instant < end || end == i64::MAX),
                        "{width} {zone} {instant}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_zone_of_constant_offset_needs_no_calendar() {
        assert_eq!(buckets("1 day", "UTC").grid, buckets("24 hours", "UTC").grid);
        assert!(matches!(buckets("1 week", "+05:30").grid, Grid::Instants(_)));
        assert!(matches!(buckets("7 hours", "Europe/Berlin").grid, Grid::Instants(_)));
        let (fixed, named) = (buckets("1 day", "+05:30"), buckets("1 day", "Asia/Kolkata"));
        assert_eq!(fixed.bounds(at("2024-05-15T10:42:00Z")), named.bounds(at("2024-05-15T10:42:00Z")));
    }

    #[test]
    fn which_buckets_nest() {
        let (utc, berlin, kolkata) = ("UTC", "Europe/Berlin", "Asia/Kolkata");
        let nested = [
            (("1 day", utc), ("1 hour", utc)),
            (("1 hour", utc), ("1 hour", utc)),
            (("1 week", utc), ("1 day", utc)),
            (("1 day", utc), ("24 hours", utc)),
            (("1 month", utc), ("1 day", utc)),
            (("1 year", utc), ("1 month", utc)),
            (("1 year", utc), ("3 months", utc)),
            (("1 month", berlin), ("1 day", berlin)),
            (("1 week", berlin), ("1 day", berlin)),
            (("1 year", berlin), ("1 month", berlin)),
            (("1 day", berlin), ("4 hours", berlin)),
            (("1 day", berlin), ("1 hour", utc)),
            (("1 month", berlin), ("1 hour", utc)),
            (("1 hour", berlin), ("1 hour", utc)),
            (("1 hour", utc), ("1 hour", berlin)),
            (("1 day", "America/New_York"), ("1 hour", berlin)),
            (("1 day", kolkata), ("30 minutes", utc)),
            (("1 day", kolkata), ("1 minute", utc)),
            (("1 week", "+05:30"), ("1 day", kolkata)),
            (("1 day", kolkata), ("1 day", "+05:30")),
            (("1 month", "+05:30"), ("30 minutes", utc)),
            (("1 hour", "Australia/Lord_Howe"), ("30 minutes", utc)),
            (("1 day", "Asia/Kathmandu"), ("15 minutes", utc)),
            (("1 day", "America/St_Johns"), ("30 minutes", utc)),
        ];
        for ((coarse, zone), (finer, finer_zone)) in nested {
            let (coarse, finer) = (buckets(coarse, zone), buckets(finer, finer_zone));
            assert!(coarse.nests_in(&finer), "{coarse:?} in {finer:?}");
        }
        let apart = [
            (("1 hour", utc), ("1 day", utc)),
            (("1 year", utc), ("1 week", utc)),
            (("1 month", utc), ("1 week", utc)),
            (("90 minutes", utc), ("1 hour", utc)),
            (("3 months", utc), ("2 months", utc)),
            (("1 day", kolkata), ("1 hour", utc)),
            (("1 day", "Asia/Kathmandu"), ("30 minutes", utc)),
            (("1 day", "Africa/Monrovia"), ("1 minute", utc)),
            (("1 day", berlin), ("4 hours", utc)),
            (("1 day", berlin), ("1 day", utc)),
            (("1 day", utc), ("1 day", berlin)),
            (("1 day", berlin), ("1 day", "Europe/Paris")),
            (("1 hour", kolkata), ("1 hour", berlin)),
            (("1 hour", "Australia/Lord_Howe"), ("1 hour", utc)),
        ];
        for ((coarse, zone), (finer, finer_zone)) in apart {
            let (coarse, finer) = (buckets(coarse, zone), buckets(finer, finer_zone));
            assert!(!coarse.nests_in(&finer), "{coarse:?} in {finer:?}");
        }
        let shifted = buckets_from("1 day", "UTC", "2024-01-01T12:00:00Z");
        assert!(shifted.nests_in(&buckets("6 hours", "UTC")));
        assert!(!shifted.nests_in(&buckets("1 day", "UTC")));
    }
}
