#!/usr/bin/env python3
"""How fast small queries are through the wire, against PostgreSQL with the same rows in the same run.

    cargo build --release
    python3 benches/wire/main.py flat  --toplake target/release/toplake     # nothing else going on
    python3 benches/wire/main.py busy  --toplake target/release/toplake     # 20,000 events/s written and folded beside it
    python3 benches/wire/main.py mixed --toplake target/release/toplake     # 8 heavy and 32 small queries, 512 MB

Needs PostgreSQL 15 with pgbench (Debian: postgresql, postgresql-contrib), and nothing of Python but itself. pgbench drives
both servers over TCP on the loopback, one after the other for each line of the table, so that the ratio is of the same
minute. As root, PostgreSQL is run as the user `postgres`.
"""

import argparse
import contextlib
import glob
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

EVENTS = 400_000
ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))

QUERIES = {
    # What a dashboard asks: 1,000 rows of 7 columns.
    "board": "SELECT * FROM top_1000 WHERE period = 'day';\n",
    # One row, another one each time.
    "one row": "\\set n random(1, 1000)\nSELECT * FROM top_1000 WHERE period = 'day' AND rank = :n LIMIT 1;\n",
    # The same with a number that never comes twice: nothing that was answered before is of use.
    "one row, new": "\\set n random(1, 1000)\n\\set never random(1000000000, 2000000000)\n"
    "SELECT * FROM top_1000 WHERE period = 'day' AND rank = :n AND quantity <> :never LIMIT 1;\n",
    # A query of a rollup, of some 10,000 rows: nothing is kept of it but its plan.
    "rollup": "\\set n random(1, 8000)\n"
    "SELECT bucket, quantity FROM sales_daily WHERE product_id = 'product-' || CAST(:n AS varchar);\n",
}

# Products sell unequally, over the last ten days.
FILL = """
INSERT INTO sales (event_id, event_time, product_id, quantity, unit_price, customer_id, country)
SELECT n, CAST(to_timestamp(1768867200 - n * 2) AS TIMESTAMP),
       'product-' || CAST(CAST(floor(8000 * power(random(), 3)) AS BIGINT) AS VARCHAR), CAST(1 + floor(random() * 9) AS BIGINT), 9.99,
       'customer-' || CAST(n % 10007 AS VARCHAR), CASE WHEN n % 3 = 0 THEN 'France' ELSE 'Kenya' END
FROM generate_series({first}, {last}) AS g(n)
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def psql(address, *arguments, check=True, quiet=True):
    host, port, user, database = address
    command = ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", str(port), "-U", user, "-d", database, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode != 0:
        sys.exit(f"{' '.join(arguments)[:200]}: {done.stderr}")
    return done


def until(what, seconds, say):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            sys.exit(f"{say} did not happen in {seconds} s")
        time.sleep(0.05)


class Toplake:
    name = "toplake"

    def __init__(self, binary, folder, *more):
        port = free_port()
        self.address = ("127.0.0.1", port, "bench", "toplake")
        warehouse = os.path.join(folder, "warehouse")
        self.log = open(os.path.join(folder, "toplake.log"), "w")
        command = [binary, "serve", "--warehouse", warehouse, "--listen", f"127.0.0.1:{port}", "--http", "off", *more]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        until(lambda: psql(self.address, "-c", "SELECT 1", check=False).returncode == 0, 60, "toplake's start")

    def fill(self):
        for script in ("schema.sql", "rollups.sql"):
            psql(self.address, "-q", "-f", os.path.join(ROOT, "sql/sales", script))
        psql(self.address, "-q", "-c", FILL.format(first=1, last=EVENTS))
        psql(self.address, "-q", "-f", os.path.join(ROOT, "sql/sales/views.sql"))
        for view in ("sales_hourly", "sales_daily", "sales_weekly", "sales_monthly", "sales_yearly", "top_1000"):
            psql(self.address, "-q", "-c", f"REFRESH MATERIALIZED VIEW {view}")

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return {k: int(v) // 1024 for k, v in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", f.read(), re.M)}

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


class Postgres:
    name = "postgres"

    def __init__(self, folder):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
        server = shutil.which("postgres") or (found and found[-1])
        if not server:
            sys.exit("no PostgreSQL server: install Debian's postgresql")
        programs = os.path.dirname(os.path.realpath(server))
        port = free_port()
        self.address = ("127.0.0.1", port, "bench", "postgres")
        data = os.path.join(folder, "postgres")
        os.mkdir(data)
        run_as = {}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chmod(folder, 0o755)
            os.chown(data, user.pw_uid, user.pw_gid)
            run_as = {"user": user.pw_uid, "group": user.pw_gid, "cwd": data}
        subprocess.run(
            [os.path.join(programs, "initdb"), "-D", data, "-U", "bench", "-A", "trust", "--locale=C", "-E", "UTF8"],
            check=True, stdout=subprocess.DEVNULL, **run_as,
        )
        self.log = open(os.path.join(folder, "postgres.log"), "w")
        options = ["-c", "shared_buffers=512MB", "-c", "max_connections=200", "-c", f"unix_socket_directories={data}"]
        self.process = subprocess.Popen(
            [os.path.join(programs, "postgres"), "-D", data, "-p", str(port), *options],
            stdout=self.log, stderr=self.log, **run_as,
        )
        until(lambda: psql(self.address, "-c", "SELECT 1", check=False).returncode == 0, 60, "PostgreSQL's start")

    def fill(self, toplake, folder):
        rows = psql(toplake.address, "--csv", "-c", "SELECT * FROM top_1000").stdout
        file = os.path.join(folder, "top_1000.csv")
        with open(file, "w") as f:
            f.write(rows)
        psql(self.address, "-q", "-c", """
            CREATE TABLE top_1000 (period text, bucket timestamp, rank bigint, product_id text, quantity bigint,
                                   as_of timestamp, complete boolean);
            CREATE TABLE sales (event_id bigint, event_time timestamp, product_id text, quantity bigint, unit_price numeric(18, 4),
                                customer_id text, country text);""")
        psql(self.address, "-q", "-c", f"\\copy top_1000 FROM '{file}' (FORMAT csv, HEADER)")
        psql(self.address, "-q", "-c", "CREATE INDEX ON top_1000 (period, rank)")
        psql(self.address, "-q", "-c", "VACUUM ANALYZE top_1000")
        return rows.count("\n") - 1

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def pgbench(server, query, mode, clients, seconds, folder):
    """Transactions per second, and P50 and P99 in milliseconds."""
    host, port, user, database = server.address
    script = os.path.join(folder, "script.sql")
    with open(script, "w") as f:
        f.write(QUERIES[query])
    prefix = os.path.join(folder, "log")
    command = ["pgbench", "-n", "-h", host, "-p", str(port), "-U", user, "-M", mode, "-c", str(clients), "-j", "2",
               "-T", str(seconds), "-f", script, "-l", "--log-prefix", prefix, "--sampling-rate", "0.25", database]
    done = subprocess.run(command, capture_output=True, text=True)
    tps = re.search(r"^tps = ([\d.]+)", done.stdout, re.M)
    if done.returncode != 0 or not tps:
        sys.exit(f"pgbench on {server.name}: {done.stdout}{done.stderr}")
    times = []
    for file in glob.glob(prefix + ".*"):
        with open(file) as f:
            times += [int(line.split()[2]) / 1000 for line in f]
        os.remove(file)
    times.sort()
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))] if times else float("nan")
    return float(tps.group(1)), at(0.5), at(0.99)


@contextlib.contextmanager
def writing(servers, rows):
    """Writes so many events a second to each server."""
    stop = threading.Event()
    written = dict.fromkeys((s.name for s in servers), 0)

    def write(server):
        first = EVENTS + 1
        while not stop.is_set():
            begun = time.monotonic()
            psql(server.address, "-q", "-c", FILL.format(first=first, last=first + rows - 1))
            first += rows
            written[server.name] += rows
            stop.wait(max(0, 1 - (time.monotonic() - begun)))

    threads = [threading.Thread(target=write, args=(s,)) for s in servers]
    for t in threads:
        t.start()
    try:
        yield written
    finally:
        stop.set()
        for t in threads:
            t.join()


def compare(arguments, folder, busy):
    postgres, toplake = Postgres(folder), Toplake(arguments.toplake, folder)
    try:
        toplake.fill()
        rows = postgres.fill(toplake, folder)
        print(f"{rows} rows in top_1000; {arguments.seconds} s each, 2 pgbench threads, {os.cpu_count()} cores")
        print(f"{'query':13} {'mode':9} {'clients':>7} | {'PostgreSQL':>10} {'P50':>7} {'P99':>7} | {'toplake':>10} {'P50':>7} {'P99':>7} | ratio")
        for query in arguments.queries or [q for q in QUERIES if q != "rollup"]:
            for mode in arguments.modes:
                for clients in arguments.clients:
                    figures = []
                    for server in (postgres, toplake):
                        beside = writing([server], 20_000) if busy else contextlib.nullcontext()
                        with beside:
                            figures.append(pgbench(server, query, mode, clients, arguments.seconds, folder))
                    (a, a50, a99), (b, b50, b99) = figures
                    print(f"{query:13} {mode:9} {clients:7} | {a:10.0f} {a50:7.2f} {a99:7.2f} | {b:10.0f} {b50:7.2f} {b99:7.2f} | {b / a:.2f}",
                          flush=True)
        print(f"toplake: {toplake.memory()} MiB")
    finally:
        toplake.stop()
        postgres.stop()


HEAVY = """SELECT customer_id, product_id, count(*) AS n, sum(quantity) AS q, min(event_time) AS first, max(event_time) AS last
FROM sales GROUP BY customer_id, product_id ORDER BY q DESC, customer_id, product_id LIMIT 10"""


def mixed(arguments, folder):
    """8 connections with heavy queries, 32 with small ones."""
    config = os.path.join(folder, "toplake.toml")
    with open(config, "w") as f:
        f.write(f"[limits]\nmemory = '{arguments.memory}'\n")
    toplake = Toplake(arguments.toplake, folder, "--config", config)
    try:
        toplake.fill()
        step = 1_000_000
        for first in range(EVENTS + 1, EVENTS + arguments.rows, step):
            psql(toplake.address, "-q", "-c", FILL.format(first=first, last=first + step - 1))
        # The rollups have folded all of it: what is asked of them is small.
        for view in ("sales_hourly", "sales_daily"):
            psql(toplake.address, "-q", "-c", f"REFRESH MATERIALIZED VIEW {view}")
        stop, outcomes = threading.Event(), []

        def heavy():
            while not stop.is_set():
                begun = time.monotonic()
                done = psql(toplake.address, "-v", "VERBOSITY=sqlstate", "-Atc", HEAVY, check=False)
                outcomes.append((done.returncode, done.stderr.strip()[:80], time.monotonic() - begun))
                if done.returncode != 0:
                    stop.wait(0.1)

        alone = pgbench(toplake, "board", "simple", 32, arguments.seconds, folder)
        threads = [threading.Thread(target=heavy) for _ in range(8)]
        for t in threads:
            t.start()
        time.sleep(1)
        for query in ("board", "one row, new", "rollup"):
            tps, p50, p99 = pgbench(toplake, query, "simple", 32, 4 * arguments.seconds, folder)
            print(f"32 small ({query}) beside 8 heavy: {tps:.0f}/s, P50 {p50:.2f} ms, P99 {p99:.2f} ms")
        print(f"32 small (board) alone: {alone[0]:.0f}/s, P50 {alone[1]:.2f} ms, P99 {alone[2]:.2f} ms")
        stop.set()
        for t in threads:
            t.join()
        well = [seconds for code, _, seconds in outcomes if code == 0]
        print(f"heavy: {len(well)} answered (longest {max(well, default=0):.1f} s), refused:",
              json.dumps({why: sum(1 for c, w, _ in outcomes if c and w == why) for _, why, _ in outcomes if why}))
        print(f"toplake lives: {toplake.process.poll() is None}, {toplake.memory()} MiB")
    finally:
        toplake.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["flat", "busy", "mixed"])
    parser.add_argument("--toplake", default=os.path.join(ROOT, "target/release/toplake"))
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--modes", nargs="+", default=["simple", "prepared"])
    parser.add_argument("--queries", nargs="+", choices=list(QUERIES))
    parser.add_argument("--memory", default="512MB", help="of `mixed`: what all queries together may take")
    parser.add_argument("--rows", type=int, default=10_000_000, help="events for the heavy queries of `mixed`")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "mixed":
            mixed(arguments, folder)
        else:
            compare(arguments, folder, arguments.what == "busy")


if __name__ == "__main__":
    main()
