-- Run by cron where no server runs, which does this by itself: once an hour, say.
--   toplake sql --warehouse URL -f compact.sql
--
-- Merges small files, and removes those that left their tables a day ago or before. Twice does no harm.
CALL compact('sales');
CALL compact('sales_hourly');
CALL compact('sales_daily');
CALL compact('sales_weekly');
CALL compact('sales_monthly');
CALL compact('sales_yearly');
VACUUM;
