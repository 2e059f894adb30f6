-- Run by cron, once a day for the day before:
--   toplake sql --warehouse URL -v day=$(date -u -d yesterday +%F) -f audit_daily.sql
--
-- Compares what advertisers are billed by with the clicks themselves. Each line is a difference; no line is the normal answer.
-- CALL repair('ad_clicks_daily', from, to) mends what differs.
SELECT 'ad_clicks_minutely' AS rollup, * FROM audit('ad_clicks_minutely', :'day', :'day'::DATE + INTERVAL '1 day')
UNION ALL
SELECT 'ad_clicks_hourly', * FROM audit('ad_clicks_hourly', :'day', :'day'::DATE + INTERVAL '1 day')
UNION ALL
SELECT 'ad_clicks_daily', * FROM audit('ad_clicks_daily', :'day', :'day'::DATE + INTERVAL '1 day')
ORDER BY rollup, bucket, keys, measure;
