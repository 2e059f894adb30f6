//! Grafana's PostgreSQL data source: simple queries, in which its macros have been replaced.

use super::{Server, check, rows};

#[tokio::test(flavor = "multi_thread")]
async fn health_and_probes() {
    let server = Server::start().await;
    let client = server.connect().await;
    // The ping of pgx, and that of lib/pq.
    for sql in ["-- ping", ";", ""] {
        assert!(rows(&client, sql).await.is_empty());
    }
    let version = rows(&client, "SELECT current_setting('server_version_num')::int/100 as version").await;
    assert!(version[0].parse::<i32>().unwrap() >= 1500, "{version:?}");
    let sql = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'";
    assert!(rows(&client, sql).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn macros_of_time() {
    let server = Server::start().await;
    let client = server.connect().await;
    // $__timeFilter, $__timeFrom, $__timeTo
    let range = "event_time BETWEEN '2026-01-30T22:00:00Z' AND '2026-01-30T22:09:59.999Z'";
    let sql = |select: &str| format!("{select} FROM sales WHERE {range} GROUP BY 1 ORDER BY 1");
    // $__timeGroupAlias(event_time, '5m'), and the same where the data source is told of TimescaleDB
    let by_epoch =
        sql("SELECT floor(extract(epoch from event_time)/300)*300 AS \"time\", sum(quantity) AS value");
    let by_bucket = sql("SELECT time_bucket('300.000s',event_time) AS \"time\", count(*) AS value");
    check(
        &client,
        &[
            (&by_epoch, &["1769810400|5", "1769810700|5"]),
            (&by_bucket, &["2026-01-30 22:00:00|5", "2026-01-30 22:05:00|5"]),
            // $__timeEpoch
            (
                "SELECT extract(epoch from event_time) as \"time\" FROM sales WHERE event_id =
                1",
                &["1769817540"],
            ),
            // $__unixEpochFilter and $__unixEpochGroup, of a column that has seconds
            (
                "SELECT floor((seconds)/60)*60 AS \"time\", count(*)
                 FROM (SELECT extract(epoch from event_time) AS seconds FROM sales) t
                 WHERE seconds >= 1769810400 AND seconds <= 1769810460 GROUP BY 1 ORDER BY 1",
                &["1769810400|1", "1769810460|1"],
            ),
            // $__unixEpochNanoFilter
            (
                "SELECT count(*) FROM (SELECT (extract(epoch from event_time) * 1000000000)::bigint AS n
                    FROM sales) t
                 WHERE n >= 1769810400000000000 AND n <= 1769810460000000000",
                &["2"],
            ),
            // Milliseconds, which panels take too.
            (
                "SELECT extract(epoch from event_time)::bigint * 1000 AS \"time\" FROM sales ORDER BY 1
                    DESC LIMIT 1",
                &["1769817540000"],
            ),
            // A window of the user's over the macro.
            (
                "SELECT floor(extract(epoch from event_time)/86400)*86400 AS \"time\",
                        sum(sum(quantity)) OVER (ORDER BY floor(extract(epoch from event_time)/86400)*86400)
                 FROM sales GROUP BY 1 ORDER BY 1",
                &["1769644800|1440", "1769731200|2880"],
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn panels_variables_annotations_and_alerts() {
    let server = Server::start().await;
    let client = server.connect().await;
    check(
        &client,
        &[
            // A long series of a rollup: time, metric, value.
            (
                "SELECT bucket AS \"time\", product_id AS metric, quantity AS value FROM sales_hourly
                 WHERE bucket BETWEEN '2026-01-30T23:00:00Z' AND '2026-01-30T23:59:59Z' AND country = 'France'
                   AND product_id IN ('product-0','product-1') ORDER BY 1, 2",
                &["2026-01-30 23:00:00|product-0|1", "2026-01-30 23:00:00|product-1|0"],
            ),
            // The query builder.
            (
                "SELECT AVG(quantity) AS \"quantity\", country FROM public.sales WHERE (country =
                    'France' AND quantity > 0)
                 GROUP BY country ORDER BY country ASC LIMIT 50 ",
                &["2|France"],
            ),
            // Template variables: values, texts and values, with a search, of a series of times.
            ("SELECT DISTINCT country FROM sales ORDER BY 1", &["France", "Kenya"]),
            (
                "SELECT product_id AS __text, quantity AS __value FROM top_products WHERE product_id
                    ILIKE '%2' LIMIT 5",
                &["product-2|414"],
            ),
            (
                "SELECT to_char(day, 'YYYY-MM-DD') AS day FROM generate_series('2026-01-30'::timestamp,
                    '2026-01-31'::timestamp,
                 '1 day'::interval) day",
                &["2026-01-30", "2026-01-31"],
            ),
            ("SELECT n FROM generate_series(1, 3) n", &["1", "2", "3"]),
            // All of a variable, and an ad-hoc filter.
            (
                "SELECT count(*) FROM sales WHERE ('All' = 'All' OR country IN ('All')) AND country ~
                    'Fr.*' AND product_id !~* 'X'",
                &["960"],
            ),
            // Annotations.
            (
                "SELECT event_time AS \"time\", event_time + interval '1 minute' * 5 AS timeend,
                    product_id AS text, 'a,b' AS tags
                 FROM sales WHERE event_time BETWEEN '2026-01-30T23:59:00Z' AND '2026-01-31T00:00:00Z'",
                &["2026-01-30 23:59:00|2026-01-31 00:04:00|product-1|a,b"],
            ),
            // Alerts.
            (
                "SELECT now() AS \"time\", count(*) AS value FROM sales WHERE event_time > now() -
                    interval '1 day' * 36500
                 HAVING count(*) > 1000000",
                &[],
            ),
            (
                "SELECT date_trunc('hour', event_time) AT TIME ZONE 'Europe/Paris' AT TIME ZONE 'UTC' AS
                    \"time\", count(*)
                 FROM sales WHERE event_id <= 60 GROUP BY 1",
                &["2026-01-30 22:00:00|60"],
            ),
        ],
    )
    .await;
}
