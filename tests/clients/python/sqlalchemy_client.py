"""SQLAlchemy's engine, inspector and Core over psycopg."""

import threading
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import psycopg
import sqlalchemy as sa
from sqlalchemy import func, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, ProgrammingError

from checks import COLUMNS, ENDLESS, MILLION, SUM_OF_MILLION, TYPES, check, equal, fails, run

URL = "postgresql+psycopg://"
ENGINE = sa.create_engine(URL)
NOTES = [{"id": n, "note": f"note {n}" if n % 3 else None, "price": Decimal(n) / 4,
          "at": datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=n)} for n in range(1, 1001)]


# What commits by itself, as DELETE and CREATE TABLE do, is refused in a transaction.
ALONE = ENGINE.execution_options(isolation_level="AUTOCOMMIT")

notes = sa.Table("notes", sa.MetaData(), sa.Column("id", sa.BigInteger, nullable=False), sa.Column("note", sa.Text),
                 sa.Column("price", sa.Numeric(10, 2)), sa.Column("at", sa.DateTime(timezone=True)))
KINDS = [sa.BigInteger, sa.Boolean, sa.SmallInteger, sa.Integer, sa.BigInteger, sa.REAL, sa.Double, sa.Numeric(18, 4), sa.Text,
         sa.LargeBinary, sa.Date, sa.DateTime, sa.DateTime(timezone=True), postgresql.ARRAY(sa.Integer), postgresql.ARRAY(sa.Text)]
of = sa.Table("types", sa.MetaData(), *[sa.Column(name, kind) for name, kind in zip(COLUMNS, KINDS)])


def emptied():
    with ALONE.connect() as c:
        c.execute(notes.delete())


def count(connection, of="notes"):
    return connection.execute(select(func.count()).select_from(sa.table(of))).scalar()


@check
def connect():
    with ENGINE.connect() as c:
        equal(c.scalar(text("SELECT current_user")), "ann")
        assert c.connection.driver_connection.pgconn.ssl_in_use
        assert ENGINE.dialect.server_version_info >= (13,), ENGINE.dialect.server_version_info
        equal(ENGINE.dialect.default_schema_name, "public")
    e = fails(sa.create_engine(URL, connect_args={"password": "wrong"}).connect, DBAPIError)
    assert "password authentication failed" in str(e), e


@check
def metadata():
    inspector = sa.inspect(ENGINE)
    assert "public" in inspector.get_schema_names()
    tables = inspector.get_table_names()
    assert {"types", "sales", "notes"} <= set(tables), tables
    equal({"french_sales", "sales_hourly", "top_products"} & set(tables), set())
    equal(inspector.get_view_names(), ["french_sales"])
    equal(sorted(inspector.get_materialized_view_names()), ["sales_hourly", "top_products"])
    assert "country = 'France'" in inspector.get_view_definition("french_sales")
    assert inspector.has_table("types") and inspector.has_table("french_sales") and not inspector.has_table("nowhere")
    columns = inspector.get_columns("types")
    equal([c["name"] for c in columns], COLUMNS)
    equal([c["nullable"] for c in columns], [False] + [True] * 14)
    equal([c["default"] for c in columns], [None] * 15)
    equal([str(c["type"]) for c in columns],
          ["BIGINT", "BOOLEAN", "SMALLINT", "INTEGER", "BIGINT", "REAL", "DOUBLE PRECISION", "NUMERIC(18, 4)", "TEXT", "BYTEA",
           "DATE", "TIMESTAMP", "TIMESTAMP", "ARRAY", "ARRAY"])
    equal([columns[11]["type"].timezone, columns[12]["type"].timezone], [False, True])
    equal([c["name"] for c in inspector.get_columns("french_sales")], ["event_time", "product_id", "quantity"])
    equal([c["name"] for c in inspector.get_columns("sales_hourly")], ["bucket", "product_id", "country", "quantity", "events"])
    equal(inspector.get_pk_constraint("types")["constrained_columns"], [])
    for asked in ["get_foreign_keys", "get_indexes", "get_unique_constraints", "get_check_constraints"]:
        equal(getattr(inspector, asked)("types"), [], asked)
    equal(inspector.get_table_comment("types"), {"text": None})
    equal(inspector.get_sequence_names(), [])
    equal(inspector.get_enums(), [])
    every = inspector.get_multi_columns(kind=sa.engine.reflection.ObjectKind.ANY)
    assert {"types", "french_sales", "top_products"} <= {name for _, name in every}, every.keys()
    fails(inspector.get_columns, sa.exc.NoSuchTableError, "nowhere")


@check
def reflection():
    found = sa.MetaData()
    found.reflect(ENGINE, views=True)
    assert {"types", "sales", "notes", "french_sales", "sales_hourly", "top_products"} <= set(found.tables), found.tables.keys()
    hourly = found.tables["sales_hourly"]
    query = select(hourly.c.country, func.sum(hourly.c.events)).group_by(hourly.c.country).order_by(hourly.c.country)
    with ENGINE.connect() as c:
        equal([tuple(row) for row in c.execute(query)], [("France", 960), ("Kenya", 1920)])


@check
def types():
    with ENGINE.connect() as c:
        equal([tuple(row) for row in c.execute(select(of).where(of.c.id <= 3).order_by(of.c.id))], TYPES)
        for row in TYPES:
            row = (row[0] + 10, *row[1:])
            c.execute(of.insert().values(dict(zip(COLUMNS, row))))
            equal(tuple(c.execute(select(of).where(of.c.id == row[0])).one()), row)
        c.rollback()
        for name, wanted in zip(COLUMNS, TYPES[0]):
            equal(c.scalars(select(of.c.id).where(of.c[name] == wanted, of.c.id <= 3)).all(), [1], name)
        equal(c.scalars(select(of.c.id).where(of.c.id.in_([1, 3, 99])).order_by(of.c.id)).all(), [1, 3])
        equal(c.scalar(select(of.c.i4s[2]).where(of.c.id == 1)), 2)
        equal(c.scalars(select(of.c.id).where(of.c.t.ilike("zo%"))).all(), [1])
        for wanted, kind in [
            (True, sa.Boolean), (2**40, sa.BigInteger), (Decimal("-1.5000"), sa.Numeric(18, 4)), (0.1, sa.Double), ("é", sa.String),
            (b"\0\xff", sa.LargeBinary), (timedelta(days=1, seconds=2), sa.Interval), ([1, 2], postgresql.ARRAY(sa.Integer)),
        ]:
            equal(c.scalar(select(sa.cast(sa.literal(wanted, kind), kind))), wanted, str(kind))


@check
def large():
    with ENGINE.connect().execution_options(stream_results=True, yield_per=20000) as c:
        rows = total = 0
        for part in c.execute(text(MILLION)).partitions():
            rows, total = rows + len(part), total + sum(row.n for row in part)
        equal((rows, total), (1000000, SUM_OF_MILLION))


@check
def cancel():
    with ENGINE.connect() as c:
        driver, ended = c.connection.driver_connection, threading.Event()

        def stop():
            while not ended.wait(0.2):
                driver.cancel_safe(timeout=10)

        stopper = threading.Thread(target=stop)
        stopper.start()
        try:
            e = fails(c.execute, DBAPIError, text(ENDLESS))
        finally:
            ended.set()
            stopper.join()
        equal(e.orig.sqlstate, "57014")
        c.rollback()
        equal(c.scalar(text("SELECT 1")), 1)


@check
def error():
    with ENGINE.connect() as c:
        e = fails(c.execute, ProgrammingError, text("SELECT nothing FROM types"))
        equal((e.orig.sqlstate, e.orig.diag.statement_position), ("42703", "8"))
        equal(fails(c.execute, DBAPIError, text("SELECT 1")).orig.sqlstate, "25P02")
        c.rollback()
        equal(c.scalar(text("SELECT 1")), 1)
        e = fails(c.execute, sa.exc.IntegrityError, notes.insert().values(note="x"))
        equal(e.orig.sqlstate, "23502")


@check
def copy():
    emptied()
    with ENGINE.begin() as c:
        cursor = c.connection.cursor()
        with cursor.copy("COPY notes (id, note) FROM STDIN") as copy:
            for n in range(100):
                copy.write_row((n, f"note {n}"))
        with cursor.copy("COPY (SELECT id, note FROM notes ORDER BY id) TO STDOUT") as copy:
            equal(list(copy.rows()), [(str(n), f"note {n}") for n in range(100)])
    with ENGINE.connect() as c:
        equal(count(c), 100)


@check
def transaction():
    emptied()
    with ENGINE.connect() as c:
        c.execute(notes.insert().values(id=1))
        equal(count(c), 1)
        c.rollback()
        equal(count(c), 0)
        c.execute(notes.insert().values(id=1))
        c.commit()
        with c.begin():
            c.execute(notes.insert().values(id=2))
            nested = c.begin_nested()
            c.execute(notes.insert().values(id=3))
            nested.rollback()
    with ALONE.connect() as c:
        equal(count(c), 2)
        c.execute(notes.insert().values(id=4))
        c.rollback()
        equal(count(c), 3)
        c.execute(notes.delete().where(notes.c.id == 4))
        equal(count(c), 2)


@check
def isolation():
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]:
        with ENGINE.connect().execution_options(isolation_level=level) as c:
            equal(c.get_isolation_level(), level)
            equal(c.scalar(text("SHOW transaction_isolation")), level.lower())


@check
def batch():
    emptied()
    with ENGINE.begin() as c:
        c.execute(notes.insert(), NOTES)
    with ENGINE.begin() as c:
        c.execute(notes.insert().values([{"id": 2000 + n, "note": str(n)} for n in range(100)]))
    with ENGINE.connect() as c:
        rows = c.execute(select(notes).where(notes.c.id <= 1000).order_by(notes.c.id)).mappings().all()
        equal([dict(row) for row in rows], NOTES)
        equal(count(c), 1100)
        page = select(notes.c.id).where(notes.c.note.is_not(None)).order_by(notes.c.id.desc()).limit(2).offset(1)
        equal(c.scalars(page).all(), [2098, 2097])


@check
def pool():
    engine = sa.create_engine(URL, pool_size=1, max_overflow=0, pool_pre_ping=True)
    emptied()
    with engine.connect() as c:
        pid = c.connection.driver_connection.info.backend_pid
        c.execute(text("INSERT INTO notes (id) VALUES (1)"))
    with engine.connect() as c:
        lost = c.connection.driver_connection
        equal(lost.info.backend_pid, pid)
        equal(count(c), 0)
    # A connection that was lost in the pool is made anew.
    lost.close()
    with engine.connect() as c:
        equal(count(c), 0)
        assert c.connection.driver_connection.info.backend_pid != pid
    engine.dispose()


@check
def create():
    found = sa.MetaData()
    made = sa.Table("made_by_alchemy", found, sa.Column("id", sa.BigInteger, nullable=False), sa.Column("name", sa.String),
                    sa.Column("price", sa.Numeric(10, 2)), sa.Column("at", sa.DateTime(timezone=True)))
    found.create_all(ALONE)
    found.create_all(ALONE)
    with ENGINE.begin() as c:
        c.execute(made.insert(), [{"id": 1, "name": "x", "price": Decimal("1.50"), "at": None}])
        equal(tuple(c.execute(select(made)).one()), (1, "x", Decimal("1.50"), None))
    found.drop_all(ALONE)
    assert not sa.inspect(ENGINE).has_table("made_by_alchemy")


run()
