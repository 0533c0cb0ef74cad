"""What Delta's log tells beyond the newest version: files of older ones, and entries that were emptied.

Delta's own reader refuses a garbled or missing entry, but takes an emptied one for a commit that did nothing.
"""

import re
from collections.abc import Iterator
from datetime import date
from typing import TypeVar

import msgspec
from pyarrow import fs

from devin_pipeline.lake.errors import Damaged, readable
from devin_pipeline.lake.soundness import StoredFile
from devin_pipeline.tables import Table

_Decoded = TypeVar("_Decoded")

_ENTRY = re.compile(r"\d{20}\.json")


class _File(msgspec.Struct, rename="camel"):
    path: str
    size: int = 0
    partition_values: dict[str, str | None] = {}
    stats: str | None = None


class _Action(msgspec.Struct):
    add: _File | None = None
    remove: _File | None = None


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
    with readable(f"{location}/_delta_log"):
        filesystem, path = fs.FileSystem.from_uri(location)
        found = filesystem.get_file_info(fs.FileSelector(f"{path}/_delta_log", allow_not_found=True))
    return sorted(entry.path for entry in found if _ENTRY.fullmatch(entry.base_name) and not entry.size)


def files_ever(location: str, day: date) -> Iterator[StoredFile]:
    """Every file of a day that some version named and that still lies there, newest version first.

    Of a file whose own entry was cleaned away, only the entry that removed it tells; its number of rows is then 0.
    """
    with readable(f"{location}/_delta_log"):
        filesystem, path = fs.FileSystem.from_uri(location)
        found = filesystem.get_file_info(fs.FileSelector(f"{path}/_delta_log", allow_not_found=True))
    files: dict[str, StoredFile] = {}
    for entry in sorted((e for e in found if _ENTRY.fullmatch(e.base_name)), key=lambda e: e.base_name, reverse=True):
        with readable(entry.path), filesystem.open_input_stream(entry.path) as stream:
            actions = [_decoded(line, _Action, entry.path) for line in stream.read().splitlines()]
        added = [action.add for action in actions if action.add is not None]
        removed = [action.remove for action in actions if action.remove is not None]
        of_day = [file for file in (*added, *removed) if file.partition_values.get("day") == day.isoformat()]
        for file in of_day:
            rows = _decoded(file.stats, _Stats, entry.path).num_records if file.stats else 0
            told = StoredFile(f"{location}/{file.path}", day, rows, file.size)
            if rows or file.path not in files:
                files[file.path] = told
    for name, stored in files.items():
        if filesystem.get_file_info(f"{path}/{name}").type == fs.FileType.File:
            yield stored


def _decoded(text: bytes | str, kind: type[_Decoded], path: str) -> _Decoded:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError:
        # Delta itself does not read an entry that a checkpoint sums up.
        raise Damaged(
            f"An entry of a log cannot be read ({path})",
            "it is damaged",
            "Put it back from a backup; or remove it, and with it what only it says of older files",
        ) from None
