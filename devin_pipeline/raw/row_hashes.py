"""The hash that seals a raw row, so that `verify` can tell a value changed on disk from one that was written."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from devin_pipeline.lake import Damaged
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


def extended(table: Table, stored: pa.Table, news: pa.Table) -> pa.Table:
    """Stored rows and new ones in key order; a stored row from before `row_hash` is sealed now.

    Args:
        table: A raw table.
        stored: Rows as they lie in it.
        news: Sealed rows.

    Raises:
        Damaged: A stored row is not what was sealed. Written again it would seem sound, and the file that still holds
            what it was would be vacuumed.
    """
    rows = stored.to_pylist()
    hashes = [row_hash(table, row) for row in rows]
    broken = {row["day"] for row, seal in zip(rows, hashes, strict=True) if row[ROW_HASH] not in (None, seal)}
    if broken:
        raise Damaged(f"{table.name} was not written", f"stored rows of {', '.join(map(str, sorted(broken)))} changed")
    sealed_now = stored.set_column(stored.column_names.index(ROW_HASH), ROW_HASH, pa.array(hashes, pa.string()))
    order = [(name, "ascending") for name in table.key]
    return pa.concat_tables([sealed_now.cast(table.schema), news]).sort_by(order)


def _text(value: object) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return b"%d" % ((value - _EPOCH) // _MICROSECOND)
    return str(value).encode()
