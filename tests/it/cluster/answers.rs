//! Each kind of query gives on workers what the server gives by itself, and is really run there.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use toplake::cluster::Fallback;
use toplake::statement::{Outcome, Session, parse};

use super::{Fleet, MEMORY, fill};
use crate::harness::{Desk, Home};

/// Whatever reads files: aggregates, joins, windows, sorts, unions, subqueries, rollups with a tail, sketches, time zones.
const QUERIES: &[&str] = &[
    "SELECT count(*), sum(quantity), min(event_time), max(unit_price), avg(quantity) FROM sales",
    "SELECT product_id, country, sum(quantity), count(DISTINCT customer_id) FROM sales GROUP BY 1, 2",
    "SELECT event_id, product_id FROM sales WHERE quantity < 0 AND country = 'France' ORDER BY event_id DESC LIMIT 50",
    "SELECT * FROM sales WHERE event_id % 997 = 3",
    "SELECT a.product_id, count(*) FROM sales a JOIN sales b ON a.event_id = b.event_id + 3 AND a.country = b.country
       GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20",
    "SELECT count(*) FROM sales WHERE product_id IN (SELECT product_id FROM sales_daily WHERE quantity > 60)",
    "SELECT product_id, quantity FROM (SELECT product_id, sum(quantity) AS quantity FROM sales GROUP BY 1)
       WHERE quantity > (SELECT avg(quantity) FROM sales) ORDER BY 2 DESC, 1 LIMIT 10",
    "SELECT product_id, event_id, rank() OVER (PARTITION BY country ORDER BY event_id) FROM sales
       WHERE event_id % 101 = 0",
    "SELECT country, count(*) FROM sales GROUP BY 1 UNION ALL SELECT product_id, count(*) FROM sales GROUP BY 1",
    "SELECT DISTINCT country FROM sales",
    "SELECT bucket, sum(quantity), sum(events), sum(revenue) FROM sales_hourly GROUP BY 1",
    "SELECT * FROM sales_hourly WHERE product_id = 'p9'",
    "SELECT * FROM sales_daily WHERE bucket >= TIMESTAMP '2026-01-03 00:00:00'",
    "SELECT product_id, RANK() OVER (ORDER BY sum(quantity) DESC, product_id) AS rank FROM sales_daily GROUP BY 1
       ORDER BY 2 LIMIT 100",
    "SELECT time_bucket(INTERVAL '1 day', event_time, 'Asia/Kolkata') AS day, count(*) FROM sales GROUP BY 1",
    "SELECT hll_sketch_estimate(hll_sketch_agg(customer_id)) FROM sales",
    "SELECT unnest(approx_top_sum(product_id, quantity, 5, 4096)) FROM sales",
    "SELECT unnest(approx_top_k_estimate(approx_top_k_accumulate(product_id, 4096), 3)) FROM sales",
    "SELECT count_min_estimate(count_min_sketch(product_id, 0.001, 0.99, 7), 'p9') FROM sales",
    "SELECT EXTRACT(hour FROM CAST(event_time AS TIMESTAMP WITH TIME ZONE)) AS h, count(*) FROM sales GROUP BY 1",
    "SELECT string_agg(product_id, ',' ORDER BY event_id) FROM sales WHERE event_id % 499 = 0",
    "SELECT grouping(country), country, sum(quantity) FROM sales GROUP BY ROLLUP (country)",
    "SELECT count(*) FROM sales a, sales_daily d WHERE a.product_id = d.product_id AND a.event_id < 300
       AND d.quantity BETWEEN a.quantity AND a.quantity + 90",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_query_is_run_there_and_gives_the_same() {
    let home = Home::new();
    let alone = home.desk().await;
    fill(&alone, 5).await;
    let fleet = Fleet::of(3, &home).await;
    // Where a machine has one thread a task reads its share in one partition.
    for (zone, threads) in [("UTC", 4), ("America/New_York", 1)] {
        for desk in [&alone, &fleet.desk] {
            desk.session.set_time_zone(zone);
            desk.run(&format!("SET datafusion.execution.target_partitions = {threads}")).await;
        }
        for query in QUERIES {
            let before = fleet.cluster.runs();
            let (here, there) = (alone.rows(query).await, fleet.desk.rows(query).await);
            assert!(!here.is_empty(), "{query}");
            assert_eq!(there, here, "{query}");
            assert!(fleet.cluster.runs() > before, "the server ran it itself: {query}");
        }
    }
}

/// What is right only over all rows at once stays in one task, also where the table is one file, and so one partition, and a union
/// above would take several.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_to_see_all_rows_sees_all_rows() {
    let home = Home::new();
    let alone = home.desk().await;
    fill(&alone, 2).await;
    alone.run("CREATE TABLE once AS SELECT * FROM sales WHERE event_id < 4000").await;
    let fleet = Fleet::of(3, &home).await;
    for partitions in [1, 2, 4] {
        for desk in [&alone, &fleet.desk] {
            desk.run(&format!("SET datafusion.execution.target_partitions = {partitions}")).await;
        }
        for table in ["once", "sales"] {
            for query in [
                "SELECT 'a', sum(quantity) FROM t UNION ALL SELECT 'b', max(event_id) FROM t",
                "SELECT country, sum(quantity) FROM t GROUP BY 1 UNION ALL SELECT 'b', max(event_id) FROM t",
                "(SELECT quantity * 0 FROM t LIMIT 7) UNION ALL (SELECT quantity * 0 FROM t LIMIT 5)",
                "(SELECT event_id FROM t ORDER BY event_id DESC LIMIT 7) UNION ALL (SELECT event_id FROM t ORDER BY 1 LIMIT 5)",
                "SELECT event_id, rank() OVER (ORDER BY event_id) FROM t WHERE event_id % 97 = 0
                   UNION ALL SELECT event_id, sum(1) OVER (PARTITION BY country ORDER BY event_id) FROM t WHERE event_id % 89 = 0",
                "SELECT count(*) FROM t a JOIN (SELECT max(event_id) AS m, country FROM t GROUP BY country) b
                   ON a.country = b.country AND a.event_id < b.m",
                "SELECT count(*) FROM (SELECT DISTINCT customer_id FROM t) a, (SELECT sum(quantity) AS s FROM t) b WHERE b.s > 0",
                "SELECT product_id, sum(quantity) FROM t GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 9",
                "SELECT * FROM (SELECT country, count(*) AS n FROM t GROUP BY 1) UNION SELECT country, quantity FROM t",
                "SELECT count(*) FROM t a WHERE NOT EXISTS (SELECT 1 FROM t b WHERE b.event_id = a.event_id + 1)",
                "SELECT count(*) FROM t a FULL JOIN (SELECT * FROM t WHERE quantity > 2) b ON a.event_id = b.event_id",
            ] {
                let query = query.replace("FROM t", &format!("FROM {table}"));
                let (here, there) = (alone.rows(&query).await, fleet.desk.rows(&query).await);
                assert_eq!(there, here, "{partitions} partitions: {query}");
            }
        }
    }
    assert!(fleet.cluster.runs() > 30, "only {} ran on workers", fleet.cluster.runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_the_stages_and_what_they_moved() {
    let home = Home::new();
    let fleet = Fleet::of(2, &home).await;
    fill(&fleet.desk, 3).await;
    let query = "SELECT product_id, sum(quantity) FROM sales GROUP BY 1 ORDER BY 2 DESC LIMIT 3";
    let plan = fleet.desk.rows(&format!("EXPLAIN {query}")).await.join("\n");
    for part in ["Stage 1", "tasks=2", "NetworkShuffleExec", "logical_plan"] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    let plan = fleet.desk.rows(&format!("EXPLAIN ANALYZE {query}")).await.join("\n");
    for part in ["Stage 2", "bytes_transferred", "output_rows"] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    // Each task adds up its share once for each thread that it has.
    for threads in [1, 3] {
        fleet.desk.run(&format!("SET datafusion.execution.target_partitions = {threads}")).await;
        let plan = fleet.desk.rows(&format!("EXPLAIN {query}")).await.join("\n");
        assert!(plan.contains(&format!("input_partitions={threads}")), "{threads}: {plan}");
    }
    // What reads no file is not for workers.
    let before = fleet.cluster.runs();
    assert_eq!(fleet.desk.value("SELECT count(*) FROM toplake.workers WHERE state = 'live'").await, "2");
    assert_eq!(fleet.desk.value("SELECT sum(n) FROM generate_series(1, 1000) AS g(n)").await, "500500");
    assert_eq!(fleet.cluster.runs(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_into_the_warehouse_stays_with_the_server() {
    let home = Home::new();
    let fleet = Fleet::of(2, &home).await;
    fill(&fleet.desk, 3).await;
    let alone = home.desk().await;
    // A function of the warehouse for each row; another one that is a constant before anything runs.
    for query in [
        "SELECT count(*) FROM sales WHERE event_time < watermark('sales')",
        "SELECT count(*) FROM sales WHERE event_time > complete_through('sales_hourly')",
    ] {
        assert_eq!(fleet.desk.rows(query).await, alone.rows(query).await, "{query}");
    }
    // A function that only this session has.
    let ctx = fleet.desk.engine.context();
    let same = |values: &[ColumnarValue]| Ok(values[0].clone());
    let (int, volatile) = (DataType::Int64, Volatility::Volatile);
    ctx.register_udf(create_udf("our_own", vec![int.clone()], int, volatile, Arc::new(same)));
    let session = Session::new(ctx, Arc::clone(fleet.desk.engine.warehouse()));
    let own = Desk { engine: fleet.desk.engine.clone(), session };
    let told = notice(&own, "SELECT country, sum(our_own(quantity)) FROM sales GROUP BY 1").await;
    let told = told.expect("whoever asks is not told that the server runs it alone");
    assert!(told.contains("runs on the server alone") && told.contains("our_own"), "{told}");
    let (sum, plain) = ("SELECT sum(our_own(quantity)) FROM sales", "SELECT sum(quantity) FROM sales");
    assert_eq!(own.value(sum).await, alone.value(plain).await);
    let spread = "SELECT sum(quantity) FROM sales";
    assert_eq!((notice(&fleet.desk, spread).await, notice(&alone, spread).await), (None, None));
}

/// What there is to know besides the rows of a query.
async fn notice(desk: &Desk, query: &str) -> Option<String> {
    match desk.session.execute(&parse(query).unwrap()[0], &[]).await.unwrap() {
        Outcome::Rows { notice, .. } => notice,
        _ => panic!("{query} gives no rows"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_is_told_that_there_are_not_enough_workers() {
    let home = Home::new();
    let fleet = Fleet::with(1, &home, MEMORY, Fallback::Local).await;
    fill(&fleet.desk, 2).await;
    let told = notice(&fleet.desk, "SELECT sum(quantity) FROM sales").await;
    assert_eq!(told.unwrap(), "the query runs on the server alone: fewer than two workers are live");
    assert_eq!(fleet.desk.value("SELECT count(*) FROM sales").await, "10000");
    assert_eq!(notice(&fleet.desk, "SELECT count(*) FROM toplake.workers").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_inserted_from_a_query_is_one_commit() {
    let home = Home::new();
    let fleet = Fleet::of(3, &home).await;
    fill(&fleet.desk, 3).await;
    let desk = &fleet.desk;
    desk.run("CREATE TABLE counts (product_id VARCHAR, n BIGINT)").await;
    let before = (desk.table("counts").await.snapshot().version, fleet.cluster.runs());
    desk.run("INSERT INTO counts SELECT product_id, count(*) FROM sales GROUP BY 1").await;
    assert_eq!(desk.table("counts").await.snapshot().version, before.0 + 1);
    assert!(fleet.cluster.runs() > before.1, "the server ran it itself");
    let query = "SELECT product_id, count(*) FROM sales GROUP BY 1";
    assert_eq!(desk.rows("SELECT * FROM counts").await, home.desk().await.rows(query).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_a_worker_is_the_server_s() {
    let home = Home::new();
    let fleet = Fleet::of(2, &home).await;
    fill(&fleet.desk, 3).await;
    let alone = home.desk().await;
    for query in [
        "SELECT sum(10 / (event_id - 7)) FROM sales",
        "SELECT count(CAST(product_id AS BIGINT)) FROM sales",
        "SELECT sum(CAST(event_id AS BIGINT) * 9223372036854775807) FROM sales",
    ] {
        let (here, there) = (alone.try_run(query).await, fleet.desk.try_run(query).await);
        // Which of the rows comes first is chance.
        let told = |e: toplake::error::Error| (e.kind(), e.message().split('\'').next().unwrap().to_owned());
        assert_eq!(there.map(|_| ()).map_err(told), here.map(|_| ()).map_err(told), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folds_and_recomputes_are_the_same_and_one_commit() {
    let home = Home::new();
    let fleet = Fleet::of(3, &home).await;
    fill(&fleet.desk, 4).await;
    let desk = &fleet.desk;
    let truth = "SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, country,
                        sum(quantity), count(*), sum(quantity * unit_price) FROM sales GROUP BY 1, 2, 3";
    let before = (desk.table("sales_hourly").await.update().await.unwrap().version, fleet.cluster.runs());
    desk.run("REFRESH MATERIALIZED VIEW sales_hourly").await;
    assert_eq!(desk.table("sales_hourly").await.update().await.unwrap().version, before.0 + 1);
    desk.run(
        "CALL recompute('sales_hourly', TIMESTAMP '2026-01-02 00:00:00', TIMESTAMP '2026-01-05 00:00:00')",
    )
    .await;
    assert!(fleet.cluster.runs() > before.1, "folds were run by the server itself");
    assert_eq!(desk.rows("SELECT * FROM sales_hourly").await, desk.rows(truth).await);
    let alone = home.desk().await;
    assert_eq!(alone.rows("SELECT * FROM sales_hourly").await, alone.rows(truth).await);
    let audit = "SELECT * FROM audit('sales_hourly', TIMESTAMP '2026-01-01 00:00:00', TIMESTAMP '2026-02-01 00:00:00')";
    assert!(desk.rows(audit).await.is_empty());
}
