//! The merge of partial rows is left out where the query merges them again, and only there.

use insta::assert_snapshot;

use super::{append, folded, plan, without};
use crate::harness::Home;

const TOP: &str = "SELECT product_id, sum(quantity) AS quantity FROM daily
    WHERE bucket >= '2026-03-02' AND country = 'DE' GROUP BY 1 ORDER BY 2 DESC LIMIT 20";

#[tokio::test(flavor = "multi_thread")]
async fn over_folded_rows() {
    let home = Home::new();
    let desk = folded(&home).await;
    assert_snapshot!(plan(&home, &desk, TOP).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_tail_through_a_cascade() {
    let home = Home::new();
    let desk = folded(&home).await;
    append(&desk).await;
    assert_snapshot!(plan(&home, &desk, TOP).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_dirty_ranges() {
    let home = Home::new();
    let desk = folded(&home).await;
    desk.run("DELETE FROM sales WHERE event_time = '2026-03-02 10:20:00'").await;
    append(&desk).await;
    assert_snapshot!(plan(&home, &desk, TOP).await);
}

/// The arms of a union are merged by what stands above it, as in `top_1000`.
#[tokio::test(flavor = "multi_thread")]
async fn through_a_union_and_a_subquery() {
    let home = Home::new();
    let desk = folded(&home).await;
    let sql = "WITH periods AS (SELECT 'hour' AS period, bucket, product_id, quantity FROM hourly WHERE bucket >= '2026-03-03'
                 UNION ALL SELECT 'day', bucket, product_id, quantity FROM daily WHERE bucket = '2026-03-03')
               SELECT period, upper(product_id) AS product, sum(quantity) AS quantity, max(bucket) AS last FROM periods
               WHERE product_id <> 'x' GROUP BY 1, 2";
    assert_snapshot!(plan(&home, &desk, sql).await);
}

/// As in `clicks_by_filter`: each row counts once for each filter that it passes.
#[tokio::test(flavor = "multi_thread")]
async fn through_a_join_by_keys() {
    let home = Home::new();
    let desk = folded(&home).await;
    desk.run(
        "CREATE TABLE filters (filter_id BIGINT, country VARCHAR); INSERT INTO filters VALUES (1, 'DE'), (2, NULL), (3, 'XX')",
    )
    .await;
    let sql = "SELECT f.filter_id, sum(d.quantity) AS quantity FROM daily AS d
               JOIN filters AS f ON f.country IS NULL OR f.country = d.country WHERE d.bucket >= '2026-03-03' GROUP BY 1";
    assert_eq!(desk.rows(sql).await, ["1,210", "2,212"]);
    assert_snapshot!(plan(&home, &desk, sql).await);
}

/// Queries that see the difference between a row and its partial rows.
#[tokio::test(flavor = "multi_thread")]
async fn not_where_a_row_counts_as_one() {
    let home = Home::new();
    let desk = folded(&home).await;
    desk.run("CREATE TABLE products (product_id VARCHAR, price BIGINT)").await;
    let without = without(&desk, "drop_merge").await;
    for sql in [
        "SELECT * FROM daily",
        "SELECT product_id, count(*) FROM daily GROUP BY 1",
        "SELECT product_id, avg(quantity) FROM daily GROUP BY 1",
        "SELECT product_id, max(quantity) FROM daily GROUP BY 1",
        "SELECT product_id, sum(quantity), min(events) FROM daily GROUP BY 1",
        "SELECT product_id, sum(DISTINCT quantity) FROM daily GROUP BY 1",
        "SELECT product_id, sum(quantity + 1) FROM daily GROUP BY 1",
        "SELECT product_id, sum(quantity) FILTER (WHERE events > 1) FROM daily GROUP BY 1",
        "SELECT product_id, sum(quantity) FROM daily WHERE events > 1 GROUP BY 1",
        "SELECT product_id, sum(quantity) FROM daily WHERE random() < 0.5 GROUP BY 1",
        "SELECT quantity, sum(events) FROM daily GROUP BY 1",
        "SELECT product_id, sum(quantity) FROM (SELECT * FROM daily LIMIT 3) GROUP BY 1",
        "SELECT product_id, sum(quantity) FROM (SELECT *, rank() OVER (ORDER BY bucket) AS r FROM daily) WHERE r < 3 GROUP BY 1",
        "SELECT d.product_id, count(*) FROM daily AS d JOIN products AS p ON d.product_id = p.product_id GROUP BY 1",
        "SELECT d.product_id, sum(p.price) FROM daily AS d JOIN products AS p ON d.product_id = p.product_id GROUP BY 1",
        "SELECT p.product_id, sum(d.quantity) FROM daily AS d JOIN products AS p ON d.quantity = p.price GROUP BY 1",
        "SELECT p.product_id, sum(d.quantity) FROM products AS p LEFT JOIN daily AS d ON d.product_id = p.product_id GROUP BY 1",
    ] {
        assert_eq!(plan(&home, &desk, sql).await, plan(&home, &without, sql).await, "{sql}");
    }
    assert_ne!(plan(&home, &desk, TOP).await, plan(&home, &without, TOP).await);
}
