-- Run by cron, once a day for the day before:
--   toplake sql --warehouse URL -v day=$(date -u -d yesterday +%F) -f audit_daily.sql
--
-- Compares hours and day with the sales themselves, and the coarser rollups with the days they are made of. Each line is a
-- difference; no line is the normal answer. CALL repair('sales_daily', from, to) mends what differs.
SELECT 'sales_hourly' AS rollup, * FROM audit('sales_hourly', :'day', :'day'::DATE + INTERVAL '1 day')
UNION ALL
SELECT 'sales_daily', * FROM audit('sales_daily', :'day', :'day'::DATE + INTERVAL '1 day')
UNION ALL
SELECT 'sales_weekly', * FROM audit('sales_weekly', :'day', :'day'::DATE + INTERVAL '1 day', 'source')
UNION ALL
SELECT 'sales_monthly', * FROM audit('sales_monthly', :'day', :'day'::DATE + INTERVAL '1 day', 'source')
UNION ALL
SELECT 'sales_yearly', * FROM audit('sales_yearly', :'day', :'day'::DATE + INTERVAL '1 day', 'source')
ORDER BY rollup, bucket, keys, measure;
