"""Keeps a table as quick to read as when it was new: its files joined, old ones deleted, its log short.

Nothing here changes a row of the newest version. When it is done, and for which tables, does not belong here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from devin_pipeline.lake.errors import Damaged, readable, written
from devin_pipeline.lake.file_integrity import StoredFile, read_verified
from devin_pipeline.lake.lake import Lake, Rewrite, Snapshot
from devin_pipeline.tables import Table

DamagedDays = Callable[[Snapshot, Sequence[date]], Mapping[date, str]]
"""Which of some days are not sound, and why; of a raw table, by its rows too."""

# Delta cuts what it writes at 100 MB, so a large day has several files. It never leaves two of less than half of that.
_SMALL_BYTES = 50_000_000
_BYTES_OF_A_COMMIT = 64_000_000


class Skipped(NamedTuple):
    """What was left as it is: a day, or a whole table (None), and why."""

    day: date | None
    why: str


class VacuumResult(NamedTuple):
    """Files that were deleted, and their bytes."""

    files: int
    bytes: int


def compact(lake: Lake, table: Table, damaged_days: DamagedDays) -> list[Skipped]:
    """Join the small files of each day, or of an unpartitioned table, to one with its rows in key order.

    What is one file, or large files, is not touched: without others there is no commit. What is damaged is not
    rewritten, since a file that was damaged would become one that looks sound.

    Args:
        lake: The lake.
        table: The table.
        damaged_days: Says what is wrong beyond what its files show.

    Returns:
        What was left in several files because it is damaged.

    Raises:
        Damaged: The table's log cannot be read.
        TooManyConflicts: Other runs wrote the same days six times in a row.
        NotWritten: The disk is full, read-only or broken.
    """
    if not table.by_day:
        return _compact_whole(lake, lake.snapshot(table))
    left: list[Skipped] = []
    for days in in_portions(_in_small_files(lake.snapshot(table)), _BYTES_OF_A_COMMIT):
        told: list[Skipped] = []

        def joined(snapshot: Snapshot, days: Sequence[date] = days, told: list[Skipped] = told) -> Rewrite | None:
            told.clear()
            split = [day for day in days if day in _in_small_files(snapshot)]
            damaged = damaged_days(snapshot, split) if split else {}
            rows: dict[date, pa.Table] = {}
            for day in split:
                if day in damaged:
                    told.append(Skipped(day, damaged[day]))
                    continue
                try:
                    rows[day] = _rows_in_order(table, [file for file in snapshot.stored_files() if file.day == day])
                except Damaged as error:
                    told.append(Skipped(day, error.why))
            return Rewrite(list(rows), pa.concat_tables(rows.values())) if rows else None

        lake.rewrite(table, joined)
        left += told
    return left


def vacuum(lake: Lake, table: Table) -> VacuumResult:
    """Delete the files that no version of the last seven days names, and what killed writers left that long ago.

    Raises:
        Damaged: The table's log cannot be read.
        NotWritten: The disk is full, read-only or broken.
    """
    delta = lake.snapshot(table).delta
    if delta is None:
        return VacuumResult(0, 0)
    with written(table.name):
        # Asked first: Delta names files it has deleted until its log forgets them, and would log that each time.
        filesystem, path = fs.FileSystem.from_uri(lake.location(table))
        old = filesystem.get_file_info([f"{path}/{name}" for name in delta.vacuum(full=True)])
        there = [file for file in old if file.type == fs.FileType.File]
        if there:
            # guard: files of the last week deleted
            #   | full=True -> full=True, retention_hours=0, enforce_retention_duration=False
            delta.vacuum(full=True, dry_run=False)
    return VacuumResult(len(there), sum(file.size for file in there))


def in_portions(sizes: Mapping[date | None, int], most_bytes: int) -> Iterator[list[date]]:
    """The days in portions of so many bytes at most, a day at least, so that memory holds their rows.

    Args:
        sizes: The bytes of each day, oldest first; those of no day are left out.
        most_bytes: How many a portion may have.
    """
    days: list[date] = []
    size = 0
    for day in sizes:
        if day is None:
            continue
        if days and size + sizes[day] > most_bytes:
            yield days
            days, size = [], 0
        days.append(day)
        size += sizes[day]
    if days:
        yield days


def expire_log(lake: Lake, table: Table) -> int:
    """Sum up a table's log in a checkpoint, and delete the entries that are older than thirty days and in one.

    Returns:
        How many entries were deleted.

    Raises:
        Damaged: The table's log cannot be read.
        NotWritten: The disk is full, read-only or broken.
    """
    delta = lake.snapshot(table).delta
    if delta is None:
        return 0
    before = _entries(lake, table)
    with written(table.name):
        # Writes nothing when there is one of this version.
        delta.create_checkpoint()
        delta.cleanup_metadata()
    return len(before - _entries(lake, table))


def _compact_whole(lake: Lake, snapshot: Snapshot) -> list[Skipped]:
    if not _in_small_files(snapshot):
        return []
    try:
        rows = _rows_in_order(snapshot.table, snapshot.stored_files())
    except Damaged as error:
        return [Skipped(None, error.why)]
    # Who was faster has written it whole.
    lake.write_whole(snapshot, rows)
    return []


def _in_small_files(snapshot: Snapshot) -> dict[date | None, int]:
    """The days (None: an unpartitioned table) with more than one small file, and the bytes of all their files."""
    files: dict[date | None, list[StoredFile]] = {}
    for file in snapshot.stored_files():
        files.setdefault(file.day, []).append(file)
    return {
        day: sum(file.size for file in of_day)
        for day, of_day in files.items()
        if sum(file.size < _SMALL_BYTES for file in of_day) > 1
    }


def _rows_in_order(table: Table, files: Sequence[StoredFile]) -> pa.Table:
    rows = pa.concat_tables(read_verified(table, file) for file in files)
    # guard: joined rows out of order | .sort_by([(name, "ascending") for name in table.key])
    return rows.sort_by([(name, "ascending") for name in table.key])


def _entries(lake: Lake, table: Table) -> set[str]:
    with readable(f"The log of {table.name}"):
        filesystem, path = fs.FileSystem.from_uri(lake.location(table))
        found = filesystem.get_file_info(fs.FileSelector(f"{path}/_delta_log"))
    return {file.base_name for file in found if file.base_name.endswith(".json")}
