"""What Delta's log holds beyond the newest version: files of older ones, and entries that were emptied.

Delta's own reader refuses a garbled or missing entry, but takes an emptied one for a commit that did nothing.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from typing import TypeVar

import msgspec
from pyarrow import fs

from devin_pipeline.lake.atomic import create_file
from devin_pipeline.lake.errors import Damaged, VersionsLost, readable, written
from devin_pipeline.lake.file_integrity import StoredFile
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import Partition, Table

_Decoded = TypeVar("_Decoded")

_ENTRY = re.compile(r"\d{20}\.json")
_LAST_CHECKPOINT = "_last_checkpoint"
_IN_FOLDER = re.compile(r"(?:[^/=]+=([^/]+)/)?[^/]+\.parquet")


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
        "Restore the folder or the entry of its log from a backup: its content may exist nowhere else"
        if table.layer == "raw"
        else f"Remove the folder {location} and rebuild it from raw: "
        f"`{pipeline_command('backfill --from DAY --to DAY')}`"
    )
    return Damaged(f"The log of {table.name} cannot be read", why, todo)


def versions_lost(table: Table, location: str, end: str, noted: int) -> VersionsLost:
    """The refusal of a raw table whose log ends, at `end`, before the version that was last written."""
    days = sorted(partition for partition in files_in_folder(table, location) if isinstance(partition, date))
    # Anything may have been in them, of any day that is stored.
    days_given = f"--from {days[0]} --to {days[-1]}" if days else "--from DAY --to DAY"
    return VersionsLost(
        f"The table {table.name} is older than what was last written to it",
        f"its log {end}, but version {noted} was written: entries are missing, as after a partial restore",
        f"Restore the missing entries to {location}/_delta_log. If you cannot, restore what files in the folder "
        f"still hold and read the rest again: `{pipeline_command(f'backfill {days_given} --repair')}`",
    )


def names_lost_checkpoint(location: str) -> bool:
    """True when a log names its last checkpoint and has none: Delta refuses the table, whatever else the log holds."""
    with readable(f"{location}/_delta_log"):
        filesystem, path = fs.FileSystem.from_uri(f"{location}/_delta_log")
        names = [file.base_name for file in filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))]
    return _LAST_CHECKPOINT in names and not any(".checkpoint." in name for name in names)


def clear_lost_checkpoint(location: str) -> None:
    """Have Delta read the entries of a log of which `names_lost_checkpoint` is true.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    filesystem, path = fs.FileSystem.from_uri(f"{location}/_delta_log")
    with written(path):
        filesystem.delete_file(f"{path}/{_LAST_CHECKPOINT}")


def lacks_entry(location: str, version: int | None) -> bool:
    """True when the newest entry of a log is empty, or only a checkpoint holds its version.

    Delta takes the one for a commit that did nothing, and refuses every commit after the other.
    """
    return version is not None and not _entry_of(location, version).size


def remove_empty_entry(location: str, version: int) -> None:
    """Remove the entry of a version of which `lacks_entry` is true, if it is there: the one before is the newest then.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    entry = _entry_of(location, version)
    if entry.type == fs.FileType.File:
        with written(entry.path):
            fs.FileSystem.from_uri(location)[0].delete_file(entry.path)


def _entry_of(location: str, version: int) -> fs.FileInfo:
    with readable(f"{location}/_delta_log"):
        filesystem, path = fs.FileSystem.from_uri(location)
        return filesystem.get_file_info(f"{path}/_delta_log/{version:020}.json")


def add_entry_of_checkpoint(location: str, version: int) -> None:
    """Have Delta commit after a version that only a checkpoint holds, by an entry that adds nothing to it.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    create_file(location, f"_delta_log/{version:020}.json", b'{"commitInfo":{"operation":"REPAIR"}}\n')


def partition_of_path(table: Table, path: str) -> Partition:
    """The partition in whose folder a file of a table lies; None when it lies in none.

    Args:
        table: The table.
        path: The file's path.
    """
    found = table.partitioned_by and re.search(rf"(?:^|/){table.partitioned_by}=([^/]+)/[^/]*$", path)
    if not found:
        return None
    if not table.by_day:
        return found[1]
    with suppress(ValueError):
        return date.fromisoformat(found[1])
    return None


def files_in_folder(table: Table, location: str) -> dict[Partition, list[StoredFile]]:
    """The Parquet files of each partition of a table, whether or not a version names them; with 0 rows, unknown."""
    with readable(location):
        filesystem, path = fs.FileSystem.from_uri(location)
        found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=True))
    files: dict[Partition, list[StoredFile]] = {}
    for file in sorted(found, key=lambda file: file.path):
        name = file.path.removeprefix(f"{path}/")
        partition = partition_of_path(table, name)
        if _IN_FOLDER.fullmatch(name) and (partition is None) == (table.partitioned_by is None):
            files.setdefault(partition, []).append(StoredFile(f"{location}/{name}", partition, 0, file.size))
    return files


def emptied_entries(location: str) -> list[str]:
    """Entries of a table's log that were emptied: what they committed is as if it had never been written."""
    with readable(f"{location}/_delta_log"):
        filesystem, path = fs.FileSystem.from_uri(location)
        found = filesystem.get_file_info(fs.FileSelector(f"{path}/_delta_log", allow_not_found=True))
    # guard: damage: an emptied log entry | not entry.size -> False
    return sorted(entry.path for entry in found if _ENTRY.fullmatch(entry.base_name) and not entry.size)


def files_ever(table: Table, location: str, partition: Partition) -> Iterator[StoredFile]:
    """Every file of a partition that some version named and that still lies there, newest version first.

    Of a file whose own entry was cleaned away, only the entry that removed it is left; its number of rows is then 0.
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
        # guard: older files lost with their entries | (*added, *removed) -> added
        wanted = None if partition is None else str(partition)
        for file in (*added, *removed):
            if file.partition_values.get(table.partitioned_by or "") != wanted:
                continue
            rows = _decoded(file.stats, _Stats, entry.path).num_records if file.stats else 0
            if rows or file.path not in files:
                files[file.path] = StoredFile(f"{location}/{file.path}", partition, rows, file.size)
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
            "Restore it from a backup; or remove it, which loses what only it says about older files",
        ) from None
