//! Properties of `Bucketing` over random widths, zones, origins and instants.

use std::fmt::Debug;

use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use toplake_udfs::{BucketWidth, Bucketing, Zone};

const DAY: i64 = 86_400_000_000;
const YEAR: i64 = 366 * DAY;

const WIDTHS: &[&str] = &[
    "1 microsecond",
    "100 milliseconds",
    "1 second",
    "1 minute",
    "5 minutes",
    "15 minutes",
    "20 minutes",
    "30 minutes",
    "1 hour",
    "2 hours",
    "3 hours",
    "4 hours",
    "6 hours",
    "12 hours",
    "7 hours",
    "24 hours",
    "36 hours",
    "48 hours",
    "1 day",
    "2 days",
    "3 days",
    "1 week",
    "2 weeks",
    "10 days",
    "1 month",
    "2 months",
    "3 months",
    "6 months",
    "1 year",
    "5 years",
    "1 century",
];

/// Zones whose clocks do unusual things, and ordinary ones.
const ZONES: &[&str] = &[
    "UTC",
    "+05:30",
    "-03:30",
    "+14:00",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",
    "Europe/Moscow",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Goose_Bay",
    "America/Caracas",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Asia/Gaza",
    "Asia/Pyongyang",
    "Asia/Manila",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "Australia/Lord_Howe",
    "Australia/Eucla",
    "Antarctica/Troll",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Pacific/Chatham",
    "Pacific/Auckland",
];

fn width() -> impl Strategy<Value = BucketWidth> {
    select(WIDTHS).prop_map(|text| BucketWidth::parse(text).unwrap())
}

fn zone() -> impl Strategy<Value = Option<Zone>> {
    let listed = select(ZONES).prop_map(|name| Some(name.parse().unwrap()));
    let any = select(&chrono_tz::TZ_VARIANTS[..]).prop_map(|tz: Tz| Some(Zone::from(tz)));
    prop_oneof![Just(None), listed, any]
}

fn origin() -> impl Strategy<Value = Option<i64>> {
    let minutes = (-30 * YEAR / 60_000_000..60 * YEAR / 60_000_000).prop_map(|n| Some(n * 60_000_000));
    let any = (-30 * YEAR..60 * YEAR).prop_map(Some);
    prop_oneof![5 => Just(None), 1 => minutes, 1 => any]
}

fn bucketing() -> impl Strategy<Value = Bucketing> {
    (width(), zone(), origin()).prop_map(|(width, zone, origin)| Bucketing::new(width, zone, origin))
}

/// Instants from 1850 to 2110, from the whole range, and round ones, near which buckets start and clocks
/// change.
fn instant() -> impl Strategy<Value = i64> {
    let recent = -120 * YEAR..140 * YEAR;
    let quarter_hours = (0..140 * YEAR / 900_000_000).prop_map(|n| n * 900_000_000);
    let special = select(&[i64::MIN, -1, 0, 1, i64::MAX][..]);
    prop_oneof![3 => recent, 3 => quarter_hours, 1 => any::<i64>(), 1 => special]
}

/// The same random cases in every run.
fn check<S>(cases: u32, strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S: Strategy,
    S::Value: Debug,
{
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    if let Err(error) = runner.run(&strategy, test) {
        panic!("{error}");
    }
}

/// What must hold for the bucket of one instant and its neighbours.
fn check_bucket(buckets: &Bucketing, at: i64) -> Result<(), TestCaseError> {
    let (start, end) = buckets.bounds(at);
    prop_assert!(start <= at);
    prop_assert!(at < end || end == i64::MAX);
    if start > i64::MIN {
        prop_assert_eq!(buckets.bounds(start), (start, end), "the start is in its bucket");
        prop_assert_eq!(buckets.end(start - 1), start, "the bucket before ends where this one starts");
    }
    if end < i64::MAX {
        prop_assert_eq!(buckets.start(end), end, "the next bucket starts where this one ends");
        prop_assert_eq!(buckets.bounds(end - 1), (start, end), "the last instant is in the bucket");
    }
    Ok(())
}

#[test]
fn buckets_are_contiguous_and_contain_their_start() {
    check(20_000, (bucketing(), instant()), |(buckets, at)| check_bucket(&buckets, at));
}

#[test]
fn buckets_are_in_order_of_time() {
    check(20_000, (bucketing(), instant(), 0..40 * DAY), |(buckets, at, later)| {
        prop_assert!(buckets.start(at) <= buckets.start(at.saturating_add(later)));
        Ok(())
    });
}

/// Where clocks change, in steps of 15 minutes: in the years with the oddest changes, and in recent ones.
#[test]
fn buckets_are_sound_around_every_change_of_the_clock() {
    let widths = ["15 minutes", "1 hour", "2 hours", "4 hours", "1 day", "3 days", "1 month"];
    for name in ZONES {
        let zone: Zone = name.parse().unwrap();
        let days = Bucketing::new(BucketWidth::parse("1 day").unwrap(), Some(zone), None);
        let years = [1943, 1972, 1988, 1993, 2006, 2011, 2018, 2024].map(|year| (year - 1970) * 365 * DAY);
        for at in years.into_iter().flat_map(|year| (year..year + YEAR).step_by(DAY as usize)) {
            let (start, end) = days.bounds(at);
            if end - start != DAY {
                for width in widths {
                    let buckets = Bucketing::new(BucketWidth::parse(width).unwrap(), Some(zone), None);
                    let mut last = i64::MIN;
                    for at in (start - DAY..end + DAY).step_by(900_000_000) {
                        check_bucket(&buckets, at).unwrap_or_else(|e| panic!("{name} {width} {at}: {e}"));
                        assert!(last <= buckets.start(at), "{name} {width} {at}");
                        last = buckets.start(at);
                    }
                }
            }
        }
    }
}

#[test]
fn nested_buckets_are_unions_of_finer_ones() {
    let pair = (width(), width(), zone(), zone(), any::<bool>(), origin()).prop_map(
        |(coarse, fine, zone, other, same_zone, origin)| {
            let fine_zone = if same_zone { zone } else { other };
            (Bucketing::new(coarse, zone, origin), Bucketing::new(fine, fine_zone, origin))
        },
    );
    let instants = proptest::collection::vec(2 * YEAR..140 * YEAR, 100);
    let nested = std::cell::Cell::new(0);
    check(4_000, (pair, instants), |((coarse, fine), instants)| {
        if coarse.nests_in(&fine) {
            nested.set(nested.get() + 1);
            for at in instants {
                let (start, end) = fine.bounds(at);
                prop_assert_eq!(coarse.start(start), coarse.start(at));
                prop_assert_eq!(coarse.end(end - 1), coarse.end(at));
            }
        }
        Ok(())
    });
    // Not vacuous.
    assert!(nested.get() > 400, "{}", nested.get());
}

/// For every pair in every zone, at every start of a coarse bucket, where nesting would fail first.
#[test]
fn starts_of_nested_buckets_are_starts_of_finer_ones() {
    let widths =
        ["1 minute", "15 minutes", "30 minutes", "1 hour", "4 hours", "1 day", "1 week", "1 month", "1 year"];
    let bucketings = |zone: Option<Zone>| {
        widths.map(|width| Bucketing::new(BucketWidth::parse(width).unwrap(), zone, None))
    };
    for name in ZONES {
        let zone: Zone = name.parse().unwrap();
        let zoned = bucketings(Some(zone));
        let utc = bucketings(None);
        for coarse in &zoned[3..] {
            let finer: Vec<_> = zoned.iter().chain(&utc).filter(|finer| coarse.nests_in(finer)).collect();
            assert!(!finer.is_empty());
            // Every change of recent years for hours, and every change since 1970 for months.
            let (from, until) = match coarse.end(0) - coarse.start(0) {
                length if length < DAY => (54 * YEAR, 55 * YEAR),
                length if length < 20 * DAY => (15 * YEAR, 25 * YEAR),
                _ => (YEAR, 131 * YEAR),
            };
            let mut at = coarse.end(from);
            while at < until {
                for finer in &finer {
                    assert_eq!(finer.start(at), at, "{coarse:?} in {finer:?} at {at}");
                }
                at = coarse.end(at);
            }
        }
    }
}
