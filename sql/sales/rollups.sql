-- Sales by hour, day, week, month and year: each is made from the next finer one, so that an event is read once.
--
-- Weeks are not made of months nor years of weeks; hence week and month are both made from days, years from months.
--
-- `country` is kept on every level. A rollup cannot give back a key that a finer one had and it dropped, and a dashboard
-- that filters by country should not have to change its table with its period. The price is up to one row for each
-- country in which a product sold in that period. If you sell everything everywhere and never ask by country,
-- leave it out from sales_daily on.
--
-- A query sees events that no refresh has folded yet. Refreshing makes queries faster, not fresher.

CREATE MATERIALIZED VIEW IF NOT EXISTS sales_hourly AS
SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket,
       product_id,
       country,
       sum(quantity)              AS quantity,
       sum(quantity * unit_price) AS revenue,
       count(*)                   AS events,
       max(event_time)            AS last_event
FROM sales
GROUP BY 1, 2, 3;

CREATE MATERIALIZED VIEW IF NOT EXISTS sales_daily AS
SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket,
       product_id,
       country,
       sum(quantity)   AS quantity,
       sum(revenue)    AS revenue,
       sum(events)     AS events,
       max(last_event) AS last_event
FROM sales_hourly
GROUP BY 1, 2, 3;

-- Weeks begin on Monday.
CREATE MATERIALIZED VIEW IF NOT EXISTS sales_weekly AS
SELECT time_bucket(INTERVAL '1 week', bucket) AS bucket,
       product_id,
       country,
       sum(quantity)   AS quantity,
       sum(revenue)    AS revenue,
       sum(events)     AS events,
       max(last_event) AS last_event
FROM sales_daily
GROUP BY 1, 2, 3;

CREATE MATERIALIZED VIEW IF NOT EXISTS sales_monthly AS
SELECT time_bucket(INTERVAL '1 month', bucket) AS bucket,
       product_id,
       country,
       sum(quantity)   AS quantity,
       sum(revenue)    AS revenue,
       sum(events)     AS events,
       max(last_event) AS last_event
FROM sales_daily
GROUP BY 1, 2, 3;

CREATE MATERIALIZED VIEW IF NOT EXISTS sales_yearly AS
SELECT time_bucket(INTERVAL '1 year', bucket) AS bucket,
       product_id,
       country,
       sum(quantity)   AS quantity,
       sum(revenue)    AS revenue,
       sum(events)     AS events,
       max(last_event) AS last_event
FROM sales_monthly
GROUP BY 1, 2, 3;
