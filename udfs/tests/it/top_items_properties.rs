//! Properties of top items over random streams: the bounds hold, however the rows are cut, grouped and merged.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::types::Int64Type;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, StructArray};
use datafusion::prelude::SessionContext;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{column, session, table};

/// How items are spread.
#[derive(Debug, Clone, Copy)]
enum Stream {
    /// The item of rank r comes in proportion to 1 / r^s.
    Zipf(f64),
    Uniform,
    /// Each item comes as often as the others, and new ones all the time.
    Ties,
    /// The items that lead come last.
    Rising,
}

fn items(stream: Stream, rows: usize, seed: u64) -> Vec<i64> {
    let mut random = StdRng::seed_from_u64(seed);
    let distinct = (rows / 3).max(1);
    let shares: Vec<f64> = match stream {
        Stream::Zipf(s) => (1..=distinct).map(|r| (r as f64).powf(-s)).collect(),
        _ => vec![1.0; distinct],
    };
    let mut sum = 0.0;
    let cumulative: Vec<f64> = shares
        .iter()
        .map(|share| {
            sum += share;
            sum
        })
        .collect();
    let mut items: Vec<i64> = match stream {
        Stream::Ties => (0..rows).map(|i| (i % distinct) as i64).collect(),
        _ => (0..rows)
            .map(|_| random.random::<f64>() * sum)
            .map(|at| cumulative.partition_point(|c| *c < at) as i64)
            .collect(),
    };
    if let Stream::Rising = stream {
        items.sort_unstable();
        items.extend(vec![-1; rows / 10]);
    }
    // So that neighbours are not alike in the table either.
    items.iter().map(|item| item.wrapping_mul(0x5851_F42D_4C95_7F2D) >> 20).collect()
}

fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![
        (5..20_u8).prop_map(|s| Stream::Zipf(f64::from(s) / 10.0)),
        Just(Stream::Uniform),
        Just(Stream::Ties),
        Just(Stream::Rising),
    ]
}

#[derive(Debug, Clone)]
struct Case {
    stream: Stream,
    rows: usize,
    seed: u64,
    refunds: bool,
    strings: bool,
    partitions: usize,
    batch_size: usize,
    groups: i64,
    lg_capacity: u32,
}

fn case() -> impl Strategy<Value = Case> {
    let shape = (1..5_usize, 1..400_usize, 1..30_i64, 3..10_u32);
    (stream(), 1..6000_usize, any::<u64>(), any::<bool>(), any::<bool>(), shape).prop_map(
        |(stream, rows, seed, refunds, strings, (partitions, batch_size, groups, lg_capacity))| Case {
            stream,
            rows,
            seed,
            refunds,
            strings,
            partitions,
            batch_size,
            groups,
            lg_capacity,
        },
    )
}

/// What a list says of an item.
struct Said {
    estimate: i64,
    lower: i64,
    upper: i64,
}

fn said(lists: &ArrayRef) -> Vec<(String, Said)> {
    assert_eq!(lists.len(), 1);
    let list = lists.as_list::<i32>().value(0);
    let rows: &StructArray = list.as_struct();
    let items =
        datafusion::arrow::compute::cast(rows.column(0), &datafusion::arrow::datatypes::DataType::Utf8)
            .unwrap();
    let items = items.as_string::<i32>();
    let number = |i: usize| rows.column(i).as_primitive::<Int64Type>();
    (0..rows.len())
        .map(|i| {
            let said =
                Said { estimate: number(1).value(i), lower: number(2).value(i), upper: number(3).value(i) };
            (items.value(i).to_owned(), said)
        })
        .collect()
}

async fn check(case: Case) {
    let ctx: SessionContext = session(case.partitions, case.batch_size);
    let items = items(case.stream, case.rows, case.seed);
    let mut random = StdRng::seed_from_u64(case.seed ^ 1);
    let weights: Vec<i64> =
        items.iter().map(|_| random.random_range(if case.refunds { -4 } else { 0 }..10)).collect();
    let name = |item: i64| if case.strings { format!("the item of number {item}") } else { item.to_string() };
    let names: Vec<String> = items.iter().map(|item| name(*item)).collect();
    let column_of_items: ArrayRef = match case.strings {
        true => Arc::new(StringArray::from(names.clone())),
        false => Arc::new(Int64Array::from(items.clone())),
    };
    let groups = Int64Array::from_iter_values(items.iter().map(|_| random.random_range(0..case.groups)));
    let columns: [(&str, ArrayRef); 3] =
        [("x", column_of_items), ("w", Arc::new(Int64Array::from(weights.clone()))), ("g", Arc::new(groups))];
    table(&ctx, &columns, case.partitions);

    let mut counts: HashMap<&str, i64> = HashMap::new();
    let mut sums: HashMap<&str, i64> = HashMap::new();
    for (item, weight) in names.iter().zip(&weights) {
        *counts.entry(item).or_default() += 1;
        *sums.entry(item).or_default() += weight;
    }
    let capacity = 1 << case.lg_capacity;
    let k = capacity / 4 * 3;
    for (what, call, truth) in [("k", "x", &counts), ("sum", "x, w", &sums)] {
        let f = format!("approx_top_{what}");
        let accumulated = |by: &str| format!("SELECT {f}_accumulate({call}, {capacity}) AS s FROM t {by}");
        let merged = |of: &str| format!("SELECT {f}_estimate({f}_combine(s), {k}) FROM ({of})");
        for sql in [
            format!("SELECT {f}({call}, {k}, {capacity}) FROM t"),
            format!("SELECT {f}_estimate(s, {k}) FROM ({})", accumulated("")),
            merged(&accumulated("GROUP BY g")),
            merged(&format!(
                "SELECT {f}_combine(s) AS s FROM (SELECT g, {f}_accumulate({call}, {capacity}) AS s FROM t GROUP BY g) GROUP BY g % 3"
            )),
        ] {
            let said = said(&column(&ctx, &sql).await);
            let mut last = i64::MAX;
            for (item, said) in &said {
                let truth = truth.get(item.as_str()).copied().unwrap_or_default();
                assert!(
                    said.lower <= truth && truth <= said.upper,
                    "{sql}: {item} is {truth}, said {} to {}",
                    said.lower,
                    said.upper
                );
                assert!(said.lower <= said.estimate && said.estimate <= said.upper, "{sql}: {item}");
                assert!(said.estimate <= last, "{sql}: not best first");
                last = said.estimate;
            }
            // What was never purged is exact and complete.
            if counts.len() < k && said.iter().all(|(_, s)| s.lower == s.upper) {
                assert!(said.len() >= truth.values().filter(|v| **v > 0).count(), "{sql}");
            }
            // An item that is not named is no better than the error of those that are.
            let error = said.iter().map(|(_, s)| s.upper - s.lower).max().unwrap_or_default();
            if what == "k" && said.len() < k {
                let named: Vec<&str> = said.iter().map(|(item, _)| item.as_str()).collect();
                let missed = truth
                    .iter()
                    .filter(|(item, _)| !named.contains(item))
                    .map(|(_, n)| *n)
                    .max()
                    .unwrap_or(0);
                assert!(
                    missed <= error || said.is_empty(),
                    "{sql}: {missed} is missing, the error is {error}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bounds_hold_however_rows_are_cut_and_merged(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(case));
    }
}
