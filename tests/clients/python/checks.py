"""Runs the checks of a client one after the other, and says of each whether it held."""

import asyncio
import faulthandler
import inspect
import sys
import traceback
from datetime import date, datetime, timezone
from decimal import Decimal

CHECKS = []

# Seconds that a check may take.
LONGEST = 120

# The rows of the fixture's table `types`.
COLUMNS = "id b i2 i4 i8 f4 f8 n t by d ts tz i4s ts_list".split()
TYPES = [
    (1, True, 32767, 2147483647, 9223372036854775807, 1.5, 0.1, Decimal("12345678901234.5678"), "Zoë's \"tea\"",
     b"\x00\xff\x10", date(2026, 1, 31), datetime(2026, 1, 31, 23, 59, 59, 123456),
     datetime(2026, 1, 31, 23, 59, 59, 123456, timezone.utc), [1, 2, 3], ["a", "b c"]),
    (2, False, -32768, -2147483648, -9223372036854775808, -1.5, -0.1, Decimal("-0.0001"), "", b"", date(1969, 7, 20),
     datetime(1969, 7, 20, 20, 17, 40), datetime(1969, 7, 20, 20, 17, 40, tzinfo=timezone.utc), [-1], [""]),
    (3, *[None] * 14),
]

# Takes longer than anybody waits.
ENDLESS = "SELECT count(*) FROM generate_series(1, 1000000000000) AS g(n) WHERE n % 7 = 8"

MILLION = "SELECT n, 'row ' || CAST(n AS VARCHAR) AS name FROM generate_series(1, 1000000) AS g(n) ORDER BY n"
SUM_OF_MILLION = 500000500000


def check(function):
    """Adds a function to the checks, under its name."""
    CHECKS.append(function)
    return function


def equal(found, expected, what=""):
    if found != expected:
        raise AssertionError(f"{what}: {found!r} instead of {expected!r}" if what else f"{found!r} instead of {expected!r}")


def fails(function, error, *arguments, **named):
    """Calls a function, which has to fail with this error, and gives the error."""
    try:
        result = function(*arguments, **named)
    except error as e:
        return e
    raise AssertionError(f"no {error.__name__}, but {result!r}")


def run():
    failed = False
    for function in CHECKS:
        name = function.__name__
        # One that hangs says where.
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        try:
            asyncio.run(function()) if inspect.iscoroutinefunction(function) else function()
            print(f"ok {name}", flush=True)
        except Exception as e:
            failed = True
            why = " ".join(f"{type(e).__name__}: {e}".split())
            print(f"not ok {name}: {why}", flush=True)
            traceback.print_exc()
    sys.exit(1 if failed else 0)
