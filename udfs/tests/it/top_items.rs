//! Top items in SQL: results, types, errors.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

use crate::harness::{error, rows, session, table, value};

async fn top(sql: &str) -> String {
    value(&session(2, 8192), sql).await
}

#[tokio::test]
async fn best_first_and_ties_by_item() {
    let of = "FROM (VALUES ('b'), ('a'), ('c'), ('b'), ('d'), ('a'), (NULL)) AS t(x)";
    let expected = "[{item: a, count: 2, lower: 2, upper: 2}, {item: b, count: 2, lower: 2, upper: 2}, \
                    {item: c, count: 1, lower: 1, upper: 1}]";
    assert_eq!(top(&format!("SELECT approx_top_k(x, 3) {of}")).await, expected);
    let from_state = format!("SELECT approx_top_k_estimate(approx_top_k_accumulate(x), 3) {of}");
    assert_eq!(top(&from_state).await, expected);
    assert_eq!(top("SELECT approx_top_k(x) FROM (VALUES (1)) AS t(x) WHERE x > 1").await, "[]");
}

#[tokio::test]
async fn sums_net_refunds_and_show_both_sides() {
    let sql = "SELECT approx_top_sum(x, w, 3) FROM (VALUES ('a', 5), ('b', 9), ('a', 4), ('b', -7), ('c', -3), (NULL, 8),
               ('d', NULL)) AS t(x, w)";
    assert_eq!(
        top(sql).await,
        "[{item: a, sum: 9, lower: 9, upper: 9, added: 9, taken: 0}, \
         {item: b, sum: 2, lower: 2, upper: 2, added: 9, taken: 7}, \
         {item: c, sum: -3, lower: -3, upper: -3, added: 0, taken: 3}]"
    );
}

#[tokio::test]
async fn money_is_exact() {
    let sql = "SELECT approx_top_sum(x, CAST(w AS DECIMAL(18, 4)), 2)
               FROM (VALUES (1, '0.1'), (1, '0.2'), (2, '99999999999999.9999'), (1, '-0.05')) AS t(x, w)";
    assert_eq!(
        top(sql).await,
        "[{item: 2, sum: 99999999999999.9999, lower: 99999999999999.9999, upper: 99999999999999.9999, \
         added: 99999999999999.9999, taken: 0.0000}, \
         {item: 1, sum: 0.2500, lower: 0.2500, upper: 0.2500, added: 0.3000, taken: 0.0500}]"
    );
}

/// Merging each host's own first two would lose C.
#[tokio::test]
async fn merged_states_find_what_each_part_ranks_third() {
    let hosts = "(VALUES (1, 'A', 7), (1, 'B', 6), (1, 'C', 5), (2, 'A', 2), (2, 'B', 4), (2, 'C', 5)) AS t(host, x, w)";
    let sql = format!(
        "SELECT approx_top_sum_estimate(approx_top_sum_combine(s), 2)
         FROM (SELECT host, approx_top_sum_accumulate(x, w) AS s FROM {hosts} GROUP BY host)"
    );
    assert_eq!(
        top(&sql).await,
        "[{item: B, sum: 10, lower: 10, upper: 10, added: 10, taken: 0}, \
         {item: C, sum: 10, lower: 10, upper: 10, added: 10, taken: 0}]"
    );
}

#[tokio::test]
async fn every_type_of_item_comes_back_as_it_went_in() {
    let ctx = session(2, 3);
    for (t, a, b) in [
        ("TINYINT", "-3", "5"),
        ("SMALLINT", "-3", "500"),
        ("INT", "-3", "500000"),
        ("BIGINT", "-3", "5000000000"),
        ("TINYINT UNSIGNED", "3", "255"),
        ("SMALLINT UNSIGNED", "3", "65535"),
        ("INT UNSIGNED", "3", "4294967295"),
        ("BIGINT UNSIGNED", "3", "18446744073709551615"),
        ("BOOLEAN", "false", "true"),
        ("VARCHAR", "short", "a string of more than twelve bytes"),
        ("BYTEA", "short", "a string of more than twelve bytes"),
        ("DATE", "1969-12-31", "2026-11-21"),
        ("TIMESTAMP(6)", "1969-12-31T23:59:59", "2026-11-21T10:00:00"),
        ("TIMESTAMP(9)", "1969-12-31T23:59:59", "2026-11-21T10:00:00"),
        ("DECIMAL(9, 2)", "-1.50", "2.25"),
        ("DECIMAL(38, 2)", "-123456789012345678901234567890.50", "123456789012345678901234567890.25"),
    ] {
        let from = format!(
            "FROM (SELECT CAST(x AS {t}) AS x FROM (VALUES ('{b}'), ('{a}'), ('{b}'), ('{a}')) AS t(x))"
        );
        let expected = value(&ctx, &format!("SELECT array_agg(DISTINCT x ORDER BY x) {from}")).await;
        for top in [
            "approx_top_k(x)",
            "approx_top_k_estimate(approx_top_k_accumulate(x))",
            "approx_top_sum(x, 1)",
            "approx_top_sum_estimate(approx_top_sum_accumulate(x, 1))",
        ] {
            let sql = format!(
                "SELECT array_agg(u['item'] ORDER BY u['item']) FROM (SELECT unnest({top}) AS u {from})"
            );
            assert_eq!(value(&ctx, &sql).await, expected, "{t} {top}");
            let sql =
                format!("SELECT arrow_typeof(u['item']) FROM (SELECT unnest({top}) AS u {from}) LIMIT 1");
            let expected = value(&ctx, &format!("SELECT arrow_typeof(x) {from} LIMIT 1")).await;
            assert_eq!(value(&ctx, &sql).await, expected, "{t} {top}");
        }
    }
}

#[tokio::test]
async fn dictionaries_time_zones_and_filters() {
    let ctx = session(2, 3);
    let from = "FROM (VALUES ('a', 1), ('b', 2), ('a', 3), ('b', 4), ('b', NULL)) AS t(x, w)";
    let sql = format!("SELECT approx_top_k(arrow_cast(x, 'Dictionary(Int32, Utf8)'), 1) {from}");
    assert_eq!(value(&ctx, &sql).await, "[{item: b, count: 3, lower: 3, upper: 3}]");
    let sql = format!("SELECT approx_top_k(x, 1) FILTER (WHERE w < 4) {from}");
    assert_eq!(value(&ctx, &sql).await, "[{item: a, count: 2, lower: 2, upper: 2}]");
    let sql = format!("SELECT x, approx_top_k(w, 9) FILTER (WHERE w < 4) {from} GROUP BY x ORDER BY x");
    assert_eq!(
        rows(&ctx, &sql).await,
        [
            "a|[{item: 1, count: 1, lower: 1, upper: 1}, {item: 3, count: 1, lower: 1, upper: 1}]",
            "b|[{item: 2, count: 1, lower: 1, upper: 1}]"
        ]
    );
    let sql = "SELECT approx_top_k(arrow_cast('2026-03-29T01:30:00Z', 'Timestamp(Microsecond, Some(\"Europe/Berlin\"))'))";
    assert_eq!(value(&ctx, sql).await, "[{item: 2026-03-29T03:30:00+02:00, count: 1, lower: 1, upper: 1}]");
}

#[tokio::test]
async fn a_column_of_strings_of_every_layout() {
    let names: Vec<String> = (0..200).map(|i| format!("{}{}", "long ".repeat(i % 4), i % 40)).collect();
    let ctx = session(2, 16);
    table(&ctx, &[("x", Arc::new(StringArray::from(names)) as ArrayRef)], 3);
    let expected = value(&ctx, "SELECT approx_top_k(x, 40) FROM t").await;
    assert!(expected.contains("{item: long 1, count: 5, lower: 5, upper: 5}"), "{expected}");
    for layout in ["Utf8", "LargeUtf8", "Utf8View", "Dictionary(Int32, Utf8)"] {
        let sql = format!("SELECT approx_top_k(arrow_cast(x, '{layout}'), 40) FROM t");
        assert_eq!(value(&ctx, &sql).await, expected, "{layout}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_the_reason() {
    let ctx = session(2, 8192);
    table(&ctx, &[("x", Arc::new(Int64Array::from_iter_values(0..1000)) as ArrayRef)], 2);
    for (sql, reason) in [
        ("approx_top_k(x, 0)", "approx_top_k returns between 1 and 50000000 items, not 0"),
        ("approx_top_k(x, x)", "argument 2 of approx_top_k has to be a constant"),
        (
            "approx_top_k(x, 100, 128)",
            "a sketch of capacity 128 ranks at most 96 items, not 100: make it with a capacity of 256 or more",
        ),
        ("approx_top_k(x, 2, 4)", "the capacity of approx_top_k is between 8 and 67108864, not 4"),
        ("approx_top_k(DISTINCT x)", "approx_top_k does not take DISTINCT"),
        ("approx_top_k(x * 1.5e0)", "approx_top_k cannot count items of type Float64"),
        ("approx_top_sum(x, x * 1.5e0)", "approx_top_sum adds integers or decimals, not Float64"),
        (
            "approx_top_sum(x)",
            "approx_top_sum takes an item, a weight, and optionally k, a capacity, not 1 arguments",
        ),
        (
            "approx_top_sum(x, 9223372036854775807)",
            "the weights of the sketch add up to more than 9223372036854775807",
        ),
        ("approx_top_k_estimate(x)", "approx_top_k_estimate takes a sketch"),
        (
            "approx_top_k_estimate(approx_top_sum_accumulate(x, 1))",
            "approx_top_k_estimate takes a sketch of approx_top_k",
        ),
        (
            "approx_top_k_estimate(approx_top_k_accumulate(x, 64), 100)",
            "a sketch of capacity 64 ranks at most 48 items, not 100: make it with a capacity of 256 or more",
        ),
        (
            "approx_top_k_estimate(count_min_sketch(x, 0.1, 0.9))",
            "expected a top-k sketch, got a count-min sketch",
        ),
    ] {
        let message = error(&ctx, &format!("SELECT {sql} FROM t")).await;
        assert!(message.contains(reason), "{sql}: {message}");
    }
    // All that there is, is an answer.
    let few =
        "SELECT cardinality(approx_top_k_estimate(approx_top_k_accumulate(x, 64), 100)) FROM t WHERE x < 20";
    assert_eq!(value(&ctx, few).await, "20");
}

#[tokio::test]
async fn combining_takes_the_largest_capacity_or_the_given_one() {
    let ctx = session(2, 8192);
    table(&ctx, &[("x", Arc::new(Int64Array::from_iter_values(0..3000)) as ArrayRef)], 2);
    let states = "(SELECT approx_top_k_accumulate(x, 64) AS s FROM t WHERE x < 10
                   UNION ALL SELECT approx_top_k_accumulate(x, 1024) FROM t WHERE x < 700)";
    let ranked =
        |combine: &str| format!("SELECT cardinality(approx_top_k_estimate({combine}, 700)) FROM {states}");
    assert_eq!(value(&ctx, &ranked("approx_top_k_combine(s)")).await, "700");
    assert!(
        error(&ctx, &ranked("approx_top_k_combine(s, 512)")).await.contains("capacity 512 ranks at most 384")
    );
}
