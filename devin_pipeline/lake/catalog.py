"""`devin.duckdb`: the lake's tables as views, for the duckdb CLI and BI tools.

The file holds views only, each over the files of one snapshot, so it is made anew after every run.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

from devin_pipeline.lake.errors import Damaged, written
from devin_pipeline.lake.lake import Lake
from devin_pipeline.lake.reader import Reader
from devin_pipeline.tables import ALL_TABLES, Table

CATALOG = "devin.duckdb"
_LEFT_BY_A_KILLED_PROCESS_SECONDS = 3600


class Catalog(NamedTuple):
    """The file, and the tables that it has no view of because a file of theirs cannot be read."""

    file: Path
    left_out: list[Table]


def write_catalog(lake: Lake) -> Catalog | None:
    """Make `devin.duckdb` in the lake anew and swap it in whole; who has the old one open keeps it.

    A damaged table gets no view, so that whoever asks for it is told; the others are not held back.

    Returns:
        What was made; None for a lake in an object store, where DuckDB cannot keep a database.

    Raises:
        Damaged: A table's log cannot be read.
        NotWritten: The disk is full, read-only or broken; the old file stays.
        TooManyConflicts: Other runs wrote tables six times in a row meanwhile.
    """
    if len(urlsplit(lake.uri).scheme) > 1:
        return None
    file = Path(lake.uri) / CATALOG
    # Done again if a table moves meanwhile: a slow run must not put its older views over those of a faster one.
    with written(CATALOG):
        return lake.while_inputs_move(ALL_TABLES, None, lambda: _swap_in(lake, file))


def _swap_in(lake: Lake, file: Path) -> Catalog:
    file.parent.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob(f".{CATALOG}.*"):
        # Another run's file may be moved into place in this moment.
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _LEFT_BY_A_KILLED_PROCESS_SECONDS:
                left.unlink()
    notice = "DEMO DATA of the emulator. " if lake.identity is not None and lake.identity.kind == "demo" else ""
    queries = {table: lake.snapshot(table).query() for table in ALL_TABLES}
    readable = [table for table, query in queries.items() if _is_readable(table, query)]
    new = file.with_name(f".{CATALOG}.{uuid4().hex}")
    try:
        with Reader.into_new(str(new)) as reader:
            for table in readable:
                reader.publish(table.name, queries[table])
                reader.describe(table, notice)
            reader.store()
        new.replace(file)
    finally:
        # DuckDB leaves its write-ahead log behind when it could not write.
        for left in file.parent.glob(f"{new.name}*"):
            left.unlink(missing_ok=True)
    return Catalog(file, [table for table in ALL_TABLES if table not in readable])


def _is_readable(table: Table, query: str) -> bool:
    # Tried apart from the file: there, a disk that is full would look the same.
    try:
        with Reader() as reader:
            reader.view(table.name, query)
    except Damaged:
        return False
    return True
