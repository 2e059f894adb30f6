#!/usr/bin/env python3
"""Raw events into an hourly rollup: ours, DuckDB, ClickHouse and Polars on the same Parquet files, two threads each, in turns.

usage: rollup.py [--data FOLDER] [--rows N] [--runs N]     from the workspace; pip install duckdb chdb polars first

The others write one Parquet file (zstd) with hour, product and sum; ours is CREATE MATERIALIZED VIEW, with its commits.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="target/tmp/rollup")
parser.add_argument("--rows", type=int, default=50_000_000)
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--one")
args = parser.parse_args()
events = f"{args.data}/build-{args.rows}/sales/*.parquet"


def duckdb_seconds(out):
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    connection.execute(f"SELECT sum(quantity) FROM '{events}'").fetchall()
    start = time.perf_counter()
    connection.execute(
        f"COPY (SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id, sum(quantity)::BIGINT AS quantity "
        f"FROM '{events}' GROUP BY ALL) TO '{out}' (FORMAT parquet, COMPRESSION zstd)"
    )
    return time.perf_counter() - start


def clickhouse_seconds(out):
    import chdb

    chdb.query(f"SELECT sum(quantity) FROM file('{events}', Parquet)")
    start = time.perf_counter()
    chdb.query(
        f"INSERT INTO FUNCTION file('{out}', Parquet) "
        f"SELECT toStartOfHour(event_time) AS bucket, product_id, sum(quantity) AS quantity "
        f"FROM file('{events}', Parquet) GROUP BY bucket, product_id "
        f"SETTINGS max_threads = 2, output_format_parquet_compression_method = 'zstd'"
    )
    return time.perf_counter() - start


def polars_seconds(out):
    import polars

    rows = polars.scan_parquet(events)
    rows.select(polars.col("quantity").sum()).collect()
    start = time.perf_counter()
    hour = polars.col("event_time").dt.truncate("1h").alias("bucket")
    grouped = rows.group_by(hour, "product_id").agg(polars.col("quantity").sum())
    grouped.sink_parquet(out, compression="zstd")
    return time.perf_counter() - start


if args.one:
    engine = {"duckdb": duckdb_seconds, "clickhouse": clickhouse_seconds, "polars": polars_seconds}[args.one]
    with tempfile.TemporaryDirectory(dir=args.data) as folder:
        seconds = engine(f"{folder}/hourly.parquet")
        size = os.path.getsize(f"{folder}/hourly.parquet")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({"what": args.one, "seconds": seconds, "mib": peak, "bytes": size}))
    sys.exit()

# An absolute path: cargo runs a bench in the folder of its package.
ours = ["cargo", "bench", "-q", "--bench", "rollup", "--", "build", "--json", "--runs", "1"]
ours += ["--rows", str(args.rows), "--data", os.path.abspath(args.data)]
seconds, memory = {}, {}
for run in range(args.runs + 1):
    commands = [ours]
    for engine in ("duckdb", "clickhouse", "polars"):
        one = [sys.executable, __file__, "--data", args.data, "--rows", str(args.rows), "--one", engine]
        commands.append(["env", "POLARS_MAX_THREADS=2", *one])
    for command in commands:
        for line in subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
            row = json.loads(line)
            # The first round makes the data and warms the caches.
            if run > 0:
                seconds.setdefault(row["what"], []).append(row["seconds"])
                memory[row["what"]] = max(memory.get(row["what"], 0), row["mib"])
for name, runs in seconds.items():
    print(f"{name:26} median {statistics.median(runs):.2f} s  min {min(runs):.2f} s  {memory[name]:6} MiB")
