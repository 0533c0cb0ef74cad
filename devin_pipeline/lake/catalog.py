"""`devin.duckdb`: the lake's tables as views, and the views with names, for the duckdb CLI and BI tools.

The file holds views only, each over the files of one snapshot, so it is rebuilt after every run that changed a table.
A digest of what it was built from is stored in it, so that a run that changed none of that leaves it as it is.

A view can name files by absolute paths only. In a copied or moved lake they would be those of another one, so each view
refuses to answer where its own file does not lie in the place it was written for.
"""

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import duckdb

from devin_pipeline.lake.connection import Connection, named_view_sql, quoted, typed_nulls
from devin_pipeline.lake.errors import Damaged, NotWritten, TooManyConflicts, written
from devin_pipeline.lake.lake import Lake
from devin_pipeline.lake.snapshot import Snapshot
from devin_pipeline.tables import ALL_TABLES, TABLES, Column, Table
from devin_pipeline.tables.measures import measures_of
from devin_pipeline.tables.views import NamedView, named_views_over

CATALOG = "devin.duckdb"
_LEFT_BY_A_KILLED_PROCESS_SECONDS = 3600


# Several runs at once write a table every few milliseconds.
_TRIES = 100

# A macro, because DuckDB has no comments on databases and a table or view would be seen among the lake's.
_FINGERPRINT = "catalog_fingerprint"


class Catalog(NamedTuple):
    """The file, whether this call wrote it, and the tables it has no view of because a file of theirs is unreadable."""

    file: Path
    left_out: list[Table]
    changed: bool


def write_catalog(lake: Lake) -> Catalog | None:
    """Rebuild `devin.duckdb` and replace it atomically; readers that have it open keep the old one.

    A damaged table gets no view, so that a query for it fails clearly; the others are not held back. A file that has
    just the views it would get is left as it is.

    Returns:
        What was made; None for a lake in an object store, where DuckDB cannot keep a database.

    Raises:
        Damaged: A table's log cannot be read.
        NotWritten: The disk is full, read-only or broken; the old file stays.
        TooManyConflicts: Other runs wrote tables all the time.
    """
    if len(urlsplit(lake.uri).scheme) > 1:
        return None
    file = Path(lake.uri) / CATALOG
    # guard: a damaged devin.duckdb left as it is
    #   | _digest_in(file) == _digest(_definitions(lake, file).values()) -> file.exists()
    if _digest_in(file) == _digest(_definitions(lake, file).values()):
        # A run that writes a table after this look rebuilds the file itself.
        return Catalog(file, [], False)
    # Done again if a table moves meanwhile: a slow run must not put its older views over those of a faster one.
    with written(CATALOG):
        # guard: older views over newer ones
        #   | lake.retry_until_inputs_stable(ALL_TABLES, None, lambda: _swap_in(lake, file), _TRIES)
        #   -> _swap_in(lake, file)
        return lake.retry_until_inputs_stable(ALL_TABLES, None, lambda: _swap_in(lake, file), _TRIES)


def renew_moved_catalog(lake: Lake) -> None:
    """Write `devin.duckdb` again if it was written for another place; where that cannot be done, its views say so.

    Raises:
        Damaged: A table's log cannot be read.
    """
    file = Path(lake.uri) / CATALOG
    if len(urlsplit(lake.uri).scheme) > 1 or _place(file) in _sequences(file) or _digest_in(file) is None:
        return
    with suppress(NotWritten, TooManyConflicts):
        write_catalog(lake)


def _place(file: Path) -> str:
    """The name of a sequence by which a file is known, whatever it is attached as: that of the place it is written for.

    DuckDB lists sequences in no time; a table or a view would be seen among the lake's.
    """
    return f"written_for_{sha256(str(file).encode()).hexdigest()[:16]}"


def _guard(file: Path) -> str:
    """A condition of each view that raises an error where its file lies in another place."""
    # DuckDB 2 gives the path without links, DuckDB 1 as somebody wrote it.
    without_links = f"{os.path.realpath(file.parent)}/{file.name}"
    places = ", ".join(quoted(path) for path in dict.fromkeys((str(file), without_links)))
    elsewhere = f"path not in ({places})"
    error = (
        f"{quoted(f'This devin.duckdb was written for {file} and answers from no other place. It was opened as ')} "
        f"|| any_value(path) filter (where {elsewhere}) || "
        + quoted(
            ". If the lake was moved or copied there, run `devin-pipeline tables` with DEVIN_LAKE set to it: "
            "that writes this file again. Otherwise open it by its absolute path"
        )
    )
    return (
        # guard: a file of views in another place than it was written for | = 0 -> >= 0
        f"(select case when count(*) filter (where {elsewhere}) = 0 then true else error({error}) end "  # noqa: S608 - quoted
        "from duckdb_sequences() inner join duckdb_databases() using (database_name) "
        f"where sequence_name = '{_place(file)}')"
    )


def _definitions(lake: Lake, file: Path) -> Mapping[Table | NamedView, list[str]]:
    """The statements that make and describe the view of each table's newest version, then those with names."""
    guard, identity, hour = _guard(file), lake.identity, lake.day_starts_at_utc_hour
    notice = "DEMO DATA of the emulator. " if identity is not None and identity.kind == "demo" else ""
    definitions: dict[Table | NamedView, list[str]] = {}
    for table in ALL_TABLES:
        query = _guarded(lake.cached_snapshot(table), guard)
        definitions[table] = _definition(table.name, query, notice + _description(table), table.columns)
    for view in named_views_over(TABLES):
        # The tables that it reads have the guard.
        columns = (*TABLES[view.of_table].columns, *view.names)
        definitions[view] = _definition(view.name, named_view_sql(view, hour), notice + view.description, columns)
    return definitions


def _guarded(snapshot: Snapshot, guard: str) -> str:
    """A SELECT of a version's rows, for a view."""
    if snapshot.stored_files():
        return f"from ({snapshot.query()}) where {guard}"
    # A condition on no rows would not be looked at.
    return f"select {typed_nulls(snapshot.table)} from (select {guard} as is_in_place) where not is_in_place"  # noqa: S608 - quoted


def _definition(name: str, query: str, description: str, columns: Iterable[Column]) -> list[str]:
    return [
        _create(name) + query,
        f'comment on view "{name}" is {quoted(description)}',
        *(f'comment on column "{name}"."{column.name}" is {quoted(column.description)}' for column in columns),
    ]


def _description(table: Table) -> str:
    measures = (f"{measure.name} ({measure.unit}): {measure.definition}" for measure in measures_of(table.name))
    return "\n".join((table.grain, *measures))


def _create(name: str) -> str:
    return f'create view "{name}" as '


def _digest(definitions: Iterable[list[str]]) -> str:
    return sha256(repr(list(definitions)).encode()).hexdigest()


def _digest_in(file: Path) -> str | None:
    """The digest of what a file was made of; None when there is none, or nothing of ours can be read."""
    # A link is replaced, wherever it leads; a pipe would be waited for.
    if file.is_symlink() or not file.is_file():
        return None
    try:
        with Connection.open_database(str(file)) as connection:
            (digest,) = connection.rows(f"select {_FINGERPRINT}() as digest").column("digest").to_pylist()
    except (Damaged, duckdb.Error):
        return None
    return str(digest)


def _sequences(file: Path) -> list[str]:
    if file.is_symlink() or not file.is_file():
        return []
    with suppress(Damaged, duckdb.Error), Connection.open_database(str(file)) as connection:
        rows = connection.rows("select sequence_name from duckdb_sequences()")
        return [str(name) for name in rows.column("sequence_name").to_pylist()]
    return []


def _swap_in(lake: Lake, file: Path) -> Catalog:
    file.parent.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob(f".{CATALOG}.*"):
        # Another run's file may be moved into place in this moment.
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _LEFT_BY_A_KILLED_PROCESS_SECONDS:
                left.unlink()
    definitions = _definitions(lake, file)
    left_out: list[Table] = []
    new = file.with_name(f".{CATALOG}.{uuid4().hex}")
    try:
        with Connection.new_database(str(new)) as connection:
            made: list[list[str]] = []
            for relation, definition in definitions.items():
                # guard: a view of names over a table that is left out
                if isinstance(relation, NamedView) and {table.name for table in left_out} & set(relation.inputs):
                    continue
                try:
                    connection.execute_all(definition)
                except duckdb.Error:
                    # Tried apart from the file: there, a disk that is full looks the same.
                    if isinstance(relation, NamedView) or _is_readable(
                        relation, definition[0].removeprefix(_create(relation.name))
                    ):
                        raise
                    left_out.append(relation)
                else:
                    made.append(definition)
            # Without those left out it never equals the digest looked for, so that they get a view once repaired.
            fingerprint = _digest(made)
            connection.execute_all(
                [f"create macro {_FINGERPRINT}() as {quoted(fingerprint)}", f"create sequence {_place(file)}"]
            )
            # guard: an empty devin.duckdb on a full disk
            connection.checkpoint()
        # guard: devin.duckdb written in place | new.replace(file) -> file.write_bytes(new.read_bytes())
        new.replace(file)
    finally:
        # DuckDB leaves its write-ahead log behind when it could not write.
        for left in file.parent.glob(f"{new.name}*"):
            left.unlink(missing_ok=True)
    return Catalog(file, left_out, True)


def _is_readable(table: Table, query: str) -> bool:
    try:
        with Connection() as connection:
            connection.create_view(table.name, query)
    except Damaged:
        return False
    return True
