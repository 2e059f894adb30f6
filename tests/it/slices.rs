//! A source so large that its files are aggregated apart from each other, and side by side.

use toplake::lake::snapshot::File;
use toplake::rollup::slices::slices;

use crate::harness::{Desk, Home};

const HOURLY: &str =
    "SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id % 500 AS product,
    sum(quantity) AS quantity, count(*) AS events, max(product_id) AS last FROM sales GROUP BY 1, 2";

/// 2026-03-01.
const START: i64 = 1_772_323_200_000_000;
const HOUR: i64 = 3_600_000_000;

/// Sales of so many hours from one on, of products that do not compress: an hour's file is larger than the least slice.
async fn insert(desk: &Desk, from: i64, hours: i64, rows: i64) {
    desk.run(&format!(
        "INSERT INTO sales SELECT to_timestamp_micros({} + (i * 7919 % {rows}) * {} / {rows}),
           (i + {from}) * 63641362238467 % 9007199254740881, i % 7 - 1 FROM generate_series(1, {rows}) AS t(i)",
        START + from * HOUR,
        hours * HOUR,
    ))
    .await;
}

async fn assert_right(desk: &Desk, when: &str) {
    assert_eq!(desk.rows("SELECT * FROM hourly").await, desk.rows(HOURLY).await, "{when}");
    assert_eq!(desk.rows("SELECT * FROM audit('hourly', '-infinity', 'infinity')").await, [""; 0], "{when}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_lie_apart_are_aggregated_apart() {
    let home = Home::new();
    let desk = home.desk().await;
    desk.run(
        "CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product_id BIGINT, quantity BIGINT)
           WITH (time_column = 'event_time')",
    )
    .await;
    for hour in 0..6 {
        insert(&desk, hour, 1, 120_000).await;
    }
    desk.run(&format!("CREATE MATERIALIZED VIEW hourly AS {HOURLY}")).await;
    let count = || async {
        let rollup = desk.rollup("hourly").await;
        let source = desk.table("sales").await.snapshot();
        let (time, bucketing) = (rollup.definition.source_time(), rollup.definition.bucketing());
        let files = source.files.values().cloned().collect();
        let slices = slices(files, &source.schema, time, bucketing);
        let stored: u64 = rollup.table.update().await.unwrap().rows().unwrap();
        let largest = |file: &File| file.add.size;
        (slices.len(), stored, source.files.values().map(|f| largest(f)).max())
    };
    let (slices, stored, largest) = count().await;
    assert_eq!(slices, 6, "{largest:?}");
    assert_eq!(stored, 6 * 500, "no bucket has two rows for a product");
    assert_right(&desk, "built").await;

    // Late events of two hours hold these together.
    insert(&desk, 2, 2, 1000).await;
    desk.run("REFRESH MATERIALIZED VIEW hourly").await;
    assert_right(&desk, "with late events").await;
    assert_eq!(count().await.0, 5);
    desk.run("DELETE FROM sales WHERE product_id % 500 = 7").await;
    assert_right(&desk, "after a deletion").await;
    desk.run("CALL recompute('hourly', '2026-03-01 01:00:00', '2026-03-01 05:00:00')").await;
    assert_right(&desk, "computed anew").await;
    assert_eq!(count().await.1, 6 * 499, "and merged");
}
