"""The hash that seals a raw row, so that `verify` can tell a value changed on disk from one that was written."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from devin_pipeline.tables import Table

ROW_HASH = "row_hash"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def row_hash(table: Table, row: Mapping[str, object]) -> str:
    """SHA-256 over a row's columns but this one, in the table's order: instants as microseconds since the epoch.

    Args:
        table: A raw table.
        row: Its values by column.
    """
    digest = hashlib.sha256()
    for name in table.column_names:
        if name != ROW_HASH:
            text = _text(row[name])
            # The length keeps neighbours apart: ("ab", "c") is not ("a", "bc").
            digest.update(b"-" if text is None else b"%d:%b" % (len(text), text))
    return digest.hexdigest()


def sealed(table: Table, rows: pa.Table) -> pa.Table:
    """The rows with their `row_hash`, in the table's schema."""
    hashes = [row_hash(table, row) for row in rows.to_pylist()]
    columns = {name: rows.column(name) for name in table.column_names if name != ROW_HASH}
    return pa.table(columns | {ROW_HASH: pa.array(hashes, pa.string())}).cast(table.schema)


def _text(value: object) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return b"%d" % ((value - _EPOCH) // _MICROSECOND)
    return str(value).encode()
