-- Sales, one row for each line sold. Running this file again changes nothing.

CREATE TABLE IF NOT EXISTS sales (
  event_id    BIGINT,
  event_time  TIMESTAMP NOT NULL,  -- when it counts: decides the hour, day, … it is added to (UTC)
  occurred_at TIMESTAMP,           -- when it happened; a refund may count at its own time or at its sale's
  product_id  VARCHAR,
  quantity    BIGINT,              -- negative: a refund
  unit_price  DECIMAL(18, 4),      -- money is DECIMAL: its sums do not depend on the order of the rows
  customer_id VARCHAR,
  country     VARCHAR
) WITH (
  time_column      = 'event_time',
  allowed_lateness = '15 minutes', -- how far the watermark stays behind the latest event; later events count all the same
  max_future       = '1 hour'      -- an event further ahead is refused: one wrong clock must not complete a day early
);
