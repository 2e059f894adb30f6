//! `time_bucket(width, ts [, timezone [, origin]])`: the start of the bucket that `ts` falls into.
//!
//! ```sql
//! SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, sum(quantity) FROM sales GROUP BY 1;
//! SELECT time_bucket('1 month', event_time, 'Europe/Berlin') AS month, count(*) FROM sales GROUP BY 1;
//! ```
//!
//! # Arguments
//!
//! - `width`: an interval, or a string such as `'15 minutes'`. It is a number of months *or* of days *or* a
//!   time; the three are not mixed, since a bucket of "1 month 1 day" has no sensible grid.
//! - `ts`: a timestamp of any unit, with or without a zone, or a date. The result has the same type; a date
//!   (and a string) is read as a timestamp in microseconds. A timestamp without a zone is an instant in UTC.
//!   NULL gives NULL.
//! - `timezone`: an IANA name (`'Asia/Kolkata'`) or an offset (`'+05:30'`). Without it, or with NULL, the
//!   zone of `ts`'s type applies, and UTC if that has none.
//! - `origin`: a timestamp at which some bucket starts. Like `ts`, it is an instant: without a zone it is in
//!   UTC.
//!
//! All but `ts` are constants. That makes the function cheap, and lets the planner understand it: the order
//! of `ts` is the order of the buckets, and a comparison of the bucket with a constant becomes a range of
//! `ts`, which prunes files.
//!
//! # Where buckets start
//!
//! | width | buckets | counted from |
//! | --- | --- | --- |
//! | months, quarters, years | months of the zone's calendar | 2000-01-01 |
//! | days, weeks | days of the zone's calendar; they are 23 or 25 hours long when the clocks change | Monday 2000-01-03, so weeks are ISO weeks |
//! | a time that divides a day (`5 minutes`, `1 hour`, `6 hours`) | parts of the zone's day | midnight |
//! | any other time (`7 hours`, `24 hours`) | an equal time each, whatever the clocks do | midnight of Monday 2000-01-03 |
//!
//! Without a zone, and in a zone of constant offset, the buckets of the last three rows all have equal
//! lengths. `24 hours` is a time and `1 day` a day, as in PostgreSQL.
//!
//! # When the clocks change
//!
//! Buckets cover every instant once, in order, and the start of a bucket is in the bucket. Therefore:
//!
//! - A part of a day ends when the wall clock reaches a multiple of the width, for the first time or again,
//!   and when the clock is set from one such part to another. So the hour that is repeated in autumn is two
//!   buckets; a bucket of `4 hours` is three or five hours long once a year; and where the clock is set by 30
//!   minutes (Lord Howe Island), one bucket of `1 hour` a year has 90 minutes and one has 30.
//! - A day, or a month, starts when its date first shows on the calendar. Where midnight is skipped, it
//!   starts at the first instant after it; where midnight is passed twice, it starts at the first.
//!
//! # From Rust
//!
//! [`Bucketing`] is the same computation without SQL, and knows when coarse buckets can be put together from
//! finer ones:
//!
//! ```
//! use toplake_udfs::{BucketWidth, Bucketing};
//!
//! # fn main() -> datafusion::error::Result<()> {
//! let kolkata = "Asia/Kolkata".parse()?;
//! let days = Bucketing::new(BucketWidth::parse("1 day")?, Some(kolkata), None);
//! let hours = Bucketing::new(BucketWidth::parse("1 hour")?, None, None);
//! let half_hours = Bucketing::new(BucketWidth::parse("30 minutes")?, None, None);
//!
//! assert!(!days.nests_in(&hours));
//! assert!(days.nests_in(&half_hours));
//! # Ok(())
//! # }
//! ```

mod arguments;
mod bucketing;
mod udf;
mod width;
mod zone;

pub use bucketing::Bucketing;
pub use udf::{TimeBucket, time_bucket_udf};
pub use width::BucketWidth;
pub use zone::Zone;
