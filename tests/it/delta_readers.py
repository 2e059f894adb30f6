"""Reads and writes Delta tables with the `deltalake` package, for the tests of what other Delta readers see.

    delta_readers.py read   PATH COLUMN...          one row a line, values separated by commas, sorted
    delta_readers.py create PATH CONFIGURATION ROWS a table of sales; both arguments are JSON
    delta_readers.py append PATH ROWS
    delta_readers.py delete PATH PREDICATE
    delta_readers.py compact PATH
"""

import datetime
import decimal
import json
import os
import sys

import pyarrow as pa
from deltalake import DeltaTable, Schema, write_deltalake

SALES = pa.schema([
    pa.field("event_id", pa.int64()),
    pa.field("event_time", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("product_id", pa.string()),
    pa.field("quantity", pa.int64()),
    pa.field("unit_price", pa.decimal128(18, 4)),
])


def shown(value):
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None).isoformat()
    return str(value)


def sales(rows):
    def typed(name, value):
        if value is None:
            return None
        if name == "event_time":
            return datetime.datetime.fromisoformat(value).replace(tzinfo=datetime.timezone.utc)
        if name == "unit_price":
            return decimal.Decimal(value)
        return value

    columns = zip(*json.loads(rows))
    arrays = [[typed(field.name, v) for v in values] for field, values in zip(SALES, columns)]
    return pa.table(arrays, schema=SALES)


def main():
    command, path, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
    if command == "read":
        table = DeltaTable(path).to_pyarrow_table(columns=arguments)
        rows = zip(*(table.column(name).to_pylist() for name in arguments))
        for line in sorted(",".join(shown(v) for v in row) for row in rows):
            print(line)
    elif command == "create":
        configuration, rows = arguments
        schema = Schema.from_arrow(SALES)
        DeltaTable.create(path, schema, configuration=json.loads(configuration), raise_if_key_not_exists=False)
        write_deltalake(path, sales(rows), mode="append")
    elif command == "append":
        write_deltalake(path, sales(arguments[0]), mode="append")
    elif command == "delete":
        DeltaTable(path).delete(arguments[0])
    elif command == "compact":
        DeltaTable(path).optimize.compact()
    else:
        sys.exit(f"unknown command {command}")


main()
# Without taking the interpreter apart: the native threads of the packages do not always survive that.
sys.stdout.flush()
os._exit(0)
