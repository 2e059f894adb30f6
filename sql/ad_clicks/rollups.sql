-- Clicks by minute, hour and day. A query sees clicks that no refresh has folded yet.

-- With every dimension that a filter may name. Rows lie in the order of bucket and keys as they are listed here: what is
-- filtered by and has few values comes first, so that one country of a minute is a piece of a file and not all of it.
CREATE MATERIALIZED VIEW IF NOT EXISTS ad_clicks_minutely AS
SELECT time_bucket(INTERVAL '1 minute', click_time) AS bucket, country, ad_id, count(*) AS clicks
FROM ad_clicks
GROUP BY 1, 2, 3;

CREATE MATERIALIZED VIEW IF NOT EXISTS ad_clicks_hourly AS
SELECT time_bucket(INTERVAL '1 hour', bucket) AS bucket, country, ad_id, sum(clicks) AS clicks
FROM ad_clicks_minutely
GROUP BY 1, 2, 3;

CREATE MATERIALIZED VIEW IF NOT EXISTS ad_clicks_daily AS
SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, country, ad_id, sum(clicks) AS clicks
FROM ad_clicks_hourly
GROUP BY 1, 2, 3;

-- How many different people clicked: a sketch, because people of two hours cannot be added up. 2^11 registers are off by 2.3 %
-- at one standard deviation; an ad that few people clicked on is counted nearly exactly, in a few bytes.
CREATE MATERIALIZED VIEW IF NOT EXISTS ad_users_hourly AS
SELECT time_bucket(INTERVAL '1 hour', click_time) AS bucket, ad_id, hll_sketch_agg(user_id, 11) AS users
FROM ad_clicks
GROUP BY 1, 2;

CREATE MATERIALIZED VIEW IF NOT EXISTS ad_users_daily AS
SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, ad_id, hll_union_agg(users) AS users
FROM ad_users_hourly
GROUP BY 1, 2;

-- The leading ads of each minute in one row for each country, however many ads there are: for charts over long ranges, and
-- where there are so many ads that a minute of ad_clicks_minutely is too much to add up.
CREATE MATERIALIZED VIEW IF NOT EXISTS top_ads_minutely AS
SELECT time_bucket(INTERVAL '1 minute', click_time) AS bucket, country, approx_top_k_accumulate(ad_id, 4096) AS ads
FROM ad_clicks
GROUP BY 1, 2;
