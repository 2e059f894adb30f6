-- What people ask. Needs rollups.sql.

-- The 100 ads that led in the last 1, 5, 15 and 60 minutes up to the latest click, exact.
--
--   SELECT * FROM popular_ads WHERE minutes = 5;
--
-- The minute of the latest click counts as one of them, so that the answer moves by the minute and is live.
CREATE MATERIALIZED VIEW IF NOT EXISTS popular_ads WITH (refresh_every = '10 seconds') AS
-- One arm for each period: last_event_time is known when the query is planned, so other minutes are not read.
WITH clicks AS (
  SELECT 1 AS minutes, ad_id, clicks FROM ad_clicks_minutely
  WHERE bucket >= time_bucket(INTERVAL '1 minute', last_event_time('ad_clicks'))
  UNION ALL
  SELECT 5, ad_id, clicks FROM ad_clicks_minutely
  WHERE bucket >= time_bucket(INTERVAL '1 minute', last_event_time('ad_clicks')) - INTERVAL '4 minutes'
  UNION ALL
  SELECT 15, ad_id, clicks FROM ad_clicks_minutely
  WHERE bucket >= time_bucket(INTERVAL '1 minute', last_event_time('ad_clicks')) - INTERVAL '14 minutes'
  UNION ALL
  SELECT 60, ad_id, clicks FROM ad_clicks_minutely
  WHERE bucket >= time_bucket(INTERVAL '1 minute', last_event_time('ad_clicks')) - INTERVAL '59 minutes'
),
ads AS (
  SELECT minutes, ad_id, sum(clicks) AS clicks FROM clicks GROUP BY minutes, ad_id
),
ranked AS (
  SELECT minutes, ad_id, clicks, rank() OVER (PARTITION BY minutes ORDER BY clicks DESC) AS rank FROM ads
)
SELECT minutes, CAST(rank AS BIGINT) AS rank, ad_id, clicks, last_event_time('ad_clicks') AS as_of
FROM ranked
WHERE rank <= 100
ORDER BY minutes, rank, ad_id;

-- Clicks of each ad, minute and filter. A filter that fixes nothing counts every click.
--
--   SELECT ad_id, sum(clicks) AS clicks FROM clicks_by_filter
--   WHERE filter_id = 7 AND bucket >= '2026-11-21 10:00:00' AND bucket < '2026-11-21 10:05:00'
--   GROUP BY ad_id ORDER BY clicks DESC, ad_id LIMIT 10;
CREATE VIEW IF NOT EXISTS clicks_by_filter AS
SELECT m.bucket, m.ad_id, f.filter_id, sum(m.clicks) AS clicks
FROM ad_clicks_minutely AS m
JOIN filters AS f ON f.country IS NULL OR f.country = m.country
GROUP BY m.bucket, m.ad_id, f.filter_id;

-- How many different people clicked on each ad, by day, with the range that holds in 95 of 100 cases. For another range of
-- days merge the sketches: SELECT hll_sketch_estimate(hll_union_agg(users)) FROM ad_users_daily WHERE ….
CREATE VIEW IF NOT EXISTS ad_reach AS
SELECT bucket, ad_id, reach['estimate'] AS users, reach['lower'] AS lower, reach['upper'] AS upper
FROM (SELECT bucket, ad_id, hll_sketch_bounds(users) AS reach FROM ad_users_daily) AS daily;

-- The leading ads of every minute, approximately, with bounds.
CREATE VIEW IF NOT EXISTS top_ads_over_time AS
SELECT bucket, top['item'] AS ad_id, top['count'] AS clicks, top['lower'] AS lower, top['upper'] AS upper
FROM (
  SELECT bucket, unnest(approx_top_k_estimate(ads, 10)) AS top
  FROM (SELECT bucket, approx_top_k_combine(ads) AS ads FROM top_ads_minutely GROUP BY bucket) AS minutes
) AS tops;

-- The two questions of an ad system:
--
--   1. Clicks of one ad in the last M minutes (here 5), up to the latest click:
--      SELECT sum(clicks) FROM ad_clicks_minutely
--      WHERE ad_id = 42 AND bucket > last_event_time('ad_clicks') - INTERVAL '5 minutes';
--
--   2. The N ads that led in the last M minutes, in one country:
--      SELECT ad_id, sum(clicks) AS clicks FROM ad_clicks_minutely
--      WHERE country = 'DE' AND bucket > last_event_time('ad_clicks') - INTERVAL '5 minutes'
--      GROUP BY ad_id ORDER BY clicks DESC, ad_id LIMIT 100;
--
--   Sliding by minute, each minute with the five that end with it:
--      SELECT bucket, sum(clicks) OVER (ORDER BY bucket RANGE BETWEEN INTERVAL '4 minutes' PRECEDING AND CURRENT ROW) AS clicks
--      FROM (SELECT bucket, sum(clicks) AS clicks FROM ad_clicks_minutely WHERE ad_id = 42 GROUP BY bucket) AS minutes
--      ORDER BY bucket;
