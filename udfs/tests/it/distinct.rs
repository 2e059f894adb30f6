//! Distinct counts in SQL.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

use crate::harness::{error, rows, session, table, value};

#[tokio::test]
async fn few_are_exact_and_many_are_within_bounds() {
    let ctx = session(3, 1000);
    let items: Vec<i64> = (0..200_000).map(|i| i * 7 % 90_001).collect();
    let names: Vec<String> = items.iter().map(|i| format!("user {i} of the example")).collect();
    table(
        &ctx,
        &[("x", Arc::new(Int64Array::from(items)) as ArrayRef), ("y", Arc::new(StringArray::from(names)))],
        4,
    );
    for x in ["x", "y"] {
        let few = format!("SELECT hll_sketch_estimate(hll_sketch_agg({x})) FROM t WHERE x < 100");
        assert_eq!(value(&ctx, &few).await, "100");
        let merged = format!(
            "SELECT b['lower'] <= 90001 AND b['upper'] >= 90001 AND b['estimate'] BETWEEN 85000 AND 95000
             FROM (SELECT hll_sketch_bounds(hll_union_agg(s), 3) AS b
                   FROM (SELECT hll_sketch_agg({x}) AS s FROM t GROUP BY x % 40))"
        );
        assert_eq!(value(&ctx, &merged).await, "true");
    }
    let groups =
        "SELECT x % 3, hll_sketch_estimate(hll_sketch_agg(x, 14)) FROM t WHERE x < 30 GROUP BY 1 ORDER BY 1";
    assert_eq!(rows(&ctx, groups).await, ["0|10", "1|10", "2|10"]);
    assert_eq!(value(&ctx, "SELECT hll_sketch_estimate(hll_sketch_agg(x)) FROM t WHERE x < 0").await, "0");
    let null = "SELECT hll_sketch_estimate(hll_sketch_agg(x)) FROM (VALUES (1), (NULL), (1)) AS t(x)";
    assert_eq!(value(&ctx, null).await, "1");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_the_reason() {
    let ctx = session(2, 8192);
    for (sql, reason) in [
        ("hll_sketch_agg(x, 3)", "lg_k of hll_sketch_agg is between 4 and 21, not 3"),
        ("hll_sketch_estimate(x)", "hll_sketch_estimate takes a sketch"),
        ("hll_union_agg(x)", "hll_union_agg takes a sketch"),
        ("hll_sketch_bounds(hll_sketch_agg(x), 4)", "1, 2 or 3 standard deviations"),
        (
            "hll_sketch_estimate(approx_top_k_accumulate(x))",
            "expected a distinct (hll) sketch, got a top-k sketch",
        ),
    ] {
        let message = error(&ctx, &format!("SELECT {sql} FROM (VALUES (1)) AS t(x)")).await;
        assert!(message.contains(reason), "{sql}: {message}");
    }
}
