-- What the programs in this folder find, whichever client they are.

-- Every type that a table can keep, with a row of usual values, one of the other end of each, and one of NULLs.
CREATE TABLE types (id BIGINT NOT NULL, b BOOLEAN, i2 SMALLINT, i4 INT, i8 BIGINT, f4 REAL, f8 DOUBLE, n DECIMAL(18, 4),
                    t TEXT, by BYTEA, d DATE, ts TIMESTAMP, tz TIMESTAMPTZ, i4s INT[], ts_list TEXT[]);
INSERT INTO types VALUES
  (1, true, 32767, 2147483647, 9223372036854775807, 1.5, 0.1, '12345678901234.5678', 'Zoë''s "tea"', X'00ff10', '2026-01-31',
   '2026-01-31 23:59:59.123456', '2026-01-31T23:59:59.123456Z', [1, 2, 3], ['a', 'b c']),
  (2, false, -32768, -2147483648, -9223372036854775808, -1.5, -0.1, -0.0001, '', X'', '1969-07-20', '1969-07-20 20:17:40',
   '1969-07-20T20:17:40Z', [-1], ['']),
  (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- Sales of two days and what is made of them.
CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT,
                    unit_price DECIMAL(18, 4), customer_id VARCHAR, country VARCHAR)
  WITH (time_column = 'event_time', allowed_lateness = '15 minutes');
INSERT INTO sales
  SELECT n, CAST(to_timestamp(1769817600 - n * 60) AS TIMESTAMP), 'product-' || CAST(n % 7 AS VARCHAR),
         n % 5 - 1, 9.99, 'customer-' || CAST(n % 11 AS VARCHAR), CASE WHEN n % 3 = 0 THEN 'France' ELSE 'Kenya' END
  FROM generate_series(1, 2880) AS g(n);
CREATE MATERIALIZED VIEW sales_hourly AS
  SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, country, sum(quantity) AS quantity,
         count(*) AS events
  FROM sales GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW top_products AS
  SELECT product_id, sum(quantity) AS quantity FROM sales_hourly GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5;
CREATE VIEW french_sales AS SELECT event_time, product_id, quantity FROM sales WHERE country = 'France';

-- Where clients write.
CREATE TABLE notes (id BIGINT NOT NULL, note TEXT, price DECIMAL(10, 2), at TIMESTAMPTZ);
