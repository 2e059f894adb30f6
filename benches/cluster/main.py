#!/usr/bin/env python3
"""Large queries, an INSERT of their rows and a fold on workers of one thread each, against one process with as many threads.

    python3 benches/cluster/main.py --toplake target/release/toplake                 # 50 M sales, 2 and 4 workers
    python3 benches/cluster/main.py --toplake target/release/toplake --rows 5000000

Each process is pinned to its cores (`taskset`); where there are fewer cores than workers, several share one, and the process
beside them has as many threads on the same cores. The server before the workers has one thread, on the first core; with one worker it
runs all by itself. Needs psql.
The same warehouse serves all lines; both sides run by turns, times are the best of three, in seconds, and answers are compared. Peaks
are VmHWM. The rows of "insert" and "fold" are those of "hour x product": an INSERT's come back to the server, which writes them, while a
fold's are sorted and written by the workers that have them. "server CPU" are the seconds that the server itself computed for, on
average: what no more workers make less.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
CORES = sorted(os.sched_getaffinity(0))

SCHEMA = """CREATE TABLE sales (event_id BIGINT, event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT, unit_price DECIMAL(18, 4),
  customer_id VARCHAR, country VARCHAR) WITH (time_column = 'event_time')"""

# A million products that sell unequally, over thirty days.
FILL = """INSERT INTO sales SELECT n, CAST(to_timestamp(1767225600 + n % 2592000) AS TIMESTAMP),
  'product-' || CAST(CAST(floor(1000000 * power((n * 2654435761 % 4294967296) / 4294967296.0, 3)) AS BIGINT) AS VARCHAR), n % 9 + 1, 9.99,
  'customer-' || CAST(n % 10007 AS VARCHAR), CASE WHEN n % 3 = 0 THEN 'France' ELSE 'Kenya' END
  FROM generate_series({first}, {last}) AS g(n)"""

QUERIES = {
    "top 1000": """SELECT count(*), sum(q) FROM (SELECT product_id, sum(quantity) AS q FROM sales GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1000)""",
    "hour x product": """SELECT count(*), sum(q), sum(n) FROM (SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id,
        sum(quantity) AS q, count(*) AS n FROM sales GROUP BY 1, 2)""",
}
VIEW = """CREATE MATERIALIZED VIEW hourly AS SELECT time_bucket(INTERVAL '1 hour', event_time) AS bucket, product_id,
  sum(quantity) AS quantity, count(*) AS events FROM sales GROUP BY 1, 2"""
COPY = """CREATE TABLE copied (bucket TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT, events BIGINT) WITH (time_column = 'bucket')"""
INSERT = """INSERT INTO copied SELECT time_bucket(INTERVAL '1 hour', event_time), product_id, sum(quantity), count(*) FROM sales GROUP BY 1, 2"""
LINES = [*QUERIES, "insert", "fold"]
ROUNDS = 3


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    def __init__(self, cores, log, *command):
        self.log = open(log, "w")
        pinned = ["taskset", "-c", ",".join(map(str, cores)), *command]
        self.process = subprocess.Popen(pinned, stdout=self.log, stderr=self.log)

    def peak(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1)) // 1024

    def cpu(self):
        """Seconds that it has computed for."""
        with open(f"/proc/{self.process.pid}/stat") as f:
            user, system = f.read().rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as f:
            f.write("5")

    def stop(self):
        self.process.kill()
        self.process.wait()


class Server:
    def __init__(self, arguments, folder, cores, threads, workers):
        self.folder, self.threads = folder, threads
        self.workers = []
        more = []
        if workers:
            ports = [free_port() for _ in range(workers)]
            for i, port in enumerate(ports):
                command = [arguments.toplake, "worker", "--listen", f"127.0.0.1:{port}", "--http", "off", "--memory", arguments.memory]
                self.workers.append(Process([CORES[i % len(CORES)]], os.path.join(folder, f"worker-{i}.log"), *command))
            fallback = "refuse" if workers > 1 else "local"
            more = ["--workers", ",".join(f"127.0.0.1:{port}" for port in ports), "--cluster-fallback", fallback]
        self.port = free_port()
        self.server = Process(
            cores, os.path.join(folder, "server.log"), arguments.toplake, "serve", "--warehouse", os.path.join(folder, "warehouse"),
            "--listen", f"127.0.0.1:{self.port}", "--http", "off", "--refresh-every", "0", "--upkeep-every", "0", *more)
        end = time.monotonic() + 60
        while self.psql("SELECT count(*) FROM toplake.workers WHERE state = 'live'", check=False) != str(workers):
            if time.monotonic() > end:
                sys.exit("the server or its workers did not start")
            time.sleep(0.2)

    def psql(self, *statements, check=True):
        command = ["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U", "bench", "-d", "toplake"]
        for statement in statements:
            command += ["-c", statement]
        done = subprocess.run(command, capture_output=True, text=True)
        if check and done.returncode:
            sys.exit(done.stderr)
        return done.stdout.strip() if done.returncode == 0 else None

    def all(self):
        return [self.server, *self.workers]

    def stop(self):
        for process in self.all():
            process.stop()


class Run:
    """One line on one server: the best seconds, those that the server computed for on average, the answer, and the peaks of all."""

    def __init__(self, server, what):
        self.server, self.what = server, what
        self.best, self.cpu, self.answer, self.peaks = None, 0.0, None, [0] * len(server.all())

    def once(self):
        server = self.server
        for process in server.all():
            process.forget_peak()
        if self.what == "fold":
            server.psql("DROP MATERIALIZED VIEW IF EXISTS hourly")
            # It is built from all there is.
            statements = [VIEW, "REFRESH MATERIALIZED VIEW hourly"]
        elif self.what == "insert":
            server.psql("DROP TABLE IF EXISTS copied", COPY)
            statements = [INSERT]
        else:
            statements = [QUERIES[self.what]]
        begun, before = time.monotonic(), server.server.cpu()
        answer = server.psql(f"SET datafusion.execution.target_partitions = {server.threads}", *statements)
        took = time.monotonic() - begun
        self.best = took if self.best is None else min(self.best, took)
        self.cpu += (server.server.cpu() - before) / ROUNDS
        self.peaks = [max(peak, process.peak()) for peak, process in zip(self.peaks, server.all())]
        written = {"fold": "hourly", "insert": "copied"}.get(self.what)
        self.answer = server.psql(f"SELECT count(*), sum(quantity), sum(events) FROM {written}") if written else answer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toplake", default=os.path.join(ROOT, "target/release/toplake"))
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--memory", default="4GB", help="of each worker")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(arguments, folder, CORES, len(CORES), 0)
        server.psql(SCHEMA)
        step = 1_000_000
        for first in range(0, arguments.rows, step):
            server.psql(FILL.format(first=first, last=min(first + step, arguments.rows) - 1))
        server.stop()
        print(f"{arguments.rows} rows, {len(CORES)} cores")
        print(f"{'':15} {'threads':>7} | {'process':>8} {'peak MiB':>9} | {'workers':>8} {'server CPU':>10} {'server MiB':>10} {'peak MiB of each':20} | ratio", flush=True)
        for threads in arguments.workers:
            cores = CORES[: min(threads, len(CORES))]
            alone = Server(arguments, folder, cores, threads, 0)
            spread = Server(arguments, folder, CORES[:1], 1, threads)
            for what in LINES:
                process, workers = Run(alone, what), Run(spread, what)
                # By turns, so that what disturbs the machine disturbs both.
                for _ in range(ROUNDS):
                    process.once()
                    workers.once()
                if process.answer != workers.answer:
                    sys.exit(f"{what}: {workers.answer} on workers, {process.answer} in one process")
                each = " ".join(map(str, workers.peaks[1:]))
                print(
                    f"{what:15} {threads:7} | {process.best:8.2f} {process.peaks[0]:9} | {workers.best:8.2f} {workers.cpu:10.2f} {workers.peaks[0]:10} {each:20}"
                    f" | {workers.best / process.best:.2f}", flush=True)
            alone.stop()
            spread.stop()


if __name__ == "__main__":
    main()
