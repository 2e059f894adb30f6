//! Superset's charts, as SQLAlchemy writes them: simple queries of psycopg2's.

use super::{Server, check};

#[tokio::test(flavor = "multi_thread")]
async fn charts_filters_and_grains() {
    let server = Server::start().await;
    let client = server.connect().await;
    check(
        &client,
        &[
            (
                "SELECT DATE_TRUNC('day', event_time) AS event_time, sum(quantity) AS \"SUM(quantity)\"
                    FROM public.sales
                 WHERE event_time >= TO_TIMESTAMP('2026-01-30 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US')
                   AND event_time < TO_TIMESTAMP('2026-01-31 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US')
                 GROUP BY DATE_TRUNC('day', event_time) ORDER BY \"SUM(quantity)\" DESC LIMIT 10000",
                &["2026-01-30 00:00:00|1440"],
            ),
            (
                "SELECT count(*) AS count FROM public.french_sales
                 WHERE event_time::date >= TO_DATE('2026-01-30', 'YYYY-MM-DD') AND product_id IN
                 ('product-1', 'product-2')",
                &["137"],
            ),
            // Five minutes, and weeks that end on a Sunday.
            (
                "SELECT DATE_TRUNC('hour', event_time) + INTERVAL '5 minutes' * FLOOR(EXTRACT(MINUTE
                    FROM event_time) / 5) AS t, count(*) AS n
                 FROM public.sales WHERE event_id < 10 GROUP BY 1 ORDER BY 1",
                &["2026-01-30 23:50:00|4", "2026-01-30 23:55:00|5"],
            ),
            (
                "SELECT DATE_TRUNC('week', event_time + INTERVAL '1 DAY') + INTERVAL '5 DAY' AS t,
                    count(*) AS n FROM public.sales GROUP BY 1",
                &["2026-01-31 00:00:00|2880"],
            ),
            // A column of seconds that a dataset says to be times.
            (
                "SELECT (timestamp 'epoch' + event_id * 86400 * interval '1 second') AS t FROM
                    public.sales WHERE event_id = 3",
                &["1970-01-04 00:00:00"],
            ),
            // The biggest series first.
            (
                "SELECT s.country AS country, DATE_TRUNC('day', event_time) AS day, count(*) AS count
                    FROM public.sales AS s
                 JOIN (SELECT country AS country__, count(*) AS mme_inner__ FROM public.sales GROUP BY country
                       ORDER BY mme_inner__ DESC LIMIT 1) AS series_limit ON s.country = country__
                 GROUP BY s.country, DATE_TRUNC('day', event_time) ORDER BY day",
                &["Kenya|2026-01-29 00:00:00|960", "Kenya|2026-01-30 00:00:00|960"],
            ),
            (
                "SELECT DISTINCT country AS country FROM public.sales ORDER BY country LIMIT
                1000",
                &["France", "Kenya"],
            ),
            ("SELECT country FROM public.sales WHERE country ILIKE '%KEN%' LIMIT 1", &["Kenya"]),
        ],
    )
    .await;
}
