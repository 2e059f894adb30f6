-- Run by cron, each hour: folds new clicks into the hours, after what they are made from.
REFRESH MATERIALIZED VIEW ad_clicks_minutely;
REFRESH MATERIALIZED VIEW ad_clicks_hourly;
REFRESH MATERIALIZED VIEW ad_users_hourly;
