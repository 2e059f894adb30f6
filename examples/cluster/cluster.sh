#!/bin/sh
# Two servers, three workers and two ingesters over one warehouse, all on this machine. Ctrl-C stops them.
#
#     examples/cluster/cluster.sh [FOLDER]          # TOPLAKE says where the program is, if not on the PATH
set -eu

toplake=${TOPLAKE:-toplake}
folder=${1:-./toplake-cluster}
sql=$(dirname "$0")/../../sql/sales
mkdir -p "$folder/inbox"
warehouse=$folder/warehouse
token=$folder/token
[ -s "$token" ] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$token"

trap 'trap - INT TERM EXIT; kill 0' INT TERM EXIT

for port in 7511 7512 7513; do
    "$toplake" worker --listen 127.0.0.1:$port --http off --cluster-token "$token" --memory 1GB &
done

# Two million sales of the last days in two files, one for each ingester; a file that is there already counts once.
[ -d "$warehouse" ] || "$toplake" sql --quiet --warehouse "$warehouse" -f "$sql/schema.sql" -f "$sql/rollups.sql" -f "$sql/views.sql"
for part in 0 1; do
    [ -f "$folder/inbox/part-$part.csv" ] || "$toplake" sql --quiet --warehouse "$warehouse" -c "
        COPY (SELECT n AS event_id, CAST(now() AS TIMESTAMP) - (n % 864000) * INTERVAL '1 second' AS event_time,
                     'product-' || n * 7919 % 20011 AS product_id, n % 5 + 1 AS quantity, 9.99 AS unit_price,
                     'customer-' || n % 1009 AS customer_id, CASE WHEN n % 3 = 0 THEN 'France' ELSE 'Kenya' END AS country
              FROM generate_series($part * 1000000, $part * 1000000 + 999999) AS g(n))
        TO '$folder/inbox/part-$part.csv' STORED AS CSV OPTIONS (has_header true)"
done
"$toplake" ingest files --warehouse "$warehouse" --table sales "$folder/inbox/part-0.csv" &
first=$!
"$toplake" ingest files --warehouse "$warehouse" --table sales "$folder/inbox/part-1.csv" &
wait "$first" $!

for port in 7432 7442; do
    "$toplake" serve --warehouse "$warehouse" --listen 127.0.0.1:$port --http 127.0.0.1:$((port + 48)) \
        --workers 127.0.0.1:7511,127.0.0.1:7512,127.0.0.1:7513 --cluster-token "$token" --cluster-bytes-per-task 8MiB &
done
wait
