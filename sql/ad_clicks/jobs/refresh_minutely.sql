-- Run by cron, each minute: folds new clicks. It folds whatever is new, so it takes no date, and may run late, twice, or on two
-- machines at once.
REFRESH MATERIALIZED VIEW ad_clicks_minutely;
REFRESH MATERIALIZED VIEW top_ads_minutely;
REFRESH MATERIALIZED VIEW popular_ads;
