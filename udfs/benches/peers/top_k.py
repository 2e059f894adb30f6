#!/usr/bin/env python3
"""Approximate top 1000 by sum on the same Parquet files: ours, DuckDB and ClickHouse, two threads each, in turns.

usage: top_k.py [--data FOLDER] [--runs N]     from the workspace; pip install duckdb chdb first

DuckDB's approx_top_k has no weights and so counts rows; ClickHouse's topKWeighted(1000, 3, 'counts') has them.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="target/tmp/top_k")
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--one", nargs=2, metavar=("ENGINE", "ITEM"))
args = parser.parse_args()


def duckdb_seconds(item):
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    start = time.perf_counter()
    connection.execute(f"SELECT approx_top_k({item}, 1000) FROM '{args.data}/*.parquet'").fetchall()
    return time.perf_counter() - start


def clickhouse_seconds(item):
    import chdb

    chdb.query("SELECT 1")
    start = time.perf_counter()
    chdb.query(
        f"SELECT topKWeighted(1000, 3, 'counts')({item}, toUInt64(quantity)) "
        f"FROM file('{args.data}/*.parquet', Parquet) SETTINGS max_threads = 2",
        "TSV",
    )
    return time.perf_counter() - start


if args.one:
    engine, item = args.one
    print({"duckdb": duckdb_seconds, "clickhouse": clickhouse_seconds}[engine](item))
    sys.exit()

command = ["cargo", "bench", "-q", "-p", "toplake", "-p", "toplake-udfs", "--bench", "top_k", "--", "--json"]
command += ["--runs", "1", "--data", args.data]
seconds = {}
for _ in range(args.runs):
    for item, kind in (("product_id", ""), ("product_name", " string")):
        for engine in ("duckdb", "clickhouse"):
            one = [sys.executable, __file__, "--data", args.data, "--one", engine, item]
            done = subprocess.run(one, capture_output=True, text=True, check=True)
            seconds.setdefault(engine + kind, []).append(float(done.stdout.split()[-1]))
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        row = json.loads(line)
        seconds.setdefault("ours: " + row["query"], []).append(row["seconds"])
for name, runs in seconds.items():
    print(f"{name:22} median {statistics.median(runs):.2f} s  min {min(runs):.2f} s")
