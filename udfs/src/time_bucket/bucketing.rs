//! Which bucket an instant is in, and which buckets are made of which.

use std::cell::Cell;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;

use super::width::{BucketWidth, DAY, MILLISECOND, MonthGrid, SECOND, Unit};
use super::zone::Zone;

/// 2000-01-03 00:00, a Monday, on the wall clock.
const FIRST_MONDAY: i128 = 10_959 * DAY as i128;
/// 2000-01-01 00:00 on the wall clock.
const FIRST_MONTH: i128 = 10_957 * DAY as i128;

/// A division of all time into buckets: what `time_bucket` computes, less the timestamps.
///
/// Instants are microseconds since 1970-01-01 00:00 UTC. Every instant is in one bucket, its bucket begins at or before
/// it, and the next bucket begins where the bucket ends. Bounds that an `i64` cannot hold become its minimum or maximum.
///
/// Two bucketings are equal if they are written in the same way, up to defaults.
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
    /// Buckets of `width` in `timezone` (UTC if there is none), one of which starts at the instant `origin`, in
    /// microseconds (by default 2000-01-01 for months and Monday, 2000-01-03 for all else, at midnight).
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

    /// Reads the arguments of `time_bucket` but for the timestamp, which has type `ts_type`: the width and then, if
    /// given, the time zone and the origin. NULL for one of the latter stands for its default.
    pub fn from_args(args: &[ScalarValue], ts_type: &DataType) -> Result<Self> {
        let (width, zone, origin) = match args {
            [width] => (width, None, None),
            [width, zone] => (width, Some(zone), None),
            [width, zone, origin] => (width, Some(zone), Some(origin)),
            _ => {
                return plan_err!(
                    "time_bucket takes a width, a timestamp, and optionally a time zone and an origin"
                );
            }
        };
        let width = BucketWidth::try_from(width)?;
        let zone = match zone.filter(|zone| !zone.is_null()) {
            Some(zone) => Some(zone_from(zone)?),
            None => match ts_type {
                DataType::Timestamp(_, Some(name)) => Some(name.parse()?),
                _ => None,
            },
        };
        let origin = match origin.filter(|origin| !origin.is_null()) {
            Some(origin) => Some(instant_from(origin)?),
            None => None,
        };
        let bucketing = Self::new(width, zone, origin);
        bucketing.check_resolution(ts_type)?;
        Ok(bucketing)
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
    /// `false` also means "not known". A time zone counts with all offsets and changes of offset that it has had since
    /// 1970 according to the IANA database, and with those planned until 2100: days in `Asia/Kolkata` nest in UTC
    /// buckets of 30 minutes, days in `Europe/Berlin` in UTC hours (and those hours in hours of `Europe/Berlin`), but
    /// days of `Africa/Monrovia` (44 minutes and 30 seconds behind UTC until 1972) in neither. Before 1970, when
    /// local mean times were in use, most zones nest in nothing but themselves, so that this would be of no use.
    pub fn nests_in(&self, finer: &Bucketing) -> bool {
        if self.grid == finer.grid && self.zone == finer.zone {
            return true;
        }
        if let Some(instants) = finer.instants_since_1970()
            && self.starts_on(&instants)
        {
            return true;
        }
        if self.zone != finer.zone {
            return false;
        }
        // Both follow the same clock, so it is enough to compare what it shows when buckets start.
        match (&self.grid, &finer.grid) {
            (Grid::Months(coarse), Grid::Months(finer)) => coarse.nests_in(finer),
            (_, Grid::Times(finer) | Grid::Days(finer)) => {
                self.wall_grid().is_some_and(|coarse| coarse.nests_in(finer, 0))
            }
            _ => false,
        }
    }

    /// A grid of which every point since 1970 is a start of a bucket.
    fn instants_since_1970(&self) -> Option<EvenGrid> {
        let moved = |grid: &EvenGrid, offset| EvenGrid::new(grid.step, i128::from(grid.phase) - offset);
        match &self.grid {
            Grid::Instants(grid) => Some(*grid),
            Grid::Times(grid) => {
                let instants = moved(grid, self.zone.offset_at(0));
                let same = |change| moved(grid, self.zone.offset_at(change)) == instants;
                self.zone.changes_since_1970().into_iter().all(same).then_some(instants)
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
        self.zone.changes_since_1970().into_iter().all(|change| {
            let starts_bucket = i128::from(self.start(saturate(change))) == change;
            wall.nests_in(instants, self.zone.offset_at(change))
                && (!starts_bucket || instants.contains(change))
        })
    }

    /// A grid of wall-clock times that contains every one at which a bucket starts, other than by a change of offset.
    fn wall_grid(&self) -> Option<EvenGrid> {
        match &self.grid {
            Grid::Instants(_) => None,
            Grid::Times(grid) | Grid::Days(grid) => Some(*grid),
            Grid::Months(grid) => Some(EvenGrid::new(DAY, grid.time_of_day().into())),
        }
    }

    /// Refuses buckets whose starts a timestamp of this type cannot express.
    fn check_resolution(&self, ts_type: &DataType) -> Result<()> {
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

fn zone_from(value: &ScalarValue) -> Result<Zone> {
    match value.try_as_str() {
        Some(Some(name)) => name.parse(),
        _ => plan_err!(
            "the time zone of time_bucket must be a string such as 'Europe/Berlin', not of type {}: \
             an origin is the fourth argument, after a time zone or NULL",
            value.data_type()
        ),
    }
}

/// The instant that a timestamp stands for; a string or a date is cast to one first.
fn instant_from(value: &ScalarValue) -> Result<i64> {
    let micros = match value {
        ScalarValue::TimestampSecond(Some(value), _) => value.checked_mul(SECOND),
        ScalarValue::TimestampMillisecond(Some(value), _) => value.checked_mul(MILLISECOND),
        ScalarValue::TimestampMicrosecond(Some(value), _) => Some(*value),
        ScalarValue::TimestampNanosecond(Some(value), _) => (value % 1_000 == 0).then_some(value / 1_000),
        value
            if value.data_type().is_string()
                || matches!(value, ScalarValue::Date32(_) | ScalarValue::Date64(_)) =>
        {
            return instant_from(&value.cast_to(&DataType::Timestamp(TimeUnit::Microsecond, None))?);
        }
        _ => None,
    };
    match micros {
        Some(micros) => Ok(micros),
        None => plan_err!(
            "the origin of time_bucket must be a timestamp in whole microseconds, not {value} of type {}",
            value.data_type()
        ),
    }
}

fn saturate(instant: i128) -> i64 {
    instant.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}
