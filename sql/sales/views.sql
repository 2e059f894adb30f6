-- What people ask. Needs rollups.sql.

-- The 1,000 products that sold most, by pieces, in the latest hour, day, week, month and year.
--
--   SELECT * FROM top_1000 WHERE period = 'day';
--
-- The latest bucket is that of the latest event, not of the clock: history that was loaded today has an answer too.
-- It is recomputed whole on each refresh and kept in memory, so that asking for it costs next to nothing.
--   rank      products with the same quantity share a rank, and the next one is skipped to, as in 1, 2, 2, 4;
--             a tie at the cut is kept whole, so there may be more than 1,000 rows
--   as_of     the latest event that is counted in the bucket
--   complete  whether the watermark has passed the bucket's end: no event is expected for it any more
CREATE MATERIALIZED VIEW IF NOT EXISTS top_1000 WITH (refresh_every = '10 seconds') AS
WITH newest AS (
  SELECT max(event_time) AS event_time FROM sales
),
-- One arm for each period, so that each reads nothing but its own rollup's latest bucket.
latest AS (
  SELECT 'hour' AS period, bucket, bucket + INTERVAL '1 hour' AS bucket_end, product_id, quantity, last_event
  FROM sales_hourly WHERE bucket = (SELECT time_bucket(INTERVAL '1 hour', event_time) FROM newest)
  UNION ALL
  SELECT 'day', bucket, bucket + INTERVAL '1 day', product_id, quantity, last_event
  FROM sales_daily WHERE bucket = (SELECT time_bucket(INTERVAL '1 day', event_time) FROM newest)
  UNION ALL
  SELECT 'week', bucket, bucket + INTERVAL '1 week', product_id, quantity, last_event
  FROM sales_weekly WHERE bucket = (SELECT time_bucket(INTERVAL '1 week', event_time) FROM newest)
  UNION ALL
  SELECT 'month', bucket, bucket + INTERVAL '1 month', product_id, quantity, last_event
  FROM sales_monthly WHERE bucket = (SELECT time_bucket(INTERVAL '1 month', event_time) FROM newest)
  UNION ALL
  SELECT 'year', bucket, bucket + INTERVAL '1 year', product_id, quantity, last_event
  FROM sales_yearly WHERE bucket = (SELECT time_bucket(INTERVAL '1 year', event_time) FROM newest)
),
products AS (
  SELECT period, bucket, bucket_end, product_id, sum(quantity) AS quantity, max(last_event) AS last_event
  FROM latest
  GROUP BY period, bucket, bucket_end, product_id
),
ranked AS (
  SELECT period, bucket, bucket_end, product_id, quantity,
         rank() OVER (PARTITION BY period ORDER BY quantity DESC NULLS LAST) AS rank,
         max(last_event) OVER (PARTITION BY period)                          AS as_of
  FROM products
)
SELECT period,
       bucket,
       CAST(rank AS BIGINT)             AS rank,
       product_id,
       quantity,
       as_of,
       watermark('sales') >= bucket_end AS complete
FROM ranked
WHERE rank <= 1000
ORDER BY bucket_end - bucket, rank, product_id;

-- The same cut at 10: for a wall screen.
CREATE VIEW IF NOT EXISTS top_10 AS
SELECT * FROM top_1000 WHERE rank <= 10;

-- What was sold over time, whatever the product. In Grafana, as a time series:
--
--   SELECT bucket AS time, revenue FROM sales_over_time WHERE $__timeFilter(bucket) ORDER BY bucket;
CREATE VIEW IF NOT EXISTS sales_over_time AS
SELECT bucket, sum(quantity) AS quantity, sum(revenue) AS revenue, sum(events) AS events
FROM sales_hourly
GROUP BY bucket;

-- What each country bought, by day. A range of days costs what those days hold:
--
--   SELECT country, sum(revenue) AS revenue FROM sales_by_country WHERE bucket >= '2011-11-01' GROUP BY 1 ORDER BY 2 DESC;
CREATE VIEW IF NOT EXISTS sales_by_country AS
SELECT bucket, country, sum(quantity) AS quantity, sum(revenue) AS revenue, sum(events) AS events
FROM sales_daily
GROUP BY bucket, country;

-- What each product brought in, by day, with the average price of a piece. A refund takes off what the sale added.
CREATE VIEW IF NOT EXISTS sales_by_product AS
SELECT bucket, product_id, quantity, revenue, events, revenue / nullif(quantity, 0) AS average_price
FROM (
  SELECT bucket, product_id, sum(quantity) AS quantity, sum(revenue) AS revenue, sum(events) AS events
  FROM sales_daily
  GROUP BY bucket, product_id
) AS products;

-- More to ask, as it is (a Grafana variable stands for its value):
--
--   The leaders of any range of days, in one country:
--     SELECT product_id, sum(quantity) AS quantity FROM sales_daily
--     WHERE bucket >= '2011-11-01' AND bucket < '2011-12-01' AND country = 'France'
--     GROUP BY product_id ORDER BY quantity DESC, product_id LIMIT 20;
--
--   Through when sales are complete, and the newest one:
--     SELECT watermark('sales') AS complete_through, max(event_time) AS newest FROM sales;
--
--   Input that could not be stored, and why:
--     SELECT * FROM toplake.dead_letters ORDER BY at DESC LIMIT 20;
