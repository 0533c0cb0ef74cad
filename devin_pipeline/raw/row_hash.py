"""The hash of a raw row, by which `verify` knows a value that changed on disk from one that was written."""

from collections.abc import Iterator
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline.devin_api import sha256_of
from devin_pipeline.tables import RawTable

ROW_HASH = "row_hash"

_ROWS_AT_ONCE = 2_000


def row_hashes(table: RawTable, rows: pa.Table) -> list[str]:
    """SHA-256 over each row's columns but this one, in the table's order: instants as microseconds since the epoch.

    Args:
        table: A raw table.
        rows: Rows of it; a `row_hash` they have plays no part.
    """
    columns = [name for name in table.column_names if name != ROW_HASH]
    place = columns.index(table.payload)
    hashes: list[str] = []
    for batch in rows.select(columns).to_batches(max_chunksize=_ROWS_AT_ONCE):
        pieces = [
            _pieces(column, in_full=name != table.payload, of_null=b"" if name in table.added_later else b"-")
            for name, column in zip(columns, batch.columns, strict=True)
        ]
        before = pc.binary_join_element_wise(*pieces[: place + 1], b"").to_pylist()
        after = pc.binary_join_element_wise(*pieces[place + 1 :], b"", b"").to_pylist()
        for head, text, tail in zip(before, bytes_of(batch.column(place)), after, strict=True):
            hashes.append(sha256_of(head, text, tail))
    return hashes


def with_row_hash(table: RawTable, rows: pa.Table) -> pa.Table:
    """The rows with their `row_hash`, in the table's schema."""
    columns = {name: rows.column(name) for name in table.column_names if name != ROW_HASH}
    return pa.table(columns | {ROW_HASH: pa.array(row_hashes(table, rows), pa.string())}).cast(table.schema)


def _pieces(column: pa.Array, *, in_full: bool, of_null: bytes) -> pa.Array:
    """A column's values as they are hashed, each behind its length: ("ab", "c") is not ("a", "bc").

    Args:
        column: The column.
        in_full: False for the lengths only, where the values follow by themselves.
        of_null: What stands for a null.
    """
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    text = pc.if_else(column, "True", "False") if pa.types.is_boolean(column.type) else column.cast(pa.string())
    length = pc.binary_length(text).cast(pa.string()).cast(pa.binary())
    value = text.cast(pa.binary()) if in_full else pc.if_else(text.is_null(), None, pa.scalar(b"", pa.binary()))
    return pc.fill_null(pc.binary_join_element_wise(length, value, b":"), of_null)


def bytes_of(texts: pa.Array) -> Iterator[memoryview]:
    """The bytes of each text where they lie, none for a null: copying them would cost as much as hashing them."""
    texts = texts.fill_null("") if texts.null_count else texts
    _, offsets, data = texts.buffers()
    bounds = memoryview(offsets).cast("i")[texts.offset : texts.offset + len(texts) + 1]
    values = memoryview(data or b"")
    return (values[start:end] for start, end in pairwise(bounds))
