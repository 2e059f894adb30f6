-- Closes a day, for instance to settle it. Fails, and changes nothing, until the watermark has passed the end of the day:
--   psql -v ON_ERROR_STOP=1 -v day=2026-03-01 -f close_day.sql
--   toplake sql --warehouse URL -v day=2026-03-01 -f close_day.sql
-- May be run again, with the same result unless sales have come in later than allowed_lateness, or refunds were booked.
CALL require_complete('sales_daily', :'day'::DATE + INTERVAL '1 day');
REFRESH MATERIALIZED VIEW sales_hourly;
REFRESH MATERIALIZED VIEW sales_daily;
-- Nothing to mend is the normal answer: no row.
CALL repair('sales_daily', :'day', :'day'::DATE + INTERVAL '1 day');
SELECT bucket AS day, country, sum(quantity) AS quantity, sum(revenue) AS revenue, sum(events) AS events
FROM sales_daily
WHERE bucket = :'day'
GROUP BY bucket, country
ORDER BY country;
