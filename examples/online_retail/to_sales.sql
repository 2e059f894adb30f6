-- One row of `sales` for each line of the file; `input` is the file. Every column of a CSV file is text, and two columns
-- say where a line stood: input_file and input_line.
SELECT input_line                                    AS event_id,    -- the file has no id of its own
       CAST("InvoiceDate" AS TIMESTAMP)              AS event_time,  -- a refund counts when it is given, not at its sale
       CAST("InvoiceDate" AS TIMESTAMP)              AS occurred_at, -- local time of the shop, kept as it is
       "StockCode"                                   AS product_id,
       CAST("Quantity" AS BIGINT)                    AS quantity,
       CAST("UnitPrice" AS DECIMAL(18, 4))           AS unit_price,
       nullif(split_part("CustomerID", '.', 1), '')  AS customer_id, -- 12923.0 in the file; empty where nobody is known
       "Country"                                     AS country
FROM input
