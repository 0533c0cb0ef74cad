"""`devin.duckdb`: the lake's tables as views, for the duckdb CLI and BI tools.

The file holds views only, each over the files of one snapshot, so it is made anew after every run that changed a table.
It tells by a digest what it was made of, so that a run that changed none leaves it alone.
"""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import duckdb

from devin_pipeline.lake.errors import Damaged, written
from devin_pipeline.lake.lake import Lake
from devin_pipeline.lake.reader import Reader, quoted
from devin_pipeline.tables import ALL_TABLES, Table

CATALOG = "devin.duckdb"
_LEFT_BY_A_KILLED_PROCESS_SECONDS = 3600


# A macro, because DuckDB has no comments on databases and a table or view would be seen among the lake's.
_MADE_OF = "made_of"


class Catalog(NamedTuple):
    """The file, whether this call wrote it, and the tables it has no view of because a file of theirs is unreadable."""

    file: Path
    left_out: list[Table]
    changed: bool


def write_catalog(lake: Lake) -> Catalog | None:
    """Make `devin.duckdb` in the lake anew and swap it in whole; who has the old one open keeps it.

    A damaged table gets no view, so that whoever asks for it is told; the others are not held back. A file that has
    just the views it would get is left as it is.

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
    if _told_by(file) == _digest(_definitions(lake).values()):
        # Who writes a table after this look makes the file anew itself.
        return Catalog(file, [], False)
    # Done again if a table moves meanwhile: a slow run must not put its older views over those of a faster one.
    with written(CATALOG):
        return lake.while_inputs_move(ALL_TABLES, None, lambda: _swap_in(lake, file))


def _definitions(lake: Lake) -> Mapping[Table, list[str]]:
    """The statements that make and describe the view of each table's newest version."""
    notice = "DEMO DATA of the emulator. " if lake.identity is not None and lake.identity.kind == "demo" else ""
    return {table: _definition(table, lake.newest(table).query(), notice) for table in ALL_TABLES}


def _definition(table: Table, query: str, notice: str) -> list[str]:
    return [
        _create(table) + query,
        f'comment on view "{table.name}" is {quoted(notice + table.grain)}',
        *(f'comment on column "{table.name}"."{c.name}" is {quoted(c.description)}' for c in table.columns),
    ]


def _create(table: Table) -> str:
    return f'create view "{table.name}" as '


def _digest(definitions: Iterable[list[str]]) -> str:
    return sha256(repr(list(definitions)).encode()).hexdigest()


def _told_by(file: Path) -> str | None:
    """The digest of what a file was made of; None when there is none, or nothing of ours can be read."""
    # A link is replaced, wherever it leads; a pipe would be waited for.
    if file.is_symlink() or not file.is_file():
        return None
    try:
        with Reader.of_stored(str(file)) as reader:
            (told,) = reader.rows(f"select {_MADE_OF}() as digest").column("digest").to_pylist()
    except (Damaged, duckdb.Error):
        return None
    return str(told)


def _swap_in(lake: Lake, file: Path) -> Catalog:
    file.parent.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob(f".{CATALOG}.*"):
        # Another run's file may be moved into place in this moment.
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _LEFT_BY_A_KILLED_PROCESS_SECONDS:
                left.unlink()
    definitions = _definitions(lake)
    left_out: list[Table] = []
    new = file.with_name(f".{CATALOG}.{uuid4().hex}")
    try:
        with Reader.into_new(str(new)) as reader:
            for table, definition in definitions.items():
                try:
                    reader.define(definition)
                except duckdb.Error:
                    # Tried apart from the file: there, a disk that is full looks the same.
                    if _is_readable(table, definition[0].removeprefix(_create(table))):
                        raise
                    left_out.append(table)
            # Without those left out it never equals the digest that is looked for, so that they get a view once healed.
            made_of = _digest(definitions[table] for table in ALL_TABLES if table not in left_out)
            reader.define([f"create macro {_MADE_OF}() as {quoted(made_of)}"])
            reader.store()
        new.replace(file)
    finally:
        # DuckDB leaves its write-ahead log behind when it could not write.
        for left in file.parent.glob(f"{new.name}*"):
            left.unlink(missing_ok=True)
    return Catalog(file, left_out, True)


def _is_readable(table: Table, query: str) -> bool:
    try:
        with Reader() as reader:
            reader.view(table.name, query)
    except Damaged:
        return False
    return True
