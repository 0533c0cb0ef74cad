"""Keeps a table as quick to read as when it was new: its files joined, old ones deleted, its log short.

Nothing here changes a row of the newest version. When it is done, and for which tables, does not belong here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import pyarrow as pa
from pyarrow import fs

from devin_pipeline.lake.commits import Rewrite
from devin_pipeline.lake.errors import Damaged, readable, written
from devin_pipeline.lake.file_integrity import StoredFile, read_verified
from devin_pipeline.lake.lake import Lake
from devin_pipeline.lake.snapshot import Snapshot
from devin_pipeline.tables import Partition, Table

P = TypeVar("P", bound=Partition)

Damage = Callable[[Snapshot, Sequence[Partition]], Mapping[Partition, str]]
"""Which of some partitions are damaged, and why; of a raw table, by its rows too."""

# Delta cuts what it writes at 100 MB, so a large day has several files. It never leaves two of less than half of that.
_SMALL_BYTES = 50_000_000
_BYTES_OF_A_COMMIT = 64_000_000


class Skipped(NamedTuple):
    """A partition that was left as it is, and why."""

    partition: Partition
    why: str


class VacuumResult(NamedTuple):
    """Files that were deleted, and their bytes."""

    files: int
    bytes: int


def compact(lake: Lake, table: Table, damage: Damage) -> list[Skipped]:
    """Join the small files of each partition to one with its rows in key order.

    What is one file, or large files, is not touched: without others there is no commit. What is damaged is not
    rewritten, since a file that was damaged would become one that looks intact.

    Args:
        lake: The lake.
        table: The table.
        damage: Says what is wrong beyond what its files show.

    Returns:
        What was left in several files because it is damaged.

    Raises:
        Damaged: The table's log cannot be read.
        TooManyConflicts: Other runs wrote the same partitions six times in a row.
        NotWritten: The disk is full, read-only or broken.
    """
    all_skipped: list[Skipped] = []
    for partitions in in_portions(_in_small_files(lake.snapshot(table)), _BYTES_OF_A_COMMIT):
        skipped: list[Skipped] = []

        def joined(
            snapshot: Snapshot, partitions: Sequence[Partition] = partitions, skipped: list[Skipped] = skipped
        ) -> Rewrite | None:
            skipped.clear()
            in_small_files = _in_small_files(snapshot)
            split = [partition for partition in partitions if partition in in_small_files]
            damaged = damage(snapshot, split) if split else {}
            rows: dict[Partition, pa.Table] = {}
            for partition in split:
                if partition in damaged:
                    skipped.append(Skipped(partition, damaged[partition]))
                    continue
                try:
                    rows[partition] = _rows_in_order(table, snapshot.stored_files([partition]))
                except Damaged as error:
                    skipped.append(Skipped(partition, error.why))
            return Rewrite(list(rows), pa.concat_tables(rows.values())) if rows else None

        lake.rewrite(table, joined)
        all_skipped += skipped
    return all_skipped


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


def in_portions(sizes: Mapping[P, int], most_bytes: int) -> Iterator[list[P]]:
    """Partitions in portions of so many bytes at most, one partition at least, so that memory holds their rows.

    Args:
        sizes: The bytes of each partition, oldest day first.
        most_bytes: How many a portion may have.
    """
    portion: list[P] = []
    size = 0
    for partition in sizes:
        if portion and size + sizes[partition] > most_bytes:
            yield portion
            portion, size = [], 0
        portion.append(partition)
        size += sizes[partition]
    if portion:
        yield portion


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


def _in_small_files(snapshot: Snapshot) -> dict[Partition, int]:
    """The partitions with more than one small file, and the bytes of all their files."""
    files: dict[Partition, list[StoredFile]] = {}
    for file in snapshot.stored_files():
        files.setdefault(file.partition, []).append(file)
    return {
        partition: sum(file.size for file in stored)
        for partition, stored in files.items()
        if sum(file.size < _SMALL_BYTES for file in stored) > 1
    }


def _rows_in_order(table: Table, files: Sequence[StoredFile]) -> pa.Table:
    rows = pa.concat_tables(read_verified(table, file) for file in files)
    # guard: joined rows out of order | .sort_by(table.key_order)
    return rows.sort_by(table.key_order)


def _entries(lake: Lake, table: Table) -> set[str]:
    with readable(f"The log of {table.name}"):
        filesystem, path = fs.FileSystem.from_uri(lake.location(table))
        found = filesystem.get_file_info(fs.FileSelector(f"{path}/_delta_log"))
    return {file.base_name for file in found if file.base_name.endswith(".json")}
