//! Count-min sketches in SQL.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{error, rows, session, table, value};

#[tokio::test]
async fn counts_sums_and_refunds() {
    let ctx = session(2, 2);
    let from = "FROM (VALUES ('a', 5), ('b', 9), ('a', 4), ('b', -7), (NULL, 8), ('d', NULL)) AS t(x, w)";
    let sketch = "count_min_sketch(x, 0.01, 0.99)";
    assert_eq!(value(&ctx, &format!("SELECT count_min_estimate({sketch}, 'a') {from}")).await, "2");
    assert_eq!(value(&ctx, &format!("SELECT count_min_estimate({sketch}, 'zzz') {from}")).await, "0");
    let sums = "count_min_sketch(x, 0.01, 0.99, 7, w)";
    for (item, sum) in [("a", "9"), ("b", "2"), ("c", "0")] {
        assert_eq!(
            value(&ctx, &format!("SELECT count_min_estimate({sums}, '{item}') {from}")).await,
            sum,
            "{item}"
        );
    }
    let money = "count_min_sketch(x, 0.01, 0.99, 7, CAST(w AS DECIMAL(10, 2)))";
    assert_eq!(value(&ctx, &format!("SELECT count_min_estimate({money}, 'b') {from}")).await, "2.00");
    // e / 272 of the 18 added and the 7 taken off.
    assert_eq!(value(&ctx, &format!("SELECT round(count_min_error({money}), 6) {from}")).await, "0.249842");
}

#[tokio::test]
async fn the_bounds_hold_grouped_merged_or_at_once() {
    let mut random = StdRng::seed_from_u64(5);
    let items: Vec<i64> = (0..60_000).map(|_| (1000.0 / (random.random::<f64>() + 0.001)) as i64).collect();
    let ctx = session(3, 500);
    table(&ctx, &[("x", Arc::new(Int64Array::from(items)) as ArrayRef)], 4);
    let at_once = "SELECT count_min_sketch(x, 0.002, 0.99) AS s FROM t";
    let merged = "SELECT count_min_combine(s) AS s FROM (SELECT count_min_sketch(x, 0.002, 0.99) AS s FROM t GROUP BY x % 17)";
    for of in [at_once, merged] {
        let sql = format!(
            "SELECT count(*) FILTER (WHERE e < n), count(*) FILTER (WHERE e > n + bound), count(*)
             FROM (SELECT x, count(*) AS n FROM t GROUP BY x)
             JOIN (SELECT DISTINCT x AS y, count_min_estimate(s, x) AS e, count_min_error(s) AS bound FROM t, ({of}))
             ON x = y"
        );
        let counts: Vec<u64> = rows(&ctx, &sql).await[0].split('|').map(|n| n.parse().unwrap()).collect();
        assert_eq!(counts[0], 0, "an estimate is too low");
        assert!(counts[1] as f64 <= 0.01 * counts[2] as f64, "{} of {} are too high", counts[1], counts[2]);
    }
    // The same sketch, byte by byte: adding is exact in any order.
    let bytes = |of: &str| format!("SELECT sha256(sketch_bytes(s)) FROM ({of})");
    assert_eq!(value(&ctx, &bytes(at_once)).await, value(&ctx, &bytes(merged)).await);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_the_reason() {
    let ctx = session(2, 8192);
    table(&ctx, &[("x", Arc::new(Int64Array::from_iter_values(0..100)) as ArrayRef)], 2);
    for (sql, reason) in [
        ("count_min_sketch(x, 0, 0.9)", "eps of count_min_sketch is between 0 and 1"),
        ("count_min_sketch(x, 0.1, 1)", "confidence of count_min_sketch is between 0 and 1"),
        ("count_min_sketch(x, 1e-9, 0.9)", "use a larger eps"),
        ("count_min_sketch(x, 0.1)", "takes an item, eps, confidence"),
        ("count_min_sketch(x, 0.1, 0.9, 1, 2.5e0)", "adds integers or decimals, not Float64"),
    ] {
        let message = error(&ctx, &format!("SELECT {sql} FROM t")).await;
        assert!(message.contains(reason), "{sql}: {message}");
    }
    let sql = "SELECT count_min_combine(s) FROM (SELECT count_min_sketch(x, 0.1, 0.9) AS s FROM t
               UNION ALL SELECT count_min_sketch(x, 0.2, 0.9) AS s FROM t)";
    assert!(error(&ctx, sql).await.contains("of different eps, confidence or seed cannot be merged"));
    assert_eq!(
        value(
            &ctx,
            &format!("SELECT c IS NULL OR c['sketch'] IS NULL FROM ({sql} WHERE false) AS q(c)")
                .replace("UNION ALL SELECT count_min_sketch(x, 0.2, 0.9) AS s FROM t)", ")")
        )
        .await,
        "true"
    );
}
