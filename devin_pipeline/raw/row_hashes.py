"""The hash that seals a raw row, so that `verify` can tell a value changed on disk from one that was written."""

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline.lake import Damaged
from devin_pipeline.tables import Table

ROW_HASH = "row_hash"

# What is hashed is made of so many rows at once: Arrow's text holds 2 GB, and a payload may be long.
_ROWS_AT_ONCE = 2_000


def row_hashes(table: Table, rows: pa.Table) -> list[str]:
    """SHA-256 over each row's columns but this one, in the table's order: instants as microseconds since the epoch.

    Args:
        table: A raw table.
        rows: Rows of it; a `row_hash` they have plays no part.
    """
    columns = [name for name in table.column_names if name != ROW_HASH]
    hashes: list[str] = []
    for batch in rows.select(columns).to_batches(max_chunksize=_ROWS_AT_ONCE):
        whole = pc.binary_join_element_wise(*(_pieces(column) for column in batch.columns), b"")
        hashes += [hashlib.sha256(row).hexdigest() for row in whole.to_pylist()]
    return hashes


def sealed(table: Table, rows: pa.Table) -> pa.Table:
    """The rows with their `row_hash`, in the table's schema."""
    columns = {name: rows.column(name) for name in table.column_names if name != ROW_HASH}
    return pa.table(columns | {ROW_HASH: pa.array(row_hashes(table, rows), pa.string())}).cast(table.schema)


def extended(table: Table, stored: pa.Table, news: pa.Table) -> pa.Table:
    """Stored rows and new ones in key order; a stored row from before `row_hash` is sealed now.

    Args:
        table: A raw table.
        stored: Rows as they lie in it.
        news: Sealed rows, in key order.

    Raises:
        Damaged: A stored row is not what was sealed. Written again it would seem sound, and the file that still holds
            what it was would be vacuumed.
    """
    sealed_now = sealed(table, stored)
    seals, hashes = stored.column(ROW_HASH), sealed_now.column(ROW_HASH)
    broken = stored.filter(pc.not_equal(pc.coalesce(seals, hashes), hashes))
    if broken.num_rows:
        days = ", ".join(map(str, sorted(pc.unique(broken.column("day")).to_pylist())))
        raise Damaged(f"{table.name} was not written", f"stored rows of {days} changed")
    if not stored.num_rows:
        return news
    order = [(name, "ascending") for name in table.key]
    return pa.concat_tables([sealed_now, news]).sort_by(order)


def _pieces(column: pa.Array) -> pa.Array:
    """A column's values as they are hashed, each behind its length: ("ab", "c") is not ("a", "bc")."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    text = pc.if_else(column, "True", "False") if pa.types.is_boolean(column.type) else column.cast(pa.string())
    length = pc.binary_length(text).cast(pa.string())
    told = pc.binary_join_element_wise(length.cast(pa.binary()), text.cast(pa.binary()), b":")
    return pc.fill_null(told, b"-")
