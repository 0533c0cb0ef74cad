"""What Delta's log tells beyond the newest version: files of older ones, and entries that were emptied.

Delta's own reader refuses a garbled or missing entry, but takes an emptied one for a commit that did nothing.
"""

import re
from collections.abc import Iterator
from datetime import date

import msgspec
from pyarrow import fs

from devin_pipeline.lake.errors import Damaged
from devin_pipeline.lake.soundness import StoredFile
from devin_pipeline.tables import Table

_ENTRY = re.compile(r"\d{20}\.json")


class _Add(msgspec.Struct, rename="camel"):
    path: str
    size: int
    partition_values: dict[str, str | None]
    stats: str | None = None


class _Action(msgspec.Struct):
    add: _Add | None = None


class _Stats(msgspec.Struct, rename="camel"):
    num_records: int


def broken_log(table: Table, location: str, why: str) -> Damaged:
    """The refusal of a table whose log cannot be trusted, with what to do about it."""
    todo = (
        "Put the folder back from a backup, or its log's entry: what it held may be told by no one else"
        if table.layer == "raw"
        else f"Remove the folder {location} and run `devin-pipeline backfill` over all days: raw has all it was made of"
    )
    return Damaged(f"The log of {table.name} cannot be read", why, todo)


def emptied_entries(location: str) -> list[str]:
    """Entries of a table's log that were emptied: what they committed is as if it had never been written."""
    filesystem, path = fs.FileSystem.from_uri(location)
    found = filesystem.get_file_info(fs.FileSelector(f"{path}/_delta_log", allow_not_found=True))
    return sorted(entry.path for entry in found if _ENTRY.fullmatch(entry.base_name) and entry.size == 0)


def files_ever(location: str, day: date) -> Iterator[StoredFile]:
    """Every file of a day that some version named and that still lies there, newest version first."""
    filesystem, path = fs.FileSystem.from_uri(location)
    found = filesystem.get_file_info(fs.FileSelector(f"{path}/_delta_log", allow_not_found=True))
    for entry in sorted((e for e in found if _ENTRY.fullmatch(e.base_name)), key=lambda e: e.base_name, reverse=True):
        with filesystem.open_input_stream(entry.path) as stream:
            lines = stream.read().splitlines()
        for line in lines:
            add = msgspec.json.decode(line, type=_Action).add
            if add is None or add.partition_values.get("day") != day.isoformat():
                continue
            if filesystem.get_file_info(f"{path}/{add.path}").type == fs.FileType.File:
                rows = msgspec.json.decode(add.stats, type=_Stats).num_records if add.stats else 0
                yield StoredFile(f"{location}/{add.path}", day, rows, add.size)
