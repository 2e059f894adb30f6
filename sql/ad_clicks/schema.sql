-- Clicks on ads, one row for each click. Running this file again changes nothing.

CREATE TABLE IF NOT EXISTS ad_clicks (
  ad_id      BIGINT,
  click_time TIMESTAMP NOT NULL,   -- UTC
  user_id    BIGINT,
  ip         VARCHAR,
  country    VARCHAR
) WITH (
  time_column      = 'click_time',
  allowed_lateness = '5 minutes',  -- how far the watermark stays behind the latest click; later ones count all the same
  max_future       = '1 hour'      -- a click further ahead is refused: one wrong clock must not complete a minute early
);

-- What may be asked for, as rows: a filter names the dimensions that it fixes; NULL stands for any value. A filter that is
-- added today works on the clicks of last year, because clicks are kept by dimension and not by filter.
CREATE TABLE IF NOT EXISTS filters (
  filter_id BIGINT,
  name      VARCHAR,
  country   VARCHAR
);
