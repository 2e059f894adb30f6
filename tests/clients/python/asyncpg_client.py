"""asyncpg, whose parameters and results are binary."""

import asyncio
import io
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

import asyncpg

from checks import COLUMNS, ENDLESS, MILLION, SUM_OF_MILLION, TYPES, check, equal, run

COUNT = "SELECT count(*) FROM notes"
NOTES = [(n, f"note\t{n}\\ \n\"é\"" if n % 3 else None, Decimal(n) / 4, datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=n))
         for n in range(1, 1001)]


async def refused(error, awaitable):
    try:
        result = await awaitable
    except error as e:
        return e
    raise AssertionError(f"no {error.__name__}, but {result!r}")


class Connected:
    """A connection for a block."""

    async def __aenter__(self):
        self.connection = await asyncpg.connect()
        return self.connection

    async def __aexit__(self, *_):
        await self.connection.close()


@check
async def connect():
    async with Connected() as c:
        equal(await c.fetchval("SELECT current_user"), "ann")
        equal(await c.fetchval("SHOW ssl"), "on")
        assert c.get_server_version().major >= 13
        equal(c.get_settings().client_encoding, "UTF8")
    e = await refused(asyncpg.PostgresError, asyncpg.connect(password="wrong"))
    equal((type(e), e.sqlstate), (asyncpg.InvalidPasswordError, "28P01"))


@check
async def metadata():
    async with Connected() as c:
        rows = await c.fetch(
            "SELECT c.relname, c.relkind::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = $1", "public")
        kinds = {row["relname"]: row["relkind"] for row in rows}
        equal([kinds.get(n) for n in ["types", "sales_hourly", "top_products", "french_sales"]], ["r", "m", "m", "v"])
        rows = await c.fetch("SELECT column_name::text, udt_name::text FROM information_schema.columns"
                             " WHERE table_name = $1 ORDER BY ordinal_position", "types")
        equal([row[0] for row in rows], COLUMNS)
        statement = await c.prepare("SELECT * FROM types WHERE n = $1 AND i4s = $2 AND tz < $3")
        equal([p.name for p in statement.get_parameters()], ["numeric", "int4[]", "timestamptz"])
        attributes = statement.get_attributes()
        equal([a.name for a in attributes], COLUMNS)
        equal([a.type.name for a in attributes],
              "int8 bool int2 int4 int8 float4 float8 numeric text bytea date timestamp timestamptz int4[] text[]".split())
        equal([(a.type.kind, a.type.schema) for a in attributes[12:14]], [("scalar", "pg_catalog"), ("array", "pg_catalog")])
        # The types of a codec are looked for by name.
        await c.set_type_codec("numeric", encoder=str, decoder=lambda t: "n" + t, schema="pg_catalog", format="text")
        equal(await c.fetchval("SELECT n FROM types WHERE id = 2"), "n-0.0001")
        await c.reset_type_codec("numeric", schema="pg_catalog")
        equal(await c.fetchval("SELECT n FROM types WHERE id = 2"), Decimal("-0.0001"))


@check
async def types():
    async with Connected() as c:
        rows = await c.fetch("SELECT * FROM types WHERE id <= 3 ORDER BY id")
        equal([tuple(row) for row in rows], TYPES)
        marks = ", ".join(f"${i + 1}" for i in range(len(COLUMNS)))
        insert = await c.prepare(f"INSERT INTO types VALUES ({marks})")
        for row in TYPES:
            row = (row[0] + 10, *row[1:])
            await insert.fetch(*row)
            equal(tuple(await c.fetchrow("SELECT * FROM types WHERE id = $1", row[0])), row)
        await c.execute("DELETE FROM types WHERE id > 3")
        for name, wanted in zip(COLUMNS, TYPES[0]):
            equal(await c.fetchval(f"SELECT id FROM types WHERE {name} = $1 AND id <= 3", wanted), 1, name)
        equal([r[0] for r in await c.fetch("SELECT id FROM types WHERE id = ANY($1::bigint[]) ORDER BY id", [1, 3, 99])], [1, 3])
        for wanted, name in [
            (True, "boolean"), (-1, "smallint"), (-2**31, "int"), (2**63 - 1, "bigint"), (Decimal(10**20), "numeric"),
            (0.1, "double precision"), (-0.5, "real"), (Decimal("-1.50"), "numeric(10, 2)"), ("é\n\\", "text"), ("é", "varchar"),
            (b"\\\0'", "bytea"), (date(1, 1, 1), "date"), (time(23, 59, 59, 999999), "time"),
            (datetime(2261, 12, 31, 23, 59, 59, 999999), "timestamp"), (datetime(2000, 2, 29, tzinfo=timezone.utc), "timestamptz"),
            (timedelta(days=3, seconds=1, microseconds=7), "interval"), ([1, None, 3], "int[]"), ([], "int[]"),
            (["a", None, "NULL", '"', "{,}"], "text[]"), ([Decimal("1.5"), None], "numeric[]"), (None, "int"),
        ]:
            equal(await c.fetchval(f"SELECT $1::{name}", wanted), wanted, name)


@check
async def large():
    async with Connected() as c, c.transaction():
        count = total = 0
        async for row in c.cursor(MILLION, prefetch=5000):
            count, total = count + 1, total + row["n"]
        equal((count, total), (1000000, SUM_OF_MILLION))
        cursor = await c.cursor("SELECT n FROM generate_series(1, 99) AS g(n) WHERE n <= $1 ORDER BY n", 10)
        equal((await cursor.fetchrow())["n"], 1)
        equal([row["n"] for row in await cursor.fetch(3)], [2, 3, 4])
        equal(await cursor.forward(2), 2)
        equal([row["n"] for row in await cursor.fetch(99)], [7, 8, 9, 10])
        equal(await cursor.fetchrow(), None)
        equal(len(await c.fetch(MILLION)), 1000000)


@check
async def cancel():
    async with Connected() as c:
        task = asyncio.ensure_future(c.fetch(ENDLESS))
        await asyncio.wait([task], timeout=1)
        task.cancel()
        await refused(asyncio.CancelledError, task)
        equal(await c.fetchval("SELECT 1"), 1)
        await c.execute("SET statement_timeout = '500ms'")
        e = await refused(asyncpg.PostgresError, c.fetch(ENDLESS))
        equal((type(e), e.sqlstate), (asyncpg.QueryCanceledError, "57014"))
        equal(await c.fetchval("SELECT 1"), 1)


@check
async def timeout():
    async with Connected() as c:
        await refused(asyncio.TimeoutError, c.fetch(ENDLESS, timeout=0.5))
        equal(await c.fetchval("SELECT 1"), 1)
        statement = await c.prepare(ENDLESS)
        await refused(asyncio.TimeoutError, statement.fetch(timeout=0.5))
        equal(await c.fetchval("SELECT 2"), 2)


@check
async def error():
    async with Connected() as c:
        for query, kind, state, position, words in [
            ("SELECT 'é', nothing FROM types", asyncpg.UndefinedColumnError, "42703", "13", "nothing"),
            ("SELECT * FROM nowhere", asyncpg.UndefinedTableError, "42P01", "15", "nowhere"),
            ("SELECT id FRM types x", asyncpg.PostgresSyntaxError, "42601", None, ""),
            ("SELECT nothing(1)", asyncpg.UndefinedFunctionError, "42883", "8", "nothing"),
            ("SELECT 1 / (id - 1) FROM types", asyncpg.DivisionByZeroError, "22012", None, ""),
            ("INSERT INTO notes (note) VALUES ('x')", asyncpg.NotNullViolationError, "23502", None, "id"),
        ]:
            for ask in [c.fetch, c.execute]:
                e = await refused(asyncpg.PostgresError, ask(query))
                equal((type(e), e.sqlstate), (kind, state), f"{query}: {e}")
                assert words in e.message, e
                if position:
                    equal(e.position, position, query)
        equal(await c.fetchval("SELECT 1"), 1)
        transaction = c.transaction()
        await transaction.start()
        await refused(asyncpg.UndefinedTableError, c.fetch("SELECT * FROM nowhere"))
        e = await refused(asyncpg.InFailedSQLTransactionError, c.fetch("SELECT 1"))
        equal(e.sqlstate, "25P02")
        await transaction.rollback()
        equal(await c.fetchval("SELECT 1"), 1)


@check
async def copy():
    async with Connected() as c:
        await c.execute("DELETE FROM notes")
        names = ["id", "note", "price", "at"]
        told = await c.copy_records_to_table("notes", records=NOTES, columns=names)
        equal(told, "COPY 1000")
        equal([tuple(r) for r in await c.fetch("SELECT * FROM notes ORDER BY id")], NOTES)
        for form in ["text", "csv", "binary"]:
            out = io.BytesIO()
            equal(await c.copy_from_query("SELECT * FROM notes WHERE id > $1 ORDER BY id", 0, output=out, format=form), "COPY 1000")
            table = io.BytesIO()
            equal(await c.copy_from_table("notes", columns=names, output=table, format=form), "COPY 1000")
            equal(len(table.getvalue()), len(out.getvalue()))
            await c.execute("DELETE FROM notes")
            out.seek(0)
            equal(await c.copy_to_table("notes", source=out, columns=names, format=form), "COPY 1000")
            equal([tuple(r) for r in await c.fetch("SELECT * FROM notes ORDER BY id")], NOTES, form)
        await c.execute("DELETE FROM notes")

        async def rows():
            yield 1, "x"
            yield None, "x"

        e = await refused(asyncpg.NotNullViolationError, c.copy_records_to_table("notes", records=rows(), columns=names[:2]))
        equal(e.sqlstate, "23502")
        equal(await c.fetchval(COUNT), 0)
        # Every type of column.
        rows = [(row[0] + 20, *row[1:]) for row in TYPES]
        equal(await c.copy_records_to_table("types", records=rows), "COPY 3")
        equal([tuple(r) for r in await c.fetch("SELECT * FROM types WHERE id > 20 ORDER BY id")], rows)
        await c.execute("DELETE FROM types WHERE id > 3")


@check
async def transaction():
    async with Connected() as c, Connected() as other:
        await c.execute("DELETE FROM notes")
        transaction = c.transaction()
        await transaction.start()
        await c.execute("INSERT INTO notes (id) VALUES ($1)", 1)
        equal(await c.fetchval(COUNT), 1)
        equal(await other.fetchval(COUNT), 0)
        assert c.is_in_transaction()
        await transaction.rollback()
        equal(await c.fetchval(COUNT), 0)
        async with c.transaction():
            await c.execute("INSERT INTO notes (id) VALUES (1)")
            try:
                async with c.transaction():
                    await c.execute("INSERT INTO notes (id) VALUES (2)")
                    raise RuntimeError
            except RuntimeError:
                pass
            async with c.transaction():
                await c.execute("INSERT INTO notes (id) VALUES (3)")
        equal([row["id"] for row in await other.fetch("SELECT id FROM notes ORDER BY id")], [1, 3])
        equal(await c.fetchval(COUNT), 2)


@check
async def isolation():
    async with Connected() as c:
        for level in ["read_committed", "repeatable_read", "serializable"]:
            async with c.transaction(isolation=level, readonly=True, deferrable=level == "serializable"):
                equal(await c.fetchval("SHOW transaction_isolation"), level.replace("_", " "))


@check
async def read_only():
    async with Connected() as c:
        transaction = c.transaction(readonly=True)
        await transaction.start()
        e = await refused(asyncpg.PostgresError, c.execute("INSERT INTO notes (id) VALUES (4)"))
        equal(e.sqlstate, "25006")
        await transaction.rollback()


@check
async def batch():
    async with Connected() as c:
        await c.execute("DELETE FROM notes")
        insert = "INSERT INTO notes VALUES ($1, $2, $3, $4)"
        await c.executemany(insert, NOTES)
        equal([tuple(r) for r in await c.fetch("SELECT * FROM notes ORDER BY id")], NOTES)
        # All of it or nothing.
        await refused(asyncpg.NotNullViolationError, c.executemany(insert, [(2001, "x", 1, None), (None, "x", 1, None)]))
        equal(await c.fetchval(COUNT), 1000)
        rows = await c.fetchmany("SELECT $1::int + 1", [(1,), (2,)])
        equal([row[0] for row in rows], [2, 3])
        await c.execute("DELETE FROM notes WHERE id < 10; DELETE FROM notes")
        equal(await c.fetchval(COUNT), 0)


@check
async def pool():
    async with asyncpg.create_pool(min_size=1, max_size=1) as pool:
        async with pool.acquire() as c:
            pid = c.get_server_pid()
            zone = await c.fetchval("SHOW timezone")
            await c.execute("SET TIME ZONE 'Asia/Kolkata'")
            equal(await c.fetchval("SHOW timezone"), "Asia/Kolkata")
            await c.execute("DELETE FROM notes")
            await c.execute("BEGIN")
            await c.execute("INSERT INTO notes (id) VALUES (1)")
        async with pool.acquire() as c:
            equal(c.get_server_pid(), pid)
            equal(await c.fetchval("SHOW timezone"), zone)
            equal(await c.fetchval(COUNT), 0)
        equal(await pool.fetchval("SELECT $1::text", "x"), "x")
        await pool.execute("SELECT 1")


run()
