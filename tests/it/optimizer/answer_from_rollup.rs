//! A query over raw events is answered by a rollup where that is asked for, and where it says the same.

use insta::assert_snapshot;

use super::{append, folded, plan};
use crate::harness::{Desk, Home};

/// What a query reads, and what it gives: rows, and columns with their types.
async fn run(desk: &Desk, sql: &str) -> (String, Vec<String>, String) {
    let batches = desk.try_run(&format!("EXPLAIN {sql}")).await.unwrap_or_else(|e| panic!("{e}\n{sql}"));
    let shown = crate::harness::rows(&batches).join("\n");
    let scans = shown.split("TableScan: ").skip(1).filter_map(|rest| rest.split_whitespace().next());
    let read = scans.collect::<Vec<_>>().join(" ");
    let rows = desk.try_run(sql).await.unwrap_or_else(|e| panic!("{e}\n{sql}"));
    let schema = rows.first().map(|batch| format!("{:?}", batch.schema().fields())).unwrap_or_default();
    (read, crate::harness::rows(&rows), schema)
}

/// The query gives the same as without the rule; with it, it reads `from`.
async fn assert_read(desk: &Desk, from: &str, sql: &str) {
    desk.run("SET toplake.rewrite = off").await;
    let (_, wanted, wanted_schema) = run(desk, sql).await;
    desk.run("SET toplake.rewrite = on").await;
    let (read, found, schema) = run(desk, sql).await;
    assert_eq!(read, from, "{sql}");
    assert_eq!((found, schema), (wanted, wanted_schema), "{sql}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_says_which() {
    let home = Home::new();
    let desk = folded(&home).await;
    append(&desk).await;
    desk.run("SET toplake.rewrite = on").await;
    let sql = "SELECT date_trunc('day', event_time) AS day, product_id, sum(quantity) AS quantity, count(*) AS events FROM sales
        WHERE event_time >= '2026-03-02' AND country = 'DE' GROUP BY 1, 2 ORDER BY 1, 2";
    assert_snapshot!(plan(&home, &desk, sql).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_that_has_the_answer() {
    let home = Home::new();
    let desk = folded(&home).await;
    append(&desk).await;
    // A file of a few rows has about the size of its footer: this one has one column less than the others.
    desk.run(
        "CREATE MATERIALIZED VIEW products AS
           SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, product_id, sum(quantity) AS quantity FROM hourly GROUP BY 1, 2;
         REFRESH MATERIALIZED VIEW products; CALL compact('products')",
    )
    .await;
    for (from, sql) in [
        ("products", "SELECT sum(quantity) FROM sales"),
        ("products", "SELECT DISTINCT product_id FROM sales"),
        (
            "products",
            "SELECT product_id, sum(quantity) AS q FROM sales WHERE event_time >= '2026-03-02' GROUP BY 1",
        ),
        (
            "products",
            "SELECT time_bucket(INTERVAL '1 month', event_time) AS month, sum(quantity) FROM sales GROUP BY 1",
        ),
        ("products", "SELECT sum(quantity), sum(quantity) + 1 AS more FROM sales HAVING sum(quantity) > 3"),
        ("products", "SELECT max(product_id), min(date_trunc('day', event_time)) FROM sales"),
        (
            "products",
            "SELECT p FROM (SELECT upper(product_id) AS p, quantity AS q FROM sales) GROUP BY p HAVING sum(q) > 1",
        ),
        // Nothing in it: a sum is NULL, a count is 0.
        (
            "daily",
            "SELECT sum(quantity), count(*), max(event_time) FROM sales WHERE event_time < '2020-01-01'",
        ),
        ("daily", "SELECT count(*) FROM sales WHERE product_id = 'nothing'"),
        (
            "daily",
            "SELECT count(*) FILTER (WHERE country = 'FR'), count(*) FROM sales WHERE country IS NOT NULL",
        ),
        ("daily", "SELECT product_id, sum(quantity * price) FROM sales GROUP BY 1"),
        (
            "hourly",
            "SELECT time_bucket(INTERVAL '2 hours', event_time) AS b, country, count(*) FROM sales GROUP BY 1, 2",
        ),
        (
            "hourly",
            "SELECT time_bucket(INTERVAL '1 day', event_time, 'Asia/Tokyo') AS b, count(*) FROM sales GROUP BY 1",
        ),
        (
            "hourly",
            "SELECT sum(quantity) FROM sales WHERE event_time BETWEEN '2026-03-02 10:00:00' AND '2026-03-02 10:59:59.999999'",
        ),
        (
            "hourly",
            "SELECT sum(quantity) FROM sales WHERE event_time < '2026-03-02 10:00:00' OR event_time >= '2026-03-03 10:00:00'",
        ),
        (
            "hourly",
            "SELECT sum(quantity) FROM sales WHERE date_trunc('hour', event_time) = '2026-03-02 10:00:00'",
        ),
        (
            "products daily",
            "SELECT s.product_id, q, n FROM (SELECT product_id, sum(quantity) AS q FROM sales GROUP BY 1) s
            JOIN (SELECT product_id, count(*) AS n FROM sales GROUP BY 1) t ON s.product_id = t.product_id",
        ),
    ] {
        assert_read(&desk, from, sql).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn none_where_it_could_differ() {
    let home = Home::new();
    let desk = folded(&home).await;
    append(&desk).await;
    for sql in [
        "SELECT * FROM sales",
        "SELECT time_bucket(INTERVAL '1 minute', event_time), sum(quantity) FROM sales GROUP BY 1",
        "SELECT time_bucket(INTERVAL '1 day', event_time, 'Asia/Kolkata'), sum(quantity) FROM sales GROUP BY 1",
        "SELECT sum(quantity) FROM sales WHERE event_time >= '2026-03-02 10:20:00'",
        "SELECT sum(quantity) FROM sales WHERE event_time > '2026-03-02'",
        "SELECT sum(quantity) FROM sales WHERE event_time <= '2026-03-02'",
        "SELECT sum(quantity) FROM sales WHERE quantity > 1",
        "SELECT sum(quantity) FILTER (WHERE quantity > 1) FROM sales",
        "SELECT avg(quantity) FROM sales",
        "SELECT sum(price) FROM sales",
        "SELECT count(quantity) FROM sales",
        "SELECT sum(DISTINCT quantity) FROM sales",
        "SELECT min(event_time) FROM sales",
        "SELECT extract(minute FROM event_time), sum(quantity) FROM sales GROUP BY 1",
        "SELECT country, sum(quantity) FROM sales GROUP BY CUBE (country, product_id)",
        "SELECT sum(quantity) FROM (SELECT * FROM sales LIMIT 3)",
    ] {
        assert_read(&desk, "sales", sql).await;
    }
    // Only rollups that leave out no more than the query does, and of the session's own time zone.
    desk.run(
        "DROP MATERIALIZED VIEW daily; DROP MATERIALIZED VIEW hourly;
         CREATE MATERIALIZED VIEW hourly AS SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, country,
           sum(quantity) AS quantity FROM sales WHERE product_id = 'a' AND quantity > 0 GROUP BY 1, 2",
    )
    .await;
    assert_read(&desk, "sales", "SELECT sum(quantity) FROM sales").await;
    assert_read(&desk, "sales", "SELECT sum(quantity) FROM sales WHERE product_id = 'a'").await;
    assert_read(&desk, "sales", "SELECT sum(quantity) FROM sales WHERE product_id = 'b' AND quantity > 0")
        .await;
    assert_read(
        &desk,
        "hourly",
        "SELECT sum(quantity) FROM sales WHERE country = 'DE' AND quantity > 0 AND product_id = 'a'",
    )
    .await;
    desk.run("SET TIME ZONE = 'Asia/Kolkata'").await;
    assert_read(&desk, "sales", "SELECT sum(quantity) FROM sales WHERE quantity > 0 AND product_id = 'a'")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_now_and_what_is_gone() {
    let home = Home::new();
    let desk = folded(&home).await;
    let all = "SELECT sum(quantity) AS quantity, count(*) AS events FROM sales";
    // A deletion that is not folded yet.
    desk.run("DELETE FROM sales WHERE product_id = 'b' AND event_time < '2026-03-02'").await;
    append(&desk).await;
    assert_read(&desk, "daily", all).await;
    // A measure that is not known everywhere.
    desk.run(
        "CREATE OR REPLACE MATERIALIZED VIEW hourly AS
           SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, country, sum(quantity) AS quantity,
                  count(*) AS events, sum(quantity * price) AS revenue, max(event_time) AS last_event, min(price) AS lowest
           FROM sales GROUP BY 1, 2, 3",
    )
    .await;
    assert_read(&desk, "sales", "SELECT min(price) FROM sales").await;
    assert_read(&desk, "daily", all).await;
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    assert_read(&desk, "hourly", "SELECT min(price) FROM sales").await;
    // Events that are past their retention: the rollup has them still, but that is not what was asked.
    desk.run("REFRESH MATERIALIZED VIEW daily; CALL expire('sales', '2 days')").await;
    assert_read(&desk, "sales", all).await;
    assert_read(&desk, "sales", &format!("{all} WHERE event_time >= '2026-03-01'")).await;
    assert_read(&desk, "daily", &format!("{all} WHERE event_time >= '2026-03-03'")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_another_process_has_made() {
    let home = Home::new();
    folded(&home).await;
    let desk = home.desk().await;
    desk.run("CREATE TABLE notes (note VARCHAR); SET toplake.rewrite = on").await;
    assert_eq!(run(&desk, "SELECT sum(quantity) FROM sales").await.0, "daily");
    desk.run("RESET toplake.rewrite").await;
    assert_eq!(run(&desk, "SELECT sum(quantity) FROM sales").await.0, "sales");
}
