-- Closes a month, given by its first day. Fails, and changes nothing, until the watermark has passed the end of the month:
--   psql -v ON_ERROR_STOP=1 -v month=2026-03-01 -f close_month.sql
--   toplake sql --warehouse URL -v month=2026-03-01 -f close_month.sql
-- May be run again, with the same result unless sales have come in later than allowed_lateness, or refunds were booked.
CALL require_complete('sales_monthly', :'month'::DATE + INTERVAL '1 month');
REFRESH MATERIALIZED VIEW sales_hourly;
REFRESH MATERIALIZED VIEW sales_daily;
REFRESH MATERIALIZED VIEW sales_monthly;
-- Nothing to mend is the normal answer: no row.
CALL repair('sales_monthly', :'month', :'month'::DATE + INTERVAL '1 month');
SELECT bucket AS month, country, sum(quantity) AS quantity, sum(revenue) AS revenue, sum(events) AS events
FROM sales_monthly
WHERE bucket = :'month'
GROUP BY bucket, country
ORDER BY country;
