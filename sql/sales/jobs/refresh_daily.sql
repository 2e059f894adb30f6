-- Run by cron: folds new sales into the days, after what they are made from.
-- It folds whatever is new, so it takes no date, and may run late, twice, or on two machines at once.
REFRESH MATERIALIZED VIEW sales_hourly;
REFRESH MATERIALIZED VIEW sales_daily;
REFRESH MATERIALIZED VIEW top_1000;
