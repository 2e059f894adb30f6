"""psycopg 3, with psycopg_pool."""

import threading
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.types import TypeInfo
from psycopg_pool import ConnectionPool

from checks import COLUMNS, ENDLESS, MILLION, SUM_OF_MILLION, TYPES, check, equal, fails, run

COUNT = "SELECT count(*) FROM notes"


def connected(**options):
    return psycopg.connect(**options)


def emptied():
    """A connection, and nobody's notes."""
    connection = connected(autocommit=True)
    connection.execute("DELETE FROM notes")
    connection.autocommit = False
    return connection


def value(connection, query, parameters=None):
    return connection.execute(query, parameters).fetchone()[0]


@check
def connect():
    with connected() as c:
        assert c.pgconn.ssl_in_use
        assert c.pgconn.used_password
        equal(value(c, "SELECT current_user"), "ann")
        equal(value(c, "SHOW ssl"), "on")
        equal(c.info.encoding, "utf-8")
        assert c.info.server_version >= 130000, c.info.server_version
        equal(c.info.parameter_status("standard_conforming_strings"), "on")
        equal(str(c.info.timezone), value(c, "SHOW timezone"))
    e = fails(connected, psycopg.OperationalError, password="wrong")
    assert 'password authentication failed for user "ann"' in str(e), e


@check
def metadata():
    with connected() as c:
        kinds = dict(c.execute("SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'public'"))
        equal(kinds.get("types"), "BASE TABLE")
        equal(kinds.get("french_sales"), "VIEW")
        kinds = dict(c.execute("SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace"))
        equal([kinds.get(n) for n in ["types", "sales_hourly", "top_products", "french_sales"]], ["r", "m", "m", "v"])
        columns = c.execute(
            "SELECT column_name, is_nullable, udt_name, numeric_precision, numeric_scale FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position", ["types"]).fetchall()
        equal([row[0] for row in columns], COLUMNS)
        equal([row[1] for row in columns], ["NO"] + ["YES"] * 14)
        equal([row[2] for row in columns], "int8 bool int2 int4 int8 float4 float8 numeric text bytea date timestamp"
                                           " timestamptz _int4 _text".split())
        equal(columns[7][3:], (18, 4))
        described = c.execute("SELECT * FROM types").description
        equal([column.type_display for column in described],
              "int8 bool int2 int4 int8 float4 float8 numeric(18,4) text bytea date timestamp timestamptz int4[] text[]".split())
        for name, oid, array in [("numeric", 1700, 1231), ("text", 25, 1009), ("timestamptz", 1184, 1185)]:
            info = TypeInfo.fetch(c, name)
            equal((info.name, info.oid, info.array_oid), (name, oid, array))
        equal(TypeInfo.fetch(c, "hstore"), None)


@check
def types():
    with connected() as c:
        for binary in [False, True]:
            cursor = c.cursor(binary=binary)
            rows = cursor.execute("SELECT * FROM types WHERE id <= 3 ORDER BY id").fetchall()
            equal(rows, TYPES, f"binary {binary}")
        c.commit()
        c.autocommit = True
        for i, parameter in enumerate(["%s", "%t", "%b"]):
            marks = ", ".join([parameter] * len(COLUMNS))
            for row in TYPES:
                row = (row[0] + 10 * (i + 1), *row[1:])
                c.execute(f"INSERT INTO types VALUES ({marks})", row)
                found = c.execute(f"SELECT * FROM types WHERE id = {parameter}", row[:1], binary=i == 2).fetchall()
                equal(found, [row], f"as {parameter}")
        # Each column beside a parameter, which takes its type.
        for parameter in ["%s", "%t", "%b"]:
            for name, wanted in zip(COLUMNS, TYPES[0]):
                found = c.execute(f"SELECT id FROM types WHERE {name} = {parameter} AND id <= 3", [wanted]).fetchall()
                equal(found, [(1,)], f"{name} = {parameter}")
        found = c.execute("SELECT id FROM types WHERE id = ANY(%s) ORDER BY id", [[1, 3, 99]]).fetchall()
        equal(found, [(1,), (3,)], "= ANY")
        # A parameter alone, with a type and without one.
        for wanted, name in [
            (True, "boolean"), (-1, "smallint"), (2**31, "bigint"), (10**20, "numeric"), (0.1, "double precision"),
            (Decimal("-1.50"), "numeric"), ("é\n\\", "text"), (b"\\\0'", "bytea"), (date(1, 1, 1), "date"),
            (datetime(2261, 12, 31, 23, 59, 59, 999999), "timestamp"), (datetime(2000, 2, 29, tzinfo=timezone.utc), "timestamptz"),
            (timedelta(days=3, seconds=-1, microseconds=7), "interval"), ([1, None, 3], "int[]"), ([], "int[]"),
            (["a", None, "NULL", '"', "{,}"], "text[]"), ([Decimal("1.5"), None], "numeric[]"),
        ]:
            for binary in [False, True]:
                for parameter in ["%t", "%b"]:
                    query = f"SELECT CAST({parameter} AS {name})"
                    found = c.execute(query, [wanted], binary=binary).fetchone()[0]
                    equal(found, wanted, f"{query}, result binary {binary}")
        equal(value(c, "SELECT %s::text IS NULL", [None]), True)
        c.execute("DELETE FROM types WHERE id > 3")


@check
def large():
    with connected() as c:
        rows = count = total = 0
        for n, name in c.cursor().stream(MILLION, size=1000):
            total, count = total + n, count + 1
        equal((count, total, name), (1000000, SUM_OF_MILLION, "row 1000000"))


@check
def server_cursor():
    with connected() as c:
        for binary in [False, True]:
            with c.cursor(name="of a million", binary=binary) as cursor:
                cursor.itersize = 20000
                cursor.execute(MILLION)
                equal([column.name for column in cursor.description], ["n", "name"])
                equal(cursor.fetchone(), (1, "row 1"))
                equal(cursor.fetchmany(2), [(2, "row 2"), (3, "row 3")])
                equal(6 + sum(row[0] for row in cursor), SUM_OF_MILLION)
        with c.cursor(name="with parameters") as cursor:
            cursor.execute("SELECT id, t FROM types WHERE id < %s ORDER BY id", [3])
            equal(cursor.fetchall(), [(row[0], row[8]) for row in TYPES[:2]])
        with c.cursor(name="scrolled", scrollable=True) as cursor:
            cursor.execute("SELECT n FROM generate_series(1, 10) AS g(n) ORDER BY n")
            cursor.scroll(8)
            equal(cursor.fetchall(), [(9,), (10,)])
            cursor.scroll(0, mode="absolute")
            equal(cursor.fetchone(), (1,))
        held = c.cursor(name="held", withhold=True)
        held.execute("SELECT n FROM generate_series(1, 3) AS g(n) ORDER BY n")
        equal(held.fetchone(), (1,))
        c.commit()
        equal(held.fetchall(), [(2,), (3,)])
        held.close()


def cancelled(connection):
    """Runs a long query, cancels it until it ends, and gives what it ended with."""
    ended = threading.Event()

    def cancel():
        while not ended.wait(0.2):
            connection.cancel_safe(timeout=10)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    try:
        return fails(connection.execute, psycopg.Error, ENDLESS)
    finally:
        ended.set()
        canceller.join()


@check
def cancel():
    with connected(autocommit=True) as c:
        e = cancelled(c)
        equal((type(e), e.sqlstate), (errors.QueryCanceled, "57014"))
        equal(value(c, "SELECT 1"), 1)


@check
def error():
    with connected(autocommit=True) as c:
        for query, kind, state, position, words in [
            ("SELECT é FROM types", errors.UndefinedColumn, "42703", 8, "é"),
            ("SELECT 'é', nothing FROM types", errors.UndefinedColumn, "42703", 13, "nothing"),
            ("SELECT * FROM nowhere", errors.UndefinedTable, "42P01", 15, "nowhere"),
            ("SELECT id FRM types x", errors.SyntaxError, "42601", None, ""),
            ("SELECT nothing(1)", errors.UndefinedFunction, "42883", 8, "nothing"),
            ("SELECT 1 / (id - 1) FROM types", errors.DivisionByZero, "22012", None, ""),
            ("SELECT CAST(t AS INT) FROM types", errors.InvalidTextRepresentation, "22P02", None, ""),
            ("INSERT INTO notes (note) VALUES ('x')", errors.NotNullViolation, "23502", None, "id"),
        ]:
            for parameters in [None, []]:
                e = fails(c.execute, psycopg.Error, query, parameters)
                equal((type(e), e.sqlstate), (kind, state), f"{query}: {e}")
                assert words in e.diag.message_primary, e
                equal(e.diag.severity_nonlocalized, "ERROR")
                if position:
                    equal(e.diag.statement_position, str(position), query)
        equal(value(c, "SELECT 1"), 1)
        c.autocommit = False
        fails(c.execute, errors.UndefinedTable, "SELECT * FROM nowhere")
        equal(c.info.transaction_status, TransactionStatus.INERROR)
        equal(fails(c.execute, errors.InFailedSqlTransaction, "SELECT 1").sqlstate, "25P02")
        c.rollback()
        equal(value(c, "SELECT 1"), 1)


NOTES = [(n, f"note\t{n}\\ \n\"é\"" if n % 3 else None, Decimal(n) / 4, datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=n))
         for n in range(1, 1001)]


@check
def copy():
    with emptied() as c:
        cursor = c.cursor()
        for form in ["TEXT", "BINARY"]:
            with cursor.copy(f"COPY notes (id, note, price, at) FROM STDIN (FORMAT {form})") as copy:
                copy.set_types(["int8", "text", "numeric", "timestamptz"])
                for row in NOTES:
                    copy.write_row(row)
            equal(cursor.rowcount, 1000)
            c.commit()
            equal(c.execute("SELECT * FROM notes ORDER BY id").fetchall(), NOTES, form)
            for back in ["TEXT", "BINARY"]:
                with cursor.copy(f"COPY (SELECT * FROM notes ORDER BY id) TO STDOUT (FORMAT {back})") as copy:
                    copy.set_types(["int8", "text", "numeric", "timestamptz"])
                    equal(list(copy.rows()), NOTES, back)
            c.commit()
            emptied().close()
        with cursor.copy("COPY notes (note, id) FROM STDIN (FORMAT csv, HEADER)") as copy:
            copy.write("note,id\n\"a, b\",1\n,2\n")
        equal(c.execute("SELECT id, note FROM notes ORDER BY id").fetchall(), [(1, "a, b"), (2, None)])
        c.rollback()
        equal(value(c, COUNT), 0)
        c.rollback()

        def bad():
            with cursor.copy("COPY notes (id, note) FROM STDIN") as copy:
                copy.write_row((1, "x"))
                copy.write_row(("one", "x"))

        e = fails(bad, errors.InvalidTextRepresentation)
        assert "line 2, column id" in e.diag.context, e.diag.context
        c.rollback()

        def given_up():
            with cursor.copy("COPY notes (id, note) FROM STDIN") as copy:
                copy.write_row((1, "x"))
                raise RuntimeError("changed my mind")

        fails(given_up, RuntimeError)
        c.rollback()
        equal(value(c, COUNT), 0)


@check
def transaction():
    with emptied() as c:
        c.execute("INSERT INTO notes (id) VALUES (%s)", [1])
        equal(value(c, COUNT), 1)
        equal(c.info.transaction_status, TransactionStatus.INTRANS)
        c.rollback()
        equal(value(c, COUNT), 0)
        c.execute("INSERT INTO notes (id) VALUES (1), (2)")
        with connected() as other:
            equal(value(other, COUNT), 0)
        c.commit()
        with connected() as other:
            equal(value(other, COUNT), 2)
        with c.transaction():
            c.execute("INSERT INTO notes (id) VALUES (3)")
            try:
                with c.transaction():
                    c.execute("INSERT INTO notes (id) VALUES (4)")
                    raise psycopg.Rollback
            except psycopg.Rollback:
                pass
            with c.transaction():
                c.execute("INSERT INTO notes (id) VALUES (5)")
        equal(c.execute("SELECT id FROM notes ORDER BY id").fetchall(), [(1,), (2,), (3,), (5,)])
        c.commit()
        c.autocommit = True
        c.execute("INSERT INTO notes (id) VALUES (6)")
        equal(c.info.transaction_status, TransactionStatus.IDLE)
        c.autocommit = False
        for level in psycopg.IsolationLevel:
            c.isolation_level, c.read_only, c.deferrable = level, False, False
            equal(value(c, COUNT), 5)
            c.commit()
    with connected() as c:
        equal(value(c, COUNT), 5)


@check
def read_only():
    with emptied() as c:
        c.read_only = True
        equal(value(c, COUNT), 0)
        equal(fails(c.execute, psycopg.Error, "INSERT INTO notes (id) VALUES (1)").sqlstate, "25006")
        c.rollback()
        c.read_only = None
        c.execute("INSERT INTO notes (id) VALUES (1)")


@check
def batch():
    with emptied() as c:
        cursor = c.cursor()
        cursor.executemany("INSERT INTO notes VALUES (%s, %s, %s, %s)", NOTES)
        equal(cursor.rowcount, 1000)
        c.commit()
        equal(c.execute("SELECT * FROM notes ORDER BY id").fetchall(), NOTES)
        c.commit()
        c.autocommit = True
        cursor.executemany("INSERT INTO notes (id, note) VALUES (%s, %s)", [(2001, "x"), (2002, None)])
        equal(value(c, COUNT), 1002)
        cursor.executemany("SELECT %s + 1", [(1,), (2,)], returning=True)
        equal([results.fetchone() for results in cursor.results()], [(2,), (3,)])


@check
def pipeline():
    with emptied() as c:
        with c.pipeline() as p:
            first = c.execute("SELECT %s::int", [1])
            c.execute("INSERT INTO notes (id) VALUES (%s)", [1])
            second = c.execute(COUNT)
            p.sync()
            equal((first.fetchone(), second.fetchone()), ((1,), (1,)))
        c.commit()
        c.autocommit = True

        def wrong():
            with c.pipeline():
                c.execute("INSERT INTO notes (id) VALUES (2)")
                c.execute("SELECT * FROM nowhere")
                c.execute("INSERT INTO notes (id) VALUES (3)")

        fails(wrong, errors.UndefinedTable)
        # What is sent together without a Sync in between is one transaction.
        equal(value(c, COUNT), 1)


@check
def prepare_threshold():
    with connected(autocommit=True) as c:
        c.prepare_threshold, c.prepared_max = 2, 2
        for i in range(6):
            for binary in [False, True]:
                found = c.execute("SELECT n + %s, n FROM types WHERE id = %s", [i, 1], binary=binary).fetchone()
                equal(found, (Decimal("12345678901234.5678") + i, Decimal("12345678901234.5678")))
            equal(value(c, "SELECT %s::text || 'x'", [str(i)]), f"{i}x")
            equal(value(c, "SELECT count(*) FROM types WHERE id <= %s", [3]), 3)
        # At once, and under a table that is made anew.
        for kind, wanted in [("INT", 1), ("TEXT", "1")]:
            c.execute(f"CREATE TABLE made_anew (a {kind})")
            c.execute("INSERT INTO made_anew VALUES (1)")
            c.execute("DEALLOCATE ALL")
            equal(c.execute("SELECT a FROM made_anew", prepare=True).fetchone(), (wanted,))
            c.execute("DROP TABLE made_anew")


@check
def prepared_statements():
    with connected(autocommit=True) as c:
        c.execute("SELECT 1", prepare=True)
        equal(c.execute("SELECT statement FROM pg_prepared_statements").fetchall(), [("SELECT 1",)])


@check
def pool():
    def reset(connection):
        connection.autocommit = True
        connection.execute("DISCARD ALL")
        connection.autocommit = False

    with emptied():
        pass
    with ConnectionPool("", min_size=1, max_size=1, reset=reset, check=ConnectionPool.check_connection) as pool:
        with pool.connection() as c:
            pid = c.info.backend_pid
            c.execute("SET TIME ZONE 'Asia/Kolkata'")
            c.execute("INSERT INTO notes (id) VALUES (1)")
        try:
            with pool.connection() as c:
                c.execute("INSERT INTO notes (id) VALUES (2)")
                raise RuntimeError
        except RuntimeError:
            pass
        with pool.connection() as c:
            equal(c.info.backend_pid, pid)
            equal(value(c, COUNT), 1)
            equal(value(c, "SHOW timezone"), value(connected(), "SHOW timezone"))


run()
