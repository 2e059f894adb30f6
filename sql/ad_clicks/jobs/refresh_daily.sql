-- Run by cron, each day: folds new clicks into the days, after what they are made from.
REFRESH MATERIALIZED VIEW ad_clicks_minutely;
REFRESH MATERIALIZED VIEW ad_clicks_hourly;
REFRESH MATERIALIZED VIEW ad_clicks_daily;
REFRESH MATERIALIZED VIEW ad_users_hourly;
REFRESH MATERIALIZED VIEW ad_users_daily;
